"""What was found out about a team: from which runs, what models add in roles, and what a budget buys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from agentroute.evaluation import Interval
from agentroute.teams import Credit, FitReport, RoleEffect, Team

__all__ = ["Frontier", "Sources", "TeamDiagnosis", "Way", "in_points"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to give a team its models, and what comes of it.

    Attributes:
        name: What it is called.
        kind: The allocator, one map of roles to models for all tasks, one model everywhere, or what was logged.
        budget: USD a run; `None` = none.
        models: Role → model → share of the tasks in which it has the role.
        expected: Success by what the runs taught, with Laplace's interval; optimistic where it was chosen for being best.
        expected_cost: USD a run; NaN = unknown.
        measured: Success on runs that were not learned from, with its interval; NaN = they cannot tell.
        cost: USD a run, likewise.
        verdict: Why they cannot: `"too few matches"`, `"no overlap"`; `"ok"` where they can, `""` where nothing was measured.
        by: What `measured` rests on: `"dr"` whole allocations that were run, `"sum"` their parts, `"mean"` the log itself.
        matched: Runs that had just these models.
    """

    name: str
    kind: Literal["allocator", "map", "one model", "logged"]
    budget: float | None = None
    models: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    expected: Interval
    expected_cost: float
    measured: Interval
    cost: Interval
    verdict: str = ""
    by: str = ""
    matched: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """What budgets buy.

    Attributes:
        ways: The allocator and the fixed map at each budget, from the least up; then one model everywhere, and what was logged.
        measured: Whether success is told from runs that were not learned from; else it is what is expected.
        why: Why it is not measured, or why there is nothing; `""` = it is.
        featured: The allocator's cheapest way that is expected to be within a point of its best; `None` = there is none.
        gains: Other way → how much more often the featured way's teams succeed, on the same tasks.
        savings: Other way → USD a run that they cost less.
    """

    ways: tuple[Way, ...] = ()
    measured: bool = False
    why: str = ""
    featured: Way | None = None
    gains: Mapping[str, Interval] = field(default_factory=dict)
    savings: Mapping[str, Interval] = field(default_factory=dict)

    def of(self, kind: str) -> tuple[Way, ...]:
        """The ways of one kind."""
        return tuple(one for one in self.ways if one.kind == kind)

    def success(self, way: Way) -> Interval:
        """A way's success, measured or expected as the whole frontier is."""
        return way.measured if self.measured else way.expected

    def money(self, way: Way) -> Interval:
        """A way's USD a run, likewise."""
        unknown = Interval(value=way.expected_cost, low=math.nan, high=math.nan)
        return way.cost if self.measured else unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What was learned from what.

    Attributes:
        runs: Runs whose success is known.
        drawn: Those whose models were drawn by lot, with the chance on record.
        scored: Those in which some role has a score of its own.
        replays: Replays of runs with one role's model changed.
        odd: Replays that changed more than one role, or of a run that is not there.
        tasks: Different tasks; 0 = unknown.
        left_out: Why other runs tell nothing → how many.
    """

    runs: int
    drawn: int
    scored: int
    replays: int = 0
    odd: int = 0
    tasks: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamDiagnosis:
    """What is known about a team, for people.

    Attributes:
        team: Roles and modes.
        models: In order.
        fit: What was learned.
        base: Mean success of the runs, from which effects are turned into points.
        sources: From what.
        credits: What replays say.
        frontier: What budgets buy.
        verdict: In a few words.
        headline: In one or two sentences.
    """

    team: Team
    models: tuple[str, ...]
    fit: FitReport
    base: float
    sources: Sources
    credits: tuple[Credit, ...]
    frontier: Frontier
    verdict: str = ""
    headline: str = ""

    def effect(self, effect: RoleEffect) -> Interval:
        """What a model adds in a role, as a share of all runs; NaN where the runs cannot tell."""
        return in_points(effect, self.base)


def in_points(effect: RoleEffect, base: float) -> Interval:
    """What an effect on the logit does to success from a mean on: a share, not yet times 100.

    Args:
        effect: Of a model in a role.
        base: Mean success.
    """
    at = math.log(base / (1.0 - base))

    def moved(logit: float | None) -> float:
        return math.nan if logit is None else 1.0 / (1.0 + math.exp(-at - logit)) - base

    return Interval(value=moved(effect.logit), low=moved(effect.low), high=moved(effect.high))
