"""What all metrics share: checked arrays, weights of queries, sums over equal keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import DataError

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Weights: TypeAlias = npt.ArrayLike | None

NOISE = 1e-12
"""Share of a sum's absolute terms below which a difference is rounding, not signal: 10,000 terms err by about 1e-14 of them."""


def array(
    name: str, values: npt.ArrayLike, axes: Sequence[int], *, like: tuple[int, ...] | None = None, complete: bool = True
) -> Floats:
    """`values` as float64.

    Args:
        name: What the argument is called, for messages.
        values: What was given.
        axes: How many axes are fine.
        like: The shape that it must have.
        complete: Whether NaN is an error.

    Raises:
        DataError: It is no array of numbers, has another shape, is empty, or holds infinite values or (if `complete`) NaN.
    """
    found = _numbers(name, values)
    if found.ndim not in axes:
        raise DataError(f"{name} has {found.ndim} axes, not {' or '.join(map(str, axes))}: its shape is {found.shape}")
    if like is not None and found.shape != like:
        raise DataError(f"{name} has the shape {found.shape}, not {like} as what it goes with")
    if not found.size:
        raise DataError(f"{name} is empty (shape {found.shape}): give one query and one model at least")
    if not np.isfinite(found).all():
        if np.isinf(found).any():
            raise DataError(f"{name} holds infinite values: leave them out, or give NaN where something was not observed")
        if complete:
            raise DataError(
                f"{name} holds NaN in {np.isnan(found).sum()} places: keep the rows that are complete, then try again"
            )
    return found


def _numbers(name: str, values: npt.ArrayLike) -> Floats:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: no array of numbers: {error}") from error


def within(name: str, values: Floats) -> Floats:
    """`values`, of which those that are known must lie in [0, 1].

    Raises:
        DataError: One does not.
    """
    bad = values[(values < 0.0) | (values > 1.0)]
    if bad.size:
        raise DataError(f"{name} holds {bad.flat[0]:g}, which is outside [0, 1]: rescale it")
    return values


def weighing(weights: Weights, queries: int) -> tuple[Floats, bool]:
    """The weights as float64 [b, n], and whether they were given with an axis of resamples.

    Raises:
        DataError: There are not as many as queries, or one is negative, infinite or NaN.
    """
    if weights is None:
        return np.ones((1, queries)), False
    found = _numbers("weights", weights)
    if found.ndim not in {1, 2} or found.shape[-1] != queries or not found.size:
        raise DataError(f"weights have the shape {found.shape}, not ({queries},) or (resamples, {queries}): one for each query")
    # Two reductions instead of a mask of all cells: bootstraps come through here with a hundred million of them.
    if not (found.min() >= 0.0 and found.max() < np.inf):
        raise DataError("weights hold a negative, infinite or unknown value: each says how often a query counts, 0 or more")
    return (found, True) if found.ndim == 2 else (found[None], False)


def shaped(found: Floats, batched: bool) -> Floats:  # noqa: FBT001 # the second half of `weighing`'s answer
    """`found` [b, ...], without its first axis where the weights had none."""
    return found if batched else found[0]


def ratio(above: Floats, below: Floats, scale: Floats | float = 0.0) -> Floats:
    """`above` / `below`; NaN where `below` is not above rounding at that `scale`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > NOISE * scale, above / below, np.nan)


def grouped(
    weights: Floats, keys: npt.NDArray[np.generic], columns: Sequence[Floats | None], *, rows: Ints | None = None
) -> tuple[Floats, ...]:
    """For each column, its weighed sums over the rows of equal key, by rising key: float64 [b, g].

    Args:
        weights: float64 [b, n].
        keys: [r].
        columns: float64 [r] each; `None` = ones.
        rows: int64 [r], which of the n rows they are about; `None` = all, r = n.
    """
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    first = np.concatenate([[True], ranked[1:] != ranked[:-1]])
    # The first row of each group stands for it and the others are added to it: `reduceat` over groups of one takes several times
    # as long as a copy, and most groups are such.
    heads, tails = order[first], order[~first]
    counts = [np.take(weights, part if rows is None else rows[part], axis=1) for part in (heads, tails)]
    group = (np.cumsum(first) - 1)[~first]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    found = []
    for column in columns:
        head, tail = counts if column is None else (counts[0] * column[heads], counts[1] * column[tails])
        if len(tails):
            head = head.copy() if column is None else head
            head[:, group[starts]] += np.add.reduceat(tail, starts, axis=1)
        found.append(head)
    return tuple(found)
