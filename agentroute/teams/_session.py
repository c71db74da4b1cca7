"""One run of a team under its budget: whom to ask is decided anew before each call, and no more is spent than may be."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from agentroute.errors import BudgetError, ConfigError, NoEligibleModelError, OutcomeDroppedWarning
from agentroute.teams._budget import Budget, Reservation
from agentroute.teams._knapsack import solve
from agentroute.teams._values import NONE, Allocation, RoleUsage, TeamRun
from agentroute.types import Query, Usage

if TYPE_CHECKING:
    from agentroute.teams._allocator import RoleAllocator

__all__ = ["RoleCall", "Scope", "TeamSession", "current_session"]

_SESSION: ContextVar[TeamSession | None] = ContextVar("agentroute_team_session", default=None)


def current_session() -> TeamSession | None:
    """The session in whose `with` block, or in a task or thread begun there with its context, this runs; `None` = none."""
    return _SESSION.get()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scope:
    """What a session decides by: one row for each role that takes part, columns are the models and `NONE`.

    Attributes:
        roles: Their names, in the team's order.
        values: float64 [k, m + 1], what each model adds.
        costs: float64 [k, m + 1], USD of the role in the whole run, an upper estimate.
        allowed: bool [k, m + 1].
        calls: float64 [k], calls that each role is expected to make.
    """

    roles: tuple[str, ...]
    values: npt.NDArray[np.float64]
    costs: npt.NDArray[np.float64]
    allowed: npt.NDArray[np.bool_]
    calls: npt.NDArray[np.float64]


@dataclass(slots=True, eq=False)
class RoleCall:
    """One call of a role's model, for which money is set aside. End it with `settle` or `failed`.

    Attributes:
        role: The role.
        model: Whom to ask.
    """

    role: str
    model: str
    _session: TeamSession
    _reservation: Reservation | None
    _started: float = field(default_factory=time.perf_counter)
    _ended: bool = False

    def settle(self, *, usage: Usage | None = None, cost: float | None = None, latency: float | None = None) -> None:
        """The call is done: books what it took, and gives back what it did not need.

        Args:
            usage: Its tokens; `None` = unknown.
            cost: USD; `None` = unknown, and then all that was set aside counts as spent.
            latency: Seconds; `None` = since the call began.
        """
        self._end(usage=usage, cost=cost, latency=latency)

    def failed(self, error: BaseException | str, *, usage: Usage | None = None, cost: float | None = None) -> None:
        """The call failed: the role's next call goes to another model, where there is one.

        Args:
            error: What went wrong.
            usage: Tokens that were billed all the same.
            cost: USD that were; `None` = unknown, and then all that was set aside counts as spent. 0 = nothing was.
        """
        self._end(usage=usage, cost=cost, error=error if isinstance(error, str) else type(error).__name__)

    def release(self) -> None:
        """The call was not made."""
        if not self._ended:
            self._ended = True
            if self._reservation is not None:
                self._reservation.release()

    def _end(self, *, usage: Usage | None, cost: float | None, latency: float | None = None, error: str | None = None) -> None:
        if self._ended:
            return
        self._ended = True
        if self._reservation is not None:
            # Nobody knows what an unknown cost was, but at most this.
            self._reservation.settle(self._reservation.usd if cost is None else cost)
        seconds = time.perf_counter() - self._started if latency is None else latency
        self._session._booked(self, usage, cost, seconds, error)  # noqa: SLF001  # it is of this session


class TeamSession:
    """One run of a team; made by `RoleAllocator.session`.

    Before each call the money that is left is looked at anew. As long as what the other roles still need is there, each role
    keeps its model; else the best that still fits is decided for all roles that have still to speak. A model that failed for
    a role is not asked again for it. Safe to use from several threads and tasks at once.

    The budget is a hard bound where the most that a call can cost is known: its prompt is counted and its answer is limited.
    Elsewhere the cost model's upper estimate is set aside, and a call that costs more is booked as it is, and warned of.

    ```python
    with allocator.session("Plan a trip to Lima", budget=0.05) as session:
        call = session.begin("planner")
        answer = ask(call.model)
        call.settle(cost=0.004)
        session.finish(success=1.0)
    ```

    Args:
        allocator: Who decides.
        allocation: What was decided at first.
        query: The task.
        budget: What may be spent; `None` = whatever it takes.
        log: Told of the run at its end.
    """

    def __init__(
        self,
        allocator: RoleAllocator,
        allocation: Allocation,
        query: Query,
        budget: Budget | None,
        log: Callable[[TeamRun], None],
    ) -> None:
        self.allocation = allocation
        self.query = query
        self.budget = budget
        self._allocator = allocator
        self._log = log
        self._lock = threading.RLock()
        self._models = dict(allocation.models)
        self._failed: set[tuple[str, str]] = set()
        self._parts: dict[str, RoleUsage] = {}
        self._answered: dict[str, list[str]] = {}
        self._unknown = False
        self._open: set[RoleCall] = set()
        self._started = time.perf_counter()
        self._run: TeamRun | None = None
        self._token: Token[TeamSession | None] | None = None

    @property
    def models(self) -> Mapping[str, str]:
        """Role → model, as decided by now."""
        with self._lock:
            return dict(self._models)

    def has(self, role: str | None) -> bool:
        """Whether a role is one of the team's that take part."""
        return role is not None and role in self._models

    # --- calls ---

    def begin(self, role: str, *, ceiling: Callable[[str], float | None] | None = None) -> RoleCall:
        """Decides whom to ask for a role, and sets aside what the call may cost.

        Args:
            role: By name.
            ceiling: Model → the most USD that this call can cost with it; `None`, or giving `None` = unknown.

        Raises:
            ConfigError: The team has no such role, the role was left out, or the session is over.
            BudgetError: No model of the role fits into what is left.
            NoEligibleModelError: All models of the role have failed.
        """
        with self._lock:
            if self._run is not None:
                raise ConfigError("this session is finished: begin another one for the next run")
            self._allocator.team.role(role)
            if role not in self._models:
                raise ConfigError(f"the role {role!r} was left out of this run: see session.allocation")
        # As often as others take the money in between, until it is enough or too little.
        while True:
            left = float("inf") if self.budget is None else self.budget.left()
            with self._lock:
                model, cost = self._decided(role, ceiling, left)
            try:
                reservation = None if self.budget is None else self.budget.reserve(cost)
            except BudgetError:
                if self.budget is not None and self.budget.left() >= left:
                    raise
                continue
            call = RoleCall(role, model, self, reservation)
            with self._lock:
                self._open.add(call)
            return call

    def model(self, role: str) -> str:
        """The model that a role would be asked with now; nothing is set aside.

        Raises:
            ConfigError: The team has no such role, or it was left out.
            BudgetError: No model of the role fits into what is left.
        """
        self._allocator.team.role(role)
        with self._lock:
            if role not in self._models:
                raise ConfigError(f"the role {role!r} was left out of this run: see session.allocation")
            return self._decided(role, None, float("inf") if self.budget is None else self.budget.left())[0]

    def _decided(self, role: str, ceiling: Callable[[str], float | None] | None, left: float) -> tuple[str, float]:
        """The role's model, and what to set aside for its call."""
        scope = self._allocator.scope(self.query, self.allocation.mode, self._models)
        names = (*self._allocator.ids, NONE)
        waiting = [place for place, name in enumerate(scope.roles) if name == role or self._parts.get(name) is None]
        at = waiting.index(scope.roles.index(role))
        allowed = scope.allowed[waiting].copy()
        for place, other in enumerate(waiting):
            for column, model in enumerate(names):
                if (scope.roles[other], model) in self._failed:
                    allowed[place, column] = False
            # Who takes part is settled; a role that is waiting keeps its place.
            allowed[place, len(names) - 1] = False
        if not allowed[at].any():
            raise NoEligibleModelError({model: "failed in this run" for one, model in self._failed if one == role})
        costs = scope.costs[waiting].copy()
        share = scope.calls[waiting[at]]
        # Of this role only the call at hand is to be paid now; what later calls of it take is decided then.
        costs[at] = costs[at] / max(share, 1.0)
        if ceiling is not None:
            for column, model in enumerate(names[:-1]):
                most = ceiling(model) if allowed[at, column] else None
                if most is not None:
                    costs[at, column] = most
        now = np.array([names.index(self._models[scope.roles[place]]) for place in waiting])
        rows = np.arange(len(waiting))
        if allowed[rows, now].all() and costs[rows, now].sum() <= left:
            return self._models[role], float(costs[at, now[at]])
        chosen = self._again(scope.values[waiting], costs, allowed, left, role, at)
        for place, column in zip(waiting, chosen, strict=True):
            self._models[scope.roles[place]] = names[column]
        return self._models[role], float(costs[at, chosen[at]])

    def _again(
        self,
        values: npt.NDArray[np.float64],
        costs: npt.NDArray[np.float64],
        allowed: npt.NDArray[np.bool_],
        left: float,
        role: str,
        at: int,
    ) -> list[int]:
        """The best columns of the roles that have still to speak, for the money that is left."""
        open_ = allowed.any(axis=1)
        try:
            found = solve(values[open_], costs[open_], allowed[open_], left).choice.tolist()
        except BudgetError as error:
            cheapest = float(np.where(allowed[at], costs[at], np.inf).min())
            if cheapest > left:
                message = f"${left:.3g} are left, and the cheapest model of the role {role!r} needs ${cheapest:.3g}"
                raise BudgetError(message, budget=left, cheapest=cheapest) from error
            # Not all of them will speak: this one does, as cheaply as it can, for it is its turn.
            found = np.where(allowed, costs, np.inf).argmin(axis=1)[open_].tolist()
        columns = np.where(allowed, costs, np.inf).argmin(axis=1)
        columns[open_] = found
        return [int(column) for column in columns]

    def _booked(self, call: RoleCall, usage: Usage | None, cost: float | None, latency: float, error: str | None) -> None:
        with self._lock:
            self._open.discard(call)
            if error is not None:
                self._failed.add((call.role, call.model))
            before = self._parts.get(call.role)
            self._parts[call.role] = _added(before, usage, cost, latency, error)
            self._answered.setdefault(call.role, []).append(call.model)

    # --- the end ---

    def score(self, role: str, score: float) -> None:
        """Says how good one role's part was, in [0, 1].

        Raises:
            ConfigError: The role has not spoken.
        """
        with self._lock:
            if role not in self._parts:
                raise ConfigError(f"the role {role!r} has not spoken in this run, so that there is nothing to score")
            self._parts[role] = replace(self._parts[role], score=score)

    def finish(self, success: float | None = None, *, error: BaseException | str | None = None, **metadata: Any) -> TeamRun:
        """Ends the run and records it; a second call gives the same run.

        Args:
            success: In [0, 1]; `None` = nobody can say yet.
            error: What went wrong with the run as a whole.
            **metadata: Plain JSON values to keep with the run.
        """
        with self._lock:
            if self._run is not None:
                return self._run
            open_ = list(self._open)
        for call in open_:
            # Begun and never ended: it may have been billed.
            call.failed("Abandoned")
        with self._lock:
            if error is not None:
                metadata["error"] = error if isinstance(error, str) else type(error).__name__
            self._run = TeamRun(
                query=self.query,
                models={role.name: self._spoke_with(role.name) for role in self._allocator.team.roles},
                mode=self.allocation.mode,
                success=success,
                cost=self._cost(),
                latency=time.perf_counter() - self._started,
                roles={
                    name: replace(part, models=tuple(dict.fromkeys(self._answered.get(name, ()))))
                    for name, part in self._parts.items()
                },
                # Once the money or a failure has had a say, the models were not drawn with that chance.
                propensity=self.allocation.propensity if self._kept() else None,
                allocation_id=self.allocation.id,
                at=datetime.now(UTC),
                metadata=metadata,
            )
            run = self._run
        try:
            self._log(run)
        except Exception as problem:  # declared fallback point: the log never fails the application's run
            warnings.warn(f"a team's run was not recorded: {problem}", OutcomeDroppedWarning, stacklevel=2)
        return run

    def _spoke_with(self, role: str) -> str:
        answered = self._answered.get(role)
        return answered[-1] if answered else self._models.get(role, NONE)

    def _kept(self) -> bool:
        spoke = {role: set(models) for role, models in self._answered.items()}
        return all(spoke.get(role, {model}) == {model} for role, model in self.allocation.models.items())

    def _cost(self) -> float | None:
        costs = [part.cost for part in self._parts.values()]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None

    def __enter__(self) -> Self:
        """Makes it the current session."""
        self._token = _SESSION.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Ends the run if nobody has; a crash is recorded as one, and not as a failure of the task's."""
        if self._token is not None:
            _SESSION.reset(self._token)
            self._token = None
        self.finish(error=error)

    def __repr__(self) -> str:
        """Who does what by now."""
        told = ", ".join(f"{role}={model}" for role, model in self._models.items())
        return f"TeamSession({told})"


def _added(before: RoleUsage | None, usage: Usage | None, cost: float | None, latency: float, error: str | None) -> RoleUsage:
    """What a role has taken, with one more call; a sum with an unknown part is unknown."""
    if before is None:
        return RoleUsage(usage=usage, cost=cost, latency=latency, error=error)
    total = None
    if before.usage is not None and usage is not None:
        names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
        total = Usage(**{name: getattr(before.usage, name) + getattr(usage, name) for name in names})
    return replace(
        before,
        usage=total,
        cost=None if before.cost is None or cost is None else before.cost + cost,
        latency=None if before.latency is None else before.latency + latency,
        calls=before.calls + 1,
        error=error or before.error,
    )
