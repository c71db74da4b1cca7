"""The scripted model server tells what it is told to, and breaks where it is told to."""

import http.client
import json
import threading

import pytest

from agentroute.testing import ScriptedServer


def post(server, **body):
    """The status and the body of the answer."""
    asked = {"model": "small", "messages": [{"role": "user", "content": "Hello there"}], **body}
    client = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    try:
        client.request("POST", "/v1/chat/completions", json.dumps(asked))
        response = client.getresponse()
        return response.status, response.read().decode()
    finally:
        client.close()


def deltas(body):
    """The chunks of a stream."""
    lines = [line.removeprefix("data: ") for line in body.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@pytest.fixture
def server():
    with ScriptedServer() as server:
        yield server


def test_an_answer_and_what_was_asked(server):
    status, body = post(server, logprobs=True)
    told = json.loads(body)
    assert status == 200
    choice = told["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("small has read: Hello there", "stop")
    assert [one["logprob"] for one in choice["logprobs"]["content"]] == [0.0, 0.0]
    assert (told["usage"]["prompt_tokens"], told["usage"]["completion_tokens"]) == (10, 5)
    assert [one["messages"][0]["content"] for one in server.asked] == ["Hello there"]


def test_a_stream_tells_usage_only_when_asked(server):
    server.answers = lambda asked: "small has read:\n\nHello  there"
    plain = deltas(post(server, stream=True)[1])
    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in plain)
    assert said == "small has read:\n\nHello  there"
    assert plain[-1]["choices"][0]["finish_reason"] == "stop"
    assert not any(chunk["usage"] for chunk in plain)
    told = deltas(post(server, stream=True, stream_options={"include_usage": True})[1])
    assert (told[-1]["choices"], told[-1]["usage"]["total_tokens"]) == ([], 15)


def test_scripted_tool_calls_whole_and_in_pieces():
    calls = [
        {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": '{"place": "Lima"}'}}
        for name in ("weather", "time")
    ]
    with ScriptedServer(lambda asked: {"tool_calls": calls}) as server:
        choice = json.loads(post(server)[1])["choices"][0]
        assert (choice["message"], choice["finish_reason"]) == (
            {"role": "assistant", "content": None, "tool_calls": calls},
            "tool_calls",
        )
        joined = {}
        for chunk in deltas(post(server, stream=True)[1]):
            for call in chunk["choices"][0]["delta"].get("tool_calls", ()):
                joined[call["index"]] = joined.get(call["index"], "") + call["function"]["arguments"]
        assert joined == dict.fromkeys(range(2), '{"place": "Lima"}')


def test_a_failure_is_for_one_request(server):
    server.failures["small"] = 429
    assert [post(server)[0], post(server)[0]] == [429, 200]
    assert post(server, model="large")[0] == 200


@pytest.mark.parametrize(
    ("fault", "error"),
    [("drop", http.client.RemoteDisconnected), ("short", http.client.IncompleteRead), ("malformed", None), ("empty", None)],
)
def test_faults_of_a_whole_answer(fault, error, server):
    server.faults["small"] = fault
    if error is not None:
        with pytest.raises(error):
            post(server)
    elif fault == "malformed":
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            json.loads(post(server)[1])
    else:
        assert json.loads(post(server)[1])["choices"][0]["message"]["content"] == ""
    assert post(server, model="large")[0] == 200


@pytest.mark.parametrize("place", ["role", "words"])
def test_faults_of_a_stream(place, server):
    server.faults["small"] = f"cut after {place}"
    with pytest.raises(http.client.IncompleteRead) as caught:
        post(server, stream=True)
    told = caught.value.partial.decode()
    assert ("has" in told, "read:" in told) == (place == "words", False)
    server.faults["small"] = f"error after {place}"
    assert "overloaded" in post(server, stream=True)[1]
    server.faults["small"] = f"end after {place}"
    body = post(server, stream=True)[1]
    assert body.endswith("data: [DONE]\n\n")
    assert '"stop"' not in body


def test_a_request_hangs_until_it_is_released(server):
    server.faults["small"] = "hang"
    found = []
    waiting = threading.Thread(target=lambda: found.append(post(server)[0]))
    waiting.start()
    waiting.join(0.2)
    assert not found
    server.released.set()
    waiting.join(10)
    assert found == [200]
