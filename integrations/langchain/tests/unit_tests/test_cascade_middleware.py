"""`CascadeMiddleware`, inside real agents."""

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelFallbackMiddleware, ModelRetryMiddleware
from langchain.agents.structured_output import ProviderStrategy, StructuredOutputValidationError, ToolStrategy
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphInterrupt
from pydantic import BaseModel

from agentroute.errors import AllModelsFailedError, ConfigError, NoEligibleModelError
from agentroute.outcomes import MemoryOutcomeLog
from agentroute.scorers import LLMJudge
from agentroute.types import ModelCard, Price
from langchain_agentroute import (
    CascadeChatModel,
    CascadeMiddleware,
    RoutedChatModel,
    RoutingMiddleware,
    asker,
    routing_decision,
)
from langchain_agentroute.testing import ScriptedChatModel

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

BOTH = pytest.mark.parametrize("way", ["sync", "async"])


def rejects_small(reply):
    return "[small]" not in reply.text


async def run(agent, way, text="x", config=None):
    asked = {"messages": [("user", text)]}
    return await agent.ainvoke(asked, config) if way == "async" else agent.invoke(asked, config)


def who(state):
    return [routing_decision(message)["answered_by"] for message in state["messages"] if isinstance(message, AIMessage)]


@BOTH
async def test_rejected_answers_stay_out_of_the_state(way, small, large, recorder):
    counter = UsageMetadataCallbackHandler()
    agent = create_agent(small, middleware=[CascadeMiddleware([small, large], judge=rejects_small)])
    state = await run(agent, way, config={"callbacks": [recorder, counter]})
    assert [message.text for message in state["messages"]] == ["x", "[large] answer to: x"]
    assert who(state) == ["large"]
    (record,) = state["agentroute_log"]
    assert [(one["model"], one["score"], one["accepted"]) for one in record["attempts"]] == [
        ("small", 0.0, False),
        ("large", None, True),
    ]
    assert record["total_usage"]["input_tokens"] == 20
    assert [run["name"] for run in recorder.of("llm")] == ["small", "large"]
    assert {name: usage["total_tokens"] for name, usage in counter.usage_metadata.items()} == {"small": 15, "large": 15}
    (llm, _) = recorder.of("llm")
    assert llm["metadata"]["agentroute_decision_id"] == record["decision_id"]


@BOTH
async def test_outcomes_are_logged(way, small, large):
    log = MemoryOutcomeLog()
    middleware = CascadeMiddleware([small, large], judge=rejects_small, outcome_log=log)
    await run(create_agent(small, middleware=[middleware]), way)
    middleware.model.outcome_log.flush(1.0)
    assert [(one.model, one.attempt, one.metadata["accepted"]) for one in log] == [("small", 0, False), ("large", 1, True)]


@BOTH
async def test_failures_are_passed_over(way, small, large):
    small.replies = [TimeoutError()]
    state = await run(create_agent(small, middleware=[CascadeMiddleware([small, large], judge=rejects_small)]), way)
    assert who(state) == ["large"]
    small.replies, large.replies = [None, TimeoutError()], [None, TimeoutError()]
    with pytest.raises(AllModelsFailedError):
        await run(create_agent(small, middleware=[CascadeMiddleware([small, large])]), way)


class Answer(BaseModel):
    """An answer."""

    number: int


def tool_call(**args):
    return AIMessage("", tool_calls=[{"name": "Answer", "args": args, "id": "1", "type": "tool_call"}])


@BOTH
@pytest.mark.parametrize("handled", [True, False])
async def test_objects_that_do_not_fit_are_rejected(way, handled, small, large):
    small.replies, large.replies = [tool_call(number="many")], [tool_call(number=2)]
    strategy = ToolStrategy(Answer, handle_errors=handled)
    agent = create_agent(small, response_format=strategy, middleware=[CascadeMiddleware([small, large])])
    state = await run(agent, way)
    assert state["structured_response"] == Answer(number=2)
    assert who(state) == ["large"]
    assert "Failed to parse" in state["agentroute_log"][0]["attempts"][0]["reason"]


@BOTH
async def test_objects_in_the_provider_s_own_way(way, small, large):
    small.replies, large.replies = ["no json", "no json"], ['{"number": 2}', "no json either"]
    agent = create_agent(small, response_format=ProviderStrategy(Answer), middleware=[CascadeMiddleware([small, large])])
    state = await run(agent, way)
    assert state["structured_response"] == Answer(number=2)
    with pytest.raises(StructuredOutputValidationError):
        await run(agent, way)


@BOTH
async def test_the_judge_sees_the_object(way, small, large):
    small.replies, large.replies = [tool_call(number=1)], [tool_call(number=2)]
    texts = []

    def judge(reply):
        texts.append(reply.text)
        return reply.parsed.number > 1

    middleware = CascadeMiddleware([small, large], judge=judge)
    state = await run(create_agent(small, response_format=ToolStrategy(Answer), middleware=[middleware]), way)
    assert state["structured_response"] == Answer(number=2)
    # A judge that reads texts sees the object as JSON.
    assert texts == ['{"number":1}']


def test_interrupts_pass_even_after_an_answer(small, large):
    class Interrupts(AgentMiddleware):
        def wrap_model_call(self, request, handler):
            if request.model.model_name == "large":
                raise GraphInterrupt
            return handler(request)

    agent = create_agent(
        small,
        middleware=[CascadeMiddleware([small, large], judge=rejects_small), Interrupts()],
        checkpointer=InMemorySaver(),
    )
    state = agent.invoke({"messages": [("user", "x")]}, {"configurable": {"thread_id": "1"}})
    assert not who(state)


@BOTH
async def test_a_middleware_further_in_may_answer_itself(way, small, large):
    class Answers(AgentMiddleware):
        def wrap_model_call(self, request, handler):
            return AIMessage("mine")

        async def awrap_model_call(self, request, handler):
            return AIMessage("mine")

    state = await run(create_agent(small, middleware=[CascadeMiddleware([small, large]), Answers()]), way)
    assert state["messages"][-1].text == "mine"
    assert who(state) == [None]


def test_system_prompt_settings_and_prepared_messages(small, large):
    middleware = CascadeMiddleware(
        {"small": small, "large": large.bind(seed=1)},
        judge=rejects_small,
        prepare_messages=lambda messages, _: [*messages, HumanMessage("briefly")],
    )
    create_agent(small, system_prompt="be kind", middleware=[middleware]).invoke({"messages": [("user", "x")]})
    assert [message.content for message in large.asked[0][0]] == ["be kind", "x", "briefly"]
    assert large.asked[0][1]["seed"] == 1


def test_the_judge_s_run_is_traced_below_the_agent(small, large, recorder):
    judge = LLMJudge(asker(ScriptedChatModel(model_name="judge", replies=['{"score": 0}'])))
    agent = create_agent(small, middleware=[CascadeMiddleware([small, large], judge=judge)])
    agent.invoke({"messages": [("user", "x")]}, {"callbacks": [recorder]})
    assert ("llm", "judge", "agentroute.judge") in recorder.tree()
    (run,) = [run for run in recorder.of("chain") if run["name"] == "agentroute.judge"]
    assert run["parent"] is not None


def test_deadlines(small, large):
    agent = create_agent(small, middleware=[CascadeMiddleware([small, large], judge=rejects_small, deadline=30.0)])
    assert who(agent.invoke({"messages": [("user", "x")]})) == ["large"]


def test_a_cascade_has_its_arguments_already(small):
    model = CascadeChatModel(models=[small])
    assert CascadeMiddleware(model).model is model
    with pytest.raises(ConfigError, match="judge"):
        CascadeMiddleware(model, judge=rejects_small)
    with pytest.raises(ConfigError, match="pass it to CascadeMiddleware"):
        RoutingMiddleware(model)
    with pytest.raises(ConfigError, match="pass it to RoutingMiddleware"):
        CascadeMiddleware(RoutedChatModel(models=[small]))


@BOTH
async def test_an_answer_without_the_object_is_rejected(way, small, large):
    small.replies, large.replies = ["It is two."], [tool_call(number=2)]
    agent = create_agent(small, response_format=ToolStrategy(Answer), middleware=[CascadeMiddleware([small, large])])
    state = await run(agent, way)
    assert state["structured_response"] == Answer(number=2)
    assert state["agentroute_log"][0]["attempts"][0]["reason"] == "the answer holds no object of the schema"


CARDS = [ModelCard(id=name, price=Price(input=1, output=1), max_output_tokens=100) for name in ("small", "large")]


def tool(a: int) -> int:
    """Does something."""
    return a


class Long(BaseModel):
    """An answer."""

    number: int


tool_of_many_words = type(tool)(tool.__code__, {}, "tool_of_many_words")
tool_of_many_words.__annotations__ = tool.__annotations__
tool_of_many_words.__doc__ = Long.__doc__ = "word " * 4000


@pytest.mark.parametrize(
    "kwargs",
    [
        {"tools": [tool_of_many_words]},
        {"response_format": ToolStrategy(Long)},
        {"response_format": ProviderStrategy(Long)},
        {"response_format": Long},
    ],
)
def test_tools_and_schemas_count_in_what_a_call_may_cost(kwargs, small, large):
    def agent(most, **kwargs):
        return create_agent(small, middleware=[CascadeMiddleware([small, large], cards=CARDS, max_cost=most)], **kwargs)

    with pytest.raises(NoEligibleModelError, match=r"its call may cost \$0.005"):
        agent(0.003, **kwargs).invoke({"messages": [("user", "x")]})
    assert not small.asked
    small.replies = [tool_call(number=1) if "tools" not in kwargs else "fine"] * 2
    assert agent(0.003).invoke({"messages": [("user", "x")]})


@BOTH
async def test_what_is_said_in_place_of_a_failure_is_no_answer(way, small, large):
    small.replies = [ConnectionError("down")] * 2
    retry = ModelRetryMiddleware(max_retries=1, initial_delay=0.0)
    log = MemoryOutcomeLog()
    middleware = CascadeMiddleware([small, large], outcome_log=log)
    state = await run(create_agent(small, middleware=[middleware, retry]), way)
    assert [message.text for message in state["messages"]] == ["x", "[large] answer to: x"]
    (record,) = state["agentroute_log"]
    assert [(one["model"], one["error"]) for one in record["attempts"]] == [("small", "ConnectionError"), ("large", None)]
    middleware.model.outcome_log.flush(3)
    assert [(one.model, one.error) for one in log] == [("small", "ConnectionError"), ("large", None)]


@pytest.mark.parametrize("kwargs", [{"max_models": 1}, {}])
def test_the_last_one_s_failure_is_told_as_its_middleware_tells_it(kwargs, small, large):
    small.replies = large.replies = [ConnectionError("down")] * 4
    retry = ModelRetryMiddleware(max_retries=1, initial_delay=0.0)
    state = create_agent(small, middleware=[CascadeMiddleware([small, large], **kwargs), retry]).invoke(
        {"messages": [("user", "x")]}
    )
    assert "down" in state["messages"][-1].text


def test_an_answer_of_a_fallback_is_one(small, large):
    small.replies = [ConnectionError("down")]
    other = ScriptedChatModel(model_name="other")
    agent = create_agent(small, middleware=[CascadeMiddleware([small, large]), ModelFallbackMiddleware(other)])
    state = agent.invoke({"messages": [("user", "x")]})
    assert (state["messages"][-1].text, who(state)) == ("[other] answer to: x", [None])
