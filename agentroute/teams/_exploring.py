"""Allocations drawn at random from all that keep to the budget, with the chance of what was drawn: so that runs can teach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.teams._costs import CostModel

__all__ = ["drawn", "options"]

Places: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_ALL: Final = 20_000  # assignments that are drawn from as they are


def options(
    costs: CostModel, best: tuple[str, Places], modes: Sequence[tuple[str, Flags]], limit: float, *, upper: bool
) -> list[tuple[str, Places]]:
    """Allocations that keep to the budget: all of them, or of very many those that differ from the best in one role.

    Args:
        costs: What runs cost.
        best: Mode and columns, int64 [k], of the best: it is always among them.
        modes: Mode → what its roles may have, bool [k, m + 1].
        limit: USD; infinite = none.
        upper: Whether 95 % of runs are to keep to it, and not only their mean.
    """
    found = []
    every = sum(math.prod(np.count_nonzero(allowed, axis=1).tolist()) for _, allowed in modes) <= _ALL
    for mode, allowed in modes:
        places = [np.flatnonzero(row) for row in allowed]
        if every:
            grid = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1).reshape(-1, len(places))
        else:
            grid = _beside(best[1], places)
        fits = (grid < allowed.shape[1] - 1).any(axis=1)  # a team of nobody is none
        if math.isfinite(limit):
            fits &= costs.exact(mode, grid, upper=upper) <= limit * (1.0 + 1e-12)
        found += [(mode, columns) for columns in grid[fits]]
    if not any(_same(best, one) for one in found):
        found.append(best)
    return found


def _beside(at: Places, places: Sequence[Places]) -> Places:
    """What differs from an assignment in one role, as far as each role's columns are among its places: int64 [n, k]."""
    rows = [at] if all(column in may for column, may in zip(at, places, strict=True)) else []
    for role, columns in enumerate(places):
        for column in columns[columns != at[role]]:
            swapped = at.copy()
            swapped[role] = column
            if all(one in may for one, may in zip(swapped, places, strict=True)):
                rows.append(swapped)
    return np.array(rows, np.int64).reshape(-1, len(at))


def _same(one: tuple[str, Places], other: tuple[str, Places]) -> bool:
    return one[0] == other[0] and bool((one[1] == other[1]).all())


def drawn(
    best: tuple[str, Places], among: Sequence[tuple[str, Places]], explore: float, rng: np.random.Generator
) -> tuple[tuple[str, Places], float]:
    """The best with a chance of 1 - explore, else any of all; with the chance of what was drawn.

    Args:
        best: One of them.
        among: All that may be drawn.
        explore: Share of runs that are drawn at random.
        rng: The dice.
    """
    at = next(place for place, one in enumerate(among) if _same(best, one))
    place = int(rng.integers(len(among))) if rng.random() < explore else at
    return among[place], explore / len(among) + (1.0 - explore) * (place == at)
