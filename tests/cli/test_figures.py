"""Figures for people: they keep their digits, and the sentences say no more than the intervals allow."""

import math
from dataclasses import replace

import numpy as np
import pytest

from agentroute.cli.figures import one_line, replayed, seconds, usd, verdict
from agentroute.evaluation import Evaluation, Interval, Replay, Row
from agentroute.outcomes import OutcomeTable
from agentroute.types import Query


def row(name, quality, cost, gain=(0.0, 0.0, 0.0)):
    def fixed(value):
        return Interval(value=value, low=value, high=value)

    return Row(
        name=name,
        kind="routed",
        gap=fixed(math.nan),
        quality=fixed(quality),
        cost=fixed(cost),
        latency=fixed(1.0),
        gain=Interval(value=gain[0], low=gain[1], high=gain[2]),
        shares={},
    )


def evaluation(rows, table, **more):
    row = np.zeros(len(table), np.int64)
    replay = Replay(table=table, shares={}, best_single=row, cheapest=row, groups=row, fold=row)
    facts = {"queries": 1, "coverage": 1.0, "cheapest": "small", "best_single": "large", **more}
    return Evaluation(rows=rows, replay=replay, **facts)


def said(quality, cost, gain, *, singles=((0.4, 1.0), (0.8, 3.0)), others=()):
    low, high = singles
    rows = (row("cheapest", *low), row("best single", *high), row("routed", quality, cost, gain), row("oracle", 0.9, 1.5))
    means = np.array([low, high, *others])
    table = OutcomeTable(
        queries=(Query(text="?"),),
        models=("small", "large", "third", "fourth")[: len(means)],
        quality=means[:, 0][None],
        cost=means[:, 1][None],
    )
    return verdict(evaluation(rows, table), "routed")


@pytest.mark.parametrize(
    ("quality", "cost", "gain", "says"),
    [
        (0.85, 2.0, (0.05, 0.02, 0.08), "Routing gains on both."),
        (0.85, 3.3, (0.05, 0.02, 0.08), "Routing buys quality."),
        (0.79, 2.0, (-0.01, -0.02, 0.01), "It costs less, and the difference in quality is within noise."),
        (0.79, 2.0, (-0.01, -0.03, 0.01), "It costs less, but may lose up to 0.030 quality"),
        (0.75, 0.7, (-0.05, -0.12, 0.02), "may lose up to 0.120 quality: these queries are too few to call that equal."),
        (0.79, 2.9, (-0.01, -0.03, 0.01), "Routing gains little here"),
        (0.80, 2.999, (0.0, -0.01, 0.01), "Routing gains little here"),
        (0.81, 3.3, (0.01, -0.01, 0.03), "Routing costs 10% more for no more quality: the difference is within noise."),
        (0.79, 3.03, (-0.01, -0.03, 0.01), "Routing costs 1% more for no more quality"),
        (0.80, 3.003, (0.0, 0.0, 0.0), "Routing gains little here"),
        (0.70, 2.0, (-0.1, -0.12, -0.08), "trades quality for money, at $10.00 saved for each right answer lost."),
        (0.76, 2.0, (-0.04, -0.07, 0.0), "trades quality for money, at $25.00 saved"),
        (0.80, 2.0, (0.0, 0.0, 0.0), "within noise"),
        (0.70, 3.3, (-0.1, -0.12, -0.08), "do not route this pool"),
    ],
)
def test_a_verdict_says_what_the_intervals_allow(quality, cost, gain, says):
    sentence = said(quality, cost, gain)
    assert says in sentence
    assert f"{quality:.3f}, that is {gain[0]:+.3f} quality (95 % interval {gain[1]:+.3f} to {gain[2]:+.3f})" in sentence
    assert ("less cost" if cost < 3.0 else "more cost") in sentence


def test_a_verdict_names_the_random_mix_that_costs_the_same():
    # Half of the way from 1 to 3 USD: half of the way from 0.4 to 0.8.
    assert "A random mix of small and large would get 0.600 for the same money." in said(0.7, 2.0, (-0.1, -0.2, 0.0))
    assert "would get 0.600 for the same money, which is more." in said(0.5, 2.0, (-0.3, -0.4, -0.2))
    assert "random mix" not in said(0.8, 3.5, (0.0, -0.1, 0.1))
    assert "random mix" not in said(0.8, 3.0, (0.0, -0.1, 0.1), singles=((0.8, 3.0), (0.8, 3.0)))


def test_the_random_mix_is_the_best_of_all_pairs():
    # A third model at 2 USD: halfway from small to it is 0.575, halfway from it to large 0.775.
    third = [(0.75, 2.0)]
    assert "A random mix of small and third would get 0.575 for the same money." in said(
        0.7, 1.5, (-0.1, -0.2, 0.0), others=third
    )
    assert "A random mix of third and large would get 0.775 for the same money, which" in said(
        0.7, 2.5, (-0.1, -0.2, 0.0), others=third
    )
    # Below the line from small to large, it is in no mix.
    assert "of small and large would get 0.700" in said(0.7, 2.5, (-0.1, -0.2, 0.0), others=[(0.45, 2.0)])
    # The best of all on these queries, and for less: no coin is needed.
    assert "Always third would get 0.900 for no more money, which is more." in said(
        0.7, 2.5, (-0.1, -0.2, 0.0), others=[(0.9, 2.0), (0.5, 2.2)]
    )
    # A model whose costs nobody knows is in no mix.
    assert "of small and large would get 0.700" in said(0.7, 2.5, (-0.1, -0.2, 0.0), others=[(0.9, math.nan)])


def test_how_many_held_out_queries_are_spoken_of():
    table = OutcomeTable(queries=(Query(text="?"),), models=("small", "large"), quality=np.array([[0.4, 0.8]]))
    found = evaluation(
        (row("best single", 0.8, 3.0), row("routed", 0.7, 2.0, (-0.1, -0.2, 0.0))), table, queries=3, coverage=3 / 7
    )
    assert replayed(found) == "replayed on 3 of 7 held-out queries, those that every model answered"
    assert replayed(replace(found, coverage=1.0)) is None
    with pytest.raises(ValueError, match="replayed outcomes"):
        verdict(replace(found, replay=None), "routed")


def test_one_model_is_no_choice():
    table = OutcomeTable(queries=(Query(text="?"),), models=("m",), quality=np.array([[0.8]]), cost=np.array([[1.0]]))
    rows = (row("best single", 0.8, 1.0), row("routed", 0.8, 1.0))
    assert (
        verdict(evaluation(rows, table, cheapest="m", best_single="m"), "routed")
        == "routed: 0.800. m is the only model: there is nothing to choose between."
    )


def test_unknown_costs_are_said_to_be_unknown():
    assert "costs are unknown" in said(0.8, math.nan, (0.0, -0.1, 0.1), singles=((0.4, math.nan), (0.8, math.nan)))


def test_money_keeps_three_digits():
    amounts = {12.3456: "$12.35", 0.5: "$0.500", 0.00001607: "$0.0000161", 0.0: "$0", None: "?", math.inf: "$inf"}
    for amount, text in amounts.items():
        assert usd(amount) == text
    assert usd(math.nan) == "?"


def test_times_and_texts():
    assert (seconds(1.234), seconds(None), seconds(math.nan)) == ("1.23 s", "?", "?")
    assert one_line("a\n b\t c") == "a b c"
    assert one_line("abcdef", 4) == "abc…"
