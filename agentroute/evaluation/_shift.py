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
from agentroute.evaluation._laps import means_of
from agentroute.evaluation._questions import likeness

__all__ = ["SMALLEST_WINDOW", "Drift", "Window", "skill_shifts", "windows_by_time"]

Floats: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = npt.NDArray[np.int64]

LEVEL = 0.01
"""Of each test: of shifts over all models together (Holm), of the lead, and of the questions."""
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
    """Scores of one period or set, one row for each different question.

    Attributes:
        quality: float64 [n, m], complete.
        strata: int64 [n], the task or kind of each query: only queries of the same one are compared.
        groups: int64 [n], a number for each question: that of a row of the other window where both ask it. `None` = they share
            none.
        vectors: float32 [n, d], to see whether a kind's questions are the same in both; `None` = unknown.
    """

    quality: Floats
    strata: Rows
    groups: Rows | None = None
    vectors: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What the comparison of two windows says.

    Attributes:
        shifts: One for each model; empty = could not be compared.
        lost_lead: The best model of the fit window, where another is better in the holdout beyond noise, and was not before.
        leader: That other model.
        lead: By how much.
        note: Why there is no comparison.
        others: Whether the second window asks other questions within the kinds that are compared. No model is then said to
            have shifted or to have lost its lead, for that may be the questions' doing.
        moved: The models of which it would have been said.
    """

    shifts: tuple[Shift, ...] = ()
    lost_lead: str | None = None
    leader: str | None = None
    lead: Interval | None = None
    note: str | None = None
    others: bool = False
    moved: tuple[str, ...] = ()


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

    Queries are compared stratum by stratum (each weighs by n1 n2 / (n1 + n2), which gives the smallest variance), so that
    another mix of strata is no shift. A model has shifted when three things moved beyond chance, in the same direction and by
    0.02 or more: its mean; its lead over the others; and its mean beyond what the others lead to expect, if a harder or
    easier window moves the log odds of all models alike. One contaminated model moves the lead of all the others, but not
    their means. The most certain one is set aside first and the rest are compared without it (Holm 1979, step by step), so
    that it cannot pass its shift on to them.

    Where the vectors within strata differ between the windows, the questions did: see `Drift.others`. A window that is harder
    in a way that hits one model only, and that the vectors do not show, cannot be told from a shift.

    Args:
        before: What a router would learn from.
        after: What came later, or was held out.
        models: The columns.
        resamples: Of the intervals.
        seed: Likewise.
    """
    for window, name in ((before, "the fit window"), (after, "the second window")):
        if len(window.quality) < SMALLEST_WINDOW:
            few = f"{len(window.quality)} different questions that all models answered"
            return Drift(note=f"{name} has {few}, and it takes {SMALLEST_WINDOW}")
    pair, note = _Pair.of(before, after)
    if pair is None:
        return Drift(note=note)
    others = pair.vectors is not None and likeness(pair.vectors, pair.stratum, pair.late, seed=seed) <= LEVEL
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
            shifted=j in moved and not others,
        )
        for j, model in enumerate(models)
    )
    if others:
        return Drift(shifts=shifts, others=True, moved=tuple(models[j] for j in moved))
    return _lead(pair, models, shifts, seed)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pair:
    """Both windows, one under the other.

    Attributes:
        quality: float64 [n, m].
        stratum: int64 [n], numbered from 0, those that both windows have.
        late: bool [n], whether a row is of the second window.
        weight: float64 [n], adds up to 1 in each window, and to the same in each stratum of both.
        groups: int64 [n], the question that a row asks; `None` = no two ask the same.
        vectors: float32 [n, d]; `None` = unknown.
    """

    quality: Floats
    stratum: Rows
    late: npt.NDArray[np.bool_]
    weight: Floats
    groups: Rows | None
    vectors: npt.NDArray[np.float32] | None

    @classmethod
    def of(cls, before: Window, after: Window) -> tuple[_Pair | None, str | None]:
        """The rows that can be compared, or why there are too few."""
        quality = np.concatenate([before.quality, after.quality])
        names, stratum = np.unique(np.concatenate([before.strata, after.strata]), return_inverse=True)
        late = np.arange(len(quality)) >= len(before.quality)
        counts = np.stack([np.bincount(stratum[late == one], minlength=len(names)) for one in (False, True)])
        common = np.asarray((counts >= _SMALLEST_STRATUM).all(axis=0))
        kept = common[stratum]
        needed = math.ceil(max(_COMMON * late.sum(), SMALLEST_WINDOW))
        if kept[late].sum() < needed:
            some = f"{int(kept[late].sum())} of the {int(late.sum())} questions of the second window"
            return (
                None,
                f"{some} are of a kind that the fit window asks too, and it takes {needed}",
            )
        if kept[~late].sum() < SMALLEST_WINDOW:
            some = f"{int(kept[~late].sum())} of the {int((~late).sum())} questions of the fit window"
            return None, f"{some} are of a kind that the second one asks too, and it takes {SMALLEST_WINDOW}"
        mass = np.where(common, counts.prod(axis=0) / np.maximum(counts.sum(axis=0), 1), 0.0)
        weight = (mass / mass.sum() / np.maximum(counts, 1))[late.astype(np.int64), stratum]
        both = None if before.groups is None or after.groups is None else np.concatenate([before.groups, after.groups])[kept]
        groups = None if both is None else np.unique(both, return_inverse=True)[1]
        vectors = None
        if before.vectors is not None and after.vectors is not None:
            vectors = np.concatenate([before.vectors, after.vectors])[kept]
        return cls(
            quality=quality[kept],
            stratum=np.unique(stratum[kept], return_inverse=True)[1],
            late=late[kept],
            weight=weight[kept],
            groups=None if groups is None or groups.max() == len(groups) - 1 else groups,
            vectors=vectors,
        ), None

    def means(self, values: Floats) -> tuple[Floats, Floats]:
        """float64 [c] of the first and of the second window."""
        return self.weight[~self.late] @ values[~self.late], self.weight[self.late] @ values[self.late]

    def centred(self, values: Floats) -> Floats:
        """Less the stratum's mean over both windows: changes stay what they are, and tasks no longer add to the variance."""
        return values - means_of(values, self.stratum)

    def test(self, values: Floats, change: Floats | None = None, doubt: Floats | float = 0.0) -> tuple[Floats, Floats]:
        """float64 [c] twice: change from the first window to the second, and its two-sided p (Welch, normal).

        Args:
            values: float64 [n, c].
            change: float64 [c], where it is another than that of the means, which these values then follow near by.
            doubt: float64 [c], variance that no spread of values shows.
        """
        if change is None:
            first, second = self.means(values)
            change = second - first
        cell = 2 * self.stratum + self.late
        count = np.bincount(cell)[cell]
        # Each row speaks for its weight; the spread is that around the mean of its own stratum and window.
        apart = (values - means_of(values, cell)) * (self.weight * np.sqrt(count / (count - 1)))[:, None]
        if self.groups is not None:  # a question that both windows ask is hard or easy in both
            signed = np.where(self.late[:, None], apart, -apart)
            apart = np.stack([np.bincount(self.groups, weights=column) for column in signed.T], axis=1)
        error = np.sqrt((apart**2).sum(axis=0) + doubt)
        z = np.divide(np.abs(change), error, out=np.where(np.abs(change) > 1e-12, np.inf, 0.0), where=error > 1e-12)
        return change, np.array([math.erfc(one / math.sqrt(2.0)) for one in z.tolist()])


def _leads(quality: Floats, reference: Sequence[Rows]) -> Floats:
    """float64 [n, m]: each model's score less the mean of its reference models on the same query; NaN without any."""
    others = [quality[:, rows].mean(axis=1) if len(rows) else np.full(len(quality), np.nan) for rows in reference]
    return np.asarray(quality - np.stack(others, axis=1), np.float64)


def _beyond(pair: _Pair, reference: Sequence[Rows]) -> tuple[Floats, Floats]:
    """float64 [m] twice: each model's mean less what its reference models lead to expect, and the p of that.

    Expected is what it had before, moved by so many log odds that the same move explains the mean of its reference models.
    That is what a harder or easier window does to all models (Rasch): it takes few points of one that is nearly always right.
    """
    counts = np.array([(~pair.late).sum(), pair.late.sum()])[:, None]
    # Half a success more and half a failure: a model that was always right has finite odds, and its move is in doubt.
    was, now = (np.stack(pair.means(pair.quality)) * counts + 0.5) / (counts + 1)
    m = len(was)
    mask = np.zeros((m, m))  # row: a model; column: one of those that it is compared with
    for j, rows in enumerate(reference):
        mask[j, rows] = 1.0 / len(rows)
    odds = np.log(was / (1.0 - was))
    low, high = np.full(m, -50.0), np.full(m, 50.0)
    for _ in range(50):
        middle = (low + high) / 2
        too_high = (mask * _sigmoid(odds + middle[:, None])).sum(axis=1) > mask @ now
        low, high = np.where(too_high, low, middle), np.where(too_high, middle, high)
    expected = _sigmoid(odds + low[:, None])
    slope = expected * (1.0 - expected)
    passed = np.diag(slope) / (mask * slope).sum(axis=1)
    # How far each mean moves the difference, now and before.
    pull = np.eye(m) - passed[:, None] * mask
    before = pull * slope / (was * (1.0 - was))
    values = np.where(pair.late[:, None], pair.quality @ pull.T, pair.quality @ before.T)
    doubt = (0.5 * before**2 / (counts[0] + 1) ** 2 + 0.5 * pull**2 / (counts[1] + 1) ** 2).sum(axis=1)
    return pair.test(values, now - np.diag(expected), doubt)


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-values)))


def _tested(pair: _Pair, models: int) -> tuple[list[int], list[float], list[Rows]]:
    """Who moved; each model's corrected p (the larger of both ways to compare); and the models that each was compared with."""
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
        beyond, beyond_p = _beyond(pair, reference)
        p = np.maximum(p, beyond_p)
        corrected = np.minimum(p * len(rest), 1.0)
        for j in rest:
            certain[j] = max(float(corrected[j]), last)
        suspects = [
            j
            for j in rest
            if np.sign(change[j]) == np.sign(own[j]) == np.sign(beyond[j])
            and min(abs(change[j]), abs(own[j]), abs(beyond[j])) >= SMALLEST_SHIFT
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

    return bootstrap(statistic, len(values), resamples=resamples, seed=seed, groups=pair.groups)


def _lead(pair: _Pair, models: Sequence[str], shifts: tuple[Shift, ...], seed: int) -> Drift:
    """Whether the model that a router would fall back to is still the best one, both by strata weighed alike."""
    best, leader = (int(mean.argmax()) for mean in pair.means(pair.quality))
    if leader == best:
        return Drift(shifts=shifts)
    ahead = (pair.quality[:, leader] - pair.quality[:, best])[:, None]
    gained, p = pair.test(ahead)
    now, weight = ahead[pair.late], pair.weight[pair.late]
    # 99 %: the leader was chosen out of several for what it did here.
    [lead] = bootstrap(
        lambda weights: ((weights * weight) @ now) / (weights @ weight)[:, None], len(now), level=1.0 - LEVEL, seed=seed
    )
    if lead.low <= 0.0 or gained[0] <= 0.0 or p[0] > LEVEL:
        return Drift(shifts=shifts)
    return Drift(shifts=shifts, lost_lead=models[best], leader=models[leader], lead=lead)
