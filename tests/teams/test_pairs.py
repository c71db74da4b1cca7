"""Effects of pairs: the search against brute force, and worlds in which a sum does and does not hold."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.errors import BudgetError, ConfigError
from agentroute.teams import _pairs
from agentroute.teams._additive import AdditiveLogit, Observed
from agentroute.teams._pairs import PairwiseLogit, surely_better


def runs(seed, n, *, roles=3, models=3, kinds=0, strength=0.0, modes=1):
    """Runs of a world with or without effects of pairs, and the logits of success."""
    rng = np.random.default_rng(seed)
    columns, kind = rng.integers(0, models, (n, roles)), rng.integers(0, max(kinds, 1), n)
    theta, pair = rng.normal(0.0, 0.6, (roles, models)), rng.normal(0.0, 1.0, (models, models))
    logit = theta[np.arange(roles), columns].sum(axis=1) + strength * pair[columns[:, 0], columns[:, 1]]
    return Observed(
        columns=columns,
        modes=rng.integers(0, modes, n),
        kinds=np.eye(kinds)[kind] if kinds else np.zeros((n, 0)),
        success=(rng.random(n) < 1.0 / (1.0 + np.exp(-logit))).astype(float),
    )


def brute(model, costs, allowed, budget, mode, kinds, rate):
    """The best value of all assignments, each asked for by itself; -inf where none keeps to the budget."""
    best = -math.inf
    for choice in itertools.product(*[np.flatnonzero(row) for row in allowed]):
        usd = math.fsum(costs[range(len(costs)), choice])
        if usd <= budget:
            logit, _ = model.logit(np.array([choice]), np.array([mode]), kinds[None])
            best = max(best, 1.0 / (1.0 + math.exp(-logit[0])) - rate * usd)
    return best


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0.0, 1.0), rate=st.sampled_from([0.0, 0.3]))
def test_the_best_assignment_is_that_of_brute_force(seed, share, rate):
    rng = np.random.default_rng(seed)
    model = PairwiseLogit(np.full(3, 3), modes=2, kinds=2).fit(runs(seed, 60, kinds=2, modes=2, strength=1.0))
    costs, allowed = rng.lognormal(size=(3, 3)), rng.random((3, 3)) < 0.8
    allowed[:, rng.integers(3)] = True
    floor, top = np.where(allowed, costs, np.inf).min(axis=1).sum(), np.where(allowed, costs, 0.0).max(axis=1).sum()
    budget, mode, kinds = floor + share * (top - floor) + 1e-9, int(rng.integers(2)), rng.dirichlet([1.0, 1.0])
    found = model.best(costs, allowed, budget, mode=mode, kinds=kinds, rate=rate)
    assert found.exact
    assert allowed[range(3), found.columns].all()
    assert found.cost == pytest.approx(costs[range(3), found.columns].sum())
    assert found.cost <= budget * (1 + 1e-12)
    assert found.logit == pytest.approx(model.logit(found.columns[None], np.array([mode]), kinds[None])[0][0])
    assert found.value == pytest.approx(brute(model, costs, allowed, budget * (1 + 1e-12), mode, kinds, rate))


def test_too_many_assignments_are_climbed_never_above_the_budget_and_seldom_below_the_best(monkeypatch):
    lost = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        model = PairwiseLogit(np.full(5, 4)).fit(runs(seed, 200, roles=5, models=4, strength=1.5))
        costs, allowed = rng.lognormal(size=(5, 4)), np.ones((5, 4), bool)
        budget = 1.6 * costs.min(axis=1).sum()
        best = model.best(costs, allowed, budget)
        monkeypatch.setattr(_pairs, "_COMBINATIONS", 100)
        found = model.best(costs, allowed, budget)
        monkeypatch.undo()
        assert best.exact
        assert not found.exact
        assert found.cost <= budget
        assert found.logit <= best.logit + 1e-9
        lost.append(best.logit - found.logit)
    assert np.mean(np.array(lost) < 1e-9) >= 0.9


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_a_climb_ends_where_no_change_of_two_roles_betters_it(monkeypatch, rate):
    monkeypatch.setattr(_pairs, "_COMBINATIONS", 0)
    monkeypatch.setattr(_pairs, "_STARTS", 1)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        model = PairwiseLogit(np.full(5, 4)).fit(runs(seed, 200, roles=5, models=4, strength=1.5))
        costs = rng.lognormal(size=(5, 4))
        budget = 1.6 * costs.min(axis=1).sum()
        end = model.best(costs, np.ones((5, 4), bool), budget, rate=rate)
        assert not end.exact
        for a, b in itertools.combinations(range(5), 2):
            near = np.tile(end.columns, (16, 1))
            near[:, a], near[:, b] = np.divmod(np.arange(16), 4)
            usd = costs[np.arange(5), near].sum(axis=1)
            logit, _ = model.logit(near, np.zeros(16, int), np.zeros((16, 0)))
            value = 1.0 / (1.0 + np.exp(-logit)) - rate * usd
            assert value[usd <= budget].max() <= end.value + 1e-9


def test_a_budget_that_nothing_keeps_to_names_the_cheapest():
    model = PairwiseLogit(np.array([2, 2])).fit(runs(0, 20, roles=2, models=2))
    costs = np.array([[1.0, 2.0], [3.0, 0.5]])
    with pytest.raises(BudgetError, match=r"\$1\.5") as caught:
        model.best(costs, np.ones((2, 2), bool), 1.4)
    assert caught.value.cheapest == pytest.approx(1.5)
    assert model.best(costs, np.ones((2, 2), bool), 1.5).columns.tolist() == [0, 1]
    with pytest.raises(ConfigError, match="row 1"):
        model.best(costs, np.array([[True, True], [False, False]]))


def test_of_equally_good_assignments_the_cheaper_is_taken():
    model = PairwiseLogit(np.array([2, 2])).fit(runs(0, 0, roles=2, models=2))  # no runs: all are worth the same
    assert model.best(np.array([[2.0, 1.0], [1.0, 1.0]]), np.ones((2, 2), bool)).columns.tolist() == [1, 0]


def test_drawn_parameters_can_decide():
    model = PairwiseLogit(np.full(3, 3)).fit(runs(1, 60, strength=1.0))
    costs, allowed = np.ones((3, 3)), np.ones((3, 3), bool)
    rng = np.random.default_rng(0)
    draws = [model.draw(rng) for _ in range(30)]
    found = {tuple(model.best(costs, allowed, coef=coef).columns.tolist()) for coef in draws}
    assert len(found) > 1
    one = model.best(costs, allowed, coef=draws[0])
    pairs = model.pairs(draws[0])[range(3), one.columns[[0, 0, 1]], one.columns[[1, 2, 2]]].sum()
    assert one.logit == pytest.approx(
        model.base(0, np.zeros(0), draws[0]) + model.values(np.zeros(0), draws[0])[range(3), one.columns].sum() + pairs
    )


def test_pairs_that_are_held_at_nothing_leave_the_additive_model():
    seen = runs(2, 150, kinds=2, modes=2, strength=1.0)
    pairs = PairwiseLogit(np.full(3, 3), modes=2, kinds=2, pair_ridge=1e12).fit(seen)
    plain = AdditiveLogit(np.full(3, 3), modes=2, kinds=2).fit(seen)
    assert pairs.coef_[: plain.size] == pytest.approx(plain.coef_, abs=1e-6)
    assert np.abs(pairs.pairs()).max() < 1e-6


def test_what_two_models_do_together_is_found_in_their_own_place():
    rng = np.random.default_rng(3)
    columns = rng.integers(0, 2, (2000, 3))
    together = (columns[:, 0] == 1) & (columns[:, 2] == 0)
    seen = Observed(columns=columns, modes=np.zeros(2000, int), kinds=np.zeros((2000, 0)), success=np.where(together, 0.9, 0.3))
    pairs = PairwiseLogit(np.full(3, 2), pair_ridge=0.1).fit(seen).pairs()  # of roles (0, 1), (0, 2), (1, 2)
    twist = pairs[:, 1, 0] - pairs[:, 0, 0] - pairs[:, 1, 1] + pairs[:, 0, 1]
    assert twist[1] > 1.5
    assert np.abs(twist[[0, 2]]).max() < 0.2


def test_the_better_model_is_told_out_of_sample():
    def pairs():
        return PairwiseLogit(np.full(3, 3))

    def plain():
        return AdditiveLogit(np.full(3, 3), kinds=2)

    assert surely_better(pairs, plain, runs(1, 900, kinds=2, strength=1.5))
    assert not surely_better(plain, pairs, runs(1, 900, kinds=2, strength=1.5))
    assert not surely_better(pairs, plain, runs(1, 9, kinds=2, strength=1.5))
    assert not any(surely_better(pairs, plain, runs(seed, 300, kinds=2)) for seed in range(10))
    assert not surely_better(plain, plain, runs(0, 100, kinds=2))
