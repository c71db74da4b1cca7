"""The smaller charts of a report: Altair describes them, Vega draws them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, TypeAlias

from agentroute.errors import MissingExtraError
from agentroute.evaluation import Interval, ModelCalibration
from agentroute.reporting._theme import config
from agentroute.reporting.words import figure, plain, quality, short_names, typeset

__all__ = ["SHARES", "Dot", "Spec", "calibration", "compiled", "data", "dots", "extent", "labelled", "libraries", "told"]

Spec: TypeAlias = dict[str, Any]

_ANCHORS = ["bottom-right", "right", "left", "top-left", "bottom", "top", "bottom-left", "top-right"]
"""Where text is tried: first below, since the curves rise to the right."""
_OFFSETS = (9, 16)
"""Pixels from a point to its text, the nearest that fits: from further away it would seem to be another point's."""
_PLACE: Mapping[str, Any] = {
    "type": "label",
    "size": {"signal": "[width, height]"},
    "anchor": _ANCHORS * len(_OFFSETS),
    "offset": [offset for offset in _OFFSETS for _ in _ANCHORS],
    "sort": {"field": "datum.rank"},
}
_RING = [(round(6 * math.cos(math.pi * k / 4), 1), round(6 * math.sin(math.pi * k / 4), 1)) for k in range(8)]
"""Pixels from the middle of a point to its rim, all around."""
_LETTER, _CELLS = 6.5, 20
"""Pixels of a letter, about; points along a text, so close that no other text fits between them."""
_ABOVE = frozenset({"steps_marks", "spread_marks", "singles_marks"})
"""What is drawn over the ground around texts."""
_LAST = 9
"""The rank of what has no text."""
_NARROW = 420
"""Pixels below which names are shortened further."""
SHARES = (0.0, 1.0)
"""What qualities can be."""
_ROW = 26
"""Pixels a row of dots."""


def libraries() -> tuple[ModuleType, ModuleType]:
    """Altair and vl-convert.

    Raises:
        MissingExtraError: One of them is not installed.
    """
    try:
        import altair as alt
        import vl_convert
    except ImportError as error:
        raise MissingExtraError("a report", "report") from error
    return alt, vl_convert


def told(interval: Interval, say: Callable[[float], str]) -> str:
    """A figure and its interval, for tooltips."""
    return typeset(figure(interval, say))


def data(rows: Iterable[Mapping[str, Any]], name: str | None = None) -> Any:
    """The rows as Altair data; what is not finite is left blank, since JSON has no word for it."""
    clean = [{key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()} for row in rows]
    return libraries()[0].Data(values=clean, **({} if name is None else {"name": name}))


def extent(values: Iterable[float], *, within: tuple[float, float] = (-math.inf, math.inf)) -> list[float]:
    """From the least to the greatest of the values that are finite, with a margin that reaches no tick beyond what can be."""
    seen = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    margin = max(0.06 * (max(seen) - min(seen)), 0.02)
    low, high = min(seen) - margin, max(seen) + margin
    beyond = 0.02 * (high - low)
    return [max(low, min(within[0] - beyond, *seen)), min(high, max(within[1] + beyond, *seen))]


def compiled(chart: Any) -> Spec:
    """The Vega specification of a chart."""
    spec: Spec = libraries()[1].vegalite_to_vega(chart.to_dict())
    return spec


def labelled(
    spec: Spec, shown: Iterable[Mapping[str, Any]], clear: Iterable[tuple[float, float]], *, halo: str, looks: Mapping[str, Any]
) -> Spec:
    """The specification with a text beside each point, none over another: Vega can place text so, Vega-Lite cannot ask it to.

    What ground shows around a text covers lines, and no point.

    Args:
        spec: A Vega specification with the scales `x` and `y`, whose marks `singles_marks` are the points.
        shown: The points, with `cost`, `quality`, `label`, `brief` for where it is narrow, and `rank`: where room is short, the
            least rank keeps its text, and 0 has it always.
        clear: (cost, quality) of places that no text may cover.
        halo: Colour around the text, so that it is legible over lines.
        looks: Other properties of the text.
    """
    shown = list(shown)
    # Vega keeps labels clear of the middles of points and of other labels; of lines and of points as they are drawn only where
    # there is a canvas to measure on. So both are given as points whose label is empty.
    bare = [{"cost": cost, "quality": height} for cost, height in clear]
    bare += [{"cost": row["cost"], "quality": row["quality"], "dx": dx, "dy": dy} for row in shown for dx, dy in _RING]
    bare += [cell for row in shown if row["rank"] == 0 for cell in _kept_free(row)]
    kept = ("cost", "quality", "label", "brief", "rank")
    rows = [
        *({key: row[key] for key in kept} for row in shown),
        *({**row, "label": "", "brief": "", "rank": _LAST} for row in bare),
    ]
    own = {name: {"value": value} for name, value in looks.items()}
    narrow = f"width < {_NARROW}"
    aside = f"({narrow} && datum.nx || datum.dx || 0) * (datum.inward && {_right('datum.cost')} ? -1 : 1)"
    at = {
        "x": {"scale": "x", "field": "cost", "offset": {"signal": aside}},
        "y": {"scale": "y", "field": "quality", "offset": {"signal": "datum.dy || 0"}},
        "text": {"signal": f"{narrow} ? datum.brief : datum.label"},
    }
    text = {"type": "text", "aria": False, "interactive": False}
    around = {**own, "stroke": {"value": halo}, "strokeWidth": {"value": 4}, "strokeJoin": {"value": "round"}}
    hidden = {**own, "fill": {"value": "transparent"}}
    placed = {**text, "from": {"data": "places"}}
    below = [
        {**text, "name": "places", "from": {"data": "named"}, "encode": {"enter": hidden, "update": at}, "transform": [_PLACE]},
        {**placed, "name": "halo", "encode": {"enter": around, "update": _SAME}},
    ]
    above = {**placed, "name": "labels", "encode": {"enter": own, "update": _SAME}}
    marks = spec["marks"]
    dots = next(place for place, mark in enumerate(marks) if mark["name"] in _ABOVE)
    data_ = [*spec["data"], {"name": "named", "values": rows}]
    return {**spec, "data": data_, "marks": [*marks[:dots], *below, *marks[dots:], above]}


def _right(cost: str) -> str:
    """Vega's expression for a cost in the right half of the plane."""
    return f"(scale('x', {cost}) > width / 2)"


def _kept_free(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Points all over the place above a point, inward, where its text is put if nothing else is free: no other goes there."""
    wide, narrow = (_LETTER * len(row[text]) for text in ("label", "brief"))
    at = {"cost": row["cost"], "quality": row["quality"], "inward": True}
    shares = [step / _CELLS for step in range(_CELLS + 1)]
    return [{**at, "dx": 9 + share * wide, "nx": 9 + share * narrow, "dy": -dy} for share in shares for dy in (10, 18)]


def _forced() -> Mapping[str, Any]:
    """How a text is drawn that has been placed; where nothing is free, that of rank 0 is put above its point, inward."""
    x, y = (f"scale('{axis}', datum.datum.{field})" for axis, field in (("x", "cost"), ("y", "quality")))
    right = _right("datum.datum.cost")
    otherwise = {
        "x": f"{x} + ({right} ? -9 : 9)",
        "y": f"{y} - 9",
        "align": f"{right} ? 'right' : 'left'",
        "baseline": "'bottom'",
    }
    same: dict[str, Any] = {name: {"signal": f"datum.opacity ? datum.{name} : {said}"} for name, said in otherwise.items()}
    same["text"] = {"field": "text"}
    same["limit"] = {"signal": "datum.opacity ? 0 : width / 2"}
    same["opacity"] = {"signal": "datum.opacity || datum.datum.rank == 0 ? 1 : 0"}
    return same


_SAME = _forced()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One figure with its interval.

    Attributes:
        name: What it is of, in full.
        interval: The figure.
        kind: `"routed"` is what the report is about, `"bound"` is out of reach.
    """

    name: str
    interval: Interval
    kind: Literal["plain", "routed", "bound"] = "plain"


def dots(
    shown: Iterable[Dot],
    colours: Mapping[str, str],
    *,
    axis: str,
    say: Callable[[float], str] = quality,
    times: float = 1.0,
    line: float | None = None,
    about: str,
) -> Any:
    """Figures with their intervals, one a row.

    Args:
        shown: From top to bottom; figures that are unknown are left out.
        colours: By name.
        axis: Title of the axis.
        say: A figure in words.
        times: What the axis multiplies figures by: 100 = points.
        line: Where a line is drawn for comparison.
        about: What the chart shows, for those who do not see it.
    """
    alt, _ = libraries()
    known = [dot for dot in shown if math.isfinite(dot.interval.value)]
    # A model may be called what a way to choose is called: with a blank behind it, it is another name and gets another label.
    keys = [dot.name + " " * sum(other.name == dot.name for other in known[:place]) for place, dot in enumerate(known)]
    labels = short_names(keys, 22)
    rows = [
        {
            "label": labels[key],
            "value": times * dot.interval.value,
            "low": times * dot.interval.low,
            "high": times * dot.interval.high,
            "kind": dot.kind,
            "Name": plain(dot.name),
            axis: told(dot.interval, say),
        }
        for key, dot in zip(keys, known, strict=True)
    ]
    kinds = ["plain", "routed", "bound"]
    chart = alt.Chart(data(rows))
    y = alt.Y("label:N", sort=None, title=None).axis(
        labelLimit=170, domain=False, ticks=False, labelColor=colours["ink"], grid=False
    )
    ends = [end for dot in known for end in (dot.interval.value, dot.interval.low, dot.interval.high)]
    domain = [
        times * end
        for end in extent([*ends, *(() if line is None else (line,))], within=SHARES if say is quality else (-1.0, 1.0))
    ]
    scale = alt.Scale(domain=domain, zero=False, nice=False)
    x = alt.X("value:Q", title=axis, scale=scale).axis(
        format=".3~f", titleAnchor="end", tickCount=alt.ExprRef("max(ceil(width / 90), 2)")
    )
    colour = alt.Color("kind:N", legend=None).scale(domain=kinds, range=[colours["ink"], colours["router"], colours["oracle"]])
    shape = alt.Shape("kind:N", legend=None).scale(domain=kinds, range=["circle", "diamond", "triangle-up"])
    layers = [
        chart.mark_rule(strokeWidth=2, aria=False).encode(y=y, x=alt.X("low:Q"), x2="high:Q", color=colour),
        chart.mark_point(filled=True, size=90, opacity=1, aria=False).encode(
            y=y, x=x, color=colour, shape=shape, tooltip=[alt.Tooltip("Name:N"), alt.Tooltip(f"{axis}:N")]
        ),
    ]
    if line is not None:
        measure = alt.Chart(data([{"value": times * line}]))
        layers.insert(0, measure.mark_rule(color=colours["control"], strokeDash=[4, 3], aria=False).encode(x="value:Q"))
    return alt.layer(*layers).properties(width="container", height=alt.Step(_ROW), description=about).configure(**config(colours))


def calibration(one: ModelCalibration, colours: Mapping[str, str]) -> Any:
    """The reliability curve of one model: what was expected, and what came; on the diagonal the two agree.

    Args:
        one: Of the model.
        colours: By name.
    """
    alt, _ = libraries()
    curve = [
        {
            "expected": expected,
            "seen": seen,
            "share": share,
            "Expected": quality(expected),
            "Seen": quality(seen),
            "Queries": typeset(f"{100 * share:.0f} %"),
        }
        for expected, seen, share in one.curve
    ]
    unit = alt.Scale(domain=[0, 1])
    x = alt.X("expected:Q", scale=unit, title="Expected").axis(values=[0, 0.5, 1], format=".1~f", grid=False)
    y = alt.Y("seen:Q", scale=unit, title="Seen").axis(values=[0, 0.5, 1], format=".1~f", domain=False, ticks=False)
    ends = alt.Chart(data([{"expected": 0, "seen": 0}, {"expected": 1, "seen": 1}]))
    seen = alt.Chart(data(curve))
    tips = [alt.Tooltip(f"{name}:N") for name in ("Expected", "Seen", "Queries")]
    size = alt.Size("share:Q", legend=None, scale=alt.Scale(domain=[0, 1], range=[20, 400]))
    return (
        alt.layer(
            ends.mark_line(color=colours["control"], strokeDash=[4, 3], strokeWidth=1.5, aria=False).encode(x=x, y=y),
            seen.mark_line(color=colours["router"], strokeWidth=2, aria=False).encode(x=x, y=y),
            seen.mark_circle(color=colours["router"], opacity=1, aria=False).encode(x=x, y=y, size=size, tooltip=tips),
        )
        .properties(
            width="container", height=160, description=f"Expected and seen quality in {len(curve)} bins of the estimates."
        )
        .configure(**config(colours))
    )
