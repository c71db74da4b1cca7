"""The cost-quality plane, the smaller charts and the picture for slides."""

import json
import math
import re
import struct
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import vl_convert

from agentroute.errors import ConfigError
from agentroute.evaluation import Interval
from agentroute.reporting import report_html, report_png
from agentroute.reporting._charts import Dot, compiled, dots
from agentroute.reporting._image import _picture
from agentroute.reporting._plane import page_plane, slide_plane
from agentroute.reporting._theme import DARK, LIGHT

MADE = datetime(2026, 11, 22, 20, 15, tzinfo=UTC)
UNKNOWN = Interval(value=math.nan, low=math.nan, high=math.nan)


def texts(spec, part):
    """The texts of a part of the plane that are seen: (text, x, y)."""
    group = re.search(rf'mark-text role-mark {part}"[^>]*>(.*?)</g>', vl_convert.vega_to_svg(spec)).group(1)
    found = re.findall(r'<text ([^>]*?)transform="translate\(([-\d.]+),([-\d.]+)\)"([^>]*)>([^<]*)</text>', group)
    return [(text, float(x), float(y)) for before, x, y, after, text in found if text and 'opacity="0"' not in before + after]


def spots(spec):
    """The middles of the single models' points."""
    group = re.search(r'role-mark singles_marks"[^>]*>(.*?)</g>', vl_convert.vega_to_svg(spec)).group(1)
    return [tuple(map(float, spot)) for spot in re.findall(r"translate\(([-\d.]+),([-\d.]+)\)", group)]


@pytest.mark.parametrize(("width", "height"), [(220, 160), (300, 220), (560, 400)])
@pytest.mark.parametrize("count", [2, 12, 30])
def test_the_best_single_model_is_named_beside_its_point_however_crowded(planted, count, width, height):
    frontier = planted(tuple(f"vendor/some-model-{number}b-instruct" for number in range(count)), rates=40).frontier
    spec = slide_plane(frontier, LIGHT, title=["t"], subtitle=["s"], width=width, height=height)
    drawn, dots_ = texts(spec, "labels"), spots(spec)
    x, y = dots_[[one.model for one in frontier.singles].index(frontier.best_single)]
    [(_, at_x, at_y)] = [one for one in drawn if "(best" in one[0]]
    assert abs(at_x - x) < 20
    assert abs(at_y - y) < 30
    assert any("(best" in one[0] for one in texts(spec, "halo"))
    # Every other label is beside a point, too, so that none seems to be another's.
    for _, at_x, at_y in drawn:
        assert min(math.hypot(at_x - x, at_y - y) for x, y in dots_) < 34


def test_the_ground_around_labels_covers_no_point(planted):
    spec = slide_plane(planted().frontier, LIGHT, title=["t"], subtitle=["s"], width=400, height=300)
    order = [mark["name"] for mark in spec["marks"]]
    assert order.index("curves_pathgroup") < order.index("halo") < order.index("singles_marks") < order.index("labels")
    page = page_plane(planted().frontier, LIGHT, start=0)
    order = [mark["name"] for mark in page["marks"]]
    assert order.index("halo") < min(order.index(name) for name in ("steps_marks", "singles_marks", "spread_marks"))


def test_no_label_is_drawn_over_a_point(planted):
    frontier = planted(tuple(f"m{number}" for number in range(30)), rates=5).frontier
    spec = slide_plane(frontier, LIGHT, title=["t"], subtitle=["s"], width=600, height=300)
    dots_ = spots(spec)
    drawn = [one for one in texts(spec, "labels") if "(best" not in one[0]]
    assert len(drawn) > 5
    for _, x, y in drawn:
        assert min(math.hypot(x - at_x, y - at_y) for at_x, at_y in dots_) > 4


def moved(frontier, low, high):
    """The plane with qualities that lie close together, the oracle included."""

    def put(value):
        return low + (high - low) * (value - 0.4) / 0.6

    def between(interval):
        return Interval(value=put(interval.value), low=put(interval.low), high=put(interval.high))

    return replace(
        frontier,
        singles=tuple(replace(one, quality=between(one.quality)) for one in frontier.singles),
        points=tuple(replace(one, quality=between(one.quality)) for one in frontier.points),
        hull=tuple((cost, put(height)) for cost, height in frontier.hull),
        oracle=tuple((cost, high) for cost, _ in frontier.oracle),
    )


@pytest.mark.parametrize(("low", "high"), [(0.4, 1.0), (0.97, 1.0), (0.995, 1.0), (0.0, 0.01), (0.5, 0.51)])
def test_ticks_of_quality_differ_and_are_qualities(planted, low, high):
    frontier = moved(planted(("small", "large", "huge")).frontier, low, high)
    spec = slide_plane(frontier, LIGHT, title=["t"], subtitle=["s"], width=600, height=400)
    ticks = re.findall(r">(\N{MINUS SIGN}?[\d.]+)<", vl_convert.vega_to_svg(spec).replace(",", ""))
    ticks = [tick for tick in ticks if "$" not in tick]
    assert len(ticks) >= 3
    assert len(set(ticks)) == len(ticks)
    assert all(0.0 <= float(tick) <= 1.0 for tick in ticks)


def test_a_chart_of_perfect_models_has_no_tick_beyond_one(planted):
    perfect = [Dot(name=str(value), interval=Interval(value=value, low=value - 0.01, high=1.0)) for value in (0.97, 1.0)]
    drawn = vl_convert.vega_to_svg(compiled(dots(perfect, LIGHT, axis="Quality", about="x").properties(width=600)))
    ticks = [float(tick) for tick in re.findall(r">(\d\.?\d*)<", drawn)]
    assert len(ticks) >= 3
    assert max(ticks) == 1.0


def test_a_title_is_not_broken_before_a_percent_sign(planted):
    for length in range(60, 90):
        headline = f"{'x' * length} 16 %) of all"
        title = _picture(replace(planted(), headline=headline), dark=False)["title"]["text"]
        assert not any(line.startswith("%") for line in title)


def test_labels_stay_off_the_router_and_costs_on_their_axis(planted):
    frontier = planted(("small", "large", "huge"), rates=5).frontier
    wide = replace(frontier.points[-1], cost=Interval(value=0.001, low=0.0005, high=0.009))
    frontier = replace(frontier, points=(*frontier.points[:-1], wide))
    spec = slide_plane(frontier, LIGHT, title=["t"], subtitle=["s"], width=400, height=300)
    [named] = [one["values"] for one in spec["data"] if one["name"] == "named"]
    bare = [(row["cost"], row["quality"]) for row in named if not row["label"]]
    for point in frontier.points:
        for height in (point.quality.value, point.quality.low, point.quality.high):
            assert (pytest.approx(1000 * point.cost.value), pytest.approx(height)) in bare
    [scale] = [one for one in spec["scales"] if one["name"] == "x"]
    assert scale["domain"][1] > 9.0


def test_an_axis_of_figures_that_are_all_alike_has_different_ticks(planted):
    alike = Interval(value=0.5, low=0.5, high=0.5)
    spec = compiled(dots([Dot(name="m", interval=alike)], LIGHT, axis="Quality", about="x").properties(width=600))
    drawn = vl_convert.vega_to_svg(spec)
    ticks = re.findall(r">(0\.\d+)<", drawn)
    assert len(ticks) >= 3
    assert len(set(ticks)) == len(ticks)


def test_the_plane_draws_every_model_the_hull_and_the_oracle(planted):
    frontier = planted(("small", "large", "huge"), rates=5).frontier
    spec = slide_plane(frontier, LIGHT, title=["t"], subtitle=["s"], width=400, height=300)
    sets = {one["name"]: one.get("values") for one in spec["data"]}
    assert [row["Model"] for row in sets["models"]] == ["small", "large", "huge"]
    assert [row["cost"] for row in sets["models"]] == [1000 * one.cost.value for one in frontier.singles]
    assert [(row["low"], row["high"]) for row in sets["points"]] == [
        (one.quality.low, one.quality.high) for one in frontier.points
    ]
    curves = {
        name: [(row["cost"], row["quality"]) for row in sets["lines"] if row["curve"].startswith(name)]
        for name in ("router", "best", "oracle")
    }
    assert curves["router"] == [(1000 * one.cost.value, one.quality.value) for one in frontier.points]
    # Mixes of two models lie on a straight line in USD; more money than the last one costs buys nothing.
    (x0, y0), (x1, y1) = ((1000 * cost, height) for cost, height in frontier.hull[:2])
    for x, y in curves["best"][:24]:
        assert y == pytest.approx(y0 + (x - x0) / (x1 - x0) * (y1 - y0))
    assert curves["best"][-1] == (max(row["cost"] for row in sets["models"]), frontier.hull[-1][1])
    assert curves["oracle"][0] == (1000 * frontier.oracle[0][0], frontier.oracle[0][1])


def test_a_model_called_like_a_way_to_choose_keeps_its_own_row(planted):
    diagnosis = planted(("routed", "oracle", "m"), costs=False)
    spec = json.loads(re.search(r'id="charts">(.*?)</script>', report_html(diagnosis, made=MADE)).group(1))["quality"]
    rows = next(one["values"] for one in spec["data"] if "values" in one)
    assert [row["label"] for row in rows] == ["m", "oracle", "routed", "routed #2", "oracle #2"]
    assert [row["kind"] for row in rows] == ["plain", "plain", "plain", "routed", "bound"]


def test_costs_of_several_magnitudes_are_drawn_on_a_logarithmic_axis(planted):
    def scale(count):
        spec = slide_plane(planted(tuple("abcdefgh"[:count])).frontier, LIGHT, title=["t"], subtitle=["s"], width=400, height=300)
        return next(one for one in spec["scales"] if one["name"] == "x")

    assert scale(2)["type"] == "linear"
    assert scale(2)["domain"][0] == 0
    assert scale(6)["type"] == "log"
    assert scale(6)["domain"][0] > 0


def size(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


@pytest.mark.parametrize("costs", [True, False])
def test_the_picture_is_a_png_in_the_theme(planted, costs):
    diagnosis = planted(("small", "large", "huge"), costs=costs)
    width, height = size(report_png(diagnosis, scale=1))
    assert 900 < width < 1200
    assert 300 < height < 800
    assert size(report_png(diagnosis)) == pytest.approx((2 * width, 2 * height), abs=2)
    assert size(report_png(diagnosis, scale=1, dark=True)) == (width, height)
    for dark, colours in ((False, LIGHT), (True, DARK)):
        drawn = vl_convert.vega_to_svg(_picture(diagnosis, dark=dark))
        assert all(colours[name] in drawn for name in ("ground", "ink", "muted", "router", "oracle"))
        assert "var(" not in drawn
        assert all(name in drawn for name in ("small", "large", "huge", "1,840 queries of 3 models"))


@pytest.mark.parametrize("scale", [0, -1, 11, math.nan])
def test_a_picture_of_no_size_is_refused(planted, scale):
    with pytest.raises(ConfigError, match="above 0 and up to 10"):
        report_png(planted(), scale=scale)
