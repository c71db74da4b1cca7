"""Turns the collected log into what ships: `agentroute/data/ladder.jsonl.gz` and the pool file `ladder-pool.toml`.

Run `python scripts/ladder/export.py ladder.sqlite`; see the README beside this file for where the log comes from and what
the prices mean. The same log gives the same bytes.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agentroute.local import local_model
from agentroute.outcomes import SqliteOutcomeLog
from agentroute.types import Outcome, Price

USD_PER_CORE_HOUR = 0.05
"""Declared, not measured: about what a rented core costs in 2026. All costs of the ladder scale with it."""

LADDER = ("smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
CONTEXT = 2048
DATA = Path(__file__).resolve().parents[2] / "agentroute" / "data"


def seconds_per_token(tokens: npt.NDArray[np.float64], seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Non-negative least squares of processor seconds on input and output tokens, [n, 2] and [n] to [2]."""
    both = np.linalg.lstsq(tokens, seconds, rcond=None)[0]
    if (both >= 0).all():
        return both
    # With two variables, the constrained optimum lies on the better of the two axes.
    axes = [np.array([tokens[:, j] @ seconds / (tokens[:, j] @ tokens[:, j]) * (i == j) for i in (0, 1)]) for j in (0, 1)]
    return min(axes, key=lambda rate: float(np.square(tokens @ rate - seconds).sum()))


def price_of(outcomes: list[Outcome]) -> tuple[Price, float]:
    """USD per million tokens from processor seconds at the declared rate, and the share of their variance explained."""
    tokens = np.array([[one.usage.input_tokens, one.usage.output_tokens] for one in outcomes if one.usage], dtype=np.float64)
    seconds = np.array([one.metadata["cpu_seconds"] for one in outcomes], dtype=np.float64)
    rate = seconds_per_token(tokens, seconds)
    explained = 1.0 - float(np.square(seconds - tokens @ rate).sum() / np.square(seconds - seconds.mean()).sum())
    usd = [float(f"{value * USD_PER_CORE_HOUR / 3600 * 1e6:.3g}") for value in rate]
    return Price(input=usd[0], output=usd[1]), explained


def rows(answers: Mapping[str, Mapping[str, Outcome]], prices: Mapping[str, Price]) -> Iterable[dict[str, Any]]:
    """One row for each task and model, ordered by both."""
    for query_id in sorted(answers):
        for model in LADDER:
            one = answers[query_id][model]
            assert one.usage is not None
            yield {
                "query_id": query_id,
                "task": one.query.task,
                "prompt": one.query.text,
                "model": model,
                "score": one.quality,
                "cost_usd": round(prices[model].cost(one.usage), 9),
                # The time of one call on an idle core: the collecting machine was shared, so its clock says less.
                "latency_s": round(one.metadata["cpu_seconds"], 4),
                "input_tokens": one.usage.input_tokens,
                "output_tokens": one.usage.output_tokens,
                "logprob": None if one.metadata["logprob"] is None else round(one.metadata["logprob"], 6),
                "cpu_seconds": round(one.metadata["cpu_seconds"], 4),
                "finish": one.metadata["finish"],
                "answer": one.metadata["answer"],
                "verifier": one.metadata["verifier"],
                "max_tokens": one.metadata["max_tokens"],
            }


def pool_file(prices: Mapping[str, Price], queries: int) -> str:
    """The pool of the ladder in TOML."""
    text = (
        "# The models of the shipped log. Written by scripts/ladder/export.py; do not edit.\n"
        f"# Prices: USD per million tokens, from processor seconds over {queries} questions by non-negative least squares,\n"
        f"# at {USD_PER_CORE_HOUR} USD per core hour.\n"
    )
    for model in LADDER:
        known, price = local_model(model), prices[model]
        text += (
            f'\n[[models]]\nid = "{model}"\nlocal = "{model}"\n'
            f"price = {{ input = {price.input}, output = {price.output} }}\n"
            f"context_window = {CONTEXT}\n"
            'capabilities = ["structured_output"]\nprovider = "local"\n'
            f'tags = {{ licence = "{known.licence}" }}\ndescription = "{known.title}"\n'
        )
    return text


def main(log_path: str, folder: str | Path = DATA) -> None:
    """Writes both files and prints what is in them."""
    answers: dict[str, dict[str, Outcome]] = {}
    with SqliteOutcomeLog(log_path, store_prompts=True) as log:
        for outcome in log:
            if outcome.error is None and outcome.quality is not None:
                answers.setdefault(outcome.query.key(), {})[outcome.model] = outcome
    # A question counts when all models have answered it: means over different questions cannot be compared.
    answers = {query_id: found for query_id, found in answers.items() if found.keys() >= set(LADDER)}
    prices = {}
    for model in LADDER:
        own = [found[model] for found in answers.values()]
        prices[model], explained = price_of(own)
        mean = np.mean([one.quality for one in own])
        print(f"{model}: quality {mean:.3f}, price {prices[model].input} / {prices[model].output}, R2 {explained:.3f}")
    packed = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(answers, prices)).encode()
    Path(folder, "ladder.jsonl.gz").write_bytes(gzip.compress(packed, compresslevel=9, mtime=0))
    Path(folder, "ladder-pool.toml").write_text(pool_file(prices, len(answers)), encoding="utf-8")
    size = Path(folder, "ladder.jsonl.gz").stat().st_size
    print(f"{len(answers)} questions, {len(answers) * len(LADDER)} rows, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
