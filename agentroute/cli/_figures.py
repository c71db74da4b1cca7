"""An evaluation as a table, and as one honest sentence."""

from __future__ import annotations

import math

from rich.table import Table

from agentroute.cli._data import table_of, usd
from agentroute.evaluation import Evaluation, Interval, Row

__all__ = ["evaluation_table", "figures", "verdict"]


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
    against = f"against always {found.best_single}, on {found.queries} held-out queries"
    if not (single.cost.mean > 0 and row.cost.mean >= 0):
        return f"{name}: {quality} {against}; costs are unknown."
    change = row.cost.mean / single.cost.mean - 1
    figures = f"{name}: {quality} at {change:+.0%} cost {against}."
    if gain.high < 0 <= change:
        return f"{figures} Routing loses on both: do not route this pool on this log."
    if gain.low > 0 >= change:
        return f"{figures} Routing gains on both."
    if gain.low > 0:
        return f"{figures} Routing buys quality."
    if gain.high < 0:
        return f"{figures} Routing trades quality for money, at {_rate(row, single)} saved for each right answer lost."
    if change <= -0.1:
        return f"{figures} It costs less, and the difference in quality is within noise."
    return f"{figures} Routing gains little here: nothing that exceeds noise."


def _rate(row: Row, single: Row) -> str:
    return usd((single.cost.mean - row.cost.mean) / (single.quality.mean - row.quality.mean))
