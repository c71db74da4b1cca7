import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.cascades._answers import AnswerTable
from agentroute.cascades._calibrate import factor_of, logistic, logit, recalibration, sigmoid
from agentroute.cascades._design import GROUP, Seen, bits_of, design, penalties
from agentroute.cascades._learn import factors_of, sampled
from agentroute.cascades._planner import CascadeRouting
from agentroute.cascades._posthoc import PostHocEstimator
from agentroute.cascades._regressions import PostHocStates, Regressions
from agentroute.cascades._threshold import ThresholdCascade
from agentroute.errors import ConfigError, NotFittedError, PriceUnknownError, UnknownModelError
from agentroute.evaluation.metrics import auroc, ece
from agentroute.outcomes import OutcomeTable
from agentroute.types import Estimate, Query


def expecting(table, quality=None):
    """Ex-ante estimates: the column means, or what is given."""
    shape = table.quality.shape
    mean = np.broadcast_to(np.nanmean(table.quality, axis=0), shape)
    return Estimate(
        models=table.models,
        quality=mean.copy() if quality is None else quality,
        quality_std=np.zeros(shape),
        cost=np.broadcast_to(np.nanmean(table.cost, axis=0), shape).copy(),
        latency=np.full(shape, np.nan),
        support=np.full(shape, 100.0),
        similarity=np.ones(shape[0]),
        supported=np.ones(shape[0], dtype=np.bool_),
    )


def world(n, chances, *, seed=0, costs=(1.0, 10.0), shares=(0.5, 0.25, 0.25)):
    """Queries that are easy, needy or hopeless; models are right by chance. Returns the table and each query's kind."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, size=n, p=shares)
    quality = (rng.random((n, len(costs))) < np.asarray(chances)[kind]).astype(float)
    table = OutcomeTable(
        queries=tuple(Query(text=f"q{i}", id=f"q{i}") for i in range(n)),
        models=("small", "medium", "large")[: len(costs)] if len(costs) > 2 else ("small", "large"),
        quality=quality,
        cost=np.broadcast_to(costs, quality.shape).copy(),
    )
    return table, kind, rng


def hopeless(n, *, seed=0, drop=()):
    """AutoMix's world: confidence is low for the needy and for the hopeless; that the answer is long tells who is hopeless."""
    table, kind, rng = world(n, [[0.95, 0.97], [0.1, 0.9], [0.03, 0.06]], seed=seed)
    signals = {
        "logprob": np.where(kind == 0, -0.5, -1.5)[:, None] + 0.5 * rng.standard_normal((n, 2)),
        "length": np.where(kind == 2, 5.0, 4.0)[:, None] + 0.35 * rng.standard_normal((n, 2)),
    }
    for name in drop:
        signals[name] = np.full((n, 2), np.nan)
    return AnswerTable(table=table, signals=signals), kind


def bayes(answers):
    """The gain of escalating in that world, by Bayes' rule: float64 [n]."""
    logprob, length = (answers.signals[name][:, 0] for name in ("logprob", "length"))
    like = [
        share * np.exp(-(((logprob - p) / 0.5) ** 2) / 2 - ((length - s) / 0.35) ** 2 / 2)
        for share, p, s in ((0.5, -0.5, 4), (0.25, -1.5, 4), (0.25, -1.5, 5))
    ]
    return np.stack(like, axis=1) / np.sum(like, axis=0)[:, None] @ [0.02, 0.8, 0.03]


def fitted(answers, **options):
    return PostHocEstimator(**({"covariance": "none"} | options)).fit(answers, expecting(answers.table))


def escalating(gain, quality, share):
    """Mean quality when that share of the queries is escalated, those of the greatest gain."""
    most = np.argsort(-gain, kind="stable")[: round(share * len(gain))]
    return quality[:, 0].mean() + (quality[most, 1] - quality[most, 0]).sum() / len(gain)


def test_hopeless_queries_are_not_escalated_and_the_raw_confidence_is_beaten():
    train, _ = hopeless(2000)
    test, kind = hopeless(4000, seed=1)
    states = fitted(train).states(test, expecting(test.table))
    q = states.quality(1, np.arange(len(test)))
    gain = q[:, 1] - q[:, 0]
    for k, (low, high) in enumerate([(-0.02, 0.2), (0.4, 0.9), (0.0, 0.35)]):
        assert low < gain[kind == k].mean() < high
    quality = test.table.quality
    # At equal cost, that of escalating a quarter: 4 points better than a threshold on the confidence, whose own gain is 10.
    raw = escalating(-test.signals["logprob"][:, 0], quality, 0.25)
    ours = escalating(gain, quality, 0.25)
    assert ours > raw + 0.04
    # And as good as Bayes' rule, which knows how the world was made.
    assert ours > escalating(bayes(test), quality, 0.25) - 0.01
    # Nothing is gained by a query that is certainly beyond everybody, however low the confidence.
    predict = fitted(train).predict
    sure = predict(np.array([0.5, 0.7]), np.array([[-2.0, 6.5], [np.nan, np.nan]]), None, 1)
    assert sure[1] - sure[0] < 0.15


def test_a_plan_does_not_pay_for_hope():
    train, _ = hopeless(2000)
    test, kind = hopeless(2000, seed=1)
    states = fitted(train, covariance="auto").states(test, expecting(test.table))
    # A gain of .4 is worth the call.
    called, answer = CascadeRouting(willingness_to_pay=25.0).run(states)
    rule = bayes(test) > 0.4
    assert (called[:, 1] == rule).mean() > 0.95
    for k in range(3):
        assert called[kind == k, 1].mean() == pytest.approx(rule[kind == k].mean(), abs=0.05)
    assert called[kind == 1, 1].mean() > 10 * called[kind == 2, 1].mean()  # the needy, and the hopeless, who are as unsure
    assert called[:, 0].all()
    assert called[np.arange(2000), answer].all()


def test_gains_and_qualities_are_calibrated_out_of_sample_on_two_thousand_rows():
    train, _ = hopeless(2000)
    test, _ = hopeless(2000, seed=2)
    estimator = fitted(train)
    for states, quality in (
        (estimator.fitted_states(), train.table.quality),
        (estimator.states(test, expecting(test.table)), test.table.quality),
    ):
        for run in range(4):
            q = states.quality(run, np.arange(2000))
            assert (ece(q, quality) <= 0.05).all()
        q = states.quality(1, np.arange(2000))
        gain, came = q[:, 1] - q[:, 0], quality[:, 1] - quality[:, 0]
        bins = np.digitize(gain, np.quantile(gain, np.arange(1, 10) / 10))
        errors = [abs(gain[bins == b].mean() - came[bins == b].mean()) for b in range(10)]
        assert np.mean(errors) <= 0.05


def test_without_logprobs_the_other_signals_carry_and_a_missing_one_is_survived():
    train, _ = hopeless(1500, drop=["logprob"])
    test, _ = hopeless(1500, seed=1, drop=["logprob"])
    estimator = fitted(train)
    q = estimator.states(test, expecting(test.table)).quality(1, np.arange(len(test)))
    assert np.isfinite(q).all()
    assert (auroc(q, test.table.quality) > 0.6).all()  # by the length alone
    # A signal that was always there in the log and is missing now says nothing: the estimate is near the mean.
    train, _ = hopeless(1500)
    estimator = fitted(train)
    exante = train.table.quality.mean(axis=0)
    bare = estimator.predict(exante, np.full((2, 2), np.nan), None, 1)
    np.testing.assert_allclose(bare, exante, atol=0.15)
    # Sometimes missing, it is learned what that says: here, that the query is easy.
    holes = train.signals["logprob"].copy()
    easy = train.table.quality[:, 0] == 1
    holes[easy & (np.arange(len(easy)) % 2 == 0)] = np.nan
    estimator = fitted(replace(train, signals={"logprob": holes, "length": train.signals["length"]}))
    assert estimator.predict(exante, np.array([[np.nan, 4.0], [np.nan] * 2]), None, 1)[0] > 0.9


def test_a_useless_signal_moves_nothing():
    table, _, rng = world(1500, [[0.25, 0.72]] * 3, costs=(1.3, 3.6))
    # AUC .57, as of a model whose confidence is known to be useless.
    signal = table.quality * 0.25 + rng.standard_normal(table.quality.shape)
    answers = AnswerTable(table=table, signals={"logprob": signal})
    assert 0.53 < auroc(sigmoid(signal[:, 0]), table.quality[:, 0]) < 0.6
    q = fitted(answers).fitted_states().quality(1, np.arange(1500))
    gain = q[:, 1] - q[:, 0]
    assert gain.min() > 0.15  # the large model is always the better choice: to ask the small one first is money lost
    assert gain.std() < 0.1
    states = fitted(answers, covariance="auto").fitted_states()
    called, _ = CascadeRouting(willingness_to_pay=20.0).run(states)
    assert not called[:, 0].any()  # so nobody asks it
    assert called[:, 1].all()
    chain = ThresholdCascade(willingness_to_pay=20.0).fit(states, table.quality, table.cost).chain_
    assert chain.columns == (1,)


def test_agreement_tells_what_signals_do_not():
    table, _, rng = world(1500, [[0.6, 0.6, 0.9]] * 3, costs=(1.0, 2.0, 9.0))
    right = table.quality == 1
    wrong = rng.integers(1, 6, right.shape)
    said = np.where(right, 0, wrong)
    agreement = (said[:, :, None] == said[:, None, :]).astype(float)
    answers = AnswerTable(table=table, agreement=agreement)
    states = fitted(answers).fitted_states()
    q = states.quality(3, np.arange(1500))
    alike = agreement[:, 0, 1] == 1
    assert table.quality[alike, 0].mean() > 0.88
    assert abs(q[alike, 0].mean() - table.quality[alike, 0].mean()) < 0.03
    assert abs(q[~alike, 0].mean() - table.quality[~alike, 0].mean()) < 0.03
    # Two against one: the majority's answer is the better one.
    q = states.quality(7, np.arange(1500))
    odd = (agreement[:, 1, 2] == 1) & (agreement[:, 0, 1] == 0)
    assert q[odd, 0].mean() < 0.1
    assert q[odd, 1].mean() > 0.9
    # Where nobody compared them, nothing is said.
    blind = fitted(replace(answers, agreement=np.full_like(agreement, np.nan))).fitted_states().quality(3, np.arange(1500))
    assert blind[:, 0].std() < 0.02


def test_without_evidence_estimates_stay_as_they_were():
    answers, _ = hopeless(300)
    rng = np.random.default_rng(0)
    exante = rng.uniform(0.05, 0.95, (300, 2))
    estimate = expecting(answers.table, exante)
    states = PostHocEstimator(l2=1e9, covariance="none").fit(answers, estimate).states(answers, estimate)
    # What is left are intercepts, and the slopes of the recalibration, which learn that these estimates know nothing.
    for run in range(4):
        moved = logit(states.quality(run, np.arange(300)))
        for j in range(2):
            line = np.polyfit(logit(exante[:, j]), moved[:, j], 1)
            np.testing.assert_allclose(np.polyval(line, logit(exante[:, j])), moved[:, j], atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(m=st.integers(1, 5), k=st.integers(0, 3), seed=st.integers(0, 99), known=st.booleans())
def test_predictions_are_the_regressions_on_the_design(m, k, seed, known):
    rng = np.random.default_rng(seed)
    n, d = 7, 1 + 3 * k
    agreement = rng.random((n, m, m))
    agreement = (agreement + agreement.transpose(0, 2, 1)) / 2
    hole = rng.random((n, m, m)) < 0.3
    agreement[hole | hole.transpose(0, 2, 1)] = np.nan
    seen = Seen(logits=rng.normal(size=(n, m)), details=rng.normal(size=(n, m, d)), agreement=agreement if known else None)
    usual = rng.random((m, m))
    usual = (usual + usual.T) / 2
    learned = rng.normal(size=(m, len(penalties(m, d, 1.0))))
    calibration = rng.normal(size=(2, 2, m + 1, m))
    one = Regressions.of(learned, d, calibration)
    states = PostHocStates(
        models=tuple("abcde"[:m]),
        cost=np.zeros((n, m)),
        latency=None,
        seen=seen,
        usual=usual,
        regressions=(one,),
        fold=np.zeros(n, np.int64),
    )
    for run in range(1 << m):
        bits = bits_of(run, m)
        found = states.quality(run, np.arange(n))
        for t in range(m):
            x = design(seen, np.broadcast_to(bits, (n, m)), t, usual)
            eta = x @ learned[t] + seen.logits[:, t]
            slope, shift = calibration[:, int(bits[t]), bits.sum(), t]
            np.testing.assert_allclose(found[:, t], sigmoid(slope * eta + shift), atol=1e-10)
        assert states.quality(run, np.empty(0, np.int64)).shape == (0, m)


def test_groups_by_hand():
    agreement = np.array([[[1, 1, 0, 0], [1, 1, 0, np.nan], [0, 0, 1, 0], [0, np.nan, 0, 1]]], dtype=float)
    seen = Seen(logits=np.zeros((1, 4)), details=np.ones((1, 4, 1)), agreement=agreement)
    usual = np.full((4, 4), 0.25)

    def parts(run, target):
        x = design(seen, bits_of(run, 4)[None], target, usual)[0]
        return x[-GROUP - 3 : -GROUP], x[-GROUP:]

    pairs, group = parts(0b0111, 0)  # two say the same, the third something else
    np.testing.assert_allclose(pairs, [0.75, -0.25, 0])
    np.testing.assert_allclose(group, [1, 0.0, 1, 0.0, 0.0])  # half of the others agree with it, as with the second
    _, group = parts(0b0011, 3)  # the target has not answered
    np.testing.assert_allclose(group, [1, 0.5, 0, 0, 0])
    pairs, group = parts(0b1010, 1)  # two that nobody compared
    np.testing.assert_allclose([*pairs, *group], 0)


def test_one_query_is_predicted_as_in_a_table():
    answers, _ = hopeless(400)
    estimate = expecting(answers.table, np.random.default_rng(1).uniform(0.1, 0.9, (400, 2)))
    agreement = np.ones((400, 2, 2))
    agreement[::3, 0, 1] = agreement[::3, 1, 0] = 0
    answers = replace(answers, agreement=agreement)
    estimator = PostHocEstimator(covariance="none").fit(answers, estimate)
    assert estimator.signals_ == ("logprob", "length")
    signals = np.stack([answers.signals[name] for name in estimator.signals_], axis=-1)
    states = estimator.states(answers, estimate)
    for run in range(4):
        whole = states.quality(run, np.array([5, 9]))
        for place, i in enumerate((5, 9)):
            # Signals of those that have not answered do not count.
            masked = np.where(bits_of(run, 2)[:, None], signals[i], 99.0)
            one = estimator.predict(estimate.quality[i], masked, agreement[i], run)
            np.testing.assert_allclose(one, whole[place], atol=1e-12)


def test_columns_are_cheapest_first_whatever_the_order_of_the_log():
    answers, _ = hopeless(400)
    answers = replace(answers, score_cost=np.tile([0.5, 0.25], (400, 1)))
    turned = answers.select(["large", "small"])
    one, other = fitted(answers), fitted(turned)
    assert one.models_ == other.models_ == ("small", "large")
    rows = np.arange(400)
    for run in range(4):
        np.testing.assert_allclose(one.fitted_states().quality(run, rows), other.fitted_states().quality(run, rows))
    np.testing.assert_allclose(other.fitted_states().cost, np.tile([1.5, 10.25], (400, 1)))
    np.testing.assert_allclose(other.cost(expecting(turned.table)), np.tile([1.5, 10.25], (400, 1)))
    # Scoring may turn the order.
    dear = fitted(replace(answers, score_cost=np.tile([20.0, 0.0], (400, 1))))
    assert dear.models_ == ("large", "small")
    assert one.fitted_states().latency is None


def test_latency_is_passed_on_and_gaps_of_costs_are_filled():
    answers, _ = hopeless(60)
    estimate = expecting(answers.table)
    cost, latency = estimate.cost.copy(), np.tile([1.0, 3.0], (60, 1))
    cost[4, 1], latency[3, 0] = np.nan, np.nan
    states = PostHocEstimator(covariance="none").fit(answers, replace(estimate, cost=cost, latency=latency)).fitted_states()
    assert states.cost[4, 1] == pytest.approx(10)
    assert states.latency[3, 0] == pytest.approx(1)


def test_fitted_states_have_not_seen_their_own_rows():
    rng = np.random.default_rng(0)
    table, _, _ = world(120, [[0.5, 0.5]] * 3)
    # Thirty signals of noise: in the sample they explain much, out of it nothing.
    noise = AnswerTable(table=table, signals={f"s{k}": rng.standard_normal((120, 2)) for k in range(30)})
    estimator = fitted(noise, l2=0.1)
    rows = np.arange(120)
    out = auroc(estimator.fitted_states().quality(3, rows), table.quality)
    within = auroc(estimator.states(noise, expecting(table)).quality(3, rows), table.quality)
    assert (within > 0.75).all()
    assert (out < 0.65).all()
    # Chosen, the penalty finds that out.
    assert fitted(noise).l2_ >= 30


def test_means_without_the_own_row_are_no_way_to_the_answer():
    # The mean of the other rows is lower for a right answer than for a wrong one, by 1 / n.
    table, _, _ = world(200, [[0.5, 0.5]] * 3)
    total = table.quality.sum(axis=0)
    estimate = expecting(table, (total - table.quality) / 199)
    states = PostHocEstimator(l2=1e-3, covariance="none").fit(AnswerTable(table=table), estimate).fitted_states()
    assert np.abs(states.quality(0, np.arange(200)) - 0.5).max() < 0.15


def test_a_log_with_holes():
    answers, _ = hopeless(800)
    rng = np.random.default_rng(0)
    gone = rng.random((800, 2)) < [0.0, 0.5]
    gone[:5] = [True, False]
    table = answers.table
    table = replace(table, quality=np.where(gone, np.nan, table.quality), cost=np.where(gone, np.nan, table.cost))
    signals = {name: np.where(gone, np.nan, values) for name, values in answers.signals.items()}
    holed = AnswerTable(table=table, signals=signals)
    full, partly = fitted(answers), fitted(holed)
    assert partly.models_ == ("small", "large")
    q, p = (one.states(answers, expecting(answers.table)).quality(1, np.arange(800)) for one in (full, partly))
    assert np.abs(q - p).mean() < 0.06


def test_run_sets_of_many_models_are_sampled_within_what_was_answered():
    rng = np.random.default_rng(0)
    answered = rng.random((50, 9)) < 0.8
    sample = sampled(answered, 0)
    assert not (sample.run & ~answered[sample.row]).any()
    np.testing.assert_allclose(np.bincount(sample.row, sample.weight, minlength=50), 1)
    some = sampled(answered, 1)
    assert len(some.row) != len(sample.row) or not np.array_equal(some.run, sample.run)
    # All of them for few models: 2^m for each query, sizes alike in weight.
    every = sampled(np.ones((4, 3), dtype=np.bool_), 0)
    assert len(every.row) == 32
    for size in range(4):
        assert every.weight[every.run.sum(axis=1) == size].sum() == pytest.approx(1)


def test_covariances_are_those_of_the_moves():
    answers, _ = hopeless(500)
    states = fitted(answers).fitted_states()
    rows = np.arange(500)
    found = factors_of(states, answers.answered)
    assert sorted(found) == [0, 1, 2]
    for run, factor in found.items():
        moves = states.quality(run, rows) - states.quality(3, rows)
        expected = np.cov(moves.T, bias=True)
        np.testing.assert_allclose(np.diag(factor @ factor.T), np.diag(expected), rtol=1e-3, atol=1e-6)
        assert (np.triu(factor, 1) == 0).all()
        share = (factor @ factor.T)[0, 1] / expected[0, 1]
        assert 0.5 < share <= 1.0 + 1e-9
    # Nobody answered after this: borrowed from the nearest.
    np.testing.assert_array_equal(replace(states, factors=found).factor(3), found[1])
    assert states.factor(0) is None
    assert not factors_of(states, np.tile([True, False], (500, 1))).keys() - {0}
    assert factors_of(replace(states), np.zeros((500, 2), dtype=np.bool_)) == {}


def test_shrinkage_is_total_where_nothing_is_correlated_and_none_where_all_is():
    rng = np.random.default_rng(0)
    free = rng.standard_normal((30, 6))
    factor = factor_of(free)
    off = (factor @ factor.T)[~np.eye(6, dtype=bool)]
    assert np.abs(off).mean() < 0.35 * np.abs(np.cov(free.T, bias=True)[~np.eye(6, dtype=bool)]).mean()
    same = np.repeat(rng.standard_normal((500, 1)), 3, axis=1)
    covariance = factor_of(same) @ factor_of(same).T
    np.testing.assert_allclose(covariance, np.full((3, 3), same.var()), rtol=0.01)
    np.testing.assert_allclose(factor_of(np.zeros((5, 2))), np.eye(2) * 1e-4)


def test_logistic_regression_is_at_the_least_of_its_loss():
    rng = np.random.default_rng(0)
    x, y, weight = rng.normal(size=(80, 4)), rng.random(80), rng.random(80)
    penalty, offset = np.array([0.1, 1.0, 2.0, 5.0]), rng.normal(size=80)
    found = logistic(x, y, weight, penalty, offset=offset)
    slope = x.T @ (weight * (sigmoid(x @ found + offset) - y)) + penalty * found
    np.testing.assert_allclose(slope, 0, atol=1e-4)
    np.testing.assert_allclose(logistic(x, y, weight, penalty, offset=offset, start=np.full(4, 9.0)), found, atol=1e-4)
    # Separable: without the penalty there would be no end.
    assert np.isfinite(logistic(np.ones((5, 1)), np.ones(5), np.ones(5), np.zeros(1))).all()


def test_recalibration_finds_slope_and_intercept():
    eta = np.linspace(-4, 4, 4000)
    y = sigmoid(0.5 * eta - 1)
    np.testing.assert_allclose(recalibration(eta, y, np.ones(4000), 1e-6), (0.5, -1), atol=1e-3)
    assert recalibration(eta, sigmoid(-eta), np.ones(4000), 1e-6)[0] == 0  # never turned over
    assert recalibration(eta[:0], y[:0], eta[:0], 5.0) == (1.0, 0.0)
    few = recalibration(eta[2100:2103], np.ones(3), np.ones(3), 5.0)
    assert abs(few[0] - 1) < 0.7  # three rows say little


def test_what_was_learned_survives_saving():
    answers, _ = hopeless(300)
    answers = replace(answers, score_cost=np.full((300, 2), 0.1))
    estimate = expecting(answers.table)
    estimator = PostHocEstimator(covariance="full", seed=3).fit(answers, estimate)
    config, arrays = estimator.state()
    assert all(array.dtype != object for array in arrays.values())
    again = PostHocEstimator.from_state(json.loads(json.dumps(config)), arrays)
    assert (again.models_, again.signals_, again.l2_) == (estimator.models_, estimator.signals_, estimator.l2_)
    rows = np.arange(300)
    for run in range(4):
        one, other = estimator.states(answers, estimate), again.states(answers, estimate)
        np.testing.assert_array_equal(one.quality(run, rows), other.quality(run, rows))
        np.testing.assert_array_equal(one.cost, other.cost)
        np.testing.assert_array_equal(again.factor(run), estimator.factor(run))
    assert again.covariance_ == "full"
    assert repr(again) == "PostHocEstimator(l2=None, folds=5, covariance='full', seed=3)"
    with pytest.raises(NotFittedError, match="was loaded"):
        again.fitted_states()
    with pytest.raises(ConfigError, match="do not belong together"):
        PostHocEstimator.from_state(config | {"signals": ["logprob"]}, arrays)


def test_fitting_twice_gives_the_same():
    answers, _ = hopeless(200)
    one, other = fitted(answers), fitted(answers)
    np.testing.assert_array_equal(
        one.fitted_states().quality(1, np.arange(200)), other.fitted_states().quality(1, np.arange(200))
    )


def test_what_cannot_be_is_refused():
    answers, _ = hopeless(50)
    estimate = expecting(answers.table)
    for options in ({"l2": 0.0}, {"folds": 1}, {"covariance": "diagonal"}):
        with pytest.raises(ConfigError):
            PostHocEstimator(**options).fit(answers, estimate)
    with pytest.raises(NotFittedError, match="call fit"):
        PostHocEstimator().predict(np.ones(2), np.ones((2, 0)), None, 0)
    with pytest.raises(ConfigError, match="50 rows of answers and 20 of estimates"):
        PostHocEstimator().fit(answers, expecting(answers.table.take(range(20))))
    with pytest.raises(UnknownModelError):
        PostHocEstimator().fit(answers, expecting(answers.table.select(["small"])))
    with pytest.raises(PriceUnknownError):
        PostHocEstimator().fit(answers, replace(estimate, cost=np.full((50, 2), np.nan)))
    estimator = fitted(answers)
    with pytest.raises(ConfigError, match="lack the signals length"):
        estimator.states(replace(answers, signals={"logprob": answers.signals["logprob"]}), estimate)
