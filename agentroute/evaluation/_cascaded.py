"""What a comparison of cascades holds: plain values, for people, reports and further metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from agentroute.evaluation._intervals import Interval
from agentroute.evaluation._results import Single

__all__ = [
    "AFTER",
    "BEFORE",
    "JUDGED",
    "MIX",
    "ROUTING",
    "CascadeComparison",
    "CascadeCurve",
    "CascadePoint",
    "CascadeVerdict",
    "SignalAuroc",
]

CascadeVerdict: TypeAlias = Literal["cascading pays", "not worth it", "cannot be told"]

MIX, ROUTING, JUDGED = "linear interpolation", "routing", "cascade routing"
BEFORE, AFTER = "expected before", "expected after"


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadePoint:
    """A way to call models at one budget.

    Attributes:
        budget: USD a query that it was tuned to keep to, mean over the training parts.
        cost: USD a query that it came to, calls and scoring, on the held-out queries.
        quality: Mean quality.
        climbs: Share of the queries for which more than one model was called.
        calls: Mean number of models called.
        scoring: Of the cost, USD for looking at answers.
    """

    budget: float
    cost: float
    quality: float
    climbs: float
    calls: float
    scoring: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeCurve:
    """A way to call models, over all budgets between the cheapest and the dearest single model.

    Attributes:
        name: `"linear interpolation"`, `"routing"`, `"threshold cascade"`, `"cascading"` or `"cascade routing"`.
        points: By rising budget; of the linear interpolation the corners.
        area: Mean quality over the costs from the cheapest to the dearest single model, the normalised area under the curve.
        over_mix: That less the linear interpolation's, paired.
        over_routing: That less routing's, paired.
        climbs: Mean over the same costs of the share of queries for which more than one model was called.
        scoring: Mean over the same costs of the USD a query for looking at answers.
    """

    name: str
    points: tuple[CascadePoint, ...]
    area: Interval
    over_mix: Interval
    over_routing: Interval
    climbs: float
    scoring: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalAuroc:
    """How well something that is known of a model's answers tells the right ones from the wrong ones.

    Attributes:
        signal: Its name; `"expected before"` and `"expected after"` are the learned estimates before anybody has answered and
            after this model has, both out of fold.
        model: Whose answers.
        auroc: The chance that a right answer has more of it than a wrong one; 0.5 = it says nothing, far below 0.5 = less of it
            is better.
        known: Share of the answers of which it is known.
    """

    signal: str
    model: str
    auroc: Interval
    known: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeComparison:
    """What `compare_cascades` found.

    Attributes:
        verdict: Whether a cascade pays.
        sentence: The same for people, with numbers.
        curves: The linear interpolation first.
        singles: Always one model, in the table's order.
        best_single: The model of the highest mean quality on the training parts; of several, the most frequent one.
        signals: By signal and model.
        queries: How many different queries were judged.
        coverage: Their share of the held-out queries; the others were not answered by every model, or lack costs.
        notes: What is missing and why, for people.
    """

    verdict: CascadeVerdict
    sentence: str
    curves: tuple[CascadeCurve, ...]
    singles: tuple[Single, ...]
    best_single: str
    signals: tuple[SignalAuroc, ...]
    queries: int
    coverage: float
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> CascadeCurve:
        """The curve of that name.

        Raises:
            KeyError: There is none.
        """
        for curve in self.curves:
            if curve.name == name:
                return curve
        raise KeyError(f"{name!r} is none of {[curve.name for curve in self.curves]}")

    def __str__(self) -> str:
        """The sentence, and one line for each curve."""
        lines = [
            f"{one.name}: mean quality {one.area}, over mixes {one.over_mix}, over routing {one.over_routing}"
            for one in self.curves
        ]
        return "\n".join([self.sentence, *lines, *self.notes])
