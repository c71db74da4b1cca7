"""Flows: who is called next, decided without waiting for anybody.

A flow is a generator. It yields steps, is sent the `Attempt` that came of each, and returns a `CascadeResult`. It never waits,
so that one flow serves synchronous and asynchronous callers alike; `drive` and `adrive` do the waiting. A flow is generic over
the answer: a message, a parsed object, or a stream of which the first piece has arrived, which is how failover before the
first token, and never after it, comes about.

There are two steps. `Call` asks for an answer; `Check` asks how good an answer is. A routed call is a flow of one call, failover
one of a few, a cascade one of calls and checks.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeAlias, TypeVar, cast

from agentroute.errors import AllModelsFailedError, ConfigError, DeadlineExceededError, NoEligibleModelError
from agentroute.types import Reply, Score, Usage

__all__ = ["Attempt", "Call", "CascadeResult", "Check", "Flow", "Step", "adrive", "all_failed", "drive", "failover"]

A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A step of a flow: call this model.

    Attributes:
        model: Its id.
        attempt: 0 for the first model called, 1 for the next one …
        final: Whether its answer will be taken without a check, so that it may be passed on as it comes.
        deadline: When the answer must be there, in seconds of `time.monotonic`; `None` = whenever.
    """

    model: str
    attempt: int = 0
    final: bool = True
    deadline: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attempt(Generic[A]):
    """What came of a call, and of the check of its answer.

    Attributes:
        model: The model that was called.
        answer: Its answer; `None` when it failed.
        error: Why it failed; `None` when it answered.
        usage: Its tokens, where known.
        cost: USD that the call cost, where known; its check is not in it.
        latency: Seconds that the call took.
        reply: The answer as a scorer reads it; `None` where nobody has to.
        score: How good the answer looks; `None` when it was not checked, or the check failed.
        check_error: Why the check failed.
        check_latency: Seconds that the check took; `None` = there was none.
        final: Whether its answer was to be taken without a check.
    """

    model: str
    answer: A | None = None
    error: Exception | None = None
    usage: Usage | None = None
    cost: float | None = None
    latency: float | None = None
    reply: Reply | None = None
    score: Score | None = None
    check_error: Exception | None = None
    check_latency: float | None = None
    final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Check(Generic[A]):
    """A step of a flow: judge this answer.

    Attributes:
        attempt: The attempt that gave the answer.
        deadline: When the score must be there, in seconds of `time.monotonic`; `None` = whenever.
    """

    attempt: Attempt[A]
    deadline: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CascadeResult(Generic[A]):
    """How a flow ends well.

    Attributes:
        model: The model whose answer it is.
        answer: The answer.
        attempts: Everything that was tried, in order, what was rejected and what failed too.
        chosen: Which of the attempts gave the answer.
        accepted: Whether the answer was good enough; `False` = nothing was, and this is the best there is.
    """

    model: str
    answer: A
    attempts: tuple[Attempt[A], ...]
    chosen: int = -1
    accepted: bool = True

    @property
    def cost(self) -> float | None:
        """USD of all calls and checks; `None` when that of any is unknown."""
        parts = [one.cost for one in self.attempts]
        parts += [one.score.cost for one in self.attempts if one.score is not None]
        parts += [None for one in self.attempts if one.check_error is not None]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    @property
    def usage(self) -> Usage | None:
        """Tokens of all calls, those of checks not counted; `None` when those of any are unknown."""
        known = [one.usage for one in self.attempts if one.usage is not None]
        if len(known) < len(self.attempts):
            return None
        names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
        return Usage(**{name: sum(getattr(usage, name) for usage in known) for name in names})


Step: TypeAlias = Call | Check[A]
Flow: TypeAlias = Generator[Step[A], Attempt[A], CascadeResult[A]]
"""Yields steps, is sent attempts, returns the answer."""


def drive(
    flow: Flow[A], call: Callable[[Call], Attempt[A]], check: Callable[[Attempt[A]], Score] | None = None
) -> CascadeResult[A]:
    """Runs a flow to its end.

    Args:
        flow: Decides whom to call, and what to judge.
        call: Calls a model. An `Exception` that it raises becomes a failed attempt, about which the flow decides;
            anything else (`KeyboardInterrupt`, `CancelledError`) ends the flow and goes on to the caller.
        check: Judges an answer; its exceptions become the attempt's `check_error`.

    Where a step has a deadline, the work is done by another thread, in a copy of the caller's context. What is late is left
    to itself: it ends when it ends, and a `DeadlineExceededError` stands in its place.

    Returns:
        What the flow returned.

    Raises:
        ConfigError: The flow asks for a check, and there is none.
    """
    try:
        step = next(flow)
        while True:
            started = time.perf_counter()
            if isinstance(step, Call):
                try:
                    attempt = _in_time(step, step.model, call, step)
                except Exception as error:  # the flow is the declared place that decides about errors
                    attempt = _failed(step, error, started)
            else:
                try:
                    score = _in_time(step, step.attempt.model, _there(check), step.attempt)
                except Exception as error:  # as above: a judge that fails is no reason to lose the answer
                    attempt = _unchecked(step, error, started)
                else:
                    attempt = _checked(step, score, started)
            step = flow.send(attempt)
    except StopIteration as stop:
        result: CascadeResult[A] = stop.value
        return result
    finally:
        flow.close()


async def adrive(
    flow: Flow[A],
    call: Callable[[Call], Awaitable[Attempt[A]]],
    check: Callable[[Attempt[A]], Awaitable[Score]] | None = None,
    *,
    waits: bool = False,
) -> CascadeResult[A]:
    """As `drive`, with calls and checks that are awaited; what is late is cancelled.

    Args:
        flow: As for `drive`.
        call: As for `drive`.
        check: As for `drive`.
        waits: Whether the flow may take its time between two steps, as where a plan asks somebody: it then works in threads of
            its own, and the event loop goes on. If this is cancelled meanwhile, the flow is closed when it comes back.
    """
    aside = _Aside(flow)
    try:
        step, result = await aside.go(None) if waits else _ahead(flow, None)
        while step is not None:
            started = time.perf_counter()
            if isinstance(step, Call):
                try:
                    attempt = await _awaited(step, step.model, call(step))
                except Exception as error:  # as in drive
                    attempt = _failed(step, error, started)
            else:
                try:
                    score = await _awaited(step, step.attempt.model, _there(check)(step.attempt))
                except Exception as error:  # as in drive
                    attempt = _unchecked(step, error, started)
                else:
                    attempt = _checked(step, score, started)
            step, result = await aside.go(attempt) if waits else _ahead(flow, attempt)
        return cast("CascadeResult[A]", result)
    finally:
        aside.close()


def _ahead(flow: Flow[A], attempt: Attempt[A] | None) -> tuple[Step[A] | None, CascadeResult[A] | None]:
    """The flow's next step, or no step and its result: a coroutine and a thread may not let StopIteration out."""
    try:
        return (next(flow) if attempt is None else flow.send(attempt)), None
    except StopIteration as stop:
        return None, stop.value


class _Aside(Generic[A]):
    """A flow that is driven by other threads, one after the other.

    Args:
        flow: The flow.
    """

    def __init__(self, flow: Flow[A]) -> None:
        self._flow = flow
        self._free = threading.Lock()

    async def go(self, attempt: Attempt[A] | None) -> tuple[Step[A] | None, CascadeResult[A] | None]:
        """As `_ahead`, in a thread."""
        from agentroute.scorers._threads import in_thread

        return await in_thread(self._go, attempt)

    def _go(self, attempt: Attempt[A] | None) -> tuple[Step[A] | None, CascadeResult[A] | None]:
        with self._free:
            return _ahead(self._flow, attempt)

    def close(self) -> None:
        """Closes the flow, once nobody is in it."""
        if self._free.acquire(blocking=False):
            self._flow.close()
        else:
            threading.Thread(target=self._closed, name="agentroute-flow", daemon=True).start()

    def _closed(self) -> None:
        with self._free:
            self._flow.close()


def _there(check: T | None) -> T:
    if check is None:
        msg = "the flow asks for a check of an answer: give drive() a check"
        raise ConfigError(msg)
    return check


def _late(step: Call | Check[Any], model: str) -> DeadlineExceededError:
    return DeadlineExceededError(model, "did not answer in time" if isinstance(step, Call) else "was not judged in time")


def _in_time(step: Call | Check[Any], model: str, work: Callable[[Any], T], given: Any) -> T:
    """What the work gives; with a deadline, done by a thread that can be left behind."""
    if step.deadline is None:
        return work(given)
    left = step.deadline - time.monotonic()
    if left <= 0:
        raise _late(step, model)
    done: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((True, work(given)))
        except BaseException as error:  # raised in the caller's thread, below
            done.put((False, error))

    # A daemon: a call that hangs for ever must not keep the process from ending.
    threading.Thread(target=copy_context().run, args=(run,), name=f"agentroute-{model}", daemon=True).start()
    try:
        well, value = done.get(timeout=left)
    except queue.Empty:
        raise _late(step, model) from None
    if not well:
        raise value
    result: T = value
    return result


async def _awaited(step: Call | Check[Any], model: str, work: Awaitable[T]) -> T:
    if step.deadline is None:
        return await work
    try:
        # A deadline in the past still lets the work begin, and cancels it at its first wait.
        async with asyncio.timeout(max(step.deadline - time.monotonic(), 0.0)) as limit:
            return await work
    except TimeoutError:
        if not limit.expired():
            raise
        raise _late(step, model) from None


def _failed(step: Call, error: Exception, started: float) -> Attempt[A]:
    return Attempt(model=step.model, error=error, latency=time.perf_counter() - started)


def _checked(step: Check[A], score: Score, started: float) -> Attempt[A]:
    return replace(step.attempt, score=score, check_latency=time.perf_counter() - started)


def _unchecked(step: Check[A], error: Exception, started: float) -> Attempt[A]:
    if isinstance(error, ConfigError):
        raise error  # a cascade without a judge is the caller's mistake, and would reject everything
    return replace(step.attempt, check_error=error, check_latency=time.perf_counter() - started)


def failover(
    candidates: Sequence[str],
    *,
    retryable: Callable[[Exception], bool],
    max_attempts: int | None = None,
    suitable: Callable[[Attempt[A], str], bool] | None = None,
) -> Flow[A]:
    """The flow of a routed call: the candidates in order, until one answers.

    Args:
        candidates: Model ids, best first.
        retryable: Whether another model may succeed where this error arose. A wrong key or a malformed request is not
            retryable: the next model would hide the mistake.
        max_attempts: Most models to call; `None` = all candidates.
        suitable: Whether a later candidate may succeed after a given failed attempt, such as one with a larger window
            after an overflow; `None` = any may.

    Returns:
        A flow that raises, when nobody answers: the error itself when one model was tried, else `AllModelsFailedError`
        with the last error as its cause.

    Raises:
        NoEligibleModelError: There is no candidate.
    """
    attempts: list[Attempt[A]] = []
    waiting = list(candidates)
    while waiting and (max_attempts is None or len(attempts) < max_attempts):
        model = waiting.pop(0)
        attempt = yield Call(model=model, attempt=len(attempts))
        attempts.append(attempt)
        if attempt.error is None:
            # An answer may rightly be None (a tool that returns nothing): only the error tells.
            return CascadeResult(model=model, answer=attempt.answer, attempts=tuple(attempts), chosen=len(attempts) - 1)  # type: ignore[arg-type]  # see above
        if not retryable(attempt.error):
            break
        if suitable is not None:
            waiting = [candidate for candidate in waiting if suitable(attempt, candidate)]
    raise all_failed(attempts)


def all_failed(attempts: Sequence[Attempt[Any]]) -> Exception:
    """What to raise when nobody answered: the one error there is, or a group of them."""
    errors = [attempt.error for attempt in attempts if attempt.error is not None]
    if not errors:
        return NoEligibleModelError({})
    if len(errors) == 1:
        return errors[0]
    tried = ", ".join(f"{attempt.model} ({type(attempt.error).__name__})" for attempt in attempts)
    failed = AllModelsFailedError(f"no model answered: {tried}", errors, attempts=attempts)
    failed.__cause__ = errors[-1]
    return failed
