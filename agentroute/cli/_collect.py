"""`agentroute collect`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from agentroute.cli._data import is_sqlite
from agentroute.cli.figures import table_of
from agentroute.collection import Answerer, ChatEndpoint, PoolEntry, collect, read_pool, read_tasks
from agentroute.errors import ConfigError
from agentroute.local import LocalServer
from agentroute.outcomes import SqliteOutcomeLog
from agentroute.types import Outcome

__all__ = ["run_collect"]


def run_collect(tasks_path: Path, pool_path: Path, output: Path, limit: int | None) -> None:
    """Reads tasks and pool, starts the local models, and collects until all is done or somebody interrupts."""
    console = Console()
    tasks, entries = read_tasks(tasks_path)[:limit], read_pool(pool_path)
    if not is_sqlite(output):
        raise ConfigError(f"{output}: the log that is collected into is a .sqlite file")
    scores: defaultdict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        log = stack.enter_context(SqliteOutcomeLog(output, store_prompts=True))
        bar = stack.enter_context(_progress(console))
        models = {entry.card.id: _answerer(entry, stack, _reporter(bar)) for entry in entries}
        calls = bar.add_task("collecting", total=len(tasks) * len(models), completed=0)

        def on_progress(done: int, _total: int, outcome: Outcome) -> None:
            bar.update(calls, completed=done)
            if outcome.quality is not None:
                scores[outcome.model].append(outcome.quality)
            else:
                said = str(outcome.metadata.get("message", ""))
                console.print(f"{outcome.model} failed on {outcome.query.id}: {outcome.error}: {said}", markup=False)

        prices = {entry.card.id: entry.card.price for entry in entries if entry.card.price is not None}
        report = collect(tasks, models, log, prices=prices, on_progress=on_progress)
        bar.update(calls, completed=report.skipped + report.answered + report.failed)
    console.print(
        f"{report.answered} answered, {report.failed} failed, {report.skipped} were in {output} already.", soft_wrap=True
    )
    if scores:
        rows = [(model, str(len(own)), f"{sum(own) / len(own):.3f}") for model, own in scores.items()]
        console.print(table_of("This run", ("model", "answers", "quality"), rows))
    if report.given_up:
        names = ", ".join(report.given_up)
        raise ConfigError(f"{names} failed five times in a row and was left out: see above, then run again to go on")
    if report.failed and not report.answered:
        raise ConfigError(f"no call was answered, {report.failed} failed: see above, then run again to go on")


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def _reporter(bar: Progress) -> Callable[[str, float], None]:
    """Shows each download on a line of its own while it runs."""
    lines: dict[str, object] = {}

    def report(what: str, fraction: float) -> None:
        if what not in lines:
            lines[what] = bar.add_task(what, total=100)
        bar.update(lines[what], completed=round(100 * fraction), visible=fraction < 1.0)  # type: ignore[arg-type]  # a TaskID, which is an int

    return report


def _answerer(entry: PoolEntry, stack: ExitStack, report: Callable[[str, float], None]) -> Answerer:
    if entry.local is not None:
        # A prompt that does not fit into the context is a failed call, not a shortened one.
        context = entry.card.context_window or 2048
        server = stack.enter_context(LocalServer(entry.local, context=context, progress=report))
        return ChatEndpoint(
            server.base_url, server.model, api_key=server.api_key, options=entry.options, cpu_seconds=server.cpu_seconds
        )
    if entry.base_url is None:
        raise ConfigError(f"model {entry.card.id!r}: give base_url or local, so that it can be asked")
    return ChatEndpoint(entry.base_url, entry.model, api_key=entry.api_key(), options=entry.options)
