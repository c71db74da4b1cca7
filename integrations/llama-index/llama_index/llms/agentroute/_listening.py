"""What the calls of an LLM gave, heard from within: the doors that give a text or an object tell nothing of their usage.

`predict` gives a string and `structured_predict` an object, and what they cost is known only to the `chat` within. So an LLM is
called through a view of itself: the same state, and a class that differs in nothing but that its calls tell an `Ear` what they
gave, and that some settings may read differently for the length of the call. Nothing of the user's LLM is changed, copied or
replaced.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from types import MemberDescriptorType
from typing import Any, cast

from llama_index.core.llms import LLM

from llama_index.llms.agentroute._replies import finish_of
from llama_index.llms.agentroute._usage import usage_of

__all__ = ["Ear", "Heard", "ear_of", "listening"]

_SEEN = "_agentroute_seen"


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
    """Hears what the calls of one view gave.

    Attributes:
        heard: The calls, in order. Those of an LLM that is itself routed are its own candidate's.
        record: The record of an LLM that is itself routed, whatever it answers with.
    """

    heard: list[Heard] = field(default_factory=list)
    record: Any = None

    def begin(self) -> Heard:
        """A call begins."""
        heard = Heard()
        self.heard.append(heard)
        return heard

    @property
    def hears(self) -> bool:
        """Whether a call is heard already: what it calls in its turn (`CustomLLM.chat` calls `complete`) is no second call."""
        return _HEARING.get() is self

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """A call that is heard is under way."""
        token = _HEARING.set(self)
        try:
            yield
        finally:
            _HEARING.reset(token)


_HEARING: ContextVar[Ear | None] = ContextVar("agentroute_hearing", default=None)


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What a view is a view of."""

    llm: LLM
    ear: Ear
    settings: Mapping[str, Any]


def listening(llm: LLM, ear: Ear, settings: Mapping[str, Any] | None = None) -> LLM:
    """A view of an LLM whose calls are heard. It shares the LLM's state, and is an instance of its class.

    Args:
        llm: The LLM.
        ear: Who hears.
        settings: What some of the LLM's attributes are for this view alone.
    """
    kind = type(llm)
    view_kind = _view_kind(kind)
    view = view_kind.__new__(view_kind)
    for slot in _slots(kind):
        try:
            value = slot.__get__(llm, kind)
        except AttributeError:  # it has no value
            continue
        slot.__set__(view, value)
    object.__setattr__(view, "__dict__", llm.__dict__)
    object.__setattr__(view, _SEEN, _Seen(llm, ear, {"__class__": kind, **(settings or {})}))
    return view


def ear_of(llm: LLM) -> Ear | None:
    """Who listens to this view, and hears nothing by itself of what is now done; `None` = nobody, or it is no view."""
    seen = _seen(llm)
    return None if seen is None or seen.ear.hears else seen.ear


def _seen(llm: LLM) -> _Seen | None:
    try:
        return cast("_Seen", object.__getattribute__(llm, _SEEN))
    except AttributeError:
        return None


def _original(llm: LLM) -> LLM:
    seen = _seen(llm)
    return llm if seen is None else seen.llm


def _viewed_as(view: LLM, llm: LLM) -> LLM:
    seen = _seen(view)
    return llm if seen is None else listening(llm, seen.ear, seen.settings)


@lru_cache(maxsize=256)
def _slots(kind: type[LLM]) -> tuple[MemberDescriptorType, ...]:
    """Where instances keep what is not in their `__dict__`."""
    return tuple(member for base in kind.__mro__ for member in vars(base).values() if isinstance(member, MemberDescriptorType))


@lru_cache(maxsize=256)
def _view_kind(kind: type[LLM]) -> type[LLM]:
    def attribute(self: LLM, name: str) -> Any:
        # Looked up anew each time, so that a method that somebody replaces is the one that is called.
        seen = _seen(self)
        if seen is None:
            return kind.__getattribute__(self, name)
        if name in seen.settings:
            return seen.settings[name]
        found = kind.__getattribute__(self, name)
        return _HEARD[name](found, seen.ear) if name in _HEARD else found

    body: dict[str, Any] = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__slots__": (_SEEN,),
        "__getattribute__": attribute,
        # What an LLM asks through a copy of itself is heard too; what it pickles is itself.
        "__copy__": lambda self: _viewed_as(self, kind.__copy__(_original(self))),
        "__deepcopy__": lambda self, memo=None: _viewed_as(self, kind.__deepcopy__(_original(self), memo)),
        "__reduce_ex__": lambda self, protocol: kind.__reduce_ex__(_original(self), protocol),
    }
    make: Any = type(kind)
    return cast("type[LLM]", make(kind.__name__, (kind,), body))


def _whole(method: Callable[..., Any], ear: Ear) -> Callable[..., Any]:
    @wraps(method, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        if ear.hears:
            return method(*args, **kwargs)
        heard = ear.begin()
        with ear.hearing():
            answer = method(*args, **kwargs)
        heard.take(answer)
        heard.ended = True
        return answer

    return call


def _awhole(method: Callable[..., Any], ear: Ear) -> Callable[..., Any]:
    @wraps(method, updated=())
    async def call(*args: Any, **kwargs: Any) -> Any:
        if ear.hears:
            return await method(*args, **kwargs)
        heard = ear.begin()
        with ear.hearing():
            answer = await method(*args, **kwargs)
        heard.take(answer)
        heard.ended = True
        return answer

    return call


def _stream(method: Callable[..., Any], ear: Ear) -> Callable[..., Any]:
    @wraps(method, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        if ear.hears:
            return method(*args, **kwargs)
        with ear.hearing():
            chunks = method(*args, **kwargs)
        return _passed(chunks, ear, ear.begin())

    return call


def _passed(chunks: Any, ear: Ear, heard: Heard) -> Iterator[Any]:
    try:
        while True:
            with ear.hearing():
                try:
                    chunk = next(chunks)
                except StopIteration:
                    break
            heard.take(chunk)
            yield chunk
        heard.ended = True
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()


def _astream(method: Callable[..., Any], ear: Ear) -> Callable[..., Any]:
    @wraps(method, updated=())
    async def call(*args: Any, **kwargs: Any) -> Any:
        if ear.hears:
            return await method(*args, **kwargs)
        with ear.hearing():
            chunks = await method(*args, **kwargs)
        return _apassed(chunks, ear, ear.begin())

    return call


async def _apassed(chunks: Any, ear: Ear, heard: Heard) -> AsyncIterator[Any]:
    try:
        while True:
            with ear.hearing():
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


_KINDS: Mapping[str, Callable[[Callable[..., Any], Ear], Callable[..., Any]]] = {
    "": _whole,
    "a": _awhole,
    "stream_": _stream,
    "astream_": _astream,
}
_HEARD = {f"{kind}{door}": hear for kind, hear in _KINDS.items() for door in ("chat", "complete")}
