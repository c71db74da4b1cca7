"""Whether a model's scores hold outside the window that a router would learn from: contamination, drift, a new version."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.evaluation._diagnosed import Shift
from agentroute.evaluation._intervals import Interval, bootstrap

__all__ = ["SMALLEST_WINDOW", "Drift", "Window", "skill_shifts", "windows_by_time"]

Floats: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = npt.NDArray[np.int64]

LEVEL = 0.01
"""Of the test, over all models together (Holm)."""
SMALLEST_SHIFT = 0.02
"""A change below this is not worth a warning, however sure."""
SMALLEST_WINDOW = 30
_SMALLEST_STRATUM = 5
_COMMON = 0.5
"""Share of the holdout that must ask what the fit window asked too."""
_DATED = 0.95
_MOMENT = 3600.0
"""Seconds; a log that was collected within an hour has an order, not a history."""
_EARLIER = 0.7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """Scores of one period or set.

    Attributes:
        quality: float64 [n, m], complete.
        strata: int64 [n], the task or kind of each query: only queries of the same one are compared.
    """

    quality: Floats
    strata: Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What the comparison of two windows says.

    Attributes:
        shifts: One for each model; empty = could not be compared.
        lost_lead: The best model of the fit window, where another is better in the holdout beyond noise.
        leader: That other model.
        lead: By how much.
        note: Why there is no comparison.
    """

    shifts: tuple[Shift, ...] = ()
    lost_lead: str | None = None
    leader: str | None = None
    lead: Interval | None = None
    note: str | None = None


def windows_by_time(at: Floats) -> tuple[Rows, Rows] | None:
    """Rows of the first 70 % and of the last 30 % of the times; `None` where the log has no history.

    Args:
        at: float64 [n], Unix seconds, NaN = unknown.
    """
    dated = np.flatnonzero(np.isfinite(at))
    if len(dated) < _DATED * len(at) or np.ptp(at[dated]) < _MOMENT:
        return None
    cut = np.quantile(at[dated], _EARLIER, method="higher")
    early, late = dated[at[dated] < cut], dated[at[dated] >= cut]
    return None if min(len(early), len(late)) < SMALLEST_WINDOW else (early, late)


def skill_shifts(before: Window, after: Window, models: Sequence[str], *, resamples: int = 2000, seed: int = 0) -> Drift:
    """Tests each model's change between two windows against that of the others on the same queries.

    Queries are compared task by task (each task weighs by n1 n2 / (n1 + n2), which gives the smallest variance), so that
    another mix of tasks is no shift. A model has shifted when its lead over the others and its own mean both moved beyond
    chance, in the same direction and by 0.02 or more: a holdout that is harder for all moves the means, and one contaminated
    model moves the lead of all the others, but neither moves both. The most certain one is set aside first and the rest are
    compared without it (Holm 1979, step by step), so that it cannot pass its shift on to them.

    Args:
        before: What a router would learn from.
        after: What came later, or was held out.
        models: The columns.
        resamples: Of the intervals.
        seed: Likewise.
    """
    if min(len(before.quality), len(after.quality)) < SMALLEST_WINDOW:
        return Drift(note=f"a window of fewer than {SMALLEST_WINDOW} queries")
    pair = _Pair.of(before, after)
    if pair is None:
        return Drift(note="the holdout asks other things than the log")
    moved, certain, reference = _tested(pair, len(models))
    means = pair.means(pair.quality)
    drawn = _intervals(pair, reference, resamples, seed)
    shifts = tuple(
        Shift(
            model=model,
            before=float(means[0][j]),
            after=float(means[1][j]),
            change=drawn[j],
            relative=drawn[len(models) + j],
            p_value=certain[j],
            shifted=j in moved,
        )
        for j, model in enumerate(models)
    )
    return _lead(before, pair, models, shifts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pair:
    """Both windows, one under the other.

    Attributes:
        quality: float64 [n, m].
        stratum: int64 [n], numbered from 0, those that both windows have.
        late: bool [n], whether a row is of the second window.
        weight: float64 [n], adds up to 1 in each window, and to the same in each stratum of both.
    """

    quality: Floats
    stratum: Rows
    late: npt.NDArray[np.bool_]
    weight: Floats

    @classmethod
    def of(cls, before: Window, after: Window) -> _Pair | None:
        quality = np.concatenate([before.quality, after.quality])
        names, stratum = np.unique(np.concatenate([before.strata, after.strata]), return_inverse=True)
        late = np.arange(len(quality)) >= len(before.quality)
        counts = np.stack([np.bincount(stratum[late == one], minlength=len(names)) for one in (False, True)])
        common = np.asarray((counts >= _SMALLEST_STRATUM).all(axis=0))
        kept = common[stratum]
        if kept[late].sum() < max(_COMMON * late.sum(), SMALLEST_WINDOW) or kept[~late].sum() < SMALLEST_WINDOW:
            return None
        mass = np.where(common, counts.prod(axis=0) / np.maximum(counts.sum(axis=0), 1), 0.0)
        weight = (mass / mass.sum() / np.maximum(counts, 1))[late.astype(np.int64), stratum]
        stratum = np.unique(stratum[kept], return_inverse=True)[1]
        return cls(quality=quality[kept], stratum=stratum, late=late[kept], weight=weight[kept])

    def means(self, values: Floats) -> tuple[Floats, Floats]:
        """float64 [c] of the first and of the second window."""
        return self.weight[~self.late] @ values[~self.late], self.weight[self.late] @ values[self.late]

    def centred(self, values: Floats) -> Floats:
        """Less the stratum's mean over both windows: changes stay what they are, and tasks no longer add to the variance."""
        return values - _stratum_means(values, self.stratum)

    def test(self, values: Floats) -> tuple[Floats, Floats]:
        """float64 [c] twice: change from the first window to the second, and its two-sided p (Welch, normal)."""
        first, second = self.means(values)
        change = second - first
        cell = 2 * self.stratum + self.late
        count = np.bincount(cell)[cell]
        # Each row speaks for its weight; the spread is that around the mean of its own stratum and window.
        spread = (values - _stratum_means(values, cell)) ** 2 * (count / (count - 1))[:, None]
        error = np.sqrt((self.weight**2) @ spread)
        z = np.divide(np.abs(change), error, out=np.where(np.abs(change) > 1e-12, np.inf, 0.0), where=error > 1e-12)
        return change, np.array([math.erfc(one / math.sqrt(2.0)) for one in z.tolist()])


def _stratum_means(values: Floats, stratum: Rows) -> Floats:
    count = np.bincount(stratum)
    total = np.stack([np.bincount(stratum, weights=column) for column in values.T], axis=1)
    return np.asarray((total / np.maximum(count, 1)[:, None])[stratum])


def _leads(quality: Floats, reference: Sequence[Rows]) -> Floats:
    """float64 [n, m]: each model's score less the mean of its reference models on the same query; NaN without any."""
    others = [quality[:, rows].mean(axis=1) if len(rows) else np.full(len(quality), np.nan) for rows in reference]
    return np.asarray(quality - np.stack(others, axis=1), np.float64)


def _tested(pair: _Pair, models: int) -> tuple[list[int], list[float], list[Rows]]:
    """Who moved; each model's corrected p of its lead; and the models that each was compared with."""
    own, own_p = pair.test(pair.quality)
    moved: list[int] = []
    certain = [math.nan] * models
    last = 0.0
    while True:
        rest = [j for j in range(models) if j not in moved]
        reference = [np.array(_others(j, rest) or _others(j, range(models)), np.int64) for j in range(models)]
        if len(rest) < 2:
            break
        change, p = pair.test(_leads(pair.quality, reference))
        corrected = np.minimum(p * len(rest), 1.0)
        for j in rest:
            certain[j] = max(float(corrected[j]), last)
        suspects = [
            j
            for j in rest
            if change[j] * own[j] > 0
            and min(abs(change[j]), abs(own[j])) >= SMALLEST_SHIFT
            and max(corrected[j], own_p[j] * len(rest)) <= LEVEL
        ]
        if not suspects:
            break
        worst = min(suspects, key=lambda j: (p[j], -abs(change[j])))
        last = certain[worst]
        moved.append(worst)
    return moved, certain, reference


def _others(j: int, models: Sequence[int]) -> list[int]:
    return [k for k in models if k != j]


def _intervals(pair: _Pair, reference: Sequence[Rows], resamples: int, seed: int) -> list[Interval]:
    """Of each model's change, then of each model's change of lead."""
    values = np.concatenate([pair.quality, _leads(pair.quality, reference)], axis=1)
    values = pair.centred(values)
    early, late = np.where(pair.late, 0.0, pair.weight), np.where(pair.late, pair.weight, 0.0)
    known = np.isfinite(values).all(axis=0)
    filled = np.where(known, values, 0.0)

    def statistic(weights: Floats) -> Floats:
        parts = [((weights * side) @ filled) / (weights @ side)[:, None] for side in (late, early)]
        return np.where(known, parts[0] - parts[1], np.nan)

    return bootstrap(statistic, len(values), resamples=resamples, seed=seed)


def _lead(before: Window, pair: _Pair, models: Sequence[str], shifts: tuple[Shift, ...]) -> Drift:
    """Whether the model that a router would fall back to is still the best one."""
    best = int(before.quality.mean(axis=0).argmax())
    after = pair.means(pair.quality)[1]
    leader = int(after.argmax())
    if leader == best:
        return Drift(shifts=shifts)
    rows = np.flatnonzero(pair.late)
    ahead, weight = pair.quality[rows, leader] - pair.quality[rows, best], pair.weight[rows]
    # 99 %: the leader was chosen out of several for what it did here.
    [lead] = bootstrap(lambda weights: (weights @ (weight * ahead)) / (weights @ weight), len(rows), level=1.0 - LEVEL)
    if lead.low <= 0.0:
        return Drift(shifts=shifts)
    return Drift(shifts=shifts, lost_lead=models[best], leader=models[leader], lead=lead)
