"""A conversation as a router sees it: what was asked, what the answer must be able to do, and who answered so far."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from agentroute.errors import ConfigError

__all__ = ["RECORD", "Sticky", "StickyCache", "Turn", "answered_by", "kept_model", "question", "wanted"]

RECORD = "agentroute"
"""The key under which frameworks' messages carry the routing record."""

Sticky: TypeAlias = Literal["tool_loop", "conversation", "none"]
"""Where a conversation keeps the model that it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of a conversation, whatever the framework calls it.

    Attributes:
        role: Who speaks. What a program says in a user's name, such as a tool's output, is a `"tool"`'s.
        text: What it says in words.
        wants: Capabilities that its other contents ask for: `"image"`, `"audio"`, `"video"`, `"pdf"`.
        record: The routing record that it carries, if any.
        calls: What tells its tool calls apart, such as their ids; empty = it calls no tool.
    """

    role: Literal["system", "user", "assistant", "tool"]
    text: str = ""
    wants: frozenset[str] = frozenset()
    record: Mapping[str, Any] | None = None
    calls: tuple[str, ...] = ()


def question(turns: Sequence[Turn]) -> str:
    """The text to route on: what the user said last. Never a tool's output, whatever came after the user's words."""
    for turn in reversed(turns):
        if turn.role == "user":
            return turn.text
    return next((turn.text for turn in reversed(turns) if turn.role != "tool" and turn.text), "")


def wanted(turns: Sequence[Turn]) -> frozenset[str]:
    """Capabilities that the messages' contents ask for."""
    return frozenset().union(*(turn.wants for turn in turns))


def answered_by(record: Any, candidates: Container[str]) -> str | None:
    """The candidate that wrote an answer, by the record that the answer carries.

    A routed model may itself be a candidate of another one, which then stands on top of the record.
    """
    while isinstance(record, Mapping):
        name = record.get("answered_by")
        if isinstance(name, str) and name in candidates:
            return name
        record = record.get("via")
    return None


def kept_model(turns: Sequence[Turn], candidates: Container[str], sticky: Sticky) -> str | None:
    """The candidate that a conversation has and keeps, by the records that its messages carry."""
    if sticky == "none":
        return None
    return _in_tool_loop(turns, candidates) if sticky == "tool_loop" else _in_conversation(turns, candidates)


def _in_tool_loop(turns: Sequence[Turn], candidates: Container[str]) -> str | None:
    """The candidate that asked for the tool results at the end of the conversation; `None` = not in a tool loop."""
    if not turns or turns[-1].role != "tool":
        return None
    for turn in reversed(turns):
        if turn.role == "assistant":
            # Also when it has no record: what came before it belongs to another turn.
            return answered_by(turn.record, candidates)
        if turn.role != "tool":
            return None
    return None


def _in_conversation(turns: Sequence[Turn], candidates: Container[str]) -> str | None:
    """The candidate that wrote the latest answer of any candidate on record."""
    for turn in reversed(turns):
        if turn.role == "assistant" and (name := answered_by(turn.record, candidates)) is not None:
            return name
    return None


class StickyCache:
    """Who gave which answer, where a framework's messages carry no record. Bounded; the oldest are forgotten.

    An answer is known by its words, its tool calls and the question before it: a history that was cut short still finds it. Safe
    to share between threads, and between routed models that are copies of one another.

    Args:
        size: Most answers to remember.

    Raises:
        ConfigError: The size is below 1.
    """

    def __init__(self, size: int = 4096) -> None:
        if size < 1:
            raise ConfigError(f"size={size!r} must be 1 or more")
        self.size = size
        self._models: OrderedDict[bytes, str] = OrderedDict()
        self._lock = threading.Lock()

    def recall(self, turns: Sequence[Turn], sticky: Sticky, *, scope: str = "") -> str | None:
        """The model that a conversation has and keeps: the one that gave its latest answer.

        Args:
            turns: The conversation.
            sticky: Where it keeps its model.
            scope: What else tells answers of the same words apart, such as the agent's role.
        """
        last = next((position for position in range(len(turns) - 1, -1, -1) if turns[position].role == "assistant"), None)
        if sticky == "none" or last is None:
            return None
        after = turns[last + 1 :]
        if sticky == "tool_loop" and not (after and all(turn.role == "tool" for turn in after)):
            return None
        with self._lock:
            return self._models.get(_key(turns[: last + 1], scope))

    def remember(self, turns: Sequence[Turn], answer: Turn, model: str, *, scope: str = "") -> None:
        """Keeps who gave an answer.

        Args:
            turns: The conversation that it answers.
            answer: The answer.
            model: Who gave it.
            scope: As for `recall`.
        """
        key = _key((*turns, answer), scope)
        with self._lock:
            self._models[key] = model
            self._models.move_to_end(key)
            while len(self._models) > self.size:
                self._models.popitem(last=False)

    def __len__(self) -> int:
        """Number of answers that are remembered."""
        return len(self._models)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process begins with nothing: it is only a memory of what was done here."""
        return (type(self), (self.size,))


def _key(turns: Sequence[Turn], scope: str) -> bytes:
    answer = turns[-1]
    digest = hashlib.blake2b(digest_size=16)
    for part in (scope, question(turns[:-1]), answer.text.strip(), *answer.calls):
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.digest()
