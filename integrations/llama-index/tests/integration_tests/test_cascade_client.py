"""Cascades over LlamaIndex's real OpenAI-compatible client, with real faults on the wire."""

import time

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from agentroute.outcomes import MemoryOutcomeLog
from agentroute.scorers import LLMJudge, LogprobScorer
from agentroute.types import Price
from llama_index.llms.agentroute import CascadeLLM, asker

BOTH = pytest.mark.parametrize("way", ["sync", "async"])
ASKED = [ChatMessage(role=MessageRole.USER, content="x")]


class Answer(BaseModel):
    """An answer."""

    text: str


def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


def cascade(llms, **kwargs):
    return CascadeLLM(llms=llms, outcome_log=MemoryOutcomeLog(), **kwargs)


async def ask(llm, way, *, streamed=False):
    """The pieces of the answer."""
    if streamed:
        return list(llm.stream_chat(ASKED)) if way == "sync" else [chunk async for chunk in await llm.astream_chat(ASKED)]
    return [llm.chat(ASKED) if way == "sync" else await llm.achat(ASKED)]


async def read(llm, way, seen):
    """Reads a stream into a list, which keeps what came before an error."""
    if way == "sync":
        seen.extend(chunk.delta or "" for chunk in llm.stream_chat(ASKED))
    else:
        async for chunk in await llm.astream_chat(ASKED):
            seen.append(chunk.delta or "")  # a comprehension would keep nothing


def rows(llm, count):
    until = time.monotonic() + 10
    while len(llm.outcome_log) < count and time.monotonic() < until:
        time.sleep(0.01)
    return sorted(llm.outcome_log, key=lambda one: one.attempt)


def record(response):
    return response.additional_kwargs["agentroute"]


@BOTH
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("fault", ["drop", "short", "malformed", "empty", "hang"])
async def test_faults_of_a_whole_answer(way, streamed, fault, llms, server):
    server.faults["small"] = fault
    llm = cascade(llms, timeout=0.5 if fault == "hang" else None)
    pieces = await ask(llm, way, streamed=streamed)
    assert pieces[-1].message.content.strip() == "large has read: x"
    if streamed:
        assert "".join(piece.delta or "" for piece in pieces).strip() == "large has read: x"
    server.released.set()
    first, second = rows(llm, 2)
    assert (first.model, second.model, second.metadata["accepted"]) == ("small", "large", True)
    if fault == "empty":
        assert (first.error, first.metadata["score"]) == (None, 0.0)
    elif fault == "hang":
        assert first.metadata["late"]
    else:
        assert first.error is not None


@BOTH
@pytest.mark.parametrize(
    "fault", [f"{kind} after {place}" for kind in ("cut", "error", "nonsense", "end") for place in ("role", "words")]
)
async def test_faults_of_the_last_stream(way, fault, llms, server):
    """Before the first word the best answer so far is given; after it the reader is told, and nothing is put behind it."""
    server.faults["large"] = fault
    llm = cascade(llms, judge=lambda reply: False)
    seen, error = [], None
    try:
        await read(llm, way, seen)
    except Exception as caught:
        error = caught
    text = "".join(seen).strip()
    first, second = rows(llm, 2)
    assert (first.model, first.metadata["accepted"], second.model) == ("small", False, "large")
    if fault == "end after words":
        assert (text, error, second.metadata["truncated"]) == ("large has", None, True)
    elif fault.endswith("words"):
        assert text == "large has"
        assert error is not None
        assert second.error == type(error).__name__
    else:
        assert (text, error) == ("small has read: x", None)
        assert second.metadata["truncated"] if fault == "end after role" else second.error


@BOTH
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_accepted_answer_comes_in_one_piece(way, streamed, llms, server):
    pieces = await ask(cascade(llms, judge=lambda reply: True), way, streamed=streamed)
    assert [piece.message.content for piece in pieces] == ["small has read: x"]
    assert record(pieces[0])["attempts"][0]["accepted"]
    assert not any(asked.get("stream") for asked in server.asked)


@BOTH
async def test_broken_tool_calls(way, llms, server):
    server.faults["small"] = "broken call"
    llm, tool = cascade(llms), FunctionTool.from_defaults(add)
    answer = llm.chat_with_tools([tool], "sum") if way == "sync" else await llm.achat_with_tools([tool], "sum")
    assert record(answer)["attempts"][0]["reason"].startswith("the call of add is broken")
    assert llm.get_tool_calls_from_response(answer)[0].tool_kwargs == {"a": 1, "b": 2}
    assert record(answer)["answered_by"] == "large"


@BOTH
async def test_text_of_which_no_object_can_be_made(way, client_of, server):
    server.answers = lambda asked: '{"text": "as asked"}' if asked["model"] == "large" else '{"words": 7}'
    llm = cascade({name: client_of(name, should_use_structured_outputs=True) for name in ("small", "large")})
    prompt = PromptTemplate("Say {this}.")
    if way == "sync":
        found = llm.structured_predict(Answer, prompt, this="it")
    else:
        found = await llm.astructured_predict(Answer, prompt, this="it")
    assert found == Answer(text="as asked")
    first, second = rows(llm, 2)
    assert (first.error, first.metadata["accepted"], second.metadata["accepted"]) == (None, False, True)
    assert all("response_format" in asked for asked in server.asked)


@BOTH
async def test_an_llm_as_judge(way, llms, server):
    judge = LLMJudge(asker(llms["small"], price=Price(input=1.0, output=2.0)), unreadable=0.0)
    llm = cascade(llms, judge=judge)
    (answer,) = await ask(llm, way)
    assert answer.message.content == "large has read: x"
    assert record(answer)["attempts"][0]["check_cost"] == pytest.approx((10 + 5 * 2) / 1e6)
    asked = server.asked[1]
    assert (asked["temperature"], asked["max_tokens"]) == (0.0, 16)
    assert [one["model"] for one in server.asked] == ["small", "small", "large"]


@BOTH
async def test_logprobs_are_asked_for_and_read(way, llms, server):
    server.logprob = -0.01
    llm = cascade(llms, judge=LogprobScorer())
    (answer,) = await ask(llm, way)
    assert record(answer)["answered_by"] == "small"
    assert record(answer)["attempts"][0]["score"] == pytest.approx(0.99, abs=0.01)
    assert server.asked[0]["logprobs"] is True
    assert server.asked[0]["top_logprobs"] == 1, "with 0, llama.cpp's server tells no probability at all"
    assert not llms["small"].logprobs, "the caller's client is left as it was"
