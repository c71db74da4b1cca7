"""Outcomes as arrays: averaging, holes, order, checks, splits."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest

from agentroute.errors import ConfigError, DataError, UnknownModelError
from agentroute.outcomes import MemoryOutcomeLog, OutcomeTable, QueuedOutcomeLog, SqliteOutcomeLog
from agentroute.types import Fingerprint, Outcome, Query

NAN = math.nan
MINILM = Fingerprint(name="minilm", revision="1", dimension=2)
OTHER = Fingerprint(name="minilm", revision="2", dimension=2)


def embedded(text, vector=(1, 0), fingerprint=MINILM):
    return Query(text=text, embedding=np.array(vector, dtype=np.float32), fingerprint=fingerprint)


def table(n=10, m=2, **fields):
    random = np.random.default_rng(0)
    return OutcomeTable(
        queries=tuple(Query(text=f"query {i}") for i in range(n)),
        models=tuple(f"m{j}" for j in range(m)),
        **{"quality": random.random((n, m)), "cost": random.random((n, m)), **fields},
    )


class TestFromOutcomes:
    def test_rows_and_columns_in_order_of_first_appearance(self, make):
        found = OutcomeTable.from_outcomes(
            [
                make("b", "y", quality=0.1),
                make("a", "x", quality=0.2),
                make("b", "x", quality=0.3),
            ]
        )
        assert [query.text for query in found.queries] == ["b", "a"]
        assert found.models == ("y", "x")
        np.testing.assert_array_equal(found.quality, [[0.1, 0.3], [NAN, 0.2]])
        assert found.quality.dtype == np.float64
        assert np.isnan(found.cost).all()
        assert np.isnan(found.latency).all()
        assert np.isnan(found.at).all()
        assert len(found) == 2

    def test_each_measure_is_averaged_over_those_that_know_it(self, make):
        found = OutcomeTable.from_outcomes(
            [
                make(quality=1.0, cost=None, latency=2.0),
                make(quality=0.0, cost=3.0, latency=None),
                make(quality=None, cost=1.0, latency=None),
            ]
        )
        assert (found.quality[0, 0], found.cost[0, 0], found.latency[0, 0]) == (0.5, 2.0, 2.0)

    def test_a_failed_call_costs_but_is_not_judged(self, make):
        found = OutcomeTable.from_outcomes(
            [
                make(model="a", error="TimeoutError", cost=0.5, latency=60.0),
                make(model="b", error="RefusalError", quality=0.0),
            ]
        )
        np.testing.assert_array_equal(found.quality, [[NAN, 0.0]])
        np.testing.assert_array_equal(found.cost, [[0.5, NAN]])
        np.testing.assert_array_equal(found.latency, [[60.0, NAN]])

    def test_given_models_are_the_columns(self, make):
        outcomes = [make("q", "a", quality=0.1), make("q", "b", quality=0.2), make("only c", "c", quality=0.3)]
        found = OutcomeTable.from_outcomes(outcomes, models=["b", "new", "a"])
        assert found.models == ("b", "new", "a")
        assert [query.text for query in found.queries] == ["q"]
        np.testing.assert_array_equal(found.quality, [[0.2, NAN, 0.1]])

    def test_labels_tell_queries_apart(self):
        outcomes = [Outcome(query=Query(text="q", role=role), model="m") for role in ("planner", "coder", None)]
        assert len(OutcomeTable.from_outcomes(outcomes)) == 3

    def test_ids_join_queries(self):
        outcomes = [Outcome(query=Query(text="q", id="1", role=role), model="m") for role in ("planner", "coder")]
        assert len(OutcomeTable.from_outcomes(outcomes)) == 1

    def test_the_latest_known_time_counts(self, make):
        times = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 3, 2)]
        found = OutcomeTable.from_outcomes([*(make(at=at) for at in times), make(at=None), make("other")])
        assert found.at[0] == times[1].timestamp()
        assert math.isnan(found.at[1])

    def test_one_row(self, make):
        found = OutcomeTable.from_outcomes([make(quality=1.0)])
        assert found.quality.tolist() == [[1.0]]

    @pytest.mark.parametrize("models", [None, ["another"]])
    def test_nothing_to_learn_from(self, make, models):
        with pytest.raises(DataError, match="no outcomes to learn from"):
            OutcomeTable.from_outcomes([make()] if models else [], models=models)

    def test_one_empty_prompt_among_others(self, make):
        assert len(OutcomeTable.from_outcomes([make(""), make("q")])) == 2

    def test_nothing_but_empty_prompts(self, make):
        with pytest.raises(DataError, match="nothing to route on"):
            OutcomeTable.from_outcomes([make("")])


class TestEmbeddings:
    def test_kept_when_all_come_from_one_embedder(self):
        outcomes = [Outcome(query=embedded("a", (1, 0)), model="m"), Outcome(query=embedded("b", (0, 1)), model="m")]
        found = OutcomeTable.from_outcomes(outcomes)
        assert found.embeddings.dtype == np.float32
        assert found.embeddings.tolist() == [[1, 0], [0, 1]]
        assert found.fingerprint == MINILM
        assert [query.embedding for query in found.queries] == [None, None]  # held once

    def test_one_outcome_of_a_query_suffices(self):
        outcomes = [Outcome(query=Query(text="a"), model="m"), Outcome(query=embedded("a", (0, 1)), model="n")]
        assert OutcomeTable.from_outcomes(outcomes).embeddings.tolist() == [[0, 1]]

    @pytest.mark.parametrize("second", [Query(text="b"), embedded("b", fingerprint=OTHER), embedded("b", fingerprint=None)])
    def test_left_out_when_missing_or_mixed(self, second):
        found = OutcomeTable.from_outcomes([Outcome(query=embedded("a"), model="m"), Outcome(query=second, model="m")])
        assert (found.embeddings, found.fingerprint) == (None, None)
        assert [query.embedding for query in found.queries] == [None, None]

    def test_of_the_wrong_length(self):
        with pytest.raises(DataError, match="another length"):
            OutcomeTable.from_outcomes([Outcome(query=embedded("a", (1, 0, 0)), model="m")])

    def test_survive_a_log_without_texts(self, tmp_path):
        with SqliteOutcomeLog(tmp_path / "log") as log:
            log.append(Outcome(query=embedded("a", (0, 1)), model="m", quality=1.0))
            found = OutcomeTable.from_log(log)
        assert found.embeddings.tolist() == [[0, 1]]

    @pytest.mark.parametrize("queued", [False, True])
    @pytest.mark.parametrize("second", [Query(text="b"), embedded("b", fingerprint=OTHER)])
    def test_a_log_without_texts_needs_them(self, tmp_path, second, queued):
        with SqliteOutcomeLog(tmp_path / "log") as log:
            log.extend([Outcome(query=embedded("a"), model="m"), Outcome(query=second, model="m")])
            source = QueuedOutcomeLog(log) if queued else log
            with pytest.raises(DataError, match=r"texts of 2 queries are not there.*store_prompts=True"):
                OutcomeTable.from_log(source)
            if queued:
                source.close()

    def test_a_log_with_some_texts_needs_them_too(self, tmp_path):
        with SqliteOutcomeLog(tmp_path / "log") as log:
            log.append(Outcome(query=Query(text="a"), model="m"))
        with SqliteOutcomeLog(tmp_path / "log", store_prompts=True) as log:
            log.append(Outcome(query=Query(text="b"), model="m"))
            with pytest.raises(DataError, match="texts of 1 queries"):
                OutcomeTable.from_log(log)
            log.append(Outcome(query=Query(text="a"), model="m"))
            log.append(Outcome(query=Query(text=""), model="m"))
            assert {query.text for query in OutcomeTable.from_log(log).queries} == {"a", "b", ""}


def test_from_log_applies_feedback(make):
    log = MemoryOutcomeLog()
    log.append(make(decision_id="d", quality=0.0))
    log.feedback("d", 1.0)
    assert OutcomeTable.from_log(log, models=["small"]).quality.tolist() == [[1.0]]


class TestChecks:
    def test_measures_may_be_left_out(self):
        found = OutcomeTable(queries=(Query(text="q"),), models=("a", "b"), quality=np.array([[1.0, NAN]]))
        assert np.isnan(found.cost).all()
        assert found.cost.shape == found.latency.shape == (1, 2)
        assert found.at.shape == (1,)

    @pytest.mark.parametrize("value", [7.0, -0.1, math.inf, -math.inf])
    def test_quality_out_of_range(self, value):
        quality = np.full((3, 2), 0.5)
        quality[2, 1] = value
        with pytest.raises(DataError, match=r"row 2 \(query 'query 2'\), model 'm1': quality .* \[0, 1\]: rescale"):
            table(n=3, quality=quality)

    @pytest.mark.parametrize("name", ["cost", "latency"])
    @pytest.mark.parametrize("value", [-1.0, math.inf])
    def test_cost_and_latency_out_of_range(self, name, value):
        with pytest.raises(DataError, match=f"row 0 .* {name}"):
            table(**{name: np.full((10, 2), value)})

    @pytest.mark.parametrize("name", ["quality", "cost", "latency"])
    def test_shapes(self, name):
        with pytest.raises(DataError, match=rf"{name} has the shape \(2, 10\), not \(10, 2\)"):
            table(**{name: np.zeros((2, 10))})

    def test_times(self):
        with pytest.raises(DataError, match="at has the shape"):
            table(at=np.zeros(3))
        with pytest.raises(DataError, match="infinite time"):
            table(at=np.full(10, math.inf))

    @pytest.mark.parametrize(("n", "m"), [(0, 2), (2, 0)])
    def test_empty(self, n, m):
        with pytest.raises(DataError, match="no outcomes"):
            table(n=n, m=m)

    def test_models_twice(self):
        with pytest.raises(DataError, match="twice"):
            table().select(["m0", "m0"])

    def test_embeddings_and_fingerprint_go_together(self):
        vectors = np.ones((10, 2), dtype=np.float32)
        with pytest.raises(DataError, match="go together"):
            table(embeddings=vectors)
        with pytest.raises(DataError, match="go together"):
            table(fingerprint=MINILM)

    def test_embeddings_of_another_shape(self):
        with pytest.raises(DataError, match=r"\(9, 2\), not \(10, 2\)"):
            table().with_embeddings(np.ones((9, 2), dtype=np.float32), MINILM)
        with pytest.raises(DataError, match=r"\(10, 3\), not \(10, 2\)"):
            table().with_embeddings(np.ones((10, 3), dtype=np.float32), MINILM)

    def test_embeddings_that_are_no_numbers(self):
        with pytest.raises(DataError, match="NaN or infinite"):
            table().with_embeddings(np.full((10, 2), NAN, dtype=np.float32), MINILM)


def test_with_embeddings():
    plain = table()
    found = plain.with_embeddings(np.ones((10, 2)), MINILM)
    assert found.embeddings.dtype == np.float32
    assert found.fingerprint == MINILM
    assert plain.embeddings is None
    assert found.quality is plain.quality


def test_take_rows():
    whole = table(at=np.arange(10.0), latency=np.arange(20.0).reshape(10, 2)).with_embeddings(np.eye(10)[:, :2], MINILM)
    found = whole.take([3, 1, 3])
    assert [query.text for query in found.queries] == ["query 3", "query 1", "query 3"]
    for name in ("quality", "cost", "latency", "embeddings", "at"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name)[[3, 1, 3]])
    mask = np.arange(10) % 2 == 0
    assert [query.text for query in whole.take(mask).queries] == [f"query {i}" for i in (0, 2, 4, 6, 8)]
    assert whole.take(np.array([-1])).queries[0].text == "query 9"
    with pytest.raises(DataError, match="no outcomes"):
        whole.take([])
    with pytest.raises(IndexError):
        whole.take([10])


def test_select_models():
    whole = table(m=3)
    found = whole.select(["m2", "m0"])
    assert found.models == ("m2", "m0")
    np.testing.assert_array_equal(found.quality, whole.quality[:, [2, 0]])
    np.testing.assert_array_equal(found.cost, whole.cost[:, [2, 0]])
    assert len(found) == len(whole)
    with pytest.raises(UnknownModelError, match="unknown model 'x': the table knows 'm0', 'm1', 'm2'"):
        whole.select(["x"])
    with pytest.raises(DataError):
        whole.select([])


class TestSplit:
    def test_parts(self):
        whole = table(100)
        train, test = whole.split(0.3)
        assert (len(train), len(test)) == (70, 30)
        texts = [{query.text for query in part.queries} for part in (train, test)]
        assert texts[0] | texts[1] == {query.text for query in whole.queries}
        assert not texts[0] & texts[1]
        rows = {query.text: whole.quality[i] for i, query in enumerate(whole.queries)}
        for part in (train, test):
            for i, query in enumerate(part.queries):
                np.testing.assert_array_equal(part.quality[i], rows[query.text])

    def test_seed(self):
        whole = table(100)
        parts = [{query.text for query in whole.split(seed=seed)[1].queries} for seed in (0, 0, 1)]
        assert parts[0] == parts[1] != parts[2]

    def test_rows_of_one_query_stay_together(self):
        train, test = table(20).take([*range(20), *range(20)]).split(0.5)
        assert not {query.text for query in train.queries} & {query.text for query in test.queries}
        assert len(train) == len(test) == 20

    @pytest.mark.parametrize("share", [0.001, 0.999])
    def test_no_part_is_empty(self, share):
        assert sorted(len(part) for part in table(10).split(share)) == [1, 9]

    @pytest.mark.parametrize("share", [0.0, 1.0, -1, 30])
    def test_share(self, share):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            table().split(share)

    def test_one_query(self):
        with pytest.raises(DataError, match="cannot be split"):
            table(1).split()


def test_outcomes_of_a_table():
    whole = OutcomeTable(
        queries=(Query(text="a", role="planner"), Query(text="b", id="B")),
        models=("m", "n"),
        quality=np.array([[1.0, NAN], [NAN, NAN]]),
        cost=np.array([[0.5, 0.25], [NAN, NAN]]),
        at=np.array([1_700_000_000.5, NAN]),
    ).with_embeddings(np.eye(2), MINILM)
    found = list(whole.outcomes())
    assert [(one.query.text, one.model, one.quality, one.cost, one.latency) for one in found] == [
        ("a", "m", 1.0, 0.5, None),
        ("a", "n", None, 0.25, None),
    ]
    assert found[0].query.role == "planner"
    assert found[0].query.embedding.tolist() == [1, 0]
    assert found[0].query.fingerprint == MINILM
    assert found[0].at == datetime.fromtimestamp(1_700_000_000.5, UTC)


def test_a_table_given_twice_to_a_log_is_stored_once(tmp_path):
    whole = table()
    with SqliteOutcomeLog(tmp_path / "log") as log:
        log.extend(whole.outcomes())
        log.extend(whole.outcomes())
        assert len(log) == 20
        changed = OutcomeTable(queries=whole.queries, models=whole.models, quality=1 - whole.quality)
        log.extend(changed.outcomes())
        assert len(log) == 40


def test_repr():
    assert repr(table(quality=np.array([[1.0, NAN]] * 10))) == "OutcomeTable(10 queries, 2 models, 50% observed)"
