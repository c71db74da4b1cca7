"""How many tokens a text is taken for: by hand, in thirds of a token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentroute.serving._bounds import tokens_at_most


@pytest.mark.parametrize(
    ("text", "thirds"),
    [
        ("", 0),
        ("\ud800", 9),  # half of a pair, which no encoding has: three bytes
        ("the", 3 + 1 + 1),  # a word begins, and goes on with common pairs
        ("the plan", 5 + 3 + 3),  # a space is the beginning of its word
        ("the planner", 5 + 3 + 5 + 3),  # no common pair: nn
        ("xqzj", 4 * 3),  # pairs that no word has
        ("THE", 3 * 3),
        ("getName", 5 + 3 * 3 + 1),  # a capital begins anew, and what follows it
        ("a b c", 3 * 3),
        ("a  b", 3 + 1 + 2 + 2),
        ("a\tb\nc", 5 * 3),
        ("a\n\n\nb", 3 + 3 + 1 + 1 + 3),
        ("a\n  b", 3 + 3 + 3 + 2 + 2),
        ("1 2", 3 * 3),
        ("12345", 5 * 3),
        ("f(x)", 4 * 3),
        ("aéa", 4 * 3),
        ("你好", 6 * 3),
        ("\n 1", 3 * 3),  # no more than its bytes
    ],
)
def test_lengths_by_hand(text, thirds):
    assert tokens_at_most(text) == -(-thirds // 3)


@given(st.text(), st.text())
def test_a_token_has_a_byte_at_least_and_two_texts_are_no_longer_than_their_parts(one, other):
    assert -(-len(one) // 3) <= tokens_at_most(one) <= len(one.encode())
    # Where they meet, two bytes that would each begin a token may be one, or a digit parts from its space.
    assert tokens_at_most(one + other) <= tokens_at_most(one) + tokens_at_most(other) + 1


def test_more_text_is_no_shorter():
    text = "The planner breaks 17 requests down,\n    and the solver_2 writes what\tthe plan says: 你好.  "
    lengths = [tokens_at_most(text[:place]) for place in range(len(text) + 1)]
    assert lengths == sorted(lengths)
