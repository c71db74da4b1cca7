"""The calls and checks of one cascade on its way: what users see of them, and how they are traced."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from langchain_core.runnables import RunnableConfig

from agentroute import serving
from agentroute.cascades import Attempt, Call, CascadeResult
from agentroute.serving import bubbling, mistakes
from agentroute.teams import RoleCall
from agentroute.types import Reply, Score
from langchain_agentroute._bindings import SchemaBinding
from langchain_agentroute._calls import Ready, RoutedCall
from langchain_agentroute._candidates import Target
from langchain_agentroute._ceilings import ceilings
from langchain_agentroute._doors import Door, Opened
from langchain_agentroute._holding import Gate, Held, arelease, gate, hold, release
from langchain_agentroute._judging import ajudged, judged
from langchain_agentroute._kept import Ended, Kept, at, hollow, nothing, parsed, shut
from langchain_agentroute._replies import reply_of

__all__ = ["CascadeCall"]

A = TypeVar("A")


@dataclass(kw_only=True, eq=False)
class CascadeCall(RoutedCall, serving.CascadeCall):
    """The calls that one request of a cascade leads to.

    Attributes:
        quiet: The candidates as they are called where their answer is judged.
    """

    quiet: Mapping[str, Target]
    _opened: dict[int, Opened] = field(default_factory=dict)
    _gates: dict[int, tuple[Gate, ...]] = field(default_factory=dict)
    _left: set[int] = field(default_factory=set)

    def ceilings(self) -> Mapping[str, float | None]:
        """Model → the most USD that a call of it can cost; `None` = unknown."""
        return ceilings(self)

    def again(self, step: Call) -> RoleCall:
        """As for a routed call; the role has the model that the cascade begins with, whoever is asked again."""
        part = self.decided.part
        assert part is not None  # noqa: S101  # something was set aside at first
        return part.begin(model=step.model, decided=self.decided.decision.by == "forced")

    # --- what users see ---

    def left(self, index: int) -> None:
        """Nobody waits for this call any more: it shows no more, and what it has opened is closed, by whoever comes second."""
        with self.lock:
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
            with self.lock:
                self._gates[step.attempt] = gates
                if step.attempt in self._left:
                    for one in gates:
                        one.shut()
        return config, ()

    # --- calls ---

    def target(self, step: Call) -> Target:
        """What is called: what is judged is not shown as it comes."""
        return self.targets[step.model] if step.final else self.quiet[step.model]

    def ready(self, step: Call) -> Ready:
        """Binds tools or schema and prepares the messages; what is judged is asked for whole, with the raw message."""
        binding = self.request.binding
        if isinstance(binding, SchemaBinding):
            binding = binding.raw
        return self.prepared(step, self.target(step), binding)

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
        with self.lock:
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
            ready = self.prepared(step, self.target(step), self.request.binding)
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

    def judged(self, attempt: Attempt[Any], reply: Reply, score: Callable[[], Score]) -> Score:
        """Lets the judge work in a run of its own."""
        return judged(self._judges_config(attempt), reply, score)

    async def ajudged(self, attempt: Attempt[Any], reply: Reply, score: Callable[[], Awaitable[Score]]) -> Score:
        """As `judged`."""
        return await ajudged(self._judges_config(attempt), reply, score)

    def _judges_config(self, attempt: Attempt[Any]) -> RunnableConfig:
        return self.run.child({"agentroute_judged": attempt.model, "agentroute_decision_id": self.decided.decision.id})

    # --- what comes of it ---

    def drive(self, call: Callable[[Call], Attempt[A]]) -> CascadeResult[A]:
        """Calls and judges until an answer is taken, and passes it on to those who stream to a user."""
        answered = super().drive(call)
        if isinstance(answered.answer, Kept):
            release(answered.answer.held)
        return self._delivered(answered, iter(()))

    async def adrive(self, call: Callable[[Call], Awaitable[Attempt[A]]]) -> CascadeResult[A]:
        """As `drive`."""
        answered = await super().adrive(call)
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


def _emptied(opened: Opened, rest: list[Any], door: Door, nothing_more: Any) -> Attempt[Any]:
    """The attempt of a stream that has shown nothing to its end: an empty answer, which an earlier one may beat."""
    items = [*opened.head, *rest]
    for item in items:
        opened.watch.saw(item, door)
    booked = opened.watch.ended()
    answer = Opened(head=items, items=nothing_more, watch=cast("Any", Ended()))
    return replace(booked, answer=answer, reply=Reply(text="", usage=booked.usage, cost=booked.cost, latency=booked.latency))
