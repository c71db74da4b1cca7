"""The tables of a report, as plain text in cells: the page and the terminal show the same ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from agentroute.evaluation import Evaluation, Frontier, Interval, RoutingDiagnosis, Row, TaskRow
from agentroute.reporting._cells import BEYOND, Cell, Table, cell, difference, known, made, named
from agentroute.reporting.words import (
    UNKNOWN,
    counted,
    isolated,
    one_line,
    percent,
    plain,
    points,
    quality,
    seconds,
    thousand,
    usd,
)

__all__ = ["rate", "tables", "way"]

_STEPS = 5
"""Shades of a heat map: as many as people tell apart."""


_WAYS: Mapping[str, str] = {
    "random": "a model drawn by lot",
    "strongest": "the best single model of these very queries, known only afterwards",
    "task lookup": "a table from task to model",
    "plain kNN": "mean of the five nearest queries",
    "logistic": "logistic regression on the query's vector",
    "MLP": "small neural network on the query's vector",
    "oracle": "the best logged answer of each query: luck included, out of reach",
    "stable oracle": "some model is right in 80 % of its repeats",
    "luck floor": "what as many guessers would hit",
}


def tables(diagnosis: RoutingDiagnosis) -> dict[str, Table]:
    """All tables of a diagnosis that have something to say, by name."""
    made = [
        _ways(diagnosis.evaluation),
        _folds(diagnosis.evaluation),
        *(() if diagnosis.frontier is None else (_rates(diagnosis.frontier),)),
        _models(diagnosis),
        _calibration(diagnosis),
        _tasks(diagnosis),
        _task_quality(diagnosis),
        _mix(diagnosis),
        _gaps(diagnosis),
        _votes(diagnosis),
        _cascades(diagnosis),
        _shifts(diagnosis),
    ]
    # Of one model there is nothing to compare.
    wanted = {table.name for table in made} if len(diagnosis.singles) > 1 else {"models", "shifts"}
    return {table.name: known(table) for table in made if table.rows and table.name in wanted}


def way(row: Row, evaluation: Evaluation) -> Cell:
    """What a way to choose is called, and what that means."""
    if row.name == "cheapest":
        return Cell(text=row.name, note=f"always {one_line(plain(evaluation.cheapest), 60)}")
    if row.name == "best single":
        return Cell(text=row.name, note=f"always {one_line(plain(evaluation.best_single), 60)}")
    known = "" if row.kind == "routed" else _WAYS.get(row.name, "")
    return Cell(text=plain(row.name), note=known or ("what is judged here" if row.kind == "routed" else ""))


def _ways(evaluation: Evaluation) -> Table:
    rows = [
        (
            way(row, evaluation),
            cell(row.quality, quality),
            cell(row.cost, thousand),
            cell(row.latency, seconds),
            *_against_best(row),
            Cell(text=percent(row.gap.value)),
        )
        for row in evaluation.rows
    ]
    columns = (
        "Way to choose",
        "Quality",
        "USD per 1,000",
        "Latency",
        "Gain over best single, points",
        BEYOND,
        "Way to oracle",
    )
    marked = [place for place, row in enumerate(evaluation.rows) if row.kind == "routed"]
    caption = (
        f"Ways to choose, replayed on the same {counted(evaluation.queries, 'query', 'queries')}. Small print: 95 % intervals."
    )
    return made("ways", caption, columns, rows, marked)


def _against_best(row: Row) -> tuple[Cell, Cell]:
    if row.name == "best single":
        return Cell(text=""), Cell(text="the measure")
    gain, said = difference(row.gain)
    # What knows the answers beats noise, and that says nothing.
    if row.kind != "bound":
        return gain, said
    return gain, Cell(text="what luck gives" if row.name == "luck floor" else "out of reach")


def _folds(evaluation: Evaluation) -> Table:
    names = [row.name for row in evaluation.rows if row.kind == "routed"]
    rows = [
        (
            named(fold.name),
            Cell(text=f"{fold.queries:,}"),
            named(fold.best_single),
            *difference(next((fold.gains[name] for name in names if name in fold.gains), _NOTHING)),
        )
        for fold in (evaluation.folds if len(evaluation.folds) > 1 else ())
    ]
    columns = ("Part", "Queries", "Best single", "Gain over it, points", BEYOND)
    return made("folds", "The parts that the log was split into, each judged by what the others taught.", columns, rows)


_NOTHING = Interval(value=math.nan, low=math.nan, high=math.nan)


def rate(willingness: float) -> str:
    """A willingness to pay in words."""
    if math.isinf(willingness):
        return "any price"
    whole, _, cents = usd(willingness).partition(".")
    return f"{whole}.{cents.rstrip('0'):0<2} per right answer"


def _rates(frontier: Frontier) -> Table:
    rows = [
        (
            Cell(text=rate(point.willingness_to_pay)),
            cell(point.quality, quality),
            cell(point.cost, thousand),
            *difference(point.gain),
            cell(point.saving, percent),
            cell(point.over_mix, points),
        )
        for point in frontier.points
    ]
    columns = (
        "Willingness to pay",
        "Quality",
        "USD per 1,000",
        "Gain over best single, points",
        BEYOND,
        "Saved",
        "Over the best mix, points",
    )
    return made("points", "The router at each willingness to pay.", columns, rows)


def _models(diagnosis: RoutingDiagnosis) -> Table:
    several = len(diagnosis.singles) > 1
    hull = diagnosis.frontier is not None and several
    rows = [
        (
            named(single.model),
            cell(single.quality, quality),
            cell(single.cost, thousand),
            cell(single.latency, seconds),
            Cell(text=("yes" if single.on_hull else "no") if hull else ""),
            cell(single.unique_wins, percent) if several else Cell(text=""),
        )
        for single in diagnosis.singles
    ]
    columns = ("Model", "Quality", "USD per 1,000", "Latency", "On the hull", "It alone is best")
    return made("models", "Always one model, best first." if several else "All queries go to it.", columns, rows)


def _calibration(diagnosis: RoutingDiagnosis) -> Table:
    rows = [
        (
            named(one.model),
            Cell(text=one.regime),
            cell(one.auroc, quality),
            cell(one.auroc_within, quality),
            cell(one.brier, quality),
            cell(one.ece, quality),
            cell(one.r2, quality),
            cell(one.r2_within, quality),
            cell(one.cost_ratio, _ratio),
        )
        for one in diagnosis.calibration
    ]
    columns = (
        "Model",
        "Reads as",
        "AUROC",
        "AUROC within tasks",
        "Brier",
        "ECE",
        "R²",
        "R² within tasks",
        "Real by expected cost",
    )
    return made("calibration", "How well each model's scores are foreseen, out of fold.", columns, rows)


def _ratio(value: float) -> str:
    return UNKNOWN if math.isnan(value) else f"{value:.2f}"


def _tasks(diagnosis: RoutingDiagnosis) -> Table:
    rows = [
        (
            named(task.task),
            Cell(text=f"{task.queries:,}"),
            Cell(text=quality(task.best_single)),
            Cell(text=quality(task.routed)),
            Cell(text=quality(task.oracle)),
            *difference(task.gain),
            named(task.best_model),
        )
        for task in _groups(diagnosis)
    ]
    columns = (_kind(diagnosis), "Queries", "Always best single", "Routed", "Oracle", "Gain, points", BEYOND, "Best model here")
    return made("tasks", f"Each {_kind(diagnosis).lower()} of the log, largest first.", columns, rows)


def _kind(diagnosis: RoutingDiagnosis) -> str:
    return {"task": "Task", "labels": "Label", "cluster": "Cluster"}.get(diagnosis.lookup_by, "Task")


def _groups(diagnosis: RoutingDiagnosis) -> tuple[TaskRow, ...]:
    """The tasks or clusters, if there are several: one is the whole log over again."""
    return diagnosis.tasks if len(diagnosis.tasks) > 1 else ()


def _task_quality(diagnosis: RoutingDiagnosis) -> Table:
    models = tuple(single.model for single in diagnosis.singles)
    seen = [value for task in diagnosis.tasks for value in task.quality.values() if math.isfinite(value)]
    low, high = min(seen, default=0.0), max(seen, default=1.0)
    step = (high - low) / _STEPS or 1.0

    def cell(task_best: str, model: str, value: float) -> Cell:
        if math.isnan(value):
            return Cell(text=UNKNOWN)
        shade = min(int((value - low) / step), _STEPS - 1) + 1
        return Cell(text=quality(value), shade=shade, strong=model == task_best)

    rows = [
        (named(task.task), *(cell(task.best_model, model, task.quality.get(model, math.nan)) for model in models))
        for task in _groups(diagnosis)
    ]
    caption = (
        f"Mean quality of each model by {_kind(diagnosis).lower()}: the stronger the blue, the better; the best of a row is bold."
    )
    names = tuple(plain(model) for model in models)
    return replace(made("task-quality", caption, (_kind(diagnosis), *names), rows), words=frozenset(), names=frozenset(names))


def _mix(diagnosis: RoutingDiagnosis) -> Table:
    evaluation = diagnosis.evaluation
    wanted = [row for row in evaluation.rows if row.shares and (row.kind != "baseline" or row.name == "task lookup")]
    wanted.sort(key=lambda row: ("routed", "baseline", "bound").index(row.kind))
    models = [single.model for single in diagnosis.singles]
    shown = models if wanted else []
    rows = [(named(model), *(Cell(text=percent(row.shares.get(model, 0.0))) for row in wanted)) for model in shown]
    columns = ("Model", *(plain(row.name) for row in wanted))
    return replace(made("mix", "Share of the queries that each model answers.", columns, rows), words=frozenset())


def _gaps(diagnosis: RoutingDiagnosis) -> Table:
    gaps = diagnosis.gaps
    stable = "stable oracle" if gaps.noise is not None else "oracle"
    parts = (
        ("policy", "The estimates see a model that is right, and the choice takes another.", gaps.policy),
        ("estimates", f"Some model is right, and the estimates do not see it: {stable} less the ceiling.", gaps.classifier),
        ("luck", "Answers that are right by chance: oracle less stable oracle.", gaps.noise),
        ("all of it", "Oracle less router.", gaps.total),
    )
    rows = [(Cell(text=name), cell(found, points), Cell(text=told)) for name, told, found in parts if found is not None]
    caption = f"From the router to the oracle. A perfect choice by these estimates would get {quality(gaps.ceiling.value)}."
    return made("gaps", caption, ("Lost to", "Points of quality", "What it is"), rows, [len(rows) - 1])


def _votes(diagnosis: RoutingDiagnosis) -> Table:
    rows = [
        (
            Cell(text=isolated(", ".join(map(plain, vote.models)), vote.models)),
            Cell(text="by log odds" if vote.weighted else "one each"),
            cell(vote.quality, quality),
            cell(vote.cost, thousand),
            *difference(vote.gain),
        )
        for vote in diagnosis.votes
    ]
    columns = ("Who votes", "Votes", "Quality, at least", "USD per 1,000", "Gain over best single, points", BEYOND)
    return made("votes", "Majority votes; wrong answers are taken to agree with one another.", columns, rows)


def _cascades(diagnosis: RoutingDiagnosis) -> Table:
    rows = [
        (
            Cell(text=isolated(", then ".join(map(plain, cascade.models)), cascade.models)),
            Cell(text=percent(cascade.judge_error)),
            cell(cascade.quality, quality),
            cell(cascade.cost, thousand),
            *difference(cascade.gain),
            cell(cascade.saving, percent),
        )
        for cascade in diagnosis.cascades
    ]
    columns = ("Order of asking", "Judge errs in", "Quality", "USD per 1,000", "Gain over best single, points", BEYOND, "Saved")
    return made(
        "cascades", "Cascades with a judge that is assumed to err so often; what the judge costs is left out.", columns, rows
    )


def _shifts(diagnosis: RoutingDiagnosis) -> Table:
    rows = [
        (
            named(shift.model),
            Cell(text=quality(shift.before)),
            Cell(text=quality(shift.after)),
            cell(shift.change, points),
            cell(shift.relative, points),
            Cell(text="<0.001" if shift.p_value < 0.001 else quality(shift.p_value)),
            Cell(text="shifted" if shift.shifted else "no", tone="worse" if shift.shifted else ""),
        )
        for shift in diagnosis.shifts
    ]
    columns = ("Model", "First window", "Second window", "Change, points", "Against the others, points", "p (Holm)", "Shifted?")
    second = diagnosis.settings.get("second window", "in the second window")
    return made("shifts", f"Mean quality in the first window and {plain(second)}.", columns, rows)
