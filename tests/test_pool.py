"""The pool: its order, its prices, and which models may answer a query."""

import warnings

import pytest

from agentroute.errors import ConfigError, DuplicateModelError, NoEligibleModelError, PriceUnknownWarning, UnknownModelError
from agentroute.pool import ModelPool, refusal
from agentroute.prices import StaticPrices
from agentroute.types import ModelCard, Price, Query

CHEAP = Price(input=0.1, output=0.4)
DEAR = Price(input=10.0, output=40.0)


class TestMaking:
    def test_order_and_columns(self):
        card = ModelCard(id="large", price=DEAR)
        pool = ModelPool(["small", card])
        assert pool.ids == ("small", "large")
        assert list(pool) == [ModelCard(id="small"), card]
        assert (len(pool), pool[1], pool[-1], list(pool[:1])) == (2, card, card, [ModelCard(id="small")])
        assert (pool.index("small"), pool.index("large")) == (0, 1)
        assert pool.card("large") is card
        assert repr(pool) == "ModelPool(['small', 'large'])"

    def test_any_iterable_of_models(self):
        assert ModelPool(name for name in "ab").ids == ("a", "b")

    def test_membership(self):
        pool = ModelPool(["a"])
        assert "a" in pool
        assert ModelCard(id="a") in pool
        assert "b" not in pool
        assert 0 not in pool

    @pytest.mark.parametrize("models", ["gpt", ModelCard(id="gpt")])
    def test_one_model_is_no_list_of_models(self, models):
        with pytest.raises(ConfigError, match=r"give \[.*'gpt'"):
            ModelPool(models)

    @pytest.mark.parametrize("model", [1, None, object()])
    def test_something_else(self, model):
        with pytest.raises(ConfigError, match=f"not {type(model).__name__}"):
            ModelPool(["a", model])

    def test_empty(self):
        with pytest.raises(ConfigError, match="at least one model"):
            ModelPool([])

    def test_twice_the_same_id(self):
        with pytest.raises(DuplicateModelError) as caught:
            ModelPool(["a", "b", ModelCard(id="a")])
        assert caught.value.model == "a"

    def test_unknown_model(self):
        pool = ModelPool(["a", "b"])
        for look_up in (pool.index, pool.card):
            with pytest.raises(UnknownModelError) as caught:
                look_up("c")
            assert (caught.value.model, caught.value.known) == ("c", ("a", "b"))


class TestPrices:
    def test_the_book_fills_what_the_cards_leave_open(self):
        book = StaticPrices({"a": CHEAP, "b": CHEAP})
        pool = ModelPool(["a", ModelCard(id="b", price=DEAR)], prices=book)
        assert [card.price for card in pool] == [CHEAP, DEAR]

    def test_the_book_is_told_the_provider(self):
        class Book:
            def price(self, model, /, *, provider=None, at=None):
                return CHEAP if (model, provider, at) == ("a", "acme", None) else None

        assert ModelPool([ModelCard(id="a", provider="acme")], prices=Book()).card("a").price is CHEAP

    def test_what_stays_unknown_is_warned_of(self):
        with pytest.warns(PriceUnknownWarning, match="'b', 'c'") as caught:
            pool = ModelPool(["a", "b", "c"], prices=StaticPrices({"a": CHEAP}))
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert [card.price for card in pool] == [CHEAP, None, None]

    def test_without_a_book_nothing_is_said(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert ModelPool(["a"])[0].price is None
        assert not caught


WINDOW = ModelCard(id="m", context_window=100, max_output_tokens=40)
NOTHING_ELSE = ModelCard(id="m", capabilities=frozenset())
SEEING = ModelCard(id="m", capabilities={"image", "tools"})


@pytest.mark.parametrize(
    ("card", "wanted", "reason"),
    [
        (ModelCard(id="m"), {"needs": {"image"}, "input_tokens": 10**9, "max_output_tokens": 10**9}, None),
        (ModelCard(id="m"), {"allow": {"m", "n"}}, None),
        (ModelCard(id="m"), {"allow": {"n"}}, "not in the allow-list"),
        (ModelCard(id="m"), {"allow": set()}, "not in the allow-list"),
        (NOTHING_ELSE, {}, None),
        (NOTHING_ELSE, {"needs": {"image"}}, "cannot do image"),
        (SEEING, {"needs": {"image"}}, None),
        (SEEING, {"needs": {"pdf", "image", "audio"}}, "cannot do audio, pdf"),
        (WINDOW, {"max_output_tokens": 40}, None),
        (WINDOW, {"max_output_tokens": 41}, "answers at most 40 tokens, 41 wanted"),
        (WINDOW, {"input_tokens": 100}, None),
        (WINDOW, {"input_tokens": 101}, "its window of 100 tokens is too small for 101 + 0"),
        (WINDOW, {"input_tokens": 60, "max_output_tokens": 40}, None),
        (WINDOW, {"input_tokens": 61, "max_output_tokens": 40}, "its window of 100 tokens is too small for 61 + 40"),
        (WINDOW, {"input_tokens": 101, "allow": {"n"}}, "not in the allow-list"),
    ],
)
def test_why_a_model_may_not_answer(card, wanted, reason):
    query = Query(text="q", **wanted)
    assert refusal(card, query) == reason
    pool = ModelPool([card])
    if reason is None:
        assert pool.eligible(query) == (0,)
    else:
        with pytest.raises(NoEligibleModelError) as caught:
            pool.eligible(query)
        assert caught.value.reasons == {"m": reason}


def test_columns_of_those_that_may():
    pool = ModelPool([ModelCard(id="blind", capabilities=()), ModelCard(id="seeing", capabilities={"image"}), "undeclared"])
    assert pool.eligible(Query(text="q")) == (0, 1, 2)
    assert pool.eligible(Query(text="q", needs={"image"})) == (1, 2)
    assert pool.eligible(Query(text="q", needs={"image"}, allow={"blind", "undeclared"})) == (2,)
    with pytest.raises(NoEligibleModelError) as caught:
        pool.eligible(Query(text="q", needs={"image"}, allow={"blind", "a stranger"}))
    assert caught.value.reasons == {
        "blind": "cannot do image",
        "seeing": "not in the allow-list",
        "undeclared": "not in the allow-list",
    }
