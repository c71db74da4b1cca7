"""How well estimates foresee scores out of fold, overall and within tasks."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.evaluation import metrics
from agentroute.evaluation._diagnosed import ModelCalibration
from agentroute.evaluation._intervals import Interval, bootstrap, once
from agentroute.evaluation._laps import means_of
from agentroute.evaluation._results import Replay
from agentroute.evaluation.metrics._arrays import grouped, ratio

__all__ = ["LEVELS", "auroc_within", "calibration", "predictable", "regime"]

Floats: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = npt.NDArray[np.int64]
Regime: TypeAlias = Literal["low noise", "medium noise", "high noise", "no signal"]

LEVELS: tuple[tuple[float, Regime], ...] = ((0.775, "low noise"), (0.645, "medium noise"), (0.56, "high noise"))
"""Half-way between the AUROCs that the simulation's noise levels stand for: 0.88, 0.67 and 0.62 before the call; 0.5 = none."""
_SURE = 3.0
"""Standard errors: with ten models one is beyond two by chance in every fourth log of pure noise."""
_EFFECT = 0.53
"""AUROC below which nothing is foreseen that is of use: 20,000 queries put 0.511 beyond chance."""


def auroc_within(predicted: Floats, observed: Floats, strata: Rows, *, weights: Floats) -> Floats:
    """`metrics.auroc` over pairs of queries of the same stratum only: float64 [b]; NaN where none has right and wrong answers.

    Args:
        predicted: float64 [n]; NaN = left out.
        observed: float64 [n] in [0, 1].
        strata: int64 [n].
        weights: float64 [b, n].
    """
    rows = np.flatnonzero(np.isfinite(predicted) & np.isfinite(observed))
    if not len(rows):
        return np.full(len(weights), np.nan)
    levels = np.unique(predicted[rows], return_inverse=True)[1]
    keys = strata[rows] * (int(levels.max()) + 1) + levels
    every, right = grouped(weights, keys, [None, observed[rows]], rows=rows)
    wrong = np.subtract(every, right, out=every)
    held = np.unique(keys) // (int(levels.max()) + 1)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(held)) + 1])
    both = [np.add.reduceat(one, starts, axis=1) for one in (right, wrong)]
    below = np.cumsum(wrong, axis=1)
    # What was counted before the stratum began is taken off again.
    offset = np.repeat(below[:, starts] - wrong[:, starts], np.diff([*starts.tolist(), len(held)]), axis=1)
    hits = np.einsum("bg,bg->b", right, below - offset - wrong / 2.0)
    return ratio(hits, (both[0] * both[1]).sum(axis=1))


def calibration(replay: Replay, strata: Rows, *, resamples: int, seed: int = 0) -> tuple[ModelCalibration, ...]:
    """One for each model of a replay whose chooser expects something; empty where it does not.

    AUROC compares queries of one fold only: an estimate that is the mean of the training part is a little lower where the
    fold's own mean is higher, so that across folds no signal would look like a wrong one.

    Args:
        replay: The arrays of an evaluation.
        strata: int64 [n], the task of each query.
        resamples: Of the bootstrap.
        seed: Likewise.
    """
    if replay.estimate is None:
        return ()
    expected, cost = np.clip(replay.estimate.quality, 0.0, 1.0), replay.estimate.cost
    quality, billed = replay.table.quality, replay.table.cost
    m = quality.shape[1]
    cells = strata * (int(replay.fold.max()) + 1) + replay.fold
    both = np.concatenate([expected, quality], axis=1)
    apart = both - means_of(both, strata)

    def statistic(weights: Floats) -> Floats:
        ranks = [
            np.stack([auroc_within(expected[:, j], quality[:, j], one, weights=weights) for j in range(m)], axis=1)
            for one in (replay.fold, cells)
        ]
        rest = [
            metrics.brier(expected, quality, weights=weights),
            metrics.ece(expected, quality, weights=weights),
            metrics.r2(expected, quality, weights=weights),
            metrics.r2(apart[:, :m], apart[:, m:], weights=weights),
            metrics.cost_ratio(cost, billed, weights=weights),
        ]
        return np.concatenate([*ranks, *rest], axis=1)

    drawn = bootstrap(once(statistic, replay.groups), len(quality), resamples=resamples, seed=seed, groups=replay.groups)
    curves = metrics.reliability(expected, quality)
    return tuple(
        ModelCalibration(
            model=model,
            **dict(zip(("auroc", "auroc_within", "brier", "ece", "r2", "r2_within", "cost_ratio"), drawn[j::m], strict=True)),
            curve=tuple((low, high, share) for low, high, share in curves[j].tolist() if share > 0),
            regime=regime(drawn[j]),
        )
        for j, model in enumerate(replay.table.models)
    )


def regime(auroc: Interval) -> Regime:
    """Which noise level of the cascade-routing simulation an AUROC stands for (Dekoninck et al., arXiv:2410.10347)."""
    if not predictable(auroc):
        return "no signal"
    return next((name for level, name in LEVELS if auroc.value >= level), "no signal")


def predictable(auroc: Interval) -> bool:
    """Whether estimates order a model's queries beyond chance, and well enough to be of use."""
    error = (auroc.high - auroc.low) / 3.92
    return bool(auroc.value >= _EFFECT and auroc.value - 0.5 > _SURE * error)
