"""The routing record: what a message says about how its model was chosen, in plain JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage

from agentroute.cascades import Attempt, CascadeResult
from agentroute.types import Decision, Price, Usage
from langchain_agentroute._messages import RECORD

__all__ = [
    "billed",
    "cascade_record",
    "check_record",
    "number",
    "record_of",
    "routing_decision",
    "stamped",
    "totals_in",
    "totals_of",
    "usage_of",
]


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


def record_of(
    decision: Decision, attempts: Sequence[Attempt[Any]], *, answered_by: str | None, fallback: bool, routing_latency: float
) -> dict[str, Any]:
    """The record of one call. Numbers of any library become Python's own: the record must survive `json.dumps`."""
    return {
        "decision_id": decision.id,
        "model": decision.model,
        "answered_by": answered_by,
        "by": decision.by,
        "reason": _told(decision.reason, attempts, answered_by),
        "propensity": number(decision.propensity),
        "fallback": fallback,
        "candidates": [
            {
                "model": one.model,
                "quality": number(one.quality),
                "cost": number(one.cost),
                "latency": number(one.latency),
                "utility": number(one.utility),
                "support": number(one.support),
            }
            for one in decision.candidates
        ],
        "attempts": [
            {
                "model": one.model,
                "error": None if one.error is None else type(one.error).__name__,
                "usage": None if one.usage is None else _usage_record(one.usage),
                "cost": number(one.cost),
                "latency": number(one.latency),
            }
            for one in attempts
        ],
        "routing_latency": routing_latency,
    }


def cascade_record(record: dict[str, Any], result: CascadeResult[Any]) -> dict[str, Any]:
    """The record of a cascade: the record of its calls, with what was thought of each answer, and the totals."""
    chosen = result.chosen % len(result.attempts)
    attempts = []
    rejected = []
    for index, (told, attempt) in enumerate(zip(record["attempts"], result.attempts, strict=True)):
        accepted = result.accepted and index == chosen
        attempts.append({**told, **check_record(attempt), "accepted": accepted})
        if attempt.error is None and not accepted:
            rejected.append(f"{attempt.model} was not accepted ({_why(attempt)})")
    reason = "; ".join([record["reason"], *rejected])
    if not result.accepted:
        reason += f"; nothing better came than the answer of {result.model}"
    return {**record, "reason": reason, "attempts": attempts, "accepted": result.accepted, **totals_of(result)}


def _why(attempt: Attempt[Any]) -> str:
    if attempt.check_error is not None:
        return f"its check failed: {type(attempt.check_error).__name__}"
    return "unchecked" if attempt.score is None else f"score {attempt.score.value:.2g}"


def check_record(attempt: Attempt[Any]) -> dict[str, Any]:
    """What was thought of an answer."""
    score = attempt.score
    return {
        "score": None if score is None else number(score.value),
        "reason": None if score is None else score.reason or None,
        "check_error": None if attempt.check_error is None else type(attempt.check_error).__name__,
        "check_cost": None if score is None else number(score.cost),
        "check_latency": number(attempt.check_latency),
    }


def totals_of(result: CascadeResult[Any]) -> dict[str, Any]:
    """What all calls and checks have taken together."""
    usage = result.usage
    return {"total_cost": number(result.cost), "total_usage": None if usage is None else _usage_record(usage)}


def totals_in(record: Any) -> dict[str, Any] | None:
    """The totals of the cascade within, where there is one, in the record of a candidate's answer."""
    while isinstance(record, Mapping):
        if "total_cost" in record:
            return {name: record.get(name) for name in ("total_cost", "total_usage")}
        record = record.get("via")
    return None


def _told(reason: str, attempts: Sequence[Attempt[Any]], answered_by: str | None) -> str:
    """Why the model was chosen and, when it failed, why another one answered."""
    failed = ", ".join(f"{one.model} failed ({type(one.error).__name__})" for one in attempts if one.error is not None)
    if not failed:
        return reason
    return f"{reason}; {failed}" if answered_by is None else f"{reason}; {failed}, so {answered_by} answered"


def number(value: Any) -> float | None:
    """A finite number of any library as Python's own; `None` = it is none."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def _usage_record(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
    }


def stamped(answer: Any, record: dict[str, Any]) -> Any:
    """The answer with the record on it: a message, or the raw message of a structured answer; else the answer as it is.

    The candidate's message is copied, never edited: its cache may hold the very same object. All that the provider put
    there stays; a record of a routed candidate stays under `via`.
    """
    if isinstance(answer, BaseMessage):
        metadata = answer.response_metadata
        inner = metadata.get(RECORD)
        if inner is not None:
            record = {**record, "via": inner}
        return answer.model_copy(update={"response_metadata": {**metadata, RECORD: record}})
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
    if usage is None or price is None:
        return None
    if usage.cache_read_tokens + usage.cache_write_tokens > usage.input_tokens:
        # More cached tokens than tokens: no figure made of this would be a known cost.
        return None
    return price.cost(usage)
