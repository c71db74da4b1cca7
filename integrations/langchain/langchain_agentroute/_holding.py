"""Answers that are not accepted yet, kept from whoever streams to a user.

A rung of a cascade is one model run like any other, and tracers and usage counters see it as it happens. Handlers that stream to
a user (LangGraph's message streams, `astream_events`, `astream_log`) are another matter: what they are told is told to the user.
For a rung that has still to be judged, each of them is replaced by a `Held`, which keeps what the handler would have been told.
When the answer is accepted, all of it is passed on, so that the user sees that answer once, under its own run; else nothing is.

LangChain's own way, the tag `nostream`, would not do: `astream_events` does not know it, and what it hides stays hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.callbacks.manager import ahandle_event, handle_event
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk
from langchain_core.runnables import RunnableConfig

from langchain_agentroute._replies import as_chunk

__all__ = ["Held", "arelease", "hold", "release", "unseen"]

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


def _message(response: Any) -> Any:
    generations = getattr(response, "generations", None)
    generation = generations[0][0] if generations and generations[0] else None
    message = generation.message if isinstance(generation, ChatGeneration) else None
    return as_chunk(message) if isinstance(message, AIMessage) else None


def _about(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: kwargs[name] for name in ("run_id", "parent_run_id", "tags") if name in kwargs}


def _streams(handler: BaseCallbackHandler) -> bool:
    """Whether a handler streams to a user: LangChain knows such handlers by this method, too. A held one may be held again."""
    return isinstance(handler, Held) or callable(getattr(handler, "tap_output_iter", None))


def hold(config: RunnableConfig) -> tuple[RunnableConfig, tuple[Held, ...]]:
    """The configuration with all handlers that stream to a user held, and what holds them."""
    callbacks = config.get("callbacks")
    if isinstance(callbacks, BaseCallbackManager):
        handlers = [*callbacks.handlers, *callbacks.inheritable_handlers]
    else:
        handlers = list(callbacks or ())
    held = {id(handler): Held(handler) for handler in handlers if _streams(handler)}
    if not held:
        return config, ()

    def swapped(some: Sequence[BaseCallbackHandler]) -> list[BaseCallbackHandler]:
        return [held.get(id(handler), handler) for handler in some]

    changed: list[BaseCallbackHandler] | BaseCallbackManager
    if isinstance(callbacks, BaseCallbackManager):
        changed = callbacks.copy()
        changed.handlers = swapped(callbacks.handlers)
        changed.inheritable_handlers = swapped(callbacks.inheritable_handlers)
    else:
        changed = swapped(handlers)
    return {**config, "callbacks": changed}, tuple(held.values())


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
