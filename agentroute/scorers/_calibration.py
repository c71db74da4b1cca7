"""Scores that mean what they say: how often an answer with this score is right, learned from graded answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError, NotFittedError
from agentroute.scorers._base import Scorer, ScorerLike, as_scorer
from agentroute.types import Query, Reply, Score

__all__ = ["Calibrated", "Calibrator", "Isotonic", "Platt", "cross_calibrate"]

Floats = npt.NDArray[np.float64]

_STEPS = 100  # of Newton's method, which takes about ten
_RIDGE = 1e-12  # keeps the slope at 0 where nothing determines it


@runtime_checkable
class Calibrator(Protocol):
    """A map from a score to the chance of being right."""

    def fit(self, values: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None, /) -> Self:
        """Learns from n scores and the qualities in [0, 1] that the answers turned out to have."""

    def transform(self, values: npt.ArrayLike, /) -> Floats:
        """float64 [n] in [0, 1]."""

    def state(self) -> dict[str, Any]:
        """A JSON object from which `from_state` makes the calibrator again."""

    @classmethod
    def from_state(cls, state: Mapping[str, Any], /) -> Self:
        """The calibrator that `state` described."""


class Isotonic:
    """The non-decreasing map of least squared error, by pooling adjacent violators; straight lines between its steps.

    It assumes only that a higher score is no worse, and needs a few hundred graded answers; with fewer take `Platt`. Graded
    labels count as they are. Beyond the scores that were seen it stays level.

    Attributes:
        x_: float64 [k], scores at which a step begins or ends.
        y_: float64 [k], the chance there.

    Source: Ayer et al. 1955, An Empirical Distribution Function for Sampling with Incomplete Information, Ann. Math. Statist.
    26(4) (the algorithm); Zadrozny and Elkan 2002, Transforming Classifier Scores into Accurate Multiclass Probability
    Estimates, KDD (its use for calibration).

    >>> Isotonic().fit([0.1, 0.4, 0.6, 0.9], [0, 1, 0, 1]).transform([0.1, 0.5, 0.9]).tolist()
    [0.0, 0.5, 1.0]
    """

    kind = "isotonic"
    x_: Floats
    y_: Floats

    def fit(self, values: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None, /) -> Self:
        """Learns the steps.

        Args:
            values: float64 [n], scores.
            labels: float64 [n] in [0, 1], what the answers turned out to be worth.
            weights: float64 [n], 0 or more; `None` = all 1.

        Raises:
            DataError: There is nothing to learn from, or a number cannot be right.
        """
        x, y, w = _checked(values, labels, weights)
        counts = w > 0.0  # a score of no weight has no mean
        x, y, w = x[counts], y[counts], w[counts]
        # Equal scores are one point: no map could tell them apart.
        points, place = np.unique(x, return_inverse=True)
        mass = np.bincount(place, w)
        worth = np.bincount(place, w * y) / mass
        blocks: list[list[float]] = []  # worth, mass, first and last place
        for i in range(len(points)):
            block = [float(worth[i]), float(mass[i]), i, i]
            while blocks and blocks[-1][0] >= block[0]:
                before = blocks.pop()
                together = before[1] + block[1]
                block = [(before[0] * before[1] + block[0] * block[1]) / together, together, before[2], block[3]]
            blocks.append(block)
        ends = np.array([[one[2], one[3]] for one in blocks], np.int64)
        kept = np.column_stack([np.ones(len(blocks), bool), ends[:, 1] > ends[:, 0]]).ravel()
        self.x_ = points[ends.ravel()[kept]]
        self.y_ = np.clip(np.repeat([one[0] for one in blocks], 2)[kept], 0.0, 1.0)
        return self

    def transform(self, values: npt.ArrayLike, /) -> Floats:
        """float64 [n] in [0, 1]; NaN stays NaN."""
        found: Floats = np.interp(np.asarray(values, np.float64), *_learned(self, "x_", "y_"))
        return found

    def state(self) -> dict[str, Any]:
        """The steps."""
        x, y = _learned(self, "x_", "y_")
        return {"x": x.tolist(), "y": y.tolist()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], /) -> Self:
        """The calibrator that `state` described.

        Raises:
            ConfigError: It describes none.
        """
        made = cls()
        made.x_, made.y_ = np.array(state["x"], np.float64), np.array(state["y"], np.float64)
        rising = made.x_.ndim == 1 and made.x_.shape == made.y_.shape and bool((np.diff(made.x_) > 0).all())
        if not (rising and len(made.x_) and np.isfinite(made.x_).all() and ((made.y_ >= 0) & (made.y_ <= 1)).all()):
            raise ConfigError("this state is not that of an Isotonic: fit it again")
        return made


class Platt:
    """A logistic curve, 1 / (1 + exp(-(slope x + bias))), of greatest likelihood with Platt's targets.

    Two numbers, so that tens of graded answers are enough. In place of 1 and 0 the targets are (p + 1)/(p + 2) and 1/(n + 2) for
    p right and n wrong answers (weights, and shares of graded labels, count as parts of an answer), which keeps a score that
    separates perfectly from promising certainty. The slope may come out negative: such a score says the opposite of what it
    should.

    Attributes:
        slope_: Change of the log-odds per unit of score.
        bias_: Log-odds at the score 0.

    Source: Platt 1999, Probabilistic Outputs for Support Vector Machines, section 2.2 (targets); Lin, Lin and Weng 2007, A Note
    on Platt's Probabilistic Outputs for Support Vector Machines, Machine Learning 68 (Newton's method with halved steps).

    >>> curve = Platt().fit([0.0, 0.0, 1.0, 1.0], [0, 0, 1, 1])  # targets 1/4 and 3/4
    >>> curve.transform([0.0, 0.5, 1.0]).round(6).tolist()
    [0.25, 0.5, 0.75]
    """

    kind = "platt"
    slope_: float
    bias_: float

    def fit(self, values: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None, /) -> Self:
        """Learns the curve; arguments and errors as for `Isotonic.fit`."""
        x, y, w = _checked(values, labels, weights)
        right, wrong = float(w @ y), float(w @ (1.0 - y))
        target = y * (right + 1.0) / (right + 2.0) + (1.0 - y) / (wrong + 2.0)
        centre = float(np.average(x, weights=w))
        spread = float(np.sqrt(np.average((x - centre) ** 2, weights=w)))
        # Scores that differ by rounding alone have no slope.
        spread = spread if spread > 1e-12 * max(1.0, abs(centre)) else np.inf
        slope, bias = _newton((x - centre) / spread, target, w / w.sum())
        self.slope_, self.bias_ = slope / spread, bias - slope * centre / spread
        return self

    def transform(self, values: npt.ArrayLike, /) -> Floats:
        """float64 [n] in (0, 1); NaN stays NaN."""
        slope, bias = _learned(self, "slope_", "bias_")
        return _sigmoid(float(slope) * np.asarray(values, np.float64) + float(bias))

    def state(self) -> dict[str, Any]:
        """Slope and bias."""
        slope, bias = _learned(self, "slope_", "bias_")
        return {"slope": float(slope), "bias": float(bias)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], /) -> Self:
        """The calibrator that `state` described.

        Raises:
            ConfigError: It describes none.
        """
        made = cls()
        made.slope_, made.bias_ = float(state["slope"]), float(state["bias"])
        if not np.isfinite([made.slope_, made.bias_]).all():
            raise ConfigError("this state is not that of a Platt: fit it again")
        return made


class Calibrated:
    """A scorer whose value goes through a fitted calibrator: the chance that the answer is right.

    Signals are the scorer's own, with its raw value under its name where it has not put something better there.

    Args:
        scorer: Whose value it is.
        calibrator: Fitted on the scorer's values of graded answers: an `Isotonic`, a `Platt`, or anything with `transform`.

    Raises:
        NotFittedError: By `score`, when the calibrator is not fitted.

    >>> sure = as_scorer(lambda reply: 0.95, name="sure")
    >>> scorer = Calibrated(sure, Isotonic().fit([0.9, 0.95, 0.95, 1.0], [0, 0, 1, 1]))
    >>> scorer.score(Query(text="?"), Reply(text="!")).value
    0.5
    """

    def __init__(self, scorer: ScorerLike, calibrator: Calibrator) -> None:
        self.scorer: Scorer = as_scorer(scorer)
        self.calibrator = calibrator

    @property
    def name(self) -> str:
        """The scorer's."""
        return self.scorer.name

    @property
    def needs(self) -> frozenset[str]:
        """The scorer's."""
        return self.scorer.needs

    @property
    def ceiling(self) -> float | None:
        """The scorer's."""
        return self.scorer.ceiling

    def score(self, query: Query, reply: Reply, /) -> Score:
        """The scorer's score, calibrated."""
        return self._calibrated(self.scorer.score(query, reply))

    async def ascore(self, query: Query, reply: Reply, /) -> Score:
        """As `score`."""
        return self._calibrated(await self.scorer.ascore(query, reply))

    def _calibrated(self, raw: Score) -> Score:
        value = float(self.calibrator.transform(np.array([raw.value]))[0])
        reason = f"{raw.reason or f'{self.name} is {raw.value:.3g}'}; right with a chance of {value:.3g}"
        return Score(value=value, cost=raw.cost, reason=reason, signals={self.name: raw.value, **raw.signals})

    def __repr__(self) -> str:
        """Scorer and calibrator."""
        return f"Calibrated({self.scorer!r}, {type(self.calibrator).__name__}())"


def cross_calibrate(
    values: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    make: Callable[[], Calibrator] = Isotonic,
    folds: int = 5,
    seed: int = 0,
    weights: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
) -> Floats:
    """Calibrated scores, each from a calibrator that has not seen its fold: what to measure a calibration by, and to learn from.

    Args:
        values: float64 [n], scores.
        labels: float64 [n] in [0, 1].
        make: Makes an unfitted calibrator.
        folds: How many, at most as many as there are groups.
        seed: Of the folds.
        weights: float64 [n]; `None` = all 1.
        groups: [n], rows of one value stay in one fold (answers to one question); `None` = every row for itself.

    Returns:
        float64 [n].

    Raises:
        DataError: There are fewer than two rows or groups, or a number cannot be right.
        ConfigError: There are fewer than two folds.

    >>> cross_calibrate([0.2, 0.2, 0.8, 0.8], [0, 0, 1, 1], folds=2, groups=[0, 1, 0, 1]).tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    x, y, w = _checked(values, labels, weights)
    if folds < 2:
        raise ConfigError(f"folds={folds!r} must be 2 or more")
    own = np.arange(len(x)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
    if own.shape != x.shape:
        raise DataError(f"groups are {len(own)}, values {len(x)}: give one for each")
    count = int(own.max()) + 1
    if count < 2:
        raise DataError("nothing can be held out of one row or group: give two or more")
    fold = (np.random.default_rng(seed).permutation(count) % min(folds, count))[own]
    found = np.empty(len(x))
    for part in range(int(fold.max()) + 1):
        here = fold == part
        found[here] = make().fit(x[~here], y[~here], w[~here]).transform(x[here])
    return found


def _checked(values: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    """Scores, labels and weights as float64 [n]; rows of weight 0 stay."""
    x, y = np.asarray(values, np.float64), np.asarray(labels, np.float64)
    w = np.ones_like(x) if weights is None else np.asarray(weights, np.float64)
    if x.ndim != 1 or not len(x) or x.shape != y.shape or x.shape != w.shape:
        raise DataError(f"values {list(x.shape)}, labels {list(y.shape)}, weights {list(w.shape)}: give [n] of each, n > 0")
    if not np.isfinite(x).all():
        raise DataError("a score is not finite: leave out the answers that have none")
    if not ((y >= 0.0) & (y <= 1.0)).all():
        raise DataError("a label is outside [0, 1], or unknown: rescale it, or leave it out")
    if not ((w >= 0.0) & np.isfinite(w)).all() or not (w > 0.0).any():
        raise DataError("weights must be 0 or more, and not all 0")
    return x, y, w


def _learned(calibrator: object, *names: str) -> tuple[Any, ...]:
    try:
        return tuple(getattr(calibrator, name) for name in names)
    except AttributeError:
        raise NotFittedError(f"this {type(calibrator).__name__} is not fitted: call fit(values, labels) first") from None


def _newton(x: Floats, target: Floats, w: Floats) -> tuple[float, float]:
    """Slope and bias of the least cross-entropy Σ w (log(1 + e^z) - target z), z = slope x + bias."""
    theta = np.zeros(2)
    design = np.column_stack([x, np.ones_like(x)])

    def loss(at: Floats) -> float:
        z = design @ at
        return float(w @ (np.logaddexp(0.0, z) - target * z) + 0.5 * _RIDGE * at @ at)

    least = loss(theta)
    for _ in range(_STEPS):
        p = _sigmoid(design @ theta)
        gradient = design.T @ (w * (p - target)) + _RIDGE * theta
        if np.abs(gradient).max() < 1e-12:
            break
        hessian = design.T @ (design * (w * p * (1.0 - p))[:, None]) + _RIDGE * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while (reached := loss(theta - size * step)) > least - 1e-4 * size * float(gradient @ step) and size > 1e-10:
            size /= 2.0
        if reached >= least:  # nothing left but rounding
            break
        theta, least = theta - size * step, reached
    return float(theta[0]), float(theta[1])


def _sigmoid(logit: Floats) -> Floats:
    return 0.5 + 0.5 * np.tanh(0.5 * np.asarray(logit, np.float64))
