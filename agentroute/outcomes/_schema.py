"""The database of an outcome log: its schema, and how it is opened."""

from __future__ import annotations

import secrets
import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from agentroute.errors import StorageError

__all__ = ["BUSY_SECONDS", "Durability", "connect", "open_database", "storage_error"]

Durability: TypeAlias = Literal["process", "power"]

APPLICATION_ID = 0x61677274
"""`PRAGMA application_id` of our databases ("agrt"): tells them from every other SQLite file."""
BUSY_SECONDS = 30.0
"""How long a writer waits for the other writers of the file."""

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    # Version 1. Wide columns (text, embedding) stand last, so that reading the narrow ones does not touch their pages.
    (
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
        """CREATE TABLE embedders (
            seq INTEGER PRIMARY KEY,
            name TEXT NOT NULL,
            revision TEXT NOT NULL,
            dimension INTEGER NOT NULL,
            UNIQUE (name, revision, dimension)
        )""",
        """CREATE TABLE queries (
            seq INTEGER PRIMARY KEY,
            query_id TEXT NOT NULL UNIQUE,
            hash TEXT NOT NULL,
            chars INTEGER NOT NULL,
            role TEXT,
            task TEXT,
            tags TEXT,
            embedder INTEGER REFERENCES embedders (seq),
            embedding BLOB,
            text TEXT
        )""",
        "CREATE INDEX queries_embedder ON queries (embedder)",
        """CREATE TABLE outcomes (
            seq INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            query INTEGER NOT NULL REFERENCES queries (seq),
            model TEXT NOT NULL,
            decision_id TEXT,
            attempt INTEGER NOT NULL,
            quality REAL,
            cost_nano INTEGER,
            latency REAL,
            input_tokens INTEGER,
            output_tokens INTEGER,
            cache_read_tokens INTEGER,
            cache_write_tokens INTEGER,
            error TEXT,
            propensity REAL,
            scorer TEXT,
            at_micro INTEGER,
            metadata TEXT
        )""",
        "CREATE INDEX outcomes_decision ON outcomes (decision_id) WHERE decision_id IS NOT NULL",
        """CREATE TABLE feedback (
            seq INTEGER PRIMARY KEY,
            idempotency_key TEXT NOT NULL UNIQUE,
            decision_id TEXT NOT NULL,
            score REAL NOT NULL,
            source TEXT NOT NULL,
            at_micro INTEGER NOT NULL
        )""",
        "CREATE INDEX feedback_decision ON feedback (decision_id)",
    ),
)
SCHEMA_VERSION = len(_MIGRATIONS)


def connect(path: Path, *, create: bool = False, synchronous: str = "NORMAL") -> sqlite3.Connection:
    """A connection that waits for other writers and leaves transactions to its user."""
    uri = f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def open_database(path: Path, *, durability: Durability) -> sqlite3.Connection:
    """Opens the log's database, creating or migrating it where needed.

    Raises:
        StorageError: The file is not a log, is of a newer version, cannot be opened, or lies where WAL cannot work.
    """
    if not path.absolute().parent.is_dir():
        raise StorageError(f"{path}: its folder does not exist; create it first")
    if path.is_dir():
        raise StorageError(f"{path} is a folder; give the path of a file, such as {path / 'outcomes.sqlite'}")
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        connection = None
        try:
            connection = connect(path, create=True, synchronous="FULL" if durability == "power" else "NORMAL")
            _prepare(connection, path)
        except BaseException as error:
            if connection is not None:
                connection.close()
            # Several processes that open a new file at once may meet while it is switched to WAL, where SQLite does not
            # wait by itself.
            if isinstance(error, sqlite3.OperationalError) and _busy(error) and time.monotonic() < deadline:
                time.sleep(0.01)
                continue
            if isinstance(error, sqlite3.DatabaseError):
                raise StorageError(f"{path}: cannot be used as an outcome log ({error}); {_advice(error)}") from error
            raise
        return connection


def _busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _advice(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return {
        sqlite3.SQLITE_NOTADB: "it is not an SQLite database: give another path",
        sqlite3.SQLITE_CORRUPT: "it is damaged: restore it from a backup, or give another path",
        sqlite3.SQLITE_READONLY: "make the file and its folder writable",
        sqlite3.SQLITE_FULL: "free some disk space",
        sqlite3.SQLITE_BUSY: "another program holds it: wait for it to end",
    }.get(code, "check the path, its permissions and the disk")


def storage_error(path: Path, error: sqlite3.Error) -> StorageError:
    """What to tell the user about a failed read or write."""
    return StorageError(f"{path}: {error}; {_advice(error)}")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Checks that the file is ours before anything of it is changed, then brings it to the current schema."""
    version = _checked_version(connection, path)
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StorageError(f"{path}: its file system cannot do write-ahead logging (SQLite says {mode!r}); use a local disk")
    if version < SCHEMA_VERSION:
        _migrate(connection, path)


def _checked_version(connection: sqlite3.Connection, path: Path) -> int:
    """The schema's version, 0 for a new file. All is read from one state of the file: another process may be making it."""
    if connection.in_transaction:
        return _version(connection, path)
    connection.execute("BEGIN")
    try:
        return _version(connection, path)
    finally:
        connection.rollback()


def _version(connection: sqlite3.Connection, path: Path) -> int:
    application, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    if application != APPLICATION_ID:
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application or version or tables:
            raise StorageError(f"{path} is another program's SQLite database, and was left as it is: give another path")
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"{path} was written by a newer agentroute (schema {version}, this one knows up to {SCHEMA_VERSION}): upgrade it"
        )
    return version


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Forward only, one transaction for each version: a crash leaves a whole older schema, which the next open continues."""
    for target in range(1, SCHEMA_VERSION + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Read again under the lock: another process may have migrated meanwhile.
            if _checked_version(connection, path) < target:
                for statement in _MIGRATIONS[target - 1]:
                    connection.execute(statement)
                if target == 1:
                    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    facts = {"salt": secrets.token_bytes(32), "created": datetime.now(UTC).isoformat()}
                    connection.executemany("INSERT INTO meta VALUES (?, ?)", facts.items())
                connection.execute(f"PRAGMA user_version = {target}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
