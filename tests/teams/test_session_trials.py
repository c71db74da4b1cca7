"""Planned trials in sessions: the run has the trial's models, mode and chance on record."""

import pytest

from agentroute.errors import ConfigError, NoEligibleModelError, UnknownModelError
from agentroute.teams import NONE, Mode, Role, RoleAllocator, RunLog, Team, Trial
from agentroute.types import ModelCard, Price, Query

CARDS = [
    ModelCard(id="small", price=Price(input=1.0, output=1.0), scores={"MMLU": 0.3}, capabilities=frozenset()),
    ModelCard(id="large", price=Price(input=100.0, output=100.0), scores={"MMLU": 0.9}, capabilities=frozenset({"tools"})),
]
TEAM = Team(
    roles=[
        Role(name="planner", input_tokens=500, output_tokens=500),
        Role(name="critic", input_tokens=500, output_tokens=500, optional=True),
    ],
    modes=[Mode(name="alone"), Mode(name="twice", rounds=2)],
)


@pytest.fixture
def allocator(tmp_path):
    return RoleAllocator(TEAM, CARDS, log=RunLog(tmp_path / "runs.jsonl"))


def test_the_runs_of_a_plan_have_its_models_and_its_chances_on_record(allocator):
    plan = allocator.exploration_plan(36)
    for number, trial in enumerate(plan):
        with allocator.session(f"task {number}", allocation=trial) as session:
            assert session.has("critic") == (trial.models["critic"] != NONE)
            for role in session.models:
                call = session.begin(role)
                assert call.model == trial.models[role]
                call.settle(cost=0.001)
            session.finish(success=float(trial.models["planner"] == "large"))
    # Two models, two and none, two modes.
    assert [(run.models, run.mode, run.propensity) for run in allocator.log] == [
        (trial.models, trial.mode, pytest.approx(1 / 12)) for trial in plan
    ]
    allocator.fit()
    assert allocator.drawn == 36


def test_what_the_money_changes_was_not_drawn(allocator):
    trial = Trial(models={"planner": "large", "critic": "large"}, mode="alone", propensity=1 / 12)
    for budget, kept in ((0.25, True), (0.15, False)):
        with allocator.session("x", allocation=trial, budget=budget) as session:
            for role in ("planner", "critic"):
                call = session.begin(role)
                call.settle(cost=call.held)
            run = session.finish()
        assert (run.models == trial.models) == kept
        assert (run.propensity is not None) == kept
        assert run.cost <= budget


def test_a_trial_that_the_task_does_not_allow_is_refused(allocator):
    trial = Trial(models={"planner": "small", "critic": NONE}, mode="alone", propensity=1 / 12)
    with pytest.raises(NoEligibleModelError, match="role planner, small") as caught:
        allocator.session(Query(text="x", needs=frozenset({"tools"})), allocation=trial)
    assert "plan anew" in caught.value.__notes__[0]
    for models, mode, error, said in (
        ({"planner": NONE}, "alone", ConfigError, "'planner' no model, and it is not optional"),
        ({"critic": "small"}, "alone", ConfigError, "'planner' no model"),
        ({"boss": "small"}, "alone", ConfigError, "unknown role 'boss'"),
        ({"planner": "huge"}, "alone", UnknownModelError, "huge"),
        ({"planner": "small"}, "thrice", ConfigError, "unknown mode 'thrice'"),
    ):
        with pytest.raises(error, match=said):
            allocator.session("x", allocation=Trial(models=models, mode=mode, propensity=0.5))


def test_a_trial_leaves_no_room_for_options(allocator):
    [trial] = allocator.exploration_plan(1)
    with pytest.raises(ConfigError, match="give explore to allocate"):
        allocator.session("x", allocation=trial, explore=0.5)


def test_a_budget_of_what_is_expected_begins_a_session():
    allocator = RoleAllocator(TEAM, CARDS)
    for budget in (0.2, 1e-3 / 3, 7e-8):
        cards = [ModelCard(id="m", price=Price(input=budget * 1e3, output=budget * 1e3))]
        allocator = RoleAllocator(TEAM, cards)
        expected = allocator.allocate("x", mode="twice").expected_cost
        assert allocator.session("x", budget=expected, mode="twice").models == allocator.allocate("x", mode="twice").models
