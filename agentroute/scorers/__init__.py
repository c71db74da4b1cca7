"""Scorers: how good one answer looks, what it cost to find out, and why.

A scorer is anything with `name`, `needs`, `ceiling`, `score` and `ascore`; a plain function is made one by `as_scorer`.
"""

from agentroute.scorers._asking import Asker, AskerLike, as_asker
from agentroute.scorers._base import Scorer, ScorerLike, as_scorer
from agentroute.scorers._by_model import ByModel
from agentroute.scorers._calibration import Calibrated, Calibrator, Isotonic, Platt, cross_calibrate
from agentroute.scorers._checks import Finished, JsonSchemaCheck, NotEmpty, RegexCheck, ToolCallCheck, UnitTests
from agentroute.scorers._combined import All, Weighted
from agentroute.scorers._consistency import SelfConsistency
from agentroute.scorers._judge import CANARIES, Canary, CanaryReport, LLMJudge, acheck_canaries, check_canaries
from agentroute.scorers._logprobs import LogprobScorer
from agentroute.scorers._stated import SelfVerification, VerbalisedConfidence, Verified

__all__ = [
    "CANARIES",
    "All",
    "Asker",
    "AskerLike",
    "ByModel",
    "Calibrated",
    "Calibrator",
    "Canary",
    "CanaryReport",
    "Finished",
    "Isotonic",
    "JsonSchemaCheck",
    "LLMJudge",
    "LogprobScorer",
    "NotEmpty",
    "Platt",
    "RegexCheck",
    "Scorer",
    "ScorerLike",
    "SelfConsistency",
    "SelfVerification",
    "ToolCallCheck",
    "UnitTests",
    "VerbalisedConfidence",
    "Verified",
    "Weighted",
    "acheck_canaries",
    "as_asker",
    "as_scorer",
    "check_canaries",
    "cross_calibrate",
]
