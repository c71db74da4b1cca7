"""How two answers are compared, and what is read from a model's words."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import NamedTuple

__all__ = ["Block", "Result", "Said", "blocks", "last_number", "plain", "said", "same_answer", "same_number", "same_text"]

_FENCE = "```"

# A hyphen after a word or a digit joins ("3-5", "x-2"); elsewhere it is a sign.
_NUMBER = re.compile(r"((?<!\w)[-+])?(\d+(?:,\d+)*)(\.\d+)?")
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}")  # 1,000,000 and 10,00,000

_SHORT = 200  # characters up to which an answer is read as one result and not as a text
# Groups of thousands, by commas or by any of the spaces; 0,500 is none.
_GROUPS = re.compile(
    r"(?<![\w.,])(?:[1-9]\d{0,2}(?:(?:,\d{3})+|(?:[ \u00a0\u2009\u202f]\d{3})+)|[1-9]\d?(?:,\d{2})+,\d{3})(?![\w,])"
)
_BETWEEN = re.compile(r"[\W_]+")
_SIGNS = frozenset("#%&@/^")  # they are kept in texts, as are the signs of mathematics
_CHUNK = re.compile(r"=|[^\s=]+")
# A number that is all of a piece, but for a currency, a unit's sign, and marks around it.
_FIGURE = re.compile(r"[(\[{\"'*_`\\]*([$€£¥]?)([-+]?\d+(?:\.\d+)?)([%°]?)([)\]}\"'*_`\\.,;:!?$]*)")
_QUOTES = "*_`\"'\\$"
_LEADING = frozenset({"=", "is", "are", "was", "were", "be", "equals", "equal", "gives", "makes"})
_OPERATING = frozenset({"x", "times", "plus", "minus", "divided", "multiplied"})
_OPERATORS = frozenset("+-*/^=\u00b7\u00d7\u00f7")
_SCALES = frozenset({"hundred", "thousand", "million", "billion", "trillion", "dozen"})
# What is less, more or about a number is not that number; and a block of code is no sentence.
_NO_RESULT = re.compile(r"[<>\u2264\u2265\u2260\u2248~\u00b1]|```")
_DENIAL = re.compile(r"\b(?:no|not|never|cannot|nor|false|wrong)\b|n['\u2019]t\b")


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


class Result(NamedTuple):
    """The number that a short answer comes to, and what the answer says it is a number of.

    Attributes:
        number: The number.
        before: What stands before it, as `Said.letters`; empty where that merely leads to it ("the sum is").
        unit: A currency, a sign such as %, or the word behind it; empty = none.
        denied: Whether the answer holds a denial.
    """

    number: float
    before: str
    unit: str
    denied: bool

    def like(self, other: Result) -> bool:
        """Whether both are the same number, and of the same where both say of what."""
        named = ((self.before, other.before), (self.unit, other.unit))
        alike = all(not one or not two or one == two for one, two in named)
        return alike and self.number == other.number and self.denied == other.denied


class Said(NamedTuple):
    """An answer reduced to what is compared: its letters, digits and signs, and what it comes to, if that is one number."""

    letters: str
    result: Result | None

    def like(self, other: Said) -> bool:
        """Whether both say the same."""
        if self.result is None or other.result is None:
            return self.letters == other.letters
        return self.result.like(other.result)


def said(answer: str) -> Said:
    """What an answer says; see `same_answer`."""
    text = _GROUPS.sub(lambda group: re.sub(r"\D", "", group[0]), answer.replace("\u2212", "-").casefold())
    # An answer of marks alone, such as an operator, is what it is.
    return Said(_letters(text) or "".join(text.split()), _result(text) if len(answer) <= _SHORT else None)


def same_answer(one: str, other: str) -> bool:
    """Whether two answers say the same, as far as their letters tell.

    Short answers (up to 200 characters) that come to one number are compared by it: "67 + 73 equals 140." says "140". So do
    answers with one number that stands by itself, and those whose last number follows "=", ":" or a word such as "equals" or
    "is" while no other number in them is a result, too. Where both say what it is a number of (the words before it, unless they
    merely lead to it; the unit behind it), that must be the same, and so must it be whether they deny something.

    All others are compared as texts: without case, spaces and punctuation, but with the signs of sums and names ("C++") and with
    what parts digits. Among these are numbers that are parts of something ("H2O", "x^2", "10:30", "1/2", "1,5").

    >>> same_answer("67 + 73 equals 140.", "140"), same_answer(" Paris.", "paris"), same_answer("Paris", "Lyon")
    (True, True, False)
    >>> same_answer("Yes, 100%", "No, 100%"), same_answer("1,5", "2,5"), same_answer("12 000 EUR", "12,000")
    (False, False, True)
    """
    return said(one).like(said(other))


def _letters(text: str) -> str:
    """The text without spaces and punctuation, but for what tells numbers, sums and names apart."""
    return _BETWEEN.sub(_kept, text)


def _kept(found: re.Match[str]) -> str:
    marks, (start, end) = found[0], found.span()
    before, after = found.string[max(start - 1, 0) : start], found.string[end : end + 1]
    if before.isdecimal() and after.isdecimal():
        return "".join(marks.split()) or " "
    if before and after and set(marks.strip()) == {"*"} and marks[0].isspace() == marks[-1].isspace():
        return marks.strip()  # a product or a power; emphasis has its space on one side
    signs = "".join(mark for mark in marks if mark in _SIGNS or unicodedata.category(mark) == "Sm")
    return f"{signs}-" if marks[-1] == "-" and after.isdecimal() else signs


def _result(text: str) -> Result | None:
    """The number that a text comes to; `None` = none, or several."""
    chunks = _CHUNK.findall(text)
    figures = {i: _FIGURE.fullmatch(chunk) for i, chunk in enumerate(chunks) if any(map(str.isdecimal, chunk))}
    last = max(figures, default=-1)
    figure = figures.get(last)
    if figure is None or _NO_RESULT.search(text) or _operates(chunks, last + 1):
        return None
    leads = _leads(chunks, last - 1)
    if not leads and (len(figures) > 1 or _operates(chunks, last - 1)):
        return None
    currency, number, sign, closing = figure.groups()
    for i, other in figures.items():
        # Two results: "x = 2 and y = 3". One: "2 + 3 = 5, and 5 * 2 = 10".
        on_the_way = _operates(chunks, i + 1) or (chunks[i - 1] == "=" and i - 2 in figures)
        if _leads(chunks, i - 1) and not on_the_way and (other is None or float(other[2]) != float(number)):
            return None
    # Behind a full stop or a comma stands no unit.
    unit = "" if closing.strip(_QUOTES) else _letters("".join(chunks[last + 1 : last + 2]))
    if unit in _SCALES:
        return None
    before = "" if leads else _letters(" ".join(chunks[:last]))
    return Result(float(number), before, currency + sign or unit, _DENIAL.search(text) is not None)


def _leads(chunks: list[str], i: int) -> bool:
    """Whether this piece says that the number behind it is a result."""
    return i >= 0 and (chunks[i].endswith(":") or chunks[i].strip(_QUOTES) in _LEADING)


def _operates(chunks: list[str], i: int) -> bool:
    """Whether a sum goes on with this piece."""
    return 0 <= i < len(chunks) and (chunks[i] in _OPERATING or set(chunks[i]) <= _OPERATORS)


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
