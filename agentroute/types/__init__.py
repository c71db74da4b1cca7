"""The values that travel through the house: frozen, slotted, keyword-only.

Units, without exception: quality in [0, 1]; cost in USD; price in USD per million tokens; latency in seconds; embeddings
float32 unit rows; unknown is `None` or NaN, never 0.
"""

from agentroute.types._arrays import Matrix, Vectors
from agentroute.types._decisions import Candidate, DecidedBy, Decision, Estimate, Paradigm
from agentroute.types._models import ModelCard, Price, Usage
from agentroute.types._queries import Fingerprint, Outcome, Query
from agentroute.types._replies import Reply, Score, TokenLogprob, ToolCall
from agentroute.types._shared import new_id

__all__ = [
    "Candidate",
    "DecidedBy",
    "Decision",
    "Estimate",
    "Fingerprint",
    "Matrix",
    "ModelCard",
    "Outcome",
    "Paradigm",
    "Price",
    "Query",
    "Reply",
    "Score",
    "TokenLogprob",
    "ToolCall",
    "Usage",
    "Vectors",
    "new_id",
]
