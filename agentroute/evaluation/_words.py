"""A diagnosis in words: headline and reasons, each with its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from agentroute.evaluation._calibration_checks import LEVELS, predictable
from agentroute.evaluation._diagnosed import Cascade, RoutingDiagnosis
from agentroute.evaluation._figures import WHOLE
from agentroute.evaluation._shift_words import flattered, unheld, warning
from agentroute.evaluation._told import Told
from agentroute.evaluation._units import listed, number, percent, points, quality, share, span
from agentroute.evaluation._verdict import ENOUGH, POINT, SAVED

__all__ = ["CASCADE", "assumed", "headline", "reasons"]

CASCADE = "Cascade: "
"""How a headline begins to speak of a cascade, whose judge it assumes."""

_LITTLE = 0.62
"""AUROC of the noisiest setting of the cascade-routing simulation; where it may be higher, nobody can say that nothing is."""


def headline(told: Told) -> str:
    """The verdict in one sentence, what a user's own router does before it, and what has to be known before it is followed."""
    return " ".join(line for line in (_own(told), _headline(told), warning(told)) if line)


def _own(told: Told) -> str | None:
    """What was asked about first: the router as it is set. Another rate may do better, and is what the rest is about."""
    if not told.own or told.evidence.models == 1:
        return None
    cost, saved = "", told.figures.saving
    if told.plane is not None and math.isfinite(saved.value):
        does = f"saves {share(saved)}" if saved.value >= 0 else f"costs {percent(-saved.value)} more"
        cost = f", and {does} of its cost" if saved.value >= 0 else f", and {does}"
    return f"As it is set, this router scores {points(told.evidence.gain)} over always {told.best}{cost}."


def _headline(told: Told) -> str:
    e, best = told.evidence, told.best
    if told.verdict == "need more data":
        if e.too_few:
            far = f"; so far the router scores {points(e.gain)} over always {best}" if e.gains else ""
            return f"Need more data: a verdict takes {ENOUGH} queries or more, and here are {e.queries}{far}."
        enough = told.needed or e.queries
        shown = f"on {e.queries:,} queries only a gain of {number(e.detectable)} points or more over {best} would show"
        return f"Need more data: {shown}; about {enough:,} would show {100 * e.worthwhile:g}."
    if told.verdict == "route" and e.gains:
        gain = told.figures.lookup.gain if told.lookup_is_enough else e.gain
        what = told.table if told.lookup_is_enough else "learned router"
        return f"Route: a {what} scores {points(gain)} over always {best}{_billed(told)}."
    if told.verdict == "route" and e.thrift is not None:
        what = f"{at_rate(e.thrift.willingness_to_pay)}, routing"
        saved = f"saves {share(e.thrift.saving)} of the cost of always {best}"
        return f"Route to save money: {what} {saved}, at {points(e.thrift.gain)} of quality."
    if told.verdict == "cascade" and e.cascade is not None:
        gives = f"{points(e.cascade.gain)} over always {best}{_paid(told)}"
        judge = "if a judge can be had that errs in 20 % of the answers (assumed here, its cost not counted)"
        return f"{CASCADE}{' → '.join(e.cascade.models)} has {gives}, {judge}."
    if told.verdict == "ensemble" and e.vote is not None:
        return f"Ensemble: a vote of {listed(e.vote.models)} scores {points(e.vote.gain)} over always {best}{_times(told)}."
    return _single(told)


def _single(told: Told) -> str:
    e, best = told.evidence, told.best
    if e.models == 1:
        return f"Single model: {best} is the only model, there is nothing to choose between."
    if e.noise:
        look = f"{told.inside}the scores look like noise: look at how answers are scored first"
        return f"Single model: always {e.settles or best} for now; {look}."
    if e.peer is not None and e.settles:
        same = "is less than a point behind" if e.peer.behind.high < 0.0 else "is not told apart from"
        who = f"always {e.settles}, which {same} {best} ({points(e.peer.behind)})"
        return f"Single model: {who} at {percent(e.peer.part)} of its cost."
    if e.peer is not None:
        same = f"which these queries do not tell apart from it ({points(e.peer.behind)})"
        who = f"always {best}, or {e.peer.model} at {percent(e.peer.part)} of its cost, {same}"
        return f"Single model: {who}; nothing here beats it."
    money = "" if told.plane is not None else " in quality; whether money could be saved cannot be judged without costs"
    return f"Single model: always {best}; nothing here beats it beyond noise{money}."


def _billed(told: Told) -> str:
    """What the routed choice costs, where that is not about what the best single model does."""
    row = told.figures.lookup if told.lookup_is_enough else told.evaluation["routed"]
    cost, single = row.cost.value, told.evaluation["best single"].cost.value
    if told.plane is None or not math.isfinite(cost - single):
        return ""
    if single <= 0.0:
        return f", and costs money, which {told.best} does not" if cost > 0.0 else ""
    part = cost / single
    if abs(part - 1.0) <= SAVED:
        return ""
    return f", at {percent(part)} of its cost" if part < 2.0 else f", at {part:.1f} times its cost"


def at_rate(rate: float) -> str:
    """`at $0.22 a right answer`."""
    return "choosing for quality alone" if math.isinf(rate) else f"at ${rate:{',.0f' if rate >= 100 else '.2g'}} a right answer"


def _paid(told: Told) -> str:
    """What the cascade costs; where that is more than the best single model does, beside whom it costs less than."""
    cascade, dear = told.evidence.cascade, told.evidence.dear
    if cascade is None or not cascade.cost.value > 0.0 or not math.isfinite(cascade.saving.value):
        return ""
    if cascade.saving.value >= 0.0 or dear is None:
        return f" and {share(cascade.saving)} of its cost saved"
    less = f"{percent(1.0 - (1.0 - cascade.saving.value) / dear.part)} less than always {dear.model}"
    return f" at {1.0 - cascade.saving.value:.1f} times its cost ({less}, which is not told apart from it)"


def _times(told: Told) -> str:
    vote, cost = told.evidence.vote, told.evaluation["best single"].cost.value
    if vote is None or not (cost > 0 and math.isfinite(vote.cost.value)):
        return ", at the cost of all of them"
    return f", at {vote.cost.value / cost:.1f} times its cost"


def reasons(told: Told) -> tuple[str, ...]:
    """Why, most important first."""
    if told.evidence.models == 1:
        return (f"{told.best} scores {quality(told.singles[0].quality)} on {told.evidence.queries:,} queries.",)
    order = {
        "route": (_routing, _thrift, _budget, _lookup, _cascade, _vote),
        "cascade": (_judges, _cheaper, _routing, _thrift, _budget, _vote),
        "ensemble": (_vote, _cascade, _routing, _thrift, _budget),
        "single model": (_cheaper, _routing, _thrift, _budget, _cascade, _vote),
        "need more data": (_routing, _thrift, _budget, _cheaper, _cascade, _vote),
    }[told.verdict]
    lines = [line(told) for line in (flattered, *order, _apart, _signal, _way, _sample, _one_kind, _unknown)]
    return tuple(line for line in lines if line)


def assumed(diagnosis: RoutingDiagnosis) -> tuple[str, ...]:
    """Those of its reasons that rest on an assumed judge, as they were worded."""
    best = diagnosis.evaluation.best_single
    worded = {_of_one(one, best, more=more) for one in diagnosis.cascades for more in (True, False)}
    worded.add(_of_judges(diagnosis.cascades))
    return tuple(line for line in diagnosis.reasons if line in worded)


def _routing(told: Told) -> str:
    e, best = told.evidence, told.best
    row, single = told.evaluation["routed"], told.evaluation["best single"]
    if row.shares.get(best, 0.0) >= WHOLE:
        alone = f"{best}, which scores {quality(single.quality)}"
        return f"The router found no query worth taking from the best single model: {alone}."
    sure = "beyond noise" if e.gain.low > 0 else "a loss" if e.gain.high < 0 else "within noise"
    cost = ""
    if told.plane is not None and single.cost.value > 0:
        cost = f", at {percent(row.cost.value / single.cost.value)} of its cost"
    than = f"{points(e.gain)} over {best} on the same {e.queries:,} queries"
    return f"The routed choice scores {quality(row.quality)}: {than}, {sure}{cost}."


def _thrift(told: Told) -> str | None:
    point = told.evidence.thrift
    if point is None or math.isinf(point.willingness_to_pay) or not abs(point.saving.value) >= POINT:
        return None
    mix = "a random mix of single models for that money does as well"
    if point.over_mix.low > 0:
        mix = f"a random mix of single models for that money scores {number(point.over_mix.value)} points less"
    rate = f"At{at_rate(point.willingness_to_pay).removeprefix('at')}"
    if point.saving.value < 0:
        costs = f"costs {percent(-point.saving.value)} more than {told.best}"
        return f"{rate}, routing changes quality by {points(point.gain)} and {costs}; {mix}."
    changes = f"changes quality by {points(point.gain)} and saves {share(point.saving)} of the cost of {told.best}"
    return f"{rate}, routing {changes}; {mix}."


def _budget(told: Told) -> str | None:
    if told.plane is None or not told.plane.aiq_gain.low > 0.0:
        return None
    pays = "over all costs that single models have, it beats random mixes of them by"
    return f"On a smaller budget routing pays: {pays} {span(told.plane.aiq_gain)}."


def _lookup(told: Told) -> str | None:
    if told.lookup_is_enough or told.kinds < 2:  # the finding says so
        return None
    over, thrift = told.figures.over_lookup, told.figures.thrift
    if told.evidence.gains:
        if over.low > 0.0:
            return f"The router is ahead of a plain {told.table} by {span(over)}."
        return f"The router cannot be told apart from a plain {told.table} on these queries ({points(over)})."
    if thrift is None or thrift.over_table.low > 0.0 or thrift.cheaper.low > 0.0:
        return None
    apart = f"{points(thrift.over_table)}, and {share(thrift.cheaper)} of the cost of {told.best}"
    return f"The router cannot be told apart from a plain {told.table} at a rate of its own on these queries: {apart}."


def _one_kind(told: Told) -> str | None:
    if told.kinds > 1:
        return None
    return "There is nothing to look up in a table: no labels, or all alike, and too few queries to part them by likeness."


def _cheaper(told: Told) -> str | None:
    """A model that is as good for less is better advice than the best one."""
    peer, best = told.evidence.peer, told.best
    if peer is None:
        return None
    top, other = (next(one for one in told.singles if one.model == name) for name in (best, peer.model))
    scores = f"{peer.model} scores {quality(other.quality)}, {best} {quality(top.quality)}"
    may = "does" if peer.as_good else "may do"
    return f"{scores}, {points(peer.behind)}: at {percent(peer.part)} of the cost the former {may}."


def _cascade(told: Told) -> str | None:
    cascade = told.evidence.cascade
    if cascade is None or not told.evidence.real or (told.verdict == "route" and not told.evidence.climbs):
        return None
    return _of_one(cascade, told.best, more=told.verdict == "route")


def _of_one(cascade: Cascade, best: str, *, more: bool) -> str:
    name = f"A cascade {' → '.join(cascade.models)} whose judge errs in 20 % of the answers (assumed)"
    has = f"{'could do more: it has' if more else 'has'} {points(cascade.gain)} over {best}"
    return f"{name} {has}{_spent(cascade)}, not counting what the judge costs."


def _spent(cascade: Cascade) -> str:
    """What it saves; of one that is dearer than the best single model, how many times as dear. Nothing of free ones."""
    if not cascade.cost.value > 0.0 or not math.isfinite(cascade.saving.value):
        return ""
    if cascade.saving.value < 0.0:
        return f" at {1.0 - cascade.saving.value:.1f} times its cost"
    return f" and saves {share(cascade.saving)} of its cost"


def _judges(told: Told) -> str:
    """What the verdict "cascade" rests on: how good a judge can be had."""
    return _of_judges(told.figures.cascades)


def _of_judges(cascades: Sequence[Cascade]) -> str:
    lines = []
    for one in cascades:
        if len(one.models) > 1:
            does = f"{' → '.join(one.models)} has {points(one.gain)}{_spent(one).removesuffix(' of its cost')}"
        else:
            does = f"none is better than always {one.models[0]}"
        lines.append(f"{percent(one.judge_error)}: {does}")
    return f"The best cascade for a judge that errs in so many of the answers, not counting what it costs: {'; '.join(lines)}."


def _vote(told: Told) -> str | None:
    vote = told.evidence.vote
    if vote is None or not told.evidence.real or vote.gain.low == vote.gain.high:
        return None
    if told.verdict in {"route", "cascade"} and not told.evidence.outvotes:
        return None
    name = f"A {'weighted' if vote.weighted else 'majority'} vote of {listed(vote.models)}"
    return f"{name} scores at least {quality(vote.quality)}, {points(vote.gain)} over {told.best}{_times(told)}."


def _apart(told: Told) -> str | None:
    """Why votes and cascades are not spoken of, where it is for want of queries."""
    e = told.evidence
    if not e.untold or e.gains:
        return None
    same = f"whether models fail on the same queries ({told.correlation})"
    luck = "so that votes and cascades, which gain on paper where scores are luck, are not judged"
    return f"On {e.queries:,} queries it cannot be told {same}, {luck}."


def _signal(told: Told) -> str | None:
    known = [one for one in told.calibration if math.isfinite(one.auroc.value)]
    if not known:
        return None
    seen = [one.auroc.value for one in known]
    low, high = (f"{end:.2f}" for end in (min(seen), max(seen)))
    between = f"AUROC {low}{'' if low == high else f' to {high}'}, 0.5 = no idea"
    if not any(predictable(one.auroc) for one in known):
        if max(one.auroc.high for one in known) < _LITTLE:
            return f"Nothing foresees which queries a model gets right ({between})."
        return (
            f"On {told.evidence.queries:,} queries it cannot be told whether anything foresees what models get right ({between})."
        )
    levels = [name for _, name in LEVELS if any(one.regime == name for one in known)]
    ends = [levels[0]] if len(levels) == 1 else [levels[0].split()[0], levels[-1]] if levels else []
    regime = f"; {' to '.join(ends)} in the simulations of cascade routing" if ends else ""
    return f"The router has some idea which queries a model gets right ({between}{regime})."


def _way(told: Told) -> str | None:
    gaps = told.figures.gaps
    reach = gaps.ceiling.value + gaps.classifier.value
    # A ceiling at the top says that every model was expected to be right, not that expectations are good.
    foreseen = any(predictable(one.auroc) for one in told.calibration)
    if gaps.total.value < POINT or not foreseen or gaps.ceiling.value >= reach - POINT:
        return None
    short = f"The routed choice is {number(gaps.total.value)} points short of the best answer to each query"
    if told.inflated and gaps.noise is None:
        return f"{short}, which luck alone explains: it is not the router's fault."
    lost = (
        f"{number(gaps.policy.value)} because it chose the wrong one of the models that it expected to be right (at 0.5 or more)"
    )
    rest = f"{number(gaps.classifier.value)} because only models that it expected to be right at less than 0.5 were right"
    luck = f", {number(gaps.noise.value)} by luck" if gaps.noise else ""
    return f"{short}: {lost}, {rest}{luck}."


def _sample(told: Told) -> str | None:
    if told.needed is not None:  # the finding says so
        return None
    e = told.evidence
    size = number(e.detectable) if e.detectable >= 0.001 else "less than 0.1"
    return f"A gain of {size} points would show on {e.queries:,} queries (5 % level, 80 % power)."


def _unknown(told: Told) -> str | None:
    missing = []
    held = unheld(told)
    if held is not None:
        missing.append(held)
    if told.stable_oracle is None:
        missing.append("how much of the oracle is luck (score several samples of each answer)")
    return f"Not known: {'; '.join(missing)}." if missing else None
