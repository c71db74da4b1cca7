"""How long the prompt is that a candidate would get, by which a team's budget sets money aside.

A candidate adds to what it is asked: its own system prompt, the words of an output parser, the schema of the object that is
wanted. All that is counted here, and a conversation as `prepare_messages` makes it for the candidate.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llama_index.llms.agentroute._candidates import Target
from llama_index.llms.agentroute._messages import prompt_tokens, prompt_turns
from llama_index.llms.agentroute._requests import Fit, Ready, Request, turn_tokens

__all__ = ["prompt_size"]

# Doors through which an LLM puts its own prompts around what it is asked.
_WRAPPING = frozenset({"predict", "structured_predict"})


def prompt_size(request: Request, target: Target, fit: Fit) -> int:
    """About how many tokens a request's prompt is for one candidate, by LlamaIndex's tokenizer.

    Args:
        request: The request.
        target: The candidate.
        fit: Makes conversations fit for candidates.

    Raises:
        ConfigError: The candidate cannot be asked so.
    """
    ready = request.ready(target, fit)
    if ready.door in _WRAPPING:
        return _of_prompt(request, ready, target)
    if ready.door == "complete":
        own = () if ready.kwargs.get("formatted") else _own_words(target)
        return prompt_tokens(_said([ready.args[0], *own]))
    if ready.door == "chat":
        messages, tools = ready.args[0], ready.kwargs.get("tools") or ()
    else:
        messages, tools = ready.kwargs["chat_history"], ready.args[0]
    return prompt_tokens(messages, [*tools, *_formats(ready.kwargs)])


def _of_prompt(request: Request, ready: Ready, target: Target) -> int:
    """A template's: filled, but without running the functions among its arguments, which run when the model is asked."""
    prompt, args = ready.args[-1], dict(ready.kwargs)
    tools = _formats(args.pop("llm_kwargs", None) or {})
    turns, _ = prompt_turns(prompt, args)
    words = [*_own_words(target), *_parsers_words(prompt.output_parser), *_parsers_words(target.llm.output_parser)]
    if request.schema is not None:
        words.append(_written(request.schema))
    return turn_tokens(turns) + prompt_tokens(_said(words), tools)


def _own_words(target: Target) -> Iterator[str]:
    """What an LLM says before or around each prompt."""
    if target.llm.system_prompt:
        yield target.llm.system_prompt
    wrapper = target.llm.query_wrapper_prompt
    if wrapper is not None:
        yield "\n".join(turn.text for turn in prompt_turns(wrapper, {"query_str": ""})[0])


def _parsers_words(parser: Any) -> Iterator[str]:
    """What an output parser asks of the model."""
    if parser is None:
        return
    try:
        yield str(parser.format(""))
    except Exception:  # anybody's class: the call itself says what is wrong with it
        return


def _formats(kwargs: Mapping[str, Any]) -> list[Any]:
    """The schema among a call's arguments, where there is one."""
    schema = kwargs.get("response_format")
    return [_written(schema)] if schema else []


def _written(schema: Any) -> str:
    """A schema as a prompt or a tool has it, with what is said of it."""
    write = getattr(schema, "model_json_schema", None)
    try:
        told = write() if callable(write) else schema
    except Exception:  # as above
        told = schema
    about = getattr(schema, "__doc__", None) if isinstance(schema, type) else None
    return f"{json.dumps(told, default=str)}\n{about or ''}\n{_AROUND_SCHEMA}"


# As long as what LlamaIndex and providers put around a schema.
_AROUND_SCHEMA = "Here is a JSON schema to follow. Output a valid JSON object, but do not repeat the schema. " * 3


def _said(texts: list[str]) -> list[ChatMessage]:
    return [ChatMessage(role=MessageRole.USER, content=text) for text in texts]
