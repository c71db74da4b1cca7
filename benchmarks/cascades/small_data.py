"""Few logged queries: are thresholds from a model of the confidences better than the best ones of a grid?

    python benchmarks/cascades/small_data.py
    python benchmarks/cascades/small_data.py --repeats 200     # narrower intervals

`RationalThresholds` (Zellinger and Thomson 2025) and `ThresholdCascade` (FrugalGPT) choose chains and thresholds from the same
estimates of the same n queries and are judged on thousands of others, by the mean height of quality over cost between the
cheapest and the dearest model (x 100). Worlds:

- `calibrated`: confidences that mean what they say, known before the first query: what both methods' inputs would be with a
  calibration that is already there.
- `learned`: only raw confidences are known, and n queries have to calibrate them as well (`PostHocEstimator`, ten folds).
- `overconfident`: confidences that mean less than they say, and nobody corrects them.
- `ladder`: the log that ships, prices x1, x4, x16; confidences are log-probabilities, calibrated as in `learned`.

A difference whose interval (95 %, over repeats) holds 0 is none.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from rich.table import Table

from agentroute.cascades._answers import AnswerTable
from agentroute.cascades._posthoc import PostHocEstimator
from agentroute.cascades._rational import RationalThresholds
from agentroute.cascades._threshold import ChainPolicy, ThresholdCascade
from agentroute.estimators import MeanEstimator
from agentroute.evaluation.metrics import area
from agentroute.outcomes import OutcomeTable
from agentroute.types import Query

SIZES = (10, 20, 30, 100, 300)
COSTS = np.array([1.0, 4.0, 16.0])
FRESH = 3000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class States:
    """Confidences that are the same in every state."""

    confidence: np.ndarray
    cost: np.ndarray

    def quality(self, answered: int, rows: np.ndarray, /) -> np.ndarray:  # noqa: ARG002  # the same in every state
        """float64 [r, m]."""
        return self.confidence[rows]


Case = tuple[object, np.ndarray, np.ndarray]
"""Estimates, qualities and costs."""
World = Callable[[int, int], tuple[Case, Case]]
"""(n, seed) → what is fitted on, and what is judged on."""


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def simulated(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Chances to be right with a shared difficulty, and what came of them."""
    shared = rng.standard_normal((n, 1))
    chance = sigmoid(np.array([0.0, 1.0, 2.0]) + 1.1 * shared + 1.1 * rng.standard_normal((n, 3)))
    return chance, (rng.random((n, 3)) < chance).astype(float)


def calibrated(n: int, seed: int, *, sharper: float = 1.0) -> tuple[Case, Case]:
    rng = np.random.default_rng(seed)

    def case(size: int) -> Case:
        chance, right = simulated(size, rng)
        stated = sigmoid(sharper * np.log(chance / (1.0 - chance)) + (sharper - 1.0))
        cost = np.broadcast_to(COSTS, right.shape)
        return States(confidence=stated, cost=cost), right, cost

    return case(n), case(FRESH)


def overconfident(n: int, seed: int) -> tuple[Case, Case]:
    return calibrated(n, seed, sharper=2.0)


def learned(n: int, seed: int) -> tuple[Case, Case]:
    rng = np.random.default_rng(seed)

    def answers(size: int) -> AnswerTable:
        chance, right = simulated(size, rng)
        table = OutcomeTable(
            queries=tuple(Query(text="", id=str(i), withheld=True) for i in range(size)),
            models=("small", "medium", "large"),
            quality=right,
            cost=np.broadcast_to(COSTS, right.shape).copy(),
        )
        return AnswerTable(table=table, signals={"confidence": 0.5 * np.log(chance / (1.0 - chance)) - 1.0})

    return estimated(answers(n), answers(FRESH))


def estimated(train: AnswerTable, test: AnswerTable) -> tuple[Case, Case]:
    """The estimates that the queries of the log teach, on themselves out of fold and on the others."""
    means = MeanEstimator(min_rows=1).fit(train.table)
    posthoc = PostHocEstimator(covariance="none", folds=10)
    posthoc.fit(train, means.cross_predict(train.table, np.arange(len(train))))
    states = posthoc.states(test, means.predict(test.table.queries))
    first, second = (part.table.select(posthoc.models_) for part in (train, test))
    return (posthoc.fitted_states(), first.quality, first.cost), (states, second.quality, second.cost)


def ladder() -> World:
    with resources.as_file(resources.files("agentroute") / "data" / "ladder.jsonl.gz") as path:
        answers = AnswerTable.from_jsonl(path)
    answers = replace(answers, table=replace(answers.table, cost=answers.table.cost * [1.0, 4.0, 16.0]))
    # By the confidence alone, as in the paper: no labels, no texts.
    bare = tuple(Query(text="", id=query.id, withheld=True) for query in answers.table.queries)
    answers = replace(answers, table=replace(answers.table, queries=bare), agreement=None)

    def world(n: int, seed: int) -> tuple[Case, Case]:
        order = np.random.default_rng(seed).permutation(len(answers))
        return estimated(answers.take(order[:n]), answers.take(order[n:]))

    return world


def height(policy: ChainPolicy, fit: Case, judge: Case) -> float:
    """Area under the chains that look best on the log, on the others."""
    policy.fit(*fit)
    states, quality, cost = judge
    rows = np.arange(len(quality))
    step = max(1, len(policy.frontier_) // 30)
    points = []
    for chain in (*policy.frontier_[::step], policy.frontier_[-1]):
        called, answer = policy.using(chain).run(states)
        points.append(((called * cost).sum(axis=1).mean(), quality[rows, answer].mean()))
    means = cost.mean(axis=0)
    return 100.0 * float(area(points, means.min(), means.max(), floor=quality[:, means.argmin()].mean()))


def told(values: np.ndarray, *, sign: bool = False) -> str:
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():{'+' if sign else ''}.2f} ± {half:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=40, help="logs that are drawn for each size")
    options = parser.parse_args()
    console = Console(width=130)
    table = Table(title=f"area under quality over cost x 100, {options.repeats} logs each")
    for head in ("world", "logged queries", "grid", "rational", "rational - grid", "verdict"):
        table.add_column(head)
    worlds: dict[str, World] = {
        "calibrated": calibrated,
        "learned": learned,
        "overconfident": overconfident,
        "ladder": ladder(),
    }
    for name, world in worlds.items():
        for n in SIZES:
            found = []
            for seed in range(options.repeats):
                fit, judge = world(n, seed)
                found.append([height(policy, fit, judge) for policy in (ThresholdCascade(), RationalThresholds())])
            grid, rational = np.array(found).T
            gap = rational - grid
            half = 1.96 * gap.std(ddof=1) / np.sqrt(len(gap))
            verdict = "rational wins" if gap.mean() > half else "grid wins" if gap.mean() < -half else "no difference"
            table.add_row(name, str(n), told(grid), told(rational), told(gap, sign=True), verdict)
        table.add_section()
    console.print(table)


if __name__ == "__main__":
    main()
