"""What a user expects of a routed LLM: every public door of an LLM, and what stands on what comes out."""

import json
import pickle

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.chat_engine.types import AgentChatResponse
from llama_index.core.extractors import TitleExtractor
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.llms import LLM, ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.schema import TextNode

from agentroute.errors import ConfigError, NoEligibleModelError, UnknownModelError
from agentroute.outcomes import MemoryOutcomeLog, QueuedOutcomeLog
from llama_index.llms.agentroute import CascadeLLM, RoutedLLM
from llama_index.llms.agentroute.testing import ScriptedLLM

# LlamaIndex's StructuredLLM writes its streams with a method of pydantic's old ones.
pytestmark = pytest.mark.filterwarnings("ignore:The `json` method is deprecated:pydantic.warnings.PydanticDeprecatedSince20")

SHORT, LONG = "What of 3 and 4?", "What of the numbers 3 and 4, if I may ask?"
SHAPES = {"chat": ChatResponse, "completion": CompletionResponse, "result": AgentChatResponse, "text": str}


# --- each door ---


@pytest.mark.parametrize(("text", "name"), [(SHORT, "small"), (LONG, "large")])
async def test_every_door_asks_the_model_that_the_router_chose_and_no_other(door, team, text, name):
    answer = await door(team.routed(), text)
    assert team.asked == {"small": 0, "large": 0} | {name: 1}
    assert isinstance(answer, SHAPES.get(door.shape, object))


async def test_every_door_gives_what_the_model_gives_by_itself(door, team, pair):
    alone = ScriptedLLM(model="small")
    expected = await door.items(alone, SHORT)
    found = await door.items(team.routed(), SHORT)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        if door.shape == "chat":
            assert (one.message, one.delta, one.raw) == (other.message, other.delta, other.raw)
        elif door.shape == "completion":
            assert (one.text, one.delta, one.raw) == (other.text, other.delta, other.raw)
        elif door.shape == "structured":
            assert one.raw.model_dump() == other.raw.model_dump()
        elif door.shape == "result":
            assert (one.response, [s.raw_output for s in one.sources]) == (other.response, [s.raw_output for s in other.sources])
        else:
            # Objects that grow are of a class that LlamaIndex makes anew for each of them.
            assert (one if isinstance(one, str) else one.model_dump()) == (
                other if isinstance(other, str) else other.model_dump()
            )
    (asked,), (asked_alone,) = team.small.calls, alone.calls
    assert (asked.door, asked.messages, asked.kwargs) == (asked_alone.door, asked_alone.messages, asked_alone.kwargs)
    if door.shape == "object":
        assert isinstance(found[-1], pair)


async def test_streams_are_passed_on_chunk_by_chunk(stream_door, team):
    items = await stream_door.items(team.routed(), SHORT)
    assert len(items) > 1
    (asked,) = team.small.calls
    assert "stream" in asked.door


async def test_sync_doors_stay_sync_and_async_ones_async(door, team):
    await door(team.routed(), SHORT)
    assert team.small.calls[0].door.startswith("a") is door.awaits


async def test_records_stand_on_the_answer_and_on_every_chunk(recording_door, team):
    items = await recording_door.items(team.routed(), LONG)
    records = [recording_door.record(item) for item in items]
    for record in records:
        assert json.loads(json.dumps(record)) == record
        assert (record["model"], record["answered_by"], record["by"]) == ("large", "large", "policy")
        assert [one["model"] for one in record["attempts"]] == ["large"]
    assert len({record["decision_id"] for record in records}) == 1


async def test_records_never_stand_on_the_message_or_on_what_the_model_gave(recording_door, team):
    if recording_door.shape == "result":
        return  # made of a tool's output
    given = []
    team.small.replies = [lambda messages: given.append(ChatResponse(message=ChatMessage("hello", role="assistant"))) or given[0]]
    answer = await recording_door(team.routed(), SHORT)
    assert given[0].additional_kwargs == {}, "the candidate's own answer is not edited"
    if recording_door.shape == "chat":
        assert answer.message.additional_kwargs == {}


async def test_doors_without_a_place_for_a_record_tell_it_in_events(door, team, events):
    await door(team.routed(role="writer"), LONG)
    (event,) = events.routed
    assert (event.model, event.role, event.by, event.attempt, event.error) == ("large", "writer", "policy", 0, None)
    assert event.reason == "the rule chose large"
    assert event.candidates == ["large", "small"]


async def test_events_of_the_model_within_are_tagged_and_told_once(door, team, events):
    await door(team.routed(role="writer"), SHORT)
    starts = events.of("LLMChatStartEvent", "LLMCompletionStartEvent")
    ends = events.of("LLMChatEndEvent", "LLMCompletionEndEvent")
    # A StructuredLLM is a second LLM around the routed one: LlamaIndex tells its call too.
    own = [event for event in starts if event.model_dict["class_name"] == "scripted_llm"]
    assert len(own) == 1
    assert len(starts) == len(ends) == (2 if door.shape == "structured" else 1)
    assert own[0].tags["agentroute"]["model"] == "small"
    assert own[0].tags["agentroute"]["role"] == "writer"
    within = [event for event in ends if event.span_id == own[0].span_id]
    assert [event.tags["agentroute"]["model"] for event in within] == ["small"]


async def test_a_forced_model_answers_through_every_door(door, team):
    answer = await door(team.routed(), SHORT, agentroute_model="large")
    assert team.asked == {"small": 0, "large": 1}
    assert "agentroute_model" not in team.large.calls[0].kwargs
    if door.records:
        assert door.record(answer)["by"] == "forced"
    with pytest.raises(UnknownModelError, match="'huge'"):
        await door(team.routed(), SHORT, agentroute_model="huge")


async def test_only_models_that_call_tools_are_asked_with_tools(tool_door, team):
    team.small.calls_tools = False
    answer = await tool_door(team.routed(), SHORT)
    assert team.asked == {"small": 0, "large": 1}
    assert "may not answer this" in tool_door.record(answer)["reason"]
    team.large.calls_tools = False
    with pytest.raises(NoEligibleModelError, match="tools"):
        await tool_door(team.routed(), SHORT)


async def test_without_a_tool_any_model_takes_a_call_with_tools(team, tool_door):
    team.small.calls_tools = False
    if tool_door.shape == "result":
        with pytest.raises(NoEligibleModelError, match="tools"):  # LlamaIndex's way for the others does not work: pitfall 16
            await tool_door(team.routed(llms={"small": team.small}), SHORT, tools=[])
        return
    answer = await tool_door(team.routed(), SHORT, tools=[])
    assert answer.message.content == f"[small] answer to: {SHORT}"
    assert team.small.calls[0].kwargs == {}


async def test_tool_calls_are_read_by_the_model_that_made_them(team):
    tool = [_tool()]
    for style in ("openai", "blocks", "kwargs"):
        team.small.tool_style = style
        # LlamaIndex looks for tool calls on every chunk of a stream, and once more at its end.
        for answer in (*team.routed().stream_chat_with_tools(tool, SHORT), team.routed().chat_with_tools(tool, SHORT)):
            found = team.routed().get_tool_calls_from_response(answer, error_on_no_tool_call=False)
            assert found == team.small.get_tool_calls_from_response(answer, error_on_no_tool_call=False)
        assert [(one.tool_name, one.tool_kwargs) for one in found] == [("add", {"a": 3, "b": 4})]


def test_tool_calls_of_an_answer_without_a_record_are_read_from_its_blocks(team):
    answer = team.small.chat_with_tools([_tool()], SHORT)
    (found,) = team.routed().get_tool_calls_from_response(answer)
    assert (found.tool_name, found.tool_kwargs) == ("add", {"a": 3, "b": 4})
    plain = team.small.chat([ChatMessage("hi")])
    assert team.routed().get_tool_calls_from_response(plain, error_on_no_tool_call=False) == []
    with pytest.raises(ValueError, match="at least one tool call"):
        team.routed().get_tool_calls_from_response(plain)


def _tool():
    from llama_index.core.tools import FunctionTool

    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    return FunctionTool.from_defaults(add)


async def test_objects_are_made_in_the_model_s_own_way(object_door, team, pair):
    """One that calls tools fills the tool of the schema; one that does not is asked for JSON."""
    team.small.replies = [pair(name="Ann", number=3)]
    team.large.replies = [pair(name="Bob", number=4)]
    team.large.calls_tools = False
    # LlamaIndex cannot stream objects of an LLM that calls no tools, whoever asks it.
    names = ["small"] if object_door.streams else ["small", "large"]
    for name in names:
        answer = await object_door(team.routed(router=lambda query, name=name: name), SHORT)
        found = answer.raw if object_door.shape == "structured" else answer
        assert found == pair(name={"small": "Ann", "large": "Bob"}[name], number={"small": 3, "large": 4}[name])
    assert [tool["function"]["name"] for tool in team.small.calls[0].tools] == ["Pair"]
    if not object_door.streams:
        (asked,) = team.large.calls
        assert asked.tools == []
        assert "JSON schema" in asked.text


async def test_prompts_are_routed_on_their_question(team):
    seen = []
    llm = team.routed(router=lambda query: seen.append(query.text) or "small")
    template = PromptTemplate("Context: {context_str}\nQuestion: {query_str}")
    llm.predict(template, context_str="long " * 100, query_str="Who?")
    llm.predict(PromptTemplate("Summarise: {text}"), text="something")
    await llm.achat([ChatMessage("a system", role="system"), ChatMessage("Hello?"), ChatMessage("Hi.", role="assistant")])
    llm.complete("Once upon")
    assert seen == ["Who?", "Summarise: something", "Hello?", "Once upon"]


# --- overrides, roles ---


def test_a_candidate_can_be_asked_directly(team):
    llm = team.routed()
    assert llm.llms["large"] is team.large
    assert "agentroute" not in llm.llms["large"].chat([ChatMessage("hi")]).additional_kwargs


def test_for_role_shares_all_but_the_role(team):
    seen = []
    llm = team.routed(router=lambda query: seen.append(query.role) or "small")
    planner = llm.for_role("planner")
    assert (planner.role, llm.role) == ("planner", None)
    assert planner.llms["small"] is team.small
    assert planner._memory is llm._memory
    llm.chat([ChatMessage("x")])
    planner.chat([ChatMessage("x")])
    assert seen == [None, "planner"]


def test_arguments_that_are_assigned_take_effect_or_are_refused_whole(team):
    llm = team.routed()
    llm.router = None
    llm.default = "large"
    assert llm.chat([ChatMessage("x")]).additional_kwargs["agentroute"]["answered_by"] == "large"
    with pytest.raises(UnknownModelError):
        llm.default = "huge"
    assert llm.default == "large"
    with pytest.raises(UnknownModelError):
        llm.llms = {"small": team.small}
    assert list(llm.llms) == ["small", "large"]
    llm.default = None
    llm.llms = {"small": team.small}
    assert llm.chat([ChatMessage("x")]).additional_kwargs["agentroute"]["answered_by"] == "small"
    assert llm.metadata.model_name == "routed(small)"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"llms": {}}, "at least one"),
        ({"llms": {"a": object()}}, "not an LLM"),
        ({"routr": None}, "did you mean 'router'"),
        ({"models": {}}, "did you mean 'llms'"),
        ({"router": "a folder"}, "no route"),
        ({"outcome_log": "log.sqlite"}, "is a path"),
        ({"context_window": 0}, "context_window=0"),
        ({"rate_limiter": object()}, "on the candidates"),
    ],
)
def test_arguments_are_checked_when_they_are_given(team, kwargs, message):
    with pytest.raises(ConfigError, match=message):
        team.routed(**kwargs)


# --- what it promises ---


def test_it_is_what_llamaindex_asks_for(team, pair):
    llm = team.routed()
    assert isinstance(llm, FunctionCallingLLM)
    assert isinstance(llm, LLM)
    assert llm.metadata.is_function_calling_model
    assert llm.metadata.is_chat_model
    assert llm.metadata.model_name == "routed(small,large)"
    assert isinstance(llm.as_structured_llm(pair), StructuredLLM)
    team.small.calls_tools = team.large.calls_tools = False
    assert not team.routed().metadata.is_function_calling_model


# --- secrets ---

KEY = "sk-0123456789-secret"


class Keyed(ScriptedLLM):
    """As providers' LLMs: the key is a field like any other."""

    api_key: str = KEY


def keyed(**kwargs):
    return RoutedLLM(llms={"small": Keyed(model="small"), "large": Keyed(model="large")}, **kwargs)


def test_the_candidates_do_hold_a_key():
    """Or else the tests below would show nothing."""
    assert KEY in repr(Keyed())
    assert KEY in json.dumps(Keyed().to_dict())


def test_no_key_in_any_form_of_the_routed_llm(pair):
    llm = keyed(router=lambda query: "small", role="writer")
    for form in (
        repr(llm),
        str(llm),
        f"{llm!r:>3}",
        json.dumps(llm.to_dict()),
        llm.to_json(),
        llm.model_dump_json(),
        str(llm.model_dump()),
        json.dumps(llm.to_payload()),
        repr(llm.as_structured_llm(pair)),
        json.dumps(llm.as_structured_llm(pair).to_payload(), default=str),
        repr(llm.metadata),
    ):
        assert KEY not in form
    assert KEY.encode() not in pickle.dumps(llm)
    assert llm.to_payload()["llms"] == ["small", "large"]


async def test_no_key_in_events(door, events):
    await door(keyed(), "What of 3 and 4?")
    assert events.all
    for event in events.all:
        # The events of the candidate's own calls are the candidate's: LlamaIndex's to_payload leaves the key out of them.
        assert KEY not in repr(event)
        assert KEY not in str(event.model_dump())


def test_a_pickled_copy_is_without_candidates_until_it_is_given_some(team):
    llm = team.routed(role="writer", sticky="conversation")
    copied = pickle.loads(pickle.dumps(llm))
    assert (copied.role, copied.sticky, copied.metadata) == ("writer", "conversation", llm.metadata)
    with pytest.raises(ConfigError, match="give it some"):
        copied.chat([ChatMessage("x")])
    copied.llms = llm.llms
    assert copied.chat([ChatMessage("x")]).message.content == "[small] answer to: x"
    assert llm.chat([ChatMessage("x")]).message.content == "[small] answer to: x", "the first one is unharmed"


@pytest.mark.parametrize("settings", [{"threshold": 0.7}, {"check_last": True}])
@pytest.mark.parametrize("first", ["llms", "judge"])
def test_a_pickled_cascade_is_revived_in_any_order(team, settings, first):
    given = {"llms": {"small": team.small, "large": team.large}, "judge": lambda reply: "large" in reply.text}
    llm = pickle.loads(pickle.dumps(CascadeLLM(**given, **settings)))
    order = [first, *(name for name in given if name != first)]
    setattr(llm, first, given[first])
    with pytest.raises(ConfigError, match="judge" if first == "llms" else "give it some"):
        llm.chat([ChatMessage("x")])
    setattr(llm, order[1], given[order[1]])
    assert llm.chat([ChatMessage("x")]).additional_kwargs["agentroute"]["answered_by"] == "large"
    assert {name: getattr(llm, name) for name in settings} == settings
    with pytest.raises(ConfigError, match="judge"):
        llm.judge = None
    assert llm.judge is given["judge"], "once it works, a wrong argument is refused again"


def test_a_revived_llm_keeps_its_log_in_one_queue(team):
    llm = pickle.loads(pickle.dumps(team.routed(router=None)))
    log = MemoryOutcomeLog()
    llm.outcome_log = log
    llm.llms = {"small": team.small}
    assert isinstance(llm.outcome_log, QueuedOutcomeLog)
    llm.chat([ChatMessage("x")])
    assert llm.outcome_log.flush(5.0)
    assert [outcome.model for outcome in log] == ["small"]


def test_a_pipelines_cache_sees_other_candidates(team):
    nodes = [TextNode(text="x", id_="1")]

    def key(llms):
        return get_transformation_hash(nodes, TitleExtractor(llm=team.routed(llms=llms)))

    both = {"small": team.small, "large": team.large}
    assert key(both) == key({**both, "small": ScriptedLLM(model="small")})
    assert len({key(both), key({**both, "small": ScriptedLLM(model="other")}), key({"small": team.small})}) == 3
    assert team.routed().to_dict()["llms"] == {"small": "small", "large": "large"}
