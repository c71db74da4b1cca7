"""The command line: what each command prints and writes, and that every error is one line and the code 2."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from agentroute.cli import _demo as demo_command
from agentroute.cli import main
from agentroute.cli._data import read_table
from agentroute.collection import Answer, read_tasks
from agentroute.errors import LowSupportWarning
from agentroute.outcomes import OutcomeTable, SqliteOutcomeLog
from agentroute.router import Router
from agentroute.types import Outcome, Query, Usage

CARDS = """
[[models]]
id = "small"
price = { input = 0.1, output = 0.1 }
context_window = 1000

[[models]]
id = "large"
price = { input = 1.0, output = 1.0 }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A log in which `small` can do sums and `large` can do both sums and capitals, at ten times the price."""
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    rows = []
    for n in range(60):
        a, b = rng.integers(2, 99, size=2).tolist()
        for task, prompt in (
            ("sum", f"What is {a} + {b}?"),
            ("capital", f"Name the capital city of country number {a * 100 + n}."),
        ):
            for model, cost in (("small", 0.001), ("large", 0.01)):
                score = 1.0 if model == "large" or task == "sum" else 0.0
                row = {"query_id": f"{task}{n}", "prompt": prompt, "task": task, "model": model, "score": score}
                rows.append({**row, "cost_usd": cost, "latency_s": cost * 10})
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "cards.toml").write_text(CARDS)
    assert main(["fit", str(folder / "log.jsonl"), "-o", str(folder / "router"), "--willingness-to-pay", "0.02"]) == 0
    return folder


def fails(capsys, *arguments):
    """Runs a command that must fail, and gives the one line that it says."""
    assert main([str(one) for one in arguments]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert said.err.startswith("agentroute: ")
    assert "Traceback" not in said.out + said.err
    return said.err


def test_fit_learns_saves_and_says_so(folder, capsys, tmp_path):
    assert (
        main(["fit", str(folder / "log.jsonl"), "-o", str(tmp_path / "r"), "--willingness-to-pay", "0.02", "--default", "small"])
        == 0
    )
    out = capsys.readouterr().out
    assert "120 queries of 2 models" in out
    assert "default small" in out
    router = Router.load(tmp_path / "r")
    assert router.route("What is 3 + 4?").model == "small"
    assert router.route("Name the capital city of country number 7.").model == "large"


def test_fit_to_a_budget_takes_cards_and_keeps_prompts(folder, capsys, tmp_path):
    options = ["--mean-cost", "0.004", "--cards", str(folder / "cards.toml"), "--keep-prompts"]
    assert main(["fit", str(folder / "log.jsonl"), "-o", str(tmp_path / "r"), *options]) == 0
    assert "expected cost $0.00" in capsys.readouterr().out
    router = Router.load(tmp_path / "r")
    assert router.pool.card("small").context_window == 1000
    assert any("What is" in neighbour.query.text for neighbour in router.explain("What is 3 + 4?").neighbours)


def test_evaluate_refits_on_a_part_and_judges_on_the_rest(folder, capsys):
    assert main(["evaluate", str(folder / "router"), str(folder / "log.jsonl"), "--seed", "3", "--test-share", "0.25"]) == 0
    out = capsys.readouterr().out
    assert "fitted on 90 queries, judged on 30 others" in out
    for name in ("cheapest: small", "best single: large", "routed", "oracle"):
        assert name in out
    assert "It costs less, and the difference in quality is within noise." in out


def test_route_explains_for_people_and_for_programs(folder, capsys):
    assert main(["route", str(folder / "router"), "What is 5 + 6?"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("small (policy): ")
    assert "Nearest logged queries" in out
    assert main(["route", str(folder / "router"), "What is 5 + 6?", "--task", "sum", "--role", "clerk", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == "small"
    assert found["candidates"][0]["model"] == "small"
    assert len(found["neighbours"]) == 5
    assert set(found["neighbours"][0]["quality"]) == {"small", "large"}


def test_log_says_what_a_file_holds(folder, capsys):
    assert main(["log", str(folder / "log.jsonl")]) == 0
    out = capsys.readouterr().out
    assert "120 queries, 2 models, 240 judged pairs" in out
    assert "capital" in out
    assert "large alone gets 1.000, and picking the best model for each query would get 1.000" in out


def test_log_says_what_a_database_holds(capsys, tmp_path):
    path = tmp_path / "log.sqlite"
    with SqliteOutcomeLog(path) as log:
        pass
    assert main(["log", str(path)]) == 0
    assert "0 outcomes; judged by: nobody yet" in capsys.readouterr().out
    with SqliteOutcomeLog(path, store_prompts=True) as log:
        log.append(Outcome(query=Query(text="a"), model="m", quality=0.5, scorer="verifier", cost=0.5))
        log.append(Outcome(query=Query(text="b"), model="m", error="TimeoutError", decision_id="d"))
        log.append(Outcome(query=Query(text="c"), model="m", decision_id="e"))
        log.feedback("e", 1.0)
    assert main(["log", str(path)]) == 0
    out = capsys.readouterr().out
    assert "3 outcomes; judged by: verifier 1, user 1" in out
    assert "failed calls: m TimeoutError 1" in out
    assert "0.750" in out
    assert "Too few queries" in out


def test_every_kind_of_log_is_read_the_same(folder, tmp_path):
    reference = read_table(folder / "log.jsonl")
    with SqliteOutcomeLog(tmp_path / "log.db", store_prompts=True) as log:
        log.extend(reference.outcomes())
    lines = ["prompt,model,quality,cost,query_id"]
    for i, query in enumerate(reference.queries):
        for j, model in enumerate(reference.models):
            lines.append(f'"{query.text}",{model},{reference.quality[i, j]},{reference.cost[i, j]},{query.id}')
    (tmp_path / "log.csv").write_text("\n".join(lines))
    for name in ("log.db", "log.csv"):
        found = read_table(tmp_path / name)
        assert isinstance(found, OutcomeTable)
        np.testing.assert_array_equal(found.quality, reference.quality)
        np.testing.assert_allclose(found.cost, reference.cost)


def test_collect_starts_nothing_before_its_files_are_right(capsys, tmp_path, monkeypatch):
    (tmp_path / "tasks.jsonl").write_text('{"id": "a", "prompt": "1 + 1?", "verifier": {"kind": "number", "expected": 2}}\n')
    pool = tmp_path / "pool.toml"
    pool.write_text('[[models]]\nid = "m"\n')
    collect = ("collect", tmp_path / "tasks.jsonl", "--pool", pool, "-o")
    assert "give base_url or local" in fails(capsys, *collect, tmp_path / "log.sqlite")
    assert "is a .sqlite file" in fails(capsys, *collect, tmp_path / "log.jsonl")
    pool.write_text('[[models]]\nid = "m"\nbase_url = "http://127.0.0.1:1/v1"\napi_key_env = "NO_SUCH_KEY"\n')
    assert "NO_SUCH_KEY is not set" in fails(capsys, *collect, tmp_path / "log.sqlite")


def test_collect_asks_logs_and_goes_on(capsys, tmp_path, monkeypatch):
    lines = [json.dumps({"id": f"t{n}", "prompt": f"{n}?", "verifier": {"kind": "number", "expected": n}}) for n in range(7)]
    (tmp_path / "tasks.jsonl").write_text("\n".join(lines))
    (tmp_path / "pool.toml").write_text('[[models]]\nid = "m"\nbase_url = "http://127.0.0.1:1/v1"\n')
    asked = []

    def answer(self, prompt, max_tokens):
        asked.append(prompt)
        return Answer(text=prompt, usage=None, latency=0.1)

    monkeypatch.setattr("agentroute.collection.ChatEndpoint.answer", answer)
    collect = [
        "collect",
        str(tmp_path / "tasks.jsonl"),
        "--pool",
        str(tmp_path / "pool.toml"),
        "-o",
        str(tmp_path / "log.sqlite"),
    ]
    assert main([*collect, "--limit", "3"]) == 0
    assert "3 answered, 0 failed, 0 were in" in capsys.readouterr().out
    assert main(collect) == 0
    out = capsys.readouterr().out
    assert "4 answered, 0 failed, 3 were in" in out
    assert "1.000" in out
    assert asked == [task.prompt for task in read_tasks(tmp_path / "tasks.jsonl")]


def test_collect_from_a_dead_endpoint_keeps_the_failures_and_says_so(capsys, tmp_path):
    lines = [json.dumps({"id": f"t{n}", "prompt": f"{n}?", "verifier": {"kind": "number", "expected": n}}) for n in range(7)]
    (tmp_path / "tasks.jsonl").write_text("\n".join(lines))
    (tmp_path / "pool.toml").write_text('[[models]]\nid = "m"\nbase_url = "http://127.0.0.1:1/v1"\n')
    said = fails(capsys, "collect", tmp_path / "tasks.jsonl", "--pool", tmp_path / "pool.toml", "-o", tmp_path / "log.sqlite")
    assert "m failed five times in a row" in said
    with SqliteOutcomeLog(tmp_path / "log.sqlite") as log:
        assert [outcome.error for outcome in log] == ["URLError"] * 5


def test_collect_of_which_every_call_failed_is_an_error(capsys, tmp_path):
    (tmp_path / "tasks.jsonl").write_text('{"id": "a", "prompt": "1 + 1?", "verifier": {"kind": "number", "expected": 2}}\n')
    (tmp_path / "pool.toml").write_text('[[models]]\nid = "m"\nbase_url = "http://127.0.0.1:1/v1"\n')
    said = fails(capsys, "collect", tmp_path / "tasks.jsonl", "--pool", tmp_path / "pool.toml", "-o", tmp_path / "log.sqlite")
    assert "no call was answered, 1 failed" in said


def test_fit_and_evaluate_learn_from_a_log_without_prompts_by_its_vectors(folder, capsys, tmp_path):
    router = Router(["small", "large"])
    with SqliteOutcomeLog(tmp_path / "log.sqlite", store_prompts=False) as log:
        for outcome in read_table(folder / "log.jsonl").outcomes():
            log.append(replace(outcome, query=router.embed(outcome.query)))
    options = ["--willingness-to-pay", "0.02", "--default", "large"]
    assert main(["fit", str(tmp_path / "log.sqlite"), "-o", str(tmp_path / "r"), *options]) == 0
    assert "120 queries of 2 models" in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "r"), str(tmp_path / "log.sqlite")]) == 0
    said = capsys.readouterr()
    assert not said.err
    shares = re.search(r"routed to: (.*)", said.out).group(1)
    # Half of the questions are sums, for which the small model is as good.
    share = {name: int(percent) for name, percent in re.findall(r"(\w+) (\d+)%", shares)}
    assert 25 <= share["small"] <= 75
    assert 25 <= share["large"] <= 75
    assert main(["log", str(tmp_path / "log.sqlite")]) == 0
    assert "240 judged pairs" in capsys.readouterr().out


def test_log_counts_what_holds_neither_texts_nor_vectors(capsys, tmp_path):
    with SqliteOutcomeLog(tmp_path / "log.sqlite", store_prompts=False) as log:
        log.append(Outcome(query=Query(text="a"), model="m", quality=0.5))
    assert main(["log", str(tmp_path / "log.sqlite")]) == 0
    assert "1 queries, 1 models, 1 judged pairs" in capsys.readouterr().out


def test_prices_of_cards_fill_in_costs_from_logged_tokens(folder, capsys, tmp_path):
    with SqliteOutcomeLog(tmp_path / "log.sqlite", store_prompts=True) as log:
        for outcome in read_table(folder / "log.jsonl").outcomes():
            log.append(replace(outcome, cost=None, usage=Usage(input_tokens=10_000, output_tokens=0)))
    fit = ["fit", str(tmp_path / "log.sqlite"), "-o", str(tmp_path / "r"), "--mean-cost", "0.004"]
    said = fails(capsys, *fit)
    assert "no price and no logged cost for 'small', 'large'" in said
    assert "--cards POOL.toml" in said
    assert "OutcomeTable" not in said
    assert main([*fit, "--cards", str(folder / "cards.toml")]) == 0
    assert "expected cost $0.00" in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "r"), str(tmp_path / "log.sqlite")]) == 0
    out = capsys.readouterr().out
    # 10,000 tokens at 0.1 and at 1 USD per million: 1 and 10 USD for a thousand queries.
    assert re.search(r"cheapest: small .* 1\.0000 ±0\.0000", out)
    assert re.search(r"best single: large .* 10\.0000 ±0\.0000", out)


def test_evaluate_says_on_how_many_queries_it_rests(folder, capsys, tmp_path):
    kept = [line for line in (folder / "log.jsonl").read_text().splitlines() if '"capital7"' not in line or "small" not in line]
    (tmp_path / "log.jsonl").write_text("\n".join(kept))
    # One query lacks an answer: it is held out in some splits and not in others.
    said = []
    for seed in range(8):
        assert main(["evaluate", str(folder / "router"), str(tmp_path / "log.jsonl"), "--seed", str(seed)]) == 0
        said.append(capsys.readouterr().out)
    notes = ["replayed on 35 of 36 held-out queries, those that every model answered" in out for out in said]
    assert [("judged on 35 others" in out, "judged on 36 others" in out) for out in said] == [(n, not n) for n in notes]
    assert len(set(notes)) == 2


@pytest.mark.filterwarnings("ignore")
def test_one_model_leaves_nothing_to_choose(folder, capsys, tmp_path):
    kept = [line for line in (folder / "log.jsonl").read_text().splitlines() if '"large"' in line]
    (tmp_path / "log.jsonl").write_text("\n".join(kept))
    says = "large is the only model: there is nothing to choose between."
    assert main(["fit", str(tmp_path / "log.jsonl"), "-o", str(tmp_path / "r")]) == 0
    assert says in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "r"), str(tmp_path / "log.jsonl")]) == 0
    assert says in capsys.readouterr().out
    assert main(["fit", str(tmp_path / "log.jsonl"), "-o", str(tmp_path / "r2"), "--cards", str(folder / "cards.toml")]) == 0
    assert "large is the only model of the pool in this log: there is nothing to choose between." in capsys.readouterr().out
    assert "no outcome of 'small', so that nothing can be compared" in fails(
        capsys, "evaluate", tmp_path / "r2", tmp_path / "log.jsonl"
    )


def run_process(*arguments, **options):
    command = [sys.executable, "-m", "agentroute", *map(str, arguments)]
    return subprocess.run(command, check=False, stderr=subprocess.PIPE, **options)


@pytest.mark.parametrize("command", ["log", "route", "--help"])
def test_a_broken_pipe_is_no_error(folder, command):
    arguments = {
        "log": ["log", folder / "log.jsonl"],
        "route": ["route", folder / "router", "1 + 1?", "--json"],
        "--help": ["--help"],
    }
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run_process(*arguments[command], stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_output_that_cannot_write_every_character_gets_others(folder):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = run_process("route", folder / "router", "What is 5 + 6?", env=environment, stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")
    done = run_process("evaluate", folder / "router", folder / "log.jsonl", env=environment, stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"? half of the 95 % interval" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frobnicate"], "No such command"),
        (["fit"], "Missing argument"),
        (["log", "--nope", "x"], "No such option"),
        (["log", "absent.sqlite"], "absent.sqlite does not exist"),
        (["log", "README"], "does not exist"),
        (["route", "absent", "hello"], "absent does not exist"),
        (["fit", "{log}", "-o", "{tmp}/r", "--willingness-to-pay", "1", "--mean-cost", "1"], "not both"),
        (["fit", "{log}", "-o", "{tmp}/r", "--willingness-to-pay", "-1"], "above 0"),
        (["fit", "{log}", "-o", "{tmp}/r", "--willingness-to-pay", "much"], "--willingness-to-pay"),
        (["fit", "{log}", "-o", "{tmp}/r", "--mean-cost", "1e-9"], "cannot be kept"),
        (["fit", "{log}", "-o", "{tmp}/r", "--default", "huge"], "unknown model 'huge'"),
        (["fit", "{log}", "-o", "{tmp}/r", "--cards", "{tmp}/none.toml"], "none.toml: No such file"),
        (["evaluate", "{router}", "{log}", "--test-share", "2"], "between 0 and 1"),
        (["evaluate", "{tmp}", "{log}"], "not a saved router"),
        (["demo", "--tiny", "--full"], "not both"),
        (["demo", "--questions", "0"], "--questions"),
        (["demo", "--seed", "-1"], "--seed"),
        (["evaluate", "{router}", "{log}", "--seed", "-1"], "--seed"),
    ],
)
def test_an_error_is_one_line_and_code_2(folder, capsys, tmp_path, arguments, says):
    places = {"log": folder / "log.jsonl", "router": folder / "router", "tmp": tmp_path}
    assert says in fails(capsys, *(one.format(**places) for one in arguments))


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["frobnicate"], "agentroute"),
        (["--nope"], "agentroute"),
        (["fit"], "agentroute fit"),
        (["log", "--nope", "x"], "agentroute log"),
        (["demo", "--questions", "0"], "agentroute demo"),
    ],
)
def test_a_usage_error_names_the_help_of_its_command(capsys, arguments, names):
    assert f"(see `{names} --help`)" in fails(capsys, *arguments)


def test_a_reading_command_makes_no_file(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fails(capsys, "log", "absent.sqlite")
    assert not list(tmp_path.iterdir())


def test_a_log_of_unknown_kind_and_one_that_is_broken(capsys, tmp_path):
    (tmp_path / "log.txt").touch()
    (tmp_path / "log.jsonl").write_text("{")
    assert "a log is a .sqlite" in fails(capsys, "log", tmp_path / "log.txt")
    assert "not JSON" in fails(capsys, "log", tmp_path / "log.jsonl")
    (tmp_path / "log.sqlite").write_text("no database, but long enough to look at its header, which is a hundred bytes" * 3)
    fails(capsys, "log", tmp_path / "log.sqlite")


def test_a_warning_is_a_note_of_one_line(capsys, tmp_path):
    rows = [{"prompt": f"{n}?", "model": "m", "score": n % 2} for n in range(3)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["fit", str(tmp_path / "log.jsonl"), "-o", str(tmp_path / "r")]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("note: ")
    assert said.err.count("\n") == 1
    assert LowSupportWarning.__name__ not in said.err


def test_help_and_version(capsys):
    assert main([]) == 0
    assert "evaluate" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("agentroute ")
    assert main(["fit", "--help"]) == 0
    assert "Columns of a file log: prompt, model and score" in " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_without_typer_there_is_a_hint(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "typer", None)
    assert "pip install 'agentroute-sdk[cli]'" in fails(capsys, "log", "x")


def test_demo_without_a_plug_in_and_with_a_broken_one(capsys, monkeypatch):
    class Entry:
        name = "plug"

        def load(self):
            raise ModuleNotFoundError("No module named 'langchain_openai'")

    monkeypatch.setattr(demo_command.metadata, "entry_points", lambda group: [])
    assert "no demo is installed: pip install 'agentroute-sdk[demo]'" in fails(capsys, "demo")
    monkeypatch.setattr(demo_command.metadata, "entry_points", lambda group: [Entry()])
    assert "langchain_openai" in fails(capsys, "demo")


def test_demo_passes_its_options_on(monkeypatch, tmp_path):
    given = {}

    class Entry:
        name = "plug"

        def load(self):
            return given.update

    monkeypatch.setattr(demo_command.metadata, "entry_points", lambda group: [Entry()])
    assert main(["demo", "--full", "--questions", "3", "--seed", "5", "--log", str(tmp_path / "x.sqlite")]) == 0
    assert given == {"size": "full", "questions": 3, "seed": 5, "log": tmp_path / "x.sqlite"}
    assert main(["demo"]) == 0
    assert given == {"size": "default", "questions": 14, "seed": 0, "log": None}


def test_an_interrupted_command_ends_cleanly(capsys, monkeypatch):
    def interrupt(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_command, "run_demo", interrupt)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
