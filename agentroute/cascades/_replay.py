"""What a policy would have done on a log in which every model answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from agentroute.cascades._course import StateEstimates, billed
from agentroute.errors import DataError
from agentroute.outcomes import OutcomeTable
from agentroute.types import Matrix

__all__ = ["CascadeReplay", "Replayable", "replay"]

Floats = npt.NDArray[np.float64]


class Replayable(Protocol):
    """A fitted policy, such as `CascadeRouting` or `ThresholdCascade`."""

    def run(
        self, states: StateEstimates, /, *, draws: Floats | None = None
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """Who is called for each of n queries, bool [n, m], and whose answer is taken, int64 [n]."""

    def unseen(self, called: npt.NDArray[np.bool_], /) -> npt.NDArray[np.bool_]:
        """Which queries' answers were the last possible ones, taken without a look: bool [n, m] called to bool [n]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CascadeReplay:
    """What became of n queries.

    Attributes:
        called: bool [n, m].
        answer: int64 [n], the column whose answer was taken.
        quality: float64 [n], of that answer; NaN = not observed.
        cost: float64 [n], USD of all calls; what was not observed is as expected.
        latency: float64 [n], seconds of all calls, one after the other; `None` = not given.
    """

    called: npt.NDArray[np.bool_]
    answer: npt.NDArray[np.int64]
    quality: Floats
    cost: Floats
    latency: Floats | None

    @property
    def calls(self) -> npt.NDArray[np.int64]:
        """int64 [n], models called."""
        return np.asarray(self.called.sum(axis=1), np.int64)

    def with_model(self, rows: npt.NDArray[np.bool_], column: int, table: OutcomeTable) -> CascadeReplay:
        """The same, but that one model alone answers some queries, bool [n], as a default does."""
        return CascadeReplay(
            called=np.where(rows[:, None], np.arange(self.called.shape[1]) == column, self.called),
            answer=np.where(rows, column, self.answer),
            quality=np.where(rows, table.quality[:, column], self.quality),
            cost=np.where(rows, table.cost[:, column], self.cost),
            latency=None if self.latency is None else np.where(rows, table.latency[:, column], self.latency),
        )

    @property
    def point(self) -> tuple[float, float]:
        """Mean USD a query and mean quality, over what was observed."""
        return float(np.nanmean(self.cost)), float(np.nanmean(self.quality))


def replay(
    policy: Replayable,
    states: StateEstimates,
    quality: Matrix,
    cost: Matrix,
    latency: Matrix | None = None,
    *,
    score_cost: Matrix | None = None,
    draws: Floats | None = None,
) -> CascadeReplay:
    """Runs a policy over a log, all queries at once, in steps.

    Args:
        policy: A fitted policy.
        states: Estimates for the n queries, made without their outcomes.
        quality: float64 [n, m], as observed, the cheapest model first as in `states`; NaN = not observed.
        cost: float64 [n, m], USD.
        latency: float64 [n, m], seconds.
        score_cost: float64 [n, m], USD of looking at each answer, where `cost` does not hold it; `None` = nothing.
        draws: float64 [n] in [0, 1), each query's own number, for a policy that mixes; `None` = drawn from its seed.

    Returns:
        Who was called, whose answer was taken, and what came of it.

    Raises:
        DataError: Log and states do not belong together.
    """
    shape = states.cost.shape
    for name, given in (("quality", quality), ("cost", cost), ("latency", latency)):
        if given is not None and given.shape != shape:
            raise DataError(f"{name} is {given.shape}, the states are {shape}: give the same queries and models")
    called, answer = policy.run(states, draws=draws)
    looked = called.copy()
    last = np.flatnonzero(policy.unseen(called))
    looked[last, answer[last]] = False
    # Without the calls of unknown cost, what is cheap to look up would look cheap to call.
    spent = np.where(called, billed(states, cost, score_cost), 0.0)
    if score_cost is not None:
        spent += np.where(looked, score_cost, 0.0)
    return CascadeReplay(
        called=called,
        answer=answer,
        quality=np.take_along_axis(quality, answer[:, None], axis=1)[:, 0],
        cost=spent.sum(axis=1),
        latency=None if latency is None else np.where(called, latency, 0.0).sum(axis=1),
    )
