"""Ways to call models, tuned to budgets on one part of a log and replayed on another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.cascades import CascadeReplay, CascadeRouting, StateEstimates, ThresholdCascade, replay_budgets

__all__ = ["ARMS", "Part", "Played", "played"]

Floats: TypeAlias = npt.NDArray[np.float64]

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
        unscored: The same without: what somebody expects who looks at no answer.
        quality: float64 [n, m], as observed.
        cost: float64 [n, m], USD of the calls alone.
        score_cost: float64 [n, m], USD of looking at the answers.
    """

    states: StateEstimates
    unscored: StateEstimates
    quality: Floats
    cost: Floats
    score_cost: Floats

    def seen(self, way: str) -> Part:
        """The part as a way knows it: routing looks at no answer, and expects to pay for none."""
        return replace(self, states=self.unscored) if way == "routing" else self


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
    options: dict[str, Any] = {
        "max_models": _MOST if models >= _MANY else None,
        "samples": max(_SAMPLES, 4 * models),
        "seed": seed,
        "refine": False,
    }
    found = {}
    for way, freedom in ARMS.items():
        policy = ThresholdCascade() if way == "threshold cascade" else CascadeRouting(**options, **freedom)
        found[way] = _added(test, replay_budgets(policy, train.seen(way), test.seen(way), budgets.tolist()))
    return budgets, found


def _added(test: Part, replays: Sequence[CascadeReplay]) -> Played:
    """Calls and scoring of each query at each budget."""
    cost, calls = (np.stack([getattr(one, name) for one in replays], axis=1).astype(np.float64) for name in ("cost", "calls"))
    called = np.stack([np.where(one.called, test.cost, 0.0).sum(axis=1) for one in replays], axis=1)
    return Played(
        cost=cost,
        quality=np.stack([one.quality for one in replays], axis=1),
        climbs=(calls > 1).astype(np.float64),
        calls=calls,
        scoring=cost - called,
    )
