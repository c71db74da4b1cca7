"""What the words of a diagnosis are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentroute.evaluation._diagnosed import ModelCalibration, Shift, Verdict
from agentroute.evaluation._figures import Figures
from agentroute.evaluation._intervals import Interval
from agentroute.evaluation._results import Evaluation, Frontier, Single
from agentroute.evaluation._shift import Drift
from agentroute.evaluation._units import MINUS
from agentroute.evaluation._verdict import POINT, Evidence

__all__ = ["Told"]

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
        own: Whether the router is the user's, and not the default one.
        kinds: How many kinds of queries there are to look up.
        lookup_by: What a plain table would look up.
        lookup_is_enough: Whether it does as well.
        luck_floor: What guessers would reach; `None` = unknown.
        guessable: What the oracle has of the same questions.
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
    own: bool
    kinds: int
    lookup_by: str
    lookup_is_enough: bool
    luck_floor: float | None
    guessable: float
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

    @property
    def inflated(self) -> bool:
        """Whether luck alone explains what the oracle has above a plain table.

        By repeats where there are any, else by models of the same means that are right at random: those may be a point short,
        for an oracle that is always right cannot rise above luck any more.
        """
        oracle, f = self.evaluation["oracle"].quality, self.figures
        if f.gaps.noise is not None and self.stable_oracle is not None:
            return f.gaps.noise.low > 2 * POINT
        return oracle.value - f.lookup.quality.value >= 5 * POINT and oracle.low <= f.independent + POINT

    @property
    def inside(self) -> str:
        """`within a task `, where there is more than one."""
        return f"within a {_KIND[self.lookup_by].removesuffix(' of like queries')} " if self.kinds > 1 else ""

    @property
    def correlation(self) -> str:
        """`mean correlation 0.01, 0.00 to 0.04`."""
        d = self.evidence.dependence
        low, mid, high = (f"{one:.2f}".replace("-0.00", "0.00").replace("-", MINUS) for one in (d.low, d.value, d.high))
        return f"mean correlation {self.inside}{mid}, {low} to {high}"
