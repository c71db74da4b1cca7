"""The picture of a report, for slides."""

from __future__ import annotations

import textwrap

from agentroute.errors import ConfigError
from agentroute.evaluation import CascadeComparison, RoutingDiagnosis
from agentroute.evaluation._cascade_words import measured
from agentroute.reporting._charts import Dot, Spec, compiled, dots, libraries
from agentroute.reporting._plane import slide_plane
from agentroute.reporting._slider import operating, settled
from agentroute.reporting._theme import DARK, LIGHT, config
from agentroute.reporting.words import counted, plain, typeset

__all__ = ["report_png"]

_WIDTH, _HEIGHT = 880, 420
"""Of the plane without its axes, in pixels: about 16 to 9 with title and legend."""
_LINE = 78
"""Characters of the headline that fit into a line."""


def report_png(
    diagnosis: RoutingDiagnosis, *, scale: float = 2, dark: bool = False, cascades: CascadeComparison | None = None
) -> bytes:
    """The cost-quality plane with the headline above it, as a PNG; where costs are unknown, the quality of each model.

    Names of models are drawn in the fonts of this machine.

    Args:
        diagnosis: What `diagnose` found.
        scale: Pixels of the picture for each pixel of the drawing, which is about 1,000 wide: 2 is sharp on a projector.
        dark: For dark slides.
        cascades: What `compare_cascades` found on the same log: its curves are drawn, too.

    Raises:
        ConfigError: The scale is not positive, or above 10.
        MissingExtraError: The extra `report` is not installed.
    """
    if not 0 < scale <= 10:
        raise ConfigError(f"scale={scale!r}: give a number above 0 and up to 10, 2 for most screens")
    _, vl_convert = libraries()
    return bytes(vl_convert.vega_to_png(_picture(diagnosis, dark=dark, cascades=cascades), scale=scale))


def _picture(diagnosis: RoutingDiagnosis, *, dark: bool, cascades: CascadeComparison | None = None) -> Spec:
    alt, _ = libraries()
    diagnosis = settled(diagnosis if cascades is None else measured(diagnosis, cascades))
    colours = DARK if dark else LIGHT
    title = textwrap.wrap(typeset(plain(diagnosis.headline)), _LINE, max_lines=3, placeholder=" …", break_on_hyphens=False) or [
        ""
    ]
    queries = counted(diagnosis.evaluation.queries, "query", "queries")
    judged = f"{queries} of {counted(len(diagnosis.singles), 'model')}."
    several = len(diagnosis.singles) > 1
    if diagnosis.frontier is not None and several:
        told = f"{judged} Dots: single models, filled on their hull; lines and the shaded band: 95 % intervals."
        return slide_plane(
            diagnosis.frontier,
            colours,
            title=title,
            subtitle=[typeset(told)],
            width=_WIDTH,
            height=_HEIGHT,
            recommended=operating(diagnosis),
            cascades=cascades,
        )
    rows = [row for row in diagnosis.evaluation.rows if row.kind != "baseline" and several]
    shown = [
        *(Dot(name=one.model, interval=one.quality) for one in diagnosis.singles),
        *(Dot(name=row.name, interval=row.quality, kind="routed" if row.kind == "routed" else "bound") for row in rows),
    ]
    header = alt.TitleParams(
        title, subtitle=[typeset(f"{judged}{' Costs are unknown.' if diagnosis.frontier is None else ''} Lines: 95 % intervals.")]
    )
    chart = dots(shown, colours, axis="Quality", about="Quality of each model with its 95 % interval.")
    return compiled(chart.properties(width=_WIDTH, title=header, padding=24).configure(**config(colours, size=14)))
