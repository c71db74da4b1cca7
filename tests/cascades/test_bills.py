"""What a log does not say of costs, and what stands in for it."""

from dataclasses import replace

import numpy as np
import pytest

from agentroute.cascades import AnswerTable, CascadeRouter, CascadeRouting, PostHocEstimator, RationalThresholds, ThresholdCascade
from agentroute.errors import DataError, PriceUnknownError
from agentroute.router import Router
from agentroute.testing import HashEmbedder, planted_table

MODELS = ("small", "large")
CALLS, LOOK = np.array([0.001, 0.02]), 0.002


def log(rows, *, unknown=0, seed=0):
    """Calls and looks have fixed prices; the small model's confidence tells. Of each `unknown`-th row its call's is not known."""
    rng = np.random.default_rng(seed)
    easy = rng.random(rows) < 0.5
    cost = np.tile(CALLS, (rows, 1))
    if unknown:
        cost[::unknown, 0] = np.nan
    quality = np.column_stack([easy, np.ones(rows)]).astype(float)
    table = replace(planted_table(rows, models=2, kinds=1, seed=seed), models=MODELS, quality=quality, cost=cost)
    sure = np.column_stack([np.where(easy, 0.9, 0.1), np.full(rows, np.nan)]) + 0.01 * rng.standard_normal((rows, 2))
    return AnswerTable(table=table, signals={"sure": sure}, score_cost=np.full((rows, 2), LOOK))


def fitted(answers, policy):
    return CascadeRouter(Router(MODELS, embedder=HashEmbedder(), default="large"), policy=policy).fit(answers)


@pytest.mark.parametrize("kind", [CascadeRouting, ThresholdCascade, RationalThresholds])
def test_scoring_is_paid_once_where_a_call_s_cost_is_not_known(kind):
    router = fitted(log(200, unknown=2), kind(willingness_to_pay=0.1))
    assert router.looks
    done = router.replay(log(120, unknown=3, seed=1))
    stopped = done.called.sum(axis=1) == 1
    assert 20 < stopped.sum() < 100
    np.testing.assert_allclose(done.cost[stopped], CALLS[0] + LOOK)
    np.testing.assert_allclose(done.cost[~stopped], CALLS.sum() + LOOK)
    told = router.policy.expected_cost_ if kind is CascadeRouting else router.policy.chain_.cost
    known = fitted(log(200), kind(willingness_to_pay=0.1)).policy
    assert told == pytest.approx(known.expected_cost_ if kind is CascadeRouting else known.chain_.cost)


@pytest.mark.filterwarnings("ignore::agentroute.errors.LowSupportWarning")
def test_one_query_teaches_nothing_and_it_is_not_the_price_that_lacks():
    with pytest.raises(DataError, match=r"1 query .* two or more"):
        fitted(log(1), CascadeRouting())
    free = log(50)
    nothing = replace(free, table=replace(free.table, cost=np.full((50, 2), np.nan)))
    with pytest.raises(PriceUnknownError):
        fitted(nothing, CascadeRouting())


@pytest.mark.parametrize(
    ("policy", "posthoc"),
    [
        (
            CascadeRouting(
                climb=np.True_, ordered=np.False_, mix=np.True_, refine=np.True_, check_last=np.True_, seed=np.int64(1)
            ),
            {},
        ),
        (None, {"seed": np.int64(1), "folds": np.int32(4), "l2": np.float32(1.0)}),
        (RationalThresholds(longest=np.int64(2)), {}),
    ],
)
def test_options_of_numpy_s_kinds_are_saved(policy, posthoc, tmp_path):
    router = Router(MODELS, embedder=HashEmbedder(), default="large")
    cascade = CascadeRouter(router, policy=policy, posthoc=PostHocEstimator(**posthoc)).fit(log(80))
    cascade.save(tmp_path / "cascade")
    again = CascadeRouter.load(tmp_path / "cascade", embedder=HashEmbedder())
    assert repr(again.policy) == repr(cascade.policy)
    assert repr(again.posthoc) == repr(cascade.posthoc)


def test_a_fold_is_whole_whatever_kind_of_number_it_is():
    kept = PostHocEstimator(folds=np.float64(2.5), seed=np.int64(3))
    assert (type(kept.folds), kept.folds, type(kept.seed)) == (float, 2.5, int)
