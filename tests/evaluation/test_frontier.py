import math
from dataclasses import replace

import numpy as np
import pytest

from agentroute.errors import ConfigError, DataError
from agentroute.evaluation import ByQuery, evaluate, frontier, metrics
from agentroute.evaluation._frontier import exchange_rates
from agentroute.policies import UtilityPolicy
from agentroute.router import Router
from agentroute.testing import HashEmbedder, planted_table

BASELINES = ("best single",)


@pytest.fixture(scope="module")
def judged():
    train, test = planted_table(400), planted_table(300, seed=2)
    router = Router(train.models, embedder=HashEmbedder()).fit(train)
    return router, test, evaluate(router, test, reference=train, baselines=BASELINES)


def test_every_point_is_what_the_policy_at_that_rate_gets(judged):
    router, test, evaluation = judged
    found = frontier(evaluation, resamples=50)
    rates = [point.willingness_to_pay for point in found.points]
    assert rates == sorted(rates)
    assert rates[-1] == math.inf
    at = np.arange(len(test))
    for point in found.points[:: len(found.points) // 4] + found.points[-1:]:
        policy = UtilityPolicy(willingness_to_pay=point.willingness_to_pay)
        picks = np.array([router.pool.index(one.model) for one in router.route_many(test.queries, policy=policy)])
        assert point.quality.value == pytest.approx(test.quality[at, picks].mean())
        assert point.cost.value == pytest.approx(test.cost[at, picks].mean())
        assert point.shares == pytest.approx({test.models[j]: (picks == j).mean() for j in set(picks.tolist())})
        best = test.models.index(evaluation.best_single)
        assert point.saving.value == pytest.approx(1 - test.cost[at, picks].mean() / test.cost[:, best].mean())
        assert point.gain.value == pytest.approx((test.quality[at, picks] - test.quality[:, best]).mean())


def test_the_lead_over_the_mix_is_measured_from_the_hull(judged):
    _, test, evaluation = judged
    found = frontier(evaluation, resamples=50)
    line = metrics.hull(np.stack([test.cost.mean(axis=0), test.quality.mean(axis=0)], axis=1))
    np.testing.assert_allclose(found.hull, line)
    for point in found.points:
        height = np.interp(point.cost.value, line[:, 0], line[:, 1])
        assert point.over_mix.value == pytest.approx(point.quality.value - height)
    low, high = test.cost.mean(axis=0).min(), test.cost.mean(axis=0).max()
    assert found.aiq_singles.value == pytest.approx(float(metrics.aiq(line, low, high)))
    assert found.aiq_gain.value == pytest.approx(found.aiq.value - found.aiq_singles.value)
    assert found.aiq_gain.low > 0  # the planted world rewards routing
    assert [one.on_hull for one in found.singles] == [
        tuple(point) in set(map(tuple, line.tolist()))
        for point in np.stack([test.cost.mean(axis=0), test.quality.mean(axis=0)], axis=1).tolist()
    ]


def test_queries_that_the_router_does_not_know_go_to_its_default(judged):
    router, test, evaluation = judged
    strange = replace(evaluation.replay.estimate, supported=np.zeros(len(test), bool))
    lost = replace(evaluation.replay, estimate=strange)
    for point in frontier(lost, resamples=20).points:
        assert point.shares == {router.default: 1.0}


def test_the_oracle_is_above_every_point(judged):
    found = frontier(judged[2], resamples=20)
    for point in found.points:
        dearer = [quality for cost, quality in found.oracle if cost <= point.cost.value + 1e-12]
        assert not dearer or max(dearer) >= 0
    assert found.oracle[-1][1] == pytest.approx(judged[1].quality.max(axis=1).mean())


def test_unique_wins_are_those_of_one_model_alone(judged):
    _, test, evaluation = judged
    top = test.quality.max(axis=1, keepdims=True)
    alone = (test.quality == top) & ((test.quality == top).sum(axis=1, keepdims=True) == 1)
    for j, single in enumerate(frontier(evaluation, resamples=20).singles):
        assert single.unique_wins.value == pytest.approx(alone[:, j].mean())


def test_rates_lie_where_decisions_change():
    quality, cost = np.array([[0.5, 0.9]] * 3), np.array([[0.001, 0.005]] * 3)
    assert exchange_rates(quality, cost) == [0.005, 0.01, math.inf]  # the change is at .004 / .4
    assert exchange_rates(quality[:, ::-1], cost) == [math.inf]  # the cheaper one is better: nothing to trade
    assert exchange_rates(np.full((3, 2), np.nan), cost) == [math.inf]


def test_queries_of_unknown_cost_are_left_out(judged):
    _, test, evaluation = judged
    cost = np.where(np.arange(300)[:, None] < 100, np.nan, test.cost)
    partly = replace(evaluation.replay, table=replace(test, cost=cost))
    found = frontier(partly, resamples=20)
    assert found.points[-1].quality.value != pytest.approx(frontier(evaluation, resamples=20).points[-1].quality.value)
    with pytest.raises(DataError, match="cost of every model"):
        frontier(replace(evaluation.replay, table=replace(test, cost=np.full(test.cost.shape, np.nan))))


def test_what_expects_nothing_has_no_frontier():
    table = planted_table(60)
    found = evaluate(lambda queries: ["m0"] * len(queries), table, baselines=BASELINES)
    with pytest.raises(ConfigError, match="fitted router"):
        frontier(found)


def test_a_query_of_several_splits_counts_once():
    table = planted_table(120)
    router = Router(table.models, embedder=HashEmbedder())
    found = evaluate(router, table, split=ByQuery(test=0.5, repeats=4), baselines=BASELINES)
    assert found.queries == len({q.key() for q in found.replay.table.queries}) < len(found.replay.table)
    several = frontier(found, resamples=200).points[-1].quality
    apart = frontier(replace(found.replay, groups=np.arange(len(found.replay.table))), resamples=200).points[-1].quality
    assert several.high - several.low > apart.high - apart.low  # four looks at one query are not four queries


def test_the_cost_of_a_quality_is_where_the_hull_reaches_it():
    line = np.array([[1.0, 0.5], [3.0, 0.9], [9.0, 0.95]])
    np.testing.assert_allclose(metrics.cost_at(line, [0.4, 0.5, 0.7, 0.9, 0.925, 0.95, 0.96]), [1, 1, 2, 3, 6, 9, np.nan])
    heights = np.linspace(0.5, 0.95, 50)
    np.testing.assert_allclose(metrics.hull_at(line, metrics.cost_at(line, heights)), heights)
    assert metrics.cost_at([[2.0, 0.7]], 0.7) == 2.0
    with pytest.raises(DataError, match="does not rise"):
        metrics.cost_at([[1.0, 0.5], [2.0, 0.5]], 0.5)
