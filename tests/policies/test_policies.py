import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentroute.errors import ConfigError, NotFittedError, PriceUnknownError
from agentroute.estimators import KNNEstimator
from agentroute.policies import BudgetPolicy, UtilityPolicy, decide
from agentroute.testing import planted_table, policy_checks
from agentroute.types import Estimate, Paradigm

PARADIGM = Paradigm(when="pre-generation", what=(), how="optimisation")


def estimate(quality, cost, latency=None):
    quality = np.atleast_2d(np.array(quality, float))
    return Estimate(
        models=tuple("abcdefgh"[: quality.shape[1]]),
        quality=quality,
        quality_std=np.full(quality.shape, 0.1),
        cost=np.atleast_2d(np.array(cost, float)),
        latency=np.atleast_2d(np.array(latency, float)) if latency is not None else np.full(quality.shape, np.nan),
        support=np.full(quality.shape, 9.0),
        similarity=np.ones(len(quality)),
        supported=np.ones(len(quality), bool),
    )


def calibrated():
    table = planted_table(300)
    estimator = KNNEstimator().fit(table)
    rows = np.arange(300)
    return BudgetPolicy(mean_cost=0.004).calibrate(estimator.cross_predict(table, rows), table.quality, table.cost)


MAKERS = {
    "quality": UtilityPolicy,
    "thrifty": lambda: UtilityPolicy(willingness_to_pay=0.02),
    "hasty": lambda: UtilityPolicy(latency_weight=0.1),
    "budget": calibrated,
}
CASES = [(name, check) for name, make in MAKERS.items() for check in policy_checks(make)]


@pytest.mark.parametrize(("name", "check"), CASES, ids=[f"{name}-{check.__name__}" for name, check in CASES])
def test_contract(name, check):
    check()


def chosen(policy, *args, eligible=None):
    expected = estimate(*args)
    return decide(policy, expected, [eligible or range(len(expected.models))], PARADIGM)[0]


def test_utility_by_hand():
    decision = chosen(UtilityPolicy(willingness_to_pay=0.1, latency_weight=0.01), [0.9, 0.8], [0.05, 0.01], [2.0, 12.0])
    assert [c.utility for c in decision.candidates] == pytest.approx([0.9 - 0.5 - 0.02, 0.8 - 0.1 - 0.12][::-1])
    assert decision.ranking == ("b", "a")


def test_willingness_to_pay_moves_the_choice():
    quality, cost = [0.7, 0.8, 0.9], [0.001, 0.01, 0.1]
    assert chosen(UtilityPolicy(), quality, cost).model == "c"
    assert chosen(UtilityPolicy(willingness_to_pay=0.5), quality, cost).model == "b"
    assert chosen(UtilityPolicy(willingness_to_pay=0.01), quality, cost).model == "a"


@given(
    quality=st.lists(st.floats(0, 1), min_size=2, max_size=8),
    data=st.data(),
    low=st.floats(1e-4, 10),
    factor=st.floats(1.0, 1000),
)
def test_paying_more_never_buys_a_cheaper_model(quality, data, low, factor):
    cost = data.draw(st.lists(st.floats(0, 1), min_size=len(quality), max_size=len(quality)))
    thrifty = chosen(UtilityPolicy(willingness_to_pay=low), quality, cost)
    lavish = chosen(UtilityPolicy(willingness_to_pay=low * factor), quality, cost)
    assert lavish.chosen.cost >= thrifty.chosen.cost - 1e-9
    assert lavish.chosen.quality >= thrifty.chosen.quality - 1e-9


def test_ties_go_to_the_cheaper_then_to_the_pool_order():
    assert chosen(UtilityPolicy(), [0.5, 0.5, 0.5], [3.0, 1.0, 2.0]).ranking == ("b", "c", "a")
    assert chosen(UtilityPolicy(), [0.5, 0.5], [1.0, 1.0]).ranking == ("a", "b")


def test_only_eligible_models_are_candidates():
    decision = chosen(UtilityPolicy(), [0.9, 0.8, 0.7], [1, 1, 1], eligible=[1, 2])
    assert decision.ranking == ("b", "c")


def test_unknown_quality_ranks_last_and_reads_none():
    decision = chosen(UtilityPolicy(), [math.nan, 0.1], [1.0, 2.0])
    assert decision.ranking == ("b", "a")
    assert decision.candidates[1].quality is None


def test_unknown_cost_is_not_free():
    policy = UtilityPolicy(willingness_to_pay=1.0)
    with pytest.raises(PriceUnknownError) as raised:
        chosen(policy, [0.9, 0.8], [math.nan, 1.0])
    assert raised.value.models == ("a",)
    assert chosen(UtilityPolicy(), [0.9, 0.8], [math.nan, 1.0]).model == "a"  # cost does not enter, so it need not be known
    assert chosen(policy, [math.nan, 0.8], [math.nan, 1.0]).model == "b"  # a model nobody logged is no candidate anyway


@pytest.mark.parametrize(
    "options",
    [
        {"willingness_to_pay": 0},
        {"willingness_to_pay": -1},
        {"willingness_to_pay": math.nan},
        {"latency_weight": -1},
        {"latency_weight": math.inf},
        {"willingness_to_pay": "0.02"},
        {"latency_weight": True},
    ],
    ids=str,
)
def test_bad_weights_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        UtilityPolicy(**options)


def test_a_budget_is_kept_on_the_log_and_used():
    table = planted_table(1000)
    estimator = KNNEstimator().fit(table)
    rows = np.arange(1000)
    expected = estimator.cross_predict(table, rows)
    qualities = []
    for budget in (0.0015, 0.003, 0.006, 1.0):
        policy = BudgetPolicy(mean_cost=budget).calibrate(expected, table.quality, table.cost)
        picks = policy.utilities(expected).argmax(axis=1)
        spent = table.cost[rows, picks].mean()
        assert spent <= budget
        assert policy.expected_cost_ == pytest.approx(spent)
        qualities.append(table.quality[rows, picks].mean())
    assert qualities == sorted(qualities)
    assert qualities[-1] > 0.8
    assert policy.cost_weight_ == 0.0


def test_an_impossible_budget_says_what_the_cheapest_costs():
    expected = estimate([[0.9, 0.5]] * 3, [[2.0, 1.0]] * 3)
    with pytest.raises(ConfigError, match=r"cheapest choice costs \$1"):
        BudgetPolicy(mean_cost=0.5).calibrate(expected, expected.quality, expected.cost)


def test_a_budget_needs_prices():
    expected = estimate([[0.9, 0.5]] * 3, [[math.nan, 1.0]] * 3)
    with pytest.raises(PriceUnknownError) as raised:
        BudgetPolicy(mean_cost=5.0).calibrate(expected, expected.quality, expected.cost)
    assert raised.value.models == ("a",)


def test_an_uncalibrated_budget_says_so():
    with pytest.raises(NotFittedError, match="calibrated"):
        BudgetPolicy(mean_cost=1.0).utilities(estimate([0.5], [1.0]))


@pytest.mark.parametrize("mean_cost", [0, -1, math.inf, math.nan])
def test_bad_budgets_are_refused(mean_cost):
    with pytest.raises(ConfigError, match="mean_cost"):
        BudgetPolicy(mean_cost=mean_cost)
