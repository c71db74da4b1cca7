"""Plans of runs: balance, chances, prefixes; replays and what they credit."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.errors import ConfigError, DataError
from agentroute.teams import NONE, Mode, Role, RoleAllocator, Team, TeamRun
from agentroute.teams._additive import AdditiveLogit
from agentroute.teams._designs import credits_of, exploration_plan, leave_one_out
from agentroute.teams._observing import levels, observed
from agentroute.types import ModelCard, Price, Query

MODELS = ("s", "m", "l")


def team(roles=3, *, modes=1, optional=()):
    return Team(
        roles=[Role(name=f"r{number}", optional=number in optional) for number in range(roles)],
        modes=[Mode(name=f"mode{number}") for number in range(modes)],
    )


def rows(plan):
    return [(*trial.models.values(), trial.mode) for trial in plan]


def spread(counts, levels):
    return max(counts.values()) - (min(counts.values()) if len(counts) == levels else 0)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 70), roles=st.integers(1, 4), modes=st.integers(1, 3), optional=st.booleans(), seed=st.integers(0, 1000))
def test_each_role_has_each_model_and_the_team_each_mode_equally_often_up_to_one(n, roles, modes, optional, seed):
    optional = optional and roles > 1  # where all may be left out, somebody is drawn instead
    plan = exploration_plan(team(roles, modes=modes, optional={0} if optional else ()), MODELS, n, seed=seed)
    assert len(plan) == n
    for role in range(roles):
        had = Counter(trial.models[f"r{role}"] for trial in plan)
        assert spread(had, 3 + (optional and role == 0)) <= 1
    assert spread(Counter(trial.mode for trial in plan), modes) <= 1


@pytest.mark.parametrize("n", [9, 36, 90, 250])
def test_pairs_come_up_evenly(n):
    found = rows(exploration_plan(team(3, modes=2), MODELS, n))
    for a, b in itertools.combinations(range(4), 2):
        counts = Counter((row[a], row[b]) for row in found)
        assert spread(counts, 9 if b < 3 else 6) <= 2
    if n >= 36:  # a random plan of as many runs is far from this
        drawn = np.random.default_rng(0).integers(0, 3, (n, 2))
        assert spread(Counter(map(tuple, drawn.tolist())), 9) > 2


def test_a_plan_that_is_cut_short_is_nearly_balanced():
    plan = exploration_plan(team(4, modes=2), MODELS, 120)
    for cut in (6, 12, 30, 60, 90):
        for role in range(4):
            assert spread(Counter(trial.models[f"r{role}"] for trial in plan[:cut]), 3) <= 4
        assert spread(Counter(trial.mode for trial in plan[:cut]), 2) <= 4


def test_every_trial_has_each_assignment_with_the_chance_that_it_names():
    # 2 modes x 3 models x 4 (with none) = 24 assignments; the first and the last trial of 960 plans of 5.
    who = team(2, modes=2, optional={1})
    plans = [rows(exploration_plan(who, MODELS, 5, seed=seed)) for seed in range(960)]
    for place in (0, 4):
        counts = Counter(plan[place] for plan in plans)
        assert len(counts) == 24
        square = sum((count - 40) ** 2 / 40 for count in counts.values())
        assert square < 49.7  # chi-square, 23 degrees of freedom, p = .001
    assert {trial.propensity for trial in exploration_plan(who, MODELS, 7)} == {1 / 24}


def test_the_model_that_has_one_run_more_is_drawn_too():
    counts = Counter()
    for seed in range(300):
        counts += Counter(row[0] for row in rows(exploration_plan(team(1), MODELS, 4, seed=seed)))
    assert counts.total() == 1200
    assert max(counts.values()) - min(counts.values()) < 60  # 300 + 100 each; standard deviation of a difference 14


def test_roles_keep_to_what_they_may_have():
    who = Team(
        roles=[
            Role(name="fixed", model="m"),
            Role(name="picky", allow=frozenset({"s", "l"})),
            Role(name="free", optional=True),
        ]
    )
    plan = exploration_plan(who, MODELS, 40)
    assert {trial.models["fixed"] for trial in plan} == {"m"}
    assert {trial.models["picky"] for trial in plan} == {"s", "l"}
    assert {trial.models["free"] for trial in plan} == {*MODELS, NONE}
    assert plan[0].propensity == pytest.approx(1 / 8)
    only = np.array([[True, False, False, False], [False, False, True, False], [False, False, False, True]])
    for trial in exploration_plan(who, MODELS, 3, allowed=only):
        assert trial.models == {"fixed": "s", "picky": "l", "free": NONE}
        assert trial.propensity == 1.0


def test_the_same_seed_gives_the_same_plan():
    assert exploration_plan(team(), MODELS, 30, seed=4) == exploration_plan(team(), MODELS, 30, seed=4)
    assert exploration_plan(team(), MODELS, 30, seed=4) != exploration_plan(team(), MODELS, 30, seed=5)


def test_what_a_plan_was_made_for_can_be_told_from_its_runs():
    who = team(4, modes=2, optional={3})
    runs = [
        TeamRun(query=Query(text=""), models=trial.models, mode=trial.mode, success=0.5)
        for trial in exploration_plan(who, MODELS, 120)
    ]
    model = AdditiveLogit(levels(who, MODELS), modes=2).fit(observed(who, MODELS, runs))
    assert model.aliased() == {}
    assert {effect.verdict for effect in model.effects()} == {"ok"}


def test_plans_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="n=-1"):
        exploration_plan(team(), MODELS, -1)
    with pytest.raises(ConfigError, match="'r0' may have no model"):
        exploration_plan(Team(roles=[Role(name="r0", allow=frozenset({"other"}))]), MODELS, 5)
    assert exploration_plan(team(), MODELS, 0) == []


# --- replays ---


def run(success, ident="run", mode="chain", **models):
    return TeamRun(query=Query(text=""), models=models, mode=mode, success=success, id=ident)


def test_replays_change_one_role_and_nothing_else():
    who = Team(roles=[Role(name="a"), Role(name="b", optional=True), Role(name="c", model="l")])
    found = leave_one_out(run(1.0, a="s", b="m", c="l"), who, MODELS)
    assert [(one.role, one.model) for one in found] == [("a", "m"), ("a", "l"), ("b", "s"), ("b", "l"), ("b", NONE)]
    had = {"a": "s", "b": "m", "c": "l"}
    for one in found:
        assert one.run_id == "run"
        assert one.mode == "chain"
        assert one.models == {**had, one.role: one.model}
    assert [one.model for one in leave_one_out(run(1.0, a="s", c="l"), who, MODELS, roles=["b"])] == ["s", "m", "l"]
    only = np.zeros((3, 4), bool)
    only[0, 2] = True
    assert [one.model for one in leave_one_out(run(1.0, a="s", b="m", c="l"), who, MODELS, allowed=only)] == ["l"]
    with pytest.raises(ConfigError, match="unknown role"):
        leave_one_out(run(1.0, a="s"), who, MODELS, roles=["d"])


def test_credit_is_the_mean_difference_over_runs():
    pairs = [
        (run(1.0, "1", a="s", b="m"), run(0.0, a="l", b="m")),
        (run(1.0, "2", a="s", b="s"), run(1.0, a="l", b="s")),
        (run(0.0, "3", a="s", b="m"), run(0.5, a="l", b="m")),
        (run(0.0, "3", a="s", b="m"), run(0.0, a="l", b="m")),  # the same run again: together they count once
        (run(1.0, "1", a="s", b="m"), run(0.0, a="s")),
    ]
    first, second = credits_of(pairs)
    assert (first.role, first.model, first.instead, first.runs) == ("a", "s", "l", 3)
    assert first.gain == pytest.approx(0.25)
    # Gains of 1, 0 and -1/4, and of 1 and -1: their mean is .75 / 5, that of their squares (1 + 1/16 + 2) / 5.
    error = math.sqrt((3.0625 / 5 - 0.15**2) / 5)
    assert (first.low, first.high) == pytest.approx((0.15 - 1.96 * error, 0.15 + 1.96 * error), abs=1e-3)
    assert (second.role, second.model, second.instead, second.runs, second.gain) == ("b", "m", NONE, 1, 1.0)
    assert math.isnan(second.low)
    assert credits_of([]) == []


def test_replays_in_which_more_changed_are_no_replays():
    with pytest.raises(DataError, match="2 roles"):
        credits_of([(run(1.0, a="s", b="m"), run(1.0, a="l", b="l"))])
    with pytest.raises(DataError, match="0 roles"):
        credits_of([(run(1.0, a="s"), run(1.0, a="s", b=NONE))])
    with pytest.raises(DataError, match="and in the mode"):
        credits_of([(run(1.0, a="s"), run(1.0, a="l", mode="full"))])
    with pytest.raises(DataError, match="no success"):
        credits_of([(run(1.0, a="s"), run(None, a="l"))])


@pytest.mark.parametrize(("first", "second"), [(0.99, 0.9), (0.95, 0.8), (0.8, 0.3), (0.9, 0.9)])
@pytest.mark.parametrize("n", [5, 10, 30])
def test_intervals_of_credit_hold_what_they_promise_from_few_replays_on(first, second, n):
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        luck, other = rng.random((2, n))
        again = np.where(rng.random(n) < 0.5, luck, other)  # a replay has some of the run's luck
        ends = list(zip((luck < first).tolist(), (again < second).tolist(), strict=True))
        pairs = [(run(float(a), str(i), a="s"), run(float(b), a="l")) for i, (a, b) in enumerate(ends)]
        [one] = credits_of(pairs)
        held += one.low <= first - second <= one.high
    assert held / 300 >= 0.92  # of a plain mean it is .4 to .9 where successes are frequent


def test_replays_that_all_ended_alike_are_not_sure_of_it():
    [one] = credits_of([(run(1.0, str(n), a="s"), run(1.0, a="l")) for n in range(10)])
    assert one.gain == 0.0
    assert one.low < -0.1
    assert one.high > 0.1


def test_a_replay_is_logged_as_one():
    first = TeamRun(query=Query(text="x"), models={"a": "s", "b": "m"}, success=0.0, id="run")
    [replay] = leave_one_out(first, Team(roles=[Role(name="a"), Role(name="b", model="m")]), ("s", "m"))
    found = replay.recorded(first, success=1.0, cost=0.25, metadata={"note": "again"})
    assert (found.query, found.models, found.mode, found.success, found.cost) == (first.query, replay.models, "chain", 1.0, 0.25)
    assert found.metadata == {"note": "again", "replay_of": "run"}
    assert found.id != first.id
    assert found.propensity is None
    with pytest.raises(ConfigError, match="replay of the run 'run', not of 'other'"):
        replay.recorded(run(1.0, "other", a="s"))


def test_a_replay_in_a_session_is_logged_as_one():
    who = Team(roles=[Role(name="a"), Role(name="b", optional=True)])
    allocator = RoleAllocator(who, [ModelCard(id=name, price=Price(input=1.0, output=1.0)) for name in ("s", "m")])
    first = TeamRun(query=Query(text="x"), models={"a": "s", "b": "m"}, success=0.0, id="run")
    for replay in leave_one_out(first, who, allocator.ids):
        with allocator.session(first.query, allocation=replay.trial) as session:
            for role in session.models:
                session.begin(role).settle(cost=0.001)
            made = session.finish(success=1.0, replay_of=first.id)
        plain = replay.recorded(first, success=1.0)
        assert (made.models, made.mode, made.metadata, made.propensity) == (plain.models, plain.mode, plain.metadata, None)
        [credit] = credits_of([(first, made)])
        assert (credit.role, credit.model, credit.gain) == (replay.role, first.models[replay.role], -1.0)
    assert len(allocator.runs) == 3
    assert allocator.fit([first, *allocator.runs]).runs == 1


def test_a_planned_run_has_somebody_and_its_true_chance():
    team = Team(
        roles=[Role(name="a", optional=True), Role(name="b", optional=True, allow={"x"})], modes=[Mode(name="m"), Mode(name="n")]
    )
    counts, said = Counter(), {}
    for seed in range(400):
        for trial in exploration_plan(team, ["x", "y"], 24, seed=seed):
            key = (trial.models["a"], trial.models["b"], trial.mode)
            counts[key] += 1
            assert said.setdefault(key, trial.propensity) == trial.propensity
    assert (NONE, NONE) not in {key[:2] for key in counts}
    assert sum(said.values()) == pytest.approx(1.0)
    total = sum(counts.values())
    for key, chance in said.items():
        # Runs of one plan are balanced, so that frequencies scatter less than those of coins.
        assert counts[key] / total == pytest.approx(chance, abs=4.0 * math.sqrt(chance / total))
