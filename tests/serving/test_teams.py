"""Calls of a role within a team's session: whom they go to, what is set aside, and what is booked, however they end."""

import math
from dataclasses import replace

import pytest

from agentroute.cascades import Call
from agentroute.errors import (
    AllModelsFailedError,
    BudgetError,
    ConfigError,
    NoEligibleModelError,
    OutcomeDroppedWarning,
    StorageError,
    UnknownModelError,
)
from agentroute.pool import ModelPool
from agentroute.serving import Asked, Decider, RoutedCall, Spent, Turn, Watch, mistakes
from agentroute.teams import CostModel, MemoryBudget, Mode, Role, RoleAllocator, RoleUsage, Team, TeamRun
from agentroute.types import ModelCard, Price, Query, Usage

NAMES = ("small", "middle", "large")
USAGE = Usage(input_tokens=10, output_tokens=5)
TURNS = (Turn(role="user", text="x"),)


class ContextOverflowError(ValueError):
    """As in LangChain."""


class StatusError(Exception):
    """As HTTP clients raise them."""

    def __init__(self, status_code):
        super().__init__()
        self.status_code = status_code


def decider(pool=None, **kwargs):
    pool = ModelPool(NAMES) if pool is None else pool
    options = {"router": None, "default": None, "sticky": "none", "role": "planner", "task": None, "logged": False}
    return Decider(pool, **options | kwargs)


def begun(made=None, log=None, failover=True, **asked):
    made = decider() if made is None else made
    decided = made.begin(Asked(turns=TURNS, **asked)).decide()
    return RoutedCall(decided=decided, pool=made.pool, log=log, failover=failover)


@pytest.fixture
def drive(both_ways, answering):
    async def driven(call, one=None, **answers):
        return await both_ways(call, answering(call, **answers) if one is None else one)

    return driven


# --- deciding ---


def test_the_session_decides_unless_somebody_insists(allocator):
    with allocator.session("x"):
        for asked, model, by in (
            ({}, "large", "allocated"),
            ({"allocated": "small"}, "small", "allocated"),
            ({"forced": "middle"}, "middle", "forced"),
            ({"kept": "small"}, "large", "allocated"),
        ):
            decided = decider().begin(Asked(turns=TURNS, **asked)).decide()
            assert (decided.decision.model, decided.decision.by) == (model, by)
            assert decided.part.role == "planner"
        assert decider(role=None).begin(Asked(turns=TURNS)).decide().part.role is None
    assert decider().begin(Asked(turns=TURNS)).decide().part is None


def test_no_router_is_asked_for_a_role_of_the_session(allocator):
    def router(query):
        raise AssertionError

    with allocator.session("x"):
        undecided = decider(router=router).begin(Asked(turns=TURNS))
        assert not undecided.waits
        assert undecided.decide().decision.model == "large"


def test_what_a_call_needs_comes_first(allocator):
    pool = ModelPool([ModelCard(id=name, capabilities=() if name == "large" else ("tools",)) for name in NAMES])
    with allocator.session("x"):
        asked = Asked(turns=TURNS, needs=frozenset({"tools"}))
        assert decider(pool).begin(asked).decide().decision.model == "middle"
        # What a run's own mapping names cannot take the call: the session decides.
        assert decider(pool).begin(replace(asked, allocated="large")).decide().decision.model == "middle"


def test_candidates_that_the_session_does_not_know_are_a_mistake(allocator):
    with allocator.session("x"):
        # Nor is another one taken in the place of the one that the role has: that may be a slip of the pen.
        for names in (["other"], ["large ", "small"]):
            with pytest.raises(UnknownModelError, match="'large': the role 'planner' has it in the session, and models= knows"):
                decider(ModelPool(names)).begin(Asked(turns=TURNS))
        # One that both know is enough, where it is the role's.
        assert decider(ModelPool(["other", "large"])).begin(Asked(turns=TURNS)).decide().decision.model == "large"


def test_a_role_that_money_has_moved_to_no_candidate_is_decided_among_those_that_there_are():
    found = (("s", 0.01, 0.3), ("m", 0.1, 0.6), ("l", 0.2, 0.9))
    cards = [
        ModelCard(id=name, price=Price(input=0, output=0, per_call=usd), scores={"MMLU": score}) for name, usd, score in found
    ]
    team = Team(roles=[Role(name=name) for name in ("writer", "solver", "planner")])
    with RoleAllocator(team, cards).session("x", budget=0.61) as session:
        session.begin("writer", ceiling=lambda _: 0.3).settle(cost=0.3)
        session.begin("solver", model="l").settle()
        session.begin("writer", ceiling=lambda _: 0.001).settle(cost=0.001)
        assert session.models["planner"] == "m"
        pool = ModelPool([card for card in cards if card.id != "m"])
        assert decider(pool).begin(Asked(turns=TURNS)).decide().decision.model == "s"


def test_a_role_whose_models_have_all_failed_says_so(allocator):
    with allocator.session("x", budget=0.5) as session:
        for _ in range(3):
            session.begin("planner").failed("RateLimitError", cost=0.0)
        session.begin("solver", ceiling=lambda _: 0.4).settle(cost=0.4)
        assert session.models["planner"] in session.may("planner")
        with pytest.raises(NoEligibleModelError, match="failed in this run"):
            decider(ModelPool([ModelCard(id=name) for name in NAMES])).begin(Asked(turns=TURNS))


def test_a_session_that_is_over_or_has_no_money_says_so_at_once(allocator):
    with allocator.session("x", budget=0.1) as session:
        session.begin("solver", ceiling=lambda _: 0.095).settle(cost=0.095)
        with pytest.raises(BudgetError, match="'planner'"):
            decider().begin(Asked(turns=TURNS))
        session.finish()
        with pytest.raises(ConfigError, match="finished"):
            decider().begin(Asked(turns=TURNS))


@pytest.mark.parametrize("known", [True, False])
def test_ceilings_follow_from_tokens_and_the_card_of_either_side(allocator, known):
    priced = [ModelCard(id=name, price=Price(input=1e6, output=2e6), max_output_tokens=7) for name in NAMES]
    bare = [ModelCard(id=name) for name in NAMES]
    models, pool = (priced, ModelPool(bare)) if known else (bare, ModelPool(priced))
    with RoleAllocator(allocator.team, models).session("x"):
        # Half as much again as was counted, and 16 tokens around the message.
        part = decider(pool).begin(Asked(turns=TURNS, size=lambda _: (4, None))).decide().part
        assert part.ceiling("small") == pytest.approx(6 + 16 + 7 * 2)
        part = decider(pool).begin(Asked(turns=TURNS, size=lambda _: (4, 5))).decide().part
        assert part.ceiling("small") == pytest.approx(6 + 16 + 5 * 2)
        assert part.ceiling("other") is None
        part = decider(pool).begin(Asked(turns=TURNS)).decide().part
        assert part.ceiling("small") is None


@pytest.fixture
def unlimited():
    """A planner of 500 tokens in and 200 out, and a solver who says 300; nobody limits answers."""
    cards = [
        ModelCard(id="small", price=Price(input=0.15, output=0.6), scores={"MMLU": 0.3}),
        ModelCard(id="large", price=Price(input=2.5, output=10), scores={"MMLU": 0.9}),
    ]
    roles = [Role(name=name, input_tokens=500, output_tokens=said) for name, said in (("planner", 200), ("solver", 300))]
    return RoleAllocator(Team(roles=roles, modes=[Mode(name="alone")]), cards)


@pytest.mark.parametrize(("role", "said"), [("planner", 200), ("solver", 300), (None, 300)])
def test_a_prompt_much_longer_than_expected_is_counted_where_nobody_limits_the_answer(unlimited, role, said):
    pool = ModelPool(["small", "large", ModelCard(id="other", price=Price(input=1.0, output=1.0))])
    with unlimited.session("x"):
        for counted, usd in ((950, None), (951, ((1426 + 16) * 2.5 + said * 10) / 1e6)):
            asked = Asked(turns=TURNS, size=lambda _, counted=counted: (counted, None))
            part = decider(pool, role=role).begin(asked).decide().part
            assert part.ceiling("large") == (None if usd is None else pytest.approx(usd))
            assert part.ceiling("other") is None
        # A limit that is known is the bound, however long the prompt.
        part = decider(pool, role=role).begin(Asked(turns=TURNS, size=lambda _: (10, 128_000))).decide().part
        assert part.ceiling("large") == pytest.approx(((15 + 16) * 2.5 + 128_000 * 10) / 1e6)


def test_an_answer_is_allowed_what_most_stay_below_where_runs_tell_it(unlimited):
    given = dict.fromkeys(("planner", "solver"), "large")
    runs = [
        TeamRun(
            query=Query(text=f"task {number}"),
            models=given,
            mode="alone",
            success=1.0,
            roles={
                role: RoleUsage(usage=Usage(input_tokens=500, output_tokens=100 + 20 * (number % 20)), calls=1) for role in given
            },
        )
        for number in range(40)
    ]
    unlimited.fit(runs)
    costs = CostModel(unlimited.team, unlimited.pool).fit(runs)
    assert costs.gamma_ > 0.0
    said = math.ceil(costs.output_[0, 1] * (1.0 + costs.gamma_ * costs.spread_[0, 1]))
    assert said > 1.1 * costs.output_[0, 1]
    with unlimited.session("x"):
        part = decider(ModelPool(["small", "large"])).begin(Asked(turns=TURNS, size=lambda _: (2_000, None))).decide().part
        assert part.ceiling("large") == pytest.approx(((3_000 + 16) * 2.5 + said * 10) / 1e6)


def test_a_long_prompt_goes_to_a_model_that_the_money_pays(unlimited):
    def asked(counted):
        return Asked(turns=TURNS, size=lambda _: (counted, None))

    made = decider(ModelPool(["small", "large"]))
    with unlimited.session("x", budget=0.01):
        assert made.begin(asked(500)).decide().decision.model == "large"
        # 25,000 tokens cost $0.0625 with the large model, and $0.00375 with the small one.
        assert made.begin(asked(25_000)).decide().decision.model == "small"
        with pytest.raises(BudgetError, match="'planner' may need"):
            made.begin(asked(250_000)).decide()


# --- one call ---


async def test_an_answer_is_booked_with_what_it_told(allocator, drive):
    with allocator.session("x", budget=2.0) as session:
        answered = await drive(begun())
        assert (answered.model, answered.answer) == ("large", "yes")
        assert session.budget.left() == pytest.approx(1.5)
        told = session.finish()
    assert told.roles["planner"].usage == USAGE
    assert told.cost == 0.5


async def test_the_money_is_set_aside_before_the_call_is_made(allocator, drive):
    with allocator.session("x", budget=2.0) as session:
        held = []
        await drive(begun(), large=lambda: held.append(session.budget.left()))
        assert held == [pytest.approx(1.5)]


async def test_when_others_took_the_money_meanwhile_the_decision_is_changed(allocator, drive):
    with allocator.session("x", budget=1.1) as session:
        call = begun()
        assert call.decided.decision.model == "large"
        session.begin("solver", ceiling=lambda _: 0.9).settle(cost=0.9)
        answered = await drive(call)
        record = call.record(answered)
    assert answered.model == "middle"
    assert (record["model"], record["answered_by"], record["by"]) == ("middle", "middle", "allocated")
    assert record["candidates"][0]["model"] == "middle"
    assert record["reason"] == "middle was allocated to planner"


async def test_a_mistake_of_the_caller_gives_everything_back(allocator, drive):
    def one(step):
        with mistakes():
            raise ZeroDivisionError

    with allocator.session("x", budget=2.0) as session:
        with pytest.raises(ZeroDivisionError):
            await drive(begun(), one)
        assert session.budget.left() == pytest.approx(2.0)
        assert session.finish().roles == {}


async def test_a_model_that_was_not_called_costs_nothing(allocator, drive, telling):
    call = None

    def one(step):
        with telling(call, step) as watched:
            pass
        watched.skipped()
        return replace(watched.ended("instead"), usage=None, cost=None)

    with allocator.session("x", budget=2.0) as session:
        call = begun()
        await drive(call, one)
        assert session.budget.left() == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("error", "left", "asked_again"),
    [
        (ConnectionError(), 1.5, False),  # it may have been billed
        (StatusError(503), 2.0, False),
        (StatusError(401), 2.0, True),  # a wrong key is nobody's but the caller's to mend
        (ValueError("malformed"), 1.5, True),
        (ContextOverflowError(), 1.5, True),
    ],
)
async def test_what_a_failure_costs_and_whether_the_model_is_asked_again(allocator, drive, error, left, asked_again, answering):
    with allocator.session("x", budget=2.0) as session:
        call = begun(failover=False)
        with pytest.raises(type(error)):
            await drive(call, answering(call, Watch, large=error))
        assert session.budget.left() == pytest.approx(left)
        assert (session.model("planner") == "large") == asked_again
        assert session.finish().roles["planner"].error == type(error).__name__


async def test_a_cached_answer_costs_nothing(allocator, drive, answering):
    class Cached(Watch):
        def told(self):
            return Spent(usage=USAGE, cost=None, cached=True)

    with allocator.session("x", budget=2.0) as session:
        call = begun()
        await drive(call, answering(call, Cached))
        assert session.budget.left() == pytest.approx(2.0)


async def test_a_budget_that_cannot_be_written_costs_no_answer(allocator, drive):
    class Broken(MemoryBudget):
        def book(self, key, held, spent):
            raise StorageError("disk full")

    with allocator.session("x", budget=Broken(2.0)) as session:
        with pytest.warns(OutcomeDroppedWarning, match="'planner' was not booked: StorageError: disk full"):
            assert (await drive(begun())).answer == "yes"
        # What it took is known all the same, and the end of the run tries to tell the budget once more.
        with pytest.warns(OutcomeDroppedWarning, match="has cost was not booked: StorageError"):
            assert session.finish().cost == 0.5


# --- failover ---


async def test_the_session_decides_about_every_attempt(allocator, drive, answering):
    with allocator.session("x", budget=0.62, fixed={"solver": "small"}) as session:
        call = begun()
        answered = await drive(call, answering(call, Watch, large=ConnectionError()))
        # $0.12 are left after what may have been billed.
        assert answered.model == "middle"
        assert session.budget.left() == pytest.approx(0.02)
    assert [one.model for one in answered.attempts] == ["large", "middle"]


async def test_after_an_overflow_only_a_larger_window_will_do(allocator, drive):
    pool = ModelPool(
        [ModelCard(id=name, context_window=window) for name, window in (("small", 10), ("middle", 99), ("large", 50))]
    )
    with allocator.session("x") as session:
        call = begun(decider(pool))
        assert (await drive(call, large=ContextOverflowError())).model == "middle"
        assert session.models["planner"] == "middle"
    with allocator.session("x", fixed={"planner": "middle"}):
        call = begun(decider(pool))
        with pytest.raises(ContextOverflowError) as caught:
            await drive(call, middle=ContextOverflowError())
    assert "no other model was asked: " in caught.value.__notes__[0]


async def test_failover_keeps_to_the_callers_list_and_to_the_forced(allocator, drive):
    down = {"large": ConnectionError(), "middle": ConnectionError(), "small": ConnectionError()}
    for failover, tried in ((True, ["large", "middle", "small"]), (["small"], ["large", "small"]), (False, ["large"])):
        seen = []

        def note(model, seen=seen):
            def fail():
                seen.append(model)
                return down[model]

            return fail

        with allocator.session("x"), pytest.raises((ConnectionError, AllModelsFailedError)):
            await drive(begun(failover=failover), **{model: note(model) for model in down})
        assert seen == tried
    with allocator.session("x"), pytest.raises(ConnectionError):
        await drive(begun(forced="middle"), **down)


async def test_without_a_session_nothing_changes(drive):
    call = begun()
    assert (await drive(call)).model == "small"
    assert call.bookings == {}
    assert call.decided.part is None


def test_a_flow_that_is_closed_gives_back_what_no_call_took(allocator):
    with allocator.session("x", budget=2.0) as session:
        flow = begun().flow()
        assert isinstance(next(flow), Call)
        assert session.budget.left() == pytest.approx(1.5)
        flow.close()
        assert session.budget.left() == pytest.approx(2.0)


def test_no_candidate_at_all_is_told_with_the_reasons(allocator):
    pool = ModelPool([ModelCard(id=name, capabilities=()) for name in NAMES])
    with allocator.session("x"), pytest.raises(NoEligibleModelError):
        decider(pool).begin(Asked(turns=TURNS, needs=frozenset({"tools"})))


@pytest.mark.parametrize("budget", [1.0, None])
def test_a_role_that_the_team_does_not_have_gets_past_no_session(allocator, budget):
    with allocator.session("x", budget=budget), pytest.raises(ConfigError, match=r"'boss' is none of the team's \('"):
        decider().begin(Asked(turns=TURNS, role="boss")).decide()
