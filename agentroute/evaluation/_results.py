"""What evaluations and frontiers hold: plain values, for people, reports and further metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.evaluation._intervals import Interval
from agentroute.outcomes import OutcomeTable
from agentroute.types import Estimate

__all__ = [
    "Evaluation",
    "FoldResult",
    "Frontier",
    "FrontierPoint",
    "Replay",
    "Row",
    "Single",
]

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One way to choose models, replayed.

    Attributes:
        name: What it is called.
        kind: `"baseline"` needs no router; `"routed"` is what is judged; `"bound"` knows the answers, so that no router gets
            there.
        quality: Mean quality of the chosen answers.
        cost: Mean USD a query.
        latency: Mean seconds a query.
        gain: Mean quality less that of the best single model, paired by query.
        gap: Share of the way from the best single model to the oracle that is covered, "gap recovered"; NaN where there is no
            way to go.
        shares: Share of the queries that each model answered; empty for a bound that is no choice of models.
    """

    name: str
    kind: Literal["baseline", "routed", "bound"]
    quality: Interval
    cost: Interval
    latency: Interval
    gain: Interval
    gap: Interval
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldResult:
    """What one part of a split said.

    Attributes:
        name: `"split 1"`, `"part 1"`, `"task gsm8k"`, `"from 2026-03-01"`, `"model x"`.
        learned: How many queries the training part holds; 0 where the router was judged as it is, without a reference.
        queries: How many were replayed.
        best_single: The model of highest mean quality on the fold's training part.
        gains: Way → mean quality less that of the best single model.
    """

    name: str
    learned: int = 0
    queries: int
    best_single: str
    gains: Mapping[str, Interval]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replay:
    """The arrays behind an evaluation, one row for each replayed query and fold: input for `agentroute.evaluation.metrics`.

    Attributes:
        table: The replayed outcomes, n queries that all m models answered.
        shares: Way → float64 [n, m], the chance of each model; rows add up to 1. Bounds that are no choice are absent.
        best_single: int64 [n], the column of the fold's best single model.
        cheapest: int64 [n], the column of the fold's cheapest model.
        groups: int64 [n], rows of the same query in several folds share a number.
        fold: int64 [n], the place of the row's fold in `Evaluation.folds`.
        estimate: What the router expected of the queries before they were scored; `None` when what was judged estimates nothing.
            Its columns are those of the table.
        fallback: int64 [n], the column of the router's default; -1 where there is none.
    """

    table: OutcomeTable
    shares: Mapping[str, Floats]
    best_single: npt.NDArray[np.int64]
    cheapest: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    fold: npt.NDArray[np.int64]
    estimate: Estimate | None = None
    fallback: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Baselines, what was judged, and bounds, on the same queries.

    Attributes:
        rows: Baselines first, then what was judged, then the bounds.
        queries: How many different queries were replayed: those that every model of the pool has answered.
        coverage: Their share of the held-out queries.
        cheapest: The model of least mean cost on the reference; of several folds, the most frequent one.
        best_single: The model of highest mean quality there; likewise.
        folds: One for each part of the split.
        notes: What is missing and why, for people.
        replay: The arrays behind the rows.
    """

    rows: tuple[Row, ...]
    queries: int
    coverage: float
    cheapest: str
    best_single: str
    folds: tuple[FoldResult, ...] = ()
    notes: tuple[str, ...] = ()
    replay: Replay | None = field(default=None, repr=False, compare=False)

    @property
    def held_out(self) -> int:
        """How many different queries were held out, answered by every model or not."""
        return round(self.queries / self.coverage)

    def __getitem__(self, name: str) -> Row:
        """The row of that name.

        Raises:
            KeyError: There is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"{name!r} is none of {[row.name for row in self.rows]}")

    def __contains__(self, name: object) -> bool:
        """Whether there is a row of that name."""
        return any(row.name == name for row in self.rows)

    def __str__(self) -> str:
        """One line for each row, and the notes."""
        rows = (f"{row.name}: quality {row.quality}, USD {row.cost}, gain {row.gain}" for row in self.rows)
        return "\n".join([f"{self.queries:,} queries, gains over always {self.best_single}", *rows, *self.notes])


@dataclass(frozen=True, slots=True, kw_only=True)
class Single:
    """Always one model.

    Attributes:
        model: Its id.
        quality: Mean quality.
        cost: Mean USD a query.
        latency: Mean seconds a query.
        on_hull: Whether no mix of other models is as good for the money.
        unique_wins: Share of the queries that this model alone answered best.
    """

    model: str
    quality: Interval
    cost: Interval
    latency: Interval
    on_hull: bool
    unique_wins: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """The router at one exchange rate between quality and money.

    Attributes:
        willingness_to_pay: USD that one unit of quality is worth; infinity = quality alone.
        quality: Mean quality.
        cost: Mean USD a query.
        gain: Mean quality less the best single model's, paired.
        saving: Share of the best single model's cost that is saved, paired; negative = it costs more.
        over_mix: Quality above that of the best random mix of single models for the same money (the hull). The intervals of
            a curve are pointwise, each of one rate named beforehand: of forty, some lie above 0 by luck.
        shares: Model → share of the queries.
    """

    willingness_to_pay: float
    quality: Interval
    cost: Interval
    gain: Interval
    saving: Interval
    over_mix: Interval
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """The cost-quality plane: every single model, their hull, the router's curve, the oracle.

    Attributes:
        singles: One for each model, in the table's order.
        hull: (USD a query, quality) of the non-decreasing convex hull of the single models, cheapest first.
        points: The router's curve, by rising willingness to pay; ends with quality alone.
        oracle: (USD a query, quality) of the oracle's curve over the same rates, cheapest first.
        best_single: The model that gains and savings are counted from.
        aiq: Mean height of the router's hull over the single models' range of costs (RouterBench). Optimistic: the hull keeps
            the rates that turned out best on the queries that they are judged by.
        aiq_singles: The same of the single models' hull.
        aiq_gain: Mean height of the router's curve as it is (each split's own), not of its hull, less `aiq_singles`, paired: a
            router of noise has none. So it is not `aiq` less `aiq_singles`, which is above 0 for noise.
    """

    singles: tuple[Single, ...]
    hull: tuple[tuple[float, float], ...]
    points: tuple[FrontierPoint, ...]
    oracle: tuple[tuple[float, float], ...]
    best_single: str
    aiq: Interval
    aiq_singles: Interval
    aiq_gain: Interval
