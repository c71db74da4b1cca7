"""What every model answered, and what can be seen of an answer without knowing whether it is right."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError
from agentroute.outcomes import OutcomeTable
from agentroute.scorers._texts import Said, said, same_answer
from agentroute.types import Matrix

__all__ = ["AnswerTable", "Same", "agreements", "same_answer"]

Floats = npt.NDArray[np.float64]
Same = Callable[[str, str], bool | float]
"""Whether two answers say the same: a truth value, or a degree in [0, 1]."""

_IDS, _PROMPTS = ("query_id", "id"), ("prompt", "text", "query")


def _none() -> Floats:
    return np.empty(0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnswerTable:
    """An outcome table with what is known of every answer; what a cascade is fitted on. Arrays are not to be changed in place.

    Attributes:
        table: The n queries and m models with the quality, cost and latency of every answer.
        signals: Name → float64 [n, m], what was measured of each answer, such as a mean log-probability; NaN = missing. A
            scorer's `Score.signals` have these names when the cascade is live.
        agreement: float64 [n, m, m] in [0, 1], how far the answers of two models say the same; NaN = not both are known.
            `None` = answers were not compared.
        score_cost: float64 [n, m], USD of measuring the signals of each answer, on top of the call; NaN = unknown, so that
            the model's mean stands in. Left out = 0.

    Raises:
        DataError: An array is misshapen or holds values out of range.
    """

    table: OutcomeTable
    signals: Mapping[str, Matrix] = field(default_factory=dict)
    agreement: Floats | None = None
    score_cost: Matrix = field(default_factory=_none)

    def __post_init__(self) -> None:
        """Checks shapes and ranges once."""
        shape = self.table.quality.shape
        found = {}
        for name, values in self.signals.items():
            signal = np.asarray(values, dtype=np.float64)
            if signal.shape != shape:
                raise DataError(f"signal {name!r} has the shape {signal.shape}, not {shape}: one row a query, one column a model")
            if np.isinf(signal).any():
                raise DataError(f"signal {name!r} holds infinite values: give NaN where it is missing")
            found[str(name)] = signal
        object.__setattr__(self, "signals", found)
        cost = np.asarray(self.score_cost, dtype=np.float64)
        cost = cost if cost.size else np.zeros(shape)
        if cost.shape != shape:
            raise DataError(f"score_cost has the shape {cost.shape}, not {shape}: one row a query, one column a model")
        if (cost < 0).any() or np.isinf(cost).any():
            raise DataError("score_cost holds a cost below 0 or without end: give USD, or NaN when unknown")
        object.__setattr__(self, "score_cost", cost)
        if self.agreement is None:
            return
        agreement = np.asarray(self.agreement, dtype=np.float64)
        if agreement.shape != (*shape, shape[1]):
            raise DataError(
                f"agreement has the shape {agreement.shape}, not {(*shape, shape[1])}: models by models for each query"
            )
        if ((agreement < 0) | (agreement > 1)).any():
            raise DataError("agreement holds values outside [0, 1]: 1 = two answers say the same, 0 = they do not")
        if not np.array_equal(agreement, agreement.transpose(0, 2, 1), equal_nan=True):
            raise DataError("agreement is not symmetric: how far i agrees with j is how far j agrees with i")
        object.__setattr__(self, "agreement", agreement)

    @property
    def models(self) -> tuple[str, ...]:
        """Column names."""
        return self.table.models

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """Bool [n, m], whether the log holds an answer: its quality, its cost or a signal of it is known."""
        known = np.isfinite(self.table.quality) | np.isfinite(self.table.cost)
        for signal in self.signals.values():
            known |= np.isfinite(signal)
        return known

    @classmethod
    def from_jsonl(
        cls,
        path: str | Path,
        /,
        *,
        signals: Sequence[str] = ("logprob",),
        answer: str | None = "answer",
        same: Same | None = None,
        score_cost: str = "score_cost_usd",
        **options: Any,
    ) -> Self:
        r"""Reads a file of JSON lines (plain, or gzipped when its name ends in `.gz`), one line an answer.

        Columns are those of `OutcomeTable.from_jsonl`, and besides: each signal, under its own name or in an object `signals`;
        the answer's text; and `score_cost_usd`. Those that are absent are missing everywhere; scoring that no line of a model
        gives a cost is free. Of several lines for one query and model, signals and scoring costs are averaged, and the first
        answer counts.

        Args:
            path: The file.
            signals: Which signals to read. `"length"`, where the file has no such column, is ln(1 + characters of the answer).
            answer: The column of the text, by which agreement is found; `None` = answers are not compared.
            same: Whether two answers say the same; `None` = `same_answer`.
            score_cost: The column of what scoring the answer cost, in USD.
            options: `columns` and `prices` of `OutcomeTable.from_jsonl`.

        Raises:
            DataError: What it holds cannot be right.
            StorageError: It cannot be read.

        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "log.jsonl")
        ...     line = '{"prompt": "2 + 2?", "model": "%s", "score": 1, "logprob": -0.2, "answer": "%s"}\n'
        ...     _ = file.write_text(line % ("small", "4") + line % ("large", "It is 4."))
        ...     answers = AnswerTable.from_jsonl(file)
        >>> answers, float(answers.agreement[0, 0, 1])
        (AnswerTable(1 queries, 2 models, signals logprob, agreement known), 1.0)
        """
        table = OutcomeTable.from_jsonl(path, **options)
        names = options.get("columns") or {}
        with gzip.open(path, "rt", encoding="utf-8-sig") if Path(path).suffix == ".gz" else open(path, encoding="utf-8-sig") as f:  # noqa: PTH123  # gzip has no Path
            return cls._of(table, (json.loads(line) for line in f if line.strip()), names, signals, answer, same, score_cost)

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        /,
        *,
        signals: Sequence[str] = ("logprob",),
        answer: str | None = "answer",
        same: Same | None = None,
        score_cost: str = "score_cost_usd",
        **options: Any,
    ) -> Self:
        """Reads a Parquet file (extra `parquet`); see `from_jsonl`."""
        table = OutcomeTable.from_parquet(path, **options)  # says what is wrong, or that the extra is missing
        import pyarrow.parquet as pq

        with pq.ParquetFile(Path(path)) as file:
            rows = (row for batch in file.iter_batches() for row in batch.to_pylist())
            return cls._of(table, rows, options.get("columns") or {}, signals, answer, same, score_cost)

    @classmethod
    def _of(
        cls,
        table: OutcomeTable,
        rows: Iterable[Mapping[str, Any]],
        names: Mapping[str, str],
        signals: Sequence[str],
        answer: str | None,
        same: Same | None,
        score_cost: str,
    ) -> Self:
        shape = len(table), len(table.models)
        measured = {name: _Mean(shape) for name in (*signals, score_cost)}
        texts = np.full(shape, None, dtype=object)
        column = {model: j for j, model in enumerate(table.models)}
        for number, (i, row) in enumerate(_numbered(rows, names, shape[0])):
            j = column[row[names.get("model", "model")]]
            text = row.get(answer) if answer is not None else None
            if text is not None and texts[i, j] is None:
                texts[i, j] = str(text)
            nested = row.get("signals")
            for name, mean in measured.items():
                value = row.get(name)
                if value is None and isinstance(nested, Mapping):
                    value = nested.get(name)
                if value is None and name == "length" and text is not None:
                    value = math.log1p(len(str(text)))
                mean.add(i, j, value, f"row {number}: {name}")
        return cls(
            table=table,
            signals={name: measured[name].value for name in signals},
            agreement=agreements(texts, same) if any(text is not None for text in texts.flat) else None,
            score_cost=_where_told(measured[score_cost].value),
        )

    def last_unscored(self) -> Self:
        """The same answers, but that scoring those of the dearest model costs nothing: nobody is left to climb to after it.

        Unless a cascade checks its last answer, it takes that one as it is.
        """
        known = np.isfinite(self.table.cost)
        count = known.sum(axis=0)
        mean = np.divide(np.where(known, self.table.cost, 0.0).sum(axis=0), count, out=np.full(len(count), -1.0), where=count > 0)
        dearest = np.arange(len(mean)) == mean.argmax()
        return replace(self, score_cost=np.where(dearest, 0.0, self.score_cost))

    def take(self, rows: Sequence[int] | npt.NDArray[Any], /) -> Self:
        """The table of some rows, by numbers or by a mask of booleans [n]; numbers may repeat."""
        chosen = np.arange(len(self))[np.asarray(rows) if len(rows) else np.empty(0, dtype=np.int64)]
        return replace(
            self,
            table=self.table.take(chosen),
            signals={name: values[chosen] for name, values in self.signals.items()},
            agreement=None if self.agreement is None else self.agreement[chosen],
            score_cost=self.score_cost[chosen],
        )

    def split(self, test: float = 0.3, *, seed: int = 0) -> tuple[Self, Self]:
        """Splits by query as `OutcomeTable.split` does: the same queries in the same parts."""
        numbered = replace(self.table, at=np.arange(len(self), dtype=np.float64))
        fit, held = numbered.split(test, seed=seed)
        return self.take(fit.at.astype(np.int64)), self.take(held.at.astype(np.int64))

    def select(self, models: Iterable[str], /) -> Self:
        """The table of some models, in the given order; all queries stay.

        Raises:
            UnknownModelError: The table does not hold one of them.
        """
        table = self.table.select(models)
        chosen = np.array([self.models.index(name) for name in table.models], dtype=np.int64)
        return replace(
            self,
            table=table,
            signals={name: values[:, chosen] for name, values in self.signals.items()},
            agreement=None if self.agreement is None else self.agreement[:, chosen[:, None], chosen],
            score_cost=self.score_cost[:, chosen],
        )

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.table)

    def __repr__(self) -> str:
        """Its size, and what is known of the answers."""
        n, m = self.table.quality.shape
        signals = ", ".join(self.signals) or "none"
        return f"AnswerTable({n} queries, {m} models, signals {signals}, agreement {'un' * (self.agreement is None)}known)"


def agreements(texts: npt.NDArray[np.object_], same: Same | None = None) -> Floats:
    """How far the answers to each query say the same.

    Args:
        texts: object [n, m], the answers; `None` = not known. One without any letter or sign says nothing that could be
            compared: it may have been a tool call.
        same: Compares two answers; `None` = `same_answer`. It is asked once for each pair, in the order of the columns.

    Returns:
        float64 [n, m, m] in [0, 1], symmetric, 1 on the diagonal; NaN where an answer is not known, or blank.

    Raises:
        ConfigError: `same` gave something outside [0, 1].
    """
    n, m = texts.shape
    found = np.full((n, m, m), np.nan)
    for i, given in enumerate(texts):
        row: list[Any] = [None if text is None or not text.strip() else text for text in given]
        read: dict[int, Said] = {} if same is not None else {j: said(text) for j, text in enumerate(row) if text is not None}
        for a in range(m):
            for b in range(a, m):
                if row[a] is None or row[b] is None:
                    continue
                value: float = 1.0
                if a != b:
                    value = float(read[a].like(read[b])) if same is None else degree(same, row[a], row[b])
                found[i, a, b] = found[i, b, a] = value
    return found


def degree(same: Same, one: str, other: str) -> float:
    """How far two answers say the same, in [0, 1].

    Raises:
        ConfigError: `same` gave something else.
    """
    value = float(same(one, other))
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"same(...) gave {value!r}: it must be true or false, or a degree from 0 to 1")
    return value


def _where_told(cost: Floats) -> Floats:
    """What scoring cost: 0 for a model of which the log never says it; for others NaN where it is left out, which is not 0."""
    return np.where(np.isfinite(cost).any(axis=0), cost, 0.0)


class _Mean:
    """A matrix that is filled value by value; several in one cell are averaged."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._total, self._count = np.zeros(shape), np.zeros(shape)

    def add(self, i: int, j: int, value: Any, where: str) -> None:
        if value is None or value == "":
            return
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{where} {value!r} is not a number; leave it out when it is missing") from error
        if math.isnan(number):
            return
        self._total[i, j] += number
        self._count[i, j] += 1.0

    @property
    def value(self) -> Floats:
        """float64 [n, m]; NaN where nothing was added."""
        unknown: Floats = np.full(self._total.shape, np.nan)
        return np.divide(self._total, self._count, out=unknown, where=self._count > 0)


def _numbered(rows: Iterable[Mapping[str, Any]], names: Mapping[str, str], count: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each row of a file with the number of its query, as the readers of outcome tables count them."""
    rows = list(rows)
    present = {column for row in rows for column in row}

    def called(aliases: Sequence[str]) -> str | None:
        given = next((names[alias] for alias in aliases if alias in names), None)
        return given or next((alias for alias in aliases if alias in present), None)

    id_, prompt = called(_IDS), called(_PROMPTS)
    labels = [names.get(label, label) for label in ("task", "role", "tags")]
    labels += sorted(
        {column for column in present if column.startswith("tag:")} | {names[n] for n in names if n.startswith("tag:")}
    )
    known: dict[Any, int] = {}
    for row in rows:
        given = None if id_ is None else row.get(id_)
        own = None if given is None or given == "" else str(given)
        key = own if own is not None else (row.get(prompt or ""), *(repr(row.get(label)) for label in labels))
        number = known.setdefault(key, len(known))
        if number >= count:
            raise DataError("the rows of the file do not belong to the queries of its table: it changed while it was read")
        yield number, row
