"""What a session decides by: whom to ask for a role, now that so much has been done and so much money is left."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import BudgetError, NoEligibleModelError, PriceUnknownError, UnknownModelError
from agentroute.teams._booking import Standing
from agentroute.teams._choosing import Chooser
from agentroute.teams._spending import rates_of
from agentroute.teams._values import NONE, Mode
from agentroute.types import Query

__all__ = ["Ceiling", "Scope"]

_PROMPT: Final = 1.5
"""Times the expected tokens of a prompt that nobody has counted."""
_BESIDE: Final = 200
"""Tokens that a schema or a tool may add to a counted prompt; what is expected of a role seldom has them."""
_FAR: Final = 8.0
"""Times the expected tokens of an answer: a card's limit beyond that tells what the model can do, and not what the role does."""

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Ceiling: TypeAlias = Callable[[str], float | None]
"""Model → the most USD that a call of it can cost; `None` = unknown."""


class Scope:
    """What one session decides by. It never changes, whatever the allocator learns meanwhile.

    Args:
        chooser: Weighs allocations.
        mode: How the team works together.
        query: The task.
        models: Role → model, of the roles that take part.
        fixed: Role → the model that it must keep.
    """

    def __init__(
        self, chooser: Chooser, mode: Mode, query: Query, models: Mapping[str, str], fixed: Mapping[str, str] | None = None
    ) -> None:
        self.chooser, self.mode = chooser, mode
        self.names = (*chooser.pool.ids, NONE)
        self.roles = tuple(role.name for role in chooser.team.roles)
        for role, model in models.items():
            chooser.team.role(role)
            if model not in self.names:
                raise UnknownModelError(model, chooser.pool.ids, where="the team")
        self._kinds = chooser.kinds_of(query)
        keep = {role: model for role, model in (fixed or {}).items() if role in models}
        # Who takes part is settled: nobody comes in later, and nobody is left out.
        allowed = chooser.filters.allowed(query, mode, [role for role in self.roles if role in models], keep)
        for role, model in models.items():
            allowed[self.roles.index(role), self.names.index(model)] = True
        self._allowed = allowed
        self.calls = chooser.costs.calls_.mean(axis=1) * mode.rounds * (1 + mode.reviews)
        self._mean = chooser.costs.terms(mode.name)
        self._upper = chooser.costs.terms(mode.name, upper=True)

    def may(self, role: str) -> frozenset[str]:
        """The models that a role may have."""
        flags = self._allowed[self.roles.index(role)].tolist()
        return frozenset(model for model, may in zip(self.names[:-1], flags, strict=False) if may)

    # --- what calls cost ---

    def _each(self, columns: Flags, *, upper: bool = False) -> Floats:
        """USD of one call of each role with each model, where the others have these: float64 [k, m + 1]; NaN = unknown."""
        whole = (self._upper if upper else self._mean).bound(columns, most=True)
        return np.asarray(whole / np.where(self.calls > 0.0, self.calls, 1.0)[:, None])

    def held(self, role: str | None, at: Standing, most: Ceiling | None) -> Ceiling:
        """What to set aside for a call of a role: the most that it can cost, where that is known.

        Else half as much again as the expected prompt, and an answer as long as the model's card allows. Where the card sets no
        limit, or one that is more than 8 times what is expected, the bound is soft: what most such calls stay below where runs
        tell it, else what is expected. More would be taken from the other roles, who would be downgraded for nothing.

        A call of no role is taken to need as much as the dearest call of any role.
        """
        each = self._uncounted(self._now(at.models))
        usual = np.fmax.reduce(each, axis=0) if role is None else each[self.roles.index(role)]

        def of(model: str) -> float | None:
            ceiling = None if most is None else most(model)
            if ceiling is None and model in self.names:
                ceiling = float(usual[self.names.index(model)])
            return None if ceiling is None or math.isnan(ceiling) else ceiling

        return of

    def answer(self, role: str | None, model: str, prompt: int, models: Mapping[str, str]) -> float | None:
        """Tokens to allow for an answer that nobody limits, where the prompt is much longer than was expected.

        Args:
            role: Whose call it is; `None` = of none, which is taken to be as long as those of the most verbose role.
            model: By id.
            prompt: Tokens that were counted.
            models: Role → model, of those that take part.

        Returns:
            What most answers stay below where runs tell it, else what is expected; `None` = the prompt is about as long as
            expected, so that the call is taken to cost what such calls do, or the team does not know the model.
        """
        if model not in self.names[:-1]:
            return None
        costs, column = self.chooser.costs, self.names.index(model)
        rows = slice(None) if role is None else self.roles.index(role)
        expected = float(np.max(costs.prompts(self.mode.name, self._now(models))[rows, column]))
        if prompt <= _PROMPT * expected + _BESIDE:
            return None
        said = costs.output_[rows, column] * (1.0 + (costs.gamma_ or 0.0) * costs.spread_[rows, column])
        return float(np.max(said))

    def _uncounted(self, columns: Flags) -> Floats:
        """USD to set aside for a call of each role of which nothing is counted: float64 [k, m + 1]; NaN = unknown."""
        usual, costs = self._each(columns, upper=True), self.chooser.costs
        limits = np.array([math.inf if card.max_output_tokens is None else card.max_output_tokens for card in costs.cards])
        limited = limits <= _FAR * costs.output_
        if limited.any():
            rates = rates_of(costs.prices_)[:, 0]
            prompts, answers = _PROMPT * costs.prompts(self.mode.name, columns), np.where(limited, limits, 0.0)
            most = (prompts * rates[0] + answers * rates[1]) / 1e6 + rates[2]
            usual[:, :-1] = np.where(limited, most, usual[:, :-1])
        return usual

    def _now(self, models: Mapping[str, str]) -> Flags:
        """One column for each role: the model that it has."""
        flags = np.zeros_like(self._allowed)
        for row, role in enumerate(self.roles):
            flags[row, self.names.index(models.get(role, NONE))] = True
        return flags

    # --- deciding ---

    def decide(
        self, role: str, at: Standing, *, most: Ceiling | None = None, among: Collection[str] | None = None
    ) -> tuple[dict[str, str], float]:
        """The models that the roles have from here on, and the USD to set aside for the call at hand.

        Args:
            role: Whose call it is.
            at: How far the run has come.
            most: The most that the call can cost.
            among: The only models that may take it; `None` = all.

        Raises:
            NoEligibleModelError: No model may take it.
            BudgetError: None that may take it fits into what is left.
            PriceUnknownError: Nobody knows what those that may take it cost.
        """
        row = self.roles.index(role)
        allowed = self._open(role, at, among)
        now = self._now(at.models)
        columns, rows = now.argmax(axis=1), np.arange(len(now))
        if math.isinf(at.left) and allowed[row, columns[row]]:
            return dict(at.models), 0.0
        held = self._held(role, at, None if math.isinf(at.left) else most, allowed[row])
        ahead = self._ahead(row, at)
        costs = self._spend(now, row, ahead, held)
        fits = held <= at.enough
        whole = float(np.nansum(costs[rows, columns]))
        if allowed[row, columns[row]] and fits[columns[row]] and whole <= at.enough:
            return dict(at.models), float(held[columns[row]])
        if not (allowed[row] & fits).any():
            cheapest = float(np.where(allowed[row], held, np.inf).min())
            message = f"${at.left:.4g} are left, and the cheapest model for the role {role!r} may need ${cheapest:.4g}"
            raise BudgetError(message, budget=at.left, cheapest=cheapest)
        allowed[row] &= fits
        # Who has spoken to the end has the model that it has, for what the others read of it.
        over = (ahead <= 0.0) & (rows != row)
        allowed[over] = now[over]
        chosen = self._again(allowed, row, ahead, held, at.enough)
        found = {name: self.names[int(column)] for name, column in zip(self.roles, chosen, strict=True)}
        # One whose models have all failed keeps the last one's name: it still takes part, and says so when it is asked.
        models = {name: now if found[name] == NONE else found[name] for name, now in at.models.items()}
        return models, float(held[chosen[row]]) if math.isfinite(at.left) else 0.0

    def _open(self, role: str, at: Standing, among: Collection[str] | None) -> Flags:
        """Whom each role may have by now; one whose models have all failed speaks no more."""
        allowed, row = self._allowed.copy(), self.roles.index(role)
        for name, model in at.failed:
            if model in self.names:
                allowed[self.roles.index(name), self.names.index(model)] = False
        why = {}
        for column, model in enumerate(self.names[:-1]):
            if self._allowed[row, column] and not allowed[row, column]:
                why[model] = "failed in this run"
            elif allowed[row, column] and among is not None and model not in among:
                why[model] = "cannot take this call"
                allowed[row, column] = False
        if not allowed[row].any():
            raise NoEligibleModelError({f"role {role}, {model}": reason for model, reason in why.items()})
        allowed[~allowed.any(axis=1), -1] = True
        return allowed

    def _held(self, role: str, at: Standing, most: Ceiling | None, allowed: Flags) -> Floats:
        """USD to set aside for the call with each model, float64 [m + 1]; infinite = unknown, or it may not take the call."""
        of = self.held(role, at, most)
        found = [of(model) if may else None for model, may in zip(self.names, allowed.tolist(), strict=True)]
        held = np.array([math.inf if one is None else one for one in found])
        if math.isfinite(at.left) and allowed.any() and np.isinf(held[allowed]).all():
            raise PriceUnknownError([model for model, may in zip(self.names, allowed.tolist(), strict=True) if may])
        return held

    def _ahead(self, row: int, at: Standing) -> Floats:
        """Calls that each role has still to make, the one at hand not counted: float64 [k]."""
        made = np.array([at.made.get(name, 0) for name in self.roles], np.float64)
        made[row] += 1.0
        taking = np.array([name in at.models for name in self.roles])
        return np.where(taking, np.maximum(self.calls - made, 0.0), 0.0)

    def _spend(self, columns: Flags, row: int, ahead: Floats, held: Floats) -> Floats:
        """USD that each role is still expected to cost with each model, float64 [k, m + 1]."""
        each = self._each(columns)
        costs = each * ahead[:, None]
        costs[row] += np.fmin(each[row], held)
        return costs

    def _again(self, allowed: Flags, row: int, ahead: Floats, held: Floats, left: float) -> Places:
        """The best columns for the money that is left."""
        costs = self._spend(allowed, row, ahead, held)
        unknown = ~np.isfinite(costs)
        if math.isfinite(left):
            priced = allowed & ~unknown
            allowed = np.where(priced.any(axis=1, keepdims=True), priced, allowed)
        costs = np.where(unknown, 0.0, costs)
        try:
            return self.chooser.again(self.mode, self._kinds, costs, allowed, left)
        except BudgetError:
            # Not all of them will be able to speak: this one does, as cheaply as it can, for it is its turn.
            costs[row] = held
            return np.asarray(np.where(allowed, costs, np.inf).argmin(axis=1), np.int64)
