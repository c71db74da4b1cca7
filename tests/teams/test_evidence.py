"""How strongly effects are held where the runs tell it: evidence against closed forms and counting, and intervals that hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agentroute.teams import NONE, Role, RoleAllocator, Team, TeamRun
from agentroute.teams._additive import AdditiveLogit
from agentroute.teams._evidence import FIRST, Fit, fitted, mixed, tried
from agentroute.teams._learning import Learned, learn
from agentroute.types import ModelCard, Price, Query


def logistic(logit):
    return 1.0 / (1.0 + np.exp(-logit))


def test_evidence_is_the_share_of_the_prior_in_which_the_runs_came_out_so():
    rng = np.random.default_rng(0)
    design = rng.normal(size=(60, 2))
    target = (rng.random(60) < logistic(design @ [1.0, -0.5])).astype(float)

    def penalty(ridge, kind_ridge):
        return np.array([ridge, kind_ridge]), np.array([0.5, 0.0])

    for ridges in ((1.0, 4.0), (16.0, 1.0)):
        drawn = rng.normal(size=(200_000, 2)) / np.sqrt(ridges) + [0.5, 0.0]
        logit = drawn @ design.T
        likelihood = np.exp((logit * target - np.logaddexp(0.0, logit)).sum(axis=1))
        # Laplace's approximation of 60 runs is within some hundredths, as are 200,000 draws.
        assert fitted(design, target, penalty, ridges).evidence == pytest.approx(math.log(likelihood.mean()), abs=0.05)


def test_several_fits_have_the_mean_and_the_covariance_of_their_mixture():
    one = Fit(ridges=(1.0, 4.0), coef=np.array([0.0, 1.0]), covariance=np.eye(2), evidence=math.log(3.0) - 700.0)
    other = Fit(ridges=(4.0, 4.0), coef=np.array([2.0, 1.0]), covariance=3.0 * np.eye(2), evidence=-700.0)
    mean, covariance = mixed([one, other])
    assert mean == pytest.approx([0.5, 1.0])  # 3 to 1
    # Within 3/4 of 1 and 1/4 of 3; between 3/4 of .5 squared and 1/4 of 1.5 squared.
    assert covariance == pytest.approx(np.array([[1.5 + 0.75, 0.0], [0.0, 1.5]]))
    assert mixed([other])[0] is other.coef


@pytest.mark.parametrize("scale", [0.0, 0.3, 3.0])
def test_the_runs_tell_how_much_models_differ(scale, observed):
    rng = np.random.default_rng(1)
    theta = scale * rng.normal(size=(4, 4))
    columns = rng.integers(0, 4, (1500, 4))
    seen = observed.of(columns, rng.random(1500) < logistic(theta[np.arange(4), columns].sum(axis=1)))
    ridge, kind_ridge = AdditiveLogit(np.full(4, 4), ridge=None).fit(seen).ridges_
    spread = 1.0 / math.sqrt(ridge)
    assert kind_ridge == 4.0  # as given
    assert spread <= 0.07 if not scale else scale / 2 < spread < scale * 2


@pytest.mark.parametrize("scale", [0.0, 2.0])
def test_the_runs_tell_how_much_kinds_of_tasks_differ(scale, observed):
    rng = np.random.default_rng(2)
    theta, phi = rng.normal(size=(3, 3)), scale * rng.normal(size=(2, 3, 3))
    columns, kind = rng.integers(0, 3, (1500, 3)), rng.integers(0, 2, 1500)
    logit = (theta[np.arange(3), columns] + phi[kind[:, None], np.arange(3), columns]).sum(axis=1)
    seen = observed.of(columns, rng.random(1500) < logistic(logit), kinds=np.eye(2)[kind])
    model = AdditiveLogit(np.full(3, 3), kinds=2, ridge=None, kind_ridge=None).fit(seen)
    assert model.ridges_[1] > 60.0 if not scale else model.ridges_[1] <= 1.0


def test_ridges_that_are_given_are_kept_and_without_runs_there_is_nothing_to_tell(observed):
    rng = np.random.default_rng(3)
    seen = observed.drawn(rng, 80, kinds=2)
    given = AdditiveLogit(np.full(3, 3), kinds=2, ridge=0.5, kind_ridge=3.0).fit(seen)
    assert given.ridges_ == (0.5, 3.0)
    assert AdditiveLogit(np.full(3, 3), kinds=2, ridge=0.5, kind_ridge=None).fit(seen).ridges_[0] == 0.5
    none = AdditiveLogit(np.full(3, 3), kinds=2, ridge=None, kind_ridge=None).fit(seen.take(np.zeros(0, np.int64)))
    assert none.ridges_ == FIRST
    assert none.covariance_ == pytest.approx(
        AdditiveLogit(np.full(3, 3), kinds=2).fit(seen.take(np.zeros(0, np.int64))).covariance_
    )


def test_ridges_are_tried_from_the_first_out_to_where_they_are_unlikely(observed):
    rng = np.random.default_rng(4)
    design, target = np.ones((2000, 1)), (rng.random(2000) < 0.9).astype(float)
    found = tried(design, target, lambda ridge, _: (np.array([ridge]), np.zeros(1)), ridge=None, kind_ridge=None, kinds=0)
    ridges = [one.ridges[0] for one in found]
    assert len(set(ridges)) == len(ridges)
    assert {one.ridges[1] for one in found} == {4.0}  # there are no kinds
    best = max(one.evidence for one in found)
    # Of one effect of 2.2 logits .25 is the likeliest, and hundreds are out of the question.
    assert min(ridges) == 1 / 16
    assert max(ridges) < 1024
    assert best == next(one.evidence for one in found if one.ridges[0] == 0.25)


# --- what is said of an allocation that was chosen for its chance ---


@pytest.mark.parametrize(("scale", "least"), [(0.0, 0.9), (0.3, 0.9), (1.0, 0.9)])
def test_the_interval_of_what_is_chosen_holds_its_chance(scale, least):
    team = Team(roles=[Role(name=f"role {k}") for k in range(5)])
    cards = [ModelCard(id=f"m{j}", price=Price(input=1, output=1)) for j in range(5)]
    query, held, above = Query(text="x", task="t"), [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        theta = scale * rng.normal(size=(5, 5))
        columns = rng.integers(0, 5, (120, 5))
        success = rng.random(120) < logistic(theta[np.arange(5), columns].sum(axis=1))
        runs = [
            TeamRun(
                query=query,
                models={f"role {k}": f"m{column}" for k, column in enumerate(row)},
                success=float(good),
                propensity=5**-5,
            )
            for row, good in zip(columns.tolist(), success, strict=True)
        ]
        one = RoleAllocator(team, cards, runs=runs).allocate(query)
        truth = logistic(sum(theta[k, int(one.models[f"role {k}"][1:])] for k in range(5)))
        low, high = one.quality_interval
        held.append(low <= truth <= high)
        above.append(one.expected_quality - truth)
    assert np.mean(held) >= least  # with a ridge of 1: .09, .48 and .97
    assert np.mean(above) < 0.12  # it was .4 without effects


def test_an_effect_is_the_mean_over_the_kinds_that_were_run(cards):
    # Labels without a meaning: the solver's model alone matters, by 30 points.
    rng = np.random.default_rng(5)
    team, runs = Team(roles=[Role(name="planner"), Role(name="solver")]), []
    for _ in range(300):
        planner, solver, good = rng.choice(["small", "large"]), rng.choice(["small", "large"]), rng.random()
        runs.append(
            TeamRun(
                query=Query(text="x", task=str(rng.choice(["a", "b"]))),
                models={"planner": str(planner), "solver": str(solver)},
                success=float(good < (0.7 if solver == "large" else 0.4)),
                propensity=0.25,
            )
        )
    found = {(one.role, one.model): one for one in RoleAllocator(team, cards, runs=runs).report().effects}
    truth = (math.log(0.7 / 0.3) - math.log(0.4 / 0.6)) / 2
    one = found["solver", "large"]
    assert one.low > 0.0
    assert one.low < truth < one.high
    assert found["planner", "large"].low < 0.0 < found["planner", "large"].high
    assert NONE not in {model for _, model in found}


@pytest.mark.parametrize("spread", [0.0, 2.0])
@pytest.mark.parametrize("ridges", [(None, None), (1.0, 4.0)])
def test_intervals_hold_where_kinds_of_tasks_differ_much_or_not_at_all(spread, ridges, observed):
    held, means = [], []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        theta, phi = rng.normal(size=(3, 3)), spread * rng.normal(size=(3, 3, 3))
        columns, kind = rng.integers(0, 3, (200, 3)), rng.integers(0, 3, 200)
        logit = (theta[np.arange(3), columns] + phi[kind[:, None], np.arange(3), columns]).sum(axis=1)
        seen = observed.of(columns, rng.random(200) < logistic(logit), kinds=np.eye(3)[kind])
        model = AdditiveLogit(np.full(3, 3), kinds=3, ridge=ridges[0], kind_ridge=ridges[1]).fit(seen)
        for one in range(3):
            values = theta + phi[one]
            drawn = rng.integers(0, 3, 3)
            for chosen in (drawn, model.values(np.eye(3)[one]).argmax(axis=1)):
                _, low, high = model.interval(chosen, 0, np.eye(3)[one])
                held.append(low <= logistic(values[np.arange(3), chosen].sum()) <= high)
        mean = theta + np.tensordot(seen.kinds.mean(axis=0), phi, axes=1)
        means += [one.low <= mean[one.role, one.column] - mean[one.role].mean() <= one.high for one in model.effects()]
    assert np.mean(held) >= 0.9  # with a ridge of 4 that was not loosened it was a half where they differ much
    assert np.mean(means) >= 0.92


def test_a_sum_is_not_doubted_for_effects_that_a_strong_ridge_holds_back(observed):
    doubted = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        theta, columns = 0.3 * rng.normal(size=(6, 6)), rng.integers(6, size=(300, 6))
        seen = observed.of(columns, rng.random(300) < logistic(theta[np.arange(6), columns].sum(axis=1)))
        doubted += AdditiveLogit(np.full(6, 6), ridge=None).fit(seen).interaction() < 0.05
    # 5 % are 3, and three standard errors above that 8: in the residuals of the likeliest ridge's fit it was 11.
    assert doubted <= 8


# --- what was learned, kept ---


def test_what_was_learned_is_taken_up_without_learning_again(observed, cards):
    seen = observed.drawn(np.random.default_rng(6), 120, roles=2, kinds=2)
    model = AdditiveLogit(np.array([3, 3]), kinds=2, ridge=None, kind_ridge=None).fit(seen)
    state = model.state()
    other = AdditiveLogit(np.array([3, 3]), kinds=2, ridge=None, kind_ridge=None).taught(seen, state)
    assert other.effects() == model.effects()
    assert other.ridges_ == model.ridges_
    columns = np.array([0, 2])
    assert other.interval(columns, 0, np.array([0.3, 0.7])) == model.interval(columns, 0, np.array([0.3, 0.7]))
    more = AdditiveLogit(np.array([3, 3]), kinds=2).taught(seen, {**state, "coef": state["coef"] + 1.0})
    assert more.coef_ == pytest.approx(model.coef_ + 1.0)  # as it was told
    for name in ("coef", "covariance", "loose", "loose_covariance"):
        for wrong in (state[name][:-1], np.full_like(state[name], np.nan)):
            with pytest.raises(ValueError, match=name):
                AdditiveLogit(np.array([3, 3]), kinds=2).taught(seen, {**state, name: wrong})

    team = Team(roles=[Role(name="planner"), Role(name="solver")])
    prior = RoleAllocator(team, cards).prior
    ids = ("small", "middle", "large")
    learned = learn(team, ids, prior, seen, ridges=(None, None))
    kept, arrays = learned.state()
    again = Learned.from_state({**kept, "interaction": 0.125}, arrays, team, ids, prior, seen, (None, None))
    assert again.interaction == 0.125  # not told anew
    assert again.pairs is None
    assert again.sum.effects() == learned.sum.effects()
