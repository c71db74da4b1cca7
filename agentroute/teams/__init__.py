"""Teams: every agent its own model, under one budget.

`RoleAllocator` gives each role of a team its model for a task; it works on the first day from models' cards, and gets better from
nothing but the success of whole runs. What learns is loaded when it is first used (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING

from agentroute.teams._session import RoleCall, TeamSession, current_session
from agentroute.teams._values import NONE, Allocation, Growth, Mode, Role, RoleUsage, Team, TeamRun

if TYPE_CHECKING:
    from agentroute.teams._allocator import RoleAllocator
    from agentroute.teams._budget import Budget, MemoryBudget
    from agentroute.teams._budget_file import SqliteBudget
    from agentroute.teams._costs import CostModel
    from agentroute.teams._designs import Credit, Replay, Trial, credits_of, exploration_plan, leave_one_out
    from agentroute.teams._judging import AllocationReport
    from agentroute.teams._learned import FitReport, RoleEffect
    from agentroute.teams._masrouter import MasRouterPolicy
    from agentroute.teams._masrouter_training import train_masrouter
    from agentroute.teams._runs import RunLog

__all__ = [
    "NONE",
    "Allocation",
    "AllocationReport",
    "Budget",
    "CostModel",
    "Credit",
    "FitReport",
    "Growth",
    "MasRouterPolicy",
    "MemoryBudget",
    "Mode",
    "Replay",
    "Role",
    "RoleAllocator",
    "RoleCall",
    "RoleEffect",
    "RoleUsage",
    "RunLog",
    "SqliteBudget",
    "Team",
    "TeamRun",
    "TeamSession",
    "Trial",
    "credits_of",
    "current_session",
    "exploration_plan",
    "leave_one_out",
    "train_masrouter",
]

_HOMES = {
    "_allocator": "RoleAllocator",
    "_budget": "Budget MemoryBudget",
    "_budget_file": "SqliteBudget",
    "_costs": "CostModel",
    "_designs": "Credit Replay Trial credits_of exploration_plan leave_one_out",
    "_judging": "AllocationReport",
    "_learned": "FitReport RoleEffect",
    "_masrouter": "MasRouterPolicy",
    "_masrouter_training": "train_masrouter",
    "_runs": "RunLog",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

if not TYPE_CHECKING:  # a visible module-level __getattr__ would make every misspelt name type-check

    def __getattr__(name: str) -> object:
        """Imports a name's module at first use."""
        if name not in _HOME_OF:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
