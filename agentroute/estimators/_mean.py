"""The floor of every estimator: each model's mean, whatever the query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from agentroute.errors import NotFittedError
from agentroute.estimators._base import State, check_whole, options
from agentroute.outcomes import OutcomeTable
from agentroute.types import Estimate, Query

__all__ = ["MeanEstimator"]


class MeanEstimator:
    """Predicts every model's mean quality, cost and latency.

    Args:
        min_rows: Scores that a model needs before it is ranked; a model with fewer has the quality NaN.

    Attributes:
        models_: Column names.
        mean_: float64 [3, m]: mean quality, cost and latency; NaN = never observed.
        std_: float64 [m]: standard error of the mean quality.
        counts_: float64 [m]: observed qualities.
    """

    kind = "mean"
    what = ("logged outcomes",)
    uses_embeddings = False

    def __init__(self, *, min_rows: int = 30) -> None:
        self.min_rows = min_rows

    models_: tuple[str, ...]
    mean_: npt.NDArray[np.float64]
    std_: npt.NDArray[np.float64]
    counts_: npt.NDArray[np.float64]

    def fit(self, table: OutcomeTable, /) -> Self:
        """Learns the means; needs no embeddings.

        Raises:
            ConfigError: `min_rows` is no whole number, or negative.
        """
        check_whole(self, "min_rows", 0)
        stacked = np.stack([table.quality, table.cost, table.latency])
        counts = np.isfinite(stacked).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.nansum(stacked, axis=1) / np.where(counts, counts, np.nan)
            spread = np.nansum((table.quality - mean[0]) ** 2, axis=0) / np.maximum(counts[0] - 1, 1)
            self.std_ = np.where(counts[0] > 1, np.sqrt(spread / np.maximum(counts[0], 1)), np.nan)
        self.models_ = table.models
        self.mean_ = mean
        self.counts_ = counts[0].astype(np.float64)
        return self

    def predict(self, queries: Sequence[Query], /) -> Estimate:
        """The means, once for each query."""
        if not hasattr(self, "mean_"):
            msg = "this MeanEstimator is not fitted: call fit(table) first"
            raise NotFittedError(msg)
        n = len(queries)

        def repeated(row: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            return np.repeat(row[None, :], n, axis=0)

        return Estimate(
            models=self.models_,
            quality=repeated(np.where(self.counts_ >= self.min_rows, self.mean_[0], np.nan)),
            quality_std=repeated(self.std_),
            cost=repeated(self.mean_[1]),
            latency=repeated(self.mean_[2]),
            support=repeated(self.counts_),
            similarity=np.full(n, np.nan),
            supported=np.ones(n, bool),
        )

    def cross_predict(self, table: OutcomeTable, rows: npt.NDArray[np.int64], /) -> Estimate:
        """The means of all other rows."""
        estimate = self.predict([table.queries[row] for row in rows])
        parts = []
        for column, values in enumerate((table.quality, table.cost, table.latency)):
            seen = np.isfinite(values)
            own, count = np.where(seen, values, 0.0)[rows], seen.sum(axis=0) - seen[rows]
            total = np.where(np.isnan(self.mean_[column]), 0.0, self.mean_[column]) * seen.sum(axis=0) - own
            parts.append(np.divide(total, count, out=np.full(own.shape, np.nan), where=count > 0))
        quality = np.where(self.counts_ >= self.min_rows, np.clip(parts[0], 0.0, 1.0), np.nan)
        return replace(estimate, quality=quality, cost=parts[1], latency=parts[2])

    def state(self) -> State:
        """Means, counts and options."""
        config = {**options(self, ["min_rows"]), "models": list(self.models_)}
        return config, {"mean": self.mean_, "std": self.std_, "counts": self.counts_}

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], /) -> Self:
        """The estimator that `state` described."""
        made = cls(min_rows=int(config["min_rows"]))
        made.models_ = tuple(config["models"])
        made.mean_, made.std_, made.counts_ = arrays["mean"], arrays["std"], arrays["counts"]
        return made
