"""What the package offers, and what importing it costs."""

import subprocess
import sys

import pytest

import langchain_agentroute
from langchain_agentroute import testing

PUBLIC = [
    "CascadeChatModel",
    "CascadeMiddleware",
    "LangChainEmbedder",
    "RoutedChatModel",
    "RoutingMiddleware",
    "SupportsPlan",
    "SupportsRoute",
    "__version__",
    "asker",
    "routing_decision",
]


def test_public_names():
    assert langchain_agentroute.__all__ == PUBLIC
    for name in PUBLIC:
        assert getattr(langchain_agentroute, name) is not None
    assert testing.__all__ == ["Reply", "ScriptedChatModel"]


def test_unknown_name():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = langchain_agentroute.nonsense


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_chat_model_needs_no_agents():
    heavy = "langchain", "langgraph", "faiss", "torch", "agentroute.router", "langchain_openai"
    code = f"import sys, langchain_agentroute; print([name for name in {heavy!r} if name in sys.modules])"
    assert run(code) == "[]"


def test_middlewares_without_langchain_say_what_to_install():
    code = """
import sys
sys.modules["langchain.agents.middleware"] = None
import langchain_agentroute
for name in ("RoutingMiddleware", "CascadeMiddleware"):
    try:
        getattr(langchain_agentroute, name)
    except ImportError as error:
        print(error)
"""
    advice = "RoutingMiddleware and CascadeMiddleware need LangChain's agents: pip install 'langchain-agentroute[agents]'"
    assert run(code).splitlines() == [advice, advice]
