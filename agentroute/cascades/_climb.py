"""The flow of a cascade: a plan says who is next, hard guards say who may be."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from agentroute.cascades._flow import Attempt, Call, CascadeResult, Check, Flow, all_failed
from agentroute.errors import ConfigError, DeadlineExceededError, NoEligibleModelError
from agentroute.types import Reply, Score

__all__ = ["Limits", "Next", "Ordered", "Pick", "Plan", "cascade", "problem_of"]

A = TypeVar("A")


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """Whom a plan wants to be called.

    Attributes:
        model: Its id.
        final: Whether its answer will be taken as it is, so that it may be shown as it comes. Nobody is called after it, unless
            it fails, or holds nothing.
        check: Whether an answer that is not final is judged; otherwise it is taken if it can be used.
    """

    model: str
    final: bool = False
    check: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """Which answer a plan takes.

    Attributes:
        index: The attempt that gave it.
        accepted: Whether it is good enough; `False` = it is only the best there is.
    """

    index: int
    accepted: bool


class Plan(Protocol):
    """Decides, for one query, who is called next. It is asked anew after each answer and each failure.

    What takes long belongs where the plan is made: in asynchronous calls both methods work on the event loop, or, if the plan has
    `waits = True`, in threads; and their time is the query's, but for that before the first call.

    A plan may have `limit(most)`, which is told, before all else, how many models may be called (`None` = any number), and
    returns how many it will call at most, failed ones included. A plan without it is cut off by the limit.
    """

    def next(self, attempts: Sequence[Attempt[Any]], allowed: Sequence[str], /) -> Next | None:
        """Whom to call. It may be asked more than once before a call, and says the same each time.

        Args:
            attempts: What has been tried, in order.
            allowed: Who may be called: models not tried yet that the limits let through; at least one.

        Returns:
            The next model, or `None` when an answer that is there shall be taken. While there is none, there must be a next.
        """

    def pick(self, attempts: Sequence[Attempt[Any]], /) -> Pick:
        """Which answer to take, of the attempts that have one; at least one has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one query may take, whatever the plan would like.

    Attributes:
        max_models: Most models to call.
        max_cost: Most USD for all calls and checks. A model is called only if the most that its answer can cost still fits.
        deadline: Seconds for the whole query, from its first call on.
        timeout: Seconds for each call, and for each check.

    Raises:
        ConfigError: A limit is not above 0.
    """

    max_models: int | None = None
    max_cost: float | None = None
    deadline: float | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        """Refuses limits under which nothing could ever be called."""
        for name in ("max_models", "max_cost", "deadline", "timeout"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"{name}={value!r} must be above 0; None = no limit")


def _usd(amount: float | None) -> float | None:
    """An amount that can be counted with: what is NaN, infinite or negative is as good as unknown."""
    return amount if amount is not None and 0.0 <= amount < math.inf else None


@dataclass(slots=True, eq=False)
class _Guard:
    """Keeps one query within its limits."""

    limits: Limits
    ceilings: Mapping[str, float | None]
    check_ceiling: float | None
    latencies: Mapping[str, float]
    clock: Callable[[], float]
    end: float = math.inf
    spent: float = 0.0
    reasons: dict[str, str] = field(default_factory=dict)

    def begin(self) -> None:
        if self.limits.max_cost is not None and self.check_ceiling is None:
            raise ConfigError(
                f"max_cost=${self.limits.max_cost:g} cannot be kept: nobody knows the most that a check can cost; give the "
                "judge's model a price and its answer a token limit, or take a scorer that asks no model"
            )

    def start(self) -> None:
        if self.limits.deadline is not None:
            self.end = self.clock() + self.limits.deadline

    def allowed(self, models: Sequence[str], tried: Sequence[Attempt[Any]]) -> list[str]:
        """Who may still be called. Of the others `reasons` says why not."""
        known = {attempt.model for attempt in tried}
        if self.limits.max_models is not None and len(tried) >= self.limits.max_models:
            return []
        found = []
        for model in models:
            if model in known:
                continue
            reason = self._against(model, first=not tried)
            if reason is None:
                found.append(model)
            else:
                self.reasons[model] = reason
        return found

    def _against(self, model: str, *, first: bool) -> str | None:
        most = self.limits.max_cost
        if most is not None:
            ceiling = _usd(self.ceilings.get(model))
            if ceiling is None:
                return "the most that it can cost is unknown, and max_cost is set: give its card a price and max_output_tokens"
            # A sum of floats may pass the limit by its last bit.
            if self.spent + ceiling > most * (1 + 1e-12):
                return f"its call may cost ${ceiling:.3g}, and ${max(most - self.spent, 0.0):.3g} is left"
        left = self.end - self.clock()
        if left <= 0 or (not first and left < self.latencies.get(model, 0.0)):
            return f"{max(left, 0.0):.3g} s are left"
        return None

    def deadline(self, model: str, allowed: Sequence[str]) -> float | None:
        """When a call or check must have ended: at the end, less what the strongest other model needs to make up for it."""
        ends = self.end
        others = [other for other in allowed if other != model]
        if others and math.isfinite(ends):
            left = ends - self.clock()
            ends -= min(self.latencies.get(others[-1], left / 2.0), left / 2.0)
        if self.limits.timeout is not None:
            ends = min(ends, self.clock() + self.limits.timeout)
        return ends if math.isfinite(ends) else None

    def last_call(self, tried: Sequence[Attempt[Any]]) -> bool:
        """Whether one more call is all that may be made."""
        return self.limits.max_models is not None and len(tried) + 1 >= self.limits.max_models

    def may_check(self) -> bool:
        most = self.limits.max_cost
        return self.end > self.clock() and (most is None or self.spent + (self.check_ceiling or 0.0) <= most * (1 + 1e-12))

    def book(self, attempt: Attempt[Any]) -> None:
        """What is not known to have cost less has cost the most that it can."""
        cost = _usd(attempt.cost)
        self.spent += (_usd(self.ceilings.get(attempt.model)) or 0.0) if cost is None else cost

    def book_check(self, attempt: Attempt[Any]) -> None:
        cost = _usd(attempt.score.cost) if attempt.score is not None else None
        self.spent += cost if cost is not None else self.check_ceiling or 0.0


def problem_of(reply: Reply | None) -> str | None:
    """Why an answer cannot be used whatever a judge thinks of it: unparsable, a broken tool call, empty."""
    if reply is None:
        return None
    if reply.problem is not None:
        return reply.problem
    for call in reply.tool_calls:
        if call.problem is not None:
            return f"the call of {call.name or 'a tool'} is broken: {call.problem}"
    if not reply.tool_calls and reply.parsed is None and not reply.text.strip():
        return "the answer is empty"
    return None


def _holds_nothing(reply: Reply | None) -> bool:
    return reply is not None and not (reply.tool_calls or reply.text.strip()) and reply.parsed is None


def _limited(plan: Plan, limits: Limits) -> Limits:
    """The limits, and what the plan keeps to by itself."""
    limit = getattr(plan, "limit", None)
    return replace(limits, max_models=limit(limits.max_models)) if callable(limit) else limits


def cascade(
    plan: Plan,
    models: Sequence[str],
    *,
    retryable: Callable[[Exception], bool],
    limits: Limits | None = None,
    ceilings: Mapping[str, float | None] | None = None,
    check_ceiling: float | None = 0.0,
    latencies: Mapping[str, float] | None = None,
    suitable: Callable[[Attempt[Any], str], bool] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Flow[A]:
    """The flow of a cascade: calls, checks and calls again, until the plan takes an answer or a limit ends it.

    An answer that cannot be used (see `problem_of`) is scored 0 without asking the judge. A call that fails counts as tried,
    with what it may have cost; the plan goes on without it. When nothing is left to try, the best answer there is ends the flow.
    So does an answer that was to be final, whatever it is, unless it holds nothing: somebody may have seen it by then.

    Args:
        plan: Says who is next.
        models: All that may be called, cheapest first.
        retryable: Whether another model may succeed where this error arose; a call that was too slow is one in any case.
        limits: Hard limits; `None` = none.
        ceilings: Model → the most USD that a call of it can cost for this query; `None` = unknown.
        check_ceiling: The same for a check.
        latencies: Model → seconds that a call usually takes: nobody is called who has less time left, but for the first, and
            the time of the strongest model is kept back for it.
        suitable: Whether a model may succeed after a given failed attempt; `None` = any may.
        clock: Seconds, as `time.monotonic`.

    Returns:
        A flow. When nobody answered it raises the error itself if one model was tried, else `AllModelsFailedError`.

    Raises:
        NoEligibleModelError: The limits let nobody through.
        ConfigError: `max_cost` is set, and a check may cost anything.
    """
    guard = _Guard(_limited(plan, limits or Limits()), ceilings or {}, check_ceiling, latencies or {}, clock)
    guard.begin()
    attempts: list[Attempt[A]] = []
    waiting = list(dict.fromkeys(models))
    while allowed := guard.allowed(waiting, attempts):
        ahead = plan.next(tuple(attempts), tuple(allowed))
        if ahead is None:
            break
        if guard.last_call(attempts) and len(allowed) > 1:
            # Asked again with this one alone, the plan knows that nobody comes after it.
            ahead = plan.next(tuple(attempts), (ahead.model,)) or ahead
        if not attempts:
            guard.start()
        deadline = guard.deadline(ahead.model, allowed)
        attempt = yield Call(model=ahead.model, attempt=len(attempts), final=ahead.final, deadline=deadline)
        guard.book(attempt)
        if attempt.error is None:
            problem = problem_of(attempt.reply)
            if problem is not None:
                attempt = replace(attempt, score=Score(value=0.0, reason=problem))
            elif ahead.final:
                attempt = replace(attempt, final=True)
            elif ahead.check and guard.may_check():
                attempt = yield Check(attempt=attempt, deadline=guard.deadline(ahead.model, allowed))
                guard.book_check(attempt)
        attempts.append(attempt)
        if ahead.final and attempt.error is None and not _holds_nothing(attempt.reply):
            break
        if attempt.error is not None:
            if not (isinstance(attempt.error, DeadlineExceededError) or retryable(attempt.error)):
                break
            if suitable is not None:
                waiting = [model for model in waiting if suitable(attempt, model)]
    if not attempts:
        raise NoEligibleModelError(guard.reasons)
    if all(attempt.error is not None for attempt in attempts):
        raise all_failed(attempts)
    pick = plan.pick(tuple(attempts))
    taken = attempts[pick.index]
    return CascadeResult(
        model=taken.model,
        answer=taken.answer,  # type: ignore[arg-type]  # an answer may rightly be None: only the error tells
        attempts=tuple(attempts),
        chosen=pick.index,
        accepted=pick.accepted,
    )


class Ordered:
    """The plain cascade: one model after the other, until an answer is scored at least as high as the threshold.

    Args:
        models: In the order in which they are called, cheapest first.
        threshold: The least score that is good enough; a number, or one a model.
        check_last: Whether the last model's answer is checked too. Then the best answer of all is taken when none is good
            enough, and nothing can be streamed before; otherwise the last model's answer is taken as it comes.

    Raises:
        ConfigError: There is no model, or a threshold is outside [0, 1].
    """

    def __init__(self, models: Sequence[str], *, threshold: float | Mapping[str, float] = 0.5, check_last: bool = False) -> None:
        if not models:
            raise ConfigError("a cascade needs at least one model, cheapest first")
        self.models = tuple(models)
        self.threshold = threshold
        self.check_last = check_last
        for model in self.models:
            if not 0.0 <= self._threshold(model) <= 1.0:
                raise ConfigError(f"threshold={threshold!r} must be in [0, 1], as scores are")

    def _threshold(self, model: str) -> float:
        if not isinstance(self.threshold, Mapping):
            return self.threshold
        try:
            return self.threshold[model]
        except KeyError:
            raise ConfigError(f"threshold={dict(self.threshold)!r} says nothing of {model!r}: give every model its own") from None

    def _good(self, attempt: Attempt[Any]) -> bool:
        return attempt.error is None and attempt.score is not None and attempt.score.value >= self._threshold(attempt.model)

    def next(self, attempts: Sequence[Attempt[Any]], allowed: Sequence[str], /) -> Next | None:
        """The next in order, unless the last answer is good enough."""
        if attempts and self._good(attempts[-1]):
            return None
        left = [model for model in self.models if model in allowed]
        if not left:
            return None
        return Next(model=left[0], final=not self.check_last and len(left) == 1)

    def pick(self, attempts: Sequence[Attempt[Any]], /) -> Pick:
        """The last answer where it was good enough or final; else the best scored one, the later of equals."""
        answered = [index for index, attempt in enumerate(attempts) if attempt.error is None]
        last = attempts[-1]
        if last.error is None and (last.final or self._good(last)):
            return Pick(index=len(attempts) - 1, accepted=True)

        def rank(index: int) -> tuple[float, int]:
            attempt = attempts[index]
            if problem_of(attempt.reply) is not None:
                return -2.0, index
            # An answer that no judge could score is known to be usable, and no more.
            return (-1.0 if attempt.score is None else attempt.score.value), index

        return Pick(index=max(answered, key=rank), accepted=False)
