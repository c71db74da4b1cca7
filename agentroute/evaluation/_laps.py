"""How a diagnosis parts a log: folds drawn several times over, and copies of a question kept together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.evaluation._splits import Fold, KFold
from agentroute.outcomes import OutcomeTable

__all__ = ["Laps", "groups", "joined", "means_of", "parts"]

Floats: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Laps:
    """`KFold`, several times with other parts: what a verdict says should not hang on how the parts were drawn.

    Attributes:
        count: Parts of one drawing.
        laps: How many drawings; every query is judged once in each.
        seed: Of the first one.
    """

    count: int
    laps: int
    seed: int = 0

    def folds(self, table: OutcomeTable, /) -> Iterator[Fold]:
        """See `Split`."""
        for lap in range(self.laps):
            # Apart from the next seeds, which would draw some of the same parts.
            for fold in KFold(count=self.count, seed=self.seed + 1_000_003 * lap).folds(table):
                yield fold if self.laps == 1 else replace(fold, name=f"drawing {lap + 1}, {fold.name}")


def parts(fold: Rows, count: int | None = None) -> Iterator[tuple[Rows, Rows]]:
    """The rows that each fold is judged by, and those that it learns from: the other folds of its drawing.

    Args:
        fold: int64 [n].
        count: Folds of one drawing, which are numbered one after the other; `None` = there is one drawing.
    """
    lap = np.zeros(len(fold), np.int64) if count is None else fold // count
    for part in np.unique(fold):
        here = np.flatnonzero(fold == part)
        yield here, np.flatnonzero((fold != part) & (lap == lap[here[0]]))


def joined(table: OutcomeTable) -> tuple[OutcomeTable, int]:
    """The table with one id for all questions of equal text (but for case and spaces), and how many were copies of another.

    Learned from and judged by under two ids, a question would be foreseen by its own answers.
    """
    first: dict[str, str] = {}
    queries, copies = [], 0
    for query in table.queries:
        # Turns of agents say "continue" in other roles and contexts: only with the same labels is it the same question.
        text, key = "\0".join((" ".join(query.text.split()).casefold(), *query.labels)).strip("\0"), query.key()
        known = first.setdefault(text, key) if text else key
        if known != key:
            copies += 1
            queries.append(replace(query, id=known))
        else:
            queries.append(query)
    return (replace(table, queries=tuple(queries)) if copies else table), copies


def groups(table: OutcomeTable) -> Rows:
    """int64 [n]: a number for each different query."""
    places: dict[str, int] = {}
    return np.array([places.setdefault(query.key(), len(places)) for query in table.queries], np.int64)


def means_of(values: Floats, of: Rows) -> Floats:
    """float64 [n, c]: for each row the mean of the rows of its number, column by column.

    Args:
        values: float64 [n, c].
        of: int64 [n], from 0.
    """
    totals = np.stack([np.bincount(of, weights=column) for column in values.T], axis=1)
    return np.asarray((totals / np.maximum(np.bincount(of), 1)[:, None])[of])
