"""What sets of models are worth: the expected best answer of every set, from one table of normal draws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from agentroute.errors import ConfigError

__all__ = ["MOST", "Options", "SuperModels", "fewest_beaten", "normal_draws"]

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Columns = npt.NDArray[np.int64]

MOST: Final = 12
"""Models of which all sets are weighed, 4,096 of them; of more models the most promising are."""

_TRIES = 32
_DIRECTIONS = 300
_PRUNE = 10  # models from which on it is quicker to look first for those that cannot be in the best set
_BLOCK = 2**18  # draws that are held at once: 1 MB, so that a block stays in the cache
_ROUNDING = 1e-6  # float32 means: a gain that falls short of the price by less is not safely short


def normal_draws(models: int, samples: int, seed: int) -> Singles:
    """Draws from which an expected maximum is more exact than from as many random ones.

    Korobov lattices under random shifts, made normal, then moved so that their mean is exactly 0 and their covariance exactly
    the identity. The best of several is kept, judged by the one thing that they are for: the expected excess over a level,
    E[(w Z - t)+], of random directions w, which is known in closed form. On sets of up to six models 512 such draws err by
    .001 on average, as 50,000 random ones do.

    Args:
        models: Rows.
        samples: Columns, at least 4 a model.
        seed: Of the lattices and shifts.

    Returns:
        float32 [models, samples].

    Raises:
        ConfigError: There are too few samples.

    Source: Korobov lattices and random shifts, L'Ecuyer and Lemieux 2000, Variance reduction via lattice rules.
    """
    if samples < 4 * models:
        raise ConfigError(f"samples={samples} are too few for {models} models: give {4 * models} or more")
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((_DIRECTIONS, models))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    # Plain random draws, made exact in mean and covariance too, are always possible; hardly ever are they the best.
    best = _exact_moments(rng.standard_normal((models, samples)))
    error = _excess_error(best, directions)
    quantile = np.frompyfunc(NormalDist().inv_cdf, 1, 1)
    for _ in range(_TRIES):
        generator = int(rng.integers(1, max(samples // 2, 2))) * 2 + 1
        steps = np.array([pow(generator, j, samples) for j in range(models)])
        places = (np.outer(steps, np.arange(samples)) % samples / samples + rng.random((models, 1))) % 1.0
        try:
            found = _exact_moments(np.asarray(quantile(np.clip(places, 1e-6, 1.0 - 1e-6)), np.float64))
        except np.linalg.LinAlgError:
            continue  # two rows of this lattice are one
        if (now := _excess_error(found, directions)) < error:
            best, error = found, now
    return best.astype(np.float32)


def _exact_moments(draws: Floats) -> Floats:
    centred = draws - draws.mean(axis=1, keepdims=True)
    root = np.linalg.cholesky(centred @ centred.T / draws.shape[1])
    return np.asarray(np.linalg.solve(root, centred))


def _excess_error(draws: Floats, directions: Floats) -> float:
    """Mean square error of E[(w Z - t)+] = phi(t) - t (1 - Phi(t)) over the directions and five levels."""
    along, normal = directions @ draws, NormalDist()
    errors = [
        np.maximum(along - level, 0.0).mean(axis=1) - (normal.pdf(level) - level * (1.0 - normal.cdf(level)))
        for level in (-1.0, -0.5, 0.0, 0.5, 1.0)
    ]
    return float(np.square(errors).mean())


def fewest_beaten(quality: Floats, cost: Floats, keep: int) -> Columns:
    """Of more models than can be weighed in sets, those that the fewest others beat on both quality and cost.

    The choice does not depend on what money is worth, so that one table serves every exchange rate; whatever it is, the best
    single model is among them.

    Args:
        quality: float64 [r, k].
        cost: float64 [r, k].
        keep: How many.

    Returns:
        int64 [r, keep], columns in rising order.
    """
    beaten = ((quality[:, None] >= quality[:, :, None]) & (cost[:, None] <= cost[:, :, None])).sum(axis=2)
    order = np.lexsort((cost, beaten), axis=-1)[:, :keep]
    return np.asarray(np.sort(order, axis=1), np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Options:
    """What can be planned next, for r queries in one state: to stop (option 0), or to call a set of models.

    Attributes:
        worth: float64 [r, o], expected quality of the best answer then, less what the waiting costs.
        cost: float64 [r, o], USD still to be spent.
        leads: int64 [o] or [r, o], the column that is called first; that of option 0 says nothing.
    """

    worth: Floats
    cost: Floats
    leads: Columns

    def first(self, best: npt.NDArray[np.intp], *, may_stop: bool) -> Columns:
        """The column that is called next, int64 [r], of the options that were found best; -1 = none, it is time to stop.

        Where nobody may stop and no option has a value, the quality of every model being unknown, the cheapest is called.
        """
        leads = self.leads
        found = leads[best] if leads.ndim == 1 else leads[np.arange(len(leads)), best]
        return np.where(best > 0, found, -1 if may_stop else leads[..., 1])

    def envelope(self) -> tuple[Floats, Columns]:
        """For every exchange rate lambda at once: the option with the greatest worth - lambda x cost, and where it changes.

        Walks all queries' options at once, from the cheapest along the steepest way up, as on the hull of points.

        Returns:
            Rates float64 [r, h], falling and filled up with 0, and options int64 [r, h + 1]: option p is best from rate p
            (from above all of them for p = 0) down to rate p + 1.
        """
        rows = np.arange(len(self.worth))
        least = self.cost.min(axis=1, where=np.isfinite(self.worth), initial=np.inf)[:, None]
        at = np.where(self.cost == least, self.worth, -np.inf).argmax(axis=1)
        rates, options = [], [at]
        while True:
            run = self.cost - self.cost[rows, at][:, None]
            with np.errstate(invalid="ignore", divide="ignore"):
                rise = self.worth - self.worth[rows, at][:, None]
                slope = np.where((run > 0.0) & (rise > 0.0), rise / run, 0.0)
            steepest = slope.max(axis=1, initial=0.0)
            if not steepest.any():
                break
            at = np.where(steepest > 0.0, slope.argmax(axis=1), at)
            rates.append(steepest)
            options.append(at)
        changes = np.stack(rates, axis=1) if rates else np.zeros((len(rows), 0))
        return changes, np.stack(options, axis=1)


class SuperModels:
    """Weighs sets of models ("supermodels") by E[max], the expected quality of the best answer among them.

    The qualities of a state are taken as normal around their estimates. All sets share the same draws, so that differences
    between sets hardly depend on them, and the sampled E[max] is exactly submodular: what a model adds to a set, it adds at most
    to a part of that set. The maxima of all sets come by doubling: those that hold model j are those without, compared with j.

    Args:
        draws: float32 [m, s] from `normal_draws`.

    Source: Dekoninck et al. 2024, A Unified Approach to Routing and Cascading for LLMs, arXiv:2410.10347, sections 3 and 4.
    """

    def __init__(self, draws: Singles) -> None:
        self.draws = draws
        self._share = np.full(draws.shape[1], 1.0 / draws.shape[1], np.float32)
        # Bit j of a set's place says whether model j is in it.
        members = np.arange(1 << MOST) >> np.arange(MOST)[:, None] & 1
        self._members = members.astype(np.float64)
        self._lowest, self._sizes = members.argmax(axis=0), members.sum(axis=0)

    def drawn(self, quality: Floats, factor: Floats | None) -> Singles:
        """Qualities as they may turn out: float64 [r, m] → float32 [r, m, s], or [r, m, 1] when nothing is uncertain.

        Args:
            quality: NaN = unknown; such a model takes no part.
            factor: float64 [m, m], its product with its transpose the covariance; `None` = no uncertainty.
        """
        # What is unknown is below everything: it never raises a maximum.
        known = quality.astype(np.float32)[:, :, None]
        known[np.isnan(known)] = -np.inf
        return known if factor is None else known + factor.astype(np.float32) @ self.draws

    def best_of_all(self, drawn: Singles, base: Singles | None) -> Floats:
        """E[max] of every set.

        Args:
            drawn: float32 [r, k, s], models that may be added.
            base: float32 [r, s], the maximum of those that have answered; `None` = nobody has.

        Returns:
            float64 [r, 2^k]; -inf for the empty set when nobody has answered.
        """
        rows, count, samples = drawn.shape
        found = np.zeros((rows, 1 << count))
        width = min(samples, max(64, _BLOCK >> count))
        block = max(1, min(rows, _BLOCK // (width << count)))
        table = np.empty((block, 1 << count, width), np.float32)
        for start in range(0, rows, block):
            some = slice(start, start + block)
            for left in range(0, samples, width):
                part = drawn[some, :, left : left + width]
                held = table[: len(part), :, : part.shape[2]]
                held[:, 0] = -np.inf if base is None else base[some, left : left + width]
                for j in range(count):
                    np.maximum(held[:, : 1 << j], part[:, j : j + 1], out=held[:, 1 << j : 2 << j])
                found[some] += self._mean(held) if width == samples else held @ self._share[: held.shape[2]]
        return found

    def _mean(self, drawn: Singles) -> Floats:
        """Mean over the last axis."""
        if drawn.shape[-1] == 1:
            return drawn[..., 0].astype(np.float64)
        # A product with a vector is several times faster than a mean over the short axis.
        return (drawn.reshape(-1, drawn.shape[-1]) @ self._share).reshape(drawn.shape[:-1]).astype(np.float64)

    def worthwhile(self, drawn: Singles, base: Singles | None, price: Floats) -> list[int]:
        """The models that can be in the best set; the others need not be weighed (Lemma 1 of the paper, exact here).

        What a model adds to one answer is the most that it adds to any set with that answer: a model that is not worth its price
        beside any other is worth calling at most alone.

        Args:
            drawn: float32 [k, s].
            base: float32 [s] or `None`, as in `best_of_all`.
            price: float64 [k], quality that calling each must add.

        Returns:
            Rising places in 0 … k-1.
        """
        short = price - _ROUNDING
        if base is not None:
            gains = self._mean(np.maximum(drawn, base)) - float(self._mean(base))
            return np.flatnonzero(gains >= short).tolist()
        alone = self._mean(drawn)
        with np.errstate(invalid="ignore"):
            # Row i, column j: what j adds to i.
            pays = self._mean(np.maximum(drawn[:, None], drawn)) - alone[:, None] >= short
        together = np.asarray((pays & pays.T & ~np.eye(len(price), dtype=bool)).any(axis=1))
        together[(alone - price).argmax()] = True
        return np.flatnonzero(together).tolist()

    def needed(self, drawn: Singles, base: Singles | None) -> list[int]:
        """Where calls are free: the members of the best set, without those that add nothing; of equals the first set in order.

        Args:
            drawn: float32 [k, s], models that may be added.
            base: float32 [s] or `None`, as in `best_of_all`.

        Returns:
            Rising places in 0 … k-1; none when nobody adds anything to the base.
        """
        start = np.full(drawn.shape[1], -np.inf, np.float32) if base is None else base
        # Maxima over all lower places, to which those of the kept higher ones are joined.
        below = np.maximum.accumulate(np.concatenate([start[None], drawn]), axis=0)
        best = float(self._mean(below[-1]))
        kept: list[int] = []
        above = start
        for place in reversed(range(len(drawn))):
            # Dropping the last first finds the set that comes first in order.
            if float(self._mean(np.maximum(below[place], above))) < best:
                kept.insert(0, place)
                above = np.maximum(above, drawn[place])
        return kept

    def options(
        self,
        quality: Floats,
        cost: Floats,
        columns: Columns,
        *,
        answered: list[int],
        factor: Floats | None = None,
        toll: Floats | None = None,
        ordered: bool = False,
        alone: bool = False,
        most: int = MOST,
        rate: float | None = None,
    ) -> Options:
        """What can be planned in a state.

        Args:
            quality: float64 [r, m], estimated in this state; NaN = unknown.
            cost: float64 [r, m], USD a call.
            columns: int64 [k] or [r, k], models that may be called, cheapest first, at most `MOST`; never empty.
            answered: Columns that have answered.
            factor: float64 [m, m], of how much the estimates will still move; `None` = not at all.
            toll: float64 [r, m], quality that waiting for a call costs.
            ordered: Only prefixes of `columns` are weighed, not every set.
            alone: Only one model is weighed at a time.
            most: Models that may still be called.
            rate: Lambda where it is known, and r is 1: sets that cannot be best are then left out.
        """
        # Where nothing is uncertain no second model can add to the best one, and where one is called none does.
        single = alone or (factor is None and not ordered)
        drawn = self.drawn(quality, None if single else factor)
        base = drawn[:, answered].max(axis=1) if answered else None
        added = _of(drawn, columns)
        if rate is not None and len(columns) >= _PRUNE and not (single or ordered):
            price = rate * cost[0, columns] + (0.0 if toll is None else toll[0, columns])
            kept = self.worthwhile(added[0], None if base is None else base[0], price) or [0]
            columns, added = columns[kept], added[:, kept]
        prices, tolls = _of(cost, columns), None if toll is None else _of(toll, columns)
        if single or ordered:
            start = np.full_like(added[:, :1], -np.inf) if base is None else base[:, None]
            joined = np.concatenate([start, added], axis=1)
            joined = np.maximum(joined, start) if single else np.maximum.accumulate(joined, axis=1)
            worth, total = self._mean(joined), _padded(prices if single else prices.cumsum(axis=1))
            wait = None if tolls is None else _padded(tolls if single else tolls.cumsum(axis=1))
            leads = np.concatenate([columns[..., :1], columns], axis=-1)
            if not single:
                leads = np.repeat(columns[..., :1], worth.shape[1], axis=-1)
                worth[:, most + 1 :] = -np.inf
        else:
            worth = self.best_of_all(added, base)
            count, sets = added.shape[1], worth.shape[1]
            total = prices @ self._members[:count, :sets]
            wait = None if tolls is None else tolls @ self._members[:count, :sets]
            leads = columns[..., self._lowest[:sets]]
            if most < count:
                worth[:, self._sizes[:sets] > most] = -np.inf
        return Options(worth=worth if wait is None else worth - wait, cost=total, leads=leads)


T = TypeVar("T", np.float32, np.float64)


def _of(values: npt.NDArray[T], columns: Columns) -> npt.NDArray[T]:
    """Columns [k] of all rows, or [r, k] of each."""
    return values[:, columns] if columns.ndim == 1 else values[np.arange(len(values))[:, None], columns]


def _padded(values: Floats) -> Floats:
    return np.pad(values, ((0, 0), (1, 0)))


def is_whole(value: object, least: float, most: float = math.inf) -> bool:
    """Whether it is a whole number in a range; True and False are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(least <= value <= most)
