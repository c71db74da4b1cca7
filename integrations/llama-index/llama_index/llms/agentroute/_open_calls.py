"""Calls under way, as LlamaIndex's events tell them: which begin within others, and which are only others in another guise."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, TypeAlias

from agentroute.types import Usage

__all__ = ["Key", "OpenCall", "OpenCalls"]

Key: TypeAlias = tuple[str | None, str | None, str]
"""Run, role and model."""

_STREAMS = frozenset({"stream_chat", "astream_chat", "stream_complete", "astream_complete"})
# Streams of an LLM that are made of another stream of it: `CustomLLM` has such.
_MADE_OF = frozenset({"stream_chat", "stream_complete"})


@dataclass(slots=True, kw_only=True, eq=False)
class OpenCall:
    """A call under way.

    Attributes:
        key: Its run, role and model.
        span: The span of the method that was called.
        model_dict: What the LLM told of itself.
        around: Spans of the calls that had begun before in the same context, outermost first.
        asked: What was asked, where its outcome is to be logged.
        began: Seconds, of a clock of no particular zero.
        parent: The call that it is a part of; `None` = of none.
        parted: Whether other calls are part of it.
        parts: Tokens of those that have ended.
        heard: Whether a chunk has come.
        usage: Its tokens, as far as it has told them.
        raw: The provider's answer that told them.
    """

    key: Key
    span: str
    model_dict: Mapping[str, Any]
    around: Sequence[str] = ()
    asked: Any = None
    began: float = field(default_factory=time.perf_counter)
    parent: OpenCall | None = None
    parted: bool = False
    parts: list[Usage] = field(default_factory=list)
    heard: bool = False
    usage: Usage | None = None
    raw: Any = None

    @property
    def method(self) -> str:
        """The method that was called, which leads the span's id: `OpenAI.chat-3f…`."""
        return self.span.partition("-")[0].rpartition(".")[2]

    @property
    def question(self) -> Any:
        """What was asked: of the call that it is a part of, where it is one, for the part may have been asked it otherwise."""
        return self.asked if self.parent is None or self.parent.asked is None else self.parent.question

    def has_part(self, call: OpenCall) -> bool:
        """Whether a call that begins now is part of this one, which began in the same context and has not ended."""
        if self.method not in _STREAMS:
            return True
        # Its reader may well call other LLMs between two chunks. What it is made of begins before the first one.
        return not self.heard and call.method in _MADE_OF and call.method != self.method and call.model_dict == self.model_dict

    def repeats_parts(self) -> bool:
        """Whether its parts are all that has been called."""
        return self.parted and (self.usage is None or self.usage in self.parts or self.usage == _sum(self.parts))


def _sum(usages: Iterable[Usage]) -> Usage | None:
    usages = list(usages)
    return reduce(Usage.__add__, usages) if usages else None


class OpenCalls:
    """The calls under way. Not safe to share between threads by itself.

    LlamaIndex tells some calls more than once: `CustomLLM.achat` is a `chat`, which is a `complete`, and each is told. A call
    is part of another one that began in the same context and has not ended. A stream has no such bounds, for it is read
    anywhere: it is another one in another guise when both hand on the very object that the provider gave.
    """

    def __init__(self) -> None:
        self._calls: OrderedDict[str, OpenCall] = OrderedDict()
        self._answers: OrderedDict[int, tuple[Any, float]] = OrderedDict()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._calls)

    def began_before(self, moment: float) -> list[str]:
        """Spans of the calls that are this old, oldest first."""
        return [call.span for call in self._calls.values() if call.began <= moment]

    def oldest(self) -> str:
        """The span of the call that has been under way for longest."""
        return next(iter(self._calls))

    def begin(self, call: OpenCall) -> None:
        """A call begins."""
        if call.span in self._calls:
            # Told twice: by a method within the same span, or to a handler that hears two dispatchers.
            return
        around = (self._calls[span] for span in reversed(call.around) if span in self._calls)
        call.parent = next((one for one in around if one.has_part(call)), None)
        if call.parent is not None:
            call.parent.parted = True
        self._calls[call.span] = call

    def hear(self, span: str, usage: Usage | None, raw: Any) -> None:
        """A chunk has come."""
        call = self._calls.get(span)
        if call is not None:
            call.heard = True
            if usage is not None:
                call.usage, call.raw = usage, raw

    def end(self, span: str, usage: Usage | None, raw: Any) -> OpenCall | None:
        """A call has ended.

        Args:
            span: Its span.
            usage: Its tokens; `None` = those that its chunks told.
            raw: The provider's answer.

        Returns:
            The call, if it is one of its own; `None` = nothing is to be counted.
        """
        call = self._calls.get(span)
        if call is None:
            return None
        if usage is not None:
            call.usage, call.raw = usage, raw
        del self._calls[span]
        counted = call.usage or _sum(call.parts)
        if call.parent is not None and counted is not None:
            call.parent.parts.append(counted)
        handed_on = self._was_answer_of_another(call)
        return None if handed_on or call.repeats_parts() else call

    def _was_answer_of_another(self, call: OpenCall) -> bool:
        """Whether another call, which began later and has ended, has handed on the same answer."""
        seen = None if call.raw is None else self._answers.get(id(call.raw))
        if call.raw is not None:
            self._answers[id(call.raw)] = (call.raw, call.began)
        # An answer is kept as long as it may come again: while a call is open that began before it ended.
        if not self._calls:
            self._answers.clear()
        while len(self._answers) > len(self._calls) + 1:
            self._answers.popitem(last=False)
        return call.method in _STREAMS and seen is not None and seen[1] >= call.began
