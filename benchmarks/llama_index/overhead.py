"""What `RoutedLLM` adds to a direct `chat` of LlamaIndex's `MockLLM`, with no event handler attached.

The router is a rule, so that no embedding is in the figures. Where a context window is known, the prompt (six words) is counted
too. One figure has an outcome log, in memory and behind its queue; one a kNN router over 1,000 logged queries of 256 dimensions,
whose embedder gives a vector computed before. Direct and routed calls alternate, so that all see the same machine.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from llama_index.core.base.llms.types import ChatMessage, LLMMetadata, MessageRole
from llama_index.core.llms import MockLLM

from agentroute.embedders import CallableEmbedder
from agentroute.outcomes import MemoryOutcomeLog, OutcomeTable
from agentroute.router import Router
from agentroute.types import ModelCard, Outcome, Query
from llama_index.llms.agentroute import RoutedLLM

CALLS = 2000
ASKED = [ChatMessage(role=MessageRole.USER, content="What is the capital of France?")]


class Mock(MockLLM):
    """LlamaIndex's own, but that it does not tell its default window of 3,900 tokens."""

    @property
    def metadata(self) -> LLMMetadata:
        """No window."""
        return LLMMetadata(context_window=0, num_output=-1)


def learned() -> Router:
    """A fitted kNN router whose embeddings cost next to nothing."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1000, 256)).astype(np.float32)
    table = OutcomeTable.from_outcomes(
        Outcome(query=Query(text=str(row)), model=model, quality=float(rng.random()), cost=0.001, latency=0.1)
        for row in range(len(vectors))
        for model in ("small", "large")
    )
    embedder = CallableEmbedder(lambda texts: vectors[: len(texts)], name="constant", revision="1", dimension=256)
    return Router(["small", "large"], embedder=embedder).fit(table)


def candidates() -> dict[str, Any]:
    """Every LLM that is measured."""
    llms = {"small": Mock(), "large": Mock()}
    cards = [ModelCard(id=name, context_window=128_000) for name in llms]

    def rule(query: object) -> str:  # noqa: ARG001  # a rule takes the query
        return "small"

    return {
        "direct": llms["small"],
        "routed": RoutedLLM(llms=llms, router=rule),
        "routed, windows known": RoutedLLM(llms=llms, router=rule, cards=cards),
        "routed, logged": RoutedLLM(llms=llms, router=rule, outcome_log=MemoryOutcomeLog()),
        "routed, learned": RoutedLLM(llms=llms, router=learned()),
    }


def timed(call: Callable[[list[ChatMessage]], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    call(ASKED)
    return time.perf_counter() - started


def measure(asked: dict[str, Any]) -> dict[str, list[float]]:
    """Seconds of each call of `chat`."""
    seconds: dict[str, list[float]] = {name: [] for name in asked}
    for turn in range(CALLS + 200):
        for name, llm in asked.items():
            taken = timed(llm.chat)
            if turn >= 200:
                seconds[name].append(taken)
    return seconds


async def ameasure(asked: dict[str, Any]) -> dict[str, list[float]]:
    """Seconds of each call of `achat`, one after the other."""
    seconds: dict[str, list[float]] = {name: [] for name in asked}
    for turn in range(CALLS + 200):
        for name, llm in asked.items():
            started = time.perf_counter()
            await llm.achat(ASKED)
            if turn >= 200:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def show(door: str, seconds: dict[str, list[float]]) -> None:
    """Prints the medians."""
    direct = statistics.median(seconds["direct"])
    for name, taken in seconds.items():
        p50 = statistics.median(taken)
        print(
            f"{door:5} {name:22} p50 {p50 * 1e3:.3f} ms   {p50 / direct:5.2f} times direct   adds {(p50 - direct) * 1e3:+.3f} ms"
        )


def main() -> None:
    """Prints the figures of `chat` and `achat`."""
    asked = candidates()
    show("chat", measure(asked))
    show("achat", asyncio.run(ameasure(asked)))


if __name__ == "__main__":
    main()
