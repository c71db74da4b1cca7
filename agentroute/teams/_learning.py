"""What runs of a team teach: how strongly effects are held, whether they add up, and effects of pairs where they do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from agentroute.teams._additive import AdditiveLogit, Observed
from agentroute.teams._observing import levels
from agentroute.teams._pairs import PairwiseLogit, proven
from agentroute.teams._prior import CardPrior
from agentroute.teams._values import Team

__all__ = ["Learned", "learn", "made"]

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]
Effects = TypeVar("Effects", bound=AdditiveLogit)
Ridges: TypeAlias = tuple[float | None, float | None]

_SURE: Final = 0.01  # p-value below which a sum of effects is not believed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learned:
    """What was learned from runs.

    Attributes:
        sum: What models add.
        pairs: What pairs of models add, where a sum does not hold and they surely foretell better; else `None`.
        interaction: p-value of the test whether effects add up.
        unpaired: Why it goes by a sum although effects do not add up; empty = they add up, or it goes by pairs.
    """

    sum: AdditiveLogit
    pairs: PairwiseLogit | None
    interaction: float
    unpaired: str

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """What was learned, in plain JSON values and in arrays."""
        arrays = {f"sum_{name}": one for name, one in self.sum.state().items()}
        if self.pairs is not None:
            arrays |= {f"pairs_{name}": one for name, one in self.pairs.state().items()}
        return {"interaction": self.interaction, "unpaired": self.unpaired, "pairs": self.pairs is not None}, arrays

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Any],
        arrays: Arrays,
        team: Team,
        models: tuple[str, ...],
        prior: CardPrior,
        seen: Observed,
        ridges: Ridges,
    ) -> Learned:
        """What `state` described, learned from these runs; nothing is fitted anew."""

        def of(which: str) -> dict[str, npt.NDArray[np.float64]]:
            start = f"{which}_"
            return {
                name.removeprefix(start): np.asarray(one, np.float64) for name, one in arrays.items() if name.startswith(start)
            }

        kinds = seen.kinds.shape[1]
        pairs: PairwiseLogit | None = None
        if state["pairs"]:
            pairs = made(PairwiseLogit, team, models, prior, kinds, ridges).taught(seen, of("pairs"))
        effects = made(AdditiveLogit, team, models, prior, kinds, ridges).taught(seen, of("sum"))
        return cls(sum=effects, pairs=pairs, interaction=float(state["interaction"]), unpaired=str(state["unpaired"]))


def made(
    kind: type[Effects],
    team: Team,
    models: tuple[str, ...],
    prior: CardPrior,
    kinds: int,
    ridges: Ridges,
) -> Effects:
    """A model of a team that has seen no runs; ridges of effects and of those by kind, `None` = told by the runs."""
    counts, modes = levels(team, models), len(team.modes)
    return kind(counts, modes=modes, kinds=kinds, prior=prior.mean, ridge=ridges[0], kind_ridge=ridges[1])


def learn(
    team: Team,
    models: tuple[str, ...],
    prior: CardPrior,
    seen: Observed,
    *,
    ridges: Ridges,
    seed: int = 0,
) -> Learned:
    """Learns from runs, all at once.

    Args:
        team: Its roles and modes.
        models: In the order of the columns.
        prior: What the models' cards say.
        seen: The runs.
        ridges: Of effects, and of those in one kind of task; `None` = told by the runs.
        seed: Of what is drawn to tell whether effects add up.
    """
    kinds = seen.kinds.shape[1]
    effects = made(AdditiveLogit, team, models, prior, kinds, ridges).fit(seen)
    pairs: PairwiseLogit | None = None
    interaction, unpaired = effects.interaction(seed=seed), ""
    if interaction < _SURE:
        told = effects.ridges_  # told once: a model of pairs takes too long to be fitted with several
        pairs, unpaired = proven(
            lambda: made(PairwiseLogit, team, models, prior, kinds, told),
            lambda: made(AdditiveLogit, team, models, prior, kinds, told),
            seen,
            seed=seed,
        )
    return Learned(sum=effects, pairs=pairs, interaction=interaction, unpaired=unpaired)
