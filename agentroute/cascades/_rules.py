"""What a plan may weigh: who may be called next, how many at most, and what waiting costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from agentroute.cascades._course import StateEstimates
from agentroute.cascades._supermodels import MOST, Columns, Floats, Options, SuperModels, fewest_beaten, is_whole
from agentroute.errors import ConfigError, DataError
from agentroute.types import Matrix

__all__ = ["Plans", "Rules", "bits"]

_ALL = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The options of `CascadeRouting` that say what it may weigh.

    Attributes:
        climb: Whether more than one model may answer.
        ordered: Whether models are called in the order of the columns only.
        latency_weight: Quality that a second of waiting is worth.
        max_models: Most models called for one query; `None` = no limit.

    Raises:
        ConfigError: One is out of range.
    """

    climb: bool
    ordered: bool
    latency_weight: float
    max_models: int | None

    def __post_init__(self) -> None:
        """Refuses rules under which nothing could be called, or waiting would be a gain."""
        if not 0.0 <= self.latency_weight < math.inf:
            raise ConfigError(f"latency_weight={self.latency_weight!r} must be 0 or more (quality per second)")
        if self.max_models is not None and not is_whole(self.max_models, 1):
            raise ConfigError(f"max_models={self.max_models!r} must be a whole number, 1 or more; None = no limit")

    def within(self, most: int | None) -> Rules:
        """The same rules with no more than `most` models called for a query; `None` = as they are."""
        if most is None or (self.max_models is not None and self.max_models <= most):
            return self
        return replace(self, max_models=most)

    def columns(self, count: int, answered: int, failed: int, allowed: int | None) -> list[int]:
        """Who may be called next; nobody when a hard limit is reached."""
        called = answered | failed
        if (answered and not self.climb) or self._left(called) < 1:
            return []
        return bits(~called & ((1 << count) - 1) & (-1 if allowed is None else allowed))

    def any_set(self, called: int, columns: list[int]) -> bool:
        """Whether every set of these models may be planned."""
        return self.climb and not self.ordered and len(columns) <= min(MOST, self._left(called))

    def toll(self, latency: npt.NDArray[np.float64] | None) -> Matrix | None:
        """What waiting for each call costs in quality: float64 [n, m]; `None` = nothing.

        Raises:
            DataError: Latency is weighed and unknown.
        """
        if not self.latency_weight:
            return None
        if latency is None or np.isnan(latency).any():
            raise DataError("latency is weighed, and a model's is unknown: log it, or set latency_weight=0")
        return np.atleast_2d(self.latency_weight * latency)

    def options(
        self,
        sets: SuperModels,
        quality: Matrix,
        cost: Matrix,
        columns: list[int],
        *,
        answered: int,
        failed: int = 0,
        factor: Floats | None,
        toll: Matrix | None,
        rate: float | None = None,
    ) -> Options:
        """What may be planned in a state.

        Args:
            sets: Weighs sets.
            quality: float64 [r, m], estimates in this state.
            cost: float64 [r, m], USD a call.
            columns: Who may be called, from `columns`; not empty.
            answered: Bit j set = model j has answered.
            failed: Bit j set = model j has failed.
            factor: float64 [m, m] or `None`.
            toll: float64 [r, m] or `None`, what waiting costs.
            rate: Lambda where it is known, and there is one query: sets that cannot be best are then left out.
        """
        places = np.array(columns)
        if len(columns) > MOST and self.climb and not self.ordered:
            expected = np.where(np.isnan(quality), -np.inf, quality)[:, places]
            places = places[fewest_beaten(expected, cost[:, places], MOST)]
            places = places[0] if len(places) == 1 else places
        return sets.options(
            quality,
            cost,
            places,
            answered=bits(answered),
            factor=factor,
            toll=toll,
            ordered=self.ordered,
            alone=not self.climb,
            most=self._left(answered | failed),
            rate=rate,
        )

    def one_left(self, called: int) -> bool:
        """Whether a single further model may be called."""
        return not self.climb or self._left(called) == 1

    def _left(self, called: int) -> int:
        return _ALL if self.max_models is None else self.max_models - called.bit_count()


class Plans:
    """The options of some queries in a state, as a `Course` asks for them."""

    def __init__(self, rules: Rules, sets: SuperModels, states: StateEstimates) -> None:
        self._rules, self._sets, self._states = rules, sets, states
        self._tolls = rules.toll(states.latency)

    def __call__(self, answered: int, rows: Columns) -> Options | None:
        """`None` when no model may be called any more."""
        states, rules = self._states, self._rules
        columns = rules.columns(states.cost.shape[1], answered, 0, None)
        if not columns:
            return None
        return rules.options(
            self._sets,
            states.quality(answered, rows),
            states.cost[rows],
            columns,
            answered=answered,
            factor=states.factor(answered),
            toll=None if self._tolls is None else self._tolls[rows],
        )


def bits(mask: int) -> list[int]:
    """The places of the bits that are set, rising.

    >>> bits(0b1010)
    [1, 3]
    """
    return [j for j in range(mask.bit_length()) if mask >> j & 1]
