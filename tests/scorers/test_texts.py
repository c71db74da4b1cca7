from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentroute.cascades import same_answer
from agentroute.scorers import SelfConsistency
from agentroute.scorers._texts import last_number, said
from agentroute.types import Query, Reply


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", None),
        ("none", None),
        ("48 + 37 = 85.", 85),
        ("x-2", 2),  # the hyphen joins
        ("pages 3-5", 5),
        ("x = -2", -2),
        ("it is +5", 5),
        ("1,036.5 or so", 1036.5),
        ("12,345,678", 12_345_678),
        ("10,00,000 rupees", 1_000_000),
        ("1,2,3", 3),  # commas that group nothing part numbers
        ("-1,2", 2),
        ("10,20.5", 20.5),
        ("1, 2", 2),
        ("1,2345", 2345),
        ("9" * 400, float("inf")),
    ],
)
def test_the_last_number(text, number):
    assert last_number(text) == number


@given(st.integers(-(10**12), 10**12), st.text(alphabet="ab .\n"))
def test_digits_may_be_grouped(value, words):
    assert last_number(f"{words} {value:,}{words}") == value


@given(st.lists(st.sampled_from("0123456789,.-+ a"), max_size=30).map("".join))
def test_whatever_is_found_is_a_number_of_the_text(text):
    found = last_number(text)
    assert (found is None) is not any(map(str.isdigit, text))


@given(st.text(max_size=20), st.text(max_size=20))
def test_to_say_the_same_is_mutual_and_an_answer_says_what_it_says(one, other):
    assert same_answer(one, one)
    assert same_answer(one, other) is same_answer(other, one) is said(other).like(said(one))


@pytest.mark.parametrize(
    ("one", "other", "same"), [("1,2,3", "1,2,13", False), ("1,00,000", "5,00,000", False), ("-0", "0", True)]
)
def test_a_model_that_asks_itself_and_a_cascade_read_the_same_numbers(one, other, same):
    assert same_answer(one, other) is same
    again = SelfConsistency(lambda prompt: other, k=1, same="number")
    assert (again.score(Query(text="?"), Reply(text=one)).value == 1.0) is same
