"""What a diagnosis says, and of which model and rate it says it."""

import re
from dataclasses import replace

import numpy as np
import pytest

from agentroute.evaluation._diagnose import diagnose
from agentroute.evaluation._headroom import best_votes
from agentroute.evaluation._intervals import Interval
from agentroute.evaluation._laps import Laps, joined, parts
from agentroute.evaluation._units import points, quality, share
from agentroute.policies import UtilityPolicy
from agentroute.router import Router


def texts(diagnosis, kind):
    return [one.text for one in diagnosis.findings if one.kind == kind]


def cheap_half(logs, n=400):
    """The cheap model is as good on one of two tasks."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, n)
    easy = rng.random(n) < np.where(kind == 0, 0.9, 0.5)
    weak = np.where(kind == 0, easy, rng.random(n) < 0.2)
    tasks = [f"task{k}" for k in kind]
    return logs.scored(np.stack([weak, easy], axis=1), kinds=kind, tasks=tasks, cost=np.array([0.1, 1.0]))


def test_everything_is_counted_from_one_named_model(logs):
    """Of two nearly equal models each fold would choose its own."""
    log = logs.noise(4, 400, (0.6, 0.6))
    found = diagnose(log, resamples=50)
    best = int(log.quality.mean(axis=0).argmax())
    row = found.evaluation["best single"]
    assert row.shares == {f"m{best}": 1.0}
    assert row.quality.value == pytest.approx(log.quality[:, best].mean())
    assert found.evaluation["routed"].gain.value == pytest.approx(found.evaluation["routed"].quality.value - row.quality.value)
    assert set(found.evaluation.replay.best_single.tolist()) == {best}
    assert found.frontier.best_single == f"m{best}"
    assert "strongest" not in found.evaluation


def test_of_equal_models_the_cheaper_is_compared_with(logs):
    found = diagnose(logs.scored(np.tile([[1.0], [0.0]], (100, 2)), cost=np.array([1.0, 0.1])), resamples=50)
    assert found.evaluation.best_single == "m1"


def test_folds_are_drawn_several_times_and_learn_within_a_drawing(logs):
    log = logs.noise(0, 50)
    folds = list(Laps(count=5, laps=2).folds(log))
    assert [len(fold.test) for fold in folds] == [10] * 10
    drawn = [{query.id for query in fold.test.queries} for fold in folds]
    assert set.union(*drawn[:5]) == set.union(*drawn[5:])
    assert drawn[0] not in drawn[5:]
    for here, train in parts(np.repeat(np.arange(4), 3), 2):
        assert len(here) == len(train) == 3
        assert (here[0] < 6) == (train[0] < 6)
    # What one drawing judges by, the other learns from: it must not tell.
    quality = np.zeros((400, 6))
    quality[:100, :3] = quality[100:200, 3:] = 1.0
    quality[200:] = quality[:200]
    plans = dict(best_votes(quality, np.ones((400, 6)), np.repeat(np.arange(4), 100), folds=2))
    assert plans[False].quality.max() == 0.0


def test_a_verdict_hangs_less_on_the_drawing_of_the_folds(logs):
    gains = [diagnose(logs.within(0, 300), resamples=20, seed=seed).evaluation["routed"].gain.value for seed in range(3)]
    assert np.ptp(gains) < 0.02
    assert diagnose(logs.within(0, 300), resamples=20).settings["folds"] == "5, drawn 3 times"


def test_copies_of_a_question_do_not_foresee_one_another(logs):
    log = logs.noise(0, 200, (0.5, 0.5, 0.5))
    copies = tuple(replace(query, id=f"copy {query.id}", text=f" {query.text.upper()}  ") for query in log.queries)
    both = replace(log.take(np.tile(np.arange(200), 2)), queries=(*log.queries, *copies))
    found = diagnose(both, resamples=100)
    assert texts(found, "copies") == [
        "200 of 400 queries are copies of others: they are kept in one part, and count once together."
    ]
    assert found.evaluation.queries == 200
    assert abs(found.evaluation["routed"].gain.value) < 0.1
    assert found.verdict == "single model"
    assert joined(log) == (log, 0)


def test_a_saving_names_its_rate_and_is_task_identity(logs):
    found = diagnose(cheap_half(logs), resamples=200)
    assert found.verdict == "route"
    point = found.recommended
    assert f"saves {share(point.saving)} of the cost of always m1, at {points(point.gain)} of quality" in found.headline
    rate = re.search(r"at \$([0-9.,]+) a right answer", found.headline)[1]
    assert float(rate.replace(",", "")) == point.willingness_to_pay
    assert point.saving.value == pytest.approx(1 - point.cost.value / found.evaluation["best single"].cost.value)
    assert sum(point.shares.values()) == pytest.approx(1.0)
    assert found.lookup_is_enough
    assert texts(found, "task identity")[0].startswith("The saving is task identity: a table from task to model saves")


def test_where_all_queries_are_of_one_kind_there_is_nothing_to_look_up(logs):
    found = diagnose(logs.noise(0, 150), resamples=50)
    assert not found.lookup_is_enough
    assert any(one.startswith("There is nothing to look up in a table") for one in found.reasons)


def test_a_router_of_ones_own_is_spoken_of_first(logs):
    log = cheap_half(logs)
    policy = UtilityPolicy(willingness_to_pay=0.01)  # nearly for nothing
    found = diagnose(log, router=Router(log.models, policy=policy, embedder=plain(log)), resamples=100)
    row = found.evaluation["routed"]
    saved = 1 - row.cost.value / found.evaluation["best single"].cost.value
    assert found.headline.startswith(f"As it is set, this router scores {points(row.gain)} over always m1, and saves")
    assert re.search(r"and saves (\d+) %", found.headline)[1] == f"{100 * saved:.0f}"


def plain(log):
    from agentroute.embedders import CallableEmbedder

    made = log.fingerprint
    return CallableEmbedder(lambda texts: 1 / 0, name=made.name, revision=made.revision, dimension=made.dimension)


def test_a_cheaper_model_that_is_as_good_is_better_advice_than_a_cascade(logs):
    log = logs.difficulty(1, 2000)
    right = log.quality[:, 1]
    turn = np.arange(2000)
    alike = np.where(right == 1, turn % 50 > 0, turn % 20 == 0)
    worse = right * (turn % 150 > 0)  # in no query better: behind beyond noise
    for cheap, what in ((alike, "is not told apart from m1"), (worse, "is less than a point behind m1")):
        behind = (cheap - right).mean()
        assert -0.01 < behind < 0
        found = diagnose(replace(log, quality=np.stack([cheap, right], axis=1)), resamples=200)
        assert found.verdict == "single model"
        figure = f"{100 * behind:+.1f}".replace("-", "\N{MINUS SIGN}")
        assert found.headline.startswith(f"Single model: always m0, which {what} ({figure}")
        assert re.search(r"at 1\d % of its cost\.$", found.headline)


def test_a_cascade_says_that_its_judge_is_assumed(logs):
    found = diagnose(logs.difficulty(0), resamples=100)
    assert "(assumed here, its cost not counted)" in found.headline
    [cascade] = [one for one in found.cascades if one.judge_error == 0.2]
    assert f"has {points(cascade.gain)} over always m1" in found.headline
    judges = found.reasons[0]
    assert [
        f"{100 * one.judge_error:.0f} %: {' → '.join(one.models)} has {points(one.gain)}" in judges for one in found.cascades
    ] == [len(one.models) > 1 for one in found.cascades]
    assert "even" not in found.headline


def test_few_coins_cannot_be_told_from_models_and_are_not_called_noise(logs):
    found = diagnose(logs.noise(1, 150), resamples=100)
    assert found.verdict == "need more data"
    assert texts(found, "noise") == []
    assert "noise" not in found.headline
    assert any(
        line.startswith("On 150 queries it cannot be told whether models fail on the same queries") for line in found.reasons
    )
    assert not any("vote of" in line or "cascade m" in line for line in found.reasons)
    many = diagnose(logs.noise(0, 600, (0.5,) * 5), resamples=100)
    assert "the scores look like noise: look at how answers are scored first" in many.headline
    assert not any("cannot be told" in line for line in many.reasons)


def test_equal_models_of_unlike_prices_are_said_to_be(logs):
    """Neither beats the other, and so the dear one is not the advice by itself."""
    cheap = np.arange(300) % 3 > 0
    dear = cheap ^ (np.arange(300) % 30 == 0) ^ (np.arange(300) % 40 == 1)
    assert -0.03 < cheap.mean() - dear.mean() < -0.01
    found = diagnose(logs.scored(np.stack([cheap, dear], axis=1), cost=np.array([0.01, 1.0])), resamples=100)
    assert found.verdict == "single model"
    assert found.headline.startswith("Single model: always m1, or m0 at 1 % of its cost, which these queries do not tell apart")
    assert any(line.startswith("m0 scores") and line.endswith("at 1 % of the cost the former may do.") for line in found.reasons)


def test_a_cascade_beside_a_cheap_equal_model_names_what_it_costs_less_than(logs):
    log = logs.difficulty(0, 800, skill=(1.0, 1.0), cost=(0.01, 1.0))
    up, down = (log.quality[:, order] for order in ([0, 1], [1, 0]))
    best = 0 if up[:, 0].mean() > up[:, 1].mean() else 1
    for scores, cheapest in ((up, best == 0), (down, best == 1)):
        found = diagnose(replace(log, quality=scores), resamples=100)
        assert found.verdict == "cascade"
        assert found.evaluation.best_single == ("m0" if cheapest else "m1")
        assert "try that first" not in found.headline
        less = r"at \d+\.\d times its cost \(\d+ % less than always m1, which is not told apart from it\)"
        assert bool(re.search(less, found.headline)) is cheapest
        assert bool(re.search(r"points \(.*\) over always m1 and \d+ % \(.*\) of its cost saved", found.headline)) is not cheapest
        # Its height over the hull is about that over the better of the two.
        [cascade] = [one for one in found.cascades if one.judge_error == 0.2]
        assert cascade.over_mix.value - cascade.gain.value == pytest.approx(0.005, abs=0.0051)


def test_of_several_votes_the_best_is_advised(logs):
    found = diagnose(logs.difficulty(0, 1000, skill=(1.5,) * 4 + (0.0,), cost=(1.0,) * 5, spread=1.0), resamples=100)
    gains = [vote.gain.value for vote in found.votes]
    best = found.votes[int(np.argmax(gains))]
    assert max(gains) > min(gains) + 0.005
    assert found.verdict == "ensemble"
    assert f"scores {points(best.gain)} over always" in found.headline


def test_a_saving_says_what_a_random_mix_would_do(logs):
    found = diagnose(cheap_half(logs), resamples=200)
    assert found.recommended.over_mix.low > 0
    mix = f"a random mix of single models for that money scores {100 * found.recommended.over_mix.value:.1f} points less"
    assert any(mix in line for line in found.reasons)


def test_without_costs_the_headline_says_that_savings_are_not_judged(logs):
    log = replace(logs.difficulty(0, 800, skill=(0.0, 2.0)), cost=np.full((800, 2), np.nan))
    found = diagnose(log, resamples=50)
    assert found.verdict == "single model"
    assert "cannot be judged without costs" in found.headline
    assert found.findings[0].kind == "costs unknown"


def test_a_holdout_that_is_the_log_is_said_to_be(logs):
    log = logs.noise(0, 120)
    found = diagnose(log, holdout=log.take(np.arange(60)), resamples=50)
    assert texts(found, "holdout") == ["The holdout was not used: all its queries are in the log, with the same scores."]
    assert found.shifts == ()


def test_a_shift_names_who_lost_and_who_gained(logs):
    log, holdout = logs.contaminated(0, drop=0.45)
    found = diagnose(log, holdout=holdout, resamples=100)
    assert "skill shift on model m0: its mean quality goes from" in found.headline
    assert re.search(r"m1 is \d+\.\d points ahead of m0 in the holdout", found.headline)


def test_the_way_to_the_oracle_is_not_told_where_all_models_are_expected_to_be_right(logs):
    found = diagnose(cheap_half(logs), resamples=50)
    high = diagnose(logs.scored(np.maximum(cheap_half(logs).quality, np.eye(2)[np.arange(400) % 2]), tasks=np.arange(400) % 2,
                                kinds=np.arange(400) % 2), resamples=50)  # fmt: skip
    for one in (found, high):
        told = any(line.startswith("The routed choice is") and "short of the best answer" in line for line in one.reasons)
        assert not told or one.gaps.ceiling.value < one.evaluation["oracle"].quality.value - 0.01


def test_figures_are_written_in_one_style():
    found = Interval(value=0.9, low=-0.0071, high=0.0169)
    assert (quality(Interval(value=0.9, low=0.88, high=1.0)), share(Interval(value=0.29, low=0.26, high=0.32))) == (
        "0.900 (0.880 to 1.000)",
        "29 % (26 to 32 %)",
    )
    assert points(replace(found, value=0.0052)) == "+0.5 points (\N{MINUS SIGN}0.7 to +1.7)"
    assert points(Interval(value=-0.0001, low=float("nan"), high=float("nan"))) == "0.0 points"


def test_a_route_says_what_it_costs(logs):
    log = logs.two_tasks(0, 200)
    cost = np.array([[0.001, 0.002]])
    for prices, says in (((0.001, 0.02), r", at \d+ % of its cost\."), ((0.001, 0.00102), r"over always m\d\.")):
        found = diagnose(replace(log, cost=log.cost / cost * np.array(prices)), resamples=50)
        assert found.verdict == "route"
        row = found.evaluation["task lookup"].cost.value / found.evaluation["best single"].cost.value
        assert (abs(row - 1) > 0.1) == ("of its cost" in says)
        assert re.search(says, found.headline)
    best = found.evaluation.best_single
    dear = np.where(np.array(found.evaluation.replay.table.models) == best, 0.001, 0.1)
    found = diagnose(replace(log, cost=log.cost / cost * dear), resamples=50)
    times = found.evaluation["task lookup"].cost.value / found.evaluation["best single"].cost.value
    assert f", at {times:.1f} times its cost." in found.headline
    free = diagnose(replace(log, cost=np.where(dear == 0.001, 0.0, log.cost)), resamples=50)
    assert f", and costs money, which {best} does not." in free.headline


def test_a_gain_that_shows_asks_for_no_more_queries(logs):
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 150)
    right = rng.random((150, 2)) < np.where(kind[:, None] == np.arange(2), 0.98, 0.02)
    log = logs.scored(right, kinds=kind, tasks=kind, cost=np.ones(2))
    found = diagnose(log, resamples=100)
    assert (found.verdict, found.queries_needed) == ("route", None)
    assert found.detectable_gain > 0.05
    assert texts(found, "few rows") == []
    few = diagnose(log.take(np.arange(60)), resamples=100)
    assert few.verdict == "need more data"
    assert few.queries_needed == 100
    assert few.headline.startswith(
        "Need more data: a verdict takes 100 queries or more, and here are 60; so far the router scores +"
    )
    assert texts(few, "few rows") == ["A verdict takes 100 queries or more, whatever they show; here are 60."]


def test_a_table_that_too_few_queries_compare_is_not_said_to_be_enough(logs):
    few, many = (diagnose(logs.within(0, n), resamples=100) for n in (120, 500))
    one = few.evaluation
    assert not few.lookup_is_enough
    assert texts(few, "task identity") == []
    assert one["routed"].gain.low > 0
    assert any("ahead of a plain table from task to model by" in line for line in many.reasons)


def test_a_router_that_cannot_be_told_apart_from_a_table_is_said_to_be(logs):
    """The task tells as much as the text does, and other things."""
    rng = np.random.default_rng(3)
    task, kind = rng.integers(0, 2, (2, 200))
    fits = (task[:, None] == np.arange(2)) * 1.0 + (kind[:, None] == np.arange(2))
    right = rng.random((200, 2)) < 0.1 + 0.4 * fits
    found = diagnose(logs.scored(right, kinds=kind, tasks=task), resamples=100)
    assert found.verdict == "route"
    assert not found.lookup_is_enough
    assert texts(found, "task identity") == []
    apart = "The router cannot be told apart from a plain table from task to model on these queries ("
    assert any(line.startswith(apart) for line in found.reasons)


def test_few_queries_are_no_evidence_that_nothing_is_foreseen(logs):
    few, many = (diagnose(logs.noise(0, n), resamples=100) for n in (42, 600))
    assert not any(line.startswith("Nothing foresees") for line in few.reasons)
    assert any(line.startswith("On 42 queries it cannot be told whether anything foresees") for line in few.reasons)
    assert any(line.startswith("Nothing foresees which queries a model gets right") for line in many.reasons)


def test_always_is_said_of_all_queries_only(logs):
    """The second model is better for one query in 110, which the router finds."""
    kind = (np.arange(1100) % 110 == 0).astype(int)
    right = 1 - kind
    found = diagnose(logs.scored(np.stack([right, kind], axis=1), kinds=kind), resamples=50)
    share = found.evaluation["routed"].shares["m0"]
    assert 0.99 <= share < 1
    assert found.degeneracy.always
    [text] = texts(found, "degenerate")
    assert text == f"The routed choice is m0 for {np.floor(1000 * share) / 10:.1f} % of the queries: it hardly chooses."
    assert not any("found no query" in line for line in found.reasons)
    same = diagnose(logs.scored(np.tile([[1.0], [0.0], [1.0]], (50, 2)), cost=np.ones(2)), resamples=50)
    assert texts(same, "degenerate")[0].startswith("The routed choice is always")
    assert any(line.startswith("The router found no query") for line in same.reasons)
    assert any(line.startswith("A gain of less than 0.1 points would show") for line in same.reasons)


# Luck


def test_an_oracle_that_is_always_right_may_be_luck(logs):
    log = logs.noise(0, 300, (0.8,) * 5)
    assert log.quality.max(axis=1).mean() == 1.0 > 1 - 0.2**5
    [text] = texts(diagnose(log, resamples=100), "luck inflation")
    assert text.startswith("The oracle (1.000) may be luck: models that are right at random, as often as these are")


def test_models_that_know_different_things_are_no_luck(logs):
    """One is right where the other is not: no coins would have such an oracle."""
    rng = np.random.default_rng(0)
    first = rng.random(400) < 0.5
    second = np.where(rng.random(400) < 0.9, ~first, first)
    found = diagnose(logs.scored(np.stack([first, second], axis=1)), resamples=100)
    assert found.evaluation["oracle"].quality.low > 0.76
    assert texts(found, "luck inflation") == []


def test_what_is_above_a_table_is_counted_from_one_that_had_to_learn(logs):
    """With hindsight, the best of five coins in each of forty tasks has much; learned elsewhere, it has nothing."""
    rng = np.random.default_rng(0)
    task = np.arange(600) % 40
    found = diagnose(logs.scored(rng.random((600, 5)) < 0.5, tasks=task), resamples=100)
    [text] = texts(found, "luck inflation")
    row = found.evaluation["task lookup"].quality.value
    assert row < np.mean([max(one.quality.values()) for one in found.tasks]) - 0.05
    assert f"A table from task to model, learned on other parts of the log, has {row:.3f}" in text
    oracle = found.evaluation["oracle"].quality.value
    assert f"the {100 * (oracle - row):.1f} points above it" in text


def test_the_floor_of_luck_stands_beside_the_oracle_of_the_same_questions(logs):
    log = logs.noise(0, 300, (0.25, 0.3), costs=False)
    kind = np.arange(300) % 3
    quality = np.where((kind == 0)[:, None], log.quality, 0.0)
    found = diagnose(replace(log, quality=quality), options=np.where(kind == 0, 4.0, np.nan), resamples=50)
    [text] = texts(found, "luck floor")
    oracle = 100 * log.quality[kind == 0].max(axis=1).mean()
    assert text.startswith("2 guessers would have a right answer among them for 43.8 % of the questions whose options are known;")
    assert text.endswith(f"the oracle has {oracle:.1f} % of these.")


def test_luck_is_not_the_fault_of_the_router(logs):
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 600)
    lucky = rng.random((600, 4)) < np.array([0.3, 0.8])[kind][:, None]
    found = diagnose(logs.scored(lucky, kinds=kind, tasks=kind), resamples=100)
    assert texts(found, "luck inflation")
    [line] = [one for one in found.reasons if "short of the best answer" in one]
    assert line.endswith("which luck alone explains: it is not the router's fault.")


def test_the_way_to_the_oracle_names_from_where_on_a_model_is_expected_to_be_right(logs):
    """Only one of the two models is right, by a coin: no luck would have such an oracle, and nothing foresees which."""
    rng = np.random.default_rng(0)
    first = rng.random(400) < np.array([0.2, 0.8])[np.arange(400) % 2]
    second = np.where(rng.random(400) < 0.9, ~first, first)
    found = diagnose(logs.scored(np.stack([first, second], axis=1), kinds=np.arange(400) % 2), resamples=100)
    assert texts(found, "luck inflation") == []
    [line] = [one for one in found.reasons if "short of the best answer" in one]
    assert "because it chose the wrong one of the models that it expected to be right (at 0.5 or more)" in line
    assert "because only models that it expected to be right at less than 0.5 were right" in line
