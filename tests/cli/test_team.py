"""`agentroute team`: what fit, allocate and report read, print and write, and what they refuse."""

import json
import subprocess
import sys
from importlib import resources

import numpy as np
import pytest

from agentroute.cli import main
from agentroute.cli._team import _fixed, _team_of
from agentroute.cli._team_file import read_team
from agentroute.errors import ConfigError
from agentroute.teams import NONE, RoleAllocator, RoleUsage, RunLog, TeamRun
from agentroute.types import Query, Usage

TEAM = """
task = "answers questions"

[[roles]]
name = "planner"
description = "Says how a task is solved."
input_tokens = 200

[[roles]]
name = "coder"
output_tokens = 100
prompt = "Solve {task}"
max_tokens = 64

[[roles]]
name = "critic"
optional = true

[[modes]]
name = "chain"
growth = "previous"
"""
CARDS = """
[[models]]
id = "small"
price = { input = 0.1, output = 0.1 }

[[models]]
id = "large"
price = { input = 1.0, output = 1.0 }
"""


_USAGE = Usage(input_tokens=100, output_tokens=50)


def planted(count, *, priced=True):
    """Only the coder's model matters; the large one costs ten times as much."""
    rng = np.random.default_rng(1)
    for n in range(count):
        models = {
            "planner": ["small", "large"][rng.integers(2)],
            "coder": ["small", "large"][rng.integers(2)],
            "critic": ["small", "large", NONE][rng.integers(3)],
        }
        paid = {role: 0.01 if model == "large" else 0.001 for role, model in models.items() if model != NONE}
        yield TeamRun(
            id=f"run {n}",
            query=Query(text=f"Task {n}", id=f"t{n}", task=["sum", "capital"][n % 2]),
            models=models,
            success=float(rng.random() < (0.88 if models["coder"] == "large" else 0.27)),
            cost=sum(paid.values()) if priced else None,
            roles={role: RoleUsage(usage=_USAGE, cost=cost) for role, cost in paid.items()} if priced else {},
            propensity=1 / 12,
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("team")
    RunLog(folder / "runs.jsonl").extend(planted(240))
    (folder / "team.toml").write_text(TEAM)
    (folder / "cards.toml").write_text(CARDS)
    fit = (
        "fit",
        folder / "runs.jsonl",
        "--team",
        folder / "team.toml",
        "--cards",
        folder / "cards.toml",
        "-o",
        folder / "fitted",
    )
    assert runs(*fit) == 0
    return folder


def runs(*arguments):
    return main(["team", *map(str, arguments)])


def fails(capsys, *arguments):
    assert runs(*arguments) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert said.err.startswith("agentroute: ")
    return said.err


def test_fit_says_what_was_learned_and_the_folder_allocates_so(folder, capsys, tmp_path):
    assert runs("fit", folder / "runs.jsonl", "--team", folder / "team.toml", "-o", tmp_path / "t") == 0
    out = capsys.readouterr().out
    assert "240 runs of 3 roles and 2 models learned" in out
    assert "better" in out
    made = RoleAllocator.load(tmp_path / "t")
    assert set(made.ids) == {"small", "large"}  # those of the runs, in the order in which they came
    assert made.task == "answers questions"
    assert made.team.role("coder").output_tokens == 100
    assert made.allocate("", budget=0.03).models["coder"] == "large"


def test_fit_says_what_cannot_be_told(folder, capsys, tmp_path):
    log = tmp_path / "stuck.jsonl"
    stuck = [TeamRun(query=run.query, models={**run.models, "planner": "small"}, success=run.success) for run in planted(80)]
    RunLog(log).extend([*stuck, TeamRun(query=Query(text="x"), models=stuck[0].models)])
    assert runs("fit", log, "--team", folder / "team.toml", "--cards", folder / "cards.toml", "-o", tmp_path / "t") == 0
    out = capsys.readouterr().out
    assert "not identifiable: role planner (never varied)" in out
    assert "left out: 1 run (success unknown)" in out
    assert "in 80 of 80 runs no lot drew the models" in out
    [row] = [line for line in out.splitlines() if line.startswith("planner") and "large" in line]
    assert row.split() == ["planner", "large", "0", "not", "identifiable"]


def test_fit_refuses_runs_of_another_team_and_saves_nothing(folder, capsys, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text('[[roles]]\nname = "writer"\n[[roles]]\nname = "critic"\n')
    said = fails(capsys, "fit", folder / "runs.jsonl", "--team", other, "-o", tmp_path / "t")
    assert "nothing can be learned from 240 runs (unknown model, or a role left out that is not optional)" in said
    assert said.rstrip().endswith("other.toml lacks 'planner', 'coder'")
    other.write_text('[[roles]]\nname = "writer"\noptional = true\n[[roles]]\nname = "editor"\noptional = true\n')
    said = fails(capsys, "fit", folder / "runs.jsonl", "--team", other, "-o", tmp_path / "t")
    assert "240 runs (roles of another team)" in said
    assert not (tmp_path / "t").exists()


def test_runs_that_nobody_has_judged_are_told_as_such(folder, capsys, tmp_path):
    log = tmp_path / "unjudged.jsonl"
    RunLog(log).extend(TeamRun(query=run.query, models=run.models) for run in planted(60))
    said = fails(capsys, "fit", log, "--team", folder / "team.toml", "-o", tmp_path / "t")
    assert "nothing can be learned from 60 runs (success unknown)" in said
    assert "lacks" not in said
    assert runs("report", log, "-o", tmp_path / "team.html") == 0
    assert "Nothing could be learned from 60 runs (success unknown)" in capsys.readouterr().out
    said = fails(capsys, "report", log, "-o", tmp_path / "team.html", "--png", tmp_path / "team.png")
    assert "nothing could be learned from 60 runs (success unknown)" in said


def test_fit_before_any_run_goes_by_the_cards(folder, capsys, tmp_path):
    empty = tmp_path / "none.jsonl"
    empty.touch()
    assert runs("fit", empty, "--team", folder / "team.toml", "--cards", folder / "cards.toml", "-o", tmp_path / "t") == 0
    out = capsys.readouterr().out
    assert "no runs yet: allocations go by the models' cards" in out
    assert RoleAllocator.load(tmp_path / "t").allocate("x").models["coder"] == "large"
    said = fails(capsys, "fit", empty, "--team", folder / "team.toml", "-o", tmp_path / "u")
    assert "--cards POOL.toml" in said


def test_allocate_prints_who_gets_what_and_why(folder, capsys):
    assert runs("allocate", folder / "fitted", "What is 3 + 4?", "--task", "sum", "--budget", "0.012") == 0
    said = capsys.readouterr()
    assert said.err == ""
    rows = {
        line.split()[0]: line.split()[1] for line in said.out.splitlines() if line.split()[0] in {"planner", "coder", "critic"}
    }
    assert rows["coder"] == "large"
    assert rows["planner"] == "small"
    assert "of a budget of $0.0120" in said.out
    assert "expected success" in said.out


def test_allocate_as_json_is_the_allocation(folder, capsys):
    options = ["--budget", "0.03", "--role", "planner=large", "--role", "critic=none", "--mode", "chain", "--json"]
    assert runs("allocate", folder / "fitted", "x", "--task", "capital", *options) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    made = RoleAllocator.load(folder / "fitted")
    expected = made.allocate(
        Query(text="x", task="capital"), budget=0.03, fixed={"planner": "large", "critic": NONE}, mode="chain"
    )
    assert found["models"] == dict(expected.models) == {"planner": "large", "coder": "large"}
    assert found["fixed"] == sorted(expected.fixed)
    assert found["expected_quality"] == pytest.approx(expected.expected_quality)
    assert found["expected_cost"] == pytest.approx(expected.expected_cost)
    assert found["expected_cost"] <= found["budget"] == 0.03


def test_allocate_says_where_the_kind_is_not_known(folder, capsys):
    assert runs("allocate", folder / "fitted", "x", "--json") == 0
    assert "no --task is given" in capsys.readouterr().err
    assert runs("allocate", folder / "fitted", "x", "--task", "poem") == 0
    assert "known are capital, sum" in capsys.readouterr().err


def test_allocate_refuses_in_one_line(folder, capsys):
    fitted = folder / "fitted"
    assert "the cheapest, planner=small, coder=small" in fails(capsys, "allocate", fitted, "x", "--budget", "0.0001")
    assert "unknown role 'poet'" in fails(capsys, "allocate", fitted, "x", "--role", "poet=small")
    assert "huge" in fails(capsys, "allocate", fitted, "x", "--role", "coder=huge")
    assert "--role coder=none: the team needs its coder" in fails(capsys, "allocate", fitted, "x", "--role", "coder=none")
    for wrong in ("-1", "nan"):
        assert f"--budget {wrong}: give USD of a run" in fails(capsys, "allocate", fitted, "x", f"--budget={wrong}")
    assert "unknown mode 'debate'" in fails(capsys, "allocate", fitted, "x", "--mode", "debate")
    assert "such as planner=small" in fails(capsys, "allocate", fitted, "x", "--role", "planner")
    assert "twice" in fails(capsys, "allocate", fitted, "x", "--role", "coder=small", "--role", "coder=large")
    assert "does not exist" in fails(capsys, "allocate", folder / "nowhere", "x")
    RunLog(folder / "unpriced.jsonl").extend(planted(40, priced=False))
    assert runs("fit", folder / "unpriced.jsonl", "--team", folder / "team.toml", "-o", folder / "unpriced") == 0
    capsys.readouterr()
    assert "no price and no logged cost for 'small', 'large': log" in fails(
        capsys, "allocate", folder / "unpriced", "x", "--budget", "1"
    )
    assert runs("allocate", folder / "unpriced", "x") == 0
    assert "expected cost unknown" in capsys.readouterr().out
    assert _fixed(["a = b=c"]) == {"a": "b=c"}


def test_a_folder_that_is_no_team_is_told_as_such(folder, capsys, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    for said in (
        fails(capsys, "allocate", tmp_path / "full", "x"),
        fails(capsys, "fit", folder / "runs.jsonl", "--team", folder / "team.toml", "-o", tmp_path / "full"),
        fails(capsys, "allocate", folder / "team.toml", "x"),
    ):
        assert "a saved team" in said
        assert "router" not in said


def test_report_from_runs_measures_and_from_a_folder_expects(folder, capsys, tmp_path):
    page, picture = tmp_path / "r.html", tmp_path / "r.png"
    assert runs("report", folder / "runs.jsonl", folder / "fitted", "-o", page, "--png", picture) == 0
    out = capsys.readouterr().out
    assert out.startswith("The coder matters most. large as coder adds ")
    assert "Nobody has measured" not in out
    assert f"written: {page} and {picture}" in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = page.read_text(encoding="utf-8")
    assert "runs.jsonl, fitted" in text
    assert "240, of 240 tasks" in text
    assert runs("report", folder / "fitted", "-o", page) == 0
    assert "Nobody has measured this." in capsys.readouterr().out
    assert "fitted" in page.read_text(encoding="utf-8")


def test_report_of_runs_alone_knows_the_team_by_them(folder, capsys, tmp_path):
    assert runs("report", folder / "runs.jsonl", "-o", tmp_path / "r.html") == 0
    assert "The coder matters most" in capsys.readouterr().out
    team = _team_of(list(RunLog(folder / "runs.jsonl")))
    assert [(role.name, role.optional) for role in team.roles] == [("planner", False), ("coder", False), ("critic", True)]
    assert [mode.name for mode in team.modes] == ["chain"]
    assert runs("report", folder / "runs.jsonl", "--team", folder / "team.toml", "-o", tmp_path / "r.html") == 0


def test_report_refuses_before_it_works(folder, capsys, tmp_path):
    log, fitted = folder / "runs.jsonl", folder / "fitted"
    assert "has its own" in fails(capsys, "report", fitted, "--cards", folder / "cards.toml")
    assert "one of each" in fails(capsys, "report", log, log)
    assert "does not exist" in fails(capsys, "report", tmp_path / "none.jsonl")
    assert "is what is read" in fails(capsys, "report", log, "-o", log)
    assert "name it r.png" in fails(capsys, "report", log, "-o", tmp_path / "r.html", "--png", tmp_path / "r.jpg")
    assert "name two files" in fails(capsys, "report", log, "-o", tmp_path / "r.png", "--png", tmp_path / "r.png")
    (tmp_path / "empty.jsonl").touch()
    assert "holds no run yet" in fails(capsys, "report", tmp_path / "empty.jsonl", "-o", tmp_path / "r.html")
    (tmp_path / "other.jsonl").write_text('{"prompt": "x"}\n')
    assert runs("report", tmp_path / "other.jsonl", "-o", tmp_path / "r.html") == 2
    assert "holds no run of a team" in capsys.readouterr().err
    assert "is a folder" in fails(capsys, "fit", folder, "--team", folder / "team.toml", "-o", tmp_path / "t")
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("roles = [", "not a team file"),
        ("", r"one \[\[roles\]\] table for each"),
        ("[roles]\nname = 'a'", "two brackets"),
        ("[[role]]\nname = 'a'", "unknown field 'role'"),
        ("task = 3\n[[roles]]\nname = 'a'", "task=3 is not a text"),
        ("[[roles]]\ndescription = 'a'", "role 1: the field 'name' is missing"),
        ("[[roles]]\nname = 'a'\noptonal = true", "role 'a': unknown field 'optonal'; it may have name, description"),
        ("[[roles]]\nname = 'a'\noptional = 'yes'", "optional='yes' is not true or false"),
        ("[[roles]]\nname = 'a'\nneeds = 'tools'", "needs='tools' is not a list of texts"),
        ("[[roles]]\nname = 'a'\ncalls = true", "calls=True is not a number"),
        ("[[roles]]\nname = 'a'\ncalls = -1", "calls=-1 must be a number of 0 or more"),
        ("[[roles]]\nname = 'a'\n[[modes]]\nname = 'm'\nrounds = 1.5", "mode 'm': rounds=1.5 is not a whole number"),
        ("[[roles]]\nname = 'a'\n[[modes]]\nname = 'm'\nprompt = 'x'", "unknown field 'prompt'"),
        ("[[roles]]\nname = 'a'\n[[modes]]\nname = 'm'\ngrowth = 'some'", "growth='some' must be"),
        ("[[roles]]\nname = 'a'\n[[roles]]\nname = 'a'", "two roles of the team are called 'a'"),
        ("[[roles]]\nname = ''", "needs a name"),
    ],
)
def test_a_team_file_that_is_wrong_says_where(tmp_path, text, said):
    file = tmp_path / "team.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said) as error:
        read_team(file)
    assert str(file) in str(error.value)


def test_the_team_file_that_ships_is_one():
    with resources.as_file(resources.files("agentroute") / "data" / "team.toml") as file:
        team, task = read_team(file)
    assert [(role.name, role.optional) for role in team.roles] == [("planner", False), ("solver", False), ("critic", True)]
    assert task == ""


def test_the_commands_are_known_before_what_they_need_is_loaded():
    code = (
        "import sys, agentroute.cli._app; print(sorted({'agentroute.teams', 'agentroute.reporting', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_names_the_commands(capsys):
    assert runs("--help") == 0
    out = capsys.readouterr().out
    for command in ("fit", "allocate", "report"):
        assert command in out
