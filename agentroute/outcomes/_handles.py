"""A process's connection to an SQLite file, shared by its threads and left alone by its forked children."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from pathlib import Path

__all__ = ["Handle", "file_at", "leave_behind"]


class Handle:
    """A process's connection to a file, and the lock that its threads share.

    In a forked child it is as it was before it was first opened: SQLite forbids to use, and even to close, a connection of the
    parent.

    Args:
        owner: Whose it is. It closes at exit or when the owner is collected, whichever comes first, without keeping it alive.

    Attributes:
        connection: The connection; `None` = it is not open.
        file: Which file the connection is of, where its owner has noted it.
        lock: Whoever uses the connection holds it.
        closed: Whether it was closed for good.
    """

    def __init__(self, owner: object) -> None:
        self.connection: sqlite3.Connection | None = None
        self.file: tuple[int, int] | None = None
        self.lock = threading.RLock()
        self.closed = False
        _HANDLES.add(self)
        weakref.finalize(owner, self.close, wait=False)

    def close(self, *, wait: bool = True) -> None:
        """Closes the connection for good; `wait` = however long another thread is at work with it."""
        # At exit, a background thread may be waiting for another program's lock: its connection is left to the system.
        if not self.lock.acquire(blocking=wait):
            return
        try:
            self.closed = True
            if self.connection is not None:
                self.connection.close()
                self.connection = None
        finally:
            self.lock.release()

    def abandon(self) -> None:
        """Begins anew, in a forked child."""
        if self.connection is not None:
            leave_behind(self.connection)
            self.connection = None
        self.lock = threading.RLock()  # another thread of the parent may have held the old one


_HANDLES: weakref.WeakSet[Handle] = weakref.WeakSet()
_INHERITED: list[sqlite3.Connection] = []


def file_at(path: Path) -> tuple[int, int] | None:
    """Which file is at a path, by device and number, so that one that takes its place is another; `None` = there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def leave_behind(connection: sqlite3.Connection) -> None:
    """Keeps a connection of the parent process as it is: collected, it would be closed."""
    _INHERITED.append(connection)


def _abandon_all() -> None:
    for handle in list(_HANDLES):
        handle.abandon()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_abandon_all)
