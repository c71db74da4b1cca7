"""`agentroute fit --cascade` and `agentroute evaluate --cascade`, and what a report says of cascades."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from agentroute.cascades import AnswerTable, CascadeRouter, CascadeRouting
from agentroute.cascades._replay import replay
from agentroute.cli._answers import read_answers
from agentroute.cli._data import card_prices, exists, in_common, progress_bar
from agentroute.cli._options import By, Seen
from agentroute.cli.figures import table_of, usd
from agentroute.collection import pool_of, read_pool
from agentroute.errors import ConfigError, DataError, PriceUnknownError
from agentroute.estimators import KNNEstimator
from agentroute.evaluation import ByQuery, ByTask, ByTime, CascadeComparison, KFold, Progress, Split, compare_cascades
from agentroute.pool import ModelPool
from agentroute.reporting import cascade_json, cascade_tables
from agentroute.reporting._cells import Cell
from agentroute.reporting.words import percent, plain, quality
from agentroute.router import Router
from agentroute.types import Price

__all__ = ["compared", "run_evaluate_cascade", "run_fit_cascade", "settings"]

_CASCADE = "cascade.json"
"""The file by which the folder of a cascade is told from a router's."""


def run_fit_cascade(
    log: Path,
    output: Path,
    seen: Seen,
    *,
    willingness_to_pay: float | None,
    budget: float | None,
    default: str | None,
    cards: Path | None,
    keep: bool,
) -> None:
    """Fits a cascade on the whole log, saves it, and says whether it pays."""
    console = Console()
    if willingness_to_pay is not None and budget is not None:
        raise ConfigError("give --willingness-to-pay or --budget, not both")
    policy = CascadeRouting(budget=budget, willingness_to_pay=math.inf if willingness_to_pay is None else willingness_to_pay)
    known = None if cards is None else pool_of(read_pool(cards))
    with progress_bar() as tell:
        answers = read_answers(log, seen, prices=None if known is None else card_prices(known))
        pool = ModelPool(answers.models) if known is None else known
        router = Router(pool, estimator=KNNEstimator(keep_prompts=keep), default=default)
        cascade = CascadeRouter(router, policy=policy)
        try:
            cascade.fit(answers)
        except PriceUnknownError as error:
            raise _unpriced(error) from error
        cascade.save(output)
        try:
            found = compare_cascades(answers, router=router, progress=tell)
        except DataError as error:
            found, why = None, str(error)
    _say(console, f"{len(answers)} queries of {len(pool)} models learned; the cascade is in {output}")
    _say(console, f"it looks at {_looks(answers)}; default {cascade.default}")
    _say(console, _expects(cascade, answers))
    if found is None:
        _say(console, f"Whether it pays cannot be told: {plain(why)}", style="yellow")
        return
    pays = found.verdict == "cascading pays"
    _say(console, plain(found.sentence), style="green" if pays else "yellow")
    if not pays:
        _say(console, "Without --cascade a router alone is fitted.")


def run_evaluate_cascade(
    folder: Path | None, log: Path, seen: Seen, *, by: By, seed: int, test_share: float | None, as_json: bool
) -> None:
    """Compares routing, cascading and cascade routing on a log, each query by what others taught."""
    console = Console()
    split = _split(by, seed, test_share)
    router = None if folder is None else settings(folder)
    with progress_bar() as tell:
        try:
            found, notes = compared(log, seen, router=router, prices={}, split=split, seed=seed, progress=tell)
        except PriceUnknownError as error:
            raise _unpriced(error) from error
    if as_json:
        console.out(cascade_json(found), highlight=False)
        return
    _say(console, "below, ± is half of the 95 % interval", style="dim")
    for table in cascade_tables(found).values():
        console.print(table_of(table.caption, table.columns, [[_cell(cell) for cell in row] for row in table.rows], first=20))
    singles = ", ".join(f"{one.model} {quality(one.quality.value)} at {usd(one.cost.value)}" for one in found.singles)
    _say(console, f"always one model: {plain(singles)}; the best is {plain(found.best_single)}")
    for note in (*notes, *found.notes):
        _say(console, plain(note), style="dim")
    _say(console, plain(found.sentence), style="bold")


def compared(
    log: Path,
    seen: Seen,
    *,
    router: Router | None,
    prices: Mapping[str, Price],
    split: Split | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[CascadeComparison, list[str]]:
    """The comparison on a log, and sentences on models that only the log or only the router knows.

    Args:
        log: With answers.
        seen: Its columns.
        router: Whose settings are used; `None` = those of a default router.
        prices: By model, besides those of the router's cards.
        split: As for `compare_cascades`.
        seed: Likewise.
        progress: Likewise.
    """
    known = ({} if router is None else card_prices(router.pool)) | dict(prices)
    answers = read_answers(log, seen, prices=known or None)
    notes: list[str] = []
    if router is not None:
        common, notes = in_common(answers.table, router.pool, log.name)
        answers = answers.select(common.models)
        router = router.clone(pool=ModelPool([router.pool.card(model) for model in common.models]))
    return compare_cascades(answers, router=router, split=split, seed=seed, progress=progress), notes


def settings(folder: Path) -> Router:
    """The router of a folder that holds one, or a cascade's.

    Raises:
        ArtefactError: It holds neither, or is damaged.
    """
    if (exists(folder) / _CASCADE).exists():
        return CascadeRouter.load(folder).router
    return Router.load(folder)


def _split(by: By, seed: int, test_share: float | None) -> Split:
    match by:
        case By.QUERY:
            return KFold(seed=seed) if test_share is None else ByQuery(test=test_share, seed=seed)
        case By.TASK:
            return ByTask()
        case By.TIME:
            return ByTime() if test_share is None else ByTime(test=test_share)
        case By.MODEL:
            raise ConfigError("--by model: what a cascade learns of a new model from a few probes is not judged; leave --by out")


def _expects(cascade: CascadeRouter, answers: AnswerTable) -> str:
    """What it does on the log, by estimates that were made without each query."""
    policy, table = cascade.deciding, answers.table.select(cascade.posthoc.models_)
    assert isinstance(policy, CascadeRouting)  # noqa: S101  # fitted above
    done = replay(policy, cascade.posthoc.fitted_states(), table.quality, table.cost)
    climbs = float((done.calls > 1).mean())
    expected = (
        f"expected on queries like these: quality {quality(policy.expected_quality_)} at {usd(policy.expected_cost_)} a query, "
        "scoring included"
    )
    if not climbs:
        return f"{expected}; it never asks a second model, so that it is a router, and no answer is scored"
    return f"{expected}; it asks more than one model in {percent(climbs)} of them"


def _looks(answers: AnswerTable) -> str:
    parts = list(answers.signals)
    if answers.agreement is not None:
        parts.append("how far answers agree")
    return ", ".join(parts)


def _unpriced(error: PriceUnknownError) -> ConfigError:
    models = ", ".join(map(repr, error.models))
    return ConfigError(
        f"no price and no logged cost for {models}: log the billed costs, or give prices with --cards POOL.toml for a log that "
        "has the token counts"
    )


def _cell(cell: Cell) -> str:
    return f"{cell.text} ±{cell.half}" if cell.half else cell.text


def _say(console: Console, text: str, *, style: str | None = None) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False, style=style)
