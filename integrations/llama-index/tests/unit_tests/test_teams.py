"""Teams of agents in LlamaIndex: each role its model, under one budget, told per role."""

import asyncio
import threading

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.prompts import PromptTemplate
from llama_index.core.workflow import Context, Event, StartEvent, StopEvent, Workflow, step
from pydantic import BaseModel

from agentroute.errors import BudgetError, ConfigError, UnknownModelError
from agentroute.teams import NONE, Mode, Role, RoleAllocator, Team, current_session
from agentroute.types import ModelCard, Price, Score, Usage
from llama_index.llms.agentroute import CascadeLLM, RoutedLLM, UsageLedger
from llama_index.llms.agentroute.allocation import use_allocation
from llama_index.llms.agentroute.testing import ScriptedLLM

# LlamaIndex's agents look through their own attributes, pydantic's old ones among them.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")

ROLES = ("planner", "solver", "critic")
TEAM = Team(roles=[Role(name=name, input_tokens=10, output_tokens=5) for name in ROLES], modes=[Mode(name="alone")])
# 10 tokens in and 5 out: $0.002, $0.02 and $0.2 a call.
PRICES = {"small": Price(input=100, output=200), "middle": Price(input=1e3, output=2e3), "large": Price(input=1e4, output=2e4)}
SCORES = {"small": 0.3, "middle": 0.6, "large": 0.9}
COST = {"small": 0.002, "middle": 0.02, "large": 0.2}
CARDS = [ModelCard(id=name, price=price, scores={"MMLU": SCORES[name]}) for name, price in PRICES.items()]
CALL = Usage(input_tokens=10, output_tokens=5)


def scripted(**kwargs):
    return {name: ScriptedLLM(model=name, **kwargs) for name in PRICES}


@pytest.fixture
def allocator():
    return RoleAllocator(TEAM, CARDS)


class Planned(Event):
    """The planner has spoken."""

    plan: str


class Solved(Event):
    """The solver has spoken."""

    answer: str


class Crew(Workflow):
    """A planner, a solver and a critic, one after the other."""

    def __init__(self, llm, **kwargs):
        super().__init__(**kwargs)
        self.llms = {role: llm.for_role(role) for role in ROLES}

    async def ask(self, role, text):
        return str((await self.llms[role].achat([ChatMessage(f"{role}: {text}")])).message.content)

    @step
    async def plan(self, ev: StartEvent) -> Planned:
        return Planned(plan=await self.ask("planner", ev.task))

    @step
    async def solve(self, ev: Planned) -> Solved:
        return Solved(answer=await self.ask("solver", ev.plan))

    @step
    async def check(self, ev: Solved) -> StopEvent:
        return StopEvent(result=await self.ask("critic", ev.answer))


# --- one run ---


async def test_a_workflows_roles_get_their_models_and_the_run_tells_what_they_took(allocator):
    llms = scripted()
    crew = Crew(RoutedLLM(llms=llms))
    with allocator.session("2 + 2", fixed={"planner": "large", "solver": "middle", "critic": "small"}) as session:
        answer = await crew.run(task="2 + 2")
        told = session.finish(success=1.0)
    assert answer.startswith("[small]")
    assert [len(llm.calls) for llm in llms.values()] == [1, 1, 1]
    assert told.models == {"planner": "large", "solver": "middle", "critic": "small"}
    for role, model in told.models.items():
        part = told.roles[role]
        assert part.usage == CALL
        assert part.cost == pytest.approx(COST[model])
        assert (part.calls, part.error, part.models) == (1, None, ())
    assert told.cost == pytest.approx(0.222)
    assert allocator.runs[0].id == told.id


async def test_the_record_says_that_the_session_decided(allocator):
    llm = RoutedLLM(llms=scripted())
    planner = llm.for_role("planner")
    with allocator.session("x"):
        record = (await planner.achat([ChatMessage("hi")])).additional_kwargs["agentroute"]
        assert (record["by"], record["model"], record["answered_by"]) == ("allocated", "large", "large")
        assert llm.chat([ChatMessage("hi")]).additional_kwargs["agentroute"]["by"] == "default"
    assert planner.chat([ChatMessage("hi")]).additional_kwargs["agentroute"]["by"] == "default"
    assert allocator.runs[0].roles["planner"].calls == 1


class Sum(BaseModel):
    """A sum."""

    total: int


def doors(llm):
    """Each of the doors of an LLM, used once."""
    message = [ChatMessage("hi")]
    prompt = PromptTemplate("add 1")
    return [
        lambda: llm.chat(message),
        lambda: llm.complete("hi"),
        lambda: llm.predict(prompt),
        lambda: llm.structured_predict(Sum, prompt),
        lambda: list(llm.stream_chat(message)),
        lambda: list(llm.stream_complete("hi")),
        lambda: list(llm.stream(prompt)),
        lambda: list(llm.stream_structured_predict(Sum, prompt)),
    ]


@pytest.mark.parametrize("number", range(8))
def test_every_door_is_booked_once_with_what_its_model_told(allocator, number):
    llm = RoutedLLM(llms=scripted(), role="planner")
    with allocator.session("x", budget=1.0) as session:
        doors(llm)[number]()
        assert session.budget.left() == pytest.approx(0.8)
        told = session.finish()
    assert told.roles["planner"].calls == 1
    assert told.roles["planner"].usage == CALL
    assert told.cost == pytest.approx(0.2)


def adoors(llm):
    message = [ChatMessage("hi")]
    prompt = PromptTemplate("add 1")

    async def streamed(stream):
        return [item async for item in await stream]

    return [
        lambda: llm.achat(message),
        lambda: llm.acomplete("hi"),
        lambda: llm.apredict(prompt),
        lambda: llm.astructured_predict(Sum, prompt),
        lambda: streamed(llm.astream_chat(message)),
        lambda: streamed(llm.astream_complete("hi")),
        lambda: streamed(llm.astream(prompt)),
        lambda: streamed(llm.astream_structured_predict(Sum, prompt)),
    ]


@pytest.mark.parametrize("number", range(8))
async def test_every_asynchronous_door_is_booked_once_too(allocator, number):
    llm = RoutedLLM(llms=scripted(), role="planner")
    with allocator.session("x", budget=1.0) as session:
        await adoors(llm)[number]()
        assert session.budget.left() == pytest.approx(0.8)
        told = session.finish()
    assert told.roles["planner"].calls == 1
    assert told.roles["planner"].usage == CALL


# --- money ---


async def test_a_role_that_takes_more_downgrades_the_others_in_mid_run(allocator):
    llms = scripted()
    llms["large"].output_tokens = 20  # $0.5 in place of $0.2
    with allocator.session("2 + 2", budget=0.7) as session:
        assert set(session.models.values()) == {"large"}
        with pytest.warns(UserWarning, match="may be exceeded"):
            await Crew(RoutedLLM(llms=llms)).run(task="2 + 2")
        told = session.finish()
    assert told.models == {"planner": "large", "solver": "middle", "critic": "middle"}
    assert told.cost == pytest.approx(0.54)


def test_the_most_that_a_call_can_cost_is_set_aside_and_the_rest_given_back(allocator):
    cards = [ModelCard(id=name, max_output_tokens=50) for name in PRICES]
    llms = scripted()
    llm = RoutedLLM(llms=llms, role="planner", cards=cards)
    held = []
    for one in llms.values():
        one.replies = [lambda _: held.append(session.budget.left()) or "ok"]
    with allocator.session("x", budget=0.5) as session:
        # Of the large one 50 tokens cost $1 alone: more than there is.
        llm.chat([ChatMessage("hi")])
        told = session.finish()
    assert told.models["planner"] == "middle"
    assert 0.1 < 0.5 - held[0] < 0.15
    assert session.budget.left() == pytest.approx(0.48)


def test_a_limit_of_the_caller_lowers_what_is_set_aside(allocator):
    llm = RoutedLLM(llms=scripted(), role="planner")
    asked = [ChatMessage("What is it that is asked about in some twenty tokens, more or less?")]
    for limit, model in ((50, "middle"), (5, "large")):
        with allocator.session("x", budget=1.0, fixed={"solver": "small", "critic": "small"}) as session:
            assert llm.chat(asked, max_tokens=limit).additional_kwargs["agentroute"]["model"] == model
            assert session.finish().cost == pytest.approx(COST[model])


async def test_when_nothing_fits_the_call_is_refused_and_the_run_records_why(allocator):
    async def work():
        with allocator.session("x", budget=0.0062):
            await Crew(RoutedLLM(llms=scripted(output_tokens=15))).run(task="2 + 2")

    with pytest.warns(UserWarning, match="may be exceeded"), pytest.raises(BudgetError, match="role '"):
        await work()
    [told] = allocator.runs
    assert told.metadata["error"] == "BudgetError"
    assert "planner" in told.roles


# --- failures ---


async def test_a_model_that_fails_is_decided_anew_in_the_same_call_and_not_asked_again(allocator):
    llms = scripted()
    llms["large"].replies = [ConnectionError("down")] * 9
    crew = Crew(RoutedLLM(llms=llms))
    with allocator.session("2 + 2", fixed={"critic": "small"}) as session:
        await crew.run(task="2 + 2")
        await crew.run(task="2 + 2")
        told = session.finish(success=1.0)
    assert len(llms["large"].calls) == 2
    assert told.models == {"planner": "large", "solver": "large", "critic": "small"}  # who failed, and not who took over
    assert (told.roles["planner"].calls, told.roles["planner"].error) == (3, "ConnectionError")
    assert told.propensity is None


def test_a_stream_that_breaks_on_its_way_is_a_failure_of_its_model(allocator):
    llms = scripted()
    llms["large"].break_after = 2
    llm = RoutedLLM(llms=llms, role="planner")
    with allocator.session("x", budget=1.0) as session:
        with pytest.raises(ConnectionError):
            list(llm.stream_chat([ChatMessage("a question of several words")]))
        assert session.budget.left() == pytest.approx(0.8)
        assert llm.chat([ChatMessage("hi")]).additional_kwargs["agentroute"]["answered_by"] == "middle"
        told = session.finish()
    assert told.roles["planner"].error == "ConnectionError"


def test_a_stream_whose_reader_leaves_counts_as_all_that_was_set_aside(allocator):
    llm = RoutedLLM(llms=scripted(input_tokens=None), role="planner")
    with allocator.session("x", budget=1.0) as session:
        stream = llm.stream_chat([ChatMessage("a question of several words")])
        next(stream)
        stream.close()
        told = session.finish()
    assert told.roles["planner"].error is None
    assert told.roles["planner"].cost is None
    assert session.budget.left() == pytest.approx(0.8)


# --- many at once ---


async def test_two_sessions_at_once_do_not_mix(allocator):
    crew = Crew(RoutedLLM(llms=scripted(delay=0.01)))

    async def one(model):
        with allocator.session(model, fixed=dict.fromkeys(ROLES, model)) as session:
            await crew.run(task=model)
            return session.finish()

    wanted = ["small", "middle", "large"] * 4
    for model, told in zip(wanted, await asyncio.gather(*map(one, wanted)), strict=True):
        assert told.query.text == model
        assert told.models == dict.fromkeys(ROLES, model)
        assert told.cost == pytest.approx(3 * COST[model])


async def test_only_the_start_of_a_run_has_to_be_within(allocator):
    crew, ledger = Crew(RoutedLLM(llms=scripted())), UsageLedger()
    sessions, handlers, listeners = [], [], get_dispatcher().event_handlers
    listeners.append(ledger)
    for model in ("small", "large"):
        session = allocator.session(model, fixed=dict.fromkeys(ROLES, model))
        with use_allocation(session, run=model):
            handlers.append(crew.run(task=model))
            assert current_session() is session
        sessions.append(session)
    assert current_session() is None
    await asyncio.gather(*handlers)
    listeners.remove(ledger)
    for model, session in zip(("small", "large"), sessions, strict=True):
        told = session.finish(success=1.0)
        assert told.models == dict.fromkeys(ROLES, model)
        assert told.cost == pytest.approx(3 * COST[model])
        assert [(row.role, row.model) for row in ledger.rows() if row.run == model] == [(role, model) for role in ROLES]


class Branch(Event):
    """One of several that are worked on at once."""

    number: int


class Many(Workflow):
    """Eight solvers at once."""

    def __init__(self, llm, **kwargs):
        super().__init__(**kwargs)
        self.solver = llm.for_role("solver")

    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Branch | None:
        for number in range(8):
            ctx.send_event(Branch(number=number))
        return None

    @step(num_workers=8)
    async def work(self, ev: Branch) -> Solved:
        answer = await self.solver.achat([ChatMessage("hi")])
        return Solved(answer=answer.additional_kwargs["agentroute"]["answered_by"])

    @step
    async def join(self, ctx: Context, ev: Solved) -> StopEvent | None:
        found = ctx.collect_events(ev, [Solved] * 8)
        return None if found is None else StopEvent(result=[one.answer for one in found])


async def test_steps_that_run_at_once_spend_from_one_budget(allocator):
    crew = Many(RoutedLLM(llms=scripted(delay=0.02)))
    with allocator.session("x", budget=0.6, fixed={"planner": "small", "critic": "small"}) as session:
        answers = await crew.run()
        told = session.finish()
    assert len(answers) == told.roles["solver"].calls == 8
    assert told.cost <= 0.6
    assert set(answers) > {"large"}


def test_a_thread_of_ones_own_is_given_the_session(allocator):
    planner, found = RoutedLLM(llms=scripted(), role="planner"), []

    def work(session):
        found.append(planner.chat([ChatMessage("hi")]).additional_kwargs["agentroute"]["by"])
        with use_allocation(session):
            found.append(planner.chat([ChatMessage("hi")]).additional_kwargs["agentroute"]["by"])

    with allocator.session("x") as session:
        thread = threading.Thread(target=work, args=(session,))
        thread.start()
        thread.join()
        assert session.finish().roles["planner"].calls == 1
    assert found == ["default", "allocated"]


# --- agents ---


async def test_an_agents_calls_and_those_of_an_agent_in_a_tool_are_roles_of_one_run(allocator):
    llm = RoutedLLM(llms=scripted())
    inner = FunctionAgent(name="solver", llm=llm.for_role("solver"))

    async def ask(question: str) -> str:
        """Asks the solver."""
        return str(await inner.run(question))

    outer = FunctionAgent(name="planner", llm=llm.for_role("planner"), tools=[ask])
    with allocator.session("x", fixed={"planner": "large", "solver": "small"}) as session:
        await outer.run("ask 'what is it?'")
        told = session.finish()
    assert told.roles["planner"].calls == 2
    assert told.roles["solver"].calls == 1
    assert told.roles["planner"].usage == Usage(input_tokens=20, output_tokens=10)
    assert told.cost == pytest.approx(0.402)


async def test_agents_that_hand_off_are_roles_of_one_run(allocator):
    llm = RoutedLLM(llms=scripted())
    agents = [
        FunctionAgent(name="planner", description="first", llm=llm.for_role("planner"), can_handoff_to=["solver"]),
        FunctionAgent(name="solver", description="second", llm=llm.for_role("solver"), can_handoff_to=[]),
    ]
    with allocator.session("x", budget=1.0, fixed={"critic": "small"}) as session:
        await AgentWorkflow(agents=agents, root_agent="planner").run(user_msg="to 'solver' because 'so'")
        told = session.finish()
    assert {"planner", "solver"} == set(told.roles)
    assert told.cost <= 1.0


# --- what the caller insists on ---


def test_a_mapping_comes_before_the_session_which_pays_all_the_same(allocator):
    llm = RoutedLLM(llms=scripted(), role="planner")
    for inner in (True, False):
        with allocator.session("x", budget=1.0) as session:
            first, second = (session, {"planner": "small"}) if inner else ({"planner": "small"}, session)
            with use_allocation(first), use_allocation(second):
                record = llm.chat([ChatMessage("hi")]).additional_kwargs["agentroute"]
            told = session.finish()
        assert (record["by"], record["model"]) == ("allocated", "small")
        assert told.models["planner"] == "small"
        assert told.cost == pytest.approx(0.002)


def test_a_forced_model_is_asked_and_paid_for(allocator):
    llm = RoutedLLM(llms=scripted(), role="planner")
    with allocator.session("x", budget=1.0) as session:
        assert llm.chat([ChatMessage("hi")], agentroute_model="middle").additional_kwargs["agentroute"]["by"] == "forced"
        told = session.finish()
    assert told.models["planner"] == "middle"
    assert told.cost == pytest.approx(0.02)


def test_a_session_of_other_models_is_a_mistake(allocator):
    llm = RoutedLLM(llms={"other": ScriptedLLM(model="other")}, role="planner")
    with allocator.session("x"), pytest.raises(UnknownModelError, match="models="):
        llm.chat([ChatMessage("hi")])


def test_a_role_that_was_left_out_says_so():
    team = Team(roles=[Role(name="solver"), Role(name="critic", optional=True)])
    llm = RoutedLLM(llms=scripted(), role="critic")
    with RoleAllocator(team, CARDS).session("x", fixed={"critic": NONE}), pytest.raises(ConfigError, match="left out"):
        llm.chat([ChatMessage("hi")])


# --- cascades as a role's model ---


def judge(query, reply):
    return Score(value=float("small" not in reply.text), cost=0.001)


async def test_a_cascade_begins_with_what_the_role_was_given_and_all_attempts_are_booked(allocator):
    llm = CascadeLLM(llms=scripted(), judge=judge, role="solver")
    with allocator.session("x", budget=1.0, fixed=dict.fromkeys(ROLES, "small")) as session:
        record = (await llm.achat([ChatMessage("hi")])).additional_kwargs["agentroute"]
        told = session.finish()
    assert record["by"] == "allocated"
    assert [one["model"] for one in record["attempts"]] == ["small", "middle"]
    assert told.models["solver"] == "small"
    assert told.roles["solver"].models == ("small", "middle")
    assert told.roles["solver"].usage == Usage(input_tokens=20, output_tokens=10)
    with allocator.session("x", fixed=dict.fromkeys(ROLES, "middle")):
        record = llm.chat([ChatMessage("hi")]).additional_kwargs["agentroute"]
    assert [one["model"] for one in record["attempts"]] == ["middle"]


def test_a_cascade_climbs_no_higher_than_the_money_goes(allocator):
    llm = CascadeLLM(llms=scripted(), judge=judge, role="solver")
    with allocator.session("x", budget=0.015, fixed=dict.fromkeys(ROLES, "small")) as session:
        record = llm.chat([ChatMessage("hi")]).additional_kwargs["agentroute"]
        told = session.finish()
    assert record["answered_by"] == "small"
    assert len(record["attempts"]) == 1
    assert told.cost == pytest.approx(0.002)


def test_a_cascade_streams_and_is_settled(allocator):
    llm = CascadeLLM(llms=scripted(replies=["small talk"]), judge=judge, role="solver")
    with allocator.session("x", budget=1.0, fixed=dict.fromkeys(ROLES, "small")) as session:
        assert "".join(chunk.delta or "" for chunk in llm.stream_chat([ChatMessage("hi")])) == "small talk"
        told = session.finish()
    assert told.roles["solver"].calls == 3
    assert told.cost == pytest.approx(0.222)
    assert session.budget.left() == pytest.approx(1.0 - 0.222)
