"""Tasks: questions with a check of their answers, read from a file of JSON lines."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentroute.collection._verifiers import check_verifier
from agentroute.errors import ConfigError
from agentroute.types import Query

__all__ = ["Task", "read_tasks"]

_FIELDS = frozenset({"id", "prompt", "verifier", "task", "max_tokens"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One question and how to tell whether an answer is right.

    Attributes:
        id: The key that joins the outcomes of several models.
        prompt: What the models are asked, as one user message.
        verifier: How an answer is scored; see `verify`.
        task: The kind of task, a routing feature.
        max_tokens: Most tokens of an answer.
    """

    id: str
    prompt: str
    verifier: Mapping[str, Any]
    task: str | None = None
    max_tokens: int = 256

    def __post_init__(self) -> None:
        """Checks types and ranges, since most tasks come from files.

        Raises:
            ConfigError: A field is wrong.
        """
        given: dict[str, Any] = {name: getattr(self, name) for name in ("id", "prompt", "task", "max_tokens")}
        for name in ("id", "prompt"):
            if not isinstance(given[name], str) or not given[name]:
                raise ConfigError(f"{name} must be a non-empty string, not {given[name]!r}")
        if not isinstance(given["task"], str | None):
            raise ConfigError(f"task must be a string, not {given['task']!r}")
        if type(given["max_tokens"]) is not int or given["max_tokens"] < 1:
            raise ConfigError(f"max_tokens must be a positive integer, not {given['max_tokens']!r}")
        check_verifier(self.verifier)

    @property
    def query(self) -> Query:
        """The task as a router sees it."""
        return Query(text=self.prompt, id=self.id, task=self.task, max_output_tokens=self.max_tokens)


def read_tasks(path: Path | str, /) -> list[Task]:
    """Reads tasks from JSON lines, plain or gzipped (`.gz`): one object with `id`, `prompt`, `verifier` … a line.

    Raises:
        ConfigError: A line is not a task, or two share an id; the message names file and line.
        OSError: The file cannot be read.
    """
    path = Path(path)
    tasks: dict[str, Task] = {}
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    task = _task(line, f"{path}:{number}")
                    if task.id in tasks:
                        raise ConfigError(f"{path}:{number}: a second task is called {task.id!r}")
                    tasks[task.id] = task
        except (UnicodeDecodeError, EOFError, zlib.error) as error:
            raise ConfigError(f"{path}: not a file of JSON lines ({error})") from error
    if not tasks:
        raise ConfigError(f"{path} holds no task")
    return list(tasks.values())


def _task(line: str, where: str) -> Task:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: a task is a JSON object, not {type(found).__name__}")
    if unknown := sorted(found.keys() - _FIELDS):
        raise ConfigError(f"{where}: unknown field {unknown[0]!r}; a task has {', '.join(sorted(_FIELDS))}")
    if missing := sorted({"id", "prompt", "verifier"} - found.keys()):
        raise ConfigError(f"{where}: the field {missing[0]!r} is missing")
    try:
        return Task(**found)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
