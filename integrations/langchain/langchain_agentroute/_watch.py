"""What is logged of each call: its outcome, exactly once, however it ends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import add_usage

from agentroute.cascades import Attempt, Call
from agentroute.types import Outcome, Usage
from langchain_agentroute._messages import RECORD
from langchain_agentroute._record import billed, totals_in, usage_of
from langchain_agentroute._replies import broke_off, finish_of
from langchain_agentroute._retry import is_control_flow
from langchain_agentroute._runs import Capture

if TYPE_CHECKING:
    from langchain_agentroute._calls import RoutedCall
    from langchain_agentroute._doors import Door

__all__ = ["Watch"]

# An asynchronous deadline may fire by its clock's resolution before its time.
_EARLY = 0.02


class Watch:
    """Times one call and logs its outcome, exactly once, however it ends.

    As a context manager it logs a failure or an interruption; `answered` and `ended` log a success.
    """

    __slots__ = (
        "_booked",
        "_call",
        "_capture",
        "_deadline",
        "_finish",
        "_finished",
        "_nested",
        "_provider",
        "_started",
        "_step",
        "_usage",
    )

    def __init__(self, call: RoutedCall, step: Call, capture: Capture | None) -> None:
        self._call = call
        self._step = step
        self._deadline = step.deadline
        self._capture = capture
        self._usage: Any = None
        self._started = time.perf_counter()
        self._finished: float | None = None
        self._booked = False
        self._provider: Any = None
        self._finish: str | None = None
        self._nested: dict[str, Any] | None = None

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
            self._append(self._seen(), latency=self._elapsed(), error="DeadlineExceededError", metadata={"late": True})
        else:
            # Cancelled or closed by the caller: no failure of the model, and no whole answer either.
            self._append(self._seen(), latency=None, metadata={"interrupted": True})

    def opened(self) -> None:
        """The stream has begun in time: the deadline is kept, however long its reader takes."""
        self._deadline = None

    def saw(self, item: Any, door: Door) -> None:
        """Takes note of one chunk or event: its usage, and whether the answer is whole with it."""
        if door.ends(item):
            self._finished = self._elapsed()
        self.note(item)
        usage = door.usage(item)
        if usage:
            self._usage = usage if self._usage is None else add_usage(self._usage, usage)

    def answered(self, answer: Any) -> Attempt[Any]:
        """The whole answer has come."""
        if isinstance(answer, AIMessage):
            self._usage = answer.usage_metadata
        self.note(answer)
        return self.ended(answer)

    def note(self, item: Any) -> None:
        """Why the answer ended, and what a routed candidate has spent on it, where a message, a chunk or an event says so."""
        if isinstance(item, Mapping):
            # The raw message beside an object, or the metadata of an event.
            message, metadata = item.get("raw"), item.get("metadata")
        else:
            message, metadata = item, None
        if isinstance(message, AIMessage):
            metadata = message.response_metadata
        nested = totals_in(metadata.get(RECORD)) if isinstance(metadata, Mapping) else None
        if nested is not None:
            self._nested = {**(self._nested or {}), **{name: value for name, value in nested.items() if value is not None}}
        if isinstance(item, AIMessage):
            self._provider = self._provider or item.response_metadata.get("model_provider")
            self._finish = self._finish or finish_of(item)

    def ended(self, answer: Any = None) -> Attempt[Any]:
        """The stream has come to its end."""
        metadata = self._seen()
        latency = self._elapsed() if self._finished is None else self._finished
        # Nobody else tells: to the client, a stream that is cut off between two chunks has come to its end.
        truncated = {"truncated": True} if broke_off(self._provider, self._finish) else None
        usage, cost = self._append(metadata, latency=latency, metadata=truncated)
        return Attempt(model=self._step.model, answer=answer, usage=usage, cost=cost, latency=latency)

    def failed(self, error: BaseException) -> None:
        """The model failed, though somebody else may have answered in its place."""
        late = {"late": True} if self._late() else None
        self._append(self._seen(), latency=self._elapsed(), error=type(error).__name__, metadata=late)

    def _late(self) -> bool:
        """Whether the deadline is over, so that nobody waits any more."""
        return self._deadline is not None and time.monotonic() >= self._deadline - _EARLY

    def spent(self) -> tuple[Usage | None, float | None]:
        """Tokens and USD, as far as they are known by now."""
        return self._spent(self._usage)

    def _spent(self, usage_metadata: Any) -> tuple[Usage | None, float | None]:
        usage, price = usage_of(usage_metadata), self._call.pool.card(self._step.model).price
        if self._nested is None:
            return usage, billed(usage_metadata, usage, price)
        # A cascade within: its answer tells its own usage, and the answers that were not taken have cost something too.
        told = self._nested.get("total_usage")
        whole = None if told is None else Usage(**told)
        cost = self._nested.get("total_cost")
        return whole or usage, billed(None, whole, price) if cost is None else cost

    def left(self) -> None:
        """A stream that came too late to be read: what it has cost is what is known of it."""
        self._append(self._seen(), latency=self._elapsed(), error="DeadlineExceededError", metadata={"late": True})

    def _seen(self) -> Any:
        if self._usage is None and self._capture is not None and self._capture.message is not None:
            return self._capture.message.usage_metadata
        return self._usage

    def _elapsed(self) -> float:
        return time.perf_counter() - self._started

    def _append(
        self, usage_metadata: Any, *, latency: float | None, error: str | None = None, metadata: dict[str, Any] | None = None
    ) -> tuple[Usage | None, float | None]:
        call, step = self._call, self._step
        usage, cost = self._spent(usage_metadata)
        # The candidate's cache answered: what a call costs and how long it takes is not to be learned from that.
        cached = self._nested is None and bool(usage_metadata) and usage_metadata.get("total_cost") == 0
        if cached:
            metadata = {"cached": True, **(metadata or {})}
        if call.log is not None and not self._booked:
            self._booked = True
            decision = call.decided.decision
            call.book(
                Outcome(
                    query=call.decided.query,
                    model=step.model,
                    usage=usage,
                    cost=None if cached else cost,
                    latency=None if cached else latency,
                    error=error,
                    decision_id=decision.id,
                    attempt=step.attempt,
                    # Later attempts were not chosen by the policy but by what came of earlier ones.
                    propensity=decision.propensity if step.attempt == 0 and step.model == decision.model else None,
                    at=datetime.now(UTC),
                    metadata=metadata or {},
                )
            )
        return usage, cost
