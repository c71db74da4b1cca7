"""Which of all allocations is the best under a budget, and which others may be tried to learn from."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import BudgetError, ConfigError, NoEligibleModelError, UnknownModelError
from agentroute.pool import ModelPool, refusal
from agentroute.teams._additive import AdditiveLogit, Effect
from agentroute.teams._costs import CostModel
from agentroute.teams._kinds import TaskKinds
from agentroute.teams._knapsack import solve
from agentroute.teams._pairs import PairwiseLogit
from agentroute.teams._solving import cheapest_team, solve_team
from agentroute.teams._values import NONE, Allocation, Mode, Team
from agentroute.types import Query

__all__ = ["Choice", "Chooser"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_ALL: Final = 20_000  # assignments that exploration draws from as they are
_LEVELS: Final = np.linspace(0.0, 1.0, 33)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """One mode's best, or what was drawn."""

    mode: Mode
    columns: Places
    chance: float
    cost: float
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chooser:
    """Weighs allocations by what is known of a team. It never changes: an allocator that learns makes another one.

    Attributes:
        team: Roles and modes.
        pool: The models.
        costs: What runs cost.
        kinds: Which tasks are alike.
        sum: What models add.
        pairs: What pairs of models add, where a sum does not hold; else `None`.
        willingness_to_pay: USD that a success is worth.
        judged: Role → what its models were judged by before any run.
        told: (Role, column) → what the runs tell of it, by position; empty without runs.
    """

    team: Team
    pool: ModelPool
    costs: CostModel
    kinds: TaskKinds
    sum: AdditiveLogit
    pairs: PairwiseLogit | None
    willingness_to_pay: float
    judged: Mapping[str, str]
    told: Mapping[tuple[int, int], Effect] = field(init=False)

    def __post_init__(self) -> None:
        """Asks once what the runs can tell: that takes longer than to allocate."""
        effects = self.sum.effects() if self.sum.runs else []
        object.__setattr__(self, "told", {(one.role, one.column): one for one in effects})

    def kinds_of(self, query: Query) -> Floats:
        """How far a task is of each kind, float64 [c]."""
        return np.asarray(self.kinds.of([query])[0])

    def worth(self, choice: Choice) -> float:
        return choice.chance - (choice.cost / self.willingness_to_pay if math.isfinite(choice.cost) else 0.0)

    def modes(self, mode: str | None) -> tuple[Mode, ...]:
        if mode is None:
            return self.team.modes
        found = tuple(one for one in self.team.modes if one.name == mode)
        if not found:
            raise ConfigError(f"unknown mode {mode!r}: the team has {', '.join(repr(one.name) for one in self.team.modes)}")
        return found

    def allowed(self, query: Query, roles: Sequence[str] | None, fixed: Mapping[str, str] | None) -> Flags:
        """Which model each role may have, bool [k, m + 1]: filters come before any weighing, and never give way to it."""
        fixed = dict(fixed or {})
        for name, model in fixed.items():
            self.team.role(name)
            if model not in {*self.pool.ids, NONE}:
                raise UnknownModelError(model, self.pool.ids, where="the team")
        for name in roles or ():
            self.team.role(name)
        if roles is not None:
            if not roles:
                raise ConfigError("roles=[] leaves nobody to do the work: name the roles that take part, or None for all")
            idle = [name for name in fixed if name not in roles]
            if idle:
                raise ConfigError(f"fixed= gives {idle[0]!r} a model, and roles= leaves it out")
        allowed = self.costs.admissible()
        for row, role in enumerate(self.team.roles):
            needed = replace(
                query,
                needs=role.needs | query.needs,
                input_tokens=round(role.input_tokens),
                max_output_tokens=None,
            )
            why = {card.id: refusal(card, needed) for card in self.pool}
            for column, model in enumerate(self.pool.ids):
                if not allowed[row, column]:
                    why[model] = why[model] or "the team gives the role others"
                elif role.name in fixed and model != fixed[role.name]:
                    why[model] = why[model] or f"the role is fixed to {fixed[role.name]}"
                allowed[row, column] &= refusal(self.pool[column], needed) is None
            if roles is not None:
                allowed[row, -1] = role.name not in roles
                if role.name not in roles:
                    allowed[row, :-1] = False
            if role.name in fixed:
                column = (*self.pool.ids, NONE).index(fixed[role.name])
                may = allowed[row, column] or (fixed[role.name] == NONE and role.optional)
                allowed[row] = False
                allowed[row, column] = may
            if not allowed[row].any():
                if fixed.get(role.name) == NONE:
                    raise ConfigError(
                        f"fixed= leaves out the role {role.name!r}, which is not optional: make it Role(optional=True)"
                    )
                raise NoEligibleModelError({f"role {role.name}, {model}": str(reason) for model, reason in why.items()})
        return allowed

    def values(self, kinds: Floats) -> Floats:
        """What each model adds, float64 [k, m + 1]."""
        return self.sum.values(kinds)

    def _priced(self, mode: Mode, allowed: Flags, limit: float, *, upper: bool) -> Floats:
        """USD of each role's models, float64 [k, m + 1]; NaN where unknown and nobody weighs cost."""
        weighed = math.isfinite(limit) or math.isfinite(self.willingness_to_pay)
        return self.costs.matrix(mode.name, allowed, upper=upper, strict=weighed)

    def _over(self, mode: Mode, allowed: Flags, limit: float) -> bool:
        """Whether cost is weighed, and one matrix cannot say it: what a role reads hangs on the others' models."""
        if math.isinf(limit) and math.isinf(self.willingness_to_pay):
            return False
        most, least = (self.costs.matrix(mode.name, allowed, reads=reads, strict=False) for reads in ("most", "least"))
        return bool((most > least * (1.0 + 1e-9))[allowed].any())

    def best(self, mode: Mode, kinds: Floats, allowed: Flags, limit: float, *, upper: bool) -> Choice:
        costs = self._priced(mode, allowed, limit, upper=upper)
        place = self.team.modes.index(mode)
        if self.pairs is not None:
            free = np.where(np.isnan(costs), 0.0, costs)
            # What it reads of the others is overestimated here: where that finds nothing, the sum may.
            with suppress(BudgetError):
                one = self.pairs.best(free, allowed, limit, mode=place, kinds=kinds, rate=1.0 / self.willingness_to_pay)
                return self._chosen(
                    mode, one.columns, _chance(one.logit), exact=one.exact and not self._over(mode, allowed, limit)
                )
        values, base = self.values(kinds), self.sum.base(place, kinds)
        known = not np.isnan(costs[allowed]).any()
        if not known:
            columns = np.where(allowed, values, -np.inf).argmax(axis=1)
            return self._chosen(mode, columns, _chance(base + _sum_of(values, columns)), exact=True)
        limits = [limit] if math.isinf(self.willingness_to_pay) else self._limits(mode, allowed, costs, limit, upper=upper)
        found = []
        for most in limits:
            one_ = solve_team(values, self.costs, mode.name, allowed, most, upper=upper)
            found.append(self._chosen(mode, one_.choice, _chance(base + one_.value), exact=one_.exact and len(limits) == 1))
        return max(found, key=lambda choice: (self.worth(choice), -choice.cost))

    def again(self, mode: Mode, kinds: Floats, costs: Floats, allowed: Flags, limit: float) -> Places:
        """The best columns where each role's models cost so much from here on, int64 [k].

        Raises:
            BudgetError: Even the cheapest cost more than the limit.
        """
        place, rate = self.team.modes.index(mode), 1.0 / self.willingness_to_pay
        if self.pairs is not None:
            return self.pairs.best(costs, allowed, limit, mode=place, kinds=kinds, rate=rate).columns
        values, base = self.values(kinds), self.sum.base(place, kinds)
        free = solve(values, costs, allowed, limit)
        if not rate:
            return free.choice
        least = float(np.where(allowed, costs, np.inf).min(axis=1).sum())
        tried = [free, *(solve(values, costs, allowed, max(one, least)) for one in least + _LEVELS**2 * (free.cost - least))]
        return max(tried, key=lambda one: (_chance(base + one.value) - rate * one.cost, -one.cost)).choice

    def _limits(self, mode: Mode, allowed: Flags, costs: Floats, limit: float, *, upper: bool) -> list[float]:
        """Budgets at which to look for what is worth most beyond its cost: a chance is no sum, and no one knapsack finds it."""
        least = float(
            self.costs.exact(mode.name, cheapest_team(self.costs, mode.name, allowed, upper=upper)[None], upper=upper)[0]
        )
        most = min(limit, float(np.where(allowed, costs, 0.0).max(axis=1).sum()))
        if least > limit:
            return [limit]
        return [float(one) for one in least + _LEVELS**2 * max(most - least, 0.0) if one <= limit]

    def _chosen(self, mode: Mode, columns: Places, chance: float, *, exact: bool) -> Choice:
        cost = float(self.costs.exact(mode.name, columns[None])[0])
        return Choice(mode=mode, columns=columns, chance=chance, cost=cost, exact=exact)

    def too_little(
        self, short: list[BudgetError], modes: tuple[Mode, ...], allowed: Flags, limit: float, *, upper: bool
    ) -> BudgetError:
        """The error of a budget that no allocation keeps to: with the cheapest that there is."""
        offers = []
        for mode in modes:
            columns = cheapest_team(self.costs, mode.name, allowed, upper=upper)
            offers.append((float(self.costs.exact(mode.name, columns[None], upper=upper)[0]), mode.name, columns))
        cost, name, columns = min(offers, key=lambda offer: offer[0])
        models = ", ".join(f"{role}={model}" for role, model in self.named(columns).items())
        found = BudgetError(
            f"no allocation keeps to ${limit:.4g} a run: the cheapest, {models} in mode {name!r}, costs ${cost:.4g}",
            budget=limit,
            cheapest=cost,
        )
        found.__cause__ = short[0]
        return found

    # --- exploring ---

    def explored(
        self,
        best: Choice,
        modes: tuple[Mode, ...],
        kinds: Floats,
        allowed: Flags,
        limit: float,
        explore: float,
        rng: np.random.Generator,
        *,
        upper: bool,
    ) -> tuple[Choice, float, str]:
        """The best with a chance of 1 - explore, else any of those that keep to the budget; with the chance of what was drawn."""
        options = self._options(best, modes, allowed, limit, upper=upper)
        at = next(place for place, (mode, columns) in enumerate(options) if mode is best.mode and (columns == best.columns).all())
        drawn = int(rng.integers(len(options))) if rng.random() < explore else at
        propensity = explore / len(options) + (1.0 - explore) * (drawn == at)
        if drawn == at:
            return best, propensity, ""
        mode, columns = options[drawn]
        place = self.team.modes.index(mode)
        logit = self.sum.base(place, kinds) + _sum_of(self.values(kinds), columns)
        choice = self._chosen(mode, columns, _chance(logit), exact=False)
        return choice, propensity, "drawn at random, to learn from"

    def _options(
        self, best: Choice, modes: tuple[Mode, ...], allowed: Flags, limit: float, *, upper: bool
    ) -> list[tuple[Mode, Places]]:
        """Allocations that keep to the budget: all of them, or of very many those that differ from the best in one role."""
        places = [np.flatnonzero(row) for row in allowed]
        if len(modes) * math.prod(len(one) for one in places) <= _ALL:
            grid = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1).reshape(-1, len(places))
            tried = [(mode, grid) for mode in modes]
        else:
            rows = [best.columns]
            for role, columns in enumerate(places):
                for column in columns[columns != best.columns[role]]:
                    swapped = best.columns.copy()
                    swapped[role] = column
                    rows.append(swapped)
            tried = [(mode, np.stack(rows)) for mode in modes]
        found = []
        for mode, grid in tried:
            fits = np.ones(len(grid), bool)
            if math.isfinite(limit):
                fits = self.costs.exact(mode.name, grid, upper=upper) <= limit * (1.0 + 1e-12)
            found += [(mode, columns) for columns in grid[fits]]
        if not any(mode is best.mode and (columns == best.columns).all() for mode, columns in found):
            found.append((best.mode, best.columns))
        return found

    # --- what comes of it ---

    def allocation(
        self,
        choice: Choice,
        kinds: Floats,
        budget: float | None,
        propensity: float,
        reason: str,
        *,
        said: Collection[str] = (),
    ) -> Allocation:
        """The choice in the team's own names, with what is expected of it; `said` names roles that the caller settled."""
        model = self.sum if self.pairs is None else self.pairs
        place = self.team.modes.index(choice.mode)
        chance, low, high = model.interval(choice.columns, place, kinds[: model.kinds])
        upper = float(self.costs.exact(choice.mode.name, choice.columns[None], upper=True)[0])
        return Allocation(
            models=self.named(choice.columns),
            mode=choice.mode.name,
            expected_quality=chance,
            quality_interval=(low, high),
            expected_cost=choice.cost,
            cost_upper=upper,
            budget=budget,
            propensity=propensity,
            reasons=self._reasons(choice.columns, kinds, reason, said),
            exact=choice.exact,
        )

    def _reasons(self, columns: Places, kinds: Floats, reason: str, said: Collection[str]) -> dict[str, str]:
        """Why each role has its model."""
        values, found, models = self.values(kinds), {}, len(self.pool)
        for row, role in enumerate(self.team.roles):
            column, effect = int(columns[row]), self.told.get((row, int(columns[row])))
            if column == models and (role.name in said or not role.optional):
                found[role.name] = "left out, as you said"  # nothing else leaves out a role that is not optional
            elif role.name in said:
                found[role.name] = "you said so"
            elif role.model is not None or reason:
                found[role.name] = reason or "the team says so"
            elif column == models:
                found[role.name] = "left out: it adds less than it costs"
            elif effect is not None and effect.logit is None:
                found[role.name] = f"the runs cannot tell: {self.judged[role.name]}"
            else:
                gain = float(values[row, column] - values[row, :models].mean())
                by = self.judged[role.name] if effect is None else f"by {effect.runs} runs"
                found[role.name] = f"{gain:+.2f} in the logit of success against the mean of the models, {by}"
        return found

    def named(self, columns: Places) -> dict[str, str]:
        pairs = zip(self.team.roles, columns.tolist(), strict=True)
        return {role.name: self.pool.ids[column] for role, column in pairs if column < len(self.pool.ids)}


def _chance(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(logit, -40.0), 40.0)))


def _sum_of(values: Floats, columns: Places) -> float:
    return float(values[np.arange(len(columns)), columns].sum())
