"""Calls within a team's session that belong to no role, and routed models within routed models: each is booked once."""

from dataclasses import replace

import pytest

from agentroute.cascades import Limits
from agentroute.errors import AllModelsFailedError, BudgetError, NoEligibleModelError, PriceUnknownError
from agentroute.pool import ModelPool
from agentroute.scorers import as_scorer
from agentroute.serving import Asked, CascadeCall, CascadeDecider, Decider, JudgesVoice, RoutedCall, Spent, Turn, Watch
from agentroute.teams import Mode, Role, RoleAllocator, Team
from agentroute.types import ModelCard, Price, Reply, Score

PRICES = {"small": 0.01, "middle": 0.1, "large": 0.5}
CARDS = [
    ModelCard(id=name, price=Price(input=0.0, output=0.0, per_call=usd), scores={"MMLU": usd}) for name, usd in PRICES.items()
]
POOL = ModelPool([ModelCard(id=name) for name in PRICES])
TEAM = Team(roles=[Role(name=name) for name in ("planner", "solver")], modes=[Mode(name="alone")])
TURNS = (Turn(role="user", text="x"),)


class Told(Watch):
    """A call whose answer tells what it has cost."""

    def told(self):
        return Spent(cost=PRICES.get(self.step.model, 0.25))


class Outer(RoutedCall):
    """A call whose candidates may be routed themselves: model → its decider."""

    within: dict = {}  # noqa: RUF012  # set by the tests

    def asks(self, step):
        return self.within.get(step.model)


@pytest.fixture
def allocator():
    return RoleAllocator(TEAM, CARDS)


def decider(pool=POOL, **kwargs):
    options = {"router": None, "default": None, "sticky": "none", "role": None, "task": None, "logged": False}
    return Decider(pool, **options | kwargs)


def begun(made=None, failover=True, kind=RoutedCall, **asked):
    made = decider() if made is None else made
    return kind(decided=made.begin(Asked(turns=TURNS, **asked)).decide(), pool=made.pool, log=None, failover=failover)


def answers(call, **errors):
    def one(step):
        with Told(call, step) as watch:
            if step.model in errors:
                raise errors[step.model]
        return watch.ended("yes")

    return one


@pytest.fixture
def drive(both_ways):
    async def driven(call, one=None, **errors):
        return await both_ways(call, answers(call, **errors) if one is None else one)

    return driven


# --- calls of no role ---


@pytest.mark.parametrize("budget", [None, 2.0])
async def test_a_call_of_no_role_is_a_cost_of_the_run(allocator, drive, budget):
    with allocator.session("x", budget=budget) as session:
        await drive(begun(role=None, forced="middle"))
        session.begin("planner", model="small").settle(cost=0.01)
        told = session.finish()
    assert told.cost == pytest.approx(0.11)
    assert set(told.roles) == {"planner"}
    if budget is not None:
        assert session.budget.left() == pytest.approx(2.0 - 0.11)


async def test_its_money_is_set_aside_before_it_is_made(allocator, drive):
    with allocator.session("x", budget=2.0) as session:
        call, held = begun(decider(default="large")), []

        def one(step):
            held.append(session.budget.left())
            return answers(call)(step)

        await drive(call, one)
        assert held == [pytest.approx(1.5)]


async def test_what_cannot_be_paid_is_left_to_the_next(allocator, drive):
    with allocator.session("x", budget=0.13, fixed=dict.fromkeys(("planner", "solver"), "small")) as session:
        call = begun(decider(default="large"))
        answered = await drive(call)
        record = call.record(answered)
        assert (record["model"], record["answered_by"], len(record["attempts"])) == ("small", "small", 1)
        assert record["reason"].startswith("small answers: the team's budget has no money")
        with pytest.raises(BudgetError, match="a call of large of no role may need"):
            await drive(begun(forced="large"))
        with pytest.raises(BudgetError):
            await drive(begun(decider(default="large"), failover=False))
        assert session.finish().cost == pytest.approx(0.01)


async def test_a_failure_that_nobody_can_be_paid_to_mend_says_so(allocator, drive):
    with allocator.session("x", budget=0.61, fixed=dict.fromkeys(("planner", "solver"), "small")):
        call = begun(decider(default="large"), failover=["middle", "small"])
        with pytest.raises(AllModelsFailedError):
            await drive(call, large=ConnectionError(), middle=ConnectionError(), small=ConnectionError())
        with pytest.raises(BudgetError):
            await drive(begun(forced="middle"))
    with allocator.session("x", budget=0.55, fixed=dict.fromkeys(("planner", "solver"), "small")):
        call = begun(decider(default="large"), failover=["middle"])
        with pytest.raises(ConnectionError) as caught:
            await drive(call, large=ConnectionError())
        assert "no other model was asked: $0.05 are left" in caught.value.__notes__[0]


async def test_what_nobody_knows_the_price_of_is_not_called_within_a_budget(allocator, drive):
    foreign = decider(ModelPool([ModelCard(id="foreign")]))
    with allocator.session("x", budget=2.0), pytest.raises(PriceUnknownError, match="foreign"):
        await drive(begun(foreign))
    priced = ModelPool([ModelCard(id="foreign", price=Price(input=0.0, output=0.0, per_call=0.25), max_output_tokens=10)])
    with allocator.session("x", budget=2.0) as session:
        await drive(begun(decider(priced), size=lambda _: (5, None)))
        assert session.budget.left() == pytest.approx(1.75)
    with allocator.session("x") as session:
        await drive(begun(foreign))
        assert session.finish().cost == 0.25


async def test_after_the_end_of_the_run_it_is_nobodys(allocator, drive):
    with allocator.session("x", budget=0.02, fixed=dict.fromkeys(("planner", "solver"), "small")) as session:
        told = session.finish()
        assert (await drive(begun(decider(default="large")))).model == "large"
    assert told.cost == 0.0


# --- routed models within routed models ---


@pytest.mark.parametrize("role", [None, "planner", "solver"])
@pytest.mark.parametrize("outer", ["planner", None])
async def test_a_routed_candidate_is_booked_once(allocator, drive, outer, role):
    """By the outer call where it has a role, else by the inner one."""
    with allocator.session("x", budget=2.0, fixed=dict.fromkeys(("planner", "solver"), "middle")) as session:
        inner, innermost = decider(role=role), decider(role="solver")
        call = begun(decider(role=outer, default="middle"), kind=Outer)
        call.within = {"middle": inner}
        deeper = []

        def one(step):
            with Told(call, step) as watch:
                among = begun(inner, kind=Outer)
                among.within = {"small": innermost, "middle": innermost}

                def within(step):
                    deeper.append(begun(innermost).decided.part)
                    return answers(among)(step)

                among.drive(within)
            return watch.ended("yes")

        await drive(call, one)
        told = session.finish()
    if outer == "planner":
        assert (told.roles["planner"].calls, told.cost) == (1, pytest.approx(0.1))
        assert set(told.roles) == {"planner"}
        assert deeper == [None]
    elif role is None:
        # Neither of the two has a role: the innermost one books itself.
        assert (told.roles, told.cost, deeper[0].role) == ({}, 0.0, "solver")
    else:
        assert (set(told.roles), told.cost, deeper) == ({role}, pytest.approx(0.1), [None])


async def test_another_model_that_a_candidate_asks_on_its_way_is_booked_for_its_own_role(allocator, drive):
    """As a tool does that is called within a call."""
    with allocator.session("x", budget=2.0, fixed=dict.fromkeys(("planner", "solver"), "middle")) as session:
        call = begun(decider(role="planner"), kind=Outer)
        call.within = {"middle": decider()}

        def one(step):
            with Told(call, step) as watch:
                other = begun(decider(role="solver"))
                other.drive(answers(other))
            return watch.ended("yes")

        await drive(call, one)
        told = session.finish()
    assert {role: part.calls for role, part in told.roles.items()} == {"planner": 1, "solver": 1}
    assert told.cost == pytest.approx(0.2)


# --- cascades ---


def climbing(judge, most=0.0, **limits):
    judge = as_scorer(judge, name="mine", ceiling=most)
    options = {"planner": None, "threshold": 0.5, "check_last": False, "sticky": "none", "role": None, "task": None}
    made = CascadeDecider(POOL, judge=judge, logged=False, **options)
    climb = made.begin(Asked(turns=TURNS)).decide()
    return CascadeCall(decided=climb, pool=POOL, log=None, judge=judge, limits=Limits(**limits), voice=JudgesVoice(judge, None))


def rung(call):
    one = answers(call)
    return lambda step: replace(one(step), reply=Reply(text="yes", model=step.model))


async def test_a_cascade_of_no_role_is_paid_rung_by_rung_with_its_checks(allocator, drive):
    with allocator.session("x", budget=2.0) as session:
        call = climbing(lambda _, reply: Score(value=float(reply.model == "middle"), cost=0.03), most=0.04)
        assert (await drive(call, rung(call))).model == "middle"
        told = session.finish()
    assert (told.roles, told.cost) == ({}, pytest.approx(0.11 + 2 * 0.03))
    assert session.budget.spent() == pytest.approx(told.cost)


async def test_a_cascade_of_no_role_climbs_no_higher_than_the_money(allocator, drive):
    with allocator.session("x", budget=0.3, fixed=dict.fromkeys(("planner", "solver"), "small")) as session:
        call = climbing(lambda _, reply: 0.0)
        answered = await drive(call, rung(call))
        assert [one.model for one in answered.attempts] == ["small", "middle"]
        assert session.finish().cost == pytest.approx(0.11)


@pytest.mark.parametrize("most", [0.04, 0.0])
async def test_a_judge_that_asks_a_routed_model_is_booked_once(allocator, drive, most):
    def judge(_, reply):
        call = begun(forced="small")
        call.drive(answers(call))
        return Score(value=1.0, cost=0.01)

    with allocator.session("x", budget=2.0) as session:
        call = climbing(judge, most=most)
        await drive(call, rung(call))
        # Either what the judge says of itself, or what it has asked: here both are a cent.
        assert session.finish().cost == pytest.approx(0.01 + 0.01)


# --- how long prompts are at most ---


def test_dense_prompts_are_taken_for_as_long_as_they_are(allocator):
    turns = (Turn(role="system", text="你好" * 100), Turn(role="user", text="x"))
    pool = ModelPool([ModelCard(id="small", price=Price(input=1e6, output=0.0), max_output_tokens=1)])
    with allocator.session("x"):
        part = decider(pool).begin(Asked(turns=turns, size=lambda _: (50, None))).decide().part
        # Three bytes a sign, one for the x, and 16 tokens around each message; a quarter of the signs was counted.
        assert part.ceiling("small") == pytest.approx(600 + 1 + 2 * 16)


def test_nobody_is_asked_where_nobody_may(allocator):
    with allocator.session("x"), pytest.raises(NoEligibleModelError):
        begun(decider(ModelPool([ModelCard(id="small", capabilities=())])), needs=frozenset({"tools"}))
