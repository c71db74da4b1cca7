"""Diagnoses for people: one HTML file, a picture for slides, a summary for the terminal, and JSON for programs."""

from agentroute.reporting._cascades import cascade_json, cascade_tables
from agentroute.reporting._html import report_html
from agentroute.reporting._image import report_png
from agentroute.reporting._json import report_json
from agentroute.reporting._team import team_html, team_png
from agentroute.reporting._team_diagnosis import diagnose_team
from agentroute.reporting._team_tables import team_tables
from agentroute.reporting._team_values import TeamDiagnosis
from agentroute.reporting._terminal import summary

__all__ = [
    "TeamDiagnosis",
    "cascade_json",
    "cascade_tables",
    "diagnose_team",
    "report_html",
    "report_json",
    "report_png",
    "summary",
    "team_html",
    "team_png",
    "team_tables",
]
