"""A budget in a file, for several processes at once."""

from __future__ import annotations

import math
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, Self

from agentroute.errors import ConfigError, StorageError
from agentroute.outcomes._handles import Handle, file_at
from agentroute.outcomes._schema import BUSY_SECONDS, connect, storage_error
from agentroute.teams._budget import Reservation, lacks, short, units

__all__ = ["SqliteBudget"]

_UNIT: Final = 10**12
"""Of the file's units to a dollar. Prices have at most six places to a million tokens: bills are whole pico-dollars."""
_MOST: Final = 4 * 10**18
"""Units: SQLite's integers go to twice as much, and its sums beyond them would be floats."""
_APPLICATION: Final = 0x61677270
"""`PRAGMA application_id` of our budgets ("agrp"): tells them from every other SQLite file."""
_LOOK: Final = 1.0
"""Seconds after which it is looked at, at the latest, whether a lease must be renewed."""
_LEAST: Final = 0.01
"""Seconds between two looks at least, however short a lease is."""
_TABLES: Final = (
    "CREATE TABLE budgets (name TEXT PRIMARY KEY, total INTEGER NOT NULL, spent INTEGER NOT NULL) WITHOUT ROWID",
    # AUTOINCREMENT: the number of a reservation that ran out is never given to another.
    """CREATE TABLE reservations (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL REFERENCES budgets (name),
        held INTEGER NOT NULL,
        until REAL NOT NULL
    )""",
    f"PRAGMA application_id = {_APPLICATION}",
)
_STATE: Final = """
SELECT total, spent, (SELECT coalesce(sum(held), 0) FROM reservations WHERE name = budgets.name AND until >= ?)
FROM budgets WHERE name = ?
"""


class SqliteBudget:
    """A budget in one SQLite file, for several processes and all their threads at once.

    What is spent survives the death of a process (`kill -9`), and what it had set aside when it died stays set aside: its last
    calls may have been billed. The same holds where the file could not be written when a call had ended.
    Keep the file on a local disk: SQLite's write-ahead log does not work over a network.

    Copies and pickles are of the same file and spend the same money, so that a budget can be given to other processes.

    Args:
        path: The file; created when it does not exist. It may hold several budgets.
        name: Which of them.
        usd: What may be spent in all; `None` = as it was first opened with.
        lease: Seconds after which what this process had set aside when it died is free again, though it may be spent; `None` =
            never. While the process lives, a thread renews the lease of what can still be settled, however long that takes. Take
            minutes: a process that is stopped for longer, such as by a laptop's sleep, may find its money given to others.

    Raises:
        ConfigError: The amount is no amount or above $4,000,000, another one than that of the budget of this name, or `None` for
            a new budget.
        StorageError: The file cannot be opened, or is another program's.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, SqliteBudget(f"{folder}/money.sqlite", "today", 0.10) as budget:
    ...     budget.reserve(0.06).settle(0.02)
    ...     budget.left()
    0.08
    """

    def __init__(self, path: str | Path, name: str, usd: float | None = None, *, lease: float | None = None) -> None:
        if lease is not None and not lease > 0.0:
            raise ConfigError(f"lease={lease!r} must be a positive number of seconds, or None for ever")
        self.path = Path(path).absolute()  # the working directory may change
        self.name = name
        self.lease = lease
        self._handle = Handle(self)
        # By process, since a forked child knows those of its parent, and by number. Whoever lets go of one cannot settle it.
        self._held: weakref.WeakValueDictionary[tuple[int, int], Reservation] = weakref.WeakValueDictionary()
        self._keeper: threading.Thread | None = None
        self._renewal = 0.0
        try:
            self.usd = self._total(None if usd is None else _units(usd, up=False)) / _UNIT
        except BaseException:
            self.close()
            raise

    def _total(self, wanted: int | None) -> int:
        """What the budget amounts to, in the file's units; a new one is made."""
        with self._transaction() as connection:
            if wanted is not None:
                connection.execute("INSERT INTO budgets VALUES (?, ?, 0) ON CONFLICT DO NOTHING", (self.name, wanted))
            row = connection.execute("SELECT total FROM budgets WHERE name = ?", (self.name,)).fetchone()
        if row is None:
            raise ConfigError(f"{self.path} holds no budget {self.name!r}: say usd=, how much may be spent")
        total = int(row[0])
        if wanted not in {None, total}:
            held = f"{self.path} holds a budget {self.name!r} of ${total / _UNIT:g}"
            raise ConfigError(f"{held}: leave usd out to share it, or give another name")
        return total

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """This process's connection, for one thread at a time."""
        handle = self._handle
        with handle.lock:
            if handle.closed:
                raise StorageError(f"{self.path}: the budget is closed")
            if handle.file not in {None, file_at(self.path)}:
                # What is set aside in a deleted file, no other process hears of.
                raise StorageError(f"{self.path}: was removed or replaced while the budget was open; open the budget again")
            try:
                if handle.connection is None:
                    handle.connection = _opened(self.path)
                    handle.file = file_at(self.path) or (0, 0)  # it may be gone at once
                yield handle.connection
            except sqlite3.Error as error:
                raise storage_error(self.path, error) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._database() as connection, _immediate(connection):
            yield connection

    def _state(self, connection: sqlite3.Connection) -> tuple[int, int, int]:
        """Total, spent and set aside."""
        total, spent, held = connection.execute(_STATE, (time.time(), self.name)).fetchone()
        return total, spent, held

    def left(self) -> float:
        """USD neither spent nor set aside; 0 when it is overdrawn.

        Raises:
            StorageError: The file cannot be read.
        """
        with self._database() as connection:
            total, spent, held = self._state(connection)
        return max(0, total - spent - held) / _UNIT

    def spent(self) -> float:
        """USD of all settled calls.

        Raises:
            StorageError: The file cannot be read.
        """
        with self._database() as connection:
            return self._state(connection)[1] / _UNIT

    def reserve(self, usd: float) -> Reservation:
        """Sets money aside for one call, the most that it can cost.

        Raises:
            BudgetError: Less than that is left; nothing is set aside.
            ConfigError: The amount is negative or no number.
            StorageError: The file cannot be written, or stayed locked for 30 s.
        """
        wanted = _units(usd)
        key = None
        with self._transaction() as connection:
            self._expire(connection)
            total, spent, held = self._state(connection)
            if not lacks(wanted, total - spent - held, total):
                row = (self.name, wanted, self._until())
                key = connection.execute("INSERT INTO reservations (name, held, until) VALUES (?, ?, ?)", row).lastrowid
        if key is None:
            raise short(wanted, total - spent - held, total, _UNIT)
        found = Reservation(self, key, wanted, _UNIT)
        if self.lease is not None:
            self._keep(key, found, self.lease)
        return found

    def book(self, key: int, held: int, spent: int) -> None:  # noqa: ARG002 # the file knows what it holds
        """Ends a reservation; `Reservation` calls it. One whose lease had run out is booked all the same."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM reservations WHERE seq = ?", (key,))
            row = (min(spent, _MOST), _MOST, self.name)
            connection.execute("UPDATE budgets SET spent = min(spent + ?, ?) WHERE name = ?", row)
        with self._handle.lock:  # the keeper reads it under this lock
            self._held.pop((os.getpid(), key), None)

    def part(self, key: int, spent: int) -> None:
        """Books a part of what a reservation holds as spent; `Reservation` calls it."""
        with self._transaction() as connection:
            connection.execute("UPDATE reservations SET held = max(held - ?, 0) WHERE seq = ?", (spent, key))
            row = (min(spent, _MOST), _MOST, self.name)
            connection.execute("UPDATE budgets SET spent = min(spent + ?, ?) WHERE name = ?", row)

    # --- leases ---

    def _until(self) -> float:
        return math.inf if self.lease is None else time.time() + self.lease

    def _mine(self) -> set[int]:
        """The numbers of what this process has set aside and can still settle."""
        return {key for process, key in list(self._held) if process == os.getpid()}

    def _expire(self, connection: sqlite3.Connection) -> None:
        """Frees what processes had set aside that are gone; what is found of this one's, after a long sleep, is still its own."""
        rows = connection.execute("SELECT seq FROM reservations WHERE name = ? AND until < ?", (self.name, time.time()))
        late = {key for (key,) in rows}
        if late:
            mine = late & self._mine()
            self._renew(connection, mine)
            connection.executemany("DELETE FROM reservations WHERE seq = ?", [(key,) for key in late - mine])

    def _renew(self, connection: sqlite3.Connection, keys: set[int]) -> None:
        until = self._until()
        connection.executemany("UPDATE reservations SET until = ? WHERE seq = ?", [(until, key) for key in keys])

    def _keep(self, key: int, reservation: Reservation, lease: float) -> None:
        """Renews a reservation's lease for as long as it is not ended and somebody can still end it."""
        with self._handle.lock:
            self._held[os.getpid(), key] = reservation
            if self._keeper is None or not self._keeper.is_alive():
                self._renewal = time.time() + lease / 3.0
                work = (weakref.ref(self), max(_LEAST, min(_LOOK, lease / 3.0)))
                self._keeper = threading.Thread(target=_keeping, args=work, name="agentroute-budget-lease", daemon=True)
                self._keeper.start()

    def kept(self) -> bool:
        """Renews the leases where it is time to; whether there is anything left to keep. The thread asks it."""
        with self._handle.lock:
            mine = self._mine()
            if not mine or self.lease is None or self._handle.closed:
                self._keeper = None
                return False
            if time.time() >= self._renewal:
                try:
                    with self._transaction() as connection:
                        self._renew(connection, mine)
                    self._renewal = time.time() + self.lease / 3.0
                except StorageError:
                    pass  # declared fallback point: it is tried again at the next look, and whoever settles is told
            return True

    def close(self) -> None:
        """Closes the file; using the budget afterwards raises `StorageError`. Closing twice does nothing."""
        self._handle.close()

    def __enter__(self) -> Self:
        """The budget itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file."""
        self.close()

    def __reduce__(self) -> tuple[Callable[..., SqliteBudget], tuple[Path, str]]:
        """A copy, in another process too, is of the same budget. Without its amount: where the file is lost, so is the budget."""
        return partial(type(self), lease=self.lease), (self.path, self.name)

    def __repr__(self) -> str:
        """The path, the name and the amount."""
        return f"SqliteBudget({str(self.path)!r}, {self.name!r}, {self.usd:g})"


def _units(usd: float, *, up: bool = True) -> int:
    """Whole units of the file.

    Raises:
        ConfigError: The amount is none, or more than the file can hold.
    """
    found = units(usd, _UNIT, up=up)
    if found > _MOST:
        raise ConfigError(f"${usd:g} is more than a budget in a file can hold: ${_MOST // _UNIT:,}")
    return found


def _keeping(of: weakref.ref[SqliteBudget], pause: float) -> None:
    """What a budget's thread does: it looks again and again, and keeps the budget from nobody who has let go of it."""
    going = True
    while going:
        time.sleep(pause)
        budget = of()
        going = budget is not None and budget.kept()
        del budget


@contextmanager
def _immediate(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that holds the file from its first statement on, so that nobody reads what it is about to change."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _opened(path: Path) -> sqlite3.Connection:
    """The file's database, made where it is new."""
    if not path.parent.is_dir():
        raise StorageError(f"{path}: its folder does not exist; create it first")
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        connection = connect(path, create=True)
        try:
            _prepare(connection, path)
        except BaseException as error:
            connection.close()
            # Processes that open a new file at once may meet while it is switched to WAL, where SQLite does not wait by itself.
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Checks that the file is ours before anything of it is changed, and makes its tables where it is new."""

    def ours() -> bool:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        if application != _APPLICATION and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise StorageError(f"{path} is another program's SQLite database, and was left as it is: give another path")
        return bool(application == _APPLICATION)

    if not ours():
        connection.execute("PRAGMA journal_mode = WAL")
        with _immediate(connection):
            if not ours():  # another process may have made them meanwhile
                for statement in _TABLES:
                    connection.execute(statement)
