"""How two answers are compared, and what is read from a model's words."""

from __future__ import annotations

import math
import re

__all__ = ["NUMBER", "last_number", "plain", "same_number", "same_text"]

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
