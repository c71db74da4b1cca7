"""Answers on their way to a caller: those that are kept until they are accepted, and those that nobody will read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self, cast

from langchain_core.messages import AIMessageChunk

from agentroute.cascades import Attempt
from agentroute.serving import Spent
from langchain_agentroute._doors import CHUNKS, EVENTS, Door, Opened, close
from langchain_agentroute._holding import Held

__all__ = ["Ended", "Kept", "at", "hollow", "nothing", "parsed", "shut"]


@dataclass(slots=True, kw_only=True, eq=False)
class Kept:
    """An answer that is not accepted yet.

    Attributes:
        answer: The answer.
        held: What those who stream to a user will be told if it is.
        door: How the caller wants to have it; `None` = whole.
    """

    answer: Any
    held: tuple[Held, ...] = ()
    door: Door | None = None


class Ended:
    """The watch of a call that has been booked already."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def saw(self, item: Any, door: Door) -> None:
        """Nothing is left to see."""

    def spent(self) -> Spent:
        """Nothing more than what was booked."""
        return Spent()

    def ended(self) -> None:
        """Nothing is left to log."""


def at(attempt: Attempt[Any], door: Door) -> Attempt[Any]:
    cast("Kept", attempt.answer).door = door
    return attempt


def shut(opened: Opened) -> None:
    """Ends a stream that nobody will read: what of it has come has cost something."""
    for item in opened.head:
        opened.watch.saw(item, CHUNKS)
    with suppress(Exception):  # whatever a stream says at its end, nobody is there to hear it
        close(opened.items)
    opened.watch.left()


async def nothing() -> AsyncIterator[Any]:
    """The rest of a stream that has come whole."""
    none: tuple[Any, ...] = ()
    for item in none:
        yield item


def parsed(answer: Any) -> Any:
    """What the caller asked for, of an answer that was asked for with the raw message.

    Raises:
        Exception: The parser's own, when there was no better answer.
    """
    if not (isinstance(answer, Mapping) and "parsing_error" in answer):
        return answer
    if answer["parsing_error"] is not None:
        raise answer["parsing_error"]
    return answer.get("parsed")


def hollow(opened: Opened, door: Door) -> bool:
    """Whether a stream has come to its end and shown nothing, so that nobody has seen anything of it yet."""
    if not opened.head:
        return True
    if not door.ends(opened.head[-1]):
        return False
    if door is EVENTS:
        return all(event.get("event") in {"message-start", "message-finish"} for event in opened.head)
    return all(isinstance(item, AIMessageChunk) and not (item.content or item.tool_call_chunks) for item in opened.head)
