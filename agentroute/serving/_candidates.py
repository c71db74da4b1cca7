"""The candidates behind a routed model: their names, what is known of them, and the most that a call can cost."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

from agentroute.errors import ConfigError, UnknownModelError
from agentroute.pool import ModelPool
from agentroute.serving._told import limit_in
from agentroute.teams import current_session
from agentroute.types import ModelCard, Price, Usage

__all__ = ["Cards", "cards_of", "ceiling", "most_in"]

Cards: TypeAlias = Mapping[str, ModelCard] | Iterable[ModelCard]
"""Cards by name, or cards whose ids are the names."""

# The answers that one call asks for, all of which are billed: by OpenAI's name for it, Google's and Hugging Face's.
_ANSWERS: Final = ("n", "candidate_count", "num_return_sequences")
_OPEN = ("price", "context_window", "max_output_tokens", "capabilities", "provider")


def cards_of(names: Collection[str], cards: Cards | None, learned: ModelPool | None, found: Mapping[str, ModelCard]) -> ModelPool:
    """The candidates' cards: the user's, filled from the router's, filled from what the framework's models tell of themselves.

    Args:
        names: The candidates, in order.
        cards: The user's cards.
        learned: The router's pool; `None` = it has none.
        found: What the models tell of themselves, by name.

    Raises:
        UnknownModelError: A card or a candidate has a name that the other side does not know.
        ConfigError: The router may choose a model that is no candidate.
    """
    given = {card.id: card for card in learned or ()}
    if learned is not None:
        for name in names:
            if name not in given:
                raise UnknownModelError(name, given, where="the router")
        missing = [name for name in given if name not in names]
        if missing:
            raise ConfigError(f"the router may choose {', '.join(map(repr, missing))}: pass models={{{missing[0]!r}: ...}} too")
    explicit = cards.items() if isinstance(cards, Mapping) else ((card.id, card) for card in cards or ())
    for name, card in explicit:
        if name not in names:
            raise UnknownModelError(name, names, where="models=")
        given[name] = _filled(replace(card, id=name), given.get(name))
    return ModelPool(_filled(given.get(name) or ModelCard(id=name), found.get(name)) for name in names)


def _filled(card: ModelCard, other: ModelCard | None) -> ModelCard:
    """The card, with what it leaves open taken from another one. What neither tells stays unknown, so unchecked."""
    if other is None:
        return card
    return replace(card, **{name: getattr(other, name) for name in _OPEN if getattr(card, name) is None})


def ceiling(card: ModelCard, *, input_tokens: int | Callable[[], int], most: int | None) -> float | None:
    """The most USD that a call can cost, by which a limit on the cost of a query is kept.

    Args:
        card: The model's.
        input_tokens: Tokens of the prompt, or what counts them where that is worth it; each counts at the dearest rate that the
            model has for prompts, cached or not.
        most: Tokens that the answer may take; `None` = what the card says.

    Returns:
        USD; `None` = unknown, for want of a price or of a limit of the answer.
    """
    most = card.max_output_tokens if most is None else most
    if card.price is None or most is None:
        return None
    rates = (card.price.input, card.price.cache_read, card.price.cache_write)
    dearest = Price(input=max(rate for rate in rates if rate is not None), output=card.price.output, per_call=card.price.per_call)
    tokens = input_tokens() if callable(input_tokens) else input_tokens
    return dearest.cost(Usage(input_tokens=tokens, output_tokens=most))


def most_in(card: ModelCard, *holders: Any) -> int | None:
    """The most tokens that a call may be given: the limit of an answer, times the answers that it asks for.

    Args:
        card: The model's, for a limit where nobody sets one; else that of the team around it.
        *holders: Arguments of a call, or a client with such settings among its attributes; the first that sets one counts.

    Returns:
        Tokens; `None` = nobody sets a limit. For one answer the card's is left to `ceiling`.
    """
    limit, answers = limit_in(*holders), _answers(holders)
    if answers == 1:
        return limit
    if limit is None:
        session = current_session()
        team = None if session is None else session.card(card.id)
        limit = card.max_output_tokens or (None if team is None else team.max_output_tokens)
    return None if limit is None else limit * answers


def _answers(holders: Iterable[Any]) -> int:
    """How many answers a call asks for; 1 = nobody says."""
    told = (
        holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)
        for holder in holders
        for name in _ANSWERS
    )
    return next((count for count in told if isinstance(count, int) and not isinstance(count, bool) and count > 0), 1)
