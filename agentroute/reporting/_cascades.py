"""A comparison of cascades as tables, for the page and for the terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping

from agentroute.evaluation import CascadeComparison, CascadeCurve
from agentroute.reporting._cells import BEYOND, Cell, Table, cell, difference, known, made, named
from agentroute.reporting._json import as_plain
from agentroute.reporting.words import UNKNOWN, counted, percent, plain, quality, thousand

__all__ = ["cascade_json", "cascade_tables"]

_MEANS: Mapping[str, str] = {
    "linear interpolation": "the best random mix of single models",
    "routing": "one model for each query, no answer is looked at",
    "threshold cascade": "up to three models in order of cost, a threshold for each answer",
    "cascading": "models in order of cost, planned after each answer",
    "cascade routing": "any model, planned after each answer",
}
_SIGNALS: Mapping[str, str] = {
    "expected before": "learned, before anybody has answered",
    "expected after": "learned, with the model's own answer",
}


def cascade_tables(found: CascadeComparison) -> dict[str, Table]:
    """The ways to call models and what is known of answers, by name."""
    tables = [_ways(found), _signals(found)]
    return {table.name: table for table in tables if table.rows}


def cascade_json(found: CascadeComparison) -> str:
    """The comparison as JSON, indented, with the names of its attributes as keys; what was not observed is `null`.

    Args:
        found: What `compare_cascades` found.
    """
    from agentroute import __version__

    return json.dumps({"agentroute": __version__, **as_plain(found)}, indent=2, ensure_ascii=False, allow_nan=False)


def _ways(found: CascadeComparison) -> Table:
    columns = (
        "Way to call models",
        "Mean quality",
        "Over mixes, points",
        "Over routing, points",
        BEYOND,
        "Asks several in",
        "Looking, USD per 1,000",
    )
    judged = counted(found.queries, "query", "queries")
    caption = f"Mean quality over all costs from the cheapest to the dearest model, on {judged} that were not learned from."
    rows = [_way(one) for one in found.curves]
    return known(made("cascade-ways", caption, columns, rows, marked=[len(rows) - 1]))


def _way(one: CascadeCurve) -> tuple[Cell, ...]:
    over_mix, _ = difference(one.over_mix)
    over_routing, said = difference(one.over_routing)
    nothing = Cell(text="")
    return (
        Cell(text=one.name, note=_MEANS.get(one.name, "")),
        cell(one.area, quality),
        nothing if one.name == "linear interpolation" else over_mix,
        nothing if one.name == "routing" else over_routing,
        nothing if one.name == "routing" else said,
        Cell(text=percent(one.climbs)),
        Cell(text=thousand(one.scoring) if one.scoring else "$0"),
    )


def _signals(found: CascadeComparison) -> Table:
    models = [one.model for one in found.singles]
    at = {(one.signal, one.model): cell(one.auroc, quality) for one in found.signals}
    names = list(dict.fromkeys(one.signal for one in found.signals))
    rows = [
        (Cell(text=plain(name), note=_SIGNALS.get(name, "")), *(at.get((name, model), Cell(text=UNKNOWN)) for model in models))
        for name in names
    ]
    caption = (
        "AUROC of what is known of an answer: the chance that a right answer has more of it than a wrong one; "
        "0.5 = it says nothing."
    )
    headers = [named(model).text for model in models]
    table = known(made("cascade-signals", caption, ("Known of the answer", *headers), rows))
    return Table(
        name=table.name, caption=table.caption, columns=table.columns, rows=table.rows, names=frozenset(table.columns[1:])
    )
