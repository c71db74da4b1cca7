"""Events that say which model takes a call, for whom, and why; and the tags by which every other event of that call tells it.

LlamaIndex has two streams of events: instrumentation, which tracers and ledgers read, and the stream of a workflow, which its
caller reads. A decision is told on both.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from llama_index.core.bridge.pydantic import BaseModel, Field
from llama_index.core.workflow import Context, Event
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.dispatcher import active_instrument_tags, instrument_tags

from agentroute.types import Decision

__all__ = ["ALLOCATION", "ROUTED", "RUN", "ModelRouted", "ModelRoutedEvent", "run_of", "tagged", "tell"]

ROUTED: Final = "agentroute"
"""The tag of a routed call: a mapping of `role`, `model`, `decision_id` and `attempt`."""

ALLOCATION: Final = "agentroute_allocation"
"""The tag of a run's allocation: a mapping of role to model name."""

RUN: Final = "agentroute_run"
"""The tag of the name that the caller gave a run."""

_WORKFLOW_RUN = "llamaindex.run_id"


class _Told(BaseModel):
    """What both events say.

    Attributes:
        role: The agent role that asks; `None` = none was named.
        model: The model that is called now.
        by: What chose: `"policy"`, `"default"`, `"forced"`, `"sticky"` or `"allocated"`.
        reason: Why, in one sentence.
        decision_id: The key under which outcomes and feedback refer to the decision.
        candidates: The eligible models, best first.
        attempt: 0 for the first model called, 1 for the next one …
        expected_cost: USD that a call of this model is expected to cost; `None` = unknown.
        error: The class name of the error of the attempt before; `None` = there was none.
    """

    role: str | None = None
    model: str
    by: str
    reason: str
    decision_id: str
    candidates: list[str] = Field(default_factory=list)
    attempt: int = 0
    expected_cost: float | None = None
    error: str | None = None


class ModelRoutedEvent(_Told, BaseEvent):
    """Instrumentation: a routed LLM calls a model. See `_Told` for the fields."""

    @classmethod
    def class_name(cls) -> str:
        """The event's name in traces."""
        return "ModelRoutedEvent"


class ModelRouted(_Told, Event):
    """Workflow stream: a routed LLM calls a model within a step. See `_Told` for the fields."""


def tell(decision: Decision, *, role: str | None, attempt: int, model: str, error: BaseException | str | None = None) -> None:
    """Says that a model is called: to instrumentation and, within a step of a workflow, on the workflow's stream.

    Never raises: an event is no reason to fail a call. Code of a step that runs in a thread of its own, such as a synchronous
    tool, has no event loop to write to the stream with: it is told to instrumentation alone.

    Args:
        decision: The decision that led to the call.
        role: The agent role that asks.
        attempt: Position of the call among those of the decision, from 0.
        model: The model that is called, which after a failure is not the one decided on.
        error: The error of the attempt before, or the name of its class.
    """
    with suppress(Exception):
        told = _Told(
            role=role,
            model=model,
            by=decision.by,
            reason=decision.reason,
            decision_id=decision.id,
            candidates=list(decision.ranking),
            attempt=attempt,
            expected_cost=_expected_cost(decision, model),
            error=type(error).__name__ if isinstance(error, BaseException) else error,
        ).model_dump()
        get_dispatcher(__name__).event(ModelRoutedEvent(**told))
        _write(ModelRouted(**told))


def _expected_cost(decision: Decision, model: str) -> float | None:
    cost = next((one.cost for one in decision.candidates if one.model == model), None)
    return None if cost is None or not math.isfinite(cost) else float(cost)


def _write(event: Event) -> None:
    """Writes an event to the stream of the workflow whose step this is, where it is one."""
    step_context = getattr(Context, "get_step_context", None)
    if step_context is None:
        # Workflows before 2.18 do not tell a step's context.
        return
    # Without a loop the write would leave a coroutine behind that nobody awaits.
    asyncio.get_running_loop()
    step_context().write_event_to_stream(event)


@contextmanager
def tagged(tags: Mapping[str, Any]) -> Iterator[None]:
    """Adds tags to every event within. LlamaIndex's `instrument_tags` would put them in the place of those that are there."""
    with instrument_tags({**active_instrument_tags.get(), **tags}):
        yield


def run_of(tags: Mapping[str, Any]) -> str | None:
    """The run that tags tell of: the one that the caller has named, else the workflow's own; `None` = none."""
    run = tags.get(RUN) or tags.get(_WORKFLOW_RUN)
    return None if run is None else str(run)
