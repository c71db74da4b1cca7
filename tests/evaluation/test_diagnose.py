"""Every verdict and finding is right on 19 of 20 logs that it should be right on.

A run takes the first few of them, since each log is judged three times over; SEEDS=20 in the environment takes all.
"""

import os
from dataclasses import replace

import numpy as np
import pytest

from agentroute.evaluation._diagnose import diagnose

SEEDS = range(int(os.environ.get("SEEDS", "6")))


def diagnosed(make, *, seeds=SEEDS, **options):
    """A diagnosis of each of some logs, or (log, holdout) pairs."""
    found = []
    for seed in seeds:
        made = make(seed)
        log, holdout = made if isinstance(made, tuple) else (made, None)
        found.append(diagnose(log, holdout=holdout, resamples=300, seed=seed, **options))
    return found


def kinds(diagnosis):
    return {finding.kind for finding in diagnosis.findings}


def assert_mostly(found, right):
    wrong = [seed for seed, one in enumerate(found) if not right(one)]
    assert len(wrong) <= 1, f"wrong on seeds {wrong}, first:\n{found[wrong[0]]}"


@pytest.mark.parametrize("timed", [False, True])
def test_a_contaminated_model_is_named_and_no_other(logs, timed):
    def right(diagnosis):
        shifted = [finding.model for finding in diagnosis.findings if finding.kind == "skill shift"]
        return shifted == ["m0"] and "m0" in diagnosis.headline and "skill shift" in diagnosis.headline

    found = diagnosed(lambda seed: logs.contaminated(seed, timed=timed))
    assert_mostly(found, right)
    assert all(one.settings["second window"] == ("in the last 30 % of the times" if timed else "in the holdout") for one in found)


@pytest.mark.parametrize(
    ("n", "chances"),
    [(500, (0.5, 0.5)), (800, (0.5, 0.6, 0.7)), (500, (0.7,) * 7)],
    ids=["two alike", "three unlike", "seven alike"],
)
def test_pure_noise_is_no_reason_to_route(logs, n, chances):
    found = diagnosed(lambda seed: logs.noise(seed, n, chances))
    assert_mostly(found, lambda one: one.verdict == "single model")
    if len(chances) == 7:  # of fewer models and queries it takes more to tell noise from scores that go together a little
        assert_mostly(found, lambda one: "noise" in kinds(one))


def test_coins_that_hang_on_the_task_alone_are_no_reason_for_a_cascade(logs):
    """Over all tasks they go together, and the task foresees them; within a task nothing is left."""

    def coins(seed):
        rng = np.random.default_rng(seed)
        kind = rng.integers(0, 4, 600)
        right = rng.random((600, 5)) < np.array([0.3, 0.5, 0.7, 0.9])[kind][:, None]
        return logs.scored(right, kinds=kind, tasks=kind, cost=np.geomspace(0.1, 10.0, 5))

    found = diagnosed(coins, seeds=SEEDS if len(SEEDS) >= 20 else SEEDS[:3])
    assert_mostly(found, lambda one: one.verdict == "single model")
    # One log in twenty has a correlation that cannot be told from 0, and from 0.05.
    assert sum("within a task the scores look like noise" in one.headline for one in found) >= 0.8 * len(found)


def test_a_small_log_of_real_models_is_not_called_noise(logs):
    found = diagnosed(lambda seed: logs.difficulty(seed, 300, skill=(0.3, 1.2), cost=(0.2, 1.0), spread=1.2))
    assert_mostly(found, lambda one: "noise" not in kinds(one) and "noise:" not in one.headline)


def test_guessers_show_the_floor_of_luck(logs):
    found = diagnosed(lambda seed: logs.noise(seed, 500, (0.25,) * 7, costs=False), options=4)
    assert_mostly(found, lambda one: {"luck floor", "luck inflation"} <= kinds(one) and one.verdict == "single model")
    assert found[0].luck_floor == pytest.approx(1 - 0.75**7)


@pytest.mark.parametrize("labels", [True, False])
def test_a_gain_that_is_task_identity_is_called_so(logs, labels):
    found = diagnosed(lambda seed: logs.two_tasks(seed, labels=labels))
    assert_mostly(found, lambda one: one.verdict == "route" and "task identity" in kinds(one) and one.lookup_is_enough)
    assert {one.lookup_by for one in found} == {"task" if labels else "cluster"}
    assert all(("cluster lookup" in one.evaluation) is not labels for one in found)
    # The task tells right from wrong answers; within a task there is nothing to tell.
    assert all(model.auroc.value > 0.6 > model.auroc_within.value for one in found for model in one.calibration)
    # Of four logs the mean has a standard error of 0.017; of sixteen it is 0.494.
    assert np.mean([model.auroc_within.value for one in found for model in one.calibration]) == pytest.approx(0.5, abs=0.055)


def test_a_gain_within_tasks_is_not(logs):
    found = diagnosed(logs.within)
    assert_mostly(found, lambda one: one.verdict == "route" and "task identity" not in kinds(one) and not one.lookup_is_enough)


@pytest.mark.parametrize("chances", [(0.5, 0.6), (0.6, 0.62, 0.64)])
def test_sixty_queries_are_too_few(logs, chances):
    found = diagnosed(lambda seed: logs.noise(seed, 60, chances))
    assert_mostly(found, lambda one: one.verdict == "need more data" and one.queries_needed > 60 and "few rows" in kinds(one))
    assert str(found[0].queries_needed) in found[0].headline.replace(",", "")


def test_a_judge_that_sees_what_the_router_cannot_makes_a_cascade(logs):
    found = diagnosed(logs.difficulty)
    assert_mostly(found, lambda one: one.verdict == "cascade" and "m0 → m1" in one.headline)


def test_models_of_one_strength_that_fail_apart_make_an_ensemble(logs):
    found = diagnosed(lambda seed: logs.difficulty(seed, 1000, skill=(1.5,) * 3, cost=(1.0,) * 3, spread=1.0))
    assert_mostly(found, lambda one: one.verdict == "ensemble" and "at 3.0 times its cost" in one.headline)


def test_money_alone_is_a_reason_to_route(logs):
    """The cheap model is as good where it can be told, so that its price is saved at no loss."""

    def cheap_half(seed):
        rng = np.random.default_rng(seed)
        kind = rng.integers(0, 2, 500)
        easy = rng.random(500) < np.where(kind == 0, 0.9, 0.5)
        weak = np.where(kind == 0, easy, rng.random(500) < 0.2)
        return logs.scored(np.stack([weak, easy], axis=1), kinds=kind, cost=np.array([0.1, 1.0]))

    found = diagnosed(cheap_half)
    assert_mostly(found, lambda one: one.verdict == "route" and one.headline.startswith("Route to save money"))
    # Half of the queries at a tenth of the price.
    assert all(any(point.gain.value >= 0 and point.saving.value > 0.35 for point in one.frontier.points) for one in found)


def test_the_same_seed_says_the_same(logs):
    one, again = (diagnose(logs.two_tasks(3, labels=False), resamples=100, seed=5) for _ in range(2))
    assert str(one) == str(again)
    assert one.settings == again.settings
    other = diagnose(logs.two_tasks(3, labels=False), resamples=100, seed=6)
    assert str(one) != str(other)


def test_what_a_diagnosis_holds_fits_together(logs):
    log = replace(logs.within(1), samples=np.full((500, 2), 6.0))
    found = diagnose(log, resamples=200)
    gaps = found.gaps
    assert gaps.policy.value + gaps.classifier.value + gaps.noise.value == pytest.approx(gaps.total.value)
    assert gaps.total.value == pytest.approx(found.evaluation["oracle"].quality.value - found.evaluation["routed"].quality.value)
    replay = found.evaluation.replay
    likely = (replay.estimate.quality >= 0.5) | (replay.shares["routed"] > 0)
    assert gaps.ceiling.value == pytest.approx(np.where(likely, replay.table.quality, 0.0).max(axis=1).mean())
    assert 0 <= gaps.policy.value < gaps.total.value
    assert found.stable_oracle.value == pytest.approx(found.evaluation["oracle"].quality.value)  # scores of 0 and 1 are stable
    assert [one.quality.value for one in found.singles] == sorted((one.quality.value for one in found.singles), reverse=True)
    assert found.top_two[1].value == pytest.approx(log.quality.max(axis=1).mean())
    assert sum(task.queries for task in found.tasks) == 500
    gain = sum(task.queries * task.gain.value for task in found.tasks) / 500
    assert gain == pytest.approx(found.evaluation["routed"].gain.value)
    assert 0 < found.degeneracy.entropy.value <= 1
    assert found.degeneracy.share.value == pytest.approx(max(found.evaluation["routed"].shares.values()))
    assert [one.judge_error for one in found.cascades] == [0.0, 0.1, 0.2, 0.3]
    assert str(found).splitlines()[0] == found.headline


def test_progress_names_every_stage_and_never_goes_back(logs):
    told = []
    diagnose(logs.two_tasks(0), resamples=50, progress=lambda what, share: told.append((what, share)))
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] <= 1
    names = {what.split(":")[0] for what, _ in told}
    assert names == {"embedding", "skill shift", "out of fold", "frontier", "calibration", "votes, cascades and luck", "verdict"}
