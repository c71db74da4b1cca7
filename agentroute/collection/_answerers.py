"""Who answers: anything with `answer(prompt, max_tokens)`, such as an OpenAI-compatible chat endpoint."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

from agentroute.errors import AgentRouteError, ConfigError
from agentroute.scorers._threads import in_thread
from agentroute.types import Price, Reply, TokenLogprob, Usage

__all__ = ["Answer", "Answerer", "ChatEndpoint", "EndpointError"]

T = TypeVar("T")

_ALTERNATIVES = 20  # most that OpenAI's interface gives


class EndpointError(AgentRouteError):
    """A chat endpoint refused, failed or answered something else than a chat completion.

    Attributes:
        status: The HTTP status; `None` = there was none.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back from one call.

    Attributes:
        text: The answer.
        usage: Its tokens; `None` = not reported.
        latency: Seconds from the request to the whole answer.
        cpu_seconds: Processor seconds of the model's own process; `None` = not measurable.
        logprob: Mean log-probability of the answer's tokens; `None` = not reported.
        finish: Why it ended (`"stop"`, `"length"` …).
    """

    text: str
    usage: Usage | None
    latency: float
    cpu_seconds: float | None = None
    logprob: float | None = None
    finish: str | None = None


@runtime_checkable
class Answerer(Protocol):
    """Answers a prompt. It raises when it cannot; the error's class name is then logged."""

    def answer(self, prompt: str, max_tokens: int, /) -> Answer:
        """The answer to one user message, greedily decoded where that can be asked for."""


class ChatEndpoint:
    """A model behind an OpenAI-compatible `chat/completions` address. Greedy: temperature 0.

    Args:
        base_url: The address up to and without `/chat/completions`, as in `"https://api.openai.com/v1"`.
        model: The name by which the endpoint knows the model.
        api_key: Sent as bearer token.
        timeout: Seconds of silence after which a call fails.
        options: Further fields of the request, or other values for the usual ones; one that is `None` is left out.
        cpu_seconds: Tells the processor seconds used so far by the model's process, if it can be known.
        price: What tokens cost, for replies to scorers; `None` = unknown.

    Raises:
        ConfigError: The address is not http or https.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        timeout: float = 300.0,
        options: Mapping[str, Any] | None = None,
        cpu_seconds: Callable[[], float] | None = None,
        price: Price | None = None,
    ) -> None:
        if not base_url.startswith(("https://", "http://")):
            raise ConfigError(f"base_url={base_url!r} is not an http(s) address")
        self.url = f"{base_url.rstrip('/')}/chat/completions"
        self.model = model
        self.timeout = timeout
        self.options = dict(options or {})
        self.price = price
        self._api_key = api_key
        self._cpu_seconds = cpu_seconds

    def answer(self, prompt: str, max_tokens: int, /) -> Answer:
        """Asks once; nothing is retried here.

        Raises:
            EndpointError: The endpoint refused, failed or answered something else.
            OSError: It cannot be reached.
        """
        reply, latency, spent = self._post(prompt, {"temperature": 0, "max_tokens": max_tokens})
        return self._understood(reply, partial(_read, latency=latency, cpu_seconds=spent))

    def ask(
        self,
        prompt: str,
        /,
        *,
        samples: int = 1,
        max_tokens: int = 256,
        temperature: float = 0.0,
        logprobs: bool = False,
        schema: Mapping[str, Any] | None = None,
    ) -> list[Reply]:
        """Asks on behalf of a scorer, each sample a request of its own; see `agentroute.scorers.Asker`.

        The options of the endpoint come last, as in `answer`.

        Raises:
            EndpointError: The endpoint refused, failed or answered something else.
            OSError: It cannot be reached.
        """
        wanted: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
        if logprobs:
            wanted |= {"logprobs": True, "top_logprobs": _ALTERNATIVES}
        if schema is not None:
            shape = {"name": "reply", "schema": dict(schema), "strict": True}
            wanted["response_format"] = {"type": "json_schema", "json_schema": shape}
        replies = []
        for _ in range(samples):
            reply, latency, _spent = self._post(prompt, wanted)
            replies.append(self._understood(reply, partial(_reply, latency=latency, price=self.price)))
        return replies

    async def aask(self, prompt: str, /, **options: Any) -> list[Reply]:
        """As `ask`, on a thread of its own: one that hangs keeps no other from being asked."""
        return await in_thread(self.ask, prompt, **options)

    def _post(self, prompt: str, wanted: Mapping[str, Any]) -> tuple[bytes, float, float | None]:
        """The endpoint's reply to one message, the seconds that it took, and the processor seconds."""
        body = {"model": self.model, "messages": [{"role": "user", "content": prompt}], **wanted, **self.options}
        # Encoded before the clock starts; a lone surrogate of a task file becomes "?".
        data = json.dumps({key: value for key, value in body.items() if value is not None}, ensure_ascii=False)
        request = urllib.request.Request(self.url, data.encode("utf-8", "replace"), {"Content-Type": "application/json"})  # noqa: S310  # http(s), checked above
        if self._api_key:
            request.add_unredirected_header("Authorization", f"Bearer {self._api_key}")
        before, started = self._cpu(), time.perf_counter()
        reply = self._send(request)
        latency, after = time.perf_counter() - started, self._cpu()
        return reply, latency, None if before is None or after is None else after - before

    def _understood(self, reply: bytes, read: Callable[[Mapping[str, Any]], T]) -> T:
        """What was said.

        Raises:
            EndpointError: It is no chat completion.
        """
        try:
            return read(json.loads(reply))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise EndpointError(f"{self.url} answered something else than a chat completion: {reply[:200]!r}") from error

    def _cpu(self) -> float | None:
        return None if self._cpu_seconds is None else self._cpu_seconds()

    def _send(self, request: urllib.request.Request) -> bytes:
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:  # noqa: S310  # http(s), checked above
                body: bytes = response.read()
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(500).decode("utf-8", "replace")
            raise EndpointError(f"{self.url} answered {error.code}: {said}", status=error.code) from error
        return body

    def __repr__(self) -> str:
        """Address and model, never the key."""
        return f"ChatEndpoint({self.url!r}, {self.model!r})"


def _read(reply: Mapping[str, Any], latency: float, cpu_seconds: float | None) -> Answer:
    choice = reply["choices"][0]
    tokens = _tokens(choice)
    return Answer(
        text=choice["message"].get("content") or "",
        usage=_usage(reply),
        latency=latency,
        cpu_seconds=cpu_seconds,
        logprob=sum(token.logprob for token in tokens) / len(tokens) if tokens else None,
        finish=choice.get("finish_reason"),
    )


def _reply(reply: Mapping[str, Any], latency: float, price: Price | None) -> Reply:
    choice, usage = reply["choices"][0], _usage(reply)
    return Reply(
        text=choice["message"].get("content") or "",
        tokens=_tokens(choice) or None,
        finish=choice.get("finish_reason"),
        usage=usage,
        cost=None if usage is None or price is None else price.cost(usage),
        latency=latency,
    )


def _usage(reply: Mapping[str, Any]) -> Usage | None:
    counted = reply.get("usage")
    if not counted:
        return None
    details = counted.get("prompt_tokens_details") or {}
    return Usage(
        input_tokens=int(counted["prompt_tokens"]),
        output_tokens=int(counted["completion_tokens"]),
        cache_read_tokens=int(details.get("cached_tokens") or 0),
    )


def _tokens(choice: Mapping[str, Any]) -> tuple[TokenLogprob, ...]:
    """The answer's tokens as the endpoint tells them; none when it does not."""
    return tuple(
        TokenLogprob(
            token=str(one.get("token", "")),
            logprob=float(one["logprob"]),
            top={str(other["token"]): float(other["logprob"]) for other in one.get("top_logprobs") or ()},
        )
        for one in (choice.get("logprobs") or {}).get("content") or ()
    )
