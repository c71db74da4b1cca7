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
    # Two hundred groups, and costs in eighty of them: enough rows, but not enough that are independent.
    cost, apart = np.tile([1.0, 2.0, 1.0, 2.0], 400), np.arange(1600) // 8
    cost[apart >= 80] = np.nan
    wide = replace(tiled().take(np.tile(np.arange(400), 4)), cost=cost)
    assert off_policy(always("b"), wide, groups=np.arange(1600)).cost is not None
    assert off_policy(always("b"), wide, groups=apart).cost is None


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


def held_by(found, truth):
    return [getattr(found, way).low <= truth <= getattr(found, way).high for way in WAYS]


@pytest.mark.parametrize("support", [np.ones((2000, 2), bool), None], ids=["every model", "not known"])
def test_rows_without_chance_cover_what_was_picked_and_no_more(support):
    """One row in twenty is sticky: "a" was given again, where "b" would have been better than anybody could see."""
    rng, queries = np.random.default_rng(1), tuple(Query(text=f"q{i}") for i in range(2000))
    held, n = [], 2000
    for number in range(60):
        sticky = rng.random(n) < 0.05
        picked = np.where(sticky, 0, rng.integers(0, 2, n))
        quality = (rng.random(n) < np.where(picked == 0, 0.5, np.where(sticky, 0.9, 0.6))).astype(float)
        log = decisions(picked, np.where(sticky, 1.0, 0.5), quality, queries=queries, support=support)
        found = off_policy(always("b"), log, resamples=100, seed=number)
        if found:
            held.append(held_by(found, 0.05 * 0.9 + 0.95 * 0.6))
        if support is not None:
            assert found.coverage == pytest.approx(1 - sticky.mean())
    assert len(held) > 55
    assert (np.mean(held, axis=0) >= 0.95).all(), np.mean(held, axis=0)


def test_what_support_does_not_say_is_estimated_and_may_be_worth_anything():
    """Of three models "b" could not be picked on a twentieth of the rows, and nothing but the mean weight shows it."""
    rng, n = np.random.default_rng(2), 2000
    queries, held = tuple(Query(text=f"q{i}") for i in range(n)), {0.0: [], 1.0: []}
    for number in range(120):
        never = rng.random(n) < 0.05
        picked = np.where(never, 2 * rng.integers(0, 2, n), rng.integers(0, 3, n))
        quality = (rng.random(n) < np.where(picked == 1, 0.6, 0.5)).astype(float)
        log = decisions(picked, np.where(never, 1 / 2, 1 / 3), quality, models=("a", "b", "c"), queries=queries)
        found = off_policy(always("b"), log, resamples=100, seed=number)
        for there, all_ in held.items():
            if found:
                all_.append(held_by(found, 0.05 * there + 0.95 * 0.6))
    for there, all_ in held.items():
        assert len(all_) > 100
        assert (np.mean(all_, axis=0) >= 0.92).all(), (there, np.mean(all_, axis=0))


@pytest.mark.parametrize("given", [False, True], ids=["by question", "as told"])
def test_rows_that_depend_on_each_other_are_drawn_together(given):
    """Two hundred questions, ten times each: that is what the log knows, and not two thousand answers."""
    rng, row = np.random.default_rng(3), np.repeat(np.arange(200), 10)
    names = np.arange(2000) if given else row
    queries, held, ess, alone = tuple(Query(text=f"question {i}") for i in names), [], [], []
    for number in range(150):
        right = (rng.random((200, 2)) < [0.5, 0.6]).astype(float)
        picked = rng.integers(0, 2, 2000)
        log = decisions(picked, np.full(2000, 0.5), right[row, picked], queries=queries, support=np.ones((2000, 2), bool))
        found = off_policy(always("b"), log, groups=7 * row - 3 if given else None, resamples=200, seed=number)
        held.append([*held_by(found, 0.6), found.logged.low <= 0.55 <= found.logged.high])
        ess.append(found.ess)
        assert (found.rows, found.groups) == (2000, 200)
        if number < 40:
            alone.append(held_by(off_policy(always("b"), log, groups=np.arange(2000), resamples=100), 0.6))
    assert (np.mean(held, axis=0) >= 0.92).all(), np.mean(held, axis=0)
    assert (np.mean(alone, axis=0) < 0.9).all(), np.mean(alone, axis=0)  # what the rows say of themselves is too much
    # Each group weighs twice a binomial of ten halves, of mean 10 and variance 10.
    assert np.mean(ess) == pytest.approx(200 * 100 / 110, rel=0.02)
    assert str(found).startswith("2000 rows in 200 groups, worth ")


def test_groups_count_as_their_sums():
    """Repeats of whole groups are what they are the repeats of: the same figures as from one row a group."""
    once = uniform(800, support=np.ones((800, 4), bool), cost=np.random.default_rng(1).random(800))
    thrice = once.take(np.repeat(np.arange(800), 3))
    guess = np.random.default_rng(2).random((800, 4))
    one = off_policy(always("a"), once, estimator=guess)
    for found in (
        off_policy(always("a"), thrice, estimator=np.repeat(guess, 3, axis=0)),
        off_policy(always("a"), thrice, estimator=np.repeat(guess, 3, axis=0), groups=np.repeat(np.arange(800), 3)),
    ):
        assert (found.ess, found.groups) == (pytest.approx(one.ess), 800)
        for way in ("logged", *WAYS):
            for end in ("value", "low", "high"):
                assert getattr(getattr(found, way), end) == pytest.approx(getattr(getattr(one, way), end))
        for way in WAYS:
            assert found.gain[way].low == pytest.approx(one.gain[way].low)


def test_queries_of_which_nothing_is_known_are_no_repeats():
    bare = uniform(800, support=np.ones((800, 4), bool), queries=tuple(Query(text="", task="x") for _ in range(800)))
    assert off_policy(always("a"), bare).groups == 800
    known = replace(bare, queries=tuple(Query(text="", id=f"i{i // 2}") for i in range(800)))
    assert off_policy(always("a"), known).groups == 400


def test_few_groups_are_refused_however_many_rows_they_have():
    log = uniform(4000, support=np.ones((4000, 4), bool), queries=tuple(Query(text=f"{i % 40}") for i in range(4000)))
    found = off_policy(always("a"), log)
    assert (found.kind, found.ess < 40) == ("ess", True)
    assert "4000 rows in 40 groups" in found.reason
    assert "count together" in found.reason
    assert off_policy(always("a"), log, groups=np.arange(4000)).ess > 800


@pytest.mark.parametrize("partial", [False, True], ids=["full support", "partial support"])
def test_costs_of_known_value(partial):
    """Skewed costs that grow with the question; of the third model, which is never logged, the target asks a little."""
    rng, n, names = np.random.default_rng(5), 1500, ("a", "b", "c")
    queries, share = tuple(Query(text="") for _ in range(n)), 0.06 * partial
    support, held = np.tile([True, True, not partial], (n, 1)), []
    z = (np.arange(100_000) + 0.5) / 100_000
    prices = np.array([0.001, 0.01, 0.03])
    truth = ((1 + z) * ((1 - share) * prices[(z < 0.3).astype(int)] + share * prices[2])).mean()
    logged = ((1 + z) * (0.75 * prices[(z >= 0.5).astype(int)] + 0.25 * prices[(z < 0.5).astype(int)])).mean()
    for number in range(150):
        z = rng.random(n)
        usual, other = (z >= 0.5).astype(int), rng.random(n) < 0.25
        picked = np.where(other, 1 - usual, usual)
        cost = (1 + z) * prices[picked] * np.exp(0.5 * rng.standard_normal(n) - 0.125)
        log = decisions(picked, np.where(other, 0.25, 0.75), np.ones(n), names, cost=cost, queries=queries, support=support)
        target = (1 - share) * np.eye(3)[(z < 0.3).astype(int)] + share * np.eye(3)[2]
        found = off_policy(target, log, resamples=150, seed=number).cost
        gains = [found.gain[way].low <= truth - logged <= found.gain[way].high for way in WAYS]
        held.append([*held_by(found, truth), *gains])
        # What is not known costs no less than the least, and no more than the most, that was logged.
        span = cost.max() - cost.min()
        assert found.ips.high - found.ips.low < share * span + 0.003
        assert found.gain["snips"].high - found.gain["snips"].low < share * span + 0.003
    assert (np.mean(held, axis=0) >= 0.93).all(), np.mean(held, axis=0)


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
        for interval, shift in ((getattr(found, way), 0.0), (found.gain[way], 0.5)):
            assert interval.low < 0.92 * 0.5 - shift + 0.001
            assert interval.high > 0.92 * 0.5 + 0.08 - shift - 0.001
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
    many = np.arange(20_000) % 2
    for wrong, answered in ((0.47, True), (0.44, False), (0.42, False)):  # mean weights of 1.06, 1.14, 1.19
        assert bool(off_policy(always("b"), decisions(many, np.full(20_000, wrong), np.ones(20_000)))) is answered


def test_luck_is_that_of_groups():
    """One coin a conversation of ten: 115 heads in 200 are luck, 1150 heads in 2000 would be none."""
    picked = np.repeat(np.arange(200) < 115, 10).astype(int)
    log = decisions(picked, np.full(2000, 0.5), np.ones(2000))
    found = off_policy(always("b"), log, groups=np.arange(2000) // 10)
    assert (found.mean_weight, found.ess) == (pytest.approx(1.15), pytest.approx(115))
    assert off_policy(always("b"), log).kind == "propensity"


def test_more_rows_do_not_help_where_too_many_are_without_chance():
    sticky = np.arange(600) < 72  # 12 % of the rows, on which "a" was picked again
    log = decisions(np.where(sticky, 0, np.arange(600) % 2), np.where(sticky, 1.0, 0.5), np.ones(600))
    found = off_policy(always("b"), log)
    assert (found.kind, found.rows_needed, found.coverage) == ("coverage", None, pytest.approx(0.88))
    assert "12% of the rows left nothing to chance" in found.reason
    assert off_policy(always("b"), log.take(~sticky)).coverage == 1.0


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
        ({"groups": np.zeros(3, int)}, r"groups are int64 \[3\]: give a whole number for each of 400 rows"),
        ({"groups": np.zeros(400)}, "groups are float64"),
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
