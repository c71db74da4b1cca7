"""Misspelt arguments, which LangChain's models drop without a word."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from difflib import get_close_matches

from agentroute.errors import ConfigError

__all__ = ["check_names"]


def check_names(given: Iterable[str], known: Container[str], meant: Mapping[str, str], what: str) -> None:
    """Refuses a misspelt argument. Other unknown ones pass: LangChain's tools hand `temperature` and the like to any model.

    Args:
        given: Names of the arguments.
        known: Those that there are.
        meant: Names that a misspelt one may be close to, and what each is called.
        what: Whose arguments they are.

    Raises:
        ConfigError: One is unknown and close to a name in `meant`.
    """
    for name in given:
        close = [] if name in known else get_close_matches(name, meant, n=1, cutoff=0.75)
        if close:
            raise ConfigError(f"{what} has no argument {name!r}: did you mean {meant[close[0]]!r}?")
