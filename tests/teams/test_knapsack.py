"""The multiple-choice knapsack: brute force, bounds of the rounding, ties, and what cannot be had."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.errors import BudgetError, ConfigError
from agentroute.teams import _knapsack
from agentroute.teams._knapsack import cheapest, solve


def instance(rng, roles, models, *, rising=False):
    """Random values and costs, some not allowed, and a budget somewhere between the cheapest and the dearest."""
    values = rng.standard_normal((roles, models))
    costs = rng.lognormal(size=(roles, models)) * 1e-3
    if rising:  # no column is beaten by another
        values, costs = np.sort(values, axis=1), np.sort(costs, axis=1)
    allowed = rng.random((roles, models)) < 0.9
    allowed[:, rng.integers(models)] = True
    floor = np.where(allowed, costs, np.inf).min(axis=1).sum()
    top = np.where(allowed, costs, 0.0).max(axis=1).sum()
    return values, costs, allowed, floor + (top - floor) * rng.uniform(-0.05, 1.05)


def brute(values, costs, allowed, budget):
    """The best value of all combinations; -inf where none keeps to the budget."""
    rows = range(len(values))
    best = -math.inf
    for choice in itertools.product(*[np.flatnonzero(flags) for flags in allowed]):
        if math.fsum(costs[rows, choice]) <= budget * (1.0 + 1e-12):
            best = max(best, math.fsum(values[rows, choice]))
    return best


def check(solution, values, costs, allowed, budget):
    rows = np.arange(len(values))
    assert allowed[rows, solution.choice].all()
    assert solution.value == pytest.approx(values[rows, solution.choice].sum())
    assert solution.cost == pytest.approx(costs[rows, solution.choice].sum())
    assert solution.cost <= budget
    assert costs[rows, solution.choice].sum() <= budget * (1.0 + 1e-12)


def test_a_thousand_random_instances_are_solved_as_by_brute_force():
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(1000):
        values, costs, allowed, budget = instance(rng, int(rng.integers(1, 6)), int(rng.integers(1, 6)), rising=number % 2 == 0)
        best = brute(values, costs, allowed, budget)
        if best == -math.inf:
            refused += 1
            with pytest.raises(BudgetError):
                solve(values, costs, allowed, budget)
            continue
        found = solve(values, costs, allowed, budget)
        check(found, values, costs, allowed, budget)
        assert found.exact
        assert found.value == pytest.approx(best, abs=1e-9)
    assert 10 < refused < 200


@pytest.fixture
def binned(monkeypatch):
    """Nothing but dynamic programming, as if there were too many combinations."""
    monkeypatch.setattr(_knapsack, "_COMBINATIONS", 0)


@pytest.mark.usefixtures("binned")
def test_rounded_costs_keep_to_the_budget_and_miss_little_of_it():
    rng = np.random.default_rng(1)
    rounded = 0
    for number in range(1000):
        roles = int(rng.integers(1, 6))
        values, costs, allowed, budget = instance(rng, roles, int(rng.integers(1, 6)), rising=number % 2 == 0)
        floor = np.where(allowed, costs, np.inf).min(axis=1).sum()
        if floor > budget:
            continue
        found = solve(values, costs, allowed, budget)
        check(found, values, costs, allowed, budget)
        rounded += not found.exact
        # Whatever would keep to a budget that is smaller by one bin a role, rounded costs let through.
        sure = brute(values, costs, allowed, budget - (budget - floor) * roles / _knapsack._BINS)
        assert found.value >= sure - 1e-9
        assert found.value <= brute(values, costs, allowed, budget) + 1e-9
    assert rounded > 300


def test_twelve_roles_and_ten_models():
    rng = np.random.default_rng(2)
    for _ in range(20):
        values, costs, allowed, budget = instance(rng, 12, 10, rising=True)
        if np.where(allowed, costs, np.inf).min(axis=1).sum() > budget:
            continue
        found = solve(values, costs, allowed, budget)
        check(found, values, costs, allowed, budget)
        # No single role could be bettered with what is left.
        left = budget - found.cost
        step = (budget - np.where(allowed, costs, np.inf).min(axis=1).sum()) * 12 / _knapsack._BINS
        rows = np.arange(12)
        more = costs - costs[rows, found.choice][:, None]
        gain = np.where(allowed & (more <= left - step), values - values[rows, found.choice][:, None], 0.0)
        assert gain.max() <= 1e-12


def test_no_budget_takes_the_best_of_each_role_and_the_cheaper_of_equals():
    values = np.array([[1.0, 3.0, 3.0, 3.0], [2.0, 1.0, 0.0, 9.0]])
    costs = np.array([[1.0, 5.0, 4.0, 4.0], [0.0, 0.0, 0.0, 0.0]])
    allowed = np.array([[True] * 4, [True, True, True, False]])
    found = solve(values, costs, allowed)
    assert found.choice.tolist() == [2, 0]
    assert (found.value, found.cost, found.exact) == (5.0, 4.0, True)


def test_equals_go_to_the_cheaper_then_to_the_first_roles_cheaper_columns():
    values, allowed = np.array([[0.0, 1.0], [0.0, 1.0]]), np.ones((2, 2), bool)
    dear_first = solve(values, np.array([[1.0, 3.0], [1.0, 2.0]]), allowed, 4.5)
    assert dear_first.choice.tolist() == [0, 1]
    dear_last = solve(values, np.array([[1.0, 2.0], [1.0, 3.0]]), allowed, 4.5)
    assert dear_last.choice.tolist() == [1, 0]
    even = solve(values, np.array([[1.0, 3.0], [1.0, 3.0]]), allowed, 4.5)
    assert even.choice.tolist() == [0, 1]


def test_a_budget_that_is_the_sum_of_the_costs_is_kept():
    # 0.1 + 0.2 is a little more than 0.3 in floats.
    values, costs = np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([[0.0, 0.1], [0.0, 0.2]])
    found = solve(values, costs, np.ones((2, 2), bool), 0.3)
    assert found.choice.tolist() == [1, 1]
    assert found.cost <= 0.3


@pytest.mark.usefixtures("binned")
def test_rounding_leaves_a_whole_budget_usable_where_costs_are_round():
    values, costs = np.array([[0.0, 1.0]] * 3 + [[0.0, 0.5]]), np.array([[0.0, 0.1]] * 4)
    found = solve(values, costs, np.ones((4, 2), bool), 0.3)
    assert found.choice.tolist() == [1, 1, 1, 0]


def test_a_budget_of_nothing_buys_what_is_free():
    values, costs = np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([[0.0, 0.1], [0.0, 0.0]])
    assert solve(values, costs, np.ones((2, 2), bool), 0.0).choice.tolist() == [0, 1]


def test_too_small_a_budget_is_told_with_the_cheapest():
    values, costs = np.zeros((2, 2)), np.array([[0.02, 0.01], [0.03, 0.04]])
    with pytest.raises(
        BudgetError, match=r"the budget of \$0.03 is too small: the cheapest that is allowed costs \$0.04"
    ) as caught:
        solve(values, costs, np.ones((2, 2), bool), 0.03)
    assert caught.value.budget == 0.03
    assert caught.value.cheapest == pytest.approx(0.04)
    assert cheapest(costs, np.array([[True, True], [False, True]])).tolist() == [1, 1]


def test_what_is_not_allowed_may_be_unknown():
    values, costs = np.array([[np.nan, 1.0]]), np.array([[np.nan, 0.1]])
    assert solve(values, costs, np.array([[False, True]]), 1.0).choice.tolist() == [1]


@pytest.mark.parametrize(
    ("values", "costs", "allowed", "budget", "message"),
    [
        ([[1.0]], [[1.0, 2.0]], [[True]], 1.0, "one shape"),
        ([[1.0], [1.0]], [[1.0], [1.0]], [[True], [False]], 1.0, "row 1 may have no column"),
        ([[math.nan]], [[1.0]], [[True]], 1.0, "finite value"),
        ([[1.0]], [[-1.0]], [[True]], 1.0, "cost of 0 or more"),
        ([[1.0]], [[math.inf]], [[True]], 1.0, "finite cost"),
        ([[1.0]], [[1.0]], [[True]], math.nan, "budget=nan"),
    ],
)
def test_what_is_no_instance_is_refused(values, costs, allowed, budget, message):
    with pytest.raises(ConfigError, match=message):
        solve(np.array(values), np.array(costs), np.array(allowed), budget)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_more_money_never_buys_less(data):
    shape = (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)))
    cell = st.integers(0, 6)
    rows = st.lists(st.lists(cell, min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0])
    values, costs = np.array(data.draw(rows), float), np.array(data.draw(rows), float)
    allowed = np.ones(shape, bool)
    floor = int(costs.min(axis=1).sum())
    budgets = sorted(data.draw(st.lists(st.integers(floor, 30), min_size=2, max_size=4)))
    found = [solve(values, costs, allowed, float(budget)) for budget in budgets]
    assert all(before.value <= after.value for before, after in itertools.pairwise(found))
    for one, budget in zip(found, budgets, strict=True):
        # Whole numbers: of all that are worth the most, none is cheaper.
        combinations = list(itertools.product(range(shape[1]), repeat=shape[0]))
        worth = [(values[range(shape[0]), c].sum(), -costs[range(shape[0]), c].sum()) for c in combinations]
        assert (one.value, -one.cost) == max((v, c) for v, c in worth if -c <= budget)
