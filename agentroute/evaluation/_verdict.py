"""From numbers to a verdict: one pure function, documented in `docs/concepts/feasibility.md`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from agentroute.evaluation._diagnosed import Cascade, Verdict, Vote
from agentroute.evaluation._intervals import Interval
from agentroute.evaluation._results import FrontierPoint

__all__ = ["CHOSEN", "ENOUGH", "POINT", "SAVED", "Evidence", "Peer", "alike", "decide", "needed", "wanted"]

ENOUGH = 100
"""Queries below which no verdict but "need more data" is given."""
POINT = 0.01
"""Of quality: what is less does not matter."""
SAVED = 0.10
CASCADE_COST = 0.70
_INDEPENDENT = 0.05
"""Correlation below which models do not fail on the same queries: real logs have 0.15 and more."""
CHOSEN = 2.58
"""Standard errors, 99 %: where the best of several was chosen, and where coins must not pass for models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A cheaper model that may be as good as the best single one.

    Attributes:
        model: Its id.
        behind: Its quality less the best single model's, paired.
        part: Its cost, as a share of the best single model's.
    """

    model: str
    behind: Interval
    part: float

    @property
    def as_good(self) -> bool:
        """Whether it is no more than a point behind, and surely no more than two."""
        return self.behind.value >= -POINT and self.behind.low > -2 * POINT

    @property
    def untold(self) -> bool:
        """Whether these queries do not tell which of the two is better."""
        return self.behind.low <= 0.0 <= self.behind.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a verdict rests on.

    Attributes:
        models: How many there are.
        queries: How many different ones were judged.
        worthwhile: The least gain that is worth the trouble.
        detectable: The smallest gain that this many queries would show.
        gain: Routed choice less best single model.
        thrift: The router where it keeps the best single model's quality for the least money; `None` = costs are unknown.
        peer: The cheapest model that is as good as the best; else the cheapest that is not told apart from it; `None` = neither.
        dear: The dearest model that is not told apart from the best one, where it costs more.
        dependence: Mean correlation of the models' scores within a kind of query.
        predictable: Whether any model's scores are foreseen beyond chance among queries of one kind.
        cascade: With a judge that errs 20 % of the time; `None` = costs are unknown, or no cascade was better than one model.
        vote: The vote of the highest gain, if there can be one.
    """

    models: int
    queries: int
    worthwhile: float
    detectable: float
    gain: Interval
    thrift: FrontierPoint | None
    peer: Peer | None
    dear: Peer | None
    dependence: Interval
    predictable: bool
    cascade: Cascade | None
    vote: Vote | None

    @property
    def too_few(self) -> bool:
        """Whether the verdict hangs on the rule that it takes 100 queries, and not on what would show on them."""
        return self.queries < ENOUGH and (self.gains or self.detectable <= self.worthwhile)

    @property
    def gains(self) -> bool:
        """Whether routing scores more than the best single model, beyond noise."""
        return self.gain.low > 0.0

    @property
    def settles(self) -> str | None:
        """The cheaper model that does what the best one does, if there is one."""
        return self.peer.model if self.peer is not None and self.peer.as_good else None

    @property
    def saves(self) -> bool:
        """Whether routing saves a tenth where a random mix for that money is worse, at no loss worth the name.

        That is a point at most, and within noise or else surely less: on many queries a tenth of a point is beyond noise.
        """
        if self.thrift is None:
            return False
        gain, saving = self.thrift.gain, self.thrift.saving
        kept = gain.value >= -POINT and gain.low >= (-self.worthwhile if gain.high >= 0.0 else -POINT)
        # Beside a cheaper model that is as good, it is that one's cost that has to be saved.
        against = self.peer.part if self.peer is not None and self.peer.as_good else 1.0
        return kept and 1.0 - saving.low <= (1.0 - SAVED) * against and self.thrift.over_mix.low > 0.0

    @property
    def real(self) -> bool:
        """Whether scores are surely more than coin flips: foreseen within a kind, or models fail on the same queries (or apart).

        Surely is at 99 %, for otherwise what votes and cascades gain may be luck: coins gain by them too, on paper.
        """
        error = (self.dependence.high - self.dependence.low) / 3.92
        return self.predictable or self.dependence.value > CHOSEN * error or self.dependence.high < -_INDEPENDENT

    @property
    def noise(self) -> bool:
        """Whether scores surely look like coin flips: of 100 queries or more, nothing foresees them and none go together."""
        if self.real or self.gains or self.queries < ENOUGH:
            return False
        return self.dependence.low <= 0.0 and self.dependence.high < _INDEPENDENT  # NaN, where no two models vary, is none

    @property
    def untold(self) -> bool:
        """Whether these queries do not tell scores from coin flips."""
        return not self.real and not self.noise and math.isfinite(self.dependence.high)

    @property
    def climbs(self) -> bool:
        """Whether a cascade gains quality, or keeps the best single model's at 70 % of its cost.

        A gain is beyond noise, at no more than the cost of the dearest model that is not told apart from the best one, and half
        of what is worthwhile above a random mix of single models for that money. What keeps the quality is above such a mix
        beyond noise. Beside a cheaper model that may be as good, keeping quality is not enough: which of equal models is the
        best one is luck, and a cascade has to beat them all.
        """
        if self.cascade is None or not self.real or not self.cascade.over_mix.low > 0.0:
            return False
        gain, saving, above = self.cascade.gain, self.cascade.saving, self.cascade.over_mix.value
        budget = 1.0 if self.dear is None else self.dear.part
        more = gain.low > 0.0 and above >= self.worthwhile / 2 and 1.0 - saving.value <= budget
        alone = self.peer is None or not (self.peer.as_good or self.peer.untold)
        return more or (alone and gain.low >= -POINT and saving.value >= 1.0 - CASCADE_COST)

    @property
    def outvotes(self) -> bool:
        """Whether a vote gains a point or more, beyond noise."""
        if self.vote is None or not self.real or self.settles:
            return False
        gain = self.vote.gain
        return gain.value >= POINT and gain.value > CHOSEN * (gain.high - gain.low) / 3.92


def decide(evidence: Evidence) -> Verdict:
    """The first that holds.

    1. One model: "single model".
    2. Fewer than 100 queries: "need more data".
    3. Routing gains quality, or saves a tenth at no loss: "route".
    4. Scores look like noise: "single model".
    5. A cascade pays even with a judge that errs 20 % of the time: "cascade".
    6. A cheaper model is as good as the best one: "single model".
    7. A vote gains: "ensemble".
    8. A worthwhile gain would not have shown: "need more data".
    9. "single model".
    """
    if evidence.models == 1:
        return "single model"
    if evidence.queries < ENOUGH:
        return "need more data"
    if evidence.gains or evidence.saves:
        return "route"
    if evidence.noise:
        return "single model"
    if evidence.climbs:
        return "cascade"
    if evidence.settles:
        return "single model"
    if evidence.outvotes:
        return "ensemble"
    return "single model" if evidence.detectable <= evidence.worthwhile else "need more data"


def alike(ahead: Interval, worthwhile: float, *, small: float = POINT) -> bool:
    """Whether what is ahead does as well in practice: within noise or by little, and surely by less than is worthwhile.

    Within noise alone is no evidence: on few queries everything is.
    """
    return (ahead.low <= 0.0 or ahead.value < small) and ahead.high < worthwhile


def wanted(evidence: Evidence, verdict: Verdict) -> int | None:
    """Queries that a verdict would take; `None` = there are enough, or what was found has shown on those that there are."""
    if evidence.models == 1 or verdict in {"route", "cascade", "ensemble"}:
        return None
    return ENOUGH if evidence.gains else needed(evidence.queries, evidence.detectable, evidence.worthwhile)


def needed(queries: int, detectable: float, worthwhile: float) -> int | None:
    """How many queries would show a worthwhile gain: n (detectable / worthwhile)², 100 at least; `None` = there are enough."""
    wanted = max(ENOUGH, math.ceil(queries * (detectable / worthwhile) ** 2 - 1e-9))
    return None if queries >= wanted else wanted
