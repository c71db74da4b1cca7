"""Team files: the roles and modes of a team, in TOML.

```toml
task = "answers customers' mails"           # what the team is for: helps to read the models' cards

[[roles]]
name = "planner"
description = "Says how a task is to be solved."
needs = ["tools"]                           # capabilities that its model must have
input_tokens = 300                          # of its prompt, what the others said not counted
output_tokens = 60

[[roles]]
name = "critic"
description = "Checks the answer."
optional = true                             # the team can do without it
allow = ["small", "large"]                  # the only models that it may have; model = "large" gives it always that one

[[modes]]
name = "chain"
growth = "previous"                         # each agent reads what the one before it said
```
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from agentroute.errors import ConfigError
from agentroute.teams import Mode, Role, Team

__all__ = ["read_team"]

_TOP = frozenset({"roles", "modes", "task"})
_EXTRAS = frozenset({"prompt", "max_tokens"})
"""What a role may also have: programs that run the team read it, and nothing here does."""
_SETS = frozenset({"needs", "allow"})
_WHOLE = frozenset({"rounds", "reviews"})
_NUMBERS = frozenset({"criticality", "input_tokens", "output_tokens", "calls", "extra_tokens"})

Part = TypeVar("Part", Role, Mode)


def read_team(path: Path) -> tuple[Team, str]:
    """The team of a file, and what it is for; the module's example shows the fields.

    Raises:
        ConfigError: It is not TOML, or a field is unknown or wrong; the message names file and role.
        OSError: It cannot be read.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a team file ({error})") from error
    if extra := sorted(found.keys() - _TOP):
        raise ConfigError(f"{path}: unknown field {extra[0]!r}; a team file has [[roles]], [[modes]] and task")
    if not isinstance(task := found.get("task", ""), str):
        raise ConfigError(f"{path}: task={task!r} is not a text")
    roles = [_part(Role, one, _where(path, "role", one, place)) for place, one in enumerate(_tables(found, path, "roles"), 1)]
    modes = [_part(Mode, one, _where(path, "mode", one, place)) for place, one in enumerate(_tables(found, path, "modes"), 1)]
    if not roles:
        raise ConfigError(f"{path}: a team file has one [[roles]] table for each role")
    try:
        return (Team(roles=tuple(roles), modes=tuple(modes)) if modes else Team(roles=tuple(roles))), task
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _tables(found: Mapping[str, Any], path: Path, name: str) -> list[dict[str, Any]]:
    tables = found.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise ConfigError(f"{path}: write [[{name}]] with two brackets, one table for each")
    return tables


def _where(path: Path, what: str, table: Mapping[str, Any], place: int) -> str:
    return f"{path}: {what} {table.get('name', place)!r}"


def _part(kind: type[Part], table: Mapping[str, Any], where: str) -> Part:
    known = [field.name for field in fields(kind)]
    extras: frozenset[str] = _EXTRAS if kind.__name__ == "Role" else frozenset()
    given = {name: value for name, value in table.items() if name not in extras}
    if unknown := sorted(given.keys() - set(known)):
        raise ConfigError(f"{where}: unknown field {unknown[0]!r}; it may have {', '.join(known)}")
    if "name" not in given:
        raise ConfigError(f"{where}: the field 'name' is missing")
    for name, value in given.items():
        if not _fits(name, value):
            raise ConfigError(f"{where}: {name}={value!r} is not {_wanted(name)}")
    try:
        return kind(**given)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _fits(name: str, value: object) -> bool:
    if name in _SETS:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if name == "optional":
        return isinstance(value, bool)
    if name in _WHOLE | _NUMBERS:
        return isinstance(value, int if name in _WHOLE else (int, float)) and not isinstance(value, bool)
    return isinstance(value, str)


def _wanted(name: str) -> str:
    if name in _SETS:
        return 'a list of texts, such as ["tools"]'
    if name == "optional":
        return "true or false"
    return "a whole number" if name in _WHOLE else "a number" if name in _NUMBERS else "a text"
