"""How sessions end: with what is known then and what comes to be known later, whatever breaks on the way."""

import math
import threading
import warnings
from contextvars import copy_context
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.errors import BudgetOverrunWarning, ConfigError, DataError, OutcomeDroppedWarning, StorageError
from agentroute.teams import MemoryBudget, Mode, Role, RoleAllocator, RunLog, Team, TeamSession, current_session
from agentroute.types import ModelCard, Price, Usage

CARDS = [
    ModelCard(id=name, price=Price(input=usd, output=usd), scores={"MMLU": score})
    for name, usd, score in (("small", 1.0, 0.3), ("large", 100.0, 0.9))
]
TEAM = Team(
    roles=[Role(name=name, input_tokens=500, output_tokens=500) for name in ("planner", "solver")], modes=[Mode(name="alone")]
)


class Full(MemoryBudget):
    """A budget that can be reserved from and not be written any more."""

    def book(self, key, held, spent):
        raise StorageError("disk full")


class Stuck(MemoryBudget):
    """A budget that cannot be written for a while."""

    stuck = True

    def book(self, key, held, spent):
        if self.stuck:
            raise StorageError("database is locked")
        super().book(key, held, spent)


@pytest.fixture
def log(tmp_path):
    return RunLog(tmp_path / "runs.jsonl")


@pytest.fixture
def allocator(log):
    return RoleAllocator(TEAM, CARDS, log=log)


# --- what breaks at the end ---


def test_a_budget_that_breaks_at_the_end_hides_nothing(allocator, log):
    def crash():
        with allocator.session("x", budget=Full(1.0)) as session:
            session.begin("planner")
            session.begin("solver")
            1 / 0  # noqa: B018  # the crash

    with (
        pytest.raises(ZeroDivisionError),
        pytest.warns(OutcomeDroppedWarning, match="not booked: StorageError: disk full") as told,
    ):
        crash()
    assert len(told) == 2  # neither keeps the other from its end
    [run] = log
    assert run.metadata == {"error": "ZeroDivisionError"}
    assert {part.error for part in run.roles.values()} == {"Abandoned"}


def test_a_run_that_cannot_be_told_hides_nothing(allocator, monkeypatch):
    monkeypatch.setattr(TeamSession, "_told", lambda *_: 1 / 0)
    told = pytest.warns(OutcomeDroppedWarning, match="not recorded: ZeroDivisionError")
    with pytest.raises(KeyError), told, allocator.session("x"):
        raise KeyError
    assert current_session() is None


def test_without_an_error_of_the_applications_nothing_is_raised_either(allocator, log):
    with pytest.warns(OutcomeDroppedWarning, match="disk full"), allocator.session("x", budget=Full(1.0)) as session:
        session.begin("planner")
    assert len(log) == 1


ENDS = {
    "settle": (lambda call: call.settle(cost=0.05), 0.05),
    "unknown": (lambda call: call.settle(), 0.25),
    "failed": (lambda call: call.failed("Down", cost=0.01), 0.01),
    "release": (lambda call: call.release(), 0.0),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("again", ["again", "otherwise", "finish", "finish twice"])
def test_what_the_budget_could_not_be_told_is_told_later(allocator, end, again):
    (end, usd), budget = ENDS[end], Stuck(1.0)
    with allocator.session("x", budget=budget) as session:
        call = session.begin("planner", ceiling=lambda _: 0.25)
        with pytest.raises(StorageError, match="locked"):
            end(call)
        # Nobody else has it meanwhile.
        assert (budget.left(), budget.spent()) == (0.75, 0.0)
        if again == "finish twice":
            with pytest.warns(OutcomeDroppedWarning, match="not booked: StorageError"):
                session.finish()
        budget.stuck = False
        if again == "again":
            end(call)
        elif again == "otherwise":
            call.settle(cost=0.2)  # how it ended first is how it ended
        run = session.finish()
    assert (budget.left(), budget.spent()) == (pytest.approx(1.0 - usd), pytest.approx(usd))
    assert run.cost == (None if usd == 0.25 else usd)
    assert session.finish() is run


def test_a_warning_that_is_an_error_does_not_keep_a_call_due(allocator):
    with allocator.session("x", budget=1.0) as session:
        call = session.begin("planner", ceiling=lambda _: 0.25)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(BudgetOverrunWarning):
                call.settle(cost=0.5)
            session.finish()
    assert session.budget.spent() == 0.5


def test_a_call_that_is_settled_while_the_run_ends_is_on_its_record(allocator, monkeypatch):
    priced, ending = threading.Event(), threading.Event()
    price = TeamSession._priced

    def slowly(self, model, usage):
        priced.set()
        ending.wait(5.0)
        return price(self, model, usage)

    monkeypatch.setattr(TeamSession, "_priced", slowly)
    with allocator.session("x", budget=1.0, fixed={"planner": "large"}) as session:
        call = session.begin("planner")
        settling = threading.Thread(target=call.settle, kwargs={"usage": Usage(input_tokens=500, output_tokens=500)})
        settling.start()
        assert priced.wait(5.0)
        threading.Timer(0.05, ending.set).start()
        run = session.finish(success=1.0)
        settling.join()
    assert (run.roles["planner"].error, run.roles["planner"].cost, run.cost) == (None, 0.1, 0.1)
    assert session.budget.spent() == 0.1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["settle", "failed", "release"]), min_size=1, max_size=8), st.integers(0, 8))
def test_whatever_ends_when_run_and_budget_agree(ends, before):
    session = RoleAllocator(TEAM, CARDS).session("x", budget=1.0, fixed={"planner": "small"})
    with session:
        calls = [session.begin("planner", ceiling=lambda _: 0.0625, model="small") for _ in ends]
        does = {
            "settle": lambda call: call.settle(cost=0.03125),
            "failed": lambda call: call.failed("Down", cost=0.03125, again=True),
            "release": lambda call: call.release(),
        }
        threads = [threading.Thread(target=does[end], args=(call,)) for end, call in zip(ends, calls, strict=True)]
        for thread in threads[:before]:
            thread.start()
        for thread in threads[:before]:
            thread.join()
        for thread in threads[before:]:
            thread.start()
        run = session.finish()
        for thread in threads:
            thread.join()
    part = run.roles.get("planner")
    made = 0 if part is None else part.calls
    made_at_least = sum(end != "release" for end in ends)
    assert made_at_least <= made <= len(ends)
    if run.cost is not None:
        assert session.budget.spent() == run.cost == made * 0.03125
    else:
        assert part.error == "Abandoned"
        assert session.budget.spent() <= len(ends) * 0.0625


# --- metadata ---


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), b"x", [object()], np.arange(3)])
def test_metadata_that_no_log_can_keep_leave_the_run_open(allocator, log, value):
    with allocator.session("x") as session:
        with pytest.raises(DataError, match="the metadata 'odd' of a run must be plain JSON"):
            session.finish(success=1.0, fine=1, odd=value)
        session.begin("planner").settle(cost=0.001)
        session.finish(success=1.0, fine=1)
    [run] = log
    assert (run.metadata, run.success, run.cost) == ({"fine": 1}, 1.0, 0.001)


def test_metadata_are_kept_as_they_were_then(allocator, log):
    steps = [1, np.int64(2), (np.float64(0.5),)]
    with allocator.session("x") as session:
        run = session.finish(steps=steps)
        steps.append(4)
    assert run.metadata == {"steps": [1, 2, [0.5]]} == next(iter(log)).metadata


# --- what is known later ---


def test_a_success_that_is_known_after_the_block_is_recorded(allocator, log):
    for number in range(20):
        model = ("small", "large")[number % 2]
        with allocator.session("x", fixed={"planner": model}, explore=1.0) as session:
            for role in session.models:
                session.begin(role).settle(cost=0.001)
        first = session.finish()
        assert first.success is None
        run = session.finish(success=float(model == "large"), judge="user")
        assert (run.id, run.models, run.cost, run.metadata) == (first.id, first.models, first.cost, {"judge": "user"})
        assert session.finish() is run
    assert len(log.path.read_text().splitlines()) == 40
    assert [run.success for run in log] == [0.0, 1.0] * 10
    report = allocator.fit()
    assert (report.runs, report.left_out) == (20, {})


def test_the_first_success_stays(allocator, log):
    with allocator.session("x") as session:
        session.begin("planner").settle(cost=0.001)
        run = session.finish(success=0.0)
    with pytest.warns(OutcomeDroppedWarning, match="success=0, which it keeps: 1 is not recorded"):
        again = session.finish(success=1.0, why="appeal")
    assert (again.success, again.metadata, again.id) == (0.0, {"why": "appeal"}, run.id)
    assert [(one.success, one.metadata) for one in log] == [(0.0, {"why": "appeal"})]


def test_a_score_that_is_known_later_is_recorded_with_the_next_word(allocator, log):
    with allocator.session("x") as session:
        session.begin("planner").settle(cost=0.001)
    before = session.finish()
    session.score("planner", 0.25)
    run = session.finish(success=1.0)
    assert (run.roles["planner"].score, run.roles["planner"].cost, run.cost) == (0.25, 0.001, before.cost)
    session.score("planner", 0.5)
    assert session.finish().roles["planner"].score == 0.5
    assert [(one.success, one.roles["planner"].score) for one in log] == [(1.0, 0.5)]


def test_a_crash_and_the_success_that_it_had_all_the_same(allocator, log):
    with pytest.raises(KeyError), allocator.session("x") as session:
        raise KeyError
    session.finish(success=1.0)
    [run] = log
    assert (run.success, run.metadata) == (1.0, {"error": "KeyError"})


def test_what_is_told_later_by_many_at_once_is_recorded_once(allocator, log):
    with allocator.session("x") as session:
        session.begin("planner").settle(cost=0.001)
        session.finish()
    threads = [threading.Thread(target=session.finish, args=(1.0,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log.path.read_text().splitlines()) == 2


# --- after the end, and in several places ---


@pytest.mark.parametrize("wrong", [{"cost": -1e-18}, {"cost": math.nan}, {"cost": math.inf}, {"cost": "1"}, {"latency": -1.0}])
def test_a_cost_that_is_none_leaves_the_call_open(allocator, wrong):
    with allocator.session("x", budget=1.0) as session:
        call = session.begin("planner", ceiling=lambda _: 0.25)
        for end in (call.settle, lambda **told: call.failed("Down", **told)):
            with pytest.raises(ConfigError, match=f"{next(iter(wrong))}=.* must be a number"):
                end(**wrong)
        call.settle(cost=np.float32(0.125), latency=np.int64(2))
        run = session.finish(success=1.0)
    assert (run.cost, type(run.cost), run.roles["planner"].latency) == (0.125, float, 2.0)
    assert session.budget.left() == 0.875
    assert [one.id for one in allocator.runs] == [run.id]


def test_a_budget_may_be_any_kind_of_number(allocator):
    for budget in (np.float32(0.5), np.int64(1), Decimal("0.5")):
        with allocator.session("x", budget=budget) as session:
            assert session.budget.left() == float(budget)
            assert session.allocation.budget == float(budget)
    for wrong in ("0.5", math.nan, -1.0, object()):
        with pytest.raises(ConfigError, match=r"budget=.* must be a number"):
            allocator.session("x", budget=wrong)


def test_after_the_end_no_check_is_begun_and_nothing_is_held(allocator):
    with allocator.session("x", budget=1.0) as session:
        session.finish()
        with pytest.raises(ConfigError, match="finished"):
            session.begin_check("planner", "small", 0.25)
        with pytest.raises(ConfigError, match="finished"):
            session.begin(None, model="small")
    assert session.budget.left() == 1.0


def test_a_block_that_ends_in_one_context_is_not_ended_in_another(allocator):
    with allocator.session("x") as session:
        other = copy_context()
        other.run(session.__enter__)
        # The other context's block began last, and this one's ends first.
    assert current_session() is None
    assert other.run(current_session) is session
    other.run(session.__exit__, None, None, None)
    # As it was when the context was copied.
    assert other.run(current_session) is session


# --- calls that belong to no role ---


def test_calls_of_no_role_count_for_the_run_and_its_budget(allocator):
    with allocator.session("x", budget=0.25) as session:
        session.begin("planner", ceiling=lambda _: 0.05).settle(cost=0.05)
        call = session.begin(None, model="large")
        assert (call.model, call.held) == ("large", pytest.approx(0.1))
        assert session.budget.left() == pytest.approx(0.1)
        call.settle(cost=0.08)
        check = session.begin_check(None, "small", 0.02)
        check.settle(cost=0.01)
        assert session.held(None)("unknown") is None
        session.begin(None, model="small", ceiling=lambda _: 0.02).release()
        run = session.finish()
    assert run.cost == pytest.approx(0.14)
    assert set(run.roles) == {"planner"}
    assert session.budget.spent() == pytest.approx(run.cost)


def test_a_call_of_no_role_needs_a_model_and_money(allocator):
    with allocator.session("x", budget=0.3) as session:
        with pytest.raises(ConfigError, match="needs model="):
            session.begin(None)
        with pytest.raises(Exception, match="a call of large of no role may need"):
            session.begin(None, model="large", ceiling=lambda _: 0.5)
        session.begin(None, model="large", ceiling=lambda _: 0.25).failed("Down")
        # The roles have what is left.
        assert session.begin("planner").model == "small"
        run = session.finish()
    assert run.cost is None
