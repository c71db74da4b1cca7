"""The routing record: what an answer says about how its model was chosen, in plain JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from agentroute.cascades import Attempt, CascadeResult
from agentroute.serving._turns import RECORD
from agentroute.types import Decision, Price, Usage

__all__ = ["cascade_record", "check_record", "number", "priced", "record_of", "stamp", "totals_in", "totals_of"]


def record_of(
    decision: Decision, attempts: Sequence[Attempt[Any]], *, answered_by: str | None, fallback: bool, routing_latency: float
) -> dict[str, Any]:
    """The record of one call: plain JSON values, for numbers of any library become Python's own.

    Returns:
        The record:

        * `decision_id`: for feedback
        * `model`, `by`, `reason`, `propensity`: what was chosen, by what, why, and with which probability; after failures
          the reason names them too
        * `answered_by`: who answered in the end; `None` when somebody else gave the answer in the model's place
        * `fallback`: whether the router failed, so that the default was taken
        * `candidates`: `model`, `quality`, `cost` (USD), `latency` (s), `utility`, `support` of each, best first
        * `attempts`: `model`, `error`, `usage`, `cost` (USD), `latency` (s) of each call made
        * `routing_latency`: seconds that the decision took
    """
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


def stamp(metadata: Mapping[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """A message's metadata with the record in it; a record of a routed candidate stays, under `via`."""
    inner = metadata.get(RECORD)
    return {**metadata, RECORD: record if inner is None else {**record, "via": inner}}


def priced(usage: Usage | None, price: Price | None) -> float | None:
    """USD of a call's tokens; `None` = unknown."""
    if usage is None or price is None:
        return None
    if usage.cache_read_tokens + usage.cache_write_tokens > usage.input_tokens:
        # More cached tokens than tokens: no figure made of this would be a known cost.
        return None
    return price.cost(usage)
