"""Outcomes as arrays: averaging, holes, order, checks, splits."""

import math
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar

import numpy as np
import pytest

from agentroute.errors import ConfigError, DataError, EmbedderMismatchError, OutcomesSkippedWarning, UnknownModelError
from agentroute.outcomes import MemoryOutcomeLog, OutcomeTable, QueuedOutcomeLog, SqliteOutcomeLog
from agentroute.types import Fingerprint, Outcome, Price, Query, Usage

NAN = math.nan
MINILM = Fingerprint(name="minilm", revision="1", dimension=2)
OTHER = Fingerprint(name="minilm", revision="2", dimension=2)


def embedded(text, vector=(1, 0), fingerprint=MINILM, **fields):
    return Query(text=text, embedding=np.array(vector, dtype=np.float32), fingerprint=fingerprint, **fields)


def table(n=10, m=2, **fields):
    random = np.random.default_rng(0)
    queries = tuple(Query(text=f"query {i}") for i in range(n))
    return OutcomeTable(
        models=tuple(f"m{j}" for j in range(m)),
        **{"queries": queries, "quality": random.random((n, m)), "cost": random.random((n, m)), **fields},
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
        found = OutcomeTable.from_outcomes([make("")])
        assert [query.text for query in found.queries] == [""]
        assert found.withheld.tolist() == [False]

    def test_one_id_with_two_texts(self):
        outcomes = [Outcome(query=Query(text=text, id="q7"), model="m") for text in ("a", "", "b")]
        assert len(OutcomeTable.from_outcomes(outcomes[:2])) == 1
        with pytest.raises(DataError, match="query 'q7' has another text than before: give each query its own id"):
            OutcomeTable.from_outcomes(outcomes)
        log = MemoryOutcomeLog()
        log.extend(outcomes)
        with pytest.raises(DataError, match="query 'q7' has another text"):
            OutcomeTable.from_log(log, vectors=False)


class TestPrices:
    PRICES: ClassVar = {"a": Price(input=2.0, output=8.0, per_call=0.5), "b": Price(input=1e6, output=0.0)}
    USAGE: ClassVar = Usage(input_tokens=1_000_000, output_tokens=500_000)

    @pytest.mark.parametrize("through_a_log", [False, True])
    def test_tokens_become_costs_where_no_cost_was_logged(self, make, tmp_path, through_a_log):
        outcomes = [
            make("no cost", "a", usage=self.USAGE),
            make("a cost", "a", usage=self.USAGE, cost=0.25),
            make("free", "a", usage=self.USAGE, cost=0.0),
            make("no tokens", "a"),
            make("no price", "c", usage=self.USAGE),
            make("no tokens at all", "b", usage=Usage(input_tokens=0, output_tokens=0)),
        ]
        expected = [6.5, 0.25, 0.0, NAN, NAN, 0.0]
        if through_a_log:
            with SqliteOutcomeLog(tmp_path / "log", store_prompts=True) as log:
                log.extend(outcomes)
                found = OutcomeTable.from_log(log, prices=self.PRICES, models=["a", "b", "c"])
        else:
            found = OutcomeTable.from_outcomes(outcomes, prices=self.PRICES, models=["a", "b", "c"])
        cells = [0, 0, 0, 0, 2, 1]
        np.testing.assert_array_equal(found.cost[range(6), cells], expected)
        assert np.isnan(found.cost).sum() == 18 - 4

    def test_without_prices_costs_stay_unknown(self, make):
        assert np.isnan(OutcomeTable.from_outcomes([make("q", "a", usage=self.USAGE)]).cost).all()

    def test_something_else_than_a_price(self, make):
        with pytest.raises(ConfigError, match="give a Price for 'a'"):
            OutcomeTable.from_outcomes([make("q", "a", usage=self.USAGE)], prices={"a": 2.0})


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

    def test_the_newer_vector_counts_and_the_text_stays(self):
        stages = [
            Query(text="a", id="1"),
            embedded("", (1, 0), id="1"),
            embedded("", (0, 1), OTHER, id="1"),
            Query(text="", id="1"),
        ]
        found = OutcomeTable.from_outcomes(Outcome(query=query, model="m") for query in stages)
        assert found.queries[0].text == "a"
        assert (found.embeddings.tolist(), found.fingerprint) == ([[0, 1]], OTHER)

    def test_a_text_that_comes_later_completes_the_query(self):
        stages = [embedded("", (1, 0), id="1", withheld=True), Query(text="a", id="1")]
        found = OutcomeTable.from_outcomes(Outcome(query=query, model="m") for query in stages)
        assert (found.queries[0].text, found.withheld.tolist(), found.embeddings.tolist()) == ("a", [False], [[1, 0]])

    def test_a_vector_of_nobody_replaces_none(self):
        stages = [embedded("a", (1, 0)), embedded("a", (0, 1), None)]
        found = OutcomeTable.from_outcomes(Outcome(query=query, model="m") for query in stages)
        assert found.embeddings.tolist() == [[1, 0]]


LOGS = ["sqlite", "queued", "listed"]


@pytest.fixture(params=LOGS)
def withholding(request, tmp_path):
    """Stores outcomes of queries in a log that keeps no text, and gives it, or what it holds."""
    closing = ExitStack()

    def store(*queries):
        log = closing.enter_context(SqliteOutcomeLog(tmp_path / "log"))
        log.extend(Outcome(query=query, model="m", quality=i / 10) for i, query in enumerate(queries))
        return closing.enter_context(QueuedOutcomeLog(log)) if request.param == "queued" else log

    def read(*queries, **options):
        log = store(*queries)
        return (
            OutcomeTable.from_outcomes(list(log), **options)
            if request.param == "listed"
            else OutcomeTable.from_log(log, **options)
        )

    with closing:
        yield read


class TestWithheld:
    def test_one_row_without_a_vector_costs_only_itself(self, withholding):
        with pytest.warns(OutcomesSkippedWarning, match=r"1 of 3 queries are left out.*no vector of minilm@1 \(2-d\)") as caught:
            found = withholding(embedded("a", (1, 0)), Query(text="b"), embedded("c", (0, 1)))
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert found.embeddings.tolist() == [[1, 0], [0, 1]]
        assert found.fingerprint == MINILM
        assert found.quality.tolist() == [[0.0], [0.2]]
        assert found.withheld.tolist() == [True, True]

    def test_the_most_frequent_embedder_counts(self, withholding):
        with pytest.warns(OutcomesSkippedWarning, match=r"1 of 3 .*minilm@2"):
            found = withholding(embedded("a"), embedded("b", (0, 1), OTHER), embedded("c", (1, 0), OTHER))
        assert (found.fingerprint, found.quality.ravel().tolist()) == (OTHER, [0.1, 0.2])
        assert found.embeddings.tolist() == [[0, 1], [1, 0]]

    def test_the_wanted_embedder_counts(self, withholding):
        with pytest.warns(OutcomesSkippedWarning, match=r"2 of 3 .*minilm@1"):
            found = withholding(embedded("a"), embedded("b", (0, 1), OTHER), embedded("c", (1, 0), OTHER), fingerprint=MINILM)
        assert (found.fingerprint, found.quality.tolist()) == (MINILM, [[0.0]])

    def test_a_vector_that_is_no_number_costs_only_itself(self, withholding):
        with pytest.warns(OutcomesSkippedWarning, match="1 of 2"):
            found = withholding(embedded("a", (NAN, 0)), embedded("b", (0, 1)))
        assert found.embeddings.tolist() == [[0, 1]]

    def test_nothing_is_left(self, withholding):
        with pytest.raises(DataError, match=r"no text of its 2 queries, and no vector of any embedder.*store_prompts=True"):
            withholding(Query(text="a"), Query(text="b"))

    def test_nothing_is_left_of_the_wanted_embedder(self, withholding):
        with pytest.raises(DataError, match=r"no vector of minilm@2 .*embedders of its vectors: minilm@1"):
            withholding(embedded("a"), Query(text="b"), fingerprint=OTHER)

    def test_without_vectors_all_rows_count(self, withholding):
        found = withholding(embedded("a"), Query(text="b"), Query(text=""), embedded("d", fingerprint=OTHER), vectors=False)
        assert found.quality.ravel().tolist() == [0.0, 0.1, 0.2, 0.3]
        assert (found.embeddings, found.fingerprint) == (None, None)
        assert [query.embedding for query in found.queries] == [None] * 4
        assert found.withheld.tolist() == [True, True, False, True]

    def test_an_empty_prompt_is_a_text(self, withholding):
        with pytest.warns(OutcomesSkippedWarning, match="1 of 2"):
            found = withholding(Query(text=""), Query(text="b"))
        assert (found.embeddings, found.withheld.tolist()) == (None, [False])

    def test_texts_and_vectors_side_by_side(self, tmp_path):
        with SqliteOutcomeLog(tmp_path / "log") as log:
            log.extend(Outcome(query=query, model="m") for query in (embedded("a", (0, 1)), Query(text="lost")))
        with SqliteOutcomeLog(tmp_path / "log", store_prompts=True) as log:
            log.extend(Outcome(query=query, model="m") for query in (Query(text="b"), embedded("c", (1, 0), OTHER)))
            with pytest.warns(OutcomesSkippedWarning, match="1 of 4"):
                found = OutcomeTable.from_log(log, fingerprint=MINILM)
        assert [query.text for query in found.queries] == ["", "b", "c"]
        assert found.withheld.tolist() == [True, False, False]
        assert found.embeddings is None
        made = found.take([1, 2, 0]).embedded(Lengths().embed, MINILM)
        assert made.embeddings.tolist() == [[1, 0], [1, 0], [0, 1]]
        assert [query.embedding for query in made.queries] == [None] * 3

    def test_carried_along(self):
        whole = table(withheld=np.arange(10) % 2 == 0, queries=tuple(Query(text="", id=str(i)) for i in range(10)))
        assert whole.take([0, 1, 2]).withheld.tolist() == [True, False, True]
        assert whole.select(["m0"]).withheld.tolist() == whole.withheld.tolist()
        assert whole.with_embeddings(np.ones((10, 2)), MINILM).withheld.tolist() == whole.withheld.tolist()
        for part in whole.split():
            assert part.withheld.tolist() == [int(query.id) % 2 == 0 for query in part.queries]
        assert OutcomeTable.from_outcomes(whole.outcomes(), vectors=False).withheld.tolist() == whole.withheld.tolist()

    def test_left_out_is_what_the_queries_say(self):
        assert table().withheld.tolist() == [False] * 10
        assert table(n=1, queries=(Query(text="", withheld=True),)).withheld.tolist() == [True]
        assert table(withheld=np.ones(10, dtype=bool)).withheld.tolist() == [False] * 10  # their texts are there
        with pytest.raises(DataError, match=r"withheld has the shape \(3,\), not \(10,\)"):
            table(withheld=np.zeros(3, dtype=bool))


class Lengths:
    """An embedder that notes what it was given: the first axis for texts, the second for empty ones."""

    def __init__(self):
        self.given = []

    def embed(self, texts):
        self.given += texts
        return np.array([[1, 0] if text else [0, 1] for text in texts], dtype=np.float32)


class TestEmbedded:
    def test_is_the_same_table_when_the_vectors_fit(self):
        whole = table().with_embeddings(np.ones((10, 2)), MINILM)
        assert whole.embedded(Lengths().embed, MINILM) is whole

    def test_texts_are_embedded_anew_for_another_embedder(self):
        embedder = Lengths()
        found = table(n=2).with_embeddings(np.full((2, 2), 0.5), OTHER).embedded(embedder.embed, MINILM)
        assert embedder.given == ["query 0", "query 1"]
        assert (found.embeddings.tolist(), found.fingerprint) == ([[1, 0], [1, 0]], MINILM)

    def test_what_cannot_be_embedded_is_left_out(self):
        queries = (Query(text="", withheld=True), Query(text="a"), Query(text=""))
        whole = table(n=3, queries=queries).with_embeddings(np.ones((3, 2)), OTHER)
        with pytest.warns(OutcomesSkippedWarning, match="1 of 3") as caught:
            found = whole.embedded(Lengths().embed, MINILM)
        assert caught[0].filename == __file__
        assert found.embeddings.tolist() == [[1, 0], [0, 1]]
        np.testing.assert_array_equal(found.quality, whole.quality[1:])

    def test_nothing_is_left(self):
        whole = table(n=1, queries=(Query(text="", withheld=True),)).with_embeddings(np.ones((1, 2)), OTHER)
        with pytest.raises(EmbedderMismatchError) as caught:
            whole.embedded(Lengths().embed, MINILM)
        assert (caught.value.expected, caught.value.found) == (OTHER, MINILM)


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
        for wrong in (math.inf, -math.inf, 1e300, -1e12):
            with pytest.raises(DataError, match="no calendar has"):
                table(at=np.full(10, wrong))
        last = table(at=np.full(10, 253_402_300_799.0))
        assert {outcome.at.year for outcome in last.outcomes()} == {9999}

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


class TestSamples:
    def test_are_counted(self, make):
        outcomes = [make(quality=q) for q in (1.0, 0.0, None)] + [make(model="large", cost=1.0)]
        found = OutcomeTable.from_outcomes(outcomes)
        assert found.samples.tolist() == [[2.0, 0.0]]  # what was not judged is no sample of the quality
        assert found.samples.dtype == np.float64
        log = MemoryOutcomeLog()
        log.extend(outcomes)
        assert OutcomeTable.from_log(log).samples.tolist() == [[2.0, 0.0]]

    @pytest.mark.parametrize("samples", [None, np.zeros((2, 2)), np.full((2, 2), NAN)])
    def test_nobody_counted(self, samples):
        quality = np.array([[1.0, NAN], [0.5, 0.0]])
        fields = {} if samples is None else {"samples": samples}
        assert table(2, quality=quality, **fields).samples.tolist() == [[1.0, 0.0], [1.0, 1.0]]

    def test_follow_the_quality(self):
        whole = table(2, samples=np.array([[3, 1], [2, 5]]))
        holed = replace(whole, quality=np.array([[NAN, 0.5], [0.5, 0.5]]))
        assert holed.samples.tolist() == [[0.0, 1.0], [2.0, 5.0]]
        assert replace(holed, quality=whole.quality).samples.tolist() == [[1.0, 1.0], [2.0, 5.0]]

    def test_carried_along(self):
        counts = np.arange(1, 21.0).reshape(10, 2)
        whole = table(samples=counts)
        np.testing.assert_array_equal(whole.take([3, 1, 3]).samples, counts[[3, 1, 3]])
        np.testing.assert_array_equal(whole.select(["m1"]).samples, counts[:, [1]])
        np.testing.assert_array_equal(whole.with_embeddings(np.ones((10, 2)), MINILM).samples, counts)
        place = {query.text: row for row, query in enumerate(whole.queries)}
        for part in whole.split():
            np.testing.assert_array_equal(part.samples, counts[[place[query.text] for query in part.queries]])

    def test_survive_a_log(self, tmp_path):
        whole = table(2, samples=np.array([[1, 3], [2, 10]]))
        given = list(whole.outcomes())
        assert given[0].metadata == {}
        with SqliteOutcomeLog(tmp_path / "log", store_prompts=True) as log:
            log.extend(given)
            # One more answer of its own for the cell that three stand behind.
            log.append(Outcome(query=whole.queries[0], model="m1", quality=0.0))
            found = OutcomeTable.from_log(log)
        np.testing.assert_array_equal(found.samples, [[1, 4], [2, 10]])
        assert found.quality[0, 1] == pytest.approx(whole.quality[0, 1] * 3 / 4)
        np.testing.assert_array_equal(found.quality[1], whole.quality[1])

    def test_are_part_of_an_outcomes_content(self):
        ids = [[one.id for one in table(2, samples=np.full((2, 2), k)).outcomes()] for k in (1.0, 2.0, 2.0)]
        assert ids[0] != ids[1] == ids[2]
        assert ids[0] == [one.id for one in table(2).outcomes()]

    @pytest.mark.parametrize("count", [-1.0, 2.5, math.inf])
    def test_no_count(self, count):
        with pytest.raises(DataError, match=rf"row 1 \(query 'query 1'\), model 'm0': samples {count:g} is no count"):
            table(2, samples=np.array([[1, 1], [count, 1]]))

    def test_another_shape(self):
        with pytest.raises(DataError, match=r"samples has the shape \(2,\), not \(2, 2\)"):
            table(2, samples=np.ones(2))

    @pytest.mark.parametrize("said", [0, 1.5, "3", None])
    def test_an_outcome_that_says_nonsense(self, make, said):
        with pytest.raises(DataError, match=r"agentroute\.samples=.* give a whole number of at least 1"):
            OutcomeTable.from_outcomes([make(quality=1.0, metadata={"agentroute.samples": said})])


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
