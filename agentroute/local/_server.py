"""One local model behind an OpenAI-compatible address on loopback, in a process of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import secrets
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Self

from agentroute.errors import AgentRouteError, MissingExtraError
from agentroute.local._resolve import Progress, resolve

__all__ = ["LocalServer", "LocalServerError"]

_STOP_SECONDS = 5.0


class LocalServerError(AgentRouteError):
    """The process of a local model did not start, or has ended."""


class LocalServer:
    """Serves a GGUF model over HTTP with the OpenAI chat interface, in a subprocess that ends with this process.

    The process belongs to one model, so that its processor time is that model's. It listens on 127.0.0.1 only, on a free
    port, and asks for a random key. One request is answered at a time; others wait.

    Args:
        model: An id of the shipped manifest, fetched when absent; or the path of any GGUF file with a chat template.
        threads: Threads that compute. One is steadiest: on a busy machine, more wait for each other.
        context: Tokens of prompt and answer that it holds.
        progress: Told how a download goes.

    ```python
    with LocalServer("smollm2-135m") as server:
        model = ChatOpenAI(base_url=server.base_url, api_key=server.api_key, model=server.model)
    ```
    """

    def __init__(self, model: str | Path, *, threads: int = 1, context: int = 2048, progress: Progress | None = None) -> None:
        given = Path(model)
        self._file = given if isinstance(model, Path) or given.suffix == ".gguf" else None
        self._progress = progress
        self.model = str(model) if self._file is None else given.stem
        self.threads = threads
        self.context = context
        self.api_key = secrets.token_urlsafe(24)
        self.base_url = ""
        self._process: subprocess.Popen[str] | None = None
        self._errors: Any = None
        self._lock = threading.Lock()

    def start(self) -> Self:
        """Fetches the file when it is absent, starts the process and waits until it listens.

        Raises:
            MissingExtraError: `xllamacpp` is not installed.
            UnknownModelError: The manifest does not hold the model.
            ModelUnavailableError: The file cannot be had.
            LocalServerError: The process ended before it listened; the message holds its last words.
        """
        if self._process is not None:
            return self
        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingExtraError("LocalServer", "local")
        path = self._file or resolve(self.model, progress=self._progress)
        if not path.is_file():
            raise LocalServerError(f"no model file {path}")
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  # closed by close()
        self._process = subprocess.Popen(
            # By path and with -P: the child needs nothing of agentroute, and must not import from the working directory.
            [sys.executable, "-P", str(Path(__file__).with_name("_child.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for the parent, which then closes the pipe
        )
        options = {
            "path": str(path),
            "model": self.model,
            "threads": self.threads,
            "context": self.context,
            "api_key": self.api_key,  # by pipe: a command line can be read by every user of the machine
        }
        try:
            self.base_url = f"{self._ask(json.dumps(options))['address']}/v1"
        except BaseException:
            self.close()
            raise
        return self

    def cpu_seconds(self) -> float:
        """Processor seconds that the model's process has used so far, loading included.

        Raises:
            LocalServerError: The process has ended.
        """
        return float(self._ask("cpu")["cpu_seconds"])

    def _ask(self, line: str) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            msg = f"the server of {self.model!r} is not running: call start(), or use it in a with statement"
            raise LocalServerError(msg)
        with self._lock:
            try:
                process.stdin.write(line + "\n")
                process.stdin.flush()
                reply = process.stdout.readline()
            except (OSError, ValueError) as error:
                raise LocalServerError(self._last_words()) from error
        if not reply:
            raise LocalServerError(self._last_words())
        found: dict[str, Any] = json.loads(reply)
        return found

    def _last_words(self) -> str:
        lines: list[str] = []
        if self._process is not None and self._errors is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
            self._errors.seek(0)
            lines = [line for line in self._errors.read().splitlines() if line.strip()]
        return f"the server of {self.model!r} has ended ({lines[-1].strip() if lines else 'without a word'})"

    def close(self) -> None:
        """Ends the process and waits for it; further calls do nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        self._errors.close()
        self._errors = None
        self.base_url = ""

    def __enter__(self) -> Self:
        """Starts it."""
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        """Ends it."""
        self.close()

    def __repr__(self) -> str:
        """Model and address, never the key."""
        return f"LocalServer({self.model!r}, base_url={self.base_url or None!r})"
