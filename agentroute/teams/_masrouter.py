"""`MasRouterPolicy`: a learned cascade from a task to a mode, to roles, to each role's model; trained in torch, used in NumPy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.embedders import Embedder, as_embedder
from agentroute.errors import BudgetError, ConfigError, NoEligibleModelError
from agentroute.pool import ModelPool, refusal
from agentroute.teams._costs import CostModel
from agentroute.teams._kinds import TaskKinds
from agentroute.teams._knapsack import ROUNDING, too_little
from agentroute.teams._saving import Arrays, check_embedder, opened_team, write_team
from agentroute.teams._solving import cheapest_team, solve_team
from agentroute.teams._values import Allocation, Mode, Team
from agentroute.types import ModelCard, Query

__all__ = ["Cascade", "MasRouterPolicy", "described", "embedded", "inputs", "subsets"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_MOST_OPTIONAL: Final = 12
_NEVER: Final = -1e9  # a logit; unlike -infinity it has a slope of 0 and not of NaN


class Cascade:
    """The network: what is likely, given a task; one text for NumPy, which uses it, and for torch, which trains it.

    Args:
        xp: `numpy` or `torch`.
        w: Weights, and the vectors of the descriptions of modes, roles and models, as arrays of `xp`.
        present: float64 [s, k], 1 for each role that takes part in each of the s ways to leave out optional ones.
        size: int64 [s], the place, among the numbers of optional roles that there are, of how many of them take part.
    """

    def __init__(self, xp: ModuleType, w: Mapping[str, Any], present: Any, size: Any) -> None:
        self.xp, self.w, self.present, self.size = xp, w, present, size
        self.modes_z, self.roles_z, self.models_z = (self._unit(self._line(f"{name}s", w[name])) for name in _KNOWN)

    def _line(self, name: str, x: Any) -> Any:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def _unit(self, x: Any) -> Any:
        return x / self.xp.sqrt((x * x).sum(-1) + 1e-12)[..., None]

    def _near(self, name: str, context: Any, z: Any) -> Any:
        """Logits: cosines, sharpened as has been learned."""
        return self._unit(self._line(name, context)) @ z.T * self.xp.exp(self.w[f"{name}.sharp"])

    def sure(self, logits: Any) -> Any:
        """Log chances of a softmax over the last axis."""
        over = logits - self.xp.amax(logits, -1)[..., None]
        return over - self.xp.log(self.xp.exp(over).sum(-1))[..., None]

    def task(self, x: Any) -> Any:
        """What is made of tasks, [n, h], from `inputs`, [n, d + c]."""
        return self.xp.tanh(self._line("task", x))

    def modes(self, task: Any) -> Any:
        """Log chances of the modes, [n, o]."""
        return self.sure(self._near("mode", task, self.modes_z))

    def teams(self, task: Any, modes: Any) -> Any:
        """Log chances of who takes part, [n, s], in these modes: of their number, then of a set of so many, each role once."""
        context = self.xp.concatenate([task, self.modes_z[modes]], -1)
        number = self.sure(self._line("number", context))
        score = self._near("role", context, self.roles_z) @ self.present.T
        same = self.xp.arange(number.shape[-1])[:, None] == self.size[None, :]
        alike = self.xp.where(same, score[:, None, :], _NEVER)
        top = self.xp.amax(alike, -1)
        total = top + self.xp.log(self.xp.exp(alike - top[..., None]).sum(-1))
        return (number - total)[:, self.size] + score

    def models(self, task: Any, modes: Any, teams: Any, allowed: Any) -> Any:
        """Log chances of each role's models, [n, k, m]: from the task, the mode, who takes part, and the role itself.

        Args:
            task: [n, h].
            modes: int64 [n].
            teams: int64 [n], places in `present`.
            allowed: bool [k, m] or [n, k, m].
        """
        here = self.present[teams]
        pooled = self._unit(here @ self.roles_z)
        context = self.xp.concatenate([task, self.modes_z[modes], pooled], -1)
        wide = (len(here), *self.roles_z.shape)
        own = self.xp.concatenate(
            [
                self.xp.broadcast_to(context[:, None, :], (*wide[:2], context.shape[-1])),
                self.xp.broadcast_to(self.roles_z[None], wide),
            ],
            -1,
        )
        logits = self._near("model", self.xp.tanh(self._line("slot", own)), self.models_z)
        return self.sure(self.xp.where(allowed, logits, _NEVER))


class MasRouterPolicy:
    """Gives a team its mode, its roles and their models as a network has learned to.

    A task decides the mode; both decide how many optional roles take part, and which; these and the role itself decide each
    role's model. This is MasRouter's cascade. It takes the likeliest at each step, draws nothing, and keeps to a budget by the
    likeliest mode, then roles, then models that can be paid. It does not say how likely success is. `train_masrouter` makes it
    from logged runs; `RoleAllocator` learns more from as many (`benchmarks/teams/learning.py`), and says what it knows and what
    it does not.

    What differs from the published code: each role has its own distribution over models, and knows who else takes part; the
    number of roles is a choice with a chance of its own; no role comes twice; kinds of tasks come from labels or clusters, as
    for `RoleAllocator`. The variational encoders are plain ones here.

    Args:
        team: Roles and modes.
        models: The models, by cards.
        weights: The network's arrays, as `train_masrouter` leaves them.
        kinds: Kinds of tasks, fitted.
        costs: What runs cost, fitted or not.
        embedder: Of tasks; `None` = the one that ships.

    Attributes:
        models: The models' ids.

    Raises:
        ConfigError: The weights are not of this team and these models, or more than 12 roles are optional.

    Source: Yue et al. 2025, MasRouter: Learning to Route LLMs for Multi-Agent Systems, arXiv:2502.11133.
    """

    def __init__(
        self,
        team: Team,
        models: ModelPool | Iterable[ModelCard | str],
        *,
        weights: Arrays,
        kinds: TaskKinds,
        costs: CostModel | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        self.team = team
        self.pool = models if isinstance(models, ModelPool) else ModelPool(models)
        self.models = self.pool.ids
        self.weights = {name: np.asarray(array, np.float32) for name, array in weights.items()}
        self.kinds = kinds
        self.costs = CostModel(team, self.pool) if costs is None else costs
        self.embedder = embedder
        self.present, size = subsets(team)
        for name, count in zip(_KNOWN, (len(team.modes), len(team.roles), len(self.models)), strict=True):
            if name not in self.weights or len(self.weights[name]) != count:
                raise ConfigError(f"these weights are not for {count} {name}s: train again")
        # Stored in single precision, computed in double: the same decisions before and after saving.
        self._net = Cascade(np, {name: array.astype(np.float64) for name, array in self.weights.items()}, self.present, size)

    def allocate(self, task: str | Query, /, *, budget: float | None = None) -> Allocation:
        """The likeliest mode, roles and models for a task.

        Args:
            task: What the team is asked.
            budget: Most USD that the run may be expected to cost; optional roles are left out for it, or the mode changed.

        Raises:
            NoEligibleModelError: No model can serve a role; the message names it.
            BudgetError: Even the cheapest allocation costs more; it says what that costs.
            PriceUnknownError: There is a budget, and the price of a model is unknown.
        """
        if budget is not None and not budget >= 0.0:
            raise ConfigError(f"budget={budget!r} must be 0 USD or more; None = no budget")
        [query] = embedded([task if isinstance(task, Query) else Query(text=task)], self.embedder)
        allowed = self._allowed(query)
        can: Flags = np.asarray(~((self.present > 0.0) & ~allowed[:, :-1].any(axis=1)).any(axis=1), bool)
        if not can.any():
            raise NoEligibleModelError({"the whole team": "all roles are optional, and no model may have any of them"})
        context = self._net.task(inputs([query], self.kinds, self.weights["centre"]))
        modes = self._net.modes(context)[0]
        for mode in np.argsort(-modes, kind="stable"):
            teams = np.where(can, self._net.teams(context, mode[None])[0], -math.inf)
            least = self._least(self.team.modes[mode], allowed)
            for chosen in dict.fromkeys((self._likeliest(teams), *np.argsort(-teams, kind="stable").tolist())):
                if not can[chosen] or (budget is not None and least[chosen] > budget * (1.0 + ROUNDING)):
                    continue
                values = self._net.models(context, mode[None], np.array([chosen]), allowed[:, :-1])[0]
                with suppress(BudgetError):
                    return self._filled(self.team.modes[mode], chosen, values, allowed, budget)
        raise too_little(math.inf if budget is None else budget, self._cheapest(can, allowed))

    def _least(self, mode: Mode, allowed: Flags) -> Floats:
        """USD of each way to leave out roles, float64 [s], where everyone reads the least: it costs no less."""
        bound = self.costs.terms(mode.name).bound(allowed, most=False)[:, :-1]
        each = np.where(allowed[:, :-1], np.nan_to_num(bound, nan=0.0), np.inf).min(axis=1)
        return self.present @ np.where(np.isfinite(each), each, 0.0)

    def _cheapest(self, can: Flags, allowed: Flags) -> float:
        """USD of the cheapest allocation there is."""
        found = math.inf
        for mode in self.team.modes:
            least = self._least(mode, allowed)
            for chosen in np.argsort(np.where(can, least, math.inf)):
                if not can[chosen] or least[chosen] >= found:
                    break
                columns = cheapest_team(self.costs, mode.name, self._fill(chosen, allowed))
                found = min(found, float(self.costs.exact(mode.name, columns[None])[0]))
        return found

    def _fill(self, chosen: int, allowed: Flags) -> Flags:
        """What is allowed where just these roles take part."""
        here = self.present[chosen] > 0.0
        fill: Flags = allowed & here[:, None]
        fill[:, -1] = ~here
        return fill

    def _likeliest(self, teams: Floats) -> int:
        """The likeliest number of roles that can be filled, and of that number the likeliest ones."""
        count = self.present.sum(axis=1)
        numbers = {one: np.exp(teams[count == one]).sum() for one in sorted(set(count.tolist()))}
        likeliest = max(numbers, key=lambda one: numbers[one])
        return int(np.where(count == likeliest, teams, -math.inf).argmax())

    def _filled(self, mode: Mode, chosen: int, values: Floats, allowed: Flags, budget: float | None) -> Allocation:
        """The likeliest models of the roles that take part; under a budget those with the greatest chance taken together."""
        here, fill = self.present[chosen] > 0.0, self._fill(chosen, allowed)
        padded = np.pad(values, ((0, 0), (0, 1)))
        if budget is None:
            columns = np.where(fill, padded, -np.inf).argmax(axis=1)
        else:
            self.costs.require(fill)
            columns = solve_team(padded, self.costs, mode.name, fill, budget).choice
        usd = float(self.costs.exact(mode.name, columns[None])[0])
        upper = float(self.costs.exact(mode.name, columns[None], upper=True)[0])
        chances = np.exp(padded[np.arange(len(columns)), columns])
        names = [role.name for role in self.team.roles]
        filled = {name: (self.models[columns[k]], chances[k]) for k, name in enumerate(names) if here[k]}
        return Allocation(
            models={name: model for name, (model, _) in filled.items()},
            mode=mode.name,
            expected_quality=math.nan,
            quality_interval=(0.0, 1.0),
            expected_cost=usd,
            cost_upper=upper,
            budget=budget,
            reasons={name: f"a chance of {chance:.0%} in the learned cascade" for name, (_, chance) in filled.items()},
            exact=budget is None,
        )

    def _allowed(self, query: Query) -> Flags:
        """Which model each role may have, bool [k, m + 1], the last column for being left out."""
        allowed = self.costs.admissible()
        for row, role in enumerate(self.team.roles):
            asked = replace(query, needs=role.needs | query.needs, input_tokens=round(role.input_tokens), max_output_tokens=None)
            why = {card.id: refusal(card, asked) for card in self.pool}
            allowed[row, :-1] &= [reason is None for reason in why.values()]
            if not allowed[row].any():
                told = {f"role {role.name}, {model}": reason or "the team gives the role others" for model, reason in why.items()}
                raise NoEligibleModelError(told)
        return allowed

    def save(self, folder: str | Path, /) -> None:
        """Writes all that `load` needs into a folder; no text of any task.

        Raises:
            ArtefactError: The folder holds something else.
        """
        config = {
            "kinds": self.kinds.state(),
            "costs": self.costs.state(),
            "embedder": str(as_embedder(self.embedder).fingerprint),
        }
        write_team(folder, "MasRouterPolicy", self.team, self.pool, config, self.weights)

    @classmethod
    def load(cls, folder: str | Path, /, *, embedder: Embedder | None = None) -> Self:
        """The policy that was saved; it allocates the same.

        Raises:
            ArtefactError: The folder is damaged, foreign, or from a later version.
            EmbedderMismatchError: It was trained with another embedder.
        """
        with opened_team(folder, "MasRouterPolicy") as (team, cards, config, arrays):
            check_embedder(config["embedder"], embedder)
            kinds, costs = TaskKinds.from_state(config["kinds"]), CostModel.from_state(config["costs"], team, cards)
            return cls(team, cards, weights=arrays, kinds=kinds, costs=costs, embedder=embedder)

    def __repr__(self) -> str:
        """Roles and models."""
        return f"MasRouterPolicy({[role.name for role in self.team.roles]}, {list(self.models)})"


_KNOWN: Final = ("mode", "role", "model")


def subsets(team: Team) -> tuple[Floats, Places]:
    """The ways to leave out optional roles: who takes part, float64 [s, k] of 0 and 1, and the place of their number, int64 [s].

    Somebody always takes part.

    Raises:
        ConfigError: More than 12 roles are optional.
    """
    optional = [place for place, role in enumerate(team.roles) if role.optional]
    if len(optional) > _MOST_OPTIONAL:
        raise ConfigError(
            f"{len(optional)} optional roles are more than {_MOST_OPTIONAL}: make some of them fixed parts of the team"
        )
    found = np.ones((2 ** len(optional), len(team.roles)))
    found[:, optional] = list(itertools.product((1.0, 0.0), repeat=len(optional)))
    found = found[found.any(axis=1)]
    return found, np.unique(found.sum(axis=1), return_inverse=True)[1].astype(np.int64)


def embedded(queries: Sequence[Query], embedder: Embedder | None) -> list[Query]:
    """The tasks with vectors, those that have a text and no vector yet."""
    made = list(queries)
    rows = [row for row, query in enumerate(made) if query.embedding is None and query.text]
    if rows:
        vectors = as_embedder(embedder).embed([made[row].text for row in rows])
        for row, vector in zip(rows, vectors, strict=True):
            made[row] = replace(made[row], embedding=vector)
    return made


def inputs(queries: Sequence[Query], kinds: TaskKinds, centre: npt.NDArray[Any]) -> Floats:
    """What the network reads of tasks, float64 [n, d + c]: vectors less their centre, zero where there is none, and kinds.

    Raises:
        ConfigError: A vector is not as long as the centre, float [d].
    """
    read = np.zeros((len(queries), len(centre)))
    for row, query in enumerate(queries):
        if query.embedding is not None:
            if len(query.embedding) != len(centre):
                told = f"a task's vector has {len(query.embedding)} dimensions, the policy's have {len(centre)}"
                raise ConfigError(f"{told}: use the embedder that it was trained with")
            read[row] = query.embedding - centre
    return np.concatenate([read, kinds.of(queries)], axis=1)


def described(team: Team, cards: Iterable[ModelCard], embedder: Embedder | None) -> dict[str, Floats]:
    """Vectors of modes, roles and models, float64 [count, d + count]: of what is said of each, less the mean, and of which it is.

    Short descriptions may be nearly alike; the second part tells them apart all the same.
    """
    texts = {
        "mode": [f"{mode.name}: {mode.description}" for mode in team.modes],
        "role": [f"{role.name}: {role.description}" for role in team.roles],
        "model": [
            " ".join([card.id, *(f"{name} {100.0 * score:.0f}" for name, score in sorted(card.scores.items()))]) for card in cards
        ],
    }
    made = {name: np.asarray(as_embedder(embedder).embed(words), np.float64) for name, words in texts.items()}
    return {name: np.concatenate([one - one.mean(axis=0), np.eye(len(one))], axis=1) for name, one in made.items()}
