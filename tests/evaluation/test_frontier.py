import math
from dataclasses import replace

import numpy as np
import pytest

from agentroute.errors import ConfigError, DataError
from agentroute.estimators import MeanEstimator
from agentroute.evaluation import ByQuery, Replay, evaluate, frontier, metrics
from agentroute.evaluation._frontier import exchange_rates, singles
from agentroute.outcomes import OutcomeTable
from agentroute.policies import UtilityPolicy
from agentroute.router import Router
from agentroute.testing import HashEmbedder, planted_table
from agentroute.types import Estimate, Query

BASELINES = ("best single",)


def replayed(quality, cost, expected, expected_cost=None, *, best=0, fallback=0, groups=None):
    """A replay of n queries and m models, with what a router expected of them."""
    quality, expected = np.array(quality, float), np.array(expected, float)
    n, m = quality.shape
    cost = np.broadcast_to(np.array(cost, float), (n, m))
    models = tuple(f"m{j}" for j in range(m))
    table = OutcomeTable(
        queries=tuple(Query(text="", id=f"q{i}") for i in range(n)), models=models, quality=quality, cost=cost.copy()
    )
    estimate = Estimate(
        models=models,
        quality=np.broadcast_to(expected, (n, m)).copy(),
        quality_std=np.zeros((n, m)),
        cost=np.broadcast_to(cost if expected_cost is None else np.array(expected_cost, float), (n, m)).copy(),
        latency=np.full((n, m), np.nan),
        support=np.ones((n, m)),
        similarity=np.ones(n),
        supported=np.ones(n, bool),
        neighbours=None,
    )
    return Replay(
        table=table,
        shares={},
        best_single=np.full(n, best),
        cheapest=np.zeros(n, int),
        groups=np.arange(n) if groups is None else np.array(groups),
        fold=np.zeros(n, int),
        estimate=estimate,
        fallback=np.full(n, fallback),
    )


def drawn(chances, n, seed):
    return np.random.default_rng(seed).random((n, len(chances))) < chances


@pytest.fixture(scope="module")
def judged():
    train, test = planted_table(400), planted_table(300, seed=2)
    router = Router(train.models, embedder=HashEmbedder()).fit(train)
    return router, test, evaluate(router, test, reference=train, baselines=BASELINES)


def test_every_point_is_what_the_policy_at_that_rate_gets(judged):
    router, test, evaluation = judged
    found = frontier(evaluation, resamples=50)
    rates = [point.willingness_to_pay for point in found.points]
    assert rates == sorted(rates)
    assert rates[-1] == math.inf
    at = np.arange(len(test))
    for point in found.points[:: len(found.points) // 4] + found.points[-1:]:
        policy = UtilityPolicy(willingness_to_pay=point.willingness_to_pay)
        picks = np.array([router.pool.index(one.model) for one in router.route_many(test.queries, policy=policy)])
        assert point.quality.value == pytest.approx(test.quality[at, picks].mean())
        assert point.cost.value == pytest.approx(test.cost[at, picks].mean())
        assert point.shares == pytest.approx({test.models[j]: (picks == j).mean() for j in set(picks.tolist())})
        best = test.models.index(evaluation.best_single)
        assert point.saving.value == pytest.approx(1 - test.cost[at, picks].mean() / test.cost[:, best].mean())
        assert point.gain.value == pytest.approx((test.quality[at, picks] - test.quality[:, best]).mean())


def test_the_lead_over_the_mix_is_measured_from_the_hull(judged):
    _, test, evaluation = judged
    found = frontier(evaluation, resamples=50)
    line = metrics.hull(np.stack([test.cost.mean(axis=0), test.quality.mean(axis=0)], axis=1))
    np.testing.assert_allclose(found.hull, line)
    for point in found.points:
        height = np.interp(point.cost.value, line[:, 0], line[:, 1])
        assert point.over_mix.value == pytest.approx(point.quality.value - height)
    low, high = test.cost.mean(axis=0).min(), test.cost.mean(axis=0).max()
    assert found.aiq_singles.value == pytest.approx(float(metrics.aiq(line, low, high)))
    points = np.array([(point.cost.value, point.quality.value) for point in found.points])
    cheapest = test.cost.mean(axis=0).argmin()
    start = [(test.cost.mean(axis=0)[cheapest], test.quality.mean(axis=0)[cheapest])]
    assert found.aiq.value == pytest.approx(float(metrics.aiq(np.concatenate([start, points]), low, high)))
    points = points[points[:, 0].argsort(kind="stable")]
    curve = np.concatenate([start, points]) if points[0, 0] > low else points
    grid = np.linspace(low, high, 200_001)
    height = np.interp(grid, *curve.T).mean()
    assert found.aiq_gain.value == pytest.approx(height - found.aiq_singles.value, abs=1e-5)
    assert found.aiq_gain.low > 0  # the planted world rewards routing
    assert [one.on_hull for one in found.singles] == [
        tuple(point) in set(map(tuple, line.tolist()))
        for point in np.stack([test.cost.mean(axis=0), test.quality.mean(axis=0)], axis=1).tolist()
    ]


def test_queries_that_the_router_does_not_know_go_to_its_default(judged):
    router, test, evaluation = judged
    strange = replace(evaluation.replay.estimate, supported=np.zeros(len(test), bool))
    lost = replace(evaluation.replay, estimate=strange)
    for point in frontier(lost, resamples=20).points:
        assert point.shares == {router.default: 1.0}


def test_the_oracle_is_worth_more_than_the_router_at_every_rate(judged):
    found = frontier(judged[2], resamples=20)
    assert len(found.oracle) == len(found.points)  # both by rising rate, that is by rising cost
    lead = [
        quality - point.quality.value - (cost - point.cost.value) / point.willingness_to_pay
        for (cost, quality), point in zip(found.oracle, found.points, strict=True)
    ]
    assert min(lead) > -1e-12
    assert max(lead) > 0.01
    assert found.oracle[-1][1] == pytest.approx(judged[1].quality.max(axis=1).mean())


def test_the_oracle_takes_the_best_answer_that_is_worth_its_price():
    # Rates: 0.005 and 0.01, where what is expected changes, and infinity. The dear model is worth 0.004 on the first query
    # alone, by 0.5 (at 0.008 or more) and by 0.9 on the second (at 0.0044 or more).
    found = frontier(replayed([[0.5, 1.0], [0.0, 0.9], [1.0, 0.3]], [0.001, 0.005], [0.5, 0.9]), resamples=5)
    assert [point.willingness_to_pay for point in found.points] == [0.005, 0.01, math.inf]
    np.testing.assert_allclose(found.oracle, [(0.007 / 3, 2.4 / 3), (0.011 / 3, 2.9 / 3), (0.011 / 3, 2.9 / 3)])


def test_the_gain_is_of_the_curve_as_it_is_and_aiq_of_its_hull():
    # The router asks the dear model first where it gains nothing: (1, .5), (2, .5), (3, 1).
    quality = [[1, 1], [1, 1], [0, 1], [0, 1]]
    found = frontier(replayed(quality, [1, 3], [[0.1, 0.9], [0.1, 0.9], [0.5, 0.7], [0.5, 0.7]], best=1), resamples=20)
    assert {(point.cost.value, point.quality.value) for point in found.points} == {(1, 0.5), (2, 0.5), (3, 1.0)}
    assert found.aiq_singles.value == found.aiq.value == pytest.approx(0.75)  # the hull drops the middle
    assert found.aiq_gain.value == pytest.approx((0.5 + 0.75) / 2 - 0.75)
    assert found.best_single == "m1"
    assert {point.gain.value for point in found.points if point.cost.value == 2} == {-0.5}


def test_a_router_of_noise_has_no_gain():
    """The hull of forty points keeps the lucky ones: its lead over the single models is above 0 in seven of ten such logs."""
    ahead = 0
    for seed in range(100):
        rng = np.random.default_rng([7, seed])
        expected = np.clip([0.64, 0.85] + 0.03 * rng.standard_normal((400, 2)), 0, 1)
        found = frontier(replayed(rng.random((400, 2)) < [0.64, 0.85], [0.001, 0.002], expected, best=1), resamples=200)
        assert found.aiq.value >= found.aiq_singles.value
        ahead += found.aiq_gain.low > 0
    assert ahead <= 8  # 3 % of 1,200 logs; of 100, more than 8 come once in three hundred times


def test_means_alone_have_no_gain_and_no_loss_whatever_the_split():
    """At one rate some fits take the strong model and some the weak one: those in whose training part it was better by luck."""
    rng = np.random.default_rng(0)
    log = replayed(rng.random((200, 2)) < [0.6, 0.7], rng.uniform([1, 3], [2, 4], (200, 2)), [0.5, 0.5]).table
    found = evaluate(Router(log.models, estimator=MeanEstimator()), log, split=ByQuery(repeats=4), baselines=BASELINES)
    plane = frontier(found, resamples=100)
    assert any(len(point.shares) == 2 for point in plane.points)
    assert max(abs(end) for end in (plane.aiq_gain.value, plane.aiq_gain.low, plane.aiq_gain.high)) < 1e-12


def test_of_several_splits_the_interval_of_the_gain_has_twice_the_variance():
    rng = np.random.default_rng(1)
    expected = np.clip([0.64, 0.85] + 0.05 * rng.standard_normal((100, 2)), 0, 1)
    expected[50:] = expected[:50]
    quality = rng.random((100, 2)) < [0.64, 0.85]
    quality[50:] = quality[:50]
    log = replayed(quality, [0.001, 0.002], expected, groups=np.arange(100) % 50)
    one, two = (frontier(each, resamples=200).aiq_gain for each in (log, replace(log, fold=np.arange(100) // 50)))
    assert one.value == pytest.approx(two.value)  # two splits that say the same
    assert [two.low - two.value, two.high - two.value] == pytest.approx(
        [math.sqrt(2) * (one.low - one.value), math.sqrt(2) * (one.high - one.value)]
    )


def test_splits_weigh_as_their_queries_and_those_without_a_range_of_costs_not_at_all():
    # One split of three queries whose curve rises from 0 to 1, one of two that is level at 1, and one of models of one cost.
    log = replayed(
        [[0, 1]] * 3 + [[1, 1]] * 2 + [[0, 1]],
        [[1, 3]] * 5 + [[2, 2]],
        [[0.1, 0.9]] * 6,
        [[1, 3]] * 3 + [[1, 1]] * 2 + [[2, 2]],
    )
    found = frontier(replace(log, fold=np.array([0, 0, 0, 1, 1, 2])), resamples=50)
    assert found.aiq_gain.value == pytest.approx((3 * 0.5 + 2 * 1.0) / 5 - found.aiq_singles.value)


def test_a_router_that_knows_has_a_gain():
    for seed in range(10):
        chances = np.where(np.arange(400)[:, None] % 2 == 0, [0.8, 0.85], [0.4, 0.85])
        quality = np.random.default_rng(seed).random((400, 2)) < chances
        assert frontier(replayed(quality, [0.001, 0.002], chances, best=1), resamples=200).aiq_gain.low > 0.01


def test_below_the_cheapest_model_the_mix_is_that_model():
    # Each model is cheap on one of the queries, so that the router pays less than any single model: 1.25 against 2.
    found = frontier(replayed([[1, 0], [0, 1]] * 5, [[1, 3], [3, 1.5]] * 5, [0.5, 0.5]), resamples=20)
    assert found.points[-1].cost.value == 1.25
    assert found.points[-1].over_mix.value == pytest.approx(1.0 - 0.5)
    assert found.aiq_gain.value == pytest.approx(0.5)  # it begins left of the range of costs and stays level in it


def test_the_mix_is_that_of_the_same_resample():
    quality = drawn([0.4, 0.6], 100, 0)
    found = frontier(replayed(quality, [1, 3], [0.4, 0.6], [1, 1], best=1), resamples=100)
    [always] = found.points  # expected costs are alike: the better one at every rate
    assert (always.quality.low, always.quality.high) != (always.quality.value, always.quality.value)
    for figure in (always.over_mix, always.gain, found.aiq_gain):  # the router is that model in every resample
        assert max(abs(figure.low), abs(figure.value), abs(figure.high)) < 1e-12
    assert found.aiq.value == pytest.approx(quality.mean())  # from the cheapest model, which it can always be, to the dearest
    assert found.aiq.low == found.aiq_singles.low


def test_a_router_that_is_always_a_dear_bad_model_loses():
    found = frontier(replayed([[1, 0], [1, 1]] * 5, [1, 3], [0.4, 0.6], [1, 1]), resamples=5)
    assert (found.aiq.value, found.aiq_singles.value) == (1.0, 1.0)  # either hull stays with the cheap one
    assert found.aiq_gain.value == pytest.approx((1.0 + 0.5) / 2 - 1.0)


def test_of_equals_the_cheaper_one_answers_and_where_nothing_is_known_the_default():
    [tie] = frontier(replayed([[1, 1]] * 4, [3, 1], [0.7, 0.7]), resamples=5).points
    assert tie.shares == {"m1": 1.0}
    expected = [[0.9, 0.2, 0.1], *[[np.nan] * 3] * 3]
    [point] = frontier(replayed([[1, 1, 1]] * 4, [1, 2, 3], expected, fallback=1), resamples=5).points
    assert point.shares == {"m0": 0.25, "m1": 0.75}


def test_models_of_one_cost_have_no_range_of_costs():
    found = frontier(replayed([[1, 0], [0, 1]] * 5, [1, 1], [0.5, 0.6]), resamples=20)
    assert all(math.isnan(one.value) for one in (found.aiq, found.aiq_singles, found.aiq_gain))
    free = frontier(replayed([[1, 0], [1, 1]] * 5, [0, 3], [0.5, 0.6]), resamples=20)
    assert math.isnan(free.points[-1].saving.value)  # there is no share of nothing


def test_unique_wins_are_those_of_one_model_alone(judged):
    _, test, evaluation = judged
    top = test.quality.max(axis=1, keepdims=True)
    alone = (test.quality == top) & ((test.quality == top).sum(axis=1, keepdims=True) == 1)
    for j, single in enumerate(frontier(evaluation, resamples=20).singles):
        assert single.unique_wins.value == pytest.approx(alone[:, j].mean())


def test_rates_lie_where_decisions_change():
    quality, cost = np.array([[0.5, 0.9]] * 3), np.array([[0.001, 0.005]] * 3)
    assert exchange_rates(quality, cost) == [0.005, 0.01, math.inf]  # the change is at .004 / .4
    assert exchange_rates(quality[:, ::-1], cost) == [math.inf]  # the cheaper one is better: nothing to trade
    assert exchange_rates(np.full((3, 2), np.nan), cost) == [math.inf]


def test_rates_reach_from_the_first_to_the_last_hundredth_of_the_changes():
    cost = np.stack([np.zeros(101), np.arange(1, 102) / 200], axis=1)  # with half a unit of quality: changes at .01 to 1.01
    rates = exchange_rates(np.broadcast_to([0.25, 0.75], (101, 2)), cost)
    assert len(rates) == 40
    assert rates[0] == 0.01  # half of the second change
    assert rates[-2:] == [0.99, math.inf]
    np.testing.assert_allclose(np.diff(rates[1:-1]), 0.97 / 38, atol=0.011)  # as many changes from each to the next


def test_queries_of_unknown_cost_are_left_out(judged):
    _, test, evaluation = judged
    cost = np.where(np.arange(300)[:, None] < 100, np.nan, test.cost)
    partly = replace(evaluation.replay, table=replace(test, cost=cost))
    found = frontier(partly, resamples=20)
    assert found.points[-1].quality.value != pytest.approx(frontier(evaluation, resamples=20).points[-1].quality.value)
    with pytest.raises(DataError, match="cost of every model"):
        frontier(replace(evaluation.replay, table=replace(test, cost=np.full(test.cost.shape, np.nan))))


def test_what_expects_nothing_has_no_frontier():
    table = planted_table(60)
    found = evaluate(lambda queries: ["m0"] * len(queries), table, baselines=BASELINES)
    with pytest.raises(ConfigError, match="fitted router"):
        frontier(found)


def test_a_query_of_several_splits_counts_once():
    table = planted_table(120)
    router = Router(table.models, embedder=HashEmbedder())
    found = evaluate(router, table, split=ByQuery(test=0.5, repeats=4), baselines=BASELINES)
    assert found.queries == len({q.key() for q in found.replay.table.queries}) < len(found.replay.table)
    several = frontier(found, resamples=200).points[-1].quality
    apart = frontier(replace(found.replay, groups=np.arange(len(found.replay.table))), resamples=200).points[-1].quality
    assert several.high - several.low > apart.high - apart.low  # four looks at one query are not four queries


def test_a_query_of_several_splits_counts_once_in_every_figure():
    # The first query was judged four times, the second once.
    quality, cost = [[1, 0]] * 4 + [[0, 1]], [[1, 3]] * 4 + [[2, 7]]
    found = frontier(replayed(quality, cost, [[0.9, 0.1]] * 4 + [[0.1, 0.9]], groups=[0, 0, 0, 0, 1]), resamples=20)
    assert [one.quality.value for one in found.singles] == pytest.approx([0.5, 0.5])
    assert [one.cost.value for one in found.singles] == pytest.approx([1.5, 5.0])
    np.testing.assert_allclose(found.hull, [(1.5, 0.5)])
    assert found.points[-1].quality.value == pytest.approx(1.0)
    assert found.points[-1].cost.value == pytest.approx(4.0)
    assert found.points[-1].shares == pytest.approx({"m0": 0.5, "m1": 0.5})
    np.testing.assert_allclose(found.oracle[-1], (4.0, 1.0))
    alone = singles(replayed(quality, cost, [0.5, 0.5], groups=[0, 0, 0, 0, 1]), resamples=20)
    assert repr(alone) == repr(found.singles)  # NaN latencies, which equal nothing


def test_the_cost_of_a_quality_is_where_the_hull_reaches_it():
    line = np.array([[1.0, 0.5], [3.0, 0.9], [9.0, 0.95]])
    np.testing.assert_allclose(metrics.cost_at(line, [0.4, 0.5, 0.7, 0.9, 0.925, 0.95, 0.96]), [1, 1, 2, 3, 6, 9, np.nan])
    heights = np.linspace(0.5, 0.95, 50)
    np.testing.assert_allclose(metrics.hull_at(line, metrics.cost_at(line, heights)), heights)
    assert metrics.cost_at([[2.0, 0.7]], 0.7) == 2.0
    with pytest.raises(DataError, match="does not rise"):
        metrics.cost_at([[1.0, 0.5], [2.0, 0.5]], 0.5)


def test_what_is_no_evaluation_is_told_what_to_give():
    table = planted_table(60)
    router = Router(table.models, embedder=HashEmbedder()).fit(table)
    for given in ((router, table), (router,), (evaluate(router, table), table)):
        with pytest.raises(ConfigError, match=r"frontier\(evaluate\(router, table\)\)"):
            frontier(*given)
