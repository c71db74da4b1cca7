"""What a reader is to do: the setting, what it brings, what it costs now and then, and the next step."""

from __future__ import annotations

import math
from collections.abc import Iterable

from agentroute.evaluation import CascadeComparison, Interval, RoutingDiagnosis, Row
from agentroute.evaluation._cascade_words import leads
from agentroute.reporting._tables import rate
from agentroute.reporting.words import brief, counted, figure, gained, percent, plain, quality, thousand

__all__ = ["advice"]

_NAMED = 6
"""Tasks whose model is named; the table has all of them."""
_KINDS = {"task": "task", "labels": "labels", "cluster": "cluster of like queries"}
_JUDGE_ERROR = 0.2
"""The judge that the verdict "cascade" rests on (docs/concepts/feasibility.md)."""


def advice(diagnosis: RoutingDiagnosis, cascades: CascadeComparison | None = None) -> list[tuple[str, str]]:
    """What to do, for those who read nothing else: (what it is about, words).

    Args:
        diagnosis: What it is read from.
        cascades: What was measured on the same log: it has the say where the diagnosis assumes a judge.
    """
    setting, brings, then, step = _chosen(diagnosis)
    without = ""
    if cascades is not None and leads(diagnosis, cascades):
        without = setting if diagnosis.verdict != "cascade" else ""
        setting, brings, then, step = _measured(diagnosis, cascades)
    if any(finding.kind in {"skill shift", "lost lead", "other questions"} for finding in diagnosis.findings):
        step = f"First find out why models score otherwise in the second window; see “Has a model changed?”. Then: {step}"
    lines = [
        ("Setting", setting),
        ("What it brings", brings),
        ("Without a cascade", without),
        ("1,000 queries cost", _costs(diagnosis, then)),
        ("Next step", step),
    ]
    return [(name, text) for name, text in lines if text]


def _chosen(diagnosis: RoutingDiagnosis) -> tuple[str, str, Interval | None, str]:
    """Setting, effect, cost of a query and next step by verdict."""
    if diagnosis.verdict == "route":
        return _route(diagnosis)
    if diagnosis.verdict == "cascade":
        found = next((one for one in diagnosis.cascades if one.judge_error == _JUDGE_ERROR), None)
        if found is not None:
            order = ", then ".join(map(plain, found.models))
            brings = _brings(found.gain, found.saving)
            step = (
                "Build the judge that decides whether an answer will do, and measure how often it errs before you rely on this."
            )
            return f"Ask {order}.", f"{brings} With a judge that errs in 20 %, and not counting its cost.", found.cost, step
    if diagnosis.verdict == "ensemble" and diagnosis.votes:
        vote = max(diagnosis.votes, key=lambda one: one.gain.value)
        step = "Try the vote on fresh queries: it was computed from single answers."
        who = ", ".join(map(plain, vote.models))
        return f"Ask all of {who} and take the majority.", _brings(vote.gain, None), vote.cost, step
    best = _best(diagnosis)
    score = next((one.quality for one in diagnosis.singles if one.model == best), None)
    brings = "" if score is None else f"Quality {figure(score, quality)}."
    if diagnosis.verdict == "need more data":
        more = diagnosis.queries_needed
        wanted = "more queries" if more is None else f"about {counted(more, 'query', 'queries')} in all"
        return f"Stay with always {brief(best)} for now.", brings, None, f"Log answers of every model to {wanted}, and ask again."
    if any(finding.kind == "noise" for finding in diagnosis.findings):
        return f"Always {brief(best)} for now.", brings, None, "Look at how answers are scored: the scores look like noise."
    return f"Always {brief(best)}.", brings, None, "Nothing to set up. Ask again when models, prices or queries change."


def _measured(diagnosis: RoutingDiagnosis, cascades: CascadeComparison) -> tuple[str, str, Interval | None, str]:
    """The same where a comparison of cascades leads."""
    if cascades.verdict == "cascading pays":
        found = cascades["cascade routing"]
        brings = f"{gained(found.over_routing)} of quality against routing, {gained(found.over_mix)} against random mixes"
        fit = "agentroute fit LOG --cascade --output cascade, with the signals of this report"
        step = f"{fit}, then give it a share of the traffic and log what comes of it."
        return "A cascade that looks at these signals.", f"{brings}; averaged over all budgets, 95 % intervals.", None, step
    setting = f"Stay with always {brief(_best(diagnosis))} for now."
    if cascades.verdict == "not worth it":
        wanted = "Look for a judge or a signal that tells right answers from wrong ones better than those of this report"
        return setting, "", None, f"{wanted}; without one a cascade does not pay."
    return setting, "", None, "Log answers of every model to more queries, with the same signals, and ask again."


def _route(diagnosis: RoutingDiagnosis) -> tuple[str, str, Interval | None, str]:
    point, fit = diagnosis.recommended, "agentroute fit LOG --output router"
    lookup, routed = (_row(diagnosis, f"{diagnosis.lookup_by} lookup"), _row(diagnosis, "routed"))
    if diagnosis.lookup_is_enough and lookup is not None and point is None:
        step = "Write that table into your code; a learned router would add nothing beyond noise."
        return (
            f"A table from {_KINDS[diagnosis.lookup_by]} to model: {_table(diagnosis)}.",
            _brings(lookup.gain, None),
            lookup.cost,
            step,
        )
    if point is not None:
        worth, step = "for quality alone", f"{fit}, then route a share of the traffic and log what comes of it."
        if math.isfinite(point.willingness_to_pay):
            worth = f"at {rate(point.willingness_to_pay)}"
            step = step.replace("router,", f"router --willingness-to-pay {point.willingness_to_pay:.6g},")
        if diagnosis.lookup_is_enough:
            step = f"{step} A table from {_KINDS[diagnosis.lookup_by]} to model, at the same rate, does about as well."
        return f"Route by a learned router, {worth}.", _brings(point.gain, point.saving), point.cost, step
    if routed is None:
        return "Route by a learned router.", "", None, f"{fit}."
    step = f"{fit}, then route a share of the traffic and log what comes of it."
    return "Route by a learned router, for quality alone.", _brings(routed.gain, None), routed.cost, step


def _row(diagnosis: RoutingDiagnosis, name: str) -> Row | None:
    return next((row for row in diagnosis.evaluation.rows if row.name == name), None)


def _table(diagnosis: RoutingDiagnosis) -> str:
    named = [f"{brief(one.task)} → {brief(one.best_model)}" for one in diagnosis.tasks[:_NAMED]]
    more = len(diagnosis.tasks) - len(named)
    return f"{'; '.join(named)}{f'; and {more:,} more below' if more > 0 else ''}"


def _brings(gain: Interval, saving: Interval | None) -> str:
    parts: Iterable[str] = [f"{gained(gain)} of quality" if math.isfinite(gain.value) else ""]
    if saving is not None and math.isfinite(saving.value):
        money = f"{figure(saving, percent)} of the cost saved"
        parts = [money, *parts] if saving.value > 0 else [*parts, f"{percent(-saving.value)} more cost"]
    said = "; ".join(part for part in parts if part)
    return f"{said}, 95 % intervals in brackets." if said else ""


def _best(diagnosis: RoutingDiagnosis) -> str:
    return diagnosis.evaluation.best_single if diagnosis.frontier is None else diagnosis.frontier.best_single


def _costs(diagnosis: RoutingDiagnosis, then: Interval | None) -> str:
    best = _best(diagnosis)
    now = next((one.cost for one in diagnosis.singles if one.model == best), None)
    if now is None or math.isnan(now.value):
        return ""
    said = f"{figure(now, thousand)} with always {brief(best)}"
    if then is None or math.isnan(then.value):
        return f"{said}."
    return f"{said} now; {figure(then, thousand)} then."
