from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.errors import ConfigError, UnknownModelError
from agentroute.estimators import KNNEstimator, MeanEstimator
from agentroute.evaluation._replay import LoggedDecisions, OffPolicy, Refusal, off_policy
from agentroute.types import Query

WAYS = ("ips", "snips", "dr")


def decisions(action, propensity, quality, models=("a", "b"), **others):
    queries = others.pop("queries", None) or tuple(Query(text=f"question {i}") for i in range(len(action)))
    return LoggedDecisions(
        queries=queries, models=models, action=np.array(action), propensity=propensity, quality=quality, **others
    )


def always(model):
    return lambda queries: [model] * len(queries)


def tiled(**others):
    """Four decisions, a hundred times each: "b" has the weights 0, 2.5, 0 and 1.25 under a target that always picks it."""
    values = {"action": [0, 1, 0, 1], "propensity": [0.6, 0.4, 0.2, 0.8], "quality": [1.0, 0.5, 0.0, 1.0]}
    return decisions(**{name: np.tile(value, 100) for name, value in {**values, **others}.items()})


# --- closed forms ---------------------------------------------------------------------------------------------------------


def test_estimates_by_hand():
    found = off_policy(always("b"), tiled(), estimator=np.full((400, 2), 0.6))
    assert isinstance(found, OffPolicy)
    assert found.ips.value == pytest.approx((2.5 * 0.5 + 1.25 * 1.0) / 4)
    assert found.snips.value == pytest.approx((2.5 * 0.5 + 1.25 * 1.0) / 3.75)
    assert found.dr.value == pytest.approx(0.6 + (2.5 * (0.5 - 0.6) + 1.25 * (1.0 - 0.6)) / 4)
    assert found.logged.value == pytest.approx(2.5 / 4)
    for way in WAYS:
        assert found.gain[way].value == pytest.approx(getattr(found, way).value - 0.625)
    assert found.ess == pytest.approx(100 * 3.75**2 / (2.5**2 + 1.25**2))
    assert found.coverage == found.mean_weight == pytest.approx(3.75 / 4)
    assert (found.rows, found.clipped, found.clip_bias, found.clip, found.estimates) == (400, 0.0, 0.0, np.inf, "given")
    assert found.cost is None


def test_clipping_by_hand():
    found = off_policy(always("b"), tiled(), estimator=np.full((400, 2), 0.6), clip=2)
    assert found.ips.value == pytest.approx((2 * 0.5 + 1.25 * 1.0) / 4)
    assert found.snips.value == pytest.approx((2 * 0.5 + 1.25 * 1.0) / 3.25)
    assert found.dr.value == pytest.approx(0.6 + (2 * (0.5 - 0.6) + 1.25 * (1.0 - 0.6)) / 4)
    assert (found.clipped, found.clip_bias, found.clip) == (0.25, pytest.approx(0.5 / 4), 2.0)
    free = off_policy(always("b"), tiled(), estimator=np.full((400, 2), 0.6))
    assert (found.ess, found.coverage) == (free.ess, free.coverage)  # clipping cannot buy a number
    for way in WAYS:  # nor a narrower interval that leaves out what was cut off
        assert getattr(found, way).high >= getattr(free, way).value
    assert off_policy(always("b"), tiled(), clip="sqrt").clip == 20.0


def test_means_of_the_other_rows_stand_in_for_estimates():
    logged = tiled()
    # A row's own answer is no part of the mean that it is compared with.
    low, high = 149.5 / 199, 149.0 / 199
    expected = (2 * 0.75 + low + high + 2.5 * (0.5 - low) + 1.25 * (1.0 - high)) / 4
    found = off_policy(always("b"), logged)
    assert (found.dr.value, found.estimates) == (pytest.approx(expected), "model means")
    assert off_policy(always("b"), logged, estimator=np.full((400, 2), np.nan)).dr.value == pytest.approx(expected)
    assert off_policy(always("b"), logged, estimator=MeanEstimator()).dr.value == pytest.approx(expected)


def test_a_model_of_which_there_is_no_other_row_gets_the_mean_of_all_other_rows():
    quality = np.append(tiled().quality, 1.0)
    logged = decisions(
        np.append(tiled().action, 2), np.append(tiled().propensity, 0.5), quality, models=("a", "b", "c"), queries=None
    )
    target, rows = np.tile([0.08, 0.9, 0.02], (401, 1)), np.arange(401)
    guess = np.zeros((401, 3))
    for model, right in ((0, 100.0), (1, 150.0)):  # of 200 rows each
        own = logged.action == model
        guess[:, model] = (right - np.where(own, quality, 0.0)) / (200 - own)
    guess[:, 2] = np.append(np.ones(400), quality[:400].mean())  # the others see the row of "c", which sees the others
    weights = target[rows, logged.action] / logged.propensity
    expected = (target * guess).sum(axis=1) + weights * (quality - guess[rows, logged.action])
    assert off_policy(target, logged).dr.value == pytest.approx(expected.mean(), abs=1e-12)


def test_a_target_under_chance_by_hand():
    found = off_policy(np.tile([[0.2, 0.8]], (400, 1)), tiled())
    weights = np.array([0.2 / 0.6, 0.8 / 0.4, 0.2 / 0.2, 0.8 / 0.8])
    assert found.ips.value == pytest.approx(weights @ [1.0, 0.5, 0.0, 1.0] / 4)
    assert found.ess == pytest.approx(100 * weights.sum() ** 2 / (weights @ weights))


def test_costs_by_hand():
    found = off_policy(always("b"), tiled(cost=[1.0, 2.0, 3.0, 4.0]))
    assert found.cost.ips.value == pytest.approx((2.5 * 2.0 + 1.25 * 4.0) / 4)
    assert found.cost.snips.value == pytest.approx((2.5 * 2.0 + 1.25 * 4.0) / 3.75)
    assert found.cost.logged.value == pytest.approx(2.5)
    assert found.cost.gain["ips"].value == pytest.approx(0.0)
    assert "cost: " in str(found)
    assert "cost" not in str(off_policy(always("b"), tiled()))


def test_rows_of_unknown_cost_are_spoken_for_by_their_model():
    cost = np.tile([1.0, 2.0, 1.0, 2.0], 100)
    cost[1:200:4] = np.nan  # of "b" a quarter is unknown, of "a" nothing
    found = off_policy(np.tile([[0.5, 0.5]], (400, 1)), replace(tiled(), propensity=np.full(400, 0.5), cost=cost))
    assert (found.cost.logged.value, found.cost.ips.value) == (pytest.approx(1.5), pytest.approx(1.5))
    cost[0::2] = np.nan  # nobody knows what "a" costs, nor therefore the log
    assert off_policy(always("b"), replace(tiled(), cost=cost)).cost is None
    few = np.full(400, np.nan)
    few[:40] = 1.0
    assert off_policy(always("b"), replace(tiled(), cost=few)).cost is None


def test_the_logging_policy_is_worth_the_logged_mean():
    rng = np.random.default_rng(3)
    chances = rng.dirichlet([1.0, 1.0, 1.0], 300)
    action = (rng.random(300)[:, None] > chances.cumsum(axis=1)).sum(axis=1)
    quality = rng.random(300)
    logged = decisions(action, chances[np.arange(300), action], quality, models=("a", "b", "c"), cost=rng.random(300))
    found = off_policy(chances, logged)
    assert found.snips.value == found.logged.value == pytest.approx(quality.mean())
    gain = found.gain["snips"]
    assert (gain.value, gain.low, gain.high) == (0.0, 0.0, 0.0)
    assert found.ips.value == pytest.approx(quality.mean())
    assert (found.ess, found.coverage, found.mean_weight) == (pytest.approx(300), 1.0, 1.0)
    assert found.cost.snips.value == found.cost.logged.value


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_order_of_rows_and_models_says_nothing(seed):
    rng = np.random.default_rng(seed)
    n, m = 400, 3
    chances = rng.dirichlet(np.full(m, 5.0), n)
    action, target = rng.integers(0, m, n), rng.dirichlet(np.full(m, 5.0), n)
    logged = decisions(
        action, np.full(n, 1 / m), rng.random(n), models=("a", "b", "c"), cost=rng.random(n), support=np.ones((n, m), bool)
    )
    rows, columns = rng.permutation(n), rng.permutation(m)
    moved = replace(logged.take(rows), models=tuple(np.array(logged.models)[columns]), action=np.argsort(columns)[action[rows]])
    one = off_policy(target, logged, estimator=chances, resamples=50)
    other = off_policy(target[rows][:, columns], moved, estimator=chances[rows][:, columns], resamples=50)
    assert one.ess == pytest.approx(other.ess)
    for measure in ("quality", "cost"):
        for way in ("logged", *WAYS):
            found = getattr(getattr(one, measure), way)
            assert found.value == pytest.approx(getattr(getattr(other, measure), way).value)
            assert found.low <= found.value <= found.high


# --- the truth is known ---------------------------------------------------------------------------------------------------


class World(NamedTuple):
    """Queries with one feature z in [0, 1); a logging policy, a target, and how good every model is."""

    models: int
    softmax: bool

    def expected(self, z):
        return 0.5 + 0.4 * np.sin(2 * np.pi * (z[:, None] + np.arange(self.models) / self.models))

    def chances(self, z):
        score = np.cos(2 * np.pi * (1.3 * z[:, None] + np.arange(self.models) / self.models))
        if self.softmax:
            power = np.exp(0.7 * score)
            return power / power.sum(axis=1, keepdims=True)
        return 0.5 / self.models + 0.5 * np.eye(self.models)[score.argmax(axis=1)]

    def target(self, z):
        return np.eye(self.models)[(self.expected(z) + 0.2 * np.cos(9 * z)[:, None]).argmax(axis=1)]

    def truth(self):
        """Quality of the target, of the logging policy, and the gain, by the midpoint rule."""
        z = (np.arange(200_000) + 0.5) / 200_000
        value, logged = ((chosen * self.expected(z)).sum(axis=1).mean() for chosen in (self.target(z), self.chances(z)))
        return value, logged, value - logged

    def log(self, rng, queries):
        n = len(queries)
        z = rng.random(n)
        chances, at = self.chances(z), np.arange(n)
        action = np.minimum((rng.random(n)[:, None] > chances.cumsum(axis=1)).sum(axis=1), self.models - 1)
        quality = (rng.random(n) < self.expected(z)[at, action]).astype(float)
        names = tuple("abcde"[: self.models])
        support = np.ones(chances.shape, bool)
        return z, decisions(action, chances[at, action], quality, models=names, queries=queries, support=support)


@pytest.mark.parametrize("world", [World(4, softmax=False), World(3, softmax=True)], ids=["epsilon-greedy", "softmax"])
def test_500_logs_of_known_value(world):
    """Bias within two standard errors and 95 % intervals that hold the truth in 93 % and more, with estimates that are wrong."""
    value, logged, gain = world.truth()
    truth = np.array([value] * 3 + [gain] * 3 + [logged])
    queries = tuple(Query(text="") for _ in range(1500))
    rng = np.random.default_rng(1)
    errors, held, widths = [], [], []
    for number in range(500):
        z, log = world.log(rng, queries)
        wrong = 0.9 - 0.8 * world.expected(z)
        found = off_policy(world.target(z), log, estimator=wrong, resamples=300, seed=number)
        assert found, found
        made = [*(getattr(found, way) for way in WAYS), *(found.gain[way] for way in WAYS), found.logged]
        errors.append(np.array([one.value for one in made]) - truth)
        held.append([one.low <= true <= one.high for one, true in zip(made, truth, strict=True)])
        widths.append([one.high - one.low for one in made])
    spread = np.std(errors, axis=0)
    assert (np.abs(np.mean(errors, axis=0)) <= 2 * spread / np.sqrt(500)).all(), np.mean(errors, axis=0) / spread
    assert (np.mean(held, axis=0) >= 0.93).all(), np.mean(held, axis=0)
    # And they are no wider than they have to be: 3.92 standard errors, and a quarter for what a log may hide.
    assert (np.mean(widths, axis=0) <= 1.25 * 3.92 * spread).all(), np.mean(widths, axis=0) / spread


def test_rare_rows_of_large_weight_do_not_fool_the_intervals():
    """Fifty rows of two thousand carry half of the estimate, and two or three of them are bad answers, or none."""
    n, rng = 2000, np.random.default_rng(7)
    queries, support = tuple(Query(text="") for _ in range(n)), np.ones((n, 2), bool)
    held = []
    for number in range(250):
        hard = rng.random(n) < 0.5
        chance = np.where(hard, 0.05, 0.95)  # of "b", which the target always picks
        picked = rng.random(n) < chance
        quality = (rng.random(n) < np.where(hard, 0.95, 1.0)).astype(float)
        log = decisions(picked.astype(int), np.where(picked, chance, 1 - chance), quality, queries=queries, support=support)
        found = off_policy(always("b"), log, estimator=np.full((n, 2), 0.5), resamples=200, seed=number)
        assert found, found
        held.append([getattr(found, way).low <= 0.975 <= getattr(found, way).high for way in WAYS])
    assert (np.mean(held, axis=0) >= 0.93).all(), np.mean(held, axis=0)


def test_good_estimates_narrow_and_bad_ones_do_not_mislead():
    world = World(4, softmax=False)
    value, _, _ = world.truth()
    queries = tuple(Query(text="") for _ in range(1000))
    rng = np.random.default_rng(11)
    found = {"true": [], "bad": [], "ips": [], "width": []}
    for number in range(150):
        z, log = world.log(rng, queries)
        perfect = off_policy(world.target(z), log, estimator=world.expected(z), resamples=20, seed=number)
        bad = off_policy(world.target(z), log, estimator=1.0 - world.expected(z), resamples=20, seed=number)
        found["true"].append(perfect.dr.value)
        found["bad"].append(bad.dr.value)
        found["ips"].append(perfect.ips.value)
        found["width"].append([perfect.dr.high - perfect.dr.low, perfect.ips.high - perfect.ips.low])
    assert np.var(found["true"]) < 0.5 * np.var(found["ips"])
    narrow, wide = np.mean(found["width"], axis=0)
    assert narrow < 0.8 * wide
    for name in ("true", "bad", "ips"):
        assert abs(np.mean(found[name]) - value) <= 2 * np.std(found[name]) / np.sqrt(150), name


# --- refusals -------------------------------------------------------------------------------------------------------------


def uniform(rows, **others):
    """Every model with a chance of a quarter."""
    rng = np.random.default_rng(0)
    return decisions(rng.integers(0, 4, rows), np.full(rows, 0.25), rng.random(rows), models=("a", "b", "c", "d"), **others)


def test_too_few_rows_are_refused():
    found = off_policy(always("a"), uniform(200, support=np.ones((200, 4), bool)))
    assert isinstance(found, Refusal)
    assert not found
    matches = found.ess
    assert matches < 100
    assert (found.kind, found.rows, found.rows_needed) == ("ess", 200, int(np.ceil(200 * 100 / matches)))
    assert f"log about {found.rows_needed} rows" in str(found)
    # No figure that somebody could take for the answer.
    assert {field.name for field in fields(found)} == {"kind", "reason", "ess", "coverage", "rows", "rows_needed"}
    assert off_policy(always("a"), uniform(found.rows_needed + 60, support=np.ones((found.rows_needed + 60, 4), bool)))


def test_what_could_not_be_picked_is_not_covered():
    support = np.ones((2000, 4), bool)
    logged = uniform(2000)
    support[:, 0] = logged.action == 0  # where another was picked, "a" could not have been
    thin = replace(logged, support=support, propensity=np.where(logged.action == 0, 1.0, 1 / 3))
    found = off_policy(always("a"), thin)
    assert (found.kind, found.rows_needed) == ("coverage", None)
    assert found.coverage == pytest.approx(np.mean(logged.action == 0))
    assert "epsilon" in found.reason
    assert off_policy(np.tile([0.0, 0.4, 0.3, 0.3], (2000, 1)), replace(logged, support=np.ones((2000, 4), bool)))


def test_what_may_lie_in_the_uncovered_part_widens_the_intervals():
    logged = decisions([0, 1, 2] * 500, np.full(1500, 1 / 3), [0.5] * 1500, models=("a", "b", "c", "d"))
    known = replace(logged, support=np.tile([True, True, True, False], (1500, 1)))
    target = np.tile([0.3, 0.3, 0.32, 0.08], (1500, 1))
    found = off_policy(target, known)
    assert (found.coverage, found.mean_weight) == (pytest.approx(0.92), pytest.approx(0.92))
    # All that was seen scored a half; the rest, 8 %, may score nothing or everything.
    for way in WAYS:
        interval = getattr(found, way)
        assert interval.low < 0.92 * 0.5 + 0.001
        assert interval.high > 0.92 * 0.5 + 0.08 - 0.001
        assert interval.high - interval.low < 0.2


def test_a_log_without_chance_says_little():
    n = 1000
    action, quality = np.arange(n) % 2, np.ones(n)
    logged = decisions(action, np.ones(n), quality)
    for flipped, answered in ((0, True), (50, True), (99, True), (101, False), (500, False), (1000, False)):
        chosen = ["b" if (j == 1) != (i < flipped) else "a" for i, j in enumerate(action)]
        found = off_policy(lambda _, chosen=chosen: chosen, logged)
        assert bool(found) is answered
        assert found.coverage == pytest.approx(1 - flipped / n)
        if answered:
            assert found.snips.low <= 1 - flipped / n <= found.snips.high  # nobody knows about the others
        else:
            assert (found.kind, found.rows_needed) == ("coverage", None)
            assert "nothing was left to chance" in found.reason
    assert found.ess == 0.0


def test_coverage_that_falls_short_by_chance_asks_for_rows():
    logged = uniform(600)
    rare = np.flatnonzero(logged.action == 0)
    found = off_policy(always("a"), logged.take(np.setdiff1d(np.arange(600), rare[:15])))
    assert found.kind == "coverage"
    assert 0.8 < found.coverage < 0.9
    assert found.rows_needed > 600
    assert "support" in found.reason
    # What is counted is no matter of chance: more rows would not help.
    counted = decisions([0, 1, 2] * 100, np.full(300, 1 / 3), np.ones(300), models=("a", "b", "c", "d"))
    counted = replace(counted, support=np.tile([True, True, True, False], (300, 1)))
    lasting = off_policy(np.tile([0.88, 0.0, 0.0, 0.12], (300, 1)), counted)
    assert (lasting.kind, lasting.coverage, lasting.rows_needed) == ("coverage", pytest.approx(0.88), None)
    assert off_policy(always("a"), uniform(600, support=np.ones((600, 4), bool)))


def test_propensities_that_cannot_be_right_are_refused():
    rng = np.random.default_rng(1)
    picked = rng.integers(0, 2, 1000)
    for wrong, support in ((0.25, None), (0.25, np.ones((1000, 2), bool)), (0.9, np.ones((1000, 2), bool))):
        found = off_policy(always("b"), decisions(picked, np.full(1000, wrong), np.ones(1000), support=support))
        assert (found.kind, found.rows_needed) == ("propensity", None)
        assert "propensities cannot be right" in found.reason
    assert off_policy(always("b"), decisions(picked, np.full(1000, 0.5), np.ones(1000)))


# --- bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (np.full((400, 2), 0.4), r"row 0: .*add up to 1"),
        (np.tile([1.5, -0.5], (400, 1)), "must be 0 or more"),
        (np.full((400, 2), np.nan), "add up to 1"),
        (np.full((400, 3), 1 / 3), r"shape \(400, 3\), not \(400, 2\)"),
        (lambda queries: ["a"] * (len(queries) - 1), "399 models for 400 queries"),
        ("b", "cannot be a str"),
        (None, "shape"),
        ([[0.5, 0.5], [1.0]], "cannot be a list"),
    ],
)
def test_targets_that_cannot_be(target, message):
    with pytest.raises(ConfigError, match=message):
        off_policy(target, tiled())


def test_an_unknown_model_of_a_target():
    with pytest.raises(UnknownModelError, match=r"unknown model 'c': the log knows 'a', 'b'"):
        off_policy(always("c"), tiled())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": 0.5}, "1 or more"),
        ({"clip": np.nan}, "1 or more"),
        ({"clip": "auto"}, "'sqrt'"),
        ({"level": 1.0}, "level"),
        ({"resamples": 0}, "resamples"),
        ({"estimator": np.full((400, 3), 0.5)}, r"shape \(400, 3\)"),
        ({"estimator": np.full((400, 2), 1.5)}, r"in \[0, 1\]"),
        ({"estimator": "knn"}, "cannot be a str"),
        ({"estimator": KNNEstimator()}, "needs table.embeddings"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        off_policy(always("b"), tiled(), **options)
