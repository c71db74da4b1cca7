"""What is logged of each call: what LangChain's messages, chunks and events say of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import add_usage

from agentroute import serving
from agentroute.cascades import Attempt, Call
from agentroute.serving import RECORD, Spent
from langchain_agentroute._record import billed, usage_of
from langchain_agentroute._replies import broke_off, finish_of
from langchain_agentroute._runs import Capture

if TYPE_CHECKING:
    from langchain_agentroute._doors import Door

__all__ = ["Watch"]


class Watch(serving.Watch):
    """Times one call and logs its outcome, exactly once, however it ends.

    Args:
        call: What the call belongs to.
        step: The call.
        capture: Sees the model run, where the result is no message.
    """

    def __init__(self, call: serving.RoutedCall, step: Call, capture: Capture | None) -> None:
        super().__init__(call, step)
        self._capture = capture
        self._usage: Any = None
        self._provider: Any = None
        self._finish: str | None = None

    def saw(self, item: Any, door: Door) -> None:
        """Takes note of one chunk or event: its usage, and whether the answer is whole with it."""
        if door.ends(item):
            self.finished()
        self.note(item)
        usage = door.usage(item)
        if usage:
            self._usage = usage if self._usage is None else add_usage(self._usage, usage)

    def answered(self, answer: Any) -> Attempt[Any]:
        """The whole answer has come."""
        if isinstance(answer, AIMessage):
            self._usage = answer.usage_metadata
        self.note(answer)
        return self.ended(answer)

    def note(self, item: Any) -> None:
        """Why the answer ended, and what a routed candidate has spent on it, where a message, a chunk or an event says so."""
        if isinstance(item, Mapping):
            # The raw message beside an object, or the metadata of an event.
            message, metadata = item.get("raw"), item.get("metadata")
        else:
            message, metadata = item, None
        if isinstance(message, AIMessage):
            metadata = message.response_metadata
        if isinstance(metadata, Mapping):
            self.heard(metadata.get(RECORD))
        if isinstance(item, AIMessage):
            self._provider = self._provider or item.response_metadata.get("model_provider")
            self._finish = self._finish or finish_of(item)

    def told(self) -> Spent:
        """What LangChain's `usage_metadata` says of tokens and price."""
        metadata = self._usage
        if metadata is None and self._capture is not None and self._capture.message is not None:
            metadata = self._capture.message.usage_metadata
        usage = usage_of(metadata)
        cost = billed(metadata, usage, self.call.pool.card(self.step.model).price)
        return Spent(usage=usage, cost=cost, cached=bool(metadata) and metadata.get("total_cost") == 0)

    def truncated(self) -> bool:
        """Whether the answer has no end, where its provider always gives one."""
        return broke_off(self._provider, self._finish)
