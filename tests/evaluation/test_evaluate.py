import math
from dataclasses import replace

import numpy as np
import pytest

from agentroute.errors import ConfigError, DataError, NotFittedError, UnknownModelError
from agentroute.estimators import MeanEstimator
from agentroute.evaluation import ByModel, ByQuery, ByTask, ByTime, KFold, evaluate, frontier
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
    baselines = ["random", "cheapest", "best single", "task lookup", "plain kNN", "logistic", "MLP"]
    assert [row.name for row in found.rows] == [*baselines, "best", "thrifty", "strongest", "oracle"]
    assert [row.kind for row in found.rows] == ["baseline"] * 7 + ["routed"] * 2 + ["bound"] * 2
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
    with pytest.raises(DataError, match="no score of 'm2'"):
        evaluate(router, replace(table, quality=np.where(np.arange(3) == 2, np.nan, table.quality)))
    with pytest.raises(ConfigError, match="list of names"):
        evaluate(router, table, baselines="random")
    for wrong in (ByQuery, "query"):
        with pytest.raises(ConfigError, match=r"ByQuery\(\)"):
            evaluate(router, table, split=wrong)
    with pytest.raises(ConfigError, match="from_jsonl"):
        evaluate(router, "log.jsonl")
    with pytest.raises(ConfigError, match="at least one"):
        evaluate(router, table, policies={})
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
    assert [row.name for row in found.rows] == ["random", "best single", "routed", "strongest", "oracle"]
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


class Spy:
    """Wraps an estimator and writes down what it was shown."""

    kind, what, uses_embeddings, min_rows = "spy", ("text",), False, 0

    def __init__(self, seen):
        self.seen = seen

    def fit(self, table):
        self.inner = MeanEstimator(min_rows=1).fit(table)
        self.seen.append(("fit", {query.key() for query in table.queries}, table.models))
        return self

    def partial_fit(self, table):
        self.inner = MeanEstimator(min_rows=1).fit(table)
        self.seen.append(("probes", {query.key() for query in table.queries}, table.models))
        return self

    def predict(self, queries):
        return self.inner.predict(queries)

    def cross_predict(self, table, rows):
        return self.inner.cross_predict(table, rows)

    def state(self):
        return self.inner.state()

    @classmethod
    def from_state(cls, config, arrays):
        raise NotImplementedError


@pytest.mark.parametrize("split", [KFold(count=3), ByQuery(repeats=2), ByTask(), ByTime(), ByModel(probes=20)])
def test_no_part_of_a_router_ever_sees_what_it_is_judged_by(split):
    table = replace(planted_table(120), at=1.7e9 + np.arange(120.0))
    seen = []
    policies = None if isinstance(split, ByModel) else {"budget": BudgetPolicy(mean_cost=0.1), "best": UtilityPolicy()}
    evaluate(
        Router(table.models, estimator=Spy(seen), embedder=HashEmbedder()), table, split=split, policies=policies, baselines=LIGHT
    )
    folds = list(split.folds(table))
    per_fold = len(seen) // len(folds)
    assert per_fold * len(folds) == len(seen)
    for number, fold in enumerate(folds):
        held = {query.key() for query in fold.test.queries}
        for what, keys, models in seen[number * per_fold : (number + 1) * per_fold]:
            assert not keys & held
            if what == "probes":
                assert keys == {query.key() for query in fold.probes.queries}
            elif fold.newcomer is not None and what == "fit" and len(models) == 2:
                assert fold.newcomer not in models


def test_a_budget_of_noise_is_not_calibrated_on_what_it_is_judged_by():
    rng = np.random.default_rng(3)
    table = planted_table(400)
    noise = replace(table, quality=(rng.random((400, 3)) < 0.5).astype(float))
    router = Router(table.models, embedder=HashEmbedder())
    found = evaluate(router, noise, split=ByModel(probes=100))
    for row in found.rows:
        if row.kind == "routed" or row.name in {"best single", "task lookup", "plain kNN"}:
            assert row.quality.value < 0.6, row.name


def test_the_baselines_know_of_a_new_model_no_more_than_its_probes():
    table = planted_table(600)
    better = replace(table, quality=np.where(np.arange(3) == 2, 1.0, table.quality * 0.8))  # m2 is best at everything
    router = Router(table.models, embedder=HashEmbedder())
    few, many = (evaluate(router, better, split=ByModel(probes=probes), baselines=LIGHT).folds[2] for probes in (20, 60))
    assert (few.name, many.name) == ("model m2", "model m2")
    assert few.best_single != "m2"  # twenty scores make no champion
    assert many.best_single == "m2"


def test_a_reference_with_other_columns_is_put_in_order():
    table = hand([[1, 0]] * 40, [1.0, 2.0])
    turned = evaluate(always("a"), table, reference=table.select(["b", "a"]), baselines=("best single", "cheapest"))
    assert (turned.best_single, turned.cheapest) == ("a", "a")
    assert turned["routed"].gain.value == 0.0
    third = hand([[1, 0, 1]] * 40, [1.0, 2.0, 0.5])
    assert evaluate(always("a"), table, reference=third, baselines=LIGHT).best_single == "a"
    with pytest.raises(DataError, match="'b'"):
        evaluate(always("a"), table, reference=table.select(["a"]), baselines=LIGHT)


def test_vectors_of_another_embedder_are_not_compared():
    train, test = planted_table(60), planted_table(40, seed=2)
    other = replace(test, fingerprint=replace(test.fingerprint, name="other"))
    found = evaluate(always("m0"), other, reference=train, baselines=("plain kNN",))
    assert found.notes == ("without plain kNN: the queries have no vectors",)


def test_the_best_single_model_is_chosen_on_like_queries():
    # a was asked the easy half only, where everybody shines; b is better wherever both were asked.
    easy, hard = [[0.8, 0.9]] * 50, [[np.nan, 0.3]] * 50
    train, test = hand(easy + hard), hand([[0.5, 0.6]] * 40)
    assert evaluate(always("a"), test, reference=train, baselines=LIGHT).best_single == "b"
    lucky = hand([[0.6, np.nan]] * 60 + [[0.6, 1.0]])
    assert evaluate(always("a"), test, reference=lucky, baselines=LIGHT).best_single == "a"
    equal = hand([[1, 1]] * 30, [2.0, 1.0])
    assert evaluate(always("a"), equal, reference=equal, baselines=LIGHT).best_single == "b"  # the cheaper of equals


def test_costs_of_all_ways_rest_on_the_same_queries():
    cost = np.array([[1.0, 2.0]] * 20 + [[10.0, np.nan]] * 20)
    table = hand([[1, 1]] * 40)
    found = evaluate(always("a"), replace(table, cost=cost), baselines=("best single", "random"))
    assert found["routed"].cost.value == 1.0
    assert found["random"].cost.value == 1.5
    assert any("cost rests on 20 of 40" in note for note in found.notes)
    unpriced = evaluate(always("a"), replace(table, cost=np.array([[1.0, np.nan]] * 40)), baselines=("random",))
    assert unpriced["routed"].cost.value == 1.0
    assert math.isnan(unpriced["random"].cost.value)


def test_bounds_of_some_queries_say_so_and_cover_no_gap():
    quality = [[0.8, 0.2]] * 5 + [[0.0, 0.2]] * 5
    samples = np.array([[5, 5]] * 5 + [[1, 1]] * 5, float)
    found = evaluate(always("b"), hand(quality, samples=samples), baselines=LIGHT)
    assert found["stable oracle"].quality.value == 1.0
    assert math.isnan(found["stable oracle"].gap.value)
    assert "stable oracle: of 5 of 10 replayed answers only, those where it is known" in found.notes
    graded = evaluate(always("b"), hand([[0.85, 0.2]] * 5, samples=np.full((5, 2), 5.0)), baselines=LIGHT)
    assert "stable oracle" not in graded  # four and a quarter of five right: these are grades


def test_a_query_of_several_splits_counts_once_by_its_mean():
    table = planted_table(60)
    found = evaluate(always("m1"), table, split=ByQuery(test=0.5, repeats=4), baselines=LIGHT)
    judged = {query.key(): row for row, query in enumerate(found.replay.table.queries)}
    expected = found.replay.table.quality[list(judged.values()), 1].mean()
    assert found["routed"].quality.value == pytest.approx(expected)
    assert len(found.replay.table) == 120


def test_what_is_not_fitted_is_fitted_on_the_reference():
    train, test = planted_table(300), planted_table(200, seed=2)
    router = Router(train.models, embedder=HashEmbedder())
    found = evaluate(router, test, reference=train, baselines=LIGHT)
    assert not router.fitted
    assert found.rows == evaluate(router.clone().fit(train), test, reference=train, baselines=LIGHT).rows
    assert evaluate(UtilityPolicy(), test, reference=train, baselines=LIGHT)["routed"].gain.low > 0.2
    for chooser in (router, UtilityPolicy()):
        with pytest.raises(NotFittedError, match="reference= or a split"):
            evaluate(chooser, test)


def test_a_router_without_vectors_is_compared_with_baselines_that_have_them():
    table = planted_table(200)
    bare = replace(table, embeddings=None, fingerprint=None)
    found = evaluate(Router(table.models, estimator=MeanEstimator(), embedder=HashEmbedder()), bare, split=KFold(count=2))
    assert found.notes == ()
    assert found["plain kNN"].gain.low > 0.2


def test_models_that_may_not_answer_are_not_expected_to():
    train, test = planted_table(300), planted_table(60, seed=2)
    only = replace(test, queries=tuple(replace(query, allow=frozenset({"m0"})) for query in test.queries))
    found = evaluate(fitted(train), only, reference=train, baselines=LIGHT)
    assert found["routed"].shares == {"m0": 1.0}
    assert np.isnan(found.replay.estimate.quality[:, 1:]).all()
    assert {name for point in frontier(found, resamples=20).points for name in point.shares} == {"m0"}


def test_a_model_joins_only_where_the_estimator_learns_in_steps():
    table = planted_table(100)
    with pytest.raises(ConfigError, match="learns in steps"):
        evaluate(Router(table.models, estimator=MeanEstimator()), table, split=ByModel(probes=20))


def test_one_query_has_no_interval_and_doubled_ids_are_one_query():
    one = evaluate(always("a"), hand([[1, 0]]), baselines=LIGHT)
    assert (one.queries, one["routed"].quality.value) == (1, 1.0)
    assert math.isnan(one["routed"].quality.low)
    table = hand([[1, 0], [0, 1]])
    doubled = evaluate(always("a"), table.take([0, 0, 0, 1]), baselines=LIGHT)
    assert (doubled.queries, doubled["routed"].quality.value) == (2, 0.5)


def test_of_millions_a_sample_is_judged():
    table = planted_table(300)
    found = evaluate(always("m1"), table, split=KFold(count=3), baselines=LIGHT, max_queries=90)
    assert found.queries == 90
    assert "judged on a sample of 30 of 100 held-out queries (max_queries)" in found.notes
    assert found.coverage == pytest.approx(0.3)


def test_a_function_is_warned_of_what_it_may_have_learned():
    found = evaluate(always("m1"), planted_table(60), split=KFold(count=2), baselines=LIGHT)
    assert any("function is judged as it is" in note for note in found.notes)


def test_each_fold_has_its_own_best_single_and_cheapest_model():
    quality, tasks = [[1, 0]] * 40 + [[0, 1]] * 40, ["x"] * 40 + ["y"] * 40
    cost = [[1.0, 2.0]] * 40 + [[2.0, 1.0]] * 40
    found = evaluate(
        always("a"), hand(quality, cost, tasks), split=ByTask(), baselines=("cheapest", "best single", "task lookup")
    )
    # What is best on one task is worst on the other.
    assert found["best single"].quality.value == 0.0
    assert found["cheapest"].cost.value == 2.0
    assert [fold.best_single for fold in found.folds] == ["b", "a"]
    assert [fold.gains["routed"].value for fold in found.folds] == [1.0, 0.0]
    assert [fold.learned for fold in found.folds] == [40, 40]


def test_gains_can_be_counted_from_a_model_that_is_named():
    table = planted_table(200)
    found = evaluate(always("m1"), table, split=KFold(count=4), baselines=LIGHT, single="m1")
    assert found.best_single == "m1"
    assert (found["routed"].gain.value, found["best single"].shares) == (0.0, {"m1": 1.0})
    assert {fold.best_single for fold in found.folds} == {"m1"}
    with pytest.raises(UnknownModelError, match="'m7'"):
        evaluate(always("m1"), table, single="m7")


def test_an_evaluation_prints_as_one_line_for_each_row():
    found = evaluate(always("a"), hand([[1, 0], [1, 0]], [0.5, 0.25]), baselines=LIGHT)
    assert str(found).splitlines() == [
        "2 queries, gains over always a",
        "best single: quality 1 (1 to 1), USD 0.5 (0.5 to 0.5), gain 0 (0 to 0)",
        "routed: quality 1 (1 to 1), USD 0.5 (0.5 to 0.5), gain 0 (0 to 0)",
        "oracle: quality 1 (1 to 1), USD 0.5 (0.5 to 0.5), gain 0 (0 to 0)",
    ]
