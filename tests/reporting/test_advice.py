"""What to do: one setting, what it brings, what it costs, and the next step, by verdict."""

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agentroute.evaluation import Finding, Interval
from agentroute.reporting import report_html
from agentroute.reporting._advice import advice
from agentroute.reporting.words import figure, gained, percent, thousand

MADE = datetime(2026, 11, 22, 20, 15, tzinfo=UTC)
UNKNOWN = Interval(value=math.nan, low=math.nan, high=math.nan)


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


def test_what_to_do_is_first_to_clear_up_a_shift(planted, reader):
    assert advised(planted(shifted=True))["Next step"].startswith("First find out why models score otherwise")
    page = reader(report_html(planted(), made=MADE)).text
    assert page.index("What to do") < page.index("Why")


def test_what_to_do_heeds_noise_and_no_name(planted):
    named = replace(planted(("small. But large", "large")), headline="Route: always small. But large scores +2.0 points over it.")
    assert not advised(named)["Next step"].startswith("First")
    noisy = Finding(kind="noise", text="The scores look like noise.")
    told = advised(replace(planted(), verdict="single model", findings=(noisy,)))
    assert told["Setting"] == "Always large for now."
    assert told["Next step"].startswith("Look at how answers are scored")


def test_what_to_do_without_costs_says_nothing_of_costs(planted):
    assert set(advised(planted(costs=False))) == {"Setting", "What it brings", "Next step"}
