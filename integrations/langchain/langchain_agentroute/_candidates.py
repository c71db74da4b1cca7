"""The models behind a routed model: how they are named, called and described."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig, RunnableWithFallbacks
from langchain_core.runnables.config import merge_configs
from langchain_core.runnables.retry import RunnableRetry

from agentroute.errors import ConfigError, DuplicateModelError
from agentroute.pool import ModelPool
from agentroute.serving import Cards, cards_of
from agentroute.types import ModelCard

__all__ = ["Target", "flatten", "named", "pool_of", "shared_profile", "targets_of"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """Something to call: a candidate, or a candidate with tools or a schema bound to it.

    Attributes:
        name: The candidate's name in the pool.
        chat: The chat model itself.
        runnable: What is called: `chat`, or what `chat` made of tools or a schema.
        kwargs: Arguments bound to every call.
        config: Configuration bound to every call.
    """

    name: str
    chat: BaseChatModel
    runnable: Runnable[LanguageModelInput, Any]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    config: RunnableConfig | None = None


def flatten(runnable: Any) -> tuple[Any, dict[str, Any], RunnableConfig | None]:
    """Takes `.bind(...)` and `.with_config(...)` apart: the runnable within, its bound arguments and configuration.

    A call of the runnable within is faster than a call through the binding, and its asynchronous stream can be closed.
    """
    kwargs: dict[str, Any] = {}
    config: RunnableConfig | None = None
    while isinstance(runnable, RunnableBinding) and not runnable.config_factories:
        kwargs = {**runnable.kwargs, **kwargs}
        if runnable.config:
            config = merge_configs(runnable.config, config)
        runnable = runnable.bound
    return runnable, kwargs, config


def named(models: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    """Gives every model its name: the mapping's key, or else the model's own.

    Raises:
        ConfigError: There is no model, or one has no name of its own.
        DuplicateModelError: Two have the same name.
    """
    if isinstance(models, Mapping):
        found = dict(models)
    else:
        found = {}
        for model in models:
            name = _own_name(model)
            if name in found:
                raise DuplicateModelError(name)
            found[name] = model
    if not found:
        raise ConfigError("a routed model needs at least one candidate: models={'small': ChatOpenAI(...), ...}")
    return found


def _own_name(model: Any) -> str:
    chat = flatten(model)[0]
    for attribute in ("model_name", "model", "model_id", "deployment_name"):
        name = getattr(chat, attribute, None)
        if isinstance(name, str) and name:
            return name
    raise ConfigError(f"{type(chat).__name__} does not tell its model's name: pass models={{'a name': model, ...}}")


def targets_of(models: Mapping[str, Any]) -> dict[str, Target]:
    """Checks the candidates and takes their bindings apart.

    Raises:
        ConfigError: A candidate is no chat model; the message says what to do instead.
    """
    return {name: _target(name, model) for name, model in models.items()}


def _target(name: str, model: Any) -> Target:
    chat, kwargs, config = flatten(model)
    if not isinstance(chat, BaseChatModel):
        advice = "pass a chat model, or a chat model with .bind(...) or .with_config(...)"
        if isinstance(chat, RunnableWithFallbacks):
            advice = "pass its models as candidates of their own: the routed model fails over between them"
        elif isinstance(chat, RunnableRetry):
            advice = "set max_retries on the chat model instead of .with_retry(), which cannot take tools"
        raise ConfigError(f"candidate {name!r} is a {type(chat).__name__}, not a chat model: {advice}")
    return Target(name=name, chat=chat, runnable=chat, kwargs=kwargs, config=config)


_CAPABILITIES = {
    "tools": ("tool_calling",),
    # A schema can be asked for natively or as a tool.
    "structured_output": ("structured_output", "tool_calling"),
    "image": ("image_inputs", "image_url_inputs"),
    "audio": ("audio_inputs",),
    "pdf": ("pdf_inputs",),
    "video": ("video_inputs",),
}


def _told(name: str, chat: BaseChatModel) -> ModelCard:
    """What a model's profile declares. What it does not stays unknown, so unchecked."""
    profile: Mapping[str, Any] = chat.profile or {}
    capabilities = None
    if profile:
        # Only a capability that the profile denies is missing: silence is not a no.
        capabilities = frozenset(
            capability for capability, keys in _CAPABILITIES.items() if any(profile.get(key) is not False for key in keys)
        )
    return ModelCard(
        id=name,
        context_window=profile.get("max_input_tokens") or None,
        max_output_tokens=profile.get("max_output_tokens") or None,
        capabilities=capabilities,
    )


def pool_of(targets: Mapping[str, Target], cards: Cards | None, router: Any) -> ModelPool:
    """The candidates' cards: the user's, else the router's, filled from the models' profiles.

    Raises:
        UnknownModelError: A card or a candidate has a name that the other side does not know.
        ConfigError: The router may choose a model that is no candidate.
    """
    learned = getattr(router, "pool", None)
    found = {name: _told(name, target.chat) for name, target in targets.items()}
    return cards_of(targets, cards, learned if isinstance(learned, ModelPool) else None, found)


def shared_profile(models: Iterable[Any]) -> ModelProfile | None:
    """What every candidate promises: capabilities that all have, the smallest limits; `None` when one tells nothing."""
    profiles: list[Mapping[str, Any]] = []
    for model in models:
        chat = flatten(model)[0]
        if not getattr(chat, "profile", None):
            return None
        profiles.append(chat.profile)
    shared: dict[str, Any] = {}
    for key in profiles[0]:
        values = [profile.get(key) for profile in profiles]
        if any(value is None for value in values):
            continue
        if all(isinstance(value, bool) for value in values):
            shared[key] = all(values)
        elif all(isinstance(value, int) for value in values):
            shared[key] = min(value for value in values if value is not None)
        elif all(value == values[0] for value in values):
            shared[key] = values[0]
    return cast("ModelProfile", shared)
