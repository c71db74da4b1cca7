"""A scripted OpenAI-compatible server on loopback, and LlamaIndex's real clients for it."""

import json

import httpx
import pytest
from llama_index.core.instrumentation import get_dispatcher
from llama_index.llms.openai_like import OpenAILike

from agentroute.testing import ScriptedServer

ARGUMENTS = {
    "add": {"a": 1, "b": 2},
    "handoff": {"to_agent": "worker", "reason": "it is a sum"},
    "Answer": {"text": "as called"},
}


def answer(asked):
    """The first tool that was not called yet; else JSON when a schema is asked for, else words."""
    called = {call["function"]["name"] for said in asked["messages"] for call in said.get("tool_calls") or ()}
    for tool in asked.get("tools") or ():
        name = tool["function"]["name"]
        if name not in called:
            function = {"name": name, "arguments": json.dumps(ARGUMENTS[name])}
            call = {"id": f"call_{name}_{len(asked['messages'])}", "type": "function", "function": function}
            return {"tool_calls": [call]}
    if asked.get("response_format", {}).get("type") == "json_schema":
        return '{"text": "as asked"}'
    return f"{asked['model']} has read: {asked['messages'][-1]['content']}"


@pytest.fixture
def server():
    with ScriptedServer(answer) as server:
        yield server
    # Whatever a test does: nothing of ours reaches a provider.
    assert "agentroute" not in json.dumps(server.asked)


@pytest.fixture
async def client_of(server):
    """Makes a real client for a model. The connections are ours: no proxies from the environment, and closed at the end."""
    with httpx.Client(trust_env=False, verify=False) as client:
        async with httpx.AsyncClient(trust_env=False, verify=False) as aclient:

            def make(name, *, kind=OpenAILike, **options):
                given = {
                    "model": name,
                    "api_base": server.base_url,
                    "api_key": "a secret",
                    "is_chat_model": True,
                    "is_function_calling_model": True,
                    "context_window": 128_000,
                    "max_retries": 0,
                    "timeout": 20,
                }
                return kind(**given | options, http_client=client, async_http_client=aclient)

            yield make


@pytest.fixture
def llms(client_of):
    return {name: client_of(name) for name in ("small", "large")}


@pytest.fixture
def hearing():
    """Attaches a handler of events to LlamaIndex's root dispatcher for the time of a test."""
    dispatcher = get_dispatcher()
    before = list(dispatcher.event_handlers)

    def attach(handler):
        dispatcher.add_event_handler(handler)
        return handler

    yield attach
    dispatcher.event_handlers = before
