import math
from dataclasses import replace

import numpy as np
import pytest

from agentroute.errors import ConfigError, DataError, UnknownModelError
from agentroute.evaluation import ByModel, ByQuery, ByTask, KFold, evaluate
from agentroute.outcomes import OutcomeTable
from agentroute.policies import BudgetPolicy, UtilityPolicy
from agentroute.router import Router
from agentroute.testing import HashEmbedder, planted_table
from agentroute.types import Query

LIGHT = ("best single",)


def fitted(table):
    return Router(table.models, embedder=HashEmbedder()).fit(table)


def test_rows_are_the_realised_means():
    train, test = planted_table(400), planted_table(300, seed=2)
    router = fitted(train)
    policies = {"best": UtilityPolicy(), "thrifty": UtilityPolicy(willingness_to_pay=0.01)}
    found = evaluate(router, test, policies=policies, reference=train)
    baselines = ["random", "cheapest", "strongest", "best single", "task lookup", "plain kNN", "logistic", "MLP"]
    assert [row.name for row in found.rows] == [*baselines, "best", "thrifty", "oracle"]
    assert [row.kind for row in found.rows] == ["baseline"] * 8 + ["routed"] * 2 + ["bound"]
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


def test_what_cannot_be_compared_is_refused():
    table = planted_table(100)
    router = fitted(table)
    with pytest.raises(DataError, match="'m2'"):
        evaluate(router, table.select(["m0", "m1"]))
    with pytest.raises(DataError, match="every model"):
        evaluate(router, replace(table, quality=np.where(np.arange(3) == 2, np.nan, table.quality)))
    with pytest.raises(DataError, match="reference"):
        evaluate(router, table, reference=replace(table, quality=np.full((100, 3), np.nan)))
    for taken in ("oracle", "MLP", "strongest", "luck floor"):
        with pytest.raises(ConfigError, match=taken):
            evaluate(router, table, policies={taken: UtilityPolicy()})
    with pytest.raises(ConfigError, match="no baseline 'magic'"):
        evaluate(router, table, baselines=["magic"])
    with pytest.raises(ConfigError, match="not both"):
        evaluate(router, table, split=ByQuery(), reference=table)
    with pytest.raises(ConfigError, match="chooses no models"):
        evaluate("router", table)
    with pytest.raises(ConfigError, match="leave policies out"):
        evaluate(lambda queries: ["m0"] * len(queries), table, policies={"best": UtilityPolicy()})
    with pytest.raises(KeyError, match="routed"):
        evaluate(router, table, baselines=LIGHT)["rooted"]


def hand(quality, cost=None, tasks=None, **more):
    """A small table of which everything can be worked out by hand."""
    values = np.array(quality, float)
    queries = tuple(Query(text=f"q {i}", id=f"q{i}", task=None if tasks is None else tasks[i]) for i in range(len(values)))
    models = tuple("abcdefg"[: values.shape[1]])
    cost = np.full(values.shape, np.nan) if cost is None else np.broadcast_to(np.array(cost, float), values.shape)
    return OutcomeTable(queries=queries, models=models, quality=values, cost=cost, **more)


def always(model):
    return lambda queries: [model] * len(queries)


def test_baselines_and_bounds_by_hand():
    table = hand([[1, 0, 0], [0, 1, 0], [0, 1, 1], [1, 1, 0]], [1.0, 2.0, 4.0])
    train = hand([[1, 0, 0], [1, 0, 0], [1, 1, 0]], [1.0, 2.0, 4.0])
    found = evaluate(always("c"), table, reference=train, baselines=("random", "cheapest", "strongest", "best single"))
    values = {row.name: (row.quality.value, row.cost.value, row.gain.value, row.gap.value) for row in found.rows}
    assert values == {
        "random": (pytest.approx(0.5), pytest.approx(7 / 3), pytest.approx(0.0), pytest.approx(0.0)),
        "cheapest": (0.5, 1.0, 0.0, 0.0),
        "strongest": (0.75, 2.0, 0.25, 0.5),  # b, which the training part could not tell
        "best single": (0.5, 1.0, 0.0, 0.0),
        "routed": (0.25, 4.0, -0.25, -0.5),
        "oracle": (1.0, 1.5, 0.5, 1.0),
    }
    assert found["random"].shares == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    assert found["oracle"].shares == {"a": 0.5, "b": 0.5}
    assert (found.best_single, found.cheapest) == ("a", "a")


def test_the_lookup_takes_each_tasks_best_model_and_trusts_small_tasks_little():
    tasks = ["x"] * 40 + ["y"] * 40 + ["z"]
    quality = [[1, 0]] * 36 + [[0, 1]] * 4 + [[0, 1]] * 16 + [[1, 0]] * 12 + [[1, 1]] * 12 + [[0, 1]]
    train = hand(quality, tasks=tasks)
    test = hand([[1, 0], [0, 1], [1, 0], [1, 0], [1, 0]], tasks=["x", "y", "z", "new", None])
    found = evaluate(always("b"), test, reference=train, baselines=("best single", "task lookup"))
    # x to a, y to b; one lucky answer does not make b the model of z; the rest goes to the best single model, a.
    assert found.best_single == "a"
    assert found["task lookup"].shares == {"a": 0.8, "b": 0.2}
    assert found["task lookup"].quality.value == 1.0


def test_plain_knn_averages_five_neighbours():
    train, test = planted_table(300), planted_table(50, seed=4)
    found = evaluate(always("m0"), test, reference=train, baselines=("plain kNN",))
    near = np.argsort(-(test.embeddings @ train.embeddings.T), axis=1, kind="stable")[:, :5]
    expected = train.quality[near].mean(axis=1).argmax(axis=1)
    assert found["plain kNN"].quality.value == pytest.approx(test.quality[np.arange(50), expected].mean(), abs=0.02)
    assert found["plain kNN"].gain.low > 0.2


def test_what_cannot_be_had_is_noted_and_left_out():
    table = hand([[1, 0], [0, 1]])
    found = evaluate(always("a"), table)
    assert [row.name for row in found.rows] == ["random", "strongest", "best single", "routed", "oracle"]
    assert "without cheapest: costs are unknown" in found.notes
    assert any(note.startswith("without task lookup: nothing to learn from") for note in found.notes)
    labelled = evaluate(always("a"), table, reference=table, baselines=("task lookup",))
    assert labelled.notes == ("without task lookup: no query has a task or another label",)
    blank = replace(table, queries=tuple(replace(query, text="") for query in table.queries), withheld=np.ones(2, bool))
    unseen = evaluate(always("a"), blank, reference=blank, baselines=("plain kNN", "MLP"))
    assert unseen.notes == ("without plain kNN: the queries have no vectors", "without MLP: the queries have no vectors")
    assert math.isnan(found["oracle"].cost.value)


def test_the_stable_oracle_asks_for_four_of_five():
    quality, samples = [[0.8, 0.2], [0.6, 0.6], [1.0, 0.0], [0.0, 1.0]], [[5, 5], [10, 10], [5, 5], [5, 1]]
    found = evaluate(always("a"), hand(quality, samples=np.array(samples, float)), baselines=LIGHT)
    assert found["stable oracle"].quality.value == pytest.approx(2 / 3)  # the last one was sampled too seldom to say
    assert found["stable oracle"].kind == "bound"
    assert not found["stable oracle"].shares
    assert "stable oracle" not in evaluate(always("a"), hand(quality), baselines=LIGHT)


def test_the_luck_floor_is_what_guessers_hit():
    table = hand([[1, 0, 0]] * 4, tasks=["four", "four", "two", "open"])
    found = evaluate(always("a"), table, options={"four": 4, "two": 2}, baselines=LIGHT)
    assert found["luck floor"].quality.value == pytest.approx(np.mean([1 - 0.75**3, 1 - 0.75**3, 1 - 0.5**3]))
    assert evaluate(always("a"), table, options=4, baselines=LIGHT)["luck floor"].quality.value == pytest.approx(1 - 0.75**3)
    assert evaluate(always("a"), table, options=[4, np.nan, np.nan, 4], baselines=LIGHT)["luck floor"].quality.value == (
        pytest.approx(1 - 0.75**3)
    )
    with pytest.raises(DataError, match="two options or more"):
        evaluate(always("a"), table, options=1)
    with pytest.raises(DataError, match="shape"):
        evaluate(always("a"), table, options=[4, 4])


def test_a_split_learns_anew_and_leaves_the_router_as_it_is():
    table = planted_table(300)
    router = Router(table.models, embedder=HashEmbedder())
    found = evaluate(router, table, split=KFold(count=3), baselines=LIGHT)
    assert not router.fitted
    assert found.queries == 300
    assert found.coverage == 1.0
    assert [fold.name for fold in found.folds] == ["part 1", "part 2", "part 3"]
    assert sum(fold.queries for fold in found.folds) == 300
    assert found["routed"].gain.low > 0.2
    by_hand = []
    for fold in KFold(count=3).folds(table):
        alone = evaluate(router.clone().fit(fold.train), fold.test, reference=fold.train, baselines=LIGHT)
        by_hand.append(alone["routed"].quality.value * len(fold.test))
    assert found["routed"].quality.value == pytest.approx(sum(by_hand) / 300)


def test_held_out_answers_are_not_learned_from():
    """Scores that no text foretells: who sees the test answers finds the oracle, who does not finds nothing."""
    rng = np.random.default_rng(0)
    table = planted_table(400)
    noise = replace(table, quality=(rng.random((400, 3)) < 0.5).astype(float))
    router = Router(table.models, embedder=HashEmbedder())
    for split in (KFold(), ByQuery(test=0.5), ByQuery(test=0.3, repeats=3)):
        found = evaluate(router, noise, split=split)
        for row in found.rows:
            if row.kind != "bound":
                assert row.quality.value < 0.62, row.name
        assert found["oracle"].quality.value > 0.8


def test_a_policy_is_judged_over_the_default_router():
    table = planted_table(300)
    own = evaluate(UtilityPolicy(willingness_to_pay=0.01), table, split=ByQuery(), baselines=LIGHT)
    router = Router(table.models, policy=UtilityPolicy(willingness_to_pay=0.01))
    assert own == evaluate(router, table, split=ByQuery(), baselines=LIGHT)


def test_a_budget_is_calibrated_on_each_training_part():
    table = planted_table(400)
    router = Router(table.models, embedder=HashEmbedder())
    policies = {"cheap": BudgetPolicy(mean_cost=0.003), "free": UtilityPolicy()}
    found = evaluate(router, table, split=ByQuery(), policies=policies, baselines=LIGHT)
    assert found["cheap"].cost.value < 0.0035
    assert found["cheap"].cost.value < found["free"].cost.value
    assert not hasattr(policies["cheap"], "cost_weight_")


def test_a_function_is_judged_by_what_it_names():
    table = planted_table(60)
    found = evaluate(lambda queries: [f"m{query.task[-1]}" for query in queries], table, baselines=LIGHT)
    assert found["routed"].quality.value == pytest.approx(
        np.mean([table.quality[i, int(query.task[-1])] for i, query in enumerate(table.queries)])
    )
    with pytest.raises(DataError, match="59 models for 60"):
        evaluate(lambda queries: ["m0"] * 59, table)
    with pytest.raises(UnknownModelError, match="'m9'"):
        evaluate(always("m9"), table)


def test_a_new_model_with_a_few_probes_is_worth_something():
    table = planted_table(900)
    router = Router(table.models, embedder=HashEmbedder())
    found = evaluate(router, table, split=ByModel(probes=120), baselines=LIGHT)
    without, joined, whole = (
        found[name].quality.value for name in ("routed, without the new model", "routed", "routed, with all its outcomes")
    )
    assert without < joined - 0.1
    assert joined <= whole + 0.02
    assert [fold.name for fold in found.folds] == ["model m0", "model m1", "model m2"]
    for fold in found.folds:
        assert fold.gains["routed"].value > fold.gains["routed, without the new model"].value
    with pytest.raises(ConfigError, match="one policy"):
        evaluate(router, table, split=ByModel(), policies={"best": UtilityPolicy()})
    with pytest.raises(ConfigError, match="one policy"):
        evaluate(always("m0"), table, split=ByModel())


def test_leaving_a_task_out_takes_its_gain_away():
    table = planted_table(600)
    router = Router(table.models, embedder=HashEmbedder())
    inside, outside = (
        evaluate(router, table, split=split, baselines=("best single", "task lookup")) for split in (ByQuery(), ByTask())
    )
    assert inside["task lookup"].gain.low > 0.2
    assert outside["task lookup"].gain.value < 0.1
    assert {fold.name for fold in outside.folds} == {"task kind0", "task kind1", "task kind2"}


def test_repeated_splits_do_not_pretend_to_more_queries():
    table = planted_table(200)
    once, often = (
        evaluate(always("m1"), table, split=ByQuery(test=0.9, repeats=repeats), baselines=LIGHT)["routed"].quality
        for repeats in (1, 8)
    )
    assert often.high - often.low > 0.8 * (once.high - once.low)


def test_progress_is_told():
    said = []
    evaluate(
        always("m1"),
        planted_table(60),
        split=KFold(count=3),
        baselines=LIGHT,
        progress=lambda what, done: said.append((what, done)),
    )
    assert [what for what, _ in said] == ["part 1", "part 2", "part 3", "intervals"]
    assert [done for _, done in said] == pytest.approx([0, 0.25, 0.5, 0.75])
