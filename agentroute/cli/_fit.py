"""`agentroute fit`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from agentroute.cli._data import card_prices, read_table
from agentroute.cli.figures import usd
from agentroute.collection import pool_of, read_pool
from agentroute.errors import ConfigError, PriceUnknownError
from agentroute.estimators import KNNEstimator
from agentroute.policies import BudgetPolicy, Policy, UtilityPolicy
from agentroute.pool import ModelPool
from agentroute.router import Router

__all__ = ["run_fit"]


def run_fit(
    log: Path,
    output: Path,
    *,
    willingness_to_pay: float | None,
    mean_cost: float | None,
    default: str | None,
    cards: Path | None,
    keep: bool,
) -> None:
    """Fits a router on the whole log and saves it."""
    console = Console()
    policy = _policy(willingness_to_pay, mean_cost)
    known = None if cards is None else pool_of(read_pool(cards))
    table = read_table(log, prices=None if known is None else card_prices(known))
    pool = ModelPool(table.models) if known is None else known
    router = Router(pool, estimator=KNNEstimator(keep_prompts=keep), policy=policy, default=default)
    try:
        router.fit(table)
    except PriceUnknownError as error:
        # What the error says is for programs; here the prices come from a file.
        models = ", ".join(map(repr, error.models))
        raise ConfigError(
            f"no price and no logged cost for {models}: log the billed costs, or give prices with --cards POOL.toml for a log "
            "that has the token counts"
        ) from error
    router.save(output)
    console.print(
        f"{len(table)} queries of {len(table.models)} models learned; the router is in {output}", soft_wrap=True, highlight=False
    )
    console.print(f"policy {router.policy!r}, default {router.default}", soft_wrap=True, highlight=False, markup=False)
    learned = [model for model in router.pool.ids if model in table.models]
    if len(learned) == 1:
        where = "model" if len(router.pool) == 1 else "model of the pool in this log"
        told = f"{learned[0]} is the only {where}: there is nothing to choose between."
        console.print(told, soft_wrap=True, highlight=False, markup=False)
    if isinstance(policy, BudgetPolicy):
        console.print(f"expected cost {usd(policy.expected_cost_)} a query on this log", highlight=False)


def _policy(willingness_to_pay: float | None, mean_cost: float | None) -> Policy:
    if willingness_to_pay is not None and mean_cost is not None:
        raise ConfigError("give --willingness-to-pay or --mean-cost, not both")
    if mean_cost is not None:
        return BudgetPolicy(mean_cost=mean_cost)
    return UtilityPolicy() if willingness_to_pay is None else UtilityPolicy(willingness_to_pay=willingness_to_pay)
