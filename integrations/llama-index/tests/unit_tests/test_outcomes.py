"""Every call is logged, once, whatever the door and whatever becomes of it; and feedback finds its way back."""

import asyncio
import gc

import numpy as np
import pytest
from llama_index.core import PromptTemplate
from llama_index.core.llms import ChatMessage, ChatResponse, CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.llms.callbacks import llm_completion_callback

from agentroute.errors import ConfigError, DataError, OutcomeDroppedWarning
from agentroute.outcomes import MemoryOutcomeLog
from agentroute.types import Candidate, Decision, Fingerprint, ModelCard, Paradigm, Price, Query
from llama_index.llms.agentroute import RoutedLLM
from llama_index.llms.agentroute.testing import ScriptedLLM

# LlamaIndex's StructuredLLM writes its streams with a method of pydantic's old ones.
pytestmark = pytest.mark.filterwarnings("ignore:The `json` method is deprecated:pydantic.warnings.PydanticDeprecatedSince20")

FINGERPRINT = Fingerprint(name="test", revision="1", dimension=3)
CARDS = [ModelCard(id="small", price=Price(input=100, output=200, cache_read=10))]
COST = (10 * 100 + 5 * 200) / 1e6


class EmbeddingRouter:
    """Chooses the small model, and embeds."""

    def embed(self, query):
        return Query(text=query.text, role=query.role, embedding=np.array([1, 0, 0], np.float32), fingerprint=FINGERPRINT)

    def route(self, query):
        paradigm = Paradigm(when="pre-generation", what=("embedding",), how="lookup")
        candidates = (Candidate(model="small"), Candidate(model="large"))
        return Decision(model="small", candidates=candidates, reason="", propensity=0.75, paradigm=paradigm)


@pytest.fixture
def log():
    return MemoryOutcomeLog()


@pytest.fixture
def logged(team, log):
    llm = team.routed(router=EmbeddingRouter(), outcome_log=log, cards=CARDS)
    yield llm
    llm.outcome_log.close()


def outcomes(llm, log):
    assert llm.outcome_log.flush(10)
    return list(log)


def say(text="one two three"):
    return [ChatMessage(text)]


# --- one outcome for each call ---


async def test_every_door_logs_its_call_once_with_tokens_and_cost(door, logged, log):
    """Also those that give a text or an object: what the calls within took is heard there."""
    answer = await door(logged.for_role("writer"), "x y 3 4")
    (outcome,) = outcomes(logged, log)
    assert outcome.model == "small"
    assert (outcome.usage.input_tokens, outcome.usage.output_tokens) == (10, 5)
    assert outcome.cost == pytest.approx(COST)
    assert outcome.latency > 0
    assert (outcome.error, outcome.quality, outcome.attempt, outcome.propensity) == (None, None, 0, 0.75)
    assert outcome.metadata == {}
    assert outcome.at.tzinfo is not None
    assert (outcome.query.text, outcome.query.role) == ("x y 3 4", "writer")
    np.testing.assert_array_equal(outcome.query.embedding, [1, 0, 0])
    assert outcome.query.fingerprint == FINGERPRINT
    if door.records:
        record = door.record(answer)
        assert outcome.decision_id == record["decision_id"]
        if not door.streams:
            assert record["attempts"][0]["cost"] == pytest.approx(COST)


async def test_every_attempt_is_logged_once(door, logged, log, team):
    team.small.replies = [TimeoutError("late")]
    await door(logged)
    first, second = outcomes(logged, log)
    assert (first.model, first.error, first.attempt, first.propensity) == ("small", "TimeoutError", 0, 0.75)
    assert (first.usage, first.cost) == (None, None)
    assert first.latency > 0
    assert (second.model, second.error, second.attempt, second.propensity) == ("large", None, 1, None)
    assert second.cost is None, "a price that is not known is not zero"
    assert first.decision_id == second.decision_id


async def test_errors_that_reach_the_caller_are_logged(door, logged, log, team):
    team.small.replies = [ValueError("a mistake")]
    with pytest.raises(ValueError, match="a mistake"):
        await door(logged)
    (outcome,) = outcomes(logged, log)
    assert (outcome.model, outcome.error, outcome.usage) == ("small", "ValueError", None)


async def test_an_object_that_could_not_be_made_has_cost_something(object_door, logged, log, team):
    """The model answered, and was paid; of what it said no object could be made."""
    team.small.replies = ["no tool is called"]
    if object_door.streams:
        return  # LlamaIndex gives blank objects there
    with pytest.raises(ValueError, match="tool call"):
        await object_door(logged)
    (outcome,) = outcomes(logged, log)
    assert (outcome.error, outcome.usage.input_tokens) == ("ValueError", 10)
    assert outcome.cost == pytest.approx(COST)


# --- streams and tasks that end early ---


async def test_a_stream_that_breaks_late(recording_stream, logged, log, team):
    team.small.break_after = 1
    with pytest.raises(ConnectionError):
        await recording_stream.items(logged)
    (outcome,) = outcomes(logged, log)
    assert (outcome.model, outcome.error, outcome.usage) == ("small", "ConnectionError", None)


async def test_a_stream_that_is_left_early(stream_door, logged, log):
    """That the reader had enough is no failure of the model, and no whole answer either."""
    if stream_door.shape == "structured":
        return  # LlamaIndex's own generator around ours
    opened = stream_door.opened(logged, "one 2 3", {})
    if stream_door.awaits:
        opened = await opened
        await anext(opened)
    else:
        next(opened)
    assert not outcomes(logged, log), "a stream is logged when it ends"
    await opened.aclose() if stream_door.awaits else opened.close()
    (outcome,) = outcomes(logged, log)
    assert (outcome.error, outcome.latency, outcome.usage, outcome.metadata) == (None, None, None, {"interrupted": True})


async def test_a_stream_that_is_never_read(stream_door, logged, log):
    if stream_door.shape == "structured":
        return
    opened = stream_door.opened(logged, "one 2 3", {})
    if stream_door.awaits:
        opened = await opened
        await opened.aclose()
    del opened
    (outcome,) = outcomes(logged, log)
    assert outcome.metadata == {"interrupted": True}


async def test_a_cancelled_task(logged, log, team):
    team.small.delay = 30
    task = asyncio.ensure_future(logged.achat(say()))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (outcome,) = outcomes(logged, log)
    assert (outcome.error, outcome.latency, outcome.metadata) == (None, None, {"interrupted": True})


async def test_a_cancelled_reader_of_a_stream(logged, log):
    async def read():
        async for _ in await logged.astream_chat(say()):
            await asyncio.sleep(30)

    task = asyncio.ensure_future(read())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    gc.collect()
    await asyncio.sleep(0.01)
    (outcome,) = outcomes(logged, log)
    assert outcome.metadata == {"interrupted": True}


# --- tokens and cost ---


async def test_tokens_of_all_calls_within_one_are_added_up(logged, log, team):
    """A candidate may ask more than once for one object, as those do that have it mended."""

    class Mends(ScriptedLLM):
        def predict(self, prompt, **prompt_args):
            self.chat(say())
            self.complete("and again")
            return super().predict(prompt, **prompt_args)

    logged.llms = {"small": Mends(model="small"), "large": team.large}
    logged.predict(PromptTemplate("hi"))
    (outcome,) = outcomes(logged, log)
    assert (outcome.usage.input_tokens, outcome.usage.output_tokens) == (30, 15)
    assert outcome.cost == pytest.approx(3 * COST)


async def test_unknown_tokens_within_make_the_sum_unknown(logged, log, team):
    class HalfTold(ScriptedLLM):
        def predict(self, prompt, **prompt_args):
            self.chat(say())
            object.__setattr__(self, "input_tokens", None)
            return super().predict(prompt, **prompt_args)

    logged.llms = {"small": HalfTold(model="small"), "large": team.large}
    logged.predict(PromptTemplate("hi"))
    (outcome,) = outcomes(logged, log)
    assert (outcome.usage, outcome.cost) == (None, None)


class Completes(CustomLLM):
    """LlamaIndex's own base for simple LLMs: its `chat` is a `complete`, and asynchronous calls are synchronous ones."""

    @property
    def metadata(self):
        return LLMMetadata(model_name="custom", context_window=8_000)

    @llm_completion_callback()
    def complete(self, prompt, formatted=False, **kwargs):
        return CompletionResponse(text="yes", raw={"usage": {"prompt_tokens": 10, "completion_tokens": 5}})

    @llm_completion_callback()
    def stream_complete(self, prompt, formatted=False, **kwargs):
        def chunks():
            yield CompletionResponse(text="yes", delta="yes")
            yield self._last()

        return chunks()

    def _last(self):
        return CompletionResponse(text="yes", delta="", raw={"usage": {"prompt_tokens": 10, "completion_tokens": 5}})


@pytest.mark.parametrize("method", ["chat", "achat", "stream_chat", "astream_chat", "complete", "acomplete"])
async def test_a_call_that_is_made_of_another_one_counts_once(method, logged, log):
    logged.router = None
    logged.llms = {"small": Completes()}
    found = getattr(logged, method)("x" if "complete" in method else say())
    found = await found if method.startswith("a") else found
    if "stream" in method:
        _ = [item async for item in found] if method.startswith("a") else list(found)
    (outcome,) = outcomes(logged, log)
    assert (outcome.usage.input_tokens, outcome.usage.output_tokens) == (10, 5)


@pytest.mark.parametrize(
    ("usage", "expected", "cost"),
    [
        (None, None, None),
        ({"prompt_tokens": 10}, None, None),
        ({"prompt_tokens": 10, "completion_tokens": 0}, (10, 0, 0), 1e-3),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 8}},
            (10, 5, 8),
            (2 * 100 + 8 * 10 + 5 * 200) / 1e6,
        ),
    ],
)
def test_tokens_are_never_guessed(usage, expected, cost, logged, log, team):
    team.small.replies = [ChatResponse(message=ChatMessage("yes", role="assistant"), raw={"usage": usage})]
    logged.chat(say())
    (outcome,) = outcomes(logged, log)
    found = outcome.usage and (outcome.usage.input_tokens, outcome.usage.output_tokens, outcome.usage.cache_read_tokens)
    assert found == expected
    assert outcome.cost == (None if cost is None else pytest.approx(cost))


def test_a_stream_tells_its_tokens_on_a_chunk_of_its_own(logged, log, team):
    """As OpenAI's do; and the chunk may be the last but one."""

    class Early(ScriptedLLM):
        def _chunks(self, response):
            *words, last = super()._chunks(response)
            yield from [*words[:1], last, *words[1:]]

    logged.llms = {"small": Early(model="small"), "large": team.large}
    list(logged.stream_chat(say()))
    (outcome,) = outcomes(logged, log)
    assert outcome.usage.input_tokens == 10


def test_a_routed_llm_within_a_routed_llm_logs_where_it_has_a_log(team):
    inner_log, outer_log = MemoryOutcomeLog(), MemoryOutcomeLog()
    inner = team.routed(outcome_log=inner_log)
    outer = RoutedLLM(llms={"inner": inner, "other": ScriptedLLM(model="other")}, outcome_log=outer_log)
    answer = outer.chat(say("x"))
    record = answer.additional_kwargs["agentroute"]
    assert (record["answered_by"], record["via"]["answered_by"]) == ("inner", "small")
    for llm, log, model in ((inner, inner_log, "small"), (outer, outer_log, "inner")):
        (outcome,) = outcomes(llm, log)
        assert (outcome.model, outcome.usage.input_tokens) == (model, 10)


# --- logs that fail ---


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_log_that_fails_costs_no_answer(asynchronous, team):
    class Broken:
        def append(self, outcome):
            raise OSError("the disk is full")

    llm = team.routed(outcome_log=Broken())
    answer = await llm.achat(say("x")) if asynchronous else llm.chat(say("x"))
    assert answer.message.content == "[small] answer to: x"
    with pytest.warns(OutcomeDroppedWarning, match="disk is full"):
        llm.outcome_log.close()


# --- feedback ---


async def test_feedback_by_answer_and_by_id(recording_door, logged, log):
    answer = await recording_door(logged)
    assert logged.record_feedback(answer, 0.25, source="thumbs")
    decision = recording_door.record(answer)["decision_id"]
    (outcome,) = outcomes(logged, log)
    assert outcome.quality == 0.25
    assert logged.record_feedback(decision, 0.75)
    (outcome,) = outcomes(logged, log)
    assert outcome.quality == 0.5, "the mean of both"


def test_feedback_for_doors_without_a_record_by_the_id_in_the_events(logged, log, events):
    logged.predict(PromptTemplate("hi"))
    (event,) = events.routed
    assert logged.record_feedback(event.decision_id, 1.0)
    (outcome,) = outcomes(logged, log)
    assert outcome.quality == 1.0


def test_feedback_that_cannot_be_placed(logged, team):
    answer = logged.chat(say())
    with pytest.raises(DataError):
        logged.record_feedback(answer, 1.5)
    with pytest.raises(ConfigError, match="record"):
        logged.record_feedback(team.small.chat(say()), 1.0)
    with pytest.raises(ConfigError, match="outcome_log"):
        team.routed().record_feedback(answer, 1.0)
