"""Metrics of which model was chosen for which query."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError
from agentroute.evaluation.metrics._arrays import Floats, Ints, Weights, array, ratio, shaped, weighing


def realised(values: npt.ArrayLike, chosen: npt.ArrayLike) -> Floats:
    """What each query scored, cost or took with the model that was chosen for it.

    Args:
        values: float64 [n, m], any unit; NaN = not observed.
        chosen: int64 [n], the column of the chosen model; or float64 [n, m], the chance of each model, rows adding up to 1.

    Returns:
        float64 [n], `values[i, chosen[i]]`, or the expectation Σ_j chosen[i, j] values[i, j]; NaN where a model that may be
            chosen was not observed.

    Raises:
        DataError: The shapes do not fit, a column does not exist, or chances do not add up to 1.

    >>> realised([[0.25, 1.0], [0.5, 0.0]], [1, 0]).tolist()
    [1.0, 0.5]
    """
    matrix = array("values", values, [2], complete=False)
    picks = np.asarray(chosen)
    if picks.ndim == 2:
        chances = _chances("chosen", picks, matrix.shape)
        # A model that is never chosen need not have been observed.
        return np.asarray((chances * np.where(chances > 0.0, matrix, 0.0)).sum(axis=1))
    columns = _columns("chosen", picks, matrix.shape)
    return np.asarray(np.take_along_axis(matrix, columns[:, None], axis=1)[:, 0])


def mean(values: npt.ArrayLike, *, weights: Weights = None) -> Floats:
    """Σ w v / Σ w over what was observed: mean quality, mean cost in USD a query, mean seconds.

    Args:
        values: float64 [n] or [n, c], NaN = not observed.
        weights: float64 [n] or [b, n], how often each query counts.

    Returns:
        float64 [], or [c]; NaN where nothing was observed.

    >>> float(mean([1.0, float("nan"), 0.0], weights=[3, 1, 1]))
    0.75
    """
    given = array("values", values, [1, 2], complete=False)
    columns = given.reshape(len(given), -1)
    counted, batched = weighing(weights, len(given))
    seen = np.isfinite(columns)
    if seen.all():
        found = ratio(counted @ columns, counted.sum(axis=1, keepdims=True))
    else:
        found = ratio(counted @ np.where(seen, columns, 0.0), counted @ seen.astype(np.float64))
    return shaped(found if given.ndim == 2 else found[:, 0], batched)


def mu(quality: npt.ArrayLike, chosen: npt.ArrayLike, *, weights: Weights = None) -> Floats:
    """RouterEval's μ: mean quality of the chosen answers.

    Args:
        quality: float64 [n, m], complete.
        chosen: int64 [n] columns, or float64 [n, m] chances.
        weights: float64 [n] or [b, n], how often each query counts.

    Source: Huang et al. 2025, RouterEval, arXiv:2503.10657.

    >>> float(mu([[0, 1], [1, 0]], [1, 1]))
    0.5
    """
    return mean(realised(array("quality", quality, [2]), chosen), weights=weights)


def vr(quality: npt.ArrayLike, chosen: npt.ArrayLike, reference: float, *, weights: Weights = None) -> Floats:
    """RouterEval's V_R: μ as a share of a reference model's score on the same benchmark (theirs is of the class of GPT-4).

    Args:
        quality: float64 [n, m], complete.
        chosen: int64 [n] columns, or float64 [n, m] chances.
        reference: The reference model's mean quality, above 0.
        weights: float64 [n] or [b, n], how often each query counts.

    Raises:
        ConfigError: `reference` is not above 0.

    Source: Huang et al. 2025, RouterEval, arXiv:2503.10657.

    >>> float(vr([[0, 1], [1, 0]], [1, 1], 0.8))
    0.625
    """
    if not (math.isfinite(reference) and reference > 0.0):
        raise ConfigError(f"reference={reference!r}: give the reference model's mean quality, above 0")
    return mu(quality, chosen, weights=weights) / reference


def vb(quality: npt.ArrayLike, chosen: npt.ArrayLike, *, weights: Weights = None) -> Floats:
    """RouterEval's V_B: μ as a share of the mean quality of the best single model on these very queries.

    The best single model is looked up after the fact, in each resample anew, which favours it; NaN where it scores 0.
    For a model that was chosen beforehand see `gap_recovered`.

    Args:
        quality: float64 [n, m], complete.
        chosen: int64 [n] columns, or float64 [n, m] chances.
        weights: float64 [n] or [b, n], how often each query counts.

    Source: Huang et al. 2025, RouterEval, arXiv:2503.10657.

    >>> float(vb([[0, 1], [1, 1]], [0, 1]))
    0.5
    """
    matrix = array("quality", quality, [2])
    counted, batched = weighing(weights, len(matrix))
    return shaped(ratio(counted @ realised(matrix, chosen), (counted @ matrix).max(axis=1)), batched)


def entropy(shares: npt.ArrayLike, *, weights: Weights = None) -> Floats:
    """RouterEval's E_p: mean over queries of -Σ_j p_j log2 p_j, in bits, of the chances that a router gives to the models.

    0 = every query has one certain model; log2 m = every query has all models alike. It says how undecided a router is about
    one query, not how evenly it uses the models, and means nothing for chances that are a softmax of near-equal scores.

    Args:
        shares: float64 [n, m], rows adding up to 1.
        weights: float64 [n] or [b, n], how often each query counts.

    Raises:
        DataError: A chance is negative, or a row does not add up to 1.

    Source: Huang et al. 2025, RouterEval, arXiv:2503.10657.

    >>> float(entropy([[0.5, 0.5], [1, 0]]))
    0.5
    """
    given = array("shares", shares, [2])
    chances = _chances("shares", given, given.shape)
    bits = chances * np.log2(chances, out=np.zeros_like(chances), where=chances > 0.0)
    return mean(-bits.sum(axis=1), weights=weights)


def oracle_mix(quality: npt.ArrayLike, p: float, *, weights: Weights = None) -> Floats:
    """RouterEval's r_o(p): mean quality when the best answer is chosen with chance p, and any model alike otherwise.

    Args:
        quality: float64 [n, m], complete.
        p: In [0, 1].
        weights: float64 [n] or [b, n], how often each query counts.

    Raises:
        ConfigError: `p` is outside [0, 1].

    Source: Huang et al. 2025, RouterEval, arXiv:2503.10657.

    >>> float(oracle_mix([[0, 1], [1, 1]], 0.5))
    0.875
    """
    if not 0.0 <= p <= 1.0:
        raise ConfigError(f"p={p!r}: give a chance between 0 and 1")
    matrix = array("quality", quality, [2])
    return mean(p * matrix.max(axis=1) + (1.0 - p) * matrix.mean(axis=1), weights=weights)


def oracle_equivalent(quality: npt.ArrayLike, chosen: npt.ArrayLike, *, weights: Weights = None) -> Floats:
    """p̂ = (μ - random) / (oracle - random): the choices are as good as an oracle that listens with that chance.

    Solves `oracle_mix(quality, p) = mu(quality, chosen)`. Below 0 = worse than drawing models at random; NaN = all models
    answer alike.

    Args:
        quality: float64 [n, m], complete.
        chosen: int64 [n] columns, or float64 [n, m] chances.
        weights: float64 [n] or [b, n], how often each query counts.

    Source: after r_o(p) of Huang et al. 2025, RouterEval, arXiv:2503.10657.

    >>> float(oracle_equivalent([[0, 1], [0, 1]], [1, 1]))
    1.0
    """
    matrix = array("quality", quality, [2])
    return _recovered(matrix, realised(matrix, chosen), matrix.mean(axis=1), weights)


def gap_recovered(quality: npt.ArrayLike, chosen: npt.ArrayLike, single: npt.ArrayLike, *, weights: Weights = None) -> Floats:
    """Share of the way from the best single model to the oracle that the choices cover.

    (μ - q_single) / (q_oracle - q_single), where the oracle takes each query's best answer. Below 0 = worse than the single
    model; NaN = the single model is as good as the oracle.

    Args:
        quality: float64 [n, m], complete.
        chosen: int64 [n] columns, or float64 [n, m] chances.
        single: The column of the best single model, chosen on the training part; or int64 [n], one for each query, where
            folds have their own.
        weights: float64 [n] or [b, n], how often each query counts.

    >>> float(gap_recovered([[0, 1], [1, 0], [0, 1], [1, 0]], [1, 0, 1, 1], 1))
    0.5
    """
    matrix = array("quality", quality, [2])
    columns = np.asarray(single)
    columns = np.full(len(matrix), columns) if columns.ndim == 0 else columns
    if columns.ndim != 1:
        raise DataError(f"single has the shape {columns.shape}: give one column, or one for each query")
    return _recovered(matrix, realised(matrix, chosen), realised(matrix, columns), weights)


def regret(
    quality: npt.ArrayLike,
    chosen: npt.ArrayLike,
    *,
    cost: npt.ArrayLike | None = None,
    willingness_to_pay: float = math.inf,
    weights: Weights = None,
) -> Floats:
    """Mean utility that was left on the table: that of each query's best model less that of the chosen one, 0 or more.

    Utility is quality - cost / willingness to pay, as in `UtilityPolicy`; with the default it is quality alone.

    Args:
        quality: float64 [n, m], complete.
        chosen: int64 [n] columns, or float64 [n, m] chances.
        cost: float64 [n, m], USD a call, complete; needed when `willingness_to_pay` is finite.
        willingness_to_pay: USD that one unit of quality is worth, above 0.
        weights: float64 [n] or [b, n], how often each query counts.

    Raises:
        ConfigError: `willingness_to_pay` is not above 0, or it is finite and there is no cost.

    >>> float(regret([[0, 1], [1, 1]], [0, 1], cost=[[0, 2], [0, 2]], willingness_to_pay=4))
    0.5
    """
    if not willingness_to_pay > 0.0:
        raise ConfigError(f"willingness_to_pay={willingness_to_pay!r}: give USD for one unit of quality, above 0")
    utility = array("quality", quality, [2])
    if math.isfinite(willingness_to_pay):
        if cost is None:
            raise ConfigError("a finite willingness_to_pay weighs quality against cost: give the costs too")
        utility = utility - array("cost", cost, [2], like=utility.shape) / willingness_to_pay
    return mean(utility.max(axis=1) - realised(utility, chosen), weights=weights)


def _recovered(quality: Floats, reached: Floats, start: Floats, weights: Weights) -> Floats:
    counted, batched = weighing(weights, len(quality))
    sums = counted @ np.stack([reached - start, quality.max(axis=1) - start, np.abs(quality).max(axis=1)], axis=1)
    return shaped(ratio(sums[:, 0], sums[:, 1], sums[:, 2]), batched)


def _chances(name: str, given: npt.NDArray[np.generic], shape: tuple[int, ...]) -> Floats:
    chances = array(name, given, [2], like=shape)
    off = np.abs(chances.sum(axis=1) - 1.0) > 1e-6
    if (chances < 0.0).any() or off.any():
        row = int(np.argmax(off | (chances < 0.0).any(axis=1)))
        raise DataError(f"{name}: row {row} is no set of chances, 0 or more, that add up to 1: it is {chances[row].tolist()}")
    return chances


def _columns(name: str, given: npt.NDArray[np.generic], shape: tuple[int, ...]) -> Ints:
    if given.shape != shape[:1] or given.dtype.kind not in "iu":
        raise DataError(
            f"{name} is {given.dtype} of the shape {given.shape}: give whole numbers of columns ({shape[0]},), or chances {shape}"
        )
    columns = given.astype(np.int64)
    if columns.min() < 0 or columns.max() >= shape[1]:
        raise DataError(f"{name} names the columns {columns.min()} to {columns.max()}: there are 0 to {shape[1] - 1}")
    return columns
