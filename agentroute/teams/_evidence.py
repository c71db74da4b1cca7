"""How strongly effects are to be held, told by the runs themselves: fits with several ridges, each weighed by its evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.teams._newton import newton

__all__ = ["FIRST", "Fit", "fitted", "mixed", "tried"]

Floats: TypeAlias = npt.NDArray[np.float64]
Penalty: TypeAlias = Callable[[float, float], tuple[Floats, Floats]]
"""Precision and mean of each parameter's prior, each float64 [p], by the ridge of effects and that of what is of one kind."""

FIRST: Final = (1.0, 4.0)
"""Where the search begins, and what holds effects of which no run tells anything: ridges of effects, and of those by kind."""
_STEP: Final = 4.0  # standard deviations are tried by halves
_RANGE: Final = (1.0 / 16.0, 1024.0)  # standard deviations of 4 to 1/32 logits
_UNLIKELY: Final = 6.0
"""Natural logarithm of how many times less likely than the best a ridge is after which none further out is tried."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """What runs tell where effects are held so strongly.

    Attributes:
        ridges: Of effects, and of those in one kind of task.
        coef: float64 [p], the most likely parameters.
        covariance: float64 [p, p], of Laplace's approximation.
        evidence: Natural logarithm of how likely the runs are by these ridges.
    """

    ridges: tuple[float, float]
    coef: Floats
    covariance: Floats
    evidence: float


def fitted(design: Floats, target: Floats, penalty: Penalty, ridges: tuple[float, float], start: Floats | None = None) -> Fit:
    """The fit with some ridges, and its evidence by Laplace's approximation.

    Args:
        design: float64 [n, p].
        target: float64 [n] in [0, 1].
        penalty: What ridges make of the parameters' prior.
        ridges: Of effects, and of those in one kind of task.
        start: float64 [p], where to begin.

    Raises:
        DataError: No fit can be told from these numbers.
    """
    precision, mean = penalty(*ridges)
    coef, covariance = newton(design, target, precision, mean, start=start)
    logit = design @ coef
    likelihood = target @ logit - np.logaddexp(0.0, logit).sum() - precision @ (coef - mean) ** 2 / 2.0
    volume = (np.log(precision).sum() + np.linalg.slogdet(covariance)[1]) / 2.0
    return Fit(ridges=ridges, coef=coef, covariance=covariance, evidence=float(likelihood + volume))


def tried(
    design: Floats, target: Floats, penalty: Penalty, *, ridge: float | None, kind_ridge: float | None, kinds: int
) -> list[Fit]:
    """Fits with all ridges that are likely enough to matter: first of effects, then, with the best of these, of kinds.

    Args:
        design: float64 [n, p].
        target: float64 [n] in [0, 1].
        penalty: What ridges make of the parameters' prior.
        ridge: Of effects, where somebody gave it; `None` = told by the runs.
        kind_ridge: Of effects in one kind of task, likewise.
        kinds: Number of kinds; without any there is nothing to tell of `kind_ridge`.

    Raises:
        DataError: No fit can be told from these numbers.
    """
    first = (FIRST[0] if ridge is None else ridge, FIRST[1] if kind_ridge is None else kind_ridge)
    found = [fitted(design, target, penalty, first)]
    for which, given in enumerate((ridge, kind_ridge)):
        if given is not None or (which == 1 and not kinds):
            continue
        middle = max(found, key=lambda one: one.evidence)
        for step in (_STEP, 1.0 / _STEP):
            last, best = middle, middle.evidence
            while last.evidence > best - _UNLIKELY:
                ridges = (last.ridges[0] * step, last.ridges[1]) if which == 0 else (last.ridges[0], last.ridges[1] * step)
                if not _RANGE[0] <= ridges[which] <= _RANGE[1]:
                    break
                last = fitted(design, target, penalty, ridges, last.coef)
                best = max(best, last.evidence)
                found.append(last)
    return found


def mixed(found: Sequence[Fit]) -> tuple[Floats, Floats]:
    """Mean, float64 [p], and covariance, float64 [p, p], of several fits, each as likely as its evidence says.

    What is not known of the ridge is so in the covariance: the best ridge alone would be too sure of few runs.

    Source: MacKay 1992, Bayesian Interpolation, Neural Computation 4, for the evidence of a ridge; Hoeting et al. 1999, Bayesian
    Model Averaging: A Tutorial, Statistical Science 14, for means and variances over several.
    """
    if len(found) == 1:
        return found[0].coef, found[0].covariance
    evidence = np.array([one.evidence for one in found])
    weights = np.exp(evidence - evidence.max())
    weights /= weights.sum()
    mean: Floats = sum((weight * one.coef for weight, one in zip(weights, found, strict=True)), np.zeros_like(found[0].coef))
    covariance = np.zeros_like(found[0].covariance)
    for weight, one in zip(weights, found, strict=True):
        away = one.coef - mean
        covariance += weight * (one.covariance + np.outer(away, away))
    return mean, covariance
