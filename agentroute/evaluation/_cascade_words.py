"""Whether a cascade pays, and why, in words; and a diagnosis, which assumes a judge, beside what was measured."""

from __future__ import annotations

import math
from dataclasses import replace

from agentroute.evaluation._cascaded import AFTER, BEFORE, JUDGED, ROUTING, CascadeComparison, CascadeVerdict, SignalAuroc
from agentroute.evaluation._diagnosed import RoutingDiagnosis
from agentroute.evaluation._units import listed, percent, points, quality
from agentroute.evaluation._verdict import POINT
from agentroute.evaluation._words import CASCADE, assumed

__all__ = ["leads", "measured", "sentence", "verdict"]

_HARDLY = 0.10
"""AUROC from one half below which a signal hardly tells right answers from wrong ones."""
_NO_CONFIDENCE = frozenset({BEFORE, AFTER, "length"})
"""What nobody takes for a confidence, so that it disappoints nobody."""
_NAMED = 3
"""Signals that a sentence names."""
_ASSUMED = "Assumed, not measured:"


def verdict(found: CascadeComparison) -> CascadeVerdict:
    """What the intervals allow to say of cascade routing."""
    over, mix = found[JUDGED].over_routing, found[JUDGED].over_mix
    if not math.isfinite(over.low):
        return "cannot be told"
    if over.low > 0.0 and mix.low > 0.0:
        return "cascading pays"
    if mix.high < 0.0 or over.high <= 0.0 or (over.value < POINT and over.high < 2.0 * POINT):
        return "not worth it"
    return "cannot be told"


def sentence(found: CascadeComparison) -> str:
    """The verdict with its numbers, for people."""
    if math.isnan(found[JUDGED].area.value):
        return _told(found)
    return " ".join(line for line in (_told(found), _climbing(found), _routing(found), _signals(found)) if line)


def leads(diagnosis: RoutingDiagnosis, found: CascadeComparison) -> bool:
    """Whether what was measured is the verdict: a cascade pays, or the diagnosis advises one whose judge it only assumes."""
    return found.verdict == "cascading pays" or diagnosis.verdict == "cascade"


def measured(diagnosis: RoutingDiagnosis, found: CascadeComparison) -> RoutingDiagnosis:
    """The diagnosis in words that do not contradict a comparison on the same log.

    A diagnosis assumes a judge that errs so often; a comparison looks at what is really known of answers. So the comparison's
    verdict stands first, in the headline if it `leads`, and every sentence that rests on the assumption says so. Figures and
    `verdict` are as they were; a diagnosis that was worded already stays as it is.

    Args:
        diagnosis: What `diagnose` found.
        found: What `compare_cascades` found on the same log.
    """
    told, lines = _told(found), assumed(diagnosis)
    headline = diagnosis.headline
    if told in headline:
        return diagnosis
    reasons = list(diagnosis.reasons)
    if leads(diagnosis, found):
        before, mark, rest = headline.partition(CASCADE)
        if diagnosis.verdict != "cascade":
            headline = f"{told} Without a cascade: {_lower(headline)}"
        else:
            headline = f"{before}{told} {_ASSUMED} {rest}" if mark else f"{told} {_ASSUMED} {_lower(headline)}"
    elif lines:
        reasons.insert(reasons.index(lines[0]), told)
    worded = [f"{_ASSUMED} {_lower(line)}" if line in lines else line for line in reasons]
    return replace(diagnosis, headline=headline, reasons=tuple(worded))


def _lower(text: str) -> str:
    """To follow a colon. Headlines and reasons of cascades begin with words of ours."""
    return text[:1].lower() + text[1:]


def _told(found: CascadeComparison) -> str:
    """The verdict alone."""
    cascade = found[JUDGED]
    if math.isnan(cascade.area.value):
        return "Cannot be told: all models cost the same, so that there is nothing to save by asking one before another."
    low, high = (pick(found.singles, key=lambda one: one.cost.value).model for pick in (min, max))
    over = f"averaged over all budgets from always {low} to always {high}, cascade routing scores {quality(cascade.area)}"
    against = (
        f"{points(cascade.over_routing)} against routing and {points(cascade.over_mix)} against random mixes of single models"
    )
    match found.verdict:
        case "cascading pays":
            return f"Cascading pays: {over}, {against}."
        case "not worth it":
            return f"A cascade is not worth it here: {over}, {against}."
        case _:
            return f"Whether a cascade pays cannot be told from {found.queries:,} queries: {over}, {against}."


def _climbing(found: CascadeComparison) -> str:
    cascade = found[JUDGED]
    paid = ""
    if cascade.scoring > 0.0:
        mean = sum(one.cost.value for one in found.singles) / len(found.singles)
        paid = f", and looking at answers costs ${cascade.scoring:.3g} a query ({percent(cascade.scoring / mean)} of a mean call)"
    return f"It asks more than one model in {percent(cascade.climbs)} of the queries{paid}."


def _routing(found: CascadeComparison) -> str:
    """What to do without a cascade."""
    routing = found[ROUTING]
    if found.verdict == "cascading pays":
        return ""
    if routing.over_mix.low > 0.0:
        return f"Routing pays without: {points(routing.over_mix)} against random mixes."
    return f"Routing alone does not beat random mixes beyond noise ({points(routing.over_mix)})."


def _signals(found: CascadeComparison) -> str:
    measured = [one for one in found.signals if one.signal not in _NO_CONFIDENCE and math.isfinite(one.auroc.value)]
    weak = sorted((one for one in measured if abs(one.auroc.value - 0.5) < _HARDLY), key=lambda one: abs(one.auroc.value - 0.5))
    if weak:
        more = f", and {len(weak) - _NAMED} more" if len(weak) > _NAMED else ""
        named = listed([_signal(one) for one in weak[:_NAMED]])
        return f"Hardly better than a coin at telling right answers from wrong ones: {named}{more}."
    return ""


def _signal(one: SignalAuroc) -> str:
    return f"{one.signal} of {one.model} (AUROC {one.auroc.value:.2f})"
