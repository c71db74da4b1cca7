"""From single outcomes to the cells of a table: what each one is the mean of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError
from agentroute.outcomes._vectors import merged
from agentroute.types import Matrix, Outcome, Price, Query

__all__ = ["SAMPLES", "Gathered", "averaged", "checked_prices", "gathered", "latest"]

SAMPLES = "agentroute.samples"
"""Key of `Outcome.metadata` under which `OutcomeTable.outcomes` says how many samples an outcome is the mean of."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gathered:
    """Outcomes by query and model, k of them.

    Attributes:
        queries: The n distinct queries, in order of first appearance.
        models: The m columns.
        rows: int64 [k], each outcome's query.
        cells: int64 [k], the flat index of each outcome's cell.
        measures: Name → float64 [k]: quality, cost, latency; NaN = unknown.
        samples: float64 [k], how many outcomes each one stands for.
        at: float64 [k], Unix seconds; NaN = unknown.
    """

    queries: list[Query]
    models: tuple[str, ...]
    rows: npt.NDArray[np.int64]
    cells: npt.NDArray[np.int64]
    measures: dict[str, Floats]
    samples: Floats
    at: Floats


def averaged(
    cells: npt.NDArray[np.int64], measures: Mapping[str, Floats], samples: Floats, shape: tuple[int, int]
) -> dict[str, Matrix]:
    """The mean of what is known of each cell, by measure, and as `samples` how many outcomes the quality is the mean of.

    Args:
        cells: int64 [k], flat index of each observation's cell.
        measures: Name → float64 [k]; NaN = not observed. `"quality"` must be there.
        samples: float64 [k], how many outcomes each observation is the mean of, and so the weight that it gets.
        shape: (n, m).

    Returns:
        Name → float64 [n, m]; NaN where nothing was observed, but 0 in `samples`.
    """
    size = shape[0] * shape[1]
    found = {}
    for name, values in measures.items():
        known = ~np.isnan(values)
        at, weights = cells[known], samples[known]
        total = np.bincount(at, weights=values[known] * weights, minlength=size)
        count = np.bincount(at, weights=weights, minlength=size)
        mean = np.full(size, np.nan)
        mean[at] = values[known]  # of one observation exactly what was observed, whatever it weighs
        np.divide(total, count, out=mean, where=np.bincount(at, minlength=size) > 1)
        found[name] = mean.reshape(shape)
        if name == "quality":
            found["samples"] = count.reshape(shape)
    return found


def latest(rows: npt.NDArray[np.int64], at: Floats, length: int) -> Floats:
    """The latest known time of each row, float64 [length]; NaN = unknown."""
    found = np.full(length, np.nan)
    np.fmax.at(found, rows, at)
    return found


def gathered(outcomes: Iterable[Outcome], models: Iterable[str] | None, prices: Mapping[str, Price] | None) -> Gathered:
    """Brings outcomes together by query and model.

    Args:
        outcomes: Any.
        models: The columns; outcomes of other models are left out. `None` = all models that appear, in that order.
        prices: Model id → price, for the outcomes that have a usage but no cost.

    Raises:
        DataError: There are none, or two queries share an id.
    """
    columns = {model: j for j, model in enumerate(models or ())}
    priced = checked_prices(prices)
    known: dict[str, int] = {}
    queries: list[Query] = []
    places: list[tuple[int, int]] = []
    values: list[tuple[float, float, float, float, float]] = []
    for outcome in outcomes:
        if models is not None and outcome.model not in columns:
            continue
        row = known.setdefault(outcome.query.key(), len(queries))
        if row == len(queries):
            queries.append(outcome.query)
        else:
            queries[row] = merged(queries[row], outcome.query)
        places.append((row, columns.setdefault(outcome.model, len(columns))))
        at = None if outcome.at is None else outcome.at.timestamp()
        measures = (_nan(outcome.quality), _nan(_cost(outcome, priced)), _nan(outcome.latency))
        values.append((*measures, _nan(at), _samples(outcome)))
    if not queries:
        raise DataError("there are no outcomes to learn from: log some, or read a file of them, then try again")
    where, numbers = np.array(places, dtype=np.int64), np.array(values, dtype=np.float64)
    return Gathered(
        queries=queries,
        models=tuple(columns),
        rows=where[:, 0],
        cells=where[:, 0] * len(columns) + where[:, 1],
        measures=dict(zip(("quality", "cost", "latency"), numbers.T[:3], strict=True)),
        samples=numbers[:, 4],
        at=numbers[:, 3],
    )


def checked_prices(prices: Mapping[str, Price] | None) -> Mapping[str, Price]:
    """The prices; none when they are not given.

    Raises:
        ConfigError: One is no `Price`.
    """
    for model, price in (prices or {}).items():
        if not isinstance(price, Price):
            raise ConfigError(f"prices: give a Price for {model!r}, such as Price(input=2.0, output=8.0), not {price!r}")
    return prices or {}


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _cost(outcome: Outcome, prices: Mapping[str, Price]) -> float | None:
    """What the call cost: as logged, else its tokens by price, else unknown."""
    price = prices.get(outcome.model)
    if outcome.cost is not None or outcome.usage is None or price is None:
        return outcome.cost
    return price.cost(outcome.usage)


def _samples(outcome: Outcome) -> float:
    said = outcome.metadata.get(SAMPLES, 1)
    if not isinstance(said, int) or said < 1:
        raise DataError(f"outcome {outcome.id!r} has {SAMPLES}={said!r} in its metadata: give a whole number of at least 1")
    return float(said)
