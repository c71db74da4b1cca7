"""Which assignments are to be judged: one model for all roles, the best fixed map, and the allocator's, at four budgets.

Run `python scripts/team/arms.py FOLDER > FOLDER/arms.json` when `FOLDER/runs.jsonl` holds the runs that were drawn at
random; only these are learned from.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from record import KINDS, MODELS, ROLES

from agentroute.collection import load_ladder, runs_of, team_spec
from agentroute.teams import NONE, RoleAllocator
from agentroute.types import Query

BUDGETS = (4e-5, 6e-5, 8e-5, 1e-4)
"""USD a run: from about what a team of the smallest model costs to less than one of the largest does."""


def _whole(models: Mapping[str, str]) -> dict[str, str]:
    return {role["name"]: models.get(role["name"], NONE) for role in ROLES}


def arms(folder: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Arm → kind of task → role → model."""
    cards = [entry.card for entry in load_ladder().entries]
    lines = (folder / "runs.jsonl").read_text(encoding="utf-8").splitlines()
    runs = runs_of(map(json.loads, lines), "random")
    team = team_spec()[0]
    found = {model: {kind: {role["name"]: model for role in ROLES} for kind in KINDS} for model in MODELS}
    ours = RoleAllocator(team, cards, runs=runs)
    # Without kinds of tasks one map is the best for all.
    fixed = RoleAllocator(team, cards, runs=[replace(run, query=Query(text="", id=run.query.id)) for run in runs])
    for budget in BUDGETS:
        found[f"fixed map, ${budget:g}"] = dict.fromkeys(KINDS, _whole(fixed.allocate("", budget=budget).models))
        asked = {kind: Query(text="", task=kind) for kind in KINDS}
        found[f"allocator, ${budget:g}"] = {kind: _whole(ours.allocate(asked[kind], budget=budget).models) for kind in KINDS}
    return found


if __name__ == "__main__":
    print(json.dumps(arms(Path(sys.argv[1])), indent=1))
