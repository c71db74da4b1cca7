"""Any LangChain `Embeddings` as an embedder of agentroute."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.embeddings import Embeddings

from agentroute.embedders import CallableEmbedder
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
        self._embedder: CallableEmbedder | None = None

    @property
    def fingerprint(self) -> Fingerprint:
        """Name, revision and dimension."""
        return self._made().fingerprint

    def embed(self, texts: Sequence[str], /) -> Vectors:
        """Embeds texts.

        Returns:
            float32 [n, d], rows of length 1; a zero row for a blank text, which the provider is not asked about.

        Raises:
            ConfigError: The vectors have another length than declared.
            DataError: They hold NaN or infinity.
        """
        return self._made().embed(texts)

    def __repr__(self) -> str:
        """Name and revision: the dimension might have to be asked for."""
        return f"LangChainEmbedder({self.name}@{self.revision})"

    def _made(self) -> CallableEmbedder:
        if self._embedder is None:
            if self.dimension is None:
                self.dimension = len(self.embeddings.embed_documents(["dimension"])[0])
            self._embedder = CallableEmbedder(
                self.embeddings.embed_documents, name=self.name, revision=self.revision, dimension=self.dimension
            )
        return self._embedder
