"""What of a table can be diagnosed: the models and queries that can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import DataError
from agentroute.evaluation._diagnosed import Finding
from agentroute.evaluation._laps import joined
from agentroute.evaluation._verdict import ENOUGH
from agentroute.outcomes import OutcomeTable

__all__ = ["FEWEST", "Comparable", "comparable"]

Floats: TypeAlias = npt.NDArray[np.float64]

FEWEST = 10
"""Queries below which nothing can be judged out of fold."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparable:
    """The part of a log that can be diagnosed.

    Attributes:
        table: Complete rows of the models that are compared.
        options: float64 [n], answers to choose from; NaN = an open question.
        findings: What was left out.
        settings: The same for the report's footer.
    """

    table: OutcomeTable
    options: Floats
    findings: tuple[Finding, ...]
    settings: dict[str, str]


def comparable(table: OutcomeTable, options: Floats, *, max_queries: int, seed: int) -> Comparable:
    """Complete rows, of as many models as leave enough of them; a sample where there are too many.

    A model without scores is left out. Where fewer than 100 queries are complete, so are the models with the fewest scores, if
    that doubles them and brings them to 100: a model that joined yesterday is not to hide what the log says of the others.

    Raises:
        DataError: Fewer than 10 queries can be compared.
    """
    observed = np.isfinite(table.quality)
    kept, complete = _models(observed)
    findings: list[Finding] = []
    settings: dict[str, str] = {}
    for j, model in enumerate(table.models):
        if j not in kept:
            count = int(observed[:, j].sum())
            known = "no score" if not count else f"only {count} scores"
            findings.append(Finding(kind="holes", model=model, text=f"{model} has {known} in this log and is left out."))
    different = _different(table, complete)
    if different < FEWEST:
        who = "one model" if len(kept) == 1 else f"all of the {len(kept)} models"
        raise DataError(
            f"{different} of {len(table)} queries have scores of {who}: at least {FEWEST} are needed to say anything, and "
            f"{ENOUGH} for a verdict. Ask all models the same questions (agentroute collect)"
        )
    if len(complete) < len(table):
        text = f"{len(complete)} of {len(table)} queries have scores of all {len(kept)} models; only these are judged."
        findings.append(Finding(kind="holes", text=text))
    if len(complete) > max_queries:
        complete = np.sort(np.random.default_rng(seed).permutation(complete)[:max_queries])
        text = f"A random {max_queries:,} of the queries were judged (max_queries)."
        findings.append(Finding(kind="holes", text=text))
        settings["sampled"] = f"{max_queries:,} queries"
    part, copies = joined(table.take(complete).select([table.models[j] for j in kept]))
    if copies:
        different = _different(part, np.arange(len(part)))
        if different < FEWEST:
            raise DataError(f"the log holds {different} different questions, all others are copies: at least {FEWEST} are needed")
        text = f"{copies:,} of {len(part):,} queries are copies of others: they are kept in one part, and count once together."
        findings.append(Finding(kind="copies", text=text))
    return Comparable(table=part, options=options[complete], findings=tuple(findings), settings=settings)


def _different(table: OutcomeTable, rows: npt.NDArray[np.int64]) -> int:
    """How many queries the rows are of; counting stops when there are enough, for there may be millions of rows."""
    keys: set[str] = set()
    for row in rows.tolist():
        keys.add(table.queries[row].key())
        if len(keys) >= FEWEST:
            break
    return len(keys)


def _models(observed: npt.NDArray[np.bool_]) -> tuple[Sequence[int], npt.NDArray[np.int64]]:
    """The columns that are compared, and the rows that all of them have."""
    counts = observed.sum(axis=0)
    order = [j for j in np.argsort(-counts, kind="stable").tolist() if counts[j]]
    if not order:
        raise DataError("the table holds no score: log the quality of answers, or read the column that has it")
    whole = np.logical_and.accumulate(observed[:, order], axis=1).sum(axis=0)  # [k] complete rows of the k + 1 best known
    enough = [k for k in range(1, len(order)) if whole[k] >= max(ENOUGH, 2 * whole[-1])]
    width = max(enough) + 1 if enough and whole[-1] < ENOUGH else len(order)
    kept = sorted(order[:width])
    return kept, np.flatnonzero(observed[:, kept].all(axis=1))
