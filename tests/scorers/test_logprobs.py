"""Statistics of log-probabilities, against values computed by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentroute.errors import ConfigError, MissingSignalError
from agentroute.scorers import LogprobScorer
from agentroute.types import Query, Reply, TokenLogprob

QUERY = Query(text="?")


def token(p, *top):
    return TokenLogprob(token="t", logprob=math.log(p), top={str(i): math.log(q) for i, q in enumerate(top)})


TOKENS = (token(0.5, 0.5, 0.25), token(0.8, 0.8, 0.1))


def score(statistic, tokens=TOKENS):
    return LogprobScorer(statistic).score(QUERY, Reply(text="tt", tokens=tokens))


def test_mean_is_the_geometric_mean_probability():
    found = score("mean")
    assert found.value == pytest.approx(math.sqrt(0.5 * 0.8))
    assert found.signals["logprob_mean"] == pytest.approx((math.log(0.5) + math.log(0.8)) / 2)
    assert found.cost == 0.0


def test_min_is_the_least_likely_token():
    assert score("min").value == pytest.approx(0.5)
    assert score("min").signals["logprob_min"] == pytest.approx(math.log(0.5))


def test_margin_is_the_mean_gap_of_the_two_likeliest():
    assert score("margin").value == pytest.approx((0.25 + 0.7) / 2)
    # In any order, and more alternatives change nothing.
    assert score("margin", (token(0.2, 0.05, 0.2, 0.6),)).value == pytest.approx(0.4)


def test_entropy_is_that_of_the_rescaled_alternatives():
    first = -(2 / 3) * math.log(2 / 3) - (1 / 3) * math.log(1 / 3)
    second = -(8 / 9) * math.log(8 / 9) - (1 / 9) * math.log(1 / 9)
    share = (first + second) / 2 / math.log(2)
    assert score("entropy").value == pytest.approx(1 - share)
    assert score("entropy").signals["logprob_entropy"] == pytest.approx(share)
    assert score("entropy", (token(0.3, 0.3, 0.3, 0.3),)).value == pytest.approx(0.0)
    sure = TokenLogprob(token="t", logprob=0.0, top={"a": 0.0, "b": -math.inf})
    assert score("entropy", (sure,)).value == pytest.approx(1.0)


def test_places_may_have_different_numbers_of_alternatives():
    uneven = (token(0.5, 0.5, 0.25), token(0.4, 0.4, 0.4, 0.2))
    assert score("margin", uneven).value == pytest.approx(0.125)
    alone = [1 - score("entropy", (one,)).value for one in uneven]
    assert alone[1] == pytest.approx(-(0.8 * math.log(0.4) + 0.2 * math.log(0.2)) / math.log(3))
    assert score("entropy", uneven).value == pytest.approx(1 - sum(alone) / 2)


def test_the_other_statistics_are_signals():
    signals = score("mean").signals
    assert set(signals) == {f"logprob_mean{end}" for end in ("", ".min", ".q10", ".length", ".margin", ".entropy")}
    low, high = math.log(0.5), math.log(0.8)
    assert signals["logprob_mean.q10"] == pytest.approx(low + 0.1 * (high - low))
    assert signals["logprob_mean.length"] == pytest.approx(math.log(3))
    bare = LogprobScorer(name="sure").score(QUERY, Reply(text="t", tokens=(token(0.5),))).signals
    assert set(bare) == {"sure", "sure.min", "sure.q10", "sure.length"}


@pytest.mark.parametrize("tokens", [None, ()])
def test_no_logprobs_is_a_named_error(tokens):
    with pytest.raises(MissingSignalError) as caught:
        score("mean", tokens)
    assert (caught.value.signal, caught.value.scorer) == ("logprobs", "logprob_mean")


@pytest.mark.parametrize("statistic", ["margin", "entropy"])
@pytest.mark.parametrize("bad", [token(0.5), token(0.5, 0.5)])
def test_no_alternatives_is_another_named_error(statistic, bad):
    with pytest.raises(MissingSignalError) as caught:
        score(statistic, (TOKENS[0], bad))
    assert caught.value.signal == "top_logprobs"


def test_needs_say_so_beforehand():
    assert LogprobScorer("min").needs == {"logprobs"}
    assert LogprobScorer("margin").needs == {"logprobs", "top_logprobs"}
    with pytest.raises(ConfigError, match="unknown statistic 'max'"):
        LogprobScorer("max")


def test_strange_numbers_of_providers_stay_in_range():
    strange = [TokenLogprob(token="t", logprob=value) for value in (-math.inf, math.nan, -9999.0, 1e-7)]
    found = score("mean", tuple(strange))
    assert found.value == pytest.approx(math.exp(-75))
    assert all(math.isfinite(one) for one in found.signals.values())
    above = score("mean", (TokenLogprob(token="t", logprob=0.3),))
    assert (above.value, above.signals["logprob_mean"]) == (1.0, 0.0)


@given(st.lists(st.lists(st.floats(-200, 0.001), min_size=2, max_size=5), min_size=1, max_size=6))
async def test_every_value_is_in_range_and_awaiting_changes_nothing(rows):
    tokens = tuple(TokenLogprob(token="t", logprob=row[0], top=dict(zip("abcde", row, strict=False))) for row in rows)
    reply = Reply(text="x", tokens=tokens)
    for statistic in ("mean", "min", "margin", "entropy"):
        scorer = LogprobScorer(statistic)
        found = scorer.score(QUERY, reply)
        assert 0.0 <= found.value <= 1.0
        assert found == await scorer.ascore(QUERY, reply)
