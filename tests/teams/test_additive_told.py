"""What the additive model says it knows: intervals that hold, draws, roles of which runs tell nothing, and doubts of the sum."""

from __future__ import annotations

import numpy as np
import pytest

from agentroute.teams._additive import AdditiveLogit


def logistic(logit):
    return 1.0 / (1.0 + np.exp(-logit))


# --- what is known, and how surely ---


def test_intervals_hold_what_they_promise_in_worlds_drawn_from_the_prior(observed):
    held, chances = [], []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        theta = rng.normal(size=(2, 3))
        columns = rng.integers(0, 3, (150, 2))
        seen = observed.of(columns, rng.random(150) < logistic(-0.3 + theta[[0, 1], columns].sum(axis=1)))
        model = AdditiveLogit(np.array([3, 3])).fit(seen)
        for one in model.effects():
            truth = theta[one.role, one.column] - theta[one.role].mean()
            held.append(one.low <= truth <= one.high)
        _, low, high = model.interval(np.array([0, 2]), 0, np.zeros(0))
        chances.append(low <= logistic(-0.3 + theta[0, 0] + theta[1, 2]) <= high)
    # 720 effects, 120 chances: three standard errors of a share of .95 are .024 and .06.
    assert 0.925 <= np.mean(held) <= 0.975
    assert np.mean(chances) >= 0.89


@pytest.mark.parametrize("effect", [0.0, 1.0, 3.0, 5.0, 6.0])
@pytest.mark.parametrize("breaks", [15, 30])
def test_a_role_that_adds_nothing_is_seldom_said_to_do_so_for_hardly_varying_apart_from_one_that_adds_much(
    breaks, effect, observed
):
    sure = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        second = rng.integers(0, 2, 300)
        first = np.where(np.arange(300) < breaks, 1 - second, second)
        seen = observed.of(np.stack([first, second], axis=1), rng.random(300) < logistic(effect * (second - 0.5)))
        one = AdditiveLogit(np.array([2, 2])).fit(seen).effects()[1]
        sure += one.low > 0.0 or one.high < 0.0
    # Three standard errors above .05. With the ridge's own interval it was 10 to 45 of 100 from 5 logits on.
    assert sure <= 11


@pytest.mark.parametrize("strength", [0.5, 3.0])
def test_intervals_hold_what_they_promise_whatever_the_effects(strength, observed):
    held = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        theta = np.stack([rng.permutation([-0.5, -0.2, 0.2, 0.5]) * strength for _ in range(4)])
        columns = rng.integers(0, 4, (160, 4))
        seen = observed.of(columns, rng.random(160) < logistic(theta[np.arange(4), columns].sum(axis=1)))
        effects = AdditiveLogit(np.full(4, 4)).fit(seen).effects()
        held += [one.low <= theta[one.role, one.column] <= one.high for one in effects]
    # 640 effects: three standard errors of a share of .95 are .026.
    assert np.mean(held) >= 0.924


def test_the_chance_of_a_team_that_hardly_any_run_had_is_not_told_too_surely(observed):
    held, chances = [], logistic(np.array([-3.0, 3.0]))
    for seed in range(60):
        rng = np.random.default_rng(seed)
        second = rng.integers(0, 2, 300)
        first = np.where(np.arange(300) < 15, 1 - second, second)
        seen = observed.of(np.stack([first, second], axis=1), rng.random(300) < chances[second])
        model = AdditiveLogit(np.array([2, 2])).fit(seen)
        for columns in ([0, 1], [1, 0]):
            _, low, high = model.interval(np.array(columns), 0, np.zeros(0))
            held.append(low <= chances[columns[1]] <= high)
    assert np.mean(held) >= 0.9  # it was about a half


def test_an_interval_holds_what_the_ridge_says_and_what_is_said_with_nearly_none(observed):
    seen = observed.of(np.repeat([0, 1], 12), np.repeat([0.0, 1.0], 12))
    ends = {ridge: AdditiveLogit(np.array([2]), ridge=ridge).fit(seen).effects()[1] for ridge in (1.0, 0.01, 1e-4)}
    assert ends[1.0].logit < ends[0.01].logit
    assert ends[1.0].low < ends[1.0].logit < ends[1.0].high
    # Without a failure the ridge alone keeps the effect finite: with a hundredth of it the end is as far as its own.
    step = ends[0.01].logit - ends[1.0].logit
    assert ends[1.0].high > ends[1.0].logit + 2 * step


def test_draws_have_the_mean_and_the_covariance_of_what_is_known(observed):
    model = AdditiveLogit(np.array([3, 3])).fit(observed.drawn(np.random.default_rng(6), 80, roles=2))
    rng = np.random.default_rng(7)
    draws = np.stack([model.draw(rng) for _ in range(20_000)])
    scale = np.sqrt(np.diag(model.covariance_))
    assert np.abs(draws.mean(axis=0) - model.coef_).max() < 0.03 * scale.max()
    assert np.abs(np.cov(draws.T) - model.covariance_).max() < 0.04 * scale.max() ** 2
    values = model.values(np.zeros(0), draws[0])
    assert values.shape == (2, 3)
    assert values.tolist() != model.values(np.zeros(0)).tolist()


def test_ten_runs_for_each_effect_are_enough(observed):
    # One intercept, 2 x 2 effects of models, 1 of the second mode, 1 of the second kind: 7.
    rng = np.random.default_rng(8)
    for n, enough in ((69, False), (70, True)):
        seen = observed.drawn(rng, n, roles=2, modes=2, kinds=2)
        assert AdditiveLogit(np.array([3, 3]), modes=2, kinds=2).fit(seen).enough is enough


# --- what cannot be told ---


def verdicts(model):
    return {(one.role, one.column): one.verdict for one in model.effects()}


def test_a_role_that_never_varied_has_no_number(observed):
    rng = np.random.default_rng(9)
    columns = rng.integers(0, 3, (300, 2))
    columns[:, 0] = 1
    model = AdditiveLogit(np.array([3, 3])).fit(observed.of(columns, rng.random(300) < 0.5))
    assert model.aliased() == {0: "never varied"}
    for one in model.effects():
        known = one.role == 1
        assert (one.verdict == "ok") is known
        assert (one.logit is not None) is known
        assert (one.low is not None) is known
        assert (one.high is not None) is known


@pytest.mark.parametrize("other", ["role", "mode", "kind"])
def test_a_role_that_always_varied_with_something_else_has_no_number(other, observed):
    rng = np.random.default_rng(10)
    n = 400
    columns, modes, kind = rng.integers(0, 3, (n, 3)), rng.integers(0, 3, n), rng.integers(0, 3, n)
    if other == "role":
        columns[:, 1] = (columns[:, 0] + 1) % 3
    elif other == "mode":
        modes = columns[:, 0]
    else:
        kind = columns[:, 0]
    model = AdditiveLogit(np.full(3, 3), modes=3, kinds=3)
    model.fit(observed.of(columns, rng.random(n) < 0.5, modes=modes, kinds=np.eye(3)[kind]))
    assert set(model.aliased()) == ({0, 1} if other == "role" else {0})
    assert all("together" in why for why in model.aliased().values())
    assert verdicts(model)[0, 0] == "not identifiable"
    assert verdicts(model)[2, 0] == "ok"


@pytest.mark.parametrize(("breaks", "told"), [(0, False), (1, False), (3, False), (9, False), (11, True)])
def test_a_few_runs_that_break_the_pattern_do_not_make_a_role_identifiable(breaks, told, observed):
    rng = np.random.default_rng(11)
    second = np.tile([0, 1], 150)
    first = np.where(np.arange(300) < breaks, 1 - second, second)
    # The first role's model adds nothing.
    model = AdditiveLogit(np.array([2, 2])).fit(
        observed.of(np.stack([first, second], axis=1), rng.random(300) < 0.05 + 0.9 * second)
    )
    assert set(model.aliased()) == (set() if told else {0, 1})
    assert all(why.startswith("nearly always" if breaks else "always") for why in model.aliased().values())
    assert set(verdicts(model).values()) == {"ok" if told else "not identifiable"}
    assert all((one.logit is not None) is told for one in model.effects())


def test_a_contrast_of_two_of_three_models_may_hang_on_another_role_too(observed):
    first = np.tile([0, 1, 2], 100)
    second = np.where(first == 2, np.arange(300) % 2, first)  # 0 and 1 as the first role has them, a coin beside its third
    model = AdditiveLogit(np.array([3, 2])).fit(observed.of(np.stack([first, second], axis=1), np.tile([0.0, 1.0], 150)))
    assert model.aliased() == {}
    second[(first == 2) & (np.arange(300) > 8)] = 0  # but for one run
    model = AdditiveLogit(np.array([3, 2])).fit(observed.of(np.stack([first, second], axis=1), np.tile([0.0, 1.0], 150)))
    assert set(model.aliased()) == {0, 1}


def test_a_model_seen_always_but_once_is_not_held_against_the_other(observed):
    model = AdditiveLogit(np.array([2])).fit(observed.of(np.arange(300) == 0, np.tile([0.0, 1.0], 150)))
    assert model.aliased() == {0: "hardly varied: only one of its models has 10 runs"}
    assert set(verdicts(model).values()) == {"not identifiable"}


def test_a_rare_model_has_no_say_in_what_the_others_add(observed):
    columns, success = np.array([0, 1] * 50 + [2]), np.tile([1.0, 1.0, 0.0, 1.0], 26)[:101]
    first, second, rare = AdditiveLogit(np.array([3])).fit(observed.of(columns, success)).effects()
    assert first.logit == pytest.approx(-second.logit)
    assert rare.verdict == "too few runs"


def test_models_with_few_runs_and_models_with_none_have_no_number(observed):
    columns = np.repeat([0, 1, 2], [50, 50, 9])
    model = AdditiveLogit(np.array([4])).fit(observed.of(columns, np.tile([0.0, 1.0], 55)[:109]))
    assert verdicts(model) == {(0, 0): "ok", (0, 1): "ok", (0, 2): "too few runs", (0, 3): "too few runs"}
    assert [one.runs for one in model.effects()] == [50, 50, 9, 0]
    assert verdicts(AdditiveLogit(np.array([4]), few=9).fit(observed.of(columns, np.full(109, 0.5))))[0, 2] == "ok"
    assert model.runs_.tolist() == [[50, 50, 9, 0]]


def test_only_an_optional_role_has_a_column_for_being_left_out(observed):
    rng = np.random.default_rng(12)
    columns = np.stack([rng.integers(0, 2, 200), rng.integers(0, 3, 200)], axis=1)
    effects = AdditiveLogit(np.array([2, 3])).fit(observed.of(columns, rng.random(200) < 0.5)).effects()
    assert [(one.role, one.column) for one in effects] == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]


# --- whether effects add up ---


def world(observed, seed, n, *, strength=0.0, fractions=False):
    rng = np.random.default_rng(seed)
    columns = rng.integers(0, 3, (n, 3))
    theta, pair = rng.normal(0.0, 0.7, (3, 3)), rng.normal(0.0, 1.0, (3, 3))
    chance = logistic(theta[[0, 1, 2], columns].sum(axis=1) + strength * pair[columns[:, 0], columns[:, 1]])
    noise = np.clip(chance + rng.normal(0.0, 0.1, n), 0.0, 1.0)
    return observed.of(columns, noise if fractions else rng.random(n) < chance)


@pytest.mark.parametrize("fractions", [False, True])
def test_sums_are_seldom_doubted_where_they_hold(fractions, observed):
    p = [AdditiveLogit(np.full(3, 3)).fit(world(observed, seed, 300, fractions=fractions)).interaction() for seed in range(100)]
    # Three standard errors above .05 are .115. It may well be shy: the ridge leaves something to the residuals.
    assert np.mean(np.array(p) < 0.05) <= 0.12
    assert min(p) >= 1 / 401
    assert np.median(p) > 0.25


@pytest.mark.parametrize("fractions", [False, True])
def test_sums_are_doubted_where_models_get_on_with_each_other_or_do_not(fractions, observed):
    n = 300 if fractions else 1500
    p = [
        AdditiveLogit(np.full(3, 3)).fit(world(observed, seed, n, strength=1.0, fractions=fractions)).interaction()
        for seed in range(12)
    ]
    assert np.mean(np.array(p) < 0.01) > 0.9


def large(observed, seed, n, *, roles, models, strength=0.0, pairs=0.0, kinds=0):
    rng = np.random.default_rng(seed)
    columns, kind = rng.integers(0, models, (n, roles)), np.eye(max(kinds, 1))[rng.integers(0, max(kinds, 1), n)]
    theta, pair = rng.normal(0.0, strength, (roles, models)), rng.normal(0.0, pairs, (roles - 1, models, models))
    logit = theta[np.arange(roles), columns].sum(axis=1)
    logit += sum(pair[role, columns[:, role], columns[:, role + 1]] for role in range(roles - 1))
    seen = observed.of(columns, rng.random(n) < logistic(logit), kinds=kind if kinds else None)
    return AdditiveLogit(np.full(roles, models), kinds=kinds).fit(seen).interaction()


@pytest.mark.parametrize("strength", [0.0, 0.5])
@pytest.mark.parametrize(("roles", "models", "kinds"), [(8, 8, 0), (10, 10, 0), (6, 5, 3)])
def test_sums_are_seldom_doubted_in_large_teams_with_few_runs(strength, roles, models, kinds, observed):
    # Fitted chances are too far apart there, so that draws from them leave less than the runs do.
    p = [large(observed, seed, 300, roles=roles, models=models, strength=strength, kinds=kinds) for seed in range(40)]
    assert np.mean(np.array(p) < 0.05) <= 0.15  # three standard errors above .05
    assert np.mean(np.array(p) < 0.01) <= 0.05
    assert 0.25 < np.median(p) < 0.75


def test_sums_are_doubted_in_large_teams_where_pairs_matter(observed):
    assert max(large(observed, seed, 2000, roles=8, models=8, strength=0.5, pairs=0.5) for seed in range(4)) < 0.01


def test_two_models_that_only_work_together_give_sums_away(observed):
    rng = np.random.default_rng(13)
    columns = rng.integers(0, 2, (200, 2))
    seen = observed.of(columns, rng.random(200) < np.where(columns[:, 0] == columns[:, 1], 0.8, 0.2))
    model = AdditiveLogit(np.array([2, 2])).fit(seen)
    assert model.interaction() < 0.01
    assert model.interaction(seed=1) < 0.01


def test_one_role_or_no_run_leaves_nothing_to_doubt(observed):
    assert AdditiveLogit(np.array([3])).fit(observed.of([0, 1, 2], [0.0, 1.0, 0.0])).interaction() == 1.0
    assert AdditiveLogit(np.array([3, 3])).fit(observed.of(np.zeros((0, 2)), [])).interaction() == 1.0


def test_taking_rows_keeps_what_belongs_together(observed):
    seen = observed.drawn(np.random.default_rng(14), 20, kinds=2, modes=2, scored=True)
    some = seen.take(np.array([3, 3, 7]))
    assert len(some) == 3
    for name in ("columns", "modes", "kinds", "success", "scores"):
        np.testing.assert_array_equal(getattr(some, name), getattr(seen, name)[[3, 3, 7]])
