"""What is expected, and what is decided."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.types._arrays import Matrix
from agentroute.types._shared import new_id

__all__ = ["Candidate", "DecidedBy", "Decision", "Estimate", "Paradigm"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Estimate:
    """What an estimator expects of every model for every query.

    Attributes:
        models: Column names.
        quality: float64 [n, m] in [0, 1]; NaN = no idea.
        quality_std: float64 [n, m], standard error of `quality`.
        cost: float64 [n, m], USD a call; NaN = unknown.
        latency: float64 [n, m], seconds; NaN = unknown.
        support: float64 [n, m], effective number of observations of that model behind the estimate.
        similarity: float64 [n], mean cosine of the nearest logged queries; NaN where the estimator has no such notion.
        supported: bool [n], whether the query is like those that the estimator has learned from.
        neighbours: int64 [n, k], rows of the fitted table, nearest first, -1 = none; `None` = not a neighbour method.
    """

    models: tuple[str, ...]
    quality: Matrix
    quality_std: Matrix
    cost: Matrix
    latency: Matrix
    support: Matrix
    similarity: npt.NDArray[np.float64]
    supported: npt.NDArray[np.bool_]
    neighbours: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.quality)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paradigm:
    """The survey's three dimensions of a routing decision (Moslem and Kelleher 2026, arXiv:2603.04445).

    Attributes:
        when: `"pre-generation"`, `"post-generation"`, or `"multi-stage"`.
        what: The information used: `"text"`, `"embedding"`, `"labels"`, `"logged outcomes"`, `"cost"`, `"budget"` …
        how: The computation: `"lookup"`, `"regression"`, `"threshold"`, `"optimisation"`, `"bandit"`, `"rule"`.
    """

    when: str
    what: tuple[str, ...]
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One eligible model of a decision.

    Attributes:
        model: Its id.
        quality: Expected quality in [0, 1]; `None` = no idea.
        cost: Expected USD; `None` = unknown.
        latency: Expected seconds; `None` = unknown.
        utility: What the policy ranks by; `None` = not scored.
        support: Effective number of observations behind the estimate.
    """

    model: str
    quality: float | None = None
    cost: float | None = None
    latency: float | None = None
    utility: float | None = None
    support: float = 0.0


DecidedBy: TypeAlias = Literal["policy", "default", "forced", "sticky", "allocated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Which model should answer, and why.

    Attributes:
        model: The chosen model's id.
        candidates: Every eligible model, best first; the chosen one leads. Failover follows this order.
        reason: One sentence for people.
        by: `"policy"`; `"default"` = thin support, no log or a failed router; `"forced"` and `"sticky"` = the caller's;
            `"allocated"` = what the role of a team was given.
        propensity: Probability with which the policy chose this model; 1 for a deterministic policy.
        paradigm: The decision's when, what and how.
        id: The key under which outcomes and feedback refer to it.
    """

    model: str
    candidates: tuple[Candidate, ...]
    reason: str
    by: DecidedBy = "policy"
    propensity: float = 1.0
    paradigm: Paradigm
    id: str = field(default_factory=new_id)

    @property
    def ranking(self) -> tuple[str, ...]:
        """The candidates' ids, best first."""
        return tuple(candidate.model for candidate in self.candidates)

    @property
    def chosen(self) -> Candidate:
        """What is expected of the chosen model."""
        return next(one for one in self.candidates if one.model == self.model)
