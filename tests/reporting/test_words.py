"""Figures as words: they keep their digits, and names from a log stay names."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentroute.evaluation import Interval
from agentroute.reporting.words import (
    brief,
    counted,
    figure,
    gained,
    isolated,
    noise,
    percent,
    plain,
    points,
    quality,
    seconds,
    short_names,
    span,
    thousand,
    typeset,
    usd,
)


def between(value, low, high):
    return Interval(value=value, low=low, high=high)


def test_figures():
    assert [quality(x) for x in (0.81249, 1.0, math.nan)] == ["0.812", "1.000", "?"]
    assert [points(x) for x in (0.0124, -0.0126, 0.0001, -0.0001, math.nan)] == ["+1.2", "-1.3", "0.0", "0.0", "?"]
    assert [counted(n, "query", "queries") for n in (1, 1840)] == ["1 query", "1,840 queries"]
    assert [counted(n, "model") for n in (0, 1, 2)] == ["0 models", "1 model", "2 models"]
    assert [percent(x) for x in (0.426, -0.124, 0.0, -12.5, 1.0, math.nan)] == ["43 %", "-12 %", "0 %", "-1,250 %", "100 %", "?"]
    # Neither nothing nor all where it is not; no sign before what is no number.
    assert [percent(x) for x in (0.0097, 0.004, -0.004, 0.0004, -0.0004)] == ["1 %", "0.4 %", "-0.4 %", "<0.1 %", "0 %"]
    assert [percent(x) for x in (0.994, 0.996, 0.99949, 0.9996, 1.004)] == ["99 %", "99.6 %", "99.9 %", ">99.9 %", "100 %"]
    assert [usd(x) for x in (1234.5, 0.5, 0.00001607, -0.5, 0.0, None, math.inf)] == (
        ["$1,234.50", "$0.500", "$0.0000161", "-$0.500", "$0", "?", "$inf"]
    )
    assert thousand(0.00012) == "$0.120"
    assert seconds(1.234) == "1.23 s"


def test_a_span_is_both_ends_or_nothing():
    assert span(between(0.8, 0.79, 0.81), quality) == "0.790 to 0.810"
    assert span(between(0.8, math.nan, math.nan), quality) == ""
    # The unit is said once.
    assert span(between(0.29, 0.26, 0.32), percent) == "26 to 32 %"


def test_a_figure_goes_with_its_interval():
    assert figure(between(0.29, 0.26, 0.32), percent) == "29 % (26 to 32 %)"
    assert figure(between(0.29, math.nan, math.nan), percent) == "29 %"
    assert gained(between(0.004, -0.007, 0.017)) == "+0.4 points (-0.7 to +1.7)"
    assert gained(between(0.004, math.nan, math.nan)) == "+0.4 points"


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (0.02, 0.008, 0.032, "better"),
        (0.02, 0.0, 0.04, "within noise"),
        (0.02, -0.01, 0.05, "within noise"),
        (-0.02, -0.05, 0.01, "within noise"),
        (-0.02, -0.05, 0.0, "worse"),
        (-0.02, -0.05, -0.01, "worse"),
        (0.0, 0.0, 0.0, "the same"),
        (math.nan, math.nan, math.nan, ""),
    ],
)
def test_no_more_is_said_than_the_interval_allows(value, low, high, said):
    assert noise(between(value, low, high)) == said


def test_figures_are_typeset_and_names_are_not():
    assert typeset("-0.012 to -$0.50") == "\N{MINUS SIGN}0.012 to \N{MINUS SIGN}$0.50"
    assert typeset("5 % or -0.4 %") == "5\N{NO-BREAK SPACE}% or \N{MINUS SIGN}0.4\N{NO-BREAK SPACE}%"
    assert typeset("gpt-4.1 and x--2") == "gpt-4.1 and x--2"


def test_names_are_made_harmless():
    assert plain("a\n b\t\x1b[31mc\x00d\u2028e") == "a b [31mc d e"
    assert plain("x\u202etxt\u2066") == "xtxt"
    assert plain("نموذج 模型 🦊") == "نموذج 模型 🦊"
    assert plain("half \ud83e of a pair") == "half ? of a pair"


@given(st.lists(st.text(st.characters(codec=None)), max_size=8, unique=True), st.integers(4, 30))
def test_short_names_are_short_and_differ(names, width):
    labels = short_names(names, width)
    assert list(labels) == names
    assert len(set(labels.values())) == len(names)
    assert all(len(label) <= width + len(" #8") for label in labels.values())


def test_short_names_keep_what_tells_them_apart():
    assert short_names(["openai/gpt-4o", "meta/llama"], 20) == {"openai/gpt-4o": "gpt-4o", "meta/llama": "llama"}
    # Two providers of one model keep their providers.
    assert short_names(["a/m", "b/m"], 20) == {"a/m": "a/m", "b/m": "b/m"}
    # What all begin and end with tells nothing apart; a number is one word, and where all fit nothing is cut.
    assert list(short_names(["a-long-family-name-8b", "a-long-family-name-80b"], 12).values()) == ["…8b", "…80b"]
    many = [f"vendor-{n % 2}/some-model-name-{n}b-instruct" for n in range(12)]
    assert list(short_names(many, 14).values()) == [f"…{n}b…" for n in range(12)]
    assert list(short_names(many, 30).values()) == [f"some-model-name-{n}b-instruct" for n in range(12)]
    # Of some only.
    mixed = ["gpt-4o", "llama-3.1-nemotron-51b-instruct", "llama-3.1-nemotron-70b-instruct"]
    assert list(short_names(mixed, 14).values()) == ["gpt-4o", "…51b…", "…70b…"]
    # A name that is the beginning of another keeps a word.
    assert list(short_names(["a-family-name", "a-family-name-large"], 8).values()) == ["…name", "…name-l…"]
    # One word that is too long.
    assert list(short_names(["abcdefghijkl1", "abcdefghijkl2"], 8).values()) == ["abc…jkl1", "abc…jkl2"]
    # Nothing differs any more.
    assert list(short_names(["m\x00", "m "], 9).values()) == ["m", "m #2"]


def test_names_from_right_to_left_stand_alone():
    start, end = "\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}"
    assert isolated("always نموذج, 5 %", ["نموذج", "large"]) == f"always {start}نموذج{end}, 5 %"
    assert isolated("always large (5 %)", ["large"]) == "always large (5 %)"
    # The longer one first; one that is cut in sentences; no pattern.
    assert isolated("نم+", ["نم", "نم+"]) == f"{start}نم+{end}"
    long = "כ" * 50
    assert isolated(f"always {brief(long)}.", [long]) == f"always {start}{long[:39]}…{end}."
