"""The FAISS kNN estimator."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, NotFittedError
from agentroute.estimators._base import Arrays, State, folds
from agentroute.estimators._kernel import FOLDS, Kernel, Tuning, allowed, held_out, spread, tune
from agentroute.estimators._rows import Rows
from agentroute.index import VectorIndex
from agentroute.outcomes import OutcomeTable
from agentroute.types import Estimate, Query

__all__ = ["KNNEstimator"]

Floats = npt.NDArray[np.float64]
_TUNABLE = 50  # rows below which cross-validation says nothing
_OPTIONS = ("k", "width", "min_rows", "support_quantile", "approximate_from", "keep_prompts", "seed")
_BLOCK = 512  # queries whose neighbours are gathered at once


class KNNEstimator:
    """Kernel-weighted nearest neighbours, shrunken toward what is known without them.

    For each model and each of quality, cost and latency

        estimate = prior(labels) + sum_i w_i (S_i - prior_i) / (sum_i w_i + a),   w_i = exp((cos_i - 1) / width)

    over the k nearest logged queries that observed the model. The prior is the model's mean, moved by the query's task, role
    and tags (`LabelPrior`). Plain voting over few neighbours loses to the best single model on most logs; the weight `a` of the
    prior is what keeps the promise never to do so by more than noise. Cost is the neighbours' billed cost, not a price times a
    guessed length.

    Args:
        k: Neighbours; `None` = chosen by cross-validation at `fit`, as are the next two.
        width: Kernel width in units of cosine similarity.
        prior_weight: Weight `a` of the prior, in units of identical neighbours; infinity = the prior alone.
        label_counts: Pseudo-counts by which label effects are shrunken; infinity = labels are ignored.
        min_rows: Below this many logged queries, no prediction counts as supported.
        support_quantile: A query is unsupported when its five nearest neighbours fall half as far again below the logged
            queries' median similarity to theirs as this quantile of the logged queries does.
        approximate_from: Rows from which single queries search an HNSW graph.
        keep_prompts: Keep the logged prompts' text for explanations; it is then saved with the router.
        seed: Of cross-validation.

    Attributes:
        models_: Column names.
        queries_: The logged queries, without vectors, in the order of `Estimate.neighbours`.
        kernel_: k, width and prior weight for queries with a label that the log knows.
        bare_kernel_: The same for queries without one.
        tuning_: What cross-validation saw; `None` when it had nothing to choose, or after loading.
        similarity_floor_: Least mean similarity of a supported query.

    Source: k-nearest-neighbour regression with shrinkage, the specification in sections 3.3 of the survey by Moslem and
    Kelleher (arXiv:2603.04445) and of RouterEval (arXiv:2503.10657), whose k=5 baseline loses to the best single model.
    """

    kind = "knn"
    what = ("embedding", "labels", "logged outcomes")
    uses_embeddings = True

    def __init__(
        self,
        *,
        k: int | None = None,
        width: float | None = None,
        prior_weight: float | None = None,
        label_counts: float = 5.0,
        min_rows: int = 30,
        support_quantile: float = 0.01,
        approximate_from: int = 20_000,
        keep_prompts: bool = False,
        seed: int = 0,
    ) -> None:
        self.k = k
        self.width = width
        self.prior_weight = prior_weight
        self.label_counts = label_counts
        self.min_rows = min_rows
        self.support_quantile = support_quantile
        self.approximate_from = approximate_from
        self.keep_prompts = keep_prompts
        self.seed = seed
        self._learning = threading.Lock()

    kernel_: Kernel
    bare_kernel_: Kernel
    tuning_: Tuning | None
    similarity_floor_: float
    residual_std_: Floats
    _index: VectorIndex
    _rows: Rows

    @property
    def models_(self) -> tuple[str, ...]:
        """Column names."""
        return self._fitted().models

    @property
    def queries_(self) -> tuple[Query, ...]:
        """The logged queries."""
        return self._fitted().queries

    def _fitted(self) -> Rows:
        try:
            return self._rows
        except AttributeError:
            msg = "this KNNEstimator is not fitted: call fit(table) first"
            raise NotFittedError(msg) from None

    def fit(self, table: OutcomeTable, /) -> Self:
        """Learns from a table with embeddings.

        Raises:
            ConfigError: The table has no embeddings, or an option is out of range.
        """
        self._check()
        vectors = _vectors(table)
        queries = tuple(self._kept(query) for query in table.queries)
        values = np.concatenate([table.quality, table.cost, table.latency], axis=1)
        index = VectorIndex(vectors, approximate_from=self.approximate_from)
        rng = np.random.default_rng(self.seed)
        probe = np.sort(rng.permutation(len(vectors))[:1000])
        # The query itself comes first among its neighbours; what a new query sees begins after it.
        near = index.search(vectors[probe], min(len(vectors), 21))[0][:, 1:]
        floor, unit = -1.0, 1.0
        if near.shape[1]:
            typical, least = np.quantile(near[:, :5].mean(axis=1), [0.5, self.support_quantile]).tolist()
            floor = typical - 1.5 * (typical - least)
            unit = spread(near)
        tuning = None
        if len(table) >= _TUNABLE:
            labels = [query.labels for query in queries]
            fixed = (self.k, self.width, self.prior_weight)
            tuning = tune(table.quality, labels, index, pseudo_counts=self.label_counts, fixed=fixed, seed=self.seed)
            kernel = bare = tuning.kernel
            residual_std = tuning.residual_std
            if any(labels) and np.isfinite(self.label_counts):
                # Where labels explain everything the neighbours may be told to add nothing; a query without them needs them.
                bare = tune(table.quality, [()] * len(table), index, pseudo_counts=np.inf, fixed=fixed, seed=self.seed).kernel
        else:
            kernel = bare = Kernel(k=self.k or 100, width=self.width or unit, prior_weight=_or(self.prior_weight, 10.0))
            residual_std = np.full(len(table.models), 0.5)
        rows = Rows.of(table.models, queries, values, self.label_counts)
        with self._learning:
            self._rows, self._index = rows, index
            self.kernel_, self.bare_kernel_, self.tuning_ = kernel, bare, tuning
            self.similarity_floor_, self.residual_std_ = floor, residual_std
        return self

    def partial_fit(self, table: OutcomeTable, /) -> Self:
        """Adds queries, outcomes and models; k, width and prior weight stay as they are until the next `fit`.

        A query that is known by its id takes the new values for the cells that are observed in `table`. A model that was not
        known becomes a new last column: a few hundred probe outcomes make it a candidate, without a rebuild.
        """
        with self._learning:
            old = self._fitted()
            models = old.models + tuple(model for model in table.models if model not in old.models)
            place = {query.key(): row for row, query in enumerate(old.queries)}
            fresh = [row for row, query in enumerate(table.queries) if query.key() not in place]
            vectors = _vectors(table)[fresh]
            if len(vectors) and vectors.shape[1] != self._index.vectors.shape[1]:
                msg = f"the new rows have {vectors.shape[1]}-d vectors, the fitted ones {self._index.vectors.shape[1]}-d"
                raise ConfigError(msg)
            queries = old.queries + tuple(self._kept(table.queries[row]) for row in fresh)
            place.update({query.key(): row for row, query in enumerate(queries)})
            values = np.full((len(queries), 3, len(models)), np.nan)
            values[: len(old.queries), :, : len(old.models)] = old.values.reshape(len(old.queries), 3, -1)
            columns = [models.index(model) for model in table.models]
            at = np.array([place[query.key()] for query in table.queries], np.int64)
            for part, news in enumerate((table.quality, table.cost, table.latency)):
                block = values[at[:, None], part, columns]
                values[at[:, None], part, columns] = np.where(np.isfinite(news), news, block)
            rows = Rows.of(models, queries, values.reshape(len(queries), -1), self.label_counts)
            std = np.full(len(models), float(np.nanmean(self.residual_std_)))
            std[: len(old.models)] = self.residual_std_
            # Rows first, vectors last: whoever finds a neighbour finds its row.
            self._rows, self.residual_std_ = rows, std
            self._index.add(vectors)
        return self

    def predict(self, queries: Sequence[Query], /) -> Estimate:
        """Estimates from the nearest logged queries; every query needs its `embedding`."""
        rows = self._fitted()
        if not queries:
            nothing = np.empty((0, self._index.vectors.shape[1]), np.float32)
            return self._estimate(nothing, np.empty((0, 3 * len(rows.models))), labelled=False)
        vectors = np.array([_embedding(query) for query in queries])
        dimension = self._index.vectors.shape[1]
        if vectors.shape[1] != dimension:
            msg = f"the query's vector has {vectors.shape[1]} dimensions, the fitted ones have {dimension}"
            raise ConfigError(msg)
        priors = [rows.prior.of(query.labels) for query in queries]
        labelled = np.array([known for _, known in priors], bool)
        prior = np.array([expected for expected, _ in priors])
        if labelled.all() or not labelled.any():
            return self._estimate(vectors, prior, labelled=bool(labelled[0]))
        with_, without = np.flatnonzero(labelled), np.flatnonzero(~labelled)
        parts = (
            self._estimate(vectors[with_], prior[with_], labelled=True),
            self._estimate(vectors[without], prior[without], labelled=False),
        )
        return _joined(parts, np.concatenate([with_, without]))

    def _estimate(self, vectors: npt.NDArray[np.float32], prior: Floats, *, labelled: bool) -> Estimate:
        """Estimates for queries that all have a known label, or all have none."""
        kernel = self.kernel_ if labelled else self.bare_kernel_
        # The vectors first, the rows after: `partial_fit` replaces them in the other order.
        similarity, neighbours = self._index.search(vectors, kernel.k)
        rows = self._rows
        m = len(rows.models)
        weights = kernel.weights(similarity)
        residual = rows.from_prior if labelled else rows.from_mean
        if rows.complete:
            total = _weighted(weights, residual, neighbours)
            mass, square = weights.sum(axis=1, keepdims=True), (weights * weights).sum(axis=1, keepdims=True)
        else:
            total, mass = _weighted(weights, residual, neighbours), _weighted(weights, rows.observed, neighbours)
            square = _weighted(weights * weights, rows.observed, neighbours)
        if prior.shape[1] != 3 * m:  # a model joined between the two looks at the rows
            prior = np.broadcast_to(rows.prior.mean, (len(vectors), 3 * m))
        values = np.maximum(np.minimum(prior + total / (mass + kernel.prior_weight), rows.high), rows.low)
        support = np.zeros((len(vectors), m)) + mass[:, :m] ** 2 / np.maximum(square[:, :m], 1e-12)
        closest = similarity[:, :5]
        nearest = closest.sum(axis=1, dtype=np.float64) / max(closest.shape[1], 1)
        return Estimate(
            models=rows.models,
            quality=values[:, :m],
            # As many pseudo-observations as neighbours stand behind it, and the prior counts for its weight (at most all rows).
            quality_std=self.residual_std_[:m] / np.sqrt(support + min(kernel.prior_weight, len(rows.queries)) + 1e-9),
            cost=values[:, m : 2 * m],
            latency=values[:, 2 * m :],
            support=support,
            similarity=nearest,
            supported=(nearest >= self.similarity_floor_) & (len(rows.queries) >= self.min_rows),
            neighbours=neighbours,
        )

    def cross_predict(self, table: OutcomeTable, rows: npt.NDArray[np.int64], /) -> Estimate:
        """Predictions for rows of the fitted table with five-fold cross-fitting: neither neighbour nor prior of their fold."""
        vectors = _vectors(table)
        fold = folds(len(table), FOLDS, self.seed)
        values = np.concatenate([table.quality, table.cost, table.latency], axis=1)
        labels = [query.labels for query in table.queries]
        wanted = min(len(table), self.kernel_.k * FOLDS // (FOLDS - 1) + 16)
        similarity, neighbours = self._index.search(vectors[rows], wanted)
        found = np.full((len(rows), values.shape[1]), np.nan)
        support = np.zeros((len(rows), len(table.models)))
        for part in range(FOLDS):
            here = np.flatnonzero(fold[rows] == part)
            expected, residual, observed = held_out(values, labels, fold, part, self.label_counts)
            near = neighbours[here]
            weights = self.kernel_.weights(similarity[here]) * allowed(fold, near, part, self.kernel_.k)
            total, mass = _weighted(weights, residual, near), _weighted(weights, observed, near)
            found[here] = expected[rows[here]] + total / (mass + self.kernel_.prior_weight)
            support[here] = mass[:, : len(table.models)]
        m = len(table.models)
        found = np.clip(found, self._rows.low, self._rows.high)
        return Estimate(
            models=table.models,
            quality=found[:, :m],
            quality_std=np.broadcast_to(self.residual_std_, (len(rows), m)),
            cost=found[:, m : 2 * m],
            latency=found[:, 2 * m :],
            support=support,
            similarity=similarity[:, :5].mean(axis=1, dtype=np.float64),
            supported=np.ones(len(rows), bool),
        )

    def logged(self, row: int) -> tuple[npt.NDArray[np.float32], dict[str, float], dict[str, float]]:
        """A logged row for explanations: its vector, and each model's observed quality and billed cost in USD."""
        rows = self._fitted()
        quality, cost, _ = rows.values[row].reshape(3, -1).tolist()
        seen = [dict(zip(rows.models, part, strict=True)) for part in (quality, cost)]
        return self._index.vectors[row], *({m: value for m, value in one.items() if value == value} for one in seen)  # noqa: PLR0124 # NaN

    def _kept(self, query: Query) -> Query:
        return replace(
            query, id=query.key(), text=query.text if self.keep_prompts else "", embedding=None, fingerprint=None, allow=None
        )

    def _check(self) -> None:
        for name, value, valid in (
            ("k", self.k, self.k is None or self.k >= 1),
            ("width", self.width, self.width is None or self.width > 0),
            ("prior_weight", self.prior_weight, self.prior_weight is None or self.prior_weight >= 0),
            ("label_counts", self.label_counts, self.label_counts >= 0),
            ("support_quantile", self.support_quantile, 0 <= self.support_quantile < 1),
        ):
            if not valid:
                msg = f"KNNEstimator({name}={value!r}) is out of range"
                raise ConfigError(msg)

    def state(self) -> State:
        """Options, learned constants, the rows' ids and labels, and the arrays; text only with `keep_prompts`."""
        rows = self._fitted()
        config: dict[str, Any] = {name: getattr(self, name) for name in _OPTIONS}
        config |= {name: str(getattr(self, name)) for name in ("prior_weight", "label_counts")}  # JSON has no infinity
        config["models"] = list(rows.models)
        config["kernels"] = [
            {"k": one.k, "width": one.width, "prior_weight": str(one.prior_weight)} for one in (self.kernel_, self.bare_kernel_)
        ]
        config["similarity_floor"] = self.similarity_floor_
        config["queries"] = [
            {"id": query.id, "task": query.task, "role": query.role, "tags": dict(query.tags)}
            | ({"text": query.text} if self.keep_prompts else {})
            for query in rows.queries
        ]
        # The vectors of rows that another thread is adding right now belong to the next save.
        vectors = self._index.vectors[: len(rows.queries)]
        arrays: Arrays = {"vectors": vectors, "values": rows.values[: len(vectors)], "residual_std": self.residual_std_}
        graph = self._index.graph_bytes()
        return config, arrays if graph is None else arrays | {"graph": graph}

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], /) -> Self:
        """The estimator that `state` described."""
        weight = config["prior_weight"]
        made = cls(
            **{name: config[name] for name in _OPTIONS},
            prior_weight=None if weight == "None" else float(weight),
            label_counts=float(config["label_counts"]),
        )
        queries = tuple(
            Query(text=one.get("text", ""), id=one["id"], task=one["task"], role=one["role"], tags=one["tags"])
            for one in config["queries"]
        )
        values, vectors = arrays["values"], arrays["vectors"]
        if values.shape != (len(queries), 3 * len(config["models"])) or len(vectors) != len(queries):
            msg = f"{len(queries)} queries, values {list(values.shape)} and vectors {list(vectors.shape)} do not belong together"
            raise ConfigError(msg)
        made._rows = Rows.of(tuple(config["models"]), queries, values, made.label_counts)  # a constructor of this class
        made._index = VectorIndex.from_cache(vectors, arrays.get("graph"), approximate_from=made.approximate_from)
        made.kernel_, made.bare_kernel_ = (
            Kernel(k=one["k"], width=one["width"], prior_weight=float(one["prior_weight"])) for one in config["kernels"]
        )
        made.tuning_ = None
        made.similarity_floor_ = float(config["similarity_floor"])
        made.residual_std_ = arrays["residual_std"]
        return made


def _weighted(weights: npt.NDArray[Any], values: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> Floats:
    """Sum over neighbours: weights [n, k], values [N, c], rows [n, k] -> float64 [n, c]."""
    found = np.empty((len(rows), values.shape[1]))
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, start + _BLOCK)
        found[part] = np.matmul(weights[part, None, :], values[rows[part]])[:, 0, :]
    return found


def _joined(parts: Sequence[Estimate], order: npt.NDArray[np.int64]) -> Estimate:
    """The estimates of both parts, brought back into the order of the queries; short lists of neighbours end in -1."""
    back = np.argsort(order)
    found = [part.neighbours for part in parts if part.neighbours is not None]
    width = max(one.shape[1] for one in found)
    padded = [np.pad(one, ((0, 0), (0, width - one.shape[1])), constant_values=-1) for one in found]
    names = ("quality", "quality_std", "cost", "latency", "support", "similarity", "supported")
    merged = {name: np.concatenate([getattr(part, name) for part in parts])[back] for name in names}
    return Estimate(models=parts[0].models, neighbours=np.concatenate(padded)[back], **merged)


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _vectors(table: OutcomeTable) -> npt.NDArray[np.float32]:
    if table.embeddings is None:
        msg = "KNNEstimator needs table.embeddings: fit through a Router with an embedder, or call table.with_embeddings(...)"
        raise ConfigError(msg)
    return table.embeddings


def _embedding(query: Query) -> npt.NDArray[np.float32]:
    if query.embedding is None:
        msg = "the query has no embedding: route through a Router, which embeds it"
        raise ConfigError(msg)
    return query.embedding
