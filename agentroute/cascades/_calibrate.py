"""The small numerics of post-hoc estimates: penalised logistic regression, recalibration, a shrunk covariance."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["factor_of", "logistic", "logit", "recalibration", "sigmoid"]

Floats = npt.NDArray[np.float64]

_STEPS = 50
_RIDGE = 1e-8
_SURE = 0.01  # how near to 0 or 1 a probability may come before its logit is taken


def sigmoid(x: npt.NDArray[Any]) -> Floats:
    """1 / (1 + e^-x), without overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * np.asarray(x, np.float64))


def logit(p: npt.ArrayLike) -> Floats:
    """ln(p / (1 - p)) of p clipped to [0.01, 0.99]."""
    clipped = np.clip(p, _SURE, 1.0 - _SURE)
    found: Floats = np.log(clipped / (1.0 - clipped))
    return found


def logistic(
    x: Floats, y: Floats, weight: Floats, penalty: Floats, *, offset: Floats | float = 0.0, start: Floats | None = None
) -> Floats:
    """Weights of a logistic regression with an L2 penalty, by Newton's method (iteratively reweighted least squares).

    Args:
        x: float64 [n, p].
        y: float64 [n] in [0, 1]; a graded value counts as y of a right and 1 - y of a wrong answer.
        weight: float64 [n], how often each row counts.
        penalty: float64 [p], inverse variance of the prior of each weight.
        offset: float64 [n], what the weights add to.
        start: float64 [p], where to begin; `None` = at 0.

    Returns:
        float64 [p], where weight · (cross-entropy) + ½ penalty · w² is least.
    """
    found = np.zeros(x.shape[1]) if start is None else start.copy()
    ridge = np.diag(penalty + _RIDGE)

    def loss(at: Floats) -> float:
        eta = x @ at + offset
        return float(weight @ (np.logaddexp(0.0, eta) - y * eta) + 0.5 * (penalty @ at**2))

    least = loss(found)
    for _ in range(_STEPS):
        expected = sigmoid(x @ found + offset)
        slope = x.T @ (weight * (expected - y)) + penalty * found
        bent = x * np.sqrt(weight * expected * (1.0 - expected))[:, None]
        step = np.linalg.solve(bent.T @ bent + ridge, slope)
        # The loss is convex: a step that is too long is halved until it goes downhill.
        for halvings in range(30):
            tried = found - step * 0.5**halvings
            now = loss(tried)
            if now <= least:
                break
        else:
            return found
        gained, found, least = least - now, tried, now
        if gained <= 1e-8 * max(1.0, abs(least)):
            break
    return found


def recalibration(eta: Floats, y: Floats, weight: Floats, strength: float) -> tuple[float, float]:
    """Slope and intercept that make logits fit what was observed (Platt 1999), drawn towards 1 and 0.

    The slope is never negative: a recalibration may flatten an estimate, not turn it over.

    Args:
        eta: float64 [n], logits.
        y: float64 [n] in [0, 1].
        weight: float64 [n].
        strength: Inverse variance of the prior.
    """
    if not len(eta):
        return 1.0, 0.0
    x = np.column_stack([eta, np.ones(len(eta))])
    slope, intercept = logistic(x, y, weight, np.full(2, strength), offset=eta)
    return max(1.0 + float(slope), 0.0), float(intercept)


def factor_of(moves: Floats) -> Floats:
    """A lower-triangular factor L with L Lᵀ = the covariance of some rows, shrunk towards its diagonal.

    Args:
        moves: float64 [n, m], n ≥ 2.

    Source: the shrinkage that has least expected squared error, Ledoit and Wolf 2004, with the diagonal as target as in Schäfer
    and Strimmer 2005 (Statistical Applications in Genetics and Molecular Biology 4, target D).
    """
    n, m = moves.shape
    centred = moves - moves.mean(axis=0)
    covariance = centred.T @ centred / n
    # Variance of each entry of the covariance, from the spread of the products that it is the mean of.
    spread = ((centred**2).T @ (centred**2) / n - covariance**2) / n
    off = ~np.eye(m, dtype=np.bool_)
    total = float((covariance[off] ** 2).sum())
    share = min(max(float(spread[off].sum()) / total, 0.0), 1.0) if total > 0.0 else 1.0
    shrunk = np.where(off, (1.0 - share) * covariance, covariance)
    found: Floats = np.linalg.cholesky(shrunk + max(_RIDGE, 1e-6 * float(np.trace(shrunk)) / m) * np.eye(m))
    return found
