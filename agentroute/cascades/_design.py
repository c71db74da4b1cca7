"""From answers to features: what a post-hoc estimate of one model is made of, in every state of a cascade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agentroute.cascades._calibrate import logit

__all__ = ["GROUP", "Seen", "Standard", "bits_of", "design", "groups", "penalties"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_NAMES = ("centre", "scale", "bend", "prior", "agreement")
GROUP = 5
"""Features of how far the answers agree: at least two; the largest group; both again where the target has answered; its own."""
_LOGITS = 10.0  # least inverse variance of the weight of a logit
_FAR = 3.0  # standard deviations beyond which a signal says no more


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standard:
    """What makes the numbers comparable, learned from a log.

    Attributes:
        centre: float64 [m, k], mean of each signal of each model.
        scale: float64 [m, k], its standard deviation.
        bend: float64 [m, k], the mean of the part above its mean.
        prior: float64 [m], the quality of a model of which nothing is expected.
        agreement: float64 [m, m], how often two models agree.
    """

    centre: Floats
    scale: Floats
    bend: Floats
    prior: Floats
    agreement: Floats

    @classmethod
    def of(cls, signals: Floats, quality: Floats, agreement: Floats | None) -> Standard:
        """From signals [n, m, k], quality [n, m] and agreement [n, m, m]; NaN = not known."""
        known = np.isfinite(signals)
        count = np.maximum(known.sum(axis=0), 1.0)
        centre = np.where(known, signals, 0.0).sum(axis=0) / count
        scale = np.sqrt((np.where(known, signals - centre, 0.0) ** 2).sum(axis=0) / count)
        seen = np.isfinite(quality)
        prior = (np.where(seen, quality, 0.0).sum(axis=0) + 0.5) / (seen.sum(axis=0) + 1.0)
        m = quality.shape[1]
        if agreement is None:
            mean = np.full((m, m), 0.5)
        else:
            both = np.isfinite(agreement)
            mean = (np.where(both, agreement, 0.0).sum(axis=0) + 0.5) / (both.sum(axis=0) + 1.0)
        scale = np.where(scale > 1e-12, scale, 1.0)
        value = np.clip(np.where(known, (signals - centre) / scale, 0.0), -_FAR, _FAR)
        bend = np.maximum(value, 0.0).sum(axis=0) / count
        return cls(centre=centre, scale=scale, bend=bend, prior=prior, agreement=mean)

    def logits(self, exante: Floats) -> Floats:
        """Ex-ante logits [..., m] of expected qualities [..., m]."""
        return logit(np.where(np.isnan(exante), self.prior, exante))

    def details(self, signals: Floats) -> Floats:
        """What is seen of each answer: [..., m, d] of signals [..., m, k], d = 1 + 3 k.

        A one; then for each signal its standardised value, the same where it is above its mean (so that the effect may bend
        there, less what that is on average), and whether it is missing. What is missing is as on average.
        """
        missing = np.isnan(signals)
        value = np.clip(np.where(missing, 0.0, (signals - self.centre) / self.scale), -_FAR, _FAR)
        above = np.where(missing, 0.0, np.maximum(value, 0.0) - self.bend)
        parts = np.stack([value, above, missing.astype(np.float64)], axis=-1)
        flat = parts.reshape(*signals.shape[:-1], -1)
        return np.concatenate([np.ones((*signals.shape[:-1], 1)), flat], axis=-1)

    def seen(self, exante: Floats, signals: Floats, agreement: Floats | None) -> Seen:
        """Expected qualities [n, m], signals [n, m, k] and agreement [n, m, m] in comparable numbers."""
        return Seen(logits=self.logits(exante), details=self.details(signals), agreement=agreement)

    def arrays(self) -> dict[str, Floats]:
        """For saving."""
        return {name: getattr(self, name) for name in _NAMES}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.float64]]) -> Standard:
        """What `arrays` gave."""
        return cls(**{name: arrays[name] for name in _NAMES})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """All that is known of n queries, in comparable numbers.

    Attributes:
        logits: float64 [n, m], ex ante.
        details: float64 [n, m, d].
        agreement: float64 [n, m, m], NaN = not known; `None` = nothing is known.
    """

    logits: Floats
    details: Floats
    agreement: Floats | None

    def take(self, rows: npt.NDArray[np.int64]) -> Seen:
        """Some rows."""
        agreement = None if self.agreement is None else self.agreement[rows]
        return Seen(logits=self.logits[rows], details=self.details[rows], agreement=agreement)


def bits_of(answered: int, models: int) -> Bools:
    """Bool [m]: bit j of a run set."""
    return (answered >> np.arange(models) & 1).astype(np.bool_)


def groups(agreement: Floats) -> tuple[Floats, Floats, Floats]:
    """How some answers group.

    Args:
        agreement: float64 [n, r, r], of those that are there; NaN = not known.

    Returns:
        For each the share of the others that say the same, float64 [n, r]; the largest of these shares, float64 [n]; and
        whether any two were compared, 0 or 1, float64 [n].
    """
    known = ~np.isnan(agreement)
    r = np.arange(agreement.shape[1])
    known[:, r, r] = False
    count = known.sum(axis=2)
    share = np.where(known, agreement, 0.0).sum(axis=2) / np.maximum(count, 1)
    return share, share.max(axis=1, initial=0.0), (count.max(axis=1, initial=0) > 0).astype(np.float64)


def design(seen: Seen, run: Bools, target: int, usual: Floats) -> Floats:
    """The features of one model's quality, float64 [n, p].

    Args:
        seen: n rows.
        run: bool [n, m], who has answered.
        target: Whose quality.
        usual: float64 [m, m], how often two models agree.

    In this order: 1, logits [m], whether the target ran, that times logits [m]; what is seen of each answer [m d]; the same
    where the target ran, without its own [(m - 1) d]; the target's agreement with each other answer [m - 1]; how the answers
    group [5].
    """
    n, m = run.shape
    ran = run[:, [target]].astype(np.float64)
    others = np.arange(m) != target
    here = run[:, :, None] * seen.details
    pairs, group = np.zeros((n, m - 1)), np.zeros((n, GROUP))
    if seen.agreement is not None:
        both = run[:, :, None] & run[:, None, :]
        share, largest, compared = groups(np.where(both, seen.agreement, np.nan))
        size, own = compared * (largest - 0.5), compared * ran[:, 0] * (share[:, target] - 0.5)
        group = np.column_stack([compared, size, compared * ran[:, 0], size * ran[:, 0], own])
        among = seen.agreement[:, target, others]
        pairs = np.where(np.isnan(among), 0.0, among - usual[target, others]) * ran * run[:, others]
    return np.concatenate(
        [
            np.ones((n, 1)),
            seen.logits,
            ran,
            ran * seen.logits,
            here.reshape(n, -1),
            (ran[:, :, None] * here[:, others]).reshape(n, -1),
            pairs,
            group,
        ],
        axis=1,
    )


def penalties(models: int, details: int, strength: float) -> Floats:
    """float64 [p]: how strongly each feature of `design` is drawn to 0; the intercept hardly is.

    The weights of ex-ante logits are always drawn strongly. Out of fold the mean of the other rows is lower for a good answer
    than for a bad one: by a hair, which a free weight could make as thick as it likes, and so tell the answer that it was to
    predict.
    """
    m, d = models, details
    found = np.full(2 * (m + 1) + (2 * m - 1) * d + m - 1 + GROUP, strength)
    found[0] *= 0.01
    found[1 : m + 1] = found[m + 2 : 2 * m + 2] = max(strength, _LOGITS)
    return found
