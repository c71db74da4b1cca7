"""The most that a call can cost, by which a limit on the cost of a query is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.utils.function_calling import convert_to_openai_tool

from agentroute.pool import ModelPool
from agentroute.types import Price, Usage
from langchain_agentroute._bindings import SchemaBinding, ToolBinding
from langchain_agentroute._candidates import Target
from langchain_agentroute._messages import prompt_tokens

if TYPE_CHECKING:
    from langchain_agentroute._calls import Prepare, Request
    from langchain_agentroute._cascading import Climb

__all__ = ["ceilings"]

# As LangChain estimates them.
_CHARACTERS_PER_TOKEN = 4
# How the providers' chat models call the limit of an answer.
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "num_predict", "max_new_tokens")


def ceilings(
    request: Request, climb: Climb, targets: Mapping[str, Target], pool: ModelPool, prepare: Prepare | None = None
) -> dict[str, float | None]:
    """Model → the most USD that a call of it can cost; `None` = unknown, for want of a price or of a limit of the answer.

    The prompt's tokens are an estimate, about a token for four characters; every one of them is counted at the dearest rate that
    the model has for prompts, cached or not. Messages are counted as each model would see them.
    """
    bound = _bound_tokens(request)
    as_asked = (climb.query.input_tokens or prompt_tokens(request.messages)) + bound
    binding = request.binding
    told = binding.kwargs if isinstance(binding, (ToolBinding, SchemaBinding)) else {}
    found: dict[str, float | None] = {}
    for model in climb.models:
        card = pool.card(model)
        limits = (
            _limit(request.kwargs),
            _limit(targets[model].kwargs),
            _limit(told),
            _limit(vars(targets[model].chat)),
            card.max_output_tokens,
        )
        most = next((limit for limit in limits if limit is not None), None)
        if card.price is None or most is None:
            found[model] = None
        else:
            tokens = as_asked
            if prepare is not None:
                tokens = bound + prompt_tokens(prepare(list(request.messages), targets[model].chat))
            found[model] = _dearest(card.price).cost(Usage(input_tokens=tokens, output_tokens=most))
    return found


def _limit(told: Mapping[str, Any]) -> int | None:
    limits = (told.get(name) for name in _LIMITS)
    return next((limit for limit in limits if isinstance(limit, int) and limit > 0), None)


def _dearest(price: Price) -> Price:
    rates = (price.input, price.cache_read, price.cache_write)
    return Price(input=max(rate for rate in rates if rate is not None), output=price.output, per_call=price.per_call)


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
