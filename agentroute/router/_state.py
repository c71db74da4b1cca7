"""What a saved router says of its models and vectors, as JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from agentroute.embedders import Embedder
from agentroute.errors import ConfigError, EmbedderMismatchError
from agentroute.types import Fingerprint, ModelCard, Price

__all__ = ["card_from", "card_state", "check_vectors"]


def card_state(card: ModelCard) -> dict[str, Any]:
    """A card as plain JSON."""
    names = ("id", "context_window", "max_output_tokens", "provider", "description")
    state: dict[str, Any] = {name: getattr(card, name) for name in names}
    state["capabilities"] = None if card.capabilities is None else sorted(card.capabilities)
    state["tags"] = dict(card.tags)
    prices = ("input", "output", "cache_read", "cache_write", "per_call", "source")
    state["price"] = None if card.price is None else {name: getattr(card.price, name) for name in prices}
    return state


def card_from(state: Mapping[str, Any]) -> ModelCard:
    """The card that `card_state` described."""
    price = None if state["price"] is None else Price(**state["price"])
    return ModelCard(**{**state, "price": price})


def check_vectors(wanted: Mapping[str, Any] | None, found: Embedder, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Refuses vectors that are not those of the embedder.

    Raises:
        EmbedderMismatchError: Another embedder made them.
        ConfigError: They are misshapen or not finite.
    """
    if wanted is None:
        return
    expected = Fingerprint(**wanted)
    if expected != found.fingerprint:
        raise EmbedderMismatchError(expected, found.fingerprint)
    vectors = arrays["vectors"]
    if vectors.ndim != 2 or vectors.shape[1] != expected.dimension or vectors.dtype != np.float32:
        raise ConfigError(
            f"its vectors are {vectors.dtype} {list(vectors.shape)}, not float32 of {expected.dimension} dimensions"
        )
    if not np.isfinite(vectors).all():
        raise ConfigError("its vectors are not finite")
