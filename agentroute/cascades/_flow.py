"""Flows: who is called next, decided without waiting for anybody.

A flow is a generator. It yields a `Call`, is sent the `Attempt` that came of it, and returns `Answered`. It never waits, so
that one flow serves synchronous and asynchronous callers alike; `drive` and `adrive` do the waiting. A flow is generic over
the answer: a message, a parsed object, or a stream of which the first piece has arrived, which is how failover before the
first token, and never after it, comes about.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from agentroute.errors import AllModelsFailedError, NoEligibleModelError
from agentroute.types import Usage

__all__ = ["Answered", "Attempt", "Call", "Flow", "adrive", "drive", "failover"]

A = TypeVar("A")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A step of a flow: call this model.

    Attributes:
        model: Its id.
        attempt: 0 for the first model called, 1 for the next one …
    """

    model: str
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attempt(Generic[A]):
    """What came of a call.

    Attributes:
        model: The model that was called.
        answer: Its answer; `None` when it failed.
        error: Why it failed; `None` when it answered.
        usage: Its tokens, where known.
        cost: USD, where known.
        latency: Seconds that the call took.
    """

    model: str
    answer: A | None = None
    error: Exception | None = None
    usage: Usage | None = None
    cost: float | None = None
    latency: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answered(Generic[A]):
    """How a flow ends well.

    Attributes:
        model: The model whose answer it is.
        answer: The answer.
        attempts: Everything that was tried, in order; the last one gave the answer.
    """

    model: str
    answer: A
    attempts: tuple[Attempt[A], ...]


Flow: TypeAlias = Generator[Call, Attempt[A], Answered[A]]
"""Yields calls, is sent attempts, returns the answer."""


def drive(flow: Flow[A], call: Callable[[Call], Attempt[A]]) -> Answered[A]:
    """Runs a flow to its end.

    Args:
        flow: Decides whom to call.
        call: Calls a model. An `Exception` that it raises becomes a failed attempt, about which the flow decides;
            anything else (`KeyboardInterrupt`, `CancelledError`) ends the flow and goes on to the caller.

    Returns:
        What the flow returned.
    """
    try:
        step = next(flow)
        while True:
            started = time.perf_counter()
            try:
                attempt = call(step)
            except Exception as error:  # the flow is the declared place that decides about errors
                attempt = _failed(step, error, started)
            step = flow.send(attempt)
    except StopIteration as stop:
        answered: Answered[A] = stop.value
        return answered
    finally:
        flow.close()


async def adrive(flow: Flow[A], call: Callable[[Call], Awaitable[Attempt[A]]]) -> Answered[A]:
    """As `drive`, with calls that are awaited."""
    try:
        step = next(flow)
        while True:
            started = time.perf_counter()
            try:
                attempt = await call(step)
            except Exception as error:  # as in drive
                attempt = _failed(step, error, started)
            step = flow.send(attempt)
    except StopIteration as stop:
        answered: Answered[A] = stop.value
        return answered
    finally:
        flow.close()


def _failed(step: Call, error: Exception, started: float) -> Attempt[A]:
    return Attempt(model=step.model, error=error, latency=time.perf_counter() - started)


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
            return Answered(model=model, answer=attempt.answer, attempts=tuple(attempts))  # type: ignore[arg-type]  # see above
        if not retryable(attempt.error):
            break
        if suitable is not None:
            waiting = [candidate for candidate in waiting if suitable(attempt, candidate)]
    errors = [attempt.error for attempt in attempts if attempt.error is not None]
    if not errors:
        raise NoEligibleModelError({})
    if len(errors) == 1:
        raise errors[0]
    tried = ", ".join(f"{attempt.model} ({type(attempt.error).__name__})" for attempt in attempts)
    raise AllModelsFailedError(f"no model answered: {tried}", errors, attempts=attempts) from errors[-1]
