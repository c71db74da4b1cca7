"""From texts to vectors: the shipped static table, sentence-transformers, or any function.

Every embedder says which weights it uses (its `Fingerprint`), because vectors of different embedders must not be compared.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError, MissingExtraError
from agentroute.types import Fingerprint, Vectors

__all__ = [
    "CallableEmbedder",
    "Embedder",
    "SentenceTransformerEmbedder",
    "StaticEmbedder",
    "as_embedder",
    "normalise",
]

MAX_CHARS = 8_192
"""What `StaticEmbedder` reads of a text: a mean over more words hardly moves, and a prompt of 1 MB stays as fast as a page."""

SHIPPED_FOLDER = Path(__file__).parent / "data" / "static-minilm"
SHIPPED = Fingerprint(name="static-minilm", revision="ab401a653f46e7cb", dimension=256)
"""Of the shipped table; stands here so that nothing need be read to know it."""


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Which weights make the vectors."""

    def embed(self, texts: Sequence[str], /) -> Vectors:
        """float32 [n, d], unit rows; a zero row for a text without anything known in it."""


class StaticEmbedder:
    """Averages one stored vector per token: 256 dimensions, no network, no torch, tens of microseconds a query.

    The shipped table is distilled from all-MiniLM-L6-v2 (English, Apache-2.0). Word order does not count, and only the
    first `MAX_CHARS` characters of a text are read. The constructor reads nothing; the table is loaded at first use.

    Args:
        model: Another model2vec model: a folder, or a name on the model hub, fetched at first use; `None` = the shipped one.

    >>> embedder = StaticEmbedder()
    >>> cat, kitten, taxes = embedder.embed(["The cat is asleep.", "A kitten sleeps.", "Taxes rise."])
    >>> bool(cat @ kitten > cat @ taxes)
    True

    Source: Tulkens and van Dongen 2024, Model2Vec.
    """

    def __init__(self, model: str | Path | None = None) -> None:
        self.model = model
        self._table: _Table | None = None

    @property
    def fingerprint(self) -> Fingerprint:
        """Name, content hash and dimension; of the shipped table without loading it.

        Raises:
            ConfigError: The model cannot be loaded.
        """
        return SHIPPED if self.model is None else self._loaded().fingerprint

    def embed(self, texts: Sequence[str], /) -> Vectors:
        """float32 [n, 256] (or the model's own dimension), unit rows; the same row alone or in a batch.

        Raises:
            ConfigError: The model cannot be loaded, or `texts` is not a list of strings.
        """
        table = self._loaded()
        vectors = np.zeros((len(texts), table.fingerprint.dimension), dtype=np.float32)
        for row, text in zip(vectors, _checked(texts, MAX_CHARS), strict=True):
            table.add_to(row, text)
        return normalise(vectors)

    def _loaded(self) -> _Table:
        # No lock: two threads that load at once build the same table, and a lock would not survive a fork or a copy.
        if self._table is None:
            self._table = _load_table(self.model)
        return self._table

    def __repr__(self) -> str:
        """The model's name."""
        return f"StaticEmbedder({'' if self.model is None else repr(str(self.model))})"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """A model2vec model, unpacked: its own `encode` changes the shared tokenizer at every call, which threads forbid."""

    tokenizer: Any
    unknown: int | None
    vectors: npt.NDArray[Any]
    weights: npt.NDArray[np.float32] | None
    rows: npt.NDArray[np.int64] | None
    fingerprint: Fingerprint

    def add_to(self, vector: npt.NDArray[np.float32], text: str) -> None:
        """Adds the weighted vectors of the text's tokens."""
        ids = np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)
        if self.unknown is not None:
            ids = ids[ids != self.unknown]
        vectors = self.vectors[ids if self.rows is None else self.rows[ids]].astype(np.float32)
        if self.weights is not None:
            vectors *= self.weights[ids, None]
        vector += vectors.sum(axis=0)  # no BLAS: a query must not wake a thread pool


def _load_table(model: str | Path | None) -> _Table:
    """Reads a folder or a hub model through model2vec; `None` = the shipped one."""
    from model2vec import StaticModel

    try:
        folder = SHIPPED_FOLDER if model is None else _folder_of(model)
        loaded = StaticModel.from_pretrained(folder)
        revision = _content_hash([next(folder.rglob("model.safetensors")), next(folder.rglob("tokenizer.json"))])
    except Exception as error:
        # model2vec, safetensors, tokenizers and the hub each have their own errors, down to plain Exception.
        msg = f"cannot load the model2vec model {str(model)!r}: {type(error).__name__}: {error}"
        raise ConfigError(msg) from error
    loaded.tokenizer.no_truncation()
    loaded.tokenizer.no_padding()
    mapping = loaded.token_mapping
    return _Table(
        tokenizer=loaded.tokenizer,
        unknown=loaded.unk_token_id,
        vectors=loaded.embedding,
        weights=None if loaded.weights is None else np.asarray(loaded.weights, dtype=np.float32),
        rows=None if mapping is None else np.asarray(mapping, dtype=np.int64),
        fingerprint=Fingerprint(
            name=SHIPPED.name if model is None else Path(model).name,
            revision=revision,
            dimension=int(loaded.embedding.shape[1]),
        ),
    )


def _folder_of(model: str | Path) -> Path:
    """The folder itself, or the folder of the hub's snapshot (model2vec depends on huggingface-hub)."""
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(model), allow_patterns=["*.json", "*.safetensors"]))


class SentenceTransformerEmbedder:
    """A sentence-transformers model (extra `sentence-transformers`), loaded at first use.

    Args:
        model_name: A name on the model hub, or a folder.
        revision: The commit to pin; `None` = whatever the hub holds. Pin it in production: it is part of the fingerprint.
        device: Where torch runs it.
    """

    def __init__(
        self,
        model_name: str | Path = "sentence-transformers/all-MiniLM-L6-v2",
        *,
        revision: str | None = None,
        device: str = "cpu",
    ) -> None:
        self.model_name = model_name
        self.revision = revision
        self.device = device
        self._model: Any = None
        self._fingerprint: Fingerprint | None = None

    @property
    def fingerprint(self) -> Fingerprint:
        """Name, commit (or content hash of a folder) and dimension; loads the model.

        Raises:
            MissingExtraError: sentence-transformers is not installed.
        """
        if self._fingerprint is None:
            model = self._loaded()
            self._fingerprint = Fingerprint(
                name=Path(self.model_name).name if Path(self.model_name).is_dir() else str(self.model_name),
                revision=self.revision or self._found_revision(model),
                dimension=int(_dimension_of(model)),
            )
        return self._fingerprint

    def embed(self, texts: Sequence[str], /) -> Vectors:
        """float32 [n, d], unit rows.

        Raises:
            MissingExtraError: sentence-transformers is not installed.
        """
        model = self._loaded()
        dimension = self.fingerprint.dimension
        return _embed_known(lambda known: model.encode(known, show_progress_bar=False), texts, dimension, str(self.model_name))

    def _loaded(self) -> Any:
        if self._model is None:
            try:
                from sentence_transformers import SentenceTransformer
            except ImportError as error:
                raise MissingExtraError("SentenceTransformerEmbedder", "sentence-transformers") from error
            self._model = SentenceTransformer(str(self.model_name), revision=self.revision, device=self.device)
        return self._model

    def _found_revision(self, model: Any) -> str:
        if Path(self.model_name).is_dir():
            return _content_hash(sorted(Path(self.model_name).rglob("*.safetensors")))
        config = getattr(getattr(model[0], "auto_model", None), "config", None)
        return str(getattr(config, "_commit_hash", None) or "unpinned")

    def __repr__(self) -> str:
        """The model's name."""
        return f"SentenceTransformerEmbedder({str(self.model_name)!r})"


def _dimension_of(model: Any) -> int:
    """Newer releases of sentence-transformers renamed the method, and warn at the old name."""
    named = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    return int(named())


class CallableEmbedder:
    """Any function from a list of texts to a matrix; blank texts are not sent to it.

    Args:
        function: list of n strings -> [n, dimension], any array-like; its rows need not have unit length.
        name: What the vectors are called.
        revision: Which version of them this is; change it whenever the function gives other vectors.
        dimension: Length of a vector.

    >>> lengths = CallableEmbedder(lambda texts: [[len(text), 1.0] for text in texts], name="length", revision="1", dimension=2)
    >>> lengths.embed(["abc", ""]).round(2).tolist()
    [[0.949999988079071, 0.3199999928474426], [0.0, 0.0]]
    """

    def __init__(self, function: Callable[[list[str]], npt.ArrayLike], *, name: str, revision: str, dimension: int) -> None:
        self.function = function
        self.fingerprint = Fingerprint(name=name, revision=revision, dimension=dimension)

    def embed(self, texts: Sequence[str], /) -> Vectors:
        """float32 [n, dimension], unit rows.

        Raises:
            ConfigError: The function's result has another shape, or holds no numbers.
            DataError: It holds NaN or infinity.
        """
        return _embed_known(self.function, texts, self.fingerprint.dimension, self.fingerprint.name)

    def __repr__(self) -> str:
        """The fingerprint."""
        return f"CallableEmbedder({self.fingerprint})"


def as_embedder(embedder: Embedder | None) -> Embedder:
    """The embedder itself; for `None`, the shipped static table, which all callers share.

    Raises:
        ConfigError: It is no embedder.
    """
    if embedder is None:
        return _shipped()
    # Not isinstance: a run-time protocol check would read `fingerprint`, and with it the weights.
    if callable(getattr(embedder, "embed", None)) and inspect.getattr_static(embedder, "fingerprint", None) is not None:
        return embedder
    msg = (
        f"{type(embedder).__name__} is no embedder (it needs embed(texts) and fingerprint): "
        "wrap a function as CallableEmbedder(function, name=..., revision=..., dimension=...)"
    )
    raise ConfigError(msg)


@functools.cache
def _shipped() -> StaticEmbedder:
    return StaticEmbedder()


def normalise(vectors: npt.ArrayLike, /) -> Vectors:
    """Scales rows to length 1: float32 [n, d], contiguous; zero rows stay zero.

    Raises:
        ConfigError: It is no matrix of numbers.
        DataError: It holds NaN or infinity.

    >>> normalise([[3, 4], [0, 0]]).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    try:
        rows = np.asarray(vectors)
        rows = rows if rows.dtype == np.float32 else rows.astype(np.float64)
    except (TypeError, ValueError) as error:
        msg = f"vectors must be a matrix of numbers: {error}"
        raise ConfigError(msg) from error
    if rows.ndim != 2:
        msg = f"vectors must be a matrix [n, d], not of shape {rows.shape}"
        raise ConfigError(msg)
    # The largest entry first, so that squares neither overflow nor vanish.
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    if not np.isfinite(largest).all():
        broken = np.flatnonzero(~np.isfinite(largest[:, 0]))
        msg = f"{len(broken)} of {len(rows)} vectors hold NaN or infinity, the first at row {broken[0]}"
        raise DataError(msg)
    scaled = rows / np.where(largest == 0.0, 1.0, largest)
    lengths = np.sqrt(np.einsum("nd,nd->n", scaled, scaled))[:, None]
    return np.ascontiguousarray(scaled / np.where(lengths == 0.0, 1.0, lengths), dtype=np.float32)


def _embed_known(function: Callable[[list[str]], npt.ArrayLike], texts: Sequence[str], dimension: int, name: str) -> Vectors:
    """Calls the function on the texts that are not blank, and checks what comes back."""
    checked = _checked(texts)
    known = [row for row, text in enumerate(checked) if text.strip()]
    vectors = np.zeros((len(checked), dimension), dtype=np.float32)
    if known:
        found = normalise(function([checked[row] for row in known]))
        if found.shape != (len(known), dimension):
            msg = f"embedder {name!r} gave an array of shape {found.shape} for {len(known)} texts, not {(len(known), dimension)}"
            raise ConfigError(msg)
        vectors[known] = found
    return vectors


def _checked(texts: Sequence[object], limit: int | None = None) -> list[str]:
    """The first `limit` characters of each text, encodable: a lone surrogate becomes U+FFFD, as in `Query`."""
    if isinstance(texts, str):
        msg = "embed takes a list of texts, not one string"
        raise ConfigError(msg)
    found = []
    for whole in texts:
        if not isinstance(whole, str):
            msg = f"embed takes strings, not {type(whole).__name__}"
            raise ConfigError(msg)
        text = whole[:limit]
        try:
            text.encode()
        except UnicodeEncodeError:
            found.append(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
        else:
            found.append(text)
    return found


def _content_hash(files: Sequence[Path]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
