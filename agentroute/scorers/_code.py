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
import threading
from collections.abc import Sequence
from pathlib import Path

from agentroute.errors import ConfigError
from agentroute.scorers._texts import blocks

__all__ = ["Stopper", "code_of", "passes"]

_TAG = re.compile(r"[\w.+-]*")
_PYTHON = re.compile(r"(?:python|py)[\d.]*", re.IGNORECASE)

_MEMORY = 1 << 29
_PROCESSES = 256  # that the code may add to those of its user: threads are counted, and others of the user come and go
_PATIENCE = 5.0  # seconds in which the watcher ends what it watches, or is killed itself

# On Linux the child splits in two before it does anything else. One half watches: it is made the parent of every process below
# it that loses its own (PR_SET_CHILD_SUBREAPER, man 2 prctl), so that none can leave it, not even into a session of its own. When
# the other half has ended, or when SIGTERM comes (from us; from the system, when we die), it kills that half's group, and then
# its own children until it has none. Nothing is killed that could be another process by now: a child keeps its number until
# it is waited for. Where the system has no such thing, the child does not split, and its group is all that can be killed.
_SPLIT = """
import os, signal, sys, time
def children():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/" + pid + "/stat", "rb") as file:
                if int(file.read().rpartition(b")")[2].split()[1]) == os.getpid():
                    yield int(pid)
        except OSError:
            pass
def kill(send, pid):
    try:
        send(pid, signal.SIGKILL)
    except OSError:
        pass
def kill_group(leader):
    kill(os.killpg, leader)
    kill(os.kill, leader)
def watch(runner):
    signal.signal(signal.SIGTERM, lambda *_: kill_group(runner))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)).si_pid != runner:
        os.waitpid(ended.si_pid, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    kill_group(runner)
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            os._exit(ended.si_code != os.CLD_EXITED or ended.si_status != 0)
        for pid in children():
            kill(os.kill, pid)
        time.sleep(0.001)
def split(parent):
    try:
        import ctypes
        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return
    death, reaper = 1, 36
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    prctl(death, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    if prctl(reaper, 1, 0, 0, 0) == 0:
        runner = os.fork()
        if runner:
            watch(runner)
        os.setsid()
        prctl(death, signal.SIGKILL, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
if os.path.isdir("/proc/self/task"):
    split({parent})
"""
# The child limits itself before it runs the answer: processor time, memory, no new files of any size, few open files, few
# processes (a limit that counts all of its user's, and that root is free of).
# What the answer prints goes nowhere; the pipe that was its standard output carries the token alone.
# The tests are compiled by themselves, and before the answer runs: behind its last line, one that ends in a backslash or opens a
# string would swallow them. They run in the namespace of the answer itself, of which its functions may change the globals.
_CHILD = (
    _SPLIT
    + """
import resource, types
tests = compile({tests!r}, "tests.py", "exec")
with open("answer.py", "rb") as file:
    answer = compile(file.read(), "answer.py", "exec")
sys.argv[:] = ["answer.py"]
main = sys.modules["__main__"] = types.ModuleType("__main__")
main.__file__ = "answer.py"
def tasks():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat("/proc/" + pid).st_uid == os.getuid():
                yield len(os.listdir("/proc/" + pid + "/task"))
        except OSError:
            pass
channel = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
if os.path.isdir("/proc/self/task"):
    most = sum(tasks()) + {processes}
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, {seconds}))
resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
exec(answer, main.__dict__)
exec(tests, main.__dict__)
os.write(channel, b"{token}")
"""
)


class Stopper:
    """Ends a run of code from another thread, also one that has not begun."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def began(self, child: subprocess.Popen[bytes]) -> None:
        """Takes the child that is to be stopped."""
        with self._lock:
            self._child = child
            if self._stopped:
                child.terminate()

    def stop(self) -> None:
        """Has the child end; one that has ended is left alone."""
        with self._lock:
            self._stopped = True
            if self._child is not None:
                self._child.terminate()


def code_of(answer: str) -> str:
    """The answer's first block that is marked as Python, else its first unmarked one, else all of it."""
    text = answer.replace("\r\n", "\n")
    tagged = [(match[0] if (match := _TAG.match(one.label)) else "", one.body) for one in blocks(text)]
    marked = [code for tag, code in tagged if _PYTHON.fullmatch(tag)]
    unmarked = [code for tag, code in tagged if not tag]
    return textwrap.dedent([*marked, *unmarked, text][0])


def passes(code: str, tests: Sequence[str], timeout: float, *, memory: int = _MEMORY, stopper: Stopper | None = None) -> bool:
    """Whether the code and then the tests run to their end, with status 0 and in time, in a child with an empty environment.

    After the tests the child sends a token that is new for each run: code that exits early with status 0, or prints what it
    thinks a success looks like, does not pass. Processes that the code leaves behind are killed: on Linux all of them, also those
    in sessions of their own, and also when the caller's process dies first; elsewhere those of its process group. These limits
    stop accidents and shortcuts, not an attacker, who can kill the process that watches: run code of models that you do not trust
    inside a container.

    Args:
        code: The answer's code.
        tests: Statements that run after it, in its namespace; together they are one text, apart from the code.
        timeout: Seconds in all.
        memory: Bytes of address space; systems other than Linux do not keep to it.
        stopper: Can end the run before its time is up: it then does not pass.

    Raises:
        ConfigError: The system is not POSIX, which the limits need.
    """
    if os.name != "posix":
        raise ConfigError("code of an answer is run within limits that only POSIX systems have: run it on Linux or macOS")
    token = secrets.token_hex(16)
    child_code = _CHILD.format(
        tests="\n".join(tests).encode("utf-8", "replace"),
        seconds=int(timeout) + 1,
        memory=int(memory),
        processes=_PROCESSES,
        token=token,
        parent=os.getpid(),
    )
    # The code may leave a folder that it has locked: not our trouble.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # A file of its own, so that `from __future__` may stand in its first line.
        Path(folder, "answer.py").write_bytes(code.encode("utf-8", "replace"))
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
                if stopper is not None:
                    stopper.began(child)
                status, sent = _result(child, child_code, timeout)
            finally:
                _end(child)
    return status == 0 and sent == token.encode()


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kills the child and what is left of it."""
    try:
        if child.poll() is None and sys.platform == "linux":
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_PATIENCE)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)


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
