"""How a diagnosis writes figures, and its sentence on what chance would do for the same money."""

import math
from types import SimpleNamespace

import pytest

from agentroute.evaluation import FrontierPoint, Interval
from agentroute.evaluation._units import listed, number, percent, points, quality, share, span
from agentroute.evaluation._words import _routing, _thrift

MINUS = "\N{MINUS SIGN}"


def between(value, low, high):
    return Interval(value=value, low=low, high=high)


def test_figures_have_their_ends_in_order():
    apart, unknown = between(0.032, -0.011, 0.053), between(0.032, math.nan, math.nan)
    assert points(apart) == f"+3.2 points ({MINUS}1.1 to +5.3)"
    assert span(between(0.032, 0.011, 0.053)) == "3.2 points (1.1 to 5.3)"
    assert share(between(0.43, 0.38, 0.47)) == "43 % (38 to 47 %)"
    assert share(between(-0.43, -0.47, -0.38)) == f"{MINUS}43 % ({MINUS}47 to {MINUS}38 %)"
    assert quality(between(0.812, 0.79, 0.834)) == "0.812 (0.790 to 0.834)"
    assert [points(unknown), span(unknown), share(unknown), quality(unknown)] == ["+3.2 points", "3.2 points", "3 %", "0.032"]


def test_what_rounds_to_nothing_has_no_sign():
    assert points(between(0.0, -0.0004, 0.0004)) == "0.0 points (0.0 to 0.0)"
    assert [number(-0.0004), number(-0.007)] == ["0.0", f"{MINUS}0.7"]
    assert [percent(-0.004), percent(math.inf)] == ["0 %", "an unknown share"]
    assert [listed(["a"]), listed(["a", "b", "c"])] == ["a", "a, b and c"]


def thrifty(over_mix, saving=0.5):
    point = FrontierPoint(
        willingness_to_pay=0.02,
        quality=between(0.8, 0.78, 0.82),
        cost=between(0.001, 0.0009, 0.0011),
        gain=between(-0.001, -0.008, 0.006),
        saving=between(saving, saving - 0.02, saving + 0.02),
        over_mix=over_mix,
        shares={"small": 1.0},
    )
    return _thrift(SimpleNamespace(evidence=SimpleNamespace(thrift=point), best="large"))


@pytest.mark.parametrize("saving", [0.5, -0.5])
def test_a_random_mix_is_said_to_score_less_only_where_it_surely_does(saving):
    less = "a random mix of single models for that money scores 3.0 points less."
    as_well = "a random mix of single models for that money does as well."
    assert thrifty(between(0.03, 0.01, 0.05), saving).endswith(less)
    assert thrifty(between(0.03, 0.0, 0.06), saving).endswith(as_well)
    assert thrifty(between(0.03, -0.01, 0.07), saving).endswith(as_well)
    assert thrifty(between(-0.03, -0.05, -0.01), saving).endswith(as_well)


def test_a_score_is_not_told_in_double_brackets():
    rows = {
        "routed": SimpleNamespace(shares={"large": 1.0}),
        "best single": SimpleNamespace(quality=between(0.9, 0.818, 0.963)),
    }
    said = _routing(SimpleNamespace(evidence=SimpleNamespace(), best="large", evaluation=rows))
    assert said == (
        "The router found no query worth taking from the best single model: large, which scores 0.900 (0.818 to 0.963)."
    )
