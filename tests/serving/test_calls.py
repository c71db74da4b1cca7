"""Whom one decision calls, what is logged of the calls, and the record of the answer."""

import json

import numpy as np
import pytest

from agentroute.cascades import Attempt, Call
from agentroute.errors import AllModelsFailedError, OutcomeDroppedWarning
from agentroute.pool import ModelPool
from agentroute.serving import RoutedCall, mistakes, stamp
from agentroute.types import Candidate, ModelCard, Query


class ContextOverflowError(ValueError):
    """As in LangChain."""


@pytest.fixture
def pool():
    return ModelPool([ModelCard(id=name) for name in ("small", "large", "free")])


@pytest.fixture
def routed(decide, pool, log):
    def made(*models, query=None, by="policy", error=None, **kwargs):
        decided = decide(*(models or ("small", "large", "free")), query=query, by=by, error=error, propensity=0.5)
        return RoutedCall(decided=decided, pool=kwargs.pop("pool", pool), log=log, **kwargs)

    return made


class TestFailover:
    async def test_the_chosen_one_answers(self, routed, log, drive):
        call = routed()
        answered = await drive(call, small="yes")
        assert (answered.model, answered.answer) == ("small", "yes")
        assert [(one.model, one.error, one.attempt, one.propensity) for one in log.outcomes] == [("small", None, 0, 0.5)]

    async def test_goes_on_in_the_decision_s_order(self, routed, log, drive):
        call = routed("small", "free", "large")
        answered = await drive(call, small=ConnectionError(), free=TimeoutError(), large="yes")
        assert answered.model == "large"
        found = [(one.model, one.error, one.attempt, one.propensity, one.decision_id) for one in log.outcomes]
        assert found == [
            ("small", "ConnectionError", 0, 0.5, "d1"),
            ("free", "TimeoutError", 1, None, "d1"),
            ("large", None, 2, None, "d1"),
        ]

    async def test_everybody_fails(self, routed, log, drive):
        with pytest.raises(AllModelsFailedError) as raised:
            await drive(routed("small", "large"), small=ConnectionError("a"), large=TimeoutError("b"))
        assert [str(one) for one in raised.value.exceptions] == ["a", "b"]
        assert len(log.outcomes) == 2

    async def test_what_another_model_would_hide(self, routed, log, drive):
        with pytest.raises(ValueError, match="malformed"):
            await drive(routed(), small=ValueError("malformed"), large="yes")
        assert [one.error for one in log.outcomes] == ["ValueError"]

    async def test_forced_means_nobody_else(self, routed, drive):
        with pytest.raises(ConnectionError):
            await drive(routed("small", "large", by="forced"), small=ConnectionError(), large="yes")

    async def test_switched_off(self, routed, drive):
        with pytest.raises(ConnectionError):
            await drive(routed(failover=False), small=ConnectionError(), large="yes")

    async def test_the_caller_s_own_list(self, routed, drive):
        call = routed("small", failover=("free", "large"))
        answered = await drive(call, small=ConnectionError(), free=ConnectionError(), large="yes")
        assert [one.model for one in answered.attempts] == ["small", "free", "large"]

    async def test_the_caller_s_own_list_among_those_who_may(self, routed, drive):
        query = Query(text="x", allow=frozenset({"small", "large"}))
        call = routed("small", query=query, failover=("free", "large"))
        answered = await drive(call, small=ConnectionError(), large="yes")
        assert [one.model for one in answered.attempts] == ["small", "large"]

    async def test_each_but_once_and_only_candidates(self, routed, drive):
        call = routed("small", "gone", "small", "large")
        with pytest.raises(AllModelsFailedError) as raised:
            await drive(call, small=ConnectionError(), large=ConnectionError())
        assert len(raised.value.exceptions) == 2

    async def test_after_an_overflow_only_a_window_known_to_be_larger(self, routed, drive):
        cards = [
            ModelCard(id="small", context_window=100),
            ModelCard(id="same", context_window=100),
            ModelCard(id="unknown"),
            ModelCard(id="large", context_window=101),
        ]
        call = routed("small", "same", "unknown", "large", pool=ModelPool(cards))
        answered = await drive(call, small=ContextOverflowError(), large="yes")
        assert [one.model for one in answered.attempts] == ["small", "large"]
        call = routed("unknown", "large", pool=ModelPool(cards))
        with pytest.raises(ContextOverflowError):
            await drive(call, unknown=ContextOverflowError(), large="yes")

    async def test_the_caller_s_own_mistake_comes_out_as_it_is(self, routed, log):
        error = ConnectionError("a tool that cannot be bound")

        def one(step):
            with mistakes():
                raise error

        async def other(step):
            return one(step)

        with pytest.raises(ConnectionError) as raised:
            routed().drive(one)
        assert raised.value is error
        with pytest.raises(ConnectionError) as raised:
            await routed().adrive(other)
        assert raised.value is error
        assert log.outcomes == []


def test_a_log_that_fails_costs_no_answer(decide, pool, serve):
    class Broken:
        def append(self, outcome):
            raise OSError("disk full")

    call = RoutedCall(decided=decide("small"), pool=pool, log=Broken())
    with pytest.warns(OutcomeDroppedWarning, match="disk full"):
        answered = call.drive(serve(call, small="yes"))
    assert answered.answer == "yes"


def test_trace(routed):
    assert routed().trace(Call(model="large", attempt=2)) == {
        "agentroute_model": "large",
        "agentroute_decision_id": "d1",
        "agentroute_attempt": 2,
    }


class TestRecord:
    def test_is_plain_json(self, decide, pool, log, serve):
        decided = decide("small", "large", propensity=np.float64(0.25))
        large = Candidate(model="large", quality=np.float32(0.5), cost=float("nan"), latency=2.0, utility=np.inf, support=3.0)
        object.__setattr__(decided.decision, "candidates", (Candidate(model="small"), large))
        call = RoutedCall(decided=decided, pool=pool, log=log)
        record = call.record(call.drive(serve(call, small=TimeoutError(), large="yes")))
        assert json.loads(json.dumps(record)) == record
        assert record.pop("attempts")[0].pop("latency") > 0
        assert record == {
            "decision_id": "d1",
            "model": "small",
            "answered_by": "large",
            "by": "policy",
            "reason": "as told; small failed (TimeoutError), so large answered",
            "propensity": 0.25,
            "fallback": False,
            "candidates": [
                {"model": "small", "quality": None, "cost": None, "latency": None, "utility": None, "support": 0.0},
                {"model": "large", "quality": 0.5, "cost": None, "latency": 2.0, "utility": None, "support": 3.0},
            ],
            "routing_latency": 0.25,
        }

    def test_attempts(self, routed, serve):
        call = routed()
        first, second = call.record(call.drive(serve(call, small=TimeoutError(), large="yes")))["attempts"]
        assert (first["model"], first["error"], first["usage"], first["cost"]) == ("small", "TimeoutError", None, None)
        assert (second["model"], second["error"], second["cost"]) == ("large", None, 0.5)
        assert second["usage"] == {"input_tokens": 10, "output_tokens": 5, "cache_read_tokens": 3, "cache_write_tokens": 1}

    def test_of_a_router_that_failed(self, routed, serve):
        call = routed(error=RuntimeError("no index"))
        assert call.record(call.drive(serve(call, small="yes")))["fallback"] is True

    def test_of_an_answer_that_somebody_else_gave(self, routed, serve):
        call = routed()
        answered = call.drive(lambda step: Attempt(model=step.model, answer="mine"))
        record = call.record(answered, replaced=True)
        assert (record["answered_by"], record["reason"]) == (None, "as told")
        answered = call.drive(serve(call, small=TimeoutError(), large="yes"))
        assert call.record(answered, replaced=True)["reason"] == "as told; small failed (TimeoutError)"

    def test_stays_on_top_of_a_routed_candidate_s(self):
        first = stamp({"id": 1}, {"model": "inner"})
        assert first == {"id": 1, "agentroute": {"model": "inner"}}
        assert stamp(first, {"model": "outer"}) == {"id": 1, "agentroute": {"model": "outer", "via": {"model": "inner"}}}
        assert first == {"id": 1, "agentroute": {"model": "inner"}}

    def test_of_a_stream_gains_nothing_later(self, routed, serve, seen):
        call = routed()
        answered = call.drive(serve(call, small="yes"))
        assert call.totals(answered, seen(call, Call(model="small"))) == {}
