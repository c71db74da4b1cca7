"""How many tokens a call can take, by which a limit on the cost of a query is kept."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.utils.function_calling import convert_to_openai_tool

from agentroute.serving import ceiling, limit_in
from langchain_agentroute._bindings import SchemaBinding, ToolBinding
from langchain_agentroute._messages import prompt_tokens

if TYPE_CHECKING:
    from langchain_agentroute._calls import Request
    from langchain_agentroute._climbing import CascadeCall

__all__ = ["ceilings"]

# As LangChain estimates them.
_CHARACTERS_PER_TOKEN = 4


def ceilings(call: CascadeCall) -> dict[str, float | None]:
    """Model → the most USD that a call of it can cost; `None` = unknown.

    The prompt's tokens are an estimate, about a token for four characters. Messages are counted as each model would see them.
    """
    request, prepare = call.request, call.prepare_messages
    bound = _bound_tokens(request)
    as_asked = (call.climb.query.input_tokens or prompt_tokens(request.messages)) + bound

    def tokens(model: str) -> int:
        if prepare is None:
            return as_asked
        return bound + prompt_tokens(prepare(list(request.messages), call.targets[model].chat))

    return {
        model: ceiling(call.pool.card(model), input_tokens=partial(tokens, model), most=_most(call, model))
        for model in call.climb.models
    }


def _most(call: CascadeCall, model: str) -> int | None:
    """The limit of a model's answer, by whoever sets it first."""
    binding, target = call.request.binding, call.targets[model]
    bound = binding.kwargs if isinstance(binding, (ToolBinding, SchemaBinding)) else {}
    return limit_in(call.request.kwargs, target.kwargs, bound, vars(target.chat))


def _bound_tokens(request: Request) -> int:
    """Tokens of the tools or the schema, which are part of the prompt."""
    binding = request.binding
    tools: list[Any] = [*(request.kwargs.get("tools") or ()), *request.beside]
    if isinstance(binding, ToolBinding):
        tools += binding.tools
    elif isinstance(binding, SchemaBinding):
        tools.append(binding.schema)
    return sum(_length(tool) for tool in tools) // _CHARACTERS_PER_TOKEN


def _length(tool: Any) -> int:
    try:
        written = convert_to_openai_tool(tool)
    except (TypeError, ValueError):
        # A provider's own tool: its schema is on the provider's side.
        written = tool
    return len(json.dumps(written, default=str))
