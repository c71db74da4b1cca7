"""Who takes a call, told to instrumentation and to the streams of workflows."""

import asyncio
import gc
import threading

import numpy as np
import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, LLMMetadata, ToolCallBlock
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.dispatcher import active_instrument_tags, instrument_tags
from llama_index.core.instrumentation.event_handlers.base import BaseEventHandler
from llama_index.core.instrumentation.events.llm import LLMChatEndEvent, LLMChatStartEvent
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.workflow import Context, StartEvent, StopEvent, Workflow, step
from pydantic import Field

from agentroute.types import Candidate, Decision, Paradigm
from llama_index.llms.agentroute import events
from llama_index.llms.agentroute.allocation import use_allocation
from llama_index.llms.agentroute.base import RoutedLLM
from llama_index.llms.agentroute.events import ModelRouted, ModelRoutedEvent, tagged, tell

# LlamaIndex's agents look through their own attributes, pydantic's old ones among them.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")

DECISION = Decision(
    model="small",
    candidates=(Candidate(model="small", cost=0.25), Candidate(model="large", cost=0.75), Candidate(model="free")),
    reason="small is good enough",
    by="policy",
    paradigm=Paradigm(when="pre-generation", what=("text",), how="lookup"),
    id="d" * 32,
)
WHOLE = {
    "role": "planner",
    "model": "small",
    "by": "policy",
    "reason": "small is good enough",
    "decision_id": "d" * 32,
    "candidates": ["small", "large", "free"],
    "attempt": 0,
    "expected_cost": 0.25,
    "error": None,
}


class Collector(BaseEventHandler):
    seen: list = Field(default_factory=list)
    fails: bool = False

    def handle(self, event, **kwargs):
        if self.fails:
            msg = "a handler of the user's"
            raise RuntimeError(msg)
        self.seen.append(event)

    def routed(self):
        return [event for event in self.seen if isinstance(event, ModelRoutedEvent)]


@pytest.fixture
def collector():
    made, root = Collector(), get_dispatcher()
    root.add_event_handler(made)
    yield made
    root.event_handlers.remove(made)


class Asked(MockFunctionCallingLLM):
    """Answers with its name, or fails; calls the tools that it is given once."""

    name: str
    fails: bool = False

    @property
    def metadata(self):
        return LLMMetadata(is_function_calling_model=True, model_name=self.name, context_window=8000)

    def _get_response_generator(self):
        def answer(messages, **kwargs):
            if self.fails:
                raise TimeoutError
            tools = kwargs.get("tools") or ()
            if tools and messages[-1].role == "user":
                blocks = [ToolCallBlock(tool_call_id="1", tool_name=tool.metadata.name, tool_kwargs={}) for tool in tools]
                return ChatMessage(role="assistant", blocks=blocks)
            return ChatMessage(role="assistant", content=self.name)

        return answer


def told(event):
    return event.model_dump(include=WHOLE.keys())


async def streamed(handler):
    """What a workflow's caller reads of routing."""
    found = [event async for event in handler.stream_events() if isinstance(event, ModelRouted)]
    await handler
    return found


# --- what is told ---


def test_instrumentation_hears_the_whole_decision_with_the_tags_that_are_active(collector):
    with instrument_tags({"user": "u1"}):
        assert tell(DECISION, role="planner", attempt=0, model="small") is None
    (event,) = collector.routed()
    assert {name: getattr(event, name) for name in WHOLE} == WHOLE
    assert event.tags == {"user": "u1"}
    assert event.class_name() == event.model_dump()["class_name"] == "ModelRoutedEvent"


@pytest.mark.parametrize("error", [TimeoutError("after 3 s, key sk-123"), "TimeoutError"])
def test_after_a_failure_it_is_the_model_called_now_and_its_cost_with_the_errors_name_alone(collector, error):
    tell(DECISION, role=None, attempt=1, model="large", error=error)
    assert {name: getattr(collector.routed()[0], name) for name in WHOLE} == {
        **WHOLE,
        "role": None,
        "model": "large",
        "attempt": 1,
        "expected_cost": 0.75,
        "error": "TimeoutError",
    }


@pytest.mark.parametrize("model", ["free", "gone"])
def test_a_cost_that_nobody_expects_is_unknown_and_not_0(collector, model):
    tell(DECISION, role=None, attempt=0, model=model)
    assert collector.routed()[0].expected_cost is None


@pytest.mark.parametrize(("cost", "expected"), [(np.float32(0.5), 0.5), (np.nan, None), (0.0, 0.0)])
def test_costs_of_numpy_become_plain_numbers(collector, cost, expected):
    decision = Decision(model="a", candidates=(Candidate(model="a", cost=cost),), reason="", paradigm=DECISION.paradigm)
    tell(decision, role=None, attempt=0, model="a")
    event = collector.routed()[0]
    assert event.expected_cost == expected
    assert type(event.expected_cost) in {float, type(None)}
    assert ModelRoutedEvent.model_validate_json(event.model_dump_json(exclude={"class_name"})).expected_cost == expected


# --- it never fails the call ---


def test_a_decision_of_no_shape_and_a_failing_handler_fail_nobody(collector):
    tell(None, role=None, attempt=0, model="small")
    assert collector.routed() == []
    collector.fails = True
    tell(DECISION, role="planner", attempt=0, model="small")


async def test_outside_a_step_there_is_no_stream_and_that_is_no_error(collector):
    tell(DECISION, role="planner", attempt=0, model="small")
    assert len(collector.routed()) == 1


class Telling(Workflow):
    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        tell(DECISION, role="planner", attempt=0, model="small")
        return StopEvent(result="done")


class TellingInAThread(Workflow):
    @step
    def work(self, ev: StartEvent) -> StopEvent:
        tell(DECISION, role="planner", attempt=0, model="small")
        return StopEvent(result=threading.current_thread() is threading.main_thread())


async def test_within_a_step_the_workflows_caller_reads_it(collector):
    (event,) = await streamed(Telling().run())
    assert told(event) == WHOLE
    assert len(collector.routed()) == 1


async def test_releases_of_workflows_that_tell_no_context_have_no_stream(collector, monkeypatch):
    monkeypatch.delattr(Context, "get_step_context")
    assert await streamed(Telling().run()) == []
    assert len(collector.routed()) == 1


async def test_a_step_in_a_thread_has_no_loop_to_write_with_and_leaves_no_coroutine_behind(collector, recwarn):
    handler = TellingInAThread().run()
    assert await streamed(handler) == []
    assert await handler is False
    assert len(collector.routed()) == 1
    gc.collect()
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]


# --- tags ---


def test_tags_are_added_to_those_that_are_there_and_taken_away_again():
    with tagged({"a": 1}):
        with tagged({"b": 2}), tagged({"a": 3}):
            assert active_instrument_tags.get() == {"a": 3, "b": 2}
        assert active_instrument_tags.get() == {"a": 1}
        with pytest.raises(ZeroDivisionError), tagged({"a": 4}):
            raise ZeroDivisionError
        assert active_instrument_tags.get() == {"a": 1}
    assert active_instrument_tags.get() == {}


async def test_tasks_have_each_their_own_tags():
    async def work(name):
        with tagged({"name": name}):
            await asyncio.sleep(0)
            return active_instrument_tags.get()

    assert await asyncio.gather(*map(work, "ab")) == [{"name": "a"}, {"name": "b"}]


# --- of a routed LLM ---


def pair(**kwargs):
    return {"small": Asked(name="small", **kwargs), "large": Asked(name="large")}


def test_the_events_of_a_call_are_tagged_with_who_makes_it_for_whom(collector):
    RoutedLLM(llms=pair(fails=True)).for_role("planner").chat([ChatMessage("hi")])
    first, second = collector.routed()
    assert [(event.model, event.attempt, event.error) for event in (first, second)] == [
        ("small", 0, None),
        ("large", 1, "TimeoutError"),
    ]
    assert first.decision_id == second.decision_id
    tags = [event.tags[events.ROUTED] for event in collector.seen if isinstance(event, (LLMChatStartEvent, LLMChatEndEvent))]
    whose = {"role": "planner", "decision_id": first.decision_id}
    assert tags == [
        {**whose, "model": "small", "attempt": 0},
        {**whose, "model": "large", "attempt": 1},
        {**whose, "model": "large", "attempt": 1},
    ]


async def test_the_end_of_a_stream_is_tagged_too_and_its_reader_has_no_tags_of_ours(collector):
    stream = await RoutedLLM(llms=pair()).for_role("planner").astream_chat([ChatMessage("hi")])
    async for _ in stream:
        assert events.ROUTED not in active_instrument_tags.get()
    (end,) = [event for event in collector.seen if isinstance(event, LLMChatEndEvent)]
    assert end.tags[events.ROUTED]["model"] == "small"


@pytest.mark.parametrize("streaming", [True, False])
async def test_an_agent_tells_on_its_own_stream_and_an_agent_in_its_tool_on_that_ones(collector, streaming):
    llm, within = RoutedLLM(llms=pair(), default="small"), []
    inner = FunctionAgent(llm=llm.for_role("inner"), streaming=streaming)

    async def ask() -> str:
        """Asks another agent."""
        within.extend(await streamed(inner.run("what?")))
        return "asked"

    outer = FunctionAgent(llm=llm.for_role("outer"), tools=[ask], streaming=streaming)
    with use_allocation({"inner": "large"}):
        handler = outer.run("work")
    outside = await streamed(handler)
    assert [(event.role, event.model, event.by) for event in within] == [("inner", "large", "allocated")]
    # The second call goes on with the model that has called the tool.
    assert [(event.role, event.model, event.by) for event in outside] == [
        ("outer", "small", "default"),
        ("outer", "small", "sticky"),
    ]
    assert [event.role for event in collector.routed()] == ["outer", "inner", "outer"]
