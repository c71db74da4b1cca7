"""What holds for any outcomes (hypothesis)."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.outcomes import MemoryOutcomeLog, OutcomeTable, SqliteOutcomeLog
from agentroute.types import Outcome, Query, Usage

text = st.text(st.characters(), max_size=8)  # surrogates and NUL included
clean = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
unit = st.none() | st.floats(0, 1)
amount = st.none() | st.floats(0, 1e6)
count = st.integers(0, 10**9)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text, lambda inner: st.lists(inner, max_size=2)
)
queries = st.builds(
    Query,
    text=clean,
    id=st.none() | st.sampled_from(["1", "2", "é"]),
    role=st.none() | clean,
    task=st.none() | st.sampled_from(["a", "b"]),
    tags=st.dictionaries(text, text, max_size=2),
)
outcomes = st.builds(
    Outcome,
    query=queries,
    model=st.sampled_from(["m", "n", "ö"]),
    quality=unit,
    cost=amount,
    latency=amount,
    usage=st.none() | st.builds(Usage, input_tokens=count, output_tokens=count, cache_read_tokens=count),
    error=st.none() | clean,
    decision_id=st.none() | st.sampled_from(["d1", "d2"]),
    attempt=st.integers(0, 3),
    propensity=unit,
    scorer=st.none() | clean,
    at=st.none() | st.integers(0, 7 * 10**15).map(lambda micro: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micro)),
    metadata=st.dictionaries(text, values, max_size=2),
)
votes = st.lists(st.tuples(st.sampled_from(["d1", "d2", "d3"]), st.floats(0, 1), st.sampled_from(["user", "judge"])), max_size=4)
EXACT = (
    "model",
    "quality",
    "latency",
    "usage",
    "error",
    "decision_id",
    "attempt",
    "propensity",
    "scorer",
    "at",
    "metadata",
    "id",
)


def on_disk(folder):
    return SqliteOutcomeLog(Path(folder, "log.sqlite"), store_prompts=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(outcomes, max_size=6))
def test_the_disk_gives_back_what_it_was_given(given_):
    with tempfile.TemporaryDirectory() as folder, on_disk(folder) as log:
        log.extend(given_)
        found = list(log)
    assert len(found) == len(given_)
    for before, after in zip(given_, found, strict=True):
        for name in EXACT:
            assert getattr(after, name) == getattr(before, name), name
        assert (before.cost is None) == (after.cost is None)
        if before.cost is not None:
            assert abs(before.cost - after.cost) <= 1e-9 + 1e-15 * before.cost
            assert (before.cost > 0) == (after.cost > 0)
        if before.query.id is None:
            assert (after.query.text, after.query.labels) == (before.query.text, before.query.labels)


@settings(max_examples=60, deadline=None)
@given(st.lists(outcomes, max_size=6), votes)
def test_disk_and_memory_agree_on_feedback(given_, votes):
    memory = MemoryOutcomeLog()
    with tempfile.TemporaryDirectory() as folder, on_disk(folder) as disk:
        for log in (memory, disk):
            log.extend(given_)
        for decision, score, source in votes:
            assert memory.feedback(decision, score, source=source) == disk.feedback(decision, score, source=source)
        for left, right in zip(memory, disk, strict=True):
            assert (left.quality is None) == (right.quality is None)
            assert left.quality is None or abs(left.quality - right.quality) < 1e-12
            assert left.scorer == right.scorer


@settings(max_examples=40, deadline=None)
@given(st.lists(outcomes, min_size=1, max_size=5), st.data())
def test_appending_is_idempotent(given_, data):
    again = data.draw(st.lists(st.sampled_from(given_), max_size=10))
    with tempfile.TemporaryDirectory() as folder, on_disk(folder) as log:
        log.extend(given_)
        for outcome in again:
            log.append(outcome)
        assert [outcome.id for outcome in log] == [outcome.id for outcome in given_]


@settings(max_examples=60, deadline=None)
@given(st.lists(outcomes, min_size=1, max_size=12))
def test_log_and_table_round_trip(given_):
    with tempfile.TemporaryDirectory() as folder, on_disk(folder) as log:
        log.extend(given_)
        table = OutcomeTable.from_log(log)
        known = ~(np.isnan(table.quality) & np.isnan(table.cost) & np.isnan(table.latency))
    if not known.any():
        return
    log = MemoryOutcomeLog()
    log.extend(table.outcomes())
    assert len(log) == known.sum()
    again = OutcomeTable.from_log(log, models=table.models)
    rows = known.any(axis=1)
    assert [query.key() for query in again.queries] == [
        query.key() for query, kept in zip(table.queries, rows, strict=True) if kept
    ]
    for name in ("quality", "cost", "latency", "samples"):
        np.testing.assert_array_equal(getattr(again, name), getattr(table, name)[rows])
    np.testing.assert_allclose(again.at, table.at[rows], rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("mn"), unit), min_size=1, max_size=12))
def test_cells_are_means_of_what_was_observed(rows):
    table = OutcomeTable.from_outcomes(Outcome(query=Query(text=text), model=model, quality=score) for text, model, score in rows)
    for i, query in enumerate(table.queries):
        for j, model in enumerate(table.models):
            seen = [score for text, name, score in rows if (text, name) == (query.text, model) and score is not None]
            np.testing.assert_allclose(table.quality[i, j], np.mean(seen) if seen else np.nan, rtol=1e-12)
            assert table.samples[i, j] == len(seen)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("mn"), unit), min_size=2, max_size=12), st.integers(1, 11))
def test_means_of_means_are_means_of_samples(rows, cut):
    """Two logs that were averaged first say together what they would have said unaveraged."""
    parts = [
        OutcomeTable.from_outcomes(Outcome(query=Query(text=text), model=model, quality=score) for text, model, score in part)
        for part in (rows[:cut], rows[cut:])
        if part
    ]
    whole = OutcomeTable.from_outcomes(Outcome(query=Query(text=text), model=model, quality=score) for text, model, score in rows)
    again = OutcomeTable.from_outcomes(
        [one for part in parts for one in part.outcomes()] or [Outcome(query=Query(text="a"), model="m")]
    )
    places = {(query.text, model): (i, j) for i, query in enumerate(again.queries) for j, model in enumerate(again.models)}
    for i, query in enumerate(whole.queries):
        for j, model in enumerate(whole.models):
            if whole.samples[i, j]:
                place = places[query.text, model]
                assert again.samples[place] == whole.samples[i, j]
                np.testing.assert_allclose(again.quality[place], whole.quality[i, j], rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.floats(0.05, 0.95), st.integers(0, 5), st.randoms(use_true_random=False))
def test_a_split_does_not_depend_on_the_order_of_rows(n, share, seed, random):
    table = OutcomeTable(
        queries=tuple(Query(text=f"q{i}") for i in range(n)), models=("m",), quality=np.linspace(0, 1, n)[:, None]
    )
    order = list(range(n))
    random.shuffle(order)
    parts = [{query.text for query in part.queries} for part in table.split(share, seed=seed)]
    shuffled = [{query.text for query in part.queries} for part in table.take(order).split(share, seed=seed)]
    assert parts == shuffled
    assert parts[0] | parts[1] == {query.text for query in table.queries}
    assert not parts[0] & parts[1]
