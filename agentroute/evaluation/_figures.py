"""The figures of a diagnosis that rest on one evaluation, all drawn on the same resamples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.evaluation import metrics
from agentroute.evaluation._baselines import oracle, stable
from agentroute.evaluation._frontier import _picks, exchange_rates
from agentroute.evaluation._headroom import JUDGE_ERRORS, best_cascade, best_votes, can_vote
from agentroute.evaluation._intervals import Interval
from agentroute.evaluation._kinds import Kinds, lookup
from agentroute.evaluation._luck import dependence, independent_oracle, top_two
from agentroute.evaluation._results import Cascade, Degeneracy, Evaluation, Gaps, Replay, Row, TaskRow, Vote
from agentroute.evaluation._sheet import Sheet
from agentroute.evaluation._verdict import Thrift

__all__ = ["Figures", "figures", "priced"]

Floats: TypeAlias = npt.NDArray[np.float64]
Drawn: TypeAlias = Mapping[str, list[Interval]]

ROUTED = "routed"
ALWAYS = 0.99
MOST_TASKS = 60
_PRICED = 10
"""Queries of known costs below which nothing is said of money."""
_RIGHT = 0.5
_MARGIN = 0.03
"""Share of the best single model's cost that is not saved, for safety."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Parts of a `RoutingDiagnosis`, and what only its verdict and words need.

    Attributes:
        lookup: The row of the plain table from kind to model.
        over_lookup: Routed choice less that table, paired.
        hindsight: Mean quality of the best model of each kind, chosen with hindsight.
        independent: What the oracle would be if models were right independently within each kind.
        thrift: What routing saves; `None` = costs are unknown.
        detectable: Smallest gain that these queries would show.
    """

    lookup: Row
    over_lookup: Interval
    hindsight: float
    independent: float
    top_two: tuple[tuple[str, str], Interval]
    gaps: Gaps
    degeneracy: Degeneracy
    same_as_single: float
    votes: tuple[Vote, ...]
    cascades: tuple[Cascade, ...]
    tasks: tuple[TaskRow, ...]
    thrift: Thrift | None
    dependence: Interval
    detectable: float


def priced(cost: Floats) -> npt.NDArray[np.bool_] | None:
    """Marks the queries whose costs are known for every model; bool [n], or `None` where they are too few to speak of money."""
    known = np.asarray(np.isfinite(cost).all(axis=1), np.bool_)
    return known if known.sum() >= _PRICED else None


def figures(evaluation: Evaluation, replay: Replay, of: Kinds, *, worthwhile: float, resamples: int, seed: int) -> Figures:
    """All of them.

    Args:
        evaluation: Out of fold, with the way `routed`.
        replay: Its arrays.
        of: The kind of each of its queries.
        worthwhile: Quality that the best single model's whole cost is worth to a cascade.
        resamples: Of the bootstrap.
        seed: Likewise, and of clusters and shuffles.
    """
    base = _Base(replay)
    sheet = Sheet(len(replay.table))
    lookup_row = _lookup(sheet, base, of, seed)
    pair = _top_two(sheet, base)
    gaps, degenerate = _gaps(sheet, base), _degeneracy(sheet, base)
    votes, cascades = _votes(sheet, base), _cascades(sheet, base, worthwhile)
    tasks, thrift = _tasks(sheet, base, of), _thrift(sheet, base)
    columns, rule = dependence(base.quality)
    # Without two models that vary there is nothing that could go together.
    sheet.mean("moments", columns if columns.shape[1] else np.full(len(base.quality), np.nan))
    sheet.follow("dependence", rule if columns.shape[1] > 4 else lambda means: np.full((len(means), 1), np.nan), "moments")
    drawn = sheet.draw(resamples=resamples, seed=seed, groups=replay.groups)
    return Figures(
        lookup=lookup_row(drawn),
        over_lookup=drawn["over lookup"][0],
        hindsight=_hindsight(base, of),
        independent=independent_oracle(base.quality, of.of, seed=seed),
        top_two=pair(drawn),
        gaps=gaps(drawn),
        degeneracy=degenerate(drawn),
        same_as_single=float(np.average(base.shares[base.at, replay.best_single], weights=base.mass)),
        votes=votes(drawn),
        cascades=cascades(drawn),
        tasks=tasks(drawn),
        thrift=thrift(drawn),
        dependence=drawn["dependence"][0],
        detectable=_detectable(base, evaluation.best_single),
    )


class _Base:
    """What all parts read."""

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self.models = replay.table.models
        self.quality, self.cost = replay.table.quality, replay.table.cost
        self.at = np.arange(len(self.quality))
        self.mass = 1.0 / np.bincount(replay.groups)[replay.groups]  # rows of one query count once together
        self.shares = replay.shares[ROUTED]
        self.routed = metrics.realised(self.quality, self.shares)
        self.single = self.quality[self.at, replay.best_single]
        self.single_cost = self.cost[self.at, replay.best_single]
        self.best = self.quality[self.at, oracle(self.quality, self.cost)]


def _lookup(sheet: Sheet, base: _Base, of: Kinds, seed: int) -> Callable[[Drawn], Row]:
    replay, table = base.replay, base.replay.table
    name, shares = "task lookup", replay.shares.get("task lookup")
    if of.by != "task" or shares is None:
        name = f"{of.by} lookup"
        shares = np.eye(len(base.models))[lookup(table, of, replay.fold, replay.best_single, seed=seed)]
    chosen = metrics.realised(base.quality, shares)
    known = metrics.realised(table.cost, shares)
    sheet.mean("lookup", np.stack([chosen, known, metrics.realised(table.latency, shares), chosen - base.single], axis=1))
    sheet.mean("way", base.best - base.single)
    sheet.mean("over lookup", base.routed - chosen)
    sheet.follow("lookup gap", lambda row, way: np.where(way > 1e-12, row[:, 3:4] / way, np.nan), "lookup", "way")
    mix = {model: share for model, share in zip(base.models, shares.mean(axis=0).tolist(), strict=True) if share > 0}

    def row(drawn: Drawn) -> Row:
        parts = dict(zip(("quality", "cost", "latency", "gain"), drawn["lookup"], strict=True))
        return Row(name=name, kind="baseline", gap=drawn["lookup gap"][0], shares=mix, **parts)

    return row


def _hindsight(base: _Base, of: Kinds) -> float:
    totals = np.stack([np.bincount(of.of, weights=column * base.mass) for column in base.quality.T], axis=1)
    return float(totals.max(axis=1).sum() / base.mass.sum())


def _top_two(sheet: Sheet, base: _Base) -> Callable[[Drawn], tuple[tuple[str, str], Interval]]:
    pair = top_two(base.quality)
    sheet.mean("top two", base.quality[:, pair].max(axis=1))
    return lambda drawn: ((base.models[pair[0]], base.models[pair[1]]), drawn["top two"][0])


def _gaps(sheet: Sheet, base: _Base) -> Callable[[Drawn], Gaps]:
    """The set that the estimates call right holds the routed choice, so that a policy can only lose within it."""
    expected = base.replay.estimate
    likely = base.shares > 0
    if expected is not None:
        likely = likely | (expected.quality >= _RIGHT)
    ceiling = np.where(likely, base.quality, -1.0).max(axis=1)
    steady = stable(base.replay.table)
    known = np.isfinite(steady)
    reach = np.where(known, steady, base.best)
    parts = [base.best - base.routed, ceiling - base.routed, reach - ceiling, base.best - reach, ceiling]
    sheet.mean("gaps", np.stack(parts, axis=1))

    def gaps(drawn: Drawn) -> Gaps:
        total, policy, classifier, noise, top = drawn["gaps"]
        return Gaps(total=total, policy=policy, classifier=classifier, noise=noise if known.any() else None, ceiling=top)

    return gaps


def _degeneracy(sheet: Sheet, base: _Base) -> Callable[[Drawn], Degeneracy]:
    sheet.mean("shares", base.shares)
    sheet.follow("entropy", _bits, "shares")
    top = int(base.shares.mean(axis=0).argmax())

    def degeneracy(drawn: Drawn) -> Degeneracy:
        share = drawn["shares"][top]
        return Degeneracy(model=base.models[top], share=share, entropy=drawn["entropy"][0], always=share.value >= ALWAYS)

    return degeneracy


def _bits(shares: Floats) -> Floats:
    """float64 [b, 1]: entropy of each line."""
    bits = shares * np.log2(np.where(shares > 0, shares, 1.0))
    return np.asarray(np.abs(bits.sum(axis=1, keepdims=True)), np.float64)


def _votes(sheet: Sheet, base: _Base) -> Callable[[Drawn], tuple[Vote, ...]]:
    plans = []
    if can_vote(base.quality, base.replay.table.samples):
        plans = list(best_votes(base.quality, base.cost, base.replay.fold))
    for number, (_, plan) in enumerate(plans):
        sheet.mean(f"vote {number}", np.stack([plan.quality, plan.cost, plan.quality - base.single], axis=1))

    def votes(drawn: Drawn) -> tuple[Vote, ...]:
        return tuple(
            Vote(
                models=tuple(base.models[j] for j in plan.models),
                weighted=weighted,
                **dict(zip(("quality", "cost", "gain"), drawn[f"vote {number}"], strict=True)),
            )
            for number, (weighted, plan) in enumerate(plans)
        )

    return votes


def _saving(paid: Floats, single: Floats) -> Floats:
    return np.asarray(np.where(single > 0, 1.0 - paid / single, np.nan), np.float64)


def _wide(values: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """Values of the known rows, NaN in the others."""
    found = np.full((len(known), values.shape[1]), np.nan)
    found[known] = values
    return found


def _cascades(sheet: Sheet, base: _Base, worthwhile: float) -> Callable[[Drawn], tuple[Cascade, ...]]:
    known = priced(base.cost)
    if known is None or len(base.models) < 2 or len(np.unique(base.replay.fold[known])) < 2:
        return lambda _: ()
    quality, cost, fold, best = base.quality[known], base.cost[known], base.replay.fold[known], base.replay.best_single[known]
    plans = [best_cascade(quality, cost, fold, best, error, worth=worthwhile) for error in JUDGE_ERRORS]
    sheet.mean("single cost", _wide(base.single_cost[known][:, None], known))
    for number, plan in enumerate(plans):
        values = np.stack([plan.quality, plan.cost, plan.quality - base.single[known]], axis=1)
        sheet.mean(f"cascade {number}", _wide(values, known))
        sheet.follow(f"saving {number}", lambda row, single: _saving(row[:, 1:2], single), f"cascade {number}", "single cost")

    def cascades(drawn: Drawn) -> tuple[Cascade, ...]:
        return tuple(
            Cascade(
                models=tuple(base.models[j] for j in plan.models),
                judge_error=error,
                saving=drawn[f"saving {number}"][0],
                **dict(zip(("quality", "cost", "gain"), drawn[f"cascade {number}"], strict=True)),
            )
            for number, (error, plan) in enumerate(zip(JUDGE_ERRORS, plans, strict=True))
        )

    return cascades


def _thrift(sheet: Sheet, base: _Base) -> Callable[[Drawn], Thrift | None]:
    """The exchange rate that keeps the best single model's quality for least, chosen by each fold on all the others.

    Chosen and judged on the same queries, the best of forty rates would look better than it is. Quality is kept when the gain
    is a standard error above zero. The rate that is taken then costs a little more than the cheapest that keeps it: that one
    is at the edge, and each fold's expectations differ a little.
    """
    known, expected = priced(base.cost), base.replay.estimate
    if known is None or expected is None or len(base.models) < 2 or len(np.unique(base.replay.fold[known])) < 2:
        return lambda _: None
    rows = np.flatnonzero(known)
    rates = exchange_rates(expected.quality[rows], expected.cost[rows])
    fallback = base.replay.fallback[rows]
    forced = np.where(expected.supported[rows], -1, fallback)
    made = [_picks(expected.quality[rows], expected.cost[rows], rate, forced, fallback) for rate in rates]
    at = np.arange(len(rows))
    quality = np.stack([base.quality[rows][at, pick] for pick in made], axis=1)
    cost = np.stack([base.cost[rows][at, pick] for pick in made], axis=1)
    fold, single, paid = base.replay.fold[rows], base.single[rows], base.single_cost[rows]
    chosen = np.zeros(len(rows), np.int64)
    for part in np.unique(fold):
        train = fold != part
        gain = quality[train] - single[train, None]
        enough = gain.mean(axis=0) - gain.std(axis=0) / math.sqrt(len(gain)) >= -1e-12
        bill = cost[train].mean(axis=0)
        edge = np.where(enough, bill, np.inf).min() + _MARGIN * paid[train].mean()
        chosen[fold == part] = int(np.where(bill >= edge, bill, np.inf).argmin()) if (bill >= edge).any() else -1
    m = len(base.models)
    values = [quality[at, chosen], cost[at, chosen], quality[at, chosen] - single, paid]
    columns = np.concatenate([np.stack(values, axis=1), base.cost[rows], base.quality[rows]], axis=1)
    sheet.mean("thrift", _wide(columns, known))
    sheet.follow("thrift saving", lambda row: _saving(row[:, 1:2], row[:, 3:4]), "thrift")
    sheet.follow("thrift over mix", lambda row: _over_mix(row[:, 0], row[:, 1], row[:, 4 : 4 + m], row[:, 4 + m :]), "thrift")
    usual = rates[int(np.bincount(chosen % len(rates)).argmax())]
    return lambda drawn: Thrift(
        rate=usual, gain=drawn["thrift"][2], saving=drawn["thrift saving"][0], over_mix=drawn["thrift over mix"][0]
    )


def _over_mix(quality: Floats, cost: Floats, costs: Floats, singles: Floats) -> Floats:
    """float64 [b, 1]: height above the single models' hull, as in `FrontierPoint.over_mix`."""
    found = np.empty((len(quality), 1))
    for row, points in enumerate(np.stack([costs, singles], axis=2)):
        line = metrics.hull(points)
        found[row] = quality[row] - metrics.hull_at(line, max(cost[row], line[0, 0]))
    return found


def _tasks(sheet: Sheet, base: _Base, of: Kinds) -> Callable[[Drawn], tuple[TaskRow, ...]]:
    count = np.bincount(of.of, weights=base.mass, minlength=len(of.names))
    order = np.argsort(-count, kind="stable")[:MOST_TASKS].tolist()
    members = [of.of == number for number in order]
    sheet.mean("tasks", np.stack([np.where(here, base.routed - base.single, np.nan) for here in members], axis=1))

    def tasks(drawn: Drawn) -> tuple[TaskRow, ...]:
        found = []
        for number, here, gain in zip(order, members, drawn["tasks"], strict=True):
            mass = base.mass[here]
            means = np.average(base.quality[here], axis=0, weights=mass).tolist()
            found.append(
                TaskRow(
                    task=of.names[number],
                    queries=round(count[number]),
                    best_single=float(np.average(base.single[here], weights=mass)),
                    routed=float(np.average(base.routed[here], weights=mass)),
                    oracle=float(np.average(base.best[here], weights=mass)),
                    gain=gain,
                    best_model=base.models[int(np.argmax(means))],
                    quality=dict(zip(base.models, means, strict=True)),
                )
            )
        return tuple(found)

    return tasks


def _detectable(base: _Base, best_single: str) -> float:
    """(z(0.975) + z(0.8)) sd / sqrt(n) of paired differences: 5 % level, 80 % power.

    A router that happens to choose nothing here would look as if any gain would show; so the spread is at least that of a
    router that takes the runner-up instead of the best single model for every fourth query.
    """
    groups = base.replay.groups
    count = np.bincount(groups)
    difference = np.bincount(groups, weights=base.routed - base.single) / count
    spread = float(difference.var())
    if len(base.models) > 1:
        best = base.models.index(best_single)
        ranked = np.argsort(-base.quality.mean(axis=0), kind="stable")
        runner_up = int(ranked[ranked != best][0])
        apart = np.bincount(groups, weights=base.quality[:, best] - base.quality[:, runner_up]) / count
        spread = max(spread, float((apart**2).mean()) / 4.0)
    return (1.959964 + 0.841621) * math.sqrt(spread / len(count))
