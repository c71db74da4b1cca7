"""Diagnoses for people: one HTML file, a picture for slides, a summary for the terminal, and JSON for programs."""

from agentroute.reporting._cascades import cascade_json, cascade_tables
from agentroute.reporting._html import report_html
from agentroute.reporting._image import report_png
from agentroute.reporting._json import report_json
from agentroute.reporting._terminal import summary

__all__ = ["cascade_json", "cascade_tables", "report_html", "report_json", "report_png", "summary"]
