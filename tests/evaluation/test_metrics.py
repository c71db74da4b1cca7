"""Each metric against values computed by hand, closed forms, and definitions spelt out in loops."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentroute.evaluation import bootstrap, metrics

NAN = math.nan
QUALITY = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 0], [1, 0, 0.5], [0, 1, 0]])
COST = np.tile([1.0, 2.0, 4.0], (6, 1))
CHOSEN = np.array([0, 1, 2, 0, 2, 1])
SHARES = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.25, 0.25, 0.5], [1 / 3] * 3, [0, 0, 1], [0.5, 0, 0.5]])


def close(value, rel=1e-12):
    return pytest.approx(value, rel=rel, abs=1e-12, nan_ok=True)


class TestChoicesByHand:
    """On the 6 by 3 matrix above: μ 3.5/6, oracle 5/6, random 8.5/18, single models 3/6, 3/6 and 2.5/6."""

    def test_realised(self):
        assert metrics.realised(QUALITY, CHOSEN).tolist() == [1, 1, 0, 0, 0.5, 1]
        assert metrics.realised(COST, CHOSEN).tolist() == [1, 2, 4, 1, 4, 2]
        assert metrics.realised(QUALITY, SHARES).tolist() == close([1, 0.5, 0.5, 0, 0.5, 0])

    def test_realised_needs_only_what_may_be_chosen(self):
        holes = [[1.0, NAN], [NAN, 0.5], [NAN, 1.0]]
        assert metrics.realised(holes, [0, 1, 0]).tolist() == close([1.0, 0.5, NAN])
        assert metrics.realised(holes, [[1, 0], [0, 1], [0.5, 0.5]]).tolist() == close([1.0, 0.5, NAN])

    def test_mean(self):
        assert metrics.mean(QUALITY).tolist() == close([1 / 2, 1 / 2, 2.5 / 6])
        assert metrics.mean([1.0, NAN, 0.0, NAN], weights=[1, 9, 3, 9]) == 0.25
        assert metrics.mean([[1.0, NAN], [NAN, NAN]]).tolist() == close([1.0, NAN])

    def test_mu(self):
        assert metrics.mu(QUALITY, CHOSEN) == close(3.5 / 6)
        assert metrics.mu(QUALITY, SHARES) == close(2.5 / 6)
        assert metrics.mu(QUALITY, CHOSEN, weights=[1, 0, 2, 0, 1, 0]) == close(1.5 / 4)

    def test_vr(self):
        assert metrics.vr(QUALITY, CHOSEN, 0.875) == close(2 / 3)

    def test_vb(self):
        assert metrics.vb(QUALITY, CHOSEN) == close(7 / 6)
        # The best single model of a resample is its own: here the last, with 2 / 2.
        assert metrics.vb(QUALITY, CHOSEN, weights=[[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]]).tolist() == close([7 / 6, 1])
        assert metrics.vb(np.zeros((2, 2)), [0, 1]) == close(NAN)

    def test_entropy(self):
        assert metrics.entropy(SHARES) == close((0 + 1 + 1.5 + math.log2(3) + 0 + 1) / 6)
        assert metrics.entropy(np.full((4, 8), 1 / 8)) == close(3)

    def test_oracle_mix(self):
        assert metrics.oracle_mix(QUALITY, 0.0) == close(17 / 36)
        assert metrics.oracle_mix(QUALITY, 0.5) == close(47 / 72)
        assert metrics.oracle_mix(QUALITY, 1.0) == close(5 / 6)

    def test_oracle_equivalent(self):
        assert metrics.oracle_equivalent(QUALITY, CHOSEN) == close(4 / 13)
        assert metrics.oracle_mix(QUALITY, metrics.oracle_equivalent(QUALITY, CHOSEN)) == close(3.5 / 6)
        assert metrics.oracle_equivalent(QUALITY, QUALITY.argmax(axis=1)) == close(1)
        assert metrics.oracle_equivalent(QUALITY, np.full((6, 3), 1 / 3)) == close(0)
        # The mean of three times 0.35 is a rounding below 0.35.
        assert metrics.oracle_equivalent(np.full((3, 3), 0.35), [0, 1, 2]) == close(NAN)

    def test_gap_recovered(self):
        assert metrics.gap_recovered(QUALITY, CHOSEN, 0) == close(0.25)
        assert metrics.gap_recovered(QUALITY, CHOSEN, [0, 0, 0, 0, 0, 1]) == close(-0.5)
        assert metrics.gap_recovered(QUALITY, np.zeros(6, int), 0) == 0.0
        assert metrics.gap_recovered(QUALITY[:1], [1], 0) == close(NAN)

    def test_regret(self):
        assert metrics.regret(QUALITY, CHOSEN) == close(0.25)
        assert metrics.regret(QUALITY, CHOSEN, cost=COST) == close(0.25)
        assert metrics.regret(QUALITY, CHOSEN, cost=COST, willingness_to_pay=8.0) == close(2.25 / 6)


def expected_curve(score, weak, strong):
    """PGR(f) for f = 0, 1/n, …, 1: the mean over every order that the scores allow."""
    orders = [
        order
        for order in itertools.permutations(range(len(score)))
        if all(score[a] >= score[b] for a, b in itertools.pairwise(order))
    ]
    gap = sum(strong) - sum(weak)
    curves = [[sum(strong[i] - weak[i] for i in order[:calls]) / gap for calls in range(len(score) + 1)] for order in orders]
    return [sum(column) / len(orders) for column in zip(*curves, strict=True)]


class TestPairs:
    def test_pgr(self):
        assert metrics.pgr([0.5, 0.75, 1.1], 0.5, 1.0).tolist() == close([0, 0.5, 1.2])
        assert metrics.pgr(0.7, 0.6, 0.6) == close(NAN)
        assert metrics.pgr(0.7, 0.3, 0.1 + 0.2) == close(NAN)
        assert metrics.pgr([0.7, 0.7], [0.6, 0.8], [0.8, 0.6]).tolist() == close([0.5, NAN])

    def test_by_hand(self):
        # Gains 1, 0, -1, 1 in order of score: PGR 0, 1, 1, 0, 1; trapezoids 1/2, 1, 1/2, 1/2 of width 1/4.
        asked = ([4, 3, 2, 1], [0, 1, 1, 0], [1, 1, 0, 1])
        assert metrics.apgr(*asked) == close(2.5 / 4)
        assert metrics.cpt(*asked, 0.5) == 0.25

    @given(
        st.lists(
            st.tuples(st.integers(0, 2), st.sampled_from([0, 0.5, 1]), st.sampled_from([0, 0.25, 1])), min_size=1, max_size=5
        )
    )
    def test_is_the_mean_over_all_orders_of_equal_scores(self, rows):
        score, weak, strong = zip(*rows, strict=True)
        if sum(strong) <= sum(weak):
            assert math.isnan(metrics.apgr(score, weak, strong))
            assert math.isnan(metrics.cpt(score, weak, strong, 0.5))
            return
        curve = expected_curve(score, weak, strong)
        assert metrics.apgr(score, weak, strong) == close(sum(map(sum, itertools.pairwise(curve))) / 2 / len(score))
        for level in (0.0, 0.2, 0.5, 0.8, 1.0):
            calls = next(calls for calls, reached in enumerate(curve) if reached >= level - 1e-12)
            assert metrics.cpt(score, weak, strong, level) == close(calls / len(score))

    @pytest.mark.parametrize("useful", [1, 30, 100])
    def test_orders_that_know_all_or_nothing(self, useful):
        strong = np.repeat([1.0, 0.0], [useful, 100 - useful])
        weak, order = np.zeros(100), np.arange(100)
        assert metrics.apgr(-order, weak, strong) == close(1 - useful / 200)
        assert metrics.apgr(order, weak, strong) == close(useful / 200)
        assert metrics.apgr(np.zeros(100), weak, strong) == close(0.5)
        assert metrics.cpt(-order, weak, strong, 0.5) == close(math.ceil(useful / 2) / 100)
        assert metrics.cpt(np.zeros(100), weak, strong, 0.8) == close(0.8)

    def test_two_models_that_differ_by_rounding_have_no_gap(self):
        weak, strong = np.array([0.1, 0.2, 0.3, 0.4, 0.7]), np.array([0.2, 0.4, 0.1, 0.3, 0.7])
        assert (strong - weak).cumsum()[-1] > 0
        assert metrics.apgr(np.arange(5, 0, -1), weak, strong) == close(NAN)
        assert metrics.cpt(np.arange(5, 0, -1), weak, strong, 0.5) == close(NAN)

    def test_an_oracle_recovers_more_than_the_gap(self):
        weak, strong = np.array([0.0, 0.0, 0.0, 1.0]), np.array([1.0, 1.0, 0.0, 0.0])
        assert metrics.apgr(strong - weak, weak, strong) == close((0.5 + 1.5 + 2 + 1.5) / 4)
        assert metrics.cpt(strong - weak, weak, strong, 1.0) == 0.25

    def test_only_the_order_of_the_scores_counts(self):
        rng = np.random.default_rng(0)
        score, weak, strong = rng.normal(size=50), rng.random(50), rng.random(50) + 0.3
        assert metrics.apgr(np.exp(score), weak, strong) == metrics.apgr(score, weak, strong)
        assert metrics.apgr(-score, weak, strong) == close(1 - metrics.apgr(score, weak, strong))


def chord_height(points, cost):
    """The best that one point, or a mix of two, reaches for `cost`: by every chord."""
    heights = [q for c, q in points if c <= cost]
    for (c1, q1), (c2, q2) in itertools.permutations(points, 2):
        if c1 <= cost <= c2 and c1 < c2:
            heights.append(q1 + (q2 - q1) * (cost - c1) / (c2 - c1))
    return max(heights, default=NAN)


def simpson(function, low, high, kinks):
    """∫ function over [low, high], with kinks at those places."""
    places = sorted({low, high, *(x for x in kinks if low < x < high)})
    total = 0.0
    for a, b in itertools.pairwise(places):
        grid = np.linspace(a, b, 201)
        values = np.array([function(x) for x in grid])
        total += (b - a) / 600 * (values[0] + 4 * values[1::2].sum() + 2 * values[2:-1:2].sum() + values[-1])
    return total


POINTS = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 10)), min_size=1, max_size=8)


class TestFrontier:
    def test_hull_by_hand(self):
        points = [(3, 0.9), (1, 0.5), (2, 0.5), (2, 0.7), (4, 0.8), (1, 0.3), (6, 0.9), (2.5, 0.79)]
        assert metrics.hull(points).tolist() == [[1, 0.5], [3, 0.9]]
        assert metrics.hull([(1, 0.5), (1, 0.7)]).tolist() == [[1, 0.7]]
        assert metrics.hull([(1, 0.7), (2, 0.6)]).tolist() == [[1, 0.7]]

    @given(POINTS)
    def test_hull_is_the_best_chord_everywhere(self, points):
        vertices = metrics.hull(points)
        assert {tuple(vertex) for vertex in vertices.tolist()} <= set(points)
        slopes = np.diff(vertices[:, 1]) / np.diff(vertices[:, 0])
        assert (slopes > 0).all()
        assert (np.diff(slopes) < 0).all()
        asked = np.linspace(0, 13, 53)
        assert metrics.hull_at(vertices, asked).tolist() == close([chord_height(points, cost) for cost in asked])

    @given(POINTS, st.integers(-1, 11))
    def test_cost_at_is_the_least_cost_of_that_height(self, points, quality):
        vertices = metrics.hull(points)
        cost = metrics.cost_at(vertices, quality)
        if quality > max(height for _, height in points):
            assert math.isnan(cost)
        elif quality <= vertices[0, 1]:
            assert cost == vertices[0, 0]
        else:
            assert metrics.hull_at(vertices, cost) == close(quality)
            assert metrics.hull_at(vertices, max(cost - 0.01, vertices[0, 0])) < quality - 1e-6

    @given(POINTS, st.integers(0, 4), st.integers(1, 9))
    def test_aiq_is_the_mean_height_of_the_best_chord(self, points, start, width):
        low = min(cost for cost, _ in points) + start
        high = low + width
        kinks = [cost for cost, _ in points]
        mean = simpson(lambda cost: chord_height(points, cost), low, high, kinks) / width
        assert metrics.aiq(points, low, high) == close(mean, 1e-9)
        by_log = simpson(lambda x: chord_height(points, math.exp(x)), math.log(low), math.log(high), map(math.log, kinks))
        # exp(log(c)) may lie a rounding left of the first point, where there is no height.
        if start:
            assert metrics.aiq(points, low, high, log=True) == close(by_log / math.log(high / low), 1e-7)

    def test_aiq_closed_forms(self):
        line = [(1, 0.4), (math.e, 0.8)]
        assert metrics.aiq(line, 1, math.e) == close(0.6)
        assert metrics.aiq(line, 1, math.e, log=True) == close(0.4 + 0.4 * (math.e - 2) / (math.e - 1))
        assert metrics.aiq(line, 1, math.e**2, log=True) == close((0.4 + 0.4 * (math.e - 2) / (math.e - 1) + 0.8) / 2)
        assert metrics.aiq([(1, 0.4)], 1, 2) == close(0.4)
        assert metrics.aiq([(1, 0.4)], 1, 2, log=True) == close(0.4)
        # Costs of real calls: a thousandth of a cent to ten cents.
        assert metrics.aiq([(1e-5, 0.5), (0.1, 0.9)], 1e-5, 0.1) == close(0.7)

    def test_aiq_begins_where_something_is_known(self):
        assert metrics.aiq([(1, 0.5), (2, 0.7)], 0.5, 2) == close(NAN)
        assert metrics.aiq([(0.1 + 0.2, 0.5), (2, 0.5)], 0.3, 2) == close(0.5)
        assert metrics.aiq([(0, 0), (1, 0.5), (2, 0.7)], 0, 2) == close((0.25 + 0.6) / 2)

    def test_points_of_nearly_one_cost_do_no_harm(self):
        points = [(1.0, 0.5), (1.0 + 2e-16, 0.6), (5e-324 + 1, 0.55), (2.0, 0.8), (2.0 + 1e-15, 0.8)]
        assert metrics.aiq(points, 1, 2) == close(0.7)
        assert metrics.aiq(points, 1, 2, log=True) == close(0.6 + 0.2 * (1 - math.log(2)) / math.log(2), 1e-9)

    def test_batches_of_curves(self):
        rng = np.random.default_rng(0)
        curves = rng.random((40, 9, 2)) + np.array([0.1, 0])
        low, high = curves[:, :, 0].min(axis=1), curves[:, :, 0].max(axis=1)
        for metric in (metrics.aiq, metrics.area, lambda *given: metrics.aiq(*given, log=True)):
            one_by_one = [metric(curve, a, b) for curve, a, b in zip(curves, low, high, strict=True)]
            assert metric(curves, low, high).tolist() == close(one_by_one)
        high[3] = low[3]
        assert np.flatnonzero(np.isnan(metrics.aiq(curves, low, high))).tolist() == [3]
        assert np.flatnonzero(np.isnan(metrics.area(curves, low, high))).tolist() == [3]

    def test_area_takes_the_curve_as_it_is(self):
        dented = [(3, 0.9), (1, 0.5), (2, 0.1)]
        assert metrics.area(dented, 1, 3) == close((0.3 + 0.5) / 2)
        assert metrics.area(dented, 1.5, 2.5) == close(((0.3 + 0.1) / 2 + (0.1 + 0.5) / 2) / 2)
        assert metrics.area(dented, 0, 5) == close((0.5 + 0.3 + 0.5 + 2 * 0.9) / 5)
        # A vertical step, and a curve that lies wholly beside the range.
        assert metrics.area([(1, 0.2), (2, 0.4), (2, 0.8), (3, 0.8)], 1, 3) == close((0.3 + 0.8) / 2)
        assert metrics.area([(1, 0.2), (2, 0.4)], 3, 4) == close(0.4)
        assert metrics.area([(5, 0.2), (6, 0.4)], 3, 4) == close(0.2)

    def test_area_from_a_floor(self):
        assert metrics.area([(2, 0.6), (3, 0.6)], 1, 3, floor=0.2) == close((0.4 + 0.6) / 2)
        assert metrics.area([(1, 0.6), (3, 0.6)], 1, 3, floor=0.2) == close(0.6)

    @given(POINTS)
    def test_area_of_a_hull_is_aiq(self, points):
        low = min(cost for cost, _ in points)
        assert metrics.area(metrics.hull(points), low, 20) == close(metrics.aiq(points, low, 20))

    @given(POINTS)
    def test_pareto(self, points):
        kept = {(c, q) for c, q in points if not any((d <= c and p > q) or (d < c and p >= q) for d, p in points)}
        assert metrics.pareto(points).tolist() == [list(point) for point in sorted(kept)]


class TestCalibration:
    def test_brier(self):
        assert metrics.brier([0.8, 0.3, 0.5], [1, 0, 0.5]) == close((0.04 + 0.09) / 3)
        assert metrics.brier(np.full(10, 0.3), np.repeat([1, 0], [3, 7])) == close(0.21)
        assert metrics.brier([[0.8, NAN], [0.3, 0.5]], [[1, 1], [NAN, NAN]]).tolist() == close([0.04, NAN])

    @given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from([0, 0.5, 1])), min_size=1, max_size=12), st.integers(1, 20))
    def test_ece_and_reliability_by_loops(self, rows, bins):
        predicted, observed = [a / 20 for a, _ in rows], [b for _, b in rows]
        total, curve = 0.0, []
        for place in range(bins):
            held = [i for i, p in enumerate(predicted) if min(int(p * bins), bins - 1) == place]
            if held:
                high, score = sum(predicted[i] for i in held) / len(held), sum(observed[i] for i in held) / len(held)
                total += len(held) / len(rows) * abs(high - score)
            curve.append([high, score, len(held) / len(rows)] if held else [NAN, NAN, 0])
        assert metrics.ece(predicted, observed, bins) == close(total)
        np.testing.assert_allclose(metrics.reliability(predicted, observed, bins), curve, atol=1e-12)

    def test_columns_are_judged_alone(self):
        rng = np.random.default_rng(0)
        predicted, observed = rng.random((30, 3)).round(1), rng.integers(0, 2, (30, 3)).astype(float)
        predicted[:10, 1], observed[5:20, 1], observed[:, 2] = NAN, NAN, NAN
        for metric in (metrics.brier, metrics.ece, metrics.auroc, metrics.r2, metrics.reliability, metrics.cost_ratio):
            found = metric(predicted, observed)
            assert np.isnan(found[2]).all()
            np.testing.assert_allclose(found[0], metric(predicted[:, 0], observed[:, 0]))
            np.testing.assert_allclose(found[1], metric(predicted[20:, 1], observed[20:, 1]))

    @given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 0.25, 1]), st.integers(0, 2)), min_size=1, max_size=8))
    def test_auroc_by_all_pairs(self, rows):
        won = pairs = 0.0
        for (p, y, v), (q, z, w) in itertools.product(rows, rows):
            pairs += v * y * w * (1 - z)
            won += v * y * w * (1 - z) * ((p > q) + (p == q) / 2)
        predicted, observed, weights = zip(*rows, strict=True)
        assert metrics.auroc(predicted, observed, weights=weights) == close(won / pairs if pairs else NAN)

    def test_auroc_closed_forms(self):
        truth = np.arange(100) % 2
        assert metrics.auroc(truth, truth) == 1.0
        assert metrics.auroc(-truth, truth) == 0.0
        assert metrics.auroc(np.zeros(100), truth) == 0.5
        assert metrics.auroc(truth, np.ones(100)) == close(NAN)
        # Graded scores, evenly spread: 4 ∫ y (y - y²/2) dy.
        grades = (np.arange(2000) + 0.5) / 2000
        assert metrics.auroc(grades, grades) == pytest.approx(5 / 6, abs=1e-3)

    def test_r2(self):
        observed = np.array([1.0, 2.0, 6.0])
        assert metrics.r2(observed, observed) == 1.0
        assert metrics.r2(np.full(3, 3.0), observed) == close(0.0)
        assert metrics.r2([2.0, 2.0, 5.0], observed) == close(1 - 2 / 14)
        assert metrics.r2(observed, observed, weights=[[1, 1, 1], [3, 0, 0]]).tolist() == close([1.0, NAN])
        assert metrics.r2([0.1, 0.2, 0.3], [0.1, 0.1, 0.1]) == close(NAN)
        # Seven times one value: Σ w y² - (Σ w y)² / Σ w is a rounding above 0.
        spread = [0.67, 0.02, 0.27, 0.82]
        many = np.arange(1, 60)[:, None] * [0, 0, 1, 0]
        assert np.isnan(metrics.r2(np.full(4, 0.5), spread, weights=many)).all()
        # Far from zero nothing cancels.
        assert metrics.r2(np.array([2.0, 2.0, 5.0]) + 1e6, observed + 1e6) == close(1 - 2 / 14)

    def test_cost_ratio(self):
        found = metrics.cost_ratio([[1, 2, 0], [3, NAN, 0], [NAN, 1, 0]], [[2, 1, 1], [3, 5, 1], [9, 1, 1]])
        assert found.tolist() == close([5 / 4, 2 / 3, NAN])


def test_intervals_of_metrics():
    """The spread over resamples is that of theory, and columns of one bootstrap are paired."""
    rng = np.random.default_rng(1)
    quality = (rng.random((800, 2)) < [0.6, 0.7]).astype(float)
    predicted = np.clip(quality[:, 0] * 0.2 + rng.random(800), 0, 1)
    [found] = bootstrap(lambda weights: metrics.mu(quality, np.ones(800, int), weights=weights), 800)
    rate = quality[:, 1].mean()
    assert found.value == close(rate)
    assert found.high - found.low == pytest.approx(2 * 1.96 * math.sqrt(rate * (1 - rate) / 800), rel=0.1)
    [curve] = bootstrap(lambda weights: metrics.auroc(predicted, quality[:, 0], weights=weights), 800)
    assert curve.low < curve.value == metrics.auroc(predicted, quality[:, 0]) < curve.high
    right, wrong = predicted[quality[:, 0] == 1], predicted[quality[:, 0] == 0]
    # DeLong: the variance of the mean placement of right among wrong answers, and of wrong among right ones.
    wins = (right[:, None] > wrong) + (right[:, None] == wrong) / 2
    error = math.sqrt(wins.mean(axis=1).var(ddof=1) / len(right) + wins.mean(axis=0).var(ddof=1) / len(wrong))
    assert curve.high - curve.low == pytest.approx(2 * 1.96 * error, rel=0.1)
