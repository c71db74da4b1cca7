"""What teams are made of refuses what cannot be, with what to do, before anything is lost."""

import math

import numpy as np
import pytest

from agentroute.errors import ConfigError, DataError
from agentroute.teams import Mode, Role, RoleAllocator, RoleUsage, Team, TeamRun
from agentroute.types import ModelCard, Query

CARDS = [ModelCard(id="a"), ModelCard(id="b")]


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: Role(name=""), "a role needs a name, not ''"),
        (lambda: Role(name=5), "a role needs a name, not 5"),
        (lambda: Role(name="x", input_tokens="5"), "role 'x': input_tokens='5' must be a number of 0 or more"),
        (lambda: Role(name="x", output_tokens=None), "role 'x': output_tokens=None must be"),
        (lambda: Role(name="x", calls=-1), "role 'x': calls=-1 must be"),
        (lambda: Role(name="x", criticality=math.nan), "role 'x': criticality=nan must be"),
        (lambda: Role(name="x", calls=True), "role 'x': calls=True must be"),
        (lambda: Role(name="x", needs="tools"), "give a set of names"),
        (lambda: Mode(name=None), "a mode needs a name, not None"),
        (lambda: Mode(name="m", rounds=None), "mode 'm': rounds=None must be a whole number, 1 or more"),
        (lambda: Mode(name="m", rounds=1.5), "mode 'm': rounds=1.5 must be a whole number"),
        (lambda: Mode(name="m", reviews=-1), "mode 'm': reviews=-1 must be a whole number, 0 or more"),
        (lambda: Mode(name="m", extra_tokens=math.inf), "mode 'm': extra_tokens=inf must be"),
        (lambda: Mode(name="m", growth="tree"), "growth='tree'"),
        (lambda: Team(roles=["planner"]), r"a team's roles are a list of Role, not 'planner': roles=\[Role\(name="),
        (lambda: Team(roles=Role(name="planner")), "a team's roles are a list of Role, not Role"),
        (lambda: Team(roles=[Role(name="x")], modes=[None]), "a team's modes are a list of Mode, not None"),
        (lambda: Team(roles=[]), "at least one role"),
        (lambda: Team(roles=[Role(name="x")], modes=[]), "at least one mode"),
        (lambda: Team(roles=[Role(name="x"), Role(name="x")]), "two roles of the team are called 'x'"),
    ],
)
def test_what_cannot_be_is_refused(made, told):
    with pytest.raises(ConfigError, match=told):
        made()


def test_numbers_of_any_kind_are_taken():
    role = Role(name="x", input_tokens=np.float32(5), calls=np.int64(2))
    assert (role.input_tokens, type(role.input_tokens), role.calls) == (5.0, float, 2.0)
    assert Mode(name="m", rounds=np.int64(2)).rounds == 2


@pytest.mark.parametrize("fields", [{"cost": -1.0}, {"success": 1.5}, {"propensity": 0.0}, {"latency": math.inf}])
def test_numbers_of_a_run_are_checked(fields):
    with pytest.raises(DataError, match=f"{next(iter(fields))}="):
        TeamRun(query=Query(text="x"), models={"a": "b"}, **fields)


def test_a_run_is_of_a_query():
    with pytest.raises(DataError, match=r"a run's query is a Query, not 'text': Query\(text="):
        TeamRun(query="text", models={})
    with pytest.raises(DataError, match="score="):
        RoleUsage(score=2.0)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"budget": "1"}, "budget='1' must be a number of 0 or more"),
        ({"budget": True}, "budget=True must be"),
        ({"budget": math.nan}, "budget=nan must be"),
        ({"explore": "x"}, "explore='x' must be a number"),
        ({"explore": 1.5}, "explore=1.5 must be a share from 0 to 1"),
        ({"roles": []}, "leaves nobody"),
        ({"roles": "solver"}, "roles='solver': give a set of names, not one string"),
        ({"fixed": {"solver": "none"}}, "leaves out the role 'solver', which is not optional"),
        ({"mode": "tree"}, "unknown mode 'tree'"),
    ],
)
def test_questions_that_cannot_be_answered_say_why(options, told):
    allocator = RoleAllocator(Team(roles=[Role(name="solver")]), CARDS)
    with pytest.raises(ConfigError, match=told):
        allocator.allocate("x", **options)


def test_what_is_no_run_and_no_plan_is_refused():
    allocator = RoleAllocator(Team(roles=[Role(name="solver")]), CARDS)
    with pytest.raises(DataError, match="learns from TeamRun values, not 1"):
        allocator.fit([1])
    with pytest.raises(DataError, match=r"RunLog\('runs\.jsonl'\) reads them from a file"):
        allocator.fit("runs.jsonl")
    with pytest.raises(ConfigError, match=r"give log=RunLog\('runs\.jsonl'\)"):
        RoleAllocator(Team(roles=[Role(name="solver")]), CARDS, log="runs.jsonl")
    with pytest.raises(ConfigError, match=r"n=2\.5 must be a whole number, 0 or more"):
        allocator.exploration_plan(2.5)
    with pytest.raises(ConfigError, match="n=-1 must be a whole number"):
        allocator.exploration_plan(-1)
