"""Is the budget kept on other queries? Fitted on one half of a log, replayed on the other, over and over.

    python benchmarks/cascades/budget.py                       # a quarter of an hour; RouterBench where ../shared/data has it
    python benchmarks/cascades/budget.py --only worlds ladder  # minutes

Each line is a log and a budget: how far the mean bill of held-out queries was off, with the 95 % interval over splits, and the
standard deviation of a single split; first with one lambda for all queries (`mix=False`), then with lambdas spread over them
(the default). "Floor" is the standard deviation of the mean bill of as many queries under a policy that stands still, by a
bootstrap of the held-out queries. As the log is such a sample too, about 1.4 times as much is left where lambda is tuned as well
as can be. "Quality" is the difference that spreading makes in points, then what is left of it when it is put right for the
difference in what was spent, at the slope between the budgets of a log: a rough guide where that difference is large.

Worlds are made here: texts of four kinds, which differ in how hard they are, so that whole kinds are decided alike.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
from learned import DATA, RB5, embedded, routerbench
from local_models import answers_of

from agentroute.cascades import AnswerTable, CascadeRouter, CascadeRouting
from agentroute.embedders import Embedder, StaticEmbedder
from agentroute.errors import PriceUnknownWarning
from agentroute.router import Router
from agentroute.testing import HashEmbedder, planted_table

Floats = npt.NDArray[np.float64]
RESAMPLES = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A log, or one for each split.

    Attributes:
        name: As printed.
        budgets: USD a query, rising.
        split: Number of the split → the log to fit, and the held-out one.
        embedder: Of the texts.
    """

    name: str
    budgets: tuple[float, ...]
    split: Callable[[int], tuple[AnswerTable, AnswerTable]]
    embedder: Embedder


def world(rows: int, seed: int) -> AnswerTable:
    """Three models, four kinds of texts, and a signal that tells something of an answer."""
    rng = np.random.default_rng(seed)
    table = planted_table(rows, models=3, kinds=4, seed=seed)
    kind = np.array([int(query.task[4:]) for query in table.queries])
    hard = rng.random(rows) + 0.15 * kind
    quality = np.column_stack([hard < 0.45, hard < 0.7, rng.random(rows) < 0.92]).astype(float)
    cost = np.array([0.001, 0.003, 0.01]) * rng.uniform(0.7, 1.4, (rows, 3))
    return AnswerTable(
        table=replace(table, models=("small", "medium", "large"), quality=quality, cost=cost),
        signals={"sure": quality + 0.4 * rng.standard_normal((rows, 3))},
        score_cost=np.full((rows, 3), 0.0002),
    )


def settings(data: Path, only: list[str]) -> Iterator[Setting]:
    """All that are asked for; what is not there is skipped, and it is said."""
    if "worlds" in only:
        for known in (300, 1000, 3000):

            def split(seed: int, known: int = known) -> tuple[AnswerTable, AnswerTable]:
                return world(known + 1000, seed).split(1000 / (known + 1000), seed=seed)

            yield Setting(
                name=f"four kinds, {known:,} + 1,000", budgets=(0.004, 0.006, 0.008), split=split, embedder=HashEmbedder()
            )
    if "ladder" in only:
        yield halves("the log that ships", embedded(answers_of(("logprob",))), (0.6, 0.8))
    if "routerbench" in only and not (data / "routerbench_zs.outcomes.parquet").is_file():
        print(f"{data} is not there: RouterBench is skipped")
    elif "routerbench" in only:
        yield halves("RouterBench, 5 models", embedded(routerbench().select(RB5)), (0.2, 0.5))


def halves(name: str, answers: AnswerTable, shares: tuple[float, ...]) -> Setting:
    """Random halves of one log, and budgets as shares of what its dearest model costs."""
    top = float(np.nanmean(answers.table.cost, axis=0).max())
    return Setting(
        name=name,
        budgets=tuple(share * top for share in shares),
        split=lambda seed: answers.split(0.5, seed=seed),
        embedder=StaticEmbedder(),
    )


def spent(setting: Setting, budget: float, seed: int, *, mix: bool) -> tuple[float, float, float]:
    """Mean bill and quality of the held-out queries, and the floor, all of one split."""
    known, new = setting.split(seed)
    router = CascadeRouter(Router(known.models, embedder=setting.embedder), policy=CascadeRouting(budget=budget, mix=mix)).fit(
        known
    )
    done = router.replay(new)
    drawn = np.random.default_rng(seed).integers(len(new), size=(RESAMPLES, len(new)))
    return float(done.cost.mean()), float(np.nanmean(done.quality)), float(done.cost[drawn].mean(axis=1).std())


def lines(setting: Setting, splits: int) -> Iterator[str]:
    """One for each budget."""
    found = np.array(
        [
            [[spent(setting, budget, seed, mix=mix) for seed in range(splits)] for mix in (False, True)]
            for budget in setting.budgets
        ]
    )
    means = found[:, 1].mean(axis=1)
    slope = np.gradient(means[:, 1], means[:, 0])
    for at, budget in enumerate(setting.budgets):
        cells = [off(found[at, way, :, 0] / budget - 1.0) for way in (0, 1)]
        cost, quality, _ = found[at, 1].mean(axis=0) - found[at, 0].mean(axis=0)
        floor = 100.0 * found[at, 1, :, 2].mean() / budget
        even = 100.0 * (quality - slope[at] * cost)
        yield f"| {setting.name} | {budget:.3g} | {cells[0]} | {cells[1]} | {floor:.1f} | {100 * quality:+.2f} | {even:+.2f} |"


def off(missed: Floats) -> str:
    """Two cells: mean with the half-width of its 95 % interval, and the standard deviation; per cent."""
    spread = 100.0 * float(missed.std(ddof=1))
    # Student's t for 20 splits; for other numbers about right.
    return f"{100.0 * missed.mean():+.1f} ± {2.093 * spread / len(missed) ** 0.5:.1f} | {spread:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument(
        "--only", nargs="+", default=["worlds", "ladder", "routerbench"], choices=["worlds", "ladder", "routerbench"]
    )
    parser.add_argument("--data", type=Path, default=DATA)
    args = parser.parse_args()
    warnings.simplefilter("ignore", PriceUnknownWarning)
    print("| log | budget, USD | one lambda, % | a split | spread, % | a split | floor | quality | at equal cost |")
    print("|---|" + "---:|" * 8)
    for setting in settings(args.data, args.only):
        for line in lines(setting, args.splits):
            print(line, flush=True)


if __name__ == "__main__":
    main()
