"""An allocator on disk: what is saved allocates the same, holds no text, and is refused where it is damaged."""

import math
from dataclasses import replace

import numpy as np
import pytest

from agentroute.errors import ArtefactError, EmbedderMismatchError, LowSupportWarning
from agentroute.router import read_artefact, write_artefact
from agentroute.teams import Mode, Role, RoleAllocator, RoleUsage, RunLog, Team
from agentroute.types import Fingerprint, ModelCard, Price, Query

CARDS = [
    ModelCard(
        id=name, price=Price(input=price, output=4 * price, cache_read=price / 10), scores={"MMLU": score}, context_window=9000
    )
    for name, price, score in (("small", 0.1, 0.3), ("middle", 1.0, 0.6), ("large", 10.0, 0.9))
]
TEAM = Team(roles=[Role(name="planner"), Role(name="solver"), Role(name="critic", optional=True)])


def allocations(allocator):
    found = []
    for task in ("Write code.", "Plan a trip."):
        for budget in (None, 0.001, 0.02):
            one = allocator.allocate(task, budget=budget)
            found.append(
                (dict(one.models), one.mode, one.expected_quality, one.quality_interval, one.expected_cost, one.cost_upper)
            )
    return found


@pytest.mark.parametrize("kinds", ["none", "cluster", "pairs"])
def test_what_is_saved_allocates_the_same(tmp_path, kinds, runs_of):
    team = Team(
        roles=[
            Role(name="planner", needs={"tools"}, allow={"small", "large"}),
            Role(name="solver"),
            Role(name="critic", optional=True),
        ],
        modes=[Mode(name="chain", growth="previous"), Mode(name="debate", rounds=2, extra_tokens=20)],
    )

    def chance(models):
        if kinds == "pairs":
            return 0.95 if (models["planner"] == "small") == (models["solver"] == "small") else 0.05
        return 0.3 + 0.4 * (models["solver"] == "middle")

    runs = runs_of(team, 300, chance)
    if kinds == "cluster":
        words = ["write code for a parser of dates", "plan a trip to the sea with children"]
        runs = [replace(run, query=Query(text=f"{words[n % 2]} {n}")) for n, run in enumerate(runs)]
    else:
        runs = [replace(run, query=Query(text="one task")) for run in runs]
    lost = {"planner": RoleUsage(error="InternalServerError")}
    runs.append(replace(runs[0], id="lost", success=None, roles=lost, metadata={"error": "AllModelsFailedError"}))
    allocator = RoleAllocator(
        team, CARDS, runs=runs, willingness_to_pay=0.5 if kinds == "none" else math.inf, task="odd jobs", seed=3
    )
    assert allocator.report().by == ("pairs" if kinds == "pairs" else "sum")
    assert bool(allocator.report().kinds) == (kinds == "cluster")
    allocator.save(tmp_path / "team")
    loaded = RoleAllocator.load(tmp_path / "team")
    assert allocations(loaded) == allocations(allocator)
    assert str(loaded.report()) == str(allocator.report())
    assert loaded.report().broken == 1
    assert loaded.team == team
    loaded.save(tmp_path / "again")
    assert allocations(RoleAllocator.load(tmp_path / "again")) == allocations(allocator)


def test_no_text_of_any_task_is_saved(tmp_path, runs_of):
    runs = [replace(run, query=Query(text="a very secret task")) for run in runs_of(TEAM, 50, lambda models: 0.5)]
    RoleAllocator(TEAM, CARDS, runs=runs).save(tmp_path / "team")
    for file in (tmp_path / "team").rglob("*"):
        assert b"secret" not in file.read_bytes()


def test_a_folder_without_what_was_learned_is_learned_from_its_runs(tmp_path, runs_of):
    allocator = RoleAllocator(TEAM, CARDS, runs=runs_of(TEAM, 150, lambda models: 0.3 + 0.4 * (models["solver"] == "middle")))
    allocator.save(tmp_path / "team")
    config, arrays = read_artefact(tmp_path / "team", kind="team")
    kept = {name: one for name, one in arrays.items() if not name.startswith("sum_")}
    assert len(kept) < len(arrays)
    earlier = {name: value for name, value in config.items() if name != "learned"}
    write_artefact(tmp_path / "earlier", earlier, kept, kind="team")
    assert str(RoleAllocator.load(tmp_path / "earlier").report()) == str(allocator.report())
    # What is said to have been learned must be there, and of this team.
    for wrong in (kept, {**arrays, "sum_coef": arrays["sum_coef"][:-1]}):
        write_artefact(tmp_path / "wrong", config, wrong, kind="team")
        with pytest.raises(ArtefactError, match="this release cannot use"):
            RoleAllocator.load(tmp_path / "wrong")


def test_a_damaged_folder_is_refused(tmp_path, runs_of):
    RoleAllocator(TEAM, CARDS, runs=runs_of(TEAM, 50, lambda models: 0.5)).save(tmp_path / "team")
    for file in sorted((tmp_path / "team").iterdir()):
        whole = file.read_bytes()
        file.write_bytes(whole[:-2] + b"!!")
        with pytest.raises(ArtefactError):
            RoleAllocator.load(tmp_path / "team")
        file.write_bytes(whole)
    RoleAllocator.load(tmp_path / "team")
    with pytest.raises(ArtefactError):
        RoleAllocator.load(tmp_path / "nothing")


class Letters:
    """An embedder of another kind."""

    dimension = 4

    @property
    def fingerprint(self):
        return Fingerprint(name="letters", revision="1", dimension=4)

    def embed(self, texts):
        return np.stack([np.array([len(text) % 7, text.count("a"), text.count("e"), 1.0], np.float32) for text in texts])


def test_clusters_of_one_embedder_are_not_asked_with_another(tmp_path, runs_of):
    words = ["write code for a parser of dates", "plan a trip to the sea with children"]
    runs = runs_of(TEAM, 200, lambda models: 0.5)
    runs = [replace(run, query=Query(text=f"{words[n % 2]} {n}")) for n, run in enumerate(runs)]
    RoleAllocator(TEAM, CARDS, runs=runs).save(tmp_path / "team")
    with pytest.raises(EmbedderMismatchError):
        RoleAllocator.load(tmp_path / "team", embedder=Letters())


def test_vectors_of_another_embedder_are_made_anew_or_left_out(runs_of):
    allocator = RoleAllocator(TEAM, CARDS)
    for run in runs_of(TEAM, 80, lambda models: 0.5):
        allocator.record(run)
    given = [replace(run, query=replace(run.query, text="", withheld=True)) for run in allocator.runs]
    other = RoleAllocator(TEAM, CARDS, embedder=Letters())
    assert other.fit(given).kinds == ()


def test_a_loaded_allocator_learns_and_logs_on(tmp_path, runs_of):
    RoleAllocator(TEAM, CARDS, runs=runs_of(TEAM, 50, lambda models: 0.5)).save(tmp_path / "team")
    log = RunLog(tmp_path / "runs.jsonl")
    loaded = RoleAllocator.load(tmp_path / "team", log=log)
    with loaded.session("x", explore=0.5) as session:
        session.begin("planner").settle(cost=0.01)
        session.finish(success=1.0)
    assert len(list(log)) == 1
    # A saved team keeps what was learned, and no runs: to learn on needs all of them.
    with pytest.warns(LowSupportWarning, match="learns from 1 runs, and forgets 50: keep runs in a log"):
        assert loaded.fit().runs == 1


def test_before_any_run_it_can_be_saved_too(tmp_path):
    RoleAllocator(TEAM, CARDS).save(tmp_path / "team")
    assert allocations(RoleAllocator.load(tmp_path / "team")) == allocations(RoleAllocator(TEAM, CARDS))


def test_foreign_artefacts_are_refused(tmp_path):
    from agentroute.router import write_artefact

    write_artefact(tmp_path / "other", {"x": 1}, {}, kind="team")
    with pytest.raises(ArtefactError, match="cannot use"):
        RoleAllocator.load(tmp_path / "other")
