import math

import numpy as np
import pytest

from agentroute.errors import ConfigError, DataError
from agentroute.evaluation import Interval, bootstrap, means, metrics


def coverage(draw, statistic, truth, queries, logs=1000):
    """Share of simulated logs whose interval holds the truth."""
    held = 0
    for seed in range(logs):
        values = draw(np.random.default_rng(seed), queries)
        interval = bootstrap(lambda weights: statistic(values, weights), queries, resamples=500, seed=seed)[0]  # noqa: B023
        held += interval.low <= truth <= interval.high
    return held / logs


def two_models(rng, queries):
    """Scores of a chosen and of a single model, right by chance .7 and .6, with a difficulty in common."""
    hard = rng.random(queries)
    return (hard < np.array([[0.7], [0.6]])).T * 0.5 + (rng.random((queries, 2)) < [0.7, 0.6]) * 0.5


@pytest.mark.parametrize(
    ("statistic", "truth"),
    [
        (lambda values, weights: means(values[:, 0])(weights), 0.7),
        (lambda values, weights: means(values[:, 0] - values[:, 1])(weights), 0.1),
        (
            lambda values, weights: metrics.mean(values[:, 0], weights=weights) / metrics.mean(values[:, 1], weights=weights),
            7 / 6,
        ),
    ],
    ids=["mean", "paired difference", "ratio"],
)
def test_intervals_cover_the_truth_in_93_to_97_percent_of_1000_logs(statistic, truth):
    assert 0.93 <= coverage(two_models, statistic, truth, 300) <= 0.97


def test_intervals_of_auroc_cover_too():
    def draw(rng, queries):
        right = rng.random(queries) < 0.5
        return np.stack([right + rng.standard_normal(queries), right], axis=1)

    truth = 0.7602499389065233  # Phi(1 / sqrt 2)
    assert 0.93 <= coverage(draw, lambda v, w: metrics.auroc(v[:, 0], v[:, 1], weights=w), truth, 300) <= 0.97


def test_the_same_resamples_for_every_column():
    values = np.random.default_rng(0).random((50, 1))
    one, two = bootstrap(means(np.concatenate([values, values + 1.0], axis=1)), 50)
    assert two.low == pytest.approx(one.low + 1.0)
    [nothing] = bootstrap(means(values - values), 50)
    assert (nothing.low, nothing.high) == (0.0, 0.0)


def test_blocks_do_not_show(monkeypatch):
    values = np.random.default_rng(0).random(40)
    whole = bootstrap(means(values), 40, resamples=300)
    monkeypatch.setattr("agentroute.evaluation._intervals._CELLS", 40 * 7)
    assert bootstrap(means(values), 40, resamples=300) == whole


def test_percentiles_are_those_of_the_resampled_means():
    values = np.random.default_rng(3).random(30)
    rng = np.random.default_rng(7)
    drawn = values[rng.integers(0, 30, size=(4000, 30))].mean(axis=1)
    [found] = bootstrap(means(values), 30, resamples=4000, level=0.9)
    assert found.value == pytest.approx(values.mean())
    np.testing.assert_allclose([found.low, found.high], np.quantile(drawn, [0.05, 0.95]), atol=0.01)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_the_ends_are_the_quantiles_of_what_was_drawn(level):
    """A statistic that tells the resamples apart: their own numbers, of which the quantiles are known exactly."""
    numbers = iter(range(1, 4002))

    def statistic(weights):
        return np.array([float(next(numbers)) for _ in weights])

    [found] = bootstrap(statistic, 5, resamples=4000, level=level)
    assert found.value == 1.0
    # The resamples are 2 to 4001, and each step between them is 1 / 3999 of the whole.
    assert (found.low - 2) / 3999 == pytest.approx((1 - level) / 2)
    assert (found.high - 2) / 3999 == pytest.approx((1 + level) / 2)


def test_a_sample_of_two_has_the_ends_that_a_coin_has():
    # Both draws are the first with a chance of 1/4: the quantile is there below a quarter, and at the mean of both above it.
    for level, low, high in ((0.52, 0.0, 1.0), (0.48, 0.5, 0.5)):
        [found] = bootstrap(means([0.0, 1.0]), 2, resamples=100_000, level=level)
        assert (found.low, found.high) == (low, high)


def test_groups_are_drawn_together():
    values, groups = np.random.default_rng(1).random(40), np.repeat(np.arange(10), 4)
    clustered = np.repeat(values[:10], 4)
    [together] = bootstrap(means(clustered), 40, groups=groups)
    [ten] = bootstrap(means(values[:10]), 10)
    assert (together.low, together.high) == pytest.approx((ten.low, ten.high), abs=1e-9)


def test_means_leave_out_what_was_not_observed():
    values = np.array([[0.0, np.nan], [1.0, 0.5], [np.nan, 1.0]])
    np.testing.assert_allclose(means(values)(np.array([[1.0, 1.0, 1.0], [2.0, 1.0, 5.0]])), [[0.5, 0.75], [1 / 3, 5.5 / 6]])
    [interval] = bootstrap(means(np.full(10, np.nan)), 10)
    assert math.isnan(interval.value)
    assert math.isnan(interval.low)


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="no query"):
        bootstrap(means(np.empty(0)), 0)
    for options in ({"resamples": 0}, {"level": 1.0}, {"level": 0.0}):
        with pytest.raises(ConfigError, match="resamples"):
            bootstrap(means(np.ones(3)), 3, **options)


def test_an_interval_is_printed_as_everywhere_else():
    assert str(Interval(value=0.812, low=0.79, high=0.834)) == "0.812 (0.79 to 0.834)"
    assert str(Interval(value=0.5, low=math.nan, high=math.nan)) == "0.5"
