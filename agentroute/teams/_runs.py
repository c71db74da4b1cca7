"""Runs of teams on disk: one JSON line for each, appended at once, read again whatever the last one looks like."""

from __future__ import annotations

import base64
import errno
import json
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from agentroute.errors import DataError, OutcomesSkippedWarning, StorageError
from agentroute.teams._values import RoleUsage, TeamRun
from agentroute.types import Fingerprint, Query, Usage

__all__ = ["RunLog", "run_from_json", "run_to_json"]


def run_to_json(run: TeamRun, *, store_prompts: bool = False) -> dict[str, Any]:
    """A run in plain JSON values.

    Args:
        run: The run.
        store_prompts: Whether the task's words are kept; its key, its labels and its vector always are.
    """
    query = run.query
    return {
        "id": run.id,
        "query": {
            "id": query.key(),
            "text": query.text if store_prompts else None,
            "task": query.task,
            "tags": dict(query.tags),
            **_vector(query),
        },
        "models": dict(run.models),
        "mode": run.mode,
        "success": run.success,
        "cost": run.cost,
        "booked": run.booked,
        "latency": run.latency,
        "roles": {name: {**asdict(part), "models": list(part.models)} for name, part in run.roles.items()},
        "propensity": run.propensity,
        "allocation_id": run.allocation_id,
        "at": None if run.at is None else run.at.isoformat(),
        "metadata": dict(run.metadata),
    }


def run_from_json(row: Mapping[str, Any]) -> TeamRun:
    """The run that `run_to_json` wrote.

    Raises:
        DataError: Something is missing or cannot be right.
    """
    try:
        query, roles = row["query"], row.get("roles") or {}
        _names([row["id"], row.get("mode", "chain"), *dict(row["models"]).values()])
        text = query.get("text")
        return TeamRun(
            id=row["id"],
            query=Query(
                text=text or "",
                id=query.get("id"),
                task=query.get("task"),
                tags=query.get("tags") or {},
                withheld=text is None,
                **_embedded(query),
            ),
            models=dict(row["models"]),
            mode=row.get("mode", "chain"),
            success=row.get("success"),
            cost=row.get("cost"),
            booked=row.get("booked"),
            latency=row.get("latency"),
            roles={name: _part(part) for name, part in roles.items()},
            propensity=row.get("propensity"),
            allocation_id=row.get("allocation_id"),
            at=None if row.get("at") is None else datetime.fromisoformat(row["at"]),
            metadata=dict(row.get("metadata") or {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        msg = f"this is no run of a team ({type(error).__name__}: {error}): write runs with RunLog(path).append(run)"
        raise DataError(msg) from error


def _vector(query: Query) -> dict[str, Any]:
    """The task's vector, which tells tasks apart where their words are not kept: base64 of little-endian float32."""
    if query.embedding is None:
        return {}
    vector = base64.b64encode(np.asarray(query.embedding, "<f4").tobytes()).decode()
    return {"embedding": vector, "fingerprint": None if query.fingerprint is None else asdict(query.fingerprint)}


def _embedded(query: Mapping[str, Any]) -> dict[str, Any]:
    coded, fingerprint = query.get("embedding"), query.get("fingerprint")
    if coded is None:
        return {}
    vector = np.frombuffer(base64.b64decode(coded), "<f4").astype(np.float32)
    if not np.isfinite(vector).all():
        msg = "the task's vector is not finite"
        raise ValueError(msg)
    return {"embedding": vector, "fingerprint": None if fingerprint is None else Fingerprint(**fingerprint)}


def _part(part: Mapping[str, Any]) -> RoleUsage:
    given = dict(part)
    usage = given.pop("usage", None)
    models = given.pop("models", None) or ()
    _names(models)
    return RoleUsage(**given, usage=None if usage is None else Usage(**usage), models=tuple(models))


def _plain(value: Any) -> Any:
    """The plain number of NumPy's and other libraries' scalars.

    Raises:
        TypeError: It is none.
    """
    if hasattr(value, "item"):
        return value.item()
    msg = f"a {type(value).__name__} is none"
    raise TypeError(msg)


def _odd(run: TeamRun) -> str:
    """The metadata that cannot be written, by name; where all can, what else a run holds."""
    for name, value in run.metadata.items():
        try:
            json.dumps({name: value}, allow_nan=False, default=_plain)
        except (TypeError, ValueError):
            return f"the metadata {name!r}"
    return "the fields"


def _names(values: Iterable[Any]) -> None:
    """Refuses what is no text where a name belongs.

    Raises:
        TypeError: One is no text.
    """
    for value in values:
        if not isinstance(value, str):
            msg = f"{value!r} is no name"
            raise TypeError(msg)


class RunLog:
    """A file of runs. What `append` has returned from is on the disk.

    Several threads may append, and several processes: each run is one write to the end of the file. A line that a crash has cut
    off is left out with a warning. A run that is appended again, such as when its success is known at last, replaces the
    earlier one: `log.append(dataclasses.replace(run, success=1.0))`.

    Args:
        path: The file; it is made when the first run comes.
        store_prompts: Whether the tasks' words are kept.

    ```python
    log = RunLog("runs.jsonl")
    allocator = RoleAllocator(team, cards, log=log)
    ```
    """

    def __init__(self, path: str | Path, *, store_prompts: bool = False) -> None:
        self.path = Path(path)
        self.store_prompts = store_prompts
        self._lock = threading.Lock()

    def append(self, run: TeamRun) -> None:
        """Adds a run.

        Raises:
            StorageError: The file cannot be written.
            DataError: The run's metadata are no plain JSON values.
        """
        try:
            line = json.dumps(run_to_json(run, store_prompts=self.store_prompts), allow_nan=False, default=_plain)
        except (TypeError, ValueError) as error:
            msg = f"{_odd(run)} of a run must be plain JSON values: {error}"
            raise DataError(msg) from error
        data = (line + "\n").encode()
        try:
            with self._lock:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                try:
                    # One write: lines of several processes never mix. A cut-off line before it ends here.
                    whole = data if _ends_well(self.path) else b"\n" + data
                    if os.write(descriptor, whole) < len(whole):
                        raise OSError(errno.ENOSPC, "only a part of the line could be written")
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        except OSError as error:
            msg = f"the log of runs {self.path} cannot be written: {error}"
            raise StorageError(msg) from error

    def extend(self, runs: Iterable[TeamRun]) -> None:
        """Adds several runs."""
        for run in runs:
            self.append(run)

    def __iter__(self) -> Iterator[TeamRun]:
        """All runs, each once, in the order in which they first came; recorded again, the last word on it counts."""
        latest, skipped = self._read()
        if skipped:
            told = f"{self.path}: {skipped} line{'s' if skipped > 1 else ''} hold no run and were left out"
            warnings.warn(told, OutcomesSkippedWarning, stacklevel=2)
        yield from latest.values()

    def __len__(self) -> int:
        """Number of runs; without a word on lines that hold none, as `list` asks for it, too. The file is read for it."""
        return len(self._read()[0])

    def _read(self) -> tuple[dict[str, TeamRun], int]:
        """The last word on each run, by its id, and how many lines hold none."""
        latest: dict[str, TeamRun] = {}
        skipped = 0
        if not self.path.exists():
            return latest, skipped
        with self.path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if not line.strip():
                    continue
                try:
                    run = run_from_json(json.loads(line))
                except (ValueError, DataError, RecursionError):
                    skipped += 1
                    continue
                latest[run.id] = run
        return latest, skipped

    def __reduce__(self) -> tuple[Callable[..., RunLog], tuple[Path]]:
        """A copy, in another process too, is of the same file."""
        return partial(type(self), store_prompts=self.store_prompts), (self.path.absolute(),)

    def __repr__(self) -> str:
        """The file."""
        return f"RunLog({str(self.path)!r})"


def _ends_well(path: Path) -> bool:
    """Whether the file is empty or ends with a whole line."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if not size:
            return True
        file.seek(size - 1)
        return file.read(1) == b"\n"
