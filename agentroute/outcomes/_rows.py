"""Outcomes as rows of the database, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, overload

import numpy as np

from agentroute.errors import DataError
from agentroute.types import Fingerprint, Outcome, Query, Usage

__all__ = ["clean", "decode_fingerprint", "decode_outcome", "encode_outcome", "encode_query", "microseconds"]

_NANO = 1e9
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def encode_query(query: Query, salt: bytes, *, store_text: bool) -> tuple[Any, ...]:
    """The row of a query, without its embedder; its key leads, and its embedding and text stand last."""
    # Nothing but the salted hash says what the text was, even where the caller names queries.
    digest = replace(query, id=None).key(salt) if query.id is not None else query.key(salt)
    embedding = None
    if query.embedding is not None and query.fingerprint is not None:
        vector = np.ascontiguousarray(query.embedding, dtype="<f4")
        if vector.shape != (query.fingerprint.dimension,):
            raise DataError(f"an embedding of shape {vector.shape} cannot come from {query.fingerprint}")
        embedding = vector.tobytes()
    return (
        digest if query.id is None else clean(query.id),
        digest,
        1 if query.withheld else len(query.text),  # not 0, which says that there was no text
        clean(query.role),
        clean(query.task),
        _json(query.tags, "tags") if query.tags else None,
        embedding,
        query.text if store_text and not query.withheld else None,
    )


@overload
def clean(text: str) -> str: ...
@overload
def clean(text: None) -> None: ...
def clean(text: str | None) -> str | None:
    """The text with lone surrogates replaced, as `Query.text` has them: SQLite cannot carry them."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _json(value: Mapping[str, Any], what: str) -> str:
    try:
        return json.dumps(dict(value))  # ASCII, so that lone surrogates pass as escapes
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{what} must be plain JSON values: {error}") from error


def microseconds(at: datetime) -> int:
    """Microseconds since 1970 in UTC; a datetime without a zone is taken as local time, as Python takes it."""
    return (at.astimezone(UTC) - _EPOCH) // _MICROSECOND


def encode_outcome(outcome: Outcome) -> tuple[Any, ...]:
    """The row of an outcome, without its query.

    Raises:
        DataError: It holds something that cannot be stored.
    """
    nano = None if outcome.cost is None else round(outcome.cost * _NANO)
    if nano == 0 and outcome.cost:
        nano = 1  # the smallest that can be told from nothing
    if nano is not None and nano >= 2**63:
        raise DataError(
            f"cost={outcome.cost!r} of model {outcome.model!r} is more USD than a log can hold: give the cost of one call"
        )
    usage = outcome.usage
    tokens = (
        (None, None, None, None)
        if usage is None
        else tuple(map(int, (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens)))
    )
    return (
        clean(outcome.id),
        clean(outcome.model),
        clean(outcome.decision_id),
        int(outcome.attempt),
        _real(outcome.quality),
        nano,
        _real(outcome.latency),
        *tokens,
        clean(outcome.error),
        _real(outcome.propensity),
        clean(outcome.scorer),
        None if outcome.at is None else microseconds(outcome.at),
        _json(outcome.metadata, "metadata") if outcome.metadata else None,
    )


def _real(value: float | None) -> float | None:
    return None if value is None else float(value)  # SQLite does not know numpy's scalars


def decode_fingerprint(row: tuple[Any, ...]) -> Fingerprint:
    """The fingerprint of a row `(seq, name, revision, dimension)`."""
    return Fingerprint(name=row[1], revision=row[2], dimension=row[3])


def decode_outcome(row: tuple[Any, ...], embedders: Mapping[int, Fingerprint]) -> Outcome:
    """The outcome of a row as the log reads it: first its query's columns, then its own."""
    query_id, role, task, tags, embedder, embedding, text, withheld, *rest = row
    (
        id_,
        model,
        decision_id,
        attempt,
        quality,
        nano,
        latency,
        n_in,
        n_out,
        n_read,
        n_write,
        error,
        propensity,
        scorer,
        at,
        meta,
    ) = rest
    query = Query(
        text=text or "",
        id=query_id,
        role=role,
        task=task,
        tags=json.loads(tags) if tags else {},
        embedding=None if embedding is None else np.frombuffer(embedding, dtype="<f4"),
        fingerprint=None if embedder is None else embedders[embedder],
        withheld=bool(withheld),
    )
    usage = None
    if n_in is not None:
        usage = Usage(input_tokens=n_in, output_tokens=n_out, cache_read_tokens=n_read, cache_write_tokens=n_write)
    return Outcome(
        query=query,
        model=model,
        quality=quality,
        cost=None if nano is None else nano / _NANO,
        latency=latency,
        usage=usage,
        error=error,
        decision_id=decision_id,
        attempt=attempt,
        propensity=propensity,
        scorer=scorer,
        at=None if at is None else _EPOCH + timedelta(microseconds=at),
        metadata=json.loads(meta) if meta else {},
        id=id_,
    )
