"""agentroute for LangChain: chat models, and middlewares for agents, that pick the right model for each call."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

from agentroute.serving import SupportsPlan, SupportsRoute
from langchain_agentroute._record import routing_decision
from langchain_agentroute.askers import asker
from langchain_agentroute.cascades import CascadeChatModel
from langchain_agentroute.chat_models import RoutedChatModel
from langchain_agentroute.embeddings import LangChainEmbedder

if TYPE_CHECKING:
    from langchain_agentroute.middleware import CascadeMiddleware, RoutingMiddleware

__all__ = [
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

__version__ = metadata.version("langchain-agentroute")


def __getattr__(name: str) -> Any:
    """Imports a middleware when it is asked for: it needs `langchain`, and the chat models do not."""
    if name in {"CascadeMiddleware", "RoutingMiddleware"}:
        from langchain_agentroute import middleware

        return getattr(middleware, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
