"""The queue in front of a log: it never delays, never raises, and counts what it loses."""

# ruff: noqa: PT031  # the warning comes from the queue's thread, somewhere between the append and the flush

import gc
import os
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
import weakref
from contextlib import closing

import pytest

from agentroute.errors import ConfigError, DataError, OutcomeDroppedWarning, StorageError
from agentroute.outcomes import MemoryOutcomeLog, QueuedOutcomeLog, SqliteOutcomeLog


class Gate(MemoryOutcomeLog):
    """A log whose writer waits until the gate opens, as for a slow disk."""

    def __init__(self):
        super().__init__()
        self.open = threading.Event()
        self.reached = threading.Event()
        self.groups = []

    def extend(self, outcomes):
        self.reached.set()
        self.open.wait(30)
        self.groups.append(len(outcomes))
        super().extend(outcomes)


class Broken(MemoryOutcomeLog):
    """A log on a disk that fails while `broken`."""

    broken = True

    def extend(self, outcomes):
        if self.broken and outcomes:
            raise StorageError("no space left")
        super().extend(outcomes)

    def feedback(self, *args, **kwargs):
        if self.broken:
            raise StorageError("no space left")
        return super().feedback(*args, **kwargs)


@pytest.fixture
def gate():
    log = Gate()
    yield log
    log.open.set()


def test_appending_does_not_wait_for_the_log(gate, make):
    with QueuedOutcomeLog(gate) as log:
        log.append(make(model="first"))
        assert gate.reached.wait(30)
        log.extend(make(model=f"m{i}") for i in range(500))  # returns, although nothing can be written
        log.feedback("d", 1.0)
        assert gate.groups == []
        assert not log.flush(0.0)
        gate.open.set()
        assert log.flush(30)
        assert [outcome.model for outcome in gate] == ["first", *(f"m{i}" for i in range(500))]
        assert log.dropped == 0


def test_rows_are_written_in_groups(gate, make):
    with QueuedOutcomeLog(gate) as log:
        log.append(make())
        assert gate.reached.wait(30)
        log.extend(make() for _ in range(250))
        gate.open.set()
        assert log.flush(30)
        assert gate.groups == [1, 100, 100, 50]


def test_rows_are_written_without_being_asked(gate, make):
    gate.open.set()
    with QueuedOutcomeLog(gate) as log:
        for _ in range(2):  # when the thread starts, and when it has fallen asleep
            log.append(make())
            assert gate.reached.wait(30)
            assert log.flush(30)
            gate.reached.clear()
            while not log._writer.work._waiters:  # until it sleeps
                time.sleep(0)


def test_overflow_is_dropped_counted_and_warned_of_once(gate, make):
    with QueuedOutcomeLog(gate, capacity=10) as log:
        log.append(make())
        assert gate.reached.wait(30)
        log.extend(make() for _ in range(10))
        assert log.dropped == 0
        with pytest.warns(OutcomeDroppedWarning, match="queue is full") as caught:
            log.extend(make() for _ in range(5))
            assert log.feedback("d", 1.0) is False
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert log.dropped == 6
        gate.open.set()
        assert len(log) == 11


def test_a_failing_disk_is_counted_and_left_behind(make):
    under = Broken()
    with QueuedOutcomeLog(under) as log:
        with pytest.warns(OutcomeDroppedWarning, match="no space left") as caught:
            log.extend(make() for _ in range(150))
            log.feedback("d", 1.0)
            assert log.flush(30)
        assert len(caught) == 1
        assert log.dropped == 151
        under.broken = False
        log.append(make(model="after"))
        assert [outcome.model for outcome in log] == ["after"]
        assert log.dropped == 151


def test_one_bad_outcome_does_not_cost_its_group(tmp_path, make):
    with SqliteOutcomeLog(tmp_path / "log") as under, QueuedOutcomeLog(under) as log:
        with pytest.warns(OutcomeDroppedWarning, match="plain JSON"):
            log.extend([make(model="a"), make(metadata={"x": object()}), make(model="b")])
            assert log.flush(30)
        assert log.dropped == 1
        assert [outcome.model for outcome in log] == ["a", "b"]


def test_anything_that_is_no_outcome_is_counted(tmp_path):
    with SqliteOutcomeLog(tmp_path / "log") as under, QueuedOutcomeLog(under) as log:
        with pytest.warns(OutcomeDroppedWarning):
            log.append("not an outcome")
            assert log.flush(30)
        assert log.dropped == 1


def test_warnings_as_errors_do_not_reach_the_caller(gate, make):
    with QueuedOutcomeLog(gate, capacity=1) as log, warnings.catch_warnings():
        warnings.simplefilter("error")
        log.append(make())
        assert gate.reached.wait(30)
        log.append(make())
        log.append(make())
        assert log.dropped == 1
        gate.open.set()
        assert len(log) == 2  # the thread lives


def test_feedback_is_checked_at_once(gate):
    with QueuedOutcomeLog(gate) as log, pytest.raises(DataError):
        log.feedback("d", 7.0)
    assert log.dropped == 0


def test_capacity_must_be_positive():
    with pytest.raises(ConfigError, match="capacity=0"):
        QueuedOutcomeLog(MemoryOutcomeLog(), capacity=0)


def test_closing_writes_what_is_queued_and_ends_the_thread(gate, make):
    gate.open.set()
    log = QueuedOutcomeLog(gate)
    log.extend(make() for _ in range(500))
    thread = log._writer.thread
    log.close()
    log.close()
    thread.join(30)
    assert not thread.is_alive()
    assert len(gate) == 500
    with pytest.warns(OutcomeDroppedWarning, match="closed"):
        log.append(make())
    assert log.dropped == 1
    assert len(log) == 500


def test_closing_in_time_counts_what_is_left(gate, make):
    log = QueuedOutcomeLog(gate)
    log.append(make())
    assert gate.reached.wait(30)
    log.extend(make() for _ in range(5))
    with pytest.warns(OutcomeDroppedWarning, match="before they could be written"):
        log.close(timeout=0.0)
    assert log.dropped == 5
    gate.open.set()
    assert log.flush(30)
    assert len(gate) == 1


def test_a_forgotten_queue_is_written_and_collected(make):
    under = MemoryOutcomeLog()
    log = QueuedOutcomeLog(under)
    log.extend(make() for _ in range(250))
    thread = log._writer.thread
    gone = weakref.ref(log)
    del log
    gc.collect()
    assert gone() is None
    assert len(under) == 250
    thread.join(30)
    assert not thread.is_alive()


def test_many_threads(tmp_path, make):
    with SqliteOutcomeLog(tmp_path / "log") as under, QueuedOutcomeLog(under) as log:
        threads = [threading.Thread(target=lambda: [log.append(make()) for _ in range(300)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(log) == 2400
        assert log.dropped == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_queue_of_its_own(tmp_path, make, fork):
    with SqliteOutcomeLog(tmp_path / "log") as under, QueuedOutcomeLog(under) as log:
        log.extend(make(model="before") for _ in range(50))  # some are still queued at the fork

        def child():
            assert log._writer.thread is None
            log.extend(make(model="child") for _ in range(50))
            assert log.flush(30)
            log.close()
            under.close()

        pid = fork(child)
        log.extend(make(model="parent") for _ in range(50))
        assert os.waitpid(pid, 0)[1] == 0
        models = [outcome.model for outcome in log]
        assert {model: models.count(model) for model in set(models)} == {"before": 50, "child": 50, "parent": 50}
        ids = [outcome.id for outcome in log]
        assert len(ids) == len(set(ids)) == 150


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forking_while_the_queue_is_locked(gate, make, fork):
    log = QueuedOutcomeLog(gate)
    log.append(make(model="parent"))
    assert gate.reached.wait(30)  # the writer is in the middle of a group

    def child():
        gate.open.set()
        log.append(make(model="child"))
        assert log.flush(30)
        assert [outcome.model for outcome in gate] == ["child"]

    assert os.waitpid(fork(child), 0)[1] == 0
    gate.open.set()
    assert [outcome.model for outcome in log] == ["parent"]
    log.close()


SCRIPT = """
import sys
from agentroute.outcomes import QueuedOutcomeLog, SqliteOutcomeLog
from agentroute.types import Outcome, Query
log = QueuedOutcomeLog(SqliteOutcomeLog(sys.argv[1]))
for i in range(1000):
    log.append(Outcome(query=Query(text="q"), model="m"))
"""


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise KeyError('boom')"])
def test_what_is_queued_at_exit_is_written(tmp_path, end):
    path = tmp_path / "log"
    subprocess.run([sys.executable, "-c", SCRIPT + end, path], check=False, capture_output=True, timeout=120)
    with SqliteOutcomeLog(path) as log:
        assert len(log) == 1000


def test_exit_does_not_wait_for_a_hanging_disk(tmp_path):
    """A log that never returns holds the exit for 2 s, not for ever."""
    script = """
import threading
from agentroute.outcomes import MemoryOutcomeLog, QueuedOutcomeLog
from agentroute.types import Outcome, Query
class Hanging(MemoryOutcomeLog):
    def extend(self, outcomes):
        print("reached", flush=True)
        threading.Event().wait()
log = QueuedOutcomeLog(Hanging())
log.append(Outcome(query=Query(text="q"), model="m"))
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "reached")


def test_exit_does_not_wait_for_a_locked_file(tmp_path):
    """Another program's lock is waited for up to 30 s while the process lives, but not at its exit."""
    path = tmp_path / "log"
    SqliteOutcomeLog(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        done = subprocess.run([sys.executable, "-c", SCRIPT, path], check=False, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (0, "")
