"""Learns the regressions of a post-hoc estimate, and how much its estimates still move."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agentroute.cascades._calibrate import factor_of, logistic, recalibration
from agentroute.cascades._design import Seen, design, penalties
from agentroute.cascades._regressions import PostHocStates, Regressions

__all__ = ["Log", "Sample", "factors_of", "regressions", "sampled", "strength_of"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_ALL_STATES = 5  # models up to which every run set of a query is learned from
_ROWS = 16_000  # rows of a regression, about; more logged queries mean fewer run sets of each
_TRIAL_ROWS = 6_000  # of those by which the penalty is chosen
_FEWEST = 30  # logs below which a covariance is borrowed
_CELLS = 4096  # covariances that are kept at most
_SHRINK = 5.0  # inverse variance of the prior of a recalibration's slope and intercept


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Log:
    """A log in comparable numbers: quality [n, m], answered [n, m], and each row's fold [n]."""

    seen: Seen
    usual: Floats
    quality: Floats
    answered: Bools
    fold: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """Run sets of logged queries: row [r] of the log, who ran [r, m], how much it counts [r]."""

    row: Ints
    run: Bools
    weight: Floats

    def where(self, kept: Bools) -> Sample:
        return Sample(row=self.row[kept], run=self.run[kept], weight=self.weight[kept])


def sampled(answered: Bools, seed: int) -> Sample:
    """Run sets of every query, each within the models that answered it; all sizes count alike, and every query once."""
    n, m = answered.shape
    if m <= _ALL_STATES and n << m <= 2 * _ROWS:
        sets = (np.arange(1 << m)[:, None] >> np.arange(m) & 1).astype(np.bool_)
        size = sets.sum(axis=1)
        share = 1.0 / ((m + 1) * np.array([math.comb(m, k) for k in size]))
        row, which = np.repeat(np.arange(n), len(sets)), np.tile(np.arange(len(sets)), n)
        run, weight = sets[which], share[which]
    else:
        count = max(8, min(_ROWS // n, 64))
        rng = np.random.default_rng(seed)
        row = np.repeat(np.arange(n), count)
        # Sizes in turn, so that each query has small and large ones; the members at random.
        size = (np.arange(len(row)) + rng.integers(m + 1, size=n).repeat(count)) % (m + 1)
        run = rng.random((len(row), m)).argsort(axis=1).argsort(axis=1) < size[:, None]
        weight = np.full(len(row), 1.0 / count)
    kept: Bools = np.asarray(~(run & ~answered[row]).any(axis=1))
    sample = Sample(row=row, run=run, weight=weight).where(kept)
    total = np.bincount(sample.row, sample.weight, minlength=n)
    return Sample(row=sample.row, run=sample.run, weight=sample.weight / total[sample.row])


def strength_of(log: Log, sample: Sample) -> float:
    """The penalty with the least cross-entropy out of fold, over all models."""
    order = np.random.default_rng(0).permutation(len(log.quality))
    most = max(int(_TRIAL_ROWS * len(order) / len(sample.row)), 1)
    some = sample.where(np.isin(sample.row, order[:most]))
    loss = np.zeros(len(_STRENGTHS))
    for target in range(log.quality.shape[1]):
        for number, strength in enumerate(_STRENGTHS):
            fitted = _Regression(log, some, target, strength)
            eta = np.clip(fitted.held_out()[1], -30.0, 30.0)
            loss[number] += fitted.weight @ (np.logaddexp(0.0, eta) - fitted.y * eta)
    return _STRENGTHS[int(loss.argmin())]


class _Regression:
    """One model's regression on a sample of run sets."""

    def __init__(self, log: Log, sample: Sample, target: int, strength: float) -> None:
        self.sample = sample.where(np.isfinite(log.quality[sample.row, target]))
        rows = self.sample.row
        self.x = design(log.seen.take(rows), self.sample.run, target, log.usual)
        self.offset = log.seen.logits[rows, target]
        self.y, self.weight, self.fold = log.quality[rows, target], self.sample.weight, log.fold[rows]
        self.penalty = penalties(log.quality.shape[1], log.seen.details.shape[2], strength)
        self.parts = int(log.fold.max()) + 1

    def fit(self, kept: Bools | slice, start: Floats | None = None) -> Floats:
        return logistic(self.x[kept], self.y[kept], self.weight[kept], self.penalty, offset=self.offset[kept], start=start)

    def held_out(self) -> tuple[Floats, Floats]:
        """The weights without each fold, float64 [f, p], and the logits that they give its rows, float64 [r]."""
        found, eta, start = [], self.offset.copy(), None
        for part in range(self.parts):
            here = self.fold == part
            start = self.fit(~here, start)
            eta[here] += self.x[here] @ start
            found.append(start)
        return np.stack(found), eta


def regressions(log: Log, sample: Sample, strength: float) -> tuple[Regressions, tuple[Regressions, ...]]:
    """All models' regressions on all rows, and without each fold, each recalibrated on what was not fitted."""
    m, d = log.quality.shape[1], log.seen.details.shape[2]
    parts = int(log.fold.max()) + 1
    learned = np.zeros((parts + 1, m, len(penalties(m, d, strength))))
    calibration = np.zeros((parts + 1, 2, 2, m + 1, m))  # slope or shift, a, how many, target
    calibration[:, 0] = 1.0
    for target in range(m):
        one = _Regression(log, sample, target, strength)
        folds, eta = one.held_out()
        learned[:parts, target], learned[parts, target] = folds, one.fit(slice(None), folds[0])
        count, ran = one.sample.run.sum(axis=1), one.sample.run[:, target]
        for size in range(m + 1):
            for a in (0, 1):
                group = (count == size) & (ran == bool(a))
                for part in range(parts + 1):
                    here = group & (one.fold != part)
                    if here.any():
                        # Within its group a query counts once, however rare the group is among its states.
                        weight = one.weight[here] / one.weight[here].max()
                        weight = weight / np.bincount(one.sample.row[here], weight)[one.sample.row[here]]
                        calibration[part, :, a, size, target] = recalibration(eta[here], one.y[here], weight, _SHRINK)
    made = [Regressions.of(learned[part], d, calibration[part]) for part in range(parts + 1)]
    return made[-1], tuple(made[:-1])


def factors_of(states: PostHocStates, answered: Bools) -> dict[int, Floats]:
    """For each run set, a factor of the covariance of how far estimates moved from there until all had answered.

    Args:
        states: Out-of-fold estimates of n queries.
        answered: bool [n, m], who is in the log; for each run set those queries count that more models answered.

    Returns:
        Run set → float64 [m, m]. Run sets of fewer than 30 such queries are left out, and of more than 4,096 the largest.
    """
    n, m = answered.shape
    last = np.zeros((n, m))
    names = answered @ (1 << np.arange(m))
    for name in np.unique(names).tolist():
        rows = np.flatnonzero(names == name)
        last[rows] = states.quality(name, rows)
    found = {}
    for run in sorted(range((1 << m) - 1), key=int.bit_count)[:_CELLS]:
        rows = np.flatnonzero((names & run == run) & (names != run))
        if len(rows) >= _FEWEST:
            found[run] = factor_of(states.quality(run, rows) - last[rows])
    return found
