"""Weighing assignments one by one: against brute force, with prices that no matrix tells, and climbing where they are many."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.errors import BudgetError, ConfigError
from agentroute.teams import _searching
from agentroute.teams._costs import CostModel
from agentroute.teams._searching import matrix_price, search
from agentroute.teams._values import Mode, Role, Team
from agentroute.types import ModelCard, Price


def chance(logit):
    return 1.0 / (1.0 + math.exp(-logit))


def logit_of(choice, values, pairs, base):
    """Of one assignment, term by term."""
    found = base + sum(values[role, column] for role, column in enumerate(choice))
    for place, (a, b) in enumerate(itertools.combinations(range(len(choice)), 2)):
        found += 0.0 if pairs is None else pairs[place, choice[a], choice[b]]
    return found


def brute(values, pairs, base, allowed, price, budget, rate):
    """The best value of all assignments, each priced by itself; -inf where none keeps to the budget."""
    best = -math.inf
    for choice in itertools.product(*[np.flatnonzero(row) for row in allowed]):
        usd = float(price(np.array([choice]))[0])
        if usd <= budget * (1 + 1e-12):
            best = max(best, chance(logit_of(choice, values, pairs, base)) - rate * usd)
    return best


def drawn(seed, roles=3, models=3):
    rng = np.random.default_rng(seed)
    values, pairs = rng.normal(size=(roles, models)), rng.normal(size=(roles * (roles - 1) // 2, models, models))
    allowed = rng.random((roles, models)) < 0.8
    allowed[:, rng.integers(models)] = True
    return rng, values, pairs, allowed


def team_price(rng, roles, models, growth, rounds):
    """What a team's runs cost, where a role's cost hangs on whom it reads."""
    mode = Mode(name="it", growth=growth, rounds=rounds)
    team = Team(
        roles=[Role(name=f"r{k}", input_tokens=10.0, output_tokens=100.0, optional=True) for k in range(roles)], modes=[mode]
    )
    prices = rng.lognormal(size=models)
    cards = [ModelCard(id=f"m{j}", price=Price(input=float(usd), output=float(usd))) for j, usd in enumerate(prices)]
    costs = CostModel(team, cards)
    costs.output_ = rng.lognormal(5.0, 1.5, size=costs.output_.shape)  # some say much more than others
    return lambda columns: costs.exact("it", columns)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    share=st.floats(0.0, 1.0),
    rate=st.sampled_from([0.0, 0.3]),
    paired=st.booleans(),
    block=st.sampled_from([1, 5, 1000]),
)
def test_the_best_assignment_is_that_of_brute_force(seed, share, rate, paired, block):
    rng, values, pairs, allowed = drawn(seed)
    pairs = pairs if paired else None
    costs, base = rng.lognormal(size=(3, 3)), float(rng.normal())
    floor, top = np.where(allowed, costs, np.inf).min(axis=1).sum(), np.where(allowed, costs, 0.0).max(axis=1).sum()
    budget = floor + share * (top - floor) + 1e-9
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_searching, "_FIRST", block)
        patch.setattr(_searching, "_BLOCK", block)
        found = search(values, allowed, matrix_price(costs), budget, base=base, pairs=pairs, rate=rate)
    assert found.exact
    assert allowed[range(3), found.columns].all()
    assert found.cost == pytest.approx(costs[range(3), found.columns].sum())
    assert found.cost <= budget * (1 + 1e-12)
    assert found.logit == pytest.approx(logit_of(found.columns, values, pairs, base))
    assert found.value == pytest.approx(chance(found.logit) - rate * found.cost)
    assert found.value == pytest.approx(brute(values, pairs, base, allowed, matrix_price(costs), budget, rate))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    share=st.floats(0.0, 0.5),
    rate=st.sampled_from([0.0, 200.0]),
    growth=st.sampled_from(["none", "previous", "all"]),
    rounds=st.integers(1, 2),
)
def test_prices_that_hang_on_whom_a_role_reads_are_weighed_as_they_are(seed, share, rate, growth, rounds):
    rng, values, pairs, _ = drawn(seed, models=4)
    allowed = np.ones((3, 4), bool)  # the last column leaves the role out
    price = team_price(rng, 3, 3, growth, rounds)
    usd = [float(price(np.array([choice]))[0]) for choice in itertools.product(range(4), repeat=3)]
    budget = min(usd) + share * (max(usd) - min(usd))
    found = search(values, allowed, price, budget, pairs=pairs, rate=rate)
    assert found.cost <= budget * (1 + 1e-12)
    assert found.value == pytest.approx(brute(values, pairs, 0.0, allowed, price, budget, rate))


def test_the_budget_may_weigh_other_costs_than_the_aim():
    values, allowed = np.array([[0.0, 2.0]]), np.ones((1, 2), bool)
    rarely, mostly = matrix_price(np.array([[0.1, 0.9]])), matrix_price(np.array([[0.1, 0.2]]))
    rare = search(values, allowed, rarely, 1.0, rate=0.5, worth=mostly)
    assert rare.columns.tolist() == [1]
    assert (rare.cost, rare.value) == (pytest.approx(0.9), pytest.approx(chance(2.0) - 0.1))
    assert search(values, allowed, rarely, 1.0, rate=0.5).columns.tolist() == [0]
    assert search(values, allowed, matrix_price(np.array([[0.1, 1.1]])), 1.0).columns.tolist() == [0]


def test_too_many_assignments_are_climbed_never_above_the_budget_and_seldom_below_the_best(monkeypatch):
    lost = []
    for seed in range(10):
        rng, values, pairs, _ = drawn(seed, 5, 4)
        costs, allowed = rng.lognormal(size=(5, 4)), np.ones((5, 4), bool)
        budget = 1.6 * costs.min(axis=1).sum()
        best = search(values, allowed, matrix_price(costs), budget, pairs=pairs)
        monkeypatch.setattr(_searching, "_COMBINATIONS", 100)
        found = search(values, allowed, matrix_price(costs), budget, pairs=pairs)
        monkeypatch.undo()
        assert best.exact
        assert not found.exact
        assert found.cost <= budget
        assert found.logit <= best.logit + 1e-9
        lost.append(best.logit - found.logit)
    assert np.mean(np.array(lost) < 1e-9) >= 0.9


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_a_climb_ends_where_no_change_of_two_roles_betters_it(monkeypatch, rate):
    monkeypatch.setattr(_searching, "_COMBINATIONS", 0)
    monkeypatch.setattr(_searching, "_STARTS", 1)
    for seed in range(5):
        rng, values, pairs, _ = drawn(seed, 5, 4)
        costs = rng.lognormal(size=(5, 4))
        budget = 1.6 * costs.min(axis=1).sum()
        end = search(values, np.ones((5, 4), bool), matrix_price(costs), budget, pairs=pairs, rate=rate)
        assert not end.exact
        for a, b in itertools.combinations(range(5), 2):
            near = np.tile(end.columns, (16, 1))
            near[:, a], near[:, b] = np.divmod(np.arange(16), 4)
            usd = costs[np.arange(5), near].sum(axis=1)
            worth = [chance(logit_of(one, values, pairs, 0.0)) for one in near] - rate * usd
            assert worth[usd <= budget].max() <= end.value + 1e-9


def test_a_budget_that_nothing_keeps_to_names_the_cheapest(monkeypatch):
    values, allowed = np.zeros((2, 2)), np.ones((2, 2), bool)
    price = matrix_price(np.array([[1.0, 2.0], [3.0, 0.5]]))
    for combinations in (100, 0):
        monkeypatch.setattr(_searching, "_COMBINATIONS", combinations)
        with pytest.raises(BudgetError, match=r"\$1\.5") as caught:
            search(values, allowed, price, 1.4)
        assert caught.value.cheapest == pytest.approx(1.5)
        assert search(values, allowed, price, 1.5).columns.tolist() == [0, 1]
    with pytest.raises(ConfigError, match="row 1"):
        search(values, np.array([[True, True], [False, False]]), price)


def test_of_equally_good_assignments_the_cheaper_is_taken_then_the_first():
    values, allowed = np.zeros((2, 2)), np.ones((2, 2), bool)
    assert search(values, allowed, matrix_price(np.array([[2.0, 1.0], [1.0, 1.0]]))).columns.tolist() == [1, 0]
    assert search(values, allowed, matrix_price(np.ones((2, 2)))).columns.tolist() == [0, 0]


def test_a_climb_from_several_starts_finds_what_pairs_hide(monkeypatch):
    """With strong pairs one start gets stuck; the random ones find the best of all."""
    alone, several = [], []
    for seed in range(30):
        _, values, pairs, _ = drawn(seed, 6, 4)
        allowed, price = np.ones((6, 4), bool), matrix_price(np.zeros((6, 4)))
        best = search(values, allowed, price, pairs=3.0 * pairs).logit
        monkeypatch.setattr(_searching, "_COMBINATIONS", 0)
        several.append(best - search(values, allowed, price, pairs=3.0 * pairs).logit)
        monkeypatch.setattr(_searching, "_STARTS", 1)
        alone.append(best - search(values, allowed, price, pairs=3.0 * pairs).logit)
        monkeypatch.undo()
    assert min(alone) >= -1e-9
    assert np.mean(np.array(several) < 1e-9) > np.mean(np.array(alone) < 1e-9) + 0.2
    assert np.mean(np.array(several) < 1e-9) > 0.8
