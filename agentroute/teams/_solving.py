"""The best allocation of one mode, where what a role costs hangs on the models of the roles that it reads."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import BudgetError, ConfigError
from agentroute.teams._costs import CostModel
from agentroute.teams._knapsack import ROUNDING, Solution, cheapest, solve, sums, too_little
from agentroute.teams._terms import Terms

__all__ = ["cheapest_team", "solve_team"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_COMBINATIONS: Final = 50_000
_SOON: Final = 20_000  # so many are looked at sooner than a knapsack is solved first
_BLOCK: Final = 128


def solve_team(
    values: Floats, costs: CostModel, mode: str, allowed: Flags, budget: float = math.inf, *, upper: bool = False
) -> Solution:
    """Gives each role a model, so that the sum of values is greatest and the team's expected cost keeps to the budget.

    Two knapsacks bound what is wanted: in one each role reads the least of the others that it can, in the other the most.
    What the first finds cannot be bettered, and is the answer when its true cost keeps to the budget. Else all combinations
    that are worth as much as what the second allows are looked at, best first, up to 50,000 (at once, where there are at most
    20,000); where there are more, a knapsack halfway between the two is solved, and bettered role by role.

    Args:
        values: float64 [k, m + 1], columns as in `CostModel`; finite where allowed.
        costs: What the team costs.
        mode: By name.
        allowed: bool [k, m + 1].
        budget: USD; infinite = none, and prices may then be unknown.
        upper: Whether 95 % of runs are to keep to the budget, where runs tell it, and not only their mean.

    Returns:
        The choice, with its true expected cost (with `upper`, what 95 % of runs stay below); NaN when a price is unknown.

    Raises:
        BudgetError: No allocation keeps to the budget.
        ConfigError: The team has no such mode, or a role may have nothing.
        PriceUnknownError: There is a budget, and an allowed model has neither a price nor a logged cost.
    """
    terms = costs.terms(mode, upper=upper)
    problem = _Problem(values, terms, allowed, budget)
    if budget == math.inf:
        best = solve(values, np.nan_to_num(terms.bound(allowed, most=True), nan=0.0), allowed)
        return replace(best, cost=float(problem.price(best.choice[None])[0]))
    if not allowed.any(axis=1).all():
        raise ConfigError(f"row {int(allowed.any(axis=1).argmin())} may have no column at all")
    costs.require(allowed)
    least, most = (terms.bound(allowed, most=most) for most in (False, True))
    # Where many a combination needs a look anyway, a knapsack that is solved first is time lost.
    looked = problem.size <= _SOON and bool((most > least * (1.0 + ROUNDING))[allowed].any())
    ideal = None if looked else problem.knapsack(least)
    found = problem.checked(ideal)
    if found is None and (looked or ideal is not None):
        found = problem.between(least, most) if problem.size <= _COMBINATIONS else problem.blended(least, most)
    if found is None:
        raise too_little(budget, float(problem.price(problem.cheapest()[None])[0]))
    return found


def cheapest_team(costs: CostModel, mode: str, allowed: Flags, *, upper: bool = False) -> Places:
    """The columns of the cheapest allocation, int64 [k]; of very many combinations one that no single change makes cheaper."""
    return _Problem(np.zeros(allowed.shape), costs.terms(mode, upper=upper), allowed, math.inf).cheapest()


class _Problem:
    """One mode's choice under a budget."""

    def __init__(self, values: Floats, terms: Terms, allowed: Flags, budget: float) -> None:
        self.values, self.terms, self.allowed, self.budget = values, terms, allowed, budget
        self.limit = budget * (1.0 + ROUNDING)
        self.places = [np.flatnonzero(flags) for flags in allowed]
        self.size = math.prod(len(columns) for columns in self.places)

    def price(self, columns: Places) -> Floats:
        """True USD of allocations, int64 [n, k]."""
        return np.asarray(self.terms.roles(columns).sum(axis=1))

    def worth(self, columns: Places) -> Floats:
        return np.asarray(self.values[np.arange(columns.shape[1]), columns].sum(axis=1))

    def combinations(self, numbers: Places) -> Places:
        """Of all that is allowed those of these numbers, the last role turning fastest: int64 [n, k]."""
        at = np.unravel_index(numbers, [len(columns) for columns in self.places])
        return np.stack([columns[place] for columns, place in zip(self.places, at, strict=True)], axis=1)

    def knapsack(self, matrix: Floats) -> Solution | None:
        """The best where each role and model has one cost; `None` = nothing keeps to the budget."""
        try:
            return solve(self.values, matrix, self.allowed, self.budget)
        except BudgetError:
            return None

    def checked(self, found: Solution | None) -> Solution | None:
        """With its true cost, where that keeps to the budget."""
        if found is None:
            return None
        price = float(self.price(found.choice[None])[0])
        return replace(found, cost=min(price, self.budget)) if price <= self.limit else None

    def between(self, least: Floats, most: Floats) -> Solution | None:
        """The best of all combinations; those that the least reading could pay for are looked at, best first."""
        worth, low, high = (
            sums([table[k, columns] for k, columns in enumerate(self.places)]) for table in (self.values, least, most)
        )
        # What even the most reading leaves affordable need not be beaten by what is worth less.
        sure = np.where(high <= self.limit, worth, -math.inf).max()
        open_ = np.flatnonzero((worth >= sure) & (low <= self.limit))
        open_ = open_[np.lexsort((low[open_], -worth[open_]))]
        for start in range(0, len(open_), _BLOCK):
            columns = self.combinations(open_[start : start + _BLOCK])
            prices = self.price(columns)
            if (kept := np.flatnonzero(prices <= self.limit)).size:
                return self.solution(columns[kept[0]], float(prices[kept[0]]), exact=True)
        return None

    def blended(self, least: Floats, most: Floats) -> Solution | None:
        """The best of a knapsack between the two, bettered one role at a time."""
        found = self.checked(self.knapsack((least + most) / 2.0)) or self.checked(self.knapsack(most))
        at = self.cheapest() if found is None else found.choice
        while True:
            beside = self.beside(at)
            gain = np.where(self.price(beside) <= self.limit, self.worth(beside) - self.worth(at[None]), 0.0)
            if not gain.max(initial=0.0) > ROUNDING:
                break
            at = beside[gain.argmax()]
        price = float(self.price(at[None])[0])
        return self.solution(at, price, exact=False) if price <= self.limit else None

    def cheapest(self) -> Places:
        """The cheapest combination; of very many one that no single change makes cheaper."""
        if self.size <= _COMBINATIONS:
            blocks = np.array_split(np.arange(self.size), math.ceil(self.size / _BLOCK))
            prices = np.concatenate([self.price(self.combinations(numbers)) for numbers in blocks])
            return np.asarray(self.combinations(np.array([prices.argmin()]))[0])
        at = cheapest(self.terms.bound(self.allowed, most=False), self.allowed)
        while True:
            beside = self.beside(at)
            prices = self.price(beside)
            if not prices.min(initial=math.inf) < self.price(at[None])[0]:
                return at
            at = beside[prices.argmin()]

    def beside(self, at: Places) -> Places:
        """All allocations that differ in one role: int64 [n, k]."""
        roles, columns = np.nonzero(self.allowed)
        found = np.repeat(at[None], len(roles), axis=0)
        found[np.arange(len(roles)), roles] = columns
        return found

    def solution(self, choice: Places, price: float, *, exact: bool) -> Solution:
        worth = float(self.worth(choice[None])[0])
        return Solution(choice=choice, value=worth, cost=min(price, self.budget), exact=exact)
