"""`agentroute log`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from agentroute.cli._data import exists, is_sqlite, read_table
from agentroute.cli.figures import seconds, table_of, usd
from agentroute.outcomes import OutcomeTable, SqliteOutcomeLog

__all__ = ["run_log"]


def run_log(path: Path) -> None:
    """Prints what a log holds: its size, each model's means, and quality by task."""
    console = Console()
    if is_sqlite(exists(path)):
        with SqliteOutcomeLog(path) as log:
            _print_records(console, log)
            if not len(log):
                return
            table = OutcomeTable.from_log(log, vectors=False)  # counts and means need neither texts nor vectors
    else:
        table = read_table(path)
    observed = ~np.isnan(table.quality)
    console.print(f"{len(table)} queries, {len(table.models)} models, {int(observed.sum())} judged pairs", highlight=False)
    rows = [
        (
            model,
            str(int(observed[:, j].sum())),
            _number(_mean(table.quality[:, j])),
            usd(_mean(table.cost[:, j])),
            seconds(_mean(table.latency[:, j])),
        )
        for j, model in enumerate(table.models)
    ]
    console.print(table_of("Models", ("model", "judged", "quality", "cost", "latency"), rows))
    tasks = sorted({query.task for query in table.queries if query.task is not None})
    if tasks:
        console.print(table_of("Quality by task", ("task", "queries", *table.models), [_task_row(table, task) for task in tasks]))
    console.print(_verdict(table), soft_wrap=True, highlight=False)


def _print_records(console: Console, log: SqliteOutcomeLog) -> None:
    """What only a SQLite log knows."""
    scorers: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for outcome in log:
        if outcome.quality is not None:
            scorers[outcome.scorer or "unknown"] += 1
        if outcome.error is not None:
            errors[f"{outcome.model} {outcome.error}"] += 1
    judged = ", ".join(f"{name} {count}" for name, count in scorers.most_common()) or "nobody yet"
    console.print(f"{len(log)} outcomes; judged by: {judged}", highlight=False, markup=False, soft_wrap=True)
    if errors:
        failed = ", ".join(f"{name} {count}" for name, count in errors.most_common())
        console.print(f"failed calls: {failed}", highlight=False, markup=False, soft_wrap=True)
    vectors = log.fingerprint or "none, or of several embedders"
    texts = f"{log.withheld} withheld" if log.withheld else "stored"
    console.print(f"embeddings: {vectors}; prompt texts: {texts}", highlight=False, markup=False, soft_wrap=True)


def _task_row(table: OutcomeTable, task: str) -> tuple[str, ...]:
    rows = np.array([query.task == task for query in table.queries])
    means = (_number(_mean(table.quality[rows, j])) for j in range(len(table.models)))
    return (task, str(int(rows.sum())), *means)


def _verdict(table: OutcomeTable) -> str:
    """How much choosing could gain at all: the oracle over the best single model, on queries that all models answered."""
    complete = table.quality[~np.isnan(table.quality).any(axis=1)]
    if len(complete) < 2 or len(table.models) < 2:
        return "Too few queries were answered by all models to say what choosing between them could gain."
    means = complete.mean(axis=0)
    best, oracle = int(np.argmax(means)), complete.max(axis=1).mean()
    return (
        f"On the {len(complete)} queries that all models answered, {table.models[best]} alone gets {means[best]:.3f}, "
        f"and picking the best model for each query would get {oracle:.3f}."
    )


def _mean(values: npt.NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _number(value: float) -> str:
    return "?" if np.isnan(value) else f"{value:.3f}"
