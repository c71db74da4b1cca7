"""What the calls of an LLM gave, heard from within: the doors that give a text or an object tell nothing of their usage.

`predict` gives a string and `structured_predict` an object, and what they cost is known only to the `chat` within. So an LLM is
called through a view of itself: the same state, and a class that differs in nothing but that its calls tell an `Ear` what they
gave. Nothing of the user's LLM is changed, copied or replaced.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

from llama_index.core.llms import LLM

from llama_index.llms.agentroute._replies import finish_of
from llama_index.llms.agentroute._usage import usage_of

__all__ = ["Ear", "Heard", "listening"]

_WHOLE = ("chat", "complete")
_SHARED = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")


@dataclass(slots=True, eq=False)
class Heard:
    """What one call has given.

    Attributes:
        answer: The response; of a stream, the last chunk so far, and with the usage if any chunk had it.
        ended: Whether the answer is whole.
        finish: Why it ended, as its provider says.
    """

    answer: Any = None
    ended: bool = False
    finish: str | None = None

    def take(self, chunk: Any) -> None:
        """Takes note of a chunk, or of the whole answer."""
        self.finish = self.finish or finish_of(chunk)
        # Some providers tell the usage on a chunk of its own, others on each.
        if self.answer is None or usage_of(chunk) is not None or usage_of(self.answer) is None:
            self.answer = chunk


@dataclass(slots=True, eq=False)
class Ear:
    """Hears what the calls within a block gave, in order."""

    heard: list[Heard] = field(default_factory=list)

    @contextmanager
    def listens(self) -> Iterator[None]:
        """Hears the calls that begin within the block, however long their streams go on."""
        token = _EAR.set(self)
        try:
            yield
        finally:
            _EAR.reset(token)

    def begin(self) -> Heard:
        """A call begins."""
        heard = Heard()
        self.heard.append(heard)
        return heard


_EAR: ContextVar[Ear | None] = ContextVar("agentroute_ear", default=None)


@contextmanager
def _deaf() -> Iterator[None]:
    """What a call calls in its turn is part of it: `CustomLLM.chat` calls `complete`, which is no second call."""
    token = _EAR.set(None)
    try:
        yield
    finally:
        _EAR.reset(token)


def listening(llm: LLM) -> LLM:
    """A view of an LLM whose calls are heard. It shares the LLM's state, and is an instance of its class."""
    kind = _listening_kind(type(llm))
    view = kind.__new__(kind)
    for name in _SHARED:
        object.__setattr__(view, name, getattr(llm, name))
    return view


@lru_cache(maxsize=256)
def _listening_kind(kind: type[LLM]) -> type[LLM]:
    body: dict[str, Any] = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    for name in _WHOLE:
        body |= {
            name: _whole(getattr(kind, name)),
            f"a{name}": _awhole(getattr(kind, f"a{name}")),
            f"stream_{name}": _stream(getattr(kind, f"stream_{name}")),
            f"astream_{name}": _astream(getattr(kind, f"astream_{name}")),
        }
    for name in (name for name in body if not name.startswith("__")):
        # The LLM's own methods have their spans: a second one around them would be a second model run in traces.
        body[name].__dispatcher_span_decorated__ = True
    make: Any = type(kind)
    return cast("type[LLM]", make(kind.__name__, (kind,), body))


def _whole(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: LLM, *args: Any, **kwargs: Any) -> Any:
        ear = _EAR.get()
        if ear is None:
            return method(self, *args, **kwargs)
        heard = ear.begin()
        with _deaf():
            answer = method(self, *args, **kwargs)
        heard.take(answer)
        heard.ended = True
        return answer

    return call


def _awhole(method: Callable[..., Any]) -> Callable[..., Any]:
    async def call(self: LLM, *args: Any, **kwargs: Any) -> Any:
        ear = _EAR.get()
        if ear is None:
            return await method(self, *args, **kwargs)
        heard = ear.begin()
        with _deaf():
            answer = await method(self, *args, **kwargs)
        heard.take(answer)
        heard.ended = True
        return answer

    return call


def _stream(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: LLM, *args: Any, **kwargs: Any) -> Any:
        ear = _EAR.get()
        if ear is None:
            return method(self, *args, **kwargs)
        with _deaf():
            chunks = method(self, *args, **kwargs)
        return _passed(chunks, ear.begin())

    return call


def _passed(chunks: Any, heard: Heard) -> Iterator[Any]:
    try:
        while True:
            with _deaf():
                try:
                    chunk = next(chunks)
                except StopIteration:
                    break
            heard.take(chunk)
            yield chunk
        heard.ended = True
    finally:
        _close(chunks)


def _close(chunks: Any) -> None:
    close = getattr(chunks, "close", None)
    if close is not None:
        close()


def _astream(method: Callable[..., Any]) -> Callable[..., Any]:
    async def call(self: LLM, *args: Any, **kwargs: Any) -> Any:
        ear = _EAR.get()
        if ear is None:
            return await method(self, *args, **kwargs)
        with _deaf():
            chunks = await method(self, *args, **kwargs)
        return _apassed(chunks, ear.begin())

    return call


async def _apassed(chunks: Any, heard: Heard) -> AsyncIterator[Any]:
    try:
        while True:
            with _deaf():
                try:
                    chunk = await anext(chunks)
                except StopAsyncIteration:
                    break
            heard.take(chunk)
            yield chunk
        heard.ended = True
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()
