"""`diagnose_team` and its page: what is told of a planted team, and that what cannot be told is words and never a number."""

import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise, product

import numpy as np
import pytest

from agentroute.errors import ConfigError
from agentroute.reporting import diagnose_team, team_html, team_png, team_tables
from agentroute.reporting._team import _title
from agentroute.reporting._team_charts import BOUNDS, SHADES, frontier_chart, heat_map
from agentroute.reporting._team_values import in_points
from agentroute.reporting._team_words import advice, left_to_say, limits, reasons
from agentroute.reporting._theme import DARK, LIGHT
from agentroute.teams import NONE, Role, RoleAllocator, RoleUsage, Team, TeamRun
from agentroute.teams._judging import judge
from agentroute.types import Query

MADE = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
FAST = {"budgets": 3, "resamples": 100}


@pytest.fixture(scope="module")
def found(team_runs, team_of_three):
    return diagnose_team(RoleAllocator(*team_of_three), team_runs(), **FAST)


def test_an_effect_in_points_is_what_it_does_to_the_mean(found):
    effect = replace(found.fit.effects[0], logit=math.log(3), low=-math.log(3), high=0.0)
    moved = in_points(effect, 0.5)
    assert (moved.value, moved.low, moved.high) == pytest.approx((0.25, -0.25, 0.0))
    assert in_points(effect, 0.75).value == pytest.approx(0.9 - 0.75)
    assert math.isnan(in_points(replace(effect, logit=None, low=None, high=None), 0.5).value)


def test_the_role_that_hangs_on_its_model_is_named(found):
    assert found.verdict == "The coder matters most"
    assert found.headline.startswith("large as coder adds ")
    assert found.frontier.measured
    told = dict(advice(found))
    assert "large as coder" in told["Sure gains"]
    assert "small as coder" in told["Keep away"]
    assert "planner" not in told["Sure gains"] + told["Keep away"]
    by_role = reasons(found)
    assert by_role[0].startswith("planner: no model stands out; up to ")
    assert by_role[1].startswith("coder: large adds ")
    assert (found.sources.runs, found.sources.drawn, found.sources.scored, found.sources.tasks) == (480, 480, 0, 480)


def test_luck_in_one_of_many_cells_is_no_verdict():
    roles, models = [f"role {k}" for k in range(4)], [f"model {m}" for m in range(5)]
    # As the runs tell it, effects would be held so close that nothing looks like luck.
    allocator = RoleAllocator(Team(roles=[Role(name=name) for name in roles]), models, ridge=1.0)
    named = bold = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        runs = [
            TeamRun(
                query=Query(text="", id=str(n), task="x"),
                models={role: models[m] for role, m in zip(roles, rng.integers(5, size=4).tolist(), strict=True)},
                success=float(rng.random() < 0.5),
                propensity=5.0**-4,
            )
            for n in range(480)
        ]
        found = diagnose_team(allocator, runs, budgets=0)
        named += found.verdict != "No role stands out yet"
        bold += any(one.low > 0.0 or one.high < 0.0 for one in found.fit.effects)
    # Of 20 cells some interval leaves out 0 in half of the logs; that is no reason to say that a role matters.
    assert bold >= 6
    assert named <= 3


def test_the_frontier_goes_from_the_cheapest_team_to_the_best(found):
    own, singles = found.frontier.of("allocator"), found.frontier.of("one model")
    assert [way.name for way in singles] == ["always small", "always large"]
    assert own[0].models == {"planner": {"small": 1.0}, "coder": {"small": 1.0}, "critic": {NONE: 1.0}}
    assert own[-1].models["coder"]["large"] == pytest.approx(1.0)
    assert all(a.budget < b.budget and a.expected.value <= b.expected.value for a, b in pairwise(own))
    assert all(way.expected_cost <= way.budget for way in own)
    assert found.frontier.featured in own
    gain = found.frontier.gains["always small"]
    # A coder who is large succeeds in 88 % of the tasks, one who is small in 27 %, whatever the others are.
    assert gain.low > 0.3
    assert gain.low < 0.61 < gain.high + 0.05
    assert found.frontier.success(found.frontier.featured).value == pytest.approx(0.88, abs=0.08)
    assert found.frontier.savings["always large"].low > 0


def test_what_is_measured_is_what_the_judge_says(found, team_runs, team_of_three):
    team, cards = team_of_three
    models = [card.id for card in cards]
    everywhere = dict.fromkeys(("planner", "coder", "critic"), "large")
    report = judge(team, models, team_runs(), lambda _: lambda asked: [(everywhere, "chain")] * len(asked), resamples=100)
    [large] = [way for way in found.frontier.of("one model") if way.name == "always large"]
    expected = report.policy("allocator").success
    assert (large.measured.value, large.measured.low, large.measured.high) == pytest.approx(
        (expected.value, expected.low, min(expected.high, 1.0))
    )
    [logged] = found.frontier.of("logged")
    assert logged.measured.value == pytest.approx(np.mean([run.success for run in team_runs()]))


def test_kinds_of_task_are_weighed_by_their_share(team_runs, team_of_three):
    """Two kinds, one twice as frequent: what is expected of a budget is their mean, and one map is beside it."""
    runs = [
        replace(run, query=Query(text="", id=run.query.id, task="hard" if n % 3 else "easy")) for n, run in enumerate(team_runs())
    ]
    found = diagnose_team(RoleAllocator(*team_of_three), runs, budgets=1, resamples=50)
    made = RoleAllocator(*team_of_three, runs=runs)
    [own], [mapped] = found.frontier.of("allocator"), found.frontier.of("map")
    easy, hard = (made.allocate(Query(text="", task=kind), budget=own.budget) for kind in ("easy", "hard"))
    assert own.expected.value == pytest.approx((easy.expected_quality + 2 * hard.expected_quality) / 3)
    assert own.expected.low == pytest.approx((easy.quality_interval[0] + 2 * hard.quality_interval[0]) / 3)
    assert mapped.expected.value <= own.expected.value + 1e-9
    assert found.fit.kinds == ("easy", "hard")
    text = team_html(found, made=MADE)
    assert "the best fixed map" in text
    assert found.frontier.featured.measured.value > 0.7


def test_a_role_that_never_varied_has_words_and_no_number(team_runs, team_of_three, reader):
    fixed = [replace(run, models={**run.models, "planner": "large"}, propensity=None) for run in team_runs()[:200]]
    found = diagnose_team(RoleAllocator(*team_of_three), fixed, **FAST)
    rows = [row for row in team_tables(found)["effects"].rows if row[0].text == "planner"]
    assert [[cell.text for cell in row[2:]] for row in rows] == [
        ["0", "", "", "not identifiable"],
        ["200", "", "", "not identifiable"],
    ]
    values = [row for one in heat_map(found, LIGHT)["data"] for row in one.get("values", []) if row.get("Role") == "planner"]
    assert values
    assert {(row["words"], row["figure"], row["note"], row["Adds"]) for row in values} == {
        ("not identifiable", "not", "identifiable", "not identifiable")
    }
    text = " ".join(reader(team_html(found, made=MADE)).text)
    assert "not identifiable: role planner (never varied)." in text
    assert "the runs cannot tell" in text
    assert "Draw models by lot for planner" in text
    # A model that never was planner has no expected success everywhere.
    [small] = [way for way in found.frontier.of("one model") if way.name == "always small"]
    assert math.isnan(small.expected.value)
    assert "Nobody has measured this." in found.headline or "always" not in found.headline
    assert found.frontier.why == "in no run were the models drawn by lot, with the chance on record"
    assert any("nobody drew the models by lot" in one for one in limits(found))


def test_a_role_of_which_one_model_was_hardly_tried_gets_no_number(team_runs, team_of_three):
    kept = [run for n, run in enumerate(team_runs()) if run.models["coder"] == "small" or n < 12]
    found = diagnose_team(RoleAllocator(*team_of_three), kept, budgets=0)
    [row] = [row for row in team_tables(found)["effects"].rows if [one.text for one in row[:2]] == ["coder", "large"]]
    assert int(row[2].text) < 10
    assert [cell.text for cell in row[3:]] == ["", "", "not identifiable"]
    assert any("coder" in one and "only one of its models" in one for one in [*left_to_say(found), *reasons(found)])
    hatched = [row for one in heat_map(found, LIGHT)["data"] for row in one.get("values", []) if row.get("words")]
    assert {row["words"] for row in hatched} == {"not identifiable"}


def test_without_runs_the_cards_speak(team_of_three, reader):
    found = diagnose_team(RoleAllocator(*team_of_three))
    assert found.verdict == "No runs yet"
    assert "succeed" not in found.headline
    page = team_html(found, made=MADE)
    text = " ".join(reader(page).text)
    assert 'id="chart-effects"' not in page
    assert "Its card leads to expect" in text
    assert "exploration_plan" in dict(advice(found))["Next"]
    assert reasons(found) == left_to_say(found) == []
    with pytest.raises(ConfigError, match="no runs yet"):
        team_png(found)


def test_runs_that_tell_nothing_are_counted_with_the_reason(team_runs, team_of_three, reader):
    found = diagnose_team(RoleAllocator(*team_of_three), [replace(run, success=None) for run in team_runs()[:60]], **FAST)
    assert found.verdict == "Nothing can be told yet"
    assert found.headline.startswith(
        "Nothing could be learned from 60 runs (success unknown): allocations go by the models' cards."
    )
    assert dict(advice(found))["Next"].startswith("Log whether each run succeeded")
    text = " ".join(reader(team_html(found, made=MADE)).text)
    assert "60 runs (success unknown)" in text
    assert "No runs yet" not in text
    with pytest.raises(ConfigError, match=r"nothing could be learned from 60 runs"):
        team_png(found)


def test_what_an_allocator_has_learned_is_told_without_its_runs(team_runs, team_of_three, found):
    made = RoleAllocator(*team_of_three, runs=team_runs())
    before = made.report()
    alone = diagnose_team(made, **FAST)
    assert alone.verdict == found.verdict
    assert [one.logit for one in alone.fit.effects] == pytest.approx([one.logit for one in found.fit.effects])
    assert not alone.frontier.measured
    assert alone.headline.endswith("Nobody has measured this.")
    assert [way.expected.value for way in alone.frontier.of("allocator")] == pytest.approx(
        [way.expected.value for way in found.frontier.of("allocator")]
    )
    diagnose_team(made, team_runs()[:60], budgets=0)
    assert made.report() == before


def test_runs_that_broke_off_when_a_model_failed_are_failures_and_are_named(team_runs, team_of_three, reader):
    runs = team_runs()
    lost = [
        replace(run, success=None, roles={"coder": RoleUsage(error="TimeoutError")}, metadata={"error": "TimeoutError"})
        if run.models["coder"] == "large" and n % 2
        else run
        for n, run in enumerate(runs)
    ]
    found = diagnose_team(RoleAllocator(*team_of_three), lost, **FAST)
    count = sum(run.success is None for run in lost)
    assert (found.fit.broken, found.sources.runs, found.sources.tasks) == (count, 480, 480)
    assert found.base == pytest.approx((sum(run.success or 0.0 for run in lost) + 0.5) / 481)
    [logged] = found.frontier.of("logged")
    assert logged.measured.value == pytest.approx(np.mean([run.success or 0.0 for run in lost]))
    text = " ".join(reader(team_html(found, made=MADE)).text)
    assert f"broke off when a model failed {count} that the team fails with a model that fails" in text
    assert f"{count} runs that broke off when a model failed count as failures." in text


def test_replays_are_counted_and_told(team_runs, team_of_three, reader):
    runs = team_runs()[:120]
    changed = [run for run in runs if run.models["coder"] == "large"][:6]
    replays = [
        TeamRun(
            query=run.query,
            models={**run.models, "coder": "small"},
            success=0.0,
            cost=0.001,
            metadata={"replay_of": run.id},
            id=f"r{n}",
        )
        for n, run in enumerate(changed)
    ]
    odd = TeamRun(query=runs[0].query, models=runs[0].models, success=1.0, metadata={"replay_of": runs[0].id})
    lost = TeamRun(query=runs[0].query, models=runs[0].models, success=1.0, metadata={"replay_of": "nowhere"})
    found = diagnose_team(RoleAllocator(*team_of_three), [*runs, *replays, odd, lost], budgets=0)
    assert (found.sources.replays, found.sources.odd) == (6, 2)
    [credit] = found.credits
    assert (credit.role, credit.model, credit.instead, credit.runs) == ("coder", "large", "small", 6)
    assert credit.gain == pytest.approx(np.mean([run.success for run in changed]))
    text = " ".join(reader(team_html(found, made=MADE)).text)
    assert "What replays say" in text
    assert "replays left out 2" in text
    assert "left out: replays" not in text
    assert "of those that failed any second try looks better" in text
    assert found.sources.runs == len(runs)


def test_scores_of_roles_are_counted(team_runs, team_of_three):
    runs = [replace(run, roles={"coder": RoleUsage(score=1.0)} if n < 30 else {}) for n, run in enumerate(team_runs()[:100])]
    found = diagnose_team(RoleAllocator(*team_of_three), runs, budgets=0)
    assert found.sources.scored == 30
    [row] = [row for row in team_tables(found)["sources"].rows if row[0].text == "scored role by role"]
    assert row[1].text == "30"


def test_without_costs_there_is_no_plane(team_runs, team_of_three):
    team, cards = team_of_three
    runs = [replace(run, cost=None) for run in team_runs()]
    found = diagnose_team(RoleAllocator(team, [card.id for card in cards]), runs, **FAST)
    page = team_html(found, made=MADE)
    assert 'id="chart-frontier"' not in page
    assert 'id="chart-effects"' in page
    [own] = found.frontier.of("allocator")
    assert own.budget is None
    assert own.measured.value > 0.7
    assert "$" not in found.headline
    weighed = diagnose_team(RoleAllocator(team, [card.id for card in cards], willingness_to_pay=1.0), runs, **FAST)
    assert weighed.frontier.ways == ()
    assert any(one.startswith("There are no budgets to compare: costs are unknown") for one in limits(weighed))
    assert team_html(weighed, made=MADE)


def test_where_own_models_lose_the_single_model_is_advised(found):
    frontier = found.frontier
    rival = max(frontier.of("one model"), key=lambda one: frontier.success(one).value)
    worse = replace(frontier.gains[rival.name], value=-0.2, low=-0.3, high=-0.1)
    told = dict(advice(replace(found, frontier=replace(frontier, gains={**frontier.gains, rival.name: worse}))))
    assert told["Models"].startswith("always large: ")
    assert "Budget" not in told


def test_the_heat_map_shades_by_points_and_hatches_within_the_cell(found):
    values = [row for one in heat_map(found, LIGHT)["data"] for row in one.get("values", []) if "shade" in row]
    shades = {(row["Role"], row["Model"]): row["shade"] for row in values}
    assert shades["coder", "large"] == "gain-3"
    assert shades["coder", "small"] == "loss-3"
    assert len(SHADES) == len(BOUNDS) + 1
    sure = {(row["Role"], row["Model"]) for row in values if row["sure"]}
    assert {("coder", "large"), ("coder", "small")} <= sure
    assert not any(role == "planner" for role, _ in sure)


def test_the_frontier_says_what_it_shows(found):
    spec = frontier_chart(found, LIGHT)
    assert "measured on runs that were held out" in spec["description"]
    names = [row["label"] for one in spec["data"] if one["name"] == "named" for row in one["values"] if row["label"]]
    assert set(names) == {"small", "large", "as logged"}


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return sum(
        weight * (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4)
        for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True)
    )


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_in_cells_has_contrast(colours):
    for shade, ink in product([*SHADES, "raised", "hairline"], ["ink"]):
        light, dark = sorted((luminance(colours[ink]), luminance(colours[shade])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, shade


def test_the_page_stands_alone_and_in_order(found, reader):
    page = team_html(found, title="Ours", source="runs.jsonl", made=MADE)
    read = reader(page)
    assert not [attrs for _, attrs in read.tags if {"src", "srcset", "action"} & attrs.keys()]
    assert {attrs["href"] for _, attrs in read.tags if "href" in attrs} == {"data:,", "#main"}
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attrs["id"] for _, attrs in read.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert 'id="points"' not in page
    text = " ".join(read.text)
    for said in ("Ours · runs.jsonl", "The coder matters most", "480 runs, 480 drawn by lot", "23 November 2026, 03:00 UTC"):
        assert said in text
    charts = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page, re.DOTALL)
    assert set(json.loads(charts[1])) == {"effects", "frontier"}


def test_the_headline_of_the_picture_is_told_to_its_end(found):
    told = " ".join(_title(found))
    assert len(_title(found)) > 4  # it was cut within an interval
    assert told.endswith("within noise.")
    assert "…" not in told
    endless = replace(found, headline="word " * 1000)
    assert len(_title(endless)) == 8
    assert _title(endless)[-1].endswith(" …")


def test_the_picture_is_a_png(found):
    light, dark = team_png(found, scale=1), team_png(found, scale=1, dark=True)
    assert light.startswith(b"\x89PNG")
    assert light != dark
    with pytest.raises(ConfigError, match="scale=0"):
        team_png(found, scale=0)
    with pytest.raises(ConfigError, match="budgets=-1"):
        diagnose_team(None, budgets=-1)
