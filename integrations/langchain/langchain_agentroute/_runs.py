"""The traced runs around a routed call: one chain run for the call, one child for the router, none of its own for the model.

A chain run, because the call must show in traces without counting as a model call: the one model run is the candidate's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar
from uuid import UUID

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForChainRun,
    BaseCallbackHandler,
    CallbackManager,
    CallbackManagerForChainRun,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import patch_config, run_in_executor, set_config_context

from agentroute.serving import Decided
from agentroute.types import Query

__all__ = ["FORCED", "AsyncChainRun", "Capture", "ChainRun", "Run", "Runs"]

FORCED = "agentroute_model"
"""The configurable key that forces a candidate: `config={"configurable": {"agentroute_model": "small"}}`."""

T = TypeVar("T")


class Run:
    """What the synchronous and the asynchronous chain run share.

    Without any callback handler no run is opened, because nobody could see it.
    """

    manager: CallbackManagerForChainRun | AsyncCallbackManagerForChainRun | None = None

    def __init__(self, model: BaseChatModel, config: RunnableConfig, messages: Sequence[BaseMessage]) -> None:
        self.model = model
        self.messages = messages
        self.run_name = config.pop("run_name", "") or model.get_name()
        self.run_id = config.pop("run_id", None)
        self.config = config
        self.output: Any = None

    def child(self, target_config: dict[str, Any]) -> RunnableConfig:
        """The configuration of the candidate's call: a child of this run, with the decision in its metadata."""
        config = self.config.copy()
        config["metadata"] = {**config["metadata"], **target_config}
        config["tags"] = [*config["tags"], "agentroute"]
        if FORCED in config["configurable"]:
            # It has done its work here; a routed model among the candidates has other names.
            config["configurable"] = {key: value for key, value in config["configurable"].items() if key != FORCED}
        if self.manager is not None:
            config["callbacks"] = self.manager.get_child()
        return config

    def _configured(self) -> tuple[Any, ...]:
        """Positional arguments of `CallbackManager.configure`."""
        config, model = self.config, self.model
        return (
            config["callbacks"],
            model.callbacks,
            model.verbose,
            config["tags"],
            model.tags,
            config["metadata"],
            model.metadata,
        )


class ChainRun(Run):
    """The chain run of a synchronous call, as a context manager."""

    manager: CallbackManagerForChainRun | None = None

    def __enter__(self) -> Self:
        manager = CallbackManager.configure(*self._configured())
        if manager.handlers:
            self.manager = manager.on_chain_start(None, {"messages": self.messages}, name=self.run_name, run_id=self.run_id)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.manager is None:
            return
        if error is None or isinstance(error, GeneratorExit):
            self.manager.on_chain_end(self.output)
        else:
            self.manager.on_chain_error(error)

    def ask_router(self, query: Query, ask: Callable[[], Decided]) -> Decided:
        """Asks the router in a child run of its own, so that models that the router calls show up below it."""
        if self.manager is None:
            return ask()
        run = self.manager.get_child().on_chain_start(None, _inputs(query), name="agentroute.router")
        try:
            decided = _within(patch_config(self.config, callbacks=run.get_child()), ask)
        except BaseException as error:
            run.on_chain_error(error)
            raise
        if decided.error is not None:
            run.on_chain_error(decided.error)
        else:
            run.on_chain_end(decided.summary())
        return decided


class AsyncChainRun(Run):
    """The chain run of an asynchronous call, as an asynchronous context manager."""

    manager: AsyncCallbackManagerForChainRun | None = None

    async def __aenter__(self) -> Self:
        manager = AsyncCallbackManager.configure(*self._configured())
        if manager.handlers:
            self.manager = await manager.on_chain_start(None, {"messages": self.messages}, name=self.run_name, run_id=self.run_id)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.manager is None:
            return
        if error is None or isinstance(error, GeneratorExit):
            await self.manager.on_chain_end(self.output)
        else:
            await self.manager.on_chain_error(error)

    async def ask_router(self, query: Query, ask: Callable[[], Decided]) -> Decided:
        """As in `ChainRun`, on a worker thread: embedding a text must not hold up the event loop."""
        if self.manager is None:
            return await run_in_executor(self.config, ask)
        run = await self.manager.get_child().on_chain_start(None, _inputs(query), name="agentroute.router")
        config = patch_config(self.config, callbacks=run.get_sync().get_child())
        try:
            decided = await run_in_executor(config, _within, config, ask)
        except BaseException as error:
            await run.on_chain_error(error)
            raise
        if decided.error is not None:
            await run.on_chain_error(decided.error)
        else:
            await run.on_chain_end(decided.summary())
        return decided


def _inputs(query: Query) -> dict[str, Any]:
    """What a trace shows of the question to the router."""
    allow = None if query.allow is None else sorted(query.allow)
    return {"text": query.text, "needs": sorted(query.needs), "allow": allow, "input_tokens": query.input_tokens}


def _within(config: RunnableConfig, function: Callable[[], T]) -> T:
    """Calls a function so that runnables inside it take this configuration without being given it."""
    with set_config_context(config) as context:
        return context.run(function)


class Runs(Protocol):
    """Who is told of the model runs that a `Capture` sees."""

    def begins(self, run: UUID) -> None:
        """A run is about to begin; what this raises keeps it from doing so."""
        ...

    def ends(self, run: UUID, message: AIMessage | None) -> None:
        """A run has given its answer; `None` = one of another kind."""
        ...

    def fails(self, run: UUID, error: BaseException) -> None:
        """A run has failed, or was cancelled or left."""
        ...


class Capture(BaseCallbackHandler):
    """Watches the model runs inside a runnable whose result is no message, for what they take and how they end.

    There is more than one run where a middleware further in calls on several times.

    Args:
        routed: Whether the model is itself routed: then each of its calls is a run, by the chain run that it opens.
    """

    run_inline = True  # in asynchronous code too: the usage must be there when the call returns
    raise_error = True  # a run that nobody can pay must not begin
    ignore_retriever = True
    ignore_agent = True

    def __init__(self, *, routed: bool = False) -> None:
        self.routed = routed
        self.messages: list[AIMessage | None] = []
        self.error: BaseException | None = None
        self.runs: Runs | None = None

    @property
    def ignore_chain(self) -> bool:
        """Whether chain runs are of no interest, as where the model opens a run of its own kind."""
        return not self.routed

    @property
    def ignore_llm(self) -> bool:
        """As `ignore_chain`, of the ends of model runs."""
        return self.routed

    @property
    def ignore_chat_model(self) -> bool:
        """As `ignore_llm`, of their beginnings."""
        return self.routed

    @property
    def answered(self) -> bool:
        """Whether any run has given an answer."""
        return any(message is not None for message in self.messages)

    def on_chat_model_start(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """A run is about to begin; without this method LangChain would call `on_llm_start` with a converted prompt."""
        if self.runs is not None:
            self.runs.begins(run_id)

    on_chain_start = on_chat_model_start

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """Keeps the answer of the model."""
        generation = response.generations[0][0] if response.generations and response.generations[0] else None
        self._ended(run_id, generation.message if isinstance(generation, ChatGeneration) else None)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        """Keeps the answer of a routed model."""
        self._ended(run_id, outputs.get("output") if isinstance(outputs, dict) else None)

    def _ended(self, run: UUID, answer: Any) -> None:
        message = answer if isinstance(answer, AIMessage) else None
        self.messages.append(message)
        if message is not None:
            self.error = None
        if self.runs is not None:
            self.runs.ends(run, message)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Keeps the failure of the model."""
        self.error = error
        if self.runs is not None:
            self.runs.fails(run_id, error)

    on_chain_error = on_llm_error
