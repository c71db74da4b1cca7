"""What a session's budget is worth: a run that costs as much as was expected is paid to its end, and no more is spent."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.errors import BudgetError
from agentroute.teams import Mode, Role, RoleAllocator, Team
from agentroute.types import ModelCard, Price


@st.composite
def allocators(draw):
    """Teams of any size, with any modes, lengths and prices."""
    tokens, prices, scores = st.floats(1.0, 3000.0), st.floats(0.01, 40.0), st.floats(0.1, 0.9)
    roles = [
        Role(
            name=f"role {number}",
            input_tokens=draw(tokens),
            output_tokens=draw(tokens),
            calls=draw(st.integers(1, 3)),
            optional=number > 0 and draw(st.booleans()),
        )
        for number in range(draw(st.integers(1, 5)))
    ]
    mode = Mode(
        name="the mode",
        growth=draw(st.sampled_from(["none", "previous", "all"])),
        rounds=draw(st.integers(1, 3)),
        reviews=draw(st.integers(0, 2)),
        extra_tokens=draw(st.floats(0.0, 50.0)),
    )
    cards = [
        ModelCard(id=f"m{number}", price=Price(input=draw(prices), output=draw(prices)), scores={"MMLU": draw(scores)})
        for number in range(draw(st.integers(1, 4)))
    ]
    return RoleAllocator(Team(roles=roles, modes=[mode]), cards), mode


@settings(max_examples=150, deadline=None)
@given(allocators(), st.randoms(use_true_random=False))
def test_a_run_that_costs_what_was_expected_is_paid_to_its_end(made, rng):
    allocator, mode = made
    allocation = allocator.allocate("x")
    budget = allocation.expected_cost
    calls = [
        role.name
        for role in allocator.team.roles
        if role.name in allocation.models
        for _ in range(int(role.calls) * mode.rounds * (1 + mode.reviews))
    ]
    rng.shuffle(calls)
    spent = 0.0
    with allocator.session("x", allocation=allocation, budget=budget) as session:
        for role in calls:
            cost = session.held(role)(allocation.models[role])
            call = session.begin(role)
            assert (call.model, call.held) == (allocation.models[role], pytest.approx(cost, rel=1e-9))
            call.settle(cost=cost)
            spent += cost
        run = session.finish(success=1.0)
    assert spent == pytest.approx(budget, rel=1e-9)
    assert run.cost <= budget * (1 + 1e-9)
    assert session.budget.spent() <= budget * (1 + 1e-9)
    assert run.models == {role: allocation.models.get(role, "none") for role in session.roles}


def test_a_call_that_failed_is_still_to_be_made():
    cards = [
        ModelCard(id=name, price=Price(input=usd, output=usd), scores={"MMLU": usd / 100})
        for name, usd in (("middle", 10.0), ("large", 100.0))
    ]
    role = Role(name="talker", input_tokens=500, output_tokens=500, calls=2)
    with RoleAllocator(Team(roles=[role], modes=[Mode(name="alone")]), cards).session("x", budget=0.29) as session:
        session.begin("talker").failed("TooLong", cost=0.1, again=True)
        # $0.19 are left, and two calls of $0.1 are to come.
        assert session.model("talker") == "middle"


def test_roles_that_the_caller_has_settled_keep_their_models(allocator):
    allocation = allocator.allocate("x", fixed={"planner": "large", "solver": "middle", "critic": "small"})
    for fixed, found in (
        (("planner", "critic"), {"planner": "large", "solver": "small", "critic": "small"}),
        ((), dict.fromkeys(("planner", "solver", "critic"), "middle")),
    ):
        # $0.105: the large planner and little else, where all are expected to take $0.111.
        given = replace(allocation, fixed=frozenset(fixed))
        with allocator.session("x", allocation=given, budget=0.105) as session:
            assert {role: session.begin(role).model for role in ("planner", "solver", "critic")} == found
    with allocator.session("x", allocation=replace(allocation, fixed=frozenset({"planner"})), budget=0.09) as session:
        with pytest.raises(BudgetError, match="'planner' may need"):
            session.begin("planner")
        assert session.begin("solver").model == "small"
