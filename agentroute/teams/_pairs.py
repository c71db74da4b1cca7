"""Where a sum does not hold: effects of pairs of roles, and the best assignment under them, found by weighing all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import BudgetError, ConfigError
from agentroute.teams._additive import AdditiveLogit, Observed
from agentroute.teams._knapsack import cheapest

__all__ = ["Assigned", "PairwiseLogit", "surely_better"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_COMBINATIONS: Final = 200_000
_STARTS: Final = 8
_ROUNDING: Final = 1e-12  # as in the knapsack: 0.1 + 0.2 keeps to 0.3
_SURELY: Final = 2.0


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


class PairwiseLogit(AdditiveLogit):
    """The additive model with one more effect for each pair of roles and their models, held toward 0.

    What a solver adds may hang on who plans for it. That takes many more runs to tell, and no knapsack finds the best
    assignment any more: it is for teams small enough to weigh every one.

    Args:
        levels: int64 [k], columns of each role: the models, and one more where the role is optional.
        modes: Number of modes.
        kinds: Number of kinds of task; 0 = one fixed map for all tasks.
        prior: float64 [k, m], prior means of theta; `None` = 0.
        ridge: Of theta, 1 / variance.
        kind_ridge: Of phi.
        pair_ridge: Of the effects of pairs.
        few: Runs of a (role, model) below which nothing is said of it.
    """

    def __init__(
        self,
        levels: Places,
        *,
        modes: int = 1,
        kinds: int = 0,
        prior: Floats | None = None,
        ridge: float = 1.0,
        kind_ridge: float = 4.0,
        pair_ridge: float = 4.0,
        few: int = 10,
    ) -> None:
        super().__init__(levels, modes=modes, kinds=kinds, prior=prior, ridge=ridge, kind_ridge=kind_ridge, few=few)
        self.pair_ridge = pair_ridge

    @cached_property
    def _pairs(self) -> list[tuple[int, int]]:
        return list(itertools.combinations(range(self._roles), 2))

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self._end + len(self._pairs) * self.width**2

    def _design(self, columns: Places, modes: Places, kinds: Floats) -> Floats:
        design = super()._design(columns, modes, kinds)
        rows = np.arange(len(columns))
        for place, (a, b) in enumerate(self._pairs):
            design[rows, self._end + place * self.width**2 + columns[:, a] * self.width + columns[:, b]] = 1.0
        return design

    def _penalty(self) -> tuple[Floats, Floats]:
        precision, mean = super()._penalty()
        precision[self._end :] = self.pair_ridge
        return precision, mean

    def pairs(self, coef: Floats | None = None) -> Floats:
        """What each pair of models adds in each pair of roles, float64 [k (k - 1) / 2, m, m]: roles (0, 1), (0, 2) and so on."""
        coef = self._fitted() if coef is None else coef
        return coef[self._end :].reshape(-1, self.width, self.width)

    def best(
        self,
        costs: Floats,
        allowed: Flags,
        budget: float = math.inf,
        *,
        mode: int = 0,
        kinds: Floats | None = None,
        rate: float = 0.0,
        coef: Floats | None = None,
    ) -> Assigned:
        """The assignment with the greatest chance of success, less `rate` for each USD, that keeps to a budget.

        All are weighed where there are at most 200,000; else several assignments are bettered role by role and pair by pair
        until nothing betters them. Of equally good ones the cheaper is taken, then the first.

        Args:
            costs: float64 [k, m], USD, finite where allowed.
            allowed: bool [k, m], what each role may have.
            budget: USD; infinite = none.
            mode: The mode's place.
            kinds: float64 [c], of the task; `None` = of no kind.
            rate: Chance of success that one USD is worth.
            coef: Parameters to go by, as `draw` gives them; `None` = those learned.

        Raises:
            ConfigError: A role may have nothing.
            BudgetError: Even the cheapest assignment costs more.
        """
        if not allowed.any(axis=1).all():
            raise ConfigError(f"row {int(allowed.any(axis=1).argmin())} may have no column at all")
        least = cheapest(costs, allowed)
        floor = float(costs[np.arange(len(least)), least].sum())
        if floor > budget * (1.0 + _ROUNDING):
            message = f"the budget of ${budget:.6g} is too small: the cheapest choice that is allowed costs ${floor:.6g}"
            raise BudgetError(message, budget=budget, cheapest=floor)
        kinds = np.zeros(self.kinds) if kinds is None else kinds
        search = _Search(
            base=self.base(mode, kinds, coef),
            values=self.values(kinds, coef),
            pairs=self.pairs(coef),
            costs=costs,
            places=[np.flatnonzero(row) for row in allowed],
            budget=budget * (1.0 + _ROUNDING),
            rate=rate,
        )
        exact = math.prod(len(places) for places in search.places) <= _COMBINATIONS
        return search.all() if exact else search.climb(least)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Search:
    """What an assignment is worth and costs, and the ways to look for the best."""

    base: float
    values: Floats
    pairs: Floats
    costs: Floats
    places: list[Places]
    budget: float
    rate: float

    def table(self, places: list[Places]) -> tuple[Floats, Floats]:
        """Logit and cost of all combinations of columns, each float64 [number of columns of role 0, of role 1 …]."""
        count = len(places)
        shapes = [tuple(-1 if axis == role else 1 for axis in range(count)) for role in range(count)]
        logit, cost = np.full((1,) * count, self.base), np.zeros((1,) * count)
        for role, columns in enumerate(places):
            logit = logit + self.values[role, columns].reshape(shapes[role])
            cost = cost + self.costs[role, columns].reshape(shapes[role])
        for table, (a, b) in zip(self.pairs, itertools.combinations(range(count), 2), strict=True):
            block = table[np.ix_(places[a], places[b])]
            logit = logit + block.reshape([len(places[axis]) if axis in {a, b} else 1 for axis in range(count)])
        return logit, cost

    def pick(self, places: list[Places], *, exact: bool) -> Assigned:
        """The best of all combinations of these columns; at least one keeps to the budget."""
        logit, cost = self.table(places)
        worth = self._worth(logit, cost)
        top = float(worth.max())
        tied = np.flatnonzero(worth.ravel() >= top - _ROUNDING * max(1.0, abs(top)))
        first = int(tied[cost.ravel()[tied].argmin()])
        at = np.unravel_index(first, logit.shape)
        one, usd = float(logit.ravel()[first]), float(cost.ravel()[first])
        columns = np.array([columns[place] for columns, place in zip(places, at, strict=True)], np.int64)
        value = float(_chance(np.array(one))) - self.rate * usd
        return Assigned(columns=columns, logit=one, value=value, cost=usd, exact=exact)

    def all(self) -> Assigned:
        """The best of all."""
        return self.pick(self.places, exact=True)

    def climb(self, least: Places) -> Assigned:
        """Betters several assignments two roles at a time: the cheapest one, and random ones that keep to the budget."""
        rng = np.random.default_rng(0)
        both = self._both()
        found = [self._bettered(least.copy(), both)]
        for _ in range(_STARTS - 1):
            start = least.copy()
            for role in rng.permutation(len(least)).tolist():
                before = int(start[role])
                start[role] = rng.choice(self.places[role])
                if self.costs[np.arange(len(start)), start].sum() > self.budget:
                    start[role] = before
            found.append(self._bettered(start, both))
        ends = [self.pick([np.array([column]) for column in columns], exact=False) for columns in found]
        return max(ends, key=lambda one: (one.logit if self.rate == 0.0 else one.value, -one.cost))

    def _both(self) -> Floats:
        """What pairs add, float64 [k, k, m, m], from either role's side; a role adds nothing with itself."""
        count, width = self.values.shape
        both = np.zeros((count, count, width, width))
        for table, (a, b) in zip(self.pairs, itertools.combinations(range(count), 2), strict=True):
            both[a, b], both[b, a] = table, table.T
        return both

    def _bettered(self, columns: Places, both: Floats) -> Places:
        """The assignment that no change of two roles betters, reached from this one, which is changed."""
        roles = np.arange(len(columns))
        # What each role's columns add as the others are: kept up to date, so that a pair is weighed without the rest.
        field = self.values + both[roles[:, None], roles[None], :, columns[None]].sum(axis=1)
        usd = self.costs[roles, columns]
        better = True
        while better:
            better = False
            for a, b in itertools.combinations(range(len(columns)), 2):
                at, bt = columns[a], columns[b]
                one, other = self.places[a], self.places[b]
                own = field[a, one] - both[a, b][one, bt]
                joint = own[:, None] + (field[b, other] - both[b, a][other, at])[None] + both[a, b][np.ix_(one, other)]
                spent = float(usd.sum() - usd[a] - usd[b])
                cost = spent + self.costs[a, one][:, None] + self.costs[b, other][None]
                rest = self.base + float((self.values[roles, columns] + field[roles, columns]).sum()) / 2.0
                now = field[a, at] + field[b, bt] - both[a, b][at, bt]
                worth = self._worth(joint + (rest - now), cost)
                top = int(worth.argmax())
                if worth.ravel()[top] > float(self._worth(np.array(rest), np.array(usd.sum()))) + 1e-10:
                    better = True
                    for role, column in ((a, one[top // len(other)]), (b, other[top % len(other)])):
                        field += both[:, role, :, column] - both[:, role, :, columns[role]]
                        columns[role], usd[role] = column, self.costs[role, column]
        return columns

    def _worth(self, logit: Floats, cost: Floats) -> Floats:
        """What is to be greatest; where money is worth nothing the logit, which does not run out of digits near 1."""
        worth = logit if self.rate == 0.0 else _chance(logit) - self.rate * cost
        return np.where(cost <= self.budget, worth, -np.inf)


def _chance(logit: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logit, -40.0, 40.0))))


def surely_better(
    one: Callable[[], AdditiveLogit], other: Callable[[], AdditiveLogit], seen: Observed, *, folds: int = 5, seed: int = 0
) -> bool:
    """Whether one model foretells runs that it has not seen surely better than another: by log loss, two standard errors apart.

    Args:
        one: Makes the model that must prove itself.
        other: Makes the one that is used otherwise.
        seen: At least as many runs as folds, or nothing is sure.
        folds: Parts of the runs.
        seed: Of the parts.
    """
    n = len(seen)
    if n < 2 * folds:
        return False
    fold = np.random.default_rng(seed).permutation(n) % folds
    gain = np.zeros(n)
    for part in range(folds):
        here, rest = np.flatnonzero(fold == part), np.flatnonzero(fold != part)
        train, held = seen.take(rest), seen.take(here)
        gain[here] = _loss(other().fit(train), held) - _loss(one().fit(train), held)
    spread = float(gain.std(ddof=1)) / math.sqrt(n)
    return float(gain.mean()) > _SURELY * spread


def _loss(model: AdditiveLogit, seen: Observed) -> Floats:
    logit, _ = model.logit(seen.columns, seen.modes, seen.kinds[:, : model.kinds])
    return np.asarray(np.logaddexp(0.0, logit) - seen.success * logit)
