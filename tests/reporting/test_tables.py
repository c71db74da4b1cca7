"""The tables of a report: every figure of the diagnosis, and nothing where nothing is known."""

import math
import re
from dataclasses import replace
from datetime import UTC, datetime

from agentroute.evaluation import FoldResult, Interval
from agentroute.reporting import report_html
from agentroute.reporting._limits import limits
from agentroute.reporting._tables import tables

MADE = datetime(2026, 11, 22, 20, 15, tzinfo=UTC)
UNKNOWN = Interval(value=math.nan, low=math.nan, high=math.nan)


def cells(table, column):
    place = table.columns.index(column)
    return [row[place] for row in table.rows]


def test_the_tables_hold_the_figures(planted):
    diagnosis = planted(("small", "large"), ("sums", "capitals"), shifted=True)
    found = tables(diagnosis)
    ways = found["ways"]
    assert [cell.text for cell in cells(ways, "Way to choose")] == [row.name for row in diagnosis.evaluation.rows]
    assert [cell.text for cell in cells(ways, "Quality")] == [f"{row.quality.value:.3f}" for row in diagnosis.evaluation.rows]
    assert cells(ways, "Quality")[0].note == (
        f"{diagnosis.evaluation.rows[0].quality.low:.3f} to {diagnosis.evaluation.rows[0].quality.high:.3f}"
    )
    said = dict(zip((row.name for row in diagnosis.evaluation.rows), cells(ways, "Beyond noise?"), strict=True))
    assert {name: (cell.text, cell.tone) for name, cell in said.items()} == {
        "random": ("worse", "worse"),
        "cheapest": ("worse", "worse"),
        "strongest": ("within noise", ""),
        "best single": ("the measure", ""),
        "task lookup": ("within noise", ""),
        "plain kNN": ("worse", "worse"),
        "logistic": ("within noise", ""),
        "routed": ("better", "better"),
        "oracle": ("out of reach", ""),
    }
    assert [ways.rows[place][0].text for place in ways.marked] == ["routed"]
    points = diagnosis.frontier.points
    assert [cell.text for cell in cells(found["points"], "Willingness to pay")][::11] == ["$0.0005 per right answer", "any price"]
    assert [cell.text for cell in cells(found["points"], "Saved")] == [f"{100 * one.saving.value:.0f} %" for one in points]
    assert [cell.text for cell in cells(found["shifts"], "Shifted?")] == ["no", "shifted"]
    assert [cell.text for cell in cells(found["shifts"], "p (Holm)")] == ["0.800", "<0.001"]
    assert [cell.text for cell in cells(found["tasks"], "Task")] == ["sums", "capitals"]
    assert [row[0].text for row in found["gaps"].rows] == ["policy", "estimates", "all of it"]
    shares = diagnosis.evaluation["routed"].shares
    by_model = {row[0].text: row[1].text for row in found["mix"].rows}
    assert by_model == {model: f"{100 * share:.0f} %" for model, share in shares.items()}


def test_the_best_model_of_a_task_is_bold_and_the_better_the_darker(planted):
    diagnosis = planted(("small", "large", "huge"), ("sums", "capitals", "jokes"))
    heat = tables(diagnosis)["task-quality"]
    for task, row in zip(diagnosis.tasks, heat.rows, strict=True):
        assert [name for name, cell in zip(heat.columns[1:], row[1:], strict=True) if cell.strong] == [task.best_model]
    shown = sorted((float(cell.text), cell.shade) for row in heat.rows for cell in row[1:])
    assert [shade for _, shade in shown] == sorted(shade for _, shade in shown)
    assert {shown[0][1], shown[-1][1]} == {1, 5}


def test_what_is_unknown_is_left_out(planted):
    diagnosis = planted(costs=False)
    found = tables(diagnosis)
    assert "points" not in found
    assert "USD per 1,000" not in found["ways"].columns
    assert "On the hull" not in found["models"].columns
    assert "Real by expected cost" not in found["calibration"].columns
    page = report_html(diagnosis, made=MADE)
    assert "nothing can be said about savings" in page
    assert 'id="rate"' not in page
    assert any(line.startswith("Costs are unknown") for line in limits(diagnosis))
    without_tasks = report_html(planted(tasks=()), made=MADE)
    assert 'id="tasks"' not in without_tasks
    unmeasured = tables(replace(planted(), gaps=replace(planted().gaps, noise=UNKNOWN)))
    assert [row[1].text for row in unmeasured["gaps"].rows][2] == "?"


def test_one_group_is_not_told_twice(planted):
    diagnosis = planted(tasks=("all",))
    assert not {"tasks", "task-quality"} & set(tables(diagnosis))
    assert 'id="chart-tasks"' not in report_html(diagnosis, made=MADE)


def test_luck_is_not_out_of_reach_and_windows_are_named_where_there_are_two(planted, reader):
    diagnosis = planted(shifted=True)
    luck = replace(diagnosis.evaluation["oracle"], name="luck floor")
    evaluation = replace(diagnosis.evaluation, rows=(*diagnosis.evaluation.rows, luck))
    found = tables(replace(diagnosis, evaluation=evaluation, settings={"second window": "in the last 30% of the times"}))
    assert [cell.text for cell in cells(found["ways"], "Beyond noise?")][-2:] == ["out of reach", "what luck gives"]
    assert found["shifts"].caption == "Mean quality in the first window and in the last 30% of the times."
    text = "\n".join(reader(report_html(planted(), made=MADE)).text)
    assert not re.search("holdout|fit window|first window", text)


def test_the_parts_of_a_split_are_listed(planted):
    diagnosis = planted()
    folds = tuple(
        FoldResult(
            name=f"task {name}", queries=50, best_single="large", gains={"routed": Interval(value=v, low=v - 0.01, high=v + 0.01)}
        )
        for name, v in (("sums", 0.05), ("jokes", -0.05))
    )
    found = tables(replace(diagnosis, evaluation=replace(diagnosis.evaluation, folds=folds)))["folds"]
    assert [[cell.text for cell in row] for row in found.rows] == [
        ["task sums", "50", "large", "+5.0", "better"],
        ["task jokes", "50", "large", "-5.0", "worse"],
    ]
    assert "folds" not in tables(replace(diagnosis, evaluation=replace(diagnosis.evaluation, folds=folds[:1])))
