"""Ways to call models, tuned to budgets on one part of a log and replayed on another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.cascades import CascadeRouting, ThresholdCascade
from agentroute.cascades._course import Course
from agentroute.cascades._regressions import PostHocStates
from agentroute.cascades._rules import Plans, Rules
from agentroute.cascades._supermodels import SuperModels, normal_draws

__all__ = ["ARMS", "Part", "Played", "played"]

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

ARMS: Mapping[str, Mapping[str, bool]] = {
    "routing": {"climb": False},
    "threshold cascade": {},
    "cascading": {"ordered": True},
    "cascade routing": {},
}
"""Way → what `CascadeRouting` is restricted to; the threshold cascade is a policy of its own."""

_SAMPLES = 128
"""Of expected maxima, which then err by less than .01; the comparison plans each query a hundred times."""
_MANY, _MOST = 6, 4
"""From so many models on, so many are called for one query at most: sets of more hardly add, and are thousands."""
_BEYOND = 1.1
"""Budgets reach that far beyond the dearest model, so that every curve spans the range of costs."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Some queries, columns cheapest first.

    Attributes:
        states: Estimates that were made without these queries, scoring in their costs.
        quality: float64 [n, m], as observed.
        cost: float64 [n, m], USD of the calls alone.
        scoring: float64 [n, m], USD of looking at the answers.
        scored: float64 [m], what `states.cost` holds of it.
    """

    states: PostHocStates
    quality: Floats
    cost: Floats
    scoring: Floats
    scored: Floats

    def seen(self, way: str) -> tuple[PostHocStates, Floats]:
        """The states and the costs as a way knows them: routing looks at no answer, and pays for none."""
        if way == "routing":
            return replace(self.states, cost=self.states.cost - self.scored), self.cost
        scoring = self.scoring.copy()
        if way == "threshold cascade":
            scoring[:, -1] = 0.0  # the dearest model's answer can only be the last one, which is taken as it is
        return self.states, self.cost + scoring


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Played:
    """What became of n queries at k budgets, float64 [n, k] each.

    Attributes:
        cost: USD, calls and scoring.
        quality: Of the answers that were taken.
        climbs: 1 where more than one model was called.
        calls: Models called.
        scoring: Of the cost, USD for looking at answers.
    """

    cost: Floats
    quality: Floats
    climbs: Floats
    calls: Floats
    scoring: Floats


def played(train: Part, test: Part, *, points: int, seed: int) -> tuple[Floats, dict[str, Played]]:
    """Budgets float64 [k], and what each way does with them on queries that it was not tuned on.

    Args:
        train: What lambdas and thresholds are tuned on.
        test: What they are applied to.
        points: k.
        seed: Of the draws.
    """
    means = np.nanmean(train.cost, axis=0)
    low, high = float(means.min()), _BEYOND * float(means.max())
    # Denser where cheap models are.
    budgets = low + (high - low) * np.linspace(0.0, 1.0, points) ** 2
    models = len(means)
    sets = SuperModels(normal_draws(models, max(_SAMPLES, 4 * models), seed))
    found = {}
    for way, freedom in ARMS.items():
        if way == "threshold cascade":
            found[way] = _thresholds(train, test, budgets)
        else:
            found[way] = _planned(way, freedom, train, test, budgets, sets, seed)
    return budgets, found


def _planned(
    way: str, freedom: Mapping[str, bool], train: Part, test: Part, budgets: Floats, sets: SuperModels, seed: int
) -> Played:
    models = len(sets.draws)
    most = _MOST if models >= _MANY else None
    samples = sets.draws.shape[1]
    policy = CascadeRouting(max_models=most, samples=samples, seed=seed, refine=False, **freedom)
    states, cost = train.seen(way)
    # What looks at answers cannot spend less than the cheapest call and a look at its answer.
    least = float(policy.frontier(states, train.quality, cost, lambdas=np.array([np.inf]))[0, 0])
    lambdas = policy.lambdas_for(states, train.quality, cost, budgets=np.maximum(budgets, least * (1.0 + 1e-9)))
    rules = Rules(climb=policy.climb, ordered=policy.ordered, latency_weight=0.0, max_models=most)
    told = test.seen(way)[0]
    # One course for all lambdas: what is best in a state is worked out once.
    course = Course(Plans(rules, sets, told), told, test.quality, test.cost)
    outcomes = [course.outcome(row) for row in lambdas]
    looked = [np.zeros_like(called) if way == "routing" else called for called, _ in outcomes]
    return _added(test, outcomes, looked)


def _thresholds(train: Part, test: Part, budgets: Floats) -> Played:
    states, cost = train.seen("threshold cascade")
    policy = ThresholdCascade().fit(states, train.quality, cost)
    chains = policy.frontier_
    outcomes, looked = [], []
    for budget in budgets.tolist():
        chain = max((one for one in chains if one.cost <= budget), key=lambda one: one.quality, default=chains[0])
        called, answer = policy.using(chain).run(test.states)
        seen = called.copy()
        seen[:, chain.columns[-1]] = False  # the last one's answer is taken as it is
        outcomes.append((called, answer))
        looked.append(seen)
    return _added(test, outcomes, looked)


def _added(test: Part, outcomes: list[tuple[Bools, Ints]], looked: list[Bools]) -> Played:
    """Adds up calls and scoring for each query at each budget."""
    rows = np.arange(len(test.quality))
    scoring = np.stack([np.where(seen, test.scoring, 0.0).sum(axis=1) for seen in looked], axis=1)
    spent = np.stack([np.where(called, test.cost, 0.0).sum(axis=1) for called, _ in outcomes], axis=1)
    calls = np.stack([called.sum(axis=1) for called, _ in outcomes], axis=1).astype(np.float64)
    return Played(
        cost=spent + scoring,
        quality=np.stack([test.quality[rows, answer] for _, answer in outcomes], axis=1),
        climbs=(calls > 1).astype(np.float64),
        calls=calls,
        scoring=scoring,
    )
