"""Cascades of a few models in a fixed order, each answer accepted from a threshold on."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from agentroute.cascades._course import billed
from agentroute.errors import ConfigError, DataError, NotFittedError
from agentroute.types import Matrix

__all__ = ["Chain", "ChainLog", "ChainPolicy", "ThresholdCascade"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class States(Protocol):
    """What is expected in every state of a cascade; columns are the cheapest model first."""

    @property
    def cost(self) -> Matrix:
        """float64 [n, m], expected USD of a call, its scoring included."""

    def quality(self, answered: int, rows: Ints, /) -> Matrix:
        """float64 [r, m]; bit j of `answered` set = model j has answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A cascade with thresholds, and what it did, or is expected to do, on the log.

    Attributes:
        columns: The models in their order, as columns.
        thresholds: One fewer: an answer whose estimated quality reaches its threshold is taken.
        quality: Mean quality.
        cost: Mean USD a query.
    """

    columns: tuple[int, ...]
    thresholds: tuple[float, ...]
    quality: float
    cost: float


class ChainPolicy(ABC):
    """What both ways to find thresholds have in common: which chains there are, which one is chosen, and what it decides."""

    how = "threshold"
    kind: ClassVar[str]

    def __init__(self, *, budget: float | None = None, willingness_to_pay: float = math.inf, longest: int = 3) -> None:
        if budget is not None and not 0.0 < budget < math.inf:
            raise ConfigError(f"budget={budget!r} must be a positive number of USD a query")
        if not willingness_to_pay > 0.0:
            raise ConfigError(
                f"willingness_to_pay={willingness_to_pay!r} must be above 0 USD per unit of quality (infinity = quality alone)"
            )
        if not 1 <= longest <= 3:
            raise ConfigError(f"longest={longest!r}: a chain has 1, 2 or 3 models; thresholds are searched for up to 3")
        self.budget = None if budget is None else float(budget)
        self.willingness_to_pay = float(willingness_to_pay)
        self.longest = int(longest)

    chain_: Chain
    """The chosen chain."""
    frontier_: tuple[Chain, ...]
    """The chains that no other one beats, cheapest first: better ones cost more. Not saved."""

    @abstractmethod
    def _settings(self, columns: tuple[int, ...], log: ChainLog) -> tuple[Floats, Floats, Floats]:
        """Thresholds float64 [s, len(columns) - 1] that come into question, with the quality [s] and cost [s] they give."""

    def fit(
        self,
        states: States,
        quality: Matrix,
        cost: Matrix,
        /,
        *,
        score_cost: Matrix | None = None,
        live: States | None = None,  # noqa: ARG002  # the contract of policies; quantiles of the log are what they are
    ) -> Self:
        """Finds the chain and the thresholds.

        Args:
            states: Out-of-fold estimates of n logged queries (`PostHocEstimator.fitted_states`).
            quality: float64 [n, m], as observed, columns as those of the states; where a cell is NaN its estimate stands in.
            cost: float64 [n, m], as billed; the same.
            score_cost: float64 [n, m], USD of looking at each answer, where `cost` does not hold it: paid for all but the last
                answer of a chain.
            live: Not used.

        Raises:
            ConfigError: Even the cheapest model alone costs more than the budget; the message gives its cost.
            DataError: The log and the states do not belong together.
        """
        log = ChainLog(states, quality, cost, score_cost)
        columns: list[tuple[int, ...]] = []
        rows: list[Floats] = []
        for chain in _chains(log.quality.shape[1], self.longest):
            thresholds, gained, spent = self._settings(chain, log)
            some = _undominated(gained, spent)
            columns += [chain] * len(some)
            padded = np.full((len(some), self.longest - 1), np.nan)
            padded[:, : len(chain) - 1] = thresholds[some]
            rows.append(np.column_stack([gained[some], spent[some], padded]))
        found = np.concatenate(rows)
        best = _undominated(found[:, 0], found[:, 1])
        self.frontier_ = tuple(
            Chain(
                columns=columns[i],
                thresholds=tuple(found[i, 2 : 1 + len(columns[i])].tolist()),
                quality=float(found[i, 0]),
                cost=float(found[i, 1]),
            )
            for i in best
        )
        self.chain_ = self._chosen(self.frontier_)
        return self

    def _chosen(self, frontier: Sequence[Chain]) -> Chain:
        kept = [one for one in frontier if self.budget is None or one.cost <= self.budget]
        if not kept:
            raise ConfigError(
                f"budget=${self.budget:.3g} cannot be kept: the cheapest model alone costs ${frontier[0].cost:.3g} a query here"
            )
        return max(kept, key=lambda one: (one.quality - one.cost / self.willingness_to_pay, -one.cost))

    def using(self, chain: Chain, /) -> Self:
        """The same policy with another chain, such as one of `frontier_`."""
        made = type(self)(**self._options())
        made.chain_ = chain
        return made

    @property
    def calls(self) -> int | None:
        """Most models that it calls for one query, when none fails."""
        return len(self._fitted().columns)

    def decide(
        self,
        quality: Floats,
        cost: Floats,
        /,
        *,
        answered: int = 0,
        failed: int = 0,
        allowed: int | None = None,
        factor: Floats | None = None,  # noqa: ARG002  # the contract of policies; thresholds know no uncertainty
        latency: Floats | None = None,  # noqa: ARG002  # nor time
        step: int = 0,  # noqa: ARG002  # a chain knows its place by who has answered
        last: int | None = None,  # noqa: ARG002  # the last answer is that of the last model of the chain
        most: int | None = None,
        draw: float | None = None,  # noqa: ARG002  # nothing is mixed
    ) -> int | None:
        """The column to call next; `None` = the last answer is taken.

        A model of the chain that failed or may not be called is skipped; when none of the chain has answered or can, the
        cheapest other one is called.

        Args:
            quality: float64 [m], expected qualities after the answers so far.
            cost: float64 [m], expected USD of a call.
            answered: Bit j set = model j has answered.
            failed: Bit j set = model j was called and gave no answer.
            allowed: Bit j set = model j may be called; `None` = all may.
            factor: Not used.
            latency: Not used.
            step: Not used.
            last: Not used.
            most: Most models that may be called for this query, failed ones included. The last one is then the best of those that
                are left of the chain, unless there is a budget, to which only the chain's own order keeps.
            draw: Not used.
        """
        chain = self._fitted()
        done = [place for place, column in enumerate(chain.columns) if answered >> column & 1]
        open_ = ~(answered | failed) & (-1 if allowed is None else allowed)
        if done:
            at = done[-1]
            if at == len(chain.thresholds) or quality[chain.columns[at]] >= chain.thresholds[at]:
                return None
        after = chain.columns[done[-1] + 1 :] if done else chain.columns
        after = tuple(column for column in after if open_ >> column & 1)
        if after:
            if most is None or (answered | failed).bit_count() + 1 < most or self.budget is not None:
                return after[0]
            worth = np.nan_to_num(quality - cost / self.willingness_to_pay, nan=-np.inf)
            return max(after, key=lambda column: float(worth[column]))
        if answered:
            return None
        others = [column for column in range(len(quality)) if open_ >> column & 1]
        return min(others, key=lambda column: float(cost[column]), default=None)

    def run(self, states: States, /, *, draws: Floats | None = None) -> tuple[Bools, Ints]:  # noqa: ARG002  # nothing is mixed
        """Who is called for each of n queries, bool [n, m], and whose answer is taken, int64 [n]: the last one's."""
        chain, (n, m) = self._fitted(), states.cost.shape
        called, answer = np.zeros((n, m), dtype=np.bool_), np.full(n, chain.columns[0])
        going, answered = np.arange(n), 0
        for place, column in enumerate(chain.columns):
            called[going, column], answer[going] = True, column
            answered |= 1 << column
            if place < len(chain.thresholds):
                going = going[~(states.quality(answered, going)[:, column] >= chain.thresholds[place])]
        return called, answer

    def unseen(self, called: Bools, /) -> Bools:
        """Which queries' answers were those of the chain's last model, which nobody looks at: bool [n, m] called to bool [n]."""
        return np.asarray(called[:, self._fitted().columns[-1]], np.bool_)

    def _fitted(self) -> Chain:
        try:
            return self.chain_
        except AttributeError:
            raise NotFittedError(f"this {type(self).__name__} is not fitted: call fit(states, quality, cost) first") from None

    def _options(self) -> dict[str, Any]:
        return {"budget": self.budget, "willingness_to_pay": self.willingness_to_pay, "longest": self.longest}

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """The options and the chosen chain."""
        chain = self._fitted()
        pay = self.willingness_to_pay
        fitted = {
            "columns": list(chain.columns),
            "thresholds": list(chain.thresholds),
            "quality": chain.quality,
            "cost": chain.cost,
        }
        options = self._options() | {"willingness_to_pay": pay if math.isfinite(pay) else None}  # JSON knows no infinity
        return {**options, "chain": fitted}, {}

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], /) -> Self:  # noqa: ARG003  # the contract of policies
        """The policy that `state` described."""
        given = {name: value for name, value in config.items() if name not in {"chain", "kind"}}
        pay = given.pop("willingness_to_pay")
        made = cls(**given, willingness_to_pay=math.inf if pay is None else pay)
        chain = config["chain"]
        made.chain_ = Chain(
            columns=tuple(map(int, chain["columns"])),
            thresholds=tuple(map(float, chain["thresholds"])),
            quality=float(chain["quality"]),
            cost=float(chain["cost"]),
        )
        return made

    def __repr__(self) -> str:
        """As constructed."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._options().items())})"


class ThresholdCascade(ChainPolicy):
    """The simple cascade: up to three models in order of cost; an answer is taken when its estimated quality is high enough.

    Chains and thresholds are those that did best on the log, of all chains in order of cost and of a grid of quantiles of the
    estimates for each threshold. It is the baseline that plans are measured against: it asks only how good the last answer is,
    not what the next one would add, so that it pays for hopeless queries, and with weak estimates it may be worse than a
    random mix of two models.

    Args:
        budget: Most USD a query, on average over queries like those of the log; `None` = no limit.
        willingness_to_pay: USD that one unit of quality is worth; infinity = the best quality within the budget.
        longest: Models in a chain at most.
        levels: Thresholds that are tried for each answer.

    Raises:
        ConfigError: An option is out of range.

    Source: FrugalGPT (Chen, Zaharia and Zou 2023, arXiv:2305.05176, section 3); that it may be worse than linear interpolation,
    Dekoninck et al. 2024, arXiv:2410.10347.
    """

    kind = "threshold"

    def __init__(
        self, *, budget: float | None = None, willingness_to_pay: float = math.inf, longest: int = 3, levels: int = 20
    ) -> None:
        super().__init__(budget=budget, willingness_to_pay=willingness_to_pay, longest=longest)
        if levels < 1:
            raise ConfigError(f"levels={levels!r}: give 1 or more")
        self.levels = int(levels)

    def _options(self) -> dict[str, Any]:
        return super()._options() | {"levels": self.levels}

    def _settings(self, columns: tuple[int, ...], log: ChainLog) -> tuple[Floats, Floats, Floats]:
        q, c = log.quality[:, columns], log.price(columns)
        n = len(q)
        if len(columns) == 1:
            return np.empty((1, 0)), q.mean(axis=0), c.mean(axis=0)
        first = self._levels(log.score(columns[:1]))
        on = log.score(columns[:1]) < first[:, None]  # bool [levels, n], who goes on
        gained = q[:, 0].mean() + on @ (q[:, 1] - q[:, 0]) / n
        spent = c[:, 0].mean() + on @ c[:, 1] / n
        if len(columns) == 2:
            return first[:, None], gained, spent
        second = self._levels(log.score(columns[:2]))
        further = log.score(columns[:2]) < second[:, None]
        gained = gained[:, None] + (on * (q[:, 2] - q[:, 1])) @ further.T / n
        spent = spent[:, None] + (on * c[:, 2]) @ further.T / n
        thresholds = np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2)
        return thresholds, gained.ravel(), spent.ravel()

    def _levels(self, score: Floats) -> Floats:
        return np.unique(np.quantile(score, np.arange(1, self.levels + 1) / (self.levels + 1)))


class ChainLog:
    """What was observed, its gaps filled with estimates, and the estimates of answers."""

    def __init__(self, states: States, quality: Matrix, cost: Matrix, score_cost: Matrix | None) -> None:
        if quality.shape != states.cost.shape or cost.shape != states.cost.shape:
            raise DataError(
                f"quality {quality.shape}, cost {cost.shape} and states {states.cost.shape}: give the same rows and columns"
            )
        self._states, self._rows = states, np.arange(len(quality))
        self.quality = np.where(np.isnan(quality), states.quality(0, self._rows), quality)
        self.cost = billed(states, cost, score_cost)
        self._score_cost = score_cost
        self._known: dict[int, Matrix] = {}

    def price(self, columns: Sequence[int]) -> Matrix:
        """float64 [n, k], what calling each of these costs, and looking at all but the last."""
        found: Matrix = self.cost[:, list(columns)]
        if self._score_cost is not None:
            found = found + np.pad(self._score_cost[:, list(columns[:-1])], ((0, 0), (0, 1)))
        return found

    def expected(self, answered: Sequence[int]) -> Matrix:
        """float64 [n, m], where these columns have answered."""
        name = sum(1 << column for column in answered)
        if name not in self._known:
            self._known[name] = self._states.quality(name, self._rows)
        return self._known[name]

    def score(self, columns: Sequence[int]) -> Floats:
        """float64 [n], expected quality of the last of these columns when all of them have answered."""
        return np.asarray(self.expected(columns)[:, columns[-1]])


def _chains(models: int, longest: int) -> Iterator[tuple[int, ...]]:
    """Every chain in order of cost."""
    for size in range(1, min(longest, models) + 1):
        yield from itertools.combinations(range(models), size)


def _undominated(quality: Floats, cost: Floats) -> Ints:
    """Those that nothing beats, by rising cost: of equal cost the best, and only what is better than all that is cheaper."""
    order = np.lexsort((-quality, cost))
    best = np.maximum.accumulate(quality[order])
    kept: Ints = order[np.concatenate([[True], quality[order][1:] > best[:-1]])]
    return kept
