"""A chat model that makes no provider call of its own: every public door leads to a candidate's public door.

LangChain's base class opens a model run in each of its public methods. A wrapper that fills in the private hooks and calls
another model from there therefore shows two model runs for one call: usage counted twice, text streamed twice. So the public
methods themselves are overridden here. They open a chain run, and the candidate opens the one model run.
"""

# ruff: noqa: A002  # LangChain's signatures say `input`, and callers pass it by name

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from itertools import chain
from typing import Any, cast
from uuid import UUID, uuid4

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun, Callbacks
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.chat_model_stream import AsyncChatModelStream, ChatModelStream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, LLMResult, RunInfo
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool
from pydantic import PrivateAttr

from agentroute.cascades import Call, CascadeResult
from langchain_agentroute._bindings import BINDING, Binding, SchemaBinding, ToolBinding
from langchain_agentroute._calls import Ready, Request, RoutedCall
from langchain_agentroute._doors import CHUNKS, EVENTS, Door, Opened, Passing, achained, close
from langchain_agentroute._record import stamped
from langchain_agentroute._routing import Routing
from langchain_agentroute._runs import AsyncChainRun, ChainRun
from langchain_agentroute._watch import Watch

__all__ = ["DelegatingChatModel"]

_END = object()


class StructuredModel(RunnableBinding[LanguageModelInput, Any]):
    """A routed model that answers with the parsed object of a schema."""

    @property
    def OutputType(self) -> Any:  # noqa: N802  # LangChain's name
        """Whatever the schema makes."""
        return Any


class DelegatingChatModel(BaseChatModel):
    """The public doors. Subclasses say with what they decide (`_routing`)."""

    _routing: Routing = PrivateAttr()

    def _request(self, model_input: Any, config: RunnableConfig | None, stop: Any, kwargs: dict[str, Any]) -> Request:
        messages = self._convert_input(model_input).to_messages()
        if stop is not None:
            # Only then: some structured runnables take no arguments at all.
            kwargs["stop"] = stop
        return self._routing.request(messages, kwargs, ensure_config(config))

    def _privately(self, messages: list[BaseMessage], stop: Any, kwargs: dict[str, Any]) -> tuple[RoutedCall, Call, Ready]:
        raise NotImplementedError

    @contextmanager
    def _paid(self, messages: list[BaseMessage], stop: Any, kwargs: dict[str, Any]) -> Iterator[tuple[Ready, Watch]]:
        """A call for somebody who has opened a model run for this model, and logs it; a team's session pays for it."""
        call, step, ready = self._privately(messages, stop, kwargs)
        call.log = None
        part = call.decided.part
        # A candidate that is itself routed comes here, too.
        if part is not None and call.asks(step) is None:
            call.bookings[step.attempt] = part.begin(model=step.model)
        with Watch(call, step, ready.capture) as watch:
            yield ready, watch

    # --- whole answers ---

    def invoke(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, *, stop: list[str] | None = None, **kwargs: Any
    ) -> AIMessage:
        """Routes one call and waits for the answer."""
        return cast("AIMessage", self._answer(self._request(input, config, stop, kwargs)))

    def _answer(self, request: Request) -> Any:
        with ChainRun(self, request.config, request.messages) as run:
            call = request.routing.decide(request, run)
            return self._finish(call, call.drive(call.invoke))

    async def ainvoke(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, *, stop: list[str] | None = None, **kwargs: Any
    ) -> AIMessage:
        """As `invoke`. The router works on a worker thread."""
        return cast("AIMessage", await self._aanswer(self._request(input, config, stop, kwargs)))

    async def _aanswer(self, request: Request) -> Any:
        async with AsyncChainRun(self, request.config, request.messages) as run:
            call = await request.routing.adecide(request, run)
            return self._finish(call, await call.adrive(call.ainvoke))

    @staticmethod
    def _finish(call: RoutedCall, answered: CascadeResult[Any]) -> Any:
        record = call.record(answered)
        answer = stamped(answered.answer, record)
        call.run.output = {"output": answer, "agentroute": record}
        return answer

    def generate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        *,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        run_name: str | None = None,
        run_id: UUID | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Routes each conversation on its own."""
        configs = _configs(len(messages), callbacks, tags, metadata, run_name, run_id)
        answers = [self.invoke(one, config, stop=stop, **kwargs) for one, config in zip(messages, configs, strict=True)]
        return _llm_result(answers, configs)

    async def agenerate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        *,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        run_name: str | None = None,
        run_id: UUID | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """As `generate`, all at once."""
        configs = _configs(len(messages), callbacks, tags, metadata, run_name, run_id)
        calls = [self.ainvoke(one, config, stop=stop, **kwargs) for one, config in zip(messages, configs, strict=True)]
        return _llm_result(await asyncio.gather(*calls), configs)

    # --- streams ---

    def stream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, *, stop: list[str] | None = None, **kwargs: Any
    ) -> Iterator[AIMessageChunk]:
        """Routes one call and passes the chunks on as they come. Failover ends with the first chunk that shows anything."""
        whole = self._whole(kwargs)
        # Not when it is first read: the session may be over by then, and it would be nobody's call.
        request = self._request(input, config, stop, kwargs)
        return self._once(request) if whole else self._items(request, CHUNKS)

    def astream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, *, stop: list[str] | None = None, **kwargs: Any
    ) -> AsyncIterator[AIMessageChunk]:
        """As `stream`."""
        whole = self._whole(kwargs)
        request = self._request(input, config, stop, kwargs)
        return self._aonce(request) if whole else self._aitems(request, CHUNKS)

    def _whole(self, kwargs: dict[str, Any]) -> bool:
        """Whether streaming is switched off for this call."""
        if self.disable_streaming is True:
            return True
        bound = kwargs.get(BINDING)
        return self.disable_streaming == "tool_calling" and bool(kwargs.get("tools") or isinstance(bound, ToolBinding))

    def stream_events(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        version: str = "v2",
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """With `version="v3"` a `ChatModelStream` of the candidate's events; else what LangChain says to the version."""
        if version != "v3":
            return super().stream_events(input, config, version=cast("Any", version), stop=stop, **kwargs)
        events = self._items(self._request(input, config, stop, kwargs), EVENTS)
        stream = ChatModelStream()

        def pump() -> bool:
            try:
                event = next(events, _END)
                if event is _END:
                    if not stream.done:
                        stream.fail(ValueError("the model's event stream ended without an end event"))
                    return False
                stream.dispatch(cast("dict[str, Any]", event))
                if stream.done:
                    # Readers stop here, and the runs still have to be ended.
                    next(events, None)
            except BaseException as error:  # the stream carries it to whoever reads the stream, as LangChain's own does
                stream.fail(error)
                return False
            return True

        stream.bind_pump(pump)
        return stream

    def astream_events(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        version: str = "v2",
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `stream_events`; with `version="v3"` to be awaited."""
        if version != "v3":
            return super().astream_events(input, config, version=cast("Any", version), stop=stop, **kwargs)
        return self._astream_v3(self._request(input, config, stop, kwargs))

    async def _astream_v3(self, request: Request) -> AsyncChatModelStream:
        stream = AsyncChatModelStream()

        async def produce() -> None:
            try:
                async with aclosing(self._aitems(request, EVENTS)) as events:
                    async for event in events:
                        stream.dispatch(event)
                if not stream.done:
                    stream.fail(ValueError("the model's event stream ended without an end event"))
            except asyncio.CancelledError as error:
                stream.fail(error)
                raise
            except BaseException as error:  # as in stream_events
                stream.fail(error)

        async def start() -> None:
            # AsyncChatModelStream.aclose() cancels this task; LangChain's own driver sets it in the same way.
            if stream._producer_task is None:  # noqa: SLF001
                stream._producer_task = asyncio.get_running_loop().create_task(produce())  # noqa: SLF001

        stream.set_start(start)
        return stream

    def _once(self, request: Request) -> Iterator[Any]:
        """A whole answer as the one item of a stream."""
        with request.within():
            answer = self._answer(request)
        yield answer

    async def _aonce(self, request: Request) -> AsyncIterator[Any]:
        """As `_once`."""
        with request.within():
            answer = await self._aanswer(request)
        yield answer

    def _items(self, request: Request, door: Door) -> Iterator[Any]:
        """The items of the candidate's stream, one of them with the record on it."""
        with ChainRun(self, request.config, request.messages) as run:
            with request.within():
                call = request.routing.decide(request, run)
                answered = call.drive(lambda step: call.open(step, door))
            opened: Opened = answered.answer
            passing = Passing(door, call.record(answered), opened, run, partial(call.totals, answered))
            with opened.watch as watch:
                try:
                    for item in chain(opened.head, opened.items):
                        yield passing.through(item)
                finally:
                    passing.end()
                    close(opened.items)
                watch.ended()

    async def _aitems(self, request: Request, door: Door) -> AsyncGenerator[Any]:
        """As `_items`."""
        async with AsyncChainRun(self, request.config, request.messages) as run:
            with request.within():
                call = await request.routing.adecide(request, run)

                async def open_stream(step: Call) -> Any:
                    return await call.aopen(step, door)

                answered = await call.adrive(open_stream)
            opened: Opened = answered.answer
            passing = Passing(door, call.record(answered), opened, run, partial(call.totals, answered))
            with opened.watch as watch:
                try:
                    async with aclosing(achained(opened.head, opened.items)) as items:
                        async for item in items:
                            yield passing.through(item)
                finally:
                    passing.end()
                watch.ended()

    # --- private hooks: somebody has opened a model run for this model, so the candidate's same hook must open none ---

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with self._paid(messages, stop, kwargs) as (ready, watch):
            result = ready.target.chat._generate(ready.messages, run_manager=run_manager, **ready.kwargs)  # noqa: SLF001
            watch.answered(result.generations[0].message)
        return result

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with self._paid(messages, stop, kwargs) as (ready, watch):
            result = await ready.target.chat._agenerate(ready.messages, run_manager=run_manager, **ready.kwargs)  # noqa: SLF001
            watch.answered(result.generations[0].message)
        return result

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with self._paid(messages, stop, kwargs) as (ready, watch):
            for chunk in ready.target.chat._stream(ready.messages, run_manager=run_manager, **ready.kwargs):  # noqa: SLF001
                watch.saw(chunk.message, CHUNKS)
                yield chunk
            watch.ended()

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with self._paid(messages, stop, kwargs) as (ready, watch):
            async for chunk in ready.target.chat._astream(ready.messages, run_manager=run_manager, **ready.kwargs):  # noqa: SLF001
                watch.saw(chunk.message, CHUNKS)
                yield chunk
            watch.ended()

    # --- tools and schemas ---

    # The return annotation is read at run time: RunnableWithFallbacks binds tools to all its models only if it finds one.
    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Keeps the tools as they are; the chosen candidate binds them in its own way."""
        return self.bind(**{BINDING: ToolBinding(tools, tool_choice, kwargs)})

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Keeps the schema; the chosen candidate asks for it in its own way, with the `method` and `strict` given here.

        The record of the routing is on the raw message (`include_raw=True`), in the trace and in the outcome log.
        """
        for target in self._routing.targets.values():
            # Now, and not only when the router comes to choose it.
            SchemaBinding.check(target)
        binding: Binding = SchemaBinding(schema, {"include_raw": include_raw, **kwargs})
        return StructuredModel(bound=self, kwargs={BINDING: binding}, config={})


def _configs(
    count: int,
    callbacks: Callbacks,
    tags: list[str] | None,
    metadata: dict[str, Any] | None,
    run_name: str | None,
    run_id: UUID | None,
) -> list[RunnableConfig]:
    """A configuration for each conversation of a batch; the caller's run id goes to the first."""
    shared: dict[str, Any] = {"callbacks": callbacks, "tags": tags, "metadata": metadata, "run_name": run_name}
    return [cast("RunnableConfig", {**shared, "run_id": run_id if run_id and not n else uuid4()}) for n in range(count)]


def _llm_result(answers: Sequence[AIMessage], configs: Sequence[RunnableConfig]) -> LLMResult:
    generations = [[ChatGeneration(message=answer)] for answer in answers]
    runs = [RunInfo(run_id=cast("UUID", config["run_id"])) for config in configs]
    return LLMResult(generations=generations, run=runs)  # type: ignore[arg-type]  # list is invariant, LLMResult's field is not
