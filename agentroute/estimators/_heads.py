"""Trained heads on the embedding: a logistic regression for each model, and a small neural network.

Both are trained with scikit-learn (extra `sklearn`) and predict with NumPy, so that a saved router needs no scikit-learn.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, MissingExtraError, NotFittedError
from agentroute.estimators._base import Arrays, State, check_whole, embeddings_of, folds, options, vectors_of
from agentroute.estimators._mean import MeanEstimator
from agentroute.estimators._scaling import Scaling
from agentroute.outcomes import OutcomeTable
from agentroute.types import Estimate, Query

__all__ = ["LogisticEstimator", "MLPEstimator"]

Floats = npt.NDArray[np.float64]

_FOLDS = 5
_FEWEST = 20  # scores below which nothing is trained: early stopping needs two of them to judge by
_SAMPLE = 2000  # scores that the penalty is chosen on; its meaning, and so the choice, does not depend on their number
# From nearly the mean to nearly unpenalised. On public logs of 1,000 to 7,000 queries the best lies between 0.1 and 0.3.
_STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 30.0, 300.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Learned:
    """All that was learned: replaced as a whole, so that readers never see half of a fit.

    Attributes:
        means: What is known whatever the query.
        arrays: The heads.
    """

    means: MeanEstimator
    arrays: Arrays


class _Head(ABC):
    """What both have in common: means for everything but the quality, cross-fitting, state."""

    what = ("embedding", "logged outcomes")
    uses_embeddings = True
    _options: ClassVar[tuple[str, ...]]

    min_rows: int
    seed: int
    _learned: _Learned
    # What was predicted out of fold last: the fit, the digest of its table, float64 [n, m].
    _kept: tuple[_Learned, bytes, Floats] | None = None

    def _check(self) -> None:
        """Raises `ConfigError` when an option is out of range; those that each head has besides, it checks itself."""
        check_whole(self, "min_rows", 0)
        check_whole(self, "seed", 0, 2**32 - 1)  # that of scikit-learn

    def _choose(self, x: Floats, quality: Floats) -> Arrays:  # noqa: ARG002  # for those that have something to choose
        """The constants that the data have to say, by column."""
        return {}

    @abstractmethod
    def _train(self, x: Floats, quality: Floats, models: tuple[str, ...], chosen: Arrays) -> Arrays:
        """The heads with these constants; a column without a head has a NaN in `bias`."""

    @staticmethod
    @abstractmethod
    def _expected(arrays: Arrays, x: npt.NDArray[Any]) -> Floats:
        """float64 [r, m] in [0, 1]; NaN in a column without a head."""

    @property
    def models_(self) -> tuple[str, ...]:
        """Column names."""
        return self._fitted().means.models_

    def _fitted(self) -> _Learned:
        try:
            return self._learned
        except AttributeError:
            msg = f"this {type(self).__name__} is not fitted: call fit(table) first"
            raise NotFittedError(msg) from None

    def fit(self, table: OutcomeTable, /) -> Self:
        """Learns from a table with embeddings.

        Raises:
            MissingExtraError: scikit-learn is not installed.
            ConfigError: The table has no embeddings, or an option is out of range.
        """
        self._check()
        _need_sklearn(self)
        x = vectors_of(table, type(self).__name__).astype(np.float64)
        quality = self._scored(table)
        arrays = self._train(x, quality, table.models, self._choose(x, quality))
        self._learned = _Learned(means=MeanEstimator(min_rows=self.min_rows).fit(table), arrays=arrays)
        return self

    def _scored(self, table: OutcomeTable) -> Floats:
        """The qualities of the models that are ranked: float64 [n, m], NaN elsewhere."""
        enough = np.isfinite(table.quality).sum(axis=0) >= self.min_rows
        return np.where(enough, table.quality, np.nan)

    def predict(self, queries: Sequence[Query], /) -> Estimate:
        """The heads' qualities, and the means of cost and latency; every query needs its `embedding`."""
        learned = self._fitted()
        estimate = learned.means.predict(queries)
        x = embeddings_of(queries, learned.arrays["vectors"].shape[1])
        expected = self._expected(learned.arrays, x)
        return replace(estimate, quality=np.where(np.isnan(expected), estimate.quality, expected))

    def cross_predict(self, table: OutcomeTable, rows: npt.NDArray[np.int64], /) -> Estimate:
        """Qualities from heads that were fitted without the row's fold, one of five, and the other rows' mean cost and latency.

        The heads of the folds are fitted at the first call, which needs scikit-learn, with constants chosen on all rows; what
        they say of the table is kept.
        """
        learned = self._fitted()
        kept, key = self._kept, _digest(table)
        if kept is None or kept[0] is not learned or kept[1] != key:
            self._kept = kept = learned, key, self._held_out(table, learned.arrays)
        estimate = learned.means.cross_predict(table, rows)
        return replace(estimate, quality=kept[2][rows])

    def _held_out(self, table: OutcomeTable, chosen: Arrays) -> Floats:
        _need_sklearn(self)
        x = vectors_of(table, type(self).__name__).astype(np.float64)
        quality = self._scored(table)
        fold = folds(len(x), _FOLDS, self.seed)
        found = np.full(quality.shape, np.nan)
        for part in range(_FOLDS):
            here = fold == part
            if here.any() and not here.all():
                arrays = self._train(x[~here], quality[~here], table.models, chosen)
                found[here] = self._expected(arrays, x[here])
        return np.where(np.isnan(found), _means_without(quality, fold), found)

    def state(self) -> State:
        """Options, means and heads; no query, no outcome."""
        learned = self._fitted()
        config, arrays = learned.means.state()
        return config | options(self, self._options), arrays | learned.arrays

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], /) -> Self:
        """The estimator that `state` described."""
        made = cls(**{name: config[name] for name in cls._options})
        means = MeanEstimator.from_state(config, arrays)
        heads = {name: array for name, array in arrays.items() if name not in {"mean", "std", "counts"}}
        try:
            shape = cls._expected(heads, np.zeros((1, heads["vectors"].shape[1]), np.float32)).shape
        except (ValueError, IndexError) as error:
            raise ConfigError(f"the arrays of this {cls.__name__} do not belong together ({error})") from error
        if shape != (1, len(means.models_)):
            raise ConfigError(f"{len(means.models_)} models and heads for {shape[1]} do not belong together")
        made._learned = _Learned(means=means, arrays=heads)
        return made


class LogisticEstimator(_Head):
    """One logistic regression on the embedding for each model: the linear baseline of the routing benchmarks.

    A graded quality y counts as y of a right and 1 - y of a wrong answer. A model whose scores are all alike, or fewer than 20,
    gets its mean. Cost and latency are each model's means, `support` counts its scores, every query is `supported` (a linear
    head has no notion of strangeness), and `quality_std` is the standard error of the model's mean: a floor, because how sure
    the head is of one query is not estimated.

    Args:
        c: Inverse strength of the L2 penalty (scikit-learn's `C`) on embeddings that are centred and of mean squared length 1:
            about the variance of the logit that is expected before anything is seen. `None` = for each model the first value of
            0.03, 0.1, 0.3, 1, 3, 30 and 300 after which the squared error out of fold rises (five folds, at most 2,000 scores).
        min_rows: Scores that a model needs before it is ranked; a model with fewer has the quality NaN.
        seed: Of the folds.

    Raises:
        MissingExtraError: By `fit`, when scikit-learn is not installed (extra `sklearn`).

    Source: the linear router of RouterEval (Huang et al. 2025, arXiv:2503.10657), with a likelihood that fits right and wrong.
    """

    kind = "logistic"
    _options = ("c", "min_rows", "seed")

    def __init__(self, *, c: float | None = None, min_rows: int = 30, seed: int = 0) -> None:
        self.c = c
        self.min_rows = min_rows
        self.seed = seed

    @property
    def c_(self) -> Floats:
        """float64 [m], the inverse penalty of each model's head; NaN = no head."""
        found: Floats = self._fitted().arrays["c"]
        return found

    def _check(self) -> None:
        super()._check()
        if self.c is not None and not (_number(self.c) and 0 < self.c < np.inf):
            raise ConfigError(f"LogisticEstimator(c={self.c!r}) is out of range: give a positive number, or None = chosen")

    def _choose(self, x: Floats, quality: Floats) -> Arrays:
        chosen = np.full(quality.shape[1], np.nan if self.c is None else self.c)
        if self.c is None:
            # Centre and length of the embeddings know no outcome, and may be those of all rows.
            scaled = Scaling(x).of(x)
            for j in np.flatnonzero(_trainable(quality)):
                seen = np.random.default_rng(self.seed).permutation(np.flatnonzero(np.isfinite(quality[:, j])))[:_SAMPLE]
                chosen[j] = _strength(scaled[seen], quality[seen, j], folds(len(seen), _FOLDS, self.seed))
        return {"c": chosen}

    def _train(self, x: Floats, quality: Floats, models: tuple[str, ...], chosen: Arrays) -> Arrays:
        scaling = Scaling(x)
        scaled = scaling.of(x)
        vectors, bias = np.zeros((len(models), x.shape[1])), np.full(len(models), np.nan)
        trainable = _trainable(quality) & np.isfinite(chosen["c"])
        for j in np.flatnonzero(trainable):
            seen = np.isfinite(quality[:, j])
            vectors[j], bias[j] = scaling.unscaled(*_logistic(scaled[seen], quality[seen, j], float(chosen["c"][j])))
        return {"vectors": vectors.astype(np.float32), "bias": bias, "c": np.where(trainable, chosen["c"], np.nan)}

    @staticmethod
    def _expected(arrays: Arrays, x: npt.NDArray[Any]) -> Floats:
        return _sigmoid(x @ arrays["vectors"].T + arrays["bias"])


class MLPEstimator(_Head):
    """A neural network with one hidden layer (ReLU) on the embedding: the MLP baseline of the routing benchmarks.

    It is fitted to the qualities by least squares with Adam, until the fit to a random tenth of the rows has not risen for ten
    passes over the others, and its output is clipped to [0, 1]. scikit-learn's network takes no missing targets, so models that
    were scored on the same queries share one network, and each other pattern of holes has a network of its own: a complete
    table is learned by one. A model whose scores are all alike, or fewer than 20, gets its mean. Cost, latency, `support`,
    `supported` and `quality_std` are those of `LogisticEstimator`.

    No limit on the passes cuts it short: they end because the fit to the tenth cannot rise for ever. That its weights are the
    best that there are is not known, as for any network.

    Args:
        hidden: Width of the hidden layer.
        alpha: Strength of the L2 penalty (scikit-learn's `alpha`) on embeddings that are centred and of mean squared length 1.
        min_rows: Scores that a model needs before it is ranked; a model with fewer has the quality NaN.
        seed: Of the first weights, the order of the rows and the folds.

    Raises:
        MissingExtraError: By `fit`, when scikit-learn is not installed (extra `sklearn`).

    Source: the MLP routers of RouterBench (Hu et al. 2024, arXiv:2403.12031) and RouterEval (Huang et al. 2025,
    arXiv:2503.10657). On held-out parts of public logs of 1,000 to 7,000 queries the penalty 1 is better than 0.1 or less.
    """

    kind = "mlp"
    _options = ("hidden", "alpha", "min_rows", "seed")

    def __init__(self, *, hidden: int = 100, alpha: float = 1.0, min_rows: int = 30, seed: int = 0) -> None:
        self.hidden = hidden
        self.alpha = alpha
        self.min_rows = min_rows
        self.seed = seed

    def _check(self) -> None:
        super()._check()
        check_whole(self, "hidden", 1)
        if not (_number(self.alpha) and 0 <= self.alpha < np.inf):
            raise ConfigError(f"MLPEstimator(alpha={self.alpha!r}) is out of range: give 0 or a positive number")

    def _train(self, x: Floats, quality: Floats, models: tuple[str, ...], chosen: Arrays) -> Arrays:  # noqa: ARG002
        from sklearn.neural_network import MLPRegressor

        scaling = Scaling(x)
        scaled = scaling.of(x)
        # By name, not by place: the first weights are drawn output by output, and must not depend on the order of columns.
        alike: dict[bytes, list[int]] = {}
        for j in sorted(np.flatnonzero(_trainable(quality)).tolist(), key=models.__getitem__):
            alike.setdefault(np.isfinite(quality[:, j]).tobytes(), []).append(j)
        vectors, thresholds = np.zeros((0, x.shape[1])), np.zeros(0)
        output, bias = np.zeros((0, len(models))), np.full(len(models), np.nan)
        for columns in alike.values():
            seen = np.isfinite(quality[:, columns[0]])
            target = quality[seen][:, columns]
            mean = target.mean(axis=0)
            network = MLPRegressor(
                hidden_layer_sizes=(self.hidden,),
                alpha=self.alpha,
                early_stopping=True,
                max_iter=1_000_000,  # never reached: an improvement counts from 1e-4 of an R² that is at most 1
                random_state=self.seed,
            )
            centred = target - mean
            network.fit(scaled[seen], centred[:, 0] if len(columns) == 1 else centred)
            (first, second), (inner, outer) = network.coefs_, network.intercepts_
            weights, threshold = scaling.unscaled(first.T, inner)
            block = np.zeros((self.hidden, len(models)))
            block[:, columns], bias[columns] = second, outer + mean
            vectors, thresholds = np.concatenate([vectors, weights]), np.concatenate([thresholds, threshold])
            output = np.concatenate([output, block])
        return {
            "vectors": vectors.astype(np.float32),
            "thresholds": thresholds.astype(np.float32),
            "output": output.astype(np.float32),
            "bias": bias,
        }

    @staticmethod
    def _expected(arrays: Arrays, x: npt.NDArray[Any]) -> Floats:
        inner = np.maximum(x @ arrays["vectors"].T + arrays["thresholds"], 0.0)
        found: Floats = np.clip(inner @ arrays["output"] + arrays["bias"], 0.0, 1.0)
        return found


def _logistic(x: Floats, quality: Floats, c: float) -> tuple[Floats, float]:
    """Weights [d] and bias of the penalised logistic regression of a graded quality, float64 [n], on x, float64 [n, d]."""
    from sklearn.linear_model import LogisticRegression

    right, wrong = quality > 0, quality < 1
    # The solver stops by the size of the gradient, and for that wants features of variance 1. The loss is strictly convex: some
    # hundred steps are many.
    unit = np.sqrt(x.shape[1])
    head = LogisticRegression(C=c / unit**2, tol=1e-5, max_iter=10_000)
    head.fit(
        np.concatenate([x[right], x[wrong]]) * unit,
        np.repeat([1, 0], [right.sum(), wrong.sum()]),
        sample_weight=np.concatenate([quality[right], 1.0 - quality[wrong]]),
    )
    return head.coef_[0] * unit, float(head.intercept_[0])


def _strength(x: Floats, quality: Floats, fold: npt.NDArray[np.int64]) -> float:
    """The inverse penalty, on the way from strong to weak, after which the squared error out of fold rises."""
    chosen, least = _STRENGTHS[0], np.inf
    for c in _STRENGTHS:
        expected = quality.copy()  # a fold without which nothing can be trained tells nothing of any strength
        for part in range(_FOLDS):
            here = fold == part
            if _trainable(quality[~here, None])[0]:
                weights, bias = _logistic(x[~here], quality[~here], c)
                expected[here] = _sigmoid(x[here] @ weights + bias)
        loss = float(np.mean((expected - quality) ** 2))
        if loss >= least:
            break
        chosen, least = c, loss
    return chosen


def _number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating)


def _need_sklearn(head: _Head) -> None:
    try:
        import sklearn  # noqa: F401  # not there = known before anything is computed, whatever the data ask for
    except ImportError as error:
        raise MissingExtraError(type(head).__name__, "sklearn") from error


def _sigmoid(logit: npt.NDArray[Any]) -> Floats:
    return 0.5 + 0.5 * np.tanh(0.5 * np.asarray(logit, np.float64))


def _trainable(quality: Floats) -> npt.NDArray[np.bool_]:
    """Whether each column has enough scores, and not all the same: bool [m]."""
    several = np.fmax.reduce(quality, axis=0) > np.fmin.reduce(quality, axis=0)
    trainable: npt.NDArray[np.bool_] = (np.isfinite(quality).sum(axis=0) >= _FEWEST) & several
    return trainable


def _means_without(quality: Floats, fold: npt.NDArray[np.int64]) -> Floats:
    """float64 [n, m]: for each row the column means of the other folds; NaN where they hold nothing."""
    seen = np.isfinite(quality)
    parts = np.arange(_FOLDS)[:, None] == fold
    total, count = parts @ np.where(seen, quality, 0.0), parts @ seen.astype(np.float64)
    total, count = total.sum(axis=0) - total, count.sum(axis=0) - count
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    found: Floats = np.clip(mean, 0.0, 1.0)[fold]
    return found


def _digest(table: OutcomeTable) -> bytes:
    """What out-of-fold predictions depend on, in 16 bytes."""
    vectors = vectors_of(table, "a head")
    said = hashlib.blake2b(repr((table.models, vectors.shape)).encode(), digest_size=16)
    said.update(table.quality.tobytes())
    said.update(vectors.tobytes())
    return said.digest()
