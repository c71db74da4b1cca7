"""The best allocation of a mode, by brute force over what runs truly cost."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from agentroute.errors import BudgetError, ConfigError, PriceUnknownError
from agentroute.teams import _solving
from agentroute.teams._costs import CostModel
from agentroute.teams._knapsack import solve
from agentroute.teams._solving import cheapest_team, solve_team
from agentroute.teams._values import Mode, Role, Team
from agentroute.types import ModelCard, Price

MODES = [
    Mode(name="io"),
    Mode(name="chain", growth="previous"),
    Mode(name="full", growth="all"),
    Mode(name="debate", growth="all", rounds=2),
]


def problem(rng, roles=4, models=3):
    """A team whose models differ much in how much they say, with random values and admissible models."""
    team = Team(
        roles=[
            Role(
                name=f"r{k}", input_tokens=100.0, output_tokens=float(rng.uniform(10.0, 900.0)), optional=bool(rng.random() < 0.4)
            )
            for k in range(roles)
        ],
        modes=MODES,
    )
    cards = [
        ModelCard(id=f"m{j}", price=Price(input=float(rng.lognormal()), output=float(4.0 * rng.lognormal())))
        for j in range(models)
    ]
    costs = CostModel(team, cards)
    costs.output_ *= rng.lognormal(0.0, 1.2, size=costs.output_.shape)
    allowed = costs.admissible() & (rng.random((roles, models + 1)) < 0.9)
    allowed[~allowed.any(axis=1), 0] = True
    return costs, rng.standard_normal((roles, models + 1)), allowed


def everything(allowed):
    return np.array(list(itertools.product(*[np.flatnonzero(flags) for flags in allowed])))


def brute(values, costs, mode, allowed, budget):
    every = everything(allowed)
    worth = values[np.arange(len(values)), every].sum(axis=1)
    return worth[costs.exact(mode, every) <= budget * (1.0 + 1e-12)].max(initial=-math.inf)


def check(found, values, costs, mode, allowed, budget):
    rows = np.arange(len(values))
    assert allowed[rows, found.choice].all()
    assert found.value == pytest.approx(values[rows, found.choice].sum())
    assert found.cost == pytest.approx(costs.exact(mode, found.choice[None])[0])
    assert found.cost <= budget


def test_a_thousand_teams_get_the_best_that_their_true_cost_allows():
    rng = np.random.default_rng(0)
    refused = tight = 0
    for _ in range(1000):
        costs, values, allowed = problem(rng)
        mode = str(rng.choice([mode.name for mode in MODES]))
        prices = costs.exact(mode, everything(allowed))
        budget = prices.min() + (prices.max() - prices.min()) * rng.uniform(-0.05, 0.5)
        best = brute(values, costs, mode, allowed, budget)
        if best == -math.inf:
            refused += 1
            with pytest.raises(BudgetError) as caught:
                solve_team(values, costs, mode, allowed, budget)
            assert caught.value.cheapest == pytest.approx(prices.min())
            continue
        found = solve_team(values, costs, mode, allowed, budget)
        check(found, values, costs, mode, allowed, budget)
        assert found.value == pytest.approx(best, abs=1e-9)
        assert found.exact
        try:
            tight += solve(values, costs.matrix(mode, allowed), allowed, budget).value < best - 1e-9
        except BudgetError:
            tight += 1
    assert refused > 20
    # One cost for each role and model alone would often have found less, or nothing.
    assert tight > 100


def test_of_too_many_combinations_a_good_one_is_found(monkeypatch):
    monkeypatch.setattr(_solving, "_COMBINATIONS", 0)
    rng = np.random.default_rng(1)
    best_found = asked = 0
    for _ in range(300):
        costs, values, allowed = problem(rng)
        mode = str(rng.choice([mode.name for mode in MODES]))
        prices = costs.exact(mode, everything(allowed))
        budget = prices.min() + (prices.max() - prices.min()) * rng.uniform(0.02, 0.5)
        found = solve_team(values, costs, mode, allowed, budget)
        check(found, values, costs, mode, allowed, budget)
        best = brute(values, costs, mode, allowed, budget)
        assert found.value <= best + 1e-9
        assert not found.exact or found.value >= best - 1e-9
        asked += 1
        best_found += found.value >= best - 1e-9
    assert best_found >= 0.9 * asked


def test_what_is_read_lies_between_the_least_and_the_most():
    rng = np.random.default_rng(2)
    for _ in range(100):
        costs, _, allowed = problem(rng)
        every, rows = everything(allowed), np.arange(4)
        for mode in MODES:
            exact = costs.exact(mode.name, every)
            least = costs.matrix(mode.name, allowed, reads="least")[rows, every].sum(axis=1)
            most = costs.matrix(mode.name, allowed)[rows, every].sum(axis=1)
            assert (least <= exact + 1e-15).all()
            assert (exact <= most + 1e-15).all()


@pytest.mark.parametrize("limit", [0, 50_000])
def test_the_cheapest_team(monkeypatch, limit):
    monkeypatch.setattr(_solving, "_COMBINATIONS", limit)
    rng = np.random.default_rng(3)
    found = []
    for _ in range(60):
        costs, _, allowed = problem(rng)
        prices = costs.exact("debate", everything(allowed))
        price = costs.exact("debate", cheapest_team(costs, "debate", allowed)[None])[0]
        assert price >= prices.min() - 1e-15
        found.append(price <= prices.min() + 1e-15)
    assert np.mean(found) >= (1.0 if limit else 0.9)


def test_a_team_whose_models_say_little_is_not_refused_for_those_that_say_much():
    team = Team(
        roles=[Role(name="a", output_tokens=100.0, input_tokens=0.0), Role(name="b", output_tokens=100.0, input_tokens=0.0)]
    )
    cards = [ModelCard(id="terse", price=Price(input=1.0, output=1.0)), ModelCard(id="wordy", price=Price(input=1.0, output=1.0))]
    costs = CostModel(team, cards)
    costs.output_[:, 1] = 10_000.0
    values, allowed = np.array([[0.0, 1.0, 0.0]] * 2), costs.admissible()
    # 100 + 100 of answers and 100 read.
    found = solve_team(values, costs, "chain", allowed, 0.0003)
    assert (found.choice.tolist(), found.exact) == ([0, 0], True)
    assert found.cost == pytest.approx(0.0003)
    with pytest.raises(BudgetError, match=r"the budget of \$0.0002 is too small: the cheapest that is allowed costs \$0.0003"):
        solve_team(values, costs, "chain", allowed, 0.0002)


def test_without_a_budget_prices_may_be_unknown():
    team = Team(roles=[Role(name="a"), Role(name="b")])
    costs = CostModel(team, [ModelCard(id="x", price=Price(input=1.0, output=1.0)), ModelCard(id="y")])
    values, allowed = np.array([[0.0, 1.0, 0.0]] * 2), costs.admissible()
    found = solve_team(values, costs, "chain", allowed)
    assert found.choice.tolist() == [1, 1]
    assert math.isnan(found.cost)
    with pytest.raises(PriceUnknownError):
        solve_team(values, costs, "chain", allowed, 1.0)


@pytest.mark.filterwarnings("error")
def test_a_role_that_may_have_nothing_is_told():
    costs, values, allowed = problem(np.random.default_rng(5))
    allowed[2] = False
    for budget in (math.inf, 1.0):
        with pytest.raises(ConfigError, match="row 2 may have no column"):
            solve_team(values, costs, "full", allowed, budget)


def test_95_of_100_runs_may_be_asked_to_keep_to_the_budget():
    costs, values, allowed = problem(np.random.default_rng(4))
    costs.spread_ += 0.5
    costs.gamma_ = 2.0
    every = everything(allowed)
    worth, uppers = values[np.arange(4), every].sum(axis=1), costs.exact("full", every, upper=True)
    budget = float(np.quantile(uppers, 0.3))
    found = solve_team(values, costs, "full", allowed, budget, upper=True)
    assert found.value == pytest.approx(worth[uppers <= budget].max())
    assert found.cost == pytest.approx(2.0 * costs.exact("full", found.choice[None])[0])
    assert found.cost <= budget
