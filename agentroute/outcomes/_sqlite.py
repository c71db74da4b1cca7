"""The outcome log on disk: one SQLite file, shared by threads and processes."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, get_args

from agentroute.errors import ConfigError, StorageError
from agentroute.outcomes._handles import Handle, file_at, leave_behind
from agentroute.outcomes._log import CHOSEN, SEVERAL_SOURCES, checked_score, feedback_key
from agentroute.outcomes._rows import clean, decode_fingerprint, decode_outcome, encode_outcome, encode_query, microseconds
from agentroute.outcomes._schema import Durability, connect, open_database, storage_error
from agentroute.types import Fingerprint, Outcome

__all__ = ["SqliteOutcomeLog"]

_FETCH = 256

# A query that is seen again completes what was not known of it; a newer embedder's vector replaces an older one's.
_PUT_QUERY = """
INSERT INTO queries (query_id, hash, chars, role, task, tags, embedder, embedding, text) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (query_id) DO UPDATE SET
    text = coalesce(queries.text, excluded.text),
    embedding = coalesce(excluded.embedding, queries.embedding),
    embedder = coalesce(excluded.embedder, queries.embedder)
WHERE (queries.text IS NULL AND excluded.text IS NOT NULL)
    OR (excluded.embedder IS NOT NULL AND excluded.embedder IS NOT queries.embedder)
"""
_PUT_OUTCOME = """
INSERT INTO outcomes (query, id, model, decision_id, attempt, quality, cost_nano, latency, input_tokens, output_tokens,
    cache_read_tokens, cache_write_tokens, error, propensity, scorer, at_micro, metadata)
VALUES ((SELECT seq FROM queries WHERE query_id = ?), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING
"""
_PUT_FEEDBACK = """
INSERT INTO feedback (idempotency_key, decision_id, score, source, at_micro) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (idempotency_key) DO NOTHING
"""
# Python writes NaN and Infinity into JSON, which SQLite does not read: such metadata are left to a function of Python.
_IS_CHOSEN = f"""coalesce(
                CASE
                    WHEN json_valid(metadata) THEN json_type(metadata, '$.{CHOSEN}') = 'true'
                    WHEN metadata IS NOT NULL THEN marks_chosen(metadata)
                END, 0
            )"""
# CROSS JOIN keeps outcomes the outer loop, so that rows stream in their order without a sort.
_READ = f"""
WITH judged AS (
    SELECT (
            SELECT seq FROM outcomes WHERE decision_id = feedback.decision_id AND (error IS NULL OR {_IS_CHOSEN})
            ORDER BY {_IS_CHOSEN} DESC, attempt DESC, seq DESC LIMIT 1
        ) AS outcome,
        avg(score) AS score,
        CASE WHEN count(DISTINCT source) = 1 THEN min(source) ELSE '{SEVERAL_SOURCES}' END AS source
    FROM feedback GROUP BY decision_id
)
SELECT q.query_id, q.role, q.task, q.tags, q.embedder, q.embedding, q.text, q.text IS NULL AND q.chars > 0,
    o.id, o.model, o.decision_id, o.attempt, coalesce(judged.score, o.quality), o.cost_nano, o.latency,
    o.input_tokens, o.output_tokens, o.cache_read_tokens, o.cache_write_tokens,
    o.error, o.propensity, coalesce(judged.source, o.scorer), o.at_micro, o.metadata
FROM outcomes AS o CROSS JOIN queries AS q ON q.seq = o.query LEFT JOIN judged ON judged.outcome = o.seq
ORDER BY o.seq
"""  # noqa: S608  # a constant of ours


class SqliteOutcomeLog:
    """An `OutcomeLog` in one SQLite file, for threads, forked children and other processes at once.

    A stored outcome survives the death of the process (`kill -9`), and with `durability="power"` that of the machine.
    Keep the file on a local disk: SQLite's write-ahead log does not work over a network. Beside it stand `-wal` and `-shm`
    files while the log is open; they belong to it.

    No prompt text is written unless `store_prompts=True`. What is written of a query is its id, its labels, its length, its
    embedding when it carries one with a fingerprint, and a hash keyed with a random salt of this file. A hash and an
    embedding are not text, but they say something of it to who holds the file: guard it like the data that it is about.

    Args:
        path: The file; created when it does not exist.
        store_prompts: Whether to keep the text of queries, without which embeddings cannot be made anew.
        durability: `"process"`: what is stored survives a crash of the process, but the last writes may be lost with the
            power. `"power"`: every commit waits for the disk; write in batches then.

    Raises:
        StorageError: The file cannot be opened, is not an outcome log, or comes from a newer agentroute.

    >>> import tempfile
    >>> from agentroute.types import Query
    >>> with tempfile.TemporaryDirectory() as folder, SqliteOutcomeLog(f"{folder}/log.sqlite") as log:
    ...     log.append(Outcome(query=Query(text="2 + 2?"), model="small", quality=1.0))
    ...     [(outcome.model, outcome.query.text) for outcome in log]
    [('small', '')]
    """

    def __init__(self, path: str | Path, *, store_prompts: bool = False, durability: Durability = "process") -> None:
        if str(path) == ":memory:":
            raise ConfigError("SqliteOutcomeLog needs a file: use MemoryOutcomeLog() to keep outcomes in memory")
        if durability not in get_args(Durability):
            raise ConfigError(f"durability={durability!r}: use 'process' or 'power'")
        self.path = Path(path).absolute()  # the working directory may change
        self.store_prompts = store_prompts
        self.durability: Durability = durability
        self._handle = Handle(self)
        with self._database() as connection:
            self._salt: bytes = connection.execute("SELECT value FROM meta WHERE name = 'salt'").fetchone()[0]

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """This process's connection, for one thread at a time."""
        handle = self._handle
        with handle.lock:
            if handle.closed:
                raise StorageError(f"{self.path}: the log is closed")
            if handle.connection is None:
                handle.connection = open_database(self.path, durability=self.durability)
                handle.file = file_at(self.path)
            elif file_at(self.path) != handle.file:
                # What is written to a deleted file is gone, although SQLite sees nothing wrong with it.
                raise StorageError(f"{self.path}: was removed or replaced while the log was open; open the log again")
            try:
                yield handle.connection
            except sqlite3.Error as error:
                raise storage_error(self.path, error) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._database() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def append(self, outcome: Outcome, /) -> None:
        """Stores one outcome; it is durable when this returns.

        Raises:
            DataError: The outcome holds something that cannot be stored.
            StorageError: The file cannot be written, or stayed locked for 30 s.
        """
        self.extend((outcome,))

    def extend(self, outcomes: Iterable[Outcome], /) -> None:
        """Stores outcomes in one transaction: all are durable when this returns, or none is stored.

        Raises:
            DataError: An outcome holds something that cannot be stored.
            StorageError: The file cannot be written, or stayed locked for 30 s.
        """
        # Encoded before the transaction: a slow iterable must not hold the lock that other writers wait for.
        rows = [
            (
                encode_query(outcome.query, self._salt, store_text=self.store_prompts),
                outcome.query.fingerprint,
                encode_outcome(outcome),
            )
            for outcome in outcomes
        ]
        if not rows:
            return
        embedders: dict[Fingerprint | None, int | None] = {None: None}
        with self._transaction() as connection:
            for query, fingerprint, outcome in rows:
                # Without a fingerprint nobody could say what a vector may be compared with.
                if fingerprint is not None and fingerprint not in embedders:
                    embedders[fingerprint] = _embedder_row(connection, fingerprint)
                embedder = embedders[fingerprint] if query[-2] is not None else None
                connection.execute(_PUT_QUERY, (*query[:-2], embedder, *query[-2:]))
                connection.execute(_PUT_OUTCOME, (query[0], *outcome))

    def feedback(self, decision_id: str, score: float, /, *, source: str = "user", idempotency_key: str | None = None) -> bool:
        """Judges the answer of a decision, durably; see `OutcomeLog.feedback`.

        Raises:
            DataError: The score is outside [0, 1].
            StorageError: The file cannot be written.
        """
        score = checked_score(score)
        decision, source = clean(decision_id), clean(source)
        key = feedback_key(decision, source) if idempotency_key is None else clean(idempotency_key)
        with self._transaction() as connection:
            return (
                connection.execute(_PUT_FEEDBACK, (key, decision, score, source, microseconds(datetime.now(UTC)))).rowcount == 1
            )

    def __iter__(self) -> Iterator[Outcome]:
        """Streams the outcomes as they stand at the first one, in the order of their storing; writers are not held up.

        Queries carry the key under which they were stored as id; one whose text was not stored is `withheld`.
        """
        with self._database():
            pass  # not closed, and the file is a log of this schema
        process = os.getpid()
        connection = None
        try:
            connection = connect(self.path)
            connection.create_function("marks_chosen", 1, _marks_chosen, deterministic=True)
            connection.execute("BEGIN")  # deferred: a snapshot that starts at the first read
            known = {
                row[0]: decode_fingerprint(row)
                for row in connection.execute("SELECT seq, name, revision, dimension FROM embedders")
            }
            cursor = connection.execute(_READ)
            while rows := cursor.fetchmany(_FETCH):
                for row in rows:
                    yield decode_outcome(row, known)
                if os.getpid() != process:
                    raise StorageError(f"{self.path}: an iterator does not survive a fork: iterate anew in the child")
        except sqlite3.Error as error:
            raise storage_error(self.path, error) from error
        finally:
            if connection is not None:
                connection.close() if os.getpid() == process else leave_behind(connection)

    def __len__(self) -> int:
        """Number of outcomes."""
        return self._count("SELECT count(*) FROM outcomes")

    @property
    def withheld(self) -> int:
        """Number of queries whose text was not stored."""
        return self._count("SELECT count(*) FROM queries WHERE text IS NULL AND chars > 0")

    @property
    def fingerprint(self) -> Fingerprint | None:
        """The embedder of all stored embeddings; `None` when there are none, or of several embedders."""
        with self._database() as connection:
            rows = connection.execute(
                "SELECT seq, name, revision, dimension FROM embedders "
                "WHERE EXISTS (SELECT 1 FROM queries WHERE embedder = embedders.seq)"
            ).fetchall()
        return decode_fingerprint(rows[0]) if len(rows) == 1 else None

    def _count(self, statement: str) -> int:
        with self._database() as connection:
            return int(connection.execute(statement).fetchone()[0])

    def close(self) -> None:
        """Closes the file; using the log afterwards raises `StorageError`. Closing twice does nothing."""
        self._handle.close()

    def __enter__(self) -> Self:
        """The log itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file."""
        self.close()

    def __repr__(self) -> str:
        """The path."""
        return f"SqliteOutcomeLog({str(self.path)!r})"


def _marks_chosen(metadata: str) -> bool:
    """Whether metadata that are JSON to Python alone say that their outcome was the answer."""
    try:
        return json.loads(metadata).get(CHOSEN) is True
    except (ValueError, AttributeError, RecursionError):
        return False  # whoever decodes the row will say what is wrong


def _embedder_row(connection: sqlite3.Connection, fingerprint: Fingerprint) -> int:
    key = (clean(fingerprint.name), clean(fingerprint.revision), fingerprint.dimension)
    connection.execute("INSERT INTO embedders (name, revision, dimension) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", key)
    found = connection.execute("SELECT seq FROM embedders WHERE name = ? AND revision = ? AND dimension = ?", key)
    return int(found.fetchone()[0])
