"""The router at each rate in words and figures: what the slider of a page shows, and where it starts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from agentroute.evaluation import Frontier, FrontierPoint, Interval, RoutingDiagnosis
from agentroute.evaluation._verdict import POINT
from agentroute.reporting._tables import rate
from agentroute.reporting.words import (
    brief,
    figure,
    gained,
    isolated,
    noise,
    percent,
    plain,
    points,
    quality,
    span,
    thousand,
    typeset,
)

__all__ = ["mixed", "operating", "sentence", "settled", "start", "steps"]


def settled(diagnosis: RoutingDiagnosis) -> RoutingDiagnosis:
    """The diagnosis with the recommended point among the router's, so that words, slider, chart and table show the same.

    It was chosen out of fold and lies beside the curve; of the same rate it takes the curve's place.
    """
    point, frontier = diagnosis.recommended, diagnosis.frontier
    if point is None or frontier is None:
        return diagnosis
    others = [one for one in frontier.points if one.willingness_to_pay != point.willingness_to_pay]
    curve = sorted([*others, point], key=lambda one: one.willingness_to_pay)
    return replace(diagnosis, frontier=replace(frontier, points=tuple(curve)))


def operating(diagnosis: RoutingDiagnosis) -> int | None:
    """The place of the recommended point on the curve of a settled diagnosis; `None` = no point of it is."""
    frontier, point = diagnosis.frontier, diagnosis.recommended
    return None if frontier is None or point is None else frontier.points.index(point)


def start(diagnosis: RoutingDiagnosis) -> int:
    """Where the slider starts: at the recommended point, else at the one that is nearest to what was judged."""
    frontier, place = diagnosis.frontier, operating(diagnosis)
    if place is not None:
        return place
    routed = [row for row in diagnosis.evaluation.rows if row.kind == "routed"]
    if frontier is None or not routed:
        return 0
    if not (math.isfinite(routed[0].cost.value) and routed[0].cost.value > 0):
        return len(frontier.points) - 1

    def distance(place: int) -> float:
        point = frontier.points[place]
        return abs(point.cost.value / routed[0].cost.value - 1) + abs(point.quality.value - routed[0].quality.value)

    return min(reversed(range(len(frontier.points))), key=distance)


def mixed(frontier: Frontier | None) -> list[str]:
    """The models that answer anything at any willingness to pay, cheapest first."""
    return [] if frontier is None else [plain(model) for model in _used(frontier)]


def _used(frontier: Frontier) -> list[str]:
    cost = {one.model: one.cost.value for one in frontier.singles}
    used = {model for point in frontier.points for model, share in point.shares.items() if share > 0}
    return sorted(used, key=lambda model: (cost.get(model, math.inf), model))


def steps(diagnosis: RoutingDiagnosis) -> list[dict[str, Any]]:
    """Every text that the slider may show, of a settled diagnosis."""
    frontier, best = diagnosis.frontier, operating(diagnosis)
    if frontier is None:
        return []
    used = _used(frontier)
    return [_step(point, used, frontier.best_single, best=place == best) for place, point in enumerate(frontier.points)]


def _step(point: FrontierPoint, models: Iterable[str], single: str, *, best: bool) -> dict[str, Any]:
    figures: Mapping[str, tuple[Interval, Any]] = {
        "quality": (point.quality, quality),
        "cost": (point.cost, thousand),
        "gain": (point.gain, points),
        "saving": (point.saving, percent),
        "mix": (point.over_mix, points),
    }
    texts = {"rate": rate(point.willingness_to_pay), "sentence": isolated(sentence(point, single), [single])}
    for name, (interval, say) in figures.items():
        unit = " points" if say is points and not math.isnan(interval.value) else ""
        texts |= {name: f"{say(interval.value)}{unit}", f"{name}-span": span(interval, say)}
    texts["told"] = f"{texts['rate']}, recommended" if best else texts["rate"]
    shares = [point.shares.get(model, 0.0) for model in models]
    return {
        "texts": {name: typeset(text) for name, text in texts.items()},
        "shares": [[typeset(percent(share)), round(100 * share, 1)] for share in shares],
    }


def sentence(point: FrontierPoint, best: str) -> str:
    """What a point means for one who would else always ask the best single model: no more than its intervals allow."""
    worth = "At any price" if math.isinf(point.willingness_to_pay) else f"At {rate(point.willingness_to_pay)}"
    end = ""
    if point.saving.value > 0 and not point.over_mix.low > 0:
        end = " Dice between single models may do as well for that money."
    return f"{worth} the router {_compared(point.gain, brief(best))}, and {_money(point.saving)}.{end}"


def _compared(gain: Interval, best: str) -> str:
    """By the verdict's constants: as good is what loses a point at most within noise, and surely less than two points.

    The verdict also keeps what is surely worse by less than a point; it is called worse all the same.
    """
    if math.isnan(gain.value):
        return f"cannot be compared with always {best}"
    size, inside = f"{abs(100 * gain.value):.1f} points", f"({span(gain, points)})"
    said = noise(gain)
    if said == "the same":
        return f"is exactly as good as always {best}"
    if said == "better":
        return f"is {size} better than always {best} {inside}"
    if gain.value < -POINT:
        return f"is about {size} worse than always {best} {inside}"
    if said == "worse":
        return f"is worse than always {best}, by less than a point, {gained(gain)}"
    if gain.low > -2 * POINT:
        return f"is as good as always {best}, {gained(gain)}"
    return f"may be worse than always {best}, {gained(gain)}"


def _money(saving: Interval) -> str:
    if math.isnan(saving.value):
        return "its saving is unknown"
    if round(100 * saving.value) == 0:
        return "costs as much"
    if saving.value > 0:
        return f"saves {figure(saving, percent)} of its cost"
    more = Interval(value=-saving.value, low=-saving.high, high=-saving.low)
    return f"costs {figure(more, percent)} more"
