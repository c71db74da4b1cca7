"""Cascades of a role within a team's session: paid rung by rung, with their checks, and booked however they end."""

import asyncio
import threading
import time
import warnings
from dataclasses import replace

import pytest

from agentroute.cascades import Limits
from agentroute.errors import AgentRouteWarning, BudgetError, OutcomeDroppedWarning, StorageError
from agentroute.pool import ModelPool
from agentroute.scorers import as_scorer
from agentroute.serving import Asked, CascadeCall, CascadeDecider, JudgesVoice, Turn, Watch
from agentroute.teams import MemoryBudget
from agentroute.types import Reply, Score

TURNS = (Turn(role="user", text="x"),)


def climbing(judge=None, *, limits=None, most=0.0, role="planner", forced=None, pool=None):
    pool = ModelPool(["small", "middle", "large"]) if pool is None else pool
    judge = None if judge is None else as_scorer(judge, name="mine", ceiling=most)
    made = CascadeDecider(
        pool,
        planner=None,
        judge=judge,
        threshold=0.5,
        check_last=False,
        sticky="none",
        role=role,
        task=None,
        logged=False,
    )
    climb = made.begin(Asked(turns=TURNS, forced=forced)).decide()
    return CascadeCall(decided=climb, pool=pool, log=None, judge=judge, limits=limits or Limits(), voice=JudgesVoice(judge, None))


def only(*good, cost=0.0):
    """A judge that takes the answers of these models."""
    return lambda _, reply: Score(value=float(reply.model in good), cost=cost)


@pytest.fixture
def rung(answering):
    def serving(call, **answers):
        one = answering(call, **answers)
        return lambda step: replace(one(step), reply=Reply(text="yes", model=step.model))

    return serving


async def test_a_cascade_begins_with_what_its_role_was_given(allocator, both_ways, rung):
    with allocator.session("x", budget=2.0, fixed={"planner": "middle"}) as session:
        call = climbing(only("large"))
        answered = await both_ways(call, rung(call))
        told = session.finish()
    assert [one.model for one in answered.attempts] == ["middle", "large"]
    assert told.models["planner"] == "middle"
    assert told.roles["planner"].models == ("middle", "large")
    assert told.cost == pytest.approx(0.6)


async def test_models_that_cannot_be_paid_are_out_from_the_start(allocator, both_ways, rung):
    with allocator.session("x", budget=0.3, fixed={"planner": "small", "solver": "small"}) as session:
        call = climbing(only("large"))
        answered = await both_ways(call, rung(call))
        told = session.finish()
    assert [one.model for one in answered.attempts] == ["small", "middle"]
    assert told.cost == pytest.approx(0.11)


async def test_the_users_own_limit_holds_beside_the_sessions(allocator, both_ways, rung):
    pool = ModelPool([replace(card, max_output_tokens=5) for card in allocator.pool])

    class Limited(CascadeCall):
        def ceilings(self):
            return {model: allocator.pool.card(model).price.per_call for model in self.climb.models}

    with allocator.session("x", budget=2.0, fixed={"planner": "small"}):
        made = climbing(only("large"), limits=Limits(max_cost=0.2), pool=pool)
        call = Limited(decided=made.decided, pool=pool, log=None, judge=made.judge, limits=made.limits, voice=made.voice)
        answered = await both_ways(call, rung(call))
    assert [one.model for one in answered.attempts] == ["small", "middle"]


async def test_when_the_money_goes_between_two_rungs_the_best_answer_is_given(allocator, both_ways, rung):
    with allocator.session("x", budget=0.7, fixed={"planner": "small", "solver": "small"}) as session:
        call = climbing(only("large"))

        def taken():
            session.begin("solver", ceiling=lambda _: 0.65).settle(cost=0.65)
            return "yes"

        answered = await both_ways(call, rung(call, small=taken))
        told = session.finish()
    assert (answered.model, answered.accepted) == ("small", False)
    assert isinstance(answered.attempts[-1].error, BudgetError)
    assert told.roles["planner"].calls == 1


class Closing(MemoryBudget):
    """A budget that can be reserved from so often, and settled so often."""

    def __init__(self, usd, reserved, booked):
        super().__init__(usd)
        self.reserved, self.booked = reserved, booked

    def reserve(self, usd):
        self.reserved -= 1
        if self.reserved < 0:
            raise StorageError("disk full")
        return super().reserve(usd)

    def book(self, key, held, spent):
        self.booked -= 1
        if self.booked < 0:
            raise StorageError("disk full")
        super().book(key, held, spent)


@pytest.mark.parametrize(("reserved", "booked", "error"), [(1, 9, StorageError), (2, 9, None), (9, 1, None), (9, 0, None)])
async def test_a_budget_that_breaks_on_the_way_costs_no_answer(allocator, both_ways, rung, reserved, booked, error):
    budget = Closing(2.0, reserved, booked)
    with warnings.catch_warnings(), allocator.session("x", budget=budget, fixed={"planner": "small"}) as session:
        warnings.simplefilter("ignore", OutcomeDroppedWarning)
        call = climbing(only("middle", cost=0.03), most=0.04)
        answered = await both_ways(call, rung(call))
        budget.booked = 9
        session.finish()
    assert (answered.answer, answered.attempts[0].model) == ("yes", "small")
    if reserved == 9:
        assert answered.model == "middle"
        # All was booked in the end.
        assert budget.spent() == pytest.approx(0.01 + 0.03 + 0.1 + 0.03)
    if error is not None:
        assert isinstance(answered.attempts[0].check_error, error)


async def test_a_check_is_paid_for_too(allocator, both_ways, rung):
    with allocator.session("x", budget=2.0, fixed={"planner": "small"}) as session:
        call = climbing(only("middle", cost=0.03), most=0.04)
        await both_ways(call, rung(call))
        told = session.finish()
    assert told.cost == pytest.approx(0.11 + 2 * 0.03)
    assert session.budget.left() == pytest.approx(2.0 - told.cost)
    assert told.roles["planner"].calls == 2


async def test_a_check_that_failed_counts_as_the_most_that_it_can_cost(allocator, both_ways, rung):
    def broken(query, reply):
        raise OSError

    with allocator.session("x", budget=2.0, fixed={"planner": "middle"}) as session:
        call = climbing(broken, most=0.04)
        with pytest.warns(AgentRouteWarning, match="judge"):
            await both_ways(call, rung(call))
        told = session.finish()
    assert told.roles["planner"].cost is None
    assert session.budget.left() == pytest.approx(2.0 - 0.6 - 0.04)


async def test_a_check_that_cannot_be_paid_is_no_fault_of_the_judge(allocator, both_ways, rung):
    with allocator.session("x", budget=0.13, fixed={"planner": "middle", "solver": "small"}) as session:
        call = climbing(only("middle"), most=0.05)

        def taken():
            session.begin("solver", ceiling=lambda _: 0.01).settle(cost=0.01)
            return "yes"

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            answered = await both_ways(call, rung(call, middle=taken))
    assert answered.model == "middle"


async def test_a_forced_model_is_the_roles_from_here_on(allocator, both_ways, rung):
    with allocator.session("x", budget=2.0) as session:
        call = climbing(only("large"), forced="small")
        assert (await both_ways(call, rung(call))).model == "small"
        told = session.finish()
    assert told.models["planner"] == "small"
    assert told.cost == pytest.approx(0.01)


async def test_a_cascade_of_no_role_is_booked_for_none(allocator, both_ways, rung):
    with allocator.session("x", budget=2.0) as session:
        call = climbing(only("middle"), role=None)
        assert (await both_ways(call, rung(call))).model == "middle"
        assert session.finish().roles == {}


def test_a_call_that_is_too_late_is_booked_when_it_ends(allocator, rung):
    go, done = threading.Event(), threading.Event()
    with allocator.session("x", budget=2.0, fixed={"planner": "small"}) as session:
        call = climbing(only("small", "middle"), limits=Limits(timeout=0.2))

        def slow():
            go.wait(5)
            return "late"

        one = rung(call, small=slow)

        def noted(step):
            try:
                return one(step)
            finally:
                if step.model == "small":
                    done.set()

        answered = call.drive(noted)
        assert answered.model == "middle"
        held = session.budget.left()
        go.set()
        done.wait(5)
        time.sleep(0.01)
        told = session.finish()
    assert held == pytest.approx(2.0 - 0.1 - 0.01)
    assert told.roles["planner"].calls == 2
    assert told.cost == pytest.approx(0.11)


async def test_a_call_that_is_cancelled_by_its_deadline_condemns_its_model(allocator, rung):
    with allocator.session("x", budget=2.0, fixed={"planner": "small"}) as session:
        call = climbing(only("small", "middle"), limits=Limits(timeout=0.1))
        quick = rung(call)

        async def one(step):
            if step.model == "small":
                with Watch(call, step):
                    await asyncio.sleep(5)
            return quick(step)

        assert (await call.adrive(one)).model == "middle"
        told = session.finish()
    assert told.roles["planner"].error == "DeadlineExceededError"
    assert told.roles["planner"].cost is None
