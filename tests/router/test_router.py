import math
import threading
import warnings
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from agentroute.errors import (
    ConfigError,
    DataError,
    EmbedderMismatchError,
    LowSupportWarning,
    NoEligibleModelError,
    NotFittedError,
    OutcomesSkippedWarning,
    PriceUnknownError,
    UnknownModelError,
)
from agentroute.estimators import KNNEstimator, MeanEstimator
from agentroute.outcomes import MemoryOutcomeLog, OutcomeTable, SqliteOutcomeLog
from agentroute.policies import BudgetPolicy, UtilityPolicy
from agentroute.pool import ModelPool
from agentroute.router import Router
from agentroute.testing import HashEmbedder, planted_table
from agentroute.types import ModelCard, Outcome, Price, Query, Usage

EMBEDDER = HashEmbedder()


def fitted(pool=("m0", "m1", "m2"), table=None, **options):
    return Router(pool, embedder=EMBEDDER, **options).fit(planted_table(400) if table is None else table)


def test_it_learns_which_kind_goes_where():
    router = fitted()
    for kind in range(3):
        decision = router.route(Query(text=f"kind{kind} word{kind} topic{kind} fresh xx", task=f"kind{kind}"))
        assert decision.model == f"m{kind}"
        assert decision.by == "policy"
        assert decision.propensity == 1.0
        assert decision.paradigm.when == "pre-generation"
        assert {"embedding", "logged outcomes"} <= set(decision.paradigm.what)
        assert decision.chosen.quality > 0.7
        assert decision.chosen.support > 1
        assert len(decision.candidates) == 3


def test_a_plain_string_is_a_query():
    assert fitted().route("kind1 word1 topic1 thing").model == "m1"


def test_a_policy_can_be_given_for_one_call():
    router = fitted()
    thrifty = UtilityPolicy(willingness_to_pay=0.001)
    assert router.route("kind2 word2 topic2", policy=thrifty).model == "m0"
    assert router.route("kind2 word2 topic2").model == "m2"
    assert "cost" in router.route("kind2 word2 topic2", policy=thrifty).paradigm.what


def test_without_a_log_the_default_answers_and_says_so():
    router = Router(["a", "b"], default="b", embedder=EMBEDDER)
    decision = router.route("anything")
    assert (decision.model, decision.by, decision.ranking) == ("b", "default", ("b", "a"))
    assert "nothing is learned" in decision.reason
    assert Router(["a", "b"]).route("x").model == "a"
    assert [one.model for one in router.route_many(["x", "y"])] == ["b", "b"]


def test_a_query_unlike_the_log_gets_the_default_and_the_others_in_order():
    router = fitted(default="m1")
    for text in ("qqq www eee rrr", ""):
        decision = router.route(text)
        assert (decision.model, decision.by) == ("m1", "default")
        assert "nothing like it" in decision.reason
        assert decision.ranking[0] == "m1"
        assert sorted(decision.ranking) == ["m0", "m1", "m2"]


def test_the_default_is_the_best_single_model_unless_declared():
    table = planted_table(400)
    better = replace(table, quality=np.clip(table.quality + np.array([0, 0, 0.1]), 0, 1))
    assert fitted(table=better).default == "m2"
    assert fitted(table=better, default="m0").default == "m0"


def test_a_default_that_may_not_answer_does_not():
    router = Router(["a", "b"], default="b")
    decision = router.route(Query(text="x", allow={"a"}))
    assert decision.ranking == ("a",)
    assert "may not answer" in decision.reason


def test_filters_come_before_scores():
    pool = [
        ModelCard(id="m0", capabilities={"tools"}),
        ModelCard(id="m1", capabilities=()),
        ModelCard(id="m2", context_window=100),
    ]
    router = fitted(pool)
    asked = "kind1 word1 topic1 something"
    assert router.route(asked).model == "m1"
    assert "m1" not in router.route(Query(text=asked, needs={"tools"})).ranking
    assert router.route(Query(text=asked, allow={"m2"})).ranking == ("m2",)
    assert "m2" not in router.route(Query(text=asked, input_tokens=90, max_output_tokens=20)).ranking
    with pytest.raises(NoEligibleModelError) as raised:
        router.route(Query(text=asked, needs={"tools"}, allow={"m1"}))
    assert raised.value.reasons == {"m0": "not in the allow-list", "m1": "cannot do tools", "m2": "not in the allow-list"}
    with pytest.raises(NoEligibleModelError):
        router.route_many([Query(text=asked), Query(text=asked, allow=())])


def test_many_are_routed_as_one():
    router = fitted(policy=UtilityPolicy(willingness_to_pay=0.02))
    queries = [Query(text=q.text, task=q.task if i % 2 else None) for i, q in enumerate(planted_table(120, seed=3).queries)]
    queries[7] = Query(text="entirely unknown words here")
    many = router.route_many(queries)
    single = [router.route(query) for query in queries]
    assert [d.model for d in many] == [d.model for d in single]
    assert [d.by for d in many] == [d.by for d in single]
    assert router.route_many([]) == []


def test_a_given_vector_is_used_and_a_foreign_one_is_not():
    class Counting(HashEmbedder):
        calls = 0

        def embed(self, texts, /):
            Counting.calls += len(texts)
            return super().embed(texts)

    router = Router(["m0", "m1", "m2"], embedder=Counting()).fit(planted_table(400))
    assert Counting.calls == 0  # the table's vectors are of the same embedder
    query = router.embed("kind1 word1 topic1")
    assert Counting.calls == 1
    assert router.route(query).model == "m1"
    assert Counting.calls == 1
    foreign = replace(query, fingerprint=replace(query.fingerprint, revision="2"), embedding=np.zeros(7, np.float32))
    assert router.route(foreign).model == "m1"
    assert Counting.calls == 2


def test_explanations_name_the_neighbours():
    router = fitted(estimator=KNNEstimator(keep_prompts=True))
    explained = router.explain(Query(text="kind2 word2 topic2 item", task="kind2"), neighbours=4)
    assert explained.decision.model == "m2"
    assert explained.supported
    assert len(explained.neighbours) == 4
    similarity = [one.similarity for one in explained.neighbours]
    assert similarity == sorted(similarity, reverse=True)
    nearest = explained.neighbours[0]
    assert nearest.query.task == "kind2"
    assert "kind2" in nearest.query.text
    assert set(nearest.quality) == {"m0", "m1", "m2"}
    vector = EMBEDDER.embed(["kind2 word2 topic2 item", nearest.query.text])
    assert nearest.similarity == pytest.approx(float(vector[0] @ vector[1]), abs=1e-5)
    assert Router(["a"]).explain("x").neighbours == ()


def test_it_fits_from_a_log_and_learns_in_steps(tmp_path):
    table = planted_table(300)
    with SqliteOutcomeLog(tmp_path / "log.sqlite", store_prompts=True) as log:
        log.extend(list(table.outcomes()))
        router = Router(["m0", "m1", "m2"], embedder=EMBEDDER).fit(log)
    assert router.route("kind2 word2 topic2 x").model == "m2"
    router.partial_fit(planted_table(100, seed=5))
    assert router.route("kind1 word1 topic1 x").model == "m1"


def test_a_log_without_prompts_is_fitted_from_its_vectors(tmp_path):
    table = planted_table(300)
    with SqliteOutcomeLog(tmp_path / "log.sqlite") as log:
        for outcome in table.outcomes():
            row = int(outcome.query.key().removeprefix("q"))
            vector = replace(outcome.query, embedding=table.embeddings[row], fingerprint=table.fingerprint)
            log.append(replace(outcome, query=vector))
        assert Router(["m0", "m1", "m2"], embedder=EMBEDDER).fit(log).route("kind2 word2 topic2 x").model == "m2"
        with pytest.raises(EmbedderMismatchError, match="hash"):
            Router(["m0", "m1", "m2"], embedder=HashEmbedder(dimension=16)).fit(log)


def test_a_new_model_joins():
    router = fitted(("m0", "m1"), planted_table(400, models=2))
    probes = planted_table(200, models=2)
    good = np.array([[0.95 if q.task == "kind2" else 0.05] for q in probes.queries])
    probes = replace(probes, models=("new",), quality=good, cost=good * 0 + 1e-3, latency=good * 0 + 1.0, samples=good * 0 + 1)
    router.add_model(ModelCard(id="new"), probes)
    assert router.pool.ids == ("m0", "m1", "new")
    assert router.route(Query(text="kind2 word2 topic2", task="kind2")).model == "new"
    assert router.route(Query(text="kind0 word0 topic0", task="kind0")).model == "m0"


def test_a_failed_join_leaves_the_router_as_it_was():
    router = fitted()
    with pytest.raises(UnknownModelError):
        router.add_model(ModelCard(id="new"), replace(planted_table(50), models=("m0", "m1", "other")))
    assert router.pool.ids == ("m0", "m1", "m2")
    assert router.route("kind1 word1 topic1").model == "m1"


def test_a_budget_is_calibrated_at_fit():
    router = fitted(policy=BudgetPolicy(mean_cost=0.004))
    held = planted_table(400, seed=8)
    picks = [router.pool.index(one.model) for one in router.route_many(held.queries)]
    spent = held.cost[np.arange(400), picks]
    assert spent.mean() - 0.004 < 3 * spent.std() / np.sqrt(400)  # a mean over other queries: as near as sampling allows
    assert spent.mean() > 0.002


def test_mean_estimator_needs_no_embedder():
    class Broken:
        fingerprint = EMBEDDER.fingerprint

        def embed(self, texts, /):
            raise AssertionError("must not be called")

    table = replace(planted_table(100), embeddings=None, fingerprint=None)
    router = Router(["m0", "m1", "m2"], embedder=Broken(), estimator=MeanEstimator()).fit(table)
    assert router.route("x").by == "policy"


# Bad input, each with its error or its stated behaviour.


def test_an_empty_pool():
    with pytest.raises(ConfigError, match="at least one model"):
        Router([])


def test_a_default_outside_the_pool():
    with pytest.raises(UnknownModelError, match="'c'"):
        Router(["a", "b"], default="c")


def test_an_unknown_model_in_the_log():
    with pytest.raises(UnknownModelError) as raised:
        fitted(("m0", "m1"))
    assert raised.value.model == "m2"
    assert raised.value.known == ("m0", "m1")


def test_a_pool_model_that_the_log_never_saw_is_never_chosen_by_the_policy():
    router = fitted(("m0", "m1", "m2", "unheard"), policy=UtilityPolicy(willingness_to_pay=0.02))
    decision = router.route("kind1 word1 topic1")
    assert decision.by == "policy"
    assert decision.ranking[-1] == "unheard"
    assert decision.candidates[-1].quality is None


def test_a_log_with_one_row():
    table = planted_table(400).take([0])
    with pytest.warns(LowSupportWarning, match="at most 1 score"):
        router = fitted(table=table, default="m1")
    decision = router.route(table.queries[0])
    assert (decision.model, decision.by) == ("m1", "default")


def test_one_lucky_score_takes_nothing_from_the_default():
    table = planted_table(400)
    quality = np.full((400, 3), np.nan)
    quality[:, 2] = 0.6
    quality[0, 0] = 1.0
    router = fitted(table=replace(table, quality=quality), default="m2")
    decision = router.route("kind0 word0 topic0 item1 xx")
    assert (decision.model, decision.by) == ("m2", "policy")
    assert fitted(table=replace(table, quality=quality)).default == "m2"


def test_a_log_without_scores_leaves_the_default():
    table = planted_table(400)
    with pytest.warns(LowSupportWarning, match="at most 0 scores"):
        router = fitted(table=replace(table, quality=np.full((400, 3), np.nan)), default="m2", policy=BudgetPolicy(mean_cost=1.0))
    decision = router.route("kind0 word0 topic0 item1 xx")
    assert (decision.model, decision.by) == ("m2", "default")
    assert "too thin" in decision.reason


def test_unknown_latency_is_not_instant():
    table = planted_table(400)
    silent = replace(table, latency=np.where(np.arange(3) == 1, np.nan, table.latency))
    with pytest.raises(DataError, match="'m1'"):
        fitted(table=silent, policy=UtilityPolicy(latency_weight=0.01))
    assert fitted(table=silent).route("kind1 word1 topic1 item1 xx").model == "m1"


def test_a_slotted_policy_of_ones_own_is_fitted_with():
    @dataclass(frozen=True, slots=True)
    class Mine:
        kind: ClassVar[str] = "mine"
        what: ClassVar[tuple[str, ...]] = ()
        how: ClassVar[str] = "rule"
        needs: ClassVar[frozenset[str]] = frozenset()

        def utilities(self, estimate, /):
            return -estimate.quality

        def state(self):
            return {}

        @classmethod
        def from_state(cls, state, /):
            return cls()

    router = fitted(policy=Mine())
    assert router.route("kind1 word1 topic1 item1 xx").model != "m1"  # it prefers the worst
    with pytest.raises(DataError):
        router.fit(MemoryOutcomeLog())
    assert router.fitted


def test_a_failed_fit_leaves_the_router_as_it_was():
    table = planted_table(400)
    router = fitted(table=table, policy=BudgetPolicy(mean_cost=0.004), default="m2")
    before = [d.candidates for d in router.route_many(q.text for q in table.queries)]
    with pytest.raises(ConfigError, match="cheapest"):
        router.fit(replace(table.take(np.arange(100)), cost=table.cost[:100] * 100))
    assert [d.candidates for d in router.route_many(q.text for q in table.queries)] == before
    unfitted = Router(["m0", "m1", "m2"], embedder=EMBEDDER, policy=BudgetPolicy(mean_cost=1e-9))
    with pytest.raises(ConfigError):
        unfitted.fit(table)
    assert not unfitted.fitted
    with pytest.raises(NotFittedError):
        unfitted.estimator.predict([])


def test_a_budget_holds_where_only_some_queries_have_labels():
    table = planted_table(600)
    mixed = replace(table, queries=tuple(replace(q, task=None) if i % 5 else q for i, q in enumerate(table.queries)))
    router = fitted(table=mixed, policy=BudgetPolicy(mean_cost=0.004))
    fresh = planted_table(1000, seed=4)
    asked = [Query(text=q.text, task=None if i % 5 else q.task) for i, q in enumerate(fresh.queries)]
    spent = fresh.cost[np.arange(1000), [router.pool.index(one.model) for one in router.route_many(asked)]]
    assert spent.mean() - 0.004 < 3 * spent.std() / np.sqrt(600)


def test_joining_does_not_disturb_decisions():
    router, failures, stop = fitted(("m0", "m1"), planted_table(400, models=2)), [], threading.Event()

    def ask():
        while not stop.is_set():
            try:
                router.route("kind1 word1 topic1 item1 xx")
            except Exception as error:
                failures.append(error)

    worker = threading.Thread(target=ask)
    worker.start()
    try:
        for number in range(20):
            probes = replace(planted_table(60, models=1), models=(f"new{number}",))
            router.add_model(ModelCard(id=f"new{number}"), probes)
    finally:
        stop.set()
        worker.join()
    assert not failures
    assert len(router.pool) == 22


def test_a_sloppy_embedder_is_set_right_and_a_wrong_one_refused():
    class Long(HashEmbedder):
        def embed(self, texts, /):
            return super().embed(texts) * np.float32(30)

    class Short(HashEmbedder):
        def embed(self, texts, /):
            return super().embed(texts)[:, :5]

    bare = replace(planted_table(400), embeddings=None, fingerprint=None)
    assert Router(["m0", "m1", "m2"], embedder=Long()).fit(bare).route("kind1 word1 topic1 item1 xx").model == "m1"
    with pytest.raises(ConfigError, match="32"):
        Router(["m0", "m1", "m2"], embedder=Short()).fit(bare)


def test_costs_come_from_usage_and_prices_when_nobody_billed(tmp_path):
    table = planted_table(200)
    pool = [ModelCard(id="m0", price=Price(input=1, output=2)), ModelCard(id="m1", price=Price(input=10, output=20)), "m2"]
    with SqliteOutcomeLog(tmp_path / "log.sqlite", store_prompts=True) as log:
        log.extend(replace(one, cost=None, usage=Usage(input_tokens=100, output_tokens=50)) for one in table.outcomes())
        router = fitted(pool, log)
        assert router.route("kind1 word1 topic1 item1 xx").chosen.cost == pytest.approx((100 * 10 + 50 * 20) / 1e6)
        with pytest.raises(PriceUnknownError) as raised:
            fitted(pool, log, policy=UtilityPolicy(willingness_to_pay=1.0))
    assert raised.value.models == ("m2",)


def test_one_row_without_vector_does_not_spoil_a_log(tmp_path):
    table = planted_table(300)
    with SqliteOutcomeLog(tmp_path / "log.sqlite") as log:
        for outcome in table.outcomes():
            row = int(outcome.query.key().removeprefix("q"))
            vector = replace(outcome.query, embedding=table.embeddings[row], fingerprint=table.fingerprint)
            log.append(replace(outcome, query=vector))
        log.append(Outcome(query=Query(text="logged while the embedder was down"), model="m0", quality=1.0))
        with pytest.warns(OutcomesSkippedWarning, match="1"):
            router = fitted(table=log)
        assert router.route("kind2 word2 topic2 item1 xx").model == "m2"
        means = Router(["m0", "m1", "m2"], estimator=MeanEstimator(), embedder=EMBEDDER).fit(log)
    assert means.route("x").by == "policy"


def test_an_empty_log():
    with pytest.raises(DataError):
        Router(["a"], embedder=EMBEDDER).fit(MemoryOutcomeLog())


def test_nan_scores_are_holes():
    table = planted_table(400)
    holed = replace(table, quality=np.where(np.random.default_rng(0).random((400, 3)) < 0.6, np.nan, table.quality))
    assert fitted(table=holed).route("kind1 word1 topic1").model == "m1"


def test_a_score_of_seven():
    with pytest.raises(DataError, match="rescale"):
        Outcome(query=Query(text="x"), model="a", quality=7.0)
    with pytest.raises(DataError):
        OutcomeTable(queries=(Query(text="x"),), models=("a",), quality=np.array([[7.0]]))


def test_a_megabyte_and_lone_surrogates_are_routed():
    router = Router(["m0", "m1", "m2"]).fit(replace(planted_table(200), embeddings=None, fingerprint=None))
    for text in ("word " * 200_000, "\ud83d broken \udc00", "kind1 word1\x00 topic1", " \n\t"):
        assert router.route(text).model in {"m0", "m1", "m2"}


def test_a_model_without_price_under_a_budget():
    table = planted_table(400)
    unpriced = replace(table, cost=np.where(np.arange(3) == 2, np.nan, table.cost))
    with pytest.raises(PriceUnknownError) as raised:
        fitted(table=unpriced, policy=BudgetPolicy(mean_cost=0.01))
    assert raised.value.models == ("m2",)
    with pytest.raises(PriceUnknownError):
        fitted(table=unpriced, policy=UtilityPolicy(willingness_to_pay=1.0))
    router = fitted(table=unpriced)
    with pytest.raises(PriceUnknownError):
        router.route("kind1 word1 topic1", policy=UtilityPolicy(willingness_to_pay=1.0))
    assert math.isfinite(router.route("kind1 word1 topic1").chosen.quality)


def test_what_is_not_fitted_says_so(tmp_path):
    router = Router(["a"], embedder=EMBEDDER)
    with pytest.raises(NotFittedError):
        router.save(tmp_path / "r")
    with pytest.raises(NotFittedError):
        router.partial_fit(planted_table(50))
    with pytest.raises(ConfigError, match="cannot learn in steps"):
        Router(["m0", "m1", "m2"], estimator=MeanEstimator()).fit(planted_table(60)).partial_fit(planted_table(60))


@pytest.mark.parametrize("asked", [None, ["a"], b"text", 7])
def test_what_is_no_query_is_refused_in_words(asked):
    for router in (Router(["a"]), fitted()):
        with pytest.raises(ConfigError, match="must be a string"):
            router.route(asked)


def test_a_path_is_no_log(tmp_path):
    for path in ("answers.jsonl", tmp_path / "log.sqlite"):
        with pytest.raises(ConfigError, match="open it first"):
            Router(["a"]).fit(path)


def test_a_function_is_no_embedder():
    with pytest.raises(ConfigError):
        Router(["a"], embedder=lambda texts: texts)


def test_pool_repr_and_duplicates():
    assert repr(fitted()).startswith("Router(['m0', 'm1', 'm2']")
    with pytest.raises(ConfigError, match="two models"):
        ModelPool(["a", "a"])


def test_routing_warns_of_nothing():
    router = fitted()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        router.route("kind1 word1 topic1")
        router.route("never seen")


def test_a_clone_has_the_settings_and_none_of_the_learning():
    table = planted_table(200)
    router = Router(table.models, embedder=HashEmbedder(), policy=BudgetPolicy(mean_cost=0.004), default="m1").fit(table)
    again = router.clone()
    assert not again.fitted
    assert (again.pool.ids, again.default, repr(again.policy)) == (router.pool.ids, "m1", repr(router.policy))
    before = [one.model for one in router.route_many(table.queries)]
    again.fit(planted_table(200, seed=9)).partial_fit(planted_table(50, seed=3))
    assert [one.model for one in router.route_many(table.queries)] == before
    fewer = router.clone(pool=ModelPool(["m0", "m2"]), policy=UtilityPolicy())
    assert (fewer.pool.ids, fewer.default, repr(fewer.policy)) == (("m0", "m2"), "m0", repr(UtilityPolicy()))


def test_decisions_come_with_what_was_expected():
    table = planted_table(200)
    router = Router(["m2", "m0", "m1"], embedder=HashEmbedder()).fit(table)
    decisions, estimate = router.decide_many(table.queries[:20])
    assert [one.model for one in decisions] == [one.model for one in router.route_many(table.queries[:20])]
    assert estimate.models == router.pool.ids
    for row, decision in enumerate(decisions):
        assert decision.chosen.quality == estimate.quality[row, router.pool.index(decision.model)]
    with pytest.raises(NotFittedError, match="call fit"):
        router.clone().decide_many(["hello"])


def test_the_table_that_fit_learns_from_is_in_the_pools_order():
    table = planted_table(50)
    counted = replace(table, samples=np.full((50, 3), [1.0, 2.0, 3.0]))
    found = Router(["m2", "m9", "m0", "m1"], embedder=HashEmbedder()).table(counted)
    np.testing.assert_array_equal(found.quality[:, [0, 2, 3]], table.quality[:, [2, 0, 1]])
    assert np.isnan(found.quality[:, 1]).all()
    np.testing.assert_array_equal(found.samples[0], [3.0, 0.0, 1.0, 2.0])
