"""One model for each role so that the whole is worth the most and keeps to a budget: the multiple-choice knapsack."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import BudgetError, ConfigError

__all__ = ["ROUNDING", "Solution", "cheapest", "solve", "sums", "too_little"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_COMBINATIONS: Final = 20_000  # of one half of the roles: up to here they are all weighed
_BINS: Final = 3_000
ROUNDING: Final = 1e-12
"""Part of a budget by which sums of floats may miss it: 0.1 + 0.2 keeps to 0.3."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Solution:
    """What each role is given.

    Attributes:
        choice: int64 [k], the column of each role.
        value: The sum of what the columns are worth.
        cost: The sum of their costs, never above the budget.
        exact: Whether nothing better keeps to the budget.
    """

    choice: Places
    value: float
    cost: float
    exact: bool


def solve(values: Floats, costs: Floats, allowed: Flags, budget: float = math.inf) -> Solution:
    """Gives each role exactly one column, so that the sum of values is greatest and the sum of costs keeps to the budget.

    Of equally good choices the cheaper one is taken, then the one that gives the first roles the cheaper columns.

    Columns that cost more than another and are worth no more are left out at once. What remains is weighed in full, as all
    pairs of one half of the roles and the other. Where that is too much, dynamic programming looks at costs that are rounded
    up, so that a budget is never exceeded; of what the cheapest choice leaves of it, one part in 3,000 for each role may
    stay unused.

    Args:
        values: float64 [k, m]; finite where allowed.
        costs: float64 [k, m], USD, 0 or more; finite where allowed.
        allowed: bool [k, m], what each role may have. An optional role has one more column, of cost 0, for being left out.
        budget: USD; infinite = none.

    Raises:
        ConfigError: A role may have nothing, or an allowed value or cost is no number.
        BudgetError: Even the cheapest choice costs more.

    Source: Horowitz and Sahni 1974, Computing Partitions with Applications to the Knapsack Problem (two halves); Kellerer,
    Pferschy and Pisinger 2004, Knapsack Problems, chapter 11 (multiple choice: dominance, dynamic programming).
    """
    _check(values, costs, allowed, budget)
    # Each role's columns from the cheapest on; those that are not worth more than all cheaper ones are left out.
    price, worth = np.where(allowed, costs, np.inf), np.where(allowed, values, -np.inf)
    order = np.lexsort((-worth, price), axis=1)
    price, worth = np.take_along_axis(price, order, axis=1), np.take_along_axis(worth, order, axis=1)
    kept = np.ones(order.shape, bool)
    kept[:, 1:] = worth[:, 1:] > np.maximum.accumulate(worth, axis=1)[:, :-1]
    rows, best = np.arange(len(order)), worth.argmax(axis=1)
    limit = budget * (1.0 + ROUNDING)
    if price[rows, best].sum() <= limit:
        return _solution(values, costs, order[rows, best], budget, exact=True)
    least = price[:, 0].sum()
    if least > limit:
        raise too_little(budget, float(least))
    # Every role pays for its cheapest column anyway: only what the others cost beyond that is to be shared out.
    spare, extra = float(limit - least), price - price[:, :1]
    kept &= extra <= spare
    found, exact = _halves(
        [one[may] for one, may in zip(worth, kept, strict=True)], [one[may] for one, may in zip(extra, kept, strict=True)], spare
    )
    choice = np.array([one[may][place] for one, may, place in zip(order, kept, found, strict=True)], np.int64)
    return _solution(values, costs, choice, budget, exact=exact)


def cheapest(costs: Floats, allowed: Flags) -> Places:
    """The cheapest column of each role, the first where several are: int64 [k]."""
    return np.asarray(np.where(allowed, costs, np.inf).argmin(axis=1), np.int64)


def _check(values: Floats, costs: Floats, allowed: Flags, budget: float) -> None:
    if not values.shape == costs.shape == allowed.shape or values.ndim != 2 or not len(values):
        raise ConfigError(f"values {values.shape}, costs {costs.shape} and allowed {allowed.shape} must be one shape [k, m]")
    if math.isnan(budget):
        raise ConfigError("budget=nan: give USD, or math.inf for none")
    if not allowed.any(axis=1).all():
        raise ConfigError(f"row {int(allowed.any(axis=1).argmin())} may have no column at all")
    if not (np.isfinite(values[allowed]).all() and np.isfinite(costs[allowed]).all() and (costs[allowed] >= 0.0).all()):
        raise ConfigError("what is allowed needs a finite value and a finite cost of 0 or more")


def too_little(budget: float, least: float) -> BudgetError:
    """The error of a budget that no choice keeps to."""
    message = f"the budget of ${budget:.6g} is too small: the cheapest that is allowed costs ${least:.6g}"
    return BudgetError(message, budget=budget, cheapest=least)


def _solution(values: Floats, costs: Floats, choice: Places, budget: float, *, exact: bool) -> Solution:
    rows = np.arange(len(values))
    cost = min(float(costs[rows, choice].sum()), budget)
    return Solution(choice=choice, value=float(values[rows, choice].sum()), cost=cost, exact=exact)


def _halves(worth: list[Floats], extra: list[Floats], spare: float) -> tuple[list[int], bool]:
    """The best place of each role, and whether it is surely the best."""
    sizes = [len(one) for one in worth]
    # The roles are cut where the larger half is smallest.
    cut = min(range(len(sizes) + 1), key=lambda at: max(math.prod(sizes[:at]), math.prod(sizes[at:])))
    if max(math.prod(sizes[:cut]), math.prod(sizes[cut:])) > _COMBINATIONS:
        return _binned(worth, extra, spare), False
    value, cost = sums(worth[:cut]), sums(extra[:cut])
    others, prices = sums(worth[cut:]), sums(extra[cut:])
    front = np.lexsort((-others, prices))
    others, prices = others[front], prices[front]
    rises = np.concatenate([[True], others[1:] > np.maximum.accumulate(others)[:-1]])
    front, others, prices = front[rises], others[rises], prices[rises]
    # For each choice of the first half, the best of the second that it leaves money for: the dearest on the front.
    partner = prices.searchsorted(spare - cost, side="right") - 1
    total = np.where(partner >= 0, value + others[partner], -np.inf)
    top = float(total.max())
    tied = np.flatnonzero(total >= top - ROUNDING * max(1.0, abs(top)))
    first = int(tied[(cost[tied] + prices[partner[tied]]).argmin()])
    left = np.unravel_index(first, sizes[:cut]) if cut else ()
    right = np.unravel_index(int(front[partner[first]]), sizes[cut:])
    return [int(place) for place in (*left, *right)], True


def sums(terms: list[Floats]) -> Floats:
    """The sum of one of each, of all combinations, the last one turning fastest."""
    total = np.zeros(1)
    for term in reversed(terms):  # in this order the rows that are added are long
        total = (term[:, None] + total).ravel()
    return total


def _binned(worth: list[Floats], extra: list[Floats], spare: float) -> list[int]:
    """Dynamic programming over costs in whole bins, rounded up.

    Only the tables of values are kept; the choices are found again from the last table backwards, which is quicker than to
    note them for every bin.
    """
    bins = [np.ceil(cost / spare * _BINS - 1e-10).astype(np.int64) for cost in extra]
    tables = [np.zeros(_BINS + 1)]
    room = np.empty(_BINS + 1)
    for value, weight in zip(worth, bins, strict=True):
        before = tables[-1]
        table = before + value[0]
        for gain, bin_ in zip(value[1:].tolist(), weight[1:].tolist(), strict=True):
            part = np.add(before[: len(before) - bin_], gain, out=room[bin_:])
            np.maximum(table[bin_:], part, out=table[bin_:])
        tables.append(table)
    found: list[int] = []
    left = _BINS
    for before, value, weight in zip(tables[-2::-1], worth[::-1], bins[::-1], strict=True):
        fits = weight <= left
        place = int((before[left - weight[fits]] + value[fits]).argmax())
        found.insert(0, place)
        left -= int(weight[place])
    return found
