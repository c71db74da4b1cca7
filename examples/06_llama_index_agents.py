"""A team of two LlamaIndex agents, each with its own model, and an agent over a cascade: who answered, and what it took.

The models are played by a scripted server on this machine, to which LlamaIndex's real client talks; put the address and key of a
provider in its place.
"""

import asyncio
import json
from typing import Any

from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.instrumentation import get_dispatcher
from llama_index.llms.openai_like import OpenAILike

from agentroute import Price
from agentroute.testing import ScriptedServer
from agentroute.types import Reply
from llama_index.llms.agentroute import CascadeLLM, ModelRouted, RoutedLLM, UsageLedger, use_allocation

PRICES = {"small": Price(input=0.1, output=0.4), "large": Price(input=2.0, output=8.0)}
ARGUMENTS = {"handoff": {"to_agent": "adder", "reason": "it is a sum"}, "add": {"a": 31, "b": 11}}


def play(asked: dict[str, Any]) -> str | dict[str, Any]:
    """What a model says: it calls each of its tools once, and then tells the result; the small one is never sure of it."""
    called = {call["function"]["name"] for said in asked["messages"] for call in said.get("tool_calls") or ()}
    for tool in asked.get("tools") or ():
        name = tool["function"]["name"]
        if name not in called:
            function = {"name": name, "arguments": json.dumps(ARGUMENTS[name])}
            return {"tool_calls": [{"id": f"call_{name}", "type": "function", "function": function}]}
    told = asked["messages"][-1]["content"]
    return f"It may be {told}, I am not sure." if asked["model"] == "small" else f"It is {told}."


def add(a: int, b: int) -> int:
    """Adds two whole numbers."""
    return a + b


def client(name: str, address: str) -> OpenAILike:
    """LlamaIndex's own client. A stream tells its tokens only when it is asked to."""
    return OpenAILike(
        model=name,
        api_base=address,
        api_key="none",
        context_window=32_000,
        is_chat_model=True,
        is_function_calling_model=True,
        reuse_client=False,
        additional_kwargs={"stream_options": {"include_usage": True}},
    )


async def team(llms: dict[str, OpenAILike]) -> None:
    """One routed LLM, a handle of it for each role, and which model each role gets in this run."""
    llm = RoutedLLM(llms=llms)
    desk = FunctionAgent(name="desk", description="Sends people on.", llm=llm.for_role("desk"), can_handoff_to=["adder"])
    adder = FunctionAgent(name="adder", description="Adds.", tools=[add], llm=llm.for_role("adder"), can_handoff_to=[])
    workflow = AgentWorkflow(agents=[desk, adder], root_agent="desk")
    with use_allocation({"desk": "small", "adder": "large"}, run="team"):
        handler = workflow.run("What is 31 plus 11?")
    async for event in handler.stream_events():
        if isinstance(event, ModelRouted):
            print(f"{event.role} asks {event.model}: {event.reason}")
    print((await handler).response.content)


async def cascade(llms: dict[str, OpenAILike]) -> None:
    """The small model's tool call will do; its answer will not, so that the large one is asked, and only it is heard."""

    def sure(reply: Reply) -> bool:
        return "not sure" not in reply.text

    agent = FunctionAgent(tools=[add], llm=CascadeLLM(llms=llms, judge=sure, role="solo"))
    with use_allocation({}, run="cascade"):
        handler = agent.run("What is 31 plus 11?")
    print((await handler).response.content)


ledger = UsageLedger(prices=PRICES)
get_dispatcher().add_event_handler(ledger)
with ScriptedServer(play) as server:
    models = {name: client(name, server.base_url) for name in PRICES}
    asyncio.run(team(models))
    asyncio.run(cascade(models))
get_dispatcher().event_handlers.remove(ledger)
print(f"\n{ledger.to_markdown()}")
