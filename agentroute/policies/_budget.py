"""The best quality for a mean spend."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from agentroute.errors import ConfigError, NotFittedError, PriceUnknownError
from agentroute.types import Estimate, Matrix

__all__ = ["BudgetPolicy"]


class BudgetPolicy:
    """Chooses argmax of quality - lambda x cost, with lambda set so that the mean cost on the log keeps to a budget.

    This is the Lagrangian form of maximising mean quality under a mean cost. It bounds the average over queries like those of
    the log, not any single call and not a future in which traffic changes.

    Args:
        mean_cost: USD a query, on average.

    Attributes:
        cost_weight_: lambda, quality per USD.
        expected_cost_: Mean USD on the log at that lambda.
    """

    kind = "budget"
    what = ("cost", "budget")
    how = "optimisation"
    needs = frozenset({"cost"})

    def __init__(self, *, mean_cost: float) -> None:
        if not (mean_cost > 0 and math.isfinite(mean_cost)):
            msg = f"mean_cost={mean_cost!r} must be a positive number of USD a query"
            raise ConfigError(msg)
        self.mean_cost = mean_cost

    cost_weight_: float
    expected_cost_: float

    def calibrate(self, estimate: Estimate, quality: Matrix, cost: Matrix, /) -> Self:  # noqa: ARG002 # the policy contract
        """Finds the least lambda whose decisions cost at most `mean_cost` on average.

        Args:
            estimate: Out-of-fold estimates for n logged queries.
            quality: float64 [n, m], as observed; not used.
            cost: float64 [n, m], as billed; where a cell was not observed its estimate stands in.

        Raises:
            PriceUnknownError: A model of known quality has no known cost at all.
            ConfigError: Even the cheapest choice costs more; the message gives that cost.
        """
        scored = ~np.isnan(estimate.quality)
        unpriced = [name for j, name in enumerate(estimate.models) if scored[:, j].any() and np.isnan(estimate.cost[:, j]).all()]
        if unpriced:
            raise PriceUnknownError(unpriced)
        usable = scored & ~np.isnan(estimate.cost)
        rows = usable.any(axis=1)
        if not rows.any():
            # Nothing can be ranked yet, so that nothing is spent by this policy; the next fit sets lambda.
            self.cost_weight_, self.expected_cost_ = 0.0, 0.0
            return self
        expected, worth, usable = estimate.cost[rows], estimate.quality[rows], usable[rows]
        billed = np.where(np.isnan(cost[rows]), expected, cost[rows])

        def spend(weight: float) -> float:
            utility = worth - weight * expected if math.isfinite(weight) else -expected
            chosen = np.argmax(np.where(usable, utility, -np.inf), axis=1)
            return float(billed[np.arange(len(billed)), chosen].mean())

        cheapest = spend(math.inf)
        if cheapest > self.mean_cost:
            msg = f"mean_cost=${self.mean_cost:.3g} cannot be kept: the cheapest choice costs ${cheapest:.3g} a query on this log"
            raise ConfigError(msg)
        low, high = 0.0, 1.0 / max(float(expected[usable].mean()), 1e-12)
        if spend(low) <= self.mean_cost:
            high = low
        else:
            while spend(high) > self.mean_cost:
                high *= 2.0
            # Spend falls with lambda in steps, one for each decision that flips; sixty halvings find the step.
            for _ in range(60):
                middle = (low + high) / 2.0
                low, high = (middle, high) if spend(middle) > self.mean_cost else (low, middle)
        self.cost_weight_, self.expected_cost_ = high, spend(high)
        return self

    def utilities(self, estimate: Estimate, /) -> Matrix:
        """float64 [n, m].

        Raises:
            NotFittedError: The policy has not been calibrated; `Router.fit` does it.
        """
        try:
            return estimate.quality - self.cost_weight_ * estimate.cost
        except AttributeError:
            msg = "this BudgetPolicy is not calibrated: give it to a Router and call fit on a log"
            raise NotFittedError(msg) from None

    def state(self) -> dict[str, Any]:
        """The budget and what was learned."""
        learned = (
            {"cost_weight": self.cost_weight_, "expected_cost": self.expected_cost_} if hasattr(self, "cost_weight_") else {}
        )
        return {"mean_cost": self.mean_cost, **learned}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], /) -> Self:
        """The policy that `state` described."""
        made = cls(mean_cost=float(state["mean_cost"]))
        if "cost_weight" in state:
            made.cost_weight_, made.expected_cost_ = float(state["cost_weight"]), float(state["expected_cost"])
        return made

    def __repr__(self) -> str:
        """As constructed."""
        return f"BudgetPolicy(mean_cost={self.mean_cost:g})"
