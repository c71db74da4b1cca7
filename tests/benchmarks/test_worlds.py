"""The simulated worlds of teams: what they say of themselves, and what the table makes of them."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks/teams"


def module(name, patch):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    made = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, name, made)
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def worlds():
    with pytest.MonkeyPatch.context() as patch:
        yield module("worlds", patch)


@pytest.fixture(scope="module")
def learning(worlds):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr(sys, "path", list(sys.path))
        patch.setitem(sys.modules, "worlds", worlds)
        yield module("learning", patch)


def chance(world, kind, columns):
    """The definition, term by term."""
    logit = -0.2 + sum(world.skill[kind, k, m] for k, m in enumerate(columns))
    logit += sum(world.pairs[a, b, columns[a], columns[b]] for a in range(4) for b in range(a + 1, 4))
    return 1 / (1 + np.exp(-logit))


@pytest.mark.parametrize("pairs", [0.0, 0.5])
def test_chances_and_costs_are_those_of_the_definition(worlds, pairs):
    world = worlds.World(3, pairs=pairs)
    for kind, columns in ((0, [0, 0, 0, 0]), (5, [4, 3, 2, 1]), (2, [1, 4, 0, 3])):
        number = worlds.number_of(np.array(columns))
        assert worlds.ASSIGNMENTS[number].tolist() == columns
        assert world.chance[kind, number] == pytest.approx(chance(world, kind, columns))
        cost = sum(world.tokens[k] * worlds.PRICES[m] / 1e6 for k, m in enumerate(columns))
        assert world.cost[number] == pytest.approx(cost)
        assert world.worth[kind, number] == pytest.approx(chance(world, kind, columns) - cost / 0.05)


def test_roles_matter_as_much_as_there_are_roles_and_pairs_have_the_spread_asked_for(worlds):
    plain, paired = worlds.World(0), worlds.World(0, pairs=0.5)
    assert not plain.pairs.any()
    assert paired.pairs.std() == pytest.approx(0.5, rel=0.1)
    np.testing.assert_array_equal(plain.skill, paired.skill)  # the same world but for its pairs
    assert ((plain.tokens >= 500) & (plain.tokens <= 1500)).all()


def test_scores_run_from_random_to_the_oracle_and_references_lie_between(worlds):
    for seed in range(4):
        world = worlds.World(seed)
        assert world.score(world.worth.mean(axis=1)) == pytest.approx(0.0)
        assert world.score_of(worlds.ASSIGNMENTS[world.worth.argmax(axis=1)]) == pytest.approx(1.0)
        known = world.references
        assert known["one model for all"] <= known["one model for each kind"] <= 1.0
        assert known["one model for all"] <= known["best fixed map"] <= 1.0
        same = max(world.score_of(np.full((6, 4), model)) for model in range(5))
        assert known["one model for all"] == pytest.approx(same)


def test_random_runs_succeed_as_often_as_the_world_says(worlds):
    world = worlds.World(1)
    runs = world.runs(6000)
    for kind in range(6):
        own = [run.success for run in runs if run.query.task == f"kind {kind}"]
        assert 900 < len(own) < 1100
        assert np.mean(own) == pytest.approx(world.chance[kind].mean(), abs=4 * 0.5 / np.sqrt(len(own)))
    assert [run.models for run in world.runs(10)] == [run.models for run in runs[:10]]
    assert {run.propensity for run in runs} == {1 / 625}
    one = runs[0]
    columns = [int(one.models[f"role {k}"][-1]) for k in range(4)]
    assert one.cost == pytest.approx(world.cost[worlds.number_of(np.array(columns))])
    assert all(run.query.task is None for run in world.runs(5, labelled=False))


def test_the_allocator_expects_what_runs_cost(worlds):
    from agentroute.teams import RoleAllocator

    world = worlds.World(2)
    allocation = RoleAllocator(world.team, worlds.cards(), willingness_to_pay=worlds.WILLING).allocate("anything")
    columns = np.array([int(allocation.models[f"role {k}"][-1]) for k in range(4)])
    assert allocation.expected_cost == pytest.approx(world.cost[worlds.number_of(columns)])


def test_a_policy_that_is_sure_scores_the_same_drawn_or_not(learning, worlds):
    world = worlds.World(0)
    best = worlds.ASSIGNMENTS[world.worth.argmax(axis=1)]
    logits = 100.0 * np.eye(5)[best]
    assert learning.likeliest(world, logits) == pytest.approx(1.0)
    assert learning.drawn(world, logits) == pytest.approx(1.0)
    assert learning.drawn(world, np.zeros((6, 4, 5))) == pytest.approx(0.0)  # at random


def test_one_step_of_a_policy_gradient_is_the_closed_form(learning, worlds):
    """From even odds each draw's logit moves by rate x gain x (1 - 1/5), and the others' by -1/5; a first run has no baseline."""
    world = worlds.World(0)
    [own] = learning.reinforce([world], [1], own=True).values()
    moved = own[:, 0].reshape(len(learning.RATES), 6, 4, 5)
    for rate, one in zip(learning.RATES, moved, strict=True):
        [kind] = np.flatnonzero(one.any(axis=(1, 2)))
        step = np.sort(np.abs(one[kind]), axis=1)
        gain = step[:, -1] / (0.8 * rate)
        np.testing.assert_allclose(step[:, :4], 0.2 * rate * gain[:, None] * np.ones((4, 4)))
        np.testing.assert_allclose(gain, gain[0])  # all roles share what the team gained
        columns = np.abs(one[kind]).argmax(axis=1)
        cost = world.cost[worlds.number_of(columns)] / 0.05
        assert min(abs(gain[0] - abs(hit - cost)) for hit in (0.0, 1.0)) < 1e-9


def test_the_table_says_what_was_met(learning, capsys):
    learning.main(["--worlds", "2", "--runs", "160", "480"])
    said = capsys.readouterr().out
    assert said.count("additive (RoleAllocator)") == 4  # two tables, two lines about pairs
    assert "480 runs: additive 0." in said
    assert "wanted 0.75" in said
