"""Calling more than one model for one query: flows that decide, and the drivers that wait for them."""

from agentroute.cascades._flow import Answered, Attempt, Call, Flow, adrive, drive, failover

__all__ = ["Answered", "Attempt", "Call", "Flow", "adrive", "drive", "failover"]
