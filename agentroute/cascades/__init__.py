"""Calling more than one model for one query: flows that decide, and the drivers that wait for them."""

from agentroute.cascades._climb import Limits, Next, Ordered, Pick, Plan, cascade, problem_of
from agentroute.cascades._flow import Attempt, Call, CascadeResult, Check, Flow, Step, adrive, drive, failover

__all__ = [
    "Attempt",
    "Call",
    "CascadeResult",
    "Check",
    "Flow",
    "Limits",
    "Next",
    "Ordered",
    "Pick",
    "Plan",
    "Step",
    "adrive",
    "cascade",
    "drive",
    "failover",
    "problem_of",
]
