import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.errors import ConfigError
from agentroute.index import VectorIndex


def unit(rng, n, d=16):
    vectors = rng.standard_normal((n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(1, 3000), k=st.integers(1, 70), queries=st.sampled_from([1, 2, 9, 300]))
def test_exact_search_equals_brute_force(seed, n, k, queries):
    rng = np.random.default_rng(seed)
    vectors, asked = unit(rng, n), unit(rng, queries)
    similarity, rows = VectorIndex(vectors).search(asked, k)
    truth = asked @ vectors.T
    expected = -np.sort(-truth, axis=1)[:, : min(k, n)]
    np.testing.assert_allclose(similarity, expected, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(truth, rows, 1), expected, atol=1e-5)
    assert all(len(set(line)) == len(line) for line in rows.tolist())


@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_batches_are_exact_whatever_the_order_of_rows(order):
    # Rows sorted by similarity are the worst case for a search that keeps a running threshold.
    asked = np.zeros((3, 4), np.float32)
    asked[:, 0] = 1
    height = np.linspace(-1, 1, 40_000, dtype=np.float32)[:: 1 if order == "ascending" else -1]
    vectors = np.stack([height, np.sqrt(1 - height**2), 0 * height, 0 * height], axis=1)
    similarity, rows = VectorIndex(vectors, approximate_from=10**9).search(asked, 25)
    np.testing.assert_allclose(similarity, np.tile(-np.sort(-height)[:25], (3, 1)), atol=1e-6)
    np.testing.assert_allclose(vectors[rows][:, :, 0], similarity, atol=1e-6)


def test_the_graph_finds_nearly_all_neighbours():
    rng = np.random.default_rng(0)
    centres = unit(rng, 40)
    vectors = centres[rng.integers(0, 40, 5000)] + 0.3 * unit(rng, 5000)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = VectorIndex(vectors, approximate_from=1000)
    assert index.graph_bytes() is not None
    found = [set(index.search(vectors[i : i + 1], 50)[1][0].tolist()) for i in range(200)]
    truth = np.argsort(-(vectors[:200] @ vectors.T), axis=1)[:, :50]
    recall = np.mean([len(one & set(other.tolist())) / 50 for one, other in zip(found, truth, strict=True)])
    assert recall >= 0.98


def test_growing_keeps_every_row_findable():
    rng = np.random.default_rng(1)
    vectors = unit(rng, 900)
    index = VectorIndex(vectors[:300], approximate_from=400)
    for start in range(300, 900, 50):
        index.add(vectors[start : start + 50])
        assert len(index) == start + 50
        for row in (0, start, start + 49):
            similarity, rows = index.search(vectors[row : row + 1], 5)
            assert rows[0, 0] == row
            assert similarity[0, 0] == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_array_equal(index.vectors, vectors)


def test_a_cached_graph_finds_the_same_and_a_foreign_one_is_ignored():
    rng = np.random.default_rng(2)
    vectors, asked = unit(rng, 800), unit(rng, 20)
    index = VectorIndex(vectors, approximate_from=500)
    again = VectorIndex.from_cache(vectors, index.graph_bytes(), approximate_from=500)
    rebuilt = VectorIndex.from_cache(vectors, None, approximate_from=500)
    other = VectorIndex(unit(rng, 600, 8), approximate_from=500).graph_bytes()
    foreign = VectorIndex.from_cache(vectors, other, approximate_from=500)
    for query in asked:
        expected = index.search(query[None, :], 10)[1]
        for one in (again, rebuilt, foreign):
            np.testing.assert_array_equal(one.search(query[None, :], 10)[1], expected)


def test_no_openmp_setting_changes_anywhere():
    import faiss

    rng = np.random.default_rng(3)
    vectors = unit(rng, 800)
    before = faiss.omp_get_max_threads()
    threshold = faiss.cvar.distance_compute_blas_threshold
    index = VectorIndex(vectors, approximate_from=500)
    elsewhere, go, done = [], threading.Event(), threading.Event()

    def watch():
        go.set()
        while not done.is_set():
            elsewhere.append(faiss.omp_get_max_threads())

    watcher = threading.Thread(target=watch)
    watcher.start()
    go.wait()
    for row in range(300):
        index.search(vectors[row : row + 1], 10)
    index.search(vectors[:64], 10)
    done.set()
    watcher.join()
    assert faiss.omp_get_max_threads() == before
    assert set(elsewhere) <= {before}
    assert faiss.cvar.distance_compute_blas_threshold == threshold


def test_a_forked_child_searches():
    rng = np.random.default_rng(4)
    vectors = unit(rng, 800)
    index = VectorIndex(vectors, approximate_from=500)
    expected = index.search(vectors[:1], 5)[1].tolist()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # FAISS's thread pool does not survive a fork: with more than one thread this hangs
        try:
            found = index.search(vectors[:1], 5)[1].tolist() == expected
            os.write(writer, b"same" if found else b"other")
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        assert answers.read() == b"same"
    os.waitpid(child, 0)


def test_wrong_vectors_are_refused():
    with pytest.raises(ConfigError, match="float32"):
        VectorIndex(np.eye(3))
