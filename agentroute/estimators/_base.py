"""The estimator contract; `agentroute.testing.estimator_checks` tests it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError
from agentroute.outcomes import OutcomeTable
from agentroute.types import Estimate, Query

__all__ = ["ESTIMATORS", "Estimator", "IncrementalEstimator", "State"]

Rows = npt.NDArray[np.int64]
Arrays = dict[str, npt.NDArray[Any]]
State = tuple[dict[str, Any], Arrays]
"""What an estimator saves: a JSON object and named arrays without Python objects."""


@runtime_checkable
class Estimator(Protocol):
    """Predicts quality, cost and latency of every model.

    Constructors only store; `fit` learns and returns the estimator; learned attributes end in `_`.
    """

    @property
    def kind(self) -> str:
        """Name under which a saved router finds the class."""

    @property
    def what(self) -> tuple[str, ...]:
        """The information that the estimator uses, for `Paradigm.what`."""

    @property
    def uses_embeddings(self) -> bool:
        """Whether queries need their `embedding`."""

    def fit(self, table: OutcomeTable, /) -> Self:
        """Learns from a table; what was learned before is forgotten.

        What is learned is bound anew and not changed in place: a shallow copy that is fitted leaves the original as it was.
        """

    def predict(self, queries: Sequence[Query], /) -> Estimate:
        """What to expect; columns are the fitted table's models.

        Raises:
            NotFittedError: `fit` has not been called.
        """

    def cross_predict(self, table: OutcomeTable, rows: Rows, /) -> Estimate:
        """Out-of-fold predictions for some rows of the fitted table: each made without the row itself.

        Args:
            table: The table that was given to `fit`.
            rows: int64 [r].
        """

    def state(self) -> State:
        """Everything that `predict` needs."""

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], /) -> Self:
        """The estimator that `state` described; it predicts the same."""


@runtime_checkable
class IncrementalEstimator(Estimator, Protocol):
    """An estimator that takes new rows without forgetting the old ones."""

    def partial_fit(self, table: OutcomeTable, /) -> Self:
        """Adds rows, and models that it did not know. A cell that is already known takes the new value."""


ESTIMATORS: dict[str, type[Estimator]] = {}
"""The built-in estimators by kind: what `Router.load` can make without being told more."""


def check_whole(estimator: object, name: str, least: int, most: float = np.inf) -> None:
    """Sees to it that an option is a whole number.

    Args:
        estimator: Whose.
        name: Of the option.
        least: The least that it may be.
        most: The most.

    Raises:
        ConfigError: It is another kind of value, or out of range.
    """
    value = getattr(estimator, name)
    if not (isinstance(value, int | np.integer) and least <= value <= most):
        raise ConfigError(f"{type(estimator).__name__}({name}={value!r}) is out of range: give a whole number, {least} or more")


def options(estimator: object, names: Sequence[str]) -> dict[str, Any]:
    """The options as JSON can hold them: numbers of numpy as plain ones."""
    found = {name: getattr(estimator, name) for name in names}
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in found.items()}


def folds(rows: int, count: int, seed: int) -> npt.NDArray[np.int64]:
    """int64 [rows]: a random fold for every row, sizes as equal as can be."""
    return np.random.default_rng(seed).permutation(rows) % min(count, max(rows, 1))


def vectors_of(table: OutcomeTable, who: str) -> npt.NDArray[np.float32]:
    """The embeddings of a table, float32 [n, d].

    Raises:
        ConfigError: It has none.
    """
    if table.embeddings is None:
        msg = f"{who} needs table.embeddings: fit through a Router with an embedder, or call table.with_embeddings(...)"
        raise ConfigError(msg)
    return table.embeddings


def embeddings_of(queries: Sequence[Query], dimension: int) -> npt.NDArray[np.float32]:
    """The embeddings of queries, float32 [n, dimension].

    Raises:
        ConfigError: One has none, or one of another length.
    """
    found = np.empty((len(queries), dimension), np.float32)
    for row, query in enumerate(queries):
        vector = query.embedding
        if vector is None:
            msg = "the query has no embedding: route through a Router, which embeds it"
            raise ConfigError(msg)
        if vector.shape != (dimension,):
            msg = f"the query's vector has the shape {vector.shape}, the fitted ones have {dimension} dimensions"
            raise ConfigError(msg)
        found[row] = vector
    return found


def joined(parts: Sequence[Estimate], order: npt.NDArray[np.int64]) -> Estimate:
    """The estimates of both parts, brought back into the order of the queries; short lists of neighbours end in -1."""
    back = np.argsort(order)
    found = [part.neighbours for part in parts if part.neighbours is not None]
    width = max(one.shape[1] for one in found)
    padded = [np.pad(one, ((0, 0), (0, width - one.shape[1])), constant_values=-1) for one in found]
    names = ("quality", "quality_std", "cost", "latency", "support", "similarity", "supported")
    merged = {name: np.concatenate([getattr(part, name) for part in parts])[back] for name in names}
    return Estimate(models=parts[0].models, neighbours=np.concatenate(padded)[back], **merged)
