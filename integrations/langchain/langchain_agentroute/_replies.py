"""LangChain's messages as the core's replies, which scorers read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk

from agentroute.serving import finish_in
from agentroute.types import Reply, TokenLogprob, ToolCall, Usage
from langchain_agentroute._record import usage_of

__all__ = ["as_chunk", "broke_off", "finish_of", "reply_of", "written"]

# Providers, by LangChain's names, whose answers always say why they ended: one that does not has been cut off on its way.
_TELLING = frozenset({"anthropic", "deepseek", "groq", "mistralai", "openai", "xai"})
# Content blocks that are no answer of their own.
_BESIDE = frozenset(
    {"text", "output_text", "reasoning", "thinking", "redacted_thinking", "tool_use", "tool_call", "function_call"}
)


def reply_of(
    answer: Any, *, usage: Usage | None = None, cost: float | None = None, latency: float | None = None, schema: bool = False
) -> Reply:
    """An answer as a scorer reads it.

    An object that stands alone, as one that a tool call brought, is the text, too, as JSON: whoever reads the text would else
    see an empty answer.

    Args:
        answer: A message, or what `with_structured_output(..., include_raw=True)` gives.
        usage: Its tokens; `None` = those that the message tells.
        cost: USD that it cost.
        latency: Seconds that it took.
        schema: Whether an object was asked for: then an answer without one has a problem.
    """
    message, parsed, problem = answer, None, None
    if isinstance(answer, Mapping) and "raw" in answer:
        message, parsed = answer["raw"], answer.get("parsed")
        problem = _unparsed(answer.get("parsing_error"), parsed)
    elif schema:
        # A runnable of a chat model's own, which does not keep the message.
        message, parsed = None, answer
        problem = _unparsed(None, parsed)
    if not isinstance(message, AIMessage):
        text = "" if message is None else str(message)
        return Reply(text=text or written(parsed), parsed=parsed, problem=problem, cost=cost, latency=latency)
    finish = finish_of(message)
    if problem is None and broke_off(message.response_metadata.get("model_provider"), finish):
        problem = "the answer broke off: it has no finish reason"
    # What a tool call of a schema says has been parsed already, or is the problem.
    calls = () if schema else tuple(_tool_calls(message))
    text = str(message.text)
    return Reply(
        text=text if text.strip() else written(parsed) or text,
        tokens=_tokens(message),
        tool_calls=calls,
        parsed=parsed if parsed is not None else _other_content(message),
        problem=problem,
        finish=finish,
        usage=usage or usage_of(message.usage_metadata),
        cost=cost,
        latency=latency,
    )


def written(parsed: Any) -> str:
    """A parsed object as JSON, or in its own words where it is none; nothing where there is no object."""
    if parsed is None:
        return ""
    write = getattr(parsed, "model_dump_json", None)
    if callable(write):
        return str(write())
    try:
        return json.dumps(parsed, ensure_ascii=False, default=_jsonable)
    except (TypeError, ValueError, RecursionError):  # keys that are no strings, an object that holds itself
        return str(parsed)


def _jsonable(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if callable(dump) else str(value)


def _unparsed(error: Any, parsed: Any) -> str | None:
    if error is not None:
        return f"the answer does not fit the schema: {type(error).__name__}"
    return "the answer holds no object of the schema" if parsed is None else None


def _tool_calls(message: AIMessage) -> Iterator[ToolCall]:
    for call in message.tool_calls:
        yield ToolCall(name=call["name"], arguments=call["args"])
    for broken in message.invalid_tool_calls:
        yield ToolCall(name=broken.get("name") or "", problem=broken.get("error") or "its arguments are no JSON")


def _other_content(message: AIMessage) -> Any:
    """Pictures, sounds and the like: an answer without any text is not empty then. OpenAI's sounds stand beside the content."""
    if message.additional_kwargs.get("audio"):
        return message.additional_kwargs["audio"]
    if isinstance(message.content, str):
        return None
    blocks = [block for block in message.content if isinstance(block, dict) and block.get("type") not in _BESIDE]
    return blocks or None


def finish_of(message: AIMessage) -> str | None:
    """Why an answer ended, in its provider's words; `None` = it does not say."""
    return finish_in(message.response_metadata)


def broke_off(provider: Any, finish: str | None) -> bool:
    """Whether an answer has no end, where its provider always gives one: its stream was cut off, and no error tells."""
    return finish is None and provider in _TELLING


def _tokens(message: AIMessage) -> tuple[TokenLogprob, ...] | None:
    """Tokens with log-probabilities, where the provider gave some, in any of the usual shapes."""
    told = message.response_metadata.get("logprobs") or message.response_metadata.get("logprobs_result")
    if isinstance(told, Mapping) and isinstance(told.get("tokens"), list):
        tops = told.get("top_logprobs") or [None] * len(told["tokens"])
        rows = zip(told["tokens"], told.get("token_logprobs") or (), tops, strict=False)
        return tuple(_token(token, logprob, top) for token, logprob, top in rows if logprob is not None) or None
    entries = told.get("content") if isinstance(told, Mapping) else told
    if not isinstance(entries, list):
        return None
    found = (one for one in entries if isinstance(one, Mapping) and one.get("logprob") is not None)
    return tuple(_token(one.get("token", ""), one["logprob"], one.get("top_logprobs")) for one in found) or None


def _token(token: Any, logprob: Any, top: Any) -> TokenLogprob:
    # Rounding makes some providers' certain tokens a little more than certain.
    if isinstance(top, list):
        top = {str(one.get("token", "")): one["logprob"] for one in top if one.get("logprob") is not None}
    likeliest = {name: min(float(value), 0.0) for name, value in (top or {}).items()}
    return TokenLogprob(token=str(token), logprob=min(float(logprob), 0.0), top=likeliest)


def as_chunk(message: AIMessage) -> AIMessageChunk:
    """A whole message as the one chunk of a stream."""
    if isinstance(message, AIMessageChunk):
        return message
    return AIMessageChunk(
        content=message.content,
        additional_kwargs=message.additional_kwargs,
        response_metadata=message.response_metadata,
        tool_calls=message.tool_calls,
        invalid_tool_calls=message.invalid_tool_calls,
        usage_metadata=message.usage_metadata,
        name=message.name,
        id=message.id,
        chunk_position="last",
    )
