"""The models to choose from, in order: column j of every matrix is model j of the pool."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import overload

from agentroute.errors import ConfigError, DuplicateModelError, NoEligibleModelError, UnknownModelError
from agentroute.prices import PriceBook, warn_unknown_prices
from agentroute.types import ModelCard, Query

__all__ = ["ModelPool"]


class ModelPool(Sequence[ModelCard]):
    """An ordered, immutable set of models.

    Args:
        cards: The models; a plain string stands for a card that knows nothing but its id.
        prices: Fills the prices that the cards leave open, once, now; `None` = leave them open without a warning.

    Raises:
        ConfigError: There is no model at all, or something that is no model.
        DuplicateModelError: Two cards share an id.

    >>> pool = ModelPool(["small", ModelCard(id="large", capabilities={"image"})])
    >>> pool.ids
    ('small', 'large')
    """

    __slots__ = ("_cards", "_index")

    def __init__(self, cards: Iterable[ModelCard | str], *, prices: PriceBook | None = None) -> None:
        if isinstance(cards, (str, ModelCard)):
            msg = f"a pool is made of several models: give [{cards!r}]"
            raise ConfigError(msg)
        made = [ModelCard(id=card) if isinstance(card, str) else card for card in cards]
        for card in made:
            if not isinstance(card, ModelCard):
                msg = f"a pool holds ModelCards and ids, not {type(card).__name__}: give the model's id, or ModelCard(id=...)"  # type: ignore[unreachable]  # not every caller has a type checker
                raise ConfigError(msg)
        if not made:
            msg = "a pool needs at least one model"
            raise ConfigError(msg)
        if prices is not None:
            made = [card if card.price else replace(card, price=prices.price(card.id, provider=card.provider)) for card in made]
            warn_unknown_prices([card.id for card in made if card.price is None])
        self._cards = tuple(made)
        self._index: dict[str, int] = {}
        for position, card in enumerate(self._cards):
            if self._index.setdefault(card.id, position) != position:
                raise DuplicateModelError(card.id)

    @property
    def ids(self) -> tuple[str, ...]:
        """The models' ids, in order."""
        return tuple(self._index)

    def index(self, model: str, /) -> int:  # type: ignore[override]  # by id, which is what every caller has
        """The column of a model.

        Raises:
            UnknownModelError: The pool does not hold it.
        """
        try:
            return self._index[model]
        except KeyError:
            raise UnknownModelError(model, self._index) from None

    def card(self, model: str, /) -> ModelCard:
        """The card of a model, by id."""
        return self._cards[self.index(model)]

    def eligible(self, query: Query, /) -> tuple[int, ...]:
        """Columns of the models that may answer: filters come before any scoring, and never give way to it.

        Raises:
            NoEligibleModelError: None may; its `.reasons` says why for each.
        """
        if not query.needs and query.allow is None and query.input_tokens is None and query.max_output_tokens is None:
            return tuple(range(len(self._cards)))
        refusals = {card.id: refusal(card, query) for card in self._cards}
        columns = tuple(j for j, reason in enumerate(refusals.values()) if reason is None)
        if not columns:
            raise NoEligibleModelError({model: reason or "" for model, reason in refusals.items()})
        return columns

    @overload
    def __getitem__(self, position: int) -> ModelCard: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[ModelCard]: ...
    def __getitem__(self, position: int | slice) -> ModelCard | Sequence[ModelCard]:
        """The card at a column."""
        return self._cards[position]

    def __len__(self) -> int:
        """Number of models."""
        return len(self._cards)

    def __iter__(self) -> Iterator[ModelCard]:
        """The cards, in order."""
        return iter(self._cards)

    def __contains__(self, model: object) -> bool:
        """Whether a model, given by id or card, is in the pool."""
        return (model.id if isinstance(model, ModelCard) else model) in self._index

    def __repr__(self) -> str:
        """The ids."""
        return f"ModelPool({list(self._index)!r})"


def refusal(card: ModelCard, query: Query) -> str | None:
    """Why a model may not answer a query; `None` = it may. What a card does not declare is not checked."""
    if query.allow is not None and card.id not in query.allow:
        return "not in the allow-list"
    if card.capabilities is not None and not query.needs <= card.capabilities:
        return f"cannot do {', '.join(sorted(query.needs - card.capabilities))}"
    output = query.max_output_tokens or 0
    if card.max_output_tokens is not None and output > card.max_output_tokens:
        return f"answers at most {card.max_output_tokens} tokens, {output} wanted"
    if card.context_window is not None and query.input_tokens is not None and query.input_tokens + output > card.context_window:
        return f"its window of {card.context_window} tokens is too small for {query.input_tokens} + {output}"
    return None
