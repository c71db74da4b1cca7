"""How likely a team is to succeed, as a sum of what each role's model adds: learned from the success of whole teams alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError, NotFittedError
from agentroute.teams._doubting import doubt
from agentroute.teams._evidence import FIRST, fitted, mixed, tried
from agentroute.teams._newton import logistic, newton
from agentroute.teams._telling import Effect, aliased

__all__ = ["AdditiveLogit", "Effect", "Observed", "held"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]

_SMALLEST: Final = 1e-6  # a ridge below which rounding decides
_LOOSE: Final = 0.01
"""What is left of the ridge where the runs are to speak nearly alone: effects are then held within some ten logits."""
_Z95: Final = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observed:
    """What was observed of n runs of a team with k roles, o modes and c kinds of task.

    Attributes:
        columns: int64 [n, k], the column of each role's model; an optional role that was left out has the last one.
        modes: int64 [n].
        kinds: float64 [n, c], how far each task is of each kind; a row adds up to at most 1, c may be 0.
        success: float64 [n] in [0, 1].
        scores: float64 [n, k] in [0, 1], of each role's own part; NaN = nobody has said.
        broken: How many of them broke off when a model failed, and count as failures though nobody has said so.
        silent: Positions of roles that had models, and never spoke in any run.
    """

    columns: Places
    modes: Places
    kinds: Floats
    success: Floats
    scores: Floats | None = None
    broken: int = 0
    silent: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Number of runs."""
        return len(self.success)

    def take(self, rows: npt.NDArray[np.int64]) -> Observed:
        """Some of the runs; how many of them broke off is not known."""
        scores = None if self.scores is None else self.scores[rows]
        part = {name: getattr(self, name)[rows] for name in ("columns", "modes", "kinds", "success")}
        return replace(self, **part, scores=scores, broken=0)


class AdditiveLogit:
    """The logit of a team's success: a sum of effects of the task's kind, the mode, and each role's model, also by kind.

    `logit = b + kind + mode + sum over roles (theta[role, model] + phi[kind, role, model])`, each effect held toward its prior
    mean by a ridge. How strongly, the runs tell where nobody says it: of several ridges each counts as its evidence says, so that
    effects that runs hardly show are held close. Fractions of success count as what they are. A role's own score, where there is
    one, counts as a run in which nothing but this role's model mattered.

    Args:
        levels: int64 [k], columns of each role: the models, and one more where the role is optional.
        modes: Number of modes.
        kinds: Number of kinds of task.
        prior: float64 [k, m], prior means of theta, with at least as many columns as the role with most; `None` = 0.
        ridge: Of theta, 1 / variance; `None` = told by the runs.
        kind_ridge: Of phi, which has many more cells to fill; likewise.
        few: Runs of a (role, model) below which nothing is said of it.

    Raises:
        ConfigError: An option is out of range, or the prior is of another shape.

    Attributes:
        coef_: float64 [p].
        covariance_: float64 [p, p], of Laplace's approximation.
        ridges_: The likeliest ridge of theta and of phi, or those that were given.
        runs_: int64 [k, m], runs of each (role, model).
        seen_: The runs.

    Source: MasRouter's task by role by model as an additive game, whose main effects are the models'
    Shapley values (Yue et al. 2025, arXiv:2502.11133, section 3, for the problem); Berger 1990, Robust Bayesian analysis:
    sensitivity to the prior, Journal of Statistical Planning and Inference 25, for intervals that hold those of several priors.
    """

    coef_: Floats
    covariance_: Floats
    ridges_: tuple[float, float]
    runs_: Places
    seen_: Observed

    def __init__(
        self,
        levels: Places,
        *,
        modes: int = 1,
        kinds: int = 0,
        prior: Floats | None = None,
        ridge: float | None = 1.0,
        kind_ridge: float | None = 4.0,
        few: int = 10,
    ) -> None:
        self.levels = np.asarray(levels, np.int64)
        if self.levels.ndim != 1 or not len(self.levels) or self.levels.min() < 1:
            raise ConfigError(f"levels={levels!r}: give each role of the team one column or more")
        if modes < 1 or kinds < 0 or few < 1:
            raise ConfigError(f"modes={modes!r} and few={few!r} must be 1 or more, kinds={kinds!r} 0 or more")
        self.modes, self.kinds, self.few = modes, kinds, few
        self.ridge = None if ridge is None else held(ridge, "ridge")
        self.kind_ridge = None if kind_ridge is None else held(kind_ridge, "kind_ridge")
        most = int(self.levels.max())
        self.prior = np.zeros((len(self.levels), most)) if prior is None else np.asarray(prior, np.float64)
        if self.prior.ndim != 2 or len(self.prior) != len(self.levels) or self.prior.shape[1] < most:
            raise ConfigError(f"the prior is {self.prior.shape}: give {len(self.levels)} roles at least {most} columns each")
        if not np.isfinite(self.prior).all():
            raise ConfigError("the prior means must be finite; 0 = nothing is known")
        self.width = int(self.prior.shape[1])

    # --- where the parameters stand: intercept, kinds, modes, each role's own score, theta, phi ---

    @property
    def _roles(self) -> int:
        return len(self.levels)

    @property
    def _theta(self) -> int:
        return 1 + self.kinds + self.modes + self._roles

    @property
    def _end(self) -> int:
        return self._theta + (1 + self.kinds) * self._roles * self.width

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self._end

    @cached_property
    def _free(self) -> int:
        """Parameters that the data are to tell: main effects, with one of each group given by the others."""
        return 1 + max(self.kinds - 1, 0) + self.modes - 1 + int((self.levels - 1).sum())

    def _design(self, columns: Places, modes: Places, kinds: Floats) -> Floats:
        rows = len(columns)
        design = np.zeros((rows, self.size))
        design[:, 0] = 1.0
        design[:, 1 : 1 + self.kinds] = kinds
        design[np.arange(rows), 1 + self.kinds + modes] = 1.0
        here, at = np.arange(rows)[:, None], self._theta + np.arange(self._roles) * self.width + columns
        design[here, at] = 1.0
        for kind in range(self.kinds):
            design[here, at + (1 + kind) * self._roles * self.width] = kinds[:, kind, None]
        return design

    def _scored(self, seen: Observed) -> tuple[Floats, Floats]:
        """Rows for the roles' own scores: an intercept of the role's, and its model's effects."""
        assert seen.scores is not None  # noqa: S101  # asked only where there are some
        rows, roles = np.nonzero(~np.isnan(seen.scores))
        design = np.zeros((len(rows), self.size))
        here = np.arange(len(rows))
        design[here, 1 + self.kinds + self.modes + roles] = 1.0
        at = self._theta + roles * self.width + seen.columns[rows, roles]
        design[here, at] = 1.0
        for kind in range(self.kinds):
            design[here, at + (1 + kind) * self._roles * self.width] = seen.kinds[rows, kind]
        return design, seen.scores[rows, roles]

    def _penalty(self, ridge: float, kind_ridge: float) -> tuple[Floats, Floats]:
        """Precision and mean of each parameter's prior."""
        precision = np.full(self.size, kind_ridge)
        # The intercept is free but for a breath that keeps one-sided logs finite. How hard a kind is, or a mode, says nothing
        # of how much models differ.
        precision[0] = 1e-2
        precision[1 : self._theta] = FIRST[0] if self.ridge is None else ridge
        precision[self._theta : self._theta + self._roles * self.width] = ridge
        mean = np.zeros(self.size)
        mean[self._theta : self._theta + self._roles * self.width] = self.prior.ravel()
        return precision, mean

    def fit(self, seen: Observed) -> Self:
        """Learns from runs; of none it knows the prior. A model without kinds does not look at those of the runs.

        Raises:
            DataError: A success is unknown or outside [0, 1].
        """
        if not self.kinds:
            seen = replace(seen, kinds=seen.kinds[:, :0])
        if len(seen) and not ((seen.success >= 0.0) & (seen.success <= 1.0)).all():
            raise DataError("the success of a run is unknown or outside [0, 1]: leave such runs out")
        design = self._design(seen.columns, seen.modes, seen.kinds)
        target = seen.success
        if seen.scores is not None and not np.isnan(seen.scores).all():
            more, scores = self._scored(seen)
            design, target = np.concatenate([design, more]), np.concatenate([target, scores])
        ridge, kind_ridge = self.ridge, self.kind_ridge
        if not len(seen):
            ridge, kind_ridge = (FIRST[0] if ridge is None else ridge, FIRST[1] if kind_ridge is None else kind_ridge)
        found = tried(design, target, self._penalty, ridge=ridge, kind_ridge=kind_ridge, kinds=self.kinds)
        self.ridges_ = max(found, key=lambda one: one.evidence).ridges
        self.coef_, self.covariance_ = mixed(found)
        self._told = design, target
        self._nearly: tuple[Floats, Floats] | None = None
        return self._saw(seen)

    def _saw(self, seen: Observed) -> Self:
        self.runs_ = np.stack([np.bincount(seen.columns[:, role], minlength=self.width) for role in range(self._roles)])
        self.seen_ = seen
        return self

    def state(self) -> dict[str, Floats]:
        """What was learned, in arrays: `taught` with the same runs makes it again, and need not fit."""
        loose, covariance = self.loose()
        known = {"coef": self.coef_, "covariance": self.covariance_, "ridges": np.array(self.ridges_)}
        return {**known, "loose": loose, "loose_covariance": covariance}

    def taught(self, seen: Observed, state: Mapping[str, Floats]) -> Self:
        """As after `fit(seen)`, by what `state` gave then; only `interaction` asks for a fit.

        Raises:
            ValueError: The arrays are none of such a model.
        """
        p = self.size
        for name, shape in (("coef", (p,)), ("loose", (p,)), ("covariance", (p, p)), ("loose_covariance", (p, p))):
            if state[name].shape != shape or not np.isfinite(state[name]).all():
                raise ValueError(f"{name} is {state[name].shape} where {shape} finite numbers are needed")
        self.coef_, self.covariance_ = state["coef"], state["covariance"]
        self._nearly = state["loose"], state["loose_covariance"]
        self.ridges_ = float(state["ridges"][0]), float(state["ridges"][1])
        return self._saw(seen)

    # --- what it expects ---

    def _fitted(self) -> Floats:
        try:
            return self.coef_
        except AttributeError:
            msg = "this model of a team is not fitted: call fit(runs) first"
            raise NotFittedError(msg) from None

    def base(self, mode: int, kinds: Floats, coef: Floats | None = None) -> float:
        """The logit without any role's model, for a mode and a task's kinds, float64 [c]."""
        coef = self._fitted() if coef is None else coef
        return float(coef[0] + coef[1 : 1 + self.kinds] @ kinds + coef[1 + self.kinds + mode])

    def values(self, kinds: Floats, coef: Floats | None = None) -> Floats:
        """What each model adds in each role to the logit, float64 [k, m], for a task of these kinds, float64 [c]."""
        coef = self._fitted() if coef is None else coef
        blocks = coef[self._theta : self._end].reshape(1 + self.kinds, self._roles, self.width)
        by_kind = blocks[1:].reshape(self.kinds, self._roles * self.width)
        return np.asarray(blocks[0] + (kinds @ by_kind).reshape(blocks[0].shape))

    def expected(self, columns: Places, modes: Places, kinds: Floats) -> Floats:
        """Expected logit of success, float64 [n], as in `Observed`."""
        return self._design(columns, modes, kinds) @ self._fitted()

    def logit(self, columns: Places, modes: Places, kinds: Floats) -> tuple[Floats, Floats]:
        """Expected logit of success and its standard error, each float64 [n], as in `Observed`."""
        design = self._design(columns, modes, kinds)
        spread = np.sqrt(np.einsum("np,pq,nq->n", design, self._covariance(), design, optimize=True))
        return design @ self._fitted(), spread

    def interval(self, columns: Places, mode: int, kinds: Floats) -> tuple[float, float, float]:
        """Chance of success and its 95 % interval, for one assignment, int64 [k]."""
        design = self._design(columns[None], np.array([mode]), kinds[None])[0]
        middle, low, high = logistic(np.array(self._ends(design))).tolist()
        return middle, low, high

    def loose(self) -> tuple[Floats, Floats]:
        """Parameters and covariance as the runs tell them nearly alone; told once, and then kept.

        What is of one kind of task is held as the runs have told: they have few for each kind. A ridge that somebody gave is no
        word of theirs, and is loosened, too.
        """
        if self._nearly is None:
            precision, mean = self._penalty(*self.ridges_)
            loose = np.full(self.size, _LOOSE)
            loose[0] = 1.0
            if self.kind_ridge is None:
                loose[self._theta + self._roles * self.width : self._end] = 1.0
            loose[self._end :] = 1.0
            self._nearly = newton(*self._told, np.maximum(precision * loose, _SMALLEST), mean, start=self.coef_)
        return self._nearly

    def _ends(self, contrast: Floats) -> tuple[float, float, float]:
        """A sum of parameters, float64 [p], in the middle and at the ends of its 95 % interval.

        The interval holds two: that with the ridge, and that with nearly none. The first is right where effects are as the prior
        has them. Where one is much larger, and two roles' models hardly varied apart, the ridge shares it among both, and its
        interval knows nothing of that; the second does. Where either is right, so is what holds both. Of an assignment that was
        chosen for its chance the second alone would promise too much: of many that are as good the luckiest is chosen.
        """
        known = [(self._fitted(), self.covariance_), *([self.loose()] if len(self.seen_) else [])]
        at = np.flatnonzero(contrast)  # few of many
        some = contrast[at]
        middle = [float(some @ coef[at]) for coef, _ in known]
        error = [_Z95 * math.sqrt(max(0.0, float(some @ covariance[at[:, None], at] @ some))) for _, covariance in known]
        low, high = (min(map(float.__sub__, middle, error)), max(map(float.__add__, middle, error)))
        return middle[0], low, high

    def draw(self, rng: np.random.Generator) -> Floats:
        """Parameters drawn from what is known of them, float64 [p], for Thompson sampling (Thompson 1933)."""
        root = np.linalg.cholesky(self._covariance() + 1e-12 * np.eye(self.size))
        drawn: Floats = self._fitted() + root @ rng.standard_normal(self.size)
        return drawn

    def _covariance(self) -> Floats:
        self._fitted()
        return self.covariance_

    # --- what can be said of it ---

    def aliased(self) -> dict[int, str]:
        """Roles of which the runs cannot tell anything, and why: they hardly varied, or hardly but with something else."""
        self._fitted()
        return aliased(self.seen_, self.runs_, self.few)

    def effects(self) -> list[Effect]:
        """What each model adds in each role, with 95 % intervals, and where the runs cannot tell.

        With kinds of tasks an effect is the mean over those that were run, as often as they were.
        """
        aliased, mix = self.aliased(), self.mix
        found = []
        for role in range(self._roles):
            known = np.flatnonzero(self.runs_[role] >= self.few)  # one run of a rare model must not say what the others add
            for column in range(int(self.levels[role])):
                runs = int(self.runs_[role, column])
                if role in aliased:
                    verdict = "not identifiable"
                elif runs < self.few:
                    verdict = "too few runs"
                else:
                    verdict = "ok"
                logit = low = high = None
                if verdict == "ok":
                    contrast = np.zeros(self.size)
                    for kind, share in enumerate((1.0, *mix.tolist())):
                        at = self._theta + (kind * self._roles + role) * self.width
                        contrast[at + known] = -share / len(known)
                        contrast[at + column] += share
                    logit, low, high = self._ends(contrast)
                found.append(Effect(role=role, column=column, runs=runs, logit=logit, low=low, high=high, verdict=verdict))
        return found

    @property
    def mix(self) -> Floats:
        """How far the runs' tasks are of each kind, on average: float64 [c]; zeros without runs."""
        self._fitted()
        return self.seen_.kinds.mean(axis=0) if len(self.seen_) else np.zeros(self.kinds)

    @property
    def runs(self) -> int:
        """Runs that it has learned from."""
        self._fitted()
        return len(self.seen_)

    @property
    def enough(self) -> bool:
        """Whether there are ten runs for each main effect that they are to tell."""
        self._fitted()
        return len(self.seen_) >= 10 * self._free

    def interaction(self, *, seed: int = 0) -> float:
        """How well the runs go with a sum of effects, as `doubt` says: a p-value.

        Small = what a model adds hangs on the other roles' models.

        Args:
            seed: Of the draws that it is told by.
        """
        self._fitted()
        if self._roles < 2 or not len(self.seen_):
            return 1.0
        # Effects of single models that a strong ridge holds back would be found again in the residuals of pairs.
        ridge, kind_ridge = self.ridges_
        weak = (ridge if self.ridge else min(ridge, FIRST[0]), kind_ridge if self.kind_ridge else min(kind_ridge, FIRST[1]))
        one = fitted(*self._told, self._penalty, weak, self.coef_)
        return doubt(self.seen_.columns, *self._told, *self._penalty(*weak), one.coef, one.covariance, seed=seed)


def held(strength: float, name: str) -> float:
    """A ridge that keeps effects of few runs from running away.

    Raises:
        ConfigError: It is below a millionth, or not finite.
    """
    if not (strength >= _SMALLEST and math.isfinite(strength)):
        least = f"must be {_SMALLEST:g} or more, and finite"
        raise ConfigError(f"{name}={strength!r} {least}: it keeps effects of few runs from running away")
    return float(strength)
