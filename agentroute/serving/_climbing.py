"""The calls and checks of one cascade on its way, and what is booked of them."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, cast

from agentroute.cascades import Attempt, Call, CascadeResult, Flow, Limits, Step, cascade
from agentroute.errors import BudgetError, DeadlineExceededError, OutcomeDroppedWarning, StorageError
from agentroute.scorers import Scorer
from agentroute.serving._calls import RoutedCall
from agentroute.serving._planning import Climb, JudgesVoice
from agentroute.serving._records import cascade_record, check_record, number, totals_of
from agentroute.serving._retry import bubbling, mistakes, retryable
from agentroute.serving._teams import EVERYBODY, forgiving, paying
from agentroute.serving._watch import Watch
from agentroute.types import Outcome, Reply, Score

__all__ = ["CascadeCall"]

_LEAST = 1e-12  # USD: what is free may be called even when nothing is left
_UNPAID = (BudgetError, StorageError)
"""Nothing could be set aside: there is too little, or nobody knows how much there is. Answers that there are stay good."""
_USABLE = Score(value=1.0, reason="it can be used, and nobody judges")


@dataclass(slots=True, kw_only=True, eq=False)
class CascadeCall(RoutedCall):
    """The calls that one decision of a cascade leads to.

    What is booked: an outcome for each call, once its fate is known. A call that a deadline has cut off is booked when it ends;
    it may have cost something.

    Attributes:
        judge: Who scores answers; `None` = nobody.
        limits: What the query may take.
        voice: Says what is wrong with the judge.
    """

    judge: Scorer | None
    limits: Limits
    voice: JudgesVoice
    lock: threading.Lock = field(default_factory=threading.Lock)
    _pending: dict[int, Outcome] = field(default_factory=dict)
    _fates: dict[int, dict[str, Any]] = field(default_factory=dict)
    _over: bool = False

    # --- who is called ---

    def flow(self) -> Flow[Any]:
        """Whom to call and what to judge, and then the bookkeeping."""
        climb = self.climb
        most: Mapping[str, float | None] | None = None
        limits, check = self.limits, 0.0 if self.judge is None else self.judge.ceiling
        if limits.max_cost is not None:
            with mistakes():
                most = self.ceilings()
        left = None if climb.part is None else climb.part.left()
        if climb.part is not None and left is not None:
            # Models that the team's budget cannot pay are out from the start, so that the plan looks at the others.
            held = climb.part.held()
            most = {model: held(model) if most is None or most[model] is None else most[model] for model in climb.models}
            check = check or 0.0 if limits.max_cost is None else check
            limits = replace(limits, max_cost=max(min(left, limits.max_cost or math.inf), _LEAST))
        return self._booked(
            cascade(
                climb.plan,
                climb.models,
                retryable=retryable,
                limits=limits,
                ceilings=most,
                check_ceiling=check,
                suitable=self.suitable,
            )
        )

    @property
    def climb(self) -> Climb:
        """The decision, with its plan."""
        return cast("Climb", self.decided)

    @property
    def waits(self) -> bool:
        """As the plan says."""
        return bool(getattr(self.climb.plan, "waits", False))

    def ceilings(self) -> Mapping[str, float | None]:
        """Model → the most USD that a call of it can cost; `None` = unknown. See `ceiling`."""
        return dict.fromkeys(self.climb.models)

    def left(self, index: int) -> None:
        """Nobody waits for this call any more."""

    def _booked(self, flow: Flow[Any]) -> Generator[Step[Any], Attempt[Any], CascadeResult[Any]]:
        """The flow; at its end, however it comes, each attempt is booked with what became of it."""
        seen: list[Attempt[Any]] = []
        result: CascadeResult[Any] | None = None
        try:
            step = next(flow)
            while True:
                attempt = yield from self._paid_step(step)
                if isinstance(step, Call):
                    seen.append(attempt)
                    if isinstance(attempt.error, DeadlineExceededError):
                        self.left(step.attempt)
                else:
                    seen[-1] = attempt
                    if not isinstance(attempt.check_error, _UNPAID):
                        self.voice.hear(attempt)
                step = flow.send(attempt)
        except StopIteration as stop:
            result = stop.value
            return stop.value  # type: ignore[no-any-return]  # StopIteration knows no types
        finally:
            flow.close()
            self._settle(seen if result is None else result.attempts, result)

    def _paid_step(self, step: Step[Any]) -> Generator[Step[Any], Attempt[Any], Attempt[Any]]:
        """The step; in a team's session with its money set aside, or an error in its place when it cannot be."""
        part = self.decided.part
        if part is None or (part.role is None and isinstance(step, Call) and self.asks(step) is not None):
            return (yield step)
        try:
            if isinstance(step, Call):
                # The role has the model that the cascade begins with, whoever answers in the end.
                booking = part.begin(model=step.model, decided=self.decided.decision.by == "forced")
            elif not self._pays_checks or self.judge is None:
                return (yield step)
            else:
                booking = part.check(step.attempt.model, self.judge.ceiling)
        except _UNPAID as error:
            if isinstance(step, Call):
                return Attempt(model=step.model, error=error)
            return replace(step.attempt, check_error=error)
        if isinstance(step, Call):
            return (yield from self.paid(step, booking))
        try:
            attempt = yield step
            if attempt.score is not None:
                with forgiving(booking):
                    booking.settle(cost=attempt.score.cost)
            return attempt
        finally:
            # A check that failed or was left may have been billed.
            with forgiving(booking):
                booking.settle()

    def climbs_on(self, step: Call) -> bool:
        """Whether somebody else may be asked after this call."""
        most = self.limits.max_models
        return not step.final and step.model != self.climb.models[-1] and (most is None or step.attempt + 1 < most)

    # --- what is thought of an answer ---

    def checker(self) -> Callable[[Attempt[Any]], Score]:
        """What judges answers."""
        return self._check

    def achecker(self) -> Callable[[Attempt[Any]], Awaitable[Score]]:
        """As `checker`."""
        return self._acheck

    def judged(self, attempt: Attempt[Any], reply: Reply, score: Callable[[], Score]) -> Score:  # noqa: ARG002  # for plug-ins
        """Lets the judge work; a plug-in may make its work traceable."""
        return score()

    async def ajudged(
        self,
        attempt: Attempt[Any],  # noqa: ARG002  # for plug-ins
        reply: Reply,  # noqa: ARG002
        score: Callable[[], Awaitable[Score]],
    ) -> Score:
        """As `judged`."""
        return await score()

    @property
    def _pays_checks(self) -> bool:
        """Whether what the judge takes is set aside and booked in a team's session, by its own word on it."""
        return self.decided.part is not None and self.judge is not None and self.judge.ceiling != 0.0

    def _paying_checks(self) -> AbstractContextManager[None]:
        """Within, a judge that asks a routed model is not booked a second time."""
        return paying(EVERYBODY) if self._pays_checks else nullcontext()

    def _check(self, attempt: Attempt[Any]) -> Score:
        judge, query, reply = self.judge, self.decided.query, attempt.reply
        if judge is None or reply is None:
            return _USABLE
        with bubbling(), self._paying_checks():
            return self.judged(attempt, reply, lambda: judge.score(query, reply))

    async def _acheck(self, attempt: Attempt[Any]) -> Score:
        judge, query, reply = self.judge, self.decided.query, attempt.reply
        if judge is None or reply is None:
            return _USABLE
        with bubbling(), self._paying_checks():
            return await self.ajudged(attempt, reply, lambda: judge.ascore(query, reply))

    # --- what is booked ---

    def book(self, outcome: Outcome) -> None:
        """Keeps an outcome until it is known what became of the answer."""
        with self.lock:
            if not self._over:
                self._pending[outcome.attempt] = outcome
                return
        self._book(outcome)

    def _book(self, outcome: Outcome) -> None:
        fate = self._fates.get(outcome.attempt, {})
        if outcome.error is not None or outcome.metadata.get("interrupted"):
            # An answer that broke on its way to the reader is still the one that feedback is about.
            fate = {"chosen": True} if fate.get("chosen") else {}
        RoutedCall.book(self, replace(outcome, metadata={**outcome.metadata, **fate}))

    def _settle(self, attempts: Sequence[Attempt[Any]], result: CascadeResult[Any] | None) -> None:
        fates = {}
        for index, attempt in enumerate(attempts):
            chosen = result is not None and index == result.chosen % len(attempts)
            # Feedback on the decision is about the chosen answer, whoever answered after it.
            fates[index] = {"chosen": True} if chosen else {}
            try:
                fates[index] |= self._fate(attempt, accepted=chosen and result is not None and result.accepted)
            except Exception as problem:  # declared fallback point: logging never fails the user's call
                told = f"what became of an answer was not logged: {type(problem).__name__}: {problem}"
                warnings.warn(told, OutcomeDroppedWarning, stacklevel=2)
        with self.lock:
            self._over, self._fates = True, fates
            pending, self._pending = self._pending, {}
        for outcome in pending.values():
            self._book(outcome)

    def _fate(self, attempt: Attempt[Any], *, accepted: bool) -> dict[str, Any]:
        """What the log says of an answer beside its cost: never its quality, which a judge's score is not."""
        if isinstance(attempt.error, DeadlineExceededError):
            return {"late": True}
        told = {"accepted": accepted, **check_record(_unjudged(attempt))}
        told.pop("reason", None)  # it may quote the answer
        if attempt.check_error is not None:
            # Nobody knows what it has cost by now, but at most this.
            told["check_cost_at_most"] = None if self.judge is None else self.judge.ceiling
        signals = attempt.score.signals if attempt.score is not None else {}
        numbers = {name: number(value) for name, value in signals.items()}
        told["signals"] = {name: value for name, value in numbers.items() if value is not None} or None
        return {name: value for name, value in told.items() if value is not None}

    # --- what comes of it ---

    def record(self, answered: CascadeResult[Any], *, replaced: bool = False) -> dict[str, Any]:
        """The routing record, with what was thought of each answer, and the totals."""
        record = RoutedCall.record(self, answered, replaced=replaced)
        failed = getattr(self.climb.plan, "failed", None)
        if isinstance(failed, Exception) and not record["fallback"]:
            reason = f"{record['reason']}; the router failed on the way ({type(failed).__name__})"
            record = {**record, "fallback": True, "reason": reason}
        told = replace(answered, attempts=tuple(_unjudged(attempt) for attempt in answered.attempts))
        return cascade_record(record, told)

    def totals(self, answered: CascadeResult[Any], watch: Watch) -> dict[str, Any]:
        """The totals of a stream, which are known when the last answer's usage is."""
        index = answered.chosen % len(answered.attempts)
        last = answered.attempts[index]
        if not last.final or last.usage is not None:
            return {}
        spent = watch.spent()
        attempts = list(answered.attempts)
        attempts[index] = replace(last, usage=spent.usage, cost=spent.cost)
        return totals_of(replace(answered, attempts=tuple(attempts)))


def _unjudged(attempt: Attempt[Any]) -> Attempt[Any]:
    """The attempt, without the score that nobody gave."""
    return replace(attempt, score=None) if attempt.score is _USABLE else attempt
