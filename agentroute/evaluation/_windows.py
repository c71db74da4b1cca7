"""The two windows of a log that are compared for skill shift: by time, or the log and a holdout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError
from agentroute.evaluation._kinds import labelled
from agentroute.evaluation._laps import groups, joined, means_of
from agentroute.evaluation._questions import finer
from agentroute.evaluation._shift import SMALLEST_WINDOW, Drift, Window, skill_shifts, windows_by_time
from agentroute.outcomes import OutcomeTable
from agentroute.router import Router
from agentroute.types import Query, Vectors

__all__ = ["HOLDOUT", "NONE", "compared"]

Floats: TypeAlias = npt.NDArray[np.float64]

HOLDOUT, LATER, NONE = "in the holdout", "in the last 30 % of the times", "none"


def compared(
    table: OutcomeTable, holdout: OutcomeTable | None, router: Router, *, seed: int, resamples: int
) -> tuple[Drift, str]:
    """Skill shift, and what the second window is.

    Args:
        table: Complete rows, with vectors.
        holdout: Any table; `None` = the log's own last times, if it has them.
        router: Makes the vectors of the holdout, if it can.
        seed: Of everything random.
        resamples: Of the intervals.
    """
    if holdout is None:
        windows = windows_by_time(table.at)
        if windows is None:
            return Drift(), NONE
        part = table.take(np.concatenate(windows))
        late = np.arange(len(part)) >= len(windows[0])
        pair = _windows(part.queries, part.quality, part.embeddings, late, seed)
        return skill_shifts(*pair, table.models, resamples=resamples, seed=seed), LATER
    common = [model for model in table.models if model in holdout.models]
    if not common:
        return Drift(note=f"it has outcomes of {', '.join(holdout.models)} only, and none of the log's models"), HOLDOUT
    fresh = holdout.select(common)
    fresh = fresh.take(np.flatnonzero(np.isfinite(fresh.quality).all(axis=1)))
    if len(fresh) < SMALLEST_WINDOW:
        who = f"{len(fresh)} of its queries have scores of all models that it shares with the log"
        return Drift(note=f"{who}, and it takes {SMALLEST_WINDOW}"), HOLDOUT
    known = table.select(common)
    if _same(fresh, known):
        return Drift(note="all its queries are in the log, with the same scores"), HOLDOUT
    if len(common) == 1:
        was, now = known.quality.mean(), fresh.quality.mean()
        moved = f"{common[0]} has a mean quality of {was:.3f} in the log and {now:.3f} in the holdout"
        why = f"it shares no other model with the log, so that a change cannot be told from harder or easier questions ({moved})"
        return Drift(note=why), HOLDOUT
    vectors = _vectors(table, fresh, router)
    late = np.arange(len(table) + len(fresh)) >= len(table)
    quality = np.concatenate([known.quality, fresh.quality])
    pair = _windows((*table.queries, *fresh.queries), quality, vectors, late, seed)
    return skill_shifts(*pair, common, resamples=resamples, seed=seed), HOLDOUT


def _windows(
    queries: Sequence[Query], quality: Floats, vectors: Vectors | None, late: npt.NDArray[np.bool_], seed: int
) -> tuple[Window, Window]:
    """Both windows, each with one row for each different question."""
    table = OutcomeTable(queries=tuple(queries), models=("any",), quality=np.full((len(queries), 1), np.nan))
    asked = groups(joined(table)[0])
    _, first, of = np.unique(2 * asked + late, return_index=True, return_inverse=True)
    rows = np.sort(first)
    quality, asked, late = means_of(quality, of)[rows], asked[rows], late[rows]
    kinds = labelled([queries[row] for row in rows.tolist()])
    strata = np.zeros(len(rows), np.int64) if kinds is None else kinds.of
    if vectors is not None:
        vectors = vectors[rows]
        strata = finer(strata, late, vectors, seed=seed)
    whole = Window(quality=quality, strata=strata, groups=asked, vectors=vectors)
    return _part(whole, ~late), _part(whole, late)


def _part(whole: Window, rows: npt.NDArray[np.bool_]) -> Window:
    return replace(
        whole,
        quality=whole.quality[rows],
        strata=whole.strata[rows],
        groups=None if whole.groups is None else whole.groups[rows],
        vectors=None if whole.vectors is None else whole.vectors[rows],
    )


def _vectors(table: OutcomeTable, fresh: OutcomeTable, router: Router) -> Vectors | None:
    """float32 [n, d] of the queries of both; `None` where those of the holdout cannot be had."""
    try:
        embedded = router.table(fresh)
    except ConfigError:  # vectors of another embedder, and no way to make them anew
        return None
    if table.embeddings is None or embedded.embeddings is None or len(embedded) < len(fresh):
        return None
    return np.concatenate([table.embeddings, embedded.embeddings])


def _same(fresh: OutcomeTable, table: OutcomeTable) -> bool:
    """Whether the holdout is a part of the log: by id or text, with equal scores."""
    known: dict[str, set[tuple[float, ...]]] = {}
    for query, scores in zip(table.queries, table.quality.tolist(), strict=True):
        for key in {query.key(), query.text} - {""}:
            known.setdefault(key, set()).add(tuple(scores))
    return all(
        any(tuple(scores) in known.get(key, ()) for key in (query.key(), query.text))
        for query, scores in zip(fresh.queries, fresh.quality.tolist(), strict=True)
    )
