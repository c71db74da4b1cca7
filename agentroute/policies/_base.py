"""The policy contract, and the one place where utilities become decisions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

from agentroute.errors import DataError, PriceUnknownError
from agentroute.types import Candidate, Decision, Estimate, Matrix, Paradigm

__all__ = ["POLICIES", "CalibratedPolicy", "Policy", "check_needs", "decide"]


@runtime_checkable
class Policy(Protocol):
    """Ranks models by a utility; pure: no input or output, no hidden randomness."""

    @property
    def kind(self) -> str:
        """Name under which a saved router finds the class."""

    @property
    def what(self) -> tuple[str, ...]:
        """What it weighs beside quality, for `Paradigm.what`."""

    @property
    def how(self) -> str:
        """`Paradigm.how`."""

    @property
    def needs(self) -> frozenset[str]:
        """What must be known of every model that has a quality: `"cost"`, `"latency"`, both or nothing."""

    def utilities(self, estimate: Estimate, /) -> Matrix:
        """float64 [n, m], higher is better; NaN = cannot be ranked."""

    def state(self) -> dict[str, Any]:
        """A JSON object from which `from_state` makes the policy again."""

    @classmethod
    def from_state(cls, state: Mapping[str, Any], /) -> Self:
        """The policy that `state` described."""


@runtime_checkable
class CalibratedPolicy(Policy, Protocol):
    """A policy that learns a constant from the log."""

    def calibrate(self, estimate: Estimate, quality: Matrix, cost: Matrix, /) -> Self:
        """Learns from out-of-fold estimates and what was observed for the same queries, each [n, m]."""


POLICIES: dict[str, type[Policy]] = {}
"""The built-in policies by kind: what `Router.load` can make without being told more."""


def check_needs(
    policy: Policy, models: Sequence[str], quality: Sequence[float], cost: Sequence[float], latency: Sequence[float]
) -> None:
    """Refuses to rank models of known quality by a cost or latency that nobody knows: unknown is neither free nor instant.

    Raises:
        PriceUnknownError: The policy weighs cost, and one of these models has none.
        DataError: The same for latency.
    """
    for need, values in (("cost", cost), ("latency", latency)):
        if need in policy.needs:
            unknown = [m for m, q, value in zip(models, quality, values, strict=True) if math.isnan(value) and not math.isnan(q)]
            if unknown and need == "cost":
                raise PriceUnknownError(unknown)
            if unknown:
                named = ", ".join(map(repr, unknown))
                raise DataError(f"the policy weighs latency, and none is logged for {named}: log it, or set latency_weight=0")


def decide(policy: Policy, estimate: Estimate, columns: Sequence[Sequence[int]], paradigm: Paradigm) -> list[Decision]:
    """One decision a query: the eligible models by falling utility; ties go to the cheaper one, then to the pool's order.

    Args:
        policy: What to rank by.
        estimate: For n queries.
        columns: For each query, the eligible columns; never empty.
        paradigm: Declared by the decisions.

    Raises:
        PriceUnknownError: The policy weighs cost, and an eligible model of known quality has none.
        DataError: The same for latency.
    """
    # One conversion of each matrix: plain floats are several times faster to pick from than array cells.
    parts = (policy.utilities(estimate), estimate.quality, estimate.cost, estimate.latency, estimate.support)
    made, needs = [], policy.needs
    for eligible, utility, quality, cost, latency, support in zip(columns, *(part.tolist() for part in parts), strict=True):
        # A sum is NaN when any of its parts is: the quick way to see that there is something to look at.
        if needs and math.isnan(sum(cost) + sum(latency)):
            check_needs(
                policy,
                [estimate.models[j] for j in eligible],
                *([part[j] for j in eligible] for part in (quality, cost, latency)),
            )
        # NaN is the one value that differs from itself: such models rank last, and show as None.
        ranks = [
            (-utility[j] if utility[j] == utility[j] else math.inf, cost[j] if cost[j] == cost[j] else math.inf, j)
            for j in eligible
        ]
        ranks.sort()
        candidates = tuple(
            Candidate(
                model=estimate.models[j],
                quality=quality[j] if quality[j] == quality[j] else None,
                cost=cost[j] if cost[j] == cost[j] else None,
                latency=latency[j] if latency[j] == latency[j] else None,
                utility=utility[j] if utility[j] == utility[j] else None,
                support=support[j],
            )
            for _, _, j in ranks
        )
        made.append(Decision(model=candidates[0].model, candidates=candidates, reason=_reason(candidates), paradigm=paradigm))
    return made


def _reason(candidates: tuple[Candidate, ...]) -> str:
    best = candidates[0]
    if best.utility is None or best.quality is None:
        return "too little is known of every eligible model"
    text = f"best expected utility {best.utility:.4g} of {len(candidates)}: quality {best.quality:.3f}"
    if best.cost is not None:
        text += f", cost ${best.cost:.3g}"
    if len(candidates) > 1 and candidates[1].utility is not None:
        text += f"; next {candidates[1].model} at {candidates[1].utility:.4g}"
    return text
