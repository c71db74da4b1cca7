"""LangChain embeddings as an embedder."""

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

from agentroute.embedders import as_embedder
from agentroute.errors import ConfigError, DataError
from agentroute.types import Fingerprint
from langchain_agentroute import LangChainEmbedder


class Fixed(Embeddings):
    def __init__(self, *rows):
        self.rows = list(rows)
        self.asked = []

    def embed_documents(self, texts):
        self.asked.append(list(texts))
        return self.rows[: len(texts)]

    def embed_query(self, text):
        raise AssertionError("queries must be embedded as the stored ones were")


def test_protocol_and_unit_rows():
    embedder = LangChainEmbedder(DeterministicFakeEmbedding(size=8), name="fake", revision="1")
    assert as_embedder(embedder) is embedder
    assert embedder.fingerprint == Fingerprint(name="fake", revision="1", dimension=8)
    vectors = embedder.embed(["a", "b", "a"])
    assert (vectors.shape, vectors.dtype) == ((3, 8), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(vectors[0], vectors[2])


def test_declared_dimension_asks_nobody():
    fixed = Fixed([3.0, 4.0])
    embedder = LangChainEmbedder(fixed, name="f", revision="1", dimension=2)
    assert embedder.fingerprint.dimension == 2
    assert not fixed.asked
    np.testing.assert_allclose(embedder.embed(["x"]), [[0.6, 0.8]], rtol=1e-6)


def test_blank_texts_are_zero_rows_and_not_sent():
    fixed = Fixed([3.0, 4.0])
    vectors = LangChainEmbedder(fixed, name="f", revision="1", dimension=2).embed(["", "x", " \n"])
    np.testing.assert_allclose(vectors, [[0, 0], [0.6, 0.8], [0, 0]], rtol=1e-6)
    assert fixed.asked == [["x"]]


def test_nothing():
    assert LangChainEmbedder(Fixed(), name="f", revision="1", dimension=2).embed([]).shape == (0, 2)


def test_zero_and_huge_vectors():
    vectors = LangChainEmbedder(Fixed([0.0, 0.0], [3e200, 4e200]), name="f", revision="1", dimension=2).embed(["a", "b"])
    np.testing.assert_allclose(vectors, [[0, 0], [0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize(("rows", "error"), [([[1.0]], ConfigError), ([[1.0, float("nan")]], DataError), ([], ConfigError)])
def test_wrong_vectors(rows, error):
    with pytest.raises(error):
        LangChainEmbedder(Fixed(*rows), name="f", revision="1", dimension=2).embed(["x"])
