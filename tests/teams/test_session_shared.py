"""A run's own budget within one that is shared: capped, paid to its end, settled when it ends, whatever went wrong."""

import math
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from agentroute.errors import BudgetError, ConfigError, OutcomeDroppedWarning, StorageError
from agentroute.teams import MemoryBudget, RoleAllocator, SqliteBudget


def test_a_run_spends_no_more_than_its_own_and_gives_the_rest_back(allocator):
    day = MemoryBudget(1.0)
    with allocator.session("x", budget=0.3, shared=day) as session:
        assert day.left() == pytest.approx(0.7)
        session.begin("planner", model="large", ceiling=lambda _: 0.2).settle(cost=0.15)
        with pytest.raises(BudgetError, match="may need"):
            session.begin("solver", model="large", ceiling=lambda _: 0.2)
        assert (day.left(), day.spent()) == (pytest.approx(0.7), pytest.approx(0.15))  # known at once
    assert (day.left(), day.spent()) == (pytest.approx(0.85), pytest.approx(0.15))
    session.finish(success=1.0)
    assert day.left() == pytest.approx(0.85)  # once


def test_runs_that_began_are_paid_to_their_end(allocator):
    """The second run finds that too little is left when it begins, and not when half of it is paid."""
    day = MemoryBudget(0.5)
    with allocator.session("x", budget=0.3, shared=day) as session:
        with pytest.raises(
            BudgetError, match=r"a run may spend \$0\.3, and \$0\.2 of the budget that it shares are left"
        ) as caught:
            allocator.session("y", budget=0.3, shared=day)
        assert (caught.value.budget, caught.value.cheapest) == (pytest.approx(0.2), 0.3)
        for role in session.models:
            session.begin(role).settle(cost=0.01)
    with allocator.session("y", budget=0.3, shared=day):
        pass
    assert day.left() == pytest.approx(0.5 - 0.01 * len(session.models))


def test_a_crash_settles_what_was_spent_and_what_may_have_been(allocator):
    day = MemoryBudget(1.0)

    def crash():
        with allocator.session("x", budget=0.3, shared=day) as session:
            session.begin("planner", ceiling=lambda _: 0.1).settle(cost=0.04)
            session.begin("solver", ceiling=lambda _: 0.1)
            return 1 / 0

    with pytest.raises(ZeroDivisionError):
        crash()
    assert day.spent() == pytest.approx(0.04 + 0.1)  # the call that was never ended may have been billed
    assert day.left() == pytest.approx(1.0 - 0.14)


def test_what_cannot_be_begun_holds_nothing(allocator):
    day = MemoryBudget(1.0)
    with pytest.raises(BudgetError, match="no allocation keeps to"):
        allocator.session("x", budget=1e-6, shared=day)
    with pytest.raises(ConfigError, match="unknown role"):
        allocator.session("x", budget=0.3, shared=day, fixed={"boss": "large"})
    for budget in (None, math.inf, MemoryBudget(1.0)):
        with pytest.raises(ConfigError, match="shared= needs budget= beside it"):
            allocator.session("x", budget=budget, shared=day)
    with pytest.raises(ConfigError, match=r"shared=5.0 must be a Budget"):
        allocator.session("x", budget=0.3, shared=5.0)
    assert day.left() == 1.0


def test_an_allocations_own_budget_is_set_aside(allocator):
    day = MemoryBudget(1.0)
    allocation = allocator.allocate("x", budget=0.25)
    with allocator.session("x", allocation=allocation, shared=day):
        assert day.left() == pytest.approx(0.75)
    assert day.left() == 1.0


def test_many_runs_at_once_never_spend_more_than_there_is(allocator, tmp_path):
    with SqliteBudget(tmp_path / "money.sqlite", "day", 1.0) as day:
        spent, lock = [], threading.Lock()

        def run():
            for _ in range(6):
                try:
                    session = allocator.session("x", budget=0.15, shared=day)
                except BudgetError:
                    continue
                with session:
                    for role in session.models:
                        session.begin(role, ceiling=lambda _: 0.02).settle(cost=0.02)
                with lock:
                    spent.append(session.finish().cost)

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(spent) > 5
        assert day.spent() == pytest.approx(sum(spent))
        assert day.spent() <= 1.0
        assert day.left() == pytest.approx(1.0 - sum(spent))


def test_a_shared_budget_that_cannot_be_told_is_told_by_the_next_finish(allocator, monkeypatch):
    day = MemoryBudget(1.0)
    session = allocator.session("x", budget=0.3, shared=day)
    session.begin("planner", ceiling=lambda _: 0.1).settle(cost=0.04)
    book = day.book
    monkeypatch.setattr(day, "book", lambda *_: (_ for _ in ()).throw(StorageError("locked")))
    with pytest.warns(OutcomeDroppedWarning, match="a shared budget was not told what a run has spent: locked"):
        session.finish()
    assert day.left() == pytest.approx(0.7)  # never free meanwhile
    assert session.budget.spent() == pytest.approx(0.04)
    monkeypatch.setattr(day, "book", book)
    session.finish(success=1.0)
    assert day.left() == pytest.approx(0.96)


def test_without_a_shared_budget_nothing_changes(session_team, session_cards):
    with RoleAllocator(session_team, session_cards).session("x", budget=0.3) as session:
        assert session.budget.left() == pytest.approx(0.3)


@pytest.mark.parametrize("lease", [None, 0.2])
def test_what_a_run_has_spent_survives_its_process(lease, tmp_path):
    code = f"""
import os, signal
from agentroute.teams import Role, RoleAllocator, SqliteBudget, Team
from agentroute.types import ModelCard, Price

allocator = RoleAllocator(Team(roles=[Role(name="a", calls=3)]), [ModelCard(id="m", price=Price(input=1.0, output=1.0))])
day = SqliteBudget({str(tmp_path / "money.sqlite")!r}, "day", 1.0, lease={lease})
session = allocator.session("x", budget=0.5, shared=day)
session.begin("a", ceiling=lambda _: 0.2).settle(cost=0.15)
session.begin("a", ceiling=lambda _: 0.2)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    with SqliteBudget(tmp_path / "money.sqlite", "day", 1.0, lease=lease) as day:
        assert day.spent() == pytest.approx(0.15)
        if lease is None:
            assert day.left() == pytest.approx(0.5)  # what the run had set aside is not free by itself
            return
        until = time.monotonic() + 20.0
        while day.left() < 0.84 and time.monotonic() < until:
            time.sleep(0.05)
            with suppress(BudgetError):
                day.reserve(0.85).release()
        assert day.left() == pytest.approx(0.85)


def test_a_call_that_is_being_paid_while_the_run_ends_counts(allocator):
    day = MemoryBudget(1.0)
    session = allocator.session("x", budget=0.3, shared=day)
    late = session.budget.reserve(0.1)  # off the run's book, and not yet paid
    session.finish()
    assert day.spent() == pytest.approx(0.1)
    late.settle(0.05)
    assert (day.spent(), day.left()) == (pytest.approx(0.1), pytest.approx(0.9))
