"""Collecting: what is logged, what a second run does, and what a failing model costs."""

from dataclasses import replace

import pytest

from agentroute.collection import Answer, Task, collect
from agentroute.errors import ConfigError
from agentroute.outcomes import MemoryOutcomeLog, OutcomeTable, SqliteOutcomeLog
from agentroute.types import Price, Usage

TASKS = [
    Task(id=f"t{n}", prompt=f"{n} + {n}?", verifier={"kind": "number", "expected": 2 * n}, task="sum", max_tokens=8)
    for n in range(4)
]


class Fixed:
    """Answers with a function of the prompt and counts its calls."""

    def __init__(self, function):
        self.function = function
        self.asked = []

    def answer(self, prompt, max_tokens):
        self.asked.append(prompt)
        text = self.function(prompt)
        usage = Usage(input_tokens=100, output_tokens=max_tokens)
        return Answer(text=text, usage=usage, latency=0.25, cpu_seconds=0.125, logprob=-0.5, finish="stop")


def right(prompt):
    return str(2 * int(prompt.split()[0]))


def test_every_pair_is_asked_scored_and_logged():
    log, good, bad = MemoryOutcomeLog(), Fixed(right), Fixed(lambda _: "0")
    seen = []
    report = collect(
        TASKS,
        {"good": good, "bad": bad},
        log,
        prices={"good": Price(input=1.0, output=10.0)},
        on_progress=lambda done, total, outcome: seen.append((done, total, outcome.model)),
    )
    assert (report.answered, report.failed, report.skipped, report.given_up) == (8, 0, 0, ())
    assert seen[0] == (1, 8, "good")
    assert seen[1] == (2, 8, "bad")
    assert seen[-1][0] == 8
    table = OutcomeTable.from_log(log)
    scores = dict(zip(table.models, table.quality.T.tolist(), strict=True))
    assert scores == {"good": [1.0] * 4, "bad": [1.0, 0.0, 0.0, 0.0]}
    first = next(outcome for outcome in log if outcome.model == "good")
    assert first.cost == pytest.approx((100 * 1.0 + 8 * 10.0) / 1e6)
    assert (first.latency, first.scorer, first.query.id, first.query.task) == (0.25, "verifier", "t0", "sum")
    assert first.metadata["answer"] == "0"
    assert first.metadata["logprob"] == -0.5
    assert first.metadata["cpu_seconds"] == 0.125
    assert first.metadata["verifier"] == {"kind": "number", "expected": 0}
    assert next(outcome for outcome in log if outcome.model == "bad").cost is None


def test_a_killed_run_goes_on_and_asks_nothing_twice(tmp_path):
    def stop_at_third(prompt):
        if len(killed.asked) == 3:
            raise KeyboardInterrupt
        return right(prompt)

    killed, resumed = Fixed(stop_at_third), Fixed(right)
    with SqliteOutcomeLog(tmp_path / "log.sqlite", store_prompts=True) as log, pytest.raises(KeyboardInterrupt):
        collect(TASKS, {"m": killed}, log)
    with SqliteOutcomeLog(tmp_path / "log.sqlite", store_prompts=True) as log:
        report = collect(TASKS, {"m": resumed}, log)
        assert (report.answered, report.skipped) == (2, 2)
        assert resumed.asked == ["2 + 2?", "3 + 3?"]
        assert [outcome.query.text for outcome in log] == [task.prompt for task in TASKS]
        assert collect(TASKS, {"m": resumed}, log).skipped == 4
    assert len(resumed.asked) == 2


def test_a_failed_call_is_logged_and_tried_again():
    failing, log = True, MemoryOutcomeLog()

    def flaky(prompt):
        if failing and prompt.startswith("1"):
            raise TimeoutError("too slow")
        return right(prompt)

    model = Fixed(flaky)
    report = collect(TASKS, {"m": model}, log)
    assert (report.answered, report.failed) == (3, 1)
    assert [(outcome.error, outcome.quality, outcome.metadata["message"]) for outcome in log if outcome.error] == [
        ("TimeoutError", None, "too slow")
    ]
    failing = False
    assert collect(TASKS, {"m": model}, log).answered == 1
    assert collect(TASKS, {"m": model}, log).skipped == 4


def test_a_dead_model_is_given_up_and_the_others_go_on():
    def dead(_):
        raise ConnectionRefusedError

    tasks = [Task(id=str(n), prompt=f"{n}?", verifier={"kind": "number", "expected": n}) for n in range(9)]
    gone, alive = Fixed(dead), Fixed(lambda prompt: prompt)
    report = collect(tasks, {"gone": gone, "alive": alive}, MemoryOutcomeLog())
    assert (report.answered, report.failed, report.given_up) == (9, 5, ("gone",))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"prompt": "1 plus 1?"}, "'t1' with another prompt"),
        ({"verifier": {"kind": "number", "expected": 3}}, "'t1' with another verifier"),
        ({"verifier": {"kind": "exact", "expected": "2"}}, "'t1' with another verifier"),
    ],
)
def test_a_task_that_changed_under_its_id_is_refused_before_any_call(tmp_path, change, says):
    model = Fixed(right)
    with SqliteOutcomeLog(tmp_path / "log.sqlite", store_prompts=True) as log:
        collect(TASKS[:2], {"m": model}, log)
        changed = [TASKS[0], replace(TASKS[1], **change), *TASKS[2:]]
        with pytest.raises(ConfigError, match=says):
            collect(changed, {"m": model, "n": model}, log)
        assert len(model.asked) == 2
        assert collect(TASKS, {"m": model}, log).skipped == 2


def test_a_task_made_in_python_is_the_same_after_it_was_stored(tmp_path):
    task = Task(id="a", prompt="?", verifier={"kind": "json", "expected": {"n": (1, 2)}})
    for _ in range(2):
        with SqliteOutcomeLog(tmp_path / "log.sqlite", store_prompts=True) as log:
            report = collect([task], {"m": Fixed(lambda _: "")}, log)
    assert report.skipped == 1


def test_no_model_is_an_error():
    with pytest.raises(ConfigError, match="at least one model"):
        collect(TASKS, {}, MemoryOutcomeLog())
