"""A budget's file: what is set aside while its process lives, a file that is lost, and budgets that go to other processes."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from contextlib import closing

import pytest

from agentroute.errors import BudgetError, ConfigError, StorageError
from agentroute.teams import RunLog, SqliteBudget, TeamRun
from agentroute.types import Query

PATIENCE = 30.0
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "money.sqlite"


def leases(path):
    """Until when the file's reservations are set aside, the oldest first."""
    with closing(sqlite3.connect(path)) as file:
        return [until for (until,) in file.execute("SELECT until FROM reservations ORDER BY seq")]


def soon(found):
    """Whether something comes true within half a minute."""
    deadline = time.monotonic() + PATIENCE
    while not found():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# --- leases ---


def test_what_a_process_that_lives_has_set_aside_stays_so_beyond_its_lease(path):
    with SqliteBudget(path, "x", 1.0, lease=1.5) as budget, SqliteBudget(path, "x") as other:
        held = budget.reserve(0.8)
        [until] = leases(path)
        # It does nothing with the file meanwhile, as while it waits for one long answer.
        assert soon(lambda: leases(path)[0] > until + 1.5)
        assert other.left() == 0.2
        with pytest.raises(BudgetError):
            other.reserve(0.5)
        held.settle(0.3)
        assert (other.spent(), other.left(), leases(path)) == (0.3, 0.7, [])


def test_what_nobody_can_settle_any_more_is_free_after_its_lease(path):
    with SqliteBudget(path, "x", 1.0, lease=0.3) as budget, SqliteBudget(path, "x") as other:
        budget.reserve(0.8)
        assert other.left() == 0.2
        assert soon(lambda: other.left() == 1.0)
        other.reserve(1.0).release()
        budget.reserve(0.8)  # and the next one is held as long as the first
        assert soon(lambda: other.left() == 1.0)


def test_leases_are_for_what_is_set_aside_after_a_while_without_anything(path):
    with SqliteBudget(path, "x", 1.0, lease=0.3) as budget:
        budget.reserve(0.1).release()
        assert soon(lambda: budget._keeper is None)  # nothing is left to keep
        held = budget.reserve(0.1)
        [until] = leases(path)
        assert soon(lambda: leases(path)[0] > until + 0.3)
        held.release()


def test_a_stopped_process_keeps_on_to_what_it_had_set_aside_unless_it_was_given_away(path):
    with SqliteBudget(path, "x", 1.0, lease=3600.0) as budget, SqliteBudget(path, "x") as other:
        first, second = budget.reserve(0.3), budget.reserve(0.3)
        with closing(sqlite3.connect(path, isolation_level=None)) as file:
            file.execute("UPDATE reservations SET until = 0")  # its computer slept for longer
        assert budget.left() == 1.0
        third = budget.reserve(0.3)  # it is awake, and what nobody has taken is still its own
        assert budget.left() == pytest.approx(0.1)
        with closing(sqlite3.connect(path, isolation_level=None)) as file:
            file.execute("UPDATE reservations SET until = 0")
        other.reserve(0.9).settle(0.9)
        assert leases(path) == []
        for one in (first, second, third):
            one.settle(0.1)  # it was spent, whoever has been given it meanwhile
        assert (other.spent(), other.left()) == (pytest.approx(1.2), 0.0)


def test_a_budget_that_nobody_uses_any_more_ends_its_thread(path):
    budget = SqliteBudget(path, "x", 1.0, lease=0.3)
    budget.reserve(0.1).release()
    keeper = budget._keeper
    del budget
    keeper.join(PATIENCE)
    assert not keeper.is_alive()
    closed = SqliteBudget(path, "x", lease=3600.0)
    held = closed.reserve(0.1)
    keeper = closed._keeper
    closed.close()
    keeper.join(PATIENCE)
    assert not keeper.is_alive()
    with pytest.raises(StorageError, match="the budget is closed"):
        held.settle(0.1)


def test_a_file_that_is_busy_for_a_while_costs_no_lease(path, monkeypatch):
    monkeypatch.setattr("agentroute.outcomes._schema.BUSY_SECONDS", 0.01)
    with SqliteBudget(path, "x", 1.0, lease=0.6) as budget:
        held = budget.reserve(0.8)
        with closing(sqlite3.connect(path, isolation_level=None)) as file:
            file.execute("BEGIN IMMEDIATE")
            time.sleep(0.5)  # at least one renewal fails
            file.execute("ROLLBACK")
        [until] = leases(path)
        assert soon(lambda: leases(path)[0] > until)
        held.release()


@needs_fork
def test_a_forked_child_does_not_hold_what_its_parent_has_set_aside(path):
    code = (
        "import os, sys, time\n"
        "from agentroute.teams import SqliteBudget\n"
        "budget = SqliteBudget(sys.argv[1], 'x', 1.0, lease=1.0)\n"
        "held = budget.reserve(0.5)\n"
        "if os.fork():\n"
        "    sys.stdin.read()\n"
        "own = budget.reserve(0.1)\n"
        "print(os.getpid(), flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
        try:
            with SqliteBudget(path, "x") as budget:
                assert soon(lambda: budget.left() == 0.9)
                [lost, until] = leases(path)
                assert soon(lambda: leases(path)[1] > until + 1.0)
                assert (leases(path)[0], budget.left()) == (lost, 0.9)
        finally:
            os.kill(child, signal.SIGKILL)


# --- a file that is lost ---


def lose(path):
    for found in path.parent.glob(f"{path.name}*"):
        found.unlink()


@pytest.mark.skipif(os.name == "nt", reason="Windows does not delete open files")
@pytest.mark.parametrize("anew", [False, True])
def test_a_file_that_was_removed_or_replaced_is_noticed(path, anew):
    with SqliteBudget(path, "x", 1.0) as budget:
        held = budget.reserve(0.5)
        lose(path)
        if anew:
            SqliteBudget(path, "x", 1.0).close()
        for use in (budget.left, budget.spent, lambda: budget.reserve(0.1), lambda: held.settle(0.1)):
            with pytest.raises(StorageError, match="removed or replaced while the budget was open"):
                use()
        assert path.exists() == anew


@needs_fork
def test_a_forked_child_notices_as_well(path):
    with SqliteBudget(path, "x", 1.0) as budget:
        budget.reserve(0.9)
        lose(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # other tests' threads
            child = os.fork()
        if child == 0:
            try:
                budget.reserve(0.9)
            except StorageError:
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert not path.exists()


# --- copies, and other processes ---


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_of_a_budget_in_a_file_spends_the_same_money(path, copied):
    with SqliteBudget(path, "x", 1.0, lease=60.0) as budget, copied(budget) as other:
        assert (other.path, other.name, other.lease, other.usd) == (path, "x", 60.0, 1.0)
        one = budget.reserve(0.75)
        with pytest.raises(BudgetError):
            other.reserve(0.75)
        one.settle(0.5)
        assert other.left() == 0.5
        other.close()
        assert budget.left() == 0.5


def test_a_copy_does_not_make_lost_money_anew(path):
    with SqliteBudget(path, "x", 1.0) as budget:
        sent = pickle.dumps(budget)
    lose(path)
    with pytest.raises(ConfigError, match="holds no budget 'x'"):
        pickle.loads(sent)


def work(budget, log, number):
    """In another process: pays for a run and records it."""
    budget.reserve(0.25).settle(0.25)
    log.append(TeamRun(id=str(number), query=Query(text="x"), models={"planner": "small"}))


def test_budgets_and_logs_go_to_processes_that_are_spawned(path, tmp_path):
    context = multiprocessing.get_context("spawn")
    log = RunLog(tmp_path / "runs.jsonl", store_prompts=True)
    with SqliteBudget(path, "x", 1.0) as budget:
        workers = [context.Process(target=work, args=(budget, log, number)) for number in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60.0)
        assert [worker.exitcode for worker in workers] == [0, 0]
        assert budget.spent() == 0.5
    assert sorted(run.id for run in log) == ["0", "1"]
    assert {run.query.text for run in log} == {"x"}


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_of_a_log_of_runs_is_of_the_same_file(tmp_path, monkeypatch, copied):
    monkeypatch.chdir(tmp_path)
    for kept in (False, True):
        log = RunLog("runs.jsonl", store_prompts=kept)
        other = copied(log)
        monkeypatch.chdir(tmp_path.parent)
        assert (other.path, other.store_prompts) == (tmp_path / "runs.jsonl", kept)
        monkeypatch.chdir(tmp_path)
        other.append(TeamRun(id=str(kept), query=Query(text="x"), models={"planner": "small"}))
    assert [run.id for run in RunLog("runs.jsonl")] == ["False", "True"]
