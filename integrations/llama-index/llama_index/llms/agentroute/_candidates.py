"""The LLMs behind a routed one: how they are named, what they can do, and what they promise together."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from llama_index.core.base.llms.types import LLMMetadata, MessageRole
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.llms import LLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.structured_llm import StructuredLLM

from agentroute.errors import AgentRouteWarning, ConfigError, DuplicateModelError
from agentroute.pool import ModelPool
from agentroute.serving import Cards, cards_of
from agentroute.types import ModelCard

__all__ = ["Target", "metadata_of", "named", "pool_of", "targets_of"]

# What an LLM that calls no tools may still do, as far as anybody knows: LlamaIndex's LLMs do not tell.
_BUT_TOOLS = frozenset({"structured_output", "image", "audio", "video", "pdf"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """A candidate to call.

    Attributes:
        name: Its name in the pool.
        llm: The LLM itself.
        calls_tools: Whether it has the doors for tools and says that it calls them. Both are needed: LlamaIndex's own wrappers
            may say so and have no doors.
    """

    name: str
    llm: LLM
    calls_tools: bool


def named(llms: Mapping[str, LLM] | Sequence[LLM]) -> dict[str, LLM]:
    """Gives every LLM its name: the mapping's key, or else the name of its model.

    Raises:
        ConfigError: There is no LLM, one is no LLM or does not tell its model's name; the message says what to do instead.
        DuplicateModelError: Two have the same name.
    """
    given: Any = llms
    if isinstance(given, (LLM, str)) or not isinstance(given, Iterable):
        raise ConfigError(f"the candidates are several: pass llms={{'a name': llm, ...}}, not a {type(given).__name__}")
    found: dict[str, LLM] = {}
    if isinstance(given, Mapping):
        for name, llm in given.items():
            if not isinstance(name, str) or not name:
                raise ConfigError(f"a candidate needs a name, not {name!r}: pass llms={{'a name': llm, ...}}")
            found[name] = _checked(name, llm)
    else:
        for position, llm in enumerate(given):
            name = _own_name(_checked(position, llm))
            if name in found:
                raise DuplicateModelError(name)
            found[name] = llm
    if not found:
        raise ConfigError("a routed LLM needs at least one candidate: llms={'small': OpenAI(...), ...}")
    return found


def _checked(name: object, llm: Any) -> LLM:
    if isinstance(llm, StructuredLLM):
        raise ConfigError(
            f"candidate {name!r} is a StructuredLLM, which has one schema for all: pass the LLM within it, and call"
            " .as_structured_llm(...) on the routed LLM"
        )
    if not isinstance(llm, LLM):
        raise ConfigError(f"candidate {name!r} is a {type(llm).__name__}, not an LLM: pass a LlamaIndex LLM, such as OpenAI(...)")
    return llm


def _own_name(llm: LLM) -> str:
    name: Any = _metadata(llm, type(llm).__name__).model_name
    # LlamaIndex's default, which tells nothing.
    if not isinstance(name, str) or not name or name == LLMMetadata().model_name:
        raise ConfigError(f"{type(llm).__name__} does not tell its model's name: pass llms={{'a name': llm, ...}}")
    return name


def _metadata(llm: LLM, name: str) -> LLMMetadata:
    """What an LLM tells of itself. Some cannot: OpenAI of a model that its client does not know, a local one that is not up."""
    try:
        return llm.metadata
    except Exception as error:
        raise ConfigError(
            f"candidate {name!r} cannot tell its metadata ({type(error).__name__}): see that its server is up; for a model that"
            " the client does not know take OpenAILike(model=..., context_window=..., is_chat_model=True)"
        ) from error


def targets_of(named: Mapping[str, LLM]) -> dict[str, Target]:
    """The candidates, and which of them call tools.

    Args:
        named: What `named` gave.

    Raises:
        ConfigError: A candidate cannot tell its metadata.
    """
    return {
        name: Target(
            name=name,
            llm=llm,
            calls_tools=bool(_metadata(llm, name).is_function_calling_model) and isinstance(llm, FunctionCallingLLM),
        )
        for name, llm in named.items()
    }


def pool_of(targets: Mapping[str, Target], cards: Cards | None, learned: ModelPool | None) -> ModelPool:
    """The candidates' cards: the user's, filled from the router's, filled from what the LLMs tell of themselves.

    Warns once when it has nothing better for a window than LlamaIndex's default of 3,900 tokens, which nobody may have set.

    Args:
        targets: The candidates, in order.
        cards: The user's cards.
        learned: The router's pool; `None` = it has none.

    Raises:
        UnknownModelError: A card or a candidate has a name that the other side does not know.
        ConfigError: The router may choose a model that is no candidate.
    """
    made = cards_of(tuple(targets), cards, learned, {name: _card(target) for name, target in targets.items()})
    unset = [
        card.id
        for card in made
        if card.context_window == DEFAULT_CONTEXT_WINDOW == _metadata(targets[card.id].llm, card.id).context_window
    ]
    if unset:
        warnings.warn(
            f"{', '.join(map(repr, unset))}: the window is LlamaIndex's default of {DEFAULT_CONTEXT_WINDOW} tokens, so that"
            " longer prompts go elsewhere; set the context_window of the LLM, or give it a ModelCard that has one",
            AgentRouteWarning,
            stacklevel=3,
        )
    return ModelPool(_without_tools(card) if not targets[card.id].calls_tools else card for card in made)


def _card(target: Target) -> ModelCard:
    """What an LLM tells of itself. Whether one that calls tools does other things too is unknown, so unchecked."""
    metadata = _metadata(target.llm, target.name)
    # Not its `num_output`: that is the room to leave for an answer, which a call can overrule, and no limit.
    return ModelCard(
        id=target.name,
        context_window=metadata.context_window if metadata.context_window > 0 else None,
        capabilities=None if target.calls_tools else _BUT_TOOLS,
    )


def _without_tools(card: ModelCard) -> ModelCard:
    """A model may call tools where the LLM that stands for it has no door for them: then it does not here."""
    if card.capabilities is None or "tools" not in card.capabilities:
        return card
    return replace(card, capabilities=card.capabilities - {"tools"})


def metadata_of(targets: Mapping[str, Target], window: Literal["min", "max"] | int, pool: ModelPool | None = None) -> LLMMetadata:
    """What the candidates promise together.

    Args:
        targets: The candidates.
        window: `"min"` = what fits it fits every candidate; `"max"` = what fits it fits one at least; or a number of tokens.
        pool: The candidates' cards, whose windows go before those that the LLMs tell; `None` = the LLMs' own.

    Returns:
        Tools are called when one candidate calls them: only such ones are asked then. Room for an answer is unset when one leaves
        it unset, else the smallest.

    Raises:
        ConfigError: The window is none of these.
    """
    told = {name: _metadata(target.llm, name) for name, target in targets.items()}
    return LLMMetadata(
        context_window=_window(window, [_width(name, one, pool) for name, one in told.items()]),
        # Unset is -1, which is the smallest too.
        num_output=min(one.num_output for one in told.values()),
        is_chat_model=True,
        is_function_calling_model=any(target.calls_tools for target in targets.values()),
        model_name=f"routed({','.join(targets)})",
        system_role=MessageRole.SYSTEM,
    )


def _width(name: str, told: LLMMetadata, pool: ModelPool | None) -> int:
    own = pool.card(name).context_window if pool is not None else None
    return told.context_window if own is None else own


def _window(window: object, widths: Sequence[int]) -> int:
    known = [width for width in widths if width > 0] or [DEFAULT_CONTEXT_WINDOW]
    if window == "min":
        return min(known)
    if window == "max":
        return max(known)
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise ConfigError(f"context_window={window!r} must be 'min', 'max' or a number of tokens")
    return window
