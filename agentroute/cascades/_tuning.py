"""Lambda for a budget: what a unit of quality may cost so that the log's mean spend is what may be spent."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Self

import numpy as np
import numpy.typing as npt

from agentroute.cascades._course import Course
from agentroute.cascades._supermodels import Columns, Floats
from agentroute.errors import ConfigError
from agentroute.types import Matrix

__all__ = ["Rates", "rescaled", "tuned", "valued"]

_GRID = 32
_STEPS = 4  # steps with a lambda of their own; later ones are rare
_FACTORS = (0.25, 0.5, 0.7, 1.4, 2.0, 4.0)
_ZOOM = np.geomspace(0.2, 5.0, 9)
_SWEEPS = 2
_LEVELS = (0.1, 0.18, 0.25, 0.35, 0.5, 0.7, 1.4, 2.0, 4.0)
# Standard errors by which a choice must be better, so that small logs do not teach luck. A price for lambda is often far off,
# a lambda tuned to a budget hardly ever: there is less to gain.
_SURE_OF_PRICE, _SURE_OF_STEP = 1.0, 2.0
# Where lambdas are spread over the queries: at most so many times the middle one, and as many different ones. Queries of one kind
# change their decisions at nearly one lambda, which differs by some per cent between the estimates of the folds, by which lambda
# is tuned, and those of new queries. One lambda among the folds' takes all or nothing of the new queries; lambdas spread over
# more than these differences take the same share of both. Spread much wider they cost quality.
_WIDTH, _PARTS = 1.1, 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rates:
    """Lambda, quality per USD, of each step, and of several choices where they are mixed.

    Attributes:
        table: float64 [c, s], the choices, those with greater lambdas first; the last step's holds for all later ones.
        shares: float64 [c], how often each is taken; adds up to 1.
    """

    table: Matrix
    shares: Floats
    _ends: list[float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Where the choices' parts of [0, 1) end, the last choice's first: who draws little may spend much."""
        object.__setattr__(self, "_ends", self.shares[:0:-1].cumsum().tolist())

    @classmethod
    def constant(cls, rate: float) -> Self:
        """The same lambda always."""
        return cls(table=np.array([[rate]]), shares=np.ones(1))

    def at(self, step: int, draw: float | None) -> float:
        """Lambda of a step, for a query with this number in [0, 1); `None` = the greatest."""
        choice = 0 if draw is None else len(self._ends) - bisect_right(self._ends, draw)
        return float(self.table[choice, min(step, self.table.shape[1] - 1)])

    def chosen(self, draws: npt.ArrayLike) -> Columns:
        """The choices of n queries by their numbers in [0, 1), int64 [n]."""
        return np.asarray(len(self._ends) - np.searchsorted(self._ends, draws, side="right"), np.int64)


def tuned(course: Course, budget: float, *, mix: bool, refine: bool) -> Rates:
    """The lambdas of the best mean quality on the log whose mean spend keeps to a budget.

    First one lambda for all steps, the least that keeps to the budget; then, step by step, what another lambda there would do
    with all of them scaled so that the budget is spent again.

    Args:
        course: The log.
        budget: USD a query.
        mix: Whether lambdas are spread over the queries, and the budget is spent exactly.
        refine: Whether steps get lambdas of their own.

    Raises:
        ConfigError: The budget is less than the cheapest way costs.
    """
    cheapest = course.spend(np.array([np.inf]))
    if cheapest > budget:
        raise ConfigError(f"budget=${budget:.3g} cannot be kept: the cheapest choice costs ${cheapest:.3g} a query on this log")
    shape = np.ones(min(_STEPS, course.models))
    scale = _scale(partial(_spent, course, shape), budget, _grid(course))
    if refine and scale[1] > 0.0 and len(shape) > 1:
        refined = _refined(course, shape, budget, scale[1])
        if (refined != shape).any():
            shape, scale = refined, _scale(partial(_spent, course, refined), budget, _grid(course))
    return _spread(course, shape, scale, budget, mix=mix)


def rescaled(course: Course, rates: Rates, budget: float, *, mix: bool) -> Rates:
    """The same lambdas in the same ratios, scaled so that the mean spend of another course keeps to the budget.

    Args:
        course: The same queries with other estimates.
        rates: What was tuned.
        budget: USD a query.
        mix: As for `tuned`.
    """
    shape = rates.table[0]
    if not shape.any():
        if course.spend(shape) <= budget:
            return rates
        shape = np.ones_like(shape)
    shape = shape / shape[np.flatnonzero(shape)[0]]
    # A lambda of 0 at some step has no scale: whatever the others are, too much may be spent there.
    if course.spend(1e12 * shape) > budget:
        shape = np.where(shape > 0.0, shape, 1.0)
    if course.spend(1e12 * shape) > budget:
        return Rates(table=np.full((1, len(shape)), np.inf), shares=np.ones(1))
    return _spread(course, shape, _scale(partial(_spent, course, shape), budget, _grid(course)), budget, mix=mix)


def _spread(course: Course, shape: Floats, scale: tuple[float, float], budget: float, *, mix: bool) -> Rates:
    """The scale of a shape that keeps to a budget, or scales around it, so many for each query as spend the budget.

    Args:
        course: The log.
        shape: float64 [s].
        scale: From `_scale`.
        budget: USD a query.
        mix: Whether scales are spread.
    """
    low, high = scale
    alone = Rates(table=high * shape[None], shares=np.ones(1))
    if not mix or low == high:
        return alone
    parts = _WIDTH ** (1.0 - (2.0 * np.arange(_PARTS) + 1.0) / _PARTS)
    around = np.array([0.0, low / _WIDTH, high * _WIDTH])
    low, high = _scale(lambda middle: _spent(course, shape, np.outer(middle, parts)).mean(axis=1), budget, around)
    if low == high:
        return alone
    # Both sides of the last query that changes, so that the budget is spent to the cent.
    scales = np.concatenate([high * parts, low * parts])
    kept, over = _spent(course, shape, scales).reshape(2, _PARTS).mean(axis=1)
    share = (budget - kept) / (over - kept)
    order = np.argsort(-scales)
    return Rates(table=scales[order, None] * shape, shares=np.repeat([1.0 - share, share], _PARTS)[order] / _PARTS)


def _spent(course: Course, shape: Floats, scales: Floats) -> Floats:
    """Mean USD a query at these scales of a shape, in the shape of the scales."""
    return course.points(scales.reshape(-1, 1) * shape)[:, 0].reshape(scales.shape)


def valued(course: Course, price: float, *, refine: bool) -> Rates:
    """The lambdas of the most quality less price x cost on the log.

    The price itself is the best lambda only where all that is planned is called. A plan prices the whole set that it has in
    mind, though an early answer may end it: with the price for lambda it looks at too few cheap answers. So other lambdas are
    tried, the same for all steps and then step by step, and judged by what they really gained and spent; one is taken when it is
    surely better.

    Args:
        course: The log.
        price: Quality that a USD is worth; at 0 nothing is to be tuned.
        refine: Whether steps get lambdas of their own.
    """
    if not price > 0.0:
        return Rates.constant(0.0)

    def worth(table: Matrix) -> Floats:
        spent, quality = course.gains(table)
        return quality - price * spent

    shape = np.full(min(_STEPS, course.models) if refine else 1, price)
    best = worth(shape[None])[0]
    # Multiples of the price, and the lambdas between which decisions really change: those may be far from it.
    levels = np.unique(np.concatenate([price * np.array(_LEVELS), _grid(course)]))
    tried = levels[:, None] * np.ones(len(shape))
    at, found = _surest(worth(tried), best, _SURE_OF_PRICE)
    if at is not None:
        shape, best = tried[at], found
    for _ in range(_SWEEPS if refine else 0):
        before = shape
        for step in range(len(shape)):
            tried = np.stack([_with(shape, step, level) for level in (0.0, price, *levels)])
            at, found = _surest(worth(tried), best, _SURE_OF_PRICE)
            if at is not None:
                shape, best = tried[at], found
        if shape is before:
            break
    return Rates(table=shape[None], shares=np.ones(1))


def _grid(course: Course) -> Floats:
    """Lambdas between which about equally many first decisions change, rising, from 0."""
    changes = course.changes()
    if not len(changes):
        return np.zeros(1)
    inner = np.quantile(changes, np.linspace(0.0, 1.0, _GRID))
    return np.unique(np.concatenate([[0.0, inner[0] / 4.0, inner[0] / 2.0], inner, [2.0 * inner[-1]]]))


def _scale(spent: Callable[[Floats], Floats], budget: float, grid: Floats) -> tuple[float, float]:
    """Two adjacent scales: the lesser spends more than the budget, the greater does not; both 0 if none of the grid does.

    Args:
        spent: Mean USD a query at some scales, float64 [g] to [g].
        budget: USD a query.
        grid: float64 [g], rising, where to look first.
    """
    over = np.flatnonzero(spent(grid) > budget)
    if not len(over):
        return (0.0, 0.0)
    # From the dear end: should spend not fall everywhere, all greater scales keep to the budget.
    low = float(grid[over[-1]])
    high = float(grid[over[-1] + 1]) if over[-1] + 1 < len(grid) else 2.0 * low
    while high > low and spent(np.array([high]))[0] > budget:
        low, high = high, 2.0 * high if high else 1.0
    # Spend falls in steps, one for each decision that changes. Both scales stay so far from the step that rounding in a single
    # decision does not cross it.
    while high - low > 1e-9 * high:
        middle = (low + high) / 2.0
        low, high = (middle, high) if spent(np.array([middle]))[0] > budget else (low, middle)
    return low, high * (1.0 + 1e-9)


def _refined(course: Course, shape: Floats, budget: float, scale: float) -> Floats:
    """Coordinate ascent over the ratios of later steps' lambdas to the first one's, by steps that are no luck."""
    scales = scale * _ZOOM
    best = _at_budget(*course.gains(scales[:, None] * shape), budget)
    if best is None:
        return shape
    for _ in range(_SWEEPS):
        before = shape
        for step in range(1, len(shape)):
            tried = np.stack([_with(shape, step, shape[step] * factor) for factor in _FACTORS])
            spent = [_at_budget(*course.gains(scales[:, None] * one), budget) for one in tried]
            held = np.stack([np.full_like(best, -np.inf) if one is None else one for one in spent])
            at, found = _surest(held, best, _SURE_OF_STEP)
            if at is not None:
                shape, best = tried[at], found
        if shape is before:
            break
    return shape


def _surest(found: Floats, best: Floats, errors: float) -> tuple[int | None, Floats]:
    """Which of several choices, float64 [g, n], is better than the best so far by more than luck; `None` = none is.

    The same queries count in all of them, so that their differences tell a gain from the luck of the draw.
    """
    gains = found - best
    with np.errstate(invalid="ignore"):
        sure = gains.mean(axis=1) - errors * gains.std(axis=1) / np.sqrt(gains.shape[1])
    at = int(np.where(np.isfinite(sure), sure, -np.inf).argmax())
    return (at, found[at]) if sure[at] > 0.0 else (None, best)


def _with(shape: Floats, step: int, value: float) -> Floats:
    made = shape.copy()
    made[step] = value
    return made


def _at_budget(spent: Floats, quality: Floats, budget: float) -> Floats | None:
    """Each query's quality at the budget, float64 [n], between two of g scales, float64 [g, n]; `None` = it lies outside."""
    cost = spent.mean(axis=1)
    over = np.flatnonzero(cost > budget)
    if not len(over) or over[-1] + 1 == len(cost):
        return None
    at = over[-1]
    share = (budget - cost[at + 1]) / (cost[at] - cost[at + 1])
    return np.asarray(share * quality[at] + (1.0 - share) * quality[at + 1])
