"""Teams: every agent its own model, under one budget."""

from agentroute.teams._values import NONE, Allocation, Growth, Mode, Role, RoleUsage, Team, TeamRun

__all__ = ["NONE", "Allocation", "Growth", "Mode", "Role", "RoleUsage", "Team", "TeamRun"]
