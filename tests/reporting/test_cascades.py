"""A comparison of cascades as tables, as JSON, in the page and in the plane."""

import json
import math
from dataclasses import replace

import pytest

from agentroute.evaluation import CascadeComparison, CascadeCurve, CascadePoint, Interval, SignalAuroc
from agentroute.reporting import cascade_json, cascade_tables, report_html
from agentroute.reporting._plane import CASCADES, page_plane, slide_plane
from agentroute.reporting._theme import DARK, LIGHT, VARIABLES

UNKNOWN = Interval(value=math.nan, low=math.nan, high=math.nan)
NAMES = ("linear interpolation", "routing", "threshold cascade", "cascading", "cascade routing")


def around(value, half=0.01):
    return Interval(value=value, low=value - half, high=value + half)


def compared(diagnosis):
    """A cascade that pays by two points on the models of a diagnosis; its dearest point is beyond the plane."""
    singles = diagnosis.frontier.singles
    dear = max(one.cost.value for one in singles)
    points = tuple(
        CascadePoint(budget=dear * t, cost=dear * t, quality=0.4 + 0.1 * t, climbs=0.3, calls=1.3, scoring=1e-5)
        for t in (0.1, 0.1, 0.5, 9.0)
    )
    curves = tuple(
        CascadeCurve(
            name=name,
            points=points,
            area=around(0.7 + 0.01 * place),
            over_mix=around(0.01 * place),
            over_routing=around(0.01 * place - 0.01, 0.005),
            climbs=0.3 if place > 1 else 0.0,
            scoring=1e-5 if place > 1 else 0.0,
        )
        for place, name in enumerate(NAMES)
    )
    one = singles[0].model
    signals = (
        SignalAuroc(signal="log<b>prob", model=one, auroc=around(0.57), known=1.0),
        SignalAuroc(signal="expected after", model=one, auroc=UNKNOWN, known=1.0),
        *(SignalAuroc(signal="expected after", model=model.model, auroc=around(0.9), known=1.0) for model in singles[1:]),
    )
    return CascadeComparison(
        verdict="cascading pays",
        sentence=f"Cascading pays: always {one} <script> is not.",
        curves=curves,
        singles=singles,
        best_single=one,
        signals=signals,
        queries=1234,
        coverage=1.0,
        notes=("looking counts as free",),
    )


@pytest.fixture(scope="module")
def both(planted):
    diagnosis = planted()
    return diagnosis, compared(diagnosis)


def test_the_table_says_what_each_way_has_over_the_others(both):
    ways = cascade_tables(both[1])["cascade-ways"]
    assert "1,234 queries" in ways.caption
    cells = {row[0].text: dict(zip(ways.columns, row, strict=True)) for row in ways.rows}
    assert list(cells) == list(NAMES)
    planned = cells["cascade routing"]
    assert planned["Mean quality"].text == "0.740"
    assert planned["Over mixes, points"].text == "+4.0"
    assert planned["Over routing, points"].note == "+2.5 to +3.5"
    assert planned["Beyond noise?"].text == "better"
    assert planned["Asks several in"].text == "30 %"
    assert planned["Looking, USD per 1,000"].text == "$0.0100"
    assert cells["routing"]["Over routing, points"].text == ""
    assert cells["linear interpolation"]["Beyond noise?"].text == "worse"
    assert ways.marked == {4}


def test_signals_stand_by_model_and_what_is_not_known_is_a_question_mark(both):
    signals = cascade_tables(both[1])["cascade-signals"]
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in signals.rows}
    assert rows["log<b>prob"] == ["0.570", *["?"] * (len(signals.columns) - 2)]
    assert rows["expected after"][0] == "?"
    assert rows["expected after"][1] == "0.900"
    assert signals.names == set(signals.columns[1:])
    assert "cascade-signals" not in cascade_tables(replace(both[1], signals=()))


def test_json_holds_all_figures_and_null_for_what_is_unknown(both):
    found = json.loads(cascade_json(both[1]), parse_constant=pytest.fail)
    assert found["verdict"] == "cascading pays"
    assert found["curves"][4]["over_routing"]["low"] == pytest.approx(0.025)
    assert found["signals"][1]["auroc"]["value"] is None


def test_the_page_has_a_section_whose_names_are_escaped(both):
    diagnosis, cascades = both
    page, without = report_html(diagnosis, cascades=cascades), report_html(diagnosis)
    for part in (
        'id="cascade"',
        "Would a cascade pay?",
        "Looking counts as free.",
        "caption-cascade-ways",
        "var(--cascade)",
        "8 3",
    ):
        assert part in page
    assert "Would a cascade pay?" not in without
    assert "log<b>" not in page
    assert "&lt;script&gt; is not" in page


def test_the_plane_has_two_curves_more_within_its_costs(both):
    diagnosis, cascades = both
    frontier = diagnosis.frontier
    size = {"title": ["t"], "subtitle": [], "width": 400, "height": 300}
    plain = page_plane(frontier, VARIABLES, start=0)
    assert plain == page_plane(frontier, VARIABLES, start=0, cascades=None)
    for spec in (
        page_plane(frontier, VARIABLES, start=0, cascades=cascades),
        slide_plane(frontier, LIGHT, **size, cascades=cascades),
        slide_plane(frontier, DARK, **size, cascades=cascades),
    ):
        [lines] = [one["values"] for one in spec["data"] if one["name"] == "lines"]
        drawn = {name: [row for row in lines if row["curve"] == name] for name in CASCADES}
        dear = max(one.cost.value for one in frontier.singles)
        for rows in drawn.values():
            # The two equal points are one, and what costs nine times as much as the dearest model is left out.
            assert rows[0]["cost"] == pytest.approx(1000 * 0.1 * dear)
            assert rows[-1]["cost"] == pytest.approx(1000 * 0.5 * dear)
            assert rows[-1]["quality"] == pytest.approx(0.45)
        low = next(scale for scale in spec["scales"] if scale["name"] == "y")["domain"][0]
        assert low <= 0.41
    assert {row["curve"] for one in plain["data"] if one["name"] == "lines" for row in one["values"]}.isdisjoint(CASCADES)
