"""How two answers are compared, and what is read from a model's words."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

__all__ = ["Block", "Said", "blocks", "last_number", "plain", "said", "same_answer", "same_number", "same_text"]

_FENCE = "```"

# A hyphen after a word or a digit joins ("3-5", "x-2"); elsewhere it is a sign.
_NUMBER = re.compile(r"((?<!\w)[-+])?(\d+(?:,\d+)*)(\.\d+)?")
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}")  # 1,000,000 and 10,00,000
_JOINED = re.compile(r"\d ?[/:] ?\d|\d-\d")  # a fraction, a time, a date: its last number is not what it says
_SHORT = 200  # characters up to which an answer is read as one result and not as a text


def plain(text: str, *, case: bool = False) -> str:
    """The text without outer marks, with single spaces and, unless `case`, without case.

    >>> plain("  **Lima.** ")
    'lima'
    """
    stripped = " ".join(text.strip().strip("`*\"'.!").split())
    return stripped if case else stripped.casefold()


def last_number(text: str) -> float | None:
    """The last number of a text; `None` = it has none. Commas group digits, or else they part numbers.

    >>> last_number("3 boxes of 12 eggs are 1,036.5 or so"), last_number("those are 2,3,5")
    (1036.5, 5.0)
    """
    found = _NUMBER.findall(text)
    if not found:
        return None
    sign, digits, rest = found[-1]
    if "," in digits and not _GROUPED.fullmatch(digits):
        sign, digits = "", digits.rpartition(",")[2]
    return float(sign + digits.replace(",", "") + rest)


def same_text(one: str, other: str, /) -> bool:
    """Whether two texts say the same but for outer marks, spaces and case."""
    return plain(one) == plain(other)


def same_number(one: str, other: str, /) -> bool:
    """Whether the last numbers of two texts are equal to nine digits; without a number nothing is the same."""
    first, second = last_number(one), last_number(other)
    return first is not None and second is not None and math.isclose(first, second, rel_tol=1e-9)


class Said(NamedTuple):
    """An answer reduced to what is compared: its letters and digits, and the number that it comes to, if it is short."""

    letters: str
    number: float | None

    def like(self, other: Said) -> bool:
        """Whether both say the same."""
        if self.number is None or other.number is None:
            return self.letters == other.letters
        return self.number == other.number


def said(answer: str) -> Said:
    """What an answer says; see `same_answer`."""
    number = last_number(answer) if len(answer) <= _SHORT and not _JOINED.search(answer) else None
    # An answer of marks alone, such as an operator, is what it is.
    return Said("".join(filter(str.isalnum, answer.casefold())) or "".join(answer.split()), number)


def same_answer(one: str, other: str) -> bool:
    """Whether two answers say the same, as far as their letters tell.

    Short answers (up to 200 characters) that both hold a number are compared by their last one: "67 + 73 equals 140." says
    "140". All others, and those that hold fractions, times or dates, are compared as texts, without case, punctuation and spaces.

    >>> same_answer("67 + 73 equals 140.", "140"), same_answer(" Paris.", "paris"), same_answer("Paris", "Lyon")
    (True, True, False)
    """
    return said(one).like(said(other))


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
