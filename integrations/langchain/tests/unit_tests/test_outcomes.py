"""Every call is logged, once, whatever becomes of it; and feedback finds its way back."""

import asyncio

import numpy as np
import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from pydantic import BaseModel

from agentroute.errors import ConfigError, OutcomeDroppedWarning
from agentroute.outcomes import MemoryOutcomeLog, QueuedOutcomeLog, SqliteOutcomeLog
from agentroute.router import Router
from agentroute.types import Candidate, Decision, Fingerprint, ModelCard, Paradigm, Price, Query
from langchain_agentroute import RoutedChatModel, routing_decision
from langchain_agentroute.testing import ScriptedChatModel

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

WAYS = ["invoke", "ainvoke", "stream", "astream", "batch", "abatch", "generate", "agenerate", "v3", "av3"]
FINGERPRINT = Fingerprint(name="test", revision="1", dimension=3)
CARDS = [ModelCard(id="small", price=Price(input=100, output=200, cache_read=10))]


class EmbeddingRouter:
    """Chooses the small model, and embeds."""

    embedded = 0

    def embed(self, query):
        self.embedded += 1
        return Query(text=query.text, embedding=np.array([1, 0, 0], np.float32), fingerprint=FINGERPRINT)

    def route(self, query):
        paradigm = Paradigm(when="pre-generation", what=("embedding",), how="lookup")
        candidates = (Candidate(model="small"), Candidate(model="large"))
        return Decision(model="small", candidates=candidates, reason="", propensity=0.75, paradigm=paradigm)


@pytest.fixture
def log(tmp_path):
    with SqliteOutcomeLog(tmp_path / "log.db", store_prompts=True) as log:
        yield log


@pytest.fixture
def logged(small, large, log):
    model = RoutedChatModel(models=[small, large], router=EmbeddingRouter(), outcome_log=log, cards=CARDS)
    yield model
    model.outcome_log.close()


def outcomes(model, log):
    assert model.outcome_log.flush(10)
    return list(log)


@pytest.mark.parametrize("way", WAYS)
async def test_every_call_is_logged_once(way, logged, log, collect):
    message = await collect(way, logged, "x y")
    (outcome,) = outcomes(logged, log)
    assert outcome.model == "small"
    assert (outcome.usage.input_tokens, outcome.usage.output_tokens) == (10, 5)
    assert outcome.cost == pytest.approx((10 * 100 + 5 * 200) / 1e6)
    assert outcome.latency > 0
    assert outcome.error is None
    assert outcome.quality is None
    assert outcome.attempt == 0
    assert outcome.propensity == 0.75
    assert outcome.decision_id == routing_decision(message)["decision_id"]
    assert outcome.at.tzinfo is not None
    assert outcome.query.text == "x y"
    np.testing.assert_array_equal(outcome.query.embedding, [1, 0, 0])
    assert outcome.query.fingerprint == FINGERPRINT


@pytest.mark.parametrize("way", WAYS)
async def test_every_attempt_is_logged_once(way, logged, log, small, collect):
    small.replies = [TimeoutError("late")]
    await collect(way, logged, "x")
    first, second = outcomes(logged, log)
    assert (first.model, first.error, first.attempt, first.propensity) == ("small", "TimeoutError", 0, 0.75)
    assert first.usage is None
    assert first.cost is None
    assert first.latency > 0
    assert (second.model, second.error, second.attempt, second.propensity) == ("large", None, 1, None)
    assert second.cost is None, "a price that is not known is not zero"
    assert first.decision_id == second.decision_id


@pytest.mark.parametrize("way", ["stream", "astream", "v3", "av3"])
async def test_stream_that_breaks_late(way, logged, log, small, collect):
    small.break_after = 2
    with pytest.raises(ConnectionError):
        await collect(way, logged, "one two three")
    (outcome,) = outcomes(logged, log)
    assert (outcome.model, outcome.error) == ("small", "ConnectionError")


def test_stream_that_is_closed_early(logged, log):
    stream = logged.stream("one two three")
    next(stream)
    assert not outcomes(logged, log), "a stream is logged when it ends"
    stream.close()
    (outcome,) = outcomes(logged, log)
    assert outcome.error is None, "that the reader had enough is no failure of the model"
    assert outcome.latency is None
    assert outcome.usage is None
    assert outcome.metadata == {"interrupted": True}


async def test_stream_that_is_closed_early_async(logged, log):
    stream = logged.astream("one two three")
    await anext(stream)
    await stream.aclose()
    (outcome,) = outcomes(logged, log)
    assert (outcome.error, outcome.latency, outcome.metadata) == (None, None, {"interrupted": True})


async def test_events_that_are_closed_early(logged, log):
    stream = await logged.astream_events("one two three", version="v3")
    async with stream:
        async for _ in stream.text:
            break
    (outcome,) = outcomes(logged, log)
    assert outcome.model == "small"


class Finishing(ScriptedChatModel):
    """Ends as OpenAI does: a chunk says that the answer is whole, and one with the usage follows."""

    def _stream(self, *args, **kwargs):
        yield ChatGenerationChunk(message=AIMessageChunk("one"))
        yield ChatGenerationChunk(message=AIMessageChunk("two"))
        yield ChatGenerationChunk(message=AIMessageChunk("", response_metadata={"finish_reason": "stop"}))
        usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
        yield ChatGenerationChunk(message=AIMessageChunk("", usage_metadata=usage, chunk_position="last"))


class TestReaderWhoLeavesAtTheEnd:
    """The answer was whole: that counts as a success, with its latency."""

    @pytest.mark.parametrize(("read", "whole", "tokens"), [(2, False, None), (3, True, None), (4, True, 5)])
    @pytest.mark.parametrize("way", ["stream", "astream"])
    async def test_of_chunks(self, way, read, whole, tokens, log):
        model = RoutedChatModel(models={"a": Finishing()}, outcome_log=log)
        if way == "stream":
            stream = model.stream("x")
            for _ in range(read):
                next(stream)
            stream.close()
        else:
            stream = model.astream("x")
            for _ in range(read):
                await anext(stream)
            await stream.aclose()
        (outcome,) = outcomes(model, log)
        model.outcome_log.close()
        assert (outcome.latency is not None, outcome.error) == (whole, None)
        assert outcome.metadata == ({} if whole else {"interrupted": True})
        assert (outcome.usage and outcome.usage.output_tokens) == tokens

    @pytest.mark.parametrize("whole", [True, False])
    def test_of_events(self, whole, log):
        """The event loop ends while the model's run cannot, though its answer has come, or while the answer has not."""

        class Endless(AsyncCallbackHandler):
            async def on_llm_end(self, *args, **kwargs):
                await asyncio.Event().wait()

        class Halting(ScriptedChatModel):
            async def _astream(self, *args, **kwargs):
                yield ChatGenerationChunk(message=AIMessageChunk("one"))
                await asyncio.Event().wait()

        model = RoutedChatModel(models={"a": ScriptedChatModel() if whole else Halting()}, outcome_log=log)

        async def read():
            stream = await model.astream_events("x", {"callbacks": [Endless()]}, version="v3")
            async for event in stream:
                if event["event"] == ("message-finish" if whole else "content-block-delta"):
                    break

        asyncio.run(read())
        (outcome,) = outcomes(model, log)
        model.outcome_log.close()
        assert (outcome.latency is not None, outcome.error) == (whole, None)
        assert outcome.metadata == ({} if whole else {"interrupted": True})

    def test_failure_after_the_end_is_one(self, log):
        class Late(Finishing):
            def _stream(self, *args, **kwargs):
                yield ChatGenerationChunk(message=AIMessageChunk("one", response_metadata={"finish_reason": "stop"}))
                raise ConnectionError

        model = RoutedChatModel(models={"a": Late()}, outcome_log=log)
        with pytest.raises(ConnectionError):
            list(model.stream("x"))
        (outcome,) = outcomes(model, log)
        model.outcome_log.close()
        assert outcome.error == "ConnectionError"


async def test_cancelled_call(log):
    started = asyncio.Event()

    class Slow(ScriptedChatModel):
        async def _agenerate(self, *args, **kwargs):
            started.set()
            await asyncio.Event().wait()

    model = RoutedChatModel(models={"slow": Slow()}, outcome_log=log)
    task = asyncio.ensure_future(model.ainvoke("x"))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (outcome,) = outcomes(model, log)
    assert (outcome.error, outcome.latency, outcome.metadata) == (None, None, {"interrupted": True})
    model.outcome_log.close()


class Joke(BaseModel):
    """A joke."""

    setup: str


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
@pytest.mark.parametrize("include_raw", [True, False])
async def test_structured_output_has_its_usage(way, include_raw, logged, log):
    structured = logged.with_structured_output(Joke, include_raw=include_raw)
    if way == "invoke":
        structured.invoke("x")
    elif way == "ainvoke":
        await structured.ainvoke("x")
    elif way == "stream":
        list(structured.stream("x"))
    else:
        [one async for one in structured.astream("x")]
    (outcome,) = outcomes(logged, log)
    assert (outcome.usage.input_tokens, outcome.usage.output_tokens) == (10, 5)


def test_cached_tokens(logged, log, small):
    usage = {"input_tokens": 100, "output_tokens": 1, "total_tokens": 101, "input_token_details": {"cache_read": 80}}
    small.replies = [AIMessage("x", usage_metadata=usage)]
    logged.invoke("x")
    (outcome,) = outcomes(logged, log)
    assert outcome.usage.cache_read_tokens == 80
    assert outcome.cost == pytest.approx((20 * 100 + 80 * 10 + 200) / 1e6)


@pytest.mark.parametrize(
    ("details", "read", "written"),
    [
        ({"cache_read": 30, "cache_creation": 0, "ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 10}, 30, 50),
        ({"cache_read": 30, "cache_creation": 50}, 30, 50),
        ({"flex_cache_read": 30, "flex_cache_creation": 20, "flex": 50}, 30, 20),
        ({"priority_cache_read": 30, "priority": 70}, 30, 0),
    ],
)
def test_cached_tokens_under_every_name(details, read, written, small, log):
    usage = {"input_tokens": 100, "output_tokens": 2, "total_tokens": 102, "input_token_details": details}
    small.replies = [AIMessage("x", usage_metadata=usage)]
    card = ModelCard(id="small", price=Price(input=1_000, output=5_000, cache_read=100, cache_write=1_250))
    model = RoutedChatModel(models=[small], outcome_log=log, cards=[card])
    model.invoke("x")
    (outcome,) = outcomes(model, log)
    model.outcome_log.close()
    assert (outcome.usage.cache_read_tokens, outcome.usage.cache_write_tokens) == (read, written)
    plain = 100 - read - written
    assert outcome.cost == pytest.approx((plain * 1_000 + read * 100 + written * 1_250 + 2 * 5_000) / 1e6)


def test_answers_from_the_candidate_s_cache_teach_no_cost_and_no_latency(logged, log, small):
    small.cache = InMemoryCache()
    logged.invoke("x")
    message = logged.invoke("x")
    called, cached = outcomes(logged, log)
    assert called.cost > 0
    assert (cached.cost, cached.latency, cached.metadata) == (None, None, {"cached": True})
    assert routing_decision(message)["attempts"][0]["cost"] == 0, "though it did cost nothing"


def test_usage_that_makes_no_sense_makes_the_cost_unknown(logged, log, small):
    usage = {"input_tokens": 1, "output_tokens": 0, "total_tokens": 1, "input_token_details": {"cache_read": 80}}
    small.replies = [AIMessage("x", usage_metadata=usage)]
    assert logged.invoke("x").text == "x"
    (outcome,) = outcomes(logged, log)
    assert outcome.cost is None


def test_forced_calls_are_embedded_for_the_log(logged, log):
    logged.invoke("x", model="large")
    (outcome,) = outcomes(logged, log)
    assert outcome.query.embedding is not None
    assert outcome.propensity == 1


@pytest.mark.parametrize("way", WAYS)
async def test_embedding_that_fails_only_for_the_log_is_no_fallback(way, small, large, log, collect):
    router = EmbeddingRouter()
    router.embed = lambda _: 1 / 0
    logged = RoutedChatModel(models=[small, large], router=router, outcome_log=log)
    with pytest.warns(OutcomeDroppedWarning, match="without an embedding: ZeroDivisionError"):
        message = await collect(way, logged, "x", model="large")
    record = routing_decision(message)
    assert (record["answered_by"], record["by"], record["fallback"]) == ("large", "forced", False)
    (outcome,) = outcomes(logged, log)
    logged.outcome_log.close()
    assert outcome.query.embedding is None


class TestRoutersThatDoNotEmbed:
    """Without an embedding nothing could be learned from their outcomes, and the log keeps no texts by default."""

    @pytest.mark.parametrize("router", [None, lambda query: "small" if "sum" in query.text else "large"])
    def test_a_router_can_be_fitted_from_their_log(self, router, small, large, tmp_path):
        with SqliteOutcomeLog(tmp_path / "plain.db") as log:
            model = RoutedChatModel(models=[small, large], router=router, outcome_log=log)
            for n in range(40):
                topic, best = ("the sum of numbers", "small") if n % 5 else ("a poem about love", "large")
                answer = model.invoke(f"{topic} {n}", **({} if router else {"model": best}))
                model.record_feedback(answer, 1.0)
            assert len(outcomes(model, log)) == 40
            model.outcome_log.close()
            fitted = Router(["small", "large"]).fit(log)
        assert fitted.fitted
        decision = fitted.route("the sum of numbers 7")
        assert decision.by == "policy"
        # The vectors that were logged are those that the router makes of the same words.
        (nearest, *_) = fitted.explain("the sum of numbers 7").neighbours
        assert nearest.similarity == pytest.approx(1, abs=1e-3)

    async def test_embedder_that_fails_costs_no_answer(self, small, log, monkeypatch):
        def broken(_):
            raise OSError("no table")

        monkeypatch.setattr("agentroute.embedders.as_embedder", broken)
        model = RoutedChatModel(models=[small], router=lambda _: "small", outcome_log=log)
        with pytest.warns(OutcomeDroppedWarning, match="without an embedding: OSError: no table"):
            record = routing_decision(await model.ainvoke("x"))
        assert (record["by"], record["fallback"]) == ("policy", False)
        (outcome,) = outcomes(model, log)
        model.outcome_log.close()
        assert outcome.query.embedding is None

    def test_nothing_is_embedded_without_a_log(self, small, monkeypatch):
        monkeypatch.setattr("agentroute.embedders.as_embedder", lambda _: 1 / 0)
        assert RoutedChatModel(models=[small], router=lambda _: "small").invoke("x").text.startswith("[small]")


def test_without_a_log_forced_calls_are_not_embedded(small, large):
    router = EmbeddingRouter()
    RoutedChatModel(models=[small, large], router=router).invoke("x", model="large")
    assert router.embedded == 0


def test_queue_in_front_is_made_once(small, log):
    queued = QueuedOutcomeLog(log)
    model = RoutedChatModel(models=[small], outcome_log=queued)
    assert model.outcome_log is queued
    assert RoutedChatModel(models=[small], outcome_log=model.outcome_log).outcome_log is queued
    queued.close()


def test_log_that_refuses_costs_no_answer(small):
    class Refusing(QueuedOutcomeLog):
        def append(self, outcome):
            raise OSError("disk full")

    refusing = Refusing(MemoryOutcomeLog())
    with pytest.warns(OutcomeDroppedWarning, match="disk full"):
        assert RoutedChatModel(models=[small], outcome_log=refusing).invoke("x").text.startswith("[small]")
    refusing.close()


class TestFeedback:
    def test_by_message(self, logged, log):
        message = logged.invoke("x")
        assert logged.record_feedback(message, 1.0, idempotency_key="once") is True
        logged.record_feedback(message, 0.0, idempotency_key="once")
        assert [outcome.quality for outcome in outcomes(logged, log)] == [1.0]

    def test_by_id_and_by_chunks(self, logged, log):
        chunks = list(logged.stream("x"))
        logged.record_feedback(chunks[0] + chunks[1:], 0.5, source="judge")
        logged.record_feedback(routing_decision(chunks[0])["decision_id"], 1.0)
        assert [outcome.quality for outcome in outcomes(logged, log)] == [0.75]

    def test_foreign_message(self, logged):
        with pytest.raises(ConfigError, match="routing record"):
            logged.record_feedback(AIMessage("x"), 1.0)

    @pytest.mark.parametrize("text", ["", "Paris", "The capital of France is Paris.", "a" * 129, "0123456789abcdef\n"])
    def test_text_that_is_no_id(self, logged, log, text):
        logged.invoke("x")
        with pytest.raises(ConfigError, match=r"no decision id: pass the answer itself, or .* such as a parser"):
            logged.record_feedback(text, 1.0)

    def test_id_of_a_router_of_ones_own(self, logged):
        assert logged.record_feedback("run-2025.11:04_7", 1.0) is True

    def test_no_log(self, small):
        model = RoutedChatModel(models=[small])
        with pytest.raises(ConfigError, match="outcome_log"):
            model.record_feedback(model.invoke("x"), 1.0)
