"""What a team costs: tokens and USD of every role with every model, in every mode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, PriceUnknownError, UnknownModelError
from agentroute.teams._spending import Spending, rates_of, shrunk, spending, sums, take
from agentroute.teams._values import NONE, Mode, Team, TeamRun
from agentroute.types import ModelCard, Price

__all__ = ["CostModel", "RoleCost"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_SHRINK: Final = 5.0
_SHARE: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleCost:
    """What one role is expected to take in a run.

    Attributes:
        input_tokens: Of all its calls' prompts, with what it reads of the others.
        output_tokens: Of all its calls' answers.
        calls: Calls of its model.
        cost: USD; NaN when the price is unknown.
    """

    input_tokens: float
    output_tokens: float
    calls: float
    cost: float


class CostModel:
    """Expected tokens and USD of a team's runs: from its specification at first, from its runs as they come.

    In one round a role calls its model `calls` times, and `reviews` more times for each of them. A call's prompt has the
    role's own tokens, the mode's `extra_tokens`, and the answers that it reads: in each round those that `growth` names, and
    from the second round on also what all said in the round before, its own answer included; a review reads the same once
    more, and its own answer. A role that calls its model several times is read once, by its last answer.

    So what a role costs depends on the models of the roles that it reads. `exact` counts that. `matrix` has one cost
    for each role and model alone, as a knapsack needs it: each role that is read is taken to say as much as its most verbose
    admissible model. That is an upper estimate: when the sum of `matrix` over an allocation keeps to a budget, so does its
    expected cost.

    Columns are the models in the order of `cards`, then `NONE`.

    Args:
        team: Its roles and modes.
        cards: The models.
        shrinkage: Runs of one role with one model that the specification counts for.

    Attributes:
        output_: float64 [k, m], tokens of one answer.
        input_: float64 [k, m], tokens of one prompt without what it reads of others and what the mode adds.
        calls_: float64 [k, m], calls in a round, reviews not counted.
        ratio_: float64 [k, m], what was billed over price x tokens: less than 1 where a provider's cache serves.
        scale_: float64 [modes], what whole runs cost over the sum of their roles as predicted.
        spread_: float64 [k, m], standard deviation of what a role costs in a run, over its mean.
        gamma_: Of these standard deviations, summed over the roles, how many 95 % of runs stay below; `None` = too few runs.
        runs_: int64 [k, m], runs that told of each role with each model.

    Raises:
        ConfigError: There are no models, two share an id, or one is called `NONE`; `shrinkage` is not positive.
    """

    def __init__(self, team: Team, cards: Iterable[ModelCard], *, shrinkage: float = _SHRINK) -> None:
        self.team = team
        self.cards = tuple(cards)
        self.shrinkage = shrinkage
        self.models = tuple(card.id for card in self.cards)
        if not self.models or len(set(self.models)) < len(self.models) or NONE in self.models:
            raise ConfigError(
                f"a team needs models of different names, none of them {NONE!r}: {', '.join(self.models) or 'none'}"
            )
        if not shrinkage > 0.0:
            raise ConfigError(f"shrinkage={shrinkage!r} must be a positive number of runs")
        self._modes = {mode.name: place for place, mode in enumerate(team.modes)}
        self._forget()

    def _forget(self) -> None:
        """What is expected before any run."""
        roles, count = self.team.roles, len(self.models)
        self.output_ = np.repeat([[role.output_tokens] for role in roles], count, axis=1)
        self.input_ = np.repeat([[role.input_tokens] for role in roles], count, axis=1)
        self.calls_ = np.repeat([[role.calls] for role in roles], count, axis=1)
        self.ratio_ = np.ones((len(roles), count))
        self.scale_ = np.ones(len(self.team.modes))
        self.spread_ = np.zeros((len(roles), count))
        self.gamma_: float | None = None
        self.runs_ = np.zeros((len(roles), count), np.int64)
        self.prices_: tuple[Price | None, ...] = tuple(card.price for card in self.cards)

    def fit(self, runs: Iterable[TeamRun]) -> Self:
        """Learns tokens, calls and costs from runs, all at once; what was learned before is forgotten.

        Each mean is drawn towards what the role and the model lead one to expect, the specification at first, as if that had been
        seen `shrinkage` times. A model without a price gets what its calls were billed: USD a token, or a call where no
        tokens are known. Roles that ended in an error, or that another model answered for, and modes and models that the
        team does not know tell nothing.
        """
        self._forget()
        seen = spending(self.team, self.models, runs)
        roles, modes, count = self.team.roles, self.team.modes, len(self.models)
        if not len(seen.mode):
            return self
        with np.errstate(invalid="ignore"):
            answer, prompt = seen.output / seen.calls, seen.input / seen.calls
        in_a_round = seen.calls / np.array([mode.rounds * (1 + mode.reviews) for mode in modes])[seen.mode][:, None]
        strength, column = self.shrinkage, seen.column
        self.runs_ = sums(answer, column, count)[1].astype(np.int64)
        self.output_ = shrunk(answer, column, [role.output_tokens for role in roles], count, strength)
        self.calls_ = shrunk(in_a_round, column, [role.calls for role in roles], count, strength)
        said = np.where(np.isnan(answer), take(self.output_, column), answer)
        said = np.where(np.isnan(said), self.output_.mean(axis=1), said)
        said[column == count] = 0.0
        own = np.full_like(prompt, np.nan)
        for place, mode in enumerate(modes):
            rows = seen.mode == place
            read = _read(mode, said[rows], *_heard(mode, said[rows], column[rows] != count))
            own[rows] = np.maximum(prompt[rows] - read - mode.extra_tokens, 0.0)
        self.input_ = shrunk(own, column, [role.input_tokens for role in roles], count, strength)
        self._learn_prices(seen)
        return self

    def _learn_prices(self, seen: Spending) -> None:
        """What tokens were billed, and how far whole runs stray from their mean."""
        column, strength = seen.column, self.shrinkage
        self.prices_ = tuple(card.price or seen.price_of(j) for j, card in enumerate(self.cards))
        billed, listed = seen.billed(self.prices_), seen.listed(self.prices_)
        # Where no tokens are known, they are taken to be as expected.
        listed = np.where(np.isnan(listed), self._roles(seen.mode, column), listed)
        both = ~np.isnan(billed) & ~np.isnan(listed)
        paid, count = sums(np.where(both, billed, np.nan), column, len(self.models))
        due, _ = sums(np.where(both, listed, np.nan), column, len(self.models))
        more = np.divide(due * strength, count, out=np.zeros_like(due), where=count > 0.0)
        self.ratio_ = np.divide(paid + more, due + more, out=np.ones_like(due), where=due > 0.0)
        total = self._roles(seen.mode, column).sum(axis=1)
        actual = np.where(np.isnan(seen.total), billed.sum(axis=1), seen.total)
        known = ~np.isnan(actual) & (total > 0.0)
        for place in range(len(self.scale_)):
            some = known & (seen.mode == place)
            if some.any():
                mean = strength * float(total[some].mean())
                self.scale_[place] = (actual[some].sum() + mean) / (total[some].sum() + mean)
        self._learn_spread(seen, billed, actual, known)

    def _learn_spread(self, seen: Spending, billed: Floats, actual: Floats, known: Flags) -> None:
        expected = self._roles(seen.mode, seen.column)
        total = expected.sum(axis=1)
        if not known.any():
            return
        with np.errstate(divide="ignore", invalid="ignore"):
            strays = np.where(expected > 0.0, (billed / expected - 1.0) ** 2, np.nan)
            whole = float(((actual[known] / total[known] - 1.0) ** 2).mean())
        squares, count = sums(strays, seen.column, len(self.models))
        pooled = float(squares.sum() / count.sum()) if count.any() else whole
        self.spread_ = np.sqrt((squares + self.shrinkage * pooled) / (count + self.shrinkage))
        wide = (expected * take(self.spread_, seen.column)).sum(axis=1)[known]
        away = np.divide(actual[known] - total[known], wide, out=np.zeros(len(wide)), where=wide > 0.0)
        # The rank that a further run stays below with 95 %, whatever the distribution (split conformal prediction).
        rank = int(np.ceil(_SHARE * (len(away) + 1)))
        self.gamma_ = None if rank > len(away) else max(0.0, float(np.sort(away)[rank - 1]))

    def matrix(
        self,
        mode: str,
        allowed: Flags | None = None,
        *,
        reads: Literal["most", "least"] = "most",
        upper: bool = False,
        strict: bool = True,
    ) -> Floats:
        """USD of each role with each model in a run, whatever models the others have: float64 [k, m + 1].

        Args:
            mode: By name.
            allowed: bool [k, m + 1], which models the others may have, and whether they may be left out; `None` = as their
                `model`, `allow` and `optional` say.
            reads: `"most"`: what is read of others is the most that it can be, so that the true mean is never above;
                `"least"`: the least, so that it is never below.
            upper: What 95 % of runs stay below, summed over the roles, where runs tell it; else the mean.
            strict: Whether an unknown price of an allowed model is an error; else it is NaN.

        Raises:
            ConfigError: The team has no such mode.
            PriceUnknownError: An allowed model has neither a price nor a logged cost.
        """
        one = self._mode(mode)
        allowed = self.admissible() if allowed is None else allowed
        heard, others = _bounds(one, self.output_, allowed, most=reads == "most")
        taken = _taken(one, self.calls_, self.input_, self.output_, heard[:, None], self.output_ + others[:, None])
        cost = _usd(taken, rates_of(self.prices_)[:, 0]) * self.ratio_ * self.scale_[self._modes[mode]]
        unknown = np.isnan(cost) & allowed[:, :-1]
        if strict and unknown.any():
            raise PriceUnknownError(self.models[j] for j in np.flatnonzero(unknown.any(axis=0)))
        if upper and self.gamma_ is not None:
            cost *= 1.0 + self.gamma_ * self.spread_
        return np.concatenate([cost, np.zeros((len(cost), 1))], axis=1)

    def exact(self, mode: str, columns: Places, *, upper: bool = False) -> Floats:
        """Mean USD of runs, what each role reads of the others counted as they have their models: float64 [n].

        Args:
            mode: By name.
            columns: int64 [n, k], the column of each role.
            upper: What 95 % of runs stay below, where runs tell it; else the mean.

        Raises:
            ConfigError: The team has no such mode.
        """
        self._mode(mode)
        roles = self._roles(np.full(len(columns), self._modes[mode]), columns)
        if upper and self.gamma_ is not None:
            roles *= 1.0 + self.gamma_ * take(self.spread_, columns)
        return np.asarray(roles.sum(axis=1))

    def roles(self, models: Mapping[str, str], mode: str) -> dict[str, RoleCost]:
        """What each role of an allocation is expected to take.

        Args:
            models: Role → model; a role that is missing is left out.
            mode: By name.

        Raises:
            ConfigError: The team has no such mode or role.
            UnknownModelError: A model is not among the cards.
        """
        one, columns = self._mode(mode), self.columns(models)[None]
        tokens = [part[0].tolist() for part in self._tokens(one, columns)]
        cost = self._roles(np.array([self._modes[mode]]), columns)[0].tolist()
        return {
            role.name: RoleCost(input_tokens=tokens[0][k], output_tokens=tokens[1][k], calls=tokens[2][k], cost=cost[k])
            for k, role in enumerate(self.team.roles)
            if columns[0, k] < len(self.models)
        }

    def ceiling(self, model: str, *, input_tokens: float, output_tokens: float) -> float:
        """The most USD that one call can cost: what to set aside for it.

        Args:
            model: By id.
            input_tokens: Of its prompt.
            output_tokens: The most that it may answer.

        Raises:
            UnknownModelError: The model is not among the cards.
            PriceUnknownError: It has neither a price nor a logged cost.
        """
        if model not in self.models:
            raise UnknownModelError(model, self.models, where="the team")
        price = self.prices_[self.models.index(model)]
        if price is None:
            raise PriceUnknownError([model])
        dearest = max(price.input, price.cache_read or 0.0, price.cache_write or 0.0)
        return (input_tokens * dearest + output_tokens * price.output) / 1e6 + price.per_call

    def columns(self, models: Mapping[str, str]) -> Places:
        """The column of each role, int64 [k]; a role that is missing is left out.

        Raises:
            ConfigError: The team has no such role.
            UnknownModelError: A model is not among the cards.
        """
        for role, model in models.items():
            self.team.role(role)
            if model not in {*self.models, NONE}:
                raise UnknownModelError(model, self.models, where="the team")
        known = (*self.models, NONE)
        return np.array([known.index(models.get(role.name, NONE)) for role in self.team.roles], np.int64)

    def admissible(self) -> Flags:
        """What the roles' `model`, `allow` and `optional` say: bool [k, m + 1]."""
        rows = []
        for role in self.team.roles:
            may = [(role.allow is None or model in role.allow) and role.model in {None, model} for model in self.models]
            rows.append([*may, role.optional])
        return np.array(rows, bool)

    def _mode(self, name: str) -> Mode:
        if name not in self._modes:
            raise ConfigError(f"unknown mode {name!r}: the team has {', '.join(map(repr, self._modes))}")
        return self.team.modes[self._modes[name]]

    def _tokens(self, mode: Mode, columns: Places) -> tuple[Floats, Floats, Floats]:
        """Prompt tokens, answer tokens and calls of each role, as the others have their models: float64 [n, k] each."""
        own = take(self.output_, columns)
        heard, said = _heard(mode, own, columns != len(self.models))
        return _taken(mode, take(self.calls_, columns), take(self.input_, columns), own, heard, said)

    def _roles(self, modes: Places, columns: Places) -> Floats:
        """Mean USD of each role: float64 [n, k]; NaN = unknown."""
        found = np.full(columns.shape, np.nan)
        for place, mode in enumerate(self.team.modes):
            rows = modes == place
            if rows.any():
                some = columns[rows]
                cost = _usd(self._tokens(mode, some), take(rates_of(self.prices_), some))
                found[rows] = cost * take(self.ratio_, some) * self.scale_[place]
        return found

    def state(self) -> dict[str, Any]:
        """What was learned, in plain JSON values."""
        learned = {name: getattr(self, name).tolist() for name in _LEARNED}
        prices = [None if price is None else [price.input, price.output, price.per_call] for price in self.prices_]
        return {"shrinkage": self.shrinkage, "models": list(self.models), "gamma": self.gamma_, "prices": prices, **learned}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], team: Team, cards: Iterable[ModelCard]) -> Self:
        """The model that `state` described, of the same team and cards.

        Raises:
            ConfigError: It was of other models, or of a team with another number of roles or modes.
        """
        made = cls(team, cards, shrinkage=float(state["shrinkage"]))
        for name, kind in _LEARNED.items():
            learned = np.array(state[name], kind)
            if learned.shape != getattr(made, name).shape or tuple(state["models"]) != made.models:
                raise ConfigError(f"these costs were learned of other roles or models: {', '.join(state['models'])}")
            setattr(made, name, learned)
        made.gamma_ = state["gamma"]
        made.prices_ = tuple(
            card.price or (None if price is None else Price(input=price[0], output=price[1], per_call=price[2], source="billed"))
            for card, price in zip(made.cards, state["prices"], strict=True)
        )
        return made

    def __repr__(self) -> str:
        """How much it has seen."""
        return f"CostModel({len(self.team.roles)} roles, {len(self.models)} models, {int(self.runs_.sum())} role runs)"


_LEARNED: Final = {
    "output_": np.float64,
    "input_": np.float64,
    "calls_": np.float64,
    "ratio_": np.float64,
    "scale_": np.float64,
    "spread_": np.float64,
    "runs_": np.int64,
}


def _heard(mode: Mode, own: Floats, present: Flags) -> tuple[Floats, Floats]:
    """Tokens of the others' answers that each role reads in a round, and of what all say in one: float64 [n, k] and [n, 1]."""
    heard = np.zeros_like(own)
    if mode.growth == "all":
        heard = own.cumsum(axis=1) - own
    elif mode.growth == "previous":
        for k in range(1, own.shape[1]):
            heard[:, k] = np.where(present[:, k - 1], own[:, k - 1], heard[:, k - 1])
    return heard, own.sum(axis=1, keepdims=True)


def _bounds(mode: Mode, output: Floats, allowed: Flags, *, most: bool) -> tuple[Floats, Floats]:
    """What each role reads of others in a round at most or at least, and what all others say: float64 [k] each."""
    real, away = allowed[:, :-1], allowed[:, -1]
    ends = np.where(real, output, 0.0).max(axis=1) if most else np.where(real, output, np.inf).min(axis=1)
    said = np.where(real.any(axis=1) & (most | ~away), ends, 0.0)
    heard = np.zeros_like(said)
    if mode.growth == "all":
        heard = said.cumsum() - said
    elif mode.growth == "previous":
        further = max if most else min
        for k in range(1, len(said)):
            # Where the one before may be left out, the one before that may be read.
            heard[k] = further(ends[k - 1], heard[k - 1]) if away[k - 1] else ends[k - 1]
    return heard, said.sum() - said


def _read(mode: Mode, own: Floats, heard: Floats, said: Floats) -> Floats:
    """Tokens of answers in the mean prompt of a role."""
    return heard + said * ((mode.rounds - 1) / mode.rounds) + own * (mode.reviews / (1 + mode.reviews))


def _taken(mode: Mode, calls: Floats, prompt: Floats, own: Floats, heard: Floats, said: Floats) -> tuple[Floats, Floats, Floats]:
    """Prompt tokens, answer tokens and calls of a role in a run."""
    number = calls * (mode.rounds * (1 + mode.reviews))
    return number * (prompt + mode.extra_tokens + _read(mode, own, heard, said)), number * own, number


def _usd(taken: tuple[Floats, Floats, Floats], rates: Floats) -> Floats:
    """USD of tokens and calls."""
    return np.asarray((taken[0] * rates[0] + taken[1] * rates[1]) / 1e6 + taken[2] * rates[2])
