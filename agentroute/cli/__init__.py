"""The command line, `agentroute` (extra `cli`)."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: What follows the program's name; `None` = those of this process.

    Returns:
        The exit code: 0; 2 after an error, which is one line on stderr; 130 when interrupted.
    """
    try:
        import rich  # noqa: F401  # asked for here, so that a missing extra is told apart from a broken import below
        import typer  # noqa: F401
    except ImportError:
        sys.stderr.write("agentroute: the command line needs an optional dependency: pip install 'agentroute-sdk[cli]'\n")
        return 2
    from agentroute.cli._app import run

    # A terminal that cannot write a character gets another one, not an error.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    return run(sys.argv[1:] if arguments is None else list(arguments))
