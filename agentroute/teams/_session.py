"""One run of a team under its budget: whom to ask is decided anew before each call, and no more is spent than may be."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from agentroute.errors import BudgetError, ConfigError, OutcomeDroppedWarning, PriceUnknownError
from agentroute.teams._booking import Book, RoleCall, Standing
from agentroute.teams._budget import SLACK, Budget, RunBudget
from agentroute.teams._current import Entry, current_session, entered, left
from agentroute.teams._told import finished, plain, share_of
from agentroute.teams._values import NONE, Allocation, TeamRun
from agentroute.types import ModelCard, Query, Usage

if TYPE_CHECKING:
    from agentroute.teams._scope import Ceiling, Scope

__all__ = ["RoleCall", "TeamSession", "current_session"]

_TRIES: Final = 100
"""How often a budget may refuse what it says is there, before its word is taken for it."""


class TeamSession:
    """One run of a team; made by `RoleAllocator.session`.

    Before each call the money that is left is looked at anew. As long as what the team is still expected to need is there, each
    role keeps its model; else the best that still fits is decided for all roles that have still to speak. A model that failed
    for a role is not asked again for it. Safe to use from several threads and tasks at once.

    The budget is a hard bound, to within a billionth of it, where the most that a call can cost is known: its prompt is counted
    and its answer is limited. Elsewhere what most such calls stay below is set aside, and a call that costs more is booked as it
    is, and warned of.

    ```python
    with allocator.session("Plan a trip to Lima", budget=0.05) as session:
        call = session.begin("planner")
        answer = ask(call.model)
        call.settle(cost=0.004)
        session.finish(success=1.0)
    ```

    Args:
        scope: What it decides by.
        allocation: What was decided at first.
        query: The task.
        budget: What may be spent; `None` = whatever it takes.
        log: Told of the run at its end.
    """

    def __init__(
        self, scope: Scope, allocation: Allocation, query: Query, budget: Budget | None, log: Callable[[TeamRun], None]
    ) -> None:
        self.allocation = allocation
        self.query = query
        self.budget = budget
        self._scope = scope
        self._log = log
        self._lock = threading.Lock()
        self._ending = threading.RLock()
        self._deciding = threading.RLock()
        self._models = dict(allocation.models)
        self._book = Book(self._priced, allocation.models)
        # As the budget itself allows: what is left of it has been rounded too, and what a run costs is a sum of floats.
        self._slack = 0.0 if budget is None else SLACK * budget.left()
        self._started = time.perf_counter()
        self._over = False
        self._run: TeamRun | None = None
        self._logged = True
        self._entries: list[Entry] = []
        self._lost = False  # a block was left in another context than its own

    @property
    def models(self) -> Mapping[str, str]:
        """Role → model, as decided by now."""
        with self._lock:
            return dict(self._models)

    @property
    def roles(self) -> tuple[str, ...]:
        """All roles of the team, also those that were left out of this run."""
        return self._scope.roles

    @property
    def over(self) -> bool:
        """Whether the run has been ended."""
        return self._over

    @property
    def stray(self) -> bool:
        """Whether the run has been ended, and a block of it was left in another context than its own."""
        return self._over and self._lost

    def has(self, role: str | None) -> bool:
        """Whether a role takes part in this run: an optional one may have been left out.

        Raises:
            ConfigError: The team has no such role.
        """
        return role is not None and self._scope.chooser.team.role(role).name in self._models

    def may(self, role: str) -> frozenset[str]:
        """The models that a role may have at all.

        Raises:
            ConfigError: The team has no such role.
        """
        self._scope.chooser.team.role(role)
        return self._scope.may(role)

    def card(self, model: str) -> ModelCard | None:
        """What the team knows of a model; `None` = it does not know the model."""
        pool = self._scope.chooser.pool
        return pool.card(model) if model in pool.ids else None

    def answer(self, role: str | None, model: str, *, prompt: int) -> float | None:
        """Tokens to allow for an answer that nobody limits to a prompt of so many; `None` = as calls of the role usually cost."""
        return self._scope.answer(role, model, prompt, self.models)

    # --- calls ---

    def begin(
        self,
        role: str | None,
        *,
        ceiling: Ceiling | None = None,
        among: Collection[str] | None = None,
        model: str | None = None,
        decided: bool = True,
    ) -> RoleCall:
        """Decides whom to ask for a role, and sets aside what the call may cost.

        Args:
            role: By name; `None` = the call belongs to none, such as that of a tool: its model is not decided here, and what it
                costs counts for the run.
            ceiling: Model → the most USD that this call can cost with it; `None`, or giving `None` = unknown.
            among: The only models that can take this call; `None` = all that the role may have.
            model: Ask this one, whatever was decided; `None` = decide, for a role.
            decided: With `model`: whether the role has this model from here on in the run's record; else the call is a step on
                the way of the model that it has, as within a cascade.

        Raises:
            ConfigError: The team has no such role, the role was left out, or the session is over; neither a role nor a model.
            BudgetError: No model of the role fits into what is left.
            NoEligibleModelError: All models of the role have failed, or none can take the call.
            PriceUnknownError: There is a budget, and nobody knows what the role's models, or this one, cost.
        """
        if role is None and model is None:
            raise ConfigError("a call of no role needs model=: whom does it ask?")
        # As often as other runs take the money in between, until it is enough or too little.
        models: Mapping[str, str]
        # One after the other: two that decided by the same money would leave none to the roles that have still to speak.
        with self._deciding:
            for tries in count():
                at = self._standing(role)
                if role is None or model is not None:
                    models, usd = {}, self._asked_for(role, str(model), at, ceiling)
                else:
                    models, usd = self._scope.decide(role, at, most=ceiling, among=among)
                try:
                    reservation = None if self.budget is None else self.budget.reserve(usd)
                except BudgetError:
                    # Where somebody has given money back meanwhile, it may fit now.
                    if self.budget is None or (self.budget.left() >= at.left and (usd > self.budget.left() or tries >= _TRIES)):
                        raise
                    continue
                call = RoleCall(role, model or models[str(role)], self._book, reservation)
                with self._lock:
                    over = self._over
                    if not over:
                        # Only what has changed: another call may have been decided meanwhile.
                        self._models.update({name: one for name, one in models.items() if at.models[name] != one})
                        self._book.begin(call, given=None if role is None else call.model if decided else self._models[role])
                if over:
                    if reservation is not None:
                        reservation.release()
                    raise finished()
                return call
        raise AssertionError  # pragma: no cover  # it counts for ever

    def begin_check(self, role: str | None, model: str, ceiling: float | None) -> RoleCall:
        """Sets aside what judging an answer may cost; it is booked as a cost of the role's, and as no call of it.

        Args:
            role: By name; `None` = none.
            model: Whose answer is judged.
            ceiling: The most USD that it can cost; `None` = unknown, and nothing is set aside.

        Raises:
            BudgetError: Less than that is left.
            ConfigError: The session is over.
        """
        reservation = None if self.budget is None else self.budget.reserve(ceiling or 0.0)
        call = RoleCall(role, model, self._book, reservation, check=True)
        with self._lock:
            over = self._over
            if not over:
                self._book.begin(call)
        if over:
            if reservation is not None:
                reservation.release()
            raise finished()
        return call

    def model(self, role: str, *, ceiling: Ceiling | None = None, among: Collection[str] | None = None) -> str:
        """The model that a role would be asked with now; nothing is set aside. As for `begin`."""
        return self._scope.decide(role, self._standing(role), most=ceiling, among=among)[0][role]

    def held(self, role: str | None, *, ceiling: Ceiling | None = None) -> Ceiling:
        """Model → USD that would be set aside for a call of a role, or of none; `None` = nobody knows what it may cost."""
        return self._scope.held(role, self._standing(role), ceiling)

    def _standing(self, role: str | None) -> Standing:
        """How far the run has come, for a call of a role."""
        if role is not None:
            self._scope.chooser.team.role(role)
        left = math.inf if self.budget is None else self.budget.left()
        with self._lock:
            if self._over:
                raise finished()
            if role is not None and role not in self._models:
                raise ConfigError(f"the role {role!r} was left out of this run: ask session.has({role!r}) before it is called")
            return self._book.standing(self._models, left, self._slack)

    def _asked_for(self, role: str | None, model: str, at: Standing, ceiling: Ceiling | None) -> float:
        """USD to set aside for a call of a model that somebody insists on."""
        if self.budget is None:
            return 0.0
        usd = self._scope.held(role, at, ceiling)(model)
        if usd is None:
            raise PriceUnknownError([model])
        if usd > at.enough:
            what = "of no role" if role is None else f"for the role {role!r}"
            message = f"${at.left:.4g} are left, and a call of {model} {what} may need ${usd:.4g}"
            raise BudgetError(message, budget=at.left, cheapest=usd)
        return usd

    def _priced(self, model: str, usage: Usage) -> float | None:
        card = self.card(model)
        return None if card is None or card.price is None else card.price.cost(usage)

    # --- the end ---

    def score(self, role: str, score: float) -> None:
        """Says how good one role's part was, in [0, 1]. After the end of the run, the next `finish` records it.

        Raises:
            ConfigError: The role has not spoken.
        """
        self._book.score(role, score)

    def finish(self, success: float | None = None, *, error: BaseException | str | None = None, **metadata: Any) -> TeamRun:
        """Ends the run and records it.

        A success of a run in which no call was booked is warned of: as a rule, the calls were made where the session was not the
        current one. What such a run has cost is unknown.

        A later call tells what was not known at the first one: a success, scores, more metadata. The run is recorded again with
        them, under its id, and a log keeps the last word on an id. A call that tells nothing new gives the run as it is.

        Args:
            success: In [0, 1]; `None` = nobody can say yet. Once it is told it stays: another one is warned of.
            error: What went wrong with the run as a whole.
            **metadata: Plain JSON values to keep with the run.

        Raises:
            DataError: The success is outside [0, 1], or the metadata are no plain JSON; the run goes on.
        """
        if success is not None:
            success = share_of(success)
        if error is not None:
            metadata["error"] = error if isinstance(error, str) else type(error).__name__
        metadata = {name: plain(name, value) for name, value in metadata.items()}
        with self._ending:
            before = self._run
            with self._lock:
                self._over = True
            self._book.abandon()
            self._close()
            if before is None:
                run = self._told(success, metadata)
            else:
                if success is not None and before.success not in {None, success}:
                    told = f"this run was finished with success={before.success:g}, which it keeps: {success:g} is not recorded"
                    warnings.warn(told, OutcomeDroppedWarning, stacklevel=2)
                known = before.success if before.success is not None else success
                scored = self._book.scored(before.roles)
                new = (known, scored) != (before.success, before.roles) or not metadata.items() <= before.metadata.items()
                if not new and self._logged:
                    return before
                run = replace(before, success=known, roles=scored, metadata={**before.metadata, **metadata})
            silent = self._silent(run.metadata) and run.success is not None
            if silent:
                run = replace(run, cost=None)  # whatever was done was done elsewhere
            self._run = run
            self._logged = False
            try:
                self._log(run)
                self._logged = True
            except Exception as problem:  # declared fallback point: the log never fails the application's run
                told = f"a team's run was not recorded: {type(problem).__name__}: {problem}"
                warnings.warn(told, OutcomeDroppedWarning, stacklevel=2)
            if silent and (before is None or before.success is None):
                told = "no call of a role reached this session: call within its `with`, or in session.active() in threads"
                warnings.warn(told, OutcomeDroppedWarning, stacklevel=2)
            return run

    def _close(self) -> None:
        """Gives back what the run has not spent of a budget that it shares; where that fails, `finish` tries again."""
        try:
            if isinstance(self.budget, RunBudget):
                self.budget.close()
        except Exception as problem:  # declared fallback point: all that was set aside stays so
            warnings.warn(f"a shared budget was not told what a run has spent: {problem}", OutcomeDroppedWarning, stacklevel=3)

    def _told(self, success: float | None, metadata: Mapping[str, Any]) -> TeamRun:
        """The run as it is recorded."""
        # By intention to treat: what a role was first given is what it is judged by, for who took over is not to blame for the
        # failure, and were the chance dropped with each failure, only those that survived would be told from it. Once the money
        # has had a say, the models were not drawn with that chance.
        given, kept, parts, beside = self._book.told()
        drawn = self.allocation.propensity
        costs = [*(part.cost for part in parts.values()), beside]
        known = [cost for cost in costs if cost is not None]
        return TeamRun(
            query=self.query,
            models={role: given.get(role, NONE) for role in self.roles},
            mode=self.allocation.mode,
            success=success,
            cost=sum(known) if len(known) == len(costs) else None,
            booked=self._book.booked,
            latency=time.perf_counter() - self._started,
            roles=parts,
            propensity=drawn if kept and drawn < 1.0 else None,
            allocation_id=self.allocation.id,
            at=datetime.now(UTC),
            metadata=metadata,
        )

    def _silent(self, metadata: Mapping[str, Any]) -> bool:
        """Whether no call reached the session, though somebody was to speak, and nothing went wrong."""
        return bool(self._models) and not self._book.begun and "error" not in metadata

    @contextmanager
    def active(self) -> Iterator[Self]:
        """Makes it the current session within the block, and does not end it: for threads and callbacks without its context."""
        entry = entered(self)
        try:
            yield self
        finally:
            self._lost |= not left(entry)

    def __enter__(self) -> Self:
        """Makes it the current session."""
        self._entries.append(entered(self))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Ends the run if nobody has; a crash is recorded as one, and not as a failure of the task's."""
        self._leave()
        with self._ending:
            if self._run is not None:
                return
            try:
                self.finish(error=error)
            except Exception as problem:  # declared fallback point: what the application has raised is what it shall see
                told = f"a team's run was not recorded: {type(problem).__name__}: {problem}"
                warnings.warn(told, OutcomeDroppedWarning, stacklevel=2)

    def _leave(self) -> None:
        """Ends what this context's latest `with` began: several threads and tasks may be within one."""
        with self._lock:
            for entry in reversed(self._entries):
                if left(entry):
                    self._entries.remove(entry)
                    return
            # A generator may be closed in another context than its own, and there is nothing to end there.
            if self._entries:
                self._entries.pop()
                self._lost = True

    def __repr__(self) -> str:
        """Who does what by now."""
        told = ", ".join(f"{role}={model}" for role, model in self.models.items())
        return f"TeamSession({told})"
