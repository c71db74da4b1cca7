"""`agentroute diagnose` and `agentroute report`: what they print and write, and what they refuse."""

import json
import os
import threading

import numpy as np
import pytest

from agentroute.cli import _report as commands
from agentroute.cli import main
from agentroute.cli._data import _some, progress_bar
from agentroute.cli._output import check, write
from agentroute.errors import ConfigError


def rows(count, *, shifted=False, priced=True):
    """`small` can do sums, `large` capitals, too, at ten times the cost; with a shift `large` forgets the capitals."""
    rng = np.random.default_rng(0)
    for n in range(count):
        a, b = rng.integers(2, 99, size=2).tolist()
        for task, prompt in (
            ("sum", f"What is {a} + {b}?"),
            ("capital", f"Name the capital city of country number {a * 100 + n}."),
        ):
            for model, cost in (("small", 0.001), ("large", 0.01)):
                score = 1.0 if task == "sum" or (model == "large" and not (shifted and n % 3)) else 0.0
                money = {"cost_usd": cost} if priced else {}
                yield {"query_id": f"{task}{n}", "prompt": prompt, "task": task, "model": model, "score": score, **money}


def stored(file, made):
    file.write_text("".join(json.dumps(row) + "\n" for row in made))
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    stored(folder / "log.jsonl", rows(60))
    stored(folder / "later.jsonl", rows(60, shifted=True))
    assert main(["fit", str(folder / "log.jsonl"), "-o", str(folder / "router"), "--willingness-to-pay", "0.001"]) == 0
    return folder


def runs(*arguments):
    return main([str(one) for one in arguments])


def fails(capsys, *arguments):
    assert runs(*arguments) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert said.err.startswith("agentroute: ")
    return said.err


def test_diagnose_prints_verdict_reasons_and_tables(folder, capsys):
    assert runs("diagnose", folder / "log.jsonl") == 0
    said = capsys.readouterr()
    assert said.err == ""  # progress is for terminals
    assert said.out.startswith(("Route", "Cascade", "Ensemble", "Single model", "Need more data"))
    for part in (
        "\n- ",
        "Ways to choose, replayed on the same 120 queries",
        "best single: large",
        "Each task of the log",
        "the same",
    ):
        assert part in said.out


def test_diagnose_as_json_prints_nothing_else(folder, capsys):
    assert runs("diagnose", folder / "log.jsonl", "--json", "--holdout", folder / "later.jsonl", "--options", "sum=4") == 0
    said = capsys.readouterr()
    found = json.loads(said.out, parse_constant=pytest.fail)
    assert found["evaluation"]["queries"] == 120
    assert found["evaluation"]["best_single"] == "large"
    [large] = [shift for shift in found["shifts"] if shift["model"] == "large"]
    assert large["shifted"]
    assert found["luck_floor"] is not None
    assert found["frontier"] is not None


def test_a_seed_makes_it_the_same_again(folder, capsys):
    said = []
    for seed in (3, 3, 4):
        assert runs("diagnose", folder / "log.jsonl", "--json", "--seed", seed) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]


def test_report_writes_a_page_and_a_picture_and_says_where(folder, capsys, tmp_path):
    page, picture = tmp_path / "report.html", tmp_path / "plane.png"
    page.write_text("old")
    assert runs("report", folder / "log.jsonl", "-o", page, "--png", picture) == 0
    said = capsys.readouterr()
    assert f"written: {page} and {picture}" in said.out
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert "<bdi>log.jsonl</bdi>" in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert {one.name for one in tmp_path.iterdir()} == {"report.html", "plane.png"}


def test_report_judges_the_settings_of_a_router(folder, capsys, tmp_path):
    page = tmp_path / "report.html"
    for router, source in (((folder / "router",), "log.jsonl, settings of router"), ((), "log.jsonl")):
        assert runs("report", folder / "log.jsonl", *router, "-o", page) == 0
        assert f"<title>Routing report: {source}</title>" in page.read_text(encoding="utf-8")
    judged = []
    for router in (None, folder / "router"):
        found = commands._diagnosis(folder / "log.jsonl", router, holdout=None, options=(), seed=0)
        judged.append(found.evaluation["routed"])
    # A right answer is worth a tenth of what `large` costs there, so that it is never asked.
    assert judged[0].shares["large"] > 0.4
    assert judged[1].shares.get("large", 0.0) < 0.1
    assert judged[1].cost.value < judged[0].cost.value


def priced_cards(folder):
    cards = folder / "cards.toml"
    cards.write_text(
        "".join(
            f'[[models]]\nid = "{model}"\nprice = {{ input = {price}, output = {price} }}\ncontext_window = 1000\n'
            for model, price in (("small", 1.0), ("large", 10.0))
        )
    )
    log = stored(folder / "tokens.jsonl", ({**row, "input_tokens": 100, "output_tokens": 0} for row in rows(60, priced=False)))
    return log, cards


def test_prices_fill_in_costs(tmp_path, capsys):
    log, cards = priced_cards(tmp_path)
    page = tmp_path / "r.html"
    usual = {"holdout": None, "options": (), "seed": 0}
    commands.run_diagnose(log, as_json=True, cards=cards, **usual)
    found = json.loads(capsys.readouterr().out)
    [large] = [one for one in found["singles"] if one["model"] == "large"]
    assert large["cost"]["value"] == pytest.approx(100 * 10.0 / 1e6)
    commands.run_report(log, None, page, png=None, cards=cards, **usual)
    assert 'id="chart-plane"' in page.read_text(encoding="utf-8")
    commands.run_report(log, None, page, png=None, **usual)
    assert 'id="chart-plane"' not in page.read_text(encoding="utf-8")


def test_what_is_left_out_is_said(folder, tmp_path, capsys):
    more = ({**row, "model": "tiny"} for row in rows(60) if row["model"] == "small")
    log = stored(tmp_path / "more.jsonl", [*rows(60), *more])
    assert runs("report", log, folder / "router", "-o", tmp_path / "r.html", "--holdout", log) == 0
    assert capsys.readouterr().err == 2 * "left out: tiny, which more.jsonl holds and the router does not know\n"
    # Whoever is handed the page is told, too.
    limits = (tmp_path / "r.html").read_text(encoding="utf-8").partition("What this does not show")[2]
    assert "<li>Left out: tiny, which more.jsonl holds and the router does not know.</li>" in limits
    assert runs("evaluate", folder / "router", log) == 0
    assert "left out: tiny, which more.jsonl holds and the router does not know\n" in capsys.readouterr().out
    assert runs("fit", log, "-o", tmp_path / "router") == 0
    capsys.readouterr()
    assert runs("report", folder / "log.jsonl", tmp_path / "router", "-o", tmp_path / "r.html") == 0
    assert capsys.readouterr().err == "left out: tiny, which the router knows and log.jsonl does not hold\n"


def test_many_that_are_left_out_are_counted():
    assert _some([f"m{n}" for n in range(5)]) == "m0, m1, m2, m3, m4"
    assert _some([f"m{n}" for n in range(9)]) == "m0, m1, m2, m3, m4 and 4 more"


@pytest.mark.parametrize("name", ["plane.jpg", "plane", "plane.svg"])
def test_a_picture_of_another_kind_is_refused(folder, capsys, tmp_path, name):
    said = fails(capsys, "report", folder / "log.jsonl", "-o", tmp_path / "r.html", "--png", tmp_path / name)
    assert "so name it plane.png" in said
    assert list(tmp_path.iterdir()) == []


def test_the_prices_of_a_router_fill_in_costs(folder, tmp_path, capsys):
    log, cards = priced_cards(tmp_path)
    assert runs("fit", log, "-o", tmp_path / "router", "--cards", cards) == 0
    capsys.readouterr()
    found = commands._diagnosis(log, tmp_path / "router", holdout=None, options=(), seed=0)
    assert found.evaluation["best single"].cost.value == pytest.approx(100 * 10.0 / 1e6)
    assert commands._diagnosis(log, None, holdout=None, options=(), seed=0).frontier is None


def test_a_router_for_other_models_is_refused(folder, capsys, tmp_path):
    log = stored(tmp_path / "other.jsonl", ({**row, "model": f"other-{row['model']}"} for row in rows(20)))
    assert "no model in common" in fails(capsys, "report", log, folder / "router", "-o", tmp_path / "r.html")


@pytest.mark.parametrize("option", ["-o", "--png"])
def test_what_cannot_be_written_is_said_first(folder, capsys, tmp_path, option, monkeypatch):
    monkeypatch.setattr(commands, "diagnose", lambda *_, **__: pytest.fail("too late"))
    (tmp_path / "folder").mkdir()
    log = folder / "log.jsonl"
    before = log.read_bytes()

    def refused(place):
        usual = ["-o", tmp_path / "r.html"] if option == "--png" else []
        return fails(capsys, "report", log, *usual, option, place)

    assert "is a folder" in refused(tmp_path / "folder")
    assert "does not exist" in refused(tmp_path / "no" / "r.html")
    assert "is what is read" in refused(log)
    assert log.read_bytes() == before


def test_page_and_picture_need_two_files(folder, capsys, tmp_path):
    said = fails(capsys, "report", folder / "log.jsonl", "-o", tmp_path / "r.png", "--png", tmp_path / "r.png")
    assert "name two files" in said


def test_where_nothing_can_be_written_is_said_first(folder, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "diagnose", lambda *_, **__: pytest.fail("too late"))
    name = f"{'r' * 250}.html"  # of more than 255 bytes with what is put before it while it is written
    assert "cannot be written: File name too long" in fails(capsys, "report", folder / "log.jsonl", "-o", tmp_path / name)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if not os.access(closed, os.W_OK):  # root may write anywhere
        said = fails(capsys, "report", folder / "log.jsonl", "-o", closed / "r.html")
        assert "cannot be written: Permission denied" in said
    assert list(closed.iterdir()) == []
    check(closed.parent / "r.html")
    assert list(tmp_path.iterdir()) == [closed]


def test_a_link_stays_a_link(folder, capsys, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    for name in ("old.html", "new.html"):
        link = tmp_path / name
        link.symlink_to(shared / name)
    (shared / "old.html").write_text("old")
    for name in ("old.html", "new.html"):
        check(tmp_path / name)
        write(tmp_path / name, b"page")
        assert (tmp_path / name).is_symlink()
        assert (shared / name).read_bytes() == b"page"
    assert len(list(tmp_path.iterdir())) == 3
    assert len(list(shared.iterdir())) == 2
    (tmp_path / "log.html").symlink_to(folder / "log.jsonl")
    assert "is what is read" in fails(capsys, "report", folder / "log.jsonl", "-o", tmp_path / "log.html")


def test_a_pipe_is_written_through(folder, capsys, tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    assert runs("report", folder / "log.jsonl", "-o", pipe) == 0
    reader.join(timeout=60)
    assert not reader.is_alive()
    assert got[0].startswith(b"<!DOCTYPE html>")
    assert pipe.is_fifo()
    # What is said is not mixed with a page that goes to where it would be said.
    said = capsys.readouterr()
    assert said.out == ""
    assert f"written: {pipe}" in said.err


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    page = tmp_path / "report.html"
    page.write_text("old")

    def half(self, content):
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(type(page), "write_bytes", half)
    with pytest.raises(OSError, match="No space"):
        write(page, b"new and longer")
    assert page.read_text() == "old"
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.parametrize(
    ("given", "found"),
    [((), None), (("4",), 4), (("mmlu=4", "wino=2"), {"mmlu": 4, "wino": 2}), (("a=b=3",), {"a=b": 3})],
)
def test_options_are_one_number_or_by_task(given, found):
    assert commands._options(given) == found


@pytest.mark.parametrize(
    "given", [("one",), ("1",), ("mmlu=",), ("mmlu=x",), ("-4",), ("4", "mmlu=4"), ("4", "5"), ("a=4", "b=2", "a=4")]
)
def test_other_options_are_refused(given):
    with pytest.raises(ConfigError, match="--options"):
        commands._options(given)


def test_options_of_no_task_are_refused(folder, capsys, monkeypatch):
    monkeypatch.setattr(commands, "diagnose", lambda *_, **__: pytest.fail("too late"))
    said = fails(capsys, "diagnose", folder / "log.jsonl", "--options", "sum=4", "--options", "captial=2")
    assert "--options names 'captial', which is no task of the log: the log has 'capital', 'sum'" in said
    assert "twice" in fails(capsys, "diagnose", folder / "log.jsonl", "--options", "sum=4", "--options", "sum=5")


def test_progress_is_told_to_a_terminal(monkeypatch, capsys):
    def told():
        with progress_bar() as tell:
            tell("[bold]part 1\x1b[2J", 0.5)
        return capsys.readouterr()

    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert told() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")
    out, err = told()
    assert out == ""
    assert "[bold]part 1 [2J" in err
    assert "\x1b[2J" not in err
