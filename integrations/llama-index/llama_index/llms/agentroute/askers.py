"""LlamaIndex's LLMs as judges: what `agentroute.scorers` asks, an LLM answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.llms import LLM

from agentroute.errors import ConfigError
from agentroute.serving import priced
from agentroute.types import Price, Reply
from llama_index.llms.agentroute._replies import reply_of
from llama_index.llms.agentroute._usage import usage_of

__all__ = ["LLMAsker", "asker"]

# How the providers' LLMs call the limit of an answer.
_LIMITS = ("max_tokens", "max_output_tokens", "num_predict", "max_new_tokens")
_TOP = 5


class LLMAsker:
    """An LLM that answers the questions of scorers; made by `asker`."""

    def __init__(self, llm: LLM, price: Price | None) -> None:
        self._llm = llm
        self._price = price
        # One for each way of asking, so that each keeps its connections.
        self._set: dict[tuple[int, float, bool], LLM] = {}

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
        """The LLM's replies to one user message; see `agentroute.scorers.Asker`."""
        llm = self._with(max_tokens, temperature, logprobs=logprobs)
        if samples == 1:
            return [self._ask(llm, prompt)]
        with ThreadPoolExecutor(max_workers=min(samples, 8)) as pool:
            asked = [pool.submit(copy_context().run, self._ask, llm, prompt) for _ in range(samples)]
            return [one.result() for one in asked]

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
        llm = self._with(max_tokens, temperature, logprobs=logprobs)
        return await asyncio.gather(*(self._aask(llm, prompt) for _ in range(samples)))

    def _ask(self, llm: LLM, prompt: str) -> Reply:
        started = time.perf_counter()
        return self._reply(llm.chat([_said(prompt)]), started)

    async def _aask(self, llm: LLM, prompt: str) -> Reply:
        started = time.perf_counter()
        return self._reply(await llm.achat([_said(prompt)]), started)

    def _reply(self, response: Any, started: float) -> Reply:
        usage = usage_of(response)
        cost = priced(usage, self._price)
        return replace(reply_of(response), usage=usage, cost=cost, latency=time.perf_counter() - started)

    def _with(self, max_tokens: int, temperature: float, *, logprobs: bool) -> LLM:
        """The LLM with these settings, as far as it has them: each provider has fields of its own, and no common arguments."""
        key = (max_tokens, temperature, logprobs)
        if key not in self._set:
            fields = type(self._llm).model_fields
            update: dict[str, Any] = {}
            limit = next((name for name in _LIMITS if name in fields), None)
            if limit is not None:
                update[limit] = max_tokens
            if "temperature" in fields:
                update["temperature"] = temperature
            if logprobs and "logprobs" in fields:
                update |= {"logprobs": True, **({"top_logprobs": _TOP} if "top_logprobs" in fields else {})}
            self._set[key] = self._llm.model_copy(update=update)
        return self._set[key]

    def __repr__(self) -> str:
        """The model's name."""
        return f"asker({self._llm.metadata.model_name})"


def _said(prompt: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.USER, content=prompt)


def asker(llm: LLM, *, price: Price | None = None) -> LLMAsker:
    """Lets a LlamaIndex LLM judge: an asker for the scorers of `agentroute.scorers` that ask a model.

    Its calls are LLM calls like any other in traces and token counts.

    ```python
    judge = LLMJudge(asker(OpenAILike(model="judge", is_chat_model=True), price=Price(input=0.15, output=0.6)))
    llm = CascadeLLM(llms={"small": small, "large": large}, judge=judge)
    ```

    Args:
        llm: The LLM. The length and temperature that a scorer asks for are set on a copy of it, where it has fields for them.
        price: Its price; `None` = what it costs is unknown.

    Raises:
        ConfigError: It is no LLM.
    """
    if not isinstance(llm, LLM):
        raise ConfigError(f"{type(llm).__name__} is no LLM: pass one, such as OpenAILike(...)")
    return LLMAsker(llm, price)
