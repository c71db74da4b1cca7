"""`ScriptedLLM`: it does what a provider's LLM does, as far as LlamaIndex can tell."""

import asyncio

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ThinkingBlock, ToolCallBlock
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import ChatMessage, ChatResponse

from agentroute.errors import ConfigError
from llama_index.llms.agentroute.testing import ScriptedLLM

# LlamaIndex's StructuredLLM writes its streams with a method of pydantic's old ones.
pytestmark = pytest.mark.filterwarnings("ignore:The `json` method is deprecated:pydantic.warnings.PydanticDeprecatedSince20")

CALL = ToolCallBlock(tool_call_id="1", tool_name="add", tool_kwargs={"a": 3, "b": 4})
STYLES = pytest.mark.parametrize("style", ["openai", "blocks", "kwargs"])


def say(text="Who?"):
    return [ChatMessage(text)]


async def test_every_door_is_one_call_and_counts_once(door):
    counter = TokenCountingHandler()
    llm = ScriptedLLM(callback_manager=CallbackManager([counter]))
    await door(llm, "What of 3 and 4?")
    (asked,) = llm.calls
    assert asked.text == ("Answer briefly.\nQuestion: What of 3 and 4?\nAnswer:" if _prompts(door) else "What of 3 and 4?")
    assert (counter.prompt_llm_token_count, counter.completion_llm_token_count) == (10, 5)


def _prompts(door):
    return door.shape in {"text", "object"}


def test_it_says_what_stands_in_the_script_and_then_its_name():
    whole = ChatResponse(message=ChatMessage("whole", role="assistant"), raw={"id": 7})
    message = ChatMessage(role="assistant", blocks=[ThinkingBlock(content="hm")])
    llm = ScriptedLLM(model="m", replies=["one", whole, message, lambda messages: messages[-1].content.upper(), None])
    assert llm.chat(say()).message.content == "one"
    assert llm.chat(say()) is whole
    assert llm.chat(say()).message is message
    assert [llm.complete("who?").text for _ in range(3)] == ["WHO?", "[m] answer to: who?", "[m] answer to: who?"]
    assert [call.door for call in llm.calls] == ["chat"] * 3 + ["complete"] * 3


async def test_errors_come_when_the_answer_is_asked_for(stream_door):
    llm = ScriptedLLM(replies=[TimeoutError("late")])
    with pytest.raises(TimeoutError, match="late"):
        llm.chat(say())
    llm = ScriptedLLM(replies=[TimeoutError("late")])
    with pytest.raises(TimeoutError, match="late"):
        await stream_door.items(llm)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_streams_break_after_so_many_chunks(after):
    stream = ScriptedLLM(replies=["a b c d"], break_after=after).stream_chat(say())
    assert [next(stream).delta for _ in range(after)] == ["a", " b", " c"][:after]
    with pytest.raises(ConnectionError, match="the stream broke"):
        next(stream)


async def test_streams_that_are_left_are_known():
    llm = ScriptedLLM(replies=["a b c d"] * 2)
    stream = llm.stream_complete("x")
    next(stream)
    next(stream)
    stream.close()
    astream = llm._astreamed("astream_chat", say(), {})
    await anext(astream)
    await astream.aclose()
    assert llm.closed_streams == [2, 1]


@STYLES
def test_tool_calls_stand_where_the_style_has_them(style, add_tool):
    llm = ScriptedLLM(tool_style=style, replies=[CALL] * 2)
    whole = llm.chat_with_tools([add_tool], "x")
    *halves, last = llm.stream_chat_with_tools([add_tool], "x")
    for answer in (whole, last):
        (found,) = llm.get_tool_calls_from_response(answer)
        assert (found.tool_id, found.tool_name, found.tool_kwargs) == ("1", "add", {"a": 3, "b": 4})
        assert any(isinstance(block, ToolCallBlock) for block in answer.message.blocks) is (style != "kwargs")
    assert bool(whole.message.additional_kwargs) is (style == "kwargs")
    assert bool(last.message.additional_kwargs) is (style != "blocks")
    (half,) = halves
    expected = {"a": 3, "b": 4} if style == "blocks" else {"a": 3}
    assert llm.get_tool_calls_from_response(half)[0].tool_kwargs == expected
    with pytest.raises(ValueError, match="at least one tool call"):
        llm.get_tool_calls_from_response(llm.chat(say()))


def test_without_a_script_it_calls_each_tool_once_and_then_speaks(add_tool):
    llm = ScriptedLLM()
    first = llm.chat_with_tools([add_tool], "What of 3 and 4?")
    assert llm.get_tool_calls_from_response(first)[0].tool_kwargs == {"a": 3, "b": 4}
    history = [*say("What of 3 and 4?"), first.message, ChatMessage("7", role="tool")]
    assert llm.chat_with_tools([add_tool], chat_history=history).message.content.endswith("What of 3 and 4?")
    required = llm.chat_with_tools([add_tool], chat_history=history, tool_required=True)
    assert llm.get_tool_calls_from_response(required)


@STYLES
def test_objects(style, pair):
    given = pair(name="Ann", number=3)
    llm = ScriptedLLM(tool_style=style, replies=[given] * 2)
    assert llm.structured_predict(pair, PromptTemplate("Who?")) == given
    assert ScriptedLLM(calls_tools=False, replies=[given]).structured_predict(pair, PromptTemplate("Who?")) == given
    *_, last = llm.stream_structured_predict(pair, PromptTemplate("Who?"))
    assert (last == given) is (style != "blocks"), "LlamaIndex reads the calls of structured streams in additional_kwargs alone"


def test_what_it_tells_of_itself():
    llm = ScriptedLLM(model="m", context_window=7, num_output=3, calls_tools=False, is_chat_model=False, input_tokens=None)
    told = llm.metadata
    assert (told.model_name, told.context_window, told.num_output) == ("m", 7, 3)
    assert (told.is_function_calling_model, told.is_chat_model) == (False, False)
    assert "usage" not in llm.chat(say()).raw
    for wrong in ("responses", "model_name", "brake_after", "is_function_calling_model"):
        with pytest.raises(ConfigError, match="did you mean"):
            ScriptedLLM(**{wrong: 1})


async def test_delays_wait_in_a_loop_without_holding_it_up():
    llm = ScriptedLLM(delay=0.2)
    tasks = [asyncio.ensure_future(llm.achat(say())) for _ in range(20)]
    await asyncio.sleep(0)
    assert llm.calls == [], "nobody has answered, and here somebody else is at work"
    await asyncio.gather(*tasks)
    assert len(llm.calls) == 20
