"""What a diagnosis says of its second window: who shifted, who lost the lead, and what is not known."""

from __future__ import annotations

from agentroute.evaluation._diagnosed import Finding, Shift
from agentroute.evaluation._told import Told
from agentroute.evaluation._units import listed, number, points, span
from agentroute.evaluation._windows import HOLDOUT, NONE

__all__ = ["flattered", "unheld", "warning", "window_findings"]


def warning(told: Told) -> str | None:
    """Who lost and who gained in the second window, where that concerns what the headline recommends."""
    drift, e = told.drift, told.evidence
    advised = {told.best, *([e.settles] if e.settles else [])}
    if told.verdict == "cascade" and e.cascade is not None:
        advised |= set(e.cascade.models)
    if told.verdict == "ensemble" and e.vote is not None:
        advised |= set(e.vote.models)
    if drift.others:
        lines = [_goes(one) for one in drift.shifts if one.model in drift.moved and one.model in advised]
        ask = f"the questions {told.window} are others, where"
        return f"But {ask} {' and '.join(lines)}; find out first whether that is the model or the questions." if lines else None
    lines = [f"skill shift on model {_goes(one, ':')} {told.window}" for one in told.shifted if one.model in advised]
    if drift.lead is not None and drift.leader is not None and drift.lost_lead is not None:
        lines.append(f"{drift.leader} is {number(drift.lead.value)} points ahead of {drift.lost_lead} {told.window}")
    return f"But {', and '.join(lines)}; clear that up first." if lines else None


def _goes(one: Shift, colon: str = "") -> str:
    mean = f"{one.model}: its" if colon else f"{one.model}'s"
    return f"{mean} mean quality goes from {one.before:.3f} to {one.after:.3f}"


def flattered(told: Told) -> str | None:
    """What the figures of a model that shifted are worth."""
    concerned = [one.model for one in told.shifted if one.model in {told.best, told.figures.degeneracy.model}]
    if not concerned:
        return None
    return f"Skill shift on model {listed(concerned)}: what follows rests on scores that do not hold {told.window}."


def unheld(told: Told) -> str | None:
    """Whose scores may not hold on other queries, and why that is not known."""
    drift = told.drift
    if told.window == NONE:
        return "whether the scores hold on later or other queries (give a holdout, or log times)"
    if not drift.shifts:
        which = "the holdout" if told.window == HOLDOUT else "the last 30 % of the times"
        return f"whether the scores hold on later or other queries ({which} could not be compared with the rest)"
    if drift.moved:
        return f"whether the scores of {listed(drift.moved)} hold on the same questions (those {told.window} are others)"
    if told.best not in {one.model for one in drift.shifts}:
        return f"whether the scores of {told.best} hold on later or other queries (the holdout has no outcomes of it)"
    return None


def window_findings(told: Told) -> list[Finding]:
    """What the second window shows, or why it shows nothing."""
    drift = told.drift
    if drift.note is not None:
        which = (
            "The holdout was not used" if told.window == HOLDOUT else "The last 30 % of the times were not compared with the rest"
        )
        return [Finding(kind="holdout", text=f"{which}: {drift.note}.")]
    known = {one.model for one in drift.shifts}
    found = [_moved(one, told) for one in drift.shifts if one.model in drift.moved]
    found += [_shifted(one, told) for one in told.shifted]
    if drift.lost_lead and drift.leader and drift.lead:
        ahead = f"{told.window} {drift.leader} is ahead of it by {span(drift.lead)}"
        text = f"{drift.lost_lead} is best in the fit window, but {ahead}. A model changed, or the questions did {_UNSEEN}."
        found.append(Finding(kind="lost lead", text=text, model=drift.lost_lead))
    missing = [one.model for one in told.singles if one.model not in known]
    if known and missing:
        best = f" (of which {told.best} is the best)" if told.best in missing and len(missing) > 1 else ""
        text = f"The holdout has no outcomes of {listed(missing)}{best}: whether their scores hold is not known."
        found.append(Finding(kind="holdout", text=text))
    return found


_UNSEEN = "in a way that their texts do not show"


def _shifted(one: Shift, told: Told) -> Finding:
    if one.change.value < 0:
        why = (
            f"It has changed, the fit window's questions were in its training data, or the later ones are harder for it {_UNSEEN}"
        )
    else:
        why = f"It has changed, or the later questions are easier for it {_UNSEEN}"
    return Finding(kind="skill shift", text=f"Skill shift on model {one.model}: {_figures(one, told)}. {why}.", model=one.model)


def _moved(one: Shift, told: Told) -> Finding:
    text = f"{one.model} scores otherwise {told.window}, but the questions there are others, too: {_figures(one, told)}."
    ask = "Which of the two it is cannot be told: ask the models the same kinds of questions again"
    return Finding(kind="other questions", text=f"{text} {ask}.", model=one.model)


def _figures(one: Shift, told: Told) -> str:
    moved = f"mean quality {one.before:.3f} in the fit window, {one.after:.3f} {told.window}, {points(one.change)}"
    return f"{moved}; {points(one.relative)} against the other models on the same queries (p = {one.p_value:.1g})"
