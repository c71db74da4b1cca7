"""What is booked of a cascade's calls, and what the record of its answer says."""

import json

import pytest

from agentroute.cascades import Attempt, Call, Next, Pick
from agentroute.errors import OutcomeDroppedWarning, RouterFailedWarning
from agentroute.types import Reply, Score


def marks(**scores):
    """A judge that has its mind made up."""
    return lambda reply: scores[reply.text]


def opened(step):
    """A stream: its first piece is there, and its end comes when the reader has read it."""
    return Attempt(model=step.model, answer="a stream")


class TestBooking:
    def test_waits_until_the_fate_is_known(self, cascade, log, serve, seen):
        call = cascade(marks(a=0.0, b=1.0))
        one = serve(call, small="a", middle="b")

        def seen(step):
            assert log.outcomes == []
            return one(step)

        call.drive(seen)
        assert log.told("chosen") == [(None,), (True,)]

    def test_what_comes_after_the_end_is_booked_at_once(self, cascade, log, serve, seen):
        call = cascade(marks(a=0.0, b=0.0))
        watches = []

        def stream(step):
            if not step.final:
                return serve(call, small="a", middle="b")(step)
            watches.append(seen(call, step))
            return opened(step)

        answered = call.drive(stream)
        assert [one.model for one in log.outcomes] == ["small", "middle"]
        assert call.totals(answered, watches[0]) == {
            "total_cost": 1.5,
            "total_usage": {"input_tokens": 30, "output_tokens": 15, "cache_read_tokens": 9, "cache_write_tokens": 3},
        }
        watches[0].ended()
        assert log.told("chosen", "accepted")[2] == (True, True)

    @pytest.mark.parametrize(
        ("end", "expected"), [(ConnectionError, {"chosen": True}), (GeneratorExit, {"interrupted": True, "chosen": True})]
    )
    def test_a_stream_that_broke_is_still_the_chosen_answer(self, cascade, log, end, expected, seen):
        call = cascade(forced="large")
        watches = []

        def stream(step):
            watches.append(seen(call, step))
            return opened(step)

        call.drive(stream)
        with pytest.raises(end), watches[0]:
            raise end
        assert log.outcomes[0].metadata == expected

    @pytest.mark.parametrize("forced", [None, "large"])
    def test_totals_of_whole_answers_are_known_already(self, cascade, serve, seen, forced):
        call = cascade(forced=forced)
        answered = call.drive(serve(call, small="a", large="a"))
        assert answered.attempts[0].final == (forced is not None)
        assert call.totals(answered, seen(call, Call(model=answered.model))) == {}

    def test_totals_of_a_judged_answer_whose_usage_is_unknown_stay_so(self, cascade, seen):
        call = cascade(marks(a=1.0))
        answered = call.drive(lambda step: Attempt(model=step.model, answer="a", reply=Reply(text="a")))
        assert call.record(answered)["total_cost"] is None
        assert call.totals(answered, seen(call, Call(model="small"))) == {}

    def test_a_caller_who_stops_leaves_nothing_unbooked(self, cascade, log, serve):
        call = cascade(marks(a=0.0))
        with pytest.raises(KeyboardInterrupt):
            call.drive(serve(call, small="a", middle=KeyboardInterrupt()))
        assert log.told("accepted", "chosen", "interrupted", "score") == [(False, None, None, 0.0), (None, None, True, None)]

    def test_a_fate_that_cannot_be_told_costs_no_answer_and_no_outcome(self, cascade, log, serve):
        class Odd:
            name, needs, ceiling = "odd", frozenset(), 0.0

            def score(self, query, reply):
                score = Score(value=1.0)
                object.__setattr__(score, "signals", 7)
                return score

        call = cascade(Odd())
        with pytest.warns(OutcomeDroppedWarning, match="what became of an answer was not logged"):
            answered = call.drive(serve(call, small="a"))
        assert answered.model == "small"
        assert log.told("chosen") == [(True,)]

    def test_a_log_that_fails_costs_no_answer(self, cascade, serve):
        class Broken:
            def append(self, outcome):
                raise OSError("disk full")

        call = cascade()
        call.log = Broken()
        with pytest.warns(OutcomeDroppedWarning, match="disk full"):
            assert call.drive(serve(call, small="a")).answer == "a"


class TestRecord:
    def test_tells_what_was_thought_and_what_all_of_it_cost(self, cascade, serve):
        call = cascade(lambda reply: Score(value=0.25 if reply.text == "a" else 0.75, cost=0.125))
        record = call.record(call.drive(serve(call, small="a", middle="b")))
        assert json.loads(json.dumps(record)) == record
        assert (record["answered_by"], record["accepted"], record["total_cost"]) == ("middle", True, 1.25)
        assert record["total_usage"]["input_tokens"] == 20
        assert record["reason"] == "one model after the other, from small on; small was not accepted (score 0.25)"
        found = [(one["model"], one["score"], one["accepted"], one["check_cost"]) for one in record["attempts"]]
        assert found == [("small", 0.25, False, 0.125), ("middle", 0.75, True, 0.125)]
        assert all(one["check_latency"] > 0 for one in record["attempts"])

    def test_says_that_nothing_better_came(self, cascade, serve):
        call = cascade(marks(a=0.1, b=0.3, c=0.2), check_last=True)
        record = call.record(call.drive(serve(call, small="a", middle="b", large="c")))
        assert record["accepted"] is False
        assert record["reason"].endswith("nothing better came than the answer of middle")

    def test_says_that_the_router_failed_on_the_way(self, cascade, serve):
        class Late:
            signals = ()

            def plan(self, query):
                return self

            def next(self, attempts, allowed):
                if attempts:
                    raise RuntimeError("lost")
                return Next(model="middle", final=False)

            def pick(self, attempts):
                return Pick(index=0, accepted=True)

        call = cascade(marks(a=1.0, b=0.0), planner=Late())
        with pytest.warns(RouterFailedWarning):
            answered = call.drive(serve(call, middle="b", small="a"))
        record = call.record(answered)
        assert (answered.model, record["fallback"]) == ("small", True)
        assert "; the router failed on the way (RuntimeError)" in record["reason"]
