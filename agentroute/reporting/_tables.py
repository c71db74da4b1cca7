"""The tables of a report, as plain text in cells: the page and the terminal show the same ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from agentroute.evaluation import Evaluation, Frontier, Interval, RoutingDiagnosis, Row
from agentroute.reporting.words import UNKNOWN, noise, one_line, percent, plain, quality, seconds, signed, span, thousand, usd

__all__ = ["Cell", "Table", "rate", "tables", "way"]

Tone: TypeAlias = Literal["", "better", "worse"]

_STEPS = 5
"""Shades of a heat map: as many as people tell apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One figure.

    Attributes:
        text: The figure.
        note: What stands below it in small print: its interval, or what a name means.
        half: Half the width of its interval, for where there is no room for small print.
        tone: Whether it is better or worse than chance allows; the text says so, too.
        shade: 1 to 5, light to dark, in a heat map; 0 = none.
        strong: Whether it stands out in its row.
    """

    text: str
    note: str = ""
    half: str = ""
    tone: Tone = ""
    shade: int = 0
    strong: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table.

    Attributes:
        name: For programs; a word that can be an anchor.
        caption: For people.
        columns: The header.
        rows: The cells; the first of a row is what the row is about.
        words: Columns of words, which are aligned to the left like the first one.
        marked: Rows that the report is about.
        names: Columns whose header is a name out of the log.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: frozenset[str] = frozenset()
    marked: frozenset[int] = frozenset()
    names: frozenset[str] = frozenset()


_BEYOND = "Beyond noise?"
_WORDS = frozenset({_BEYOND, "Best model here", "On the hull", "Reads as", "Votes", "Shifted?", "What it is", "Best single"})

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
        *(() if diagnosis.frontier is None else (_points(diagnosis.frontier),)),
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
    return {table.name: _known(table) for table in made if table.rows}


def _known(table: Table) -> Table:
    """The table without columns in which nothing is known."""
    empty = {place for place in range(1, len(table.columns)) if all(row[place].text in {UNKNOWN, ""} for row in table.rows)}
    keep = [place for place in range(len(table.columns)) if place not in empty]
    return replace(
        table,
        columns=tuple(table.columns[place] for place in keep),
        rows=tuple(tuple(row[place] for place in keep) for row in table.rows),
    )


def _figure(interval: Interval, say: Callable[[float], str]) -> Cell:
    half = (interval.high - interval.low) / 2
    return Cell(text=say(interval.value), note=span(interval, say), half="" if math.isnan(half) else say(half).lstrip("+"))


def _difference(interval: Interval) -> tuple[Cell, Cell]:
    """The difference and what it allows to say."""
    said = noise(interval)
    tone: Tone = "better" if said == "better" else "worse" if said == "worse" else ""
    return _figure(interval, signed), Cell(text=said, tone=tone)


def _name(text: str) -> Cell:
    return Cell(text=plain(text))


def _table(name: str, caption: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], marked: Iterable[int] = ()) -> Table:
    return Table(
        name=name,
        caption=caption,
        columns=tuple(columns),
        rows=tuple(tuple(row) for row in rows),
        words=_WORDS & set(columns),
        marked=frozenset(marked),
    )


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
            _figure(row.quality, quality),
            _figure(row.cost, thousand),
            _figure(row.latency, seconds),
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
        "Gain over best single",
        _BEYOND,
        "Way to oracle",
    )
    marked = [place for place, row in enumerate(evaluation.rows) if row.kind == "routed"]
    caption = f"Ways to choose, replayed on the same {evaluation.queries:,} queries. Small print: 95 % intervals."
    return _table("ways", caption, columns, rows, marked)


def _against_best(row: Row) -> tuple[Cell, Cell]:
    if row.name == "best single":
        return Cell(text=""), Cell(text="the measure")
    gain, said = _difference(row.gain)
    # What knows the answers beats noise, and that says nothing.
    return gain, Cell(text="out of reach") if row.kind == "bound" else said


def _folds(evaluation: Evaluation) -> Table:
    names = [row.name for row in evaluation.rows if row.kind == "routed"]
    rows = [
        (
            _name(fold.name),
            Cell(text=f"{fold.queries:,}"),
            _name(fold.best_single),
            *_difference(next((fold.gains[name] for name in names if name in fold.gains), _NOTHING)),
        )
        for fold in (evaluation.folds if len(evaluation.folds) > 1 else ())
    ]
    columns = ("Part", "Queries", "Best single", "Gain over it", _BEYOND)
    return _table("folds", "The parts that the log was split into, each judged by what the others taught.", columns, rows)


_NOTHING = Interval(value=math.nan, low=math.nan, high=math.nan)


def rate(willingness: float) -> str:
    """A willingness to pay in words."""
    if math.isinf(willingness):
        return "any price"
    whole, _, cents = usd(willingness).partition(".")
    return f"{whole}.{cents.rstrip('0'):0<2} per right answer"


def _points(frontier: Frontier) -> Table:
    rows = [
        (
            Cell(text=rate(point.willingness_to_pay)),
            _figure(point.quality, quality),
            _figure(point.cost, thousand),
            *_difference(point.gain),
            _figure(point.saving, percent),
            _figure(point.over_mix, signed),
        )
        for point in frontier.points
    ]
    columns = ("Willingness to pay", "Quality", "USD per 1,000", "Gain over best single", _BEYOND, "Saved", "Over the best mix")
    return _table("points", "The router at each willingness to pay.", columns, rows)


def _models(diagnosis: RoutingDiagnosis) -> Table:
    hull = diagnosis.frontier is not None
    rows = [
        (
            _name(single.model),
            _figure(single.quality, quality),
            _figure(single.cost, thousand),
            _figure(single.latency, seconds),
            Cell(text=("yes" if single.on_hull else "no") if hull else ""),
            _figure(single.unique_wins, percent),
        )
        for single in diagnosis.singles
    ]
    columns = ("Model", "Quality", "USD per 1,000", "Latency", "On the hull", "It alone is best")
    return _table("models", "Always one model, best first.", columns, rows)


def _calibration(diagnosis: RoutingDiagnosis) -> Table:
    rows = [
        (
            _name(one.model),
            Cell(text=one.regime),
            _figure(one.auroc, quality),
            _figure(one.auroc_within, quality),
            _figure(one.brier, quality),
            _figure(one.ece, quality),
            _figure(one.r2, quality),
            _figure(one.r2_within, quality),
            _figure(one.cost_ratio, _ratio),
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
    return _table("calibration", "How well each model's scores are foreseen, out of fold.", columns, rows)


def _ratio(value: float) -> str:
    return UNKNOWN if math.isnan(value) else f"{value:.2f}"


def _tasks(diagnosis: RoutingDiagnosis) -> Table:
    rows = [
        (
            _name(task.task),
            Cell(text=f"{task.queries:,}"),
            Cell(text=quality(task.best_single)),
            Cell(text=quality(task.routed)),
            Cell(text=quality(task.oracle)),
            *_difference(task.gain),
            _name(task.best_model),
        )
        for task in diagnosis.tasks
    ]
    columns = (_kind(diagnosis), "Queries", "Always best single", "Routed", "Oracle", "Gain", _BEYOND, "Best model here")
    return _table("tasks", f"Each {_kind(diagnosis).lower()} of the log, largest first.", columns, rows)


def _kind(diagnosis: RoutingDiagnosis) -> str:
    return {"task": "Task", "labels": "Label", "cluster": "Cluster"}.get(diagnosis.lookup_by, "Task")


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
        (_name(task.task), *(cell(task.best_model, model, task.quality.get(model, math.nan)) for model in models))
        for task in diagnosis.tasks
    ]
    caption = (
        f"Mean quality of each model by {_kind(diagnosis).lower()}: the stronger the blue, the better; the best of a row is bold."
    )
    names = tuple(plain(model) for model in models)
    return replace(_table("task-quality", caption, (_kind(diagnosis), *names), rows), words=frozenset(), names=frozenset(names))


def _mix(diagnosis: RoutingDiagnosis) -> Table:
    evaluation = diagnosis.evaluation
    wanted = [row for row in evaluation.rows if row.shares and (row.kind != "baseline" or row.name == "task lookup")]
    wanted.sort(key=lambda row: ("routed", "baseline", "bound").index(row.kind))
    models = [single.model for single in diagnosis.singles]
    shown = models if wanted else []
    rows = [(_name(model), *(Cell(text=percent(row.shares.get(model, 0.0))) for row in wanted)) for model in shown]
    columns = ("Model", *(plain(row.name) for row in wanted))
    return replace(_table("mix", "Share of the queries that each model answers.", columns, rows), words=frozenset())


def _gaps(diagnosis: RoutingDiagnosis) -> Table:
    gaps = diagnosis.gaps
    stable = "stable oracle" if gaps.noise is not None else "oracle"
    parts = (
        ("policy", "The estimates see a model that is right, and the choice takes another.", gaps.policy),
        ("estimates", f"Some model is right, and the estimates do not see it: {stable} less the ceiling.", gaps.classifier),
        ("luck", "Answers that are right by chance: oracle less stable oracle.", gaps.noise),
        ("all of it", "Oracle less router.", gaps.total),
    )
    rows = [(Cell(text=name), _figure(found, signed), Cell(text=told)) for name, told, found in parts if found is not None]
    caption = f"From the router to the oracle. A perfect choice by these estimates would get {quality(gaps.ceiling.value)}."
    return _table("gaps", caption, ("Lost to", "Quality", "What it is"), rows, [len(rows) - 1])


def _votes(diagnosis: RoutingDiagnosis) -> Table:
    rows = [
        (
            Cell(text=", ".join(map(plain, vote.models))),
            Cell(text="by log odds" if vote.weighted else "one each"),
            _figure(vote.quality, quality),
            _figure(vote.cost, thousand),
            *_difference(vote.gain),
        )
        for vote in diagnosis.votes
    ]
    columns = ("Who votes", "Votes", "Quality, at least", "USD per 1,000", "Gain over best single", _BEYOND)
    return _table("votes", "Majority votes; wrong answers are taken to agree with one another.", columns, rows)


def _cascades(diagnosis: RoutingDiagnosis) -> Table:
    rows = [
        (
            Cell(text=", then ".join(map(plain, cascade.models))),
            Cell(text=percent(cascade.judge_error)),
            _figure(cascade.quality, quality),
            _figure(cascade.cost, thousand),
            *_difference(cascade.gain),
            _figure(cascade.saving, percent),
        )
        for cascade in diagnosis.cascades
    ]
    columns = ("Order of asking", "Judge errs in", "Quality", "USD per 1,000", "Gain over best single", _BEYOND, "Saved")
    return _table("cascades", "Cascades with a judge that errs so often; what the judge costs is left out.", columns, rows)


def _shifts(diagnosis: RoutingDiagnosis) -> Table:
    rows = [
        (
            _name(shift.model),
            Cell(text=quality(shift.before)),
            Cell(text=quality(shift.after)),
            _figure(shift.change, signed),
            _figure(shift.relative, signed),
            Cell(text="<0.001" if shift.p_value < 0.001 else quality(shift.p_value)),
            Cell(text="shifted" if shift.shifted else "no", tone="worse" if shift.shifted else ""),
        )
        for shift in diagnosis.shifts
    ]
    columns = ("Model", "First window", "Second window", "Change", "Against the others", "p (Holm)", "Shifted?")
    return _table("shifts", "Mean quality in the fit window and in the holdout.", columns, rows)
