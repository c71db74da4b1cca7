"""What a model said, and how good somebody finds it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentroute.errors import DataError
from agentroute.types._models import Usage

__all__ = ["Reply", "Score", "TokenLogprob", "ToolCall"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """A token of an answer, with how likely the model found it.

    Attributes:
        token: Its text.
        logprob: Its natural log-probability, 0 or less.
        top: The likeliest tokens at its place with their log-probabilities; empty = not asked for.
    """

    token: str
    logprob: float
    top: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool call that a model asks for.

    Attributes:
        name: The tool's name.
        arguments: Its arguments; `None` = they could not be parsed.
        problem: Why the call is broken; `None` = it is well formed.
    """

    name: str
    arguments: Mapping[str, Any] | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a model said, as a scorer sees it, whatever the framework.

    Attributes:
        text: The answer's text; empty when there is none, as beside a tool call.
        model: Who said it, by its id in the pool; `None` = not told.
        tokens: The answer's tokens with their log-probabilities; `None` = the provider gave none.
        tool_calls: The tool calls that it asks for, broken ones too.
        parsed: The object made of the text where a schema was asked for.
        problem: Why that object could not be made; `None` = it could, or none was asked for.
        finish: Why the answer ended, in the provider's words (`"stop"`, `"length"` …).
        usage: Its tokens.
        cost: USD that the call cost; `None` = unknown.
        latency: Seconds that it took; `None` = unknown.
    """

    text: str
    model: str | None = None
    tokens: tuple[TokenLogprob, ...] | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    parsed: Any = None
    problem: str | None = None
    finish: str | None = None
    usage: Usage | None = None
    cost: float | None = None
    latency: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How good an answer looks.

    Attributes:
        value: In [0, 1]; where it is calibrated, the chance that the answer is right.
        cost: USD that it cost to find out, on top of the answer; `None` = unknown.
        reason: One sentence for people.
        signals: What was measured on the way, by the scorer's name, such as a mean log-probability: features from which a
            cascade can learn more than the value tells. NaN = missing.

    Raises:
        DataError: The value is outside [0, 1], the cost is negative, or a signal is no number.
    """

    value: float
    cost: float | None = 0.0
    reason: str = ""
    signals: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses what no score can be: a value that nobody could compare with a threshold."""
        if not 0.0 <= self.value <= 1.0:
            raise DataError(f"a score of {self.value!r} is outside [0, 1]: rescale it in the scorer")
        if self.cost is not None and not (self.cost >= 0.0 and math.isfinite(self.cost)):
            raise DataError(f"a score cannot cost {self.cost!r} USD: give 0 or more, or None when unknown")
        for name, signal in self.signals.items():
            try:
                fine = not math.isinf(signal)
            except TypeError:
                fine = False
            if not fine:
                raise DataError(f"the signal {name!r} is {signal!r}: give a finite number, or leave it out")
