"""The trained heads: what they learn, what they refuse, and that they need scikit-learn for nothing but fitting."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute import BudgetPolicy, Router
from agentroute.errors import ArtefactError, ConfigError, MissingExtraError
from agentroute.estimators import ESTIMATORS, LogisticEstimator, MeanEstimator, MLPEstimator
from agentroute.outcomes import OutcomeTable
from agentroute.testing import HashEmbedder, planted_table
from agentroute.types import Fingerprint, Query

EMBEDDER = HashEmbedder()
HEADS = [LogisticEstimator, MLPEstimator]
NAN = np.nan


def asked(table):
    return [replace(q, embedding=v, fingerprint=table.fingerprint) for q, v in zip(table.queries, table.embeddings, strict=True)]


def random_table(rows, quality, *, dimension=4, seed=0):
    """A table of random embeddings, and the qualities that a function of them says."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, dimension)).astype(np.float32) + np.float32(0.5)
    scores = quality(x.astype(np.float64), rng)
    return OutcomeTable(
        queries=tuple(Query(text="", id=str(i)) for i in range(rows)),
        models=tuple(f"m{j}" for j in range(scores.shape[1])),
        quality=scores,
        embeddings=x,
        fingerprint=Fingerprint(name="random", revision="1", dimension=dimension),
    )


def right_or_wrong(x, rng):
    chance = 1 / (1 + np.exp(-(2.0 * x @ np.array([[1.0, -1.0], [0.5, 1.0], [0.0, 0.0], [-1.0, 0.5]]) - 0.5)))
    return (rng.random(chance.shape) < chance).astype(float)


def test_they_are_known_to_saved_routers():
    assert (ESTIMATORS["logistic"], ESTIMATORS["mlp"]) == (LogisticEstimator, MLPEstimator)


@pytest.mark.parametrize("make", HEADS)
def test_the_planted_kinds_are_found_and_the_means_are_beaten(make):
    train, test = planted_table(500), planted_table(300, seed=1)
    heads = make().fit(train)
    estimate, mean = heads.predict(asked(test)), MeanEstimator().fit(train).predict(asked(test))
    kind = [int(query.task[-1]) for query in test.queries]
    assert np.mean(estimate.quality.argmax(axis=1) == kind) > 0.97
    # The noise of the table has a variance of 0.01, which nothing can foresee; the means leave 0.065.
    assert ((estimate.quality - test.quality) ** 2).mean() < 0.02
    assert ((mean.quality - test.quality) ** 2).mean() > 0.05
    for part in ("cost", "latency", "support", "quality_std", "supported"):
        np.testing.assert_array_equal(getattr(estimate, part), getattr(mean, part))
    assert np.isnan(estimate.similarity).all()
    assert estimate.neighbours is None
    assert heads.models_ == train.models


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("c", [0.1, 5.0])
def test_a_logistic_head_minimises_the_penalised_graded_log_loss(c, graded):
    def quality(x, rng):
        found = right_or_wrong(x, rng)
        return np.clip(found * 0.6 + 0.4 * rng.random(found.shape), 0, 1) if graded else found

    table = random_table(400, quality)
    arrays = LogisticEstimator(c=c).fit(table).state()[1]
    x = table.embeddings.astype(np.float64)
    centre = x.mean(axis=0)
    length = np.sqrt(((x - centre) ** 2).sum(axis=1).mean())
    scaled = (x - centre) / length
    for j in range(2):
        # In the scaled embeddings the weights are `length` times as long, and at the minimum of
        # sum_i loss_i + |w|^2 / (2 c) the slope in each weight and in the bias is 0.
        wrong = 1 / (1 + np.exp(-(x @ arrays["vectors"][j] + arrays["bias"][j]))) - table.quality[:, j]
        slope = wrong @ scaled + arrays["vectors"][j] * length / c
        np.testing.assert_allclose(slope, 0, atol=0.02)
        assert abs(wrong.sum()) < 0.02
        assert np.linalg.norm(arrays["vectors"][j]) > 0.2
    assert arrays["c"].tolist() == [c, c]


def test_a_logistic_head_recovers_the_chances():
    table = random_table(6000, right_or_wrong)
    truth = 1 / (1 + np.exp(-(2.0 * table.embeddings @ np.array([1.0, 0.5, 0.0, -1.0]) - 0.5)))
    found = LogisticEstimator().fit(table)
    np.testing.assert_allclose(found.predict(asked(table)).quality[:, 0], truth, atol=0.1)
    assert np.abs(found.predict(asked(table)).quality[:, 0] - truth).mean() < 0.02
    assert (found.c_ >= 1).all()


def test_the_penalty_is_strong_where_there_is_nothing_to_learn():
    table = random_table(300, lambda x, rng: (rng.random((len(x), 3)) < [0.3, 0.5, 0.7]).astype(float), dimension=64)
    found = LogisticEstimator().fit(table)
    assert (found.c_ <= 0.1).all()
    np.testing.assert_allclose(
        found.predict(asked(table)).quality, np.broadcast_to(table.quality.mean(axis=0), (300, 3)), atol=0.05
    )


def test_the_penalty_is_the_last_before_the_error_rises_for_the_first_time():
    """One quiet embedding tells all and five loud ones nothing: what is learned first misleads, until the penalty is all gone."""
    from sklearn.linear_model import LogisticRegression

    from agentroute.estimators._base import folds

    table = random_table(100, lambda x, rng: rng.random((len(x), 1)).round(), dimension=6, seed=1)
    x = table.embeddings - np.float32(0.5)
    x[:, 0] *= 0.1
    right = (x[:, 0] > 0) * 1.0
    found = LogisticEstimator().fit(replace(table, embeddings=x, quality=right[:, None]))
    order = np.random.default_rng(0).permutation(100)  # the folds are of the scores in this order
    centred = x.astype(np.float64) - x.astype(np.float64).mean(axis=0)
    scaled, right = (centred / np.sqrt((centred**2).sum(axis=1).mean()))[order], right[order]
    fold, errors = folds(100, 5, 0), []
    strengths = (0.03, 0.1, 0.3, 1.0, 3.0, 30.0, 300.0)
    for c in strengths:
        chance = np.empty(100)
        for part in range(5):
            here = fold == part
            chance[here] = LogisticRegression(C=c, tol=1e-8).fit(scaled[~here], right[~here]).predict_proba(scaled[here])[:, 1]
        errors.append(np.mean((chance - right) ** 2))
    rises = np.diff(errors) > 0
    assert rises.any()
    assert strengths[int(np.argmin(errors))] == 300
    assert found.c_.tolist() == [strengths[int(np.argmax(rises))]]


@pytest.mark.parametrize("scores", [[1.0] + [0.0] * 29, [1.0] * 12 + [0.0] * 10], ids=["one right", "few"])
def test_the_penalty_is_the_strongest_where_nothing_can_be_tried(scores):
    # Without the fold of the one right answer, or with one of five folds less, there is nothing to train.
    table = random_table(len(scores), lambda _, rng: rng.permutation(scores)[:, None])
    found = LogisticEstimator(min_rows=20).fit(table)
    assert found.c_.tolist() == [0.03]
    assert np.isfinite(found.predict(asked(table)).quality).all()


def test_the_network_predicts_what_scikit_learn_predicts():
    from sklearn.neural_network import MLPRegressor

    table = random_table(300, lambda x, rng: np.stack([np.abs(x[:, 0]) > 1, x[:, 1] > 0], axis=1) * 1.0)
    x, mean = table.embeddings.astype(np.float64), table.quality.mean(axis=0)
    scaled = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0).sum())
    network = MLPRegressor(hidden_layer_sizes=(16,), alpha=0.01, early_stopping=True, max_iter=10**6, random_state=3)
    expected = np.clip(network.fit(scaled, table.quality - mean).predict(scaled) + mean, 0, 1)
    found = MLPEstimator(hidden=16, alpha=0.01, seed=3).fit(table).predict(asked(table)).quality
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected.min() == 0 or expected.max() == 1  # the limits were reached, so that clipping was tried


def test_the_network_bends_where_a_line_cannot():
    def quality(x, rng):
        return ((np.abs(x[:, :1] - 0.5) > 0.67) ^ (rng.random((len(x), 1)) < 0.05)) * 1.0

    train, test = random_table(1500, quality), random_table(500, quality, seed=1)
    errors = [((make().fit(train).predict(asked(test)).quality - test.quality) ** 2).mean() for make in HEADS]
    assert errors[0] > 0.24  # the line says nothing about either side
    assert errors[1] < 0.15


@pytest.mark.parametrize("make", HEADS)
def test_a_model_learns_from_its_own_scores_whatever_holes_the_others_have(make):
    table = planted_table(300)
    quality = table.quality.copy()
    quality[np.random.default_rng(0).random(300) < 0.4, 2] = NAN
    queries = asked(planted_table(50, seed=1))
    holed = make().fit(replace(table, quality=quality)).predict(queries).quality
    # Models that were scored on the same queries learn together, and the others alone.
    together = make().fit(table.select(["m0", "m1"])).predict(queries).quality
    alone = make().fit(replace(table, quality=quality).select(["m2"])).predict(queries).quality
    np.testing.assert_allclose(holed, np.concatenate([together, alone], axis=1), atol=1e-5)
    seen = np.isfinite(quality[:, 2])
    only = make(seed=0).fit(table.take(seen).select(["m2"])).predict(queries).quality
    np.testing.assert_allclose(alone, only, atol=0.06)  # but for the centre of the embeddings, those rows are all there is


@pytest.mark.parametrize("make", HEADS)
def test_alike_scores_give_the_mean_and_few_are_not_ranked(make):
    table = planted_table(200, models=4, kinds=4)
    quality = table.quality.copy()
    quality[:, 0], quality[:, 1] = 1.0, 0.25
    quality[29:, 2] = NAN  # one short of min_rows
    given_ = replace(table, quality=quality)
    estimator = make().fit(given_)
    for estimate in (estimator.predict(asked(table)), estimator.cross_predict(given_, np.arange(200))):
        assert (estimate.quality[:, 0] == 1.0).all()
        np.testing.assert_allclose(estimate.quality[:, 1], 0.25)
        assert np.isnan(estimate.quality[:, 2]).all()
        assert np.isfinite(estimate.cost[:, 2]).all()
        assert np.ptp(estimate.quality[:, 3]) > 0.2  # a head
    quality[29, 2] = 0.5
    assert np.isfinite(make().fit(replace(table, quality=quality)).predict(asked(table)).quality[:, 2]).all()
    # Nineteen scores suffice for a mean that is asked for, but not for a head.
    quality[19:, 2] = NAN
    few = make(min_rows=5).fit(replace(table, quality=quality)).predict(asked(table)).quality[:, 2]
    np.testing.assert_allclose(few, quality[:19, 2].mean())


@pytest.mark.parametrize("make", HEADS)
def test_the_order_of_columns_says_nothing(make):
    table, queries = planted_table(150), asked(planted_table(30, seed=1))
    one = make().fit(table).predict(queries).quality
    other = make().fit(table.select(["m2", "m0", "m1"])).predict(queries).quality
    np.testing.assert_allclose(other, one[:, [2, 0, 1]], atol=1e-6)


@pytest.mark.parametrize("make", [lambda: LogisticEstimator(c=1.0), MLPEstimator])
def test_out_of_fold_is_what_a_fit_without_the_fold_says(make):
    from agentroute.estimators._base import folds

    table = planted_table(120)
    estimator = make().fit(table)
    found = estimator.cross_predict(table, np.arange(120))
    fold = folds(120, 5, 0)
    for part in range(5):
        here = fold == part
        without = make().fit(table.take(~here))
        np.testing.assert_allclose(found.quality[here], without.predict(asked(table.take(here))).quality, atol=1e-6)
    some = np.array([7, 3, 90])
    np.testing.assert_array_equal(estimator.cross_predict(table, some).quality, found.quality[some])
    for part in ("cost", "latency"):
        values = getattr(table, part)
        np.testing.assert_allclose(getattr(found, part), (values.sum(axis=0) - values) / 119)  # the mean of the other rows


@pytest.mark.parametrize("make", HEADS)
def test_out_of_fold_predictions_are_kept_until_the_next_fit(make, monkeypatch):
    table, other = planted_table(60), planted_table(60, seed=5)
    estimator, rows = make().fit(table), np.arange(60)
    first = estimator.cross_predict(table, rows).quality
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "sklearn", None)
        np.testing.assert_array_equal(estimator.cross_predict(table.take(rows), rows).quality, first)  # the same content
        with pytest.raises(MissingExtraError):
            estimator.cross_predict(other, rows)
    second = estimator.fit(other).cross_predict(other, rows).quality
    np.testing.assert_array_equal(second, make().fit(other).cross_predict(other, rows).quality)
    assert not np.array_equal(first, second)
    estimator.seed = 1  # other folds of the same table
    third = estimator.fit(other).cross_predict(other, rows).quality
    np.testing.assert_array_equal(third, make(seed=1).fit(other).cross_predict(other, rows).quality)
    assert not np.array_equal(second, third)


LOAD = """
import json, sys
import numpy as np
sys.modules["sklearn"] = sys.modules["scipy"] = None  # whoever imports them fails
from agentroute import Query, Router
from agentroute.testing import HashEmbedder
router = Router.load(sys.argv[1], embedder=HashEmbedder())
decisions = router.route_many([Query(text=text) for text in json.load(sys.stdin)])
print(json.dumps([[[one.model, one.quality, one.cost] for one in decision.candidates] for decision in decisions]))
"""


@pytest.mark.parametrize("make", HEADS)
def test_a_saved_router_decides_the_same_without_scikit_learn(make, tmp_path):
    table = planted_table(200)
    quality = np.where(np.arange(200)[:, None] < [200, 200, 20], table.quality, NAN)  # the last is not ranked
    router = Router(table.models, embedder=EMBEDDER, estimator=make()).fit(replace(table, quality=quality))
    router.save(tmp_path / "router")
    texts = [query.text for query in planted_table(20, seed=3).queries]
    here = router.route_many([Query(text=text) for text in texts])
    command = [sys.executable, "-c", LOAD, str(tmp_path / "router")]
    shown = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=True).stdout
    expected = [[[one.model, one.quality, one.cost] for one in decision.candidates] for decision in here]
    assert json.loads(shown) == expected
    assert {decision.model for decision in here} == {"m0", "m1"}


@pytest.mark.parametrize("make", HEADS)
def test_a_damaged_artefact_is_refused(make, tmp_path):
    estimator = make().fit(planted_table(100))
    config, arrays = estimator.state()
    for name in ("vectors", "bias"):
        broken = arrays | {name: arrays[name][1:]}
        with pytest.raises(ConfigError, match="do not belong together"):
            make.from_state(config, broken)
    with pytest.raises(ConfigError, match="do not belong together"):
        make.from_state(config | {"models": ["m0"]}, arrays)
    router = Router(("m0", "m1", "m2"), embedder=EMBEDDER, estimator=estimator).fit(planted_table(100))
    router.save(tmp_path / "router")
    (tmp_path / "router" / "arrays.npz").write_bytes(b"")
    with pytest.raises(ArtefactError):
        Router.load(tmp_path / "router", embedder=EMBEDDER)


@pytest.mark.parametrize("make", HEADS)
def test_a_budget_is_calibrated_out_of_fold(make):
    table = planted_table(300)
    router = Router(table.models, embedder=EMBEDDER, estimator=make(), policy=BudgetPolicy(mean_cost=0.004)).fit(table)
    expected = router.estimator.cross_predict(router.table(table), np.arange(300))
    chosen = router.policy.utilities(expected).argmax(axis=1)
    assert table.cost[np.arange(300), chosen].mean() == pytest.approx(0.004, rel=0.05)


@pytest.mark.parametrize("make", HEADS)
def test_without_scikit_learn_fit_says_what_to_install(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=rf"{make.__name__} needs an optional dependency.*agentroute-sdk\[sklearn\]"):
        make().fit(planted_table(10))


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (LogisticEstimator(c=0.0), r"c=0.0\) is out of range"),
        (LogisticEstimator(c=np.inf), r"c=inf\) is out of range"),
        (MLPEstimator(hidden=0), r"hidden=0\) is out of range"),
        (MLPEstimator(alpha=-1.0), r"alpha=-1.0\) is out of range"),
        (LogisticEstimator(c="1"), r"c='1'\) is out of range"),
        (LogisticEstimator(min_rows=2.5), r"min_rows=2.5\) is out of range: give a whole number, 0 or more"),
        (LogisticEstimator(seed=-1), r"seed=-1\) is out of range"),
        (MLPEstimator(seed=2**32), r"seed=4294967296\) is out of range"),
        (MLPEstimator(seed=None), r"seed=None\) is out of range"),
        (MLPEstimator(hidden=8.5), r"MLPEstimator\(hidden=8.5\) is out of range: give a whole number, 1 or more"),
        (MLPEstimator(hidden="8"), r"hidden='8'\) is out of range"),
        (MLPEstimator(alpha="1"), r"alpha='1'\) is out of range"),
    ],
)
def test_options_out_of_range(estimator, message):
    with pytest.raises(ConfigError, match=message):
        estimator.fit(planted_table(40))


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticEstimator(c=np.float32(0.5), min_rows=np.int64(20), seed=np.uint8(1)),
        MLPEstimator(hidden=np.int64(8), alpha=np.float32(0.5), min_rows=np.int32(20), seed=np.int64(1)),
    ],
)
def test_options_of_numpy_are_saved_as_plain_numbers(estimator, tmp_path):
    table = planted_table(60)
    router = Router(table.models, embedder=EMBEDDER, estimator=estimator).fit(table)
    router.save(tmp_path / "router")
    again = Router.load(tmp_path / "router", embedder=EMBEDDER)
    assert again.route("kind1 word1").candidates == router.route("kind1 word1").candidates
    assert {type(value) for name, value in again.estimator.state()[0].items() if name != "models"} <= {int, float}
    assert again.estimator.min_rows == 20


@pytest.mark.parametrize("make", HEADS)
def test_embeddings_are_needed(make):
    table = planted_table(60)
    with pytest.raises(ConfigError, match=rf"{make.__name__} needs table.embeddings"):
        make().fit(replace(table, embeddings=None, fingerprint=None))
    fitted = make().fit(table)
    with pytest.raises(ConfigError, match="the query has no embedding"):
        fitted.predict([Query(text="x")])
    with pytest.raises(ConfigError, match=r"shape \(3,\), the fitted ones have 32 dimensions"):
        fitted.predict([Query(text="x", embedding=np.ones(3, np.float32))])


@pytest.mark.parametrize("make", HEADS)
def test_where_all_texts_are_the_same_the_means_are_all_there_is(make):
    table = planted_table(300)
    blind = replace(table, embeddings=EMBEDDER.embed(["the same words"] * 300))
    found = make().fit(blind).predict(asked(blind)[:1]).quality[0]
    np.testing.assert_allclose(found, table.quality.mean(axis=0), atol=0.06)


@settings(max_examples=8, deadline=None)
@given(rows=st.integers(20, 80), share=st.floats(0.02, 0.98), seed=st.integers(0, 999))
def test_small_logs_of_noise_end_without_a_warning(rows, share, seed):
    # Warnings are errors here: neither solver may stop short, whatever it is given.
    table = random_table(rows, lambda x, rng: (rng.random((len(x), 2)) < share) * 1.0, dimension=8, seed=seed)
    for make in HEADS:
        estimate = make(min_rows=20).fit(table).predict(asked(table))
        assert ((estimate.quality >= 0) & (estimate.quality <= 1)).all()
