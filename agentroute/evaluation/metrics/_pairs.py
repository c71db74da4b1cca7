"""RouteLLM's metrics of a weak and a strong model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError
from agentroute.evaluation.metrics._arrays import NOISE, Floats, Weights, array, grouped, ratio, shaped, weighing


def pgr(quality: npt.ArrayLike, weak: npt.ArrayLike, strong: npt.ArrayLike) -> Floats:
    """Performance gap recovered: (quality - weak) / (strong - weak); NaN where strong is not better than weak.

    Args:
        quality: Mean quality of the routed choice, any shape; the others must broadcast with it.
        weak: Mean quality of the weak model.
        strong: Mean quality of the strong model.

    Source: Ong et al. 2024, RouteLLM, arXiv:2406.18665, section 3.

    >>> float(pgr(0.75, 0.5, 1.0))
    0.5
    """
    parts = (("quality", quality), ("weak", weak), ("strong", strong))
    reached, low, high = (array(name, part, range(64), complete=False) for name, part in parts)
    found: Floats = ratio(reached - low, high - low, np.abs(low) + np.abs(high))[()]
    return found


def apgr(score: npt.ArrayLike, weak: npt.ArrayLike, strong: npt.ArrayLike, *, weights: Weights = None) -> Floats:
    """Average performance gap recovered: the area under PGR(f), f = the share of strong calls.

    The queries that want the strong model most get it first. f goes through 0, 1/n, …, 1 (not through ten bins, as in the
    paper's tables) and the area is the trapezoid's. Queries of equal score come in random order, so that the curve is its
    expectation: a straight line. A router without an idea has 0.5; an oracle may have more than 1, since PGR may.

    Args:
        score: float64 [n], how much each query wants the strong model; only its order counts.
        weak: float64 [n], quality of the weak model's answers.
        strong: float64 [n], quality of the strong model's answers.
        weights: float64 [n] or [b, n], how often each query counts.

    Returns:
        float64 []; NaN where the strong model is not better than the weak one.

    Source: Ong et al. 2024, RouteLLM, arXiv:2406.18665, section 3.

    >>> float(apgr([0.9, 0.1], [0, 1], [1, 1]))
    0.75
    >>> float(apgr([0, 0], [0, 1], [1, 1]))
    0.5
    """
    calls, gains, scale, batched = _ranked(score, weak, strong, weights)
    reached = np.cumsum(gains, axis=1)
    total, every = reached[:, -1], calls.sum(axis=1)
    below = np.vecdot(calls, reached) - np.vecdot(calls, gains) / 2.0
    return shaped(ratio(below, total * every, scale * every), batched)


def cpt(score: npt.ArrayLike, weak: npt.ArrayLike, strong: npt.ArrayLike, level: float, *, weights: Weights = None) -> Floats:
    """Call-performance threshold: the least share f of strong calls with PGR(f) ≥ `level`.

    f and PGR(f) are those of `apgr`. Multiply by 100 for the paper's tables.

    Args:
        score: float64 [n], how much each query wants the strong model; only its order counts.
        weak: float64 [n], quality of the weak model's answers.
        strong: float64 [n], quality of the strong model's answers.
        level: Share of the gap to recover, in [0, 1]; 0.8 for CPT(80 %).
        weights: float64 [n] or [b, n], how often each query counts; f is a multiple of 1 / Σ w.

    Returns:
        float64 [], in [0, 1]; NaN where the strong model is not better than the weak one.

    Raises:
        ConfigError: `level` is outside [0, 1].

    Source: Ong et al. 2024, RouteLLM, arXiv:2406.18665, section 3.

    >>> float(cpt([3, 2, 1, 0], [0, 0, 0, 1], [1, 1, 1, 1], 0.5))
    0.5
    """
    if not 0.0 <= level <= 1.0:
        raise ConfigError(f"level={level!r}: give the share of the gap to recover, between 0 and 1 (0.8 for 80 %)")
    calls, gains, scale, batched = _ranked(score, weak, strong, weights)
    reached, spent = np.cumsum(gains, axis=1), np.cumsum(calls, axis=1)
    total, every = reached[:, -1], spent[:, -1]
    # PGR that meets the level exactly must count as met although its sums are rounded.
    needed = level * total - NOISE * scale
    at = (reached >= needed[:, None]).argmax(axis=1)[:, None]
    here, gain, call, before = (np.take_along_axis(part, at, axis=1)[:, 0] for part in (reached, gains, calls, spent))
    with np.errstate(invalid="ignore", divide="ignore"):
        steps = np.ceil(before - call + (needed - (here - gain)) * call / gain)
        share = np.where(needed <= 0.0, 0.0, np.minimum(steps, every) / every)
    return shaped(np.where(total > NOISE * scale, share, np.nan), batched)


def _ranked(
    score: npt.ArrayLike, weak: npt.ArrayLike, strong: npt.ArrayLike, weights: Weights
) -> tuple[Floats, Floats, Floats, bool]:
    """Calls and gain in quality of each tie group [b, g] by falling score, Σ w |gain| [b], and whether there are resamples."""
    wanted = array("score", score, [1])
    low, high = (array(name, part, [1], like=wanted.shape) for name, part in (("weak", weak), ("strong", strong)))
    counted, batched = weighing(weights, len(wanted))
    calls, gains = grouped(counted, -wanted, [None, high - low])
    return calls, gains, counted @ np.abs(high - low), batched
