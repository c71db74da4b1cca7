"""What else there is to know of a log, beside the verdict."""

from __future__ import annotations

from agentroute.evaluation._diagnosed import Finding
from agentroute.evaluation._figures import ALWAYS
from agentroute.evaluation._shift_words import window_findings
from agentroute.evaluation._told import Told
from agentroute.evaluation._units import number, points, share
from agentroute.evaluation._verdict import POINT

__all__ = ["findings"]


def findings(told: Told) -> tuple[Finding, ...]:
    """What else there is to know."""
    e, f = told.evidence, told.figures
    found = [*_costless(told), *window_findings(told), *_lucky(told)]
    if told.lookup_is_enough and told.verdict == "route":
        if e.gains:
            ahead = f"{points(f.lookup.gain)} over {told.best}, and the router {points(f.over_lookup)} over that table"
            found.append(Finding(kind="task identity", text=f"The gain is task identity: a {told.table} has {ahead}."))
        elif f.thrift is not None:
            saves = f"saves {share(f.thrift.table_saving)} of the cost of {told.best}"
            text = f"The saving is task identity: a {told.table} {saves}, at {points(f.thrift.table_gain)} of quality."
            found.append(Finding(kind="task identity", text=text))
    if e.models > 1 and f.degeneracy.always:
        found.append(
            Finding(kind="degenerate", text=f"The routed choice is always {f.degeneracy.model}.", model=f.degeneracy.model)
        )
    elif e.models > 1 and f.fixed >= ALWAYS:
        text = "Whatever part of the log it learns from, the router always chooses one model; which one that is changes."
        found.append(Finding(kind="degenerate", text=text))
    if e.models > 1 and e.noise:
        same = f"models do not fail on the same queries ({told.correlation})"
        text = f"The scores look like noise: {same}, and nothing foresees where they do."
        paper = "Votes and cascades gain on paper then, as with coins; look at how answers are scored first."
        found.append(Finding(kind="noise", text=f"{text} {paper}"))
    if told.needed is not None:
        text = f"On {e.queries:,} queries only a gain of {number(e.detectable)} points or more would show (5 % level, 80 % power)"
        found.append(Finding(kind="few rows", text=f"{text}; about {told.needed:,} would show {100 * e.worthwhile:g}."))
    return tuple(found)


def _costless(told: Told) -> list[Finding]:
    if told.plane is not None:
        return []
    several = f" and {len(told.priceless) - 1} others" if len(told.priceless) > 1 else ""
    text = f"What {told.priceless[0]}{several} cost is not known, so that only quality is compared: log costs, or give prices."
    return [Finding(kind="costs unknown", text=text)]


def _lucky(told: Told) -> list[Finding]:
    """The floor where it is known; inflation by repeats where there are any, else by what independence would give."""
    found = []
    oracle, f = told.evaluation["oracle"].quality, told.figures
    if told.luck_floor is not None:
        guess = f"{told.evidence.models} guessers would have a right answer among them for {100 * told.luck_floor:.1f} %"
        text = f"{guess} of the questions whose options are known; the oracle has {100 * oracle.value:.1f} % of all."
        found.append(Finding(kind="luck floor", text=text))
    above = oracle.value - f.hindsight
    if f.gaps.noise is not None and told.stable_oracle is not None:
        if f.gaps.noise.low > 2 * POINT:
            steady = f"only {told.stable_oracle.value:.3f} of the queries are answered right in 80 % of a model's samples"
            found.append(Finding(kind="luck inflation", text=f"The oracle ({oracle.value:.3f}) is inflated by luck: {steady}."))
    elif above >= 5 * POINT and oracle.low <= f.independent:
        coins = f"models that are right at random, as often as these are in each task, would have one of {f.independent:.3f}"
        best = f"The best model of each task has {f.hindsight:.3f}; do not count on the {number(above)} points above it"
        found.append(Finding(kind="luck inflation", text=f"The oracle ({oracle.value:.3f}) may be luck: {coins}. {best}."))
    return found
