"""Several budgets at once: what each fit and each replay of its own would give."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.cascades import CascadeRouting, RationalThresholds, ThresholdCascade, replay, replay_budgets
from agentroute.errors import ConfigError, DataError

COST = np.array([1.0, 2.0, 4.0])


@dataclass(frozen=True)
class States:
    """Estimates that the model's own answer makes sharper."""

    before: np.ndarray
    after: np.ndarray
    cost: np.ndarray
    latency: None = None

    def quality(self, answered, rows):
        return np.where(answered >> np.arange(self.before.shape[1]) & 1, self.after[rows], self.before[rows])

    def factor(self, answered):
        return None


@dataclass(frozen=True)
class Log:
    states: States
    quality: np.ndarray
    cost: np.ndarray
    score_cost: np.ndarray


def log(seed, n=60, look=0.3):
    rng = np.random.default_rng(seed)
    truth = np.clip(np.array([0.5, 0.65, 0.8]) + 0.25 * rng.standard_normal((n, 3)), 0.02, 0.98)
    before = np.clip(truth + 0.2 * rng.standard_normal((n, 3)), 0.01, 0.99)
    cost = COST * rng.uniform(0.7, 1.4, (n, 3))
    states = States(before=before, after=truth, cost=np.tile(COST + look, (n, 1)))
    return Log(states=states, quality=(rng.random((n, 3)) < truth).astype(float), cost=cost, score_cost=np.full((n, 3), look))


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 1000),
    st.sampled_from([{}, {"ordered": True}, {"climb": False}, {"max_models": 2}, {"check_last": True}, {"refine": True}]),
)
def test_it_is_a_fit_and_a_replay_for_each_budget(seed, freedom):
    known, new = log(seed), log(seed + 1)
    options = {"samples": 32, "refine": False, "mix": False} | freedom
    budgets = [1.8, 2.5, 4.0, 12.0]
    found = replay_budgets(CascadeRouting(**options), known, new, budgets)
    for budget, got in zip(budgets, found, strict=True):
        policy = CascadeRouting(budget=budget, **options)
        policy.fit(known.states, known.quality, known.cost, score_cost=known.score_cost)
        said = replay(policy, new.states, new.quality, new.cost, score_cost=new.score_cost)
        np.testing.assert_array_equal(got.called, said.called)
        np.testing.assert_array_equal(got.answer, said.answer)
        np.testing.assert_allclose(got.cost, said.cost)


@pytest.mark.parametrize("kind", [ThresholdCascade, RationalThresholds])
def test_chains_too(kind):
    known, new = log(0), log(1)
    for budget, got in zip([1.5, 3.0, 9.0], replay_budgets(kind(longest=2), known, new, [1.5, 3.0, 9.0]), strict=True):
        policy = kind(longest=2, budget=budget).fit(known.states, known.quality, known.cost, score_cost=known.score_cost)
        said = replay(policy, new.states, new.quality, new.cost, score_cost=new.score_cost)
        np.testing.assert_array_equal(got.called, said.called)
        np.testing.assert_allclose(got.cost, said.cost)


def test_looks_are_charged_call_by_call():
    new = log(3, look=0.5)
    for policy, most in ((CascadeRouting(), 3), (CascadeRouting(max_models=2), 2), (CascadeRouting(climb=False), 1)):
        for got in replay_budgets(policy, log(2, look=0.5), new, [1.9, 3.0, 6.0]):
            looks = got.cost - np.where(got.called, new.cost, 0.0).sum(axis=1)
            np.testing.assert_allclose(looks, 0.5 * np.minimum(got.calls, most - 1), atol=1e-12)
    for got in replay_budgets(CascadeRouting(check_last=True), log(2, look=0.5), new, [3.0, 6.0]):
        np.testing.assert_allclose(got.cost, np.where(got.called, new.cost + 0.5, 0.0).sum(axis=1))


def test_more_money_buys_more_on_what_it_is_tuned_on():
    known = log(5, 200)
    points = [got.point for got in replay_budgets(CascadeRouting(refine=False), known, known, np.linspace(2.0, 7.0, 6))]
    assert all(one[0] <= other[0] + 1e-9 for one, other in pairwise(points))
    assert all(cost <= budget + 1e-9 for (cost, _), budget in zip(points, np.linspace(2.0, 7.0, 6), strict=True))


def test_a_budget_below_the_cheapest_way_is_as_much_as_that():
    known, new = log(0), log(1)
    for policy in (CascadeRouting(), ThresholdCascade()):
        least, none = replay_budgets(policy, known, new, [1e-9, 0.5])
        np.testing.assert_array_equal(least.called, none.called)
        assert (least.calls == 1).all()
    with pytest.raises(ConfigError, match="cannot be kept"):
        CascadeRouting(budget=0.5).fit(known.states, known.quality, known.cost)


def test_what_does_not_belong_together_is_refused():
    known = log(0)
    with pytest.raises(DataError, match="same queries and models"):
        replay_budgets(CascadeRouting(), known, Log(known.states, known.quality[:9], known.cost, known.score_cost), [3.0])
