"""What the calls of one run have taken: each is begun, ends but once, and is booked for its role."""

from __future__ import annotations

import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from agentroute.errors import ConfigError, OutcomeDroppedWarning
from agentroute.teams._budget import Reservation, overrun
from agentroute.teams._values import RoleUsage, amount, number
from agentroute.types import Usage

__all__ = ["Book", "RoleCall", "Standing"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standing:
    """How far a run has come.

    Attributes:
        models: Role → model, of those that take part, as decided by now.
        made: Role → calls that were begun and have not failed.
        failed: Roles with the models that failed for them.
        left: USD that nobody has spent or set aside; infinite = no budget.
        slack: USD beyond it that roundings may take.
    """

    models: Mapping[str, str]
    made: Mapping[str, int]
    failed: Collection[tuple[str, str]]
    left: float
    slack: float = 0.0

    @property
    def enough(self) -> float:
        """The most USD that can be set aside."""
        return self.left + self.slack


@dataclass(slots=True, eq=False)
class RoleCall:
    """One call of a role's model, for which money is set aside. End it with `settle`, `failed` or `release`; the first counts.

    Where the budget cannot be written, each raises its error, and what was set aside stays so. The call is on the run's record
    all the same: ending it again tells the budget what it has cost, and so does the end of the session.

    Attributes:
        role: The role; `None` = it belongs to none.
        model: Whom to ask.
    """

    role: str | None
    model: str
    _book: Book
    _reservation: Reservation | None
    check: bool = field(default=False, kw_only=True)
    _started: float = field(default_factory=time.perf_counter)

    @property
    def held(self) -> float | None:
        """USD that are set aside for it; `None` = there is no budget."""
        return None if self._reservation is None else self._reservation.usd

    def settle(self, *, usage: Usage | None = None, cost: float | None = None, latency: float | None = None) -> None:
        """The call is done: books what it took, and gives back what it did not need.

        Args:
            usage: Its tokens; `None` = unknown.
            cost: USD; `None` = as the tokens cost by the model's card, where both are known, else all that was set aside.
            latency: Seconds; `None` = since the call began.

        Raises:
            ConfigError: The cost or the latency is no number of 0 or more; the call goes on.
        """
        self._end(usage, cost, latency, None)

    def failed(
        self,
        error: BaseException | str,
        *,
        usage: Usage | None = None,
        cost: float | None = None,
        latency: float | None = None,
        again: bool = False,
    ) -> None:
        """The call failed: the role's next call goes to another model, where there is one.

        Args:
            error: What went wrong.
            usage: Tokens that were billed all the same.
            cost: USD that were; `None` = unknown, and then all that was set aside counts as spent. 0 = nothing was.
            latency: Seconds; `None` = since the call began.
            again: Whether the model may be asked again for the role, as where this call alone was too long for it.

        Raises:
            ConfigError: The cost or the latency is no number of 0 or more; the call goes on.
        """
        self._end(usage, cost, latency, error if isinstance(error, str) else type(error).__name__, again=again)

    def release(self) -> None:
        """The call was not made."""
        self._book.drop(self)
        self._pay()

    def _end(
        self, usage: Usage | None, cost: float | None, latency: float | None, error: str | None, *, again: bool = False
    ) -> None:
        # Before the call is off the book: else what is set aside for it would be held for ever.
        cost = None if cost is None else amount(cost, "cost")
        seconds = time.perf_counter() - self._started if latency is None else amount(latency, "latency")
        self._book.book(self, usage, cost, seconds, error, again=again)
        self._pay()

    def _pay(self) -> None:
        """Takes what it cost from the budget, unless somebody has; where that fails it is still to be taken."""
        usd = self._book.due(self)
        if usd is None or self._reservation is None:
            return
        try:
            more = self._reservation.pay(usd)
        except BaseException:
            if not self._reservation.ended:
                self._book.owes(self, usd)
            raise
        if more and self._book.news(self):
            whose = "of no role" if self.role is None else f"{'in' if self.check else 'for'} the role {self.role!r}"
            overrun(f"{'judging' if self.check else 'a call of'} {self.model} {whose}", usd, self._reservation.usd)


class Book:
    """The calls of one run, and what each role has taken. Safe to share between threads.

    Args:
        priced: USD that a model's tokens cost; `None` = unknown.
        planned: Role → the model that it was to have, of those that take part.

    Attributes:
        begun: Calls that were begun, checks among them.
        booked: USD of those that have ended, at most: all that was set aside where nobody knows; `None` = nothing was.
    """

    def __init__(self, priced: Callable[[str, Usage], float | None], planned: Mapping[str, str]) -> None:
        self.priced = priced
        self.planned = dict(planned)
        self._lock = threading.Lock()
        self._open: dict[RoleCall, str | None] = {}
        self._due: dict[RoleCall, float] = {}
        self._made: Counter[str] = Counter()
        self._failed: set[tuple[str, str]] = set()
        self._parts: dict[str, RoleUsage] = {}
        self._beside: float | None = 0.0  # USD of the calls that belong to no role
        # Of each role the models that its calls were given, those that failed for it, and those that answered.
        self._given: dict[str, dict[RoleCall, str]] = {}
        self._stumbled: set[tuple[str, str | None]] = set()
        self.begun = 0
        self.booked: float | None = 0.0
        self._moved: set[RoleCall] = set()  # given another model than planned, for which no failure is to blame
        self._answered: dict[str, list[str]] = {}
        self._above: set[tuple[str | None, str, bool]] = set()  # whose calls have cost more than was set aside for them

    def standing(self, models: Mapping[str, str], left: float, slack: float) -> Standing:
        """How far the run has come, where the roles have these models and so much money is left."""
        with self._lock:
            made, failed = Counter(self._made), frozenset(self._failed)
        return Standing(models=dict(models), made=made, failed=failed, left=left, slack=slack)

    def begin(self, call: RoleCall, *, given: str | None = None) -> None:
        """A call begins; `given` = the model that its role was given for it."""
        with self._lock:
            self._open[call] = given
            self.begun += 1
            if call.role is not None and given is not None:
                self._made[call.role] += 1
                self._given.setdefault(call.role, {})[call] = given
                planned = self.planned.get(call.role)
                if given != planned and (call.role, planned) not in self._stumbled:
                    self._moved.add(call)

    def drop(self, call: RoleCall) -> None:
        """A call ends that was not made; nothing where it has ended before."""
        with self._lock:
            if call not in self._open:
                return
            given = self._open.pop(call)
            if call.role is not None and given is not None:
                self._made[call.role] -= 1
                del self._given[call.role][call]
                self._moved.discard(call)
            self._due[call] = 0.0

    def book(
        self, call: RoleCall, usage: Usage | None, cost: float | None, latency: float, error: str | None, *, again: bool
    ) -> None:
        """A call ends that has taken so much; nothing where it has ended before."""
        with self._lock:
            if call not in self._open:
                return
            # Priced, off the open calls and booked at once: a run that ends waits for it, and has it in one place or the other.
            if cost is None and usage is not None:
                cost = self.priced(call.model, usage)
            del self._open[call]
            # Nobody knows what an unknown cost was, but at most what is set aside.
            most = call.held if cost is None else cost
            self._due[call] = most or 0.0
            self.booked = _sum(self.booked, most)
            if call.role is None:
                self._beside = _sum(self._beside, cost)
                return
            before = self._parts.get(call.role)
            if call.check:
                part = before or RoleUsage(cost=0.0, calls=0)
                self._parts[call.role] = replace(part, cost=_sum(part.cost, cost))
                return
            if error is None:
                self._answered.setdefault(call.role, []).append(call.model)
            else:
                self._made[call.role] -= 1  # it is still to be made, by whomever
                self._stumbled.add((call.role, call.model))
                if not again:
                    self._failed.add((call.role, call.model))
            self._parts[call.role] = _added(before, usage, cost, latency, error)

    def due(self, call: RoleCall) -> float | None:
        """USD that the budget has still to be told of a call, by whoever asks first; `None` = it has been."""
        with self._lock:
            return self._due.pop(call, None)

    def owes(self, call: RoleCall, usd: float) -> None:
        """The budget could not be told what a call has cost."""
        with self._lock:
            self._due[call] = usd

    def news(self, call: RoleCall) -> bool:
        """Whether no other call of its model for its role is known to have cost more than was set aside for it."""
        key = (call.role, call.model, call.check)
        with self._lock:
            known = key in self._above
            self._above.add(key)
        return not known

    def score(self, role: str, score: float) -> None:
        """How good a role's part was.

        Raises:
            ConfigError: The role has not spoken, or the score is outside [0, 1].
        """
        if not 0.0 <= number(score) <= 1.0:
            raise ConfigError(f"score={score!r} of the role {role!r} is no number in [0, 1]")
        with self._lock:
            if role not in self._parts:
                raise ConfigError(f"the role {role!r} has not spoken in this run, so that there is nothing to score")
            self._parts[role] = replace(self._parts[role], score=number(score))

    def scored(self, parts: Mapping[str, RoleUsage]) -> dict[str, RoleUsage]:
        """What roles have taken, with the scores that they have by now."""
        with self._lock:
            return {role: replace(part, score=self._parts[role].score) for role, part in parts.items()}

    def abandon(self) -> None:
        """Ends the calls that were begun and never ended: they may have been billed. Of others the budget may still be told."""
        with self._lock:
            left = [*self._open, *self._due]
        for call in left:
            try:
                call.failed("Abandoned")
            except Exception as problem:  # declared fallback point: the others are ended, and the run is told
                told = f"what a call has cost was not booked: {type(problem).__name__}: {problem}"
                warnings.warn(told, OutcomeDroppedWarning, stacklevel=4)

    def told(self) -> tuple[dict[str, str], bool, dict[str, RoleUsage], float | None]:
        """What is told of a run.

        Returns:
            Role → the model that it was first given, else the planned one; whether all had their planned models, failures aside;
            role → what it has taken; and USD of the calls that belong to no role, `None` = unknown.
        """
        with self._lock:
            given = {role: next(iter(self._given.get(role, {}).values()), model) for role, model in self.planned.items()}
            parts = {role: replace(part, models=self._others(role, given[role])) for role, part in self._parts.items()}
            return given, not self._moved, parts, self._beside

    def _others(self, role: str, given: str) -> tuple[str, ...]:
        """Who answered for a role, in order, where it was not only the model that it was given."""
        answered = tuple(dict.fromkeys(self._answered.get(role, ())))
        return answered if set(answered) - {given} else ()


def _sum(one: float | None, other: float | None) -> float | None:
    """A sum with an unknown part is unknown."""
    return None if one is None or other is None else one + other


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
        cost=_sum(before.cost, cost),
        latency=_sum(before.latency, latency),
        calls=before.calls + 1,
        error=error or before.error,
        recovered=error is None and before.error is not None,
    )
