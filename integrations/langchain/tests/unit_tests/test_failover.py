"""After which failures another model is asked, and when it is too late for that."""

import asyncio

import httpx
import pytest
from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelInvalidRequestError,
    ModelRateLimitError,
    ModelTimeoutError,
)
from langgraph.errors import GraphInterrupt

from agentroute.errors import AllModelsFailedError
from agentroute.serving import is_control_flow, retryable
from agentroute.types import Candidate, Decision, ModelCard, Paradigm
from langchain_agentroute import RoutedChatModel, routing_decision
from langchain_agentroute.testing import ScriptedChatModel

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

WAYS = ["invoke", "ainvoke", "stream", "astream", "batch", "abatch", "generate", "agenerate", "v3", "av3"]


class WithStatus(Exception):
    def __init__(self, status_code):
        super().__init__(f"status {status_code}")
        self.status_code = status_code


class WithCode(Exception):
    def __init__(self, code):
        super().__init__(f"code {code}")
        self.code = code


class APIConnectionError(Exception):
    """As in the clients of OpenAI and Anthropic."""


class ClientError(Exception):
    """As in botocore: what came back is a dictionary."""

    def __init__(self, status):
        super().__init__(f"client {status}")
        self.response = {"Error": {"Code": "X"}, "ResponseMetadata": {"HTTPStatusCode": status}}


class APIError(Exception):
    """As in openai: an error within a stream, that has no status of its own."""

    def __init__(self, *, body, code=None, kind=None, status_code=None):
        super().__init__(f"api {body} {code} {kind} {status_code}")
        self.body, self.code, self.type = body, code, kind
        if status_code is not None:
            self.status_code = status_code


REQUEST = httpx.Request("POST", "http://model")
RETRYABLE = [
    ModelRateLimitError("slow down"),
    ModelAPIError("broken"),
    ModelTimeoutError("too late"),
    ConnectionRefusedError("nobody there"),
    TimeoutError("too late"),
    httpx.ConnectError("nobody there"),
    httpx.ReadTimeout("too late"),
    httpx.HTTPStatusError("busy", request=REQUEST, response=httpx.Response(503, request=REQUEST)),
    WithStatus(429),
    WithStatus(500),
    WithCode(503),
    APIConnectionError("nobody there"),
    ClientError(429),
    ClientError(503),
    APIError(body={"type": "server_error", "code": None}),
    APIError(body={"message": "x"}, code="rate_limit_exceeded"),
    APIError(body=None, kind="server_error"),
    # Anthropic's streams break with an error of their own under the status of the stream.
    APIError(body={"type": "error", "error": {"type": "overloaded_error"}}, status_code=200),
    AllModelsFailedError("inner", [TimeoutError(), WithStatus(500)]),
]
FINAL = [
    ModelAuthenticationError("wrong key"),
    ModelInvalidRequestError("malformed"),
    WithStatus(400),
    WithStatus(401),
    WithCode(404),
    ClientError(403),
    ClientError(400),
    APIError(body={"type": "invalid_request_error", "code": "insufficient_quota"}),
    APIError(body="a page"),
    APIError(body={"type": "server_error"}, status_code=403),
    httpx.HTTPStatusError("who?", request=REQUEST, response=httpx.Response(404, request=REQUEST)),
    ValueError("a mistake"),
    TypeError("a mistake"),
    NotImplementedError("no tools"),
    GraphInterrupt(),
    AllModelsFailedError("inner", [TimeoutError(), WithStatus(400)]),
]


def name(error):
    return f"{type(error).__name__}-{error}"


def pair(first, **kwargs):
    backup = ScriptedChatModel(model_name="backup", replies=["from backup"])
    model = RoutedChatModel(models={"first": first, "backup": backup}, default="first", **kwargs)
    return model, backup


@pytest.mark.parametrize("error", RETRYABLE, ids=name)
def test_errors_that_another_model_may_help_with(error):
    assert retryable(error)
    model, _ = pair(ScriptedChatModel(replies=[error]))
    message = model.invoke("x")
    assert message.text == "from backup"
    attempts = routing_decision(message)["attempts"]
    assert [(one["model"], one["error"]) for one in attempts] == [("first", type(error).__name__), ("backup", None)]
    assert routing_decision(message)["model"] == "first"
    assert routing_decision(message)["answered_by"] == "backup"


@pytest.mark.parametrize("way", ["invoke", "astream", "v3"])
async def test_the_reason_says_who_failed_and_who_answered(way, collect):
    model, _ = pair(ScriptedChatModel(replies=[ConnectionError()]), router=lambda _: "first")
    reasons = [routing_decision(await collect(way, model, "x"))["reason"] for _ in range(2)]
    assert reasons[0] == f"{reasons[1]}; first failed (ConnectionError), so backup answered"


@pytest.mark.parametrize("error", FINAL, ids=name)
def test_errors_that_another_model_would_hide(error):
    assert not retryable(error)
    model, backup = pair(ScriptedChatModel(replies=[error]))
    with pytest.raises(type(error)) as raised:
        model.invoke("x")
    assert raised.value is error
    assert not backup.asked


@pytest.mark.parametrize("way", WAYS)
async def test_every_way_fails_over(way, collect, recorder):
    model, _ = pair(ScriptedChatModel(model_name="first", replies=[ConnectionError()]))
    message = await collect(way, model, "x", {"callbacks": [recorder]})
    assert message.text == "from backup"
    assert routing_decision(message)["answered_by"] == "backup"
    assert [run["name"] for run in recorder.of("llm")] == ["first", "backup"]
    assert [run["metadata"]["agentroute_attempt"] for run in recorder.of("llm")] == [0, 1]
    recorder.tree()


@pytest.mark.parametrize("way", ["stream", "astream", "v3", "av3"])
async def test_stream_that_breaks_before_its_first_token_fails_over(way, collect):
    model, _ = pair(ScriptedChatModel(break_after=0))
    assert (await collect(way, model, "x")).text == "from backup"


@pytest.mark.parametrize("way", ["stream", "astream", "v3", "av3"])
async def test_stream_that_breaks_after_its_first_token_does_not(way, collect):
    model, backup = pair(ScriptedChatModel(break_after=1))
    with pytest.raises(ConnectionError, match="the stream broke"):
        await collect(way, model, "x")
    assert not backup.asked


def test_empty_chunks_are_no_token():
    """Several providers open with an empty chunk that only names the role: nothing has been shown by then."""
    from langchain_core.messages import AIMessageChunk
    from langchain_core.outputs import ChatGenerationChunk

    class Hesitant(ScriptedChatModel):
        def _stream(self, *args, **kwargs):
            yield ChatGenerationChunk(message=AIMessageChunk(content=""))
            raise ConnectionError

    model, _ = pair(Hesitant())
    assert "".join(chunk.text for chunk in model.stream("x")) == "from backup"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, asyncio.CancelledError, SystemExit])
@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_interrupts_pass(interrupt, way, recorder):
    class Interrupted(ScriptedChatModel):
        def _message(self, *args, **kwargs):
            raise interrupt

    model, backup = pair(Interrupted())
    with pytest.raises(interrupt):
        list(model.stream("x", {"callbacks": [recorder]})) if way == "stream" else model.invoke("x", {"callbacks": [recorder]})
    assert not backup.asked
    recorder.tree()


async def test_cancellation_passes(recorder):
    started = asyncio.Event()

    class Slow(ScriptedChatModel):
        async def _agenerate(self, *args, **kwargs):
            started.set()
            await asyncio.Event().wait()

    model, backup = pair(Slow())
    task = asyncio.ensure_future(model.ainvoke("x", {"callbacks": [recorder]}))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not backup.asked
    # LangChain leaves the model run of a cancelled ainvoke open; the routed run is ended.
    (chain,) = recorder.of("chain")
    assert isinstance(chain["error"], asyncio.CancelledError)


def test_only_candidate_raises_its_own_error():
    error = ModelRateLimitError("slow down")
    with pytest.raises(ModelRateLimitError) as raised:
        RoutedChatModel(models={"a": ScriptedChatModel(replies=[error])}).invoke("x")
    assert raised.value is error


@pytest.mark.parametrize("way", WAYS)
async def test_all_failed(way, collect):
    last = TimeoutError("late")
    models = {"a": ScriptedChatModel(replies=[ConnectionError("gone")]), "b": ScriptedChatModel(replies=[last])}
    with pytest.raises(AllModelsFailedError) as raised:
        await collect(way, RoutedChatModel(models=models), "x")
    assert raised.value.__cause__ is last
    assert [type(one) for one in raised.value.exceptions] == [ConnectionError, TimeoutError]
    assert [attempt.model for attempt in raised.value.attempts] == ["a", "b"]


def test_switched_off():
    model, backup = pair(ScriptedChatModel(replies=[TimeoutError()]), failover=False)
    with pytest.raises(TimeoutError):
        model.invoke("x")
    assert not backup.asked


def test_forced_model_is_not_replaced():
    model, backup = pair(ScriptedChatModel(replies=[TimeoutError()]))
    with pytest.raises(TimeoutError):
        model.invoke("x", model="first")
    assert not backup.asked


def test_declared_order():
    models = {name: ScriptedChatModel(model_name=name, replies=[TimeoutError()]) for name in "abc"}
    models["d"] = ScriptedChatModel(model_name="d")
    message = RoutedChatModel(models=models, failover=["c", "d"]).invoke("x")
    assert [one["model"] for one in routing_decision(message)["attempts"]] == ["a", "c", "d"]


@pytest.mark.parametrize("way", WAYS)
async def test_declared_order_overrules_a_router_that_ranks_only_its_choice(way, collect):
    def only(_):
        paradigm = Paradigm(when="pre-generation", what=("text",), how="rule")
        return Decision(model="a", candidates=(Candidate(model="a"),), reason="", paradigm=paradigm)

    models = {name: ScriptedChatModel(model_name=name, replies=[TimeoutError()]) for name in "abc"}
    models["d"] = ScriptedChatModel(model_name="d")
    model = RoutedChatModel(models=models, router=only, failover=["c", "a", "c", "d"])
    assert [one["model"] for one in routing_decision(await collect(way, model, "x"))["attempts"]] == ["a", "c", "d"]


def test_declared_order_passes_over_who_may_not_answer():
    models = {
        "a": ScriptedChatModel(replies=[TimeoutError()]),
        "toolless": ScriptedChatModel(profile={"tool_calling": False}),
        "c": ScriptedChatModel(),
    }
    model = RoutedChatModel(models=models, failover=["toolless", "c"])
    message = model.bind_tools([{"name": "t", "description": "", "parameters": {}}]).invoke("x")
    assert [one["model"] for one in routing_decision(message)["attempts"]] == ["a", "c"]


def window(size):
    return ScriptedChatModel(model_name=str(size), profile={"max_input_tokens": size} if size else {})


def test_overflow_goes_to_a_larger_window_only():
    models = {"mid": window(2000), "tiny": window(1000), "unknown": window(None), "huge": window(9000)}
    models["mid"].replies = [ContextOverflowError("too long")]
    model = RoutedChatModel(models=models)
    assert [one["model"] for one in routing_decision(model.invoke("x"))["attempts"]] == ["mid", "huge"]


def test_overflow_of_the_largest_window_is_final():
    error = ContextOverflowError("too long")
    models = {"huge": ScriptedChatModel(replies=[error], profile={"max_input_tokens": 9000}), "tiny": window(1000)}
    with pytest.raises(ContextOverflowError) as raised:
        RoutedChatModel(models=models).invoke("x")
    assert raised.value is error


def test_overflow_by_cards():
    models = {"a": ScriptedChatModel(replies=[ContextOverflowError("too long")]), "b": ScriptedChatModel()}
    cards = [ModelCard(id="a", context_window=100), ModelCard(id="b", context_window=200)]
    assert routing_decision(RoutedChatModel(models=models, cards=cards).invoke("x"))["answered_by"] == "b"


def test_binding_error_is_no_reason_to_fail_over():
    class Toolless(ScriptedChatModel):
        def bind_tools(self, tools, **kwargs):
            raise NotImplementedError("no tools here")

    model, backup = pair(Toolless())
    with pytest.raises(NotImplementedError, match="no tools here"):
        model.bind_tools([{"name": "t", "description": "", "parameters": {}}]).invoke("x")
    assert not backup.asked


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("failed_before", [False, True])
async def test_errors_of_prepare_messages_reach_the_caller_as_they_are(way, failed_before, collect, recorder):
    """Also those that look like a model's, and also after a model's own."""
    cause = KeyError("why")
    error = ConnectionError("the summary's service is gone")
    error.__cause__ = cause
    prepared = []

    def prepare(messages, candidate):
        prepared.append(candidate.model_name)
        if failed_before and candidate.model_name == "first":
            return messages
        raise error

    first = ScriptedChatModel(model_name="first", replies=[TimeoutError()])
    model, backup = pair(first, prepare_messages=prepare)
    with pytest.raises(ConnectionError) as raised:
        await collect(way, model, "x", {"callbacks": [recorder]})
    assert raised.value is error
    assert error.__cause__ is cause
    assert error.__context__ is None
    assert prepared == (["first", "backup"] if failed_before else ["first"])
    assert not backup.asked
    recorder.tree()
    assert recorder.runs[0]["error"] is error


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("failed_before", [False, True])
async def test_errors_of_binding_reach_the_caller_as_they_are(way, failed_before, collect):
    error = TimeoutError("the schema's registry is slow")

    class Toolless(ScriptedChatModel):
        def bind_tools(self, tools, **kwargs):
            raise error

    models = {"b": Toolless(), "c": ScriptedChatModel()}
    if failed_before:
        models = {"a": ScriptedChatModel(replies=[ConnectionError()]), **models}
    bound = RoutedChatModel(models=models).bind_tools([{"name": "t", "description": "", "parameters": {}}])
    with pytest.raises(TimeoutError) as raised:
        await collect(way, bound.bound, "x", **bound.kwargs)
    assert raised.value is error
    assert not models["c"].asked


def test_control_flow_is_known_by_name():
    assert is_control_flow(GraphInterrupt())
    assert not is_control_flow(RuntimeError())
