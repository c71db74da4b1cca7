"""What is expected of every model once some have answered: nested estimates, calibrated out of fold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from agentroute.cascades._answers import AnswerTable
from agentroute.cascades._design import Seen, Standard
from agentroute.cascades._learn import Log, factors_of, regressions, sampled, strength_of
from agentroute.cascades._planner import CascadeRouting
from agentroute.cascades._regressions import PostHocStates, Regressions, nearest
from agentroute.errors import ConfigError, DataError, NotFittedError, PriceUnknownError, UnknownModelError
from agentroute.types import Estimate

__all__ = ["PostHocEstimator"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_JUDGED = 1000  # logged queries, and
_DEPTH = 4  # calls for each, by which it is judged whether covariances pay


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Learned:
    """All that was learned, replaced as a whole.

    Attributes:
        models: Cheapest first.
        signals: Names, in order.
        standard: What makes numbers comparable.
        regressions: Fitted to all rows.
        score_cost: float64 [m], mean USD of scoring an answer.
        strength: The penalty.
        factors: For `PostHocStates.factors`.
    """

    models: tuple[str, ...]
    signals: tuple[str, ...]
    standard: Standard
    regressions: Regressions
    score_cost: Floats
    strength: float
    factors: Mapping[int, Floats] | None


class PostHocEstimator:
    """The expected quality of every model in every state of a cascade, from what is known before and what was answered.

    One logistic regression for each model, whatever the number of states. Its features are the logits of all ex-ante estimates
    (the model's own has the weight 1 from the start), for each model that has answered a constant, its signals (bent at their
    means), and which of them are missing, and how far the answers agree. All weights may differ where the model itself has
    answered. So the estimate of a model that has not answered is the quality to be expected from escalating to it: where the
    evidence says that the query is beyond everybody, it falls for the large model too, and a plan does not pay for hope
    (AutoMix's state "hopeless"). Because the ex-ante estimate is a feature, estimates are nested: without evidence they stay.

    Estimates are recalibrated out of fold for each model, by whether it has answered and how many have.

    Args:
        l2: Strength of the penalty, the inverse variance of a weight before anything is seen; a query counts once, whatever the
            number of its states. `None` = of 0.3, 1, 3, 10, 30 and 100 the one with the least cross-entropy out of fold.
        folds: Parts of the log; each is estimated by what the others taught.
        covariance: Whether a plan takes into account how much, and how alike, estimates will still move: `"full"`, `"none"`,
            or `"auto"` = what gives the better cascades out of fold. Never the variances alone, which do harm.
        seed: Of the folds, and of the run sets that are sampled where there are more than five models.

    Raises:
        ConfigError: By `fit`, when an option is out of range.

    Source: the estimators of cascade routing (Dekoninck et al. 2024, arXiv:2410.10347, appendix), with one regression a model in
    place of one for each model and run set; AutoMix (Aggarwal et al. 2023, arXiv:2310.12963) for what a cascade must not do.
    """

    kind = "posthoc"

    def __init__(
        self,
        *,
        l2: float | None = None,
        folds: int = 5,
        covariance: Literal["auto", "full", "none"] = "auto",
        seed: int = 0,
    ) -> None:
        # A number of NumPy's could not be saved as JSON.
        self.l2 = None if l2 is None else float(l2)
        self.folds = _plain(folds)
        self.covariance = covariance
        self.seed = _plain(seed)

    _learned: _Learned
    _fitted: PostHocStates | None = None

    @property
    def models_(self) -> tuple[str, ...]:
        """Column names, cheapest first: bit j of a run set is `models_[j]`."""
        return self._known().models

    @property
    def signals_(self) -> tuple[str, ...]:
        """Names of the signals, in the order in which `predict` takes them."""
        return self._known().signals

    @property
    def score_cost_(self) -> Floats:
        """float64 [m], mean USD of scoring an answer, in the order of `models_`."""
        return self._known().score_cost

    @property
    def l2_(self) -> float:
        """The strength of the penalty."""
        return self._known().strength

    @property
    def covariance_(self) -> Literal["full", "none"]:
        """Whether plans know how much estimates will still move."""
        return "full" if self._known().factors else "none"

    def fit(self, answers: AnswerTable, estimate: Estimate, /) -> Self:
        """Learns from a log.

        Args:
            answers: n logged queries.
            estimate: Ex-ante estimates for the same rows, made without the row itself (`Estimator.cross_predict`); estimates
                that have seen the row look better than they are, and the answers would be listened to too little.

        Raises:
            ConfigError: An option is out of range, or the estimate is of other rows.
            UnknownModelError: The estimate lacks a model of the log.
            PriceUnknownError: A model has no known cost, so that it has no place in the order.
            DataError: There is but one query.
        """
        self._check()
        if len(answers) < 2:
            raise DataError(
                f"the log holds {len(answers)} query that can be learned from: give two or more, each is estimated by the others"
            )
        expected, cost, _ = _columns(answers, estimate, answers.models)
        score_cost = np.nan_to_num(_mean(answers.score_cost))
        unpriced = [name for name, mean in zip(answers.models, _mean(cost), strict=True) if math.isnan(mean)]
        if unpriced:
            raise PriceUnknownError(unpriced)
        order = np.argsort(_mean(cost) + score_cost, kind="stable")
        models = tuple(answers.models[j] for j in order)
        answers = answers.select(models)
        names = tuple(answers.signals)
        signals = _stacked(answers, names)
        standard = Standard.of(signals, answers.table.quality, answers.agreement)
        seen = standard.seen(expected[:, order], signals, answers.agreement)
        fold = np.random.default_rng(self.seed).permutation(len(answers)) % min(self.folds, len(answers))
        log = Log(seen=seen, usual=standard.agreement, quality=answers.table.quality, answered=answers.answered, fold=fold)
        sample = sampled(log.answered, self.seed)
        strength = strength_of(log, sample) if self.l2 is None else float(self.l2)
        every, parts = regressions(log, sample, strength)
        self._learned = _Learned(
            models=models,
            signals=names,
            standard=standard,
            regressions=every,
            score_cost=score_cost[order],
            strength=strength,
            factors=None,
        )
        states = self._states(answers, estimate, seen, parts, fold)
        factors = None if self.covariance == "none" else factors_of(states, log.answered)
        moving = replace(states, factors=factors)
        if factors and self.covariance == "auto" and not _pays(states, moving, answers):
            factors = None
        self._learned = replace(self._learned, factors=factors)
        self._fitted = moving if factors else states
        return self

    def fitted_states(self) -> PostHocStates:
        """Out-of-fold estimates for the rows that were given to `fit`: by them a plan is tuned.

        Raises:
            NotFittedError: `fit` has not been called, or this one was loaded: the log is not saved.
        """
        if self._fitted is None:
            self._known()
            raise NotFittedError("this PostHocEstimator was loaded, and the log that it was fitted on is not saved: fit it again")
        return self._fitted

    def states(self, answers: AnswerTable, estimate: Estimate, /) -> PostHocStates:
        """Estimates for other rows.

        Args:
            answers: n queries; what models have not answered is not looked at.
            estimate: Ex-ante estimates for the same rows.

        Raises:
            ConfigError: The estimate is of other rows, or a signal that was learned from is not there.
            UnknownModelError: A model that was learned of is not there.
        """
        learned = self._known()
        lacking = [name for name in learned.signals if name not in answers.signals]
        if lacking:
            raise ConfigError(f"the answers lack the signals {', '.join(lacking)}: give them, as NaN where they are missing")
        answers = answers.select(learned.models)
        expected, _, _ = _columns(answers, estimate, learned.models)
        seen = learned.standard.seen(expected, _stacked(answers, learned.signals), answers.agreement)
        return self._states(answers, estimate, seen, (learned.regressions,), np.zeros(len(answers), np.int64))

    def _states(
        self, answers: AnswerTable, estimate: Estimate, seen: Seen, parts: tuple[Regressions, ...], fold: Ints
    ) -> PostHocStates:
        learned = self._known()
        _, cost, latency = _columns(answers, estimate, learned.models)
        return PostHocStates(
            models=learned.models,
            cost=_filled(cost) + learned.score_cost,
            latency=None if np.isnan(_mean(latency)).any() else _filled(latency),
            seen=seen,
            usual=learned.standard.agreement,
            regressions=parts,
            fold=fold,
            factors=learned.factors,
            score_cost=learned.score_cost,
        )

    def predict(self, exante: Floats, signals: Floats, agreement: Floats | None, answered: int) -> Floats:
        """One query, fast: the expected quality of every model, float64 [m].

        Args:
            exante: float64 [m], expected qualities before anybody answered, in the order of `models_`; NaN = no idea.
            signals: float64 [m, k], in the order of `models_` and `signals_`; NaN = missing. Rows of models that have not
                answered do not count.
            agreement: float64 [m, m], how far answers say the same; NaN = not known; `None` = not compared.
            answered: Bit j set = `models_[j]` has answered.
        """
        learned = self._known()
        standard = learned.standard
        found: Floats = learned.regressions.at(answered).quality(
            standard.logits(exante[None]),
            standard.details(signals[None]),
            None if agreement is None else agreement[None],
            standard.agreement,
        )[0]
        return found

    def cost(self, estimate: Estimate, /) -> Floats:
        """float64 [n, m], expected USD of a call and of scoring its answer, in the order of `models_`."""
        learned = self._known()
        at = [_index(estimate, name) for name in learned.models]
        found: Floats = estimate.cost[:, at] + learned.score_cost
        return found

    def factor(self, answered: int) -> Floats | None:
        """As `PostHocStates.factor`, for one query."""
        return nearest(self._known().factors, answered)

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Everything that `predict` and `states` need; no query, no answer.

        Returns:
            A JSON object and named arrays without Python objects.
        """
        learned = self._known()
        config = {
            "l2": self.l2,
            "folds": self.folds,
            "covariance": self.covariance,
            "seed": self.seed,
            "models": list(learned.models),
            "signals": list(learned.signals),
            "strength": learned.strength,
        }
        arrays: dict[str, npt.NDArray[Any]] = {"score_cost": learned.score_cost}
        arrays |= {f"standard_{name}": array for name, array in learned.standard.arrays().items()}
        arrays |= {f"regression_{name}": array for name, array in learned.regressions.arrays().items()}
        if learned.factors:
            arrays["states"] = np.array(list(learned.factors), dtype=np.int64)
            arrays["factors"] = np.stack(list(learned.factors.values()))
        return config, arrays

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], /) -> Self:
        """The estimator that `state` described; it predicts the same.

        Raises:
            ConfigError: The arrays do not belong together.
        """
        made = cls(**{name: config[name] for name in ("l2", "folds", "covariance", "seed")})
        models, signals = tuple(config["models"]), tuple(config["signals"])
        m, d = len(models), 1 + 3 * len(signals)
        part = {name.split("_", 1)[1]: array for name, array in arrays.items() if name.startswith("standard_")}
        learned = {name.split("_", 1)[1]: array for name, array in arrays.items() if name.startswith("regression_")}
        factors = dict(zip(arrays["states"].tolist(), arrays["factors"], strict=True)) if "states" in arrays else None
        made._learned = _Learned(
            models=models,
            signals=signals,
            standard=Standard.from_arrays(part),
            regressions=Regressions.from_arrays(learned),
            score_cost=np.asarray(arrays["score_cost"], np.float64),
            strength=float(config["strength"]),
            factors=factors,
        )
        if made._learned.regressions.details.shape != (m, d, 2, m) or made._learned.standard.centre.shape != (m, len(signals)):
            raise ConfigError(f"{m} models, {len(signals)} signals and these arrays do not belong together")
        return made

    def _known(self) -> _Learned:
        try:
            return self._learned
        except AttributeError:
            raise NotFittedError("this PostHocEstimator is not fitted: call fit(answers, estimate) first") from None

    def _check(self) -> None:
        if self.l2 is not None and not 0.0 < self.l2 < math.inf:
            raise ConfigError(f"PostHocEstimator(l2={self.l2!r}) is out of range: give a positive number, or None = chosen")
        if self.folds < 2:
            raise ConfigError(f"PostHocEstimator(folds={self.folds!r}) is out of range: give a whole number, 2 or more")
        if self.covariance not in {"auto", "full", "none"}:
            raise ConfigError(f"PostHocEstimator(covariance={self.covariance!r}): give 'auto', 'full' or 'none'")

    def __repr__(self) -> str:
        """As constructed."""
        return f"PostHocEstimator(l2={self.l2}, folds={self.folds}, covariance={self.covariance!r}, seed={self.seed})"


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _pays(plain: PostHocStates, moving: PostHocStates, answers: AnswerTable) -> bool:
    """Whether cascades on the log are better when plans know how much estimates will still move.

    Judged by the mean height of the frontier of quality over cost, between the cheapest and the dearest model.
    """
    if len(plain.models) < 2:
        return False
    rows = np.sort(np.random.default_rng(0).permutation(len(answers))[:_JUDGED])
    table = answers.table.take(rows)
    low, *_, high = np.sort(plain.cost.mean(axis=0))
    if not 0.0 < low < high:
        return False
    costs = np.linspace(low, high, 50)
    worth = []
    for states in (plain.take(rows), moving.take(rows)):
        policy = CascadeRouting(max_models=min(len(states.models), _DEPTH), samples=128, refine=False)
        spent, gained = policy.frontier(states, table.quality, table.cost, lambdas=np.geomspace(0.02 / high, 1.0 / low, 20)).T
        order = np.argsort(spent)
        worth.append(float(np.interp(costs, spent[order], np.maximum.accumulate(gained[order])).mean()))
    return worth[1] > worth[0]


def _mean(values: Floats) -> Floats:
    """Column means of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    found: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return found


def _filled(values: Floats) -> Floats:
    """With the column means where nothing is known."""
    found: Floats = np.where(np.isnan(values), _mean(values), values)
    return found


def _columns(answers: AnswerTable, estimate: Estimate, models: tuple[str, ...]) -> tuple[Floats, Floats, Floats]:
    """Expected quality, cost and latency of some models."""
    if len(estimate) != len(answers):
        raise ConfigError(f"{len(answers)} rows of answers and {len(estimate)} of estimates: give the estimate of the same rows")
    at = [_index(estimate, name) for name in models]
    return estimate.quality[:, at], estimate.cost[:, at], estimate.latency[:, at]


def _index(estimate: Estimate, name: str) -> int:
    if name not in estimate.models:
        raise UnknownModelError(name, estimate.models, where="the estimate")
    return estimate.models.index(name)


def _stacked(answers: AnswerTable, names: tuple[str, ...]) -> Floats:
    """float64 [n, m, k]."""
    shape = answers.table.quality.shape
    return np.stack([answers.signals[name] for name in names], axis=-1) if names else np.empty((*shape, 0))
