"""When a log does not tell what a policy would have scored, and what to do about it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from agentroute.evaluation._logged import LoggedDecisions

__all__ = ["LEAST_COVERAGE", "LEAST_ESS", "Evidence", "Refusal", "effective_size", "refusal_of"]

Floats = npt.NDArray[np.float64]
LEAST_ESS = 100.0
LEAST_COVERAGE = 0.9
_ROUNDING = 1e-6
"""By which chances may fall short of a sum of 1 without meaning anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why the log does not tell what the target would have scored; falsy, and without a figure for it.

    Attributes:
        kind: `"coverage"`: the log never tried much of what the target does. `"ess"`: it did, but too rarely. `"propensity"`: the
            logged propensities cannot be right.
        reason: What is wrong and what to do, for people.
        ess: Effective sample size; 100 are needed.
        coverage: Share of the target's choices that the log says something about; 0.9 is needed.
        rows: Decisions in the log.
        rows_needed: About how many rows of such a log would do; `None` = more of the same would not help.
    """

    kind: Literal["coverage", "ess", "propensity"]
    reason: str
    ess: float
    coverage: float
    rows: int
    rows_needed: int | None

    def __bool__(self) -> bool:
        """`False`: there is no estimate."""
        return False

    def __str__(self) -> str:
        """The reason."""
        return self.reason


class Evidence:
    """How much of a log speaks for a target.

    Attributes:
        weights: float64 [n], importance weights, not clipped.
        groups: int64 [n], the number of each row's group, 0 to g - 1.
        fixed: bool [n], where nothing was left to chance, so that no other model could have been picked.
        unseen: float64 [n, m + 1], the target's chance of each model that is known to have had none on the row, 0 for the others.
            The last column is for models that the log does not know.
        missing: float64 [n], an estimate of what else had no chance on rows of which it is not known which models had: its mean
            is free of bias, and may be below 0 by chance; 0 elsewhere.
        lacking: The mean of what is known to be unseen.
        coverage: Share of the target's choices that the log says something about.
        ess: Effective sample size, in groups.
        error: Standard error of the mean weight.
    """

    def __init__(self, chances: Floats, logged: LoggedDecisions, groups: npt.NDArray[np.int64]) -> None:
        own = chances[np.arange(len(logged)), logged.action]
        self.weights = own / logged.propensity
        self.groups = groups
        self.fixed = logged.propensity > 1.0 - _ROUNDING
        possible = np.ones(chances.shape, bool) if logged.support is None else logged.support
        # What could be picked elsewhere could not be picked here.
        possible = possible & (~self.fixed[:, None] | (np.arange(chances.shape[1]) == logged.action[:, None]))
        unknown_models = 1.0 - chances.sum(axis=1)
        unknown_models[unknown_models < _ROUNDING] = 0.0
        self.unseen = np.column_stack([np.where(possible, 0.0, chances), unknown_models])
        # The expected weight of a row is the target's chance of all that could be picked on it.
        unknown = np.zeros(len(logged), bool) if logged.support is not None else ~self.fixed
        self.missing = np.where(unknown, 1.0 - unknown_models - self.weights, 0.0)
        self.lacking = float(self.unseen.sum(axis=1).mean())
        self.coverage = 1.0 - self.lacking - max(float(self.missing.mean()), 0.0)
        self.ess = effective_size(self.weights, groups)
        off = np.bincount(groups, self.weights - self.weights.mean())
        self.error = math.sqrt(float(off @ off)) / len(logged)


def effective_size(weights: Floats, groups: npt.NDArray[np.int64]) -> float:
    """How many groups of equal weight have the same relative variance (Kong 1992); 0 where all weights are 0."""
    sums = np.bincount(groups, weights)
    squares = float(sums @ sums)
    return float(sums.sum()) ** 2 / squares if squares else 0.0


def refusal_of(evidence: Evidence, logged: LoggedDecisions) -> Refusal | None:
    """Why there can be no number, if so."""
    n, mean = len(logged), float(evidence.weights.mean())
    ess, coverage, error = evidence.ess, evidence.coverage, evidence.error
    refusal = partial(Refusal, ess=ess, coverage=coverage, rows=n)
    # The mean weight is known beforehand: the coverage, at most 1. Five standard errors and a tenth beside it is no luck.
    excess = max(mean - coverage, 0.0) if logged.support is None else abs(mean - coverage)
    if excess > max(0.1, 5 * error):
        reason = (
            f"the importance weights average {mean:.2f} instead of {coverage:.2f}, so that the logged propensities cannot be "
            "right: log the probability with which the policy picked that model for that query, before any filter or failover"
        )
        return refusal(kind="propensity", reason=reason, rows_needed=None)
    # A mean weight of few rows falls short of 1 by chance too; then more rows help.
    estimated = logged.support is None and not evidence.fixed.all()
    by_chance = estimated and coverage < LEAST_COVERAGE <= min(coverage + 2 * error, 1.0 - evidence.lacking)
    lasting = coverage < LEAST_COVERAGE and not by_chance
    needed = math.ceil(n * LEAST_ESS / ess) if 0 < ess < LEAST_ESS and not lasting else 0
    if by_chance:
        needed = max(needed, math.ceil(n * (2 * error / (1 - LEAST_COVERAGE)) ** 2))
    reasons = [*_uncovered(evidence, by_chance=by_chance), *_thin(evidence)]
    if needed:
        reasons.append(f"log about {needed} rows in all, or explore more")
    if not reasons:
        return None
    kind: Literal["coverage", "ess"] = "ess" if ess < LEAST_ESS and not lasting else "coverage"
    return refusal(kind=kind, reason="; ".join(reasons), rows_needed=needed or None)


def _uncovered(evidence: Evidence, *, by_chance: bool) -> list[str]:
    if evidence.coverage >= LEAST_COVERAGE:
        return []
    fixed = evidence.fixed
    reasons = [f"the log covers {evidence.coverage:.0%} of what the target would do, and {LEAST_COVERAGE:.0%} are needed"]
    if by_chance:
        reasons.append(f"that is an estimate, +-{2 * evidence.error:.0%}: say which models could have been picked (support)")
    elif fixed.all():
        reasons.append(
            "nothing was left to chance (each propensity is 1), so that only rows on which the target agrees count: "
            "let a share of the traffic go to a random model and log its propensity, or collect answers of all models"
        )
    else:
        if fixed.any():
            reasons.append(
                f"{fixed.mean():.0%} of the rows left nothing to chance (propensity 1): judge the others, with logged.take"
            )
        reasons.append("give each model a chance on every query (epsilon / models), or collect answers of all models")
    return reasons


def _thin(evidence: Evidence) -> list[str]:
    if evidence.ess >= LEAST_ESS:
        return []
    rows, groups = len(evidence.groups), int(evidence.groups.max()) + 1
    held = "" if groups == rows else f" in {groups} groups"
    worth = f"worth {evidence.ess:.0f} of the target's own (effective sample size)"
    reasons = [f"its {rows} rows{held} are {worth}, and {LEAST_ESS:.0f} are needed"]
    if effective_size(evidence.weights, np.arange(rows)) >= LEAST_ESS:
        reasons.append("rows of one group (one question, if `groups` says nothing else) count together: see off_policy")
    return reasons
