"""Figures as words, the same in the page, in pictures and in the terminal."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, count, takewhile

from agentroute.evaluation import Interval

__all__ = [
    "END",
    "ISOLATE",
    "UNKNOWN",
    "brief",
    "counted",
    "figure",
    "gained",
    "isolated",
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

_AFTER, _BEFORE = re.compile(r"(?<=[-_.:/@ ])"), re.compile(r"(?=[-_.:/@ ])")
"""After and before what stands between the words of a name."""

_HYPHEN = re.compile(r"(?<![\w-])-(?=[\d$<])")

ISOLATE, END = "\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}"
"""Between them text has a direction of its own."""

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
    """Whole percent, below one with a digit more: what is not nothing is not shown as nothing, what is short of all not as all.

    >>> [percent(share) for share in (0.426, 0.004, -0.004, 0.0001, 0.9996)]
    ['43 %', '0.4 %', '-0.4 %', '<0.1 %', '>99.9 %']
    """
    if math.isnan(share):
        return UNKNOWN
    size = 100 * abs(share)
    if 0 < size < 0.05:
        return "<0.1 %" if share > 0 else "0 %"
    if 99.95 < 100 * share < 100:
        return ">99.9 %"
    near = size < 0.95 or 99.5 <= 100 * share < 100
    return "0 %" if size == 0 else f"{100 * share:,.{1 if near else 0}f} %"


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


def isolated(text: str, names: Iterable[str]) -> str:
    """The text in which names that are written from right to left cannot turn what stands beside them, such as figures.

    They are enclosed in the characters of Unicode for that (UAX #9, section 2.4), which a page replaces by `<bdi>`.

    Args:
        text: A sentence, from `plain` parts.
        names: Out of the log; those written from left to right stay as they are.
    """
    turned = {form for name in names for form in (plain(name), brief(name)) if any(_turns(one) for one in form)}
    if not turned:
        return text
    found = "|".join(map(re.escape, sorted(turned, key=len, reverse=True)))
    return re.sub(found, lambda match: f"{ISOLATE}{match[0]}{END}", text)


def _turns(character: str) -> bool:
    return unicodedata.bidirectional(character) in {"R", "AL", "AN"}


def brief(name: str) -> str:
    """A name inside a sentence."""
    return one_line(plain(name), 40)


def one_line(text: str, width: int = 70) -> str:
    """The text on one line, cut to a width."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def short_names(names: Iterable[str], width: int) -> dict[str, str]:
    """A label for each name, at most about as many characters as given, no two alike.

    What stands before the last `/` (a provider) goes first; then words that all names begin or end with, for they tell nothing
    apart; then the end of a name; then such words of those names that would look alike; then the middle.

    >>> short_names(["acme/large", "acme/a-very-long-name-v1", "acme/a-very-long-name-v2"], 12)
    {'acme/large': 'large', 'acme/a-very-long-name-v1': '…v1', 'acme/a-very-long-name-v2': '…v2'}
    """
    whole = list(dict.fromkeys(names))
    cleaned = {name: plain(name) for name in whole}
    tails = {name: text.rpartition("/")[2] or text for name, text in cleaned.items()}
    if len(set(tails.values())) < len(set(cleaned.values())):
        tails = cleaned
    rests = _told_apart(tails, width)
    labels = {name: _end(text, width) for name, text in rests.items()}
    for alike in _alike(labels):
        rests |= _told_apart({name: rests[name] for name in alike}, width)
        labels |= {name: _end(rests[name], width) for name in alike}
    if len(set(labels.values())) < len(whole):
        labels |= {name: _middle(tails[name], width) for alike in _alike(labels) for name in alike}
    taken: set[str] = set()
    for name, label in labels.items():
        numbered = (f"{label} #{number}" for number in count(2))
        labels[name] = next(one for one in chain([label], numbered) if one not in taken)
        taken.add(labels[name])
    return labels


def _alike(labels: Mapping[str, str]) -> list[list[str]]:
    """The names whose labels are the same, together."""
    found: dict[str, list[str]] = {}
    for name, label in labels.items():
        found.setdefault(label, []).append(name)
    return [names for names in found.values() if len(names) > 1]


def _told_apart(texts: Mapping[str, str], width: int) -> dict[str, str]:
    """The texts; where one is too long, without the words that all of them begin with and end with."""
    if len(texts) < 2 or all(len(text) <= width for text in texts.values()):
        return dict(texts)
    return dict(zip(texts, _without_end(_without_start(list(texts.values()))), strict=True))


def _without_start(texts: Sequence[str]) -> list[str]:
    # Whole words only: of `8b` and `80b` the first digit is no common part.
    words = [_AFTER.split(text) for text in texts]
    kept = _common(words)
    if len("".join(words[0][:kept])) < 2 or min(map(len, words)) <= kept:
        return list(texts)
    return [f"…{''.join(one[kept:])}" for one in words]


def _without_end(texts: Sequence[str]) -> list[str]:
    words = [_BEFORE.split(text) for text in texts]
    kept = _common([one[::-1] for one in words])
    if len("".join(words[0][len(words[0]) - kept :])) < 2 or min(map(len, words)) <= kept:
        return list(texts)
    return [f"{''.join(one[: len(one) - kept])}…" for one in words]


def _common(words: Sequence[Sequence[str]]) -> int:
    """How many words all begin with."""
    return sum(1 for _ in takewhile(lambda alike: len(set(alike)) == 1, zip(*words, strict=False)))


def _end(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _middle(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    last = width // 2
    first = max(width - 1 - last, 1)
    return f"{text[:first]}…{text[-last:]}"
