"""The scorer contract, and the plain function as a scorer."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from agentroute.errors import ConfigError, DataError, MissingSignalError
from agentroute.scorers._threads import in_thread
from agentroute.types import Query, Reply, Score

__all__ = ["Instant", "Scorer", "ScorerLike", "as_scorer", "asked_text"]


@runtime_checkable
class Scorer(Protocol):
    """Judges one answer to one query."""

    @property
    def name(self) -> str:
        """What its signals are called."""

    @property
    def needs(self) -> frozenset[str]:
        """What the answer must carry: `"logprobs"`, `"top_logprobs"`, `"finish"` or nothing."""

    @property
    def ceiling(self) -> float | None:
        """Most USD that one scoring costs; 0 = free, `None` = unknown."""

    def score(self, query: Query, reply: Reply, /) -> Score:
        """How good the answer looks.

        Raises:
            MissingSignalError: The answer does not carry what this scorer reads.
        """

    async def ascore(self, query: Query, reply: Reply, /) -> Score:
        """As `score`, and the same value."""


ScorerLike: TypeAlias = Scorer | Callable[..., Any]
"""A scorer, or a plain or async function `(query, reply)` or `(reply)` that gives a bool, a number or a `Score`."""


class Instant(ABC):
    """A scorer that waits for nothing and costs nothing.

    Args:
        name: What its signals are called.
    """

    needs: frozenset[str] = frozenset()
    ceiling: float | None = 0.0

    def __init__(self, name: str) -> None:
        self.name = checked_name(name)

    @abstractmethod
    def score(self, query: Query, reply: Reply, /) -> Score:
        """How good the answer looks."""

    async def ascore(self, query: Query, reply: Reply, /) -> Score:
        """As `score`."""
        return self.score(query, reply)

    def _verdict(self, problem: str | None, fine: str) -> Score:
        """1 when there is no problem, else 0."""
        value = float(problem is None)
        return Score(value=value, reason=fine if problem is None else problem, signals={self.name: value})

    def __repr__(self) -> str:
        """Class and name."""
        return f"{type(self).__name__}(name={self.name!r})"


def checked_name(name: object) -> str:
    """The name.

    Raises:
        ConfigError: It is not a string, or empty.
    """
    if not (isinstance(name, str) and name):
        raise ConfigError(f"a scorer's name must be a string that is not empty, not {name!r}")
    return name


def checked_ceiling(ceiling: float | None) -> float | None:
    """The ceiling.

    Raises:
        ConfigError: It is negative or not finite.
    """
    given: object = ceiling
    if given is not None and not (isinstance(given, int | float) and 0.0 <= given < math.inf):
        raise ConfigError(f"ceiling={ceiling!r} must be USD, 0 or more, or None when nobody knows")
    return ceiling


def asked_text(query: Query, scorer: str) -> str:
    """The query's text, for a scorer that shows it to a model.

    Raises:
        MissingSignalError: The text was withheld.
    """
    if query.withheld:
        raise MissingSignalError("the query's text", scorer, "score while the text is at hand, or log with store_prompts=True")
    return query.text


def as_scorer(scorer: ScorerLike, *, name: str | None = None, needs: Iterable[str] = (), ceiling: float | None = 0.0) -> Scorer:
    """A scorer from anything that can judge an answer.

    Args:
        scorer: A `Scorer`, which is returned as it is; or a function, plain or async, of `(query, reply)` or of `(reply)` alone,
            told apart by the number of its arguments without default. It gives a bool, a number in [0, 1] or a `Score`.
        name: Of a function's signal; `None` = the function's name.
        needs: What the function reads besides the text.
        ceiling: Most USD that one call of the function costs. A function that spends money says so here, and what it spent in
            the `Score` that it returns; a bool or a number means that nothing was spent.

    A plain function runs in a thread of its own when it is awaited, so that it may wait for a network; one that hangs holds up
    neither other scorers nor the end of the process. How many run at once is up to the callers. An async function cannot be used
    by synchronous callers.

    Raises:
        ConfigError: It is neither, or takes other arguments.

    >>> score = as_scorer(lambda reply: "Lima" in reply.text, name="names the city").score(Query(text="?"), Reply(text="Lima."))
    >>> score.value, dict(score.signals)
    (1.0, {'names the city': 1.0})
    """
    if isinstance(scorer, type):
        raise ConfigError(f"{scorer.__name__} is a class: pass an instance, as in {scorer.__name__}()")
    if isinstance(scorer, Scorer):
        return scorer
    if not callable(scorer):
        raise ConfigError(
            f"{scorer!r} cannot score: give a function of (query, reply), or an object with name, needs, ceiling, score, ascore"
        )
    return _Function(scorer, name=name, needs=needs, ceiling=ceiling)


class _Function:
    """A user's function as a scorer."""

    def __init__(self, function: Callable[..., Any], *, name: str | None, needs: Iterable[str], ceiling: float | None) -> None:
        own = getattr(function, "__name__", type(function).__name__)
        self.name = checked_name(name if name is not None else "function" if own == "<lambda>" else own)
        self.needs = frozenset(needs)
        self.ceiling = checked_ceiling(ceiling)
        self._function = function
        self._whole = _takes_query(function, self.name)
        self._waits = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004  # an object whose call is async

    def score(self, query: Query, reply: Reply, /) -> Score:
        """What the function gives.

        Raises:
            ConfigError: The function is async.
            DataError: It gave nothing that is a score.
        """
        if self._waits:
            raise ConfigError(f"the scorer {self.name!r} is an async function: use the asynchronous calls, or a plain function")
        given = self._call(query, reply)
        if inspect.isawaitable(given):
            if inspect.iscoroutine(given):
                given.close()
            raise ConfigError(f"the scorer {self.name!r} gave an awaitable: use the asynchronous calls, or a plain function")
        return _scored(given, self.name)

    async def ascore(self, query: Query, reply: Reply, /) -> Score:
        """What the function gives, once it has been awaited.

        Raises:
            DataError: It gave nothing that is a score.
        """
        given = self._call(query, reply) if self._waits else await in_thread(self._call, query, reply)
        return _scored(await given if inspect.isawaitable(given) else given, self.name)

    def _call(self, query: Query, reply: Reply) -> Any:
        return self._function(query, reply) if self._whole else self._function(reply)

    def __repr__(self) -> str:
        """The function."""
        return f"as_scorer({self._function!r}, name={self.name!r})"


def _takes_query(function: Callable[..., Any], name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"nobody can tell what the scorer {name!r} takes: wrap it, as in lambda query, reply: ...") from error
    places = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    required = [one for one in parameters if one.default is one.empty and one.kind in places]
    named = [one.name for one in parameters if one.default is one.empty and one.kind is one.KEYWORD_ONLY]
    several = any(one.kind is one.VAR_POSITIONAL for one in parameters)
    if named or not (len(required) in {1, 2} or (several and len(required) <= 2)):
        raise ConfigError(f"the scorer {name!r} must take (query, reply) or (reply), all else with a default")
    return several or len(required) == 2


def _scored(given: object, name: str) -> Score:
    """What a function gave, as a score."""
    if isinstance(given, Score):
        return given if name in given.signals else _with_signal(given, name)
    if not isinstance(given, bool | int | float | np.bool_ | np.integer | np.floating):
        raise DataError(f"the scorer {name!r} gave {given!r}: return a bool, a number in [0, 1] or a Score")
    value = float(given)
    if not 0.0 <= value <= 1.0:
        raise DataError(f"the scorer {name!r} gave {value!r}, which is outside [0, 1]: rescale it")
    return Score(value=value, reason=f"{name} says {value:g}", signals={name: value})


def _with_signal(score: Score, name: str) -> Score:
    return Score(value=score.value, cost=score.cost, reason=score.reason, signals={name: score.value, **score.signals})
