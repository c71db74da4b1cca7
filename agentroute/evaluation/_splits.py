"""Ways to part a table into what is learned from and what is judged by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, DataError
from agentroute.outcomes import OutcomeTable

__all__ = ["ByModel", "ByQuery", "ByTask", "ByTime", "Fold", "KFold", "Split"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fold:
    """One part of a split.

    Attributes:
        name: `"split 1"`, `"part 1"`, `"task gsm8k"`, `"from 2026-03-01"`, `"model x"`.
        train: What is learned from; `None` = nothing is learned, the router is judged as it is.
        test: What it is judged by.
        newcomer: The model that is unknown but for its probes; `None` = there is none.
        probes: The newcomer's outcomes on some training queries.
    """

    name: str
    train: OutcomeTable | None
    test: OutcomeTable
    newcomer: str | None = None
    probes: OutcomeTable | None = None


class Split(Protocol):
    """Parts a table; no query (by `Query.key`) is both learned from and judged by in one fold."""

    def folds(self, table: OutcomeTable, /) -> Iterator[Fold]:
        """The parts, one after the other.

        Raises:
            DataError: The table cannot be parted in this way.
        """


def _parted(name: str, table: OutcomeTable, test: npt.NDArray[np.bool_]) -> Fold:
    """The marked rows to judge by; of the others, those of queries that are judged nowhere."""
    keys = [query.key() for query in table.queries]
    judged = {key for key, mark in zip(keys, test.tolist(), strict=True) if mark}
    train = np.array([key not in judged for key in keys])
    if not train.any():
        raise DataError(f"{name}: every query is held out, so that nothing is left to learn from: split by query")
    return Fold(name=name, train=table.take(train), test=table.take(test))


@dataclass(frozen=True, slots=True, kw_only=True)
class ByQuery:
    """Random parts by query, `repeats` times.

    Attributes:
        test: Share of the queries that is judged by, in (0, 1).
        repeats: How many splits; a query that is judged in several counts once, by the mean of what they say.
        seed: Of the first split, the next one has the next seed.
    """

    test: float = 0.3
    repeats: int = 1
    seed: int = 0

    def folds(self, table: OutcomeTable, /) -> Iterator[Fold]:
        """See `Split`."""
        if self.repeats < 1:
            raise ConfigError(f"repeats={self.repeats!r} must be 1 or more")
        for number in range(self.repeats):
            train, test = table.split(self.test, seed=self.seed + number)
            yield Fold(name=f"split {number + 1}", train=train, test=test)


@dataclass(frozen=True, slots=True, kw_only=True)
class KFold:
    """Every query is judged once, by what was learned from the other parts.

    Attributes:
        count: How many parts.
        seed: Of their drawing.
    """

    count: int = 5
    seed: int = 0

    def folds(self, table: OutcomeTable, /) -> Iterator[Fold]:
        """See `Split`."""
        keys = [query.key() for query in table.queries]
        unique = sorted(set(keys))
        if self.count < 2 or self.count > len(unique):
            raise DataError(f"{len(unique)} queries cannot be parted into {self.count}: give 2 to as many as there are queries")
        drawn = np.random.default_rng(self.seed).permutation(len(unique)) % self.count
        part = dict(zip(unique, drawn.tolist(), strict=True))
        at = np.array([part[key] for key in keys])
        for number in range(self.count):
            yield Fold(name=f"part {number + 1}", train=table.take(at != number), test=table.take(at == number))


@dataclass(frozen=True, slots=True, kw_only=True)
class ByTask:
    """Leave one task out: how the router does on a kind of work that it has not seen.

    Queries without a task are always learned from.
    """

    def folds(self, table: OutcomeTable, /) -> Iterator[Fold]:
        """See `Split`."""
        tasks = np.array([query.task or "" for query in table.queries])
        names = sorted(set(tasks.tolist()) - {""})
        if len(names) < 2:
            raise DataError("leaving one task out needs queries of two tasks: log each query's task")
        for name in names:
            yield _parted(f"task {name}", table, tasks == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByTime:
    """Learn from the past, judge by what came after.

    Attributes:
        test: Share of the queries in the later part, in (0, 1); queries of the same moment stay together, in the later part where
            the cut falls among them.
    """

    test: float = 0.3

    def folds(self, table: OutcomeTable, /) -> Iterator[Fold]:
        """See `Split`."""
        if not 0.0 < self.test < 1.0:
            raise ConfigError(f"test={self.test!r}: give the share of queries to hold out, between 0 and 1")
        if np.isnan(table.at).any():
            raise DataError("a split by time needs the time of every query: log `at`, or split by query")
        times = np.sort(table.at)
        later = times[times > times[0]]
        if not len(later):
            raise DataError("all queries are of one moment, so that none came after: split by query")
        cut = max(float(times[len(times) - max(round(self.test * len(times)), 1)]), float(later[0]))
        day = datetime.fromtimestamp(cut, UTC).date().isoformat()
        yield _parted(f"from {day}", table, table.at >= cut)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByModel:
    """Leave one model out: how a new model fares that joins with a few probe outcomes.

    Attributes:
        probes: How many training queries it has answered when it joins.
        test: Share of the queries that is judged by.
        seed: Of the split and the probes.
    """

    probes: int = 200
    test: float = 0.3
    seed: int = 0

    def folds(self, table: OutcomeTable, /) -> Iterator[Fold]:
        """See `Split`."""
        if self.probes < 1:
            raise ConfigError(f"probes={self.probes!r} must be 1 or more")
        if len(table.models) < 2:
            raise DataError("leaving one model out needs two models or more")
        train, test = table.split(self.test, seed=self.seed)
        order = np.random.default_rng(self.seed).permutation(len(train))
        for column, model in enumerate(table.models):
            answered = order[np.isfinite(train.quality[order, column])][: self.probes]
            if len(answered) < self.probes:
                raise DataError(
                    f"the training part holds {len(answered)} scores of {model!r}, too few for {self.probes} probes: log more, "
                    "or give fewer probes"
                )
            yield Fold(
                name=f"model {model}",
                train=train,
                test=test,
                newcomer=model,
                probes=train.take(np.sort(answered)).select([model]),
            )
