"""What a team costs: tokens and USD of every role with every model, in every mode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError, PriceUnknownError, UnknownModelError
from agentroute.teams._observing import admissible
from agentroute.teams._spending import Spending, rates_of, shrunk, spending, sums, take
from agentroute.teams._terms import Terms, heard
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
        gamma_: Of these standard deviations, summed over the roles, how many 95 % of the runs stayed below that it was learned
            from; `None` = too few runs. Of further runs it is some 92 to 95 %, over all allocations; of one allocation, whose
            models have few runs or are less regular than others, it may be much less.
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
        self._known: dict[tuple[str, float], Terms] = {}  # made when they are first asked for

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
        in_a_round = seen.calls / np.array([_times(mode) for mode in modes])[seen.mode][:, None]
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
            read = _read(mode, said[rows], column[rows] != count)
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
        # The rank that a further run would stay below with 95 %, were the means and spreads known and not from the same runs.
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
        allowed = self.admissible() if allowed is None else allowed
        cost = self.terms(mode, upper=upper).bound(allowed, most=reads == "most")
        if strict:
            self.require(allowed)
        return cost

    def require(self, allowed: Flags) -> None:
        """Makes sure that the costs of all models that a role may have are known.

        Args:
            allowed: bool [k, m + 1].

        Raises:
            PriceUnknownError: An allowed model has neither a price nor a logged cost.
        """
        used = np.asarray(allowed.any(axis=0)).tolist()[: len(self.models)]
        found = zip(self.models, self.prices_, used, strict=True)
        unknown = [model for model, price, may in found if may and price is None]
        if unknown:
            raise PriceUnknownError(unknown)

    def terms(self, mode: str, *, upper: bool = False) -> Terms:
        """The costs of a mode in terms from which those of any allocation follow quickly.

        Args:
            mode: By name.
            upper: What 95 % of runs stay below, summed over the roles, where runs tell it; else the mean.

        Raises:
            ConfigError: The team has no such mode.
        """
        gamma = self.gamma_ or 0.0 if upper else 0.0
        if (mode, gamma) not in self._known:
            self._known[mode, gamma] = self._terms(self._mode(mode), gamma=gamma)
        return self._known[mode, gamma]

    def prompts(self, mode: str, allowed: Flags) -> Floats:
        """Tokens of each role's longest prompt with each model, where the others say as little as they may: float64 [k, m].

        Args:
            mode: By name.
            allowed: bool [k, m + 1], which models the others may have, and whether they may be left out.

        Raises:
            ConfigError: The team has no such mode.
        """
        one = self._mode(mode)
        said, read = self.terms(mode).reads(allowed, most=False)
        if one.rounds > 1:
            read = read + said.sum() - said
        again = one.rounds > 1 or one.reviews > 0  # then it reads its own answer too
        return np.asarray(self.input_ + one.extra_tokens + read[:, None] + self.output_ * again)

    def exact(self, mode: str, columns: Places, *, upper: bool = False) -> Floats:
        """Mean USD of runs, what each role reads of the others counted as they have their models: float64 [n].

        Args:
            mode: By name.
            columns: int64 [n, k], the column of each role.
            upper: What 95 % of runs stay below, where runs tell it; else the mean.

        Raises:
            ConfigError: The team has no such mode.
        """
        return np.asarray(self.terms(mode, upper=upper).roles(columns).sum(axis=1))

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
        calls, own = take(self.calls_, columns) * _times(one), take(self.output_, columns)
        read = _read(one, own, columns != len(self.models))
        prompts = calls * (take(self.input_, columns) + one.extra_tokens + read)
        cost = self._terms(one).roles(columns)
        return {
            role.name: RoleCost(
                input_tokens=float(prompts[0, k]),
                output_tokens=float(calls[0, k] * own[0, k]),
                calls=float(calls[0, k]),
                cost=float(cost[0, k]),
            )
            for k, role in enumerate(self.team.roles)
            if columns[0, k] < len(self.models)
        }

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
        return admissible(self.team, self.models)

    def _mode(self, name: str) -> Mode:
        if name not in self._modes:
            raise ConfigError(f"unknown mode {name!r}: the team has {', '.join(map(repr, self._modes))}")
        return self.team.modes[self._modes[name]]

    def _terms(self, mode: Mode, *, gamma: float = 0.0) -> Terms:
        rates = rates_of(self.prices_)[:, 0]
        number = self.calls_ * _times(mode)
        share, looks = (mode.rounds - 1) / mode.rounds, mode.reviews / (1 + mode.reviews)
        prompt = self.input_ + mode.extra_tokens + self.output_ * (share + looks)
        factor = number * self.ratio_ * (self.scale_[self._modes[mode.name]] * (1.0 + gamma * self.spread_))
        alone = factor * ((prompt * rates[0] + self.output_ * rates[1]) / 1e6 + rates[2])
        tables = np.stack([alone, factor * rates[0] / 1e6, self.output_])
        padded = np.concatenate([tables, np.zeros((*tables.shape[:2], 1)), np.full((*tables.shape[:2], 1), np.nan)], axis=2)
        return Terms(alone=padded[0], token=padded[1], output=padded[2], growth=mode.growth, share=share)

    def _roles(self, modes: Places, columns: Places) -> Floats:
        """Mean USD of each role: float64 [n, k]; NaN = unknown."""
        found = np.full(columns.shape, np.nan)
        for place, mode in enumerate(self.team.modes):
            found[modes == place] = self._terms(mode).roles(columns[modes == place])
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


def _times(mode: Mode) -> int:
    """Calls in a run for each call in a round."""
    return mode.rounds * (1 + mode.reviews)


def _read(mode: Mode, own: Floats, present: Flags) -> Floats:
    """Tokens of answers in the mean prompt of each role: float64 [n, k]."""
    all_ = own.sum(axis=1, keepdims=True) * ((mode.rounds - 1) / mode.rounds)
    return np.asarray(heard(mode.growth, own, present) + all_ + own * (mode.reviews / (1 + mode.reviews)))
