"""What a team's session sets aside for the model runs of one call: who asks the model again is paid for again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

from agentroute.serving import Spent, book, forgiving, refused
from agentroute.teams import RoleCall

__all__ = ["Purse"]


class Purse:
    """The money of one call, run by run.

    A middleware further in may call on several times, to try again after a failure or to compare answers, and a chat model's own
    way to objects of a schema may, too. The first run takes what was set aside for the call; for each further one as much is set
    aside anew before it begins, and each is booked when it ends. Safe to use from several threads and tasks at once.

    Args:
        first: What is set aside for the call.
        again: Sets as much aside once more; raises a `BudgetError` where too little is left.
    """

    def __init__(self, first: RoleCall, again: Callable[[], RoleCall]) -> None:
        self._first: RoleCall | None = first
        self._again = again
        self._lock = threading.Lock()
        self._open: dict[Hashable, RoleCall] = {}
        # The latest run that failed: what to think of it depends on whether anybody tries again.
        self._failed: tuple[RoleCall, BaseException] | None = None
        self._over = False

    def begins(self, run: Hashable) -> None:
        """A run is about to begin.

        Raises:
            BudgetError: It is not the first one, and less is left than it may cost.
        """
        with self._lock:
            money, self._first = self._first, None
            failed, self._failed = self._failed, None
        _tried_again(failed)
        if money is None:
            money = self._again()
        with self._lock:
            self._open[run] = money

    def ends(self, run: Hashable, spent: Spent, *, whole: bool) -> None:
        """A run has given its answer and told what it has taken, of the `whole` answer or of one that was cut off."""
        with self._lock:
            money = self._open.pop(run, None)
        if money is not None:
            book(money, spent, latency=None, error=None, cause=None, whole=whole, begun=True)

    def fails(self, run: Hashable, error: BaseException) -> None:
        """A run has failed. One that was cancelled or left ends with the call."""
        with self._lock:
            if run not in self._open or not (isinstance(error, Exception) or self._over):
                return
            before, self._failed = self._failed, (self._open.pop(run), error)
            late = self._over
        _tried_again(before)
        if late:
            self.over()

    def unused(self) -> RoleCall | None:
        """What was set aside for the call, where no run has begun."""
        with self._lock:
            money, self._first = self._first, None
            return money

    def over(self) -> None:
        """The call has its answer. Runs that are still under way, as where the first of several was taken, book themselves."""
        with self._lock:
            self._over = True
            failed, self._failed = self._failed, None
        _tried_again(failed)

    def left(self) -> RoleCall | None:
        """The call has ended without an answer: what is still to be booked, by whoever knows how it ended; `None` = nothing."""
        with self._lock:
            if self._over:
                return None
            self._over = True
            left = [*self._open.values(), *([] if self._first is None else [self._first])]
            failed, self._failed, self._first = self._failed, None, None
            self._open.clear()
        if failed is not None:
            money, error = failed
            book(money, Spent(), latency=None, error=type(error).__name__, cause=error, whole=False, begun=False)
        for one in left[1:]:
            book(one, Spent(), latency=None, error=None, cause=None, whole=False, begun=True)
        return left[0] if left else None


def _tried_again(failed: tuple[RoleCall, BaseException] | None) -> None:
    """Books a run that failed, and after which the same model was asked again or has answered: no reason to leave it."""
    if failed is not None:
        money, error = failed
        with forgiving(money):
            money.failed(error, cost=0.0 if refused(error) else None, again=True)
