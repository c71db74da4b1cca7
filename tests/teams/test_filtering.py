"""What may serve a role at all: what it can do, what it is allowed, and whether what it reads and says goes into its window."""

import math
from dataclasses import replace

import pytest

from agentroute.errors import BudgetError, ConfigError, NoEligibleModelError
from agentroute.teams import Mode, Role, RoleAllocator, RoleUsage, Team, TeamRun
from agentroute.types import ModelCard, Price, Query, Usage

NARROW = ModelCard(id="narrow", price=Price(input=0.1, output=0.1), scores={"MMLU": 0.9}, context_window=4_000)
WIDE = ModelCard(id="wide", price=Price(input=1.0, output=1.0), scores={"MMLU": 0.3}, context_window=100_000)
CARDS = [NARROW, WIDE]


def team(mode, roles=4, **fields):
    return Team(
        roles=[Role(name=f"r{k}", input_tokens=500.0, output_tokens=1_000.0, **fields) for k in range(roles)], modes=[mode]
    )


def served(allocation):
    return list(allocation.models.values())


@pytest.mark.parametrize(
    ("mode", "models"),
    [
        (Mode(name="io"), ["narrow"] * 4),
        (Mode(name="chain", growth="previous"), ["narrow"] * 4),
        # 500 + 1,000 for each before it + 1,000 that it says: the fourth would need 4,500.
        (Mode(name="full", growth="all"), ["narrow", "narrow", "narrow", "wide"]),
        # In the second round each reads all four of the first.
        (Mode(name="debate", growth="none", rounds=2), ["wide"] * 4),
        (Mode(name="long", extra_tokens=2_600.0), ["wide"] * 4),
        # 500 + its own 1,000 + 1,000 more, and with 1,600 of the mode's too much.
        (Mode(name="reflection", reviews=1, extra_tokens=1_500.0), ["narrow"] * 4),
        (Mode(name="reflection", reviews=1, extra_tokens=1_501.0), ["wide"] * 4),
    ],
)
def test_the_window_holds_what_a_role_reads_and_says(mode, models):
    assert served(RoleAllocator(team(mode), CARDS).allocate("x")) == models


def test_a_long_task_goes_to_a_wide_window():
    allocator = RoleAllocator(team(Mode(name="io"), 1), CARDS)
    assert served(allocator.allocate(Query(text="x", input_tokens=3_000))) == ["narrow"]
    assert served(allocator.allocate(Query(text="x", input_tokens=3_001))) == ["wide"]


def test_a_model_whose_answers_are_cut_short_does_not_serve():
    short = replace(WIDE, id="short", scores={"MMLU": 1.0}, max_output_tokens=999)
    assert served(RoleAllocator(team(Mode(name="io"), 1), [short, WIDE]).allocate("x")) == ["wide"]


def test_only_what_is_read_at_least_rules_out_a_window():
    optional = Team(
        roles=[
            Role(name="scout", optional=True, output_tokens=5_000.0),
            Role(name="solver", input_tokens=500.0, allow={"narrow"}),
        ],
        modes=[Mode(name="chain", growth="previous")],
    )
    assert RoleAllocator(optional, CARDS).allocate("x", roles=["solver"]).models == {"solver": "narrow"}
    with pytest.raises(NoEligibleModelError, match="narrow: its window of 4000 tokens is too small for 5500") as caught:
        RoleAllocator(optional, CARDS).allocate("x", roles=["scout", "solver"])
    assert caught.value.reasons["role solver, wide"] == "the team gives the role others"


def test_a_mode_whose_prompts_no_model_holds_is_left_for_another():
    both = Team(roles=[Role(name="solver")], modes=[Mode(name="huge", extra_tokens=1e6), Mode(name="io")])
    assert RoleAllocator(both, CARDS).allocate("x").mode == "io"
    with pytest.raises(NoEligibleModelError, match="too small"):
        RoleAllocator(both, CARDS).allocate("x", mode="huge")
    # What is drawn by lot, whatever the mode, must do in each.
    with pytest.raises(NoEligibleModelError, match="too small"):
        RoleAllocator(both, CARDS).exploration_plan(4)
    plan = RoleAllocator(
        Team(roles=[Role(name="solver")], modes=[Mode(name="long", extra_tokens=1e4), Mode(name="io")]), CARDS
    ).exploration_plan(8)
    assert {(trial.mode, trial.models["solver"]) for trial in plan} == {("long", "wide"), ("io", "wide")}


def test_logged_prompts_and_answers_count_once_there_are_some():
    used = RoleUsage(usage=Usage(input_tokens=3_000, output_tokens=2_000))
    runs = [
        TeamRun(query=Query(text="x"), models={"r0": "narrow"}, mode="io", success=1.0, roles={"r0": used}) for _ in range(40)
    ]
    allocator = RoleAllocator(team(Mode(name="io"), 1), CARDS)
    assert served(allocator.allocate("x")) == ["narrow"]
    allocator.fit(runs)
    assert served(allocator.allocate("x")) == ["wide"]


def test_a_session_filters_by_its_mode():
    full = RoleAllocator(team(Mode(name="full", growth="all"), optional=True), CARDS)
    with full.session("x", roles=["r0", "r1", "r2", "r3"]) as session:
        assert session.may("r2") == {"narrow", "wide"}
        assert session.may("r3") == {"wide"}


@pytest.mark.parametrize("willing", [math.inf, 1e-9])
def test_a_team_of_nobody_is_none(willing):
    volunteers = Team(
        roles=[Role(name="a", optional=True, output_tokens=400.0), Role(name="b", optional=True)], modes=[Mode(name="io")]
    )
    allocator = RoleAllocator(volunteers, CARDS, willingness_to_pay=willing)
    cheapest = allocator.allocate("x", fixed={"a": "none", "b": "narrow"}).expected_cost
    assert allocator.allocate("x", budget=cheapest).models == {"b": "narrow"}
    with pytest.raises(BudgetError, match=f"the cheapest, b=narrow in mode 'io', costs .{cheapest:.4g}") as caught:
        allocator.allocate("x", budget=0.0)
    assert caught.value.cheapest == pytest.approx(cheapest)
    if willing < 1.0:
        assert allocator.allocate("x").models == {"b": "narrow"}
    with pytest.raises(ConfigError, match="leaves nobody"):
        allocator.allocate("x", roles=[])
    with pytest.raises(ConfigError, match="leaves nobody"):
        allocator.allocate("x", fixed={"a": "none", "b": "none"})
    with pytest.raises(ConfigError, match="leaves nobody"):
        allocator.allocate("x", roles=["a"], fixed={"a": "none"})
    blind = RoleAllocator(volunteers, [replace(card, capabilities=frozenset()) for card in CARDS])
    with pytest.raises(NoEligibleModelError, match="role b, wide: cannot do vision"):
        blind.allocate(Query(text="x", needs={"vision"}))
    drawn = {tuple(allocator.allocate("x", explore=1.0).models.items()) for _ in range(200)}
    assert () not in drawn
    assert len(drawn) == 8
