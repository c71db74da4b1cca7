"""The report as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from agentroute.errors import MissingExtraError
from agentroute.evaluation import Frontier, FrontierPoint, Interval, RoutingDiagnosis
from agentroute.reporting._charts import Dot, Spec, calibration, compiled, dots, libraries
from agentroute.reporting._limits import limits
from agentroute.reporting._plane import page_plane
from agentroute.reporting._tables import rate, tables, way
from agentroute.reporting._theme import DARK, LIGHT, VARIABLES
from agentroute.reporting.words import noise, one_line, percent, plain, quality, signed, span, thousand, typeset

__all__ = ["VERDICTS", "report_html"]

VERDICTS: Mapping[str, str] = {
    "route": "Route",
    "cascade": "Use a cascade",
    "ensemble": "Let several models vote",
    "single model": "Stay with one model",
    "need more data": "Collect more data first",
}

_BREAKS = re.compile(r"(?<=[/_:@])")
"""Where a name may be broken over two lines."""

_VERDICT = 30
"""Characters of a verdict in large type."""
_TASKS = 20
"""Tasks in the chart; the table has all of them."""


def report_html(
    diagnosis: RoutingDiagnosis, *, title: str = "Routing report", source: str = "", made: datetime | None = None
) -> str:
    """The whole report as one HTML page: charts, tables and words, with no reference to anything outside the file.

    Light and dark, for wide screens and phones, by mouse, touch and keyboard. Without JavaScript the words and the tables remain.
    A policy in the page forbids it all requests, and all scripts but its own.

    Args:
        diagnosis: What `diagnose` found.
        title: Of the page.
        source: What was diagnosed, such as the name of the log.
        made: When; `None` = now.

    Raises:
        MissingExtraError: The extra `report` is not installed.
    """
    _, vl_convert = libraries()
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup, escape
    except ImportError as error:
        raise MissingExtraError("a report", "report") from error
    bundle = vl_convert.javascript_bundle()
    script, css, page = (_file(name) for name in ("report.js", "report.css", "report.html.j2"))
    points = _points(diagnosis.frontier)
    start = _start(diagnosis)
    # Everything that is put into the page is escaped, but for these, which are ours or made safe above.
    trusted = {
        "policy": _policy(bundle, script),
        "bundle": bundle,
        "script": script,
        "css": css,
        "variables": _variables(),
        "charts": _json(_charts(diagnosis, start)),
        "points_json": _json(points),
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["typeset"] = typeset
    environment.filters["soft"] = lambda text: Markup("<wbr>").join(escape(part) for part in _BREAKS.split(text))
    return environment.from_string(page).render(
        **{name: Markup(text) for name, text in trusted.items()},  # noqa: S704 - see above
        **_words(diagnosis),
        title=plain(title),
        source=plain(source),
        facts=_facts(diagnosis, source, made or datetime.now(UTC)),
        tables=tables(diagnosis),
        limits=limits(diagnosis),
        points=points,
        start=start,
        here=points[start] if points else None,
        mixed=_mixed(diagnosis.frontier),
    )


def _file(name: str) -> str:
    return (resources.files("agentroute.reporting") / "page" / name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """JSON that may stand inside a `script` element, whatever names it holds."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _policy(*scripts: str) -> str:
    """A content security policy: these scripts by their hashes, styles, pictures inside the file, and nothing else."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _variables() -> str:
    light, dark = ("".join(f"--{name}:{value};" for name, value in colours.items()) for colours in (LIGHT, DARK))
    return (
        f":root{{{light}}}\n@media screen and (prefers-color-scheme: dark){{:root:not([data-theme=light]){{{dark}}}}}\n"
        f"@media screen{{:root[data-theme=dark]{{{dark}}}}}"
    )


def _charts(diagnosis: RoutingDiagnosis, start: int) -> dict[str, Spec]:
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
    if diagnosis.tasks:
        largest = sorted(diagnosis.tasks[:_TASKS], key=lambda task: -task.gain.value)
        gains = [Dot(name=task.task, interval=task.gain, kind=_BEYOND.get(noise(task.gain), "plain")) for task in largest]
        about = (
            "Gain over the best single model by task with its 95 % interval, as in the table below; the dashed line is no gain."
        )
        charts["tasks"] = dots(gains, VARIABLES, axis="Gain over the best single model", say=signed, line=0.0, about=about)
    made = {} if diagnosis.frontier is None else {"plane": page_plane(diagnosis.frontier, VARIABLES, start=start)}
    return {**made, **{name: compiled(chart) for name, chart in charts.items()}}


_KINDS: Mapping[str, Any] = {"baseline": "plain", "routed": "routed", "bound": "bound"}
_BEYOND: Mapping[str, Any] = {"better": "routed", "worse": "bound"}


def _start(diagnosis: RoutingDiagnosis) -> int:
    """The point of the curve that is nearest to what was judged: there the slider starts."""
    frontier = diagnosis.frontier
    routed = [row for row in diagnosis.evaluation.rows if row.kind == "routed"]
    if frontier is None or not routed:
        return 0
    if not (math.isfinite(routed[0].cost.value) and routed[0].cost.value > 0):
        return len(frontier.points) - 1

    def distance(place: int) -> float:
        point = frontier.points[place]
        return abs(point.cost.value / routed[0].cost.value - 1) + abs(point.quality.value - routed[0].quality.value)

    return min(reversed(range(len(frontier.points))), key=distance)


def _mixed(frontier: Frontier | None) -> list[str]:
    """The models that answer anything at any willingness to pay, cheapest first."""
    if frontier is None:
        return []
    cost = {one.model: one.cost.value for one in frontier.singles}
    used = {model for point in frontier.points for model, share in point.shares.items() if share > 0}
    return [plain(model) for model in _ordered(used, cost)]


def _ordered(models: set[str], cost: Mapping[str, float]) -> list[str]:
    return sorted(models, key=lambda model: (cost.get(model, math.inf), model))


def _points(frontier: Frontier | None) -> list[dict[str, Any]]:
    """Every text that the slider may show."""
    if frontier is None:
        return []
    cost = {one.model: one.cost.value for one in frontier.singles}
    used = _ordered({model for point in frontier.points for model, share in point.shares.items() if share > 0}, cost)
    return [_point(point, used, frontier.best_single) for point in frontier.points]


def _point(point: FrontierPoint, models: list[str], best: str) -> dict[str, Any]:
    said = noise(point.gain)
    texts = {
        "rate": rate(point.willingness_to_pay),
        "quality": quality(point.quality.value),
        "quality-span": span(point.quality, quality),
        "cost": thousand(point.cost.value),
        "cost-span": span(point.cost, thousand),
        "gain": f"{signed(point.gain.value)}, {said}" if said else signed(point.gain.value),
        "gain-span": span(point.gain, signed),
        "saving": percent(point.saving.value),
        "saving-span": span(point.saving, percent),
        "mix": signed(point.over_mix.value),
        "mix-span": span(point.over_mix, signed),
        "sentence": _sentence(point, best),
    }
    shares = [point.shares.get(model, 0.0) for model in models]
    return {
        "texts": {name: typeset(text) for name, text in texts.items()},
        "shares": [[typeset(percent(share)), round(100 * share, 1)] for share in shares],
    }


def _sentence(point: FrontierPoint, best: str) -> str:
    worth = "At any price" if math.isinf(point.willingness_to_pay) else f"At {rate(point.willingness_to_pay)}"
    compared = {"better": "better than", "worse": "worse than", "the same": "as good as"}
    said = compared.get(noise(point.gain), "not distinguishable from")
    return f"{worth} the router is {said} always {_brief(best)} and {_money(point.saving)}."


def _brief(name: str) -> str:
    return one_line(plain(name), 40)


def _money(saving: Interval) -> str:
    if math.isnan(saving.value):
        return "its saving is unknown"
    if round(100 * saving.value) == 0:
        return "costs as much"
    return f"saves {percent(saving.value)}" if saving.value > 0 else f"costs {percent(-saving.value)} more"


def _facts(diagnosis: RoutingDiagnosis, source: str, made: datetime) -> list[tuple[str, str]]:
    evaluation = diagnosis.evaluation
    judged = f"{evaluation.queries:,} queries of {len(diagnosis.singles)} models"
    facts = [("Log", plain(source)), ("Judged on", judged), ("Made", f"{made:%d %B %Y, %H:%M} {made.tzname() or ''}".strip())]
    return [(name, value) for name, value in facts if value]


def _words(diagnosis: RoutingDiagnosis) -> dict[str, Any]:
    from agentroute import __version__

    verdict, headline = _headline(diagnosis)
    (one, other), together = diagnosis.top_two
    many = {"task": "Tasks", "labels": "Labels", "cluster": "Clusters of queries"}.get(diagnosis.lookup_by, "Tasks")
    noun = {"task": "task", "labels": "labels", "cluster": "cluster"}.get(diagnosis.lookup_by, "task")
    enough = "does as well as the router" if diagnosis.lookup_is_enough else "does not do as well as the router"
    frontier = diagnosis.frontier
    return {
        "version": __version__,
        "verdict": verdict,
        "headline": headline,
        "reasons": [plain(reason) for reason in diagnosis.reasons],
        "findings": [plain(finding.text) for finding in diagnosis.findings],
        "best_single": "" if frontier is None else _brief(frontier.best_single),
        "aiq": "" if frontier is None else typeset(_aiq(frontier)),
        "pair": typeset(
            f"The two models that complete each other best are {plain(one)} and {plain(other)}: the better of their two answers "
            f"scores {quality(together.value)} ({span(together, quality)})."
        ),
        "calibrated": [
            (plain(model.model), typeset(f"AUROC {quality(model.auroc.value)}, {model.regime}"))
            for model in diagnosis.calibration
        ],
        "kinds": many,
        "lookup": f"A table from {noun} to model {enough}.",
        "tasks_note": f"The chart shows the {_TASKS} largest of {len(diagnosis.tasks)}." if len(diagnosis.tasks) > _TASKS else "",
        "degeneracy": _degeneracy(diagnosis),
        "settings": [(plain(name), plain(value)) for name, value in diagnosis.settings.items()],
    }


def _headline(diagnosis: RoutingDiagnosis) -> tuple[str, str]:
    """The verdict in large type, and the sentence below it: `Route to save money: it saves ...` is both."""
    whole = plain(diagnosis.headline)
    verdict, colon, sentence = whole.partition(": ")
    if not colon or len(verdict) > _VERDICT:
        return VERDICTS[diagnosis.verdict], whole
    if not sentence.startswith(tuple(plain(one.model) for one in diagnosis.singles)):  # a name keeps its letters
        sentence = sentence[:1].upper() + sentence[1:]
    return verdict, sentence


def _aiq(frontier: Frontier) -> str:
    if math.isnan(frontier.aiq_gain.value):
        return "All models cost the same, so that there is no mean height over costs."
    router, singles, gain = frontier.aiq.value, frontier.aiq_singles.value, frontier.aiq_gain
    return (
        f"Mean height over the single models' range of costs (RouterBench's AIQ): router {quality(router)}, single models "
        f"{quality(singles)}, difference {signed(gain.value)} ({span(gain, signed)})."
    )


def _degeneracy(diagnosis: RoutingDiagnosis) -> str:
    found = diagnosis.degeneracy
    most = f"{plain(found.model)} answers {percent(found.share.value)} ({span(found.share, percent)})"
    if found.always:
        return typeset(f"{most}: this router is as good as always {plain(found.model)}, it hardly chooses.")
    highest = math.log2(max(len(diagnosis.singles), 1))
    return typeset(f"{most}. The choice has {found.entropy.value:.2f} bits of at most {highest:.2f}.")
