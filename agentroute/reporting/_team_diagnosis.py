"""`diagnose_team`: all that a report on a team says, from its runs or from what an allocator has learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agentroute.errors import ConfigError, DataError
from agentroute.evaluation import Progress
from agentroute.reporting._team_frontier import anew, frontier
from agentroute.reporting._team_values import Frontier, Sources, TeamDiagnosis
from agentroute.reporting._team_words import headline
from agentroute.teams import Credit, RoleAllocator, TeamRun, credits_of
from agentroute.teams._observing import REPLAY_OF, settled, usable

__all__ = ["diagnose_team"]


def diagnose_team(
    allocator: RoleAllocator,
    runs: Sequence[TeamRun] = (),
    *,
    budgets: int = 8,
    resamples: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> TeamDiagnosis:
    """What is known about a team: which role hangs on its model, what budgets buy, and what was learned from what.

    With runs, all is learned anew from them with the allocator's team, models and settings, and what budgets buy is measured:
    on each fifth of the tasks by what the others taught. Without, it is what the allocator has learned and expects. The
    allocator is not changed.

    Args:
        allocator: Its team, models and settings.
        runs: Of the team; a replay of a run names it in `metadata["replay_of"]`.
        budgets: How many are looked at, from the cheapest team's cost to the best one's; 0 = none.
        resamples: Of the bootstrap over tasks.
        seed: Likewise, and of the parts.
        progress: Is told what is being done, and how far it is.

    Raises:
        ConfigError: `budgets` is negative.
    """
    if budgets < 0:
        raise ConfigError(f"budgets={budgets!r}: give how many there are to be, 8 for most teams, 0 for none")
    tell = progress or (lambda _what, _done: None)
    tell("learning", 0.0)
    made, sources = allocator, Sources(runs=0, drawn=0, scored=0)
    credits_: tuple[Credit, ...] = ()
    if runs:
        made = anew(allocator)
        fit = made.fit(runs)
        credits_, sources = _replays(runs)
        kept, _ = usable(made.team, made.ids, runs)
        sources = replace(sources, tasks=len({run.query.key() for run in kept}), left_out=fit.left_out)
    else:
        fit = made.report()
    seen = made.parts()[0]
    # A breath toward one half, so that a team that never or always succeeds has a logit.
    base = (float(seen.success.sum()) + 0.5) / (len(seen) + 1.0)
    found = TeamDiagnosis(
        team=made.team,
        models=tuple(made.ids),
        fit=fit,
        base=base,
        sources=replace(sources, runs=fit.runs, drawn=fit.drawn, scored=fit.scored),
        credits=credits_,
        frontier=frontier(made, runs, budgets=budgets, resamples=resamples, seed=seed, tell=tell)
        if budgets
        else Frontier(why="no budgets were asked for"),
    )
    verdict, told = headline(found)
    return replace(found, verdict=verdict, headline=told)


def _replays(runs: Sequence[TeamRun]) -> tuple[tuple[Credit, ...], Sources]:
    """What the replays among the runs say, and how many they are."""
    known = {run.id: run for run in map(settled, runs) if run.success is not None}
    pairs: list[tuple[TeamRun, TeamRun]] = []
    odd = 0
    for run in known.values():
        if REPLAY_OF not in run.metadata:
            continue
        first = known.get(str(run.metadata[REPLAY_OF]))
        try:
            credits_of([] if first is None else [(first, run)])
        except DataError:
            first = None
        if first is None:
            odd += 1
        else:
            pairs.append((first, run))
    return tuple(credits_of(pairs)), Sources(runs=0, drawn=0, scored=0, replays=len(pairs), odd=odd)
