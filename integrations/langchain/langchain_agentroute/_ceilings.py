"""How many tokens a call can take, by which a limit on the cost of a query is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from langchain_core.utils.function_calling import convert_to_openai_tool

from agentroute.serving import Size, ceiling, most_in
from agentroute.types import ModelCard
from langchain_agentroute._bindings import SchemaBinding, ToolBinding
from langchain_agentroute._messages import prompt_tokens

if TYPE_CHECKING:
    from langchain_agentroute._calls import Request
    from langchain_agentroute._candidates import Target
    from langchain_agentroute._climbing import CascadeCall

__all__ = ["ceilings", "sizes"]

# As LangChain estimates them.
_CHARACTERS_PER_TOKEN = 4


def ceilings(call: CascadeCall) -> dict[str, float | None]:
    """Model → the most USD that a call of it can cost; `None` = unknown."""
    size = sizes(call.request, call.climb.query.input_tokens)
    return {model: _ceiling(call.pool.card(model), size, model) for model in call.climb.models}


def _ceiling(card: ModelCard, size: Size, model: str) -> float | None:
    if card.price is None:
        return None
    tokens, most = size(model)
    return ceiling(card, input_tokens=tokens, most=most)


def sizes(request: Request, counted: int | None = None) -> Size:
    """Model → tokens of the prompt as it would see it, and the limit of its answer.

    The prompt's tokens are an estimate, about a token for four characters. Messages are counted as each model would see them.

    Args:
        request: What is asked.
        counted: Tokens of the messages, where they have been counted.
    """
    prepare, targets = request.routing.prepare_messages, request.routing.targets

    @cache
    def bound() -> int:
        return _bound_characters(request)

    @cache
    def as_asked() -> int:
        return counted or prompt_tokens(request.messages)

    @cache
    def size(model: str) -> tuple[int, int | None]:
        tokens = as_asked() if prepare is None else prompt_tokens(prepare(list(request.messages), targets[model].chat))
        characters = bound() + _lengths(targets[model].kwargs)
        return tokens + characters // _CHARACTERS_PER_TOKEN, _most(request, targets[model])

    return size


def _most(request: Request, target: Target) -> int | None:
    """The most tokens that a model may answer with, by whoever sets a limit first."""
    binding = request.binding
    bound = binding.kwargs if isinstance(binding, (ToolBinding, SchemaBinding)) else {}
    own = vars(target.chat)
    card = request.routing.pool.card(target.name)
    return most_in(card, request.kwargs, target.kwargs, bound, own.get("model_kwargs"), own)


def _bound_characters(request: Request) -> int:
    """Characters of the tools or the schema that are asked for, which are part of the prompt."""
    binding = request.binding
    tools: list[Any] = [*request.beside]
    if isinstance(binding, ToolBinding):
        tools += binding.tools
    elif isinstance(binding, SchemaBinding):
        tools.append(binding.schema)
    bound = binding.kwargs if isinstance(binding, ToolBinding) else {}
    return sum(map(_length, tools)) + _lengths(request.kwargs) + _lengths(bound)


def _lengths(kwargs: Mapping[str, Any]) -> int:
    """Characters of the tools and of the schema among a call's arguments."""
    schema = kwargs.get("response_format")
    return sum(map(_length, kwargs.get("tools") or ())) + (_length(schema) if schema else 0)


def _length(tool: Any) -> int:
    try:
        written = convert_to_openai_tool(tool)
    except (TypeError, ValueError):
        # A provider's own tool: its schema is on the provider's side.
        written = tool
    return len(json.dumps(written, default=str))
