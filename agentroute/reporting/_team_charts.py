"""The charts of a report on a team: roles by models, and what budgets buy."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agentroute.evaluation import Interval
from agentroute.reporting._charts import SHARES, Spec, compiled, data, extent, labelled, libraries, told
from agentroute.reporting._team_values import Frontier, TeamDiagnosis, Way
from agentroute.reporting._team_words import called
from agentroute.reporting._theme import config
from agentroute.reporting.words import percent, plain, points, short_names, thousand, typeset
from agentroute.teams import NONE, RoleEffect

__all__ = ["BOUNDS", "SHADES", "frontier_chart", "heat_map", "least_width"]

BOUNDS: Final = (-12.0, -6.0, -2.0, 2.0, 6.0, 12.0)
"""Points of success between the shades."""
SHADES: Final = ("loss-3", "loss-2", "loss-1", "even", "gain-1", "gain-2", "gain-3")
"""Names of the colours, from what costs most to what adds most."""

_ROW, _LEAST, _CELL, _NAMES = 58, 68, 92, 120
"""Pixels: of a row, of a cell at least, of a cell that has room for its interval on one line, of the names beside them."""
_HATCH = 6
"""Lines through a cell of which nothing can be told."""
_LOGARITHMIC = 30
_WORDS: Mapping[str, tuple[str, str]] = {"not identifiable": ("not", "identifiable"), "too few runs": ("too few", "runs")}


def least_width(found: TeamDiagnosis) -> int:
    """Pixels that the heat map needs, so that its words have room: on a phone it is moved to and fro."""
    return _NAMES + _LEAST * len(found.team.roles)


def heat_map(
    found: TeamDiagnosis, colours: Mapping[str, str], *, width: int | None = None, size: int = 12, header: Any = None
) -> Spec:
    """What each model (row) adds in each role (column); cells of which the runs cannot tell are hatched and say so.

    Args:
        found: What is drawn.
        colours: By name.
        width: Of the cells, in pixels; `None` = as wide as there is room.
        size: Of the text, in pixels.
        header: A title.
    """
    alt, _ = libraries()
    roles, models = [role.name for role in found.team.roles], _rows(found)
    rows = [_cell(found, one, roles.index(one.role), models.index(one.model)) for one in found.fit.effects]
    blank = [row for row in rows if row["words"]]
    x = alt.X("x:Q", scale=alt.Scale(domain=[0, len(roles)], nice=False), title=None).axis(
        **_axis(roles, "top"), labelLimit=alt.ExprRef(f"width / {len(roles)} - 6"), labelColor=colours["ink"]
    )
    labels = short_names([model if model != NONE else "left out" for model in models], 18 if width is None else 30)
    y = alt.Y("y:Q", scale=alt.Scale(domain=[len(models), 0], nice=False), title=None).axis(
        **_axis([labels[model if model != NONE else "left out"] for model in models], "left"),
        labelLimit=_NAMES if width is None else 2 * _NAMES,
        labelColor=colours["ink"],
    )
    shade = alt.Color("shade:N", legend=None).scale(domain=list(SHADES), range=[colours[name] for name in SHADES])
    tips = [alt.Tooltip(f"{name}:N") for name in ("Role", "Model", "Adds", "Runs")]
    cells = alt.Chart(data(rows))
    rects = cells.mark_rect(stroke=colours["ground"], strokeWidth=3, aria=False, opacity=1)
    layers = [
        rects.transform_filter("datum.words == ''").encode(x=x, x2="x2:Q", y=y, y2="y2:Q", color=shade, tooltip=tips),
        rects.transform_filter("datum.words != ''").encode(
            x=x, x2="x2:Q", y=y, y2="y2:Q", color=alt.value(colours["raised"]), tooltip=tips
        ),
    ]
    if blank:
        lines = alt.Chart(data(line for row in blank for line in _hatching(row)))
        hatch = lines.mark_rule(color=colours["hairline"], strokeWidth=1.5, aria=False)
        layers.append(hatch.encode(x=x, x2="x2:Q", y=y, y2="y2:Q"))
    layers += _texts(alt, cells, colours, size, len(roles))
    chart = alt.layer(*layers).properties(
        width="container" if width is None else width,
        height=_ROW * len(models) * size // 12,
        description=f"What {len(found.models)} models add in {len(roles)} roles; the table holds the same figures.",
        **({} if header is None else {"title": header, "padding": 24}),
    )
    spec = compiled(chart.configure(**config(colours, size=size)))
    # Who points at the middle of a cell points at its text: what lies over cells lets the pointer through.
    marks = [mark if mark["type"] == "rect" else {**mark, "interactive": False} for mark in spec["marks"]]
    return {**spec, "marks": marks}


def _texts(alt: Any, cells: Any, colours: Mapping[str, str], size: int, columns: int) -> list[Any]:
    """A figure and its interval in each cell, or two lines of words; where it is narrow, the interval takes two lines."""
    narrow = f"width < {_CELL * columns * size // 12}"

    def text(field: str, which: str, dy: Any, **looks: Any) -> Any:
        marks = cells.transform_filter(which).mark_text(dy=dy, color=colours["ink"], aria=False, tooltip=None, **looks)
        return marks.encode(x=alt.X("mid:Q"), y=alt.Y("middle:Q"), text=alt.Text(f"{field}:N"))

    def either(one: float, other: float) -> Any:
        return alt.ExprRef(f"{narrow} ? {one} : {other}")

    known, words = "datum.words == ''", "datum.words != ''"
    large, small = {"fontSize": round(1.25 * size), "dy": either(-16, -8)}, {"fontSize": size - 1}
    return [
        text("figure", f"{known} && datum.sure", fontWeight=700, **large),
        text("figure", f"{known} && !datum.sure", **large),
        text("note", known, 11, opacity=either(0, 1), **small),
        text("from", known, 3, opacity=either(1, 0), **small),
        text("to", known, 17, opacity=either(1, 0), **small),
        text("figure", words, -7, fontStyle="italic", **small),
        text("note", words, 7, fontStyle="italic", **small),
    ]


def _axis(names: Sequence[str], orient: str) -> dict[str, Any]:
    """Names in the middles of cells. They come out of a log: as JSON they are strings in Vega's expressions and nothing else."""
    shown = json.dumps([plain(name) for name in names])
    at = {"values": [place + 0.5 for place in range(len(names))], "labelExpr": f"{shown}[floor(datum.value)]", "orient": orient}
    return {**at, "grid": False, "ticks": False, "domain": False, "labelOverlap": False}


def _rows(found: TeamDiagnosis) -> list[str]:
    left_out = [NONE] if any(one.model == NONE for one in found.fit.effects) else []
    return [*found.models, *left_out]


def _cell(found: TeamDiagnosis, one: RoleEffect, column: int, row: int) -> dict[str, Any]:
    effect = found.effect(one)
    place = {"x": column, "x2": column + 1, "mid": column + 0.5, "y": row, "y2": row + 1, "middle": row + 0.5}
    who = {**place, "Role": plain(one.role), "Model": called(one.model), "Runs": f"{one.runs:,}"}
    if one.logit is None:
        first, second = _WORDS[one.verdict]
        return {**who, "figure": first, "note": second, "words": one.verdict, "shade": "even", "sure": False, "Adds": one.verdict}
    return {
        **who,
        "figure": typeset(points(effect.value)),
        "note": typeset(f"{points(effect.low)} to {points(effect.high)}"),
        "from": typeset(f"{points(effect.low)} to"),
        "to": typeset(points(effect.high)),
        "words": "",
        "shade": SHADES[sum(100 * effect.value > bound for bound in BOUNDS)],
        "sure": effect.low > 0 or effect.high < 0,
        "Adds": told(effect, points),
    }


def _hatching(row: Mapping[str, Any]) -> list[dict[str, float]]:
    """Slanted lines through a cell, from its left or upper side to its lower or right one."""
    lines = []
    for step in range(1, 2 * _HATCH):
        along = step / _HATCH
        left, top = max(0.0, along - 1), min(1.0, along)
        lines.append({"x": row["x"] + left, "y": row["y"] + top, "x2": row["x"] + top, "y2": row["y"] + left})
    return lines


# --- what budgets buy ---


def frontier_chart(found: TeamDiagnosis, colours: Mapping[str, str]) -> Spec:
    """Success over cost: own models for each role at each budget, one map for all tasks, one model everywhere.

    Args:
        found: What is drawn; of some budget the cost is known.
        colours: By name.
    """
    alt, _ = libraries()
    frontier = found.frontier
    own, maps, dots = (_points(frontier, kind) for kind in (("allocator",), ("map",), ("one model", "logged")))
    shown = [*own, *maps, *dots]
    steps = alt.ExprRef("max(ceil(width / 110), 3)")
    x = alt.X("cost:Q", scale=_money(alt, shown), title="Cost of 1,000 runs (USD)").axis(
        format="$,.3~r", tickCount=steps, grid=False
    )
    heights = extent([end for row in shown for end in (row["low"], row["high"], row["quality"])], within=SHARES)
    y = alt.Y("quality:Q", scale=alt.Scale(domain=heights, zero=False, nice=False), title="Success").axis(
        format=".0%", tickCount=6, domain=False, ticks=False
    )
    tips = [alt.Tooltip(f"{name}:N") for name in ("Way", "Success", "1,000 runs")]
    span = {"y": alt.Y("low:Q"), "y2": "high:Q"}
    line, other, single = (alt.Chart(data(rows)) for rows in (own, maps, dots))
    layers = {
        "band": line.mark_area(color=colours["band"], opacity=1, aria=False).encode(x=x, **span),
        "curve": line.mark_line(color=colours["router"], strokeWidth=2.5, aria=False).encode(x=x, y=y, order="cost:Q"),
        "map": other.mark_line(color=colours["control"], strokeWidth=2, strokeDash=[6, 4], aria=False).encode(
            x=x, y=y, order="cost:Q"
        ),
        "spread": single.mark_rule(color=colours["muted"], aria=False).encode(x=x, **span),
        "map_points": other.mark_point(filled=True, size=40, color=colours["control"], opacity=1, aria=False).encode(
            x=x, y=y, tooltip=tips
        ),
        "points": line.mark_point(filled=True, size=50, color=colours["router"], opacity=1, aria=False).encode(
            x=x, y=y, tooltip=tips
        ),
        "singles": single.mark_point(
            filled=True, size=70, fill=colours["ink"], stroke=colours["ground"], strokeWidth=1, opacity=1, aria=False
        ).encode(x=x, y=y, tooltip=tips),
        "featured": line.transform_filter("datum.featured")
        .mark_point(filled=False, size=300, stroke=colours["router"], strokeWidth=2, opacity=1, aria=False)
        .encode(x=x, y=y),
    }
    kept = {name: layer for name, layer in layers.items() if maps or not name.startswith("map")}
    chart = (
        alt.layer(*(layer.properties(name=name) for name, layer in kept.items()))
        .properties(width="container", height="container", description=_described(found))
        .properties(autosize=alt.AutoSizeParams(type="fit", contains="padding"))
        .configure(**config(colours))
    )
    clear = [(row["cost"], row["quality"]) for row in (*own, *maps)]
    looks = {"fill": colours["ink"], "fontSize": 12, "font": config(colours)["font"]}
    return labelled(compiled(chart), [row for row in dots if row["label"]], clear, halo=colours["ground"], looks=looks)


def _described(found: TeamDiagnosis) -> str:
    frontier = found.frontier
    told_ = "measured on runs that were held out" if frontier.measured else "expected, not measured"
    return (
        f"Cost and success ({told_}) of teams with own models for each role at {len(frontier.of('allocator'))} budgets, "
        f"beside {len(frontier.of('one model'))} models that have all roles. The tables hold the same figures."
    )


def _points(frontier: Frontier, kinds: Sequence[str]) -> list[dict[str, Any]]:
    ways = [one for kind in kinds for one in frontier.of(kind)]
    names = short_names([_single(way) for way in ways], 26)
    briefs = short_names([_single(way) for way in ways], 18)
    rows = []
    for way in ways:
        success, cost = frontier.success(way), frontier.money(way)
        if math.isnan(success.value) or math.isnan(cost.value):
            continue
        rows.append(
            {
                "label": names[_single(way)],
                "brief": briefs[_single(way)],
                "rank": 0 if way.kind == "one model" else 1,
                "cost": 1000 * cost.value,
                "quality": success.value,
                "low": success.low,
                "high": success.high,
                "featured": way is frontier.featured,
                "Way": _way(way),
                "Success": told(success, percent),
                "1,000 runs": told(Interval(value=cost.value, low=cost.low, high=cost.high), thousand),
            }
        )
    return sorted(rows, key=lambda row: row["cost"])


def _single(way: Way) -> str:
    return way.name.removeprefix("always ") if way.kind == "one model" else way.name


def _way(way: Way) -> str:
    budget = "" if way.budget is None else f", budget {thousand(way.budget)} for 1,000 runs"
    return {"allocator": f"own models{budget}", "map": f"one map for all tasks{budget}"}.get(way.kind, plain(way.name))


def _money(alt: Any, shown: Sequence[Mapping[str, Any]]) -> Any:
    costs = [row["cost"] for row in shown]
    low, high = min(costs), max(costs) or 1.0
    if low > 0 and high / low > _LOGARITHMIC:
        return alt.Scale(type="log", domain=[low / 1.4, high * (high / low) ** 0.1], nice=False)
    margin = 0.08 * (high - low) or 0.1 * high
    return alt.Scale(domain=[max(low - margin, 0.0), high + 1.5 * margin], zero=False, nice=False)
