"""The router of a cascade: fitted on answers, planned by, saved, and driven through the flow."""

import math
from dataclasses import replace

import numpy as np
import pytest

from agentroute.cascades import (
    AnswerTable,
    Attempt,
    CascadeRouter,
    CascadeRouting,
    Limits,
    Ordered,
    Planned,
    PostHocEstimator,
    RationalThresholds,
    Straight,
    ThresholdCascade,
    cascade,
    drive,
    same_answer,
)
from agentroute.cascades._tuning import Rates
from agentroute.errors import ArtefactError, ConfigError, NoEligibleModelError, NotFittedError, PriceUnknownWarning
from agentroute.router import Router
from agentroute.testing import HashEmbedder, planted_table
from agentroute.types import ModelCard, Query, Reply, Score, ToolCall

MODELS = ("small", "large")
COST = np.array([0.001, 0.01])
EMBEDDER = HashEmbedder()


def world(rows=600, *, seed=0):
    """Half of the queries are easy: the small model's confidence tells, no text does. The large one is right on 95 %."""
    rng = np.random.default_rng(seed)
    table = planted_table(rows, models=2, kinds=1, seed=seed)
    easy = rng.random(rows) < 0.5
    quality = np.column_stack([easy, rng.random(rows) < 0.95]).astype(float)
    table = replace(table, models=MODELS, quality=quality, cost=COST * rng.uniform(0.9, 1.1, (rows, 2)))
    sure = np.where(easy, 1.0, -1.0)[:, None] + 0.3 * rng.standard_normal((rows, 2))
    sure[:, 1] = np.nan  # nobody looks at the last answer
    return AnswerTable(table=table, signals={"sure": sure})


def fitted(answers, policy=None, **kwargs):
    router = Router(MODELS, embedder=EMBEDDER, default="large")
    return CascadeRouter(router, policy=policy, posthoc=PostHocEstimator(), **kwargs).fit(answers)


@pytest.fixture(scope="module")
def known():
    answers = world()
    return answers, fitted(answers, CascadeRouting(willingness_to_pay=0.05))


def attempt(model, sure=None, *, text="x", **kwargs):
    score = None if sure is None else Score(value=0.5, signals={"sure": sure})
    return Attempt(model=model, answer=text, reply=Reply(text=text), score=score, **kwargs)


def asked(answers, row=0):
    return replace(answers.table.queries[row], id=None)


def test_it_starts_with_the_cheap_model_and_climbs_where_the_answer_looks_bad(known):
    answers, router = known
    plan = router.plan(asked(answers))
    first = plan.next((), MODELS)
    assert (first.model, first.final) == ("small", False)
    assert plan.next((attempt("small", 1.2),), ("large",)) is None
    second = plan.next((attempt("small", -1.2),), ("large",))
    assert (second.model, second.final) == ("large", True)


def test_estimates_follow_the_evidence_and_nothing_else(known):
    answers, router = known
    plan = router.plan(asked(answers))
    before, good, bad = (plan.estimates(tried) for tried in ((), (attempt("small", 1.0),), (attempt("small", -1.0),)))
    assert before[0] == pytest.approx(0.5, abs=0.08)
    assert good[0] > 0.9
    assert bad[0] < 0.1
    # What the small model's answer looks like says nothing of the large one here.
    assert good[1] == pytest.approx(0.95, abs=0.06)
    assert bad[1] == pytest.approx(0.95, abs=0.06)


def test_candidates_tell_what_was_expected(known):
    answers, router = known
    small, large = router.plan(asked(answers)).candidates
    assert (small.model, large.model) == MODELS
    assert large.quality == pytest.approx(0.95, abs=0.05)
    assert small.cost == pytest.approx(0.001, rel=0.1)


def test_a_failed_model_is_planned_without(known):
    answers, router = known
    plan = router.plan(asked(answers))
    after = plan.next((Attempt(model="small", error=ValueError()),), ("large",))
    assert (after.model, after.final) == ("large", True)
    assert plan.pick((Attempt(model="small", error=ValueError()), attempt("large", final=True))).index == 1


def test_an_unusable_answer_is_no_answer(known):
    answers, router = known
    plan = router.plan(asked(answers))
    empty = attempt("small", 3.0, text=" ")
    assert plan.next((empty,), ("large",)).model == "large"
    assert plan.pick((empty,)) == replace(plan.pick((empty,)), index=0, accepted=False)
    assert plan.pick((attempt("large", 0.0), empty)).index == 0


def test_the_best_estimate_is_picked_unless_the_last_answer_was_final(known):
    answers, router = known
    plan = router.plan(asked(answers))
    assert plan.pick((attempt("small", -1.0), attempt("large"))).index == 1
    assert plan.pick((attempt("large"), attempt("small", -1.0))).index == 0
    assert plan.pick((attempt("large"), attempt("small", -1.0, final=True))).index == 1


def test_with_check_last_nothing_is_final(known):
    answers, _ = known
    plan = fitted(answers, CascadeRouting(willingness_to_pay=0.05, check_last=True)).plan(asked(answers))
    assert not plan.next((attempt("small", -1.2),), ("large",)).final


def test_who_may_not_be_called_is_not_planned_with(known):
    answers, router = known
    plan = router.plan(asked(answers))
    assert plan.next((), ("large",)).model == "large"
    assert plan.next((attempt("small", -2.0),), ("somebody else",)) is None


def test_the_whole_way_through_the_flow_gains_what_it_should(known):
    _, router = known
    held = world(400, seed=1)
    right = spent = climbed = 0.0
    for i in range(len(held)):

        def call(step, i=i):
            j = MODELS.index(step.model)
            return Attempt(model=step.model, answer=j, cost=float(held.table.cost[i, j]), reply=Reply(text="x"))

        def check(tried, i=i):
            return Score(value=0.5, signals={"sure": float(held.signals["sure"][i, tried.answer])})

        flow = cascade(router.plan(asked(held, i)), MODELS, retryable=lambda _: True, limits=Limits(max_models=2))
        result = drive(flow, call, check)
        right += held.table.quality[i, result.answer]
        spent += result.cost
        climbed += len(result.attempts) > 1
    alone = held.table.quality[:, 1].mean()
    # Easy ones are always right for a tenth of the price; the others cost both.
    assert right / 400 > alone + 0.01
    assert spent / 400 < 0.7 * held.table.cost[:, 1].mean()
    assert climbed / 400 == pytest.approx(0.5, abs=0.06)


def test_what_is_replayed_is_what_is_driven(known):
    """The vectorised replay and the plans of single queries decide alike."""
    _, router = known
    held = world(60, seed=2)
    aligned, estimate = router.expected(held)
    called, answer = router.policy.run(router.posthoc.states(aligned, estimate))
    for i in range(len(held)):
        plan, tried = router.plan(asked(held, i)), []
        while (step := plan.next(tuple(tried), [m for m in MODELS if m not in {t.model for t in tried}] or ["none"])) is not None:
            j = MODELS.index(step.model)
            tried.append(attempt(step.model, float(held.signals["sure"][i, j]) if j == 0 else math.nan))
        assert [one.model for one in tried] == [m for m, on in zip(MODELS, called[i], strict=True) if on]
        assert MODELS.index(tried[plan.pick(tuple(tried)).index].model) == answer[i]


@pytest.mark.parametrize(
    "policy",
    [
        CascadeRouting(budget=0.006),
        CascadeRouting(willingness_to_pay=0.05, ordered=True, max_models=2),
        ThresholdCascade(budget=0.006),
        RationalThresholds(budget=0.006),
    ],
)
def test_plans_survive_saving(policy, tmp_path):
    answers = world(300)
    router = fitted(answers, policy)
    router.save(tmp_path / "cascade")
    again = CascadeRouter.load(tmp_path / "cascade", embedder=EMBEDDER)
    assert (again.signals, again.default, again.pool.ids, again.check_last) == (("sure",), "large", MODELS, False)
    assert again.paradigm == router.paradigm
    for sure in np.linspace(-2, 2, 9):
        for i in range(5):
            one, other = (which.plan(asked(answers, i)) for which in (router, again))
            tried = (attempt("small", float(sure)),)
            np.testing.assert_array_equal(one.estimates(tried), other.estimates(tried))
            assert one.next((), MODELS) == other.next((), MODELS)
            assert one.next(tried, ("large",)) == other.next(tried, ("large",))


def test_a_router_folder_is_no_cascade_folder(known, tmp_path):
    known[1].router.save(tmp_path / "router")
    with pytest.raises(ArtefactError, match=r"Router\.load"):
        CascadeRouter.load(tmp_path / "router", embedder=EMBEDDER)


def test_a_damaged_cascade_is_refused(known, tmp_path):
    known[1].save(tmp_path / "cascade")
    body = bytearray((tmp_path / "cascade" / "arrays.npz").read_bytes())
    body[200] ^= 1
    (tmp_path / "cascade" / "arrays.npz").write_bytes(body)
    with pytest.raises(ArtefactError, match="damaged"):
        CascadeRouter.load(tmp_path / "cascade", embedder=EMBEDDER)


def test_a_comparison_of_the_callers_own_cannot_be_saved(tmp_path):
    answers = world(120)
    agreement = np.full((120, 2, 2), 1.0)
    router = fitted(replace(answers, agreement=agreement), same=lambda one, other: one == other)
    with pytest.raises(ConfigError, match="same="):
        router.save(tmp_path / "cascade")


def test_answers_are_compared_where_the_log_compared_them():
    answers = world(400)
    agree = answers.table.quality[:, 0] * 1.0
    agreement = np.ones((400, 2, 2))
    agreement[:, 0, 1] = agreement[:, 1, 0] = agree
    router = fitted(replace(answers, signals={}, agreement=agreement))
    plan = router.plan(asked(answers))
    alike = plan.estimates((attempt("small", text="It is 4."), attempt("large", text="4")))
    apart = plan.estimates((attempt("small", text="It is 4."), attempt("large", text="5")))
    assert alike[0] > 0.85
    assert apart[0] < 0.15


def calls(**arguments):
    return {"text": "", "tool_calls": (ToolCall(name="pay", arguments=arguments),)}


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (calls(usd=1), calls(usd=9), 0.0),
        (calls(usd=1, to="x"), calls(to="x", usd=1) | {"text": "Paying."}, 1.0),
        (calls(), {"text": "Paid."}, 0.0),
        ({"parsed": {"usd": 1}, "text": "it is 7"}, {"parsed": {"usd": 2}, "text": "it is 7"}, 0.0),
        ({"parsed": [1, {"b": 2}]}, {"parsed": (1.0, {"b": 2})}, 1.0),
        ({"parsed": ModelCard(id="a")}, {"parsed": ModelCard(id="b")}, 0.0),
        ({"parsed": object()}, {"parsed": object()}, math.nan),
        ({"text": "It is 4."}, {"text": "4"}, 1.0),
    ],
)
def test_calls_and_objects_agree_when_they_are_the_same(one, other, alike):
    """Their texts are empty, or beside the point."""
    seen = []

    class Watched:
        models_, signals_ = MODELS, ()

        def predict(self, quality, signals, agreement, answered):
            seen.append(agreement)
            return quality

    plan = Planned(
        posthoc=Watched(), policy=None, quality=COST, cost=COST, latency=None, eligible=frozenset(MODELS), same=same_answer
    )
    replies = [Reply(**{"text": "", **told}) for told in (one, other)]
    plan.estimates([Attempt(model=model, reply=reply) for model, reply in zip(MODELS, replies, strict=True)])
    np.testing.assert_array_equal(seen[0][0, 1], alike)


def test_with_nothing_learned_the_default_answers_and_the_others_stand_by():
    router = CascadeRouter(Router(MODELS, embedder=EMBEDDER, default="large"))
    plan = router.plan("What is 2 + 2?")
    assert isinstance(plan, Straight)
    assert "nothing is learned" in plan.reason
    assert plan.next((), MODELS).model == "large"
    assert plan.next((Attempt(model="large", error=ValueError()),), ("small",)).model == "small"
    assert plan.next((attempt("large"),), ("small",)) is None
    assert plan.pick((attempt("large", text=""), attempt("small"))).index == 1
    with pytest.raises(NotFittedError):
        router.expected(world(50))
    with pytest.raises(NotFittedError):
        router.save("nowhere")


def test_a_query_unlike_the_log_gets_the_default(known):
    _, router = known
    plan = router.plan(Query(text="zzz qqq 123 unlike anything", task="another"))
    assert isinstance(plan, Straight)
    assert plan.candidates[0].model == "large"


def test_needs_are_kept():
    answers = world(300)
    cards = [ModelCard(id="small", capabilities=()), ModelCard(id="large", capabilities={"tools"})]
    router = CascadeRouter(Router(cards, embedder=EMBEDDER), posthoc=PostHocEstimator()).fit(answers)
    plan = router.plan(replace(asked(answers), needs=frozenset({"tools"})))
    assert [one.model for one in plan.candidates] == ["large"]
    assert plan.next((), MODELS).model == "large"
    with pytest.raises(NoEligibleModelError):
        router.plan(replace(asked(answers), needs=frozenset({"image"})))


def test_routing_alone_pays_no_scoring(known):
    answers, _ = known
    dear = replace(answers, score_cost=np.full(answers.table.quality.shape, 1.0))
    alone = fitted(dear, CascadeRouting(climb=False, willingness_to_pay=0.05))
    assert alone.policy.expected_cost_ < 0.02
    step = alone.plan(asked(answers)).next((), MODELS)
    assert step.final


def test_where_looking_does_not_pay_it_routes_and_nobody_scores(known, tmp_path):
    answers, _ = known
    useless = np.random.default_rng(5).standard_normal((600, 2))
    for log in (
        replace(answers, signals={"sure": useless}),
        replace(answers, score_cost=np.column_stack([np.full(600, 0.5), np.zeros(600)])),
    ):
        router = fitted(log, CascadeRouting(willingness_to_pay=0.05))
        assert not router.looks
        assert (router.signals, router.paradigm.when) == ((), "pre-generation")
        step = router.plan(asked(answers)).next((), MODELS)
        assert (step.model, step.final) == ("large", True)
        # What nobody looks at is not paid for.
        done = router.replay(world(200, seed=3))
        assert dict(zip(router.posthoc.models_, done.called.sum(axis=0), strict=True)) == {"small": 0, "large": 200}
        assert done.cost.mean() == pytest.approx(0.01, rel=0.05)
    router.save(tmp_path / "cascade")
    again = CascadeRouter.load(tmp_path / "cascade", embedder=EMBEDDER)
    assert not again.looks
    assert again.plan(asked(answers)).next((), MODELS) == step


def test_a_budget_that_scoring_alone_would_spend_is_kept_by_routing(known):
    answers, _ = known
    dear = replace(answers, score_cost=np.column_stack([np.full(600, 0.02), np.zeros(600)]))
    router = fitted(dear, CascadeRouting(budget=0.004))
    assert not router.looks
    assert router.deciding.expected_cost_ <= 0.004


def test_where_looking_pays_the_replay_pays_for_it(known):
    answers, _ = known
    paid = replace(answers, score_cost=np.full((600, 2), 0.0005))
    router = fitted(paid, CascadeRouting(willingness_to_pay=0.05))
    assert router.looks
    held = replace(world(300, seed=4), score_cost=np.full((300, 2), 0.0005))
    done = router.replay(held)
    small, both = done.called[:, 0], done.called.all(axis=1)
    expected = held.table.cost[:, 0] * small + held.table.cost[:, 1] * done.called[:, 1] + 0.0005 * small
    # The last answer is taken as it is: nobody pays to have it judged.
    np.testing.assert_allclose(done.cost, expected)
    assert 0.3 < both.mean() < 0.7
    judged = fitted(paid, CascadeRouting(willingness_to_pay=0.05, check_last=True)).replay(held)
    np.testing.assert_allclose(judged.cost, expected + 0.0005 * done.called[:, 1])


def test_a_model_without_answers_is_named():
    with pytest.raises(ConfigError, match="no answer of 'huge'"):
        CascadeRouter(Router([*MODELS, "huge"], embedder=EMBEDDER)).fit(world(100))


def test_outcomes_alone_are_not_enough():
    with pytest.raises(ConfigError, match="AnswerTable"):
        CascadeRouter(Router(MODELS, embedder=EMBEDDER)).fit(world(100).table)


def test_plain_plans_need_no_router():
    assert Ordered(MODELS).next((), MODELS).model == "small"


def test_a_policy_that_mixes_decides_each_query_live_as_in_the_replay():
    """Half of the queries at each of two prices, by their keys: what is replayed is what is driven."""
    router = fitted(world(300), CascadeRouting(budget=0.006, mix=True))
    router.policy.rates_ = Rates(table=np.array([[1000.0], [1.0]]), shares=np.array([0.5, 0.5]))
    held = world(80, seed=6)
    done = router.replay(replace(held, table=replace(held.table, queries=tuple(asked(held, i) for i in range(80)))))
    first = [router.plan(asked(held, i)).next((), MODELS).model for i in range(80)]
    assert [MODELS[j] for j in done.called.argmax(axis=1)] == first or len(set(first)) == 2
    for i, model in enumerate(first):
        assert done.called[i, MODELS.index(model)]


def test_what_scoring_cost_nobody_knows_is_the_mean_of_what_is_known(known):
    answers, _ = known
    cost = np.column_stack([np.where(np.arange(600) % 2, np.nan, 0.0005), np.zeros(600)])
    router = fitted(replace(answers, score_cost=cost), CascadeRouting(willingness_to_pay=0.05))
    assert router.looks
    np.testing.assert_allclose(router.posthoc.score_cost_, [0.0005, 0.0])
    with pytest.warns(PriceUnknownWarning, match="small, large"):
        free = fitted(replace(answers, score_cost=np.full((600, 2), np.nan)), CascadeRouting(willingness_to_pay=0.05))
    assert free.looks


def test_queries_unlike_the_log_are_replayed_as_the_default(known):
    _, router = known
    held = world(60, seed=7)
    texts = [f"zzz {i} qqq unlike anything {i * 7919}" for i in range(60)]
    queries = tuple(Query(text=text, task="another") for text in texts)
    strange = replace(held, table=replace(held.table, queries=queries, embeddings=EMBEDDER.embed(texts)))
    done = router.replay(strange)
    assert isinstance(router.plan(queries[0]), Straight)
    np.testing.assert_array_equal(done.called, np.tile([False, True], (60, 1)))
    np.testing.assert_array_equal(done.answer, np.ones(60))
    np.testing.assert_allclose(done.cost, held.table.cost[:, 1])


def test_after_a_fit_that_fails_it_plans_as_before():
    router = fitted(world(300), ThresholdCascade(budget=0.006))
    before = [router.plan(asked(world(20, seed=8), i)).next((), MODELS) for i in range(20)]
    dearer = world(300, seed=9)
    dearer = replace(dearer, table=replace(dearer.table, cost=dearer.table.cost[:, ::-1] * 10))
    with pytest.raises(ConfigError, match="budget"):
        router.fit(dearer)
    assert router.posthoc.models_ == MODELS
    assert [router.plan(asked(world(20, seed=8), i)).next((), MODELS) for i in range(20)] == before


def test_a_comparison_that_fails_costs_no_answer():
    answers = world(200)
    agreement = np.ones((200, 2, 2))
    for odd in (lambda *_: 1 / 0, lambda *_: 7.0):
        plan = fitted(replace(answers, agreement=agreement), same=odd).plan(asked(answers))
        tried = (attempt("small", 1.0), attempt("large"))
        assert np.isfinite(plan.estimates(tried)).all()
        assert plan.pick(tried).accepted


def test_what_a_dear_call_cost_stands_in_when_it_was_not_logged(known):
    _, router = known
    held = world(200, seed=10)
    holes = replace(held, table=replace(held.table, cost=held.table.cost * np.array([1.0, np.nan])))
    assert router.replay(holes).point[0] == pytest.approx(router.replay(held).point[0], rel=0.05)


def test_one_model_alone_is_a_cascade_too():
    answers = world(100).take(np.arange(100))
    alone = CascadeRouter(Router(["large"], embedder=EMBEDDER)).fit(answers.select(["large"]))
    step = alone.plan(asked(answers)).next((), ("large",))
    assert (step.model, step.final) == ("large", True)


def test_options_of_numpy_can_be_saved(tmp_path):
    for number, policy in enumerate(
        (CascadeRouting(budget=np.float32(0.006), max_models=np.int64(2)), ThresholdCascade(levels=np.int64(10)))
    ):
        fitted(world(120), policy).save(tmp_path / str(number))
        CascadeRouter.load(tmp_path / str(number), embedder=EMBEDDER)


def driven(router, held, *, score_cost):
    """Every query through the flow: who was called, whose answer was taken, and what it really cost."""
    found = []
    models = held.models
    for i in range(len(held)):

        def call(step, i=i):
            j = models.index(step.model)
            return Attempt(model=step.model, answer=j, cost=float(held.table.cost[i, j]), reply=Reply(text="x"))

        def check(tried, i=i):
            signals = {name: float(values[i, tried.answer]) for name, values in held.signals.items()}
            return Score(value=0.5, cost=float(score_cost[i, tried.answer]), signals=signals)

        order = router.pool.ids
        result = drive(cascade(router.plan(asked(held, i)), order, retryable=lambda _: True), call, check)
        found.append(({one.model for one in result.attempts}, result.model, result.cost))
    return found


@pytest.mark.parametrize("options", [{}, {"max_models": 2}, {"check_last": True}, {"ordered": True}, {"climb": False}])
def test_with_three_models_the_replay_calls_answers_and_pays_as_the_flow_does(options):
    """Easy, needy and hard queries; the middle model helps few of them, so that it is mostly skipped; looking costs something."""

    def log(rows, seed):
        rng = np.random.default_rng(seed)
        kind = rng.choice(3, rows, p=[0.5, 0.15, 0.35])
        quality = np.column_stack([kind == 0, kind <= 1, rng.random(rows) < 0.9]).astype(float)
        table = planted_table(rows, models=3, kinds=1, seed=seed)
        cost = np.array([0.001, 0.003, 0.01]) * rng.uniform(0.9, 1.1, (rows, 3))
        sure = quality + 0.3 * rng.standard_normal((rows, 3))
        table = replace(table, models=("small", "middle", "large"), quality=quality, cost=cost)
        return AnswerTable(table=table, signals={"sure": sure}, score_cost=np.full((rows, 3), 0.0004))

    router = CascadeRouter(
        Router(("small", "middle", "large"), embedder=EMBEDDER), policy=CascadeRouting(willingness_to_pay=0.05, **options)
    ).fit(log(600, 0))
    held = log(150, 1)
    done = router.replay(held)
    live = driven(router, held, score_cost=held.score_cost)
    names = router.posthoc.models_
    for i, (called, answer, cost) in enumerate(live):
        assert called == {name for name, on in zip(names, done.called[i], strict=True) if on}
        assert names[done.answer[i]] == answer
        assert cost == pytest.approx(done.cost[i])
    if not options:
        assert 1.05 < np.mean([len(called) for called, _, _ in live]) < 2.5
