"""`agentroute demo`: the core names no plug-in; whichever is installed registers its demo under an entry point."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from agentroute.errors import ConfigError

__all__ = ["GROUP", "run_demo"]

GROUP = "agentroute.demo"
"""Entry-point group. An entry is a function `demo(*, size, questions, seed, log)`: `size` is `"tiny"`, `"default"` or
`"full"`, `questions` how many to answer live, `seed` an integer, `log` a path for the live outcomes or `None`."""


def run_demo(**options: Any) -> None:
    """Runs the first installed demo by name.

    Raises:
        ConfigError: None is installed, or it does not load.
    """
    found = sorted(metadata.entry_points(group=GROUP), key=lambda entry: entry.name)
    if not found:
        raise ConfigError("no demo is installed: pip install 'agentroute-sdk[demo]'")
    try:
        demo = found[0].load()
    except ImportError as error:
        raise ConfigError(f"the demo {found[0].name!r} lacks a module ({error}): pip install 'agentroute-sdk[demo]'") from error
    demo(**options)
