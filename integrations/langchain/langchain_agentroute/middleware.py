"""`RoutingMiddleware`: picks the model inside LangChain's `create_agent`."""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, NotRequired

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables.config import ensure_config, run_in_executor

try:
    from langchain.agents.middleware import (
        AgentMiddleware,
        AgentState,
        ExtendedModelResponse,
        ModelRequest,
        ModelResponse,
    )
    from langchain.agents.middleware.types import OmitFromInput, PrivateStateAttr
    from langgraph.types import Command
except ImportError as error:
    msg = "RoutingMiddleware needs LangChain's agents: pip install 'langchain-agentroute[agents]'"
    raise ImportError(msg, name="langchain.agents") from error

from agentroute.cascades import Attempt, Call, CascadeResult
from agentroute.errors import ConfigError
from agentroute.types import Decision, Query
from langchain_agentroute._calls import Request, RoutedCall, with_handler
from langchain_agentroute._candidates import Target
from langchain_agentroute._deciding import Decided
from langchain_agentroute._record import stamped
from langchain_agentroute._retry import mistakes
from langchain_agentroute._runs import Capture, Run
from langchain_agentroute._watch import Watch
from langchain_agentroute.chat_models import RoutedChatModel, routing_of

__all__ = ["RoutingMiddleware", "RoutingState"]


class RoutingState(AgentState[Any]):
    """What the middleware adds to an agent's state."""

    agentroute_model: NotRequired[Annotated[str | None, PrivateStateAttr]]
    """The model of this run; not seen from outside."""
    agentroute_log: NotRequired[Annotated[list[dict[str, Any]], OmitFromInput, operator.add]]
    """The routing record of every model call, in order, over all runs of the thread."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Seen:
    """What a routed request got, and from whom."""

    response: ModelResponse[Any]
    # The routed model was not the one to answer: a middleware further in has replaced it.
    replaced: bool
    error: BaseException | None


class RoutingMiddleware(AgentMiddleware[RoutingState, Any, Any]):
    """Picks the model of each agent run, or of each call, and fails over between the candidates.

    Middleware further in sees the chosen model itself, so that what depends on the provider (prompt caching, strict
    schemas) works; put such middleware after this one. In every order with `ModelFallbackMiddleware` the candidates are
    tried first. The record of each call is on its message (`routing_decision`) and in the state's `agentroute_log`.

    ```python
    routing = RoutingMiddleware({"small": small, "large": large}, router=router)
    agent = create_agent(model=large, tools=tools, middleware=[routing])
    ```

    Args:
        models: A `RoutedChatModel`, or the candidates of one.
        route_once: Whether the first decision holds for the whole run of the agent; else each call is decided, but for
            what `sticky` keeps together.
        **kwargs: With candidates, everything else that `RoutedChatModel` takes.

    Raises:
        ConfigError: Arguments beside a `RoutedChatModel`, which has them already.
    """

    state_schema = RoutingState

    def __init__(
        self, models: RoutedChatModel | Mapping[str, Any] | Sequence[Any], *, route_once: bool = True, **kwargs: Any
    ) -> None:
        super().__init__()
        if isinstance(models, RoutedChatModel):
            if kwargs:
                raise ConfigError(f"give {', '.join(kwargs)} to the RoutedChatModel, or pass its candidates here instead of it")
            self.model = models
        else:
            self.model = RoutedChatModel(models=models, **kwargs)
        self.route_once = route_once

    def before_agent(self, state: RoutingState, runtime: Any) -> dict[str, Any] | None:  # noqa: ARG002  # LangChain's signature
        """A new run of the agent is decided anew."""
        return {"agentroute_model": None} if state.get("agentroute_model") else None

    async def abefore_agent(self, state: RoutingState, runtime: Any) -> dict[str, Any] | None:
        """As `before_agent`."""
        return self.before_agent(state, runtime)

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ExtendedModelResponse[Any]:
        """Picks a model, and calls on with it."""
        asked, query, fixed = self._asked(request)
        decider = asked.routing.decider
        decided = decider.ask(query, fixed) if decider.waits(fixed) else Decided(query=query, decision=_sure(fixed))
        call = self._call(decided, asked)

        def attempt(step: Call) -> Attempt[_Seen]:
            capture = Capture()
            with mistakes():
                prepared = self._prepared(request, call, step, capture)
            with Watch(call, step, capture) as watch:
                response = handler(prepared)
            return _attempt(step, watch, capture, response)

        return _response(call, call.drive(attempt))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ExtendedModelResponse[Any]:
        """As `wrap_model_call`. The router works on a worker thread."""
        asked, query, fixed = self._asked(request)
        decider = asked.routing.decider
        if decider.waits(fixed):
            decided = await run_in_executor(None, decider.ask, query, fixed)
        else:
            decided = Decided(query=query, decision=_sure(fixed))
        call = self._call(decided, asked)

        async def attempt(step: Call) -> Attempt[_Seen]:
            capture = Capture()
            with mistakes():
                prepared = self._prepared(request, call, step, capture)
            with Watch(call, step, capture) as watch:
                response = await handler(prepared)
            return _attempt(step, watch, capture, response)

        return _response(call, await call.adrive(attempt))

    def _asked(self, request: ModelRequest[Any]) -> tuple[Request, Query, Decision | None]:
        messages: list[BaseMessage] = list(request.messages)
        if request.system_message is not None:
            messages.insert(0, request.system_message)
        # A setting called `model` is for the provider, not a candidate's name.
        settings = {name: value for name, value in request.model_settings.items() if name != "model"}
        wanted = (("tools", request.tools), ("structured_output", request.response_format))
        routing = routing_of(self.model)
        asked = routing.request(messages, settings, ensure_config(), frozenset(need for need, of in wanted if of))
        kept = request.state.get("agentroute_model") if self.route_once else None
        query, fixed = routing.before_router(asked, kept if isinstance(kept, str) else None)
        return asked, query, fixed

    def _call(self, decided: Decided, asked: Request) -> RoutedCall:
        return asked.routing.call(decided, asked, Run(self.model, asked.config, asked.messages))

    def _prepared(self, request: ModelRequest[Any], call: RoutedCall, step: Call, capture: Capture) -> ModelRequest[Any]:
        target = call.targets[step.model]
        changes: dict[str, Any] = {"model": _watched(target, call, step, capture)}
        if target.kwargs:
            changes["model_settings"] = {**target.kwargs, **request.model_settings}
        if call.prepare_messages is not None:
            changes["messages"] = call.prepare_messages(list(request.messages), target.chat)
        return request.override(**changes)


def _sure(decision: Decision | None) -> Decision:
    assert decision is not None  # noqa: S101  # Decider.waits() is true for None
    return decision


def _watched(target: Target, call: RoutedCall, step: Call, capture: Capture) -> BaseChatModel:
    """A copy of the candidate that shows its runs: whether it was this model that answered, and with which usage."""
    chat, config = target.chat, target.config or {}
    return chat.model_copy(
        update={
            "callbacks": with_handler(chat.callbacks, capture),
            "tags": [*(chat.tags or ()), *config.get("tags", ()), "agentroute"],
            "metadata": {**(chat.metadata or {}), **config.get("metadata", {}), **call.trace(step)},
        }
    )


def _attempt(step: Call, watch: Watch, capture: Capture, response: ModelResponse[Any]) -> Attempt[_Seen]:
    seen = _Seen(response=response, replaced=capture.message is None, error=capture.error)
    if capture.message is not None:
        return watch.ended(seen)
    if capture.error is not None:
        watch.failed(capture.error)
    return Attempt(model=step.model, answer=seen)


def _response(call: RoutedCall, answered: CascadeResult[_Seen]) -> ExtendedModelResponse[Any]:
    """The response with the record on its answer, and the state's update."""
    seen = answered.answer
    if seen.replaced:
        error = seen.error if isinstance(seen.error, Exception) else None
        last = replace(answered.attempts[-1], error=error)
        answered = replace(answered, attempts=(*answered.attempts[:-1], last))
    record = call.record(answered, replaced=seen.replaced)
    result = list(seen.response.result)
    for position in reversed(range(len(result))):
        if isinstance(result[position], AIMessage):
            result[position] = stamped(result[position], record)
            break
    update = {"agentroute_model": answered.model, "agentroute_log": [record]}
    return ExtendedModelResponse(model_response=replace(seen.response, result=result), command=Command(update=update))
