"""What providers' clients call by different names: the limit of an answer, and the reason for which one ended."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

__all__ = ["finish_in", "limit_in"]

# OpenAI takes the first for its newer models, where both are given; the others are Google's, Ollama's and Hugging Face's.
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "num_predict", "max_new_tokens")
# `stopReason` is Amazon's, `done_reason` Ollama's, `status` of OpenAI's Responses.
_FINISH = ("finish_reason", "stop_reason", "stopReason", "done_reason", "status")


def limit_in(*holders: Any) -> int | None:
    """The most tokens that an answer may take, by the first holder that sets it.

    Args:
        *holders: Arguments of a call, or a client with the limit among its attributes; `None` = nothing.

    Returns:
        Tokens; `None` = nobody sets a limit. What is not above 0 sets none (Ollama's -1).
    """
    told = (_of(holder, name) for holder in holders for name in _LIMITS)
    return next((limit for limit in told if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0), None)


def finish_in(*holders: Any) -> str | None:
    """Why an answer ended, in its provider's words, by the first holder that says.

    Args:
        *holders: What the provider told of the answer, as a mapping or an object; `None` = nothing.
    """
    told = (_worded(_of(holder, name)) for holder in holders for name in _FINISH)
    return next((one for one in told if one), None)


def _worded(value: Any) -> str | None:
    if isinstance(value, Enum):
        value = value.value if isinstance(value.value, str) else value.name
    return str(value) if isinstance(value, str) else None


def _of(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)
