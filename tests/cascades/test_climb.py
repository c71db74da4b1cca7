"""The flow of a cascade: plans, guards, and what comes out when nothing is good enough."""

import asyncio
import contextlib
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.cascades import Attempt, CascadeResult, Check, Limits, Next, Ordered, Pick, adrive, cascade, drive
from agentroute.errors import AllModelsFailedError, ConfigError, DeadlineExceededError, NoEligibleModelError
from agentroute.types import Reply, Score, ToolCall, Usage


class Transient(Exception):
    pass


class Permanent(Exception):
    pass


def retryable(error):
    return isinstance(error, Transient)


def caller(answers, *, cost=0.25):
    """Calls that answer or raise as told; keeps the steps."""
    steps = []

    def call(step):
        steps.append(step)
        answer = answers[step.model]
        if isinstance(answer, BaseException):
            raise answer
        reply = answer if isinstance(answer, Reply) else Reply(text=answer)
        return Attempt(model=step.model, answer=reply.text, cost=cost, reply=reply, usage=Usage(input_tokens=1, output_tokens=2))

    return call, steps


def judge(scores, *, cost=0.01):
    """A check that scores as told, or raises."""
    seen = []

    def check(attempt):
        seen.append(attempt.model)
        score = scores[attempt.model]
        if isinstance(score, BaseException):
            raise score
        return Score(value=score, cost=cost)

    return check, seen


def run(answers, scores, plan=None, **kwargs):
    call, steps = caller(answers)
    check, seen = judge(scores)
    result = drive(cascade(plan or Ordered(list(answers)), list(answers), retryable=retryable, **kwargs), call, check)
    return result, [step.model for step in steps], seen


def test_a_good_first_answer_ends_the_cascade():
    result, called, judged = run({"a": "yes", "b": "no"}, {"a": 0.9})
    assert (result.model, result.answer, result.accepted, result.chosen) == ("a", "yes", True, 0)
    assert (called, judged) == (["a"], ["a"])
    assert result.cost == pytest.approx(0.26)


def test_a_rejected_answer_leads_to_the_next_model_whose_last_answer_is_taken_unchecked():
    result, called, judged = run({"a": "yes", "b": "no"}, {"a": 0.49})
    assert (result.model, result.accepted, result.chosen) == ("b", True, 1)
    assert (called, judged) == (["a", "b"], ["a"])
    assert [attempt.score and attempt.score.value for attempt in result.attempts] == [0.49, None]
    assert result.cost == pytest.approx(0.51)
    assert result.usage == Usage(input_tokens=2, output_tokens=4)


def test_only_the_last_call_is_final():
    call, steps = caller({"a": "1", "b": "2", "c": "3"})
    check, _ = judge({"a": 0.0, "b": 0.0})
    drive(cascade(Ordered(["a", "b", "c"]), ["a", "b", "c"], retryable=retryable), call, check)
    assert [step.final for step in steps] == [False, False, True]
    assert [step.attempt for step in steps] == [0, 1, 2]


def test_nothing_accepted_gives_the_best_scored_attempt_not_the_last():
    plan = Ordered(["a", "b", "c"], check_last=True)
    result, called, judged = run({"a": "1", "b": "2", "c": "3"}, {"a": 0.1, "b": 0.4, "c": 0.3}, plan)
    assert (result.model, result.accepted, result.chosen) == ("b", False, 1)
    assert called == judged == ["a", "b", "c"]


def test_of_equal_scores_the_later_model_wins():
    result, _, _ = run({"a": "1", "b": "2"}, {"a": 0.3, "b": 0.3}, Ordered(["a", "b"], check_last=True))
    assert result.model == "b"


def test_thresholds_of_each_model():
    plan = Ordered(["a", "b"], threshold={"a": 0.9, "b": 0.1})
    assert run({"a": "1", "b": "2"}, {"a": 0.8}, plan)[0].model == "b"
    with pytest.raises(ConfigError, match="says nothing of 'b'"):
        Ordered(["a", "b"], threshold={"a": 0.9})


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_is_a_score(threshold):
    with pytest.raises(ConfigError, match="in \\[0, 1\\]"):
        Ordered(["a"], threshold=threshold)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(text="{", problem="no JSON"), "no JSON"),
        (Reply(text="", tool_calls=(ToolCall(name="f", problem="bad arguments"),)), "the call of f is broken: bad arguments"),
        (Reply(text=" \n"), "the answer is empty"),
    ],
)
def test_an_unusable_answer_is_rejected_without_asking_the_judge(reply, reason):
    result, called, judged = run({"a": reply, "b": "fine"}, {})
    assert (result.model, called, judged) == ("b", ["a", "b"], [])
    assert result.attempts[0].score == Score(value=0.0, reason=reason)


def test_an_unusable_last_answer_loses_to_a_rejected_usable_one():
    result, _, _ = run({"a": "meagre", "b": Reply(text="{", problem="no JSON")}, {"a": 0.0})
    assert (result.model, result.accepted) == ("a", False)


def test_tool_calls_alone_are_an_answer():
    result, called, _ = run({"a": Reply(text="", tool_calls=(ToolCall(name="f", arguments={}),)), "b": "x"}, {"a": 1.0})
    assert (result.model, called) == ("a", ["a"])


def test_a_failed_model_is_passed_over_and_kept_on_record():
    result, called, _ = run({"a": Transient("down"), "b": "2", "c": "3"}, {"b": 0.7})
    assert (result.model, called) == ("b", ["a", "b"])
    assert isinstance(result.attempts[0].error, Transient)
    assert result.cost is None  # what a failed call cost nobody knows


def test_a_last_model_that_fails_leaves_the_best_rejected_answer():
    result, _, _ = run({"a": "1", "b": "2", "c": Transient("down")}, {"a": 0.2, "b": 0.1})
    assert (result.model, result.answer, result.accepted) == ("a", "1", False)


def test_a_mistake_of_the_caller_is_not_hidden_but_an_answer_is_not_lost():
    with pytest.raises(Permanent):
        run({"a": Permanent("wrong key"), "b": "2"}, {})
    result, called, _ = run({"a": "1", "b": Permanent("wrong key"), "c": "3"}, {"a": 0.2})
    assert (result.model, result.accepted, called) == ("a", False, ["a", "b"])


def test_nobody_answers():
    with pytest.raises(AllModelsFailedError) as caught:
        run({"a": Transient("1"), "b": Transient("2")}, {})
    assert [attempt.model for attempt in caught.value.attempts] == ["a", "b"]


def test_a_judge_that_fails_rejects_and_is_on_record():
    result, called, _ = run({"a": "1", "b": "2"}, {"a": ValueError("judge down")})
    assert (result.model, called) == ("b", ["a", "b"])
    assert isinstance(result.attempts[0].check_error, ValueError)
    assert result.attempts[0].answer == "1"
    assert result.cost is None


def test_without_any_score_the_last_answer_is_taken():
    broken = ValueError("judge down")
    result, _, _ = run({"a": "1", "b": "2"}, {"a": broken, "b": broken}, Ordered(["a", "b"], check_last=True))
    assert (result.model, result.accepted) == ("b", False)


def test_a_flow_with_checks_needs_a_check():
    call, _ = caller({"a": "1", "b": "2"})
    with pytest.raises(ConfigError, match="give drive"):
        drive(cascade(Ordered(["a", "b"]), ["a", "b"], retryable=retryable), call)


def test_max_models_makes_the_plan_stop():
    result, called, judged = run({"a": "1", "b": "2", "c": "3"}, {"a": 0.1}, limits=Limits(max_models=2))
    assert (called, judged) == (["a", "b"], ["a"])
    # Nobody may come after b, so that its answer is taken as it comes, and may be streamed.
    assert (result.model, result.accepted, result.attempts[1].final) == ("b", True, True)
    plan = Ordered(["a", "b", "c"], check_last=True)
    result, _, judged = run({"a": "1", "b": "2", "c": "3"}, {"a": 0.2, "b": 0.1}, plan, limits=Limits(max_models=2))
    assert (result.model, result.accepted, judged) == ("a", False, ["a", "b"])


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -1.0])
def test_an_odd_cost_or_ceiling_is_an_unknown_one(odd):
    with pytest.raises(NoEligibleModelError, match="unknown"):
        run({"a": "1"}, {}, limits=Limits(max_cost=0.2), ceilings={"a": odd})
    call, _ = caller({"a": "1", "b": "2"}, cost=odd)
    check, _ = judge({"a": 0.1})
    limits, ceilings = Limits(max_cost=1.5), {"a": 1.0, "b": 1.0}
    result = drive(cascade(Ordered(["a", "b"]), ["a", "b"], retryable=retryable, limits=limits, ceilings=ceilings), call, check)
    assert [attempt.model for attempt in result.attempts] == ["a"]  # a may have cost all of its ceiling


def test_max_cost_rules_out_what_may_pass_it():
    ceilings = {"a": 0.3, "b": 1.0, "c": 0.6}
    result, called, _ = run({"a": "1", "b": "2", "c": "3"}, {"a": 0.1}, limits=Limits(max_cost=0.9), ceilings=ceilings)
    assert called == ["a", "c"]  # b may cost 1.0
    assert result.model == "c"
    with pytest.raises(NoEligibleModelError, match=r"may cost \$0.3"):
        run({"a": "1"}, {}, limits=Limits(max_cost=0.2), ceilings=ceilings)
    with pytest.raises(NoEligibleModelError, match="unknown"):
        run({"a": "1"}, {}, limits=Limits(max_cost=0.2))
    with pytest.raises(ConfigError, match="max_cost"):
        run({"a": "1"}, {}, limits=Limits(max_cost=0.2), ceilings=ceilings, check_ceiling=None)


@pytest.mark.parametrize("name", ["max_models", "max_cost", "deadline", "timeout"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_limits_are_above_zero(name, value):
    with pytest.raises(ConfigError, match=name):
        Limits(**{name: value})


class Anyone:
    """A plan that calls whom a list of numbers names, as long as somebody may be called."""

    def __init__(self, numbers):
        self.numbers = list(numbers)

    def next(self, attempts, allowed):
        if not self.numbers:
            return None if any(one.error is None for one in attempts) else Next(model=allowed[0])
        return Next(model=allowed[self.numbers.pop() % len(allowed)], final=bool(self.numbers and self.numbers[-1] % 2))

    def pick(self, attempts):
        return Pick(index=next(i for i, one in enumerate(attempts) if one.error is None), accepted=True)


def one_random_run(rng):
    """A cascade of random models under a random cap, driven by a plan that does what it likes: what was spent, and the cap."""
    m = rng.randrange(1, 7)
    models = [str(index) for index in range(m)]
    ceilings = [rng.uniform(0.001, 1.0) for _ in models]
    cap, check, spent = rng.uniform(0.001, 3.0), rng.choice([0.0, rng.uniform(0.0, 0.3)]), []

    def call(step):
        # Unknown costs and those of failed calls may be as high as can be.
        index, kind = int(step.model), rng.random()
        billed = ceilings[index] * (1.0 if kind < 0.4 else rng.random())
        spent.append(billed)
        if kind < 0.2:
            raise Transient
        return Attempt(model=step.model, answer="x", cost=None if kind < 0.4 else billed, reply=Reply(text="x"))

    def score(_):
        spent.append(check)
        if rng.random() < 0.1:
            raise Transient
        return Score(value=0.1, cost=None if rng.random() < 0.2 else check)

    flow = cascade(
        Anyone(rng.randrange(20) for _ in range(rng.randrange(9))),
        models,
        retryable=retryable,
        limits=Limits(max_cost=cap),
        ceilings=dict(zip(models, ceilings, strict=True)),
        check_ceiling=check,
    )
    with contextlib.suppress(NoEligibleModelError, Transient, AllModelsFailedError):
        drive(flow, call, score)
    return sum(spent), cap


@given(seed=st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_the_cap_holds_in_a_hundred_thousand_random_runs(seed):
    rng = random.Random(seed)  # a simulation
    for _ in range(1000):
        spent, cap = one_random_run(rng)
        assert spent <= cap * (1 + 1e-9)


def test_a_model_that_hangs_is_left_behind_and_the_next_one_answers():
    def call(step):
        if step.model == "a":
            time.sleep(5)
        return Attempt(model=step.model, answer=step.model, reply=Reply(text=step.model))

    result = drive(cascade(Ordered(["a", "b"]), ["a", "b"], retryable=retryable, limits=Limits(timeout=0.05)), call)
    assert result.model == "b"
    assert isinstance(result.attempts[0].error, DeadlineExceededError)
    assert result.attempts[0].error.model == "a"


async def test_a_late_coroutine_is_cancelled():
    ended = []

    async def call(step):
        try:
            await asyncio.sleep(5 if step.model == "a" else 0)
        except asyncio.CancelledError:
            ended.append(step.model)
            raise
        return Attempt(model=step.model, answer=step.model, reply=Reply(text=step.model))

    result = await adrive(cascade(Ordered(["a", "b"]), ["a", "b"], retryable=retryable, limits=Limits(timeout=0.05)), call)
    assert (result.model, ended) == ("b", ["a"])
    assert isinstance(result.attempts[0].error, DeadlineExceededError)


async def test_a_timeout_of_the_models_own_stays_its_own():
    async def call(step):
        raise TimeoutError("the provider's")

    with pytest.raises(TimeoutError, match="the provider's"):
        await adrive(cascade(Ordered(["a"]), ["a"], retryable=retryable, limits=Limits(timeout=5)), call)


def test_a_slow_judge_is_left_behind():
    def check(_):
        time.sleep(5)

    call, _ = caller({"a": "1", "b": "2"})
    flow = cascade(Ordered(["a", "b"]), ["a", "b"], retryable=retryable, limits=Limits(timeout=0.05))
    result = drive(flow, call, check)
    assert result.model == "b"
    assert isinstance(result.attempts[0].check_error, DeadlineExceededError)
    assert "judged" in str(result.attempts[0].check_error)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def steps_of(flow, answers):
    """Feeds a flow by hand: model → attempt."""
    step, seen = next(flow), []
    try:
        while True:
            seen.append(step)
            step = flow.send(step.attempt if isinstance(step, Check) else answers(step))
    except StopIteration as stop:
        return seen, stop.value


def test_time_is_kept_for_the_strongest_model():
    clock = Clock()

    def answer(step):
        clock.now += 3.0
        return Attempt(model=step.model, answer="x", reply=Reply(text="x"))

    limits, latencies = Limits(deadline=10.0), {"c": 2.0, "b": 5.0}
    flow = cascade(
        Ordered(["a", "b", "c"]), ["a", "b", "c"], retryable=retryable, limits=limits, latencies=latencies, clock=clock
    )
    seen, result = steps_of(flow, answer)
    calls = [step for step in seen if not isinstance(step, Check)]
    # Ten seconds less two for c; then seven are left, less two; then the rest.
    assert [(call.model, call.deadline) for call in calls] == [("a", 108.0), ("b", 108.0), ("c", 110.0)]
    assert result.model == "c"


def test_a_check_leaves_time_for_the_next_model_too():
    clock = Clock()

    def answer(step):
        clock.now += 3.0
        return Attempt(model=step.model, answer="x", reply=Reply(text="x"))

    limits = Limits(deadline=10.0)
    flow = cascade(Ordered(["a", "b"]), ["a", "b"], retryable=retryable, limits=limits, latencies={"b": 2.0}, clock=clock)
    seen, _ = steps_of(flow, answer)
    assert [step.deadline for step in seen if isinstance(step, Check)] == [108.0]


def test_nobody_is_called_who_has_too_little_time_but_for_the_first():
    clock = Clock()

    def answer(step):
        clock.now += 6.0
        return Attempt(model=step.model, answer="x", reply=Reply(text="x"))

    latencies = {"a": 50.0, "b": 5.0}
    flow = cascade(
        Ordered(["a", "b"]), ["a", "b"], retryable=retryable, limits=Limits(deadline=10.0), latencies=latencies, clock=clock
    )
    seen, result = steps_of(flow, answer)
    assert [step.model for step in seen if not isinstance(step, Check)] == ["a"]
    assert isinstance(result, CascadeResult)
    assert (result.model, result.accepted) == ("a", False)


def test_after_an_overflow_only_larger_windows_are_asked():
    called = run({"a": Transient("too long"), "b": "2", "c": "3"}, {"c": 1.0}, suitable=lambda _, model: model == "c")[1]
    assert called == ["a", "c"]
