"""Says whether routing is feasible on a log, and how it knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.embedders import CallableEmbedder
from agentroute.errors import ConfigError, DataError
from agentroute.evaluation._baselines import Options, option_counts
from agentroute.evaluation._calibration_checks import calibration, predictable
from agentroute.evaluation._complete import Comparable, comparable
from agentroute.evaluation._evaluate import Progress, evaluate
from agentroute.evaluation._figures import Figures, figures, priced
from agentroute.evaluation._frontier import frontier, singles
from agentroute.evaluation._kinds import clusters, kinds
from agentroute.evaluation._results import Evaluation, Frontier, ModelCalibration, RoutingDiagnosis, Row, Single
from agentroute.evaluation._shift import SMALLEST_WINDOW, Drift, Window, skill_shifts, windows_by_time
from agentroute.evaluation._splits import KFold
from agentroute.evaluation._verdict import POINT, Evidence, decide, needed
from agentroute.evaluation._words import Told, findings, headline, reasons
from agentroute.outcomes import OutcomeTable
from agentroute.pool import ModelPool
from agentroute.router import Router
from agentroute.types import Vectors

__all__ = ["diagnose"]

Floats: TypeAlias = npt.NDArray[np.float64]

BASELINES = ("random", "cheapest", "strongest", "best single", "task lookup", "plain kNN")
"""Without the heads of scikit-learn, which take longer than all else together."""
JUDGE_ERROR = 0.2
_LARGE = 5000
_WEIGHED = 10_000_000
"""Queries times resamples: so that a log of 10,000 queries has its verdict within ten seconds. Its intervals are narrow."""
_STAGES = ("embedding", "skill shift", "out of fold", "frontier", "calibration", "votes, cascades and luck", "verdict")
_SHARES = (0.0, 0.15, 0.2, 0.55, 0.75, 0.9, 0.99)


def diagnose(
    table: OutcomeTable,
    *,
    router: Router | None = None,
    holdout: OutcomeTable | None = None,
    options: Options | None = None,
    worthwhile: float = 0.05,
    max_queries: int = 20_000,
    seed: int = 0,
    resamples: int = 2000,
    progress: Progress | None = None,
) -> RoutingDiagnosis:
    """Says whether routing is worth it on a log, with the numbers behind the verdict.

    Everything is judged out of fold, on queries that all models answered: the router, the tables, votes and cascades learn
    from some parts of the log and are judged by the others (five parts, three from 5,000 queries on).

    Args:
        table: Outcomes of several models on the same queries.
        router: Its settings are judged; `None` = the default router, choosing for quality alone, with the vectors that the
            table has.
        holdout: Later or fresh outcomes, to see whether scores hold; `None` = the last 30 % of the times, if the log has
            them.
        options: Answers to choose from in multiple-choice questions: one number, by task, or float64 [n] with NaN = an open
            question; for the luck floor.
        worthwhile: The least gain in quality that is worth the trouble.
        max_queries: A random sample of so many is judged where there are more.
        seed: Of everything random.
        resamples: Of the bootstrap, at most: large logs take fewer (1,000 for 10,000 queries), curve and calibration a quarter.
        progress: Told of each stage.

    Raises:
        DataError: Fewer than 10 queries have scores of all models, or holdout or options do not fit the table.
        ConfigError: An option is out of range.
    """
    if not 0.0 < worthwhile < 1.0 or max_queries < 1:
        raise ConfigError(f"worthwhile={worthwhile!r} must be between 0 and 1, and max_queries={max_queries!r} 1 or more")
    told = _Teller(progress)
    told.stage(0)
    part = comparable(table, option_counts(options, table), max_queries=max_queries, seed=seed)
    chooser = _router(router, part.table)
    ready = chooser.table(part.table)
    if len(ready) < len(part.table):
        raise DataError("queries without text or vector cannot be routed: log either, or leave them out")
    told.stage(1)
    fine = max(min(resamples, _WEIGHED // len(ready)), 1)
    rough = max(fine // 4, min(fine, 100))
    drift, window = _drift(ready, holdout, chooser, seed=seed, resamples=rough)
    told.stage(2)
    count = 5 if len(ready) < _LARGE else 3
    evaluation = evaluate(
        chooser,
        ready,
        split=KFold(count=count, seed=seed),
        baselines=BASELINES,
        options=part.options,
        seed=seed,
        resamples=fine,
        progress=told.within(2),
    )
    replay = evaluation.replay
    if replay is None:
        raise AssertionError  # evaluate always gives one; for the type checker
    settings = {
        "queries": f"{evaluation.queries:,} of {len(table):,}",
        "folds": str(count),
        "resamples": f"{fine:,} ({rough:,} of curve, calibration and shifts)",
        "seed": str(seed),
        "vectors": str(ready.fingerprint),
        "second window": window,
        **part.settings,
        **({} if drift.note is None else {"skill shift": drift.note}),
    }
    of = kinds(replay.table, seed=seed)
    told.stage(3)
    known = priced(replay.table.cost)
    plane = None if known is None else frontier(replay, seed=seed, resamples=rough)
    whole = known is not None and bool(known.all())
    alone = plane.singles if plane is not None and whole else singles(replay, seed=seed, resamples=rough)
    told.stage(4)
    judged = calibration(replay, of.of, resamples=rough, seed=seed)
    told.stage(5)
    found = figures(evaluation, replay, of, worthwhile=worthwhile, resamples=fine, seed=seed)
    told.stage(6)
    return _diagnosis(part, evaluation, plane, alone, judged, found, of.by, drift, worthwhile, settings)


class _Teller:
    """Tells a caller how far the whole is."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress

    def stage(self, number: int) -> None:
        if self.progress is not None:
            self.progress(_STAGES[number], _SHARES[number])

    def within(self, number: int) -> Progress | None:
        """The progress of a part, as that of the whole."""
        whole = self.progress
        if whole is None:
            return None
        start, end = _SHARES[number], _SHARES[number + 1]
        return lambda what, share: whole(f"{_STAGES[number]}: {what}", start + share * (end - start))


def _router(router: Router | None, table: OutcomeTable) -> Router:
    """An unfitted router over the models that are compared, with the vectors that the table has."""
    if router is None:
        made = table.fingerprint
        if made is None:
            return Router(table.models)
        own = CallableEmbedder(_refuse, name=made.name, revision=made.revision, dimension=made.dimension)
        return Router(table.models, embedder=own)
    known = [card for card in router.pool if card.id in table.models]
    strangers = [model for model in table.models if model not in router.pool.ids]
    if strangers:
        raise ConfigError(
            f"the router's pool does not hold {strangers[0]!r}: give a router of these models, or select its models"
        )
    return router.clone(pool=ModelPool(known))


def _refuse(texts: list[str]) -> Vectors:
    raise ConfigError(
        f"{len(texts)} queries have no vector of the embedder that made the others': give router= with that embedder"
    )


def _drift(table: OutcomeTable, holdout: OutcomeTable | None, router: Router, *, seed: int, resamples: int) -> tuple[Drift, str]:
    """Skill shift, and what the second window is."""
    if holdout is None:
        windows = windows_by_time(table.at)
        if windows is None:
            return Drift(), "none"
        strata = kinds(table, seed=seed).of
        early, late = (Window(quality=table.quality[rows], strata=strata[rows]) for rows in windows)
        return skill_shifts(early, late, table.models, resamples=resamples, seed=seed), "in the last 30% of the times"
    common = [model for model in table.models if model in holdout.models]
    if not common:
        raise DataError(f"the holdout has outcomes of {list(holdout.models)!r} only: give one with the log's models")
    complete = np.flatnonzero(np.isfinite(holdout.select(common).quality).all(axis=1))
    if len(complete) < SMALLEST_WINDOW:
        who = f"{len(complete)} queries of the holdout have scores of all models of the log"
        return Drift(note=f"{who}: skill shift was not tested, it takes {SMALLEST_WINDOW}"), "in the holdout"
    fresh = holdout.select(common).take(complete)
    of = _strata(table, fresh, router, seed)
    before = Window(quality=table.select(common).quality, strata=of[: len(table)])
    after = Window(quality=fresh.quality, strata=of[len(table) :])
    return skill_shifts(before, after, common, resamples=resamples, seed=seed), "in the holdout"


def _strata(table: OutcomeTable, fresh: OutcomeTable, router: Router, seed: int) -> npt.NDArray[np.int64]:
    """The kinds of the queries of both, by the same labels or clusters; all of one kind where neither can be had."""
    both = (*table.queries, *fresh.queries)
    joined = OutcomeTable(queries=both, models=("any",), quality=np.full((len(both), 1), np.nan))
    found = kinds(joined, seed=seed)
    if found.by != "cluster" or table.embeddings is None:
        return found.of
    try:
        embedded = router.table(fresh)
    except ConfigError:  # vectors of another embedder, and no way to make them anew
        return found.of
    if embedded.embeddings is None or len(embedded) < len(fresh):
        return found.of
    return clusters(np.concatenate([table.embeddings, embedded.embeddings]), seed=seed)[1]


def _diagnosis(
    part: Comparable,
    evaluation: Evaluation,
    plane: Frontier | None,
    alone: Sequence[Single],
    judged: tuple[ModelCalibration, ...],
    found: Figures,
    by: str,
    drift: Drift,
    worthwhile: float,
    settings: Mapping[str, str],
) -> RoutingDiagnosis:
    """Verdict and words from the numbers."""
    models = len(alone)
    cascade = next((one for one in found.cascades if one.judge_error == JUDGE_ERROR and len(one.models) > 1), None)
    evidence = Evidence(
        models=models,
        queries=evaluation.queries,
        worthwhile=worthwhile,
        detectable=found.detectable,
        gain=evaluation["routed"].gain,
        hindsight=evaluation["strongest"].gain.value,
        thrift=found.thrift,
        dependence=found.dependence,
        predictable=any(predictable(one.auroc) for one in judged),
        cascade=cascade,
        vote=max(found.votes, key=lambda vote: vote.gain.value, default=None),
    )
    more = None if models == 1 else needed(evaluation.queries, found.detectable, worthwhile)
    over = found.over_lookup
    told = Told(
        verdict=decide(evidence),
        evidence=evidence,
        evaluation=evaluation,
        figures=found,
        singles=tuple(sorted(alone, key=lambda one: -one.quality.value)),
        calibration=judged,
        drift=drift,
        lookup_by=by,
        lookup_is_enough=models > 1 and evidence.gains and (over.low <= 0.0 or over.value < POINT),
        luck_floor=evaluation["luck floor"].quality.value if "luck floor" in evaluation else None,
        stable_oracle=evaluation["stable oracle"].quality if "stable oracle" in evaluation else None,
        plane=plane,
        priceless=tuple(part.table.models[j] for j in np.flatnonzero(np.isnan(part.table.cost).any(axis=0))),
        needed=more,
        window=settings["second window"],
    )
    return RoutingDiagnosis(
        verdict=told.verdict,
        headline=headline(told),
        reasons=reasons(told),
        findings=(*findings(told), *part.findings),
        evaluation=_with_lookup(evaluation, found.lookup),
        frontier=plane,
        singles=told.singles,
        top_two=found.top_two,
        stable_oracle=told.stable_oracle,
        luck_floor=told.luck_floor,
        gaps=found.gaps,
        calibration=judged,
        lookup_is_enough=told.lookup_is_enough,
        lookup_by=by,
        shifts=drift.shifts,
        lost_lead=drift.lost_lead,
        degeneracy=found.degeneracy,
        votes=found.votes,
        cascades=found.cascades,
        tasks=found.tasks,
        detectable_gain=found.detectable,
        queries_needed=more,
        dependence=found.dependence,
        settings=settings,
    )


def _with_lookup(evaluation: Evaluation, row: Row) -> Evaluation:
    """The evaluation with the table that the lookup stands for among its baselines, if it is not there already."""
    if row.name in evaluation:
        return evaluation
    place = sum(1 for one in evaluation.rows if one.kind == "baseline")
    return replace(evaluation, rows=(*evaluation.rows[:place], row, *evaluation.rows[place:]))
