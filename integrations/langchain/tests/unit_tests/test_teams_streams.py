"""Streams of a team's roles belong to the session in which they were asked for, wherever they are read."""

import asyncio
import threading

import pytest
from langchain_core.runnables import RunnableLambda

from agentroute.errors import ConfigError
from agentroute.teams import Mode, Role, RoleAllocator, Team, current_session
from agentroute.types import ModelCard, Price, Score
from langchain_agentroute import CascadeChatModel, RoutedChatModel
from langchain_agentroute.testing import ScriptedChatModel

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

TEAM = Team(roles=[Role(name="solver", input_tokens=10, output_tokens=5)], modes=[Mode(name="alone")])
CARDS = [
    ModelCard(id="m", price=Price(input=1e3, output=2e3), max_output_tokens=5),
    ModelCard(id="other", price=Price(input=1, output=1)),
]
CALL = 0.02
BOTH = pytest.mark.parametrize("way", ["sync", "async"])
KINDS = pytest.mark.parametrize("kind", ["chunks", "whole", "events", "cascade"])


@pytest.fixture
def allocator():
    return RoleAllocator(TEAM, CARDS)


def judge(query, reply):
    return Score(value=1.0)


def solver(kind="chunks"):
    models = {name: ScriptedChatModel(model_name=name) for name in ("other", "m")}
    if kind == "cascade":
        return CascadeChatModel(models=models, cards=CARDS, role="solver", judge=judge)
    return RoutedChatModel(models=models, cards=CARDS, role="solver", disable_streaming=kind == "whole")


def opened(model, kind, way):
    """A stream that nobody has read yet."""
    if kind == "events":
        return model.astream_events("hi", version="v3") if way == "async" else model.stream_events("hi", version="v3")
    return model.astream("hi") if way == "async" else model.stream("hi")


async def read(stream, kind, way):
    if kind == "events":
        return (await (await stream) if way == "async" else stream.output).text
    return "".join([chunk.text async for chunk in stream] if way == "async" else [chunk.text for chunk in stream])


@BOTH
@KINDS
async def test_a_stream_that_is_first_read_outside_is_the_sessions(way, kind, allocator):
    with allocator.session("x", budget=1.0, fixed={"solver": "m"}) as session:
        stream = opened(solver(kind), kind, way)

        async def elsewhere():
            with allocator.session("y", budget=1.0, fixed={"solver": "other"}) as other:
                text = await read(stream, kind, way)
                assert current_session() is other
                return text, other.finish().roles

        text, others = await elsewhere()
        told = session.finish()
    assert text.startswith("[m]")
    assert others == {}
    assert told.roles["solver"].calls == 1
    assert told.cost == pytest.approx(CALL)


@BOTH
@KINDS
async def test_a_stream_that_is_first_read_after_the_end_says_so(way, kind, allocator):
    model = solver(kind)
    with allocator.session("x", budget=1.0, fixed={"solver": "m"}) as session:
        stream = opened(model, kind, way)
    with pytest.raises(ConfigError, match="finished"):
        await read(stream, kind, way)
    assert session.finish().roles == {}
    assert all(not chat.asked for chat in model.models.values())


def test_a_thread_may_read_it(allocator):
    texts = []
    with allocator.session("x", budget=1.0, fixed={"solver": "m"}) as session:
        stream = solver().stream("hi")
        thread = threading.Thread(target=lambda: texts.append("".join(chunk.text for chunk in stream)))
        thread.start()
        thread.join()
        assert session.finish().cost == pytest.approx(CALL)
    assert texts[0].startswith("[m]")


@BOTH
async def test_between_two_chunks_the_session_is_the_readers(way, allocator):
    with allocator.session("x", budget=1.0, fixed={"solver": "m"}):
        stream = opened(solver(), "chunks", way)
    with allocator.session("x", budget=1.0, fixed={"solver": "m"}) as session:
        stream = opened(solver(), "chunks", way)
        with allocator.session("y") as inner:
            if way == "async":
                async for _ in stream:
                    assert current_session() is inner
            else:
                for _ in stream:
                    assert current_session() is inner
        assert current_session() is session


@BOTH
async def test_many_at_once_and_their_like_are_each_booked(way, allocator):
    model = solver()
    chain = RunnableLambda(lambda text: text) | model
    with allocator.session("x", budget=1.0, fixed={"solver": "m"}) as session:
        if way == "async":
            await model.abatch(["a", "b"])
            [one async for one in model.abatch_as_completed(["a", "b"])]
            [one async for one in chain.astream("a")]
            [event async for event in model.astream_events("a", version="v2")]
            await asyncio.gather(*(chain.ainvoke(text) for text in "ab"))
        else:
            model.batch(["a", "b"])
            list(model.batch_as_completed(["a", "b"]))
            list(chain.stream("a"))
            model.with_retry().invoke("a")
            [chain.invoke(text) for text in "ab"]
        told = session.finish()
    assert told.roles["solver"].calls == 8
    assert told.cost == pytest.approx(8 * CALL)
    assert session.budget.left() == pytest.approx(1.0 - 8 * CALL)
