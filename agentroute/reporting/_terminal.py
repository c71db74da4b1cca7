"""The summary of a diagnosis for a terminal."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Literal

from agentroute.errors import MissingExtraError
from agentroute.evaluation import RoutingDiagnosis
from agentroute.reporting._cells import Cell, Table
from agentroute.reporting._tables import tables
from agentroute.reporting.words import one_line, plain

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table as RichTable
    from rich.text import Text

__all__ = ["summary"]

_SHOWN = {
    "ways": ("Quality", "USD per 1,000", "Gain over best single, points", "Beyond noise?"),
    "models": ("Quality", "USD per 1,000", "Latency", "On the hull", "It alone is best"),
    "shifts": ("First window", "Second window", "Against the others, points", "Shifted?"),
    "calibration": ("AUROC", "AUROC within tasks", "ECE", "Reads as"),
    "tasks": ("Queries", "Always best single", "Routed", "Gain, points", "Beyond noise?"),
}
"""Table → the columns that eighty characters hold."""
_WITH_HALF = {"Quality", "Gain over best single, points", "Gain, points", "Against the others, points", "AUROC"}
_ROWS = 12
_NAME = 27
_STYLES = {"": "", "better": "green", "worse": "red"}


def summary(diagnosis: RoutingDiagnosis) -> RenderableType:
    """The verdict, its reasons, the findings and the most important tables, to print with `rich`.

    Args:
        diagnosis: What `diagnose` found.

    Raises:
        MissingExtraError: The extra `cli` is not installed.
    """
    try:
        from rich.console import Group
        from rich.padding import Padding
        from rich.text import Text
    except ImportError as error:
        raise MissingExtraError("a summary for the terminal", "cli") from error
    lines: list[RenderableType] = [Text(plain(diagnosis.headline), style="bold")]
    lines += [Text(f"- {plain(text)}") for text in (*diagnosis.reasons, *(one.text for one in diagnosis.findings))]
    known = tables(diagnosis)
    lines.append(Padding(Text("Below, ± is half of the 95 % interval.", style="dim"), (1, 0, 0, 0)))
    lines += [Padding(_table(known[name]), (1, 0, 0, 0)) for name in _SHOWN if name in known]
    return Group(*lines)


def _table(table: Table) -> RichTable:
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = [0, *(place for place, name in enumerate(table.columns) if name in _SHOWN[table.name])]
    left_out = len(table.rows) - _ROWS
    made = RichTable(
        title=Text(table.caption.partition(" Small print")[0], style="bold"),
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        caption=Text(f"and {left_out} more") if left_out > 0 else None,
        caption_justify="left",
    )
    for place in shown:
        name = table.columns[place]
        # Headers are wrapped to their figures: where rich has to shrink a table, it crops figures, too.
        wide = max([*(len(_cell(row[place], place, name).plain) for row in table.rows), *map(len, name.split()), 7])
        header = Text(textwrap.fill(name, wide))
        justify: Literal["left", "right"] = "left" if not place or name in table.words else "right"
        made.add_column(header, justify=justify, no_wrap=not place, overflow="ellipsis")
    for row in table.rows[:_ROWS]:
        made.add_row(*(_cell(row[place], place, table.columns[place]) for place in shown))
    return made


def _cell(cell: Cell, place: int, column: str) -> Text:
    from rich.text import Text

    if not place:
        always = f": {cell.note.removeprefix('always ')}" if cell.note.startswith("always ") else ""
        return Text(one_line(cell.text + always, _NAME))
    half = f" ±{cell.half}" if cell.half and column in _WITH_HALF else ""
    return Text(f"{cell.text}{half}", style=_STYLES[cell.tone])
