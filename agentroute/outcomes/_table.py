"""Outcomes as dense arrays: what estimators learn from and evaluations score."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError, EmbedderMismatchError, OutcomesSkippedWarning, UnknownModelError
from agentroute.outcomes._cells import SAMPLES, averaged, gathered, latest
from agentroute.outcomes._log import OutcomeLog
from agentroute.outcomes._readers import EARLIEST, LATEST, Parts, read_csv, read_jsonl, read_parquet
from agentroute.outcomes._vectors import Usable, bare, skipped, usable
from agentroute.types import Fingerprint, Matrix, Outcome, Price, Query, Vectors

__all__ = ["OutcomeTable"]


def _unknown() -> npt.NDArray[np.float64]:
    return np.empty(0)


def _undeclared() -> npt.NDArray[np.bool_]:
    return np.empty(0, dtype=np.bool_)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutcomeTable:
    """Queries by models: what is known of every answer. Arrays are not to be changed in place.

    Attributes:
        queries: The n queries, one a row, without their embeddings; only where a text is withheld and `embeddings` is `None`
            does a query carry its own.
        models: The m model ids, one a column.
        quality: float64 [n, m] in [0, 1]; NaN = not observed.
        cost: float64 [n, m], USD; NaN = unknown. Left out = all unknown.
        latency: float64 [n, m], seconds; NaN = unknown. Left out = all unknown.
        embeddings: float32 [n, d], or `None` when they are to be made from the texts.
        fingerprint: The embedder that made `embeddings`; given exactly when they are.
        at: float64 [n], Unix seconds of the latest outcome; NaN = unknown. Left out = all unknown.
        withheld: bool [n], whether the log kept no text of the query, so that it cannot be embedded anew. Left out = as the
            queries say of themselves.
        samples: float64 [n, m], how many outcomes each quality is the mean of: 1 or more where one is known, 0 where none is.
            The luck that a score carries falls with them. Left out (or 0, or NaN) = 1 for each quality that is known.

    Raises:
        DataError: The table is empty, or its arrays are misshapen or hold values out of range.
    """

    queries: tuple[Query, ...]
    models: tuple[str, ...]
    quality: Matrix
    cost: Matrix = field(default_factory=_unknown)
    latency: Matrix = field(default_factory=_unknown)
    embeddings: Vectors | None = None
    fingerprint: Fingerprint | None = None
    at: npt.NDArray[np.float64] = field(default_factory=_unknown)
    withheld: npt.NDArray[np.bool_] = field(default_factory=_undeclared)
    samples: Matrix = field(default_factory=_unknown)

    def __post_init__(self) -> None:
        """Checks shapes and ranges once, so that nothing that learns from a table has to."""
        n, m = len(self.queries), len(self.models)
        if not n or not m:
            raise DataError("there are no outcomes to learn from: log some, or read a file of them, then try again")
        if len(set(self.models)) < m:
            raise DataError(f"models {list(self.models)!r} name one model twice: give each its own column")
        object.__setattr__(self, "queries", tuple(self.queries))
        object.__setattr__(self, "models", tuple(self.models))
        matrices = dict.fromkeys(("quality", "cost", "latency", "samples"), (n, m))
        for name, shape in {**matrices, "at": (n,)}.items():
            array = np.asarray(getattr(self, name), dtype=np.float64)
            if not array.size and name != "quality":
                array = np.full(shape, np.nan)
            if array.shape != shape:
                raise DataError(f"{name} has the shape {array.shape}, not {shape}: one row a query, one column a model")
            object.__setattr__(self, name, array)
        for name, top in (("quality", 1.0), ("cost", math.inf), ("latency", math.inf)):
            self._check_range(name, top)
        if ((self.at < EARLIEST) | (self.at > LATEST)).any():
            raise DataError("at holds a time that no calendar has: give Unix seconds, or NaN when unknown")
        self._check_samples()
        self._check_withheld()
        self._check_embeddings()

    def _check_withheld(self) -> None:
        said = [query.withheld for query in self.queries]
        withheld = np.asarray(self.withheld if len(self.withheld) else said, dtype=np.bool_)
        if withheld.shape != (len(said),):
            raise DataError(f"withheld has the shape {withheld.shape}, not ({len(said)},): one row a query")
        if withheld.tolist() != said:
            marked = zip(self.queries, withheld.tolist(), strict=True)
            object.__setattr__(self, "queries", tuple(replace(query, withheld=mark) for query, mark in marked))
            withheld = np.array([query.withheld for query in self.queries])  # a query with a text is not
        object.__setattr__(self, "withheld", withheld)

    def _check_range(self, name: str, top: float) -> None:
        values = getattr(self, name)
        bad = np.argwhere((values < 0) | (values > top) | np.isinf(values))
        if len(bad):
            raise self._wrong(bad[0], name, f"outside [0, {top:g}]: rescale it; NaN = not observed")

    def _check_samples(self) -> None:
        bad = np.argwhere((self.samples < 0) | np.isinf(self.samples) | (np.nan_to_num(self.samples) % 1 != 0))
        if len(bad):
            raise self._wrong(bad[0], "samples", "no count: give whole numbers, 0 where nothing was observed")
        counts = np.where(np.isnan(self.quality), 0.0, np.fmax(self.samples, 1.0))
        object.__setattr__(self, "samples", counts)

    def _wrong(self, cell: npt.NDArray[np.int64], name: str, what: str) -> DataError:
        i, j = map(int, cell)
        query, value = self.queries[i], getattr(self, name)[i, j]
        return DataError(f"row {i} (query {query.id or query.text[:40]!r}), model {self.models[j]!r}: {name} {value:g} is {what}")

    def _check_embeddings(self) -> None:
        if (self.embeddings is None) != (self.fingerprint is None):
            raise DataError("embeddings and the fingerprint of their embedder go together: give both, or neither")
        if self.embeddings is None or self.fingerprint is None:
            return
        vectors = np.ascontiguousarray(self.embeddings, dtype=np.float32)
        shape = (len(self.queries), self.fingerprint.dimension)
        if vectors.shape != shape:
            raise DataError(f"embeddings have the shape {vectors.shape}, not {shape} as of {self.fingerprint}")
        if not np.isfinite(vectors).all():
            raise DataError("embeddings hold NaN or infinite values: embed the queries again")
        object.__setattr__(self, "embeddings", vectors)

    @classmethod
    def from_log(
        cls,
        log: OutcomeLog,
        /,
        *,
        models: Iterable[str] | None = None,
        prices: Mapping[str, Price] | None = None,
        fingerprint: Fingerprint | None = None,
        vectors: bool = True,
    ) -> Self:
        """The outcomes of a log; see `from_outcomes`."""
        return cls._build(log, models=models, prices=prices, fingerprint=fingerprint, vectors=vectors)

    @classmethod
    def from_outcomes(
        cls,
        outcomes: Iterable[Outcome],
        /,
        *,
        models: Iterable[str] | None = None,
        prices: Mapping[str, Price] | None = None,
        fingerprint: Fingerprint | None = None,
        vectors: bool = True,
    ) -> Self:
        """A table of outcomes, rows (queries by their `key()`) and columns in order of first appearance.

        Several outcomes of one query and model are averaged, each measure over those that know it, and the qualities are counted
        (`samples`). A failed call counts with its cost and latency; its quality is unknown unless it was logged (log 0 where a
        failure should count against the model).

        Embeddings are kept when one embedder has made them for all queries that are kept. Otherwise they are to be made anew
        from the texts, which `embedded` does. Queries of which there is neither a text nor a vector of that embedder are left
        out, with an `OutcomesSkippedWarning`.

        Args:
            outcomes: Any outcomes.
            models: The columns; outcomes of other models are left out. `None` = all models that appear.
            prices: Model id → price, for the outcomes that have a usage but no cost.
            fingerprint: The embedder whose vectors are wanted; `None` = the one that made most.
            vectors: `False` = no vectors are needed: queries are kept whether or not they have a text or a vector, and the
                table has no embeddings.

        Raises:
            DataError: There are no outcomes, no query has a text or a fitting vector, or two queries share an id.
        """
        return cls._build(outcomes, models=models, prices=prices, fingerprint=fingerprint, vectors=vectors)

    @classmethod
    def _build(
        cls,
        outcomes: Iterable[Outcome],
        *,
        models: Iterable[str] | None,
        prices: Mapping[str, Price] | None,
        fingerprint: Fingerprint | None,
        vectors: bool,
    ) -> Self:
        known = gathered(outcomes, models, prices)
        queries = known.queries
        if vectors:
            found = usable(queries, fingerprint)
            if not found.kept.all():
                # The caller of from_log or from_outcomes stands two frames above.
                warnings.warn(skipped(found.kept, found.fingerprint or fingerprint), OutcomesSkippedWarning, stacklevel=3)
        else:
            found = Usable(kept=np.ones(len(queries), dtype=np.bool_), queries=tuple(map(bare, queries)))
        cells = averaged(known.cells, known.measures, known.samples, (len(queries), len(known.models)))
        kept: Parts = {name: values[found.kept] for name, values in cells.items()}
        return cls(
            queries=found.queries,
            models=known.models,
            embeddings=found.embeddings,
            fingerprint=found.fingerprint,
            at=latest(known.rows, known.at, len(queries))[found.kept],
            **kept,
        )

    @classmethod
    def from_jsonl(
        cls, path: str | Path, /, *, columns: Mapping[str, str] | None = None, prices: Mapping[str, Price] | None = None
    ) -> Self:
        r"""Reads a file of JSON lines (plain, or gzipped when its name ends in `.gz`), one line an answer.

        Columns: `prompt` (or `text`, `query`), `model` and `quality` (or `score`), which must be there; `query_id` (`id`),
        `cost_usd` (`cost`), `latency_s` (`latency`), `input_tokens`, `output_tokens`, `cache_read_tokens`,
        `cache_write_tokens`, `task`, `role`, `at` (ISO 8601 or Unix seconds), `tags` (an object), `tag:<name>` and `samples` (of
        so many answers the row is the mean), which may be. Others are ignored. `null` is unknown.

        Args:
            path: The file.
            columns: What the file calls a column: our name → its name.
            prices: Model id → price, for the lines that have input and output tokens but no cost.

        Raises:
            DataError: What it holds cannot be right; the message names the line.
            StorageError: It cannot be read.

        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "log.jsonl")
        ...     _ = file.write_text('{"prompt": "2 + 2?", "model": "small", "score": 1, "cost_usd": null}\n')
        ...     OutcomeTable.from_jsonl(file)
        OutcomeTable(1 queries, 1 models, 100% observed)
        """
        return cls._of(read_jsonl(path, columns, prices))

    @classmethod
    def from_csv(
        cls, path: str | Path, /, *, columns: Mapping[str, str] | None = None, prices: Mapping[str, Price] | None = None
    ) -> Self:
        """Reads a CSV file with a header; see `from_jsonl`. An empty field is unknown, `tags` is a JSON object."""
        return cls._of(read_csv(path, columns, prices))

    @classmethod
    def from_parquet(
        cls, path: str | Path, /, *, columns: Mapping[str, str] | None = None, prices: Mapping[str, Price] | None = None
    ) -> Self:
        """Reads a Parquet file (extra `parquet`); see `from_jsonl`. Null and NaN are unknown."""
        return cls._of(read_parquet(path, columns, prices))

    @classmethod
    def _of(cls, parts: Parts) -> Self:
        return cls(**parts)

    def split(self, test: float = 0.3, *, seed: int = 0) -> tuple[Self, Self]:
        """Splits by query into a part to learn from and a part to judge by.

        The same set of queries is split in the same way whatever the order of its rows; rows of one query stay together.

        Args:
            test: Share of the queries in the second part, in (0, 1); each part gets one query at least.
            seed: Another seed gives another split.

        Raises:
            ConfigError: `test` is not in (0, 1).
            DataError: There is one query only.
        """
        if not 0.0 < test < 1.0:
            raise ConfigError(f"test={test!r}: give the share of queries to hold out, between 0 and 1")
        keys = [query.key() for query in self.queries]
        unique = sorted(set(keys))
        if len(unique) == 1:
            raise DataError("a table of one query cannot be split: log more queries")
        size = min(max(round(test * len(unique)), 1), len(unique) - 1)
        held = {unique[i] for i in np.random.default_rng(seed).permutation(len(unique))[:size]}
        mask = np.array([key in held for key in keys])
        return self.take(~mask), self.take(mask)

    def take(self, rows: Sequence[int] | npt.NDArray[Any], /) -> Self:
        """The table of some rows, by numbers or by a mask of booleans [n]; numbers may repeat."""
        chosen = np.arange(len(self))[np.asarray(rows) if len(rows) else np.empty(0, dtype=np.int64)]
        return replace(
            self,
            queries=tuple(self.queries[i] for i in chosen),
            quality=self.quality[chosen],
            cost=self.cost[chosen],
            latency=self.latency[chosen],
            embeddings=None if self.embeddings is None else self.embeddings[chosen],
            at=self.at[chosen],
            withheld=self.withheld[chosen],
            samples=self.samples[chosen],
        )

    def select(self, models: Iterable[str], /) -> Self:
        """The table of some models, in the given order; all queries stay.

        Raises:
            UnknownModelError: The table does not hold one of them.
        """
        index = {model: j for j, model in enumerate(self.models)}
        names = tuple(models)
        for name in names:
            if name not in index:
                raise UnknownModelError(name, self.models, where="the table")
        chosen = np.array([index[name] for name in names], dtype=np.int64)
        arrays = {name: getattr(self, name)[:, chosen] for name in ("quality", "cost", "latency", "samples")}
        return replace(self, models=names, **arrays)

    def with_embeddings(self, vectors: Vectors, fingerprint: Fingerprint, /) -> Self:
        """The same table with the embeddings of its queries, float32 [n, d], and the embedder that made them."""
        return replace(self, queries=tuple(map(bare, self.queries)), embeddings=vectors, fingerprint=fingerprint)

    def embedded(self, embed: Callable[[list[str]], Vectors], fingerprint: Fingerprint, /) -> Self:
        """The same table with the vectors of one embedder: those that are there, and the others made from the texts.

        Queries that have neither are left out, with an `OutcomesSkippedWarning`.

        Args:
            embed: Texts to vectors, float32 [k, d] (`Embedder.embed`).
            fingerprint: The embedder that it belongs to.

        Raises:
            EmbedderMismatchError: No query has either; the vectors are another embedder's.
        """
        if self.fingerprint == fingerprint:
            return self
        own = np.array([query.embedding is not None and query.fingerprint == fingerprint for query in self.queries])
        kept = own | ~self.withheld
        if not kept.any():
            raise EmbedderMismatchError(self.fingerprint, fingerprint)
        if not kept.all():
            warnings.warn(skipped(kept, fingerprint), OutcomesSkippedWarning, stacklevel=2)
        table, own = self.take(kept), own[kept]
        vectors = np.empty((len(table), fingerprint.dimension), dtype=np.float32)
        if not own.all():
            vectors[~own] = embed([table.queries[i].text for i in np.flatnonzero(~own)])
        for i in np.flatnonzero(own):
            vectors[i] = table.queries[i].embedding
        return table.with_embeddings(vectors, fingerprint)

    def outcomes(self) -> Iterator[Outcome]:
        """One outcome for each cell of which something is known, row by row.

        Its id follows from its content, so that a log that is given the same table twice stores it once. Where its quality is
        the mean of several samples, the metadata says of how many, and `from_outcomes` reads it there.
        """
        known = ~(np.isnan(self.quality) & np.isnan(self.cost) & np.isnan(self.latency))
        for i, query in enumerate(self.queries):
            at = None if math.isnan(self.at[i]) else datetime.fromtimestamp(float(self.at[i]), UTC)
            if self.embeddings is not None:
                query = replace(query, embedding=self.embeddings[i], fingerprint=self.fingerprint)  # noqa: PLW2901
            for j in np.flatnonzero(known[i]):
                measures = (_none(self.quality[i, j]), _none(self.cost[i, j]), _none(self.latency[i, j]))
                repeated = {SAMPLES: int(self.samples[i, j])} if self.samples[i, j] > 1 else {}
                content = repr((query.key(), self.models[j], measures, at, *repeated.values()))
                yield Outcome(
                    query=query,
                    model=self.models[j],
                    quality=measures[0],
                    cost=measures[1],
                    latency=measures[2],
                    at=at,
                    metadata=repeated,
                    id=hashlib.blake2b(content.encode(), digest_size=16).hexdigest(),
                )

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.queries)

    def __repr__(self) -> str:
        """Its size, and how much of it is observed."""
        observed = float(np.mean(~np.isnan(self.quality)))
        return f"OutcomeTable({len(self)} queries, {len(self.models)} models, {observed:.0%} observed)"


def _none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
