"""Calls of a role whose answers came to no end, or whose money could not be booked: what counts as spent all the same."""

import asyncio

import pytest

from agentroute.errors import BudgetOverrunWarning, OutcomeDroppedWarning, StorageError
from agentroute.pool import ModelPool
from agentroute.serving import Asked, Decider, RoutedCall, Spent, Turn, Watch
from agentroute.teams import MemoryBudget
from agentroute.types import Usage

USAGE = Usage(input_tokens=10, output_tokens=5)


class StatusError(Exception):
    """As HTTP clients raise them."""

    def __init__(self, status_code):
        super().__init__()
        self.status_code = status_code


@pytest.fixture
def begun():
    """A call of a role under way: the call, its first step, and what goes on with it."""
    flows = []

    def made(role="planner"):
        pool = ModelPool(("small", "middle", "large"))
        decider = Decider(pool, router=None, default=None, sticky="none", role=role, task=None, logged=False)
        call = RoutedCall(decided=decider.begin(Asked(turns=(Turn(role="user", text="x"),))).decide(), pool=pool, log=None)
        flows.append(call.flow())
        return call, next(flows[-1]), flows[-1]

    return made


# --- answers that broke off ---


class Early(Watch):
    """Its provider tells the prompt's tokens with the first piece of the answer, and the others with the last."""

    cost = 0.001
    cut = False

    def told(self):
        return Spent(usage=USAGE, cost=self.cost)

    def truncated(self):
        return self.cut


@pytest.mark.parametrize("stop", [GeneratorExit, asyncio.CancelledError, ConnectionError, lambda: StatusError(529)])
@pytest.mark.parametrize("opened", [True, False])
def test_an_answer_that_broke_off_may_have_cost_all_that_was_set_aside(allocator, begun, stop, opened):
    with allocator.session("x", budget=2.0) as session:
        (call, step, _), error = begun(), stop()
        watched = Early(call, step)
        if opened:
            watched.opened()
        with pytest.raises(type(error)), watched:
            raise error
        assert session.budget.left() == pytest.approx(1.5)
        run = session.finish()
    part = run.roles["planner"]
    assert (part.usage, part.cost, part.calls, run.cost) == (None, None, 1, None)


@pytest.mark.parametrize("how", ["cut", "left", "late"])
def test_an_answer_without_its_end_is_no_cheap_one(allocator, begun, how):
    with allocator.session("x", budget=2.0) as session:
        call, step, _ = begun()
        watched = Early(call, step)
        if how == "left":
            watched.left()
        elif how == "late":
            watched.failed(TimeoutError())
        else:
            watched.cut = True
            watched.ended()
        assert session.budget.left() == pytest.approx(1.5)
        assert session.finish().cost is None


def test_what_an_answer_cost_by_then_counts_where_it_is_more(allocator, begun):
    with allocator.session("x", budget=2.0) as session:
        call, step, _ = begun()
        watched = Early(call, step)
        watched.cost = 0.75
        with pytest.warns(BudgetOverrunWarning, match=r"cost \$0.75"):
            watched.left()
        assert session.budget.left() == pytest.approx(1.25)


def test_a_whole_answer_that_came_to_nothing_costs_what_it_told(allocator, begun):
    class Done(Early):
        def complete(self):
            return True

    for kind, end in ((Done, ValueError), (Early, GeneratorExit)):
        with allocator.session("x", budget=2.0) as session:
            call, step, _ = begun()
            watched = kind(call, step)
            if end is GeneratorExit:
                watched.finished()
            with pytest.raises(end), watched:
                raise end
            assert session.budget.left() == pytest.approx(1.999)
            assert session.finish().cost == 0.001


def test_a_stream_that_the_provider_ends_with_a_status_was_not_turned_away(allocator, begun):
    with allocator.session("x", budget=2.0) as session:
        call, step, _ = begun()
        watched = Watch(call, step)
        watched.opened()
        with pytest.raises(StatusError), watched:
            raise StatusError(503)
        assert session.budget.left() == pytest.approx(1.5)


def test_left_answers_teach_no_costs(allocator, begun):
    before = allocator.allocate("x").expected_cost
    for _ in range(30):
        with allocator.session("x") as session:
            for role in ("planner", "solver"):
                call, step, _ = begun(role)
                Early(call, step).__exit__(GeneratorExit, GeneratorExit(), None)
            session.finish(success=1.0)
    allocator.fit()
    assert allocator.allocate("x", fixed={"planner": "large", "solver": "large"}).expected_cost == pytest.approx(before)


def test_what_is_not_given_back_costs_no_answer(allocator, begun, telling):
    class Broken(MemoryBudget):
        def book(self, key, held, spent):
            raise StorageError("disk full")

    dropped = pytest.warns(OutcomeDroppedWarning, match="'planner' was not booked: StorageError: disk full")
    with allocator.session("x", budget=Broken(2.0)).active():
        _, _, flow = begun()
        with dropped:
            flow.close()
        call, step, _ = begun()
        with dropped:
            telling(call, step).skipped()
