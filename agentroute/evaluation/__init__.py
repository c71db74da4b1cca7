"""Evaluation: what routing would have scored, cost and taken on outcomes that it has not seen, and whether it is worth it."""

from agentroute.evaluation._cascaded import CascadeComparison, CascadeCurve, CascadePoint, CascadeVerdict, SignalAuroc
from agentroute.evaluation._cascades import compare_cascades
from agentroute.evaluation._diagnose import diagnose
from agentroute.evaluation._diagnosed import (
    Cascade,
    Degeneracy,
    Finding,
    Gaps,
    ModelCalibration,
    RoutingDiagnosis,
    Shift,
    TaskRow,
    Verdict,
    Vote,
)
from agentroute.evaluation._evaluate import ALL_BASELINES, Progress, evaluate
from agentroute.evaluation._frontier import exchange_rates, frontier, singles
from agentroute.evaluation._intervals import Interval, Statistic, bootstrap, means
from agentroute.evaluation._logged import LoggedDecisions
from agentroute.evaluation._replay import OffPolicy, PolicyValue, Refusal, off_policy
from agentroute.evaluation._results import Evaluation, FoldResult, Frontier, FrontierPoint, Replay, Row, Single
from agentroute.evaluation._splits import ByModel, ByQuery, ByTask, ByTime, Fold, KFold, Split

__all__ = [
    "ALL_BASELINES",
    "ByModel",
    "ByQuery",
    "ByTask",
    "ByTime",
    "Cascade",
    "CascadeComparison",
    "CascadeCurve",
    "CascadePoint",
    "CascadeVerdict",
    "Degeneracy",
    "Evaluation",
    "Finding",
    "Fold",
    "FoldResult",
    "Frontier",
    "FrontierPoint",
    "Gaps",
    "Interval",
    "KFold",
    "LoggedDecisions",
    "ModelCalibration",
    "OffPolicy",
    "PolicyValue",
    "Progress",
    "Refusal",
    "Replay",
    "RoutingDiagnosis",
    "Row",
    "Shift",
    "SignalAuroc",
    "Single",
    "Split",
    "Statistic",
    "TaskRow",
    "Verdict",
    "Vote",
    "bootstrap",
    "compare_cascades",
    "diagnose",
    "evaluate",
    "exchange_rates",
    "frontier",
    "means",
    "off_policy",
    "singles",
]
