"""Says whether routing is feasible on a log, and how it knows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.embedders import CallableEmbedder
from agentroute.errors import ConfigError, DataError
from agentroute.evaluation._base import priced
from agentroute.evaluation._baselines import Options, option_counts
from agentroute.evaluation._calibration_checks import calibration, predictable
from agentroute.evaluation._complete import Comparable, comparable
from agentroute.evaluation._diagnosed import ModelCalibration, RoutingDiagnosis
from agentroute.evaluation._evaluate import Progress, evaluate
from agentroute.evaluation._figures import Figures, figures
from agentroute.evaluation._findings import findings
from agentroute.evaluation._frontier import frontier, singles
from agentroute.evaluation._kinds import Kinds, kinds
from agentroute.evaluation._laps import Laps, groups
from agentroute.evaluation._results import Evaluation, Frontier, Row, Single
from agentroute.evaluation._shift import Drift
from agentroute.evaluation._told import Told
from agentroute.evaluation._verdict import Evidence, alike, decide, wanted
from agentroute.evaluation._windows import compared
from agentroute.evaluation._words import headline, reasons
from agentroute.outcomes import OutcomeTable
from agentroute.pool import ModelPool
from agentroute.router import Router
from agentroute.types import Vectors

__all__ = ["diagnose"]

Floats: TypeAlias = npt.NDArray[np.float64]

BASELINES = ("random", "cheapest", "best single", "task lookup", "plain kNN")
"""Without the heads of scikit-learn, which take longer than all else together."""
JUDGE_ERROR = 0.2
_DRAWINGS = ((1000, 5, 3), (2000, 5, 2), (4000, 5, 1), (7000, 4, 1))
"""Queries below which the log is parted into so many, so many times over: each step does about the work of the one before."""
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
    from some parts of the log and are judged by the others (five parts, drawn three times over below 1,000 queries and twice
    below 2,000; four parts from 4,000 queries on, three from 7,000). Gains and savings are counted from always the same model:
    the best one of the whole log, of equals the cheaper.

    Args:
        table: Outcomes of several models on the same queries.
        router: Its settings are judged, its own policy first; `None` = the default router, choosing for quality alone, with
            the vectors that the table has.
        holdout: Later or fresh outcomes, to see whether scores hold; `None` = the last 30 % of the times, if the log has
            them. A finding says where it could not be used.
        options: Answers to choose from in multiple-choice questions: one number, by task, or float64 [n] with NaN = an open
            question; for the luck floor.
        worthwhile: The least gain in quality that is worth the trouble.
        max_queries: A random sample of so many is judged where there are more.
        seed: Of everything random.
        resamples: Of the bootstrap, at most: large logs take fewer (1,000 for 10,000 queries), curve and calibration a quarter.
        progress: Told of each stage.

    Raises:
        DataError: Fewer than 10 different queries have scores of all models, or options do not fit the table.
        ConfigError: An option is out of range, or options name no task of the log.
    """
    if not 0.0 < worthwhile < 1.0 or max_queries < 1:
        raise ConfigError(f"worthwhile={worthwhile!r} must be between 0 and 1, and max_queries={max_queries!r} 1 or more")
    told = _Teller(progress)
    told.stage(0)
    _check_tasks(options, table)
    part = comparable(table, option_counts(options, table), max_queries=max_queries, seed=seed)
    chooser = _router(router, part.table)
    ready = chooser.table(part.table)
    if len(ready) < len(part.table):
        raise DataError("queries without text or vector cannot be routed: log either, or leave them out")
    told.stage(1)
    count, laps = _drawings(len(ready))
    fine = max(min(resamples, _WEIGHED // (laps * len(ready))), 1)
    rough = max(fine // 4, min(fine, 100))
    drift, window = compared(ready, holdout, chooser, seed=seed, resamples=rough)
    told.stage(2)
    best = _best_single(ready)
    evaluation = evaluate(
        chooser,
        ready,
        split=Laps(count=count, laps=laps, seed=seed),
        baselines=BASELINES,
        single=best,
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
        "folds": str(count) if laps == 1 else f"{count}, drawn {laps} times",
        "compared with": f"always {best}, the best single model of all queries: chosen with hindsight, which favours it",
        "resamples": f"{fine:,} ({rough:,} of curve, calibration and shifts)",
        "seed": str(seed),
        "vectors": str(ready.fingerprint),
        "second window": window,
        **part.settings,
        **({} if drift.note is None else {"skill shift": f"not tested: {drift.note}"}),
    }
    of = _matched(kinds(ready, seed=seed), ready, replay.table)
    told.stage(3)
    known = priced(replay.table.cost)
    plane = None if known is None else frontier(replay, seed=seed, resamples=rough)
    whole = known is not None and bool(known.all())
    alone = plane.singles if plane is not None and whole else singles(replay, seed=seed, resamples=rough)
    told.stage(4)
    judged = calibration(replay, of.of, resamples=rough, seed=seed)
    told.stage(5)
    found = figures(replay, of, folds=count, worthwhile=worthwhile, resamples=fine, seed=seed)
    told.stage(6)
    return _diagnosis(part, evaluation, plane, alone, judged, found, of, drift, worthwhile, settings, own=router is not None)


def _check_tasks(options: Options | None, table: OutcomeTable) -> None:
    if not isinstance(options, Mapping):
        return
    tasks = sorted({query.task for query in table.queries if query.task})
    if not set(options) & set(tasks):
        there = f"the log has {', '.join(map(repr, tasks[:20]))}" if tasks else "the log names no task"
        raise ConfigError(f"options name {', '.join(map(repr, sorted(options)))}, none of which is a task of the log: {there}")


def _drawings(queries: int) -> tuple[int, int]:
    """Folds of one drawing, and drawings: few queries are worth several, and large logs do not need them."""
    return next(((count, laps) for below, count, laps in _DRAWINGS if queries < below), (3, 1))


def _best_single(table: OutcomeTable) -> str:
    """The model of the highest mean quality; of equals the cheaper. Rows of one query count once together."""
    of = groups(table)
    mass = 1.0 / np.bincount(of)[of]
    quality = np.average(table.quality, axis=0, weights=mass)
    known = np.isfinite(table.cost)
    bill = np.where(known, table.cost, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    price = np.where(known.any(axis=0), bill, np.finfo(np.float64).max)
    return table.models[int(np.where(quality >= quality.max() - 1e-9, price, np.inf).argmin())]


def _matched(of: Kinds, table: OutcomeTable, replayed: OutcomeTable) -> Kinds:
    """The kinds of replayed rows, which hold the table's queries several times."""
    place = {query.key(): kind for query, kind in zip(table.queries, of.of.tolist(), strict=True)}
    return replace(of, of=np.array([place[query.key()] for query in replayed.queries], np.int64))


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


def _diagnosis(
    part: Comparable,
    evaluation: Evaluation,
    plane: Frontier | None,
    alone: Sequence[Single],
    judged: tuple[ModelCalibration, ...],
    found: Figures,
    of: Kinds,
    drift: Drift,
    worthwhile: float,
    settings: Mapping[str, str],
    *,
    own: bool,
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
        thrift=None if found.thrift is None else found.thrift.point,
        peer=found.peer,
        dear=found.dear,
        dependence=found.dependence,
        predictable=any(predictable(one.auroc_within) for one in judged),
        cascade=cascade,
        vote=max(found.votes, key=lambda vote: vote.gain.value, default=None),
    )
    verdict = decide(evidence)
    more = wanted(evidence, verdict)
    enough = alike(found.over_lookup, worthwhile)
    if verdict == "route" and not evidence.gains and found.thrift is not None:
        enough = found.thrift.table_does(worthwhile)
    spoken = evidence
    if evidence.thrift is not None and plane is not None:
        # The verdict rests on rates that each fold chose on the others; a person sets one, whose figures the curve has.
        paid = evidence.thrift.cost.value
        spoken = replace(evidence, thrift=min(plane.points, key=lambda point: abs(point.cost.value - paid)))
    told = Told(
        verdict=verdict,
        evidence=spoken,
        evaluation=evaluation,
        figures=found,
        singles=tuple(sorted(alone, key=lambda one: -one.quality.value)),
        calibration=judged,
        drift=drift,
        own=own,
        lookup_by=of.by,
        kinds=len(set(of.of.tolist())),
        lookup_is_enough=models > 1 and len(set(of.of.tolist())) > 1 and enough,
        luck_floor=evaluation["luck floor"].quality.value if "luck floor" in evaluation else None,
        guessable=_guessable(part, evaluation),
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
        lookup_by=of.by,
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
        recommended=spoken.thrift if told.verdict == "route" and not evidence.gains else None,
    )


def _guessable(part: Comparable, evaluation: Evaluation) -> float:
    """Mean quality of the oracle on the questions whose options are known, which the floor of luck is of; NaN of none."""
    known = {query.key() for query, count in zip(part.table.queries, part.options.tolist(), strict=True) if count > 0}
    replay = evaluation.replay
    if replay is None or not known:
        return math.nan
    here = np.array([query.key() in known for query in replay.table.queries])
    mass = 1.0 / np.bincount(replay.groups)[replay.groups[here]]
    return float(np.average(replay.table.quality[here].max(axis=1), weights=mass))


def _with_lookup(evaluation: Evaluation, row: Row) -> Evaluation:
    """The evaluation with the table that the lookup stands for among its baselines, if it is not there already."""
    if row.name in evaluation:
        return evaluation
    place = sum(1 for one in evaluation.rows if one.kind == "baseline")
    return replace(evaluation, rows=(*evaluation.rows[:place], row, *evaluation.rows[place:]))
