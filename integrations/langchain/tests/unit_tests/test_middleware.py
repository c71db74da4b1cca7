"""`RoutingMiddleware`, inside real agents."""

import operator

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelFallbackMiddleware, ModelRetryMiddleware
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphInterrupt
from pydantic import BaseModel

from agentroute.errors import AllModelsFailedError, ConfigError, RouterFailedWarning
from agentroute.outcomes import MemoryOutcomeLog
from langchain_agentroute import RoutedChatModel, RoutingMiddleware, routing_decision
from langchain_agentroute.testing import ScriptedChatModel

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")


@tool
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


class Routes:
    """A rule that gives names in turn and keeps its queries."""

    def __init__(self, *names):
        self.names = list(names)
        self.queries = []

    def __call__(self, query):
        self.queries.append(query)
        return self.names[(len(self.queries) - 1) % len(self.names)]


async def run(agent, way, text="add 1 and 2", config=None):
    asked = {"messages": [("user", text)]}
    return await agent.ainvoke(asked, config) if way == "async" else agent.invoke(asked, config)


def answers(state):
    return [message for message in state["messages"] if isinstance(message, AIMessage)]


def who(state):
    return [routing_decision(message)["answered_by"] for message in answers(state)]


BOTH = pytest.mark.parametrize("way", ["sync", "async"])


@BOTH
async def test_one_decision_for_the_whole_run(way, small, large, recorder):
    routes = Routes("large", "small")
    agent = create_agent(small, [add], middleware=[RoutingMiddleware([small, large], router=routes)])
    state = await run(agent, way, config={"callbacks": [recorder]})
    assert who(state) == ["large", "large"]
    assert [record["by"] for record in state["agentroute_log"]] == ["policy", "sticky"]
    assert len(routes.queries) == 1
    assert routes.queries[0].needs == {"tools"}
    assert routes.queries[0].text == "add 1 and 2"
    assert state["messages"][-2].content == "3"
    assert "agentroute_model" not in state
    assert [run["name"] for run in recorder.of("llm")] == ["large", "large"]
    assert not small.asked


@BOTH
async def test_usage_is_counted_once(way, small, large):
    counter = UsageMetadataCallbackHandler()
    agent = create_agent(small, [add], middleware=[RoutingMiddleware([small, large], router=Routes("large"))])
    state = await run(agent, way, config={"callbacks": [counter]})
    assert {name: usage["total_tokens"] for name, usage in counter.usage_metadata.items()} == {"large": 30}
    assert state["agentroute_log"][0]["attempts"][0]["usage"]["input_tokens"] == 10


@BOTH
async def test_next_run_of_a_thread_is_decided_anew(way, small, large):
    routes = Routes("large", "small")
    agent = create_agent(
        small, [add], middleware=[RoutingMiddleware([small, large], router=routes)], checkpointer=InMemorySaver()
    )
    config = {"configurable": {"thread_id": "1"}}
    await run(agent, way, config=config)
    state = await run(agent, way, config=config)
    assert who(state) == ["large", "large", "small", "small"]
    assert [record["answered_by"] for record in state["agentroute_log"]] == who(state)


@BOTH
async def test_every_call_may_be_decided(way, small, large):
    routed = RoutedChatModel(models=[small, large], router=Routes("large", "small"), sticky="none")
    state = await run(create_agent(small, [add], middleware=[RoutingMiddleware(routed, route_once=False)]), way)
    assert who(state) == ["large", "small"]


@BOTH
async def test_fails_over_and_keeps_the_survivor(way, small, large):
    large.replies = [TimeoutError()]
    agent = create_agent(small, [add], middleware=[RoutingMiddleware([small, large], router=Routes("large"))])
    state = await run(agent, way)
    assert who(state) == ["small", "small"]
    first, second = state["agentroute_log"]
    assert [(one["model"], one["error"]) for one in first["attempts"]] == [("large", "TimeoutError"), ("small", None)]
    assert second["by"] == "sticky"


@BOTH
async def test_all_failed(way, small, large):
    small.replies = large.replies = [TimeoutError()]
    agent = create_agent(small, [add], middleware=[RoutingMiddleware([small, large], router=Routes("large"))])
    with pytest.raises(AllModelsFailedError):
        await run(agent, way)


@BOTH
@pytest.mark.parametrize("outer", ["routing", "fallback"])
async def test_with_a_fallback_middleware_in_either_order(way, outer, small, large):
    spare = ScriptedChatModel(model_name="spare")
    large.replies = [TimeoutError()] * 9
    order = [RoutingMiddleware([small, large], router=Routes("large")), ModelFallbackMiddleware(spare)]
    agent = create_agent(small, [add], middleware=order if outer == "routing" else order[::-1])
    state = await run(agent, way)
    assert state["messages"][-2].content == "3"
    if outer == "fallback":
        assert who(state) == ["small", "small"], "routing fails over on its own before the fallback hears of it"
        assert not spare.asked
    else:
        assert who(state) == [None, None], "the inner fallback answered, and the record must not claim otherwise"
        assert [record["attempts"][0]["error"] for record in state["agentroute_log"]] == ["TimeoutError"] * 2
        assert [record["reason"].partition("; ")[2] for record in state["agentroute_log"]] == ["large failed (TimeoutError)"] * 2
        assert answers(state)[0].response_metadata["model_name"] == "spare"


@BOTH
async def test_retry_further_in_is_one_attempt(way, small):
    log = MemoryOutcomeLog()
    small.replies = [TimeoutError(), "done"]
    routing = RoutingMiddleware([small], outcome_log=log)
    retry = ModelRetryMiddleware(max_retries=1, initial_delay=0, jitter=False)
    state = await run(create_agent(small, [], middleware=[routing, retry]), way)
    assert who(state) == ["small"]
    assert routing.model.outcome_log.flush(10)
    assert [(outcome.error, outcome.usage.output_tokens) for outcome in log] == [(None, 5)]
    routing.model.outcome_log.close()


@BOTH
async def test_outcomes_are_logged(way, small, large):
    log = MemoryOutcomeLog()
    large.replies = [TimeoutError()]
    routing = RoutingMiddleware([small, large], router=Routes("large"), outcome_log=log, role="planner")
    state = await run(create_agent(small, [add], middleware=[routing]), way)
    assert routing.model.record_feedback(answers(state)[0], 1.0)
    assert routing.model.outcome_log.flush(10)
    found = list(log)
    assert [(one.model, one.error, one.attempt) for one in found] == [
        ("large", "TimeoutError", 0),
        ("small", None, 1),
        ("small", None, 0),
    ]
    assert [one.usage and one.usage.output_tokens for one in found] == [None, 5, 5]
    assert {one.query.role for one in found} == {"planner"}
    assert found[1].decision_id == routing_decision(answers(state)[0])["decision_id"]
    routing.model.outcome_log.close()


@BOTH
async def test_router_failure_falls_to_the_default(way, small, large):
    routing = RoutingMiddleware([small, large], router=lambda _: 1 / 0, default="large")
    with pytest.warns(RouterFailedWarning):
        state = await run(create_agent(small, [], middleware=[routing]), way)
    assert who(state) == ["large"]
    assert state["agentroute_log"][0]["fallback"] is True


@BOTH
async def test_forced_by_configuration(way, small, large):
    agent = create_agent(small, [add], middleware=[RoutingMiddleware([small, large], router=Routes("small"))])
    state = await run(agent, way, config={"configurable": {"agentroute_model": "large"}})
    assert who(state) == ["large", "large"]


def test_middleware_further_in_sees_the_chosen_model(small, large):
    seen = []

    class Looks(AgentMiddleware):
        def wrap_model_call(self, request, handler):
            seen.append((request.model._llm_type, request.model.model_name, dict(request.model_settings)))
            return handler(request)

    routing = RoutingMiddleware({"small": small, "large": large.bind(seed=1)}, router=Routes("large"))
    create_agent(small, [], middleware=[routing, Looks()]).invoke({"messages": [("user", "x")]})
    assert seen == [("scripted-chat", "large", {"seed": 1})]
    assert large.asked[0][1]["seed"] == 1


def test_interrupts_pass(small, large):
    class Interrupts(AgentMiddleware):
        def wrap_model_call(self, request, handler):
            raise GraphInterrupt

    routing = RoutingMiddleware([small, large], router=Routes("large"))
    agent = create_agent(small, [], middleware=[routing, Interrupts()], checkpointer=InMemorySaver())
    state = agent.invoke({"messages": [("user", "x")]}, {"configurable": {"thread_id": "1"}})
    assert not answers(state)
    assert not small.asked


def test_system_prompt_and_prepared_messages(small):
    routing = RoutingMiddleware([small], prepare_messages=lambda messages, _: [*messages, HumanMessage("briefly")])
    create_agent(small, [], system_prompt="be kind", middleware=[routing]).invoke({"messages": [("user", "x")]})
    assert [message.content for message in small.asked[0][0]] == ["be kind", "x", "briefly"]


class Answer(BaseModel):
    """An answer."""

    text: str


@BOTH
async def test_structured_response(way, small, large):
    routes = Routes("large")
    agent = create_agent(small, [], response_format=Answer, middleware=[RoutingMiddleware([small, large], router=routes)])
    state = await run(agent, way)
    assert state["structured_response"] == Answer(text="text")
    assert who(state) == ["large"]
    assert "structured_output" in routes.queries[0].needs


def test_text_is_streamed_once(small, large):
    agent = create_agent(small, [], middleware=[RoutingMiddleware([small, large], router=Routes("large"))])
    pieces = [chunk for chunk, _ in agent.stream({"messages": [("user", "one two")]}, stream_mode="messages")]
    assert "".join(piece.text for piece in pieces if piece.type == "AIMessageChunk") == "[large] answer to: one two"


def test_llm_runs_carry_the_decision(small, large, recorder):
    agent = create_agent(small, [], middleware=[RoutingMiddleware([small, large], router=Routes("large"))])
    state = agent.invoke({"messages": [("user", "x")]}, {"callbacks": [recorder]})
    (llm,) = recorder.of("llm")
    assert llm["metadata"]["agentroute_decision_id"] == state["agentroute_log"][0]["decision_id"]
    assert "agentroute" in llm["tags"]


def test_routed_model_has_its_arguments_already(small):
    with pytest.raises(ConfigError, match="router"):
        RoutingMiddleware(RoutedChatModel(models=[small]), router=operator.attrgetter("text"))


@BOTH
async def test_routed_model_as_the_agent_s_model(way, small, large):
    """Without any middleware, the tool loop stays on the model that began it."""
    routes = Routes("large", "small")
    state = await run(create_agent(RoutedChatModel(models=[small, large], router=routes), [add]), way)
    assert who(state) == ["large", "large"]
    assert state["messages"][-2].content == "3"


def test_router_assigned_to_the_model_is_the_middleware_s_too():
    model = RoutedChatModel(
        models={"small": ScriptedChatModel(model_name="small"), "large": ScriptedChatModel(model_name="large")}
    )
    agent = create_agent(model=model, middleware=[RoutingMiddleware(model)])
    model.router = lambda _: "large"
    assert routing_decision(agent.invoke({"messages": [HumanMessage("x")]})["messages"][-1])["answered_by"] == "large"


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_errors_of_prepare_messages_reach_the_caller_as_they_are(asynchronous):
    error = ConnectionError("the summary's service is gone")
    prepared = []

    def prepare(_, candidate):
        prepared.append(candidate.model_name)
        raise error

    models = {name: ScriptedChatModel(model_name=name) for name in ("small", "large")}
    agent = create_agent(model=models["small"], middleware=[RoutingMiddleware(models, prepare_messages=prepare)])
    asked = {"messages": [HumanMessage("x")]}
    with pytest.raises(ConnectionError) as raised:
        await agent.ainvoke(asked) if asynchronous else agent.invoke(asked)
    assert raised.value is error
    assert prepared == ["small"]
