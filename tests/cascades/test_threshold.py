import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.cascades._threshold import Chain, ThresholdCascade
from agentroute.errors import ConfigError, DataError, NotFittedError


class Known:
    """Estimates of every state, drawn at random around the truth."""

    latency = None

    def __init__(self, n, m, seed=0, noise=0.3):
        rng = np.random.default_rng(seed)
        self.truth = (rng.random((n, m)) < np.linspace(0.4, 0.9, m)).astype(float)
        self.cost = np.tile(np.geomspace(1, 9, m), (n, 1))
        self.estimates = {
            run: np.clip(0.5 + 0.4 * (self.truth - 0.5) + noise * rng.standard_normal((n, m)), 0, 1) for run in range(1 << m)
        }

    def quality(self, answered, rows, /):
        return self.estimates[answered][rows]

    def factor(self, answered, /):
        return None


def by_hand(states, chain, row):
    """Who is called, and whose answer is taken."""
    run = 0
    for place, column in enumerate(chain.columns):
        run |= 1 << column
        if place == len(chain.thresholds) or states.estimates[run][row, column] >= chain.thresholds[place]:
            return run, column
    raise AssertionError


def test_the_frontier_is_that_of_all_chains_and_thresholds():
    states = Known(60, 3)
    policy = ThresholdCascade(levels=4).fit(states, states.truth, states.cost)
    shares = np.arange(1, 5) / 5
    points = []
    for size in (1, 2, 3):
        for columns in itertools.combinations(range(3), size):
            grids = [
                np.quantile(states.estimates[sum(1 << c for c in columns[: place + 1])][:, columns[place]], shares)
                for place in range(size - 1)
            ]
            for thresholds in itertools.product(*grids):
                chain = Chain(columns=columns, thresholds=thresholds, quality=0, cost=0)
                ends = [by_hand(states, chain, row) for row in range(60)]
                cost = np.mean([sum(states.cost[0, j] for j in range(3) if run >> j & 1) for run, _ in ends])
                quality = np.mean([states.truth[row, answer] for row, (_, answer) in enumerate(ends)])
                points.append((cost, quality, columns, thresholds))
    best = [p for p in points if not any(o[0] <= p[0] + 1e-9 and o[1] > p[1] + 1e-9 for o in points)]
    best = sorted({(round(p[0], 9), round(p[1], 9)) for p in best})
    kept = [p for i, p in enumerate(best) if all(p[1] > other[1] for other in best[:i])]
    assert [(round(one.cost, 9), round(one.quality, 9)) for one in policy.frontier_] == kept
    assert policy.chain_ == policy.frontier_[-1]  # quality alone


@settings(max_examples=40, deadline=None)
@given(m=st.integers(1, 5), seed=st.integers(0, 50), data=st.data())
def test_deciding_one_by_one_is_running_them_all(m, seed, data):
    states = Known(12, m, seed)
    columns = tuple(sorted(data.draw(st.sets(st.integers(0, m - 1), min_size=1, max_size=3))))
    thresholds = tuple(data.draw(st.floats(0, 1)) for _ in columns[1:])
    chain = Chain(columns=columns, thresholds=thresholds, quality=0.5, cost=1.0)
    policy = ThresholdCascade().using(chain)
    called, answer = policy.run(states)
    for row in range(12):
        run = 0
        while (column := policy.decide(states.estimates[run][row], states.cost[row], answered=run)) is not None:
            run |= 1 << column
        assert (run, answer[row]) == by_hand(states, chain, row)
        assert run == sum(1 << j for j in range(m) if called[row, j])
    assert policy.calls == len(columns)


def test_the_expected_figures_are_those_of_the_run():
    states = Known(300, 4, noise=0.2)
    policy = ThresholdCascade().fit(states, states.truth, states.cost)
    for one in policy.frontier_[:: max(1, len(policy.frontier_) // 10)]:
        called, answer = policy.using(one).run(states)
        assert (called * states.cost).sum(axis=1).mean() == pytest.approx(one.cost)
        assert states.truth[np.arange(300), answer].mean() == pytest.approx(one.quality)


def test_a_budget_is_kept_and_money_can_have_a_price():
    states = Known(300, 3, noise=0.2)
    free = ThresholdCascade().fit(states, states.truth, states.cost)
    kept = ThresholdCascade(budget=3.0).fit(states, states.truth, states.cost)
    assert kept.chain_.cost <= 3.0
    assert kept.chain_.quality == max(one.quality for one in free.frontier_ if one.cost <= 3.0)
    priced = ThresholdCascade(willingness_to_pay=20.0).fit(states, states.truth, states.cost)
    worth = [one.quality - one.cost / 20 for one in free.frontier_]
    assert priced.chain_ == free.frontier_[int(np.argmax(worth))]
    with pytest.raises(ConfigError, match=r"cheapest model alone costs \$1 a query"):
        ThresholdCascade(budget=0.5).fit(states, states.truth, states.cost)


def test_a_useless_confidence_ends_in_one_model():
    states = Known(800, 2)
    rng = np.random.default_rng(1)
    states.truth = (rng.random((800, 2)) < [0.25, 0.72]).astype(float)
    states.estimates = {run: rng.random((800, 2)) for run in range(4)}  # no idea
    states.cost = np.tile([1.3, 3.6], (800, 1))
    chain = ThresholdCascade(willingness_to_pay=20.0).fit(states, states.truth, states.cost).chain_
    assert chain.columns == (1,)


def test_failed_and_forbidden_models_are_skipped():
    policy = ThresholdCascade().using(Chain(columns=(0, 2, 3), thresholds=(0.5, 0.7), quality=0, cost=0))
    q, c = np.array([0.4, 0.9, 0.6, 0.9]), np.array([1.0, 2.0, 3.0, 4.0])
    assert policy.decide(q, c) == 0
    assert policy.decide(q, c, failed=0b0001) == 2
    assert policy.decide(q, c, answered=0b0001) == 2
    assert policy.decide(q, c, answered=0b0001, failed=0b0100) == 3
    assert policy.decide(q, c, answered=0b0001, allowed=0b1010) == 3
    assert policy.decide(q, c, answered=0b0101) == 3  # judged by the last answer's own threshold
    assert policy.decide(q, c, answered=0b1001) is None  # the end of the chain
    assert policy.decide(q, c, answered=0b0001, failed=0b1100) is None  # nobody is left: what is there is taken
    assert policy.decide(q, c, failed=0b1101) == 1  # nobody of the chain can
    assert policy.decide(q, c, failed=0b1111) is None
    assert policy.decide(np.array([0.5, 0, 0, 0]), c, answered=1) is None  # the threshold itself is enough
    assert policy.decide(np.array([math.nan, 0, 0, 0]), c, answered=1) == 2  # an answer of which nothing is known is not


def test_gaps_of_the_log_are_filled_with_estimates():
    states = Known(50, 2)
    quality, cost = states.truth.copy(), states.cost.copy()
    quality[:20, 1], cost[:20, 1] = np.nan, np.nan
    policy = ThresholdCascade().fit(states, quality, cost)
    alone = next(one for one in policy.frontier_ if one.columns == (0,))
    assert alone.quality == pytest.approx(states.truth[:, 0].mean())
    best = policy.using(Chain(columns=(1,), thresholds=(), quality=0, cost=0))
    assert best.run(states)[1].tolist() == [1] * 50


def test_what_was_fitted_survives_saving():
    states = Known(80, 3)
    for policy in (ThresholdCascade(budget=4.0, levels=7), ThresholdCascade(longest=2)):
        policy.fit(states, states.truth, states.cost)
        config, arrays = policy.state()
        again = ThresholdCascade.from_state({"kind": "threshold", **json.loads(json.dumps(config))}, arrays)
        assert again.chain_ == policy.chain_
        assert repr(again) == repr(policy)
    assert repr(policy) == "ThresholdCascade(budget=None, willingness_to_pay=inf, longest=2, levels=20)"


def test_what_cannot_be_is_refused():
    for options in (
        {"budget": 0},
        {"budget": math.inf},
        {"willingness_to_pay": 0},
        {"longest": 0},
        {"longest": 4},
        {"levels": 0},
    ):
        with pytest.raises(ConfigError):
            ThresholdCascade(**options)
    with pytest.raises(NotFittedError, match="ThresholdCascade is not fitted"):
        ThresholdCascade().decide(np.ones(2), np.ones(2))
    states = Known(5, 2)
    with pytest.raises(DataError, match="same rows and columns"):
        ThresholdCascade().fit(states, states.truth[:4], states.cost)
