"""Any LangChain `Embeddings` as an embedder of agentroute."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from langchain_core.embeddings import Embeddings

from agentroute.errors import ConfigError
from agentroute.types import Fingerprint, Vectors

__all__ = ["LangChainEmbedder"]


class LangChainEmbedder:
    """Adapts a LangChain `Embeddings` to agentroute's `Embedder` protocol.

    ```python
    embedder = LangChainEmbedder(OpenAIEmbeddings(model="text-embedding-3-small"), name="text-embedding-3-small", revision="1")
    router = Router(pool, embedder=embedder)
    ```

    Args:
        embeddings: The LangChain embeddings. Queries are embedded as documents, so that stored and new ones compare.
        name: The embedder's name, which the saved router will demand again.
        revision: Version of its weights; change it when the provider changes the model.
        dimension: Length of its vectors; `None` = found out by embedding one word when it is first asked for.
    """

    def __init__(self, embeddings: Embeddings, *, name: str, revision: str, dimension: int | None = None) -> None:
        self.embeddings = embeddings
        self.name = name
        self.revision = revision
        self.dimension = dimension

    @property
    def fingerprint(self) -> Fingerprint:
        """Name, revision and dimension."""
        if self.dimension is None:
            self.dimension = len(self.embeddings.embed_documents(["dimension"])[0])
        return Fingerprint(name=self.name, revision=self.revision, dimension=self.dimension)

    def embed(self, texts: Sequence[str], /) -> Vectors:
        """Embeds texts.

        Returns:
            float32 [n, d], rows of length 1; a zero row for a blank text, which the provider is not asked about.

        Raises:
            ConfigError: The vectors have another length than declared, or are not finite.
        """
        speaking = [row for row, text in enumerate(texts) if text.strip()]
        dimension = self.fingerprint.dimension
        vectors = np.zeros((len(texts), dimension), dtype=np.float32)
        if not speaking:
            return vectors
        found = np.asarray(self.embeddings.embed_documents([texts[row] for row in speaking]), dtype=np.float64)
        if found.shape != (len(speaking), dimension):
            raise ConfigError(f"{self.name!r} gave vectors of shape {found.shape}, not {(len(speaking), dimension)}")
        if not np.isfinite(found).all():
            raise ConfigError(f"{self.name!r} gave a vector that is not finite")
        # Scaled in float64, and by the largest part first: squares of huge parts would overflow.
        found /= np.maximum(np.abs(found).max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        vectors[speaking] = found / np.where(lengths > 0, lengths, 1.0)
        return vectors
