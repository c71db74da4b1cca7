"""Which errors another model may help with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from agentroute.errors import AllModelsFailedError

__all__ = ["Mistake", "bubbling", "is_control_flow", "is_overflow", "mistakes", "refused", "retryable"]

# Transport failures of the clients that providers' integrations use (httpx, openai, anthropic, requests, aiohttp, gRPC), and
# answers of which a part is missing, known by name: none of these packages is a dependency of this one.
_TRANSPORT = frozenset(
    {
        "APIConnectionError",
        "APIResponseValidationError",
        "APITimeoutError",
        "ClientConnectionError",
        "ConnectionError",
        "DeadlineExceeded",
        "JSONDecodeError",
        "RemoteProtocolError",
        "ServiceUnavailable",
        "Timeout",
        "TransportError",
    }
)
# Request Timeout, Conflict (a lock, at some providers), Too Many Requests; and every 5xx.
_STATUSES = frozenset({408, 409, 429})

# What an error says of itself where no status does: streams of OpenAI and Anthropic break after their status was 200.
_KINDS = frozenset(
    {
        "api_error",
        "overloaded_error",
        "rate_limit_error",
        "rate_limit_exceeded",
        "server_error",
        "timeout_error",
    }
)

# By LangChain's name for it, or by what OpenAI and those who copy its interface say in the error's body; the last is llama.cpp's.
_OVERFLOW_ERROR = "ContextOverflowError"
_OVERFLOWS = frozenset({"context_length_exceeded", "string_above_max_length", "exceed_context_size_error"})
# vLLM gives the words of OpenAI and no code of its own.
_TOO_LONG = "maximum context length"
# A graph's or a workflow's way to stop or to wait, which is no failure (LangGraph; LlamaIndex's workflows).
_CONTROL = frozenset({"GraphBubbleUp", "WorkflowCancelledByUser", "WaitingForEvent"})


def _is_a(error: BaseException, names: frozenset[str]) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)


def is_control_flow(error: BaseException) -> bool:
    """Whether this is no failure but a graph's or a workflow's way to stop (LangGraph's `GraphBubbleUp` and its like)."""
    return _is_a(error, _CONTROL)


def is_overflow(error: BaseException | None) -> bool:
    """Whether the prompt was too long for the model."""
    if error is None:
        return False
    if _is_a(error, frozenset({_OVERFLOW_ERROR})) or _said(error) & _OVERFLOWS:
        return True
    return _status(error) == 400 and _TOO_LONG in str(error).lower()


def retryable(error: Exception) -> bool:
    """Whether another model may succeed where this error arose.

    What the error itself says (`is_retryable`, as LangChain's do) decides where it says anything, then an HTTP status, then what
    the error's body calls it, then the kind of error. An overflow counts: a model with a larger window may take the prompt.
    Wrong keys, malformed requests and mistakes in the program do not count, because another model would only hide them.
    """
    if is_control_flow(error):
        return False
    if is_overflow(error):
        return True
    if isinstance(error, AllModelsFailedError):
        return all(retryable(one) for one in error.exceptions)
    declared = getattr(error, "is_retryable", None)
    if isinstance(declared, bool):
        return declared
    status = _status(error)
    if status is not None:
        return status in _STATUSES or status >= 500
    if _said(error) & _KINDS:
        return True
    return isinstance(error, (ConnectionError, TimeoutError)) or _is_a(error, _TRANSPORT)


def refused(error: BaseException) -> bool:
    """Whether the provider turned the request away with an HTTP status: then there is no answer, and no bill for one."""
    return _status(error) is not None


def _status(error: Any) -> int | None:
    """The HTTP status of a failure that an error carries, where its client says."""
    response = getattr(error, "response", None)
    told = [getattr(holder, name, None) for holder in (error, response) for name in ("status_code", "code")]
    if isinstance(response, Mapping):
        # botocore's ClientError keeps the parsed answer there.
        about = response.get("ResponseMetadata")
        told.append(about.get("HTTPStatusCode") if isinstance(about, Mapping) else None)
    for status in told:
        if isinstance(status, int) and not isinstance(status, bool) and 400 <= status < 600:
            return int(status)
    return None


def _said(error: Any) -> set[str]:
    """The `type` and `code` that an error or its body bears."""
    body = getattr(error, "body", None)
    holders = [vars(error) if hasattr(error, "__dict__") else {}]
    if isinstance(body, Mapping):
        inner = body.get("error")
        holders += [body, *([inner] if isinstance(inner, Mapping) else ())]
    found = (holder.get(name) for holder in holders for name in ("type", "code"))
    return {one for one in found if isinstance(one, str)}


class Mistake(BaseException):
    """Carries an error of the caller's own code (a tool that cannot be bound, `prepare_messages`) past the flow.

    No other model may hide such an error, whatever its kind.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def mistakes() -> Iterator[None]:
    """Marks every error within as a mistake, for `RoutedCall.drive` to raise."""
    try:
        yield
    except Exception as error:
        raise Mistake(error) from error


@contextmanager
def bubbling() -> Iterator[None]:
    """Lets a graph's way to stop pass the flow, which might take an earlier answer instead."""
    try:
        yield
    except Exception as error:
        if is_control_flow(error):
            raise Mistake(error) from error
        raise
