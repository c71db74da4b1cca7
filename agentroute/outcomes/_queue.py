"""A queue in front of a log, so that logging never delays or fails the user's call."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self

from agentroute.errors import ConfigError, OutcomeDroppedWarning, StorageError
from agentroute.outcomes._log import OutcomeLog, checked_score
from agentroute.types import Outcome

__all__ = ["QueuedOutcomeLog"]

_GROUP = 100
_GROUP_SECONDS = 0.05
_READ_SECONDS = 30.0
_EXIT_SECONDS = 2.0


class _Feedback(NamedTuple):
    decision_id: str
    score: float
    source: str
    idempotency_key: str | None


class _Writer:
    """The queue and its thread. It does not know the `QueuedOutcomeLog`, so that this one can be collected."""

    def __init__(self, log: OutcomeLog, capacity: int) -> None:
        self.log = log
        self.capacity = capacity
        self.items: deque[Outcome | _Feedback] = deque()
        # Reentrant: a collection of garbage inside a locked section may run the finalizer, `stop`, in the same thread.
        lock = threading.RLock()
        self.work = threading.Condition(lock)  # the thread waits for items
        self.done = threading.Condition(lock)  # `flush` waits for the thread
        self.accepted = 0
        self.settled = 0  # accepted items that have been written or dropped
        self.dropped = 0
        self.hurried = 0  # how many wait in `flush`: then a group is not waited for
        self.closed = False
        self.warned = False
        self.thread: threading.Thread | None = None

    def put(self, items: Iterable[Outcome | _Feedback]) -> bool:
        """Queues what there is room for, and counts the rest; whether all was queued."""
        lost = 0
        with self.work:
            for item in items:
                if self.closed or len(self.items) >= self.capacity or not self._started():
                    lost += 1
                    continue
                self.items.append(item)
                self.accepted += 1
                if len(self.items) in {1, _GROUP}:  # the thread has nothing to do in between
                    self.work.notify()
        if lost:
            self._drop(lost, "the log is closed" if self.closed else "the queue is full: the log is slower than its callers")
        return not lost

    def _started(self) -> bool:
        """Starts the thread at the first item: in a forked child, that is in the child."""
        if self.thread is None:
            thread = threading.Thread(target=self._run, name="agentroute-outcomes", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no threads left, or the interpreter is shutting down
                return False
            self.thread = thread
        return True

    def _run(self) -> None:
        while batch := self._take():
            self._write(batch)
            with self.done:
                self.settled += len(batch)
                self.done.notify_all()

    def _take(self) -> list[Outcome | _Feedback]:
        """The next group: as soon as it is whole, 50 ms old, or waited for; empty when all is written and closed."""
        with self.work:
            self.work.wait_for(lambda: self.items or self.closed)
            self.work.wait_for(lambda: len(self.items) >= _GROUP or self.closed or self.hurried, timeout=_GROUP_SECONDS)
            return [self.items.popleft() for _ in range(min(len(self.items), _GROUP))]

    def _write(self, batch: list[Outcome | _Feedback]) -> None:
        outcomes = [item for item in batch if not isinstance(item, _Feedback)]
        try:
            self.log.extend(outcomes)
        except StorageError as error:  # the disk will refuse each of them
            self._drop(len(outcomes), error)
        except Exception:  # fallback point: one outcome that cannot be stored must not cost the others
            for outcome in outcomes:
                try:
                    self.log.append(outcome)
                except Exception as error:  # fallback point: the caller is long gone; count it
                    self._drop(1, error)
        for item in batch:
            if isinstance(item, _Feedback):
                try:
                    self.log.feedback(item.decision_id, item.score, source=item.source, idempotency_key=item.idempotency_key)
                except Exception as error:  # fallback point, as above
                    self._drop(1, error)

    def _drop(self, number: int, reason: object) -> None:
        with self.work:
            self.dropped += number
            warn, self.warned = not self.warned, True
        if warn:
            # A filter that turns warnings into errors must not make logging fail the call.
            with contextlib.suppress(OutcomeDroppedWarning):
                warnings.warn(
                    f"outcomes are being dropped ({reason}); `dropped` counts them, this warning is not repeated",
                    OutcomeDroppedWarning,
                    stacklevel=4,
                )

    def flush(self, timeout: float | None) -> bool:
        with self.done:
            target = self.accepted
            self.hurried += 1
            self.work.notify()
            try:
                return self.done.wait_for(lambda: self.settled >= target, timeout)
            finally:
                self.hurried -= 1

    def stop(self, timeout: float | None) -> None:
        """Writes what is queued, ends the thread, and drops what could not be written in time."""
        with self.done:
            self.closed = True
            self.work.notify()
            if self.thread is None or self.thread is threading.current_thread():
                return
            self.done.wait_for(lambda: self.settled >= self.accepted, timeout)
            left = len(self.items)
            self.items.clear()
            self.settled += left
        if left:
            self._drop(left, "the log was closed before they could be written")


_QUEUES: weakref.WeakSet[QueuedOutcomeLog] = weakref.WeakSet()


def _restart_all() -> None:
    for queue in list(_QUEUES):
        queue._restart()  # noqa: SLF001  # the module's own class


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_restart_all)


class QueuedOutcomeLog:
    """An `OutcomeLog` that takes outcomes into a bounded queue and writes them to another log in the background.

    `append` neither waits for the disk nor raises; the price is that an outcome counts as logged only after `flush`, `close`
    or a moment of quiet: the queue is lost when the process is killed. It is written in groups of up to 100 rows, at the
    latest after 50 ms; at the interpreter's exit what is queued is written for up to 2 s. Outcomes that find the queue full
    or the disk failing are dropped, counted in `dropped`, and warned of once.

    After a fork the child starts with an empty queue of its own, and the parent writes its own rows.

    Args:
        log: Where to write; it stays open when the queue is closed.
        capacity: Most outcomes that wait.

    >>> from agentroute.outcomes import MemoryOutcomeLog
    >>> from agentroute.types import Query
    >>> with QueuedOutcomeLog(MemoryOutcomeLog()) as log:
    ...     log.append(Outcome(query=Query(text="2 + 2?"), model="small"))
    ...     len(log)
    1
    """

    def __init__(self, log: OutcomeLog, *, capacity: int = 10_000) -> None:
        if capacity < 1:
            raise ConfigError(f"capacity={capacity!r}: the queue needs room for one outcome at least")
        self._log = log
        self._capacity = capacity
        self._finalizer: weakref.finalize[Any, Any] | None = None
        self._restart()
        _QUEUES.add(self)

    def _restart(self) -> None:
        """Starts with an empty queue: at first, and in a forked child, where the parent's thread does not exist."""
        if self._finalizer is not None:
            self._finalizer.detach()
        self._writer = _Writer(self._log, self._capacity)
        # Also runs at exit. Finalizers run newest first, so that the queue is written before the log under it closes.
        self._finalizer = weakref.finalize(self, self._writer.stop, _EXIT_SECONDS)

    def append(self, outcome: Outcome, /) -> None:
        """Queues one outcome; never waits for the log, never raises."""
        self._writer.put((outcome,))

    def extend(self, outcomes: Iterable[Outcome], /) -> None:
        """Queues outcomes, each for itself."""
        for outcome in outcomes:
            self._writer.put((outcome,))

    def feedback(self, decision_id: str, score: float, /, *, source: str = "user", idempotency_key: str | None = None) -> bool:
        """Queues feedback; see `OutcomeLog.feedback`.

        Returns:
            Whether it was queued. Whether its key has been seen is known only to the log under this one, which counts it
            once in any case.

        Raises:
            DataError: The score is outside [0, 1].
        """
        return self._writer.put((_Feedback(decision_id, checked_score(score), source, idempotency_key),))

    def flush(self, timeout: float | None = None) -> bool:
        """Waits until everything queued before the call has been written or dropped.

        Args:
            timeout: Seconds to wait at most; `None` = as long as it takes.

        Returns:
            Whether that happened in time.
        """
        return self._writer.flush(timeout)

    @property
    def dropped(self) -> int:
        """Outcomes and feedback that this process could not queue or write."""
        return self._writer.dropped

    @property
    def withheld(self) -> int:
        """Number of queries whose text the log under this one did not store."""
        self.flush(_READ_SECONDS)
        return int(getattr(self._log, "withheld", 0))

    def __iter__(self) -> Iterator[Outcome]:
        """The outcomes of the log, after a flush of up to 30 s."""
        self.flush(_READ_SECONDS)
        return iter(self._log)

    def __len__(self) -> int:
        """Number of outcomes in the log, after a flush of up to 30 s."""
        self.flush(_READ_SECONDS)
        return len(self._log)

    def close(self, timeout: float | None = None) -> None:
        """Writes what is queued and ends the thread; later outcomes are dropped and counted.

        Args:
            timeout: Seconds to wait for the writing at most; what is left then is dropped and counted.
        """
        self._writer.stop(timeout)
        if self._finalizer is not None:
            self._finalizer.detach()

    def __enter__(self) -> Self:
        """The log itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Writes what is queued and ends the thread."""
        self.close()

    def __repr__(self) -> str:
        """The log under this one, and the size of the queue."""
        return f"QueuedOutcomeLog({self._log!r}, capacity={self._capacity})"
