"""Sessions that many use at once: threads, tasks, processes; the budget holds for all of them."""

import asyncio
import multiprocessing
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.errors import (
    BudgetError,
    ConfigError,
    NoEligibleModelError,
)
from agentroute.teams import MemoryBudget, RoleAllocator, RunLog, SqliteBudget, current_session
from agentroute.types import Usage

USAGE = Usage(input_tokens=500, output_tokens=500)


# --- many at once ---


def test_two_that_ask_at_once_leave_the_others_their_money(allocator):
    both = threading.Barrier(2)

    def ceiling(model):
        with suppress(threading.BrokenBarrierError):  # only one is let in: the other waits outside
            both.wait(timeout=0.2)
        return {"small": 0.001, "middle": 0.01, "large": 0.1}[model]

    with allocator.session("x", budget=0.2035, fixed={"planner": "small", "critic": "small"}) as session:
        session.begin("solver", ceiling={"large": 0.1}.get).settle(cost=0.002)
        with ThreadPoolExecutor(2) as pool:
            made = [pool.submit(copy_context().run, session.begin, "solver", ceiling=ceiling) for _ in range(2)]
            calls = [one.result() for one in made]
        assert sorted(call.model for call in calls) == ["large", "middle"]
        for role in ("planner", "critic"):
            session.begin(role, ceiling=lambda _: 0.001).settle(cost=0.001)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), budget=st.floats(0.003, 0.5))
def test_whatever_calls_cost_below_their_ceilings_the_budget_holds(seed, budget, session_team, session_cards):
    rng = np.random.default_rng(seed)
    allocator = RoleAllocator(session_team, session_cards)
    with allocator.session("x", budget=budget) as session:
        spent = 0.0
        for _ in range(30):
            role = str(rng.choice(["planner", "solver", "critic"]))
            most = {"small": 0.002, "middle": 0.02, "large": 0.2}
            try:
                call = session.begin(role, ceiling=most.get if rng.random() < 0.7 else None)
            except (BudgetError, NoEligibleModelError):
                continue
            cost = float(rng.uniform(0, call.held))
            if rng.random() < 0.1:
                call.failed("Down", cost=cost)
            else:
                call.settle(cost=cost)
            spent += cost
        run = session.finish()
    assert spent <= budget
    assert run.cost is None or run.cost == pytest.approx(spent)
    # Each amount is rounded up to a whole nano-dollar.
    assert session.budget.spent() == pytest.approx(spent, abs=30e-9)


def test_threads_of_one_session_keep_its_budget(allocator):
    refused, made = [], []

    def work(session, number):
        rng = np.random.default_rng(number)
        for _ in range(20):
            try:
                call = session.begin(str(rng.choice(["planner", "solver", "critic"])))
            except BudgetError:
                refused.append(number)
                continue
            cost = call.held * float(rng.uniform(0.2, 1.0))
            made.append(cost)
            call.settle(cost=cost)

    with allocator.session("x", budget=0.5) as session:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda number: work(session, number), range(16)))
        run = session.finish()
    assert refused
    assert sum(made) <= 0.5
    assert sum(part.calls for part in run.roles.values()) == len(made)
    assert run.cost == pytest.approx(sum(made))


def test_two_sessions_share_a_budget_and_do_not_mix(allocator):
    shared = MemoryBudget(0.25)
    with allocator.session("x", budget=shared) as one, allocator.session("y", budget=shared) as two:
        assert current_session() is two
        assert one.models == two.models
        for role in one.models:
            one.begin(role).settle(usage=USAGE)
        # Of $0.04 a large call cannot be paid, whatever was planned when there was $0.25.
        assert shared.left() == pytest.approx(0.04)
        assert [two.begin(role).model for role in two.models] == ["middle"] * 3
    left, done = allocator.runs
    assert (left.query.text, left.cost) == ("y", None)
    assert (done.query.text, done.cost) == ("x", pytest.approx(0.21))


async def test_tasks_see_the_session_that_they_were_begun_in(allocator):
    async def agent(name):
        with allocator.session(name) as session:
            await asyncio.sleep(0.01)

            async def inner():
                await asyncio.sleep(0.01)
                found = current_session()
                found.begin("planner").settle(usage=USAGE)
                return found

            found = await asyncio.gather(inner(), asyncio.create_task(inner()), asyncio.to_thread(current_session))
            assert all(one is session for one in found)
            return session.finish()

    runs = await asyncio.gather(*(agent(f"task {n}") for n in range(8)))
    assert [run.query.text for run in runs] == [f"task {n}" for n in range(8)]
    assert {run.roles["planner"].calls for run in runs} == {2}
    assert current_session() is None


def test_a_thread_without_the_context_is_given_the_session(allocator):
    seen = []

    def blind(session):
        seen.append(current_session())
        with session.active() as active:
            seen.append(current_session())
            assert active is session
        seen.append(current_session())

    with allocator.session("x") as session:
        thread = threading.Thread(target=blind, args=(session,))
        thread.start()
        thread.join()
        assert not allocator.runs
        assert copy_context().run(current_session) is session
    assert seen == [None, session, None]


def test_one_thread_ends_it_and_the_others_hear_of_it(allocator):
    with allocator.session("x", budget=100.0) as session:
        stopped = []

        def work():
            while True:
                try:
                    session.begin("planner", ceiling=lambda _: 0.001).settle(cost=0.0005)
                except ConfigError:
                    stopped.append(1)
                    return

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        with ThreadPoolExecutor(4) as pool:
            runs = set(pool.map(lambda _: session.finish(1.0), range(4)))
        for thread in threads:
            thread.join()
    assert len(runs) == 1
    assert len(allocator.runs) == 1
    assert len(stopped) == 8
    # Whatever ended in time is in the run, and nothing is set aside for ever.
    assert session.budget.left() + session.budget.spent() == pytest.approx(100.0)


def _one_process(team, cards, path, number, spent):
    warnings.simplefilter("error")
    allocator = RoleAllocator(team, cards, log=RunLog(path.parent / "runs.jsonl"), seed=number)
    with SqliteBudget(path, "today", 2.0) as budget:
        total = 0.0

        def work(task):
            nonlocal total
            done = 0.0
            try:
                with allocator.session(f"task {task}", budget=budget) as session:
                    for role in ("planner", "solver", "critic"):
                        call = session.begin(role)
                        cost = call.held * 0.9
                        done += cost
                        call.settle(cost=cost)
                    session.finish(success=1.0)
            except BudgetError:
                pass
            return done

        with ThreadPoolExecutor(4) as pool:
            total = sum(pool.map(work, range(12)))
    spent.put(total)


def test_sessions_of_several_processes_share_one_budget(tmp_path, session_team, session_cards):
    context = multiprocessing.get_context("spawn")
    spent = context.SimpleQueue()
    processes = [
        context.Process(target=_one_process, args=(session_team, session_cards, tmp_path / "money.sqlite", n, spent))
        for n in range(3)
    ]
    for process in processes:
        process.start()
    total = sum(spent.get() for _ in processes)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    with SqliteBudget(tmp_path / "money.sqlite", "today") as budget:
        assert budget.spent() == pytest.approx(total, abs=1e-6)
        assert total <= 2.0
        assert budget.left() < 0.1  # there was far more to do than money
    runs = list(RunLog(tmp_path / "runs.jsonl"))
    assert sum(run.cost for run in runs) == pytest.approx(total, abs=1e-6)


def test_a_session_that_is_left_in_another_context_is_recorded_all_the_same(allocator):
    """A stream whose reader has gone away is closed by somebody else."""
    budget = MemoryBudget(1.0)

    def stream():
        with allocator.session("x", budget=budget) as session:
            session.begin("planner")
            yield

    going = stream()
    copy_context().run(next, going)
    copy_context().run(going.close)
    [run] = allocator.runs
    assert run.roles["planner"].error == "Abandoned"
    assert current_session() is None
