"""Metrics of what was expected against what was observed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError
from agentroute.evaluation.metrics._arrays import NOISE, Floats, Ints, Weights, array, grouped, ratio, shaped, weighing, within


def brier(predicted: npt.ArrayLike, observed: npt.ArrayLike, *, weights: Weights = None) -> Floats:
    """Brier score: mean of (predicted - observed)²; 0 is perfect, 0.25 what a constant 0.5 gets on right and wrong answers.

    Args:
        predicted: float64 [n] or [n, m] in [0, 1], expected quality; NaN = left out.
        observed: float64 of the same shape in [0, 1], 0 or 1 or graded; NaN = left out.
        weights: float64 [n] or [b, n], how often each query counts.

    Returns:
        float64 [], or [m], one for each column; NaN where nothing is known.

    Source: Brier 1950, Monthly Weather Review 78(1).

    >>> float(brier([0.5, 1.0], [1, 1]))
    0.125
    """
    expected, found, seen, flat = _known(predicted, observed, expected_unit=True)
    counted, batched = weighing(weights, len(found))
    score = ratio(counted @ np.square(expected - found), counted @ seen.astype(np.float64))
    return shaped(score[:, 0] if flat else score, batched)


def ece(predicted: npt.ArrayLike, observed: npt.ArrayLike, bins: int = 15, *, weights: Weights = None) -> Floats:
    """Expected calibration error: Σ over bins of (share of the queries) times |mean predicted - mean observed|.

    Bins are of equal width over [0, 1], closed on the left (the last on both sides). It grows with the number of bins and
    shrinks with that of queries, so compare only what has both alike; below some 1,000 queries noise alone makes several
    points.

    Args:
        predicted: float64 [n] or [n, m] in [0, 1], expected quality; NaN = left out.
        observed: float64 of the same shape in [0, 1], 0 or 1 or graded; NaN = left out.
        bins: How many.
        weights: float64 [n] or [b, n], how often each query counts.

    Returns:
        float64 [], or [m], one for each column; NaN where nothing is known.

    Raises:
        ConfigError: There is no bin.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv:1706.04599, section 2.

    >>> float(ece([0.75, 0.75, 0.25], [1, 0, 0]))
    0.25
    """
    _check_bins(bins)
    expected, found, seen, flat = _known(predicted, observed, expected_unit=True)
    counted, batched = weighing(weights, len(found))
    score = np.full((len(counted), found.shape[1]), np.nan)
    for column, rows in _columns(seen):
        high = expected[rows, column]
        (errors,) = grouped(counted, _bin(high, bins), [high - found[rows, column]], rows=rows)
        score[:, column] = ratio(np.abs(errors).sum(axis=1), counted @ seen[:, column].astype(np.float64))
    return shaped(score[:, 0] if flat else score, batched)


def reliability(predicted: npt.ArrayLike, observed: npt.ArrayLike, bins: int = 15, *, weights: Weights = None) -> Floats:
    """The reliability diagram behind `ece`: mean predicted and mean observed of each bin.

    Args:
        predicted: float64 [n] or [n, m] in [0, 1], expected quality; NaN = left out.
        observed: float64 of the same shape in [0, 1], 0 or 1 or graded; NaN = left out.
        bins: How many, of equal width over [0, 1].
        weights: float64 [n] or [b, n], how often each query counts.

    Returns:
        float64 [bins, 3], or [m, bins, 3], one for each column: mean predicted, mean observed, share of the queries, lowest
            bin first. An empty bin has NaN, NaN, 0. The share is NaN where nothing is known.

    Raises:
        ConfigError: There is no bin.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv:1706.04599, section 2.

    >>> reliability([0.75, 0.75, 0.25], [1, 0, 0], bins=2).round(2).tolist()
    [[0.25, 0.0, 0.33], [0.75, 0.5, 0.67]]
    """
    _check_bins(bins)
    expected, found, seen, flat = _known(predicted, observed, expected_unit=True)
    counted, batched = weighing(weights, len(found))
    curve = np.full((len(counted), found.shape[1], bins, 3), np.nan)
    for column, rows in _columns(seen):
        high, score = expected[rows, column], found[rows, column]
        place = _bin(high, bins)
        mass, high, score = grouped(counted, place, [None, high, score], rows=rows)
        held = np.unique(place)
        curve[:, column, held, 0], curve[:, column, held, 1] = ratio(high, mass), ratio(score, mass)
        total = mass.sum(axis=1, keepdims=True)
        curve[:, column, :, 2] = np.where(total > 0.0, 0.0, np.nan)
        curve[:, column, held, 2] = ratio(mass, total)
    return shaped(curve[:, 0] if flat else curve, batched)


def auroc(predicted: npt.ArrayLike, observed: npt.ArrayLike, *, weights: Weights = None) -> Floats:
    """Chance that a right answer was expected to be better than a wrong one; ties count half; 0.5 = no idea.

    A graded score y counts as y of a right answer and 1 - y of a wrong one, so that with graded scores not even the truth
    itself reaches 1. Only the order of `predicted` counts.

    Args:
        predicted: float64 [n] or [n, m], any scale; NaN = left out.
        observed: float64 of the same shape in [0, 1], 0 or 1 or graded; NaN = left out.
        weights: float64 [n] or [b, n], how often each query counts.

    Returns:
        float64 [], or [m], one for each column; NaN where all answers are right, or all wrong, or none is known.

    Source: Hanley and McNeil 1982, Radiology 143(1).

    >>> float(auroc([0.9, 0.4, 0.4, 0.1], [1, 1, 0, 0]))
    0.875
    """
    expected, found, seen, flat = _known(predicted, observed)
    counted, batched = weighing(weights, len(found))
    below = np.zeros((len(counted), found.shape[1]))
    for column, rows in _columns(seen):
        every, right = grouped(counted, expected[rows, column], [None, found[rows, column]], rows=rows)
        # In place: the blocks of a bootstrap are large, and this is the slowest metric of all.
        wrong = np.subtract(every, right, out=every)
        ties = np.vecdot(right, wrong)
        below[:, column] = np.vecdot(right, np.cumsum(wrong, axis=1, out=wrong)) - ties / 2.0
    score = ratio(below, (counted @ found) * (counted @ (seen - found)))
    return shaped(score[:, 0] if flat else score, batched)


def r2(predicted: npt.ArrayLike, observed: npt.ArrayLike, *, weights: Weights = None) -> Floats:
    """Share of the variance that is explained: 1 - Σ w (observed - predicted)² / Σ w (observed - mean observed)².

    0 = no better than the mean of these very queries, below 0 = worse.

    Args:
        predicted: float64 [n] or [n, m], any unit; NaN = left out.
        observed: float64 of the same shape and unit; NaN = left out.
        weights: float64 [n] or [b, n], how often each query counts.

    Returns:
        float64 [], or [m], one for each column; NaN where the observed values do not vary.

    >>> float(r2([0.5, 0.5, 0.0, 1.0], [0, 1, 0, 1]))
    0.5
    """
    expected, found, seen, flat = _known(predicted, observed, observed_unit=False)
    counted, batched = weighing(weights, len(found))
    mass = seen.astype(np.float64)
    # Centred first, so that Σ w y² - (Σ w y)² / Σ w does not cancel; any centre is right.
    centred = np.where(seen, found - found.sum(axis=0) / np.maximum(mass.sum(axis=0), 1.0), 0.0)
    sums = counted @ np.concatenate([mass, centred, np.square(centred), np.square(expected - found)], axis=1)
    many, first, second, error = np.split(sums, 4, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = second - np.square(first) / many
    # What is left of values that are all alike: the centre is one rounding off them.
    size = np.square(np.where(seen, found, 0.0)).max(axis=0)
    score = 1.0 - ratio(error, spread, np.maximum(second, NOISE * many * size))
    return shaped(score[:, 0] if flat else score, batched)


def cost_ratio(predicted: npt.ArrayLike, realised: npt.ArrayLike, *, weights: Weights = None) -> Floats:
    """Realised by predicted cost of each model: Σ w realised / Σ w predicted over the cells where both are known.

    Above 1 = answers cost more than was expected of them.

    Args:
        predicted: float64 [n, m], expected USD a call; NaN = unknown. [n] is one model.
        realised: float64 of the same shape, billed USD a call; NaN = unknown.
        weights: float64 [n] or [b, n], how often each query counts.

    Returns:
        float64 [m], or [] of one model; NaN where nothing is known of both, or nothing was expected to cost anything.

    >>> cost_ratio([[1, 2], [3, float("nan")]], [[2, 1], [2, 1]]).tolist()
    [1.0, 0.5]
    """
    expected, billed, _, flat = _known(predicted, realised, names=("predicted", "realised"), observed_unit=False)
    for name, values in (("predicted", expected), ("realised", billed)):
        if (values < 0.0).any():
            raise DataError(f"{name} holds the cost {values.min():g}: a call costs 0 or more")
    counted, batched = weighing(weights, len(billed))
    found = ratio(counted @ billed, counted @ expected)
    return shaped(found[:, 0] if flat else found, batched)


def _known(
    predicted: npt.ArrayLike,
    observed: npt.ArrayLike,
    *,
    names: tuple[str, str] = ("predicted", "observed"),
    expected_unit: bool = False,
    observed_unit: bool = True,
) -> tuple[Floats, Floats, npt.NDArray[np.bool_], bool]:
    """Both as [n, m] with 0 where either is unknown, where both are known, and whether they were given as [n]."""
    expected = array(names[0], predicted, [1, 2], complete=False)
    found = array(names[1], observed, [1, 2], like=expected.shape, complete=False)
    if expected_unit:
        within(names[0], expected)
    if observed_unit:
        within(names[1], found)
    flat = expected.ndim == 1
    expected, found = expected.reshape(len(expected), -1), found.reshape(len(found), -1)
    seen = np.asarray(~(np.isnan(expected) | np.isnan(found)))
    return np.where(seen, expected, 0.0), np.where(seen, found, 0.0), seen, flat


def _columns(seen: npt.NDArray[np.bool_]) -> list[tuple[int, Ints]]:
    """Each column of which something is known, with the rows that are."""
    return [(j, np.flatnonzero(seen[:, j])) for j in range(seen.shape[1]) if seen[:, j].any()]


def _bin(expected: Floats, bins: int) -> Ints:
    return np.minimum((expected * bins).astype(np.int64), bins - 1)


def _check_bins(bins: int) -> None:
    if bins < 1:
        raise ConfigError(f"bins={bins!r}: give 1 or more")
