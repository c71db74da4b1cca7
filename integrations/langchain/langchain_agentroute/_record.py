"""The routing record: what a message says about how its model was chosen, in plain JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import BaseMessage

from agentroute.serving import RECORD, priced, stamp
from agentroute.types import Price, Usage

__all__ = ["billed", "routing_decision", "stamped", "usage_of"]


def routing_decision(message: BaseMessage) -> dict[str, Any] | None:
    """How the model of a message was chosen.

    Args:
        message: An answer of a routed model, or of an agent with `RoutingMiddleware`. Of a stream, the sum of its chunks.

    Returns:
        Plain JSON values, or `None` when no routed model answered:

        * `decision_id`: for `record_feedback`
        * `model`, `by`, `reason`, `propensity`: what was chosen, by what, why, and with which probability; after failures
          the reason names them too
        * `answered_by`: who answered in the end; `None` when a middleware further in called a model of its own
        * `fallback`: whether the router failed, so that the default was taken
        * `candidates`: `model`, `quality`, `cost` (USD), `latency` (s), `utility`, `support` of each, best first
        * `attempts`: `model`, `error`, `usage`, `cost` (USD), `latency` (s) of each call made
        * `routing_latency`: seconds that the decision took
        * `via`: the record of a routed model that was itself the candidate, where there is one

        A cascade adds `accepted` (`False` = no answer was good enough, and this is the best there is), `total_cost` (USD of all
        calls and checks; `None` = of one it is unknown) and `total_usage` (tokens of all calls), and to each attempt `score`,
        `reason`, `accepted`, `check_error`, `check_cost` (USD) and `check_latency` (s).
    """
    record = message.response_metadata.get(RECORD)
    return record if isinstance(record, dict) else None


def stamped(answer: Any, record: dict[str, Any]) -> Any:
    """The answer with the record on it: a message, or the raw message of a structured answer; else the answer as it is.

    The candidate's message is copied, never edited: its cache may hold the very same object. All that the provider put
    there stays; a record of a routed candidate stays under `via`.
    """
    if isinstance(answer, BaseMessage):
        return answer.model_copy(update={"response_metadata": stamp(answer.response_metadata, record)})
    if isinstance(answer, dict) and isinstance(answer.get("raw"), BaseMessage):
        return {**answer, "raw": stamped(answer["raw"], record)}
    return answer


# OpenAI's service tiers report their cached tokens under names of their own.
_TIERS = ("", "flex_", "priority_")
# langchain-anthropic splits what was written by how long it is kept, and then says `cache_creation: 0`.
_KEPT = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")


def usage_of(metadata: Mapping[str, Any] | None) -> Usage | None:
    """Tokens, from LangChain's `usage_metadata`; `None` = the provider did not say."""
    if not metadata or metadata.get("input_tokens") is None or metadata.get("output_tokens") is None:
        return None
    details = metadata.get("input_token_details") or {}

    def total(*names: str) -> int:
        return sum(int(details.get(name) or 0) for name in names)

    return Usage(
        input_tokens=int(metadata["input_tokens"]),
        output_tokens=int(metadata["output_tokens"]),
        cache_read_tokens=total(*(f"{tier}cache_read" for tier in _TIERS)),
        cache_write_tokens=total(*(f"{tier}cache_creation" for tier in _TIERS), *_KEPT),
    )


def billed(metadata: Mapping[str, Any] | None, usage: Usage | None, price: Price | None) -> float | None:
    """USD that a call cost: what LangChain says (0 for an answer from its cache), else tokens by price, else unknown."""
    told = None if not metadata else metadata.get("total_cost")
    if isinstance(told, (int, float)):
        return float(told) if told >= 0 else None
    return priced(usage, price)
