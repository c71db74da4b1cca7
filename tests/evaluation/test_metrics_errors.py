"""Input that cannot be right is refused, with a message that says what is wrong."""

import math

import numpy as np
import pytest

from agentroute.errors import ConfigError, DataError
from agentroute.evaluation import metrics

NAN = math.nan
QUALITY = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 0]], float)
COST = np.tile([1.0, 2.0, 4.0], (4, 1))
CHOSEN = np.array([0, 1, 2, 0])
SHARES = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.25, 0.25, 0.5], [0, 0, 1]])
PAIR = ([0, 0, 0], [1, 1, 1])
HOLE = [[1.0, NAN]]

BAD_DATA = [
    ("values has 1 axes, not 2", lambda: metrics.realised([1.0], [0])),
    ("values has 3 axes, not 1 or 2", lambda: metrics.mean(np.ones((1, 1, 1)))),
    ("values is empty", lambda: metrics.realised(np.empty((0, 3)), [])),
    ("values: no array of numbers", lambda: metrics.realised([["a"]], [0])),
    ("values holds infinite values", lambda: metrics.realised([[math.inf]], [0])),
    ("chosen names the columns 1 to 3: there are 0 to 2", lambda: metrics.realised(QUALITY, CHOSEN + 1)),
    ("chosen names the columns -1 to 1: there are 0 to 2", lambda: metrics.realised(QUALITY, CHOSEN - 1)),
    ("chosen is float64 of the shape (4,): give whole numbers", lambda: metrics.realised(QUALITY, CHOSEN / 2)),
    ("chosen is int64 of the shape (3,): give whole numbers", lambda: metrics.realised(QUALITY, CHOSEN[1:])),
    ("chosen: row 0 is no set of chances", lambda: metrics.realised(QUALITY, SHARES * 1.1)),
    ("chosen has the shape (4, 2), not (4, 3)", lambda: metrics.realised(QUALITY, SHARES[:, :2])),
    ("shares: row 1 is no set of chances", lambda: metrics.entropy([[1, 0], [1.5, -0.5]])),
    ("shares: row 0 is no set of chances", lambda: metrics.entropy([[0.5, 0.4], [1, 0]])),
    ("quality holds NaN in 1 places: keep the rows", lambda: metrics.mu(HOLE, [0])),
    ("quality holds NaN", lambda: metrics.vr(HOLE, [0], 1.0)),
    ("quality holds NaN", lambda: metrics.vb(HOLE, [0])),
    ("quality holds NaN", lambda: metrics.oracle_mix(HOLE, 0.5)),
    ("quality holds NaN", lambda: metrics.oracle_equivalent(HOLE, [0])),
    ("quality holds NaN", lambda: metrics.gap_recovered(HOLE, [0], 0)),
    ("quality holds NaN", lambda: metrics.regret(HOLE, [0])),
    ("single has the shape (4, 3)", lambda: metrics.gap_recovered(QUALITY, CHOSEN, SHARES)),
    ("chosen names the columns 3 to 3", lambda: metrics.gap_recovered(QUALITY, CHOSEN, 3)),
    ("cost has the shape (4, 2)", lambda: metrics.regret(QUALITY, CHOSEN, cost=COST[:, :2], willingness_to_pay=1.0)),
    ("cost holds NaN in 12 places", lambda: metrics.regret(QUALITY, CHOSEN, cost=COST * NAN, willingness_to_pay=1.0)),
    ("weights have the shape (3,), not (2,)", lambda: metrics.mean([1.0, 0.0], weights=[1, 1, 1])),
    ("weights have the shape (1, 1, 2)", lambda: metrics.mean([1.0, 0.0], weights=np.ones((1, 1, 2)))),
    ("weights have the shape (0, 2)", lambda: metrics.mean([1.0, 0.0], weights=np.ones((0, 2)))),
    ("weights: no array of numbers", lambda: metrics.mean([1.0, 0.0], weights=["a", "b"])),
    ("weights hold a negative", lambda: metrics.mean([1.0, 0.0], weights=[1, -1])),
    ("weights hold a negative, infinite or unknown", lambda: metrics.mean([1.0, 0.0], weights=[1, NAN])),
    ("weights hold a negative, infinite or unknown", lambda: metrics.mean([1.0, 0.0], weights=[1, math.inf])),
    ("score holds NaN", lambda: metrics.apgr([1, NAN, 3], *PAIR)),
    ("weak has the shape (3,), not (2,)", lambda: metrics.apgr([1, 2], *PAIR)),
    ("weights have the shape (1,)", lambda: metrics.cpt([1, 2, 3], *PAIR, 0.5, weights=[1])),
    ("points have the shape (1, 3)", lambda: metrics.hull([[1, 2, 3]])),
    ("points is empty", lambda: metrics.hull(np.empty((0, 2)))),
    ("points holds NaN", lambda: metrics.hull(HOLE)),
    ("points holds NaN", lambda: metrics.pareto(HOLE)),
    ("points holds NaN", lambda: metrics.aiq(HOLE, 0, 1)),
    ("points holds NaN", lambda: metrics.area(HOLE, 0, 1)),
    ("the hull's costs do not rise", lambda: metrics.hull_at([[2, 0.5], [1, 0.6]], 1)),
    ("the hull does not rise", lambda: metrics.cost_at([[1, 0.6], [2, 0.5]], 1)),
    ("low has 2 values for 3 sets of points", lambda: metrics.aiq(np.ones((3, 2, 2)), [0, 0], 1)),
    ("high holds NaN", lambda: metrics.aiq([[1, 0.5]], 1, NAN)),
    ("floor has 2 values for 1 sets of points", lambda: metrics.area([[1, 0.5]], 0, 1, floor=[0, 0])),
    ("predicted holds 1.1, which is outside [0, 1]", lambda: metrics.brier([1.1], [1])),
    ("predicted holds -0.5, which is outside [0, 1]", lambda: metrics.ece([-0.5], [1])),
    ("predicted holds 2, which is outside [0, 1]", lambda: metrics.reliability([2], [1])),
    ("observed holds -1, which is outside [0, 1]", lambda: metrics.ece([1.0], [-1])),
    ("observed holds 2, which is outside [0, 1]", lambda: metrics.auroc([1.0], [2])),
    ("observed has the shape (1,), not (2,)", lambda: metrics.auroc([1.0, 2.0], [1])),
    ("predicted holds infinite values", lambda: metrics.r2([math.inf], [1])),
    ("realised holds the cost -1", lambda: metrics.cost_ratio([1.0], [-1.0])),
]  # fmt: skip
BAD_OPTIONS = [
    ("reference=0.0", lambda: metrics.vr(QUALITY, CHOSEN, 0.0)),
    ("reference=nan", lambda: metrics.vr(QUALITY, CHOSEN, NAN)),
    ("p=1.1", lambda: metrics.oracle_mix(QUALITY, 1.1)),
    ("give the costs too", lambda: metrics.regret(QUALITY, CHOSEN, willingness_to_pay=1.0)),
    ("willingness_to_pay=0.0", lambda: metrics.regret(QUALITY, CHOSEN, willingness_to_pay=0.0)),
    ("willingness_to_pay=nan", lambda: metrics.regret(QUALITY, CHOSEN, willingness_to_pay=NAN)),
    ("level=80: give the share of the gap to recover, between 0 and 1", lambda: metrics.cpt([1, 2, 3], *PAIR, 80)),
    ("level=nan", lambda: metrics.cpt([1, 2, 3], *PAIR, NAN)),
    ("low=2 must be below high=2", lambda: metrics.aiq([[1, 0.5]], 2, 2)),
    ("low=0 must be below high=2, and above 0", lambda: metrics.aiq([[0, 0.5]], 0, 2, log=True)),
    ("low=2 must be below high=1", lambda: metrics.area([[1, 0.5]], 2, 1)),
    ("bins=0", lambda: metrics.ece([1.0], [1], 0)),
    ("bins=-1", lambda: metrics.reliability([1.0], [1], -1)),
]  # fmt: skip


@pytest.mark.parametrize(("says", "call"), BAD_DATA)
def test_data_that_cannot_be_right(says, call):
    with pytest.raises(DataError) as refused:
        call()
    assert says in str(refused.value)


@pytest.mark.parametrize(("says", "call"), BAD_OPTIONS)
def test_options_that_cannot_be_right(says, call):
    with pytest.raises(ConfigError) as refused:
        call()
    assert says in str(refused.value)
