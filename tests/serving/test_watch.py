"""What is logged of a call: its outcome, exactly once, however it ends."""

import asyncio
import time

import pytest

from agentroute.cascades import Call
from agentroute.errors import DeadlineExceededError
from agentroute.pool import ModelPool
from agentroute.serving import RoutedCall, Spent, Watch, totals_in
from agentroute.types import ModelCard, Price, Usage

USAGE = Usage(input_tokens=1_000, output_tokens=500)
WHOLE = {"input_tokens": 3_000, "output_tokens": 0, "cache_read_tokens": 0, "cache_write_tokens": 0}


class GraphBubbleUp(Exception):
    """As in LangGraph: no failure."""


class Seen(Watch):
    """A plug-in's watch: it knows what the test tells it."""

    spending = Spent(usage=USAGE, cost=0.002)
    open_end = False

    def told(self):
        return self.spending

    def truncated(self):
        return self.open_end


@pytest.fixture
def call(decide, log):
    pool = ModelPool([ModelCard(id="small", price=Price(input=1.0, output=2.0)), ModelCard(id="large")])
    return RoutedCall(decided=decide("small", "large", propensity=0.25), pool=pool, log=log)


def watch(call, *, kind=Seen, deadline=None, **step):
    return kind(call, Call(model=step.pop("model", "small"), deadline=deadline, **step))


LATE = {"deadline": 0.0}  # seconds of time.monotonic: long over
IN_TIME = {"deadline": float("inf")}


class TestSuccess:
    def test_outcome_and_attempt(self, call, log):
        one = watch(call)
        with one:
            pass
        attempt = one.ended("yes")
        (outcome,) = log.outcomes
        assert (outcome.query, outcome.model, outcome.usage, outcome.cost) == (call.decided.query, "small", USAGE, 0.002)
        assert (outcome.error, outcome.decision_id, outcome.attempt, outcome.metadata) == (None, "d1", 0, {})
        assert (outcome.propensity, outcome.quality) == (0.25, None)
        assert outcome.at.tzinfo is not None
        assert (attempt.model, attempt.answer, attempt.usage, attempt.cost) == ("small", "yes", USAGE, 0.002)
        assert attempt.latency == outcome.latency > 0

    def test_latency_ends_when_the_answer_is_whole(self, call, log):
        before = time.perf_counter()
        one = watch(call)
        one.finished()
        most = time.perf_counter() - before
        time.sleep(0.01)
        assert one.ended().latency <= most
        assert log.outcomes[0].latency <= most

    def test_cut_off(self, call, log):
        one = watch(call)
        one.open_end = True
        one.ended()
        (outcome,) = log.outcomes
        # What was told by then is less than it has taken.
        assert (outcome.metadata, outcome.usage, outcome.cost) == ({"truncated": True}, None, None)

    def test_nothing_known(self, call, log):
        attempt = watch(call, kind=Watch).ended()
        assert (attempt.usage, attempt.cost) == (None, None)
        assert (log.outcomes[0].usage, log.outcomes[0].cost, log.outcomes[0].metadata) == (None, None, {})

    def test_no_log(self, decide):
        one = Seen(RoutedCall(decided=decide("small"), pool=ModelPool(["small"]), log=None), Call(model="small"))
        assert one.ended("yes").usage == USAGE

    def test_of_a_cache_teaches_neither_cost_nor_latency(self, call, log):
        one = watch(call)
        one.spending = Spent(usage=USAGE, cost=0.0, cached=True)
        attempt = one.ended("yes")
        (outcome,) = log.outcomes
        assert (outcome.cost, outcome.latency, outcome.usage, outcome.metadata) == (None, None, USAGE, {"cached": True})
        assert attempt.cost == 0.0

    @pytest.mark.parametrize(("step", "expected"), [({}, 0.25), ({"model": "large"}, None), ({"attempt": 1}, None)])
    def test_propensity_is_the_first_choice_s_alone(self, call, log, step, expected):
        watch(call, **step).ended()
        assert log.outcomes[0].propensity == expected


class TestOnce:
    ENDINGS = ("ended", "left", "failed", "exit", "stopped")

    def end(self, one, how):
        if how == "failed":
            one.failed(OSError())
        elif how == "exit":
            with pytest.raises(TypeError), one:
                raise TypeError
        elif how == "stopped":
            with pytest.raises(KeyboardInterrupt), one:
                raise KeyboardInterrupt
        else:
            getattr(one, how)()

    @pytest.mark.parametrize("first", ENDINGS)
    @pytest.mark.parametrize("second", ENDINGS)
    def test_the_first_end_counts(self, call, log, first, second):
        one = watch(call)
        self.end(one, first)
        (outcome,) = log.outcomes
        self.end(one, second)
        assert log.outcomes == [outcome]

    def test_each_call_for_itself(self, call, log):
        for _ in range(2):
            watch(call).ended()
        assert len(log.outcomes) == 2


class TestFailure:
    def test_is_logged_and_goes_on(self, call, log):
        with pytest.raises(ConnectionError), watch(call):
            raise ConnectionError
        (outcome,) = log.outcomes
        assert (outcome.error, outcome.metadata, outcome.usage) == ("ConnectionError", {}, USAGE)
        assert outcome.latency > 0

    @pytest.mark.parametrize(("step", "expected"), [(LATE, {"late": True}), (IN_TIME, {})])
    def test_after_its_time(self, call, log, step, expected):
        watch(call, **step).failed(ConnectionError())
        assert (log.outcomes[0].error, log.outcomes[0].metadata) == ("ConnectionError", expected)

    def test_after_the_answer_was_whole_is_one_all_the_same(self, call, log):
        one = watch(call)
        one.finished()
        with pytest.raises(TypeError), one:
            raise TypeError
        assert log.outcomes[0].error == "TypeError"


class TestStopped:
    STOPS = (GeneratorExit, KeyboardInterrupt, asyncio.CancelledError, GraphBubbleUp)

    @pytest.mark.parametrize("stop", STOPS)
    def test_by_the_caller_is_no_failure(self, call, log, stop):
        with pytest.raises(stop), watch(call, **IN_TIME):
            raise stop
        (outcome,) = log.outcomes
        assert (outcome.error, outcome.latency, outcome.metadata, outcome.usage) == (None, None, {"interrupted": True}, None)
        assert outcome.cost is None

    @pytest.mark.parametrize("stop", STOPS)
    def test_after_the_answer_was_whole_is_a_success(self, call, log, stop):
        one = watch(call, **LATE)
        one.finished()
        with pytest.raises(stop), one:
            raise stop
        (outcome,) = log.outcomes
        assert (outcome.error, outcome.metadata) == (None, {})
        assert outcome.latency > 0

    @pytest.mark.parametrize(("stop", "late"), [*zip(STOPS, (False, True, True, False), strict=True)])
    def test_after_its_time(self, call, log, stop, late):
        with pytest.raises(stop), watch(call, **LATE):
            raise stop
        (outcome,) = log.outcomes
        found = (outcome.error, outcome.metadata)
        assert found == (("DeadlineExceededError", {"late": True}) if late else (None, {"interrupted": True}))

    def test_an_opened_stream_has_kept_its_deadline(self, call, log):
        one = watch(call, **LATE)
        one.opened()
        with pytest.raises(asyncio.CancelledError), one:
            raise asyncio.CancelledError
        assert log.outcomes[0].metadata == {"interrupted": True}

    def test_a_deadline_that_fires_a_little_early(self, call, log):
        with pytest.raises(asyncio.CancelledError), watch(call, deadline=time.monotonic() + 0.015):
            raise asyncio.CancelledError
        assert log.outcomes[0].error == DeadlineExceededError.__name__

    def test_left_behind(self, call, log):
        watch(call).left()
        (outcome,) = log.outcomes
        assert (outcome.error, outcome.metadata, outcome.usage) == ("DeadlineExceededError", {"late": True}, USAGE)


class TestNested:
    def test_totals_of_a_cascade_within_count(self, call, log):
        one = watch(call)
        one.heard({"total_cost": 0.5, "total_usage": WHOLE})
        assert one.spent() == Spent(usage=Usage(**WHOLE), cost=0.5)
        one.ended()
        assert (log.outcomes[0].usage, log.outcomes[0].cost) == (Usage(**WHOLE), 0.5)

    def test_below_a_routed_model(self, call):
        one = watch(call)
        one.heard({"answered_by": "a", "via": {"answered_by": "b", "total_cost": 0.5, "total_usage": None}})
        assert one.spent() == Spent(usage=USAGE, cost=0.5)

    def test_unknown_cost_is_priced_by_the_whole_usage_alone(self, call):
        one = watch(call)
        one.heard({"total_cost": None, "total_usage": WHOLE})
        assert one.spent() == Spent(usage=Usage(**WHOLE), cost=pytest.approx(0.003, abs=1e-12))
        one = watch(call)
        one.heard({"total_cost": None, "total_usage": None})
        assert one.spent() == Spent(usage=USAGE, cost=None)

    def test_of_a_stream_come_in_pieces(self, call):
        one = watch(call)
        one.heard({"total_cost": None, "total_usage": None})
        one.heard({"total_cost": 0.5, "total_usage": WHOLE})
        one.heard({"total_cost": None, "total_usage": None})
        assert one.spent() == Spent(usage=Usage(**WHOLE), cost=0.5)

    def test_no_cache_has_answered_where_a_cascade_has(self, call, log):
        one = watch(call)
        one.spending = Spent(usage=USAGE, cost=0.0, cached=True)
        one.heard({"total_cost": 0.5, "total_usage": WHOLE})
        one.ended()
        assert (log.outcomes[0].cost, log.outcomes[0].metadata) == (0.5, {})

    @pytest.mark.parametrize("record", [None, "x", {}, {"via": None}, {"answered_by": "small"}])
    def test_other_records_say_nothing(self, call, record):
        one = watch(call)
        one.heard(record)
        assert totals_in(record) is None
        assert one.spent() == Spent(usage=USAGE, cost=0.002)


def test_priced_by_the_model_that_was_called(call):
    assert watch(call).priced(USAGE) == pytest.approx(0.002, abs=1e-12)
    assert watch(call, model="large").priced(USAGE) is None
