"""Runs a pool of models over tasks and logs every outcome; a second run goes on where the first one stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from agentroute.collection._answerers import Answer, Answerer
from agentroute.collection._tasks import Task
from agentroute.collection._verifiers import verify
from agentroute.errors import ConfigError
from agentroute.outcomes import OutcomeLog
from agentroute.types import Outcome, Price

__all__ = ["CollectReport", "Progress", "collect", "outcome_of"]

Progress: TypeAlias = Callable[[int, int, Outcome], None]
"""Told after each call: calls done (those of earlier runs included), calls in all, and what just happened."""

_GIVE_UP_AFTER = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectReport:
    """What a run did.

    Attributes:
        answered: Calls of this run that were answered and scored.
        failed: Calls of this run that raised; the next run tries them again.
        skipped: Pairs of task and model that the log held already.
        given_up: Models that failed five times in a row and were not asked again.
    """

    answered: int
    failed: int
    skipped: int
    given_up: tuple[str, ...]


def outcome_of(task: Task, model: str, answer: Answer, *, price: Price | None = None) -> Outcome:
    """The scored outcome of one answer. Its id follows from task and model, so that storing it twice stores it once."""
    key = hashlib.blake2b(f"{task.id}\0{model}".encode(), digest_size=16).hexdigest()
    return Outcome(
        id=key,
        query=task.query,
        model=model,
        quality=verify(answer.text, task.verifier),
        cost=price.cost(answer.usage) if price is not None and answer.usage is not None else None,
        latency=answer.latency,
        usage=answer.usage,
        scorer="verifier",
        at=datetime.now(UTC),
        metadata={
            "answer": answer.text,
            "logprob": answer.logprob,
            "cpu_seconds": answer.cpu_seconds,
            "finish": answer.finish,
            "verifier": dict(task.verifier),
            "max_tokens": task.max_tokens,
        },
    )


def collect(
    tasks: Iterable[Task],
    models: Mapping[str, Answerer],
    log: OutcomeLog,
    /,
    *,
    prices: Mapping[str, Price] | None = None,
    on_progress: Progress | None = None,
) -> CollectReport:
    """Asks every model every task, one call at a time, and appends each outcome before the next call.

    Pairs that the log holds with an answer are skipped, so that a killed run loses the call in flight and no other.
    A call that raises is logged with its error and tried again by the next run.

    Args:
        tasks: The questions, with unique ids.
        models: The models by the id that the log shall know them by.
        log: Where outcomes go. Open it with `store_prompts=True` to keep the questions.
        prices: Prices by model id; without one the cost stays unknown.
        on_progress: Told after each call.

    Returns:
        What was done. All models are asked a task before the next task, so that a partial log is balanced.

    Raises:
        ConfigError: There is no model, or the log knows another question or verifier under the id of a task.
        StorageError: The log cannot be written.
    """
    if not models:
        raise ConfigError("give at least one model to collect from")
    todo = list(tasks)
    done = _answered(todo, log)
    pairs = [(task, model) for task in todo for model in models]
    open_pairs = [(task, model) for task, model in pairs if (task.id, model) not in done]
    skipped = len(pairs) - len(open_pairs)
    in_a_row = dict.fromkeys(models, 0)
    answered = failed = 0
    for task, model in open_pairs:
        if in_a_row[model] >= _GIVE_UP_AFTER:
            continue
        price = (prices or {}).get(model)
        outcome = _call(task, model, models[model], price)
        log.append(outcome)
        if outcome.error is None:
            answered, in_a_row[model] = answered + 1, 0
        else:
            failed, in_a_row[model] = failed + 1, in_a_row[model] + 1
        if on_progress is not None:
            on_progress(skipped + answered + failed, len(pairs), outcome)
    given_up = tuple(model for model, count in in_a_row.items() if count >= _GIVE_UP_AFTER)
    return CollectReport(answered=answered, failed=failed, skipped=skipped, given_up=given_up)


def _answered(tasks: Iterable[Task], log: OutcomeLog) -> set[tuple[str, str]]:
    """Pairs of task id and model that the log holds with an answer, once it is sure that these are the same tasks."""
    known = {task.id: task for task in tasks}
    done = set()
    for outcome in log:
        key = outcome.query.key()
        if key in known and (changed := _changed(known[key], outcome)):
            raise ConfigError(f"the log holds the task {key!r} with another {changed}: give the task a new id, or collect anew")
        if outcome.error is None and outcome.quality is not None:
            done.add((key, outcome.model))
    return done


def _changed(task: Task, outcome: Outcome) -> str | None:
    """What of the task is not as it was logged, so far as the log knows it: a log without prompts cannot tell."""
    if outcome.query.text and outcome.query.text != task.prompt:
        return "prompt"
    verifier = outcome.metadata.get("verifier")
    return "verifier" if verifier is not None and _canonical(verifier) != _canonical(task.verifier) else None


def _canonical(verifier: Mapping[str, Any]) -> str:
    """The verifier as text, the same before and after it was stored."""
    return json.dumps(verifier, sort_keys=True, default=repr)


def _call(task: Task, model: str, answerer: Answerer, price: Price | None) -> Outcome:
    try:
        answer = answerer.answer(task.prompt, task.max_tokens)
    except Exception as error:  # a model may fail in any way; the failure is an outcome, and the run goes on
        return Outcome(
            query=task.query,
            model=model,
            error=type(error).__name__,
            at=datetime.now(UTC),
            metadata={"message": str(error)[:500]},
        )
    return outcome_of(task, model, answer, price=price)
