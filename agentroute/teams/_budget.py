"""Budgets that hold for all who spend from them at once: money is set aside before a call, and settled after it."""

from __future__ import annotations

import inspect
import math
import threading
import warnings
from contextlib import suppress
from types import TracebackType
from typing import Final, NoReturn, Protocol, Self, runtime_checkable

from agentroute.errors import BudgetError, BudgetOverrunWarning, ConfigError
from agentroute.teams._values import number

__all__ = ["SLACK", "Budget", "MemoryBudget", "Reservation", "RunBudget", "lacks", "overrun", "short", "units"]

SLACK: Final = 1e-9
"""Part of a budget by which calls may come out above it, because each amount is rounded up, and sums of floats before it."""
_UNIT: Final = 10**18
"""Whole units of a dollar: sums of floats would drift, and two threads could each find room for the same cent. So small that the
roundings of thousands of calls are no billionth of the smallest budget."""
_BETWEEN: Final = frozenset(
    {"agentroute", "asyncio", "concurrent", "contextlib", "langchain_agentroute", "langchain_core", "langgraph", "llama_index"}
    | {"llama_index_instrumentation", "threading", "workflows"}
)
"""Packages that stand between the user's line and what is said of it."""


class Ledger(Protocol):
    """Where the reservations of a budget are booked; amounts are in whole units of its own."""

    def book(self, key: int, held: int, spent: int) -> None:
        """Ends a reservation of `held`, of which `spent` was needed; when it raises, all of it stays set aside."""

    def part(self, key: int, spent: int) -> None:
        """Books so much of what a reservation holds as spent; the rest stays set aside."""


class Reservation:
    """USD that are set aside for one call, until it is known what the call has cost.

    As a context manager it books the whole amount on leaving, unless it was settled or released before: a call that broke off
    may have been billed. Where the budget cannot be written, the money stays set aside, and it can be ended again.

    Args:
        ledger: The budget that it belongs to.
        key: Under which the budget knows it.
        held: What is set aside, in the budget's units.
        unit: Of these units to a dollar.
    """

    def __init__(self, ledger: Ledger, key: int, held: int, unit: int) -> None:
        self._ledger = ledger
        self._key = key
        self._held = held
        self._unit = unit
        self._open = threading.Lock()  # taken once, by whoever ends it

    @property
    def usd(self) -> float:
        """What is set aside."""
        return self._held / self._unit

    @property
    def ended(self) -> bool:
        """Whether it has been settled or released."""
        return self._open.locked()

    def settle(self, usd: float) -> None:
        """Books what the call has cost, and gives the rest back.

        More than was set aside is booked too, since it is spent, and warned of: only a reservation of the most that a call can
        cost keeps a budget.

        Raises:
            ConfigError: The amount is negative or no number, or the reservation has been settled or released before.
        """
        if self.pay(usd):
            overrun("a call", number(usd), self.usd)

    def pay(self, usd: float) -> bool:
        """As `settle`, without a word: whether it was more than had been set aside. Who knows whose call it was can say so."""
        spent = units(usd, self._unit)
        if not self._ends(spent):
            raise ConfigError("this reservation has been settled or released before: reserve anew for each call")
        return spent > self._held * (1.0 + SLACK) + 1

    def pay_part(self, usd: float) -> float:
        """Books a part as spent, at most what is set aside, and leaves the rest set aside: the USD that were booked.

        One thread at a time may ask it.

        Raises:
            ConfigError: The amount is negative or no number, or the reservation has been settled or released before.
        """
        part = min(units(usd, self._unit), self._held)
        if self.ended:
            raise ConfigError("this reservation has been settled or released before: reserve anew for each call")
        self._ledger.part(self._key, part)
        self._held -= part
        return part / self._unit

    def release(self) -> None:
        """Gives all of it back: the call was not made. Does nothing once it is settled or released."""
        self._ends(0)

    def _ends(self, spent: int) -> bool:
        """Ends it, unless somebody else has or is about to."""
        if not self._open.acquire(blocking=False):
            return False
        try:
            self._ledger.book(self._key, self._held, spent)
        except BaseException:
            self._open.release()
            raise
        return True

    def __enter__(self) -> Self:
        """The reservation itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Books the whole amount, unless it was settled or released."""
        self._ends(self._held)

    def __repr__(self) -> str:
        """The amount."""
        return f"Reservation(usd={self.usd:g})"


@runtime_checkable
class Budget(Protocol):
    """USD that several may spend from at once: nobody is given more than is left.

    So what is spent never exceeds it, as long as no call costs more than was set aside for it. What one costs beyond that is
    booked too, and warned of. It is kept to within a billionth of it, which is for roundings: a run that costs exactly the budget
    is no overspending.
    """

    def left(self) -> float:
        """USD neither spent nor set aside; 0 when it is overdrawn."""

    def reserve(self, usd: float) -> Reservation:
        """Sets money aside for one call, the most that it can cost, until the reservation is settled or released.

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
        self._total = units(usd, _UNIT, up=False)
        self.usd = number(usd)
        self._spent = 0
        self._held = 0
        self._lock = threading.Lock()

    def left(self) -> float:
        """USD neither spent nor set aside; 0 when it is overdrawn."""
        with self._lock:
            return max(0, self._total - self._spent - self._held) / _UNIT

    def spent(self) -> float:
        """USD of all settled calls."""
        return self._spent / _UNIT

    def reserve(self, usd: float) -> Reservation:
        """Sets money aside for one call, the most that it can cost.

        Raises:
            BudgetError: Less than that is left; nothing is set aside.
            ConfigError: The amount is negative or no number.
        """
        wanted = units(usd, _UNIT)
        with self._lock:
            left = self._total - self._spent - self._held
            if lacks(wanted, left, self._total):
                raise short(wanted, left, self._total, _UNIT)
            self._held += wanted
        return Reservation(self, 0, wanted, _UNIT)

    def book(self, key: int, held: int, spent: int) -> None:  # noqa: ARG002 # one sum serves all reservations
        """Ends a reservation; `Reservation` calls it."""
        with self._lock:
            self._held -= held
            self._spent += spent

    def part(self, key: int, spent: int) -> None:  # noqa: ARG002 # likewise
        """Books a part of what a reservation holds as spent; `Reservation` calls it."""
        self.book(0, spent, spent)

    def __reduce__(self) -> NoReturn:
        """Refuses to be copied or pickled: its money would be there twice.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError("a MemoryBudget cannot be copied, or its money could be spent twice: use SqliteBudget among processes")

    def __repr__(self) -> str:
        """The amounts."""
        return f"MemoryBudget(usd={self.usd:g}, left={self.left():g})"


class RunBudget(MemoryBudget):
    """What one run may spend of a budget that is shared: set aside from it whole, so that the run is paid to its end.

    Each call that is settled is spent of the shared budget at once, and stays so when the process dies; what is left of the
    run's part is given back by `close`, and stays set aside where nobody closes it.

    Args:
        usd: What the run may spend.
        shared: The budget that others spend from too.

    Raises:
        BudgetError: Less than that is left of the shared budget.
        ConfigError: The amount is negative or no number.
    """

    def __init__(self, usd: float, shared: Budget) -> None:
        super().__init__(usd)
        self._telling = threading.Lock()
        self._told = 0.0
        try:
            self._share = shared.reserve(usd)
        except BudgetError as error:
            left = shared.left()
            message = f"a run may spend ${usd:.6g}, and ${left:.6g} of the budget that it shares are left"
            raise BudgetError(message, budget=left, cheapest=usd) from error

    def book(self, key: int, held: int, spent: int) -> None:
        """Ends a call's reservation, and tells the shared budget; what it cannot be told now, `close` tells it."""
        super().book(key, held, spent)
        with self._telling, suppress(Exception):  # declared fallback point: all of the run's part stays set aside
            self._told += self._share.pay_part(spent / _UNIT)

    def close(self) -> None:
        """Gives back what the run has not spent; does nothing once it is done. What is being paid just now counts as spent."""
        with self._lock:
            due = (self._spent + self._held) / _UNIT
        with self._telling:
            if not self._share.ended:
                self._share.pay(max(0.0, due - self._told))


def units(usd: float, unit: int, *, up: bool = True) -> int:
    """Whole units of a budget, so many to a dollar. What is spent is rounded up and what may be spent down.

    Raises:
        ConfigError: The amount is negative or no number.
    """
    plain = number(usd)
    if not (plain >= 0.0 and math.isfinite(plain)):
        raise ConfigError(f"{usd!r} is no amount of money: give USD, 0 or more")
    # Three places below a unit are looked at: what is beyond comes from the float, not from anybody's price.
    exact = round(plain * unit, 3)
    return math.ceil(exact) if up else math.floor(exact)


def overrun(what: str, cost: float, held: float) -> None:
    """Warns of a call that cost more than was set aside for it, at the line of the user's that is nearest."""
    message = (
        f"{what} cost ${cost:.6g}, for which ${held:.6g} were set aside: the budget may be exceeded; set aside the most that it "
        "can cost: give the answer a limit (max_tokens, or max_output_tokens on the model's card)"
    )
    level, frame = 1, inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _BETWEEN:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, BudgetOverrunWarning, stacklevel=1 if frame is None else level)


def lacks(wanted: int, left: int, total: int) -> bool:
    """Whether a budget has too little left for a call; what is free may be called even when it is overdrawn."""
    return wanted > max(0, left + int(total * SLACK))


def short(wanted: int, left: int, total: int, unit: int) -> BudgetError:
    """The error of a budget that has too little left."""
    left = max(0, left)
    message = f"a call may cost ${wanted / unit:.6g}, and ${left / unit:.6g} of the budget of ${total / unit:.6g} are left"
    return BudgetError(message, budget=left / unit, cheapest=wanted / unit)
