"""What the page says and how it is put together: nothing from outside the file, and no name that is more than text."""

import base64
import hashlib
import io
import json
import math
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
import vl_convert
from rich.console import Console

from agentroute.errors import MissingExtraError
from agentroute.evaluation import Interval
from agentroute.reporting import report_html, report_png, summary
from agentroute.reporting._image import _picture
from agentroute.reporting._limits import limits
from agentroute.reporting._page import _json
from agentroute.reporting._tables import tables

MADE = datetime(2026, 11, 22, 20, 15, tzinfo=UTC)
UNKNOWN = Interval(value=math.nan, low=math.nan, high=math.nan)


def test_the_page_stands_alone(planted, reader):
    page = report_html(planted(), source="answers.jsonl", made=MADE)
    found = reader(page)
    assert not [attrs for _, attrs in found.tags if {"src", "srcset", "action"} & attrs.keys()]
    assert {attrs["href"] for _, attrs in found.tags if "href" in attrs} == {"data:,", "#main"}
    assert "@import" not in page.partition("</style>")[0]
    assert "url(" not in page.partition("</style>")[0]
    assert found.find("html", lang="en")
    assert found.find("meta", name="viewport")


def test_the_policy_lets_the_scripts_of_the_page_run_and_no_others(planted, reader):
    page = report_html(planted(), made=MADE)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    [meta] = reader(page).find("meta", **{"http-equiv": "Content-Security-Policy"})
    policy = dict(part.split(" ", 1) for part in meta["content"].split("; "))
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts]
    assert len(hashes) == 2
    assert policy["script-src"].split() == hashes
    assert policy["default-src"] == "'none'"


def test_the_page_says_what_was_found(planted, reader):
    diagnosis = planted(("small", "large", "huge"), shifted=True)
    text = "\n".join(reader(report_html(diagnosis, title="Ours", source="answers.jsonl", made=MADE)).text)
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


def test_headings_and_tables_are_in_order(planted, reader):
    found = reader(report_html(planted(shifted=True), made=MADE))
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


def test_hostile_names_are_escaped_everywhere(planted, reader):
    names = ("<script>alert(1)</script>", "</script><b>", "' onclick='x", "a&b<!--")
    page = report_html(planted(names, names), title=names[0], source=names[1], made=MADE)
    found = reader(page)
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


def test_what_a_table_does_is_told_as_the_rows_have_it(planted, reader):
    def told(routed, *, enough, tasks=("sums", "capitals")):
        diagnosis = planted(tasks=tasks)
        lookup = diagnosis.evaluation["task lookup"].quality
        quality = replace(lookup, value=lookup.value + routed)
        rows = tuple(replace(row, quality=quality) if row.kind == "routed" else row for row in diagnosis.evaluation.rows)
        changed = replace(diagnosis, evaluation=replace(diagnosis.evaluation, rows=rows), lookup_is_enough=enough)
        text = " ".join(reader(report_html(changed, made=MADE)).text)
        return re.findall(r"A table from task to model ([a-z ]+) the router: ", text)

    assert told(0.0, enough=False) == told(0.009, enough=False) == told(0.03, enough=True) == ["does as well as"]
    assert told(0.03, enough=False) == ["does not do as well as"]
    assert told(-0.03, enough=False) == ["does better than"]
    assert told(0.0, enough=False, tasks=("all",)) == []


def test_of_one_model_the_report_is_short(planted, reader):
    diagnosis = replace(planted(("only",), rates=3), verdict="single model", headline="Single model: only is the only model.")
    page = report_html(diagnosis, made=MADE)
    found = reader(page)
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


def test_the_limits_are_those_of_the_data(planted):
    found = planted()
    told = "\n".join(limits(found))
    for said in ("MLP is left out: scikit-learn is not installed.", "1,840, 93 % of those held out", "There is no second window"):
        assert said in told
    whole = replace(found, evaluation=replace(found.evaluation, coverage=1.0), stable_oracle=found.top_two[1])
    told = "\n".join(limits(whole))
    assert "every model has answered" not in told
    assert "drawn once" not in told


def test_a_real_diagnosis_is_reported(real, reader):
    page = report_html(real, source="planted", made=MADE)
    text = "\n".join(reader(page).text)
    assert real.reasons[0] in text
    assert 'id="rate"' in page
    assert len(report_png(real, scale=0.5)) > 5000
    console = Console(width=80, file=io.StringIO())
    console.print(summary(real))
    assert "routed" in console.file.getvalue()


@pytest.mark.parametrize("module", ["altair", "vl_convert", "jinja2"])
def test_a_missing_extra_is_named(planted, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"agentroute-sdk\[report\]"):
        report_html(planted())
    if module != "jinja2":
        with pytest.raises(MissingExtraError, match=r"agentroute-sdk\[report\]"):
            report_png(planted())


@pytest.mark.parametrize(("singles", "gain"), [(0.68, 0.03), (0.8304, 0.00946), (0.83049, -0.00049), (0.5006, -0.0446)])
def test_the_mean_heights_add_up(planted, reader, singles, gain):
    diagnosis = planted()
    figures = {
        "aiq": Interval(value=0.9123, low=0.9, high=0.92),
        "aiq_singles": Interval(value=singles, low=singles - 0.01, high=singles + 0.01),
        "aiq_gain": Interval(value=gain, low=gain - 0.004, high=gain + 0.004),
    }
    page = report_html(replace(diagnosis, frontier=replace(diagnosis.frontier, **figures)), made=MADE)
    text = " ".join(reader(page).text).replace("\N{MINUS SIGN}", "-")
    told = re.search(r"router ([\d.]+), best random mix of single models ([\d.]+), ([-+]?[\d.]+) points \(", text)
    router, mix, more = map(float, told.groups())
    assert 100 * (router - mix) == pytest.approx(more, abs=1e-9)
    assert router == pytest.approx(singles + gain, abs=0.0011)
    assert "RouterBench's AIQ of the router, which leaves out the rates that did worse here, is 0.912." in text


def test_names_from_right_to_left_turn_no_figures_beside_them(planted, reader):
    name, task = "نموذج/كبير 2", "مهام"
    diagnosis = planted(("small", name), (task, "sums"), shifted=True)
    diagnosis = replace(diagnosis, headline=f"Route: it scores +2.0 points over always {name}.")
    diagnosis = replace(diagnosis, degeneracy=replace(diagnosis.degeneracy, model=name))
    page = report_html(diagnosis, made=MADE)
    # Alone in its part of the text, wherever it stands: of a name with a place to break, the break is inside.
    body = page.partition("<body>")[2].partition('<script type="application/json"')[0].replace("<wbr>", "")
    body = re.sub(r'(title|value|aria-valuetext)="[^"]*"', "", body)
    assert body.count(name) > 15
    bare = re.findall(rf"(?<!<bdi>){re.escape(name)}.{{0,20}}", body)
    # But where it ends a cell or a term of its own.
    assert [text for text in bare if not text.startswith((f"{name}</bdi></small>", f"{name}</bdi></dt>", f"{name}</th>"))] == []
    [sentence] = {point["texts"]["sentence"] for point in points_of(page)[:1]}
    assert f"always \N{FIRST STRONG ISOLATE}{name}\N{POP DIRECTIONAL ISOLATE}" in sentence
    assert "\N{FIRST STRONG ISOLATE}" not in page.partition('<script type="application/json"')[0]
    # Other names need none of it.
    assert "\N{FIRST STRONG ISOLATE}" not in report_html(planted(), made=MADE)


def points_of(page):
    return json.loads(re.search(r'id="points">(.*?)</script>', page).group(1))
