"""Reading what the commands are given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from agentroute.errors import ConfigError
from agentroute.evaluation import Progress as Told
from agentroute.outcomes import OutcomeTable, SqliteOutcomeLog
from agentroute.pool import ModelPool
from agentroute.reporting.words import plain
from agentroute.types import Price

__all__ = ["card_prices", "exists", "in_common", "is_sqlite", "progress_bar", "read_table"]

_SQLITE = frozenset({".sqlite", ".sqlite3", ".db"})
_NAMED = 5
"""Models that are named where some are left out."""


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


def card_prices(pool: ModelPool) -> dict[str, Price]:
    """The prices on the cards of a pool, by model."""
    return {card.id: card.price for card in pool if card.price is not None}


def in_common(table: OutcomeTable, pool: ModelPool, name: str) -> tuple[OutcomeTable, list[str]]:
    """The outcomes of the models that a router knows, and sentences on what that leaves out.

    Args:
        table: The outcomes.
        pool: The router's.
        name: Of the log, for people.

    Raises:
        ConfigError: The two have no model in common.
    """
    known = [model for model in table.models if model in pool.ids]
    if not known:
        raise ConfigError(f"{name} and the router have no model in common: the router knows {_some(pool.ids)}")
    unknown = [model for model in table.models if model not in known]
    absent = [model for model in pool.ids if model not in known]
    notes = []
    if unknown:
        notes.append(f"left out: {_some(unknown)}, which {name} holds and the router does not know")
    if absent:
        notes.append(f"left out: {_some(absent)}, which the router knows and {name} does not hold")
    return table.select(known), [plain(note) for note in notes]


def _some(models: Sequence[str]) -> str:
    named = ", ".join(models[:_NAMED])
    return named if len(models) <= _NAMED else f"{named} and {len(models) - _NAMED} more"


@contextmanager
def progress_bar() -> Iterator[Told]:
    """Shows what is being done on stderr, and leaves nothing behind; nothing at all where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task("reading", total=1.0)
        yield lambda what, done: shown.update(task, description=plain(what), completed=done)
