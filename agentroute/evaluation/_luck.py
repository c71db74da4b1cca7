"""How much of an oracle is luck, and how much is models that know different things."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.evaluation._laps import means_of

__all__ = ["dependence", "independent_oracle", "top_two"]

Floats: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = npt.NDArray[np.int64]

_SHUFFLES = 16
"""Their mean has a sixteenth of the variance of one: far below that of the oracle itself."""


def dependence(quality: Floats, strata: Rows) -> tuple[Floats, Callable[[Floats], Floats]]:
    """Mean correlation of two models' scores within a kind of query: columns, and what follows from their means (see `Sheet`).

    Hard questions are hard for most models, so that real scores correlate; scores that do not are what independent coin flips
    look like. Coins that land better in an easy task go together over all tasks, so that each kind's means are taken off first.
    Models of one constant score are left out; with fewer than two others it is NaN. In a resample each pair weighs by the
    product of its spreads.

    Args:
        quality: float64 [n, m].
        strata: int64 [n], the kind of each query.
    """
    apart = quality - means_of(quality, strata)
    spread = apart.std(axis=0)
    varied = spread > 1e-9
    scaled = apart[:, varied] / spread[varied]
    m = scaled.shape[1]
    total = scaled.sum(axis=1, keepdims=True)
    columns = np.concatenate([scaled, scaled**2, total, total**2], axis=1)

    def rule(means: Floats) -> Floats:
        first, second, total, square = np.split(means, [m, 2 * m, 2 * m + 1], axis=1)
        variance = np.maximum(second - first**2, 0.0)
        # var(sum) = sum of variances + sum of covariances: no pair has to be looked at.
        both = (square - total**2) - variance.sum(axis=1, keepdims=True)
        scale = np.sqrt(variance).sum(axis=1, keepdims=True) ** 2 - variance.sum(axis=1, keepdims=True)
        return np.asarray(np.divide(both, scale, out=np.full(both.shape, np.nan), where=scale > 1e-9), np.float64)

    return columns, rule


def independent_oracle(quality: Floats, strata: Rows, *, seed: int = 0) -> float:
    """Mean best score if, within each task, every model were right on queries of its own: what luck alone makes of an oracle.

    Each model's scores are shuffled within the task; for right and wrong answers the expectation is 1 - prod(1 - mean).

    Args:
        quality: float64 [n, m].
        strata: int64 [n], the task of each query.
        seed: Of the shuffles.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(strata, kind="stable")
    ordered, at = quality[order], strata[order].astype(np.float64)
    total = 0.0
    for _ in range(_SHUFFLES):
        best = np.full(len(quality), -np.inf)
        for column in ordered.T:
            # A random number below 1 beside the stratum's: sorting moves rows within their stratum only.
            best = np.maximum(best, column[np.argsort(at + rng.random(len(at)))])
        total += float(best.mean())
    return total / _SHUFFLES


def top_two(quality: Floats) -> tuple[int, int]:
    """The columns of the two models whose better answers are best together, the better model first; of one model twice that."""
    m = quality.shape[1]
    means = quality.mean(axis=0)
    best, found = -1.0, (0, 0)
    for i in range(m):
        for j in range(i + 1, m):
            together = float(np.maximum(quality[:, i], quality[:, j]).mean())
            if together > best:
                best, found = together, (i, j)
    return found if means[found[0]] >= means[found[1]] else (found[1], found[0])
