"""Answers that broke off or could not be used: what the session books of them."""

import asyncio

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel

from agentroute.teams import Mode, Role, RoleAllocator, Team
from agentroute.types import ModelCard, Price, Usage
from llama_index.llms.agentroute import RoutedLLM
from llama_index.llms.agentroute.testing import ScriptedLLM

TEAM = Team(roles=[Role(name="solver", input_tokens=10, output_tokens=100)], modes=[Mode(name="alone")])
CARD = ModelCard(id="m", price=Price(input=100, output=10_000), max_output_tokens=100)
CALL = 1.001
HI = [ChatMessage("hi")]
BOTH = pytest.mark.parametrize("way", ["sync", "async"])


@pytest.fixture
def allocator():
    return RoleAllocator(TEAM, [CARD])


def routed(llm):
    return RoutedLLM(llms={"m": llm}, cards=[CARD], role="solver")


def chunk(number):
    """A chunk of a provider that tells the tokens so far on each, as Google's and vLLM's do."""
    usage = {"prompt_tokens": 10, "completion_tokens": number}
    return ChatResponse(message=ChatMessage(role="assistant", content="w " * number), delta="w ", raw={"usage": usage})


class Counting(ScriptedLLM):
    """Tells tokens on each chunk, and may break on its way."""

    breaks: bool = False

    def stream_chat(self, messages, **kwargs):
        for number in range(1, 101):
            if self.breaks and number == 50:
                raise ConnectionError("the stream broke")
            yield chunk(number)

    async def astream_chat(self, messages, **kwargs):
        async def chunks():
            for one in self.stream_chat(messages):
                yield one

        return chunks()


async def read(llm, way, stop):
    """Reads so many chunks."""
    if way == "async":
        stream = await llm.astream_chat(HI)
        for _ in range(stop):
            await anext(stream)
        await stream.aclose()
    else:
        stream = llm.stream_chat(HI)
        for _ in range(stop):
            next(stream)
        stream.close()


@BOTH
async def test_a_stream_that_is_left_counts_as_all_that_was_set_aside(way, allocator):
    with allocator.session("x", budget=10.0) as session:
        await read(routed(Counting(model="m")), way, 95)
        assert session.budget.left() < 10.0 - CALL + 1e-9
        told = session.finish()
    assert (told.roles["solver"].usage, told.cost) == (None, None)


@BOTH
async def test_a_stream_that_breaks_counts_as_all_that_was_set_aside(way, allocator):
    with allocator.session("x", budget=10.0) as session:
        with pytest.raises(ConnectionError):
            await read(routed(Counting(model="m", breaks=True)), way, 95)
        assert session.budget.left() < 10.0 - CALL + 1e-9
        assert session.finish().cost is None


@BOTH
async def test_a_stream_that_is_read_to_its_end_costs_what_it_told(way, allocator):
    with allocator.session("x", budget=10.0) as session:
        llm = routed(Counting(model="m"))
        if way == "async":
            [_ async for _ in await llm.astream_chat(HI)]
        else:
            list(llm.stream_chat(HI))
        told = session.finish()
    assert told.roles["solver"].usage == Usage(input_tokens=10, output_tokens=100)
    assert told.cost == pytest.approx(CALL)


class Sum(BaseModel):
    """A sum."""

    total: int


PROMPT = PromptTemplate("add 1")
STREAMS = {
    "chat": lambda llm, way: llm.astream_chat(HI) if way == "async" else llm.stream_chat(HI),
    "predict": lambda llm, way: llm.astream(PROMPT) if way == "async" else llm.stream(PROMPT),
    "object": lambda llm, way: (llm.astream_structured_predict if way == "async" else llm.stream_structured_predict)(Sum, PROMPT),
}


@BOTH
@pytest.mark.parametrize("own", [{}, {"system_prompt": "Be brief."}])
@pytest.mark.parametrize("kind", STREAMS)
async def test_a_stream_that_is_first_read_elsewhere_is_the_sessions_in_which_it_was_asked_for(kind, own, way, allocator):
    llm = ScriptedLLM(model="m", input_tokens=10, output_tokens=100)
    model = RoutedLLM(llms={"m": llm}, cards=[CARD], role="solver", **own)
    with allocator.session("x", budget=10.0) as session:
        stream = STREAMS[kind](model, way)
        stream = await stream if way == "async" else stream
        with allocator.session("y", budget=10.0) as other:
            if way == "async":
                [_ async for _ in stream]
            else:
                list(stream)
            assert other.finish().roles == {}
        told = session.finish()
    assert told.roles["solver"].calls == 1
    assert told.cost == pytest.approx(CALL)


@BOTH
@pytest.mark.parametrize("calls_tools", [True, False])
async def test_an_answer_of_which_no_object_can_be_made_is_paid_for_as_it_was(way, calls_tools, allocator):
    llm = ScriptedLLM(model="m", replies=["no object"], input_tokens=10, output_tokens=100, calls_tools=calls_tools)
    model, prompt = routed(llm), PromptTemplate("add 1")
    with allocator.session("x", budget=10.0) as session:
        with pytest.raises(ValueError, match=r"(?i)json|tool call"):
            await model.astructured_predict(Sum, prompt) if way == "async" else model.structured_predict(Sum, prompt)
        told = session.finish()
    assert told.roles["solver"].usage == Usage(input_tokens=10, output_tokens=100)
    assert told.cost == pytest.approx(CALL)
    assert session.budget.left() == pytest.approx(10.0 - CALL)


async def test_a_call_that_is_cancelled_counts_as_all_that_was_set_aside(allocator):
    class Slow(ScriptedLLM):
        async def achat(self, messages, **kwargs):
            await asyncio.sleep(60)

    with allocator.session("x", budget=10.0) as session:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(routed(Slow(model="m")).achat(HI), 0.05)
        assert session.budget.left() < 10.0 - CALL + 1e-9
        assert session.finish().cost is None
