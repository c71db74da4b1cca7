"""LangChain's chat models as judges: what `agentroute.scorers` asks, a chat model answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, get_executor_for_config, merge_configs

from agentroute.errors import ConfigError
from agentroute.types import Price, Reply
from langchain_agentroute._candidates import Target, flatten
from langchain_agentroute._holding import unseen
from langchain_agentroute._record import billed, usage_of
from langchain_agentroute._replies import reply_of

__all__ = ["ChatAsker", "asker"]

# How the providers' chat models call the limit of an answer.
_LIMITS = ("max_tokens", "max_output_tokens", "num_predict", "max_new_tokens")
_TOP = 5


class ChatAsker:
    """A chat model that answers the questions of scorers; made by `asker`."""

    def __init__(self, target: Target, price: Price | None) -> None:
        self._target = target
        self._price = price

    def ask(
        self,
        prompt: str,
        /,
        *,
        samples: int = 1,
        max_tokens: int = 256,
        temperature: float = 0.0,
        logprobs: bool = False,
        schema: Mapping[str, Any] | None = None,  # noqa: ARG002  # scorers read strictly anyhow
    ) -> Sequence[Reply]:
        """The model's replies to one user message; see `agentroute.scorers.Asker`."""
        chat = self._chat(samples, max_tokens, temperature, logprobs=logprobs)
        config = self._config()
        if samples == 1:
            return [self._ask(chat, prompt, config)]
        with get_executor_for_config(config) as executor:
            return list(executor.map(lambda _: self._ask(chat, prompt, config), range(samples)))

    async def aask(
        self,
        prompt: str,
        /,
        *,
        samples: int = 1,
        max_tokens: int = 256,
        temperature: float = 0.0,
        logprobs: bool = False,
        schema: Mapping[str, Any] | None = None,  # noqa: ARG002  # as in ask
    ) -> Sequence[Reply]:
        """As `ask`, all samples at once."""
        chat = self._chat(samples, max_tokens, temperature, logprobs=logprobs)
        config = self._config()
        return await asyncio.gather(*(self._aask(chat, prompt, config) for _ in range(samples)))

    def _ask(self, chat: BaseChatModel, prompt: str, config: RunnableConfig) -> Reply:
        started = time.perf_counter()
        message = chat.invoke([HumanMessage(prompt)], config, **self._target.kwargs)
        return self._reply(message, started)

    async def _aask(self, chat: BaseChatModel, prompt: str, config: RunnableConfig) -> Reply:
        started = time.perf_counter()
        message = await chat.ainvoke([HumanMessage(prompt)], config, **self._target.kwargs)
        return self._reply(message, started)

    def _chat(self, samples: int, max_tokens: int, temperature: float, *, logprobs: bool) -> BaseChatModel:
        """The model with these settings, as far as it has them: each provider has fields of its own, and no common arguments."""
        chat = self._target.chat
        fields = type(chat).model_fields
        update: dict[str, Any] = {"disable_streaming": True}
        limit = next((name for name in _LIMITS if name in fields), None)
        if limit is not None:
            update[limit] = max_tokens
        if "temperature" in fields:
            update["temperature"] = temperature
        if "streaming" in fields:
            update["streaming"] = False
        if logprobs and "logprobs" in fields:
            update["logprobs"] = True
            if "top_logprobs" in fields:
                update["top_logprobs"] = _TOP
        if samples > 1:
            # A cache would give the same reply again and call it another one.
            update["cache"] = False
        return chat.model_copy(update=update)

    def _config(self) -> RunnableConfig:
        config = unseen(ensure_config())
        return merge_configs(self._target.config, config) if self._target.config else config

    def _reply(self, message: AIMessage, started: float) -> Reply:
        usage = usage_of(message.usage_metadata)
        cost = billed(message.usage_metadata, usage, self._price)
        return reply_of(message, usage=usage, cost=cost, latency=time.perf_counter() - started)

    def __repr__(self) -> str:
        """The model's kind and name."""
        return f"asker({self._target.name})"


def asker(model: Any, *, price: Price | None = None) -> ChatAsker:
    """Lets a LangChain chat model judge: an asker for the scorers of `agentroute.scorers` that ask a model.

    Its runs show in traces below the answer that is judged, and count where usage is counted; no user's stream shows them.

    ```python
    judge = LLMJudge(asker(ChatOpenAI(model="judge"), price=Price(input=0.15, output=0.6)))
    model = CascadeChatModel(models={"small": small, "large": large}, judge=judge)
    ```

    Args:
        model: A chat model; `.bind(...)` around it is kept. The length and temperature that a scorer asks for are set
            on a copy of it, where the model has fields for them.
        price: Its price; `None` = what it costs is unknown.

    Raises:
        ConfigError: It is no chat model.
    """
    chat, kwargs, config = flatten(model)
    if not isinstance(chat, BaseChatModel):
        raise ConfigError(f"{type(chat).__name__} is no chat model: pass one, such as ChatOpenAI(...)")
    name = next((value for value in (getattr(chat, one, None) for one in ("model_name", "model")) if value), type(chat).__name__)
    return ChatAsker(Target(name=str(name), chat=chat, runnable=chat, kwargs=kwargs, config=config), price)
