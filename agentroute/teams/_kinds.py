"""Kinds of tasks, by label or by likeness: which models suit a role may hang on what is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, NotFittedError
from agentroute.types import Query

__all__ = ["TaskKinds"]

Floats: TypeAlias = npt.NDArray[np.float64]
Singles: TypeAlias = npt.NDArray[np.float32]

_FEWEST: Final = 60  # tasks below which clusters only split what little there is
_PER_CLUSTER: Final = 30
_PER_LABEL: Final = 5  # tasks that a label has, or it names a task and no kind
_MOST_LABELS: Final = 24
_ROUNDS: Final = 20
_SHARP: Final = 0.05
"""Difference of cosines that makes one kind e times as likely as another."""


class TaskKinds:
    """How far a task is of each kind: by its label where all logged tasks have one, else by its vector, else not at all.

    Labels that few tasks have are no kinds of their own, and a label that was never logged is of no kind: what is known of such a
    task is what is known of all. Clusters are of the tasks' vectors, on the sphere; a task between two is partly of both.

    Args:
        most: Clusters at most; there is one for every 30 different tasks, and none below 60.
        seed: Of the clusters.

    Attributes:
        by_: What kinds are told by: `"task"`, `"cluster"` or `"none"`.
        names_: What each is called.
        centres_: float32 [c, d], unit rows; `None` where there are no clusters.

    Raises:
        ConfigError: An option is out of range.

    Source: Dhillon and Modha 2001, Concept Decompositions for Large Sparse Text Data Using Clustering (spherical k-means).
    """

    by_: Literal["task", "cluster", "none"]
    names_: tuple[str, ...]
    centres_: Singles | None

    def __init__(self, *, most: int = 8, seed: int = 0) -> None:
        if most < 0:
            raise ConfigError(f"most={most!r} must be 0 or more clusters")
        self.most, self.seed = most, seed

    def fit(self, queries: Sequence[Query]) -> Self:
        """Learns which kinds there are, from the tasks of logged runs, with their `embedding` where they have one."""
        self.by_, self.names_, self.centres_ = "none", (), None
        labels = Counter(query.task for query in queries)
        known = [label for label, count in labels.most_common() if label is not None and count >= _PER_LABEL]
        if labels and None not in labels and len(known) >= 2:
            self.by_, self.names_ = "task", tuple(sorted(known[:_MOST_LABELS]))
        elif None in labels or len(labels) > 1:
            self._cluster(queries)
        return self

    def _cluster(self, queries: Sequence[Query]) -> None:
        vectors = [query.embedding for query in queries if query.embedding is not None]
        if len(vectors) < len(queries) or len({len(vector) for vector in vectors}) != 1:
            return
        # A task that was run a hundred times is one task.
        different = np.unique(np.stack(vectors).astype(np.float32), axis=0)
        count = min(len(different) // _PER_CLUSTER, self.most)
        if len(different) < _FEWEST or count < 2:
            return
        import faiss

        # A task that differs from all others makes a cluster of one, which tells nothing: faiss splits big ones instead.
        made = faiss.Kmeans(
            different.shape[1], count, niter=_ROUNDS, nredo=3, spherical=True, seed=1 + self.seed, min_points_per_centroid=1
        )
        made.train(different)
        self.by_, self.names_ = "cluster", tuple(f"cluster {number + 1}" for number in range(count))
        self.centres_ = np.asarray(made.centroids, np.float32).reshape(count, -1).copy()

    def __len__(self) -> int:
        """Number of kinds."""
        return len(self._fitted())

    def of(self, queries: Sequence[Query]) -> Floats:
        """How far each task is of each kind: float64 [n, c], rows add up to 1, or to 0 where nothing is known.

        Raises:
            NotFittedError: `fit` has not been called.
            ConfigError: A vector has another length than those that the kinds were learned from.
        """
        names = self._fitted()
        found = np.zeros((len(queries), len(names)))
        places = {name: place for place, name in enumerate(names)}
        for row, query in enumerate(queries):
            if self.centres_ is not None:
                if query.embedding is not None:
                    found[row] = _memberships(self.centres_, query.embedding)
            elif query.task in places:
                found[row, places[query.task]] = 1.0
        return found

    def _fitted(self) -> tuple[str, ...]:
        try:
            return self.names_
        except AttributeError:
            msg = "these kinds of tasks are not fitted: call fit(queries) first"
            raise NotFittedError(msg) from None

    def state(self) -> dict[str, Any]:
        """What was learned, in plain JSON values."""
        names = self._fitted()
        centres = None if self.centres_ is None else self.centres_.tolist()
        return {"most": self.most, "seed": self.seed, "by": self.by_, "names": list(names), "centres": centres}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The kinds that `state` described."""
        made = cls(most=state["most"], seed=state["seed"])
        made.by_, made.names_ = state["by"], tuple(state["names"])
        made.centres_ = None if state["centres"] is None else np.array(state["centres"], np.float32)
        return made

    def __repr__(self) -> str:
        """By what, and how many."""
        if not hasattr(self, "names_"):
            return "TaskKinds()"
        return "TaskKinds(none)" if self.by_ == "none" else f"TaskKinds({len(self)} by {self.by_})"


def _memberships(centres: Singles, vector: npt.NDArray[Any]) -> Floats:
    """A softmax of cosines, float64 [c]; zeros for a vector that is zero, of which nothing is known."""
    if vector.shape != centres.shape[1:]:
        raise ConfigError(
            f"a task's vector has {vector.shape[0]} dimensions, the kinds were learned from {centres.shape[1]}: "
            "use the same embedder, or fit again"
        )
    if not vector.any():
        return np.zeros(len(centres))
    cosine = centres.astype(np.float64) @ vector.astype(np.float64)
    weight = np.exp((cosine - cosine.max()) / _SHARP)
    return np.asarray(weight / weight.sum())
