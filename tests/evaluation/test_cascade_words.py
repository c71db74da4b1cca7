"""A diagnosis, whose judge is assumed, beside a comparison of cascades, whose signals are real: on one log they say one thing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agentroute.cascades import AnswerTable
from agentroute.evaluation import ByQuery, compare_cascades, diagnose
from agentroute.evaluation._cascade_words import leads, measured
from agentroute.evaluation._words import assumed
from agentroute.reporting import report_html
from agentroute.reporting._advice import advice
from agentroute.reporting._image import _picture


@pytest.fixture(scope="module")
def log(logs):
    """Models that fail on the same hard queries: a judge who sees that would pay."""
    return logs.difficulty(0)


@pytest.fixture(scope="module")
def diagnosis(log):
    found = diagnose(log, resamples=100)
    assert found.verdict == "cascade"
    return found


def seen(log, informed):
    """What a confidence that lies so many deviations higher on right answers is good for."""
    confidence = informed * log.quality + np.random.default_rng(0).standard_normal(log.quality.shape)
    answers = AnswerTable(table=log, signals={"confidence": confidence})
    return compare_cascades(answers, split=ByQuery(test=0.5), points=6, resamples=200)


@pytest.fixture(scope="module")
def useless(log):
    found = seen(log, 0.0)
    assert found.verdict == "not worth it"
    return found


@pytest.fixture(scope="module")
def useful(log):
    found = seen(log, 4.0)
    assert found.verdict == "cascading pays"
    return found


def test_a_cascade_that_was_measured_not_to_pay_is_not_advised(diagnosis, useless):
    said = measured(diagnosis, useless)
    assert leads(diagnosis, useless)
    assert said.headline.startswith("A cascade is not worth it here: ")
    told, mark, rest = said.headline.partition(" Assumed, not measured: ")
    assert useless.sentence.startswith(told)
    assert mark
    assert diagnosis.headline == f"Cascade: {rest}"
    assert said.reasons[0] == f"Assumed, not measured: the{diagnosis.reasons[0].removeprefix('The')}"
    assert said.reasons[1:] == diagnosis.reasons[1:]
    told = dict(advice(said, useless))
    assert told["Setting"] == "Stay with always m1 for now."
    assert told["Next step"].startswith("Look for a judge or a signal")
    assert "What it brings" not in told
    # The figures are the diagnosis's.
    assert replace(said, headline=diagnosis.headline, reasons=diagnosis.reasons) == diagnosis


def test_a_cascade_that_was_measured_to_pay_leads_with_what_was_measured(diagnosis, useful):
    said = measured(diagnosis, useful)
    assert said.headline.startswith("Cascading pays: averaged over all budgets")
    assert " Assumed, not measured: m0 → m1 has +" in said.headline
    told = dict(advice(said, useful))
    assert told["Setting"] == "A cascade that looks at these signals."
    assert "against routing" in told["What it brings"]
    assert told["Next step"].startswith("agentroute fit LOG --cascade")
    assert "Without a cascade" not in told


def test_what_the_log_does_not_tell_is_not_advised_either(diagnosis, useless):
    said = measured(diagnosis, replace(useless, verdict="cannot be told"))
    assert said.headline.startswith(f"Whether a cascade pays cannot be told from {useless.queries} queries: ")
    assert dict(advice(said, replace(useless, verdict="cannot be told")))["Next step"].startswith("Log answers of every model")


def test_where_something_else_is_advised_a_cascade_that_pays_stands_before_it(diagnosis, useful, useless):
    single = replace(diagnosis, verdict="single model", headline="Single model: always m1; nothing here beats it beyond noise.")
    said = measured(single, useful)
    assert said.headline.endswith(" Without a cascade: single model: always m1; nothing here beats it beyond noise.")
    assert said.headline.startswith("Cascading pays: ")
    assert dict(advice(said, useful))["Without a cascade"] == "Always m1."
    # One that does not pay changes no other advice, but stands before what is assumed of it.
    said = measured(single, useless)
    assert not leads(single, useless)
    assert said.headline == single.headline
    assert useless.sentence.startswith(said.reasons[0])
    assert said.reasons[1].startswith("Assumed, not measured: the best cascade for a judge ")
    assert advice(said, useless) == advice(single)


def test_every_reason_that_assumes_a_judge_is_known(logs, diagnosis):
    assert assumed(diagnosis) == (diagnosis.reasons[0],)
    single = diagnose(logs.difficulty(1, 150), resamples=100)
    assert [line for line in single.reasons if "judge" in line] == list(assumed(single))
    [line] = assumed(single)
    assert line.startswith("A cascade m0 → m1 whose judge errs in 20 % of the answers (assumed) ")


def test_words_are_changed_once(diagnosis, useless, useful):
    for found in (useless, useful):
        said = measured(diagnosis, found)
        assert measured(said, found) == said


def test_page_and_picture_lead_with_what_was_measured(diagnosis, useless, useful):
    pytest.importorskip("vl_convert")
    for found, verdict in ((useless, "Do without a cascade"), (useful, "Use a cascade")):
        page = report_html(diagnosis, cascades=found)
        assert f"<h1>{verdict}</h1>" in page
        assert page.index("Assumed, not measured:") > page.index('class="lede"')
        assert page.index("Would a cascade pay?") < page.index("have an assumed judge") < page.index("assumed to err so often")
        assert "Build the judge" not in page
        title = " ".join(_picture(diagnosis, dark=False, cascades=found)["title"]["text"])
        assert title.startswith(found.sentence[:40])
    alone = report_html(diagnosis)
    assert "<h1>Cascade</h1>" in alone
    assert "not measured" not in alone
    assert "Build the judge" in alone
