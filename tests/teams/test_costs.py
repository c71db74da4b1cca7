"""What teams cost: figures by hand, a team played call by call, upper estimates that never fall short, and learning."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentroute.errors import ConfigError, PriceUnknownError, UnknownModelError
from agentroute.teams._costs import CostModel
from agentroute.teams._spending import spending
from agentroute.teams._values import NONE, Mode, Role, RoleUsage, Team, TeamRun
from agentroute.types import ModelCard, Price, Query, Usage

CARDS = [
    ModelCard(id="cheap", price=Price(input=1.0, output=2.0)),
    ModelCard(id="dear", price=Price(input=10.0, output=30.0, per_call=0.001)),
]
CHEAP, DEAR = CARDS
LOCAL = ModelCard(id="local")
PRICES = {card.id: card.price for card in CARDS}

PLANNER = Role(name="planner", input_tokens=100.0, output_tokens=50.0)
SOLVER = Role(name="solver", input_tokens=200.0, output_tokens=80.0, calls=2.0)
CRITIC = Role(name="critic", input_tokens=300.0, output_tokens=20.0, optional=True)
MODES = (
    Mode(name="io"),
    Mode(name="cot", extra_tokens=90.0),
    Mode(name="chain", growth="previous"),
    Mode(name="full", growth="all"),
    Mode(name="debate", rounds=2),
    Mode(name="reflection", reviews=1),
    Mode(name="all at once", growth="all", rounds=3, reviews=2, extra_tokens=7.0),
)
TEAM = Team(roles=[PLANNER, SOLVER, CRITIC], modes=MODES)


def play(team, mode, models, output, own_input, calls):
    """A run, call by call: role → [prompt tokens, answer tokens, calls]. What is given is by role and model."""
    mode = next(one for one in team.modes if one.name == mode)
    taken = {role.name: [0.0, 0.0, 0.0] for role in team.roles}
    said_before = []
    for _ in range(mode.rounds):
        said = []
        for k, role in enumerate(team.roles):
            model = models[k]
            if model == NONE:
                continue
            prompt = own_input[role.name, model] + mode.extra_tokens + sum(said_before)
            prompt += {"none": 0.0, "previous": sum(said[-1:]), "all": sum(said)}[mode.growth]
            answer, times = output[role.name, model], calls[role.name, model]
            for look in range(1 + mode.reviews):
                read = prompt + (answer if look else 0.0)
                for place, more in enumerate((read, answer, 1.0)):
                    taken[role.name][place] += times * more
            said.append(answer)
        said_before = said
    return taken


def usd(taken, price):
    return (taken[0] * price.input + taken[1] * price.output) / 1e6 + taken[2] * price.per_call


def tables(team, models, change=lambda role, model: 1.0):
    """Answers, prompts and calls by role and model, as specified, or changed."""
    pairs = list(itertools.product(team.roles, models))
    output = {(role.name, model): role.output_tokens * change(role.name, model) for role, model in pairs}
    own = {(role.name, model): role.input_tokens for role, model in pairs}
    return output, own, {(role.name, model): role.calls for role, model in pairs}


def test_one_role_by_hand():
    team = Team(roles=[Role(name="solver", input_tokens=1000.0, output_tokens=100.0, calls=2.0)], modes=[Mode(name="io")])
    model = CostModel(team, CARDS)
    # 2 x (1000 x 1 + 100 x 2) / 1e6, and 2 x ((1000 x 10 + 100 x 30) / 1e6 + .001).
    assert model.matrix("io")[0] == pytest.approx([0.0024, 0.028, 0.0])
    assert model.exact("io", np.array([[0], [1], [2]])) == pytest.approx([0.0024, 0.028, 0.0])


def test_a_chain_by_hand():
    found = CostModel(TEAM, CARDS).roles({"planner": "cheap", "solver": "dear"}, "chain")
    assert set(found) == {"planner", "solver"}
    # The solver calls twice, and reads the plan of 50 tokens each time.
    assert (found["solver"].input_tokens, found["solver"].output_tokens, found["solver"].calls) == (500.0, 160.0, 2.0)
    assert found["solver"].cost == pytest.approx((500 * 10 + 160 * 30) / 1e6 + 0.002)
    assert found["planner"].cost == pytest.approx((100 * 1 + 50 * 2) / 1e6)


@pytest.mark.parametrize("mode", [mode.name for mode in MODES])
def test_every_allocation_costs_what_playing_it_takes(mode):
    model = CostModel(TEAM, CARDS)
    matrix = model.matrix(mode)
    tabled = tables(TEAM, model.models)
    for columns in itertools.product(range(2), range(2), range(3)):
        models = [(*model.models, NONE)[column] for column in columns]
        taken = play(TEAM, mode, models, *tabled)
        expected = sum(usd(taken[role.name], PRICES[one]) for role, one in zip(TEAM.roles, models, strict=True) if one != NONE)
        assert model.exact(mode, np.array([columns]))[0] == pytest.approx(expected, rel=1e-12)
        found = model.roles({role.name: one for role, one in zip(TEAM.roles, models, strict=True)}, mode)
        for name, one in found.items():
            assert [one.input_tokens, one.output_tokens, one.calls] == pytest.approx(taken[name])
        # All models say as much as each other here: nothing but the critic, who may stay away, makes a difference.
        if columns[2] < 2:
            assert matrix[range(3), columns].sum() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("mode", [mode.name for mode in MODES])
def test_who_is_left_out_is_not_read(mode):
    may_go = [
        Role(name=name, input_tokens=100.0, output_tokens=tokens, optional=True)
        for name, tokens in zip("abcd", (10, 300, 50, 7), strict=True)
    ]
    team = Team(roles=may_go, modes=MODES)
    model, tabled = CostModel(team, [CHEAP]), tables(team, ["cheap"])
    for columns in itertools.product(range(2), repeat=4):
        models = [("cheap", NONE)[column] for column in columns]
        taken = play(team, mode, models, *tabled)
        expected = sum(usd(one, CHEAP.price) for one in taken.values())
        assert model.exact(mode, np.array([columns]))[0] == pytest.approx(expected, rel=1e-12)


roles = st.tuples(st.floats(0.0, 500.0), st.floats(0.0, 500.0), st.booleans(), st.floats(0.5, 3.0))
modes = st.builds(
    Mode,
    name=st.just("mode"),
    growth=st.sampled_from(["none", "previous", "all"]),
    rounds=st.integers(1, 3),
    reviews=st.integers(0, 2),
    extra_tokens=st.just(5.0),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(roles, min_size=1, max_size=4), modes, st.integers(0, 2**32 - 1))
def test_the_sum_over_roles_is_never_below_what_an_allocation_costs(drawn, mode, seed):
    rng = np.random.default_rng(seed)
    team = Team(
        roles=[
            Role(name=f"r{k}", input_tokens=own, output_tokens=says, optional=optional, calls=calls)
            for k, (own, says, optional, calls) in enumerate(drawn)
        ],
        modes=[mode],
    )
    model = CostModel(team, CARDS)
    model.output_ *= rng.lognormal(size=model.output_.shape)  # models differ in how much they say
    model.spread_ += rng.random(model.spread_.shape)
    model.gamma_ = 1.5
    allowed = model.admissible() & (rng.random((len(team.roles), 3)) < 0.8)
    allowed[~allowed.any(axis=1), 0] = True
    every = np.array(list(itertools.product(*[np.flatnonzero(flags) for flags in allowed])))
    for upper in (False, True):
        matrix, exact = model.matrix("mode", allowed, upper=upper), model.exact("mode", every, upper=upper)
        over = matrix[np.arange(len(team.roles)), every].sum(axis=1) - exact
        assert over.min() >= -1e-15
        # It is as low as one cost for each role and model can be where nobody reads another, or there is nothing to choose.
        if (mode.growth == "none" and mode.rounds == 1) or len(every) == 1:
            assert over.max() <= 1e-12


def test_roles_say_what_they_may_have():
    team = Team(roles=[Role(name="a", model="dear"), Role(name="b", allow={"cheap", "local"}, optional=True), Role(name="c")])
    assert CostModel(team, [CHEAP, DEAR, LOCAL]).admissible().tolist() == [
        [False, True, False, False],
        [True, False, True, True],
        [True, True, True, False],
    ]


def run(models, mode, roles, **given):
    return TeamRun(query=Query(text="x"), models=models, mode=mode, roles=roles, **given)


def played(team, mode, models, tabled, prices, rng=None, *, cost=1.0):
    """A run as it would be logged; with `rng`, tasks differ in length."""
    factor = 1.0 if rng is None else rng.lognormal(-0.08, 0.4)
    output, own, calls = tabled
    longer = {key: value * factor for key, value in output.items()}, {key: value * factor for key, value in own.items()}
    taken = play(team, mode, models, *longer, calls)
    used, names = {}, {}
    for role, model in zip(team.roles, models, strict=True):
        names[role.name] = model
        if model != NONE:
            tokens = taken[role.name]
            used[role.name] = RoleUsage(
                usage=Usage(input_tokens=round(tokens[0]), output_tokens=round(tokens[1])),
                calls=round(tokens[2]),
                cost=usd(tokens, prices[model]) * cost,
            )
    return run(names, mode, used)


def logged(team, tabled, prices, count, seed, *, cost=1.0):
    """Runs with all drawn at random."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        models = [str(rng.choice([*prices, NONE] if role.optional else [*prices])) for role in team.roles]
        found.append(played(team, str(rng.choice([mode.name for mode in team.modes])), models, tabled, prices, rng, cost=cost))
    return found


def test_verbosity_and_costs_are_learned_from_runs_of_all_modes():
    wordy = {"cheap": 2.0, "dear": 0.5}
    truth = tables(TEAM, PRICES, change=lambda role, model: wordy[model] * (3.0 if role == "critic" else 1.0))
    model = CostModel(TEAM, CARDS).fit(logged(TEAM, truth, PRICES, 1500, 0))
    output = [[truth[0][role.name, card.id] for card in CARDS] for role in TEAM.roles]
    # The mean of tasks' lengths is exp(-.08 + .4^2 / 2) = 1.
    assert model.output_ == pytest.approx(np.array(output), rel=0.08)
    assert model.input_ == pytest.approx(np.array([[100.0] * 2, [200.0] * 2, [300.0] * 2]), rel=0.08)
    assert model.calls_ == pytest.approx(np.array([[1.0] * 2, [2.0] * 2, [1.0] * 2]), rel=0.01)
    assert model.ratio_ == pytest.approx(1.0, abs=0.001)
    for mode in MODES:
        for columns in itertools.product(range(2), range(2), range(3)):
            models = [(*model.models, NONE)[column] for column in columns]
            taken = play(TEAM, mode.name, models, *truth)
            true = sum(usd(taken[role.name], PRICES[one]) for role, one in zip(TEAM.roles, models, strict=True) if one != NONE)
            assert model.exact(mode.name, np.array([columns]))[0] == pytest.approx(true, rel=0.12)


def test_95_of_100_further_runs_cost_less_than_the_upper_end():
    truth = tables(TEAM, PRICES, change=lambda _, model: {"cheap": 2.0, "dear": 0.5}[model])
    model = CostModel(TEAM, CARDS).fit(logged(TEAM, truth, PRICES, 600, 1))
    below = []
    for one in logged(TEAM, truth, PRICES, 3000, 2):
        cost = sum(used.cost for used in one.roles.values())
        columns = model.columns(one.models)[None]
        below.append(cost <= model.exact(one.mode, columns, upper=True)[0])
        assert model.exact(one.mode, columns, upper=True)[0] > model.exact(one.mode, columns)[0]
    # 600 runs tell the 95th percentile to within 2 x sqrt(.95 x .05 / 600).
    assert np.mean(below) == pytest.approx(0.95, abs=0.02)


def test_too_few_runs_tell_no_upper_end():
    runs = logged(TEAM, tables(TEAM, PRICES), PRICES, 19, 3)
    few, enough = CostModel(TEAM, CARDS).fit(runs[:18]), CostModel(TEAM, CARDS).fit(runs)
    assert few.gamma_ is None
    assert (few.matrix("chain", upper=True) == few.matrix("chain")).all()
    # Of 19 runs the largest is what a twentieth stays below with 95 %.
    assert enough.gamma_ is not None
    costs = np.array([sum(used.cost for used in one.roles.values()) for one in runs])
    uppers = [enough.exact(one.mode, enough.columns(one.models)[None], upper=True)[0] for one in runs]
    assert (costs <= np.array(uppers) * (1.0 + 1e-12)).all()


def test_a_first_run_moves_the_expectation_by_a_sixth_and_more_by_more():
    team = Team(roles=[Role(name="solver", input_tokens=0.0, output_tokens=100.0)], modes=[Mode(name="io")])
    card = ModelCard(id="one", price=Price(input=0.0, output=1.0))
    long = run({"solver": "one"}, "io", {"solver": RoleUsage(usage=Usage(input_tokens=0, output_tokens=700))})
    model = CostModel(team, [card], shrinkage=5.0).fit([long])
    # The role's level: (700 + 5 x 100) / 6 = 200; the model's factor (700 + 5 x 200) / (200 + 5 x 200) = 17/12; and so the cell
    # (700 + 5 x 200 x 17/12) / 6.
    assert model.output_[0, 0] == pytest.approx((700 + 5 * 200 * 17 / 12) / 6)
    many = CostModel(team, [card]).fit([long] * 300)
    assert many.output_[0, 0] == pytest.approx(700, rel=0.01)
    assert many.runs_.tolist() == [[300]]
    assert many.exact("io", np.array([[0]]))[0] == pytest.approx(700e-6, rel=0.01)


def test_a_model_is_known_from_its_other_roles():
    team = Team(roles=[Role(name="a"), Role(name="b")], modes=[Mode(name="io")])
    wordy = RoleUsage(usage=Usage(input_tokens=500, output_tokens=800))
    terse = RoleUsage(usage=Usage(input_tokens=500, output_tokens=200))
    drawn = [("cheap", wordy), ("dear", terse)]
    runs = [run({"a": model, "b": "dear"}, "io", {"a": used, "b": terse}) for model, used in drawn * 30]
    model = CostModel(team, CARDS).fit(runs)
    # Nobody saw the wordy model in role b, where 200 tokens are usual.
    assert model.runs_.tolist() == [[30, 30], [0, 60]]
    assert model.output_[1, 0] > 1.3 * model.output_[1, 1]


def test_a_cache_makes_calls_cheaper_than_their_list_price():
    price = Price(input=10.0, output=0.0, cache_read=1.0)
    team = Team(roles=[Role(name=name, input_tokens=1000.0, output_tokens=0.0) for name in "ab"], modes=[Mode(name="io")])
    cached = RoleUsage(usage=Usage(input_tokens=1000, output_tokens=0, cache_read_tokens=900))
    plain = RoleUsage(usage=Usage(input_tokens=1000, output_tokens=0))
    runs = [run({"a": "one", "b": "one"}, "io", {"a": cached, "b": plain})] * 500
    model = CostModel(team, [ModelCard(id="one", price=price)]).fit(runs)
    # 100 x 10 + 900 x 1 instead of 1000 x 10.
    found = model.roles({"a": "one", "b": "one"}, "io")
    assert (found["a"].cost, found["b"].cost) == (pytest.approx(0.0019, rel=0.05), pytest.approx(0.01, rel=0.01))


def test_every_call_pays_the_price_of_a_call():
    team = Team(roles=[Role(name="a", input_tokens=0.0, output_tokens=0.0, calls=3.0)], modes=[Mode(name="io")])
    used = RoleUsage(usage=Usage(input_tokens=0, output_tokens=0), calls=3)
    model = CostModel(team, [DEAR]).fit([run({"a": "dear"}, "io", {"a": used})] * 20)
    assert model.exact("io", np.array([[0]]))[0] == pytest.approx(0.003)
    assert model.ratio_[0, 0] == pytest.approx(1.0)


def test_what_a_run_costs_beyond_its_roles_is_counted():
    prices = {"cheap": CHEAP.price}
    team = Team(roles=[PLANNER], modes=[Mode(name="io"), Mode(name="tools")])
    runs = []
    for mode, factor in (("io", 1.0), ("tools", 3.0)):
        one = played(team, mode, ["cheap"], tables(team, prices), prices)
        runs += [run(one.models, mode, one.roles, cost=one.roles["planner"].cost * factor)] * 400
    model = CostModel(team, [CHEAP]).fit(runs)
    alone = 200e-6
    assert model.exact("io", np.array([[0]]))[0] == pytest.approx(alone, rel=0.01)
    assert model.exact("tools", np.array([[0]]))[0] == pytest.approx(3.0 * alone, rel=0.02)
    assert model.matrix("tools")[0, 0] == pytest.approx(3.0 * alone, rel=0.02)


def test_costs_of_whole_runs_are_enough():
    team = Team(roles=[PLANNER], modes=[Mode(name="io")])
    runs = [run({"planner": "cheap"}, "io", {}, cost=cost) for cost in [0.0003, 0.0005] * 200]
    model = CostModel(team, [CHEAP]).fit(runs)
    assert model.exact("io", np.array([[0]]))[0] == pytest.approx(0.0004, rel=0.02)
    assert model.exact("io", np.array([[0]]), upper=True)[0] == pytest.approx(0.0005, rel=0.02)


def test_a_model_without_a_price_costs_what_its_calls_were_billed():
    team = Team(roles=[Role(name="a", input_tokens=100.0, output_tokens=100.0), Role(name="b")], modes=[Mode(name="io")])
    unknown = CostModel(team, [CHEAP, LOCAL])
    with pytest.raises(PriceUnknownError) as caught:
        unknown.matrix("io")
    assert caught.value.models == ("local",)
    loose = unknown.matrix("io", strict=False)
    assert np.isnan(loose[:, 1]).all()
    assert np.isfinite(loose[:, [0, 2]]).all()
    ruled_out = np.array([[True, False, False]] * 2)
    assert np.isfinite(unknown.matrix("io", ruled_out)[:, 0]).all()
    billed = RoleUsage(usage=Usage(input_tokens=100, output_tokens=100), cost=0.002)
    model = CostModel(team, [CHEAP, LOCAL]).fit([run({"a": "local", "b": "cheap"}, "io", {"a": billed})] * 20)
    # .002 for 200 tokens: $10 a million, in and out alike.
    assert model.exact("io", np.array([[1, 2]]))[0] == pytest.approx(0.002)
    called = RoleUsage(cost=0.006, calls=3)
    model = CostModel(team, [CHEAP, LOCAL]).fit([run({"a": "local", "b": "cheap"}, "io", {"a": called})] * 20)
    assert model.exact("io", np.array([[1, 2]]))[0] == pytest.approx(0.006, rel=0.01)


def test_what_went_wrong_tells_nothing():
    team = Team(roles=[PLANNER, SOLVER], modes=[Mode(name="io")])
    good = RoleUsage(usage=Usage(input_tokens=100, output_tokens=50))
    odd = RoleUsage(usage=Usage(input_tokens=9000, output_tokens=9000), cost=9.0)
    bad = RoleUsage(usage=odd.usage, cost=9.0, error="TimeoutError")
    swapped = RoleUsage(usage=odd.usage, cost=9.0, models=("cheap", "dear"))
    both = {"planner": "cheap", "solver": "cheap"}
    nothing = [
        run(both, "io", {"planner": bad, "solver": good}, cost=18.0),
        run(both, "io", {"planner": swapped}),
        run(both, "no such mode", {"planner": odd}),
        run({"planner": "no such model", "solver": "cheap"}, "io", {"planner": odd}),
        run(both, "io", {"planner": RoleUsage(usage=odd.usage, calls=0)}),
    ]
    kept = CostModel(team, CARDS).fit(nothing)
    # The good part of the first run counts: 50 tokens where 75 are then expected of a solver, (50 + 5 x 75) / (75 + 5 x 75).
    assert kept.output_[0] == pytest.approx([50.0 * 425 / 450, 50.0])
    assert kept.runs_.tolist() == [[0, 0], [1, 0]]
    assert kept.scale_.tolist() == [1.0]
    assert CostModel(team, CARDS).fit([]).exact("io", np.array([[0, 0]])) == CostModel(team, CARDS).exact(
        "io", np.array([[0, 0]])
    )


def test_fitting_forgets_what_was_learned_before():
    first, second = (logged(TEAM, tables(TEAM, PRICES), PRICES, 40, seed) for seed in (4, 5))
    assert CostModel(TEAM, CARDS).fit(first).fit(second).state() == CostModel(TEAM, CARDS).fit(second).state()


def test_what_was_learned_survives_json():
    billed = RoleUsage(usage=Usage(input_tokens=100, output_tokens=100), cost=0.002)
    runs = [*logged(TEAM, tables(TEAM, PRICES), PRICES, 60, 6), run({"planner": "local"}, "io", {"planner": billed})]
    model = CostModel(TEAM, [*CARDS, LOCAL]).fit(runs)
    again = CostModel.from_state(json.loads(json.dumps(model.state())), TEAM, [*CARDS, LOCAL])
    for mode in MODES:
        assert (again.matrix(mode.name, upper=True) == model.matrix(mode.name, upper=True)).all()
    assert again.state() == model.state()
    with pytest.raises(ConfigError, match="other roles or models"):
        CostModel.from_state(model.state(), TEAM, CARDS)
    with pytest.raises(ConfigError, match="other roles or models"):
        CostModel.from_state(model.state(), Team(roles=TEAM.roles[:2], modes=MODES), [*CARDS, LOCAL])


def test_names_that_are_unknown_are_told():
    model = CostModel(TEAM, CARDS)
    with pytest.raises(ConfigError, match="unknown mode 'tree'"):
        model.matrix("tree")
    with pytest.raises(ConfigError, match="unknown role 'boss'"):
        model.roles({"boss": "cheap"}, "io")
    with pytest.raises(UnknownModelError, match="'huge'"):
        model.roles({"planner": "huge"}, "io")
    with pytest.raises(ConfigError, match="shrinkage"):
        CostModel(TEAM, CARDS, shrinkage=math.nan)
    for cards in ([], [CHEAP, CHEAP], [ModelCard(id=NONE)]):
        with pytest.raises(ConfigError, match="different names"):
            CostModel(TEAM, cards)


def test_what_a_run_cost_that_broke_off_is_not_what_a_run_costs():
    part = RoleUsage(cost=1.0)
    models = {"planner": "cheap", "solver": "cheap", "critic": NONE}
    told = {
        "whole": TeamRun(query=Query(text="a"), models=models, mode="io", cost=2.0, roles={"planner": part, "solver": part}),
        "bare": TeamRun(query=Query(text="b"), models=models, mode="io", cost=2.0),
        "silent": TeamRun(query=Query(text="c"), models=models, mode="io", cost=1.0, roles={"planner": part}),
        "checked": TeamRun(
            query=Query(text="d"), models=models, mode="io", cost=2.0, roles={"planner": part, "solver": replace(part, calls=0)}
        ),
        "no calls": TeamRun(query=Query(text="e"), models=models, mode="io", cost=0.0, allocation_id="x"),
        "crash": TeamRun(
            query=Query(text="f"),
            models=models,
            mode="io",
            cost=2.0,
            roles={"planner": part, "solver": part},
            metadata={"error": "KeyError"},
        ),
    }
    total = spending(TEAM, ["cheap", "dear"], told.values()).total
    assert dict(zip(told, np.isnan(total).tolist(), strict=True)) == {
        "whole": False,
        "bare": False,
        "silent": True,
        "checked": True,
        "no calls": True,
        "crash": True,
    }
