"""Which models a role may have for a task at all: asked before anything is weighed, and never given up for anything."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, NoEligibleModelError, UnknownModelError
from agentroute.pool import ModelPool, refusal
from agentroute.teams._costs import CostModel
from agentroute.teams._values import NONE, Mode, Role, Team
from agentroute.types import Query

__all__ = ["Filters"]

Floats: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Filters:
    """What a team's roles, its models, a task, and whoever asks rule out.

    A model must be able to do what the role and the task need, and its window must hold the role's longest prompt in the mode,
    with what it reads of the others at least, and the answer. Both are as long as they are expected to be: by the role's
    specification at first, by the logged runs later. What a card does not declare rules out nothing.

    Attributes:
        team: Roles and modes.
        pool: The models.
        costs: How many tokens are expected.
    """

    team: Team
    pool: ModelPool
    costs: CostModel
    _usual: Flags = field(init=False)
    _window: Floats = field(init=False)
    _longest: Floats = field(init=False)

    def __post_init__(self) -> None:
        """Reads the cards once."""
        object.__setattr__(self, "_usual", self.costs.admissible())
        for name, limits in (
            ("_window", [card.context_window for card in self.pool]),
            ("_longest", [card.max_output_tokens for card in self.pool]),
        ):
            object.__setattr__(self, name, np.array([math.inf if one is None else one for one in limits], np.float64))

    def allowed(
        self, query: Query, mode: Mode, roles: Collection[str] | None = None, fixed: Mapping[str, str] | None = None
    ) -> Flags:
        """Which model each role may have, bool [k, m + 1]; the last column is for being left out.

        Args:
            query: The task.
            mode: How the team works: it says what a role reads.
            roles: Those that take part; `None` = all, and optional ones may be left out.
            fixed: Role → the model that it must have.

        Raises:
            ConfigError: There is no such role, or `fixed` and `roles` or the team contradict each other.
            UnknownModelError: `fixed` names a model that there is not.
            NoEligibleModelError: A role may have no model; it says why not each of them.
        """
        fixed = fixed or {}
        self._check(roles, fixed)
        allowed = self._usual.copy()
        for row, role in enumerate(self.team.roles):
            allowed[row, :-1] &= self._able(role, query)
            if roles is not None:
                allowed[row, -1] = role.name not in roles
                if role.name not in roles:
                    allowed[row, :-1] = False
            if role.name in fixed:
                column = (*self.pool.ids, NONE).index(fixed[role.name])
                may = allowed[row, column] or (fixed[role.name] == NONE and role.optional)
                allowed[row] = False
                allowed[row, column] = may
        prompts, answers = self._tokens(query, mode, allowed)
        allowed[:, :-1] &= (prompts + answers <= self._window) & (answers <= self._longest)
        if not allowed.any(axis=1).all():
            row = int(allowed.any(axis=1).argmin())
            role = self.team.roles[row]
            if fixed.get(role.name) == NONE:
                raise ConfigError(f"fixed= leaves out the role {role.name!r}, which is not optional: make it Role(optional=True)")
            raise NoEligibleModelError(self._why(row, query, fixed.get(role.name), prompts[row], answers[row]))
        if not allowed[:, :-1].any():
            if all(fixed.get(role.name) == NONE for role in self.team.roles if roles is None or role.name in roles):
                raise ConfigError("fixed= leaves nobody to do the work: give one of the roles a model")
            every = (self._why(row, query, None, prompts[row], answers[row]) for row in range(len(self.team.roles)))
            raise NoEligibleModelError({who: why for one in every for who, why in one.items()})
        return allowed

    def _check(self, roles: Collection[str] | None, fixed: Mapping[str, str]) -> None:
        for name, model in fixed.items():
            self.team.role(name)
            if model not in {*self.pool.ids, NONE}:
                raise UnknownModelError(model, self.pool.ids, where="the team")
        for name in roles or ():
            self.team.role(name)
        idle = [name for name in fixed if roles is not None and name not in roles]
        if idle:
            raise ConfigError(f"fixed= gives {idle[0]!r} a model, and roles= leaves it out")

    def _able(self, role: Role, query: Query) -> list[bool]:
        """Who can do what the role and the task need, and is on the task's allow-list: as `refusal` says, without its words."""
        needs = role.needs | query.needs
        return [
            (query.allow is None or card.id in query.allow) and (card.capabilities is None or needs <= card.capabilities)
            for card in self.pool
        ]

    def _tokens(self, query: Query, mode: Mode, allowed: Flags) -> tuple[Floats, Floats]:
        """Tokens of each role's longest prompt and of its answer with each model: float64 [k, m] each."""
        prompts = self.costs.prompts(mode.name, allowed)
        if query.input_tokens is not None:
            prompts = np.maximum(prompts, query.input_tokens)
        return np.round(prompts), np.round(self.costs.output_)

    def _why(self, row: int, query: Query, fixed: str | None, prompts: Floats, answers: Floats) -> dict[str, str]:
        """Why a role may have none of the models."""
        role, why = self.team.roles[row], {}
        for column, card in enumerate(self.pool):
            needed = replace(
                query,
                needs=role.needs | query.needs,
                input_tokens=int(prompts[column]),
                max_output_tokens=int(answers[column]),
            )
            found = refusal(card, needed)
            if found is None:
                found = "the team gives the role others" if not self._usual[row, column] else f"the role is fixed to {fixed}"
            why[f"role {role.name}, {card.id}"] = found
        return why
