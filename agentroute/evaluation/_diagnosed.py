"""What diagnoses hold: plain values, for people and reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from agentroute.evaluation._intervals import Interval
from agentroute.evaluation._results import Evaluation, Frontier, FrontierPoint, Single

__all__ = [
    "Cascade",
    "Degeneracy",
    "Finding",
    "Gaps",
    "ModelCalibration",
    "RoutingDiagnosis",
    "Shift",
    "TaskRow",
    "Verdict",
    "Vote",
]

_UNKNOWN = Interval(value=math.nan, low=math.nan, high=math.nan)


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
        before: Mean quality in the fit window, kinds of questions weighed alike in both windows, so that another mix of them is
            no shift. A question that is asked several times counts once.
        after: In the holdout.
        change: After less before.
        relative: The same of its lead over the mean of the other models that did not shift, so that a harder holdout is no
            shift; NaN where it has no other model.
        p_value: Two-sided, corrected for the number of models (Holm): of `relative`, or of what is left of the change when the
            log odds of all models move alike, whichever is larger.
        shifted: Whether the change and both comparisons point the same way, all beyond chance and by 0.02 or more, and the
            questions within kinds are not others, as far as vectors show.
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
        saving: Share of the best single model's cost that is saved; negative = it costs more.
        over_mix: Quality above that of the best random mix of single models for the same money.
    """

    models: tuple[str, ...]
    judge_error: float
    quality: Interval
    cost: Interval
    gain: Interval
    saving: Interval
    over_mix: Interval = _UNKNOWN


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
    "other questions",
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
            are unknown. Of the questions whose options are known.
        gaps: Where the way to the oracle is lost.
        calibration: One for each model.
        lookup_is_enough: Whether a table from task (or cluster) to model does as well as the router: within a point or within
            noise, and surely by less than is worthwhile; where the gain is a saving, about as cheap too. False where all queries
            are of one kind, and where there are too few to say.
        lookup_by: What that table looks up: `"task"`, `"labels"` or `"cluster"`.
        shifts: One for each model; empty where there is no second window.
        lost_lead: The best model of the fit window, where it is not the holdout's; `None` = it kept its lead, or there is no
            second window.
        degeneracy: How far the router chooses at all.
        votes: The best small sets, if quality can be voted on.
        cascades: The best order for each error rate of a judge; empty when costs are unknown.
        tasks: One for each task or cluster, largest first.
        detectable_gain: Smallest gain over the best single model that this many queries would show (5 % level, 80 % power).
        queries_needed: How many would show a worthwhile gain, 100 at least; `None` = enough are there, or what is advised has
            shown on them.
        dependence: Mean correlation of two models' scores on queries of one task (or cluster): near 0 = they look like noise.
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
