"""Replays decisions on outcomes that they were not learned from, with baselines and bounds beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError
from agentroute.evaluation._baselines import BASELINES, Arena, Options, Unavailable, luck, option_counts, oracle, stable
from agentroute.evaluation._contenders import Chooser, Contender, Played, asked, contender
from agentroute.evaluation._intervals import bootstrap, means
from agentroute.evaluation._results import Evaluation, FoldResult, Replay, Row
from agentroute.evaluation._splits import ByModel, Fold, Split
from agentroute.evaluation.metrics import realised
from agentroute.outcomes import OutcomeTable
from agentroute.policies import Policy
from agentroute.router import Router
from agentroute.types import Estimate

__all__ = ["ALL_BASELINES", "Progress", "evaluate"]

Floats: TypeAlias = npt.NDArray[np.float64]
Progress: TypeAlias = Callable[[str, float], None]
"""What is being done, and the share that is done, in [0, 1]."""

Kind: TypeAlias = Literal["baseline", "routed", "bound"]

STRONGEST = "strongest"
BOUNDS = ("oracle", "stable oracle", "luck floor")
ALL_BASELINES = ("random", "cheapest", "strongest", "best single", "task lookup", "plain kNN", "logistic", "MLP")
_FOLD_RESAMPLES = 400
"""Of one fold's intervals: there may be sixty folds."""


def evaluate(
    chooser: Router | Policy | Chooser,
    table: OutcomeTable,
    *,
    split: Split | None = None,
    policies: Mapping[str, Policy] | None = None,
    reference: OutcomeTable | None = None,
    baselines: Iterable[str] = ALL_BASELINES,
    options: Options | None = None,
    seed: int = 0,
    resamples: int = 2000,
    progress: Progress | None = None,
) -> Evaluation:
    """Says what a way to choose models would have scored, cost and taken on outcomes that it has not seen.

    Only queries that every model has answered are judged: on any other, one way of choosing would be judged by other queries
    than the next.

    Rows: the baselines `random`, `cheapest`, `best single` (chosen on the training part), `strongest` (the best single model
    with hindsight), `task lookup` (a table from task to model), `plain kNN` (k = 5, no shrinkage), `logistic` and `MLP` (extra
    `sklearn`); then what is judged, `routed` or the names of the policies; then the bounds `oracle` (the best observed answer
    of each query, the cheaper one on a tie: it also picks lucky answers), `stable oracle` (some model is right in 80 % of five
    samples or more) and `luck floor` (what as many guessers would hit), as far as they can be known. What cannot be known is
    in `notes`.

    Args:
        chooser: A router; or a policy, over the default router of all the table's models; or a function from queries to model
            ids.
        table: Without a split the held-out outcomes, which the router must not have been fitted on. With a split all outcomes.
        split: How to part the table. The router's settings are learned anew on each training part; the router itself stays as
            it is.
        policies: Policies to compare by name; `None` = the router's own, as `"routed"`.
        reference: Without a split: the training part, on which baselines are chosen and learned; `None` = they are chosen on
            `table` itself, which favours the best single model, and those that learn are left out.
        baselines: The names of those wanted.
        options: Answers to choose from in multiple-choice questions: one number, by task, or float64 [n]; for the luck floor.
        seed: Of the bootstrap.
        resamples: Of the bootstrap. Intervals are over queries: they do not know that another training part would have given
            another router.
        progress: Told of each fold.

    Raises:
        DataError: No query has been answered by every model, or the reference holds no scores.
        ConfigError: A policy bears a baseline's name, or the arguments do not go together.
    """
    wanted = tuple(baselines)
    _check_names(wanted, policies)
    judged = contender(chooser, table, policies)
    if isinstance(split, ByModel) and not judged.grows:
        raise ConfigError("leaving one model out needs a router with one policy: others cannot take in a new model")
    if split is not None and reference is not None:
        raise ConfigError("give a split or a reference, not both: with a split, the training parts are the reference")
    counts = dict(zip((query.key() for query in table.queries), option_counts(options, table).tolist(), strict=True))
    prepared = judged.prepare(table)
    if split is None:
        learned = None if reference is None else judged.prepare(reference)
        folds = [Fold(name="held out", train=learned, test=prepared)]
    else:
        folds = list(split.folds(prepared))
    trials, notes = [], _Notes()
    for number, fold in enumerate(folds):
        if progress is not None:
            progress(fold.name, number / (len(folds) + 1))
        complete = np.flatnonzero(np.isfinite(fold.test.quality).all(axis=1))
        if len(complete):
            trials.append(_trial(judged, fold, fold.test.take(complete), wanted, notes, learn=split is not None))
    if not trials:
        raise DataError(
            "the table holds no query that every model of the pool has answered, so that nothing can be compared: ask all models "
            "the same questions (agentroute collect)"
        )
    if progress is not None:
        progress("intervals", len(folds) / (len(folds) + 1))
    held = len({query.key() for fold in folds for query in fold.test.queries})
    return _evaluation(trials, held, wanted, counts, notes, seed=seed, resamples=resamples)


def _check_names(wanted: Sequence[str], policies: Mapping[str, Policy] | None) -> None:
    known = (*BASELINES, STRONGEST)
    for name in wanted:
        if name not in known:
            raise ConfigError(f"there is no baseline {name!r}: choose from {', '.join(known)}")
    for name in policies or ():
        if name in {*known, *BOUNDS}:
            raise ConfigError(f"a policy cannot be called {name!r}: that is a baseline's name")


class _Notes(dict[str, None]):
    """Sentences without repetition, in order of first appearance."""

    def add(self, text: str) -> None:
        self[text] = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Trial:
    """What every way chose on one fold."""

    fold: Fold
    test: OutcomeTable
    shares: Mapping[str, Floats]
    played: Played
    best: int
    cheapest: int


def _trial(judged: Contender, fold: Fold, test: OutcomeTable, wanted: Sequence[str], notes: _Notes, *, learn: bool) -> _Trial:
    chosen_on = test if fold.train is None else fold.train
    if not np.isfinite(chosen_on.quality).any():
        raise DataError("the reference table holds no quality of any model of the pool: give the training part of the log")
    arena = Arena(
        train=fold.train,
        test=test,
        queries=asked(test),
        means=_column_means(chosen_on.quality),
        costs=_column_means(chosen_on.cost),
    )
    played = judged.play(fold, test, learn=learn)
    shares = {}
    for name in wanted:
        if name != STRONGEST:
            try:
                shares[name] = BASELINES[name](arena)
            except Unavailable as reason:
                notes.add(f"without {name}: {reason}")
    return _Trial(
        fold=fold, test=test, shares={**shares, **played.shares}, played=played, best=arena.best, cheapest=arena.cheapest
    )


def _column_means(values: Floats) -> Floats:
    seen = np.isfinite(values)
    count = seen.sum(axis=0)
    total = np.where(seen, values, 0.0).sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0), np.float64)


def _evaluation(
    trials: Sequence[_Trial],
    held: int,
    wanted: Sequence[str],
    counts: Mapping[str, float],
    notes: _Notes,
    *,
    seed: int,
    resamples: int,
) -> Evaluation:
    table = _stacked([trial.test for trial in trials])
    sizes = [len(trial.test) for trial in trials]
    fold = np.repeat(np.arange(len(trials)), sizes)
    best = np.repeat([trial.best for trial in trials], sizes)
    places: dict[str, int] = {}
    groups = np.array([places.setdefault(query.key(), len(places)) for query in table.queries])
    # A baseline that is missing in one fold (a task without labels) is missing in all: every row speaks of the same queries.
    names = [name for name in trials[0].shares if all(name in trial.shares for trial in trials)]
    shares = {name: np.concatenate([trial.shares[name] for trial in trials]) for name in names}
    if STRONGEST in wanted:
        shares[STRONGEST] = np.eye(len(table.models))[np.full(len(table), int(table.quality.mean(axis=0).argmax()))]
    routed = trials[0].played.shares
    order = [*(name for name in wanted if name in shares), *(name for name in routed if name in shares)]
    shares = {name: shares[name] for name in order}
    kinds: dict[str, Kind] = {name: "routed" if name in routed else "baseline" for name in order}
    shares["oracle"], kinds["oracle"] = np.eye(len(table.models))[oracle(table.quality, table.cost)], "bound"
    bounds = {
        "stable oracle": stable(table),
        "luck floor": luck(np.array([counts[q.key()] for q in table.queries]), len(table.models)),
    }
    replay = Replay(
        table=table,
        shares=shares,
        best_single=best,
        cheapest=np.repeat([trial.cheapest for trial in trials], sizes),
        groups=groups,
        fold=fold,
        estimate=_joined([trial.played.estimate for trial in trials]),
        fallback=np.repeat([trial.played.fallback for trial in trials], sizes),
    )
    known = {name: values for name, values in bounds.items() if np.isfinite(values).any()}
    return Evaluation(
        rows=_rows(replay, kinds, known, seed=seed, resamples=resamples),
        queries=len(places),
        coverage=len(places) / held,
        cheapest=_most([table.models[trial.cheapest] for trial in trials]),
        best_single=_most([table.models[trial.best] for trial in trials]),
        folds=tuple(_fold_result(replay, number, trial, seed) for number, trial in enumerate(trials)),
        notes=tuple(notes),
        replay=replay,
    )


def _rows(
    replay: Replay,
    kinds: Mapping[str, Kind],
    bounds: Mapping[str, Floats],
    *,
    seed: int,
    resamples: int,
) -> tuple[Row, ...]:
    """One bootstrap for all figures of all rows, so that every difference is paired."""
    n = len(replay.table)
    names = [*replay.shares, *bounds]
    unknown = [np.full(n, np.nan)] * len(bounds)
    parts = {
        part: np.stack([*(realised(getattr(replay.table, part), chosen) for chosen in replay.shares.values()), *unknown], axis=1)
        for part in ("quality", "cost", "latency")
    }
    for place, values in enumerate(bounds.values(), len(replay.shares)):
        parts["quality"][:, place] = values
    single = replay.table.quality[np.arange(n), replay.best_single]
    gain = parts["quality"] - single[:, None]
    best = parts["quality"][:, names.index("oracle")] - single
    width = len(names)
    total = means(np.concatenate([*parts.values(), gain, best[:, None]], axis=1))

    def statistic(weights: Floats) -> Floats:
        found = total(weights)
        gains, way = found[:, 3 * width : 4 * width], found[:, 4 * width :]
        # As metrics.gap_recovered, of all rows at once.
        return np.concatenate(
            [found[:, : 4 * width], np.divide(gains, way, out=np.full(gains.shape, np.nan), where=way > 0)], axis=1
        )

    drawn = bootstrap(statistic, n, resamples=resamples, seed=seed, groups=replay.groups)
    figures = [drawn[start * width : (start + 1) * width] for start in range(5)]
    models = replay.table.models
    return tuple(
        Row(
            name=name,
            kind=kinds.get(name, "bound"),
            quality=figures[0][place],
            cost=figures[1][place],
            latency=figures[2][place],
            gain=figures[3][place],
            gap=figures[4][place],
            shares=_mix(replay.shares[name], models) if name in replay.shares else {},
        )
        for place, name in enumerate(names)
    )


def _mix(shares: Floats, models: Sequence[str]) -> dict[str, float]:
    return {model: share for model, share in zip(models, shares.mean(axis=0).tolist(), strict=True) if share > 0}


def _fold_result(replay: Replay, number: int, trial: _Trial, seed: int) -> FoldResult:
    rows = np.flatnonzero(replay.fold == number)
    quality = replay.table.quality[rows]
    gains = np.stack([realised(quality, chosen[rows]) for chosen in replay.shares.values()], axis=1) - quality[:, [trial.best]]
    found = bootstrap(means(gains), len(rows), resamples=_FOLD_RESAMPLES, seed=seed)
    return FoldResult(
        name=trial.fold.name,
        queries=len(rows),
        best_single=trial.test.models[trial.best],
        gains=dict(zip(replay.shares, found, strict=True)),
    )


def _most(names: Sequence[str]) -> str:
    return Counter(names).most_common(1)[0][0]


def _stacked(tables: Sequence[OutcomeTable]) -> OutcomeTable:
    first = tables[0]
    if len(tables) == 1:
        return first
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(table, name) for table in tables])
        for name in ("quality", "cost", "latency", "samples", "at", "withheld")
    }
    vectors = None if first.embeddings is None else np.concatenate([cast("Floats", table.embeddings) for table in tables])
    queries = tuple(query for table in tables for query in table.queries)
    return replace(first, queries=queries, embeddings=vectors, **joined)


def _joined(estimates: Sequence[Estimate | None]) -> Estimate | None:
    found = [one for one in estimates if one is not None]
    if len(found) < len(estimates):
        return None
    arrays: dict[str, Any] = {
        field.name: np.concatenate([getattr(one, field.name) for one in found])
        for field in fields(Estimate)
        if field.name not in {"models", "neighbours"}
    }
    return Estimate(models=found[0].models, neighbours=None, **arrays)
