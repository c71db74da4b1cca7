"""Do cascades pay with what can be learned from a log? Routing, thresholds, ordered cascades and cascade routing, side by side.

    python benchmarks/cascades/learned.py                 # the log that ships, and ../shared/data where it is there
    python benchmarks/cascades/learned.py --splits 8      # more random halves; narrower intervals
    python benchmarks/cascades/learned.py --only ladder

Everything is learned on one half of the queries and judged on the other. A figure is the mean height of the curve of quality
over cost between the cheapest and the dearest single model (`metrics.area`, the AUC of Dekoninck et al. 2024, times 100); its
interval, and that of a difference, comes from a bootstrap over queries across all splits. `linear` is the best random mix of two
models. The escalation signals of the logged pair are judged by APGR (RouteLLM), .5 being a signal that knows nothing.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from rich.table import Table

from agentroute.cascades._answers import AnswerTable, agreements
from agentroute.cascades._planner import CascadeRouting
from agentroute.cascades._posthoc import PostHocEstimator
from agentroute.cascades._regressions import PostHocStates
from agentroute.cascades._threshold import ThresholdCascade
from agentroute.embedders import StaticEmbedder
from agentroute.estimators import KNNEstimator, MeanEstimator
from agentroute.evaluation.metrics import apgr, area, hull
from agentroute.outcomes import OutcomeTable
from agentroute.types import Estimate, Query

DATA = Path(__file__).parents[3] / "shared" / "data"
RB5 = (
    "mistralai/mistral-7b-chat",
    "mistralai/mixtral-8x7b-chat",
    "zero-one-ai/Yi-34B-Chat",
    "gpt-3.5-turbo-1106",
    "gpt-4-1106-preview",
)
POINTS = 12
RESAMPLES = 400
KINDS = {
    "routing": {"climb": False},
    "ordered cascade": {"ordered": True},
    "cascade routing": {},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Answers to learn from, and how they are to be called."""

    name: str
    answers: AnswerTable


def pools(only: list[str] | None) -> Iterator[Pool]:
    """The tables; those whose files are not there are skipped, and it is said."""
    with resources.as_file(resources.files("agentroute") / "data" / "ladder.jsonl.gz") as path:
        ladder = AnswerTable.from_jsonl(path, signals=("logprob", "length", "self_check"), score_cost="self_check_usd")
    free = replace(
        ladder,
        signals={name: ladder.signals[name] for name in ("logprob", "length")},
        score_cost=np.zeros_like(ladder.score_cost),
    )
    yield Pool(name="ladder", answers=free)
    yield Pool(name="ladder, self-checks", answers=ladder)
    # The same answers where the models are as far apart in price as those of a provider usually are.
    dearer = replace(free, table=replace(free.table, cost=free.table.cost * [1.0, 4.0, 16.0]))
    yield Pool(name="ladder, prices x1, x4, x16", answers=dearer)
    if not (DATA / "routerbench_zs.outcomes.parquet").exists():
        print(f"{DATA} is not there: RouterBench and the logged pair are skipped")
        return
    if only is None or any(name.startswith("routerbench") for name in only):
        whole = routerbench()
        yield Pool(name="routerbench, 5 models", answers=whole.select(RB5))
        yield Pool(name="routerbench, 5 models, no answers compared", answers=replace(whole.select(RB5), agreement=None))
        yield Pool(name="routerbench, 11 models", answers=whole)


def routerbench() -> AnswerTable:
    """RouterBench's three tasks with answers; nothing but their length and whether they agree is known of them."""
    import pyarrow.parquet as pq

    table = OutcomeTable.from_parquet(DATA / "routerbench_zs.outcomes.parquet")
    row = {query.id: i for i, query in enumerate(table.queries)}
    column = {model: j for j, model in enumerate(table.models)}
    texts = np.full(table.quality.shape, None, dtype=object)
    for one in pq.read_table(DATA / "routerbench_zs.responses.parquet").to_pylist():
        texts[row[one["query_id"]], column[one["model"]]] = one["response"]
    length = np.array([[np.nan if text is None else np.log1p(len(text)) for text in line] for line in texts])
    return AnswerTable(table=table, signals={"length": length}, agreement=agreements(texts))


def embedded(answers: AnswerTable) -> AnswerTable:
    embedder = StaticEmbedder()
    return replace(answers, table=answers.table.embedded(embedder.embed, embedder.fingerprint))


def expected(estimator: KNNEstimator, answers: AnswerTable) -> Estimate:
    table = answers.table
    pairs = zip(table.queries, table.embeddings, strict=True)
    return estimator.predict([replace(query, embedding=vector, fingerprint=table.fingerprint) for query, vector in pairs])


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Operating points on n held-out queries: USD and quality of each, float64 [k, n]."""

    spent: np.ndarray
    gained: np.ndarray

    @classmethod
    def of(cls, runs: list[tuple[np.ndarray, np.ndarray]], quality: np.ndarray, cost: np.ndarray) -> Curve:
        """From who was called and whose answer was taken, at each operating point."""
        rows = np.arange(len(quality))
        return cls(
            spent=np.stack([(called * cost).sum(axis=1) for called, _ in runs]),
            gained=np.stack([quality[rows, answer] for _, answer in runs]),
        )

    def points(self, weights: np.ndarray) -> np.ndarray:
        """float64 [b, k, 2] for weights float64 [b, n]."""
        mass = weights.sum(axis=1, keepdims=True)
        return np.stack([weights @ self.spent.T / mass, weights @ self.gained.T / mass], axis=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One split: the curves, the single models', and whose queries they are."""

    curves: dict[str, Curve]
    singles: Curve
    rows: np.ndarray
    covariance: str


def split(answers: AnswerTable, seed: int) -> Judged:
    """Learns on one half, and runs everything on the other."""
    order = np.random.default_rng(seed).permutation(len(answers))
    half = len(order) // 2
    rows = np.sort(order[half:])
    train, test = answers.take(np.sort(order[:half])), answers.take(rows)
    router = KNNEstimator().fit(train.table)
    exante = router.cross_predict(train.table, np.arange(len(train)))
    posthoc = PostHocEstimator().fit(train, exante)
    learned, states = posthoc.fitted_states(), posthoc.states(test, expected(router, test))
    curves = {}
    fitted, judged = (part.select(posthoc.models_) for part in (train, test))
    for name, options in KINDS.items():
        # A router does not look at answers, and does not pay for it.
        looks = name != "routing"
        known, new = (states_with(one, part, looks=looks) for one, part in ((learned, fitted), (states, judged)))
        cost = judged.table.cost + judged.score_cost * looks
        low, high = np.sort((fitted.table.cost + fitted.score_cost * looks).mean(axis=0))[[0, -1]]
        policy = CascadeRouting(**options, refine=False)
        paid = fitted.table.cost + fitted.score_cost * looks
        budgets = np.linspace(low, high, POINTS + 1)[1:]
        rates = policy.lambdas_for(known, fitted.table.quality, paid, budgets=budgets)[:, 0]
        rates = np.unique([*rates, 0.0, 1e3 / low])  # from quality alone to the cheapest model
        runs = [CascadeRouting(**options, willingness_to_pay=1 / rate if rate else np.inf).run(new) for rate in rates]
        curves[name] = Curve.of(runs, judged.table.quality, cost)
    cost, paid = judged.table.cost + judged.score_cost, fitted.table.cost + fitted.score_cost
    grid = ThresholdCascade().fit(learned, fitted.table.quality, paid)
    step = max(1, len(grid.frontier_) // (3 * POINTS))
    chosen = [*grid.frontier_[::step], grid.frontier_[-1]]
    curves["threshold cascade"] = Curve.of([grid.using(one).run(states) for one in chosen], judged.table.quality, cost)
    singles = Curve(spent=judged.table.cost.T, gained=judged.table.quality.T)
    return Judged(curves=curves, singles=singles, rows=rows, covariance=posthoc.covariance_)


def states_with(states: PostHocStates, answers: AnswerTable, *, looks: bool) -> PostHocStates:
    """The estimates with the cost of scoring or without."""
    return states if looks else replace(states, cost=states.cost - answers.score_cost.mean(axis=0))


def heights(found: list[Judged], weights: np.ndarray) -> dict[str, np.ndarray]:
    """Name → float64 [b], the mean over splits of the area under each curve, and of the best single model's quality."""
    parts: dict[str, list[np.ndarray]] = {}
    for one in found:
        counted = weights[:, one.rows]
        singles = one.singles.points(counted)
        low, high = singles[..., 0].min(axis=1), singles[..., 0].max(axis=1)
        floor = np.take_along_axis(singles[..., 1], singles[..., 0].argmin(axis=1)[:, None], axis=1)[:, 0]
        linear = [area(hull(points), a, b) for points, a, b in zip(singles, low, high, strict=True)]
        parts.setdefault("linear", []).append(np.array(linear))
        for name, curve in one.curves.items():
            parts.setdefault(name, []).append(area(curve.points(counted), low, high, floor=floor))
        parts.setdefault("best single", []).append(singles[..., 1].max(axis=1))
        parts.setdefault("best of cascade routing", []).append(one.curves["cascade routing"].points(counted)[..., 1].max(axis=1))
    return {name: np.mean(values, axis=0) for name, values in parts.items()}


def interval(values: np.ndarray, *, sign: bool = False) -> str:
    """The first value with the interval of the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975]) * 100
    return f"{values[0] * 100:{'+' if sign else ''}.2f} [{low:.2f}, {high:.2f}]"


def compare(pool: Pool, splits: int, console: Console) -> None:
    start = time.perf_counter()
    answers = embedded(pool.answers)
    found = [split(answers, seed) for seed in range(splits)]
    rng = np.random.default_rng(0)
    n = len(answers)
    weights = np.concatenate([np.ones((1, n)), rng.multinomial(n, np.full(n, 1 / n), RESAMPLES)])
    values = heights(found, weights)
    table = Table(title=f"{pool.name}: {n} queries, {len(answers.models)} models, {splits} splits")
    for head in ("", "AUC x 100", "over linear", "over routing"):
        table.add_column(head)
    for name in ("linear", "routing", "threshold cascade", "ordered cascade", "cascade routing"):
        over = [interval(values[name] - values[base], sign=True) if base != name else "" for base in ("linear", "routing")]
        table.add_row(name, interval(values[name]), *over)
    table.add_section()
    table.add_row("best single model, quality", interval(values["best single"]))
    table.add_row(
        "cascade routing at any price, quality",
        interval(values["best of cascade routing"]),
        interval(values["best of cascade routing"] - values["best single"], sign=True) + " over it",
    )
    console.print(table)
    gain = np.quantile((values["cascade routing"] - values["routing"])[1:], [0.025, 0.975])
    verdict = "pays" if gain[0] > 0 else "costs more than it brings" if gain[1] < 0 else "makes no difference that can be told"
    told = ", ".join(one.covariance for one in found)
    console.print(f"looking at answers {verdict} here; covariances: {told}; {time.perf_counter() - start:.0f} s\n")


def pair(splits: int, console: Console) -> None:
    """The logged 8B and GPT-5: which signal tells who needs the large one."""
    import pyarrow.parquet as pq

    rows = pq.read_table(DATA / "cascade_8b_gpt5.parquet").to_pylist()
    task = np.array([row["task"] for row in rows])
    score = [[row["slm2_score"], row["llm_score"]] for row in rows]
    outcomes = OutcomeTable(
        queries=tuple(Query(text="", id=row["query_id"], withheld=True) for row in rows),
        models=("llama-3.1-8b", "gpt-5"),
        quality=np.clip(np.array(score, dtype=np.float64), 0.0, 1.0),
        cost=np.tile([0.05, 1.0], (len(rows), 1)),
    )
    columns = {
        "self-verification": [row["slm_selfverify_conf"] for row in rows],
        "logprob": [row["slm2_avg_logp"] for row in rows],
        "entropy": [row["slm2_avg_entropy_nats"] for row in rows],
        "length": [np.log1p(len(row["slm2_answer"] or "")) for row in rows],
        "second answer": [overlap(row["slm_answer"], row["slm2_answer"]) for row in rows],
    }
    signals = {name: np.column_stack([np.array(v, np.float64), np.full(len(rows), np.nan)]) for name, v in columns.items()}
    sets = {name: [name] for name in columns} | {"all but the second answer": list(columns)[:4], "all": list(columns)}
    table = Table(title=f"escalating from an 8B to GPT-5: APGR of the expected gain, {splits} halves (2.5 to 97.5 % of them)")
    for head in ("signals", *dict.fromkeys(task.tolist())):
        table.add_column(head)
    for name, chosen in sets.items():
        cells = []
        for kind in dict.fromkeys(task.tolist()):
            answers = AnswerTable(table=outcomes, signals={one: signals[one] for one in chosen}).take(task == kind)
            found = [escalation(answers, seed) for seed in range(splits)]
            low, high = np.quantile(found, [0.025, 0.975])
            cells.append(f"{np.mean(found):.3f} [{low:.2f}, {high:.2f}]")
        table.add_row(name, *cells)
    console.print(table)


def overlap(one: str | None, other: str | None) -> float:
    """Share of the words that two answers have in common."""
    first, second = (set((text or "").casefold().split()) for text in (one, other))
    return len(first & second) / max(len(first | second), 1)


def escalation(answers: AnswerTable, seed: int) -> float:
    train, test = answers.split(0.5, seed=seed)
    means = MeanEstimator().fit(train.table)
    exante = means.cross_predict(train.table, np.arange(len(train)))
    posthoc = PostHocEstimator(covariance="none", seed=seed).fit(train, exante)
    quality = posthoc.states(test, means.predict(test.table.queries)).quality(1, np.arange(len(test)))
    return float(apgr(quality[:, 1] - quality[:, 0], test.table.quality[:, 0], test.table.quality[:, 1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=3, help="random halves")
    parser.add_argument("--only", nargs="+", help="beginnings of the names of pools: ladder, routerbench, pair")
    options = parser.parse_args()
    console = Console(width=130)

    def wanted(name: str) -> bool:
        return options.only is None or any(name.startswith(one) for one in options.only)

    for pool in pools(options.only):
        if wanted(pool.name):
            compare(pool, options.splits, console)
    if wanted("pair") and (DATA / "cascade_8b_gpt5.parquet").exists():
        pair(4 * options.splits, console)


if __name__ == "__main__":
    main()
