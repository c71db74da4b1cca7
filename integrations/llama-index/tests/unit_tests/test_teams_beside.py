"""Within a team's session: routed LLMs of no role are paid by the run, and routed LLMs within routed LLMs only once."""

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import FunctionTool

from agentroute.errors import BudgetError
from agentroute.teams import NONE, Mode, Role, RoleAllocator, Team, Trial
from agentroute.types import ModelCard, Price
from llama_index.llms.agentroute import CascadeLLM, RoutedLLM
from llama_index.llms.agentroute.allocation import allocated, use_allocation
from llama_index.llms.agentroute.testing import ScriptedLLM

# LlamaIndex's streams of objects are written by pydantic's old methods.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")

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
ASK = "Pair 3 and 'four'?"


@pytest.fixture
def llms():
    return {name: ScriptedLLM(model=name) for name in COST}


@pytest.fixture
def allocator():
    return RoleAllocator(TEAM, CARDS)


async def test_an_llm_of_no_role_is_paid_by_the_run(door, llms, allocator):
    with allocator.session("x", budget=30.0, fixed=ALL_SMALL) as session:
        await door(RoutedLLM(llms=llms, default="middle"), ASK)
        told = len(llms["middle"].calls)
        run = session.finish()
    assert told > 0
    assert run.roles == {}
    if run.cost is not None:
        assert run.cost == pytest.approx(0.02 * told)
        assert session.budget.spent() == pytest.approx(run.cost)


async def test_it_asks_whom_the_budget_can_pay(recording_door, llms, allocator):
    llm = RoutedLLM(llms=llms, default="large", cards=CARDS)
    with allocator.session("x", budget=0.25, fixed=ALL_SMALL) as session:
        answer = await recording_door(llm, ASK)
        assert recording_door.record(answer)["answered_by"] in {"small", "middle"}
        with pytest.raises(BudgetError):
            await recording_door(llm, "word " * 20_000)
        assert session.budget.spent() <= 0.25
    assert llms["large"].calls == []


@pytest.mark.parametrize("kind", [RoutedLLM, CascadeLLM])
@pytest.mark.parametrize("role", [None, "planner", "solver"])
async def test_a_routed_candidate_is_booked_once(door, kind, role, llms, allocator):
    within = RoutedLLM(llms=llms, default="small", role=role, cards=CARDS)
    llm = kind(llms={"small": within}, role="planner", cards=[CARDS[0]])
    with allocator.session("x", budget=1.0, fixed=ALL_SMALL) as session:
        await door(llm, ASK)
        run = session.finish()
    assert {name: part.calls for name, part in run.roles.items()} == {"planner": 1}
    assert run.cost == pytest.approx(0.002 * len(llms["small"].calls))
    assert session.budget.spent() == pytest.approx(run.cost)


async def test_around_an_llm_with_a_role_one_without_books_nothing(door, llms, allocator):
    within = RoutedLLM(llms=llms, role="solver", cards=CARDS)
    with allocator.session("x", budget=1.0, fixed=ALL_SMALL) as session:
        await door(RoutedLLM(llms={"small": within}), ASK)
        run = session.finish()
    assert {name: part.calls for name, part in run.roles.items()} == {"solver": 1}
    assert run.cost == pytest.approx(0.002 * len(llms["small"].calls))


def test_what_a_tool_asks_within_a_call_is_booked_for_its_own_role(llms, allocator):
    llm = RoutedLLM(llms={"small": RoutedLLM(llms=llms, default="small", cards=CARDS)}, cards=[CARDS[0]])
    solver = RoutedLLM(llms=llms, role="solver", cards=CARDS)

    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        solver.chat([ChatMessage("hard")])
        return a + b

    with allocator.session("x", budget=1.0, fixed=ALL_SMALL) as session:
        llm.for_role("planner").predict_and_call([FunctionTool.from_defaults(add)], "3 and 4?")
        run = session.finish()
    assert set(run.roles) == {"planner", "solver"}
    assert session.budget.spent() == pytest.approx(0.002 * len(llms["small"].calls))


def test_a_trial_is_an_allocation():
    trial = Trial(models={"planner": "large", "critic": NONE}, mode="alone", propensity=0.25)
    with use_allocation(trial):
        assert (allocated("planner"), allocated("critic")) == ("large", None)


def test_a_session_of_a_trial_is_found_in_a_workflow(llms, allocator):
    trial = Trial(models={"planner": "middle", "solver": "small"}, mode="alone", propensity=1 / 9)
    session = allocator.session("x", allocation=trial)
    with use_allocation(session):
        for role in ("planner", "solver"):
            RoutedLLM(llms=llms, role=role).chat([ChatMessage("x")])
    run = session.finish(success=1.0)
    assert (run.models, run.propensity) == (trial.models, pytest.approx(1 / 9))
    assert [len(llm.calls) for llm in llms.values()] == [1, 1, 0]
