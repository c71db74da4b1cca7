"""Simulated worlds of teams, in which everything is known: what each learner makes of the same runs can be told exactly.

A world has 4 roles, 5 models at 0.15 to 4 USD a million tokens, and 6 kinds of task. The logit of a team's success is a sum over
its roles: of the model's own strength (dearer models are stronger, on average) and of how it does in this role on this kind of
task, times how much the role matters there (a Dirichlet draw that adds up to the number of roles). With `pairs` each pair of
models in two roles adds a term of its own, of that standard deviation in logits, and a sum of effects does not hold.

A team is worth its chance of success less its cost; a success is worth `WILLING` USD. Scores run from 0, any assignment at
random, to 1, the best assignment for each kind of task: means over kinds.

Source of the problem: MasRouter (Yue et al. 2025, arXiv:2502.11133, section 3); the worlds are our own.
"""

from __future__ import annotations

import itertools
from functools import cached_property

import numpy as np

from agentroute.teams import Mode, Role, Team, TeamRun
from agentroute.types import ModelCard, Price, Query

ROLES, MODELS, KINDS = 4, 5, 6
PRICES = (0.15, 0.3, 0.8, 2.0, 4.0)
WILLING = 0.05
"""USD that a success is worth."""

MODE = "apart"
ASSIGNMENTS = np.array(list(itertools.product(range(MODELS), repeat=ROLES)), np.int64)
"""All of them, int64 [625, 4]: the model of each role."""

_LEVEL = -0.2  # logit of a team of models that add nothing
_STRENGTH, _SUITS = 0.6, 0.9  # standard deviations in logits: of models, and of models in a role on a kind of task
_TOKENS = 1000.0  # of a role in a run, times 0.5 to 1.5


class World:
    """One world.

    Args:
        seed: Which one.
        pairs: Standard deviation, in logits, of what each pair of models in two roles adds.
    """

    def __init__(self, seed: int, *, pairs: float = 0.0) -> None:
        self.seed = seed
        rng = np.random.default_rng(seed)
        strength = np.sort(rng.normal(0.0, _STRENGTH, MODELS))
        suits = strength + rng.normal(0.0, _SUITS, (KINDS, ROLES, MODELS))
        matters = rng.dirichlet(np.full(ROLES, 2.0), KINDS) * ROLES
        self.skill = suits * matters[:, :, None]  # float64 [kinds, roles, models]
        self.tokens = _TOKENS * rng.uniform(0.5, 1.5, ROLES)
        self.pairs = rng.normal(0.0, pairs, (ROLES, ROLES, MODELS, MODELS))

    @cached_property
    def cost(self) -> np.ndarray:
        """USD of a run, float64 [assignments]."""
        return (self.tokens * np.array(PRICES)[ASSIGNMENTS]).sum(axis=1) / 1e6

    @cached_property
    def chance(self) -> np.ndarray:
        """Of success, float64 [kinds, assignments]."""
        logit = _LEVEL + sum(self.skill[:, role, ASSIGNMENTS[:, role]] for role in range(ROLES))
        for a, b in itertools.combinations(range(ROLES), 2):
            logit = logit + self.pairs[a, b, ASSIGNMENTS[:, a], ASSIGNMENTS[:, b]]
        return 1.0 / (1.0 + np.exp(-logit))

    @cached_property
    def worth(self) -> np.ndarray:
        """Chance of success less what the run costs, float64 [kinds, assignments]."""
        return self.chance - self.cost / WILLING

    def score(self, worth: np.ndarray) -> float:
        """Where the worths of what a policy gives to each kind of task, float64 [kinds], stand between any and the best."""
        least, most = float(self.worth.mean()), float(self.worth.max(axis=1).mean())
        return (float(worth.mean()) - least) / (most - least)

    def score_of(self, columns: np.ndarray) -> float:
        """The score of one assignment for each kind of task, int64 [kinds, roles]."""
        return self.score(self.worth[np.arange(KINDS), number_of(columns)])

    @property
    def references(self) -> dict[str, float]:
        """Scores of what an oracle would choose among simpler policies."""
        same = number_of(np.repeat(np.arange(MODELS)[:, None], ROLES, axis=1))
        return {
            "one model for all": self.score(self.worth[:, same[self.worth[:, same].mean(axis=0).argmax()]]),
            "one model for each kind": self.score(self.worth[:, same].max(axis=1)),
            "best fixed map": self.score(self.worth[:, self.worth.mean(axis=0).argmax()]),
        }

    # --- as users meet it ---

    @property
    def team(self) -> Team:
        """Its roles, which all take part, and one mode in which none reads what another said."""
        roles = [Role(name=f"role {k}", input_tokens=float(tokens), output_tokens=0.0) for k, tokens in enumerate(self.tokens)]
        return Team(roles=roles, modes=[Mode(name=MODE)])

    def runs(self, n: int, *, labelled: bool = True) -> list[TeamRun]:
        """Random tasks given to random assignments; the first runs are the same for every n.

        Args:
            n: Runs.
            labelled: Whether the kinds of the tasks are on record.
        """
        rng = np.random.default_rng(10_000 + self.seed)
        draws = rng.random((n, 3)) * (KINDS, len(ASSIGNMENTS), 1.0)
        return [
            self.run(kind, number, success=draw < self.chance[kind, number], id_=f"run {place}", labelled=labelled)
            for place, (kind, number, draw) in enumerate((int(a), int(b), c) for a, b, c in draws.tolist())
        ]

    def run(self, kind: int, number: int, *, success: bool, id_: str, labelled: bool = True) -> TeamRun:
        """A run of one assignment, by its number, drawn from all of them."""
        models = {f"role {k}": f"model {column}" for k, column in enumerate(ASSIGNMENTS[number].tolist())}
        return TeamRun(
            query=Query(text="", id=id_, task=f"kind {kind}" if labelled else None),
            models=models,
            mode=MODE,
            success=float(success),
            cost=float(self.cost[number]),
            propensity=1.0 / len(ASSIGNMENTS),
            id=id_,
        )


def cards() -> list[ModelCard]:
    """The models, of which no benchmark is known."""
    return [ModelCard(id=f"model {m}", price=Price(input=price, output=price)) for m, price in enumerate(PRICES)]


def number_of(columns: np.ndarray) -> np.ndarray:
    """Places in `ASSIGNMENTS` of int64 [..., roles]."""
    return columns @ MODELS ** np.arange(ROLES - 1, -1, -1)
