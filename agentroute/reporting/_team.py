"""A report on a team as one HTML file, and its picture for slides."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from agentroute.errors import ConfigError
from agentroute.reporting._charts import Spec, libraries
from agentroute.reporting._page import rendered
from agentroute.reporting._team_charts import BOUNDS, SHADES, frontier_chart, heat_map, least_width
from agentroute.reporting._team_tables import team_tables
from agentroute.reporting._team_values import TeamDiagnosis
from agentroute.reporting._team_words import advice, left_to_say, limits, reasons
from agentroute.reporting._theme import DARK, LIGHT, VARIABLES
from agentroute.reporting.words import counted, isolated, percent, plain, typeset

__all__ = ["team_html", "team_png"]

_LINE, _LINES = 78, 8
"""Characters of the headline that fit into a line of the picture, and lines: its end says whether what it tells is noise."""
_SLIDE, _COLUMN = 700, 110
"""Pixels of the picture's cells together, and of one at least."""


def team_html(diagnosis: TeamDiagnosis, *, title: str = "Team report", source: str = "", made: datetime | None = None) -> str:
    """The report as one HTML page: which role hangs on its model, what budgets buy, what was learned from what.

    Light and dark, for wide screens and phones, by mouse, touch and keyboard; nothing outside the file is asked for. Of what the
    runs cannot tell there are words and never a number.

    Args:
        diagnosis: What `diagnose_team` found.
        title: Of the page.
        source: What was looked at, such as the name of the log.
        made: When; `None` = now.

    Raises:
        MissingExtraError: The extra `report` is not installed.
    """
    frontier, names = diagnosis.frontier, _names(diagnosis)

    def said(lines: Sequence[str]) -> list[str]:
        return [isolated(plain(line), names) for line in lines]

    charts: dict[str, Spec] = {"effects": heat_map(diagnosis, VARIABLES)} if diagnosis.fit.runs else {}
    if any(not math.isnan(frontier.success(one).value + frontier.money(one).value) for one in frontier.of("allocator")):
        charts["frontier"] = frontier_chart(diagnosis, VARIABLES)
    return rendered(
        "team.html.j2",
        charts=charts,
        charts_shown=set(charts),
        title=plain(title),
        source=plain(source),
        verdict=isolated(diagnosis.verdict, names),
        headline=typeset(isolated(plain(diagnosis.headline), names)),
        facts=_facts(diagnosis, source, made or datetime.now(UTC)),
        advice=[(name, typeset(isolated(plain(text), names))) for name, text in advice(diagnosis)],
        tables=team_tables(diagnosis),
        reasons=said(reasons(diagnosis)),
        left_to_say=said(left_to_say(diagnosis)),
        limits=said(limits(diagnosis)),
        least=least_width(diagnosis),
        legend=_legend(),
        hatched=any(one.logit is None for one in diagnosis.fit.effects),
        measured=frontier.measured,
        mapped=bool(frontier.of("map")),
        why=plain(frontier.why),
    )


def team_png(diagnosis: TeamDiagnosis, *, scale: float = 2, dark: bool = False) -> bytes:
    """Roles and models as a picture with the headline above it, as a PNG.

    Args:
        diagnosis: What `diagnose_team` found.
        scale: Pixels of the picture for each pixel of the drawing, which is about 900 wide: 2 is sharp on a projector.
        dark: For dark slides.

    Raises:
        ConfigError: The scale is not positive, or above 10; or there are no runs to draw.
        MissingExtraError: The extra `report` is not installed.
    """
    if not 0 < scale <= 10:
        raise ConfigError(f"scale={scale!r}: give a number above 0 and up to 10, 2 for most screens")
    if not diagnosis.fit.runs:
        why = f"nothing could be learned from {diagnosis.fit.useless}" if diagnosis.fit.useless else "there are no runs yet"
        raise ConfigError(f"{why}, and so there is nothing to draw: log runs of the team, and whether they succeed")
    alt, vl_convert = libraries()
    title = _title(diagnosis)
    told = (
        f"Points of success against the mean of the models tried in a role; {counted(diagnosis.fit.runs, 'run')}, 95 % intervals."
    )
    header: Any = alt.TitleParams(title, subtitle=[typeset(told)], fontSize=16)
    width = max(_SLIDE, _COLUMN * len(diagnosis.team.roles))
    picture = heat_map(diagnosis, DARK if dark else LIGHT, width=width, size=14, header=header)
    return bytes(vl_convert.vega_to_png(picture, scale=scale))


def _title(diagnosis: TeamDiagnosis) -> list[str]:
    """The headline in lines; only endless names do not fit."""
    whole = typeset(plain(f"{diagnosis.verdict}. {diagnosis.headline}"))
    return textwrap.wrap(whole, _LINE, max_lines=_LINES, placeholder=" …")


def _names(diagnosis: TeamDiagnosis) -> tuple[str, ...]:
    return (*diagnosis.models, *(role.name for role in diagnosis.team.roles), *diagnosis.fit.kinds)


def _facts(diagnosis: TeamDiagnosis, source: str, made: datetime) -> list[tuple[str, str]]:
    team = f"{counted(len(diagnosis.team.roles), 'role')}, {counted(len(diagnosis.models), 'model')}"
    fit = diagnosis.fit
    runs = f"{counted(fit.runs, 'run')}, {fit.drawn:,} drawn by lot" if fit.runs else fit.useless or "no runs"
    success = percent(diagnosis.base) if fit.runs else ""
    facts = [("From", plain(source)), ("Team", team), ("Runs", runs), ("Mean success", typeset(success))]
    return [(name, value) for name, value in [*facts, ("Made", f"{made:%d %B %Y, %H:%M} {made.tzname() or ''}".strip())] if value]


def _legend() -> list[tuple[str, str]]:
    """Colour → points of success, from what costs most to what adds most."""
    low, high = f"{BOUNDS[0]:g} and less", f"+{BOUNDS[-1]:g} and more"
    middle = [f"{a:+g} to {b:+g}" for a, b in pairwise(BOUNDS)]
    return list(zip(SHADES, [low, *middle, high], strict=True))
