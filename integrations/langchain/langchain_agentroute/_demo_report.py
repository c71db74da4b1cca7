"""What the demo prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.text import Text

from agentroute.cli.figures import evaluation_table, one_line, seconds, table_of, usd, verdict
from agentroute.collection import Ladder, Task
from agentroute.evaluation import Evaluation, Interval, bootstrap
from agentroute.outcomes import OutcomeTable
from agentroute.policies import UtilityPolicy
from agentroute.router import Router

if TYPE_CHECKING:
    from langchain_agentroute.demo import Answered

_QUALITY_COUNTS = 0.01
_COST_COUNTS = 0.1

__all__ = ["closing", "conclusion", "learned", "live_table", "opening", "question", "splits"]


def opening(console: Console, titles: Sequence[str], queries: int, *, live: int) -> None:
    """What is going to happen."""
    console.print("[bold]agentroute demo[/bold]: which of these models should answer which question?")
    for number, title in enumerate(titles):
        console.print(f"  {title}{'' if number < live else ' (recorded answers)'}", markup=False)
    console.print(f"The log that ships with agentroute holds their verified answers to {queries} questions.\n", markup=False)


def learned(
    console: Console, router: Router, train: OutcomeTable, test: OutcomeTable, policies: Mapping[str, UtilityPolicy]
) -> None:
    """What the router was fitted on, and the two policies."""
    console.print(
        f"Fitted on {len(train)} questions and {len(router.pool)} models; {len(test)} other questions are held out. "
        "The router sees a question's text, not its kind.",
        soft_wrap=True,
        markup=False,
    )
    for name, policy in policies.items():
        console.print(f"  {name}: a right answer is worth {usd(policy.willingness_to_pay)}", markup=False)
    console.print()


def question(console: Console, number: int, given: Sequence[Answered]) -> None:
    """One question with the answer of each policy; equal choices share a line."""
    task = given[0].task
    console.print(Text.assemble((f"{number:>2}. ", "bold"), (f"{task.task}  ", "dim"), one_line(task.prompt, 62)))
    merged: dict[str, list[Answered]] = {}
    for one in given:
        merged.setdefault(one.model, []).append(one)
    for model, those in merged.items():
        one = those[0]
        who = "both" if len(those) == len(given) else ", ".join(each.policy.removeprefix("routed, ") for each in those)
        console.print(Text.assemble("    ", (model, "cyan"), f" ({who}): ", (one.why, "dim")), soft_wrap=True)
        mark = Text("right", "green") if one.score == 1.0 else Text("wrong", "red")
        tokens = f"{one.tokens[0]} + {one.tokens[1]} tokens"
        facts = f" · {tokens} · {usd(one.cost)} · {seconds(one.latency)}{' (recorded)' if one.recorded else ''}"
        console.print(Text.assemble("    ", f"“{one_line(one.text, 40)}” ", mark, (facts, "dim")), soft_wrap=True)


def closing(console: Console, found: Evaluation) -> None:
    """The table over the held-out part, and what it says about each policy."""
    console.print()
    console.print(evaluation_table(found, title=f"All {found.queries} held-out questions, from the log"))
    console.print()
    for row in found.rows:
        if row.name.startswith("routed"):
            console.print(verdict(found, row.name), soft_wrap=True, markup=False)


def splits(console: Console, repeated: Sequence[Evaluation]) -> None:
    """What all splits say together: the table is one draw, and its intervals cover the questions, not the split."""
    console.print(f"\nOne split may be lucky. Over {len(repeated)} random splits, against the best single model of each:")
    for name in (row.name for row in repeated[0].rows if row.name.startswith("routed")):
        gains = np.array([found[name].gain.mean for found in repeated])
        changes = np.array([found[name].cost.mean / found["best single"].cost.mean - 1 for found in repeated])
        console.print(
            f"  {name}: quality {gains.mean():+.3f} on average ({gains.min():+.3f} to {gains.max():+.3f}), "
            f"cost {changes.mean():+.0%} ({changes.min():+.0%} to {changes.max():+.0%}): "
            f"{conclusion(float(gains.mean()), float(changes.mean()))}.",
            soft_wrap=True,
            markup=False,
        )


def conclusion(gain: float, change: float) -> str:
    """A mean gain in quality and a mean relative change of the cost, in words. A point of quality counts, and a tenth of cost."""
    if gain >= _QUALITY_COUNTS:
        return "better, and no dearer" if change <= 0 else "better, for more money"
    if gain > -_QUALITY_COUNTS:
        return "as good, for less money" if change <= -_COST_COUNTS else "routing gains little on this pool"
    return "worse, for less money" if change < 0 else "routing loses on this pool"


def live_table(console: Console, ladder: Ladder, pool: Sequence[str], asked: Sequence[Task], live: Sequence[Answered]) -> None:
    """The same for the questions that were answered live; single models and oracle from their recorded rows."""
    rows: list[tuple[str, ...]] = []
    recorded = {
        model: np.array([_measures(ladder, model, task) for task in asked], dtype=np.float64).reshape(len(asked), 3)
        for model in pool
    }
    best = max(pool, key=lambda model: recorded[model][:, 0].mean())
    cheapest = min(pool, key=lambda model: recorded[model][:, 1].mean())
    for label, model in (("cheapest", cheapest), ("best single", best)):
        rows.append((f"{label}: {model} *", *_cells(recorded[model])))
    for policy in dict.fromkeys(one.policy for one in live):
        own = [(one.score, one.cost, one.latency) for one in live if one.policy == policy]
        rows.append((policy, *_cells(np.array(own, dtype=np.float64))))
    stacked = np.stack([recorded[model] for model in pool], axis=1)
    # The best answer, and the cheapest of those: by falling score, then by rising cost.
    pick = np.lexsort((stacked[:, :, 1], -stacked[:, :, 0]), axis=1)[:, 0]
    rows.append(("oracle *", *_cells(stacked[np.arange(len(asked)), pick])))
    columns = ("± half of the 95 % interval", "quality", "USD per 1,000", "seconds")
    console.print()
    console.print(table_of(f"The {len(asked)} questions answered just now", columns, rows, first=31))
    console.print(
        "* recorded answers to the same questions; their seconds are processor seconds, the live ones are this machine's clock."
    )


def _measures(ladder: Ladder, model: str, task: Task) -> tuple[float, float, float]:
    row = next(i for i, query in enumerate(ladder.table.queries) if query.id == task.id)
    column = ladder.table.models.index(model)
    quality, cost, latency = (part[row, column] for part in (ladder.table.quality, ladder.table.cost, ladder.table.latency))
    return float(quality), float(cost), float(latency)


def _cells(measures: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> tuple[str, str, str]:
    quality, cost, latency = bootstrap(measures * np.array([1.0, 1e3, 1.0]))
    return _cell(quality, 3), _cell(cost, 4), _cell(latency, 2)


def _cell(found: Interval, digits: int) -> str:
    return f"{found.mean:.{digits}f} ±{(found.high - found.low) / 2:.{digits}f}"
