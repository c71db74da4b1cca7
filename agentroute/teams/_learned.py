"""What was learned of a team from its runs, and of what nothing can be learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agentroute.teams._additive import AdditiveLogit
from agentroute.teams._observing import AGAIN
from agentroute.teams._prior import CardPrior
from agentroute.teams._values import NONE, Team

__all__ = ["FitReport", "RoleEffect", "report_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleEffect:
    """What one model adds in one role to the logit of the team's success, against the mean of the models tried there.

    Where kinds of tasks are told apart it is the mean over those that were run, as often as they were. How strongly it is held
    toward its prior, the runs have told, unless `RoleAllocator(ridge=)` says it.

    Attributes:
        role: The role.
        model: The model, `NONE` = the role left out.
        runs: Runs in which it had the role.
        logit: What it adds; `None` = the runs cannot tell.
        low: Lower end of the 95 % interval.
        high: Upper end.
        verdict: `"ok"`, `"not identifiable"` or `"too few runs"`.
        prior: What its card led one to expect, against the mean of the models.
    """

    role: str
    model: str
    runs: int
    logit: float | None
    low: float | None
    high: float | None
    verdict: str
    prior: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """What was learned from the runs of a team.

    Attributes:
        runs: Runs that it was learned from.
        drawn: Those whose models were drawn by lot, with the chance on record: only they tell cause from habit.
        left_out: Why other runs tell nothing → how many.
        effects: Of each role and model.
        unidentifiable: Role → why nothing can be told of it.
        enough: Whether there are ten runs for each effect.
        interaction: p-value of the test whether effects add up; small = what a model adds hangs on the others' models.
        by: What allocations go by: `"cards"` (no runs), `"sum"` of effects, or `"pairs"` of roles where a sum does not hold.
        kinds: Kinds of tasks that are told apart.
        scored: Runs in which some role has a score of its own.
        broken: Runs that broke off when a model failed: they count as failures of the team.
        unpaired: Why allocations go by a sum although effects do not add up; empty = they add up, or allocations go by pairs.
    """

    runs: int
    drawn: int
    left_out: Mapping[str, int]
    effects: tuple[RoleEffect, ...]
    unidentifiable: Mapping[str, str]
    enough: bool
    interaction: float
    by: str
    kinds: tuple[str, ...]
    scored: int = 0
    broken: int = 0
    unpaired: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        """What was learned from what, in phrases: how the models came about, scores of roles, and what was left out."""
        found = [f"{self.drawn} of {self.runs} runs drawn by lot"] if self.runs else []
        found += [f"{self.scored} runs scored role by role"] if self.scored else []
        found += [f"kinds of task: {', '.join(self.kinds)}"] if self.kinds else []
        return (*found, *(f"left out: {_runs(count)} ({why})" for why, count in self.left_out.items()))

    @property
    def useless(self) -> str:
        """The runs of which none could be learned from, and why, in a phrase; empty = some could, or there are none."""
        why = {one: count for one, count in self.left_out.items() if one != AGAIN}
        return f"{_runs(sum(why.values()))} ({', '.join(why)})" if why and not self.runs else ""

    @property
    def verdicts(self) -> tuple[str, ...]:
        """What stands in the way of trusting it, in sentences; empty = nothing does."""
        if not self.runs:
            none = f"nothing could be learned from {self.useless}" if self.useless else "no runs yet"
            return (f"{none}: allocations go by the models' cards",)
        found = [f"not identifiable: role {role} ({why})" for role, why in self.unidentifiable.items()]
        few = [f"{effect.model} as {effect.role}" for effect in self.effects if effect.verdict == "too few runs"]
        if few:
            found.append(f"too few runs: {', '.join(few)}")
        if not self.enough:
            found.append(f"{self.runs} runs are less than ten for each effect: intervals are wide")
        if self.drawn < self.runs:
            found.append(
                f"in {self.runs - self.drawn} of {self.runs} runs no lot drew the models: what went with them may be the reason"
            )
        if self.broken:
            found.append(f"{_runs(self.broken)} that broke off when a model failed count as failures")
        if self.interaction < 0.01:
            still = f"; allocations go by sums all the same: {self.unpaired}" if self.unpaired else ""
            found.append(
                f"effects do not add up (p = {self.interaction:.2g}): what a model adds hangs on the other roles' models{still}"
            )
        return tuple(found)

    def __str__(self) -> str:
        """What was learned from what, the verdicts, and a row for each role and model."""
        lines = [f"{_runs(self.runs)}, allocations by {self.by}", *(f"- {one}" for one in (*self.sources, *self.verdicts))]
        for one in self.effects:
            told = one.verdict if one.logit is None else f"{one.logit:+.2f} ({one.low:+.2f} to {one.high:+.2f})"
            lines.append(f"{one.role:>12} {one.model:<24} {told}, {one.runs} runs")
        return "\n".join(lines)


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"


def report_of(
    team: Team,
    models: Sequence[str],
    fitted: AdditiveLogit,
    *,
    interaction: float,
    pairs: bool,
    unpaired: str,
    kinds: Sequence[str],
    drawn: int,
    left_out: Mapping[str, int],
    prior: CardPrior,
) -> FitReport:
    """What a fitted model says, in the team's own names."""
    names = (*models, NONE)
    runs = int(fitted.runs_[0].sum())
    mean = prior.mean[:, : len(models)].mean(axis=1)
    effects = tuple(
        RoleEffect(
            role=team.roles[one.role].name,
            model=names[one.column],
            runs=one.runs,
            logit=one.logit,
            low=one.low,
            high=one.high,
            verdict=one.verdict,
            prior=float(prior.mean[one.role, one.column] - mean[one.role]),
        )
        for one in fitted.effects()
    )
    aliased, seen = fitted.aliased() if runs else {}, fitted.seen_
    return FitReport(
        runs=runs,
        drawn=drawn,
        left_out=dict(left_out),
        effects=effects,
        unidentifiable={team.roles[role].name: why for role, why in aliased.items()},
        enough=fitted.enough,
        interaction=interaction,
        by="pairs" if pairs else "sum" if runs else "cards",
        kinds=tuple(kinds),
        scored=0 if seen.scores is None else int((~np.isnan(seen.scores)).any(axis=1).sum()),
        broken=seen.broken,
        unpaired=unpaired,
    )
