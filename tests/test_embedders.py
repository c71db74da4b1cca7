from __future__ import annotations

import builtins
import hashlib
import os
import sys
import threading
import types
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentroute import embedders
from agentroute.embedders import (
    CallableEmbedder,
    SentenceTransformerEmbedder,
    StaticEmbedder,
    as_embedder,
    normalise,
)
from agentroute.errors import ConfigError, DataError, MissingExtraError

PARAPHRASES = [
    ("How do I reset my password?", "I forgot my login credentials and need new ones."),
    ("What is the capital of France?", "Which city is the seat of the French government?"),
    ("Sort a list of numbers in Python.", "Write Python code that puts integers in ascending order."),
    ("Translate this sentence into Spanish.", "Say this phrase in the Spanish language."),
    ("The film was boring and far too long.", "I nearly fell asleep in that dull, endless movie."),
    ("What is 17 times 23?", "Multiply 17 by 23."),
    ("Summarise the following article in two sentences.", "Give a short summary of the article below."),
    ("My package has not arrived yet.", "The delivery of my parcel is late."),
    ("Is it going to rain tomorrow?", "What is the weather forecast for tomorrow?"),
    ("Extract the e-mail address from this text.", "Find the email contained in the message."),
    ("The stock market fell sharply today.", "Share prices dropped steeply on the exchange this afternoon."),
    ("How long should I boil an egg?", "Cooking time for hard-boiled eggs."),
    ("The patient complains of chest pain.", "A man was admitted to hospital because his chest hurts."),
    ("Write a poem about the sea.", "Compose verses on the ocean."),
    ("Book a flight from London to New York.", "I need a plane ticket to New York leaving from London."),
    ("Who wrote Hamlet?", "Name the author of the play Hamlet by Shakespeare."),
    ("Fix the bug in this JavaScript function.", "Debug the following JS code, it does not work."),
    ("Cancel my subscription.", "I want to stop my membership and no longer pay every month."),
    ("The cat sat on the mat.", "A kitten is sitting on the rug."),
    ("Convert 10 miles into kilometres.", "How many km are ten miles?"),
    ("Explain photosynthesis to a child.", "How do plants make food from sunlight, in simple words?"),
    ("Which laptop is best for students?", "Recommend a notebook computer for university."),
    ("Solve the equation 2x + 3 = 11.", "Find x such that 2x + 3 equals 11."),
    ("The contract ends on the last day of March.", "The agreement expires on 31 March."),
    ("Plan a vegetarian dinner for six people.", "Suggest a meatless menu for six guests."),
    ("How many legs does a spider have?", "The number of legs of spiders."),
    ("Is this review positive or negative?", "Classify the sentiment of the review."),
    ("The football team won the final.", "They became champions after the last soccer match."),
]

static = StaticEmbedder()


def lengths(vectors):
    return np.linalg.norm(vectors.astype(np.float64), axis=1)


# The shipped table


def test_the_declared_fingerprint_is_that_of_the_files():
    folder = embedders.SHIPPED_FOLDER
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes() + (folder / "tokenizer.json").read_bytes()).hexdigest()
    assert embedders.SHIPPED.revision == digest[:16]
    # The same folder, named, is the same embedder.
    assert StaticEmbedder(folder).fingerprint == StaticEmbedder().fingerprint == embedders.SHIPPED


def test_the_table_stays_small():
    assert sum(file.stat().st_size for file in embedders.SHIPPED_FOLDER.iterdir()) < 8 * 2**20


def test_nothing_is_read_before_the_first_use(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a file was opened")

    monkeypatch.setattr(embedders, "_load_table", refuse)
    monkeypatch.setattr(builtins, "open", refuse)
    embedder = StaticEmbedder()
    assert embedder.fingerprint.dimension == 256
    StaticEmbedder("no/such/folder")
    assert as_embedder(embedder) is embedder


def test_rows_are_unit_float32_and_equal_alone_or_in_a_batch():
    texts = [text for pair in PARAPHRASES for text in pair]
    batch = static.embed(texts)
    assert batch.dtype == np.float32
    assert batch.flags.c_contiguous
    assert batch.shape == (len(texts), 256)
    assert np.allclose(lengths(batch), 1.0, atol=1e-6)
    for text, row in zip(texts, batch, strict=True):
        assert np.array_equal(static.embed([text])[0], row)


def test_the_table_means_what_model2vec_means_by_it():
    from model2vec import StaticModel

    texts = [first for first, _ in PARAPHRASES]
    theirs = StaticModel.from_pretrained(embedders.SHIPPED_FOLDER).encode(texts)
    assert np.allclose(theirs, static.embed(texts), atol=1e-6)


def test_paraphrases_are_neighbours():
    texts = [text for pair in PARAPHRASES for text in pair]
    vectors = static.embed(texts)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -1.0)
    partner = np.arange(len(texts)) ^ 1
    assert np.mean(similarity.argmax(axis=1) == partner) >= 0.85


@pytest.mark.parametrize("text", ["", " ", "\n\t \u00a0", "\x00", "\u200b"])
def test_a_text_without_tokens_is_a_zero_row(text):
    assert not static.embed([text]).any()


def test_no_texts_give_no_rows():
    assert static.embed([]).shape == (0, 256)


def test_a_prompt_of_a_megabyte_is_read_up_to_the_limit():
    start = "How do I reset my password? " * 400
    long = start[: embedders.MAX_CHARS] + "Taxes rose sharply. " * 50_000
    assert len(long) > 1_000_000
    assert np.array_equal(static.embed([long]), static.embed([start[: embedders.MAX_CHARS]]))


def test_tokens_beyond_the_usual_limit_of_transformers_still_count():
    head = "password " * 600
    assert not np.allclose(static.embed([head]), static.embed([head + "taxes rose sharply " * 200]), atol=1e-3)


def test_lone_surrogates_are_replaced():
    broken, clean = static.embed(["reset \ud800 my password", "reset \ufffd my password"])
    assert np.array_equal(broken, clean)
    assert broken.any()


@given(st.text(st.characters(codec=None), max_size=200))
def test_any_text_has_a_row_of_length_one_or_zero(text):
    (length,) = lengths(static.embed([text]))
    assert abs(length - 1.0) < 1e-5 or length == 0.0


def test_many_threads_share_one_embedder():
    embedder = StaticEmbedder()
    texts = [first for first, _ in PARAPHRASES]
    expected = static.embed(texts)
    found = [None] * 8
    start = threading.Barrier(len(found))

    def work(slot):
        start.wait()
        found[slot] = np.concatenate([embedder.embed([text]) for text in texts])

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(len(found))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(one, expected) for one in found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_it_works_after_a_fork(capfd):
    expected = static.embed(["What is 17 times 23?"])
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(static.embed(["What is 17 times 23?"]), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("texts", ["one string", [b"bytes"], [None]])
def test_only_lists_of_strings_are_embedded(texts):
    with pytest.raises(ConfigError, match="embed takes"):
        static.embed(texts)


# Other model2vec models


@pytest.fixture
def tiny_model(tmp_path):
    """A model2vec folder of three words, with or without model2vec's own weights and row mapping."""

    def make(*, mapping=None, weights=None):
        from safetensors.numpy import save
        from tokenizers import Tokenizer
        from tokenizers.models import WordLevel
        from tokenizers.pre_tokenizers import Whitespace

        folder = tmp_path / "tiny"
        folder.mkdir()
        tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "red": 1, "blue": 2, "green": 3}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = Whitespace()
        tokenizer.enable_truncation(2)
        tokenizer.enable_padding(length=6, pad_id=3, pad_token="green")
        tokenizer.save(str(folder / "tokenizer.json"))
        rows = np.array([[9, 9], [1, 0], [0, 1], [0, -1]], dtype=np.float32)
        table = {"embeddings": rows if mapping is None else rows[:3]}
        if mapping is not None:
            table["mapping"] = np.array(mapping, dtype=np.int32)
        if weights is not None:
            table["weights"] = np.array(weights, dtype=np.float32)
        (folder / "model.safetensors").write_bytes(save(table))
        (folder / "config.json").write_text('{"normalize": false}')
        return folder

    return make


def test_a_folder_is_used_without_its_truncation_padding_and_unknown_token(tiny_model):
    embedder = StaticEmbedder(tiny_model())
    vectors = embedder.embed(["red", "red mauve blue", "mauve", "red red red blue"])
    assert np.allclose(vectors, [[1, 0], [0.5**0.5, 0.5**0.5], [0, 0], [3 / 10**0.5, 1 / 10**0.5]])
    assert embedder.fingerprint.name == "tiny"
    assert embedder.fingerprint.dimension == 2


def test_weights_and_row_mapping_of_a_folder_count(tiny_model):
    embedder = StaticEmbedder(tiny_model(mapping=[0, 1, 2, 1], weights=[1, 3, 4, 0.5]))
    assert np.allclose(embedder.embed(["red blue", "green"]), [[0.6, 0.8], [1, 0]])


def test_a_changed_folder_has_another_fingerprint(tiny_model):
    folder = tiny_model()
    before = StaticEmbedder(folder).fingerprint
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text().replace('"red"', '"rot"'))
    after = StaticEmbedder(folder).fingerprint
    assert before.revision != after.revision


def test_a_hub_name_is_fetched_and_named(tiny_model, monkeypatch):
    import huggingface_hub

    folder = tiny_model()
    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: asked.append(name) or str(folder))
    embedder = StaticEmbedder("somebody/some-model")
    assert not asked
    assert embedder.embed(["red"]).tolist() == [[1.0, 0.0]]
    assert asked == ["somebody/some-model"]
    assert embedder.fingerprint.name == "some-model"


@pytest.mark.parametrize("damage", ["empty folder", "not safetensors", "no tokenizer"])
def test_a_folder_that_holds_no_model_is_a_clear_error(tiny_model, damage):
    folder = tiny_model()
    if damage == "empty folder":
        for file in folder.iterdir():
            file.unlink()
    elif damage == "not safetensors":
        (folder / "model.safetensors").write_bytes(b"\x80\x04 not a table")
    else:
        (folder / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match="cannot load the model2vec model"):
        StaticEmbedder(folder).embed(["red"])


# Any function


def test_a_function_is_checked_and_normalised():
    seen = []

    def function(texts):
        seen.append(texts)
        return [[3.0, 4.0] for _ in texts]

    embedder = CallableEmbedder(function, name="mine", revision="1", dimension=2)
    vectors = embedder.embed(["a", "", " \n", "b\ud800"])
    assert np.allclose(vectors, [[0.6, 0.8], [0, 0], [0, 0], [0.6, 0.8]])
    assert seen == [["a", "b\ufffd"]]
    assert str(embedder.fingerprint) == "mine@1 (2-d)"


def test_a_function_is_not_called_for_nothing():
    embedder = CallableEmbedder(lambda _: pytest.fail("called"), name="mine", revision="1", dimension=2)
    assert embedder.embed(["", " "]).tolist() == [[0, 0], [0, 0]]
    assert embedder.embed([]).shape == (0, 2)


@pytest.mark.parametrize(
    ("result", "error", "says"),
    [
        ([[1.0, 2.0, 3.0]], ConfigError, "shape \\(1, 3\\)"),
        ([[1.0, 2.0], [1.0, 2.0]], ConfigError, "shape \\(2, 2\\)"),
        ([1.0, 2.0], ConfigError, "matrix"),
        ([[1.0, 2.0], [1.0]], ConfigError, "matrix of numbers"),
        ([["a", "b"]], ConfigError, "matrix of numbers"),
        (None, ConfigError, "matrix"),
        ([[1.0, float("nan")]], DataError, "row 0"),
        ([[1.0, float("inf")]], DataError, "row 0"),
    ],
)
def test_a_function_with_a_wrong_result_is_a_clear_error(result, error, says):
    with pytest.raises(error, match=says):
        CallableEmbedder(lambda _: result, name="mine", revision="1", dimension=2).embed(["a"])


# sentence-transformers


class FakeSentenceTransformer:
    made: ClassVar[list] = []

    def __init__(self, name, *, revision, device):
        self.made.append({"name": name, "revision": revision, "device": device})

    def __getitem__(self, position):
        config = types.SimpleNamespace(_commit_hash="1110a243")
        return types.SimpleNamespace(auto_model=types.SimpleNamespace(config=config))

    def get_sentence_embedding_dimension(self):
        return 2

    def encode(self, texts, *, show_progress_bar):
        assert show_progress_bar is False
        return np.array([[len(text), 0.0] for text in texts], dtype=np.float32)


@pytest.fixture
def sentence_transformers(monkeypatch):
    module = types.ModuleType("sentence_transformers")
    module.SentenceTransformer = FakeSentenceTransformer
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    monkeypatch.setattr(FakeSentenceTransformer, "made", [])
    return FakeSentenceTransformer


def test_sentence_transformers_is_loaded_once_at_first_use(sentence_transformers):
    embedder = SentenceTransformerEmbedder()
    assert not sentence_transformers.made
    assert embedder.embed(["abc", " "]).tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert str(embedder.fingerprint) == "sentence-transformers/all-MiniLM-L6-v2@1110a243 (2-d)"
    assert sentence_transformers.made == [{"name": "sentence-transformers/all-MiniLM-L6-v2", "revision": None, "device": "cpu"}]


def test_a_pinned_revision_is_used_and_recorded(sentence_transformers):
    embedder = SentenceTransformerEmbedder("some/model", revision="abc", device="cuda")
    assert embedder.fingerprint.revision == "abc"
    assert sentence_transformers.made == [{"name": "some/model", "revision": "abc", "device": "cuda"}]


def test_a_folder_of_sentence_transformers_is_known_by_its_content(sentence_transformers, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    fingerprint = SentenceTransformerEmbedder(folder).fingerprint
    assert fingerprint.name == "mine"
    assert fingerprint.revision == hashlib.sha256(b"weights").hexdigest()[:16]


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match="agentroute-sdk\\[sentence-transformers\\]"):
        SentenceTransformerEmbedder().embed(["a"])


# as_embedder and normalise


def test_none_is_the_shared_static_table():
    assert as_embedder(None) is as_embedder(None)
    assert as_embedder(None).fingerprint == embedders.SHIPPED


@pytest.mark.parametrize("thing", [len, "all-MiniLM-L6-v2", object(), Path("folder")])
def test_what_is_no_embedder_is_refused(thing):
    with pytest.raises(ConfigError, match="CallableEmbedder"):
        as_embedder(thing)


def test_as_embedder_reads_no_weights():
    embedder = StaticEmbedder("no/such/folder")
    assert as_embedder(embedder) is embedder


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30, 1e300])
def test_normalise_neither_overflows_nor_vanishes(scale):
    assert np.allclose(normalise([[3 * scale, 4 * scale]]), [[0.6, 0.8]])


def test_normalise_keeps_zero_rows_and_no_rows():
    assert normalise(np.zeros((2, 3))).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert normalise(np.zeros((0, 3))).shape == (0, 3)
    assert normalise(np.zeros((2, 0))).shape == (2, 0)


def test_normalise_leaves_its_argument_alone():
    given_rows = np.array([[3.0, 4.0]], dtype=np.float32)
    normalise(given_rows)
    assert given_rows.tolist() == [[3.0, 4.0]]


def test_normalise_refuses_what_is_not_finite():
    with pytest.raises(DataError, match="1 of 2 vectors hold NaN or infinity, the first at row 1"):
        normalise([[1.0, 0.0], [np.nan, 0.0]])
