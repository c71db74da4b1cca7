"""The report as one HTML file that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from agentroute.evaluation import CascadeComparison, Frontier, RoutingDiagnosis
from agentroute.evaluation._cascade_words import leads, measured
from agentroute.evaluation._verdict import POINT
from agentroute.reporting._advice import advice
from agentroute.reporting._cascades import cascade_tables
from agentroute.reporting._charts import Dot, Spec, calibration, compiled, dots
from agentroute.reporting._limits import limits
from agentroute.reporting._page import rendered
from agentroute.reporting._plane import page_plane
from agentroute.reporting._slider import mixed, operating, settled, start, steps
from agentroute.reporting._tables import tables, way
from agentroute.reporting._theme import VARIABLES
from agentroute.reporting.words import (
    brief,
    counted,
    figure,
    gained,
    isolated,
    noise,
    percent,
    plain,
    points,
    quality,
    typeset,
)

__all__ = ["VERDICTS", "report_html"]

VERDICTS: Mapping[str, str] = {
    "route": "Route",
    "cascade": "Use a cascade",
    "ensemble": "Let several models vote",
    "single model": "Stay with one model",
    "need more data": "Collect more data first",
}
_MEASURED: Mapping[str, str] = {
    "cascading pays": "Use a cascade",
    "not worth it": "Do without a cascade",
    "cannot be told": "Perhaps a cascade",
}
"""The verdict where a comparison of cascades leads."""

_VERDICT = 30
"""Characters of a verdict in large type."""
_TASKS = 20
"""Tasks in the chart; the table has all of them."""


def report_html(
    diagnosis: RoutingDiagnosis,
    *,
    title: str = "Routing report",
    source: str = "",
    made: datetime | None = None,
    cascades: CascadeComparison | None = None,
) -> str:
    """The whole report as one HTML page: charts, tables and words, with no reference to anything outside the file.

    Light and dark, for wide screens and phones, by mouse, touch and keyboard. Without JavaScript the words and the tables remain.
    A policy in the page forbids it all requests, and all scripts but its own.

    Args:
        diagnosis: What `diagnose` found.
        title: Of the page.
        source: What was diagnosed, such as the name of the log.
        made: When; `None` = now.
        cascades: What `compare_cascades` found on the same log: its curves stand in the plane, a section says whether a cascade
            would pay, and its verdict leads where the diagnosis assumes a judge; `None` = there is no such section.

    Raises:
        MissingExtraError: The extra `report` is not installed.
    """
    diagnosis = settled(diagnosis if cascades is None else measured(diagnosis, cascades))
    names = (*(one.model for one in diagnosis.singles), *(one.task for one in diagnosis.tasks))
    shown, first = steps(diagnosis), start(diagnosis)
    return rendered(
        "report.html.j2",
        charts=_charts(diagnosis, first, cascades),
        points=shown,
        **_words(diagnosis, names, cascades),
        title=plain(title),
        source=plain(source),
        advice=[(name, typeset(isolated(text, names))) for name, text in advice(diagnosis, cascades)],
        facts=_facts(diagnosis, source, made or datetime.now(UTC)),
        tables={**tables(diagnosis), **({} if cascades is None else cascade_tables(cascades))},
        cascade="" if cascades is None else isolated(plain(cascades.sentence), names),
        cascade_notes=[] if cascades is None else [isolated(plain(note), names) for note in cascades.notes],
        limits=[isolated(limit, names) for limit in limits(diagnosis)],
        start=first,
        recommended=operating(diagnosis),
        here=shown[first] if shown else None,
        mixed=mixed(diagnosis.frontier),
        several=len(diagnosis.singles) > 1,
    )


def _charts(diagnosis: RoutingDiagnosis, first: int, cascades: CascadeComparison | None) -> dict[str, Spec]:
    if len(diagnosis.singles) == 1:
        return {}
    evaluation = diagnosis.evaluation
    single = next((row.quality.value for row in evaluation.rows if row.name == "best single"), None)
    ways = [Dot(name=way(row, evaluation).text, interval=row.quality, kind=_KINDS[row.kind]) for row in evaluation.rows]
    about = (
        "Quality of each way to choose with its 95 % interval, as in the table below; the dashed line is the best single model."
    )
    charts = {"ways": dots(ways, VARIABLES, axis="Quality", line=single, about=about)}
    if diagnosis.frontier is None:
        models = [Dot(name=one.model, interval=one.quality) for one in diagnosis.singles]
        about = "Quality of each model and of the router with its 95 % interval, as in the tables below."
        charts["quality"] = dots([*models, *(dot for dot in ways if dot.kind != "plain")], VARIABLES, axis="Quality", about=about)
    for place, one in enumerate(diagnosis.calibration):
        charts[f"calibration-{place}"] = calibration(one, VARIABLES)
    if len(diagnosis.tasks) > 1:
        largest = sorted(diagnosis.tasks[:_TASKS], key=lambda task: -task.gain.value)
        gains = [Dot(name=task.task, interval=task.gain, kind=_BEYOND.get(noise(task.gain), "plain")) for task in largest]
        about = (
            "Gain over the best single model by task with its 95 % interval, as in the table below; the dashed line is no gain."
        )
        charts["tasks"] = dots(
            gains, VARIABLES, axis="Gain over the best single model (points)", say=points, times=100, line=0.0, about=about
        )
    made = {}
    if diagnosis.frontier is not None:
        advised = operating(diagnosis)
        made["plane"] = page_plane(diagnosis.frontier, VARIABLES, start=first, recommended=advised, cascades=cascades)
    return {**made, **{name: compiled(chart) for name, chart in charts.items()}}


_KINDS: Mapping[str, Any] = {"baseline": "plain", "routed": "routed", "bound": "bound"}
_BEYOND: Mapping[str, Any] = {"better": "routed", "worse": "bound"}


def _facts(diagnosis: RoutingDiagnosis, source: str, made: datetime) -> list[tuple[str, str]]:
    evaluation = diagnosis.evaluation
    judged = f"{counted(evaluation.queries, 'query', 'queries')} of {counted(len(diagnosis.singles), 'model')}"
    facts = [("Log", plain(source)), ("Judged on", judged), ("Made", f"{made:%d %B %Y, %H:%M} {made.tzname() or ''}".strip())]
    return [(name, value) for name, value in facts if value]


def _words(diagnosis: RoutingDiagnosis, names: Sequence[str], cascades: CascadeComparison | None) -> dict[str, Any]:
    verdict, headline = _headline(diagnosis, cascades)
    (one, other), together = diagnosis.top_two
    many = {"task": "Tasks", "labels": "Labels", "cluster": "Clusters of queries"}.get(diagnosis.lookup_by, "Tasks")
    frontier = diagnosis.frontier
    return {
        "verdict": verdict,
        "headline": isolated(headline, names),
        "reasons": [isolated(plain(reason), names) for reason in diagnosis.reasons],
        "findings": [isolated(plain(finding.text), names) for finding in diagnosis.findings],
        "best_single": "" if frontier is None else brief(frontier.best_single),
        "aiq": "" if frontier is None else typeset(_aiq(frontier)),
        "pair": isolated(
            f"The two models that complete each other best are {plain(one)} and {plain(other)}: the better of their two answers "
            f"scores {figure(together, quality)}.",
            names,
        ),
        "calibrated": [
            (plain(model.model), typeset(f"AUROC {quality(model.auroc.value)}, {model.regime}"))
            for model in diagnosis.calibration
        ],
        "kinds": many,
        "lookup": _lookup(diagnosis),
        "tasks_note": f"The chart shows the {_TASKS} largest of {len(diagnosis.tasks)}." if len(diagnosis.tasks) > _TASKS else "",
        "degeneracy": isolated(_degeneracy(diagnosis), names),
        "settings": [(plain(name), plain(value)) for name, value in diagnosis.settings.items()],
    }


def _lookup(diagnosis: RoutingDiagnosis) -> str:
    """Whether a plain table does as well as the router; nothing where there is one group, so that a table is one model."""
    row = next((one for one in diagnosis.evaluation.rows if one.name == f"{diagnosis.lookup_by} lookup"), None)
    routed = next((one for one in diagnosis.evaluation.rows if one.kind == "routed"), None)
    if len(diagnosis.tasks) < 2 or row is None or routed is None:
        return ""
    noun = {"task": "task", "labels": "labels", "cluster": "cluster"}[diagnosis.lookup_by]
    ahead = routed.quality.value - row.quality.value
    said = "does better than" if ahead <= -POINT else "does as well as"
    if ahead >= POINT and not diagnosis.lookup_is_enough:
        said = "does not do as well as"
    return f"A table from {noun} to model {said} the router: {quality(row.quality.value)} and {quality(routed.quality.value)}."


def _headline(diagnosis: RoutingDiagnosis, cascades: CascadeComparison | None) -> tuple[str, str]:
    """The verdict in large type, and the sentence below it: `Route to save money: it saves ...` is both."""
    whole = plain(diagnosis.headline)
    if cascades is not None and leads(diagnosis, cascades):
        return _MEASURED[cascades.verdict], whole
    verdict, colon, sentence = whole.partition(": ")
    if not colon or len(verdict) > _VERDICT:
        return VERDICTS[diagnosis.verdict], whole
    if not sentence.startswith(tuple(plain(one.model) for one in diagnosis.singles)):  # a name keeps its letters
        sentence = sentence[:1].upper() + sentence[1:]
    return verdict, sentence


def _aiq(frontier: Frontier) -> str:
    if math.isnan(frontier.aiq_gain.value):
        return "All models cost the same, so that there is no mean height over costs."
    singles, gain = frontier.aiq_singles.value, frontier.aiq_gain
    # From the two others as they are printed, so that the three add up.
    router = round(singles, 3) + round(gain.value, 3)
    return (
        f"Mean height over the single models' range of costs: router {quality(router)}, best random mix of single models "
        f"{quality(singles)}, {gained(gain)}. RouterBench's AIQ of the router, which leaves out the rates that did worse "
        f"here, is {quality(frontier.aiq.value)}."
    )


def _degeneracy(diagnosis: RoutingDiagnosis) -> str:
    found = diagnosis.degeneracy
    most = f"{plain(found.model)} answers {figure(found.share, percent)}"
    if found.always:
        return typeset(f"{most}: this router is as good as always {plain(found.model)}, it hardly chooses.")
    highest = math.log2(max(len(diagnosis.singles), 1))
    return typeset(f"{most}. The choice has {found.entropy.value:.2f} bits of at most {highest:.2f}.")
