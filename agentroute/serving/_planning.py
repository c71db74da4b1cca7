"""Where a cascade begins, and by which plan it goes on."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

from agentroute.cascades import Attempt, Next, Ordered, Pick, Plan
from agentroute.errors import ConfigError, JudgeFailedWarning, NoEligibleModelError, RouterFailedWarning
from agentroute.pool import ModelPool
from agentroute.scorers import Scorer
from agentroute.serving._deciding import Asked, Decided, Decider, Undecided, _with_part
from agentroute.serving._retry import is_control_flow
from agentroute.serving._turns import Sticky
from agentroute.types import Candidate, DecidedBy, Decision, Paradigm, Query

__all__ = ["CascadeDecider", "Climb", "SupportsPlan"]

T = TypeVar("T")

_BUILT_IN = frozenset({"length"})


@runtime_checkable
class SupportsPlan(Protocol):
    """Anything that plans cascades, such as `agentroute.cascades.CascadeRouter`.

    It may also have `embed(query) -> Query` (then that embedding is planned with and logged), `pool` (then the candidates must be
    exactly its models), `signals` (names of what it reads in the judge's `Score.signals`) and `paradigm`. Its plans may have
    `reason` and `candidates`, which then stand in the record, and `waits` and `limit`: see `agentroute.cascades.Plan`.
    """

    def plan(self, query: Query, /) -> Plan:
        """The plan for one query."""
        ...


class Guarded:
    """A planner's plan. When it fails, one model after the other is asked from there on: a router costs no answer.

    Args:
        plan: The plan.
        ordered: What is followed when it fails.
    """

    def __init__(self, plan: Plan, ordered: Ordered) -> None:
        self._plan = plan
        self._ordered = ordered
        self._said: tuple[tuple[Attempt[Any], ...], tuple[str, ...], Next | None] | None = None
        self.failed: Exception | None = None

    @property
    def waits(self) -> bool:
        """Whether the plan may take its time."""
        return bool(getattr(self._plan, "waits", False))

    def limit(self, most: int | None, /) -> int | None:
        """What the plan keeps to, of the most models that may be called."""

        def planned() -> int | None:
            limit = getattr(self._plan, "limit", None)
            return limit(most) if callable(limit) else most

        return self._asked(planned, lambda: most)

    def next(self, attempts: Sequence[Attempt[Any]], allowed: Sequence[str], /) -> Next | None:
        """The plan's next, if it may be called. Asked the same again it says the same, without asking the plan."""
        tried, may = tuple(attempts), tuple(allowed)
        if self._said is None or self._said[:2] != (tried, may):
            self._said = (tried, may, self._next(tried, may))
        return self._said[2]

    def _next(self, attempts: tuple[Attempt[Any], ...], allowed: tuple[str, ...]) -> Next | None:
        def planned() -> Next | None:
            ahead = self._plan.next(attempts, allowed)
            if ahead is None:
                if all(attempt.error is not None for attempt in attempts):
                    raise ConfigError("the plan calls no model: while there is no answer, next() must name one")
            elif ahead.model not in allowed:
                raise ConfigError(f"the plan calls {ahead.model!r}, and may call {', '.join(map(repr, allowed))}")
            return ahead

        return self._asked(planned, lambda: self._ordered.next(attempts, allowed))

    def pick(self, attempts: Sequence[Attempt[Any]], /) -> Pick:
        """The plan's pick, if it is an answer."""

        def planned() -> Pick:
            pick = self._plan.pick(attempts)
            if attempts[pick.index].error is not None:
                raise ConfigError(f"the plan picks attempt {pick.index}, which has no answer")
            return pick

        return self._asked(planned, lambda: self._ordered.pick(attempts))

    def _asked(self, planned: Callable[[], T], ordered: Callable[[], T]) -> T:
        if self.failed is None:
            try:
                return planned()
            except Exception as error:  # declared fallback point: a failing router never fails the call
                if is_control_flow(error):
                    raise
                self.failed = error
                warn_of(error)
        return ordered()


def warn_of(error: Exception) -> None:
    """Says that the router has failed."""
    told = f"the router failed, so that one model after the other is asked: {type(error).__name__}: {error}"
    warnings.warn(told, RouterFailedWarning, stacklevel=3)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Climb(Decided):
    """A decision where to begin, and the plan by which it goes on.

    Attributes:
        plan: Says who is called next.
        models: Who may be called, cheapest first.
    """

    plan: Plan
    models: tuple[str, ...]


class CascadeDecider(Decider):
    """Where a cascade begins: forced, sticky, planned, or with the cheapest model.

    Args:
        pool: The candidates' cards, cheapest first.
        planner: Who plans; `None` = one model after the other.
        judge: Who scores; `None` = nobody.
        threshold: The least score that is good enough, where there is no planner.
        check_last: Whether the last model's answer is checked too.
        sticky: Where a conversation does not fall below the model that it has.
        role: The agent role of every query.
        task: The task of every query.
        logged: Whether outcomes are logged.
        max_models: Most models that may be called for a query, which plans are told before the first call.

    Raises:
        ConfigError: The planner cannot plan, or needs a judge; a threshold is outside [0, 1]; nothing reads `check_last`.
    """

    def __init__(
        self,
        pool: ModelPool,
        *,
        planner: SupportsPlan | None,
        judge: Scorer | None,
        threshold: float | Mapping[str, float],
        check_last: bool,
        sticky: Sticky,
        role: str | None,
        task: str | None,
        logged: bool,
        max_models: int | None = None,
    ) -> None:
        super().__init__(pool, router=None, default=None, sticky=sticky, role=role, task=task, logged=logged)
        self.planner = planner
        self.threshold = threshold
        self.check_last = check_last
        self._max_models = max_models
        self._ordered(pool.ids)
        if check_last and judge is None and planner is None:
            raise ConfigError("check_last=True asks for a judge: pass judge=, which scores the last model's answer too")
        if planner is not None:
            if check_last:
                raise ConfigError("nothing reads check_last=True: a router= has its own, CascadeRouting(check_last=True)")
            if not callable(getattr(planner, "plan", None)):
                raise ConfigError(f"router={planner!r} has no plan(query): pass a CascadeRouter, or leave router= out")
            needed = sorted(_read(planner))
            if needed and judge is None:
                raise ConfigError(
                    f"the router reads {', '.join(map(repr, needed))} of each answer: pass the judge= that measures it"
                )
            self._embed = getattr(planner, "embed", None)

    def _ordered(self, models: Sequence[str], *, check_last: bool | None = None) -> Ordered:
        last = self.check_last if check_last is None else check_last
        return Ordered(models, threshold=self.threshold, check_last=last)

    def waits(self, fixed: Decision | None) -> bool:
        """Whether there is work for a worker thread: a planner to ask, or an embedding to make."""
        return (fixed is None and self.planner is not None) or self._logged

    def begin(self, asked: Asked) -> Undecided:
        """As a `Decider`'s; what is decided is a `Climb`."""
        query = self.query(asked)
        asked, part = self.in_team(asked, query)
        decide = partial(_with_part, part, partial(self.climb, query, asked))
        return Undecided(query=query, waits=self.waits(None), decide=decide)

    def climb(self, query: Query, asked: Asked) -> Climb:
        """Where to begin, and how to go on. What fails here costs no answer.

        Raises:
            NoEligibleModelError: No candidate may answer; that is a result and no failure.
        """
        started = time.perf_counter()
        if asked.forced is not None:
            query, decision = self._embedded(query), self.forced(asked.forced)
            alone = self._ordered((asked.forced,), check_last=False)
            latency = time.perf_counter() - started
            return Climb(query=query, decision=decision, plan=alone, models=(asked.forced,), latency=latency)
        models = tuple(model for model in self.pool.ids if self._may(model, query))
        by: DecidedBy = "policy"
        kept, why = asked.allocated, f"{asked.allocated} was allocated to {query.role or 'this call'}"
        if kept in models:
            by = "allocated"
        else:
            kept = self.kept(asked)
            why = f"not below {kept}, which keeps what it has begun"
            by = "sticky" if kept in models else by
        if kept in models:
            # Those below may not know what the conversation is about by now, or are not what the role was given.
            models = models[models.index(kept) :]
        plan, query, error = self._planned(query, models)
        followed = plan if isinstance(plan, Ordered) else Guarded(plan, self._ordered(models))
        if isinstance(followed, Guarded):
            followed.limit(self._max_models)
        ahead = followed.next((), models)
        assert ahead is not None  # noqa: S101  # with no attempt yet, an ordered plan names one, and a guarded one falls back to it
        if isinstance(followed, Guarded) and followed.failed is not None:
            error = followed.failed
        reason = getattr(plan, "reason", None) if error is None else None
        reason = reason or f"one model after the other, from {models[0]} on"
        if by != "policy":
            reason = f"{why}; {reason}"
        decision = Decision(
            model=ahead.model,
            candidates=_candidates(plan, models, ahead.model),
            reason=reason if error is None else f"the router failed ({type(error).__name__}); {reason}",
            by=by if error is None else "default",
            paradigm=self._paradigm(error),
        )
        latency = time.perf_counter() - started
        return Climb(query=query, decision=decision, plan=followed, models=models, error=error, latency=latency)

    def _planned(self, query: Query, models: tuple[str, ...]) -> tuple[Plan, Query, Exception | None]:
        if self.planner is None:
            return self._ordered(models), self._embedded(query), None
        try:
            if self._embed is not None:
                query = self._embed(query)
            plan = self.planner.plan(replace(query, allow=frozenset(models)) if len(models) < len(self.pool) else query)
        except NoEligibleModelError:
            raise
        except Exception as error:  # declared fallback point: a failing router never fails the call
            if is_control_flow(error):
                raise
            warn_of(error)
            return self._ordered(models), self._embedded(query), error
        return plan, query if self._embed is not None else self._embedded(query), None

    def _paradigm(self, error: Exception | None) -> Paradigm:
        told = getattr(self.planner, "paradigm", None)
        if isinstance(told, Paradigm) and error is None:
            return told
        return Paradigm(when="multi-stage", what=("answer",), how="threshold")


def _candidates(plan: Plan, models: tuple[str, ...], first: str) -> tuple[Candidate, ...]:
    told = {one.model: one for one in getattr(plan, "candidates", ())}
    # Whoever is called first leads; the others follow, cheapest first.
    return tuple(told.get(model) or Candidate(model=model) for model in sorted(models, key=lambda model: model != first))


class JudgesVoice:
    """Says what is wrong with the judge, once of each kind: it costs no answer, so that nothing else would.

    Args:
        judge: The judge.
        planner: Who reads the judge's signals.
    """

    def __init__(self, judge: Scorer | None, planner: SupportsPlan | None) -> None:
        self._judge = judge
        self._needed = _read(planner)
        self._said: set[str] = set()

    def hear(self, attempt: Attempt[Any]) -> None:
        """Says what is wrong with the judge, once of each kind: it costs no answer, so that nothing else would."""
        judge, error = self._judge, attempt.check_error
        if judge is None:
            return
        if error is not None:
            told = f"{type(error).__name__}: {error}"
            self._say(
                type(error).__name__, f"the judge {judge.name!r} failed, and an answer that nobody judges is not taken: {told}"
            )
        elif attempt.score is not None and self._needed and self._needed.isdisjoint(attempt.score.signals):
            found = ", ".join(map(repr, attempt.score.signals)) or "none"
            told = f"the router reads {', '.join(map(repr, sorted(self._needed)))}, and the judge {judge.name!r} gives {found}"
            self._say("signals", f"{told}: name them so in its Score(signals=...)")

    def _say(self, kind: str, told: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            warnings.warn(told, JudgeFailedWarning, stacklevel=3)


def _read(planner: SupportsPlan | None) -> frozenset[str]:
    """The signals that a planner reads in the judge's scores."""
    return frozenset(getattr(planner, "signals", ())) - _BUILT_IN
