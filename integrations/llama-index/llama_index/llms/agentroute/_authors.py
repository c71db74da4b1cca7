"""Who wrote what in a conversation, and what of it another model can take."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock, ThinkingBlock, ToolCallBlock

from agentroute.errors import ConfigError

__all__ = ["Authors", "legacy_calls", "normalised"]

_MODELS = frozenset({MessageRole.ASSISTANT, MessageRole.CHATBOT, MessageRole.MODEL})


class Authors:
    """Who wrote which answer, and which thoughts in it. Bounded; the oldest are forgotten.

    LlamaIndex's messages do not tell, and a name of our own in them would reach the providers. So an answer is known again by
    what it says, wherever it was kept in between. Safe to share between threads, and between routed LLMs that are copies of one
    another.

    Args:
        size: Most answers and thoughts to remember.

    Raises:
        ConfigError: The size is below 1.
    """

    def __init__(self, size: int = 8192) -> None:
        if size < 1:
            raise ConfigError(f"size={size!r} must be 1 or more")
        self.size = size
        self._names: OrderedDict[bytes, str] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, message: ChatMessage, author: str) -> None:
        """Keeps who wrote an answer. Plain text is not kept: any model can take it.

        Args:
            message: The answer; of a stream, the last.
            author: The candidate's name.
        """
        keys = [_thought_key(block) for block in message.blocks if isinstance(block, ThinkingBlock)]
        if keys or message.additional_kwargs or any(isinstance(block, ToolCallBlock) for block in message.blocks):
            keys.append(_answer_key(message))
        with self._lock:
            for key in keys:
                self._names[key] = author
                self._names.move_to_end(key)
            while len(self._names) > self.size:
                self._names.popitem(last=False)

    def of(self, written: ChatMessage | ThinkingBlock) -> str | None:
        """The candidate that wrote an answer or a thought; `None` = unknown."""
        key = _answer_key(written) if isinstance(written, ChatMessage) else _thought_key(written)
        with self._lock:
            return self._names.get(key)

    def __len__(self) -> int:
        """Number of answers and thoughts that are remembered."""
        return len(self._names)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process begins with nothing: it is only a memory of what was done here."""
        return (type(self), (self.size,))


def _thought_key(block: ThinkingBlock) -> bytes:
    # With the provider's signature: short thoughts are the same words from any model.
    return _key("thought", block.content, _plain(block.additional_information))


def _answer_key(message: ChatMessage) -> bytes:
    """An answer's words and calls. Not its thoughts, which some memories leave out."""
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)] or legacy_calls(message)
    calls = [(block.tool_call_id, block.tool_name, _plain(_arguments(block.tool_kwargs))) for block in blocks]
    return _key("answer", message.content or "", calls)


def _key(*parts: Any) -> bytes:
    return hashlib.blake2b(_plain(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=repr)


def normalised(messages: Sequence[ChatMessage], target: str, authors: Authors, *, alike: bool) -> list[ChatMessage]:
    """A conversation as one candidate can take it, whoever wrote its answers.

    Providers' converters differ in what they read: OpenAI keeps a call's arguments as a string, which Anthropic refuses, and
    calls and sounds in `additional_kwargs`, in objects of its own; a thought is signed for the model that thought it.

    * Arguments that are a JSON object in a string become a dict, but for the target's own answers.
    * Thoughts of another candidate are dropped; those of an unknown author too, unless all candidates are alike.
    * Unless all are alike, an answer that is not known to be the target's has its calls in blocks, and keeps nothing else in
      `additional_kwargs` but `tool_call_id`; and its role is the assistant's, which every provider knows.
    * An answer of which nothing is left is dropped.

    Args:
        messages: The conversation. Neither it nor its messages are changed.
        target: The candidate that is to be asked.
        authors: Who wrote what.
        alike: Whether all candidates are of one LLM class, so that what one wrote in its own way the others can read.

    Returns:
        A new list; messages that need no change are the same objects.
    """
    found = (_taken(message, target, authors, alike=alike) for message in messages)
    return [message for message in found if message is not None]


def _taken(message: ChatMessage, target: str, authors: Authors, *, alike: bool) -> ChatMessage | None:
    plain = not message.additional_kwargs and all(isinstance(block, TextBlock) for block in message.blocks)
    if message.role not in _MODELS or (plain and (alike or message.role == MessageRole.ASSISTANT)):
        return message
    author = authors.of(message)
    blocks = [block for block in message.blocks if not _foreign_thought(block, target, authors, alike=alike)]
    if author == target:
        return _changed(message, blocks=blocks)
    blocks = [_with_dict(block) for block in blocks]
    if alike:
        return _changed(message, blocks=blocks)
    if not any(isinstance(block, ToolCallBlock) for block in blocks):
        blocks += [_with_dict(block) for block in legacy_calls(message)]
    kwargs = {name: value for name, value in message.additional_kwargs.items() if name == "tool_call_id"}
    return _changed(message, blocks=blocks, additional_kwargs=kwargs, role=MessageRole.ASSISTANT)


def _changed(message: ChatMessage, **update: Any) -> ChatMessage | None:
    """The message with these fields: itself when it has them already, nothing when nothing is left of it."""
    blocks = update["blocks"]
    same = len(blocks) == len(message.blocks) and all(new is old for new, old in zip(blocks, message.blocks, strict=True))
    if same and all(update[name] == getattr(message, name) for name in update if name != "blocks"):
        return message
    if not blocks and not update.get("additional_kwargs", message.additional_kwargs):
        return None
    return message.model_copy(update=update)


def _foreign_thought(block: Any, target: str, authors: Authors, *, alike: bool) -> bool:
    if not isinstance(block, ThinkingBlock):
        return False
    author = authors.of(block)
    return not alike if author is None else author != target


def _with_dict(block: Any) -> Any:
    """A call with its arguments as a dict, where they are one."""
    if not isinstance(block, ToolCallBlock):
        return block
    arguments = _arguments(block.tool_kwargs)
    return block if arguments is block.tool_kwargs else block.model_copy(update={"tool_kwargs": arguments})


def _arguments(told: Any) -> Any:
    """A call's arguments; a string that holds no JSON object stays as it is."""
    if not isinstance(told, str):
        return told
    if not told.strip():
        return {}
    try:
        found = json.loads(told)
    except (ValueError, RecursionError):
        return told
    return found if isinstance(found, dict) else told


def legacy_calls(message: ChatMessage) -> list[ToolCallBlock]:
    """Calls that a message keeps in `additional_kwargs`, as blocks: OpenAI's, Anthropic's, Amazon's and Ollama's shapes.

    What cannot be read is left out.
    """
    kwargs = message.additional_kwargs
    told = kwargs.get("tool_calls") or [kwargs.get("function_call")]
    return list(_blocks(told)) if isinstance(told, Iterable) and not isinstance(told, (str, Mapping)) else []


def _blocks(calls: Iterable[Any]) -> Iterator[ToolCallBlock]:
    for call in calls:
        function = _first(call, "function") or call
        name, identity = _first(function, "name"), _first(call, "call_id", "id", "toolUseId")
        arguments = _first(function, "arguments", "input", "args")
        if isinstance(name, str) and name:
            yield ToolCallBlock(
                tool_call_id=None if identity is None else str(identity),
                tool_name=name,
                tool_kwargs=arguments if isinstance(arguments, (dict, str)) else {},
            )


def _first(place: Any, *names: str) -> Any:
    found = (place.get(name) if isinstance(place, Mapping) else getattr(place, name, None) for name in names)
    return next((value for value in found if value is not None), None)
