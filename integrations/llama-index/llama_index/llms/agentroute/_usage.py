"""How many tokens an answer took, as its provider tells it in one of several shapes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agentroute.types import Usage

__all__ = ["usage_of"]

# OpenAI's chat completions, Anthropic and OpenAI's responses, Google, Amazon's Converse.
_INPUT = ("prompt_tokens", "input_tokens", "prompt_token_count", "inputTokens")
_OUTPUT = ("completion_tokens", "output_tokens", "candidates_token_count", "outputTokens")
# Where the tokens are that a cache gave: within the count of the prompt, in all of these.
_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_READ_WITHIN = ("cached_tokens", "cache_read", "cached_content_token_count", "prompt_cache_hit_tokens")
_WRITTEN_WITHIN = ("cache_creation", "cache_write_tokens")
# Beside the count of the prompt, in these: Anthropic's `input_tokens` and Amazon's `inputTokens` are the uncached ones.
_READ_BESIDE = ("cache_read_input_tokens", "cacheReadInputTokens")
_WRITTEN_BESIDE = ("cache_creation_input_tokens", "cacheWriteInputTokens")
_UNCACHED = frozenset({"input_tokens", "inputTokens"})
# No call takes a thousand million tokens: a figure above is none.
_MOST = 1_000_000_000


def usage_of(response: Any) -> Usage | None:
    """Tokens of an answer, where its provider tells them.

    Args:
        response: A `ChatResponse` or a `CompletionResponse`.

    Returns:
        Tokens of the prompt and of the answer; `None` when either is missing or no count at all. Nothing is estimated, and what
        is not told is not 0: an OpenAI stream tells tokens only when it is asked to, by `stream_options={"include_usage": True}`.
        A prompt of 0 tokens is none either: some clients write 0 where they were told nothing.
    """
    return next((usage for told in _told(response) if (usage := _read(told)) is not None), None)


def _told(response: Any) -> Iterator[Any]:
    """Where tokens can stand, the provider's own words first."""
    raw = getattr(response, "raw", None)
    kwargs = getattr(response, "additional_kwargs", None)
    for place in (raw, kwargs):
        for name in ("usage", "usage_metadata"):
            yield _field(place, name)
    yield kwargs


def _read(told: Any) -> Usage | None:
    if told is None:
        return None
    name, prompt = _first(told, _INPUT)
    answer = _first(told, _OUTPUT)[1]
    if not prompt or answer is None:
        return None
    inner = [told, *(_field(told, one) for one in _DETAILS)]
    read, written = _any(inner, _READ_WITHIN), _any(inner, _WRITTEN_WITHIN)
    if name in _UNCACHED:
        beside = (_first(told, _READ_BESIDE)[1] or 0, _first(told, _WRITTEN_BESIDE)[1] or 0)
        read, written, prompt = read + beside[0], written + beside[1], prompt + sum(beside)
    # Google counts thoughts beside the answer, and what its own tools read beside the prompt.
    answer += _first(told, ("thoughts_token_count",))[1] or 0
    prompt += _first(told, ("tool_use_prompt_token_count",))[1] or 0
    return Usage(input_tokens=prompt, output_tokens=answer, cache_read_tokens=read, cache_write_tokens=written)


def _any(places: Iterable[Any], names: Iterable[str]) -> int:
    """The first of these counts that any place tells; 0 = none."""
    names = tuple(names)
    return next((count for place in places if (count := _first(place, names)[1]) is not None), 0)


def _first(place: Any, names: Iterable[str]) -> tuple[str | None, int | None]:
    """The first of these names that holds a count, and the count."""
    for name in names:
        count = _count(_field(place, name))
        if count is not None:
            return name, count
    return None, None


def _field(place: Any, name: str) -> Any:
    return place.get(name) if isinstance(place, Mapping) else getattr(place, name, None)


def _count(value: Any) -> int | None:
    """A number of tokens; `None` = it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _MOST:
        return None
    return int(value) if value == int(value) else None
