"""Lambda for a budget or a price: kept on the log and on other queries, at least as good as any one lambda, no luck learned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentroute.cascades._planner import CascadeRouting
from agentroute.cascades._replay import replay
from agentroute.cascades._tuning import Rates
from agentroute.errors import ConfigError


class World:
    """Normal qualities around a shared difficulty, with exact, hence nested and calibrated, estimates in every state."""

    latency = None

    def __init__(self, queries, models, seed, noise=(0.6, 0.3)):
        rng = np.random.default_rng(seed)
        self.base = np.linspace(0.4, 0.8, models)
        self.covariance = 0.03 * np.ones((models, models)) + 0.05 * np.eye(models)
        self.truth = self.base + rng.multivariate_normal(np.zeros(models), self.covariance, queries)
        self.noise = np.square(noise)
        self.heard = [self.truth + sd * rng.standard_normal(self.truth.shape) for sd in noise]
        self.cost = 0.001 * 2.0 ** np.arange(models) * np.exp(0.2 * rng.standard_normal(self.truth.shape))
        self.known = {}

    def posterior(self, answered):
        if answered not in self.known:
            count = len(self.base)
            done = [j for j in range(count) if answered >> j & 1]
            seen = np.vstack([np.eye(count), np.eye(count)[done]])
            noise = np.diag([self.noise[0]] * count + [self.noise[1]] * len(done))
            gain = self.covariance @ seen.T @ np.linalg.inv(seen @ self.covariance @ seen.T + noise)
            told = np.hstack([self.heard[0] - self.base, (self.heard[1] - self.base)[:, done]])
            self.known[answered] = self.base + told @ gain.T, self.covariance - gain @ seen @ self.covariance
        return self.known[answered]

    def quality(self, answered, rows):
        return self.posterior(answered)[0][rows]

    def factor(self, answered):
        count = len(self.base)
        moves = self.posterior(answered)[1] - self.posterior((1 << count) - 1)[1]
        return np.linalg.cholesky(moves + 1e-9 * np.eye(count))


class Plain:
    """Few distinct estimates, as of a model that knows only the task."""

    latency = None

    def __init__(self, before, after, cost):
        self.before, self.after, self.cost = before, after, cost

    def quality(self, answered, rows):
        done = answered >> np.arange(self.before.shape[1]) & 1
        return np.where(done, self.after[rows], self.before[rows])

    def factor(self, answered):
        return None


FLAGS = [{}, {"climb": False}, {"ordered": True}]


@pytest.mark.parametrize("flags", FLAGS)
def test_the_budget_is_kept_and_nearly_spent_on_the_log(flags):
    world = World(600, 3, 0)
    weights = []
    for budget in (0.0013, 0.0018, 0.0025, 0.0035):
        policy = CascadeRouting(budget=budget, refine=False, mix=False, samples=128, **flags)
        policy.fit(world, world.truth, world.cost)
        spent = replay(policy, world, world.truth, world.cost)
        assert policy.expected_cost_ == pytest.approx(spent.point[0])
        assert policy.expected_quality_ == pytest.approx(spent.point[1])
        assert 0.99 * budget <= spent.point[0] <= budget
        assert policy.rates_.table.min() == policy.rates_.table.max()
        weights.append(policy.rates_.table[0, 0])
    assert (np.diff(weights) < 0.0).all()


def test_more_money_than_can_be_spent_buys_everything_worth_calling():
    world = World(200, 3, 0)
    rich = CascadeRouting(budget=1.0, samples=64).fit(world, world.truth, world.cost)
    assert rich.rates_.table.tolist() == [[0.0, 0.0, 0.0]]
    assert rich.expected_cost_ == pytest.approx(replay(CascadeRouting(samples=64), world, world.truth, world.cost).point[0])


def test_too_small_a_budget_is_refused_with_the_least_that_must_be_spent():
    world = World(100, 3, 0)
    least = world.cost.min(axis=1).mean()
    with pytest.raises(ConfigError, match=rf"budget=\$0.0001 cannot be kept: the cheapest choice costs \${least:.3g} a query"):
        CascadeRouting(budget=0.0001, samples=64).fit(world, world.truth, world.cost)
    kept = CascadeRouting(budget=float(least) * 1.0001, samples=64).fit(world, world.truth, world.cost)
    assert kept.expected_cost_ <= least * 1.0001


def test_the_budget_is_that_of_bills_not_of_expectations():
    world = World(400, 3, 1)
    billed = 3.0 * world.cost
    policy = CascadeRouting(budget=0.006, samples=64).fit(world, world.truth, billed)
    assert replay(policy, world, world.truth, billed).point[0] == pytest.approx(0.006, rel=0.02)
    unbilled = np.where(np.random.default_rng(0).random(billed.shape) < 0.5, np.nan, world.cost)
    policy = CascadeRouting(budget=0.002, samples=64).fit(world, world.truth, unbilled)
    # Where no bill is known the expected cost stands in: here they are equal.
    assert replay(policy, world, world.truth, world.cost).point[0] == pytest.approx(0.002, rel=0.02)


def test_mixing_spends_the_budget_to_the_cent_where_decisions_change_all_at_once():
    n = 1000
    cost = np.tile([0.001, 0.01], (n, 1))
    states = Plain(np.tile([0.5, 0.8], (n, 1)), np.tile([0.5, 0.8], (n, 1)), cost)
    quality = states.before
    steps = CascadeRouting(budget=0.004, samples=64, mix=False).fit(states, quality, cost)
    assert steps.expected_cost_ == pytest.approx(0.001)
    mixed = CascadeRouting(budget=0.004, samples=64).fit(states, quality, cost)
    assert mixed.expected_cost_ == pytest.approx(0.004)
    assert (np.diff(mixed.rates_.table[:, 0]) <= 0.0).all()
    assert mixed.rates_.table.max() / mixed.rates_.table.min() < 1.1**2
    # A third of the queries goes to the dear model, the same ones each time.
    draws = (np.arange(n) + 0.5) / n
    _, answer = mixed.run(states, draws=draws)
    assert answer.mean() == pytest.approx(1.0 / 3.0, abs=0.001)
    assert [mixed.decide(quality[0], cost[0], draw=draw) for draw in (0.0, 0.33, 0.34, 0.99)] == [1, 1, 0, 0]
    assert mixed.decide(quality[0], cost[0]) == 0
    assert 0.25 < mixed.run(states)[1].mean() < 0.42


def test_a_lambda_for_each_step_is_taken_where_it_is_surely_better():
    world = World(800, 3, 3, noise=(1.5, 0.2))
    one, each = (
        CascadeRouting(budget=0.0035, ordered=True, refine=refine, samples=64).fit(world, world.truth, world.cost)
        for refine in (False, True)
    )
    assert each.expected_quality_ >= one.expected_quality_ - 1e-4
    assert each.expected_cost_ <= 0.0035
    # On outcomes that are nothing but luck no step differs from the others.
    luck = np.random.default_rng(1).random(world.truth.shape)
    taught = [
        CascadeRouting(budget=budget, mix=False, samples=64).fit(world, luck, world.cost).rates_.table
        for budget in (0.0015, 0.002, 0.003)
    ]
    assert sum(table.min() == table.max() for table in taught) >= 2


def test_a_price_is_turned_into_the_lambda_that_gains_most():
    world, other = World(800, 3, 4, noise=(1.5, 0.2)), World(3000, 3, 5, noise=(1.5, 0.2))

    def net(policy):
        spent, gained = replay(policy, other, other.truth, other.cost).point
        return gained - spent / 0.02

    plain = CascadeRouting(willingness_to_pay=0.02, samples=128)
    fitted = CascadeRouting(willingness_to_pay=0.02, samples=128).fit(world, world.truth, world.cost)
    assert net(fitted) >= net(plain) - 0.002
    assert CascadeRouting(samples=64).fit(world, world.truth, world.cost).rates_.table.tolist() == [[0.0]]


def test_the_frontier_on_other_queries():
    log, other = World(500, 3, 6), World(500, 3, 7)
    policy = CascadeRouting(samples=64, refine=False, mix=False)
    budgets = np.array([0.0015, 0.002, 0.003])
    here = policy.frontier(log, log.truth, log.cost, budgets=budgets)
    assert (here[:, 0] <= budgets).all()
    assert (here[:, 0] > 0.98 * budgets).all()
    assert (np.diff(here[:, 1]) > 0.0).all()
    lambdas = policy.lambdas_for(log, log.truth, log.cost, budgets=budgets)
    assert np.allclose(policy.frontier(log, log.truth, log.cost, lambdas=lambdas), here)
    there = policy.frontier(other, other.truth, other.cost, lambdas=lambdas)
    for one, point in zip(budgets, there, strict=True):
        fitted = CascadeRouting(budget=float(one), samples=64, refine=False, mix=False).fit(log, log.truth, log.cost)
        assert replay(fitted, other, other.truth, other.cost).point == pytest.approx(tuple(point))
    assert np.allclose(policy.frontier(other, other.truth, other.cost, lambdas=lambdas[:, 0]), there)


def test_freedom_pays():
    log, other = World(1500, 4, 8), World(1500, 4, 9)
    found = {}
    for name, flags in (("free", {}), ("alone", {"climb": False}), ("ordered", {"ordered": True})):
        policy = CascadeRouting(samples=128, check_last=True, **flags)
        lambdas = policy.lambdas_for(log, log.truth, log.cost, budgets=[0.0025, 0.004])
        found[name] = policy.frontier(other, other.truth, other.cost, lambdas=lambdas)[:, 1].mean()
    assert found["free"] >= max(found["alone"], found["ordered"]) - 0.003


def test_where_queries_are_of_few_kinds_the_budget_holds_on_new_ones():
    """Estimates of the log are means of the other folds, those of new queries means of the whole log: a little apart."""
    price = np.array([0.001, 0.003, 0.01])
    right = np.array([[0.45, 0.7, 0.92], [0.3, 0.55, 0.9], [0.15, 0.4, 0.88], [0.05, 0.25, 0.85]])

    def asked(rng, n=1000):
        kind = rng.integers(4, size=n)
        return kind, (rng.random((n, 3)) < right[kind]).astype(float), price * rng.uniform(0.7, 1.4, (n, 3))

    def told(kind, quality, cost, new):
        means = [np.stack([part[kind == one].mean(axis=0) for one in range(4)])[new] for part in (quality, cost)]
        return Plain(means[0], means[0], means[1])

    def missed(seed, **options):
        rng = np.random.default_rng(seed)
        kind, quality, cost = asked(rng)
        fold = np.arange(len(kind)) % 5
        parts = [told(kind[fold != k], quality[fold != k], cost[fold != k], kind) for k in range(5)]
        found = [np.choose(fold[:, None], [getattr(part, name) for part in parts]) for name in ("before", "cost")]
        policy = CascadeRouting(budget=0.006, climb=False, samples=16, **options)
        policy.fit(Plain(found[0], found[0], found[1]), quality, cost)
        assert 0.999 * 0.006 < policy.expected_cost_ <= 0.006 * 1.000001 or options
        new, truth, billed = asked(rng)
        return replay(policy, told(kind, quality, cost, new), truth, billed).point[0] / 0.006 - 1.0

    over = np.array([missed(seed) for seed in range(20)])
    half_width = 2.093 * over.std(ddof=1) / np.sqrt(20)
    assert over.mean() - half_width > -0.03
    assert over.mean() + half_width < 0.03
    # With one lambda a single log is off by a tenth.
    alone = np.array([missed(seed, mix=False) for seed in range(20)])
    assert np.sqrt(np.mean(alone**2)) > 0.08
    assert np.sqrt(np.mean(over**2)) < 0.05


@given(
    shares=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6),
    draws=st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=1, max_size=20),
)
def test_each_choice_is_taken_as_often_as_its_share_and_alike_by_one_and_by_many(shares, draws):
    shares = np.array(shares) / np.sum(shares)
    rates = Rates(table=np.arange(len(shares), 0.0, -1.0)[:, None], shares=shares)
    assert [rates.at(0, draw) for draw in draws] == rates.table[rates.chosen(draws), 0].tolist()
    even = rates.chosen((np.arange(10_000) + 0.5) / 10_000)
    assert np.bincount(even, minlength=len(shares)) / 10_000 == pytest.approx(shares, abs=2e-4)
    # The least lambda, which spends the most, for those that draw least.
    assert (np.diff(even) <= 0).all()
    assert rates.at(3, None) == len(shares)


def test_the_budget_holds_on_other_queries():
    budget, over = 0.002, []
    for seed in range(20):
        both = World(2400, 3, 100 + seed)
        rows = np.arange(2400)

        def half(part, both=both):
            made = World(1, 3, 0)
            made.posterior = lambda answered: (both.posterior(answered)[0][part], both.posterior(answered)[1])
            made.cost, made.truth = both.cost[part], both.truth[part]
            return made

        log, other = half(rows[::2]), half(rows[1::2])
        policy = CascadeRouting(budget=budget, samples=64).fit(log, log.truth, log.cost)
        over.append(replay(policy, other, other.truth, other.cost).point[0] / budget - 1.0)
    half_width = 2.093 * np.std(over, ddof=1) / np.sqrt(20)
    assert np.mean(over) - half_width > -0.03
    assert np.mean(over) + half_width < 0.03
