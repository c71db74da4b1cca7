"""Agents and chains over the real OpenAI client of LangChain, against a scripted OpenAI-compatible server on loopback."""

import httpx
import openai
import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from agentroute.outcomes import MemoryOutcomeLog
from langchain_agentroute import RoutedChatModel, RoutingMiddleware, routing_decision

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")


@tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


def rule(query):
    return "large" if "hard" in query.text else "small"


async def run(agent, way, text, config=None):
    asked = {"messages": [("user", text)]}
    return await agent.ainvoke(asked, config) if way == "async" else agent.invoke(asked, config)


def who(state):
    return [routing_decision(message)["answered_by"] for message in state["messages"] if isinstance(message, AIMessage)]


BOTH = pytest.mark.parametrize("way", ["sync", "async"])


@BOTH
@pytest.mark.parametrize("build", ["model", "middleware"])
async def test_tool_calling_agent_switches_models_between_turns(way, build, models, server):
    if build == "model":
        agent = create_agent(RoutedChatModel(models=models, router=rule), [add], checkpointer=InMemorySaver())
    else:
        middleware = [RoutingMiddleware(models, router=rule)]
        agent = create_agent(models["small"], [add], middleware=middleware, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    await run(agent, way, "easy sum", config)
    state = await run(agent, way, "hard sum", config)
    assert who(state) == ["small", "small", "large", "large"], "one model for each tool loop, another for the next question"
    assert [asked["model"] for asked in server.asked] == ["small", "small", "large", "large"]
    assert state["messages"][-2].content == "3"
    assert state["messages"][-1].text == "large has read: 3"
    assert all(asked["tools"][0]["function"]["name"] == "add" for asked in server.asked)
    assert len(server.asked[-1]["messages"]) == 7, "the new model sees the whole conversation"


@BOTH
async def test_agent_streams_its_text_once(way, models):
    agent = create_agent(RoutedChatModel(models=models, router=rule), [add])
    asked = {"messages": [("user", "hard sum")]}
    if way == "sync":
        pieces = [chunk for chunk, _ in agent.stream(asked, stream_mode="messages")]
    else:
        pieces = [chunk async for chunk, _ in agent.astream(asked, stream_mode="messages")]
    assert "".join(piece.text for piece in pieces if piece.type == "AIMessageChunk") == "large has read: 3"


@BOTH
async def test_stream(way, models, server):
    model = RoutedChatModel(models=models, router=rule)
    chunks = list(model.stream("hard one")) if way == "sync" else [chunk async for chunk in model.astream("hard one")]
    message = chunks[0] + chunks[1:]
    assert message.text == "large has read: hard one"
    assert message.usage_metadata["input_tokens"] == 10
    assert message.usage_metadata["input_token_details"]["cache_read"] == 4
    assert message.response_metadata["model_provider"] == "openai"
    assert server.asked[0]["stream"] is True
    assert sum("agentroute" in chunk.response_metadata for chunk in chunks) == 1


@BOTH
async def test_events(way, models):
    model = RoutedChatModel(models=models, router=rule)
    if way == "sync":
        stream = model.stream_events("hard one", version="v3")
        text, message = "".join(stream.text), stream.output
    else:
        stream = await model.astream_events("hard one", version="v3")
        text, message = "".join([piece async for piece in stream.text]), await stream
    assert text == "large has read: hard one"
    assert routing_decision(message)["answered_by"] == "large"


@BOTH
@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("streamed", [False, True])
async def test_failover_between_servers(way, status, streamed, models, server):
    log = MemoryOutcomeLog()
    model = RoutedChatModel(models=models, outcome_log=log)
    server.failures["small"] = status
    if streamed:
        chunks = list(model.stream("x")) if way == "sync" else [chunk async for chunk in model.astream("x")]
        message = chunks[0] + chunks[1:]
    else:
        message = model.invoke("x") if way == "sync" else await model.ainvoke("x")
    assert message.text.strip() == "large has read: x"
    model.outcome_log.close()
    first, second = log
    assert (first.model, second.model) == ("small", "large")
    # The names before and since LangChain's own hierarchy of model errors.
    assert first.error in (
        {"RateLimitError", "OpenAIRateLimitError"} if status == 429 else {"InternalServerError", "OpenAIAPIError"}
    )
    assert second.usage.cache_read_tokens == 4


@BOTH
async def test_wrong_key_is_not_hidden(way, models, server):
    server.failures["small"] = 401
    model = RoutedChatModel(models=models)
    with pytest.raises(openai.AuthenticationError):
        model.invoke("x") if way == "sync" else await model.ainvoke("x")
    assert len(server.asked) == 1


@BOTH
async def test_dead_server_fails_over(way, models):
    with httpx.Client(trust_env=False, verify=False) as client:
        async with httpx.AsyncClient(trust_env=False, verify=False) as aclient:
            dead = ChatOpenAI(
                model="dead",
                base_url="http://127.0.0.1:9/v1",
                api_key="none",
                max_retries=0,
                http_client=client,
                http_async_client=aclient,
            )
            model = RoutedChatModel(models={"dead": dead, "small": models["small"]})
            message = model.invoke("x") if way == "sync" else await model.ainvoke("x")
    assert [one["model"] for one in routing_decision(message)["attempts"]] == ["dead", "small"]


class Answer(BaseModel):
    """An answer."""

    text: str


# Older versions of langchain-openai warn of their own parsed field.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@BOTH
async def test_structured_output_is_native(way, models, server):
    counter = UsageMetadataCallbackHandler()
    structured = RoutedChatModel(models=models, router=rule).with_structured_output(Answer, method="json_schema", strict=True)
    config = {"callbacks": [counter]}
    found = structured.invoke("hard", config) if way == "sync" else await structured.ainvoke("hard", config)
    assert found == Answer(text="as asked")
    assert server.asked[0]["response_format"]["json_schema"]["strict"] is True
    assert counter.usage_metadata["large"]["total_tokens"] == 15
