"""The script that prices and packs the ladder's log."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from agentroute.collection import Answer, Task, outcome_of, read_pool
from agentroute.outcomes import OutcomeTable, SqliteOutcomeLog
from agentroute.types import Usage

SCRIPT = Path(__file__).parents[2] / "scripts" / "ladder" / "export.py"


@pytest.fixture(scope="module")
def export():
    spec = importlib.util.spec_from_file_location("ladder_export", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("true", [(0.002, 0.03), (0.0, 0.03), (0.002, 0.0)])
def test_rates_are_recovered_and_never_negative(export, true):
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 200, size=(300, 2)).astype(np.float64)
    seconds = tokens @ np.array(true) + rng.normal(0, 0.01, 300)
    found = export.seconds_per_token(tokens, seconds)
    np.testing.assert_allclose(found, true, atol=2e-4)
    assert (found >= 0).all()


def test_the_same_log_gives_the_same_bytes_and_incomplete_questions_are_left_out(export, tmp_path, capsys):
    rng = np.random.default_rng(0)
    with SqliteOutcomeLog(tmp_path / "log.sqlite", store_prompts=True) as log:
        for n in range(30):
            task = Task(id=f"q{n:02}", prompt=f"{n}?", verifier={"kind": "number", "expected": n}, task="t", max_tokens=9)
            for speed, model in enumerate(export.LADDER, 1):
                if n == 7 and speed == 3:
                    continue
                usage = Usage(input_tokens=int(rng.integers(9, 99)), output_tokens=int(rng.integers(1, 9)))
                cpu = speed * (0.01 * usage.input_tokens + 0.02 * usage.output_tokens)
                text = str(n) if n % speed == 0 else "no"
                log.append(outcome_of(task, model, Answer(text=text, usage=usage, latency=9.0, cpu_seconds=cpu)))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        export.main(str(tmp_path / "log.sqlite"), tmp_path / name)
    assert "29 questions, 87 rows" in capsys.readouterr().out
    for file in ("ladder.jsonl.gz", "ladder-pool.toml"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    table = OutcomeTable.from_jsonl(tmp_path / "one" / "ladder.jsonl.gz")
    assert table.models == export.LADDER
    assert "q07" not in {query.id for query in table.queries}
    first, _, third = read_pool(tmp_path / "one" / "ladder-pool.toml")
    # One second of a core at 0.05 USD an hour, times the seconds per million tokens.
    assert first.card.price.input == pytest.approx(0.01 * 1e6 * 0.05 / 3600, rel=0.01)
    assert third.card.price.output == pytest.approx(0.06 * 1e6 * 0.05 / 3600, rel=0.01)
    np.testing.assert_allclose(table.cost[:, 0], table.latency[:, 0] * 0.05 / 3600, rtol=0.01)
