"""Whether a cascade would pay on a log: routing, cascading and cascade routing beside random mixes of single models."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.cascades import AnswerTable, CascadeRouter, CascadeRouting, PostHocEstimator
from agentroute.errors import ConfigError, DataError, PriceUnknownError
from agentroute.evaluation import metrics
from agentroute.evaluation._cascade_curves import Part, Played, played
from agentroute.evaluation._cascade_plane import Plane
from agentroute.evaluation._cascade_words import sentence, verdict
from agentroute.evaluation._cascaded import AFTER, BEFORE, CascadeComparison, SignalAuroc
from agentroute.evaluation._frontier import singles
from agentroute.evaluation._intervals import bootstrap, once
from agentroute.evaluation._results import Replay
from agentroute.evaluation._splits import Fold, KFold, Split
from agentroute.evaluation._units import listed
from agentroute.outcomes import OutcomeTable
from agentroute.router import Router

__all__ = ["compare_cascades"]

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

_SIGNAL_RESAMPLES = 400
"""There may be dozens of signals, and AUROC is the slowest metric."""

_FREE = frozenset({"logprob", "length"})
"""Signals that come with the answer itself."""


def compare_cascades(
    answers: AnswerTable,
    *,
    router: Router | None = None,
    split: Split | None = None,
    points: int = 16,
    seed: int = 0,
    resamples: int = 2000,
    progress: Callable[[str, float], None] | None = None,
) -> CascadeComparison:
    """Says whether a cascade would pay on a log, beside routing and beside always one model.

    Each query is judged by what was learned from others: the estimates before and after an answer, and the exchange rates or
    thresholds that keep to each of some budgets. Ways: `routing` calls one model; `cascading` the cheapest first and then others
    in order of cost; `cascade routing` whichever it likes; `threshold cascade` is FrugalGPT's. They share all estimates, so
    that what differs is what they are free to do. `linear interpolation` is the best random mix of single models.

    Cascades pay for scoring each answer that they look at, as `CascadeRouter.replay` does: all but the last possible one, which
    is taken as it is. Routing looks at none.

    Figures are mean heights of the curve of quality over cost between the mean costs of the cheapest and the dearest single
    model; a curve that begins right of the cheapest model begins at that model. Where each query is judged by several splits,
    intervals of differences are √2 as wide as the bootstrap's (see `frontier`).

    A cascade pays only if cascade routing is above routing, and above random mixes, beyond noise. It is not worth it if it is
    less than a point above routing, and surely less than two, or surely below random mixes. Otherwise the log does not tell.

    Args:
        answers: A log that holds all models' answers to the same queries, with something that is known of them: signals, or their
            texts, whose agreement is then known.
        router: Its estimator says what to expect of models before anybody has answered; `None` = the
            default one, of the log's models.
        split: How queries are held out; `None` = five parts by query.
        points: Budgets, at least 4, denser where cheap models are.
        seed: Of the parts, the estimates and the bootstrap.
        resamples: Of the bootstrap.
        progress: Told of each part.

    Raises:
        ConfigError: Nothing is known of the answers, there is one model only, or an option is out of range.
        DataError: No query has quality and cost of every model.
        PriceUnknownError: A model has no known cost.

    Source: Dekoninck et al. 2024, A Unified Approach to Routing and Cascading for LLMs, arXiv:2410.10347, section 5 (the area);
    Chen et al. 2023, FrugalGPT, arXiv:2305.05176.
    """
    _check(answers, points)
    made = Router(answers.models) if router is None else router.clone()
    missing = [model for model in made.pool.ids if model not in answers.models]
    if missing or len(made.pool.ids) < 2:
        raise ConfigError(
            f"the log holds no answer of {', '.join(map(repr, missing))}: leave it out of the pool, or log some"
            if missing
            else "there is one model only: a cascade needs a second one to climb to"
        )
    answers = answers.select(made.pool.ids)
    unpriced = [
        model for model, mean in zip(answers.models, _known_means(answers.table.cost).tolist(), strict=True) if math.isnan(mean)
    ]
    if unpriced:
        raise PriceUnknownError(unpriced)
    # Embedded once, not in each part.
    answers = _embedded(answers, made)
    folds = list((KFold(seed=seed) if split is None else split).folds(_numbered(answers)))
    trials = []
    for number, fold in enumerate(folds):
        if progress is not None:
            progress(fold.name, number / (len(folds) + 1))
        found = _trial(made, answers, fold, points, seed)
        if found is not None:
            trials.append(found)
    if not trials:
        raise DataError(
            "no held-out query has quality and cost of every model, so that nothing can be compared: ask all models the same "
            "questions, and log costs"
        )
    if progress is not None:
        progress("intervals", len(folds) / (len(folds) + 1))
    held = len({query.key() for fold in folds for query in fold.test.queries})
    return _comparison(answers, trials, held, seed=seed, resamples=resamples)


def _check(answers: AnswerTable, points: int) -> None:
    if not isinstance(answers, AnswerTable):
        raise ConfigError("cascades are compared on answers, not on outcomes alone: read the log with AnswerTable.from_jsonl")
    if points < 4:
        raise ConfigError(f"points={points!r} must be 4 or more")
    if not _seen(answers):
        raise ConfigError(
            "nothing is known of the answers, so that a cascade would have nothing to look at: give signals (such as a mean "
            "log-probability, columns of the log), or the answers' texts, by which their agreement is found"
        )


def _seen(answers: AnswerTable) -> bool:
    """Whether anything can be seen of an answer at all."""
    signals = any(np.isfinite(values).any() for values in answers.signals.values())
    others = ~np.eye(len(answers.models), dtype=bool)
    return signals or (answers.agreement is not None and bool(np.isfinite(answers.agreement[:, others]).any()))


def _numbered(answers: AnswerTable) -> OutcomeTable:
    """The table with the numbers of its rows in place of latencies, so that the rows of a part can be told."""
    number = np.arange(len(answers), dtype=np.float64)[:, None]
    return replace(answers.table, latency=np.broadcast_to(number, answers.table.latency.shape))


def _rows(table: OutcomeTable) -> Ints:
    return table.latency[:, 0].astype(np.int64)


def _embedded(answers: AnswerTable, router: Router) -> AnswerTable:
    """The answers with the router's vectors, made once for all parts; without queries that have neither text nor vector."""
    table = router.table(_numbered(answers))
    kept = answers.take(_rows(table))
    return replace(kept, table=replace(table, latency=kept.table.latency))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Trial:
    """One part: judged rows, what each way did on them, and out-of-fold estimates in the columns of the answers."""

    rows: Ints
    budgets: Floats
    ways: Mapping[str, Played]
    before: Floats
    after: Floats
    best: int
    cheapest: int


def _trial(router: Router, answers: AnswerTable, fold: Fold, points: int, seed: int) -> _Trial | None:
    if fold.train is None or fold.newcomer is not None:
        raise ConfigError("a split that holds out a model cannot judge cascades: give KFold(), ByQuery(), ByTask() or ByTime()")
    train, test = answers.take(_rows(fold.train)), answers.take(_rows(fold.test))
    whole = np.isfinite(test.table.quality).all(axis=1) & np.isfinite(test.table.cost).all(axis=1)
    if not whole.any():
        return None
    test = test.take(np.flatnonzero(whole))
    # This policy is not asked: it is there because a cascade has one, and is quick to fit.
    policy = CascadeRouting(samples=64, refine=False)
    cascade = CascadeRouter(router.clone(), policy=policy, posthoc=PostHocEstimator(seed=seed)).fit(train)
    models = cascade.posthoc.models_
    known, states = cascade.posthoc.fitted_states(), cascade.posthoc.states(*cascade.expected(test))
    scored, scoring = cascade.posthoc.score_cost_, np.nan_to_num(_known_means(train.select(models).score_cost))
    parts = [
        Part(
            states=told,
            unscored=replace(told, cost=told.cost - scored),
            quality=side.table.quality,
            cost=side.table.cost,
            score_cost=np.where(np.isnan(side.score_cost), scoring, side.score_cost),
        )
        for told, side in ((known, train.select(models)), (states, test.select(models)))
    ]
    budgets, ways = played(*parts, points=points, seed=seed)
    back = [models.index(model) for model in answers.models]
    every = np.arange(len(test))
    after = np.stack([states.quality(1 << j, every)[:, j] for j in range(len(models))], axis=1)
    return _Trial(
        rows=_rows(fold.test)[whole],
        budgets=budgets,
        ways=ways,
        before=states.quality(0, every)[:, back],
        after=after[:, back],
        best=int(np.nanargmax(_known_means(train.table.quality))),
        cheapest=int(np.nanargmin(_known_means(train.table.cost))),
    )


def _known_means(values: Floats) -> Floats:
    """Column means of what is known; NaN where nothing is."""
    count = np.isfinite(values).sum(axis=0)
    found: Floats = np.divide(np.nansum(values, axis=0), count, out=np.full(values.shape[1], np.nan), where=count > 0)
    return found


def _comparison(answers: AnswerTable, trials: Sequence[_Trial], held: int, *, seed: int, resamples: int) -> CascadeComparison:
    judged = answers.take(np.concatenate([trial.rows for trial in trials]))
    sizes = [len(trial.rows) for trial in trials]
    places: dict[str, int] = {}
    groups = np.array([places.setdefault(query.key(), len(places)) for query in judged.table.queries])
    plane = Plane(judged.table, trials)
    drawn = bootstrap(once(plane.statistic, groups), len(judged), resamples=resamples, seed=seed, groups=groups)
    alone = singles(
        Replay(
            table=judged.table,
            shares={},
            best_single=np.repeat([trial.best for trial in trials], sizes),
            cheapest=np.repeat([trial.cheapest for trial in trials], sizes),
            groups=groups,
            fold=np.repeat(np.arange(len(trials)), sizes),
        ),
        seed=seed,
        resamples=resamples,
    )
    found = CascadeComparison(
        verdict="cannot be told",
        sentence="",
        curves=plane.curves(drawn, 1.0 / np.bincount(groups)[groups]),
        singles=alone,
        best_single=judged.models[Counter(trial.best for trial in trials).most_common(1)[0][0]],
        signals=_signals(judged, trials, groups, seed),
        queries=len(places),
        coverage=len(places) / held,
        notes=_notes(judged, len(places), held),
    )
    found = replace(found, verdict=verdict(found))
    return replace(found, sentence=sentence(found))


def _signals(judged: AnswerTable, trials: Sequence[_Trial], groups: Ints, seed: int) -> tuple[SignalAuroc, ...]:
    known: dict[str, Floats] = {
        **judged.signals,
        BEFORE: np.concatenate([trial.before for trial in trials]),
        AFTER: np.concatenate([trial.after for trial in trials]),
    }
    observed = judged.table.quality
    values = np.concatenate(list(known.values()), axis=1)
    scores = np.tile(observed, len(known))

    def statistic(weights: Floats) -> Floats:
        return np.asarray(metrics.auroc(values, scores, weights=weights))

    drawn = bootstrap(once(statistic, groups), len(judged), resamples=_SIGNAL_RESAMPLES, seed=seed, groups=groups)
    names = [(signal, model) for signal in known for model in judged.models]
    share = np.isfinite(values).mean(axis=0).tolist()
    found = (
        SignalAuroc(signal=signal, model=model, auroc=one, known=part)
        for (signal, model), one, part in zip(names, drawn, share, strict=True)
    )
    return tuple(one for one in found if one.known > 0.0)


def _notes(judged: AnswerTable, queries: int, held: int) -> tuple[str, ...]:
    notes = []
    if queries < held:
        notes.append(
            f"judged on {queries:,} of {held:,} held-out queries, those whose quality and cost are known for every model"
        )
    if judged.agreement is None:
        notes.append("answers were not compared: the log has no texts of answers, so that agreement of models is not known")
    bought = [name for name in judged.signals if name not in _FREE]
    if bought and not judged.score_cost.any():
        notes.append(f"looking counts as free: it is not known what it cost to measure {listed(bought)}")
    return tuple(notes)
