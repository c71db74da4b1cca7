"""`RoutedChatModel`: a LangChain chat model that picks a model for each call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from langchain_core.messages import BaseMessage
from pydantic import Field, SkipValidation

from agentroute.cascades import Call
from agentroute.serving import Decider, Rule, SupportsRoute, known_model
from langchain_agentroute._calls import Ready, RoutedCall
from langchain_agentroute._candidates import Target, pool_of
from langchain_agentroute._choosing import ChoosingChatModel
from langchain_agentroute._routing import Routing
from langchain_agentroute._runs import Run

__all__ = ["RoutedChatModel"]


class RoutedChatModel(ChoosingChatModel):
    """A chat model that picks one of several models for each call.

    It goes wherever a LangChain chat model goes: chains, agents, structured output, streams. Each call shows in traces as a
    chain run around exactly one model run of the chosen candidate, with that model's own name and usage. What was decided,
    and why, stands on the answer: see `routing_decision`.

    ```python
    model = RoutedChatModel(models={"small": small, "large": large}, router=Router.load("router/"))
    answer = model.invoke("What is the capital of France?")
    routing_decision(answer)["answered_by"]
    ```

    A call names its model with `model="small"` or `config={"configurable": {"agentroute_model": "small"}}`; then neither the
    router nor failover has a say. Cache, rate limit and provider settings belong on the candidates.

    Arguments can be assigned later, checked as at first: after a `fit`, `model.router = router` swaps the new router in. Calls
    under way end as they began; `model_copy(update={"router": router})` leaves this model as it is.

    Outcomes are logged by the public methods (`invoke`, `stream`, `batch` and so on). A wrapper of somebody else that calls the
    private `_generate` or `_stream` gets a routed answer, but without a record, failover or a logged outcome.

    Args:
        models: The candidates, by name, or a sequence of chat models that know their own names. `.bind(...)` and
            `.with_config(...)` around them are kept.
        router: Who chooses: an `agentroute.router.Router`, anything with `route(query)`, or a function from a query to a
            model's name or a whole decision. `None` = always the default.
        default: Who answers when the router does not know or fails; `None` = the router's default, else the first model.
        outcome_log: Where the outcome of every call goes, without delaying it. It is wrapped in a queue, which then
            stands here: `model.outcome_log.flush(1.0)` waits for the queue. Queries that the router does not embed are
            embedded with the core's default embedder, so that a router can be fitted from the log.
        failover: After a failure that another model may help with (no connection, rate limit, server error; an overflow, if
            a larger window is known), and before the first token: `True` = go on to the router's next candidates, a sequence
            of names = to these, `False` = do not.
        sticky: Where a conversation keeps its model: in a `"tool_loop"`, for the whole `"conversation"`, or nowhere
            (`"none"`).
        prepare_messages: Called with the messages and the candidate; returns the messages that this candidate shall see.
        role: The agent role of every query, a routing feature.
        task: The kind of task of every query, a routing feature.
        cards: What is known of the models beyond their LangChain profiles and the router's own cards, such as prices.

    Raises:
        ConfigError: A candidate is no chat model, or an argument is wrong; the message says what to do.
        UnknownModelError: A name is known to one side only.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = (*ChoosingChatModel.SETTINGS, "router", "default", "failover")

    router: SkipValidation[SupportsRoute | Rule | None] = Field(default=None, exclude=True, repr=False)
    default: str | None = None
    failover: bool | Sequence[str] = True

    def _remade(self, settings: dict[str, Any]) -> RoutedChatModel:
        return RoutedChatModel(**settings)

    @classmethod
    def from_router(
        cls, folder: str | Path, *, models: Mapping[str, Any] | Sequence[Any], embedder: Any = None, **kwargs: Any
    ) -> Self:
        """A routed model with the router that `Router.save` (or `agentroute fit`) left in a folder.

        Args:
            folder: The folder.
            models: The candidates: exactly the models of the router's pool.
            embedder: The embedder that the router was fitted with; `None` = the one that it names.
            **kwargs: As for the class.

        Raises:
            ArtefactError: The folder is damaged or foreign.
            EmbedderMismatchError: The embedder is another one.
            UnknownModelError: A candidate is not in the router's pool.
            ConfigError: A model of the router's pool is no candidate.
        """
        from agentroute.router import Router

        return cls(models=models, router=Router.load(Path(folder), embedder=embedder), **kwargs)

    def _routing_for(self, targets: Mapping[str, Target]) -> Routing:
        pool = pool_of(targets, self.cards, self.router)
        if not isinstance(self.failover, bool):
            for name in self.failover:
                known_model(name, targets)
        decider = Decider(
            pool,
            router=self.router,
            default=self.default,
            sticky=self.sticky,
            role=self.role,
            task=self.task,
            logged=self.outcome_log is not None,
        )
        return Routing(
            targets=targets,
            pool=pool,
            decider=decider,
            log=self.outcome_log,
            prepare_messages=self.prepare_messages,
            failover=self.failover,
        )

    def _privately(self, messages: list[BaseMessage], stop: Any, kwargs: dict[str, Any]) -> tuple[RoutedCall, Call, Ready]:
        request = self._request(messages, None, stop, kwargs)
        decided = request.begin().decide()
        call = request.routing.call(decided, request, Run(self, request.config, request.messages))
        step = Call(model=decided.decision.model)
        return call, step, call.ready(step)
