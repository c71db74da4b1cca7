import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from agentroute.errors import ConfigError, DataError, NotFittedError, UnknownModelError
from agentroute.estimators import KNNEstimator, MeanEstimator
from agentroute.evaluation._replay import LoggedDecisions, off_policy
from agentroute.outcomes import MemoryOutcomeLog, SqliteOutcomeLog
from agentroute.router import Router
from agentroute.testing import HashEmbedder, planted_table
from agentroute.types import Fingerprint, Outcome, Price, Query, Usage

WAYS = ("ips", "snips", "dr")

EMBEDDER = HashEmbedder()


def application(log, table, *, epsilon=0.3, seed=7, vectors=True):
    """Answers each query of a table with a default model, but for a share that goes to a random one, and logs it."""
    rng = np.random.default_rng(seed)
    m = len(table.models)
    made = []
    for row, query in enumerate(table.queries):
        explored = rng.random() < epsilon
        column = int(rng.integers(m)) if explored else row % m
        asked = replace(query, embedding=table.embeddings[row], fingerprint=table.fingerprint) if vectors else query
        made.append(
            Outcome(
                query=asked,
                model=table.models[column],
                cost=float(table.cost[row, column]),
                decision_id=f"d{row}",
                propensity=epsilon / m + (1 - epsilon) * (column == row % m),
            )
        )
    log.extend(made)
    for row, outcome in enumerate(made):
        log.feedback(f"d{row}", float(table.quality[row, table.models.index(outcome.model)]))


def realised(router, table):
    columns = [table.models.index(decision.model) for decision in router.route_many(table.queries)]
    at = np.arange(len(table))
    return table.quality[at, columns].mean(), table.cost[at, columns].mean()


def test_a_router_is_replayed_on_a_log_from_disk(tmp_path):
    router = Router(("m0", "m1", "m2"), embedder=EMBEDDER).fit(planted_table(300))
    live = planted_table(1500, seed=3)
    with SqliteOutcomeLog(tmp_path / "log.sqlite") as log:
        application(log, live)
    with SqliteOutcomeLog(tmp_path / "log.sqlite") as log:
        logged = LoggedDecisions.from_outcomes(log, support=router.pool.ids)
    assert (len(logged), logged.left_out, logged.fingerprint) == (1500, {}, EMBEDDER.fingerprint)
    assert all(query.withheld for query in logged.queries)
    found = off_policy(router, logged)
    quality, cost = realised(router, live)
    assert (found.coverage, found.estimates) == (1.0, "KNNEstimator")
    for way in WAYS:
        assert getattr(found, way).low <= quality <= getattr(found, way).high
        assert getattr(found.cost, way).low <= cost <= getattr(found.cost, way).high
    assert found.gain["dr"].low > 0.2  # the default is right on a third of the queries
    # The estimates know the kinds of query, so that little is left to the weights.
    assert found.dr.high - found.dr.low < 0.5 * (found.ips.high - found.ips.low)
    assert abs(found.dr.value - quality) < 0.03


def test_texts_are_embedded_by_the_router():
    router = Router(("m0", "m1", "m2"), embedder=EMBEDDER).fit(planted_table(300))
    log = MemoryOutcomeLog()
    live = planted_table(1000, seed=3)
    application(log, live, vectors=False)
    logged = LoggedDecisions.from_outcomes(log, support=planted_table(1).models)
    assert logged.embeddings is None
    found = off_policy(router, logged)
    assert found.estimates == "KNNEstimator"
    assert abs(found.dr.value - realised(router, live)[0]) < 0.04
    by_name = off_policy(lambda queries: [one.model for one in router.route_many(queries)], logged)
    assert (by_name.ips, by_name.estimates) == (found.ips, "model means")


def test_a_wrong_embedder_is_named():
    class Short(HashEmbedder):
        def embed(self, texts, /):
            return super().embed(texts)[:, :5]

    log, table = MemoryOutcomeLog(), planted_table(600, seed=3)
    application(log, table, epsilon=1.0, vectors=False)
    router = Router(table.models, embedder=Short(), estimator=MeanEstimator()).fit(table)
    with pytest.raises(ConfigError, match=r"gave an array \(600, 5\), not \(600, 32\)"):
        off_policy(router, LoggedDecisions.from_outcomes(log, support=table.models))


def test_a_query_without_text_and_vector_cannot_be_routed(tmp_path):
    router = Router(("m0", "m1", "m2"), embedder=EMBEDDER).fit(planted_table(300))
    with SqliteOutcomeLog(tmp_path / "log.sqlite") as log:
        application(log, planted_table(50, seed=3), vectors=False)
        logged = LoggedDecisions.from_outcomes(log)
    with pytest.raises(DataError, match=r"for 50 of 50 queries.*Router.embed"):
        off_policy(router, logged)
    with pytest.raises(NotFittedError, match="call fit"):
        off_policy(Router(("m0", "m1", "m2")), logged)


def test_a_model_that_the_log_does_not_know_is_not_covered():
    table = planted_table(600)
    log = MemoryOutcomeLog()
    application(log, table.select(["m0", "m1"]))
    router = Router(("m0", "m1", "m2"), embedder=EMBEDDER).fit(table)
    found = off_policy(router, LoggedDecisions.from_outcomes(log, support=("m0", "m1")))
    assert found.kind == "coverage"
    assert found.coverage == pytest.approx(2 / 3, abs=0.05)


def test_the_mean_of_the_log_stands_in_for_a_model_that_it_does_not_know():
    table = planted_table(1200, seed=3)
    kind = np.array([int(query.task[-1]) for query in table.queries])
    table = table.take(np.flatnonzero((kind < 2) | (np.arange(1200) % 20 == 0)))  # few are for m2
    log = MemoryOutcomeLog()
    application(log, table.select(["m0", "m1"]))
    router = Router(("m0", "m1", "m2"), embedder=EMBEDDER).fit(planted_table(300))
    logged = LoggedDecisions.from_outcomes(log, support=("m0", "m1"))
    found = off_policy(router, logged, estimator=np.full((len(logged), 2), 0.5))
    chosen = np.array([router.pool.index(one.model) for one in router.route_many(table.queries)])
    others = (logged.quality.sum() - logged.quality) / (len(logged) - 1)
    direct = np.where(chosen == 2, others, 0.5)
    expected = direct + (chosen == logged.action) / logged.propensity * (logged.quality - 0.5)
    assert 0 < np.mean(chosen == 2) < 0.1
    assert found.coverage == pytest.approx(np.mean(chosen < 2))
    assert found.dr.value == pytest.approx(expected.mean())


def test_a_router_that_needs_no_vectors_needs_none_of_the_log(tmp_path):
    table = planted_table(400, seed=3)
    with SqliteOutcomeLog(tmp_path / "log.sqlite") as log:
        application(log, table, epsilon=1.0, vectors=False)
        logged = LoggedDecisions.from_outcomes(log, support=table.models)
    router = Router(table.models, embedder=EMBEDDER, estimator=MeanEstimator()).fit(table)
    found = off_policy(router, logged)
    assert found.estimates == "model means"
    assert found.dr.low <= realised(router, table)[0] <= found.dr.high


def test_the_given_estimator_stays_as_it_is():
    table = planted_table(1000, seed=3)
    log = MemoryOutcomeLog()
    application(log, table)
    logged = LoggedDecisions.from_outcomes(log, support=planted_table(1).models)
    fresh = KNNEstimator(k=20)
    target = np.full((1000, 3), 1 / 3)
    first = off_policy(target, logged, estimator=fresh)
    assert first.estimates == "KNNEstimator"
    with pytest.raises(NotFittedError):
        _ = fresh.models_
    router = Router(table.models, embedder=EMBEDDER).fit(planted_table(300))
    before = router.route("kind1 word1 topic1").candidates
    assert off_policy(router, logged, estimator=router.estimator)
    assert router.route("kind1 word1 topic1").candidates == before


# --- what is read from a log ----------------------------------------------------------------------------------------------


def outcome(decision, model="a", **others):
    values = {"propensity": 0.5, "quality": 1.0, **others}
    return Outcome(query=values.pop("query", Query(text=f"q {decision}")), model=model, decision_id=decision, **values)


def test_only_first_attempts_with_propensity_and_quality_are_rows():
    logged = LoggedDecisions.from_outcomes(
        [
            outcome("1"),
            outcome("1", "b", attempt=1, propensity=None),
            outcome("2", propensity=None),
            outcome("3", quality=None),
            outcome("4", quality=None, error="TimeoutError"),
            outcome("5", quality=0.0, error="TimeoutError"),  # a failure that was judged counts
            outcome(None, "b", propensity=0.25, cost=0.002),
            outcome(None, "b", propensity=0.25),
        ]
    )
    assert [query.text for query in logged.queries] == ["q 1", "q 5", "q None", "q None"]
    assert (logged.models, logged.action.tolist()) == (("a", "b"), [0, 0, 1, 1])
    assert (logged.propensity.tolist(), logged.quality.tolist()) == ([0.5, 0.5, 0.25, 0.25], [1.0, 0.0, 1.0, 1.0])
    assert logged.cost[2] == 0.002
    assert np.isnan(logged.cost[[0, 1, 3]]).all()
    assert logged.left_out == {"later attempt": 1, "no propensity": 1, "not judged": 1, "failed, not judged": 1}
    assert repr(logged) == "LoggedDecisions(4 decisions, 2 models, 4 outcomes left out)"


def test_of_repeats_the_latest_counts():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    same = outcome(None)
    logged = LoggedDecisions.from_outcomes(
        [
            outcome("1", quality=0.1, at=start + timedelta(hours=2)),
            outcome("1", quality=0.2, at=start + timedelta(hours=3)),
            outcome("1", quality=0.3, at=start + timedelta(hours=1)),
            outcome("2", quality=0.4),
            outcome("2", quality=0.5),
            outcome("2", quality=None),
            outcome("3", "a"),
            outcome("3", "b"),
            same,
            same,
        ]
    )
    assert logged.quality.tolist() == [0.2, 0.5, 1.0]
    assert logged.left_out == {"repeated": 4, "not judged": 1, "two models picked": 1}


def test_feedback_of_the_log_is_the_quality():
    log = MemoryOutcomeLog()
    log.extend([outcome("1", quality=None), outcome("2", quality=0.5), outcome("3", quality=None)])
    log.feedback("1", 0.0)
    log.feedback("1", 1.0, source="judge")
    log.feedback("2", 1.0)
    logged = LoggedDecisions.from_outcomes(log)
    assert (logged.quality.tolist(), logged.left_out) == ([0.5, 1.0], {"not judged": 1})


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        ([], "the log is empty"),
        ([outcome("1", propensity=None)], r"1 no propensity.*log the propensity, the probability"),
        ([outcome("1", quality=None)], r"1 not judged.*log.feedback"),
        ([outcome("1", quality=None, error="E")], "quality of 0"),
        ([outcome("1"), outcome("1", "b")], "1 two models picked"),
        ([outcome("1"), outcome("2", propensity=0.0)], r"row 1: propensity 0 is outside \(0, 1\]"),
    ],
)
def test_a_log_that_cannot_be_replayed(outcomes, message):
    with pytest.raises(DataError, match=message):
        LoggedDecisions.from_outcomes(outcomes)


def test_what_is_no_log():
    with pytest.raises(ConfigError, match="open the log first"):
        LoggedDecisions.from_outcomes("log.sqlite")
    with pytest.raises(ConfigError, match="holds no propensities"):
        LoggedDecisions.from_outcomes(planted_table(10))


def test_columns_and_support():
    outcomes = [outcome("1", "b"), outcome("2", "old")]
    logged = LoggedDecisions.from_outcomes(outcomes, models=["a", "b"], support=("b", "old"))
    assert (logged.models, logged.action.tolist()) == (("a", "b", "old"), [1, 2])
    assert logged.support.tolist() == [[False, True, True]] * 2
    assert LoggedDecisions.from_outcomes(outcomes).support is None
    with pytest.raises(UnknownModelError, match="unknown model 'c': the log knows 'b', 'old'"):
        LoggedDecisions.from_outcomes(outcomes, support=["c"])
    with pytest.raises(DataError, match=r"row 1: 'old' was picked, and support says"):
        LoggedDecisions.from_outcomes(outcomes, support="b")


def test_unknown_costs_are_priced():
    usage = Usage(input_tokens=1000, output_tokens=100)
    outcomes = [outcome("1", usage=usage), outcome("2", usage=usage, cost=0.5), outcome("3"), outcome("4", "b", usage=usage)]
    logged = LoggedDecisions.from_outcomes(outcomes, prices={"a": Price(input=1.0, output=10.0)})
    assert logged.cost[:2].tolist() == [pytest.approx(0.002), 0.5]
    assert np.isnan(logged.cost[2:]).all()


def test_a_price_that_is_none():
    with pytest.raises(ConfigError, match=r"give a Price for 'a'.*not \(1, 2\)"):
        LoggedDecisions.from_outcomes([outcome("1", cost=0.5)], prices={"a": (1, 2)})


def vector(fill, fingerprint):
    return Query(text="q", embedding=np.full(fingerprint.dimension, fill, np.float32), fingerprint=fingerprint)


def test_vectors_are_kept_where_all_rows_have_one_of_the_same_embedder():
    one, other = (Fingerprint(name=name, revision="1", dimension=2) for name in ("one", "other"))
    mixed = [outcome("1", query=vector(0.1, one)), outcome("2", query=vector(0.2, one)), outcome("3", query=vector(0.3, other))]
    logged = LoggedDecisions.from_outcomes(mixed[:2])
    assert (logged.fingerprint, logged.embeddings.shape) == (one, (2, 2))
    assert all(query.embedding is None for query in logged.queries)
    assert logged.asked()[1].embedding.tolist() == pytest.approx([0.2, 0.2])
    assert logged.asked()[1].fingerprint == one
    for some in (LoggedDecisions.from_outcomes(mixed), LoggedDecisions.from_outcomes(mixed[:2], fingerprint=other)):
        assert (some.embeddings, some.fingerprint) == (None, None)
        assert some.asked()[0].fingerprint == one
    short = replace(vector(0.1, one), embedding=np.zeros(3, np.float32))
    with pytest.raises(DataError, match="of another length"):
        LoggedDecisions.from_outcomes([outcome("1", query=short)])


def test_take_and_table():
    one = Fingerprint(name="one", revision="1", dimension=2)
    logged = LoggedDecisions.from_outcomes(
        [outcome(str(i), "ab"[i % 2], quality=i / 4, cost=float(i), query=vector(i, one)) for i in range(4)], support=("a", "b")
    )
    table = logged.table()
    np.testing.assert_array_equal(table.quality, [[0.0, math.nan], [math.nan, 0.25], [0.5, math.nan], [math.nan, 0.75]])
    np.testing.assert_array_equal(table.cost, [[0.0, math.nan], [math.nan, 1.0], [2.0, math.nan], [math.nan, 3.0]])
    assert (table.models, table.fingerprint) == (("a", "b"), one)
    for rows in ([3, 1], np.array([False, True, False, True])):
        some = logged.take(rows)
        assert sorted(some.quality.tolist()) == [0.25, 0.75]
        assert (some.support.shape, some.embeddings.shape, len(some.queries)) == ((2, 2), (2, 2), 2)
    with pytest.raises(DataError, match="no logged decisions"):
        logged.take([])


GOOD = {
    "queries": (Query(text="x"), Query(text="y")),
    "models": ("a", "b"),
    "action": np.array([0, 1]),
    "propensity": np.array([0.5, 1.0]),
    "quality": np.array([0.0, 1.0]),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": ()}, "no logged decisions"),
        ({"models": ()}, "no logged decisions"),
        ({"models": ("a", "a")}, "one model twice"),
        ({"action": np.array([0.0, 1.0])}, "action holds float64 values"),
        ({"action": np.array([0, 2])}, r"row 1: action 2 is none of the columns 0 to 1"),
        ({"action": np.array([-1, 0])}, r"row 0: action -1"),
        ({"action": np.array([0, 1, 1])}, r"action has the shape \(3,\), not \(2,\)"),
        ({"propensity": np.array([0.5, 0.0])}, r"row 1: propensity 0 is outside"),
        ({"propensity": np.array([math.nan, 0.5])}, r"row 0: propensity nan is outside"),
        ({"propensity": np.array([0.5, 1.1])}, r"row 1: propensity 1.1 is outside"),
        ({"propensity": np.array([0.5])}, r"propensity has the shape"),
        ({"quality": np.array([0.5, 7.0])}, r"row 1: quality 7 is outside"),
        ({"quality": np.array([0.5, math.nan])}, r"row 1: quality nan .*leave out"),
        ({"cost": np.array([0.5, -1.0])}, r"row 1: cost -1 must be USD"),
        ({"cost": np.array([math.inf, 1.0])}, r"row 0: cost inf"),
        ({"support": np.ones((2, 3), bool)}, r"not of bool \(2, 2\)"),
        ({"support": np.ones((2, 2))}, r"of float64"),
        ({"embeddings": np.zeros((2, 3), np.float32)}, "go together"),
    ],
)
def test_decisions_that_cannot_be(change, message):
    assert np.isnan(LoggedDecisions(**GOOD).cost).all()
    with pytest.raises(DataError, match=message):
        LoggedDecisions(**{**GOOD, **change})
