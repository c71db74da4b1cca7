"""What a budget takes for an amount, what it says of calls that cost too much, and that its money cannot be doubled."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from agentroute.errors import BudgetOverrunWarning, ConfigError
from agentroute.teams import MemoryBudget, Mode, Role, RoleAllocator, SqliteBudget, Team
from agentroute.teams._budget import SLACK
from agentroute.types import ModelCard, Price


@pytest.fixture
def allocator():
    team = Team(roles=[Role(name="planner"), Role(name="solver")], modes=[Mode(name="alone")])
    return RoleAllocator(team, [ModelCard(id=name, price=Price(input=1.0, output=1.0)) for name in ("small", "large")])


# --- amounts ---


@pytest.mark.parametrize(
    "usd", [np.float16(0.25), np.float32(0.25), np.float64(0.25), np.array(0.25), Decimal("0.25"), Fraction(1, 4)], ids=repr
)
def test_any_kind_of_number_is_an_amount(tmp_path, usd):
    with SqliteBudget(tmp_path / "money.sqlite", "a", usd) as kept:
        for budget in (MemoryBudget(usd), kept):
            assert (budget.usd, type(budget.usd), budget.left()) == (0.25, float, 0.25)
            assert "0.25" in repr(budget)
            budget.reserve(usd).settle(usd)
            assert (budget.spent(), budget.left()) == (0.25, 0.0)
    assert MemoryBudget(np.int64(2)).left() == 2.0


@pytest.mark.parametrize(
    "usd", ["0.1", True, (0.1,), np.array([0.1]), np.array([0.1, 0.2]), Decimal("sNaN"), 10**400], ids=lambda usd: repr(usd)[:12]
)
def test_what_is_no_number_is_refused_in_plain_words(tmp_path, usd):
    budget = MemoryBudget(1.0)
    one = budget.reserve(0.5)
    for use in (MemoryBudget, budget.reserve, one.settle, lambda usd: SqliteBudget(tmp_path / "money.sqlite", "a", usd)):
        with pytest.raises(ConfigError, match="no amount of money"):
            use(usd)
    with pytest.raises(ConfigError, match="no amount of money"):
        MemoryBudget(None)
    assert budget.left() == 0.5


# --- what costs more than was set aside ---


@pytest.mark.parametrize(
    ("part", "told"),
    [(1.0 + SLACK / 2, False), (1.0 + 3 * SLACK, True), (1.5, True), (Fraction(3, 2), True), (np.array(1.5), True)],
)
def test_what_is_more_than_roundings_is_told(part, told):
    one = MemoryBudget(10.0).reserve(2.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        one.settle(part * 2)
    assert [warning.category for warning in caught] == [BudgetOverrunWarning] * told
    if told:
        assert caught[0].filename == __file__
        assert "max_output_tokens on the model's card" in str(caught[0].message)


def test_a_call_that_costs_too_much_is_told_once_of_each_model_in_each_role_at_the_callers_line(allocator):
    with warnings.catch_warnings(record=True) as caught, allocator.session("x", budget=10.0) as session:
        warnings.simplefilter("always")
        for role, model in (
            ("planner", "small"),
            ("planner", "small"),
            ("planner", "large"),
            ("solver", "small"),
            (None, "small"),
        ):
            session.begin(role, model=model, ceiling=lambda _: 0.1).settle(cost=0.2)
        session.begin("solver", model="large", ceiling=lambda _: 0.1).failed("Timeout", cost=0.3)
        session.begin_check("solver", "small", 0.1).settle(cost=0.2)
        assert session.budget.left() == pytest.approx(10.0 - 6 * 0.2 - 0.3)
    said = [str(warning.message) for warning in caught]
    assert [message.partition(" cost $")[0] for message in said] == [
        "a call of small for the role 'planner'",
        "a call of large for the role 'planner'",
        "a call of small for the role 'solver'",
        "a call of small of no role",
        "a call of large for the role 'solver'",
        "judging small in the role 'solver'",
    ]
    assert "cost $0.2, for which $0.1 were set aside: the budget may be exceeded" in said[0]
    assert "give the answer a limit (max_tokens, or max_output_tokens on the model's card)" in said[0]
    assert {warning.filename for warning in caught} == {__file__}


def test_a_call_that_ends_in_a_thread_of_its_own_is_told_too(allocator):
    with warnings.catch_warnings(record=True) as caught, allocator.session("x", budget=10.0) as session:
        warnings.simplefilter("always")
        call = session.begin("planner", ceiling=lambda _: 0.1)
        thread = threading.Thread(target=call.settle, kwargs={"cost": 0.2})
        thread.start()
        thread.join()
    assert len(caught) == 1


# --- copies ---


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_money_in_memory_is_not_doubled(copied):
    budget = MemoryBudget(1.0)
    with pytest.raises(ConfigError, match="use SqliteBudget among processes"):
        copied(budget)
    assert budget.left() == 1.0
