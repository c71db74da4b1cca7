"""What can be had without choosing before the call: votes of a few models, and cascades with an imperfect judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.evaluation._laps import parts

__all__ = ["JUDGE_ERRORS", "Plan", "best_cascade", "best_votes", "can_vote", "climb", "majority"]

Floats: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = npt.NDArray[np.int64]

JUDGE_ERRORS = (0.0, 0.1, 0.2, 0.3)
VOTERS = (3, 5)
_CANDIDATES = {3: 8, 5: 7}
"""Models of best mean that sets are drawn from: 56 sets of three, 21 of five."""
_LINKS = 10
"""Models that cascades are made of: 820 orders."""
_DEEPEST = 3
_DISTINCT = 2000
"""Different lines of scores that sets are chosen by; right and wrong answers have few, grades are sampled."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """A set or an order that each fold chose on its training part, and what it would have done on the rest.

    Attributes:
        models: The columns that most folds chose.
        quality: float64 [n], expected.
        cost: float64 [n], expected USD; NaN = unknown.
    """

    models: tuple[int, ...]
    quality: Floats
    cost: Floats


def can_vote(quality: Floats, samples: Floats) -> bool:
    """Whether scores are right or wrong (or shares of right samples): a grade of 0.7 cannot be outvoted.

    Args:
        quality: float64 [n, m].
        samples: float64 [n, m], how many samples a score is the mean of.
    """
    share = np.isclose(quality, 0.0) | np.isclose(quality, 1.0)
    several = (samples > 1) & np.isclose(quality * samples, np.round(quality * samples), atol=1e-6)
    return bool((share | several).mean() >= 0.8)


def majority(quality: Floats, weights: Floats) -> Floats:
    """Chance that the weight of the right answers is more than half of all: float64 [n]. A tie counts half.

    Wrong answers are taken to agree with one another, which is the worst case; a score between 0 and 1 is the chance to be
    right.

    Args:
        quality: float64 [n, k].
        weights: float64 [k].

    >>> majority(np.array([[0.7, 0.7, 0.7]]), np.ones(3)).round(3).tolist()
    [0.784]
    """
    k = len(weights)
    right = np.array(list(product((0.0, 1.0), repeat=k))) @ weights - weights.sum() / 2
    value = np.where(np.abs(right) < 1e-12, 0.5, right > 0).reshape((1,) + (2,) * k)
    for column in reversed(quality.T):  # the last axis is the last voter's
        chance = column.reshape((-1,) + (1,) * (value.ndim - 2))
        value = value[..., 0] * (1.0 - chance) + value[..., 1] * chance
    return np.asarray(np.broadcast_to(value, (len(quality),)), np.float64)


def best_votes(quality: Floats, cost: Floats, fold: Rows, *, folds: int | None = None) -> Iterator[tuple[bool, Plan]]:
    """For three and for five models, with and without weights: whether weighted, and the plan.

    Weights are the log odds of each model's mean, which is what independent voters deserve (Nitzan and Paroush 1982).

    Args:
        quality: float64 [n, m].
        cost: float64 [n, m].
        fold: int64 [n]; sets for a fold are chosen on all the others of its drawing.
        folds: Of one drawing; see `parts`.
    """
    for size, weighted in product(VOTERS, (False, True)):
        if size > quality.shape[1]:
            continue
        chosen: list[tuple[int, ...]] = []
        found = np.empty(len(quality))
        billed = np.empty(len(quality))
        for here, others in parts(fold, folds):
            train = quality[others]
            voters = _voters(train, size, weighted=weighted)
            chosen.append(voters)
            found[here] = majority(quality[here][:, voters], _say(train[:, voters], weighted=weighted))
            billed[here] = cost[here][:, voters].sum(axis=1)
        yield weighted, Plan(models=_usual(chosen), quality=found, cost=billed)


def _say(train: Floats, *, weighted: bool) -> Floats:
    if not weighted:
        return np.ones(train.shape[1])
    mean = (train.sum(axis=0) + 1.0) / (len(train) + 2.0)
    odds = np.maximum(np.log(mean / (1.0 - mean)), 0.0)
    return np.asarray(odds if odds.any() else np.ones(len(odds)), np.float64)


def _voters(train: Floats, size: int, *, weighted: bool) -> tuple[int, ...]:
    order = np.argsort(-train.mean(axis=0), kind="stable")[: _CANDIDATES[size]]
    lines, counts = np.unique(train[:, order], axis=0, return_counts=True)
    if len(lines) > _DISTINCT:
        kept = np.sort(np.random.default_rng(0).permutation(len(lines))[:_DISTINCT])
        lines, counts = lines[kept], counts[kept]
    say = _say(train[:, order], weighted=weighted)

    def value(places: tuple[int, ...]) -> float:
        return float(majority(lines[:, places], say[list(places)]) @ counts)

    best = max(combinations(range(len(order)), size), key=value)
    return tuple(int(order[place]) for place in best)


def climb(quality: Floats, cost: Floats, order: Sequence[int], error: float) -> tuple[Floats, Floats]:
    """Expected quality and cost of asking models in turn until a judge accepts: float64 [n] each.

    The judge takes a right answer for wrong, and a wrong one for right, with the same chance. The last model's answer is
    taken as it is. The judge itself costs nothing.

    Args:
        quality: float64 [n, m]; a score between 0 and 1 is the chance to be right.
        cost: float64 [n, m], USD.
        order: Columns.
        error: Of the judge, in [0, 0.5].

    >>> quality, cost = climb(np.array([[1.0, 0.0]]), np.array([[1.0, 10.0]]), (0, 1), 0.2)
    >>> quality.round(3).tolist(), cost.round(3).tolist()
    ([0.8], [3.0])
    """
    reached = np.ones(len(quality))
    right, paid = np.zeros(len(quality)), np.zeros(len(quality))
    for column in order[:-1]:
        paid += reached * cost[:, column]
        right += reached * quality[:, column] * (1.0 - error)
        reached = reached * _refused(quality[:, column], error)
    return right + reached * quality[:, order[-1]], paid + reached * cost[:, order[-1]]


def _refused(quality: Floats, error: float) -> Floats:
    return quality * error + (1.0 - quality) * (1.0 - error)


def best_cascade(
    quality: Floats, cost: Floats, fold: Rows, budget: Rows, error: float, *, worth: float, folds: int | None = None
) -> Plan:
    """The best order of up to three models for a judge of that error, chosen by each fold on all the others.

    Best is quality less `worth` times cost, in units of the budget, among orders that cost no more than that.

    Args:
        quality: float64 [n, m].
        cost: float64 [n, m], USD, complete.
        fold: int64 [n].
        budget: int64 [n], the column of the model whose cost is each fold's budget.
        error: Of the judge.
        worth: Quality that the whole budget is worth.
        folds: Of one drawing; see `parts`.
    """
    chosen: list[tuple[int, ...]] = []
    right, paid = np.empty(len(quality)), np.empty(len(quality))
    for here, others in parts(fold, folds):
        single = int(budget[here][0])
        # Where the costs of one fold only are known, there is nothing to choose by.
        order = _order(quality[others], cost[others], single, error, worth) if len(others) else (single,)
        chosen.append(order)
        right[here], paid[here] = climb(quality[here], cost[here], order, error)
    return Plan(models=_usual(chosen), quality=right, cost=paid)


def _order(quality: Floats, cost: Floats, single: int, error: float, worth: float) -> tuple[int, ...]:
    kept = _links(quality.mean(axis=0), cost.mean(axis=0), single)
    q, c = quality[:, kept], cost[:, kept]
    limit = float(cost[:, single].mean())
    n, m = q.shape
    scale = worth / limit if limit > 0 else 0.0
    refused = _refused(q, error)
    kept_right = q * (1.0 - error)
    different = ~np.eye(m, dtype=bool)
    values: list[tuple[float, int, tuple[int, ...]]] = []
    # Shape [1], then [m, m], then [m m, m]: expected quality and cost of every order of one, two and three models.
    tables: list[tuple[Floats, Floats, npt.NDArray[np.bool_]]] = [
        (q.mean(axis=0), c.mean(axis=0), np.ones(m, bool)),
        (kept_right.mean(axis=0)[:, None] + refused.T @ q / n, c.mean(axis=0)[:, None] + refused.T @ c / n, different),
    ]
    both = (refused[:, :, None] * refused[:, None, :]).reshape(n, m * m)
    first = (kept_right.mean(axis=0)[:, None] + refused.T @ kept_right / n).reshape(-1, 1)
    paid = (c.mean(axis=0)[:, None] + refused.T @ c / n).reshape(-1, 1)
    apart = different[:, :, None] & different[:, None, :] & different[None, :, :]
    tables.append((first + both.T @ q / n, paid + both.T @ c / n, apart.reshape(m * m, m)))
    for links, (right, billed, allowed) in enumerate(tables, 1):
        value = np.where(allowed & (billed <= limit * (1.0 + 1e-9)), right - scale * billed, -np.inf).ravel()
        top = int(value.argmax())
        values.append((float(value[top]), -links, tuple(int(kept[j]) for j in np.unravel_index(top, (m,) * links))))
    return max(values)[2]


def _links(quality: Floats, cost: Floats, single: int) -> Rows:
    """The models that an order may hold: no other is as good for less, then the best, up to ten."""
    dominated = np.array([((quality >= q) & (cost < c)).any() for q, c in zip(quality, cost, strict=True)])
    order = sorted(range(len(quality)), key=lambda j: (j != single, bool(dominated[j]), -quality[j]))
    return np.array(sorted(order[:_LINKS]), np.int64)


def _usual(chosen: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return Counter(chosen).most_common(1)[0][0]
