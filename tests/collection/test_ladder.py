"""The log that ships: complete, consistent, and scored by the verifiers that stand in it."""

import importlib.util
import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from agentroute.collection import load_ladder, pool_of, verify

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ladder():
    return load_ladder()


def test_it_is_as_large_and_as_small_as_promised(ladder):
    assert len(ladder.table) >= 1200
    assert len({task.task for task in ladder.tasks.values()}) >= 8
    assert ladder.table.models == ("smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
    assert pool_of(ladder.entries).ids == ladder.table.models
    assert (resources.files("agentroute") / "data" / "ladder.jsonl.gz").stat().st_size < 3_000_000


def test_every_model_answered_every_question(ladder):
    for part in (ladder.table.quality, ladder.table.cost, ladder.table.latency):
        assert np.isfinite(part).all()
    assert all(set(own) == set(ladder.tasks) for own in ladder.answers.values())


def test_scores_are_what_the_verifiers_say(ladder):
    """All kinds but code, of which a sample is run: each run starts a process."""
    column = {model: j for j, model in enumerate(ladder.table.models)}
    code_left = 12
    for row, query in enumerate(ladder.table.queries):
        task = ladder.tasks[query.id]
        if task.verifier["kind"] == "python":
            if code_left <= 0:
                continue
            code_left -= 1
        for model, answers in ladder.answers.items():
            assert verify(answers[query.id].text, task.verifier) == ladder.table.quality[row, column[model]], (query.id, model)


def test_costs_follow_from_tokens_and_declared_prices(ladder):
    for j, entry in enumerate(ladder.entries):
        answers = ladder.answers[entry.card.id]
        expected = [entry.card.price.cost(answers[query.id].usage) for query in ladder.table.queries]
        np.testing.assert_allclose(ladder.table.cost[:, j], expected, atol=1e-9)


def test_declared_prices_are_the_processor_time_at_the_declared_rate(ladder):
    """Valued at 0.05 USD per core hour, the whole log costs what its tokens cost, to a few per cent."""
    for j, entry in enumerate(ladder.entries):
        seconds = sum(answer.cpu_seconds for answer in ladder.answers[entry.card.id].values())
        assert ladder.table.cost[:, j].sum() == pytest.approx(seconds * 0.05 / 3600, rel=0.05)


def test_the_answers_respect_their_limits(ladder):
    for answers in ladder.answers.values():
        for name, answer in answers.items():
            assert 0 < answer.usage.output_tokens <= ladder.tasks[name].max_tokens
            assert answer.finish in {"stop", "length"}


def test_the_questions_are_those_that_the_script_makes(ladder, tmp_path, monkeypatch):
    pytest.importorskip("reasoning_gym")
    folder = ROOT / "scripts" / "ladder"
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location("make_questions", folder / "make_questions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(str(tmp_path / "questions.jsonl"))
    made = {row["id"]: row for row in map(json.loads, (tmp_path / "questions.jsonl").read_text().splitlines())}
    assert set(ladder.tasks) <= set(made)
    for name, task in ladder.tasks.items():
        row = made[name]
        assert (task.prompt, dict(task.verifier), task.max_tokens) == (row["prompt"], row["verifier"], row["max_tokens"])
