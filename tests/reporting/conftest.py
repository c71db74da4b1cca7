"""Diagnoses made by hand: consistent in shape and plausible in size, so that a report can be looked at and checked."""

from __future__ import annotations

import math
import os
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from agentroute.evaluation import (
    Cascade,
    Degeneracy,
    Evaluation,
    Finding,
    Frontier,
    FrontierPoint,
    Gaps,
    Interval,
    ModelCalibration,
    RoutingDiagnosis,
    Row,
    Shift,
    Single,
    TaskRow,
    Vote,
    diagnose,
)
from agentroute.teams import NONE, Mode, Role, Team, TeamRun
from agentroute.testing import planted_table
from agentroute.types import ModelCard, Price, Query

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync"
).split()
UNKNOWN = Interval(value=math.nan, low=math.nan, high=math.nan)


def around(value, half):
    return Interval(value=value, low=value - half, high=value + half)


def _frontier(models, quality, cost, rates):
    """A curve from the cheapest model to beyond the best one, by rising willingness to pay."""
    best = int(np.argmax(quality))
    singles = tuple(
        Single(
            model=model,
            quality=around(quality[j], 0.02),
            cost=around(cost[j], cost[j] * 0.02),
            latency=around(0.4 * (j + 1), 0.05),
            on_hull=bool(quality[j] >= quality[: j + 1].max()),
            unique_wins=around(0.05 / (j + 1), 0.01),
        )
        for j, model in enumerate(models)
    )
    points = []
    for place, t in enumerate(np.linspace(0, 1, rates).tolist()):
        mean = quality[0] + (quality[best] + 0.02 - quality[0]) * (1 - (1 - t) ** 1.6)
        money = cost[0] * (cost[best] * 0.9 / cost[0]) ** t
        weights = np.exp(-((np.arange(len(models)) - t * best) ** 2))
        points.append(
            FrontierPoint(
                willingness_to_pay=math.inf if place == rates - 1 else 0.0005 * 1.5**place,
                quality=around(mean, 0.015),
                cost=around(money, money * 0.03),
                gain=around(mean - quality[best], 0.012),
                saving=around(1 - money / cost[best], 0.02),
                over_mix=around(0.03 * t - 0.005, 0.01),
                shares=dict(zip(models, (weights / weights.sum()).tolist(), strict=True)),
            )
        )
    kept = [single for single in singles if single.on_hull]
    return Frontier(
        singles=singles,
        hull=tuple((single.cost.value, single.quality.value) for single in kept),
        points=tuple(points),
        oracle=tuple((point.cost.value * 0.8, min(point.quality.value + 0.08, 1.0)) for point in points),
        best_single=models[best],
        aiq=around(0.71, 0.01),
        aiq_singles=around(0.68, 0.01),
        aiq_gain=around(0.03, 0.006),
    )


def _evaluation(models, quality, frontier, queries, shares):
    top = float(quality.max())
    said = (
        ("random", "baseline", float(quality.mean()), 0.5),
        ("cheapest", "baseline", float(quality[0]), 0.1),
        ("strongest", "baseline", top - 0.01, 1.2),
        ("best single", "baseline", top, 1.0),
        ("task lookup", "baseline", top + 0.011, 0.8),
        ("plain kNN", "baseline", top - 0.02, 0.8),
        ("logistic", "baseline", top + 0.008, 0.7),
        ("routed", "routed", top + 0.02, 0.9),
        ("oracle", "bound", min(top + 0.1, 1.0), 0.6),
    )
    money = 0.0 if frontier is None else max(single.cost.value for single in frontier.singles)
    rows = tuple(
        Row(
            name=name,
            kind=kind,
            quality=around(mean, 0.018),
            cost=UNKNOWN if frontier is None else around(money * share, money * 0.02),
            latency=around(1.2 * share, 0.05),
            gain=around(0.0, 0.0) if name == "best single" else around(mean - top, 0.012),
            gap=around((mean - top) / 0.1, 0.1),
            shares={} if name == "random" else shares,
        )
        for name, kind, mean, share in said
    )
    return Evaluation(
        rows=rows,
        queries=queries,
        coverage=0.93,
        cheapest=models[0],
        best_single=models[int(np.argmax(quality))],
        notes=("MLP is left out: scikit-learn is not installed",),
    )


def _calibration(model, j, costs):
    centres = np.linspace(0.1, 0.9, 7)
    return ModelCalibration(
        model=model,
        auroc=around(0.78 - 0.03 * j, 0.02),
        auroc_within=around(0.61, 0.03) if j else UNKNOWN,
        brier=around(0.18, 0.01),
        ece=around(0.04, 0.01),
        r2=around(0.21 - 0.05 * j, 0.03),
        r2_within=around(0.05, 0.03),
        curve=tuple((x, min(max(x + 0.04 * math.sin(5 * x + j), 0.0), 1.0), 1 / 7) for x in centres.tolist()),
        regime="medium noise" if j % 3 else "no signal",
        cost_ratio=around(1.04, 0.03) if costs else UNKNOWN,
    )


def _task(task, k, models, quality):
    here = np.clip(quality + 0.25 * np.sin(1.7 * k + np.arange(len(models))), 0, 1)
    best, routed = float(here[int(np.argmax(quality))]), float(here.max()) * 0.99
    return TaskRow(
        task=task,
        queries=max(400 - 6 * k, 12),
        best_single=best,
        routed=routed,
        oracle=min(routed + 0.05, 1.0),
        gain=around(routed - best, 0.03),
        best_model=models[int(np.argmax(here))],
        quality=dict(zip(models, here.tolist(), strict=True)),
    )


def planted_diagnosis(
    models=("small", "large"), tasks=("sums", "capitals"), *, rates=12, costs=True, shifted=False, queries=1840, recommended=None
) -> RoutingDiagnosis:
    """A diagnosis whose models are dearer and better the later they come.

    Args:
        models: Names; they may be hostile.
        tasks: Names; they may be hostile, and there may be none.
        rates: Points on the router's curve.
        costs: Whether costs are known.
        shifted: Whether there is a second window, in which the last model has changed.
        queries: How many were replayed.
        recommended: The place of the recommended point on the router's curve.
    """
    quality = 0.45 + 0.4 * (1 - 0.6 ** np.arange(len(models))) - 0.03 * (np.arange(len(models)) % 2 == 0) * (len(models) > 2)
    cost = 0.0001 * 2.6 ** np.arange(len(models))
    frontier = _frontier(models, quality, cost, rates) if costs else None
    shares = frontier.points[-1].shares if frontier else dict.fromkeys(models, 1 / len(models))
    top = max(shares, key=shares.__getitem__)
    pair = (models[0], models[-1])
    shifts = tuple(
        Shift(
            model=model,
            before=float(quality[j]),
            after=float(quality[j]) - (0.2 if j == len(models) - 1 else 0.01),
            change=around(-0.2 if j == len(models) - 1 else -0.01, 0.03),
            relative=around(-0.19 if j == len(models) - 1 else 0.004, 0.03),
            p_value=0.0001 if j == len(models) - 1 else 0.8,
            shifted=j == len(models) - 1,
        )
        for j, model in enumerate(models)
    )
    findings = [Finding(kind="task identity", text="A table from task to model does as well: the gain is task identity.")]
    if shifted:
        findings.insert(0, Finding(kind="skill shift", text=f"{models[-1]} lost 0.200 in the holdout.", model=models[-1]))
    singles = tuple(
        Single(
            model=model,
            quality=around(float(quality[j]), 0.02),
            cost=around(float(cost[j]), 0.0) if costs else UNKNOWN,
            latency=around(0.4 * (j + 1), 0.05),
            on_hull=costs,
            unique_wins=around(0.05, 0.01),
        )
        for j, model in enumerate(models)
    )
    return RoutingDiagnosis(
        verdict="route",
        headline=f"Route: {queries:,} queries show a gain of +0.020 over always {models[-1]}, and 10 % less cost.",
        reasons=(
            f"The router is better than always {models[-1]} by +0.020 (95 % interval +0.008 to +0.032).",
            "It does so at 90 % of the cost.",
            "This many queries would show any gain from 0.014 on.",
        ),
        findings=tuple(findings),
        evaluation=_evaluation(models, quality, frontier, queries, shares),
        frontier=frontier,
        singles=tuple(sorted(singles, key=lambda single: -single.quality.value)),
        top_two=(pair, around(0.83, 0.02)),
        stable_oracle=None,
        luck_floor=0.44 if shifted else None,
        gaps=Gaps(
            total=around(0.08, 0.01),
            policy=around(0.02, 0.008),
            classifier=around(0.06, 0.01),
            noise=None,
            ceiling=around(0.81, 0.02),
        ),
        calibration=tuple(_calibration(model, j, costs) for j, model in enumerate(models)),
        lookup_is_enough=True,
        lookup_by="task",
        shifts=shifts if shifted else (),
        lost_lead=models[-1] if shifted else None,
        degeneracy=Degeneracy(model=top, share=around(shares[top], 0.02), entropy=around(1.2, 0.05), always=False),
        votes=(
            Vote(models=models[:3], weighted=True, quality=around(0.82, 0.02), cost=around(0.004, 0.0), gain=around(0.01, 0.012)),
        )
        if len(models) > 2
        else (),
        cascades=tuple(
            Cascade(
                models=pair,
                judge_error=error,
                quality=around(0.83 - error, 0.02),
                cost=around(0.001, 0.0001),
                gain=around(0.01 - error, 0.012),
                saving=around(0.3 - error, 0.02),
            )
            for error in (0.0, 0.1, 0.2)
        )
        if costs
        else (),
        tasks=tuple(_task(task, k, models, quality) for k, task in enumerate(tasks)),
        detectable_gain=0.014,
        queries_needed=None,
        dependence=around(0.31, 0.03),
        settings={"folds": "5", "resamples": "2,000", "seed": "0", "embedder": "hash 1, 32 dimensions"},
        recommended=None if recommended is None or frontier is None else frontier.points[recommended],
    )


@pytest.fixture(scope="session")
def planted():
    """The factory above: test modules cannot import one another."""
    return planted_diagnosis


@pytest.fixture(scope="session")
def real():
    """A diagnosis of a planted log."""
    return diagnose(planted_table(300), resamples=200)


class Reader(HTMLParser):
    """Tags, attributes and the visible text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.hidden = [], [], 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.hidden += tag in {"script", "style"}

    def handle_endtag(self, tag):
        self.hidden -= tag in {"script", "style"}

    def handle_data(self, data):
        if not self.hidden and data.strip():
            self.text.append(" ".join(data.split()))

    def find(self, tag, **attrs):
        return [found for name, found in self.tags if name == tag and attrs.items() <= found.items()]


@pytest.fixture(scope="session")
def reader():
    """The class above."""
    return Reader


def planted_runs(count=480, *, roles=("planner", "coder", "critic"), models=("small", "large")):
    """Runs whose models were drawn by lot: a large coder succeeds in 88 % of them, a small one in 27 %, others do not matter."""
    rng = np.random.default_rng(1)
    runs = []
    for n in range(count):
        given = [models[rng.integers(2)], models[rng.integers(2)], (*models, NONE)[rng.integers(3)]]
        right = rng.random() < (0.88 if given[1] == models[1] else 0.27)
        cost = sum(0.001 * (10 if model == models[1] else 1) for model in given if model != NONE)
        runs.append(
            TeamRun(
                id=f"run {n}",
                query=Query(text="", id=f"task {n}"),
                models=dict(zip(roles, given, strict=True)),
                success=float(right),
                cost=cost,
                propensity=1 / 12,
            )
        )
    return runs


@pytest.fixture(scope="session")
def team_runs():
    """The factory above."""
    return planted_runs


@pytest.fixture(scope="session")
def team_of_three():
    """The team of these runs and its models' cards, with prices at which a run costs what the runs say."""
    team = Team(roles=(Role(name="planner"), Role(name="coder"), Role(name="critic", optional=True)), modes=(Mode(name="chain"),))
    prices = {"small": 0.001 / 700e-6, "large": 0.01 / 700e-6}
    return team, [ModelCard(id=name, price=Price(input=price, output=price)) for name, price in prices.items()]


# Not for the whole session: while Playwright is open its event loop runs, and no asynchronous test of another file can.
@pytest.fixture(scope="module")
def chromium():
    """A browser; without one the tests that need it are skipped, and fail where all tests are run."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        reason = "no browser: apt-get install --yes chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()
