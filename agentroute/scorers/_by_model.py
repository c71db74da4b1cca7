"""A scorer for each model."""

from __future__ import annotations

import math
from collections.abc import Mapping

from agentroute.errors import ConfigError, MissingSignalError
from agentroute.scorers._base import Scorer, ScorerLike, as_scorer, checked_name
from agentroute.types import Query, Reply, Score

__all__ = ["ByModel"]


class ByModel:
    """Judges each model's answers by a scorer of its own: by itself, as AutoMix does, or each with its own calibration.

    Signals are those of the scorers; give them one name, and a cascade learns from them as one signal with a weight for each
    model.

    Args:
        scorers: Model id → scorer or function.
        default: For all other models; `None` = a `MissingSignalError`.
        name: What it is called.

    Raises:
        ConfigError: There are no scorers.
        MissingSignalError: By `score`, when the reply is of a model that has no scorer, or does not tell its model.

    >>> judge = ByModel({"small": lambda reply: 0.2}, default=lambda reply: 0.9)
    >>> [judge.score(Query(text="?"), Reply(text="!", model=model)).value for model in ("small", "large")]
    [0.2, 0.9]
    """

    def __init__(self, scorers: Mapping[str, ScorerLike], *, default: ScorerLike | None = None, name: str = "by_model") -> None:
        self.name = checked_name(name)
        self.scorers: dict[str, Scorer] = {model: as_scorer(scorer) for model, scorer in scorers.items()}
        self.default = None if default is None else as_scorer(default)
        if not self.scorers:
            raise ConfigError("ByModel of no scorers says nothing: give one for each model")

    @property
    def needs(self) -> frozenset[str]:
        """What any of them needs."""
        return frozenset().union(*(one.needs for one in self._all()))

    @property
    def ceiling(self) -> float | None:
        """The dearest one's; `None` when that of any is unknown."""
        ceilings = [one.ceiling for one in self._all()]
        return None if None in ceilings else max((one for one in ceilings if one is not None), default=math.nan)

    def score(self, query: Query, reply: Reply, /) -> Score:
        """Asks the scorer of the model that answered."""
        return self._of(reply).score(query, reply)

    async def ascore(self, query: Query, reply: Reply, /) -> Score:
        """As `score`."""
        return await self._of(reply).ascore(query, reply)

    def _of(self, reply: Reply) -> Scorer:
        found = self.scorers.get(reply.model or "", self.default)
        if found is None:
            raise MissingSignalError(
                f"a scorer for {reply.model!r}", self.name, f"it has one for {', '.join(self.scorers)}; give it a default"
            )
        return found

    def _all(self) -> list[Scorer]:
        return [*self.scorers.values(), *([] if self.default is None else [self.default])]

    def __repr__(self) -> str:
        """The models."""
        return f"ByModel({', '.join(self.scorers)}, default={self.default!r})"
