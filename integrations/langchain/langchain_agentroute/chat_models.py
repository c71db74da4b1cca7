"""`RoutedChatModel`: a LangChain chat model that picks a model for each call."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from langchain_core.language_models import BaseChatModel, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import BaseMessage
from langchain_core.runnables import ConfigurableFieldSpec
from pydantic import Field, SkipValidation, ValidationError, field_validator, model_validator

from agentroute.cascades import Call
from agentroute.errors import AgentRouteError, ConfigError
from agentroute.pool import ModelPool
from langchain_agentroute._arguments import check_names
from langchain_agentroute._calls import Prepare, Ready
from langchain_agentroute._candidates import Cards, named, pool_of, shared_profile, targets_of
from langchain_agentroute._deciding import Decider, Rule, Sticky, SupportsRoute, forced_model
from langchain_agentroute._delegating import DelegatingChatModel
from langchain_agentroute._record import routing_decision
from langchain_agentroute._routing import Routing
from langchain_agentroute._runs import FORCED, Run

__all__ = ["RoutedChatModel"]

_VERSION = metadata.version("langchain-agentroute")
# Ours are 32 hexadecimal digits; a router of the caller's may make others.
_DECISION_ID = re.compile(r"[\w\-:.]{8,128}")
# What routing is made of: when one of these is assigned, it is made anew.
_SETTINGS = (
    "models",
    "router",
    "default",
    "outcome_log",
    "failover",
    "sticky",
    "prepare_messages",
    "role",
    "task",
    "cards",
)


def _check_log(log: Any) -> None:
    if isinstance(log, (str, os.PathLike)):
        raise ConfigError(f"outcome_log={log!r} is a path: open it, outcome_log=SqliteOutcomeLog({os.fspath(log)!r})")
    if log is not None and not callable(getattr(log, "append", None)):
        raise ConfigError(f"outcome_log={log!r} has no append(outcome): pass a log such as SqliteOutcomeLog(path)")


def routing_of(model: RoutedChatModel) -> Routing:
    """What a routed model decides with, for the middleware."""
    return model._routing  # noqa: SLF001  # the middleware is of this package


class RoutedChatModel(DelegatingChatModel):
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

    models: Mapping[str, Any] | Sequence[Any]
    router: SkipValidation[SupportsRoute | Rule | None] = Field(default=None, exclude=True, repr=False)
    default: str | None = None
    outcome_log: SkipValidation[Any] = Field(default=None, exclude=True, repr=False)
    failover: bool | Sequence[str] = True
    sticky: Sticky = "tool_loop"
    prepare_messages: SkipValidation[Prepare | None] = Field(default=None, exclude=True, repr=False)
    role: str | None = None
    task: str | None = None
    cards: SkipValidation[Cards | None] = Field(default=None, exclude=True, repr=False)

    if not TYPE_CHECKING:
        # Type checkers make a better signature from the fields, and would let anything be assigned.
        def __init__(self, **kwargs: Any) -> None:
            check_names(kwargs, type(self).model_fields, {name: name for name in _SETTINGS}, "a routed model")
            try:
                super().__init__(**kwargs)
            except ValidationError as error:
                # pydantic wraps every ValueError; ours are for the caller as they are, with what they carry.
                for detail in error.errors():
                    ours = detail.get("ctx", {}).get("error")
                    if isinstance(ours, AgentRouteError):
                        raise ours from None
                raise

        def __setattr__(self, name: str, value: Any) -> None:
            if name in _SETTINGS:
                self._adopt({name: value})
            else:
                super().__setattr__(name, value)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, but that the routing arguments in `update` are checked and take effect."""
        changes = dict(update or {})
        ours = {name: changes.pop(name) for name in _SETTINGS if name in changes}
        copied = super().model_copy(update=changes, deep=deep)
        if ours:
            copied._adopt(ours)  # noqa: SLF001  # it is one of these
        return copied

    def _adopt(self, changes: dict[str, Any]) -> None:
        """Takes other settings: all of them or, when one is wrong, none."""
        made = RoutedChatModel(**{name: getattr(self, name) for name in _SETTINGS} | changes)
        if "models" in changes and self.profile == shared_profile(self._named.values()):
            # It was theirs, not one of the caller's own.
            self.profile = made.profile
        for name in changes:
            super().__setattr__(name, getattr(made, name))
        # Every call reads this once, so that none sees half a change.
        self._routing = made._routing

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

    @field_validator("models", mode="before")
    @classmethod
    def _name_models(cls, models: Any) -> Any:
        return named(models)

    @model_validator(mode="after")
    def _set_up(self) -> Self:
        if self.cache:
            raise ConfigError("a routed model has no cache of its own: set cache= on the candidates")
        if self.rate_limiter is not None:
            raise ConfigError("a routed model has no rate limiter of its own: set rate_limiter= on the candidates")
        _check_log(self.outcome_log)
        targets = targets_of(dict(self._named))
        learned = getattr(self.router, "pool", None)
        pool = pool_of(targets, self.cards, learned if isinstance(learned, ModelPool) else None)
        if not isinstance(self.failover, bool):
            for name in self.failover:
                forced_model(name, targets)
        decider = Decider(
            pool,
            router=self.router,
            default=self.default,
            sticky=self.sticky,
            role=self.role,
            task=self.task,
            logged=self.outcome_log is not None,
        )
        if self.outcome_log is not None:
            from agentroute.outcomes import QueuedOutcomeLog

            if not isinstance(self.outcome_log, QueuedOutcomeLog):
                # Only now, when nothing more can go wrong: a queue has a thread. Not by assignment, which would begin anew.
                self.__dict__["outcome_log"] = QueuedOutcomeLog(self.outcome_log)
        self._routing = Routing(
            targets=targets,
            pool=pool,
            decider=decider,
            log=self.outcome_log,
            prepare_messages=self.prepare_messages,
            failover=self.failover,
        )
        return self

    @model_validator(mode="after")
    def _record_agentroute_version(self) -> Self:
        self._add_version("langchain-agentroute", _VERSION)
        return self

    @property
    def _named(self) -> Mapping[str, Any]:
        assert isinstance(self.models, Mapping)  # noqa: S101  # the validator has named them
        return self.models

    def _privately(self, messages: list[BaseMessage], stop: Any, kwargs: dict[str, Any]) -> Ready:
        request = self._request(messages, None, stop, kwargs)
        routing = request.routing
        query, fixed = routing.before_router(request)
        decided = routing.decider.ask(query, fixed)
        call = routing.call(decided, request, Run(self, request.config, request.messages))
        return call.ready(Call(model=decided.decision.model))

    # --- outcomes ---

    def record_feedback(
        self, message_or_decision_id: BaseMessage | str, score: float, *, source: str = "user", idempotency_key: str | None = None
    ) -> bool:
        """Tells the outcome log how good an answer was, so that the next `fit` learns from it.

        Args:
            message_or_decision_id: The answer, or the `decision_id` of its record.
            score: In [0, 1].
            source: Who says so.
            idempotency_key: Feedback with a key that was seen before changes nothing.

        Returns:
            Whether it was queued for the log, which counts a key once in any case.

        Raises:
            ConfigError: There is no outcome log, the message is no routed answer, or the text is no id.
            DataError: The score is outside [0, 1].
        """
        if self.outcome_log is None:
            raise ConfigError("there is no outcome log to take the feedback: pass outcome_log=SqliteOutcomeLog(...)")
        if isinstance(message_or_decision_id, str):
            if _DECISION_ID.fullmatch(message_or_decision_id) is None:
                raise ConfigError(
                    f"{message_or_decision_id[:40]!r} is no decision id: pass the answer message, or the decision_id of its "
                    "routing_decision(message); a chain that ends in a parser gives the text alone and has dropped both"
                )
            decision_id = message_or_decision_id
        else:
            record = routing_decision(message_or_decision_id)
            if record is None:
                raise ConfigError("this message carries no routing record: pass an answer of a routed model, or its decision_id")
            decision_id = record["decision_id"]
        queued: bool = self.outcome_log.feedback(decision_id, score, source=source, idempotency_key=idempotency_key)
        return queued

    # --- what LangChain asks of a chat model ---

    @property
    def _llm_type(self) -> str:
        return "agentroute"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        params = {
            name: {**target.chat._identifying_params, "_type": target.chat._llm_type, **target.kwargs}  # noqa: SLF001
            for name, target in self._routing.targets.items()
        }
        return {"models": params, "router": type(self.router).__name__, "default": self._routing.decider.default}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        name = kwargs.get("model")
        params = LangSmithParams(
            ls_provider="agentroute",
            ls_model_name=name if isinstance(name, str) else "|".join(self._named),
            ls_model_type="chat",
        )
        if stop:
            params["ls_stop"] = stop
        return params

    def _resolve_model_profile(self) -> ModelProfile | None:
        return shared_profile(self._named.values())

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The configurable key that forces a candidate."""
        spec = ConfigurableFieldSpec(
            id=FORCED, annotation=str, name="Model", description="The candidate that must answer.", default=None
        )
        return [*super().config_specs, spec]

    def _default_chat(self) -> BaseChatModel:
        return self._routing.targets[self._routing.decider.default].chat

    def get_token_ids(self, text: str) -> list[int]:
        """The default candidate's tokens."""
        return self._default_chat().get_token_ids(text)

    def get_num_tokens(self, text: str) -> int:
        """The default candidate's count."""
        return self._default_chat().get_num_tokens(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """The default candidate's count."""
        if tools is None:
            # Several providers' overrides do not take `tools`.
            return self._default_chat().get_num_tokens_from_messages(messages)
        return self._default_chat().get_num_tokens_from_messages(messages, tools=tools)

    def __repr__(self) -> str:
        """Names only: the models' own representations are long, and traces print this."""
        return f"{type(self).__name__}(models={list(self._named)!r}, default={self._routing.decider.default!r})"
