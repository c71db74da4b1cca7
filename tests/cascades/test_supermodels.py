"""The value of sets of models: closed forms, brute force with other draws, exact submodularity."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.cascades._planner import CascadeRouting
from agentroute.cascades._supermodels import MOST, Options, SuperModels, fewest_beaten, normal_draws
from agentroute.errors import ConfigError

SETS = {m: SuperModels(normal_draws(m, 512, 0)) for m in (2, 3, 4, 5, 6, 10)}


def options(quality, cost, *, factor=None, answered=(), columns=None, **given):
    quality = np.atleast_2d(np.asarray(quality, float))
    cost = np.broadcast_to(np.asarray(cost, float), quality.shape)
    m = quality.shape[1]
    columns = [j for j in range(m) if j not in answered] if columns is None else columns
    return SETS[m].options(quality, cost, np.array(columns), answered=list(answered), factor=factor, **given)


def factor_of(rng, m, spread=(0.05, 0.4)):
    """A random covariance of full rank, as its lower root."""
    mixed = rng.standard_normal((m, m))
    covariance = mixed @ mixed.T
    sd = rng.uniform(*spread, m)
    scale = sd / np.sqrt(np.diag(covariance))
    return np.linalg.cholesky(covariance * np.outer(scale, scale) + 1e-10 * np.eye(m))


def test_draws_have_exact_moments_and_are_the_same_each_time():
    draws = normal_draws(5, 512, 3).astype(float)
    assert np.abs(draws.mean(axis=1)).max() < 1e-6
    assert np.abs(draws @ draws.T / 512 - np.eye(5)).max() < 1e-5
    assert (normal_draws(5, 512, 3) == normal_draws(5, 512, 3)).all()
    assert (normal_draws(5, 512, 4) != normal_draws(5, 512, 3)).any()
    assert normal_draws(40, 512, 0).shape == (40, 512)
    with pytest.raises(ConfigError, match="too few for 5 models: give 20"):
        normal_draws(5, 19, 0)


@pytest.mark.parametrize("correlation", [0.0, 0.5, -0.5, 0.9])
def test_best_of_two_is_the_closed_form(correlation):
    factor = 0.3 * np.linalg.cholesky(np.array([[1.0, correlation], [correlation, 1.0]]))
    worth = options([0.5, 0.5], 0.0, factor=factor).worth[0]
    # E[max] of two normals of equal mean = mean + sd sqrt((1 - correlation) / pi); .669 without correlation.
    assert worth[3] == pytest.approx(0.5 + 0.3 * math.sqrt((1.0 - correlation) / math.pi), abs=0.003)
    assert worth[1:3] == pytest.approx(0.5, abs=1e-6)
    assert worth[0] == -np.inf


def test_best_of_two_is_669():
    assert options([0.5, 0.5], 0.0, factor=0.3 * np.eye(2)).worth[0, 3] == pytest.approx(0.669, abs=0.003)


def test_an_answer_that_is_known_is_a_floor():
    # E[max(.5, N(.5, .3²))] = .5 + .3 / sqrt(2 pi).
    factor = np.diag([0.0, 0.3])
    found = options([0.5, 0.5], [1.0, 2.0], factor=factor, answered=[0])
    assert found.worth[0] == pytest.approx([0.5, 0.5 + 0.3 / math.sqrt(2.0 * math.pi)], abs=0.002)
    assert found.cost[0].tolist() == [0.0, 2.0]
    assert found.leads[1] == 1


def brute(quality, cost, factor, answered, rate, base):
    """The worth of every set that holds those that answered, by enumeration; {added models: worth}."""
    m = len(quality)
    drawn = quality[:, None] + (0.0 if factor is None else factor @ base[:m])
    open_ = [j for j in range(m) if j not in answered]
    found = {}
    for size in range(len(open_) + 1):
        for added in itertools.combinations(open_, size):
            members = [*answered, *added]
            if members:
                found[added] = drawn[members].max(axis=0).mean() - rate * sum(cost[j] for j in added)
    return found


def test_a_thousand_plans_are_those_of_brute_force():
    rng = np.random.default_rng(5)
    half = rng.standard_normal((6, 100_000)).astype(np.float32)
    base = np.hstack([half, -half])
    losses, errors = [], []
    for _ in range(1000):
        m = int(rng.integers(2, 7))
        quality, cost = rng.random(m), np.sort(rng.random(m))
        factor = None if rng.random() < 0.3 else factor_of(rng, m).astype(np.float32)
        answered = [j for j in range(m) if rng.random() < 0.3][: m - 1]
        rate = 10 ** rng.uniform(-2.5, -0.3)
        truth = brute(quality.astype(np.float32), cost, factor, answered, rate, base)
        policy = CascadeRouting(willingness_to_pay=1.0 / rate)
        policy._sets = SETS[m]
        chosen = policy.decide(quality, cost, answered=sum(1 << j for j in answered), factor=factor)
        found = options(quality, cost, factor=factor, answered=answered)
        at = int((found.worth - rate * found.cost).argmax())
        open_ = [j for j in range(m) if j not in answered]
        if factor is None:
            plan = () if at == 0 else (open_[at - 1],)
        else:
            plan = tuple(j for place, j in enumerate(open_) if at >> place & 1)
        assert chosen == (plan[0] if plan else None)
        losses.append(max(truth.values()) - truth[plan])
        errors.append(abs(float((found.worth - rate * found.cost)[0, at]) - truth[plan]))
    assert max(losses) <= 0.002
    assert np.mean(errors) < 0.001


def test_sampled_values_are_submodular_and_rise():
    rng = np.random.default_rng(2)
    for _ in range(20):
        worth = options(rng.random(5), 0.0, factor=factor_of(rng, 5)).worth[0]
        for small, large in itertools.product(range(1, 32), repeat=2):
            if small & large != small:
                continue
            assert worth[large] >= worth[small] - 1e-6
            for j in range(5):
                gain_small, gain_large = worth[small | 1 << j] - worth[small], worth[large | 1 << j] - worth[large]
                assert gain_large <= gain_small + 2e-6


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**31), rate=st.floats(0.0, 0.6), done=st.integers(0, 3), limit=st.integers(1, 10))
def test_leaving_out_what_cannot_be_best_changes_no_plan(seed, rate, done, limit):
    rng = np.random.default_rng(seed)
    quality, cost, answered = rng.random(10), np.sort(rng.random(10)), list(range(done))
    toll = 0.2 * rng.random((1, 10))
    # All ten may be called, so that the shorter way is taken; those that answered come again, at their price.
    given = {"factor": factor_of(rng, 10), "answered": answered, "columns": list(range(10)), "toll": toll, "most": limit}
    whole, short = options(quality, cost, **given), options(quality, cost, **given, rate=rate)
    values, fewer = (one.worth - rate * one.cost for one in (whole, short))
    assert fewer.max() == pytest.approx(values.max(), abs=2e-6)
    if np.sort(values[0])[-2] < values.max() - 1e-5:
        assert short.leads[fewer.argmax()] == whole.leads[values.argmax()] or fewer.argmax() == values.argmax() == 0
    assert short.worth.size <= whole.worth.size


def test_most_sets_are_left_out_where_models_are_dear():
    rng = np.random.default_rng(1)
    quality, cost = rng.random(10), np.sort(rng.random(10))
    left = options(quality, cost, factor=factor_of(rng, 10, (0.05, 0.1)), rate=1.0)
    assert left.worth.size < 64


def test_the_envelope_is_the_best_option_at_every_rate():
    rng = np.random.default_rng(8)
    for factor, more in itertools.product((None, factor_of(rng, 4)), ({}, {"ordered": True}, {"alone": True}, {"most": 2})):
        found = options(rng.random((50, 4)), rng.random((50, 4)), factor=factor, **more)
        rates, best = found.envelope()
        assert (np.diff(rates, axis=1) <= 1e-9).all()
        for rate in 10.0 ** np.linspace(-3, 2, 40):
            at = best[np.arange(50), (rate < rates).sum(axis=1)]
            values = found.worth - rate * found.cost
            assert np.allclose(values[np.arange(50), at], values.max(axis=1), atol=1e-9)


def test_an_envelope_by_hand():
    found = Options(
        worth=np.array([[-np.inf, 0.5, 0.7, 0.72]]), cost=np.array([[0.0, 1.0, 2.0, 3.0]]), leads=np.array([0, 0, 1, 0])
    )
    rates, best = found.envelope()
    assert rates[0] == pytest.approx([0.2, 0.02])
    assert best.tolist() == [[1, 2, 3]]


def test_without_uncertainty_one_model_is_enough():
    rng = np.random.default_rng(0)
    for answered in ([], [2]):
        quality, cost = rng.random((30, 4)), rng.random((30, 4))
        none = options(quality, cost, answered=answered)
        tiny = options(quality, cost, answered=answered, factor=1e-9 * np.eye(4))
        for rate in (0.0, 0.1, 1.0):
            assert np.allclose(
                (none.worth - rate * none.cost).max(axis=1), (tiny.worth - rate * tiny.cost).max(axis=1), atol=1e-6
            )


def test_a_model_of_unknown_quality_takes_no_part():
    factor = 0.2 * np.eye(3)
    with_it = options([0.5, np.nan, 0.6], 0.0, factor=factor).worth[0]
    assert with_it[1] == pytest.approx(0.5, abs=1e-6)
    assert with_it[2] == -np.inf
    assert with_it[7] == with_it[5] == pytest.approx(0.55 + 0.1128, abs=0.06)
    answered = options([0.5, np.nan, 0.6], 0.0, factor=factor, answered=[1]).worth[0]
    assert answered[0] == -np.inf
    assert answered[3] == with_it[5]


def test_the_most_promising_of_many_are_beaten_by_the_fewest():
    quality, cost = np.array([[0.5, 0.4, 0.9, 0.3]]), np.array([[1.0, 2.0, 3.0, 4.0]])
    # The second is beaten by the first, the fourth by all.
    assert fewest_beaten(quality, cost, 2).tolist() == [[0, 2]]
    assert fewest_beaten(quality, cost, 3).tolist() == [[0, 1, 2]]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), rate=st.floats(0.0, 5.0))
def test_the_best_single_model_is_among_the_most_promising(seed, rate):
    rng = np.random.default_rng(seed)
    quality, cost = rng.random((5, 30)), rng.random((5, 30))
    best = (quality - rate * cost).argmax(axis=1)
    kept = fewest_beaten(quality, cost, MOST)
    assert all(one in row for one, row in zip(best, kept, strict=True))


def test_a_limit_of_models_keeps_larger_sets_out():
    factor = 0.3 * np.eye(3)
    found = options([0.5, 0.5, 0.5], 0.0, factor=factor, most=2).worth[0]
    assert found[7] == -np.inf
    assert np.isfinite(found[[1, 2, 3, 4, 5, 6]]).all()
    prefixes = options([0.5, 0.5, 0.5], 0.0, factor=factor, most=2, ordered=True)
    assert np.isfinite(prefixes.worth[0]).tolist() == [False, True, True, False]
