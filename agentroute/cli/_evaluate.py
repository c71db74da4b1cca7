"""`agentroute evaluate`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from agentroute.cli._data import card_prices, exists, in_common, progress_bar, read_table
from agentroute.cli._options import By
from agentroute.cli.figures import evaluation_table, replayed, table_of, verdict
from agentroute.evaluation import ByModel, ByQuery, ByTask, ByTime, Evaluation, Split, evaluate
from agentroute.router import Router

__all__ = ["run_evaluate"]


def run_evaluate(folder: Path, log: Path, *, by: By, seed: int, test_share: float, probes: int) -> None:
    """Learns from a part of the log with the router's settings, and judges on the rest."""
    console = Console()
    router = Router.load(exists(folder))
    with progress_bar() as progress:
        table = read_table(log, prices=card_prices(router.pool))
        common, left_out = in_common(table, router.pool, log.name)
        found = evaluate(router, common, split=_split(by, seed, test_share, probes), progress=progress)
    console.print(_what(by, found, probes), highlight=False)
    note = replayed(found)
    if note is not None:
        console.print(note, soft_wrap=True, highlight=False)
    console.print(evaluation_table(found))
    for line in (*left_out, *found.notes):
        console.print(line, soft_wrap=True, highlight=False, markup=False, style="dim")
    if by in {By.TASK, By.MODEL}:
        console.print(_folds(found, by))
    routed = found["routed"]
    shares = ", ".join(f"{model} {share:.0%}" for model, share in sorted(routed.shares.items(), key=lambda one: -one[1]))
    console.print(f"routed to: {shares}", soft_wrap=True, highlight=False, markup=False)
    console.print(verdict(found, "routed"), soft_wrap=True, highlight=False, markup=False)


def _split(by: By, seed: int, test_share: float, probes: int) -> Split:
    match by:
        case By.QUERY:
            return ByQuery(test=test_share, seed=seed)
        case By.TASK:
            return ByTask()
        case By.TIME:
            return ByTime(test=test_share)
        case By.MODEL:
            return ByModel(probes=probes, test=test_share, seed=seed)


def _what(by: By, found: Evaluation, probes: int) -> str:
    match by:
        case By.QUERY:
            told = f"fitted on {found.folds[0].learned} queries, judged on {found.queries} others"
        case By.TASK:
            told = f"each of {len(found.folds)} tasks judged by what the others taught, {found.queries} queries"
        case By.TIME:
            told = f"fitted on what came before, judged on {found.queries} queries {found.folds[0].name}"
        case By.MODEL:
            told = f"each of {len(found.folds)} models joins with {probes} probe outcomes, judged on {found.queries} queries"
    return f"{told}; 95 % intervals"


def _folds(found: Evaluation, by: By) -> object:
    names = [row.name for row in found.rows if row.kind == "routed"]
    rows = [
        (
            fold.name.removeprefix(f"{by.value} "),
            str(fold.queries),
            fold.best_single,
            *(f"{fold.gains[name].value:+.3f} ({fold.gains[name].low:+.3f} to {fold.gains[name].high:+.3f})" for name in names),
        )
        for fold in found.folds
    ]
    return table_of(
        f"Gain over the best single model, by left-out {by.value}", ("left out", "queries", "best single", *names), rows
    )
