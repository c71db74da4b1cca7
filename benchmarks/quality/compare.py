"""Quality of every estimator and baseline on logged outcomes, with intervals: one command, one table, one figure.

    python benchmarks/quality/compare.py                                   # all of ../shared/data, five seeds
    python benchmarks/quality/compare.py my-log.jsonl other.parquet        # tables of your own
    python benchmarks/quality/compare.py --by task --only rb11 bfcl15      # each task judged by what the others taught
    python benchmarks/quality/compare.py --splits splits.jsonl             # which queries each split learns from and judges by
    python benchmarks/quality/compare.py --decisions peer.jsonl            # another router's choices on those splits, beside ours

Random 70/30 splits by query, or with `--by task` one for each task. One configuration, all defaults, on every pool. `--splits`
writes JSON lines with `pool`, `fold` (its name, such as "seed 0" or "task gsm8k"), `train` and `test` (query ids), `--decisions`
takes JSON lines with `pool`, `fold`, `query_id`, `model` and optionally `router` (its name): a choice for every test query of
each fold that it was run on; give the same tables, `--by` and `--seeds` to both. `-o` writes the table as Markdown, `--figure`
the figure (PNG or SVG, extra `report`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from _pools import Pool, Splits, pools, without_labels
from rich.console import Console
from rich.table import Table

from agentroute.estimators import Estimator, KNNEstimator, LogisticEstimator, MeanEstimator, MLPEstimator
from agentroute.evaluation import (
    ALL_BASELINES,
    ByTask,
    Evaluation,
    Fold,
    Interval,
    Replay,
    Row,
    bootstrap,
    evaluate,
    frontier,
    metrics,
)
from agentroute.outcomes import OutcomeTable
from agentroute.router import Router
from agentroute.types import Query

CONTENDERS: dict[str, tuple[Callable[[], Estimator], bool]] = {
    "kNN": (KNNEstimator, False),
    "kNN + task label": (KNNEstimator, True),
    "logistic router": (LogisticEstimator, False),
    "MLP router": (MLPEstimator, False),
    "mean router": (MeanEstimator, False),
}
"""Name → how to make the estimator, and whether it is shown the log's task labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One way to choose on one pool."""

    pool: str
    row: Row
    worst: float
    aiq_gain: Interval | None = None
    cost_at: tuple[float, float] | None = None
    apgr: Interval | None = None
    cpt: tuple[Interval, Interval] | None = None


def parts(pool: Pool, by: str, seeds: int) -> list[Fold]:
    """What every way to choose, ours or another's, learns from and is judged by; none where there are no two tasks."""
    if by == "query":
        return list(Splits(seeds=seeds).folds(pool.table))
    tasks = {query.task for query in pool.table.queries} - {None}
    return list(ByTask().folds(pool.table)) if len(tasks) > 1 else []


def contend(pool: Pool, folds: list[Fold], by: str) -> Iterator[Line]:
    """Every way to choose on one pool; all of them on the same splits."""
    # The heads stand below as routers, so that they are not fitted twice.
    light = tuple(name for name in ALL_BASELINES if name not in {"logistic", "MLP"})
    base = evaluate(constant(pool.table.models[0]), pool.table, split=Only(folds), baselines=light)
    for row in base.rows:
        if row.kind != "routed":
            yield Line(pool=pool.name, row=row, worst=worst(base, row.name))
    bare = [replace(fold, train=without_labels(fold.train), test=without_labels(fold.test)) for fold in folds]
    labels = any(query.labels for query in pool.table.queries) and by == "query"  # that of an unseen task teaches nothing
    for name, (make, labelled) in CONTENDERS.items():
        if labelled and not labels:
            continue
        if pool.table.embeddings is None and make is not MeanEstimator:
            continue  # its source has no prompts
        router = Router(pool.table.models, estimator=make())
        yield line(pool, name, evaluate(router, pool.table, split=Only(folds if labelled else bare), baselines=()))


def line(pool: Pool, name: str, found: Evaluation) -> Line:
    row = replace(found["routed"], name=name)
    replay = found.replay
    money = pair = {}
    if replay.estimate is not None and np.isfinite(replay.table.cost).all():
        money = spent(found)
    if replay.estimate is not None and len(replay.table.models) == 2:
        pair = paired(replay)
    return Line(pool=pool.name, row=row, worst=worst(found, "routed"), **money, **pair)


def spent(found: Evaluation) -> dict:
    """The curve's lead over the single models, and the share of the best single model's cost at 98 and 95 % of its quality.

    The latter at best: read off the hull of the rates as they turned out on the queries that they are judged by.
    """
    plane = frontier(found, resamples=500)
    points = [(point.cost.value, point.quality.value) for point in plane.points]
    cheapest = min((one.cost.value, one.quality.value) for one in plane.singles)
    single = next(one for one in plane.singles if one.model == plane.best_single)
    curve = metrics.hull(np.array([cheapest, *points]))
    shares = [float(metrics.cost_at(curve, level * single.quality.value)) / single.cost.value for level in (0.98, 0.95)]
    return {"aiq_gain": plane.aiq_gain, "cost_at": tuple(shares)}


def paired(replay: Replay) -> dict:
    """RouteLLM's metrics of a pool of two models; the strong one is the better one.

    Of each split by itself, for scores of two fits do not rank each other's queries; then the mean over the splits, weighed by
    their queries. A split of a resample in which the strong model is not better has none and is left out.
    """
    strong = int(replay.table.quality.mean(axis=0).argmax())
    score = replay.estimate.quality[:, strong] - replay.estimate.quality[:, 1 - strong]
    if np.isnan(score).any():
        return {}
    arrays = (score, replay.table.quality[:, 1 - strong], replay.table.quality[:, strong])
    splits = [np.flatnonzero(replay.fold == number) for number in np.unique(replay.fold)]

    def statistic(weights: np.ndarray) -> np.ndarray:
        total, mass = np.zeros((len(weights), 3)), np.zeros((len(weights), 3))
        for rows in splits:
            here, own = weights[:, rows], [part[rows] for part in arrays]
            found = [metrics.apgr(*own, weights=here), *(metrics.cpt(*own, level, weights=here) for level in (0.5, 0.8))]
            values = np.stack(found, axis=1)
            known = np.isfinite(values) * here.sum(axis=1, keepdims=True)
            total += known * np.nan_to_num(values)
            mass += known
        return np.divide(total, mass, out=np.full(mass.shape, np.nan), where=mass > 0)

    apgr, *cpt = bootstrap(statistic, len(score), groups=replay.groups)
    return {"apgr": apgr, "cpt": tuple(cpt)}


def constant(model: str) -> Callable[[Sequence[Query]], Sequence[str]]:
    return lambda queries: [model] * len(queries)


def worst(found: Evaluation, name: str) -> float:
    """The gain of the worst split, in points; NaN of a bound that is no choice."""
    return min((100 * fold.gains[name].value for fold in found.folds if name in fold.gains), default=math.nan)


def external(files: Sequence[Path], pool: Pool, folds: list[Fold]) -> Iterator[Line]:
    """Other routers' choices, on the same splits."""
    chosen: dict[str, dict[tuple[str, str], str]] = {}
    for file in files:
        for text in file.read_text().splitlines():
            one = json.loads(text)
            if one["pool"] == pool.name:
                chosen.setdefault(one.get("router", file.stem), {})[one["fold"], one["query_id"]] = one["model"]
    for name, picks in chosen.items():
        played = {fold for fold, _ in picks}
        own = [fold for fold in folds if fold.name in played]
        if not own:
            print(f"{pool.name}: without {name}: it chose for none of {', '.join(f.name for f in folds)}", file=sys.stderr)
            continue
        missing = [(fold.name, q.key()) for fold in own for q in fold.test.queries if (fold.name, q.key()) not in picks]
        if missing:
            print(f"{pool.name}: without {name}: {len(missing)} choices are missing, such as {missing[0]}", file=sys.stderr)
            continue
        # What it was not run on is no part of its figures: they are not to be read beside ours.
        shown = name if len(own) == len(folds) else f"{name} ({len(own)} of {len(folds)} splits)"
        asked = [replace(fold, test=named(fold)) for fold in own]
        yield line(pool, shown, evaluate(Told(picks), pool.table, split=Only(asked), baselines=()))


def named(fold: Fold) -> OutcomeTable:
    """The fold's test queries, each saying whose it is: it may be in the test part of several."""
    bare = without_labels(fold.test)
    return replace(bare, queries=tuple(replace(query, tags={"fold": fold.name}) for query in bare.queries))


@dataclass(frozen=True, slots=True)
class Only:
    """Splits that are made already."""

    given: list[Fold]

    def folds(self, table: OutcomeTable, /) -> Iterator[Fold]:  # noqa: ARG002 - it is parted
        """See `agentroute.evaluation.Split`."""
        return iter(self.given)


class Told:
    """Looks choices up by fold and query."""

    def __init__(self, picks: dict[tuple[str, str], str]) -> None:
        self.picks = picks

    def __call__(self, queries: Sequence[Query]) -> list[str]:
        """The ids of the chosen models."""
        return [self.picks[query.tags["fold"], query.key()] for query in queries]


def cells(one: Line) -> list[str]:
    row = one.row

    def points(found: Interval | None) -> str:
        if found is None or math.isnan(found.value):
            return ""
        value, low, high = (round(100 * end, 2) + 0.0 for end in (found.value, found.low, found.high))  # no minus before nothing
        return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"

    def plain(found: Interval | None) -> str:
        return "" if found is None or math.isnan(found.value) else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"

    shares = ["", ""] if one.cost_at is None else ["" if math.isnan(share) else f"{share:.3f}" for share in one.cost_at]
    pair = plain(one.apgr) if one.cpt is None else f"{plain(one.apgr)}, {one.cpt[0].value:.0%}, {one.cpt[1].value:.0%}"
    gain = "0" if row.name == "best single" else points(row.gain)
    return [
        one.pool, row.name, plain(row.quality), gain, "" if math.isnan(one.worst) else f"{one.worst:+.2f}",
        "" if row.kind == "bound" or math.isnan(row.gap.value) else f"{row.gap.value:+.0%}", *shares, points(one.aiq_gain), pair,
    ]  # fmt: skip


HEADER = [
    "pool",
    "way to choose",
    "quality",
    "dacc, points",
    "worst split",
    "gap",
    "c@98 at best",
    "c@95 at best",
    "dAIQ, points",
    "APGR, CPT50, CPT80",
]


def markdown(lines: Sequence[Line], origins: dict[str, str], command: str, how: str) -> str:
    text = [
        f"Made on {datetime.now(UTC).date().isoformat()} with `{command}`: {how}, 95 % intervals.",
        "",
        *(f"- **{name}**: {origin}" for name, origin in origins.items()),
        "",
        f"| {' | '.join(HEADER)} |",
        f"|{'---|' * len(HEADER)}",
        *(f"| {' | '.join(cells(one))} |" for one in lines),
    ]
    return "\n".join(text) + "\n"


MARKS = ("<!-- measured -->", "<!-- /measured -->")
"""Between them, a page that exists already takes the table; what stands around it stays."""


def write(file: Path, text: str) -> None:
    page = file.read_text() if file.exists() else ""
    if all(mark in page for mark in MARKS):
        before, rest = page.split(MARKS[0], 1)
        text = f"{before}{MARKS[0]}\n{text}{MARKS[1]}{rest.split(MARKS[1], 1)[1]}"
    file.write_text(text)


def telling(lines: Sequence[Line]) -> list[Line]:
    """Those that try to gain something, of the pools that have prompts to route by."""
    routed = {one.pool for one in lines if one.row.name == "kNN"}
    plain = {"random", "cheapest", "best single", "mean router"}
    return [one for one in lines if one.pool in routed and one.row.kind != "bound" and one.row.name not in plain]


def figure(lines: Sequence[Line], file: Path) -> None:
    """Gains over the best single model with their intervals, one panel for each pool."""
    import altair as alt
    import vl_convert as vlc

    shown = telling(lines)
    values = [
        {
            "pool": one.pool,
            "way": one.row.name,
            "gain": 100 * one.row.gain.value,
            "low": 100 * one.row.gain.low,
            "high": 100 * one.row.gain.high,
        }
        for one in shown
        if not math.isnan(one.row.gain.value)
    ]
    base = alt.Chart().encode(y=alt.Y("way:N", title=None, sort=[*dict.fromkeys(one.row.name for one in shown)]))
    layers = alt.layer(
        alt.Chart().mark_rule(color="#888").encode(x=alt.datum(0)),
        base.mark_rule().encode(x=alt.X("low:Q", title="points over the best single model"), x2="high:Q"),
        base.mark_point(filled=True, size=50, opacity=1).encode(x="gain:Q"),
        data=alt.Data(values=values),
    ).properties(width=210, height=alt.Step(16))
    spec = layers.facet(facet=alt.Facet("pool:N", title=None, sort=[*dict.fromkeys(one.pool for one in shown)]), columns=3)
    drawn = spec.resolve_scale(x="independent").configure(background="white").to_json()
    file.write_bytes(vlc.vegalite_to_png(drawn, scale=1.5)) if file.suffix == ".png" else file.write_text(
        vlc.vegalite_to_svg(drawn)
    )


def main(arguments: Sequence[str] | None = None) -> None:
    told = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    told.add_argument("tables", nargs="*", type=Path, help="tables of your own instead of the shared ones")
    told.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the shared tables")
    told.add_argument("--seeds", type=int, default=5)
    told.add_argument("--by", choices=("query", "task"), default="query", help="what is held out")
    told.add_argument("--only", nargs="+", default=None, metavar="POOL", help="only these pools")
    told.add_argument("--decisions", nargs="+", type=Path, default=[], metavar="FILE", help="other routers' choices")
    told.add_argument("--splits", type=Path, metavar="FILE", help="write the splits and stop")
    told.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the table as Markdown")
    told.add_argument("--figure", type=Path, metavar="FILE", help="write the figure")
    given = told.parse_args(arguments)
    console = Console(width=200)
    if not given.tables and not (given.data / "routerbench_zs.outcomes.parquet").exists():
        console.print(f"no outcome data in {given.data}: nothing to measure (name tables of your own, or --data FOLDER)")
        return
    chosen = (pool for pool in pools(given.data, given.tables) if given.only is None or pool.name in given.only)
    if given.splits is not None:
        write_splits(chosen, given.by, given.seeds, given.splits)
        return
    lines, origins = [], {}
    for pool in chosen:
        start = time.perf_counter()
        folds = parts(pool, given.by, given.seeds)
        if not folds:
            continue
        lines += [*contend(pool, folds, given.by), *external(given.decisions, pool, folds)]
        origins[pool.name] = f"{pool.origin}; {len(pool.table):,} queries, {len(pool.table.models)} models"
        print(f"{pool.name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    how = f"{given.seeds} random 70/30 splits by query" if given.by == "query" else "each task judged by what the others taught"
    view = Table(*HEADER, title=f"Quality, {how}, 95 % intervals")
    for place, one in enumerate(lines):
        view.add_row(*cells(one), end_section=place + 1 == len(lines) or lines[place + 1].pool != one.pool)
    console.print(view)
    command = f"python benchmarks/quality/compare.py {' '.join(sys.argv[1:] if arguments is None else arguments)}".strip()
    if given.output is not None:
        write(given.output, markdown(lines, origins, command, how))
    if given.figure is not None:
        figure(lines, given.figure)


def write_splits(chosen: Iterator[Pool], by: str, seeds: int, file: Path) -> None:
    """One line a pool and fold: the ids of the queries that are learned from and of those that are judged."""
    with file.open("w") as out:
        for pool in chosen:
            for fold in parts(pool, by, seeds):
                ids = {
                    name: [query.key() for query in part.queries] for name, part in (("train", fold.train), ("test", fold.test))
                }
                out.write(json.dumps({"pool": pool.name, "fold": fold.name, **ids}) + "\n")


if __name__ == "__main__":
    main()
