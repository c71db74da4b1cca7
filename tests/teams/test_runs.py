"""The log of runs: what was written is there, whatever happened to the file."""

import json
import math
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.errors import DataError, OutcomesSkippedWarning, StorageError
from agentroute.teams import NONE, Role, RoleAllocator, RoleUsage, RunLog, Team, TeamRun
from agentroute.teams._runs import run_from_json, run_to_json
from agentroute.types import Fingerprint, ModelCard, Price, Query, Usage

PART = RoleUsage(
    usage=Usage(input_tokens=10, output_tokens=20, cache_read_tokens=3, cache_write_tokens=1),
    cost=0.01,
    latency=1.5,
    calls=2,
    score=0.5,
    error="Down",
    models=("small", "large"),
)
RUN = TeamRun(
    query=Query(
        text="a secret task",
        task="odd",
        tags={"team": "red"},
        embedding=np.array([0.1, -2.5, 3e-9], np.float32),
        fingerprint=Fingerprint(name="tiny", revision="1", dimension=3),
    ),
    models={"planner": "small", "critic": NONE},
    mode="debate",
    success=0.75,
    cost=0.02,
    latency=3.0,
    roles={"planner": PART, "critic": RoleUsage()},
    propensity=0.125,
    allocation_id="abc",
    at=datetime(2026, 7, 1, 12, tzinfo=UTC),
    metadata={"question": "q7", "tries": [1, 2]},
)


TEAM = Team(roles=[Role(name="planner")])


def same(one, other, *, words):
    for name in ("id", "models", "mode", "success", "cost", "latency", "roles", "propensity", "allocation_id", "at", "metadata"):
        assert getattr(one, name) == getattr(other, name)
    assert one.query.key() == other.query.key()
    assert (one.query.task, one.query.tags, one.query.fingerprint) == (
        other.query.task,
        other.query.tags,
        other.query.fingerprint,
    )
    assert (one.query.embedding == other.query.embedding).all()
    assert other.query.embedding.dtype == np.float32
    assert (other.query.text, other.query.withheld) == ((one.query.text, False) if words else ("", True))


@pytest.mark.parametrize("words", [True, False])
def test_a_run_comes_back_as_it_was(tmp_path, words):
    log = RunLog(tmp_path / "deep" / "runs.jsonl", store_prompts=words)
    log.append(RUN)
    [found] = log
    same(RUN, found, words=words)
    assert (b"secret" in log.path.read_bytes()) == words
    # Written again from what was read, it is the same line but for the words.
    again = run_to_json(found, store_prompts=words)
    assert again == json.loads(log.path.read_text())


def test_a_bare_run_comes_back(tmp_path):
    log = RunLog(tmp_path / "runs.jsonl")
    bare = TeamRun(query=Query(text="x"), models={"solver": "small"})
    log.append(bare)
    [found] = log
    assert found.id == bare.id
    assert found.query.embedding is None
    assert (found.success, found.cost, found.propensity, found.at, found.roles) == (None, None, None, None, {})


def test_nothing_yet_is_no_error(tmp_path):
    log = RunLog(tmp_path / "runs.jsonl")
    assert list(log) == []
    assert len(log) == 0
    (tmp_path / "runs.jsonl").touch()
    assert list(log) == []


def test_a_run_that_is_recorded_again_counts_once_with_the_last_word(tmp_path):
    log = RunLog(tmp_path / "runs.jsonl")
    other = replace(RUN, id="other")
    log.extend([replace(RUN, success=None), other, replace(RUN, success=1.0)])
    assert [(run.id, run.success) for run in log] == [(RUN.id, 1.0), ("other", 0.75)]


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(1, 2000))
def test_a_line_that_was_cut_off_costs_that_run_alone(tmp_path_factory, cut):
    log = RunLog(tmp_path_factory.mktemp("log") / "runs.jsonl")
    log.append(RUN)
    first = log.path.stat().st_size
    log.append(replace(RUN, id="second"))
    size = log.path.stat().st_size
    cut = min(cut, size - first - 1)
    os.truncate(log.path, size - cut)
    if cut == 1:
        # Only the line's end is missing: it is all there.
        assert [run.id for run in log] == [RUN.id, "second"]
    else:
        with pytest.warns(OutcomesSkippedWarning, match="1 line hold"):
            assert [run.id for run in log] == [RUN.id]
    log.append(replace(RUN, id="third"))
    if cut == 1:
        assert [run.id for run in log] == [RUN.id, "second", "third"]
    else:
        with pytest.warns(OutcomesSkippedWarning):
            assert [run.id for run in log] == [RUN.id, "third"]


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "5",
        "null",
        "[1]",
        '{"id": "a"}',
        "no json",
        "[" * 200_000,
        '{"id": "a", "query": {}, "models": {}, "success": 7}',
        "\xff\xfe",
    ],
)
def test_what_is_no_run_is_left_out_with_a_warning(tmp_path, line):
    log = RunLog(tmp_path / "runs.jsonl")
    log.append(RUN)
    with log.path.open("ab") as file:
        file.write(line.encode("latin-1") + b"\n\n")
    log.append(replace(RUN, id="after"))
    with pytest.warns(OutcomesSkippedWarning, match="hold no run"):
        assert [run.id for run in log] == [RUN.id, "after"]


def test_a_log_warns_once_however_it_is_read_and_is_learned_from_at_one_reading(tmp_path, monkeypatch):
    log = RunLog(tmp_path / "runs.jsonl")
    log.extend(replace(RUN, id=str(number)) for number in range(3))
    with log.path.open("a") as file:
        file.write("no run\n")
    for kind in (list, tuple, lambda runs: [*runs], lambda runs: RoleAllocator(TEAM, ["small"], log=runs).fit()):
        with pytest.warns(OutcomesSkippedWarning) as warned:
            kind(log)
        assert len(warned) == 1
    assert len(log) == 3
    # What learns from a long log reads it once.
    read = []
    monkeypatch.setattr("agentroute.teams._runs.run_from_json", lambda row: read.append(row) or run_from_json(row))
    with pytest.warns(OutcomesSkippedWarning):
        assert len(RoleAllocator(TEAM, ["small"], log=log).runs) == 3
    assert len(read) == 3


def test_metadata_that_json_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    log = RunLog(tmp_path / "runs.jsonl")
    for metadata in ({"x": object()}, {"x": math.nan}):
        with pytest.raises(DataError, match="plain JSON"):
            log.append(replace(RUN, metadata=metadata))
    assert not log.path.exists()


def test_a_file_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(StorageError, match="cannot be written"):
        RunLog(tmp_path).append(RUN)


def test_a_line_of_which_only_a_part_could_be_written_is_an_error(tmp_path, monkeypatch):
    log = RunLog(tmp_path / "runs.jsonl")
    log.append(RUN)
    real = os.write
    monkeypatch.setattr("agentroute.teams._runs.os.write", lambda descriptor, data: real(descriptor, data[:100]))
    with pytest.raises(StorageError, match="part of the line"):
        log.append(replace(RUN, id="second"))
    monkeypatch.undo()
    log.append(replace(RUN, id="third"))
    with pytest.warns(OutcomesSkippedWarning, match="1 line"):
        assert [run.id for run in log] == [RUN.id, "third"]


def test_threads_may_append_at_once(tmp_path):
    log = RunLog(tmp_path / "runs.jsonl")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: log.append(replace(RUN, id=str(n))), range(100)))
    assert sorted(int(run.id) for run in log) == list(range(100))


def _appends(path, start):
    log = RunLog(path)
    for number in range(start, start + 40):
        log.append(replace(RUN, id=str(number), metadata={"long": "x" * (number % 7) * 3000}))


def test_processes_may_append_at_once(tmp_path):
    path = tmp_path / "runs.jsonl"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_appends, args=(path, 40 * n)) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sorted(int(run.id) for run in RunLog(path)) == list(range(160))


def test_a_killed_process_has_written_what_append_returned_from(tmp_path):
    path = tmp_path / "runs.jsonl"
    context = multiprocessing.get_context("spawn")
    done = context.SimpleQueue()
    process = context.Process(target=_appends_until_killed, args=(path, done))
    process.start()
    last = max(done.get() for _ in range(5))
    process.kill()
    process.join()
    assert {int(run.id) for run in RunLog(path)} >= set(range(last + 1))


def _appends_until_killed(path, done):
    log, number = RunLog(path), 0
    while True:
        log.append(replace(RUN, id=str(number)))
        done.put(number)
        number += 1


def test_an_allocator_learns_from_its_log_without_the_words(tmp_path):
    team = Team(roles=[Role(name="solver")])
    cards = [ModelCard(id=name, price=Price(input=1, output=1)) for name in ("small", "large")]
    log = RunLog(tmp_path / "runs.jsonl")
    allocator = RoleAllocator(team, cards, log=log)
    words = ["write code for a parser of dates", "plan a trip to the sea with children"]
    for number in range(120):
        with allocator.session(f"{words[number % 2]} {number}", explore=1.0) as session:
            session.begin("solver").settle(cost=0.001)
            session.finish(success=float(number % 3 == 0))
    assert b"parser" not in log.path.read_bytes()
    report = RoleAllocator(team, cards, log=log).fit()
    assert report.runs == report.drawn == 120
    assert len(report.kinds) >= 2


def test_what_is_not_known_of_a_row_is_an_error_that_says_what_to_do():
    with pytest.raises(DataError, match=r"RunLog\(path\).append"):
        run_from_json({"id": "a"})


@pytest.mark.parametrize(
    "odd",
    [
        {"id": []},
        {"mode": ["chain"]},
        {"models": {"planner": ["small"]}},
        {"cost": "free"},
        {"metadata": [1]},
        {"roles": {"planner": {"calls": None}}},
        {"roles": {"planner": {"calls": -1}}},
        {"roles": {"planner": {"cost": "free"}}},
        {"roles": {"planner": {"cost": -1.0}}},
        {"roles": {"planner": {"latency": math.nan}}},
        {"roles": {"planner": {"score": 1.5}}},
        {"roles": {"planner": {"models": [["small"]]}}},
        {"query": {"id": "q", "embedding": "AADAfwAAwH8="}},  # two NaN
        {"query": {"id": "q", "embedding": "AACAfwAAAAA="}},  # infinity and 0
        {"query": {"id": "q", "embedding": "AADAfw"}},
    ],
)
def test_an_odd_line_is_left_out_and_the_others_are_read(tmp_path, odd):
    log = RunLog(tmp_path / "runs.jsonl")
    log.append(RUN)
    with log.path.open("a") as file:
        file.write(json.dumps({**run_to_json(replace(RUN, id="other")), **odd}) + "\n")
    with pytest.warns(OutcomesSkippedWarning, match="1 line hold"):
        assert [run.id for run in log] == [RUN.id]


def test_what_a_role_has_taken_is_checked():
    for wrong in ({"cost": -0.1}, {"cost": math.inf}, {"latency": math.nan}, {"score": 1.1}, {"calls": -1}):
        with pytest.raises(DataError, match=f"{next(iter(wrong))}=.* of a role is outside"):
            RoleUsage(**wrong)


def test_numbers_of_numpy_are_written_as_plain_ones_and_others_are_named(tmp_path):
    log = RunLog(tmp_path / "runs.jsonl")
    log.append(replace(RUN, success=np.float32(0.5), metadata={"tries": np.int64(3)}))
    [run] = log
    assert (run.success, run.metadata) == (0.5, {"tries": 3})
    with pytest.raises(DataError, match="the metadata 'why' of a run"):
        log.append(replace(RUN, metadata={"tries": 3, "why": object()}))
