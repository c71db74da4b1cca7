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


def limited(limit):
    """An allocator of one role, of 500 tokens in and 200 out; with the large model that is $0.00325."""
    cards = [
        ModelCard(id="small", price=Price(input=0.15, output=0.6), max_output_tokens=limit, scores={"MMLU": 0.3}),
        ModelCard(id="large", price=Price(input=2.5, output=10), max_output_tokens=limit, scores={"MMLU": 0.9}),
    ]
    role = Role(name="planner", input_tokens=500, output_tokens=200)
    return RoleAllocator(Team(roles=[role], modes=[Mode(name="alone")]), cards)


@pytest.mark.parametrize(
    ("limit", "large"),
    [
        (None, 0.00325),
        (200, (750 * 2.5 + 200 * 10) / 1e6),
        (400, (750 * 2.5 + 400 * 10) / 1e6),
        (1600, (750 * 2.5 + 1600 * 10) / 1e6),
        # What a model can do is not what the role does.
        (1601, 0.00325),
        (128_000, 0.00325),
    ],
)
def test_a_cards_limit_is_set_aside_for_where_the_role_may_come_near_it(limit, large):
    with limited(limit).session("x", budget=1.0) as session:
        assert session.held("planner")("large") == pytest.approx(large)
        assert session.held(None)("large") == pytest.approx(large)
        assert session.begin("planner").held == pytest.approx(large)


def test_a_model_whose_answer_may_be_too_dear_by_its_card_is_not_asked():
    with limited(400).session("x", budget=0.0034) as session:
        call = session.begin("planner")
        # The large model may need $0.005875.
        assert (call.model, call.held) == ("small", pytest.approx((750 * 0.15 + 400 * 0.6) / 1e6))
        call.release()
        with pytest.raises(BudgetError, match=r"a call of large for the role 'planner' may need \$0.005875"):
            session.begin("planner", model="large")
    with limited(None).session("x", budget=0.0034) as session:
        assert session.begin("planner").model == "large"


def test_what_is_read_of_others_is_part_of_the_prompt():
    cards = [ModelCard(id="one", price=Price(input=1.0, output=0.0, per_call=0.5), max_output_tokens=300)]
    roles = [Role(name=name, input_tokens=500, output_tokens=200) for name in ("planner", "solver")]
    mode = Mode(name="chain", growth="previous", extra_tokens=20)
    with RoleAllocator(Team(roles=roles, modes=[mode]), cards).session("x", budget=9.0) as session:
        assert session.held("planner")("one") == pytest.approx(0.5 + 1.5 * 520e-6)
        assert session.held("solver")("one") == session.held(None)("one") == pytest.approx(0.5 + 1.5 * 720e-6)


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
