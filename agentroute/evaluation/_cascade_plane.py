"""The curves of a comparison of cascades as one statistic, so that every difference between them is paired."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.evaluation import metrics
from agentroute.evaluation._cascade_curves import Played
from agentroute.evaluation._cascaded import MIX, ROUTING, CascadeCurve, CascadePoint
from agentroute.evaluation._intervals import Interval
from agentroute.outcomes import OutcomeTable

__all__ = ["Plane"]

Floats: TypeAlias = npt.NDArray[np.float64]


class _Trial(Protocol):
    """What each way did on one part of the log."""

    @property
    def ways(self) -> Mapping[str, Played]:
        """By name."""

    @property
    def budgets(self) -> Floats:
        """float64 [k], USD a query."""


class Plane:
    """Quality over cost of several ways to call models, and of single models.

    Args:
        table: The judged outcomes, n queries, complete.
        trials: The parts, their queries one after the other.
    """

    def __init__(self, table: OutcomeTable, trials: Sequence[_Trial]) -> None:
        self.table = table
        self.ways = {name: _joined([trial.ways[name] for trial in trials]) for name in trials[0].ways}
        self.budgets = np.mean([trial.budgets for trial in trials], axis=0)
        columns = [part for way in self.ways.values() for part in (way.cost, way.quality)]
        self._columns = np.concatenate([*columns, table.cost, table.quality, np.ones((len(table), 1))], axis=1)
        ends = np.cumsum([len(trial.ways[ROUTING].cost) for trial in trials])
        self._parts = np.split(np.arange(len(table)), ends[:-1])

    def statistic(self, weights: Floats) -> Floats:
        """float64 [b, 3 + 3 w]: the areas of the linear interpolation and each way, leads over it, and leads over routing.

        Of several parts it is the mean of their curves, each over its own range of costs: of one budget two fits spend a little
        more or less by what their training parts happened to hold, and a way that knows nothing of a query would lose by that.
        """
        count = 1 + len(self.ways)
        sums = [weights[:, rows] @ self._columns[rows] for rows in self._parts]
        areas = np.full((len(weights), count), np.nan)
        total, mass = np.zeros((len(weights), count - 1)), np.zeros(len(weights))
        for one in sums:
            drawn = np.flatnonzero(one[:, -1] > 0.0)
            *curves, costs, heights = self._means(one[drawn])
            low, high, cheapest = _range(costs, heights)
            ranged = low < high
            if not ranged.any():
                continue
            for place, (cost, height) in enumerate(zip(curves[::2], curves[1::2], strict=True)):
                # Whatever is dearer to begin with can also be always the cheapest model.
                found = metrics.area(np.stack([cost, height], axis=2), low, high, floor=cheapest)
                total[drawn[ranged], place] += found[ranged] * one[drawn[ranged], -1]
            mass[drawn[ranged]] += one[drawn[ranged], -1]
        np.divide(total, mass[:, None], out=areas[:, 1:], where=mass[:, None] > 0.0)
        *_, costs, heights = self._means(np.sum(sums, axis=0))
        low, high, _ = _range(costs, heights)
        if (low < high).any():
            areas[:, 0] = metrics.aiq(np.stack([costs, heights], axis=2), low, high)
        routing = 1 + list(self.ways).index(ROUTING)
        return np.concatenate([areas, areas - areas[:, :1], areas - areas[:, [routing]]], axis=1)

    def _means(self, sums: Floats) -> list[Floats]:
        """Cost and quality of each way at each budget, and those of single models, from sums [b, c]."""
        k, m = len(self.budgets), len(self.table.models)
        return np.split(sums[:, :-1] / sums[:, -1:], np.cumsum([k] * (2 * len(self.ways)) + [m]), axis=1)

    def curves(self, drawn: Sequence[Interval], mass: Floats) -> tuple[CascadeCurve, ...]:
        """The linear interpolation, then each way.

        Args:
            drawn: Of `statistic`.
            mass: float64 [n], how much each row counts.
        """
        count = 1 + len(self.ways)
        areas, over_mix, over_routing = (drawn[start : start + count] for start in (0, count, 2 * count))
        if len(self._parts) > 1:
            # What is expected of one query rests on the outcome of another, and the other way round.
            over_mix, over_routing = ([_widened(one) for one in part] for part in (over_mix, over_routing))
        costs, heights = (np.average(part, axis=0, weights=mass) for part in (self.table.cost, self.table.quality))
        corners = metrics.hull(np.column_stack([costs, heights]))
        points = [
            tuple(CascadePoint(budget=c, cost=c, quality=q, climbs=0.0, calls=1.0, scoring=0.0) for c, q in corners.tolist())
        ]
        shares = [(0.0, 0.0)]
        for way in self.ways.values():
            found = _points(way, self.budgets, mass)
            points.append(found)
            shares.append(
                (_mean([one.climbs for one in found], found, costs), _mean([one.scoring for one in found], found, costs))
            )
        return tuple(
            CascadeCurve(
                name=name,
                points=points[place],
                area=areas[place],
                over_mix=over_mix[place],
                over_routing=over_routing[place],
                climbs=shares[place][0],
                scoring=shares[place][1],
            )
            for place, name in enumerate([MIX, *self.ways])
        )


def _points(way: Played, budgets: Floats, mass: Floats) -> tuple[CascadePoint, ...]:
    parts = [
        np.average(part, axis=0, weights=mass).tolist() for part in (way.cost, way.quality, way.climbs, way.calls, way.scoring)
    ]
    return tuple(
        CascadePoint(budget=budget, cost=cost, quality=height, climbs=climbs, calls=calls, scoring=scoring)
        for budget, cost, height, climbs, calls, scoring in zip(budgets.tolist(), *parts, strict=True)
    )


def _mean(values: Sequence[float], points: Sequence[CascadePoint], costs: Floats) -> float:
    """Mean over the single models' range of costs of what goes with the points."""
    low, high = float(costs.min()), float(costs.max())
    if not low < high:
        return math.nan
    curve = np.column_stack([[one.cost for one in points], values])
    return float(metrics.area(curve, low, high, floor=0.0))


def _range(cost: Floats, quality: Floats) -> tuple[Floats, Floats, Floats]:
    """Least and highest cost of single models [b, m], and the quality of the cheapest (of several, the best)."""
    low = cost.min(axis=1)
    return low, cost.max(axis=1), np.where(cost == low[:, None], quality, -np.inf).max(axis=1)


def _joined(parts: Sequence[Played]) -> Played:
    return Played(
        cost=np.concatenate([one.cost for one in parts]),
        quality=np.concatenate([one.quality for one in parts]),
        climbs=np.concatenate([one.climbs for one in parts]),
        calls=np.concatenate([one.calls for one in parts]),
        scoring=np.concatenate([one.scoring for one in parts]),
    )


def _widened(found: Interval) -> Interval:
    """An interval of twice the variance."""
    low, high = (found.value + math.sqrt(2.0) * (end - found.value) for end in (found.low, found.high))
    return Interval(value=found.value, low=low, high=high)
