"""The tool calls of an answer, read by the candidate that gave it: each provider's LLM writes them in its own way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llama_index.core.base.llms.types import ChatResponse, ToolCallBlock
from llama_index.core.llms import LLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection

from agentroute.serving import RECORD

__all__ = ["tool_calls"]


def tool_calls(
    llms: Mapping[str, LLM], response: ChatResponse, *, error_on_no_tool_call: bool = True, **kwargs: Any
) -> list[ToolSelection]:
    """The tool calls of an answer.

    Args:
        llms: The candidates.
        response: The answer, with the routing record or without.
        error_on_no_tool_call: Whether an answer without one is an error.
        **kwargs: For the candidate's own reader.

    Raises:
        ValueError: There is none, and there should be.
    """
    record = response.additional_kwargs.get(RECORD)
    # A routed LLM may itself be a candidate of another one, whose record then stands on top.
    while isinstance(record, Mapping) and record.get("answered_by") not in llms:
        record = record.get("via")
    author = llms[record["answered_by"]] if isinstance(record, Mapping) else None
    if isinstance(record, Mapping) and "via" in record:
        # The author is a routed LLM, and reads its own record.
        response = response.model_copy(update={"additional_kwargs": {**response.additional_kwargs, RECORD: record["via"]}})
    if isinstance(author, FunctionCallingLLM) and author.metadata.is_function_calling_model:
        return author.get_tool_calls_from_response(response, error_on_no_tool_call=error_on_no_tool_call, **kwargs)
    found = [_selected(block) for block in response.message.blocks if isinstance(block, ToolCallBlock)]
    if not found and error_on_no_tool_call:
        msg = "expected at least one tool call, and the answer has none"
        raise ValueError(msg)
    return found


def _selected(block: ToolCallBlock) -> ToolSelection:
    arguments = block.tool_kwargs
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = {}
    given = arguments if isinstance(arguments, dict) else {}
    return ToolSelection(tool_id=block.tool_call_id or "", tool_name=block.tool_name, tool_kwargs=given)
