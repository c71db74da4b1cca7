"""The summary for the terminal, and JSON for programs."""

import io
import json
import math
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from rich.console import Console

from agentroute.errors import MissingExtraError
from agentroute.evaluation import Interval
from agentroute.reporting import report_json, summary

MADE = datetime(2026, 11, 22, 20, 15, tzinfo=UTC)
UNKNOWN = Interval(value=math.nan, low=math.nan, high=math.nan)


def printed(diagnosis, width=80):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(summary(diagnosis))
    return console.file.getvalue()


def test_the_summary_fits_eighty_characters(planted):
    diagnosis = planted(tuple(f"vendor/a-model-with-a-long-name-{number}" for number in range(7)), ("sums",), shifted=True)
    shown = printed(diagnosis)
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.startswith("Route: 1,840 queries")
    flat = " ".join(shown.split())
    for line in (*diagnosis.reasons, *(one.text for one in diagnosis.findings)):
        assert " ".join(line.split()) in flat
    # Figures are whole, however long the names.
    for row in diagnosis.evaluation.rows:
        assert f"{row.quality.value:.3f} ±0.018" in shown
    assert "+2.0 ±1.2  better" in shown
    assert re.search(r"^cheapest: vendor/a-", shown, re.MULTILINE)


def test_a_long_table_is_cut_in_the_terminal(planted):
    shown = printed(planted(tasks=tuple(f"task {number}" for number in range(30))))
    assert "task 11 " in shown
    assert "task 12 " not in shown
    assert "and 18 more" in shown


def test_a_terminal_is_not_moved_by_names(planted):
    shown = printed(planted(("[bold]m[/bold]", "\x1b[2Jx\r\nfoo")))
    assert "[bold]m[/bold]" in shown
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", shown)


def test_json_holds_the_whole_diagnosis(planted):
    diagnosis = planted(("small", "large", "huge"), shifted=True)
    found = json.loads(report_json(diagnosis))
    assert {"agentroute", *(name for name in diagnosis.__slots__)} == set(found)
    assert found["verdict"] == "route"
    assert found["frontier"]["points"][-1]["willingness_to_pay"] is None
    assert found["frontier"]["points"][0]["willingness_to_pay"] == 0.0005
    assert found["calibration"][0]["auroc_within"] == {"value": None, "low": None, "high": None}
    assert found["evaluation"]["rows"][7]["gain"]["value"] == diagnosis.evaluation["routed"].gain.value
    assert "replay" not in found["evaluation"]
    assert found["top_two"][0] == ["small", "huge"]
    assert found["degeneracy"]["always"] is False
    assert found["queries_needed"] is None


def test_json_of_a_real_diagnosis_is_plain(real):
    found = json.loads(report_json(real), parse_constant=pytest.fail)
    assert found["evaluation"]["queries"] == 300
    assert found["headline"] == real.headline
    assert report_json(replace(real, dependence=Interval(value=np.float64(math.inf), low=np.float64(0.5), high=1.0)))


def test_a_summary_without_rich_names_the_extra(planted, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(MissingExtraError, match=r"agentroute-sdk\[cli\]"):
        summary(planted())
