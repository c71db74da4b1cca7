"""The ways to stream: what an item is, what it shows, and where the routing record goes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk

from agentroute.serving import stamp
from langchain_agentroute._record import stamped
from langchain_agentroute._replies import as_chunk

if TYPE_CHECKING:
    from langchain_agentroute._runs import Run
    from langchain_agentroute._watch import Watch

__all__ = ["CHUNKS", "EVENTS", "Door", "Opened", "Passing", "achained", "close", "closing"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Door:
    """What differs between the ways to stream: chunks of a message, or protocol events.

    Attributes:
        speaks: Whether an item shows anything; failover ends with the first that does.
        stamps: Puts the record on an item.
        on: Whether an item is the one to carry the record.
        usage: `usage_metadata` of an item, if it has any.
        ends: Whether the answer is whole with an item, though one with the usage may follow.
        last: Whether an item is the last one, with which the usage is known.
        whole: The items of an answer that has come whole.
    """

    speaks: Callable[[Any], bool]
    stamps: Callable[[Any, dict[str, Any]], Any]
    on: Callable[[Any], bool]
    usage: Callable[[Any], Any]
    ends: Callable[[Any], bool]
    last: Callable[[Any], bool]
    whole: Callable[[Any], Iterable[Any]]


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
    return {**event, "metadata": stamp(event.get("metadata") or {}, record)}


def _events(answer: Any) -> Iterable[Any]:
    # LangGraph takes it from the same place; LangChain has no public one.
    from langchain_core.language_models._compat_bridge import message_to_events

    return message_to_events(answer, message_id=answer.id)


# The first chunk takes the record, because it is the only one that is sure to come.
CHUNKS = Door(
    speaks=_chunk_speaks,
    stamps=stamped,
    on=lambda _: True,
    usage=lambda chunk: chunk.usage_metadata if isinstance(chunk, AIMessage) else None,
    ends=_chunk_ends,
    last=lambda chunk: isinstance(chunk, AIMessageChunk) and chunk.chunk_position == "last",
    whole=lambda answer: [as_chunk(answer) if isinstance(answer, AIMessage) else answer],
)
# Of the events only the last one has a place that reaches the assembled message's response_metadata.
EVENTS = Door(
    speaks=lambda event: event.get("event") != "message-start",
    stamps=_stamp_event,
    on=lambda event: event.get("event") == "message-finish",
    usage=lambda event: event.get("usage"),
    ends=lambda event: event.get("event") == "message-finish",
    last=lambda event: event.get("event") == "message-finish",
    whole=_events,
)


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


class Passing:
    """Passes the items of a stream through: one gets the record, all are looked at for usage and kept for the trace.

    Args:
        door: What the items are.
        record: The routing record.
        opened: The stream.
        run: The run around it.
        totals: What the record gains when the usage is known, from the watch.
    """

    __slots__ = ("_door", "_opened", "_record", "_run", "_seen", "_totals", "_waiting")

    def __init__(
        self, door: Door, record: dict[str, Any], opened: Opened, run: Run, totals: Callable[[Watch], dict[str, Any]]
    ) -> None:
        self._door = door
        self._record = record
        self._opened = opened
        self._run = run
        self._totals = totals
        self._waiting = True
        self._seen: list[Any] = []

    def through(self, item: Any) -> Any:
        """The item, with the record if it is the one to carry it."""
        door, watch = self._door, self._opened.watch
        watch.saw(item, door)
        totals = self._totals(watch) if door.last(item) else {}
        if totals:
            # A new dict: the old one is on its way already, and may be anybody's by now.
            self._record = {**self._record, **totals}
        if self._waiting and door.on(item):
            self._waiting = False
            item = door.stamps(item, self._record)
        elif totals:
            # Keys that were None: LangChain's sum of the chunks takes them from here.
            item = door.stamps(item, totals)
        if self._run.manager is not None:
            self._seen.append(item)
        return item

    def end(self) -> None:
        """Says in the trace what has come."""
        seen = self._seen
        output: Any = seen
        if seen and all(isinstance(item, AIMessageChunk) for item in seen):
            output = seen[0] + seen[1:] if len(seen) > 1 else seen[0]
        elif len(seen) == 1:
            output = seen[0]
        self._run.output = {"output": output, "agentroute": self._record}


def close(items: Any) -> None:
    """Closes a generator; a plain iterator has nothing to close."""
    ending = getattr(items, "close", None)
    if ending is not None:
        ending()


async def achained(head: list[Any], items: AsyncIterator[Any]) -> AsyncGenerator[Any]:
    """The head, then the rest; closes the rest."""
    try:
        for item in head:
            yield item
        async for item in items:
            yield item
    finally:
        ending = getattr(items, "aclose", None)
        if ending is not None:
            await ending()


async def closing(stream: Any) -> AsyncIterator[Any]:
    """The stream's events; closing this closes the stream."""
    async with stream:
        async for event in stream:
            yield event
