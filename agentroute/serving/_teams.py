"""A role's part in a team's session: whom its calls go to, and what is set aside for them and booked of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from agentroute.errors import ConfigError, OutcomeDroppedWarning, UnknownModelError
from agentroute.pool import ModelPool
from agentroute.serving._candidates import ceiling
from agentroute.serving._retry import is_overflow, refused, retryable
from agentroute.teams import RoleCall, TeamSession, current_session
from agentroute.types import Query

if TYPE_CHECKING:
    from agentroute.serving._deciding import Asked
    from agentroute.serving._watch import Spent

__all__ = ["Part", "Size", "book", "part_of"]

Size: TypeAlias = Callable[[str], tuple[int, int | None]]
"""Model → tokens of the prompt as it would see it, and the most tokens of its answer; `None` = nobody limits it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """A role's part in a session, as far as one call goes.

    Attributes:
        session: The session.
        role: The role.
        pool: The candidates' cards.
        among: The candidates that may take the call.
        insisted: The model that the caller insists on; `None` = the session decides.
        size: How long prompt and answer may be; `None` = nobody knows.
    """

    session: TeamSession
    role: str
    pool: ModelPool
    among: frozenset[str]
    insisted: str | None
    size: Size | None

    def ceiling(self, model: str) -> float | None:
        """The most USD that the call can cost with a model; `None` = unknown."""
        if self.size is None or model not in self.pool.ids:
            return None
        card, known = self.pool.card(model), self.session.card(model)
        if known is not None:
            limit = known.max_output_tokens if card.max_output_tokens is None else card.max_output_tokens
            card = replace(card, price=card.price or known.price, max_output_tokens=limit)
        if card.price is None:
            return None
        tokens, most = self.size(model)
        return ceiling(card, input_tokens=tokens, most=most)

    def now(self) -> str:
        """Whom the call would go to now; nothing is set aside.

        Raises:
            BudgetError: No candidate fits into what is left.
            NoEligibleModelError: No candidate may take the call, or all have failed.
            ConfigError: The role was left out of this run, or the session is over.
        """
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


def part_of(asked: Asked, query: Query, pool: ModelPool) -> Part | None:
    """The part that a call's role has in the session around it; `None` = there is no session, or it does not know the role.

    Raises:
        UnknownModelError: The session's models for the role are no candidates.
        ConfigError: The session has a budget, and its team no such role.
    """
    session = current_session()
    if session is None or query.role is None:
        return None
    if query.role not in session.roles:
        if session.budget is not None:
            # Nothing would be booked, and the budget would be none.
            known = ", ".join(map(repr, session.roles))
            raise ConfigError(f"the role {query.role!r} is none of the team's ({known}), in a session that has a budget")
        return None
    among = frozenset(pool.ids) if query.allow is None else query.allow
    insisted = asked.forced
    if insisted is None and asked.allocated in among:
        insisted = asked.allocated
    if insisted is None and session.has(query.role):
        may = session.may(query.role)
        if may.isdisjoint(pool.ids):
            raise UnknownModelError(min(may), pool.ids, where="models=")
    return Part(session=session, role=query.role, pool=pool, among=among, insisted=insisted, size=asked.size)


def book(call: RoleCall, spent: Spent, *, latency: float | None, error: str | None, cause: BaseException | None) -> None:
    """Books what a call has taken, however it ended. Nothing that goes wrong here costs the user's answer."""
    cost = 0.0 if spent.cached else spent.cost
    try:
        if error is None:
            call.settle(usage=spent.usage, cost=cost, latency=latency)
            return
        if cost is None and spent.usage is None and cause is not None and refused(cause):
            cost = 0.0
        # What no other model would help with is no reason to leave this one, nor is a prompt too long for it.
        again = cause is not None and (is_overflow(cause) or not (isinstance(cause, Exception) and retryable(cause)))
        call.failed(error, usage=spent.usage, cost=cost, latency=latency, again=again)
    except Exception as problem:  # declared fallback point: what is set aside stays so, and the answer is there
        told = f"a call of the role {call.role!r} was not booked: {type(problem).__name__}: {problem}"
        warnings.warn(told, OutcomeDroppedWarning, stacklevel=2)
