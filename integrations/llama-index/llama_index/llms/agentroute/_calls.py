"""One routed call of a LlamaIndex LLM: how a candidate is asked, what is heard of its answer, and how it is passed on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, TextBlock, ThinkingBlock
from llama_index.core.chat_engine.types import AgentChatResponse
from llama_index.core.llms import LLM
from llama_index.core.llms.structured_llm import StructuredLLM

from agentroute.cascades import Attempt, Call, CascadeResult
from agentroute.serving import RECORD, Decider, RoutedCall, Spent, Turn, Watch, mistakes, stamp
from agentroute.types import Usage
from llama_index.llms.agentroute._candidates import Target
from llama_index.llms.agentroute._listening import Ear, listening
from llama_index.llms.agentroute._messages import turns_of
from llama_index.llms.agentroute._replies import broke_off
from llama_index.llms.agentroute._requests import Ready, Request
from llama_index.llms.agentroute._usage import usage_of
from llama_index.llms.agentroute.events import ROUTED, tagged, tell

if TYPE_CHECKING:
    from llama_index.llms.agentroute._choosing import Serving

__all__ = ["LlamaCall", "LlamaWatch", "Opened", "apassed", "passed", "record_on", "speaks", "stamped"]

_END = object()


def record_on(answer: Any) -> Any:
    """The routing record that an answer carries, if any."""
    about = getattr(answer, "metadata" if isinstance(answer, AgentChatResponse) else "additional_kwargs", None)
    return about.get(RECORD) if isinstance(about, dict) else None


def stamped(answer: Any, record: dict[str, Any]) -> Any:
    """The answer with the record beside its message, never on it: OpenAI's converter sends a message's extras to the provider.

    The candidate's answer is copied, never edited. A string or an object of a schema has no place for a record.
    """
    if isinstance(answer, (ChatResponse, CompletionResponse)):
        return answer.model_copy(update={"additional_kwargs": stamp(answer.additional_kwargs, record)})
    if isinstance(answer, AgentChatResponse):
        return replace(answer, metadata=stamp(answer.metadata or {}, record))
    return answer


def speaks(item: Any) -> bool:
    """Whether an item of a stream shows anything, thoughts included; failover ends with the first that does."""
    if isinstance(item, ChatResponse):
        message = item.message
        return bool(item.delta or message.additional_kwargs.get("tool_calls") or any(_shows(block) for block in message.blocks))
    if isinstance(item, CompletionResponse):
        return bool(item.delta or item.text)
    return item not in ("", None)


def _shows(block: Any) -> bool:
    if isinstance(block, TextBlock):
        return bool(block.text)
    return bool(block.content) if isinstance(block, ThinkingBlock) else True


class LlamaWatch(Watch):
    """Times one call, hears what its calls within gave, and logs the outcome."""

    def __init__(self, call: RoutedCall, step: Call) -> None:
        super().__init__(call, step)
        self.ear = Ear()

    def told(self) -> Spent:
        """The tokens of all calls within; unknown when one of them does not tell."""
        usages = [usage_of(heard.answer) for heard in self.ear.heard]
        known = [usage for usage in usages if usage is not None]
        if not known or len(known) < len(usages):
            return Spent()
        names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
        usage = Usage(**{name: sum(getattr(one, name) for one in known) for name in names})
        return Spent(usage=usage, cost=self.priced(usage))

    def truncated(self) -> bool:
        """Whether an answer was cut off on its way: it came to its end and does not say why."""
        return any(heard.ended and broke_off(heard.answer, heard.finish) for heard in self.ear.heard)

    def complete(self) -> bool:
        """Whether all that the model was asked has come to its end, as where no object could be made of a whole answer."""
        heard = self.ear.heard
        return super().complete() or (bool(heard) and all(one.ended for one in heard) and not self.truncated())

    def spent(self) -> Spent:
        """Also what a candidate that is itself routed has spent on its answer."""
        for record in (*(record_on(heard.answer) for heard in self.ear.heard), self.ear.record):
            self.heard(record)
        return super().spent()

    @contextmanager
    def working(self) -> Iterator[None]:
        """What happens within is the candidate's work, and is tagged for those who listen to events."""
        call, step = self.call, self.step
        about = {
            "role": call.decided.query.role,
            "model": step.model,
            "decision_id": call.decided.decision.id,
            "attempt": step.attempt,
        }
        with tagged({ROUTED: about}):
            yield


@dataclass(slots=True, kw_only=True, eq=False)
class Opened:
    """A stream of which the first speaking item has come.

    Attributes:
        head: The items so far.
        items: The rest.
        watch: Logs how it ends; `None` = it has come whole and is booked.
        ended: Whether there is no rest.
    """

    head: list[Any]
    items: Any
    watch: LlamaWatch | None
    ended: bool = False


# Without slots: a cascade's calls inherit from these and from the core's, and Python cannot merge the slots of two classes.
@dataclass(kw_only=True, eq=False)
class LlamaCall(RoutedCall):
    """The calls that one request leads to."""

    request: Request
    serving: Serving
    scope: str
    _failed: list[str] = field(default_factory=list)
    _ears: dict[int, Ear] = field(default_factory=dict)

    def target(self, step: Call) -> Target:
        """Whom the step calls."""
        return self.serving.targets[step.model]

    def asks(self, step: Call) -> Decider | None:
        """Who decides within the candidate, where it is itself a routed LLM."""
        llm: Any = self.target(step).llm
        while isinstance(llm, StructuredLLM):
            llm = llm.llm
        decider = getattr(getattr(llm, "_serving", None), "decider", None)
        return decider if isinstance(decider, Decider) else None

    def ready(self, step: Call) -> Ready:
        """How to ask the candidate."""
        with mistakes():
            return self.request.ready(self.target(step), self.serving)

    def settings(self, step: Call) -> dict[str, Any]:
        """What the candidate's settings are for this call alone, where they are others than its own."""
        own, ours = getattr(self.target(step).llm, "callback_manager", None), self.serving.listener
        # Candidates that nobody listens to are listened to by whoever listens to this LLM (`Settings.callback_manager`).
        return {"callback_manager": ours} if ours is not None and ours.handlers and not getattr(own, "handlers", None) else {}

    def view(self, step: Call, watch: LlamaWatch) -> LLM:
        """The candidate as it is asked."""
        return listening(self.target(step).llm, watch.ear, self.settings(step))

    @contextmanager
    def watched(self, step: Call) -> Iterator[LlamaWatch]:
        """A call under way: told to those who listen, timed, and booked if it fails."""
        decided = self.decided
        error = self._failed[-1] if self._failed else None
        tell(decided.decision, role=decided.query.role, attempt=step.attempt, model=step.model, error=error)
        try:
            with LlamaWatch(self, step) as watch:
                self._ears[step.attempt] = watch.ear
                self._heard(step.attempt)
                yield watch
        except Exception as problem:
            self._failed.append(type(problem).__name__)
            raise

    def invoke(self, step: Call) -> Attempt[Any]:
        """Asks a candidate and waits for the whole answer."""
        ready = self.ready(step)
        with self.watched(step) as watch:
            try:
                with watch.working():
                    ask = getattr(self.view(step, watch), ready.name(awaits=False, streams=False))
                    answer = ask(*ready.args, **ready.kwargs)
            except Exception as error:
                answer = self.unfit(error, watch)
            return watch.ended(answer)

    async def ainvoke(self, step: Call) -> Attempt[Any]:
        """As `invoke`."""
        ready = self.ready(step)
        with self.watched(step) as watch:
            try:
                with watch.working():
                    ask = getattr(self.view(step, watch), ready.name(awaits=True, streams=False))
                    answer = await ask(*ready.args, **ready.kwargs)
            except Exception as error:
                answer = self.unfit(error, watch)
            return watch.ended(answer)

    def unfit(self, error: Exception, watch: LlamaWatch) -> Any:  # noqa: ARG002  # for cascades
        """What stands in the place of an answer of which nothing could be made: here the error itself."""
        raise error

    def open(self, step: Call) -> Attempt[Any]:
        """Opens a candidate's stream and waits for the first item that shows anything."""
        ready = self.ready(step)
        with self.watched(step) as watch:
            head: list[Any] = []
            with watch.working():
                ask = getattr(self.view(step, watch), ready.name(awaits=False, streams=True))
                items = ask(*ready.args, **ready.kwargs)
                for item in items:
                    head.append(item)
                    if speaks(item):
                        break
        watch.opened()
        ended = not (head and speaks(head[-1]))
        return Attempt(model=step.model, answer=Opened(head=head, items=items, watch=watch, ended=ended))

    async def aopen(self, step: Call) -> Attempt[Any]:
        """As `open`."""
        ready = self.ready(step)
        with self.watched(step) as watch:
            head: list[Any] = []
            with watch.working():
                ask = getattr(self.view(step, watch), ready.name(awaits=True, streams=True))
                items = await ask(*ready.args, **ready.kwargs)
                async for item in items:
                    head.append(item)
                    if speaks(item):
                        break
        watch.opened()
        ended = not (head and speaks(head[-1]))
        return Attempt(model=step.model, answer=Opened(head=head, items=items, watch=watch, ended=ended))

    def answer(self, answered: CascadeResult[Any]) -> Any:
        """The answer as the caller gets it, with the record on it."""
        self.remember(answered.answer, answered.model)
        return stamped(answered.answer, self.told(answered))

    def told(self, answered: CascadeResult[Any]) -> dict[str, Any]:
        """The record, told also to the routed LLM of which this one is a candidate."""
        record = self.record(answered)
        self._heard(answered.chosen % len(answered.attempts), record)
        return record

    def _heard(self, attempt: int, record: Any = None) -> None:
        """Tells the routed LLM of which this one is a candidate what it cannot hear: what the candidate's candidate gave."""
        outer = self.serving.ear
        if outer is not None:
            outer.heard, outer.record = self._ears[attempt].heard, record

    def remember(self, answer: Any, model: str) -> None:
        """Keeps who gave an answer, so that the conversation can go on with the same model."""
        message = getattr(answer, "message", None)
        if isinstance(message, ChatMessage):
            self.serving.authors.remember(message, model)
            turns: tuple[Turn, ...] = turns_of([message])
            self.serving.memory.remember(self.request.turns, turns[0], model, scope=self.scope)


def passed(call: LlamaCall, answered: CascadeResult[Any]) -> Iterator[Any]:
    """The items of a stream, each with the record on it."""
    items = _items(call, answered)
    # Begun at once: a generator that was never begun does not notice that it is thrown away, and nothing would be logged.
    next(items)
    return items


def _items(call: LlamaCall, answered: CascadeResult[Any]) -> Iterator[Any]:
    opened: Opened = answered.answer
    passing = _Passing(call, answered)
    with passing:
        try:
            yield None
            for item in opened.head:
                yield passing.through(item)
            while opened.watch is not None:
                with opened.watch.working():
                    item = next(opened.items, _END)
                if item is _END:
                    break
                yield passing.through(item)
        finally:
            close = getattr(opened.items, "close", None)
            if close is not None:
                close()
        passing.whole()


async def apassed(call: LlamaCall, answered: CascadeResult[Any]) -> AsyncIterator[Any]:
    """As `passed`."""
    items = _aitems(call, answered)
    await anext(items)
    return items


async def _aitems(call: LlamaCall, answered: CascadeResult[Any]) -> AsyncIterator[Any]:
    opened: Opened = answered.answer
    passing = _Passing(call, answered)
    with passing:
        try:
            yield None
            for item in opened.head:
                yield passing.through(item)
            while opened.watch is not None:
                with opened.watch.working():
                    item = await anext(opened.items, _END)
                if item is _END:
                    break
                yield passing.through(item)
        finally:
            close = getattr(opened.items, "aclose", None)
            if close is not None:
                await close()
        passing.whole()


class _Passing:
    """A stream on its way to its reader: each item gets the record, and at the end the call is booked."""

    def __init__(self, call: LlamaCall, answered: CascadeResult[Any]) -> None:
        self._call, self._answered = call, answered
        self._watch: LlamaWatch | None = answered.answer.watch
        self._spent = Spent()
        self._record = call.told(answered)
        self._last: Any = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._watch is not None:
            self._watch.__exit__(kind, error, trace)

    def through(self, item: Any) -> Any:
        """The item, with the record."""
        self._last = item
        spent = self._spent if self._watch is None else self._watch.spent()
        if spent != self._spent:
            self._spent = spent
            # A new record: the old one is on its way already, and may be anybody's by now.
            self._record = self._call.told(_with(self._answered, spent))
        return stamped(item, self._record)

    def whole(self) -> None:
        """The stream has come to its end."""
        if self._watch is not None:
            self._watch.ended()
        self._call.remember(self._last, self._answered.model)


def _with(answered: CascadeResult[Any], spent: Spent) -> CascadeResult[Any]:
    """The result, with what its answer has taken so far."""
    attempts = list(answered.attempts)
    attempts[answered.chosen] = replace(attempts[answered.chosen], usage=spent.usage, cost=spent.cost)
    return replace(answered, attempts=tuple(attempts))
