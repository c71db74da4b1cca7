"""The cost-quality plane of a report, for the page and for slides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from agentroute.evaluation import CascadeComparison, Frontier
from agentroute.reporting._charts import SHARES, Spec, compiled, data, extent, labelled, libraries, told
from agentroute.reporting._tables import rate
from agentroute.reporting._theme import config
from agentroute.reporting.words import percent, plain, quality, short_names, thousand

__all__ = ["CASCADES", "CURVES", "page_plane", "slide_plane"]

Lines: TypeAlias = Mapping[str, Sequence[tuple[float, float]]]
"""Curve → (USD a query, quality) of its points."""

CURVES: Mapping[str, tuple[str, list[int]]] = {
    "router": ("router", [1, 0]),
    "best random mix of single models": ("control", [6, 4]),
    "oracle, out of reach": ("oracle", [2, 3]),
}
"""Curve → its colour and its dashes, so that they are told apart without colour."""

CASCADES: Mapping[str, tuple[str, list[int]]] = {"cascade routing": ("cascade", [1, 0]), "cascading": ("cascade", [8, 3])}
"""The same of curves that are there only where cascades were compared."""

_LABEL, _BRIEF = 26, 14
"""Characters of a model's name beside its point, on a wide plane and on a phone."""
_LOGARITHMIC = 30
"""Where the dearest model costs so many times as much as the cheapest, costs are drawn on a logarithmic axis."""
_SHARE = 0.24
"""Of a slide's width, right of the dearest model: there its name stands clear of the router's line."""
_CLOSE = 50
"""So many points along a line keep labels off it."""
_DENSE = 24
"""A mix of two models is a straight line in USD and a bent one in their logarithm: it is drawn through so many points."""


def page_plane(
    frontier: Frontier,
    colours: Mapping[str, str],
    *,
    start: int,
    recommended: int | None = None,
    cascades: CascadeComparison | None = None,
) -> Spec:
    """The plane for the page: as large as its place there, with a marked point that the signal `at` moves.

    Args:
        frontier: What is drawn.
        colours: By name.
        start: The place of the point that is marked at first.
        recommended: The place of the recommended point, if there is one.
        cascades: Their curves are drawn, too.
    """
    alt, _ = libraries()
    more = _within(frontier, cascades)
    drawn = _Drawing(alt, frontier, colours, recommended, more)
    layers = {**drawn.curves(legend=None), **drawn.steps(), **drawn.singles(), **drawn.advised(), **drawn.marked()}
    chart = (
        _layered(alt, layers)
        .properties(width="container", height="container", description=_described(frontier, more))
        .properties(autosize=alt.AutoSizeParams(type="fit", contains="padding"))
        .add_params(alt.param(name="at", value=start))
        .configure(**config(colours))
    )
    return labelled(compiled(chart), _singles(frontier), _clear(frontier, more), **_text(colours, 12))


def slide_plane(
    frontier: Frontier,
    colours: Mapping[str, str],
    *,
    title: Sequence[str],
    subtitle: Sequence[str],
    width: int,
    height: int,
    recommended: int | None = None,
    cascades: CascadeComparison | None = None,
) -> Spec:
    """The plane for slides: with a title and a legend, and nothing to touch.

    Args:
        frontier: What is drawn.
        colours: By name; not CSS variables.
        title: Lines.
        subtitle: Lines.
        width: Of the plane without its axes, in pixels.
        height: Likewise.
        recommended: The place of the recommended point, if there is one.
        cascades: Their curves are drawn, too.
    """
    alt, _ = libraries()
    more = _within(frontier, cascades)
    drawn = _Drawing(alt, frontier, colours, recommended, more, share=_SHARE)
    legend = alt.Legend(orient="bottom", title=None, symbolType="stroke", labelLimit=0, columns=3, offset=16)
    size = 14
    chart = (
        _layered(alt, {**drawn.curves(legend=legend), **drawn.singles(), **drawn.advised(named=True)})
        .properties(width=width, height=height, title=alt.TitleParams(list(title), subtitle=list(subtitle)))
        .properties(description=_described(frontier, more), padding=24)
        .configure(**config(colours, size=size))
    )
    return labelled(compiled(chart), _singles(frontier), _clear(frontier, more), **_text(colours, size))


def _text(colours: Mapping[str, str], size: int) -> dict[str, Any]:
    return {"halo": colours["ground"], "looks": {"fill": colours["ink"], "fontSize": size, "font": config(colours)["font"]}}


def _described(frontier: Frontier, more: Lines) -> str:
    also = f", and of {' and '.join(more)} at several budgets" if more else ""
    return (
        f"Cost and quality of {len(frontier.singles)} single models, of their best random mixes, of the oracle and of the router "
        f"at {len(frontier.points)} willingnesses to pay{also}. The tables hold the same figures."
    )


def _within(frontier: Frontier, cascades: CascadeComparison | None) -> Lines:
    """The curves of cascades, as far as the axis of costs reaches: a cascade may cost more than the dearest model."""
    if cascades is None:
        return {}
    most = max(_costs(frontier), default=math.inf)
    return {
        name: sorted(
            {(one.cost, one.quality) for one in cascades[name].points if one.cost <= most}
        )  # equal budgets, equal points
        for name in CASCADES
    }


def _layered(alt: Any, layers: Mapping[str, Any]) -> Any:
    return alt.layer(*(layer.properties(name=name) for name, layer in layers.items()))


class _Drawing:
    """The layers of the plane, on shared axes."""

    def __init__(
        self,
        alt: Any,
        frontier: Frontier,
        colours: Mapping[str, str],
        recommended: int | None,
        more: Lines,
        *,
        share: float = 0.1,
    ) -> None:
        self.alt, self.frontier, self.colours, self.recommended, self.more = alt, frontier, colours, recommended, more
        # Three labels on a phone; a log axis would else show every digit of every power.
        steps = alt.ExprRef("max(ceil(width / 110), 3)")
        x = alt.X("cost:Q", scale=_money(alt, frontier, share=share), title="Cost of 1,000 queries (USD)")
        y = alt.Y("quality:Q", scale=alt.Scale(domain=_heights(frontier, more), zero=False, nice=False), title="Quality")
        self.x = x.axis(format="$,.3~r", tickCount=steps, grid=False)
        self.y = y.axis(format=".3~f", tickCount=6, domain=False, ticks=False)
        self.points = alt.Chart(data(_points(frontier), "points"))

    def curves(self, *, legend: Any) -> dict[str, Any]:
        """The router's band below, and the curves."""
        alt, looks = self.alt, {**CURVES, **{name: CASCADES[name] for name in self.more}}
        shades = alt.Scale(domain=list(looks), range=[self.colours[colour] for colour, _ in looks.values()])
        dashes = alt.Scale(domain=list(looks), range=[dash for _, dash in looks.values()])
        # What is recommended was chosen out of fold: it lies beside the curve.
        beside = -1 if self.recommended is None else self.recommended
        curve = self.points.transform_filter(f"datum.place != {beside}")
        lines = alt.Chart(data(_lines(self.frontier, self.recommended, self.more), "lines"))
        return {
            "band": curve.mark_area(color=self.colours["band"], opacity=1, aria=False).encode(
                x=self.x, y=alt.Y("low:Q"), y2="high:Q"
            ),
            "curves": lines.mark_line(strokeWidth=2.5, aria=False).encode(
                x=self.x,
                y=self.y,
                order="place:O",
                color=alt.Color("curve:N", legend=legend, scale=shades),
                strokeDash=alt.StrokeDash("curve:N", legend=legend, scale=dashes),
            ),
        }

    def singles(self) -> dict[str, Any]:
        """One dot a model, filled on the hull, with the interval of its quality."""
        alt, colours = self.alt, self.colours
        models = alt.Chart(data(_singles(self.frontier), "models"))
        inside = alt.condition("datum.hull", alt.value(colours["ink"]), alt.value(colours["ground"]))
        return {
            "spread": models.mark_rule(color=colours["muted"], aria=False).encode(x=self.x, y=alt.Y("low:Q"), y2="high:Q"),
            "singles": models.mark_point(opacity=1, size=70, stroke=colours["ink"], strokeWidth=1.5, aria=False).encode(
                x=self.x, y=self.y, fill=inside, tooltip=self._tips("Model", "Quality", "1,000 queries")
            ),
        }

    def steps(self) -> dict[str, Any]:
        """The points of the curve, to be pointed at."""
        shown = self.points.mark_point(size=26, cursor="pointer", **self._filled)
        return {"steps": shown.encode(x=self.x, y=self.y, tooltip=self._told)}

    def advised(self, *, named: bool = False) -> dict[str, Any]:
        """A ring around the recommended point; on slides, which have no legend for it, with its name."""
        if self.recommended is None:
            return {}
        alt, colours = self.alt, self.colours
        here = self.points.transform_filter(f"datum.place == {self.recommended}")
        ring = here.mark_point(
            shape="circle", size=420, filled=False, stroke=colours["router"], strokeWidth=2, opacity=1, aria=False
        )
        layers = {"advised": ring.encode(x=self.x, y=self.y)}
        if named:
            name = here.mark_text(align="center", baseline="bottom", dy=-20, color=colours["ink"], fontSize=14, aria=False)
            layers["advised-name"] = name.encode(x=self.x, y=self.y, text=alt.value("recommended"))
        return layers

    def marked(self) -> dict[str, Any]:
        """The point at `at`, with its intervals in both directions and its way to the axes."""
        alt, colour = self.alt, self.colours["router"]
        here = self.points.transform_filter("datum.place == at")
        dotted = here.mark_rule(color=colour, strokeDash=[2, 3], aria=False)
        solid = here.mark_rule(color=colour, strokeWidth=2, aria=False)
        diamond = here.mark_point(shape="diamond", size=240, stroke=self.colours["ground"], **self._filled)
        return {
            "at-cost": dotted.encode(x=self.x),
            "at-quality": dotted.encode(y=self.y),
            "quality-spread": solid.encode(x=self.x, y=alt.Y("low:Q"), y2="high:Q"),
            "cost-spread": solid.encode(x=alt.X("least:Q"), x2="most:Q", y=self.y),
            "here": diamond.encode(x=self.x, y=self.y, tooltip=self._told),
        }

    @property
    def _filled(self) -> dict[str, Any]:
        return {"filled": True, "opacity": 1, "aria": False, "color": self.colours["router"]}

    @property
    def _told(self) -> list[Any]:
        return self._tips("Willingness to pay", "Quality", "1,000 queries", "Saved")

    def _tips(self, *names: str) -> list[Any]:
        return [self.alt.Tooltip(f"{name}:N") for name in names]


def _logarithmic(frontier: Frontier) -> bool:
    costs = _costs(frontier)
    low, high = min(costs, default=0.0), max(costs, default=1.0)
    return low > 0 and high / low > _LOGARITHMIC


def _money(alt: Any, frontier: Frontier, *, share: float) -> Any:
    """The scale of costs: logarithmic for prices of several magnitudes, else from zero; right of all a share for names."""
    costs = [1000 * cost for cost in _costs(frontier)]
    if _logarithmic(frontier):
        return alt.Scale(
            type="log", domain=[min(costs) / 1.4, max(costs) * (max(costs) / min(costs)) ** (share / (1 - share))], nice=False
        )
    return alt.Scale(domain=[0, (max(costs, default=1.0) or 1.0) / (1 - share)], nice=False)


def _costs(frontier: Frontier) -> list[float]:
    """All that is shown on the axis of costs, the ends of intervals, too."""
    known = [*(one.cost for one in frontier.singles), *(one.cost for one in frontier.points)]
    shown = [*(one.value for one in known), *(cost for cost, _ in frontier.oracle)]
    ends = [end for one in frontier.points for end in (one.cost.low, one.cost.high)]
    return [cost for cost in (*shown, *ends) if math.isfinite(cost)]


def _heights(frontier: Frontier, more: Lines) -> list[float]:
    """Of the quality axis: all that is shown."""
    shown = [*(one.quality for one in frontier.singles), *(one.quality for one in frontier.points)]
    ends = [end for one in shown for end in (one.low, one.high, one.value)]
    others = [height for line in (frontier.oracle, *more.values()) for _, height in line]
    return extent([*ends, *others], within=SHARES)


def _dense(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    found = list(points[:1])
    for (x, y), (to_x, to_y) in pairwise(points):
        found += [(x + (to_x - x) * k / _DENSE, y + (to_y - y) * k / _DENSE) for k in range(1, _DENSE + 1)]
    return found


def _lines(frontier: Frontier, beside: int | None, more: Lines) -> list[dict[str, Any]]:
    router, mix, oracle = CURVES
    curve = [point for place, point in enumerate(frontier.points) if place != beside]
    points = [(point.cost.value, point.quality.value) for point in curve]
    # More money than the best single model costs buys no better mix.
    costs = [*(one.cost.value for one in frontier.singles), *(one.cost.value for one in curve)]
    most = max(filter(math.isfinite, costs), default=0.0)
    hull = [*frontier.hull, *((max(cost, most), height) for cost, height in frontier.hull[-1:])]
    lines = {router: points, mix: _dense(hull), oracle: _dense(frontier.oracle), **{name: _dense(more[name]) for name in more}}
    return [
        {"curve": name, "place": place, "cost": 1000 * cost, "quality": height}
        for name, line in lines.items()
        for place, (cost, height) in enumerate(line)
    ]


def _points(frontier: Frontier) -> list[dict[str, Any]]:
    return [
        {
            "place": place,
            "cost": 1000 * point.cost.value,
            "quality": point.quality.value,
            "low": point.quality.low,
            "high": point.quality.high,
            "least": 1000 * point.cost.low,
            "most": 1000 * point.cost.high,
            "Willingness to pay": rate(point.willingness_to_pay),
            "Quality": told(point.quality, quality),
            "1,000 queries": told(point.cost, thousand),
            "Saved": told(point.saving, percent),
        }
        for place, point in enumerate(frontier.points)
    ]


def _singles(frontier: Frontier) -> list[dict[str, Any]]:
    names = [one.model for one in frontier.singles]
    labels, briefs = short_names(names, _LABEL), short_names(names, _BRIEF)
    best = frontier.best_single
    return [
        {
            "label": f"{labels[one.model]} (best single)" if one.model == best else labels[one.model],
            "brief": f"{briefs[one.model]} (best)" if one.model == best else briefs[one.model],
            "cost": 1000 * one.cost.value,
            "quality": one.quality.value,
            "low": one.quality.low,
            "high": one.quality.high,
            "hull": one.on_hull,
            # Where room is short, the best single model keeps its label first, then those on the hull.
            "rank": 0 if one.model == best else 1 if one.on_hull else 2,
            "Model": plain(one.model),
            "Quality": told(one.quality, quality),
            "1,000 queries": told(one.cost, thousand),
        }
        for one in frontier.singles
    ]


def _clear(frontier: Frontier, more: Lines) -> list[tuple[float, float]]:
    """Points along the router's line, its band, the mix and cascades, so close that no label fits between them."""
    there, back = (math.log, math.exp) if _logarithmic(frontier) else (float, float)
    curve = [(1000 * point.cost.value, point.quality) for point in frontier.points]
    lines = [[(cost, getattr(height, end)) for cost, height in curve] for end in ("value", "low", "high")]
    lines += [[(1000 * cost, height) for cost, height in line] for line in (frontier.hull, *more.values())]
    ends = [there(1000 * cost) for cost in _costs(frontier)] or [0.0, 1.0]
    low, high = _heights(frontier, more)
    wide, tall = max(max(ends) - min(ends), 1e-9), high - low
    close: list[tuple[float, float]] = []
    for line in lines:
        known = [(there(cost), height) for cost, height in line if math.isfinite(cost + height)]
        close += known[:1]
        for (x, y), (to_x, to_y) in pairwise(known):
            parts = max(1, math.ceil(_CLOSE * max(abs(to_x - x) / wide, abs(to_y - y) / tall)))
            close += [(x + (to_x - x) * k / parts, y + (to_y - y) * k / parts) for k in range(1, parts + 1)]
    return [(back(x), y) for x, y in close]
