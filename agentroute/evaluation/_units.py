"""How a diagnosis writes figures: points, per cent and qualities, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from agentroute.evaluation._intervals import Interval

__all__ = ["MINUS", "listed", "number", "percent", "points", "quality", "share", "span"]

MINUS = "\N{MINUS SIGN}"


def number(value: float) -> str:
    """Hundredths, as points: `3.2`, minus 0.7 likewise; without a minus before a zero."""
    return f"{round(100 * value, 1) + 0.0:.1f}".replace("-", MINUS)


def _signed(value: float) -> str:
    rounded = round(100 * value, 1) + 0.0
    return f"{rounded:+.1f}".replace("-", MINUS) if rounded else "0.0"


def points(interval: Interval) -> str:
    """`+3.2 points (+1.1 to +5.3)`."""
    return f"{_signed(interval.value)} points{_ends(interval, _signed)}"


def span(interval: Interval) -> str:
    """`3.2 points (1.1 to 5.3)`, of what has no direction."""
    return f"{number(interval.value)} points{_ends(interval, number)}"


def percent(value: float) -> str:
    """`43 %`; of a share that does not exist (of no cost at all), `an unknown share`."""
    if not math.isfinite(value):
        return "an unknown share"
    return f"{round(100 * value) + 0:.0f} %".replace("-", MINUS)


def share(interval: Interval) -> str:
    """`43 % (38 to 47 %)`."""
    if not math.isfinite(interval.low):
        return percent(interval.value)
    return f"{percent(interval.value)} ({percent(interval.low).removesuffix(' %')} to {percent(interval.high)})"


def quality(interval: Interval) -> str:
    """`0.812 (0.790 to 0.834)`."""
    if not math.isfinite(interval.low):
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})".replace("-", MINUS)


def _ends(interval: Interval, of: Callable[[float], str]) -> str:
    if not math.isfinite(interval.low):
        return ""
    return f" ({of(interval.low)} to {of(interval.high)})"


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
