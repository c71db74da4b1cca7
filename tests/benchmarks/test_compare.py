"""The quality benchmark on a small table of a user's own, against figures computed by hand."""

import importlib.util
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from agentroute.estimators import MeanEstimator
from agentroute.evaluation import Fold, KFold, evaluate
from agentroute.outcomes import OutcomeTable
from agentroute.router import Router
from agentroute.types import Query

FOLDER = Path(__file__).parents[2] / "benchmarks/quality"
N = 120
COST = {"small": 0.001, "large": 0.004}


@pytest.fixture(scope="module")
def compare():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        patch.syspath_prepend(str(FOLDER))
        spec = importlib.util.spec_from_file_location("quality_compare", FOLDER / "compare.py")
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "quality_compare", module)  # dataclasses look their module up
        spec.loader.exec_module(module)
        # The trained heads have tests of their own.
        module.CONTENDERS = {name: way for name, way in module.CONTENDERS.items() if name[:3] in {"kNN", "mea"}}
        yield module
        patch.delitem(sys.modules, "_pools")


def prompt(i):
    return f"question number {i}"  # nothing of its kind, which the task says


@pytest.fixture(scope="module")
def scores():
    """The large model is better, save on one kind of three."""
    rng = np.random.default_rng(3)
    kind = np.arange(N)[:, None] % 3
    return (rng.random((N, 2)) < np.where(kind == 0, [0.9, 0.3], [0.3, 0.9])).astype(float)


@pytest.fixture(scope="module")
def log(scores, tmp_path_factory):
    """A log as people have it: prompts, no ids of queries."""
    file = tmp_path_factory.mktemp("quality") / "own.jsonl"
    file.write_text(
        "\n".join(
            json.dumps({"prompt": prompt(i), "model": model, "score": scores[i, j], "cost_usd": COST[model], "task": f"t{i % 3}"})
            for i in range(N)
            for j, model in enumerate(COST)
        )
    )
    return file


def read(page):
    """Way to choose → its cells by their column's name."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.read_text().splitlines() if line.startswith("| ")]
    return {line[1]: dict(zip(lines[0], line, strict=True)) for line in lines[1:]}


def drawn(seed):
    return set(np.random.default_rng(100 + seed).permutation(N)[:36].tolist())


def once(values):
    """The mean over queries of the mean over the splits that judged them; values: (query, value)."""
    found = {}
    for i, value in values:
        found.setdefault(i, []).append(value)
    return np.mean([np.mean(one) for one in found.values()])


def write(file, choices):
    file.write_text("\n".join(json.dumps({"pool": "own", **choice}) for choice in choices))
    return file


def ids(splits):
    return {one["fold"]: one for one in map(json.loads, splits.read_text().splitlines())}


@pytest.fixture(scope="module")
def page(compare, log, tmp_path_factory):
    """The table, with two peers: one that changes its mind from split to split, one that saw the second split only."""
    folder = tmp_path_factory.mktemp("page")
    compare.main([str(log), "--seeds", "2", "--splits", str(folder / "splits.jsonl")])
    folds = ids(folder / "splits.jsonl")
    answers = {"seed 0": "small", "seed 1": "large"}
    fickle = [
        {"router": "fickle", "fold": fold, "query_id": key, "model": model}
        for fold, model in answers.items()
        for key in folds[fold]["test"]
    ]
    partial = [{**choice, "router": "partial"} for choice in fickle if choice["fold"] == "seed 1"]
    file = write(folder / "peers.jsonl", [*fickle, *partial])
    compare.main([str(log), "--seeds", "2", "--decisions", str(file), "-o", str(folder / "page.md")])
    return folder / "page.md", folds


def test_splits_are_random_parts_of_the_queries(page, log):
    keys = {query.key(): i for i, query in enumerate(OutcomeTable.from_jsonl(log).queries)}
    assert list(page[1]) == ["seed 0", "seed 1"]
    for seed, fold in enumerate(page[1].values()):
        test = {keys[key] for key in fold["test"]}
        assert test == drawn(seed)
        assert {keys[key] for key in fold["train"]} == set(range(N)) - test


def test_rows_are_what_the_scores_say(page, scores):
    rows = read(page[0])
    judged = [(i, seed) for seed in (0, 1) for i in drawn(seed)]
    best = [scores[sorted(set(range(N)) - drawn(seed))].mean(axis=0).argmax() for seed in (0, 1)]
    assert best == [1, 1]  # the large one, by every training part
    expected = {
        "random": [scores[i].mean() for i, _ in judged],
        "cheapest": [scores[i, 0] for i, _ in judged],
        "best single": [scores[i, 1] for i, _ in judged],
        "mean router": [scores[i, 1] for i, _ in judged],
        "task lookup": [scores[i, 0 if i % 3 == 0 else 1] for i, _ in judged],
        "kNN + task label": [scores[i, 0 if i % 3 == 0 else 1] for i, _ in judged],
        "oracle": [scores[i].max() for i, _ in judged],
        "fickle": [scores[i, seed] for i, seed in judged],
    }
    single = once((i, scores[i, 1]) for i, _ in judged)
    for name, values in expected.items():
        mean = once((i, value) for (i, _), value in zip(judged, values, strict=True))
        value, low, high = numbers(rows[name]["quality"])
        assert value == pytest.approx(mean, abs=6e-4), name
        assert low < value < high  # queries without ids are as many as there are
        if name != "best single":
            assert numbers(rows[name]["dacc, points"])[0] == pytest.approx(100 * (mean - single), abs=6e-3), name
    folds = [np.mean([scores[i, seed] - scores[i, 1] for i in drawn(seed)]) for seed in (0, 1)]
    assert float(rows["fickle"]["worst split"]) == pytest.approx(100 * min(folds), abs=6e-3)


def numbers(cell):
    return [float(part) for part in cell.replace("[", "").replace("]", "").replace(",", "").split()]


def test_what_saw_some_splits_only_says_so(page, scores):
    rows = read(page[0])
    assert "partial" not in rows
    assert numbers(rows["partial (1 of 2 splits)"]["quality"])[0] == pytest.approx(scores[sorted(drawn(1)), 1].mean(), abs=6e-4)


def test_who_ranks_nothing_has_half_of_the_gap(page):
    rows = read(page[0])
    assert rows["mean router"]["APGR, CPT50, CPT80"].startswith("0.500 [0.500, 0.500], ")
    assert numbers(rows["kNN + task label"]["APGR, CPT50, CPT80"].split("],")[0])[1] > 0.5
    found, low, high = rows["mean router"]["dAIQ, points"].replace("[", "").replace("]", "").replace(",", "").split()
    assert (found, high) == ("+0.00", "+0.00")
    assert float(low) <= 0  # below it where the resample's cheap model is the better one, which its hull takes


def test_scores_of_two_fits_are_not_ranked_together(compare):
    """A constant router of five fits, whose constant is higher where the strong model was better in training."""
    rng = np.random.default_rng(0)
    quality = (rng.random((600, 2)) < [0.6, 0.8]).astype(float)
    table = OutcomeTable(
        queries=tuple(Query(text=f"q{i}", id=str(i)) for i in range(600)), models=("weak", "strong"), quality=quality
    )
    found = evaluate(Router(table.models, estimator=MeanEstimator()), table, split=KFold(), baselines=())
    pair = compare.paired(found.replay)
    assert (pair["apgr"].low, pair["apgr"].value, pair["apgr"].high) == (0.5, 0.5, 0.5)
    assert pair["cpt"][0].value == pytest.approx(0.5, abs=0.01)
    assert pair["cpt"][1].value == pytest.approx(0.8, abs=0.01)


def test_splits_weigh_as_their_queries(compare):
    # Two queries of which the right one comes first, four that are not told apart, two on which the strong model has no lead.
    weak, score = [0, 1, 0, 0, 1, 1, 0, 1], [0.9, 0.1, 0.5, 0.5, 0.5, 0.5, 0.9, 0.1]
    quality = np.array([weak, [1, 1, 1, 1, 1, 1, 0, 1]], float).T
    replay = SimpleNamespace(
        table=SimpleNamespace(quality=quality),
        estimate=SimpleNamespace(quality=np.stack([np.zeros(8), score], axis=1)),
        fold=np.array([0, 0, 1, 1, 1, 1, 2, 2]),
        groups=np.arange(8),
    )
    pair = compare.paired(replay)
    assert pair["apgr"].value == pytest.approx((2 * 0.75 + 4 * 0.5) / 6)
    assert pair["cpt"][0].value == pytest.approx((2 * 0.5 + 4 * 0.5) / 6)
    assert pair["cpt"][1].value == pytest.approx((2 * 0.5 + 4 * 1.0) / 6)  # 0.8 of four calls: the whole four


def test_of_tasks_a_peer_is_judged_on_the_tasks(compare, log, scores, tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "CONTENDERS", {"mean router": (MeanEstimator, False)})
    compare.main([str(log), "--by", "task", "--splits", str(tmp_path / "splits.jsonl")])
    folds = ids(tmp_path / "splits.jsonl")
    assert list(folds) == ["task t0", "task t1", "task t2"]
    texts = {query.key(): int(query.text.split()[-1]) for query in OutcomeTable.from_jsonl(log).queries}
    for number, fold in enumerate(folds.values()):
        assert {texts[key] % 3 for key in fold["test"]} == {number}
        assert {texts[key] % 3 for key in fold["train"]} == {0, 1, 2} - {number}
    picks = [
        {"fold": fold, "query_id": key, "model": "small" if fold == "task t0" else "large"}
        for fold in folds
        for key in folds[fold]["test"]
    ]
    file = write(tmp_path / "peer.jsonl", picks)
    compare.main([str(log), "--by", "task", "--decisions", str(file), "-o", str(tmp_path / "page.md")])
    rows = read(tmp_path / "page.md")
    expected = np.mean([scores[i, 0 if i % 3 == 0 else 1] for i in range(N)])
    assert numbers(rows["peer"]["quality"])[0] == pytest.approx(expected, abs=6e-4)
    assert rows["oracle"]["quality"].startswith(f"{scores.max(axis=1).mean():.3f}")


def test_choices_of_a_fold_that_cannot_be_judged_are_not_taken_for_the_next(compare, tmp_path, capsys):
    def part(*quality):
        queries = tuple(Query(text="", id=f"q{i}", withheld=True) for i in range(len(quality)))
        return OutcomeTable(queries=queries, models=("a", "b"), quality=np.array(quality, float))

    holes, whole = part([1, math.nan], [0, math.nan], [1, math.nan]), part([1, 0], [0, 1], [1, 0])
    folds = [Fold(name=name, train=whole, test=test) for name, test in (("one", holes), ("two", whole), ("three", whole))]
    answers = {"one": "a", "two": "b", "three": "a"}
    choices = [{"fold": fold, "query_id": f"q{i}", "model": model} for fold, model in answers.items() for i in range(3)]
    pool = compare.Pool(name="own", table=whole, origin="here")
    [line] = compare.external([write(tmp_path / "peer.jsonl", choices)], pool, folds)
    assert line.row.quality.value == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert line.row.shares == {"a": 0.5, "b": 0.5}
    assert list(compare.external([write(tmp_path / "peer.jsonl", choices[:-1])], pool, folds)) == []
    assert "1 choices are missing, such as ('three', 'q2')" in capsys.readouterr().err
    assert (
        list(compare.external([write(tmp_path / "peer.jsonl", choices)], pool, [Fold(name="x", train=whole, test=whole)])) == []
    )
    assert "it chose for none of x" in capsys.readouterr().err


def test_repeats_of_a_query_stay_on_one_side(compare):
    whole = OutcomeTable(queries=tuple(Query(text=f"q{i % 20}") for i in range(60)), models=("a",), quality=np.ones((60, 1)))
    for fold in compare.Splits(seeds=3).folds(whole):
        assert len(fold.test) == 18
        assert not {query.text for query in fold.test.queries} & {query.text for query in fold.train.queries}


def test_the_figure_shows_what_can_be_routed(compare, scores):
    queries = tuple(Query(text=prompt(i)) for i in range(N))
    table = OutcomeTable(queries=queries, models=tuple(COST), quality=scores)
    row = evaluate(compare.constant("large"), table, baselines=())["routed"]
    given = [("rich", "kNN"), ("rich", "mean router"), ("rich", "task lookup"), ("bare", "mean router"), ("bare", "task lookup")]
    lines = [compare.Line(pool=pool, row=replace(row, name=name), worst=0.0) for pool, name in given]
    assert [(one.pool, one.row.name) for one in compare.telling(lines)] == [("rich", "kNN"), ("rich", "task lookup")]
