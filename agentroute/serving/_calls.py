"""One routed call on its way: whom to call, and what is logged of it."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from agentroute.cascades import Attempt, Call, CascadeResult, Flow, adrive, drive, failover
from agentroute.cascades._flow import all_failed
from agentroute.errors import (
    BudgetError,
    DeadlineExceededError,
    NoEligibleModelError,
    OutcomeDroppedWarning,
    PriceUnknownError,
)
from agentroute.pool import ModelPool
from agentroute.serving._deciding import Decided, Decider
from agentroute.serving._records import record_of
from agentroute.serving._retry import Mistake, is_overflow, retryable
from agentroute.serving._teams import Part, forgiving, paying
from agentroute.serving._watch import Watch
from agentroute.teams import RoleCall
from agentroute.types import Outcome, Score

__all__ = ["RoutedCall"]

A = TypeVar("A")


@dataclass(slots=True, kw_only=True, eq=False)
class RoutedCall:
    """The calls that one decision leads to. A plug-in's own kind knows how to make them.

    Attributes:
        decided: The decision.
        pool: The candidates' cards.
        log: Where outcomes go; `None` = nowhere.
        failover: Whether another model is asked when one fails, or the names of those to ask.
        bookings: Attempt → what a team's session has set aside for it, until the call begins.
    """

    decided: Decided
    pool: ModelPool
    log: Any
    failover: bool | Sequence[str] = True
    bookings: dict[int, RoleCall] = field(default_factory=dict)

    def flow(self) -> Flow[Any]:
        """Whom to call, in order."""
        decision, part = self.decided.decision, self.decided.part
        if part is not None and part.role is not None:
            return self.in_team(part)
        order = [decision.model]
        if self.failover and decision.by != "forced":
            later = decision.ranking
            if self.failover is not True:
                # The caller's own list: a router that ranks nobody but its choice has no say in it.
                allow = self.decided.query.allow
                later = tuple(name for name in self.failover if allow is None or name in allow)
            order += [name for name in later if name in self.pool.ids]
        # Each but once: a second call of the same model is the candidate's own max_retries.
        order = list(dict.fromkeys(order))
        return failover(order, retryable=retryable, suitable=self.suitable) if part is None else self.beside(part, order)

    # --- a team's session ---

    def in_team(self, part: Part) -> Flow[Any]:
        """Whom to call, as a team's session says: it decides anew after each failure, by the money that is left."""
        attempts: list[Attempt[Any]] = []
        while True:
            try:
                booking = self._begun(part, attempts)
            except (BudgetError, NoEligibleModelError) as error:
                if not attempts:
                    raise
                failed = all_failed(attempts)
                failed.add_note(f"no other model was asked: {error}")
                raise failed from error
            attempt = yield from self.paid(Call(model=booking.model, attempt=len(attempts)), booking)
            attempts.append(attempt)
            if attempt.error is None:
                return CascadeResult(
                    model=attempt.model, answer=attempt.answer, attempts=tuple(attempts), chosen=len(attempts) - 1
                )
            if not self.failover or self.decided.decision.by == "forced" or not retryable(attempt.error):
                raise all_failed(attempts)

    def beside(self, part: Part, order: Sequence[str]) -> Flow[Any]:
        """Whom to call for no role of the team around: in order, but only those that its budget can pay."""
        attempts: list[Attempt[Any]] = []
        short: Exception | None = None
        for model in order:
            if not all(self.suitable(attempt, model) for attempt in attempts):
                continue
            step = Call(model=model, attempt=len(attempts))
            try:
                # One that is itself routed pays for its own candidates.
                booking = part.begin(model=model) if self.asks(step) is None else None
            except (BudgetError, PriceUnknownError) as error:
                short = short or error
                continue
            if not attempts:
                self._changed(model, f"{model} answers: the team's budget has no money for those before it")
            attempt = yield from self.paid(step, booking)
            attempts.append(attempt)
            if attempt.error is None:
                return CascadeResult(model=model, answer=attempt.answer, attempts=tuple(attempts), chosen=len(attempts) - 1)
            if not retryable(attempt.error):
                break
        if not attempts and short is not None:
            raise short
        failed = all_failed(attempts)
        if short is not None:
            failed.add_note(f"no other model was asked: {short}")
        raise failed

    def asks(self, step: Call) -> Decider | None:  # noqa: ARG002  # for plug-ins
        """Who decides within the candidate that a step calls, where it is itself a routed model."""
        return None

    def _changed(self, model: str, reason: str) -> None:
        """Says that another model is called than was decided."""
        decision = self.decided.decision
        if decision.model == model:
            return
        first = sorted(decision.candidates, key=lambda one: one.model != model)
        self.decided = replace(self.decided, decision=replace(decision, model=model, candidates=tuple(first), reason=reason))

    def _begun(self, part: Part, attempts: Sequence[Attempt[Any]]) -> RoleCall:
        """The next call, with its money."""
        if not attempts:
            booking = part.begin(model=part.insisted)
            # Somebody else may have taken of the money since it was decided.
            self._changed(booking.model, f"{booking.model} was allocated to {part.role}")
            return booking
        tried = {attempt.model for attempt in attempts}
        among = [model for model in part.pool.ids if model in part.among and model not in tried]
        if not isinstance(self.failover, bool):
            among = [model for model in among if model in self.failover]
        return part.begin([model for model in among if all(self.suitable(attempt, model) for attempt in attempts)])

    def paid(self, step: Call, booking: RoleCall | None) -> Generator[Call, Attempt[Any], Attempt[Any]]:
        """The step; what is set aside for it goes to the `Watch` of the call, or is given back where no call comes of it."""
        if booking is None:
            return (yield step)
        self.bookings[step.attempt] = booking
        late = False
        try:
            attempt = yield step
            late = isinstance(attempt.error, DeadlineExceededError)
            return attempt
        finally:
            # A call that is late may still be about to begin.
            if not late and (left := self.bookings.pop(step.attempt, None)) is not None:
                with forgiving(left):
                    left.release()

    # --- failures ---

    def suitable(self, attempt: Attempt[Any], candidate: str) -> bool:
        """After an overflow only a model with a window known to be larger; after anything else any model."""
        if not is_overflow(attempt.error):
            return True
        failed, other = self.pool.card(attempt.model).context_window, self.pool.card(candidate).context_window
        return failed is not None and other is not None and other > failed

    @property
    def waits(self) -> bool:
        """Whether it may take its time to say who is called next."""
        return False

    def checker(self) -> Callable[[Attempt[Any]], Score] | None:
        """What judges answers; `None` = the flow asks for no judgement."""
        return None

    def achecker(self) -> Callable[[Attempt[Any]], Awaitable[Score]] | None:
        """As `checker`."""
        return None

    def drive(self, call: Callable[[Call], Attempt[A]]) -> CascadeResult[A]:
        """Calls one model after the other until one answers. The caller's own mistakes come out as they are."""

        def told(step: Call) -> Attempt[A]:
            with self._paying(step):
                return call(step)

        try:
            return drive(self.flow(), told, self.checker())
        except Mistake as mistake:
            error = mistake.error
        raise error

    async def adrive(self, call: Callable[[Call], Awaitable[Attempt[A]]]) -> CascadeResult[A]:
        """As `drive`."""

        async def told(step: Call) -> Attempt[A]:
            with self._paying(step):
                return await call(step)

        try:
            return await adrive(self.flow(), told, self.achecker(), waits=self.waits)
        except Mistake as mistake:
            error = mistake.error
        raise error

    def _paying(self, step: Call) -> AbstractContextManager[None]:
        """Within, a candidate that is itself routed is not booked a second time: what this call is booked with has it in it."""
        part, within = self.decided.part, self.asks(step)
        paid = within is not None and (part is None or part.role is not None)
        return paying(within) if paid and within is not None else nullcontext()

    def trace(self, step: Call) -> dict[str, Any]:
        """What tells in traces which call this is."""
        return {
            "agentroute_model": step.model,
            "agentroute_decision_id": self.decided.decision.id,
            "agentroute_attempt": step.attempt,
        }

    def book(self, outcome: Outcome) -> None:
        """Logs the outcome of a call."""
        try:
            self.log.append(outcome)
        except Exception as problem:  # declared fallback point: logging never fails the user's call
            warnings.warn(f"an outcome was not logged: {problem}", OutcomeDroppedWarning, stacklevel=2)

    def totals(self, answered: CascadeResult[Any], watch: Watch) -> dict[str, Any]:  # noqa: ARG002  # for subclasses
        """What the record of a stream gains when the answer's usage is known."""
        return {}

    def record(self, answered: CascadeResult[Any], *, replaced: bool = False) -> dict[str, Any]:
        """The routing record of the answer; `replaced` = somebody else gave it in the model's place."""
        return record_of(
            self.decided.decision,
            answered.attempts,
            answered_by=None if replaced else answered.model,
            fallback=self.decided.error is not None,
            routing_latency=self.decided.latency,
        )
