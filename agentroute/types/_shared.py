"""What several values need."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from agentroute.errors import ConfigError

__all__ = ["names", "new_id"]


def new_id() -> str:
    """A fresh identifier for a decision or an outcome: 32 hexadecimal digits."""
    return uuid.uuid4().hex


def names(values: Iterable[str], what: str) -> frozenset[str]:
    """A set of names; one string, which is a set of letters by mistake, is refused."""
    if isinstance(values, str):
        msg = f"{what}={values!r}: give a set of names, not one string"
        raise ConfigError(msg)
    return frozenset(values)
