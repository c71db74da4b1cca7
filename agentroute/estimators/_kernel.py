"""The arithmetic of the kNN estimator: kernel-weighted residuals over a label prior, and the choice of its constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agentroute.estimators._base import folds
from agentroute.estimators._prior import LabelPrior
from agentroute.index import VectorIndex

__all__ = ["FOLDS", "HeldOut", "Kernel", "Tuning", "allowed", "distinct_neighbours", "shrunken", "spread", "tune", "weighted"]

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Labels = Sequence[tuple[str, ...]]

FOLDS = 5
SAMPLE = 2000  # queries that the cross-validation predicts; its standard error is then near 0.01
NEIGHBOURS = (20, 50, 100, 200)
WIDTHS = (0.25, 0.5, 1.0, 2.0)  # in units of the typical distance to the 20th neighbour, so that any embedder fits
PRIOR_WEIGHTS = (1.0, 3.0, 10.0, 30.0, 100.0, np.inf)
_GATHERED = 4_000_000  # values of neighbours that are gathered at once: 16 to 32 MB, whatever the pool's size


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """The constants of the estimate (sum w_i r_i) / (sum w_i + a) with w_i = exp((s_i - 1) / width).

    Attributes:
        k: Neighbours.
        width: Kernel width, in units of cosine similarity.
        prior_weight: a, the weight of the prior in units of identical neighbours; infinity = the prior alone.
    """

    k: int
    width: float
    prior_weight: float

    def weights(self, similarity: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """float32 [n, k] in (0, 1], the precision of the similarities themselves."""
        weights: npt.NDArray[np.float32] = np.exp((similarity - np.float32(1.0)) * np.float32(1.0 / self.width))
        return weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What cross-validation chose and saw.

    Attributes:
        kernel: The constants.
        loss: Mean squared error of the chosen kernel.
        loss_prior: The same for the prior alone.
        residual_std: float64 [m], out-of-fold standard deviation of each model's quality.
    """

    kernel: Kernel
    loss: float
    loss_prior: float
    residual_std: Floats


def weighted(weights: npt.NDArray[Any], values: npt.NDArray[Any], rows: Rows) -> Floats:
    """Sum over neighbours: weights [n, k], values [N, c], rows [n, k] -> float64 [n, c]."""
    block = max(_GATHERED // max(rows.shape[1] * values.shape[1], 1), 1)
    if len(rows) <= block:
        return np.asarray(np.matmul(weights[:, None, :], values[rows])[:, 0, :], np.float64)
    found = np.empty((len(rows), values.shape[1]))
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        found[part] = np.matmul(weights[part, None, :], values[rows[part]])[:, 0, :]
    return found


def shrunken(total: Floats, mass: npt.NDArray[Any], prior_weight: float) -> Floats:
    """Total / (mass + prior_weight); 0 where nothing at all weighs, so that the prior stands."""
    weight = mass + prior_weight
    if prior_weight > 0:
        return total / weight
    return np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)


def spread(similarity: npt.NDArray[np.float32]) -> float:
    """The unit of kernel width: the median distance (1 - cosine) to the 20th neighbour."""
    column = min(20, similarity.shape[1]) - 1
    return max(float(np.median(1.0 - similarity[:, column])), 1e-3)


def distinct_neighbours(vectors: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
    """Similarities of some logged queries to their nearest others, float32 [s, up to 20]; copies of a query count once.

    A log with several samples of a prompt would else say that every query has twins, and a new one, which has none, were odd.
    """
    rng = np.random.default_rng(seed)
    # Equal vectors have equal products with one random direction, and are found by sorting numbers instead of rows.
    direction = rng.standard_normal(vectors.shape[1], np.float32)
    distinct = np.unique(np.asarray(vectors @ direction), return_index=True)[1]
    kept = vectors[np.sort(distinct)]
    probe = kept[np.sort(rng.permutation(len(kept))[:1000])]
    # Each query comes first among its own neighbours; what a new one sees begins after it.
    return VectorIndex(kept, approximate_from=len(kept) + 1).search(probe, min(len(kept), 21))[0][:, 1:]


class HeldOut:
    """What can be known without one fold.

    Attributes:
        expected: float64 [n, c], every row's prior; the mean where none of its labels is known outside the fold.
        known: bool [n], whether one is.
        residual: float64 [n, c], from `expected`; 0 = not observed.
        from_mean: float64 [n, c], from the column means.
        observed: float64 [n, c].
    """

    def __init__(self, values: Floats, labels: Labels, fold: Rows, part: int, pseudo_counts: float) -> None:
        train = np.flatnonzero(fold != part)
        prior = LabelPrior.fit(values[train], [labels[row] for row in train.tolist()], pseudo_counts=pseudo_counts)
        found = [prior.of(one) for one in labels]
        seen = np.isfinite(values)
        self.expected = np.array([expected for expected, _ in found])
        self.known = np.array([known for _, known in found], bool)
        self.residual = np.where(seen, values - self.expected, 0.0)
        self.from_mean = np.where(seen, values - prior.mean, 0.0)
        self.observed = seen.astype(np.float64)


def allowed(fold: Rows, neighbours: Rows, part: int, k: int) -> npt.NDArray[np.bool_]:
    """Marks the first k neighbours of each line that are not of this fold: bool [n, K]."""
    mask: npt.NDArray[np.bool_] = fold[neighbours] != part
    return mask & (np.cumsum(mask, axis=1) <= k)


def tune(
    values: Floats,
    labels: Labels,
    index: VectorIndex,
    *,
    rows: Rows,
    pseudo_counts: float,
    fixed: tuple[int | None, float | None, float | None],
    seed: int,
) -> Tuning:
    """Chooses k, width and prior weight by five-fold cross-validation over a sample of the log.

    The loss is the squared error of the *differences between models* wherever a query has several (they decide which model is
    chosen; how hard the query is for all of them does not), else of the qualities themselves. Of all settings whose mean loss
    is within one paired standard error of the best, the one nearest to the prior is taken (Breiman et al. 1984, section 3.4.3):
    on a log without signal the router thus falls back to the best single model.

    Args:
        values: float64 [n, m], qualities, NaN = not observed.
        labels: The rows' labels.
        index: The rows' vectors.
        rows: int64, which rows to predict.
        pseudo_counts: Shrinkage of label effects.
        fixed: k, width and prior weight where the user gave them, else `None`.
        seed: Of folds and sample.
    """
    n = len(values)
    fold = folds(n, FOLDS, seed)
    sample = np.sort(np.random.default_rng(seed).permutation(rows)[:SAMPLE])
    widest = max(NEIGHBOURS) if fixed[0] is None else fixed[0]
    # A quarter more than is used, for the neighbours that fall into the query's own fold, and some for the query itself.
    similarity, neighbours = index.search(index.vectors[sample], min(n, widest * FOLDS // (FOLDS - 1) + 16))
    unit = spread(similarity)
    grid = [
        Kernel(k=k, width=width, prior_weight=weight)
        for weight in (PRIOR_WEIGHTS if fixed[2] is None else (fixed[2],))
        for width in ([unit * one for one in WIDTHS] if fixed[1] is None else [fixed[1]])
        for k in (NEIGHBOURS if fixed[0] is None else (fixed[0],))
    ]
    # The last line is the prior alone.
    errors = np.full((len(grid) + 1, len(sample), values.shape[1]), np.nan, np.float32)
    for part in range(FOLDS):
        here = np.flatnonzero(fold[sample] == part)
        without = HeldOut(values, labels, fold, part, pseudo_counts)
        truth, prior, near = values[sample[here]], without.expected[sample[here]], neighbours[here]
        near_residual, near_observed = without.residual[near], without.observed[near]
        moved: dict[tuple[int, float], tuple[Floats, Floats]] = {}
        for line, kernel in enumerate(grid):
            shape = (kernel.k, kernel.width)
            if shape not in moved:
                weights = kernel.weights(similarity[here]) * allowed(fold, near, part, kernel.k)
                moved[shape] = (
                    np.einsum("nk,nkm->nm", weights, near_residual, optimize=True),
                    np.einsum("nk,nkm->nm", weights, near_observed, optimize=True),
                )
            errors[line, here] = prior + shrunken(*moved[shape], kernel.prior_weight) - truth
        errors[-1, here] = prior - truth
    losses = _loss(errors)
    chosen = _nearest_to_prior(losses[:-1], grid)
    seen = np.isfinite(errors[chosen])
    squares = np.where(seen, errors[chosen].astype(np.float64) ** 2, 0.0).sum(axis=0)
    usable = np.isfinite(losses[chosen])
    return Tuning(
        kernel=grid[chosen],
        loss=float(losses[chosen, usable].mean()) if usable.any() else np.nan,
        loss_prior=float(losses[-1, usable].mean()) if usable.any() else np.nan,
        residual_std=np.sqrt(squares / np.where(seen.any(axis=0), seen.sum(axis=0), np.nan)),
    )


def _loss(errors: npt.NDArray[np.float32]) -> Floats:
    """float64 [settings, queries]; NaN where a query has nothing to compare."""
    seen = np.isfinite(errors[0])
    several = seen.sum(axis=1) >= 2
    used = errors.astype(np.float64)
    if several.mean() >= 0.5:
        counts = np.where(several, seen.sum(axis=1), 1)
        centre = np.where(seen, used, 0.0).sum(axis=2, keepdims=True) / counts[None, :, None]
        used = np.where(several[None, :, None], used - centre, np.nan)
    mass = np.where(np.isfinite(used[0]), 1.0, 0.0).sum(axis=1)
    squares: Floats = (np.where(np.isfinite(used), used, 0.0) ** 2).sum(axis=2)
    return squares / np.where(mass, mass, np.nan)


def _nearest_to_prior(losses: Floats, grid: Sequence[Kernel]) -> int:
    usable = losses[:, np.isfinite(losses[0])]
    if not usable.shape[1]:
        return len(grid) - 1
    best = int(np.argmin(usable.mean(axis=1)))
    gap = usable - usable[best]
    within = gap.mean(axis=1) <= gap.std(axis=1) / np.sqrt(usable.shape[1])
    # Nearest to the prior: the most weight on it, then the widest kernel over the most neighbours (the smoothest estimate).
    return max(np.flatnonzero(within).tolist(), key=lambda line: (grid[line].prior_weight, grid[line].width, grid[line].k))
