"""Runs in which models fail: what they are recorded as, and what is learned of whom."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from agentroute.teams import Mode, Role, RoleAllocator, RunLog, Team
from agentroute.teams._observing import settled
from agentroute.types import ModelCard, Price

TEAM = Team(roles=[Role(name="planner"), Role(name="coder")], modes=[Mode(name="alone")])
CARDS = [ModelCard(id=name, price=Price(input=1.0, output=1.0), scores={"MMLU": 0.5}) for name in ("frail", "steady")]


@pytest.fixture(scope="module")
def frail_runs():
    """The frail one fails as a planner in four turns of ten, and its failover with it; what is answered is right in seven."""
    allocator, rng = RoleAllocator(TEAM, CARDS), random.Random(0)
    for number, trial in enumerate(allocator.exploration_plan(800)):
        with suppress(TimeoutError), allocator.session(f"task {number % 200}", allocation=trial) as session:
            call = session.begin("planner")
            if call.model == "frail" and rng.random() < 0.4:
                call.failed("InternalServerError", cost=0.0)
                session.begin("planner").failed("InternalServerError", cost=0.0)
                raise TimeoutError
            call.settle(cost=0.0)
            session.begin("coder").settle(cost=0.0)
            session.finish(success=float(rng.random() < 0.7))
    return allocator.runs


def test_who_takes_over_is_not_blamed_for_whoever_failed(frail_runs):
    report = RoleAllocator(TEAM, CARDS).fit(frail_runs)
    effects = {one.model: one for one in report.effects if one.role == "planner"}
    assert report.runs == 800
    assert effects["frail"].high < 0.0 < effects["steady"].low  # 42 % against 70 %


def test_all_runs_count_where_a_model_is_judged_and_not_those_alone_that_it_survived(frail_runs):
    teams = {model: ({"planner": model, "coder": "steady"}, "alone") for model in ("frail", "steady")}
    judged = RoleAllocator(TEAM, CARDS).evaluate(frail_runs, others=teams, resamples=50)
    assert judged.policy("frail").success.value == pytest.approx(0.42, abs=0.06)
    assert judged.policy("steady").success.value == pytest.approx(0.70, abs=0.06)


@pytest.mark.parametrize("ends", ["fail", "crash", "fail again"])
def test_a_crash_of_the_application_after_a_failure_that_was_got_over_is_no_failure_of_the_team(tmp_path, ends):
    log = RunLog(tmp_path / "runs.jsonl")
    allocator = RoleAllocator(TEAM, CARDS, log=log)
    with suppress(ZeroDivisionError), allocator.session("x") as session:
        session.begin("planner").failed("RateLimitError", again=True)
        if ends != "fail":
            session.begin("planner").settle(cost=0.0)
        if ends == "fail again":
            session.begin("planner").failed("RateLimitError")
        raise ZeroDivisionError
    [run] = log
    assert (run.roles["planner"].error, run.roles["planner"].recovered) == ("RateLimitError", ends == "crash")
    assert settled(run).success == (None if ends == "crash" else 0.0)
