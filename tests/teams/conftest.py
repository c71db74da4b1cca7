"""What the tests of teams share: models and teams of known prices, runs drawn by lot, and runs as the models of them see them.

What never changes is made once, so that hypothesis may ask for it too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from agentroute.teams import NONE, Mode, Role, RoleAllocator, Team, TeamRun
from agentroute.teams._additive import Observed
from agentroute.types import ModelCard, Price, Query

# --- allocators ---


@pytest.fixture(scope="session")
def cards():
    """The small, the middle and the large: 500 tokens in and 200 out cost $0.00013, $0.0013 and $0.013."""
    return tuple(
        ModelCard(id=name, price=Price(input=usd, output=4 * usd), scores={"MMLU": score})
        for name, usd, score in (("small", 0.1, 0.3), ("middle", 1.0, 0.6), ("large", 10.0, 0.9))
    )


@pytest.fixture(scope="session")
def team():
    return Team(roles=[Role(name="planner"), Role(name="solver"), Role(name="critic", optional=True)])


@pytest.fixture(scope="session")
def runs_of():
    """Runs of a team whose models are drawn at random from the small, the middle and the large; `chance(models) -> float`."""

    def drawn(team, n, chance, seed=0):
        rng = np.random.default_rng(seed)
        models = ["small", "middle", "large"]
        found = []
        for number in range(n):
            given = {role.name: str(rng.choice([*models, NONE] if role.optional else models)) for role in team.roles}
            mode = str(rng.choice([mode.name for mode in team.modes]))
            success = float(rng.random() < chance(given))
            query = Query(text=f"task {number}")
            found.append(TeamRun(query=query, models=given, mode=mode, success=success, cost=0.001, propensity=0.05))
        return found

    return drawn


# --- sessions ---


@pytest.fixture(scope="session")
def session_cards():
    """The small, the middle and the large: 1,000 tokens cost $0.001, $0.01 and $0.1."""
    return tuple(
        ModelCard(id=name, price=Price(input=usd, output=usd), scores={"MMLU": score})
        for name, usd, score in (("small", 1.0, 0.3), ("middle", 10.0, 0.6), ("large", 100.0, 0.9))
    )


@pytest.fixture(scope="session")
def session_team():
    """Each call of a role takes 1,000 tokens."""
    return Team(
        roles=[Role(name=name, input_tokens=500, output_tokens=500) for name in ("planner", "solver", "critic")],
        modes=[Mode(name="alone")],
    )


@pytest.fixture
def allocator(session_team, session_cards):
    return RoleAllocator(session_team, session_cards)


# --- what runs tell ---


@dataclass(frozen=True)
class Runs:
    """Builders of runs as the models of success see them."""

    def drawn(self, rng, n, *, roles=3, models=3, modes=1, kinds=0, scored=False, fractions=False):
        """Runs whose success is a coin, or anything."""
        return Observed(
            columns=rng.integers(0, models, (n, roles)),
            modes=rng.integers(0, modes, n),
            kinds=rng.dirichlet(np.ones(kinds), n) if kinds else np.zeros((n, 0)),
            success=rng.random(n) if fractions else (rng.random(n) < rng.random()).astype(float),
            scores=np.where(rng.random((n, roles)) < 0.5, rng.random((n, roles)), np.nan) if scored else None,
        )

    def of(self, columns, success, *, modes=None, kinds=None):
        """Runs of these columns, one role's or all roles'; of one mode and of no kind unless told."""
        n = len(success)
        return Observed(
            columns=np.asarray(columns, np.int64) if np.ndim(columns) == 2 else np.asarray(columns, np.int64)[:, None],
            modes=np.zeros(n, np.int64) if modes is None else np.asarray(modes, np.int64),
            kinds=np.zeros((n, 0)) if kinds is None else np.asarray(kinds, float),
            success=np.asarray(success, float),
        )


@pytest.fixture(scope="session")
def observed():
    return Runs()


# --- MasRouter's cascade ---


@pytest.fixture(scope="session")
def masrouter_cards():
    """Three models, the largest of which alone is known to use tools."""
    return (
        ModelCard(id="small", price=Price(input=0.1, output=0.4)),
        ModelCard(id="medium", price=Price(input=0.5, output=2.0)),
        ModelCard(id="large", price=Price(input=2.0, output=8.0), capabilities=frozenset({"tools"})),
    )
