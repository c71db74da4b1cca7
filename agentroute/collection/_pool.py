"""Pool files: the models of a pool, what they cost and where they answer, in TOML.

```toml
[[models]]
id = "small"                                # the name in logs and decisions
base_url = "https://api.example.com/v1"     # an OpenAI-compatible address ...
model = "small-2026-10"                     # ... the model's name there, if it is not the id ...
api_key_env = "EXAMPLE_API_KEY"             # ... and the environment variable that holds the key
options = { reasoning_effort = "low" }      # further fields of each request
price = { input = 0.15, output = 0.60 }     # USD per million tokens
context_window = 128000
capabilities = ["tools", "structured_output"]

[[models]]
id = "smollm2-135m"
local = "smollm2-135m"                      # a model of agentroute's manifest, served on this machine, or a .gguf file
```
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from agentroute.errors import ConfigError
from agentroute.pool import ModelPool
from agentroute.types import ModelCard, Price

__all__ = ["PoolEntry", "pool_of", "read_pool"]

_CARD = frozenset(one.name for one in fields(ModelCard))
_PLACE = frozenset({"base_url", "model", "api_key_env", "options", "local"})
_TYPES: dict[str, tuple[type, ...]] = {
    "id": (str,),
    "price": (dict,),
    "context_window": (int,),
    "max_output_tokens": (int,),
    "capabilities": (list,),
    "provider": (str,),
    "tags": (dict,),
    "description": (str,),
    "scores": (dict,),
    "base_url": (str,),
    "model": (str,),
    "api_key_env": (str,),
    "options": (dict,),
    "local": (str,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEntry:
    """One model of a pool file.

    Attributes:
        card: What is known of it.
        base_url: Its OpenAI-compatible address; `None` = not given.
        model: The name by which that address knows it.
        api_key_env: The environment variable that holds the key.
        options: Further fields of each request.
        local: The local model that plays it; `None` = it is remote.
    """

    card: ModelCard
    base_url: str | None = None
    model: str = ""
    api_key_env: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    local: str | None = None

    def api_key(self) -> str | None:
        """The key from the environment; `None` when no variable is named.

        Raises:
            ConfigError: The variable is not set.
        """
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env)
        if not key:
            raise ConfigError(f"model {self.card.id!r}: the environment variable {self.api_key_env} is not set")
        return key


def read_pool(path: Path | str, /) -> tuple[PoolEntry, ...]:
    """Reads a pool file; the module's example shows all fields.

    Raises:
        ConfigError: It is not TOML, or a field is unknown or wrong; the message names file and model.
        DuplicateModelError: Two models share an id.
        OSError: It cannot be read.
    """
    path = Path(path)
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a pool file ({error})") from error
    models = found.get("models")
    if not isinstance(models, list) or not models or not all(isinstance(one, dict) for one in models):
        raise ConfigError(f"{path}: a pool file has one [[models]] table for each model")
    if extra := sorted(found.keys() - {"models"}):
        raise ConfigError(f"{path}: unknown table {extra[0]!r}; a pool file has [[models]] only")
    entries = tuple(_entry(one, f"{path}: model {one.get('id', number)!r}") for number, one in enumerate(models, 1))
    pool_of(entries)  # refuses two models with one id
    return entries


def pool_of(entries: tuple[PoolEntry, ...], /) -> ModelPool:
    """The pool of the entries' cards, in order."""
    return ModelPool(entry.card for entry in entries)


def _entry(table: Mapping[str, Any], where: str) -> PoolEntry:
    if unknown := sorted(table.keys() - _CARD - _PLACE):
        raise ConfigError(f"{where}: unknown field {unknown[0]!r}; it may have {', '.join(_TYPES)}")
    if "id" not in table:
        raise ConfigError(f"{where}: the field 'id' is missing")
    for name, value in table.items():
        if not isinstance(value, _TYPES[name]) or isinstance(value, bool):
            raise ConfigError(f"{where}: {name}={value!r} is not a {_TYPES[name][0].__name__}")
    if "local" in table and "base_url" in table:
        raise ConfigError(f"{where}: give local or base_url, not both")
    known = {name: value for name, value in table.items() if name in _CARD}
    try:
        if "price" in known:
            known["price"] = Price(**known["price"])
        card = ModelCard(**known)
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from error
    place = {name: value for name, value in table.items() if name in _PLACE}
    return PoolEntry(card=card, **{"model": card.id, **place})
