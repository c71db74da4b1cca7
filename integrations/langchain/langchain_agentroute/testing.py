"""A chat model for tests: offline, scripted, and complete enough to pass LangChain's standard suite."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.tool import ToolCall, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field, PrivateAttr, SkipValidation

from agentroute.serving import check_names, question
from langchain_agentroute._messages import turns_of

__all__ = ["Reply", "ScriptedChatModel"]

Reply: TypeAlias = "str | AIMessage | Exception | Callable[[list[BaseMessage]], Any]"
"""A text, a whole message, an error to raise, or a function from the conversation to one of these."""


_MEANT = {
    name: name for name in ("model_name", "replies", "break_after", "break_error", "input_tokens", "output_tokens", "stop")
} | {"reply": "replies", "responses": "replies"}


class ScriptedChatModel(BaseChatModel):
    """A chat model that says what it is told to, keeps what it was asked, and touches no network.

    Without a script it answers with its name and the question; with tools bound it calls the first one (or the one that
    `tool_choice` names), with arguments made from numbers and quoted words of the question, until a tool has answered;
    where it must call one, it goes on with the next.

    ```python
    ScriptedChatModel(model_name="small", replies=["Paris.", TimeoutError()])
    ```

    Args:
        model_name: Its name, also in `response_metadata`.
        replies: What it says, call by call; after the last it goes on without a script.
        break_after: Chunks after which a stream fails with `break_error`; `None` = it does not.
        break_error: That error.
        input_tokens: Prompt tokens that it reports.
        output_tokens: Answer tokens that it reports.
        stop: Where its answers end.

    Raises:
        ConfigError: An argument is unknown and close to one of these; LangChain's fake models call `replies` `responses`.
    """

    model_name: str = "scripted"
    replies: SkipValidation[Sequence[Reply]] = ()
    break_after: int | None = None
    break_error: SkipValidation[BaseException] = Field(default_factory=lambda: ConnectionError("the stream broke"))
    input_tokens: int = 10
    output_tokens: int = 5
    stop: list[str] | None = None

    _asked: list[tuple[list[BaseMessage], dict[str, Any]]] = PrivateAttr(default_factory=list)
    _closed: list[int] = PrivateAttr(default_factory=list)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    if not TYPE_CHECKING:
        # Type checkers make a better signature from the fields.
        def __init__(self, **kwargs: Any) -> None:
            check_names(kwargs, type(self).model_fields, _MEANT, "a scripted model")
            super().__init__(**kwargs)

    @property
    def asked(self) -> list[tuple[list[BaseMessage], dict[str, Any]]]:
        """The conversation and the arguments of every call, in order."""
        return self._asked

    @property
    def closed_streams(self) -> list[int]:
        """For every stream that its reader closed early, the number of chunks that it had given."""
        return self._closed

    @property
    def _llm_type(self) -> str:
        return "scripted-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = LangSmithParams(
            ls_provider="scripted", ls_model_name=kwargs.get("model") or self.model_name, ls_model_type="chat"
        )
        if stop:
            params["ls_stop"] = stop
        return params

    def get_token_ids(self, text: str) -> list[int]:
        """One token for each word."""
        return list(range(len(text.split())))

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Binds tools in OpenAI's format."""
        choice = {} if tool_choice is None else {"tool_choice": tool_choice}
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **choice, **kwargs)

    def _message(self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]) -> AIMessage:
        with self._lock:
            turn = len(self._asked)
            self._asked.append((messages, kwargs))
        reply: Any = self.replies[turn] if turn < len(self.replies) else None
        if callable(reply):
            reply = reply(messages)
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, AIMessage):
            message = reply.model_copy()
        elif reply is None and (call := self._tool_call(messages, kwargs, turn)) is not None:
            message = AIMessage(content="", tool_calls=[call])
        else:
            text = f"[{self.model_name}] answer to: {question(turns_of(messages))}" if reply is None else str(reply)
            for end in stop or self.stop or ():
                text = text.partition(end)[0] if end else text
            message = AIMessage(content=text)
        if message.usage_metadata is None:
            message.usage_metadata = {
                "input_tokens": self.input_tokens,
                "output_tokens": self.output_tokens,
                "total_tokens": self.input_tokens + self.output_tokens,
            }
        name = kwargs.get("model") or self.model_name
        message.response_metadata = {"model_name": name, "model_provider": "scripted", **message.response_metadata}
        return message

    @staticmethod
    def _tool_call(messages: list[BaseMessage], kwargs: dict[str, Any], turn: int) -> ToolCall | None:
        tools = kwargs.get("tools")
        choice = kwargs.get("tool_choice")
        if not tools or (isinstance(messages[-1], ToolMessage) and choice is None):
            return None
        functions = [tool["function"] for tool in tools]
        told = {message.name for message in messages if isinstance(message, ToolMessage)}
        # One after the other, so that an agent whose schema is a tool as well, and which insists on one, comes to its end.
        waiting = [one for one in functions if one["name"] not in told] or functions[-1:]
        function = next((one for one in functions if one["name"] == choice), waiting[0])
        arguments = _arguments(function.get("parameters", {}), question(turns_of(messages)))
        return ToolCall(name=function["name"], args=arguments, id=f"call_{turn}", type="tool_call")

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._message(messages, stop, kwargs))])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        return self._generate(messages, stop, None, **kwargs)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        given = 0
        try:
            for given, chunk in enumerate(_chunks(self._message(messages, stop, kwargs))):
                if given == self.break_after:
                    raise self.break_error
                made = ChatGenerationChunk(message=chunk)
                if run_manager is not None:
                    run_manager.on_llm_new_token(str(chunk.text), chunk=made)
                yield made
        except GeneratorExit:
            self._closed.append(given + 1)
            raise

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        chunks = self._stream(messages, stop, None, **kwargs)
        try:
            for chunk in chunks:
                yield chunk
        finally:
            chunks.close()  # type: ignore[attr-defined]  # it is a generator


def _chunks(message: AIMessage) -> Iterator[AIMessageChunk]:
    """A message, word by word and tool call by tool call; usage and names come with the last piece."""
    for word in re.findall(r"\s*\S+", message.content) if isinstance(message.content, str) else [message.content]:
        yield AIMessageChunk(content=word)
    for index, call in enumerate(message.tool_calls):
        written = json.dumps(call["args"])
        half = len(written) // 2
        yield AIMessageChunk(
            content="",
            tool_call_chunks=[tool_call_chunk(name=call["name"], args=written[:half], id=call["id"], index=index)],
        )
        yield AIMessageChunk(content="", tool_call_chunks=[tool_call_chunk(args=written[half:], index=index)])
    yield AIMessageChunk(
        content="",
        usage_metadata=message.usage_metadata,
        response_metadata=message.response_metadata,
        chunk_position="last",
    )


def _arguments(schema: dict[str, Any], text: str) -> dict[str, Any]:
    """Arguments that fit a JSON schema, from the numbers and the quoted words of a text, in order."""
    numbers = [int(number) for number in re.findall(r"-?\d+", text)]
    quoted = re.findall(r"'([^']*)'", text)
    made: dict[str, Any] = {}
    for name, about in schema.get("properties", {}).items():
        options = [about, *about.get("anyOf", ())]
        kind = next((option["type"] for option in options if "type" in option), "string")
        if kind in {"integer", "number"}:
            made[name] = numbers.pop(0) if numbers else 1
        elif kind == "boolean":
            made[name] = True
        elif kind == "array":
            made[name] = []
        elif kind == "object":
            made[name] = {}
        else:
            made[name] = about.get("enum", [None])[0] or (quoted.pop(0) if quoted else name)
    return made
