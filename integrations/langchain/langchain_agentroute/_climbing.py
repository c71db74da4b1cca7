"""The calls and checks of one cascade on its way, and what is booked of them."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from langchain_core.runnables import RunnableConfig

from agentroute.cascades import Attempt, Call, CascadeResult, Flow, Step, cascade
from agentroute.errors import DeadlineExceededError, OutcomeDroppedWarning
from agentroute.types import Outcome, Reply, Score
from langchain_agentroute._bindings import SchemaBinding
from langchain_agentroute._calls import Ready, RoutedCall
from langchain_agentroute._ceilings import ceilings
from langchain_agentroute._doors import Door, Opened
from langchain_agentroute._holding import Gate, Held, arelease, gate, hold, release
from langchain_agentroute._judging import ajudged, judged
from langchain_agentroute._kept import Ended, Kept, at, hollow, nothing, parsed, shut
from langchain_agentroute._record import cascade_record, check_record, number, totals_of
from langchain_agentroute._replies import reply_of
from langchain_agentroute._retry import Mistake, is_control_flow, mistakes, retryable
from langchain_agentroute._watch import Watch

if TYPE_CHECKING:
    from langchain_agentroute._cascading import CascadeRouting, Climb

__all__ = ["CascadeCall", "bubbling"]

A = TypeVar("A")

_USABLE = Score(value=1.0, reason="it can be used, and nobody judges")


@contextmanager
def bubbling() -> Iterator[None]:
    """Lets a graph's way to stop pass the flow, which might take an earlier answer instead."""
    try:
        yield
    except Exception as error:
        if is_control_flow(error):
            raise Mistake(error) from error
        raise


@dataclass(slots=True, kw_only=True, eq=False)
class CascadeCall(RoutedCall):
    """The calls that one request of a cascade leads to.

    What is booked: an outcome for each call, once its fate is known. A call that a deadline has cut off is booked when it ends;
    it may have cost something.
    """

    routing: CascadeRouting
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _pending: dict[int, Outcome] = field(default_factory=dict)
    _opened: dict[int, Opened] = field(default_factory=dict)
    _fates: dict[int, dict[str, Any]] = field(default_factory=dict)
    _gates: dict[int, tuple[Gate, ...]] = field(default_factory=dict)
    _left: set[int] = field(default_factory=set)
    _over: bool = False

    # --- who is called ---

    def flow(self) -> Flow[Any]:
        """Whom to call and what to judge, and then the bookkeeping."""
        climb, routing = self._climb, self.routing
        most: dict[str, float | None] | None = None
        if routing.limits.max_cost is not None:
            with mistakes():
                most = ceilings(self.request, climb, self.targets, self.pool, self.prepare_messages)
        return self._booked(
            cascade(
                climb.plan,
                climb.models,
                retryable=retryable,
                limits=routing.limits,
                ceilings=most,
                check_ceiling=0.0 if routing.judge is None else routing.judge.ceiling,
                suitable=self._suitable,
            )
        )

    @property
    def _climb(self) -> Climb:
        return cast("Climb", self.decided)

    def _booked(self, flow: Flow[Any]) -> Generator[Step[Any], Attempt[Any], CascadeResult[Any]]:
        """The flow; at its end, however it comes, each attempt is booked with what became of it."""
        seen: list[Attempt[Any]] = []
        result: CascadeResult[Any] | None = None
        try:
            step = next(flow)
            while True:
                attempt = yield step
                if isinstance(step, Call):
                    seen.append(attempt)
                    if isinstance(attempt.error, DeadlineExceededError):
                        self._leave(step.attempt)
                else:
                    seen[-1] = attempt
                    self.routing.hear(attempt)
                step = flow.send(attempt)
        except StopIteration as stop:
            result = stop.value
            return stop.value  # type: ignore[no-any-return]  # StopIteration knows no types
        finally:
            flow.close()
            self._settle(seen if result is None else result.attempts, result)

    def climbs_on(self, step: Call) -> bool:
        """Whether somebody else may be asked after this call."""
        most = self.routing.limits.max_models
        return not step.final and step.model != self._climb.models[-1] and (most is None or step.attempt + 1 < most)

    # --- what is booked ---

    def book(self, outcome: Outcome) -> None:
        """Keeps an outcome until it is known what became of the answer."""
        with self._lock:
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
        with self._lock:
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
            judge = self.routing.judge
            # Nobody knows what it has cost by now, but at most this.
            told["check_cost_at_most"] = None if judge is None else judge.ceiling
        signals = attempt.score.signals if attempt.score is not None else {}
        numbers = {name: number(value) for name, value in signals.items()}
        told["signals"] = {name: value for name, value in numbers.items() if value is not None} or None
        return {name: value for name, value in told.items() if value is not None}

    def _leave(self, index: int) -> None:
        """Nobody waits for this call any more: it shows no more, and what it has opened is closed, by whoever comes second."""
        with self._lock:
            self._left.add(index)
            opened = self._opened.pop(index, None)
            for one in self._gates.pop(index, ()):
                one.shut()
        if opened is not None:
            shut(opened)

    def shown(self, step: Call, config: RunnableConfig) -> tuple[RunnableConfig, tuple[Held, ...]]:
        """The configuration by which users see as much of a call as they may, and what is kept from them until it is accepted."""
        if not step.final:
            return hold(config)
        if step.deadline is not None:
            config, gates = gate(config)
            with self._lock:
                self._gates[step.attempt] = gates
                if step.attempt in self._left:
                    for one in gates:
                        one.shut()
        return config, ()

    # --- calls ---

    def ready(self, step: Call) -> Ready:
        """Binds tools or schema and prepares the messages; what is judged is asked for whole, with the raw message."""
        binding = self.request.binding
        if isinstance(binding, SchemaBinding):
            binding = binding.raw
        return self.prepared(step, self.targets[step.model] if step.final else self.routing.quiet[step.model], binding)

    def _ready(self, step: Call) -> tuple[Ready, tuple[Held, ...]]:
        with mistakes():
            ready = self.ready(step)
            ready.config, held = self.shown(step, ready.config)
            return ready, held

    def invoke(self, step: Call) -> Attempt[Any]:
        """Calls a candidate and waits for the whole answer."""
        ready, held = self._ready(step)
        with bubbling():
            return self.replied(step, self.called(step, ready), held)

    async def ainvoke(self, step: Call) -> Attempt[Any]:
        """As `invoke`."""
        ready, held = self._ready(step)
        with bubbling():
            return self.replied(step, await self.acalled(step, ready), held)

    def open(self, step: Call, door: Door) -> Attempt[Any]:
        """A final answer as a stream; one that is judged whole, to be passed on when it is accepted."""
        if not step.final:
            return at(self.invoke(step), door)
        ready = self._streaming(step)
        with bubbling():
            attempt: Attempt[Any] = self.opened(step, door, ready)
        stream = cast("Opened", attempt.answer)
        with self._lock:
            left = step.attempt in self._left
            if not left:
                self._opened[step.attempt] = stream
        if left:
            shut(stream)
        elif hollow(stream, door):
            with stream.watch:
                rest = list(stream.items)
            return _emptied(stream, rest, door, iter(()))
        return attempt

    async def aopen(self, step: Call, door: Door) -> Attempt[Any]:
        """As `open`. Here a deadline cancels the opening itself."""
        if not step.final:
            return at(await self.ainvoke(step), door)
        ready = self._streaming(step)
        with bubbling():
            attempt: Attempt[Any] = await self.aopened(step, door, ready)
        stream = cast("Opened", attempt.answer)
        if not hollow(stream, door):
            return attempt
        with stream.watch:
            rest = [item async for item in stream.items]
        return _emptied(stream, rest, door, nothing())

    def _streaming(self, step: Call) -> Ready:
        with mistakes():
            ready = self.prepared(step, self.targets[step.model], self.request.binding)
            ready.config, _ = self.shown(step, ready.config)
            return ready

    def replied(self, step: Call, attempt: Attempt[Any], held: tuple[Held, ...] = (), reply: Reply | None = None) -> Attempt[Any]:
        """The attempt as scorers read it; an answer that is not final is kept until it is accepted."""
        if reply is None:
            schema = isinstance(self.request.binding, SchemaBinding)
            reply = reply_of(attempt.answer, usage=attempt.usage, cost=attempt.cost, latency=attempt.latency, schema=schema)
        answer = attempt.answer if step.final else Kept(answer=attempt.answer, held=held)
        return replace(attempt, answer=answer, reply=replace(reply, model=step.model))

    # --- checks ---

    def checker(self) -> Callable[[Attempt[Any]], Score]:
        """What judges answers."""
        return self._check

    def achecker(self) -> Callable[[Attempt[Any]], Awaitable[Score]]:
        """As `checker`."""
        return self._acheck

    def _check(self, attempt: Attempt[Any]) -> Score:
        judge, query, reply = self.routing.judge, self.decided.query, attempt.reply
        if judge is None or reply is None:
            return _USABLE
        with bubbling():
            return judged(self._judges_config(attempt), reply, lambda: judge.score(query, reply))

    async def _acheck(self, attempt: Attempt[Any]) -> Score:
        judge, query, reply = self.routing.judge, self.decided.query, attempt.reply
        if judge is None or reply is None:
            return _USABLE
        with bubbling():
            return await ajudged(self._judges_config(attempt), reply, lambda: judge.ascore(query, reply))

    def _judges_config(self, attempt: Attempt[Any]) -> RunnableConfig:
        return self.run.child({"agentroute_judged": attempt.model, "agentroute_decision_id": self.decided.decision.id})

    # --- what comes of it ---

    def drive(self, call: Callable[[Call], Attempt[A]]) -> CascadeResult[A]:
        """Calls and judges until an answer is taken, and passes it on to those who stream to a user."""
        answered = RoutedCall.drive(self, call)
        if isinstance(answered.answer, Kept):
            release(answered.answer.held)
        return self._delivered(answered, iter(()))

    async def adrive(self, call: Callable[[Call], Awaitable[Attempt[A]]]) -> CascadeResult[A]:
        """As `drive`."""
        answered = await RoutedCall.adrive(self, call)
        if isinstance(answered.answer, Kept):
            await arelease(answered.answer.held)
        return self._delivered(answered, nothing())

    def _delivered(self, answered: CascadeResult[Any], rest: Any) -> CascadeResult[Any]:
        answer = answered.answer
        if isinstance(answer, Opened):
            return answered
        door = None
        if isinstance(answer, Kept):
            answer, door = answer.answer, answer.door
        asked = self.request.binding
        if isinstance(asked, SchemaBinding) and asked is not asked.raw:
            answer = parsed(answer)
        if door is not None:
            watch = cast("Any", Ended())
            answer = Opened(head=list(door.whole(answer)), items=rest, watch=watch)
        return replace(answered, answer=answer)

    def record(self, answered: CascadeResult[Any], *, replaced: bool = False) -> dict[str, Any]:
        """The routing record, with what was thought of each answer, and the totals."""
        record = RoutedCall.record(self, answered, replaced=replaced)
        failed = getattr(self._climb.plan, "failed", None)
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
        usage, cost = watch.spent()
        attempts = list(answered.attempts)
        attempts[index] = replace(last, usage=usage, cost=cost)
        return totals_of(replace(answered, attempts=tuple(attempts)))


def _unjudged(attempt: Attempt[Any]) -> Attempt[Any]:
    """The attempt, without the score that nobody gave."""
    return replace(attempt, score=None) if attempt.score is _USABLE else attempt


def _emptied(opened: Opened, rest: list[Any], door: Door, nothing_more: Any) -> Attempt[Any]:
    """The attempt of a stream that has shown nothing to its end: an empty answer, which an earlier one may beat."""
    items = [*opened.head, *rest]
    for item in items:
        opened.watch.saw(item, door)
    booked = opened.watch.ended()
    answer = Opened(head=items, items=nothing_more, watch=cast("Any", Ended()))
    return replace(booked, answer=answer, reply=Reply(text="", usage=booked.usage, cost=booked.cost, latency=booked.latency))
