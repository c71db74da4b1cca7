"""Messages as scorers read them, and models as judges."""

import datetime as dt
import math

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from pydantic import BaseModel

from agentroute.cascades import problem_of
from agentroute.errors import ConfigError
from agentroute.scorers import Asker, LLMJudge, RegexCheck, SelfConsistency, VerbalisedConfidence
from agentroute.types import Price, Query, Reply, ToolCall, Usage
from langchain_agentroute import CascadeChatModel, asker, routing_decision
from langchain_agentroute._replies import as_chunk, reply_of
from langchain_agentroute.testing import ScriptedChatModel

CONTENT = [
    {"token": "Li", "logprob": -0.5, "top_logprobs": [{"token": "Li", "logprob": -0.5}, {"token": "Cu", "logprob": -1.0}]},
    {"token": "ma", "logprob": 1e-7, "top_logprobs": []},
]
COMPLETIONS = {"tokens": ["Li", "ma"], "token_logprobs": [-0.5, 0.0], "top_logprobs": [{"Li": -0.5, "Cu": -1.0}, None]}


@pytest.mark.parametrize("told", [{"logprobs": {"content": CONTENT}}, {"logprobs": CONTENT}, {"logprobs": COMPLETIONS}])
def test_logprobs_of_every_shape(told):
    first, second = reply_of(AIMessage("Lima", response_metadata=told)).tokens
    assert (first.token, first.logprob, dict(first.top)) == ("Li", -0.5, {"Li": -0.5, "Cu": -1.0})
    assert (second.token, second.logprob, dict(second.top)) == ("ma", 0.0, {})


@pytest.mark.parametrize(
    "told", [{}, {"logprobs": None}, {"logprobs": {"content": []}}, {"logprobs": {"content": None}}, {"logprobs": "x"}]
)
def test_no_logprobs(told):
    assert reply_of(AIMessage("Lima", response_metadata=told)).tokens is None


@pytest.mark.parametrize("name", ["finish_reason", "stop_reason", "done_reason", "stopReason", "status"])
def test_finish(name):
    assert reply_of(AIMessage("x", response_metadata={name: "length", "model_provider": "openai"})) == Reply(
        text="x", finish="length"
    )


def test_length_is_no_problem_and_no_end_is_one_where_there_always_is_one():
    assert problem_of(reply_of(AIMessage("x", response_metadata={"model_provider": "ours"}))) is None
    assert "broke off" in problem_of(reply_of(AIMessage("x", response_metadata={"model_provider": "anthropic"})))


def test_tool_calls_and_broken_ones():
    message = AIMessage(
        "",
        tool_calls=[{"name": "f", "args": {"a": 1}, "id": "1"}],
        invalid_tool_calls=[{"name": "g", "args": "{", "id": "2", "error": "cut"}],
        usage_metadata={"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
    )
    reply = reply_of(message, cost=0.5, latency=2.0)
    assert reply.tool_calls == (ToolCall(name="f", arguments={"a": 1}), ToolCall(name="g", problem="cut"))
    assert (reply.usage, reply.cost, reply.latency) == (Usage(input_tokens=3, output_tokens=4), 0.5, 2.0)


def test_structured_answers():
    raw = AIMessage('{"n": 1}')
    assert reply_of({"raw": raw, "parsed": {"n": 1}, "parsing_error": None}, schema=True).parsed == {"n": 1}
    reply = reply_of({"raw": raw, "parsed": None, "parsing_error": ValueError("secret")}, schema=True)
    assert reply.problem == "the answer does not fit the schema: ValueError", "an error's text may quote the answer"
    assert reply_of({"raw": raw, "parsed": None, "parsing_error": None}, schema=True).problem
    assert reply_of({"n": 1}, schema=True).parsed == {"n": 1}
    assert reply_of(None, schema=True).problem


class City(BaseModel):
    city: str
    founded: dt.date | None = None


LIMA = City(city="Lima", founded=dt.date(1535, 1, 18))


@pytest.mark.parametrize(
    ("parsed", "text"),
    [
        (LIMA, '{"city":"Lima","founded":"1535-01-18"}'),
        ({"city": "Iași"}, '{"city": "Iași"}'),
        ({"cities": [LIMA]}, '{"cities": [{"city": "Lima", "founded": "1535-01-18"}]}'),
        ({"on": dt.date(1535, 1, 18)}, '{"on": "1535-01-18"}'),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        ([], "[]"),
        (False, "false"),
    ],
)
def test_an_object_that_a_tool_call_brought_is_the_text_too(parsed, text):
    """Or else whoever reads the text judges an empty answer, whatever the object holds."""
    raw = AIMessage("\n", tool_calls=[{"name": "City", "args": {}, "id": "1"}])
    for answer in (parsed, {"raw": raw, "parsed": parsed, "parsing_error": None}):
        reply = reply_of(answer, schema=True)
        assert (reply.text, reply.parsed, reply.problem) == (text, parsed, None)


def test_what_a_model_wrote_is_the_text_and_no_object_is_none():
    raw = AIMessage("Here: { }")
    assert reply_of({"raw": raw, "parsed": LIMA, "parsing_error": None}, schema=True).text == "Here: { }"
    assert reply_of({"raw": AIMessage(""), "parsed": None, "parsing_error": None}, schema=True).text == ""
    assert reply_of(None, schema=True).text == ""
    # Pictures are no object that was asked for, and their bytes are no text.
    assert reply_of(AIMessage([{"type": "image", "base64": "AA==", "mime_type": "image/png"}])).text == ""


@pytest.mark.parametrize(
    "judge",
    [
        LLMJudge(lambda prompt: '{"score": 9}' if "Lima" in prompt else '{"score": 0}'),
        VerbalisedConfidence(lambda prompt: "90%" if "Lima" in prompt else "0%"),
        RegexCheck("Lima"),
        lambda reply: "Lima" in reply.text,
    ],
    ids=["judge", "confidence", "regex", "function"],
)
def test_a_judge_of_texts_sees_the_object_and_the_cascade_stops(judge):
    call = AIMessage("", tool_calls=[{"name": "City", "args": {"city": "Lima"}, "id": "1"}])
    models = {name: ScriptedChatModel(model_name=name, replies=[call]) for name in ("small", "large")}
    cascade = CascadeChatModel(models=models, judge=judge).with_structured_output(City, include_raw=True)
    answer = cascade.invoke("Capital of Peru?")
    assert answer["parsed"] == City(city="Lima")
    assert routing_decision(answer["raw"])["answered_by"] == "small"


def test_pictures_are_an_answer_and_thoughts_alone_are_none():
    picture = [{"type": "image", "base64": "AA==", "mime_type": "image/png"}]
    assert problem_of(reply_of(AIMessage(picture))) is None
    assert problem_of(reply_of(AIMessage([{"type": "reasoning", "reasoning": "hm"}]))) == "the answer is empty"


def test_a_message_as_a_chunk_is_the_same_message():
    message = AIMessage(
        "x",
        id="1",
        tool_calls=[{"name": "f", "args": {"a": 1}, "id": "1"}],
        response_metadata={"model_name": "m"},
        usage_metadata={"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
    )
    chunk = as_chunk(message)
    assert isinstance(chunk, AIMessageChunk)
    assert chunk.chunk_position == "last"
    for name in ("content", "id", "tool_calls", "response_metadata", "usage_metadata"):
        assert getattr(chunk, name) == getattr(message, name)
    assert as_chunk(chunk) is chunk


class Settings(ScriptedChatModel):
    """A model with a provider's usual fields, which says how it was set."""

    temperature: float | None = None
    num_predict: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        result = super()._generate(messages, stop, run_manager, **kwargs)
        told = f"{self.temperature} {self.num_predict} {self.logprobs} {kwargs}"
        result.generations[0].message.content = told
        return result

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        return self._generate(messages, stop, None, **kwargs)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_asker_sets_what_a_scorer_asks_for(asynchronous):
    chat = Settings(model_name="judge")
    asked = asker(chat.bind(seed=1), price=Price(input=1.0, output=2.0))
    assert isinstance(asked, Asker)
    options = {"samples": 3, "max_tokens": 9, "temperature": 0.7, "logprobs": True}
    replies = await asked.aask("?", **options) if asynchronous else asked.ask("?", **options)
    assert [reply.text for reply in replies] == ["0.7 9 True {'seed': 1}"] * 3
    assert all(math.isclose(reply.cost, 20e-6) for reply in replies)
    assert (chat.temperature, chat.logprobs) == (None, None)
    assert [message.text for message in chat.asked[0][0]] == ["?"]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_asker_judges(asynchronous):
    judge = LLMJudge(asker(ScriptedChatModel(replies=['{"score": 8}'])))
    query, reply = Query(text="Capital of Peru?"), Reply(text="Lima")
    score = await judge.ascore(query, reply) if asynchronous else judge.score(query, reply)
    assert (score.value, score.cost) == (0.8, None), "nobody has told the price"
    assert SelfConsistency(asker(ScriptedChatModel(replies=["Lima"] * 5))).score(query, reply).value == 1.0


def test_only_chat_models_answer():
    with pytest.raises(ConfigError, match="is no chat model"):
        asker(lambda prompt: "x")
    assert repr(asker(ScriptedChatModel(model_name="judge"))) == "asker(judge)"


def test_a_sound_beside_the_content_is_no_empty_answer():
    assert problem_of(reply_of(AIMessage("", additional_kwargs={"audio": {"id": "1"}}))) is None
