"""Plans of one query: what is shown as it comes, what a limit on calls means to them, and what is good enough."""

import numpy as np
import pytest

from agentroute.cascades import (
    Attempt,
    CascadeRouter,
    CascadeRouting,
    Limits,
    Next,
    Ordered,
    Pick,
    Planned,
    Straight,
    ThresholdCascade,
    cascade,
    drive,
    same_answer,
)
from agentroute.cascades._threshold import Chain
from agentroute.router import Router
from agentroute.testing import HashEmbedder
from agentroute.types import Query, Reply, Score, ToolCall

MODELS = ("a", "b", "c")
COST = np.array([0.001, 0.01, 0.02])
BROKEN = Reply(text="Let me look.", tool_calls=(ToolCall(name="get", problem="no JSON"),))


class PostHoc:
    """Expects of a model what its answer's signal says, and before it has answered what was expected."""

    models_ = MODELS
    signals_ = ("told",)

    def predict(self, quality, signals, agreement, answered):
        ran = np.array([answered >> j & 1 for j in range(len(quality))], bool)
        return np.where(ran & np.isfinite(signals[:, 0]), signals[:, 0], quality)

    def factor(self, answered):
        return np.diag([0.0 if answered >> j & 1 else 0.2 for j in range(3)])


def planned(policy=None, *, quality=(0.3, 0.5, 0.62), **kwargs):
    given = {"cost": COST, "latency": None, "eligible": frozenset(MODELS), "same": None} | kwargs
    return Planned(posthoc=PostHoc(), policy=policy or CascadeRouting(willingness_to_pay=1.0), quality=np.array(quality), **given)


def chain(*columns, thresholds, **options):
    return ThresholdCascade(**options).using(Chain(columns=columns, thresholds=thresholds, quality=0.5, cost=0.01))


def run(plan, replies=None, told=None, **limits):
    """Drives a cascade: what each model says, or raises; the judge's signal of each answer. Gives result, calls and checks."""
    steps, judged = [], []

    def call(step):
        steps.append(step)
        reply = (replies or {}).get(step.model, Reply(text=step.model))
        if isinstance(reply, Exception):
            raise reply
        return Attempt(model=step.model, answer=reply.text, reply=reply, cost=0.001)

    def check(attempt):
        judged.append(attempt.model)
        return Score(value=0.5, signals={"told": (told or {}).get(attempt.model, 0.1)})

    flow = cascade(plan, MODELS, retryable=lambda error: isinstance(error, ConnectionError), limits=Limits(**limits))
    return drive(flow, call, check), steps, judged


def unfitted(query):
    return CascadeRouter(Router(MODELS, embedder=HashEmbedder(), default="a")).plan(query)


ROUTED = [
    lambda whole: unfitted(Query(text="x", needs=frozenset({"tools"} if whole else ()))),
    lambda whole: Straight(MODELS, "nothing is learned yet", whole=whole),
    lambda whole: planned(CascadeRouting(willingness_to_pay=100.0, climb=False), quality=(0.6, 0.5, 0.4), whole=whole),
    lambda whole: planned(chain(0, thresholds=()), whole=whole),
]


@pytest.mark.parametrize("make", ROUTED)
@pytest.mark.parametrize("broken", [BROKEN, Reply(text="half", problem="the answer broke off")])
def test_a_routed_answer_is_taken_as_it_was_shown(make, broken):
    """Somebody has read it: another one would come on top of it."""
    result, steps, judged = run(make(False), {"a": broken})
    assert [(step.model, step.final) for step in steps] == [("a", True)]
    assert (result.model, result.accepted, judged) == ("a", False, [])
    assert result.attempts[0].score.value == 0.0


@pytest.mark.parametrize("make", ROUTED)
@pytest.mark.parametrize("nothing", [Reply(text=" "), Reply(text="", problem="the answer broke off"), ConnectionError()])
def test_what_has_shown_nothing_is_passed_over(make, nothing):
    result, steps, judged = run(make(False), {"a": nothing})
    assert (result.model, result.accepted, len(steps), judged) == ("b" if steps[1].model == "b" else "c", True, 2, [])


@pytest.mark.parametrize("make", ROUTED)
def test_with_tools_a_routed_answer_is_waited_for_and_not_judged(make):
    result, steps, judged = run(make(True), {"a": BROKEN})
    assert steps[0].model == "a"
    assert not steps[0].final
    assert (result.chosen, result.accepted, judged) == (1, True, [])
    good, steps, judged = run(make(True))
    assert ([(step.model, step.final) for step in steps], good.accepted, judged) == ([("a", False)], True, [])


@pytest.mark.parametrize("make", ROUTED)
def test_the_last_who_may_be_called_is_never_waited_for(make):
    result, steps, _ = run(make(True), {"a": BROKEN}, max_models=1)
    assert [(step.model, step.final) for step in steps] == [("a", True)]
    assert not result.accepted
    _, steps, _ = run(make(True), dict.fromkeys(MODELS, BROKEN))
    assert [step.final for step in steps] == [False, False, True]


def test_the_last_one_that_a_policy_allows_is_never_waited_for():
    plan = planned(CascadeRouting(willingness_to_pay=100.0, max_models=2), whole=True)
    result, steps, judged = run(plan, {"c": BROKEN})
    assert [step.final for step in steps] == [False, True]
    assert len(judged) == len(result.attempts) - 1 == 1


def test_a_final_answer_ends_the_flow_of_any_plan():
    class Both:
        def next(self, attempts, allowed):
            return Next(model=allowed[0], final=True)

        def pick(self, attempts):
            return Pick(index=len(attempts) - 1, accepted=True)

    assert [step.model for step in run(Both(), {"a": BROKEN})[1]] == ["a"]
    assert [step.model for step in run(Both(), {"a": Reply(text="")})[1]] == ["a", "b"]


def test_an_unusable_last_answer_loses_to_a_rejected_usable_one_whatever_was_shown():
    result, steps, _ = run(Ordered(MODELS, threshold=0.6), {"c": BROKEN})
    assert (steps[-1].model, steps[-1].final) == ("c", True)
    assert (result.model, result.accepted) == ("b", False)


@pytest.mark.parametrize(("most", "called"), [(None, "abc"), (1, "c")])
def test_with_one_call_left_the_best_is_called_and_not_the_cheapest(most, called):
    for plan in (planned(), planned(CascadeRouting(willingness_to_pay=1.0, max_models=most))):
        limits = {} if most is None else {"max_models": most}
        _, steps, _ = run(plan, **limits)
        assert [step.model for step in steps] == list(called)
        assert steps[-1].final


def test_a_policy_s_limit_and_the_caller_s_are_the_same():
    for most in (1, 2, 3):
        by_policy = run(planned(CascadeRouting(willingness_to_pay=1.0, max_models=most)))[1]
        assert [step.model for step in run(planned(), max_models=most)[1]] == [step.model for step in by_policy]
        assert (
            run(planned(CascadeRouting(willingness_to_pay=1.0, max_models=2)), max_models=most)[1] == by_policy[:2] or most != 2
        )


def test_a_chain_that_is_cut_off_ends_with_the_best_that_is_left():
    whole = chain(0, 1, 2, thresholds=(0.9, 0.9))
    assert [step.model for step in run(planned(whole))[1]] == ["a", "b", "c"]
    assert [step.model for step in run(planned(whole), max_models=2)[1]] == ["a", "c"]
    assert [step.model for step in run(planned(whole), max_models=1)[1]] == ["c"]
    # What the last one costs is weighed; a budget is kept by the chain's own order.
    assert [
        step.model for step in run(planned(chain(0, 1, 2, thresholds=(0.9, 0.9), willingness_to_pay=0.01)), max_models=1)[1]
    ] == ["a"]
    bought = chain(0, 1, 2, thresholds=(0.9, 0.9), budget=0.02)
    assert [step.model for step in run(planned(bought), max_models=2)[1]] == ["a", "b"]


def test_who_failed_counts_and_nobody_is_called_beyond_the_policy_s_limit():
    plan = planned(CascadeRouting(willingness_to_pay=1.0, max_models=1))
    with pytest.raises(ConnectionError):
        run(plan, dict.fromkeys(MODELS, ConnectionError("down")))
    result, steps, _ = run(planned(CascadeRouting(willingness_to_pay=1.0, max_models=2)), {"a": ConnectionError("down")})
    assert len(steps) == 2
    assert result.accepted


@pytest.mark.parametrize(
    "policy", [CascadeRouting(willingness_to_pay=1.0), chain(0, 2, thresholds=(0.5,))], ids=["planned", "chain"]
)
@pytest.mark.parametrize("broken", [ConnectionError("down"), Reply(text="")])
def test_an_answer_after_which_another_was_wanted_is_not_good_enough(policy, broken):
    rest = {"b": broken, "c": broken}
    result, steps, _ = run(planned(policy), rest, {"a": 0.1})
    assert len(steps) > 1
    assert (result.model, result.accepted) == ("a", False)
    result, steps, _ = run(planned(policy), rest, {"a": 0.95})
    assert (len(steps), result.model, result.accepted) == (1, "a", True)


def test_an_answer_after_which_no_money_is_left_is_not_good_enough():
    ceilings = dict(zip(MODELS, (0.001, 0.01, 0.01), strict=True))
    flow = cascade(planned(), MODELS, retryable=lambda _: True, limits=Limits(max_cost=0.0105), ceilings=ceilings)
    result = drive(
        flow,
        lambda step: Attempt(model=step.model, answer="x", reply=Reply(text="x"), cost=0.001),
        lambda attempt: Score(value=0.5, signals={"told": 0.1}),
    )
    assert (result.model, len(result.attempts), result.accepted) == ("a", 1, False)


def test_the_clock_starts_with_the_first_call():
    now = [0.0]

    class Slow:
        def next(self, attempts, allowed):
            now[0] += 10.0
            return None if attempts else Next(model="a", final=True)

        def pick(self, attempts):
            return Pick(index=0, accepted=True)

    flow = cascade(Slow(), MODELS, retryable=lambda error: True, limits=Limits(deadline=3.0), clock=lambda: now[0])
    step = next(flow)
    # The strongest other model's share is half of what is left.
    assert step.deadline == 10.0 + 3.0 - 1.5
    flow.close()


def test_a_comparison_of_the_caller_s_own_may_take_its_time():
    assert planned(same=lambda one, other: True).waits
    assert not planned(same=same_answer).waits
    assert not planned().waits
