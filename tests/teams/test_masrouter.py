"""MasRouter's cascade: proper chances, decisions that follow from them, filters, budgets, saving, and training where torch is."""

import itertools
import json
import math
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.embedders import CallableEmbedder
from agentroute.errors import (
    ArtefactError,
    BudgetError,
    ConfigError,
    DataError,
    EmbedderMismatchError,
    MissingExtraError,
    NoEligibleModelError,
    PriceUnknownError,
)
from agentroute.teams import Mode, Role, RoleAllocator, Team, TeamRun
from agentroute.teams._costs import CostModel
from agentroute.teams._judging import evaluate
from agentroute.teams._kinds import TaskKinds
from agentroute.teams._masrouter import Cascade, MasRouterPolicy, described, subsets
from agentroute.teams._masrouter_training import _first, advantages, train_masrouter
from agentroute.types import ModelCard, Price, Query

CARDS = [
    ModelCard(id="small", price=Price(input=0.1, output=0.4)),
    ModelCard(id="medium", price=Price(input=0.5, output=2.0)),
    ModelCard(id="large", price=Price(input=2.0, output=8.0), capabilities=frozenset({"tools"})),
]
MODES = (Mode(name="chain", growth="previous"), Mode(name="debate", growth="all", rounds=2))
TASK = "Prove that the sum of two odd numbers is even."


def role(name, **options):
    return Role(name=name, description=f"the {name} of the team", **options)


TEAM = Team(roles=[role("planner"), role("solver"), role("critic", optional=True), role("editor", optional=True)], modes=MODES)


def untrained(team=TEAM, cards=CARDS, *, seed=0, **options):
    """A policy with random weights, which are as good as any to check what is made of them; far from even."""
    rng = np.random.default_rng(seed)
    known, (_, size) = described(team, cards, None), subsets(team)
    weights = _first(rng, 256, 16, known, int(size.max()) + 1)
    weights |= {f"{name}.sharp": np.array(1.5) for name in ("mode", "role", "model")}
    kinds = TaskKinds().fit(())
    return MasRouterPolicy(team, cards, weights={**weights, **known, "centre": np.zeros(256)}, kinds=kinds, **options)


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
def test_every_step_is_a_distribution(seed, task):
    modes, teams, models = chances(untrained(seed=seed), task)
    assert np.exp(modes).sum() == pytest.approx(1.0)
    for one in teams:
        assert np.exp(one).sum() == pytest.approx(1.0)
    for one in itertools.chain.from_iterable(models):
        np.testing.assert_allclose(np.exp(one).sum(axis=1), 1.0)


def test_the_number_of_roles_is_a_choice_of_its_own_and_then_which():
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


def test_models_hang_on_the_role_the_mode_and_on_who_takes_part():
    _, _, models = chances(untrained())
    assert not np.allclose(models[0][0][0], models[0][0][1])  # planner and solver
    assert not np.allclose(models[0][0], models[1][0])  # chain and debate
    assert not np.allclose(models[0][0], models[0][-1])  # all four, and the two that always are there


def test_models_that_a_role_may_not_have_have_no_chance():
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


def test_a_team_of_optional_roles_is_never_empty():
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
def test_the_likeliest_is_taken_at_each_step_and_always_the_same(seed):
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
    expected = {one.name: CARDS[best[k]].id for k, one in enumerate(TEAM.roles) if here[k]}
    assert found.models == expected
    assert policy.allocate(TASK).models == expected
    assert math.isnan(found.expected_quality)
    assert found.propensity == 1.0
    columns = CostModel(TEAM, CARDS).columns(expected)
    assert found.expected_cost == pytest.approx(CostModel(TEAM, CARDS).exact(found.mode, columns[None])[0])


def test_random_weights_decide_differently():
    assert len({tuple(untrained(seed=seed).allocate(TASK).models.items()) for seed in range(8)}) > 3


def test_filters_come_first():
    team = Team(roles=[role("a", needs={"tools"}), role("b", allow={"small"}), role("c", model="medium")])
    cards = [ModelCard(id=card.id, price=card.price, capabilities=card.capabilities or frozenset()) for card in CARDS]
    for seed in range(4):
        assert untrained(team, cards, seed=seed).allocate(TASK).models == {"a": "large", "b": "small", "c": "medium"}


def test_a_role_that_no_model_can_serve_is_named():
    team = Team(roles=[role("a"), role("seer", needs={"vision"})])
    cards = [ModelCard(id="blind", capabilities=frozenset())]
    with pytest.raises(NoEligibleModelError, match="role seer, blind: cannot do vision"):
        untrained(team, cards).allocate(TASK)


def test_an_optional_role_that_no_model_can_serve_is_left_out():
    cards = [ModelCard(id="blind", capabilities=frozenset())]
    seer = role("seer", needs={"vision"}, optional=True)
    for seed in range(6):
        assert untrained(Team(roles=[role("a"), seer]), cards, seed=seed).allocate(TASK).models == {"a": "blind"}
    with pytest.raises(NoEligibleModelError, match="all roles are optional"):
        untrained(Team(roles=[seer]), cards).allocate(TASK)


@pytest.mark.parametrize("seed", range(6))
def test_under_a_budget_the_likeliest_models_that_can_be_paid(seed):
    """Brute force over the models of the mode and team that are likeliest, or of the smallest team, or of the next mode."""
    policy, costs = untrained(seed=seed), CostModel(TEAM, CARDS)
    modes, teams, models = chances(policy)
    count, free = policy.present.sum(axis=1), policy.allocate(TASK)
    for budget in (free.expected_cost * share for share in (1.0, 0.7, 0.4, 0.15)):
        expected = None
        for mode in np.argsort(-modes):
            number = max((2, 3, 4), key=lambda one: np.exp(teams[mode][count == one]).sum())
            likeliest = max(np.flatnonzero(count == number), key=lambda place: teams[mode][place])
            for chosen in (likeliest, int(count.argmin())):
                here = policy.present[chosen] > 0
                options = [[*range(3)] if there else [3] for there in here]
                grid = np.array(list(itertools.product(*options)))
                usd = costs.exact(MODES[mode].name, grid)
                padded = np.pad(models[mode][chosen], ((0, 0), (0, 1)))
                value = np.where(usd <= budget * (1 + 1e-12), padded[np.arange(4), grid].sum(axis=1), -np.inf)
                if np.isfinite(value.max()):
                    names = [*(card.id for card in CARDS), None]
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


def test_a_budget_that_nothing_keeps_to_names_the_cheapest():
    with pytest.raises(BudgetError) as caught:
        untrained().allocate(TASK, budget=1e-9)
    everything = []
    for mode in MODES:
        for present in subsets(TEAM)[0]:
            columns = np.where(present > 0, 0, 3)
            everything.append(CostModel(TEAM, CARDS).exact(mode.name, columns[None].astype(int))[0])
    assert caught.value.cheapest == pytest.approx(min(everything))


def test_unknown_prices_matter_only_under_a_budget():
    policy = untrained(Team(roles=[role("a")]), [ModelCard(id="x"), ModelCard(id="y")])
    assert policy.allocate(TASK).models["a"] in {"x", "y"}
    with pytest.raises(PriceUnknownError):
        policy.allocate(TASK, budget=1.0)
    with pytest.raises(ConfigError, match="budget=-1"):
        policy.allocate(TASK, budget=-1.0)


# --- on disk ---


def test_saved_and_loaded_it_allocates_the_same(tmp_path):
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


def test_foreign_and_damaged_folders_are_refused(tmp_path):
    untrained().save(tmp_path / "policy")
    RoleAllocator(TEAM, CARDS).save(tmp_path / "allocator")
    with pytest.raises(ArtefactError, match="holds no MasRouterPolicy"):
        MasRouterPolicy.load(tmp_path / "allocator")
    with pytest.raises(ArtefactError):
        RoleAllocator.load(tmp_path / "policy")
    other = CallableEmbedder(lambda texts: np.ones((len(texts), 256), np.float32), name="other", revision="1", dimension=256)
    with pytest.raises(EmbedderMismatchError):
        MasRouterPolicy.load(tmp_path / "policy", embedder=other)
    config = json.loads((tmp_path / "policy" / "team.json").read_text())
    (tmp_path / "policy" / "team.json").write_text(json.dumps(config).replace("planner", "planter"))
    with pytest.raises(ArtefactError):
        MasRouterPolicy.load(tmp_path / "policy")


def test_weights_of_another_team_are_refused():
    policy = untrained()
    with pytest.raises(ConfigError, match="not for 2 models"):
        MasRouterPolicy(TEAM, CARDS[:2], weights=policy.weights, kinds=policy.kinds)
    with pytest.raises(ConfigError, match="dimensions"):
        policy.allocate(Query(text="x", embedding=np.ones(3, np.float32)))


# --- training ---


def test_advantages_are_counted_from_the_mean_of_the_kind():
    kinds = np.repeat(np.eye(2), 45, axis=0)
    gain = np.repeat([0.2, 0.8], 45) + np.tile([-0.1, 0.0, 0.1], 30)
    found = advantages(gain, kinds)
    # Means of kinds are drawn toward that of all, 0.5, as by five runs: 0.2 becomes (45 x 0.2 + 5 x 0.5) / 50 = 0.23.
    over = gain - np.repeat([0.23, 0.77], 45)
    np.testing.assert_allclose(found, over / over.std())
    np.testing.assert_array_equal(advantages(np.full(5, 0.3), np.zeros((5, 0))), np.zeros(5))
    no_kinds = advantages(gain, np.zeros((90, 0)))
    assert no_kinds.mean() == pytest.approx(0.0, abs=1e-12)
    assert no_kinds.std() == pytest.approx(1.0)


def test_without_torch_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"train_masrouter needs .*agentroute-sdk\[torch\]"):
        train_masrouter(TEAM, CARDS, [])


@pytest.fixture(scope="module")
def torch():
    if find_spec("torch") is None:
        pytest.skip("training needs torch: pip install 'agentroute-sdk[torch]'")
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(before)


PAIR = Team(roles=[role("planner"), role("coder"), role("critic", optional=True)], modes=MODES)


def chance(models, mode, kind):
    """Planners do best with the small model, coders with the medium one, on proofs with the large one; critics only disturb."""
    coder = "large" if kind == "proof" else "medium"
    good = 0.25 * (models["planner"] == "small") + 0.35 * (models["coder"] == coder)
    return 0.15 + good + 0.1 * (mode == "debate") - 0.1 * (models.get("critic", "none") != "none")


TEXTS = {
    "proof": ["Prove that there are infinitely many primes.", "Show that the root of two is irrational.", TASK],
    "code": ["Write a parser for dates.", "Fix the bug in this loop.", "Sort a list of names without a library."],
}


@pytest.fixture(scope="module")
def log():
    """Runs drawn evenly; their success is what it is on average, so that nothing hangs on luck."""
    rng, made = np.random.default_rng(0), []
    ids = [card.id for card in CARDS]
    for number in range(900):
        kind = ("proof", "code")[int(rng.integers(2))]
        models = {"planner": str(rng.choice(ids)), "coder": str(rng.choice(ids)), "critic": str(rng.choice([*ids, "none"]))}
        mode = MODES[int(rng.integers(2))].name
        made.append(
            TeamRun(
                query=Query(text=TEXTS[kind][int(rng.integers(3))], task=kind, id=f"task {number}"),
                models=models,
                mode=mode,
                success=chance(models, mode, kind),
                propensity=1 / (3 * 3 * 4 * 2),
                id=str(number),
            )
        )
    return made


SHORT = {"hidden": 32, "steps": 250}


@pytest.fixture(scope="module")
def trained(torch, log):
    return train_masrouter(PAIR, CARDS, log, **SHORT)


@pytest.mark.parametrize(("kind", "coder"), [("proof", "large"), ("code", "medium")])
def test_training_finds_each_roles_model_the_mode_and_who_is_needed(trained, kind, coder):
    for text in TEXTS[kind]:
        found = trained.allocate(Query(text=text, task=kind))
        assert found.models == {"planner": "small", "coder": coder}
        assert found.mode == "debate"


def test_held_out_runs_say_that_it_has_learned(trained, log):
    report = evaluate(trained, [run for run in log if int(run.id) % 2], resamples=50)
    assert report.policy("allocator").success.value > report.policy("as logged").success.value + 0.2


def test_training_is_repeatable_and_leaves_torchs_own_dice_alone(torch, trained, log):
    before = torch.get_rng_state()
    again = train_masrouter(PAIR, CARDS, log, **SHORT)
    assert torch.equal(before, torch.get_rng_state())
    for name, array in trained.weights.items():
        np.testing.assert_array_equal(array, again.weights[name], err_msg=name)


def test_a_trained_policy_is_used_without_torch(trained, tmp_path, monkeypatch):
    trained.save(tmp_path / "p")
    monkeypatch.setitem(sys.modules, "torch", None)
    again = MasRouterPolicy.load(tmp_path / "p")
    query = Query(text=TASK, task="proof")
    assert again.allocate(query).models == trained.allocate(query).models


def test_torch_and_numpy_compute_the_same(torch, log):
    from agentroute.teams._masrouter_training import _likely

    policy = untrained(PAIR)
    present, size = subsets(PAIR)
    weights = {name: array.astype(np.float64) for name, array in policy.weights.items()}
    rng = np.random.default_rng(0)
    rows = {
        "x": rng.normal(size=(20, 256)),
        "modes": rng.integers(2, size=20),
        "teams": rng.integers(len(present), size=20),
        "columns": rng.integers(3, size=(20, 3)),
    }
    rows["there"] = present[rows["teams"]]
    allowed = np.ones((3, 3), bool)
    allowed[1, 0] = False
    here = _likely(Cascade(np, weights, present, size), rows, allowed)
    tensors = [{name: torch.tensor(array) for name, array in given.items()} for given in (weights, rows)]
    there = _likely(Cascade(torch, tensors[0], torch.tensor(present), torch.tensor(size)), tensors[1], torch.tensor(allowed))
    np.testing.assert_allclose(here[0], there[0].numpy(), rtol=1e-10)
    assert here[1] == pytest.approx(float(there[1]))


def test_money_counts_when_a_success_has_a_price(torch, log):
    """A success at 0.35 cents: the large coder's 0.35 more success is not worth what it costs more than the small one."""
    costs = CostModel(PAIR, CARDS)
    dear = train_masrouter(PAIR, CARDS, log, willingness_to_pay=3.5e-3, **SHORT)
    found = dear.allocate(Query(text=TASK, task="proof"))
    kept = {}
    for mode, planner, coder in itertools.product(
        ("chain", "debate"), ("small", "medium", "large"), ("small", "medium", "large")
    ):
        models = {"planner": planner, "coder": coder}
        usd = costs.exact(mode, costs.columns(models)[None])[0]
        kept[mode, planner, coder] = chance(models, mode, "proof") - usd / 3.5e-3
    assert max(kept, key=kept.get)[2] != "large"
    assert found.models["coder"] != "large"
    worth = kept[found.mode, found.models["planner"], found.models["coder"]]
    assert worth > kept["debate", "small", "large"] + 0.3  # what is best where money does not count
    assert "critic" not in found.models


def test_a_dear_uncertainty_keeps_the_policy_unsure(torch, log):
    def unsure(entropy):
        policy = train_masrouter(PAIR, CARDS, log, hidden=16, steps=60, entropy=entropy)
        likely = chances(policy)[2][0][0]
        return -(np.exp(likely) * likely).sum(axis=1).mean()

    assert unsure(5.0) > 0.98 * math.log(3)
    assert unsure(0.0) < 0.9 * math.log(3)


def test_the_unit_of_success_does_not_matter(torch, log):
    from dataclasses import replace

    few = log[:100]
    halves = [replace(run, success=run.success / 2) for run in few]
    one, other = (train_masrouter(PAIR, CARDS, runs, hidden=8, steps=5).weights for runs in (few, halves))
    for name, array in one.items():
        np.testing.assert_allclose(array, other[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_what_cannot_be_learned_from_is_refused(torch, log):
    from dataclasses import replace

    with pytest.raises(DataError, match="no run has both a success and a propensity"):
        train_masrouter(PAIR, CARDS, [replace(run, propensity=None) for run in log[:20]])
    unpriced = [ModelCard(id=card.id) for card in CARDS]
    with pytest.raises(DataError, match="those of some runs are unknown"):
        train_masrouter(PAIR, unpriced, log[:20], willingness_to_pay=1.0)
    with pytest.raises(ConfigError, match="steps"):
        train_masrouter(PAIR, CARDS, log, steps=0)
