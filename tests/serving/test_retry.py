"""Which errors another model may help with, whatever the framework."""

import pytest

from agentroute.errors import AllModelsFailedError, NoEligibleModelError
from agentroute.serving import Mistake, bubbling, is_control_flow, is_overflow, mistakes, retryable


class GraphBubbleUp(Exception):
    """As in LangGraph."""


class GraphInterrupt(GraphBubbleUp):
    """As in LangGraph."""


class WaitingForEvent(Exception):
    """As in LlamaIndex's workflows."""


class WorkflowCancelledByUser(Exception):
    """As in LlamaIndex's workflows."""


class ContextOverflowError(ValueError):
    """As in LangChain."""


class RemoteProtocolError(Exception):
    """As in httpx."""


class ServiceUnavailable(Exception):
    """As in Google's clients."""


class Told(Exception):
    """An error that says something of itself, as clients' do."""

    def __init__(self, label, **said):
        super().__init__(label)
        self.label = label
        vars(self).update(said)


class Response:
    def __init__(self, status_code):
        self.status_code = status_code


CONTROL = [GraphBubbleUp(), GraphInterrupt(), WaitingForEvent(), WorkflowCancelledByUser()]
OVERFLOWS = [
    ContextOverflowError("too long"),
    Told("openai", status_code=400, code="context_length_exceeded"),
    Told("openai body", status_code=400, body={"error": {"code": "context_length_exceeded"}}),
    Told("llama.cpp", status_code=400, body={"code": 400, "type": "exceed_context_size_error"}),
    Told("vllm: This model's maximum context length is 4096 tokens.", status_code=400, type="BadRequestError"),
    Told("flat body", body={"code": "string_above_max_length"}),
]
RETRYABLE = [
    ConnectionRefusedError("nobody there"),
    TimeoutError("too late"),
    RemoteProtocolError("cut off"),
    ServiceUnavailable("busy"),
    Told("status 408", status_code=408),
    Told("status 409", status_code=409),
    Told("status 429", status_code=429),
    Told("status 500", status_code=500),
    Told("status 529", status_code=529),
    Told("code 503", code=503),
    Told("response", response=Response(502)),
    Told("botocore", response={"ResponseMetadata": {"HTTPStatusCode": 503}}),
    Told("declared", is_retryable=True, status_code=400),
    Told("kind of a stream", type="overloaded_error"),
    Told("body of a stream", body={"type": "error", "error": {"type": "overloaded_error"}}, status_code=200),
    Told("code of a stream", code="rate_limit_exceeded"),
    AllModelsFailedError("within", [TimeoutError(), Told("x", status_code=500)]),
]
FINAL = [
    *CONTROL,
    ValueError("a mistake"),
    NoEligibleModelError({"a": "too dear"}),
    Told("status 400", status_code=400),
    Told("the words of an overflow, with another status: maximum context length", status_code=401),
    Told("status 401", status_code=401),
    Told("declared", is_retryable=False, status_code=503),
    Told("declared over kind", is_retryable=False, type="server_error"),
    Told("status over kind", status_code=403, type="server_error"),
    Told("quota", body={"type": "invalid_request_error", "code": "insufficient_quota"}),
    Told("page", body="<html>"),
    Told("true is no status", status_code=True),
    Told("no http status", code=7),
    Told("odd body", body={"error": "overloaded_error"}),
    Told("not botocore", response={"ResponseMetadata": "x"}),
    AllModelsFailedError("within", [TimeoutError(), Told("x", status_code=400)]),
]


def name(error):
    return f"{type(error).__name__}-{error}"


@pytest.mark.parametrize("error", [*OVERFLOWS, *RETRYABLE], ids=name)
def test_another_model_may_help(error):
    assert retryable(error)


@pytest.mark.parametrize("error", FINAL, ids=name)
def test_another_model_would_only_hide_it(error):
    assert not retryable(error)


def test_errors_without_attributes_of_their_own():
    class Slotted(Exception):
        __slots__ = ()

    assert not retryable(Slotted("x"))


@pytest.mark.parametrize("error", [*RETRYABLE, *FINAL], ids=name)
def test_overflow_is_nothing_else(error):
    assert not is_overflow(error)


def test_overflow():
    assert all(is_overflow(error) for error in OVERFLOWS)
    assert not is_overflow(None)


def test_control_flow():
    assert all(is_control_flow(error) for error in CONTROL)
    assert not any(is_control_flow(error) for error in [*OVERFLOWS, *RETRYABLE, ValueError(), KeyboardInterrupt()])


def test_mistakes_are_carried_past_every_handler_of_exceptions():
    with pytest.raises(Mistake) as raised, mistakes():
        raise TimeoutError("in the caller's own code")
    assert not isinstance(raised.value, Exception)
    assert str(raised.value.error) == "in the caller's own code"
    with pytest.raises(KeyboardInterrupt), mistakes():
        raise KeyboardInterrupt


@pytest.mark.parametrize("error", CONTROL, ids=name)
def test_a_way_to_stop_is_carried_past_too(error):
    with pytest.raises(Mistake) as raised, bubbling():
        raise error
    assert raised.value.error is error


def test_failures_are_not():
    with pytest.raises(TimeoutError), bubbling():
        raise TimeoutError
