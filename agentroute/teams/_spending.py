"""What the roles of logged runs have taken, as arrays, and means of it that few runs do not upset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agentroute.teams._values import NONE, RoleUsage, Team, TeamRun
from agentroute.types import Price, Usage

__all__ = ["Spending", "shrunk", "spending", "sums", "take"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spending:
    """What the k roles of n runs have taken; NaN = unknown.

    Attributes:
        mode: int64 [n], the mode's place in the team.
        column: int64 [n, k], the role's model; m = left out, m + 1 = a model that the team does not know.
        calls: float64 [n, k], calls of the model; 0 where left out.
        input: float64 [n, k], tokens of all its prompts; 0 where left out.
        output: float64 [n, k], tokens of all its answers; 0 where left out.
        cost: float64 [n, k], USD as logged; 0 where left out.
        usage: For each of the n x k, the usage; `None` = unknown.
        total: float64 [n], USD of the whole run as logged.
    """

    mode: Places
    column: Places
    calls: Floats
    input: Floats
    output: Floats
    cost: Floats
    usage: Sequence[Usage | None]
    total: Floats

    def billed(self, prices: Sequence[Price | None]) -> Floats:
        """USD as logged, else as the usage costs with what the cache gave: float64 [n, k]."""
        found = self.cost.copy()
        flat, columns, calls = found.ravel(), self.column.ravel().tolist(), self.calls.ravel()
        for place in np.flatnonzero(np.isnan(flat)).tolist():
            usage = self.usage[place]
            price = prices[columns[place]] if columns[place] < len(prices) else None
            if usage is not None and price is not None:
                flat[place] = price.cost(usage) + (calls[place] - 1.0) * price.per_call
        return found

    def listed(self, prices: Sequence[Price | None]) -> Floats:
        """USD as the tokens cost without a cache: float64 [n, k]."""
        rates = take(rates_of(prices), self.column)
        return np.asarray((self.input * rates[0] + self.output * rates[1]) / 1e6 + self.calls * rates[2])

    def price_of(self, column: int) -> Price | None:
        """What a model without a price was billed: USD a token, or a call where no tokens are known; `None` = it was not."""
        mine = (self.column == column) & ~np.isnan(self.cost)
        tokens = (self.input + self.output)[mine]
        cost, counted = self.cost[mine], tokens > 0.0
        if counted.any():
            rate = 1e6 * float(cost[counted].sum() / tokens[counted].sum())
            return Price(input=rate, output=rate, source="billed")
        if mine.any():
            return Price(input=0.0, output=0.0, per_call=float(cost.sum() / self.calls[mine].sum()), source="billed")
        return None


def spending(team: Team, models: Sequence[str], runs: Iterable[TeamRun]) -> Spending:
    """Reads runs; those of modes that the team does not know are left out.

    A role that ended in an error tells nothing, nor does one that another model answered for. What a run cost that did not go
    through to its end is not what a run costs.
    """
    modes = {mode.name: place for place, mode in enumerate(team.modes)}
    column = {model: place for place, model in enumerate((*models, NONE))}
    rows: list[list[tuple[int, float, float, float, float]]] = []
    usage: list[Usage | None] = []
    whole: list[tuple[int, float]] = []
    for run in runs:
        if run.mode not in modes:
            continue
        whole.append((modes[run.mode], np.nan if run.cost is None or not _went_through(run) else run.cost))
        row = []
        for role in team.roles:
            model = run.models.get(role.name, NONE)
            found = run.roles.get(role.name)
            if model == NONE:
                row.append((len(models), 0.0, 0.0, 0.0, 0.0))
                usage.append(None)
                continue
            row.append((column.get(model, len(models) + 1), *_taken(model, found)))
            usage.append(found.usage if found is not None and not np.isnan(row[-1][1]) else None)
        rows.append(row)
    numbers = np.array(rows, np.float64).reshape(len(rows), len(team.roles), 5)
    totals = np.array(whole, np.float64).reshape(-1, 2)
    return Spending(
        mode=totals[:, 0].astype(np.int64),
        column=numbers[:, :, 0].astype(np.int64),
        calls=numbers[:, :, 1],
        input=numbers[:, :, 2],
        output=numbers[:, :, 3],
        cost=numbers[:, :, 4],
        usage=usage,
        total=totals[:, 1],
    )


def _went_through(run: TeamRun) -> bool:
    """Whether nothing broke off, and all spoke that had a model; runs that came without their parts are taken at their word."""
    if run.metadata.get("error") or any(found.error is not None for found in run.roles.values()):
        return False
    if not run.roles:
        # A session books each call: where it booked none, none was made.
        return run.allocation_id is None
    spoke = {name for name, found in run.roles.items() if found.calls > 0}
    return all(model == NONE or name in spoke for name, model in run.models.items())


def _taken(model: str, found: RoleUsage | None) -> tuple[float, float, float, float]:
    """Calls, prompt tokens, answer tokens and USD."""
    if found is None or found.error is not None or found.calls < 1 or set(found.models) - {model}:
        return np.nan, np.nan, np.nan, np.nan
    tokens = (np.nan, np.nan) if found.usage is None else (float(found.usage.input_tokens), float(found.usage.output_tokens))
    return float(found.calls), *tokens, np.nan if found.cost is None else found.cost


def rates_of(prices: Sequence[Price | None]) -> Floats:
    """USD per million prompt tokens, per million answer tokens, and per call: float64 [3, 1, m]; NaN = unknown."""
    rates = [(np.nan,) * 3 if price is None else (price.input, price.output, price.per_call) for price in prices]
    return np.array(rates, np.float64).T[:, None]


def take(table: Floats, columns: Places) -> Floats:
    """Of each role what its column says: float64 [..., k or 1, m] and int64 [n, k] → [..., n, k]; 0 = left out, NaN = unknown."""
    shape = table.shape[:-1]
    padded = np.concatenate([table, np.zeros((*shape, 1)), np.full((*shape, 1), np.nan)], axis=-1)
    rows = np.arange(columns.shape[1]) if shape[-1] > 1 else np.zeros(columns.shape[1], np.int64)
    return np.asarray(padded[..., rows, columns])


def sums(values: Floats, columns: Places, models: int) -> tuple[Floats, Floats]:
    """Of each role with each model the sum of what is known, and of how many: float64 [k, m] each.

    Args:
        values: float64 [n, k]; NaN = unknown.
        columns: int64 [n, k].
        models: m; other columns are left out.
    """
    roles = values.shape[1]
    known = ~np.isnan(values) & (columns < models)
    cells = (np.arange(roles) * models + columns)[known]
    total = np.asarray(np.bincount(cells, weights=values[known], minlength=roles * models), np.float64)
    count = np.asarray(np.bincount(cells, minlength=roles * models), np.float64)
    return total.reshape(roles, models), count.reshape(roles, models)


def shrunk(values: Floats, columns: Places, spec: Sequence[float], models: int, strength: float) -> Floats:
    """Means of each role with each model, drawn towards what the role and the model alone lead one to expect.

    The role's level is drawn towards the specification, and a model's factor, how much more it takes than others in the same
    roles, towards 1. So a cell that was never seen is told by its row and column.

    Args:
        values: float64 [n, k]; NaN = unknown.
        columns: int64 [n, k].
        spec: k values.
        models: m.
        strength: Observations that a prior is worth.

    Returns:
        float64 [k, m].
    """
    total, count = sums(values, columns, models)
    level = (total.sum(axis=1) + strength * np.asarray(spec)) / (count.sum(axis=1) + strength)
    expected = count * level[:, None]
    unit = strength * (float(expected.sum() / count.sum()) if count.any() else 1.0)
    factor = (total.sum(axis=0) + unit) / (expected.sum(axis=0) + unit) if unit > 0.0 else np.ones(models)
    return np.asarray((total + strength * level[:, None] * factor) / (count + strength))
