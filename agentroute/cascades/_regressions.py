"""The learned regressions of a post-hoc estimate, folded into what each state of a cascade needs of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from agentroute.cascades._calibrate import sigmoid
from agentroute.cascades._design import GROUP, Seen, bits_of, groups
from agentroute.types import Matrix

__all__ = ["PostHocStates", "Regressions"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_NAMES = ("bias", "logits", "details", "pairs", "group", "slope", "shift")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Regressions:
    """The weights of all m regressions, by what they multiply; a = 0: the target has not answered, 1: it has.

    Attributes:
        bias: float64 [2, m], a, target.
        logits: float64 [m, 2, m], from whose ex-ante logit, a, target.
        details: float64 [m, d, 2, m], from whose answer, what is seen of it, a, target.
        pairs: float64 [m, m], from whose agreement with the target, target.
        group: float64 [5, m].
        slope: float64 [2, m + 1, m], of the recalibration, by a, how many have answered, target.
        shift: float64 [2, m + 1, m], its intercept.
    """

    bias: Floats
    logits: Floats
    details: Floats
    pairs: Floats
    group: Floats
    slope: Floats
    shift: Floats
    _states: dict[int, _State] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, learned: Floats, details: int, calibration: Floats) -> Regressions:
        """From weights, float64 [m, p], as `design` orders its features, and slopes and shifts, float64 [2, 2, m + 1, m]."""
        m, d = len(learned), details
        ends = np.cumsum([1, m, 1, m, m * d, (m - 1) * d, m - 1, GROUP])
        one, z, ran, ran_z, every, more, pairs, group = np.split(learned, ends[:-1], axis=1)
        bias = np.stack([one[:, 0], one[:, 0] + ran[:, 0]])
        # The target's own logit counts once without being learned: without evidence the estimate stays as it is.
        logits = np.stack([z, z + ran_z], axis=1) + np.eye(m)[:, None, :]  # [target, a, from]
        parts = every.reshape(m, m, d)  # [target, from, d]
        extra, agreed = np.zeros((m, m, d)), np.zeros((m, m))
        for t in range(m):
            others = np.arange(m) != t
            extra[t, others] = more[t].reshape(m - 1, d)
            agreed[others, t] = pairs[t]
        both = np.stack([parts, parts + extra], axis=2)  # [target, from, a, d]
        return cls(
            bias=bias,
            logits=np.ascontiguousarray(logits.transpose(2, 1, 0)),
            details=np.ascontiguousarray(both.transpose(1, 3, 2, 0)),
            pairs=agreed,
            group=np.ascontiguousarray(group.T),
            slope=calibration[0],
            shift=calibration[1],
        )

    def at(self, answered: int) -> _State:
        """What is left of the weights when it is known who has answered; made once for each run set."""
        found = self._states.get(answered)
        if found is None:
            found = self._states[answered] = self._folded(answered)
        return found

    def _folded(self, answered: int) -> _State:
        m = len(self.pairs)
        run = bits_of(answered, m)
        members, ran, every = np.flatnonzero(run), run.astype(np.int64), np.arange(m)
        slope, shift = self.slope[ran, len(members), every], self.shift[ran, len(members), every]
        details = self.details[members][:, :, ran, every].reshape(-1, m)
        group = self.group * slope
        return _State(
            members=members,
            among=np.ix_(members, members),
            bias=slope * self.bias[ran, every] + shift,
            weights=np.concatenate([self.logits[:, ran, every], details]) * slope,
            pairs=self.pairs[np.ix_(members, members)] * slope[members],
            compared=group[0] + ran * group[2],
            largest=group[1] + ran * group[3],
            share=group[4, members],
        )

    def arrays(self) -> dict[str, Floats]:
        """For saving."""
        return {name: getattr(self, name) for name in _NAMES}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Regressions:
        """What `arrays` gave."""
        found: dict[str, Any] = {name: np.asarray(arrays[name], np.float64) for name in _NAMES}
        return cls(**found)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _State:
    """The regressions where r models have answered.

    Attributes:
        members: int64 [r], who.
        among: Their rows and columns of a matrix of pairs.
        bias: float64 [m].
        weights: float64 [m + r d, m], of the logits and of what is seen of the answers.
        pairs: float64 [r, r], of the agreements.
        compared: float64 [m], of there being two answers that have been compared.
        largest: float64 [m], of the largest group's share.
        share: float64 [r], of the share of answers that agree with the target's.
    """

    members: Ints
    among: tuple[npt.NDArray[Any], ...]
    bias: Floats
    weights: Floats
    pairs: Floats
    compared: Floats
    largest: Floats
    share: Floats

    def quality(self, logits: Floats, details: Floats, agreement: Floats | None, usual: Floats) -> Floats:
        """float64 [n, m], expected qualities.

        Args:
            logits: float64 [n, m].
            details: float64 [n, m, d].
            agreement: float64 [n, m, m] or `None`.
            usual: float64 [m, m], how often two models agree.
        """
        n, m = logits.shape
        told = details[:, self.members].reshape(n, len(self.weights) - m)
        eta = np.concatenate([logits, told], axis=1) @ self.weights + self.bias
        if agreement is not None and len(self.members) > 1:
            among = agreement[:, self.among[0], self.among[1]]
            more = np.where(np.isnan(among), 0.0, among - usual[self.among])
            share, largest, compared = groups(among)
            own = compared[:, None] * (share - 0.5) * self.share
            eta += compared[:, None] * (self.compared + (largest - 0.5)[:, None] * self.largest)
            eta[:, self.members] += (more * self.pairs).sum(axis=1) + own
        return sigmoid(eta)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PostHocStates:
    """What is expected of every model for n queries, in every state of a cascade. Columns are the cheapest model first.

    Attributes:
        models: Column names.
        cost: float64 [n, m], expected USD of a call and of scoring its answer.
        latency: float64 [n, m], expected seconds; `None` = unknown.
        seen: The queries in comparable numbers.
        usual: float64 [m, m], how often two models agree.
        regressions: Those that speak of the rows; several when each fold has its own.
        fold: int64 [n], which ones speak of each row.
        factors: Run set → float64 [m, m], a factor of the covariance of how much the estimates will still move; `None` = that
            is not taken into account.
        score_cost: float64 [m], what of `cost` is for scoring; 0 = nothing.
    """

    models: tuple[str, ...]
    cost: Matrix
    latency: Matrix | None
    seen: Seen
    usual: Floats
    regressions: tuple[Regressions, ...]
    fold: Ints
    factors: Mapping[int, Floats] | None = None
    score_cost: Floats | float = 0.0

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.cost)

    def take(self, rows: Ints) -> PostHocStates:
        """The estimates of some rows."""
        return replace(
            self,
            cost=self.cost[rows],
            latency=None if self.latency is None else self.latency[rows],
            seen=self.seen.take(rows),
            fold=self.fold[rows],
        )

    def quality(self, answered: int, rows: Ints, /) -> Matrix:
        """float64 [r, m], expected qualities in [0, 1] of some rows where a set of models has answered.

        Args:
            answered: Bit j set = model j has answered.
            rows: int64 [r].
        """
        if len(self.regressions) == 1:
            return self._of(self.regressions[0], answered, rows)
        found = np.empty((len(rows), len(self.models)))
        fold = self.fold[rows]
        for number, one in enumerate(self.regressions):
            here = fold == number
            if here.any():
                found[here] = self._of(one, answered, rows[here])
        return found

    def _of(self, one: Regressions, answered: int, rows: Ints) -> Floats:
        seen = self.seen.take(rows)
        return one.at(answered).quality(seen.logits, seen.details, seen.agreement, self.usual)

    def factor(self, answered: int, /) -> Matrix | None:
        """float64 [m, m], L with L Lᵀ the covariance of how much the estimates will still move; `None` = not taken into account.

        A run set of which too little was logged has that of the nearest one.
        """
        return nearest(self.factors, answered)


def nearest(factors: Mapping[int, Floats] | None, answered: int) -> Floats | None:
    """The factor of a run set, or that of the one that differs from it in the fewest models."""
    if not factors:
        return None
    found = factors.get(answered)
    return factors[min(factors, key=lambda one: ((one ^ answered).bit_count(), one))] if found is None else found
