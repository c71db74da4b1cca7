"""Budgets that many spend from at once: threads, processes, forks, crashes, and amounts that are none."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.errors import BudgetError, BudgetOverrunWarning, ConfigError, StorageError
from agentroute.teams._budget import SLACK, Budget, MemoryBudget, units
from agentroute.teams._budget_file import SqliteBudget

PROCESSES, THREADS, ATTEMPTS = 4, 16, 10_000


@pytest.fixture(params=["memory", "file"])
def make(request, tmp_path):
    """Makes budgets of both kinds."""
    made = []

    def of(usd):
        budget = MemoryBudget(usd) if request.param == "memory" else SqliteBudget(tmp_path / "money.sqlite", "b", usd)
        made.append(budget)
        return budget

    yield of
    for budget in made:
        if isinstance(budget, SqliteBudget):
            budget.close()


def test_money_is_set_aside_then_settled(make):
    budget = make(1.0)
    assert isinstance(budget, Budget)
    first = budget.reserve(0.6)
    assert (budget.left(), budget.spent(), first.usd) == (0.4, 0.0, 0.6)
    with pytest.raises(BudgetError, match=r"may cost \$0.5, and \$0.4 of the budget of \$1 are left") as caught:
        budget.reserve(0.5)
    assert (caught.value.budget, caught.value.cheapest) == (0.4, 0.5)
    second = budget.reserve(0.4)
    assert budget.left() == 0.0
    first.settle(0.25)
    assert (budget.left(), budget.spent()) == (0.35, 0.25)
    second.release()
    assert (budget.left(), budget.spent()) == (0.75, 0.25)


def test_a_reservation_ends_once(make):
    budget = make(1.0)
    one = budget.reserve(0.5)
    one.settle(0.5)
    one.release()
    with pytest.raises(ConfigError, match="settled or released before"):
        one.settle(0.1)
    assert budget.spent() == 0.5
    other = budget.reserve(0.5)
    other.release()
    other.release()
    assert budget.left() == 0.5


def test_an_amount_that_is_none_settles_nothing(make):
    budget = make(1.0)
    one = budget.reserve(0.5)
    with pytest.raises(ConfigError, match="no amount of money"):
        one.settle(float("nan"))
    one.settle(0.1)
    assert budget.left() == 0.9


def test_what_breaks_off_is_booked_in_full(make):
    budget = make(1.0)
    with pytest.raises(RuntimeError), budget.reserve(0.3):
        raise RuntimeError
    assert (budget.spent(), budget.left()) == (0.3, 0.7)
    with budget.reserve(0.3) as one:
        one.settle(0.1)
    with budget.reserve(0.3) as one:
        one.release()
    assert (budget.spent(), budget.left()) == (0.4, 0.6)


def test_a_call_that_costs_more_than_was_set_aside_is_booked_and_told(make):
    budget = make(0.5)
    one = budget.reserve(0.2)
    with pytest.warns(BudgetOverrunWarning, match=r"cost \$0.7, for which \$0.2 were set aside"):
        one.settle(0.7)
    assert (budget.spent(), budget.left()) == (0.7, 0.0)
    with pytest.raises(BudgetError, match=r"\$0 of the budget of \$0.5"):
        budget.reserve(0.000001)
    budget.reserve(0.0).settle(0.0)  # what is free may always be called


@pytest.mark.parametrize("usd", [-0.1, float("nan"), float("inf")])
def test_what_is_no_amount_is_refused(make, usd):
    with pytest.raises(ConfigError, match="no amount of money"):
        make(usd)
    with pytest.raises(ConfigError, match="no amount of money"):
        make(1.0).reserve(usd)


def test_ten_dimes_are_a_dollar(make):
    budget = make(1.0)
    for _ in range(10):
        budget.reserve(0.1).settle(0.1)
    assert (budget.spent(), budget.left()) == (1.0, 0.0)


@given(st.floats(0.0, 1e6))
def test_whole_units_are_off_by_less_than_one(usd):
    assert usd * 1e9 - 0.001 * max(1.0, usd) <= units(usd, 10**9) < usd * 1e9 + 1.0 + 0.001 * max(1.0, usd)
    assert 0 <= units(usd, 10**9) - units(usd, 10**9, up=False) <= 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(1e-7, 0.1), min_size=1, max_size=30))
def test_what_calls_cost_together_is_enough_for_them(costs):
    budget = MemoryBudget(sum(costs))
    for cost in costs:
        budget.reserve(cost).settle(cost)
    assert budget.spent() <= budget.usd * (1.0 + SLACK)
    with pytest.raises(BudgetError):
        budget.reserve(2.0 * SLACK * budget.usd)


def test_a_budget_is_overdrawn_by_no_more_than_roundings(make):
    budget = make(1.0)
    budget.reserve(1.0 + SLACK / 2).settle(1.0 + SLACK / 2)
    for usd in (SLACK, SLACK / 1.9):
        with pytest.raises(BudgetError):
            budget.reserve(usd)
    assert budget.left() == 0.0


def test_a_file_holds_no_more_than_it_can_count(tmp_path):
    with pytest.raises(ConfigError, match=r"more than a budget in a file can hold: \$4,000,000"):
        SqliteBudget(tmp_path / "money.sqlite", "a", 5e6)
    with SqliteBudget(tmp_path / "money.sqlite", "a", 1.0) as budget:
        for _ in range(3):
            with pytest.warns(BudgetOverrunWarning, match="may be exceeded"):
                budget.reserve(0.0).settle(3e6)
        assert (budget.spent(), budget.left()) == (4e6, 0.0)


def test_cents_are_whole():
    whole = [cents * 10**10 for cents in range(200)]
    assert [units(cents / 100, 10**12) for cents in range(200)] == whole
    assert [units(cents / 100, 10**12, up=False) for cents in range(200)] == whole


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["reserve", "settle", "release"]), st.integers(0, 400)), max_size=30))
def test_any_course_of_spending_is_that_of_plain_integers(steps):
    total, held, spent, open_ = 1000, 0, 0, []
    budget = MemoryBudget(total / 1e9)
    for step, amount in steps:
        if step == "reserve" and amount > total - held - spent:
            with pytest.raises(BudgetError):
                budget.reserve(amount / 1e9)
        elif step == "reserve":
            open_.append((budget.reserve(amount / 1e9), amount))
            held += amount
        elif open_:
            one, reserved = open_.pop()
            held -= reserved
            if step == "settle":
                spent += min(amount, reserved)
                one.settle(min(amount, reserved) / 1e9)
            else:
                one.release()
        assert (round(budget.left() * 1e9), round(budget.spent() * 1e9)) == (total - held - spent, spent)
        assert held + spent <= total


def attempt(budget, number):
    """One call of a cent and a fifth at most, which costs a cent; whether there was money for it."""
    try:
        one = budget.reserve(0.012)
    except BudgetError:
        return 0
    if number % 7 == 0:
        one.release()
        return 0
    one.settle(0.01)
    return 1


def test_threads_never_overspend(make):
    budget = make(3.0)
    with ThreadPoolExecutor(THREADS) as pool:
        calls = sum(pool.map(lambda number: attempt(budget, number), range(2000)))
    # 299 calls leave a cent, too little for a call that may cost a cent and a fifth.
    assert calls == 299
    assert (budget.spent(), budget.left()) == (2.99, 0.01)


def spend(path, start, counts):
    """One process: its own budget object on the shared file, 16 threads that start at once."""
    budget = SqliteBudget(path, "shared")
    lowest = []

    def work(number):
        done = attempt(budget, number)
        if number % 100 == 0:
            lowest.append(budget.spent())
        return done

    with ThreadPoolExecutor(THREADS) as pool:
        start.wait()
        calls = sum(pool.map(work, range(ATTEMPTS // PROCESSES)))
    counts.put((calls, max(lowest)))
    budget.close()


def test_no_overshoot_in_ten_thousand_attempts_of_four_processes_of_sixteen_threads(tmp_path):
    path = tmp_path / "money.sqlite"
    context = multiprocessing.get_context("spawn")
    start, counts = context.Barrier(PROCESSES), context.Queue()
    # 8,568 of the attempts want to spend, and there is money for 6,000 of them: all race for the last cents.
    with SqliteBudget(path, "shared", 60.0) as budget:
        workers = [context.Process(target=spend, args=(path, start, counts)) for _ in range(PROCESSES)]
        for worker in workers:
            worker.start()
        found = [counts.get(timeout=60) for _ in workers]
        for worker in workers:
            worker.join(timeout=60)
        assert [worker.exitcode for worker in workers] == [0] * PROCESSES
        calls = sum(done for done, _ in found)
        assert max(most for _, most in found) <= 60.0
        assert budget.spent() == pytest.approx(calls * 0.01, abs=1e-9)
        assert budget.spent() <= 60.0
        assert budget.spent() + budget.left() == pytest.approx(60.0, abs=1e-9)
        # Nothing that they set aside is kept from others: who comes now has what is left, to the last call. The racers may leave
        # something, for some were refused while others still held what they did not need in the end.
        while budget.left() >= 0.012:
            budget.reserve(0.012).settle(0.01)
        with pytest.raises(BudgetError):
            budget.reserve(0.012)
        assert budget.spent() <= 60.0


def test_processes_that_open_a_new_file_at_once_make_one_budget(tmp_path):
    code = (
        "import sys\n"
        "from agentroute.teams._budget_file import SqliteBudget\n"
        "SqliteBudget(sys.argv[1], 'x', 1.0).reserve(0.1).settle(0.1)\n"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "new.sqlite")]) for _ in range(4)]
    assert [worker.wait(timeout=60) for worker in workers] == [0] * 4
    with SqliteBudget(tmp_path / "new.sqlite", "x") as budget:
        assert (budget.usd, budget.spent()) == (1.0, 0.4)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is known to POSIX alone")
@pytest.mark.parametrize(("lease", "left"), [(None, 0.3), (3.0, 0.9)])
def test_what_a_killed_process_set_aside_is_free_after_its_lease_alone(tmp_path, lease, left):
    path = tmp_path / "money.sqlite"
    code = (
        "import sys, time\n"
        "from agentroute.teams._budget_file import SqliteBudget\n"
        f"budget = SqliteBudget(sys.argv[1], 'x', 1.0, lease={lease})\n"
        "budget.reserve(0.1).settle(0.1)\n"
        "budget.reserve(0.6)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as worker:
        assert worker.stdout.readline() == b"ready\n"
        worker.kill()
    with SqliteBudget(path, "x") as budget:
        assert (budget.spent(), budget.left()) == (0.1, 0.3)
        with pytest.raises(BudgetError):
            budget.reserve(0.5)
        deadline = time.monotonic() + 30.0
        while budget.left() < left and time.monotonic() < deadline:
            time.sleep(0.05)
        assert budget.left() == left
        budget.reserve(left).settle(left)
        assert (budget.spent(), budget.left()) == (pytest.approx(0.1 + left, abs=1e-12), 0.0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_a_forked_child_spends_from_the_same_budget(tmp_path):
    with SqliteBudget(tmp_path / "money.sqlite", "x", 1.0) as budget:
        budget.reserve(0.1).settle(0.1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # other tests' threads
            child = os.fork()
        if child == 0:
            inherited = budget._handle.connection  # SQLite forbids to use it here
            try:
                budget.reserve(0.2).settle(0.2)
            finally:
                os._exit(0 if inherited is None else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        budget.reserve(0.3).settle(0.3)
        assert budget.spent() == 0.6


def test_what_could_not_be_booked_stays_set_aside_until_it_can_be(tmp_path, monkeypatch):
    path = tmp_path / "money.sqlite"
    monkeypatch.setattr("agentroute.outcomes._schema.BUSY_SECONDS", 0.05)
    with SqliteBudget(path, "x", 1.0) as budget:
        ends = {
            "settle": lambda one: one.settle(0.2),
            "release": lambda one: one.release(),
            "block": lambda one: one.__exit__(*[None] * 3),
        }
        open_ = {name: budget.reserve(0.3) for name in ends}
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # another program holds the file
        for name, end in ends.items():
            with pytest.raises(StorageError):
                end(open_[name])
            assert not open_[name].ended
        other.execute("ROLLBACK")
        other.close()
        assert (budget.spent(), budget.left()) == (0.0, 0.1)
        for name, end in ends.items():
            end(open_[name])
            assert open_[name].ended
        assert (budget.spent(), budget.left()) == (0.5, 0.5)
        with pytest.raises(ConfigError, match="settled or released before"):
            open_["settle"].settle(0.2)


def test_budgets_of_one_file_do_not_mix(tmp_path):
    path = tmp_path / "money.sqlite"
    with SqliteBudget(path, "a", 1.0) as one, SqliteBudget(path, "b", 2.0) as two:
        one.reserve(0.5)
        two.reserve(0.25).settle(0.25)
        assert (one.left(), two.left()) == (0.5, 1.75)
        assert "'a', 1" in repr(one)


def test_a_budget_is_opened_again_with_its_amount_or_without(tmp_path):
    path = tmp_path / "money.sqlite"
    with SqliteBudget(path, "a", 1.0) as budget:
        budget.reserve(0.5).settle(0.25)
    with SqliteBudget(path, "a", 1.0) as budget:
        assert budget.left() == 0.75
    with SqliteBudget(path, "a") as budget:
        assert (budget.usd, budget.left()) == (1.0, 0.75)
    with pytest.raises(ConfigError, match=r"holds a budget 'a' of \$1: leave usd out"):
        SqliteBudget(path, "a", 2.0)
    with pytest.raises(ConfigError, match="holds no budget 'b': say usd="):
        SqliteBudget(path, "b")
    with pytest.raises(ConfigError, match="lease"):
        SqliteBudget(path, "a", lease=0.0)


def test_files_that_are_none_of_ours_are_left_alone(tmp_path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match="another program's"):
        SqliteBudget(path, "a", 1.0)
    assert path.read_bytes() == before
    with pytest.raises(StorageError, match="folder does not exist"):
        SqliteBudget(tmp_path / "no" / "money.sqlite", "a", 1.0)
    (tmp_path / "text").write_text("no database at all, but long enough to be looked at " * 40)
    with pytest.raises(StorageError, match="not an SQLite database"):
        SqliteBudget(tmp_path / "text", "a", 1.0)


def test_a_closed_budget_says_so(tmp_path):
    budget = SqliteBudget(tmp_path / "money.sqlite", "a", 1.0)
    budget.close()
    budget.close()
    with pytest.raises(StorageError, match="the budget is closed"):
        budget.left()
