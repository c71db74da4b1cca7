"""What an allocator draws with which chance, and what it learns from runs."""

import copy
import math
import pickle
from collections import Counter
from dataclasses import replace

import pytest

from agentroute.errors import ConfigError
from agentroute.teams import Mode, Role, RoleAllocator, RunLog, Team
from agentroute.types import ModelCard, Query

# --- exploring ---


@pytest.mark.parametrize("budget", [None, 0.016])
def test_chances_of_what_is_drawn_add_up_and_are_the_frequencies(budget, cards):
    team = Team(roles=[Role(name="a"), Role(name="b", optional=True)], modes=[Mode(name="one"), Mode(name="two", rounds=2)])
    allocator = RoleAllocator(team, cards)
    drawn, chances = Counter(), {}
    for _ in range(2000):
        found = allocator.allocate("x", explore=0.5, budget=budget)
        key = (found.mode, tuple(sorted(found.models.items())))
        drawn[key] += 1
        assert chances.setdefault(key, found.propensity) == found.propensity
        if budget is not None:
            assert found.expected_cost <= budget
    best = allocator.allocate("x", budget=budget)
    assert max(chances, key=chances.get) == (best.mode, tuple(sorted(best.models.items())))
    assert sum(chances.values()) == pytest.approx(1.0, abs=1e-9)
    assert len(chances) == (3 * 4 * 2 if budget is None else len(chances))
    for key, chance in chances.items():
        assert drawn[key] / 2000 == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / 2000))


def test_without_exploring_the_best_is_given_each_time(team, cards):
    allocator = RoleAllocator(team, cards)
    assert {tuple(allocator.allocate("x").models.items()) for _ in range(20)} == {tuple(allocator.allocate("x").models.items())}
    assert allocator.allocate("x").propensity == 1.0


def test_of_very_many_allocations_those_beside_the_best_are_drawn(cards):
    team = Team(roles=[Role(name=str(n)) for n in range(10)])
    allocator = RoleAllocator(team, cards)
    best = allocator.allocate("x").models
    for _ in range(20):
        found = allocator.allocate("x", explore=1.0)
        assert sum(found.models[role] != model for role, model in best.items()) <= 1
        assert found.propensity == pytest.approx(1 / 21)


# --- learning ---


def test_runs_beat_the_cards_where_there_are_enough(cards, runs_of):
    team = Team(roles=[Role(name="planner"), Role(name="solver")])
    runs = runs_of(team, 600, lambda m: 0.2 + 0.35 * (m["planner"] == "small") + 0.35 * (m["solver"] == "middle"))
    allocator = RoleAllocator(team, cards)
    assert allocator.allocate("x").models == {"planner": "large", "solver": "large"}
    report = allocator.fit(runs)
    assert allocator.allocate("x").models == {"planner": "small", "solver": "middle"}
    assert report.by == "sum"
    assert report.runs == report.drawn == 600
    best = max((one for one in report.effects if one.role == "planner"), key=lambda one: one.logit)
    assert best.model == "small"
    assert best.low > 0.0
    assert best.verdict == "ok"


def test_lots_differ_from_process_to_process_unless_a_seed_says_otherwise(team, cards, tmp_path):
    def lots(allocator):
        return [tuple(allocator.allocate("x", explore=0.9).models.items()) for _ in range(12)]

    def seeded():
        return RoleAllocator(team, cards, seed=4)

    assert lots(seeded()) == lots(seeded())
    assert lots(RoleAllocator(team, cards)) != lots(RoleAllocator(team, cards))
    seeded().save(tmp_path / "team")
    assert lots(RoleAllocator.load(tmp_path / "team")) != lots(RoleAllocator.load(tmp_path / "team"))
    first = Counter(tuple(RoleAllocator(team, cards).allocate("x", explore=0.5).models.items()) for _ in range(60))
    assert len(first) > 10  # each with the chance that is logged, also where every process draws but once


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_allocates_the_same_and_draws_its_own_lots(team, cards, runs_of, copied, tmp_path):
    log = RunLog(tmp_path / "runs.jsonl")
    allocator = RoleAllocator(team, cards, runs=runs_of(team, 100, lambda models: 0.5), log=log, seed=0)
    other = copied(allocator)
    assert other.allocate("x").models == allocator.allocate("x").models
    assert str(other.report()) == str(allocator.report())
    mine, theirs = ([dict(one.allocate("x", explore=1.0).models) for _ in range(8)] for one in (allocator, other))
    assert mine != theirs
    with other.session("x") as session:
        session.begin("planner").settle(cost=0.01)
    assert len(log) == 1


def test_few_runs_that_move_a_model_are_not_denied(team, cards, runs_of):
    few = [
        replace(run, models={**run.models, "solver": ("small", "large")[number % 2]}, success=float(number % 2))
        for number, run in enumerate(runs_of(team, 6, lambda models: 0.5))
    ]
    reason = RoleAllocator(team, cards, runs=few).allocate("x").reasons["solver"]
    assert reason == "the runs lean a way, and cannot tell yet; at first judged by MMLU (100%)"


def test_a_role_that_never_varied_is_told_as_such_and_never_by_a_number(team, cards, runs_of):
    runs = [replace(run, models={**run.models, "planner": "middle"}) for run in runs_of(team, 400, lambda models: 0.5)]
    allocator = RoleAllocator(team, cards)
    report = allocator.fit(runs)
    assert allocator.allocate("x").reasons["planner"] == "the runs cannot tell yet; at first judged by MMLU (100%)"
    assert "not identifiable: role planner (never varied)" in report.verdicts
    assert "not identifiable: role planner" in str(report)
    told = [one for one in report.effects if one.role == "planner"]
    assert all(one.logit is None and one.low is None and one.high is None for one in told)
    assert {one.verdict for one in told} == {"not identifiable"}
    assert {one.verdict for one in report.effects if one.role == "solver"} == {"ok"}


def test_roles_that_always_vary_together_are_not_told_apart(team, cards, runs_of):
    runs = [replace(run, models={**run.models, "solver": run.models["planner"]}) for run in runs_of(team, 400, lambda m: 0.5)]
    report = RoleAllocator(team, cards).fit(runs)
    assert set(report.unidentifiable) == {"planner", "solver"}


def test_few_runs_and_runs_that_nobody_drew_are_said(team, cards, runs_of):
    runs = [replace(run, propensity=None) for run in runs_of(team, 12, lambda models: 0.5)]
    report = RoleAllocator(team, cards).fit(runs)
    assert report.drawn == 0
    assert any(verdict.startswith("too few runs: ") for verdict in report.verdicts)
    assert any("no lot drew the models" in verdict for verdict in report.verdicts)
    assert not report.enough


def test_pairs_that_the_runs_are_too_few_for_are_said_and_left(cards, runs_of):
    team = Team(roles=[Role(name=name) for name in "abcdef"])
    runs = runs_of(team, 110, lambda m: 0.98 if m["a"] == m["b"] else 0.02)
    report = RoleAllocator(team, cards).fit(runs)
    assert report.by == "sum"
    assert report.unpaired == "110 runs are too few for the 60 effects of pairs"
    assert any("do not add up" in one and one.endswith(f"by sums all the same: {report.unpaired}") for one in report.verdicts)
    report = RoleAllocator(team, cards).fit(runs_of(team, 600, lambda m: 0.98 if m["a"] == m["b"] else 0.02))
    assert (report.by, report.unpaired) == ("pairs", "")
    assert any("do not add up" in one and one.endswith("other roles' models") for one in report.verdicts)


def test_runs_that_tell_nothing_are_counted_with_the_reason(team, cards, runs_of):
    runs = runs_of(team, 50, lambda models: 0.5)
    odd = [
        replace(runs[0], id="a", success=None),
        replace(runs[0], id="b", mode="war"),
        replace(runs[0], id="c", models={"planner": "gone", "solver": "small"}),
        runs[0],
    ]
    report = RoleAllocator(team, cards).fit([*runs, *odd])
    assert report.runs == 50
    assert report.left_out == {
        "success unknown": 1,
        "unknown mode": 1,
        "unknown model, or a role left out that is not optional": 1,
        "recorded again": 1,
    }


def test_before_any_run_the_report_says_so(team, cards):
    report = RoleAllocator(team, cards).report()
    assert report.by == "cards"
    assert report.verdicts == ("no runs yet: allocations go by the models' cards",)


def test_kinds_of_tasks_get_models_of_their_own(cards, runs_of):
    team = Team(roles=[Role(name="solver")])
    runs = []
    for kind, good in (("code", "small"), ("law", "middle")):
        runs += [
            replace(run, query=replace(run.query, task=kind))
            for run in runs_of(team, 300, lambda m, good=good: 0.9 if m["solver"] == good else 0.2, seed=len(kind))
        ]
    allocator = RoleAllocator(team, cards, runs=runs)
    assert allocator.report().kinds == ("code", "law")
    assert allocator.allocate(Query(text="x", task="code")).models == {"solver": "small"}
    assert allocator.allocate(Query(text="x", task="law")).models == {"solver": "middle"}


@pytest.mark.parametrize("task", ["plain words", Query(text="x", task="cod"), Query(text="")])
def test_a_task_of_no_known_kind_is_of_all_kinds_as_often_as_they_were_run(task, cards, runs_of):
    team, runs = Team(roles=[Role(name="planner"), Role(name="solver")]), []
    for kind, n, good in (("code", 200, 0.6), ("law", 100, 0.3)):
        drawn = runs_of(team, n, lambda m, good=good: good + 0.3 * (m["solver"] == "middle"), seed=len(kind))
        runs += [replace(run, query=replace(run.query, task=kind)) for run in drawn]
    allocator = RoleAllocator(team, cards, runs=runs)
    one = allocator.allocate(task)
    assert one.models["solver"] == "middle"
    low, high = one.quality_interval
    assert low < 2 / 3 * 0.9 + 1 / 3 * 0.6 < high
    assert high - low < 0.4  # of a kind of which nothing is known it would be nearly 1
    known = allocator.allocate(Query(text="x", task="code"))
    assert "of all kinds, as the task is of none that is known" in one.reasons["solver"]
    assert "of all kinds" not in known.reasons["solver"]
    assert known.expected_quality > one.expected_quality > allocator.allocate(Query(text="x", task="law")).expected_quality


def test_recorded_runs_are_learned_from(team, cards, runs_of):
    allocator = RoleAllocator(team, cards)
    for run in runs_of(team, 30, lambda models: 0.5):
        allocator.record(run)
    assert len(allocator.runs) == 30
    assert allocator.runs[0].query.embedding is not None  # by which tasks are told apart where a log keeps no words
    assert allocator.fit().runs == 30


def test_plans_to_explore_keep_to_what_roles_may_have(cards):
    team = Team(roles=[Role(name="a", model="small"), Role(name="b", allow={"small", "large"})])
    plan = RoleAllocator(team, cards).exploration_plan(10)
    assert {trial.models["a"] for trial in plan} == {"small"}
    assert Counter(trial.models["b"] for trial in plan) == {"small": 5, "large": 5}


def test_held_out_runs_judge_it(cards, runs_of):
    team = Team(roles=[Role(name="planner"), Role(name="solver")])

    def chance(models):
        return 0.2 + 0.35 * (models["planner"] == "small") + 0.35 * (models["solver"] == "middle")

    def drawn(n, seed):
        return [replace(run, propensity=1 / 9) for run in runs_of(team, n, chance, seed)]

    report = RoleAllocator(team, cards, runs=drawn(600, 1)).evaluate(drawn(600, 2), resamples=200)
    assert str(report)


@pytest.mark.parametrize("name", ["ridge", "kind_ridge"])
@pytest.mark.parametrize("wrong", [0.0, 1e-9, -1.0, math.nan, math.inf])
def test_a_ridge_holds(name, wrong):
    with pytest.raises(ConfigError, match=f"{name}=.* must be 1e-06 or more, and finite"):
        RoleAllocator(Team(roles=[Role(name="solver")]), [ModelCard(id="small")], **{name: wrong})
