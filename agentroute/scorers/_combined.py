"""Several scorers as one."""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

from agentroute.errors import ConfigError, MissingSignalError
from agentroute.scorers._base import Scorer, ScorerLike, as_scorer, checked_name
from agentroute.types import Query, Reply, Score

__all__ = ["All", "OnMissing", "Weighted"]

OnMissing: TypeAlias = Literal["error", "skip"]

_Found: TypeAlias = Score | MissingSignalError


class _Several(ABC):
    """What both have in common: names, needs, ceilings, joined signals and costs."""

    def __init__(self, scorers: Sequence[ScorerLike], *, on_missing: OnMissing, name: str) -> None:
        self.name = checked_name(name)
        self.scorers: tuple[Scorer, ...] = tuple(as_scorer(one) for one in scorers)
        self.on_missing = on_missing
        if not self.scorers:
            raise ConfigError(f"{type(self).__name__} of no scorers says nothing: give one or more")
        if on_missing not in get_args(OnMissing):
            raise ConfigError(f"on_missing={on_missing!r} must be one of {', '.join(get_args(OnMissing))}")
        twice = [one for one, count in Counter(scorer.name for scorer in self.scorers).items() if count > 1]
        if twice:
            raise ConfigError(f"two scorers are called {twice[0]!r}: give each its own name=..., so that signals stay apart")

    @property
    def needs(self) -> frozenset[str]:
        """What must be there: all that the parts need, or nothing where those that miss it are skipped."""
        return frozenset() if self.on_missing == "skip" else frozenset().union(*(one.needs for one in self.scorers))

    @property
    def ceiling(self) -> float | None:
        """The parts' ceilings together; `None` when that of any is unknown."""
        ceilings = [one.ceiling for one in self.scorers]
        return None if None in ceilings else math.fsum(one for one in ceilings if one is not None)

    def _one(self, scorer: Scorer, query: Query, reply: Reply) -> _Found:
        try:
            return scorer.score(query, reply)
        except MissingSignalError as error:
            return self._missed(error)

    async def _aone(self, scorer: Scorer, query: Query, reply: Reply) -> _Found:
        try:
            return await scorer.ascore(query, reply)
        except MissingSignalError as error:
            return self._missed(error)

    def _missed(self, error: MissingSignalError) -> MissingSignalError:
        if self.on_missing == "error":
            raise error
        return error

    def _joined(self, found: Sequence[_Found]) -> Score:
        """One score of those that are there; the parts after the last one were not asked.

        Raises:
            MissingSignalError: None is there: the first part's error.
        """
        there = [(i, one) for i, one in enumerate(found) if isinstance(one, Score)]
        if not there:
            raise next(one for one in found if isinstance(one, MissingSignalError))
        value = min(max(self._value(there), 0.0), 1.0)
        # A part that was skipped may have asked before it found nothing to read: what it spent nobody knows.
        costs = [one.cost if isinstance(one, Score) else self._spent(i) for i, one in enumerate(found)]
        signals = {self.name: value}
        for i, score in there:
            signals |= {self.scorers[i].name: score.value} | dict(score.signals)
        reasons = [f"{self.scorers[i].name}: {score.reason or f'{score.value:g}'}" for i, score in there]
        reasons += [f"{self.scorers[i].name}: skipped" for i, one in enumerate(found) if not isinstance(one, Score)]
        return Score(
            value=value,
            cost=None if None in costs else math.fsum(cost for cost in costs if cost is not None),
            reason="; ".join(reasons),
            signals=signals,
        )

    def _spent(self, skipped: int) -> float | None:
        return 0.0 if self.scorers[skipped].ceiling == 0.0 else None

    @abstractmethod
    def _value(self, there: Sequence[tuple[int, Score]]) -> float:
        """Of the scores that are there, with the place of each."""

    def __repr__(self) -> str:
        """Class and parts."""
        return f"{type(self).__name__}({', '.join(map(repr, self.scorers))}, name={self.name!r})"


class Weighted(_Several):
    """The weighted mean of several scorers, with the signals of all and the sum of their costs.

    Signals: the mean under its name, and every part's own. Awaited, the parts are asked at the same time.

    Args:
        parts: Pairs of a scorer (or function) and its weight, above 0; the weights need not sum to 1.
        on_missing: What happens when a part's signal is not there: `"error"` = its `MissingSignalError`; `"skip"` = the mean of
            the others, and the error only when none is left. Skipping compares answers by different measures: calibrate. After
            a skipped part whose ceiling is not 0 the cost is unknown, as it may have asked.
        name: What its signal is called.

    Raises:
        ConfigError: There are no parts, two of one name, or a weight is not above 0.

    >>> scorer = Weighted([(lambda reply: 1.0, 3.0), (as_scorer(lambda reply: 0.2, name="other"), 1.0)])
    >>> round(scorer.score(Query(text="?"), Reply(text="!")).value, 3)
    0.8
    """

    def __init__(
        self, parts: Sequence[tuple[ScorerLike, float]], *, on_missing: OnMissing = "error", name: str = "weighted"
    ) -> None:
        super().__init__([scorer for scorer, _ in parts], on_missing=on_missing, name=name)
        self.weights = tuple(float(weight) for _, weight in parts)
        if not all(0.0 < weight < math.inf for weight in self.weights):
            raise ConfigError(f"weights {self.weights} must be above 0: leave out what should not count")

    def score(self, query: Query, reply: Reply, /) -> Score:
        """Asks the parts one after the other."""
        return self._joined([self._one(scorer, query, reply) for scorer in self.scorers])

    async def ascore(self, query: Query, reply: Reply, /) -> Score:
        """Asks the parts at the same time; when several raise, the first part's error is raised."""
        asked = (self._aone(scorer, query, reply) for scorer in self.scorers)
        found: list[_Found] = []
        for one in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(one, BaseException) and not (isinstance(one, MissingSignalError) and self.on_missing == "skip"):
                raise one
            found.append(one)
        return self._joined(found)

    def _value(self, there: Sequence[tuple[int, Score]]) -> float:
        return math.fsum(self.weights[i] * score.value for i, score in there) / math.fsum(self.weights[i] for i, _ in there)


class All(_Several):
    """The least of several scorers: an answer must satisfy all of them.

    They are asked in order, awaited or not, and the first 0 ends it: put the free checks before the judge, and a broken answer
    costs nothing to reject. The signals of those that were not asked are then absent.

    Args:
        scorers: Scorers or functions.
        on_missing: As for `Weighted`.
        name: What its signal is called.

    Raises:
        ConfigError: There are no scorers, or two of one name.

    >>> both = All(lambda reply: reply.text != "", as_scorer(lambda reply: 0.7, name="other"))
    >>> both.score(Query(text="?"), Reply(text="!")).value
    0.7
    """

    def __init__(self, *scorers: ScorerLike, on_missing: OnMissing = "error", name: str = "all") -> None:
        super().__init__(scorers, on_missing=on_missing, name=name)

    def score(self, query: Query, reply: Reply, /) -> Score:
        """Asks in order, up to the first 0."""
        found: list[_Found] = []
        for scorer in self.scorers:
            found.append(self._one(scorer, query, reply))
            if _is_zero(found[-1]):
                break
        return self._joined(found)

    async def ascore(self, query: Query, reply: Reply, /) -> Score:
        """As `score`."""
        found: list[_Found] = []
        for scorer in self.scorers:
            found.append(await self._aone(scorer, query, reply))
            if _is_zero(found[-1]):
                break
        return self._joined(found)

    def _value(self, there: Sequence[tuple[int, Score]]) -> float:
        return min(score.value for _, score in there)


def _is_zero(found: _Found) -> bool:
    return isinstance(found, Score) and found.value == 0.0
