"""Which session is the current one."""

from __future__ import annotations

from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from agentroute.teams._session import TeamSession

__all__ = ["Entry", "current_session", "entered", "left"]


@dataclass(frozen=True, slots=True, eq=False)
class _Within:
    session: TeamSession
    before: _Within | None


_WITHIN: ContextVar[_Within | None] = ContextVar("agentroute_team_session", default=None)

Entry: TypeAlias = Token[_Within | None]
"""What `entered` gives, and `left` takes."""


def current_session() -> TeamSession | None:
    """The session in whose `with` block, or in a task or thread begun there with its context, this runs; `None` = none.

    A generator that its reader leaves early may be closed in another context than its own, in which its sessions would stay the
    current ones for ever: they are passed over.
    """
    within = _here()
    return None if within is None else within.session


def entered(session: TeamSession) -> Entry:
    """Makes a session the current one in this context."""
    return _WITHIN.set(_Within(session, _here()))


def _here() -> _Within | None:
    within = _WITHIN.get()
    while within is not None and within.session.stray:
        within = within.before
    return within


def left(entry: Entry) -> bool:
    """Ends what `entered` began, where that was in this context: whether it was."""
    try:
        _WITHIN.reset(entry)
    except ValueError:
        return False
    return True
