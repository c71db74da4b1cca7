"""Estimators: what to expect of every model for a query, learned from logged outcomes."""

from agentroute.estimators._base import ESTIMATORS, Estimator, IncrementalEstimator
from agentroute.estimators._heads import LogisticEstimator, MLPEstimator
from agentroute.estimators._knn import KNNEstimator
from agentroute.estimators._mean import MeanEstimator

__all__ = [
    "ESTIMATORS",
    "Estimator",
    "IncrementalEstimator",
    "KNNEstimator",
    "LogisticEstimator",
    "MLPEstimator",
    "MeanEstimator",
]

ESTIMATORS["knn"] = KNNEstimator
ESTIMATORS["logistic"] = LogisticEstimator
ESTIMATORS["mean"] = MeanEstimator
ESTIMATORS["mlp"] = MLPEstimator
