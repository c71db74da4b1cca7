"""Flows and their drivers."""

import asyncio
import threading

import pytest

from agentroute.cascades import Attempt, Call, CascadeResult, adrive, drive, failover
from agentroute.errors import AllModelsFailedError, NoEligibleModelError


class Transient(Exception):
    pass


class Permanent(Exception):
    pass


def retryable(error):
    return isinstance(error, Transient)


def script(**answers):
    """A caller that answers or raises as told, and keeps the steps that it was asked for."""
    steps = []

    def call(step: Call) -> Attempt[str]:
        steps.append(step)
        answer = answers[step.model]
        if isinstance(answer, BaseException):
            raise answer
        return Attempt(model=step.model, answer=answer, latency=0.5, cost=0.25)

    return call, steps


def test_first_candidate_answers_and_nobody_else_is_called():
    call, steps = script(a="yes", b="no")
    answered = drive(failover(["a", "b"], retryable=retryable), call)
    assert (answered.model, answered.answer) == ("a", "yes")
    assert steps == [Call(model="a", attempt=0)]
    assert [(one.model, one.cost, one.latency) for one in answered.attempts] == [("a", 0.25, 0.5)]


def test_next_candidate_after_a_retryable_error():
    error = Transient()
    call, steps = script(a=error, b="no")
    answered = drive(failover(["a", "b"], retryable=retryable), call)
    assert answered.answer == "no"
    assert steps == [Call(model="a", attempt=0), Call(model="b", attempt=1)]
    assert answered.attempts[0].error is error
    assert answered.attempts[0].latency is not None
    assert answered.attempts[1].error is None


def test_none_is_an_answer():
    call, _ = script(a=None)
    assert drive(failover(["a"], retryable=retryable), call).answer is None


def test_permanent_error_is_raised_as_it_is():
    error = Permanent("bad key")
    call, steps = script(a=error, b="no")
    with pytest.raises(Permanent) as raised:
        drive(failover(["a", "b"], retryable=retryable), call)
    assert raised.value is error
    assert len(steps) == 1


def test_only_candidate_raises_its_own_error():
    error = Transient()
    call, _ = script(a=error)
    with pytest.raises(Transient) as raised:
        drive(failover(["a"], retryable=retryable), call)
    assert raised.value is error


def test_max_attempts_one_raises_the_error_itself():
    call, steps = script(a=Transient(), b="no")
    with pytest.raises(Transient):
        drive(failover(["a", "b"], retryable=retryable, max_attempts=1), call)
    assert len(steps) == 1


def test_all_failed_keeps_every_attempt_and_the_last_cause():
    first, second = Transient("one"), Transient("two")
    call, _ = script(a=first, b=second)
    with pytest.raises(AllModelsFailedError, match=r"a \(Transient\), b \(Transient\)") as raised:
        drive(failover(["a", "b"], retryable=retryable), call)
    assert raised.value.exceptions == (first, second)
    assert raised.value.__cause__ is second
    assert [attempt.model for attempt in raised.value.attempts] == ["a", "b"]


def test_permanent_error_after_a_transient_one_stops_the_search():
    call, steps = script(a=Transient(), b=Permanent(), c="never")
    with pytest.raises(AllModelsFailedError) as raised:
        drive(failover(["a", "b", "c"], retryable=retryable), call)
    assert isinstance(raised.value.__cause__, Permanent)
    assert [step.model for step in steps] == ["a", "b"]


def test_suitable_skips_candidates_that_cannot_help():
    call, steps = script(a=Transient(), b="never", c="yes")
    flow = failover(["a", "b", "c"], retryable=retryable, suitable=lambda attempt, model: (attempt.model, model) != ("a", "b"))
    assert drive(flow, call).model == "c"
    assert [step.attempt for step in steps] == [0, 1]


def test_no_candidate():
    call, steps = script()
    with pytest.raises(NoEligibleModelError):
        drive(failover([], retryable=retryable), call)
    assert not steps


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()])
def test_interrupts_end_the_flow_and_reach_the_caller(interrupt):
    call, steps = script(a=interrupt, b="never")
    flow = failover(["a", "b"], retryable=lambda _: True)
    with pytest.raises(type(interrupt)):
        drive(flow, call)
    assert len(steps) == 1
    assert flow.gi_frame is None, "the flow must be closed"


def test_stop_iteration_of_a_call_is_a_failure_and_not_the_end_of_the_flow():
    call, _ = script(a=StopIteration("not an answer"), b="yes")
    assert drive(failover(["a", "b"], retryable=lambda _: True), call).answer == "yes"


async def test_async_driver_takes_the_same_flow():
    call, _ = script(a=Transient(), b="no")

    async def acall(step):
        await asyncio.sleep(0)
        return call(step)

    answered = await adrive(failover(["a", "b"], retryable=retryable), acall)
    assert isinstance(answered, CascadeResult)
    assert [attempt.model for attempt in answered.attempts] == ["a", "b"]


async def test_async_cancellation_is_never_an_attempt():
    waiting = asyncio.Event()

    async def acall(_):
        waiting.set()
        await asyncio.Event().wait()

    flow = failover(["a", "b"], retryable=lambda _: True)
    task = asyncio.ensure_future(adrive(flow, acall))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert flow.gi_frame is None


async def test_a_flow_that_waits_works_aside_and_is_closed_when_it_comes_back():
    """Cancelled while a thread is in the flow: nobody can end it then, so it is closed when it waits for its next answer."""
    inside, go_on, closed = threading.Event(), threading.Event(), threading.Event()
    threads = []

    def flow():
        try:
            threads.append(threading.current_thread())
            yield Call(model="a")
            threads.append(threading.current_thread())
            inside.set()
            go_on.wait(5)
            yield Call(model="b")
        finally:
            closed.set()

    async def call(step):
        return Attempt(model=step.model, answer=1)

    task = asyncio.create_task(adrive(flow(), call, waits=True))
    assert await asyncio.to_thread(inside.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not closed.is_set()
    go_on.set()
    assert await asyncio.to_thread(closed.wait, 5)
    assert threading.main_thread() not in threads


@pytest.mark.parametrize("waits", [False, True])
async def test_a_flow_that_waits_ends_as_any_other(waits):
    async def call(step):
        if step.model == "a":
            raise ValueError(step.model)
        return Attempt(model=step.model, answer=step.model)

    result = await adrive(failover(["a", "b"], retryable=lambda _: True), call, waits=waits)
    assert (result.answer, [one.model for one in result.attempts]) == ("b", ["a", "b"])
    with pytest.raises(NoEligibleModelError):
        await adrive(failover([], retryable=lambda _: True), call, waits=waits)
    with pytest.raises(ValueError, match="a"):
        await adrive(failover(["a"], retryable=lambda _: True), call, waits=waits)
