"""Budgets that hold for all who spend from them at once: money is set aside before a call, and settled after it."""

from __future__ import annotations

import math
import threading
import warnings
from types import TracebackType
from typing import Final, Protocol, Self, runtime_checkable

from agentroute.errors import AgentRouteWarning, BudgetError, ConfigError

__all__ = ["NANO", "Budget", "MemoryBudget", "Reservation", "nano", "short"]

NANO: Final = 10**9
"""Whole nano-dollars: sums of floats would drift, and two threads could each find room for the same cent."""


class Ledger(Protocol):
    """Where the reservations of a budget are booked; amounts are whole nano-dollars."""

    def book(self, key: int, held: int, spent: int) -> None:
        """Ends a reservation of `held`, of which `spent` was needed."""


class Reservation:
    """USD that are set aside for one call, until it is known what the call has cost.

    As a context manager it books the whole amount on leaving, unless it was settled or released before: a call that broke off
    may have been billed.

    Args:
        ledger: The budget that it belongs to.
        key: Under which the budget knows it.
        nano: What is set aside, in nano-dollars.
    """

    def __init__(self, ledger: Ledger, key: int, nano: int) -> None:
        self._ledger = ledger
        self._key = key
        self._nano = nano
        self._open = threading.Lock()  # taken once, by whoever ends it

    @property
    def usd(self) -> float:
        """What is set aside."""
        return self._nano / NANO

    def settle(self, usd: float) -> None:
        """Books what the call has cost, and gives the rest back.

        More than was set aside is booked too, since it is spent, and warned of: only a reservation of the most that a call can
        cost keeps a budget.

        Raises:
            ConfigError: The amount is negative or no number, or the reservation has been settled or released before.
        """
        spent = nano(usd)
        if not self._open.acquire(blocking=False):
            raise ConfigError("this reservation has been settled or released before: reserve anew for each call")
        self._ledger.book(self._key, self._nano, spent)
        if spent > self._nano:
            message = (
                f"a call cost ${usd:.6g}, for which ${self.usd:.6g} were set aside: the budget may be exceeded; "
                "reserve the most that a call can cost"
            )
            warnings.warn(message, AgentRouteWarning, stacklevel=2)

    def release(self) -> None:
        """Gives all of it back: the call was not made. Does nothing once it is settled or released."""
        if self._open.acquire(blocking=False):
            self._ledger.book(self._key, self._nano, 0)

    def __enter__(self) -> Self:
        """The reservation itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Books the whole amount, unless it was settled or released."""
        if self._open.acquire(blocking=False):
            self._ledger.book(self._key, self._nano, self._nano)

    def __repr__(self) -> str:
        """The amount."""
        return f"Reservation(usd={self.usd:g})"


@runtime_checkable
class Budget(Protocol):
    """USD that several may spend from at once: what is spent and set aside together never exceeds it."""

    def left(self) -> float:
        """USD neither spent nor set aside; 0 when it is overdrawn."""

    def reserve(self, usd: float) -> Reservation:
        """Sets money aside for one call, the most that it can cost.

        Raises:
            BudgetError: Less than that is left; nothing is set aside.
            ConfigError: The amount is negative or no number.
        """


class MemoryBudget:
    """A budget of one process, for all its threads and tasks.

    Args:
        usd: What may be spent.

    Raises:
        ConfigError: The amount is negative or no number.

    >>> budget = MemoryBudget(0.10)
    >>> with budget.reserve(0.06) as reserved:
    ...     reserved.settle(0.02)
    >>> budget.left()
    0.08
    """

    def __init__(self, usd: float) -> None:
        self.usd = usd
        self._total = nano(usd, up=False)
        self._spent = 0
        self._held = 0
        self._lock = threading.Lock()

    def left(self) -> float:
        """USD neither spent nor set aside; 0 when it is overdrawn."""
        with self._lock:
            return max(0, self._total - self._spent - self._held) / NANO

    def spent(self) -> float:
        """USD of all settled calls."""
        return self._spent / NANO

    def reserve(self, usd: float) -> Reservation:
        """Sets money aside for one call, the most that it can cost.

        Raises:
            BudgetError: Less than that is left; nothing is set aside.
            ConfigError: The amount is negative or no number.
        """
        wanted = nano(usd)
        with self._lock:
            left = self._total - self._spent - self._held
            if wanted > max(0, left):  # what is free may be called even when the budget is overdrawn
                raise short(wanted, left, self._total)
            self._held += wanted
        return Reservation(self, 0, wanted)

    def book(self, key: int, held: int, spent: int) -> None:  # noqa: ARG002 # one sum serves all reservations
        """Ends a reservation; `Reservation` calls it."""
        with self._lock:
            self._held -= held
            self._spent += spent

    def __repr__(self) -> str:
        """The amounts."""
        return f"MemoryBudget(usd={self.usd:g}, left={self.left():g})"


def nano(usd: float, *, up: bool = True) -> int:
    """Whole nano-dollars. What is spent is rounded up and what may be spent down, so that rounding never overspends.

    Raises:
        ConfigError: The amount is negative or no number.
    """
    if not (usd >= 0.0 and math.isfinite(usd)):
        raise ConfigError(f"${usd!r} is no amount of money: give USD, 0 or more")
    # Three places below a nano-dollar are looked at: what is beyond comes from the float, not from anybody's price.
    exact = round(usd * NANO, 3)
    return math.ceil(exact) if up else math.floor(exact)


def short(wanted: int, left: int, total: int) -> BudgetError:
    """The error of a budget that has too little left."""
    left = max(0, left)
    message = f"a call may cost ${wanted / NANO:.6g}, and ${left / NANO:.6g} of the budget of ${total / NANO:.6g} are left"
    return BudgetError(message, budget=left / NANO, cheapest=wanted / NANO)
