"""`RoutingMiddleware` and `CascadeMiddleware`: pick the model inside LangChain's `create_agent`."""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, NotRequired

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.runnables.config import ensure_config, run_in_executor, set_config_context
from langchain_core.runnables.utils import coro_with_context

try:
    from langchain.agents.middleware import (
        AgentMiddleware,
        AgentState,
        ExtendedModelResponse,
        ModelRequest,
        ModelResponse,
    )
    from langchain.agents.middleware.types import OmitFromInput, PrivateStateAttr
    from langchain.agents.structured_output import AutoStrategy, ProviderStrategy, StructuredOutputError, ToolStrategy
    from langgraph.types import Command
except ImportError as error:
    msg = "RoutingMiddleware and CascadeMiddleware need LangChain's agents: pip install 'langchain-agentroute[agents]'"
    raise ImportError(msg, name="langchain.agents") from error

from agentroute.cascades import Attempt, Call, CascadeResult
from agentroute.errors import ConfigError
from agentroute.serving import Decided, Undecided, bubbling, mistakes, retryable
from langchain_agentroute._calls import Request, RoutedCall, with_handler
from langchain_agentroute._candidates import Target
from langchain_agentroute._choosing import ChoosingChatModel, routing_of
from langchain_agentroute._climbing import CascadeCall
from langchain_agentroute._holding import Held
from langchain_agentroute._record import stamped
from langchain_agentroute._replies import reply_of, written
from langchain_agentroute._routing import Routing
from langchain_agentroute._runs import Capture, Run
from langchain_agentroute._watch import Watch
from langchain_agentroute.cascades import CascadeChatModel
from langchain_agentroute.chat_models import RoutedChatModel

_STRATEGIES = (AutoStrategy, ProviderStrategy, ToolStrategy)

__all__ = ["CascadeMiddleware", "CascadeState", "RoutingMiddleware", "RoutingState"]


class CascadeState(AgentState[Any]):
    """What `CascadeMiddleware` adds to an agent's state."""

    agentroute_log: NotRequired[Annotated[list[dict[str, Any]], OmitFromInput, operator.add]]
    """The routing record of every model call, in order, over all runs of the thread."""


class RoutingState(CascadeState):
    """What `RoutingMiddleware` adds to an agent's state."""

    agentroute_model: NotRequired[Annotated[str | None, PrivateStateAttr]]
    """The model of this run; not seen from outside."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Seen:
    """What a routed request got, and from whom; no response = an answer that fits no schema."""

    response: ModelResponse[Any] | None
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
        elif isinstance(models, CascadeChatModel):
            raise ConfigError("a CascadeChatModel looks at answers: pass it to CascadeMiddleware")
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
        asked, begun = self._begun(request)
        call = _call(self.model, begun.decide(), asked)

        def attempt(step: Call) -> Attempt[_Seen]:
            capture = Capture(routed=call.asks(step) is not None)
            prepared = _prepared(request, call, step, capture)
            with Watch(call, step, capture) as watch:
                response = handler(prepared)
            return _attempt(step, watch, capture, response)

        return _routed(call, call.drive(attempt))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ExtendedModelResponse[Any]:
        """As `wrap_model_call`. The router works on a worker thread."""
        asked, begun = self._begun(request)
        call = _call(self.model, await _decided(begun), asked)

        async def attempt(step: Call) -> Attempt[_Seen]:
            capture = Capture(routed=call.asks(step) is not None)
            prepared = _prepared(request, call, step, capture)
            with Watch(call, step, capture) as watch:
                response = await handler(prepared)
            return _attempt(step, watch, capture, response)

        return _routed(call, await call.adrive(attempt))

    def _begun(self, request: ModelRequest[Any]) -> tuple[Request, Undecided]:
        asked = _requested(routing_of(self.model), request)
        kept = request.state.get("agentroute_model") if self.route_once else None
        return asked, asked.begin(kept if isinstance(kept, str) else None)


async def _decided(begun: Undecided) -> Decided:
    return await run_in_executor(None, begun.decide) if begun.waits else begun.decide()


def _call(model: ChoosingChatModel, decided: Decided, asked: Request) -> RoutedCall:
    return asked.routing.call(decided, asked, Run(model, asked.config, asked.messages))


def _requested(routing: Routing, request: ModelRequest[Any]) -> Request:
    """What the agent asks of its model."""
    messages: list[BaseMessage] = list(request.messages)
    if request.system_message is not None:
        messages.insert(0, request.system_message)
    # A setting called `model` is for the provider, not a candidate's name.
    settings = {name: value for name, value in request.model_settings.items() if name != "model"}
    wanted = (("tools", request.tools), ("structured_output", request.response_format))
    asked = routing.request(messages, settings, ensure_config(), frozenset(need for need, of in wanted if of))
    return replace(asked, beside=(*request.tools, *_schemas(request.response_format)))


def _schemas(response_format: Any) -> Iterator[Any]:
    """What an agent tells its model of the object that it shall give."""
    if response_format is not None:
        schema = response_format.schema if isinstance(response_format, _STRATEGIES) else response_format
        yield from (spec.json_schema for spec in ToolStrategy(schema).schema_specs)


def _prepared(request: ModelRequest[Any], call: RoutedCall, step: Call, capture: Capture) -> ModelRequest[Any]:
    """The request with the model that is to answer it."""
    with mistakes():
        target = call.target(step)
        changes: dict[str, Any] = {"model": _watched(target, call, step, capture)}
        if target.kwargs:
            changes["model_settings"] = {**target.kwargs, **request.model_settings}
        if call.prepare_messages is not None:
            changes["messages"] = call.prepare_messages(list(request.messages), target.chat)
        return request.override(**changes)


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


def _attempt(
    step: Call, watch: Watch, capture: Capture, response: ModelResponse[Any] | None, broken: Exception | None = None
) -> Attempt[_Seen]:
    seen = _Seen(response=response, replaced=not capture.answered, error=broken or capture.error)
    if capture.answered:
        return watch.ended(seen)
    if capture.error is not None:
        watch.failed(capture.error)
    else:
        watch.skipped()
    return Attempt(model=step.model, answer=seen)


def _routed(call: RoutedCall, answered: CascadeResult[_Seen]) -> ExtendedModelResponse[Any]:
    return _recorded(call, answered, agentroute_model=answered.model)


def _recorded(call: RoutedCall, answered: CascadeResult[_Seen], **update: Any) -> ExtendedModelResponse[Any]:
    """The response with the record on its answer, and the state's update."""
    seen = answered.answer
    if seen.response is None:
        assert seen.error is not None  # noqa: S101  # it came in place of the response
        raise seen.error
    if seen.replaced:
        attempts = list(answered.attempts)
        error = seen.error if isinstance(seen.error, Exception) else None
        attempts[answered.chosen] = replace(attempts[answered.chosen], error=error)
        answered = replace(answered, attempts=tuple(attempts))
    record = call.record(answered, replaced=seen.replaced)
    result = list(seen.response.result)
    for position in reversed(range(len(result))):
        if isinstance(result[position], AIMessage):
            result[position] = stamped(result[position], record)
            break
    command: Command[Any] = Command(update={**update, "agentroute_log": [record]})
    return ExtendedModelResponse(model_response=replace(seen.response, result=result), command=command)


class CascadeMiddleware(AgentMiddleware[CascadeState, Any, Any]):
    """Looks at each answer of an agent's model, and asks the next model when it is not good enough.

    Answers that are not taken never reach the user's stream or the agent's state, and none of their tools is called. In a tool
    loop the cascade does not fall below the model that answered last. Middleware further in sees each model that is asked,
    so that what depends on the provider works; put such middleware after this one. The record of each call is on its message
    (`routing_decision`) and in the state's `agentroute_log`.

    ```python
    cascade = CascadeMiddleware({"small": small, "large": large}, judge=judge)
    agent = create_agent(model=large, tools=tools, middleware=[cascade])
    ```

    Args:
        models: A `CascadeChatModel`, or the candidates of one, cheapest first.
        **kwargs: With candidates, everything else that `CascadeChatModel` takes, such as `judge`.

    Raises:
        ConfigError: Arguments beside a `CascadeChatModel`, which has them already.
    """

    state_schema = CascadeState

    def __init__(self, models: CascadeChatModel | Mapping[str, Any] | Sequence[Any], **kwargs: Any) -> None:
        super().__init__()
        if isinstance(models, CascadeChatModel):
            if kwargs:
                raise ConfigError(f"give {', '.join(kwargs)} to the CascadeChatModel, or pass its candidates here instead of it")
            self.model = models
        elif isinstance(models, RoutedChatModel):
            raise ConfigError("a RoutedChatModel does not look at answers: pass it to RoutingMiddleware, or its models here")
        else:
            self.model = CascadeChatModel(models=models, **kwargs)

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ExtendedModelResponse[Any]:
        """Asks one model after the other, by the plan of the cascade."""
        asked = _requested(routing_of(self.model), request)
        call = self._call(asked.begin().decide(), asked)

        def attempt(step: Call) -> Attempt[Any]:
            capture = Capture(routed=call.asks(step) is not None)
            prepared = _prepared(request, call, step, capture)
            config, held = call.shown(step, call.run.config)
            broken: Exception | None = None
            response = None
            with bubbling(), Watch(call, step, capture) as watch, set_config_context(config) as context:
                try:
                    response = context.run(handler, prepared)
                except StructuredOutputError as error:
                    broken = error
            return _replied(
                call, step, _attempt(step, watch, capture, response, broken), held, schema=request.response_format is not None
            )

        return _recorded(call, call.drive(attempt))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ExtendedModelResponse[Any]:
        """As `wrap_model_call`. The planner works on a worker thread."""
        asked = _requested(routing_of(self.model), request)
        call = self._call(await _decided(asked.begin()), asked)

        async def attempt(step: Call) -> Attempt[Any]:
            capture = Capture(routed=call.asks(step) is not None)
            prepared = _prepared(request, call, step, capture)
            config, held = call.shown(step, call.run.config)
            broken: Exception | None = None
            response = None
            with bubbling(), Watch(call, step, capture) as watch, set_config_context(config) as context:
                try:
                    response = await coro_with_context(handler(prepared), context, create_task=True)
                except StructuredOutputError as error:
                    broken = error
            return _replied(
                call, step, _attempt(step, watch, capture, response, broken), held, schema=request.response_format is not None
            )

        return _recorded(call, await call.adrive(attempt))

    def _call(self, decided: Decided, asked: Request) -> CascadeCall:
        call = _call(self.model, decided, asked)
        assert isinstance(call, CascadeCall)  # noqa: S101  # a cascade's is
        return call


def _given(seen: _Seen) -> Any:
    """The message that came of a request, if any did."""
    result: Sequence[BaseMessage] = () if seen.response is None else seen.response.result
    return next((one for one in reversed(result) if isinstance(one, AIMessage)), None)


def _replied(
    call: CascadeCall, step: Call, attempt: Attempt[_Seen], held: tuple[Held, ...], *, schema: bool = False
) -> Attempt[Any]:
    """The attempt as scorers read it: the message, and what the agent has made of it; `schema` = it was to make an object."""
    seen = attempt.answer
    assert seen is not None  # noqa: S101  # a failed call has raised
    if seen.replaced and isinstance(seen.error, Exception) and call.climbs_on(step) and retryable(seen.error):
        message = _given(seen)
        if message is None or not (message.usage_metadata or message.response_metadata):
            # No model gave this: a middleware further in has put words in the place of its failure.
            return Attempt(model=step.model, error=seen.error, latency=attempt.latency)
    problem = None if seen.response is not None else str(seen.error)
    result: Sequence[BaseMessage] = () if seen.response is None else seen.response.result
    message = _given(seen)
    if message is None:
        message = getattr(seen.error, "ai_message", None)
    parsed = None if seen.response is None else seen.response.structured_response
    if parsed is None and problem is None:
        # The agent's own answer to a call of the schema's tool that does not fit the schema.
        problem = next((str(one.text) for one in result if isinstance(one, ToolMessage)), None)
    if problem is None and parsed is None and schema and not (isinstance(message, AIMessage) and message.tool_calls):
        problem = "the answer holds no object of the schema"
    reply = reply_of(message, usage=attempt.usage, cost=attempt.cost, latency=attempt.latency)
    if parsed is not None:
        # A judge of texts reads the object as JSON.
        reply = replace(reply, parsed=parsed, text=reply.text if reply.text.strip() else written(parsed))
    reply = replace(reply, problem=problem or reply.problem)
    return call.replied(step, attempt, held, reply)
