"""Quality of the kNN router on logged outcomes of other people's models, beside plain kNN, the label table and the bounds.

    python benchmarks/quality/open_pools.py [FOLDER]

FOLDER holds `routerbench_zs`, `bfcl_v2`, `routerdc7` and `routellm_gsm8k_mmlu` as `NAME.outcomes.parquet`; the default is
`../shared/data`. Five random 70/30 splits by query, one fixed configuration (all defaults) for every pool. Two ways to route:
by text alone, and with the log's task label as a feature. `dacc` is quality less that of the best single model, in points;
`c@95` and `c@98` the cost, as a share of the best single model's, at which 95 or 98 % of its quality are reached.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from agentroute.embedders import StaticEmbedder
from agentroute.estimators import KNNEstimator
from agentroute.outcomes import OutcomeTable
from agentroute.types import Query

SPLITS = 5
LAMBDAS = np.r_[0.0, np.logspace(-4, 3, 71)]
# Priced set-ups of the function-calling leaderboard, one for each model, without those that fail on output format alone.
BFCL15 = (
    "claude-3-5-sonnet-20240620", "gpt-4-0613", "gpt-4-1106-preview", "gpt-4-0125-preview", "claude-3-opus-20240229",
    "gpt-4o-mini-2024-07-18", "gpt-4-turbo-2024-04-09", "gpt-4o-2024-08-06-FC", "mistral-medium-2312", "claude-3-sonnet-20240229",
    "gemini-1.5-pro-preview-0514", "gemini-1.5-flash-preview-0514", "open-mixtral-8x22b", "command-r-plus",
    "claude-3-haiku-20240307",
)  # fmt: skip


def pools(folder: Path) -> Iterator[tuple[str, OutcomeTable]]:
    """Every pool with its vectors."""
    embedder = StaticEmbedder()

    def read(name: str) -> OutcomeTable:
        table = OutcomeTable.from_parquet(folder / f"{name}.outcomes.parquet")
        return table.with_embeddings(embedder.embed([query.text for query in table.queries]), embedder.fingerprint)

    def where(table: OutcomeTable, keep) -> OutcomeTable:
        return table.take(np.flatnonzero([keep(query.task) for query in table.queries]))

    yield "rb11", read("routerbench_zs")
    yield "bfcl15", read("bfcl_v2").select(list(BFCL15))
    ood = {"MATH_prealgebra", "mbpp", "ceval", "javascript"}
    yield "rdc7", where(read("routerdc7"), lambda task: not any(task.startswith(one) for one in ood))
    pair = read("routellm_gsm8k_mmlu")
    yield "gsm8k", where(pair, lambda task: task == "gsm8k")
    yield "mmlu", where(pair, lambda task: task != "gsm8k")


def without_labels(table: OutcomeTable) -> OutcomeTable:
    return replace(table, queries=tuple(Query(text="", id=query.id) for query in table.queries))


def asked(table: OutcomeTable) -> list[Query]:
    return [replace(q, embedding=v, fingerprint=table.fingerprint) for q, v in zip(table.queries, table.embeddings, strict=True)]


def realised(values: np.ndarray, picks: np.ndarray) -> float:
    return float(np.nanmean(values[np.arange(len(values)), picks]))


def hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Upper concave non-decreasing hull of (cost, quality), as RouterBench (arXiv:2403.12031, section 3.2)."""
    found: list[tuple[float, float]] = []
    for cost, quality in sorted(points):
        if found and quality <= found[-1][1]:
            continue
        while len(found) > 1:
            (c0, q0), (c1, q1) = found[-2:]
            if (q1 - q0) * (cost - c0) > (quality - q0) * (c1 - c0):
                break
            found.pop()
        found.append((cost, quality))
    return found


def cost_at(points: list[tuple[float, float]], target: float) -> float:
    line = hull(points)
    if line[0][1] >= target:
        return line[0][0]
    for (c0, q0), (c1, q1) in pairwise(line):
        if q1 >= target:
            return c0 + (target - q0) / (q1 - q0) * (c1 - c0)
    return float("nan")


def curve(estimate, test: OutcomeTable, best: int) -> list[tuple[float, float]]:
    unit = float(np.nanmean(test.cost[:, best]))
    cheapest = int(np.nanmean(test.cost, axis=0).argmin())
    points = [(float(np.nanmean(test.cost[:, cheapest])), float(np.nanmean(test.quality[:, cheapest])))]
    for weight in LAMBDAS:
        picks = (estimate.quality - weight * estimate.cost / unit).argmax(axis=1)
        points.append((realised(test.cost, picks), realised(test.quality, picks)))
    return points


ROUTERS = {
    "agentroute kNN": (KNNEstimator, False),
    "agentroute kNN + task label": (KNNEstimator, True),
    "plain kNN, k=10": (lambda: KNNEstimator(k=10, width=1e6, prior_weight=1e-9, label_counts=np.inf), False),
    "label table": (lambda: KNNEstimator(k=1, width=1.0, prior_weight=np.inf), True),
}


def main(folder: Path) -> None:
    console = Console()
    if not (folder / "routerbench_zs.outcomes.parquet").exists():
        console.print(f"no outcome data in {folder}: nothing to measure")
        return
    view = Table(
        "pool", "router", "quality", "dacc", "worst split", "c@98", "c@95", title="Quality, mean of five random 70/30 splits"
    )
    for name, table in pools(folder):
        rows: dict[str, list[list[float]]] = {}
        for split in range(SPLITS):
            order = np.random.default_rng(100 + split).permutation(len(table))
            count = round(0.3 * len(table))
            test, train = table.take(np.sort(order[:count])), table.take(np.sort(order[count:]))
            best = int(np.nanmean(train.quality, axis=0).argmax())
            single, priced = realised(test.quality, np.full(count, best)), np.isfinite(test.cost).all() and len(table.models) > 2
            unit = float(np.nanmean(test.cost[:, best])) if priced else np.nan
            hulls = (
                [
                    (float(c), float(q))
                    for c, q in zip(np.nanmean(test.cost, axis=0), np.nanmean(test.quality, axis=0), strict=True)
                ]
                if priced
                else []
            )
            rows.setdefault("best single", []).append(
                [single, 0.0, *((cost_at(hulls, share * single) / unit if priced else np.nan) for share in (0.98, 0.95))]
            )
            for label, (make, labelled) in ROUTERS.items():
                fit_on, ask = (train, test) if labelled else (without_labels(train), without_labels(test))
                estimate = make().fit(fit_on).predict(asked(ask))
                # Ties within 1e-6 go to the better training mean.
                rank = np.round(estimate.quality, 6) + 1e-9 * np.nanmean(train.quality, axis=0)
                quality = realised(test.quality, rank.argmax(axis=1))
                points = curve(estimate, test, best) if priced else []
                rows.setdefault(label, []).append(
                    [
                        quality,
                        100 * (quality - single),
                        *((cost_at(points, s * single) / unit if priced else np.nan) for s in (0.98, 0.95)),
                    ]
                )
            rows.setdefault("oracle", []).append([float(np.nanmax(test.quality, axis=1).mean()), np.nan, np.nan, np.nan])
        for label, lines in rows.items():
            values = np.array(lines)
            mean = [f"{v:.3f}" if np.isfinite(v) else "" for v in values.mean(axis=0)]
            worst = f"{values[:, 1].min():+.2f}" if np.isfinite(values[0, 1]) else ""
            dacc = f"{values[:, 1].mean():+.2f}" if np.isfinite(values[0, 1]) else ""
            view.add_row(name, label, mean[0], dacc, worst, mean[2], mean[3])
        view.add_section()
    console.print(view)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"))
