"""Logged outcomes, brought into the columns of a pool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agentroute.errors import ConfigError, UnknownModelError
from agentroute.outcomes import OutcomeLog, OutcomeTable
from agentroute.pool import ModelPool

__all__ = ["aligned"]


def aligned(data: OutcomeTable | OutcomeLog, pool: ModelPool, *, vectors: bool) -> OutcomeTable:
    """The data as a table with the pool's columns in the pool's order; a model without outcomes has an empty column.

    Args:
        data: A table, or a log that is read into one.
        pool: The models; their prices stand in for costs that the log lacks.
        vectors: Whether a log is read for its vectors, too.

    Raises:
        ConfigError: The data are the name of a file.
        UnknownModelError: They hold a model that the pool does not.
    """
    if isinstance(data, str | Path):
        raise ConfigError(f"{str(data)!r} is a path: open it first, with SqliteOutcomeLog(path) or OutcomeTable.from_jsonl(path)")
    if isinstance(data, OutcomeTable):
        table = data
    else:
        prices = {card.id: card.price for card in pool if card.price is not None}
        table = OutcomeTable.from_log(data, prices=prices, vectors=vectors)
    unknown = [model for model in table.models if model not in pool.ids]
    if unknown:
        raise UnknownModelError(unknown[0], pool.ids, where="it is in the log, and the pool")
    holes = np.full((len(table), 1), np.nan)
    column = {model: j for j, model in enumerate(table.models)}
    order = [column.get(model, len(table.models)) for model in pool.ids]
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(table, name), holes], axis=1)[:, order]
        for name in ("quality", "cost", "latency", "samples")
    }
    return replace(table, models=pool.ids, **arrays)
