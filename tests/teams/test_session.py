"""Sessions: decided anew before each call, never over the budget, and told as they were."""

import math
from dataclasses import replace

import pytest

from agentroute.errors import (
    BudgetError,
    BudgetOverrunWarning,
    ConfigError,
    DataError,
    NoEligibleModelError,
    OutcomeDroppedWarning,
    PriceUnknownError,
)
from agentroute.teams import NONE, Role, RoleAllocator, Team, current_session
from agentroute.types import ModelCard, Price, Usage

USAGE = Usage(input_tokens=500, output_tokens=500)


def test_a_run_is_told_as_it_was(allocator):
    with allocator.session("Solve it.", budget=1.0) as session:
        assert current_session() is session
        for role, tokens in (("planner", 100), ("solver", 300), ("solver", 200), ("critic", 50)):
            call = session.begin(role)
            assert call.model == "large"
            call.settle(usage=Usage(input_tokens=tokens, output_tokens=10), cost=tokens / 1e4, latency=1.5)
        session.score("critic", 0.5)
        run = session.finish(success=1.0, question="q7")
    assert current_session() is None
    assert run.models == {"planner": "large", "solver": "large", "critic": "large"}
    assert run.success == 1.0
    assert run.cost == pytest.approx(0.065)
    assert run.roles["solver"].usage == Usage(input_tokens=500, output_tokens=20)
    assert run.roles["solver"].calls == 2
    assert run.roles["solver"].latency == 3.0
    assert run.roles["solver"].models == ()
    assert run.roles["critic"].score == 0.5
    assert run.metadata == {"question": "q7"}
    assert run.allocation_id == session.allocation.id
    assert allocator.runs[0].id == run.id
    with pytest.warns(OutcomeDroppedWarning, match="finished with success=1, which it keeps"):
        assert session.finish(success=0.0) is run
    assert session.finish(question="q7") is run
    assert len(allocator.runs) == 1
    assert session.budget.left() == pytest.approx(1.0 - 0.065)


def test_it_keeps_to_its_allocation_while_the_money_lasts(allocator):
    # $0.21 for two large calls and a small one are there, and each call takes what was expected.
    with allocator.session("x", budget=0.2101) as session:
        first = dict(session.models)
        for role in session.models:
            call = session.begin(role)
            assert call.model == first[role]
            call.settle(usage=USAGE)
        run = session.finish()
    assert run.models == first == session.allocation.models
    assert sorted(first.values()) == ["large", "large", "small"] or run.cost <= 0.2101


def test_an_early_role_that_takes_more_downgrades_the_later_ones(allocator):
    with allocator.session("x", budget=0.31) as session:
        assert set(session.models.values()) == {"large"}
        session.begin("planner", ceiling=lambda _: 0.15).settle(cost=0.15)
        # $0.16 are left for two calls of $0.1: one of them is downgraded, and the other is not.
        assert sorted([session.model("solver"), session.model("critic")]) != ["large", "large"]
        one = session.begin("solver")
        one.settle(usage=USAGE)
        session.begin("critic").settle(usage=USAGE)
        run = session.finish()
    assert sorted(run.models.values()) == ["large", "large", "middle"]
    assert run.cost == pytest.approx(0.26)
    assert run.propensity is None


def test_a_cheap_role_leaves_the_others_as_they_are(allocator):
    with allocator.session("x", budget=0.12) as session:
        before = dict(session.models)
        session.begin("planner").settle(cost=0.0)
        assert session.models == before


def test_what_calls_in_flight_hold_is_neither_free_nor_asked_for_twice(allocator):
    with allocator.session("x", budget=0.3) as session:
        calls = [session.begin(role) for role in ("planner", "solver", "critic")]
        assert [call.model for call in calls] == ["large"] * 3
        assert session.budget.left() == pytest.approx(0.0)
        for call in calls:
            call.settle(usage=USAGE)


def test_a_ceiling_is_what_is_set_aside(allocator):
    most = {"large": 0.5, "middle": 0.2, "small": 0.02}
    with allocator.session("x", budget=0.35) as session:
        call = session.begin("planner", ceiling=most.get)
        assert (call.model, call.held) == ("middle", 0.2)
        call.settle(cost=0.001)
        assert session.budget.left() == pytest.approx(0.349)
        with pytest.raises(BudgetError, match=r"\$0.349 are left, and the cheapest model for the role 'solver' may need \$0.4"):
            session.begin("solver", ceiling=lambda _: 0.4)
        assert session.budget.left() == pytest.approx(0.349)


def test_an_unknown_cost_counts_as_all_that_was_set_aside(allocator):
    with allocator.session("x", budget=1.0) as session:
        session.begin("planner", ceiling=lambda _: 0.3).settle()
        assert session.budget.left() == pytest.approx(0.7)
        run = session.finish()
    assert run.cost is None
    assert run.roles["planner"].cost is None


def test_a_cost_that_nobody_tells_follows_from_the_tokens_and_the_card(allocator):
    with allocator.session("x") as session:
        session.begin("planner", model="middle").settle(usage=USAGE)
        assert session.finish().cost == pytest.approx(0.01)


def test_a_call_that_was_not_made_leaves_no_trace(allocator):
    with allocator.session("x", budget=1.0) as session:
        call = session.begin("planner")
        call.release()
        call.release()
        call.settle(cost=0.5)
        assert session.budget.left() == pytest.approx(1.0)
        run = session.finish()
    assert run.roles == {}
    assert run.cost == 0.0


def test_more_than_was_set_aside_is_booked_and_warned_of(allocator):
    with allocator.session("x", budget=1.0) as session:
        with pytest.warns(BudgetOverrunWarning, match="may be exceeded"):
            session.begin("planner", ceiling=lambda _: 0.1).settle(cost=0.4)
        assert session.budget.left() == pytest.approx(0.6)


def test_a_role_of_several_calls_has_money_kept_for_the_later_ones(session_cards):
    team = Team(roles=[Role(name="talker", input_tokens=500, output_tokens=500, calls=3), Role(name="judge", model="middle")])
    with RoleAllocator(team, session_cards).session("x", budget=0.32) as session:
        assert session.model("talker") == "large"
        session.begin("talker", ceiling=lambda _: 0.14).settle(cost=0.14)
        # $0.18 are left: two calls of $0.1 and the judge's $0.007 are more.
        assert session.begin("talker").model == "middle"


# --- failures ---


def test_a_model_that_fails_for_a_role_is_not_asked_again_for_it(allocator):
    with allocator.session("x", budget=1.0) as session:
        session.begin("planner").failed(TimeoutError("no"), cost=0.0)
        second = session.begin("planner")
        assert second.model == "middle"
        second.settle(usage=USAGE)
        assert session.model("solver") == "large"
        run = session.finish(success=1.0)
    planner = run.roles["planner"]
    # The run is that of the model that failed, and the role's part says who took over.
    assert run.models["planner"] == "large"
    assert (planner.calls, planner.error, planner.models) == (2, "TimeoutError", ("middle",))
    assert run.propensity is None  # nobody drew


def test_after_all_models_of_a_role_there_is_none(allocator):
    with allocator.session("x") as session:
        for model in ("large", "middle", "small"):
            call = session.begin("planner")
            assert call.model == model
            call.failed("Down")
        with pytest.raises(NoEligibleModelError, match="role planner, small: failed in this run"):
            session.begin("planner")
        # The others go on without it.
        assert session.begin("solver").model == "large"


def test_a_failure_of_one_call_alone_leaves_the_model_in(allocator):
    with allocator.session("x") as session:
        session.begin("planner").failed("TooLong", again=True)
        assert session.begin("planner").model == "large"


def test_a_call_that_not_all_models_can_take(allocator):
    with allocator.session("x", budget=1.0) as session:
        assert session.begin("planner", among={"small", "middle"}).model == "middle"
        with pytest.raises(NoEligibleModelError, match="cannot take this call"):
            session.begin("planner", among=())


def test_a_crash_in_an_agent_is_recorded_as_one(allocator):
    def crash():
        with allocator.session("x") as session:
            session.begin("planner").settle(usage=USAGE)
            1 / 0  # noqa: B018  # the crash

    with pytest.raises(ZeroDivisionError):
        crash()
    [run] = allocator.runs
    assert run.metadata["error"] == "ZeroDivisionError"
    assert run.success is None
    assert run.roles["planner"].calls == 1
    assert sum(allocator.fit().left_out.values()) == 1


def test_a_session_that_is_left_without_a_word_is_recorded_with_what_it_held(allocator):
    with allocator.session("x", budget=1.0) as session:
        abandoned = session.begin("planner", ceiling=lambda _: 0.25)
    [run] = allocator.runs
    assert run.roles["planner"].error == "Abandoned"
    assert run.cost is None
    assert session.budget.left() == pytest.approx(0.75)
    abandoned.settle(cost=0.01)
    assert session.budget.left() == pytest.approx(0.75)


def test_after_the_end_nothing_is_begun(allocator):
    with allocator.session("x") as session:
        session.finish()
        for ask in (session.begin, session.model):
            with pytest.raises(ConfigError, match="finished"):
                ask("planner")


@pytest.mark.parametrize("success", [-0.1, 1.1, math.nan, "yes", [1.0]])
def test_a_success_that_cannot_be_leaves_the_run_open(allocator, success):
    with allocator.session("x") as session:
        with pytest.raises(DataError, match="success="):
            session.finish(success=success)
        session.begin("planner").settle(cost=0.001)
        assert session.finish(success=0.5).success == 0.5


def test_a_log_that_fails_costs_no_run(session_team, session_cards):
    class Broken:
        def append(self, run):
            raise OSError("disk full")

    with RoleAllocator(session_team, session_cards, log=Broken()).session("x") as session:
        session.begin("planner").settle(cost=0.001)
        with pytest.warns(OutcomeDroppedWarning, match="disk full"):
            assert session.finish(success=1.0).success == 1.0


def test_unknown_roles_and_roles_that_were_left_out(allocator, session_cards):
    team = Team(roles=[Role(name="solver"), Role(name="critic", optional=True)])
    with RoleAllocator(team, session_cards).session("x", fixed={"critic": NONE}) as session:
        assert session.has("solver")
        assert not session.has("critic")
        assert not session.has(None)
        with pytest.raises(ConfigError, match="unknown role 'boss'"):
            session.has("boss")
        with pytest.raises(ConfigError, match="unknown role 'boss'"):
            session.begin("boss")
        with pytest.raises(ConfigError, match=r"'critic' was left out of this run: ask session.has\('critic'\)"):
            session.begin("critic")
        run = session.finish()
    assert run.models == {"solver": "large", "critic": NONE}


def test_scores_are_shares_of_roles_that_have_spoken(allocator):
    with allocator.session("x") as session:
        with pytest.raises(ConfigError, match="has not spoken"):
            session.score("planner", 1.0)
        session.begin("planner").settle()
        for score in (1.5, "good"):
            with pytest.raises(ConfigError, match=r"no number in \[0, 1\]"):
                session.score("planner", score)


# --- what the caller insists on ---


def test_a_fixed_role_is_never_downgraded(allocator):
    with allocator.session("x", budget=0.13, fixed={"critic": "large"}) as session:
        session.begin("planner", ceiling=lambda _: 0.02).settle(cost=0.02)
        session.begin("solver", ceiling=lambda _: 0.02).settle(cost=0.02)
        with pytest.raises(BudgetError):
            session.begin("critic")


def test_a_model_that_is_insisted_on_is_paid_for_all_the_same(allocator):
    with allocator.session("x", budget=0.15, fixed={"planner": "small"}) as session:
        call = session.begin("planner", model="large")
        assert call.held == pytest.approx(0.1)
        call.settle(usage=USAGE)
        with pytest.raises(BudgetError, match="a call of large for the role 'solver'"):
            session.begin("solver", model="large")
        with pytest.raises(PriceUnknownError, match="foreign"):
            session.begin("solver", model="foreign")
        session.begin("solver", model="foreign", ceiling=lambda _: 0.01).settle(cost=0.01)
        run = session.finish()
    assert run.models["planner"] == "large"
    assert run.models["solver"] == "foreign"


def test_steps_on_the_way_of_a_role_are_not_what_it_was_given(allocator):
    with allocator.session("x", fixed=dict.fromkeys(("planner", "solver", "critic"), "small")) as session:
        for model in ("small", "large"):
            session.begin("planner", model=model, decided=False).settle(usage=USAGE)
        run = session.finish()
    assert run.models["planner"] == "small"
    assert run.roles["planner"].models == ("small", "large")
    assert run.cost == pytest.approx(0.101)


def test_judging_costs_the_role_and_is_no_call_of_it(allocator):
    with allocator.session("x", budget=1.0) as session:
        session.begin("planner").settle(usage=USAGE)
        check = session.begin_check("planner", "large", 0.05)
        assert session.budget.left() == pytest.approx(0.85)
        check.settle(cost=0.02)
        run = session.finish()
    assert run.roles["planner"].calls == 1
    assert run.roles["planner"].usage == USAGE
    assert run.cost == pytest.approx(0.12)


def test_an_allocation_may_be_given_and_is_kept_to(allocator):
    allocation = allocator.allocate("x", fixed={"planner": "small"})
    with allocator.session("x", allocation=allocation) as session:
        assert session.begin("planner").model == "small"
    with pytest.raises(ConfigError, match="give fixed to allocate"):
        allocator.session("x", allocation=allocation, fixed={})


def test_what_was_drawn_keeps_its_chance_as_long_as_it_is_kept_to(allocator):
    with allocator.session("x", explore=1.0) as session:
        for role in session.models:
            session.begin(role).settle(usage=USAGE)
        assert session.finish().propensity == pytest.approx(1 / 27)
    with allocator.session("x", explore=1.0) as session:
        drawn = dict(session.models)
        for model in [drawn["solver"], *({"small", "middle", "large"} - {drawn["solver"]})][:2]:
            session.begin("solver", among={model}).failed("Down", again=model == drawn["solver"])
        session.begin("solver").settle()
        # A failure is part of what comes of what was drawn.
        run = session.finish()
        assert (run.propensity, run.models) == (pytest.approx(1 / 27), drawn)
    for first in (True, False):
        with allocator.session("x", explore=1.0, budget=1.0) as session:
            drawn, [other, *_] = dict(session.models), {"small", "middle", "large"} - {session.models["solver"]}
            if not first:
                session.begin("solver").settle(usage=USAGE)
            session.begin("solver", among={other}).settle(usage=USAGE)
            run = session.finish()
        # Whatever else has changed the models, they were not drawn so.
        assert (run.propensity, run.models["solver"]) == (None, other if first else drawn["solver"])
    with allocator.session("x", explore=1.0) as session:
        [other, *_] = {"small", "middle", "large"} - {session.models["solver"]}
        session.begin("solver", among={other}).release()
        assert session.finish().propensity == pytest.approx(1 / 27)  # it was not called
    with allocator.session("x") as session:
        assert session.finish().propensity is None  # nobody drew


def test_without_prices_a_budget_says_whose_are_missing(session_team, session_cards):
    allocator = RoleAllocator(session_team, [ModelCard(id="free", scores={"MMLU": 0.5}), session_cards[0]])
    allocation = allocator.allocate("x", fixed=dict.fromkeys(("planner", "solver", "critic"), "free"))
    allocation = replace(allocation, fixed=frozenset())  # money may move them
    with allocator.session("x", allocation=allocation, budget=1.0) as session:
        call = session.begin("solver", ceiling=lambda _: 0.01)
        assert (call.model, call.held) == ("free", 0.01)
        assert session.begin("planner").model == "small"
        with pytest.raises(PriceUnknownError, match="free"):
            session.begin("critic", among={"free"})


def test_a_budget_that_nothing_keeps_to_begins_no_session(allocator):
    with pytest.raises(BudgetError, match="the cheapest"):
        allocator.session("x", budget=0.002)


def test_what_a_success_is_worth_is_weighed_again_after_a_failure(session_team, session_cards):
    # Each role's step from small to large is worth far less than the $0.1 that it costs.
    allocator = RoleAllocator(
        session_team,
        [session_cards[0], replace(session_cards[0], id="other", price=Price(input=1.1, output=1.1)), session_cards[2]],
        willingness_to_pay=0.05,
    )
    with allocator.session("x") as session:
        first = session.begin("planner")
        first.failed("Down")
        assert {first.model, session.begin("planner").model} == {"small", "other"}


def test_the_allocator_may_learn_meanwhile(allocator):
    with allocator.session("x", budget=1.0) as session:
        before = session.model("planner")
        for _ in range(30):
            with allocator.session("y") as other:
                other.begin("planner", model="small").settle(usage=USAGE)
                other.finish(success=1.0)
        allocator.fit()
        assert session.begin("planner").model == before
