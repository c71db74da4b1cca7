"""Plans for one query: one that knows what answers have taught, and one for queries of which nothing is known."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from agentroute.cascades._answers import Same, degree, same_answer
from agentroute.cascades._climb import Next, Pick, problem_of
from agentroute.cascades._flow import Attempt
from agentroute.cascades._posthoc import PostHocEstimator
from agentroute.cascades._threshold import ChainPolicy
from agentroute.types import Candidate, Reply

__all__ = ["Decider", "Planned", "Straight"]

Floats = npt.NDArray[np.float64]


class Decider(Protocol):
    """What a plan asks of a policy such as `CascadeRouting` or `ThresholdCascade`."""

    @property
    def calls(self) -> int | None:
        """Most models that it calls for one query; `None` = no limit."""

    def decide(
        self,
        quality: Floats,
        cost: Floats,
        /,
        *,
        answered: int = 0,
        failed: int = 0,
        allowed: int | None = None,
        factor: Floats | None = None,
        latency: Floats | None = None,
        step: int = 0,
        most: int | None = None,
        draw: float | None = None,
    ) -> int | None:
        """The column to call next; `None` = stop."""


class Straight:
    """The plan of a router that knows nothing of a query: the default answers, and the others only when it fails.

    Args:
        models: The default first, then the others in the order in which they are tried.
        reason: Why nothing is planned.
        whole: As a `Planned`'s.
    """

    def __init__(self, models: Sequence[str], reason: str, *, whole: bool = False) -> None:
        self.models = tuple(models)
        self.reason = reason
        self._whole = whole
        self.candidates = tuple(Candidate(model=model) for model in self.models)

    def next(self, attempts: Sequence[Attempt[Any]], allowed: Sequence[str], /) -> Next | None:
        """The first that has not failed; nobody once there is an answer that can be used."""
        if any(attempt.error is None and problem_of(attempt.reply) is None for attempt in attempts):
            return None
        left = [model for model in self.models if model in allowed] or list(allowed)
        return Next(model=left[0], final=not self._whole or len(allowed) == 1, check=False)

    def pick(self, attempts: Sequence[Attempt[Any]], /) -> Pick:
        """The last answer that can be used, else the last one."""
        answered = [index for index, attempt in enumerate(attempts) if attempt.error is None]
        usable = [index for index in answered if problem_of(attempts[index].reply) is None]
        return Pick(index=(usable or answered)[-1], accepted=bool(usable))


class Planned:
    """The plan of a fitted cascade for one query: after each answer everything is estimated and decided anew.

    Args:
        posthoc: Estimates every model's quality from the answers so far.
        policy: Decides by them.
        quality: float64 [m], ex-ante estimates, in the order of `posthoc.models_`; NaN = no idea.
        cost: float64 [m], expected USD of a call and of scoring its answer.
        latency: float64 [m], expected seconds; `None` = unknown.
        eligible: Models that may answer the query.
        same: Whether two answers say the same; `None` = they are not compared.
        check_last: Whether the last possible model's answer is checked too, and may lose to an earlier one. Then nothing can
            be streamed before.
        whole: Whether an answer at which nobody looks is waited for all the same, while there is somebody who could be called
            instead: where tools or an object are asked for, only its end tells whether it can be used.
        draw: The query's own number in [0, 1), for a policy that mixes.
    """

    def __init__(
        self,
        *,
        posthoc: PostHocEstimator,
        policy: Decider,
        quality: Floats,
        cost: Floats,
        latency: Floats | None,
        eligible: frozenset[str],
        same: Same | None,
        check_last: bool = False,
        whole: bool = False,
        draw: float | None = None,
    ) -> None:
        self.models = posthoc.models_
        self.reason = "planned by the expected gain of each further call"
        self._column = {model: j for j, model in enumerate(self.models)}
        self._posthoc, self._policy = posthoc, policy
        self._quality, self._cost, self._latency = quality, cost, latency
        self._eligible = eligible
        self._same = same
        self._check_last = check_last
        self._whole = whole
        self._draw = draw
        self._most: int | None = getattr(policy, "max_models", None)

    @property
    def waits(self) -> bool:
        """Whether a function of the caller's compares answers, which may take its time."""
        return self._same is not None and self._same is not same_answer

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """What is expected of every eligible model before anybody has answered, cheapest first."""
        return tuple(
            Candidate(
                model=model,
                quality=_known(self._quality[j]),
                cost=_known(self._cost[j]),
                latency=None if self._latency is None else _known(self._latency[j]),
            )
            for j, model in enumerate(self.models)
            if model in self._eligible
        )

    def limit(self, most: int | None, /) -> int | None:
        """Keeps to so many calls, failed ones included, and to those that the policy allows; returns how many that are."""
        known = [one for one in (self._most, most) if one is not None]
        self._most = min(known, default=None)
        return self._most

    def next(self, attempts: Sequence[Attempt[Any]], allowed: Sequence[str], /) -> Next | None:
        """The cheapest member of the best set of models, unless that is the set of those that have answered."""
        open_ = [model for model in allowed if model in self._column and model in self._eligible]
        answered, failed = self._sets(attempts)
        if not open_:
            return None if answered else Next(model=allowed[0], final=not self._whole or len(allowed) == 1, check=False)
        quality = self.estimates(attempts)
        may = sum(1 << self._column[model] for model in open_)
        chosen = self._decide(quality, answered, failed, may, len(attempts))
        if chosen is None:
            return None
        model = self.models[chosen]
        if self._check_last or not (len(open_) == 1 or self._unseen(len(attempts))):
            return Next(model=model)
        waits = self._whole and len(open_) > 1
        if waits:
            # Who would be called if this answer could not be used?
            this = 1 << chosen
            waits = self._decide(quality, answered, failed | this, may & ~this, len(attempts) + 1) is not None
        return Next(model=model, final=not waits, check=False)

    def _unseen(self, place: int) -> bool:
        """Whether nobody looks at the answer of a call in this place, since the policy calls nobody after it."""
        calls = self._policy.calls
        return calls is not None and place + 1 >= calls and not self._check_last

    def _decide(self, quality: Floats, answered: int, failed: int, allowed: int, step: int) -> int | None:
        """What the policy decides, as a column."""
        return self._policy.decide(
            quality,
            self._cost,
            answered=answered,
            failed=failed,
            allowed=allowed,
            factor=self._posthoc.factor(answered),
            latency=self._latency,
            step=step,
            most=self._most,
            draw=self._draw,
        )

    def pick(self, attempts: Sequence[Attempt[Any]], /) -> Pick:
        """A final answer as it is; else the one of the best estimate, the stronger model's of equals.

        It is good enough if nobody was wanted after it: not if the plan would have called on, and all who were left failed, or
        could not be called.
        """
        answered = [index for index, attempt in enumerate(attempts) if attempt.error is None]
        usable = [index for index in answered if problem_of(attempts[index].reply) is None]
        if not usable:
            return Pick(index=answered[-1], accepted=False)
        last = usable[-1]
        if attempts[last].final:
            return Pick(index=last, accepted=True)
        quality = self.estimates(attempts)

        def rank(index: int) -> tuple[float, int]:
            j = self._column.get(attempts[index].model, -1)
            value = quality[j] if j >= 0 else math.nan
            return (-1.0 if math.isnan(value) else float(value)), j

        done, _ = self._sets(attempts)
        may = sum(1 << self._column[model] for model in self._eligible if model in self._column)
        stops = self._unseen(last) or self._decide(quality, done, 0, may, done.bit_count()) is None
        # A chain with thresholds has looked at the last answer alone.
        taken = last if isinstance(self._policy, ChainPolicy) else max(usable, key=rank)
        return Pick(index=taken, accepted=stops)

    def estimates(self, attempts: Sequence[Attempt[Any]], /) -> Floats:
        """Expected quality of every model after these attempts, float64 [m], in the order of `models`."""
        answered, _ = self._sets(attempts)
        m, names = len(self.models), self._posthoc.signals_
        signals = np.full((m, len(names)), np.nan)
        replies: list[tuple[int, _Said]] = []
        for attempt in attempts:
            j = self._column.get(attempt.model)
            if j is None or not answered >> j & 1:
                continue
            for k, name in enumerate(names):
                signals[j, k] = _signal(attempt, name)
            told = None if attempt.reply is None or self._same is None else _said(attempt.reply)
            if told is not None:
                replies.append((j, told))
        agreement = None
        if self._same is not None:
            agreement = np.full((m, m), np.nan)
            replies.sort(key=lambda one: one[0])  # as in a log: by column
            for place, (i, one) in enumerate(replies):
                agreement[i, i] = 1.0
                for j, other in replies[:place]:
                    agreement[i, j] = agreement[j, i] = self._degree(other, one)
        return self._posthoc.predict(self._quality, signals, agreement, answered)

    def _degree(self, one: _Said, other: _Said) -> float:
        """How far two answers say the same; NaN = the caller's function cannot tell, which must not cost an answer."""
        assert self._same is not None  # noqa: S101  # asked only where answers are compared
        if not one.form == other.form == "text":
            # Two calls of one tool with other arguments are two different answers, whatever is written beside them.
            return float(one == other)
        try:
            return degree(self._same, one.what, other.what)
        except Exception:  # whatever a function of the caller's raises
            return math.nan

    def _sets(self, attempts: Sequence[Attempt[Any]]) -> tuple[int, int]:
        """Who has given an answer that can be used, and who has not; bit j = `models[j]`."""
        answered = failed = 0
        for attempt in attempts:
            j = self._column.get(attempt.model)
            if j is None:
                continue
            if attempt.error is None and problem_of(attempt.reply) is None:
                answered |= 1 << j
            else:
                failed |= 1 << j
        return answered, failed


class _Said(NamedTuple):
    """What is compared of an answer: its tool calls, else its object, else its text."""

    form: str
    what: Any


def _said(reply: Reply) -> _Said | None:
    """What an answer says; `None` = nothing, or nothing that can be compared."""
    try:
        if reply.tool_calls:
            return _Said("calls", _as_json([(call.name, call.arguments) for call in reply.tool_calls]))
        if reply.parsed is not None:
            return _Said("object", _as_json(reply.parsed))
    except Exception:  # an object of the caller's, of whatever kind: that it is no JSON must not cost an answer
        return None
    return _Said("text", reply.text) if reply.text.strip() else None


def _as_json(value: Any) -> Any:
    """The value as JSON has it, so that objects of different kinds, and keys in different orders, can be compared."""
    return json.loads(json.dumps(value, default=_parts))


def _parts(value: Any) -> Any:
    if hasattr(value, "model_dump"):  # Pydantic's
        return value.model_dump(mode="json")
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else dict(value)


def _signal(attempt: Attempt[Any], name: str) -> float:
    """A signal of an answer; NaN = missing."""
    score = attempt.score
    if score is not None:
        if name in score.signals:
            return float(score.signals[name])
        if name == "score":
            return score.value
    if name == "length" and attempt.reply is not None:
        return math.log1p(len(attempt.reply.text))
    return math.nan


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
