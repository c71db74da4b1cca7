"""What a team is made of, what it was given, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, SupportsFloat, SupportsIndex, TypeAlias, TypeVar

from agentroute.errors import ConfigError, DataError
from agentroute.types import Query, Usage
from agentroute.types._shared import names, new_id

__all__ = ["NONE", "Allocation", "Growth", "Mode", "Role", "RoleUsage", "Team", "TeamRun", "amount", "only_runs", "whole"]

NONE = "none"
"""In the place of a model: the optional role is left out."""

Value = TypeVar("Value")

_UNKNOWN: Final = ": leave it None when it is unknown"

Growth: TypeAlias = Literal["none", "previous", "all"]
"""What of the others' answers each agent reads: nothing, the one before it, or all before it."""


def amount(value: object, name: str) -> float:
    """USD or seconds from any kind of number, such as NumPy's.

    Raises:
        ConfigError: It is none, or it is negative or infinite.
    """
    found = number(value)
    if not (found >= 0.0 and math.isfinite(found)):
        raise ConfigError(f"{name}={value!r} must be a number of 0 or more; leave it out when it is unknown")
    return found


def number(value: object) -> float:
    """The plain number of any kind of one, such as NumPy's; NaN = it is none."""
    if type(value) is float:
        return value  # nearly always, and soonest told
    if not isinstance(value, SupportsFloat) or isinstance(value, bool) or getattr(value, "ndim", None):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _named(what: str, name: object) -> None:
    if not (isinstance(name, str) and name):
        raise ConfigError(f"a {what} needs a name, not {name!r}")


def whole(value: object, name: str, least: int = 0) -> int:
    """A whole number of any kind, such as NumPy's.

    Raises:
        ConfigError: It is none, or it is less than that.
    """
    if not isinstance(value, SupportsIndex) or isinstance(value, bool) or value.__index__() < least:
        raise ConfigError(f"{name}={value!r} must be a whole number, {least} or more")
    return value.__index__()


def _all(what: str, kind: type[Value], given: object) -> tuple[Value, ...]:
    found = tuple(given) if isinstance(given, Iterable) else (given,)
    for one in found:
        if not isinstance(one, kind) or not isinstance(given, Iterable):
            name = kind.__name__
            raise ConfigError(f"a team's {what} are a list of {name}, not {one!r}: {what}=[{name}(name='...'), ...]")
    return found


def _asked(query: object) -> None:
    if not isinstance(query, Query):
        raise DataError(f"a run's query is a Query, not {query!r}: Query(text='...')")


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One agent's part in a team.

    Attributes:
        name: What the team calls it.
        description: What it does, in a sentence: from this a cold start tells which benchmarks matter for it.
        needs: Capabilities that its model must have, such as `"tools"`.
        optional: Whether the team can do without it.
        criticality: How much the team's success hangs on it, before any run has told; 1 = as much as on the others.
        input_tokens: Tokens of its prompt in one call, what the others said not counted.
        output_tokens: Tokens of its answer in one call.
        calls: Calls of its model in one run.
        model: The model that it always has; `None` = it is chosen.
        allow: The only models that it may have; `None` = all.

    Raises:
        ConfigError: A field is out of range.
    """

    name: str
    description: str = ""
    needs: frozenset[str] = frozenset()
    optional: bool = False
    criticality: float = 1.0
    input_tokens: float = 500.0
    output_tokens: float = 200.0
    calls: float = 1.0
    model: str | None = None
    allow: frozenset[str] | None = None

    def __post_init__(self) -> None:
        """Refuses roles that could never be filled or paid."""
        _named("role", self.name)
        object.__setattr__(self, "needs", names(self.needs, "needs"))
        if self.allow is not None:
            object.__setattr__(self, "allow", names(self.allow, "allow"))
        for name in ("criticality", "input_tokens", "output_tokens", "calls"):
            object.__setattr__(self, name, amount(getattr(self, name), f"role {self.name!r}: {name}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """How the agents of a team work together, as far as it changes tokens and calls.

    Attributes:
        name: What the team calls it.
        description: In a sentence.
        growth: What of the others' answers each agent reads.
        rounds: How often each agent speaks; from the second round on it reads what all said in the round before.
        reviews: Calls in which each agent looks again at its own answer, in each round.
        extra_tokens: Tokens that the mode adds to each prompt.

    Raises:
        ConfigError: A field is out of range.

    Source: Yue et al. 2025, MasRouter, arXiv:2502.11133, and what its topologies do in its code.
    """

    name: str
    description: str = ""
    growth: Growth = "none"
    rounds: int = 1
    reviews: int = 0
    extra_tokens: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what no team could do."""
        _named("mode", self.name)
        if self.growth not in {"none", "previous", "all"}:
            raise ConfigError(f"mode {self.name!r}: growth={self.growth!r} must be 'none', 'previous' or 'all'")
        for name, least in (("rounds", 1), ("reviews", 0)):
            object.__setattr__(self, name, whole(getattr(self, name), f"mode {self.name!r}: {name}", least))
        object.__setattr__(self, "extra_tokens", amount(self.extra_tokens, f"mode {self.name!r}: extra_tokens"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """Roles that work together, in the order in which they speak, and the ways in which they can.

    Attributes:
        roles: At least one.
        modes: At least one; the first is the usual one.

    Raises:
        ConfigError: There is no role or no mode, or two share a name.
    """

    roles: tuple[Role, ...]
    modes: tuple[Mode, ...] = (Mode(name="chain", growth="previous"),)

    def __post_init__(self) -> None:
        """Accepts any iterables, and checks the names."""
        object.__setattr__(self, "roles", _all("roles", Role, self.roles))
        object.__setattr__(self, "modes", _all("modes", Mode, self.modes))
        if not self.roles:
            raise ConfigError("a team needs at least one role: Team(roles=[Role(name='solver')])")
        if not self.modes:
            raise ConfigError("a team needs at least one mode; leave modes= out for the usual one")
        for what, found in (("role", self.roles), ("mode", self.modes)):
            called = [one.name for one in found]
            if len(set(called)) < len(called):
                raise ConfigError(f"two {what}s of the team are called {max(called, key=called.count)!r}: give each its own name")

    def role(self, name: str) -> Role:
        """The role of this name.

        Raises:
            ConfigError: There is none.
        """
        found = next((role for role in self.roles if role.name == name), None)
        if found is None:
            raise ConfigError(f"unknown role {name!r}: the team has {', '.join(repr(role.name) for role in self.roles)}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Allocation:
    """Which model each role of a team has for one task, and what is expected of it.

    Attributes:
        models: Role → model, of the roles that take part; an optional role that is left out is not among them.
        mode: How they work together.
        expected_quality: Chance that the team succeeds.
        quality_interval: Its 95 % interval. It holds for an allocation that was chosen for its chance, too, where effects are
            held as strongly as the runs tell (`RoleAllocator(ridge=None)`).
        expected_cost: Mean USD of a run; NaN where a price is unknown and nobody weighs cost.
        cost_upper: USD that 95 % of runs stay below, as far as logs tell; else the mean.
        budget: The budget that it was made for; `None` = none.
        propensity: The chance with which it was drawn; 1 = it was chosen.
        reasons: Role → why, in a sentence.
        exact: Whether no better allocation exists under the model; costs that were rounded up may hide one by a hair.
        fixed: The roles about which the caller has decided, not the allocator: a session keeps their models, or raises an error.
        id: The key under which its run is recorded.
    """

    models: Mapping[str, str]
    mode: str
    expected_quality: float
    quality_interval: tuple[float, float]
    expected_cost: float
    cost_upper: float
    budget: float | None = None
    propensity: float = 1.0
    reasons: Mapping[str, str] = field(default_factory=dict)
    exact: bool = True
    fixed: frozenset[str] = frozenset()
    id: str = field(default_factory=new_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleUsage:
    """What one role has taken in one run.

    Attributes:
        usage: Its tokens, of all its calls; `None` = unknown.
        cost: USD; `None` = unknown.
        latency: Seconds, of all its calls; `None` = unknown.
        calls: Calls of its model.
        score: How good its part was, in [0, 1], where somebody has said so.
        error: The class name of what went wrong last; `None` = nothing did.
        recovered: Whether a later call of it went well after that.
        models: Models that answered for it, in order, where there were others than the one that it was first given.

    Raises:
        DataError: A number is out of range.
    """

    usage: Usage | None = None
    cost: float | None = None
    latency: float | None = None
    calls: int = 1
    score: float | None = None
    error: str | None = None
    models: tuple[str, ...] = ()
    recovered: bool = False

    def __post_init__(self) -> None:
        """Checks the ranges."""
        for name, top in (("cost", math.inf), ("latency", math.inf), ("calls", math.inf), ("score", 1.0)):
            value = getattr(self, name)
            if (value is not None or name == "calls") and not (0.0 <= value <= top and math.isfinite(value)):
                raise DataError(f"{name}={value!r} of a role is outside [0, {top:g}]{_UNKNOWN if name != 'calls' else ''}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TeamRun:
    """One run of a team, and how it ended.

    Attributes:
        query: The task, with its embedding where it has one.
        models: Role → model that it was first given, whoever took over when it failed or the money ran short; `NONE` where an
            optional role was left out.
        mode: How they worked together.
        success: In [0, 1]; `None` = nobody has said yet.
        cost: USD of the whole run; `None` = unknown.
        booked: USD of the whole run at most: what its session has booked, which is all that was set aside for calls of unknown
            cost; `None` = unknown.
        latency: Seconds of the whole run; `None` = unknown.
        roles: Role → what it has taken.
        propensity: The chance with which these models and this mode were drawn together; `None` = unknown or not drawn, or the
            money has changed what was drawn.
        allocation_id: The allocation that it followed.
        at: When it ended.
        metadata: Plain JSON values to keep with the run.
        id: The run's own key; recording it twice counts it once.

    Raises:
        DataError: A number is out of range.
    """

    query: Query
    models: Mapping[str, str]
    mode: str = "chain"
    success: float | None = None
    cost: float | None = None
    latency: float | None = None
    roles: Mapping[str, RoleUsage] = field(default_factory=dict)
    propensity: float | None = None
    allocation_id: str | None = None
    at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=new_id)
    booked: float | None = None

    def __post_init__(self) -> None:
        """Checks the ranges."""
        _asked(self.query)
        for name, top in (("success", 1.0), ("cost", math.inf), ("booked", math.inf), ("latency", math.inf), ("propensity", 1.0)):
            value = getattr(self, name)
            if value is not None and not (0.0 <= value <= top and math.isfinite(value)):
                raise DataError(f"{name}={value!r} of a run is outside [0, {top:g}]{_UNKNOWN}")
        if self.propensity == 0.0:
            raise DataError("propensity=0 of a run: what was run had some chance; leave it None when it is unknown")


def only_runs(given: Iterable[object] | str | Path) -> list[TeamRun]:
    """The runs, of which each is one.

    Raises:
        DataError: One is not.
    """
    if isinstance(given, (str, Path)):
        raise DataError(f"a team learns from TeamRun values, not {given!r}: RunLog({str(given)!r}) reads them from a file")
    found = []
    for one in given:
        if not isinstance(one, TeamRun):
            raise DataError(f"a team learns from TeamRun values, not {one!r}")
        found.append(one)
    return found
