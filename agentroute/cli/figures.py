"""Figures for people: money, times, tables, and an evaluation as a table and as honest sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from rich.markup import escape
from rich.table import Table

from agentroute.evaluation import Evaluation, Interval, Row
from agentroute.outcomes import OutcomeTable
from agentroute.reporting.words import one_line, seconds, usd

__all__ = ["evaluation_table", "figures", "one_line", "replayed", "seconds", "table_of", "usd", "verdict"]


_WORTHWHILE = 0.1
"""Share of the cost that must be saved before we speak of a saving."""
_POINT = 0.01
"""Of quality: a saving is free only where at most this is lost, and surely less than twice this; few queries prove nothing."""


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
    if math.isnan(found.value):
        return "?"
    return f"{found.value * scale:.{digits}f} ±{(found.high - found.low) / 2 * scale:.{digits}f}"


def replayed(found: Evaluation) -> str | None:
    """Of how many held-out queries an evaluation speaks; `None` = of all of them."""
    if found.coverage >= 1:
        return None
    return f"replayed on {found.queries} of {found.held_out} held-out queries, those that every model answered"


def verdict(found: Evaluation, name: str) -> str:
    """What a policy gained over always the best single model, in words that the intervals allow.

    Args:
        found: The evaluation, with its replay: the outcomes say what mixes of single models would get.
        name: Of the policy.
    """
    if found.replay is None:
        raise ValueError("a verdict needs the replayed outcomes")
    row, single, table = found[name], found["best single"], found.replay.table
    if len(table.models) == 1:
        return f"{name}: {row.quality.value:.3f}. {table.models[0]} is the only model: there is nothing to choose between."
    gain = row.gain
    quality = f"{gain.value:+.3f} quality (95 % interval {gain.low:+.3f} to {gain.high:+.3f})"
    against = f"against always {found.best_single}"
    if not (single.cost.value > 0 and row.cost.value >= 0):
        return f"{name}: {quality} {against}; costs are unknown."
    change = row.cost.value / single.cost.value - 1
    money = f"{abs(change):.0%} {'less' if change < 0 else 'more'} cost"
    told = f"{name}: {row.quality.value:.3f}, that is {quality} at {money} {against}.{_mix(found, row, table)}"
    loses = gain.high <= 0 > gain.value  # an interval that touches zero from below is no tie
    if loses and change >= 0:
        return f"{told} Routing loses on both: do not route this pool on this log."
    if gain.low > 0 >= change:
        return f"{told} Routing gains on both."
    if gain.low > 0:
        return f"{told} Routing buys quality."
    if loses:
        return f"{told} Routing trades quality for money, at {_rate(row, single)} saved for each right answer lost."
    if change <= -_WORTHWHILE and (gain.value < -_POINT or gain.low < -2 * _POINT):
        return f"{told} It costs less, but may lose up to {-gain.low:.3f} quality: these queries are too few to call that equal."
    if change <= -_WORTHWHILE:
        return f"{told} It costs less, and the difference in quality is within noise."
    if round(100 * change) > 0:
        return f"{told} Routing costs {change:.0%} more for no more quality: the difference is within noise."
    return f"{told} Routing gains little here: nothing that exceeds noise."


def _mix(found: Evaluation, row: Row, table: OutcomeTable) -> str:
    """What chance gets out of single models for the same money: a coin between two of them, the best pair of all.

    This is what any router must beat (the upper hull of the single models in cost and quality). A single model that does as
    well for no more money needs no coin.
    """
    money = row.cost.value
    singles = [
        (float(np.nanmean(cost)), float(quality.mean()), model)
        for model, cost, quality in zip(table.models, table.cost.T, table.quality.T, strict=True)
        if np.isfinite(cost).any()
    ]
    alone = [(quality, model) for cost, quality, model in singles if cost <= money]
    pairs = [
        (low[1] + (money - low[0]) / (high[0] - low[0]) * (high[1] - low[1]), f"{low[2]} and {high[2]}")
        for low in singles
        for high in singles
        if low[0] < money < high[0]
    ]
    single, mixed = max(alone, default=None), max(pairs, default=None)
    if mixed is not None and (single is None or mixed[0] > single[0]):
        quality, told = mixed[0], f"A random mix of {mixed[1]} would get {mixed[0]:.3f} for the same money"
    elif single is not None and single[1] not in {found.best_single, found.cheapest}:
        quality, told = single[0], f"Always {single[1]} would get {single[0]:.3f} for no more money"
    else:
        return ""
    return f" {told}, which is more." if quality > row.quality.value else f" {told}."


def _rate(row: Row, single: Row) -> str:
    return usd((single.cost.value - row.cost.value) / (single.quality.value - row.quality.value))
