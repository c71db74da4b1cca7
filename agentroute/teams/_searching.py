"""The best assignment where no knapsack finds it: all are weighed, and of very many some are bettered two roles at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError
from agentroute.teams._knapsack import ROUNDING, cheapest, too_little

__all__ = ["Assigned", "Price", "matrix_price", "search"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Price: TypeAlias = Callable[[Places], Floats]
"""USD of assignments: int64 [n, k] → float64 [n]."""

_COMBINATIONS: Final = 200_000
_STARTS: Final = 8
_FIRST: Final = 128  # of those with the greatest chance: mostly one of them can be paid
_BLOCK: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Assigned:
    """One model for each role.

    Attributes:
        columns: int64 [k], the column of each role.
        logit: Of success.
        value: What was to be greatest: the chance of success less what the money is worth.
        cost: USD.
        exact: Whether all assignments were weighed.
    """

    columns: Places
    logit: float
    value: float
    cost: float
    exact: bool


def matrix_price(costs: Floats) -> Price:
    """The price where each role and model has one cost, float64 [k, m], whatever the others have."""
    return lambda columns: np.asarray(costs[np.arange(len(costs)), columns].sum(axis=1))


def search(
    values: Floats,
    allowed: Flags,
    price: Price,
    budget: float = math.inf,
    *,
    least: Places | None = None,
    base: float = 0.0,
    pairs: Floats | None = None,
    rate: float = 0.0,
    worth: Price | None = None,
) -> Assigned:
    """The assignment with the greatest chance of success, less `rate` for each USD, that keeps to a budget.

    All are weighed where there are at most 200,000; else several assignments are bettered role by role and pair by pair
    until nothing betters them. Of equally good ones the cheaper is taken, then the first.

    Args:
        values: float64 [k, m], what each model adds to the logit in each role; finite where allowed.
        allowed: bool [k, m], what each role may have.
        price: What assignments cost; never NaN.
        budget: USD; infinite = none.
        least: int64 [k], the cheapest assignment, where the search begins; `None` = the cheapest of each role alone.
        base: The logit without any role's model.
        pairs: float64 [k (k - 1) / 2, m, m], what each pair of models adds, of roles (0, 1), (0, 2) and so on; `None` = nothing.
        rate: Chance of success that one USD is worth.
        worth: The USD that `rate` weighs; `None` = as `price` says.

    Raises:
        ConfigError: A role may have nothing.
        BudgetError: Even the cheapest assignment costs more.
    """
    if not allowed.any(axis=1).all():
        raise ConfigError(f"row {int(allowed.any(axis=1).argmin())} may have no column at all")
    wanted = _Search(
        base=base,
        values=values,
        pairs=pairs,
        price=price,
        worth=worth or price,
        places=[np.flatnonzero(row) for row in allowed],
        limit=budget * (1.0 + ROUNDING),
        rate=rate,
    )
    if math.prod(len(one) for one in wanted.places) <= _COMBINATIONS:
        return wanted.all(budget)
    if least is None:
        alone = np.full(allowed.shape, math.inf)
        start = np.array([one[0] for one in wanted.places])
        for role, columns in enumerate(wanted.places):
            tried = np.repeat(start[None], len(columns), axis=0)
            tried[:, role] = columns
            alone[role, columns] = price(tried)
        least = cheapest(alone, allowed)
    return wanted.climb(least, budget)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Search:
    """What an assignment is worth and costs, and the ways to look for the best."""

    base: float
    values: Floats
    pairs: Floats | None
    price: Price
    worth: Price
    places: list[Places]
    limit: float
    rate: float

    def table(self) -> Floats:
        """The logits of all combinations, the last role turning fastest: float64 [n]."""
        count, sizes = len(self.places), [len(one) for one in self.places]

        def shaped(values: Floats, *roles: int) -> Floats:
            return values.reshape([sizes[axis] if axis in roles else 1 for axis in range(count)])

        logit = np.full((1,) * count, self.base)
        for role, columns in enumerate(self.places):
            logit = logit + shaped(self.values[role, columns], role)
        for pair, a, b in self.paired():
            logit = logit + shaped(pair[np.ix_(self.places[a], self.places[b])], a, b)
        return np.asarray(np.broadcast_to(logit, sizes)).ravel()

    def paired(self) -> list[tuple[Floats, int, int]]:
        """What each pair of models adds, and in which two roles."""
        if self.pairs is None:
            return []
        return [(pair, a, b) for pair, (a, b) in zip(self.pairs, itertools.combinations(range(len(self.places)), 2), strict=True)]

    def aim(self, logit: Floats, columns: Places, usd: Floats) -> Floats:
        """What is to be greatest; where money is worth nothing the logit, which does not run out of digits near 1."""
        found = logit if self.rate == 0.0 else _chance(logit) - self.rate * self.worth(columns)
        return np.where(usd <= self.limit, found, -np.inf)

    def all(self, budget: float) -> Assigned:
        """The best of all, looked at from the greatest chance on, until what is left cannot be better."""
        logits = self.table()
        order = np.argsort(-logits, kind="stable")
        most = logits[order] if self.rate == 0.0 else _chance(logits[order])
        sizes = [len(one) for one in self.places]
        top, floor, start, block = -math.inf, math.inf, 0, _FIRST
        kept: list[tuple[Floats, Floats, Places, Places]] = []
        while start < len(order) and most[start] >= _near(top):
            numbers = order[start : start + block]
            at = np.unravel_index(numbers, sizes)
            columns = np.stack([one[place] for one, place in zip(self.places, at, strict=True)], axis=1)
            usd = self.price(columns)
            aim = self.aim(logits[numbers], columns, usd)
            top, floor = max(top, float(aim.max())), min(floor, float(usd.min()))
            tied = (aim >= _near(top)) & (aim > -math.inf)
            kept.append((aim[tied], usd[tied], numbers[tied], columns[tied]))
            start, block = start + block, _BLOCK
        if top == -math.inf:
            raise too_little(budget, floor)
        aims, usd, numbers, columns = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        equal = aims >= _near(top)
        first = np.lexsort((numbers[equal], usd[equal]))[0]
        return self.assigned(columns[equal][first], exact=True)

    def climb(self, least: Places, budget: float) -> Assigned:
        """Betters several assignments two roles at a time: the cheapest one, and random ones that keep to the budget."""
        floor = float(self.price(least[None])[0])
        if floor > self.limit:
            raise too_little(budget, floor)
        rng = np.random.default_rng(0)
        found = [self.bettered(least)]
        for _ in range(_STARTS - 1):
            start = least
            for role in rng.permutation(len(least)).tolist():
                tried = start.copy()
                tried[role] = rng.choice(self.places[role])
                start = tried if self.price(tried[None])[0] <= self.limit else start
            found.append(self.bettered(start))
        ends = [self.assigned(columns, exact=False) for columns in found]
        return max(ends, key=lambda one: (one.logit if self.rate == 0.0 else one.value, -one.cost))

    def bettered(self, columns: Places) -> Places:
        """The assignment that no change of two roles betters, reached from this one."""
        columns, both = columns.copy(), self.both()
        roles = np.arange(len(columns))
        # What each role's columns add as the others are: kept up to date, so that a pair is weighed without the rest.
        field = self.values + both[roles[:, None], roles[None], :, columns[None]].sum(axis=1)
        better = True
        while better:
            better = False
            for a, b in itertools.combinations(range(len(columns)), 2):
                at, bt = columns[a], columns[b]
                one, other = self.places[a], self.places[b]
                own = field[a, one] - both[a, b][one, bt]
                joint = own[:, None] + (field[b, other] - both[b, a][other, at])[None] + both[a, b][np.ix_(one, other)]
                rest = self.base + float((self.values[roles, columns] + field[roles, columns]).sum()) / 2.0
                now = field[a, at] + field[b, bt] - both[a, b][at, bt]
                near = np.repeat(columns[None], joint.size + 1, axis=0)
                near[:-1, a], near[:-1, b] = np.repeat(one, len(other)), np.tile(other, len(one))
                aim = self.aim(np.append(joint.ravel() + (rest - now), rest), near, self.price(near))
                top = int(aim[:-1].argmax())
                if aim[top] > aim[-1] + 1e-10:
                    better = True
                    for role in (a, b):
                        field += both[:, role, :, near[top, role]] - both[:, role, :, columns[role]]
                    columns = near[top]
        return columns

    def both(self) -> Floats:
        """What pairs add, float64 [k, k, m, m], from either role's side; a role adds nothing with itself."""
        count, width = self.values.shape
        both = np.zeros((count, count, width, width))
        for pair, a, b in self.paired():
            both[a, b], both[b, a] = pair, pair.T
        return both

    def assigned(self, columns: Places, *, exact: bool) -> Assigned:
        """An assignment with its chance and its cost."""
        roles = np.arange(len(columns))
        logit = self.base + float(self.values[roles, columns].sum())
        logit += sum(float(pair[columns[a], columns[b]]) for pair, a, b in self.paired())
        usd, spent = float(self.price(columns[None])[0]), float(self.worth(columns[None])[0])
        value = float(_chance(np.array(logit))) - (self.rate * spent if self.rate else 0.0)
        return Assigned(columns=columns, logit=logit, value=value, cost=usd, exact=exact)


def _near(top: float) -> float:
    """What counts as equal to the best."""
    return top if math.isinf(top) else top - ROUNDING * max(1.0, abs(top))


def _chance(logit: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logit, -40.0, 40.0))))
