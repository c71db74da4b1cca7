"""The additive model against closed forms, plain optimisation, worlds drawn from its own prior, and logs that tell nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentroute.errors import DataError, NotFittedError
from agentroute.teams._additive import AdditiveLogit, Observed


def logistic(logit):
    return 1.0 / (1.0 + np.exp(-logit))


def logit(chance):
    return math.log(chance / (1.0 - chance))


def drawn(rng, n, *, roles=3, models=3, modes=1, kinds=0, scored=False, fractions=False):
    """Runs whose success is a coin, or anything."""
    return Observed(
        columns=rng.integers(0, models, (n, roles)),
        modes=rng.integers(0, modes, n),
        kinds=rng.dirichlet(np.ones(kinds), n) if kinds else np.zeros((n, 0)),
        success=rng.random(n) if fractions else (rng.random(n) < rng.random()).astype(float),
        scores=np.where(rng.random((n, roles)) < 0.5, rng.random((n, roles)), np.nan) if scored else None,
    )


def of(columns, success, *, modes=None, kinds=None):
    n = len(success)
    return Observed(
        columns=np.asarray(columns, np.int64) if np.ndim(columns) == 2 else np.asarray(columns, np.int64)[:, None],
        modes=np.zeros(n, np.int64) if modes is None else np.asarray(modes, np.int64),
        kinds=np.zeros((n, 0)) if kinds is None else np.asarray(kinds, float),
        success=np.asarray(success, float),
    )


def posterior(model, seen, coef):
    """Log posterior density at some parameters, up to a constant, written out run by run."""
    roles, width, kinds = len(model.levels), model.width, model.kinds
    b, of_kind = coef[0], coef[1 : 1 + kinds]
    of_mode = coef[1 + kinds : 1 + kinds + model.modes]
    own = coef[1 + kinds + model.modes : 1 + kinds + model.modes + roles]
    blocks = coef[1 + kinds + model.modes + roles :].reshape(1 + kinds, roles, width)

    def loss(score, target):
        return target * score - np.logaddexp(0.0, score)

    total = 0.0
    for row in range(len(seen)):
        adds = [
            blocks[0, k, seen.columns[row, k]]
            + sum(seen.kinds[row, c] * blocks[1 + c, k, seen.columns[row, k]] for c in range(kinds))
            for k in range(roles)
        ]
        total += loss(b + seen.kinds[row] @ of_kind + of_mode[seen.modes[row]] + sum(adds), seen.success[row])
        if seen.scores is not None:
            for k in range(roles):
                if not np.isnan(seen.scores[row, k]):
                    total += loss(own[k] + adds[k], seen.scores[row, k])
    held = (
        1e-2 * b**2
        + model.ridge * ((of_kind**2).sum() + (of_mode**2).sum() + (own**2).sum() + ((blocks[0] - model.prior) ** 2).sum())
        + model.kind_ridge * (blocks[1:] ** 2).sum()
    )
    return total - held / 2.0


def slope(model, seen, coef):
    step = 1e-5
    return np.array(
        [
            (posterior(model, seen, coef + step * e) - posterior(model, seen, coef - step * e)) / (2 * step)
            for e in np.eye(len(coef))
        ]
    )


# --- the optimum ---


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(0, 30),
    modes=st.integers(1, 3),
    kinds=st.integers(0, 2),
    scored=st.booleans(),
    fractions=st.booleans(),
)
@example(seed=344, n=18, modes=1, kinds=2, scored=False, fractions=False)  # where whole Newton steps go back and forth for ever
def test_no_parameter_could_be_better(seed, n, modes, kinds, scored, fractions):
    rng = np.random.default_rng(seed)
    seen = drawn(rng, n, modes=modes, kinds=kinds, scored=scored, fractions=fractions)
    model = AdditiveLogit(np.full(3, 3), modes=modes, kinds=kinds, prior=rng.normal(size=(3, 3)), ridge=0.7).fit(seen)
    assert np.abs(slope(model, seen, model.coef_)).max() < 1e-4


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_logs_that_all_ended_alike_have_an_optimum_too(end):
    rng = np.random.default_rng(0)
    seen = of(rng.integers(0, 3, (2000, 2)), np.full(2000, end))
    model = AdditiveLogit(np.array([3, 3])).fit(seen)
    assert np.abs(slope(model, seen, model.coef_)).max() < 1e-3
    chance, low, high = model.interval(np.array([0, 0]), 0, np.zeros(0))
    assert abs(chance - end) < 0.01
    assert low < chance < high


def test_the_covariance_is_the_inverse_curvature():
    seen = drawn(np.random.default_rng(1), 40, roles=2, kinds=1, modes=2)
    model = AdditiveLogit(np.array([3, 3]), modes=2, kinds=1).fit(seen)
    step, coef = 1e-3, model.coef_
    curvature = np.array(
        [(slope(model, seen, coef + step * e) - slope(model, seen, coef - step * e)) / (2 * step) for e in np.eye(len(coef))]
    )
    assert np.linalg.inv(-curvature) == pytest.approx(model.covariance_, abs=1e-3)


def test_without_runs_it_knows_the_prior():
    prior = np.array([[0.5, -0.5], [1.0, 0.0]])
    model = AdditiveLogit(np.array([2, 2]), prior=prior, ridge=4.0).fit(of(np.zeros((0, 2)), []))
    assert model.values(np.zeros(0)) == pytest.approx(prior)
    assert model.runs == 0
    score, error = model.logit(np.array([[0, 1]]), np.array([0]), np.zeros((1, 0)))
    assert score == pytest.approx([0.5])
    # intercept 1 / .01, mode and two models 1 / 4 each
    assert error == pytest.approx([math.sqrt(100.0 + 0.75)])


def test_with_next_to_no_ridge_effects_are_differences_of_log_odds():
    # 40 runs each: 10, 20 and 30 succeed.
    seen = of(np.repeat([0, 1, 2], 40), np.concatenate([np.arange(40) < count for count in (10, 20, 30)]))
    effects = AdditiveLogit(np.array([3]), ridge=1e-7).fit(seen).effects()
    odds = np.array([logit(0.25), 0.0, logit(0.75)])
    assert [one.logit for one in effects] == pytest.approx(odds - odds.mean(), abs=1e-4)
    # The variance of log odds is 1 / (n p (1 - p)); a contrast with the mean of three has 4/9 of its own, 1/9 of the others'.
    variance = 1.0 / (40 * np.array([0.1875, 0.25, 0.1875]))
    errors = np.sqrt(variance / 3 + variance.sum() / 9)
    assert [(one.high - one.low) / 2 / 1.96 for one in effects] == pytest.approx(errors, rel=1e-3)


def test_half_a_success_counts_as_one_success_and_one_failure_in_two_runs():
    columns = np.random.default_rng(2).integers(0, 3, (25, 2))
    halves = AdditiveLogit(np.array([3, 3])).fit(of(np.repeat(columns, 2, axis=0), np.full(50, 0.5)))
    whole = AdditiveLogit(np.array([3, 3])).fit(of(np.repeat(columns, 2, axis=0), np.tile([0.0, 1.0], 25)))
    assert halves.coef_ == pytest.approx(whole.coef_)
    assert halves.covariance_ == pytest.approx(whole.covariance_)


def test_a_stronger_ridge_holds_effects_closer_to_their_prior():
    seen = of(np.repeat([0, 1], 30), np.repeat([0.0, 1.0], 30))
    prior = np.array([[2.0, -2.0]])
    gaps = []
    for ridge in (1e-3, 1.0, 1e6):
        values = AdditiveLogit(np.array([2]), prior=prior, ridge=ridge).fit(seen).values(np.zeros(0))[0]
        gaps.append(values[1] - values[0])
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] == pytest.approx(-4.0, abs=1e-3)


def test_modes_and_kinds_have_effects_of_their_own():
    rng = np.random.default_rng(3)
    n = 4000
    columns, modes, kind = rng.integers(0, 2, (n, 2)), rng.integers(0, 2, n), rng.integers(0, 2, n)
    score = 1.0 * modes - 1.5 * kind + 0.8 * columns[:, 0] + np.where(kind == 1, 1.2, -1.2) * (columns[:, 1] - 0.5)
    seen = of(columns, rng.random(n) < logistic(score), modes=modes, kinds=np.eye(2)[kind])
    model = AdditiveLogit(np.array([2, 2]), modes=2, kinds=2).fit(seen)
    none, one, other = np.zeros(2), np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert model.base(1, none) - model.base(0, none) == pytest.approx(1.0, abs=0.3)
    first, second = np.diff(model.values(one))[:, 0], np.diff(model.values(other))[:, 0]
    assert first == pytest.approx([0.8, -1.2], abs=0.35)
    assert second == pytest.approx([0.8, 1.2], abs=0.35)
    # Half of one kind and half of the other is half way.
    assert np.diff(model.values((one + other) / 2))[:, 0] == pytest.approx((first + second) / 2)
    parts = model.base(1, other) + model.values(other)[[0, 1], [1, 0]].sum()
    assert model.logit(np.array([[1, 0]]), np.array([1]), other[None])[0] == pytest.approx([parts])


def test_a_model_without_kinds_does_not_look_at_those_of_the_runs():
    rng = np.random.default_rng(4)
    seen = drawn(rng, 60, kinds=3)
    plain = Observed(columns=seen.columns, modes=seen.modes, kinds=np.zeros((60, 0)), success=seen.success)
    assert AdditiveLogit(np.full(3, 3)).fit(seen).coef_.tolist() == AdditiveLogit(np.full(3, 3)).fit(plain).coef_.tolist()


def test_scores_of_a_role_tell_of_its_model_and_of_no_other():
    n = 200
    columns = np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (50, 1))
    scores = np.full((n, 2), np.nan)
    scores[:, 0] = np.where(columns[:, 0] == 1, 0.9, 0.1)
    coins = Observed(columns=columns, modes=np.zeros(n, int), kinds=np.zeros((n, 0)), success=np.full(n, 0.5), scores=scores)
    values = AdditiveLogit(np.array([2, 2])).fit(coins).values(np.zeros(0))
    assert values[0, 1] - values[0, 0] > 1.0
    assert values[1, 1] - values[1, 0] == pytest.approx(0.0, abs=1e-6)
    silent = Observed(
        columns=columns, modes=coins.modes, kinds=coins.kinds, success=coins.success, scores=np.full((n, 2), np.nan)
    )
    assert AdditiveLogit(np.array([2, 2])).fit(silent).values(np.zeros(0)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1])
def test_a_success_that_is_none_is_refused(bad):
    with pytest.raises(DataError, match="leave such runs out"):
        AdditiveLogit(np.array([2])).fit(of([0, 1], [1.0, bad]))


def test_asked_before_it_is_fitted_it_says_so():
    model = AdditiveLogit(np.array([2]))
    for ask in (model.effects, model.aliased, model.interaction, lambda: model.enough, lambda: model.runs):
        with pytest.raises(NotFittedError, match="call fit"):
            ask()
    with pytest.raises(NotFittedError):
        model.draw(np.random.default_rng(0))


# --- what is known, and how surely ---


def test_intervals_hold_what_they_promise_in_worlds_drawn_from_the_prior():
    held, chances = [], []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        theta = rng.normal(size=(2, 3))
        columns = rng.integers(0, 3, (150, 2))
        seen = of(columns, rng.random(150) < logistic(-0.3 + theta[[0, 1], columns].sum(axis=1)))
        model = AdditiveLogit(np.array([3, 3])).fit(seen)
        for one in model.effects():
            truth = theta[one.role, one.column] - theta[one.role].mean()
            held.append(one.low <= truth <= one.high)
        _, low, high = model.interval(np.array([0, 2]), 0, np.zeros(0))
        chances.append(low <= logistic(-0.3 + theta[0, 0] + theta[1, 2]) <= high)
    # 720 effects, 120 chances: three standard errors of a share of .95 are .024 and .06.
    assert 0.925 <= np.mean(held) <= 0.975
    assert np.mean(chances) >= 0.89


def test_draws_have_the_mean_and_the_covariance_of_what_is_known():
    model = AdditiveLogit(np.array([3, 3])).fit(drawn(np.random.default_rng(6), 80, roles=2))
    rng = np.random.default_rng(7)
    draws = np.stack([model.draw(rng) for _ in range(20_000)])
    scale = np.sqrt(np.diag(model.covariance_))
    assert np.abs(draws.mean(axis=0) - model.coef_).max() < 0.03 * scale.max()
    assert np.abs(np.cov(draws.T) - model.covariance_).max() < 0.04 * scale.max() ** 2
    values = model.values(np.zeros(0), draws[0])
    assert values.shape == (2, 3)
    assert values.tolist() != model.values(np.zeros(0)).tolist()


def test_ten_runs_for_each_effect_are_enough():
    # One intercept, 2 x 2 effects of models, 1 of the second mode, 1 of the second kind: 7.
    rng = np.random.default_rng(8)
    for n, enough in ((69, False), (70, True)):
        seen = drawn(rng, n, roles=2, modes=2, kinds=2)
        assert AdditiveLogit(np.array([3, 3]), modes=2, kinds=2).fit(seen).enough is enough


# --- what cannot be told ---


def verdicts(model):
    return {(one.role, one.column): one.verdict for one in model.effects()}


def test_a_role_that_never_varied_has_no_number():
    rng = np.random.default_rng(9)
    columns = rng.integers(0, 3, (300, 2))
    columns[:, 0] = 1
    model = AdditiveLogit(np.array([3, 3])).fit(of(columns, rng.random(300) < 0.5))
    assert model.aliased() == {0: "never varied"}
    for one in model.effects():
        known = one.role == 1
        assert (one.verdict == "ok") is known
        assert (one.logit is not None) is known
        assert (one.low is not None) is known
        assert (one.high is not None) is known


@pytest.mark.parametrize("other", ["role", "mode", "kind"])
def test_a_role_that_always_varied_with_something_else_has_no_number(other):
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
    model.fit(of(columns, rng.random(n) < 0.5, modes=modes, kinds=np.eye(3)[kind]))
    assert set(model.aliased()) == ({0, 1} if other == "role" else {0})
    assert all("together" in why for why in model.aliased().values())
    assert verdicts(model)[0, 0] == "not identifiable"
    assert verdicts(model)[2, 0] == "ok"


@pytest.mark.parametrize(("breaks", "told"), [(0, False), (1, False), (3, False), (9, False), (11, True)])
def test_a_few_runs_that_break_the_pattern_do_not_make_a_role_identifiable(breaks, told):
    rng = np.random.default_rng(11)
    second = np.tile([0, 1], 150)
    first = np.where(np.arange(300) < breaks, 1 - second, second)
    # The first role's model adds nothing.
    model = AdditiveLogit(np.array([2, 2])).fit(of(np.stack([first, second], axis=1), rng.random(300) < 0.05 + 0.9 * second))
    assert set(model.aliased()) == (set() if told else {0, 1})
    assert all(why.startswith("nearly always" if breaks else "always") for why in model.aliased().values())
    assert set(verdicts(model).values()) == {"ok" if told else "not identifiable"}
    assert all((one.logit is not None) is told for one in model.effects())


def test_a_contrast_of_two_of_three_models_may_hang_on_another_role_too():
    first = np.tile([0, 1, 2], 100)
    second = np.where(first == 2, np.arange(300) % 2, first)  # 0 and 1 as the first role has them, a coin beside its third
    model = AdditiveLogit(np.array([3, 2])).fit(of(np.stack([first, second], axis=1), np.tile([0.0, 1.0], 150)))
    assert model.aliased() == {}
    second[(first == 2) & (np.arange(300) > 8)] = 0  # but for one run
    model = AdditiveLogit(np.array([3, 2])).fit(of(np.stack([first, second], axis=1), np.tile([0.0, 1.0], 150)))
    assert set(model.aliased()) == {0, 1}


def test_a_model_seen_always_but_once_is_not_held_against_the_other():
    model = AdditiveLogit(np.array([2])).fit(of(np.arange(300) == 0, np.tile([0.0, 1.0], 150)))
    assert model.aliased() == {0: "hardly varied: only one of its models has 10 runs"}
    assert set(verdicts(model).values()) == {"not identifiable"}


def test_a_rare_model_has_no_say_in_what_the_others_add():
    columns, success = np.array([0, 1] * 50 + [2]), np.tile([1.0, 1.0, 0.0, 1.0], 26)[:101]
    first, second, rare = AdditiveLogit(np.array([3])).fit(of(columns, success)).effects()
    assert first.logit == pytest.approx(-second.logit)
    assert rare.verdict == "too few runs"


def test_models_with_few_runs_and_models_with_none_have_no_number():
    columns = np.repeat([0, 1, 2], [50, 50, 9])
    model = AdditiveLogit(np.array([4])).fit(of(columns, np.tile([0.0, 1.0], 55)[:109]))
    assert verdicts(model) == {(0, 0): "ok", (0, 1): "ok", (0, 2): "too few runs", (0, 3): "too few runs"}
    assert [one.runs for one in model.effects()] == [50, 50, 9, 0]
    assert verdicts(AdditiveLogit(np.array([4]), few=9).fit(of(columns, np.full(109, 0.5))))[0, 2] == "ok"
    assert model.runs_.tolist() == [[50, 50, 9, 0]]


def test_only_an_optional_role_has_a_column_for_being_left_out():
    rng = np.random.default_rng(12)
    columns = np.stack([rng.integers(0, 2, 200), rng.integers(0, 3, 200)], axis=1)
    effects = AdditiveLogit(np.array([2, 3])).fit(of(columns, rng.random(200) < 0.5)).effects()
    assert [(one.role, one.column) for one in effects] == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]


# --- whether effects add up ---


def world(seed, n, *, strength=0.0, fractions=False):
    rng = np.random.default_rng(seed)
    columns = rng.integers(0, 3, (n, 3))
    theta, pair = rng.normal(0.0, 0.7, (3, 3)), rng.normal(0.0, 1.0, (3, 3))
    chance = logistic(theta[[0, 1, 2], columns].sum(axis=1) + strength * pair[columns[:, 0], columns[:, 1]])
    noise = np.clip(chance + rng.normal(0.0, 0.1, n), 0.0, 1.0)
    return of(columns, noise if fractions else rng.random(n) < chance)


@pytest.mark.parametrize("fractions", [False, True])
def test_sums_are_seldom_doubted_where_they_hold(fractions):
    p = [AdditiveLogit(np.full(3, 3)).fit(world(seed, 300, fractions=fractions)).interaction() for seed in range(100)]
    # Three standard errors above .05 are .115. It may well be shy: the ridge leaves something to the residuals.
    assert np.mean(np.array(p) < 0.05) <= 0.12
    assert min(p) >= 1 / 401
    assert np.median(p) > 0.25


@pytest.mark.parametrize("fractions", [False, True])
def test_sums_are_doubted_where_models_get_on_with_each_other_or_do_not(fractions):
    n = 300 if fractions else 1500
    p = [AdditiveLogit(np.full(3, 3)).fit(world(seed, n, strength=1.0, fractions=fractions)).interaction() for seed in range(12)]
    assert np.mean(np.array(p) < 0.01) > 0.9


def test_two_models_that_only_work_together_give_sums_away():
    rng = np.random.default_rng(13)
    columns = rng.integers(0, 2, (200, 2))
    seen = of(columns, rng.random(200) < np.where(columns[:, 0] == columns[:, 1], 0.8, 0.2))
    model = AdditiveLogit(np.array([2, 2])).fit(seen)
    assert model.interaction() < 0.01
    assert model.interaction(seed=1) < 0.01


def test_one_role_or_no_run_leaves_nothing_to_doubt():
    assert AdditiveLogit(np.array([3])).fit(of([0, 1, 2], [0.0, 1.0, 0.0])).interaction() == 1.0
    assert AdditiveLogit(np.array([3, 3])).fit(of(np.zeros((0, 2)), [])).interaction() == 1.0


def test_taking_rows_keeps_what_belongs_together():
    seen = drawn(np.random.default_rng(14), 20, kinds=2, modes=2, scored=True)
    some = seen.take(np.array([3, 3, 7]))
    assert len(some) == 3
    for name in ("columns", "modes", "kinds", "success", "scores"):
        np.testing.assert_array_equal(getattr(some, name), getattr(seen, name)[[3, 3, 7]])
