"""The contract of every outcome log: in memory, on disk, and behind a queue."""

import math
from datetime import UTC, datetime

import pytest

from agentroute.errors import DataError
from agentroute.outcomes import MemoryOutcomeLog, OutcomeLog, QueuedOutcomeLog, SqliteOutcomeLog
from agentroute.types import Outcome, Query, Usage


@pytest.fixture(params=["memory", "sqlite", "queued memory", "queued sqlite"])
def log(request, tmp_path):
    under = SqliteOutcomeLog(tmp_path / "log.sqlite", store_prompts=True) if "sqlite" in request.param else MemoryOutcomeLog()
    made = QueuedOutcomeLog(under) if "queued" in request.param else under
    yield made
    for one in (made, under):
        if not isinstance(one, MemoryOutcomeLog):
            one.close()


def test_is_an_outcome_log(log):
    assert isinstance(log, OutcomeLog)


def test_keeps_everything_of_an_outcome(log):
    outcome = Outcome(
        query=Query(text="Träume 夢", id="q1", role="planner", task="poem", tags={"language": "de"}),
        model="large",
        quality=0.25,
        cost=0.000_123_456,
        latency=1.5,
        usage=Usage(input_tokens=10, output_tokens=20, cache_read_tokens=3, cache_write_tokens=4),
        error="TimeoutError",
        decision_id="d1",
        attempt=2,
        propensity=0.125,
        scorer="judge",
        at=datetime(2026, 5, 4, 3, 2, 1, 987_654, tzinfo=UTC),
        metadata={"nested": [1, None, {"x": "y"}]},
    )
    log.append(outcome)
    (found,) = log
    for name in ("text", "id", "role", "task", "tags"):
        assert getattr(found.query, name) == getattr(outcome.query, name)
    for name in Outcome.__slots__:
        if name != "query":
            assert getattr(found, name) == getattr(outcome, name), name


def test_unknown_stays_unknown(log, make):
    log.append(make())
    (found,) = log
    unknown = ("quality", "cost", "latency", "usage", "error", "decision_id", "propensity", "scorer", "at")
    assert [getattr(found, name) for name in unknown] == [None] * len(unknown)


def test_order_and_length(log, make):
    log.append(make(model="a"))
    log.extend(make(model=name) for name in "bcd")
    log.append(make(model="e"))
    assert len(log) == 5
    assert "".join(outcome.model for outcome in log) == "abcde"


def test_extending_by_nothing_does_nothing(log):
    log.extend([])
    assert len(log) == 0
    assert list(log) == []


def test_one_id_is_stored_once(log, make):
    first = make(model="a", id="same")
    log.append(first)
    log.append(make(model="b", id="same"))
    log.extend([first, first])
    assert [outcome.model for outcome in log] == ["a"]


def test_same_text_and_labels_are_one_query(log, make):
    same = [make(query=Query(text="hi", tags={"a": "1"})), make(query=Query(text="hi", tags={"a": "1"}))]
    other = [make(query=Query(text="hi", tags={"a": "2"})), make(query=Query(text="hi")), make(query=Query(text="ho"))]
    log.extend(same + other)
    keys = [outcome.query.key() for outcome in log]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


def test_feedback_replaces_quality_and_is_averaged(log, make):
    log.append(make(decision_id="d1", quality=0.0, scorer="verifier"))
    log.append(make(decision_id="d2", quality=0.5, scorer="verifier"))
    assert log.feedback("d1", 1.0)
    (judged, other) = log
    assert (judged.quality, judged.scorer) == (1.0, "user")
    assert (other.quality, other.scorer) == (0.5, "verifier")
    log.feedback("d1", 0.5, source="support desk")
    assert next(iter(log)).quality == pytest.approx(0.75)
    assert next(iter(log)).scorer == "feedback"


def test_feedback_may_arrive_first(log, make):
    log.feedback("d1", 0.25)
    assert list(log) == []
    log.append(make(decision_id="d1"))
    assert [outcome.quality for outcome in log] == [0.25]


def test_feedback_counts_once_for_each_key(log, make):
    log.append(make(decision_id="d1"))
    log.feedback("d1", 1.0)
    log.feedback("d1", 0.0)  # the same user again
    log.feedback("d1", 0.5, idempotency_key="k")
    log.feedback("d1", 0.0, idempotency_key="k")
    assert next(iter(log)).quality == pytest.approx(0.75)


def test_feedback_says_whether_it_is_new(log):
    if isinstance(log, QueuedOutcomeLog):
        assert [log.feedback("d", 1.0), log.feedback("d", 1.0)] == [True, True]  # queued, both
    else:
        assert [log.feedback("d", 1.0), log.feedback("d", 1.0), log.feedback("e", 1.0)] == [True, False, True]


def test_feedback_judges_the_attempt_that_answered(log, make):
    log.extend(
        [
            make(model="first", decision_id="d", attempt=0, error="TimeoutError"),
            make(model="answered", decision_id="d", attempt=2),
            make(model="cascade step", decision_id="d", attempt=1, quality=0.5),
            make(model="failed too", decision_id="d", attempt=3, error="TimeoutError"),
            make(model="another", decision_id="e", attempt=9),
        ]
    )
    log.feedback("d", 1.0)
    assert {outcome.model: outcome.quality for outcome in log if outcome.quality is not None} == {
        "answered": 1.0,
        "cascade step": 0.5,
    }


def test_feedback_judges_the_answer_that_was_given_though_a_later_model_answered_too(log, make):
    log.extend(
        [
            make(model="given", decision_id="d", attempt=0, metadata={"chosen": True, "accepted": False}),
            make(model="worse", decision_id="d", attempt=1, metadata={"accepted": False}),
            make(model="not given", decision_id="d", attempt=2, metadata={"chosen": False}),
        ]
    )
    log.feedback("d", 1.0)
    assert {outcome.model: outcome.quality for outcome in log if outcome.quality is not None} == {"given": 1.0}


@pytest.mark.parametrize("odd", [math.nan, 0.5])
def test_feedback_judges_the_answer_that_was_given_though_it_broke_on_its_way(log, make, odd):
    log.extend(
        [
            make(model="not given", decision_id="d", attempt=0, metadata={"accepted": False}),
            make(model="broken", decision_id="d", attempt=1, error="ConnectionError", metadata={"chosen": True, "margin": odd}),
            make(model="failed", decision_id="d", attempt=2, error="ConnectionError", metadata={"margin": odd}),
        ]
    )
    log.feedback("d", 0.25)
    assert {outcome.model: outcome.quality for outcome in log if outcome.quality is not None} == {"broken": 0.25}


@pytest.mark.parametrize("odd", [math.nan, math.inf, "plain"])
def test_metadata_that_are_no_strict_json_mark_the_answer_too(log, make, odd):
    log.extend(
        [
            make(model="given", decision_id="d", attempt=0, metadata={"margin": odd, "chosen": True}),
            make(model="not given", decision_id="d", attempt=1, metadata={"margin": odd}),
            make(model="bare", decision_id="d", attempt=2),
        ]
    )
    log.feedback("d", 1.0)
    assert {outcome.model: outcome.quality for outcome in log if outcome.quality is not None} == {"given": 1.0}


@pytest.mark.parametrize("mark", [1, "true", [True], {"a": True}, None])
@pytest.mark.parametrize("odd", [math.nan, 0.5])
def test_only_true_marks_the_answer_that_was_given(log, make, mark, odd):
    log.append(make(model="first", decision_id="d", attempt=0, metadata={"chosen": mark, "margin": odd}))
    log.append(make(model="last", decision_id="d", attempt=1, metadata={"margin": odd}))
    log.feedback("d", 1.0)
    assert {outcome.model: outcome.quality for outcome in log if outcome.quality is not None} == {"last": 1.0}


@pytest.mark.parametrize("score", [-0.01, 1.01, 7, math.nan, math.inf])
def test_feedback_out_of_range(log, make, score):
    log.append(make(decision_id="d1"))
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        log.feedback("d1", score)
    assert next(iter(log)).quality is None


def test_iterating_does_not_see_what_is_added_meanwhile(log, make):
    log.extend(make(model=f"m{i}", decision_id=f"d{i}") for i in range(700))
    rows = iter(log)
    first = next(rows)
    log.append(make(model="late"))
    log.feedback("d699", 1.0)
    if isinstance(log, QueuedOutcomeLog):
        assert log.flush(30)
    rest = list(rows)
    assert [outcome.model for outcome in (first, *rest)] == [f"m{i}" for i in range(700)]
    assert rest[-1].quality is None
    assert len(log) == 701
    assert list(log)[699].quality == 1.0


def test_text_that_cannot_be_encoded(log, make):
    bad = "a\ud800b"
    log.append(
        Outcome(
            query=Query(text=bad, id=bad, role=bad, task=bad, tags={bad: bad}),
            model=bad,
            error=bad,
            scorer=bad,
            decision_id=bad,
            metadata={bad: [bad]},
        )
    )
    log.append(make(query=Query(text=bad, tags={bad: bad})))
    log.feedback(bad, 0.5, source=bad)
    assert len(log) == 2
    assert next(iter(log)).query.text == "a\ufffdb"


@pytest.mark.parametrize("text", ["", "x" * 1_000_000, "nul \0 inside"])
def test_unusual_prompts(log, make, text):
    log.append(make(text))
    assert [outcome.query.text for outcome in log] == [text]
