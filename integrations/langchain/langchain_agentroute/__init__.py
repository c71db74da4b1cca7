"""agentroute for LangChain: chat models, and middlewares for agents, that pick the right model for each call."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

from langchain_agentroute._cascading import SupportsPlan
from langchain_agentroute._deciding import SupportsRoute
from langchain_agentroute._record import routing_decision
from langchain_agentroute.cascades import CascadeChatModel
from langchain_agentroute.chat_models import RoutedChatModel
from langchain_agentroute.embeddings import LangChainEmbedder

if TYPE_CHECKING:
    from langchain_agentroute.middleware import RoutingMiddleware

__all__ = [
    "CascadeChatModel",
    "LangChainEmbedder",
    "RoutedChatModel",
    "RoutingMiddleware",
    "SupportsPlan",
    "SupportsRoute",
    "__version__",
    "routing_decision",
]

__version__ = metadata.version("langchain-agentroute")


def __getattr__(name: str) -> Any:
    """Imports the middleware when it is asked for: it needs `langchain`, and the chat model does not."""
    if name == "RoutingMiddleware":
        from langchain_agentroute.middleware import RoutingMiddleware

        return RoutingMiddleware
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
