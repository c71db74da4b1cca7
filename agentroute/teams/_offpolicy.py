"""What a log says of a policy that did not make it: weights for the runs that had what the policy gives, and intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Figure", "Judged", "Rows", "draws", "estimate", "figure"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_OVERLAP: Final = 20.0
"""Runs, or what they count for, that a policy must share with the log before a number is given."""
_UNSUPPORTED: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A mean with its 95 % interval, by bootstrap over tasks."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """`0.62 (0.55 to 0.69)`."""
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What one policy would have come to.

    Attributes:
        name: Which policy.
        success: Of the team; `None` = the log cannot tell, and `verdict` says why.
        cost: USD a run; `None` = likewise, or costs are unknown.
        by: What `success` comes from: `"dr"` needs no model to be right, `"sum"` needs what the model misses to be a sum of what
            the roles add, `"mean"` is that of the logged runs.
        matched: Logged runs that had just what the policy gives.
        effective: How many runs these are worth, their chances counted.
        estimates: Every estimate that the log allows: `"ips"`, `"snips"`, `"dr"`, `"sum"`.
        expected: What the additive model expects of it, which is no evidence.
        verdict: `"ok"`, `"too few matches"` or `"no overlap"`.
    """

    name: str
    success: Figure | None
    cost: Figure | None
    by: Literal["dr", "sum", "mean"] | None
    matched: int
    effective: float
    estimates: Mapping[str, Figure]
    expected: float
    verdict: Literal["ok", "too few matches", "no overlap"]

    def __str__(self) -> str:
        """In one line."""
        if self.success is None:
            return f"{self.name}: {self.verdict} ({self.matched} logged runs had what it gives)"
        cost = "" if self.cost is None else f", ${self.cost} a run"
        return f"{self.name}: success {self.success}{cost} [{self.by}, {self.matched} runs matched]"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """The n logged runs that a policy is judged by.

    Attributes:
        propensity: float64 [n], the chance with which the run had what it had.
        chances: float64 [k + 1], one over the number of columns of each role, then of the modes, where all were drawn evenly and
            independently; `None` = they were not.
        seen: float64 [n, 2], success and USD; NaN = unknown cost.
        expected: float64 [n, 2], what a model that has not seen them expected of them.
        draws: float64 [b, n], how often each run counts in each resample.
    """

    propensity: Floats
    chances: Floats | None
    seen: Floats
    expected: Floats
    draws: Floats


def draws(groups: Places, resamples: int, seed: int) -> Floats:
    """How often each run counts when as many tasks are drawn as there are: float64 [resamples, n]."""
    units = int(groups.max()) + 1
    # One histogram over (resample, task) cells is much faster than multinomials.
    cells = np.random.default_rng(seed).integers(units, size=(resamples, units)) + np.arange(resamples)[:, None] * units
    counts = np.bincount(cells.ravel(), minlength=resamples * units).reshape(resamples, units)
    return np.asarray(counts[:, groups], np.float64)


def figure(values: Floats, drawn: Floats, *, top: float = np.inf) -> Figure | None:
    """The mean of what is known, within [-top, top]; `None` = nothing is.

    Args:
        values: float64 [n], NaN = unknown.
        drawn: float64 [b, n].
        top: The greatest that it can be.
    """
    known = ~np.isnan(values)
    if not known.any():
        return None
    return _ratio(np.where(known, values, 0.0), known.astype(np.float64), drawn, top)


def _ratio(over: Floats, under: Floats, drawn: Floats, top: float) -> Figure:
    """One sum over another, and the middle 95 % of its resamples; those in which nothing is left to divide by say nothing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (drawn @ over) / (drawn @ under)
    low, high = np.nanquantile(found[np.isfinite(found)], [0.025, 0.975]).clip(-top, top).tolist()
    return Figure(value=float(np.clip(over.sum() / under.sum(), -top, top)), low=low, high=high)


def estimate(name: str, matches: Flags, expected: Floats, rows: Rows) -> tuple[Judged, dict[str, Floats]]:
    """What a policy would have come to, and the values behind it: estimator → float64 [n, 2], success and USD of each run.

    Args:
        name: Which policy.
        matches: bool [n, k + 1], whether each role had, and the mode was, what the policy gives.
        expected: float64 [n, 2], success and USD that a model expects of it.
        rows: The runs.
    """
    matched = matches.all(axis=1)
    weight = matched / rows.propensity
    effective = float(weight.sum() ** 2 / (weight**2).sum()) if matched.any() else 0.0
    values: dict[str, Floats] = {}
    # A run that could only go as it went says nothing of a policy that would have had it otherwise.
    blind = float(((rows.propensity > 1.0 - 1e-9) & ~matched).mean()) > _UNSUPPORTED
    # Weights are 1 on average wherever the policy could have been matched.
    adrift = abs(float(weight.mean()) - 1.0) > 4.0 * float(weight.std()) / np.sqrt(len(weight)) if matched.any() else True
    missed = rows.seen - rows.expected
    estimates: dict[str, Figure] = {}
    if effective >= _OVERLAP and not blind and not adrift:
        values["dr"] = expected + weight[:, None] * missed
        values["ips"] = weight[:, None] * rows.seen
        estimates["snips"] = _ratio(weight * rows.seen[:, 0], weight, rows.draws, 1.0)
    if rows.chances is not None and matches.sum(axis=0).min() >= _OVERLAP:
        # Of each part alone the log has far more than of the whole; what the model misses is taken for a sum over the parts.
        values["sum"] = expected + (1.0 + (matches / rows.chances - 1.0).sum(axis=1))[:, None] * missed
    for kind, each in values.items():
        one = figure(each[:, 0], rows.draws, top=1.0)
        estimates |= {} if one is None else {kind: one}
    by: Literal["dr", "sum"] | None = "dr" if "dr" in values else "sum" if "sum" in values else None
    return Judged(
        name=name,
        success=None if by is None else estimates[by],
        cost=None if by is None else figure(values[by][:, 1], rows.draws),
        by=by,
        matched=int(matched.sum()),
        effective=effective,
        estimates=estimates,
        expected=float(expected[:, 0].mean()),
        verdict="ok" if by is not None else "no overlap" if blind or adrift else "too few matches",
    ), values
