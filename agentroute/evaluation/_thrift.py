"""What routing saves: the router, and a plain table beside it, at the rate that keeps the best single model's quality."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.evaluation._base import Base, over_mix, priced, saving, wide
from agentroute.evaluation._frontier import _picks, exchange_rates
from agentroute.evaluation._intervals import Interval
from agentroute.evaluation._kinds import Kinds, shrunk
from agentroute.evaluation._laps import parts
from agentroute.evaluation._results import FrontierPoint
from agentroute.evaluation._sheet import Sheet
from agentroute.evaluation._verdict import SAVED, alike

__all__ = ["Thrift", "thrift"]

Floats: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = npt.NDArray[np.int64]
Drawn: TypeAlias = Mapping[str, list[Interval]]

_MARGIN = 0.03
"""Share of the best single model's cost that is not saved, for safety."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thrift:
    """The router at the rate that saves most at no loss, and a table from kind to model at a rate of its own.

    Attributes:
        point: The router.
        table_gain: Quality of the table less that of the best single model.
        table_saving: Share of that model's cost that the table saves.
        over_table: Quality of the router less that of the table.
        cheaper: What the router saves more than the table, as a share of the best single model's cost.
    """

    point: FrontierPoint
    table_gain: Interval
    table_saving: Interval
    over_table: Interval
    cheaper: Interval

    def table_does(self, worthwhile: float) -> bool:
        """Whether the table is as good and as cheap: within a point and 3 % or within noise, and surely within what matters."""
        return alike(self.over_table, worthwhile) and alike(self.cheaper, SAVED, small=_MARGIN)


def thrift(sheet: Sheet, base: Base, of: Kinds) -> Callable[[Drawn], Thrift | None]:
    """The exchange rate that keeps the best single model's quality for least, chosen by each fold on all the others.

    Chosen and judged on the same queries, the best of forty rates would look better than it is. Quality is kept when the gain
    is a standard error above zero. The rate that is taken then costs a little more than the cheapest that keeps it: that one
    is at the edge, and each fold's expectations differ a little.

    Args:
        sheet: Where the columns go.
        base: The arrays.
        of: Kinds of the queries, for the table.
    """
    known, expected = priced(base.cost), base.replay.estimate
    if known is None or expected is None or len(base.models) < 2 or len(np.unique(base.replay.fold[known])) < 2:
        return lambda _: None
    rows = np.flatnonzero(known)
    rates = exchange_rates(expected.quality[rows], expected.cost[rows])
    fallback = base.replay.fallback[rows]
    forced = np.where(expected.supported[rows], -1, fallback)
    made = [_picks(expected.quality[rows], expected.cost[rows], rate, forced, fallback) for rate in rates]
    at, quality, cost = np.arange(len(rows)), base.quality[rows], base.cost[rows]
    single, paid = base.single[rows], base.single_cost[rows]
    got = np.stack([quality[at, pick] for pick in made], axis=1)
    bill = np.stack([cost[at, pick] for pick in made], axis=1)
    chosen, table, kind = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64), of.of[rows]
    for here, train in parts(base.replay.fold[rows], base.folds):
        rate = _rate(got[train], bill[train], single[train], paid[train]) if len(train) else len(rates) - 1
        chosen[here] = rate
        if len(train):
            table[here] = _table(quality[train], cost[train], kind[train], rates, base.column, len(of.names))[kind[here]]
    picks = np.stack(made, axis=1)[at, chosen]
    m = len(base.models)
    values = [quality[at, picks], cost[at, picks], paid, quality[at, picks] - single]
    values += [quality[at, table] - single, cost[at, table], quality[at, picks] - quality[at, table]]
    sheet.mean("thrift", wide(np.concatenate([np.stack(values, axis=1), cost, quality], axis=1), known))
    sheet.follow("thrift saving", lambda row: saving(row[:, 1:2], row[:, 2:3]), "thrift")
    sheet.follow("table saving", lambda row: saving(row[:, 5:6], row[:, 2:3]), "thrift")
    sheet.follow("cheaper", lambda row: saving(row[:, 1:2], row[:, 2:3]) - saving(row[:, 5:6], row[:, 2:3]), "thrift")
    sheet.follow("thrift over mix", lambda row: over_mix(row[:, :1], row[:, 1:2], row[:, 7 : 7 + m], row[:, 7 + m :]), "thrift")
    usual = rates[int(np.bincount(chosen).argmax())]
    mass = base.mass[rows]
    mix = np.bincount(picks, weights=mass, minlength=m) / mass.sum()
    shares = {model: share for model, share in zip(base.models, mix.tolist(), strict=True) if share > 0}

    def found(drawn: Drawn) -> Thrift:
        row = drawn["thrift"]
        point = FrontierPoint(
            willingness_to_pay=usual,
            quality=row[0],
            cost=row[1],
            gain=row[3],
            saving=drawn["thrift saving"][0],
            over_mix=drawn["thrift over mix"][0],
            shares=shares,
        )
        return Thrift(
            point=point,
            table_gain=row[4],
            table_saving=drawn["table saving"][0],
            over_table=row[6],
            cheaper=drawn["cheaper"][0],
        )

    return found


def _rate(quality: Floats, cost: Floats, single: Floats, paid: Floats, *, margin: float = _MARGIN) -> int:
    """The place of the rate; the last one, quality alone, where none keeps the quality."""
    gain = quality - single[:, None]
    enough = gain.mean(axis=0) - gain.std(axis=0) / math.sqrt(len(gain)) >= -1e-12
    bill = cost.mean(axis=0)
    edge = np.where(enough, bill, np.inf).min() + margin * paid.mean()
    return int(np.where(bill >= edge, bill, np.inf).argmin()) if (bill >= edge).any() else len(bill) - 1


def _table(quality: Floats, cost: Floats, kind: Rows, rates: Sequence[float], single: int, kinds: int) -> Rows:
    """int64 [kinds]: the model of the best mean utility for each kind, at the rate that saves most at no loss here."""
    at = np.arange(len(kind))
    means = [shrunk(values, kind, kinds) for values in (quality, cost)]
    tables = []
    for rate in rates:
        utility = np.round(means[0] - (0.0 if math.isinf(rate) else means[1] / rate), 6)
        tables.append(np.lexsort((means[1], -utility), axis=1)[:, 0])  # of equal ones the cheaper
    got, bill = (np.stack([values[at, table[kind]] for table in tables], axis=1) for values in (quality, cost))
    # Without a margin: a table has few different bills, and the next one may be all that is saved.
    place = _rate(got, bill, quality[:, single], cost[:, single], margin=0.0)
    return np.asarray(tables[place], np.int64)
