"""The prior of a query: each model's mean, moved by what its labels (task, role, tags) are known to do.

A label is worth about as much as the embedding where labels are fine enough, so that it enters on its own: the mean of every
column is corrected by one additive effect per label, each shrunken toward zero by pseudo-counts. This is ridge regression on
the one-hot labels, solved by block Gauss-Seidel over the factors; with one factor it is the table of shrunken label means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

__all__ = ["LabelPrior"]

_SWEEPS = 8
Floats = npt.NDArray[np.float64]


def factor(label: str) -> str:
    """`task=code` belongs to the factor `task`, `tag:region=eu` to `tag:region`."""
    return label.split("=", 1)[0]


class LabelPrior:
    """Column means and additive label effects.

    Attributes:
        mean: float64 [c], mean of each column's observed values; NaN = never observed.
        effects: float64 [labels + 1, c]; the last row is zero and stands for an unknown label.
    """

    def __init__(self, mean: Floats, labels: dict[str, int], effects: Floats) -> None:
        self.mean = mean
        self.labels = labels
        self.effects = effects
        self._cache: dict[tuple[str, ...], tuple[Floats, bool]] = {}

    @classmethod
    def fit(cls, values: Floats, labels: Sequence[tuple[str, ...]], *, pseudo_counts: float) -> Self:
        """Learns means and effects.

        Args:
            values: float64 [n, c], NaN = not observed.
            labels: For each row its labels, at most one per factor.
            pseudo_counts: How many rows at the mean each effect is shrunken by; infinity = no effects.
        """
        observed = np.isfinite(values)
        counts = observed.sum(axis=0)
        with np.errstate(invalid="ignore"):
            mean = np.where(observed, values, 0.0).sum(axis=0) / np.where(counts, counts, np.nan)
        known: dict[str, int] = {}
        for row in labels if np.isfinite(pseudo_counts) else ():
            for label in row:
                known.setdefault(label, len(known))
        effects = np.zeros((len(known) + 1, values.shape[1]))
        if not known:
            return cls(mean, known, effects)
        members = _members(labels, known)
        residual = np.where(observed, values - mean, 0.0)
        for _ in range(_SWEEPS if len(members) > 1 else 1):
            for column in members:
                old = effects[column]
                residual += np.where(observed, old, 0.0)
                total = np.zeros_like(effects)
                seen = np.zeros_like(effects)
                np.add.at(total, column, residual)
                np.add.at(seen, column, observed)
                here = np.unique(column[column < len(known)])
                count = seen[here] + pseudo_counts
                effects[here] = np.divide(total[here], count, out=np.zeros_like(count), where=count > 0)
                residual -= np.where(observed, effects[column], 0.0)
        return cls(mean, known, effects)

    def of(self, labels: tuple[str, ...]) -> tuple[Floats, bool]:
        """float64 [c]: the prior of a query with these labels, and whether any of them is known."""
        found = self._cache.get(labels)
        if found is None:
            rows = [self.labels[label] for label in labels if label in self.labels]
            found = (self.mean + self.effects[rows].sum(axis=0) if rows else self.mean, bool(rows))
            if len(self._cache) < 4096:  # labels come from callers: a hostile tag must not grow the cache without end
                self._cache[labels] = found
        return found


def _members(labels: Sequence[tuple[str, ...]], known: dict[str, int]) -> list[npt.NDArray[np.int64]]:
    """For each factor the label index of every row; `len(known)` where a row has none of that factor."""
    factors: dict[str, npt.NDArray[np.int64]] = {}
    for row, found in enumerate(labels):
        for label in found:
            column = factors.get(factor(label))
            if column is None:
                column = factors[factor(label)] = np.full(len(labels), len(known), np.int64)
            column[row] = known[label]
    return list(factors.values())
