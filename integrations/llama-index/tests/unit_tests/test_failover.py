"""After which failures another model is asked, and when it is too late for that."""

import asyncio

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.workflow.errors import WorkflowCancelledByUser

from agentroute.errors import AllModelsFailedError
from agentroute.types import Candidate, Decision, ModelCard, Paradigm
from llama_index.llms.agentroute import RoutedLLM
from llama_index.llms.agentroute.testing import ScriptedLLM

# LlamaIndex's StructuredLLM writes its streams with a method of pydantic's old ones.
pytestmark = pytest.mark.filterwarnings("ignore:The `json` method is deprecated:pydantic.warnings.PydanticDeprecatedSince20")


class WithStatus(Exception):
    """As the clients of OpenAI and Anthropic have them."""

    def __init__(self, status_code):
        super().__init__(f"status {status_code}")
        self.status_code = status_code


class Overflow(Exception):
    """As OpenAI says it: a 400 with a code of its own."""

    status_code = 400
    body = {"error": {"code": "context_length_exceeded", "type": "invalid_request_error"}}  # noqa: RUF012  # as it comes


HELPED = [ConnectionError("gone"), TimeoutError("late"), WithStatus(429), WithStatus(500), WithStatus(503), WithStatus(408)]
FINAL = [WithStatus(400), WithStatus(401), WithStatus(403), WithStatus(404), ValueError("a mistake"), WorkflowCancelledByUser()]


def name(error):
    return f"{type(error).__name__}-{error}"


def of_two(first, **kwargs):
    backup = ScriptedLLM(model="backup")
    return RoutedLLM(llms={"first": first, "backup": backup}, **kwargs), backup


def tried(answer):
    record = answer if isinstance(answer, dict) else answer.additional_kwargs["agentroute"]
    return [(one["model"], one["error"]) for one in record["attempts"]]


def say(text="x"):
    return [ChatMessage(text)]


# --- before anything is shown ---


@pytest.mark.parametrize("error", HELPED, ids=name)
def test_errors_that_another_model_may_help_with(error):
    llm, _ = of_two(ScriptedLLM(model="first", replies=[error]))
    answer = llm.chat(say())
    assert answer.message.content == "[backup] answer to: x"
    assert tried(answer) == [("first", type(error).__name__), ("backup", None)]
    record = answer.additional_kwargs["agentroute"]
    assert (record["model"], record["answered_by"]) == ("first", "backup")
    assert f"first failed ({type(error).__name__}), so backup answered" in record["reason"]


@pytest.mark.parametrize("error", FINAL, ids=name)
def test_errors_that_another_model_would_hide(error):
    llm, backup = of_two(ScriptedLLM(model="first", replies=[error]))
    with pytest.raises(type(error)) as raised:
        llm.chat(say())
    assert raised.value is error
    assert not backup.calls


async def test_every_door_fails_over_and_tells(door, events):
    llm, backup = of_two(ScriptedLLM(model="first", replies=[ConnectionError("gone")]))
    answer = await door(llm)
    assert len(llm.llms["first"].calls) == len(backup.calls) == 1
    assert [(event.model, event.attempt, event.error) for event in events.routed] == [
        ("first", 0, None),
        ("backup", 1, "ConnectionError"),
    ]
    assert len({event.decision_id for event in events.routed}) == 1
    if door.records:
        assert tried(door.record(answer)) == [("first", "ConnectionError"), ("backup", None)]


async def test_no_door_hides_a_wrong_key(door):
    error = WithStatus(401)
    llm, backup = of_two(ScriptedLLM(model="first", replies=[error]))
    with pytest.raises(WithStatus) as raised:
        await door(llm)
    assert raised.value is error
    assert not backup.calls


async def test_every_stream_fails_over_that_breaks_before_its_first_chunk(stream_door):
    llm, backup = of_two(ScriptedLLM(model="first", break_after=0))
    await stream_door(llm)
    assert len(backup.calls) == 1


async def test_every_stream_fails_as_it_is_opened_and_not_when_it_is_read(stream_door):
    """So that the caller's `try` around the call has a meaning."""
    llm, _ = of_two(ScriptedLLM(model="first", replies=[WithStatus(401)]))
    if stream_door.shape == "structured":
        return  # LlamaIndex's own generator, which begins when it is read

    async def opened():
        found = stream_door.opened(llm, "x", {})
        return await found if stream_door.awaits else found

    with pytest.raises(WithStatus):
        await opened()


# --- once something is shown ---


async def test_a_stream_that_breaks_after_its_first_chunk_does_not_go_on_with_another_model(recording_stream):
    llm, backup = of_two(ScriptedLLM(model="first", break_after=1))
    with pytest.raises(ConnectionError, match="the stream broke"):
        await recording_stream.items(llm)
    assert not backup.calls


def test_what_came_before_the_break_has_been_passed_on():
    llm, _ = of_two(ScriptedLLM(model="first", break_after=2))
    stream = llm.stream_chat(say())
    assert [next(stream).delta, next(stream).delta] == ["[first]", " answer"]
    with pytest.raises(ConnectionError):
        next(stream)


def test_a_chunk_that_shows_nothing_is_no_first_chunk():
    """Several providers open with one that only names the role."""

    class Hesitant(ScriptedLLM):
        def _chunks(self, response):
            yield response.model_copy(update={"message": ChatMessage(role="assistant", content=""), "delta": ""})
            raise ConnectionError

    llm, _ = of_two(Hesitant(model="first"))
    assert "".join(chunk.delta for chunk in llm.stream_chat(say())) == "[backup] answer to: x"


# --- who else is asked ---


async def test_all_fail(door):
    last = TimeoutError("late")
    llms = {"a": ScriptedLLM(replies=[ConnectionError("gone")]), "b": ScriptedLLM(replies=[last])}
    with pytest.raises(AllModelsFailedError) as raised:
        await door(RoutedLLM(llms=llms))
    assert raised.value.__cause__ is last
    assert [type(one) for one in raised.value.exceptions] == [ConnectionError, TimeoutError]
    assert [attempt.model for attempt in raised.value.attempts] == ["a", "b"]


def test_an_only_candidate_raises_its_own_error():
    error = TimeoutError()
    with pytest.raises(TimeoutError) as raised:
        RoutedLLM(llms={"a": ScriptedLLM(replies=[error])}).chat(say())
    assert raised.value is error


@pytest.mark.parametrize(("kwargs", "call"), [({"failover": False}, {}), ({}, {"agentroute_model": "first"})])
def test_switched_off_or_forced(kwargs, call):
    llm, backup = of_two(ScriptedLLM(model="first", replies=[TimeoutError()]), **kwargs)
    with pytest.raises(TimeoutError):
        llm.chat(say(), **call)
    assert not backup.calls


def four(**kwargs):
    llms = {model: ScriptedLLM(model=model, replies=[TimeoutError()]) for model in "abc"}
    return RoutedLLM(llms=llms | {"d": ScriptedLLM(model="d")}, **kwargs)


def only_a(_):
    paradigm = Paradigm(when="pre-generation", what=("text",), how="rule")
    return Decision(model="a", candidates=(Candidate(model="a"),), reason="", paradigm=paradigm)


@pytest.mark.parametrize(
    ("kwargs", "order"),
    [
        ({}, "abcd"),
        ({"default": "b"}, "bacd"),
        ({"failover": ["c", "d"]}, "acd"),
        ({"failover": ["c", "a", "c", "d"], "router": only_a}, "acd"),
    ],
)
async def test_the_order_of_those_who_are_asked(recording_door, kwargs, order):
    answer = await recording_door(four(**kwargs))
    assert [model for model, _ in tried(recording_door.record(answer))] == list(order)


def test_a_router_that_ranks_only_its_choice_leaves_nobody_else():
    with pytest.raises(TimeoutError):
        four(router=only_a).chat(say())


def test_declared_order_passes_over_who_may_not_answer(add_tool):
    llm = four(failover=["b", "d"])
    llm.llms["b"].calls_tools = False
    answer = RoutedLLM(llms=llm.llms, failover=["b", "d"]).chat_with_tools([add_tool], "x")
    assert [model for model, _ in tried(answer)] == ["a", "d"]


# --- overflows ---


def test_an_overflow_goes_to_a_larger_window_only():
    llms = {str(size): ScriptedLLM(model=str(size), context_window=size) for size in (2_000, 1_000, 9_000)}
    llms["2000"].replies = [Overflow()]
    assert tried(RoutedLLM(llms=llms).chat(say())) == [("2000", "Overflow"), ("9000", None)]


@pytest.mark.parametrize("sizes", [(9_000, 1_000), (9_000, 9_000)])
def test_an_overflow_of_the_largest_window_is_final(sizes):
    error = Overflow()
    llms = {name: ScriptedLLM(context_window=size) for name, size in zip("ab", sizes, strict=True)}
    llms["a"].replies = [error]
    with pytest.raises(Overflow) as raised:
        RoutedLLM(llms=llms).chat(say())
    assert raised.value is error


def test_windows_of_cards_go_before_those_that_models_tell():
    llms = {"a": ScriptedLLM(replies=[Overflow()]), "b": ScriptedLLM()}
    cards = [ModelCard(id="a", context_window=100), ModelCard(id="b", context_window=200)]
    assert tried(RoutedLLM(llms=llms, cards=cards).chat(say())) == [("a", "Overflow"), ("b", None)]


# --- what passes ---


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, asyncio.CancelledError, SystemExit])
@pytest.mark.parametrize("method", ["chat", "stream_chat"])
def test_interrupts_pass(interrupt, method):
    llm, backup = of_two(ScriptedLLM(model="first", replies=[interrupt()]))
    with pytest.raises(interrupt):
        list(getattr(llm, method)(say()))
    assert not backup.calls


async def test_cancellation_passes():
    llm, backup = of_two(ScriptedLLM(model="first", delay=30))
    task = asyncio.ensure_future(llm.achat(say()))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not backup.calls


@pytest.mark.parametrize("failed_before", [False, True])
async def test_errors_of_prepare_messages_reach_the_caller_as_they_are(recording_door, failed_before):
    """Also those that look like a model's, and also after a model's own."""
    error = ConnectionError("the summary's service is gone")
    prepared = []

    def prepare(messages, candidate):
        prepared.append(candidate.model)
        if failed_before and candidate.model == "first":
            return messages
        raise error

    llm, backup = of_two(ScriptedLLM(model="first", replies=[TimeoutError()]), prepare_messages=prepare)
    if recording_door.shape == "completion":
        return  # has no messages
    with pytest.raises(ConnectionError) as raised:
        await recording_door(llm)
    assert raised.value is error
    assert prepared == (["first", "backup"] if failed_before else ["first"])
    assert not backup.calls
