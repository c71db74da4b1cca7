"""A diagnosis in words: headline, reasons and findings, each with its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from agentroute.evaluation._calibration_checks import LEVELS, predictable
from agentroute.evaluation._figures import ALWAYS, Figures
from agentroute.evaluation._intervals import Interval
from agentroute.evaluation._results import Evaluation, Finding, Frontier, ModelCalibration, Shift, Single, Verdict
from agentroute.evaluation._shift import Drift
from agentroute.evaluation._verdict import POINT, Evidence

__all__ = ["Told", "findings", "headline", "reasons"]

_KIND = {"task": "task", "labels": "labels", "cluster": "cluster of like queries"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the words are about.

    Attributes:
        verdict: What to do.
        evidence: What it rests on.
        evaluation: The rows.
        figures: The rest of the figures.
        singles: Best first.
        calibration: One for each model.
        drift: Skill shift.
        lookup_by: What a plain table would look up.
        lookup_is_enough: Whether it does as well.
        luck_floor: What guessers would reach; `None` = unknown.
        stable_oracle: `None` = unknown.
        plane: The cost-quality plane; `None` = costs are unknown.
        priceless: The models of which some or all costs are unknown, where that keeps savings from being judged.
        needed: Queries that would show a worthwhile gain; `None` = there are enough.
        window: What the second window is called: "in the holdout".
    """

    verdict: Verdict
    evidence: Evidence
    evaluation: Evaluation
    figures: Figures
    singles: tuple[Single, ...]
    calibration: Sequence[ModelCalibration]
    drift: Drift
    lookup_by: str
    lookup_is_enough: bool
    luck_floor: float | None
    stable_oracle: Interval | None
    plane: Frontier | None
    priceless: tuple[str, ...]
    needed: int | None
    window: str

    @property
    def best(self) -> str:
        """The best single model."""
        return self.evaluation.best_single

    @property
    def table(self) -> str:
        """What a plain table is called."""
        return f"table from {_KIND[self.lookup_by]} to model"

    @property
    def shifted(self) -> tuple[Shift, ...]:
        """Those models' shifts that are real, the largest first."""
        return tuple(sorted((one for one in self.drift.shifts if one.shifted), key=lambda one: -abs(one.relative.value)))


def _number(value: float) -> str:
    """Hundredths of quality with one digit, and no minus before a zero."""
    return f"{round(100 * value, 1) + 0.0:.1f}"


def _points(interval: Interval) -> str:
    """`+3.2 points [1.1, 5.3]`."""
    value = f"{round(100 * interval.value, 1) + 0.0:+.1f}"
    return f"{value} points [{_number(interval.low)}, {_number(interval.high)}]"


def _share(interval: Interval) -> str:
    """`43% [38%, 47%]`."""
    value, low, high = (f"{round(one, 2) + 0.0:.0%}" for one in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def headline(told: Told) -> str:
    """The verdict in one sentence, and what has to be known before it is followed."""
    warned = _warning(told)
    return _headline(told) if warned is None else f"{_headline(told)} {warned}"


def _headline(told: Told) -> str:
    e, best = told.evidence, told.best
    if told.verdict == "need more data":
        enough = told.needed or e.queries
        shown = f"on {e.queries:,} queries only a gain of {_number(e.detectable)} points or more over {best} would show"
        return f"Need more data: {shown}; about {enough:,} would show {100 * e.worthwhile:g}."
    if told.verdict == "route" and e.gains:
        gain = told.figures.lookup.gain if told.lookup_is_enough else e.gain
        return f"Route: a {told.table if told.lookup_is_enough else 'learned router'} scores {_points(gain)} over always {best}."
    if told.verdict == "route" and e.thrift is not None:
        saved = f"saves {_share(e.thrift.saving)} of the cost of always {best}"
        return f"Route to save money: it {saved}, at {_points(e.thrift.gain)} of quality."
    if told.verdict == "cascade" and e.cascade is not None:
        gives = f"gives {_points(e.cascade.gain)} over always {best} and saves {_share(e.cascade.saving)} of its cost"
        return f"Cascade: {' → '.join(e.cascade.models)} {gives}, even with a judge that errs in 20% of the answers."
    if told.verdict == "ensemble" and e.vote is not None:
        return f"Ensemble: a vote of {_and(e.vote.models)} scores {_points(e.vote.gain)} over always {best}{_times(told)}."
    if e.models == 1:
        return f"Single model: {best} is the only model, there is nothing to choose between."
    return f"Single model: always {best}; nothing here beats it beyond noise."


def _times(told: Told) -> str:
    vote, cost = told.evidence.vote, told.evaluation["best single"].cost.value
    if vote is None or not (cost > 0 and math.isfinite(vote.cost.value)):
        return ", at the cost of all of them"
    return f", at {vote.cost.value / cost:.1f} times its cost"


def _warning(told: Told) -> str | None:
    drift = told.drift
    ahead = f"{drift.leader} is ahead by {_number(drift.lead.value)} points" if drift.lead else None
    for one in told.shifted:
        if one.model == told.best:
            moved = f"its mean quality goes from {one.before:.3f} to {one.after:.3f} {told.window}"
            return f"But skill shift on model {one.model}: {moved}{f', where {ahead}' if ahead else ''}; clear that up first."
    return f"But {told.window} {ahead}; clear that up first." if ahead else None


def reasons(told: Told) -> tuple[str, ...]:
    """Why, most important first."""
    if told.evidence.models == 1:
        return (f"{told.best} scores {told.singles[0].quality} on {told.evidence.queries:,} queries.",)
    order = {
        "route": (_routing, _thrift, _budget, _lookup, _cascade, _vote),
        "cascade": (_judges, _routing, _thrift, _budget, _vote),
        "ensemble": (_vote, _cascade, _routing, _thrift, _budget),
        "single model": (_routing, _thrift, _budget, _cheaper, _cascade, _vote),
        "need more data": (_routing, _thrift, _budget, _cheaper, _cascade, _vote),
    }[told.verdict]
    lines = [line(told) for line in (_flattered, *order, _signal, _way, _sample, _unknown)]
    return tuple(line for line in lines if line)


def _flattered(told: Told) -> str | None:
    concerned = [one.model for one in told.shifted if one.model in {told.best, told.figures.degeneracy.model}]
    if not concerned:
        return None
    return f"Skill shift on model {_and(concerned)}: what follows rests on scores that do not hold {told.window}."


def _routing(told: Told) -> str:
    e, best = told.evidence, told.best
    row, single = told.evaluation["routed"], told.evaluation["best single"]
    if told.figures.same_as_single >= ALWAYS:
        return f"The router found no query worth taking from the best single model, {best} ({single.quality})."
    sure = "beyond noise" if e.gain.low > 0 else "a loss" if e.gain.high < 0 else "within noise"
    cost = ""
    if told.plane is not None and single.cost.value > 0:
        cost = f", at {row.cost.value / single.cost.value:.0%} of its cost"
    return (
        f"The routed choice scores {row.quality}: {_points(e.gain)} over {best} on the same {e.queries:,} queries, {sure}{cost}."
    )


def _thrift(told: Told) -> str | None:
    thrift = told.evidence.thrift
    if thrift is None or math.isinf(thrift.rate) or not abs(thrift.saving.value) >= POINT:
        return None
    worth = f"If a right answer is worth ${thrift.rate:.2g}"
    mix = "a random mix of single models for that money does as well"
    if thrift.over_mix.low > 0:
        mix = f"a random mix of single models for that money scores {_number(thrift.over_mix.value)} points less"
    changes = f"changes quality by {_points(thrift.gain)} and saves {_share(thrift.saving)} of the cost of {told.best}"
    return f"{worth}, routing {changes}; {mix}."


def _budget(told: Told) -> str | None:
    if told.plane is None or not told.plane.aiq_gain.low > 0.0:
        return None
    more = told.plane.aiq_gain
    gain = f"{_number(more.value)} points [{_number(more.low)}, {_number(more.high)}]"
    return f"On a smaller budget routing pays: over all costs that single models have, it beats random mixes of them by {gain}."


def _lookup(told: Told) -> str | None:
    if not told.evidence.gains or told.lookup_is_enough:  # the finding says so
        return None
    return f"The router is ahead of a plain {told.table} by {_points(told.figures.over_lookup)}."


def _cheaper(told: Told) -> str | None:
    """A model that is as good for less is better advice than the best one."""
    if told.plane is None:
        return None
    top = next(one for one in told.singles if one.model == told.best)
    if not top.cost.value > 0:
        return None
    for one in sorted(told.singles, key=lambda single: single.cost.value):
        close = one.quality.value >= top.quality.value - POINT and one.quality.high >= top.quality.low
        if one.model != top.model and close and one.cost.value <= 0.9 * top.cost.value:
            part = f"{one.cost.value / top.cost.value:.0%} of its cost"
            return f"{one.model} scores {one.quality}, {top.model} {top.quality}: at {part} the former may do."
    return None


def _cascade(told: Told) -> str | None:
    cascade = told.evidence.cascade
    if cascade is None or told.evidence.noise or (told.verdict == "route" and not told.evidence.climbs):
        return None
    name = f"A cascade {' → '.join(cascade.models)} whose judge errs in 20% of the answers"
    has = f"{'could do more: it has' if told.verdict == 'route' else 'has'} {_points(cascade.gain)} over {told.best}"
    return f"{name} {has} and saves {_share(cascade.saving)} of its cost, not counting what the judge costs."


def _judges(told: Told) -> str:
    """What the verdict "cascade" rests on: how good a judge can be had."""
    lines = []
    for one in told.figures.cascades:
        if len(one.models) > 1:
            does = f"{' → '.join(one.models)} has {_points(one.gain)} and saves {_share(one.saving)}"
        else:
            does = f"none is better than always {one.models[0]}"
        lines.append(f"{one.judge_error:.0%}: {does}")
    return f"The best cascade for a judge that errs in so many of the answers, not counting what it costs: {'; '.join(lines)}."


def _vote(told: Told) -> str | None:
    vote = told.evidence.vote
    if vote is None or told.evidence.noise or vote.gain.low == vote.gain.high:
        return None
    if told.verdict in {"route", "cascade"} and not told.evidence.outvotes:
        return None
    name = f"A {'weighted' if vote.weighted else 'majority'} vote of {_and(vote.models)}"
    return f"{name} scores at least {vote.quality}, {_points(vote.gain)} over {told.best}{_times(told)}."


def _signal(told: Told) -> str | None:
    known = [one for one in told.calibration if math.isfinite(one.auroc.value)]
    if not known:
        return None
    seen = [one.auroc.value for one in known]
    low, high = (f"{end:.2f}" for end in (min(seen), max(seen)))
    between = f"AUROC {low}{'' if low == high else f' to {high}'}, 0.5 = no idea"
    if not any(predictable(one.auroc) for one in known):
        return f"Nothing foresees which queries a model gets right ({between})."
    levels = [name for _, name in LEVELS if any(one.regime == name for one in known)]
    ends = [levels[0]] if len(levels) == 1 else [levels[0].split()[0], levels[-1]] if levels else []
    regime = f"; {' to '.join(ends)} in the simulations of cascade routing" if ends else ""
    return f"The router has some idea which queries a model gets right ({between}{regime})."


def _way(told: Told) -> str | None:
    gaps = told.figures.gaps
    if gaps.total.value < POINT or not told.evidence.predictable:
        return None
    lost = f"{_number(gaps.policy.value)} to the choice among models that were expected to be right"
    rest = f"{_number(gaps.classifier.value)} to expectations"
    luck = f", {_number(gaps.noise.value)} are luck" if gaps.noise else ""
    return f"From the routed choice to the oracle it is {_number(gaps.total.value)} points: {lost}, {rest}{luck}."


def _sample(told: Told) -> str | None:
    if told.needed is not None:  # the finding says so
        return None
    e = told.evidence
    return f"A gain of {_number(e.detectable)} points would show on {e.queries:,} queries (5% level, 80% power)."


def _unknown(told: Told) -> str | None:
    missing = []
    if not told.drift.shifts:
        missing.append("whether the scores hold on later or other queries (give a holdout, or log times)")
    if told.stable_oracle is None:
        missing.append("how much of the oracle is luck (score several samples of each answer)")
    return f"Not known: {'; '.join(missing)}." if missing else None


def findings(told: Told) -> tuple[Finding, ...]:
    """What else there is to know."""
    e, f = told.evidence, told.figures
    found = [*_drifted(told), *_lucky(told)]
    if told.lookup_is_enough:
        ahead = f"{_points(f.lookup.gain)} over {told.best}, and the router {_points(f.over_lookup)} over that table"
        found.append(Finding(kind="task identity", text=f"The gain is task identity: a {told.table} has {ahead}."))
    if e.models > 1 and f.degeneracy.always:
        found.append(
            Finding(kind="degenerate", text=f"The routed choice is always {f.degeneracy.model}.", model=f.degeneracy.model)
        )
    elif e.models > 1 and f.same_as_single >= ALWAYS:
        text = "The routed choice is always the best single model of the part that was learned from; which one that is changes."
        found.append(Finding(kind="degenerate", text=text))
    if e.models > 1 and e.noise:
        together = "" if math.isnan(e.dependence.value) else f" (mean correlation {e.dependence})"
        text = (
            f"The scores look like noise: models do not fail on the same queries{together}, and nothing foresees where they do."
        )
        paper = "Votes and cascades gain on paper then, as with coins; look at how answers are scored first."
        found.append(Finding(kind="noise", text=f"{text} {paper}"))
    if told.needed is not None:
        text = f"On {e.queries:,} queries only a gain of {_number(e.detectable)} points or more would show (5% level, 80% power)"
        found.append(Finding(kind="few rows", text=f"{text}; about {told.needed:,} would show {100 * e.worthwhile:g}."))
    if told.plane is None:
        several = f" and {len(told.priceless) - 1} others" if len(told.priceless) > 1 else ""
        text = (
            f"What {told.priceless[0]}{several} cost is not known, so that only quality is compared: log costs, or give prices."
        )
        found.append(Finding(kind="costs unknown", text=text))
    return tuple(found)


def _drifted(told: Told) -> list[Finding]:
    drift = told.drift
    found = []
    for one in told.shifted:
        why = (
            "It has changed, or the fit window's questions were in its training data." if one.change.value < 0 else "It changed."
        )
        moved = f"mean quality {one.before:.3f} in the fit window, {one.after:.3f} {told.window}, {_points(one.change)}"
        than = f"{_points(one.relative)} against the other models on the same queries (p = {one.p_value:.1g})"
        found.append(
            Finding(kind="skill shift", text=f"Skill shift on model {one.model}: {moved}; {than}. {why}", model=one.model)
        )
    if drift.lost_lead and drift.leader and drift.lead:
        lead = f"by {_number(drift.lead.value)} points [{_number(drift.lead.low)}, {_number(drift.lead.high)}]"
        text = f"{drift.lost_lead} is best in the fit window, but {told.window} {drift.leader} is ahead of it {lead}."
        found.append(Finding(kind="lost lead", text=text, model=drift.lost_lead))
    return found


def _lucky(told: Told) -> list[Finding]:
    """The floor where it is known; inflation by repeats where there are any, else by what independence would give."""
    found = []
    oracle, f = told.evaluation["oracle"].quality, told.figures
    if told.luck_floor is not None:
        guess = f"{told.evidence.models} guessers would have a right answer among them for {told.luck_floor:.1%}"
        text = f"{guess} of the questions whose options are known; the oracle has {oracle.value:.1%} of all."
        found.append(Finding(kind="luck floor", text=text))
    above = oracle.value - f.hindsight
    if f.gaps.noise is not None and told.stable_oracle is not None:
        if f.gaps.noise.low > 2 * POINT:
            steady = f"only {told.stable_oracle.value:.3f} of the queries are answered right in 80% of a model's samples"
            found.append(Finding(kind="luck inflation", text=f"The oracle ({oracle.value:.3f}) is inflated by luck: {steady}."))
    elif above >= 5 * POINT and oracle.low <= f.independent:
        coins = f"models that are right at random, as often as these are in each task, would have one of {f.independent:.3f}"
        best = f"The best model of each task has {f.hindsight:.3f}; do not count on the {_number(above)} points above it"
        found.append(Finding(kind="luck inflation", text=f"The oracle ({oracle.value:.3f}) may be luck: {coins}. {best}."))
    return found
