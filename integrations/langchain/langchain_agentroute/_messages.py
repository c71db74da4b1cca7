"""What a router needs to know of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from agentroute.types import Query

__all__ = ["RECORD", "answered_by", "modalities", "question", "tool_loop_model"]

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


def question(messages: Sequence[BaseMessage]) -> str:
    """The text to route on: what the user said last. Never a tool's output, whatever came after the user's words."""
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            return _text(message)
    return _text(messages[-1]) if messages else ""


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
                kind = _KINDS.get(block.get("type", "")) or _media(block)
                if kind is not None:
                    found.add(kind)
    return found


def _media(block: dict[str, Any]) -> str | None:
    """The kind of a file block, told by its media type; `None` when it does not say."""
    inner = block.get("file")
    data = inner.get("file_data") if isinstance(inner, dict) else None
    media = block.get("mime_type") or (data[5:40] if isinstance(data, str) and data.startswith("data:") else "")
    if media.startswith("application/pdf"):
        return "pdf"
    top = media.partition("/")[0]
    return top if top in {"image", "audio", "video"} else None


def answered_by(message: BaseMessage) -> str | None:
    """The candidate that wrote a message, if a routed model put it on record."""
    record = message.response_metadata.get(RECORD)
    name = record.get("answered_by") if isinstance(record, dict) else None
    return name if isinstance(name, str) else None


def tool_loop_model(messages: Sequence[BaseMessage]) -> str | None:
    """The candidate that asked for the tool results at the end of the conversation; `None` = not in a tool loop."""
    if not messages or not isinstance(messages[-1], ToolMessage):
        return None
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            return answered_by(message)
        if not isinstance(message, ToolMessage):
            return None
    return None


def conversation_model(messages: Sequence[BaseMessage]) -> str | None:
    """The candidate that wrote the latest answer on record."""
    for message in reversed(messages):
        if isinstance(message, AIMessage) and (name := answered_by(message)) is not None:
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
