"""What else there is to know of a log, beside the verdict."""

from __future__ import annotations

import math

from agentroute.evaluation._diagnosed import Finding
from agentroute.evaluation._figures import ALWAYS, WHOLE
from agentroute.evaluation._shift_words import window_findings
from agentroute.evaluation._told import Told
from agentroute.evaluation._units import number, points, share

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
        model, share_of = f.degeneracy.model, f.degeneracy.share.value
        text = f"The routed choice is always {model}."
        if share_of < WHOLE:
            text = f"The routed choice is {model} for {math.floor(1000 * share_of) / 10:.1f} % of the queries: it hardly chooses."
        found.append(Finding(kind="degenerate", text=text, model=model))
    elif e.models > 1 and f.fixed >= ALWAYS:
        always = "always" if f.fixed >= WHOLE else "nearly always"
        text = f"Whatever part of the log it learns from, the router {always} chooses one model; which one that is changes."
        found.append(Finding(kind="degenerate", text=text))
    if e.models > 1 and e.noise:
        same = f"models do not fail on the same queries ({told.correlation})"
        text = f"The scores look like noise: {same}, and nothing foresees where they do."
        paper = "Votes and cascades gain on paper then, as with coins; look at how answers are scored first."
        found.append(Finding(kind="noise", text=f"{text} {paper}"))
    if told.needed is not None:
        text = f"On {e.queries:,} queries only a gain of {number(e.detectable)} points or more would show (5 % level, 80 % power)"
        text = f"{text}; about {told.needed:,} would show {100 * e.worthwhile:g}."
        if e.too_few:
            text = f"A verdict takes {told.needed} queries or more, whatever they show; here are {e.queries}."
        found.append(Finding(kind="few rows", text=text))
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
        text = f"{guess} of the questions whose options are known; the oracle has {100 * told.guessable:.1f} % of these."
        found.append(Finding(kind="luck floor", text=text))
    if not told.inflated:
        return found
    if f.gaps.noise is not None and told.stable_oracle is not None:
        steady = f"only {told.stable_oracle.value:.3f} of the queries are answered right in 80 % of a model's samples"
        found.append(Finding(kind="luck inflation", text=f"The oracle ({oracle.value:.3f}) is inflated by luck: {steady}."))
    else:
        coins = f"models that are right at random, as often as these are{told.inside and ' ' + told.inside.rstrip()}"
        table = f"A {told.table}, learned on other parts of the log, has" if told.kinds > 1 else f"Always {told.best} has"
        above = f"do not count on the {number(oracle.value - f.lookup.quality.value)} points above it"
        text = f"The oracle ({oracle.value:.3f}) may be luck: {coins}, would have one of {f.independent:.3f}."
        found.append(Finding(kind="luck inflation", text=f"{text} {table} {f.lookup.quality.value:.3f}; {above}."))
    return found
