"""The figures of a diagnosis that rest on one evaluation, all drawn on the same resamples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.evaluation import metrics
from agentroute.evaluation._base import Base, over_mix, priced, saving, wide
from agentroute.evaluation._baselines import stable
from agentroute.evaluation._diagnosed import Cascade, Degeneracy, Gaps, TaskRow, Vote
from agentroute.evaluation._headroom import JUDGE_ERRORS, best_cascade, best_votes, can_vote
from agentroute.evaluation._intervals import Interval
from agentroute.evaluation._kinds import Kinds, lookup
from agentroute.evaluation._luck import dependence, independent_oracle, top_two
from agentroute.evaluation._results import Replay, Row
from agentroute.evaluation._sheet import Sheet
from agentroute.evaluation._thrift import Thrift, thrift
from agentroute.evaluation._verdict import CHOSEN, SAVED, Peer

__all__ = ["Figures", "figures"]

Floats: TypeAlias = npt.NDArray[np.float64]
Drawn: TypeAlias = Mapping[str, list[Interval]]

ALWAYS = 0.99
WHOLE = 1.0 - 1e-9
"""Of a share: what is less is not said to be always."""
MOST_TASKS = 60
_RIGHT = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Parts of a `RoutingDiagnosis`, and what only its verdict and words need.

    Attributes:
        lookup: The row of the plain table from kind to model.
        over_lookup: Routed choice less that table, paired.
        saving: Share of the best single model's cost that the routed choice saves.
        fixed: Mean over folds of the share of the fold's most chosen model.
        peer: A cheaper model that may be as good as the best one.
        dear: The dearest of those that are not told apart from the best one, where it costs more; a cascade may cost as much.
        independent: What the oracle would be if models were right independently within each kind.
        thrift: What routing saves; `None` = costs are unknown.
        detectable: Smallest gain that these queries would show.
    """

    lookup: Row
    over_lookup: Interval
    independent: float
    top_two: tuple[tuple[str, str], Interval]
    saving: Interval
    fixed: float
    peer: Peer | None
    dear: Peer | None
    gaps: Gaps
    degeneracy: Degeneracy
    votes: tuple[Vote, ...]
    cascades: tuple[Cascade, ...]
    tasks: tuple[TaskRow, ...]
    thrift: Thrift | None
    dependence: Interval
    detectable: float


def figures(replay: Replay, of: Kinds, *, folds: int, worthwhile: float, resamples: int, seed: int) -> Figures:
    """All of them.

    Args:
        replay: The arrays of an evaluation, out of fold, with the way `routed`.
        of: The kind of each of its queries.
        folds: How many one drawing has.
        worthwhile: Quality that the best single model's whole cost is worth to a cascade.
        resamples: Of the bootstrap.
        seed: Likewise, and of clusters and shuffles.
    """
    base = Base(replay, folds=folds)
    sheet = Sheet(len(replay.table))
    lookup_row = _lookup(sheet, base, of, seed)
    pair = _top_two(sheet, base)
    gaps, degenerate = _gaps(sheet, base), _degeneracy(sheet, base)
    votes, cascades = _votes(sheet, base), _cascades(sheet, base, worthwhile)
    tasks, thrifty = _tasks(sheet, base, of), thrift(sheet, base, of)
    peer, dear = _peers(sheet, base)
    sheet.mean("bill", np.stack([metrics.realised(base.cost, base.shares), base.single_cost], axis=1))
    sheet.follow("bill saving", lambda row: saving(row[:, :1], row[:, 1:]), "bill")
    columns, rule = dependence(base.quality, of.of)
    # Without two models that vary there is nothing that could go together.
    sheet.mean("moments", columns if columns.shape[1] else np.full(len(base.quality), np.nan))
    sheet.follow("dependence", rule if columns.shape[1] > 4 else lambda means: np.full((len(means), 1), np.nan), "moments")
    drawn = sheet.draw(resamples=resamples, seed=seed, groups=replay.groups)
    return Figures(
        lookup=lookup_row(drawn),
        over_lookup=drawn["over lookup"][0],
        independent=independent_oracle(base.quality, of.of, seed=seed),
        top_two=pair(drawn),
        gaps=gaps(drawn),
        degeneracy=degenerate(drawn),
        saving=drawn["bill saving"][0],
        fixed=_fixed(base),
        peer=peer(drawn),
        dear=dear(drawn),
        votes=votes(drawn),
        cascades=cascades(drawn),
        tasks=tasks(drawn),
        thrift=thrifty(drawn),
        dependence=drawn["dependence"][0],
        detectable=_detectable(base),
    )


def _lookup(sheet: Sheet, base: Base, of: Kinds, seed: int) -> Callable[[Drawn], Row]:
    replay, table = base.replay, base.replay.table
    name, shares = "task lookup", replay.shares.get("task lookup")
    if of.by != "task" or shares is None:
        name = f"{of.by} lookup"
        shares = np.eye(len(base.models))[lookup(table, of, replay.fold, replay.best_single, folds=base.folds, seed=seed)]
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


def _top_two(sheet: Sheet, base: Base) -> Callable[[Drawn], tuple[tuple[str, str], Interval]]:
    pair = top_two(base.quality)
    sheet.mean("top two", base.quality[:, pair].max(axis=1))
    return lambda drawn: ((base.models[pair[0]], base.models[pair[1]]), drawn["top two"][0])


def _gaps(sheet: Sheet, base: Base) -> Callable[[Drawn], Gaps]:
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


def _degeneracy(sheet: Sheet, base: Base) -> Callable[[Drawn], Degeneracy]:
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


def _votes(sheet: Sheet, base: Base) -> Callable[[Drawn], tuple[Vote, ...]]:
    plans = []
    if can_vote(base.quality, base.replay.table.samples):
        plans = list(best_votes(base.quality, base.cost, base.replay.fold, folds=base.folds))
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


def _cascades(sheet: Sheet, base: Base, worthwhile: float) -> Callable[[Drawn], tuple[Cascade, ...]]:
    known = priced(base.cost)
    if known is None or len(base.models) < 2 or len(np.unique(base.replay.fold[known])) < 2:
        return lambda _: ()
    if not can_vote(base.quality, base.replay.table.samples):
        return lambda _: ()  # a judge that is right or wrong says nothing of grades: a grade of 0.7 is no coin
    quality, cost, fold = base.quality[known], base.cost[known], base.replay.fold[known]
    budget = np.full(len(fold), _dearest(base, known))
    plans = [best_cascade(quality, cost, fold, budget, error, worth=worthwhile, folds=base.folds) for error in JUDGE_ERRORS]
    sheet.mean("single cost", wide(base.single_cost[known][:, None], known))
    for number, plan in enumerate(plans):
        values = np.stack([plan.quality, plan.cost, plan.quality - base.single[known]], axis=1)
        sheet.mean(f"cascade {number}", wide(values, known))
        sheet.follow(f"saving {number}", lambda row, single: saving(row[:, 1:2], single), f"cascade {number}", "single cost")
    names = [f"cascade {number}" for number in range(len(plans))]
    sheet.mean("alone", wide(np.concatenate([cost, quality], axis=1), known))
    sheet.follow("cascades over mix", _over_mixes, "alone", *names)

    def cascades(drawn: Drawn) -> tuple[Cascade, ...]:
        return tuple(
            Cascade(
                models=tuple(base.models[j] for j in plan.models),
                judge_error=error,
                saving=drawn[f"saving {number}"][0],
                over_mix=drawn["cascades over mix"][number],
                **dict(zip(("quality", "cost", "gain"), drawn[f"cascade {number}"], strict=True)),
            )
            for number, (error, plan) in enumerate(zip(JUDGE_ERRORS, plans, strict=True))
        )

    return cascades


def _over_mixes(alone: Floats, *cascades: Floats) -> Floats:
    costs, singles = np.split(alone, 2, axis=1)
    quality, cost = (np.stack([one[:, column] for one in cascades], axis=1) for column in (0, 1))
    return over_mix(quality, cost, costs, singles)


def _fixed(base: Base) -> float:
    fold = base.replay.fold
    return float(np.mean([base.shares[fold == part].mean(axis=0).max() for part in np.unique(fold)]))


def _dearest(base: Base, known: npt.NDArray[np.bool_]) -> int:
    """The column of the dearest model that is not told apart from the best single one (which may be that one)."""
    behind = base.quality - base.single[:, None]
    mass = base.mass / base.mass.sum()
    mean = mass @ behind
    error = np.sqrt(mass @ (behind - mean) ** 2 * mass.max())  # no query weighs less than the rows that share it
    bill = np.average(base.cost[known], axis=0, weights=base.mass[known])
    return int(np.where(mean + CHOSEN * error >= 0.0, bill, -np.inf).argmax())


def _peers(sheet: Sheet, base: Base) -> tuple[Callable[[Drawn], Peer | None], Callable[[Drawn], Peer | None]]:
    """Models that may be as good as the best single one, query by query: one that is cheaper by a tenth, and the dearest."""
    known, best = priced(base.cost), base.column
    if known is None:
        return lambda _: None, lambda _: None
    bill = np.average(base.cost[known], axis=0, weights=base.mass[known])
    if not bill[best] > 0:
        return lambda _: None, lambda _: None
    cheaper = [j for j in np.argsort(bill, kind="stable").tolist() if bill[j] <= (1.0 - SAVED) * bill[best]]
    dearest = _dearest(base, known)
    sheet.mean("behind", base.quality - base.single[:, None])

    def made(drawn: Drawn, column: int) -> Peer:
        return Peer(model=base.models[column], behind=drawn["behind"][column], part=float(bill[column] / bill[best]))

    def peer(drawn: Drawn) -> Peer | None:
        found = [made(drawn, column) for column in cheaper]
        good, untold = ([one for one in found if getattr(one, name)] for name in ("as_good", "untold"))
        return next(iter((*good, *untold)), None)

    return peer, lambda drawn: made(drawn, dearest) if bill[dearest] > bill[best] else None


def _tasks(sheet: Sheet, base: Base, of: Kinds) -> Callable[[Drawn], tuple[TaskRow, ...]]:
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


def _detectable(base: Base) -> float:
    """(z(0.975) + z(0.8)) sd / sqrt(n) of paired differences: 5 % level, 80 % power.

    A router that happens to choose nothing here would look as if any gain would show; so the spread is at least that of a
    router that takes the runner-up instead of the best single model for every fourth query.
    """
    groups = base.replay.groups
    count = np.bincount(groups)
    difference = np.bincount(groups, weights=base.routed - base.single) / count
    spread = float(difference.var())
    if len(base.models) > 1:
        best = base.column
        ranked = np.argsort(-base.quality.mean(axis=0), kind="stable")
        runner_up = int(ranked[ranked != best][0])
        apart = np.bincount(groups, weights=base.quality[:, best] - base.quality[:, runner_up]) / count
        spread = max(spread, float((apart**2).mean()) / 4.0)
    return (1.959964 + 0.841621) * math.sqrt(spread / len(count))
