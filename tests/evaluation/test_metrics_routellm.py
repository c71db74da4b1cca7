"""APGR, CPT and AIQ on real outcomes, against a computation from the papers' definitions in exact fractions.

RouteLLM (arXiv:2406.18665, section 3): PGR of a routed choice = (its quality - weak) / (strong - weak); APGR = the area under PGR
over the share of strong calls; CPT(x %) = the least share whose PGR is x % or more. RouterBench (arXiv:2403.12031, section 3):
AIQ = the area under a router's non-decreasing convex hull over a range of costs, by the width of the range.

The reference knows nothing of the metrics' code: plain Python, one step of the curve after the other, every chord of the hull.
"""

import math
import zlib
from fractions import Fraction
from itertools import groupby, pairwise, permutations
from pathlib import Path

import numpy as np
import pytest

from agentroute.evaluation import metrics

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
WEAK, STRONG = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
SCORES = {
    "short first": lambda prompt: -len(prompt),
    "long first": len,
    "a hash": lambda prompt: zlib.crc32(prompt.encode()),
    "words in tens": lambda prompt: len(prompt.split()) // 10,
    "digits, ten and more alike": lambda prompt: min(sum(map(str.isdigit, prompt)), 10) / 10,
    "no idea": lambda _: 0.5,
}
POOLS = ["gsm8k", "mmlu", "mtbench"]


@pytest.fixture(scope="module", params=POOLS)
def pool(request):
    """Prompts, and quality and cost [n, 2] of the weak and the strong model; cost is `None` where it is not known."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow reads the tables: install agentroute-sdk[parquet]")
    file = DATA / f"routellm_{'mtbench' if request.param == 'mtbench' else 'gsm8k_mmlu'}.outcomes.parquet"
    if not file.is_file():
        pytest.skip(f"the RouteLLM outcomes are not beside this repository: there is no shared/data/{file.name}")
    table = parquet.read_table(file, columns=["task", "query_id", "prompt", "model", "score", "cost_usd"])
    answers = {}
    for row in table.to_pylist():
        if request.param == "mtbench" or (row["task"] == "gsm8k") == (request.param == "gsm8k"):
            answers.setdefault(row["query_id"], {})[row["model"]] = row
    kept = [answers[key] for key in sorted(answers)]
    quality, cost = ([[both[model][part] for model in (WEAK, STRONG)] for both in kept] for part in ("score", "cost_usd"))
    return [both[WEAK]["prompt"] for both in kept], np.array(quality), None if cost[0][0] is None else np.array(cost)


def total(values):
    """The exact sum: floats are fractions of powers of two."""
    parts = [value.as_integer_ratio() for value in values.tolist()]
    scale = max(below for _, below in parts)
    return Fraction(sum(above * (scale // below) for above, below in parts), scale)


def gained(score, quality):
    """How much quality 0, 1, … n strong calls add in sum, those of highest score first; calls of equal score add alike."""
    order = sorted(range(len(score)), key=lambda i: score[i], reverse=True)
    steps = [Fraction(0)]
    for _, tied in groupby(order, key=lambda i: score[i]):
        rows = list(tied)
        start, each = steps[-1], sum(Fraction(quality[i][1]) - Fraction(quality[i][0]) for i in rows) / len(rows)
        steps.extend(start + each * calls for calls in range(1, len(rows) + 1))
    return steps


@pytest.mark.parametrize("name", SCORES)
def test_apgr_and_cpt(pool, name):
    prompts, quality, _ = pool
    score = [SCORES[name](prompt) for prompt in prompts]
    steps = gained(score, quality.tolist())
    gap, n = steps[-1], len(score)
    assert gap == total(quality[:, 1]) - total(quality[:, 0]) > 0
    # Trapezoids of width 1/n.
    area = (sum(steps) - (steps[0] + steps[-1]) / 2) / gap / n
    weak, strong = quality.T
    assert float(metrics.apgr(score, weak, strong)) == pytest.approx(float(area), abs=1e-9)
    for level in (Fraction(1, 5), Fraction(1, 2), Fraction(4, 5)):
        calls = next(calls for calls, found in enumerate(steps) if found >= level * gap)
        assert float(metrics.cpt(score, weak, strong, float(level))) == pytest.approx(calls / n, abs=1e-9)


def test_apgr_and_cpt_of_a_resample(pool):
    prompts, quality, _ = pool
    prompts, quality = prompts[:1500], quality[:1500]
    drawn = np.random.default_rng(0).integers(0, len(prompts), len(prompts))
    weights = np.bincount(drawn, minlength=len(prompts))
    score = np.array([SCORES["words in tens"](prompt) for prompt in prompts])
    steps = gained(score[drawn].tolist(), quality[drawn].tolist())
    area = (sum(steps) - (steps[0] + steps[-1]) / 2) / steps[-1] / len(drawn)
    calls = next(calls for calls, found in enumerate(steps) if found >= steps[-1] / 2)
    [found] = metrics.apgr(score, *quality.T, weights=weights[None])
    assert float(found) == pytest.approx(float(area), abs=1e-9)
    [found] = metrics.cpt(score, *quality.T, 0.5, weights=weights[None])
    assert float(found) == pytest.approx(calls / len(drawn), abs=1e-9)


def best_mix(points, cost):
    """The highest of all points that cost no more, and of all chords between a cheaper and a dearer point."""
    heights = [quality for spent, quality in points if spent <= cost]
    for (c1, q1), (c2, q2) in permutations(points, 2):
        if c1 < c2 and c1 <= cost <= c2:
            heights.append(q1 + (q2 - q1) * (cost - c1) / (c2 - c1))
    return max(heights)


def hull_area(points, low, high):
    """∫ and ∫ over log cost of the hull's height, each by the width of its range; its kinks are at the points."""
    kinks = sorted({low, high, *(cost for cost, _ in points if low < cost < high)})
    heights = [best_mix(points, cost) for cost in kinks]
    linear, by_log = Fraction(0), 0.0
    for (a, b), (start, end) in zip(pairwise(kinks), pairwise(heights), strict=True):
        linear += (b - a) * (start + end) / 2
        # ∫ (start + slope (c - a)) dc/c
        slope = (end - start) / (b - a)
        by_log += float(start - slope * a) * math.log(b / a) + float(slope * (b - a))
    return float(linear / (high - low)), by_log / math.log(high / low)


@pytest.mark.parametrize("name", SCORES)
def test_aiq(pool, name):
    prompts, quality, cost = pool
    if cost is None:
        # Nothing was billed: a strong call counts as 25 weak ones.
        cost = np.tile([0.04, 1.0], (len(prompts), 1))
    n = len(prompts)
    order = sorted(range(n), key=lambda i: SCORES[name](prompts[i]), reverse=True)
    picks = np.zeros((9, n), np.int64)
    for k, pick in enumerate(picks):
        pick[order[: k * n // 8]] = 1
    parts = [[total(np.take_along_axis(part, pick[:, None], axis=1)[:, 0]) / n for part in (cost, quality)] for pick in picks]
    low, high = sorted(total(cost[:, model]) / n for model in (0, 1))
    linear, by_log = hull_area(parts, low, high)
    points = np.array([[metrics.mean(metrics.realised(part, pick)) for part in (cost, quality)] for pick in picks])
    ends = metrics.mean(cost).min(), metrics.mean(cost).max()
    assert float(metrics.aiq(points, *ends)) == pytest.approx(linear, abs=1e-9)
    assert float(metrics.aiq(points, *ends, log=True)) == pytest.approx(by_log, abs=1e-9)
