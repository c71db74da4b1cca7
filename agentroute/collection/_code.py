"""Runs code that a model wrote, in a process of its own with limits on time, memory and files."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path

from agentroute.errors import ConfigError

__all__ = ["code_of", "passes"]

_FENCED = re.compile(r"```[ \t]*([\w.+-]*)[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
_PYTHON = re.compile(r"(?:python|py)[\d.]*", re.IGNORECASE)

# The child limits itself before it runs the answer: processor time, memory, no new files of any size, few open files.
# What the answer prints goes nowhere; the pipe that was its standard output carries the token alone.
_CHILD = """
import os, resource, runpy
channel = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, {seconds}))
resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
runpy.run_path("answer.py", run_name="__main__")
os.write(channel, b"{token}")
"""


def code_of(answer: str) -> str:
    """The answer's first block that is marked as Python, else its first unmarked one, else all of it."""
    text = answer.replace("\r\n", "\n")
    blocks = _FENCED.findall(text)
    marked = [code for tag, code in blocks if _PYTHON.fullmatch(tag)]
    unmarked = [code for tag, code in blocks if not tag]
    return textwrap.dedent([*marked, *unmarked, text][0])


def passes(code: str, tests: Sequence[str], timeout: float) -> bool:
    """Whether the code and then the tests run to their end, with status 0 and in time, in a child with an empty environment.

    After the tests the child sends a token that is new for each run: code that exits early with status 0, or prints what it
    thinks a success looks like, does not pass. Processes that the code leaves behind are killed. These limits stop accidents
    and shortcuts, not an attacker: run code of models that you do not trust inside a container.

    Raises:
        ConfigError: The system is not POSIX, which the limits need.
    """
    if os.name != "posix":
        raise ConfigError("the 'python' verifier limits the code that it runs by POSIX means: collect on Linux or macOS")
    token = secrets.token_hex(16)
    child_code = _CHILD.format(seconds=int(timeout) + 1, token=token)
    # The code may leave a folder that it has locked: not our trouble.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # A file of its own, so that `from __future__` may stand in its first line.
        Path(folder, "answer.py").write_bytes("\n".join([code, *tests]).encode("utf-8", "replace"))
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={},
            start_new_session=True,
        )
        with child:
            try:
                status, sent = _result(child, child_code, timeout)
            finally:
                # Its whole group: a process that it forked goes with it.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)
    return status == 0 and sent == token.encode()


def _result(child: subprocess.Popen[bytes], code: str, timeout: float) -> tuple[int | None, bytes]:
    """The child's status, `None` when it did not end in time, and what it sent."""
    assert child.stdin is not None  # noqa: S101  # for the type checker: both are pipes
    assert child.stdout is not None  # noqa: S101  # likewise
    with contextlib.suppress(BrokenPipeError):  # it has died already
        child.stdin.write(code.encode())
        child.stdin.close()
    try:
        status = child.wait(timeout)
    except subprocess.TimeoutExpired:
        return None, b""
    # A process that was left behind may hold the pipe open, and may have filled it.
    os.set_blocking(child.stdout.fileno(), False)
    try:
        return status, os.read(child.stdout.fileno(), 1024)
    except BlockingIOError:
        return status, b""
