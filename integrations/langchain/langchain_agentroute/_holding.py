"""Answers that are not accepted yet, kept from whoever streams to a user.

A rung of a cascade is one model run like any other, and tracers and usage counters see it as it happens. Handlers that stream to
a user (LangGraph's message streams, `astream_events`, `astream_log`) are another matter: what they are told is told to the user.
For a rung that has still to be judged, each of them is replaced by a `Held`, which keeps what the handler would have been told.
When the answer is accepted, all of it is passed on, so that the user sees that answer once, under its own run; else nothing is.

LangChain's own way, the tag `nostream`, would not do: `astream_events` does not know it, and what it hides stays hidden.

A call that is shown as it comes, and that a deadline may leave behind, gets a `Gate` in place of each of them: it lets everything
through until the call is left. A thread cannot be stopped, and another answer is on the user's screen by then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.callbacks.manager import ahandle_event, handle_event
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk
from langchain_core.runnables import RunnableConfig

from langchain_agentroute._replies import as_chunk

__all__ = ["Gate", "Held", "arelease", "gate", "hold", "release", "unseen"]

_EVENTS = frozenset(name for name in dir(BaseCallbackHandler) if name.startswith("on_"))


class Held(BaseCallbackHandler):
    """Stands in for a handler, and keeps what it would have been told.

    Args:
        handler: The handler.
    """

    run_inline = True

    def __init__(self, handler: BaseCallbackHandler) -> None:
        self.handler = handler
        self.kept: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattribute__(self, name: str) -> Any:
        """Every event is kept, of the kinds that the handler wants."""
        if name in _EVENTS:
            return partial(self._keep, name)
        if name.startswith("ignore_"):
            return getattr(self.handler, name)
        return super().__getattribute__(name)

    def _keep(self, event: str, *args: Any, **kwargs: Any) -> None:
        self.kept.append((event, args, kwargs))

    def events(self) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
        """What was kept; an answer that came whole also as one token, for handlers that wait for tokens."""
        streamed = set()
        for event, args, kwargs in self.kept:
            run = kwargs.get("run_id")
            if event == "on_llm_new_token":
                streamed.add(run)
            if event == "on_llm_end" and run not in streamed:
                message = _message(args[0] if args else kwargs.get("response"))
                if message is not None:
                    chunk = ChatGenerationChunk(message=message)
                    yield "on_llm_new_token", (str(message.text),), {**_about(kwargs), "chunk": chunk}
            yield event, args, kwargs


class Gate:
    """Stands in for a handler, and tells it everything until it is shut.

    Args:
        handler: The handler.
    """

    def __init__(self, handler: BaseCallbackHandler) -> None:
        self.handler = handler
        self.open = True

    @property  # type: ignore[misc]  # object's can be assigned, this one not
    def __class__(self) -> Any:
        """The handler's: LangChain and LangGraph ask `isinstance` how a handler wants to be told."""
        return type(self.handler)

    def __getattr__(self, name: str) -> Any:
        """What the handler has, but for events when the gate is shut."""
        if name in _EVENTS and not self.open:
            return _unheard
        found = getattr(self.handler, name)
        if name == "tap_output_iter":
            return partial(self._tap, found)
        return partial(self._atap, found) if name == "tap_output_aiter" else found

    def shut(self) -> None:
        """Lets nothing through any more."""
        self.open = False

    def _tap(self, tap: Callable[..., Iterator[Any]], run_id: Any, output: Iterator[Any]) -> Iterator[Any]:
        rest = []

        def shown() -> Iterator[Any]:
            for item in output:
                if not self.open:
                    rest.append(item)
                    return
                yield item

        yield from tap(run_id, shown())
        yield from rest
        yield from output

    async def _atap(self, tap: Callable[..., AsyncIterator[Any]], run_id: Any, output: AsyncIterator[Any]) -> AsyncIterator[Any]:
        rest = []

        async def shown() -> AsyncIterator[Any]:
            async for item in output:
                if not self.open:
                    rest.append(item)
                    return
                yield item

        async for item in tap(run_id, shown()):
            yield item
        for item in rest:
            yield item
        async for item in output:
            yield item


def _unheard(*_: Any, **__: Any) -> None:
    pass


def _message(response: Any) -> Any:
    generations = getattr(response, "generations", None)
    generation = generations[0][0] if generations and generations[0] else None
    message = generation.message if isinstance(generation, ChatGeneration) else None
    return as_chunk(message) if isinstance(message, AIMessage) else None


def _about(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: kwargs[name] for name in ("run_id", "parent_run_id", "tags") if name in kwargs}


def _streams(handler: Any) -> bool:
    """Whether a handler streams to a user: LangChain knows them by this method, too. A stand-in may be replaced again."""
    return type(handler) in (Held, Gate) or callable(getattr(handler, "tap_output_iter", None))


def hold(config: RunnableConfig) -> tuple[RunnableConfig, tuple[Held, ...]]:
    """The configuration with all handlers that stream to a user held, and what holds them."""
    changed, held = _replaced(config, Held)
    return changed, cast("tuple[Held, ...]", held)


def gate(config: RunnableConfig) -> tuple[RunnableConfig, tuple[Gate, ...]]:
    """The configuration with a gate before each handler that streams to a user, and the gates."""
    changed, gates = _replaced(config, Gate)
    return changed, cast("tuple[Gate, ...]", gates)


def _replaced(config: RunnableConfig, stand_in: Callable[[BaseCallbackHandler], Any]) -> tuple[RunnableConfig, tuple[Any, ...]]:
    callbacks = config.get("callbacks")
    if isinstance(callbacks, BaseCallbackManager):
        handlers = [*callbacks.handlers, *callbacks.inheritable_handlers]
    else:
        handlers = list(callbacks or ())
    made = {id(handler): stand_in(handler) for handler in handlers if _streams(handler)}
    if not made:
        return config, ()

    def swapped(some: Sequence[BaseCallbackHandler]) -> list[BaseCallbackHandler]:
        return [made.get(id(handler), handler) for handler in some]

    changed: list[BaseCallbackHandler] | BaseCallbackManager
    if isinstance(callbacks, BaseCallbackManager):
        changed = callbacks.copy()
        changed.handlers = swapped(callbacks.handlers)
        changed.inheritable_handlers = swapped(callbacks.inheritable_handlers)
    else:
        changed = swapped(handlers)
    return {**config, "callbacks": changed}, tuple(made.values())


def unseen(config: RunnableConfig) -> RunnableConfig:
    """The configuration for a call that no user shall see, such as a judge's: traced and counted, and never streamed."""
    config, _ = hold(config)
    return {**config, "tags": [*config.get("tags", ()), "nostream"]}


def release(held: Sequence[Held]) -> None:
    """Passes on what was kept."""
    for one in held:
        for event, args, kwargs in one.events():
            handle_event([one.handler], event, None, *args, **kwargs)


async def arelease(held: Sequence[Held]) -> None:
    """As `release`."""
    for one in held:
        for event, args, kwargs in one.events():
            await ahandle_event([one.handler], event, None, *args, **kwargs)
