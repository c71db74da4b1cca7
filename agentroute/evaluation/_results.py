"""What evaluations, frontiers and diagnoses hold: plain values, for people, reports and further metrics."""

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
    "Cascade",
    "Degeneracy",
    "Evaluation",
    "Finding",
    "FoldResult",
    "Frontier",
    "FrontierPoint",
    "Gaps",
    "ModelCalibration",
    "Replay",
    "RoutingDiagnosis",
    "Row",
    "Shift",
    "Single",
    "TaskRow",
    "Verdict",
    "Vote",
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCalibration:
    """How well the estimates of one model foresee its scores, out of fold.

    Attributes:
        model: Its id.
        auroc: Chance that a right answer was expected to be better than a wrong one; 0.5 = no idea.
        auroc_within: The same among queries of the same task; NaN where no task has both right and wrong answers.
        brier: Mean squared error of the expected quality.
        ece: Expected calibration error.
        r2: Share of the variance that the estimates explain; at or below 0 = no better than the mean.
        r2_within: The same of the variance within tasks.
        curve: (mean expected quality, mean quality, share of the queries) of each bin that holds queries, lowest first.
        regime: Which noise level of the cascade-routing simulation such an AUROC stands for (Dekoninck et al., arXiv:2410.10347).
        cost_ratio: Realised mean cost by expected mean cost; NaN = unknown.
    """

    model: str
    auroc: Interval
    auroc_within: Interval
    brier: Interval
    ece: Interval
    r2: Interval
    r2_within: Interval
    curve: tuple[tuple[float, float, float], ...]
    regime: Literal["low noise", "medium noise", "high noise", "no signal"]
    cost_ratio: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """How a model's mean quality moved from the fit window to the holdout.

    Attributes:
        model: Its id.
        before: Mean quality in the fit window, tasks weighed alike in both windows, so that another mix of tasks is no shift.
        after: In the holdout.
        change: After less before.
        relative: The same of its lead over the mean of the other models that did not shift, so that a harder holdout is no
            shift; NaN where it has no other model.
        p_value: Of `relative`, two-sided, corrected for the number of models (Holm).
        shifted: Whether change and relative change point the same way, both beyond chance and by 0.02 or more.
    """

    model: str
    before: float
    after: float
    change: Interval
    relative: Interval
    p_value: float
    shifted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """The way from the routed choice to the oracle, in parts (Srivatsa et al. 2024, arXiv:2405.00467).

    Attributes:
        total: Oracle less routed choice.
        policy: Classifier ceiling (some model that is expected to be right is) less routed choice.
        classifier: Stable oracle (oracle, of queries whose repeats are not known) less the ceiling.
        noise: Oracle less stable oracle; `None` where repeats are not known.
        ceiling: The classifier ceiling itself.
    """

    total: Interval
    policy: Interval
    classifier: Interval
    noise: Interval | None
    ceiling: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Degeneracy:
    """How far the router chooses at all.

    Attributes:
        model: The most chosen model.
        share: Its share of the queries.
        entropy: Of the shares of all models, in bits.
        always: Whether the router is "always `model`" (99 % and more).
    """

    model: str
    share: Interval
    entropy: Interval
    always: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """A majority vote of a small set of models, chosen on the training part.

    Attributes:
        models: Who votes; of several folds, the most frequent set.
        weighted: Whether votes weigh by log odds of the model's mean quality.
        quality: At least this: wrong answers are taken to agree with one another.
        cost: USD a query, all voters.
        gain: Over the best single model.
    """

    models: tuple[str, ...]
    weighted: bool
    quality: Interval
    cost: Interval
    gain: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """What a cascade with a judge of a given error rate would do; the order was chosen on the training part.

    Attributes:
        models: The order of asking; of several folds, the most frequent one. One model = no cascade is better than it.
        judge_error: Chance that the judge takes a right answer for a wrong one, and a wrong one for a right one.
        quality: Expected quality.
        cost: Expected USD a query, without the judge.
        gain: Over the best single model.
        saving: Share of the best single model's cost that is saved.
    """

    models: tuple[str, ...]
    judge_error: float
    quality: Interval
    cost: Interval
    gain: Interval
    saving: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One task (or cluster of queries) of the log.

    Attributes:
        task: Its name.
        queries: How many were replayed.
        best_single: Mean quality of the best single model of the whole log.
        routed: Mean quality of the routed choice.
        oracle: Mean quality of the best answer.
        gain: Routed less best single, paired.
        best_model: The model of the highest mean quality here.
        quality: Model → mean quality.
    """

    task: str
    queries: int
    best_single: float
    routed: float
    oracle: float
    gain: Interval
    best_model: str
    quality: Mapping[str, float]


Verdict: TypeAlias = Literal["route", "cascade", "ensemble", "single model", "need more data"]
FindingKind: TypeAlias = Literal[
    "skill shift",
    "lost lead",
    "task identity",
    "degenerate",
    "luck floor",
    "luck inflation",
    "noise",
    "few rows",
    "holes",
    "costs unknown",
    "copies",
    "holdout",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that a reader of the numbers has to know.

    Attributes:
        kind: For programs.
        text: For people, one sentence or two.
        model: The model that it is about, if it is about one.
    """

    kind: FindingKind
    text: str
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingDiagnosis:
    """Whether routing is feasible on a log, with the numbers behind the verdict.

    Attributes:
        verdict: What to do.
        headline: The verdict in one sentence.
        reasons: Why, in plain words, most important first.
        findings: What else there is to know: skill shift, luck, degeneracy, task identity …
        evaluation: Baselines, the routed choice and bounds on held-out queries (out of fold).
        frontier: The cost-quality plane; `None` when costs are unknown.
        recommended: Where the headline is a saving, the point of the curve that it names, nearest in cost to what the folds chose
            on one another (the verdict rests on that choice). `None` = the headline names no rate.
        singles: Always one model, one for each, best first.
        top_two: The two models whose better answers are best together, and the mean quality of those.
        stable_oracle: Mean over queries of "some model is right in at least 80 % of its repeats"; `None` without repeats.
        luck_floor: Share of the queries that as many guessers as there are models would get right; `None` where options
            are unknown.
        gaps: Where the way to the oracle is lost.
        calibration: One for each model.
        lookup_is_enough: Whether a table from task (or cluster) to model does as well as the router: within a point or within
            noise, and where the gain is a saving, about as cheap. False where all queries are of one kind.
        lookup_by: What that table looks up: `"task"`, `"labels"` or `"cluster"`.
        shifts: One for each model; empty where there is no second window.
        lost_lead: The best model of the fit window, where it is not the holdout's; `None` = it kept its lead, or there is no
            second window.
        degeneracy: How far the router chooses at all.
        votes: The best small sets, if quality can be voted on.
        cascades: The best order for each error rate of a judge; empty when costs are unknown.
        tasks: One for each task or cluster, largest first.
        detectable_gain: Smallest gain over the best single model that this many queries would show (5 % level, 80 % power).
        queries_needed: How many would show a worthwhile gain, 100 at least; `None` = enough are there.
        dependence: Mean correlation of two models' scores on the same queries: near 0 = the scores look like noise.
        settings: What was done: folds, resamples, seeds, embedder, sampled queries; name → value, for the report's footer.
    """

    verdict: Verdict
    headline: str
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...]
    evaluation: Evaluation
    frontier: Frontier | None
    singles: tuple[Single, ...]
    top_two: tuple[tuple[str, str], Interval]
    stable_oracle: Interval | None
    luck_floor: float | None
    gaps: Gaps
    calibration: tuple[ModelCalibration, ...]
    lookup_is_enough: bool
    lookup_by: str
    shifts: tuple[Shift, ...]
    lost_lead: str | None
    degeneracy: Degeneracy
    votes: tuple[Vote, ...]
    cascades: tuple[Cascade, ...]
    tasks: tuple[TaskRow, ...]
    detectable_gain: float
    queries_needed: int | None
    dependence: Interval
    settings: Mapping[str, str]
    recommended: FrontierPoint | None = None

    def __str__(self) -> str:
        """The headline, the reasons and the findings, one on each line."""
        return "\n".join([self.headline, *(f"- {line}" for line in (*self.reasons, *(one.text for one in self.findings)))])
