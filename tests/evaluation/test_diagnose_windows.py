"""What a diagnosis says of its second window: who is warned of, what could not be compared, and what is not known."""

from dataclasses import replace

import numpy as np
import pytest

from agentroute.evaluation._diagnose import diagnose
from agentroute.types import Query


def sigmoid(values):
    return 1.0 / (1.0 + np.exp(-values))


def findings(diagnosis, kind):
    return [one for one in diagnosis.findings if one.kind == kind]


def unknown(diagnosis):
    [line] = [line for line in diagnosis.reasons if line.startswith("Not known: ")]
    return line


def test_a_holdout_of_one_common_model_leaves_it_unknown_and_says_why(logs):
    log, holdout = logs.contaminated(0, 150, 60)
    found = diagnose(log, holdout=holdout.select(["m0"]), resamples=20)
    assert found.shifts == ()
    was, now = log.quality[:, 0].mean(), holdout.quality[:, 0].mean()
    [said] = findings(found, "holdout")
    assert said.text == (
        "The holdout was not used: it shares no other model with the log, so that a change cannot be told from harder or easier "
        f"questions (m0 has a mean quality of {was:.3f} in the log and {now:.3f} in the holdout)."
    )
    assert "whether the scores hold on later or other queries (the holdout could not be compared with the rest)" in unknown(found)


def test_a_holdout_without_the_best_model_leaves_that_one_unknown(logs):
    log, holdout = logs.contaminated(0, 150, 60)
    found = diagnose(log, holdout=holdout.select(["m1", "m2", "m3", "m4"]), resamples=20)
    assert [shift.model for shift in found.shifts] == ["m1", "m2", "m3", "m4"]
    assert [one.text for one in findings(found, "holdout")] == [
        "The holdout has no outcomes of m0 and m5 (of which m0 is the best): whether their scores hold is not known."
    ]
    assert "whether the scores of m0 hold on later or other queries (the holdout has no outcomes of it)" in unknown(found)
    whole = diagnose(log, holdout=holdout, resamples=20)
    assert findings(whole, "holdout") == []
    assert "hold" not in unknown(whole)


def test_a_log_that_was_collected_task_after_task_says_that_its_windows_cannot_be_compared(logs):
    kind = np.arange(500) * 5 // 500
    quality = np.random.default_rng(0).random((500, 3)) < (0.5, 0.6, 0.7)
    found = diagnose(logs.scored(quality, kinds=kind, tasks=kind, at=1.7e9 + 600.0 * np.arange(500)), resamples=50)
    assert found.shifts == ()
    [said] = findings(found, "holdout")
    assert said.text.startswith(
        "The last 30 % of the times were not compared with the rest: 50 of the 150 questions of the second window are of a kind"
    )
    assert "(the last 30 % of the times could not be compared with the rest)" in unknown(found)
    assert "log times" not in unknown(found)


def test_windows_of_time_are_compared_from_first_to_last(logs):
    log, _ = logs.contaminated(1, timed=True)
    found = diagnose(log, resamples=50)
    [shift] = [one for one in found.shifts if one.shifted]
    assert shift.before == pytest.approx(log.quality[:455, 0].mean(), abs=0.05)
    assert shift.after < shift.before - 0.15
    assert shift.change.high < 0
    [said] = findings(found, "skill shift")
    assert "the fit window's questions were in its training data" in said.text
    assert "or the later ones are harder for it in a way that their texts do not show" in said.text


def test_a_cascade_of_a_model_that_shifted_is_warned_of(logs):
    """It is the cheap first one that fell, which is not the best single model."""
    rng = np.random.default_rng(0)
    log = logs.difficulty(0, 600)
    hard = 2.0 * rng.standard_normal((300, 1))
    later = (rng.random((300, 2)) < sigmoid(np.array([0.8 - 2.5, 1.6]) + hard)).astype(float)
    found = diagnose(log, holdout=replace(logs.scored(later), queries=tuple(_renamed(300))), resamples=100)
    assert (found.verdict, found.evaluation.best_single) == ("cascade", "m1")
    assert "But skill shift on model m0: its mean quality goes from" in found.headline


def test_an_ensemble_of_a_model_that_shifted_is_warned_of(logs):
    rng = np.random.default_rng(0)
    log = logs.difficulty(0, 1000, skill=(1.5, 1.6, 1.5), cost=(1.0,) * 3, spread=1.0)
    later = (rng.random((500, 3)) < sigmoid(np.array([-0.3, 1.6, 1.5]) + rng.standard_normal((500, 1)))).astype(float)
    found = diagnose(log, holdout=replace(logs.scored(later), queries=tuple(_renamed(500))), resamples=100)
    assert found.verdict == "ensemble"
    assert found.evaluation.best_single == "m2"
    assert "But skill shift on model m0: its mean quality goes from" in found.headline


def _renamed(n):
    return (Query(text=f"kind0 question later{row}", id=f"later{row}") for row in range(n))
