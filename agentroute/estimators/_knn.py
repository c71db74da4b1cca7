"""The FAISS kNN estimator."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, NotFittedError
from agentroute.estimators._base import Arrays, State, check_whole, embeddings_of, folds, joined, options, vectors_of
from agentroute.estimators._kernel import (
    HeldOut,
    Kernel,
    Tuning,
    allowed,
    distinct_neighbours,
    shrunken,
    spread,
    tune,
    weighted,
)
from agentroute.estimators._rows import Rows
from agentroute.index import VectorIndex
from agentroute.outcomes import OutcomeTable
from agentroute.types import Estimate, Query

__all__ = ["KNNEstimator"]

Floats = npt.NDArray[np.float64]
# Of cross_predict: what is tuned on its estimates, such as a budget, is kept by those of all rows, and ten parts come closer.
_PARTS = 10
_TUNABLE = 50  # rows below which cross-validation says nothing
_OPTIONS = ("k", "width", "min_rows", "support_quantile", "approximate_from", "keep_prompts", "seed")
_LIMITS = (
    ("width", math.ulp(0.0), math.inf),  # above 0
    ("prior_weight", 0.0, math.inf),
    ("label_counts", 0.0, math.inf),
    ("support_quantile", 0.0, math.nextafter(1.0, 0.0)),  # below 1
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Learned:
    """All that was learned: replaced as a whole, so that readers never see half of an update."""

    rows: Rows
    index: VectorIndex  # may hold a few newer rows than `rows`; searches stop at `len(rows.queries)`
    kernel: Kernel
    bare_kernel: Kernel
    similarity_floor: float
    residual_std: Floats  # [m]
    tuning: Tuning | None


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
        min_rows: Scores that a model needs before it is ranked; a model with fewer has the quality NaN.
        support_quantile: A query is unsupported when its five nearest neighbours fall half as far again below the logged
            queries' median similarity to theirs as this quantile of the logged queries does.
        approximate_from: Rows from which single queries search an HNSW graph.
        keep_prompts: Keep the logged prompts' text for explanations; it is then saved with the router.
        seed: Of cross-validation.

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

    _learned: _Learned

    @property
    def models_(self) -> tuple[str, ...]:
        """Column names."""
        return self._fitted().rows.models

    @property
    def queries_(self) -> tuple[Query, ...]:
        """The logged queries, without vectors, in the order of `Estimate.neighbours`."""
        return self._fitted().rows.queries

    @property
    def kernel_(self) -> Kernel:
        """k, width and prior weight for queries with a label that the log knows."""
        return self._fitted().kernel

    @property
    def bare_kernel_(self) -> Kernel:
        """The same for queries without one."""
        return self._fitted().bare_kernel

    @property
    def tuning_(self) -> Tuning | None:
        """What cross-validation saw; `None` when it had nothing to choose, or after loading."""
        return self._fitted().tuning

    @property
    def similarity_floor_(self) -> float:
        """Least mean similarity of a supported query."""
        return self._fitted().similarity_floor

    def _fitted(self) -> _Learned:
        try:
            return self._learned
        except AttributeError:
            msg = "this KNNEstimator is not fitted: call fit(table) first"
            raise NotFittedError(msg) from None

    def fit(self, table: OutcomeTable, /) -> Self:
        """Learns from a table with embeddings.

        Raises:
            ConfigError: The table has no embeddings, or an option is out of range.
        """
        self._check()
        vectors = vectors_of(table, "KNNEstimator")
        queries = tuple(self._kept(query) for query in table.queries)
        values = np.concatenate([table.quality, table.cost, table.latency], axis=1)
        index = VectorIndex(vectors, approximate_from=self.approximate_from)
        near = distinct_neighbours(vectors, self.seed)
        floor = -1.0
        if near.shape[1]:
            typical, least = np.quantile(near[:, :5].mean(axis=1), [0.5, self.support_quantile]).tolist()
            floor = typical - 1.5 * (typical - least) - 1e-3
        kernel, bare, tuning = self._tuned(table, index, spread(near) if near.shape[1] else 1.0)
        std = np.full(len(table.models), 0.5) if tuning is None else tuning.residual_std
        with self._learning:
            self._learned = _Learned(
                rows=Rows.of(table.models, queries, values, self.label_counts, self.min_rows),
                index=index,
                kernel=kernel,
                bare_kernel=bare,
                similarity_floor=floor,
                residual_std=std,
                tuning=tuning,
            )
        return self

    def _tuned(self, table: OutcomeTable, index: VectorIndex, unit: float) -> tuple[Kernel, Kernel, Tuning | None]:
        """The kernels for queries with and without a known label, and what the tuning of the former saw."""
        k, width, weight = options(self, ("k", "width", "prior_weight")).values()
        fixed = (k, width, weight)
        scored = np.flatnonzero(np.isfinite(table.quality).any(axis=1))
        if len(scored) < _TUNABLE:
            kernel = Kernel(k=k or 100, width=width or unit, prior_weight=10.0 if weight is None else weight)
            return kernel, kernel, None
        # Where labels explain everything the neighbours may be told to add nothing; a query without them needs them. So the
        # two kinds of query have constants of their own.
        nothing: list[tuple[str, ...]] = [()] * len(table)
        bare = tune(table.quality, nothing, index, rows=scored, pseudo_counts=np.inf, fixed=fixed, seed=self.seed)
        labels = [query.labels for query in table.queries]
        labelled = scored[[bool(labels[row]) for row in scored.tolist()]]
        if len(labelled) < _TUNABLE or np.isinf(self.label_counts):
            return bare.kernel, bare.kernel, bare
        best = tune(table.quality, labels, index, rows=labelled, pseudo_counts=self.label_counts, fixed=fixed, seed=self.seed)
        return best.kernel, bare.kernel, best

    def partial_fit(self, table: OutcomeTable, /) -> Self:
        """Adds queries, outcomes and models; k, width and prior weight stay as they are until the next `fit`.

        A query that is known by its id takes the new values for the cells that are observed in `table`. A model that was not
        known becomes a new last column: a few hundred probe outcomes make it a candidate, without a rebuild.
        """
        with self._learning:
            learned = self._fitted()
            old, index = learned.rows, learned.index
            models = old.models + tuple(model for model in table.models if model not in old.models)
            place = {str(query.id): row for row, query in enumerate(old.queries)}
            fresh: list[int] = []
            for row, query in enumerate(table.queries):
                if place.setdefault(query.key(), len(place)) == len(old.queries) + len(fresh):
                    fresh.append(row)
            vectors = vectors_of(table, "KNNEstimator")[fresh]
            if vectors.shape[1] != index.vectors.shape[1]:
                msg = f"the new rows have {vectors.shape[1]}-d vectors, the fitted ones {index.vectors.shape[1]}-d"
                raise ConfigError(msg)
            queries = old.queries + tuple(self._kept(table.queries[row]) for row in fresh)
            values = np.full((len(queries), 3, len(models)), np.nan)
            values[: len(old.queries), :, : len(old.models)] = old.values.reshape(len(old.queries), 3, -1)
            columns = np.array([models.index(model) for model in table.models])
            at = np.array([place[query.key()] for query in table.queries], np.int64)
            for part, news in enumerate((table.quality, table.cost, table.latency)):
                seen = np.nonzero(np.isfinite(news))
                values[at[seen[0]], part, columns[seen[1]]] = news[seen]
            std = np.full(len(models), 0.5)
            std[: len(old.models)] = learned.residual_std
            rows = Rows.of(models, queries, values.reshape(len(queries), -1), self.label_counts, self.min_rows)
            # Readers stop at the rows that they know, so that the index may run ahead of them.
            index.add(vectors)
            self._learned = replace(learned, rows=rows, residual_std=std)
        return self

    def predict(self, queries: Sequence[Query], /) -> Estimate:
        """Estimates from the nearest logged queries; every query needs its `embedding`."""
        learned = self._fitted()
        dimension = learned.index.vectors.shape[1]
        if not queries:
            return self._estimate(
                learned, embeddings_of((), dimension), np.empty((0, 3 * len(learned.rows.models))), labelled=False
            )
        vectors = embeddings_of(queries, dimension)
        priors = [learned.rows.prior.of(query.labels) for query in queries]
        prior = np.array([expected for expected, _ in priors])
        labelled = [known for _, known in priors]
        if all(labelled) or not any(labelled):
            return self._estimate(learned, vectors, prior, labelled=labelled[0])
        with_, without = np.flatnonzero(labelled), np.flatnonzero(np.logical_not(labelled))
        parts = (
            self._estimate(learned, vectors[with_], prior[with_], labelled=True),
            self._estimate(learned, vectors[without], prior[without], labelled=False),
        )
        return joined(parts, np.concatenate([with_, without]))

    def _estimate(self, learned: _Learned, vectors: npt.NDArray[np.float32], prior: Floats, *, labelled: bool) -> Estimate:
        """Estimates for queries that all have a known label, or all have none."""
        rows, kernel = learned.rows, learned.kernel if labelled else learned.bare_kernel
        m = len(rows.models)
        similarity, neighbours = learned.index.search(vectors, kernel.k, within=len(rows.queries))
        weights = kernel.weights(similarity)
        total = weighted(weights, rows.from_prior if labelled else rows.from_mean, neighbours)
        if rows.complete:
            mass, square = weights.sum(axis=1, keepdims=True), (weights * weights).sum(axis=1, keepdims=True)
        else:
            mass = weighted(weights, rows.observed, neighbours)
            square = weighted(weights * weights, rows.observed, neighbours)
        values = np.maximum(np.minimum(prior + shrunken(total, mass, kernel.prior_weight), rows.high), rows.low)
        if rows.scarce is not None:
            values[:, :m][:, rows.scarce] = np.nan
        support = mass[:, :m] * mass[:, :m] / np.maximum(square[:, :m], 1e-12) * np.ones(m)
        closest = similarity[:, :5]
        nearest = closest.sum(axis=1, dtype=np.float64) / max(closest.shape[1], 1)
        return Estimate(
            models=rows.models,
            quality=values[:, :m],
            # As many pseudo-observations as neighbours stand behind it, and the prior counts for its weight (at most all rows).
            quality_std=learned.residual_std / np.sqrt(support + min(kernel.prior_weight, len(rows.queries)) + 1e-9),
            cost=values[:, m : 2 * m],
            latency=values[:, 2 * m :],
            support=support,
            similarity=nearest,
            supported=nearest >= learned.similarity_floor,
            neighbours=neighbours,
        )

    def cross_predict(self, table: OutcomeTable, rows: npt.NDArray[np.int64], /) -> Estimate:
        """Predictions for rows of the fitted table with ten-fold cross-fitting: neither neighbour nor prior of their fold."""
        learned = self._fitted()
        m = len(table.models)
        fold = folds(len(table), _PARTS, self.seed)
        values = np.concatenate([table.quality, table.cost, table.latency], axis=1)
        labels = [query.labels for query in table.queries]
        widest = max(learned.kernel.k, learned.bare_kernel.k)
        wanted = min(len(table), widest * _PARTS // (_PARTS - 1) + 16)
        similarity, neighbours = learned.index.search(vectors_of(table, "KNNEstimator")[rows], wanted)
        found, support = np.full((len(rows), 3 * m), np.nan), np.zeros((len(rows), m))
        for part in range(_PARTS):
            without = HeldOut(values, labels, fold, part, self.label_counts)
            for labelled, kernel in ((True, learned.kernel), (False, learned.bare_kernel)):
                here = np.flatnonzero((fold[rows] == part) & (without.known[rows] == labelled))
                near = neighbours[here]
                weights = kernel.weights(similarity[here]) * allowed(fold, near, part, kernel.k)
                total = weighted(weights, without.residual if labelled else without.from_mean, near)
                mass = weighted(weights, without.observed, near)
                found[here] = without.expected[rows[here]] + shrunken(total, mass, kernel.prior_weight)
                support[here] = mass[:, :m]
        found = np.clip(found, learned.rows.low, learned.rows.high)
        if learned.rows.scarce is not None:
            found[:, :m][:, learned.rows.scarce] = np.nan
        return Estimate(
            models=table.models,
            quality=found[:, :m],
            quality_std=np.broadcast_to(learned.residual_std, (len(rows), m)),
            cost=found[:, m : 2 * m],
            latency=found[:, 2 * m :],
            support=support,
            similarity=similarity[:, :5].mean(axis=1, dtype=np.float64),
            supported=np.ones(len(rows), bool),
        )

    def logged(self, row: int) -> tuple[npt.NDArray[np.float32], dict[str, float], dict[str, float]]:
        """A logged row for explanations: its vector, and each model's observed quality and billed cost in USD."""
        learned = self._fitted()
        quality, cost, _ = learned.rows.values[row].reshape(3, -1).tolist()
        seen = [dict(zip(learned.rows.models, part, strict=True)) for part in (quality, cost)]
        return learned.index.vectors[row], *({m: value for m, value in one.items() if not math.isnan(value)} for one in seen)

    def _kept(self, query: Query) -> Query:
        return replace(
            query, id=query.key(), text=query.text if self.keep_prompts else "", embedding=None, fingerprint=None, allow=None
        )

    def _check(self) -> None:
        for name in ("k", "min_rows", "approximate_from", "seed"):
            if name != "k" or self.k is not None:
                check_whole(self, name, 1 if name == "k" else 0)
        for name, least, most in _LIMITS:
            value = getattr(self, name)
            tuned = value is None and name in {"width", "prior_weight"}
            if not (tuned or (isinstance(value, float | int | np.floating | np.integer) and least <= value <= most)):
                raise ConfigError(f"KNNEstimator({name}={value!r}) is out of range")

    def state(self) -> State:
        """Options, learned constants, the rows' ids and labels, and the arrays; text only with `keep_prompts`."""
        learned = self._fitted()
        rows = learned.rows
        config = options(self, _OPTIONS)
        config |= {name: str(getattr(self, name)) for name in ("prior_weight", "label_counts")}  # JSON has no infinity
        config["models"] = list(rows.models)
        config["kernels"] = [
            {"k": one.k, "width": one.width, "prior_weight": str(one.prior_weight)}
            for one in (learned.kernel, learned.bare_kernel)
        ]
        config["similarity_floor"] = learned.similarity_floor
        config["queries"] = [
            {"id": query.id, "task": query.task, "role": query.role, "tags": dict(query.tags)}
            | ({"text": query.text} if self.keep_prompts else {})
            for query in rows.queries
        ]
        vectors = learned.index.vectors[: len(rows.queries)]
        arrays: Arrays = {"vectors": vectors, "values": rows.values, "residual_std": learned.residual_std}
        graph = learned.index.graph_bytes()
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
        kernel, bare = (
            Kernel(k=one["k"], width=one["width"], prior_weight=float(one["prior_weight"])) for one in config["kernels"]
        )
        made._learned = _Learned(
            rows=Rows.of(tuple(config["models"]), queries, values, made.label_counts, made.min_rows),
            index=VectorIndex.from_cache(vectors, arrays.get("graph"), approximate_from=made.approximate_from),
            kernel=kernel,
            bare_kernel=bare,
            similarity_floor=float(config["similarity_floor"]),
            residual_std=arrays["residual_std"],
            tuning=None,
        )
        return made
