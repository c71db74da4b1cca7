"""Thresholds from a model of the confidences, for logs that are too small to try thresholds on."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agentroute.cascades._threshold import ChainLog, ChainPolicy

__all__ = ["RationalThresholds"]

Floats = npt.NDArray[np.float64]

_CELLS = 120  # of the smooth part of a confidence's distribution: thresholds between them are as good as continuous
_ATOM = 3  # equal values at an end that are a lump and no accident
_MIXED = 30  # smooth values from which two components are fitted; fewer cannot tell them apart
_STEPS = 200
_MOST_PAIRS = 500  # rows that a rank correlation is taken of
_FEWEST = 4


class RationalThresholds(ChainPolicy):
    """Thresholds that are best under a smooth model of the confidences, not the best of those tried: for small logs.

    With thirty logged queries the best threshold of a grid is the luckiest one. Here each confidence, which must be calibrated,
    has a distribution of few parameters (lumps at both ends, between them a mixture of scaled betas), each depends on that of the
    model before it through a Gumbel copula (one parameter), and quality and cost of all thresholds follow by integration:
    what is taken has the quality that its confidence says. The best thresholds are found by searching a grid that is far finer
    than the data, in which nothing is tried on single queries.

    It relies on the confidences, where `ThresholdCascade` looks at what was right: once there are a few hundred queries, or where
    confidences are not calibrated, that one is the better choice.

    Args:
        budget: Most USD a query, on average over queries like those of the log; `None` = no limit.
        willingness_to_pay: USD that one unit of quality is worth; infinity = the best quality within the budget.
        longest: Models in a chain at most, up to three.

    Raises:
        ConfigError: An option is out of range.

    Source: Zellinger and Thomson 2025, Rational Tuning of LLM Cascades via Probabilistic Modeling, TMLR, arXiv:2501.09345
    (sections 3 and 4). Other than there, a chain's last model is not asked for its own confidence but has the quality that is
    expected of it after the answers before; its thresholds are searched, not descended to; and few values get one beta.
    """

    kind = "rational"
    how = "probabilistic model"

    def _settings(self, columns: tuple[int, ...], log: ChainLog) -> tuple[Floats, Floats, Floats]:
        c = log.price(columns).mean(axis=0)
        if len(columns) == 1:
            return np.empty((1, 0)), log.expected(())[:, list(columns)].mean(axis=0), c
        last = log.expected(columns[:-1])[:, columns[-1]]
        values = [log.score(columns[: place + 1]) for place in range(len(columns) - 1)] + [last]
        spread = [Confidence.of(value) for value in values]
        bonds = [gumbel_theta(one, other) for one, other in itertools.pairwise(values)]
        if len(columns) == 2:
            taken, on = spread[0].above(), spread[0].below
            return spread[0].cuts[:, None], taken + _carried(spread[0], spread[1], bonds[0])[:, 0], c[0] + on * c[1]
        # Rows are the first threshold, columns the second.
        on = gumbel(spread[0].below[:, None], spread[1].below, bonds[0])
        third = _carried(spread[1], spread[2], bonds[1])[:, 0]
        each = np.divide(third, spread[1].below, out=np.zeros_like(third), where=spread[1].below > 0.0)
        gained = spread[0].above()[:, None] + _carried(spread[0], spread[1], bonds[0]) + on * each
        spent = c[0] + spread[0].below[:, None] * c[1] + on * c[2]
        cuts = np.stack(np.meshgrid(spread[0].cuts, spread[1].cuts, indexing="ij"), axis=-1)
        return cuts.reshape(-1, 2), gained.ravel(), spent.ravel()


def _carried(first: Confidence, second: Confidence, theta: float) -> Floats:
    """E[second; first below its threshold, second not below its own], float64 [thresholds, thresholds]."""
    joint = gumbel(first.below[:, None], np.concatenate([second.below, [1.0]]), theta)
    mass = np.diff(joint, axis=1) * second.values
    return np.asarray(mass[:, ::-1].cumsum(axis=1)[:, ::-1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Confidence:
    """The distribution of a confidence: k values that rise, with their chances.

    Attributes:
        values: float64 [k].
        chances: float64 [k], sum 1.
        cuts: float64 [k], thresholds: cut i lies between value i - 1 and value i.
        below: float64 [k], the chance to be below each cut.
    """

    values: Floats
    chances: Floats
    cuts: Floats
    below: Floats

    @classmethod
    def of(cls, seen: Floats) -> Confidence:
        """From observed confidences, float64 [n] in [0, 1]."""
        low, high = float(seen.min()), float(seen.max())
        if high - low < 1e-9:
            return cls(values=np.array([low]), chances=np.ones(1), cuts=np.array([low]), below=np.zeros(1))
        ends = [(seen == end).mean() if (seen == end).sum() >= _ATOM else 0.0 for end in (low, high)]
        inner = seen[~(((seen == low) & (ends[0] > 0.0)) | ((seen == high) & (ends[1] > 0.0)))]
        left, right = low, high
        if len(inner):
            # The smooth part reaches a little beyond what was seen of it, as far as neighbours lie apart, up to a lump.
            margin = float(np.ptp(inner)) / (len(inner) + 1)
            left = max(float(inner.min()) - margin, low if ends[0] else 0.0)
            right = min(float(inner.max()) + margin, high if ends[1] else 1.0)
        if right - left < 1e-9:
            left, right = max(left - 1e-6, low), min(right + 1e-6, high)
        edges = np.linspace(left, right, _CELLS + 1)
        middles = (edges[1:] + edges[:-1]) / 2.0
        smooth = _mixture((inner - left) / (right - left)) if len(inner) else np.zeros(_CELLS)
        values, cuts, chances = middles, edges[:-1], (1.0 - sum(ends)) * smooth
        if ends[0]:
            # The second cut is just above the lump.
            cuts = np.concatenate([[low, np.nextafter(low, 1.0)], edges[1:-1]])
            values, chances = np.concatenate([[low], values]), np.concatenate([[ends[0]], chances])
        if ends[1]:
            cuts, values = np.append(cuts, high), np.append(values, high)
            chances = np.append(chances, ends[1])
        total = chances.sum()
        below = np.concatenate([[0.0], chances.cumsum()[:-1]]) / total
        return cls(values=values, chances=chances / total, cuts=cuts, below=below)

    def above(self) -> Floats:
        """E[value; value not below the cut], float64 [k]."""
        return np.asarray((self.values * self.chances)[::-1].cumsum()[::-1])


def _mixture(x: Floats) -> Floats:
    """Chances of equal cells of [0, 1] under a mixture of up to two betas, fitted by expectation and moments."""
    grid = (np.arange(_CELLS) + 0.5) / _CELLS
    inside = np.clip(x, 0.5 / _CELLS, 1.0 - 0.5 / _CELLS)
    alone = _beta_of(inside, np.ones(len(inside)))
    single = _cells(grid, *alone)
    if len(inside) < _MIXED:
        return single
    share = (inside > np.median(inside)).astype(np.float64)
    parts, weights = (alone, alone), np.array([0.5, 0.5])
    for _ in range(_STEPS):
        before, given = weights, np.stack([1.0 - share, share])
        weights = given.mean(axis=1)
        if weights.min() * len(inside) < _FEWEST:
            return single
        parts = (_beta_of(inside, given[0]), _beta_of(inside, given[1]))
        likely = np.stack([np.log(w) + _log_beta(inside, a, b) for w, (a, b) in zip(weights, parts, strict=True)])
        share = 1.0 / (1.0 + np.exp(np.clip(likely[0] - likely[1], -700.0, 700.0)))
        if np.abs(weights - before).max() < 1e-6:
            break
    found: Floats = sum((w * _cells(grid, a, b) for w, (a, b) in zip(weights, parts, strict=True)), np.zeros(_CELLS))
    # The second component has to be worth its three parameters (the Bayesian information criterion).
    gained = np.logaddexp(*likely).sum() - _log_beta(inside, *alone).sum()
    return found if gained > 1.5 * math.log(len(inside)) else single


def _beta_of(x: Floats, weight: Floats) -> tuple[float, float]:
    """Both parameters by moments; two imagined values spread evenly keep few real ones from a spike."""
    total = weight.sum() + 2.0
    mean = float(weight @ x + 1.0) / total
    variance = float(weight @ (x - mean) ** 2 + 2.0 / 12.0) / total
    size = max(mean * (1.0 - mean) / variance - 1.0, 0.1)
    return mean * size, (1.0 - mean) * size


def _log_beta(x: Floats, a: float, b: float) -> Floats:
    """Log density."""
    constant = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    found: Floats = (a - 1.0) * np.log(x) + (b - 1.0) * np.log1p(-x) + constant
    return found


def _cells(grid: Floats, a: float, b: float) -> Floats:
    """Chances of the cells around the grid, sum 1."""
    log = (a - 1.0) * np.log(grid) + (b - 1.0) * np.log1p(-grid)
    # At the ends the density may have no end: x^(a - 1) is integrated over the cell, not taken at its middle.
    width = math.log(1.0 / len(grid))
    log[0], log[-1] = (a - 1.0) * width - math.log(a), (b - 1.0) * width - math.log(b)
    density = np.exp(log - log.max())
    return np.asarray(density / density.sum())


def gumbel(u: npt.ArrayLike, v: npt.ArrayLike, theta: float) -> Floats:
    """Gumbel's copula: the chance that both are below their quantiles u and v, which broadcast.

    >>> float(gumbel(0.5, 0.5, 1.0)), round(float(gumbel(0.5, 0.5, 1e6)), 6)
    (0.25, 0.5)
    """
    with np.errstate(divide="ignore"):
        x, y = (-np.log(np.minimum(one, 1.0)) for one in (u, v))  # sums of chances may round to more than 1
    larger, smaller = np.maximum(x, y), np.minimum(x, y)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(larger > 0.0, smaller / larger, 0.0)
        ratio = np.where(np.isinf(smaller), 1.0, ratio)  # both impossible
        found: Floats = np.exp(-larger * (1.0 + ratio**theta) ** (1.0 / theta))
    return found


def gumbel_theta(one: Floats, other: Floats) -> float:
    """The copula's parameter from Kendall's rank correlation tau-b, 1 / (1 - tau); no dependence where it is negative.

    The correlation is drawn towards 0 as if ten more pairs showed none.
    """
    x, y = one[:_MOST_PAIRS], other[:_MOST_PAIRS]
    up, right = np.sign(x[:, None] - x), np.sign(y[:, None] - y)
    scale = math.sqrt(float((up**2).sum()) * float((right**2).sum()))
    tau = float((up * right).sum()) / scale if scale > 0.0 else 0.0
    tau *= len(x) / (len(x) + 10.0)
    return 1.0 / (1.0 - min(max(tau, 0.0), 0.95))
