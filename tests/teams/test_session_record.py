"""What sessions put on record, whom they are the current one for, and money that comes and goes meanwhile."""

import gc
import math
import weakref
from contextvars import copy_context
from dataclasses import replace

import pytest

from agentroute.errors import BudgetError, ConfigError, OutcomeDroppedWarning
from agentroute.teams import MemoryBudget, Mode, Role, RoleAllocator, RunLog, Team, current_session
from agentroute.teams._designs import Trial
from agentroute.types import ModelCard, Price

CARDS = [
    ModelCard(id=name, price=Price(input=usd, output=usd), scores={"MMLU": score})
    for name, usd, score in (("small", 1.0, 0.3), ("large", 100.0, 0.9))
]
TEAM = Team(
    roles=[Role(name=name, input_tokens=500, output_tokens=500) for name in ("planner", "solver")], modes=[Mode(name="alone")]
)


@pytest.fixture
def log(tmp_path):
    return RunLog(tmp_path / "runs.jsonl")


@pytest.fixture
def allocator(log):
    return RoleAllocator(TEAM, CARDS, log=log)


# --- what a run is recorded as ---


@pytest.mark.parametrize("later", [True, False])
def test_a_success_of_a_run_that_no_call_reached_is_warned_of(allocator, log, later):
    session = allocator.session("x")
    if later:
        assert session.finish().cost == 0.0
    with pytest.warns(OutcomeDroppedWarning, match="no call of a role reached this session"):
        run = session.finish(success=1.0)
    assert run.cost is None  # whatever was done was done elsewhere
    assert session.finish(success=1.0) is run
    assert [one.cost for one in log] == [None]


@pytest.mark.parametrize("ends", ["released", "error"])
def test_a_run_without_calls_may_be_as_it_should_be(allocator, ends):
    with allocator.session("x") as session:
        if ends == "released":
            session.begin("solver").release()
        assert session.finish(success=0.0, error="Down" if ends == "error" else None).cost == 0.0


@pytest.mark.parametrize("budget", [1.0, None])
def test_what_a_run_has_booked_at_most_is_told_where_its_cost_is_unknown(allocator, log, budget):
    with allocator.session("x", budget=budget) as session:
        session.begin("planner", ceiling=lambda _: 0.25).settle(cost=0.01)
        session.begin("planner", ceiling=lambda _: 0.25).failed("Down")
        session.begin("solver", ceiling=lambda _: 0.125)
        run = session.finish()
    assert run.cost is None
    assert run.booked == (None if budget is None else pytest.approx(0.385))
    assert budget is None or session.budget.spent() == pytest.approx(run.booked)
    assert [one.booked for one in log] == [run.booked]


def test_a_run_that_a_log_has_not_taken_is_given_to_it_again(allocator):
    class Once(list):
        full = True

        def append(self, run):
            if self.full:
                raise OSError("disk full")
            super().append(run)

    allocator.log = Once()
    session = allocator.session("x")
    session.begin("planner").settle(cost=0.001)
    with pytest.warns(OutcomeDroppedWarning, match="disk full"):
        run = session.finish(success=1.0)
    allocator.log.full = False
    assert [session.finish(success=1.0).id, session.finish().id] == [run.id] * 2
    assert [one.id for one in allocator.log] == [run.id]


def test_a_session_that_a_generator_has_left_elsewhere_is_nobodys(allocator):
    def answers():
        with allocator.session("y") as session:
            yield session

    with allocator.session("x") as outer:
        going = answers()
        inner = next(going)
        assert current_session() is inner
        copy_context().run(going.close)
        assert inner.over
        assert current_session() is outer
    with allocator.session("z") as session:
        late = copy_context()
    # Whoever comes late is told so, and does not spend from nobody's budget.
    assert late.run(current_session) is session
    with pytest.raises(ConfigError, match=r"this session is finished: .* await inside the `with` block"):
        session.begin("planner")


def test_sessions_that_generators_have_left_elsewhere_are_let_go(allocator):
    def answers():
        with allocator.session("y") as session:
            yield session

    left = []
    for _ in range(5):
        going = answers()
        left.append(weakref.ref(next(going)))
        copy_context().run(going.close)
        del going
    gc.collect()
    assert sum(one() is not None for one in left) <= 1


def test_a_session_that_was_not_entered_can_be_left(allocator, log):
    session = allocator.session("x")
    session.__exit__(None, None, None)
    with session:
        pass
    session.__exit__(None, None, None)
    assert len(log) == 1
    assert current_session() is None


class Returned(MemoryBudget):
    """A budget of which somebody holds all at the first try, and gives it back at once."""

    taken = None

    def reserve(self, usd):
        if self.taken is None:
            self.taken = super().reserve(self.left())
        return super().reserve(usd)

    def left(self):
        if self.taken is not None:
            self.taken.release()
        return super().left()


class Refusing(MemoryBudget):
    """A budget that gives nothing of what it says is there."""

    def reserve(self, usd):
        raise BudgetError("not now", budget=self.left(), cheapest=usd)


def test_money_that_comes_back_in_between_is_there(allocator):
    with allocator.session("x", budget=Returned(1.0)) as session:
        call = session.begin("planner")
        assert (call.model, call.held) == ("large", pytest.approx(0.1))
        call.settle(cost=0.1)
    with allocator.session("x", budget=Refusing(1.0)) as session, pytest.raises(BudgetError, match="not now"):
        session.begin("planner")


def test_a_call_that_was_not_made_takes_its_own_model_off_the_record(allocator):
    with allocator.session("x", explore=1.0) as session:
        planned = session.models["planner"]
        [other] = {"small", "large"} - {planned}
        first, _ = session.begin("planner", model=other), session.begin("planner", model=planned).settle(cost=0.0)
        last = session.begin("planner", model=other)
        last.release()
        first.release()
        run = session.finish()
    assert (run.models["planner"], run.propensity) == (planned, pytest.approx(0.25))


# --- what a session begins with ---


def test_an_allocation_brings_its_budget_along(allocator):
    made = allocator.allocate("x", budget=0.15)
    with allocator.session("x", allocation=made) as session:
        assert session.budget.left() == pytest.approx(0.15)
    with allocator.session("x", allocation=made, budget=0.3) as session:
        assert session.budget.left() == pytest.approx(0.3)
    assert allocator.session("x", allocation=made, budget=math.inf).budget is None
    assert allocator.session("x", allocation=allocator.allocate("x")).budget is None


def test_who_is_left_out_by_name_does_not_take_part():
    team = Team(roles=[Role(name="planner"), Role(name="critic", optional=True)])
    made = RoleAllocator(team, CARDS).allocate("x", fixed={"critic": "none"})
    given = replace(made, models={**made.models, "critic": "none"})
    with RoleAllocator(team, CARDS).session("x", allocation=given) as session:
        assert not session.has("critic")
        assert dict(session.models) == made.models
        assert session.finish().models["critic"] == "none"


def test_a_mapping_is_no_allocation(allocator):
    with pytest.raises(ConfigError, match=r"is no Allocation: give fixed=\{role: model\}"):
        allocator.session("x", allocation={"planner": "small"})


# --- what is decided ---


def test_a_call_of_no_role_is_taken_to_need_as_much_as_the_dearest_of_any():
    team = Team(roles=[Role(name="short", input_tokens=50, output_tokens=50), Role(name="long", input_tokens=500)])
    with RoleAllocator(team, CARDS).session("x", budget=1.0) as session:
        held = {role: session.held(role)("small") for role in ("short", "long", None)}
    assert held["short"] < held["long"] == held[None]


def test_who_has_spoken_to_the_end_is_given_no_other_model(allocator):
    trial = Trial(models={"planner": "small", "solver": "large"}, mode="alone", propensity=0.25)
    with allocator.session("x", allocation=trial, budget=0.15) as session:
        session.begin("planner", ceiling=lambda _: 0.1).settle(cost=0.1)
        assert session.models == trial.models
        # It would cost nothing to call it the large one's from here on.
        assert session.begin("solver").model == "small"
        assert session.models == {"planner": "small", "solver": "small"}
