"""Within a team's session: routed models of no role are paid by the run, and routed models within routed models only once."""

import pytest
from langchain_core.messages import HumanMessage

from agentroute.errors import BudgetError
from agentroute.teams import Mode, Role, RoleAllocator, Team
from agentroute.types import ModelCard, Price
from langchain_agentroute import CascadeChatModel, RoutedChatModel, routing_decision
from langchain_agentroute.testing import ScriptedChatModel

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

WAYS = ["invoke", "ainvoke", "stream", "astream", "v3", "av3"]
COST = {"small": 0.002, "middle": 0.02, "large": 0.2}
"""USD of a call of 10 tokens in and 5 out."""
CARDS = [
    ModelCard(id=name, price=Price(input=usd * 5e4, output=usd * 1e5), max_output_tokens=5, scores={"MMLU": usd})
    for name, usd in COST.items()
]
TEAM = Team(
    roles=[Role(name=name, input_tokens=10, output_tokens=5) for name in ("planner", "solver")], modes=[Mode(name="alone")]
)
ALL_SMALL = dict.fromkeys(("planner", "solver"), "small")


@pytest.fixture
def chats():
    return {name: ScriptedChatModel(model_name=name) for name in COST}


@pytest.fixture
def allocator():
    return RoleAllocator(TEAM, CARDS)


@pytest.mark.parametrize("way", WAYS)
async def test_a_model_of_no_role_is_paid_by_the_run(way, collect, chats, allocator):
    model = RoutedChatModel(models=chats, default="middle")
    with allocator.session("x", budget=1.0) as session:
        await collect(way, model, "x")
        await collect(way, model.for_role("solver"), "x")
        run = session.finish()
    assert run.cost == pytest.approx(0.22)
    assert set(run.roles) == {"solver"}
    assert session.budget.spent() == pytest.approx(0.22)


@pytest.mark.parametrize("way", WAYS)
async def test_it_asks_whom_the_budget_can_pay(way, collect, chats, allocator):
    model = RoutedChatModel(models=chats, default="large")
    with allocator.session("x", budget=0.1, fixed=ALL_SMALL) as session:
        message = await collect(way, model, "x")
        assert routing_decision(message)["answered_by"] == "small"
        with pytest.raises(BudgetError):
            await collect(way, model, "word " * 20_000)
    assert session.budget.spent() == pytest.approx(0.002)
    assert [len(chat.asked) for chat in chats.values()] == [1, 0, 0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [RoutedChatModel, CascadeChatModel])
@pytest.mark.parametrize("role", [None, "planner", "solver"])
async def test_a_routed_candidate_is_booked_once(way, kind, role, collect, chats, allocator):
    within = RoutedChatModel(models=chats, default="small", role=role, cards=CARDS)
    model = kind(models={"small": within, "large": chats["large"]}, role="planner", cards=[CARDS[0], CARDS[2]])
    with allocator.session("x", budget=1.0, fixed=ALL_SMALL) as session:
        await collect(way, model, "x")
        run = session.finish()
    assert len(chats["small"].asked) == 1
    assert run.cost == pytest.approx(0.002)
    assert {name: part.calls for name, part in run.roles.items()} == {"planner": 1}
    assert session.budget.spent() == pytest.approx(0.002)


@pytest.mark.parametrize("way", WAYS)
async def test_around_a_model_with_a_role_one_without_books_nothing(way, collect, chats, allocator):
    within = RoutedChatModel(models=chats, role="solver", cards=CARDS)
    model = RoutedChatModel(models={"small": within})
    with allocator.session("x", budget=1.0, fixed=ALL_SMALL) as session:
        await collect(way, model, "x")
        run = session.finish()
    assert run.cost == pytest.approx(0.002)
    assert {name: part.calls for name, part in run.roles.items()} == {"solver": 1}


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_stream_that_is_left_early_is_booked_for_all_that_was_set_aside(way, chats, allocator):
    model = RoutedChatModel(models=chats, default="small", cards=CARDS)
    with allocator.session("x", budget=1.0) as session:
        if way == "stream":
            items = model.stream("x")
            next(items)
            items.close()
        else:
            items = model.astream("x")
            await anext(items)
            await items.aclose()
        held = 1.0 - session.budget.left()
        run = session.finish()
    assert session.budget.spent() == pytest.approx(held)
    assert held >= 0.002
    assert run.cost is None


@pytest.mark.parametrize("role", [None, "planner"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", [RoutedChatModel, CascadeChatModel])
async def test_somebody_who_has_opened_a_model_run_is_paid_for_too(kind, nested, role, chats, allocator):
    small = RoutedChatModel(models={"small": chats["small"]}, role=role) if nested else chats["small"]
    model = kind(models={"small": small}, role=role, cards=[CARDS[0]])
    asked = [HumanMessage("x")]
    with allocator.session("x", budget=1.0, fixed=ALL_SMALL) as session:
        model._generate(asked)
        await model._agenerate(asked)
        list(model._stream(asked))
        [chunk async for chunk in model._astream(asked)]
        run = session.finish()
    assert len(chats["small"].asked) == 4
    assert run.cost == pytest.approx(0.008)
    assert {name: part.calls for name, part in run.roles.items()} == ({} if role is None else {"planner": 4})
    with allocator.session("x", budget=0.005, fixed=ALL_SMALL), pytest.raises(BudgetError):
        model._generate([HumanMessage("word " * 20_000)])
