"""Reads tables of outcomes from files: one row is one answer of one model to one query."""

from __future__ import annotations

import csv
import gzip
import json
import math
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError, MissingExtraError, StorageError
from agentroute.outcomes._cells import averaged, checked_prices, latest
from agentroute.types import Price, Query, Usage

__all__ = ["EARLIEST", "LATEST", "Parts", "read_csv", "read_jsonl", "read_parquet"]

Parts: TypeAlias = dict[str, Any]
"""The arguments of an `OutcomeTable`."""
Column: TypeAlias = Sequence[Any] | npt.NDArray[Any]
Names: TypeAlias = Mapping[str, str] | None
Prices: TypeAlias = Mapping[str, Price] | None
EARLIEST = datetime.min.replace(tzinfo=UTC).timestamp()
"""The first second that has a date."""
LATEST = datetime.max.replace(microsecond=0, tzinfo=UTC).timestamp()
"""The last one."""

# Our name, then what else a file may call it.
_ALIASES: dict[str, tuple[str, ...]] = {
    "query_id": ("query_id", "id"),
    "prompt": ("prompt", "text", "query"),
    "model": ("model",),
    "quality": ("quality", "score"),
    "cost": ("cost_usd", "cost"),
    "latency": ("latency_s", "latency"),
    "samples": ("samples",),
    "input_tokens": ("input_tokens",),
    "output_tokens": ("output_tokens",),
    "cache_read_tokens": ("cache_read_tokens",),
    "cache_write_tokens": ("cache_write_tokens",),
    "task": ("task",),
    "role": ("role",),
    "at": ("at",),
    "tags": ("tags",),
}
_CANONICAL = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}
_MEASURES = {"quality": 1.0, "cost": math.inf, "latency": math.inf}
_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
_REQUIRED = ("prompt", "model", "quality")
_TAG = "tag:"


@dataclass(frozen=True, slots=True)
class _Source:
    """A file, and how to call its rows in messages."""

    path: Path
    row: Callable[[int], str]

    def wrong(self, row: int, what: str) -> DataError:
        return DataError(f"{self.path}, {self.row(row)}: {what}")


def read_jsonl(path: str | Path, names: Names = None, prices: Prices = None) -> Parts:
    """Reads one JSON object a line, plain or gzipped."""
    path = Path(path)
    wanted = {*_CANONICAL, *(names or {}).values()}
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    present: dict[str, None] = {}
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, line {number}: not JSON ({error})") from error
            if not isinstance(row, dict):
                raise DataError(f'{path}, line {number}: a line must hold one JSON object, such as {{"prompt": ...}}')
            present.update(dict.fromkeys(row))
            # Answers and other long columns are not kept while the rest is read.
            rows.append({key: value for key, value in row.items() if key in wanted or key.startswith(_TAG)})
            lines.append(number)
    source = _Source(path, lambda row: f"line {lines[row]}")
    found = _resolve(path, tuple(present), names)
    columns = {name: [row.get(column) for row in rows] for name, column in found.items()}
    return _assemble(columns, len(rows), source, prices)


def read_csv(path: str | Path, names: Names = None, prices: Prices = None) -> Parts:
    """Reads comma-separated values with a header, plain or gzipped; an empty field is unknown."""
    path = Path(path)
    limit = csv.field_size_limit(sys.maxsize)  # a prompt may be longer than the default of 128 KiB
    try:
        with _opened(path) as file:
            reader = csv.DictReader(file, strict=True)
            try:
                found = _resolve(path, tuple(reader.fieldnames or ()), names)
                columns: dict[str, list[Any]] = {name: [] for name in found}
                lines: list[int] = []
                for row in reader:
                    if None in row:
                        raise DataError(f"{path}, line {reader.line_num}: more fields than the header: quote fields with commas")
                    lines.append(reader.line_num)
                    for name, column in found.items():
                        value = row[column]
                        columns[name].append(value if value or name == "prompt" else None)
            except csv.Error as error:
                raise DataError(f"{path}, line {reader.line_num}: not CSV ({error})") from error
    finally:
        csv.field_size_limit(limit)
    return _assemble(columns, len(lines), _Source(path, lambda row: f"line {lines[row]}"), prices)


def read_parquet(path: str | Path, names: Names = None, prices: Prices = None) -> Parts:
    """Reads one Parquet file (extra `parquet`)."""
    path = Path(path)
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("OutcomeTable.from_parquet", "parquet") from error
    _check_file(path)
    try:
        # Memory-mapping would keep the file open as long as any array lives.
        with pq.ParquetFile(path) as file:
            found = _resolve(path, tuple(file.schema_arrow.names), names)
            table = file.read(columns=list(found.values()))
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error})") from error
    except pa.ArrowException as error:
        raise DataError(f"{path}: not Parquet ({error})") from error

    def column(name: str) -> Column:
        values = table.column(name)
        # NaN for null, and faster; an id must stay a whole number, which numpy's do not where there are nulls.
        fast = pa.types.is_floating(values.type) and name in _MEASURES
        return values.to_numpy() if fast else values.to_pylist()  # type: ignore[no-any-return]  # untyped library

    columns = {name: column(there) for name, there in found.items()}
    return _assemble(columns, table.num_rows, _Source(path, lambda row: f"row {row}"), prices)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise StorageError(f"{path} is a folder: give the path of a file")
    if not path.exists():
        raise StorageError(f"{path} does not exist")


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    """A text file, unpacked when its name ends in `.gz`."""
    _check_file(path)
    try:
        how: dict[str, Any] = {"encoding": "utf-8-sig", "newline": ""}
        with gzip.open(path, "rt", **how) if path.suffix == ".gz" else path.open(**how) as file:
            yield file
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error}): convert it first") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip file ({error})") from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error})") from error


def _resolve(path: Path, present: Sequence[str], names: Names) -> dict[str, str]:
    """Which column of the file holds what: our name → its name; labels of their own as `tag:name`."""
    found = {column: column for column in present if column.startswith(_TAG)}
    for name, aliases in _ALIASES.items():
        there = next((alias for alias in aliases if alias in present), None)
        if there is not None:
            found[name] = there
    for ours, column in (names or {}).items():
        name = ours if ours.startswith(_TAG) else _CANONICAL.get(ours, "")
        if not name:
            raise ConfigError(f"columns: {ours!r} is not one of our names: {', '.join(_CANONICAL)}, or tag:<name>")
        if column not in present:
            raise DataError(f"{path}: has no column {column!r}, which columns= names; it has {', '.join(map(repr, present))}")
        found[name] = column
    if not present:
        raise DataError(f"{path}: is empty; one row is one answer of one model to one query")
    for name in _REQUIRED:
        if name not in found:
            what = f'rename the right one, or from Python name it with columns={{"{name}": ...}}'
            if len(present) == 1 and any(mark in present[0] for mark in ";\t|"):
                what = "separate the columns by commas"
            raise DataError(
                f"{path}: has no column {' or '.join(_ALIASES[name])} (it has {', '.join(map(repr, present))}): {what}"
            )
    return found


def _assemble(columns: Mapping[str, Column], length: int, source: _Source, prices: Prices) -> Parts:
    """A table's arguments from the columns of a file."""
    if not length:
        raise DataError(f"{source.path}: holds no rows; one row is one answer of one model to one query")
    models: dict[str, int] = {}
    columns_of = np.empty(length, dtype=np.int64)
    for row, model in enumerate(columns["model"]):
        if not model or not isinstance(model, str):
            raise source.wrong(row, f"the model must be a name, not {model!r}")
        columns_of[row] = models.setdefault(model, len(models))
    queries, rows_of = _queries(columns, length, source)
    shape = (len(queries), len(models))
    cells = rows_of * len(models) + columns_of
    measures = {name: _numbers(columns, name, length, source, top=top) for name, top in _MEASURES.items()}
    _fill_costs(measures["cost"], columns, source, prices)
    numbers = averaged(cells, measures, _samples(columns, length, source), shape)
    at = _times(columns["at"], source) if "at" in columns else np.full(length, np.nan)
    return {"queries": queries, "models": tuple(models), **numbers, "at": latest(rows_of, at, len(queries))}


def _fill_costs(costs: npt.NDArray[np.float64], columns: Mapping[str, Column], source: _Source, prices: Prices) -> None:
    """Fills the unknown costs, float64 [length], of the rows whose tokens and price are known."""
    known = checked_prices(prices)
    if not known or "input_tokens" not in columns or "output_tokens" not in columns:
        return
    tokens = np.column_stack([_numbers(columns, name, len(costs), source, top=math.inf) for name in _TOKENS])
    tokens[:, 2:] = np.nan_to_num(tokens[:, 2:])  # what is not said to be cached is not
    for row in np.flatnonzero(np.isnan(costs) & ~np.isnan(tokens).any(axis=1)).tolist():
        price = known.get(columns["model"][row])
        if price is not None:
            usage = dict(zip(_TOKENS, map(int, tokens[row]), strict=True))
            costs[row] = price.cost(Usage(**usage))


def _queries(columns: Mapping[str, Column], length: int, source: _Source) -> tuple[tuple[Query, ...], npt.NDArray[np.int64]]:
    """The distinct queries in order of first appearance, and the number of each row's query."""
    prompts = columns["prompt"]
    ids = columns.get("query_id")
    labels = [columns[name] for name in columns if name in {"role", "task", "tags"} or name.startswith(_TAG)]
    known: dict[Any, int] = {}
    queries: list[Query] = []
    first: list[str] = []
    rows_of = np.empty(length, dtype=np.int64)
    for row, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise source.wrong(row, f"the prompt must be text, not {prompt!r}")
        given = None if ids is None else ids[row]
        id_ = None if given is None or given == "" else str(given)
        # Without an id, a query is its text and labels, as for `Query.key`.
        key = id_ if id_ is not None else (prompt, *(repr(label[row]) for label in labels))
        number = known.setdefault(key, len(queries))
        if number == len(queries):
            queries.append(_query(columns, row, prompt, id_, source))
            first.append(prompt)
        elif prompt != first[number]:
            raise source.wrong(row, f"query {id_!r} has another prompt than before: give each query its own id")
        rows_of[row] = number
    return tuple(queries), rows_of


def _query(columns: Mapping[str, Column], row: int, prompt: str, id_: str | None, source: _Source) -> Query:
    def label(name: str) -> str | None:
        value = columns[name][row] if name in columns else None
        return None if value is None else str(value)

    tags = columns["tags"][row] if "tags" in columns else None
    try:
        if isinstance(tags, str):
            tags = json.loads(tags)
        labels = {str(key): str(value) for key, value in dict(tags or {}).items()}
    except (ValueError, TypeError, RecursionError) as error:
        raise source.wrong(row, f"tags must be an object of names and values, not {tags!r}") from error
    for name in columns:
        value = label(name) if name.startswith(_TAG) else None
        if value is not None:
            labels[name.removeprefix(_TAG)] = value
    return Query(text=prompt, id=id_, role=label("role"), task=label("task"), tags=labels)


def _numbers(columns: Mapping[str, Column], name: str, length: int, source: _Source, *, top: float) -> npt.NDArray[np.float64]:
    """A column of numbers in [0, top], float64 [length]; NaN = unknown."""
    if name not in columns:
        return np.full(length, np.nan)
    column = columns[name]
    try:
        values = np.array([math.nan if value is None else value for value in column], dtype=np.float64)
        if values.shape != (length,):
            raise ValueError  # noqa: TRY301  # lists in the cells: found one by one below
    except (ValueError, TypeError, OverflowError):
        values = np.array([_number(value, name, row, source) for row, value in enumerate(column)])
    bad = np.flatnonzero((values < 0) | (values > top) | np.isinf(values))
    if len(bad):
        row = int(bad[0])
        raise source.wrong(row, f"{name} {values[row]:g} is outside [0, {top:g}]: rescale it; leave it empty when unknown")
    return values


def _samples(columns: Mapping[str, Column], length: int, source: _Source) -> npt.NDArray[np.float64]:
    """How many samples each row is the mean of, float64 [length]; 1 where it is not said."""
    values = _numbers(columns, "samples", length, source, top=math.inf)
    values[np.isnan(values)] = 1.0
    bad = np.flatnonzero((values < 1) | (values % 1 != 0))
    if len(bad):
        row = int(bad[0])
        raise source.wrong(row, f"samples {values[row]:g} is no count: give a whole number of at least 1; leave it empty for 1")
    return values


def _number(value: Any, name: str, row: int, source: _Source) -> float:
    try:
        return math.nan if value is None or value == "" else float(value)
    except OverflowError as error:
        raise source.wrong(row, f"{name} is too large a number: rescale it; leave it empty when unknown") from error
    except (TypeError, ValueError) as error:
        raise source.wrong(row, f"{name} {value!r} is not a number; leave it empty when unknown") from error


def _times(column: Column, source: _Source) -> npt.NDArray[np.float64]:
    """Unix seconds from numbers, ISO 8601 texts or datetimes; those without a zone are UTC."""

    def seconds(value: Any) -> float:
        if isinstance(value, str):
            try:
                return float(value)
            except ValueError:
                value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        return math.nan if value is None else float(value)

    found = np.empty(len(column))
    for row, value in enumerate(column):
        try:
            found[row] = seconds(value)
            if not (math.isnan(found[row]) or EARLIEST <= found[row] <= LATEST):
                raise ValueError("beyond the calendar")  # noqa: TRY301  # the same message for whatever is no time
        except (TypeError, ValueError, OverflowError) as error:
            raise source.wrong(row, f"at={str(value)[:40]!r} is no time: give ISO 8601 or seconds since 1970") from error
    return found
