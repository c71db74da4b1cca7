"""What a scripted LLM makes of its script, and what it does without one: tool calls in LlamaIndex's shapes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
from llama_index.core.llms.utils import parse_partial_json

from agentroute.serving import question
from llama_index.llms.agentroute._authors import legacy_calls
from llama_index.llms.agentroute._messages import turns_of

__all__ = ["arguments_of", "calls_in", "unscripted_call", "written"]


def calls_in(message: ChatMessage) -> list[ToolCallBlock]:
    """The tool calls of a message, wherever they stand."""
    return [block for block in message.blocks if isinstance(block, ToolCallBlock)] or legacy_calls(message)


def written(call: ToolCallBlock) -> str:
    """A call's arguments as JSON, or as the script has them."""
    return call.tool_kwargs if isinstance(call.tool_kwargs, str) else json.dumps(call.tool_kwargs)


def arguments_of(told: Any) -> dict[str, Any]:
    """A call's arguments, as far as they have come."""
    if not isinstance(told, str):
        return dict(told)
    try:
        found: Any = parse_partial_json(told)
    except (ValueError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def unscripted_call(
    messages: Sequence[ChatMessage], tools: list[dict[str, Any]], kwargs: Mapping[str, Any], turn: int
) -> ToolCallBlock | None:
    """The call of a tool that waits for one; `None` = it is time to speak."""
    answered = bool(messages) and messages[-1].role in {MessageRole.TOOL, MessageRole.FUNCTION}
    if not tools or (answered and not kwargs.get("tool_required")):
        return None
    told = {call.tool_name for message in messages for call in calls_in(message)}
    functions = [tool["function"] for tool in tools]
    waiting = [one for one in functions if one["name"] not in told] or functions[-1:]
    function = next((one for one in functions if one["name"] == kwargs.get("tool_choice")), waiting[0])
    arguments = _fitting(function.get("parameters", {}), question(turns_of(messages)))
    return ToolCallBlock(tool_call_id=f"call_{turn}", tool_name=function["name"], tool_kwargs=arguments)


def _fitting(schema: dict[str, Any], text: str) -> dict[str, Any]:
    """Arguments that fit a JSON schema, from the numbers and the quoted words of a text, in order."""
    numbers = [int(number) for number in re.findall(r"-?\d+", text)]
    quoted = re.findall(r"'([^']*)'", text)
    made: dict[str, Any] = {}
    for name, about in schema.get("properties", {}).items():
        options = [about, *about.get("anyOf", ())]
        kind = next((option["type"] for option in options if "type" in option), "string")
        if kind in {"integer", "number"}:
            made[name] = numbers.pop(0) if numbers else 1
        elif kind == "boolean":
            made[name] = True
        elif kind == "array":
            made[name] = []
        elif kind == "object":
            made[name] = {}
        else:
            made[name] = about.get("enum", [None])[0] or (quoted.pop(0) if quoted else name)
    return made
