"""The log on disk: its file, its privacy, its arithmetic, and its company of threads and processes."""

import gc
import math
import os
import re
import sqlite3
import threading
import weakref
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from agentroute.errors import ConfigError, DataError, StorageError
from agentroute.outcomes import SqliteOutcomeLog
from agentroute.outcomes._schema import SCHEMA_VERSION
from agentroute.types import Fingerprint, Outcome, Query

GOLDEN = Path(__file__).parent / "golden"
MINILM = Fingerprint(name="minilm", revision="1", dimension=3)
OTHER = Fingerprint(name="minilm", revision="2", dimension=3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.sqlite"


def embedded(text, vector, fingerprint=MINILM):
    return Query(text=text, embedding=np.array(vector, dtype=np.float32), fingerprint=fingerprint)


def test_is_there_after_reopening(path, make):
    with SqliteOutcomeLog(path) as log:
        log.append(make("hello", "a"))
    with SqliteOutcomeLog(str(path)) as log:
        log.append(make("hello", "b"))
        first, second = log
    assert (first.model, second.model) == ("a", "b")
    assert first.query.id == second.query.id  # the salt is the file's, so the same text is the same query


def test_each_file_has_its_own_salt(tmp_path, make):
    keys = set()
    for name in "ab":
        with SqliteOutcomeLog(tmp_path / name) as log:
            log.append(make("hello"))
            keys |= {outcome.query.id for outcome in log}
    assert len(keys) == 2
    assert Query(text="hello").key() not in keys


def test_is_in_wal_mode(path):
    with SqliteOutcomeLog(path), closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize(("durability", "level"), [("process", 1), ("power", 2)])
def test_durability(path, durability, level):
    with SqliteOutcomeLog(path, durability=durability) as log, log._database() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (30_000,)


def test_wrong_arguments(path):
    with pytest.raises(ConfigError, match="'process' or 'power'"):
        SqliteOutcomeLog(path, durability="none")
    with pytest.raises(ConfigError, match="MemoryOutcomeLog"):
        SqliteOutcomeLog(":memory:")
    assert not path.exists()


@pytest.mark.parametrize("store", [False, True])
def test_prompts_are_on_disk_only_when_asked(path, store):
    secret = "correct horse battery staple"
    with SqliteOutcomeLog(path, store_prompts=store) as log:
        log.append(Outcome(query=embedded(secret, [1, 0, 0]), model="a", metadata={"n": 1}))
        log.append(Outcome(query=Query(text=secret, id="named", role="planner"), model="a"))
        log.feedback("d", 1.0)
        assert [outcome.query.text for outcome in log] == [secret if store else ""] * 2
        assert log.withheld == (0 if store else 2)
        assert [outcome.query.withheld for outcome in log] == [not store] * 2
        files = [path, Path(f"{path}-wal"), Path(f"{path}-shm")]
        while_open = b"".join(file.read_bytes() for file in files)
    assert (secret.encode() in while_open) is store
    assert (secret.encode() in path.read_bytes()) is store
    assert b"planner" in path.read_bytes()  # the search would find text


def test_money_is_kept_in_whole_nano_dollars(path, make):
    with SqliteOutcomeLog(path) as log:
        log.extend(make(cost=0.1) for _ in range(3))
        log.append(make(cost=1e-9))
        log.append(make(cost=0.0))
        log.append(make(cost=None))
        log.append(make(cost=1e-12))  # next to nothing is not nothing
        assert [outcome.cost for outcome in log] == [0.1, 0.1, 0.1, 1e-9, 0.0, None, 1e-9]
    with closing(sqlite3.connect(path)) as raw:
        rows = raw.execute("SELECT cost_nano, typeof(cost_nano) FROM outcomes").fetchall()
    assert rows == [(100_000_000, "integer")] * 3 + [(1, "integer"), (0, "integer"), (None, "null"), (1, "integer")]


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"cost": 1e10}, "one call"), ({"metadata": {"x": object()}}, "plain JSON"), ({"metadata": {"x": {1, 2}}}, "plain JSON")],
)
def test_what_cannot_be_stored_is_refused_and_costs_nothing_else(path, make, fields, message):
    with SqliteOutcomeLog(path) as log:
        with pytest.raises(DataError, match=message):
            log.extend([make(), make(**fields)])
        assert len(log) == 0  # all or nothing
        log.append(make())
        assert len(log) == 1


def test_an_iterable_that_raises_stores_nothing(path, make):
    def broken():
        yield make()
        raise RuntimeError("half way")

    with SqliteOutcomeLog(path) as log:
        with pytest.raises(RuntimeError):
            log.extend(broken())
        assert len(log) == 0


def test_numpy_scalars(path, make):
    with SqliteOutcomeLog(path) as log:
        log.append(make(quality=np.float32(0.5), cost=np.float64(0.25), latency=np.float32(2), attempt=np.int64(3)))
        (found,) = log
    assert (found.quality, found.cost, found.latency, found.attempt) == (0.5, 0.25, 2.0, 3)


def test_nan_is_unknown(path, make):
    with SqliteOutcomeLog(path) as log:
        log.append(make(quality=math.nan, cost=math.nan))
        (found,) = log
    assert (found.quality, found.cost) == (None, None)


@pytest.mark.parametrize("store", [False, True])
def test_an_empty_prompt_is_not_withheld(path, store):
    with SqliteOutcomeLog(path, store_prompts=store) as log:
        log.append(Outcome(query=Query(text=""), model="a"))
        (found,) = log
        assert (found.query.text, found.query.withheld, log.withheld) == ("", False, 0)


def test_what_another_log_withheld_stays_withheld_until_its_text_comes(path, tmp_path):
    with SqliteOutcomeLog(tmp_path / "first") as first, SqliteOutcomeLog(path, store_prompts=True) as log:
        first.append(Outcome(query=Query(text="a", id="1"), model="m"))
        log.extend(first)
        assert [(outcome.query.text, outcome.query.withheld) for outcome in log] == [("", True)]
        log.append(Outcome(query=Query(text="a", id="1"), model="n"))
        assert [(outcome.query.text, outcome.query.withheld) for outcome in log] == [("a", False)] * 2


def test_embeddings_come_back_with_their_fingerprint(path):
    with SqliteOutcomeLog(path) as log:
        assert log.fingerprint is None
        log.append(Outcome(query=embedded("a", [0.6, 0.8, 0]), model="m"))
        assert log.fingerprint == MINILM
        (found,) = log
    assert found.query.fingerprint == MINILM
    assert found.query.embedding.dtype == np.float32
    np.testing.assert_array_equal(found.query.embedding, np.array([0.6, 0.8, 0], dtype=np.float32))


def test_a_query_seen_again_completes_what_was_missing(path):
    with SqliteOutcomeLog(path) as log:
        log.append(Outcome(query=Query(text="a"), model="m"))
    with SqliteOutcomeLog(path, store_prompts=True) as log:
        log.append(Outcome(query=embedded("a", [1, 0, 0]), model="m"))
        log.append(Outcome(query=Query(text="a"), model="m"))  # brings nothing, and takes nothing away
        found = [(outcome.query.text, outcome.query.fingerprint) for outcome in log]
    assert found == [("a", MINILM)] * 3


def test_a_newer_embedder_replaces_the_vector(path):
    with SqliteOutcomeLog(path) as log:
        log.append(Outcome(query=embedded("a", [1, 0, 0]), model="m"))
        log.append(Outcome(query=embedded("b", [1, 0, 0]), model="m"))
        log.append(Outcome(query=embedded("a", [0, 1, 0], OTHER), model="m"))
        assert log.fingerprint is None  # mixed
        assert {outcome.query.fingerprint for outcome in log} == {MINILM, OTHER}
        log.append(Outcome(query=embedded("b", [0, 0, 1], OTHER), model="m"))
        assert log.fingerprint == OTHER
        assert [outcome.query.embedding.tolist() for outcome in log][:2] == [[0, 1, 0], [0, 0, 1]]


def test_a_vector_of_an_unknown_embedder_is_not_kept(path):
    with SqliteOutcomeLog(path) as log:
        log.append(Outcome(query=Query(text="a", embedding=np.ones(3, dtype=np.float32)), model="m"))
        (found,) = log
    assert found.query.embedding is None


def test_an_embedding_of_the_wrong_length(path):
    with SqliteOutcomeLog(path) as log, pytest.raises(DataError, match="cannot come from minilm"):
        log.append(Outcome(query=embedded("a", [1, 0]), model="m"))


def test_closed(path, make):
    log = SqliteOutcomeLog(path)
    log.close()
    log.close()
    for use in (lambda: log.append(make()), lambda: len(log), lambda: list(log), lambda: log.feedback("d", 1.0)):
        with pytest.raises(StorageError, match="closed"):
            use()
    assert list(path.parent.iterdir()) == [path]  # -wal and -shm are gone


def test_a_forgotten_log_is_collected_and_closed(path, make):
    log = SqliteOutcomeLog(path)
    log.append(make())
    gone = weakref.ref(log)
    del log
    gc.collect()
    assert gone() is None
    assert list(path.parent.iterdir()) == [path]


def test_an_unfinished_iteration_holds_nothing(path, make):
    with SqliteOutcomeLog(path) as log:
        log.extend(make() for _ in range(1000))
        rows = iter(log)
        next(rows)
        del rows
        gc.collect()
    assert list(path.parent.iterdir()) == [path]


def test_the_working_directory_may_change(tmp_path, make, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with SqliteOutcomeLog("log.sqlite") as log:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir("elsewhere")
        log.append(make())
        assert len(list(log)) == 1
        assert log.path == tmp_path / "log.sqlite"


class TestForeignFiles:
    def test_not_a_database(self, path):
        path.write_bytes(b"these are my notes, not a database\n" * 50)
        with pytest.raises(StorageError, match="give another path"):
            SqliteOutcomeLog(path)
        assert path.read_bytes().startswith(b"these are my notes")

    def test_another_programs_database(self, path):
        with closing(sqlite3.connect(path)) as raw:
            raw.execute("CREATE TABLE outcomes (x)")
        before = path.read_bytes()
        with pytest.raises(StorageError, match="another program's SQLite database"):
            SqliteOutcomeLog(path)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]

    def test_newer_schema(self, path):
        SqliteOutcomeLog(path).close()
        with closing(sqlite3.connect(path)) as raw:
            raw.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        with pytest.raises(StorageError, match="newer agentroute"):
            SqliteOutcomeLog(path)

    def test_folder(self, tmp_path):
        with pytest.raises(StorageError, match="is a folder"):
            SqliteOutcomeLog(tmp_path)

    def test_missing_folder(self, tmp_path):
        with pytest.raises(StorageError, match="create it first"):
            SqliteOutcomeLog(tmp_path / "no" / "log.sqlite")

    def test_deleted_while_open(self, path, make):
        with SqliteOutcomeLog(path) as log:
            log.append(make())
            for file in path.parent.iterdir():
                file.unlink()
            for use in (lambda: log.append(make()), lambda: list(log), lambda: log.feedback("d", 1.0)):
                with pytest.raises(StorageError, match="removed or replaced"):
                    use()
            SqliteOutcomeLog(path).close()
            with pytest.raises(StorageError, match="removed or replaced"):
                log.append(make())

    def test_disk_full(self, path, make):
        with SqliteOutcomeLog(path) as log:
            log.append(make("first"))
            with log._database() as connection:
                pages = connection.execute("PRAGMA page_count").fetchone()[0]
                connection.execute(f"PRAGMA max_page_count = {pages}")
            with pytest.raises(StorageError, match="free some disk space"):
                log.append(make(metadata={"long": "x" * 100_000}))
            assert [outcome.metadata for outcome in log] == [{}]

    def test_empty_file_is_a_new_log(self, path, make):
        path.touch()
        with SqliteOutcomeLog(path) as log:
            log.append(make())
            assert len(log) == 1

    def test_a_creation_that_was_cut_short_goes_on(self, path, make):
        with closing(sqlite3.connect(path)) as raw:
            raw.execute("PRAGMA journal_mode = WAL")
        with SqliteOutcomeLog(path) as log:
            log.append(make())
            assert len(log) == 1


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_every_released_schema_opens(path, version, make):
    """The golden files were written by the release of that schema, with one row of each kind."""
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript((GOLDEN / f"v{version}.sql").read_text())
    with SqliteOutcomeLog(path, store_prompts=True) as log:
        first, second = log
        assert (first.query.id, first.query.text, first.query.labels) == (
            "q1",
            "Name a prime.",
            ("task=maths", "role=solver", "tag:lang=en"),
        )
        assert first.query.embedding.tolist() == [1.0, 0.0, 0.0]
        assert first.query.fingerprint == MINILM == log.fingerprint
        assert (first.model, first.quality, first.scorer, first.cost, first.latency) == ("large", 0.75, "feedback", 0.0125, 1.5)
        assert (first.usage.input_tokens, first.usage.output_tokens) == (11, 7)
        assert (first.usage.cache_read_tokens, first.usage.cache_write_tokens) == (5, 2)
        assert first.at.isoformat() == "2026-01-02T03:04:05.000006+00:00"
        assert (first.propensity, first.attempt, first.decision_id, first.metadata) == (0.5, 1, "d1", {"note": "x"})
        assert (second.query.text, second.error, second.quality, second.cost) == ("Who?", "TimeoutError", None, None)
        assert second.query.id == Query(text="Who?").key(bytes(range(32)))
        log.append(make("Who?", model="small"))
        assert list(log)[-1].query.id == second.query.id


def test_the_golden_schema_is_the_one_that_is_made(path, tmp_path):
    """A change of a released schema needs a new version and a migration, not an edit."""
    golden = tmp_path / "golden.sqlite"
    with closing(sqlite3.connect(golden)) as raw:
        raw.executescript((GOLDEN / f"v{SCHEMA_VERSION}.sql").read_text())
    SqliteOutcomeLog(path).close()
    made = []
    for file in (golden, path):
        with closing(sqlite3.connect(file)) as raw:
            rows = raw.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
            made.append({name: re.sub(r"\s+", " ", sql) for name, sql in rows})
            made.append({raw.execute("PRAGMA user_version").fetchone(), raw.execute("PRAGMA application_id").fetchone()})
    assert made[:2] == made[2:]


def test_threads_share_a_log(path, make):
    errors = []
    with SqliteOutcomeLog(path) as log:

        def work(name):
            try:
                for i in range(50):
                    log.append(make(f"query {i}", name))
                    if i % 10 == 0:
                        assert len(list(log)) >= i
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(f"m{i}",)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(log) == 400
        for name in ("m0", "m7"):
            own = [outcome.query.id for outcome in log if outcome.model == name]
            assert len(set(own)) == 50


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
class TestFork:
    def test_parent_and_child_write(self, path, make, fork):
        with SqliteOutcomeLog(path) as log:
            log.append(make(model="before"))
            inherited = log._handle.connection

            def child():
                log.append(make(model="child"))
                assert log._handle.connection is not inherited
                assert {outcome.model for outcome in log} >= {"before", "child"}
                log.close()

            pid = fork(child)
            log.append(make(model="parent"))
            assert os.waitpid(pid, 0)[1] == 0
            assert sorted(outcome.model for outcome in log) == ["before", "child", "parent"]
            assert log._handle.connection is inherited

    def test_forking_while_another_thread_holds_the_lock(self, path, make, fork):
        with SqliteOutcomeLog(path) as log:
            held, release = threading.Event(), threading.Event()

            def hold():
                with log._handle.lock:
                    held.set()
                    release.wait(30)

            thread = threading.Thread(target=hold)
            thread.start()
            held.wait(30)
            pid = fork(lambda: log.append(make(model="child")))
            assert os.waitpid(pid, 0)[1] == 0
            release.set()
            thread.join()
            assert [outcome.model for outcome in log] == ["child"]

    def test_an_iterator_of_the_parent_is_refused(self, path, make, fork):
        with SqliteOutcomeLog(path) as log:
            log.extend(make() for _ in range(1000))
            rows = iter(log)
            next(rows)

            def child():
                with pytest.raises(StorageError, match="iterate anew"):
                    list(rows)
                assert len(list(log)) == 1000

            assert os.waitpid(fork(child), 0)[1] == 0
            assert len(list(rows)) == 999
