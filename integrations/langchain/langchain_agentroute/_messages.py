"""What a router needs to know of a conversation."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, FunctionMessage, HumanMessage, ToolMessage
from langchain_core.messages.utils import count_tokens_approximately

from agentroute.types import Query

__all__ = [
    "RECORD",
    "answered_by",
    "conversation_model",
    "modalities",
    "prompt_tokens",
    "query_of",
    "question",
    "tool_loop_model",
]

RECORD = "agentroute"
"""The key of the routing record in `response_metadata`."""

_KINDS = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "audio": "audio",
    "input_audio": "audio",
    "video": "video",
    "document": "pdf",
}
_FILES = frozenset({*_KINDS, "file", "input_file", "media"})
# A picture of one megapixel is about 1,400 tokens at Anthropic (width x height / 750, at most about 1,600), a page of a pdf
# 1,500 to 3,000; a minute of sound is about 1,900 at Google. One block is at least something like one of these.
_TOKENS_PER_FILE = 1_500


def question(messages: Sequence[BaseMessage]) -> str:
    """The text to route on: what the user said last. Never a tool's output, whatever came after the user's words."""
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            return _text(message)
    others = (_text(one) for one in reversed(messages) if not isinstance(one, (ToolMessage, FunctionMessage)))
    return next(filter(None, others), "")


def _text(message: BaseMessage) -> str:
    return message.content if isinstance(message.content, str) else str(message.text)


def modalities(messages: Sequence[BaseMessage]) -> set[str]:
    """Capabilities that the messages' contents ask for: `"image"`, `"audio"`, `"video"`, `"pdf"`."""
    found: set[str] = set()
    for message in messages:
        if isinstance(message.content, str):
            continue
        for block in message.content:
            if isinstance(block, dict):
                kind = _kind(block)
                if kind is not None:
                    found.add(kind)
    return found


def _kind(block: dict[str, Any]) -> str | None:
    """The capability that a content block asks for: by its media type, where it tells one, else by the block's own type."""
    own = block.get("type")
    known = _KINDS.get(own) if isinstance(own, str) else None
    media = _media(block)
    if media.startswith("application/pdf"):
        return "pdf"
    top = media.partition("/")[0]
    if top in {"image", "audio", "video"}:
        return top
    # A document of another media type, or one that is written out in blocks, is no pdf.
    return None if known == "pdf" and (media or _source_type(block) in {"text", "content"}) else known


def _media(block: dict[str, Any]) -> str:
    """The media type of a block; empty when it does not say."""
    source, inner = block.get("source"), block.get("file")
    told = [source.get("media_type") if isinstance(source, dict) else None, block.get("mime_type")]
    data = inner.get("file_data") if isinstance(inner, dict) else None
    if isinstance(data, str) and data.startswith("data:"):
        told.append(data[5:40])
    return next((media for media in told if isinstance(media, str) and media), "")


def prompt_tokens(messages: Sequence[BaseMessage]) -> int:
    """About how many tokens the messages are: text by its length, files and pictures by a flat figure each.

    Encoded bytes are no text: counted by their length, a small picture would fill any window.
    """
    texts: list[BaseMessage] = []
    files = 0
    for message in messages:
        kept = message
        if not isinstance(message.content, str):
            content, found = _without_files(message.content)
            files += found
            kept = message.model_copy(update={"content": content}) if found else message
        texts.append(kept)
    return count_tokens_approximately(texts) + files * _TOKENS_PER_FILE


def _without_files(content: Sequence[Any]) -> tuple[list[Any], int]:
    """The blocks that are text, and how many others there were, in tool results too."""
    texts: list[Any] = []
    files = 0
    for block in content:
        kept = block
        if isinstance(block, dict):
            own = block.get("type")
            if isinstance(own, str) and own in _FILES and not _is_text(block):
                files += 1
                continue
            inner = block.get("content")
            if isinstance(inner, list):
                within, found = _without_files(inner)
                files += found
                kept = {**block, "content": within} if found else block
        texts.append(kept)
    return texts, files


def _is_text(block: dict[str, Any]) -> bool:
    return _media(block).startswith("text/") or _source_type(block) == "text"


def _source_type(block: dict[str, Any]) -> Any:
    source = block.get("source")
    return source.get("type") if isinstance(source, dict) else None


def answered_by(message: BaseMessage, candidates: Container[str]) -> str | None:
    """The candidate that wrote a message, if a routed model put it on record.

    A routed model may itself be a candidate of another one, which then stands on top of the record.
    """
    record = message.response_metadata.get(RECORD)
    while isinstance(record, dict):
        name = record.get("answered_by")
        if isinstance(name, str) and name in candidates:
            return name
        record = record.get("via")
    return None


def tool_loop_model(messages: Sequence[BaseMessage], candidates: Container[str]) -> str | None:
    """The candidate that asked for the tool results at the end of the conversation; `None` = not in a tool loop."""
    if not messages or not isinstance(messages[-1], ToolMessage):
        return None
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            # Also when it has no record: what came before it belongs to another turn.
            return answered_by(message, candidates)
        if not isinstance(message, ToolMessage):
            return None
    return None


def conversation_model(messages: Sequence[BaseMessage], candidates: Container[str]) -> str | None:
    """The candidate that wrote the latest answer of any candidate on record."""
    for message in reversed(messages):
        if isinstance(message, AIMessage) and (name := answered_by(message, candidates)) is not None:
            return name
    return None


def query_of(
    messages: Sequence[BaseMessage],
    *,
    role: str | None,
    task: str | None,
    needs: frozenset[str],
    max_output_tokens: int | None,
    input_tokens: int | None,
) -> Query:
    """The query that a conversation asks."""
    wanted = modalities(messages)
    return Query(
        text=question(messages),
        role=role,
        task=task,
        needs=needs | wanted if wanted else needs,
        input_tokens=input_tokens,
        max_output_tokens=max_output_tokens,
    )
