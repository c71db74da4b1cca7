"""Policies: which model to choose, given what is expected of each."""

from agentroute.policies._base import POLICIES, CalibratedPolicy, Policy, decide
from agentroute.policies._budget import BudgetPolicy
from agentroute.policies._utility import UtilityPolicy

__all__ = ["POLICIES", "BudgetPolicy", "CalibratedPolicy", "Policy", "UtilityPolicy", "decide"]

POLICIES["budget"] = BudgetPolicy
POLICIES["utility"] = UtilityPolicy
