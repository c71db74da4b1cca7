"""The runs of a team that ship with agentroute: three small models as planner, solver and critic, every run kept."""

from __future__ import annotations

import gzip
import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from agentroute.collection._ladder import load_ladder
from agentroute.collection._pool import PoolEntry
from agentroute.collection._tasks import Task
from agentroute.teams import Role, RoleUsage, Team, TeamRun
from agentroute.types import Price, Query, Usage

__all__ = ["RecordedTeam", "load_team", "runs_of", "team_spec"]

_INPUT_TOKENS, _OUTPUT_TOKENS = 100.0, 20.0
"""Of one call, about; the runs tell it better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTeam:
    """A team whose runs were recorded; `scripts/team/README.md` says how.

    Attributes:
        team: Planner, solver and an optional critic.
        prompts: Role → what it is told, with `{task}`, `{plan}` and `{answer}` to be filled in.
        max_tokens: Role → most tokens of its answer.
        entries: The models, smallest first, with declared prices.
        tasks: The tasks with their verifiers, by id.
        runs: Runs whose models were drawn at random, to learn from.
        held: Runs of other tasks, by the assignments that are to be judged.
        arms: Arm → kind of task → role → model: the assignments that are to be judged.
    """

    team: Team
    prompts: Mapping[str, str]
    max_tokens: Mapping[str, int]
    entries: tuple[PoolEntry, ...]
    tasks: Mapping[str, Task]
    runs: tuple[TeamRun, ...]
    held: tuple[TeamRun, ...]
    arms: Mapping[str, Mapping[str, Mapping[str, str]]]


def team_spec() -> tuple[Team, dict[str, str], dict[str, int]]:
    """The team that ships: the team itself, role → prompt, and role → most tokens of an answer."""
    rows = tomllib.loads((resources.files("agentroute") / "data" / "team.toml").read_text(encoding="utf-8"))["roles"]
    roles = tuple(
        Role(
            name=row["name"],
            description=row["description"],
            optional=row.get("optional", False),
            input_tokens=_INPUT_TOKENS,
            output_tokens=_OUTPUT_TOKENS,
        )
        for row in rows
    )
    prompts = {row["name"]: row["prompt"] for row in rows}
    return Team(roles=roles), prompts, {row["name"]: row["max_tokens"] for row in rows}


def runs_of(rows: Iterable[Mapping[str, Any]], part: str) -> tuple[TeamRun, ...]:
    """One part of the recorded rows as runs, with costs by the ladder's declared prices; what nobody told is unknown.

    Processor seconds by role, which are not how long anybody waited, are in a run's `metadata["cpu_seconds"]`.

    Args:
        rows: What `scripts/team/record.py` writes.
        part: `"random"` or `"held"`.
    """
    ladder = load_ladder()
    prices = {entry.card.id: entry.card.price for entry in ladder.entries}
    found = []
    for row in rows:
        if row["part"] != part:
            continue
        roles = {name: _part(told, prices[row["assignment"][name]]) for name, told in row["roles"].items()}
        costs = [part.cost for part in roles.values()]
        found.append(
            TeamRun(
                id=f"{row['task']} {json.dumps(row['assignment'])}",
                query=Query(text=ladder.tasks[row["task"]].prompt, id=row["task"], task=row["kind"]),
                models=row["assignment"],
                success=row["success"],
                cost=None if None in costs else math.fsum(cost for cost in costs if cost is not None),
                roles=roles,
                propensity=row["propensity"],
                metadata={"cpu_seconds": {name: told["cpu_seconds"] for name, told in row["roles"].items()}},
            )
        )
    return tuple(found)


def _part(told: Mapping[str, Any], price: Price | None) -> RoleUsage:
    """What a role has taken; an endpoint that told no tokens leaves them and their cost unknown."""
    if told["input_tokens"] is None or told["output_tokens"] is None:
        return RoleUsage()
    usage = Usage(input_tokens=told["input_tokens"], output_tokens=told["output_tokens"])
    return RoleUsage(usage=usage, cost=None if price is None else price.cost(usage))


def load_team() -> RecordedTeam:
    """Reads the runs that ship with the package."""
    data = resources.files("agentroute") / "data"
    team, prompts, max_tokens = team_spec()
    with resources.as_file(data / "team-runs.jsonl.gz") as path, gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    ladder = load_ladder()
    return RecordedTeam(
        team=team,
        prompts=prompts,
        max_tokens=max_tokens,
        entries=ladder.entries,
        tasks=ladder.tasks,
        runs=runs_of(rows, "random"),
        held=runs_of(rows, "held"),
        arms=json.loads((data / "team-arms.json").read_text(encoding="utf-8")),
    )
