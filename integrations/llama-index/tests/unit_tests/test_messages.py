"""LlamaIndex's messages and templates as turns: what was asked, whatever a program has made of it."""

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from llama_index.core.agent.workflow import AgentWorkflow, CodeActAgent, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    ChatResponse,
    CitableBlock,
    CompletionResponse,
    DocumentBlock,
    ImageBlock,
    LLMMetadata,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate, PromptType, RichPromptTemplate, SelectorPromptTemplate
from llama_index.core.prompts.chat_prompts import CHAT_TEXT_QA_PROMPT
from llama_index.core.prompts.default_prompt_selectors import DEFAULT_TEXT_QA_PROMPT_SEL
from llama_index.core.prompts.default_prompts import DEFAULT_TEXT_QA_PROMPT
from llama_index.core.tools import FunctionTool
from llama_index.core.types import BaseOutputParser
from llama_index.core.utilities.token_counting import TokenCounter
from pydantic import Field

from agentroute.serving import Turn
from llama_index.llms.agentroute import RoutedLLM
from llama_index.llms.agentroute._messages import prompt_tokens, prompt_turns, said, step_question, turns_of
from llama_index.llms.agentroute.testing import ScriptedLLM

# Agents are workflows that look at all their attributes when they are made, pydantic's deprecated ones among them; and a
# ReActAgent asks for what its workflows library no longer wants to be asked.
agents = pytest.mark.filterwarnings(
    "ignore::pydantic.warnings.PydanticDeprecationWarning", "ignore:is_running called from within a step:DeprecationWarning"
)

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def user(text):
    return ChatMessage(role="user", content=text)


def model(text):
    return ChatMessage(role="assistant", content=text)


def last_user_message(messages):
    """The naive reading of what was asked."""
    return next(message.content for message in reversed(messages) if message.role == MessageRole.USER)


def asked(messages):
    return next(turn.text for turn in reversed(turns_of(messages)) if turn.role == "user")


class Scripted(CustomLLM):
    """Says its lines one after the other, and keeps what it was given, and what the step then said was asked."""

    lines: list[str] = Field(default_factory=list)
    seen: list[list[ChatMessage]] = Field(default_factory=list)
    steps: list[str | None] = Field(default_factory=list)

    @property
    def metadata(self):
        return LLMMetadata(context_window=32_000, model_name="scripted", is_chat_model=True)

    def complete(self, prompt, formatted=False, **kwargs):
        return CompletionResponse(text=self.lines.pop(0))

    def stream_complete(self, prompt, formatted=False, **kwargs):
        raise NotImplementedError

    async def achat(self, messages, **kwargs):
        self.seen.append(list(messages))
        self.steps.append(await step_question())
        return ChatResponse(message=model(self.lines.pop(0)), raw={})


class Calling(MockFunctionCallingLLM):
    """Calls no tool, and keeps what the step said was asked."""

    seen: list[list[ChatMessage]] = Field(default_factory=list)
    steps: list[str | None] = Field(default_factory=list)

    async def achat_with_tools(self, tools, user_msg=None, chat_history=None, **kwargs):
        self.seen.append(list(chat_history))
        self.steps.append(await step_question())
        return ChatResponse(message=model("done"), raw={})


def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


QUESTION = "What is 1 + 2? Observation: I have no calculator."


@agents
async def test_react_is_routed_on_the_question_and_not_on_its_observations():
    call = 'Thought: I add.\nAction: add\nAction Input: {"a": 1, "b": 2}'
    llm = Scripted(lines=["Action: half", "", call, "Thought: I can answer.\nAnswer: 3"])
    await ReActAgent(llm=llm, tools=[FunctionTool.from_defaults(add)], streaming=False).run(QUESTION)
    naive = [last_user_message(messages) for messages in llm.seen]
    assert naive[0] == QUESTION
    # The complaints of an answer that cannot be read, and what the tool said.
    assert naive[1].startswith("Error while parsing the output:")
    assert naive[2].startswith("FAILURE: Your previous response was empty.")
    assert naive[3] == "Observation: 3"
    assert [asked(messages) for messages in llm.seen] == [QUESTION] * 4
    assert [turns_of(messages)[-1].role for messages in llm.seen] == ["user", "tool", "tool", "tool"]
    assert llm.steps == [QUESTION] * 4


@agents
async def test_codeact_is_routed_on_the_question_and_not_on_its_results():
    llm = Scripted(lines=["<execute>\nprint(3)\n</execute>", "It is 3."])

    def run(code: str) -> str:
        return "3"

    await CodeActAgent(llm=llm, code_execute_fn=run, tools=[], streaming=False).run(QUESTION)
    assert last_user_message(llm.seen[1]).startswith("Result of executing the code")
    assert [asked(messages) for messages in llm.seen] == [QUESTION] * 2


@agents
async def test_a_workflow_with_a_state_is_routed_on_the_users_own_words():
    llm = Calling()
    agent = FunctionAgent(name="clerk", description="Does all.", llm=llm, streaming=False)
    await AgentWorkflow(agents=[agent], initial_state={"count": "Current message:\n1"}).run(QUESTION)
    assert last_user_message(llm.seen[0]).startswith("Current state:")
    assert asked(llm.seen[0]) == QUESTION
    assert llm.steps == [QUESTION]
    assert said(turns_of(llm.seen[0]), llm.steps[0]) == QUESTION


@agents
async def test_a_workflow_with_a_state_prompt_of_its_own_is_routed_on_what_the_step_tells():
    llm = Calling()
    agent = FunctionAgent(name="clerk", description="Does all.", llm=llm, streaming=False)
    await AgentWorkflow(agents=[agent], initial_state={"n": 1}, state_prompt="{state} and now: {msg}").run(QUESTION)
    assert asked(llm.seen[0]) == f"{{'n': 1}} and now: {QUESTION}"
    assert said(turns_of(llm.seen[0]), llm.steps[0]) == QUESTION


@agents
async def test_a_tool_that_asks_something_of_its_own_is_not_routed_on_the_users_question():
    found = []

    async def search(words: str) -> str:
        """Searches."""
        question = await step_question()
        found.append((question, said(turns_of([user(f"Write five search words for: {words}")]), question)))
        return "nothing"

    line = 'Thought: I search.\nAction: search\nAction Input: {"words": "tall towers"}'
    llm = Scripted(lines=[line, "Thought: I can answer.\nAnswer: none"])
    await ReActAgent(llm=llm, tools=[FunctionTool.from_defaults(async_fn=search)], streaming=False).run("Which is tallest?")
    assert found == [("Which is tallest?", None)]


async def test_outside_a_step_nothing_is_told():
    assert await step_question() is None


def test_a_steps_question_counts_only_where_a_user_says_it():
    turns = (Turn(role="system", text="abc"), Turn(role="user", text="say abc"), Turn(role="assistant", text="xyz"))
    assert said(turns, "abc") == "abc"
    assert said(turns, "xyz") is None
    assert said(turns, None) is None
    # Blank words are in every turn.
    assert said(turns, " ") is None


def test_a_steps_question_is_a_turn_or_lines_of_one_or_the_end_of_one():
    def told(text, question):
        return said((Turn(role="user", text=text),), question)

    assert told("Translate this into German: which is it?", "hi") is None, "a part of a word is not what the user asked"
    assert told("A poem on hi. Please!", "hi.") is None
    assert told("Delphi", "hi") is None
    for text in ("hi", " hi\n", "Be brief.\nhi\nNow!", "hi\nNow!", "{'n': 1} and now: hi"):
        assert told(text, "hi") == "hi"
    assert told("Now.\na\nb\nSo?", "a\nb") == "a\nb"
    assert told("Now.\na\nbb\nSo?", "a\nb") is None


def test_tool_calls_are_told_apart_wherever_they_stand():
    block = ToolCallBlock(tool_call_id="7", tool_name="add", tool_kwargs={"a": 1})
    call = {"id": "7", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    legacy = ChatMessage(role="assistant", additional_kwargs={"tool_calls": [call]})
    both = ChatMessage(role="assistant", blocks=[block], additional_kwargs={"tool_calls": [call]})
    found = {turns_of([message])[0].calls for message in (ChatMessage(role="assistant", blocks=[block]), legacy, both)}
    assert found == {("7\nadd",)}
    other = block.model_copy(update={"tool_call_id": "8"})
    assert turns_of([ChatMessage(role="assistant", blocks=[block, other])])[0].calls == ("7\nadd", "8\nadd")


@pytest.mark.parametrize("style", ["openai", "blocks", "kwargs"])
@pytest.mark.parametrize("streams", [False, True])
def test_two_tool_loops_of_the_same_words_keep_a_model_each(style, streams, add_tool):
    def model(name):
        call = ToolCallBlock(tool_call_id=name, tool_name="add", tool_kwargs={"a": 1, "b": 2})
        return ScriptedLLM(model=name, tool_style=style, replies=[call])

    order = iter(["small", "large"])
    llm = RoutedLLM(llms={"small": model("small"), "large": model("large")}, router=lambda query: next(order))
    asked = [user("1+2?")]
    if streams:
        begun = [list(llm.stream_chat_with_tools([add_tool], chat_history=list(asked)))[-1] for _ in range(2)]
    else:
        begun = [llm.chat_with_tools([add_tool], chat_history=list(asked)) for _ in range(2)]
    for name, answer in zip(["small", "large"], begun, strict=True):
        result = ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": name})
        record = llm.chat_with_tools([add_tool], chat_history=[*asked, answer.message, result]).additional_kwargs["agentroute"]
        assert (record["by"], record["answered_by"]) == ("sticky", name)


def test_people_may_begin_as_programs_do():
    assert asked([user("Observation: the cat sleeps. Why?")]) == "Observation: the cat sleeps. Why?"
    assert asked([ChatMessage(role="system", content="s"), user("Observation: x")]) == "Observation: x"
    assert asked([model("hello"), user("Current state: of the union?")]) == "Current state: of the union?"


def test_each_message_is_one_turn_of_its_speaker():
    roles = [role.value for role in MessageRole]
    told = {turn.text: turn.role for turn in turns_of([ChatMessage(role=role, content=role) for role in roles])}
    assert told == {
        "system": "system",
        "developer": "system",
        "user": "user",
        "assistant": "assistant",
        "chatbot": "assistant",
        "model": "assistant",
        "tool": "tool",
        "function": "tool",
    }


def test_only_text_is_text():
    blocks = [TextBlock(text="a"), ThinkingBlock(content="hm"), ToolCallBlock(tool_name="t"), TextBlock(text="b")]
    assert turns_of([ChatMessage(role="assistant", blocks=blocks)]) == (Turn(role="assistant", text="a\nb", calls=("\nt",)),)
    assert turns_of([]) == ()


@pytest.mark.parametrize(
    ("block", "wants"),
    [
        (ImageBlock(image=PIXEL), {"image"}),
        # Never fetched: the address leads nowhere.
        (ImageBlock(url="http://model.test/cat.png"), {"image"}),
        (AudioBlock(audio=b"sound", format="mp3"), {"audio"}),
        (VideoBlock(video=b"film", video_mimetype="video/mp4"), {"video"}),
        (DocumentBlock(data=b"%PDF-1.7"), {"pdf"}),
        (DocumentBlock(data=b"?"), {"pdf"}),
        (DocumentBlock(data=b"words", document_mimetype="text/plain"), set()),
        (DocumentBlock(data=b"x", document_mimetype="image/tiff"), {"image"}),
        (CitableBlock(title="t", source="s", content=[DocumentBlock(data=b"%PDF-1.7")]), {"pdf"}),
        (CitableBlock(title="t", source="s", content="words"), set()),
        (TextBlock(text="words"), set()),
    ],
)
def test_contents_ask_for_what_they_are(block, wants):
    assert turns_of([ChatMessage(role="user", blocks=[block])])[0].wants == wants


def test_tokens_are_those_of_llamaindex():
    messages = [
        ChatMessage(role="system", content="Be brief."),
        user("What is 1 + 2? <|endoftext|>"),
        ChatMessage(
            role="assistant",
            blocks=[
                ThinkingBlock(content="I should add the two numbers."),
                ThinkingBlock(content="?", num_tokens=77),
                TextBlock(text="I add."),
                ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs={"a": 1, "b": 2}),
            ],
        ),
        ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": "c1"}),
        ChatMessage(
            role="user", blocks=[CitableBlock(title="t", source="s", content="Some words to cite."), TextBlock(text="so?")]
        ),
    ]
    counter = TokenCounter()
    assert prompt_tokens(messages) == counter.estimate_tokens_in_messages(messages)
    tool = FunctionTool.from_defaults(add)
    in_tools = counter.estimate_tokens_in_tools([tool.metadata.to_openai_tool()])
    assert prompt_tokens(messages, [tool]) - prompt_tokens(messages) == in_tools
    assert prompt_tokens(messages, [tool.metadata.to_openai_tool()]) - prompt_tokens(messages) == in_tools


async def test_files_count_flat_and_nothing_is_fetched_within_a_loop_too():
    blocks = [TextBlock(text="See"), ImageBlock(url="http://model.test/cat.png"), DocumentBlock(data=b"%PDF" + b"a" * 100_000)]
    bare = prompt_tokens([ChatMessage(role="user", blocks=blocks[:1])])
    assert prompt_tokens([ChatMessage(role="user", blocks=blocks)]) == bare + 2 * 1_500


def test_calls_that_are_kept_twice_count_once():
    block = ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs='{"a": 1}')
    legacy = [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}]
    in_blocks = prompt_tokens([ChatMessage(role="assistant", blocks=[block])])
    assert prompt_tokens([ChatMessage(role="assistant", blocks=[block], additional_kwargs={"tool_calls": legacy})]) == in_blocks
    assert prompt_tokens([ChatMessage(role="assistant", additional_kwargs={"tool_calls": legacy})]) == in_blocks


class Shouting(BaseOutputParser):
    """Says at the end of a prompt in which form to answer."""

    def parse(self, output):
        return output

    def format(self, query):
        return f"{query} ANSWER IN CAPITALS"


def test_a_template_asks_what_is_in_it():
    turns, question = prompt_turns(DEFAULT_TEXT_QA_PROMPT, {"context_str": "Cats sleep.", "query_str": "Who sleeps?"})
    assert question == "Who sleeps?"
    assert [turn.role for turn in turns] == ["user"]
    assert turns[0].text == DEFAULT_TEXT_QA_PROMPT.format(context_str="Cats sleep.", query_str="Who sleeps?")


def test_a_template_of_messages_keeps_who_speaks():
    turns, question = prompt_turns(CHAT_TEXT_QA_PROMPT, {"context_str": "Cats sleep.", "query_str": "Who sleeps?"})
    assert [turn.role for turn in turns] == ["system", "user"]
    assert "Cats sleep." in turns[1].text
    assert question == "Who sleeps?"


def test_a_template_that_was_filled_in_part_asks_its_question_too():
    half = PromptTemplate("{tone}: {query_str}").partial_format(query_str="Who sleeps?")
    assert prompt_turns(half, {"tone": "gently"}) == ((Turn(role="user", text="gently: Who sleeps?"),), "Who sleeps?")


def test_a_rich_template_asks_for_what_its_pictures_ask_for():
    rich = RichPromptTemplate("{% chat role='user' %}{{ text }} {{ 'http://model.test/cat.png' | image }}{% endchat %}")
    turns, question = prompt_turns(rich, {"text": "What is it?"})
    assert turns[0].wants == {"image"}
    assert turns[0].text.strip() == "What is it?"
    assert question is None


def test_a_template_is_left_as_it_is():
    ran = []
    inner = PromptTemplate("{more}{query_str}", function_mappings={"more": lambda **_: ran.append(1) or "more "})
    prompt = SelectorPromptTemplate(default_template=inner, conditionals=[(lambda llm: True, CHAT_TEXT_QA_PROMPT)])
    inner.output_parser = prompt.output_parser = Shouting()
    before = (prompt.model_copy(), inner.model_copy())
    turns, question = prompt_turns(prompt, {"query_str": "Who sleeps?"})
    # Neither the schema's words nor the caller's functions are a router's affair.
    assert turns == (Turn(role="user", text="{more}Who sleeps?"),)
    assert question == "Who sleeps?"
    assert ran == []
    assert (prompt, inner) == before
    assert prompt.output_parser is inner.output_parser
    assert prompt.format(query_str="Who sleeps?") == "more Who sleeps? ANSWER IN CAPITALS"


def test_naively_filling_a_selector_writes_into_the_templates_within():
    """Why the selector is not asked: a parser that one caller sets would stay for all."""
    inner = DEFAULT_TEXT_QA_PROMPT.model_copy()
    prompt = SelectorPromptTemplate(default_template=inner)
    prompt.output_parser = Shouting()
    prompt_turns(prompt, {"query_str": "?"})
    assert inner.output_parser is None
    prompt.format(query_str="?")
    assert inner.output_parser is not None


class Broken(PromptTemplate):
    """Cannot be filled."""

    def format_messages(self, llm=None, **kwargs):
        raise KeyError("context_str")


def test_what_cannot_be_filled_says_what_there_is():
    turns, question = prompt_turns(Broken("{query_str}"), {"query_str": "Who sleeps?", "nodes": [1], "context_str": "Cats."})
    assert turns == (Turn(role="user", text="Who sleeps?\nCats."),)
    assert question == "Who sleeps?"


@pytest.mark.parametrize("odd", [None, 7, "", "  ", ["x"]])
def test_a_question_that_is_no_text_is_none(odd):
    assert prompt_turns(PromptTemplate("say {query_str}"), {"query_str": odd})[1] is None


def test_the_default_selectors_of_llamaindex_can_be_read():
    turns, question = prompt_turns(DEFAULT_TEXT_QA_PROMPT_SEL, {"context_str": "Cats sleep.", "query_str": "Who sleeps?"})
    assert "Cats sleep." in turns[-1].text
    assert question == "Who sleeps?"
    assert DEFAULT_TEXT_QA_PROMPT_SEL.metadata["prompt_type"] == PromptType.QUESTION_ANSWER


@given(st.text(), st.dictionaries(st.sampled_from(["query_str", "context_str"]), st.text() | st.integers() | st.none()))
def test_no_template_fails_a_call(template, args):
    for prompt in (PromptTemplate(template), ChatPromptTemplate([user(template), model(template)])):
        turns, _ = prompt_turns(prompt, args)
        assert turns


@given(st.text(max_size=50), st.text(max_size=50).filter(str.strip))
@example("a\n\nCurrent message:\nb", "One.\n\nCurrent message:\ntwo.\n")
def test_whatever_the_state_the_users_words_come_back(value, words):
    from llama_index.core.agent.workflow.prompts import DEFAULT_STATE_PROMPT

    made = PromptTemplate(DEFAULT_STATE_PROMPT).format(state={"note": value}, msg=words)
    assert asked([user("before"), model("yes"), user(made)]) == words
