"""One routed call on its way: the request, the calls made for it, and what is logged of them."""

from __future__ import annotations

import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import add_usage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs

from agentroute.cascades import Attempt, Call, CascadeResult, Flow, adrive, drive, failover
from agentroute.errors import OutcomeDroppedWarning
from agentroute.pool import ModelPool
from agentroute.types import Outcome, Usage
from langchain_agentroute._bindings import Binding, SchemaBinding
from langchain_agentroute._candidates import Target
from langchain_agentroute._deciding import Decided
from langchain_agentroute._messages import RECORD
from langchain_agentroute._record import billed, record_of, stamped, usage_of
from langchain_agentroute._retry import Mistake, is_control_flow, is_overflow, mistakes, retryable
from langchain_agentroute._runs import Capture, Run

if TYPE_CHECKING:
    from langchain_agentroute._routing import Routing

__all__ = ["CHUNKS", "EVENTS", "Door", "Opened", "Prepare", "Request", "RoutedCall", "Watch", "with_handler"]

A = TypeVar("A")

Prepare: TypeAlias = Callable[[list[BaseMessage], BaseChatModel], list[BaseMessage]]
"""Rewrites a conversation for the candidate that is about to see it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """What a caller asks of a routed model.

    Attributes:
        routing: What decides about it, from beginning to end, whatever is assigned to the model meanwhile.
        messages: The conversation.
        kwargs: Arguments for the candidate's call.
        binding: Tools or a schema, to be bound by the candidate.
        forced: The candidate that the caller insists on.
        needs: Capabilities that tools or schema ask for.
        config: LangChain's configuration of the call.
    """

    routing: Routing
    messages: list[BaseMessage]
    kwargs: dict[str, Any]
    binding: Binding | None
    forced: str | None
    needs: frozenset[str]
    config: RunnableConfig

    @property
    def max_output_tokens(self) -> int | None:
        """The limit that the caller sets on the answer, if any."""
        limit = self.kwargs.get("max_tokens", self.kwargs.get("max_completion_tokens"))
        return limit if isinstance(limit, int) and limit > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Door:
    """What differs between the ways to stream: chunks of a message, or protocol events.

    Attributes:
        speaks: Whether an item shows anything; failover ends with the first that does.
        stamps: Puts the record on an item.
        on: Whether an item is the one to carry the record.
        usage: `usage_metadata` of an item, if it has any.
        ends: Whether the answer is whole with an item, though one with the usage may follow.
    """

    speaks: Callable[[Any], bool]
    stamps: Callable[[Any, dict[str, Any]], Any]
    on: Callable[[Any], bool]
    usage: Callable[[Any], Any]
    ends: Callable[[Any], bool]


def _chunk_speaks(chunk: Any) -> bool:
    if not isinstance(chunk, AIMessageChunk):
        return True
    return bool(chunk.content or chunk.tool_call_chunks or chunk.additional_kwargs or chunk.chunk_position == "last")


def _chunk_ends(chunk: Any) -> bool:
    if not isinstance(chunk, AIMessageChunk):
        return False
    told = chunk.response_metadata
    return chunk.chunk_position == "last" or any(told.get(name) for name in ("finish_reason", "stop_reason", "done_reason"))


def _stamp_event(event: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    metadata = event.get("metadata") or {}
    inner = metadata.get(RECORD)
    return {**event, "metadata": {**metadata, RECORD: record if inner is None else {**record, "via": inner}}}


# The first chunk takes the record, because it is the only one that is sure to come.
CHUNKS = Door(
    speaks=_chunk_speaks,
    stamps=stamped,
    on=lambda _: True,
    usage=lambda chunk: chunk.usage_metadata if isinstance(chunk, AIMessage) else None,
    ends=_chunk_ends,
)
# Of the events only the last one has a place that reaches the assembled message's response_metadata.
EVENTS = Door(
    speaks=lambda event: event.get("event") != "message-start",
    stamps=_stamp_event,
    on=lambda event: event.get("event") == "message-finish",
    usage=lambda event: event.get("usage"),
    ends=lambda event: event.get("event") == "message-finish",
)


@dataclass(slots=True, kw_only=True, eq=False)
class Ready:
    """A call, ready to be made."""

    target: Target
    messages: list[BaseMessage]
    config: RunnableConfig
    kwargs: dict[str, Any]
    capture: Capture | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Opened:
    """A stream of which the first speaking item has come.

    Attributes:
        head: The items so far.
        items: The rest.
        watch: Logs how it ends.
    """

    head: list[Any]
    items: Any
    watch: Watch


@dataclass(slots=True, kw_only=True, eq=False)
class RoutedCall:
    """The calls that one request leads to."""

    decided: Decided
    request: Request
    run: Run
    targets: Mapping[str, Target]
    pool: ModelPool
    log: Any
    prepare_messages: Prepare | None
    failover: bool | Sequence[str]

    def flow(self) -> Flow[Any]:
        """Whom to call, in order."""
        decision = self.decided.decision
        order = [decision.model]
        if self.failover and decision.by != "forced":
            later = decision.ranking
            if self.failover is not True:
                # The caller's own list: a router that ranks nobody but its choice has no say in it.
                allow = self.decided.query.allow
                later = tuple(name for name in self.failover if allow is None or name in allow)
            order += [name for name in later if name in self.targets]
        # Each but once: a second call of the same model is the candidate's own max_retries.
        return failover(list(dict.fromkeys(order)), retryable=retryable, suitable=self._suitable)

    def _suitable(self, attempt: Attempt[Any], candidate: str) -> bool:
        """After an overflow only a model with a window known to be larger; after anything else any model."""
        if not is_overflow(attempt.error):
            return True
        failed, other = self.pool.card(attempt.model).context_window, self.pool.card(candidate).context_window
        return failed is not None and other is not None and other > failed

    def drive(self, call: Callable[[Call], Attempt[A]]) -> CascadeResult[A]:
        """Calls one model after the other until one answers. The caller's own mistakes come out as they are."""
        try:
            return drive(self.flow(), call)
        except Mistake as mistake:
            error = mistake.error
        raise error

    async def adrive(self, call: Callable[[Call], Awaitable[Attempt[A]]]) -> CascadeResult[A]:
        """As `drive`."""
        try:
            return await adrive(self.flow(), call)
        except Mistake as mistake:
            error = mistake.error
        raise error

    def ready(self, step: Call) -> Ready:
        """Binds tools or schema and prepares the messages."""
        request = self.request
        target = self.targets[step.model]
        if request.binding is not None:
            target = request.binding.on(target)
        messages = request.messages
        if self.prepare_messages is not None:
            messages = self.prepare_messages(list(messages), target.chat)
        config = self.run.child(self.trace(step))
        if target.config:
            config = merge_configs(target.config, config)
        capture = None
        if isinstance(request.binding, SchemaBinding):
            capture = Capture()
            config["callbacks"] = with_handler(config.get("callbacks"), capture)
        kwargs = {**target.kwargs, **request.kwargs} if target.kwargs else request.kwargs
        return Ready(target=target, messages=messages, config=config, kwargs=kwargs, capture=capture)

    def trace(self, step: Call) -> dict[str, Any]:
        """Flat metadata for the candidate's run, by which traces can be filtered."""
        return {
            "agentroute_model": step.model,
            "agentroute_decision_id": self.decided.decision.id,
            "agentroute_attempt": step.attempt,
        }

    def invoke(self, step: Call) -> Attempt[Any]:
        """Calls the candidate and waits for the whole answer."""
        with mistakes():
            ready = self.ready(step)
        with Watch(self, step, ready.capture) as watch:
            answer = ready.target.runnable.invoke(ready.messages, ready.config, **ready.kwargs)
        return watch.answered(answer)

    async def ainvoke(self, step: Call) -> Attempt[Any]:
        """As `invoke`."""
        with mistakes():
            ready = self.ready(step)
        with Watch(self, step, ready.capture) as watch:
            answer = await ready.target.runnable.ainvoke(ready.messages, ready.config, **ready.kwargs)
        return watch.answered(answer)

    def open(self, step: Call, door: Door) -> Attempt[Opened]:
        """Opens the candidate's stream and waits for the first item that shows anything."""
        with mistakes():
            ready = self.ready(step)
        with Watch(self, step, ready.capture) as watch:
            items: Iterator[Any]
            if door is EVENTS:
                items = iter(ready.target.runnable.stream_events(ready.messages, ready.config, version="v3", **ready.kwargs))
            else:
                items = ready.target.runnable.stream(ready.messages, ready.config, **ready.kwargs)
            head = []
            for item in items:
                head.append(item)
                if door.speaks(item):
                    break
        return Attempt(model=step.model, answer=Opened(head=head, items=items, watch=watch))

    async def aopen(self, step: Call, door: Door) -> Attempt[Opened]:
        """As `open`."""
        with mistakes():
            ready = self.ready(step)
        with Watch(self, step, ready.capture) as watch:
            items: AsyncIterator[Any]
            if door is EVENTS:
                stream = await ready.target.runnable.astream_events(ready.messages, ready.config, version="v3", **ready.kwargs)
                items = _closing(stream)
            else:
                items = ready.target.runnable.astream(ready.messages, ready.config, **ready.kwargs)
            head = []
            async for item in items:
                head.append(item)
                if door.speaks(item):
                    break
        return Attempt(model=step.model, answer=Opened(head=head, items=items, watch=watch))

    def record(self, answered: CascadeResult[Any], *, replaced: bool = False) -> dict[str, Any]:
        """The routing record of the answer; `replaced` = somebody else gave it in the model's place."""
        return record_of(
            self.decided.decision,
            answered.attempts,
            answered_by=None if replaced else answered.model,
            fallback=self.decided.error is not None,
            routing_latency=self.decided.latency,
        )


async def _closing(stream: Any) -> AsyncIterator[Any]:
    """The stream's events; closing this closes the stream."""
    async with stream:
        async for event in stream:
            yield event


def with_handler(callbacks: Any, handler: Capture) -> Any:
    if isinstance(callbacks, BaseCallbackManager):
        copied = callbacks.copy()
        copied.add_handler(handler, inherit=True)
        return copied
    return [*(callbacks or ()), handler]


class Watch:
    """Times one call and logs its outcome, exactly once, however it ends.

    As a context manager it logs a failure or an interruption; `answered` and `ended` log a success.
    """

    __slots__ = ("_call", "_capture", "_finished", "_started", "_step", "_usage")

    def __init__(self, call: RoutedCall, step: Call, capture: Capture | None) -> None:
        self._call = call
        self._step = step
        self._capture = capture
        self._usage: Any = None
        self._started = time.perf_counter()
        self._finished: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            return
        if isinstance(error, Exception) and not is_control_flow(error):
            self._append(self._seen(), latency=self._elapsed(), error=type(error).__name__)
        elif self._finished is not None:
            # The reader has left, but not before the answer was whole.
            self.ended()
        else:
            # Cancelled or closed by the caller: no failure of the model, and no whole answer either.
            self._append(self._seen(), latency=None, metadata={"interrupted": True})

    def saw(self, item: Any, door: Door) -> None:
        """Takes note of one chunk or event: its usage, and whether the answer is whole with it."""
        if door.ends(item):
            self._finished = self._elapsed()
        usage = door.usage(item)
        if usage:
            self._usage = usage if self._usage is None else add_usage(self._usage, usage)

    def answered(self, answer: Any) -> Attempt[Any]:
        """The whole answer has come."""
        if isinstance(answer, AIMessage):
            self._usage = answer.usage_metadata
        return self.ended(answer)

    def ended(self, answer: Any = None) -> Attempt[Any]:
        """The stream has come to its end."""
        metadata = self._seen()
        latency = self._elapsed() if self._finished is None else self._finished
        usage, cost = self._append(metadata, latency=latency)
        return Attempt(model=self._step.model, answer=answer, usage=usage, cost=cost, latency=latency)

    def failed(self, error: BaseException) -> None:
        """The model failed, though somebody else answered in its place."""
        self._append(self._seen(), latency=self._elapsed(), error=type(error).__name__)

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
        usage = usage_of(usage_metadata)
        cost = billed(usage_metadata, usage, call.pool.card(step.model).price)
        # The candidate's cache answered: what a call costs and how long it takes is not to be learned from that.
        cached = bool(usage_metadata) and usage_metadata.get("total_cost") == 0
        if cached:
            metadata = {"cached": True, **(metadata or {})}
        if call.log is not None:
            decided = call.decided
            try:
                call.log.append(
                    Outcome(
                        query=decided.query,
                        model=step.model,
                        usage=usage,
                        cost=None if cached else cost,
                        latency=None if cached else latency,
                        error=error,
                        decision_id=decided.decision.id,
                        attempt=step.attempt,
                        # Later attempts were not chosen by the policy but by the failure of earlier ones.
                        propensity=decided.decision.propensity if step.attempt == 0 else None,
                        at=datetime.now(UTC),
                        metadata=metadata or {},
                    )
                )
            except Exception as problem:  # declared fallback point: logging never fails the user's call
                warnings.warn(f"an outcome was not logged: {problem}", OutcomeDroppedWarning, stacklevel=2)
        return usage, cost
