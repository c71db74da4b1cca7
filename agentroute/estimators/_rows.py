"""What the kNN estimator knows of its logged rows, beside their vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from agentroute.estimators._prior import LabelPrior
from agentroute.types import Query

__all__ = ["Rows"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Everything learned but the vectors: replaced as a whole, so that readers never see half of an update."""

    models: tuple[str, ...]
    queries: tuple[Query, ...]
    values: Floats  # [n, 3 m]: quality, cost, latency; NaN = not observed
    prior: LabelPrior
    observed: npt.NDArray[np.float32]  # [n, 3 m]
    complete: bool
    from_mean: npt.NDArray[np.float32]  # [n, 3 m], residuals from the column means; 0 = not observed
    from_prior: npt.NDArray[np.float32]  # [n, 3 m], residuals from each row's own prior
    scarce: npt.NDArray[np.bool_] | None  # [m], models with too few scores to be ranked; None = there is no such model
    low: Floats  # [3 m]
    high: Floats  # [3 m]

    @classmethod
    def of(cls, models: tuple[str, ...], queries: tuple[Query, ...], values: Floats, pseudo_counts: float, min_rows: int) -> Self:
        """Fits the prior to the rows and takes the residuals from it."""
        labels = [query.labels for query in queries]
        prior = LabelPrior.fit(values, labels, pseudo_counts=pseudo_counts)
        seen = np.isfinite(values)
        from_mean = np.where(seen, values - prior.mean, 0.0).astype(np.float32)
        from_prior = from_mean
        if prior.labels:
            from_prior = np.where(seen, values - np.stack([prior.of(one)[0] for one in labels]), 0.0).astype(np.float32)
        scarce = seen[:, : len(models)].sum(axis=0) < min_rows
        return cls(
            models=models,
            queries=queries,
            values=values,
            prior=prior,
            observed=seen.astype(np.float32),
            complete=bool(seen.all()),
            from_mean=from_mean,
            from_prior=from_prior,
            scarce=scarce if scarce.any() else None,
            low=np.where(seen, values, np.inf).min(axis=0, initial=np.inf),
            high=np.where(seen, values, -np.inf).max(axis=0, initial=-np.inf),
        )
