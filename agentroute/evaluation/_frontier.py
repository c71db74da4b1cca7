"""The cost-quality plane: what a router buys at every exchange rate between quality and money."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError
from agentroute.evaluation import metrics
from agentroute.evaluation._intervals import Interval, bootstrap, means, once
from agentroute.evaluation._results import Evaluation, Frontier, FrontierPoint, Replay, Single
from agentroute.outcomes import OutcomeTable
from agentroute.policies import UtilityPolicy

__all__ = ["exchange_rates", "frontier", "singles"]

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

RATES = 40
_SAMPLED = 2000


def exchange_rates(quality: Floats, cost: Floats, count: int = RATES) -> list[float]:
    """Willingnesses to pay between which decisions change, USD per unit of quality, rising; the last one is infinity.

    Where model j is expected to be better than i and dearer, the choice between them changes at (cost_j - cost_i) /
    (quality_j - quality_i). The rates are quantiles of these, so that as many decisions change from each to the next.

    Args:
        quality: float64 [n, m], expected; NaN = no idea.
        cost: float64 [n, m], expected USD; NaN = unknown.
        count: How many at most.
    """
    rows = slice(None, None, max(len(quality) // _SAMPLED, 1))
    more = quality[rows, None, :] - quality[rows, :, None]
    dearer = cost[rows, None, :] - cost[rows, :, None]
    turns = (more > 0) & (dearer > 0)
    changes = dearer[turns] / more[turns]
    if not len(changes):
        return [math.inf]
    # The outermost hundredth turns on a rounding error of the estimates: rates that nobody would name.
    ends = np.quantile(changes, np.linspace(0.01, 0.98, count - 1))
    ends[0] /= 2  # below nearly every change: the cheapest that is expected to be any good
    # Two digits: rates that people can say; equal ones fall together.
    return [*sorted({float(f"{rate:.2g}") for rate in ends.tolist() if rate > 0}), math.inf]


def singles(replay: Replay, *, seed: int = 0, resamples: int = 2000) -> tuple[Single, ...]:
    """Always one model: quality, cost and latency of each, in the table's order.

    Args:
        replay: The arrays of an evaluation.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
    """
    return _singles(replay.table, replay.groups, seed=seed, resamples=resamples)


def _singles(table: OutcomeTable, groups: Ints, *, seed: int, resamples: int) -> tuple[Single, ...]:
    quality = table.quality
    alone = np.stack(
        [quality[:, j] > np.delete(quality, j, axis=1).max(axis=1, initial=-1.0) for j in range(len(table.models))], 1
    )
    columns = np.concatenate([quality, table.cost, table.latency, alone.astype(np.float64)], axis=1)
    drawn = bootstrap(once(means(columns), groups), len(table), resamples=resamples, seed=seed, groups=groups)
    parts = [drawn[start : start + len(table.models)] for start in range(0, len(drawn), len(table.models))]
    on = _on_hull([one.value for one in parts[1]], [one.value for one in parts[0]])
    return tuple(
        Single(model=model, quality=q, cost=c, latency=t, unique_wins=wins, on_hull=j in on)
        for j, (model, q, c, t, wins) in enumerate(zip(table.models, *parts, strict=True))
    )


def _on_hull(cost: Sequence[float], quality: Sequence[float]) -> set[int]:
    points = [(c, q) for c, q in zip(cost, quality, strict=True) if math.isfinite(c)]
    if not points:
        return {int(np.argmax(quality))}
    corners = {tuple(corner) for corner in metrics.hull(np.array(points)).tolist()}
    return {j for j, point in enumerate(zip(cost, quality, strict=True)) if point in corners}


def frontier(evaluation: Evaluation | Replay, *more: object, seed: int = 0, resamples: int = 2000) -> Frontier:
    """The router's curve over exchange rates, on the queries of an evaluation, with the single models and the oracle beside it.

    At each rate the router picks argmax of expected quality less expected cost / rate, as `UtilityPolicy` does; where it knows
    too little, its default answers. A query that several splits judged counts once. All intervals rest on the same resamples.

    `aiq` is RouterBench's: the hull keeps the best of some forty rates as they scored on the queries that they are judged by,
    so that a router of pure noise has a higher one than the single models. `aiq_gain` must not, and is the mean height of the
    curve as it is, dents and all, less `aiq_singles`; what begins right of the cheapest single model begins at that model. Of
    several splits it is the mean of their curves, each over its own range of costs: at one rate two fits spend differently by
    what their training parts happened to hold, and a router that knows nothing of a query would lose by that. Its interval is
    then √2 as wide as the bootstrap's: what is expected of one query rests on the outcome of another, and the other way round,
    so that the sum over both has up to twice the variance that resampling queries shows (of a router of noise, exactly twice).

    Args:
        evaluation: Of a router; only queries whose costs are known for every model are used.
        more: Nothing: what was evaluated is in the evaluation.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.

    Raises:
        ConfigError: It is no evaluation; or what was evaluated expects nothing: a function of a user's own, an unfitted router.
        DataError: No query has the costs of all models.

    Source: Hu et al. 2024, RouterBench (arXiv:2403.12031), section 3; the curve as it is: Dekoninck et al. 2024
    (arXiv:2410.10347), see `metrics.area`.
    """
    if more or not isinstance(evaluation, Evaluation | Replay):
        raise ConfigError("a frontier is that of one evaluation: frontier(evaluate(router, table))")
    found = evaluation.replay if isinstance(evaluation, Evaluation) else evaluation
    if found is None or found.estimate is None:
        raise ConfigError("a frontier needs what a router expected: evaluate a fitted router, not a function")
    known = np.isfinite(found.table.cost).all(axis=1)
    if not known.any():
        raise DataError("no query has the cost of every model: log costs, or read the log with prices= where it has tokens")
    rows = np.flatnonzero(known)
    expected = (found.estimate.quality[rows], found.estimate.cost[rows])
    rates = exchange_rates(*expected)
    quality, cost = found.table.quality[rows], found.table.cost[rows]
    fallback = np.where(found.estimate.supported[rows], -1, found.fallback[rows])
    picks = [_picks(*expected, rate, fallback, found.fallback[rows]) for rate in rates]
    best = found.best_single[rows]
    groups = np.unique(found.groups[rows], return_inverse=True)[1]
    plane = _Plane(quality=quality, cost=cost, picks=np.stack(picks), best=best, fold=found.fold[rows])
    drawn = bootstrap(once(plane.statistic, groups), len(rows), resamples=resamples, seed=seed, groups=groups)
    width = len(rates)
    parts = [drawn[start * width : (start + 1) * width] for start in range(5)]
    models = found.table.models
    alone = _singles(found.table.take(rows), groups, seed=seed, resamples=resamples)
    mass = 1.0 / np.bincount(groups)[groups]
    perfect = [_picks(quality, cost, rate, np.full(len(rows), -1), best) for rate in rates]
    at = np.arange(len(rows))
    oracle = [tuple(float(np.average(part[at, pick], weights=mass)) for part in (cost, quality)) for pick in perfect]
    return Frontier(
        singles=alone,
        hull=tuple((c, q) for c, q in metrics.hull([(one.cost.value, one.quality.value) for one in alone]).tolist()),
        points=tuple(
            FrontierPoint(
                willingness_to_pay=rate,
                quality=parts[0][place],
                cost=parts[1][place],
                gain=parts[2][place],
                saving=parts[3][place],
                over_mix=parts[4][place],
                shares=_mix(pick, models, mass),
            )
            for place, (rate, pick) in enumerate(zip(rates, picks, strict=True))
        ),
        oracle=tuple(sorted((c, q) for c, q in oracle)),
        best_single=models[int(np.bincount(best).argmax())],
        aiq=drawn[5 * width],
        aiq_singles=drawn[5 * width + 1],
        aiq_gain=_widened(drawn[5 * width + 2]) if len(plane.splits) > 1 else drawn[5 * width + 2],
    )


def _picks(quality: Floats, cost: Floats, rate: float, forced: Ints, fallback: Ints) -> npt.NDArray[np.int64]:
    """int64 [n]: the policy's choice, by the rule of `Router.route_many`: best utility, on a tie the cheaper one."""
    utility = quality - UtilityPolicy(willingness_to_pay=rate).cost_weight * (0.0 if math.isinf(rate) else cost)
    known = np.isfinite(utility)
    top = np.where(known, utility, -np.inf).max(axis=1, keepdims=True)
    price = np.where(known & (utility >= top), np.where(np.isfinite(cost), cost, np.finfo(np.float64).max), np.inf)
    chosen = np.where(known.any(axis=1), price.argmin(axis=1), fallback)
    return np.asarray(np.where(forced >= 0, forced, chosen), np.int64)


def _mix(picks: Ints, models: Sequence[str], mass: Floats) -> dict[str, float]:
    shares = np.bincount(picks, weights=mass, minlength=len(models)) / mass.sum()
    return {model: share for model, share in zip(models, shares.tolist(), strict=True) if share > 0}


def _widened(found: Interval) -> Interval:
    """An interval of twice the variance."""
    low, high = (found.value + math.sqrt(2.0) * (end - found.value) for end in (found.low, found.high))
    return Interval(value=found.value, low=low, high=high)


class _Plane:
    """All figures of the plane as one statistic, so that every difference is paired."""

    def __init__(self, *, quality: Floats, cost: Floats, picks: Ints, best: Ints, fold: Ints) -> None:
        at = np.arange(len(quality))
        self.rates, self.models = len(picks), quality.shape[1]
        curve = [np.stack([part[at, pick] for pick in picks], axis=1) for part in (quality, cost)]
        single = [part[at, best][:, None] for part in (quality, cost)]
        columns = np.concatenate([*curve, *single, quality, cost, np.ones((len(quality), 1))], axis=1)
        self.splits = [(rows, columns[rows]) for rows in (np.flatnonzero(fold == number) for number in np.unique(fold))]

    def statistic(self, weights: Floats) -> Floats:
        """float64 [b, 5 k + 3]: quality, cost, gain, saving, lead over the mix at each rate; both AIQs and the curves' lead."""
        sums = [weights[:, rows] @ columns for rows, columns in self.splits]
        quality, cost, best, best_cost, ours, costs, _ = self._means(np.sum(sums, axis=0))
        alone = np.stack([costs, ours], axis=2)
        over = np.empty_like(quality)
        for row, points in enumerate(alone):
            line = metrics.hull(points)
            # Money below the cheapest single model buys no mix at all: compared with that model, which costs more.
            over[row] = quality[row] - metrics.hull_at(line, np.maximum(cost[row], line[0, 0]))
        saving = 1.0 - np.divide(cost, best_cost, out=np.full(cost.shape, np.nan), where=best_cost > 0)
        low, high, cheapest = _range(costs, ours)
        both = np.full((2, len(weights)), np.nan)
        if (low < high).any():
            start = np.stack([low, cheapest], axis=1)[:, None]  # which the router can always be
            curve = np.concatenate([start, np.stack([cost, quality], axis=2)], axis=1)
            both = np.stack([metrics.aiq(points, low, high) for points in (curve, alone)])
        lead = self._height(sums) - both[1]
        return np.concatenate([quality, cost, quality - best, saving, over, np.stack([*both, lead], axis=1)], axis=1)

    def _means(self, sums: Floats) -> list[Floats]:
        """Quality and cost at each rate, of the best single model and of every model, from sums [b, c]; and Σ w."""
        k = self.rates
        return np.split(sums / sums[:, -1:], np.cumsum([k, k, 1, 1, self.models, self.models]), axis=1)

    def _height(self, sums: Sequence[Floats]) -> Floats:
        """float64 [b]: the mean of the splits' curves as they are, weighed by their queries."""
        total, mass = np.zeros((2, len(sums[0])))
        for one in sums:
            drawn = np.flatnonzero(one[:, -1] > 0.0)
            quality, cost, _, _, ours, costs, _ = self._means(one[drawn])
            low, high, cheapest = _range(costs, ours)
            ranged = low < high
            if ranged.any():
                heights = metrics.area(np.stack([cost, quality], axis=2), low, high, floor=cheapest)
                rows = drawn[ranged]
                total[rows] += heights[ranged] * one[rows, -1]
                mass[rows] += one[rows, -1]
        return np.asarray(np.divide(total, mass, out=np.full(len(mass), np.nan), where=mass > 0.0), np.float64)


def _range(cost: Floats, quality: Floats) -> tuple[Floats, Floats, Floats]:
    """Least and highest cost of single models [b, m], and the quality of the cheapest (of several, the best)."""
    low = cost.min(axis=1)
    return low, cost.max(axis=1), np.where(cost == low[:, None], quality, -np.inf).max(axis=1)
