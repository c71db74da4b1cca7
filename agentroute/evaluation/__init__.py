"""Evaluation on held-out data: what routing would have scored, cost and taken, with the baselines beside it."""

from agentroute.evaluation._evaluate import Evaluation, Interval, Row, bootstrap, evaluate

__all__ = ["Evaluation", "Interval", "Row", "bootstrap", "evaluate"]
