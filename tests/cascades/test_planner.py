"""Cascade routing's decisions: by hand, with less freedom, with failures and limits; replays; saving."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.cascades._planner import CascadeRouting, draw_of
from agentroute.cascades._replay import replay
from agentroute.cascades._tuning import Rates
from agentroute.errors import ConfigError, DataError, NotFittedError


class States:
    """Estimates before an answer, after one, and how much they will still move."""

    def __init__(self, before, after, cost, factors=None, latency=None):
        self.before, self.after = np.array(before, float), np.array(after, float)
        self.cost = np.broadcast_to(np.asarray(cost, float), self.before.shape)
        self.latency = None if latency is None else np.broadcast_to(np.asarray(latency, float), self.before.shape)
        self.factors = factors or {}

    def quality(self, answered, rows):
        done = answered >> np.arange(self.before.shape[1]) & 1
        return np.where(done, self.after[rows], self.before[rows])

    def factor(self, answered):
        return self.factors.get(answered)


def random_states(seed, n, m, *, spread=0.3, latency=False):
    rng = np.random.default_rng(seed)
    truth = np.clip(np.linspace(0.3, 0.8, m) + 0.3 * rng.standard_normal((n, m)), 0.0, 1.0)
    factors = {}
    for answered in range(1 << m):
        open_ = ~(answered >> np.arange(m) & 1).astype(bool)
        factors[answered] = np.where(open_[:, None], spread * np.linalg.cholesky(0.5 * np.eye(m) + 0.5), 0.0)
    before = truth + 0.3 * rng.standard_normal((n, m))
    after = truth + 0.1 * rng.standard_normal((n, m))
    cost = 0.001 * 2.0 ** np.arange(m) * rng.uniform(0.8, 1.2, (n, m))
    return States(before, after, cost, factors, rng.random((n, m)) if latency else None), truth, cost


def columns(answered):
    return sum(1 << j for j in answered)


def test_alone_it_is_the_argmax_of_quality_less_cost():
    policy = CascadeRouting(willingness_to_pay=0.5, climb=False)
    # .5 - 2 x .05 = .4, .7 - 2 x .1 = .5, .8 - 2 x .2 = .4.
    quality, cost = np.array([0.5, 0.7, 0.8]), np.array([0.05, 0.1, 0.2])
    assert policy.decide(quality, cost, factor=np.eye(3)) == 1
    assert policy.decide(quality, cost, answered=0b10, factor=np.eye(3)) is None
    assert CascadeRouting(climb=False).decide(quality, cost) == 2
    assert policy.calls == 1


def test_alone_it_routes_every_query_like_the_argmax():
    states, _, cost = random_states(0, 300, 4)
    called, answer = CascadeRouting(willingness_to_pay=0.02, climb=False).run(states)
    assert (answer == (states.before - 50.0 * cost).argmax(axis=1)).all()
    assert (called.sum(axis=1) == 1).all()


def test_climbing_starts_cheap_where_an_answer_would_tell():
    # Two models of equal mean; the second costs .02. Alone the first is best; both are worth .5 + .3 / sqrt(pi) = .669.
    quality, cost, factor = np.array([0.5, 0.5]), np.array([0.01, 0.02]), 0.3 * np.eye(2)
    policy = CascadeRouting(willingness_to_pay=1.0)
    assert policy.decide(quality, cost, factor=factor) == 0
    # After a bad answer the second is worth its price, after a good one it adds E[(q - .9)+] = .3 x .0404 (1.33 sd) = .012 < .02.
    after = np.diag([0.0, 0.3])
    assert policy.decide(np.array([0.1, 0.5]), cost, answered=1, factor=after) == 1
    assert policy.decide(np.array([0.9, 0.5]), cost, answered=1, factor=after) is None
    assert CascadeRouting(willingness_to_pay=2.0).decide(np.array([0.9, 0.5]), cost, answered=1, factor=after) == 1


def test_the_cheapest_of_the_best_set_is_called_even_if_a_dear_one_answered():
    quality, cost = np.array([0.5, 0.1, 0.5]), np.array([0.001, 0.001, 0.1])
    policy = CascadeRouting(willingness_to_pay=1.0)
    assert policy.decide(quality, cost, answered=0b100, factor=np.diag([0.3, 0.0, 0.0])) == 0


def test_hopeless_queries_are_not_escalated():
    cost = np.array([0.001, 0.02])
    policy = CascadeRouting(willingness_to_pay=1.0)
    assert policy.decide(np.array([0.05, 0.06]), cost, answered=1) is None
    assert policy.decide(np.array([0.05, 0.6]), cost, answered=1) == 1


def test_in_order_only_prefixes_count():
    # The third model alone is worth the most, but in order the first comes first: 0 → 1 → 2.
    quality, cost = np.array([0.1, 0.2, 0.9]), np.array([0.01, 0.1, 0.2])
    free, ordered = CascadeRouting(willingness_to_pay=1.0), CascadeRouting(willingness_to_pay=1.0, ordered=True)
    assert free.decide(quality, cost) == 2
    assert ordered.decide(quality, cost) == 0
    # All three: .9 - .3 = .6 is more than .1 after the first answer, so that the second is called on the way.
    assert ordered.decide(quality, cost, answered=0b1) == 1
    assert ordered.decide(quality, cost, answered=0b11) == 2
    # At 3 per USD they are worth .9 - .9 = 0 more.
    assert CascadeRouting(willingness_to_pay=1.0 / 3.0, ordered=True).decide(quality, cost, answered=0b1) is None


def test_a_replay_by_hand():
    # After a first answer below .5 - .1 the second model pays at 10 per USD: .8 - 10 x .03 = .5.
    states = States(
        before=[[0.6, 0.8], [0.6, 0.8], [0.6, 0.95], [0.6, 0.8]],
        after=[[0.9, 0.8], [0.2, 0.7], [0.3, 0.4], [0.3, 0.1]],
        cost=[0.01, 0.03],
    )
    quality = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    billed = np.array([[0.01, 0.04], [0.02, 0.04], [0.01, 0.04], [0.01, 0.05]])
    latency = np.array([[1.0, 2.0]] * 4)
    # First decisions: .6 - .1 = .5 against .8 - .3 = .5 (the cheaper of equals), in the third row against .95 - .3 = .65. There
    # the second model's answer turns out worse, .4, than the first one's would be less its cost, .5.
    found = replay(CascadeRouting(willingness_to_pay=0.1, check_last=True), states, quality, billed, latency)
    assert found.called.tolist() == [[True, False], [True, True], [True, True], [True, True]]
    assert found.answer.tolist() == [0, 1, 1, 0]
    assert found.quality.tolist() == [1.0, 1.0, 1.0, 1.0]
    assert found.cost == pytest.approx([0.01, 0.06, 0.05, 0.06])
    assert found.latency == pytest.approx([1.0, 3.0, 3.0, 3.0])
    assert found.calls.tolist() == [1, 2, 2, 2]
    assert found.point == pytest.approx((0.045, 1.0))
    # An answer after which nobody is left is taken unseen.
    unseen = replay(CascadeRouting(willingness_to_pay=0.1), states, quality, billed)
    assert unseen.called.tolist() == found.called.tolist()
    assert unseen.answer.tolist() == [0, 1, 0, 1]
    assert unseen.quality.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert unseen.latency is None
    with pytest.raises(DataError, match=r"cost is \(4, 1\)"):
        replay(CascadeRouting(), states, quality, billed[:, :1])


@pytest.mark.parametrize(
    "options",
    [{}, {"ordered": True}, {"climb": False}, {"max_models": 2}, {"latency_weight": 0.05}, {"ordered": True, "max_models": 2}],
)
def test_a_replay_decides_like_one_query_at_a_time(options):
    states, truth, cost = random_states(3, 120, 4, latency=True)
    policy = CascadeRouting(budget=0.004, samples=128, check_last=True, **options).fit(states, truth, cost)
    draws = np.random.default_rng(1).random(len(cost))
    called, answer = policy.run(states, draws=draws)
    for row in range(len(cost)):
        done = []
        while True:
            quality = states.quality(columns(done), np.array([row]))[0]
            factor, latency = states.factor(columns(done)), states.latency[row]
            chosen = policy.decide(quality, cost[row], answered=columns(done), factor=factor, latency=latency, draw=draws[row])
            if chosen is None:
                break
            done.append(chosen)
        assert sorted(done) == np.flatnonzero(called[row]).tolist()
        assert answer[row] == max(done, key=lambda j: states.after[row, j])
    limit = options.get("max_models", 1 if "climb" in options else 4)
    assert called.sum(axis=1).max() <= limit
    if options.get("ordered"):
        assert (np.diff(called.astype(int), axis=1) <= 0).all()


def test_more_models_than_can_be_weighed_in_sets():
    rng = np.random.default_rng(0)
    n, m = 40, 16
    states = States(rng.random((n, m)), rng.random((n, m)), np.sort(rng.uniform(0.001, 0.1, m)))
    states.factor = lambda answered: 0.05 * np.diag([0.0 if answered >> j & 1 else 1.0 for j in range(m)])
    for policy in (
        CascadeRouting(willingness_to_pay=0.5, samples=64),
        CascadeRouting(willingness_to_pay=0.5, samples=64, ordered=True),
    ):
        called, _ = policy.run(states)
        for row in range(n):
            done = []
            while True:
                quality = states.quality(columns(done), np.array([row]))[0]
                chosen = policy.decide(quality, states.cost[row], answered=columns(done), factor=states.factor(columns(done)))
                if chosen is None:
                    break
                done.append(chosen)
            assert sorted(done) == np.flatnonzero(called[row]).tolist()


def test_somebody_is_called_first_whatever_it_costs():
    policy = CascadeRouting(willingness_to_pay=1e-6)
    assert policy.decide(np.array([0.1, 0.2]), np.array([1.0, 5.0]), factor=np.eye(2)) == 0
    assert policy.decide(np.array([np.nan, np.nan]), np.array([1.0, 5.0])) == 0
    assert policy.decide(np.array([np.nan, 0.1]), np.array([1.0, 5.0])) == 1
    assert policy.decide(np.array([0.1, 0.9]), np.array([1.0, 5.0]), answered=1) is None


def test_after_a_failure_it_is_decided_anew():
    quality, cost = np.array([0.8, 0.5, 0.7]), np.array([0.01, 0.02, 0.05])
    policy = CascadeRouting(willingness_to_pay=1.0)
    assert policy.decide(quality, cost) == 0
    # The failed model's estimate counts no more, neither as an answer nor as an option.
    assert policy.decide(quality, cost, failed=0b1) == 2
    assert policy.decide(quality, cost, failed=0b101) == 1
    assert policy.decide(quality, cost, failed=0b111) is None
    assert policy.decide(quality, cost, failed=0b1, answered=0b100) is None
    assert CascadeRouting(willingness_to_pay=1.0, climb=False).decide(quality, cost, failed=0b1) == 2
    assert CascadeRouting(willingness_to_pay=1.0, ordered=True).decide(quality, cost, failed=0b1) == 1


def test_hard_limits():
    quality, cost = np.array([0.1, 0.5, 0.9]), np.array([0.01, 0.02, 0.05])
    policy = CascadeRouting(max_models=2)
    assert policy.decide(quality, cost, allowed=0b011) == 1
    assert policy.decide(quality, cost, allowed=0b001) == 0
    assert policy.decide(quality, cost, allowed=0) is None
    assert policy.decide(quality, cost, answered=0b1) == 2
    assert policy.decide(quality, cost, answered=0b11) is None
    assert policy.decide(quality, cost, answered=0b1, failed=0b10) is None
    assert policy.decide(quality, cost, failed=0b11) is None
    assert policy.calls == 2
    assert CascadeRouting().calls is None


def test_a_limit_counts_failed_calls_when_sets_are_weighed():
    # Together the first two are worth .5 + .3 / sqrt(pi) - .02 = .649, alone the third is worth .58, the first .49.
    quality, cost = np.array([0.5, 0.5, 0.6, 0.0]), np.array([0.01, 0.01, 0.02, 0.01])
    factor = np.diag([0.3, 0.3, 0.0, 0.0])
    assert CascadeRouting(willingness_to_pay=1.0, max_models=3).decide(quality, cost, factor=factor, failed=0b1000) == 0
    assert CascadeRouting(willingness_to_pay=1.0, max_models=2).decide(quality, cost, factor=factor, failed=0b1000) == 2


def test_each_step_has_its_lambda():
    states, truth, cost = random_states(5, 80, 3)
    policy = CascadeRouting(budget=0.003, samples=64).fit(states, truth, cost)
    policy.rates_ = Rates(table=np.array([[200.0, 5.0, 0.0]]), shares=np.ones(1))
    called, _ = policy.run(states)
    for row in range(80):
        done = []
        while True:
            quality = states.quality(columns(done), np.array([row]))[0]
            given = {"answered": columns(done), "factor": states.factor(columns(done))}
            rate = (200.0, 5.0, 0.0)[min(len(done), 2)]
            chosen = policy.decide(quality, cost[row], **given)
            assert chosen == policy.decide(quality, cost[row], step=len(done), **given)
            same = CascadeRouting(willingness_to_pay=1.0 / rate if rate else math.inf)
            same._sets = policy._sets
            assert chosen == same.decide(quality, cost[row], **given)
            if chosen is None:
                break
            done.append(chosen)
        assert sorted(done) == np.flatnonzero(called[row]).tolist()
    assert set(called.sum(axis=1).tolist()) >= {1, 2}


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    answered=st.integers(0, 31),
    failed=st.integers(0, 31),
    allowed=st.integers(0, 31),
    most=st.integers(1, 5),
    flags=st.sampled_from([{}, {"climb": False}, {"ordered": True}]),
)
def test_nobody_is_called_who_may_not_be(seed, answered, failed, allowed, most, flags):
    rng = np.random.default_rng(seed)
    failed &= ~answered
    policy = CascadeRouting(willingness_to_pay=0.5, max_models=most, samples=64, **flags)
    quality = np.where(rng.random(5) < 0.2, np.nan, rng.random(5))
    factor = None if rng.random() < 0.5 else 0.2 * np.eye(5)
    chosen = policy.decide(quality, np.sort(rng.random(5)), answered=answered, failed=failed, allowed=allowed, factor=factor)
    open_ = allowed & ~(answered | failed)
    if chosen is not None:
        assert open_ >> chosen & 1
        assert (answered | failed).bit_count() < most
    elif not answered:
        assert not open_ or (answered | failed).bit_count() >= most


def test_waiting_is_weighed():
    quality, cost, latency = np.array([0.6, 0.9]), np.array([0.01, 0.01]), np.array([1.0, 5.0])
    assert CascadeRouting(latency_weight=0.05).decide(quality, cost, latency=latency) == 1
    # .6 - .1 = .5 against .9 - .5 = .4.
    assert CascadeRouting(latency_weight=0.1).decide(quality, cost, latency=latency) == 0
    for unknown in (None, np.array([1.0, np.nan])):
        with pytest.raises(DataError, match="latency is weighed"):
            CascadeRouting(latency_weight=0.1).decide(quality, cost, latency=unknown)


def test_unknown_costs_are_not_free():
    quality, cost = np.array([0.6, 0.9]), np.array([0.01, np.nan])
    with pytest.raises(DataError, match="no known cost"):
        CascadeRouting(willingness_to_pay=1.0).decide(quality, cost)
    assert CascadeRouting().decide(quality, cost) == 1
    assert CascadeRouting(willingness_to_pay=1.0).decide(np.array([0.6, np.nan]), cost) == 0


def test_saved_it_decides_the_same():
    states, truth, cost = random_states(1, 200, 3)
    policy = CascadeRouting(budget=0.0025, seed=3, samples=64, max_models=2).fit(states, truth, cost)
    config, arrays = policy.state()
    again = CascadeRouting.from_state({"kind": policy.kind, **json.loads(json.dumps(config))}, arrays)
    assert repr(again) == repr(policy) == "CascadeRouting(budget=0.0025, max_models=2, samples=64, seed=3)"
    assert all((one == other).all() for one, other in zip(policy.run(states), again.run(states), strict=True))
    assert (again.state()[1]["draws"] == arrays["draws"]).all()
    assert (again.expected_cost_, again.expected_quality_) == (policy.expected_cost_, policy.expected_quality_)
    # The draws themselves are kept: others are not made in their place.
    arrays["draws"] = arrays["draws"][:, ::-1] * 0.0
    assert (CascadeRouting.from_state(config, arrays)._supermodels(3).draws == 0.0).all()
    fresh = CascadeRouting.from_state(*CascadeRouting(willingness_to_pay=math.inf).state())
    assert fresh.decide(np.array([0.1, 0.2]), np.array([0.1, 0.2])) == 1


def test_equal_policies_decide_alike():
    states, truth, cost = random_states(1, 100, 3)
    one, other = (CascadeRouting(budget=0.003, samples=64).fit(states, truth, cost) for _ in range(2))
    assert (one.rates_.table == other.rates_.table).all()
    assert (one.run(states)[0] == other.run(states)[0]).all()


def test_draws_of_keys_are_spread():
    drawn = np.array([draw_of(f"query {i}") for i in range(4000)])
    assert drawn.min() >= 0.0
    assert drawn.max() < 1.0
    assert np.histogram(drawn, 4, (0.0, 1.0))[0] == pytest.approx(1000, abs=120)
    assert draw_of("a") == draw_of("a") != draw_of("b")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"budget": 0.0}, "budget=0.0 must be a positive number"),
        ({"budget": math.inf}, "must be a positive number"),
        ({"willingness_to_pay": 0.0}, "must be above 0 USD"),
        ({"budget": 0.1, "willingness_to_pay": 1.0}, "give budget or willingness_to_pay"),
        ({"latency_weight": -1.0}, "latency_weight=-1.0"),
        ({"max_models": 0}, "max_models=0"),
        ({"max_models": True}, "max_models=True"),
        ({"samples": 8}, "samples=8"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_wrong_options_are_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        CascadeRouting(**options)


def test_wrong_use_is_refused():
    states, truth, cost = random_states(0, 20, 3)
    with pytest.raises(NotFittedError, match=r"call fit\(states, quality, cost\) first"):
        CascadeRouting(budget=0.01).decide(truth[0], cost[0])
    with pytest.raises(DataError, match="give the same queries and models"):
        CascadeRouting(budget=0.01).fit(states, truth[:, :2], cost)
    with pytest.raises(DataError, match="no known cost"):
        CascadeRouting(budget=0.01).fit(States(truth, truth, np.where(cost > 0.004, np.nan, cost)), truth, cost)
    with pytest.raises(DataError, match="no queries"):
        CascadeRouting(budget=0.01).fit(States(truth[:0], truth[:0], cost[:0]), truth[:0], cost[:0])
    with pytest.raises(DataError, match="it was made for 3"):
        CascadeRouting(budget=0.01).fit(states, truth, cost).decide(np.array([0.1, 0.2]), np.array([0.1, 0.2]), factor=np.eye(2))
    with pytest.raises(ConfigError, match="either says where"):
        CascadeRouting().frontier(states, truth, cost)


def test_a_price_far_from_where_decisions_change_still_finds_the_lambda_that_pays():
    """Half of the answers of a nearly free model are right, and show it: without uncertainty only a lambda far above looks."""

    class Shown:
        cost = np.tile([1e-5, 1e-3], (200, 1))
        latency = None

        def __init__(self):
            self.right = np.random.default_rng(0).random(200) < 0.5

        def quality(self, answered, rows):
            before = np.full(len(rows), 0.5)
            return np.column_stack([self.right[rows] if answered & 1 else before, np.ones(len(rows))]).astype(float)

        def factor(self, answered):
            return None

    states = Shown()
    quality = np.column_stack([states.right, np.ones(200)]).astype(float)
    policy = CascadeRouting(willingness_to_pay=0.01).fit(states, quality, states.cost)
    assert policy.expected_quality_ == 1.0
    assert policy.expected_cost_ == pytest.approx(1e-5 + 1e-3 * (1 - states.right.mean()))


@pytest.mark.parametrize("seed", range(200))
def test_where_nothing_costs_the_quick_way_decides_as_all_sets_do(seed):
    """A price too small to matter takes the long way; ties, unknown qualities and answered models come too."""
    rng = np.random.default_rng(seed)
    m = int(rng.integers(1, 8))
    quality = np.round(rng.random(m), 1)
    quality[rng.random(m) < 0.1] = np.nan
    factor = rng.normal(0.0, 0.2, (m, m)) * (rng.random((m, 1)) < 0.8)
    if m > 1 and seed % 3 == 0:
        quality[1], factor[1] = quality[0], factor[0]  # one is the other's double
    answered = int(rng.integers(0, 1 << m)) if seed % 2 else 0
    policy = CascadeRouting()
    long = CascadeRouting(max_models=m + 1, willingness_to_pay=1e30)
    cost = np.sort(rng.random(m))
    found = policy.decide(quality, cost, answered=answered, factor=factor)
    assert found == long.decide(quality, cost, answered=answered, factor=factor)
