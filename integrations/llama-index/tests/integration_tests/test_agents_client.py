"""Agents and workflows over LlamaIndex's real OpenAI-compatible client, against a scripted server on loopback."""

import asyncio
import json

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent, ToolCallResult
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ThinkingBlock, ToolCallBlock
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from agentroute.outcomes import MemoryOutcomeLog
from agentroute.types import Price
from llama_index.llms.agentroute import (
    CascadeLLM,
    ModelRouted,
    RoutedLLM,
    UsageLedger,
    apply_static,
    memory_for,
    use_allocation,
)

# Agents are workflows that look at all their attributes when they are made, pydantic's deprecated ones among them; and a
# ReActAgent asks for what its workflows library no longer wants to be asked.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pydantic.warnings.PydanticDeprecationWarning", "ignore:is_running called from within a step:DeprecationWarning"
)

STREAMING = pytest.mark.parametrize("streaming", [True, False])
PRICES = {"small": Price(input=1.0, output=2.0), "large": Price(input=10.0, output=20.0)}


class Answer(BaseModel):
    """An answer."""

    text: str


class Other(OpenAILike):
    """A client of another class: what one class writes, the other cannot be supposed to read."""


def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


ADD = FunctionTool.from_defaults(add)


@pytest.fixture
def told(client_of):
    """Clients that ask for the tokens of streams, too."""
    options = {"additional_kwargs": {"stream_options": {"include_usage": True}}}
    return {name: client_of(name, **options) for name in ("small", "large")}


def team(llm, *, streaming=True):
    """Two agents: one sorts, the other adds up."""
    triage = FunctionAgent(
        name="triage",
        description="Hands sums to the worker.",
        system_prompt="Hand over.",
        llm=llm.for_role("triage"),
        can_handoff_to=["worker"],
        streaming=streaming,
    )
    worker = FunctionAgent(
        name="worker",
        description="Adds.",
        system_prompt="Add.",
        tools=[ADD],
        llm=llm.for_role("worker"),
        can_handoff_to=[],
        streaming=streaming,
    )
    return AgentWorkflow(agents=[triage, worker], root_agent="triage")


async def watch(handler):
    """The events of a run, and what came of it."""
    seen = [event async for event in handler.stream_events()]
    return seen, await handler


def models(server):
    return [asked["model"] for asked in server.asked]


@STREAMING
async def test_a_handoff_between_agents_that_have_a_model_each(streaming, told, server, hearing):
    llm = RoutedLLM(llms=told, outcome_log=MemoryOutcomeLog())
    ledger = hearing(UsageLedger(prices=PRICES))
    with use_allocation({"triage": "small", "worker": "large"}, run="one"):
        handler = team(llm, streaming=streaming).run("What is 1 plus 2?")
    seen, result = await watch(handler)
    assert result.response.content.strip() == "large has read: 3"
    assert result.current_agent_name == "worker"
    assert models(server) == ["small", "large", "large"]
    assert [event.tool_output.content for event in seen if isinstance(event, ToolCallResult)][-1] == "3"
    routed = [(event.role, event.model, event.by, event.error) for event in seen if isinstance(event, ModelRouted)]
    assert routed == [
        ("triage", "small", "allocated", None),
        ("worker", "large", "allocated", None),
        ("worker", "large", "allocated", None),
    ]
    rows = {(row.run, row.role, row.model): row.spent for row in ledger.rows()}
    assert set(rows) == {("one", "triage", "small"), ("one", "worker", "large")}
    first, second = rows["one", "triage", "small"], rows["one", "worker", "large"]
    assert (first.calls, first.usage.input_tokens, first.usage.output_tokens) == (1, 10, 5)
    assert (second.calls, second.usage.input_tokens, second.usage.output_tokens) == (2, 20, 10)
    assert second.cost == pytest.approx(10 * first.cost * 2)
    assert llm.outcome_log.flush(5)
    assert [(one.query.role, one.model, one.usage.input_tokens) for one in llm.outcome_log] == [
        ("triage", "small", 10),
        ("worker", "large", 10),
        ("worker", "large", 10),
    ]


async def test_two_runs_of_one_workflow_at_once(told, server):
    workflow = team(RoutedLLM(llms=told))
    with use_allocation({"triage": "small", "worker": "large"}):
        one = workflow.run("sum one")
    with use_allocation({"triage": "large", "worker": "small"}):
        other = workflow.run("sum other")
    (seen, first), (seen_other, second) = await asyncio.gather(watch(one), watch(other))
    assert (first.response.content.strip(), second.response.content.strip()) == ("large has read: 3", "small has read: 3")
    assert [event.model for event in seen if isinstance(event, ModelRouted)] == ["small", "large", "large"]
    assert [event.model for event in seen_other if isinstance(event, ModelRouted)] == ["large", "small", "small"]
    asked = {json.dumps(one["messages"][1]): one["model"] for one in server.asked if len(one["messages"]) == 2}
    assert sorted(asked.values()) == ["large", "small"]


async def test_a_workflow_built_for_one_task(told, server):
    triage, worker = team(RoutedLLM(llms=told)).agents.values()
    agents = apply_static([triage, worker], {"triage": "large", "worker": "small"}, told)
    result = await AgentWorkflow(agents=agents, root_agent="triage").run("What is 1 plus 2?", memory=memory_for(agents))
    assert result.response.content.strip() == "small has read: 3"
    assert models(server) == ["large", "small", "small"]


async def test_a_failing_agent_model_is_stood_in_for(told, server):
    server.failures["large"] = 503
    with use_allocation({"triage": "small"}):
        handler = team(RoutedLLM(llms={"large": told["large"], "small": told["small"]}, failover=["small"])).run(
            "What is 1 plus 2?"
        )
    seen, result = await watch(handler)
    assert result.response.content.strip() == "small has read: 3"
    assert [(event.role, event.model, event.error) for event in seen if isinstance(event, ModelRouted)] == [
        ("triage", "small", None),
        ("worker", "large", None),
        ("worker", "small", "InternalServerError"),
        ("worker", "small", None),
    ]


@STREAMING
@pytest.mark.parametrize("kind", [OpenAILike, Other])
async def test_a_switch_in_the_middle_of_a_tool_loop(streaming, kind, client_of, server):
    """The new model sees the call and its result, in a form that its own client can send."""
    llms = {"small": client_of("small"), "large": client_of("large", kind=kind)}
    turns = iter(["small", "large"])
    saw = []

    def spy(messages, llm):
        saw.append(list(messages))
        return messages

    llm = RoutedLLM(llms=llms, router=lambda _: next(turns), sticky="none", prepare_messages=spy)
    result = await FunctionAgent(llm=llm, tools=[ADD], streaming=streaming).run("What is 1 plus 2?")
    assert result.response.content.strip() == "large has read: 3"
    assert models(server) == ["small", "large"]
    user, call, told = server.asked[1]["messages"]
    assert (user["role"], call["role"], told["role"]) == ("user", "assistant", "tool")
    assert json.loads(call["tool_calls"][0]["function"]["arguments"]) == {"a": 1, "b": 2}
    assert (told["content"], told["tool_call_id"]) == ("3", call["tool_calls"][0]["id"])
    (block,) = [block for block in saw[1][1].blocks if isinstance(block, ToolCallBlock)]
    assert block.tool_kwargs == {"a": 1, "b": 2}, "other clients refuse the string in which OpenAI's keeps them"
    if kind is Other:
        assert saw[1][1].additional_kwargs == {}
    assert set(call) <= {"role", "content", "tool_calls"}


async def test_the_loop_stays_with_its_model_by_itself(llms, server):
    turns = iter(["large", "small"])
    llm = RoutedLLM(llms=llms, router=lambda _: next(turns))
    await FunctionAgent(llm=llm, tools=[ADD]).run("What is 1 plus 2?")
    assert models(server) == ["large", "large"]


async def test_thoughts_do_not_reach_another_model(client_of, server):
    server.answers = lambda asked: {"content": f"from {asked['model']}", "reasoning_content": f"{asked['model']} thinks"}
    saw = {}

    def spy(messages, llm):
        saw[llm.model] = list(messages)
        return messages

    llm = RoutedLLM(llms={"small": client_of("small"), "large": client_of("large", kind=Other)}, prepare_messages=spy)
    question = ChatMessage(role=MessageRole.USER, content="x")
    first = await llm.achat([question], agentroute_model="small")
    assert any(isinstance(block, ThinkingBlock) for block in first.message.blocks)
    again = [question, first.message, question]
    await llm.achat(again, agentroute_model="large")
    await llm.achat(again, agentroute_model="small")
    kept = {name: any(isinstance(block, ThinkingBlock) for block in messages[1].blocks) for name, messages in saw.items()}
    assert kept == {"small": True, "large": False}
    assert any(isinstance(block, ThinkingBlock) for block in first.message.blocks), "the caller's message is left as it was"


@STREAMING
async def test_an_object_at_the_end_of_a_run(streaming, client_of, server):
    llms = {name: client_of(name, should_use_structured_outputs=True) for name in ("small", "large")}
    agent = FunctionAgent(llm=RoutedLLM(llms=llms), tools=[ADD], output_cls=Answer, streaming=streaming)
    result = await agent.run("What is 1 plus 2?")
    assert result.structured_response == {"text": "as asked"}
    assert server.asked[-1]["response_format"]["json_schema"]["name"] == "Answer"


@STREAMING
async def test_a_react_agent_over_models_that_call_no_tools(streaming, client_of, server):
    def say(asked):
        if "Observation: 3" in asked["messages"][-1]["content"]:
            return "Thought: I can answer without using any more tools.\nAnswer: It is 3."
        return 'Thought: I need a tool.\nAction: add\nAction Input: {"a": 1, "b": 2}'

    server.answers = say
    llms = {name: client_of(name, is_function_calling_model=False) for name in ("small", "large")}
    llm = RoutedLLM(llms=llms, router=lambda query: "large" if query.text == "What is 1 plus 2?" else "small")
    assert not llm.metadata.is_function_calling_model
    result = await ReActAgent(llm=llm, tools=[ADD], streaming=streaming).run("What is 1 plus 2?")
    assert "3" in result.response.content
    assert set(models(server)) == {"large"}, "every step is routed on the user's words, not on an observation"
    assert not any("tools" in asked for asked in server.asked)


@STREAMING
async def test_a_cascade_under_an_agent(streaming, told, server, hearing):
    """The small model's tool call is taken; its answer is not sure, so that the large one speaks, and only it is heard."""

    def say(asked):
        if asked["messages"][-1]["role"] == "tool":
            return "I am not sure." if asked["model"] == "small" else "It is 3."
        function = {"name": "add", "arguments": '{"a": 1, "b": 2}'}
        return {"tool_calls": [{"id": "call_1", "type": "function", "function": function}]}

    server.answers = say
    log = MemoryOutcomeLog()
    llm = CascadeLLM(llms=told, judge=lambda reply: "not sure" not in reply.text, outcome_log=log)
    ledger = hearing(UsageLedger())
    handler = FunctionAgent(name="adder", llm=llm, tools=[ADD], streaming=streaming).run("What is 1 plus 2?")
    seen, result = await watch(handler)
    assert result.response.content.strip() == "It is 3."
    assert models(server) == ["small", "small", "large"]
    assert not any("not sure" in (getattr(event, "delta", None) or "") for event in seen)
    assert [event.tool_output.content for event in seen if isinstance(event, ToolCallResult)] == ["3"]
    llm.outcome_log.close()
    assert [(one.model, one.metadata["accepted"], one.usage.input_tokens) for one in log] == [
        ("small", True, 10),
        ("small", False, 10),
        ("large", True, 10),
    ]
    assert {model: spent.calls for model, spent in ledger.totals("model").items()} == {"small": 2, "large": 1}


async def test_a_failing_model_of_a_cascade_is_passed_over_in_an_agent(llms, server):
    server.failures["small"] = 429
    result = await FunctionAgent(llm=CascadeLLM(llms=llms), tools=[ADD]).run("What is 1 plus 2?")
    assert result.response.content.strip().endswith("has read: 3")
    assert models(server)[:2] == ["small", "large"]
