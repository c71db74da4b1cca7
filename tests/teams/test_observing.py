"""Which runs count, and how: those that broke off when a model failed, crashes of the application, and replays."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from agentroute import ModelCard, Price
from agentroute.errors import DataError, OutcomeDroppedWarning
from agentroute.teams import NONE, Role, RoleAllocator, RoleUsage, RunLog, Team, TeamRun
from agentroute.teams._judging import evaluate
from agentroute.teams._observing import observed, settled, usable
from agentroute.types import Query

TEAM = Team(roles=[Role(name="planner"), Role(name="coder")])
CARDS = [ModelCard(id=name, price=Price(input=1.0, output=1.0)) for name in ("steady", "frail")]


class RateLimitError(Exception):
    """As providers' clients call it."""


class AuthenticationError(Exception):
    """Likewise."""


def run(success=None, error="TimeoutError", run_error="TimeoutError", **more):
    return TeamRun(
        query=Query(text="t"),
        models={"planner": "steady", "coder": "frail"},
        success=success,
        roles={"planner": RoleUsage(), "coder": RoleUsage(error=error)},
        metadata={} if run_error is None else {"error": run_error},
        **more,
    )


def served(allocator, number, rng, error=TimeoutError):
    """One run of a scripted team: half of the calls of the frail model fail, and whatever it answers is right."""
    with suppress(TimeoutError, RateLimitError, AuthenticationError), allocator.session(f"task {number}", explore=1.0) as session:
        for role in session.roles:
            call = session.begin(role)
            if role == "coder" and call.model == "frail" and rng.random() < 0.5:
                problem = error()
                call.failed(problem)
                raise problem
            call.settle(cost=0.001)
        session.finish(success=1.0 if session.models["coder"] == "frail" else float(rng.random() < 0.9))


def test_a_model_whose_failures_end_runs_does_not_look_the_better_for_it(tmp_path):
    log = RunLog(tmp_path / "runs.jsonl")
    allocator, rng = RoleAllocator(TEAM, CARDS, log=log, seed=0), random.Random(0)
    for number in range(240):
        served(allocator, number, rng, TimeoutError if number % 2 else RateLimitError)
    report = allocator.fit()
    effects = {(one.role, one.model): one for one in report.effects}
    broken = sum(one.success is None for one in log)
    assert broken > 40
    assert (report.runs, report.broken, dict(report.left_out)) == (240, broken, {})
    # All that it answers is right, 90 % of the other's; but it answers only half of the time.
    assert effects["coder", "frail"].high < 0.0
    assert f"{broken} runs that broke off when a model failed count as failures" in report.verdicts
    assert f"{broken} runs that broke off" in str(report)
    judged = evaluate(_Fixed(), log, resamples=50)
    assert judged.runs == 240
    assert judged.broken == broken
    assert f"{broken} of them broke off" in str(judged)
    assert judged.policy("allocator").success.high < 0.7


class _Fixed:
    team, models = TEAM, ("steady", "frail")

    def allocate(self, query, *, budget=None):
        return RoleAllocator(TEAM, CARDS).allocate(query, fixed={"planner": "steady", "coder": "frail"})


def test_keys_that_are_refused_tell_nothing_of_the_models(tmp_path):
    log = RunLog(tmp_path / "runs.jsonl")
    allocator, rng = RoleAllocator(TEAM, CARDS, log=log), random.Random(1)
    for number in range(40):
        served(allocator, number, rng, AuthenticationError)
    report = allocator.fit()
    unknown = sum(one.success is None for one in log)
    assert unknown
    assert report.broken == 0
    assert report.left_out == {"broke off, and not for a model": unknown}


def test_a_crash_without_a_models_failure_stays_unknown():
    for one in (run(error=None), run(error="Abandoned"), run(error="TypeError", run_error="TypeError")):
        assert settled(one) is one
        assert usable(TEAM, ("steady", "frail"), [one]) == ([], {"broke off, and not for a model": 1})
    assert usable(TEAM, ("steady", "frail"), [run(run_error=None)]) == ([], {"success unknown": 1})


@pytest.mark.parametrize("stop", [KeyboardInterrupt, asyncio.CancelledError, SystemExit, GeneratorExit, TypeError])
def test_somebody_who_stops_a_run_after_a_failure_has_not_seen_it_fail(stop):
    assert settled(run(run_error=stop.__name__)).success is None


@pytest.mark.parametrize(
    "error", ["RateLimitError", "BadRequestError", "ContextOverflowError", "JSONDecodeError", "TimeoutError"]
)
@pytest.mark.parametrize("end", [None, "NoEligibleModelError", "BudgetError", "the planner gave up"])
def test_what_a_model_failed_with_counts_whatever_the_run_ended_in(error, end):
    found = settled(run(error=error, run_error=end or error))
    assert found.success == 0.0


def test_what_somebody_said_of_a_run_stands():
    for success in (0.0, 0.4, 1.0):
        one = run(success)
        assert settled(one) is one
    kept, _ = usable(TEAM, ("steady", "frail"), [run(0.0), run(), run(1.0)])
    seen = observed(TEAM, ("steady", "frail"), kept)
    assert seen.success.tolist() == [0.0, 0.0, 1.0]
    assert seen.broken == 1


def test_replays_are_no_runs_of_their_own():
    """Whoever replays failures alone would else see any change better them."""
    rng = np.random.default_rng(0)
    runs = [
        TeamRun(
            query=Query(text=f"task {n}"),
            models={"planner": rng.choice(["steady", "frail"]).item(), "coder": rng.choice(["steady", "frail"]).item()},
            success=float(rng.random() < 0.5),
            propensity=0.25,
        )
        for n in range(200)
    ]
    other = {"steady": "frail", "frail": "steady"}
    replays = [
        TeamRun(
            query=one.query,
            models={**one.models, "coder": other[one.models["coder"]]},
            success=float(rng.random() < 0.5),
            metadata={"replay_of": one.id},
        )
        for one in runs
        if one.success == 0.0 and one.models["coder"] == "steady"
    ]
    plain, both = (RoleAllocator(TEAM, CARDS).fit(given) for given in (runs, [*runs, *replays]))
    assert both.effects == plain.effects
    assert both.left_out == {"replays, which are compared with their runs": len(replays)}
    assert f"left out: {len(replays)} runs (replays, which are compared with their runs)" in both.sources


def test_a_report_says_what_was_learned_from_what():
    runs = [
        TeamRun(
            query=Query(text="", id=str(n), task="ab"[n % 2]),
            models={"planner": "steady", "coder": ("steady", "frail")[n % 2]},
            success=0.5,
            propensity=0.5 if n < 30 else None,
            roles={"coder": RoleUsage(score=0.5)} if n < 12 else {},
        )
        for n in range(40)
    ]
    report = RoleAllocator(TEAM, CARDS).fit([*runs, TeamRun(query=Query(text=""), models={})])
    assert (report.drawn, report.scored) == (30, 12)
    assert report.sources == (
        "30 of 40 runs drawn by lot",
        "12 runs scored role by role",
        "kinds of task: a, b",
        "left out: 1 run (success unknown)",
    )
    assert all(one in str(report) for one in report.sources)


# --- sessions that no call reached ---


def of_session(roles, success=1.0, **more):
    return TeamRun(
        query=Query(text="t"),
        models={"planner": "steady", "coder": "frail"},
        success=success,
        roles={role: RoleUsage() for role in roles},
        allocation_id="a",
        **more,
    )


def test_a_session_that_no_call_of_a_role_reached_tells_nothing_of_the_models():
    silent, spoke = of_session([]), of_session(["coder"])
    by_hand = TeamRun(query=Query(text="t"), models={"planner": "steady", "coder": "frail"}, success=1.0)
    kept, left = usable(TEAM, ["steady", "frail"], [silent, spoke, by_hand])
    assert kept == [spoke, by_hand]
    assert left == {"no call of a role reached the session": 1}
    with pytest.raises(DataError, match="no call of a role reached the session"):
        evaluate(RoleAllocator(TEAM, CARDS), [silent])
    # A team that was left out as a whole had nobody to speak.
    team = Team(roles=[Role(name="planner", optional=True), Role(name="coder", optional=True)])
    nobody = replace(silent, models={"planner": NONE, "coder": NONE})
    assert usable(team, ["steady", "frail"], [nobody])[0] == [nobody]


def test_forgotten_blocks_are_told_and_nothing_is_learned_from_them():
    allocator = RoleAllocator(TEAM, CARDS, seed=0)
    for number in range(20):
        session = allocator.session(f"task {number}", explore=1.0)
        with pytest.warns(OutcomeDroppedWarning, match="no call of a role reached this session"):
            session.finish(success=1.0)
    report = allocator.fit()
    assert report.runs == 0
    assert "no call of a role reached the session" in str(report)


def test_a_role_that_never_spoke_is_not_identifiable(tmp_path):
    allocator = RoleAllocator(TEAM, CARDS, seed=0)
    for number in range(60):
        with allocator.session(f"task {number}", explore=1.0) as session:
            session.begin("planner").settle(cost=0.001)
            session.finish(success=float(number % 2))
    report = allocator.fit()
    assert report.unidentifiable == {"coder": "never spoke"}
    assert "not identifiable: role coder (never spoke)" in str(report)
    assert all(one.logit is None for one in report.effects if one.role == "coder")
    assert all(one.logit is not None for one in report.effects if one.role == "planner")
    allocator.save(tmp_path / "team")
    assert RoleAllocator.load(tmp_path / "team").report().unidentifiable == {"coder": "never spoke"}
    # Of runs that somebody has recorded by hand nobody knows who spoke; nor does one word go unheard.
    for other in (of_session(["planner", "coder"]), replace(of_session([]), allocation_id=None)):
        assert allocator.fit([*allocator.runs, other]).unidentifiable == {}
    assert observed(TEAM, ["steady", "frail"], list(allocator.runs)).take(np.arange(5)).silent == (1,)
