"""What a decision rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agentroute.types import Decision, Query

__all__ = ["Explanation", "Neighbour"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A logged query near the one that was asked.

    Attributes:
        query: Its id and labels, and its text when the estimator keeps prompts.
        similarity: Cosine similarity in [-1, 1].
        quality: Observed quality of each model that answered it.
        cost: Billed USD of each model that answered it.
    """

    query: Query
    similarity: float
    quality: Mapping[str, float]
    cost: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A decision and what it rests on.

    Attributes:
        decision: As `Router.route` gives it.
        similarity: Mean cosine of the nearest logged queries; `None` = the estimator has no such notion.
        supported: Whether the query is like those of the log.
        neighbours: The nearest logged queries, nearest first.
    """

    decision: Decision
    similarity: float | None
    supported: bool
    neighbours: tuple[Neighbour, ...]
