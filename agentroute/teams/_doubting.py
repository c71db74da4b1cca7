"""Whether runs go with a sum of effects: a test of all effects of pairs at once that holds in large teams, too."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.teams._newton import logistic, newton

__all__ = ["doubt"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]

_DRAWS, _BATCH = 400, 40
_ENOUGH: Final = 10
"""Draws as far out as the runs after which there is no doubt left to look for."""
_STEPS, _SMALLEST = 12, 1e-2
"""Of refitting a draw: some three steps are usual, and hundredths of a logit are lost in the residuals' noise."""
_ALONE: Final = 0.05
"""Part of a run's own that is left in its residual at least."""


def doubt(
    columns: Places,
    design: Floats,
    target: Floats,
    precision: Floats,
    mean: Floats,
    coef: Floats,
    covariance: Floats,
    *,
    seed: int = 0,
) -> float:
    """A p-value of the sum of effects: small = what a model adds hangs on the other roles' models.

    The runs' residuals are added up over each pair of (role, model). What the squares of these sums come to, as part of the
    residuals' own squares, is compared with what it comes to in runs drawn from a sum of effects, each refitted as the runs were:
    a score test of the variance of all effects of pairs at once, with a parametric bootstrap. The draws come from chances that
    are as far apart as those of runs that the fit has not seen: fitted ones are too far apart where there are few runs for each
    effect, so that residuals of draws from them would be too small, and any log of a large team would look doubtful. Drawing
    ends when there is nothing left to doubt.

    Args:
        columns: int64 [n, k], the column of each role's model.
        design: float64 [n + s, p], of the runs, and of s scores of roles, which are kept as they are.
        target: float64 [n + s] in [0, 1].
        precision: float64 [p], of each parameter's prior.
        mean: float64 [p], of the same.
        coef: float64 [p], as fitted.
        covariance: float64 [p, p], likewise.
        seed: Of the draws.

    Source: Lin 1997, Variance component testing in generalised linear models with random effects, Biometrika 84; Rad and Maleki
    2020, A scalable estimate of the out-of-sample prediction error via approximate leave-one-out, JRSS B 82; Besag and Clifford
    1991, Sequential Monte Carlo p-values, Biometrika 78, for the end of drawing.
    """
    n = len(columns)
    likeness = _likeness(columns)
    logit = design @ coef
    chance = logistic(logit)
    weight = np.maximum(chance * (1.0 - chance), 1e-9)
    spread = np.einsum("np,np->n", design @ covariance, design)
    left = np.maximum(1.0 - weight * spread, _ALONE)[:n]
    unseen = logit[:n] - spread[:n] * (target - chance)[:n] / left
    told = likeness((target - chance)[:n])
    [shift, slope], _ = newton(np.stack([np.ones(n), unseen], axis=1), target[:n], np.full(2, 1e-2), np.array([0.0, 1.0]))
    null = logistic(shift + min(max(slope, 0.0), 1.0) * logit[:n])
    # The curvature is that at the chances of the draws: it serves for all of them.
    at = np.concatenate([null, chance[n:]])
    inverse = np.linalg.inv((design * np.maximum(at * (1.0 - at), 1e-9)[:, None]).T @ design + np.diag(precision))
    rng = np.random.default_rng(seed)
    whole = np.isin(target[:n], (0.0, 1.0)).all()
    above = done = 0
    while done < _DRAWS and above < _ENOUGH:
        drawn = np.repeat(target[:, None], _BATCH, axis=1)
        # Fractions of success scatter less than coins: their own residuals, with random signs, are their null.
        signs = rng.choice([-1.0, 1.0], (n, _BATCH)) if not whole else None
        own = ((target[:n] - null) / np.sqrt(left))[:, None]
        drawn[:n] = rng.random((n, _BATCH)) < null[:, None] if signs is None else null[:, None] + signs * own
        known = np.repeat(coef[:, None], _BATCH, axis=1)
        for _ in range(_STEPS):
            step = inverse @ (design.T @ (drawn - logistic(design @ known)) - precision[:, None] * (known - mean[:, None]))
            known += step
            if np.abs(step).max() < _SMALLEST:
                break
        residuals = (drawn - logistic(design @ known))[:n]
        above += sum(likeness(one) >= told for one in residuals.T)
        done += _BATCH
    return (1 + above) / (1 + done)


def _likeness(columns: Places) -> Callable[[Floats], float]:
    """How alike residuals are, float64 [n], where two roles have the same models; 0 = as good as nothing is left."""
    width = int(columns.max()) + 1
    both = itertools.combinations(range(columns.shape[1]), 2)
    cells = np.stack([columns[:, a] * width + columns[:, b] + place * width**2 for place, (a, b) in enumerate(both)], axis=1)
    flat, pairs = cells.ravel(), cells.shape[1]

    def likeness(residuals: Floats) -> float:
        middle = residuals - residuals.mean()
        sums = np.bincount(flat, weights=np.repeat(middle, pairs))
        return float(sums @ sums) / max(float(middle @ middle), 1e-12)

    return likeness
