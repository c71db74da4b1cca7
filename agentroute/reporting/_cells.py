"""The cells and tables of a report, before they are a page or a terminal's text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from agentroute.evaluation import Interval
from agentroute.reporting.words import UNKNOWN, noise, plain, points, span

__all__ = ["BEYOND", "Cell", "Table", "cell", "difference", "known", "made", "named"]

Tone: TypeAlias = Literal["", "better", "worse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One figure.

    Attributes:
        text: The figure.
        note: What stands below it in small print: its interval, or what a name means.
        half: Half the width of its interval, for where there is no room for small print.
        tone: Whether it is better or worse than chance allows; the text says so, too.
        shade: 1 to 5, light to dark, in a heat map; 0 = none.
        strong: Whether it stands out in its row.
    """

    text: str
    note: str = ""
    half: str = ""
    tone: Tone = ""
    shade: int = 0
    strong: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table.

    Attributes:
        name: For programs; a word that can be an anchor.
        caption: For people.
        columns: The header.
        rows: The cells; the first of a row is what the row is about.
        words: Columns of words, which are aligned to the left like the first one.
        marked: Rows that the report is about.
        names: Columns whose header is a name out of the log.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: frozenset[str] = frozenset()
    marked: frozenset[int] = frozenset()
    names: frozenset[str] = frozenset()


BEYOND = "Beyond noise?"
_WORDS = frozenset({BEYOND, "Best model here", "On the hull", "Reads as", "Votes", "Shifted?", "What it is", "Best single"})


def known(table: Table) -> Table:
    """The table without columns in which nothing is known."""
    empty = {place for place in range(1, len(table.columns)) if all(row[place].text in {UNKNOWN, ""} for row in table.rows)}
    keep = [place for place in range(len(table.columns)) if place not in empty]
    return replace(
        table,
        columns=tuple(table.columns[place] for place in keep),
        rows=tuple(tuple(row[place] for place in keep) for row in table.rows),
    )


def cell(interval: Interval, say: Callable[[float], str]) -> Cell:
    half = (interval.high - interval.low) / 2
    return Cell(text=say(interval.value), note=span(interval, say), half="" if math.isnan(half) else say(half).lstrip("+"))


def difference(interval: Interval) -> tuple[Cell, Cell]:
    """The difference and what it allows to say."""
    said = noise(interval)
    tone: Tone = "better" if said == "better" else "worse" if said == "worse" else ""
    return cell(interval, points), Cell(text=said, tone=tone)


def named(text: str) -> Cell:
    return Cell(text=plain(text))


def made(name: str, caption: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], marked: Iterable[int] = ()) -> Table:
    return Table(
        name=name,
        caption=caption,
        columns=tuple(columns),
        rows=tuple(tuple(row) for row in rows),
        words=_WORDS & set(columns),
        marked=frozenset(marked),
    )
