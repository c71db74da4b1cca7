"""Which of all allocations is the best under a budget, and which others may be tried to learn from."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import BudgetError, ConfigError, NoEligibleModelError
from agentroute.pool import ModelPool
from agentroute.teams._additive import AdditiveLogit, Effect
from agentroute.teams._costs import CostModel
from agentroute.teams._exploring import drawn, options
from agentroute.teams._filtering import Filters
from agentroute.teams._kinds import TaskKinds
from agentroute.teams._knapsack import cheapest, solve
from agentroute.teams._pairs import PairwiseLogit
from agentroute.teams._searching import Assigned, Price, matrix_price, search
from agentroute.teams._solving import cheapest_team, solve_team
from agentroute.teams._values import Allocation, Mode, Team
from agentroute.types import Query

__all__ = ["Choice", "Chooser"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_COMBINATIONS: Final = 50_000  # so many are weighed one by one where money is worth something
_LEANS: Final = 0.05  # logits by which runs have moved what the cards said
_OF_ALL: Final = " of all kinds, as the task is of none that is known"
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
        filters: Which models a role may have at all.
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
    filters: Filters = field(init=False)
    told: Mapping[tuple[int, int], Effect] = field(init=False)

    def __post_init__(self) -> None:
        """Asks once what the runs can tell: that takes longer than to allocate."""
        object.__setattr__(self, "filters", Filters(team=self.team, pool=self.pool, costs=self.costs))
        effects = self.sum.effects() if self.sum.runs else []
        object.__setattr__(self, "told", {(one.role, one.column): one for one in effects})

    def kinds_of(self, query: Query) -> Floats:
        """How far a task is of each kind, float64 [c]; one of no known kind is of all, as often as they were run."""
        found = np.asarray(self.kinds.of([query])[0])
        return found if found.any() else self.sum.mix

    def worth(self, choice: Choice) -> float:
        return choice.chance - (choice.cost / self.willingness_to_pay if math.isfinite(choice.cost) else 0.0)

    def modes(self, mode: str | None) -> tuple[Mode, ...]:
        if mode is None:
            return self.team.modes
        found = tuple(one for one in self.team.modes if one.name == mode)
        if not found:
            raise ConfigError(f"unknown mode {mode!r}: the team has {', '.join(repr(one.name) for one in self.team.modes)}")
        return found

    def decide(
        self,
        query: Query,
        *,
        roles: Collection[str] | None,
        budget: float | None,
        fixed: Mapping[str, str] | None,
        explore: float,
        upper: bool,
        mode: str | None,
        rng: np.random.Generator,
    ) -> Allocation:
        """The best allocation of all modes; see `RoleAllocator.allocate`."""
        if roles is not None and not roles:
            raise ConfigError("roles=[] leaves nobody to do the work: name the roles that take part, or None for all")
        limit, kinds = math.inf if budget is None else budget, self.kinds_of(query)
        may = self._may(query, self.modes(mode), roles, fixed)
        found, short = [], []
        for one, allowed in may:
            try:
                found.append(self.best(one, kinds, allowed, limit, upper=upper))
            except BudgetError as error:
                short.append(error)
        if not found:
            raise self._too_little(short, may, limit, upper=upper)
        best = max(found, key=lambda choice: (self.worth(choice), -choice.cost))
        propensity, reason = 1.0, ""
        if explore > 0.0:
            at = (best.mode.name, best.columns)
            among = options(self.costs, at, [(one.name, allowed) for one, allowed in may], limit, upper=upper)
            (name, columns), propensity = drawn(at, among, explore, rng)
            if name != best.mode.name or (columns != best.columns).any():
                best, reason = self._other(name, columns, kinds), "drawn at random, to learn from"
        said = {*(fixed or {}), *(role.name for role in self.team.roles if roles is not None and role.name not in roles)}
        known = not len(self.kinds) or bool(self.kinds.of([query]).any())
        return self.allocation(best, kinds, budget, propensity, reason, said=said, known=known)

    def _may(
        self, query: Query, modes: Sequence[Mode], roles: Collection[str] | None, fixed: Mapping[str, str] | None
    ) -> list[tuple[Mode, Flags]]:
        """Each mode in which every role has a model, with what its roles may have.

        Raises:
            NoEligibleModelError: There is no such mode.
        """
        found: list[tuple[Mode, Flags]] = []
        refused: NoEligibleModelError | None = None
        for mode in modes:
            try:
                found.append((mode, self.filters.allowed(query, mode, roles, fixed)))
            except NoEligibleModelError as error:
                refused = refused or error
        if refused is not None and not found:
            raise refused
        return found

    def _model(self) -> AdditiveLogit:
        return self.sum if self.pairs is None else self.pairs

    def _search(
        self, mode: Mode, kinds: Floats, allowed: Flags, price: Price, limit: float, least: Places, worth: Price
    ) -> Assigned:
        """Weighs assignments one by one."""
        model = self._model()
        return search(
            model.values(kinds),
            allowed,
            price,
            limit,
            least=least,
            base=model.base(self.team.modes.index(mode), kinds),
            pairs=None if self.pairs is None else self.pairs.pairs(),
            rate=1.0 / self.willingness_to_pay,
            worth=worth,
        )

    def _few(self, allowed: Flags) -> bool:
        """Whether assignments are weighed one by one: no knapsack knows pairs, or finds what is worth most beyond its cost."""
        return self.pairs is not None or (
            math.isfinite(self.willingness_to_pay) and math.prod(np.count_nonzero(allowed, axis=1).tolist()) <= _COMBINATIONS
        )

    def best(self, mode: Mode, kinds: Floats, allowed: Flags, limit: float, *, upper: bool) -> Choice:
        """The best of one mode in which somebody takes part.

        Raises:
            BudgetError: Nothing keeps to the limit.
            PriceUnknownError: Cost is weighed, and that of a model is unknown.
        """
        found = self._best(mode, kinds, allowed, limit, upper=upper)
        if (found.columns < len(self.pool)).any():
            return found
        tried, short = [], BudgetError("nobody can be paid", budget=limit)
        for part in _somebody(allowed):
            try:
                tried.append(self._best(mode, kinds, part, limit, upper=upper))
            except BudgetError as error:
                short = error
        if not tried:
            raise short
        return max(tried, key=lambda choice: (self.worth(choice), -choice.cost))

    def _best(self, mode: Mode, kinds: Floats, allowed: Flags, limit: float, *, upper: bool) -> Choice:
        if math.isfinite(self.willingness_to_pay) or (self.pairs is not None and math.isfinite(limit)):
            self.costs.require(allowed)  # `solve_team` does it by itself
        if self._few(allowed):
            price, worth = partial(self._price, mode, upper=upper), partial(self._price, mode, upper=False)
            least = cheapest_team(self.costs, mode.name, allowed, upper=upper)
            one = self._search(mode, kinds, allowed, price, limit, least, worth)
            return self._chosen(mode, one.columns, one.logit, exact=one.exact)
        values, base = self.sum.values(kinds), self.sum.base(self.team.modes.index(mode), kinds)
        limits = [limit] if math.isinf(self.willingness_to_pay) else self._limits(mode, allowed, limit, upper=upper)
        found = [solve_team(values, self.costs, mode.name, allowed, most, upper=upper) for most in limits]
        chosen = [
            self._chosen(
                mode, one.choice, base + one.value, exact=one.exact and len(limits) == 1, cost=None if upper else one.cost
            )
            for one in found
        ]
        return max(chosen, key=lambda choice: (self.worth(choice), -choice.cost))

    def _price(self, mode: Mode, columns: Places, *, upper: bool) -> Floats:
        """USD of assignments, float64 [n]; 0 where a price is unknown, which `best` has made sure that nobody weighs."""
        return np.nan_to_num(self.costs.exact(mode.name, columns, upper=upper), nan=0.0)

    def again(self, mode: Mode, kinds: Floats, costs: Floats, allowed: Flags, limit: float) -> Places:
        """The best columns where each role's models cost so much from here on, int64 [k].

        Raises:
            BudgetError: Even the cheapest cost more than the limit.
        """
        if self._few(allowed):
            price = matrix_price(costs)
            return self._search(mode, kinds, allowed, price, limit, cheapest(costs, allowed), price).columns
        values, base, rate = (
            self.sum.values(kinds),
            self.sum.base(self.team.modes.index(mode), kinds),
            1.0 / self.willingness_to_pay,
        )
        free = solve(values, costs, allowed, limit)
        if not rate:
            return free.choice
        least = float(np.where(allowed, costs, np.inf).min(axis=1).sum())
        tried = [free, *(solve(values, costs, allowed, max(one, least)) for one in least + _LEVELS**2 * (free.cost - least))]
        return max(tried, key=lambda one: (_chance(base + one.value) - rate * one.cost, -one.cost)).choice

    def _limits(self, mode: Mode, allowed: Flags, limit: float, *, upper: bool) -> list[float]:
        """Budgets at which to look for what is worth most beyond its cost: a chance is no sum, and no one knapsack finds it."""
        costs = self.costs.matrix(mode.name, allowed, upper=upper)
        columns = cheapest_team(self.costs, mode.name, allowed, upper=upper)
        least = float(self.costs.exact(mode.name, columns[None], upper=upper)[0])
        most = min(limit, float(np.where(allowed, costs, 0.0).max(axis=1).sum()))
        if least > limit:
            return [limit]
        return [float(one) for one in least + _LEVELS**2 * max(most - least, 0.0) if one <= limit]

    def _chosen(self, mode: Mode, columns: Places, logit: float, *, exact: bool, cost: float | None = None) -> Choice:
        cost = float(self.costs.exact(mode.name, columns[None])[0]) if cost is None else cost
        return Choice(mode=mode, columns=columns, chance=_chance(logit), cost=cost, exact=exact)

    def _other(self, name: str, columns: Places, kinds: Floats) -> Choice:
        """What somebody else has chosen: a mode by name, and columns."""
        [mode], model = self.modes(name), self._model()
        logit, _ = model.logit(columns[None], np.array([self.team.modes.index(mode)]), kinds[None])
        return self._chosen(mode, columns, float(logit[0]), exact=False)

    def _too_little(
        self, short: Sequence[BudgetError], may: Sequence[tuple[Mode, Flags]], limit: float, *, upper: bool
    ) -> BudgetError:
        """The error of a budget that no allocation keeps to: with the cheapest that there is."""
        offers = []
        for mode, part in ((mode, part) for mode, allowed in may for part in _somebody(allowed)):
            columns = cheapest_team(self.costs, mode.name, part, upper=upper)
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
        known: bool = True,
    ) -> Allocation:
        """The choice in the team's own names, with what is expected of it.

        `said` names roles that the caller settled; `known` says whether the task's kind was known.
        """
        model, place = self._model(), self.team.modes.index(choice.mode)
        chance, low, high = model.interval(choice.columns, place, kinds[: model.kinds])
        upper = choice.cost
        if self.costs.gamma_:
            upper = float(self.costs.exact(choice.mode.name, choice.columns[None], upper=True)[0])
        named = self.named(choice.columns)
        return Allocation(
            models=named,
            mode=choice.mode.name,
            expected_quality=chance,
            quality_interval=(low, high),
            expected_cost=choice.cost,
            cost_upper=upper,
            budget=budget,
            propensity=propensity,
            reasons=self._reasons(choice.columns, kinds, reason, said, known=known),
            fixed=frozenset(said).intersection(named),
            exact=choice.exact,
        )

    def _reasons(self, columns: Places, kinds: Floats, reason: str, said: Collection[str], *, known: bool) -> dict[str, str]:
        """Why each role has its model."""
        values, found, models = self.sum.values(kinds), {}, len(self.pool)
        gains = values - values[:, :models].mean(axis=1, keepdims=True)
        for row, role in enumerate(self.team.roles):
            column, effect = int(columns[row]), self.told.get((row, int(columns[row])))
            if column == models and (role.name in said or not role.optional):
                found[role.name] = "left out, as you said"  # nothing else leaves out a role that is not optional
            elif role.name in said:
                found[role.name] = "you said so"
            elif role.model is not None or reason:
                found[role.name] = reason or "the team says so"
            elif column == models:
                found[role.name] = f"left out: {self._why_left_out(values[row])}"
            elif effect is not None and effect.logit is None:
                first = self.sum.prior[row, column] - self.sum.prior[row, :models].mean()
                leans = abs(float(gains[row, column] - first)) > _LEANS
                found[role.name] = f"the runs {'lean a way, and ' * leans}cannot tell yet; at first {self.judged[role.name]}"
            else:
                by = self.judged[role.name] if effect is None else f"by {effect.runs} runs{'' if known else _OF_ALL}"
                found[role.name] = f"{gains[row, column]:+.2f} in the logit of success against the mean of the models, {by}"
        return found

    def _why_left_out(self, values: Floats) -> str:
        if math.isfinite(self.willingness_to_pay):
            return "it adds less than it costs"
        adds = values[:-1].max() > values[-1]
        return "the budget does not reach so far" if adds else "the team does no worse without it"

    def named(self, columns: Places) -> dict[str, str]:
        pairs = zip(self.team.roles, columns.tolist(), strict=True)
        return {role.name: self.pool.ids[column] for role, column in pairs if column < len(self.pool.ids)}


def _chance(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(logit, -40.0), 40.0)))


def _somebody(allowed: Flags) -> list[Flags]:
    """What the roles may have where somebody takes part: one for each role that surely does, if all could be left out."""
    if not allowed[:, -1].all():
        return [allowed]
    parts = []
    for row in np.flatnonzero(allowed[:, :-1].any(axis=1)):
        part = allowed.copy()
        part[row, -1] = False
        parts.append(part)
    return parts
