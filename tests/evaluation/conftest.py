"""Logs whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from agentroute.outcomes import OutcomeTable
from agentroute.types import Fingerprint, Query

DIMENSION = 16
PLANTED = Fingerprint(name="planted", revision="1", dimension=DIMENSION)


def table(rng, quality, *, cost=None, kinds=None, tasks=None, at=None, spread=0.3, prefix="q", samples=None):
    """A log of scores [n, m]; queries of one kind have like vectors, and say their kind in words."""
    n, m = quality.shape
    kinds = np.zeros(n, int) if kinds is None else kinds
    centres = np.random.default_rng(99).standard_normal((10, DIMENSION))
    vectors = centres[kinds] + spread * rng.standard_normal((n, DIMENSION))
    return OutcomeTable(
        queries=tuple(
            Query(text=f"kind{k} question {prefix}{i}", id=f"{prefix}{i}", task=None if tasks is None else str(tasks[i]))
            for i, k in enumerate(kinds.tolist())
        ),
        models=tuple(f"m{j}" for j in range(m)),
        quality=quality.astype(float),
        cost=np.full((n, m), np.nan) if cost is None else np.broadcast_to(cost, (n, m)) * rng.uniform(0.8, 1.25, (n, m)),
        embeddings=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        fingerprint=PLANTED,
        **({} if at is None else {"at": at}),
        **({} if samples is None else {"samples": samples}),
    )


def drawn(rng, chance):
    return (rng.random(chance.shape) < chance).astype(float)


def sigmoid(values):
    return 1.0 / (1.0 + np.exp(-values))


@dataclass(frozen=True)
class Logs:
    """Builders of logs; the seed changes everything random in them."""

    def contaminated(self, seed, fit=400, late=250, *, drop=0.25, timed=False):
        """Six models of shared difficulty, the first of which loses its lead after the fit window: (log, holdout)."""
        rng = np.random.default_rng(seed)
        skill = np.array([0.923, 0.735, 0.6, 0.5, 0.47, 0.37])

        def part(n, lost):
            mean = skill - lost * (np.arange(6) == 0)
            return drawn(rng, sigmoid(1.3 * np.log(mean / (1.0 - mean)) + rng.standard_normal((n, 1))))

        early, after = part(fit, 0.0), part(late, drop)
        if timed:
            return table(rng, np.concatenate([early, after]), at=1.7e9 + 600.0 * np.arange(fit + late)), None
        return table(rng, early), table(rng, after, prefix="h")

    def noise(self, seed, n=600, chances=(0.5, 0.5, 0.5), *, costs=True):
        """Coins that land alike whatever is asked."""
        rng = np.random.default_rng(seed)
        cost = np.geomspace(0.1, 1.0, len(chances)) if costs else None
        return table(rng, drawn(rng, np.broadcast_to(chances, (n, len(chances)))), cost=cost)

    def two_tasks(self, seed, n=400, *, labels=True):
        """Each of two models is good at one of two tasks."""
        rng = np.random.default_rng(seed)
        kind = rng.integers(0, 2, n)
        chance = np.where(kind[:, None] == np.arange(2), 0.85, 0.45)
        cost = np.array([0.001, 0.002])
        return table(rng, drawn(rng, chance), kinds=kind, tasks=[f"task{k}" for k in kind] if labels else None, cost=cost)

    def within(self, seed, n=500):
        """What decides is in the text; the two task labels say nothing."""
        rng = np.random.default_rng(seed)
        kind = rng.integers(0, 6, n)
        chance = np.where((kind % 2)[:, None] == np.arange(2), 0.85, 0.5)
        tasks = rng.integers(0, 2, n)
        return table(rng, drawn(rng, chance), kinds=kind, tasks=tasks, cost=np.array([0.001, 0.002]), spread=0.2)

    def difficulty(self, seed, n=600, *, skill=(0.8, 1.6), cost=(0.1, 1.0), spread=2.0):
        """Models that fail on the same hard queries, which nothing foresees."""
        rng = np.random.default_rng(seed)
        chance = sigmoid(np.array(skill) + spread * rng.standard_normal((n, 1)))
        return table(rng, drawn(rng, chance), cost=np.array(cost))

    def scored(self, quality, **more):
        """A log of just these scores."""
        return table(np.random.default_rng(0), np.asarray(quality, float), **more)


@pytest.fixture(scope="session")
def logs():
    return Logs()
