"""Colours and type of the charts and the page, light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["DARK", "LIGHT", "VARIABLES", "config"]

LIGHT: Mapping[str, str] = {
    "ground": "#ffffff",
    "raised": "#f6f7f9",
    "ink": "#1a1d21",
    "muted": "#565e68",
    "hairline": "#d9dde2",
    "grid": "#eceff2",
    "control": "#7c8591",
    "link": "#00568f",
    "router": "#0072b2",
    "band": "#cfe4f2",
    "oracle": "#b85300",
    "cascade": "#9c3f77",
    "better": "#00664a",
    "worse": "#a13a12",
    "shade-1": "#f4f8fb",
    "shade-2": "#e2edf6",
    "shade-3": "#cbe0ef",
    "shade-4": "#b0d1e8",
    "shade-5": "#93c0df",
    "loss-3": "#eeb48d",
    "loss-2": "#f5cfb6",
    "loss-1": "#fae6d9",
    "even": "#f0f1f3",
    "gain-1": "#deebf5",
    "gain-2": "#bfd9ec",
    "gain-3": "#97c3e1",
}
"""Okabe and Ito's colour-blind-safe blue, vermillion, purple and green, darkened where they bear text: 4.5 to 1 and more."""

DARK: Mapping[str, str] = {
    "ground": "#15181c",
    "raised": "#1d2126",
    "ink": "#e9ecef",
    "muted": "#a6aeb8",
    "hairline": "#363c44",
    "grid": "#262b31",
    "control": "#7e8792",
    "link": "#8cc8f0",
    "router": "#56b4e9",
    "band": "#1f3e52",
    "oracle": "#e69f00",
    "cascade": "#e28fc0",
    "better": "#4cc9a0",
    "worse": "#f0916a",
    "shade-1": "#1b2128",
    "shade-2": "#1c2d3b",
    "shade-3": "#1d3a50",
    "shade-4": "#1e4866",
    "shade-5": "#20577d",
    "loss-3": "#7a4219",
    "loss-2": "#57331a",
    "loss-1": "#3a281c",
    "even": "#23282e",
    "gain-1": "#1d3345",
    "gain-2": "#1e4866",
    "gain-3": "#205f8a",
}

VARIABLES: Mapping[str, str] = {name: f"var(--{name})" for name in LIGHT}
"""The colours as CSS variables: a chart on the page follows the page's theme without being drawn again."""

_PAGE_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_PICTURE_FONT = "Helvetica Neue, Arial, Liberation Sans, sans-serif"


def config(colours: Mapping[str, str], *, size: int = 12) -> dict[str, Any]:
    """How charts look: few lines, quiet axes.

    Args:
        colours: One of the above.
        size: Of the text, in pixels.
    """
    font = _PAGE_FONT if colours is VARIABLES else _PICTURE_FONT
    text = {"labelFont": font, "titleFont": font, "labelFontSize": size, "titleFontSize": size}
    return {
        "background": "transparent" if colours is VARIABLES else colours["ground"],
        "font": font,
        "view": {"stroke": None},
        "axis": {
            **text,
            "labelColor": colours["muted"],
            "titleColor": colours["muted"],
            "titleFontWeight": "normal",
            "titlePadding": 10,
            "labelPadding": 6,
            "domainColor": colours["control"],
            "tickColor": colours["control"],
            "tickSize": 4,
            "gridColor": colours["grid"],
            "labelSeparation": 10,
        },
        "legend": {**text, "labelColor": colours["ink"], "symbolStrokeWidth": 3, "symbolSize": 300},
        "title": {
            "font": font,
            "subtitleFont": font,
            "fontSize": round(1.5 * size),
            "subtitleFontSize": size,
            "color": colours["ink"],
            "subtitleColor": colours["muted"],
            "anchor": "start",
            "offset": 14,
            "subtitlePadding": 8,
        },
    }
