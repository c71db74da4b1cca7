"""Bootstrap intervals for any statistic that weighs queries."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError

__all__ = ["Interval", "Statistic", "bootstrap", "means", "once"]

Floats: TypeAlias = npt.NDArray[np.float64]
Statistic: TypeAlias = Callable[[Floats], Floats]
"""Query weights float64 [b, n] (how often each query counts) → values float64 [b] or [b, c]."""

_CELLS = 2**20
"""Weights that are held at once: 8 MB, so that a block stays near the cache and memory does not grow with the resamples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its confidence interval (95 % unless said otherwise); NaN = nothing was observed."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """`0.812 (0.79 to 0.834)`; of a figure without an interval the figure alone."""
        if math.isnan(self.low) or math.isnan(self.high):
            return f"{self.value:.3g}"
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


def means(values: npt.ArrayLike) -> Statistic:
    """The statistic that is the mean of a column, or of each column, over what was observed.

    Args:
        values: float64 [n] or [n, c], NaN = not observed.
    """
    given = np.asarray(values, np.float64)
    columns = given[:, None] if given.ndim == 1 else given
    seen = np.isfinite(columns)
    if seen.all():
        filled, mass = columns, None
    else:
        filled, mass = np.where(seen, columns, 0.0), seen.astype(np.float64)

    def statistic(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            total = weights.sum(axis=1, keepdims=True) if mass is None else weights @ mass
            found = (weights @ filled) / total
        return found if given.ndim > 1 else found[:, 0]

    return statistic


def once(statistic: Statistic, groups: npt.NDArray[np.int64]) -> Statistic:
    """The same statistic, in which all rows of one group together count once: a query that several splits judged is one query.

    Args:
        statistic: Of rows.
        groups: int64 [n], rows of one number belong together.
    """
    share = 1.0 / np.bincount(groups)[groups]
    return statistic if (share == 1.0).all() else lambda weights: statistic(weights * share)


def bootstrap(
    statistic: Statistic,
    queries: int,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    groups: npt.NDArray[np.int64] | None = None,
) -> list[Interval]:
    """Percentile intervals of a statistic over resampled queries, one for each of its columns.

    Every column sees the same resamples, so that a column of differences has a paired interval. A statistic of zero spread in
    the sample (ten right answers of ten) has an interval of zero width, as with every bootstrap: read `queries` beside it. A
    single query (or group) has no interval: its ends are NaN.

    Args:
        statistic: What is computed from the weights of the queries.
        queries: n, how many there are.
        resamples: How many; 2,000 settle the ends of an interval to about a twentieth of its width, 10,000 to a fortieth.
        level: Share of the resamples inside the interval.
        seed: Of the resampling.
        groups: int64 [n], queries of one number are drawn together (repeats of a question, turns of a conversation).

    Raises:
        DataError: There are no queries, or not as many groups.
        ConfigError: An option is out of range.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, sections 13.3 (percentiles) and 8.5 (groups).

    >>> [interval] = bootstrap(means([0.0, 1.0] * 50), 100)
    >>> print(interval)
    0.5 (0.4 to 0.6)
    """
    if queries < 1:
        raise DataError("there is no query to resample: give at least one")
    if resamples < 1 or not 0.0 < level < 1.0:
        raise ConfigError(f"resamples={resamples!r} must be 1 or more, and level={level!r} between 0 and 1")
    places = None if groups is None else _places(groups, queries)
    units = queries if places is None else int(places.max()) + 1
    rng = np.random.default_rng(seed)
    point = _columns(statistic(np.ones((1, queries))))[0]
    if units == 1:
        return [Interval(value=value, low=math.nan, high=math.nan) for value in point.tolist()]
    drawn = np.empty((resamples, len(point)))
    size = max(_CELLS // queries, 1)
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        weights = _counts(rng, count, units)
        drawn[start : start + count] = _columns(statistic(weights if places is None else weights[:, places]))
    return [_interval(value, drawn[:, column], level) for column, value in enumerate(point.tolist())]


def _places(groups: npt.NDArray[np.int64], queries: int) -> npt.NDArray[np.int64]:
    given = np.asarray(groups)
    if given.shape != (queries,) or given.dtype.kind not in "iu":
        raise DataError(f"groups are {given.dtype} {list(given.shape)}, not whole numbers [{queries}]: give one for each query")
    return np.asarray(np.unique(given, return_inverse=True)[1], np.int64)


def _columns(found: Floats) -> Floats:
    return found[:, None] if found.ndim == 1 else found


def _counts(rng: np.random.Generator, count: int, units: int) -> Floats:
    """float64 [count, units]: how often each unit was drawn when as many were drawn as there are."""
    # One histogram over (resample, unit) cells: ten times as fast as drawing multinomials.
    cells = rng.integers(0, units, size=(count, units), dtype=np.int64)
    cells += np.arange(0, count * units, units)[:, None]
    return np.bincount(cells.ravel(), minlength=count * units).reshape(count, units).astype(np.float64)


def _interval(value: float, drawn: Floats, level: float) -> Interval:
    usable = drawn[np.isfinite(drawn)]
    if math.isnan(value) or not len(usable):
        return Interval(value=value, low=math.nan, high=math.nan)
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(value=value, low=low, high=high)
