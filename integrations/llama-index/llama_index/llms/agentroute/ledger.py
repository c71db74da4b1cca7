"""What the models of a team have taken, by run, role and model: told by the events of LlamaIndex, never estimated."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import partial, reduce
from typing import Any, Final, Literal, TypeAlias

from llama_index.core.instrumentation.events.exception import ExceptionEvent
from llama_index.core.instrumentation.events.llm import (
    LLMChatEndEvent,
    LLMChatInProgressEvent,
    LLMChatStartEvent,
    LLMCompletionEndEvent,
    LLMCompletionInProgressEvent,
    LLMCompletionStartEvent,
)
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import BaseEventHandler
from llama_index_instrumentation.events.span import SpanDropEvent
from pydantic import PrivateAttr

from agentroute.embedders import Embedder, as_embedder
from agentroute.errors import ConfigError, OutcomeDroppedWarning
from agentroute.outcomes import OutcomeLog, QueuedOutcomeLog
from agentroute.serving import check_log, priced
from agentroute.types import ModelCard, Outcome, Price, Query, Usage
from llama_index.llms.agentroute._messages import turns_of
from llama_index.llms.agentroute._open_calls import Key, OpenCall, OpenCalls
from llama_index.llms.agentroute._spending import LedgerRow, Spending, markdown_of
from llama_index.llms.agentroute._usage import usage_of
from llama_index.llms.agentroute.events import ROUTED, run_of

__all__ = ["EARLIER", "LedgerRow", "Spending", "UsageLedger"]

EARLIER: Final = "earlier runs"
"""The run under which rows are added up that are too old to be kept apart."""

Prices: TypeAlias = Mapping[str, Price | ModelCard] | Iterable[ModelCard]

_STARTS = (LLMChatStartEvent, LLMCompletionStartEvent)
_CHUNKS = (LLMChatInProgressEvent, LLMCompletionInProgressEvent)
_ENDS = (LLMChatEndEvent, LLMCompletionEndEvent)
# Calls within calls within calls … are no more than these; what is older has been left behind by a stream.
_DEEPEST = 16
_WITHIN: ContextVar[tuple[str, ...]] = ContextVar("agentroute_ledger_spans", default=())


_Ended: TypeAlias = tuple[OpenCall, float | None, float | None, BaseException | None]


class UsageLedger(BaseEventHandler):
    """Adds up tokens, cost and latency of every LLM call, by run, role and model.

    Attach it to the dispatcher of your choice: `get_dispatcher().add_event_handler(ledger)` hears every LLM.

    * Tokens are those that the provider tells; a call that tells none counts as a call of unknown tokens.
    * Role and model are those of the routed LLM's call; a call that nobody routed has the name of its own LLM, and no role.
    * The run is the one named by `use_allocation(..., run=...)`, with all that it starts; else the workflow's run id.
    * LLMs that are made of another one count once: of `CustomLLM`, `StructuredLLM` and the like, the call within.
    * A stream that its reader leaves counts as interrupted, with the tokens told so far. One that is never begun to be read tells
      nothing, and stays open until `close`.

    It is safe to share between threads, and bounded: of more rows than `size`, the oldest are added up under `EARLIER`.

    Args:
        prices: Prices by model name, or the models' cards; a model without one has an unknown cost.
        outcome_log: Where the outcomes of calls go that nobody routed: to learn from before anything is routed. Routed LLMs log
            their own, which the ledger leaves to them. It is wrapped in a queue, so that no call waits for it:
            `ledger.outcome_log.flush(1.0)` waits for the queue. The span's id of such a call is its `decision_id` for feedback.
        embedder: Embeds what is logged; `None` = the core's default, as for routed LLMs.
        size: Most rows, and most calls under way, that are kept.

    Raises:
        ConfigError: A price is none, the log is none, or the size is below 1.
    """

    _prices: dict[str, Price | None] = PrivateAttr()
    _log: QueuedOutcomeLog | None = PrivateAttr()
    _embedder: Any = PrivateAttr()
    _size: int = PrivateAttr()
    _lock: Any = PrivateAttr(default_factory=threading.Lock)
    _inbox: deque[Callable[[], None]] = PrivateAttr(default_factory=deque)
    _open: OpenCalls = PrivateAttr(default_factory=OpenCalls)
    _rows: OrderedDict[Key, Spending] = PrivateAttr(default_factory=OrderedDict)
    _ended: deque[_Ended] = PrivateAttr(default_factory=deque)

    def __init__(
        self,
        *,
        prices: Prices | None = None,
        outcome_log: OutcomeLog | None = None,
        embedder: Embedder | None = None,
        size: int = 10_000,
    ) -> None:
        super().__init__()
        check_log(outcome_log)
        if size < 1:
            raise ConfigError(f"size={size!r} must be 1 or more")
        self._prices = _prices_of(prices)
        self._log = (
            outcome_log if outcome_log is None or isinstance(outcome_log, QueuedOutcomeLog) else QueuedOutcomeLog(outcome_log)
        )
        self._embedder = embedder
        self._size = size

    @classmethod
    def class_name(cls) -> str:
        """The handler's name."""
        return "UsageLedger"

    @property
    def outcome_log(self) -> QueuedOutcomeLog | None:
        """The queue before the log; `None` = nothing is logged."""
        return self._log

    # --- what has been taken ---

    def rows(self) -> list[LedgerRow]:
        """What has been taken so far, oldest first. Calls under way are not in it."""
        with self._lock:
            self._work()
            kept = list(self._rows.items())
        return [LedgerRow(run=run, role=role, model=model, spent=spent) for (run, role, model), spent in kept]

    def totals(self, by: Literal["role", "model", "run"] = "role") -> dict[str | None, Spending]:
        """What has been taken by each role, model or run; `None` stands for no role and no run.

        Raises:
            ConfigError: `by` is none of the three.
        """
        if by not in {"role", "model", "run"}:
            raise ConfigError(f"by={by!r} must be 'role', 'model' or 'run'")
        found: dict[str | None, Spending] = {}
        for row in self.rows():
            name = getattr(row, by)
            found[name] = found.get(name, Spending()) + row.spent
        return found

    def total(self) -> Spending:
        """What all calls have taken."""
        return reduce(Spending.__add__, (row.spent for row in self.rows()), Spending())

    def to_markdown(self) -> str:
        """The rows as a table for people."""
        return markdown_of(self.rows())

    # --- what happens ---

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:  # noqa: ARG002  # the dispatcher's to pass
        """Takes note of an event."""
        span = event.span_id
        if span is None:
            return
        if isinstance(event, _STARTS):
            self._begin(span, event)
        elif isinstance(event, _CHUNKS):
            self._note(partial(self._open.hear, span, usage_of(event.response), getattr(event.response, "raw", None)))
        elif isinstance(event, _ENDS):
            self._end(span, response=event.response)
        elif isinstance(event, ExceptionEvent):
            self._end(span, error=event.exception)
        elif isinstance(event, SpanDropEvent):
            # The event has but the error's words. It is told while the error is handled.
            self._end(span, error=sys.exception() or Exception(event.err_str))

    def close(self, older_than: float = 0.0) -> int:
        """Books calls that have begun and tell nothing any more, such as streams that nobody reads, as interrupted.

        Args:
            older_than: Seconds since they began.

        Returns:
            How many there were.
        """
        moment = time.perf_counter() - older_than
        with self._lock:
            self._work()
            stale = self._open.began_before(moment)
            for span in stale:
                self._settle(span, None, None, GeneratorExit(), None)
        self._log_ended()
        return len(stale)

    def _begin(self, span: str, event: LLMChatStartEvent | LLMCompletionStartEvent) -> None:
        # A StructuredLLM asks the LLM within and nobody else.
        if event.model_dict.get("class_name") == "structured_llm":
            return
        routed = event.tags.get(ROUTED)
        routed = routed if isinstance(routed, Mapping) else {}
        model = routed.get("model") or event.model_dict.get("model_name")
        if model in {None, "", "unknown"}:
            model = event.model_dict.get("class_name") or "unknown"
        asked = None
        if self._log is not None and "decision_id" not in routed:
            asked = event.messages if isinstance(event, LLMChatStartEvent) else event.prompt
        around = tuple(one for one in _WITHIN.get() if one != span)
        _WITHIN.set((*around, span)[-_DEEPEST:])
        key = (run_of(event.tags), routed.get("role"), str(model))
        self._note(partial(self._opened, OpenCall(key=key, span=span, model_dict=event.model_dict, around=around, asked=asked)))

    def _opened(self, call: OpenCall) -> None:
        self._open.begin(call)
        if len(self._open) > self._size:
            self._settle(self._open.oldest(), None, None, GeneratorExit(), None)

    def _end(self, span: str, *, response: Any = None, error: BaseException | None = None) -> None:
        within = _WITHIN.get()
        if span in within:
            _WITHIN.set(tuple(one for one in within if one != span))
        ended = time.perf_counter() if error is None else None
        self._note(partial(self._settle, span, usage_of(response), getattr(response, "raw", None), error, ended))

    def _settle(self, span: str, usage: Usage | None, raw: Any, error: BaseException | None, ended: float | None) -> None:
        """A call has ended."""
        call = self._open.end(span, usage, raw)
        if call is None:
            return
        cost = priced(call.usage, self._prices.get(call.key[2]))
        latency = None if ended is None else ended - call.began
        self._book(call.key, _spending(call.usage, cost, latency, error))
        if call.asked is not None:
            self._ended.append((call, cost, latency, error))

    # --- one at a time ---

    def _note(self, work: Callable[[], None]) -> None:
        """Does some work on the books, or leaves it to who is at them: never waits.

        An event may come while its own thread is at the books: garbage is collected there too, and an abandoned stream among
        it tells its end. To wait for oneself would be to wait for ever.
        """
        self._inbox.append(work)
        while self._inbox and self._lock.acquire(blocking=False):
            try:
                self._work()
            finally:
                self._lock.release()
        self._log_ended()

    def _work(self) -> None:
        while self._inbox:
            self._inbox.popleft()()

    def _book(self, key: Key, spent: Spending) -> None:
        self._rows[key] = self._rows.get(key, Spending()) + spent
        while len(self._rows) > self._size:
            oldest = next((one for one in self._rows if one[0] != EARLIER), None)
            if oldest is None:
                return
            merged = (EARLIER, *oldest[1:])
            self._rows[merged] = self._rows.get(merged, Spending()) + self._rows.pop(oldest)
            self._rows.move_to_end(merged, last=False)

    def _log_ended(self) -> None:
        """Logs the outcomes of calls that nobody routed."""
        while self._ended:
            try:
                call, cost, latency, error = self._ended.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                self._append(call, cost, latency, error)
            except Exception as problem:  # declared fallback point: logging never fails the user's call
                warnings.warn(f"an outcome was not logged: {problem}", OutcomeDroppedWarning, stacklevel=2)

    def _append(self, call: OpenCall, cost: float | None, latency: float | None, error: BaseException | None) -> None:
        assert self._log is not None  # noqa: S101  # nothing was kept to log otherwise
        failed = isinstance(error, Exception)
        text = call.question if isinstance(call.question, str) else _question(call.question)
        embedder = as_embedder(self._embedder)
        self._log.append(
            Outcome(
                query=Query(text=text, role=call.key[1], embedding=embedder.embed([text])[0], fingerprint=embedder.fingerprint),
                model=call.key[2],
                usage=call.usage,
                cost=cost,
                latency=latency,
                error=type(error).__name__ if failed else None,
                decision_id=call.span,
                at=datetime.now(UTC),
                metadata={"interrupted": True} if error is not None and not failed else {},
            )
        )


def _spending(usage: Usage | None, cost: float | None, latency: float | None, error: BaseException | None) -> Spending:
    """What one call has taken."""
    failed = isinstance(error, Exception)
    return Spending(
        calls=1,
        failed=int(failed),
        interrupted=int(error is not None and not failed),
        untold=int(usage is None),
        unpriced=int(cost is None),
        usage=usage,
        cost=cost,
        answered=int(error is None),
        seconds=latency,
    )


def _question(messages: Any) -> str:
    """What the user said last."""
    turns = turns_of(messages)
    return next((turn.text for turn in reversed(turns) if turn.role == "user"), "")


def _prices_of(prices: Prices | None) -> dict[str, Price | None]:
    """Prices by model name, whatever they were given as."""
    given = prices.items() if isinstance(prices, Mapping) else ((getattr(one, "id", None), one) for one in prices or ())
    found: dict[str, Price | None] = {}
    for name, one in given:
        if not isinstance(name, str) or not isinstance(one, (Price, ModelCard)):
            raise ConfigError(f"prices= takes a Price or a ModelCard for each model's name, or ModelCards, not {one!r}")
        found[name] = one.price if isinstance(one, ModelCard) else one
    return found
