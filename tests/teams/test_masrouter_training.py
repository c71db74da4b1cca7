"""Training MasRouter's cascade: what it learns from runs drawn by lot, where torch is; what it says where torch is not."""

import itertools
import math
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from agentroute.errors import ConfigError, DataError, MissingExtraError
from agentroute.teams import Mode, Role, Team, TeamRun
from agentroute.teams._costs import CostModel
from agentroute.teams._judging import evaluate
from agentroute.teams._masrouter import Cascade, MasRouterPolicy, described, embedded, inputs, subsets
from agentroute.teams._masrouter_training import _first, _likely, advantages, train_masrouter
from agentroute.types import ModelCard, Query

MODES = (Mode(name="chain", growth="previous"), Mode(name="debate", growth="all", rounds=2))
TASK = "Prove that the sum of two odd numbers is even."


def role(name, **options):
    return Role(name=name, description=f"the {name} of the team", **options)


PAIR = Team(roles=[role("planner"), role("coder"), role("critic", optional=True)], modes=MODES)


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


def test_without_torch_it_says_what_to_install(monkeypatch, masrouter_cards):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"train_masrouter needs .*agentroute-sdk\[torch\]"):
        train_masrouter(PAIR, masrouter_cards, [])


@pytest.fixture(scope="module")
def torch():
    if find_spec("torch") is None:
        pytest.skip("training needs torch: pip install 'agentroute-sdk[torch]'")
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(before)


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
def log(masrouter_cards):
    """Runs drawn evenly; their success is what it is on average, so that nothing hangs on luck."""
    rng, made = np.random.default_rng(0), []
    ids = [card.id for card in masrouter_cards]
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
def trained(torch, log, masrouter_cards):
    return train_masrouter(PAIR, masrouter_cards, log, **SHORT)


@pytest.mark.parametrize(("kind", "coder"), [("proof", "large"), ("code", "medium")])
def test_training_finds_each_roles_model_the_mode_and_who_is_needed(trained, kind, coder):
    for text in TEXTS[kind]:
        found = trained.allocate(Query(text=text, task=kind))
        assert found.models == {"planner": "small", "coder": coder}
        assert found.mode == "debate"


def test_held_out_runs_say_that_it_has_learned(trained, log):
    report = evaluate(trained, [run for run in log if int(run.id) % 2], resamples=50)
    assert report.policy("allocator").success.value > report.policy("as logged").success.value + 0.2


def test_training_is_repeatable_and_leaves_torchs_own_dice_alone(torch, trained, log, masrouter_cards):
    before = torch.get_rng_state()
    again = train_masrouter(PAIR, masrouter_cards, log, **SHORT)
    assert torch.equal(before, torch.get_rng_state())
    for name, array in trained.weights.items():
        np.testing.assert_array_equal(array, again.weights[name], err_msg=name)


def test_a_trained_policy_is_used_without_torch(trained, tmp_path, monkeypatch):
    trained.save(tmp_path / "p")
    monkeypatch.setitem(sys.modules, "torch", None)
    again = MasRouterPolicy.load(tmp_path / "p")
    query = Query(text=TASK, task="proof")
    assert again.allocate(query).models == trained.allocate(query).models


def test_torch_and_numpy_compute_the_same(torch, log, masrouter_cards):
    rng = np.random.default_rng(0)
    known, (present, size) = described(PAIR, masrouter_cards, None), subsets(PAIR)
    weights = _first(rng, 256, 16, known, int(size.max()) + 1) | known | {"model.sharp": np.array(1.5)}
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


def test_money_counts_when_a_success_has_a_price(torch, log, masrouter_cards):
    """A success at 0.35 cents: the large coder's 0.35 more success is not worth what it costs more than the small one."""
    costs = CostModel(PAIR, masrouter_cards)
    dear = train_masrouter(PAIR, masrouter_cards, log, willingness_to_pay=3.5e-3, **SHORT)
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


def test_a_dear_uncertainty_keeps_the_policy_unsure(torch, log, masrouter_cards):
    def unsure(entropy):
        policy = train_masrouter(PAIR, masrouter_cards, log, hidden=16, steps=60, entropy=entropy)
        [query] = embedded([Query(text=TASK)], None)
        context = policy._net.task(inputs([query], policy.kinds, policy.weights["centre"]))
        likely = policy._net.models(context, np.array([0]), np.array([0]), np.ones((3, 3), bool))[0]
        return -(np.exp(likely) * likely).sum(axis=1).mean()

    assert unsure(5.0) > 0.98 * math.log(3)
    assert unsure(0.0) < 0.9 * math.log(3)


def test_the_unit_of_success_does_not_matter(torch, log, masrouter_cards):
    few = log[:100]
    halves = [replace(run, success=run.success / 2) for run in few]
    one, other = (train_masrouter(PAIR, masrouter_cards, runs, hidden=8, steps=5).weights for runs in (few, halves))
    for name, array in one.items():
        np.testing.assert_allclose(array, other[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_what_cannot_be_learned_from_is_refused(torch, log, masrouter_cards):
    with pytest.raises(DataError, match="no run has both a success and a propensity"):
        train_masrouter(PAIR, masrouter_cards, [replace(run, propensity=None) for run in log[:20]])
    unpriced = [ModelCard(id=card.id) for card in masrouter_cards]
    with pytest.raises(DataError, match="those of some runs are unknown"):
        train_masrouter(PAIR, unpriced, log[:20], willingness_to_pay=1.0)
    with pytest.raises(ConfigError, match="steps"):
        train_masrouter(PAIR, masrouter_cards, log, steps=0)
