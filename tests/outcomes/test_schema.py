"""Making, migrating and refusing databases, where other programs and crashes come between."""

import sqlite3
from contextlib import closing

import pytest

from agentroute.errors import StorageError
from agentroute.outcomes import SqliteOutcomeLog, _schema


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.sqlite"


def tables(path):
    with closing(sqlite3.connect(path)) as raw:
        return {name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_a_migration_keeps_the_rows(path, make, monkeypatch):
    with SqliteOutcomeLog(path) as log:
        log.append(make("hello", "a"))
    monkeypatch.setattr(
        _schema, "_MIGRATIONS", (*_schema._MIGRATIONS, ("CREATE TABLE extra (x)", "INSERT INTO extra VALUES (1)"))
    )
    monkeypatch.setattr(_schema, "SCHEMA_VERSION", _schema.SCHEMA_VERSION + 1)
    for _ in range(2):  # the second time, there is nothing to do
        with SqliteOutcomeLog(path) as log:
            assert [outcome.model for outcome in log] == ["a"]
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (_schema.SCHEMA_VERSION,)
        assert raw.execute("SELECT count(*) FROM extra").fetchone() == (1,)


@pytest.mark.parametrize("statements", range(len(_schema._MIGRATIONS[0])))
def test_a_migration_that_fails_leaves_nothing_behind(path, make, monkeypatch, statements):
    with monkeypatch.context() as patch:
        patch.setattr(_schema, "_MIGRATIONS", ((*_schema._MIGRATIONS[0][:statements], "not SQL"),))
        with pytest.raises(StorageError, match="syntax error"):
            SqliteOutcomeLog(path)
    assert tables(path) == set()
    with SqliteOutcomeLog(path) as log:
        log.append(make())
        assert len(log) == 1


def test_a_file_system_without_write_ahead_logging(path, monkeypatch):
    def in_memory(*_, **__):
        return sqlite3.connect(":memory:")  # which answers "memory" when it is asked for WAL

    monkeypatch.setattr(_schema, "connect", in_memory)
    with pytest.raises(StorageError, match=r"cannot do write-ahead logging.*local disk"):
        SqliteOutcomeLog(path)


def test_a_file_that_another_program_holds(path, make, monkeypatch):
    monkeypatch.setattr(_schema, "BUSY_SECONDS", 0.02)
    SqliteOutcomeLog(path).close()
    with SqliteOutcomeLog(path) as log, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="another program holds it"):
            log.append(make())
        assert list(log) == []  # readers are not held up
        other.execute("ROLLBACK")
        log.append(make())
        assert len(log) == 1


def test_opening_gives_up_on_a_file_that_stays_locked(path, monkeypatch):
    monkeypatch.setattr(_schema, "BUSY_SECONDS", 0.02)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match="another program holds it"):
            SqliteOutcomeLog(path)
