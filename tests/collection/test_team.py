"""The recorded runs of a team: what ships can be learned from, and judged on tasks that nothing was learned from."""

import math
import os
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from agentroute.collection import load_team, runs_of, verify
from agentroute.teams import NONE, RoleAllocator

RECORD = Path(__file__).parents[2] / "scripts" / "team" / "record.py"


@pytest.fixture(scope="module")
def recorded():
    return load_team()


def test_random_runs_were_drawn_with_the_chance_on_record(recorded):
    assert len(recorded.runs) >= 300
    models = {entry.card.id for entry in recorded.entries}
    for run in recorded.runs:
        assert run.propensity == pytest.approx(1 / 36)
        assert set(run.models) == {"planner", "solver", "critic"}
        assert {run.models["planner"], run.models["solver"]} <= models
        assert run.models["critic"] in models | {NONE}
    # Each role had each of its models often enough to tell them apart.
    for role in ("planner", "solver", "critic"):
        counts = [sum(run.models[role] == model for run in recorded.runs) for model in models]
        assert min(counts) > 60


def test_nothing_is_judged_on_what_was_learned_from(recorded):
    learned = {run.query.id for run in recorded.runs}
    held = {run.query.id for run in recorded.held}
    assert len(held) == 120
    assert not learned & held


def test_costs_are_tokens_by_price(recorded):
    prices = {entry.card.id: entry.card.price for entry in recorded.entries}
    for run in recorded.held[:50]:
        parts = [prices[run.models[role]].cost(part.usage) for role, part in run.roles.items()]
        assert run.cost == pytest.approx(math.fsum(parts))
        assert set(run.roles) == {role for role, model in run.models.items() if model != NONE}


def test_what_nobody_told_is_unknown(recorded):
    used = {"input_tokens": 100, "output_tokens": 20, "cpu_seconds": 1.5}
    row = {
        "part": "random",
        "task": "arithmetic-000",
        "kind": "arithmetic",
        "assignment": {"planner": "smollm2-135m", "solver": "smollm2-135m", "critic": NONE},
        "propensity": 1 / 36,
        "success": 1.0,
        "roles": {"planner": used, "solver": used},
    }
    [run] = runs_of([row], "random")
    cost = next(entry.card.price for entry in recorded.entries if entry.card.id == "smollm2-135m").cost(run.roles["solver"].usage)
    assert run.cost == pytest.approx(2 * cost)
    assert runs_of([row], "held") == ()
    # Processor seconds are not how long anybody waited.
    assert run.latency is run.roles["solver"].latency is None
    assert run.metadata["cpu_seconds"] == {"planner": 1.5, "solver": 1.5}
    for missing in ("input_tokens", "output_tokens"):
        [run] = runs_of([{**row, "roles": {"planner": used, "solver": {**used, missing: None}}}], "random")
        assert run.cost is run.roles["solver"].cost is run.roles["solver"].usage is None
        assert run.roles["planner"].cost == pytest.approx(cost)


@pytest.mark.skipif(not RECORD.exists(), reason="the scripts are not part of what is installed")
@pytest.mark.parametrize("cut", [1, 5, 40])
def test_recording_goes_on_after_a_crash_has_cut_off_the_last_line(tmp_path, cut):
    record = SimpleNamespace(**runpy.run_path(str(RECORD)))
    file = tmp_path / "calls.jsonl"
    endpoint = SimpleNamespace(answer=lambda prompt, _: SimpleNamespace(text=prompt.upper(), usage=None, cpu_seconds=1.0))

    def calls():
        return record.Calls(file, {"small": endpoint})

    first = calls()
    for prompt in ("one", "two"):
        first.ask("small", prompt, 8)
    whole = file.read_bytes()
    os.truncate(file, len(whole) - cut)
    again = calls()
    assert set(again.known) == {("small", "one")}
    assert again.ask("small", "two", 8)["text"] == "TWO"
    assert file.read_bytes() == whole
    assert set(calls().known) == {("small", "one"), ("small", "two")}


def test_prompts_name_what_is_filled_in(recorded):
    filled = {role: prompt.format(task="T", plan="P", answer="A") for role, prompt in recorded.prompts.items()}
    assert all("T" in prompt for prompt in filled.values())
    assert set(recorded.max_tokens) == set(filled) == {role.name for role in recorded.team.roles}


def test_the_runs_say_which_role_deserves_the_strong_model(recorded):
    report = RoleAllocator(recorded.team, [entry.card for entry in recorded.entries]).fit(recorded.runs)
    assert not report.unidentifiable
    best = max((effect for effect in report.effects if effect.logit is not None), key=lambda effect: effect.logit)
    assert (best.role, best.model) == ("critic", "qwen2.5-coder-1.5b")
    assert best.low > 0


def test_tasks_have_verifiers(recorded):
    assert all(verify("", recorded.tasks[run.query.id].verifier) in {0.0, 1.0} for run in recorded.held[:20])
