"""The slider: where it starts, and that its sentences claim no more than the intervals allow."""

import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agentroute.evaluation import Interval
from agentroute.reporting import report_html
from agentroute.reporting._slider import operating, sentence, settled, start

MADE = datetime(2026, 11, 22, 20, 15, tzinfo=UTC)
UNKNOWN = Interval(value=math.nan, low=math.nan, high=math.nan)


def test_one_point_needs_no_slider(planted):
    page = report_html(planted(rates=1), made=MADE)
    assert 'id="rate"' not in page
    assert 'id="at-sentence"' in page


def test_the_slider_starts_where_the_router_was_judged(planted, reader):
    diagnosis = planted(rates=12)
    points = diagnosis.frontier.points
    place = 7
    rows = tuple(
        replace(row, cost=points[place].cost, quality=points[place].quality) if row.kind == "routed" else row
        for row in diagnosis.evaluation.rows
    )
    page = report_html(replace(diagnosis, evaluation=replace(diagnosis.evaluation, rows=rows)), made=MADE)
    [slider] = reader(page).find("input", id="rate")
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "11", str(place))


def test_the_slider_starts_at_the_recommended_point_and_says_so(planted, reader):
    diagnosis = planted(rates=12, recommended=4)
    page = report_html(diagnosis, made=MADE)
    found = reader(page)
    [slider] = found.find("input", id="rate")
    told = "$0.00253 per right answer"
    assert (slider["value"], slider["aria-valuetext"]) == ("4", f"{told}, recommended")
    assert found.text.count("recommended") == 2  # on the track and in the legend
    charts = json.loads(re.search(r'id="charts">(.*?)</script>', page).group(1))
    assert next(one["value"] for one in charts["plane"]["signals"] if one["name"] == "at") == 4
    assert "advised_marks" in {mark["name"] for mark in charts["plane"]["marks"]}
    assert "recommended" not in reader(report_html(planted(rates=12), made=MADE)).text


def test_a_recommended_point_that_is_not_on_the_curve_is_put_there(planted):
    diagnosis = planted(rates=12)
    point = replace(diagnosis.frontier.points[4], willingness_to_pay=0.0026)
    found = settled(replace(diagnosis, recommended=point))
    assert [one.willingness_to_pay for one in found.frontier.points[4:7]] == pytest.approx([0.00253125, 0.0026, 0.003796875])
    assert (operating(found), start(found)) == (5, 5)
    # Of one rate there is one point, with the figures that the headline quotes.
    same = replace(diagnosis.frontier.points[4], saving=Interval(value=0.3, low=0.2, high=0.4))
    found = settled(replace(diagnosis, recommended=same))
    assert len(found.frontier.points) == 12
    assert found.frontier.points[4] is same


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        ((0.021, 0.008, 0.034), "is 2.1 points better than always large (+0.8 to +3.4)"),
        ((0.004, -0.007, 0.017), "is as good as always large, +0.4 points (-0.7 to +1.7)"),
        # Surely less, if by no more than a point.
        ((-0.008, -0.014, -0.002), "is worse than always large, by less than a point, -0.8 points (-1.4 to -0.2)"),
        ((-0.004, -0.008, 0.0), "is worse than always large, by less than a point, -0.4 points (-0.8 to 0.0)"),
        ((-0.008, -0.019, 0.003), "is as good as always large, -0.8 points (-1.9 to +0.3)"),
        # As the verdict has it of a cheaper model, two points are too many.
        ((-0.008, -0.02, 0.004), "may be worse than always large, -0.8 points (-2.0 to +0.4)"),
        ((0.004, -0.03, 0.038), "may be worse than always large, +0.4 points (-3.0 to +3.8)"),
        ((-0.025, -0.048, 0.001), "is about 2.5 points worse than always large (-4.8 to +0.1)"),
        ((-0.4, -0.45, -0.35), "is about 40.0 points worse than always large (-45.0 to -35.0)"),
        ((0.0, 0.0, 0.0), "is exactly as good as always large"),
    ],
)
def test_a_loss_is_not_sold_as_a_free_saving(planted, gain, said):
    value, low, high = gain
    point = replace(
        planted(rates=12).frontier.points[4],
        gain=Interval(value=value, low=low, high=high),
        saving=Interval(value=0.48, low=0.45, high=0.5),
        over_mix=Interval(value=0.02, low=0.01, high=0.03),
    )
    assert sentence(point, "large") == (
        f"At $0.00253 per right answer the router {said}, and saves 48 % (45 to 50 %) of its cost."
    )
    lucky = replace(point, over_mix=Interval(value=0.01, low=-0.01, high=0.03))
    assert sentence(lucky, "large").endswith("of its cost. Dice between single models may do as well for that money.")


def test_money_is_told_with_its_interval(planted):
    def told(value):
        saving = Interval(value=value, low=value - 0.02, high=value + 0.02)
        return sentence(replace(planted().frontier.points[-1], saving=saving), "large")

    assert told(-0.3).endswith("costs 30 % (28 to 32 %) more.")
    assert told(0.001).endswith("and costs as much.")
    assert "unknown" in told(math.nan)
