"""Where a cascade begins, by which plan it goes on, and what is said of a judge that does not work."""

import time
import warnings
from dataclasses import dataclass

import numpy as np
import pytest

from agentroute.cascades import Attempt, Next, Ordered, Pick
from agentroute.errors import ConfigError, JudgeFailedWarning, NoEligibleModelError, RouterFailedWarning
from agentroute.pool import ModelPool
from agentroute.scorers import as_scorer
from agentroute.serving import Asked, CascadeDecider, JudgesVoice, SupportsPlan, Turn
from agentroute.types import Candidate, ModelCard, Paradigm, Query, Score

IDS = ("small", "middle", "large")
LEARNED = Paradigm(when="multi-stage", what=("answer",), how="learned")


class GraphBubbleUp(Exception):
    """As in LangGraph: no failure."""


@dataclass
class Plan:
    """Asks for one model, then stops; picks what it is told."""

    model: str = "middle"
    index: int = 0
    error: Exception | None = None
    late: Exception | None = None

    def next(self, attempts, allowed):
        if self.error is not None or (attempts and self.late is not None):
            raise self.error or self.late
        return None if attempts else Next(model=self.model)

    def pick(self, attempts):
        return Pick(index=self.index, accepted=True)


class Plans:
    """Gives a plan, or raises, and keeps its queries."""

    signals = ()

    def __init__(self, plan=None, error=None):
        self.made = plan
        self.error = error
        self.queries = []

    def plan(self, query):
        self.queries.append(query)
        if self.error is not None:
            raise self.error
        return self.made


def decider(pool=None, *, planner=None, judge=None, threshold=0.5, check_last=False, sticky="tool_loop", logged=False):
    return CascadeDecider(
        ModelPool(IDS) if pool is None else pool,
        planner=planner,
        judge=None if judge is None else as_scorer(judge),
        threshold=threshold,
        check_last=check_last,
        sticky=sticky,
        role=None,
        task=None,
        logged=logged,
    )


def climb(one, *, loop_of=None, **asked):
    turns = [Turn(role="user", text="x")]
    if loop_of is not None:
        turns += [Turn(role="assistant", record={"answered_by": loop_of}), Turn(role="tool")]
    return one.begin(Asked(turns=turns, **asked)).decide()


def refused(model):
    return Attempt(model=model, answer="no", score=Score(value=0.0))


class TestWithoutAPlanner:
    def test_begins_with_the_cheapest(self):
        found = climb(decider())
        assert (found.decision.model, found.decision.by, found.models) == ("small", "policy", IDS)
        assert found.decision.ranking == IDS
        assert found.decision.reason == "one model after the other, from small on"
        assert found.decision.paradigm.when == "multi-stage"
        assert isinstance(found.plan, Ordered)

    def test_goes_on_by_threshold(self):
        plan = climb(decider(judge=lambda reply: 0.6, threshold={"small": 0.7, "middle": 0.5, "large": 0.5})).plan
        good = Attempt(model="small", answer="a", score=Score(value=0.6))
        assert plan.next((good,), ("middle", "large")).model == "middle"
        good = Attempt(model="middle", answer="a", score=Score(value=0.6))
        assert plan.next((good,), ("large",)) is None

    def test_only_those_who_may(self):
        pool = ModelPool([ModelCard(id="small", capabilities=()), ModelCard(id="middle"), ModelCard(id="large")])
        found = climb(decider(pool), needs=frozenset({"tools"}))
        assert (found.models, found.decision.model) == (("middle", "large"), "middle")


class TestForced:
    def test_one_model_and_no_judge(self):
        planner = Plans(Plan())
        found = climb(decider(planner=planner, judge=lambda reply: 0.0), forced="middle", allocated="large")
        assert (found.models, found.decision.by, found.decision.ranking) == (("middle",), "forced", ("middle",))
        assert found.plan.next((), ("middle",)) == Next(model="middle", final=True)
        assert planner.queries == []
        unplanned = climb(decider(judge=lambda reply: 0.0, check_last=True), forced="middle")
        assert unplanned.plan.next((), ("middle",)).final


class TestFloor:
    def test_not_below_what_it_has_begun(self):
        found = climb(decider(), loop_of="middle")
        assert (found.models, found.decision.model, found.decision.by) == (("middle", "large"), "middle", "sticky")
        assert found.decision.reason.startswith("not below middle, which keeps what it has begun; one model after the other")

    def test_by_the_caller(self):
        assert climb(decider(sticky="none"), kept="large").models == ("large",)

    def test_allocated(self):
        found = climb(decider(), allocated="middle", role="critic")
        assert (found.models, found.decision.by) == (("middle", "large"), "allocated")
        assert found.decision.reason.startswith("middle was allocated to critic; one model after the other, from middle on")

    def test_allocated_beats_kept(self):
        found = climb(decider(), allocated="middle", loop_of="large")
        assert (found.models, found.decision.by) == (("middle", "large"), "allocated")

    def test_allocated_that_may_not_leaves_the_word_to_kept(self):
        found = climb(decider(), allocated="gone", loop_of="large")
        assert (found.models, found.decision.by) == (("large",), "sticky")
        assert found.decision.reason.startswith("not below large")
        assert climb(decider(), allocated="gone").decision.by == "policy"

    def test_a_planner_plans_with_those_above(self):
        planner = Plans(Plan("large"))
        found = climb(decider(planner=planner), allocated="middle")
        assert planner.queries[0].allow == {"middle", "large"}
        assert (found.decision.model, found.decision.ranking) == ("large", ("large", "middle"))
        assert found.decision.by == "allocated"


class TestPlanner:
    def test_says_where_to_begin_why_and_what_it_expects(self):
        plan = Plan("middle")
        plan.reason = "small would not do"
        plan.candidates = (Candidate(model="large", quality=0.9), Candidate(model="middle", quality=0.7))
        planner = Plans(plan)
        planner.paradigm = LEARNED
        decision = climb(decider(planner=planner)).decision
        assert (decision.model, decision.by, decision.reason) == ("middle", "policy", "small would not do")
        assert [(one.model, one.quality) for one in decision.candidates] == [("middle", 0.7), ("small", None), ("large", 0.9)]
        assert decision.paradigm is LEARNED
        assert planner.queries[0].allow is None
        assert isinstance(planner, SupportsPlan)

    def test_embeds(self):
        planner = Plans(Plan())
        planner.embed = lambda query: Query(text=query.text, embedding=np.ones(3, np.float32))
        found = climb(decider(planner=planner))
        assert found.query.embedding is planner.queries[0].embedding is not None

    def test_that_fails_costs_no_answer(self):
        with pytest.warns(RouterFailedWarning, match="RuntimeError: no table"):
            found = climb(decider(planner=Plans(error=RuntimeError("no table"))))
        assert (found.decision.model, found.decision.by) == ("small", "default")
        assert found.decision.reason == "the router failed (RuntimeError); one model after the other, from small on"
        assert isinstance(found.error, RuntimeError)

    @pytest.mark.parametrize("plan", [Plan("gone"), Plan(error=RuntimeError("odd")), type("Empty", (), {})()])
    def test_whose_plan_fails_at_once(self, plan):
        with pytest.warns(RouterFailedWarning):
            found = climb(decider(planner=Plans(plan)))
        assert (found.decision.model, found.decision.by) == ("small", "default")
        assert found.error is not None

    def test_whose_plan_names_nobody_while_there_is_no_answer(self):
        with pytest.warns(RouterFailedWarning, match="the plan calls no model"):
            found = climb(decider(planner=Plans(type("Mute", (), {"next": lambda *_: None})())))
        assert found.decision.model == "small"

    def test_whose_plan_works_is_followed_to_its_end(self):
        found = climb(decider(planner=Plans(Plan(index=1))))
        tried = (Attempt(model="large", error=OSError("down")), refused("middle"))
        assert found.plan.next(tried, ("small",)) is None
        assert found.plan.pick(tried) == Pick(index=1, accepted=True)
        assert found.plan.failed is None

    def test_whose_plan_fails_on_the_way_is_followed_by_order(self):
        found = climb(decider(planner=Plans(Plan(late=RuntimeError("lost")))))
        assert (found.decision.model, found.error) == ("middle", None)
        tried = (refused("middle"),)
        with pytest.warns(RouterFailedWarning, match="lost"):
            assert found.plan.next(tried, ("small", "large")).model == "small"
        assert isinstance(found.plan.failed, RuntimeError)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tried = (*tried, refused("small"), refused("large"))
            assert found.plan.next(tried, ()) is None
            assert found.plan.pick(tried).accepted is False

    def test_whose_pick_is_no_answer(self):
        found = climb(decider(planner=Plans(Plan(index=0))))
        failed = Attempt(model="middle", error=OSError("down"))
        with pytest.warns(RouterFailedWarning, match="picks attempt 0, which has no answer"):
            assert found.plan.pick((failed, refused("large"))).index == 1

    @pytest.mark.parametrize("error", [GraphBubbleUp(), NoEligibleModelError({"small": "too dear"})])
    def test_what_is_no_failure_goes_on_to_the_caller(self, error):
        with pytest.raises(type(error)):
            climb(decider(planner=Plans(error=error)))

    def test_a_way_to_stop_within_the_plan(self):
        with pytest.raises(GraphBubbleUp):
            climb(decider(planner=Plans(Plan(error=GraphBubbleUp()))))


class TestArguments:
    def test_planner(self):
        with pytest.raises(ConfigError, match=r"has no plan\(query\)"):
            decider(planner=lambda query: "small")

    def test_planner_that_reads_what_nobody_measures(self):
        planner = Plans(Plan())
        planner.signals = ("length", "margin")
        with pytest.raises(ConfigError, match="the router reads 'margin' of each answer"):
            decider(planner=planner)
        decider(planner=planner, judge=lambda reply: 1.0)
        planner.signals = ("length",)
        decider(planner=planner)

    def test_check_last_without_a_judge(self):
        with pytest.raises(ConfigError, match="check_last=True asks for a judge"):
            decider(check_last=True)

    def test_check_last_that_nothing_reads(self):
        with pytest.raises(ConfigError, match="nothing reads check_last=True"):
            decider(planner=Plans(Plan()), judge=lambda reply: 0.0, check_last=True)

    @pytest.mark.parametrize("threshold", [1.5, -0.1, {"small": 0.5}])
    def test_threshold(self, threshold):
        with pytest.raises(ConfigError, match="threshold="):
            decider(judge=lambda reply: 1.0, threshold=threshold)


def test_whether_there_is_work_for_a_thread():
    def waits(one):
        return one.begin(Asked(turns=())).waits

    assert not waits(decider())
    assert waits(decider(planner=Plans(Plan())))
    assert waits(decider(logged=True))


@pytest.mark.parametrize("forced", [None, "small"])
def test_latency_is_the_decision_s(forced):
    begun = decider().begin(Asked(turns=(), forced=forced))
    before = time.perf_counter()
    assert 0 < begun.decide().latency <= time.perf_counter() - before


def test_a_climb_is_embedded_for_the_log():
    assert climb(decider()).query.embedding is None
    assert climb(decider(logged=True)).query.embedding is not None
    assert climb(decider(logged=True), forced="small").query.embedding is not None
    assert climb(decider(planner=Plans(Plan()), logged=True)).query.embedding is not None


class TestVoice:
    def judge(self):
        return as_scorer(lambda reply: 1.0, name="mine")

    def planner(self, *signals):
        planner = Plans()
        planner.signals = signals
        return planner

    def said(self, voice, *attempts):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for attempt in attempts:
                voice.hear(attempt)
        assert all(one.category is JudgeFailedWarning for one in caught)
        return [str(one.message) for one in caught]

    def test_says_each_kind_of_failure_once(self):
        voice = JudgesVoice(self.judge(), None)
        kinds = [ValueError("odd"), ValueError("odder"), OSError("down")]
        said = self.said(voice, *(Attempt(model="a", check_error=one) for one in kinds))
        assert [one.rpartition(": ")[2] for one in said] == ["odd", "down"]
        assert said[0].startswith("the judge 'mine' failed, and an answer that nobody judges is not taken")
        assert self.said(voice, Attempt(model="a", check_error=OSError())) == []

    def test_says_that_signals_have_other_names(self):
        voice = JudgesVoice(self.judge(), self.planner("length", "margin"))
        (told,) = self.said(voice, *(Attempt(model="a", score=Score(value=1.0, signals={"mine": 1.0})) for _ in range(2)))
        assert told.startswith("the router reads 'margin', and the judge 'mine' gives 'mine'")
        (told,) = self.said(JudgesVoice(self.judge(), self.planner("margin")), Attempt(model="a", score=Score(value=1.0)))
        assert "gives none" in told

    def test_has_nothing_to_say(self):
        fine = Attempt(model="a", score=Score(value=1.0, signals={"margin": 0.5}))
        assert self.said(JudgesVoice(self.judge(), self.planner("margin", "other")), fine) == []
        assert self.said(JudgesVoice(self.judge(), self.planner("length")), Attempt(model="a", score=Score(value=1.0))) == []
        assert self.said(JudgesVoice(None, None), Attempt(model="a", check_error=OSError())) == []
        assert self.said(JudgesVoice(self.judge(), self.planner("margin")), Attempt(model="a")) == []
