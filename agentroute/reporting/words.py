"""Figures as words, the same in the page, in pictures and in the terminal."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable
from itertools import chain, count

from agentroute.evaluation import Interval

__all__ = [
    "counted",
    "figure",
    "gained",
    "noise",
    "one_line",
    "percent",
    "plain",
    "points",
    "quality",
    "seconds",
    "short_names",
    "span",
    "thousand",
    "typeset",
    "usd",
]

UNKNOWN = "?"
"""What is shown of a figure that was not observed."""

_HYPHEN = re.compile(r"(?<![\w-])-(?=[\d$<])")

_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that set the direction of the text after them."""


def usd(amount: float | None) -> str:
    """USD to three significant digits, without exponents: prices of models span six orders of magnitude."""
    if amount is None or math.isnan(amount):
        return UNKNOWN
    if amount == 0 or math.isinf(amount):
        return f"${amount:g}"
    digits = max(2, 2 - math.floor(math.log10(abs(amount))))
    sign = "-" if amount < 0 else ""
    return f"{sign}${abs(amount):,.{min(digits, 12)}f}"


def thousand(cost: float) -> str:
    """The cost of 1,000 queries, of the USD that one costs."""
    return usd(cost * 1000)


def seconds(duration: float | None) -> str:
    """Seconds, or `?`."""
    return UNKNOWN if duration is None or math.isnan(duration) else f"{duration:.2f} s"


def quality(value: float) -> str:
    """Three digits, or `?`."""
    return UNKNOWN if math.isnan(value) else f"{value:.3f}"


def points(difference: float) -> str:
    """A difference of quality in hundredths, with its sign; what rounds to nothing has none."""
    if math.isnan(difference):
        return UNKNOWN
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in {"+0.0", "-0.0"} else text


def percent(share: float) -> str:
    """Whole percent; a share that is not nothing is not shown as nothing."""
    if math.isnan(share):
        return UNKNOWN
    if 0 < abs(share) < 0.005:
        return f"{'-' if share < 0 else ''}<1 %"
    return "0 %" if share == 0 else f"{100 * share:.0f} %"


def span(interval: Interval, say: Callable[[float], str]) -> str:
    """The ends of the interval, `0.790 to 0.834` or `26 to 32 %`; nothing where they are unknown."""
    if math.isnan(interval.low) or math.isnan(interval.high):
        return ""
    low, high = say(interval.low), say(interval.high)
    return f"{low.removesuffix(' %') if high.endswith(' %') else low} to {high}"


def figure(interval: Interval, say: Callable[[float], str]) -> str:
    """A figure and its interval, `29 % (26 to 32 %)`."""
    inside = span(interval, say)
    return f"{say(interval.value)} ({inside})" if inside else say(interval.value)


def gained(difference: Interval) -> str:
    """A difference of quality and its interval, `+0.4 points (-0.7 to +1.7)`."""
    inside = span(difference, points)
    return f"{points(difference.value)} points{f' ({inside})' if inside else ''}"


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 model`, `1,840 queries`.

    Args:
        number: How many.
        one: What one is called.
        many: What several are called; `None` = with an s.
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def noise(difference: Interval) -> str:
    """What an interval allows to say of a difference: `better`, `worse`, `within noise`, `the same` or nothing."""
    if math.isnan(difference.value):
        return ""
    if difference.value == difference.low == difference.high == 0:
        return "the same"
    if difference.low > 0:
        return "better"
    # An interval that touches zero from below is no tie.
    return "worse" if difference.high <= 0 > difference.value else "within noise"


def typeset(text: str) -> str:
    """A figure as printers set it: a minus sign instead of a hyphen, and no line break before the percent sign.

    >>> typeset("-0.012 to +0.034, 5 %") == "\N{MINUS SIGN}0.012 to +0.034, 5\N{NO-BREAK SPACE}%"
    True
    """
    return _HYPHEN.sub("\N{MINUS SIGN}", text).replace(" %", "\N{NO-BREAK SPACE}%")


def plain(text: str) -> str:
    """The text on one line, without characters that would move a terminal's cursor or turn the direction of what follows.

    Names of models and tasks come from a log, and a log may hold anything.
    """
    kept = "".join(" " if unicodedata.category(one) in {"Cc", "Zl", "Zp"} else one for one in text if one not in _TURNS)
    return " ".join(kept.encode("utf-8", "replace").decode().split())


def one_line(text: str, width: int = 70) -> str:
    """The text on one line, cut to a width."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def short_names(names: Iterable[str], width: int) -> dict[str, str]:
    """A label for each name, at most about as many characters as given, no two alike.

    What stands before the last `/` (a provider) goes first, then the end, then the middle.

    >>> short_names(["acme/large", "acme/a-very-long-name-v1", "acme/a-very-long-name-v2"], 12)
    {'acme/large': 'large', 'acme/a-very-long-name-v1': 'a-ver…ame-v1', 'acme/a-very-long-name-v2': 'a-ver…ame-v2'}
    """
    whole = list(dict.fromkeys(names))
    cleaned = {name: plain(name) for name in whole}
    tails = {name: text.rpartition("/")[2] or text for name, text in cleaned.items()}
    if len(set(tails.values())) < len(set(cleaned.values())):
        tails = cleaned
    labels: dict[str, str] = {}
    for cut in (_end, _middle):
        labels = {name: cut(text, width) for name, text in tails.items()}
        if len(set(labels.values())) == len(whole):
            return labels
    taken: set[str] = set()
    for name, label in labels.items():
        numbered = (f"{label} #{number}" for number in count(2))
        labels[name] = next(one for one in chain([label], numbered) if one not in taken)
        taken.add(labels[name])
    return labels


def _end(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _middle(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    last = width // 2
    first = max(width - 1 - last, 1)
    return f"{text[:first]}…{text[-last:]}"
