"""Replays decisions on a table of observed outcomes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError
from agentroute.evaluation._intervals import Interval, bootstrap, means
from agentroute.outcomes import OutcomeTable
from agentroute.policies import Policy
from agentroute.router import Router

__all__ = ["Evaluation", "Row", "evaluate"]

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One way to choose models, replayed.

    Attributes:
        name: What it is called.
        quality: Mean quality of the chosen answers.
        cost: Mean USD a query.
        latency: Mean seconds a query.
        gain: Mean quality less that of the best single model, paired by query.
        shares: Share of the queries that each model answered.
    """

    name: str
    quality: Interval
    cost: Interval
    latency: Interval
    gain: Interval
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Baselines and policies on the same queries.

    Attributes:
        rows: `cheapest`, `best single`, one row for each policy, then `oracle` (the best observed answer of each query, the
            cheaper one on a tie: an upper bound that also picks lucky answers, so that no router reaches it).
        queries: How many queries were replayed: those that every model of the pool has answered.
        coverage: Their share of the held-out queries.
        cheapest: The model of least mean cost on the reference table.
        best_single: The model of highest mean quality there.
    """

    rows: tuple[Row, ...]
    queries: int
    coverage: float
    cheapest: str
    best_single: str

    def __getitem__(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)


def evaluate(
    router: Router,
    table: OutcomeTable,
    *,
    policies: Mapping[str, Policy] | None = None,
    reference: OutcomeTable | None = None,
    seed: int = 0,
) -> Evaluation:
    """Replays a fitted router on outcomes that it has not seen.

    Args:
        router: The router; it must not have been fitted on `table`.
        table: Held-out outcomes. Only queries that every model of the pool has answered are replayed: on any other, one way
            of choosing would be judged by other queries than the next.
        policies: Policies to compare by name; `None` = the router's own, as `"routed"`.
        reference: Where the single-model baselines are chosen, normally the training part; `None` = `table` itself, which
            favours the best single model.
        seed: Of the bootstrap.

    Raises:
        DataError: No query has been answered by every model of the pool, or the reference holds no scores.
        ConfigError: A policy bears a baseline's name.
    """
    models = router.pool.ids
    held_out = len(table)
    missing = [model for model in models if model not in table.models]
    columns = [table.models.index(model) for model in models if model in table.models]
    complete = np.isfinite(table.quality[:, columns]).all(axis=1)
    if missing or not complete.any():
        who = f"no outcome of {missing[0]!r}" if missing else "no query that every model of the pool has answered"
        raise DataError(
            f"the table holds {who}, so that nothing can be compared: ask all models the same questions (agentroute collect)"
        )
    table = table.take(np.flatnonzero(complete))
    quality, cost, latency = (part[:, columns] for part in (table.quality, table.cost, table.latency))
    chosen_on = table if reference is None else reference
    means = [_means(chosen_on, models, part) for part in ("quality", "cost")]
    if not np.isfinite(means[0]).any():
        raise DataError("the reference table holds no quality of any model of the pool: give the training part of the log")
    best = int(np.nanargmax(means[0]))
    cheapest = int(np.nanargmin(means[1])) if np.isfinite(means[1]).any() else best
    asked = list(table.queries)
    if table.embeddings is not None:
        # A log without prompts has its vectors to route by, and one with prompts need not be embedded again.
        asked = [replace(q, embedding=v, fingerprint=table.fingerprint) for q, v in zip(asked, table.embeddings, strict=True)]
    picks: dict[str, Rows] = {"cheapest": np.full(len(table), cheapest), "best single": np.full(len(table), best)}
    for name, policy in (policies or {"routed": router.policy}).items():
        if name in {"cheapest", "best single", "oracle"}:
            raise ConfigError(f"a policy cannot be called {name!r}: that is a baseline's name")
        decisions = router.route_many(asked, policy=policy)
        picks[name] = np.array([router.pool.index(decision.model) for decision in decisions], np.int64)
    picks["oracle"] = _oracle(quality, cost)
    at = np.arange(len(table))
    stacked = [np.stack([part[at, pick] for pick in picks.values()], axis=1) for part in (quality, cost, latency)]
    stacked.append(stacked[0] - quality[:, [best]])
    drawn = [bootstrap(means(part), len(table), seed=seed) for part in stacked]
    return Evaluation(
        rows=tuple(
            Row(
                name=name,
                quality=drawn[0][row],
                cost=drawn[1][row],
                latency=drawn[2][row],
                gain=drawn[3][row],
                shares={models[j]: count / len(table) for j, count in sorted(Counter(pick.tolist()).items())},
            )
            for row, (name, pick) in enumerate(picks.items())
        ),
        queries=len(table),
        coverage=len(table) / held_out,
        cheapest=models[cheapest],
        best_single=models[best],
    )


def _means(table: OutcomeTable, models: tuple[str, ...], part: str) -> Floats:
    values = getattr(table, part)
    columns = [table.models.index(model) if model in table.models else None for model in models]
    means = [math.nan if j is None or not np.isfinite(values[:, j]).any() else np.nanmean(values[:, j]) for j in columns]
    return np.array(means, np.float64)


def _oracle(quality: Floats, cost: Floats) -> Rows:
    best = quality.max(axis=1, keepdims=True)
    price = np.where(np.isfinite(cost), cost, np.inf)
    # An answer of unknown cost loses a tie against any other, and still beats a worse answer.
    rank = np.where(quality >= best, np.minimum(price, np.finfo(np.float64).max), np.inf)
    return np.asarray(np.argmin(rank, axis=1), np.int64)
