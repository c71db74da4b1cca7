"""The candidates' cards, and the most that a call can cost."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentroute.errors import ConfigError, UnknownModelError
from agentroute.pool import ModelPool
from agentroute.serving import cards_of, ceiling, most_in, priced
from agentroute.types import ModelCard, Price, Usage

PRICE = Price(input=1.0, output=2.0)


class TestCards:
    def test_without_any(self):
        pool = cards_of(["b", "a"], None, None, {})
        assert pool.ids == ("b", "a")
        assert pool.card("a") == ModelCard(id="a")

    def test_the_user_s_come_first_then_the_router_s_then_what_the_models_tell(self):
        learned = ModelPool([ModelCard(id="a", price=PRICE, context_window=200, provider="learned"), ModelCard(id="b")])
        found = {
            "a": ModelCard(id="a", context_window=300, max_output_tokens=30, provider="found", price=Price(input=9, output=9))
        }
        pool = cards_of(["a", "b"], {"a": ModelCard(id="a", context_window=100)}, learned, found)
        assert pool.card("a") == ModelCard(id="a", price=PRICE, context_window=100, max_output_tokens=30, provider="learned")
        assert pool.card("b") == ModelCard(id="b")

    def test_an_empty_set_of_capabilities_is_a_word(self):
        found = {"a": ModelCard(id="a", capabilities=("tools",))}
        assert cards_of(["a"], [ModelCard(id="a", capabilities=())], None, found).card("a").capabilities == frozenset()
        assert cards_of(["a"], [ModelCard(id="a")], None, found).card("a").capabilities == {"tools"}

    def test_a_name_is_the_mapping_s_key_or_the_card_s_id(self):
        for cards in (
            {"a": ModelCard(id="gpt", price=PRICE)},
            [ModelCard(id="a", price=PRICE)],
            iter([ModelCard(id="a", price=PRICE)]),
        ):
            pool = cards_of(["a", "b"], cards, None, {})
            assert (pool.ids, pool.card("a").price, pool.card("b").price) == (("a", "b"), PRICE, None)

    def test_tags_and_description_are_kept(self):
        learned = ModelPool([ModelCard(id="a", description="learned", tags={"region": "eu"})])
        assert cards_of(["a"], None, learned, {"a": ModelCard(id="a", provider="p")}).card("a").tags == {"region": "eu"}

    def test_a_card_of_nobody(self):
        with pytest.raises(UnknownModelError, match="unknown model 'c': models= knows 'a', 'b'"):
            cards_of(["a", "b"], [ModelCard(id="c")], None, {})

    def test_a_candidate_that_the_router_does_not_know(self):
        with pytest.raises(UnknownModelError, match="unknown model 'b': the router knows 'a'"):
            cards_of(["a", "b"], None, ModelPool(["a"]), {})

    def test_a_model_of_the_router_that_is_no_candidate(self):
        with pytest.raises(ConfigError, match="the router may choose 'b', 'c': pass models="):
            cards_of(["a"], None, ModelPool(["a", "b", "c"]), {})


class TestCeiling:
    CARD = ModelCard(id="a", price=Price(input=1.0, output=2.0, per_call=0.5), max_output_tokens=100)

    def test_prompt_answer_and_call(self):
        # USD per million tokens: 1000 x 1 + 100 x 2 = 1200 millionths, and half a dollar for the call.
        assert ceiling(self.CARD, input_tokens=1_000, most=None) == pytest.approx(0.0012 + 0.5, abs=1e-12)

    def test_the_caller_s_limit_comes_first(self):
        assert ceiling(self.CARD, input_tokens=0, most=10) == pytest.approx(10 * 2e-6 + 0.5, abs=1e-12)

    @pytest.mark.parametrize(
        ("read", "write", "dearest"), [(0.1, 1.25, 1.25), (None, None, 1.0), (0.1, None, 1.0), (None, 3.0, 3.0)]
    )
    def test_every_token_at_the_dearest_rate(self, read, write, dearest):
        card = ModelCard(id="a", price=Price(input=1.0, output=0.0, cache_read=read, cache_write=write), max_output_tokens=1)
        assert ceiling(card, input_tokens=1_000_000, most=None) == pytest.approx(dearest)

    def test_unknown(self):
        assert ceiling(ModelCard(id="a", max_output_tokens=5), input_tokens=1, most=1) is None
        assert ceiling(ModelCard(id="a", price=PRICE), input_tokens=1, most=None) is None
        assert ceiling(ModelCard(id="a", price=PRICE), input_tokens=1, most=1) is not None

    def test_tokens_are_counted_only_where_it_is_worth_it(self):
        counts = []
        count = lambda: counts.append(1) or 1_000_000  # noqa: E731
        assert ceiling(ModelCard(id="a"), input_tokens=count, most=5) is None
        assert counts == []
        assert ceiling(ModelCard(id="a", price=Price(input=3.0, output=1.0)), input_tokens=count, most=0) == pytest.approx(3.0)

    @given(
        st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1), st.integers(0, 10**5), st.floats(0, 50)
    )
    def test_no_call_costs_more(self, tokens, most, read, write, answer, rate):
        price = Price(input=10.0, output=20.0, cache_read=rate, cache_write=50.0 - rate, per_call=0.1)
        usage = Usage(
            input_tokens=tokens,
            output_tokens=min(answer, most),
            cache_read_tokens=int(tokens * read / 2),
            cache_write_tokens=int(tokens * write / 2),
        )
        assert price.cost(usage) <= ceiling(ModelCard(id="a", price=price), input_tokens=tokens, most=most) * (1 + 1e-12)


class TestPriced:
    def test_by_tokens(self):
        assert priced(Usage(input_tokens=1_000, output_tokens=500), PRICE) == pytest.approx(0.002, abs=1e-12)

    def test_unknown(self):
        assert priced(None, PRICE) is None
        assert priced(Usage(input_tokens=1, output_tokens=1), None) is None

    def test_more_cached_tokens_than_tokens_is_no_figure(self):
        usage = Usage(input_tokens=10, output_tokens=0, cache_read_tokens=6, cache_write_tokens=5)
        assert priced(usage, PRICE) is None
        usage = Usage(input_tokens=10, output_tokens=0, cache_read_tokens=5, cache_write_tokens=5)
        assert math.isfinite(priced(usage, PRICE))


# --- several answers ---


class Client:
    """A client with a setting among its attributes."""

    n = 4


@pytest.mark.parametrize(
    ("limit", "holders", "most"),
    [
        (100, (), None),  # one answer: the card's limit is left to `ceiling`
        (100, ({"n": 1},), None),
        (100, ({"n": 3},), 300),
        (None, ({"n": 3},), None),
        (None, ({"n": 3, "max_tokens": 7},), 21),
        (100, ({"max_tokens": 7}, Client()), 28),
        (100, ({"candidate_count": 2}, Client()), 200),
        (100, (None, {"num_return_sequences": 2}), 200),
        (100, ({"n": True}, {"n": 0}, {"n": "5"}), None),
    ],
)
def test_the_most_tokens_are_those_of_all_answers(limit, holders, most):
    assert most_in(ModelCard(id="m", max_output_tokens=limit), *holders) == most
