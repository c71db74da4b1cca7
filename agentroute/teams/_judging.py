"""What an allocator would have made of logged runs, against what was logged, one model for all roles and one map for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError
from agentroute.teams._observing import admissible, observed, usable
from agentroute.teams._offpolicy import Figure, Judged, Rows, draws, estimate, figure
from agentroute.teams._references import Assignment, References
from agentroute.teams._values import Allocation, Team, TeamRun
from agentroute.types import Query

__all__ = ["AllocationReport", "Assignment", "Decide", "Figure", "Judged", "Learn", "evaluate", "judge"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

Decide: TypeAlias = Callable[[Sequence[Query]], Sequence[Assignment]]
"""What a policy gives to tasks."""
Learn: TypeAlias = Callable[[Sequence[TeamRun]], Decide]
"""A policy from runs: called without the runs that it is then judged by."""

POLICY, LOGGED, ONE, MAP = "allocator", "as logged", "one model", "one map"


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationReport:
    """An allocator against what was logged, the best single model and the best map of roles to models.

    Attributes:
        runs: Judged by.
        tasks: Different ones.
        policies: The allocator first.
        gains: Other policy → how much more often the allocator's teams succeed, on the same tasks; those that can be told.
        savings: Other policy → USD a run that the allocator's teams cost less.
        thin: Share of the (role, model) cells with fewer than `few` runs.
        few: Runs that a cell should have.
        left_out: Why runs were not judged by → how many.
        broken: Runs among them that broke off when a model failed: they count as failures.
    """

    runs: int
    tasks: int
    policies: tuple[Judged, ...]
    gains: Mapping[str, Figure]
    savings: Mapping[str, Figure]
    thin: float
    few: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    broken: int = 0

    def policy(self, name: str) -> Judged:
        """The policy of this name.

        Raises:
            ConfigError: There is none.
        """
        found = next((one for one in self.policies if one.name == name), None)
        if found is None:
            raise ConfigError(f"no policy {name!r} was judged: there are {', '.join(repr(one.name) for one in self.policies)}")
        return found

    def __str__(self) -> str:
        """A line for each policy, then the differences."""
        cells = f"{self.thin:.0%} of (role, model) cells have under {self.few} runs"
        lines = [f"{self.runs} runs of {self.tasks} tasks, drawn by lot; {cells}"]
        lines += [f"{self.broken} of them broke off when a model failed, and count as failures"] if self.broken else []
        lines += [f"left out: {count} {'run' if count == 1 else 'runs'} ({why})" for why, count in self.left_out.items()]
        lines += [str(one) for one in self.policies]
        lines += [f"{POLICY} against {name}: success {gain}" for name, gain in self.gains.items()]
        return "\n".join(lines)


class Allocating(Protocol):
    """What `evaluate` judges: it knows its team and models, and gives each task an allocation."""

    @property
    def team(self) -> Team:
        """Its roles and modes."""

    @property
    def models(self) -> Sequence[str]:
        """In the order of the columns."""

    @property
    def allocate(self) -> Callable[..., Allocation]:
        """Gives a task, a `Query`, its allocation; takes `budget=`."""


def evaluate(
    policy: Allocating,
    runs: Iterable[TeamRun],
    *,
    budget: float | None = None,
    others: Mapping[str, Assignment] | None = None,
    few: int = 10,
    resamples: int = 1000,
    seed: int = 0,
) -> AllocationReport:
    """Judges an allocator as it is, by randomised runs that it has not learned from.

    What it learned from these runs it would seem to foretell: give it others, or use `judge`, which learns anew for each part.

    Args:
        policy: What gives each task an allocation, with its team and its models, such as a `MasRouterPolicy`. A `RoleAllocator`
            judges itself by its own `evaluate`.
        runs: Held-out runs, with the propensities with which they were drawn.
        budget: USD of each task; `None` = none.
        others: Further assignments to judge, by name.
        few: Runs that each (role, model) should have.
        resamples: Of the bootstrap.
        seed: Of folds and bootstrap.

    Raises:
        DataError: No run has both success and propensity, or there are fewer than five tasks.
    """

    def decide(queries: Sequence[Query]) -> list[Assignment]:
        given = [policy.allocate(query, budget=budget) for query in queries]
        return [(one.models, one.mode) for one in given]

    return judge(policy.team, policy.models, list(runs), lambda _: decide, others=others, few=few, resamples=resamples, seed=seed)


def judge(
    team: Team,
    models: Sequence[str],
    runs: Sequence[TeamRun],
    learn: Learn,
    *,
    others: Mapping[str, Assignment] | None = None,
    allowed: Flags | None = None,
    folds: int = 5,
    few: int = 10,
    rate: float = 0.0,
    resamples: int = 1000,
    seed: int = 0,
) -> AllocationReport:
    """Judges a policy by randomised runs that it has not learned from.

    The policy is learned on all folds of the tasks but one and judged on that one; so are the model behind the doubly robust
    estimates, the best single model and the best map. A policy that is fixed is given as `lambda runs: decide`.

    Args:
        team: Its roles and modes.
        models: The models, in the order of the columns.
        runs: Of known success; those without a propensity are learned from only.
        learn: The policy.
        others: Further assignments to judge, by name.
        allowed: bool [k, m + 1], what each role could have; `None` = as the roles say.
        folds: Parts of the tasks.
        few: Runs that each (role, model) should have.
        rate: Chance of success that one USD is worth, for the best single model and the best map.
        resamples: Of the bootstrap.
        seed: Of folds and bootstrap.

    Raises:
        DataError: No run has both success and propensity, or there are fewer tasks than folds; runs of a fixed team have no
            propensity.

    Source: Dudik et al. 2014, Doubly Robust Policy Evaluation and Optimization; Swaminathan et al. 2017, Off-policy evaluation
    for slate recommendation (`"sum"`, with the model's residuals in place of the reward).
    """
    kept, left_out = usable(team, models, runs)
    groups = np.unique([run.query.key() for run in kept], return_inverse=True)[1] if kept else np.zeros(0, np.int64)
    drawn = np.array([run.propensity is not None for run in kept], bool)
    if not drawn.any():
        raise DataError(_no_judges(len(kept), left_out))
    if groups.max() + 1 < folds:
        raise DataError(f"{groups.max() + 1} tasks are fewer than folds={folds}: log more, or ask for fewer folds")
    allowed = admissible(team, models) if allowed is None else allowed
    names = [POLICY, ONE, MAP, *(others or {})]
    filled = _Filled(len(kept), len(team.roles), names)
    fold = np.random.default_rng(seed).permutation(int(groups.max()) + 1)[groups] % folds
    for part in range(folds):
        here, rest = np.flatnonzero(fold == part), np.flatnonzero(fold != part)
        train, held = [kept[row] for row in rest], [kept[row] for row in here]
        known = References(team, models, train, allowed)
        given = {name: [one] * len(held) for name, one in (others or {}).items()}
        given[POLICY] = list(learn(train)([run.query for run in held]))
        placed = {name: known.placed(found) for name, found in given.items()}
        for name, (columns, mode) in ((ONE, known.one_model(rate)), (MAP, known.one_map(rate))):
            placed[name] = np.tile(columns, (len(held), 1)), np.full(len(held), mode)
        filled.add(here, known, held, placed)
    rows = np.flatnonzero(drawn)
    seen = observed(team, models, kept)
    log = _log(kept, rows, groups, filled, _chances(kept, rows, allowed, len(team.modes)), resamples, seed)
    found = [_logged(log)]
    for name in names:
        matches = np.column_stack([seen.columns == filled.columns[name], seen.modes == filled.modes[name]])
        found.append(estimate(name, matches[rows], filled.expected[name][rows], log))
    found[:2] = found[1::-1]  # the allocator first
    left_out |= {"propensity unknown": len(kept) - len(rows)} if len(rows) < len(kept) else {}
    counts = np.stack([np.bincount(column, minlength=allowed.shape[1]) for column in seen.columns.T])
    return AllocationReport(
        runs=len(rows),
        tasks=len(np.unique(groups[rows])),
        policies=tuple(one for one, _ in found),
        gains=_against(found, log.draws, 0),
        savings=_against(found, log.draws, 1),
        thin=float((counts < few)[allowed].mean()),
        few=few,
        left_out=left_out,
        broken=observed(team, models, [kept[row] for row in rows.tolist()]).broken,
    )


def _no_judges(known: int, left_out: Mapping[str, int]) -> str:
    """Why no run can judge a policy, and which ones can."""
    why = [f"{known:,} of known success, without a propensity"] if known else []
    why += [f"{count:,} left out ({reason})" for reason, count in left_out.items()]
    return (
        f"no run can be judged by; given were {'; '.join(why) or 'no runs'}. A run judges others where its success is known and "
        "its models were drawn by lot, with the chance on record (propensity): begin sessions with explore=, or with the trials "
        "of exploration_plan. Runs of a fixed team have no such chance"
    )


class _Filled:
    """What each policy gives to each run's task, and what was expected of that and of what was run: filled fold by fold.

    Args:
        n: Runs.
        roles: Of the team.
        names: Of the policies.
    """

    def __init__(self, n: int, roles: int, names: Sequence[str]) -> None:
        self.columns = {name: np.zeros((n, roles), np.int64) for name in names}
        self.modes = {name: np.zeros(n, np.int64) for name in names}
        self.expected = {name: np.zeros((n, 2)) for name in names}
        self.logged = np.zeros((n, 2))

    def add(self, here: Places, known: References, held: Sequence[TeamRun], placed: Mapping[str, tuple[Places, Places]]) -> None:
        """Fills the rows of one fold."""
        kinds = known.kinds.of([run.query for run in held])
        ran = observed(known.team, known.models, held, kinds)
        self.logged[here] = np.stack(known.expected(ran.columns, ran.modes, kinds), axis=1)
        for name, (columns, modes) in placed.items():
            self.columns[name][here], self.modes[name][here] = columns, modes
            self.expected[name][here] = np.stack(known.expected(columns, modes, kinds), axis=1)


def _chances(kept: Sequence[TeamRun], rows: Places, allowed: Flags, modes: int) -> Floats | None:
    """What each role's column and the mode were drawn with, where the log was made by even and independent draws."""
    even = 1.0 / np.array([*allowed.sum(axis=1), modes], np.float64)
    logged = np.array([kept[row].propensity for row in rows.tolist()], np.float64)
    return even if np.allclose(logged, even.prod(), rtol=1e-6, atol=0.0) else None


def _log(
    kept: Sequence[TeamRun],
    rows: Places,
    groups: Places,
    filled: _Filled,
    chances: Floats | None,
    resamples: int,
    seed: int,
) -> Rows:
    runs = [kept[row] for row in rows.tolist()]
    return Rows(
        propensity=np.array([run.propensity for run in runs], np.float64),
        chances=chances,
        seen=np.array([(run.success, math.nan if run.cost is None else run.cost) for run in runs], np.float64),
        expected=filled.logged[rows],
        draws=draws(np.unique(groups[rows], return_inverse=True)[1], resamples, seed),
    )


def _logged(log: Rows) -> tuple[Judged, dict[str, Floats]]:
    """What the runs came to as they were."""
    mean = figure(log.seen[:, 0], log.draws, top=1.0)
    return Judged(
        name=LOGGED,
        success=mean,
        cost=figure(log.seen[:, 1], log.draws),
        by="mean",
        matched=len(log.seen),
        effective=float(len(log.seen)),
        estimates={},
        expected=float(log.expected[:, 0].mean()),
        verdict="ok",
    ), {"dr": log.seen, "sum": log.seen}


def _against(found: Sequence[tuple[Judged, dict[str, Floats]]], drawn: Floats, which: int) -> dict[str, Figure]:
    """What the first policy gains on each other one, by the better of the estimators that both have; of USD, what it saves."""
    _, own = found[0]
    gains: dict[str, Figure] = {}
    for other, values in found[1:]:
        by = next((kind for kind in ("dr", "sum") if kind in own and kind in values), None)
        if by is not None:
            more = (own[by] - values[by])[:, which] * (1.0 if which == 0 else -1.0)
            one = figure(more, drawn)
            gains |= {} if one is None else {other.name: one}
    return gains
