"""A scripted model server: what a real client of a real provider is tested against, without a network and without a model."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self, TypeAlias

__all__ = ["ScriptedServer"]

Asked: TypeAlias = dict[str, Any]
Answers: TypeAlias = Callable[[Asked], "str | Mapping[str, Any]"]

USAGE: Final = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "prompt_tokens_details": {"cached_tokens": 4}}
_POLL_SECONDS = 0.005
_HANG_SECONDS = 30.0


def _echo(asked: Asked) -> str:
    return f"{asked['model']} has read: {asked['messages'][-1]['content']}"


class ScriptedServer(ThreadingHTTPServer):
    """An OpenAI-compatible chat server on loopback, whose answers and faults are scripted.

    Real clients, `ChatOpenAI`, `OpenAILike` and the like, talk to it over real connections, so that a test sees what is truly
    sent, and what the client makes of an answer. It listens on 127.0.0.1 only, on a free port, within a `with` block. One
    server plays any number of models.

    Every answer tells 10 tokens of prompt (4 of them cached) and 5 of answer; a stream only when asked to, by
    `stream_options={"include_usage": True}`, as at OpenAI.

    Faults, by model, until they are taken away:

    * `"drop"`: the connection ends without a word. `"hang"`: nothing comes until `released` is set.
    * `"short"`, `"malformed"`: a body that breaks off, with its full length told or not.
    * `"empty"`, `"broken call"`: an answer without words; a tool call whose arguments break off.
    * `"cut after role"`, `"error after role"`, `"nonsense after role"`, `"end after role"`, and the same `after words`: what
      happens to a stream after its first chunk, or after two words.

    Args:
        answers: From the body of a request to the answer: a text, or an OpenAI message with `content` and `tool_calls`. `None` =
            the model says what it has read last.

    Attributes:
        asked: The body of each request, in order.
        failures: Model → the status with which its next request fails.
        faults: Model → what goes wrong on the wire.
        released: Lets requests go on that hang.
        logprob: Of each token, where log-probabilities are asked for.

    >>> with ScriptedServer() as server:
    ...     server.base_url.startswith("http://127.0.0.1:")
    True
    """

    daemon_threads = True

    def __init__(self, answers: Answers | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: Answers = _echo if answers is None else answers
        self.asked: list[Asked] = []
        self.failures: dict[str, int] = {}
        self.faults: dict[str, str] = {}
        self.released = threading.Event()
        self.logprob = 0.0
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """What a client takes for the address of its provider."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> Self:
        """Serves."""
        self._thread = threading.Thread(target=self.serve_forever, args=(_POLL_SECONDS,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends all requests and stops."""
        self.released.set()
        if self._thread is not None:
            self.shutdown()
            self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up before the end has its reasons; anything else is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def message(self, asked: Asked) -> dict[str, Any]:
        """The scripted answer to a request, as a message."""
        answer = self.answers(asked)
        said = {"content": answer} if isinstance(answer, str) else dict(answer)
        return {"role": "assistant", "content": None, **said}


class _Handler(BaseHTTPRequestHandler):
    """One request for a chat completion."""

    server: ScriptedServer

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked)
        status = self.server.failures.pop(asked["model"], None)
        if status is not None:
            self._reply(status, {"error": {"message": f"status {status}", "type": "server_error", "code": None}})
            return
        fault = self.server.faults.get(asked["model"], "")
        message = self.server.message(asked)
        if fault == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault == "hang":
            self.server.released.wait(_HANG_SECONDS)
        if fault == "empty":
            message["content"] = ""
        if fault == "broken call":
            message["tool_calls"][0]["function"]["arguments"] = '{"a": 1, "b'
        if not asked.get("stream"):
            self._whole(asked, message, fault)
        elif " after " in fault:
            self._broken_stream(asked, message, fault)
        else:
            self._stream(asked, message)

    def _whole(self, asked: Asked, message: dict[str, Any], fault: str) -> None:
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": _finish(message)}
        if asked.get("logprobs"):
            entry: dict[str, Any] = {"token": "x", "bytes": None, "logprob": self.server.logprob, "top_logprobs": []}
            choice["logprobs"] = {"content": [entry, entry], "refusal": None}
        body = {**_head(asked, "chat.completion"), "choices": [choice], "usage": USAGE}
        self._reply(200, body, short=fault == "short", malformed=fault == "malformed")

    def _stream(self, asked: Asked, message: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        head = _head(asked, "chat.completion.chunk")
        for delta, finish in _deltas(message):
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            self._event({**head, "choices": [choice], "usage": None})
        if (asked.get("stream_options") or {}).get("include_usage"):
            self._event({**head, "choices": [], "usage": USAGE})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, chunk: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())

    def _broken_stream(self, asked: Asked, message: dict[str, Any], fault: str) -> None:
        """A stream in real chunks, so that a client can tell an end from a cut; its fault comes after the role or two words."""
        self.protocol_version = "HTTP/1.1"
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        kind, _, place = fault.partition(" after ")
        for delta, _ in list(_deltas(message))[: 1 if place == "role" else 3]:
            choices = [{"index": 0, "delta": delta, "finish_reason": None}]
            self._piece(f"data: {json.dumps({**_head(asked, 'chat.completion.chunk'), 'choices': choices})}\n\n")
        if kind == "error":
            self._piece('data: {"error": {"message": "overloaded", "type": "server_error", "code": "server_error"}}\n\n')
        if kind == "nonsense":
            self._piece('data: {"id": "c1", "choi\n\n')
        if kind == "end":
            self._piece("data: [DONE]\n\n")
        if kind != "cut":
            self.wfile.write(b"0\r\n\r\n")

    def _piece(self, text: str) -> None:
        written = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(written), written))

    def _reply(self, status: int, body: dict[str, Any], *, short: bool = False, malformed: bool = False) -> None:
        written = json.dumps(body).encode()
        if malformed:
            written = written[:-20]
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(written) + 20 * short))
        self.end_headers()
        self.wfile.write(written)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def _head(asked: Asked, kind: str) -> dict[str, Any]:
    return {"id": "c1", "object": kind, "created": 1, "model": asked["model"]}


def _finish(message: Mapping[str, Any]) -> str:
    return "tool_calls" if message.get("tool_calls") else "stop"


def _deltas(message: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str | None]]:
    """A message in pieces: its role, its calls with the arguments in two, its words, and why it ends."""
    yield {"role": "assistant", "content": ""}, None
    for index, call in enumerate(message.get("tool_calls") or ()):
        function = call["function"]
        yield {"tool_calls": [{"index": index, **call, "function": {"name": function["name"], "arguments": ""}}]}, None
        for piece in (function["arguments"][:5], function["arguments"][5:]):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}, None
    for word in re.findall(r"\s*\S+\s*", message["content"] or ""):
        yield {"content": word}, None
    yield {}, _finish(message)
