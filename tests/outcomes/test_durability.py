"""What is promised of a log that is killed, and of one that many processes write."""

import os
import random
import signal
import sqlite3
import struct
from contextlib import closing

import pytest

from agentroute.outcomes import SqliteOutcomeLog
from agentroute.types import Outcome, Query

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

KILLS = 60
WRITERS = 8
ROWS = 5_000


def test_no_acknowledged_outcome_is_lost_to_kill_9(tmp_path, fork):
    """A writer acknowledges each row over a pipe after `append` returned, and is killed at a random one."""
    path = tmp_path / "log.sqlite"
    random_ = random.Random(0)
    acknowledged = []
    for life in range(KILLS):
        reader, writer = os.pipe()

        def write(life=life, writer=writer):
            log = SqliteOutcomeLog(path)
            for row in range(1_000_000):
                log.append(Outcome(query=Query(text=f"query {row}"), model="m", id=f"{life}-{row}"))
                os.write(writer, struct.pack("i", row))

        pid = fork(write)
        os.close(writer)
        wanted = random_.randint(1, 60)
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            for _ in range(wanted):
                assert pipe.read(4), "the writer died by itself"
            os.kill(pid, signal.SIGKILL)
            tail = b"".join(iter(lambda: pipe.read(4096), b""))  # it went on until the signal arrived
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
        acknowledged += [f"{life}-{row}" for row in range(wanted + len(tail) // 4)]

    with SqliteOutcomeLog(path) as log:
        stored = [outcome.id for outcome in log]
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
    assert len(stored) == len(set(stored))
    assert set(acknowledged) <= set(stored)
    # At most the one row whose acknowledgement was under way.
    assert len(stored) - len(acknowledged) <= KILLS
    assert len(acknowledged) >= KILLS


def test_processes_that_create_a_log_together_take_it_for_their_own(tmp_path, fork):
    """None may see a half-made file and take it for another program's: they all start at one signal, many times."""
    for turn in range(60):
        path = tmp_path / f"{turn}.sqlite"
        gate, signal = os.pipe()

        def create(path=path, gate=gate, signal=signal):
            os.close(signal)
            os.read(gate, 1)  # returns when the parent closes its end
            SqliteOutcomeLog(path).close()

        children = [fork(create) for _ in range(WRITERS)]
        os.close(gate)
        os.close(signal)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * WRITERS


def test_eight_processes_share_a_log(tmp_path, fork):
    """They also create it together. A child that meets "database is locked" raises, and exits with 1."""
    path = tmp_path / "log.sqlite"

    def write(name):
        with SqliteOutcomeLog(path) as log:
            for row in range(ROWS):
                log.append(Outcome(query=Query(text=f"query {row}"), model=name, id=f"{name}-{row}"))

    children = [fork(lambda name=f"m{i}": write(name)) for i in range(WRITERS)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * WRITERS
    with SqliteOutcomeLog(path) as log:
        assert len(log) == WRITERS * ROWS
    with closing(sqlite3.connect(path)) as raw:
        # Every process found the same salt, so that the queries joined.
        assert raw.execute("SELECT count(*) FROM queries").fetchone() == (ROWS,)
        assert raw.execute("SELECT count(*) FROM outcomes GROUP BY model").fetchall() == [(ROWS,)] * WRITERS


def test_a_torn_wal_loses_its_end_and_nothing_else(tmp_path):
    """A write-ahead log that is cut anywhere leaves a database with a prefix of the rows."""
    path = tmp_path / "log.sqlite"
    with SqliteOutcomeLog(path) as log:
        for row in range(100):
            log.append(Outcome(query=Query(text=f"query {row}"), model="m", id=str(row)))
        database, wal = path.read_bytes(), (tmp_path / "log.sqlite-wal").read_bytes()
    random_ = random.Random(0)
    lengths = set()
    for copy in range(20):
        torn = tmp_path / f"torn-{copy}.sqlite"
        torn.write_bytes(database)
        (tmp_path / f"torn-{copy}.sqlite-wal").write_bytes(wal[: random_.randrange(len(wal) // 2, len(wal))])
        with SqliteOutcomeLog(torn) as log:
            stored = [outcome.id for outcome in log]
            log.append(Outcome(query=Query(text="next"), model="m"))
        assert stored == [str(row) for row in range(len(stored))]
        lengths.add(len(stored))
    assert len(lengths) > 5
