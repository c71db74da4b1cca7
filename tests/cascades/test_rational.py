import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.cascades._rational import Confidence, RationalThresholds, gumbel, gumbel_theta
from agentroute.cascades._threshold import ThresholdCascade
from agentroute.errors import ConfigError


class Columns:
    """Estimates that are the same in every state: each model's calibrated confidence."""

    latency = None

    def __init__(self, confidence, cost):
        self.confidence, self.cost = confidence, np.broadcast_to(cost, confidence.shape)

    def quality(self, answered, rows, /):
        return self.confidence[rows]


def world(n, seed=0, spread=1.5, levels=(0.0, 1.0, 2.0)):
    """Calibrated confidences with a shared difficulty, and what came of them."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 1))
    logits = np.asarray(levels) + spread * (0.7 * shared + 0.7 * rng.standard_normal((n, len(levels))))
    confidence = 1 / (1 + np.exp(-logits))
    return confidence, (rng.random(confidence.shape) < confidence).astype(float)


def test_independent_uniform_confidences_have_the_integrals_of_the_textbook():
    rng = np.random.default_rng(0)
    confidence = rng.random((4000, 3))
    states = Columns(confidence, [1.0, 2.0, 4.0])
    policy = RationalThresholds().fit(states, np.full((4000, 3), np.nan), np.full((4000, 3), np.nan))
    assert policy.frontier_[0].cost == 1.0
    assert policy.frontier_[0].quality == pytest.approx(0.5, abs=0.01)
    for one in policy.frontier_:
        t = [*one.thresholds, 0.0]
        # E = ∫_t φ dφ + t₁ (∫_t₂ φ dφ + t₂ ½), and so on; costs likewise.
        quality, cost, on = 0.0, 0.0, 1.0
        for column, cut in zip(one.columns, t, strict=True):
            quality += on * (1 - cut**2) / 2
            cost += on * [1, 2, 4][column]
            on *= cut
        assert one.quality == pytest.approx(quality, abs=0.015)
        assert one.cost == pytest.approx(cost, abs=0.05)


def test_what_it_expects_is_what_happens():
    confidence, right = world(4000)
    states = Columns(confidence, [1.0, 3.0, 9.0])
    policy = RationalThresholds().fit(states, right, states.cost)
    fresh, came = world(20000, seed=1)
    new = Columns(fresh, [1.0, 3.0, 9.0])
    for one in policy.frontier_[:: max(1, len(policy.frontier_) // 12)]:
        called, answer = policy.using(one).run(new)
        assert came[np.arange(20000), answer].mean() == pytest.approx(one.quality, abs=0.02)
        assert (called * new.cost).sum(axis=1).mean() == pytest.approx(one.cost, rel=0.1)


def test_with_few_queries_it_beats_the_grid():
    budget, wins = 4.0, []
    fresh, came = world(20000, seed=999)
    new = Columns(fresh, [1.0, 3.0, 9.0])
    for seed in range(30):
        confidence, right = world(15, seed)
        states = Columns(confidence, [1.0, 3.0, 9.0])
        worth = []
        for policy in (RationalThresholds(budget=budget), ThresholdCascade(budget=budget)):
            called, answer = policy.fit(states, right, states.cost).run(new)
            spent = (called * new.cost).sum(axis=1).mean()
            worth.append(came[np.arange(20000), answer].mean() - 0.02 * spent)
        wins.append(worth[0] - worth[1])
    assert np.mean(wins) > 0
    assert np.mean(wins) > 2 * np.std(wins) / math.sqrt(30)


@settings(max_examples=60, deadline=None)
@given(
    a=st.floats(0.3, 8), b=st.floats(0.3, 8), n=st.integers(1, 200), lumps=st.tuples(st.floats(0, 0.4), st.floats(0, 0.4)),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_distributions_are_those_that_were_seen(a, b, n, lumps, seed):
    rng = np.random.default_rng(seed)
    seen = 0.1 + 0.8 * rng.beta(a, b, n)
    place = rng.random(n)
    seen[place < lumps[0]], seen[place > 1 - lumps[1]] = 0.05, 0.97
    one = Confidence.of(seen)
    assert one.chances.sum() == pytest.approx(1)
    assert (one.chances >= 0).all()
    assert all(x <= y for x, y in pairwise(one.values))
    assert all(x <= y for x, y in pairwise(one.cuts))
    assert one.below[0] == 0
    assert one.values @ one.chances == pytest.approx(seen.mean(), abs=0.12 if n < 10 else 0.05)
    assert one.above()[0] == pytest.approx(one.values @ one.chances)
    if n >= 100:
        empirical = (seen[:, None] < one.cuts).mean(axis=0)
        # Two moments tell little of a density that is infinite at an end: there a sample of a hundred may be .23 off.
        assert np.abs(empirical - one.below).max() < (0.2 if min(a, b) >= 0.5 else 0.3)
        # What is below a cut is exactly what lies below it: lumps belong to their side.
        np.testing.assert_allclose(one.below, [(one.chances * (one.values < cut)).sum() for cut in one.cuts], atol=1e-12)


def test_constant_and_binary_confidences():
    assert Confidence.of(np.full(9, 0.3)).below.tolist() == [0.0]
    two = Confidence.of(np.repeat([0.2, 0.8], [30, 10]))
    assert two.chances[0] == pytest.approx(0.75)
    assert two.chances[-1] == pytest.approx(0.25)
    states = Columns(np.tile([[0.2, 0.9], [0.8, 0.9]], (20, 1)), [1.0, 3.0])
    policy = RationalThresholds(budget=3.0).fit(states, np.ones((40, 2)), states.cost)
    # Half are sure: taking those and asking the dear model for the others is worth .85 at a cost of 2.5.
    chain = next(one for one in policy.frontier_ if len(one.columns) == 2)
    assert 0.2 < chain.thresholds[0] <= 0.8
    assert chain.quality == pytest.approx(0.85, abs=0.05)  # dependence of constants is none
    assert chain.cost == pytest.approx(2.5)


def test_gumbels_copula():
    u, v = np.linspace(0, 1, 11)[:, None], np.linspace(0, 1, 11)
    np.testing.assert_allclose(gumbel(u, v, 1.0), u * v, atol=1e-12)
    np.testing.assert_allclose(gumbel(u, v, 1e5), np.minimum(u, v), atol=1e-3)
    table = gumbel(u, v, 2.5)
    np.testing.assert_allclose(table[:, -1], u[:, 0])
    np.testing.assert_allclose(table[-1], v)
    np.testing.assert_allclose(table[0], 0)
    np.testing.assert_allclose(table, table.T)
    assert (np.diff(np.diff(table, axis=0), axis=1) > -1e-12).all()  # chances of rectangles
    # Kendall's tau of the copula is 1 - 1/θ = 4 E[C(U, V)] - 1.
    grid = np.linspace(0, 1, 401)
    copula = gumbel(grid[:, None], grid, 2.5)
    mass = np.diff(np.diff(copula, axis=0), axis=1)
    middle = (copula[1:, 1:] + copula[:-1, 1:] + copula[1:, :-1] + copula[:-1, :-1]) / 4
    assert 4 * (mass * middle).sum() - 1 == pytest.approx(1 - 1 / 2.5, abs=0.01)


def test_dependence_from_ranks():
    x = np.arange(90.0)
    assert gumbel_theta(x, x**3) == pytest.approx(1 / (1 - 0.9))  # drawn from 1 by ten pairs
    assert gumbel_theta(x, -x) == 1.0
    assert gumbel_theta(x, np.zeros(90)) == 1.0
    rng = np.random.default_rng(0)
    normal = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], 500)
    tau = 2 / math.pi * math.asin(0.7)
    assert 1 - 1 / gumbel_theta(*normal.T) == pytest.approx(tau * 500 / 510, abs=0.05)


def test_it_is_a_policy_like_the_other():
    confidence, right = world(40)
    states = Columns(confidence, [1.0, 3.0, 9.0])
    policy = RationalThresholds(budget=5.0, longest=2).fit(states, right, states.cost)
    assert policy.chain_.cost <= 5.0
    assert policy.calls <= 2
    config, arrays = policy.state()
    again = RationalThresholds.from_state(json.loads(json.dumps(config)), arrays)
    assert again.chain_ == policy.chain_
    assert repr(again) == "RationalThresholds(budget=5.0, willingness_to_pay=inf, longest=2)"
    with pytest.raises(ConfigError, match="up to 3"):
        RationalThresholds(longest=4)
