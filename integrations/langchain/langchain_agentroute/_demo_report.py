"""What the demo prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.text import Text

from agentroute.cli.figures import evaluation_table, one_line, replayed, seconds, table_of, usd, verdict
from agentroute.collection import Ladder, Task
from agentroute.evaluation import Evaluation, Interval, bootstrap, means
from agentroute.outcomes import OutcomeTable
from agentroute.policies import UtilityPolicy
from agentroute.router import Router

if TYPE_CHECKING:
    from langchain_agentroute.demo import Answered

Floats = npt.NDArray[np.float64]
_COST_COUNTS = 0.1
BASELINES = ("cheapest", "best single")
"""Of all that `agentroute evaluate` shows, the two that fit beside a live demonstration."""

__all__ = ["BASELINES", "closing", "conclusion", "learned", "live_table", "opening", "question", "splits"]


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
    note = replayed(found)
    questions = f"{'All ' if note is None else ''}{found.queries} held-out questions"
    console.print(evaluation_table(found, title=f"{questions}, from the log"))
    if note is not None:
        console.print(f"{note}.", soft_wrap=True, markup=False)
    console.print()
    for row in found.rows:
        if row.name.startswith("routed"):
            console.print(verdict(found, row.name), soft_wrap=True, markup=False)


def splits(console: Console, repeated: Sequence[Evaluation]) -> None:
    """What all splits say together: the table is one draw, and its intervals cover the questions, not the split."""
    console.print(f"\nOne split may be lucky. Over {len(repeated)} random splits, against the best single model of each:")
    for name in (row.name for row in repeated[0].rows if row.name.startswith("routed")):
        gains = np.array([found[name].gain.value for found in repeated])
        changes = np.array([found[name].cost.value / found["best single"].cost.value - 1 for found in repeated])
        console.print(
            f"  {name}: quality {gains.mean():+.3f} on average ({gains.min():+.3f} to {gains.max():+.3f}), "
            f"cost {changes.mean():+.0%} ({changes.min():+.0%} to {changes.max():+.0%}): {conclusion(gains, changes)}.",
            soft_wrap=True,
            markup=False,
        )


def conclusion(gains: Floats, changes: Floats) -> str:
    """Gains in quality and relative changes of the cost over splits, in words: no more than all splits say.

    The splits overlap, so that their spread is no interval: better or worse is only what every one of them is.
    """
    saves = float(changes.mean()) <= -_COST_COUNTS and bool((changes < 0).all())
    wastes = float(changes.mean()) >= _COST_COUNTS and bool((changes > 0).all())
    if (gains > 0).all():
        return "better on every split, and no dearer" if (changes <= 0).all() else "better on every split, for more money"
    if (gains < 0).all():
        return "worse on every split, for less money" if saves else "routing loses on this pool"
    told = ", for less money" if saves else ", for more money" if wastes else "; routing gains little on this pool"
    return f"quality within noise{told}"


def live_table(console: Console, ladder: Ladder, pool: Sequence[str], shown: Evaluation, live: Sequence[Answered]) -> None:
    """The same for the questions that were answered just now; single models and oracle from their recorded rows.

    The single models are those of the closing table, which the training part has chosen: the best one on so few questions
    would be chosen in hindsight.
    """
    rows: list[tuple[str, ...]] = []
    asked = list({one.task.id: one.task for one in live}.values())
    recorded = np.array([[_measures(ladder, model, task) for model in ladder.table.models] for task in asked], dtype=np.float64)
    for label, model in (("cheapest", shown.cheapest), ("best single", shown.best_single)):
        rows.append((f"{label}: {model} *", *_cells(recorded[:, ladder.table.models.index(model)])))
    for policy in dict.fromkeys(one.policy for one in live):
        own = [one for one in live if one.policy == policy]
        measured = np.array([(one.score, one.cost, one.latency) for one in own], dtype=np.float64)
        rows.append((f"{policy} *" if any(one.recorded for one in own) else policy, *_cells(measured)))
    # The best answer, and the cheapest of those: by falling score, then by rising cost.
    among = recorded[:, [ladder.table.models.index(model) for model in pool]]
    pick = np.lexsort((among[:, :, 1], -among[:, :, 0]), axis=1)[:, 0]
    rows.append(("oracle *", *_cells(among[np.arange(len(asked)), pick])))
    columns = ("± half of the 95 % interval", "quality", "USD per 1,000", "seconds")
    calls = {(one.task.id, one.model): not one.recorded for one in live}
    console.print()
    title = f"The {len(asked)} questions answered just now: {sum(calls.values())} of {len(calls)} calls were live"
    console.print(table_of(title, columns, rows, first=31))
    console.print(
        "* holds recorded answers: their seconds are processor seconds; those of live answers are of this machine's clock."
    )


def _measures(ladder: Ladder, model: str, task: Task) -> tuple[float, float, float]:
    row = next(i for i, query in enumerate(ladder.table.queries) if query.id == task.id)
    column = ladder.table.models.index(model)
    quality, cost, latency = (part[row, column] for part in (ladder.table.quality, ladder.table.cost, ladder.table.latency))
    return float(quality), float(cost), float(latency)


def _cells(measures: Floats) -> tuple[str, str, str]:
    quality, cost, latency = bootstrap(means(measures * np.array([1.0, 1e3, 1.0])), len(measures))
    return _cell(quality, 3), _cell(cost, 4), _cell(latency, 2)


def _cell(found: Interval, digits: int) -> str:
    return f"{found.value:.{digits}f} ±{(found.high - found.low) / 2:.{digits}f}"
