"""Calling more than one model for one query: flows that decide, the drivers that wait for them, and plans that learn.

The flow and its plain plans are loaded at once; what learns is loaded when it is first used, because routed calls need none
of it (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING

from agentroute.cascades._climb import Limits, Next, Ordered, Pick, Plan, cascade, problem_of
from agentroute.cascades._flow import Attempt, Call, CascadeResult, Check, Flow, Step, adrive, drive, failover

if TYPE_CHECKING:
    from agentroute.cascades._answers import AnswerTable, agreements, same_answer
    from agentroute.cascades._budgets import replay_budgets
    from agentroute.cascades._course import StateEstimates
    from agentroute.cascades._planner import CascadeRouting, draw_of
    from agentroute.cascades._plans import Planned, Straight
    from agentroute.cascades._posthoc import PostHocEstimator
    from agentroute.cascades._rational import RationalThresholds
    from agentroute.cascades._replay import CascadeReplay, replay
    from agentroute.cascades._router import CascadeRouter
    from agentroute.cascades._threshold import ThresholdCascade

__all__ = [
    "AnswerTable",
    "Attempt",
    "Call",
    "CascadeReplay",
    "CascadeResult",
    "CascadeRouter",
    "CascadeRouting",
    "Check",
    "Flow",
    "Limits",
    "Next",
    "Ordered",
    "Pick",
    "Plan",
    "Planned",
    "PostHocEstimator",
    "RationalThresholds",
    "StateEstimates",
    "Step",
    "Straight",
    "ThresholdCascade",
    "adrive",
    "agreements",
    "cascade",
    "draw_of",
    "drive",
    "failover",
    "problem_of",
    "replay",
    "replay_budgets",
    "same_answer",
]

_HOMES = {
    "_answers": "AnswerTable agreements same_answer",
    "_budgets": "replay_budgets",
    "_course": "StateEstimates",
    "_planner": "CascadeRouting draw_of",
    "_plans": "Planned Straight",
    "_posthoc": "PostHocEstimator",
    "_rational": "RationalThresholds",
    "_replay": "CascadeReplay replay",
    "_router": "CascadeRouter",
    "_threshold": "ThresholdCascade",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

if not TYPE_CHECKING:  # a visible module-level __getattr__ would make every misspelt name type-check

    def __getattr__(name: str) -> object:
        """Imports a name that learns from its module, once."""
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value
