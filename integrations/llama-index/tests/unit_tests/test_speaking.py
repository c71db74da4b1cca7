"""What of a stream shows anything: it ends failover, and a cascade gives it to the user."""

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatResponse, ImageBlock, TextBlock, ThinkingBlock, ToolCallBlock
from llama_index.core.bridge.pydantic import Field
from llama_index.core.llms import ChatMessage
from llama_index.core.llms.callbacks import llm_chat_callback

from llama_index.llms.agentroute import CascadeLLM, RoutedLLM
from llama_index.llms.agentroute.testing import ScriptedLLM

# Agents look at all attributes of theirs when they are made, pydantic's old ones among them.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pydantic.warnings.PydanticDeprecationWarning", "ignore:is_running called from within a step:DeprecationWarning"
)

CALL = ToolCallBlock(tool_call_id="1", tool_name="add", tool_kwargs={"a": 3, "b": 4})
PICTURE = ImageBlock(url="http://example.com/a.png")
EMPTY = [[], [TextBlock(text="")], [ThinkingBlock(content=None)], [ThinkingBlock(content=""), TextBlock(text="")]]


class Blocks(ScriptedLLM):
    """Streams messages of blocks, then fails or ends; counts what was taken of it."""

    said: list = Field(default_factory=list)
    fails: bool = False
    taken: list = Field(default_factory=list)

    @llm_chat_callback()
    def stream_chat(self, messages, **kwargs):
        def items():
            for blocks in self.said:
                self.taken.append(blocks)
                yield ChatResponse(message=ChatMessage(role="assistant", blocks=blocks), delta="")
            if self.fails:
                raise ConnectionError

        return items()

    @llm_chat_callback()
    async def astream_chat(self, messages, **kwargs):
        async def items():
            for one in self.stream_chat(messages, **kwargs):
                yield one

        return items()


def ends(first, **kwargs):
    return CascadeLLM(
        llms={"first": first, "last": Blocks(model="last", **kwargs)}, judge=lambda reply: "not sure" not in reply.text
    )


@pytest.mark.parametrize("style", ["openai", "blocks", "kwargs"])
async def test_a_tool_call_alone_is_the_answer_of_a_cascade(style, add_tool):
    """Wherever it stands; it has no text, and is one block."""

    def cascade():
        unsure = ScriptedLLM(model="small", replies=["I am not sure."] * 2, tool_style=style)
        large = ScriptedLLM(model="large", replies=[CALL, "It is 7."], tool_style=style)
        return CascadeLLM(llms={"small": unsure, "large": large}, judge=lambda reply: "not sure" not in reply.text)

    for items in (
        list(cascade().stream_chat_with_tools([add_tool], "What of 3 and 4?")),
        [item async for item in await cascade().astream_chat_with_tools([add_tool], "What of 3 and 4?")],
    ):
        assert items[-1].additional_kwargs["agentroute"]["answered_by"] == "large"
        (call,) = cascade().get_tool_calls_from_response(items[-1])
        assert (call.tool_name, call.tool_kwargs) == ("add", {"a": 3, "b": 4})
    result = await FunctionAgent(tools=[add_tool], llm=cascade(), streaming=True).run("What of 3 and 4?")
    assert str(result) == "It is 7."
    assert [one.tool_output.content for one in result.tool_calls] == ["7"]


@pytest.mark.parametrize("block", [PICTURE, CALL, ThinkingBlock(content="Let me see.")])
async def test_an_answer_of_one_block_is_an_answer(block):
    def cascade():
        return ends(ScriptedLLM(model="first", replies=["I am not sure."]), said=[[block]])

    items = [
        list(cascade().stream_chat([ChatMessage("x")])),
        [one async for one in await cascade().astream_chat([ChatMessage("x")])],
    ]
    assert [[one.message.blocks for one in told] for told in items] == [[[block]]] * 2


@pytest.mark.parametrize("blocks", EMPTY)
def test_an_answer_that_shows_nothing_is_none(blocks):
    (item,) = ends(ScriptedLLM(model="first", replies=["I am not sure."]), said=[blocks]).stream_chat([ChatMessage("x")])
    assert item.message.content == "I am not sure."


@pytest.mark.parametrize("blocks", EMPTY)
def test_failover_goes_on_while_nothing_was_shown(blocks):
    llm = RoutedLLM(llms={"first": Blocks(model="first", said=[blocks], fails=True), "second": ScriptedLLM(model="second")})
    assert list(llm.stream_chat([ChatMessage("x")]))[-1].message.content == "[second] answer to: x"


def test_thoughts_come_as_they_are_thought_and_end_failover():
    """A model may think for a minute before its first word; who reads its thoughts is not to wait, nor to see two models'."""
    thoughts = [[ThinkingBlock(content="Let")], [ThinkingBlock(content="Let me")]]
    first = Blocks(model="first", said=thoughts, fails=True, taken=[])
    llm = RoutedLLM(llms={"first": first, "second": ScriptedLLM(model="second")})
    stream = llm.stream_chat([ChatMessage("x")])
    assert next(stream).message.blocks == thoughts[0]
    assert first.taken == thoughts[:1]
    assert next(stream).message.blocks == thoughts[1]
    with pytest.raises(ConnectionError):
        next(stream)
