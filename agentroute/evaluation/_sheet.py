"""Figures that are drawn together: means of per-query columns, and what follows from them, on the same resamples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.evaluation._intervals import Interval, bootstrap, means, once

__all__ = ["Sheet"]

Floats: TypeAlias = npt.NDArray[np.float64]


class Sheet:
    """Named columns over n queries, and the intervals of their means.

    One resampling for all of them: it is what takes the time, and differences of columns are then paired.

    >>> sheet = Sheet(4)
    >>> sheet.mean("cost", [1.0, 2.0, 3.0, 2.0])
    >>> sheet.mean("old", [4.0, 4.0, 4.0, 4.0])
    >>> sheet.follow("saving", lambda cost, old: 1.0 - cost / old, "cost", "old")
    >>> sheet.draw(resamples=200)["saving"][0].value
    0.5
    """

    def __init__(self, queries: int) -> None:
        self.queries = queries
        self._columns: dict[str, Floats] = {}
        self._rules: dict[str, tuple[Callable[..., Floats], tuple[str, ...]]] = {}

    def mean(self, name: str, values: npt.ArrayLike) -> None:
        """Adds columns.

        Args:
            name: What they are called.
            values: float64 [n] or [n, c], NaN = not observed.
        """
        self._columns[name] = np.asarray(values, np.float64).reshape(self.queries, -1)

    def follow(self, name: str, rule: Callable[..., Floats], *names: str) -> None:
        """Adds figures that follow from means.

        Args:
            name: What they are called.
            rule: Takes the means of each named block, float64 [b, c], and gives float64 [b, k].
            names: Blocks that were added by `mean`.
        """
        self._rules[name] = (rule, names)

    def draw(
        self, *, resamples: int, seed: int = 0, groups: npt.NDArray[np.int64] | None = None, level: float = 0.95
    ) -> dict[str, list[Interval]]:
        """Name → one interval for each of its columns; see `bootstrap`. Rows of one group count once together."""
        total = means(np.concatenate(list(self._columns.values()), axis=1))
        ends = np.cumsum([block.shape[1] for block in self._columns.values()]).tolist()
        places = {
            name: slice(end - block.shape[1], end)
            for (name, block), end in zip(self._columns.items(), ends, strict=True)
        }  # fmt: skip
        rules: Sequence[tuple[Callable[..., Floats], tuple[str, ...]]] = list(self._rules.values())
        widths: list[int] = []

        def statistic(weights: Floats) -> Floats:
            found = total(weights)
            with np.errstate(invalid="ignore", divide="ignore"):
                more = [rule(*(found[:, places[name]] for name in names)) for rule, names in rules]
            widths[:] = [block.shape[1] for block in more]
            return np.concatenate([found, *more], axis=1)

        drawn = bootstrap(
            statistic if groups is None else once(statistic, groups),
            self.queries,
            resamples=resamples,
            level=level,
            seed=seed,
            groups=groups,
        )
        found = {name: drawn[place] for name, place in places.items()}
        start = ends[-1]
        for name, width in zip(self._rules, widths, strict=True):
            found[name] = drawn[start : start + width]
            start += width
        return found
