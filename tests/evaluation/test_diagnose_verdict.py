"""The rules of the verdict, on evidence made up for each."""

import pytest

from agentroute.evaluation._diagnosed import Cascade, Vote
from agentroute.evaluation._intervals import Interval
from agentroute.evaluation._results import FrontierPoint
from agentroute.evaluation._verdict import Evidence, Peer, alike, decide, needed, wanted


def at(value, half=0.0):
    return Interval(value=value, low=value - half, high=value + half)


def evidence(**changes):
    facts = {
        "models": 3,
        "queries": 1000,
        "worthwhile": 0.05,
        "detectable": 0.03,
        "gain": at(0.0, 0.01),
        "thrift": None,
        "peer": None,
        "dear": None,
        "dependence": at(0.3, 0.05),
        "predictable": True,
        "cascade": None,
        "vote": None,
    }
    return Evidence(**(facts | changes))


def cascade(gain, saving, over_mix=None):
    over_mix = over_mix or at(gain.value + 0.02, 0.01)
    return Cascade(models=("a", "b"), judge_error=0.2, quality=at(0.7), cost=at(1.0), gain=gain, saving=saving, over_mix=over_mix)


def thrift(gain, saving, over_mix=None):
    over_mix = over_mix or at(0.03, 0.01)
    return FrontierPoint(
        willingness_to_pay=1.0, quality=at(0.7), cost=at(1.0), gain=gain, saving=saving, over_mix=over_mix, shares={}
    )


def peer(behind, part=0.5):
    return Peer(model="b", behind=behind, part=part)


def vote(gain):
    return Vote(models=("a", "b", "c"), weighted=False, quality=at(0.7), cost=at(3.0), gain=gain)


COIN = {"dependence": at(0.0, 0.03), "predictable": False}
UNTOLD = {"dependence": at(0.04, 0.05), "predictable": False}
CHEAP = cascade(at(0.0, 0.005), at(0.4, 0.01))
SAVES = thrift(at(-0.002, 0.01), at(0.4, 0.05))


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "single model"),
        ({"models": 1, "queries": 20}, "single model"),
        ({"queries": 99, "gain": at(0.2, 0.01)}, "need more data"),
        ({"detectable": 0.06}, "need more data"),
        ({"gain": at(0.02, 0.01)}, "route"),
        ({"gain": at(0.02, 0.01), "detectable": 0.06}, "route"),
        ({"gain": at(0.02, 0.03)}, "single model"),
        ({"thrift": SAVES}, "route"),
        ({"thrift": thrift(at(-0.002, 0.01), at(0.4, 0.05), at(0.01, 0.02))}, "single model"),
        ({"thrift": thrift(at(-0.03, 0.01), at(0.4, 0.05))}, "single model"),
        ({"thrift": thrift(at(-0.003, 0.001), at(0.4, 0.05))}, "route"),
        ({"thrift": thrift(at(0.0, 0.06), at(0.4, 0.05))}, "single model"),
        ({"thrift": thrift(at(0.0, 0.01), at(0.12, 0.05))}, "single model"),
        ({"cascade": CHEAP}, "cascade"),
        ({"cascade": CHEAP, "gain": at(0.02, 0.01)}, "route"),
        ({"cascade": CHEAP} | COIN, "single model"),
        ({"cascade": CHEAP} | COIN | {"predictable": True}, "cascade"),
        ({"cascade": CHEAP} | COIN | {"dependence": at(0.2, 0.05)}, "cascade"),
        ({"cascade": cascade(at(0.0, 0.02), at(0.4, 0.01))}, "single model"),
        ({"cascade": cascade(at(0.0, 0.005), at(0.2, 0.01))}, "single model"),
        ({"cascade": cascade(at(0.04, 0.02), at(0.05, 0.01))}, "cascade"),
        ({"cascade": cascade(at(0.04, 0.02), at(-0.05, 0.01))}, "single model"),
        # Of equal models the cheap one may be the best by luck, or the dear one: the cascade is the same.
        ({"cascade": cascade(at(0.06, 0.02), at(-40.0, 1.0)), "dear": peer(at(0.0, 0.02), 100.0)}, "cascade"),
        ({"cascade": cascade(at(0.06, 0.02), at(-140.0, 1.0)), "dear": peer(at(0.0, 0.02), 100.0)}, "single model"),
        ({"cascade": cascade(at(0.06, 0.02), at(0.6, 0.1), at(0.06, 0.02)), "peer": peer(at(0.0, 0.02), 0.01)}, "cascade"),
        ({"cascade": cascade(at(0.06, 0.02), at(0.6, 0.1), at(0.06, 0.02)), "peer": peer(at(0.0, 0.01), 0.01)}, "cascade"),
        ({"cascade": cascade(at(0.06, 0.02), at(0.2, 0.1), at(-0.01, 0.02))}, "single model"),
        ({"cascade": cascade(at(0.02, 0.01), at(0.2, 0.1), at(0.03, 0.01))}, "cascade"),
        ({"cascade": cascade(at(0.02, 0.01), at(0.2, 0.1), at(0.024, 0.01))}, "single model"),
        ({"cascade": cascade(at(0.0, 0.005), at(0.4, 0.01), at(0.003, 0.005))}, "single model"),
        ({"cascade": CHEAP, "peer": peer(at(-0.005, 0.01))}, "single model"),
        ({"cascade": CHEAP, "peer": peer(at(-0.005, 0.02))}, "single model"),
        ({"cascade": CHEAP, "peer": peer(at(-0.012, 0.005))}, "cascade"),
        ({"cascade": CHEAP} | UNTOLD, "single model"),
        ({"cascade": CHEAP, "detectable": 0.06} | UNTOLD, "need more data"),
        ({"vote": vote(at(0.03, 0.01))} | UNTOLD, "single model"),
        ({"cascade": CHEAP} | UNTOLD | {"dependence": at(-0.08, 0.02)}, "cascade"),
        ({"vote": vote(at(0.03, 0.01)), "peer": peer(at(0.0, 0.01))}, "single model"),
        ({"gain": at(0.02, 0.01), "peer": peer(at(0.0, 0.01))}, "route"),
        ({"thrift": SAVES, "peer": peer(at(0.0, 0.01))}, "single model"),
        ({"thrift": SAVES, "peer": peer(at(0.0, 0.01), 0.8)}, "route"),
        ({"detectable": 0.06} | COIN, "single model"),
        ({"vote": vote(at(0.03, 0.01))}, "ensemble"),
        ({"vote": vote(at(0.03, 0.01)), "cascade": CHEAP}, "cascade"),
        ({"vote": vote(at(0.03, 0.01)), "detectable": 0.06}, "ensemble"),
        ({"vote": vote(at(0.03, 0.01))} | COIN, "single model"),
        ({"vote": vote(at(0.005, 0.001))}, "single model"),
        ({"vote": vote(at(0.03, 0.029))}, "single model"),
        (COIN | {"dependence": at(float("nan"), float("nan"))}, "single model"),
    ],
)
def test_the_verdict_follows_its_rules(changes, verdict):
    assert decide(evidence(**changes)) == verdict


def test_no_cascade_and_no_vote_is_spoken_of_where_luck_or_a_cheaper_model_explains_it():
    facts = {"cascade": CHEAP, "vote": vote(at(0.03, 0.01))}
    assert evidence(**facts).climbs
    assert evidence(**facts).outvotes
    for changes in (UNTOLD, COIN, {"peer": peer(at(0.0, 0.01))}):
        assert not evidence(**facts, **changes).climbs
        assert not evidence(**facts, **changes).outvotes


@pytest.mark.parametrize(
    ("dependence", "states"),
    [
        (at(0.01, 0.03), (False, True, False)),
        (at(0.02, 0.04), (False, False, True)),
        (at(-0.01, 0.1), (False, False, True)),
        (at(0.03, 0.029), (False, False, True)),
        (at(0.03, 0.022), (True, False, False)),
        (at(0.02, 0.019), (False, False, True)),
        (at(-0.02, 0.01), (False, True, False)),
        (at(-0.1, 0.04), (True, False, False)),
        (at(float("nan"), float("nan")), (False, False, False)),
    ],
)
def test_scores_are_real_or_noise_or_cannot_be_told(dependence, states):
    found = evidence(dependence=dependence, predictable=False)
    assert (found.real, found.noise, found.untold) == states
    assert evidence(dependence=dependence, predictable=True).real
    assert not evidence(dependence=dependence, predictable=False, queries=99).noise
    assert not evidence(dependence=dependence, predictable=False, gain=at(0.02, 0.01)).noise


def test_a_table_does_as_well_only_where_that_is_shown():
    assert alike(at(0.0, 0.04), 0.05)
    assert alike(at(0.009, 0.005), 0.05)  # ahead beyond noise, but by less than a point
    assert not alike(at(0.011, 0.005), 0.05)
    assert not alike(at(0.0, 0.06), 0.05)  # within noise, for want of queries
    assert alike(at(0.011, 0.005), 0.05, small=0.03)


def test_queries_are_wanted_only_where_the_verdict_lacks_them():
    few = evidence(detectable=0.06)
    assert wanted(few, "need more data") == 1440
    assert wanted(few, "single model") == 1440
    assert [wanted(few, verdict) for verdict in ("route", "cascade", "ensemble")] == [None] * 3
    assert wanted(evidence(models=1, detectable=0.06), "single model") is None
    shown = evidence(queries=60, gain=at(0.4, 0.1), detectable=0.09)
    assert (decide(shown), wanted(shown, "need more data"), shown.too_few) == ("need more data", 100, True)
    assert evidence(queries=60, detectable=0.04).too_few
    assert not evidence(queries=60, detectable=0.06).too_few
    assert not few.too_few


def test_the_queries_needed_grow_with_the_square():
    assert needed(400, 0.1, 0.05) == 1600
    assert needed(60, 0.01, 0.05) == 100
    assert needed(400, 0.05, 0.05) is None
    assert needed(100, 0.0, 0.05) is None
