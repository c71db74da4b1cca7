"""Time of the shipped embedder: load, one query at a time, a batch, and model2vec's own `encode` on the same texts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from model2vec import StaticModel

from agentroute.embedders import SHIPPED_FOLDER, StaticEmbedder

CALLS = 500
TEXTS = {
    "a question": "How do I reset my password when I have lost my phone?",
    "a page": "The contract ends on the last day of March unless both sides agree in writing to go on. " * 40,
    "a megabyte": "The contract ends on the last day of March unless both sides agree in writing to go on. " * 12_000,
}


def median(call: Callable[[], object], calls: int = CALLS) -> float:
    """Seconds of one call."""
    taken = []
    for _ in range(calls):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def main() -> None:
    started = time.perf_counter()
    embedder = StaticEmbedder()
    embedder.embed([""])
    print(f"load, once                      {time.perf_counter() - started:9.3f} s")
    for name, text in TEXTS.items():
        print(f"one query, {name:20} {1e6 * median(lambda text=text: embedder.embed([text])):9.1f} µs")
    batch = [f"{number}: {TEXTS['a question']}" for number in range(1_000)]
    theirs = StaticModel.from_pretrained(SHIPPED_FOLDER)
    print(f"1,000 questions in a batch      {1e3 * median(lambda: embedder.embed(batch), 20):9.1f} ms")
    print(f"one query, model2vec's encode   {1e6 * median(lambda: theirs.encode([TEXTS['a question']])):9.1f} µs")
    print(f"1,000 questions, model2vec's    {1e3 * median(lambda: theirs.encode(batch), 20):9.1f} ms")


if __name__ == "__main__":
    main()
