"""Figures for people: money, times, tables, and an evaluation as a table and as honest sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich.markup import escape
from rich.table import Table

from agentroute.evaluation import Evaluation, Interval, Row

__all__ = ["evaluation_table", "figures", "one_line", "seconds", "table_of", "usd", "verdict"]


_WORTHWHILE = 0.1
"""Share of the cost that must be saved before we speak of a saving."""


def usd(amount: float | None) -> str:
    """USD to three significant digits, without exponents: prices of models span six orders of magnitude."""
    if amount is None or math.isnan(amount):
        return "?"
    if amount == 0 or math.isinf(amount):
        return f"${amount:g}"
    digits = max(2, 2 - math.floor(math.log10(abs(amount))))
    return f"${amount:.{min(digits, 12)}f}"


def seconds(duration: float | None) -> str:
    """Seconds, or `?`."""
    return "?" if duration is None or math.isnan(duration) else f"{duration:.2f} s"


def one_line(text: str, width: int = 70) -> str:
    """The text on one line, cut to a width."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def table_of(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]], *, first: int | None = None) -> Table:
    """A plain table: the first column left and on one line, the others right.

    Args:
        title: Above the table.
        columns: The header.
        rows: The cells.
        first: Least width of the first column, which otherwise gives way to the others.
    """
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, name in enumerate(columns):
        if number:
            table.add_column(name, justify="right", overflow="fold")
        else:
            table.add_column(name, no_wrap=True, overflow="ellipsis", min_width=first)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def evaluation_table(found: Evaluation, *, title: str = "Held-out queries") -> Table:
    """One row for each way to choose: quality, cost and latency, each with half the width of its 95 % interval."""
    single = {"cheapest": f"cheapest: {found.cheapest}", "best single": f"best single: {found.best_single}"}
    columns = ("± half of the 95 % interval", "quality", "USD per 1,000", "seconds")
    return table_of(title, columns, [(single.get(row.name, row.name), *figures(row)) for row in found.rows], first=31)


def figures(row: Row) -> tuple[str, str, str]:
    """Quality, USD per 1,000 queries and seconds, each as `mean ± half width`."""
    return _interval(row.quality, 3), _interval(row.cost, 4, 1e3), _interval(row.latency, 2)


def _interval(found: Interval, digits: int, scale: float = 1.0) -> str:
    if math.isnan(found.mean):
        return "?"
    return f"{found.mean * scale:.{digits}f} ±{(found.high - found.low) / 2 * scale:.{digits}f}"


def verdict(found: Evaluation, name: str) -> str:
    """What a policy gained over always the best single model, in words that the intervals allow."""
    row, single = found[name], found["best single"]
    gain = row.gain
    quality = f"{gain.mean:+.3f} quality (95 % interval {gain.low:+.3f} to {gain.high:+.3f})"
    against = f"against always {found.best_single}"
    if not (single.cost.mean > 0 and row.cost.mean >= 0):
        return f"{name}: {quality} {against}; costs are unknown."
    change = row.cost.mean / single.cost.mean - 1
    money = f"{abs(change):.0%} {'less' if change < 0 else 'more'} cost"
    told = f"{name}: {row.quality.mean:.3f}, that is {quality} at {money} {against}.{_mix(found, row)}"
    loses = gain.high <= 0 > gain.mean  # an interval that touches zero from below is no tie
    if loses and change >= 0:
        return f"{told} Routing loses on both: do not route this pool on this log."
    if gain.low > 0 >= change:
        return f"{told} Routing gains on both."
    if gain.low > 0:
        return f"{told} Routing buys quality."
    if loses:
        return f"{told} Routing trades quality for money, at {_rate(row, single)} saved for each right answer lost."
    if change <= -_WORTHWHILE:
        return f"{told} It costs less, and the difference in quality is within noise."
    return f"{told} Routing gains little here: nothing that exceeds noise."


def _mix(found: Evaluation, row: Row) -> str:
    """What a coin between the cheapest and the best single model would get for the same money: what any router must beat."""
    low, high = found["cheapest"], found["best single"]
    spread = high.cost.mean - low.cost.mean
    share = (row.cost.mean - low.cost.mean) / spread if spread > 0 else math.nan
    if not 0.0 <= share <= 1.0:
        return ""
    quality = low.quality.mean + share * (high.quality.mean - low.quality.mean)
    more = ", which is more" if quality > row.quality.mean else ""
    return f" A random mix of {found.cheapest} and {found.best_single} would get {quality:.3f} for the same money{more}."


def _rate(row: Row, single: Row) -> str:
    return usd((single.cost.mean - row.cost.mean) / (single.quality.mean - row.quality.mean))
