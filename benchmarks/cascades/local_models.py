"""Do cascades pay with small local models? Replayed over the whole log that ships, and live on held-out questions.

    python benchmarks/cascades/local_models.py              # the replay: seconds
    python benchmarks/cascades/local_models.py --live 66    # and live, with three real models: a quarter of an hour

The log holds three models' answers to 1,375 generated questions with each answer's mean log-probability, and what the two cheaper
models said of their own answers (`scripts/ladder/README.md`). Every query is judged by what the other folds taught. A way is
tuned to a budget of each of three shares of what the dearest model costs; scoring is paid for. Live, cascades that were fitted
on the other questions climb through `CascadeChatModel`, one call at a time.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from agentroute.cascades import AnswerTable, CascadeRouter, CascadeRouting, ThresholdCascade
from agentroute.collection import Ladder, load_ladder, verify
from agentroute.errors import ConfigError
from agentroute.evaluation import bootstrap
from agentroute.scorers import ByModel, LogprobScorer, SelfVerification, Weighted

Floats = npt.NDArray[np.float64]
SHARES = (0.6, 0.8, 1.0)
FOLDS = 5
TEMPLATE = resources.files("agentroute") / "data" / "self-check.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way to use the models: which signals it looks at, and who decides."""

    name: str
    signals: tuple[str, ...]
    policy: type[CascadeRouting | ThresholdCascade] = CascadeRouting
    climb: bool = True

    def make(self, budget: float) -> CascadeRouting | ThresholdCascade:
        """Its policy for a budget."""
        if self.policy is ThresholdCascade:
            return ThresholdCascade(budget=budget)
        return CascadeRouting(budget=budget, climb=self.climb)


WAYS = (
    Way(name="routing", signals=("logprob",), climb=False),
    Way(name="cascade routing, logprob", signals=("logprob",)),
    Way(name="cascade routing, self-check", signals=("self_check",)),
    Way(name="cascade routing, both", signals=("logprob", "self_check")),
    Way(name="thresholds, logprob", signals=("logprob",), policy=ThresholdCascade),
    Way(name="thresholds, self-check", signals=("self_check",), policy=ThresholdCascade),
)

LIVE = tuple(way for way in WAYS if way.name not in {"cascade routing, self-check", "cascade routing, both"})
"""Those that are asked live: the others route by this log, as `routing` does."""


def answers_of(signals: Sequence[str]) -> AnswerTable:
    """The log that ships, with these signals and what they cost; log-probabilities come with the answer."""
    cost = "self_check_usd" if "self_check" in signals else "no such column"
    with resources.as_file(resources.files("agentroute") / "data" / "ladder.jsonl.gz") as path:
        found = AnswerTable.from_jsonl(path, signals=tuple(signals), score_cost=cost)
    # The kind of question is left out: an application would not know it.
    queries = tuple(replace(query, task=None) for query in found.table.queries)
    return replace(found, table=replace(found.table, queries=queries))


def replayed(ladder: Ladder, way: Way, share: float, fold: npt.NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """Quality [n], USD [n] and calls [n] of every query, each judged by what the other folds taught."""
    answers = answers_of(way.signals)
    quality, spent, calls = (np.full(len(answers), np.nan) for _ in range(3))
    budget = share * float(answers.table.cost.mean(axis=0).max())
    for part in range(FOLDS):
        held = answers.take(fold == part)
        router = CascadeRouter([entry.card for entry in ladder.entries], policy=way.make(budget)).fit(answers.take(fold != part))
        done = router.replay(held)
        rows = np.flatnonzero(fold == part)
        quality[rows], spent[rows], calls[rows] = done.quality, done.cost, done.called.sum(axis=1)
    return quality, spent, calls


def replay(console: Console, ladder: Ladder, resamples: int) -> None:
    """The table of the whole log."""
    answers = answers_of(("logprob",))
    table = answers.table
    n, best = len(table), int(np.argmax(table.quality.mean(axis=0)))
    fold = np.random.default_rng(0).permutation(n) % FOLDS
    shown = Table(title=f"{n:,} questions, {FOLDS} folds; cost in 1e-6 USD a question")
    for column in ("way", "budget", "quality", f"against always {table.models[best]}", "cost", "calls"):
        shown.add_column(column, justify="left" if column == "way" else "right")
    for j, model in enumerate(table.models):
        shown.add_row(
            f"always {model}", "", *_figures(table.quality[:, j], table.quality[:, best], table.cost[:, j], resamples), "1.00"
        )
    for way in WAYS:
        for share in SHARES:
            try:
                quality, spent, calls = replayed(ladder, way, share, fold)
            except ConfigError:
                # Scoring alone costs more than is to be spent.
                shown.add_row(way.name, f"{share:.0%}", "not for this budget", "", "", "")
                continue
            cells = _figures(quality, table.quality[:, best], spent, resamples)
            shown.add_row(way.name, f"{share:.0%}", *cells, f"{calls.mean():.2f}")
    console.print(shown)


def _figures(quality: Floats, best: Floats, cost: Floats, resamples: int) -> tuple[str, str, str]:
    columns = np.column_stack([quality, quality - best, cost])

    def means(weights: Floats) -> Floats:
        found: Floats = weights @ columns / weights.sum(axis=1, keepdims=True)
        return found

    mean, lead, spent = bootstrap(means, len(columns), resamples=resamples)
    return (
        f"{mean.value:.3f}",
        f"{100 * lead.value:+.1f} ({100 * lead.low:+.1f} to {100 * lead.high:+.1f})",
        f"{1e6 * spent.value:.1f}",
    )


def live(console: Console, ladder: Ladder, count: int, share: float, seed: int) -> None:
    """The table of held-out questions, asked now."""
    from rich.progress import Progress

    from langchain_agentroute import CascadeChatModel, asker, routing_decision
    from langchain_agentroute._demo_models import start_models

    rng = np.random.default_rng(seed)
    tasks = list(_spread(ladder, count, rng))
    entries, names = ladder.entries, [entry.card.id for entry in ladder.entries]
    with ExitStack() as stack:
        bar = stack.enter_context(Progress(console=console))
        models = start_models(entries, tuple(names), ladder, stack, bar).models
        prices = {entry.card.id: entry.card.price for entry in entries}
        checks = {
            name: SelfVerification(
                asker(models[name], price=prices[name]),
                template=TEMPLATE.read_text(encoding="utf-8"),
                words=("Yes", "No"),
                max_tokens=1,
                limit=1000,
                logprobs=True,
                name="self_check",
            )
            for name in names
        }
        judges: dict[tuple[str, ...], Any] = {
            ("logprob",): LogprobScorer(name="logprob"),
            ("self_check",): ByModel(checks),
            ("logprob", "self_check"): Weighted([(LogprobScorer(name="logprob"), 1.0), (ByModel(checks), 1.0)]),
        }
        rows: dict[str, list[tuple[float, float, int]]] = {f"always {name}": [] for name in names}
        steps = bar.add_task("answering", total=len(tasks) * (len(names) + len(LIVE)))
        for name in names:
            for task in tasks:
                message = models[name].invoke(task.prompt, max_tokens=task.max_tokens)
                usage = message.usage_metadata
                price = prices[name]
                assert usage is not None
                assert price is not None
                cost = (usage["input_tokens"] * price.input + usage["output_tokens"] * price.output) / 1e6
                rows[f"always {name}"].append((verify(message.text, task.verifier), cost, 1))
                bar.advance(steps)
        held = {task.id for task in tasks}
        for way in LIVE:
            answers = answers_of(way.signals)
            learned = answers.take(np.array([query.id not in held for query in answers.table.queries]))
            budget = share * float(answers.table.cost.mean(axis=0).max())
            router = CascadeRouter([entry.card for entry in entries], policy=way.make(budget)).fit(learned)
            judge = judges[way.signals] if way.climb and router.looks else None
            model = CascadeChatModel(models=models, router=router, judge=judge)
            rows[way.name] = []
            for task in tasks:
                message = model.invoke(task.prompt, max_tokens=task.max_tokens)
                record = routing_decision(message)
                assert record is not None
                score = verify(message.text, task.verifier)
                rows[way.name].append((score, record["total_cost"] or np.nan, len(record["attempts"])))
                bar.advance(steps)
    shown = Table(title=f"live on {len(tasks)} held-out questions, budget {share:.0%}; cost in 1e-6 USD a question")
    for column in ("way", "quality", "against the dearest", "cost", "calls"):
        shown.add_column(column, justify="left" if column == "way" else "right")
    dearest = np.array([row[0] for row in rows[f"always {names[-1]}"]])
    for name, found in rows.items():
        quality, cost, calls = np.array(found).T
        shown.add_row(name, *_figures(quality, dearest, cost, 2000), f"{calls.mean():.2f}")
    console.print(shown)


def _spread(ladder: Ladder, count: int, rng: np.random.Generator) -> Iterator[Any]:
    """Questions, evenly over their kinds."""
    kinds: dict[str, list[str]] = {}
    for name in sorted(ladder.tasks):
        kinds.setdefault(str(ladder.tasks[name].task), []).append(name)
    each = -(-count // len(kinds))
    chosen = [str(name) for names in kinds.values() for name in rng.choice(names, min(each, len(names)), replace=False)]
    yield from (ladder.tasks[name] for name in chosen[:count])


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--live", type=int, default=0, metavar="N", help="questions to ask live; 0 = none")
    parser.add_argument("--share", type=float, default=1.0, help="the live budget, as a share of what the dearest model costs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resamples", type=int, default=2000)
    given = parser.parse_args()
    console, ladder = Console(width=130), load_ladder()
    replay(console, ladder, given.resamples)
    if given.live:
        live(console, ladder, given.live, given.share, given.seed)


if __name__ == "__main__":
    main()
