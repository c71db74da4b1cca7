"""Whether two windows ask the same: questions of one kind, by label and likeness, and a test of what is left within kinds."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.evaluation._kinds import clusters

__all__ = ["finer", "likeness"]

Rows: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Vectors: TypeAlias = npt.NDArray[np.float32]

_PER_CLUSTER = 12
"""Questions of the smaller window, on average: few, to part what labels hold together, and yet five of each in most clusters."""
_MOST_CLUSTERS = 64
_PERMUTATIONS = 499


def finer(labels: Rows, late: Bools, vectors: Vectors, *, seed: int = 0) -> Rows:
    """int64 [n], numbered from 0: label times cluster of like questions, found in both windows together.

    Args:
        labels: int64 [n].
        late: bool [n], whether a row is of the second window.
        vectors: float32 [n, d], unit rows.
        seed: Of the clusters.
    """
    found = np.zeros(len(labels), np.int64)
    first = 0
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        fewer = int(min(late[rows].sum(), (~late[rows]).sum()))
        count = min(fewer // _PER_CLUSTER, _MOST_CLUSTERS)
        found[rows] = first
        if count > 1:
            found[rows] += clusters(vectors[rows], count=count, seed=seed)[1]
        first += max(count, 1)
    return found


def likeness(vectors: Vectors, strata: Rows, late: Bools, *, seed: int = 0) -> float:
    """The p-value of questions of one stratum being alike in both windows: near 0 = the second window asks other things.

    Two statistics, each with the distribution that it has when windows are shuffled within strata; the smaller p counts, twice.
    One is how far apart the windows' centroids are with strata weighed as in the comparison of scores (by n1 n2 / (n1 + n2)),
    which sees what all strata have in common. The other adds up the squared distances of each stratum, by the same weights.
    They see that some kind of question became more frequent or moved in the space of the vectors, and nothing that the
    vectors do not hold, such as how hard a question is.

    Args:
        vectors: float32 [n, d], one row for each different question of a window.
        strata: int64 [n].
        late: bool [n].
        seed: Of the shuffling.

    Source: Good 2005, Permutation, Parametric and Bootstrap Tests of Hypotheses: labels are shuffled within blocks.
    """
    rng = np.random.default_rng(seed)
    each, pooled = np.zeros(1 + _PERMUTATIONS), np.zeros((1 + _PERMUTATIONS, vectors.shape[1]))
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        count = int(late[rows].sum())
        if not 0 < count < len(rows):
            continue
        centred = vectors[rows] - vectors[rows].mean(axis=0)
        shuffled = rng.permuted(np.broadcast_to(late[rows], (_PERMUTATIONS, len(rows))), axis=1)
        # The rows add up to zero, so that the sum of the late ones is the distance of the centroids times n1 n2 / (n1 + n2).
        total = np.concatenate([late[rows][None], shuffled]).astype(np.float32) @ centred
        each += np.square(total, dtype=np.float64).sum(axis=1) * (1 / count + 1 / (len(rows) - count))
        pooled += total
    found = np.stack([each, np.square(pooled).sum(axis=1)])
    p = (found >= found[:, :1] * (1.0 - 1e-6)).mean(axis=1)
    return min(2.0 * float(p.min()), 1.0)
