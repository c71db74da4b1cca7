"""All ways that a log's queries can take through a cascade, so that an exchange rate is tried by following pointers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from agentroute.cascades._supermodels import Columns, Floats, Options
from agentroute.types import Matrix

__all__ = ["Course", "StateEstimates", "billed"]

Bools = npt.NDArray[np.bool_]
_STOP, _UNKNOWN = -1, -2


class _Priced(Protocol):
    @property
    def cost(self) -> Matrix: ...


class StateEstimates(Protocol):
    """What is expected in every state of a cascade, for n queries and m models, the cheapest model first."""

    @property
    def cost(self) -> Matrix:
        """float64 [n, m], expected USD of a call, its scoring included."""

    @property
    def latency(self) -> Matrix | None:
        """float64 [n, m], expected seconds of a call; `None` = unknown."""

    def quality(self, answered: int, rows: npt.NDArray[np.int64], /) -> Matrix:
        """float64 [r, m]; bit j of `answered` set = model j has answered, 0 = nobody has. NaN = no idea."""

    def factor(self, answered: int, /) -> Matrix | None:
        """float64 [m, m], L with L Lᵀ the covariance of how much the estimates will still move; `None` = not at all."""


def billed(states: _Priced, cost: Matrix, score_cost: Matrix | None) -> Matrix:
    """What calls cost, float64 [n, m]: as billed, and where that is not known, as expected.

    Args:
        states: What is expected. Its `score_cost`, if it has one, is what of its `cost` is scoring, float64 [m].
        cost: float64 [n, m], NaN = not known.
        score_cost: What scoring cost, where it is booked by itself: then what is expected must not hold it again.
    """
    expected = states.cost if score_cost is None else states.cost - getattr(states, "score_cost", 0.0)
    return np.where(np.isnan(cost), expected, cost)


class Course:
    """The states that queries reach, each with what is best at every exchange rate, worked out when first reached.

    What a set of models is worth does not depend on what money is worth: in a state, the best option as a function of lambda
    is a short list of changes (`Options.envelope`). With these lists kept, hundreds of choices of lambda, another one for
    each step if need be, are tried on thousands of queries in a second.

    Args:
        plan: The options of some queries in a state: (answered, rows int64 [r]) → `Options`, or `None` when no model may be
            called any more.
        states: Estimates for n queries.
        quality: float64 [n, m], as observed; NaN = not observed, the estimate at the time stands in.
        cost: float64 [n, m], as billed; NaN likewise.
        score_cost: float64 [n, m], what looking at an answer costs on top; `None` = nothing.
        check_last: Whether an answer after which nobody may be called is looked at, too; otherwise it is taken as it is.
    """

    def __init__(
        self,
        plan: Callable[[int, Columns], Options | None],
        states: StateEstimates,
        quality: Matrix,
        cost: Matrix,
        *,
        score_cost: Matrix | None = None,
        check_last: bool = False,
    ) -> None:
        self._plan, self._states, self._check_last = plan, states, check_last
        self._quality, self._cost = quality, billed(states, cost, score_cost)
        self._score_cost = score_cost
        self.rows, self.models = cost.shape
        # Tables of states; each has one column more than there are changes. They grow by doubling.
        self._places: dict[int, Columns] = {}
        self._count = 0
        self._row, self._mask = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._known, self._answer, self._gain = np.zeros(0, np.bool_), np.zeros(0, np.int64), np.zeros(0)
        self._open = np.zeros(0, np.bool_)
        self._rates = np.zeros((0, 1))
        self._calls, self._next = np.zeros((0, 2), np.int64), np.zeros((0, 2), np.int64)
        self._roots = self._state_of(0, np.arange(self.rows))

    def walk(self, weights: Floats, chosen: Columns | None = None) -> tuple[Floats, Columns, Columns]:
        """Follows every query at several choices of lambda.

        Args:
            weights: float64 [g, s], lambda of each step; the last one holds for all later steps.
            chosen: int64 [n], each query's one choice; `None` = it takes all of them.

        Returns:
            USD spent, float64 [g, n], the states in which the queries end, int64 [g, n], and who was called last, int64 [g, n];
            g is 1 where each query has its choice.
        """
        tried, last = len(weights) if chosen is None else 1, weights.shape[1] - 1
        state = np.tile(self._roots, tried)
        trial = np.repeat(np.arange(tried), self.rows) if chosen is None else chosen
        spent, end, latest = np.zeros(len(state)), state.copy(), np.zeros(len(state), np.int64)
        going = np.arange(len(state))
        for step in range(self.models + 1):
            fresh = state[~self._known[state]]
            if len(fresh):
                self._expand(np.unique(fresh))
            if step and self._score_cost is not None:
                # The last answer is looked at, unless it is taken as it is because nobody is left to call.
                seen = self._open[state] | self._check_last
                spent[going[seen]] += self._score_cost[self._row[state[seen]], latest[going[seen]]]
            rate = weights[trial[going], min(step, last)]
            piece = (rate[:, None] < self._rates[state]).sum(axis=1)
            call = self._calls[state, piece]
            on = call != _STOP
            end[going[~on]] = state[~on]
            going, state, piece, call = going[on], state[on], piece[on], call[on]
            if not len(going):
                break
            spent[going] += self._cost[self._row[state], call]
            latest[going] = call
            self._link(state, piece)
            state = self._next[state, piece]
        shape = (tried, self.rows)
        return spent.reshape(shape), end.reshape(shape), latest.reshape(shape)

    def gains(self, weights: Floats) -> tuple[Floats, Floats]:
        """USD spent and quality of the answer, each float64 [g, n], at several choices of lambda, as in `walk`."""
        spent, end, latest = self.walk(weights)
        gain = self._gain[end]
        unseen = self._unseen(end)
        if unseen.any():
            rows = np.broadcast_to(np.arange(self.rows), end.shape)[unseen]
            found = self._quality[rows, latest[unseen]]
            # What was not observed is worth what is estimated where all have answered.
            gain[unseen] = np.where(np.isnan(found), gain[unseen], found)
        return spent, gain

    def points(self, weights: Floats) -> Matrix:
        """float64 [g, 2]: mean USD a query and mean quality at each of several choices of lambda, as in `walk`."""
        return np.column_stack([part.mean(axis=1) for part in self.gains(weights)])

    def spend(self, weights: Floats) -> float:
        """Mean USD a query at one choice of lambda, float64 [s]."""
        return float(self.walk(weights[None])[0].mean())

    def outcome(self, weights: Floats, chosen: Columns | None = None) -> tuple[Bools, Columns]:
        """Who is called for each query, bool [n, m], and whose answer is taken, int64 [n].

        Args:
            weights: float64 [s], lambda of each step, or [g, s] where queries differ.
            chosen: int64 [n], each query's row of them.
        """
        _, end, latest = (part[0] for part in self.walk(np.atleast_2d(weights), chosen))
        called = (self._mask[end][:, None] >> np.arange(self.models) & 1).astype(np.bool_)
        return called, np.where(self._unseen(end), latest, self._answer[end])

    def _unseen(self, end: Columns) -> Bools:
        """Whether the last answer before these states was taken as it is, because nobody was left to call."""
        return ~self._open[end] & (self._mask[end] > 0) & (not self._check_last)

    def changes(self) -> Floats:
        """The lambdas at which the first decision of some query changes, rising."""
        self.walk(np.full((1, 1), np.inf))
        rates = self._rates[self._roots]
        return np.unique(rates[rates > 0.0])

    def _state_of(self, mask: int, rows: Columns) -> Columns:
        """The states of some queries after these models have answered; those that are new are entered."""
        places = self._places.setdefault(mask, np.full(self.rows, -1, np.int64))
        new = rows[places[rows] < 0]
        if len(new):
            at = np.arange(self._count, self._count + len(new))
            self._grow(self._count + len(new))
            places[new] = at
            self._row[at], self._mask[at] = new, mask
            self._count += len(new)
        return places[rows]

    def _grow(self, size: int) -> None:
        held = len(self._row)
        if size <= held:
            return
        more = max(size, 2 * held) - held
        for name in ("_row", "_mask", "_known", "_open", "_answer", "_gain", "_rates"):
            _extend(self, name, more, 0)
        _extend(self, "_calls", more, _STOP)
        _extend(self, "_next", more, _UNKNOWN)

    def _expand(self, states: Columns) -> None:
        """Works out what is best in states that are reached for the first time."""
        masks = self._mask[states]
        for mask in np.unique(masks):
            at = states[masks == mask]
            rows, answered = self._row[at], int(mask)
            if answered:
                self._settle(at, answered, rows)
            options = self._plan(answered, rows)
            self._known[at] = True
            if options is None:
                continue
            self._open[at] = True
            rates, best = options.envelope()
            calls = np.stack([options.first(column, may_stop=answered > 0) for column in best.T], axis=1)
            self._widen(rates.shape[1])
            self._rates[at, : rates.shape[1]] = rates
            self._calls[at, : calls.shape[1]] = calls

    def _settle(self, at: Columns, answered: int, rows: Columns) -> None:
        """Whose answer is taken if the query stops here: the best estimate's, the stronger model's of equals."""
        done = np.array([j for j in range(self.models) if answered >> j & 1])
        expected = self._states.quality(answered, rows)[:, done]
        place = len(done) - 1 - np.where(np.isnan(expected), -np.inf, expected)[:, ::-1].argmax(axis=1)
        taken = done[place]
        found = self._quality[rows, taken]
        self._answer[at] = taken
        self._gain[at] = np.where(np.isnan(found), expected[np.arange(len(rows)), place], found)

    def _link(self, states: Columns, pieces: Columns) -> None:
        """Enters the states to which these decisions lead."""
        open_ = self._next[states, pieces] == _UNKNOWN
        if not open_.any():
            return
        states, pieces = states[open_], pieces[open_]
        masks = self._mask[states] | (np.int64(1) << self._calls[states, pieces])
        order = np.argsort(masks, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(masks[order])) + 1):
            # Several decisions of one query may lead to one state.
            rows = self._row[states[part]]
            self._state_of(int(masks[part[0]]), np.unique(rows))
            self._next[states[part], pieces[part]] = self._places[int(masks[part[0]])][rows]

    def _widen(self, changes: int) -> None:
        more = changes - self._rates.shape[1]
        if more > 0:
            # A rate of 0 is below every lambda: the new places are never looked at in the states that are known.
            self._rates = np.pad(self._rates, ((0, 0), (0, more)))
            self._calls = np.pad(self._calls, ((0, 0), (0, more)), mode="edge")
            self._next = np.pad(self._next, ((0, 0), (0, more)), constant_values=_UNKNOWN)


def _extend(course: Course, name: str, more: int, fill: int) -> None:
    held = getattr(course, name)
    shape = (more, *held.shape[1:])
    setattr(course, name, np.concatenate([held, np.full(shape, fill, held.dtype)]))
