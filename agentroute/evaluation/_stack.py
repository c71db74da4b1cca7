"""Parts that were judged apart, laid end to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from agentroute.outcomes import OutcomeTable
from agentroute.types import Estimate

__all__ = ["joined", "stacked"]


def stacked(tables: Sequence[OutcomeTable]) -> OutcomeTable:
    """One table of the rows of several over the same models; vectors where all have them."""
    first = tables[0]
    if len(tables) == 1:
        return first
    parts: dict[str, Any] = {
        name: np.concatenate([getattr(table, name) for table in tables])
        for name in ("quality", "cost", "latency", "samples", "at", "withheld")
    }
    vectors = [table.embeddings for table in tables if table.embeddings is not None]
    parts["embeddings"] = np.concatenate(vectors) if len(vectors) == len(tables) else None
    queries = tuple(query for table in tables for query in table.queries)
    return replace(first, queries=queries, **parts)


def joined(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """The same of estimates, without their neighbours; `None` where one is missing."""
    found = [one for one in estimates if one is not None]
    if len(found) < len(estimates):
        return None
    arrays: dict[str, Any] = {
        field.name: np.concatenate([getattr(one, field.name) for one in found])
        for field in fields(Estimate)
        if field.name not in {"models", "neighbours"}
    }
    return Estimate(models=found[0].models, neighbours=None, **arrays)
