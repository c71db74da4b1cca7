"""How much a team learns from how many runs: the additive model and policy gradients, in simulated worlds (`worlds.py`).

    OPENBLAS_NUM_THREADS=1 python benchmarks/teams/learning.py [--quick] [--masrouter] [--worlds 16] [--runs 160 480 1600 4800]

"Additive" is `RoleAllocator` as users have it: fitted on random runs, then asked for one allocation for each kind of task. It is
told what a success is worth and which model has which price, and no benchmark. "Without kinds" is not told which task is of which
kind.

Policy gradients (REINFORCE) are tables of logits, one for each kind of task, that draw the models of their own runs, and learn
from each run once:

- "each role its own": a distribution over models for each role, a running mean of what was gained on the kind of task as
  baseline, and the likeliest model of each role in the end;
- "shared slot": one distribution for all roles and no baseline, as in MasRouter's published code: "likeliest" takes its likeliest
  model in the end, "drawn" draws from it, which is what that code does when it is used.

Each of these tables has the best of several learning rates, for each number of runs, chosen with hindsight: a kindness.

With `--masrouter` (extra `torch`, some minutes) also `MasRouterPolicy`, MasRouter's cascade with its defects mended, trained on
the same random runs as the additive model; and which of the two won.

Scores: 0 = random, 1 = the best assignment for each kind of task; means over worlds, with standard errors.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from rich.console import Console
from rich.table import Table
from worlds import ASSIGNMENTS, KINDS, MODELS, ROLES, WILLING, World, cards, number_of

from agentroute.teams import RoleAllocator
from agentroute.types import Query

RUNS = (160, 480, 1600, 4800)
RATES = (0.03, 0.1, 0.3, 1.0)
PAIRS = 0.5  # logits
WANTED = {480: 0.75, 1600: 0.90}

ADDITIVE, UNTOLD, OWN = "additive (RoleAllocator)", "additive, without kinds", "REINFORCE, each role its own, likeliest"
SHARED, DRAWN = "REINFORCE, shared slot, likeliest", "REINFORCE, shared slot, drawn (MasRouter)"
CASCADE = "MasRouterPolicy, same runs as additive"
ONE = "one model for all"

Scores = dict[str, dict[int, np.ndarray]]
"""Learner → runs → the score in each world."""


def columns_of(models: dict[str, str]) -> list[int]:
    return [int(models[f"role {k}"].removeprefix("model ")) for k in range(ROLES)]


def allocated(world: World, runs: int, *, labelled: bool) -> tuple[float, bool]:
    """The allocator's score after so many random runs, and whether it went by pairs."""
    allocator = RoleAllocator(world.team, cards(), willingness_to_pay=WILLING, runs=world.runs(runs, labelled=labelled))
    tasks = [Query(text="", task=f"kind {kind}" if labelled else None) for kind in range(KINDS)]
    found = np.array([columns_of(dict(allocator.allocate(task).models)) for task in tasks])
    return world.score_of(found), allocator.report().by == "pairs"


def cascaded(world: World, runs: int) -> float:
    """The score of MasRouter's cascade after so many random runs."""
    from agentroute.teams._masrouter_training import train_masrouter

    policy = train_masrouter(world.team, cards(), world.runs(runs), willingness_to_pay=WILLING)
    tasks = [Query(text="", task=f"kind {kind}") for kind in range(KINDS)]
    return world.score_of(np.array([columns_of(dict(policy.allocate(task).models)) for task in tasks]))


def softmax(logits: np.ndarray) -> np.ndarray:
    weight = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weight / weight.sum(axis=-1, keepdims=True)


def reinforce(worlds: Sequence[World], runs: Sequence[int], *, own: bool, seed: int = 0) -> dict[int, np.ndarray]:
    """Logits after so many runs, float64 [rates, worlds, kinds, roles or 1, models], of all worlds and learning rates at once.

    Args:
        worlds: To learn in.
        runs: When to look.
        own: Whether each role has its own distribution, and gains are counted from a baseline.
        seed: Of tasks and draws.
    """
    rng = np.random.default_rng(seed)
    rate = np.array(RATES)[:, None, None, None]
    shape = len(RATES), len(worlds)
    logits = np.zeros((*shape, KINDS, ROLES if own else 1, MODELS))
    mean, count = np.zeros((*shape, KINDS)), np.zeros((len(worlds), KINDS))
    chance, cost = np.stack([world.chance for world in worlds]), np.stack([world.cost for world in worlds]) / WILLING
    here, found = np.arange(len(worlds)), {}
    for step in range(1, max(runs) + 1):
        kind = rng.integers(KINDS, size=len(worlds))
        policy = softmax(logits[:, here, kind])
        luck = rng.random((*shape, ROLES, 1))
        drawn = np.minimum((luck > policy.cumsum(axis=-1)).sum(axis=-1), MODELS - 1)  # [rates, worlds, roles]
        number = number_of(drawn)
        gain = (rng.random(shape) < chance[here, kind, number]) - cost[here, number]
        over = gain - mean[:, here, kind] if own else gain
        slope = np.eye(MODELS)[drawn] - policy
        logits[:, here, kind] += rate * over[..., None, None] * (slope if own else slope.sum(axis=2, keepdims=True))
        count[here, kind] += 1
        mean[:, here, kind] += (gain - mean[:, here, kind]) / count[here, kind]
        if step in runs:
            found[step] = logits.copy()
    return found


def likeliest(world: World, logits: np.ndarray) -> float:
    """The score of each role's likeliest model; logits [kinds, roles or 1, models]."""
    return world.score_of(np.broadcast_to(logits.argmax(axis=-1), (KINDS, ROLES)))


def drawn(world: World, logits: np.ndarray) -> float:
    """The mean score of what is drawn, over all assignments."""
    policy = np.broadcast_to(softmax(logits), (KINDS, ROLES, MODELS))
    chance = np.prod([policy[:, role, ASSIGNMENTS[:, role]] for role in range(ROLES)], axis=0)
    return world.score((chance * world.worth).sum(axis=1))


def learned(worlds: Sequence[World], runs: Sequence[int], *, masrouter: bool = False) -> tuple[Scores, dict[str, dict[int, int]]]:
    """All learners' scores, and in how many worlds the allocator went by pairs, with kinds and without."""
    order = (ADDITIVE, UNTOLD, *([CASCADE] if masrouter else []), OWN, SHARED, DRAWN)
    scores: Scores = {name: {} for name in order}
    paired: dict[str, dict[int, int]] = {ADDITIVE: {}, UNTOLD: {}}
    for name, by_pairs in paired.items():
        for n in runs:
            made = [allocated(world, n, labelled=name == ADDITIVE) for world in worlds]
            scores[name][n], by_pairs[n] = np.array([score for score, _ in made]), sum(pairs for _, pairs in made)
    if masrouter:
        scores[CASCADE] = {n: np.array([cascaded(world, n) for world in worlds]) for n in runs}
    for own, ways in ((True, {OWN: likeliest}), (False, {SHARED: likeliest, DRAWN: drawn})):
        for n, logits in reinforce(worlds, runs, own=own).items():
            for name, way in ways.items():
                rates = [[way(world, one[place]) for place, world in enumerate(worlds)] for one in logits]
                scores[name][n] = np.array(max(rates, key=np.mean))
    return scores, paired


def shown(values: np.ndarray) -> str:
    return f"{values.mean():.3f} ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}"


def table(title: str, worlds: Sequence[World], scores: Scores, runs: Sequence[int]) -> Table:
    view = Table("learner", *(f"{n:,} runs" for n in runs), title=title)
    for name, found in scores.items():
        view.add_row(name, *(shown(found[n]) for n in runs))
    view.add_section()
    known = [world.references for world in worlds]
    for name in known[0]:
        view.add_row(f"oracle's {name}", *[shown(np.array([one[name] for one in known]))] * len(runs))
    return view


def verdicts(worlds: Sequence[World], scores: Scores, runs: Sequence[int]) -> list[str]:
    one = np.mean([world.references[ONE] for world in worlds])
    lines = []
    for n in sorted(WANTED.keys() & set(runs)):
        own, shared = scores[ADDITIVE][n].mean(), scores[DRAWN][n].mean()
        met = own >= WANTED[n] and own > one and own > shared
        told = f"additive {own:.3f}, wanted {WANTED[n]:.2f}, one model for all {one:.3f}, shared slot drawn {shared:.3f}"
        lines.append(f"{n:,} runs: {told}: {'met' if met else 'NOT met'}")
    return lines


def duel(scores: Scores, runs: Sequence[int]) -> list[str]:
    """Which of the two that learned from the same runs won, by the mean of the differences in each world."""
    lines = []
    for n in runs:
        ahead = scores[ADDITIVE][n] - scores[CASCADE][n]
        error = ahead.std(ddof=1) / np.sqrt(len(ahead))
        won = "neither surely" if abs(ahead.mean()) < 2 * error else ADDITIVE if ahead.mean() > 0 else "MasRouterPolicy"
        lines.append(f"{n:,} runs: additive less MasRouterPolicy {ahead.mean():+.3f} ± {error:.3f}: {won} won")
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 worlds, and no more than 480 runs")
    parser.add_argument("--masrouter", action="store_true", help="train MasRouter's cascade too; needs the extra torch")
    parser.add_argument("--worlds", type=int, default=16)
    parser.add_argument("--runs", type=int, nargs="+", default=RUNS)
    options = parser.parse_args(argv)
    count, runs = (4, RUNS[:2]) if options.quick else (options.worlds, tuple(sorted(options.runs)))
    console, start = Console(width=130), time.process_time()
    for pairs in (0.0, PAIRS):
        worlds = [World(seed, pairs=pairs) for seed in range(count)]
        scores, paired = learned(worlds, runs, masrouter=options.masrouter)
        told = f"with effects of pairs of roles, sd {pairs} logits" if pairs else "effects that add up"
        console.print(table(f"{count} worlds, {told}", worlds, scores, runs))
        for name, found in paired.items():
            console.print(f"{name}: by effects of pairs in", ", ".join(f"{found[n]} of {count} at {n:,} runs" for n in runs))
        if not pairs:
            console.print("\n".join(verdicts(worlds, scores, runs)))
        if options.masrouter:
            console.print("\n".join(duel(scores, runs)))
    console.print(f"{time.process_time() - start:.0f} s of CPU")


if __name__ == "__main__":
    main()
