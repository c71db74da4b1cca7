"""Routing, cascading and cascade routing on a real log with simulated estimates of known quality (RouterBench simulation).

    python benchmarks/cascades/simulation.py [--seeds 5] [--budgets 24] [--noise low medium high] [--models 3 5 11] [--data DIR]

Outcomes and costs are RouterBench's (3,164 zero-shot queries, 11 models). What a policy is told is the truth plus normal noise,
shrunk by a linear regression for each model: ex-ante estimates, and better ones of the models that have answered. Estimates are
nested: the regression for a model that has answered takes both of its noisy values. The regressions see all rows, a design with
oracle noise that asks what the policies make of estimates, not how good estimates are. Lambdas, thresholds and the covariance
are learned on a random 5 % of the queries, for each of several budgets, and measured on the other 95 %.

"Threshold cascade" climbs through all models in order, with one threshold for all; "best threshold chain" is `ThresholdCascade`,
which also picks up to three of the models; "without uncertainty" is cascade routing without the covariance.

Figures are areas under the curve of quality over cost, x 100, between the cheapest and the dearest single model; intervals are
95 % over seeds (other splits, other noise). Linear interpolation mixes single models at random, whatever the noise.

Source of the design: Dekoninck et al. 2024, arXiv:2410.10347, section 5. Their figures are for another part of RouterBench.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agentroute.cascades._planner import CascadeRouting
from agentroute.cascades._replay import replay
from agentroute.cascades._threshold import ThresholdCascade
from agentroute.evaluation.metrics import area, hull
from agentroute.outcomes import OutcomeTable

NOISE = {  # ex-ante and after the answer: quality, cost
    "low": ((0.6, 0.3), 2e-4),
    "medium": ((1.6, 0.8), 4e-4),
    "high": ((2.4, 1.2), 100.0),
}
NAMED = {
    3: ("mistralai/mixtral-8x7b-chat", "gpt-3.5-turbo-1106", "gpt-4-1106-preview"),
    5: ("WizardLM/WizardLM-13B-V1.2", "mistralai/mixtral-8x7b-chat", "claude-v2", "gpt-3.5-turbo-1106", "gpt-4-1106-preview"),
}
ROWS = (
    "linear interpolation", "routing", "threshold cascade", "best threshold chain", "optimal cascade", "cascade routing",
    "without uncertainty",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """Estimates in every state: `before` where a model has not answered, `after` where it has."""

    before: np.ndarray
    after: np.ndarray
    cost: np.ndarray
    covariance: np.ndarray | None = None
    latency: None = None

    def quality(self, answered: int, rows: np.ndarray) -> np.ndarray:
        """[r, m], the better estimates of those that have answered."""
        done = answered >> np.arange(self.before.shape[1]) & 1
        return np.where(done, self.after[rows], self.before[rows])

    def factor(self, answered: int) -> np.ndarray | None:
        """[m, m]; the covariance of the others' moves when they answer."""
        if self.covariance is None:
            return None
        # What has answered moves no more.
        open_ = ~(answered >> np.arange(len(self.covariance)) & 1).astype(bool)
        root = np.zeros_like(self.covariance)
        part = self.covariance[np.ix_(open_, open_)]
        root[np.ix_(open_, open_)] = np.linalg.cholesky(part + 1e-8 * np.eye(len(part)))
        return root

    def take(self, rows: np.ndarray) -> Simulated:
        """Some of the queries."""
        return replace(self, before=self.before[rows], after=self.after[rows], cost=self.cost[rows])


def shrunk(truth: np.ndarray, *noisy: np.ndarray) -> np.ndarray:
    """The least-squares estimate of each column of the truth from its noisy values."""
    found = np.empty_like(truth)
    for j in range(truth.shape[1]):
        x = np.column_stack([np.ones(len(truth)), *(one[:, j] for one in noisy)])
        found[:, j] = x @ np.linalg.lstsq(x, truth[:, j], rcond=None)[0]
    return found


def simulated(quality: np.ndarray, cost: np.ndarray, level: str, rng: np.random.Generator) -> Simulated:
    (before, after), spread = NOISE[level]
    early, late = (quality + sd * rng.standard_normal(quality.shape) for sd in (before, after))
    priced = shrunk(cost, cost + spread * rng.standard_normal(cost.shape))
    return Simulated(before=shrunk(quality, early), after=shrunk(quality, early, late), cost=np.maximum(priced, 1e-6))


def threshold(states: Simulated, quality: np.ndarray, cost: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Cost and quality of climbing in order while the last answer's estimate is below a level; the last answer is taken."""
    points = np.empty((len(levels), 2))
    for at, level in enumerate(levels):
        stops = states.after >= level
        stops[:, -1] = True
        last = stops.argmax(axis=1)
        rows = np.arange(len(last))
        points[at] = cost.cumsum(axis=1)[rows, last].mean(), quality[rows, last].mean()
    return points


def curves(
    states: Simulated, quality: np.ndarray, cost: np.ndarray, budgets: np.ndarray, fit: np.ndarray
) -> dict[str, np.ndarray]:
    """The measured points of every policy, tuned on the rows of `fit`."""
    known, other = states.take(fit), states.take(~fit)
    uncertain = np.cov((states.after - states.before)[fit], rowvar=False)

    def points(policy: CascadeRouting, covariance: np.ndarray | None) -> np.ndarray:
        told = replace(known, covariance=covariance)
        # A cascade in order cannot do without its first model, nor can anybody spend less than the cheapest choice.
        least = policy.frontier(told, quality[fit], cost[fit], lambdas=np.array([np.inf]))[0, 0]
        lambdas = policy.lambdas_for(told, quality[fit], cost[fit], budgets=budgets[budgets >= least])
        return policy.frontier(replace(other, covariance=covariance), quality[~fit], cost[~fit], lambdas=lambdas)

    levels = np.concatenate([[-math.inf], np.quantile(known.after, np.linspace(0.0, 1.0, 64)), [math.inf]])
    tried = threshold(known, quality[fit], cost[fit], levels)
    kept = [levels[max(np.flatnonzero(tried[:, 0] <= budget), default=0)] for budget in budgets]
    chains = ThresholdCascade(longest=3, levels=10).fit(known, quality[fit], cost[fit])
    ran = [replay(chains.using(chain), other, quality[~fit], cost[~fit]).point for chain in chains.frontier_]
    return {
        "routing": points(CascadeRouting(budget=1.0, climb=False), None),
        "threshold cascade": threshold(other, quality[~fit], cost[~fit], np.unique(kept)),
        "best threshold chain": np.array(ran),
        "optimal cascade": points(CascadeRouting(budget=1.0, check_last=True, ordered=True), uncertain),
        "cascade routing": points(CascadeRouting(budget=1.0, check_last=True), uncertain),
        "without uncertainty": points(CascadeRouting(budget=1.0, check_last=True), None),
    }


def areas(quality: np.ndarray, cost: np.ndarray, level: str, seed: int, count: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    fit = np.zeros(len(quality), dtype=bool)
    fit[rng.permutation(len(quality))[: len(quality) // 20]] = True
    order = np.argsort(cost[fit].mean(axis=0))
    quality, cost = quality[:, order], cost[:, order]
    states = simulated(quality, cost, level, rng)
    singles = np.column_stack([cost[~fit].mean(axis=0), quality[~fit].mean(axis=0)])
    low, high = singles[0, 0], singles[-1, 0]
    trained = cost[fit].mean(axis=0)
    # Denser where cheap models are.
    budgets = trained[0] + (trained[-1] - trained[0]) * np.linspace(0.0, 1.0, count) ** 2
    found = {"linear interpolation": float(area(hull(singles), low, high))}
    for name, points in curves(states, quality, cost, budgets, fit).items():
        found[name] = float(area(points, low, high, floor=singles[:, 1].min()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[3] / "shared" / "data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budgets", type=int, default=24)
    parser.add_argument("--noise", nargs="+", default=list(NOISE), choices=list(NOISE))
    parser.add_argument("--models", nargs="+", type=int, default=[3, 5, 11])
    args = parser.parse_args()
    file = args.data / "routerbench_zs.outcomes.parquet"
    if not file.is_file():
        print(f"{file} is absent: this benchmark needs that log")
        return
    table = OutcomeTable.from_parquet(file)
    print(f"area x 100, mean of {args.seeds} seeds, with the half-width of its 95 % interval\n")
    print("| models | noise | " + " | ".join(ROWS) + " | cascade routing less the better of both | s |")
    print("|---:|---|" + "---:|" * (len(ROWS) + 2))
    for size in args.models:
        some = table.select(NAMED[size]) if size in NAMED else table
        for level in args.noise:
            started = time.perf_counter()
            runs = [areas(some.quality, some.cost, level, seed, args.budgets) for seed in range(args.seeds)]
            each = {name: np.array([100.0 * run[name] for run in runs]) for name in ROWS}
            each["lead"] = each["cascade routing"] - np.maximum(each["routing"], each["optimal cascade"])
            cells = [f"{value.mean():.2f} ± {half_width(value):.2f}" for value in each.values()]
            took = time.perf_counter() - started
            print(f"| {some.quality.shape[1]} | {level} | " + " | ".join(cells) + f" | {took:.0f} |", flush=True)


def half_width(values: np.ndarray) -> float:
    """Of the 95 % interval of a mean; Student's t for the small samples that this is run with."""
    if len(values) < 2:
        return math.nan
    quantile = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}.get(len(values) - 1, 2.0)
    return quantile * float(values.std(ddof=1)) / math.sqrt(len(values))


if __name__ == "__main__":
    main()
