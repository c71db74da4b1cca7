"""The public doors of an LLM over several candidates: each asks the chosen candidate through the same door of its own."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar, cast

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
)
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.chat_engine.types import AgentChatResponse
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.types import PydanticProgramMode, TokenAsyncGen, TokenGen

from agentroute.cascades import Attempt, Call
from agentroute.teams import TeamSession, current_session
from llama_index.llms.agentroute import _requests as requests
from llama_index.llms.agentroute._calls import apassed, passed
from llama_index.llms.agentroute._requests import Carried, Request

if TYPE_CHECKING:
    from llama_index.llms.agentroute._choosing import Serving

__all__ = ["DelegatingLLM", "door"]

D = TypeVar("D", bound=Callable[..., Any])

_END = object()


def door(method: D) -> D:
    """Keeps a door from opening a span: in traces the one model run is the candidate's."""
    method.__dispatcher_span_decorated__ = True  # type: ignore[attr-defined]  # what LlamaIndex's dispatcher looks for
    return method


class DelegatingLLM(FunctionCallingLLM):
    """The public doors. Subclasses say with what they decide (`_served`)."""

    def _served(self) -> Serving:
        raise NotImplementedError

    _told: Carried | None = PrivateAttr(default=None)

    def _with_told(self, request: Request) -> Request:
        return request if self._told is None else self._told.on(request)

    # --- the four ways to ask ---

    def _whole(self, request: Request) -> Any:
        call = self._served().decide(self._with_told(request))
        return call.answer(call.drive(call.invoke))

    async def _awhole(self, request: Request) -> Any:
        call = await self._served().adecide(self._with_told(request))
        return call.answer(await call.adrive(call.ainvoke))

    def _stream(self, request: Request) -> Iterator[Any]:
        call = self._served().decide(self._with_told(request))
        return passed(call, call.drive(call.open))

    async def _astream(self, request: Request) -> AsyncIterator[Any]:
        call = await self._served().adecide(self._with_told(request))

        async def open_stream(step: Call) -> Attempt[Any]:
            return await call.aopen(step)

        return await apassed(call, await call.adrive(open_stream))

    # --- chat ---

    @door
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Routes one call and waits for the answer."""
        return cast("ChatResponse", self._whole(requests.chat(messages, kwargs)))

    @door
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """As `chat`. The router works on a worker thread."""
        return cast("ChatResponse", await self._awhole(requests.chat(messages, kwargs)))

    @door
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Routes one call and passes the chunks on as they come. Failover ends with the first chunk that shows anything."""
        return cast("ChatResponseGen", self._stream(requests.chat(messages, kwargs)))

    @door
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """As `stream_chat`."""
        return cast("ChatResponseAsyncGen", await self._astream(requests.chat(messages, kwargs)))

    # --- complete ---

    @door
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Routes one completion."""
        return cast("CompletionResponse", self._whole(requests.complete(prompt, formatted, kwargs)))

    @door
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """As `complete`."""
        return cast("CompletionResponse", await self._awhole(requests.complete(prompt, formatted, kwargs)))

    @door
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """As `stream_chat`, of a completion."""
        return cast("CompletionResponseGen", self._stream(requests.complete(prompt, formatted, kwargs)))

    @door
    async def astream_complete(
        self,
        prompt: str,
        formatted: bool = False,
        **kwargs: Any,
    ) -> CompletionResponseAsyncGen:
        """As `stream_complete`."""
        return cast("CompletionResponseAsyncGen", await self._astream(requests.complete(prompt, formatted, kwargs)))

    # --- tools ---

    def _prepare_chat_with_tools(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Never asked: the doors below hand the tools to the chosen candidate, who prepares them in its provider's way."""
        raise NotImplementedError

    @door
    def chat_with_tools(  # type: ignore[override]  # `verbose` and the like stay in kwargs, for the candidate
        self,
        tools: Sequence[Any],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        **kwargs: Any,
    ) -> ChatResponse:
        """Routes one call with tools, among the candidates that call tools."""
        return cast("ChatResponse", self._whole(requests.with_tools(tools, user_msg, chat_history, kwargs)))

    @door
    async def achat_with_tools(  # type: ignore[override]  # as above
        self,
        tools: Sequence[Any],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        **kwargs: Any,
    ) -> ChatResponse:
        """As `chat_with_tools`."""
        return cast("ChatResponse", await self._awhole(requests.with_tools(tools, user_msg, chat_history, kwargs)))

    @door
    def stream_chat_with_tools(  # type: ignore[override]  # as above
        self,
        tools: Sequence[Any],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        **kwargs: Any,
    ) -> ChatResponseGen:
        """As `chat_with_tools`, in chunks."""
        return cast("ChatResponseGen", self._stream(requests.with_tools(tools, user_msg, chat_history, kwargs)))

    @door
    async def astream_chat_with_tools(  # type: ignore[override]  # as above
        self,
        tools: Sequence[Any],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        **kwargs: Any,
    ) -> ChatResponseAsyncGen:
        """As `stream_chat_with_tools`."""
        asked = requests.with_tools(tools, user_msg, chat_history, kwargs)
        return cast("ChatResponseAsyncGen", await self._astream(asked))

    @door
    def predict_and_call(  # type: ignore[override]  # as above
        self,
        tools: Sequence[Any],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        **kwargs: Any,
    ) -> AgentChatResponse:
        """Routes one call with tools, and calls the tools that the answer asks for."""
        return cast("AgentChatResponse", self._whole(requests.predict_and_call(tools, user_msg, chat_history, kwargs)))

    @door
    async def apredict_and_call(  # type: ignore[override]  # as above
        self,
        tools: Sequence[Any],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        **kwargs: Any,
    ) -> AgentChatResponse:
        """As `predict_and_call`."""
        return cast("AgentChatResponse", await self._awhole(requests.predict_and_call(tools, user_msg, chat_history, kwargs)))

    # --- prompts and objects ---

    def _has_own_prompts(self) -> bool:
        """Whether this LLM has a prompt, a parser or a way to objects of its own, which no candidate knows of.

        Then the messages are made here, in LlamaIndex's own way, and only the chat is routed.
        """
        mode = self.pydantic_program_mode is not PydanticProgramMode.DEFAULT
        return mode or any(own is not None for own in (self.system_prompt, self.output_parser, self.query_wrapper_prompt))

    def _llamas(self, method: str, told: Carried) -> Any:
        """A method as LlamaIndex has it, without its span, on a copy of this LLM that knows what the caller has said."""
        asking = self.model_copy()
        asking._told = told  # noqa: SLF001  # it is one of these
        return inspect.unwrap(getattr(super(DelegatingLLM, asking), method))

    @door
    def predict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Routes one prompt. It is routed on the template's `query_str`, where it has one, else on all of it."""
        if self._has_own_prompts():
            return cast("str", self._llamas("predict", requests.carried(prompt, prompt_args))(prompt, **prompt_args))
        return cast("str", self._whole(requests.predict(prompt, prompt_args)))

    @door
    async def apredict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """As `predict`."""
        if self._has_own_prompts():
            return cast("str", await self._llamas("apredict", requests.carried(prompt, prompt_args))(prompt, **prompt_args))
        return cast("str", await self._awhole(requests.predict(prompt, prompt_args)))

    @door
    def stream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenGen:
        """As `predict`, token by token."""
        if self._has_own_prompts():
            return cast("TokenGen", self._llamas("stream", requests.carried(prompt, prompt_args))(prompt, **prompt_args))
        return cast("TokenGen", self._stream(requests.predict(prompt, prompt_args)))

    @door
    async def astream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenAsyncGen:
        """As `stream`."""
        if self._has_own_prompts():
            return cast(
                "TokenAsyncGen", await self._llamas("astream", requests.carried(prompt, prompt_args))(prompt, **prompt_args)
            )
        return cast("TokenAsyncGen", await self._astream(requests.predict(prompt, prompt_args)))

    @door
    def structured_predict(
        self, output_cls: Any, prompt: PromptTemplate, llm_kwargs: dict[str, Any] | None = None, **prompt_args: Any
    ) -> Any:
        """Routes one prompt for an object; the candidate asks for it in its own way."""
        if self._has_own_prompts():
            llm_kwargs = dict(llm_kwargs or {})
            ask = self._llamas("structured_predict", requests.carried(prompt, prompt_args, llm_kwargs))
            return ask(output_cls, prompt, llm_kwargs, **prompt_args)
        return self._whole(requests.structured(output_cls, prompt, llm_kwargs, prompt_args))

    @door
    async def astructured_predict(
        self, output_cls: Any, prompt: PromptTemplate, llm_kwargs: dict[str, Any] | None = None, **prompt_args: Any
    ) -> Any:
        """As `structured_predict`."""
        if self._has_own_prompts():
            llm_kwargs = dict(llm_kwargs or {})
            ask = self._llamas("astructured_predict", requests.carried(prompt, prompt_args, llm_kwargs))
            return await ask(output_cls, prompt, llm_kwargs, **prompt_args)
        return await self._awhole(requests.structured(output_cls, prompt, llm_kwargs, prompt_args))

    @door
    def stream_structured_predict(
        self, output_cls: Any, prompt: PromptTemplate, llm_kwargs: dict[str, Any] | None = None, **prompt_args: Any
    ) -> Generator[Any, None, None]:
        """As `structured_predict`, in objects that grow."""
        if self._has_own_prompts():
            llm_kwargs = dict(llm_kwargs or {})
            ask = self._llamas("stream_structured_predict", requests.carried(prompt, prompt_args, llm_kwargs))
            return _within(current_session(), ask(output_cls, prompt, llm_kwargs, **prompt_args))
        return cast("Generator[Any, None, None]", self._stream(requests.structured(output_cls, prompt, llm_kwargs, prompt_args)))

    @door
    async def astream_structured_predict(
        self, output_cls: Any, prompt: PromptTemplate, llm_kwargs: dict[str, Any] | None = None, **prompt_args: Any
    ) -> AsyncGenerator[Any, None]:
        """As `stream_structured_predict`."""
        if self._has_own_prompts():
            llm_kwargs = dict(llm_kwargs or {})
            ask = self._llamas("astream_structured_predict", requests.carried(prompt, prompt_args, llm_kwargs))
            return _awithin(current_session(), await ask(output_cls, prompt, llm_kwargs, **prompt_args))
        asked = requests.structured(output_cls, prompt, llm_kwargs, prompt_args)
        return cast("AsyncGenerator[Any, None]", await self._astream(asked))


def _within(session: TeamSession | None, items: Any) -> Generator[Any, None, None]:
    """A stream that LlamaIndex begins only when it is read, read in the team's session in which it was asked for."""
    try:
        while True:
            with nullcontext() if session is None else session.active():
                item = next(items, _END)
            if item is _END:
                return
            yield item
    finally:
        items.close()


async def _awithin(session: TeamSession | None, items: Any) -> AsyncGenerator[Any, None]:
    """As `_within`."""
    try:
        while True:
            with nullcontext() if session is None else session.active():
                item = await anext(items, _END)
            if item is _END:
                return
            yield item
    finally:
        await items.aclose()
