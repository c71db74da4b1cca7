"""Quality less what it costs and how long it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

from agentroute.errors import ConfigError
from agentroute.types import Estimate, Matrix

__all__ = ["UtilityPolicy"]


class UtilityPolicy:
    """Chooses argmax of quality - cost / willingness_to_pay - latency x latency_weight.

    Args:
        willingness_to_pay: USD that one unit of quality (a right answer instead of a wrong one) is worth; infinity = the best
            answer whatever it costs. In the literature's terms this is 1 / lambda (RouterBench, arXiv:2403.12031, section 3).
        latency_weight: Quality that a second of waiting is worth (mu); 0 = time does not matter.

    >>> UtilityPolicy(willingness_to_pay=0.02).cost_weight
    50.0
    """

    kind = "utility"
    how = "optimisation"

    def __init__(self, *, willingness_to_pay: float = math.inf, latency_weight: float = 0.0) -> None:
        if not (_is_number(willingness_to_pay) and willingness_to_pay > 0):
            msg = f"willingness_to_pay={willingness_to_pay!r} must be above 0 USD per unit of quality (infinity = quality alone)"
            raise ConfigError(msg)
        if not (_is_number(latency_weight) and latency_weight >= 0 and math.isfinite(latency_weight)):
            msg = f"latency_weight={latency_weight!r} must be 0 or more (quality per second)"
            raise ConfigError(msg)
        self.willingness_to_pay = willingness_to_pay
        self.latency_weight = latency_weight

    @property
    def cost_weight(self) -> float:
        """lambda, quality per USD."""
        return 1.0 / self.willingness_to_pay

    @property
    def what(self) -> tuple[str, ...]:
        """`("cost",)` and `("latency",)` as far as they weigh."""
        return (("cost",) if self.cost_weight else ()) + (("latency",) if self.latency_weight else ())

    @property
    def needs(self) -> frozenset[str]:
        """The same as a set: what weighs must be known."""
        return frozenset(self.what)

    def utilities(self, estimate: Estimate, /) -> Matrix:
        """float64 [n, m]."""
        utility = estimate.quality
        if self.cost_weight:
            utility = utility - self.cost_weight * estimate.cost
        if self.latency_weight:
            utility = utility - self.latency_weight * estimate.latency
        return utility

    def state(self) -> dict[str, Any]:
        """Both weights; infinity as a string, which JSON can carry."""
        return {"willingness_to_pay": str(self.willingness_to_pay), "latency_weight": self.latency_weight}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], /) -> Self:
        """The policy that `state` described."""
        return cls(willingness_to_pay=float(state["willingness_to_pay"]), latency_weight=float(state["latency_weight"]))

    def __repr__(self) -> str:
        """As constructed."""
        return f"UtilityPolicy(willingness_to_pay={self.willingness_to_pay:g}, latency_weight={self.latency_weight:g})"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
