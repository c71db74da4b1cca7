"""LlamaIndex's messages and templates as the core's turns, and as what each candidate can take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from llama_index.core.base.llms.types import (
    AudioBlock,
    BaseRecursiveContentBlock,
    ChatMessage,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from llama_index.core.prompts import BasePromptTemplate, SelectorPromptTemplate
from llama_index.core.utilities.token_counting import TokenCounter

from agentroute.serving import Turn
from llama_index.llms.agentroute._authors import Authors, legacy_calls, normalised

__all__ = ["Authors", "normalised", "prompt_question", "prompt_tokens", "prompt_turns", "said", "step_question", "turns_of"]

_ROLES: Mapping[str, Literal["system", "assistant", "tool"]] = {
    MessageRole.SYSTEM.value: "system",
    MessageRole.DEVELOPER.value: "system",
    MessageRole.ASSISTANT.value: "assistant",
    MessageRole.CHATBOT.value: "assistant",
    MessageRole.MODEL.value: "assistant",
    MessageRole.TOOL.value: "tool",
    MessageRole.FUNCTION.value: "tool",
}
# How the messages begin that agents write in the user's name: ReActAgent's observations and its complaints of an answer that it
# cannot read, and CodeActAgent's results.
_PROGRAMS = (
    "Observation:",
    "Result of executing the code",
    "Error while parsing the output:",
    "FAILURE: Your previous response was empty.",
)
# What AgentWorkflow makes of the user's words when it has a state (llama_index.core.agent.workflow.prompts).
_STATE, _MESSAGE = "Current state:\n", "\n\nCurrent message:\n"
# A picture of one megapixel is about 1,400 tokens at Anthropic (width x height / 750, at most about 1,600), a page of a pdf
# 1,500 to 3,000; a minute of sound is about 1,900 at Google. One block is at least something like one of these.
_TOKENS_PER_FILE = 1_500
_FILES = (ImageBlock, AudioBlock, VideoBlock, DocumentBlock)


def turns_of(messages: Sequence[ChatMessage]) -> tuple[Turn, ...]:
    """A conversation as a router sees it, with what tells each message's tool calls apart.

    What an agent writes in the user's name after the model has spoken, such as an observation, is a `"tool"`'s. Of words that
    AgentWorkflow puts together with its state, only the user's own count.
    """
    turns: list[Turn] = []
    for message in messages:
        role, text = _ROLES.get(message.role.value), "\n".join(_texts(message.blocks))
        if role is None:
            # Programs only answer: a conversation that begins so is a person's.
            answers = bool(turns) and turns[-1].role in {"assistant", "tool"}
            if answers and text.lstrip().startswith(_PROGRAMS):
                role = "tool"
            else:
                text = "\n".join(_without_state(part) for part in _texts(message.blocks))
        wants, calls = frozenset(_wants(message.blocks)), tuple(_calls(message))
        turns.append(Turn(role=role or "user", text=text, wants=wants, calls=calls))
    return tuple(turns)


def _texts(blocks: Iterable[Any]) -> Iterator[str]:
    return (block.text for block in blocks if isinstance(block, TextBlock))


def _calls(message: ChatMessage) -> Iterator[str]:
    """The ids and names of a message's tool calls, wherever they stand: two of the same words are known by them."""
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)] or legacy_calls(message)
    return (f"{block.tool_call_id or ''}\n{block.tool_name}" for block in blocks)


def _without_state(text: str) -> str:
    """The user's own words. The state is a dict's `repr`, which has no empty line, so the first such mark is the right one."""
    if not text.startswith(_STATE) or _MESSAGE not in text:
        return text
    return text.partition(_MESSAGE)[2].removesuffix("\n")


def _wants(blocks: Iterable[Any]) -> Iterator[str]:
    """Capabilities that blocks ask for, those within citations too."""
    for block in blocks:
        if isinstance(block, ImageBlock):
            yield "image"
        elif isinstance(block, AudioBlock):
            yield "audio"
        elif isinstance(block, VideoBlock):
            yield "video"
        elif isinstance(block, DocumentBlock):
            yield from _of_document(block.document_mimetype or "")
        elif isinstance(block, BaseRecursiveContentBlock):
            yield from _wants(block.nested_blocks)


def _of_document(media: str) -> tuple[str, ...]:
    """A document of an unknown kind is taken for a pdf; one of another kind, such as text, asks for nothing that has a name."""
    top = media.partition("/")[0]
    if top in {"image", "audio", "video"}:
        return (top,)
    return ("pdf",) if not media or media.startswith("application/pdf") else ()


def prompt_tokens(messages: Sequence[ChatMessage], tools: Sequence[Any] = ()) -> int:
    """About how many tokens a prompt is, by LlamaIndex's tokenizer: files and pictures by a flat figure each.

    `TokenCounter.estimate_tokens_in_messages` gives the same for messages without files. It is not called, because it starts a
    thread for each message within a running event loop, and fetches pictures from their addresses.

    Args:
        messages: The conversation.
        tools: LlamaIndex's tools, or dicts of them.
    """
    counter = TokenCounter()
    total = 0
    for message in messages:
        # By the counter's own figures: 3 around each message, 1 around a tool's.
        around = 1 if message.role in {MessageRole.TOOL, MessageRole.FUNCTION} else 3
        total += counter.get_string_tokens(message.role.value) + around + _block_tokens(counter, message.blocks)
        if not any(isinstance(block, ToolCallBlock) for block in message.blocks):
            total += _block_tokens(counter, legacy_calls(message))
    if tools:
        total += counter.get_string_tokens(str([_as_dict(tool) for tool in tools]))
    return total


def _block_tokens(counter: TokenCounter, blocks: Iterable[Any]) -> int:
    total = 0
    for block in blocks:
        if isinstance(block, _FILES):
            total += _TOKENS_PER_FILE
        elif isinstance(block, TextBlock):
            total += counter.get_string_tokens(block.text)
        elif isinstance(block, ThinkingBlock):
            total += block.num_tokens or counter.get_string_tokens(block.content or "")
        elif isinstance(block, ToolCallBlock):
            total += counter.get_string_tokens(block.model_dump_json())
        elif isinstance(block, BaseRecursiveContentBlock):
            total += _block_tokens(counter, block.nested_blocks)
    return total


def _as_dict(tool: Any) -> Any:
    metadata = getattr(tool, "metadata", None)
    return tool if metadata is None else metadata.to_openai_tool(skip_length_check=True)


def prompt_turns(prompt: BasePromptTemplate, args: Mapping[str, Any]) -> tuple[tuple[Turn, ...], str | None]:
    """What a template asks once it is filled, and the question in it.

    The template is left as it is, and its functions and its output parser are not run: they are the caller's, and run when the
    model is asked. A template that chooses by the model is read in its default form.

    Args:
        prompt: The template.
        args: What it is filled with.

    Returns:
        The turns, and the `query_str` among the arguments, on which to route; `None` = there is none. Where the template cannot
        be filled, the turns say the arguments' texts: the call itself says what is wrong.
    """
    while isinstance(prompt, SelectorPromptTemplate):
        # Not by its select(), which writes its output parser into the templates within.
        prompt = prompt.default_template
    filled, question = {**prompt.kwargs, **args}, prompt_question(prompt, args)
    try:
        plain = prompt.model_copy(update={"output_parser": None, "function_mappings": {}})
        return turns_of(plain.format_messages(**args)), question
    except Exception:  # a template may be anybody's class, and routing must not fail a call
        texts = [value for value in filled.values() if isinstance(value, str)]
        return (Turn(role="user", text="\n".join(texts)),), question


def prompt_question(prompt: BasePromptTemplate, args: Mapping[str, Any]) -> str | None:
    """The `query_str` of a template or of its arguments, on which to route; `None` = there is none."""
    asked = {**prompt.kwargs, **args}.get("query_str")
    return asked if isinstance(asked, str) and asked.strip() else None


async def step_question() -> str | None:
    """What the user asked of the agent in whose step this runs; `None` = no step, no agent, or a release that does not tell."""
    try:
        from llama_index.core.workflow import Context  # heavy, and only agents need it

        asked = await Context.get_step_context().store.get("user_msg_str", default=None)
    except Exception:  # outside a step it raises, and old releases have no such method
        return None
    return asked if isinstance(asked, str) and asked.strip() else None


def said(turns: Sequence[Turn], question: str | None) -> str | None:
    """The question of a step, where a user's turn has it in it; `None` = route on the turns.

    A tool of an agent may ask an LLM something of its own within the agent's step: then what the user asked is another matter.
    So the question has to be a turn by itself, whole lines of one, or stand at its end, as where a workflow puts its state first.
    """
    asked = "" if question is None else question.strip()
    return question if asked and any(_says(turn.text, asked) for turn in turns if turn.role == "user") else None


def _says(text: str, asked: str) -> bool:
    text = text.strip()
    before = text.removesuffix(asked)
    return (text.endswith(asked) and before[-1:].strip() == "") or f"\n{asked}\n" in f"\n{text}\n"
