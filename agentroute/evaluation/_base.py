"""What all figures of a diagnosis are computed from."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.evaluation import metrics
from agentroute.evaluation._baselines import oracle
from agentroute.evaluation._results import Replay

__all__ = ["Base", "over_mix", "priced", "saving", "wide"]

Floats: TypeAlias = npt.NDArray[np.float64]

ROUTED = "routed"
_PRICED = 10
"""Queries of known costs below which nothing is said of money."""


class Base:
    """The arrays of one evaluation, a row for each query and drawing of the folds."""

    def __init__(self, replay: Replay, *, folds: int) -> None:
        self.replay, self.folds = replay, folds
        self.models = replay.table.models
        self.quality, self.cost = replay.table.quality, replay.table.cost
        self.at = np.arange(len(self.quality))
        self.mass = 1.0 / np.bincount(replay.groups)[replay.groups]  # rows of one query count once together
        self.shares = replay.shares[ROUTED]
        self.routed = metrics.realised(self.quality, self.shares)
        self.column = int(replay.best_single[0])  # the same in every fold
        self.single, self.single_cost = self.quality[:, self.column], self.cost[:, self.column]
        self.best = self.quality[self.at, oracle(self.quality, self.cost)]


def priced(cost: Floats) -> npt.NDArray[np.bool_] | None:
    """Marks the queries whose costs are known for every model; bool [n], or `None` where they are too few to speak of money."""
    known = np.asarray(np.isfinite(cost).all(axis=1), np.bool_)
    return known if known.sum() >= _PRICED else None


def wide(values: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """Values of the known rows, NaN in the others."""
    found = np.full((len(known), values.shape[1]), np.nan)
    found[known] = values
    return found


def over_mix(quality: Floats, cost: Floats, costs: Floats, singles: Floats) -> Floats:
    """Height above the single models' hull, as in `FrontierPoint.over_mix`: float64 [b, k].

    Args:
        quality: float64 [b, k].
        cost: float64 [b, k], USD.
        costs: float64 [b, m], of the single models.
        singles: float64 [b, m], their quality.
    """
    found = np.empty_like(quality)
    for row, points in enumerate(np.stack([costs, singles], axis=2)):
        line = metrics.hull(points)
        # Money below the cheapest single model buys no mix at all: compared with that model, which costs more.
        found[row] = quality[row] - metrics.hull_at(line, np.maximum(cost[row], line[0, 0]))
    return found


def saving(paid: Floats, single: Floats) -> Floats:
    """Share of what the single model costs that is saved; of what is free, nothing is, and NaN where the other is not free."""
    return np.asarray(np.where(single > 0, 1.0 - paid / single, np.where(paid > 0, np.nan, 0.0)), np.float64)
