"""What the chat models over several candidates share: their arguments, how they are assigned, and what LangChain asks of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING, Any, ClassVar, Self

from langchain_core.language_models import BaseChatModel, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import BaseMessage
from langchain_core.runnables import ConfigurableFieldSpec
from pydantic import Field, SkipValidation, ValidationError, field_validator, model_validator

from agentroute.errors import AgentRouteError, ConfigError
from agentroute.serving import Cards, Sticky, check_log, check_names, record_feedback
from langchain_agentroute._calls import Prepare
from langchain_agentroute._candidates import Target, named, shared_profile, targets_of
from langchain_agentroute._delegating import DelegatingChatModel
from langchain_agentroute._record import routing_decision
from langchain_agentroute._routing import Routing
from langchain_agentroute._runs import FORCED

__all__ = ["ChoosingChatModel", "routing_of"]

_VERSION = metadata.version("langchain-agentroute")


def routing_of(model: ChoosingChatModel) -> Routing:
    """What a model decides with, for the middleware."""
    return model._routing  # noqa: SLF001  # the middlewares are of this package


class ChoosingChatModel(DelegatingChatModel):
    """A chat model over several candidates. Subclasses say how it chooses between them.

    Every routing argument is checked when it is given and when it is assigned; all that is made of them is `_routing`, which a
    call reads once.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = ("models", "outcome_log", "sticky", "prepare_messages", "role", "task", "cards")
    """What routing is made of: when one of these is assigned, it is made anew."""

    MEANT: ClassVar[Mapping[str, str]] = {}
    """Other names for settings, which are known to be taken for them."""

    models: Mapping[str, Any] | Sequence[Any]
    outcome_log: SkipValidation[Any] = Field(default=None, exclude=True, repr=False)
    sticky: Sticky = "tool_loop"
    prepare_messages: SkipValidation[Prepare | None] = Field(default=None, exclude=True, repr=False)
    role: str | None = None
    task: str | None = None
    cards: SkipValidation[Cards | None] = Field(default=None, exclude=True, repr=False)

    if not TYPE_CHECKING:
        # Type checkers make a better signature from the fields, and would let anything be assigned.
        def __init__(self, **kwargs: Any) -> None:
            meant = {name: name for name in type(self).SETTINGS} | dict(type(self).MEANT)
            check_names(kwargs, type(self).model_fields, meant, "a routed model")
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
            if name in type(self).SETTINGS:
                self._adopt({name: value})
            else:
                super().__setattr__(name, value)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, but that the routing arguments in `update` are checked and take effect."""
        changes = dict(update or {})
        ours = {name: changes.pop(name) for name in self.SETTINGS if name in changes}
        copied = super().model_copy(update=changes, deep=deep)
        if ours:
            copied._adopt(ours)  # noqa: SLF001  # it is one of these
        return copied

    def _adopt(self, changes: dict[str, Any]) -> None:
        """Takes other settings: all of them or, when one is wrong, none."""
        made = self._remade({name: getattr(self, name) for name in self.SETTINGS} | changes)
        if "models" in changes and self.profile == shared_profile(self._named.values()):
            # It was theirs, not one of the caller's own.
            self.profile = made.profile
        for name in changes:
            super().__setattr__(name, getattr(made, name))
        # Every call reads this once, so that none sees half a change.
        self._routing = routing_of(made)

    def for_role(self, role: str) -> Self:
        """This model for one role of a team: the same candidates, and the role as a feature of every query.

        Within a team's session (`RoleAllocator.session`) each role's model asks whom the session gives the role.
        """
        return self.model_copy(update={"role": role})

    @field_validator("models", mode="before")
    @classmethod
    def _name_models(cls, models: Any) -> Any:
        return named(models)

    @abstractmethod
    def _remade(self, settings: dict[str, Any]) -> ChoosingChatModel:
        """A model of the same kind with these settings."""

    @abstractmethod
    def _routing_for(self, targets: Mapping[str, Target]) -> Routing:
        """Checks the settings of this kind of model, and puts together what it decides with."""

    @model_validator(mode="after")
    def _set_up(self) -> Self:
        if self.cache:
            raise ConfigError("a routed model has no cache of its own: set cache= on the candidates")
        if self.rate_limiter is not None:
            raise ConfigError("a routed model has no rate limiter of its own: set rate_limiter= on the candidates")
        check_log(self.outcome_log)
        routing = self._routing_for(targets_of(dict(self._named)))
        if self.outcome_log is not None:
            from agentroute.outcomes import QueuedOutcomeLog

            if not isinstance(self.outcome_log, QueuedOutcomeLog):
                # Only now, when nothing more can go wrong: a queue has a thread. Not by assignment, which would begin anew.
                self.__dict__["outcome_log"] = QueuedOutcomeLog(self.outcome_log)
        self._routing = replace(routing, log=self.outcome_log)
        return self

    @model_validator(mode="after")
    def _record_agentroute_version(self) -> Self:
        self._add_version("langchain-agentroute", _VERSION)
        return self

    @property
    def _named(self) -> Mapping[str, Any]:
        assert isinstance(self.models, Mapping)  # noqa: S101  # the validator has named them
        return self.models

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
        answer = message_or_decision_id
        told = answer if isinstance(answer, str) else routing_decision(answer)
        return record_feedback(self.outcome_log, told, score, source=source, key=idempotency_key)

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
        return {
            "models": params,
            "router": type(getattr(self, "router", None)).__name__,
            "default": self._routing.decider.default,
        }

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
