"""What a log of outcomes is, and one that lives in memory."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from agentroute.errors import DataError
from agentroute.types import Outcome

__all__ = ["MemoryOutcomeLog", "OutcomeLog"]

SEVERAL_SOURCES = "feedback"
"""The `scorer` of an outcome whose feedback came from more than one source."""

CHOSEN = "chosen"
"""The key of an outcome's metadata that is true where its answer was given though a later model answered, too."""


@runtime_checkable
class OutcomeLog(Protocol):
    """Keeps outcomes, and joins the feedback that arrives after them.

    Appending one id twice stores it once, so that a caller may repeat a write whose end it did not see.
    """

    def append(self, outcome: Outcome, /) -> None:
        """Stores one outcome; what the log promises of its durability holds when this returns."""

    def extend(self, outcomes: Iterable[Outcome], /) -> None:
        """Stores outcomes together: all of them, or none."""

    def feedback(self, decision_id: str, score: float, /, *, source: str = "user", idempotency_key: str | None = None) -> bool:
        """Judges the answer that a decision led to, whether or not its outcome has been written yet.

        The score replaces the quality of that decision's outcome that answered: the one whose metadata say `"chosen": true`, as a
        cascade marks the answer that it gave, even if that broke on its way to the reader; else, of those without an error, the
        highest attempt.
        Several scores are averaged.

        Args:
            decision_id: The decision (`Outcome.decision_id`).
            score: How good the answer was, in [0, 1].
            source: Who judged it.
            idempotency_key: Two calls with one key count once; by default one per decision and source, so that each
                source has one vote, its first.

        Returns:
            `True` when the feedback is new, `False` when its key has been seen.

        Raises:
            DataError: The score is outside [0, 1].
        """

    def __iter__(self) -> Iterator[Outcome]:
        """The outcomes in the order in which they were stored, feedback applied."""

    def __len__(self) -> int:
        """Number of outcomes."""


def checked_score(score: float) -> float:
    """The score as a float.

    Raises:
        DataError: It is not a number in [0, 1].
    """
    if not 0.0 <= score <= 1.0:  # NaN fails too
        msg = f"a feedback score must be in [0, 1], not {score!r}: rescale it (thumbs up = 1, thumbs down = 0)"
        raise DataError(msg)
    return float(score)


def feedback_key(decision_id: str, source: str) -> str:
    """The idempotency key of feedback that brings none: one vote for each source."""
    return f"{source}:{decision_id}"


@dataclass(frozen=True, slots=True)
class _Vote:
    decision_id: str
    score: float
    source: str


class MemoryOutcomeLog:
    """An `OutcomeLog` in memory, for tests, notebooks and short runs; it ends with the process.

    It may be shared by threads: each change is one operation on a dict, so that there is no lock to hold over a fork.

    >>> from agentroute.types import Query
    >>> log = MemoryOutcomeLog()
    >>> log.append(Outcome(query=Query(text="2 + 2?"), model="small", decision_id="d1"))
    >>> log.feedback("d1", 1.0), log.feedback("d1", 0.0)
    (True, False)
    >>> [outcome.quality for outcome in log]
    [1.0]
    """

    def __init__(self) -> None:
        self._outcomes: dict[str, Outcome] = {}
        self._votes: dict[str, _Vote] = {}

    def append(self, outcome: Outcome, /) -> None:
        """Keeps one outcome, unless its id is known."""
        self._outcomes.setdefault(outcome.id, outcome)

    def extend(self, outcomes: Iterable[Outcome], /) -> None:
        """Keeps outcomes; when the iterable raises, none of them."""
        for outcome in list(outcomes):
            self.append(outcome)

    def feedback(self, decision_id: str, score: float, /, *, source: str = "user", idempotency_key: str | None = None) -> bool:
        """Judges the answer of a decision; see `OutcomeLog.feedback`."""
        vote = _Vote(decision_id, checked_score(score), source)
        return self._votes.setdefault(idempotency_key or feedback_key(decision_id, source), vote) is vote

    def __iter__(self) -> Iterator[Outcome]:
        """The outcomes as they are now; what is added while iterating does not appear."""
        outcomes = list(self._outcomes.values())
        votes: defaultdict[str, list[_Vote]] = defaultdict(list)
        for vote in list(self._votes.values()):
            votes[vote.decision_id].append(vote)
        answered: dict[str, Outcome] = {}
        for outcome in outcomes:
            decision = outcome.decision_id
            if decision is not None and decision in votes and (outcome.error is None or _chosen(outcome)):
                best = answered.get(decision)
                if best is None or _rank(outcome) >= _rank(best):
                    answered[decision] = outcome
        for outcome in outcomes:
            decision = outcome.decision_id
            if decision is not None and answered.get(decision) is outcome:
                yield _judged(outcome, votes[decision])
            else:
                yield outcome

    def __len__(self) -> int:
        """Number of outcomes."""
        return len(self._outcomes)

    def __repr__(self) -> str:
        """The number of outcomes."""
        return f"MemoryOutcomeLog({len(self)} outcomes)"


def _rank(outcome: Outcome) -> tuple[bool, int]:
    return _chosen(outcome), outcome.attempt


def _chosen(outcome: Outcome) -> bool:
    return outcome.metadata.get(CHOSEN) is True


def _judged(outcome: Outcome, votes: list[_Vote]) -> Outcome:
    sources = {vote.source for vote in votes}
    quality = math.fsum(vote.score for vote in votes) / len(votes)
    return replace(outcome, quality=quality, scorer=sources.pop() if len(sources) == 1 else SEVERAL_SOURCES)
