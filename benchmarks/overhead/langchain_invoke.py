"""What `RoutedChatModel.invoke` adds to a direct `invoke` of the same model, with no callback handler attached.

The model is a fake that answers at once. The router is a rule, so that neither embedding nor search is in the figure; a second
figure has an outcome log, in memory and behind its queue; a third a kNN router over 1,000 logged queries of 256 dimensions, whose
embedder gives a vector computed before. Direct and routed calls alternate, so that all see the same machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from langchain_core.language_models.fake_chat_models import FakeListChatModel

from agentroute.embedders import CallableEmbedder
from agentroute.outcomes import MemoryOutcomeLog, OutcomeTable
from agentroute.router import Router
from agentroute.types import Outcome, Query
from langchain_agentroute import RoutedChatModel

CALLS = 3000


def timed(call: Callable[[str], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    call("What is the capital of France?")
    return time.perf_counter() - started


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


def main() -> None:
    """Prints the medians."""
    models = {"small": FakeListChatModel(responses=["Paris."]), "large": FakeListChatModel(responses=["Paris, of course."])}

    def rule(query: object) -> str:  # noqa: ARG001  # a rule takes the query
        return "small"

    routed = RoutedChatModel(models=models, router=rule)
    logged = RoutedChatModel(models=models, router=rule, outcome_log=MemoryOutcomeLog())
    calls: dict[str, Callable[[str], object]] = {
        "direct": models["small"].invoke,
        "routed": routed.invoke,
        "routed, logged": logged.invoke,
        "routed, learned": RoutedChatModel(models=models, router=learned()).invoke,
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(200):
            timed(call)
    for _ in range(CALLS):
        for name, call in calls.items():
            seconds[name].append(timed(call))
    direct = statistics.median(seconds["direct"])
    for name, taken in seconds.items():
        p50 = statistics.median(taken)
        print(f"{name:15} p50 {p50 * 1e3:.3f} ms   {p50 / direct:.2f} times direct   adds {(p50 - direct) * 1e3:+.3f} ms")


if __name__ == "__main__":
    main()
