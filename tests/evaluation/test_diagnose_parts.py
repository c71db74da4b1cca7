"""The parts of a diagnosis against closed forms, brute force and planted truth."""

from itertools import combinations, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.evaluation import metrics
from agentroute.evaluation._baselines import Arena, task_lookup
from agentroute.evaluation._calibration_checks import auroc_within, predictable, regime
from agentroute.evaluation._headroom import best_cascade, best_votes, can_vote, climb, majority
from agentroute.evaluation._intervals import Interval, bootstrap, means
from agentroute.evaluation._kinds import kinds, lookup
from agentroute.evaluation._luck import dependence, independent_oracle, top_two
from agentroute.evaluation._sheet import Sheet


def at(value, half=0.0):
    return Interval(value=value, low=value - half, high=value + half)


# Votes


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=3, max_size=3))
def test_a_vote_is_the_sum_over_all_patterns(chances, say):
    expected = 0.0
    for right in product((0, 1), repeat=3):
        weight = sum(w for w, r in zip(say, right, strict=True) if r)
        won = 1.0 if weight > sum(say) / 2 else 0.5 if weight == sum(say) / 2 else 0.0
        expected += won * np.prod([p if r else 1 - p for p, r in zip(chances, right, strict=True)])
    assert majority(np.array([chances]), np.array(say))[0] == pytest.approx(expected)


def test_five_voters_of_one_strength_have_the_binomial():
    p = 0.6
    expected = 10 * p**3 * (1 - p) ** 2 + 5 * p**4 * (1 - p) + p**5
    assert majority(np.full((2, 5), p), np.ones(5)).tolist() == pytest.approx([expected] * 2)


def test_voters_are_chosen_on_the_other_folds():
    """In each fold another three are always right: chosen there, the vote would be perfect; chosen elsewhere it is not."""
    quality = np.zeros((200, 6))
    fold = np.repeat([0, 1], 100)
    quality[:100, :3] = 1.0
    quality[100:, 3:] = 1.0
    plans = dict(best_votes(quality, np.ones((200, 6)), fold))
    assert plans[False].quality.max() == 0.0
    assert all(plan.cost.tolist() == [float(len(plan.models))] * 200 for plan in plans.values())


def test_the_best_three_of_seven_are_found():
    rng = np.random.default_rng(0)
    quality = (rng.random((600, 7)) < [0.5, 0.7, 0.55, 0.72, 0.6, 0.71, 0.4]).astype(float)
    # Two folds of the same queries: what one chooses on the other is what it would choose on itself.
    weighted, plan = next(iter(best_votes(np.tile(quality, (2, 1)), np.ones((1200, 7)), np.repeat([0, 1], 600))))
    assert not weighted
    found = max(combinations(range(7), 3), key=lambda three: (quality[:, three].sum(axis=1) >= 2).mean())
    assert set(plan.models) == set(found)


def test_grades_cannot_be_outvoted_but_shares_of_samples_can():
    grades = np.random.default_rng(0).random((50, 3))
    assert not can_vote(grades, np.ones((50, 3)))
    assert can_vote(np.round(grades * 10) / 10, np.full((50, 3), 10.0))
    assert can_vote((grades > 0.5).astype(float), np.ones((50, 3)))


# Cascades


def test_a_cascade_of_two_in_closed_form():
    first, last, error = 0.7, 0.8, 0.2
    refused = first * error + (1 - first) * (1 - error)
    quality, cost = climb(np.array([[first, last]]), np.array([[1.0, 10.0]]), (0, 1), error)
    assert quality[0] == pytest.approx(first * (1 - error) + refused * last)
    assert cost[0] == pytest.approx(1.0 + 10.0 * refused)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 0.3, 0.5]))
def test_a_cascade_is_what_a_simulated_judge_would_do(seed, error):
    rng = np.random.default_rng(seed)
    quality, cost = (rng.random((1, 3)) < 0.5).astype(float), rng.random((1, 3))
    right = paid = 0.0
    for errs in product((False, True), repeat=2):
        chance = np.prod([error if e else 1 - error for e in errs])
        for step, model in enumerate((2, 0, 1)):
            paid += chance * cost[0, model]
            if step == 2 or (quality[0, model] == 1.0) != errs[step]:
                right += chance * quality[0, model]
                break
    found = climb(quality, cost, (2, 0, 1), error)
    assert (found[0][0], found[1][0]) == pytest.approx((right, paid))


def test_orders_are_chosen_on_the_other_folds():
    quality = np.repeat(np.eye(2), 50, axis=0)
    plan = best_cascade(quality, np.ones((100, 2)), np.repeat([0, 1], 50), np.repeat([1, 0], 50), 0.0, worth=0.05)
    assert plan.quality.max() == 0.0


@pytest.mark.parametrize("budget", [4, 2])
@pytest.mark.parametrize("worth", [0.05, 0.0])
@pytest.mark.parametrize("error", [0.0, 0.1, 0.2, 0.3])
def test_the_best_order_is_that_of_brute_force(error, worth, budget):
    rng = np.random.default_rng(1)
    quality = (rng.random((400, 5)) < [0.5, 0.6, 0.7, 0.65, 0.8]).astype(float)
    cost = rng.random((400, 5)) * np.array([0.1, 0.2, 0.5, 0.4, 1.0])
    # Two folds of the same queries: what one chooses on the other is what it would choose on itself.
    quality, cost, fold = np.tile(quality, (2, 1)), np.tile(cost, (2, 1)), np.repeat([0, 1], 400)
    limit = cost[:, budget].mean()

    def value(order):
        right, paid = climb(quality, cost, order, error)
        return right.mean() - worth * paid.mean() / limit if paid.mean() <= limit * (1 + 1e-9) else -1.0

    best = max(value(order) for k in (1, 2, 3) for order in permutations(range(5), k))
    plan = best_cascade(quality, cost, fold, np.full(800, budget), error, worth=worth)
    assert value(plan.models) == pytest.approx(best)
    assert plan.quality.mean() == pytest.approx(climb(quality, cost, plan.models, error)[0].mean())


# Luck


def test_independent_models_have_the_oracle_of_coins():
    rng = np.random.default_rng(0)
    quality = (rng.random((20_000, 4)) < 0.3).astype(float)
    assert independent_oracle(quality, np.zeros(20_000, int)) == pytest.approx(1 - np.prod(1 - quality.mean(axis=0)), abs=0.003)


def test_luck_is_counted_within_tasks():
    """Each model knows one task: shuffled across tasks the oracle would fall, within tasks it does not."""
    task = np.arange(1000) % 2
    quality = (task[:, None] == np.arange(2)).astype(float)
    assert independent_oracle(quality, task) == 1.0
    assert independent_oracle(quality, np.zeros(1000, int)) == pytest.approx(0.75, abs=0.03)


def test_dependence_is_the_mean_correlation_and_its_resamples_too():
    rng = np.random.default_rng(0)
    quality = np.concatenate([(rng.random((300, 1)) + rng.random((300, 4)) > 1).astype(float), np.ones((300, 1))], axis=1)
    columns, rule = dependence(quality, np.zeros(300, int))
    apart = quality[:, :4]
    expected = (np.corrcoef(apart.T).sum() - 4) / 12
    assert rule(columns.mean(axis=0, keepdims=True))[0, 0] == pytest.approx(expected)
    doubled = rule(np.concatenate([columns, columns[:50]]).mean(axis=0, keepdims=True))[0, 0]
    again = np.concatenate([apart, apart[:50]])
    cov = np.cov(again.T, bias=True)
    spread = np.sqrt(np.diag(cov)) / apart.std(axis=0)
    scaled = cov / np.outer(apart.std(axis=0), apart.std(axis=0))
    expected = (scaled.sum() - np.trace(scaled)) / (spread.sum() ** 2 - (spread**2).sum())
    assert doubled == pytest.approx(expected)


def test_models_that_never_vary_have_no_dependence():
    columns, rule = dependence(np.ones((10, 3)), np.zeros(10, int))
    assert np.isnan(rule(columns.mean(axis=0, keepdims=True))).all()


def test_coins_that_land_better_in_an_easy_task_do_not_go_together():
    rng = np.random.default_rng(0)
    task = rng.integers(0, 2, 20_000)
    quality = (rng.random((20_000, 3)) < np.array([0.3, 0.9])[task][:, None]).astype(float)
    over, within = (dependence(quality, strata) for strata in (np.zeros(20_000, int), task))
    correlation = [rule(columns.mean(axis=0, keepdims=True))[0, 0] for columns, rule in (over, within)]
    # The variance of the chances, 0.09, by that of the scores, 0.6 (1 - 0.6); and nothing is left within a task.
    assert correlation == pytest.approx([0.09 / 0.24, 0.0], abs=0.015)


def test_the_top_two_are_best_together_not_alone():
    quality = np.array([[1, 1, 0], [1, 1, 0], [1, 1, 0], [0, 0, 1]], float)
    assert top_two(quality) in {(0, 2), (1, 2)}
    assert top_two(np.ones((3, 1))) == (0, 0)


# Calibration


def test_auroc_within_strata_is_over_their_pairs_only():
    rng = np.random.default_rng(0)
    predicted, observed = rng.integers(0, 5, 80) / 5.0, (rng.random(80) < 0.5).astype(float)
    strata, weights = rng.integers(0, 4, 80), rng.integers(0, 3, (6, 80)).astype(float)
    for row, line in zip(auroc_within(predicted, observed, strata, weights=weights), weights, strict=True):
        hits = pairs = 0.0
        for i in np.flatnonzero(observed == 1):
            for j in np.flatnonzero((observed == 0) & (strata == strata[i])):
                pairs += line[i] * line[j]
                hits += line[i] * line[j] * ((predicted[i] > predicted[j]) + 0.5 * (predicted[i] == predicted[j]))
        assert row == pytest.approx(hits / pairs)
    one = np.zeros(80, int)
    assert auroc_within(predicted, observed, one, weights=weights) == pytest.approx(
        metrics.auroc(predicted, observed, weights=weights)
    )
    assert np.isnan(auroc_within(np.full(80, np.nan), observed, one, weights=weights)).all()


def test_regimes_are_named_by_auroc_and_only_beyond_chance():
    names = ["low noise", "medium noise", "high noise", "no signal"]
    assert [regime(at(value, 0.01)) for value in (0.88, 0.67, 0.62, 0.52)] == names
    assert regime(at(0.7, 0.2)) == "no signal"
    # Twenty thousand coins: beyond chance, and of no use.
    assert not predictable(at(0.511, 0.0036))
    assert predictable(at(0.53, 0.0036))
    assert not predictable(at(0.5))
    assert not predictable(at(float("nan"), float("nan")))


# Kinds


def test_kinds_are_labels_that_tell_queries_apart(logs):
    labelled = logs.two_tasks(0, 200)
    assert kinds(labelled).by == "task"
    bare = kinds(logs.two_tasks(0, 200, labels=False))
    assert bare.by == "cluster"
    assert all("kind0" in name or "kind1" in name for name in bare.names)
    named = [one for one in labelled.queries if one.task == "task1"]
    assert (kinds(labelled).of == kinds(labelled).names.index("task1")).sum() == len(named)
    unique = logs.scored(np.ones((100, 2)), tasks=range(100))
    assert kinds(unique).by == "cluster"
    alike = logs.scored(np.ones((100, 2)), tasks=["same"] * 100)
    assert kinds(alike).by == "cluster"


def test_a_lookup_learns_from_the_other_folds(logs):
    log = logs.two_tasks(0, 400)
    fold = np.arange(400) % 4
    for of in (kinds(log), kinds(logs.two_tasks(0, 400, labels=False))):
        picks = lookup(log, of, fold, np.zeros(400, int))
        assert (picks == [query.task == "task1" for query in log.queries]).mean() > 0.97
    # A kind that only one fold has is answered by its best single model.
    lone = kinds(logs.scored(np.ones((40, 2)), tasks=["a"] * 20 + ["b"] * 20))
    assert lookup(logs.scored(np.ones((40, 2))), lone, np.repeat([0, 1], 20), np.ones(40, int)).tolist() == [1] * 40


def test_both_task_lookups_are_one(logs):
    """What a diagnosis looks up by task is the baseline of that name, small tasks and all."""
    rng = np.random.default_rng(0)
    task = rng.choice(12, 200, p=np.arange(1, 13) / 78)
    log = logs.scored(rng.random((200, 3)) < np.array([0.5, 0.55, 0.6]), tasks=task)
    fold = np.arange(200) % 2
    best = np.zeros(200, int)
    for part in (0, 1):
        best[fold == part] = log.quality[fold != part].mean(axis=0).argmax()
    picks = lookup(log, kinds(log), fold, best)
    for part in (0, 1):
        train, test = log.take(np.flatnonzero(fold != part)), log.take(np.flatnonzero(fold == part))
        arena = Arena(train=train, test=test, queries=test.queries, means=train.quality.mean(axis=0), costs=np.full(3, np.nan))
        assert task_lookup(arena).argmax(axis=1).tolist() == picks[fold == part].tolist()


# Sheet


def test_a_sheet_draws_what_single_bootstraps_draw():
    rng = np.random.default_rng(0)
    values, holes = rng.random((50, 2)), np.where(rng.random(50) < 0.3, np.nan, rng.random(50))
    sheet = Sheet(50)
    sheet.mean("values", values)
    sheet.mean("holes", holes)
    sheet.follow("twice", lambda both: 2.0 * both, "values")
    sheet.follow("ratio", lambda both, one: both[:, :1] / one, "values", "holes")
    drawn = sheet.draw(resamples=100, seed=3)
    assert drawn["values"] == pytest.approx(bootstrap(means(values), 50, resamples=100, seed=3), abs=1e-12)
    assert drawn["holes"] == bootstrap(means(holes), 50, resamples=100, seed=3)
    assert [one.value for one in drawn["twice"]] == pytest.approx(2.0 * values.mean(axis=0))
    assert drawn["ratio"][0].value == pytest.approx(values[:, 0].mean() / np.nanmean(holes))
