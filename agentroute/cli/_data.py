"""Reading what the commands are given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agentroute.errors import ConfigError
from agentroute.outcomes import OutcomeTable, SqliteOutcomeLog
from agentroute.types import Price

__all__ = ["exists", "is_sqlite", "read_table"]

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


def read_table(path: Path, *, prices: Mapping[str, Price] | None = None) -> OutcomeTable:
    """The outcomes of a log of any kind that we know.

    Args:
        path: The log; its name says of which kind it is.
        prices: Prices by model, for outcomes that have tokens but no cost.

    Raises:
        ConfigError: It is absent, or its name says nothing that we know.
        DataError: What it holds cannot be right.
        StorageError: It cannot be read.
    """
    name = exists(path).name.lower()
    if is_sqlite(path):
        with SqliteOutcomeLog(path) as log:
            return OutcomeTable.from_log(log, prices=prices)
    if name.endswith((".jsonl", ".jsonl.gz")):
        return OutcomeTable.from_jsonl(path, prices=prices)
    if name.endswith((".csv", ".csv.gz")):
        return OutcomeTable.from_csv(path, prices=prices)
    if name.endswith(".parquet"):
        return OutcomeTable.from_parquet(path, prices=prices)
    raise ConfigError(f"{path}: a log is a .sqlite, .jsonl, .jsonl.gz, .csv or .parquet file")
