"""CPU seconds that `diagnose` takes for logs of 4,999 and of 10,000 queries by seven models, on one core: file to verdict.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/evaluation/diagnose.py [QUERIES [MODELS]]

Prompts of about 45 words, each with a cost and a time; eight kinds of query, once told by a `task` and once by the words alone.
What is measured starts after the imports and ends with the words of the verdict.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from rich.table import Table

from agentroute.evaluation import diagnose
from agentroute.outcomes import OutcomeTable

KINDS, WORDS, LENGTH = 8, 3000, 40


def write_log(file: Path, queries: int, models: int, *, labelled: bool) -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(WORDS)])
    kind = rng.integers(0, KINDS, queries)
    ease = 0.15 * rng.standard_normal((queries, 1))
    chance = np.linspace(0.5, 0.75, models) + 0.15 * np.cos(kind[:, None] + np.arange(models)) + ease
    score = rng.random((queries, models)) < chance
    cost = np.geomspace(1e-4, 1e-2, models) * rng.uniform(0.5, 2.0, (queries, models))
    with file.open("w", encoding="utf-8") as out:
        for row in range(queries):
            text = " ".join(rng.choice(words, LENGTH)) + f" kind{kind[row]} topic{kind[row]} area{kind[row]}"
            for model in range(models):
                line = {
                    "query_id": f"q{row}",
                    "prompt": text,
                    "model": f"m{model}",
                    "score": int(score[row, model]),
                    "cost_usd": float(cost[row, model]),
                    "at": 1.7e9 + 60.0 * row,
                } | ({"task": f"task{kind[row]}"} if labelled else {})
                out.write(json.dumps(line) + "\n")


def stages(file: Path) -> tuple[list[tuple[str, float]], str]:
    marks: list[tuple[str, float]] = [("reading", time.process_time())]
    log = OutcomeTable.from_jsonl(file)

    def tell(what: str, _share: float) -> None:
        name = what.split(":", maxsplit=1)[0]
        if marks[-1][0] != name:
            marks.append((name, time.process_time()))

    headline = diagnose(log, progress=tell).headline
    marks.append(("all", time.process_time()))
    took = [(name, after - before) for (name, before), (_, after) in pairwise(marks)]
    return [*took, ("all", marks[-1][1] - marks[0][1])], headline


def main(queries: int | None = None, models: int = 7) -> None:
    """Of one size, or of two: the larger log is parted into fewer folds, and must still take longer."""
    for size in (4_999, 10_000) if queries is None else (queries,):
        measure(size, models)


def measure(queries: int, models: int) -> None:
    view = Table("stage", "with tasks, s", "words alone, s", title=f"diagnose: {queries:,} queries x {models} models")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for labelled in (True, False):
            file = Path(folder, "log.jsonl")
            write_log(file, queries, models, labelled=labelled)
            took, headline = stages(file)
            found[labelled] = dict(took)
            print(headline)
    for name in found[True]:
        view.add_row(name, f"{found[True][name]:.2f}", f"{found[False][name]:.2f}")
    Console().print(view)


if __name__ == "__main__":
    main(*(int(one) for one in sys.argv[1:]))
