"""What is logged of each call: its outcome, exactly once, however it ends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from agentroute.cascades import Attempt, Call
from agentroute.serving._records import priced, totals_in
from agentroute.serving._retry import is_control_flow
from agentroute.serving._teams import book, forgiving
from agentroute.types import Outcome, Usage

if TYPE_CHECKING:
    from agentroute.serving._calls import RoutedCall

__all__ = ["Spent", "Watch"]

# An asynchronous deadline may fire by its clock's resolution before its time.
_EARLY = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a call has taken.

    Attributes:
        usage: Its tokens; `None` = unknown.
        cost: USD; `None` = unknown.
        cached: Whether a cache has answered in the model's place: what a call costs and how long it takes is not to be learned
            from that.
    """

    usage: Usage | None = None
    cost: float | None = None
    cached: bool = False


class Watch:
    """Times one call and logs its outcome, exactly once, however it ends.

    As a context manager it logs a failure or an interruption; `ended` logs a success. A plug-in's own kind says what has been
    seen of the answer: its tokens (`told`), and whether it has been cut off (`truncated`).

    Args:
        call: What the call belongs to.
        step: The call.
    """

    def __init__(self, call: RoutedCall, step: Call) -> None:
        self.call = call
        self.step = step
        self._deadline = step.deadline
        self._started = time.perf_counter()
        self._finished: float | None = None
        self._opened = False
        self._booked = False
        # What a team's session has set aside for the call; this books it.
        self._money = call.bookings.pop(step.attempt, None)
        self._nested: dict[str, Any] | None = None

    # --- what a plug-in knows ---

    def told(self) -> Spent:
        """What the answer, or as much as has come of it, says of its own tokens and price."""
        return Spent()

    def truncated(self) -> bool:
        """Whether the answer has no end. Nobody else tells: to the client, a stream cut off between two chunks has ended."""
        return False

    def complete(self) -> bool:
        """Whether what was told is all that the call has taken, whatever became of the answer.

        Some providers tell tokens while the answer is still on its way. So what is known of an answer that broke off is unknown,
        unless the plug-in has seen that the model was done, as where a whole answer could not be parsed.
        """
        return self._finished is not None

    def priced(self, usage: Usage | None) -> float | None:
        """USD by the model's price."""
        return priced(usage, self.call.pool.card(self.step.model).price)

    # --- what happens ---

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            return
        if isinstance(error, Exception) and not is_control_flow(error):
            self.failed(error)
        elif self._finished is not None:
            # The reader has left, but not before the answer was whole.
            self.ended()
        elif self._late() and not isinstance(error, (GeneratorExit, Exception)):
            # Cancelled by its deadline, and not by the caller.
            self._append(latency=self._elapsed(), error="DeadlineExceededError", metadata={"late": True})
        else:
            # Cancelled or closed by the caller: no failure of the model, and no whole answer either.
            self._append(latency=None, metadata={"interrupted": True})

    def opened(self) -> None:
        """The stream has begun in time: the deadline is kept, however long its reader takes."""
        self._deadline = None
        self._opened = True

    def finished(self) -> None:
        """The answer is whole now, though its stream may still say what it has taken."""
        self._finished = self._elapsed()

    def heard(self, record: Any) -> None:
        """Takes note of a record on the answer: what a routed candidate has spent on it."""
        nested = totals_in(record)
        if nested is not None:
            self._nested = {**(self._nested or {}), **{name: value for name, value in nested.items() if value is not None}}

    def ended(self, answer: Any = None) -> Attempt[Any]:
        """The answer has come to its end."""
        latency = self._elapsed() if self._finished is None else self._finished
        cut = self.truncated()
        spent = self._append(latency=latency, metadata={"truncated": True} if cut else None, whole=not cut)
        return Attempt(model=self.step.model, answer=answer, usage=spent.usage, cost=spent.cost, latency=latency)

    def failed(self, error: BaseException) -> None:
        """The model failed, though somebody else may have answered in its place."""
        late = {"late": True} if self._late() else None
        self._append(latency=self._elapsed(), error=type(error).__name__, metadata=late, cause=error)

    def skipped(self) -> None:
        """The model was not called: somebody else has answered in its place."""
        if self._money is not None:
            with forgiving(self._money):
                self._money.release()

    def left(self) -> None:
        """A stream that came too late to be read."""
        self._append(latency=self._elapsed(), error="DeadlineExceededError", metadata={"late": True})

    def spent(self) -> Spent:
        """Tokens and USD, as far as they are known by now."""
        if self._nested is None:
            return self.told()
        # A cascade within: its answer tells its own usage, and the answers that were not taken have cost something too.
        whole = self._nested.get("total_usage")
        usage = Usage(**whole) if isinstance(whole, Mapping) else None
        cost = self._nested.get("total_cost")
        return Spent(usage=usage or self.told().usage, cost=self.priced(usage) if cost is None else cost)

    def _late(self) -> bool:
        """Whether the deadline is over, so that nobody waits any more."""
        return self._deadline is not None and time.monotonic() >= self._deadline - _EARLY

    def _elapsed(self) -> float:
        return time.perf_counter() - self._started

    def _append(
        self,
        *,
        latency: float | None,
        error: str | None = None,
        metadata: dict[str, Any] | None = None,
        cause: BaseException | None = None,
        whole: bool = False,
    ) -> Spent:
        call, step, spent = self.call, self.step, self.spent()
        whole = whole or spent.cached or self.complete()
        if self._money is not None:
            begun = self._opened or spent != Spent()
            book(self._money, spent, latency=latency, error=error, cause=cause, whole=whole, begun=begun)
        if spent.cached:
            metadata = {"cached": True, **(metadata or {})}
        if call.log is not None and not self._booked:
            self._booked = True
            decision = call.decided.decision
            call.book(
                Outcome(
                    query=call.decided.query,
                    model=step.model,
                    # What was told of an answer that broke off is less than it has taken in the end.
                    usage=spent.usage if whole or error is not None else None,
                    cost=spent.cost if (whole or error is not None) and not spent.cached else None,
                    latency=None if spent.cached else latency,
                    error=error,
                    decision_id=decision.id,
                    attempt=step.attempt,
                    # Later attempts were not chosen by the policy but by what came of earlier ones.
                    propensity=decision.propensity if step.attempt == 0 and step.model == decision.model else None,
                    at=datetime.now(UTC),
                    metadata=metadata or {},
                )
            )
        return spent
