"""What a caller asks through one of the many doors of an LLM, and how the chosen LLM is asked the same.

Every attempt gets arguments of its own: several LLMs change the lists, templates and dictionaries that they are given.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate, PromptTemplate, PromptType, SelectorPromptTemplate

from agentroute.errors import ConfigError
from agentroute.serving import Turn, limit_in, most_in
from agentroute.types import ModelCard
from llama_index.llms.agentroute._candidates import Target
from llama_index.llms.agentroute._messages import prompt_question, prompt_tokens, prompt_turns, turns_of

if TYPE_CHECKING:
    from llama_index.core.llms.llm import MessagesToPromptType

__all__ = [
    "FORCED",
    "Carried",
    "Fit",
    "Ready",
    "Request",
    "Shape",
    "carried",
    "chat",
    "complete",
    "most_tokens",
    "predict",
    "predict_and_call",
    "structured",
    "turn_tokens",
    "with_tools",
]

FORCED = "agentroute_model"
"""The argument that forces a candidate, with any door: `llm.chat(messages, agentroute_model="small")`."""

Shape: TypeAlias = Literal["chat", "completion", "object", "text", "result"]
"""What a door gives: a `ChatResponse`, a `CompletionResponse`, an object of a schema, a string, or what tools gave."""

# As in _messages: a picture or a page is about so many tokens.
_TOKENS_PER_FILE = 1_500


class Fit(Protocol):
    """Makes conversations fit for the candidates that shall see them."""

    @property
    def prepares(self) -> bool:
        """Whether the user has a say in what a candidate sees: then prompts are made into messages first."""
        ...

    def normalised(self, messages: Sequence[ChatMessage], target: Target) -> list[ChatMessage]:
        """The conversation as a candidate shall see it, always in a list of its own."""
        ...


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
        kwargs: The arguments that the candidate's call gets.
    """

    shape: Shape
    turns: tuple[Turn, ...]
    ready: Callable[[Target, Fit], Ready]
    count: Callable[[], int]
    text: str | None = None
    needs: frozenset[str] = frozenset()
    tools: Sequence[Any] = ()
    schema: Any = None
    forced: Any = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def max_output_tokens(self) -> int | None:
        """The limit that the caller sets on the answer, if any."""
        return limit_in(self.kwargs)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Carried:
    """What a caller of a prompt has said that its messages do not tell.

    Attributes:
        forced: The candidate that the caller insists on.
        text: The text to route on.
    """

    forced: Any
    text: str | None

    def on(self, request: Request) -> Request:
        """A request that comes of the prompt, with what the caller has said."""
        return replace(
            request,
            forced=self.forced if request.forced is None else request.forced,
            text=self.text if request.text is None else request.text,
        )


def carried(prompt: BasePromptTemplate, prompt_args: dict[str, Any], llm_kwargs: dict[str, Any] | None = None) -> Carried:
    """What the caller of a prompt says of routing, taken out of what is for the template and the candidate."""
    told = [place.pop(FORCED, None) for place in (llm_kwargs or {}, prompt_args)]
    forced = next((one for one in told if one is not None), None)
    return Carried(forced=forced, text=prompt_question(prompt, prompt_args))


def most_tokens(card: ModelCard, llm: Any, kwargs: Mapping[str, Any]) -> int | None:
    """The most tokens that a candidate may answer with; `None` = nobody sets a limit.

    What a call says comes before what the candidate gives its provider besides its fields, and that before the fields.

    Args:
        card: The candidate's.
        llm: The candidate.
        kwargs: Arguments of the call.
    """
    return most_in(card, kwargs, getattr(llm, "additional_kwargs", None), llm)


def chat(messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> Request:
    """`chat` and its kin."""
    forced = kwargs.pop(FORCED, None)
    tools = kwargs.get("tools") or ()

    def ready(target: Target, fit: Fit) -> Ready:
        return Ready(door="chat", args=(fit.normalised(messages, target),), kwargs=dict(kwargs))

    return Request(
        shape="chat",
        turns=turns_of(messages),
        ready=ready,
        count=lambda: prompt_tokens(messages),
        needs=frozenset({"tools"}) if tools else frozenset(),
        forced=forced,
        kwargs=kwargs,
    )


def complete(prompt: str, formatted: bool, kwargs: dict[str, Any]) -> Request:
    """`complete` and its kin."""
    forced = kwargs.pop(FORCED, None)

    def ready(target: Target, fit: Fit) -> Ready:
        text, done = _prepared(prompt, target, fit, formatted=formatted) if fit.prepares else (prompt, formatted)
        return Ready(door="complete", args=(text,), kwargs={**kwargs, "formatted": done})

    return Request(
        shape="completion",
        turns=(Turn(role="user", text=prompt),),
        ready=ready,
        count=lambda: prompt_tokens([_from_user(prompt)]),
        forced=forced,
        kwargs=kwargs,
    )


def _prepared(prompt: str, target: Target, fit: Fit, *, formatted: bool) -> tuple[str, bool]:
    """A completion's prompt as the candidate shall see it, and whether it has the form that the model was trained on."""
    messages = fit.normalised([_from_user(prompt)], target)
    text, write = _sole_text(messages), cast("MessagesToPromptType", target.llm.messages_to_prompt)
    return (write(messages), True) if text is None else (text, formatted)


def _sole_text(messages: Sequence[ChatMessage]) -> str | None:
    """The text of a conversation that is nothing but a user's text; `None` = it is more."""
    if len(messages) != 1 or messages[0].role != MessageRole.USER or messages[0].additional_kwargs:
        return None
    plain = all(isinstance(block, TextBlock) for block in messages[0].blocks)
    return (messages[0].content or "") if plain else None


def _from_user(text: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.USER, content=text)


def with_tools(
    tools: Sequence[Any],
    user_msg: str | ChatMessage | None,
    chat_history: Sequence[ChatMessage] | None,
    kwargs: dict[str, Any],
) -> Request:
    """`chat_with_tools` and its kin. Without a tool it is a plain chat, which any candidate can answer."""
    forced = kwargs.pop(FORCED, None)
    messages = _with_user(chat_history or (), user_msg)

    def ready(target: Target, fit: Fit) -> Ready:
        if not tools and not target.calls_tools:
            return Ready(door="chat", args=(fit.normalised(messages, target),), kwargs=_plain(kwargs))
        given = {**kwargs, "chat_history": _for_tools(messages, target, fit)}
        return Ready(door="chat_with_tools", args=(list(tools),), kwargs=given)

    return Request(
        shape="chat",
        turns=turns_of(messages),
        ready=ready,
        count=lambda: prompt_tokens(messages, tools),
        needs=frozenset({"tools"}) if tools else frozenset(),
        tools=tools,
        forced=forced,
        kwargs=kwargs,
    )


def _for_tools(messages: Sequence[ChatMessage], target: Target, fit: Fit) -> list[ChatMessage]:
    """The conversation, what the user says now included, for a candidate that calls tools.

    Raises:
        ConfigError: It calls none, and the caller insists on it.
    """
    if not target.calls_tools:
        raise ConfigError(f"{target.name!r} calls no tools: name an LLM that does with {FORCED}=, or let the router choose")
    return fit.normalised(messages, target)


def _plain(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call with tools that a plain chat takes, too."""
    beside = {"verbose", "allow_parallel_tool_calls", "tool_required", "tool_choice", "strict"}
    return {name: value for name, value in kwargs.items() if name not in beside}


def _with_user(history: Sequence[ChatMessage], user_msg: str | ChatMessage | None) -> list[ChatMessage]:
    if not user_msg:
        return list(history)
    return [*history, _from_user(user_msg) if isinstance(user_msg, str) else user_msg]


def predict_and_call(
    tools: Sequence[Any],
    user_msg: str | ChatMessage | None,
    chat_history: Sequence[ChatMessage] | None,
    kwargs: dict[str, Any],
) -> Request:
    """`predict_and_call` and `apredict_and_call`: for LLMs that call tools, because LlamaIndex's way for others does not work."""
    forced = kwargs.pop(FORCED, None)
    messages = _with_user(chat_history or (), user_msg)

    def ready(target: Target, fit: Fit) -> Ready:
        given = {**kwargs, "chat_history": _for_tools(messages, target, fit)}
        return Ready(door="predict_and_call", args=(list(tools),), kwargs=given)

    return Request(
        shape="result",
        turns=turns_of(messages),
        ready=ready,
        count=lambda: prompt_tokens(messages, tools),
        needs=frozenset({"tools"}),
        tools=tools,
        forced=forced,
        kwargs=kwargs,
    )


def predict(prompt: BasePromptTemplate, prompt_args: dict[str, Any]) -> Request:
    """`predict`, `stream` and their kin."""
    forced = prompt_args.pop(FORCED, None)
    turns, text = prompt_turns(prompt, prompt_args)

    def ready(target: Target, fit: Fit) -> Ready:
        own, args = _filled(prompt, prompt_args, target, fit)
        return Ready(door="predict", args=(own,), kwargs=args)

    return Request(shape="text", turns=turns, ready=ready, count=lambda: turn_tokens(turns), text=text, forced=forced)


def structured(
    output_cls: Any, prompt: BasePromptTemplate, llm_kwargs: dict[str, Any] | None, prompt_args: dict[str, Any]
) -> Request:
    """`structured_predict` and its kin. Any candidate can: one that calls no tools is asked for JSON."""
    forced = prompt_args.pop(FORCED, None)
    llm_kwargs = dict(llm_kwargs or {})
    forced = llm_kwargs.pop(FORCED, forced)
    turns, text = prompt_turns(prompt, prompt_args)

    def ready(target: Target, fit: Fit) -> Ready:
        own, args = _filled(prompt, prompt_args, target, fit)
        return Ready(door="structured_predict", args=(output_cls, own), kwargs={**args, "llm_kwargs": dict(llm_kwargs) or None})

    return Request(
        shape="object",
        turns=turns,
        ready=ready,
        count=lambda: turn_tokens(turns),
        text=text,
        schema=output_cls,
        forced=forced,
        kwargs=llm_kwargs,
    )


def _filled(
    prompt: BasePromptTemplate, args: Mapping[str, Any], target: Target, fit: Fit
) -> tuple[BasePromptTemplate, dict[str, Any]]:
    """A template of the attempt's own, and what the candidate fills it with; filled already, where its messages are prepared."""
    own = _own(prompt, target)
    if not fit.prepares:
        return own, dict(args)
    # The parser's words are the candidate's to add, as they are without preparation.
    parser, own.output_parser = own.output_parser, None
    messages = fit.normalised(own.format_messages(llm=target.llm, **args), target)
    text, kind = _sole_text(messages), own.metadata.get("prompt_type", PromptType.CUSTOM)
    # Braces in them are not filled again: there is nothing to fill them with.
    if text is None:
        return ChatPromptTemplate(messages, prompt_type=kind, output_parser=parser), {}
    return PromptTemplate(text, prompt_type=kind, output_parser=parser), {}


def _own(prompt: BasePromptTemplate, target: Target) -> BasePromptTemplate:
    """A template of the attempt's own: an output parser is set on it in place, also on those that a selector chooses between."""
    parser = prompt.output_parser
    while isinstance(prompt, SelectorPromptTemplate):
        fitting = (one for condition, one in prompt.conditionals or () if condition(target.llm))
        prompt = next(fitting, prompt.default_template)
    own = copy.copy(prompt)
    own.output_parser = parser
    return own


def turn_tokens(turns: Sequence[Turn]) -> int:
    """About how many tokens turns are."""
    files = sum(len(turn.wants) for turn in turns)
    return prompt_tokens([_from_user(turn.text) for turn in turns]) + files * _TOKENS_PER_FILE
