"""What a session begins with: the money of its run, and the allocation that a planned trial stands for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from agentroute.errors import ConfigError, NoEligibleModelError
from agentroute.teams._budget import Budget, MemoryBudget, RunBudget
from agentroute.teams._designs import Trial
from agentroute.teams._values import NONE, Allocation, Team, amount

__all__ = ["allocation_of", "given_of", "kept_of", "limit_of", "purse_of"]


def limit_of(budget: float | Budget | None, shared: Budget | None) -> float | None:
    """The USD that a session's run may be expected to cost; `None` = any.

    Raises:
        ConfigError: The budget is neither an amount nor a `Budget`, or it is no amount where one is shared beside it.
    """
    if shared is not None:
        if not isinstance(shared, Budget):
            raise ConfigError(f"shared={shared!r} must be a Budget, such as MemoryBudget(5.0)")
        if budget is None or isinstance(budget, Budget) or budget == math.inf:
            raise ConfigError(f"shared= needs budget= beside it, the USD that this run may spend of it, not {budget!r}")
    if budget is None or isinstance(budget, Budget):
        return None if budget is None else budget.left()
    return None if budget == math.inf else amount(budget, "budget")


def purse_of(budget: float | Budget | None, limit: float | None, shared: Budget | None) -> Budget | None:
    """The budget that a session spends from; from a shared one its part is set aside at once.

    Raises:
        BudgetError: Less than that is left of the shared budget.
    """
    if limit is None or isinstance(budget, Budget):
        return budget if isinstance(budget, Budget) else None
    return MemoryBudget(limit) if shared is None else RunBudget(limit, shared)


def allocation_of(trial: Trial, team: Team, allocate: Callable[..., Allocation]) -> Allocation:
    """The allocation with the models, the mode and the chance of a planned trial.

    Args:
        trial: The trial.
        team: Its roles.
        allocate: As `RoleAllocator.allocate`, for the task at hand.

    Raises:
        ConfigError: It is none of the team's: a role or a mode is unknown, or a role is left out that is not optional.
        UnknownModelError: One of its models is.
        NoEligibleModelError: A role's model cannot do the task.
    """
    for name in trial.models:
        team.role(name)
    models = {role.name: trial.models.get(role.name, NONE) for role in team.roles}
    for role in team.roles:
        if models[role.name] == NONE and not role.optional:
            raise ConfigError(f"the trial gives the role {role.name!r} no model, and it is not optional: plan with this team")
    try:
        found = allocate(fixed=models, mode=trial.mode)
    except NoEligibleModelError as error:
        error.add_note("a trial's models are kept to: give it a task that they can do, or plan anew")
        raise
    # It begins as planned, and what the money changes is on the run's record: no role is kept to its model at any price.
    return replace(found, propensity=trial.propensity, fixed=frozenset())


def given_of(allocation: Allocation) -> Allocation:
    """An allocation that the caller has, with the roles that take part alone.

    Raises:
        ConfigError: It is no allocation.
    """
    if not isinstance(allocation, Allocation):
        raise ConfigError(f"allocation={allocation!r} is no Allocation: give fixed={{role: model}} for models of your own")
    return replace(allocation, models={role: model for role, model in allocation.models.items() if model != NONE})


def kept_of(allocation: Allocation) -> dict[str, str]:
    """Role → the model that a session keeps to, of the roles that the caller has decided about."""
    return {role: model for role, model in allocation.models.items() if role in allocation.fixed}
