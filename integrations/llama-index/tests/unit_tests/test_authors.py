"""Who wrote what, and what of it reaches another provider, shown by the real OpenAI converters."""

import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock, ThinkingBlock, ToolCallBlock
from llama_index.llms.openai.utils import from_openai_message, to_openai_message_dicts
from llama_index.llms.openai_like import OpenAILike
from openai.types.chat import ChatCompletionMessage

from agentroute.errors import ConfigError
from llama_index.llms.agentroute._messages import Authors, normalised


def user(text):
    return ChatMessage(role="user", content=text)


def of_openai(**more):
    """A call of a tool as OpenAI's client makes it: in a block, and once more as OpenAI's own object."""
    message = ChatCompletionMessage.model_validate(
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "I should add.",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}],
            **more,
        }
    )
    return from_openai_message(message, ["text"])


def of_anthropic():
    """A call of a tool as older clients of Anthropic's make it, with what they tell of the call beside it."""
    call = {"id": "c1", "type": "tool_use", "name": "add", "input": {"a": 1}}
    return ChatMessage(role="assistant", content="I add.", additional_kwargs={"tool_calls": [call], "stop_reason": "tool_use"})


def result():
    return ChatMessage(role="tool", content="1", additional_kwargs={"tool_call_id": "c1"})


CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


@pytest.fixture
def authors():
    return Authors()


def test_a_client_that_writes_into_the_history_writes_into_a_copy(authors):
    llm = OpenAILike(model="m", api_base="http://model.test/v1", api_key="none", is_function_calling_model=True)
    history = [user("earlier"), ChatMessage(role="assistant", content="yes")]
    for _ in range(2):
        given_history = normalised(history, "a", authors, alike=True)
        llm._prepare_chat_with_tools([], user_msg="now", chat_history=given_history)
        assert [message.content for message in given_history] == ["earlier", "yes", "now"]
    assert [message.content for message in history] == ["earlier", "yes"]
    # Without it the second model would be asked twice.
    for _ in range(2):
        llm._prepare_chat_with_tools([], user_msg="now", chat_history=history)
    assert [message.content for message in history] == ["earlier", "yes", "now", "now"]


def test_arguments_in_a_string_become_a_dict_for_another_provider(authors):
    message = of_openai()
    authors.remember(message, "openai")
    (block,) = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    # As it stands: Anthropic's converter hands it on as the `input` of a call, which must be an object.
    assert block.tool_kwargs == '{"a": 1}'
    found = normalised([user("1 + 0?"), message, result()], "anthropic", authors, alike=False)
    assert found[1].blocks == [ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs={"a": 1})]
    # OpenAI's own objects are no JSON, and other converters stumble over them.
    assert found[1].additional_kwargs == {}
    json.dumps(found[1].additional_kwargs)
    # And back at OpenAI nothing is lost.
    told = to_openai_message_dicts(found)
    assert [json.loads(call["function"]["arguments"]) for call in told[1]["tool_calls"]] == [{"a": 1}]
    assert told[2] == {"role": "tool", "content": "1", "tool_call_id": "c1"}


def test_what_another_provider_keeps_beside_the_answer_does_not_reach_openai(authors):
    message = of_anthropic()
    authors.remember(message, "anthropic")
    leaked = to_openai_message_dicts([message])[0]
    assert leaked["stop_reason"] == "tool_use"
    assert leaked["tool_calls"][0]["type"] == "tool_use"
    told = to_openai_message_dicts(normalised([message], "openai", authors, alike=False))
    assert told == [{"role": "assistant", "content": "I add.", "tool_calls": [CALL]}]


@pytest.mark.parametrize(
    "kwargs",
    [
        {"tool_calls": of_openai().additional_kwargs["tool_calls"]},
        {"tool_calls": [CALL]},
        {"tool_calls": [{"id": "c1", "type": "tool_use", "name": "add", "input": {"a": 1}}]},
        {"tool_calls": [{"id": "c1", "type": "tool_use", "name": "add", "input": '{"a": 1}'}]},
        {"tool_calls": [{"toolUseId": "c1", "name": "add", "input": {"a": 1}}]},
        {"tool_calls": [{"call_id": "c1", "id": "item", "name": "add", "arguments": '{"a": 1}'}]},
        {"tool_calls": [{"id": "c1", "function": {"name": "add", "arguments": {"a": 1}}}]},
    ],
)
def test_calls_beside_an_answer_become_blocks_whatever_their_shape(kwargs, authors):
    found = normalised([ChatMessage(role="assistant", additional_kwargs=kwargs)], "other", authors, alike=False)
    assert found[0].blocks == [ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs={"a": 1})]
    told = to_openai_message_dicts(found)[0]
    assert told["tool_calls"] == [CALL]
    assert told["content"] is None


def test_a_single_function_call_of_old_becomes_a_block(authors):
    message = ChatMessage(role="assistant", additional_kwargs={"function_call": {"name": "add", "arguments": '{"a": 1}'}})
    assert normalised([message], "other", authors, alike=False)[0].blocks == [
        ToolCallBlock(tool_name="add", tool_kwargs={"a": 1})
    ]


@pytest.mark.parametrize("calls", [None, "add", {"name": "add"}, [None], [{}], [{"name": 3}], [{"function": None}], 7])
def test_calls_that_cannot_be_read_are_left_out(calls, authors):
    message = ChatMessage(role="assistant", content="so", additional_kwargs={"tool_calls": calls})
    assert normalised([message], "other", authors, alike=False)[0].blocks == [TextBlock(text="so")]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        ("{}", {}),
        ("", {}),
        (" ", {}),
        ('{"a": ', '{"a": '),
        ("[1]", "[1]"),
        ("3", "3"),
        ("[" * 100_000, "[" * 100_000),
        ({"a": 1}, {"a": 1}),
    ],
)
def test_only_a_json_object_becomes_a_dict(told, expected, authors):
    message = ChatMessage(role="assistant", blocks=[ToolCallBlock(tool_name="add", tool_kwargs=told)])
    assert normalised([message], "other", authors, alike=True)[0].blocks[0].tool_kwargs == expected


def signed(text="hm", signature="s1"):
    return ThinkingBlock(content=text, additional_information={"signature": signature})


def thoughtful(*thoughts):
    return ChatMessage(role="assistant", blocks=[*thoughts, TextBlock(text="four")])


@pytest.mark.parametrize("alike", [True, False])
def test_thoughts_go_back_only_to_who_thought_them(alike, authors):
    message = thoughtful(signed())
    authors.remember(message, "a")
    assert normalised([message], "a", authors, alike=alike) == [message]
    assert normalised([message], "b", authors, alike=alike)[0].blocks == [TextBlock(text="four")]
    # The same words with another signature are another's.
    assert authors.of(signed(signature="s2")) is None


def test_thoughts_of_nobody_known_are_kept_among_candidates_that_are_alike(authors):
    message = thoughtful(signed())
    assert normalised([message], "a", authors, alike=True) == [message]
    assert normalised([message], "a", authors, alike=False)[0].blocks == [TextBlock(text="four")]


def test_an_answer_is_known_again_wherever_it_was_kept(authors):
    message = of_openai()
    authors.remember(message, "openai")
    kept = ChatMessage.model_validate_json(message.model_dump_json())
    assert kept is not message
    assert authors.of(kept) == "openai"
    # Also by a memory that leaves out thoughts, or OpenAI's objects.
    calls = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    assert authors.of(ChatMessage(role="assistant", blocks=calls)) == "openai"
    assert normalised([kept], "openai", authors, alike=False)[0] is kept


def test_calls_that_are_numbered_alike_are_told_apart_by_their_arguments(authors):
    # Some providers count from 0 in each answer, or take the tool's name for the number.
    first, second = (
        ChatMessage(role="assistant", blocks=[ToolCallBlock(tool_call_id="0", tool_name="add", tool_kwargs={"a": number})])
        for number in (1, 2)
    )
    authors.remember(first, "a")
    authors.remember(second, "b")
    assert (authors.of(first), authors.of(second)) == ("a", "b")


def test_ones_own_answers_go_back_as_they_are(authors):
    message = of_openai()
    authors.remember(message, "openai")
    conversation = [user("1 + 0?"), message, result()]
    found = normalised(conversation, "openai", authors, alike=False)
    assert all(new is old for new, old in zip(found, conversation, strict=True))
    # To the letter: providers' caches know a prompt by it.
    assert to_openai_message_dicts(found)[1]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'


def test_among_candidates_that_are_alike_what_lies_beside_an_answer_stays(authors):
    message = ChatMessage(role="assistant", content="I add.", additional_kwargs={"tool_calls": [CALL]})
    authors.remember(message, "a")
    assert normalised([message], "b", authors, alike=True)[0] is message


def test_what_a_person_or_a_tool_says_is_never_touched(authors):
    conversation = [
        ChatMessage(role="system", content="s", additional_kwargs={"cache_control": {"type": "ephemeral"}}),
        ChatMessage(role="user", content="u", additional_kwargs={"name": "Ann"}),
        ChatMessage(role="tool", content="1", additional_kwargs={"tool_call_id": "c1", "name": "add"}),
        ChatMessage(role="function", content="1", additional_kwargs={"name": "add"}),
        ChatMessage(role="assistant", content="plain"),
    ]
    found = normalised(conversation, "a", authors, alike=False)
    assert found is not conversation
    assert all(new is old for new, old in zip(found, conversation, strict=True))


def test_an_answer_of_thoughts_alone_is_dropped_where_they_are(authors):
    message = ChatMessage(role="assistant", blocks=[signed()])
    assert normalised([user("?"), message, user("so?")], "a", authors, alike=False) == [user("?"), user("so?")]
    # One that was empty before says so itself.
    empty = ChatMessage(role="assistant", content="")
    assert normalised([empty], "a", authors, alike=False) == [empty]


def test_providers_names_for_the_assistant_are_no_others(authors):
    message = ChatMessage(role="chatbot", content="yes")
    assert to_openai_message_dicts([message])[0]["role"] == "chatbot"
    assert to_openai_message_dicts(normalised([message], "openai", authors, alike=False))[0]["role"] == "assistant"
    assert normalised([message], "cohere", authors, alike=True)[0] is message


def test_the_callers_messages_are_not_changed(authors):
    conversation = [user("1 + 0?"), of_openai(), result(), of_anthropic(), thoughtful(signed())]
    before = copy.deepcopy(conversation)
    normalised(conversation, "a", authors, alike=False)
    normalised(conversation, "a", authors, alike=True)
    assert conversation == before


def test_the_oldest_are_forgotten_first():
    authors = Authors(size=2)
    first, second, third = (thoughtful(signed(str(number))) for number in range(3))
    one = ChatMessage(role="assistant", blocks=first.blocks[:1])
    authors.remember(one, "a")
    assert len(authors) == 2
    authors.remember(ChatMessage(role="assistant", blocks=second.blocks[:1]), "b")
    assert len(authors) == 2
    assert authors.of(first.blocks[0]) is None
    assert authors.of(second.blocks[0]) == "b"
    authors.remember(ChatMessage(role="assistant", blocks=third.blocks[:1]), "c")
    assert authors.of(second.blocks[0]) is None
    with pytest.raises(ConfigError, match="size=0"):
        Authors(size=0)


def test_plain_text_takes_no_room(authors):
    authors.remember(ChatMessage(role="assistant", content="four"), "a")
    assert len(authors) == 0


def test_a_copy_in_another_process_begins_with_nothing(authors):
    authors.remember(of_openai(), "a")
    again = pickle.loads(pickle.dumps(authors))
    assert (len(again), again.size) == (0, authors.size)


def test_many_threads_do_not_mix_authors():
    authors = Authors(size=10_000)

    def talk(name):
        for number in range(200):
            message = thoughtful(signed(f"{name} {number}"))
            authors.remember(message, name)
            assert authors.of(message.blocks[0]) == name
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(talk, [f"model {number}" for number in range(8)]))
    # One thought each, and the answer of the same words that all gave.
    assert len(authors) == 8 * 200 + 1


values = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=3)
calls = st.builds(
    ToolCallBlock,
    tool_call_id=st.none() | st.text(max_size=3),
    tool_name=st.text(min_size=1, max_size=3),
    tool_kwargs=values | values.map(json.dumps) | st.text(max_size=5),
)
blocks = st.lists(calls | st.builds(TextBlock, text=st.text(max_size=3)) | st.builds(ThinkingBlock, content=st.text(max_size=3)))
odd = st.dictionaries(st.sampled_from(["tool_calls", "tool_call_id", "x"]), st.none() | st.text() | st.lists(values, max_size=2))
messages = st.lists(
    st.builds(ChatMessage, role=st.sampled_from(list(MessageRole)), blocks=blocks, additional_kwargs=odd), max_size=4
)


@given(messages, st.booleans(), st.sampled_from([None, "a", "b"]))
def test_whatever_the_conversation_it_is_made_fit_once(conversation, alike, author):
    authors = Authors()
    for message in conversation:
        if author is not None:
            authors.remember(message, author)
    before = copy.deepcopy(conversation)
    found = normalised(conversation, "a", authors, alike=alike)
    assert conversation == before
    # What is fit for a model stays fit for it.
    assert normalised(found, "a", Authors(), alike=alike) == found or author == "a"
    if author == "b" and not alike:
        for message in found:
            if message.role == MessageRole.ASSISTANT:
                assert message.additional_kwargs.keys() <= {"tool_call_id"}
                assert not any(isinstance(block, ThinkingBlock) for block in message.blocks)
