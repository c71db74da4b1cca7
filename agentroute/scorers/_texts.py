"""How two answers are compared, and what is read from a model's words."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

__all__ = ["NUMBER", "Block", "blocks", "last_number", "plain", "same_number", "same_text"]

_FENCE = "```"

# A hyphen after a word or a digit joins ("3-5", "x-2"); elsewhere it is a sign.
NUMBER = re.compile(r"(?:(?<!\w)-)?\d[\d,]*(?:\.\d+)?")


def plain(text: str, *, case: bool = False) -> str:
    """The text without outer marks, with single spaces and, unless `case`, without case.

    >>> plain("  **Lima.** ")
    'lima'
    """
    stripped = " ".join(text.strip().strip("`*\"'.!").split())
    return stripped if case else stripped.casefold()


def last_number(text: str) -> float | None:
    """The last number of a text; `None` = it has none.

    >>> last_number("3 boxes of 12 eggs are 1,036.5 or so")
    1036.5
    """
    found = NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def same_text(one: str, other: str, /) -> bool:
    """Whether two texts say the same but for outer marks, spaces and case."""
    return plain(one) == plain(other)


def same_number(one: str, other: str, /) -> bool:
    """Whether the last numbers of two texts are equal to nine digits; without a number nothing is the same."""
    first, second = last_number(one), last_number(other)
    return first is not None and second is not None and math.isclose(first, second, rel_tol=1e-9)


class Block(NamedTuple):
    """A fenced block: what stands behind its opening fence, what it holds, and whether a fence closes it."""

    label: str
    body: str
    closed: bool


def blocks(text: str) -> list[Block]:
    r"""The fenced blocks of a text; a fence may stand anywhere in its line.

    No expression does this in linear time: each fence that stays open would be tried to the end of the text.

    >>> blocks("So: ```json\n{}\n```")
    [Block(label='json', body='{}\n', closed=True)]
    """
    found = []
    at = 0
    while (at := text.find(_FENCE, at)) >= 0 and (end := text.find("\n", at)) >= 0:
        # Only the last fence of a line can open a block: a label holds no backtick.
        at = text.rfind(_FENCE, at, end)
        label = text[at + len(_FENCE) : end]
        at = end + 1
        if "`" not in label:
            close = text.find(_FENCE, at)
            found.append(Block(label.strip(), text[at:] if close < 0 else text[at:close], close >= 0))
            if close < 0:
                break
            at = close + len(_FENCE)
    return found
