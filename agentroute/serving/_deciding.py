"""Which candidate takes a call: forced, sticky, by the router, or the default."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeAlias, runtime_checkable

from agentroute.errors import ConfigError, NoEligibleModelError, OutcomeDroppedWarning, RouterFailedWarning, UnknownModelError
from agentroute.pool import ModelPool
from agentroute.serving._retry import is_control_flow
from agentroute.serving._teams import Part, Size, is_paid, part_of
from agentroute.serving._turns import Sticky, Turn, kept_model, question, wanted
from agentroute.types import Candidate, Decision, Paradigm, Query

__all__ = ["Asked", "Decided", "Decider", "Rule", "SupportsRoute", "Undecided", "known_model"]

Rule: TypeAlias = Callable[[Query], Decision | str]
"""A router that is a plain function: it names a model, or gives a whole decision."""

_RULE = Paradigm(when="pre-generation", what=("text",), how="rule")
_LOOKUP = Paradigm(when="pre-generation", what=(), how="lookup")


@runtime_checkable
class SupportsRoute(Protocol):
    """Anything that routes, such as `agentroute.router.Router`.

    It may also have `embed(query) -> Query` (then that embedding is logged with the outcome), `pool` (then the candidates
    must be exactly its models) and `default` (then that is the default).
    """

    def route(self, query: Query, /) -> Decision:
        """Chooses a model for the query."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """What a caller asks, beside the words.

    Attributes:
        turns: The conversation.
        text: The text to route on, where the framework knows it better than the conversation; `None` = what the user said last.
        needs: Capabilities that the call asks for, such as `"tools"`.
        max_output_tokens: The limit that the caller sets on the answer, if any.
        count: Counts the tokens of the whole prompt, as the framework counts; called only where a window is known.
        forced: The model that the caller insists on.
        allocated: The model that the query's role was given; the other models are there when it fails.
        kept: The model that the conversation keeps, where the caller knows it; `None` = by the turns' records.
        role: The agent role; `None` = the decider's.
        task: The kind of task; `None` = the decider's.
        size: How long prompt and answer may be with each model, from which follows what a team's budget must set aside.
    """

    turns: Sequence[Turn]
    text: str | None = None
    needs: frozenset[str] = frozenset()
    max_output_tokens: int | None = None
    count: Callable[[], int] | None = None
    forced: str | None = None
    allocated: str | None = None
    kept: str | None = None
    role: str | None = None
    task: str | None = None
    size: Size | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decided:
    """A decision, and how it came about.

    Attributes:
        query: The query, with its embedding where the router made one.
        decision: The decision.
        error: Why the router failed, when it did.
        latency: Seconds that the decision took.
        part: The part that the call has in a team's session; `None` = it has none, or another one's call pays for it.
    """

    query: Query
    decision: Decision
    error: Exception | None = None
    latency: float = 0.0
    part: Part | None = None

    def summary(self) -> dict[str, Any]:
        """What a trace shows of it."""
        decision = self.decision
        return {
            "model": decision.model,
            "by": decision.by,
            "reason": decision.reason,
            "ranking": list(decision.ranking),
            "decision_id": decision.id,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Undecided:
    """A decision that is still to be made.

    Attributes:
        query: The query that is asked.
        waits: Whether there is work for a worker thread: somebody to ask, or an embedding to make.
        decide: Makes the decision, or raises `NoEligibleModelError`.
    """

    query: Query
    waits: bool
    decide: Callable[[], Decided]


class Decider:
    """Chooses the candidate of each call. Holds no state between calls.

    Args:
        pool: The candidates' cards.
        router: Who chooses; `None` = always the default.
        default: Who answers when nobody chooses; `None` = the router's default, else the first model.
        sticky: Where a conversation keeps the model that it has.
        role: The agent role of every query.
        task: The task of every query.
        logged: Whether outcomes are logged: then every query is embedded, also where no router asks for it, because without
            an embedding nothing can be learned from an outcome. A router that does not embed leaves it to the core's
            default embedder, which `Router.fit` takes too.

    Raises:
        UnknownModelError: `default` is no candidate.
        ConfigError: `router` cannot route.
    """

    def __init__(
        self,
        pool: ModelPool,
        *,
        router: SupportsRoute | Rule | None,
        default: str | None,
        sticky: Sticky,
        role: str | None,
        task: str | None,
        logged: bool,
    ) -> None:
        self.pool = pool
        self._known = frozenset(pool.ids)
        self.router = router
        self.sticky = sticky
        self.role = role
        self.task = task
        self._declared = default
        default = default or getattr(router, "default", None) or pool.ids[0]
        if default not in self._known:
            raise UnknownModelError(default, pool.ids, where="models=")
        self.default = default
        self._route: Callable[[Query], Decision | str] | None = None
        self._embed: Callable[[Query], Query] | None = None
        if router is not None:
            self._route = getattr(router, "route", None) or (router if callable(router) else None)
            self._embed = getattr(router, "embed", None)
            if self._route is None:
                raise ConfigError(f"router={router!r} has no route(query) and cannot be called")
        self._logged = logged
        # Counting tokens is dear; without a known window the count decides nothing.
        self._windows = any(card.context_window is not None for card in pool)

    def begin(self, asked: Asked) -> Undecided:
        """All that is cheap: the query, and whether somebody has to be asked about it.

        Raises:
            NoEligibleModelError: No candidate can do what the query needs.
            BudgetError: The query's role has a part in a team's session, and no candidate fits into what is left.
        """
        query = self.query(asked)
        asked, part = self.in_team(asked, query)
        fixed = self.without_router(query, asked)
        return Undecided(query=query, waits=self.waits(fixed), decide=partial(_with_part, part, partial(self.ask, query, fixed)))

    def in_team(self, asked: Asked, query: Query) -> tuple[Asked, Part | None]:
        """What is asked, with the model that a team's session gives to the query's role, and the call's part in the session."""
        part = None if is_paid(self) else part_of(asked, query, self.pool)
        if part is None or part.role is None or part.insisted is not None:
            return asked, part
        return replace(asked, allocated=part.now()), part

    def query(self, asked: Asked) -> Query:
        """The query that is asked, with the models allowed for it.

        Raises:
            NoEligibleModelError: No candidate can do what the query needs.
        """
        query = Query(
            text=question(asked.turns) if asked.text is None else asked.text,
            role=asked.role or self.role,
            task=asked.task or self.task,
            needs=asked.needs | wanted(asked.turns),
            max_output_tokens=asked.max_output_tokens,
            input_tokens=asked.count() if self._windows and asked.count is not None else None,
        )
        try:
            columns = self.pool.eligible(query)
        except NoEligibleModelError:
            if query.input_tokens is None:
                raise
            # The count is a rough one. Where it rules everybody out, the provider shall say whether the prompt fits.
            query = replace(query, input_tokens=None)
            columns = self.pool.eligible(query)
        if len(columns) == len(self.pool):
            return query
        ids = self.pool.ids
        return replace(query, allow=frozenset(ids[column] for column in columns))

    def without_router(self, query: Query, asked: Asked) -> Decision | None:
        """The decision, where it needs no router: forced, allocated, sticky, or no router at all."""
        if asked.forced is not None:
            return self.forced(asked.forced)
        if asked.allocated is not None and self._may(asked.allocated, query):
            reason = f"{asked.allocated} was allocated to {query.role or 'this call'}"
            candidates = self._ranked(asked.allocated, query)
            return Decision(model=asked.allocated, candidates=candidates, reason=reason, by="allocated", paradigm=_LOOKUP)
        kept = self.kept(asked)
        if kept is not None and self._may(kept, query):
            reason = f"{kept} keeps what it has begun"
            return Decision(model=kept, candidates=self._ranked(kept, query), reason=reason, by="sticky", paradigm=_LOOKUP)
        if self._route is None:
            return self.defaulted(query, "there is no router")
        return None

    @staticmethod
    def forced(model: str) -> Decision:
        """The decision of a caller who insists on a model."""
        candidates = (Candidate(model=model),)
        return Decision(model=model, candidates=candidates, reason="the caller asked for it", by="forced", paradigm=_LOOKUP)

    def kept(self, asked: Asked) -> str | None:
        """The model that the conversation has and keeps."""
        return asked.kept or kept_model(asked.turns, self._known, self.sticky)

    def defaulted(self, query: Query, why: str) -> Decision:
        """The default's turn; or the first model that may answer, where the default may not."""
        model = self.default if self._may(self.default, query) else self._ranked(None, query)[0].model
        reason = f"{why}, so that {model} answers"
        return Decision(model=model, candidates=self._ranked(model, query), reason=reason, by="default", paradigm=_LOOKUP)

    def waits(self, fixed: Decision | None) -> bool:
        """Whether there is work for a worker thread: a router to ask, or an embedding to make."""
        return fixed is None or self._logged

    def ask(self, query: Query, fixed: Decision | None) -> Decided:
        """Asks the router; a `fixed` decision only gets the embedding for the log. What fails here costs no answer.

        Raises:
            NoEligibleModelError: No candidate may answer; that is a result and no failure.
        """
        started = time.perf_counter()
        if fixed is not None:
            query = self._embedded(query)
            return Decided(query=query, decision=fixed, latency=time.perf_counter() - started)
        error: Exception | None = None
        try:
            if self._embed is not None:
                query = self._embed(query)
            decision = self._asked(query)
        except NoEligibleModelError:
            raise
        except Exception as caught:  # declared fallback point: a failing router never fails the call
            if is_control_flow(caught):
                raise
            error = caught
            decision = self.defaulted(query, f"the router failed ({type(caught).__name__})")
            warnings.warn(
                f"the router failed, so that {decision.model!r} answers: {type(caught).__name__}: {caught}",
                RouterFailedWarning,
                stacklevel=2,
            )
        latency = time.perf_counter() - started
        if self._embed is None:
            query = self._embedded(query)
        return Decided(query=query, decision=decision, error=error, latency=latency)

    def _embedded(self, query: Query) -> Query:
        """The query with an embedding for the log, where there is a log and the embedder works."""
        if not self._logged:
            return query
        try:
            return _embed_by_default(query) if self._embed is None else self._embed(query)
        except Exception as error:  # declared fallback point: the log never fails the call
            if is_control_flow(error):
                raise
            warnings.warn(
                f"the outcome will be logged without an embedding: {type(error).__name__}: {error}",
                OutcomeDroppedWarning,
                stacklevel=3,
            )
            return query

    def _asked(self, query: Query) -> Decision:
        assert self._route is not None  # noqa: S101  # without a router the decision is fixed
        found = self._route(query)
        if isinstance(found, str):
            if found not in self._known:
                raise UnknownModelError(found, self.pool.ids, where="models=")
            if not self._may(found, query):
                return self.defaulted(query, f"the rule's {found} may not answer this")
            candidates = self._ranked(found, query)
            return Decision(model=found, candidates=candidates, reason=f"the rule chose {found}", paradigm=_RULE)
        if not isinstance(found, Decision):
            raise ConfigError(f"a router must give a Decision or a model's name, not {type(found).__name__}")
        if found.model not in self._known:
            raise UnknownModelError(found.model, self.pool.ids, where="models=")
        if not self._may(found.model, query):
            return self.defaulted(query, f"the router's {found.model} may not answer this")
        may = tuple(one for one in found.candidates if self._may(one.model, query))
        return self._preferred(found if len(may) == len(found.candidates) else replace(found, candidates=may), query)

    def _preferred(self, found: Decision, query: Query) -> Decision:
        """The decision; where the router knew nothing and took its own default, with the default declared here instead."""
        declared = self._declared
        if found.by != "default" or declared is None or declared == found.model or not self._may(declared, query):
            return found
        others = [one for one in found.candidates if one.model != declared]
        first = next((one for one in found.candidates if one.model == declared), Candidate(model=declared))
        reason = f"{found.reason}; but the default declared for the routed model is {declared}"
        return replace(found, model=declared, candidates=(first, *others), reason=reason)

    def _may(self, model: str, query: Query) -> bool:
        return model in self._known and (query.allow is None or model in query.allow)

    def _ranked(self, first: str | None, query: Query) -> tuple[Candidate, ...]:
        rest = [model for model in self.pool.ids if model != first and self._may(model, query)]
        return tuple(Candidate(model=model) for model in ([] if first is None else [first]) + rest)


def _with_part(part: Part | None, decide: Callable[[], Decided]) -> Decided:
    return decide() if part is None else replace(decide(), part=part)


def _embed_by_default(query: Query) -> Query:
    """The query with a vector of the core's default embedder, whose table is read at the first call."""
    from agentroute.embedders import as_embedder

    embedder = as_embedder(None)
    return replace(query, embedding=embedder.embed([query.text])[0], fingerprint=embedder.fingerprint)


def known_model(value: Any, known: Collection[str]) -> str | None:
    """Checks the name that a caller asks for.

    Raises:
        UnknownModelError: It is no candidate's name.
    """
    if value is None:
        return None
    if value not in known:
        raise UnknownModelError(value, known, where="models=")
    return str(value)
