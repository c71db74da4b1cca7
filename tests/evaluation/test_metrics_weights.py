"""Weights of queries: what holds for every metric."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agentroute.evaluation import metrics

GRADES = st.sampled_from([0.0, 0.25, 0.5, 1.0])


class Log:
    """A small log; `take` repeats its rows."""

    def __init__(self, quality, cost, chosen, score, predicted):
        self.quality, self.cost, self.chosen, self.score, self.predicted = quality, cost, chosen, score, predicted
        self.holes = np.where(score[:, None] == 2, np.nan, quality)
        self.shares = (quality + 0.25) / (quality + 0.25).sum(axis=1, keepdims=True)

    def take(self, rows):
        return Log(*(part[rows] for part in (self.quality, self.cost, self.chosen, self.score, self.predicted)))

    def points(self, weights):
        """Seven operating points: the single models and mixes of two, [7, 2] or [b, 7, 2]."""
        mixes = np.vstack([np.eye(3), 0.5 * (1 - np.eye(3)), [[0.1, 0.2, 0.7]]]).T
        return np.stack([metrics.mean(part @ mixes, weights=weights) for part in (self.cost, self.quality)], axis=-1)

    def ends(self, weights):
        singles = metrics.mean(self.cost, weights=weights)
        return singles.min(axis=-1), singles.max(axis=-1)


METRICS = {
    "mean": lambda log, w: metrics.mean(metrics.realised(log.cost, log.chosen), weights=w),
    "mean of columns": lambda log, w: metrics.mean(log.holes, weights=w),
    "mu": lambda log, w: metrics.mu(log.quality, log.chosen, weights=w),
    "mu of shares": lambda log, w: metrics.mu(log.quality, log.shares, weights=w),
    "vr": lambda log, w: metrics.vr(log.quality, log.chosen, 0.9, weights=w),
    "vb": lambda log, w: metrics.vb(log.quality, log.chosen, weights=w),
    "entropy": lambda log, w: metrics.entropy(log.shares, weights=w),
    "oracle_mix": lambda log, w: metrics.oracle_mix(log.quality, 0.3, weights=w),
    "oracle_equivalent": lambda log, w: metrics.oracle_equivalent(log.quality, log.chosen, weights=w),
    "gap_recovered": lambda log, w: metrics.gap_recovered(log.quality, log.chosen, 2, weights=w),
    "gap_recovered by fold": lambda log, w: metrics.gap_recovered(log.quality, log.shares, log.chosen, weights=w),
    "regret": lambda log, w: metrics.regret(log.quality, log.chosen, cost=log.cost, willingness_to_pay=5.0, weights=w),
    "apgr": lambda log, w: metrics.apgr(log.score, log.quality[:, 0], log.quality[:, 1], weights=w),
    "cpt": lambda log, w: metrics.cpt(log.score, log.quality[:, 0], log.quality[:, 1], 0.6, weights=w),
    "pgr": lambda log, w: metrics.pgr(
        metrics.mu(log.quality, log.chosen, weights=w), *np.moveaxis(metrics.mean(log.quality[:, :2], weights=w), -1, 0)
    ),
    "aiq": lambda log, w: metrics.aiq(log.points(w), *log.ends(w)),
    "aiq, log": lambda log, w: metrics.aiq(log.points(w), *log.ends(w), log=True),
    "area": lambda log, w: metrics.area(log.points(w), *log.ends(w), floor=metrics.mean(log.quality, weights=w).min(axis=-1)),
    "brier": lambda log, w: metrics.brier(log.predicted, log.holes, weights=w),
    "ece": lambda log, w: metrics.ece(log.predicted, log.holes, 5, weights=w),
    "reliability": lambda log, w: metrics.reliability(log.predicted, log.holes, 5, weights=w),
    "auroc": lambda log, w: metrics.auroc(log.predicted, log.holes, weights=w),
    "auroc of one": lambda log, w: metrics.auroc(log.predicted[:, 0], log.quality[:, 0], weights=w),
    "r2": lambda log, w: metrics.r2(log.predicted, log.holes, weights=w),
    "cost_ratio": lambda log, w: metrics.cost_ratio(log.predicted, log.holes, weights=w),
}


@st.composite
def logs(draw, rows=None):
    n = rows or draw(st.integers(1, 8))
    dear = np.array([1.0, 2.0, 5.0])
    return Log(
        draw(arrays(float, (n, 3), elements=GRADES)),
        draw(arrays(float, (n, 3), elements=st.sampled_from([0.9, 1.0, 1.2]))) * dear,
        draw(arrays(np.int64, n, elements=st.integers(0, 2))),
        draw(arrays(np.int64, n, elements=st.integers(0, 3))),
        draw(arrays(float, (n, 3), elements=st.sampled_from([0.0, 0.2, 0.5, 0.55, 1.0]))),
    )


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_every_metric_with_weights_is_here():
    taking = {name for name in metrics.__all__ if "weights" in inspect.signature(getattr(metrics, name)).parameters}
    assert taking | {"pgr", "aiq", "area"} == {name.split(" ")[0].rstrip(",") for name in METRICS}


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_whole_weight_repeats_the_row(name, data):
    log = data.draw(logs())
    weights = data.draw(arrays(np.int64, len(log.score), elements=st.integers(0, 3)).filter(np.any))
    same(METRICS[name](log, weights), METRICS[name](log.take(np.repeat(np.arange(len(weights)), weights)), None))


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_resamples_are_weighed_one_by_one(name, data):
    log = data.draw(logs(rows=5))
    weights = data.draw(arrays(np.int64, (4, 5), elements=st.integers(0, 3)).filter(lambda found: found.any(axis=1).all()))
    weights[0] = 1
    found = METRICS[name](log, weights)
    same(found, np.stack([METRICS[name](log, row) for row in weights]))
    same(found[0], METRICS[name](log, None))


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"cpt"}))  # whose share comes in steps of one weight
def test_only_the_ratio_of_weights_counts(name):
    rng = np.random.default_rng(3)
    quality, cost = rng.integers(0, 2, (50, 3)).astype(float), rng.random((50, 3)) + np.array([1, 2, 5])
    log = Log(quality, cost, rng.integers(0, 3, 50), rng.integers(0, 9, 50), rng.random((50, 3)))
    weights = rng.random(50)
    found = METRICS[name](log, weights)
    same(found, METRICS[name](log, weights * 0.001))
    assert np.isfinite(found).all()
    assert not np.allclose(found, METRICS[name](log, None), rtol=1e-6)


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"aiq", "aiq, log", "area"}))  # which are given points
def test_a_resample_of_nothing_has_no_value(name):
    log = Log(*(np.ones(shape, kind) for shape, kind in [((3, 3), float), ((3, 3), float), (3, int), (3, int), ((3, 3), float)]))
    assert np.isnan(METRICS[name](log, np.zeros((2, 3)))).all()
