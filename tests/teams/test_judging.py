"""Allocators judged by runs that they did not make: closed forms, worlds whose truth is known, and logs that cannot tell."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from agentroute.errors import ConfigError, DataError
from agentroute.teams import NONE, Allocation, Mode, Role, RoleUsage, Team, TeamRun
from agentroute.teams._designs import exploration_plan
from agentroute.teams._judging import evaluate, judge
from agentroute.teams._observing import observed, usable
from agentroute.teams._offpolicy import Rows, draws, estimate, figure
from agentroute.teams._references import References
from agentroute.types import Query

MODELS = ("s", "m", "l")
TEAM = Team(roles=[Role(name="planner"), Role(name="solver"), Role(name="critic", optional=True)])
EFFECT = np.array([[0.2, 0.0, -0.2, 0.0], [0.0, 1.0, 2.0, 0.0], [-0.6, 0.1, 0.3, 0.0]])
USD = np.array([1.0, 3.0, 9.0, 0.0])
BEST = {"planner": "s", "solver": "l", "critic": "l"}
EVERYWHERE = np.ones((3, 4), bool)
EVERYWHERE[:2, 3] = False


def columns_of(models):
    return [[*MODELS, NONE].index(models.get(role.name, NONE)) for role in TEAM.roles]


def chance(models):
    return 1.0 / (1.0 + math.exp(1.0 - EFFECT[range(3), columns_of(models)].sum()))


def usd(models):
    return float(USD[columns_of(models)].sum())


def logged(n, seed=0, *, tasks=None, propensity=True):
    """Runs whose models were drawn by lot."""
    rng = np.random.default_rng(seed)
    runs = []
    for number, row in enumerate(np.column_stack([rng.integers(0, 3, (n, 2)), rng.integers(0, 4, n)]).tolist()):
        models = {role.name: (*MODELS, NONE)[column] for role, column in zip(TEAM.roles, row, strict=True)}
        runs.append(
            TeamRun(
                query=Query(text=f"task {number % (tasks or n)}"),
                models=models,
                success=float(rng.random() < chance(models)),
                cost=usd(models) * rng.lognormal(-0.02, 0.2),
                propensity=1 / 36 if propensity else None,
            )
        )
    return runs


def always(models, mode="chain"):
    return lambda _: lambda queries: [(models, mode)] * len(queries)


# --- the estimators ---


def rows(propensity, seen, expected, chances=None, resamples=50):
    n = len(propensity)
    return Rows(
        propensity=np.asarray(propensity, float),
        chances=chances,
        seen=np.asarray(seen, float),
        expected=np.asarray(expected, float),
        draws=draws(np.arange(n), resamples, 0),
    )


def test_the_estimates_are_those_of_the_books():
    rng = np.random.default_rng(0)
    n = 200
    propensity = rng.choice([0.3, 0.7], n)
    matched = rng.random(n) < propensity
    seen = np.stack([rng.random(n), rng.lognormal(size=n)], axis=1)
    model, policy = rng.random((n, 2)), rng.random((n, 2))
    found, values = estimate("p", matched[:, None], policy, rows(propensity, seen, model))
    weight = matched / propensity
    assert found.estimates["ips"].value == pytest.approx(np.mean(weight * seen[:, 0]))
    assert found.estimates["snips"].value == pytest.approx(np.sum(weight * seen[:, 0]) / weight.sum())
    assert found.estimates["dr"].value == pytest.approx(np.mean(policy[:, 0] + weight * (seen[:, 0] - model[:, 0])))
    assert found.cost.value == pytest.approx(np.mean(policy[:, 1] + weight * (seen[:, 1] - model[:, 1])))
    assert values["dr"].mean(axis=0) == pytest.approx([found.success.value, found.cost.value])
    assert found.matched == matched.sum()
    assert found.effective == pytest.approx(weight.sum() ** 2 / (weight**2).sum())
    assert found.expected == pytest.approx(policy[:, 0].mean())
    assert (found.by, found.verdict) == ("dr", "ok")
    assert found.success.low < found.success.value < found.success.high


def full_factorial(chance_of, repeat=30):
    """Every assignment of two roles with three models equally often: sums over it are expectations."""
    cells = np.array(list(itertools.product(range(3), repeat=2)) * repeat)
    success = np.array([chance_of(*cell) for cell in cells])
    return cells, np.stack([success, np.ones(len(cells))], axis=1)


@pytest.mark.parametrize("wrong", [0.0, 0.3])
def test_doubly_robust_estimates_are_right_whatever_the_model_and_sums_where_what_it_misses_is_a_sum(wrong):
    table = np.array([[0.1, 0.2, 0.9], [0.5, 0.3, 0.4], [0.2, 0.8, 0.6]])  # no sum at all
    cells, seen = full_factorial(lambda a, b: table[a, b])
    n = len(cells)
    model = np.column_stack([np.full(n, 0.4) + wrong * cells[:, 0], np.ones(n)])
    policy = np.column_stack([np.full(n, 0.4 + 2 * wrong), np.ones(n)])
    chances = np.array([1 / 3, 1 / 3, 1.0])
    matches = np.column_stack([cells[:, 0] == 2, cells[:, 1] == 1, np.ones(n, bool)])
    found, _ = estimate("p", matches, policy, rows(np.full(n, 1 / 9), seen, model, chances))
    assert found.estimates["dr"].value == pytest.approx(0.8)
    additive = table.mean(axis=1)[2] + table.mean(axis=0)[1] - table.mean()
    assert found.estimates["sum"].value == pytest.approx(additive)
    # Where success is a sum of what the roles add, so is the answer, from far fewer runs of the very assignment.
    cells, seen = full_factorial(lambda a, b: 0.1 + 0.2 * a + 0.1 * b)
    found, _ = estimate("p", matches, policy, rows(np.full(n, 1 / 9), seen, model, chances))
    assert found.estimates["sum"].value == pytest.approx(found.estimates["dr"].value)
    assert found.estimates["sum"].value == pytest.approx(0.6)


def test_a_log_that_could_only_go_as_it_went_says_nothing_of_other_ways():
    n = 100
    matched = np.arange(n) < 90
    found, values = estimate("p", matched[:, None], np.ones((n, 2)), rows(np.ones(n), np.ones((n, 2)), np.ones((n, 2))))
    assert (found.success, found.cost, found.by, found.verdict) == (None, None, None, "no overlap")
    assert found.estimates == {}
    assert values == {}
    # The policy that made the log can be judged by it.
    found, _ = estimate("p", np.ones((n, 1), bool), np.ones((n, 2)), rows(np.ones(n), np.ones((n, 2)), np.zeros((n, 2))))
    assert (found.success.value, found.verdict) == (1.0, "ok")


def test_propensities_that_cannot_be_right_give_no_number():
    # Said to be drawn with one half, but nine of ten match: weights are 1.8 on average.
    n = 200
    matched = np.arange(n) % 10 > 0
    found, _ = estimate("p", matched[:, None], np.ones((n, 2)), rows(np.full(n, 0.5), np.ones((n, 2)), np.ones((n, 2))))
    assert (found.success, found.verdict) == (None, "no overlap")


@pytest.mark.parametrize(("matches", "verdict"), [(0, "no overlap"), (19, "too few matches"), (20, "ok")])
def test_few_matches_give_no_number(matches, verdict):
    n = 200
    matched = np.arange(n) < matches
    found, _ = estimate("p", matched[:, None], np.ones((n, 2)), rows(np.full(n, 0.1), np.ones((n, 2)), np.ones((n, 2))))
    assert found.verdict == verdict
    assert (found.success is not None) is (verdict == "ok")


def test_a_figure_is_the_mean_of_what_is_known():
    drawn = draws(np.arange(4), 200, 0)
    assert figure(np.full(4, math.nan), drawn) is None
    found = figure(np.array([1.0, math.nan, 3.0, 2.0]), drawn)
    assert found.value == 2.0
    assert 1.0 <= found.low < 2.0 < found.high <= 3.0
    assert str(found).startswith("2 (")
    assert figure(np.array([1.0, 2.0]), draws(np.arange(2), 50, 0), top=1.0).value == 1.0


def test_resamples_draw_tasks_whole():
    drawn = draws(np.array([0, 0, 1, 2, 2, 2]), 500, 0)
    assert drawn.shape == (500, 6)
    assert (drawn[:, 0] == drawn[:, 1]).all()
    assert (drawn[:, 3] == drawn[:, 5]).all()
    assert (drawn[:, [0, 2, 3]].sum(axis=1) == 3).all()


# --- the whole judgement ---


def test_intervals_hold_the_truth():
    held, errors = {"dr": [], "sum": []}, {"dr": [], "sum": []}
    for seed in range(20):
        found = judge(TEAM, MODELS, logged(1200, seed), always(BEST), resamples=200).policy("allocator")
        for by, one in found.estimates.items():
            if by in held:
                held[by].append(one.low <= chance(BEST) <= one.high)
                errors[by].append(one.value - chance(BEST))
    for by in ("dr", "sum"):
        assert len(held[by]) == 20
        assert np.mean(held[by]) >= 0.8
        assert abs(np.mean(errors[by])) < 3 * np.std(errors[by]) / math.sqrt(20) + 0.01


def test_an_allocator_is_set_against_the_log_one_model_and_one_map():
    runs = logged(1500)
    report = judge(TEAM, MODELS, runs, always(BEST), others={"small": ({"planner": "s", "solver": "s"}, "chain")})
    assert [one.name for one in report.policies] == ["allocator", "as logged", "one model", "one map", "small"]
    assert (report.runs, report.tasks, report.thin, report.few) == (1500, 1500, 0.0, 10)
    log = report.policy("as logged")
    assert log.success.value == pytest.approx(np.mean([run.success for run in runs]))
    assert log.cost.value == pytest.approx(np.mean([run.cost for run in runs]))
    for name, models in (
        ("allocator", BEST),
        ("one model", dict.fromkeys(BEST, "l")),
        ("small", {"planner": "s", "solver": "s"}),
    ):
        one = report.policy(name)
        assert one.success.low <= chance(models) <= one.success.high
        assert one.cost.value == pytest.approx(usd(models), rel=0.15)
        assert one.expected == pytest.approx(chance(models), abs=0.1)
    gain = report.gains["small"]
    assert gain.low <= chance(BEST) - chance({"planner": "s", "solver": "s"}) <= gain.high
    assert gain.low > 0.0
    assert report.savings["small"].high < 0.0
    assert report.gains["as logged"].value == pytest.approx(report.policy("allocator").success.value - log.success.value)
    text = str(report)
    assert all(word in text for word in ("1500 runs", "as logged", "one map", "allocator against small"))
    with pytest.raises(ConfigError, match="no policy 'other'"):
        report.policy("other")


def test_the_policy_is_never_judged_by_tasks_that_it_learned_from():
    seen = []

    def learn(train):
        known = {run.query.text for run in train}

        def decide(queries):
            assert not known & {query.text for query in queries}
            seen.extend(query.text for query in queries)
            return [(BEST, "chain")] * len(queries)

        return decide

    report = judge(TEAM, MODELS, logged(300, tasks=58), learn, resamples=50)
    assert report.tasks == 58
    assert len(seen) == 300


def test_intervals_are_wider_where_runs_are_of_few_tasks():
    # The same runs of the same tasks: each task's runs succeed or fail together.
    plan = exploration_plan(TEAM, MODELS, 400)
    rng = np.random.default_rng(0)
    luck = rng.random(20) < 0.5
    runs = [
        TeamRun(
            query=Query(text=f"task {number % 20}"),
            models=trial.models,
            mode=trial.mode,
            success=float(luck[number % 20]),
            propensity=trial.propensity,
        )
        for number, trial in enumerate(plan)
    ]
    log = judge(TEAM, MODELS, runs, always(BEST), resamples=400).policy("as logged")
    assert log.success.high - log.success.low > 0.3  # 400 independent coins: 0.1
    assert log.cost is None


def test_logs_by_habit_say_no_overlap_and_never_a_number():
    runs = [
        TeamRun(query=Query(text=str(number)), models={"planner": "s", "solver": "s"}, success=0.5, propensity=1.0)
        for number in range(100)
    ]
    report = judge(TEAM, MODELS, runs, always(BEST), resamples=50)
    found = report.policy("allocator")
    assert (found.success, found.cost, found.verdict, found.matched) == (None, None, "no overlap", 0)
    assert "as logged" not in report.gains
    assert "no overlap" in str(report)
    # 3 of 10 cells of the team were tried.
    assert report.thin == pytest.approx(0.7)


def test_runs_that_say_nothing_are_counted_and_left_out():
    good = logged(200)
    bad = [
        TeamRun(query=Query(text="x"), models=BEST, success=None, propensity=0.1),
        TeamRun(query=Query(text="x"), models=BEST, mode="debate", success=1.0, propensity=0.1),
        TeamRun(query=Query(text="x"), models={**BEST, "solver": "other"}, success=1.0, propensity=0.1),
        TeamRun(query=Query(text="x"), models={"planner": "s", "solver": NONE}, success=1.0, propensity=0.1),
        TeamRun(query=Query(text="x"), models=BEST, success=1.0),
        good[0],
    ]
    lost = {"roles": {"planner": RoleUsage(error="TimeoutError")}, "metadata": {"error": "TimeoutError"}}
    bad += [TeamRun(query=Query(text="x"), models=BEST, propensity=chance, **lost) for chance in (1 / 36, None, None)]
    report = judge(TEAM, MODELS, [*good, *bad], always(BEST), resamples=50)
    assert report.runs == 201
    assert report.broken == 1  # of those that it is judged by
    assert report.left_out == {
        "success unknown": 1,
        "unknown mode": 1,
        "unknown model, or a role left out that is not optional": 2,
        "recorded again": 1,
        "propensity unknown": 3,
    }


def test_logs_that_nothing_can_be_judged_by_are_refused():
    with pytest.raises(DataError, match=r"given were no runs\."):
        judge(TEAM, MODELS, [], always(BEST))
    with pytest.raises(DataError, match=r"given were 50 of known success, without a propensity\..*of a fixed team have no such"):
        judge(TEAM, MODELS, logged(50, propensity=False), always(BEST))
    with pytest.raises(DataError, match="4 tasks"):
        judge(TEAM, MODELS, logged(50, tasks=4), always(BEST))


@pytest.mark.parametrize("given", [({"planner": "s", "solver": "xl"}, "chain"), ({"boss": "s"}, "chain"), (BEST, "debate")])
def test_what_the_team_does_not_know_cannot_be_judged(given):
    with pytest.raises(ConfigError, match="does not know"):
        judge(TEAM, MODELS, logged(60), lambda _: lambda queries: [given] * len(queries))


class Allocator:
    """One that gives what it can pay for."""

    team, models = TEAM, MODELS

    def allocate(self, task, *, budget=None):
        models = BEST if budget is None else {"planner": "s", "solver": "m"}
        return Allocation(
            models=models, mode="chain", expected_quality=0.5, quality_interval=(0.0, 1.0), expected_cost=1.0, cost_upper=1.0
        )


def test_an_allocator_is_judged_as_it_is():
    free = evaluate(Allocator(), logged(600), resamples=50).policy("allocator")
    tight = evaluate(Allocator(), logged(600), budget=0.1, resamples=50).policy("allocator")
    assert free.cost.value == pytest.approx(usd(BEST), rel=0.2)
    assert tight.cost.value == pytest.approx(4.0, rel=0.25)


# --- its rivals ---


def test_the_rivals_are_the_best_of_their_kind():
    known = References(TEAM, MODELS, logged(3000), EVERYWHERE)
    columns, mode = known.one_model(0.0)
    assert (columns.tolist(), mode) == ([2, 2, 2], 0)
    assert known.one_map(0.0)[0].tolist() == [0, 2, 2]
    # A USD costs more chance than the large model is worth anywhere.
    assert known.one_model(1.0)[0].tolist() == [0, 0, 0]
    assert known.one_map(1.0)[0].tolist() == [0, 0, 3]
    success, cost = known.expected(np.array([[0, 2, 2]]), np.array([0]), np.zeros((1, 0)))
    assert success[0] == pytest.approx(chance(BEST), abs=0.05)
    assert cost[0] == pytest.approx(usd(BEST), rel=0.05)


def test_one_model_for_all_leaves_roles_that_may_not_have_it_their_own_best():
    allowed = EVERYWHERE.copy()
    allowed[0] = [False, True, False, False]
    assert References(TEAM, MODELS, logged(3000), allowed).one_model(0.0)[0].tolist() == [1, 2, 2]


def test_the_best_mode_is_found_too():
    team = Team(roles=[Role(name="a")], modes=[Mode(name="bad"), Mode(name="good")])
    runs = [
        TeamRun(
            query=Query(text=str(n)), models=trial.models, mode=trial.mode, success=float(trial.mode == "good"), propensity=1 / 6
        )
        for n, trial in enumerate(exploration_plan(team, MODELS, 60))
    ]
    known = References(team, MODELS, runs, np.array([[True, True, True, False]]))
    assert known.one_model(0.0)[1] == 1
    assert known.one_map(0.0)[1] == 1


# --- runs as arrays ---


def test_runs_become_arrays():
    from agentroute.teams import RoleUsage

    runs = [
        TeamRun(query=Query(text="a"), models=BEST, success=1.0, roles={"solver": RoleUsage(score=0.7)}, id="1"),
        TeamRun(
            query=Query(text="b"),
            models={"planner": "m", "solver": "s"},
            success=0.25,
            roles={"critic": RoleUsage(score=0.1)},
            id="2",
        ),
        TeamRun(query=Query(text="b"), models={"planner": "m", "solver": "s"}, success=0.5, id="2"),
    ]
    kept, left = usable(TEAM, MODELS, runs)
    assert left == {"recorded again": 1}
    assert [run.success for run in kept] == [1.0, 0.5]
    seen = observed(TEAM, MODELS, runs[:2])
    assert seen.columns.tolist() == [[0, 2, 2], [1, 0, 3]]
    assert seen.modes.tolist() == [0, 0]
    assert seen.success.tolist() == [1.0, 0.25]
    assert seen.kinds.shape == (2, 0)
    # A role that was left out has no score of its own, whatever is logged.
    np.testing.assert_array_equal(seen.scores, [[math.nan, 0.7, math.nan], [math.nan] * 3])
    assert observed(TEAM, MODELS, []).columns.shape == (0, 3)
    assert observed(TEAM, MODELS, runs[1:]).scores is None
