"""The allocator: who gets which role, under every constraint that a caller may set, and what it says when there is no way."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.errors import (
    BudgetError,
    ConfigError,
    NoEligibleModelError,
    PriceUnknownError,
    UnknownModelError,
)
from agentroute.teams import NONE, Mode, Role, RoleAllocator, RoleUsage, Team, TeamRun
from agentroute.teams._choosing import Choice
from agentroute.types import ModelCard, Price, Query, Usage

CODE = ModelCard(id="code", price=Price(input=1.0, output=4.0), scores={"HumanEval": 0.95, "MMLU": 0.5, "PlanBench": 0.3})
PLAN = ModelCard(id="plan", price=Price(input=1.0, output=4.0), scores={"HumanEval": 0.45, "MMLU": 0.6, "PlanBench": 0.9})
PLANS, CODES = "makes plans: orders steps and divides tasks", "writes code, programs Python functions"


PRICE = {"small": 0.00013, "middle": 0.0013, "large": 0.013}
"""USD of a call of 500 tokens in and 200 out."""


# --- the first day ---


def test_with_cards_alone_each_role_gets_the_model_that_is_good_at_it():
    team = Team(roles=[Role(name="planner", description=PLANS), Role(name="coder", description=CODES)])
    assert RoleAllocator(team, [CODE, PLAN]).allocate("Write a parser.").models == {"planner": "plan", "coder": "code"}


def test_swapped_descriptions_swap_the_models():
    team = Team(roles=[Role(name="one", description=CODES), Role(name="two", description=PLANS)])
    swapped = Team(roles=[Role(name="one", description=PLANS), Role(name="two", description=CODES)])
    assert RoleAllocator(team, [PLAN, CODE]).allocate("x").models == {"one": "code", "two": "plan"}
    assert RoleAllocator(swapped, [PLAN, CODE]).allocate("x").models == {"one": "plan", "two": "code"}


def test_swapped_needs_swap_the_models():
    cards = [
        ModelCard(id="hands", capabilities={"tools"}, price=Price(input=1, output=1)),
        ModelCard(id="eyes", capabilities={"image"}, price=Price(input=1, output=1)),
    ]
    for first, second in (("tools", "image"), ("image", "tools")):
        team = Team(roles=[Role(name="one", needs={first}), Role(name="two", needs={second})])
        models = RoleAllocator(team, cards).allocate("x").models
        who = {"tools": "hands", "image": "eyes"}
        assert models == {"one": who[first], "two": who[second]}


def test_reasons_tell_what_cards_and_what_runs_say(team, cards, runs_of):
    allocator = RoleAllocator(team, cards)
    assert "judged by MMLU (100%)" in allocator.allocate("x").reasons["planner"]
    allocator.fit(runs_of(team, 60, lambda models: 0.5))
    assert "runs" in allocator.allocate("x").reasons["planner"]


def test_a_role_that_is_fixed_by_the_team_is_kept_whatever_the_cards_say(cards):
    team = Team(roles=[Role(name="planner", model="small"), Role(name="solver", allow={"small", "middle"})])
    allocation = RoleAllocator(team, cards).allocate("x")
    assert allocation.models == {"planner": "small", "solver": "middle"}
    assert allocation.reasons["planner"] == "the team says so"


# --- what a caller may set ---


def test_roles_that_the_caller_settled_have_no_number_for_a_reason(team, cards):
    chooser = RoleAllocator(team, cards)._chooser
    choice = Choice(mode=team.modes[0], columns=np.array([0, 2, 3]), chance=0.5, cost=0.01, exact=True)
    kinds = chooser.kinds_of(Query(text="x"))
    reasons = chooser.allocation(choice, kinds, None, 1.0, "", said={"planner", "critic"}).reasons
    assert (reasons["planner"], reasons["critic"]) == ("you said so", "left out, as you said")
    assert "judged by MMLU" in reasons["solver"]
    assert chooser.allocation(choice, kinds, 0.02, 1.0, "").reasons["critic"] == "left out: the budget does not reach so far"


def test_what_the_caller_settled_stays_settled_in_a_session(team, cards):
    allocation = RoleAllocator(team, cards).allocate("x", fixed={"planner": "large", "critic": NONE})
    assert allocation.fixed == {"planner"}
    with RoleAllocator(team, cards).session("x", allocation=allocation, budget=0.0140) as session:
        assert session.model("planner") == "large"
        assert session.begin("solver").model == "small"


def test_why_a_role_is_left_out(team, cards, runs_of):
    def critic(**options):
        allocator = RoleAllocator(team, cards, **options)
        return allocator.allocate("x", fixed={"planner": "small", "solver": "small"}, budget=0.0003)

    assert critic().reasons["critic"] == "left out: the budget does not reach so far"
    assert critic(willingness_to_pay=1e-4).reasons["critic"] == "left out: it adds less than it costs"
    harm = runs_of(team, 400, lambda models: 0.9 if models["critic"] == NONE else 0.1)
    assert critic(runs=harm).reasons["critic"] == "left out: the team does no worse without it"


def test_of_equally_good_modes_the_cheaper_is_taken():
    modes = [Mode(name="dear", rounds=3), Mode(name="cheap")]
    for either in (modes, modes[::-1]):
        assert RoleAllocator(Team(roles=[Role(name="a")], modes=either), [PLAN]).allocate("x").mode == "cheap"


def test_lots_keep_to_what_most_runs_stay_below_where_that_is_asked_for():
    team = Team(roles=[Role(name="a")], modes=[Mode(name="io")])
    spent = [("code", 0.001), ("code", 0.001), ("plan", 0.001), ("plan", 0.003)] * 100
    runs = [
        TeamRun(query=Query(text="x"), models={"a": model}, mode="io", success=1.0, roles={"a": RoleUsage(cost=usd)}, cost=usd)
        for model, usd in spent
    ]
    allocator = RoleAllocator(team, [CODE, PLAN], runs=runs, seed=0)

    def lots(**options):
        return {allocator.allocate("x", budget=0.0025, explore=1.0, **options).models["a"] for _ in range(30)}

    assert lots() == {"code", "plan"}  # .002 on average
    assert lots(upper=True) == {"code"}  # one run in two costs .003


@pytest.mark.parametrize("growth", ["none", "previous", "all"])
@pytest.mark.parametrize("willing", [math.inf, 2.0])
def test_what_roles_read_of_each_other_is_weighed_with_pairs_too(growth, willing, cards, runs_of):
    team = Team(roles=[Role(name=name, optional=name == "critic") for name in ("planner", "solver", "critic")],
                modes=[Mode(name="m", growth=growth)])  # fmt: skip
    wordy, terse = Usage(input_tokens=500, output_tokens=4000), Usage(input_tokens=500, output_tokens=20)
    runs = []
    for run in runs_of(team, 600, lambda m: 0.8 if m["planner"] == m["solver"] else 0.2):
        used = {role: RoleUsage(usage=wordy if model == "small" else terse) for role, model in run.models.items()}
        runs.append(replace(run, cost=None, roles=used))
    allocator = RoleAllocator(team, cards, runs=runs, willingness_to_pay=willing)
    chooser = allocator._chooser
    assert chooser.pairs is not None
    every = np.array(list(itertools.product(range(3), range(3), range(4))))
    usd = chooser.costs.exact("m", every)
    kinds = np.repeat(chooser.kinds_of(allocator._query("x"))[None], len(every), axis=0)
    chance = 1.0 / (1.0 + np.exp(-chooser.pairs.logit(every, np.zeros(len(every), int), kinds)[0]))
    worth = chance - usd / willing
    for budget in (*np.quantile(usd, np.linspace(0.0, 1.0, 13)).tolist(), None):
        allocation = allocator.allocate("x", budget=budget)
        fits = usd <= (math.inf if budget is None else budget * (1 + 1e-12))
        assert allocation.exact
        assert allocation.expected_quality - allocation.expected_cost / willing == pytest.approx(worth[fits].max())
        assert allocation.expected_cost <= (math.inf if budget is None else budget)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_what_is_worth_most_beyond_its_cost_is_found(share):
    team = Team(roles=[Role(name=name, optional=name == "c") for name in "abc"], modes=[Mode(name="m", growth="all", rounds=2)])
    for seed in range(10):
        rng = np.random.default_rng(seed)
        drawn = [(float(rng.lognormal()), float(rng.random())) for _ in range(4)]
        cards = [
            ModelCard(id=f"m{j}", price=Price(input=usd, output=4 * usd), scores={"MMLU": score})
            for j, (usd, score) in enumerate(drawn)
        ]
        allocator = RoleAllocator(team, cards, willingness_to_pay=float(rng.lognormal(-4.0)))
        chooser, every = allocator._chooser, np.array(list(itertools.product(range(4), range(4), range(5))))
        usd = chooser.costs.exact("m", every)
        budget = float(usd.min() + share * (usd.max() - usd.min()))
        logit, _ = chooser.sum.logit(every, np.zeros(80, int), np.zeros((80, 0)))
        worth = np.where(usd <= budget * (1 + 1e-12), 1 / (1 + np.exp(-logit)) - usd / allocator.willingness_to_pay, -np.inf)
        found = allocator.allocate("x", budget=budget)
        assert found.exact
        assert found.expected_quality - found.expected_cost / allocator.willingness_to_pay == pytest.approx(worth.max())


def test_only_the_named_roles_take_part(team, cards):
    allocator = RoleAllocator(team, cards)
    whole, part = allocator.allocate("x", roles=["planner", "solver", "critic"]), allocator.allocate("x", roles=["solver"])
    assert set(whole.models) == {"planner", "solver", "critic"}
    assert part.models == {"solver": "large"}
    assert part.expected_cost == pytest.approx(PRICE["large"])
    assert part.reasons["planner"] == "left out, as you said"
    assert 0.0 < part.expected_quality < 1.0


def test_a_required_role_that_is_left_out_takes_nothing_of_another_models_merit(cards, runs_of):
    team = Team(roles=[Role(name="planner"), Role(name="solver")])
    allocator = RoleAllocator(team, cards, runs=runs_of(team, 600, lambda m: 0.2 + 0.7 * (m["planner"] == "large")))
    alone = allocator.allocate("x", roles=["solver"])
    low = allocator.allocate("x", fixed={"planner": "small", "solver": alone.models["solver"]}).expected_quality
    high = allocator.allocate("x", fixed={"planner": "large", "solver": alone.models["solver"]}).expected_quality
    assert low < alone.expected_quality < high


def test_fixed_roles_have_their_models_and_the_others_what_is_left(team, cards):
    allocator = RoleAllocator(team, cards)
    found = allocator.allocate("x", fixed={"planner": "small", "critic": NONE})
    assert found.models == {"planner": "small", "solver": "large"}
    tight = allocator.allocate("x", fixed={"planner": "large"}, budget=0.0145)
    assert tight.models["planner"] == "large"
    assert tight.expected_cost <= 0.0145


def test_a_mode_is_kept_to_and_without_one_the_better_is_taken(cards, runs_of):
    team = Team(roles=[Role(name="a"), Role(name="b")], modes=[Mode(name="chain"), Mode(name="debate", rounds=2)])
    runs = runs_of(team, 400, lambda models: 0.5)
    rng = np.random.default_rng(1)
    runs = [replace(run, success=float(rng.random() < (0.9 if run.mode == "debate" else 0.3))) for run in runs]
    allocator = RoleAllocator(team, cards, runs=runs)
    assert allocator.allocate("x").mode == "debate"
    assert allocator.allocate("x", mode="chain").mode == "chain"
    assert allocator.allocate("x", mode="chain").expected_quality < allocator.allocate("x").expected_quality


def test_what_a_success_is_worth_decides_how_much_is_spent(cards, runs_of):
    team = Team(roles=[Role(name="solver")])
    runs = runs_of(team, 1200, lambda models: {"small": 0.3, "middle": 0.6, "large": 0.7}[models["solver"]])
    runs = [replace(run, cost=None) for run in runs]

    def best(worth):
        return RoleAllocator(team, cards, runs=runs, willingness_to_pay=worth).allocate("x").models["solver"]

    # Worth of a step up over its price: 0.3 for $0.00117 above $0.0039 a success; 0.1 for $0.0117 above $0.117.
    assert [best(worth) for worth in (0.001, 0.02, 1.0, math.inf)] == ["small", "middle", "large", "large"]


def test_upper_keeps_the_runs_that_cost_more_below_the_budget_too(cards):
    team = Team(roles=[Role(name="solver")])
    small, _, large = cards
    rng = np.random.default_rng(0)
    runs = []
    for number in range(200):
        model = str(rng.choice(["small", "large"]))
        usage = Usage(input_tokens=500, output_tokens=int(rng.integers(20, 380)))
        part = RoleUsage(usage=usage, cost=(small if model == "small" else large).price.cost(usage))
        runs.append(
            TeamRun(query=Query(text=f"{number}"), models={"solver": model}, success=1.0, cost=part.cost, roles={"solver": part})
        )
    allocator = RoleAllocator(team, [small, large], runs=runs)
    found = allocator.allocate("x", fixed={"solver": "large"})
    assert found.cost_upper > found.expected_cost
    between = (found.cost_upper + found.expected_cost) / 2
    assert allocator.allocate("x", fixed={"solver": "large"}, budget=between).models == {"solver": "large"}
    with pytest.raises(BudgetError):
        allocator.allocate("x", fixed={"solver": "large"}, budget=between, upper=True)


def test_models_of_a_framework_are_handed_out_by_role(team, cards):
    chat = {name: object() for name in PRICE}
    found = RoleAllocator(team, cards).models("x", chat, fixed={"planner": "small"})
    assert found["planner"] is chat["small"]
    with pytest.raises(UnknownModelError, match="among="):
        RoleAllocator(team, cards).models("x", {"small": object()}, fixed={"planner": "large"})


# --- budgets ---


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(-0.1, 1.1), roles=st.integers(1, 4), upper=st.booleans())
def test_no_allocation_is_expected_to_cost_more_than_its_budget(seed, share, roles, upper, cards):
    rng = np.random.default_rng(seed)
    modes = [
        Mode(name=str(n), growth=str(rng.choice(["none", "previous", "all"])), rounds=int(rng.integers(1, 3))) for n in range(2)
    ]
    team = Team(
        roles=[
            Role(name=str(n), optional=bool(rng.random() < 0.3), output_tokens=float(rng.integers(0, 900))) for n in range(roles)
        ],
        modes=modes,
    )
    allocator = RoleAllocator(team, cards, seed=seed)
    least = allocator.allocate("x", fixed={str(n): "small" for n in range(roles)}, mode="0").expected_cost
    most = allocator.allocate("x", fixed={str(n): "large" for n in range(roles)}, mode="1").expected_cost
    budget = max(0.0, least + share * (most - least))
    try:
        found = allocator.allocate("x", budget=budget, upper=upper, explore=float(rng.random()))
    except BudgetError as error:
        assert error.cheapest > budget  # noqa: PT017  # whether there is an error hangs on the budget
    else:
        assert found.expected_cost <= budget * (1 + 1e-9)


def test_a_budget_that_nothing_keeps_to_names_the_cheapest_that_there_is(cards):
    team = Team(
        roles=[Role(name="planner"), Role(name="solver")], modes=[Mode(name="chain", growth="previous"), Mode(name="alone")]
    )
    allocator = RoleAllocator(team, cards)
    with pytest.raises(BudgetError, match=r"planner=small, solver=small in mode 'alone', costs \$0\.00026") as caught:
        allocator.allocate("x", budget=0.0001)
    assert caught.value.cheapest == pytest.approx(2 * PRICE["small"])
    assert caught.value.budget == 0.0001
    assert allocator.allocate("x", budget=caught.value.cheapest).expected_cost == pytest.approx(caught.value.cheapest)


def test_pairs_that_a_budget_is_too_tight_for_leave_the_sum_to_find_what_fits(cards, runs_of):
    # What each reads of the other is the most that it could be, for pairs: $0.00046 in the mean, $0.00050 at most.
    team = Team(roles=[Role(name="a"), Role(name="b")], modes=[Mode(name="all", growth="all", rounds=2)])

    def chance(models):
        return 0.9 if (models["a"] == "small") == (models["b"] == "small") else 0.1

    allocator = RoleAllocator(team, cards, runs=runs_of(team, 900, chance))
    assert allocator.report().by == "pairs"
    least = allocator.allocate("x", fixed={"a": "small", "b": "small"}).expected_cost
    assert allocator.allocate("x", budget=least).models == {"a": "small", "b": "small"}


def test_without_a_price_cost_cannot_be_weighed_and_without_a_budget_it_need_not(team, cards):
    allocator = RoleAllocator(team, [cards[0], ModelCard(id="free")])
    assert allocator.allocate("x").models
    with pytest.raises(PriceUnknownError, match="free"):
        allocator.allocate("x", budget=1.0)


@pytest.mark.parametrize("budget", [-1.0, math.nan])
def test_a_budget_is_an_amount(budget, team, cards):
    with pytest.raises(ConfigError, match="budget="):
        RoleAllocator(team, cards).allocate("x", budget=budget)


# --- what cannot be ---


def test_a_role_that_no_model_can_serve_is_named_with_the_reasons(cards):
    small, _, large = cards
    narrow = [replace(small, capabilities=frozenset()), replace(large, context_window=100)]
    team = Team(roles=[Role(name="planner"), Role(name="looker", needs={"image"}, input_tokens=500)])
    with pytest.raises(NoEligibleModelError) as caught:
        RoleAllocator(team, narrow).allocate("x")
    assert set(caught.value.reasons) == {"role looker, small", "role looker, large"} or set(caught.value.reasons) == {
        "role planner, small",
        "role planner, large",
    }
    assert "cannot do image" in str(caught.value)
    assert "window of 100 tokens" in str(caught.value)


def test_an_optional_role_that_no_model_can_serve_is_left_out(cards):
    blind = [replace(card, capabilities=frozenset()) for card in cards]
    team = Team(roles=[Role(name="planner"), Role(name="looker", needs={"image"}, optional=True)])
    assert set(RoleAllocator(team, blind).allocate("x").models) == {"planner"}


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"roles": ["boss"]}, ConfigError, "unknown role 'boss': the team has 'planner', 'solver', 'critic'"),
        ({"roles": []}, ConfigError, "leaves nobody"),
        ({"fixed": {"boss": "small"}}, ConfigError, "unknown role 'boss'"),
        ({"fixed": {"planner": "huge"}}, UnknownModelError, "huge"),
        ({"fixed": {"planner": NONE}}, ConfigError, "'planner', which is not optional"),
        ({"fixed": {"critic": "small"}, "roles": ["planner"]}, ConfigError, "roles= leaves it out"),
        ({"mode": "war"}, ConfigError, "unknown mode 'war'"),
        ({"explore": 2.0}, ConfigError, "explore="),
    ],
)
def test_wrong_arguments_say_what_to_do(options, error, says, team, cards):
    with pytest.raises(error, match=says):
        RoleAllocator(team, cards).allocate("x", **options)


def test_an_empty_team_and_no_models_are_refused(team, cards):
    with pytest.raises(ConfigError, match="at least one role"):
        Team(roles=[])
    with pytest.raises(ConfigError, match="at least one model"):
        RoleAllocator(team, [])
    with pytest.raises(UnknownModelError, match="role 'planner'"):
        RoleAllocator(Team(roles=[Role(name="planner", model="huge")]), cards)
    with pytest.raises(ConfigError, match="willingness_to_pay"):
        RoleAllocator(team, cards, willingness_to_pay=0.0)
