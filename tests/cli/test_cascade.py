"""`--cascade` of `fit`, `evaluate` and `report`: what is read, learned, printed and refused."""

import gzip
import json
import re

import numpy as np
import pytest

from agentroute.cascades import AnswerTable, Attempt, CascadeRouter
from agentroute.cascades._replay import replay
from agentroute.cli import main
from agentroute.cli._answers import read_answers
from agentroute.cli._options import Seen
from agentroute.types import Reply, Score


def rows(count, *, informed):
    """`small` is right half of the time, nobody foresees when; its log-probability tells, as far as it is informed."""
    rng = np.random.default_rng(0)
    for n in range(count):
        for model, chance, cost in (("small", 0.5, 0.0001), ("large", 0.9, 0.001)):
            right = bool(rng.random() < chance)
            row = {
                "query_id": f"q{n}",
                "prompt": f"Question {n * 7919 % 1000}?",
                "model": model,
                "score": int(right),
                "cost_usd": cost,
            }
            row |= {"logprob": informed * (right - 0.5) + rng.standard_normal(), "answer": f"It is {n if right else n + 1}."}
            yield {**row, "said": row["answer"], "judged": row["logprob"], "judge_usd": 0.00001}


def stored(file, made):
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "wt") as out:
        out.writelines(json.dumps(row) + "\n" for row in made)
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cascade")
    stored(folder / "log.jsonl", rows(200, informed=3.0))
    stored(folder / "blind.jsonl.gz", ({**row, "answer": None} for row in rows(200, informed=0.0)))
    bare = ({name: row[name] for name in ("query_id", "prompt", "model", "score", "cost_usd")} for row in rows(40, informed=0.0))
    stored(folder / "bare.jsonl", bare)
    assert runs("fit", folder / "log.jsonl", "--cascade", "--budget", "0.0006", "-o", folder / "fitted") == 0
    return folder


def runs(*arguments):
    return main([str(one) for one in arguments])


def fails(capsys, *arguments):
    assert runs(*arguments) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert said.err.startswith("agentroute: ")
    return said.err


def test_fit_says_what_it_learned_and_the_folder_plans_as_it_was_fitted(folder, capsys, tmp_path):
    assert runs("fit", folder / "log.jsonl", "--cascade", "--budget", "0.0006", "--default", "small", "-o", tmp_path / "c") == 0
    out = capsys.readouterr().out
    assert "200 queries of 2 models learned" in out
    assert "looks at logprob, length, how far answers agree; default small" in out
    assert "Cascading pays: " in out
    assert "Without --cascade" not in out
    [(quality, cost, climbs)] = re.findall(
        r"quality (0\.\d+) at \$(0\.\d+) a query, scoring included; it asks more than one model in (\d+) %", out
    )
    assert float(cost) <= 0.0006
    assert float(quality) > 0.8
    assert int(climbs) > 20
    cascade = CascadeRouter.load(tmp_path / "c")
    assert cascade.signals == ("logprob", "length")
    # What was learned climbs from a doubtful answer, and stops at a sure one.
    plan = cascade.plan("Question 77?")
    assert plan.next([], ["small", "large"]).model == "small"

    def tried(logprob):
        return [
            Attempt(model="small", reply=Reply(text="It is 3."), score=Score(value=0.5, signals={"logprob": logprob})),
        ]

    assert plan.next(tried(-3.0), ["large"]).model == "large"
    assert plan.next(tried(3.0), ["large"]) is None
    # And replayed on answers of other questions it keeps to its budget, about, and is better than the small model.
    other = stored(tmp_path / "other.jsonl", ({**row, "query_id": f"o{row['query_id']}"} for row in rows(200, informed=3.0)))
    answers = AnswerTable.from_jsonl(other, signals=["logprob", "length"])
    known, expected = cascade.expected(answers)
    table = known.table.select(cascade.posthoc.models_)
    done = replay(cascade.policy, cascade.posthoc.states(known, expected), table.quality, table.cost)
    assert done.point[0] == pytest.approx(0.0006, rel=0.1)
    assert done.point[1] > table.quality[:, 0].mean() + 0.25


def test_fit_warns_where_a_cascade_does_not_pay(folder, capsys, tmp_path):
    assert runs("fit", folder / "blind.jsonl.gz", "--cascade", "--willingness-to-pay", "0.001", "-o", tmp_path / "c") == 0
    out = capsys.readouterr().out
    assert "looks at logprob; default" in out
    assert "Cascading pays" not in out
    assert "Hardly better than a coin" in out
    assert "Without --cascade a router alone is fitted." in out


def test_fit_where_nothing_can_be_held_out_still_saves(capsys, tmp_path):
    log = stored(tmp_path / "log.jsonl", (row for n, row in enumerate(rows(120, informed=3.0)) if n // 2 % 2 == n % 2))
    assert runs("fit", log, "--cascade", "-o", tmp_path / "c") == 0
    out = capsys.readouterr().out
    assert "Whether it pays cannot be told: no held-out query has quality and cost of every model" in out
    assert CascadeRouter.load(tmp_path / "c").fitted


def test_evaluate_needs_no_folder_and_prints_every_way(folder, capsys):
    assert runs("evaluate", folder / "log.jsonl", "--cascade", "--test-share", "0.5") == 0
    out = capsys.readouterr().out
    for part in (
        "linear interpolation",
        "routing",
        "threshold cascade",
        "cascading",
        "cascade routing",
        "logprob",
        "expected after",
    ):
        assert part in out
    assert re.search(r"always one model: small 0\.[45]\d\d at \$0\.000100, large", out)
    assert out.splitlines()[-1].startswith("Cascading pays: ")


def test_evaluate_as_json_prints_nothing_else(folder, capsys):
    options = ["--by", "query", "--test-share", "0.5", "--seed", "3"]
    assert runs("evaluate", folder / "fitted", folder / "log.jsonl", "--cascade", "--json", *options) == 0
    said = capsys.readouterr()
    assert said.err == ""
    found = json.loads(said.out, parse_constant=pytest.fail)
    assert found["queries"] == 100
    curves = {curve["name"]: curve for curve in found["curves"]}
    assert curves["cascade routing"]["over_routing"]["low"] > 0.0
    assert found["verdict"] == "cascading pays"
    assert {signal["signal"] for signal in found["signals"]} == {"logprob", "length", "expected before", "expected after"}


def test_columns_of_other_names_are_read_and_scoring_is_paid(folder, capsys):
    options = ["--signals", "judged, logprob", "--answer", "said", "--score-cost", "judge_usd", "--test-share", "0.5"]
    assert runs("evaluate", folder / "log.jsonl", "--cascade", "--json", *options) == 0
    found = json.loads(capsys.readouterr().out)
    [planned] = [curve for curve in found["curves"] if curve["name"] == "cascade routing"]
    assert planned["scoring"] > 0.0
    assert planned["points"][-1]["scoring"] == pytest.approx(1e-5 * (planned["points"][-1]["calls"] - 1))  # not the last
    seen = Seen(signals="judged", answer="said", score_cost="judge_usd")
    answers = read_answers(folder / "log.jsonl", seen)
    assert tuple(answers.signals) == ("judged",)
    assert answers.agreement is not None
    assert (answers.score_cost == 1e-5).all()


def test_report_has_a_section_and_curves_with_cascade_and_not_without(capsys, tmp_path):
    pages = []
    log = stored(tmp_path / "log.jsonl", rows(80, informed=4.0))
    for options in (["--cascade", "--png", tmp_path / "plane.png"], []):
        assert runs("report", log, "-o", tmp_path / "r.html", *options) == 0
        pages.append((tmp_path / "r.html").read_text(encoding="utf-8"))
        assert ("Cascading pays: " in capsys.readouterr().out) == bool(options)
    for part in (
        "Would a cascade pay?",
        "Cascading pays: ",
        "caption-cascade-ways",
        "caption-cascade-signals",
        '"curve":"cascade routing"',
    ):
        assert part in pages[0]
        assert part not in pages[1]
    assert (tmp_path / "plane.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_missing_is_named(folder, capsys, tmp_path):
    log, out = folder / "log.jsonl", ["-o", tmp_path / "c"]
    said = fails(capsys, "fit", folder / "bare.jsonl", "--cascade", *out)
    assert "'logprob'" in said
    assert "--signals" in said
    assert "'answer'" in said
    assert "no row of log.jsonl has a number in the column 'nope'" in fails(
        capsys, "fit", log, "--cascade", "--signals", "nope", *out
    )
    assert "has the column 'nope'" in fails(capsys, "fit", log, "--cascade", "--answer", "nope", *out)
    assert "--score-cost nope" in fails(capsys, "evaluate", log, "--cascade", "--score-cost", "nope")
    assert "twice" in fails(capsys, "evaluate", log, "--cascade", "--signals", "logprob,logprob")
    assert "go with --cascade" in fails(capsys, "fit", log, "--signals", "logprob", *out)
    assert "give --willingness-to-pay or --budget" in fails(
        capsys, "fit", log, "--cascade", "--budget", "1", "--willingness-to-pay", "1", *out
    )
    assert "cannot be kept" in fails(capsys, "fit", log, "--cascade", "--budget", "1e-9", *out)
    assert "--by model" in fails(capsys, "evaluate", log, "--cascade", "--by", "model")
    assert "agentroute evaluate DIR LOG" in fails(capsys, "evaluate", log)
    assert "--json goes with --cascade" in fails(capsys, "evaluate", folder / "fitted", log, "--json")
    (tmp_path / "log.csv").write_text("prompt,model,score\na,b,1\n")
    assert "give a .jsonl, .jsonl.gz or .parquet file" in fails(capsys, "evaluate", tmp_path / "log.csv", "--cascade")
    (tmp_path / "log.sqlite").touch()
    assert "a .sqlite log holds no answers" in fails(capsys, "evaluate", tmp_path / "log.sqlite", "--cascade")
    free = stored(tmp_path / "free.jsonl", ({**row, "cost_usd": None} for row in rows(40, informed=1.0)))
    assert "no price and no logged cost for 'small', 'large'" in fails(capsys, "fit", free, "--cascade", *out)
    assert "no price and no logged cost" in fails(capsys, "evaluate", free, "--cascade")
    assert not (tmp_path / "c").exists()
