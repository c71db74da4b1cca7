"""Time of one decision for a team: its costs, and the multiple-choice knapsack by enumeration and by dynamic programming.

    OPENBLAS_NUM_THREADS=1 python benchmarks/teams/decision.py

Instances: values and costs at random, `rising` sorted alike in each role, so that no model beats another in both and nothing can
be left out, which is the slowest case; the budget lies 5 to 60 % of the way from the cheapest to the dearest choice.
"Of optimum" compares with the linear relaxation where the solution is not proved: it is at least that good.

Budgets: a reservation and its settlement, in memory and in a file, by one thread.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from agentroute.teams import RoleAllocator, TeamRun
from agentroute.teams._budget import Budget, MemoryBudget
from agentroute.teams._budget_file import SqliteBudget
from agentroute.teams._costs import CostModel
from agentroute.teams._knapsack import solve
from agentroute.teams._solving import solve_team
from agentroute.teams._values import Mode, Role, Team
from agentroute.types import ModelCard, Price, Query

REPEATS = 400
SIZES = ((3, 4), (4, 5), (6, 5), (6, 8), (8, 8), (12, 10))


def instances(roles: int, models: int, *, rising: bool) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, float]]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(REPEATS):
        values, costs = rng.standard_normal((roles, models)), rng.lognormal(size=(roles, models)) * 1e-3
        if rising:
            values, costs = np.sort(values, axis=1), np.sort(costs, axis=1)
        floor, top = costs.min(axis=1).sum(), costs.max(axis=1).sum()
        made.append((values, costs, np.ones((roles, models), bool), floor + (top - floor) * rng.uniform(0.05, 0.6)))
    return made


def relaxed(values: np.ndarray, costs: np.ndarray, budget: float) -> float:
    """The most that can be had when money can be split: the steps of each role's concave hull, steepest first."""
    total, left, steps = 0.0, budget, []
    for value, cost in zip(values, costs, strict=True):
        at = int(np.lexsort((-value, cost))[0])
        total, left = total + value[at], left - cost[at]
        while True:
            with np.errstate(divide="ignore", invalid="ignore"):
                slope = np.where((cost > cost[at]) & (value > value[at]), (value - value[at]) / (cost - cost[at]), 0.0)
            if not slope.any():
                break
            best = int(slope.argmax())
            steps.append((slope[best], cost[best] - cost[at]))
            at = best
    for slope, price in sorted(steps, reverse=True):
        taken = min(left, price)
        total, left = total + slope * taken, left - taken
    return total


def times(call: Callable[[int], object]) -> tuple[float, float]:
    """p50 and p95 in µs."""
    taken = []
    call(0)
    for number in range(REPEATS):
        start = time.perf_counter()
        call(number)
        taken.append(time.perf_counter() - start)
    return 1e6 * float(np.median(taken)), 1e6 * float(np.quantile(taken, 0.95))


def solving(console: Console) -> None:
    view = Table("roles x models", "instances", "p50 µs", "p95 µs", "proved", "of optimum", title="The knapsack")
    for roles, models in SIZES:
        for rising in (False, True):
            made = instances(roles, models, rising=rising)
            spent = times(lambda number, made=made: solve(*made[number]))
            found = [solve(*one) for one in made]
            # Values are counted from the cheapest choice, which is to be had for nothing.
            parts = []
            for one, (values, costs, _, budget) in zip(found, made, strict=True):
                start = values[np.arange(roles), costs.argmin(axis=1)].sum()
                gain = relaxed(values, costs, budget) - start
                parts.append(1.0 if one.exact or gain <= 0.0 else (one.value - start) / gain)
            assert all(one.cost <= made[number][3] for number, one in enumerate(found))
            proved = float(np.mean([one.exact for one in found]))
            view.add_row(f"{roles} x {models}", "rising" if rising else "random", *(f"{one:.0f}" for one in spent),
                         f"{100 * proved:.0f} %", f">= {100 * math.floor(1e4 * np.mean(parts)) / 1e4:.2f} %")  # fmt: skip
    console.print(view)


def costing(console: Console) -> None:
    view = Table("roles x models", "mode", "matrix p50 µs", "exact of one p50 µs", title="Costs")
    modes = [Mode(name="chain", growth="previous"), Mode(name="debate", growth="all", rounds=2)]
    for roles, models in ((4, 5), (6, 5), (12, 10)):
        team = Team(roles=[Role(name=f"role {k}") for k in range(roles)], modes=modes)
        model = CostModel(team, [ModelCard(id=f"model {j}", price=Price(input=1.0, output=2.0)) for j in range(models)])
        columns = np.zeros((1, roles), np.int64)
        for mode in modes:
            matrix = times(lambda _, model=model, mode=mode: model.matrix(mode.name))
            exact = times(lambda _, model=model, mode=mode, columns=columns: model.exact(mode.name, columns))
            view.add_row(f"{roles} x {models}", mode.name, f"{matrix[0]:.0f}", f"{exact[0]:.0f}")
    console.print(view)


def whole(console: Console) -> None:
    view = Table("roles x models", "mode", "p50 µs", "p95 µs", "proved", title="The knapsack with what roles read of each other")
    rng = np.random.default_rng(0)
    modes = [Mode(name="io"), Mode(name="chain", growth="previous"), Mode(name="debate", growth="all", rounds=2)]
    for roles, models in ((4, 5), (6, 5), (12, 10)):
        team = Team(roles=[Role(name=f"role {k}") for k in range(roles)], modes=modes)
        prices = [Price(input=0.1 * 2.0**j, output=0.4 * 2.0**j) for j in range(models)]
        costs = CostModel(team, [ModelCard(id=f"model {j}", price=price) for j, price in enumerate(prices)])
        costs.output_ *= rng.lognormal(0.0, 0.5, size=costs.output_.shape)
        allowed = costs.admissible()
        values = np.sort(rng.standard_normal((REPEATS, roles, models + 1)), axis=2)
        for mode in modes:
            least, most = (costs.exact(mode.name, np.full((1, roles), column))[0] for column in (0, models - 1))
            budgets = least + (most - least) * rng.uniform(0.02, 0.5, REPEATS)

            def one(number, values=values, costs=costs, mode=mode, allowed=allowed, budgets=budgets):
                return solve_team(values[number], costs, mode.name, allowed, budgets[number])

            spent, proved = times(one), np.mean([one(number).exact for number in range(REPEATS)])
            view.add_row(f"{roles} x {models}", mode.name, *(f"{value:.0f}" for value in spent), f"{100 * proved:.0f} %")
    console.print(view)


def deciding(console: Console) -> None:
    view = Table(
        "roles x models", "known by", "p50 µs", "p95 µs", title="`allocate` as a whole, under a budget, one mode (chain)"
    )
    rng = np.random.default_rng(0)
    for roles, models in ((4, 5), (6, 5), (12, 10)):
        team = Team(roles=[Role(name=f"role {k}") for k in range(roles)])
        cards = [
            ModelCard(id=f"model {j}", price=Price(input=0.1 * 2.0**j, output=0.4 * 2.0**j), scores={"MMLU": 0.3 + 0.05 * j})
            for j in range(models)
        ]
        runs = []
        for number in range(600):
            drawn = rng.integers(models, size=roles)
            names = {role.name: f"model {column}" for role, column in zip(team.roles, drawn, strict=True)}
            success = float(rng.random() < 1.0 / (1.0 + math.exp(-float((drawn - models / 2.0).sum()) / roles)))
            query = Query(text=f"task {number}", task="even" if number % 2 else "odd")
            runs.append(TeamRun(query=query, models=names, mode="chain", success=success, propensity=models**-roles))
        for known, allocator in (("cards", RoleAllocator(team, cards)), ("600 runs", RoleAllocator(team, cards, runs=runs))):
            task = Query(text="task", task="odd")
            whole = [
                allocator.allocate(task, fixed=dict.fromkeys((role.name for role in team.roles), one)) for one in allocator.ids
            ]
            least, most = (pick(one.expected_cost for one in whole) for pick in (min, max))
            budgets = least + (most - least) * rng.uniform(0.02, 0.5, REPEATS)
            spent = times(lambda number, a=allocator, task=task, budgets=budgets: a.allocate(task, budget=float(budgets[number])))
            view.add_row(f"{roles} x {models}", known, *(f"{value:.0f}" for value in spent))
    console.print(view)


def booking(console: Console) -> None:
    def one(budget: Budget) -> None:
        budget.reserve(1e-6).settle(5e-7)

    view = Table("budget", "p50 µs", "p95 µs", title="Reserve and settle")
    with tempfile.TemporaryDirectory() as folder, SqliteBudget(Path(folder) / "money.sqlite", "bench", 1.0) as stored:
        for budget in (MemoryBudget(1.0), stored):
            spent = times(lambda _, budget=budget: one(budget))
            view.add_row(type(budget).__name__, *(f"{value:.0f}" for value in spent))
    console.print(view)


def main() -> None:
    console = Console(width=130)
    solving(console)
    costing(console)
    whole(console)
    deciding(console)
    booking(console)


if __name__ == "__main__":
    main()
