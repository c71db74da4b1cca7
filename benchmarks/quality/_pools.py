"""The outcome tables of the quality benchmark: other people's logs, read where they lie, and any table of a user's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agentroute.embedders import StaticEmbedder
from agentroute.evaluation import Fold
from agentroute.outcomes import OutcomeTable
from agentroute.types import Query

# Priced set-ups of the function-calling leaderboard, one for each model, without those that fail on output format alone.
BFCL15 = (
    "claude-3-5-sonnet-20240620", "gpt-4-0613", "gpt-4-1106-preview", "gpt-4-0125-preview", "claude-3-opus-20240229",
    "gpt-4o-mini-2024-07-18", "gpt-4-turbo-2024-04-09", "gpt-4o-2024-08-06-FC", "mistral-medium-2312", "claude-3-sonnet-20240229",
    "gemini-1.5-pro-preview-0514", "gemini-1.5-flash-preview-0514", "open-mixtral-8x22b", "command-r-plus",
    "claude-3-haiku-20240307",
)  # fmt: skip
OUTSIDE = ("MATH_prealgebra", "mbpp", "ceval", "javascript")
"""The task families that RouterDC keeps out of training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A table with its vectors, and where it is from."""

    name: str
    table: OutcomeTable
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Random 70/30 splits by query, seeds 100, 101 ...: the same for a table with labels and without, and for every peer."""

    seeds: int

    def folds(self, table: OutcomeTable, /) -> Iterator[Fold]:
        places: dict[str, int] = {}
        at = np.array([places.setdefault(query.key(), len(places)) for query in table.queries])
        for seed in range(self.seeds):
            order = np.random.default_rng(100 + seed).permutation(len(places))
            test = np.isin(at, order[: round(0.3 * len(places))])
            yield Fold(name=f"seed {seed}", train=table.take(~test), test=table.take(test))


def pools(folder: Path, files: list[Path]) -> Iterator[Pool]:
    """The tables of a folder, or else the named files."""
    if files:
        for file in files:
            yield Pool(name=file.name.split(".")[0], table=embedded(read(file)), origin=f"`{file.name}`")
        return
    yield Pool(name="rb11", table=embedded(shared(folder, "routerbench_zs")), origin="RouterBench, 3 tasks, 11 models")
    bfcl = shared(folder, "bfcl_v2")
    yield Pool(name="bfcl15", table=embedded(bfcl.select(BFCL15)), origin="function calling, 12 categories, 15 of 71 set-ups")
    yield Pool(name="bfcl71", table=embedded(bfcl), origin="function calling, all 71 set-ups")
    routerdc = embedded(shared(folder, "routerdc7"))
    yield Pool(name="rdc7", table=of(routerdc, outside=False), origin="RouterDC, 6 tasks, 7 open models of 7-8B")
    yield Pool(name="rdc7-ood", table=of(routerdc, outside=True), origin="RouterDC's 4 outside tasks, trained on themselves here")
    pair = embedded(shared(folder, "routellm_gsm8k_mmlu"))
    gsm8k = np.array([query.task == "gsm8k" for query in pair.queries])
    yield Pool(name="gsm8k", table=pair.take(gsm8k), origin="RouteLLM's pair on GSM8K")
    yield Pool(name="mmlu", table=pair.take(~gsm8k), origin="RouteLLM's pair on MMLU, 57 subjects")
    yield Pool(
        name="mtbench", table=embedded(shared(folder, "routellm_mtbench")), origin="RouteLLM's pair on MT-Bench, 80 prompts"
    )
    yield Pool(name="cascade", table=cascade(folder), origin="Llama-3.1-8B and GPT-5 on 4 tasks, no prompts in the source")


def shared(folder: Path, name: str) -> OutcomeTable:
    return OutcomeTable.from_parquet(folder / f"{name}.outcomes.parquet")


def read(file: Path) -> OutcomeTable:
    """Any table in one of our formats."""
    readers = {
        (".jsonl", ".jsonl.gz"): OutcomeTable.from_jsonl,
        (".csv", ".csv.gz"): OutcomeTable.from_csv,
        (".parquet",): OutcomeTable.from_parquet,
    }
    for endings, reader in readers.items():
        if file.name.endswith(endings):
            return reader(file)
    msg = f"{file}: a table is a .jsonl, .jsonl.gz, .csv or .parquet file"
    raise SystemExit(msg)


def cascade(folder: Path) -> OutcomeTable:
    """The logged cascade as a table of two models; its questions are not in the source, only their tasks."""
    import pyarrow.parquet as pq

    rows = pq.read_table(folder / "cascade_8b_gpt5.parquet", columns=["query_id", "task", "slm_score", "llm_score"]).to_pylist()
    return OutcomeTable(
        queries=tuple(Query(text="", id=row["query_id"], task=row["task"], withheld=True) for row in rows),
        models=("llama-3.1-8b", "gpt-5"),
        quality=np.clip([[row["slm_score"], row["llm_score"]] for row in rows], 0.0, 1.0),
    )


def embedded(table: OutcomeTable) -> OutcomeTable:
    if table.withheld.all():
        return table  # there is nothing to make vectors from
    embedder = StaticEmbedder()
    return table.embedded(embedder.embed, embedder.fingerprint)


def of(table: OutcomeTable, *, outside: bool) -> OutcomeTable:
    return table.take([(query.task or "").startswith(OUTSIDE) == outside for query in table.queries])


def without_labels(table: OutcomeTable) -> OutcomeTable:
    """The same queries with nothing but their vectors to route by; each keeps its key, which may be made from its text."""
    return replace(table, queries=tuple(Query(text="", id=query.key(), withheld=query.withheld) for query in table.queries))
