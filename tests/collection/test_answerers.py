"""The chat endpoint against a scripted server on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from agentroute.collection import Answerer, ChatEndpoint, EndpointError
from agentroute.errors import ConfigError
from agentroute.scorers import Asker
from agentroute.types import Price, TokenLogprob

REPLY = {
    "choices": [
        {
            "message": {"role": "assistant", "content": "Lima"},
            "finish_reason": "stop",
            "logprobs": {"content": [{"token": "L", "logprob": -0.2}, {"token": "ima", "logprob": -0.4}]},
        }
    ],
    "usage": {"prompt_tokens": 12, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 5}},
}


@pytest.fixture
def endpoint():
    """A server that answers with `server.reply` and remembers what it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["Content-Length"])
            self.server.sent.append((self.path, dict(self.headers), json.loads(self.rfile.read(length))))
            status, reply = self.server.reply
            body = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.sent, server.reply = [], (200, REPLY)
        server.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_call_sends_what_it_should_and_reads_all_of_the_answer(endpoint):
    spent = iter([1.0, 1.5])
    model = ChatEndpoint(endpoint.url, "m", api_key="key", options={"logprobs": True}, cpu_seconds=lambda: next(spent))
    assert isinstance(model, Answerer)
    answer = model.answer("Capital of Peru?", 24)
    ((path, headers, body),) = endpoint.sent
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer key"
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "Capital of Peru?"}],
        "temperature": 0,
        "max_tokens": 24,
        "logprobs": True,
    }
    assert (answer.text, answer.finish, answer.cpu_seconds) == ("Lima", "stop", 0.5)
    assert answer.logprob == pytest.approx(-0.3)
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.cache_read_tokens) == (12, 2, 5)
    assert "key" not in repr(model)


def test_options_replace_and_remove_fields(endpoint):
    options = {"max_tokens": None, "temperature": None, "max_completion_tokens": 9}
    ChatEndpoint(endpoint.url, "m", options=options).answer("?\ud800", 24)
    ((_, headers, body),) = endpoint.sent
    assert body == {"model": "m", "messages": [{"role": "user", "content": "??"}], "max_completion_tokens": 9}
    assert "Authorization" not in headers


def test_a_sparse_answer_is_unknown_not_zero(endpoint):
    endpoint.reply = (200, {"choices": [{"message": {"content": None}}]})
    answer = ChatEndpoint(endpoint.url, "m").answer("?", 1)
    assert (answer.text, answer.usage, answer.logprob, answer.cpu_seconds, answer.finish) == ("", None, None, None, None)


@pytest.mark.parametrize("reply", [b"<html>", b"[]", b'{"choices": []}', b'{"choices": [{"message": "x"}]}', b"\xff"])
def test_something_else_than_a_completion(endpoint, reply):
    endpoint.reply = (200, reply)
    with pytest.raises(EndpointError, match="something else"):
        ChatEndpoint(endpoint.url, "m").answer("?", 1)


def test_a_refusal_carries_status_and_words(endpoint):
    endpoint.reply = (429, {"error": "slow down"})
    with pytest.raises(EndpointError, match="slow down") as caught:
        ChatEndpoint(endpoint.url, "m", api_key="key").answer("?", 1)
    assert caught.value.status == 429
    assert "key" not in str(caught.value)


def test_only_http_addresses():
    with pytest.raises(ConfigError, match="not an http"):
        ChatEndpoint("file:///etc", "m")


async def test_a_scorer_asks_for_samples_with_their_tokens_and_books_what_they_cost(endpoint):
    tops = [{"token": "L", "logprob": -0.2}, {"token": "Q", "logprob": -2.0}]
    told = {**REPLY["choices"][0], "logprobs": {"content": [{"token": "L", "logprob": -0.2, "top_logprobs": tops}]}}
    endpoint.reply = 200, {**REPLY, "choices": [told]}
    model = ChatEndpoint(endpoint.url, "m", price=Price(input=1.0, output=10.0))
    assert isinstance(model, Asker)
    replies = model.ask("Sure?", samples=2, max_tokens=8, temperature=0.7, logprobs=True, schema={"type": "object"})
    assert [reply.text for reply in replies] == ["Lima", "Lima"]
    assert replies[0].tokens == (TokenLogprob(token="L", logprob=-0.2, top={"L": -0.2, "Q": -2.0}),)
    # Five of the twelve tokens were read from the provider's cache, which has no price of its own here.
    assert replies[0].cost == pytest.approx((12 * 1.0 + 2 * 10.0) / 1e6)
    body = endpoint.sent[0][2]
    assert (body["temperature"], body["max_tokens"], body["logprobs"], body["top_logprobs"]) == (0.7, 8, True, 20)
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert len(endpoint.sent) == 2
    assert [reply.text for reply in await model.aask("Sure?")] == ["Lima"]
    assert "logprobs" not in endpoint.sent[2][2]


def test_without_a_price_a_reply_costs_nobody_knows_what(endpoint):
    assert ChatEndpoint(endpoint.url, "m").ask("?")[0].cost is None
    endpoint.reply = 200, {"choices": REPLY["choices"]}
    assert ChatEndpoint(endpoint.url, "m", price=Price(input=1.0, output=1.0)).ask("?")[0].cost is None
    endpoint.reply = 200, {"choices": []}
    with pytest.raises(EndpointError, match="something else"):
        ChatEndpoint(endpoint.url, "m").ask("?")
