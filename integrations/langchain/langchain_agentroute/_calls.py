"""One routed call on its way: the request, and how the calls for it are made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs

from agentroute import serving
from agentroute.cascades import Attempt, Call
from agentroute.serving import Asked, Decider, Undecided, mistakes
from agentroute.teams import RoleCall, TeamSession, current_session
from langchain_agentroute._bindings import Binding, SchemaBinding
from langchain_agentroute._candidates import Target
from langchain_agentroute._ceilings import sizes
from langchain_agentroute._doors import EVENTS, Door, Opened, closing
from langchain_agentroute._messages import prompt_tokens, turns_of
from langchain_agentroute._runs import Capture, Run
from langchain_agentroute._watch import Watch

if TYPE_CHECKING:
    from langchain_agentroute._routing import Routing

__all__ = ["Prepare", "Ready", "Request", "RoutedCall", "with_handler"]

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
        session: The team's session in which it was asked, though its answer may be read elsewhere.
    """

    routing: Routing
    messages: list[BaseMessage]
    kwargs: dict[str, Any]
    binding: Binding | None
    forced: str | None
    needs: frozenset[str]
    config: RunnableConfig
    beside: Sequence[Any] = ()
    session: TeamSession | None = field(default_factory=current_session)

    def within(self) -> AbstractContextManager[Any]:
        """Within, the session is the one in which it was asked: a generator runs only when it is read."""
        return nullcontext() if self.session is None else self.session.active()

    @property
    def max_output_tokens(self) -> int | None:
        """The limit that the caller sets on the answer, if any."""
        limit = self.kwargs.get("max_tokens", self.kwargs.get("max_completion_tokens"))
        return limit if isinstance(limit, int) and limit > 0 else None

    def begin(self, kept: str | None = None) -> Undecided:
        """The decision that is to be made; `kept` is the model that the caller would rather keep.

        Raises:
            NoEligibleModelError: No candidate can do what the query needs.
        """
        asked = Asked(
            turns=turns_of(self.messages),
            needs=self.needs,
            max_output_tokens=self.max_output_tokens,
            count=partial(prompt_tokens, self.messages),
            forced=self.forced,
            kept=kept,
            size=sizes(self),
        )
        return self.routing.decider.begin(asked)


@dataclass(slots=True, kw_only=True, eq=False)
class Ready:
    """A call, ready to be made."""

    target: Target
    messages: list[BaseMessage]
    config: RunnableConfig
    kwargs: dict[str, Any]
    capture: Capture | None = None


# Without slots: a cascade's calls inherit from these and from the core's, and Python cannot merge the slots of two classes.
@dataclass(kw_only=True, eq=False)
class RoutedCall(serving.RoutedCall):
    """The calls that one request leads to.

    Attributes:
        request: The request.
        run: The chain run around the calls.
        targets: The candidates.
        prepare_messages: Rewrites the conversation for a candidate.
    """

    request: Request
    run: Run
    targets: Mapping[str, Target]
    prepare_messages: Prepare | None

    def target(self, step: Call) -> Target:
        """What is called."""
        return self.targets[step.model]

    def asks(self, step: Call) -> Decider | None:
        """Who decides within the candidate, where it is itself a routed model."""
        decider = getattr(getattr(self.target(step).chat, "_routing", None), "decider", None)
        return decider if isinstance(decider, Decider) else None

    def again(self, step: Call) -> RoleCall:
        """Sets as much aside as for the step once more, for a team's session: its model is asked another time.

        Raises:
            BudgetError: Less is left than that.
        """
        part = self.decided.part
        assert part is not None  # noqa: S101  # something was set aside at first
        return part.begin(model=step.model)

    def ready(self, step: Call) -> Ready:
        """Binds tools or schema and prepares the messages."""
        return self.prepared(step, self.target(step), self.request.binding)

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


def with_handler(callbacks: Any, handler: Capture) -> Any:
    if isinstance(callbacks, BaseCallbackManager):
        copied = callbacks.copy()
        copied.add_handler(handler, inherit=True)
        return copied
    return [*(callbacks or ()), handler]
