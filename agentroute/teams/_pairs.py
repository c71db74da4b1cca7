"""Where a sum does not hold: effects of pairs of roles, and whether they foretell runs better."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.teams._additive import AdditiveLogit, Observed, held

__all__ = ["PairwiseLogit", "proven", "surely_better"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]

_SURELY: Final = 2.0
_RUNS_EACH: Final = 2
"""Runs for each effect of a pair below which nobody need ask whether pairs foretell better: they never surely do."""
_MOST: Final = 1_000
"""Parameters above which five folds of 5,000 runs take more than some ten seconds to fit."""


class PairwiseLogit(AdditiveLogit):
    """The additive model with one more effect for each pair of roles and their models, held toward 0.

    What a solver adds may hang on who plans for it. That takes many more runs to tell, and no knapsack finds the best
    assignment any more: it is for teams small enough to weigh every one.

    Args:
        levels: int64 [k], columns of each role: the models, and one more where the role is optional.
        modes: Number of modes.
        kinds: Number of kinds of task; 0 = one fixed map for all tasks.
        prior: float64 [k, m], prior means of theta; `None` = 0.
        ridge: Of theta, 1 / variance; `None` = told by the runs.
        kind_ridge: Of phi; likewise.
        pair_ridge: Of the effects of pairs.
        few: Runs of a (role, model) below which nothing is said of it.

    Raises:
        ConfigError: An option is out of range, or the prior is of another shape.
    """

    def __init__(
        self,
        levels: Places,
        *,
        modes: int = 1,
        kinds: int = 0,
        prior: Floats | None = None,
        ridge: float | None = 1.0,
        kind_ridge: float | None = 4.0,
        pair_ridge: float = 4.0,
        few: int = 10,
    ) -> None:
        super().__init__(levels, modes=modes, kinds=kinds, prior=prior, ridge=ridge, kind_ridge=kind_ridge, few=few)
        self.pair_ridge = held(pair_ridge, "pair_ridge")

    @cached_property
    def _pairs(self) -> list[tuple[int, int]]:
        return list(itertools.combinations(range(self._roles), 2))

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self._end + len(self._pairs) * self.width**2

    def _design(self, columns: Places, modes: Places, kinds: Floats) -> Floats:
        design = super()._design(columns, modes, kinds)
        rows = np.arange(len(columns))
        for place, (a, b) in enumerate(self._pairs):
            design[rows, self._end + place * self.width**2 + columns[:, a] * self.width + columns[:, b]] = 1.0
        return design

    def _penalty(self, ridge: float, kind_ridge: float) -> tuple[Floats, Floats]:
        precision, mean = super()._penalty(ridge, kind_ridge)
        precision[self._end :] = self.pair_ridge
        return precision, mean

    @property
    def free(self) -> int:
        """Effects of pairs that the data are to tell, with one of each group given by the others."""
        return sum(int((self.levels[a] - 1) * (self.levels[b] - 1)) for a, b in self._pairs)

    def pairs(self, coef: Floats | None = None) -> Floats:
        """What each pair of models adds in each pair of roles, float64 [k (k - 1) / 2, m, m]: roles (0, 1), (0, 2) and so on."""
        coef = self._fitted() if coef is None else coef
        return coef[self._end :].reshape(-1, self.width, self.width)


def proven(
    pairs: Callable[[], PairwiseLogit], plain: Callable[[], AdditiveLogit], seen: Observed, *, seed: int = 0
) -> tuple[PairwiseLogit | None, str]:
    """A fitted model of pairs, if it foretells surely better than a sum; else `None`, and why not.

    Args:
        pairs: Makes the model of pairs.
        plain: Makes the sum.
        seen: The runs.
        seed: Of the parts into which runs are cut.
    """
    made, n = pairs(), len(seen)
    if n < _RUNS_EACH * made.free:
        return None, f"{n:,} runs are too few for the {made.free:,} effects of pairs"
    if made.size > _MOST:
        return None, f"{made.free:,} effects of pairs are too many to learn"
    if not surely_better(pairs, plain, seen, seed=seed):
        return None, "effects of pairs do not surely foretell runs better"
    made.fit(seen).loose()
    return made, ""


def surely_better(
    one: Callable[[], AdditiveLogit], other: Callable[[], AdditiveLogit], seen: Observed, *, folds: int = 5, seed: int = 0
) -> bool:
    """Whether one model foretells runs that it has not seen surely better than another: by log loss, two standard errors apart.

    Args:
        one: Makes the model that must prove itself.
        other: Makes the one that is used otherwise.
        seen: At least as many runs as folds, or nothing is sure.
        folds: Parts of the runs.
        seed: Of the parts.
    """
    n = len(seen)
    if n < 2 * folds:
        return False
    fold = np.random.default_rng(seed).permutation(n) % folds
    gain = np.zeros(n)
    for part in range(folds):
        here, rest = np.flatnonzero(fold == part), np.flatnonzero(fold != part)
        train, held = seen.take(rest), seen.take(here)
        gain[here] = _loss(other().fit(train), held) - _loss(one().fit(train), held)
    spread = float(gain.std(ddof=1)) / math.sqrt(n)
    return float(gain.mean()) > _SURELY * spread


def _loss(model: AdditiveLogit, seen: Observed) -> Floats:
    logit = model.expected(seen.columns, seen.modes, seen.kinds[:, : model.kinds])
    return np.asarray(np.logaddexp(0.0, logit) - seen.success * logit)
