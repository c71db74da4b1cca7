"""agentroute for LlamaIndex: LLMs that pick the right model for each call, answer and agent."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentroute.serving import SupportsPlan, SupportsRoute
    from llama_index.llms.agentroute.allocation import allocated, apply_static, memory_for, use_allocation
    from llama_index.llms.agentroute.askers import asker
    from llama_index.llms.agentroute.base import RoutedLLM
    from llama_index.llms.agentroute.cascade import CascadeLLM
    from llama_index.llms.agentroute.embeddings import LlamaIndexEmbedder
    from llama_index.llms.agentroute.events import ModelRouted, ModelRoutedEvent
    from llama_index.llms.agentroute.ledger import UsageLedger
    from llama_index.llms.agentroute.selectors import ModelSelector

    __version__: str

__all__ = [
    "CascadeLLM",
    "LlamaIndexEmbedder",
    "ModelRouted",
    "ModelRoutedEvent",
    "ModelSelector",
    "RoutedLLM",
    "SupportsPlan",
    "SupportsRoute",
    "UsageLedger",
    "__version__",
    "allocated",
    "apply_static",
    "asker",
    "memory_for",
    "use_allocation",
]

_HOMES = {
    "agentroute.serving": "SupportsPlan SupportsRoute",
    "llama_index.llms.agentroute.allocation": "allocated apply_static memory_for use_allocation",
    "llama_index.llms.agentroute.base": "RoutedLLM",
    "llama_index.llms.agentroute.askers": "asker",
    "llama_index.llms.agentroute.cascade": "CascadeLLM",
    "llama_index.llms.agentroute.embeddings": "LlamaIndexEmbedder",
    "llama_index.llms.agentroute.events": "ModelRouted ModelRoutedEvent",
    "llama_index.llms.agentroute.ledger": "UsageLedger",
    "llama_index.llms.agentroute.selectors": "ModelSelector",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

if not TYPE_CHECKING:  # a visible module-level __getattr__ would make every misspelt name type-check

    def __getattr__(name: str) -> Any:
        """Imports a name when it is asked for (PEP 562)."""
        if name == "__version__":
            from importlib.metadata import version

            return version("llama-index-llms-agentroute")
        if name not in _HOME_OF:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        return getattr(import_module(_HOME_OF[name]), name)

    def __dir__() -> list[str]:
        return sorted(__all__)
