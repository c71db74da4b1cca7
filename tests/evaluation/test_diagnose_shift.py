"""Whether models changed between two windows, or only the questions did."""

import os
from dataclasses import replace

import numpy as np
import pytest

from agentroute.embedders import CallableEmbedder
from agentroute.evaluation._diagnose import diagnose
from agentroute.evaluation._laps import means_of
from agentroute.evaluation._questions import finer, likeness
from agentroute.evaluation._shift import Window, _beyond, _Pair, skill_shifts, windows_by_time
from agentroute.evaluation._windows import compared
from agentroute.router import Router
from agentroute.types import Query

SEEDS = range(int(os.environ.get("SEEDS", "3")))


def windows(before, after):
    return tuple(Window(quality=np.asarray(one, float), strata=np.zeros(len(one), int)) for one in (before, after))


def coins(rng, n, chances):
    return (rng.random((n, len(chances))) < chances).astype(float)


def test_of_two_models_the_one_that_moved_is_named():
    rng = np.random.default_rng(0)
    found = skill_shifts(*windows(coins(rng, 4000, [0.92, 0.73]), coins(rng, 4000, [0.67, 0.71])), ["math", "plain"])
    assert [shift.model for shift in found.shifts if shift.shifted] == ["math"]
    assert (found.lost_lead, found.leader) == ("math", "plain")
    math_, plain = found.shifts
    assert math_.change.low < -0.25 < math_.change.high
    assert math_.relative.low < -0.23 < math_.relative.high
    assert plain.relative.value == pytest.approx(-math_.relative.value)
    assert math_.p_value < 1e-6


def test_a_harder_holdout_is_no_shift():
    rng = np.random.default_rng(0)
    found = skill_shifts(*windows(coins(rng, 3000, [0.8, 0.7, 0.6]), coins(rng, 1500, [0.6, 0.5, 0.4])), list("abc"))
    assert not any(shift.shifted for shift in found.shifts)
    assert all(shift.change.high < 0 < shift.p_value for shift in found.shifts)
    assert found.lost_lead is None


def test_an_easier_holdout_does_not_pass_the_shift_on():
    """All rise by 0.1 but one, which falls: the others' lead rises with their means, and yet they did not shift."""
    rng = np.random.default_rng(0)
    found = skill_shifts(*windows(coins(rng, 6000, [0.8, 0.6, 0.5, 0.4]), coins(rng, 6000, [0.65, 0.7, 0.6, 0.5])), list("abcd"))
    assert [shift.model for shift in found.shifts if shift.shifted] == ["a"]


def test_a_lead_that_grows_while_the_mean_falls_is_no_shift():
    rng = np.random.default_rng(0)
    found = skill_shifts(*windows(coins(rng, 20_000, [0.7, 0.9]), coins(rng, 20_000, [0.65, 0.6])), ["a", "b"], resamples=20)
    assert [shift.model for shift in found.shifts if shift.shifted] == ["b"]
    assert found.shifts[0].change.high < 0 < found.shifts[0].relative.low


def test_a_lead_that_falls_while_the_mean_may_not_is_no_shift():
    """The lead is certain, for both models fail on the same queries; the mean is not."""
    turn = np.arange(200)
    before = np.stack([turn % 2, turn % 2], axis=1)
    after = np.stack([(turn % 2) * (turn >= 20), turn % 2], axis=1)
    [found, _] = skill_shifts(*windows(before, after), ["a", "b"]).shifts
    assert found.relative.high < 0
    assert found.p_value < 0.01
    assert found.change.high > 0
    assert not found.shifted


def test_two_contaminated_models_are_both_named():
    rng = np.random.default_rng(0)
    found = skill_shifts(*windows(coins(rng, 3000, [0.9, 0.85, 0.6, 0.5]), coins(rng, 1500, [0.65, 0.6, 0.6, 0.5])), list("abcd"))
    assert [shift.model for shift in found.shifts if shift.shifted] == ["a", "b"]


def test_a_change_too_small_to_matter_is_none_however_sure():
    turn = np.arange(100_000) % 1000
    before, after = (np.stack([turn < share, turn % 2 == 0], axis=1) for share in (500, 485))
    [small, _] = skill_shifts(*windows(before, after), ["a", "b"], resamples=2).shifts
    assert small.relative.value == pytest.approx(-0.015)
    assert small.p_value < 1e-3
    assert not small.shifted


def test_another_mix_of_tasks_is_no_shift():
    """Model a knows task 0, model b task 1; the holdout asks more of task 1."""
    rng = np.random.default_rng(0)

    def window(n, share):
        task = (rng.random(n) < share).astype(int)
        chance = np.where(task[:, None] == np.arange(2), 0.9, 0.4)
        return Window(quality=(rng.random((n, 2)) < chance).astype(float), strata=task)

    before, after = window(3000, 0.3), window(2000, 0.7)
    found = skill_shifts(before, after, ["a", "b"])
    assert not any(shift.shifted for shift in found.shifts)
    assert abs(found.shifts[0].change.value) < 0.03
    blind = [Window(quality=one.quality, strata=np.zeros(len(one.quality), int)) for one in (before, after)]
    assert all(shift.shifted for shift in skill_shifts(*blind, ["a", "b"], resamples=20).shifts[:1])


def test_shifts_are_seldom_seen_where_there_is_none():
    """The test is at 1 % for all models together."""
    rng = np.random.default_rng(7)
    wrong = sum(
        any(s.shifted for s in skill_shifts(*windows(coins(rng, 300, [0.6] * 5), coins(rng, 200, [0.6] * 5)), list("abcde"),
                                            resamples=2).shifts)
        for _ in range(300)
    )  # fmt: skip
    assert wrong <= 8


def test_windows_that_cannot_be_compared_say_so():
    few = windows(np.ones((100, 2)), np.ones((29, 2)))
    assert skill_shifts(*few, ["a", "b"]).note == (
        "the second window has 29 different questions that all models answered, and it takes 30"
    )
    other = [Window(quality=np.ones((100, 2)), strata=np.full(100, number)) for number in (0, 1)]
    assert skill_shifts(*other, ["a", "b"]).note == (
        "0 of the 100 questions of the second window are of a kind that the fit window asks too, and it takes 50"
    )
    narrow = (
        Window(quality=np.ones((100, 2)), strata=np.arange(100) // 20),
        Window(quality=np.ones((40, 2)), strata=np.zeros(40)),
    )
    assert skill_shifts(*narrow, ["a", "b"]).note == (
        "20 of the 100 questions of the fit window are of a kind that the second one asks too, and it takes 30"
    )
    same = skill_shifts(*windows(np.ones((100, 2)), np.ones((50, 2))), ["a", "b"])
    assert [(s.p_value, s.shifted) for s in same.shifts] == [(1.0, False)] * 2


def test_only_a_log_with_a_history_has_windows():
    early, late = windows_by_time(np.arange(100.0)[::-1] * 3600.0)
    assert (len(early), len(late)) == (70, 30)
    assert max(early) == 99  # the times run backwards
    assert windows_by_time(np.arange(100.0)) is None  # less than an hour
    assert windows_by_time(np.where(np.arange(100) < 10, np.nan, np.arange(100) * 3600.0)) is None
    assert windows_by_time(np.full(100, np.nan)) is None


def sigmoid(values):
    return 1.0 / (1.0 + np.exp(-values))


def rasch(rng, n, skill, harder=0.0):
    """Scores of models whose log odds of a right answer are skill less the difficulty of the question."""
    return (rng.random((n, len(skill))) < sigmoid(np.array(skill) - harder + rng.standard_normal((n, 1)))).astype(float)


def hours(n):
    return 1.7e9 + 600.0 * np.arange(n)


def season(logs, seed, n, affinity, *, tasks=None, swing=0.8, spread=0.3):
    """Two kinds of question, of which the last 30 % of the times ask the second more often; models stay as they are."""
    rng = np.random.default_rng(seed)
    kind = (rng.random(n) < np.where(np.arange(n) < 0.7 * n, 0.5 - swing / 2, 0.5 + swing / 2)).astype(int)
    quality = (rng.random((n, affinity.shape[1])) < sigmoid(affinity[kind] + rng.standard_normal((n, 1)))).astype(float)
    return logs.scored(quality, kinds=kind, tasks=None if tasks is None else tasks(n), at=hours(n), spread=spread)


def drift(log, holdout=None, seed=0):
    def refuse(texts):
        raise AssertionError

    made = log.fingerprint
    router = Router(
        log.models, embedder=CallableEmbedder(refuse, name=made.name, revision=made.revision, dimension=made.dimension)
    )
    return compared(log, holdout, router, seed=seed, resamples=50)[0]


def named(found):
    return [shift.model for shift in found.shifts if shift.shifted]


# Another mix of questions

TWO = np.array([[1.5, 0.0], [0.0, 1.5]])


@pytest.mark.parametrize(
    ("n", "tasks"),
    [(1500, None), (1500, lambda n: np.arange(n) % 2), (190, None)],
    ids=["no labels", "labels that say nothing of it", "few"],
)
def test_another_mix_of_kinds_that_no_label_names_is_no_shift(logs, n, tasks):
    for seed in SEEDS:
        found = drift(season(logs, seed, n, TWO, tasks=tasks))
        assert named(found) == []
        assert found.lost_lead is None


def test_another_mix_of_kinds_takes_no_lead_away(logs):
    """Of seven models each is best at something, so that over the whole log another is best than later."""
    affinity = np.random.default_rng(5).normal(0.5, 1.0, (2, 7))
    for seed in SEEDS:
        log = season(logs, seed, 1500, affinity)
        late = np.arange(1500) >= 1050
        assert log.quality[~late].mean(axis=0).argmax() != log.quality[late].mean(axis=0).argmax()
        assert drift(log).lost_lead is None


def test_where_clusters_cannot_part_the_mix_the_questions_are_said_to_be_others(logs):
    """The kinds overlap in the space of vectors: within clusters the mix is another, and a model seems to shift."""
    moved = 0
    for seed in SEEDS:
        log = season(logs, seed, 600, TWO, spread=2.5)
        found = drift(log)
        assert found.others
        assert named(found) == []
        assert found.lost_lead is None
        moved += bool(found.moved)
    assert moved >= len(SEEDS) - 1
    log = season(logs, 0, 600, TWO, spread=2.5)
    found, told = drift(log), diagnose(log, resamples=50)
    assert found.moved == (told.evaluation.best_single,)
    about = [one for one in told.findings if one.kind == "other questions"]
    assert [one.model for one in about] == list(found.moved)
    assert "cannot be told" in about[0].text
    assert not any(one.kind in {"skill shift", "lost lead"} for one in told.findings)
    assert "the questions in the last 30 % of the times are others, where m" in told.headline
    assert any("hold on the same questions (those in the last 30 % of the times are others)" in line for line in told.reasons)


def test_clusters_are_of_one_label_and_fine_enough_for_the_smaller_window():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((600, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels, late = np.arange(600) % 2 + 3, np.arange(600) >= 480
    strata = finer(labels, late, vectors)
    assert len(np.unique(strata)) == 2 * (60 // 12)
    assert all(len(np.unique(labels[strata == one])) == 1 for one in np.unique(strata))
    assert np.array_equal(finer(labels, np.arange(600) >= 590, vectors), labels - 3)  # five of each label: no clusters


def test_alike_questions_seldom_look_otherwise_and_moved_ones_do():
    """P-values are those of chance where nothing moved; a move of all strata and one of single strata are both seen."""
    strata, late = np.arange(400) % 8, np.arange(400) >= 280
    alike, shifted, torn = [], [], []
    for seed in range(60):
        vectors = np.random.default_rng(seed).standard_normal((400, 12)).astype(np.float32)
        alike.append(likeness(vectors, strata, late, seed=seed))
        shifted.append(likeness(vectors + 0.8 * late[:, None] * (np.arange(12) == 0), strata, late, seed=seed))
        apart = np.where(strata % 2, 1.2, -1.2) * late
        torn.append(likeness(vectors + apart[:, None] * (np.arange(12) == 0), strata, late, seed=seed))
    assert sum(p <= 0.1 for p in alike) <= 12
    assert sum(p <= 0.01 for p in alike) <= 3
    assert sum(p <= 0.01 for p in shifted) >= 57
    assert sum(p <= 0.01 for p in torn) >= 57
    # A stratum of one window says nothing.
    assert likeness(vectors, late.astype(int), late) == 1.0


# A harder window


@pytest.mark.parametrize(
    ("skill", "harder", "n"),
    [((3.0, 0.8), 1.2, (1050, 450)), ((2.5, 1.0, 0.8), -1.0, (3000, 3000)), ((7.0, 1.0, 0.8), 1.0, (600, 300))],
    ids=["two models", "easier", "one is nearly always right"],
)
def test_a_window_that_is_harder_for_all_by_the_same_odds_is_no_shift(skill, harder, n):
    wrong = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        pair = windows(rasch(rng, n[0], skill), rasch(rng, n[1], skill, harder))
        found = skill_shifts(*pair, [f"m{j}" for j in range(len(skill))], resamples=20)
        wrong += [found] if named(found) else []
    assert len(wrong) <= len(SEEDS) // 20


def test_a_model_that_falls_in_a_harder_window_more_than_the_others_is_named():
    rng = np.random.default_rng(0)
    after = rasch(rng, 500, (2.4 - 1.8, 1.0, 0.5), harder=0.5)
    found = skill_shifts(*windows(rasch(rng, 800, (2.4, 1.0, 0.5)), after), list("abc"), resamples=20)
    assert named(found) == ["a"]


def test_a_model_that_is_always_right_does_not_prove_the_other_one_guilty():
    """What can take ten points of one may take none that shows of the other; but a fall from always right does show."""
    turn = np.arange(400)
    perfect, falling = np.ones(400), (turn % 10 > 0).astype(float)
    before = np.stack([perfect, falling], axis=1)
    after = np.stack([perfect, turn % 10 > 2], axis=1)[:250]
    assert named(skill_shifts(*windows(before, after), ["a", "b"], resamples=20)) == []
    fell = np.stack([turn % 10 > 0, falling], axis=1)[:250]
    assert named(skill_shifts(*windows(np.stack([perfect, falling], axis=1), fell), ["a", "b"], resamples=20)) == ["a"]


def test_how_far_a_mean_is_from_what_the_others_lead_to_expect_by_hand():
    """a stays at 0.8, where b went from odds of 1 to odds of 1/4: a is expected at odds of 4 / 4, 0.5."""
    turn = np.arange(100_000)
    before = np.stack([turn % 5 > 0, turn % 2], axis=1)
    after = np.stack([turn % 5 > 0, turn % 5 == 0], axis=1)
    pair = _Pair.of(*windows(before, after))[0]
    beyond, _ = _beyond(pair, [np.array([1]), np.array([0])])
    assert beyond == pytest.approx([0.8 - 0.5, 0.2 - 0.5], abs=1e-4)


@pytest.mark.parametrize(
    ("was", "harder", "n"),
    [((0.8, 0.5, 0.6), 1.0, (300, 150)), ((0.95, 0.9, 0.92), 3.0, (400, 4000))],
    ids=["a little harder", "much harder"],
)
def test_chance_alone_goes_beyond_what_is_expected_no_more_often_than_it_should(was, harder, n):
    """At 5 %, of models that all lose the same log odds; the second time what was is uncertain, and passed on fivefold."""
    rng = np.random.default_rng(3)
    odds = np.log(np.array(was) / (1.0 - np.array(was)))
    small = 0
    for _ in range(300):
        pair = _Pair.of(*windows(coins(rng, n[0], was), coins(rng, n[1], sigmoid(odds - harder))))[0]
        small += int(_beyond(pair, [np.array([1, 2]), np.array([0, 2]), np.array([0, 1])])[1][0] <= 0.05)
    assert 5 <= small <= 27  # 15 are expected; the standard deviation is 3.8


# The lead


def lead(early, late):
    """b's score less a's, by rows: 1, 0 or -1."""
    return windows(*(np.stack([np.asarray(one) < 0, np.asarray(one) > 0], axis=1) for one in (early, late)))


def ahead(wins, losses, ties):
    return np.repeat([1, -1, 0], [wins, losses, ties])


def test_a_lead_is_lost_beyond_noise_only():
    """b wins 21 and loses 9 of 300: 0.04, with a standard error of 0.018. That shows at 95 %, but not at 99 %."""
    before = ahead(40, 80, 580)
    assert skill_shifts(*lead(before, ahead(21, 9, 270)), ["a", "b"], resamples=20).lost_lead is None
    found = skill_shifts(*lead(before, ahead(30, 9, 261)), ["a", "b"], resamples=20)
    assert (found.lost_lead, found.leader) == ("a", "b")
    assert found.lead.value == pytest.approx(0.07)
    assert found.lead.low == pytest.approx(0.07 - 2.576 * 0.0202, abs=0.006)


def test_the_lead_that_is_lost_is_what_it_changed_by():
    """b is ahead of a by 7 points later, and it was behind by one: of so few early questions that proves nothing."""
    late = ahead(30, 9, 261)
    assert skill_shifts(*lead(ahead(20, 21, 59), late), ["a", "b"], resamples=20).lost_lead is None
    assert skill_shifts(*lead(ahead(20, 21, 59).repeat(40), late.repeat(40)), ["a", "b"], resamples=20).lost_lead == "a"


def test_the_best_model_is_the_best_of_what_can_be_compared():
    """In the task that both windows ask b was ahead all along; a leads in the fit window by a task that is asked no more."""
    before = np.concatenate([ahead(150, 50, 0), -ahead(280, 20, 0)])
    early, late = lead(before, ahead(150, 50, 0))
    early = replace(early, strata=np.repeat([0, 1], [200, 300]))
    assert early.quality.mean(axis=0).argmax() == 0
    assert skill_shifts(early, late, ["a", "b"], resamples=20).lost_lead is None


def test_a_question_that_is_asked_often_counts_once(logs):
    """Twenty questions early and twelve late, each asked thirty times: too few to say that anything moved."""
    rng = np.random.default_rng(0)
    asked = np.concatenate([np.repeat(np.arange(70), 10), 70 + np.repeat(np.arange(30), 10)])
    chance = sigmoid(rng.normal(0.5, 2.0, (100, 3)))
    for seed in SEEDS:
        quality = (np.random.default_rng(seed).random((1000, 3)) < chance[asked]).astype(float)
        log = logs.scored(quality, at=hours(1000))
        log = replace(
            log,
            queries=tuple(Query(text=f"question {one}", id=f"q{one}") for one in asked.tolist()),
            embeddings=log.embeddings[asked],
        )
        found = drift(log, seed=seed)
        assert found.note is None
        assert named(found) == []
        assert found.lost_lead is None
        means = means_of(quality, asked)
        rows = np.unique(asked, return_index=True)[1]
        assert found.shifts[0].before == pytest.approx(means[rows[:70], 0].mean(), abs=0.12)
    assert (
        drift(log.take(np.arange(910))).note
        == "the second window has 28 different questions that all models answered, and it takes 30"
    )


def test_a_question_of_both_windows_is_compared_with_itself():
    """The same hard and easy questions again: a change of three points shows, which would not among other questions."""
    rng = np.random.default_rng(0)
    hard = rng.random(400)
    quality = np.stack([hard, rng.random(400)], axis=1)
    later = np.stack([np.clip(hard - 0.03, 0, 1), quality[:, 1]], axis=1)
    strata, groups = np.zeros(400, int), np.arange(400)
    before, after = (Window(quality=one, strata=strata, groups=groups) for one in (quality, later))
    [again, _] = skill_shifts(before, after, ["a", "b"], resamples=200).shifts
    [other, _] = skill_shifts(before, replace(after, groups=groups + 400), ["a", "b"], resamples=200).shifts
    assert again.change.high < 0 < other.change.high
    assert again.shifted
    assert not other.shifted
