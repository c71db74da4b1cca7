"""What a report says: every figure of the diagnosis, no more than the intervals allow, and nothing from outside the file."""

import base64
import hashlib
import io
import json
import math
import re
import struct
import sys
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
import vl_convert
from rich.console import Console

from agentroute.errors import ConfigError, MissingExtraError
from agentroute.evaluation import Finding, FoldResult, Interval, diagnose
from agentroute.reporting import report_html, report_json, report_png, summary
from agentroute.reporting._advice import advice
from agentroute.reporting._charts import Dot, compiled, dots
from agentroute.reporting._html import _json
from agentroute.reporting._image import _picture
from agentroute.reporting._limits import limits
from agentroute.reporting._plane import slide_plane
from agentroute.reporting._slider import operating, sentence, settled, start
from agentroute.reporting._tables import tables
from agentroute.reporting._theme import DARK, LIGHT
from agentroute.reporting.words import figure, gained, percent, thousand
from agentroute.testing import planted_table

MADE = datetime(2026, 11, 22, 20, 15, tzinfo=UTC)
UNKNOWN = Interval(value=math.nan, low=math.nan, high=math.nan)


class Reader(HTMLParser):
    """Tags, attributes and the visible text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.hidden = [], [], 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.hidden += tag in {"script", "style"}

    def handle_endtag(self, tag):
        self.hidden -= tag in {"script", "style"}

    def handle_data(self, data):
        if not self.hidden and data.strip():
            self.text.append(" ".join(data.split()))

    def find(self, tag, **attrs):
        return [found for name, found in self.tags if name == tag and attrs.items() <= found.items()]


@pytest.fixture(scope="module")
def real():
    """A diagnosis of a planted log."""
    return diagnose(planted_table(300), resamples=200)


def cells(table, column):
    place = table.columns.index(column)
    return [row[place] for row in table.rows]


def test_the_page_stands_alone(planted):
    page = report_html(planted(), source="answers.jsonl", made=MADE)
    found = Reader(page)
    assert not [attrs for _, attrs in found.tags if {"src", "srcset", "action"} & attrs.keys()]
    assert {attrs["href"] for _, attrs in found.tags if "href" in attrs} == {"data:,", "#main"}
    assert "@import" not in page.partition("</style>")[0]
    assert "url(" not in page.partition("</style>")[0]
    assert found.find("html", lang="en")
    assert found.find("meta", name="viewport")


def test_the_policy_lets_the_scripts_of_the_page_run_and_no_others(planted):
    page = report_html(planted(), made=MADE)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    [meta] = Reader(page).find("meta", **{"http-equiv": "Content-Security-Policy"})
    policy = dict(part.split(" ", 1) for part in meta["content"].split("; "))
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts]
    assert len(hashes) == 2
    assert policy["script-src"].split() == hashes
    assert policy["default-src"] == "'none'"


def test_the_page_says_what_was_found(planted):
    diagnosis = planted(("small", "large", "huge"), shifted=True)
    text = "\n".join(Reader(report_html(diagnosis, title="Ours", source="answers.jsonl", made=MADE)).text)
    assert "Ours ·\nanswers.jsonl" in text
    # The verdict in large type, and what follows it as a sentence.
    assert "\nRoute\n1,840 queries show a gain" in text
    for line in (*diagnosis.reasons, *(one.text for one in diagnosis.findings), *limits(diagnosis)):
        assert line in text
    for said in ("1,840 queries of 3 models", "22 November 2026, 20:15 UTC", "hash 1, 32 dimensions", "What this does not show"):
        assert said in text


def test_a_headline_without_a_verdict_gets_one(planted):
    page = report_html(replace(planted(), headline="gpt: it is best.", verdict="single model"), made=MADE)
    assert "<h1>gpt</h1>" in page
    page = report_html(replace(planted(), headline="Nothing beats large here.", verdict="single model"), made=MADE)
    assert "<h1>Stay with one model</h1>" in page
    # A model's name keeps its letters.
    page = report_html(replace(planted(), headline="Single model: small is the only one."), made=MADE)
    assert '<p class="lede">small is the only one.</p>' in page


def test_headings_and_tables_are_in_order(planted):
    found = Reader(report_html(planted(shifted=True), made=MADE))
    levels = [int(tag[1]) for tag, _ in found.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    named = {attrs["aria-labelledby"] for _, attrs in found.tags if "aria-labelledby" in attrs}
    assert named <= set(ids)
    tags = [tag for tag, _ in found.tags]
    assert tags.count("caption") == tags.count("table") == len(tables(planted(shifted=True))) + 1  # one for print
    assert all(attrs.get("scope") in {"row", "col"} for tag, attrs in found.tags if tag == "th")


def test_hostile_names_are_escaped_everywhere(planted):
    names = ("<script>alert(1)</script>", "</script><b>", "' onclick='x", "a&b<!--")
    page = report_html(planted(names, names), title=names[0], source=names[1], made=MADE)
    found = Reader(page)
    assert [attrs for tag, attrs in found.tags if tag == "script"] == [
        {"type": "application/json", "id": "charts"},
        {"type": "application/json", "id": "points"},
        {},
        {},
    ]
    assert not found.find("b")
    assert not [attrs for _, attrs in found.tags if "onclick" in attrs]
    for script in re.findall(r'<script type="application/json" id="\w+">(.*?)</script>', page, re.DOTALL):
        assert not re.search(r"[<>&]", script)
        json.loads(script)
    text = "\n".join(found.text)
    assert all(name.partition("/")[0] in text for name in names)


def test_json_inside_a_script_cannot_end_it():
    tricky = {"a": "</script><!--", "b": "&amp;\u2028", "c": 1.5}
    made = _json(tricky)
    assert json.loads(made) == tricky
    assert not re.search(r"[<>&\u2028]", made)
    with pytest.raises(ValueError, match="JSON"):
        _json({"x": math.nan})


def test_the_tables_hold_the_figures(planted):
    diagnosis = planted(("small", "large"), ("sums", "capitals"), shifted=True)
    found = tables(diagnosis)
    ways = found["ways"]
    assert [cell.text for cell in cells(ways, "Way to choose")] == [row.name for row in diagnosis.evaluation.rows]
    assert [cell.text for cell in cells(ways, "Quality")] == [f"{row.quality.value:.3f}" for row in diagnosis.evaluation.rows]
    assert cells(ways, "Quality")[0].note == (
        f"{diagnosis.evaluation.rows[0].quality.low:.3f} to {diagnosis.evaluation.rows[0].quality.high:.3f}"
    )
    said = dict(zip((row.name for row in diagnosis.evaluation.rows), cells(ways, "Beyond noise?"), strict=True))
    assert {name: (cell.text, cell.tone) for name, cell in said.items()} == {
        "random": ("worse", "worse"),
        "cheapest": ("worse", "worse"),
        "strongest": ("within noise", ""),
        "best single": ("the measure", ""),
        "task lookup": ("within noise", ""),
        "plain kNN": ("worse", "worse"),
        "logistic": ("within noise", ""),
        "routed": ("better", "better"),
        "oracle": ("out of reach", ""),
    }
    assert [ways.rows[place][0].text for place in ways.marked] == ["routed"]
    points = diagnosis.frontier.points
    assert [cell.text for cell in cells(found["points"], "Willingness to pay")][::11] == ["$0.0005 per right answer", "any price"]
    assert [cell.text for cell in cells(found["points"], "Saved")] == [f"{100 * one.saving.value:.0f} %" for one in points]
    assert [cell.text for cell in cells(found["shifts"], "Shifted?")] == ["no", "shifted"]
    assert [cell.text for cell in cells(found["shifts"], "p (Holm)")] == ["0.800", "<0.001"]
    assert [cell.text for cell in cells(found["tasks"], "Task")] == ["sums", "capitals"]
    assert [row[0].text for row in found["gaps"].rows] == ["policy", "estimates", "all of it"]
    shares = diagnosis.evaluation["routed"].shares
    by_model = {row[0].text: row[1].text for row in found["mix"].rows}
    assert by_model == {model: f"{100 * share:.0f} %" for model, share in shares.items()}


def test_the_best_model_of_a_task_is_bold_and_the_better_the_darker(planted):
    diagnosis = planted(("small", "large", "huge"), ("sums", "capitals", "jokes"))
    heat = tables(diagnosis)["task-quality"]
    for task, row in zip(diagnosis.tasks, heat.rows, strict=True):
        assert [name for name, cell in zip(heat.columns[1:], row[1:], strict=True) if cell.strong] == [task.best_model]
    shown = sorted((float(cell.text), cell.shade) for row in heat.rows for cell in row[1:])
    assert [shade for _, shade in shown] == sorted(shade for _, shade in shown)
    assert {shown[0][1], shown[-1][1]} == {1, 5}


def test_what_is_unknown_is_left_out(planted):
    diagnosis = planted(costs=False)
    found = tables(diagnosis)
    assert "points" not in found
    assert "USD per 1,000" not in found["ways"].columns
    assert "On the hull" not in found["models"].columns
    assert "Real by expected cost" not in found["calibration"].columns
    page = report_html(diagnosis, made=MADE)
    assert "nothing can be said about savings" in page
    assert 'id="rate"' not in page
    assert any(line.startswith("Costs are unknown") for line in limits(diagnosis))
    without_tasks = report_html(planted(tasks=()), made=MADE)
    assert 'id="tasks"' not in without_tasks
    unmeasured = tables(replace(planted(), gaps=replace(planted().gaps, noise=UNKNOWN)))
    assert [row[1].text for row in unmeasured["gaps"].rows][2] == "?"


def test_one_point_needs_no_slider(planted):
    page = report_html(planted(rates=1), made=MADE)
    assert 'id="rate"' not in page
    assert 'id="at-sentence"' in page


def test_the_slider_starts_where_the_router_was_judged(planted):
    diagnosis = planted(rates=12)
    points = diagnosis.frontier.points
    place = 7
    rows = tuple(
        replace(row, cost=points[place].cost, quality=points[place].quality) if row.kind == "routed" else row
        for row in diagnosis.evaluation.rows
    )
    page = report_html(replace(diagnosis, evaluation=replace(diagnosis.evaluation, rows=rows)), made=MADE)
    [slider] = Reader(page).find("input", id="rate")
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "11", str(place))


def test_the_slider_starts_at_the_recommended_point_and_says_so(planted):
    diagnosis = planted(rates=12, recommended=4)
    page = report_html(diagnosis, made=MADE)
    found = Reader(page)
    [slider] = found.find("input", id="rate")
    told = "$0.00253 per right answer"
    assert (slider["value"], slider["aria-valuetext"]) == ("4", f"{told}, recommended")
    assert found.text.count("recommended") == 2  # on the track and in the legend
    charts = json.loads(re.search(r'id="charts">(.*?)</script>', page).group(1))
    assert next(one["value"] for one in charts["plane"]["signals"] if one["name"] == "at") == 4
    assert "advised_marks" in {mark["name"] for mark in charts["plane"]["marks"]}
    assert "recommended" not in Reader(report_html(planted(rates=12), made=MADE)).text


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
        # Surely less, but by no more than a point.
        ((-0.008, -0.015, -0.001), "is as good as always large, -0.8 points (-1.5 to -0.1)"),
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


def test_what_a_table_does_is_told_as_the_rows_have_it(planted):
    def told(routed, *, enough, tasks=("sums", "capitals")):
        diagnosis = planted(tasks=tasks)
        lookup = diagnosis.evaluation["task lookup"].quality
        quality = replace(lookup, value=lookup.value + routed)
        rows = tuple(replace(row, quality=quality) if row.kind == "routed" else row for row in diagnosis.evaluation.rows)
        changed = replace(diagnosis, evaluation=replace(diagnosis.evaluation, rows=rows), lookup_is_enough=enough)
        text = " ".join(Reader(report_html(changed, made=MADE)).text)
        return re.findall(r"A table from task to model ([a-z ]+) the router: ", text)

    assert told(0.0, enough=False) == told(0.009, enough=False) == told(0.03, enough=True) == ["does as well as"]
    assert told(0.03, enough=False) == ["does not do as well as"]
    assert told(-0.03, enough=False) == ["does better than"]
    assert told(0.0, enough=False, tasks=("all",)) == []


def test_one_group_is_not_told_twice(planted):
    diagnosis = planted(tasks=("all",))
    assert not {"tasks", "task-quality"} & set(tables(diagnosis))
    assert 'id="chart-tasks"' not in report_html(diagnosis, made=MADE)


def test_of_one_model_the_report_is_short(planted):
    diagnosis = replace(planted(("only",), rates=3), verdict="single model", headline="Single model: only is the only model.")
    page = report_html(diagnosis, made=MADE)
    found = Reader(page)
    text = " ".join(found.text)
    assert "1,840 queries of 1 model " in text
    assert [attrs["id"] for tag, attrs in found.tags if tag == "h2"] == ["todo", "why", "models", "limits", "made"]
    assert not found.find("input")
    assert list(tables(diagnosis)) == ["models"]
    assert tables(diagnosis)["models"].columns == ("Model", "Quality", "USD per 1,000", "Latency")
    assert not re.search("oracle|curve|ways to choose", text)
    assert re.search(r'id="charts">(.*?)</script>', page).group(1) == "{}"
    drawn = vl_convert.vega_to_svg(_picture(diagnosis, dark=False))
    assert "1,840 queries of 1 model. Lines" in drawn


def test_luck_is_not_out_of_reach_and_windows_are_named_where_there_are_two(planted):
    diagnosis = planted(shifted=True)
    luck = replace(diagnosis.evaluation["oracle"], name="luck floor")
    evaluation = replace(diagnosis.evaluation, rows=(*diagnosis.evaluation.rows, luck))
    found = tables(replace(diagnosis, evaluation=evaluation, settings={"second window": "in the last 30% of the times"}))
    assert [cell.text for cell in cells(found["ways"], "Beyond noise?")][-2:] == ["out of reach", "what luck gives"]
    assert found["shifts"].caption == "Mean quality in the first window and in the last 30% of the times."
    text = "\n".join(Reader(report_html(planted(), made=MADE)).text)
    assert not re.search("holdout|fit window|first window", text)


def advised(diagnosis):
    return dict(advice(diagnosis))


def test_what_to_do_names_the_recommended_rate_its_saving_and_the_costs(planted):
    diagnosis = planted(rates=12, tasks=("sums", "capitals"), recommended=4)
    diagnosis = replace(diagnosis, lookup_is_enough=False)
    point, best = diagnosis.recommended, diagnosis.frontier.singles[1]
    told = advised(diagnosis)
    assert told["Setting"] == "Route by a learned router, at $0.00253 per right answer."
    assert told["What it brings"].startswith(
        f"{figure(point.saving, percent)} of the cost saved; {gained(point.gain)} of quality"
    )
    assert told["1,000 queries cost"] == (
        f"{figure(diagnosis.singles[0].cost, thousand)} with always large now; {figure(point.cost, thousand)} then."
    )
    assert best.model == "large"
    assert told["Next step"].startswith("agentroute fit LOG --output router --willingness-to-pay 0.00253125, then")
    alone = advised(replace(diagnosis, recommended=None))
    assert alone["Setting"].endswith("for quality alone.")
    assert alone["What it brings"].startswith("+2.0 points (+0.8 to +3.2) of quality")
    assert "--willingness" not in alone["Next step"]


def test_what_to_do_names_the_table_where_one_is_enough(planted):
    diagnosis = planted(tasks=tuple(f"task {n}" for n in range(8)))
    told = advised(diagnosis)
    first = diagnosis.tasks[0]
    assert told["Setting"].startswith(f"A table from task to model: {first.task} → {first.best_model}; ")
    assert told["Setting"].endswith("; and 2 more below.")
    assert told["What it brings"].startswith("+1.1 points")


@pytest.mark.parametrize(
    ("verdict", "setting", "step"),
    [
        ("cascade", "Ask small, then huge.", "Build the judge"),
        ("ensemble", "Ask all of small, large, huge and take the majority.", "Try the vote"),
        ("single model", "Always huge.", "Nothing to set up."),
        ("need more data", "Stay with always huge for now.", "Log answers of every model to about 400 queries in all"),
    ],
)
def test_what_to_do_follows_the_verdict(planted, verdict, setting, step):
    diagnosis = replace(planted(("small", "large", "huge")), verdict=verdict, queries_needed=400)
    diagnosis = replace(diagnosis, evaluation=replace(diagnosis.evaluation, best_single="huge"))
    told = advised(replace(diagnosis, frontier=replace(diagnosis.frontier, best_single="huge")))
    assert told["Setting"] == setting
    assert told["Next step"].startswith(step)
    assert "with always huge" in told["1,000 queries cost"]
    assert ("now;" in told["1,000 queries cost"]) == (verdict in {"cascade", "ensemble"})


def test_what_to_do_is_first_to_clear_up_a_shift(planted):
    assert advised(planted(shifted=True))["Next step"].startswith("First find out why models score otherwise")
    page = Reader(report_html(planted(), made=MADE)).text
    assert page.index("What to do") < page.index("Why")


def test_what_to_do_heeds_the_headline_and_noise(planted):
    warned = replace(planted(), headline="Cascade: a then b. But always a may do: try that first.")
    assert advised(warned)["Next step"].startswith("First see to what the headline ends with. Then: ")
    noisy = Finding(kind="noise", text="The scores look like noise.")
    told = advised(replace(planted(), verdict="single model", findings=(noisy,)))
    assert told["Setting"] == "Always large for now."
    assert told["Next step"].startswith("Look at how answers are scored")


def test_the_best_single_model_is_named_where_no_place_is_free(planted):
    frontier = planted(tuple("abcdefghijkl"), rates=40).frontier
    spec = slide_plane(frontier, LIGHT, title=["t"], subtitle=["s"], width=90, height=60)
    drawn = re.findall(r"<text[^>]*>([^<]*)</text>", vl_convert.vega_to_svg(spec).partition("mark-text role-mark labels")[2])
    assert sum("(best single)" in text or text == frontier.best_single for text in drawn) == 1


def test_a_title_is_not_broken_before_a_percent_sign(planted):
    for length in range(60, 90):
        headline = f"{'x' * length} 16 %) of all"
        title = _picture(replace(planted(), headline=headline), dark=False)["title"]["text"]
        assert not any(line.startswith("%") for line in title)


def test_what_to_do_without_costs_says_nothing_of_costs(planted):
    assert set(advised(planted(costs=False))) == {"Setting", "What it brings", "Next step"}


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


def test_the_parts_of_a_split_are_listed(planted):
    diagnosis = planted()
    folds = tuple(
        FoldResult(
            name=f"task {name}", queries=50, best_single="large", gains={"routed": Interval(value=v, low=v - 0.01, high=v + 0.01)}
        )
        for name, v in (("sums", 0.05), ("jokes", -0.05))
    )
    found = tables(replace(diagnosis, evaluation=replace(diagnosis.evaluation, folds=folds)))["folds"]
    assert [[cell.text for cell in row] for row in found.rows] == [
        ["task sums", "50", "large", "+5.0", "better"],
        ["task jokes", "50", "large", "-5.0", "worse"],
    ]
    assert "folds" not in tables(replace(diagnosis, evaluation=replace(diagnosis.evaluation, folds=folds[:1])))


def test_the_limits_are_those_of_the_data(planted):
    found = planted()
    told = "\n".join(limits(found))
    for said in ("MLP is left out: scikit-learn is not installed.", "1,840, 93 % of those held out", "There is no second window"):
        assert said in told
    whole = replace(found, evaluation=replace(found.evaluation, coverage=1.0), stable_oracle=found.top_two[1])
    told = "\n".join(limits(whole))
    assert "every model has answered" not in told
    assert "drawn once" not in told


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


def printed(diagnosis, width=80):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(summary(diagnosis))
    return console.file.getvalue()


def test_the_summary_fits_eighty_characters(planted):
    diagnosis = planted(tuple(f"vendor/a-model-with-a-long-name-{number}" for number in range(7)), ("sums",), shifted=True)
    shown = printed(diagnosis)
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.startswith("Route: 1,840 queries")
    flat = " ".join(shown.split())
    for line in (*diagnosis.reasons, *(one.text for one in diagnosis.findings)):
        assert " ".join(line.split()) in flat
    # Figures are whole, however long the names.
    for row in diagnosis.evaluation.rows:
        assert f"{row.quality.value:.3f} ±0.018" in shown
    assert "+2.0 ±1.2  better" in shown
    assert re.search(r"^cheapest: vendor/a-", shown, re.MULTILINE)


def test_a_long_table_is_cut_in_the_terminal(planted):
    shown = printed(planted(tasks=tuple(f"task {number}" for number in range(30))))
    assert "task 11 " in shown
    assert "task 12 " not in shown
    assert "and 18 more" in shown


def test_a_terminal_is_not_moved_by_names(planted):
    shown = printed(planted(("[bold]m[/bold]", "\x1b[2Jx\r\nfoo")))
    assert "[bold]m[/bold]" in shown
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", shown)


def test_json_holds_the_whole_diagnosis(planted):
    diagnosis = planted(("small", "large", "huge"), shifted=True)
    found = json.loads(report_json(diagnosis))
    assert {"agentroute", *(name for name in diagnosis.__slots__)} == set(found)
    assert found["verdict"] == "route"
    assert found["frontier"]["points"][-1]["willingness_to_pay"] is None
    assert found["frontier"]["points"][0]["willingness_to_pay"] == 0.0005
    assert found["calibration"][0]["auroc_within"] == {"value": None, "low": None, "high": None}
    assert found["evaluation"]["rows"][7]["gain"]["value"] == diagnosis.evaluation["routed"].gain.value
    assert "replay" not in found["evaluation"]
    assert found["top_two"][0] == ["small", "huge"]
    assert found["degeneracy"]["always"] is False
    assert found["queries_needed"] is None


def test_json_of_a_real_diagnosis_is_plain(real):
    found = json.loads(report_json(real), parse_constant=pytest.fail)
    assert found["evaluation"]["queries"] == 300
    assert found["headline"] == real.headline
    assert report_json(replace(real, dependence=Interval(value=np.float64(math.inf), low=np.float64(0.5), high=1.0)))


def test_a_real_diagnosis_is_reported(real):
    page = report_html(real, source="planted", made=MADE)
    text = "\n".join(Reader(page).text)
    assert real.reasons[0] in text
    assert 'id="rate"' in page
    assert len(report_png(real, scale=0.5)) > 5000
    assert "routed" in printed(real)


@pytest.mark.parametrize("module", ["altair", "vl_convert", "jinja2"])
def test_a_missing_extra_is_named(planted, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"agentroute-sdk\[report\]"):
        report_html(planted())
    if module != "jinja2":
        with pytest.raises(MissingExtraError, match=r"agentroute-sdk\[report\]"):
            report_png(planted())


def test_a_summary_without_rich_names_the_extra(planted, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(MissingExtraError, match=r"agentroute-sdk\[cli\]"):
        summary(planted())
