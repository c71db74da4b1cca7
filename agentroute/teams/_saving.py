"""An allocator on disk: its team, its models' cards and what was observed, from which it learns the same again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agentroute.embedders import Embedder, as_embedder
from agentroute.errors import ArtefactError, EmbedderMismatchError
from agentroute.router import read_artefact, write_artefact
from agentroute.teams._additive import Observed
from agentroute.teams._costs import CostModel
from agentroute.teams._kinds import TaskKinds
from agentroute.teams._values import Mode, Role, Team
from agentroute.types import ModelCard, Price

if TYPE_CHECKING:
    from agentroute.teams._allocator import RoleAllocator

__all__ = ["load", "save"]


def save(allocator: RoleAllocator, folder: str | Path) -> None:
    """Writes an allocator; see `RoleAllocator.save`."""
    seen, kinds, costs = allocator.parts()
    config: dict[str, Any] = {
        "roles": [_plain(asdict(role)) for role in allocator.team.roles],
        "modes": [asdict(mode) for mode in allocator.team.modes],
        "cards": [_plain(asdict(card)) for card in allocator.pool],
        "willingness_to_pay": str(allocator.willingness_to_pay),  # JSON knows no infinity
        "task": allocator.task,
        "ridge": allocator.ridge,
        "kind_ridge": allocator.kind_ridge,
        "seed": allocator.seed,
        "drawn": allocator.drawn,
        "kinds": kinds.state(),
        "costs": costs.state(),
        # Clusters are of its vectors: another embedder's would fall anywhere.
        "embedder": str(as_embedder(allocator.embedder).fingerprint) if kinds.by_ == "cluster" else None,
    }
    arrays = {"columns": seen.columns, "modes": seen.modes, "kinds": seen.kinds, "success": seen.success}
    if seen.scores is not None:
        arrays["scores"] = seen.scores
    write_artefact(folder, config, arrays, kind="team")


def load(kind: type[RoleAllocator], folder: str | Path, *, embedder: Embedder | None, log: Any) -> Any:
    """The allocator that `save` wrote."""
    config, arrays = read_artefact(folder, kind="team")
    try:
        team = Team(roles=tuple(Role(**role) for role in config["roles"]), modes=tuple(Mode(**mode) for mode in config["modes"]))
        cards = [_card(card) for card in config["cards"]]
        made = kind(
            team,
            cards,
            willingness_to_pay=float(config["willingness_to_pay"]),
            embedder=embedder,
            task=config["task"],
            log=log,
            ridge=config["ridge"],
            kind_ridge=config["kind_ridge"],
            seed=config["seed"],
        )
        _check_embedder(config["embedder"], embedder)
        seen = Observed(
            columns=arrays["columns"],
            modes=arrays["modes"],
            kinds=arrays["kinds"],
            success=arrays["success"],
            scores=arrays.get("scores"),
        )
        made.adopt(
            np.asarray(config["drawn"]).item(),
            TaskKinds.from_state(config["kinds"]),
            CostModel.from_state(config["costs"], team, cards),
            seen,
        )
    except EmbedderMismatchError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ArtefactError(folder, f"holds something that this release cannot use ({error}); fit and save again") from error
    return made


def _check_embedder(found: str | None, embedder: Embedder | None) -> None:
    if found is not None and found != (given := str(as_embedder(embedder).fingerprint)):
        raise EmbedderMismatchError(found, given)


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """A dataclass as JSON values: its sets in order."""
    return {name: sorted(one) if isinstance(one, frozenset) else one for name, one in value.items()}


def _card(given: Mapping[str, Any]) -> ModelCard:
    price = given["price"]
    return ModelCard(**{**given, "price": None if price is None else Price(**price)})
