"""A scripted OpenAI-compatible server on loopback, and LangChain's real OpenAI client for it."""

import httpx
import pytest
from langchain_openai import ChatOpenAI

from agentroute.testing import ScriptedServer


def answer(asked):
    """A tool call when there are tools and no result yet, JSON when a schema is asked for, else words."""
    last = asked["messages"][-1]
    if asked.get("tools") and last["role"] != "tool":
        function = {"name": asked["tools"][0]["function"]["name"], "arguments": '{"a": 1, "b": 2}'}
        return {"tool_calls": [{"id": f"call_{len(asked['messages'])}", "type": "function", "function": function}]}
    if asked.get("response_format", {}).get("type") == "json_schema":
        return '{"text": "as asked"}'
    return f"{asked['model']} has read: {last['content']}"


@pytest.fixture
def server():
    with ScriptedServer(answer) as server:
        yield server


@pytest.fixture
async def models(server):
    # Clients of our own, which do not read proxies from the environment, and which are closed.
    with httpx.Client(trust_env=False, verify=False) as client:
        async with httpx.AsyncClient(trust_env=False, verify=False) as aclient:
            yield {
                name: ChatOpenAI(
                    model=name,
                    base_url=server.base_url,
                    api_key="none",
                    max_retries=0,
                    stream_usage=True,
                    http_client=client,
                    http_async_client=aclient,
                )
                for name in ("small", "large")
            }
