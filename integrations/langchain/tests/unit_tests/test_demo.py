"""The demo: its rules, and the whole of it with recorded answers for all models."""

import io
import math
import signal
import tempfile
from dataclasses import replace
from importlib import metadata

import numpy as np
import pytest
from rich.console import Console

from agentroute.cli import main
from agentroute.cli.figures import evaluation_table
from agentroute.collection import load_ladder
from agentroute.evaluation import evaluate
from agentroute.outcomes import MemoryOutcomeLog, OutcomeTable, SqliteOutcomeLog
from agentroute.router import Router
from agentroute.types import Candidate, Decision, Outcome, Paradigm, Query
from langchain_agentroute import RoutedChatModel, routing_decision

pytest.importorskip("langchain_openai")
from langchain_agentroute import _demo_report as report
from langchain_agentroute import demo as demo_module
from langchain_agentroute._demo_models import LiveOnly, RecordedChatModel
from langchain_agentroute.demo import policies_for, sample, why


@pytest.fixture(scope="module")
def ladder():
    return load_ladder()


@pytest.fixture
def no_servers(monkeypatch):
    """All models play their recorded answers."""
    monkeypatch.setitem(demo_module._LIVE, "tiny", ())


def test_the_prices_follow_from_the_training_part_alone():
    quality = np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    cost = np.array([[1.0, 3.0]] * 4)
    queries = tuple(Query(text=str(n)) for n in range(4))
    train = OutcomeTable(queries=queries, models=("a", "b"), quality=quality, cost=cost)
    # 2 USD more for 0.5 more right answers.
    assert [policy.willingness_to_pay for policy in policies_for(train).values()] == [4.0, 16.0]
    same = OutcomeTable(queries=queries, models=("a", "b"), quality=quality[:, ::-1], cost=cost)
    assert all(math.isfinite(policy.willingness_to_pay) for policy in policies_for(same).values())


def test_questions_are_held_out_drawn_evenly_and_repeatable(ladder):
    _, test = ladder.table.split(0.3, seed=0)
    held_out = {query.id for query in test.queries}
    asked = sample(ladder, test, 14, seed=0)
    assert [task.id for task in asked] == [task.id for task in sample(ladder, test, 14, seed=0)]
    assert [task.id for task in asked] != [task.id for task in sample(ladder, test, 14, seed=1)]
    assert {task.id for task in asked} <= held_out
    assert len({task.id for task in asked}) == 14
    kinds = [task.task for task in asked]
    assert max(map(kinds.count, kinds)) - min(map(kinds.count, kinds)) <= 1
    assert len(set(kinds)) == len({task.task for task in ladder.tasks.values()})
    assert len(sample(ladder, test, 10_000, seed=0)) == len(test)


def test_why_says_what_was_expected():
    candidates = (Candidate(model="a", quality=0.5, cost=0.25), Candidate(model="b"))
    made = {"model": "a", "candidates": candidates, "paradigm": Paradigm(when="pre-generation", what=(), how="lookup")}
    assert why(Decision(reason="r", **made)) == "expected 0.50 right for $0.250; next b, ? right for ?"
    assert why(Decision(reason="thin", by="default", **made)) == "thin"


def test_a_recorded_model_plays_its_answer_with_its_tokens(ladder):
    name, task = "smollm2-135m", next(iter(ladder.tasks.values()))
    answer = ladder.answers[name][task.id]
    model = RoutedChatModel(models={name: RecordedChatModel(model=name, answers={task.prompt: answer})})
    message = model.invoke(task.prompt)
    assert message.text == answer.text
    assert message.usage_metadata["output_tokens"] == answer.usage.output_tokens
    assert routing_decision(message)["answered_by"] == name


def test_a_recorded_answer_is_no_live_outcome():
    inner = MemoryOutcomeLog()
    log = LiveOnly(inner, ["live"])
    log.append(Outcome(query=Query(text="?"), model="recorded"))
    log.append(Outcome(query=Query(text="?"), model="live", decision_id="d"))
    assert log.feedback("d", 1.0)
    assert [(outcome.model, outcome.quality) for outcome in log] == [("live", 1.0)]
    assert len(log) == 1


@pytest.mark.usefixtures("no_servers")
def test_the_whole_demo_with_recorded_answers(capsys, tmp_path):
    entry = next(iter(metadata.entry_points(group="agentroute.demo")))
    assert entry.load() is demo_module.demo
    assert main(["demo", "--tiny", "--questions", "12", "--log", str(tmp_path / "live.sqlite")]) == 0
    out = capsys.readouterr().out
    for number in range(1, 13):
        assert f"{number:>2}. " in out
    assert "13. " not in out
    tables = out[out.index("held-out questions, from the log") :]
    held_out, live = tables.split("The 12 questions answered just now")
    for table in (held_out, live):
        for name in ("cheapest: ", "best single: ", "routed, thrifty", "routed, generous", "oracle"):
            assert name in table
    assert "against always" in held_out
    assert "Over 6 random splits" in held_out
    assert "(recorded)" in out
    assert "calls were live" in live.split("\n", 1)[0]
    assert live.startswith(": 0 of ")
    assert "routed, thrifty *" in live
    assert "routed, generous *" in live
    with SqliteOutcomeLog(tmp_path / "live.sqlite") as log:
        assert len(log) == 0


@pytest.mark.usefixtures("no_servers")
def test_it_can_be_interrupted(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def interrupt(*_):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(demo_module.report, "question", interrupt)
    # Who starts the tests may ignore the signal, and that is inherited: shells do so for what runs in the background.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["demo", "--tiny", "--questions", "3"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    said = capsys.readouterr()
    assert said.err == "interrupted\n"
    assert "Traceback" not in said.out
    assert not list(tmp_path.iterdir())


def test_two_policies_with_one_choice_share_one_call(ladder, no_servers, monkeypatch):
    calls = []
    original = RecordedChatModel._generate

    def counted(self, messages, *args, **kwargs):
        calls.append(messages[-1].text)
        return original(self, messages, *args, **kwargs)

    monkeypatch.setattr(RecordedChatModel, "_generate", counted)
    seen = []
    monkeypatch.setattr(demo_module.report, "question", lambda console, number, given: seen.append(given))
    demo_module.demo(size="tiny", questions=8, seed=1)
    assert len(seen) == 8
    for given in seen:
        assert [one.policy for one in given] == ["routed, thrifty", "routed, generous"]
        assert calls.count(given[0].task.prompt) == len({one.model for one in given})


@pytest.mark.parametrize(
    ("gains", "changes", "says"),
    [
        ((0.01, 0.03), (-0.08, -0.02), "better on every split, and no dearer"),
        ((0.01, 0.03), (-0.3, 0.01), "better on every split, for more money"),
        # A good mean of which one split knows nothing.
        ((0.05, 0.0), (-0.3, -0.2), "quality within noise, for less money"),
        ((0.05, -0.001), (-0.08, -0.05), "quality within noise; routing gains little on this pool"),
        ((-0.05, 0.001), (-0.9, 0.1), "quality within noise; routing gains little on this pool"),
        ((-0.05, 0.001), (0.1, 0.2), "quality within noise, for more money"),
        ((-0.05, 0.001), (-0.01, 0.9), "quality within noise; routing gains little on this pool"),
        ((-0.01, -0.03), (-0.3, -0.2), "worse on every split, for less money"),
        ((-0.01, -0.03), (-0.3, 0.1), "routing loses on this pool"),
    ],
)
def test_the_conclusion_says_no_more_than_every_split(gains, changes, says):
    assert report.conclusion(np.array(gains), np.array(changes)) == says


def answered(task, policy, model, *, score, recorded):
    facts = {"why": "", "text": "", "tokens": (1, 1), "cost": 0.5, "latency": 1.0}
    return demo_module.Answered(task=task, policy=policy, model=model, score=score, recorded=recorded, **facts)


def test_the_live_table_tells_live_from_recorded_and_chooses_nothing_in_hindsight(ladder):
    small, middle, large = ladder.table.models
    train, test = ladder.table.split(0.3, seed=0)
    shown = evaluate(Router(ladder.table.models).fit(train), test, reference=train)
    at = ladder.table.models.index
    assert shown.best_single == large
    # Questions that the best single model of the training part answered wrongly, and another one rightly.
    hard = [q.id for q, row in zip(ladder.table.queries, ladder.table.quality, strict=True) if row[at(middle)] > row[at(large)]][
        :3
    ]
    live = []
    for task in (ladder.tasks[name] for name in hard):
        live += [
            answered(task, "routed, thrifty", small, score=1.0, recorded=False),
            answered(task, "routed, generous", large, score=0.0, recorded=True),
        ]
    # Both policies share a live call.
    live += [
        answered(ladder.tasks[ladder.table.queries[0].id], policy, small, score=1.0, recorded=False)
        for policy in ("routed, thrifty", "routed, generous")
    ]
    console = Console(width=120, file=io.StringIO())
    report.live_table(console, ladder, ladder.table.models, shown, live)
    out = console.file.getvalue()
    assert "The 4 questions answered just now: 4 of 7 calls were live" in out
    assert f"best single: {large} *" in out
    assert "routed, generous *" in out
    assert "routed, thrifty " in out
    assert "routed, thrifty *" not in out


def test_the_closing_says_on_how_many_questions_it_rests(ladder):
    train, test = ladder.table.split(0.3, seed=0)
    quality = test.quality.copy()
    quality[:3, 0] = math.nan
    holes = replace(test, quality=quality)
    for held_out, says in ((test, f"All {len(test)} held-out questions"), (holes, f"{len(test) - 3} held-out questions")):
        console = Console(width=120, file=io.StringIO())
        report.closing(
            console, evaluate(Router(ladder.table.models).fit(train), held_out, reference=train, baselines=report.BASELINES)
        )
        out = console.file.getvalue()
        assert out.strip().startswith(f"{says}, from the log")
        note = f"replayed on {len(test) - 3} of {len(test)} held-out queries, those that every model answered."
        assert (note in out) == (held_out is holes)


def test_the_table_fits_a_plain_terminal(ladder):
    train, test = ladder.table.split(0.3, seed=0)
    found = evaluate(Router(ladder.table.models).fit(train), test, reference=train)
    console = Console(width=80, file=io.StringIO())
    console.print(evaluation_table(found, title="T"))
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 2 + len(found.rows)
    assert all("…" not in line for line in lines)
