"""The pitfalls 13 to 22 that a routed LLM can fall into: each test says how a naive one, which passes calls on, does fall."""

import asyncio
import gc
import json
import pickle

import pytest
from llama_index.core import ChatPromptTemplate, PromptTemplate, SummaryIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.llms.loading import load_llm
from llama_index.core.prompts import SelectorPromptTemplate
from llama_index.core.prompts.utils import is_chat_model
from llama_index.core.schema import TextNode
from llama_index_instrumentation.event_handlers import BaseEventHandler

from agentroute.outcomes import MemoryOutcomeLog
from llama_index.llms.agentroute import CascadeLLM, RoutedLLM, UsageLedger
from llama_index.llms.agentroute.testing import ScriptedLLM

pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")

ASKED = "What of 3 and 4?"
KEY = "sk-0123456789-secret"


def user(text):
    return ChatMessage(text)


# --- 13: streams that nobody reads to their end ---


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_13_an_abandoned_stream_is_booked_and_the_model_s_stream_closed(asynchronous, team, attached):
    """Naive: no End event ever comes, so that the call has cost nothing and the connection stays open."""
    ledger, log = attached(UsageLedger()), MemoryOutcomeLog()
    llm = team.routed(outcome_log=log)
    if asynchronous:
        stream = await llm.astream_chat([user("x")])
        await anext(stream)
        await stream.aclose()
        gc.collect()  # LlamaIndex's own generator around the model's leaves it to the event loop
        await asyncio.sleep(0.01)
    else:
        stream = llm.stream_chat([user("x")])
        next(stream)
        stream.close()
    gc.collect()
    assert len(team.small.closed_streams) == 1
    assert llm.outcome_log.flush(5)
    (outcome,) = log
    assert (outcome.model, outcome.error, outcome.latency, outcome.metadata) == ("small", None, None, {"interrupted": True})
    (row,) = ledger.rows()
    assert (row.model, row.spent.calls, row.spent.interrupted) == ("small", 1, 1)


def test_13_a_stream_that_is_dropped_without_a_word_is_booked_too(team):
    """Naive: a generator that was never begun does not notice that it is thrown away."""
    log = MemoryOutcomeLog()
    llm = team.routed(outcome_log=log)
    llm.stream_chat([user("x")])
    gc.collect()
    assert llm.outcome_log.flush(5)
    assert [outcome.metadata for outcome in log] == [{"interrupted": True}]
    assert len(team.small.closed_streams) == 1


# --- 14: secrets; the rest stands in test_doors.py ---


def test_14_no_key_in_what_wraps_the_routed_llm(pair):
    """Naive: a field of LLMs as LlamaIndex's StructuredLLM has one: `SerializeAsAny[LLM]` writes the keys of all candidates."""

    class Keyed(ScriptedLLM):
        api_key: str = KEY

    class Naive(ScriptedLLM):
        llms: dict[str, Keyed]

    naive = Naive(llms={"a": Keyed()})
    assert KEY in json.dumps(naive.to_dict())
    assert KEY in repr(naive)
    llm = RoutedLLM(llms={"a": Keyed(model="a")}, outcome_log=MemoryOutcomeLog())
    for wrapped in (llm, llm.as_structured_llm(pair), FunctionAgent(llm=llm)):
        assert KEY not in repr(wrapped)
        assert KEY not in str(wrapped.model_dump())
        assert KEY.encode() not in pickle.dumps(llm)


# --- 15: pickles that destroy the live object ---


def test_15_pickling_leaves_the_live_llm_as_it_is(team):
    """Naive: LlamaIndex's `__getstate__` takes what cannot be pickled, such as a lambda, away from the instance itself."""
    llm = team.routed(router=lambda query: "large", prepare_messages=lambda messages, llm: messages)
    before = dict(llm.__dict__)
    copied = pickle.loads(pickle.dumps(llm))
    assert llm.__dict__ == before
    assert llm.chat([user("x")]).additional_kwargs["agentroute"]["by"] == "policy"
    assert copied.llms == {}
    assert copied.router is None


# --- 16: predict_and_call of LLMs that call no tools ---


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_16_predict_and_call_goes_to_a_model_that_calls_tools(asynchronous, team, add_tool):
    """Naive: passed on to a model that calls none, where LlamaIndex makes a ReActAgent in a way that fails."""
    team.small.calls_tools = False
    llm = team.routed()
    answer = await llm.apredict_and_call([add_tool], ASKED) if asynchronous else llm.predict_and_call([add_tool], ASKED)
    assert (answer.response, answer.metadata["agentroute"]["answered_by"]) == ("7", "large")


# --- 17: structured streams that show nothing ---


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_17_a_cascade_judges_whole_objects_and_shows_no_blank_one(asynchronous, pair):
    """Naive: the stream of a model with tool calls in blocks alone is made of blank objects, the last of them "accepted"."""
    blocks = ScriptedLLM(model="blocks", tool_style="blocks", replies=[pair(name="Ann", number=3)] * 2)
    large = ScriptedLLM(model="large")
    template = PromptTemplate("Who?")
    *_, last = blocks.stream_structured_predict(pair, template)
    assert last.name is None, "or else LlamaIndex reads blocks now, and the pitfall is gone"
    llm = CascadeLLM(llms={"blocks": blocks, "large": large})
    if asynchronous:
        found = [item async for item in await llm.astream_structured_predict(pair, template)]
    else:
        found = list(llm.stream_structured_predict(pair, template))
    assert found == [pair(name="Ann", number=3)]
    assert not large.calls


# --- 18: system prompts ---


@pytest.mark.parametrize("method", ["predict", "apredict", "stream", "astream"])
async def test_18_a_candidate_s_own_system_prompt_stays(method, team):
    """Naive: the inherited `predict` makes the messages with the wrapper's system prompt, which it has none of."""
    team.small.system_prompt = "INNER"

    async def asked(llm):
        found = getattr(llm, method)(PromptTemplate("hi"))
        found = await found if method.startswith("a") else found
        if "stream" in method:
            _ = [item async for item in found] if method.startswith("a") else list(found)
        return [message.content for message in team.small.calls[-1].messages]

    llm = team.routed()
    assert await asked(llm) == ["INNER", "hi"]
    llm.system_prompt = "OUTER"
    assert await asked(llm) == ["OUTER", "hi"]


def test_18_objects_keep_the_system_prompt_too(team, pair):
    team.small.system_prompt = "INNER"
    team.routed().structured_predict(pair, PromptTemplate("hi"))
    assert [message.content for message in team.small.calls[0].messages] == ["INNER", "hi"]


# --- 19: chat templates and completion models ---


def test_19_each_model_gets_the_template_for_its_kind(team):
    """Naive: the wrapper says that it is a chat model, and a completion model reads `system: … user: … assistant:`."""
    team.small.is_chat_model = False
    chat = ChatPromptTemplate(message_templates=[ChatMessage("Be brief.", role="system"), ChatMessage("Q: {query_str}")])
    prompt = SelectorPromptTemplate(PromptTemplate("Complete: {query_str}"), conditionals=[(is_chat_model, chat)])
    llm = team.routed(router=lambda query: query.text)
    llm.predict(prompt, query_str="small")
    llm.predict(prompt, query_str="large")
    assert (team.small.calls[0].door, team.small.calls[0].text) == ("complete", "Complete: small")
    assert (team.large.calls[0].door, team.large.calls[0].text) == ("chat", "Q: large")
    assert [message.role for message in team.large.calls[0].messages] == ["system", "user"]


# --- 20: dicts that cannot be made into LLMs again: LlamaIndex's own limit, for all LLMs around LLMs ---


def test_20_a_dict_makes_no_llm_rather_than_one_without_candidates(team):
    """Naive: `from_dict` gives an LLM that fails at its first call. Keys do not stand in the dict, so nothing can be rebuilt."""
    told = team.routed(role="writer").to_dict()
    assert (told["class_name"], told["role"]) == ("agentroute_routed_llm", "writer")
    assert not any(isinstance(one, dict) for one in told.get("llms", {}).values()), "names at most, and no settings"
    with pytest.raises(ValueError, match=r"llms|LLM"):
        RoutedLLM.from_dict(told)
    with pytest.raises(ValueError, match="Invalid LLM name"):
        load_llm(told)


# --- 21: the environment: nltk refuses hard-linked data, on which LlamaIndex's splitters stand ---


async def test_21_nothing_here_needs_a_splitter(team):
    """Not a fault of routing: an index of nodes needs no nltk, wherever its data are linked from."""
    # Asynchronous, for without an event loop LlamaIndex makes one of its own to count tokens in, and leaves it open.
    index = SummaryIndex([TextNode(text="two and two is four")])
    answer = index.as_query_engine(llm=team.routed()).query("Two and two?")
    assert str(answer) == "[small] answer to: " + team.small.calls[0].text


# --- 22: what LlamaIndex swallows ---


async def test_22_objects_of_agents_are_there(team, add_tool, pair):
    """Naive: an agent's `output_cls` goes through `as_structured_llm().achat`; where that fails, there is but a warning."""
    team.small.replies = [None, None, pair(name="Ann", number=7)]
    agent = FunctionAgent(tools=[add_tool], llm=team.routed(router=lambda query: "small"), output_cls=pair)
    result = await agent.run(ASKED)
    assert result.structured_response == {"name": "Ann", "number": 7}
    assert team.asked == {"small": 3, "large": 0}


class Breaks(BaseEventHandler):
    """A handler of somebody's that does not work."""

    @classmethod
    def class_name(cls):
        return "Breaks"

    def handle(self, event, **kwargs):
        msg = "no"
        raise RuntimeError(msg)


async def test_22_a_broken_listener_harms_nobody(door, team, attached, events):
    attached(Breaks())
    await door(team.routed(), ASKED)
    assert [event.model for event in events.routed] == ["small"]
