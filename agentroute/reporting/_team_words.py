"""What a report on a team says in sentences: the verdict, what to do, role by role, and what it does not show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from agentroute.evaluation import Interval
from agentroute.reporting._team_values import TeamDiagnosis, Way
from agentroute.reporting.words import brief, counted, figure, gained, noise, percent, plain, points, thousand
from agentroute.teams import NONE, RoleEffect
from agentroute.teams._observing import UNKNOWN

__all__ = ["advice", "called", "headline", "left_to_say", "limits", "reasons", "shared"]

_VERDICT = 34
"""Characters of a verdict in large type."""
_UNKNOWN = Interval(value=math.nan, low=math.nan, high=math.nan)
_WHOLE = 0.995
"""Share of the tasks that counts as all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """What is known of one role, best and worst first in their kind; empty where nothing can be told."""

    role: str
    known: tuple[RoleEffect, ...]
    better: tuple[RoleEffect, ...]
    worse: tuple[RoleEffect, ...]

    @property
    def spread(self) -> float:
        """From the worst model to the best, in logits."""
        return (self.known[0].logit or 0.0) - (self.known[-1].logit or 0.0) if self.known else 0.0

    @property
    def sure(self) -> bool:
        """Whether some model is better or worse than noise allows."""
        return bool(self.better or self.worse)


def _standings(found: TeamDiagnosis) -> list[_Standing]:
    """What is known of each role. What is called sure would be so of all effects at once: of 20 intervals one misses by luck."""
    standings = []
    wider = _wider(found.fit.effects)
    for role in found.team.roles:
        known = [one for one in found.fit.effects if one.role == role.name and one.logit is not None]
        known.sort(key=lambda one: -(one.logit or 0.0))
        standings.append(
            _Standing(
                role=role.name,
                known=tuple(known),
                better=tuple(one for one in known if _end(one.logit, one.low, wider) > 0.0),
                worse=tuple(one for one in known[::-1] if _end(one.logit, one.high, wider) < 0.0),
            )
        )
    return standings


def _wider(effects: Sequence[RoleEffect]) -> float:
    """How much longer each interval must be for all to hold at once, in 95 % of such logs (Bonferroni)."""
    known = Counter(one.role for one in effects if one.logit is not None)
    # What one of two models adds, the other costs: they are right or wrong together.
    count = sum(1 if models == 2 else models for models in known.values())
    normal = NormalDist()
    return normal.inv_cdf(1.0 - 0.025 / max(count, 1)) / normal.inv_cdf(0.975)


def _end(logit: float | None, end: float | None, wider: float) -> float:
    return 0.0 if logit is None or end is None else logit + wider * (end - logit)


def called(model: str) -> str:
    """A model, or that there is none."""
    return "left out" if model == NONE else brief(model)


# --- the verdict ---


def headline(found: TeamDiagnosis) -> tuple[str, str]:
    """The verdict in large type, and what follows it."""
    return _verdict(found)[0], " ".join(part for part in (_verdict(found)[1], _bought(found)) if part)


def _verdict(found: TeamDiagnosis) -> tuple[str, str]:
    fit, standings = found.fit, _standings(found)
    if fit.useless:
        return (
            "Nothing can be told yet",
            f"Nothing could be learned from {plain(fit.useless)}: allocations go by the models' cards.",
        )
    if not fit.runs:
        return (
            "No runs yet",
            "Allocations go by the models' cards: which role hangs on its model, only runs of the team can tell.",
        )
    if len(fit.unidentifiable) == len(standings):
        return (
            "Nothing can be told yet",
            "No role's model varied on its own in these runs, so that no success can be put down to it.",
        )
    first = max((one for one in standings if one.sure), key=lambda one: one.spread, default=None)
    if first is None:
        runs = counted(fit.runs, "run")
        return "No role stands out yet", f"By {runs}, no model is surely better or worse than the others in any role."
    verdict = f"The {plain(first.role)} matters most"
    hangs = (
        " Mind that effects do not add up: what a model is worth hangs on the other roles' models." if fit.by == "pairs" else ""
    )
    return verdict if len(verdict) <= _VERDICT else "One role matters most", f"{_leading(found, first)}{hangs}"


def _leading(found: TeamDiagnosis, one: _Standing) -> str:
    """What is sure of the role that matters most: its best model, and its worst one."""
    effects = [*one.better[:1], *one.worse[:1]]
    if effects[0].model == NONE:
        told = [f"Leaving out the {plain(one.role)} {_worth(found, effects[0])}"]
    else:
        told = [f"{brief(effects[0].model)} as {plain(one.role)} {_worth(found, effects[0])}"]
    told += [_does(found, effect) for effect in effects[1:]]
    return f"{', '.join(told)}, against the mean of the models tried there."


def _told(found: TeamDiagnosis, one: _Standing) -> str:
    """What is sure of a role."""
    parts = [_does(found, one.better[0])] if one.better else []
    parts += [_does(found, one.worse[0])] if one.worse else []
    return f"{plain(one.role)}: {'; '.join(parts)}." if parts else ""


def _does(found: TeamDiagnosis, one: RoleEffect) -> str:
    what = "leaving it out" if one.model == NONE else brief(one.model)
    return f"{what} {_worth(found, one)}"


def _worth(found: TeamDiagnosis, one: RoleEffect) -> str:
    effect = found.effect(one)
    return f"{'adds' if effect.value > 0 else 'costs'} {_size(effect)}"


def _size(effect: Interval) -> str:
    """`12 points (3 to 21)`, without a sign."""
    flip = effect.value < 0
    low, high = (-effect.high, -effect.low) if flip else (effect.low, effect.high)
    low_, high_ = (points(end).lstrip("+") for end in (low, high))
    return f"{points(abs(effect.value)).lstrip('+')} points ({low_} to {high_})"


def _rival(found: TeamDiagnosis) -> Way | None:
    """The best single model."""
    frontier = found.frontier
    known = [one for one in frontier.of("one model") if not math.isnan(frontier.success(one).value)]
    return max(known, key=lambda one: frontier.success(one).value, default=None)


def _bought(found: TeamDiagnosis) -> str:
    """What the featured allocation comes to, beside the best single model."""
    frontier, rival = found.frontier, _rival(found)
    if frontier.featured is None or not found.fit.runs:
        return ""
    success, money = frontier.success(frontier.featured), frontier.money(frontier.featured)
    at = "" if math.isnan(money.value) else f" at {thousand(money.value)} for 1,000 runs"
    how = "succeed in" if frontier.measured else "are expected to succeed in"
    told = f"With a model of its own for each role, teams {how} {figure(success, percent)} of tasks{at}"
    if rival is None:
        return f"{told}."
    other, paid = frontier.success(rival), frontier.money(rival)
    price = "" if math.isnan(paid.value) else f" at {thousand(paid.value)}"
    told = f"{told}; with {brief(rival.name.removeprefix('always '))} everywhere in {figure(other, percent)}{price}."
    gain = frontier.gains.get(rival.name)
    if gain is None:
        return told if frontier.measured else f"{told} Nobody has measured this."
    said = {"better": "more than noise", "worse": "worse by more than noise", "the same": "the same"}.get(
        noise(gain), "within noise"
    )
    return f"{told} The difference: {gained(gain)}, {said}."


# --- what to do ---


def advice(found: TeamDiagnosis) -> list[tuple[str, str]]:
    """What to do, by name."""
    rows = [(name, ", ".join(told)) for name, told in _by_role(found) if told]
    frontier, rival = found.frontier, _rival(found)
    if rival is not None and noise(frontier.gains.get(rival.name, _UNKNOWN)) == "worse":
        return [
            *rows,
            ("Models", f"{plain(rival.name)}: with own models for each role teams succeed less often."),
            ("Next", _next(found)),
        ]
    if frontier.featured is not None and frontier.featured.budget is not None and found.fit.runs:
        if len(frontier.of("allocator")) > 1:
            more = "More is not expected to buy a point of success."
            rows.append(("Budget", f"{thousand(frontier.featured.budget)} for 1,000 runs. {more}"))
        rows.append(("Models then", "; ".join(_has(role.name, frontier.featured) for role in found.team.roles) + "."))
    return [*rows, ("Next", _next(found))]


def _by_role(found: TeamDiagnosis) -> Iterator[tuple[str, list[str]]]:
    standings = _standings(found) if found.fit.runs else []
    best = [(one.role, one.better[0].model) for one in standings if one.better]
    yield "Sure gains", [f"{brief(model)} as {plain(role)}" for role, model in best if model != NONE]
    yield "Leave out", [plain(role) for role, model in best if model == NONE]
    yield (
        "Keep away",
        [
            f"{brief(effect.model)} as {plain(one.role)}" if effect.model != NONE else f"a team without {plain(one.role)}"
            for one in standings
            for effect in one.worse
        ],
    )


def _has(role: str, way: Way) -> str:
    return f"{plain(role)}: {shared(way, role)}"


def shared(way: Way, role: str) -> str:
    """Who has a role in a way: `small`, or `small 60 %, large 40 %`."""
    shares = sorted(way.models.get(role, {}).items(), key=lambda one: -one[1])
    if not shares:
        return ""
    if shares[0][1] >= _WHOLE:
        return called(shares[0][0])
    return ", ".join(f"{called(model)} {percent(share)}" for model, share in shares if share > 1 - _WHOLE)


def _next(found: TeamDiagnosis) -> str:
    fit = found.fit
    stuck = [plain(role) for role in fit.unidentifiable]
    if not fit.runs and set(fit.left_out) == {UNKNOWN}:
        return "Log whether each run succeeded: only that tells what the models were worth."
    if not fit.runs:
        return "Run the team by a plan, RoleAllocator.exploration_plan(n), and log whether each run succeeds."
    if stuck:
        return (
            f"Draw models by lot for {', '.join(stuck)}, each role on its own: RoleAllocator.exploration_plan(n) makes such runs."
        )
    if any(one.verdict == "too few runs" for one in fit.effects) or not fit.enough:
        return "Log more runs by RoleAllocator.exploration_plan(n): some models have hardly been tried in some roles."
    if not fit.drawn:
        return "Let a part of the runs be drawn by lot, allocate(task, explore=0.1), and log the chances: then gains can be told."
    if not found.frontier.measured:
        return f"Measure it on runs that were drawn by lot ({plain(found.frontier.why)})."
    return "Run the allocation and the best single model side by side on new tasks: an estimate from a log is no trial."


# --- why ---


def reasons(found: TeamDiagnosis) -> list[str]:
    """Role by role, what the runs tell, in the order in which the roles speak."""
    said = []
    for one in _standings(found) if found.fit.runs else ():
        if one.role in found.fit.unidentifiable:
            said.append(f"not identifiable: role {plain(one.role)} ({found.fit.unidentifiable[one.role]}).")
        elif not one.known:
            said.append(f"{plain(one.role)}: too few runs with each of its models.")
        elif one.sure:
            said.append(_told(found, one))
        else:
            widest = max(max(abs(found.effect(effect).low), abs(found.effect(effect).high)) for effect in one.known)
            hidden = points(widest).lstrip("+")
            said.append(f"{plain(one.role)}: no model stands out; up to {hidden} points either way may still hide in the noise.")
    return said


def left_to_say(found: TeamDiagnosis) -> list[str]:
    """What stands in the way of trusting it."""
    shown = [one for one in found.fit.verdicts if not one.startswith("not identifiable")] if found.fit.runs else []
    said = [f"{plain(one)[:1].upper()}{plain(one)[1:]}." for one in shown]
    tried = {(one.role, one.model) for one in found.fit.effects if one.runs}
    given = found.frontier.featured.models if found.frontier.featured is not None else {}
    untried = [
        f"{called(model)} as {plain(role)}" for role, shares in given.items() for model in shares if (role, model) not in tried
    ]
    if untried and found.fit.runs:
        said.append(f"The allocation has {', '.join(untried)}, which was never run: it goes by the models' cards there.")
    return said


def limits(found: TeamDiagnosis) -> list[str]:
    """Sentences on the limits of the runs and of the method."""
    frontier, sources = found.frontier, found.sources
    said = []
    if sources.drawn < sources.runs:
        said.append(
            f"In {sources.runs - sources.drawn:,} of {counted(sources.runs, 'run')} nobody drew the models by lot. Whoever gave "
            "hard tasks to strong models makes them look weak."
        )
    said.append(
        f"Points are of success, from its mean of {percent(found.base)} on: a team that is better or worse than that moves by "
        "less. Effects of roles are added up. The intervals are those of the runs with the cards, and of the runs nearly alone, "
        "together; they hold for tasks like these. Each misses once in 20 by luck; what words call sure is so with all of them "
        "looked at together."
    )
    if sources.replays:
        said.append(
            "Replays tell what a model was worth if the runs were not picked for how they ended: of those that failed any second "
            "try looks better."
        )
    if frontier.measured:
        said.append(
            "Success at a budget is told from runs that were not learned from, each fifth of the tasks by what the others "
            "taught. “Parts” means that what the model misses was taken for a sum over roles, since hardly any run had just "
            "these models."
        )
        said.append(
            "The budget that is pointed out was picked by what is expected. Its success on new tasks may be a little lower."
        )
    elif frontier.ways:
        said.append(
            f"Success at a budget is what the model of these runs expects, and nobody has measured it ({plain(frontier.why)}). "
            "What is picked for being expected to be best is mostly a little worse."
        )
    if not frontier.ways:
        said.append(f"There are no budgets to compare: {plain(frontier.why)}.")
    said.append(
        "Costs are those that were logged, and else come from prices and expected tokens. Prices and lengths of answers change."
    )
    said.append("Success is taken as logged. Where a judge or a verifier errs, this report errs with it.")
    return said
