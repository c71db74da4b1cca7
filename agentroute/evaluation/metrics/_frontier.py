"""Metrics of curves in the cost-quality plane."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError
from agentroute.evaluation.metrics._arrays import Floats, array

_TOUCH = 1e-9
"""How far, as a share of the cost, a curve may begin right of where its height is asked for: sums in another order differ."""


def hull(points: npt.ArrayLike) -> Floats:
    """RouterBench's non-decreasing convex hull: the best mean quality that random mixes of the points reach for each cost.

    The upper concave envelope of the points, kept level where it would fall. Of points of equal cost the best counts;
    dominated points, and points on a straight line between two others, are dropped.

    Args:
        points: float64 [k, 2], (cost in USD a query, quality) of k operating points, in any order.

    Returns:
        float64 [h, 2], its vertices, cheapest first; cost and quality rise strictly, the slope falls.

    Source: Hu et al. 2024, RouterBench, arXiv:2403.12031, section 3.

    >>> hull([[1, 0.5], [2, 0.5], [2, 0.7], [3, 0.9], [4, 0.8]]).tolist()
    [[1.0, 0.5], [3.0, 0.9]]
    """
    found: Floats = _vertices(_points(points, [2]))[0]
    return found


def hull_at(hull: npt.ArrayLike, costs: npt.ArrayLike) -> Floats:
    """Height of a hull at some costs.

    Args:
        hull: float64 [h, 2], vertices as from `hull`.
        costs: float64, USD a query, any shape.

    Returns:
        float64, the shape of `costs`: linear between vertices, level right of the last one, NaN left of the first, where no
            mix of the points is that cheap.

    Raises:
        DataError: The vertices do not come cheapest first.

    >>> hull_at([[1, 0.5], [3, 0.9]], [0.5, 2, 9]).tolist()
    [nan, 0.7, 0.9]
    """
    cost, quality = np.moveaxis(_points(hull, [2])[0], -1, 0)
    if not (np.diff(cost) > 0.0).all():
        raise DataError("the hull's costs do not rise: give the vertices that `hull` returns")
    asked = np.asarray(costs, np.float64)
    heights: Floats = np.where(asked < cost[0] - _TOUCH * abs(cost[0]), np.nan, np.interp(asked, cost, quality))[()]
    return heights


def cost_at(hull: npt.ArrayLike, quality: npt.ArrayLike) -> Floats:
    """Least cost at which a hull reaches some qualities: "95 % of the best single model at a quarter of its cost".

    Args:
        hull: float64 [h, 2], vertices as from `hull`.
        quality: float64, mean quality to reach, any shape.

    Returns:
        float64, USD a query, the shape of `quality`; the cheapest vertex's cost where that is good enough, NaN where the hull
            stays below.

    Raises:
        DataError: The vertices do not come cheapest first.

    Source: the inverse of Hu et al. 2024, RouterBench, arXiv:2403.12031, section 3; LLMRouterBench's CostSave (arXiv:2601.07206)
    reads it off at the best single model's quality.

    >>> cost_at([[1, 0.5], [3, 1.0]], [0.4, 0.75, 1.1]).tolist()
    [1.0, 2.0, nan]
    """
    cost, height = np.moveaxis(_points(hull, [2])[0], -1, 0)
    if not ((np.diff(cost) > 0.0).all() and (np.diff(height) > 0.0).all()):
        raise DataError("the hull does not rise: give the vertices that `hull` returns")
    wanted = np.asarray(quality, np.float64)
    found: Floats = np.where(wanted > height[-1], np.nan, np.interp(wanted, height, cost))[()]
    return found


def aiq(points: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike, *, log: bool = False) -> Floats:
    """Average improvement in quality: the mean height of the points' hull over the costs from `low` to `high`.

    ∫ hull(c) dc / (high - low), exactly, the hull being made of straight lines. `low` and `high` are normally the mean costs
    of the cheapest and the dearest single model, the same for all routers that are compared. Prices span orders of
    magnitude, so nearly all of that range is the dearest model's; with `log` every doubling of the cost counts alike.

    RouterBench's published script divides by the highest cost instead of by the range, and begins at each router's own
    cheapest point: it gives smaller numbers.

    Args:
        points: float64 [k, 2], (cost in USD a query, quality); or [b, k, 2], for each resample.
        low: USD a query, a number or float64 [b].
        high: USD a query, a number or float64 [b].
        log: Mean over log cost instead of cost, exactly as well; the hull is the same.

    Returns:
        float64 [], or [b]; NaN where the hull begins right of `low`, since nothing is known of cheaper mixes: add the cheapest
            single model to the points, or (0, 0) for giving no answer. NaN in the resamples where `low` ≥ `high`.

    Raises:
        ConfigError: `low` ≥ `high`, or `log` and `low` is not above 0.

    Source: Hu et al. 2024, RouterBench, arXiv:2403.12031, section 3.

    >>> float(aiq([[1, 0.5], [3, 0.9]], 1, 5))
    0.8
    """
    curves = _points(points, [2, 3])
    start, end, usable = _range(low, high, len(curves), log=log)
    vertices = _vertices(curves)
    first = vertices[:, 0, 0]
    usable &= first - start <= _TOUCH * np.maximum(np.abs(first), np.abs(start))
    found = np.where(usable, _mean_height(vertices, vertices[:, 0, 1], start, end, log=log), np.nan)
    return found if np.ndim(points) == 3 else found[0]


def area(points: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike, *, floor: npt.ArrayLike | None = None) -> Floats:
    """Cascade routing's AUC: the mean height of the curve through the points over the costs from `low` to `high`.

    Unlike `aiq` it takes the curve as it is, with its dents: linear between points by rising cost, level right of the last.
    `low` and `high` are the mean costs of the cheapest and the dearest single model. The baseline that they call linear
    interpolation is `area(hull(singles), low, high)`, the best random mix of two models, which equals `aiq(singles, ...)`.

    Args:
        points: float64 [k, 2], (cost in USD a query, quality); or [b, k, 2], for each resample.
        low: USD a query, a number or float64 [b].
        high: USD a query, a number or float64 [b].
        floor: Height at `low` of a curve that begins right of it, a number or float64 [b]. Their code draws a line from the
            lowest mean quality of any single model; `None` = level left of the first point.

    Returns:
        float64 [], or [b]; NaN in the resamples where `low` ≥ `high`.

    Raises:
        ConfigError: `low` ≥ `high`.

    Source: Dekoninck et al. 2024, A Unified Approach to Routing and Cascading for LLMs, arXiv:2410.10347, and their code
    (eth-sri/cascade-routing, `area_under_curve`).

    >>> float(area([[1, 0.5], [2, 1.0], [3, 0.5]], 1, 3))
    0.75
    """
    curves = _points(points, [2, 3])
    start, end, usable = _range(low, high, len(curves), log=False)
    # By cost; points of equal cost by quality, a vertical line that has no area.
    order = np.lexsort((curves[..., 1], curves[..., 0]), axis=-1)
    curves = np.take_along_axis(curves, order[..., None], axis=1)
    begin = (
        curves[:, 0, 1]
        if floor is None
        else np.where(curves[:, 0, 0] > start, _each("floor", floor, len(curves)), curves[:, 0, 1])
    )
    found = np.where(usable, _mean_height(curves, begin, start, end, log=False), np.nan)
    return found if np.ndim(points) == 3 else found[0]


def pareto(points: npt.ArrayLike) -> Floats:
    """The points that no other point beats: none is as good for less, or better for no more.

    Args:
        points: float64 [k, 2], (cost in USD a query, quality), in any order.

    Returns:
        float64 [p, 2], cheapest first; cost and quality rise strictly.

    >>> pareto([[2, 0.6], [1, 0.5], [3, 0.6], [2, 0.4]]).tolist()
    [[1.0, 0.5], [2.0, 0.6]]
    """
    given = _points(points, [2])[0]
    ranked = given[np.lexsort((-given[:, 1], given[:, 0]))]
    best = np.maximum.accumulate(ranked[:, 1])
    kept: Floats = ranked[np.concatenate([[True], ranked[1:, 1] > best[:-1]])]
    return kept


def _vertices(points: Floats) -> Floats:
    """The hulls of float64 [b, k, 2] as [b, h, 2]; one that has fewer vertices than another repeats its last.

    Walks all hulls at once, from each vertex to the steepest point right of it: as many steps as the longest hull has
    vertices, and as exact as the points, however close their costs lie.
    """
    cost, quality = points[..., 0], points[..., 1]
    at = np.where(cost == cost.min(axis=1, keepdims=True), quality, -np.inf).argmax(axis=1)
    rows = np.arange(len(points))
    found = [points[rows, at]]
    while True:
        run, rise = cost - found[-1][:, :1], quality - found[-1][:, 1:]
        ahead = (run > 0.0) & (rise > 0.0)
        if not ahead.any():
            return np.stack(found, axis=1)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            slope = np.where(ahead, rise / run, -np.inf)
        # Of points on one line the farthest, so that those between are no vertices.
        at = np.where(slope == slope.max(axis=1, keepdims=True), cost, -np.inf).argmax(axis=1)
        found.append(np.where(ahead.any(axis=1)[:, None], points[rows, at], found[-1]))


def _mean_height(curves: Floats, begin: Floats, low: Floats, high: Floats, *, log: bool) -> Floats:
    """Mean height [b] of curves [b, k, 2] over [low, high], from the height `begin` at `low` if a curve starts right of it."""
    ends = (np.minimum(low, curves[:, 0, 0]), begin), (np.maximum(high, curves[:, -1, 0]), curves[:, -1, 1])
    first, last = (np.stack(pair, axis=1)[:, None] for pair in ends)
    whole = np.concatenate([first, curves, last], axis=1)
    cost, quality = whole[..., 0], whole[..., 1]
    run, rise = np.diff(cost, axis=1), np.diff(quality, axis=1)
    inside = np.clip(cost, low[:, None], high[:, None])
    left, right = inside[:, :-1], inside[:, 1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        share_left, share_right = (np.where(run > 0.0, (end - cost[:, :-1]) / run, 0.0) for end in (left, right))
        from_height, to_height = (quality[:, :-1] + share * rise for share in (share_left, share_right))
        if not log:
            parts = (right - left) * (from_height + to_height) / 2.0
            return np.asarray(parts.sum(axis=1) / (high - low))
        # ∫ (a + s (c - l)) dc/c from l to r = a L + (z - a) (1 - L / x), with x = (r - l) / l, L = log(1 + x), z the height at r.
        stretch = (right - left) / left
        lengths = np.log1p(stretch)
        bend = np.where(stretch > 0.0, 1.0 - lengths / stretch, 0.0)
        parts = from_height * lengths + (to_height - from_height) * bend
        return np.asarray(parts.sum(axis=1) / np.log(high / low))


def _points(points: npt.ArrayLike, axes: list[int]) -> Floats:
    found = array("points", points, axes)
    if found.shape[-1] != 2:
        raise DataError(f"points have the shape {found.shape}: give (cost, quality) for each, that is [k, 2]")
    return found.reshape(-1, *found.shape[-2:])


def _each(name: str, value: npt.ArrayLike, rows: int) -> Floats:
    found = array(name, value, [0, 1])
    if found.ndim and len(found) != rows:
        raise DataError(f"{name} has {len(found)} values for {rows} sets of points: give one number, or one for each set")
    return np.broadcast_to(found, rows)


def _range(low: npt.ArrayLike, high: npt.ArrayLike, rows: int, *, log: bool) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """Both ends [rows], and where they are a range: a resample may have none, two numbers must."""
    start, end = _each("low", low, rows), _each("high", high, rows)
    usable = (start < end) & ((start > 0.0) | (not log))
    if not usable.any():
        raise ConfigError(
            f"low={start.flat[0]:g} must be below high={end.flat[0]:g}"
            + (", and above 0 for a mean over log cost" if log else "")
        )
    return start, end, usable
