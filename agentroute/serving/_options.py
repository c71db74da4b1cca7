"""The arguments that every routed model has, whatever the framework: checked, and put to use."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from agentroute.cascades import Limits
from agentroute.errors import ConfigError
from agentroute.scorers import Scorer

__all__ = ["check_cascade", "check_log", "check_names", "record_feedback"]

# Ours are 32 hexadecimal digits; a router of the caller's may make others.
_DECISION_ID = re.compile(r"[\w\-:.]{8,128}")


def check_names(given: Iterable[str], known: Container[str], meant: Mapping[str, str], what: str) -> None:
    """Refuses a misspelt argument. Other unknown ones pass: frameworks hand `temperature` and the like to any model.

    Args:
        given: Names of the arguments.
        known: Those that there are.
        meant: Names that a misspelt one may be close to, and what each is called.
        what: Whose arguments they are.

    Raises:
        ConfigError: One is unknown and close to a name in `meant`.
    """
    for name in given:
        close = [] if name in known else get_close_matches(name, meant, n=1, cutoff=0.75)
        if close:
            raise ConfigError(f"{what} has no argument {name!r}: did you mean {meant[close[0]]!r}?")


def check_log(log: Any) -> None:
    """Refuses what is no outcome log.

    Raises:
        ConfigError: It is a path, or has no `append`.
    """
    if isinstance(log, (str, os.PathLike)):
        raise ConfigError(f"outcome_log={log!r} is a path: open it, outcome_log=SqliteOutcomeLog({os.fspath(log)!r})")
    if log is not None and not callable(getattr(log, "append", None)):
        raise ConfigError(f"outcome_log={log!r} has no append(outcome): pass a log such as SqliteOutcomeLog(path)")


def check_cascade(*, judge: Scorer | None, router: Any, threshold: Any, default: Any, limits: Limits) -> None:
    """Refuses settings of a cascade that do not go together.

    Args:
        judge: Who scores.
        router: Who plans.
        threshold: The least score that is good enough.
        default: The threshold that stands where nobody sets one, which is no wish of the caller's.
        limits: What a query may take.

    Raises:
        ConfigError: Nothing reads the threshold, or a limit on cost cannot be kept.
    """
    if threshold != default and (judge is None or router is not None):
        whose = "there is no judge= that gives a score" if router is None else "the router= knows itself what is good enough"
        raise ConfigError(f"nothing reads threshold={threshold!r}: {whose}")
    if limits.max_cost is not None and judge is not None and judge.ceiling is None:
        raise ConfigError(
            f"max_cost=${limits.max_cost:g} cannot be kept: nobody knows the most that the judge {judge.name!r} costs; give "
            "its ceiling=, or take a scorer that asks no model"
        )


def record_feedback(log: Any, answer: str | Mapping[str, Any] | None, score: float, *, source: str, key: str | None) -> bool:
    """Tells a log how good an answer was.

    Args:
        log: The log; `None` = there is none.
        answer: The routing record of the answer, `None` when it carries none, or the id of the decision.
        score: In [0, 1].
        source: Who says so.
        key: Feedback with a key that was seen before changes nothing.

    Returns:
        Whether it was queued for the log, which counts a key once in any case.

    Raises:
        ConfigError: There is no outcome log, the answer carries no record, or the text is no id.
        DataError: The score is outside [0, 1].
    """
    if log is None:
        raise ConfigError("there is no outcome log to take the feedback: pass outcome_log=SqliteOutcomeLog(...)")
    if answer is None:
        raise ConfigError("this answer carries no routing record: pass an answer of a routed model, or its decision_id")
    if isinstance(answer, Mapping):
        decision_id = str(answer["decision_id"])
    elif _DECISION_ID.fullmatch(answer) is None:
        raise ConfigError(
            f"{answer[:40]!r} is no decision id: pass the answer itself, or the decision_id of its routing record; "
            "what gives the text alone, such as a parser, has dropped both"
        )
    else:
        decision_id = answer
    queued: bool = log.feedback(decision_id, score, source=source, idempotency_key=key)
    return queued
