"""What judges a policy's rivals: a model of success and cost, and the best single model and the best map under it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError
from agentroute.teams._additive import AdditiveLogit
from agentroute.teams._kinds import TaskKinds
from agentroute.teams._observing import levels, observed
from agentroute.teams._values import NONE, Team, TeamRun

__all__ = ["Assignment", "References"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Assignment: TypeAlias = tuple[Mapping[str, str], str]
"""Role → model, and the mode; an optional role that is missing is left out."""


class References:
    """What runs tell: a model of success, a model of cost, and the best single model and map under them."""

    def __init__(self, team: Team, models: Sequence[str], runs: Sequence[TeamRun], allowed: Flags) -> None:
        self.team, self.models, self.allowed = team, tuple(models), allowed
        self.kinds = TaskKinds().fit([run.query for run in runs])
        seen = observed(team, models, runs, self.kinds.of([run.query for run in runs]))
        self.logit = AdditiveLogit(
            levels(team, models), modes=len(team.modes), kinds=len(self.kinds), ridge=None, kind_ridge=None
        ).fit(seen)
        self.mean_kinds = seen.kinds.mean(axis=0) if len(seen) else np.zeros(len(self.kinds))
        cost = np.array([math.nan if run.cost is None else run.cost for run in runs])
        known = ~np.isnan(cost)
        design = self._flags(seen.columns[known], seen.modes[known])
        # A breath of ridge: flags of one role add up to 1, so that the plain equations have no single solution.
        gram = design.T @ design + 1e-3 * np.eye(design.shape[1])
        self.cost = np.linalg.solve(gram, design.T @ cost[known]) if known.any() else np.full(design.shape[1], math.nan)

    def _flags(self, columns: Places, modes: Places) -> Floats:
        width = len(self.models) + 1
        roles = np.eye(width)[columns].reshape(len(columns), columns.shape[1] * width)
        return np.concatenate([roles, np.eye(len(self.team.modes))[modes]], axis=1)

    def placed(self, given: Sequence[Assignment]) -> tuple[Places, Places]:
        """Columns int64 [n, k] and modes int64 [n] of assignments.

        Raises:
            ConfigError: One names a role, a model or a mode that the team does not know.
        """
        modes = [mode.name for mode in self.team.modes]
        known = (*self.models, NONE)
        roles = [role.name for role in self.team.roles]
        for models, mode in given:
            strange = [*({*models} - {*roles}), *({*models.values()} - {*known}), *({mode} - {*modes})]
            if strange:
                raise ConfigError(f"the policy that is judged gave {strange[0]!r}, which the team does not know")
        columns = [[known.index(models.get(role, NONE)) for role in roles] for models, _ in given]
        return np.array(columns, np.int64).reshape(len(given), len(roles)), np.array(
            [modes.index(mode) for _, mode in given], np.int64
        )

    def expected(self, columns: Places, modes: Places, kinds: Floats) -> tuple[Floats, Floats]:
        """Chance of success and mean USD, float64 [n] each."""
        chance = 1.0 / (1.0 + np.exp(-self.logit.logit(columns, modes, kinds)[0]))
        return chance, self._flags(columns, modes) @ self.cost

    def _best(self, candidates: Places, rate: float) -> tuple[Places, int]:
        """The best of assignments int64 [a, k] in any mode, for the mean task."""
        tried = [(columns, mode) for mode in range(len(self.team.modes)) for columns in candidates]
        columns, modes = np.stack([one for one, _ in tried]), np.array([mode for _, mode in tried])
        chance, cost = self.expected(columns, modes, np.tile(self.mean_kinds, (len(tried), 1)))
        return tried[int((chance - rate * np.nan_to_num(cost)).argmax())]

    def one_model(self, rate: float) -> tuple[Places, int]:
        """The best model for all roles that may have it; others have the best of theirs."""
        values = np.where(self.allowed[:, : self.logit.width], self.logit.values(self.mean_kinds), -np.inf)
        others = values.argmax(axis=1)
        rows = [np.where(flags, column, others) for column, flags in enumerate(self.allowed.T[:-1]) if flags.any()]
        return self._best(np.array(rows, np.int64), rate)

    def one_map(self, rate: float) -> tuple[Places, int]:
        """The best model of each role, all tasks taken together."""
        chance = 1.0 / (1.0 + math.exp(-self.logit.base(0, self.mean_kinds)))
        width = self.logit.width
        cost = np.nan_to_num(self.cost[: len(self.allowed) * (len(self.models) + 1)].reshape(len(self.allowed), -1)[:, :width])
        gain = self.logit.values(self.mean_kinds) * chance * (1.0 - chance) - rate * cost
        columns = np.where(self.allowed[:, :width], gain, -np.inf).argmax(axis=1)
        return self._best(columns[None], rate)
