"""Nearest neighbours by inner product over unit rows: exact where that is fast enough, HNSW past that.

Three paths, chosen by measurement (`benchmarks/speed`):

* a single query up to `approximate_from` rows: FAISS brute force straight over our own array, on one thread;
* a single query past it: an HNSW graph over the rows so far, plus brute force over the rows that came after it was built;
* a batch: blocked matrix products in NumPy, always exact. The packaged FAISS is several times slower there, and what would
  speed it up (`faiss.cvar`) is global to the process, which is not ours to change.

One thread: FAISS's OpenMP pool stalls single queries on a busy machine. The number of OpenMP threads is a setting of the
calling thread (OpenMP 5.2, section 2.4: `nthreads-var` belongs to the data environment), so `_one_thread` neither shows in
other threads nor outlives the call.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError
from agentroute.types import Vectors

__all__ = ["VectorIndex"]

_BLOCK = 8192  # rows of one matrix product: 256 queries x 8,192 rows of float32 similarities are 8 MB, about the L2/L3 cache
_LINKS = 32
_BUILD_EFFORT = 80


def _faiss() -> Any:
    """The module, imported late because it is heavy, and untyped because its stubs lack the classes used here."""
    import faiss

    return faiss


@contextmanager
def _one_thread(faiss: Any) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


class VectorIndex:
    """Top-k search over a growing set of unit rows.

    Readers need no lock: the rows live in a buffer with room to grow, and what a search uses is replaced by one assignment.

    Args:
        vectors: float32 [n, d], unit rows.
        approximate_from: From how many rows single queries use the HNSW graph.
        effort: HNSW `efSearch` for a search of k neighbours is `max(effort, 2 k)`.

    >>> index = VectorIndex(np.eye(3, dtype=np.float32))
    >>> similarity, rows = index.search(np.eye(3, dtype=np.float32)[1:2], 1)
    >>> rows.tolist()
    [[1]]
    """

    def __init__(self, vectors: Vectors, *, approximate_from: int = 20_000, effort: int = 128) -> None:
        if vectors.ndim != 2 or vectors.dtype != np.float32:
            msg = f"vectors must be float32 [n, d], not {vectors.dtype} {list(vectors.shape)}"
            raise ConfigError(msg)
        self.approximate_from = approximate_from
        self.effort = effort
        self._buffer = np.ascontiguousarray(vectors)
        self._rows = len(vectors)
        self._graph: Any = None
        self._growing = threading.Lock()
        self._extend_graph()

    @property
    def vectors(self) -> Vectors:
        """float32 [n, d]: the rows, a view."""
        return self._buffer[: self._rows]

    def __len__(self) -> int:
        """Number of rows."""
        return self._rows

    def add(self, vectors: Vectors) -> None:
        """Appends unit rows, float32 [n, d]; searches that run meanwhile see the rows before."""
        with self._growing:
            rows = self._rows + len(vectors)
            if rows > len(self._buffer):
                grown = np.empty((max(rows, 2 * len(self._buffer)), self._buffer.shape[1]), np.float32)
                grown[: self._rows] = self.vectors
                self._buffer = grown
            self._buffer[self._rows : rows] = vectors
            self._rows = rows
            self._extend_graph()

    def search(
        self, queries: Vectors, k: int, *, within: int | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """The k most similar rows of each query.

        Args:
            queries: float32 [n, d].
            k: How many; fewer come back when there are fewer rows.
            within: Search only this many first rows: for a reader that knows an older state than a writer has made since.

        Returns:
            Similarities float32 [n, k], highest first, and rows int64 [n, k].
        """
        vectors = self.vectors if within is None else self._buffer[:within]
        k = min(k, len(vectors))
        if k == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        if len(queries) == 1:
            return self._search_one(np.ascontiguousarray(queries), vectors, k)
        return _search_batch(queries, vectors, k)

    def _search_one(self, query: Vectors, vectors: Vectors, k: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        faiss = _faiss()
        graph = self._graph
        with _one_thread(faiss):
            if graph is None:
                found: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]] = faiss.knn(
                    query, vectors, k, metric=faiss.METRIC_INNER_PRODUCT
                )
                return found
            # A graph may find fewer than k rows (-1); asking for efSearch candidates makes that a matter of theory.
            # The few rows past `within` that it may hold are asked for on top, and dropped below.
            newer = max(graph.ntotal - len(vectors), 0)
            params = faiss.SearchParametersHNSW(efSearch=max(self.effort, 2 * (k + newer)))
            similarity, rows = graph.search(query, min(k + newer, graph.ntotal), params=params)
            if graph.ntotal < len(vectors):
                tail = vectors[graph.ntotal :]
                near, extra = faiss.knn(query, tail, min(k, len(tail)), metric=faiss.METRIC_INNER_PRODUCT)
                similarity = np.concatenate([similarity, near], axis=1)
                rows = np.concatenate([rows, extra + graph.ntotal], axis=1)
        order = np.argsort(-similarity[0], kind="stable")
        order = order[(rows[0, order] >= 0) & (rows[0, order] < len(vectors))][:k]
        return similarity[:, order], rows[:, order]

    def _extend_graph(self) -> None:
        """Builds the graph when there are enough rows, and renews it when the rows after it are many."""
        rows = self._rows
        built = 0 if self._graph is None else self._graph.ntotal
        if rows < self.approximate_from or rows - built <= built // 10:
            return
        faiss = _faiss()
        # On one thread the graph depends on nothing but the rows, their order and the steps in which they came.
        with _one_thread(faiss):
            graph: Any
            if self._graph is None:
                graph = faiss.IndexHNSWFlat(self._buffer.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
                graph.hnsw.efConstruction = _BUILD_EFFORT
            else:
                graph = faiss.clone_index(self._graph)
            graph.add(self._buffer[built:rows])
        self._graph = graph

    def graph_bytes(self) -> npt.NDArray[np.uint8] | None:
        """The serialised HNSW graph, a cache that `from_cache` reads; `None` while search is exact."""
        if self._graph is None:
            return None
        faiss = _faiss()
        return np.asarray(faiss.serialize_index(self._graph), dtype=np.uint8)

    @classmethod
    def from_cache(
        cls, vectors: Vectors, graph: npt.NDArray[np.uint8] | None, *, approximate_from: int = 20_000, effort: int = 128
    ) -> Self:
        """An index over these rows with a graph from `graph_bytes`.

        The caller has checked that the bytes are those that were saved. A graph of another shape is ignored and built anew.
        """
        index = cls.__new__(cls)
        index.approximate_from, index.effort = approximate_from, effort
        index._buffer, index._rows = np.ascontiguousarray(vectors), len(vectors)  # noqa: SLF001 # a constructor of this very class
        index._graph, index._growing = None, threading.Lock()  # noqa: SLF001
        if graph is not None:
            faiss = _faiss()
            found = faiss.deserialize_index(graph)
            fits = isinstance(found, faiss.IndexHNSWFlat) and found.d == vectors.shape[1] and 0 < found.ntotal <= len(vectors)
            index._graph = found if fits else None  # noqa: SLF001
        index._extend_graph()  # noqa: SLF001
        return index


def _search_batch(queries: Vectors, vectors: Vectors, k: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Exact top-k by blocked matrix products; memory stays at 256 x `_BLOCK` similarities.

    Selecting costs more than multiplying, so that after a first block only rows that beat a query's k-th best so far are
    looked at. Blocks double in size: each then holds about k such rows a query when rows come in no order, and the result
    is the same whatever their order.
    """
    similarity = np.empty((len(queries), k), np.float32)
    rows = np.empty((len(queries), k), np.int64)
    first = min(len(vectors), max(1024, 2 * k))
    # Fresh memory for every product would cost as much as the product itself, in page faults.
    room = np.empty(min(len(queries), 256) * max(first, min(_BLOCK, len(vectors))), np.float32)
    beats = np.empty(len(room), np.bool_)
    for start in range(0, len(queries), 256):
        part = queries[start : start + 256]
        near = np.matmul(part, vectors[:first].T, out=room[: len(part) * first].reshape(len(part), first))
        best, where = _top(near, None, k)
        done = first
        while done < len(vectors):
            block = vectors[done : done + min(done, _BLOCK)]
            size = len(part) * len(block)
            near = np.matmul(part, block.T, out=room[:size].reshape(len(part), len(block)))
            above = np.greater(near, best.min(axis=1, keepdims=True), out=beats[:size].reshape(near.shape))
            hits = np.flatnonzero(above)
            if len(hits):
                best, where = _merge(best, where, near, hits, done, k)
            done += len(block)
        order = np.argsort(-best, axis=1)
        similarity[start : start + 256] = np.take_along_axis(best, order, 1)
        rows[start : start + 256] = np.take_along_axis(where, order, 1)
    return similarity, rows


def _merge(
    best: npt.NDArray[np.float32],
    where: npt.NDArray[np.int64],
    near: npt.NDArray[np.float32],
    hits: npt.NDArray[np.int64],
    offset: int,
    k: int,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The best of both: `hits` are places in the flattened `near`, whose columns are rows from `offset` on."""
    query, column = np.divmod(hits, near.shape[1])
    # Ragged lists of hits, laid out as rows: the place of a hit is its rank within its query, hits being sorted by query.
    counts = np.bincount(query, minlength=len(near))
    place = np.arange(len(hits)) - np.repeat(np.cumsum(counts) - counts, counts)
    padded = np.full((len(near), int(counts.max())), -np.inf, np.float32)
    origin = np.full(padded.shape, -1, np.int64)
    padded[query, place] = near.ravel()[hits]
    origin[query, place] = column + offset
    return _top(np.concatenate([best, padded], axis=1), np.concatenate([where, origin], axis=1), k)


def _top(
    similarity: npt.NDArray[np.float32], rows: npt.NDArray[np.int64] | None, k: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The k highest of each line, unordered, and their rows (the columns themselves when `rows` is `None`)."""
    columns = np.argpartition(similarity, similarity.shape[1] - k, axis=1)[:, similarity.shape[1] - k :]
    picked = np.take_along_axis(similarity, columns, 1)
    return picked, columns if rows is None else np.take_along_axis(rows, columns, 1)
