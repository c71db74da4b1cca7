"""The additive model against closed forms and plain optimisation, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentroute.errors import ConfigError, DataError, NotFittedError
from agentroute.teams._additive import AdditiveLogit, Observed
from agentroute.teams._newton import newton
from agentroute.teams._pairs import PairwiseLogit


def logit(chance):
    return math.log(chance / (1.0 - chance))


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
def test_no_parameter_could_be_better(seed, n, modes, kinds, scored, fractions, observed):
    rng = np.random.default_rng(seed)
    seen = observed.drawn(rng, n, modes=modes, kinds=kinds, scored=scored, fractions=fractions)
    model = AdditiveLogit(np.full(3, 3), modes=modes, kinds=kinds, prior=rng.normal(size=(3, 3)), ridge=0.7).fit(seen)
    assert np.abs(slope(model, seen, model.coef_)).max() < 1e-4


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_logs_that_all_ended_alike_have_an_optimum_too(end, observed):
    rng = np.random.default_rng(0)
    seen = observed.of(rng.integers(0, 3, (2000, 2)), np.full(2000, end))
    model = AdditiveLogit(np.array([3, 3])).fit(seen)
    assert np.abs(slope(model, seen, model.coef_)).max() < 1e-3
    chance, low, high = model.interval(np.array([0, 0]), 0, np.zeros(0))
    assert abs(chance - end) < 0.01
    assert low < chance < high


def test_the_covariance_is_the_inverse_curvature(observed):
    seen = observed.drawn(np.random.default_rng(1), 40, roles=2, kinds=1, modes=2)
    model = AdditiveLogit(np.array([3, 3]), modes=2, kinds=1).fit(seen)
    step, coef = 1e-3, model.coef_
    curvature = np.array(
        [(slope(model, seen, coef + step * e) - slope(model, seen, coef - step * e)) / (2 * step) for e in np.eye(len(coef))]
    )
    assert np.linalg.inv(-curvature) == pytest.approx(model.covariance_, abs=1e-3)


def test_without_runs_it_knows_the_prior(observed):
    prior = np.array([[0.5, -0.5], [1.0, 0.0]])
    model = AdditiveLogit(np.array([2, 2]), prior=prior, ridge=4.0).fit(observed.of(np.zeros((0, 2)), []))
    assert model.values(np.zeros(0)) == pytest.approx(prior)
    assert model.runs == 0
    score, error = model.logit(np.array([[0, 1]]), np.array([0]), np.zeros((1, 0)))
    assert score == pytest.approx([0.5])
    # intercept 1 / .01, mode and two models 1 / 4 each
    assert error == pytest.approx([math.sqrt(100.0 + 0.75)])


def test_with_next_to_no_ridge_effects_are_differences_of_log_odds(observed):
    # 40 runs each: 10, 20 and 30 succeed.
    seen = observed.of(np.repeat([0, 1, 2], 40), np.concatenate([np.arange(40) < count for count in (10, 20, 30)]))
    effects = AdditiveLogit(np.array([3]), ridge=1e-6).fit(seen).effects()
    odds = np.array([logit(0.25), 0.0, logit(0.75)])
    assert [one.logit for one in effects] == pytest.approx(odds - odds.mean(), abs=1e-4)
    # The variance of log odds is 1 / (n p (1 - p)); a contrast with the mean of three has 4/9 of its own, 1/9 of the others'.
    variance = 1.0 / (40 * np.array([0.1875, 0.25, 0.1875]))
    errors = np.sqrt(variance / 3 + variance.sum() / 9)
    assert [(one.high - one.low) / 2 / 1.96 for one in effects] == pytest.approx(errors, rel=1e-3)


def test_half_a_success_counts_as_one_success_and_one_failure_in_two_runs(observed):
    columns = np.random.default_rng(2).integers(0, 3, (25, 2))
    halves = AdditiveLogit(np.array([3, 3])).fit(observed.of(np.repeat(columns, 2, axis=0), np.full(50, 0.5)))
    whole = AdditiveLogit(np.array([3, 3])).fit(observed.of(np.repeat(columns, 2, axis=0), np.tile([0.0, 1.0], 25)))
    assert halves.coef_ == pytest.approx(whole.coef_)
    assert halves.covariance_ == pytest.approx(whole.covariance_)


def test_a_stronger_ridge_holds_effects_closer_to_their_prior(observed):
    seen = observed.of(np.repeat([0, 1], 30), np.repeat([0.0, 1.0], 30))
    prior = np.array([[2.0, -2.0]])
    gaps = []
    for ridge in (1e-3, 1.0, 1e6):
        values = AdditiveLogit(np.array([2]), prior=prior, ridge=ridge).fit(seen).values(np.zeros(0))[0]
        gaps.append(values[1] - values[0])
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] == pytest.approx(-4.0, abs=1e-3)


def test_modes_and_kinds_have_effects_of_their_own(observed):
    rng = np.random.default_rng(3)
    n = 4000
    columns, modes, kind = rng.integers(0, 2, (n, 2)), rng.integers(0, 2, n), rng.integers(0, 2, n)
    score = 1.0 * modes - 1.5 * kind + 0.8 * columns[:, 0] + np.where(kind == 1, 1.2, -1.2) * (columns[:, 1] - 0.5)
    seen = observed.of(columns, rng.random(n) < 1.0 / (1.0 + np.exp(-score)), modes=modes, kinds=np.eye(2)[kind])
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


def test_a_model_without_kinds_does_not_look_at_those_of_the_runs(observed):
    rng = np.random.default_rng(4)
    seen = observed.drawn(rng, 60, kinds=3)
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
def test_a_success_that_is_none_is_refused(bad, observed):
    with pytest.raises(DataError, match="leave such runs out"):
        AdditiveLogit(np.array([2])).fit(observed.of([0, 1], [1.0, bad]))


def test_asked_before_it_is_fitted_it_says_so():
    model = AdditiveLogit(np.array([2]))
    for ask in (model.effects, model.aliased, model.interaction, lambda: model.enough, lambda: model.runs):
        with pytest.raises(NotFittedError, match="call fit"):
            ask()
    with pytest.raises(NotFittedError):
        model.draw(np.random.default_rng(0))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"levels": np.zeros(0, int)}, "one column or more"),
        ({"levels": np.array([2, 0])}, "one column or more"),
        ({"modes": 0}, "modes=0"),
        ({"kinds": -1}, "kinds=-1"),
        ({"few": 0}, "few=0"),
        ({"ridge": 0.0}, "ridge=0.0"),
        ({"ridge": math.nan}, "ridge=nan"),
        ({"kind_ridge": math.inf}, "kind_ridge=inf"),
        ({"prior": np.zeros((3, 2))}, "2 roles at least 2 columns"),
        ({"prior": np.zeros((2, 1))}, "2 roles at least 2 columns"),
        ({"prior": np.zeros(2)}, "2 roles at least 2 columns"),
        ({"prior": np.full((2, 2), np.nan)}, "finite"),
    ],
)
def test_what_no_model_could_be_made_of_is_refused(options, told):
    with pytest.raises(ConfigError, match=told):
        AdditiveLogit(**{"levels": np.array([2, 2]), **options})


@pytest.mark.parametrize("options", [{"pair_ridge": 0.0}, {"pair_ridge": math.nan}, {"ridge": -1.0}, {"kinds": -1}])
def test_what_no_model_of_pairs_could_be_made_of_is_refused_too(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        PairwiseLogit(np.array([2, 2]), **options)


def test_numbers_that_no_step_can_be_told_of_are_refused():
    design = np.array([[1.0], [math.inf]])
    with np.errstate(invalid="ignore"), pytest.raises(DataError, match="give a ridge near 1"):
        newton(design, np.array([0.0, 1.0]), np.ones(1), np.zeros(1))
    with pytest.raises(DataError, match="give a ridge near 1"):
        newton(np.ones((4, 2)), np.array([0.0, 1.0, 1.0, 1.0]), np.zeros(2), np.zeros(2))


def test_it_settles_wherever_it_starts():
    rng = np.random.default_rng(5)
    design, target = rng.normal(size=(50, 4)), rng.random(50)
    plain, _ = newton(design, target, np.ones(4), np.zeros(4))
    for far in (-30.0, 1e-3, 30.0):
        found, _ = newton(design, target, np.ones(4), np.zeros(4), start=np.full(4, far))
        assert found == pytest.approx(plain, abs=1e-6)
