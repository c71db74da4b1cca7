"""MasRouter's cascade: proper chances, decisions that follow from them, filters, budgets and saving."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.embedders import CallableEmbedder
from agentroute.errors import (
    ArtefactError,
    BudgetError,
    ConfigError,
    EmbedderMismatchError,
    NoEligibleModelError,
    PriceUnknownError,
)
from agentroute.router import read_artefact, write_artefact
from agentroute.teams import Mode, Role, RoleAllocator, Team
from agentroute.teams._costs import CostModel
from agentroute.teams._kinds import TaskKinds
from agentroute.teams._masrouter import MasRouterPolicy, described, subsets
from agentroute.teams._masrouter_training import _first
from agentroute.types import ModelCard, Query

MODES = (Mode(name="chain", growth="previous"), Mode(name="debate", growth="all", rounds=2))
TASK = "Prove that the sum of two odd numbers is even."


def role(name, **options):
    return Role(name=name, description=f"the {name} of the team", **options)


TEAM = Team(roles=[role("planner"), role("solver"), role("critic", optional=True), role("editor", optional=True)], modes=MODES)


@pytest.fixture(scope="module")
def untrained(masrouter_cards):
    """A policy with random weights, which are as good as any to check what is made of them; far from even."""

    def made(team=TEAM, cards=masrouter_cards, *, seed=0, **options):
        rng = np.random.default_rng(seed)
        known, (_, size) = described(team, cards, None), subsets(team)
        weights = _first(rng, 256, 16, known, int(size.max()) + 1)
        weights |= {f"{name}.sharp": np.array(1.5) for name in ("mode", "role", "model")}
        kinds = TaskKinds().fit(())
        return MasRouterPolicy(team, cards, weights={**weights, **known, "centre": np.zeros(256)}, kinds=kinds, **options)

    return made


def chances(policy, task=TASK, allowed=None):
    """Log chances of modes; of who takes part, by mode; of models, by mode and by who takes part."""
    from agentroute.teams._masrouter import embedded, inputs

    net = policy._net
    context = net.task(inputs(embedded([Query(text=task)], None), policy.kinds, policy.weights["centre"]))
    if allowed is None:
        allowed = np.ones((len(policy.team.roles), len(policy.models)), bool)
    modes = range(len(policy.team.modes))
    teams = [net.teams(context, np.array([mode]))[0] for mode in modes]
    models = [
        [net.models(context, np.array([mode]), np.array([place]), allowed)[0] for place in range(len(policy.present))]
        for mode in modes
    ]
    return net.modes(context)[0], teams, models


# --- the network ---


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.text(max_size=30))
def test_every_step_is_a_distribution(untrained, seed, task):
    modes, teams, models = chances(untrained(seed=seed), task)
    assert np.exp(modes).sum() == pytest.approx(1.0)
    for one in teams:
        assert np.exp(one).sum() == pytest.approx(1.0)
    for one in itertools.chain.from_iterable(models):
        np.testing.assert_allclose(np.exp(one).sum(axis=1), 1.0)


def test_the_number_of_roles_is_a_choice_of_its_own_and_then_which(untrained):
    """Of 0, 1, 2 optional roles: the head's softmax; given 1, each role by its score, and given 0 or 2 there is but one way."""
    policy = untrained()
    net, (_, teams, _) = policy._net, chances(policy)
    from agentroute.teams._masrouter import embedded, inputs

    context = net.task(inputs(embedded([Query(text=TASK)], None), policy.kinds, policy.weights["centre"]))
    both = np.concatenate([context, net.modes_z[[0]]], axis=1)
    raw = (both @ net.w["number.weight"].T + net.w["number.bias"])[0]
    number = np.exp(raw) / np.exp(raw).sum()
    chance = {tuple(row.astype(int)[2:]): math.exp(one) for row, one in zip(policy.present, teams[0], strict=True)}
    assert set(chance) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert chance[0, 0] == pytest.approx(number[0])
    assert chance[1, 1] == pytest.approx(number[2])
    assert chance[0, 1] + chance[1, 0] == pytest.approx(number[1])
    to = both @ net.w["role.weight"].T + net.w["role.bias"]
    score = (to / np.linalg.norm(to)) @ net.roles_z.T[:, 2:] * math.exp(1.5)
    assert chance[1, 0] / chance[0, 1] == pytest.approx(math.exp(score[0, 0] - score[0, 1]))


def test_models_hang_on_the_role_the_mode_and_on_who_takes_part(untrained):
    _, _, models = chances(untrained())
    assert not np.allclose(models[0][0][0], models[0][0][1])  # planner and solver
    assert not np.allclose(models[0][0], models[1][0])  # chain and debate
    assert not np.allclose(models[0][0], models[0][-1])  # all four, and the two that always are there


def test_models_that_a_role_may_not_have_have_no_chance(untrained):
    allowed = np.array([[True, False, True], [True, True, True], [False, False, True], [True, True, True]])
    free, held = (np.exp(chances(untrained(), allowed=given)[2][0][0]) for given in (None, allowed))
    left = np.where(allowed, free, 0.0)
    np.testing.assert_allclose(held, left / left.sum(axis=1, keepdims=True))


def test_vectors_are_counted_from_the_centre():
    from agentroute.teams._masrouter import inputs

    queries = [Query(text="a", embedding=np.array([1.0, 2.0], np.float32), task="x"), Query(text="", task="y")]
    kinds = TaskKinds().fit([Query(text="", task=name) for name in "xy" * 5])
    found = inputs(queries, kinds, np.array([0.5, 3.0]))
    np.testing.assert_array_equal(found, [[0.5, -1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])  # without a vector: of its kind only


def test_a_team_of_optional_roles_is_never_empty(untrained):
    present, size = subsets(Team(roles=[role("a", optional=True), role("b", optional=True)]))
    assert present.sum(axis=1).tolist() == [2, 1, 1]
    assert size.tolist() == [1, 0, 0]
    policy = untrained(Team(roles=[role("a", optional=True), role("b", optional=True)]))
    assert np.exp(chances(policy)[1][0]).sum() == pytest.approx(1.0)


def test_very_many_optional_roles_are_refused():
    with pytest.raises(ConfigError, match="13 optional roles are more than 12"):
        subsets(Team(roles=[role(f"r{k}", optional=True) for k in range(13)]))


# --- decisions ---


@pytest.mark.parametrize("seed", range(8))
def test_the_likeliest_is_taken_at_each_step_and_always_the_same(seed, masrouter_cards, untrained):
    policy = untrained(seed=seed)
    modes, teams, models = chances(policy)
    mode = int(modes.argmax())
    count = policy.present.sum(axis=1)
    number = max((2, 3, 4), key=lambda one: np.exp(teams[mode][count == one]).sum())
    chosen = max(np.flatnonzero(count == number), key=lambda place: teams[mode][place])
    best = models[mode][chosen].argmax(axis=1)
    here = policy.present[chosen] > 0
    found = policy.allocate(TASK)
    assert found.mode == MODES[mode].name
    expected = {one.name: masrouter_cards[best[k]].id for k, one in enumerate(TEAM.roles) if here[k]}
    assert found.models == expected
    assert policy.allocate(TASK).models == expected
    assert math.isnan(found.expected_quality)
    assert found.propensity == 1.0
    columns = CostModel(TEAM, masrouter_cards).columns(expected)
    assert found.expected_cost == pytest.approx(CostModel(TEAM, masrouter_cards).exact(found.mode, columns[None])[0])


def test_random_weights_decide_differently(untrained):
    assert len({tuple(untrained(seed=seed).allocate(TASK).models.items()) for seed in range(8)}) > 3


def test_filters_come_first(masrouter_cards, untrained):
    team = Team(roles=[role("a", needs={"tools"}), role("b", allow={"small"}), role("c", model="medium")])
    cards = [ModelCard(id=card.id, price=card.price, capabilities=card.capabilities or frozenset()) for card in masrouter_cards]
    for seed in range(4):
        assert untrained(team, cards, seed=seed).allocate(TASK).models == {"a": "large", "b": "small", "c": "medium"}


def test_a_role_that_no_model_can_serve_is_named(untrained):
    team = Team(roles=[role("a"), role("seer", needs={"vision"})])
    cards = [ModelCard(id="blind", capabilities=frozenset())]
    with pytest.raises(NoEligibleModelError, match="role seer, blind: cannot do vision"):
        untrained(team, cards).allocate(TASK)


def test_an_optional_role_that_no_model_can_serve_is_left_out(untrained):
    cards = [ModelCard(id="blind", capabilities=frozenset())]
    seer = role("seer", needs={"vision"}, optional=True)
    for seed in range(6):
        assert untrained(Team(roles=[role("a"), seer]), cards, seed=seed).allocate(TASK).models == {"a": "blind"}
    with pytest.raises(NoEligibleModelError, match="all roles are optional"):
        untrained(Team(roles=[seer]), cards).allocate(TASK)


@pytest.mark.parametrize("seed", range(6))
def test_under_a_budget_the_likeliest_models_that_can_be_paid(seed, masrouter_cards, untrained):
    """Brute force over the models of the likeliest mode and team, or of the next team by its chance, or the next mode."""
    policy, costs = untrained(seed=seed), CostModel(TEAM, masrouter_cards)
    modes, teams, models = chances(policy)
    count, free = policy.present.sum(axis=1), policy.allocate(TASK)
    for budget in (free.expected_cost * share for share in (1.0, 0.7, 0.4, 0.15)):
        expected = None
        for mode in np.argsort(-modes):
            number = max((2, 3, 4), key=lambda one: np.exp(teams[mode][count == one]).sum())
            likeliest = max(np.flatnonzero(count == number), key=lambda place: teams[mode][place])
            for chosen in (likeliest, *np.argsort(-teams[mode])):
                here = policy.present[chosen] > 0
                options = [[*range(3)] if there else [3] for there in here]
                grid = np.array(list(itertools.product(*options)))
                usd = costs.exact(MODES[mode].name, grid)
                padded = np.pad(models[mode][chosen], ((0, 0), (0, 1)))
                value = np.where(usd <= budget * (1 + 1e-12), padded[np.arange(4), grid].sum(axis=1), -np.inf)
                if np.isfinite(value.max()):
                    names = [*(card.id for card in masrouter_cards), None]
                    best = grid[value.argmax()]
                    expected = {one.name: names[best[k]] for k, one in enumerate(TEAM.roles) if here[k]}
                    break
            if expected is not None:
                break
        if expected is None:
            with pytest.raises(BudgetError) as caught:
                policy.allocate(TASK, budget=budget)
            assert caught.value.cheapest > budget
        else:
            found = policy.allocate(TASK, budget=budget)
            assert found.expected_cost <= budget * (1 + 1e-9)
            assert found.models == expected
            assert found.budget == budget


def test_a_budget_that_nothing_keeps_to_names_the_cheapest(masrouter_cards, untrained):
    with pytest.raises(BudgetError) as caught:
        untrained().allocate(TASK, budget=1e-9)
    everything = []
    for mode in MODES:
        for present in subsets(TEAM)[0]:
            columns = np.where(present > 0, 0, 3)
            everything.append(CostModel(TEAM, masrouter_cards).exact(mode.name, columns[None].astype(int))[0])
    assert caught.value.cheapest == pytest.approx(min(everything))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("fixed", [[], [role("a", input_tokens=10, output_tokens=1)]])
def test_a_dear_role_is_left_out_for_a_cheap_one_that_can_be_paid(seed, fixed, masrouter_cards, untrained):
    dear, cheap = (role(name, optional=True, input_tokens=size, output_tokens=1) for name, size in (("dear", 1e5), ("cheap", 10)))
    # No role counts as cheap for being one of few, nor as likely for being one of many.
    policy = untrained(Team(roles=[*fixed, dear, cheap]), masrouter_cards, seed=seed)
    teams = np.where(policy.present[:, -2] > 0, -np.inf, chances(policy)[1][0])
    likeliest = {one.name for one, here in zip(policy.team.roles, policy.present[teams.argmax()], strict=True) if here}
    assert policy.allocate(TASK, budget=1e-4).models.keys() == likeliest
    with pytest.raises(BudgetError) as caught:
        policy.allocate(TASK, budget=0.0)
    options = [range(3) if not one.optional else range(4) for one in policy.team.roles]
    everything = np.array([columns for columns in itertools.product(*options) if set(columns) != {3}])
    [mode] = policy.team.modes
    assert caught.value.cheapest == pytest.approx(policy.costs.exact(mode.name, everything).min())


def test_unknown_prices_matter_only_under_a_budget(untrained):
    policy = untrained(Team(roles=[role("a")]), [ModelCard(id="x"), ModelCard(id="y")])
    assert policy.allocate(TASK).models["a"] in {"x", "y"}
    with pytest.raises(PriceUnknownError):
        policy.allocate(TASK, budget=1.0)
    with pytest.raises(ConfigError, match="budget=-1"):
        policy.allocate(TASK, budget=-1.0)


# --- on disk ---


def test_saved_and_loaded_it_allocates_the_same(tmp_path, untrained):
    policy = untrained(seed=3)
    policy.save(tmp_path / "saved")
    again = MasRouterPolicy.load(tmp_path / "saved")
    for task in (TASK, "Write a sonnet about rain.", ""):
        one, other = policy.allocate(task), again.allocate(task)
        assert (one.models, one.mode, one.expected_cost) == (other.models, other.mode, other.expected_cost)
    np.testing.assert_array_equal(chances(policy)[0], chances(again)[0])
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {"manifest.json", "team.json", "arrays.npz"}
    with np.load(tmp_path / "saved" / "arrays.npz", allow_pickle=False) as arrays:
        assert {array.dtype.kind for array in arrays.values()} == {"f"}


def test_a_folder_says_which_class_reads_it(tmp_path, masrouter_cards, untrained):
    untrained().save(tmp_path / "policy")
    RoleAllocator(TEAM, masrouter_cards).save(tmp_path / "allocator")
    with pytest.raises(ArtefactError, match=r"holds a RoleAllocator, not a MasRouterPolicy: read it with RoleAllocator\.load"):
        MasRouterPolicy.load(tmp_path / "allocator")
    with pytest.raises(ArtefactError, match=r"holds a MasRouterPolicy, not a RoleAllocator: read it with MasRouterPolicy\.load"):
        RoleAllocator.load(tmp_path / "policy")


def test_damaged_folders_and_other_embedders_are_refused(tmp_path, untrained):
    untrained().save(tmp_path / "policy")
    other = CallableEmbedder(lambda texts: np.ones((len(texts), 256), np.float32), name="other", revision="1", dimension=256)
    with pytest.raises(EmbedderMismatchError):
        MasRouterPolicy.load(tmp_path / "policy", embedder=other)
    config, arrays = read_artefact(tmp_path / "policy", kind="team")
    for name, changed in (("one more", {**config, "roles": [*config["roles"], config["roles"][0]]}), ("none", {})):
        write_artefact(tmp_path / name, changed, arrays, kind="team")
        with pytest.raises(ArtefactError, match="cannot use"):
            MasRouterPolicy.load(tmp_path / name)
    body = (tmp_path / "policy" / "team.json").read_text()
    (tmp_path / "policy" / "team.json").write_text(body.replace("planner", "planter"))
    with pytest.raises(ArtefactError, match="damaged"):
        MasRouterPolicy.load(tmp_path / "policy")


def test_weights_of_another_team_are_refused(masrouter_cards, untrained):
    policy = untrained()
    with pytest.raises(ConfigError, match="not for 2 models"):
        MasRouterPolicy(TEAM, masrouter_cards[:2], weights=policy.weights, kinds=policy.kinds)
    with pytest.raises(ConfigError, match="dimensions"):
        policy.allocate(Query(text="x", embedding=np.ones(3, np.float32)))
