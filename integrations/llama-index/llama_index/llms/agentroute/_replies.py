"""LlamaIndex's responses as the core's replies, which scorers read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse, TextBlock, ThinkingBlock, ToolCallBlock
from llama_index.core.program.utils import FlexibleModel
from pydantic import BaseModel

from agentroute.serving import finish_in
from agentroute.types import Reply, TokenLogprob, ToolCall
from llama_index.llms.agentroute._authors import legacy_calls

__all__ = ["broke_off", "finish_of", "reply_of"]


def reply_of(answer: Any, heard: Any = None) -> Reply:
    """An answer as a scorer reads it.

    Args:
        answer: A `ChatResponse`, a `CompletionResponse`, a text, or an object of a schema.
        heard: The response from which a text or an object was made, which knows the tokens.
    """
    source = answer if isinstance(answer, (ChatResponse, CompletionResponse)) else heard
    about = Reply(text="", tokens=_tokens(source), finish=finish_of(source))
    if isinstance(answer, ChatResponse):
        others = [block for block in answer.message.blocks if not isinstance(block, (TextBlock, ThinkingBlock, ToolCallBlock))]
        text = answer.message.content or ""
        return replace(about, text=text, tool_calls=tuple(_tool_calls(answer)), parsed=others or None)
    if isinstance(answer, CompletionResponse):
        return replace(about, text=answer.text)
    if isinstance(answer, str):
        return replace(about, text=answer)
    if isinstance(answer, BaseModel):
        problem = "the answer holds no object of the schema" if _is_blank(answer) else None
        return replace(about, text=answer.model_dump_json(), parsed=answer, problem=problem)
    return replace(about, text=str(answer), parsed=answer)


def _is_blank(answer: BaseModel) -> bool:
    """Whether LlamaIndex has found no object in the answer: then it gives one of a looser class, or one that lacks fields.

    A schema's own object may well have nothing but empty fields.
    """
    fields = type(answer).model_fields
    if isinstance(answer, FlexibleModel):
        return all(value is None for value in answer.__dict__.values())
    return any(field.is_required() and name not in answer.__dict__ for name, field in fields.items())


def _tool_calls(answer: ChatResponse) -> Iterator[ToolCall]:
    message = answer.message
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)] or legacy_calls(message)
    for block in blocks:
        arguments: Any = block.tool_kwargs
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments or "{}")
            except ValueError:
                arguments = None
        if isinstance(arguments, Mapping):
            yield ToolCall(name=block.tool_name, arguments=dict(arguments))
        else:
            yield ToolCall(name=block.tool_name, problem="its arguments are no JSON object")


def _tokens(response: Any) -> tuple[TokenLogprob, ...] | None:
    """Tokens with log-probabilities and the likeliest alternatives, where the provider gave some."""
    raw = _raw(response)
    entries = _of(_of(_first_choice(raw), "logprobs"), "content")
    if isinstance(entries, list) and entries:
        found = [_token(_of(entry, "token"), _of(entry, "logprob"), _of(entry, "top_logprobs")) for entry in entries]
        return tuple(one for one in found if one is not None) or None
    told = getattr(response, "logprobs", None)
    if not told:
        return None
    # LlamaIndex keeps, for each token, the alternatives; the likeliest of them is the one that greedy decoding took.
    rows = [[one for one in row if one.logprob is not None] for row in told]
    return tuple(
        TokenLogprob(token=row[0].token, logprob=min(row[0].logprob, 0.0), top={one.token: min(one.logprob, 0.0) for one in row})
        for row in rows
        if row
    )


def _token(token: Any, logprob: Any, top: Any) -> TokenLogprob | None:
    if logprob is None:
        return None
    likeliest = {
        str(_of(one, "token") or ""): min(float(_of(one, "logprob")), 0.0) for one in top or () if _of(one, "logprob") is not None
    }
    # Rounding makes some providers' certain tokens a little more than certain.
    return TokenLogprob(token=str(token or ""), logprob=min(float(logprob), 0.0), top=likeliest)


def finish_of(response: Any) -> str | None:
    """Why an answer ended, in its provider's words; `None` = it does not say."""
    raw = _raw(response)
    return finish_in(_first_choice(raw), raw)


def broke_off(response: Any, finish: str | None) -> bool:
    """Whether an answer has no end, where its provider always gives one (OpenAI and those who copy its interface)."""
    return finish is None and _first_choice(_raw(response)) is not None


def _raw(response: Any) -> Any:
    return getattr(response, "raw", None)


def _first_choice(raw: Any) -> Any:
    choices = _of(raw, "choices")
    return choices[0] if isinstance(choices, (list, tuple)) and choices else None


def _of(holder: Any, name: str) -> Any:
    """A value of a dictionary or of an object, whichever the client gives."""
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)
