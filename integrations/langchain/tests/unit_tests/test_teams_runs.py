"""A model that is asked several times for one call of a role: each time is paid for by the team's session, and told."""

import asyncio

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRetryMiddleware
from langchain_core.caches import InMemoryCache
from langchain_core.messages import HumanMessage
from pydantic import BaseModel

from agentroute.errors import BudgetError
from agentroute.outcomes import MemoryOutcomeLog
from agentroute.teams import Mode, Role, RoleAllocator, Team
from agentroute.types import ModelCard, Price, Score, Usage
from langchain_agentroute import CascadeMiddleware, RoutedChatModel, RoutingMiddleware
from langchain_agentroute.testing import ScriptedChatModel

TEAM = Team(roles=[Role(name="solver", input_tokens=10, output_tokens=100)], modes=[Mode(name="alone")])
# 10 tokens in and 100 out: $1.001 a call. Of a short prompt at most 20 tokens are set aside for.
CARD = ModelCard(id="m", price=Price(input=100, output=10_000), max_output_tokens=100)
CALL = 1.001
BOTH = pytest.mark.parametrize("way", ["sync", "async"])


@pytest.fixture
def allocator():
    return RoleAllocator(TEAM, [CARD])


def scripted(**kwargs):
    return ScriptedChatModel(model_name="m", input_tokens=10, output_tokens=100, **kwargs)


class Times(AgentMiddleware):
    """Asks several times, and takes the last answer."""

    def __init__(self, times, *, together=False):
        super().__init__()
        self.times, self.together = times, together

    def wrap_model_call(self, request, handler):
        return [handler(request) for _ in range(self.times)][-1]

    async def awrap_model_call(self, request, handler):
        if self.together:
            return (await asyncio.gather(*(handler(request) for _ in range(self.times))))[-1]
        return [await handler(request) for _ in range(self.times)][-1]


async def ask(agent, way):
    asked = {"messages": [HumanMessage("hi")]}
    return await agent.ainvoke(asked) if way == "async" else agent.invoke(asked)


def agent_of(chat, *inner, kind=RoutingMiddleware, **kwargs):
    return create_agent(chat, middleware=[kind({"m": chat}, cards=[CARD], role="solver", **kwargs), *inner])


@BOTH
async def test_each_time_is_booked(way, allocator):
    chat, log = scripted(), MemoryOutcomeLog()
    middleware = RoutingMiddleware({"m": chat}, cards=[CARD], role="solver", outcome_log=log)
    agent = create_agent(chat, middleware=[middleware, Times(3)])
    with allocator.session("x", budget=10.0) as session:
        state = await ask(agent, way)
        told = session.finish()
    assert len(chat.asked) == 3
    assert told.roles["solver"].calls == 3
    assert told.roles["solver"].usage == Usage(input_tokens=30, output_tokens=300)
    assert told.cost == pytest.approx(3 * CALL)
    assert session.budget.left() == pytest.approx(10.0 - 3 * CALL)
    assert state["agentroute_log"][0]["attempts"][0]["cost"] == pytest.approx(3 * CALL)
    middleware.model.outcome_log.flush(5.0)
    [outcome] = log
    assert (outcome.usage, outcome.cost) == (Usage(input_tokens=30, output_tokens=300), pytest.approx(3 * CALL))


@BOTH
async def test_no_more_is_spent_than_there_is(way, allocator):
    chat = scripted()
    with allocator.session("x", budget=2.5) as session:
        with pytest.raises(BudgetError, match="are left"):
            await ask(agent_of(chat, Times(5)), way)
        told = session.finish()
    assert len(chat.asked) == 2
    assert told.cost == pytest.approx(2 * CALL)
    assert session.budget.left() == pytest.approx(2.5 - 2 * CALL)


async def test_times_that_overlap_are_each_set_aside_for(allocator):
    class Slow(ScriptedChatModel):
        async def _agenerate(self, *args, **kwargs):
            left.append(session.budget.left())
            await asyncio.sleep(0.02)
            return await super()._agenerate(*args, **kwargs)

    left = []
    chat = Slow(model_name="m", input_tokens=10, output_tokens=100)
    with allocator.session("x", budget=4.0) as session:
        await ask(agent_of(chat, Times(3, together=True)), "async")
        assert session.budget.left() == pytest.approx(4.0 - 3 * CALL)
        told = session.finish()
    assert min(left) < 4.0 - 3 * CALL
    assert told.roles["solver"].calls == 3
    assert told.cost == pytest.approx(3 * CALL)


async def test_of_times_that_overlap_not_more_begin_than_can_be_paid(allocator):
    class Slow(ScriptedChatModel):
        async def _agenerate(self, *args, **kwargs):
            await asyncio.sleep(0.02)
            return await super()._agenerate(*args, **kwargs)

    chat = Slow(model_name="m", input_tokens=10, output_tokens=100)
    with allocator.session("x", budget=2.5) as session:
        with pytest.raises(BudgetError):
            await ask(agent_of(chat, Times(5, together=True)), "async")
        session.finish()
    assert len(chat.asked) <= 2
    # One that was still under way when the call failed counts as all that was set aside.
    assert 2 * CALL <= session.budget.spent() <= 2.5


class Refused(Exception):
    status_code = 503


@BOTH
@pytest.mark.parametrize(("error", "cost"), [(Refused(), CALL), (ConnectionError("down"), None)])
async def test_a_failure_that_is_tried_again_is_a_call_and_condemns_no_model(way, error, cost, allocator):
    chat = scripted(replies=[error])
    again = ModelRetryMiddleware(max_retries=2, initial_delay=0.0, jitter=False)
    with allocator.session("x", budget=10.0) as session:
        await ask(agent_of(chat, again), way)
        assert session.model("solver") == "m"
        told = session.finish()
    solver = told.roles["solver"]
    assert (solver.calls, solver.error) == (2, type(error).__name__)
    assert solver.cost == (None if cost is None else pytest.approx(cost))
    # What the failed one cost is unknown, so that all that was set aside for it is gone.
    assert session.budget.left() == pytest.approx(10.0 - CALL) if cost else session.budget.left() < 10.0 - 2 * CALL + 0.01


@BOTH
async def test_a_last_failure_is_the_calls(way, allocator):
    chat = scripted(replies=[Refused(), Refused()])
    again = ModelRetryMiddleware(max_retries=1, initial_delay=0.0, jitter=False, on_failure="error")
    with allocator.session("x", budget=10.0) as session:
        with pytest.raises(Refused):
            await ask(agent_of(chat, again), way)
        told = session.finish()
    assert told.roles["solver"].calls == 2
    assert told.roles["solver"].error == "Refused"
    assert told.cost == pytest.approx(0.0)
    assert session.budget.left() == pytest.approx(10.0)


class Breaks(AgentMiddleware):
    """Fails after the model has answered."""

    def wrap_model_call(self, request, handler):
        handler(request)
        raise ZeroDivisionError

    async def awrap_model_call(self, request, handler):
        await handler(request)
        raise ZeroDivisionError


@BOTH
async def test_an_answer_that_somebody_breaks_is_paid_for_as_it_was(way, allocator):
    chat = scripted()
    with allocator.session("x", budget=10.0) as session:
        with pytest.raises(ZeroDivisionError):
            await ask(agent_of(chat, Breaks()), way)
        told = session.finish()
    assert told.roles["solver"].cost == pytest.approx(CALL)
    assert session.budget.left() == pytest.approx(10.0 - CALL)


async def test_a_call_that_is_cancelled_gives_nothing_back(allocator):
    class Slow(ScriptedChatModel):
        async def _agenerate(self, *args, **kwargs):
            if len(self.asked) == 1:
                await asyncio.sleep(60)
            return await super()._agenerate(*args, **kwargs)

    chat = Slow(model_name="m", input_tokens=10, output_tokens=100)
    with allocator.session("x", budget=10.0) as session:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(ask(agent_of(chat, Times(3)), "async"), 0.2)
        assert session.budget.left() < 10.0 - 2 * CALL + 0.01
        told = session.finish()
    assert told.roles["solver"].calls == 2
    assert told.roles["solver"].cost is None
    assert told.roles["solver"].error is None


def test_a_cached_answer_costs_nothing_however_often(allocator):
    chat = scripted(cache=InMemoryCache())
    with allocator.session("x", budget=10.0) as session:
        agent_of(chat, Times(3)).invoke({"messages": [HumanMessage("hi")]})
        told = session.finish()
    assert len(chat.asked) == 1
    assert told.cost == pytest.approx(CALL)


@BOTH
async def test_a_cascades_step_is_paid_for_as_often_as_it_is_asked(way, allocator):
    chat = scripted()

    def judge(query, reply):
        return Score(value=1.0)

    agent = agent_of(chat, Times(2), kind=CascadeMiddleware, judge=judge)
    with allocator.session("x", budget=10.0) as session:
        await ask(agent, way)
        told = session.finish()
    assert told.roles["solver"].calls == 2
    assert told.roles["solver"].models == ()
    assert told.cost == pytest.approx(2 * CALL)
    assert session.budget.left() == pytest.approx(10.0 - 2 * CALL)


@BOTH
async def test_a_routed_model_as_an_agents_candidate_is_booked(way, allocator):
    chat = scripted()
    within = RoutedChatModel(models={"m": chat}, cards=[CARD], role="solver")
    agent = create_agent(chat, middleware=[RoutingMiddleware({"m": within}, cards=[CARD], role="solver"), Times(2)])
    with allocator.session("x", budget=10.0) as session:
        await ask(agent, way)
        told = session.finish()
    assert told.cost == pytest.approx(2 * CALL)
    assert session.budget.left() == pytest.approx(10.0 - 2 * CALL)


# --- objects of a schema ---


class Sum(BaseModel):
    """A sum."""

    total: int


class Twice(ScriptedChatModel):
    """Asks itself again where no object can be made of its first answer."""

    def with_structured_output(self, schema, **kwargs):
        from langchain_core.output_parsers import PydanticOutputParser

        once = self | PydanticOutputParser(pydantic_object=schema)
        return once.with_fallbacks([once])


@BOTH
async def test_a_way_to_objects_that_asks_twice_is_booked_twice(way, allocator):
    chat = Twice(model_name="m", input_tokens=10, output_tokens=100, replies=["no object", '{"total": 3}'])
    model = RoutedChatModel(models={"m": chat}, cards=[CARD], role="solver").with_structured_output(Sum)
    with allocator.session("x", budget=10.0) as session:
        answer = await model.ainvoke("hi") if way == "async" else model.invoke("hi")
        told = session.finish()
    assert answer == Sum(total=3)
    assert told.roles["solver"].calls == 2
    assert told.cost == pytest.approx(2 * CALL)
    assert session.budget.left() == pytest.approx(10.0 - 2 * CALL)


@BOTH
async def test_an_answer_of_which_no_object_can_be_made_is_paid_for_as_it_was(way, allocator):
    chat = Twice(model_name="m", input_tokens=10, output_tokens=100, replies=["no object", "none again"])
    model = RoutedChatModel(models={"m": chat}, cards=[CARD], role="solver").with_structured_output(Sum)
    with allocator.session("x", budget=10.0) as session:
        with pytest.raises(ValueError, match="Invalid json"):
            await model.ainvoke("hi") if way == "async" else model.invoke("hi")
        told = session.finish()
    assert told.cost == pytest.approx(2 * CALL)
    assert session.budget.left() == pytest.approx(10.0 - 2 * CALL)
