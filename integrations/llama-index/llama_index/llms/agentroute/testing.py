"""An LLM for tests: offline, scripted, and as complete as a provider's: chat, completion, tools, streams, events and usage."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from pydantic import SkipValidation

from agentroute.serving import check_names, question
from llama_index.llms.agentroute._authors import legacy_calls
from llama_index.llms.agentroute._messages import turns_of
from llama_index.llms.agentroute._scripts import arguments_of, calls_in, unscripted_call, written

__all__ = ["Asked", "Reply", "ScriptedLLM", "ToolStyle"]

Reply: TypeAlias = (
    "str | ToolCallBlock | Sequence[ToolCallBlock] | BaseModel | ChatMessage | ChatResponse | BaseException"
    " | Callable[[Sequence[ChatMessage]], Any] | None"
)
"""A text, tool calls, an object (said by the tool of its schema, or as JSON), a whole message or response, an error to raise, or
a function from the conversation to one of these; `None` = what it would say without a script."""

ToolStyle: TypeAlias = Literal["openai", "blocks", "kwargs"]
"""Where tool calls stand in a message: in `ToolCallBlock`s, in `additional_kwargs["tool_calls"]`, or as LlamaIndex's OpenAI has
them, in blocks and in streams in both, with arguments as JSON in a string."""

_MEANT = {
    name: name
    for name in (
        "model", "replies", "break_after", "break_error", "input_tokens", "output_tokens", "context_window", "num_output",
        "calls_tools", "is_chat_model", "tool_style", "delay",
    )
} | {"model_name": "model", "reply": "replies", "responses": "replies", "is_function_calling_model": "calls_tools"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a scripted LLM was asked.

    Attributes:
        door: The method that was called, such as `"astream_chat"`.
        messages: The conversation; of a completion, one message of the user's.
        tools: The tools, in OpenAI's format.
        kwargs: The other arguments.
    """

    door: str
    messages: Sequence[ChatMessage]
    tools: Sequence[Mapping[str, Any]] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """What the user said last."""
        return question(turns_of(self.messages))


class ScriptedLLM(FunctionCallingLLM):
    """An LLM that says what it is told to, keeps what it was asked, and touches no network.

    Without a script it answers with its name and the question. With tools it calls the first one that has not answered yet,
    with arguments made from numbers and quoted words of the question; once a tool has answered, it speaks, unless a tool is
    required. So it fills objects of a schema too.

    ```python
    ScriptedLLM(model="small", replies=["Paris.", TimeoutError()])
    ```

    Args:
        model: Its name.
        replies: What it says, call by call; after the last it goes on without a script.
        break_after: Chunks after which a stream fails with `break_error`; `None` = it does not.
        break_error: That error.
        input_tokens: Prompt tokens that it reports; `None` = it reports no usage, as many streams.
        output_tokens: Answer tokens that it reports.
        context_window: The window that it tells, in tokens.
        num_output: The room for an answer that it tells, in tokens; 256 is LlamaIndex's "unset".
        calls_tools: Whether it says that it calls tools.
        is_chat_model: Whether it says that it is a chat model.
        tool_style: Where its tool calls stand.
        delay: Seconds before it answers, or before its stream begins.

    Raises:
        ConfigError: An argument is unknown and close to one of these; LlamaIndex's OpenAI calls the name `model`, too.
    """

    model: str = "scripted"
    replies: SkipValidation[Sequence[Reply]] = Field(default=(), exclude=True, repr=False)
    break_after: int | None = None
    break_error: SkipValidation[BaseException] = Field(
        default_factory=lambda: ConnectionError("the stream broke"), exclude=True, repr=False
    )
    input_tokens: int | None = 10
    output_tokens: int = 5
    context_window: int = 32_768
    num_output: int = 256
    calls_tools: bool = True
    is_chat_model: bool = True
    tool_style: ToolStyle = "openai"
    delay: float = 0.0

    _calls: list[Asked] = PrivateAttr(default_factory=list)
    _closed: list[int] = PrivateAttr(default_factory=list)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    if not TYPE_CHECKING:
        # Type checkers make a better signature from the fields.
        def __init__(self, **kwargs: Any) -> None:
            check_names(kwargs, type(self).model_fields, _MEANT, "a scripted LLM")
            super().__init__(**kwargs)

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name for the class."""
        return "scripted_llm"

    @property
    def metadata(self) -> LLMMetadata:
        """What it tells of itself."""
        return LLMMetadata(
            context_window=self.context_window,
            num_output=self.num_output,
            is_chat_model=self.is_chat_model,
            is_function_calling_model=self.calls_tools,
            model_name=self.model,
        )

    @property
    def calls(self) -> list[Asked]:
        """What it was asked, in order."""
        return self._calls

    @property
    def closed_streams(self) -> list[int]:
        """For every stream that its reader closed early, the number of chunks that it had given."""
        return self._closed

    # --- what it says ---

    def _response(self, door: str, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> ChatResponse:
        tools = list(kwargs.pop("tools", None) or ())
        with self._lock:
            turn = len(self._calls)
            # A list of its own: several callers add to theirs afterwards.
            self._calls.append(Asked(door=door, messages=list(messages), tools=tools, kwargs=kwargs))
        reply: Any = self.replies[turn] if turn < len(self.replies) else None
        if callable(reply) and not isinstance(reply, BaseModel):
            reply = reply(messages)
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, ChatResponse):
            return reply
        message = reply if isinstance(reply, ChatMessage) else self._message(reply, messages, tools, kwargs, turn)
        raw: dict[str, Any] = {"model": self.model, "finish_reason": "tool_calls" if calls_in(message) else "stop"}
        if self.input_tokens is not None:
            raw["usage"] = {
                "prompt_tokens": self.input_tokens,
                "completion_tokens": self.output_tokens,
                "total_tokens": self.input_tokens + self.output_tokens,
            }
        return ChatResponse(message=message, raw=raw)

    def _message(
        self, reply: Any, messages: Sequence[ChatMessage], tools: list[Any], kwargs: dict[str, Any], turn: int
    ) -> ChatMessage:
        if reply is None:
            reply = unscripted_call(messages, tools, kwargs, turn)
        if isinstance(reply, BaseModel) and not isinstance(reply, ToolCallBlock):
            arguments = reply.model_dump(mode="json")
            name = tools[0]["function"]["name"] if tools else ""
            called = ToolCallBlock(tool_call_id=f"call_{turn}", tool_name=name, tool_kwargs=arguments)
            reply = called if tools else json.dumps(arguments)
        if isinstance(reply, ToolCallBlock):
            reply = [reply]
        if isinstance(reply, Sequence) and not isinstance(reply, str):
            return self._with_calls("", reply, whole=True)
        text = f"[{self.model}] answer to: {question(turns_of(messages))}" if reply is None else str(reply)
        return ChatMessage(role=MessageRole.ASSISTANT, content=text)

    def _with_calls(self, text: str, calls: Sequence[ToolCallBlock], *, whole: bool) -> ChatMessage:
        """A message with tool calls, where this LLM keeps them."""
        blocks: list[Any] = [TextBlock(text=text)] if text else []
        extras: dict[str, Any] = {}
        if self.tool_style == "openai":
            calls = [call.model_copy(update={"tool_kwargs": written(call)}) for call in calls]
        if self.tool_style != "kwargs":
            blocks += calls
        if self.tool_style == "kwargs" or (self.tool_style == "openai" and not whole):
            extras["tool_calls"] = [
                {
                    "id": call.tool_call_id,
                    "type": "function",
                    "function": {"name": call.tool_name, "arguments": written(call)},
                }
                for call in calls
            ]
        return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=extras)

    def _chunks(self, response: ChatResponse) -> Iterator[ChatResponse]:
        """A response, word by word and tool call by tool call; the provider's own words come with the last piece."""
        message, text, given = response.message, "", 0
        calls = calls_in(message)
        pieces = re.findall(r"\s*\S+", message.content or "")
        for word in pieces:
            self._break(given)
            text, given = text + word, given + 1
            yield ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, content=text), delta=word)
        for index, call in enumerate(calls):
            self._break(given)
            given += 1
            half = call
            if self.tool_style != "blocks":
                cut = written(call)
                half = call.model_copy(update={"tool_kwargs": cut[: len(cut) // 2]})
            yield ChatResponse(message=self._with_calls(text, [*calls[:index], half], whole=False), delta="")
        self._break(given)
        extras = self._with_calls("", calls, whole=False).additional_kwargs if calls else {}
        last = message.model_copy(update={"additional_kwargs": {**message.additional_kwargs, **extras}})
        yield response.model_copy(update={"message": last, "delta": ""})

    def _break(self, given: int) -> None:
        if given == self.break_after:
            raise self.break_error

    def _streamed(self, door: str, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> ChatResponseGen:
        time.sleep(self.delay)
        given = 0
        try:
            for given, chunk in enumerate(self._chunks(self._response(door, messages, kwargs)), 1):  # noqa: B007  # told when closed
                yield chunk
        except GeneratorExit:
            self._closed.append(given)
            raise

    async def _astreamed(self, door: str, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> ChatResponseAsyncGen:
        await asyncio.sleep(self.delay)
        given = 0
        try:
            for given, chunk in enumerate(self._chunks(self._response(door, messages, kwargs)), 1):  # noqa: B007  # told when closed
                await asyncio.sleep(0)
                yield chunk
        except (GeneratorExit, asyncio.CancelledError):
            self._closed.append(given)
            raise

    # --- its doors ---

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Says what the script says."""
        time.sleep(self.delay)
        return self._response("chat", messages, kwargs)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """As `chat`."""
        await asyncio.sleep(self.delay)
        return self._response("achat", messages, kwargs)

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """As `chat`, word by word. An error that stands in the script comes when the first word is asked for."""
        return self._streamed("stream_chat", messages, kwargs)

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """As `stream_chat`."""
        return self._astreamed("astream_chat", messages, kwargs)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: ARG002  # as given
        """As `chat`."""
        time.sleep(self.delay)
        return _completion(self._response("complete", _said(prompt), kwargs))

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: ARG002
        """As `complete`."""
        await asyncio.sleep(self.delay)
        return _completion(self._response("acomplete", _said(prompt), kwargs))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:  # noqa: ARG002
        """As `stream_chat`."""

        def chunks() -> CompletionResponseGen:
            with closing(self._streamed("stream_complete", _said(prompt), kwargs)) as items:
                yield from map(_completion, items)

        return chunks()

    @llm_completion_callback()
    async def astream_complete(
        self,
        prompt: str,
        formatted: bool = False,  # noqa: ARG002  # as above
        **kwargs: Any,
    ) -> CompletionResponseAsyncGen:
        """As `stream_complete`."""

        async def chunks() -> CompletionResponseAsyncGen:
            async with aclosing(self._astreamed("astream_complete", _said(prompt), kwargs)) as items:
                async for chunk in items:
                    yield _completion(chunk)

        return chunks()

    # --- tools ---

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[Any],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,  # noqa: ARG002  # LlamaIndex's
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        # As LlamaIndex's OpenAI does it: in the caller's own list.
        messages = chat_history or []
        if user_msg:
            messages.append(*_said(user_msg)) if isinstance(user_msg, str) else messages.append(user_msg)
        return {
            "messages": messages,
            "tools": [tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools],
            "tool_required": tool_required,
            "parallel_tool_calls": allow_parallel_tool_calls,
            **kwargs,
        }

    def get_tool_calls_from_response(
        self,
        response: ChatResponse,
        error_on_no_tool_call: bool = True,
        **kwargs: Any,  # noqa: ARG002  # LlamaIndex's
    ) -> list[ToolSelection]:
        """The tool calls of an answer in this LLM's own style; arguments that are cut off as far as they have come.

        Raises:
            ValueError: There is none, and there should be.
        """
        message = response.message
        if self.tool_style == "kwargs":
            found = legacy_calls(message)
        else:
            found = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
        if not found and error_on_no_tool_call:
            msg = "Expected at least one tool call, but got 0 tool calls."
            raise ValueError(msg)
        return [
            ToolSelection(tool_id=call.tool_call_id or "", tool_name=call.tool_name, tool_kwargs=arguments_of(call.tool_kwargs))
            for call in found
        ]


def _said(text: str) -> list[ChatMessage]:
    return [ChatMessage(role=MessageRole.USER, content=text)]


def _completion(response: ChatResponse) -> CompletionResponse:
    return CompletionResponse(text=response.message.content or "", delta=response.delta, raw=response.raw)
