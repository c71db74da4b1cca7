"""Time of one cascade-routing decision and of tuning lambda, beside the published implementation's on another run.

    OPENBLAS_NUM_THREADS=1 python benchmarks/cascades/decision.py

Decisions: before anybody has answered, with a full covariance, 400 random queries each; `all sets` is the slowest case, a
lambda of 0, at which no model can be left out. A fit: 2,000 queries, 5 models, a lambda for each step under a budget, with a
full covariance in each state; 8 models with 500 queries.

The reference's figures (eth-sri/cascade-routing 1788b90, Apache-2.0) were taken on two shared cores by the project that wrote
the specification, at depth 5 for 11 models; it does not run on NumPy 2.4 and later. Its fit is documented as days on 50 cores.
"""

from __future__ import annotations

import time

import numpy as np
from rich.console import Console
from rich.table import Table

from agentroute.cascades._planner import CascadeRouting

REFERENCE = {3: 260.0, 5: 750.0, 8: 3600.0, 11: 11500.0}
REPEATS = 400


class World:
    """Normal qualities around a shared difficulty, with exact estimates: known in part before, and mostly after an answer."""

    latency = None

    def __init__(self, queries: int, models: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.base = np.linspace(0.4, 0.85, models)
        self.covariance = 0.03 * np.ones((models, models)) + 0.05 * np.eye(models)
        self.truth = self.base + rng.multivariate_normal(np.zeros(models), self.covariance, queries)
        self.heard = [self.truth + noise * rng.standard_normal(self.truth.shape) for noise in (0.6, 0.3)]
        self.cost = 1e-4 * 2.0 ** np.arange(models) * np.exp(0.2 * rng.standard_normal(self.truth.shape))
        self._known: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def _posterior(self, answered: int) -> tuple[np.ndarray, np.ndarray]:
        if answered not in self._known:
            count = len(self.base)
            done = [j for j in range(count) if answered >> j & 1]
            seen = np.vstack([np.eye(count), np.eye(count)[done]])
            noise = np.diag([0.36] * count + [0.09] * len(done))
            gain = self.covariance @ seen.T @ np.linalg.inv(seen @ self.covariance @ seen.T + noise)
            told = np.hstack([self.heard[0] - self.base, (self.heard[1] - self.base)[:, done]])
            self._known[answered] = self.base + told @ gain.T, self.covariance - gain @ seen @ self.covariance
        return self._known[answered]

    def quality(self, answered: int, rows: np.ndarray) -> np.ndarray:
        """[r, m]."""
        return self._posterior(answered)[0][rows]

    def factor(self, answered: int) -> np.ndarray:
        """[m, m]."""
        count = len(self.base)
        moves = self._posterior(answered)[1] - self._posterior((1 << count) - 1)[1]
        return np.linalg.cholesky(moves + 1e-9 * np.eye(count))


def times(world: World, willingness_to_pay: float) -> tuple[float, float]:
    policy = CascadeRouting(willingness_to_pay=willingness_to_pay)
    quality, factor = world.quality(0, np.arange(REPEATS)), world.factor(0)
    policy.decide(quality[0], world.cost[0], factor=factor)
    taken = []
    for row in range(REPEATS):
        start = time.perf_counter()
        policy.decide(quality[row], world.cost[row], factor=factor)
        taken.append(time.perf_counter() - start)
    return 1e6 * float(np.median(taken)), 1e6 * float(np.quantile(taken, 0.95))


def main() -> None:
    view = Table("models", "p50 µs", "p95 µs", "all sets p50 µs", "p95 µs", "reference µs", "ratio", title="One decision")
    for models, reference in REFERENCE.items():
        world = World(REPEATS, models, 0)
        usual = times(world, float(world.cost.mean(axis=0)[models // 2]) / 0.1)
        slowest = times(world, np.inf)
        view.add_row(str(models), *(f"{value:.0f}" for value in (*usual, *slowest)), f"{reference:.0f}",
                     f"{reference / usual[0]:.0f}")  # fmt: skip
    console = Console(width=130)
    console.print(view)
    view = Table("queries", "models", "lambda", "s", title="Tuning for a budget")
    for queries, models in ((2000, 3), (2000, 5), (500, 8)):
        world = World(queries, models, 1)
        for answered in range(1 << models):
            world.factor(answered)  # the estimates are not what is timed
        for refine in (False, True):
            start = time.perf_counter()
            policy = CascadeRouting(budget=float(world.cost.mean(axis=0)[models // 2]), refine=refine)
            policy.fit(world, world.truth, world.cost)
            took = time.perf_counter() - start
            view.add_row(str(queries), str(models), "each step's" if refine else "one", f"{took:.2f}")
    console.print(view)


if __name__ == "__main__":
    main()
