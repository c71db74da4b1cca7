"""What models cost: a user's own price first, then a price book, else unknown (never free)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from importlib import metadata
from typing import Protocol, runtime_checkable

from agentroute.errors import MissingExtraError, PriceUnknownWarning
from agentroute.types import Price

__all__ = ["GenaiPrices", "PriceBook", "StaticPrices", "warn_unknown_prices"]


@runtime_checkable
class PriceBook(Protocol):
    """Looks up list prices."""

    def price(self, model: str, /, *, provider: str | None = None, at: datetime | None = None) -> Price | None:
        """The model's price at a time (now when `None`), or `None` when the book does not know it."""


class StaticPrices:
    """A price book from a mapping of model id to price.

    >>> StaticPrices({"small": Price(input=0.1, output=0.4)}).price("small").output
    0.4
    """

    def __init__(self, prices: Mapping[str, Price], /) -> None:
        self.prices = dict(prices)

    def price(self, model: str, /, *, provider: str | None = None, at: datetime | None = None) -> Price | None:  # noqa: ARG002
        """The mapped price, whatever the provider and the time."""
        return self.prices.get(model)


class GenaiPrices:
    """List prices of the `genai-prices` package (extra `prices`), from the data that it ships: no network.

    Prices that depend on the hour or on the length of the prompt are reduced to the lowest tier's rates at `at`. What a call
    costs without any token, such as the fee of a search, becomes `Price.per_call`.
    """

    def price(self, model: str, /, *, provider: str | None = None, at: datetime | None = None) -> Price | None:
        """The list price in USD per million tokens, or `None` when the package does not know the model.

        Raises:
            MissingExtraError: `genai-prices` is not installed.
        """
        try:
            from genai_prices import Usage as BookUsage
            from genai_prices import calc_price
        except ImportError as error:
            raise MissingExtraError("GenaiPrices", "prices") from error

        def total(**tokens: int) -> Decimal:
            usage = BookUsage(**tokens)
            return calc_price(usage, model_ref=model, provider_id=provider, genai_request_timestamp=at).total_price

        def rate(**tokens: int) -> float:
            # One thousand tokens stay inside the lowest tier of every model that has tiers.
            return float((total(**tokens) - fee) * 1000)

        try:
            fee = total(input_tokens=0, output_tokens=0)
            return Price(
                input=rate(input_tokens=1000),
                output=rate(input_tokens=0, output_tokens=1000),
                cache_read=rate(input_tokens=1000, cache_read_tokens=1000),
                cache_write=rate(input_tokens=1000, cache_write_tokens=1000),
                per_call=float(fee),
                source=f"genai-prices {metadata.version('genai-prices')}",
            )
        except LookupError:
            return None


def warn_unknown_prices(models: list[str], *, stacklevel: int = 3) -> None:
    """Warns once for a list of models that have no price."""
    if models:
        warnings.warn(
            f"no price known for {', '.join(map(repr, models))}: their cost stays unknown (not free) until it is logged; "
            "set ModelCard.price or pass prices=GenaiPrices()",
            PriceUnknownWarning,
            stacklevel=stacklevel,
        )
