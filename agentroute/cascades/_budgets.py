"""One policy at several budgets: tuned on one log, replayed on another."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import Protocol

import numpy as np
import numpy.typing as npt

from agentroute.cascades._course import Course, StateEstimates
from agentroute.cascades._planner import CascadeRouting
from agentroute.cascades._replay import CascadeReplay, replay
from agentroute.cascades._threshold import ChainPolicy
from agentroute.types import Matrix

__all__ = ["replay_budgets"]

Floats = npt.NDArray[np.float64]


class Logged(Protocol):
    """n queries that every model answered, columns the cheapest model first."""

    @property
    def states(self) -> StateEstimates:
        """Estimates that were made without these queries' outcomes."""

    @property
    def quality(self) -> Matrix:
        """float64 [n, m], as observed."""

    @property
    def cost(self) -> Matrix:
        """float64 [n, m], USD of the calls alone."""

    @property
    def score_cost(self) -> Matrix:
        """float64 [n, m], USD of looking at each answer."""


def replay_budgets(
    policy: CascadeRouting | ChainPolicy, known: Logged, new: Logged, /, budgets: Iterable[float]
) -> tuple[CascadeReplay, ...]:
    """Tunes a policy to each of several budgets, and replays it on queries that it was not tuned on.

    It spends as `CascadeRouter.replay` does: each look at an answer is paid for, but not the last possible one's (see
    `check_last`). It is many times as quick as one fit and one replay for each budget, and gives the same but for `mix`, which
    is left out: between two adjacent budgets lies the line.

    Args:
        policy: Its options; what it has learned, and its own budget, do not count.
        known: What it is tuned on.
        new: What it is replayed on, the same models.
        budgets: USD a query. Less than the cheapest way costs is as much as that.

    Returns:
        One for each budget.

    Raises:
        DataError: A log and its states do not belong together.
    """
    if isinstance(policy, ChainPolicy):
        return _chained(policy, known, new, budgets)
    made = policy.restricted()
    # One course for all budgets: what is best in a state is worked out once.
    course = made._course(known.states, known.quality, known.cost, known.score_cost)  # noqa: SLF001  # its own, kept for longer
    ahead = made._course(new.states, new.quality, new.cost, None)  # noqa: SLF001
    least = course.spend(np.array([np.inf])) * (1.0 + 1e-9)
    found = []
    for budget in budgets:
        rates = made._rates(course, max(float(budget), least))  # noqa: SLF001
        tuned = _Tuned(made, ahead, rates.table[0])
        found.append(replay(tuned, new.states, new.quality, new.cost, score_cost=new.score_cost))
    return tuple(found)


def _chained(policy: ChainPolicy, known: Logged, new: Logged, budgets: Iterable[float]) -> tuple[CascadeReplay, ...]:
    made = copy(policy)
    made.budget = None
    chains = made.fit(known.states, known.quality, known.cost, score_cost=known.score_cost).frontier_
    found = []
    for budget in budgets:
        chain = max((one for one in chains if one.cost <= budget), key=lambda one: one.quality, default=chains[0])
        found.append(replay(made.using(chain), new.states, new.quality, new.cost, score_cost=new.score_cost))
    return tuple(found)


class _Tuned:
    """A policy with lambdas of its own, over a course that is worked out already."""

    def __init__(self, policy: CascadeRouting, course: Course, rates: Floats) -> None:
        self._policy, self._course, self._rates = policy, course, rates

    def run(
        self,
        states: StateEstimates,  # noqa: ARG002  # those of the course
        /,
        *,
        draws: Floats | None = None,  # noqa: ARG002  # nothing is mixed
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        return self._course.outcome(self._rates)

    def unseen(self, called: npt.NDArray[np.bool_], /) -> npt.NDArray[np.bool_]:
        return self._policy.unseen(called)
