"""LlamaIndex embedding models as embedders, alone and under a real router."""

import copy
import pickle
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.storage.kvstore import SimpleKVStore
from pydantic import Field, PrivateAttr

from agentroute.embedders import as_embedder
from agentroute.errors import ConfigError, DataError, EmbedderMismatchError
from agentroute.outcomes import MemoryOutcomeLog
from agentroute.router import Router
from agentroute.types import Fingerprint, ModelCard, Outcome, Query
from llama_index.llms.agentroute.embeddings import LlamaIndexEmbedder

TOPICS = ["sum", "poem", "zebra", "law"]


class Fixed(BaseEmbedding):
    """Gives rows that were laid down. As a query it would give other vectors, as models with instructions do."""

    model_name: str = "fixed"
    rows: list[list[float]] = Field(default_factory=list)
    asked: list[list[str]] = Field(default_factory=list)

    def _get_text_embeddings(self, texts):
        self.asked.append(list(texts))
        return self.rows[: len(texts)]

    def _get_text_embedding(self, text):
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query):
        raise AssertionError("queries must be embedded as the stored ones were")

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)


class Topics(BaseEmbedding):
    """Nearly one direction a topic. A query is turned the other way round, so that the two sides are never alike."""

    model_name: str = "topics"
    sizes: list[int] = Field(default_factory=list)

    def _get_text_embedding(self, text):
        noise = np.random.default_rng(zlib.crc32(text.encode())).normal(scale=0.1, size=len(TOPICS))
        return (noise + [3.0 * (topic in text) for topic in TOPICS]).tolist()

    def _get_text_embeddings(self, texts):
        self.sizes.append(len(texts))
        return [self._get_text_embedding(text) for text in texts]

    def _get_query_embedding(self, query):
        return [-value for value in self._get_text_embedding(query)]

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)


class Client(Fixed):
    """Holds what cannot be pickled, as clients do."""

    hook: Any = None
    _lock: Any = PrivateAttr(default_factory=threading.Lock)


def fixed(*rows, **kwargs):
    return LlamaIndexEmbedder(Fixed(rows=list(rows)), revision="1", **kwargs)


def test_protocol_and_unit_rows():
    embedder = LlamaIndexEmbedder(Topics(), revision="7")
    assert as_embedder(embedder) is embedder
    assert embedder.fingerprint == Fingerprint(name="topics", revision="7", dimension=4)
    assert repr(embedder) == "LlamaIndexEmbedder(topics@7)"
    vectors = embedder.embed(["a sum", "a poem", "a sum"])
    assert (vectors.shape, vectors.dtype) == ((3, 4), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert vectors[0] @ vectors[1] < 0.2


def test_the_name_of_the_model_unless_another_is_given():
    assert fixed([3.0, 4.0], dimension=2).fingerprint.name == "fixed"
    assert fixed([3.0, 4.0], dimension=2, name="other").fingerprint.name == "other"


@pytest.mark.parametrize("name", ["unknown", ""])
def test_a_model_without_a_name_needs_one(name):
    nameless = Fixed(model_name=name)
    with pytest.raises(ConfigError, match="Fixed has no model_name: give name="):
        LlamaIndexEmbedder(nameless, revision="1")
    assert LlamaIndexEmbedder(nameless, name="mine", revision="1", dimension=2).fingerprint.name == "mine"


@pytest.mark.parametrize("wrong", [None, "default", Topics, lambda texts: texts])
def test_what_is_no_embedding_model_is_refused(wrong):
    with pytest.raises(ConfigError, match="resolve_embed_model"):
        LlamaIndexEmbedder(wrong, revision="1")


def test_one_word_is_embedded_to_find_the_dimension_and_nothing_when_it_is_declared():
    embedder = fixed([3.0, 4.0])
    assert embedder.embed_model.asked == []
    assert [embedder.fingerprint.dimension for _ in range(3)] == [2, 2, 2]
    assert embedder.embed_model.asked == [["dimension"]]
    declared = fixed([3.0, 4.0], dimension=2)
    assert declared.fingerprint.dimension == 2
    assert declared.embed_model.asked == []


def test_blank_texts_are_zero_rows_and_not_sent():
    embedder = fixed([3.0, 4.0], dimension=2)
    np.testing.assert_allclose(embedder.embed(["", "x", " \n"]), [[0, 0], [0.6, 0.8], [0, 0]], rtol=1e-6)
    assert embedder.embed_model.asked == [["x"]]


def test_nothing():
    embedder = fixed(dimension=2)
    assert embedder.embed([]).shape == (0, 2)
    assert embedder.embed(["", " "]).tolist() == [[0, 0], [0, 0]]
    assert embedder.embed_model.asked == []


def test_many_are_sent_in_the_batches_of_the_model():
    model = Topics(embed_batch_size=4)
    vectors = LlamaIndexEmbedder(model, revision="1", dimension=4).embed([f"{TOPICS[n % 4]} {n}" for n in range(10)])
    assert model.sizes == [4, 4, 2]
    assert vectors.argmax(axis=1).tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_zero_and_huge_vectors():
    vectors = fixed([0.0, 0.0], [3e200, 4e200], dimension=2).embed(["a", "b"])
    np.testing.assert_allclose(vectors, [[0, 0], [0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize(("rows", "error"), [([[1.0]], ConfigError), ([[1.0, float("nan")]], DataError), ([], ConfigError)])
def test_wrong_vectors(rows, error):
    with pytest.raises(error):
        fixed(*rows, dimension=2).embed(["x"])


def test_one_string_is_no_list():
    with pytest.raises(ConfigError, match="not one string"):
        fixed([3.0, 4.0], dimension=2).embed("x")


def test_a_cache_shared_with_a_retriever_holds_nothing_of_the_routers():
    """LlamaIndex has one key for a text and a query of the same words."""
    cache = SimpleKVStore()
    model = Topics(embeddings_cache=cache)
    router_side = LlamaIndexEmbedder(model, revision="1")
    before = router_side.embed(["a sum"])
    assert model.get_query_embedding("a sum") @ before[0] < -2.5
    np.testing.assert_array_equal(router_side.embed(["a sum"]), before)
    assert list(cache.get_all(collection="embeddings")) == ["a sum"]
    assert model.embeddings_cache is cache


def test_many_threads():
    embedder = LlamaIndexEmbedder(Topics(), revision="1")
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda n: embedder.embed([TOPICS[n % 4]])[0].argmax(), range(80)))
    assert found == [n % 4 for n in range(80)]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_embed_alike_also_after_use(again):
    embedder = LlamaIndexEmbedder(Topics(), revision="1")
    first = embedder.embed(["a sum"])
    copied = again(embedder)
    assert copied.fingerprint == embedder.fingerprint
    np.testing.assert_array_equal(copied.embed(["a sum"]), first)


def test_pickling_takes_nothing_from_the_model_in_use():
    """LlamaIndex removes from the object itself what cannot be pickled (run-llama/llama_index#22578)."""
    model = Client(rows=[[3.0, 4.0]], hook=lambda: "alive")
    embedder = LlamaIndexEmbedder(model, revision="1", dimension=2)
    embedder.embed(["x"])
    copied = pickle.loads(pickle.dumps(embedder))
    assert copied.fingerprint == embedder.fingerprint
    assert model.hook() == "alive"
    assert model._lock.acquire(blocking=False)


async def test_within_a_running_loop():
    embedder = LlamaIndexEmbedder(MockEmbedding(embed_dim=3, model_name="mock"), revision="1")
    np.testing.assert_allclose(embedder.embed(["x"]), [[3**-0.5] * 3], rtol=1e-6)


# --- under a real router ---


@pytest.fixture
def log():
    """The small model can do sums, the large one poems."""
    log = MemoryOutcomeLog()
    for n in range(60):
        for topic in TOPICS[:2]:
            for model in ("small", "large"):
                right = (topic == "sum") == (model == "small")
                log.append(Outcome(query=Query(text=f"{topic} number {n}"), model=model, quality=float(right), cost=0.001))
    return log


def test_a_router_learns_is_saved_loaded_and_decides_with_it(log, tmp_path):
    cards = [ModelCard(id="small"), ModelCard(id="large")]
    Router(cards, embedder=LlamaIndexEmbedder(Topics(), revision="1")).fit(log).save(tmp_path / "router")
    model = Topics()
    loaded = Router.load(tmp_path / "router", embedder=LlamaIndexEmbedder(model, revision="1"))
    for topic, best in (("sum", "small"), ("poem", "large")):
        explained = loaded.explain(f"write me a {topic}")
        assert (explained.decision.model, explained.decision.by) == (best, "policy")
        # On the other side of the model, every logged query would be its opposite.
        assert explained.similarity == pytest.approx(1, abs=0.02)
    assert model.sizes[-1] == 1
    assert loaded.route("a zebra").by == "default"


@pytest.mark.parametrize(("name", "revision"), [(None, "2"), ("other", "1")])
def test_a_saved_router_demands_the_same_embedder(log, tmp_path, name, revision):
    Router(["small", "large"], embedder=LlamaIndexEmbedder(Topics(), revision="1")).fit(log).save(tmp_path / "router")
    with pytest.raises(EmbedderMismatchError):
        Router.load(tmp_path / "router", embedder=LlamaIndexEmbedder(Topics(), name=name, revision=revision))
