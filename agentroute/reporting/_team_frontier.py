"""What budgets buy a team: expected by what its runs taught, and measured on runs that were held out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal, TypeAlias

import numpy as np

from agentroute.errors import BudgetError, DataError, NoEligibleModelError, PriceUnknownError
from agentroute.evaluation import Interval, Progress
from agentroute.reporting._team_values import Frontier, Way
from agentroute.teams import NONE, Allocation, AllocationReport, RoleAllocator, TeamRun
from agentroute.teams._judging import LOGGED, MAP, POLICY, Assignment, Decide, Figure, Judged, judge
from agentroute.teams._kinds import TaskKinds
from agentroute.types import Query

__all__ = ["always", "anew", "frontier"]

Tasks: TypeAlias = Sequence[tuple[Query, float]]
"""Tasks that stand for all, with their shares."""

_UNKNOWN: Final = Interval(value=math.nan, low=math.nan, high=math.nan)
_CLOSE: Final = 0.01
"""Of success: what is so close to the best is as good."""
_SPREAD: Final = 3.0
"""Where the dearest team costs so many times as much as the cheapest, budgets are spaced by factors."""
_ROUNDING: Final = 1.0 + 1e-9


def anew(made: RoleAllocator) -> RoleAllocator:
    """An allocator of the same team, models and settings that has learned nothing."""
    return RoleAllocator(
        made.team,
        made.pool,
        willingness_to_pay=made.willingness_to_pay,
        embedder=made.embedder,
        task=made.task,
        ridge=made.ridge,
        kind_ridge=made.kind_ridge,
        seed=made.seed,
    )


def always(model: str) -> str:
    """What it is called that one model has all roles."""
    return f"always {model}"


def frontier(
    made: RoleAllocator, runs: Sequence[TeamRun], *, budgets: int, resamples: int, seed: int, tell: Progress
) -> Frontier:
    """What an allocator, one map and single models come to at several budgets.

    Args:
        made: The allocator, which has learned from the runs.
        runs: To measure by; none = what is expected is all there is.
        budgets: How many.
        resamples: Of the bootstrap.
        seed: Likewise.
        tell: Is told how far it is.
    """
    tasks, mapped = _tasks(made), _mapped(made)
    try:
        amounts = _amounts(made, tasks, budgets)
    except PriceUnknownError as error:
        return Frontier(why=f"costs are unknown: {error}")
    found = [_expected(made, tasks, amount) for amount in amounts]
    several = len(tasks) > 1
    maps = [_map(made, mapped, tasks, amount) for amount in amounts] if several else []
    singles = [one for model in made.ids if (one := _single(made, tasks, model)) is not None]
    tried = {(one.role, one.model) for one in made.report().effects if one.runs}
    singles = [
        one if not tried or _ran(one) <= tried else replace(one, expected=_UNKNOWN, verdict="never tried") for one in singles
    ]
    best = max(way.expected.value for way in found)
    place = next(place for place, way in enumerate(found) if way.expected.value >= best - _CLOSE)
    bare = Frontier(ways=(*found, *maps, *singles), featured=found[place], why="there are no runs to measure by")
    if not runs:
        return bare
    if not made.drawn:
        return replace(bare, why="in no run were the models drawn by lot, with the chance on record")
    try:
        return _measured(made, runs, bare, amounts, place, resamples=resamples, seed=seed, tell=tell)
    except DataError as error:
        return replace(bare, why=str(error))


# --- what is expected ---


def _tasks(made: RoleAllocator) -> list[tuple[Query, float]]:
    """A task of each kind, with the kind's share of the runs."""
    seen, kinds = made.parts()[:2]
    if kinds.by_ == "none" or not len(seen):
        return [(Query(text=""), 1.0)]
    shares = seen.kinds.mean(axis=0).tolist()
    if kinds.centres_ is None:
        found = [(Query(text="", task=name), share) for name, share in zip(kinds.names_, shares, strict=True)]
    else:
        found = [(Query(text="", embedding=centre), share) for centre, share in zip(kinds.centres_, shares, strict=True)]
    rest = 1.0 - sum(shares)
    return [*found, (Query(text=""), rest)] if rest > 1e-9 else found


def _mapped(made: RoleAllocator) -> RoleAllocator:
    """The same without kinds of tasks: its allocation is the best map for all."""
    seen, _, costs, _ = made.parts()
    other = anew(made)
    other.adopt(made.drawn, TaskKinds(seed=made.seed).fit(()), costs, replace(seen, kinds=seen.kinds[:, :0]))
    return other


def _amounts(made: RoleAllocator, tasks: Tasks, budgets: int) -> list[float | None]:
    """Budgets from what the cheapest team costs to what the best one does; `[None]` = costs are unknown, or all the same.

    Raises:
        PriceUnknownError: Cost is weighed, and that of a model is unknown.
    """
    most = max(made.allocate(query).expected_cost for query, _ in tasks)
    if not math.isfinite(most):
        return [None]
    least = _least(made, tasks[0][0])
    if most <= least * _ROUNDING or budgets < 2:
        return [most * _ROUNDING]
    spaced = np.geomspace(least, most, budgets) if least > 0 and most / least > _SPREAD else np.linspace(least, most, budgets)
    return [amount * _ROUNDING for amount in spaced.tolist()]


def _least(made: RoleAllocator, query: Query) -> float:
    try:
        return made.allocate(query, budget=0.0).expected_cost
    except BudgetError as error:
        return error.cheapest or 0.0


def _within(made: RoleAllocator, query: Query, budget: float | None) -> Allocation:
    """The allocation; where a part of the runs makes even the cheapest team dearer than the budget, the cheapest team."""
    try:
        return made.allocate(query, budget=budget)
    except BudgetError as error:
        return made.allocate(query, budget=(error.cheapest or 0.0) * _ROUNDING)


def _way(
    name: str, kind: Literal["allocator", "map", "one model"], budget: float | None, given: Sequence[tuple[Allocation, float]]
) -> Way:
    """A way from what it gives to each kind of task."""
    shares: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    roles = dict.fromkeys(role for one, _ in given for role in (*one.reasons, *one.models))
    for one, share in given:
        for role in roles:
            shares[role][one.models.get(role, NONE)] += share

    def mean(of: Callable[[Allocation], float]) -> float:
        return sum(share * of(one) for one, share in given)

    # Ends are averaged as they are: kinds err together, since they share most of what was learned.
    return Way(
        name=name,
        kind=kind,
        budget=budget,
        models={role: dict(one) for role, one in shares.items()},
        expected=Interval(
            value=mean(lambda one: one.expected_quality),
            low=mean(lambda one: one.quality_interval[0]),
            high=mean(lambda one: one.quality_interval[1]),
        ),
        expected_cost=mean(lambda one: one.expected_cost),
        measured=_UNKNOWN,
        cost=_UNKNOWN,
    )


def _expected(made: RoleAllocator, tasks: Tasks, budget: float | None) -> Way:
    return _way("allocator", "allocator", budget, [(_within(made, query, budget), share) for query, share in tasks])


def _map(made: RoleAllocator, mapped: RoleAllocator, tasks: Tasks, budget: float | None) -> Way:
    one = _within(mapped, Query(text=""), budget)
    fixed = {role.name: one.models.get(role.name, NONE) for role in made.team.roles}
    given = [(made.allocate(query, fixed=fixed, mode=one.mode), share) for query, share in tasks]
    return _way("one map", "map", budget, given)


def _ran(way: Way) -> set[tuple[str, str]]:
    """Roles and models that it has."""
    return {(role, model) for role, shares in way.models.items() for model in shares}


def _everywhere(made: RoleAllocator, model: str) -> dict[str, str]:
    return {role.name: role.model or model for role in made.team.roles}


def _single(made: RoleAllocator, tasks: Tasks, model: str) -> Way | None:
    """One model in all roles, in the usual mode; `None` = some role may not have it."""
    try:
        given = [
            (made.allocate(query, fixed=_everywhere(made, model), mode=made.team.modes[0].name), share) for query, share in tasks
        ]
    except NoEligibleModelError:
        return None
    return _way(always(model), "one model", None, given)


# --- what is measured ---


class _Learning:
    """What is learned from each part of the runs: once, however many budgets are asked for."""

    def __init__(self, made: RoleAllocator) -> None:
        self.made = made
        self.parts: dict[tuple[str, ...], tuple[RoleAllocator, RoleAllocator]] = {}

    def of(self, train: Sequence[TeamRun]) -> tuple[RoleAllocator, RoleAllocator]:
        """The allocator and its map."""
        key = tuple(run.id for run in train)
        if key not in self.parts:
            learned = anew(self.made)
            learned.fit(train)
            self.parts[key] = learned, _mapped(learned)
        return self.parts[key]

    def allocating(self, train: Sequence[TeamRun], budget: float | None) -> Decide:
        learned, _ = self.of(train)
        return lambda queries: [(one.models, one.mode) for one in (_within(learned, query, budget) for query in queries)]

    def mapping(self, train: Sequence[TeamRun], budget: float | None) -> Decide:
        one = _within(self.of(train)[1], Query(text=""), budget)
        return lambda queries: [(one.models, one.mode)] * len(queries)


def _measured(
    made: RoleAllocator,
    runs: Sequence[TeamRun],
    bare: Frontier,
    amounts: Sequence[float | None],
    place: int,
    *,
    resamples: int,
    seed: int,
    tell: Progress,
) -> Frontier:
    """The frontier with what held-out runs say of each way.

    Raises:
        DataError: They say nothing.
    """
    learning, mode = _Learning(made), made.team.modes[0].name
    others: dict[str, Assignment] = {
        always(model): (_everywhere(made, model), mode)
        for model in made.ids
        if always(model) in {one.name for one in bare.of("one model")}
    }
    maps = bare.of("map")
    steps = len(amounts) + len(maps)

    def judged(learn: Callable[[Sequence[TeamRun]], Decide], step: int, *, whole: bool = False) -> AllocationReport:
        tell("judging by held-out runs", 0.2 + 0.8 * step / steps)
        given = others if whole else None
        return judge(made.team, made.ids, runs, learn, others=given, resamples=resamples, seed=seed)

    reports = [
        judged(lambda train, amount=amount: learning.allocating(train, amount), step, whole=step == place)  # type: ignore[misc]  # a default argument
        for step, amount in enumerate(amounts)
    ]
    ways = [_told(way, report.policy(POLICY)) for way, report in zip(bare.of("allocator"), reports, strict=True)]
    for step, way in enumerate(maps):
        report = judged(lambda train, way=way: learning.mapping(train, way.budget), len(amounts) + step)  # type: ignore[misc]  # likewise
        ways.append(_told(way, report.policy(POLICY)))
    whole = reports[place]
    ways += [_told(way, whole.policy(way.name)) for way in bare.of("one model")]
    logged = whole.policy(LOGGED)
    ways.append(
        _told(
            Way(name=LOGGED, kind="logged", expected=_UNKNOWN, expected_cost=math.nan, measured=_UNKNOWN, cost=_UNKNOWN), logged
        )
    )
    known = not math.isnan(ways[place].measured.value)
    return replace(
        bare,
        ways=tuple(ways),
        measured=known,
        featured=ways[place],
        why="" if known else f"{logged.matched} runs tell too little of what they were not run with",
        gains=_intervals(whole.gains),
        savings=_intervals(whole.savings),
    )


def _told(way: Way, found: Judged) -> Way:
    return replace(
        way,
        measured=_share(found.success),
        cost=_interval(found.cost),
        verdict=found.verdict,
        by=found.by or "",
        matched=found.matched,
    )


def _intervals(found: Mapping[str, Figure]) -> dict[str, Interval]:
    return {name: _interval(one) for name, one in found.items() if name != MAP}


def _interval(found: Figure | None) -> Interval:
    return _UNKNOWN if found is None else Interval(value=found.value, low=found.low, high=found.high)


def _share(found: Figure | None) -> Interval:
    """A success: estimates may leave what can be."""
    one = _interval(found)
    return Interval(value=min(max(one.value, 0.0), 1.0), low=max(one.low, 0.0), high=min(one.high, 1.0)) if found else one
