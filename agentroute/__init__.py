"""Choose the right language model for each call: learned from your own outcomes, under your budget, with honest numbers.

Give a `Router` your models and your log of outcomes; ask it which model should answer a query, and why. The plug-ins
(`langchain_agentroute`) put it behind the model that your framework already calls.

Nothing heavy is imported before it is used: the names below are looked up at first access (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from agentroute.errors import (
    AgentRouteError,
    AgentRouteWarning,
    AllModelsFailedError,
    ArtefactError,
    BudgetError,
    BudgetOverrunWarning,
    ConfigError,
    DataError,
    DeadlineExceededError,
    DuplicateModelError,
    EmbedderMismatchError,
    JudgeFailedWarning,
    LowSupportWarning,
    MissingExtraError,
    MissingSignalError,
    NoEligibleModelError,
    NotFittedError,
    OutcomeDroppedWarning,
    OutcomesSkippedWarning,
    PriceUnknownError,
    PriceUnknownWarning,
    RouterFailedWarning,
    StorageError,
    UnknownModelError,
)

if TYPE_CHECKING:
    from agentroute.embedders import CallableEmbedder, Embedder, SentenceTransformerEmbedder, StaticEmbedder
    from agentroute.estimators import Estimator, KNNEstimator, MeanEstimator
    from agentroute.outcomes import MemoryOutcomeLog, OutcomeLog, OutcomeTable, QueuedOutcomeLog, SqliteOutcomeLog
    from agentroute.policies import BudgetPolicy, Policy, UtilityPolicy
    from agentroute.pool import ModelPool
    from agentroute.prices import GenaiPrices, PriceBook, StaticPrices
    from agentroute.router import Explanation, Router
    from agentroute.types import Candidate, Decision, Estimate, Fingerprint, ModelCard, Outcome, Paradigm, Price, Query, Usage

    __version__: str

__all__ = [
    "AgentRouteError",
    "AgentRouteWarning",
    "AllModelsFailedError",
    "ArtefactError",
    "BudgetError",
    "BudgetOverrunWarning",
    "BudgetPolicy",
    "CallableEmbedder",
    "Candidate",
    "ConfigError",
    "DataError",
    "DeadlineExceededError",
    "Decision",
    "DuplicateModelError",
    "Embedder",
    "EmbedderMismatchError",
    "Estimate",
    "Estimator",
    "Explanation",
    "Fingerprint",
    "GenaiPrices",
    "JudgeFailedWarning",
    "KNNEstimator",
    "LowSupportWarning",
    "MeanEstimator",
    "MemoryOutcomeLog",
    "MissingExtraError",
    "MissingSignalError",
    "ModelCard",
    "ModelPool",
    "NoEligibleModelError",
    "NotFittedError",
    "Outcome",
    "OutcomeDroppedWarning",
    "OutcomeLog",
    "OutcomeTable",
    "OutcomesSkippedWarning",
    "Paradigm",
    "Policy",
    "Price",
    "PriceBook",
    "PriceUnknownError",
    "PriceUnknownWarning",
    "Query",
    "QueuedOutcomeLog",
    "Router",
    "RouterFailedWarning",
    "SentenceTransformerEmbedder",
    "SqliteOutcomeLog",
    "StaticEmbedder",
    "StaticPrices",
    "StorageError",
    "UnknownModelError",
    "Usage",
    "UtilityPolicy",
]

_HOMES = {
    "agentroute.embedders": "CallableEmbedder Embedder SentenceTransformerEmbedder StaticEmbedder",
    "agentroute.estimators": "Estimator KNNEstimator MeanEstimator",
    "agentroute.outcomes": "MemoryOutcomeLog OutcomeLog OutcomeTable QueuedOutcomeLog SqliteOutcomeLog",
    "agentroute.policies": "BudgetPolicy Policy UtilityPolicy",
    "agentroute.pool": "ModelPool",
    "agentroute.prices": "GenaiPrices PriceBook StaticPrices",
    "agentroute.router": "Explanation Router",
    "agentroute.types": "Candidate Decision Estimate Fingerprint ModelCard Outcome Paradigm Price Query Usage",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

if not TYPE_CHECKING:  # a visible module-level __getattr__ would make every misspelt name type-check

    def __getattr__(name: str) -> object:
        """Imports a public name from its room, once."""
        if name == "__version__":
            from importlib.metadata import version

            value: object = version("agentroute-sdk")
        elif name in _HOME_OF:
            value = getattr(import_module(_HOME_OF[name]), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__, "__version__"})
