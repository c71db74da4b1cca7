"""Replays decisions on outcomes that they were not learned from, with baselines and bounds beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError, UnknownModelError
from agentroute.evaluation._baselines import BASELINES, Arena, Options, Unavailable, luck, option_counts, oracle, stable, standing
from agentroute.evaluation._contenders import Chooser, Contender, Played, asked, contender
from agentroute.evaluation._intervals import bootstrap, means, once
from agentroute.evaluation._results import Evaluation, FoldResult, Replay, Row
from agentroute.evaluation._splits import ByModel, Fold, Split
from agentroute.evaluation._stack import joined, stacked
from agentroute.evaluation.metrics import realised
from agentroute.outcomes import OutcomeTable
from agentroute.policies import Policy
from agentroute.router import Router

__all__ = ["ALL_BASELINES", "Progress", "evaluate"]

Floats: TypeAlias = npt.NDArray[np.float64]
Progress: TypeAlias = Callable[[str, float], None]
"""What is being done, and the share that is done, in [0, 1]."""

Kind: TypeAlias = Literal["baseline", "routed", "bound"]

STRONGEST = "strongest"
_NO_WAY = 1e-12
BOUNDS = ("oracle", "stable oracle", "luck floor")
ALL_BASELINES = ("random", "cheapest", "best single", "task lookup", "plain kNN", "logistic", "MLP", "strongest")
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
    single: str | None = None,
    options: Options | None = None,
    max_queries: int = 200_000,
    seed: int = 0,
    resamples: int = 2000,
    progress: Progress | None = None,
) -> Evaluation:
    """Says what a way to choose models would have scored, cost and taken on outcomes that it has not seen.

    Only queries that every model has answered are judged: on any other, one way of choosing would be judged by other queries
    than the next.

    Rows: the baselines `random`, `cheapest`, `best single` (chosen on the training part), `task lookup` (a table from task to
    model), `plain kNN` (k = 5, no shrinkage), `logistic` and `MLP` (extra `sklearn`); then what is judged, `routed` or the names
    of the policies; then the bounds `strongest` (the best single model with hindsight; its interval does not know that it was
    picked), `oracle` (the best observed answer of each query, the cheaper one on a tie: it also picks lucky answers), `stable
    oracle` (some model is right in 80 % of five samples or more) and `luck floor` (what as many guessers would hit), as far as
    they can be known. What cannot be known is in `notes`.

    Args:
        chooser: A router; or a policy, over the default router of all the table's models; or a function from queries to model
            ids. Without a split, what is not fitted is fitted on `reference`.
        table: Without a split the held-out outcomes, which the router must not have been fitted on. With a split all outcomes.
        split: How to part the table. The router's settings are learned anew on each training part; the router itself stays as
            it is.
        policies: Policies to compare by name; `None` = the router's own, as `"routed"`.
        reference: Without a split: the training part, on which baselines are chosen and learned; `None` = they are chosen on
            `table` itself, which favours the best single model, and those that learn are left out.
        baselines: The names of those wanted.
        single: The model that gains are counted from, and the row `best single`; `None` = each training part chooses its own,
            so that of nearly equal models the row is a mixture.
        options: Answers to choose from in multiple-choice questions: one number, by task, or float64 [n]; for the luck floor.
        max_queries: Of more held-out queries, so many are drawn: it is what memory and time are bounded by on logs of millions.
        seed: Of the bootstrap, and of that draw.
        resamples: Of the bootstrap. Intervals are over queries: they do not know that another training part would have given
            another router.
        progress: Told of each fold.

    Raises:
        DataError: No query has been answered by every model, or the reference holds no scores.
        NotFittedError: The router is not fitted, and there is neither a split nor a reference.
        ConfigError: A policy bears a baseline's name, or the arguments do not go together.
    """
    if not isinstance(table, OutcomeTable):
        msg = f"{table!r} is no OutcomeTable: read a log with OutcomeTable.from_jsonl(path) or from_log(log)"  # type: ignore[unreachable]  # not every caller has a type checker
        raise ConfigError(msg)
    wanted = _checked(baselines, policies, split, reference)
    judged = contender(chooser, table, policies)
    if isinstance(split, ByModel) and not judged.grows:
        raise ConfigError(
            "leaving one model out needs a router with one policy whose estimator learns in steps: others cannot take in a new "
            "model"
        )
    counts = dict(zip((query.key() for query in table.queries), option_counts(options, table).tolist(), strict=True))
    prepared, notes = judged.prepare(table), _Notes()
    if single is not None and single not in prepared.models:
        raise UnknownModelError(single, prepared.models, where="the table")
    if split is None:
        learned = None if reference is None else judged.prepare(reference)
        judged.ready(learned)
        if learned is not None and learned.fingerprint != prepared.fingerprint:
            learned, prepared = _bare(learned), _bare(prepared)
        folds = [Fold(name="held out", train=learned, test=prepared)]
    else:
        folds = list(split.folds(prepared))
        if not judged.learns:
            notes.add("the function is judged as it is: what it has learned from this table would flatter it")
    trials = []
    for number, fold in enumerate(folds):
        if progress is not None:
            progress(fold.name, number / (len(folds) + 1))
        rows = _complete(fold.test, max(max_queries // len(folds), 1), seed, notes)
        if len(rows):
            trials.append(_trial(judged, fold, fold.test.take(rows), wanted, notes, single=single, learn=split is not None))
    if not trials:
        raise DataError(_incomparable(prepared))
    if progress is not None:
        progress("intervals", len(folds) / (len(folds) + 1))
    held = len({query.key() for fold in folds for query in fold.test.queries})
    return _evaluation(trials, held, wanted, counts, notes, seed=seed, resamples=resamples)


def _complete(test: OutcomeTable, most: int, seed: int, notes: _Notes) -> npt.NDArray[np.int64]:
    """The rows that every model answered, or a sample of them."""
    rows = np.flatnonzero(np.isfinite(test.quality).all(axis=1))
    if len(rows) <= most:
        return rows
    notes.add(f"judged on a sample of {most:,} of {len(rows):,} held-out queries (max_queries)")
    return np.sort(np.random.default_rng(seed).permutation(rows)[:most])


def _bare(table: OutcomeTable) -> OutcomeTable:
    """Without vectors: those of two embedders cannot be compared."""
    return replace(table, embeddings=None, fingerprint=None)


def _incomparable(table: OutcomeTable) -> str:
    unseen = [model for model, column in zip(table.models, table.quality.T, strict=True) if np.isnan(column).all()]
    who = f"no score of {unseen[0]!r}" if unseen else "no query that every model of the pool has answered"
    return f"the table holds {who}, so that nothing can be compared: ask all models the same questions (agentroute collect)"


def _checked(
    baselines: Iterable[str], policies: Mapping[str, Policy] | None, split: Split | None, reference: OutcomeTable | None
) -> tuple[str, ...]:
    """The wanted baselines, when all options go together."""
    if isinstance(baselines, str):
        raise ConfigError(f"baselines={baselines!r}: give a list of names")
    if split is not None and (isinstance(split, type) or not hasattr(split, "folds")):
        msg = f"split={split!r} parts nothing: give ByQuery(), KFold(), ByTask(), ByTime(), ByModel(), or an object like these"
        raise ConfigError(msg)
    if split is not None and reference is not None:
        raise ConfigError("give a split or a reference, not both: with a split, the training parts are the reference")
    if policies is not None and not policies:
        raise ConfigError("policies={}: name at least one, or leave it out for the router's own")
    wanted = tuple(baselines)
    _check_names(wanted, policies)
    return wanted


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


def _trial(
    judged: Contender, fold: Fold, test: OutcomeTable, wanted: Sequence[str], notes: _Notes, *, single: str | None, learn: bool
) -> _Trial:
    train = _probed(fold)
    chosen_on = test if train is None else train
    if not np.isfinite(chosen_on.quality).any():
        raise DataError("the reference table holds no quality of any model of the pool: give the training part of the log")
    means_, costs = standing(chosen_on)
    given = None if single is None else test.models.index(single)
    arena = Arena(train=train, test=test, queries=asked(test), means=means_, costs=costs, single=given)
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


def _probed(fold: Fold) -> OutcomeTable | None:
    """What the baselines may learn from: of a new model nothing but its probes."""
    if fold.train is None or fold.probes is None or fold.newcomer is None:
        return fold.train
    probed = {query.key() for query in fold.probes.queries}
    hidden = np.array([query.key() not in probed for query in fold.train.queries])
    cells = hidden[:, None] & (np.array(fold.train.models) == fold.newcomer)
    parts: dict[str, Any] = {name: np.where(cells, np.nan, getattr(fold.train, name)) for name in ("quality", "cost", "latency")}
    return replace(fold.train, **parts)


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
    table = stacked([trial.test for trial in trials])
    sizes = [len(trial.test) for trial in trials]
    fold = np.repeat(np.arange(len(trials)), sizes)
    best = np.repeat([trial.best for trial in trials], sizes)
    places: dict[str, int] = {}
    groups = np.array([places.setdefault(query.key(), len(places)) for query in table.queries])
    # A baseline that is missing in one fold (a task without labels) is missing in all: every row speaks of the same queries.
    names = [name for name in trials[0].shares if all(name in trial.shares for trial in trials)]
    shares = {name: np.concatenate([trial.shares[name] for trial in trials]) for name in names}
    routed = trials[0].played.shares
    order = [*(name for name in wanted if name in shares), *(name for name in routed if name in shares)]
    shares = {name: shares[name] for name in order}
    kinds: dict[str, Kind] = {name: "routed" if name in routed else "baseline" for name in order}
    if STRONGEST in wanted:
        shares[STRONGEST] = np.eye(len(table.models))[np.full(len(table), int(table.quality.mean(axis=0).argmax()))]
        kinds[STRONGEST] = "bound"
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
        estimate=joined([trial.played.estimate for trial in trials]),
        fallback=np.repeat([trial.played.fallback for trial in trials], sizes),
    )
    known = {name: values for name, values in bounds.items() if np.isfinite(values).any()}
    for name, values in known.items():
        if not np.isfinite(values).all():
            notes.add(
                f"{name}: of {int(np.isfinite(values).sum()):,} of {len(table):,} replayed answers only, those where it is known"
            )
    for part in ("cost", "latency"):
        rows = _alike_rows(getattr(table, part))
        if 0 < rows.sum() < len(table):
            notes.add(
                f"{part} rests on {int(rows.sum()):,} of {len(table):,} replayed queries, those where every model's is known"
            )
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
    parts = {part: _realised(replay, part, len(bounds)) for part in ("quality", "cost", "latency")}
    for place, values in enumerate(bounds.values(), len(replay.shares)):
        parts["quality"][:, place] = values
    single = replay.table.quality[np.arange(n), replay.best_single]
    gain = parts["quality"] - single[:, None]
    best = parts["quality"][:, names.index("oracle")] - single
    width = len(names)
    total = means(np.concatenate([*parts.values(), gain, best[:, None]], axis=1))
    # A bound that is known of some queries only covers no share of a way that is measured on all of them.
    partly = np.isnan(parts["quality"]).any(axis=0)

    def statistic(weights: Floats) -> Floats:
        found = total(weights)
        gains, way = found[:, 3 * width : 4 * width], found[:, 4 * width :]
        # As metrics.gap_recovered, of all rows at once.
        gaps = np.divide(gains, way, out=np.full(gains.shape, np.nan), where=(way > _NO_WAY) & ~partly)
        return np.concatenate([found[:, : 4 * width], gaps], axis=1)

    drawn = bootstrap(once(statistic, replay.groups), n, resamples=resamples, seed=seed, groups=replay.groups)
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


def _alike_rows(values: Floats) -> npt.NDArray[np.bool_]:
    """A mask [n] of the queries of which the cost (or latency) of every model is known that has one at all."""
    known = values[:, np.isfinite(values).any(axis=0)]
    return np.asarray(np.isfinite(known).all(axis=1) & (known.shape[1] > 0), np.bool_)


def _realised(replay: Replay, part: str, bounds: int) -> Floats:
    """float64 [n, ways + bounds], NaN = unknown: every way's figure rests on the same queries, or is unknown altogether."""
    values = getattr(replay.table, part)
    rows = _alike_rows(values)
    columns = []
    for chosen in replay.shares.values():
        # A way that takes a model of unknown cost even once has an unknown mean cost.
        touched = (rows[:, None] & np.isnan(values) & (chosen > 0)).any()
        columns.append(np.where(rows & ~touched, realised(np.nan_to_num(values), chosen), np.nan))
    return np.stack([*columns, *[np.full(len(rows), np.nan)] * bounds], axis=1)


def _mix(shares: Floats, models: Sequence[str]) -> dict[str, float]:
    return {model: share for model, share in zip(models, shares.mean(axis=0).tolist(), strict=True) if share > 0}


def _fold_result(replay: Replay, number: int, trial: _Trial, seed: int) -> FoldResult:
    rows = np.flatnonzero(replay.fold == number)
    quality = replay.table.quality[rows]
    gains = np.stack([realised(quality, chosen[rows]) for chosen in replay.shares.values()], axis=1) - quality[:, [trial.best]]
    groups = replay.groups[rows]
    found = bootstrap(once(means(gains), _numbered(groups)), len(rows), resamples=_FOLD_RESAMPLES, seed=seed, groups=groups)
    return FoldResult(
        name=trial.fold.name,
        learned=0 if trial.fold.train is None else len(trial.fold.train),
        queries=len(rows),
        best_single=trial.test.models[trial.best],
        gains=dict(zip(replay.shares, found, strict=True)),
    )


def _numbered(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.asarray(np.unique(groups, return_inverse=True)[1], np.int64)


def _most(names: Sequence[str]) -> str:
    return Counter(names).most_common(1)[0][0]
