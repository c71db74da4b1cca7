"""What goes wrong in a cascade: every call is booked once, nothing is spliced, and no answer is lost."""

import asyncio
import threading
import time

import pytest
from langchain_core.messages import AIMessage

from agentroute.errors import AllModelsFailedError, DeadlineExceededError, MissingSignalError
from agentroute.outcomes import MemoryOutcomeLog
from agentroute.scorers import as_scorer
from agentroute.serving import Asked
from agentroute.types import ModelCard, Price, Score
from langchain_agentroute import CascadeChatModel, routing_decision
from langchain_agentroute.testing import ScriptedChatModel

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

WAYS = ["invoke", "ainvoke", "stream", "astream", "v3", "av3"]
SYNC = ["invoke", "stream", "v3"]
ASYNC = ["ainvoke", "astream", "av3"]
CARDS = [ModelCard(id=name, price=Price(input=1, output=2)) for name in ("small", "middle", "large")]


class Waits(ScriptedChatModel):
    """A model that answers when it is let."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        object.__setattr__(self, "_gate", threading.Event())

    @property
    def gate(self):
        return self._gate

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        assert self._gate.wait(30)
        return super()._generate(messages, stop, run_manager, **kwargs)

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        await asyncio.sleep(30)

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        assert self._gate.wait(30)
        yield from super()._stream(messages, stop, run_manager, **kwargs)

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        await asyncio.sleep(30)
        yield


def cascade(*given, judge=lambda reply: False, **kwargs):
    log = MemoryOutcomeLog()
    model = CascadeChatModel(
        models={one.model_name: one for one in given},
        judge=judge,
        outcome_log=log,
        cards=[card for card in CARDS if card.id in {one.model_name for one in given}],
        **kwargs,
    )
    # The embedder's table is read at the first call; no deadline shall begin with that.
    model._routing.decider.begin(Asked(turns=())).decide()
    return model


def named(name, *replies, **kwargs):
    return ScriptedChatModel(model_name=name, replies=replies, **kwargs)


def rows(model, count=None):
    """What is logged, once that many outcomes are there."""
    until = time.monotonic() + 10
    while count is not None and len(model.outcome_log) < count and time.monotonic() < until:
        time.sleep(0.01)
    return sorted(model.outcome_log, key=lambda one: one.attempt)


def attempts(message):
    return [(one["model"], one["error"], one["accepted"]) for one in routing_decision(message)["attempts"]]


@pytest.mark.parametrize("way", WAYS)
async def test_a_rung_that_raises(way, collect):
    model = cascade(named("small", ConnectionError("down")), named("large"))
    message = await collect(way, model, "x")
    assert message.text == "[large] answer to: x"
    assert attempts(message) == [("small", "ConnectionError", False), ("large", None, True)]
    assert routing_decision(message)["total_cost"] is None, "nobody knows what the failed call cost"
    assert [(one.model, one.error, one.metadata) for one in rows(model)] == [
        ("small", "ConnectionError", {}),
        ("large", None, {"accepted": True, "chosen": True}),
    ]


@pytest.mark.parametrize("way", WAYS)
async def test_a_last_rung_that_raises_leaves_the_best_answer_so_far(way, collect):
    judge = as_scorer(lambda reply: 0.3 if "[middle]" in reply.text else 0.1, name="told")
    model = cascade(named("small"), named("middle"), named("large", ConnectionError("down")), judge=judge)
    message = await collect(way, model, "x")
    assert message.text == "[middle] answer to: x"
    record = routing_decision(message)
    assert (record["answered_by"], record["accepted"]) == ("middle", False)
    assert attempts(message)[2] == ("large", "ConnectionError", False)
    assert [one.metadata.get("accepted") for one in rows(model)] == [False, False, None]


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_stream_that_breaks_before_its_first_token_leaves_the_best_answer(way, collect):
    model = cascade(named("small"), named("large", break_after=0))
    assert (await collect(way, model, "x")).text == "[small] answer to: x"
    assert [(one.model, one.error) for one in rows(model)] == [("small", None), ("large", "ConnectionError")]


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_stream_that_breaks_after_its_first_token_is_not_spliced(way):
    model = cascade(named("small"), named("large", break_after=2))
    seen = []

    async def read():
        if way == "stream":
            seen.extend(chunk.text for chunk in model.stream("x"))
        else:
            async for chunk in model.astream("x"):
                seen.append(chunk.text)  # noqa: PERF401  # a comprehension would keep nothing

    with pytest.raises(ConnectionError, match="the stream broke"):
        await read()
    assert "".join(seen) == "[large] answer"
    assert [(one.model, one.error) for one in rows(model)] == [("small", None), ("large", "ConnectionError")]


@pytest.mark.parametrize("way", WAYS)
async def test_everybody_fails(way, collect):
    model = cascade(named("small", TimeoutError()), named("large", ConnectionError("down")))
    with pytest.raises(AllModelsFailedError, match=r"small \(TimeoutError\), large \(ConnectionError\)"):
        await collect(way, model, "x")
    assert [(one.model, one.error) for one in rows(model)] == [("small", "TimeoutError"), ("large", "ConnectionError")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (" \n", "the answer is empty"),
        (
            AIMessage(
                "", invalid_tool_calls=[{"name": "f", "args": "{", "id": "1", "error": "cut", "type": "invalid_tool_call"}]
            ),
            "the call of f is broken: cut",
        ),
        (
            AIMessage("half an ans", response_metadata={"model_provider": "openai"}),
            "the answer broke off: it has no finish reason",
        ),
    ],
)
async def test_answers_that_cannot_be_used(way, reply, reason, collect):
    model = cascade(named("small", reply), named("large"), judge=lambda reply: True)
    message = await collect(way, model, "x")
    assert message.text == "[large] answer to: x"
    assert routing_decision(message)["attempts"][0]["reason"] == reason
    first, second = rows(model)
    assert (first.error, first.metadata["score"], first.metadata["accepted"], second.metadata["accepted"]) == (
        None,
        0.0,
        False,
        True,
    )
    assert "reason" not in first.metadata, "a reason may quote the answer"


@pytest.mark.parametrize("way", WAYS)
async def test_a_last_stream_that_shows_nothing_is_an_empty_answer(way, collect):
    model = cascade(named("small"), named("large", ""))
    message = await collect(way, model, "x")
    assert message.text == "[small] answer to: x"
    assert routing_decision(message)["accepted"] is False
    assert [(one.model, one.metadata["accepted"], one.metadata["score"], one.usage.output_tokens) for one in rows(model)] == [
        ("small", False, 0.0, 5),
        ("large", False, 0.0, 5),
    ]
    alone = cascade(named("large", ""))
    message = await collect(way, alone, "x")
    assert (message.text, message.usage_metadata["total_tokens"]) == ("", 15)
    assert len(rows(alone)) == 1


@pytest.mark.parametrize("way", SYNC)
async def test_a_rung_that_hangs_is_left_behind_and_booked_when_it_ends(way, collect):
    small = Waits(model_name="small")
    model = cascade(small, named("large"), timeout=0.1)
    message = await collect(way, model, "x")
    assert message.text == "[large] answer to: x"
    assert attempts(message) == [("small", "DeadlineExceededError", False), ("large", None, True)]
    assert [one.model for one in rows(model)] == ["large"]
    small.gate.set()
    first, _ = rows(model, 2)
    assert (first.model, first.error, first.metadata) == ("small", None, {"late": True})
    assert first.cost == pytest.approx(20e-6), "it was paid for all the same"


@pytest.mark.parametrize("way", ASYNC)
async def test_a_rung_that_hangs_is_cancelled(way, collect):
    model = cascade(Waits(model_name="small"), named("large"), timeout=0.1)
    message = await collect(way, model, "x")
    assert message.text == "[large] answer to: x"
    assert attempts(message) == [("small", "DeadlineExceededError", False), ("large", None, True)]
    first, second = rows(model)
    assert (first.error, first.metadata, second.metadata) == (
        "DeadlineExceededError",
        {"late": True},
        {"accepted": True, "chosen": True},
    )


def test_a_late_failure_is_booked_as_one():
    small = Waits(model_name="small", replies=[ConnectionError("down")])
    model = cascade(small, named("large"), timeout=0.1)
    model.invoke("x")
    small.gate.set()
    first, _ = rows(model, 2)
    assert (first.error, first.metadata) == ("ConnectionError", {"late": True})


@pytest.mark.parametrize("way", [*SYNC, *ASYNC])
async def test_a_last_rung_that_hangs_leaves_the_best_answer_so_far(way, collect):
    large = Waits(model_name="large")
    model = cascade(named("small"), large, timeout=0.1)
    message = await collect(way, model, "x")
    assert message.text == "[small] answer to: x"
    assert routing_decision(message)["accepted"] is False
    large.gate.set()
    first, second = rows(model, 2)
    assert (first.model, first.metadata["accepted"], second.model, second.metadata) == ("small", False, "large", {"late": True})
    if way == "stream":
        assert second.error == "DeadlineExceededError"
        assert large.closed_streams == [1], "a stream that nobody reads is closed"


def test_everybody_hangs():
    given = [Waits(model_name="small"), Waits(model_name="large")]
    model = cascade(*given, timeout=0.1)
    with pytest.raises(AllModelsFailedError) as failed:
        model.invoke("x")
    assert all(isinstance(error, DeadlineExceededError) for error in failed.value.exceptions)
    for one in given:
        one.gate.set()
    assert [one.metadata for one in rows(model, 2)] == [{"late": True}] * 2


@pytest.mark.filterwarnings("ignore::agentroute.errors.JudgeFailedWarning")
@pytest.mark.parametrize("way", WAYS)
async def test_a_judge_that_raises_accepts_nothing_and_loses_nothing(way, collect):
    def judge(reply):
        raise MissingSignalError("logprobs", "judge")

    model = cascade(named("small"), named("large"), judge=judge)
    message = await collect(way, model, "x")
    first = routing_decision(message)["attempts"][0]
    assert (message.text, first["score"], first["check_error"]) == ("[large] answer to: x", None, "MissingSignalError")
    assert "its check failed: MissingSignalError" in routing_decision(message)["reason"]
    booked = rows(model)[0]
    assert (booked.error, booked.metadata["check_error"], booked.metadata["accepted"]) == (None, "MissingSignalError", False)
    assert booked.cost == pytest.approx(20e-6)
    model = cascade(named("small"), named("large", ConnectionError("down")), judge=judge)
    assert (await collect(way, model, "x")).text == "[small] answer to: x"


@pytest.mark.filterwarnings("ignore::agentroute.errors.JudgeFailedWarning")
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_judge_that_is_slow_is_left_behind(asynchronous):
    gate = threading.Event()

    def slow(reply):
        assert gate.wait(30)
        return Score(value=1.0, cost=0.5)

    async def aslow(reply):
        await asyncio.sleep(30)

    judge = as_scorer(aslow if asynchronous else slow, name="slow", ceiling=0.5)
    model = cascade(named("small"), named("large"), judge=judge, timeout=0.1)
    message = await model.ainvoke("x") if asynchronous else model.invoke("x")
    first = routing_decision(message)["attempts"][0]
    assert (message.text, first["check_error"]) == ("[large] answer to: x", "DeadlineExceededError")
    booked = rows(model)[0]
    assert booked.metadata["check_error"] == "DeadlineExceededError"
    assert booked.metadata["check_cost_at_most"] == 0.5
    gate.set()


def test_a_judge_that_cannot_be_called_is_the_caller_s_mistake():
    async def judge(reply):
        return 1.0

    model = cascade(named("small"), named("large"), judge=judge)
    with pytest.raises(ValueError, match="is an async function"):
        model.invoke("x")
    assert [(one.model, one.metadata["accepted"]) for one in rows(model)] == [("small", False)]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_deadline_for_the_whole_query(asynchronous):
    small = Waits(model_name="small")
    model = cascade(small, named("large"), deadline=0.4)
    message = await model.ainvoke("x") if asynchronous else model.invoke("x")
    assert message.text == "[large] answer to: x", "time is kept back for the strongest"
    small.gate.set()
    assert [one.metadata for one in rows(model, 2)] == [{"late": True}, {"accepted": True, "chosen": True}]


def test_a_log_that_fails_costs_no_answer():
    class Broken(MemoryOutcomeLog):
        def append(self, outcome):
            raise OSError("disk full")

        def extend(self, outcomes):
            raise OSError("disk full")

    model = CascadeChatModel(models=[named("small"), named("large")], judge=lambda reply: False, outcome_log=Broken())
    assert model.invoke("x").text == "[large] answer to: x"


def test_errors_of_prepare_messages_are_not_hidden_by_an_earlier_answer():
    def prepare(messages, candidate):
        if candidate.model_name == "large":
            raise KeyError("template")
        return messages

    model = cascade(named("small"), named("large"), prepare_messages=prepare)
    with pytest.raises(KeyError, match="template"):
        model.invoke("x")
    assert [(one.model, one.metadata["accepted"]) for one in rows(model)] == [("small", False)]


def test_streams_without_an_end_are_marked_in_the_log():
    cut = AIMessage("half an answer", response_metadata={"model_provider": "openai"})
    whole = AIMessage("an answer", response_metadata={"model_provider": "openai", "finish_reason": "stop"})
    model = cascade(named("small"), named("large", cut, whole))
    for _ in range(2):
        list(model.stream("x"))
    assert [one.metadata.get("truncated") for one in model.outcome_log if one.model == "large"] == [True, None]
