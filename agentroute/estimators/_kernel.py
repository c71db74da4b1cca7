"""The arithmetic of the kNN estimator: kernel-weighted residuals over a label prior, and the choice of its constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agentroute.estimators._base import folds
from agentroute.estimators._prior import LabelPrior
from agentroute.index import VectorIndex

__all__ = ["Kernel", "Tuning", "spread", "tune"]

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

FOLDS = 5
SAMPLE = 2000  # queries that the cross-validation predicts; its standard error is then near 0.01
NEIGHBOURS = (20, 50, 100, 200)
WIDTHS = (0.25, 0.5, 1.0, 2.0)  # in units of the typical distance to the 20th neighbour, so that any embedder fits
PRIOR_WEIGHTS = (1.0, 3.0, 10.0, 30.0, 100.0, np.inf)


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


def spread(similarity: npt.NDArray[np.float32]) -> float:
    """The unit of kernel width: the median distance (1 - cosine) to the 20th neighbour."""
    column = min(20, similarity.shape[1]) - 1
    return max(float(np.median(1.0 - similarity[:, column])), 1e-3)


def held_out(
    values: Floats, labels: Sequence[tuple[str, ...]], fold: Rows, part: int, pseudo_counts: float
) -> tuple[Floats, Floats, Floats]:
    """The prior without one fold, for every row; the rows' residuals from it (0 = not observed); and what is observed."""
    train = np.flatnonzero(fold != part)
    prior = LabelPrior.fit(values[train], [labels[row] for row in train.tolist()], pseudo_counts=pseudo_counts)
    expected = np.stack([prior.of(one)[0] for one in labels])
    observed = np.isfinite(values)
    return expected, np.where(observed, values - expected, 0.0), observed.astype(np.float64)


def allowed(fold: Rows, neighbours: Rows, part: int, k: int) -> npt.NDArray[np.bool_]:
    """Marks the first k neighbours of each line that are not of this fold: bool [n, K]."""
    mask: npt.NDArray[np.bool_] = fold[neighbours] != part
    return mask & (np.cumsum(mask, axis=1) <= k)


def tune(
    values: Floats,
    labels: Sequence[tuple[str, ...]],
    index: VectorIndex,
    *,
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
        pseudo_counts: Shrinkage of label effects.
        fixed: k, width and prior weight where the user gave them, else `None`.
        seed: Of folds and sample.
    """
    n = len(values)
    fold = folds(n, FOLDS, seed)
    sample = np.sort(np.random.default_rng(seed).permutation(n)[:SAMPLE])
    widest = max(NEIGHBOURS) if fixed[0] is None else fixed[0]
    # A quarter more than is used, for the neighbours that fall into the query's own fold, and one for the query itself.
    similarity, neighbours = index.search(index.vectors[sample], min(n, widest * FOLDS // (FOLDS - 1) + 16))
    unit = spread(similarity)
    grid = [
        Kernel(k=k, width=width, prior_weight=weight)
        for weight in (PRIOR_WEIGHTS if fixed[2] is None else (fixed[2],))
        for width in ([unit * one for one in WIDTHS] if fixed[1] is None else [fixed[1]])
        for k in (NEIGHBOURS if fixed[0] is None else (fixed[0],))
    ]
    losses = np.full((len(grid) + 1, len(sample)), np.nan)  # the last line is the prior alone
    errors = np.full((len(grid) + 1, len(sample), values.shape[1]), np.nan, np.float32)
    for part in range(FOLDS):
        here = np.flatnonzero(fold[sample] == part)
        expected, residual, observed = held_out(values, labels, fold, part, pseudo_counts)
        truth, prior = values[sample[here]], expected[sample[here]]
        near = neighbours[here]
        near_residual, near_observed = residual[near], observed[near]
        moved: dict[tuple[int, float], tuple[Floats, Floats]] = {}
        for line, kernel in enumerate(grid):
            shape = (kernel.k, kernel.width)
            if shape not in moved:
                weights = kernel.weights(similarity[here]) * allowed(fold, near, part, kernel.k)
                moved[shape] = (
                    np.einsum("nk,nkm->nm", weights, near_residual, optimize=True),
                    np.einsum("nk,nkm->nm", weights, near_observed, optimize=True),
                )
            total, mass = moved[shape]
            errors[line, here] = prior + total / (mass + kernel.prior_weight) - truth
        errors[-1, here] = prior - truth
    losses = _loss(errors)
    chosen = _nearest_to_prior(losses[:-1], grid)
    with np.errstate(invalid="ignore"):
        seen = np.isfinite(errors[chosen])
        squares = np.where(seen, errors[chosen].astype(np.float64) ** 2, 0.0).sum(axis=0)
        residual_std = np.sqrt(squares / np.where(seen.sum(axis=0), seen.sum(axis=0), np.nan))
    return Tuning(
        kernel=grid[chosen],
        loss=float(np.nanmean(losses[chosen])),
        loss_prior=float(np.nanmean(losses[-1])),
        residual_std=residual_std,
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
