"""The pitfalls 1 to 12 that a routed LLM can fall into: each test says how a naive one, which passes calls on, does fall."""

import asyncio
import json

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.agent.workflow import AgentWorkflow, CodeActAgent, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ThinkingBlock, ToolCallBlock
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.llms.openai.utils import to_openai_message_dicts

from agentroute.errors import AgentRouteWarning, RouterFailedWarning
from agentroute.serving import StickyCache
from llama_index.llms.agentroute import RoutedLLM, memory_for
from llama_index.llms.agentroute.testing import ScriptedLLM

# Agents look at all attributes of theirs when they are made, pydantic's old ones among them; and a ReActAgent asks for what its
# workflows library no longer wants to be asked.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pydantic.warnings.PydanticDeprecationWarning", "ignore:is_running called from within a step:DeprecationWarning"
)

ASKED = "What of 3 and 4?"


class Other(ScriptedLLM):
    """Another provider's class, which cannot read what the first one writes."""


def user(text):
    return ChatMessage(text)


def record(answer):
    return answer.additional_kwargs["agentroute"]


# --- 1: double counting ---


async def test_1_each_call_counts_once_and_listeners_of_the_wrapper_hear_the_candidates(door, events):
    """Naive: 30 tokens, where `chat` is decorated with `llm_chat_callback`; 0, where the callback manager is not handed down."""
    counter = TokenCountingHandler()
    llm = RoutedLLM(llms={"small": ScriptedLLM(model="small")}, callback_manager=CallbackManager([counter]))
    if door.shape == "structured":
        return  # core's StructuredLLM is a second LLM, and counts beside the one within: not ours to mend
    await door(llm, ASKED)
    assert (counter.prompt_llm_token_count, counter.completion_llm_token_count) == (10, 5)
    assert len(counter.llm_token_counts) == 1
    assert len(events.of("LLMChatEndEvent", "LLMCompletionEndEvent")) == 1


def test_1_a_candidate_keeps_its_own_listeners():
    own, outer = TokenCountingHandler(), TokenCountingHandler()
    small = ScriptedLLM(model="small", callback_manager=CallbackManager([own]))
    RoutedLLM(llms={"small": small}, callback_manager=CallbackManager([outer])).chat([user("x")])
    assert (own.total_llm_token_count, outer.total_llm_token_count) == (15, 0)


def test_1_a_manager_that_is_assigned_later_is_handed_down_too(team):
    """`Settings.llm` and agents set the callback manager of the LLM that they are given."""
    counter = TokenCountingHandler()
    llm = team.routed()
    llm.callback_manager = CallbackManager([counter])
    llm.chat([user("x")])
    assert counter.total_llm_token_count == 15


# --- 2: history that candidates add to ---


@pytest.mark.parametrize("door_name", ["chat_with_tools", "achat_with_tools", "stream_chat_with_tools", "predict_and_call"])
async def test_2_each_attempt_has_a_history_of_its_own(door_name, add_tool, team):
    """Naive: the list handed on as it is; OpenAI appends to it, and the second model reads the question twice."""
    team.small.replies = [ConnectionError()]
    history = [user("earlier"), ChatMessage("ok", role="assistant")]
    asked = getattr(team.routed(), door_name)([add_tool], "now 3 4", chat_history=history)
    if door_name.startswith("a"):
        await asked
    elif door_name.startswith("stream"):
        list(asked)
    assert [message.content for message in team.large.calls[0].messages] == ["earlier", "ok", "now 3 4"]
    assert [message.content for message in history] == ["earlier", "ok"]


# --- 3: templates and arguments that candidates change ---


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_3_each_attempt_has_a_template_of_its_own(asynchronous, team, pair):
    """Naive: a model asked for JSON writes its parser into the template, and the next one reads the schema in its prompt."""
    team.small.calls_tools = False
    team.small.replies = [ConnectionError()]
    template = PromptTemplate("Who is {query_str}?")
    llm = team.routed()
    if asynchronous:
        await llm.astructured_predict(pair, template, query_str="Ann")
    else:
        llm.structured_predict(pair, template, query_str="Ann")
    assert "JSON schema" in team.small.calls[0].text
    assert team.large.calls[0].text == "Who is Ann?"
    assert template.output_parser is None


def test_3_each_attempt_has_arguments_of_its_own(pair):
    """Naive: OpenAI writes its `response_format` into `llm_kwargs`, and the next model is sent it."""

    class Writes(ScriptedLLM):
        def structured_predict(self, output_cls, prompt, llm_kwargs=None, **prompt_args):
            llm_kwargs["response_format"] = "json_schema"
            raise ConnectionError

    given = {"temperature": 0.0, "tool_choice": "any"}
    backup = ScriptedLLM(model="backup")
    llm = RoutedLLM(llms={"writes": Writes(model="writes"), "backup": backup})
    llm.structured_predict(pair, PromptTemplate("Who is {who}?"), llm_kwargs=given, who="Ann")
    assert given == {"temperature": 0.0, "tool_choice": "any"}
    assert backup.calls[0].kwargs["temperature"] == 0.0
    assert "response_format" not in backup.calls[0].kwargs


# --- 4: where the record stands ---


@pytest.mark.parametrize("style", ["openai", "blocks", "kwargs"])
def test_4_the_record_never_reaches_a_provider(style, team, add_tool):
    """Naive: the record in `message.additional_kwargs`, which OpenAI's converter sends along with tool calls."""
    team.small.tool_style = style
    *_, streamed = team.routed().stream_chat_with_tools([add_tool], ASKED)
    for answer in (team.routed().chat_with_tools([add_tool], ASKED), streamed):
        assert record(answer)["answered_by"] == "small"
        sent = to_openai_message_dicts([user(ASKED), answer.message])
        assert "agentroute" not in json.dumps(sent, default=str)


# --- 5: whose parser ---


@pytest.mark.parametrize("chooses", ["small", "large"])
def test_5_every_chunk_is_read_by_its_own_model(chooses, team, add_tool):
    """Naive: one parser for all, or the parser of "the current model", which another call has changed by then."""
    team.small.tool_style, team.large.tool_style = "blocks", "kwargs"
    llm = team.routed(router=lambda query: chooses)
    chunks = list(llm.stream_chat_with_tools([add_tool], ASKED))
    list(team.routed(router=lambda query: "small").stream_chat_with_tools([add_tool], ASKED))
    other = team.large if chooses == "small" else team.small
    for chunk in chunks:
        (call,) = llm.get_tool_calls_from_response(chunk)
        assert call.tool_name == "add"
        assert other.get_tool_calls_from_response(chunk, error_on_no_tool_call=False) == []
    assert call.tool_kwargs == {"a": 3, "b": 4}


# --- 6: histories that cross from one provider to another ---


def test_6_another_provider_gets_a_history_that_it_can_read(add_tool):
    """Naive: OpenAI's string of arguments goes to Anthropic as it is, and so does a thought that Anthropic has not signed."""
    thought = ThinkingBlock(content="hm", additional_information={"signature": "mine"})
    called = ToolCallBlock(tool_call_id="1", tool_name="add", tool_kwargs='{"a": 3, "b": 4}')
    said = ChatMessage(
        role="assistant", blocks=[thought, called], additional_kwargs={"tool_calls": ["an object of the client's"]}
    )
    first, second = ScriptedLLM(model="first", replies=[said]), Other(model="second")
    llm = RoutedLLM(llms={"first": first, "second": second})
    answer = llm.chat_with_tools([add_tool], ASKED)
    history = [user(ASKED), answer.message, ChatMessage("7", role="tool", additional_kwargs={"tool_call_id": "1"})]
    for model, expected in (
        ("second", [ToolCallBlock(tool_call_id="1", tool_name="add", tool_kwargs={"a": 3, "b": 4})]),
        ("first", [thought, called]),
    ):
        llm.chat_with_tools([add_tool], chat_history=history, agentroute_model=model)
        seen = llm.llms[model].calls[-1].messages
        assert seen[1].blocks == expected
        assert seen[1].additional_kwargs == ({} if model == "second" else said.additional_kwargs)
        assert seen[2].additional_kwargs == {"tool_call_id": "1"}
    assert history[1].blocks == [thought, called], "the caller's messages are not edited"


# --- 7: what was asked ---


def seen_by(router_log):
    return lambda query: router_log.append(query.text) or "small"


@pytest.mark.parametrize("streaming", [True, False])
async def test_7_react_steps_are_routed_on_the_question(streaming, add_tool, team):
    """Naive: the last user message, which is `Observation: 7` from the second step on."""
    seen = []
    team.small.replies = [
        'Thought: I need a tool.\nAction: add\nAction Input: {"a": 3, "b": 4}',
        "Thought: I can answer without using any more tools.\nAnswer: 7",
    ]
    llm = team.routed(router=seen_by(seen), sticky="none")
    result = await ReActAgent(tools=[add_tool], llm=llm, streaming=streaming).run(ASKED)
    assert str(result) == "7"
    assert team.small.calls[1].messages[-1].content == "Observation: 7"
    assert seen == [ASKED, ASKED]


async def test_7_code_steps_are_routed_on_the_question(team):
    """Naive: `Result of executing the code given: …`."""
    seen = []
    team.small.replies = ["<execute>print(7)</execute>", "It is 7."]
    llm = team.routed(router=seen_by(seen), sticky="none")
    agent = CodeActAgent(code_execute_fn=lambda code: "7", llm=llm)
    assert str(await agent.run(ASKED)) == "It is 7."
    assert team.small.calls[1].messages[-1].content.startswith("Result of executing the code")
    assert seen == [ASKED, ASKED]


async def test_7_the_state_of_a_workflow_is_no_part_of_the_question(team):
    """Naive: `Current state: … Current message: …`."""
    seen = []
    agent = FunctionAgent(name="one", llm=team.routed(router=seen_by(seen)))
    await AgentWorkflow(agents=[agent], initial_state={"note": "what a poem"}).run(ASKED)
    assert "what a poem" in team.small.calls[0].text or "what a poem" in str(team.small.calls[0].messages)
    assert seen == [ASKED]


# --- 8: sticky decisions ---


async def test_8_a_tool_loop_keeps_its_model_and_the_next_run_begins_anew(add_tool, team):
    """Naive: a dict keyed by the words so far: the second run of the same words has "kept" a model without being asked."""
    seen = []
    llm = team.routed(router=seen_by(seen))
    agent = FunctionAgent(tools=[add_tool], llm=llm)
    for run in (1, 2):
        await agent.run(ASKED)
        assert len(team.small.calls) == 2 * run
        assert len(seen) == run


def test_8_roles_do_not_keep_one_another_s_models(add_tool, team):
    names = {"planner": "small", "writer": "large"}
    llm = team.routed(router=lambda query: names[query.role])
    answer = llm.for_role("planner").chat_with_tools([add_tool], ASKED)
    history = [user(ASKED), answer.message, ChatMessage("7", role="tool")]
    kept = llm.for_role("planner").chat_with_tools([add_tool], chat_history=history)
    other = llm.for_role("writer").chat_with_tools([add_tool], chat_history=history)
    assert (record(kept)["by"], record(kept)["model"]) == ("sticky", "small")
    assert (record(other)["by"], record(other)["model"]) == ("policy", "large")


def test_8_the_memory_of_answers_is_bounded(team):
    llm = team.routed()
    object.__setattr__(llm, "_memory", StickyCache(size=3))
    llm._serving = llm._remembering(llm._serving)
    for number in range(10):
        llm.chat([user(f"question {number}")])
    assert len(llm._memory) == 3


# --- 9: windows ---


def test_9_the_window_is_the_smallest_unless_said_otherwise_and_prompts_are_fitted_in_any_case():
    """Naive: the largest and no filter, so that long prompts go to models that refuse them; or 3,900, and prompts are split."""
    llms = {"small": ScriptedLLM(model="small", context_window=2_000), "large": ScriptedLLM(model="large")}
    windows = {window: RoutedLLM(llms=llms, context_window=window).metadata.context_window for window in ("min", "max", 7_000)}
    assert windows == {"min": 2_000, "max": 32_768, 7_000: 7_000}
    llm = RoutedLLM(llms=llms, context_window="max", router=lambda query: "small")
    assert record(llm.chat([user("word " * 100)]))["answered_by"] == "small"
    assert record(llm.chat([user("word " * 3_000)]))["answered_by"] == "large"
    with pytest.warns(AgentRouteWarning, match="3900"):
        RoutedLLM(llms={"unset": ScriptedLLM(model="unset", context_window=3_900)})


# --- 10: memories ---


async def test_10_a_memory_for_all_agents_and_not_for_the_root_alone():
    """Naive: AgentWorkflow's own, of three quarters of the root's window, overflows an agent with a smaller one."""
    root = FunctionAgent(name="root", description="a", llm=ScriptedLLM(context_window=128_000))
    small = ScriptedLLM(context_window=8_000)
    other = FunctionAgent(name="other", description="b", llm=RoutedLLM(llms={"a": small, "b": ScriptedLLM()}))
    assert ChatMemoryBuffer.from_defaults(llm=root.llm).token_limit == 96_000
    memory = memory_for([root, other])
    assert memory.token_limit == 6_000
    memory.put_messages([user("word " * 2_000) for _ in range(9)])
    root.llm.replies = ["So be it."]
    await AgentWorkflow(agents=[root, other], root_agent="root").run("and now?", memory=memory)
    assert len(root.llm.calls[0].messages) <= 4


# --- 11: routers that answer outside the pool ---


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_11_a_router_that_names_a_stranger_costs_no_answer(asynchronous, team, events):
    """Naive: `llms[name]` raises a KeyError, or a model that calls no tools gets the call, and the tools are dropped."""
    llm = team.routed(router=lambda query: "huge")
    with pytest.warns(RouterFailedWarning, match="'huge'"):
        answer = await llm.achat([user("x")]) if asynchronous else llm.chat([user("x")])
    assert (record(answer)["fallback"], record(answer)["answered_by"]) == (True, "small")
    assert events.routed[0].by == "default"


async def test_11_handoffs_go_to_models_that_call_tools(team):
    """As in CodeActAgent with a handoff, whose tool was silently dropped."""
    team.small.calls_tools = False
    llm = team.routed(router=lambda query: "small")
    first = CodeActAgent(name="first", code_execute_fn=lambda code: "7", llm=llm, description="a", can_handoff_to=["second"])
    second = FunctionAgent(name="second", llm=ScriptedLLM(model="end"), description="b", can_handoff_to=[])
    team.large.replies = [ToolCallBlock(tool_call_id="1", tool_name="handoff", tool_kwargs={"to_agent": "second", "reason": "r"})]
    result = await AgentWorkflow(agents=[first, second], root_agent="first").run(ASKED)
    assert result.current_agent_name == "second"
    assert team.asked == {"small": 0, "large": 1}


# --- 12: streams ---


@pytest.mark.parametrize("error", [None, ConnectionError("the stream broke")])
async def test_12_streams_fail_over_before_the_first_chunk_and_tag_every_chunk(stream_door, error, team, events):
    """Naive: the lazy generator fails outside the `try`; and the tags are gone by the time its chunks are made."""
    if error is None:
        team.small.break_after = 0
    else:
        team.small.replies = [error]
    await stream_door(team.routed(), ASKED)
    assert team.asked == {"small": 1, "large": 1}
    named = {"LLMChatInProgressEvent", "LLMCompletionInProgressEvent", "LLMChatEndEvent", "LLMCompletionEndEvent"}
    starts = events.of("LLMChatStartEvent", "LLMCompletionStartEvent")
    large = {event.span_id for event in starts if event.model_dict.get("model_name") == "large"}
    heard = [event for event in events.of(*named) if event.span_id in large]
    assert len(heard) > 2
    assert {event.tags["agentroute"]["model"] for event in heard} == {"large"}
    assert {event.tags["agentroute"]["attempt"] for event in heard} == {1}


async def test_12_two_streams_read_in_turn_keep_their_own_tags(team, events):
    llm = team.routed(router=lambda query: query.text)
    streams = [await llm.astream_chat([user(name)]) for name in ("small", "large")]
    await asyncio.gather(*(anext(stream) for stream in streams))
    for first, second in zip(*[[chunk async for chunk in stream] for stream in streams], strict=True):
        assert (record(first)["model"], record(second)["model"]) == ("small", "large")
    spans = {event.span_id: event.model_dict["model_name"] for event in events.of("LLMChatStartEvent")}
    for event in events.of("LLMChatInProgressEvent", "LLMChatEndEvent"):
        assert event.tags["agentroute"]["model"] == spans[event.span_id]
