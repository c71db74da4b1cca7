"""LangChain's messages as the turns of a conversation, which the core reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.messages import AIMessage, BaseMessage, FunctionMessage, HumanMessage, ToolMessage
from langchain_core.messages.utils import count_tokens_approximately

from agentroute.serving import RECORD, Turn

__all__ = ["prompt_tokens", "turns_of"]

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


def turns_of(messages: Sequence[BaseMessage]) -> tuple[Turn, ...]:
    """The messages as a router sees them."""
    return tuple(
        Turn(
            role=_role(message),
            text=message.content if isinstance(message.content, str) else str(message.text),
            wants=_wants(message.content),
            record=message.response_metadata.get(RECORD),
        )
        for message in messages
    )


def _role(message: BaseMessage) -> Literal["system", "user", "assistant", "tool"]:
    if isinstance(message, HumanMessage):
        return "user"
    if isinstance(message, AIMessage):
        return "assistant"
    return "tool" if isinstance(message, (ToolMessage, FunctionMessage)) else "system"


def _wants(content: str | list[Any]) -> frozenset[str]:
    """Capabilities that a message's content asks for: `"image"`, `"audio"`, `"video"`, `"pdf"`."""
    if isinstance(content, str):
        return frozenset()
    kinds = (_kind(block) for block in content if isinstance(block, dict))
    return frozenset(kind for kind in kinds if kind is not None)


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
