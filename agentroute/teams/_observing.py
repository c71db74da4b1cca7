"""Runs of a team as arrays: which of them tell something, and what was observed in them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.teams._additive import Observed
from agentroute.teams._values import NONE, Team, TeamRun

__all__ = [
    "AGAIN",
    "REPLAYS",
    "REPLAY_OF",
    "SILENT",
    "UNKNOWN",
    "admissible",
    "column_of",
    "levels",
    "observed",
    "settled",
    "usable",
]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

REPLAY_OF: Final = "replay_of"
"""The metadata under which a replay names the run that it replays."""

REPLAYS: Final = "replays, which are compared with their runs"
"""Why they are left out."""
UNKNOWN: Final = "success unknown"
SILENT: Final = "no call of a role reached the session"
AGAIN: Final = "recorded again"
_BROKE_OFF: Final = "broke_off"
_OURS: Final = frozenset(
    {
        # Nobody may ask this model, or there is none of this name.
        *("AuthenticationError", "PermissionDeniedError", "PermissionDenied", "Unauthenticated", "Unauthorized", "Forbidden"),
        *("UnauthorizedError", "ForbiddenError", "NotFoundError", "NotFound", "UnknownModelError"),
        # Somebody stopped, or waits.
        *("Abandoned", "CancelledError", "KeyboardInterrupt", "SystemExit", "GeneratorExit"),
        *("GraphBubbleUp", "GraphInterrupt", "NodeInterrupt", "ParentCommand", "WorkflowCancelledByUser", "WaitingForEvent"),
        # The program is wrong.
        *("AssertionError", "AttributeError", "ImportError", "ModuleNotFoundError", "NameError", "NotImplementedError"),
        *("TypeError", "UnboundLocalError", "ConfigError", "MissingExtraError", "PriceUnknownError"),
    }
)
"""Class names of errors that are no model's doing. Rate limits, prompts too long for a model and nonsense in its answers are."""


def levels(team: Team, models: Sequence[str]) -> Places:
    """Columns of each role, int64 [k]: the models, and one more where the role is optional."""
    return np.array([len(models) + role.optional for role in team.roles], np.int64)


def admissible(team: Team, models: Sequence[str]) -> Flags:
    """What the roles' `model`, `allow` and `optional` say: bool [k, m + 1], the last column for being left out."""
    rows = []
    for role in team.roles:
        may = [(role.allow is None or model in role.allow) and role.model in {None, model} for model in models]
        rows.append([*may, role.optional])
    return np.array(rows, bool)


def column_of(team: Team, models: Sequence[str], run: TeamRun) -> list[int] | None:
    """The column of each role in a run; `None` = it had a model that is not known, or lacked a role that must be there."""
    places = {model: place for place, model in enumerate(models)}
    found = []
    for role in team.roles:
        model = run.models.get(role.name, NONE)
        place = len(models) if model == NONE and role.optional else places.get(model)
        if place is None:
            return None
        found.append(place)
    return found


def settled(run: TeamRun) -> TeamRun:
    """The run as it is learned from and judged by: one that broke off when a model failed is a failure of the team's.

    Nobody says how such a run ended. Were it left out, a model whose failures end runs would be known by those that it survived,
    and look the better the more often it fails. A crash without a model's failure stays what it is: nobody knows. So does one
    after a failure that was got over, as the role's last call went well, and one after a failure that no model can help, such as
    a wrong key, a call that was cancelled, or a mistake in the program; errors are told by the names of their classes.
    """
    if run.success is not None or not run.metadata.get("error") or run.metadata["error"] in _OURS:
        return run
    if all(used.error is None or used.recovered or used.error in _OURS for used in run.roles.values()):
        return run
    return replace(run, success=0.0, metadata={**run.metadata, _BROKE_OFF: True})


def usable(team: Team, models: Sequence[str], runs: Iterable[TeamRun]) -> tuple[list[TeamRun], dict[str, int]]:
    """The runs that something can be learned from, each once, and why the others tell nothing → how many.

    Of runs with one id the last is kept: it has the latest word on its success. Those that broke off are `settled`. Replays are
    no runs of their own: they share all but one role's part with another run, which may have been picked for how it ended. A run
    of a session that no call of a role reached says nothing of the models that the roles were given: others did the work, if any.
    """
    modes = {mode.name for mode in team.modes}
    latest: dict[str, TeamRun] = {}
    left: Counter[str] = Counter()
    for run in runs:
        left[AGAIN] += run.id in latest
        latest[run.id] = run
    kept = []
    for run in map(settled, latest.values()):
        if REPLAY_OF in run.metadata:
            left[REPLAYS] += 1
        elif run.success is None:
            left["broke off, and not for a model" if run.metadata.get("error") else UNKNOWN] += 1
        elif run.mode not in modes:
            left["unknown mode"] += 1
        elif not any(role.name in run.models for role in team.roles):
            left["roles of another team"] += 1  # where all roles are optional it would count as a run of nobody
        elif run.allocation_id is not None and not run.roles and any(model != NONE for model in run.models.values()):
            left[SILENT] += 1
        elif column_of(team, models, run) is None:
            left["unknown model, or a role left out that is not optional"] += 1
        else:
            kept.append(run)
    return kept, {why: count for why, count in left.items() if count}


def observed(team: Team, models: Sequence[str], runs: Sequence[TeamRun], kinds: Floats | None = None) -> Observed:
    """What was observed in runs that are `usable`.

    A role counts with the model that it was given, whoever answered for it in the end.

    Args:
        team: Its roles and modes.
        models: In the order of the columns.
        runs: n runs.
        kinds: float64 [n, c], of each run's task; `None` = no kinds.
    """
    modes = {mode.name: place for place, mode in enumerate(team.modes)}
    roles = [role.name for role in team.roles]
    columns = [column_of(team, models, run) for run in runs]
    scores = np.array([[_score(run, role) for role in roles] for run in runs], np.float64).reshape(len(runs), len(roles))
    return Observed(
        columns=np.array(columns, np.int64).reshape(len(runs), len(roles)),
        modes=np.array([modes[run.mode] for run in runs], np.int64),
        kinds=np.zeros((len(runs), 0)) if kinds is None else kinds,
        success=np.array([run.success for run in runs], np.float64),
        scores=None if np.isnan(scores).all() else scores,
        broken=sum(_BROKE_OFF in run.metadata for run in runs),
        silent=tuple(place for place, role in enumerate(roles) if _never_spoke(role, runs)),
    )


def _never_spoke(role: str, runs: Sequence[TeamRun]) -> bool:
    """Whether a role had models, and no call of it reached any session; of runs without a session nobody knows."""
    given = [run for run in runs if run.models.get(role, NONE) != NONE]
    return bool(given) and all(run.allocation_id is not None and role not in run.roles for run in given)


def _score(run: TeamRun, role: str) -> float:
    used = run.roles.get(role)
    return math.nan if used is None or used.score is None or run.models.get(role, NONE) == NONE else used.score
