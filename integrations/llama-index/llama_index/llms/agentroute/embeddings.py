"""Any LlamaIndex `BaseEmbedding` as an embedder of agentroute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding

from agentroute.embedders import CallableEmbedder
from agentroute.errors import ConfigError
from agentroute.types import Fingerprint, Vectors

__all__ = ["LlamaIndexEmbedder"]


class LlamaIndexEmbedder:
    """Adapts a LlamaIndex `BaseEmbedding` to agentroute's `Embedder` protocol.

    ```python
    embedder = LlamaIndexEmbedder(OpenAIEmbedding(model="text-embedding-3-small"), revision="1")
    router = Router(pool, embedder=embedder)
    ```

    Logged and new queries are both embedded as texts, many at once, and never as queries: some models write an instruction
    before what they take for a query, and vectors of the two sides do not compare. For the same reason the model's
    `embeddings_cache` is left aside: LlamaIndex keeps a text and a query of the same words there under one key, so that a
    retriever that shares it would be handed the router's vectors.

    LlamaIndex counts what is embedded here like any other embedding, in its events and in `TokenCountingHandler`.

    Args:
        embed_model: The LlamaIndex embedding model.
        name: The embedder's name, which the saved router will demand again; `None` = the model's `model_name`.
        revision: Version of its weights; change it when the provider changes the model.
        dimension: Length of its vectors; `None` = found out by embedding one word when it is first asked for.

    Raises:
        ConfigError: `embed_model` is no `BaseEmbedding`, or has no name of its own and none is given.
    """

    def __init__(
        self, embed_model: BaseEmbedding, *, name: str | None = None, revision: str, dimension: int | None = None
    ) -> None:
        if not isinstance(embed_model, BaseEmbedding):
            raise ConfigError(
                f"embed_model must be a LlamaIndex BaseEmbedding, not {type(embed_model).__name__}: "
                "resolve_embed_model() of llama_index.core.embeddings makes one of what LlamaIndex knows by other names"
            )
        self.embed_model = embed_model
        self.name = name or _own_name(embed_model)
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
            float32 [n, d], rows of length 1; a zero row for a blank text, which the model is not asked about.

        Raises:
            ConfigError: The vectors have another length than declared.
            DataError: They hold NaN or infinity.
        """
        return self._made().embed(texts)

    def __repr__(self) -> str:
        """Name and revision: the dimension might have to be asked for."""
        return f"LlamaIndexEmbedder({self.name}@{self.revision})"

    def __getstate__(self) -> dict[str, Any]:
        """The settings, with a copy of the model: pickling a LlamaIndex component takes from it what cannot be pickled."""
        return {**self.__dict__, "embed_model": self.embed_model.model_copy(), "_embedder": None}

    def _made(self) -> CallableEmbedder:
        if self._embedder is None:
            model = self.embed_model
            if model.embeddings_cache is not None:
                model = model.model_copy(update={"embeddings_cache": None})
            if self.dimension is None:
                self.dimension = len(model.get_text_embedding_batch(["dimension"])[0])
            self._embedder = CallableEmbedder(
                model.get_text_embedding_batch, name=self.name, revision=self.revision, dimension=self.dimension
            )
        return self._embedder


def _own_name(embed_model: BaseEmbedding) -> str:
    """The model's name; LlamaIndex calls one without a name "unknown"."""
    name = embed_model.model_name
    if not name or name == "unknown":
        raise ConfigError(
            f"this {type(embed_model).__name__} has no model_name: give name=, which a saved router will demand again"
        )
    return name
