"""The calls and checks of one cascade: who is asked, who judges, and within which limits."""

import asyncio
import json
import threading

import pytest

from agentroute.cascades import Call, Limits, Ordered
from agentroute.errors import AllModelsFailedError, DeadlineExceededError, JudgeFailedWarning, NoEligibleModelError
from agentroute.serving import CascadeCall
from agentroute.types import Score

RUNGS = ("small", "middle", "large")


class WaitingForEvent(Exception):
    """As in LlamaIndex's workflows: no failure."""


def marks(**scores):
    """A judge that has its mind made up."""
    return lambda reply: scores[reply.text]


class TestClimb:
    async def test_until_an_answer_is_good_enough(self, cascade, log, drive):
        call = cascade(marks(a=0.4, b=0.5, c=1.0))
        answered = await drive(call, small="a", middle="b", large="c")
        assert (answered.model, answered.answer, answered.accepted) == ("middle", "b", True)
        assert call.noted == [("judged", "small", "a"), ("judged", "middle", "b")]
        assert [one.model for one in log.outcomes] == ["small", "middle"]
        assert log.told("accepted", "chosen", "score", "signals") == [
            (False, None, 0.4, {"mine": 0.4}),
            (True, True, 0.5, {"mine": 0.5}),
        ]

    async def test_the_last_answer_is_taken_as_it_comes(self, cascade, log, drive):
        call = cascade(marks(a=0.0, b=0.0))
        answered = await drive(call, small="a", middle="b", large="c")
        assert (answered.model, answered.accepted) == ("large", True)
        assert [one[1] for one in call.noted] == ["small", "middle"]
        assert log.told("accepted", "chosen", "score")[-1] == (True, True, None)

    async def test_nothing_is_good_enough_so_the_best_is_taken(self, cascade, log, drive):
        answered = await drive(cascade(marks(a=0.2, b=0.4, c=0.3), check_last=True), small="a", middle="b", large="c")
        assert (answered.model, answered.accepted) == ("middle", False)
        assert log.told("accepted", "chosen") == [(False, None), (False, True), (False, None)]

    async def test_nobody_judges(self, cascade, log, drive):
        call = cascade()
        answered = await drive(call, small=" ", middle="b")
        assert (answered.model, call.noted) == ("middle", [])
        # An answer that nobody judged has no score on record; one that cannot be used has.
        assert log.told("accepted", "score") == [(False, 0.0), (True, None)]
        assert [one["score"] for one in call.record(answered)["attempts"]] == [0.0, None]

    async def test_forced(self, cascade, log, drive):
        call = cascade(marks(), forced="middle")
        assert (await drive(call, middle="b")).model == "middle"
        assert (call.noted, log.told("accepted", "chosen")) == ([], [(True, True)])

    async def test_an_error_is_passed_over(self, cascade, log, drive):
        answered = await drive(cascade(marks(b=1.0)), small=ConnectionError(), middle="b")
        assert answered.model == "middle"
        assert [(one.error, dict(one.metadata).get("accepted")) for one in log.outcomes] == [
            ("ConnectionError", None),
            (None, True),
        ]

    async def test_everybody_fails(self, cascade, log, drive):
        with pytest.raises(AllModelsFailedError):
            await drive(cascade(), **{name: ConnectionError() for name in RUNGS})
        assert [(one.error, one.metadata) for one in log.outcomes] == [("ConnectionError", {})] * 3

    async def test_an_error_that_another_model_would_hide_ends_it(self, cascade, log, drive):
        answered = await drive(cascade(marks(a=0.1)), small="a", middle=ValueError("malformed"))
        assert (answered.model, answered.accepted) == ("small", False)
        assert [one.error for one in log.outcomes] == [None, "ValueError"]

    def test_whether_somebody_else_may_be_asked(self, cascade):
        call = cascade(limits=Limits(max_models=2))
        assert call.climbs_on(Call(model="small", final=False))
        assert not call.climbs_on(Call(model="small", final=True))
        assert not call.climbs_on(Call(model="large", final=False))
        assert not call.climbs_on(Call(model="middle", attempt=1, final=False))
        assert cascade().climbs_on(Call(model="middle", attempt=1, final=False))


class TestCost:
    """A call costs 0.5 USD, and at most 1 USD."""

    async def test_is_kept(self, cascade, log, drive):
        answered = await drive(cascade(marks(a=0.0, b=0.0), limits=Limits(max_cost=1.6)), small="a", middle="b")
        assert [one.model for one in answered.attempts] == ["small", "middle"]
        answered = await drive(cascade(marks(a=0.0), limits=Limits(max_cost=1.4)), small="a")
        assert [one.model for one in answered.attempts] == ["small"]

    async def test_lets_nobody_through_whose_cost_is_unknown(self, cascade, drive):
        with pytest.raises(NoEligibleModelError, match="unknown"):
            await drive(cascade(limits=Limits(max_cost=9.0), kind=CascadeCall))

    async def test_a_mistake_in_counting_comes_out_as_it_is(self, cascade, drive):
        class Counts(CascadeCall):
            def ceilings(self):
                raise TimeoutError("in prepare_messages")

        with pytest.raises(TimeoutError, match="in prepare_messages"):
            await drive(cascade(limits=Limits(max_cost=9.0), kind=Counts))

    async def test_of_a_check_counts(self, cascade, drive):
        call = cascade(lambda reply: 0.0, most=0.3, limits=Limits(max_cost=1.0))
        assert (await drive(call, small="a")).attempts[0].score.value == 0.0
        call = cascade(lambda reply: 0.0, most=0.6, limits=Limits(max_cost=1.0))
        assert (await drive(call, small="a")).attempts[0].score is None


class TestJudge:
    async def test_that_fails_costs_no_answer(self, cascade, log, drive):
        call = cascade(lambda reply: 1 / 0, most=0.125)
        with pytest.warns(JudgeFailedWarning, match="ZeroDivisionError"):
            answered = await drive(call, small="a", middle="b", large="c")
        assert answered.model == "large"
        assert log.told("check_error", "check_cost_at_most", "score") == [
            ("ZeroDivisionError", 0.125, None),
            ("ZeroDivisionError", 0.125, None),
            (None, None, None),
        ]
        record = call.record(answered)
        assert record["total_cost"] is None
        assert "small was not accepted (its check failed: ZeroDivisionError)" in record["reason"]

    async def test_that_stops_a_workflow_does(self, cascade, log, drive):
        def judge(reply):
            raise WaitingForEvent

        with pytest.raises(WaitingForEvent):
            await drive(cascade(judge), small="a", middle="b")
        assert [(one.model, one.metadata) for one in log.outcomes] == [("small", {"accepted": False})]

    async def test_its_words_are_not_logged(self, cascade, log, drive):
        call = cascade(lambda reply: Score(value=1.0, cost=0.25, reason="it says 'secret'", signals={"odd": float("nan")}))
        answered = await drive(call, small="a")
        (outcome,) = log.outcomes
        assert "secret" not in json.dumps(dict(outcome.metadata))
        assert outcome.quality is None
        assert (outcome.metadata["check_cost"], "odd" in outcome.metadata.get("signals", {})) == (0.25, False)
        assert call.record(answered)["attempts"][0]["reason"] == "it says 'secret'"


class TestDeadline:
    def test_what_is_late_is_left_and_booked_when_it_ends(self, cascade, log, serve):
        wait, done = threading.Event(), threading.Event()
        call = cascade(marks(b=1.0), limits=Limits(timeout=0.2))

        def hangs():
            wait.wait(10)
            return "a"

        one = serve(call, small=hangs, middle="b")

        def watched(step):
            try:
                return one(step)
            finally:
                if step.model == "small":
                    done.set()

        answered = call.drive(watched)
        assert (answered.model, call.noted[0]) == ("middle", ("left", 0))
        assert isinstance(answered.attempts[0].error, DeadlineExceededError)
        assert [one.model for one in log.outcomes] == ["middle"]
        wait.set()
        assert done.wait(10)
        late = log.outcomes[1]
        assert (late.model, late.error, late.metadata, late.cost) == ("small", None, {"late": True}, 0.5)

    async def test_what_is_late_is_cancelled(self, cascade, log, serve, seen):
        call = cascade(marks(b=1.0), limits=Limits(timeout=0.05))
        one = serve(call, middle="b")

        async def other(step):
            if step.model != "small":
                return one(step)
            with seen(call, step):
                return await asyncio.sleep(60)

        answered = await call.adrive(other)
        assert (answered.model, call.noted[0]) == ("middle", ("left", 0))
        assert [(one.model, one.error, dict(one.metadata)) for one in log.outcomes] == [
            ("small", "DeadlineExceededError", {"late": True}),
            ("middle", None, dict(log.outcomes[1].metadata)),
        ]


async def test_a_call_without_a_plug_in_s_hooks(cascade, drive):
    call = cascade(marks(a=0.0, b=1.0), kind=CascadeCall)
    assert (await drive(call, small="a", middle="b")).model == "middle"
    assert isinstance(call.climb.plan, Ordered)
