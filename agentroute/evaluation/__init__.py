"""Evaluation on held-out data: what routing would have scored, cost and taken, with the baselines beside it."""

from agentroute.evaluation._evaluate import Evaluation, Row, evaluate
from agentroute.evaluation._intervals import Interval, Statistic, bootstrap, means

__all__ = ["Evaluation", "Interval", "Row", "Statistic", "bootstrap", "evaluate", "means"]
