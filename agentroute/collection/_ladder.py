"""The outcome log that ships with agentroute: three small models, eleven kinds of questions, every answer kept."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from agentroute.collection._answerers import Answer
from agentroute.collection._pool import PoolEntry, read_pool
from agentroute.collection._tasks import Task
from agentroute.outcomes import OutcomeTable
from agentroute.types import Usage

__all__ = ["Ladder", "load_ladder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """What three small models answered to generated questions; `scripts/ladder/README.md` says how it was made.

    Attributes:
        entries: The models, smallest first, with prices derived from processor time.
        tasks: The questions with their verifiers, by id.
        answers: The recorded answers, by model and task id.
        table: Their scores, costs and latencies, for fitting and evaluation.
    """

    entries: tuple[PoolEntry, ...]
    tasks: Mapping[str, Task]
    answers: Mapping[str, Mapping[str, Answer]]
    table: OutcomeTable


def load_ladder() -> Ladder:
    """Reads the log and the pool file that ship with the package."""
    data = resources.files("agentroute") / "data"
    tasks: dict[str, Task] = {}
    answers: dict[str, dict[str, Answer]] = {}
    with resources.as_file(data / "ladder.jsonl.gz") as path:
        table = OutcomeTable.from_jsonl(path)
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                name = row["query_id"]
                if name not in tasks:
                    fields = {key: row[key] for key in ("prompt", "verifier", "task", "max_tokens")}
                    tasks[name] = Task(id=name, **fields)
                answers.setdefault(row["model"], {})[name] = Answer(
                    text=row["answer"],
                    usage=Usage(input_tokens=row["input_tokens"], output_tokens=row["output_tokens"]),
                    latency=row["latency_s"],
                    cpu_seconds=row["cpu_seconds"],
                    logprob=row["logprob"],
                    finish=row["finish"],
                )
    with resources.as_file(data / "ladder-pool.toml") as path:
        entries = read_pool(path)
    return Ladder(entries=entries, tasks=tasks, answers=answers, table=table)
