"""What is logged of each call: what LangChain's messages, chunks and events say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import add_usage

from agentroute import serving
from agentroute.cascades import Attempt, Call
from agentroute.serving import RECORD, Spent, totals_in
from agentroute.types import Usage
from langchain_agentroute._purse import Purse
from langchain_agentroute._record import billed, usage_of
from langchain_agentroute._replies import broke_off, finish_of
from langchain_agentroute._runs import Capture

if TYPE_CHECKING:
    from langchain_agentroute._calls import RoutedCall
    from langchain_agentroute._doors import Door

__all__ = ["Watch"]


class Watch(serving.Watch):
    """Times one call and logs its outcome, exactly once, however it ends.

    Args:
        call: What the call belongs to.
        step: The call.
        capture: Sees the model run, where the result is no message.
    """

    def __init__(self, call: RoutedCall, step: Call, capture: Capture | None) -> None:
        super().__init__(call, step)
        self._capture = capture
        self._purse: Purse | None = None
        if capture is not None and self._money is not None and (capture.routed or call.asks(step) is None):
            self._purse, self._money = Purse(self._money, partial(call.again, step)), None
            capture.runs = self
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
        """What LangChain's `usage_metadata` says of tokens and price; of several model runs, all that gave an answer."""
        if self._usage is None and self._capture is not None:
            return _together([self._of(message) for message in self._capture.messages])
        return self._spent(self._usage)

    def _of(self, message: AIMessage | None) -> Spent:
        if message is None:
            return Spent()
        spent, nested = self._spent(message.usage_metadata), totals_in(message.response_metadata.get(RECORD))
        if nested is None:
            return spent
        # Of a cascade within; its answers that were not taken have cost something, too.
        whole, cost = nested["total_usage"], nested["total_cost"]
        usage = Usage(**whole) if isinstance(whole, Mapping) else None
        return Spent(usage=usage or spent.usage, cost=self.priced(usage) if cost is None else cost)

    def _spent(self, metadata: Any) -> Spent:
        usage = usage_of(metadata)
        cost = billed(metadata, usage, self.call.pool.card(self.step.model).price)
        return Spent(usage=usage, cost=cost, cached=bool(metadata) and metadata.get("total_cost") == 0)

    def complete(self) -> bool:
        """Also where the model has answered and something else went wrong, such as the parsing of an object."""
        answered = self._purse is None and self._capture is not None and self._capture.answered
        return super().complete() or (answered and self._capture is not None and self._capture.error is None)

    # --- the model runs of one call, where they are seen ---

    def begins(self, run: UUID) -> None:
        """Sets money aside for a model run; see `Purse`."""
        if self._purse is not None:
            self._purse.begins(run)

    def ends(self, run: UUID, message: AIMessage | None) -> None:
        """Books a model run."""
        if self._purse is not None:
            cut = message is not None and broke_off(message.response_metadata.get("model_provider"), finish_of(message))
            self._purse.ends(run, self._of(message), whole=not cut)

    def fails(self, run: UUID, error: BaseException) -> None:
        """Books a model run that failed."""
        if self._purse is not None:
            self._purse.fails(run, error)

    def ended(self, answer: Any = None) -> Attempt[Any]:
        """The answer has come to its end."""
        if self._purse is not None:
            self._money = self._purse.unused()
            self._purse.over()
        return super().ended(answer)

    def skipped(self) -> None:
        """The model was not called: somebody else has answered in its place."""
        if self._purse is not None:
            self._money = self._purse.unused()
        super().skipped()

    def _append(self, **told: Any) -> Spent:
        if self._purse is not None and self._money is None:
            self._money = self._purse.left()
        return super()._append(**told)

    def truncated(self) -> bool:
        """Whether the answer has no end, where its provider always gives one."""
        return broke_off(self._provider, self._finish)


def _together(parts: Sequence[Spent]) -> Spent:
    """What several model runs have taken; unknown where it is of one. What came from a cache has taken nothing."""
    parts = [one for one in parts if not one.cached] or parts[-1:]
    if not parts:
        return Spent()
    usages, costs = [one.usage for one in parts if one.usage is not None], [one.cost for one in parts if one.cost is not None]
    return Spent(
        usage=reduce(Usage.__add__, usages) if len(usages) == len(parts) else None,
        cost=sum(costs) if len(costs) == len(parts) else None,
        cached=parts[0].cached,
    )
