"""The cost of a team in one mode, as terms: what a role costs alone, and for each token that it reads of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.teams._values import Growth

__all__ = ["Terms", "heard"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Terms:
    """USD of the k roles of a team with m models in one mode.

    Columns are the models, then one for being left out, then one for a model that is unknown, whose terms are NaN.

    Attributes:
        alone: float64 [k, m + 2], USD of a run without what is read of others.
        token: float64 [k, m + 2], USD for each token of others that is read in every call.
        output: float64 [k, m + 2], tokens of one answer.
        growth: Whose answers are read within a round.
        share: Part of the calls that read also what all said in the round before.
    """

    alone: Floats
    token: Floats
    output: Floats
    growth: Growth
    share: float

    def roles(self, columns: Places) -> Floats:
        """USD of each role in runs: int64 [n, k] → float64 [n, k]."""
        # Flat places: one cheap look-up for each table.
        flat = columns + np.arange(len(self.alone)) * self.alone.shape[1]
        own, cost = self.output.ravel()[flat], self.alone.ravel()[flat]
        if self.growth == "none" and not self.share:
            return np.asarray(cost)
        read = heard(self.growth, own, columns != self.alone.shape[1] - 2)
        if self.share:
            read += self.share * (own.sum(axis=1, keepdims=True) - own)
        return np.asarray(cost + self.token.ravel()[flat] * read)

    def bound(self, allowed: Flags, *, most: bool) -> Floats:
        """USD of each role with each model, whatever the others have: at most or at least, float64 [k, m + 1].

        Args:
            allowed: bool [k, m + 1], what the others may have, and whether they may be left out.
            most: Whether the others' answers are as long as they can be, or as short.
        """
        said, read = self.reads(allowed, most=most)
        read = read + self.share * (said.sum() - said)
        return np.asarray(self.alone[:, :-1] + self.token[:, :-1] * read[:, None])

    def reads(self, allowed: Flags, *, most: bool) -> tuple[Floats, Floats]:
        """Tokens that each role says, and that it reads of the others within a round, at most or at least: float64 [k] each.

        Args:
            allowed: bool [k, m + 1], as for `bound`.
            most: Whether answers are as long as they can be, or as short.
        """
        real, away, output = allowed[:, :-1], allowed[:, -1], self.output[:, :-2]
        ends = np.where(real, output, 0.0).max(axis=1) if most else np.where(real, output, np.inf).min(axis=1)
        filled = real.any(axis=1)
        ends[~(filled | away)] = 0.0  # a role that may have nothing: whoever solves this says so
        said = np.where(filled & (most | ~away), ends, 0.0)
        read = np.zeros_like(said)
        if self.growth == "all":
            read = said.cumsum() - said
        elif self.growth == "previous" and not away[:-1].any():
            read[1:] = ends[:-1]
        elif self.growth == "previous":
            further = max if most else min
            for k in range(1, len(said)):
                # Where the one before may be left out, the one before that may be read.
                read[k] = further(ends[k - 1], read[k - 1]) if away[k - 1] else ends[k - 1]
        return said, read


def heard(growth: Growth, own: Floats, present: Flags) -> Floats:
    """Tokens of the others' answers that each role reads within a round: float64 [n, k]."""
    if growth == "all":
        return np.asarray(own.cumsum(axis=1) - own)
    read = np.zeros_like(own)
    if growth == "previous" and present.all():
        read[:, 1:] = own[:, :-1]
    elif growth == "previous":
        for k in range(1, own.shape[1]):
            read[:, k] = np.where(present[:, k - 1], own[:, k - 1], read[:, k - 1])
    return read
