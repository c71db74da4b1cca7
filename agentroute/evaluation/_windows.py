"""The two windows of a log that are compared for skill shift: by time, or the log and a holdout."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError
from agentroute.evaluation._kinds import clusters, kinds
from agentroute.evaluation._shift import SMALLEST_WINDOW, Drift, Window, skill_shifts, windows_by_time
from agentroute.outcomes import OutcomeTable
from agentroute.router import Router

__all__ = ["compared"]


def compared(
    table: OutcomeTable, holdout: OutcomeTable | None, router: Router, *, seed: int, resamples: int
) -> tuple[Drift, str]:
    """Skill shift, and what the second window is."""
    if holdout is None:
        windows = windows_by_time(table.at)
        if windows is None:
            return Drift(), "none"
        strata = kinds(table, seed=seed).of
        early, late = (Window(quality=table.quality[rows], strata=strata[rows]) for rows in windows)
        return skill_shifts(early, late, table.models, resamples=resamples, seed=seed), "in the last 30 % of the times"
    common = [model for model in table.models if model in holdout.models]
    if not common:
        return Drift(note=f"it has outcomes of {', '.join(holdout.models)} only, and none of the log's models"), "in the holdout"
    complete = np.flatnonzero(np.isfinite(holdout.select(common).quality).all(axis=1))
    if len(complete) < SMALLEST_WINDOW:
        who = f"{len(complete)} of its queries have scores of all models that it shares with the log"
        return Drift(note=f"{who}, and it takes {SMALLEST_WINDOW}"), "in the holdout"
    if _same(holdout.select(common).take(complete), table.select(common)):
        return Drift(note="all its queries are in the log, with the same scores"), "in the holdout"
    fresh = holdout.select(common).take(complete)
    of = _strata(table, fresh, router, seed)
    before = Window(quality=table.select(common).quality, strata=of[: len(table)])
    after = Window(quality=fresh.quality, strata=of[len(table) :])
    return skill_shifts(before, after, common, resamples=resamples, seed=seed), "in the holdout"


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
