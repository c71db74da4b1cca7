import math
from dataclasses import replace

import numpy as np
import pytest

from agentroute.errors import ConfigError, DataError
from agentroute.evaluation import bootstrap, evaluate, means
from agentroute.policies import UtilityPolicy
from agentroute.router import Router
from agentroute.testing import HashEmbedder, planted_table


def fitted(table):
    return Router(table.models, embedder=HashEmbedder()).fit(table)


def test_rows_are_the_realised_means():
    train, test = planted_table(400), planted_table(300, seed=2)
    router = fitted(train)
    policies = {"best": UtilityPolicy(), "thrifty": UtilityPolicy(willingness_to_pay=0.01)}
    found = evaluate(router, test, policies=policies, reference=train)
    assert [row.name for row in found.rows] == ["cheapest", "best single", "best", "thrifty", "oracle"]
    assert found.cheapest == "m0"
    at = np.arange(300)
    for name, policy in policies.items():
        picks = [router.pool.index(one.model) for one in router.route_many(test.queries, policy=policy)]
        assert found[name].quality.value == pytest.approx(test.quality[at, picks].mean())
        assert found[name].cost.value == pytest.approx(test.cost[at, picks].mean())
        assert found[name].latency.value == pytest.approx(test.latency[at, picks].mean())
        assert sum(found[name].shares.values()) == pytest.approx(1.0)
    assert found["oracle"].quality.value == pytest.approx(test.quality.max(axis=1).mean())
    best = test.models.index(found.best_single)
    assert found["best single"].quality.value == pytest.approx(test.quality[:, best].mean())
    assert found["best"].gain.low > 0.2
    assert found["best single"].gain.value == 0.0
    assert found["thrifty"].cost.value < found["best"].cost.value


def test_baselines_are_chosen_on_the_reference():
    train, test = planted_table(200), planted_table(200, seed=2)
    flattering = replace(test, quality=np.clip(test.quality + np.array([0.0, 0.0, 0.5]), 0, 1))
    weaker = replace(train, quality=np.clip(train.quality + np.array([0.3, 0.0, 0.0]), 0, 1))
    assert evaluate(fitted(train), flattering, reference=weaker).best_single == "m0"
    assert evaluate(fitted(train), flattering).best_single == "m2"


def test_a_log_without_prompts_is_evaluated_by_its_vectors():
    train, test = planted_table(400), planted_table(300, seed=2)
    blank = replace(test, queries=tuple(replace(query, text="", task=None) for query in test.queries))
    bare = replace(test, queries=tuple(replace(query, task=None) for query in test.queries))
    router = fitted(train)
    assert evaluate(router, blank, reference=train)["routed"] == evaluate(router, bare, reference=train)["routed"]
    assert evaluate(router, blank, reference=train)["routed"].gain.low > 0.2


def test_the_oracle_takes_the_cheaper_of_equal_answers():
    table = planted_table(100)
    tied = replace(table, quality=np.ones_like(table.quality))
    found = evaluate(fitted(table), tied)
    assert found["oracle"].cost.value == pytest.approx(table.cost.min(axis=1).mean())


def test_only_queries_that_all_models_answered_are_replayed():
    train, test = planted_table(400), planted_table(400, seed=2)
    holed = replace(test, quality=np.where(np.random.default_rng(0).random((400, 3)) < 0.4, np.nan, test.quality))
    found = evaluate(fitted(train), holed, reference=train)
    complete = np.isfinite(holed.quality).all(axis=1)
    assert (found.queries, found.coverage) == (complete.sum(), complete.mean())
    assert found.rows == evaluate(fitted(train), test.take(np.flatnonzero(complete)), reference=train).rows
    assert found["oracle"].quality.value >= found["routed"].quality.value


def test_a_log_of_turns_cannot_be_replayed():
    train, test = planted_table(400), planted_table(300, seed=2)
    turns = np.where(np.arange(300)[:, None] % 3 == np.arange(3), test.quality, np.nan)
    with pytest.raises(DataError, match="same questions"):
        evaluate(fitted(train), replace(test, quality=turns), reference=train)


def test_intervals_cover_the_truth():
    covered = 0
    for seed in range(200):
        values = np.random.default_rng(seed).random((80, 1))
        interval = bootstrap(means(values), 80, resamples=400, seed=seed)[0]
        covered += interval.low <= 0.5 <= interval.high
    assert 0.90 <= covered / 200 <= 0.98


def test_an_unobserved_column_is_nan_not_zero():
    interval = bootstrap(means(np.full((10, 1), np.nan)), 10)[0]
    assert math.isnan(interval.value)
    assert math.isnan(interval.low)


def test_what_cannot_be_compared_is_refused():
    table = planted_table(100)
    router = fitted(table)
    with pytest.raises(DataError, match="'m2'"):
        evaluate(router, table.select(["m0", "m1"]))
    with pytest.raises(DataError, match="every model"):
        evaluate(router, replace(table, quality=np.where(np.arange(3) == 2, np.nan, table.quality)))
    with pytest.raises(DataError, match="reference"):
        evaluate(router, table, reference=replace(table, quality=np.full((100, 3), np.nan)))
    with pytest.raises(ConfigError, match="oracle"):
        evaluate(router, table, policies={"oracle": UtilityPolicy()})
