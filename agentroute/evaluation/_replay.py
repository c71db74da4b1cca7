"""Off-policy evaluation: what another policy would have scored on a log that was written under chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError
from agentroute.estimators import Estimator
from agentroute.evaluation._intervals import Interval, bootstrap
from agentroute.evaluation._logged import LoggedDecisions
from agentroute.evaluation._refusal import LEAST_ESS, Evidence, Refusal, effective_size, refusal_of
from agentroute.evaluation._targets import Target, chances_of, estimates_of

__all__ = ["LoggedDecisions", "OffPolicy", "PolicyValue", "Refusal", "Target", "off_policy"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyValue:
    """A mean (of quality, or of USD a call) under the target, estimated in three ways from what another policy logged.

    What the log does not cover counts as 0 for `ips`, as the mean of what it covers for `snips`, and as the estimates say for
    `dr`. The intervals hold whatever that part may be, between the ends of the measure: 0 and 1 for quality, the least and the
    most that was logged for cost, beyond which a model that was never logged may lie.

    Attributes:
        logged: The mean under the policy that wrote the log.
        ips: Inverse propensity score: mean of weight times value. Free of bias, and the widest; it may leave [0, 1].
        snips: Self-normalised: the same by the sum of the weights. Steadier; its bias vanishes as the log grows.
        dr: Doubly robust: what estimates say, corrected by weighted residuals. Free of bias however wrong the estimates are, and
            the narrower the better they are.
        gain: `"ips"`, `"snips"` and `"dr"` → target less logged, paired by row.
    """

    logged: Interval
    ips: Interval
    snips: Interval
    dr: Interval
    gain: Mapping[str, Interval]


@dataclass(frozen=True, slots=True, kw_only=True)
class OffPolicy:
    """What a target policy would have done on logged traffic, and how much of the log speaks for it.

    Attributes:
        quality: Mean quality of the answers.
        cost: Mean USD a call; `None` where too little is known: a logged model without a single cost, or an effective sample of
            fewer than 100 rows with one.
        rows: Decisions in the log.
        groups: Questions (or what `off_policy` was told to take together) that they belong to: what was resampled.
        ess: Effective sample size (Kong 1992), before clipping: W^2 / (sum of W_g^2), where W_g are the sums of the weights in
            the groups, and W that of all. With a group for each row it counts rows, else groups.
        coverage: Share of the target's choices that the log says something about.
        mean_weight: Mean importance weight before clipping; about `coverage`, unless the logged propensities are wrong.
        clip: Largest weight that was let pass; infinity = all.
        clipped: Share of the rows whose weight was cut.
        clip_bias: Mean weight that was cut off: the most by which clipping can have lowered the IPS quality. The intervals are
            wider by it.
        estimates: Where the estimates behind `dr` come from.
    """

    quality: PolicyValue
    cost: PolicyValue | None
    rows: int
    groups: int
    ess: float
    coverage: float
    mean_weight: float
    clip: float
    clipped: float
    clip_bias: float
    estimates: str

    @property
    def logged(self) -> Interval:
        """Mean logged quality."""
        return self.quality.logged

    @property
    def ips(self) -> Interval:
        """Quality by inverse propensity scores."""
        return self.quality.ips

    @property
    def snips(self) -> Interval:
        """Quality by self-normalised inverse propensity scores."""
        return self.quality.snips

    @property
    def dr(self) -> Interval:
        """Quality, doubly robust."""
        return self.quality.dr

    @property
    def gain(self) -> Mapping[str, Interval]:
        """Quality of the target less that logged, by estimator."""
        return self.quality.gain

    def __str__(self) -> str:
        """Quality and cost in a few lines."""
        rows = f"{self.rows} rows" if self.groups == self.rows else f"{self.rows} rows in {self.groups} groups"
        lines = [f"{rows}, worth {self.ess:.0f} of the target's own; coverage {self.coverage:.0%}"]
        for name, value in (("quality", self.quality), ("cost", self.cost)):
            if value is not None:
                lines.append(f"{name}: {value.dr}; logged {value.logged}; gain {value.gain['dr']}")
        return "\n".join(lines)


def off_policy(
    target: Target,
    logged: LoggedDecisions,
    *,
    estimator: Estimator | npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    clip: float | Literal["sqrt"] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> OffPolicy | Refusal:
    """Estimates what a policy would have scored on the traffic of a log that another policy wrote.

    Each row counts with its importance weight w = target's chance of the logged model / propensity. No number is given when
    the effective sample size is below 100, when coverage is below 0.9, or when the weights contradict the propensities.

    Coverage is the share of the target's probability that falls on models which the logging policy could have picked. On a row
    of propensity 1 that is the picked model alone, whatever `support` says: a sticky or forced choice covers what the target
    has in common with it, and no more. On the other rows it is counted where `logged.support` says which models those are, and
    otherwise estimated by the mean weight, whose expectation is exactly that share, and cut off at 1. Both tests look at the
    weights before clipping, so that clipping cannot buy a number.

    Intervals are bootstrap percentiles over groups of rows. Rows of different groups are taken to be independent, and those of
    one group may depend on each other in any way: the same question twice tells less than two questions. Unless `groups` says
    otherwise, rows of one question (`Query.key`) are a group; a query with neither id nor text is a question of its own.

    Rare rows of large weight carry much of the estimate, and the log may by luck hold too few of them, or no bad answer among
    them, which no resampling of it shows. So each end is taken from the log with one group added, the one of largest weight with
    the worst value (lower end) or the best (upper end). Plain percentiles covered the truth in 80 to 95 % of simulated logs of
    an effective size of 100 to 700, these in about 94 % and more. The ends are then moved apart by what clipping may have cut
    off, and by what the part that is not covered may be worth, however its size is known.

    Args:
        target: A fitted `Router` (not one that was fitted on these rows), a function from queries to model ids, or the chance of
            each model, float64 [n, m], rows of which add up to 1.
        logged: What was decided.
        estimator: Where the estimates of the doubly robust estimate come from: an `Estimator`, of which a copy is fitted on the
            logged rows and predicts them out of fold; or estimates float64 [n, m] that have not seen the rows' own answers
            (NaN = none). `None` = a `KNNEstimator` where there are vectors, or texts and a router with an embedder; else each
            model's mean. Models without an estimate get their mean, always from other rows than the one that it is for.
        groups: int64 [n], rows of one number depend on each other: the turns of a conversation, or what one user asked. It
            stands in for the grouping by question; `np.arange(n)` = every row for itself, which is right where the same
            questions keep coming back in the same shares.
        clip: Weights above it are cut to it: less variance for some bias. `None` = no clipping, since a log whose weights vary
            too much is refused anyway; `"sqrt"` = the root of the number of rows, under which bias and variance both vanish as
            the log grows (Ionides 2008), for logs whose propensities may come close to 0.
        level: Of the intervals.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        ConfigError: An option is out of range, or target, estimates or groups do not fit the log.
        UnknownModelError: The target names a model that is no column of the log.
        NotFittedError: The router has learned nothing.
        DataError: The router needs vectors of queries of which the log kept neither text nor vector.

    Source: Horvitz and Thompson 1952 (IPS); Swaminathan and Joachims 2015, The Self-Normalized Estimator for Counterfactual
    Learning (SNIPS); Dudik, Langford and Li 2011, Doubly Robust Policy Evaluation and Learning (DR; arXiv:1103.4601); Kong 1992,
    A Note on Importance Sampling using Standardized Weights (ESS); Ionides 2008, Truncated Importance Sampling (clipping);
    Bottou et al. 2013, Counterfactual Reasoning and Learning Systems, section 4.4 (bounds on what clipping cuts off). That an
    interval has to allow for large weights which were not seen: Karampatziakis, Langford and Mineiro 2020, Empirical Likelihood
    for Contextual Bandits (arXiv:1906.03323); added rows as in Agresti and Coull 1998.

    >>> import numpy as np
    >>> from agentroute.types import Query
    >>> rng = np.random.default_rng(0)
    >>> asked = tuple(Query(text=f"question {i}") for i in range(1000))
    >>> picked = rng.integers(0, 2, 1000)  # each model with a chance of a half; "b" is right in 80 %, "a" in 50 %
    >>> right = rng.random(1000) < np.where(picked == 1, 0.8, 0.5)
    >>> log = LoggedDecisions(
    ...     queries=asked, models=("a", "b"), action=picked, propensity=np.full(1000, 0.5), quality=right.astype(float)
    ... )
    >>> found = off_policy(lambda queries: ["b"] * len(queries), log)
    >>> bool(found), round(found.ess), round(found.snips.value, 2), found.gain["dr"].low > 0.1
    (True, 537, 0.81, True)
    """
    limit = _limit(clip, len(logged))
    chances = chances_of(target, logged)
    evidence = Evidence(chances, logged, _groups(groups, logged))
    refusal = refusal_of(evidence, logged)
    if refusal is not None:
        return refusal
    guesses, origin = estimates_of(estimator, target, logged)
    weights, places = evidence.weights, evidence.groups
    weighing = _Weighing(
        evidence=evidence,
        limit=limit,
        chances=chances,
        action=logged.action,
        options={"level": level, "resamples": resamples, "seed": seed},
    )
    cost, known = None, _known_costs(logged)
    if effective_size(weights * known, places) >= LEAST_ESS:
        cost = weighing.value(logged.cost, known, guesses[1], (float(np.nanmin(logged.cost)), float(np.nanmax(logged.cost))))
    return OffPolicy(
        quality=weighing.value(logged.quality, np.ones(len(logged)), guesses[0], (0.0, 1.0)),
        cost=cost,
        rows=len(logged),
        groups=int(places.max()) + 1,
        ess=evidence.ess,
        coverage=evidence.coverage,
        mean_weight=float(weights.mean()),
        clip=limit,
        clipped=float((weights > limit).mean()),
        clip_bias=float((weights - np.minimum(weights, limit)).mean()),
        estimates=origin,
    )


def _groups(given: npt.ArrayLike | None, logged: LoggedDecisions) -> npt.NDArray[np.int64]:
    """int64 [n], the number of each row's group, 0 to g - 1."""
    if given is None:
        # Where neither id nor text tells a query from others, its key says no more than its labels.
        keys = [query.key() if query.text or query.id is not None else row for row, query in enumerate(logged.queries)]
        places: dict[str | int, int] = {}
        return np.array([places.setdefault(key, len(places)) for key in keys], np.int64)
    groups = np.asarray(given)
    if groups.shape != (len(logged),) or groups.dtype.kind not in "iu":
        raise ConfigError(f"groups are {groups.dtype} {list(groups.shape)}: give a whole number for each of {len(logged)} rows")
    return np.asarray(np.unique(groups, return_inverse=True)[1], np.int64)


def _limit(clip: float | str | None, rows: int) -> float:
    if clip is None:
        return math.inf
    if clip == "sqrt":
        return math.sqrt(rows)
    if isinstance(clip, str) or not clip >= 1.0:
        raise ConfigError(f"clip={clip!r}: give the largest weight, 1 or more, 'sqrt', or None for no clipping")
    return float(clip)


def _known_costs(logged: LoggedDecisions) -> Floats:
    """float64 [n]: 0 for rows of unknown cost, for which the others of the same model stand; all 0 where a model has none."""
    known = np.isfinite(logged.cost)
    rows = np.bincount(logged.action, minlength=len(logged.models))
    share = np.bincount(logged.action, known, minlength=len(logged.models)) / np.maximum(rows, 1)
    if (share[rows > 0] == 0).any():
        return np.zeros(len(logged))
    return known / share[logged.action]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weighing:
    """What all measures share.

    Attributes:
        evidence: Weights, groups, and what is not covered.
        limit: Where the weights are cut.
        chances: float64 [n, m], the target's.
        action: int64 [n].
        options: Of the bootstrap.
    """

    evidence: Evidence
    limit: float
    chances: Floats
    action: npt.NDArray[np.int64]
    options: Mapping[str, Any]

    def value(self, values: Floats, known: Floats, guess: Floats, ends: tuple[float, float]) -> PolicyValue:
        """All estimates of one measure, with intervals.

        Args:
            values: float64 [n], what the logged answers scored or cost.
            known: float64 [n], 0 where that is not known, else 1 by the share of the model's rows of which it is.
            guess: float64 [n, m + 1], estimates.
            ends: The least and the most that an answer may score or cost.
        """
        whole, weights = self.evidence.weights * known, np.minimum(self.evidence.weights, self.limit)
        mass, own = weights * known, guess[np.arange(len(values)), self.action]
        seen = np.where(known > 0, values, 0.0)
        direct = (self.chances * guess[:, :-1]).sum(axis=1) + (1.0 - self.chances.sum(axis=1)) * guess[:, -1]
        rows = [mass * seen, mass, direct + mass * (seen - own), known * seen, known, np.ones(len(values))]
        unseen = self.evidence.unseen
        rows += [unseen.sum(axis=1), (unseen * guess).sum(axis=1), self.evidence.missing, whole - mass, whole]
        sums = np.stack([np.bincount(self.evidence.groups, column) for column in rows], axis=1)
        heaviest = int(sums[:, 1].argmax())
        heavy, size, guessed = sums[heaviest, 1], sums[heaviest, 5], float(mass @ own / mass.sum())
        rest = size * sums[:, 6:].sum(axis=0) / len(values)
        added = [[heavy * y, heavy, size * direct.mean() + heavy * (y - guessed), size * y, size, size, *rest] for y in ends]

        def statistic(drawn: Floats) -> Floats:
            """The lower and the upper ends from the log with either group added, whose weight is the last column."""
            made = [_moved(drawn @ np.vstack([sums, row]), y, ends) for row, y in zip(added, ends, strict=True)]
            return np.concatenate(made, axis=1)

        points = _estimates(sums.sum(axis=0)[None])[0].tolist()
        found = bootstrap(statistic, len(sums) + 1, **self.options)
        # No mean lies beyond the ends, and no difference beyond their distance.
        span = ends[1] - ends[0]
        made = [
            Interval(value=point, low=min(max(low.low, bound[0]), point), high=max(min(high.high, bound[1]), point))
            for point, low, high, bound in zip(points, found[:7], found[7:], [ends] * 4 + [(-span, span)] * 3, strict=True)
        ]
        return PolicyValue(
            ips=made[0], snips=made[1], dr=made[2], logged=made[3], gain=dict(zip(("ips", "snips", "dr"), made[4:], strict=True))
        )


def _moved(sums: Floats, end: float, ends: tuple[float, float]) -> Floats:
    """float64 [b, 7]: the estimates, if all that is not covered, or was cut off, were worth as much as one of the ends."""
    made = _estimates(sums)
    known, guessed, estimated, cut = sums[:, 6:10].T / sums[:, 5]
    lost = known + np.maximum(estimated, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = sums[:, 9] / sums[:, 10] + lost
    # DR holds a guess of what is known to be lost, which gives way; of the rest its guess may be wrong by the whole span.
    wrong = (cut + lost - known) * (2 * end - sum(ends))
    moves = np.stack([(cut + lost) * end, relative * (end - made[:, 1]), known * end - guessed + wrong], axis=1)
    made[:, :3] += moves
    made[:, 4:] += moves
    return made


def _estimates(sums: Floats) -> Floats:
    """float64 [b, 7]: IPS, SNIPS, DR and the logged mean, then the gain of the first three, from the sums of the columns."""
    count = sums[:, 5]
    with np.errstate(invalid="ignore", divide="ignore"):
        made = np.stack([sums[:, 0] / count, sums[:, 0] / sums[:, 1], sums[:, 2] / count, sums[:, 3] / sums[:, 4]], axis=1)
    return np.concatenate([made, made[:, :3] - made[:, 3:]], axis=1)
