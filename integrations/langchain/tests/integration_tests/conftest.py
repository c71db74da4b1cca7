"""A scripted OpenAI-compatible server on loopback, and LangChain's real OpenAI client for it."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from langchain_openai import ChatOpenAI

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "prompt_tokens_details": {"cached_tokens": 4}}


STREAM_FAULTS = [f"{kind} after {place}" for kind in ("cut", "error", "nonsense", "end") for place in ("role", "words")]


class Handler(BaseHTTPRequestHandler):
    """Chat completions: a tool call when there are tools and no result yet, JSON when a schema is asked for, else words.

    `server.failures` names statuses, and `server.faults` what goes wrong on the wire, by model.
    """

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked)
        status = self.server.failures.pop(asked["model"], None)
        if status:
            self.reply(status, {"error": {"message": f"status {status}", "type": "server_error", "code": None}})
            return
        fault = self.server.faults.get(asked["model"])
        message = self.message(asked)
        if fault == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault == "hang":
            self.server.released.wait(30)
        if fault == "empty":
            message["content"] = ""
        if fault == "broken call":
            message["tool_calls"][0]["function"]["arguments"] = '{"a": 1, "b'
        if asked.get("stream") and fault in STREAM_FAULTS:
            self.broken_stream(asked, message, fault)
            return
        if not asked.get("stream"):
            finish = "tool_calls" if "tool_calls" in message else "stop"
            choice = {"index": 0, "message": message, "finish_reason": finish}
            if asked.get("logprobs"):
                entry = {"token": "x", "bytes": None, "logprob": self.server.logprobs, "top_logprobs": []}
                choice["logprobs"] = {"content": [entry, entry], "refusal": None}
            body = {
                "id": "c1",
                "object": "chat.completion",
                "created": 1,
                "model": asked["model"],
                "choices": [choice],
                "usage": USAGE,
            }
            self.reply(200, body, short=fault == "short", malformed=fault == "malformed")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for delta, finish, usage in self.deltas(message):
            choices = [] if usage else [{"index": 0, "delta": delta, "finish_reason": finish}]
            chunk = {
                "id": "c1",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": asked["model"],
                "choices": choices,
                "usage": usage,
            }
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    @staticmethod
    def message(asked):
        last = asked["messages"][-1]
        if asked.get("tools") and last["role"] != "tool":
            function = {"name": asked["tools"][0]["function"]["name"], "arguments": '{"a": 1, "b": 2}'}
            calls = [{"id": f"call_{len(asked['messages'])}", "type": "function", "function": function}]
            return {"role": "assistant", "content": None, "tool_calls": calls}
        if asked.get("response_format", {}).get("type") == "json_schema":
            return {"role": "assistant", "content": '{"text": "as asked"}'}
        return {"role": "assistant", "content": f"{asked['model']} has read: {last['content']}"}

    @staticmethod
    def deltas(message):
        yield {"role": "assistant", "content": ""}, None, None
        for call in message.get("tool_calls", ()):
            function = call["function"]
            yield {"tool_calls": [{"index": 0, **call, "function": {"name": function["name"], "arguments": ""}}]}, None, None
            for piece in (function["arguments"][:5], function["arguments"][5:]):
                yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}, None, None
        for word in (message["content"] or "").split():
            yield {"content": f"{word} "}, None, None
        yield {}, "tool_calls" if "tool_calls" in message else "stop", None
        yield {}, None, USAGE

    def broken_stream(self, asked, message, fault):
        """A stream in real chunks, so that a client can tell an end from a cut; its fault comes after the role or two words."""
        self.protocol_version = "HTTP/1.1"
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        kind, _, place = fault.partition(" after ")
        for delta, _, _ in list(self.deltas(message))[: 1 if place == "role" else 3]:
            choices = [{"index": 0, "delta": delta, "finish_reason": None}]
            chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": asked["model"], "choices": choices}
            self.piece(f"data: {json.dumps(chunk)}\n\n")
        if kind == "error":
            self.piece('data: {"error": {"message": "overloaded", "type": "server_error", "code": "server_error"}}\n\n')
        if kind == "nonsense":
            self.piece('data: {"id": "c1", "choi\n\n')
        if kind == "end":
            self.piece("data: [DONE]\n\n")
        if kind != "cut":
            self.wfile.write(b"0\r\n\r\n")

    def piece(self, text):
        written = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(written), written))

    def reply(self, status, body, *, short=False, malformed=False):
        written = json.dumps(body).encode()
        if malformed:
            written = written[:-20]
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(written) + 20 * short))
        self.end_headers()
        self.wfile.write(written)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked, server.failures, server.faults, server.released = [], {}, {}, threading.Event()
        server.logprobs = 0.0
        thread = threading.Thread(target=server.serve_forever, args=(0.005,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
async def models(server):
    # Clients of our own, which do not read proxies from the environment, and which are closed.
    with httpx.Client(trust_env=False, verify=False) as client:
        async with httpx.AsyncClient(trust_env=False, verify=False) as aclient:
            yield {
                name: ChatOpenAI(
                    model=name,
                    base_url=f"http://127.0.0.1:{server.server_address[1]}/v1",
                    api_key="none",
                    max_retries=0,
                    stream_usage=True,
                    http_client=client,
                    http_async_client=aclient,
                )
                for name in ("small", "large")
            }
