"""Which queries of a log can be routed on: those with a text, and those with a vector of the embedder in use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from agentroute.errors import DataError
from agentroute.types import Fingerprint, Query, Vectors

__all__ = ["Usable", "bare", "merged", "skipped", "usable"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Usable:
    """What is left of a log's queries.

    Attributes:
        kept: bool [n], queries with a text or a fitting vector.
        queries: The kept queries, without vectors but where a vector is all there is and `embeddings` is `None`.
        embeddings: float32 [kept, d] when each kept query has a fitting vector, else `None`.
        fingerprint: The embedder that made `embeddings`.
    """

    kept: npt.NDArray[np.bool_]
    queries: tuple[Query, ...]
    embeddings: Vectors | None = None
    fingerprint: Fingerprint | None = None


def merged(known: Query, new: Query) -> Query:
    """One query of two that share a key: the text of either, and the newer vector.

    Raises:
        DataError: They have different texts.
    """
    if known.text and new.text and known.text != new.text:
        raise DataError(f"query {new.id!r} has another text than before: give each query its own id")
    changes: dict[str, Any] = {}
    if new.text and not known.text:
        changes = {"text": new.text}
    # Without a fingerprint nobody could say what a vector may be compared with.
    if new.embedding is not None and (new.fingerprint is not None or known.embedding is None):
        changes |= {"embedding": new.embedding, "fingerprint": new.fingerprint}
    return replace(known, **changes) if changes else known


def bare(query: Query) -> Query:
    """The query without its embedding."""
    return query if query.embedding is None else replace(query, embedding=None, fingerprint=None)


def usable(queries: Sequence[Query], wanted: Fingerprint | None) -> Usable:
    """The queries that have a text, or a vector of one embedder: the wanted one, else the most frequent.

    Raises:
        DataError: There are none, or vectors cannot come from their embedder.
    """
    made = Counter(query.fingerprint for query in queries if query.embedding is not None and query.fingerprint is not None)
    fingerprint = wanted or (made.most_common(1)[0][0] if made else None)
    fits = np.array([fingerprint is not None and fitting(query, fingerprint) for query in queries])
    withheld = np.array([query.withheld for query in queries])
    kept = fits | ~withheld
    if not kept.any():
        found = ", ".join(sorted(map(str, made))) or "none"
        raise DataError(
            f"there is nothing to route on: the log kept no text of its {len(queries)} queries, and no vector of "
            f"{fingerprint or 'any embedder'} (embedders of its vectors: {found}). Log queries with their embedding "
            "(Router.embed), or open the log with store_prompts=True"
        )
    left = [queries[i] for i in np.flatnonzero(kept).tolist()]
    if fits[kept].all():
        vectors = np.stack([query.embedding for query in left if query.embedding is not None])
        return Usable(kept=kept, queries=tuple(map(bare, left)), embeddings=vectors, fingerprint=fingerprint)
    # The texts can be embedded anew; where there is none, the vector must not be lost meanwhile.
    return Usable(kept=kept, queries=tuple(query if query.withheld else bare(query) for query in left))


def fitting(query: Query, fingerprint: Fingerprint) -> bool:
    """Whether a query has a vector of that embedder, and one that can be compared.

    Raises:
        DataError: Its vector has another length than the embedder gives.
    """
    if query.embedding is None or query.fingerprint != fingerprint:
        return False
    if query.embedding.shape != (fingerprint.dimension,):
        raise DataError(f"an embedding of shape {query.embedding.shape} cannot come from {fingerprint}: it is of another length")
    return bool(np.isfinite(query.embedding).all())


def skipped(kept: npt.NDArray[np.bool_], fingerprint: Fingerprint | None) -> str:
    """What to tell the user about the queries that are not used."""
    number = int(np.count_nonzero(~kept))
    return (
        f"{number} of {len(kept)} queries are left out: the log kept no text of them, and no vector of "
        f"{fingerprint or 'the embedder of the others'}. Log queries with their embedding (Router.embed), or open the log with "
        "store_prompts=True"
    )
