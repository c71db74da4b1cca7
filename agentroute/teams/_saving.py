"""Allocators on disk: the team and its models' cards, what was observed, and what was learned from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.embedders import Embedder, as_embedder
from agentroute.errors import ArtefactError, EmbedderMismatchError
from agentroute.pool import ModelPool
from agentroute.router import read_artefact, write_artefact
from agentroute.teams._additive import Observed
from agentroute.teams._costs import CostModel
from agentroute.teams._kinds import TaskKinds
from agentroute.teams._learning import Learned
from agentroute.teams._values import Mode, Role, Team
from agentroute.types import ModelCard, Price

if TYPE_CHECKING:
    from agentroute.teams._allocator import RoleAllocator

__all__ = ["check_embedder", "load", "opened_team", "save", "write_team"]

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]

_OWNERS: Final = ("RoleAllocator", "MasRouterPolicy")


def save(allocator: RoleAllocator, folder: str | Path) -> None:
    """Writes an allocator; see `RoleAllocator.save`."""
    seen, kinds, costs, learned = allocator.parts()
    config: dict[str, Any] = {
        "willingness_to_pay": str(allocator.willingness_to_pay),  # JSON knows no infinity
        "task": allocator.task,
        "ridge": allocator.ridge,
        "kind_ridge": allocator.kind_ridge,
        "seed": allocator.seed,
        "drawn": allocator.drawn,
        "broken": seen.broken,
        "silent": list(seen.silent),
        "kinds": kinds.state(),
        "costs": costs.state(),
        # Clusters are of its vectors: another embedder's would fall anywhere.
        "embedder": str(as_embedder(allocator.embedder).fingerprint) if kinds.by_ == "cluster" else None,
    }
    arrays: dict[str, npt.NDArray[Any]] = {
        "columns": seen.columns,
        "modes": seen.modes,
        "kinds": seen.kinds,
        "success": seen.success,
    }
    if seen.scores is not None:
        arrays["scores"] = seen.scores
    if len(seen):
        config["learned"], more = learned.state()
        arrays |= more
    write_team(folder, "RoleAllocator", allocator.team, allocator.pool, config, arrays)


def load(kind: type[RoleAllocator], folder: str | Path, *, embedder: Embedder | None, log: Any) -> Any:
    """The allocator that `save` wrote."""
    with opened_team(folder, "RoleAllocator") as (team, cards, config, arrays):
        made = kind(
            team,
            cards,
            willingness_to_pay=float(config["willingness_to_pay"]),
            embedder=embedder,
            task=config["task"],
            log=log,
            ridge=config["ridge"],
            kind_ridge=config["kind_ridge"],
        )
        # Its lots are drawn anew: several that load one folder must not draw the same ones.
        made.seed = config["seed"]
        check_embedder(config["embedder"], embedder)
        seen = Observed(
            columns=arrays["columns"],
            modes=arrays["modes"],
            kinds=arrays["kinds"],
            success=arrays["success"],
            scores=arrays.get("scores"),
            broken=np.asarray(config["broken"]).item(),
            silent=tuple(config.get("silent", ())),
        )
        learned = None  # no runs, or a folder of an earlier release
        if "learned" in config:
            ridges = made.ridge, made.kind_ridge
            learned = Learned.from_state(config["learned"], arrays, team, made.ids, made.prior, seen, ridges)
        made.adopt(
            np.asarray(config["drawn"]).item(),
            TaskKinds.from_state(config["kinds"]),
            CostModel.from_state(config["costs"], team, cards),
            seen,
            learned,
        )
        return made


def write_team(folder: str | Path, owner: str, team: Team, pool: ModelPool, config: Mapping[str, Any], arrays: Arrays) -> None:
    """Writes a folder that `opened_team` reads for the same owner.

    Args:
        folder: Where to.
        owner: The class that reads it.
        team: Roles and modes.
        pool: The models.
        config: What else the owner needs: JSON.
        arrays: Likewise, without Python objects.

    Raises:
        ArtefactError: The folder holds something else.
    """
    described = {
        "owner": owner,
        "roles": [_plain(asdict(role)) for role in team.roles],
        "modes": [asdict(mode) for mode in team.modes],
        "cards": [_plain(asdict(card)) for card in pool],
    }
    write_artefact(folder, {**config, **described}, arrays, kind="team")


@contextmanager
def opened_team(folder: str | Path, owner: str, /) -> Iterator[tuple[Team, list[ModelCard], dict[str, Any], Arrays]]:
    """The team, its models' cards, and what else an owner wrote; an error in the block is one of the folder.

    Raises:
        ArtefactError: The folder is damaged, foreign, of another owner, or from a later version.
        EmbedderMismatchError: The block says so.
    """
    config, arrays = read_artefact(folder, kind="team")
    if (found := config.get("owner")) != owner:
        if found not in _OWNERS:
            raise ArtefactError(folder, "holds something that this release cannot use; save it again")
        raise ArtefactError(folder, f"holds a {found}, not a {owner}: read it with {found}.load")
    try:
        team = Team(roles=tuple(Role(**role) for role in config["roles"]), modes=tuple(Mode(**mode) for mode in config["modes"]))
        yield team, [_card(card) for card in config["cards"]], config, arrays
    except EmbedderMismatchError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ArtefactError(folder, f"holds something that this release cannot use ({error}); save it again") from error


def check_embedder(found: str | None, embedder: Embedder | None) -> None:
    """Vectors of one embedder are not asked with another; `None` = there are no vectors.

    Raises:
        EmbedderMismatchError: They would be.
    """
    if found is not None and found != (given := str(as_embedder(embedder).fingerprint)):
        raise EmbedderMismatchError(found, given)


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """A dataclass as JSON values: its sets in order."""
    return {name: sorted(one) if isinstance(one, frozenset) else one for name, one in value.items()}


def _card(given: Mapping[str, Any]) -> ModelCard:
    price = given["price"]
    return ModelCard(**{**given, "price": None if price is None else Price(**price)})
