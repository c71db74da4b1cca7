"""What stands beside every evaluated router: ways to choose that need none, and bounds that no router reaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError, MissingExtraError
from agentroute.estimators import Estimator, LogisticEstimator, MLPEstimator
from agentroute.index import VectorIndex
from agentroute.outcomes import OutcomeTable
from agentroute.types import Query

__all__ = ["BASELINES", "Arena", "Options", "Unavailable", "luck", "option_counts", "oracle", "stable", "standing"]

Floats: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = npt.NDArray[np.int64]
Options: TypeAlias = "int | Mapping[str, int] | Sequence[float] | npt.NDArray[np.float64]"
"""Answers to choose from: of every query, by task, or float64 [n] with NaN = an open question."""

NEIGHBOURS = 5
"""Of plain kNN, as RouterEval (arXiv:2503.10657) has it."""
PSEUDO_COUNTS = 5.0
"""How many queries of average success a task's mean is mixed with, so that a task of two queries decides nothing."""
ENOUGH_ROWS = 30
"""Scores that a model needs to be the best single one, as many as a router asks for: one lucky answer makes no champion."""
_EQUAL = 1e-9
STABLE_SHARE, STABLE_SAMPLES = 0.8, 5
"""A model answers a query stably when at least this share of at least so many samples is right (Srivatsa et al. 2024)."""


class Unavailable(Exception):  # noqa: N818 - not an error: it is noted, and the evaluation goes on
    """A baseline that cannot be had here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arena:
    """One fold, ready to choose on.

    Attributes:
        train: What may be learned from; `None` = nothing.
        test: Complete rows.
        queries: Those of `test`, with their vectors where there are any.
        means: float64 [m], mean quality of each model where the baselines are chosen; NaN = not to be chosen.
        costs: float64 [m], mean USD there; NaN = unknown.
        single: The column of the single model to compare with; `None` = the best one here.
    """

    train: OutcomeTable | None
    test: OutcomeTable
    queries: Sequence[Query]
    means: Floats
    costs: Floats
    single: int | None = None

    @property
    def best(self) -> int:
        """The column of the best single model; of equally good ones, the cheapest."""
        if self.single is not None:
            return self.single
        top = self.means >= np.nanmax(self.means) - _EQUAL
        return int(np.where(top, np.nan_to_num(self.costs, nan=np.finfo(np.float64).max), np.inf).argmin())

    @property
    def cheapest(self) -> int:
        """The column of the cheapest model; the best one where no cost is known."""
        return self.best if np.isnan(self.costs).all() else int(np.nanargmin(self.costs))

    def always(self, column: int) -> Floats:
        """float64 [n, m]: that model for every query."""
        return self.chosen(np.full(len(self.test), column))

    def chosen(self, picks: npt.ArrayLike) -> Floats:
        """float64 [n, m]: each query's picked column."""
        return np.eye(len(self.test.models))[np.asarray(picks, np.int64)]

    def argmax(self, quality: Floats) -> Floats:
        """The model of the highest expectation; ties within 1e-6 to the better mean, no expectation at all to the best single."""
        score = np.where(np.isnan(quality), -np.inf, np.round(quality, 6) + 1e-7 * np.nan_to_num(self.means))
        picks = np.where(np.isfinite(score).any(axis=1), score.argmax(axis=1), self.best)
        return self.chosen(picks)


def standing(table: OutcomeTable) -> tuple[Floats, Floats]:
    """float64 [m] twice: mean quality and mean cost of each model, on the same queries where there are enough.

    A model that was asked the easy questions only would look best otherwise. Where fewer than 30 queries have the scores of
    all, each model stands by its own queries, if they are 30 or more; where no model has as many, all stand as they are.
    """
    means = _alike(table.quality)
    counts = np.isfinite(table.quality).sum(axis=0)
    few = counts < ENOUGH_ROWS
    return np.where(few & ~few.all(), np.nan, means), _alike(table.cost)


def _alike(values: Floats) -> Floats:
    known = values[:, np.isfinite(values).any(axis=0)]
    rows = np.isfinite(known).all(axis=1)
    seen: npt.NDArray[np.bool_] = np.isfinite(values)
    if rows.sum() >= ENOUGH_ROWS:
        seen = seen & rows.reshape(-1, 1)
    count = seen.sum(axis=0)
    total = np.where(seen, values, 0.0).sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0), np.float64)


def _learned(arena: Arena) -> OutcomeTable:
    if arena.train is None:
        raise Unavailable("nothing to learn from: give reference=, the training part, or a split")
    return arena.train


def _vectors(arena: Arena) -> OutcomeTable:
    train = _learned(arena)
    if train.embeddings is None or arena.test.embeddings is None:
        raise Unavailable("the queries have no vectors")
    return train


def random(arena: Arena) -> Floats:
    """Every model with the same chance: its figures are expectations."""
    return np.full(arena.test.quality.shape, 1.0 / len(arena.test.models))


def cheapest(arena: Arena) -> Floats:
    """Always the model of least mean cost."""
    if np.isnan(arena.costs).all():
        raise Unavailable("costs are unknown")
    return arena.always(arena.cheapest)


def best_single(arena: Arena) -> Floats:
    """Always the model of highest mean quality in the training part."""
    return arena.always(arena.best)


def task_lookup(arena: Arena) -> Floats:
    """The best model of the query's task (or other labels) in the training part; of a new task, the best single model."""
    train = _learned(arena)
    names = [_label(query) for query in train.queries]
    if not any(names):
        raise Unavailable("no query has a task or another label")
    quality, place = train.quality, {name: row for row, name in enumerate(dict.fromkeys(names))}
    rows = np.array([place[name] for name in names])
    seen = np.isfinite(quality)
    total, count = np.zeros((len(place), quality.shape[1])), np.zeros((len(place), quality.shape[1]))
    np.add.at(total, rows, np.where(seen, quality, 0.0))
    np.add.at(count, rows, seen)
    table = np.vstack([(total + PSEUDO_COUNTS * arena.means) / (count + PSEUDO_COUNTS), arena.means])  # NaN = not to be chosen
    return arena.argmax(table[[place.get(_label(query), -1) for query in arena.queries]])


def _label(query: Query) -> str:
    return query.task or "\0".join(query.labels)


def plain_knn(arena: Arena) -> Floats:
    """The best mean over the five nearest training queries: no shrinkage, no weights, what many routers ship."""
    train = _vectors(arena)
    if train.embeddings is None or arena.test.embeddings is None:
        raise AssertionError  # narrowed by _vectors; for the type checker
    near = VectorIndex(train.embeddings).search(arena.test.embeddings, min(NEIGHBOURS, len(train)))[1]
    quality = np.where((near >= 0)[:, :, None], train.quality[near], np.nan)
    seen = np.isfinite(quality)
    count = seen.sum(axis=1)
    found = np.where(seen, quality, 0.0).sum(axis=1)
    return arena.argmax(np.divide(found, count, out=np.full(found.shape, np.nan), where=count > 0))


def _head(make: Callable[[], Estimator]) -> Callable[[Arena], Floats]:
    def choose(arena: Arena) -> Floats:
        train = _vectors(arena)
        try:
            estimate = make().fit(train).predict(arena.queries)
        except (MissingExtraError, ConfigError) as error:
            raise Unavailable(str(error)) from error
        return arena.argmax(estimate.quality)

    return choose


BASELINES: Mapping[str, Callable[[Arena], Floats]] = {
    "random": random,
    "cheapest": cheapest,
    "best single": best_single,
    "task lookup": task_lookup,
    "plain kNN": plain_knn,
    "logistic": _head(LogisticEstimator),
    "MLP": _head(MLPEstimator),
}
"""Name → float64 [n, m], the chance of each model; `strongest` is chosen over all folds at once, with hindsight."""


def oracle(quality: Floats, cost: Floats) -> Rows:
    """int64 [n]: the best observed answer of each query, the cheaper one on a tie."""
    best = quality.max(axis=1, keepdims=True)
    price = np.where(np.isfinite(cost), cost, np.inf)
    # An answer of unknown cost loses a tie against any other, and still beats a worse answer.
    rank = np.where(quality >= best, np.minimum(price, np.finfo(np.float64).max), np.inf)
    return np.asarray(np.argmin(rank, axis=1), np.int64)


def stable(table: OutcomeTable) -> Floats:
    """float64 [n]: whether some model answered the query stably.

    NaN where a model was sampled too seldom to say, or where its samples are graded and not right or wrong.
    """
    right = table.quality * table.samples
    known = ((table.samples >= STABLE_SAMPLES) & (np.abs(right - np.round(right)) < 1e-3 * table.samples)).all(axis=1)
    return np.where(known, (table.quality >= STABLE_SHARE - 1e-9).any(axis=1), np.nan)


def option_counts(options: Options | None, table: OutcomeTable) -> Floats:
    """float64 [n]: answers to choose from, NaN = an open question.

    Raises:
        DataError: There are not as many as queries, or one has fewer than two.
    """
    n = len(table)
    if options is None:
        return np.full(n, np.nan)
    if isinstance(options, Mapping):
        counts = np.array([options.get(query.task or "", np.nan) for query in table.queries], np.float64)
    else:
        counts = np.asarray(options, np.float64)
        counts = np.full(n, counts) if counts.ndim == 0 else counts
    if counts.shape != (n,):
        raise DataError(f"options have the shape {counts.shape}, not ({n},): give one number, one a task, or one a query")
    if (counts < 2).any():
        raise DataError("a question has two options or more: give NaN, or leave its task out, where the answer is free")
    return counts


def luck(counts: Floats, models: int) -> Floats:
    """float64 [n]: chance that one of so many guessers hits, `1 - (1 - 1/options)^models`; NaN of an open question."""
    return np.asarray(1.0 - (1.0 - 1.0 / counts) ** models, np.float64)
