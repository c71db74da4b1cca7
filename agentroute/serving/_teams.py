"""A role's part in a team's session: whom its calls go to, and what is set aside for them and booked of them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Final, TypeAlias

from agentroute.errors import ConfigError, OutcomeDroppedWarning, UnknownModelError
from agentroute.pool import ModelPool
from agentroute.serving._bounds import tokens_at_most
from agentroute.serving._candidates import ceiling
from agentroute.serving._retry import is_overflow, refused, retryable
from agentroute.teams import RoleCall, TeamSession, current_session
from agentroute.types import Query

if TYPE_CHECKING:
    from agentroute.serving._deciding import Asked, Decider
    from agentroute.serving._watch import Spent

__all__ = ["EVERYBODY", "Part", "Size", "book", "forgiving", "is_paid", "part_of", "paying"]

Size: TypeAlias = Callable[[str], tuple[int, int | None]]
"""Model → tokens of the prompt as it would see it, and the most tokens of its answer; `None` = nobody limits it."""

_MARGIN: Final = 1.5
"""Times a framework's own count of a prompt: it is an estimate, or that of another model's tokenizer."""
_AROUND: Final = 16
"""Tokens that a provider may put around each message."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """A role's part in a session, as far as one call goes; or that of a call of no role, which the run pays for.

    Attributes:
        session: The session.
        role: The role; `None` = the call belongs to none, and the session has no say in who takes it.
        pool: The candidates' cards.
        among: The candidates that may take the call.
        insisted: The model that the caller insists on; `None` = the session decides.
        size: How long prompt and answer may be; `None` = nobody knows.
        count: How long the framework takes them to be; `None` = as `size` says.
    """

    session: TeamSession
    role: str | None
    pool: ModelPool
    among: frozenset[str]
    insisted: str | None
    size: Size | None
    count: Size | None = None

    def ceiling(self, model: str) -> float | None:
        """The most USD that the call can cost with a model; `None` = unknown, and what such calls cost is set aside.

        Where nobody limits the answer, nobody knows. But a prompt that is much longer than was expected is paid for all the same,
        so that it is counted then, and an answer as was expected.
        """
        if self.size is None or model not in self.pool.ids:
            return None
        card, known = self.pool.card(model), self.session.card(model)
        if known is not None:
            limit = known.max_output_tokens if card.max_output_tokens is None else card.max_output_tokens
            card = replace(card, price=card.price or known.price, max_output_tokens=limit)
        if card.price is None:
            return None
        tokens, most = self.size(model)
        if most is None and card.max_output_tokens is None:
            counted = tokens if self.count is None else self.count(model)[0]
            said = self.session.answer(self.role, model, prompt=counted)
            most = None if said is None else math.ceil(said)
        return ceiling(card, input_tokens=tokens, most=most)

    def now(self) -> str:
        """Whom the call would go to now; nothing is set aside.

        Raises:
            BudgetError: No candidate fits into what is left.
            NoEligibleModelError: No candidate may take the call, or all have failed.
            ConfigError: The role was left out of this run, the session is over, or the call is of no role.
        """
        if self.role is None:
            raise ConfigError("the session does not decide about a call of no role")
        return self.session.model(self.role, ceiling=self.ceiling, among=self.among)

    def begin(self, among: Collection[str] | None = None, *, model: str | None = None, decided: bool = True) -> RoleCall:
        """Decides about a call, and sets aside what it may cost.

        Args:
            among: The only candidates that may take it; `None` = all that may take the call.
            model: The one that must take it; `None` = as the session decides.
            decided: With `model`: whether the role has this model from here on in the run's record.

        Raises:
            BudgetError: None fits into what is left.
            NoEligibleModelError: None may take it.
        """
        may = self.among if among is None else among
        return self.session.begin(self.role, ceiling=self.ceiling, among=may, model=model, decided=decided)

    def left(self) -> float | None:
        """USD that are left; `None` = there is no budget."""
        budget = self.session.budget
        return None if budget is None else budget.left()

    def held(self) -> Callable[[str], float | None]:
        """Model → USD that would be set aside for the call; `None` = nobody knows."""
        return self.session.held(self.role, ceiling=self.ceiling)

    def check(self, model: str, most: float | None) -> RoleCall:
        """Sets aside what judging a model's answer may cost: at most so many USD, `None` = unknown.

        Raises:
            BudgetError: Less than that is left.
        """
        return self.session.begin_check(self.role, model, most)


EVERYBODY: Final = "everybody"
_PAID: ContextVar[Decider | str | None] = ContextVar("agentroute_paid", default=None)


@contextmanager
def paying(whom: Decider | str) -> Iterator[None]:
    """Within, a routed model that is another one's candidate is paid for and booked by the other; or `EVERYBODY` is."""
    token = _PAID.set(whom)
    try:
        yield
    finally:
        _PAID.reset(token)


def is_paid(decider: Decider) -> bool:
    """Whether somebody else pays for what this one decides now."""
    return _PAID.get() in {decider, EVERYBODY}


def part_of(asked: Asked, query: Query, pool: ModelPool) -> Part | None:
    """The part that a call has in the session around it; `None` = there is no session, or it is over for a call of no role.

    Raises:
        UnknownModelError: The model that the role has in the session is no candidate.
        ConfigError: The session's team has no such role.
    """
    session = current_session()
    if session is None:
        return None
    among = frozenset(pool.ids) if query.allow is None else query.allow
    size = None if asked.size is None else _at_most(asked, asked.size)
    if query.role is None or query.role not in session.roles:
        if query.role is not None:
            # As likely as not a slip of the pen, which would give the role any model, and the team's own role none.
            known = ", ".join(map(repr, session.roles))
            raise ConfigError(f"the role {query.role!r} is none of the team's ({known}), in whose session this call is made")
        if session.over:
            return None
        return Part(session=session, role=None, pool=pool, among=among, insisted=None, size=size, count=asked.size)
    insisted = asked.forced
    if insisted is None and asked.allocated in among:
        insisted = asked.allocated
    if insisted is None and session.has(query.role):
        given = session.allocation.models[query.role]  # and not as money has moved it since, which knows no candidates
        if given not in pool.ids:
            # Another one in its place would be taken for what the money changed, and a slip of the pen would go unseen.
            raise UnknownModelError(given, pool.ids, where=f"the role {query.role!r} has it in the session, and models=")
    return Part(session=session, role=query.role, pool=pool, among=among, insisted=insisted, size=size, count=asked.size)


def _at_most(asked: Asked, size: Size) -> Size:
    """What prompt and answer hardly exceed, where the framework's count of the prompt is an estimate."""
    turns = asked.turns

    @cache
    def words() -> int:
        return sum(tokens_at_most(turn.text) for turn in turns)

    def at_most(model: str) -> tuple[int, int | None]:
        tokens, most = size(model)
        return max(round(_MARGIN * tokens), words()) + _AROUND * len(turns), most

    return at_most


def book(
    call: RoleCall,
    spent: Spent,
    *,
    latency: float | None,
    error: str | None,
    cause: BaseException | None,
    begun: bool,
    whole: bool = True,
) -> None:
    """Books what a call has taken, however it ended. Nothing that goes wrong here costs the user's answer.

    Args:
        call: The call.
        spent: What it has taken, as far as was told.
        latency: Seconds; `None` = since the call began.
        error: What went wrong; `None` = nothing did.
        cause: The error itself.
        begun: Whether anything has come of the answer, so that the provider has not turned the call away.
        whole: Whether that is all of it; else it is unknown, and all that was set aside counts, or what was told if that is more.
    """
    usage, cost = spent.usage, 0.0 if spent.cached else spent.cost
    if not whole:
        usage, cost = None, cost if cost is not None and call.held is not None and cost > call.held else None
    with forgiving(call):
        if error is None:
            call.settle(usage=usage, cost=cost, latency=latency)
            return
        if cause is not None and not begun and refused(cause):
            cost = 0.0
        # What no other model would help with is no reason to leave this one, nor is a prompt too long for it.
        again = cause is not None and (is_overflow(cause) or not (isinstance(cause, Exception) and retryable(cause)))
        call.failed(error, usage=usage, cost=cost, latency=latency, again=again)


@contextmanager
def forgiving(call: RoleCall) -> Iterator[None]:
    """Within, a call is ended. A budget that cannot be written costs nobody's answer; the session's end tries once more."""
    try:
        yield
    except Exception as problem:  # declared fallback point: what is set aside stays so, and the answer is there
        whose = "of no role" if call.role is None else f"of the role {call.role!r}"
        told = f"a call {whose} was not booked: {type(problem).__name__}: {problem}"
        warnings.warn(told, OutcomeDroppedWarning, stacklevel=4)
