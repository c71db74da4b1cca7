"""Whether a cascade pays, and why, in words."""

from __future__ import annotations

import math

from agentroute.evaluation._cascaded import AFTER, BEFORE, JUDGED, ROUTING, CascadeComparison, CascadeVerdict, SignalAuroc
from agentroute.evaluation._units import listed, percent, points, quality
from agentroute.evaluation._verdict import POINT

__all__ = ["sentence", "verdict"]

_HARDLY = 0.10
"""AUROC from one half below which a signal hardly tells right answers from wrong ones."""
_NO_CONFIDENCE = frozenset({BEFORE, AFTER, "length"})
"""What nobody takes for a confidence, so that it disappoints nobody."""
_NAMED = 3
"""Signals that a sentence names."""


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
    ways = found[JUDGED], found[ROUTING]
    if math.isnan(ways[0].area.value):
        return "Cannot be told: all models cost the same, so that there is nothing to save by asking one before another."
    return " ".join(line for line in (_told(found), _climbing(found), _routing(found), _signals(found)) if line)


def _told(found: CascadeComparison) -> str:
    cascade = found[JUDGED]
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
