"""What a caller asks through one of the many doors of an LLM, and how the chosen LLM is asked the same.

Every attempt gets arguments of its own: several LLMs change the lists, templates and dictionaries that they are given.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.prompts import BasePromptTemplate, SelectorPromptTemplate

from agentroute.serving import Turn, limit_in
from llama_index.llms.agentroute._candidates import Target
from llama_index.llms.agentroute._messages import prompt_tokens, prompt_turns, turns_of

__all__ = [
    "FORCED",
    "Ready",
    "Request",
    "Shape",
    "chat",
    "complete",
    "most_tokens",
    "predict",
    "predict_and_call",
    "structured",
    "with_tools",
]

FORCED = "agentroute_model"
"""The argument that forces a candidate, with any door: `llm.chat(messages, agentroute_model="small")`."""

Shape: TypeAlias = Literal["chat", "completion", "object", "text", "result"]
"""What a door gives: a `ChatResponse`, a `CompletionResponse`, an object of a schema, a string, or what tools gave."""

# As in _messages: a picture or a page is about so many tokens.
_TOKENS_PER_FILE = 1_500

Normalise: TypeAlias = Callable[[Sequence[ChatMessage], Target], list[ChatMessage]]
"""Makes a conversation fit for the candidate that shall see it; always a new list."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ready:
    """How to ask a candidate.

    Attributes:
        door: The public method, by the name that it has where it is synchronous and gives the whole answer.
        args: Its arguments.
        kwargs: Its arguments by name.
    """

    door: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any]

    def name(self, *, awaits: bool, streams: bool) -> str:
        """The method's name in one of its four kinds."""
        whole = self.door
        if streams:
            whole = "stream" if whole == "predict" else f"stream_{whole}"
        return f"a{whole}" if awaits else whole


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """What a caller asks.

    Attributes:
        shape: What comes of it.
        turns: The conversation.
        ready: How to ask a candidate, anew for each attempt.
        count: Counts the tokens of the whole prompt.
        text: The text to route on; `None` = what the user said last.
        needs: Capabilities that the answer takes.
        tools: The tools that may be called.
        schema: The class of the object that is wanted.
        forced: The candidate that the caller insists on.
        max_output_tokens: The limit that the caller sets on the answer, if any.
    """

    shape: Shape
    turns: tuple[Turn, ...]
    ready: Callable[[Target, Normalise], Ready]
    count: Callable[[], int]
    text: str | None = None
    needs: frozenset[str] = frozenset()
    tools: Sequence[Any] = ()
    schema: Any = None
    forced: Any = None
    max_output_tokens: int | None = None


def most_tokens(llm: Any) -> int | None:
    """The limit that a candidate sets on its answers: what it gives its provider besides its fields comes first, as there."""
    return limit_in(getattr(llm, "additional_kwargs", None), llm)


def chat(messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> Request:
    """`chat` and its kin."""
    forced = kwargs.pop(FORCED, None)
    tools = kwargs.get("tools") or ()

    def ready(target: Target, normalise: Normalise) -> Ready:
        return Ready(door="chat", args=(normalise(messages, target),), kwargs=dict(kwargs))

    return Request(
        shape="chat",
        turns=turns_of(messages),
        ready=ready,
        count=lambda: prompt_tokens(messages),
        needs=frozenset({"tools"}) if tools else frozenset(),
        forced=forced,
        max_output_tokens=limit_in(kwargs),
    )


def complete(prompt: str, formatted: bool, kwargs: dict[str, Any]) -> Request:
    """`complete` and its kin."""
    forced = kwargs.pop(FORCED, None)

    def ready(target: Target, normalise: Normalise) -> Ready:  # noqa: ARG001  # a prompt is text
        return Ready(door="complete", args=(prompt,), kwargs={**kwargs, "formatted": formatted})

    return Request(
        shape="completion",
        turns=(Turn(role="user", text=prompt),),
        ready=ready,
        count=lambda: prompt_tokens([ChatMessage(role=MessageRole.USER, content=prompt)]),
        forced=forced,
        max_output_tokens=limit_in(kwargs),
    )


def with_tools(
    tools: Sequence[Any],
    user_msg: str | ChatMessage | None,
    chat_history: Sequence[ChatMessage] | None,
    kwargs: dict[str, Any],
) -> Request:
    """`chat_with_tools` and its kin. Without a tool it is a plain chat, which any candidate can answer."""
    forced = kwargs.pop(FORCED, None)
    history = list(chat_history or ())
    messages = _with_user(history, user_msg)

    def ready(target: Target, normalise: Normalise) -> Ready:
        if not tools and not target.calls_tools:
            return Ready(door="chat", args=(normalise(messages, target),), kwargs=_plain(kwargs))
        given = {**kwargs, "user_msg": user_msg, "chat_history": normalise(history, target)}
        return Ready(door="chat_with_tools", args=(list(tools),), kwargs=given)

    return Request(
        shape="chat",
        turns=turns_of(messages),
        ready=ready,
        count=lambda: prompt_tokens(messages, tools),
        needs=frozenset({"tools"}) if tools else frozenset(),
        tools=tools,
        forced=forced,
        max_output_tokens=limit_in(kwargs),
    )


def _plain(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call with tools that a plain chat takes, too."""
    beside = {"verbose", "allow_parallel_tool_calls", "tool_required", "tool_choice", "strict"}
    return {name: value for name, value in kwargs.items() if name not in beside}


def _with_user(history: Sequence[ChatMessage], user_msg: str | ChatMessage | None) -> list[ChatMessage]:
    if not user_msg:
        return list(history)
    said = ChatMessage(role=MessageRole.USER, content=user_msg) if isinstance(user_msg, str) else user_msg
    return [*history, said]


def predict_and_call(
    tools: Sequence[Any],
    user_msg: str | ChatMessage | None,
    chat_history: Sequence[ChatMessage] | None,
    kwargs: dict[str, Any],
) -> Request:
    """`predict_and_call` and `apredict_and_call`: for LLMs that call tools, because LlamaIndex's way for others does not work."""
    forced = kwargs.pop(FORCED, None)
    history = list(chat_history or ())
    messages = _with_user(history, user_msg)

    def ready(target: Target, normalise: Normalise) -> Ready:
        given = {**kwargs, "user_msg": user_msg, "chat_history": normalise(history, target)}
        return Ready(door="predict_and_call", args=(list(tools),), kwargs=given)

    return Request(
        shape="result",
        turns=turns_of(messages),
        ready=ready,
        count=lambda: prompt_tokens(messages, tools),
        needs=frozenset({"tools"}),
        tools=tools,
        forced=forced,
        max_output_tokens=limit_in(kwargs),
    )


def predict(prompt: BasePromptTemplate, prompt_args: dict[str, Any]) -> Request:
    """`predict`, `stream` and their kin."""
    forced = prompt_args.pop(FORCED, None)
    turns, text = prompt_turns(prompt, prompt_args)

    def ready(target: Target, normalise: Normalise) -> Ready:  # noqa: ARG001  # the candidate writes the messages itself
        return Ready(door="predict", args=(_own(prompt, target),), kwargs=dict(prompt_args))

    return Request(shape="text", turns=turns, ready=ready, count=lambda: _tokens(turns), text=text, forced=forced)


def structured(
    output_cls: Any, prompt: BasePromptTemplate, llm_kwargs: dict[str, Any] | None, prompt_args: dict[str, Any]
) -> Request:
    """`structured_predict` and its kin. Any candidate can: one that calls no tools is asked for JSON."""
    forced = prompt_args.pop(FORCED, None)
    llm_kwargs = dict(llm_kwargs or {})
    forced = llm_kwargs.pop(FORCED, forced)
    turns, text = prompt_turns(prompt, prompt_args)

    def ready(target: Target, normalise: Normalise) -> Ready:  # noqa: ARG001  # as in predict
        given = {**prompt_args, "llm_kwargs": dict(llm_kwargs) or None}
        return Ready(door="structured_predict", args=(output_cls, _own(prompt, target)), kwargs=given)

    return Request(
        shape="object",
        turns=turns,
        ready=ready,
        count=lambda: _tokens(turns),
        text=text,
        schema=output_cls,
        forced=forced,
        max_output_tokens=limit_in(llm_kwargs),
    )


def _own(prompt: BasePromptTemplate, target: Target) -> BasePromptTemplate:
    """A template of the attempt's own: an output parser is set on it in place, also on those that a selector chooses between."""
    parser = prompt.output_parser
    while isinstance(prompt, SelectorPromptTemplate):
        fitting = (one for condition, one in prompt.conditionals or () if condition(target.llm))
        prompt = next(fitting, prompt.default_template)
    own = copy.copy(prompt)
    own.output_parser = parser
    return own


def _tokens(turns: Sequence[Turn]) -> int:
    files = sum(len(turn.wants) for turn in turns)
    return prompt_tokens([ChatMessage(role=MessageRole.USER, content=turn.text) for turn in turns]) + files * _TOKENS_PER_FILE
