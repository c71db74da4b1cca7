"""Reading logs that hold answers, for cascades."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from agentroute.cascades import AnswerTable
from agentroute.cli._data import exists, is_sqlite
from agentroute.cli._options import Seen
from agentroute.errors import ConfigError
from agentroute.types import Price

__all__ = ["read_answers"]

_SIGNALS = ("logprob", "length")
"""Read where the log has them, when none are named."""
_ANSWER, _COST = "answer", "score_cost_usd"


def read_answers(path: Path, seen: Seen, *, prices: Mapping[str, Price] | None = None) -> AnswerTable:
    """The answers of a log.

    Args:
        path: A `.jsonl`, `.jsonl.gz` or `.parquet` file.
        seen: Its columns.
        prices: As for `read_table`.

    Raises:
        ConfigError: It is a log of another kind, lacks a column that is named, or holds nothing of the answers at all.
        DataError: What it holds cannot be right.
        StorageError: It cannot be read.
    """
    read = _reader(exists(path))
    named = None if seen.signals is None else [name for name in map(str.strip, seen.signals.split(",")) if name]
    if named is not None and len(set(named)) < len(named):
        raise ConfigError(f"--signals {seen.signals!r} names a column twice")
    answer, cost = seen.answer or _ANSWER, seen.score_cost or _COST
    # What scoring cost is also read as a signal, to tell a column that is absent from one that holds zeros.
    wanted = tuple(_SIGNALS if named is None else named)
    also = () if cost in wanted else (cost,)
    found = read(path, signals=(*wanted, *also), answer=answer, score_cost=cost, prices=prices)
    known = {name for name, values in found.signals.items() if np.isfinite(values).any()}
    for name, option in (*((one, "--signals") for one in named or ()), *(((cost, "--score-cost"),) if seen.score_cost else ())):
        if name not in known:
            raise ConfigError(f"{option} {name}: no row of {path.name} has a number in the column {name!r}")
    if seen.answer is not None and found.agreement is None:
        raise ConfigError(f"--answer {answer}: no row of {path.name} has the column {answer!r}")
    signals = {name: values for name, values in found.signals.items() if name in known and name in wanted}
    if not signals and found.agreement is None:
        raise ConfigError(
            f"{path.name} says nothing of the answers: a cascade needs a column 'logprob', or others that --signals names, "
            "or the texts in a column 'answer', or one that --answer names"
        )
    return replace(found, signals=signals)


def _reader(path: Path) -> Callable[..., AnswerTable]:
    name = path.name.lower()
    if name.endswith((".jsonl", ".jsonl.gz")):
        return AnswerTable.from_jsonl
    if name.endswith(".parquet"):
        return AnswerTable.from_parquet
    what = "a .sqlite log holds no answers" if is_sqlite(path) else "of this file only outcomes can be read"
    raise ConfigError(
        f"{path}: {what}; for a cascade give a .jsonl, .jsonl.gz or .parquet file with the answers or their signals"
    )
