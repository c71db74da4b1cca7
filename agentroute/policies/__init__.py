"""Policies: which model to choose, given what is expected of each."""

from agentroute.policies._base import POLICIES, CalibratedPolicy, Policy, check_needs, decide
from agentroute.policies._budget import BudgetPolicy
from agentroute.policies._utility import UtilityPolicy

__all__ = ["POLICIES", "BudgetPolicy", "CalibratedPolicy", "Policy", "UtilityPolicy", "check_needs", "decide"]

POLICIES["budget"] = BudgetPolicy
POLICIES["utility"] = UtilityPolicy
