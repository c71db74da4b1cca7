"""The recorded runs of a team: what ships can be learned from, and judged on tasks that nothing was learned from."""

import math

import pytest

from agentroute.collection import load_team, verify
from agentroute.teams import NONE, RoleAllocator


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
