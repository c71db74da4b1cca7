"""Which runs to make so that they can tell what each role's model is worth: balanced plans, and replays with one role changed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError
from agentroute.teams._observing import REPLAY_OF, admissible
from agentroute.teams._values import NONE, Team, TeamRun, whole

__all__ = ["Credit", "Replay", "Trial", "credits_of", "exploration_plan", "leave_one_out"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_PASSES: Final = 12
_PASSED: Final = 6_000  # runs that are placed anew in all passes: long plans are even after a few
_Z95: Final = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run to be made.

    Attributes:
        models: Role → model, `NONE` where an optional role is to be left out.
        mode: How they are to work together.
        propensity: The chance with which this trial has these models and this mode: log it with the run.
    """

    models: Mapping[str, str]
    mode: str
    propensity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A run to be made again with one role's model changed, and all else as it was.

    Attributes:
        run_id: The run.
        role: The role that is changed.
        model: Its other model, `NONE` = left out.
        models: Role → model, of all roles.
        mode: As in the run.

    In a session: `allocator.session(run.query, allocation=replay.trial)`, and at its end
    `session.finish(success=1.0, replay_of=run.id)`. Made elsewhere, it is logged by `recorded`.
    """

    run_id: str
    role: str
    model: str
    models: Mapping[str, str]
    mode: str

    @property
    def trial(self) -> Trial:
        """What a session begins with; nothing is drawn."""
        return Trial(models=self.models, mode=self.mode, propensity=1.0)

    def recorded(self, run: TeamRun, **more: Any) -> TeamRun:
        """The replay as it is logged: as a run that names the one that it replays, which tells it from runs of their own.

        Args:
            run: The run that was replayed.
            **more: Other fields of `TeamRun`, such as `success`, `cost` and `roles`.

        Raises:
            ConfigError: It is another run.
            DataError: A number is out of range.
        """
        if run.id != self.run_id:
            raise ConfigError(f"this is a replay of the run {self.run_id!r}, not of {run.id!r}")
        metadata = {**more.pop("metadata", {}), REPLAY_OF: run.id}
        return TeamRun(**{"query": run.query, **more}, models=self.models, mode=self.mode, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """What a role's model was worth against another one, in replays.

    Attributes:
        role: The role.
        model: The model that the runs had.
        instead: The one that the replays had.
        runs: Different runs that were replayed.
        gain: Mean success of the runs less that of their replays.
        low: Lower end of its 95 % interval; NaN for a single run.
        high: Upper end.
    """

    role: str
    model: str
    instead: str
    runs: int
    gain: float
    low: float
    high: float


def exploration_plan(team: Team, models: Sequence[str], n: int, *, allowed: Flags | None = None, seed: int = 0) -> list[Trial]:
    """A balanced plan of n runs: what each role's model and the mode are worth can be told apart, and as exactly as n runs can.

    Each role has each of its models equally often, up to one run, and so has each mode; each pair of models in two roles, or of a
    model and a mode, comes up as evenly as can be. Runs from the start on are nearly as balanced, should the plan be cut short.
    Models are drawn by lot into the places of the plan, so that each run's assignment has the same chance as any other, whatever
    the plan looks like: this is the propensity. Where all roles are optional, a run that would leave out all of them gets one by
    lot instead, and so runs of one role are a little likelier. Give the trials to tasks in random order.

    Args:
        team: Its roles, optional ones too, and modes.
        models: The models, in the order of the columns.
        n: Runs.
        allowed: bool [k, m + 1], what each role may have; `None` = as the roles say.
        seed: Of the lots.

    Raises:
        ConfigError: n is negative, or a role may have nothing.

    Source: McKay, Beckman and Conover 1979, A Comparison of Three Methods for Selecting Values of Input Variables (Latin
    hypercubes); Tang 1993, Orthogonal Array-Based Latin Hypercubes (pairs).
    """
    n = whole(n, "n")
    allowed = admissible(team, models) if allowed is None else allowed
    choices = [np.flatnonzero(row) for row in allowed]
    for role, columns in zip(team.roles, choices, strict=True):
        if not len(columns):
            raise ConfigError(f"role {role.name!r} may have no model at all: widen its allow, or add a model that can serve it")
    rng = np.random.default_rng(seed)
    sizes = [len(columns) for columns in choices] + [len(team.modes)]
    plan = _in_order(_evened(n, sizes, rng), sizes, rng)
    lots = [rng.permutation(size) for size in sizes]
    drawn = np.stack([columns[lot[plan[:, k]]] for k, (columns, lot) in enumerate(zip(choices, lots, strict=False))], axis=1)
    chance = np.full(n, 1.0 / math.prod(sizes))
    if allowed[:, -1].all():
        chance *= _peopled(drawn, allowed, rng)
    known = (*models, NONE)
    return [
        Trial(
            models={role.name: known[column] for role, column in zip(team.roles, columns, strict=True)},
            mode=team.modes[lots[-1][place]].name,
            propensity=propensity,
        )
        for columns, place, propensity in zip(drawn.tolist(), plan[:, -1].tolist(), chance.tolist(), strict=True)
    ]


def _peopled(drawn: Places, allowed: Flags, rng: np.random.Generator) -> Floats:
    """Gives one role a model in each run that left out all of them; how much likelier each run became by that: float64 [n]."""
    none, roles = allowed.shape[1] - 1, np.flatnonzero(allowed[:, :-1].any(axis=1))
    if not len(roles):
        raise ConfigError("no role may have any model: widen allow, or add a model that can serve")
    for row in np.flatnonzero((drawn == none).all(axis=1)).tolist():
        role = int(rng.choice(roles))
        drawn[row, role] = rng.choice(np.flatnonzero(allowed[role, :-1]))
    alone, who = (drawn < none).sum(axis=1) == 1, (drawn < none).argmax(axis=1)
    return np.asarray(1.0 + alone / (len(roles) * np.maximum(allowed[who, :-1].sum(axis=1), 1)))


def _evened(n: int, sizes: list[int], rng: np.random.Generator) -> Places:
    """int64 [n, f]: each column has each of its levels equally often, and each two columns each pair as evenly as can be."""
    plan = (
        np.stack([rng.permutation(np.arange(n) % size) for size in sizes], axis=1) if n else np.zeros((0, len(sizes)), np.int64)
    )
    best, least = plan.copy(), _unevenness(plan, sizes)
    for _ in range(min(_PASSES, max(2, _PASSED // max(n, 1)))):
        for factor in rng.permutation(len(sizes)).tolist():
            plan[:, factor] = _reassigned(plan, factor, sizes, rng)
        now = _unevenness(plan, sizes)
        if now < least:
            best, least = plan.copy(), now
    return best


def _reassigned(plan: Places, factor: int, sizes: list[int], rng: np.random.Generator) -> Places:
    """One column anew: run by run the level that its pairs with the other columns have had least often."""
    n, size = len(plan), sizes[factor]
    left = n // size + (rng.permutation(size) < n % size)
    others = [place for place in range(len(sizes)) if place != factor]
    start = np.cumsum([0, *[sizes[place] for place in others]])
    counts = np.zeros((int(start[-1]), size))
    found = np.zeros(n, np.int64)
    jitter = rng.random((n, size)) * 1e-3
    at = plan[:, others] + start[:-1]
    for row in rng.permutation(n).tolist():
        had = counts[at[row]].sum(axis=0) if others else np.zeros(size)
        level = int(np.where(left > 0, had - 1e-2 * left + jitter[row], np.inf).argmin())
        found[row] = level
        left[level] -= 1
        counts[at[row], level] += 1.0
    return found


def _unevenness(plan: Places, sizes: list[int]) -> float:
    """Sum of squares of how often each pair came up."""
    total = 0.0
    for a in range(len(sizes)):
        for b in range(a):
            counts = np.bincount(plan[:, a] * sizes[b] + plan[:, b], minlength=sizes[a] * sizes[b])
            total += float((counts.astype(np.float64) ** 2).sum())
    return total


def _in_order(plan: Places, sizes: list[int], rng: np.random.Generator) -> Places:
    """The same runs, in an order in which every beginning has each level about equally often."""
    plan = plan[rng.permutation(len(plan))]
    start = np.cumsum([0, *sizes[:-1]])
    # A level of a small factor comes up often anyway: what counts is how often against how often it should.
    counts, share = np.zeros(sum(sizes)), np.repeat(np.array(sizes, np.float64), sizes)
    at, left, order = plan + start, np.ones(len(plan), bool), []
    for _ in range(len(plan)):
        ahead = (counts * share)[at].sum(axis=1)
        row = int(np.where(left, ahead, np.inf).argmin())
        left[row] = False
        order.append(row)
        counts[at[row]] += 1.0
    return plan[order]


def leave_one_out(
    run: TeamRun, team: Team, models: Sequence[str], *, allowed: Flags | None = None, roles: Iterable[str] | None = None
) -> list[Replay]:
    """The replays of a run that change one role's model and leave the others as they were; log each by `Replay.recorded`.

    A replay starts with the same task, gives roles that spoke before the changed one the answers that they gave, and lets those
    after it answer anew. Its success against the run's is what the role's model was worth there.

    Args:
        run: A run whose answers were kept.
        team: Its roles.
        models: The models, in the order of the columns.
        allowed: bool [k, m + 1], what each role may have; `None` = as the roles say.
        roles: The only roles to change; `None` = all.

    Raises:
        ConfigError: One of `roles` is none of the team's.

    Source: the agent whose removal hurts: leave-one-out as a stand-in for Shapley values of agents, and counterfactual replays
    with restored histories (arXiv:2603.06859).
    """
    wanted = [role.name for role in team.roles] if roles is None else [team.role(name).name for name in roles]
    allowed = admissible(team, models) if allowed is None else allowed
    known = (*models, NONE)
    had = {role.name: run.models.get(role.name, NONE) for role in team.roles}
    return [
        Replay(run_id=run.id, role=role.name, model=known[column], models={**had, role.name: known[column]}, mode=run.mode)
        for role, row in zip(team.roles, allowed, strict=True)
        if role.name in wanted
        for column in np.flatnonzero(row).tolist()
        if known[column] != had[role.name]
    ]


def credits_of(pairs: Iterable[tuple[TeamRun, TeamRun]]) -> list[Credit]:
    """What each role's model was worth against each other one, from runs and their replays.

    Several replays of one run with one change are averaged first, so that a run counts once. Runs must not have been picked for
    how they ended: of those that failed any second try looks better, with whatever model.

    To each mean's interval two made-up runs are added, one that gains all and one that loses all: where few replays ended in
    another way than their runs, the plain interval of a mean would be far too short.

    Args:
        pairs: Runs, each with a replay of it; both with a known success.

    Raises:
        DataError: A replay is of another mode or differs in more or fewer roles than one, or a success is unknown.

    Source: Bonett and Price 2012, Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on Paired
    Data, Journal of Educational and Behavioral Statistics 37.
    """
    found: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for run, replay in pairs:
        if run.success is None or replay.success is None:
            raise DataError(f"run {run.id!r} or its replay has no success: leave out what nobody has judged")
        roles = sorted({*run.models, *replay.models})
        changed = [role for role in roles if run.models.get(role, NONE) != replay.models.get(role, NONE)]
        if len(changed) != 1 or run.mode != replay.mode:
            raise DataError(
                f"the replay of run {run.id!r} differs from it in {len(changed)} roles"
                f"{'' if run.mode == replay.mode else ' and in the mode'}: change one role's model, and nothing else"
            )
        key = (changed[0], run.models.get(changed[0], NONE), replay.models.get(changed[0], NONE))
        found.setdefault(key, {}).setdefault(run.id, []).append(run.success - replay.success)
    return [_credit(*key, [sum(gains) / len(gains) for gains in by_run.values()]) for key, by_run in found.items()]


def _credit(role: str, model: str, instead: str, gains: list[float]) -> Credit:
    more = np.array([*gains, 1.0, -1.0])
    error = _Z95 * float(more.std()) / math.sqrt(len(more)) if len(gains) > 1 else math.nan
    return Credit(
        role=role,
        model=model,
        instead=instead,
        runs=len(gains),
        gain=sum(gains) / len(gains),
        low=max(float(more.mean()) - error, -1.0),
        high=min(float(more.mean()) + error, 1.0),
    )
