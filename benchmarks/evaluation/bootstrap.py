"""CPU seconds for a bootstrap interval of each metric: 10,000 resamples of 10,000 queries, on one core.

    OPENBLAS_NUM_THREADS=1 python benchmarks/evaluation/bootstrap.py [QUERIES [RESAMPLES]]

Seven models, scores of 0 and 1. `drawing` is the resampling alone, which every row includes. `ties` are scores of 20 values.
Calibration is of one model; a row that says so is of all seven at once.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from rich.table import Table

from agentroute.evaluation import Statistic, bootstrap, metrics

MODELS, POINTS = 7, 40


def statistics(queries: int) -> dict[str, Statistic]:
    rng = np.random.default_rng(0)
    skill = np.linspace(0.5, 0.8, MODELS)
    ease = rng.normal(0.0, 0.2, (queries, 1))
    predicted = np.clip(skill + ease, 0.0, 1.0)
    quality = (rng.random((queries, MODELS)) < predicted).astype(np.float64)
    cost = rng.gamma(2.0, 0.5, (queries, MODELS)) * np.geomspace(1e-4, 1e-2, MODELS)
    chosen = rng.integers(0, MODELS, queries)
    shares = rng.dirichlet(np.ones(MODELS), queries)
    weak, strong = quality[:, 0], quality[:, -1]
    score, tied = rng.random(queries), rng.integers(0, 20, queries).astype(np.float64)
    # A curve of many operating points: the dearer the model, the likelier it is chosen.
    mixes = np.sort(rng.integers(0, MODELS, (queries, POINTS)), axis=1)
    curve = np.stack([np.take_along_axis(part, mixes, axis=1) for part in (cost, quality)])

    def curves(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        points = np.stack([metrics.mean(part, weights=weights) for part in curve], axis=-1)
        # From the curve's own cheapest point, which is dearer than the cheapest model, to the dearest model.
        return points, points[:, :, 0].min(axis=1), metrics.mean(cost, weights=weights).max(axis=1)

    def of(metric: Callable, *given: object, **options: object) -> Statistic:
        return lambda weights: metric(*given, **options, weights=weights)

    one, seen = predicted[:, 0], quality[:, 0]
    return {
        "drawing": lambda weights: weights[:, 0],
        "mean": of(metrics.mean, metrics.realised(cost, chosen)),
        "mu": of(metrics.mu, quality, chosen),
        "vr": of(metrics.vr, quality, chosen, 0.9),
        "vb": of(metrics.vb, quality, chosen),
        "entropy": of(metrics.entropy, shares),
        "oracle_mix": of(metrics.oracle_mix, quality, 0.5),
        "oracle_equivalent": of(metrics.oracle_equivalent, quality, chosen),
        "gap_recovered": of(metrics.gap_recovered, quality, chosen, MODELS - 1),
        "regret": of(metrics.regret, quality, chosen, cost=cost, willingness_to_pay=0.1),
        "apgr": of(metrics.apgr, score, weak, strong),
        "apgr, ties": of(metrics.apgr, tied, weak, strong),
        "cpt": of(metrics.cpt, score, weak, strong, 0.8),
        "cpt, ties": of(metrics.cpt, tied, weak, strong, 0.8),
        f"aiq of {POINTS} points": lambda weights: metrics.aiq(*curves(weights)),
        f"aiq of {POINTS} points, log": lambda weights: metrics.aiq(*curves(weights), log=True),
        f"area of {POINTS} points": lambda weights: metrics.area(*curves(weights)),
        "brier": of(metrics.brier, one, seen),
        "brier of seven": of(metrics.brier, predicted, quality),
        "ece": of(metrics.ece, one, seen),
        "reliability": lambda weights: metrics.reliability(one, seen, weights=weights)[:, :, 1],
        "auroc": of(metrics.auroc, one, seen),
        "auroc, ties": of(metrics.auroc, np.round(one, 1), seen),
        "auroc of seven": of(metrics.auroc, predicted, quality),
        "r2": of(metrics.r2, one, seen),
        "r2 of seven": of(metrics.r2, predicted, quality),
        "cost_ratio of seven": of(metrics.cost_ratio, np.tile(cost.mean(axis=0), (queries, 1)), cost),
    }


def main(queries: int = 10_000, resamples: int = 10_000) -> None:
    view = Table("metric", "CPU seconds", "interval", title=f"{resamples:,} resamples of {queries:,} queries")
    for name, statistic in statistics(queries).items():
        start = time.process_time()
        interval = bootstrap(statistic, queries, resamples=resamples)[0]
        seconds = time.process_time() - start
        assert name == "drawing" or math.isfinite(interval.low), name
        view.add_row(name, f"{seconds:.1f}", "" if name == "drawing" else str(interval))
    Console(width=100).print(view)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
