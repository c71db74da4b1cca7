"""Reading what the commands are given, and printing figures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from agentroute.errors import ConfigError
from agentroute.outcomes import OutcomeTable, SqliteOutcomeLog

__all__ = ["exists", "is_sqlite", "one_line", "read_table", "seconds", "table_of", "usd"]

_SQLITE = frozenset({".sqlite", ".sqlite3", ".db"})


def exists(path: Path) -> Path:
    """The path, when something is there: opening a log makes it, which no reading command should.

    Raises:
        ConfigError: There is nothing.
    """
    if not path.exists():
        raise ConfigError(f"{path} does not exist")
    return path


def is_sqlite(path: Path) -> bool:
    """Whether the file's name says that it is a SQLite log."""
    return path.suffix.lower() in _SQLITE


def read_table(path: Path) -> OutcomeTable:
    """The outcomes of a log of any kind that we know.

    Raises:
        ConfigError: It is absent, or its name says nothing that we know.
        DataError: What it holds cannot be right.
        StorageError: It cannot be read.
    """
    name = exists(path).name.lower()
    if is_sqlite(path):
        with SqliteOutcomeLog(path) as log:
            return OutcomeTable.from_log(log)
    if name.endswith((".jsonl", ".jsonl.gz")):
        return OutcomeTable.from_jsonl(path)
    if name.endswith((".csv", ".csv.gz")):
        return OutcomeTable.from_csv(path)
    if name.endswith(".parquet"):
        return OutcomeTable.from_parquet(path)
    raise ConfigError(f"{path}: a log is a .sqlite, .jsonl, .jsonl.gz, .csv or .parquet file")


def usd(amount: float | None) -> str:
    """USD to three significant digits, without exponents: prices of models span six orders of magnitude."""
    if amount is None or math.isnan(amount):
        return "?"
    if amount == 0 or math.isinf(amount):
        return f"${amount:g}"
    digits = max(2, 2 - math.floor(math.log10(abs(amount))))
    return f"${amount:.{min(digits, 12)}f}"


def seconds(duration: float | None) -> str:
    """Seconds, or `?`."""
    return "?" if duration is None or math.isnan(duration) else f"{duration:.2f} s"


def one_line(text: str, width: int = 70) -> str:
    """The text on one line, cut to a width."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def table_of(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]], *, first: int | None = None) -> Table:
    """A plain table: the first column left and on one line, the others right.

    Args:
        title: Above the table.
        columns: The header.
        rows: The cells.
        first: Least width of the first column, which otherwise gives way to the others.
    """
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, name in enumerate(columns):
        if number:
            table.add_column(name, justify="right", overflow="fold")
        else:
            table.add_column(name, no_wrap=True, overflow="ellipsis", min_width=first)
    for row in rows:
        table.add_row(*map(escape, row))
    return table
