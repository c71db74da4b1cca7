"""Teams of agents in LangChain and LangGraph: each role its model, under one budget, told per role."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from agentroute.errors import AllModelsFailedError, BudgetError, ConfigError, UnknownModelError
from agentroute.outcomes import MemoryOutcomeLog
from agentroute.teams import NONE, MemoryBudget, Mode, Role, RoleAllocator, Team, current_session
from agentroute.types import ModelCard, Price, Score, Usage
from langchain_agentroute import CascadeChatModel, CascadeMiddleware, RoutedChatModel, RoutingMiddleware, routing_decision
from langchain_agentroute.testing import ScriptedChatModel

ROLES = ("planner", "solver", "critic")
TEAM = Team(roles=[Role(name=name, input_tokens=10, output_tokens=5) for name in ROLES], modes=[Mode(name="alone")])
# 10 tokens in and 5 out: $0.002, $0.02 and $0.2 a call.
PRICES = {"small": Price(input=100, output=200), "middle": Price(input=1e3, output=2e3), "large": Price(input=1e4, output=2e4)}
SCORES = {"small": 0.3, "middle": 0.6, "large": 0.9}
COST = {"small": 0.002, "middle": 0.02, "large": 0.2}
CARDS = [ModelCard(id=name, price=price, scores={"MMLU": SCORES[name]}) for name, price in PRICES.items()]
BOTH = pytest.mark.parametrize("way", ["sync", "async"])


@pytest.fixture
def chats():
    return {name: ScriptedChatModel(model_name=name) for name in PRICES}


@pytest.fixture
def routed(chats):
    return RoutedChatModel(models=chats)


@pytest.fixture
def allocator():
    return RoleAllocator(TEAM, CARDS)


class State(TypedDict, total=False):
    task: str
    plan: str
    answer: str
    verdict: str


def graph_of(models, *, asynchronous=False):
    """A planner, a solver and a critic, one after the other; `models` = role → chat model."""

    def node(role, reads, writes):
        def run(state):
            return {writes: models[role].invoke(f"{role}: {state[reads]}").text}

        async def arun(state):
            return {writes: (await models[role].ainvoke(f"{role}: {state[reads]}")).text}

        return arun if asynchronous else run

    graph = StateGraph(State)
    steps = [("planner", "task", "plan"), ("solver", "plan", "answer"), ("critic", "answer", "verdict")]
    for role, reads, writes in steps:
        graph.add_node(role, node(role, reads, writes))
    graph.add_edge(START, "planner")
    graph.add_edge("planner", "solver")
    graph.add_edge("solver", "critic")
    graph.add_edge("critic", END)
    return graph.compile()


def by_role(routed):
    return {role: routed.for_role(role) for role in ROLES}


async def run(graph, way, task="2 + 2"):
    return await graph.ainvoke({"task": task}) if way == "async" else graph.invoke({"task": task})


# --- one run ---


@BOTH
async def test_a_graphs_roles_get_their_models_and_the_run_tells_what_they_took(way, routed, chats, allocator):
    graph = graph_of(by_role(routed), asynchronous=way == "async")
    with allocator.session("2 + 2", fixed={"planner": "large", "solver": "middle", "critic": "small"}) as session:
        state = await run(graph, way)
        told = session.finish(success=1.0)
    assert state["verdict"].startswith("[small]")
    assert [len(chat.asked) for chat in chats.values()] == [1, 1, 1]
    assert told.models == {"planner": "large", "solver": "middle", "critic": "small"}
    for role, model in told.models.items():
        part = told.roles[role]
        assert part.usage == Usage(input_tokens=10, output_tokens=5)
        assert part.cost == pytest.approx(COST[model])
        assert (part.calls, part.error, part.models) == (1, None, ())
        assert part.latency >= 0.0
    assert told.cost == pytest.approx(0.222)
    assert allocator.runs[0].id == told.id


@BOTH
async def test_the_record_says_that_the_session_decided(way, routed, allocator):
    model = routed.for_role("planner")
    with allocator.session("x"):
        answer = await model.ainvoke("hi") if way == "async" else model.invoke("hi")
    record = routing_decision(answer)
    assert (record["by"], record["model"], record["answered_by"]) == ("allocated", "large", "large")
    assert record["reason"] == "large was allocated to planner"


def test_without_a_session_a_role_is_what_it_was(routed, allocator):
    planner = routed.for_role("planner")
    assert routing_decision(planner.invoke("hi"))["by"] == "default"
    with allocator.session("x"):
        assert routing_decision(routed.invoke("hi"))["by"] == "default"
        with pytest.raises(ConfigError, match="the role 'boss' is none of the team's"):
            routed.for_role("boss").invoke("hi")
    assert routing_decision(planner.invoke("hi"))["by"] == "default"
    assert allocator.runs[0].roles == {}


def test_plain_models_are_handed_out_by_role_without_a_session(routed, allocator):
    models = allocator.models("x", routed.models, fixed={"planner": "small"})
    assert models["planner"].model_name == "small"
    assert graph_of(models).invoke({"task": "2 + 2"})["plan"].startswith("[small]")


# --- money ---


@BOTH
async def test_a_role_that_takes_more_downgrades_the_others_in_mid_run(way, chats, allocator):
    chats["large"].output_tokens = 20  # $0.5 in place of $0.2
    graph = graph_of(by_role(RoutedChatModel(models=chats)), asynchronous=way == "async")
    with allocator.session("2 + 2", budget=0.7) as session:
        assert set(session.models.values()) == {"large"}
        with pytest.warns(UserWarning, match="may be exceeded"):
            await run(graph, way)
        told = session.finish()
    # $0.2 are left for two: a large one and none, or a middle one each.
    assert told.models == {"planner": "large", "solver": "middle", "critic": "middle"}
    assert told.cost == pytest.approx(0.54)
    assert session.budget.left() == pytest.approx(0.16)


@BOTH
@pytest.mark.parametrize("stream", [False, True])
async def test_the_most_that_a_call_can_cost_is_set_aside_and_the_rest_given_back(way, stream, chats, allocator):
    routed = RoutedChatModel(models={name: chat.bind(max_tokens=50) for name, chat in chats.items()}).for_role("planner")
    held = []

    def watch(messages):
        held.append(session.budget.left())
        return "ok"

    for chat in chats.values():
        chat.replies = [watch]
    with allocator.session("x", budget=0.5) as session:
        # Of the large one 50 tokens cost $1 alone: more than there is.
        if stream and way == "async":
            [_ async for _ in routed.astream("hi")]
        elif stream:
            list(routed.stream("hi"))
        elif way == "async":
            await routed.ainvoke("hi")
        else:
            routed.invoke("hi")
        told = session.finish()
    assert told.models["planner"] == "middle"
    assert 0.1 < 0.5 - held[0] < 0.15
    assert session.budget.left() == pytest.approx(0.48)
    assert told.roles["planner"].usage == Usage(input_tokens=10, output_tokens=5)


def test_a_limit_of_the_caller_lowers_what_is_set_aside(routed, allocator):
    planner, asked = routed.for_role("planner"), "What is it that is asked about in some twenty tokens, more or less?"
    for limit, model in ((50, "middle"), (5, "large")):
        with allocator.session("x", budget=1.0, fixed={"solver": "small", "critic": "small"}) as session:
            assert routing_decision(planner.invoke(asked, max_tokens=limit))["model"] == model
            assert session.finish().cost == pytest.approx(COST[model])


def test_when_nothing_fits_the_call_is_refused_and_the_run_records_why(routed, chats, allocator):
    graph = graph_of(by_role(routed))
    for chat in chats.values():
        chat.output_tokens = 15

    def work():
        with allocator.session("x", budget=0.0062):
            graph.invoke({"task": "2 + 2"})

    with pytest.warns(UserWarning, match="may be exceeded"), pytest.raises(BudgetError, match=r"role '(solver|critic)'"):
        work()
    [told] = allocator.runs
    assert told.metadata["error"] == "BudgetError"
    assert told.success is None
    assert "planner" in told.roles


def test_two_sessions_share_a_budget(routed, allocator):
    purse, graph = MemoryBudget(0.45), graph_of(by_role(routed))
    costs = []
    for _ in range(3):
        with allocator.session("x", budget=purse) as session:
            graph.invoke({"task": "2 + 2"})
            costs.append(session.finish().cost)
    assert sum(costs) <= 0.45 + 1e-9
    assert costs[0] > costs[-1]
    assert purse.left() == pytest.approx(0.45 - sum(costs))


# --- failures ---


@BOTH
async def test_a_model_that_fails_is_decided_anew_in_the_same_call_and_not_asked_again(way, chats, allocator):
    chats["large"].replies = [ConnectionError("down")] * 9
    graph = graph_of(by_role(RoutedChatModel(models=chats)), asynchronous=way == "async")
    with allocator.session("2 + 2", fixed={"critic": "small"}) as session:
        await run(graph, way)
        await run(graph, way)
        told = session.finish(success=1.0)
    assert len(chats["large"].asked) == 2  # once for the planner, once for the solver
    assert told.models == {"planner": "large", "solver": "large", "critic": "small"}  # who failed, and not who took over
    planner = told.roles["planner"]
    assert (planner.calls, planner.error) == (3, "ConnectionError")
    assert planner.cost is None  # nobody knows what the failed call was billed
    assert told.propensity is None


class Refused(Exception):
    status_code = 503


def test_a_request_that_was_turned_away_costs_nothing(chats, allocator):
    chats["large"].replies = [Refused()]
    with allocator.session("x", budget=1.0) as session:
        answer = RoutedChatModel(models=chats, role="planner").invoke("hi")
        told = session.finish()
    assert [one["model"] for one in routing_decision(answer)["attempts"]] == ["large", "middle"]
    assert told.roles["planner"].cost == pytest.approx(0.02)
    assert session.budget.left() == pytest.approx(0.98)


def test_failover_is_the_callers_to_allow(chats, allocator):
    chats["large"].replies = [ConnectionError("down")]
    model = RoutedChatModel(models=chats, role="planner", failover=False)
    with allocator.session("x"):
        with pytest.raises(ConnectionError):
            model.invoke("hi")
        assert routing_decision(model.invoke("hi"))["answered_by"] == "middle"
    chats["large"].replies = [*[None], ConnectionError("down")]
    model = RoutedChatModel(models=chats, role="planner", failover=["small"])
    with allocator.session("x"):
        assert routing_decision(model.invoke("hi"))["answered_by"] == "small"


def test_when_all_fail_all_errors_are_told(chats, allocator):
    for chat in chats.values():
        chat.replies = [ConnectionError("down")]
    with allocator.session("x") as session:
        with pytest.raises(AllModelsFailedError) as caught:
            RoutedChatModel(models=chats, role="planner").invoke("hi")
        told = session.finish()
    assert len(caught.value.exceptions) == 3
    assert "no other model was asked" in caught.value.__notes__[0]
    assert told.roles["planner"].calls == 3
    assert told.models["planner"] == "large"


def test_too_little_money_for_another_attempt_leaves_the_error_as_it_is(chats, allocator):
    for name in ("large", "middle"):
        chats[name].replies = [ConnectionError("down")]
    with allocator.session("x", budget=0.211, fixed={"solver": "small", "critic": "small"}) as session:
        assert session.models["planner"] == "large"
        # What the failed call cost is unknown, so all that was set aside is gone: $0.011 are left.
        answer = RoutedChatModel(models=chats, role="planner").invoke("hi")
    assert routing_decision(answer)["answered_by"] == "small"
    assert len(chats["middle"].asked) == 0


@BOTH
async def test_a_crash_in_an_agent_ends_the_run_with_what_it_took(way, routed, allocator):
    models = by_role(routed)

    class Crash(Exception):
        pass

    async def work():
        with allocator.session("x", budget=1.0):
            if way == "async":
                await models["planner"].ainvoke("hi")
            else:
                models["planner"].invoke("hi")
            raise Crash

    with pytest.raises(Crash):
        await work()
    assert allocator.runs[0].metadata["error"] == "Crash"
    assert allocator.runs[0].roles["planner"].cost == pytest.approx(0.2)


def test_a_mistake_of_the_caller_sets_nothing_aside_for_ever(chats, allocator):
    def broken(messages, model):
        raise ZeroDivisionError

    model = RoutedChatModel(models=chats, role="planner", prepare_messages=broken)
    with allocator.session("x", budget=1.0) as session:
        with pytest.raises(ZeroDivisionError):
            model.invoke("hi")
        assert session.budget.left() == pytest.approx(1.0)
        assert session.finish().roles == {}


# --- streams ---


@BOTH
async def test_a_stream_is_settled_at_its_end(way, routed, allocator):
    planner = routed.for_role("planner")
    with allocator.session("x", budget=1.0) as session:
        if way == "async":
            async for _ in planner.astream("hi"):
                assert session.budget.left() < 0.81
        else:
            for _ in planner.stream("hi"):
                assert session.budget.left() < 0.81
        assert session.budget.left() == pytest.approx(0.8)
        told = session.finish()
    assert told.roles["planner"].usage == Usage(input_tokens=10, output_tokens=5)


def test_a_stream_whose_reader_leaves_counts_as_all_that_was_set_aside(routed, allocator):
    with allocator.session("x", budget=1.0) as session:
        stream = routed.for_role("planner").stream("hi")
        next(stream)
        stream.close()
        told = session.finish()
    assert told.roles["planner"].error is None
    assert told.roles["planner"].cost is None
    assert session.budget.left() == pytest.approx(0.8)


async def test_a_call_that_is_cancelled_gives_nothing_back_and_condemns_no_model(chats, allocator):
    class Slow(ScriptedChatModel):
        async def _agenerate(self, *args, **kwargs):
            await asyncio.sleep(60)

    model = RoutedChatModel(models={**chats, "large": Slow(model_name="large")}, role="planner")
    with allocator.session("x", budget=1.0) as session:
        task = asyncio.create_task(model.ainvoke("hi"))
        await asyncio.sleep(0.05)
        assert session.budget.left() == pytest.approx(0.8)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert session.budget.left() == pytest.approx(0.8)
        assert session.model("planner") == "large"


# --- what the caller insists on ---


def test_a_forced_model_is_asked_and_paid_for(routed, allocator):
    with allocator.session("x", budget=1.0) as session:
        answer = routed.for_role("planner").invoke("hi", model="small")
        assert routing_decision(answer)["by"] == "forced"
        told = session.finish()
    assert told.models["planner"] == "small"
    assert told.cost == pytest.approx(0.002)


def test_needs_of_a_call_come_before_the_session(chats, allocator):
    cards = [ModelCard(id="large", capabilities=frozenset())]
    model = RoutedChatModel(models=chats, role="planner", cards=cards)

    @tool
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    with allocator.session("x"):
        assert routing_decision(model.bind_tools([add]).invoke("1 2"))["answered_by"] == "middle"
        assert routing_decision(model.invoke("hi"))["answered_by"] in {"large", "middle"}


def test_a_session_of_other_models_is_a_mistake(allocator):
    model = RoutedChatModel(models={"other": ScriptedChatModel(model_name="other")}, role="planner")
    with allocator.session("x"), pytest.raises(UnknownModelError, match="models="):
        model.invoke("hi")


def test_a_role_that_was_left_out_says_so(routed):
    team = Team(roles=[Role(name="solver"), Role(name="critic", optional=True)])
    with RoleAllocator(team, CARDS).session("x", fixed={"critic": NONE}) as session:
        assert not session.has("critic")
        with pytest.raises(ConfigError, match="left out"):
            routed.for_role("critic").invoke("hi")


def test_outcomes_are_logged_beside(chats, allocator):
    log = MemoryOutcomeLog()
    model = RoutedChatModel(models=chats, role="planner", outcome_log=log)
    with allocator.session("x"):
        model.invoke("hi")
    model.outcome_log.flush(5.0)
    [outcome] = log
    assert (outcome.model, outcome.query.role) == ("large", "planner")


# --- many at once ---


async def test_two_sessions_at_once_do_not_mix(chats, allocator):
    class Slow(ScriptedChatModel):
        async def _agenerate(self, *args, **kwargs):
            await asyncio.sleep(0.01)
            return await super()._agenerate(*args, **kwargs)

    slow = {name: Slow(model_name=name, output_tokens=5) for name in chats}
    graph = graph_of(by_role(RoutedChatModel(models=slow)), asynchronous=True)

    async def one(model):
        with allocator.session(model, fixed=dict.fromkeys(ROLES, model)) as session:
            await graph.ainvoke({"task": model})
            return session.finish()

    wanted = ["small", "middle", "large"] * 4
    for model, told in zip(wanted, await asyncio.gather(*map(one, wanted)), strict=True):
        assert told.query.text == model
        assert told.models == dict.fromkeys(ROLES, model)
        assert told.cost == pytest.approx(3 * COST[model])


def test_two_sessions_in_threads_do_not_mix(routed, allocator):
    graph = graph_of(by_role(routed))

    def one(model):
        with allocator.session(model, fixed=dict.fromkeys(ROLES, model)) as session:
            graph.invoke({"task": model})
            return session.finish()

    wanted = ["small", "middle", "large"] * 4
    with ThreadPoolExecutor(6) as pool:
        for model, told in zip(wanted, pool.map(one, wanted), strict=True):
            assert told.models == dict.fromkeys(ROLES, model)
            assert told.cost == pytest.approx(3 * COST[model])


class Many(TypedDict, total=False):
    answers: Annotated[list, lambda one, other: one + other]


@BOTH
async def test_nodes_that_run_at_once_spend_from_one_budget(way, routed, allocator):
    solver = routed.for_role("solver")

    def solve(state):
        return {"answers": [solver.invoke("hi").text]}

    async def asolve(state):
        return {"answers": [(await solver.ainvoke("hi")).text]}

    graph = StateGraph(Many)
    graph.add_node("solve", asolve if way == "async" else solve)
    graph.add_conditional_edges(START, lambda _: [Send("solve", {}) for _ in range(8)], ["solve"])
    graph.add_edge("solve", END)
    made = graph.compile()
    with allocator.session("x", budget=0.6, fixed={"planner": "small", "critic": "small"}) as session:
        state = await made.ainvoke({}) if way == "async" else made.invoke({})
        told = session.finish()
    assert len(state["answers"]) == 8
    assert told.roles["solver"].calls == 8
    assert told.cost <= 0.6
    assert set(told.roles["solver"].models) > {"large"}


def test_a_thread_of_ones_own_is_given_the_session(routed, allocator):
    planner, records = routed.for_role("planner"), []

    def work(session):
        records.append(routing_decision(planner.invoke("hi"))["by"])
        with session.active():
            records.append(routing_decision(planner.invoke("hi"))["by"])

    with allocator.session("x") as session:
        thread = threading.Thread(target=work, args=(session,))
        thread.start()
        thread.join()
        assert session.finish().roles["planner"].calls == 1
    assert records == ["default", "allocated"]


# --- agents ---


@tool
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@BOTH
async def test_an_agents_middleware_asks_the_session_before_each_call(way, chats, allocator):
    agent = create_agent(chats["small"], [add], middleware=[RoutingMiddleware(chats, role="solver")])
    with allocator.session("x", budget=0.9, fixed={"planner": "small", "critic": "small"}) as session:
        asked = {"messages": [HumanMessage("add 1 and 2")]}
        state = await agent.ainvoke(asked) if way == "async" else agent.invoke(asked)
        told = session.finish()
    assert [record["by"] for record in state["agentroute_log"]] == ["allocated", "allocated"]
    assert told.roles["solver"].calls == 2
    assert told.roles["solver"].usage == Usage(input_tokens=20, output_tokens=10)
    assert told.cost == pytest.approx(0.4)


def test_an_agent_goes_on_with_a_cheaper_model_when_the_money_goes(chats, allocator):
    chats["large"].output_tokens = 20  # $0.5
    agent = create_agent(chats["small"], [add], middleware=[RoutingMiddleware(chats, role="solver")])
    with allocator.session("x", budget=0.6, fixed={"planner": "small", "critic": "small"}) as session:
        with pytest.warns(UserWarning, match="may be exceeded"):
            state = agent.invoke({"messages": [HumanMessage("add 1 and 2")]})
        told = session.finish()
    assert [record["model"] for record in state["agentroute_log"]] == ["large", "middle"]
    assert told.roles["solver"].models == ("large", "middle")


def test_sub_agents_and_their_supervisor_are_roles_of_one_run(chats, allocator):
    solver = create_agent(chats["small"], middleware=[RoutingMiddleware(chats, role="solver")])

    @tool
    def ask_solver(question: str) -> str:
        """Asks the solver."""
        return solver.invoke({"messages": [HumanMessage(question)]})["messages"][-1].text

    boss = create_agent(
        chats["small"], [ask_solver], middleware=[RoutingMiddleware(RoutedChatModel(models=chats, role="planner"))]
    )
    with allocator.session("x", fixed={"planner": "large", "solver": "small"}) as session:
        state = boss.invoke({"messages": [HumanMessage("ask 'what is it?'")]})
        told = session.finish()
    assert state["messages"][-2].content.startswith("[small]")
    assert told.roles["planner"].calls == 2
    assert told.roles["solver"].calls == 1
    assert told.cost == pytest.approx(0.402)


class Instead(AgentMiddleware):
    """Answers in the model's place."""

    def wrap_model_call(self, request, handler):
        return AIMessage("cached")


def test_a_model_that_somebody_answers_for_costs_nothing(chats, allocator):
    agent = create_agent(chats["small"], middleware=[RoutingMiddleware(chats, role="solver"), Instead()])
    with allocator.session("x", budget=1.0) as session:
        agent.invoke({"messages": [HumanMessage("hi")]})
        assert session.budget.left() == pytest.approx(1.0)
        assert session.finish().roles == {}


# --- cascades as a role's model ---


def judge(query, reply):
    return Score(value=float("small" not in reply.text), cost=0.001)


@BOTH
async def test_a_cascade_begins_with_what_the_role_was_given_and_all_attempts_are_booked(way, chats, allocator):
    model = CascadeChatModel(models=chats, judge=judge, role="solver")
    with allocator.session("x", fixed=dict.fromkeys(ROLES, "small")) as session:
        answer = await model.ainvoke("hi") if way == "async" else model.invoke("hi")
        told = session.finish()
    assert routing_decision(answer)["by"] == "allocated"
    assert [one["model"] for one in routing_decision(answer)["attempts"]] == ["small", "middle"]
    assert told.models["solver"] == "small"
    assert told.roles["solver"].models == ("small", "middle")
    assert told.roles["solver"].calls == 2
    assert told.roles["solver"].usage == Usage(input_tokens=20, output_tokens=10)
    with allocator.session("x", fixed=dict.fromkeys(ROLES, "middle")):
        answer = model.invoke("hi")
    assert [one["model"] for one in routing_decision(answer)["attempts"]] == ["middle"]


class Priced:
    """A judge that costs something."""

    name, needs, ceiling = "priced", frozenset(), 0.01
    fallible = False

    def score(self, query, reply):
        return judge(query, reply)

    async def ascore(self, query, reply):
        return judge(query, reply)


@BOTH
async def test_what_judging_costs_is_the_roles_too(way, chats, allocator):
    model = CascadeChatModel(models=chats, judge=Priced(), role="solver")
    with allocator.session("x", budget=1.0, fixed=dict.fromkeys(ROLES, "small")) as session:
        await model.ainvoke("hi") if way == "async" else model.invoke("hi")
        told = session.finish()
    assert told.roles["solver"].calls == 2
    assert told.cost == pytest.approx(0.022 + 2 * 0.001)
    assert session.budget.left() == pytest.approx(1.0 - told.cost)


@BOTH
async def test_a_cascade_climbs_no_higher_than_the_money_goes(way, chats, allocator):
    model = CascadeChatModel(models=chats, judge=judge, role="solver")
    with allocator.session("x", budget=0.015, fixed=dict.fromkeys(ROLES, "small")) as session:
        answer = await model.ainvoke("hi") if way == "async" else model.invoke("hi")
        told = session.finish()
    record = routing_decision(answer)
    # Nobody else can be paid, so that nobody is paid to judge either.
    assert record["answered_by"] == "small"
    assert len(record["attempts"]) == 1
    assert told.cost == pytest.approx(0.002)


def test_a_cascade_streams_and_is_settled(chats, allocator):
    model = CascadeChatModel(models=chats, judge=judge, role="solver")
    for chat in chats.values():
        chat.replies = ["small talk"]
    with allocator.session("x", budget=1.0, fixed=dict.fromkeys(ROLES, "small")) as session:
        assert "".join(chunk.text for chunk in model.stream("hi")) == "small talk"
        told = session.finish()
    assert told.roles["solver"].calls == 3
    assert told.cost == pytest.approx(0.222)
    assert session.budget.left() == pytest.approx(1.0 - 0.222)


@BOTH
async def test_an_agent_with_a_cascade(way, chats, allocator):
    agent = create_agent(chats["small"], middleware=[CascadeMiddleware(chats, judge=judge, role="critic")])
    with allocator.session("x", budget=1.0, fixed=dict.fromkeys(ROLES, "small")) as session:
        asked = {"messages": [HumanMessage("hi")]}
        await agent.ainvoke(asked) if way == "async" else agent.invoke(asked)
        told = session.finish()
    assert told.roles["critic"].models == ("small", "middle")
    assert told.cost == pytest.approx(0.022)
    assert current_session() is None
