"""The most likely parameters of a logistic regression with a ridge, by Newton's method."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import DataError

__all__ = ["logistic", "newton"]

Floats: TypeAlias = npt.NDArray[np.float64]

_SMALLEST: Final = 1e-6
"""Part of a Newton step below which only rounding stands in its way."""
_STEPS: Final = 200  # some ten are usual


def logistic(logit: Floats) -> Floats:
    """Chances from logits."""
    found: Floats = 1.0 / (1.0 + np.exp(-np.clip(logit, -40.0, 40.0)))
    return found


def newton(
    design: Floats, target: Floats, precision: Floats, mean: Floats, *, start: Floats | None = None
) -> tuple[Floats, Floats]:
    """The most likely parameters, float64 [p], and the inverse curvature there, float64 [p, p].

    Args:
        design: float64 [n, p].
        target: float64 [n] in [0, 1].
        precision: float64 [p], of each parameter's normal prior, above 0.
        mean: float64 [p], of the same.
        start: float64 [p], where to begin; `None` = at the mean.

    Raises:
        DataError: Numbers are so large, or precisions so small, that no step can be told.
    """

    def posterior(coef: Floats) -> float:
        logit = design @ coef
        return float(target @ logit - np.logaddexp(0.0, logit).sum() - precision @ (coef - mean) ** 2 / 2.0)

    coef = (mean if start is None else start).copy()
    reached = posterior(coef)
    for _ in range(_STEPS):
        chance = logistic(design @ coef)
        weight = np.maximum(chance * (1.0 - chance), 1e-9)
        slope = design.T @ (target - chance) - precision * (coef - mean)
        scaled = design * np.sqrt(weight)[:, None]
        hessian = scaled.T @ scaled + np.diag(precision)  # of an array with itself, which takes half the time
        try:
            step = np.linalg.solve(hessian, slope)
        except np.linalg.LinAlgError:
            break
        if not np.isfinite(step).all():
            break
        # A whole step may overshoot, and go back and forth for ever: the density is concave, so that some part of it leads up.
        size = 1.0
        while (now := posterior(coef + size * step)) < reached + 1e-4 * size * float(slope @ step) and size > _SMALLEST:
            size /= 2.0
        rounding = size <= _SMALLEST
        if not rounding:
            coef, reached = coef + size * step, now
        if rounding or size * np.abs(step).max() < 1e-8:
            return coef, np.asarray(np.linalg.inv(hessian), np.float64)
    msg = "what models add cannot be told from these numbers: give a ridge near 1, and prior means of a few logits"
    raise DataError(msg)
