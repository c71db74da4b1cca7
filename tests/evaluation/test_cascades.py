"""Whether a cascade would pay: on worlds whose truth is known, by hand on a tiny table, and on the log that ships."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from types import SimpleNamespace

import numpy as np
import pytest

from agentroute.cascades import AnswerTable, CascadeRouter, CascadeRouting, ThresholdCascade, replay
from agentroute.errors import ConfigError, DataError, PriceUnknownError
from agentroute.evaluation import ByModel, ByQuery, KFold, compare_cascades
from agentroute.evaluation._cascade_curves import Part, Played, played
from agentroute.evaluation._cascade_plane import Plane
from agentroute.evaluation._cascade_words import sentence, verdict
from agentroute.evaluation._intervals import Interval, bootstrap
from agentroute.outcomes import OutcomeTable
from agentroute.router import Router
from agentroute.types import Query

HALF = ByQuery(test=0.5)
QUICK = {"split": HALF, "points": 8, "resamples": 300}


def world(seed, n=400, *, informed, foreseen=0.0, skill=(0.5, 0.8), cost=(1.0, 4.0), spread=1.5, look=0.0):
    """Queries of shared difficulty, and a confidence that lies `informed` deviations higher on right answers.

    `foreseen` = how much harder one of two kinds of query, told by its words, is for the cheap model.
    """
    rng = np.random.default_rng(seed)
    skill = np.array(skill)
    m = len(skill)
    kind = rng.integers(0, 2, n)
    logit = np.log(skill / (1.0 - skill)) + spread * rng.standard_normal((n, 1))
    logit = logit + foreseen * np.where(kind == 0, 1.0, -1.0)[:, None] * np.linspace(1.0, -0.2, m)
    quality = (rng.random((n, m)) < 1.0 / (1.0 + np.exp(-logit))).astype(float)
    words = ["sum of numbers", "capital of the country"]
    table = OutcomeTable(
        queries=tuple(Query(text=f"{words[k]} {i * 7919 % 1000}", id=f"q{i}") for i, k in enumerate(kind.tolist())),
        models=tuple(f"m{j}" for j in range(m)),
        quality=quality,
        cost=1e-3 * np.array(cost) * rng.uniform(0.8, 1.25, (n, m)),
    )
    confidence = informed * (quality - 0.5) + rng.standard_normal((n, m))
    return AnswerTable(table=table, signals={"confidence": confidence}, score_cost=np.full((n, m), look))


@pytest.fixture(scope="module")
def paying():
    return world(0, informed=2.0)


def test_where_a_confidence_tells_right_from_wrong_a_cascade_pays_on_nine_of_ten_seeds():
    found = [compare_cascades(world(seed, informed=2.0), **QUICK) for seed in range(10)]
    assert sum(one.verdict == "cascading pays" for one in found) >= 9
    for one in found:
        # Nothing foresees who will be right: routing has what dice have.
        assert abs(one["routing"].over_mix.value) < 0.02
        assert one["cascade routing"].climbs > 0.15
        assert one.sentence.startswith("Cascading pays: ") == (one.verdict == "cascading pays")
        assert all(signal.auroc.low > 0.8 for signal in one.signals if signal.signal == "confidence")
        assert "coin" not in one.sentence


def test_where_it_tells_nothing_a_cascade_is_not_worth_it_on_nine_of_ten_seeds():
    found = [compare_cascades(world(seed, informed=0.0), **QUICK) for seed in range(10)]
    assert sum(one.verdict == "not worth it" for one in found) >= 9
    assert all(one.sentence.startswith("A cascade is not worth it here: ") for one in found if one.verdict == "not worth it")
    assert all("Hardly better than a coin" in one.sentence and "confidence of m0" in one.sentence for one in found)


def test_where_routing_pays_a_cascade_that_sees_nothing_adds_nothing():
    found = [compare_cascades(world(seed, informed=0.0, foreseen=2.0, spread=0.7), **QUICK) for seed in range(5)]
    assert sum(one.verdict == "not worth it" for one in found) >= 4
    for one in found:
        assert one["routing"].over_mix.low > 0.0
        assert one["cascade routing"].over_mix.low > 0.0  # it is no worse than routing, and that is no merit of climbing
        before = {signal.model: signal.auroc.value for signal in one.signals if signal.signal == "expected before"}
        assert before["m0"] > 0.7
    assert "Routing pays without: +" in found[0].sentence


def test_a_confidence_that_costs_more_than_it_tells_does_not_pay():
    found = compare_cascades(world(0, informed=2.0, look=3e-3), **QUICK)
    assert found.verdict == "not worth it"
    assert found["routing"].scoring == 0.0
    assert all(point.scoring == 0.0 for point in found["routing"].points)
    # Every answer is looked at, but the second of two: whoever gave it, nobody comes after.
    points = found["cascade routing"].points
    assert [point.scoring for point in points] == pytest.approx([3e-3] * len(points))
    # Thresholds were better chosen so that nothing is looked at: chains of one model.
    assert found["threshold cascade"].scoring == pytest.approx(0.0)
    assert "looking at answers costs $" in found.sentence


def test_in_many_parts_a_way_that_knows_nothing_loses_nothing():
    found = compare_cascades(world(0, informed=0.0), split=KFold(count=3), points=8, resamples=300)
    for name in ("routing", "cascade routing"):
        assert abs(found[name].over_mix.value) < 0.005
    assert found.queries == 400
    assert found.coverage == 1.0


def hand(cost, quality, climbs=(0, 0), scoring=(0, 0)):
    parts = [np.array(one, float) for one in (cost, quality)]
    others = [np.broadcast_to(np.array(one, float), parts[0].shape) for one in (climbs, scoring)]
    return Played(cost=parts[0], quality=parts[1], climbs=others[0], calls=1.0 + others[0], scoring=others[1])


def tiny(*ways, budgets=(1.0, 3.0), parts=1):
    table = OutcomeTable(
        queries=(Query(text="a"), Query(text="b")) * parts,
        models=("small", "large"),
        quality=np.tile([[0.0, 1.0], [1.0, 1.0]], (parts, 1)),
        cost=np.tile([[1.0, 3.0], [1.0, 3.0]], (parts, 1)),
    )
    names = ("routing", "cascade routing")
    trial = SimpleNamespace(ways=dict(zip(names, ways, strict=True)), budgets=np.array(budgets))
    return Plane(table, [trial] * parts)


def test_areas_by_hand():
    # Singles (1, .5) and (3, 1): dice .75. Routing (1, .5), (2, 1): .75 on [1, 2], then 1. The cascade begins at 1.5 with .5:
    # level from 1, the line to (2.5, 1), level: (.25 + .75 + .5) / 2.
    plane = tiny(
        hand([[1, 3], [1, 1]], [[0, 1], [1, 1]]),
        hand([[1.5, 4], [1.5, 1]], [[0, 1], [1, 1]], climbs=(0.0, 0.5), scoring=(0.5, 0.5)),
    )
    expected = [0.75, 0.875, 0.75, 0.0, 0.125, 0.0, -0.125, 0.0, -0.125]
    np.testing.assert_allclose(plane.statistic(np.ones((1, 2)))[0], expected)
    # The first query alone: singles (1, 0), (3, 1); routing (1, 0), (3, 1); the cascade (1.5, 0), (4, 1), which is at .6 at 3.
    alone = plane.statistic(np.array([[2.0, 0.0]]))[0]
    np.testing.assert_allclose(alone[:3], [0.5, 0.5, 1.5 * 0.6 / 2 / 2])
    mix, routing, cascade = plane.curves([Interval(value=v, low=v, high=v) for v in expected], np.ones(2))
    assert [point.cost for point in mix.points] == [1.0, 3.0]
    assert routing.over_mix.value == 0.125
    assert cascade.climbs == pytest.approx((0.0 + 0.25 + 0.25) / 2)
    assert cascade.scoring == pytest.approx((0.125 + 0.5 + 0.25) / 2)  # from nothing at the cheapest model
    assert [point.quality for point in cascade.points] == [0.5, 1.0]


def test_parts_have_curves_of_their_own_and_wider_intervals():
    one = hand([[1, 3], [1, 1]], [[0, 1], [1, 1]])
    plane = tiny(one, one, parts=2)
    np.testing.assert_allclose(plane.statistic(np.ones((1, 4)))[0][:3], [0.75, 0.875, 0.875])
    # A resample without the first part.
    np.testing.assert_allclose(plane.statistic(np.array([[0.0, 0.0, 1.0, 1.0]]))[0][:3], [0.75, 0.875, 0.875])
    drawn = [Interval(value=0.0, low=-1.0, high=1.0)] * 9
    assert plane.curves(drawn, np.ones(4))[2].over_routing.high == pytest.approx(np.sqrt(2.0))
    assert tiny(one, one).curves(drawn, np.ones(2))[2].over_routing.high == 1.0


def test_models_of_one_cost_have_no_area(paying):
    table = replace(paying.table, cost=np.full_like(paying.table.cost, 1e-3))
    found = compare_cascades(replace(paying, table=table), **QUICK)
    assert found.verdict == "cannot be told"
    assert "all models cost the same" in found.sentence


def test_curves_are_what_replays_of_the_tuned_policies_give():
    train, test = world(0, 300, informed=2.0, skill=(0.5, 0.6, 0.8), cost=(1.0, 2.0, 4.0), look=1e-4).split(0.5, seed=3)
    cascade = CascadeRouter(list(train.models), policy=CascadeRouting(samples=64)).fit(train)
    assert cascade.posthoc.models_ == train.models
    known, new = (
        Part(
            states=told,
            unscored=replace(told, cost=told.cost - cascade.posthoc.score_cost_),
            quality=side.table.quality,
            cost=side.table.cost,
            score_cost=side.score_cost,
        )
        for told, side in (
            (cascade.posthoc.fitted_states(), train),
            (cascade.posthoc.states(*cascade.expected(test)), test),
        )
    )
    budgets, found = played(known, new, points=6, seed=0)
    for way, freedom in (("cascade routing", {}), ("cascading", {"ordered": True}), ("routing", {"climb": False})):
        one, other = known.seen(way), new.seen(way)
        for place, budget in list(enumerate(budgets.tolist()))[1:]:
            policy = CascadeRouting(budget=budget, samples=128, refine=False, mix=False, **freedom)
            policy.fit(one.states, one.quality, one.cost, score_cost=one.score_cost)
            same_as(
                found[way], place, replay(policy, other.states, other.quality, other.cost, score_cost=other.score_cost), look=1e-4
            )
        assert (found[way].scoring == 0.0).all() == (way == "routing")
    for place, budget in list(enumerate(budgets.tolist()))[1:]:
        policy = ThresholdCascade(budget=budget).fit(known.states, known.quality, known.cost, score_cost=known.score_cost)
        said = replay(policy, new.states, new.quality, new.cost, score_cost=new.score_cost)
        same_as(found["threshold cascade"], place, said)
        # A chain's last model is not looked at.
        looked = (said.calls - said.called[:, policy.chain_.columns[-1]]) * 1e-4
        np.testing.assert_allclose(found["threshold cascade"].scoring[:, place], looked, atol=1e-15)


def same_as(way, place, said, look=None):
    np.testing.assert_allclose(way.cost[:, place], said.cost)
    np.testing.assert_array_equal(way.quality[:, place], said.quality)
    np.testing.assert_array_equal(way.calls[:, place], said.calls)
    if look is not None and way.scoring.any():
        # Each answer but the third of three, whichever model gave it.
        np.testing.assert_allclose(way.scoring[:, place], look * np.minimum(said.calls, 2))


def test_a_comparison_charges_as_a_fitted_cascade_does():
    answers = world(0, informed=2.0, look=1e-4)
    points = compare_cascades(answers, **QUICK)["cascade routing"].points
    # One of two answers is looked at: the first, whichever model gave it. The second is the last possible one.
    assert [point.scoring for point in points] == pytest.approx([1e-4] * len(points))
    assert max(point.climbs for point in points) > 0.2
    train, test = answers.split(0.5, seed=0)
    cascade = CascadeRouter(list(answers.models), policy=CascadeRouting(budget=3e-3)).fit(train)
    assert cascade.looks
    said, known = cascade.replay(test), cascade.expected(test)[1].supported  # unlike all that was logged: the default answers
    looks = said.cost - np.where(said.called, test.table.cost, 0.0).sum(axis=1)
    np.testing.assert_allclose(looks, np.where(known, 1e-4, 0.0), atol=1e-15)


def test_the_same_seed_says_the_same_and_another_one_draws_others(paying):
    some = paying.take(range(200))
    one, same, other = (compare_cascades(some, points=4, resamples=50, split=KFold(count=2, seed=s), seed=s) for s in (1, 1, 2))
    assert one.curves == same.curves
    assert one.signals == same.signals
    assert one.sentence == same.sentence
    assert other["cascade routing"].area != one["cascade routing"].area


def test_a_router_gives_the_models_and_what_is_expected_before_an_answer():
    answers = world(0, 300, informed=2.0, skill=(0.5, 0.6, 0.8), cost=(1.0, 2.0, 4.0))
    told = []
    found = compare_cascades(answers, router=Router(["m2", "m0"]), progress=lambda what, done: told.append((what, done)), **QUICK)
    assert [one.model for one in found.singles] == ["m2", "m0"]
    assert found.best_single == "m2"
    assert told == [("split 1", 0.0), ("intervals", 0.5)]
    assert "routing: mean quality" in str(found)
    assert "looking counts as free: it is not known what it cost to measure confidence" in found.notes
    with pytest.raises(KeyError, match="is none of"):
        _ = found["voting"]


def test_only_queries_that_all_models_answered_are_judged(paying):
    quality = paying.table.quality.copy()
    quality[::4, 1] = np.nan
    found = compare_cascades(replace(paying, table=replace(paying.table, quality=quality)), **QUICK)
    assert 0.6 < found.coverage < 0.9
    assert any("whose quality and cost are known" in note for note in found.notes)
    holes = np.where(np.arange(len(paying))[:, None] % 2 == np.arange(2), paying.table.quality, np.nan)
    apart = replace(paying, table=replace(paying.table, quality=holes))
    with pytest.raises(DataError, match="no held-out query has quality and cost of every model"):
        compare_cascades(apart, **QUICK)


def test_what_cannot_be_compared_is_refused(paying):
    with pytest.raises(ConfigError, match=r"nothing is known of the answers.*signals"):
        compare_cascades(replace(paying, signals={}))
    with pytest.raises(ConfigError, match=r"AnswerTable\.from_jsonl"):
        compare_cascades(paying.table)
    with pytest.raises(ConfigError, match="one model only"):
        compare_cascades(paying.select(["m0"]))
    with pytest.raises(ConfigError, match="holds no answer of 'm9'"):
        compare_cascades(paying, router=Router(["m0", "m9"]))
    with pytest.raises(ConfigError, match="points=3"):
        compare_cascades(paying, points=3)
    with pytest.raises(ConfigError, match="cannot judge cascades"):
        compare_cascades(paying, split=ByModel(probes=20))
    free = replace(paying.table, cost=np.where([True, False], np.nan, paying.table.cost))
    with pytest.raises(PriceUnknownError, match="m0"):
        compare_cascades(replace(paying, table=free))


def test_agreement_alone_is_something_to_look_at(paying):
    answers = replace(paying, signals={}, agreement=np.ones((400, 2, 2)))
    found = compare_cascades(answers, **QUICK)
    assert {one.signal for one in found.signals} == {"expected before", "expected after"}
    assert found.verdict != "cascading pays"  # answers that always agree tell nothing


@pytest.mark.parametrize(
    ("over", "mix", "said"),
    [
        ((0.02, 0.01, 0.03), (0.02, 0.01, 0.03), "cascading pays"),
        ((0.02, 0.01, 0.03), (0.02, -0.01, 0.05), "cannot be told"),  # better than a router that is worse than dice
        ((0.02, 0.01, 0.03), (-0.02, -0.03, -0.01), "not worth it"),
        ((0.02, -0.01, 0.05), (0.04, 0.01, 0.07), "cannot be told"),
        ((0.004, -0.005, 0.012), (0.04, 0.01, 0.07), "not worth it"),
        ((0.004, -0.015, 0.024), (0.04, 0.01, 0.07), "cannot be told"),
        ((-0.02, -0.03, -0.01), (0.04, 0.01, 0.07), "not worth it"),
        ((np.nan, np.nan, np.nan), (np.nan, np.nan, np.nan), "cannot be told"),
    ],
)
def test_the_verdict_follows_from_the_intervals(paying, over, mix, said):
    found = compare_cascades(paying.take(range(60)), points=4, resamples=20, split=HALF)
    pairs = {"over_routing": over, "over_mix": mix}
    given = {name: Interval(value=v, low=low, high=high) for name, (v, low, high) in pairs.items()}
    curves = tuple(replace(one, **given) if one.name == "cascade routing" else one for one in found.curves)
    changed = replace(found, curves=curves)
    assert verdict(changed) == said
    begin = {"cascading pays": "Cascading pays", "not worth it": "A cascade is not", "cannot be told": "Whether a cascade pays"}
    assert sentence(replace(changed, verdict=said)).startswith(begin[said])


def test_on_the_log_that_ships_the_useless_confidence_is_found_out():
    with resources.as_file(resources.files("agentroute") / "data" / "ladder.jsonl.gz") as path:
        answers = AnswerTable.from_jsonl(path, signals=["logprob", "self_check"], score_cost="self_check_usd")
    some = answers.take(np.random.default_rng(0).permutation(len(answers))[:500])
    found = compare_cascades(some, **QUICK)
    auroc = {(one.signal, one.model): one.auroc.value for one in found.signals}
    assert auroc["logprob", "smollm2-135m"] == pytest.approx(0.5, abs=0.1)
    assert auroc["self_check", "smollm2-135m"] == pytest.approx(0.5, abs=0.1)
    assert auroc["logprob", "qwen2.5-coder-0.5b"] > 0.7
    assert auroc["expected after", "qwen2.5-coder-0.5b"] > auroc["logprob", "qwen2.5-coder-0.5b"]
    assert ("self_check", "qwen2.5-coder-1.5b") not in auroc  # the largest does not check itself
    assert found.verdict != "cascading pays"
    assert "of smollm2-135m (AUROC 0." in found.sentence


def test_intervals_are_of_the_statistic():
    plane = tiny(hand([[1, 3], [1, 1]], [[0, 1], [1, 1]]), hand([[1, 3], [1, 1]], [[0, 1], [1, 1]]))
    drawn = bootstrap(plane.statistic, 2, resamples=100)
    assert drawn[0].value == 0.75
    assert (drawn[6].low, drawn[6].high) == (
        -0.125,
        0.0,
    )  # dice less routing, from the query that both get and the one they share
    assert drawn[0].low == 0.5
    assert drawn[0].high == 1.0
