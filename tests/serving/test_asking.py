"""How a plan is asked: how often, and what it is told of limits."""

import pytest

from agentroute.cascades import Attempt, Limits, Next, Pick, cascade
from agentroute.pool import ModelPool
from agentroute.serving import Asked, CascadeDecider, Turn

IDS = ("small", "middle", "large")


class Counted:
    """Plans the middle model and then the large one, the large one alone where one call is all; counts how often it is asked."""

    def __init__(self, own=None):
        self.asked, self.told, self.most = [], [], own

    def plan(self, query):
        return self

    def limit(self, most):
        self.told.append(most)
        self.most = min((one for one in (self.most, most) if one is not None), default=None)
        return self.most

    def next(self, attempts, allowed):
        self.asked.append((len(attempts), tuple(allowed)))
        return Next(model="large" if attempts or self.most == 1 else "middle", final=bool(attempts))

    def pick(self, attempts):
        return Pick(index=0, accepted=True)


def begun(planner, max_models=None):
    decider = CascadeDecider(
        ModelPool(IDS), planner=planner, judge=None, threshold=0.5, check_last=False, sticky="none",
        role=None, task=None, logged=False, max_models=max_models,
    )  # fmt: skip
    return decider.begin(Asked(turns=[Turn(role="user", text="x")])).decide()


def test_a_plan_is_asked_once_before_the_first_call():
    planner = Counted()
    climb = begun(planner)
    step = next(cascade(climb.plan, climb.models, retryable=lambda _: True))
    assert (step.model, climb.decision.model) == ("middle", "middle")
    assert planner.asked == [(0, IDS)]


def test_a_plan_knows_the_limit_before_the_decision_is_made():
    planner = Counted()
    climb = begun(planner, max_models=1)
    step = next(cascade(climb.plan, climb.models, retryable=lambda _: True, limits=Limits(max_models=1)))
    assert (step.model, climb.decision.model) == ("large", "large")
    assert planner.told[0] == 1


def test_a_plan_s_own_limit_is_kept_without_asking_it():
    planner = Counted(own=1)
    climb = begun(planner)
    flow = cascade(climb.plan, climb.models, retryable=lambda _: True)
    step = next(flow)
    with pytest.raises(OSError, match="down"):
        flow.send(Attempt(model=step.model, error=OSError("down")))
    assert [tried for tried, _ in planner.asked] == [0, 0]  # once more with the model alone, as the last one
    assert climb.plan.failed is None


def test_a_limit_that_fails_costs_no_answer(recwarn):
    planner = Counted()
    planner.limit = lambda most: 1 / 0
    climb = begun(planner, max_models=2)
    assert climb.decision.model == "small"
    assert isinstance(climb.error, ZeroDivisionError)
    assert "one model after the other" in str(recwarn.pop().message)
