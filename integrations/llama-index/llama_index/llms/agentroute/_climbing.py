"""The calls and checks of one cascade on its way: what is judged comes whole, and is passed on when it is accepted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar, cast

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from llama_index.core.llms import LLM

from agentroute import serving
from agentroute.cascades import Attempt, Call, CascadeResult
from agentroute.scorers import Scorer
from agentroute.serving import bubbling, ceiling, is_overflow
from agentroute.types import ModelCard, Reply, Score
from llama_index.llms.agentroute._calls import LlamaCall, LlamaWatch, Opened, speaks
from llama_index.llms.agentroute._replies import reply_of
from llama_index.llms.agentroute._requests import most_tokens
from llama_index.llms.agentroute._sizes import prompt_size
from llama_index.llms.agentroute.events import ROUTED, tagged

__all__ = ["ClimbingCall"]

A = TypeVar("A")


@dataclass(frozen=True, slots=True, eq=False)
class Unfit:
    """Stands in the place of an object that could not be made of an answer, until it is known whether a better one comes."""

    error: Exception


@dataclass(slots=True, eq=False)
class Kept:
    """An answer that is not accepted yet; `streams` = the caller wants it as a stream."""

    answer: Any
    streams: bool = False


@dataclass(kw_only=True, eq=False)
class ClimbingCall(LlamaCall, serving.CascadeCall):
    """The calls that one request of a cascade leads to."""

    _opened: dict[int, Opened] = field(default_factory=dict)
    _left: set[int] = field(default_factory=set)

    def ceilings(self) -> Mapping[str, float | None]:
        """Model → the most USD that a call of it can cost; `None` = unknown."""
        return {model: self._ceiling(self.pool.card(model)) for model in self.climb.models}

    def _ceiling(self, card: ModelCard) -> float | None:
        target = self.serving.targets[card.id]
        return ceiling(
            card,
            input_tokens=partial(prompt_size, self.request, target, self.serving),
            most=most_tokens(card, target.llm, self.request.kwargs),
        )

    def settings(self, step: Call) -> dict[str, Any]:
        """Where its answer is judged, the candidate is asked with what the judge reads."""
        settings = super().settings(step)
        return settings if step.final or self.judge is None else settings | _read(self.target(step).llm, self.judge)

    # --- calls ---

    def invoke(self, step: Call) -> Attempt[Any]:
        """Asks a candidate and waits for the whole answer."""
        with bubbling():
            return self._replied(step, super().invoke(step))

    async def ainvoke(self, step: Call) -> Attempt[Any]:
        """As `invoke`."""
        with bubbling():
            return self._replied(step, await super().ainvoke(step))

    def unfit(self, error: Exception, watch: LlamaWatch) -> Any:
        """An answer that came, and of which no object could be made, is no failure of the model's: another may do better."""
        answered = any(heard.ended for heard in watch.ear.heard)
        if self.request.shape == "object" and answered and isinstance(error, (ValueError, TypeError)) and not is_overflow(error):
            return Unfit(error)
        raise error

    def open(self, step: Call) -> Attempt[Any]:
        """A final answer as a stream; one that is judged whole, to be passed on when it is accepted."""
        if not step.final:
            return _streamed(self.invoke(step))
        with bubbling():
            attempt = super().open(step)
        stream = cast("Opened", attempt.answer)
        with self.lock:
            left = step.attempt in self._left
            if not left:
                self._opened[step.attempt] = stream
        if left:
            _shut(stream)
        return _emptied(step, stream) if _is_hollow(stream) else attempt

    async def aopen(self, step: Call) -> Attempt[Any]:
        """As `open`. Here a deadline cancels the opening itself."""
        if not step.final:
            return _streamed(await self.ainvoke(step))
        with bubbling():
            attempt = await super().aopen(step)
        stream = cast("Opened", attempt.answer)
        return _emptied(step, stream) if _is_hollow(stream) else attempt

    def left(self, index: int) -> None:
        """Nobody waits for this call any more: what it has opened is closed, by whoever comes second."""
        with self.lock:
            self._left.add(index)
            opened = self._opened.pop(index, None)
        if opened is not None:
            _shut(opened)

    def _replied(self, step: Call, attempt: Attempt[Any]) -> Attempt[Any]:
        """The attempt as scorers read it; an answer that is not final is kept until it is accepted."""
        answer = attempt.answer
        if isinstance(answer, Unfit):
            reply = Reply(text="", problem=f"no object could be made of the answer: {type(answer.error).__name__}")
        else:
            heard = self._ears[step.attempt].heard
            reply = reply_of(answer, heard[-1].answer if heard else None)
        reply = replace(reply, model=step.model, usage=attempt.usage, cost=attempt.cost, latency=attempt.latency)
        return replace(attempt, answer=answer if step.final else Kept(answer), reply=reply)

    # --- checks ---

    def judged(self, attempt: Attempt[Any], reply: Reply, score: Callable[[], Score]) -> Score:  # noqa: ARG002  # the core's hook
        """Lets the judge work. What it asks is tagged, so that nobody takes it for an answer to the user."""
        with tagged({ROUTED: self._judging(attempt)}):
            return score()

    async def ajudged(self, attempt: Attempt[Any], reply: Reply, score: Callable[[], Awaitable[Score]]) -> Score:  # noqa: ARG002
        """As `judged`."""
        with tagged({ROUTED: self._judging(attempt)}):
            return await score()

    def _judging(self, attempt: Attempt[Any]) -> dict[str, Any]:
        decided = self.decided
        return {"role": decided.query.role, "model": None, "decision_id": decided.decision.id, "judges": attempt.model}

    # --- what comes of it ---

    def drive(self, call: Callable[[Call], Attempt[A]]) -> CascadeResult[A]:
        """Asks and judges until an answer is taken."""
        return _delivered(super().drive(call), iter(()))

    async def adrive(self, call: Callable[[Call], Awaitable[Attempt[A]]]) -> CascadeResult[A]:
        """As `drive`."""
        return _delivered(await super().adrive(call), _nothing())


def _read(llm: LLM, judge: Scorer) -> dict[str, Any]:
    """The settings with which an LLM tells the probabilities that a judge reads, where it has such settings and they are off."""
    fields, probabilities = type(llm).model_fields, judge.needs & {"logprobs", "top_logprobs"}
    settings: dict[str, Any] = {}
    if probabilities and "logprobs" in fields and not getattr(llm, "logprobs", None):
        settings["logprobs"] = True
    if probabilities and "top_logprobs" in fields and not getattr(llm, "top_logprobs", None):
        # Servers such as llama.cpp's tell no token's probability when nobody asks for the likeliest ones.
        settings["top_logprobs"] = 5 if "top_logprobs" in probabilities else 1
    return settings


def _streamed(attempt: Attempt[Any]) -> Attempt[Any]:
    cast("Kept", attempt.answer).streams = True
    return attempt


def _is_hollow(stream: Opened) -> bool:
    """Whether a stream has come to its end and shown nothing, so that nobody has seen anything of it yet."""
    return stream.ended and not any(speaks(item) for item in stream.head)


def _emptied(step: Call, stream: Opened) -> Attempt[Any]:
    """The attempt of a stream that has shown nothing to its end: an empty answer, which an earlier one may beat."""
    watch = stream.watch
    assert watch is not None  # noqa: S101  # it was just opened
    booked = watch.ended()
    reply = Reply(text="", model=step.model, usage=booked.usage, cost=booked.cost, latency=booked.latency)
    return replace(booked, answer=Opened(head=stream.head, items=stream.items, watch=None, ended=True), reply=reply)


def _shut(stream: Opened) -> None:
    """Ends a stream that nobody will read: what of it has come has cost something."""
    with suppress(Exception):  # whatever a stream says at its end, nobody is there to hear it
        stream.items.close()
    if stream.watch is not None:
        stream.watch.left()


def _delivered(answered: CascadeResult[Any], rest: Any) -> CascadeResult[Any]:
    answer = answered.answer
    streams = isinstance(answer, Kept) and answer.streams
    if isinstance(answer, Kept):
        answer = answer.answer
    if isinstance(answer, Unfit):
        # There was no better one: the caller hears what was wrong with it.
        raise answer.error
    if streams:
        if isinstance(answer, ChatResponse):
            answer = answer.model_copy(update={"delta": answer.message.content or ""})
        elif isinstance(answer, CompletionResponse):
            answer = answer.model_copy(update={"delta": answer.text})
        answer = Opened(head=[answer], items=rest, watch=None, ended=True)
    return replace(answered, answer=answer)


async def _nothing() -> AsyncIterator[Any]:
    """The rest of a stream that has come whole."""
    none: tuple[Any, ...] = ()
    for item in none:
        yield item
