"""What is known of a model: its card, its price, and what a call used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from agentroute.errors import ConfigError
from agentroute.types._shared import names

__all__ = ["ModelCard", "Price", "Usage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call, as its provider reports them: not checked, because no call may fail for an odd report.

    Attributes:
        input_tokens: All tokens of the prompt, cached ones included.
        output_tokens: All tokens of the answer, reasoning included.
        cache_read_tokens: The part of `input_tokens` that the provider read from its prompt cache.
        cache_write_tokens: The part of `input_tokens` that the provider wrote to its prompt cache.
    """

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        """The tokens of both calls together."""
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model charges, in USD per million tokens.

    Attributes:
        input: USD per million prompt tokens.
        output: USD per million answer tokens.
        cache_read: USD per million prompt tokens read from the cache; `None` = as `input`.
        cache_write: USD per million prompt tokens written to the cache; `None` = as `input`.
        per_call: USD for each call, whatever its length.
        source: Where the figures come from (`"user"`, or a price book's name and version).

    >>> Price(input=2.0, output=8.0).cost(Usage(input_tokens=1_000, output_tokens=500))
    0.006
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    per_call: float = 0.0
    source: str = "user"

    def __post_init__(self) -> None:
        """Refuses negative and non-finite rates: a typing error here would make a model look free."""
        for name in ("input", "output", "cache_read", "cache_write", "per_call"):
            rate = getattr(self, name)
            if rate is not None and not (math.isfinite(rate) and rate >= 0):
                msg = f"price {name}={rate!r}: give USD per million tokens, 0 or more; leave the whole price None when unknown"
                raise ConfigError(msg)

    def cost(self, usage: Usage, /) -> float:
        """USD for one call with this usage.

        A provider may report more cached tokens than tokens: no token is then billed as a plain one, rather than fewer than
        none.
        """
        read = self.input if self.cache_read is None else self.cache_read
        write = self.input if self.cache_write is None else self.cache_write
        plain = max(0, usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens)
        tokens = (
            plain * self.input
            + usage.cache_read_tokens * read
            + usage.cache_write_tokens * write
            + usage.output_tokens * self.output
        )
        return tokens / 1e6 + self.per_call


def _priced(model: str, price: object) -> None:
    if price is not None and not isinstance(price, Price):
        msg = f"model {model!r}: price={price!r} must be a Price, in USD per million tokens: Price(input=..., output=...)"
        raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What is known of a model before it is called.

    Attributes:
        id: The name by which pool, log and decisions know the model.
        price: Its price; `None` = unknown, which is not free.
        context_window: Most tokens of prompt and answer together; `None` = unknown, not checked.
        max_output_tokens: Most tokens of an answer; `None` = unknown, not checked.
        capabilities: What it can do beyond text (`"tools"`, `"structured_output"`, `"image"`, `"audio"`, `"pdf"` …);
            `None` = not declared, not checked; an empty set = nothing of the kind.
        provider: Who serves it.
        tags: Free labels, such as a region or a data class.
        description: One line for people.
        scores: Published scores in [0, 1] by benchmark, such as `{"HumanEval": 0.87}`: what a team knows before its first run.
    """

    id: str
    price: Price | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    capabilities: frozenset[str] | None = None
    provider: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the id, and accepts any iterable of capabilities."""
        if not self.id or not isinstance(self.id, str):
            msg = f"a model needs a non-empty id, not {self.id!r}"
            raise ConfigError(msg)
        _priced(self.id, self.price)
        if self.capabilities is not None:
            object.__setattr__(self, "capabilities", names(self.capabilities, "capabilities"))
        for benchmark, score in self.scores.items():
            if not 0.0 <= score <= 1.0:
                msg = f"model {self.id!r}: the score {score!r} of {benchmark} is outside [0, 1]: 87 % is 0.87"
                raise ConfigError(msg)
        for name in ("context_window", "max_output_tokens"):
            limit = getattr(self, name)
            if limit is not None and limit <= 0:
                msg = f"model {self.id!r}: {name}={limit!r} must be positive, or None when unknown"
                raise ConfigError(msg)
