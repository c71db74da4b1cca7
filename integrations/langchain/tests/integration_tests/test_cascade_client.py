"""Cascades over the real OpenAI client of LangChain, with real faults on the wire."""

import time

import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool

from agentroute.outcomes import MemoryOutcomeLog
from agentroute.scorers import LLMJudge, LogprobScorer
from agentroute.types import Price
from langchain_agentroute import CascadeChatModel, CascadeMiddleware, asker, routing_decision

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

BOTH = pytest.mark.parametrize("way", ["sync", "async"])
ERRORS = {"drop", "short", "malformed", "hang"}


def cascade(models, **kwargs):
    return CascadeChatModel(models=models, outcome_log=MemoryOutcomeLog(), **{"judge": None, **kwargs})


async def ask(model, way, *, streamed=False):
    """The pieces of the answer."""
    if streamed:
        return list(model.stream("x")) if way == "sync" else [chunk async for chunk in model.astream("x")]
    return [model.invoke("x") if way == "sync" else await model.ainvoke("x")]


async def read(model, way, seen):
    """Reads a stream into a list, which keeps what came before an error."""
    if way == "sync":
        seen.extend(chunk.text for chunk in model.stream("x"))
    else:
        async for chunk in model.astream("x"):
            seen.append(chunk.text)  # a comprehension would keep nothing


def rows(model, count):
    until = time.monotonic() + 10
    while len(model.outcome_log) < count and time.monotonic() < until:
        time.sleep(0.01)
    return sorted(model.outcome_log, key=lambda one: one.attempt)


@BOTH
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("fault", ["drop", "short", "malformed", "empty", "hang"])
async def test_faults_of_a_whole_answer(way, streamed, fault, models, server):
    server.faults["small"] = fault
    model = cascade(models, timeout=0.5 if fault == "hang" else None)
    pieces = await ask(model, way, streamed=streamed)
    assert "".join(piece.text for piece in pieces).strip() == "large has read: x"
    server.released.set()
    first, second = rows(model, 2)
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
async def test_faults_of_the_last_stream(way, fault, models, server):
    """Before the first word the best answer so far is given; after it the reader is told, and nothing is put behind it."""
    server.faults["large"] = fault
    model = cascade(models, judge=lambda reply: False)
    seen, error = [], None
    try:
        await read(model, way, seen)
    except Exception as caught:
        error = caught
    text = "".join(seen).strip()
    first, second = rows(model, 2)
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
async def test_broken_tool_calls(way, models, server):
    @tool
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    server.faults["small"] = "broken call"
    agent = create_agent(models["small"], [add], middleware=[CascadeMiddleware(models)])
    asked = {"messages": [("user", "sum")]}
    state = agent.invoke(asked) if way == "sync" else await agent.ainvoke(asked)
    assert state["messages"][-1].text == "large has read: 3"
    reason = state["agentroute_log"][0]["attempts"][0]["reason"]
    assert reason.startswith("the call of add is broken")


@BOTH
async def test_a_model_as_judge(way, models, server):
    judge = LLMJudge(asker(models["small"], price=Price(input=1.0, output=2.0)), unreadable=0.0)
    model = cascade(models, judge=judge)
    (message,) = await ask(model, way)
    assert message.text == "large has read: x"
    first = routing_decision(message)["attempts"][0]
    assert first["check_cost"] == pytest.approx((10 + 5 * 2) / 1e6)
    asked = server.asked[1]
    assert (asked["temperature"], asked["max_completion_tokens"]) == (0.0, 16)
    assert [one["model"] for one in server.asked] == ["small", "small", "large"]


@BOTH
async def test_logprobs_are_asked_for_and_read(way, models, server):
    server.logprob = -0.01
    model = cascade(models, judge=LogprobScorer())
    (message,) = await ask(model, way)
    assert routing_decision(message)["answered_by"] == "small"
    assert routing_decision(message)["attempts"][0]["score"] == pytest.approx(0.99, abs=0.01)
    assert server.asked[0]["logprobs"] is True
