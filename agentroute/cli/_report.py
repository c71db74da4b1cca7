"""`agentroute diagnose` and `agentroute report`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from agentroute.cli._data import card_prices, exists, in_common, progress_bar, read_table
from agentroute.cli._options import Seen
from agentroute.cli._output import check, flows, write
from agentroute.collection import pool_of, read_pool
from agentroute.errors import ConfigError
from agentroute.evaluation import CascadeComparison, RoutingDiagnosis, diagnose
from agentroute.evaluation._cascade_words import measured
from agentroute.outcomes import OutcomeTable
from agentroute.reporting import report_html, report_json, report_png, summary
from agentroute.reporting.words import plain
from agentroute.router import Router
from agentroute.types import Price

__all__ = ["run_diagnose", "run_report"]


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
    cascade: Seen | None = None,
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
        cascade: What a cascade may look at; `None` = the page says nothing of cascades.
    """
    # What cannot be written is said before anything long begins.
    for place in (output, png):
        if place is not None:
            check(place, log, holdout, cards)
    if png is not None and png.suffix.lower() != ".png":
        raise ConfigError(f"--png {png}: the picture is a PNG, so name it {png.with_suffix('.png').name}")
    if png is not None and png.resolve() == output.resolve():
        raise ConfigError(f"the page and the picture cannot both be {png}: name two files")
    cascades = None if cascade is None else _cascades(log, router, cascade, seed=seed, cards=cards)
    found = _diagnosis(log, router, holdout=holdout, options=options, seed=seed, cards=cards)
    if cascades is not None:
        # The terminal says what the page says.
        found = measured(found, cascades)
    # A page that goes into a pipe is alone there.
    console = Console(stderr=any(place is not None and flows(place) for place in (output, png)))
    source = log.name if router is None else f"{log.name}, settings of {router.name}"
    page = report_html(found, source=source, cascades=cascades)
    for place, content in ((output, page.encode()), (png, None)):
        if place is not None:
            write(place, report_png(found, cascades=cascades) if content is None else content)
    console.print(plain(found.headline), style="bold", soft_wrap=True, highlight=False, markup=False)
    if cascades is not None:
        console.print(plain(cascades.sentence), soft_wrap=True, highlight=False, markup=False)
    written = [str(place) for place in (output, png) if place is not None]
    console.print(f"written: {' and '.join(written)}", soft_wrap=True, highlight=False, markup=False)


def _cascades(log: Path, folder: Path | None, seen: Seen, *, seed: int, cards: Path | None) -> CascadeComparison:
    """Whether a cascade would pay on the log."""
    from agentroute.cli._cascade import compared

    router = None if folder is None else Router.load(exists(folder))
    prices = {} if cards is None else card_prices(pool_of(read_pool(cards)))
    with progress_bar() as tell:
        return compared(log, seen, router=router, prices=prices, seed=seed, progress=tell)[0]


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
    left_out: list[str] = []
    with progress_bar() as tell:
        table = _read(log, router, prices, left_out)
        _check_tasks(counts, table)
        later = None if holdout is None else _read(holdout, router, prices, left_out)
        for note in left_out:
            Console(stderr=True).print(note, soft_wrap=True, highlight=False, markup=False)
        found = diagnose(table, router=router, holdout=later, options=counts, seed=seed, progress=tell)
    # Whoever is handed the page did not see that.
    return replace(found, evaluation=replace(found.evaluation, notes=(*left_out, *found.evaluation.notes)))


def _read(log: Path, router: Router | None, prices: Mapping[str, Price], left_out: list[str]) -> OutcomeTable:
    """The log; for a router the models of its pool, and what that leaves out is noted."""
    table = read_table(log, prices=prices or None)
    if router is None:
        return table
    common, notes = in_common(table, router.pool, log.name)
    left_out += notes
    return common


def _check_tasks(options: Collection[str] | int | None, table: OutcomeTable) -> None:
    """A name that is misspelt would leave its task without options, and nobody would know."""
    if options is None or isinstance(options, int):
        return
    tasks = sorted({query.task for query in table.queries if query.task is not None})
    strange = [task for task in options if task not in tasks]
    if strange:
        there = f"the log has {', '.join(map(repr, tasks[:20]))}" if tasks else "the log names no task"
        raise ConfigError(f"--options names {', '.join(map(repr, strange))}, which is no task of the log: {there}")


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
        if task in by_task:
            raise ConfigError(f"--options names {task!r} twice: give one number for each task")
        by_task[task] = int(count)
    return by_task
