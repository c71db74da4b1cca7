"""Price books, and what they say of fees and of models that they do not know."""

import sys
import warnings
from datetime import UTC, datetime

import pytest

from agentroute.errors import MissingExtraError, PriceUnknownWarning
from agentroute.prices import GenaiPrices, PriceBook, StaticPrices, warn_unknown_prices
from agentroute.types import Price, Usage

SMALL = Price(input=0.1, output=0.4)


class TestStaticPrices:
    def test_looks_up_by_id_whatever_provider_and_time(self):
        book = StaticPrices({"small": SMALL})
        assert book.price("small") is SMALL
        assert book.price("small", provider="x", at=datetime(2020, 1, 1, tzinfo=UTC)) is SMALL
        assert book.price("large") is None
        assert isinstance(book, PriceBook)

    def test_later_changes_of_the_mapping_do_not_count(self):
        prices = {"small": SMALL}
        book = StaticPrices(prices)
        prices.clear()
        assert book.price("small") is SMALL


class TestGenaiPrices:
    @pytest.fixture
    def book(self):
        pytest.importorskip("genai_prices")
        return GenaiPrices()

    def test_rates_per_million_tokens(self, book):
        found = book.price("gpt-4o", provider="openai")
        assert (found.input, found.output, found.cache_read, found.per_call) == (2.5, 10.0, 1.25, 0.0)
        assert found.source.startswith("genai-prices ")
        assert isinstance(book, PriceBook)

    def test_writing_a_cache_may_cost_more_than_reading_a_prompt(self, book):
        found = book.price("claude-sonnet-4-5", provider="anthropic")
        assert (found.input, found.cache_write) == (3.0, 3.75)

    def test_a_fee_for_each_call_is_not_spread_over_tokens(self, book):
        found = book.price("sonar", provider="perplexity")
        assert (found.input, found.output, found.per_call) == (1.0, 1.0, 0.012)

    @pytest.mark.parametrize(("model", "provider"), [("sonar-pro", "perplexity"), ("gpt-4o-mini", "openai")])
    @pytest.mark.parametrize("tokens", [(0, 0), (10, 3), (7_000, 900)])
    def test_agrees_with_the_package(self, book, model, provider, tokens):
        genai_prices = pytest.importorskip("genai_prices")
        usage = genai_prices.Usage(input_tokens=tokens[0], output_tokens=tokens[1])
        expected = float(genai_prices.calc_price(usage, model_ref=model, provider_id=provider).total_price)
        found = book.price(model, provider=provider).cost(Usage(input_tokens=tokens[0], output_tokens=tokens[1]))
        assert found == pytest.approx(expected, rel=1e-12, abs=0)

    def test_an_unknown_model_has_no_price(self, book):
        assert book.price("no-such-model-anywhere") is None
        assert book.price("gpt-4o", provider="no-such-provider") is None

    def test_the_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "genai_prices", None)
        with pytest.raises(MissingExtraError, match=r"GenaiPrices needs .*agentroute-sdk\[prices\]"):
            GenaiPrices().price("gpt-4o")


def test_models_without_a_price_are_warned_of_once():
    with pytest.warns(PriceUnknownWarning, match="no price known for 'a', 'b': their cost stays unknown") as caught:
        warn_unknown_prices(["a", "b"], stacklevel=2)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_nothing_to_warn_of():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_unknown_prices([])
    assert not caught
