"""Files that the commands write: checked before long work, and written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from agentroute.errors import ConfigError

__all__ = ["check", "flows", "write"]


def check(place: Path, *read: Path | None) -> None:
    """Sees to it that a file can be written, before anything long begins.

    Args:
        place: Where it goes.
        read: What is read, and must not be written over.

    Raises:
        ConfigError: It cannot be written there.
    """
    if place.is_dir():
        raise ConfigError(f"{place} is a folder: name a file in it")
    if flows(place):
        return
    if not _target(place).parent.is_dir():
        raise ConfigError(f"{_target(place).parent} does not exist: make that folder first")
    if any(one is not None and one.resolve() == place.resolve() for one in read):
        raise ConfigError(f"{place} is what is read: write elsewhere")
    part = _part(_target(place))
    try:
        part.touch()
        part.unlink()
    except OSError as error:
        raise ConfigError(f"{place} cannot be written: {error.strerror or error}") from error


def write(place: Path, content: bytes) -> None:
    """Writes all or nothing: who looks at the file sees the old one or the new one.

    A link stays a link, and what it points to is written. Into a pipe or a device is written as it is.
    """
    if flows(place):
        place.write_bytes(content)
        return
    target = _target(place)
    part = _part(target)
    try:
        part.write_bytes(content)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def flows(place: Path) -> bool:
    """Whether it is a pipe or a device such as `/dev/stdout`, which is written through and never replaced."""
    return place.exists() and not (place.is_file() or place.is_dir())


def _target(place: Path) -> Path:
    return place.resolve() if place.is_symlink() else place


def _part(target: Path) -> Path:
    """A file beside it, so that it can take its place in one step."""
    return target.with_name(f".{target.name}.{os.getpid()}.part")
