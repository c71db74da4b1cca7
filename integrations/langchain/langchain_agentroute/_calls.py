"""One routed call on its way: the request, the calls made for it, and what is logged of them."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs

from agentroute.cascades import Attempt, Call, CascadeResult, Flow, adrive, drive, failover
from agentroute.errors import OutcomeDroppedWarning
from agentroute.pool import ModelPool
from agentroute.types import Outcome, Score
from langchain_agentroute._bindings import Binding, SchemaBinding
from langchain_agentroute._candidates import Target
from langchain_agentroute._deciding import Decided
from langchain_agentroute._doors import EVENTS, Door, Opened, closing
from langchain_agentroute._record import record_of
from langchain_agentroute._retry import Mistake, is_overflow, mistakes, retryable
from langchain_agentroute._runs import Capture, Run
from langchain_agentroute._watch import Watch

if TYPE_CHECKING:
    from langchain_agentroute._routing import Routing

__all__ = ["Prepare", "Ready", "Request", "RoutedCall", "with_handler"]

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
        beside: Tools and schemas that somebody else binds, which are part of the prompt all the same.
    """

    routing: Routing
    messages: list[BaseMessage]
    kwargs: dict[str, Any]
    binding: Binding | None
    forced: str | None
    needs: frozenset[str]
    config: RunnableConfig
    beside: Sequence[Any] = ()

    @property
    def max_output_tokens(self) -> int | None:
        """The limit that the caller sets on the answer, if any."""
        limit = self.kwargs.get("max_tokens", self.kwargs.get("max_completion_tokens"))
        return limit if isinstance(limit, int) and limit > 0 else None


@dataclass(slots=True, kw_only=True, eq=False)
class Ready:
    """A call, ready to be made."""

    target: Target
    messages: list[BaseMessage]
    config: RunnableConfig
    kwargs: dict[str, Any]
    capture: Capture | None = None


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

    def checker(self) -> Callable[[Attempt[Any]], Score] | None:
        """What judges answers; `None` = the flow asks for no judgement."""
        return None

    def achecker(self) -> Callable[[Attempt[Any]], Awaitable[Score]] | None:
        """As `checker`."""
        return None

    def drive(self, call: Callable[[Call], Attempt[A]]) -> CascadeResult[A]:
        """Calls one model after the other until one answers. The caller's own mistakes come out as they are."""
        try:
            return drive(self.flow(), call, self.checker())
        except Mistake as mistake:
            error = mistake.error
        raise error

    async def adrive(self, call: Callable[[Call], Awaitable[Attempt[A]]]) -> CascadeResult[A]:
        """As `drive`."""
        try:
            return await adrive(self.flow(), call, self.achecker())
        except Mistake as mistake:
            error = mistake.error
        raise error

    def ready(self, step: Call) -> Ready:
        """Binds tools or schema and prepares the messages."""
        return self.prepared(step, self.targets[step.model], self.request.binding)

    def prepared(self, step: Call, target: Target, binding: Binding | None) -> Ready:
        """As `ready`, with this target and this binding."""
        request = self.request
        if binding is not None:
            target = binding.on(target)
        messages = request.messages
        if self.prepare_messages is not None:
            messages = self.prepare_messages(list(messages), target.chat)
        config = self.run.child(self.trace(step))
        if target.config:
            config = merge_configs(target.config, config)
        capture = None
        if isinstance(binding, SchemaBinding):
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
        return self.called(step, ready)

    def called(self, step: Call, ready: Ready) -> Attempt[Any]:
        """Makes a call that is ready."""
        with Watch(self, step, ready.capture) as watch:
            answer = ready.target.runnable.invoke(ready.messages, ready.config, **ready.kwargs)
        return watch.answered(answer)

    async def ainvoke(self, step: Call) -> Attempt[Any]:
        """As `invoke`."""
        with mistakes():
            ready = self.ready(step)
        return await self.acalled(step, ready)

    async def acalled(self, step: Call, ready: Ready) -> Attempt[Any]:
        """As `called`."""
        with Watch(self, step, ready.capture) as watch:
            answer = await ready.target.runnable.ainvoke(ready.messages, ready.config, **ready.kwargs)
        return watch.answered(answer)

    def open(self, step: Call, door: Door) -> Attempt[Any]:
        """Opens the candidate's stream and waits for the first item that shows anything."""
        with mistakes():
            ready = self.ready(step)
        return self.opened(step, door, ready)

    def opened(self, step: Call, door: Door, ready: Ready) -> Attempt[Opened]:
        """Opens a stream that is ready."""
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
        watch.opened()
        return Attempt(model=step.model, answer=Opened(head=head, items=items, watch=watch))

    async def aopen(self, step: Call, door: Door) -> Attempt[Any]:
        """As `open`."""
        with mistakes():
            ready = self.ready(step)
        return await self.aopened(step, door, ready)

    async def aopened(self, step: Call, door: Door, ready: Ready) -> Attempt[Opened]:
        """As `opened`."""
        with Watch(self, step, ready.capture) as watch:
            items: AsyncIterator[Any]
            if door is EVENTS:
                stream = await ready.target.runnable.astream_events(ready.messages, ready.config, version="v3", **ready.kwargs)
                items = closing(stream)
            else:
                items = ready.target.runnable.astream(ready.messages, ready.config, **ready.kwargs)
            head = []
            async for item in items:
                head.append(item)
                if door.speaks(item):
                    break
        watch.opened()
        return Attempt(model=step.model, answer=Opened(head=head, items=items, watch=watch))

    def book(self, outcome: Outcome) -> None:
        """Logs the outcome of a call."""
        try:
            self.log.append(outcome)
        except Exception as problem:  # declared fallback point: logging never fails the user's call
            warnings.warn(f"an outcome was not logged: {problem}", OutcomeDroppedWarning, stacklevel=2)

    def totals(self, answered: CascadeResult[Any], watch: Watch) -> dict[str, Any]:  # noqa: ARG002  # for subclasses
        """What the record of a stream gains when the answer's usage is known."""
        return {}

    def record(self, answered: CascadeResult[Any], *, replaced: bool = False) -> dict[str, Any]:
        """The routing record of the answer; `replaced` = somebody else gave it in the model's place."""
        return record_of(
            self.decided.decision,
            answered.attempts,
            answered_by=None if replaced else answered.model,
            fallback=self.decided.error is not None,
            routing_latency=self.decided.latency,
        )


def with_handler(callbacks: Any, handler: Capture) -> Any:
    if isinstance(callbacks, BaseCallbackManager):
        copied = callbacks.copy()
        copied.add_handler(handler, inherit=True)
        return copied
    return [*(callbacks or ()), handler]
