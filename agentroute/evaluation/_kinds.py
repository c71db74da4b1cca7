"""Kinds of query, by label or by likeness: what a plain table from kind to model would look up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.evaluation._baselines import PSEUDO_COUNTS
from agentroute.evaluation._laps import parts
from agentroute.outcomes import OutcomeTable
from agentroute.types import Query

__all__ = ["Kinds", "clusters", "kinds", "labelled", "lookup", "shrunk"]

Floats: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = npt.NDArray[np.int64]

_PER_CLUSTER = 100
_MOST_CLUSTERS = 32
_ROUNDS = 20
_TITLED = 4000
"""Queries that clusters get their titles from."""
_PER_LABEL = 5
"""Queries that a label has on average, or it is a name of the query and no kind."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kinds:
    """The kind of each query.

    Attributes:
        by: What kinds are told apart by.
        names: What each is called.
        of: int64 [n], the place in `names`.
    """

    by: Literal["task", "labels", "cluster"]
    names: tuple[str, ...]
    of: Rows


def kinds(table: OutcomeTable, *, seed: int = 0) -> Kinds:
    """By task where most queries have one, else by all labels, else by clusters of their vectors.

    Labels that are all alike, or nearly as many as there are queries, tell no kinds apart.

    Args:
        table: Any table.
        seed: Of the clusters.
    """
    found = labelled(table.queries)
    if found is not None:
        return found
    if table.embeddings is None:
        return Kinds(by="cluster", names=("all",), of=np.zeros(len(table), np.int64))
    centres, of = clusters(table.embeddings, seed=seed)
    return Kinds(by="cluster", names=tuple(_titles(table.queries, of, len(centres))), of=of)


def labelled(queries: Sequence[Query]) -> Kinds | None:
    """By task where most queries have one, else by all labels; `None` where neither tells kinds apart."""
    tasks = [query.task or "" for query in queries]
    if _telling(tasks):
        return _numbered("task", tasks)
    labels = ["\0".join(query.labels) for query in queries]
    if _telling(labels):
        return _numbered("labels", [", ".join(label.split("\0")) for label in labels])
    return None


def _telling(labels: Sequence[str]) -> bool:
    different = len(set(labels))
    known = sum(1 for label in labels if label)
    return known >= len(labels) / 2 and 2 <= different <= max(len(labels) / _PER_LABEL, 2)


def _numbered(by: Literal["task", "labels"], labels: Sequence[str]) -> Kinds:
    place = {label: row for row, label in enumerate(dict.fromkeys(labels))}
    names = tuple(label or "(none)" for label in place)
    return Kinds(by=by, names=names, of=np.array([place[label] for label in labels], np.int64))


def clusters(
    vectors: npt.NDArray[np.float32], *, count: int | None = None, seed: int = 0
) -> tuple[npt.NDArray[np.float32], Rows]:
    """Spherical k-means: unit centres float32 [k, d], and the cluster of each vector, int64 [n].

    Args:
        vectors: float32 [n, d], unit rows.
        count: How many; `None` = one for 100 queries, 32 at most: fewer queries could not tell which model is best in it.
        seed: Of the first centres.
    """
    import faiss

    if count is None:
        count = int(np.clip(len(vectors) // _PER_CLUSTER, 1, _MOST_CLUSTERS))
    made = faiss.Kmeans(
        vectors.shape[1],
        count,
        niter=_ROUNDS,
        spherical=True,
        seed=1 + seed,
        min_points_per_centroid=1,
    )
    made.train(vectors)
    centres = np.asarray(made.centroids, np.float32)
    return centres, _nearest(centres, vectors)


def _nearest(centres: npt.NDArray[np.float32], vectors: npt.NDArray[np.float32]) -> Rows:
    return np.asarray((vectors @ centres.T).argmax(axis=1), np.int64)


def shrunk(values: Floats, kind: Rows, kinds: int) -> Floats:
    """float64 [kinds, c]: the mean of each kind, mixed with a few rows of average success, as the baseline `task lookup` is.

    Args:
        values: float64 [n, c].
        kind: int64 [n].
        kinds: How many there are.
    """
    totals = np.stack([np.bincount(kind, weights=column, minlength=kinds) for column in values.T], axis=1)
    counts = np.bincount(kind, minlength=kinds)[:, None]
    return np.asarray((totals + PSEUDO_COUNTS * values.mean(axis=0)) / (counts + PSEUDO_COUNTS), np.float64)


def lookup(table: OutcomeTable, of: Kinds, fold: Rows, best: Rows, *, folds: int | None = None, seed: int = 0) -> Rows:
    """int64 [n]: the best model of each query's kind, learned on the other folds, and so are clusters.

    Args:
        table: Complete rows.
        of: Their kinds.
        fold: int64 [n].
        best: int64 [n], the column of each fold's best single model, which wins ties and answers kinds that are new.
        folds: Of one drawing; see `parts`.
        seed: Of the clusters.
    """
    picks = best.copy()
    for here, train in parts(fold, folds):
        if of.by != "cluster" or table.embeddings is None:
            learned, asked = of.of[train], of.of[here]
        else:
            centres, learned = clusters(table.embeddings[train], seed=seed)
            asked = _nearest(centres, table.embeddings[here])
        quality, count = table.quality[train], int(max(learned.max(), asked.max())) + 1
        score = np.round(shrunk(quality, learned, count), 6)
        score[:, best[here[0]]] += 1e-7
        picks[here] = score.argmax(axis=1)[asked]
    return picks


_COMMON_WORDS = frozenset(
    "a an and are as at be by can do does for from has have how i if in is it its me my of on or our s should so than that the "
    "their them then there these they this to was we were what when where which who why will with would you your".split()
)


def _titles(queries: Sequence[Query], cluster: Rows, count: int) -> list[str]:
    """`cluster 1: word, word, word`: the words that are much more frequent in it than in the rest."""
    step = max(len(queries) // _TITLED, 1)
    sample, cluster = queries[::step], cluster[::step]
    bags = [frozenset(word.strip(".,:;!?\"'()").lower() for word in query.text[:2000].split()) for query in sample]
    everywhere: dict[str, int] = {}
    for bag in bags:
        for word in bag:
            everywhere[word] = everywhere.get(word, 0) + 1
    titles = []
    for number in range(count):
        here: dict[str, int] = {}
        rows = np.flatnonzero(cluster == number).tolist()
        for row in rows:
            for word in bags[row]:
                here[word] = here.get(word, 0) + 1
        telling = sorted(
            (word for word in here if len(word) > 1 and word not in _COMMON_WORDS and not word.isdigit()),
            key=lambda word: (here[word] / everywhere[word] - len(rows) / len(sample)) * here[word],
            reverse=True,
        )
        titles.append(f"cluster {number + 1}" + (": " + ", ".join(telling[:3]) if telling else ""))
    return titles
