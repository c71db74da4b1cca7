"""`agentroute diagnose` and `agentroute report`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from agentroute.cli._data import card_prices, exists, read_table
from agentroute.collection import pool_of, read_pool
from agentroute.errors import ConfigError
from agentroute.evaluation import Progress, RoutingDiagnosis, diagnose
from agentroute.outcomes import OutcomeTable
from agentroute.reporting import report_html, report_json, report_png, summary
from agentroute.reporting.words import plain
from agentroute.router import Router
from agentroute.types import Price

__all__ = ["run_diagnose", "run_report"]

_NAMED = 5
"""Models that are named where some are left out."""


def run_diagnose(
    log: Path, *, holdout: Path | None, options: Sequence[str], as_json: bool, seed: int, cards: Path | None = None
) -> None:
    """Says whether routing is worth it on a log.

    Args:
        log: The log.
        holdout: A second log, to see whether scores hold.
        options: How many answers there are to choose from: `4`, or `task=4` for each task that has options.
        as_json: Whether to print all figures as JSON instead of a summary.
        seed: Of everything random.
        cards: A pool TOML; its prices fill in costs from logged tokens.
    """
    found = _diagnosis(log, None, holdout=holdout, options=options, seed=seed, cards=cards)
    console = Console()
    if as_json:
        console.out(report_json(found), highlight=False)
    else:
        console.print(summary(found))


def run_report(
    log: Path,
    router: Path | None,
    output: Path,
    *,
    png: Path | None,
    holdout: Path | None,
    options: Sequence[str],
    seed: int,
    cards: Path | None = None,
) -> None:
    """Diagnoses a log and writes the report.

    Args:
        log: The log.
        router: The folder of a router whose settings are judged; `None` = the default router.
        output: Where the HTML file goes.
        png: Where the picture for slides goes; `None` = nowhere.
        holdout: A second log, to see whether scores hold.
        options: As for `run_diagnose`.
        seed: Of everything random.
        cards: A pool TOML; its prices fill in costs from logged tokens, before those of the router.
    """
    # What cannot be written is said before anything long begins.
    for place in (output, png):
        if place is not None:
            _check(place, log, holdout, cards)
    if png is not None and png.suffix.lower() != ".png":
        raise ConfigError(f"--png {png}: the picture is a PNG, so name it {png.with_suffix('.png').name}")
    if png is not None and png.resolve() == output.resolve():
        raise ConfigError(f"the page and the picture cannot both be {png}: name two files")
    found = _diagnosis(log, router, holdout=holdout, options=options, seed=seed, cards=cards)
    console = Console()
    page = report_html(found, source=log.name if router is None else f"{log.name}, settings of {router.name}")
    for place, content in ((output, page.encode()), (png, None)):
        if place is not None:
            _write(place, report_png(found) if content is None else content)
    console.print(plain(found.headline), style="bold", soft_wrap=True, highlight=False, markup=False)
    written = [str(place) for place in (output, png) if place is not None]
    console.print(f"written: {' and '.join(written)}", soft_wrap=True, highlight=False, markup=False)


def _diagnosis(
    log: Path,
    folder: Path | None,
    *,
    holdout: Path | None,
    options: Sequence[str],
    seed: int,
    cards: Path | None = None,
) -> RoutingDiagnosis:
    counts = _options(options)
    router = None if folder is None else Router.load(exists(folder)).clone()
    prices = {} if router is None else card_prices(router.pool)
    if cards is not None:
        prices |= card_prices(pool_of(read_pool(cards)))
    with _progress() as tell:
        tell("reading", 0.0)
        table = _read(log, router, prices)
        later = None if holdout is None else _read(holdout, router, prices)
        return diagnose(table, router=router, holdout=later, options=counts, seed=seed, progress=tell)


def _read(log: Path, router: Router | None, prices: Mapping[str, Price]) -> OutcomeTable:
    """The log; for a router the models of its pool, and what that leaves out is said."""
    table = read_table(log, prices=prices or None)
    if router is None:
        return table
    known = [model for model in table.models if model in router.pool.ids]
    if not known:
        raise ConfigError(f"{log} and the router have no model in common: the router knows {', '.join(router.pool.ids)}")
    unknown = [model for model in table.models if model not in known]
    absent = [model for model in router.pool.ids if model not in known]
    if unknown:
        _note(f"left out: {_some(unknown)}, which {log.name} holds and the router does not know")
    if absent:
        _note(f"left out: {_some(absent)}, which the router knows and {log.name} does not hold")
    return table.select(known)


def _note(text: str) -> None:
    Console(stderr=True).print(plain(text), soft_wrap=True, highlight=False, markup=False)


def _some(models: Sequence[str]) -> str:
    named = ", ".join(models[:_NAMED])
    return named if len(models) <= _NAMED else f"{named} and {len(models) - _NAMED} more"


def _options(given: Sequence[str]) -> int | dict[str, int] | None:
    """`["4"]` → 4; `["mmlu=4", "winogrande=2"]` → by task; nothing → nothing."""
    if not given:
        return None
    by_task: dict[str, int] = {}
    for text in given:
        task, equals, count = text.rpartition("=")
        if not count.strip().isdecimal() or int(count) < 2:
            raise ConfigError(f"--options {text!r}: give a number from 2 on, such as 4, or one by task, such as mmlu=4")
        if not equals:
            if len(given) > 1:
                raise ConfigError(f"--options {text!r}: give one number for all queries, or task=number for each task")
            return int(count)
        by_task[task] = int(count)
    return by_task


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """Tells people how far it is, on a terminal; elsewhere it is silent."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)

        def tell(what: str, share: float) -> None:
            bar.update(task, description=plain(what), completed=share)

        yield tell


def _check(place: Path, *read: Path | None) -> None:
    if place.is_dir():
        raise ConfigError(f"{place} is a folder: name a file in it")
    if not place.parent.is_dir():
        raise ConfigError(f"{place.parent} does not exist: make that folder first")
    if any(one is not None and one.resolve() == place.resolve() for one in read):
        raise ConfigError(f"{place} is what is read: write elsewhere")


def _write(place: Path, content: bytes) -> None:
    """Writes all or nothing: who looks at the file sees the old report or the new one."""
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)
