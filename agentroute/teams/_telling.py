"""What runs can tell of each role's models, and what they cannot: which roles varied on their own, and enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from agentroute.teams._additive import Observed

__all__ = ["Effect", "aliased", "centred"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]

_SMALLEST: Final = 1e-6
_TOGETHER: Final = " varied together with other roles, the mode or the kind of task"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one model adds in one role, against the mean of the role's models that have runs enough.

    Attributes:
        role: The role's position.
        column: The model's.
        runs: Runs in which it had the role.
        logit: What it adds to the logit of success; `None` = the runs cannot tell, and `verdict` says why.
        low: Lower end of the 95 % interval.
        high: Upper end.
        verdict: `"ok"`, `"not identifiable"` or `"too few runs"`.
    """

    role: int
    column: int
    runs: int
    logit: float | None
    low: float | None
    high: float | None
    verdict: str


def aliased(seen: Observed, runs: Places, few: int) -> dict[int, str]:
    """Roles of which runs cannot tell anything, and why: they hardly varied, or hardly but with something else.

    Args:
        seen: The n runs.
        runs: int64 [k, m], of each (role, model).
        few: Runs of a (role, model) below which nothing is said of it.
    """
    roles, width = runs.shape
    found = {role: "never varied" for role in range(roles) if np.count_nonzero(runs[role]) < 2}
    found |= dict.fromkeys(seen.silent, "never spoke")  # what it was given had no part in how the runs ended
    blocks = {role: centred(seen.columns[:, role], width) for role in range(roles) if role not in found}
    mode = centred(seen.modes, int(seen.modes.max(initial=0)) + 1)
    for role, own in blocks.items():
        others = [block for other, block in blocks.items() if other != role]
        rest = np.concatenate([*others, mode, seen.kinds - seen.kinds.mean(axis=0)], axis=1)
        known = runs[role] >= few
        if known.sum() == 1:
            found[role] = f"hardly varied: only one of its models has {few} runs"
        elif known.any():  # what rare models did is theirs: it tells nothing of the others
            told, alone = _told(own[:, known], np.concatenate([rest, own[:, ~known]], axis=1))
            if told < min(2.0 * few, alone / 2.0):
                found[role] = ("always" if told < _SMALLEST else "nearly always") + _TOGETHER
        elif np.linalg.matrix_rank(np.concatenate([rest, own], axis=1)) < sum(map(np.linalg.matrix_rank, (rest, own))):
            found[role] = "always" + _TOGETHER
    return found


def centred(columns: Places, width: int) -> Floats:
    """One column for each level, less its mean: float64 [n, width]."""
    flags = np.zeros((len(columns), width))
    flags[np.arange(len(columns)), columns] = 1.0
    found: Floats = flags - flags.mean(axis=0) if len(columns) else flags
    return found


def _told(own: Floats, rest: Floats) -> tuple[float, float]:
    """Sum of squares of the least known contrast of a role's models, beyond what the rest explains, and with nothing explained.

    A contrast of length 1 between two models that d runs set apart from the rest is worth about 2 d.
    """
    left = own - rest @ np.linalg.lstsq(rest, own, rcond=None)[0]
    contrasts = np.linalg.svd(np.ones((1, own.shape[1])))[2][1:].T  # orthonormal, each adds up to 0
    told, alone = (float(np.linalg.eigvalsh(contrasts.T @ one.T @ one @ contrasts)[0]) for one in (left, own))
    return told, alone
