"""Calibrators against hand-computed steps, brute force and known curves."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentroute.errors import ConfigError, DataError, NotFittedError
from agentroute.scorers import Calibrated, Calibrator, Isotonic, Platt, as_scorer, cross_calibrate
from agentroute.types import Query, Reply, Score

ROWS = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.sampled_from([0.5, 1.0, 2.0])),
    min_size=1,
    max_size=12,
)


def test_pooling_by_hand():
    # 1 | 3 1 | 4 2 2: violators 3, 1 pool to 2; then 4, 2, 2 to 8/3.
    fitted = Isotonic().fit([1, 2, 3, 4, 5, 6], np.array([1, 3, 1, 4, 2, 2]) / 4)
    assert fitted.x_.tolist() == [1, 2, 3, 4, 6]
    assert (fitted.y_ * 4).tolist() == pytest.approx([1, 2, 2, 8 / 3, 8 / 3])
    assert (fitted.transform([0, 1, 1.5, 2.5, 3.5, 9]) * 4).tolist() == pytest.approx([1, 1, 1.5, 2, (2 + 8 / 3) / 2, 8 / 3])


def test_equal_scores_and_weights_pool_by_mass():
    fitted = Isotonic().fit([0.5, 0.5, 0.5, 0.9], [0, 0, 1, 0.5], [1, 1, 2, 1])
    assert fitted.transform([0.5, 0.9]).tolist() == [0.5, 0.5]
    weighted = Isotonic().fit([0.1, 0.2], [1.0, 0.0], [3, 1])
    assert weighted.transform([0.1, 0.2]).tolist() == [0.75, 0.75]


def test_rows_of_no_weight_say_nothing():
    x, y, w = [0.1, 0.2, 0.2, 0.3, 0.4], [0, 1, 0, 1, 0.5], [1, 0, 0, 1, 1]
    kept = [i for i, weight in enumerate(w) if weight]
    fitted, without = Isotonic().fit(x, y, w), Isotonic().fit(*([column[i] for i in kept] for column in (x, y, w)))
    assert fitted.state() == without.state()
    assert np.isfinite(fitted.transform(x)).all()


def monotone_best(x, y, w):
    """The least squared error of any non-decreasing map: over all ways to cut the distinct scores into blocks of means."""
    points = sorted(set(x))
    best = math.inf
    for cuts in itertools.product([0, 1], repeat=len(points) - 1):
        block = dict(zip(points, np.cumsum([0, *cuts]).tolist(), strict=True))
        means = []
        error = 0.0
        for number in sorted(set(block.values())):
            rows = [i for i, one in enumerate(x) if block[one] == number]
            mass = sum(w[i] for i in rows)
            mean = sum(w[i] * y[i] for i in rows) / mass
            error += sum(w[i] * (y[i] - mean) ** 2 for i in rows)
            means.append(mean)
        if all(one <= other + 1e-12 for one, other in itertools.pairwise(means)):
            best = min(best, error)
    return best


@given(ROWS)
def test_no_other_monotone_map_fits_better(rows):
    x, y, w = (list(column) for column in zip(*rows, strict=True))
    fitted = Isotonic().fit(x, y, w).transform(x)
    assert float(np.sum(np.array(w) * (np.array(y) - fitted) ** 2)) == pytest.approx(monotone_best(x, y, w), abs=1e-9)


@given(ROWS)
def test_an_isotonic_map_rises_and_keeps_the_mean(rows):
    x, y, w = (np.array(column) for column in zip(*rows, strict=True))
    fitted = Isotonic().fit(x, y, w)
    grid = fitted.transform(np.linspace(-1, 9, 101))
    assert (np.diff(grid) >= -1e-12).all()
    assert ((grid >= 0) & (grid <= 1)).all()
    assert (np.diff(fitted.x_) > 0).all()
    assert float(np.average(fitted.transform(x), weights=w)) == pytest.approx(float(np.average(y, weights=w)))


def test_platt_on_two_points_is_solved_by_hand():
    # Targets (3+1)/(3+2) and 1/(1+2) at two scores: the curve passes through both.
    fitted = Platt().fit([-1, 2, 2, 2], [0, 1, 1, 1])
    logit = math.log(4), math.log(1 / 2)
    assert fitted.slope_ == pytest.approx((logit[0] - logit[1]) / 3)
    assert fitted.bias_ == pytest.approx(logit[1] + fitted.slope_, abs=1e-9)
    assert fitted.transform([-1, 2]).tolist() == pytest.approx([1 / 3, 0.8])


def test_platt_recovers_a_known_curve():
    rng = np.random.default_rng(3)
    x = rng.normal(0.5, 2.0, 40_000)
    y = rng.random(len(x)) < 1 / (1 + np.exp(-(1.7 * x - 0.6)))
    fitted = Platt().fit(x, y)
    assert fitted.slope_ == pytest.approx(1.7, abs=0.06)  # standard errors are .02 and .018
    assert fitted.bias_ == pytest.approx(-0.6, abs=0.06)
    # Of chances in place of draws, and without Platt's targets mattering, it is exact.
    exact = Platt().fit(x, 1 / (1 + np.exp(-(1.7 * x - 0.6))))
    assert (exact.slope_, exact.bias_) == (pytest.approx(1.7, abs=2e-3), pytest.approx(-0.6, abs=2e-3))


def test_platt_counts_weights_as_rows():
    x, y, w = [0.1, 0.4, 0.4, 0.8], [0, 1, 0, 1], [1, 2, 3, 1]
    one, other = Platt().fit(x, y, w), Platt().fit(np.repeat(x, w), np.repeat(y, w))
    assert (one.slope_, one.bias_) == (pytest.approx(other.slope_), pytest.approx(other.bias_))


@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.sampled_from([0.0, 0.3, 1.0])), min_size=1, max_size=20),
)
def test_platt_is_at_its_maximum_whatever_the_data(rows):
    x, y = (np.array(column) for column in zip(*rows, strict=True))
    fitted = Platt().fit(x, y)
    p = fitted.transform(x)
    target = y * (y.sum() + 1) / (y.sum() + 2) + (1 - y) / ((1 - y).sum() + 2)
    # Where the likelihood is greatest the mean of what it says is the mean of the targets, and neither leans with x.
    assert p.mean() == pytest.approx(target.mean(), abs=1e-6)
    assert ((p > 0) & (p < 1)).all()
    if x.std() > 1e-9 * (1 + abs(x).max()):
        assert float(np.mean((p - target) * (x - x.mean()) / x.std())) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("labels", "chance"), [([1, 1, 1], 0.8), ([0, 0, 0], 0.2), ([1, 0, 0.5], 0.5)])
def test_platt_without_anything_to_learn_says_the_targets_mean(labels, chance):
    same = Platt().fit([0.7] * 3, labels)
    assert same.slope_ == 0.0
    assert same.transform([0.0, 0.7]).tolist() == pytest.approx([chance] * 2)


def test_platt_of_a_score_that_lies_slopes_down():
    assert Platt().fit([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0]).slope_ < 0


@pytest.mark.parametrize("make", [Isotonic, Platt])
def test_a_calibrator_is_saved_as_json(make):
    fitted = make().fit([0.1, 0.35, 0.35, 0.9], [0, 1, 0, 1])
    again = make.from_state(json.loads(json.dumps(fitted.state())))
    grid = np.linspace(-1, 2, 31)
    assert again.transform(grid).tolist() == fitted.transform(grid).tolist()
    assert isinstance(fitted, Calibrator)
    assert np.isnan(fitted.transform([math.nan])).all()
    with pytest.raises(NotFittedError, match="call fit"):
        make().transform([0.5])
    with pytest.raises(NotFittedError):
        make().state()


@pytest.mark.parametrize(
    ("make", "state"),
    [
        (Isotonic, {"x": [], "y": []}),
        (Isotonic, {"x": [1, 0], "y": [0, 1]}),
        (Isotonic, {"x": [0, 1], "y": [0, 2]}),
        (Isotonic, {"x": [0, 1], "y": [0]}),
        (Isotonic, {"x": [0, math.inf], "y": [0, 1]}),
        (Platt, {"slope": math.nan, "bias": 0}),
    ],
)
def test_a_state_that_cannot_be_is_refused(make, state):
    with pytest.raises(ConfigError):
        make.from_state(state)


@pytest.mark.parametrize("make", [Isotonic, Platt])
@pytest.mark.parametrize(
    "rows",
    [
        ([], []),
        ([0.5], [0, 1]),
        ([[0.5]], [[1]]),
        ([math.nan], [1]),
        ([0.5], [2]),
        ([0.5], [math.nan]),
        ([0.5], [1], [0]),
        ([0.5], [1], [-1]),
        ([0.5], [1], [math.inf]),
        ([0.5], [1], [1, 1]),
    ],
)
def test_data_that_cannot_be_are_refused(make, rows):
    with pytest.raises(DataError):
        make().fit(*rows)


async def test_a_calibrated_scorer_keeps_cost_signals_and_the_raw_value():
    raw = Score(value=0.95, cost=0.5, reason="sure", signals={"mine.x": 2.0})
    scorer = Calibrated(as_scorer(lambda reply: raw, name="mine", ceiling=1.0, needs=["finish"]), Platt().fit([0, 1], [0, 1]))
    found = scorer.score(Query(text="?"), Reply(text="!"))
    assert found.value == pytest.approx(1 / (1 + math.exp(-(0.95 - 0.5) * 2 * math.log(2))))  # targets 1/3 and 2/3
    assert (found.cost, dict(found.signals)) == (0.5, {"mine": 0.95, "mine.x": 2.0})
    assert (scorer.name, scorer.ceiling, scorer.needs) == ("mine", 1.0, {"finish"})
    assert found == await scorer.ascore(Query(text="?"), Reply(text="!"))
    with pytest.raises(NotFittedError):
        Calibrated(lambda reply: 0.5, Isotonic()).score(Query(text="?"), Reply(text="!"))


class Bare:
    """A scorer of somebody else's, without signals."""

    name, needs, ceiling = "bare", frozenset(), 0.0

    def score(self, query, reply, /):
        return Score(value=0.5)

    async def ascore(self, query, reply, /):
        return Score(value=0.5)


def test_the_raw_value_becomes_a_signal_where_there_is_none():
    scorer = Calibrated(Bare(), Isotonic().fit([0.5], [0.25]))
    score = scorer.score(Query(text="?"), Reply(text="!"))
    assert (score.value, dict(score.signals), score.reason) == (0.25, {"bare": 0.5}, "bare is 0.5; right with a chance of 0.25")


def test_out_of_fold_means_that_no_row_has_seen_itself():
    # Every label is its own group: in sample an isotonic map would be perfect, out of fold it cannot know a flipped label.
    x = np.arange(20) / 20
    y = (x >= 0.5).astype(float)
    y[4] = 1.0
    found = cross_calibrate(x, y, folds=20)
    for i in range(20):
        others = np.arange(20) != i
        assert found[i] == pytest.approx(Isotonic().fit(x[others], y[others]).transform(x[i : i + 1])[0])


def test_groups_stay_together_and_seeds_repeat():
    seen = []

    class Spy(Platt):
        def fit(self, values, labels, weights=None, /):
            seen.append(set(np.asarray(values).tolist()))
            return super().fit(values, labels, weights)

    x = np.repeat(np.arange(6) / 6, 4)
    y = np.tile([0, 1, 1, 0], 6)
    groups = np.repeat(list("abcdef"), 4)
    first = cross_calibrate(x, y, make=Spy, folds=3, groups=groups)
    assert [len(one) for one in seen] == [4, 4, 4]  # two of six questions are held out each time, with all of their rows
    assert first.tolist() == cross_calibrate(x, y, make=Platt, folds=3, groups=groups).tolist()
    assert cross_calibrate(x, y, folds=3, seed=1).tolist() != cross_calibrate(x, y, folds=3, seed=2).tolist()


def test_cross_calibration_refuses_what_cannot_be_split():
    with pytest.raises(DataError, match="held out"):
        cross_calibrate([0.5], [1])
    with pytest.raises(DataError, match="held out"):
        cross_calibrate([0.5, 0.6], [1, 0], groups=[1, 1])
    with pytest.raises(DataError, match="groups are 1"):
        cross_calibrate([0.5, 0.6], [1, 0], groups=[1])
    with pytest.raises(ConfigError, match="folds=1"):
        cross_calibrate([0.5, 0.6], [1, 0], folds=1)


@pytest.mark.parametrize("make", [Isotonic, Platt])
def test_calibration_is_good_where_the_raw_score_is_not(make):
    """An overconfident score: right with the chance .2 + .5 s. Error in twenty bins, before and after, out of fold."""
    rng = np.random.default_rng(0)
    x = rng.random(4000)
    y = (rng.random(4000) < 0.2 + 0.5 * x).astype(float)

    def error(p):
        place = np.minimum((p * 20).astype(int), 19)
        return sum(abs(p[place == b].sum() - y[place == b].sum()) for b in range(20)) / len(p)

    assert error(x) > 0.12
    assert error(cross_calibrate(x, y, make=make)) < 0.04
