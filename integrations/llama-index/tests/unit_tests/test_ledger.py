"""What calls have taken, by run, role and model: as told, once, and whatever becomes of them."""

import asyncio
import gc
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from uuid import uuid4

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, LLMMetadata, ToolCallBlock
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.llms.mock import MockFunctionCallingLLM, MockLLMWithChatMemoryOfLastCall
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel, Field

from agentroute.errors import ConfigError, OutcomeDroppedWarning
from agentroute.outcomes import MemoryOutcomeLog
from agentroute.pool import ModelPool
from agentroute.types import ModelCard, Price, Usage
from llama_index.llms.agentroute.allocation import use_allocation
from llama_index.llms.agentroute.base import RoutedLLM
from llama_index.llms.agentroute.events import ROUTED, tagged
from llama_index.llms.agentroute.ledger import EARLIER, Spending, UsageLedger

# LlamaIndex's agents look through their own attributes, pydantic's old ones among them.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")

PRICES = {"small": Price(input=1.0, output=2.0), "large": Price(input=10.0, output=20.0)}


class Shape(BaseModel):
    sides: int


def told(tokens):
    """A provider's answer; a new one each time, as with any provider."""
    return None if tokens is None else {"usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}}


class Chats(MockFunctionCallingLLM):
    """A chat model that tells its tokens; at the end of a stream, as most do."""

    name: str = "small"
    tokens: tuple[int, int] | None = (10, 4)
    text: str = '{"sides": 3}'
    calls: dict = Field(default_factory=dict)
    fails: str | None = None

    @property
    def metadata(self):
        return LLMMetadata(is_chat_model=True, is_function_calling_model=True, model_name=self.name, context_window=8000)

    def answer(self, messages, tools):
        tool = next((tool.metadata.name for tool in tools if tool.metadata.name in self.calls), None)
        before = [block.tool_name for message in messages for block in message.blocks if isinstance(block, ToolCallBlock)]
        if tool is not None and tool not in before:
            call = ToolCallBlock(tool_call_id=uuid4().hex, tool_name=tool, tool_kwargs=self.calls[tool])
            return ChatMessage(role="assistant", blocks=[call])
        return ChatMessage(role="assistant", content=self.text)

    @llm_chat_callback()
    def chat(self, messages, **kwargs):
        if self.fails == "at once":
            raise TimeoutError
        return ChatResponse(message=self.answer(messages, kwargs.get("tools") or ()), raw=told(self.tokens))

    @llm_chat_callback()
    async def achat(self, messages, **kwargs):
        await asyncio.sleep(0)
        if self.fails == "never":
            await asyncio.sleep(3600)
        if self.fails == "at once":
            raise TimeoutError
        return ChatResponse(message=self.answer(messages, kwargs.get("tools") or ()), raw=told(self.tokens))

    def chunks(self, messages, tools):
        whole = self.answer(messages, tools)
        yield ChatResponse(message=ChatMessage(role="assistant", content=""), delta="", raw={"usage": None})
        if self.fails == "midway":
            raise TimeoutError
        yield ChatResponse(message=whole, delta=whole.content, raw=told(self.tokens))

    @llm_chat_callback()
    def stream_chat(self, messages, **kwargs):
        if self.fails == "at once":
            raise TimeoutError
        return self.chunks(messages, kwargs.get("tools") or ())

    @llm_chat_callback()
    async def astream_chat(self, messages, **kwargs):
        if self.fails == "at once":
            raise TimeoutError

        async def stream():
            for chunk in self.chunks(messages, kwargs.get("tools") or ()):
                await asyncio.sleep(0)
                yield chunk

        return stream()

    @llm_completion_callback()
    def complete(self, prompt, formatted=False, **kwargs):
        return CompletionResponse(text=self.text, raw=told(self.tokens))

    @llm_completion_callback()
    async def acomplete(self, prompt, formatted=False, **kwargs):
        return CompletionResponse(text=self.text, raw=told(self.tokens))

    @llm_completion_callback()
    def stream_complete(self, prompt, formatted=False, **kwargs):
        return iter_of(CompletionResponse(text=self.text, delta=self.text, raw=told(self.tokens)))

    @llm_completion_callback()
    async def astream_complete(self, prompt, formatted=False, **kwargs):
        return aiter_of(CompletionResponse(text=self.text, delta=self.text, raw=told(self.tokens)))


def iter_of(*items):
    yield from items


async def aiter_of(*items):
    for item in items:
        yield item


class Completes(CustomLLM):
    """A completion model: LlamaIndex makes its chat, and tells both."""

    name: str = "small"
    tokens: tuple[int, int] | None = (10, 4)
    text: str = '{"sides": 3}'

    @property
    def metadata(self):
        return LLMMetadata(model_name=self.name, context_window=8000)

    @llm_completion_callback()
    def complete(self, prompt, formatted=False, **kwargs):
        return CompletionResponse(text=self.text, raw=told(self.tokens))

    @llm_completion_callback()
    def stream_complete(self, prompt, formatted=False, **kwargs):
        last = CompletionResponse(text=self.text, delta=self.text, raw=told(self.tokens))
        return iter_of(CompletionResponse(text="", delta=""), last)


class Wraps(Completes):
    """Somebody's own wrapper, which LlamaIndex tells of as of any LLM; it can ask one more model of its own."""

    llm: Chats = Field(default_factory=Chats)
    own: tuple[int, int] | None = None

    @llm_chat_callback()
    def chat(self, messages, **kwargs):
        response = self.llm.chat(messages, **kwargs)
        return response if self.own is None else ChatResponse(message=response.message, raw=told(self.own))

    @llm_chat_callback()
    async def achat(self, messages, **kwargs):
        # In a task of its own, as time limits make one.
        return await asyncio.wait_for(self.llm.achat(messages, **kwargs), 5)

    @llm_chat_callback()
    def stream_chat(self, messages, **kwargs):
        yield from self.llm.stream_chat(messages, **kwargs)

    @llm_chat_callback()
    async def astream_chat(self, messages, **kwargs):
        return await self.llm.astream_chat(messages, **kwargs)


@pytest.fixture
def ledger():
    with attached(UsageLedger(prices=PRICES)) as made:
        yield made


class attached:
    """A ledger that hears every LLM."""

    def __init__(self, ledger, *names):
        self.ledger, self.dispatchers = ledger, [get_dispatcher(name) for name in names or ["root"]]

    def __enter__(self):
        for dispatcher in self.dispatchers:
            dispatcher.add_event_handler(self.ledger)
        return self.ledger

    def __exit__(self, *args):
        for dispatcher in self.dispatchers:
            dispatcher.event_handlers.remove(self.ledger)


ASKED = [ChatMessage("how many sides?")]
CHAT = ["chat", "achat", "stream_chat", "astream_chat"]
COMPLETION = ["complete", "acomplete", "stream_complete", "astream_complete"]


async def ask(llm, door):
    """One call by one of the eight doors, read to its end."""
    found = getattr(llm, door)(ASKED if "chat" in door else "how many sides?")
    found = await found if inspect.iscoroutine(found) else found
    if hasattr(found, "__aiter__"):
        return [chunk async for chunk in found]
    return list(found) if "stream" in door else found


def of(ledger):
    """Run, role and model → what they have taken, without the seconds."""
    return {(row.run, row.role, row.model): without_seconds(row.spent) for row in ledger.rows()}


def without_seconds(spent):
    assert (spent.seconds is None) == (spent.answered == 0)
    assert spent.seconds is None or 0 <= spent.seconds < 60
    return {
        name: getattr(spent, name)
        for name in ("calls", "failed", "interrupted", "untold", "unpriced", "usage", "answered")
        if getattr(spent, name)
    }


ONE = {"calls": 1, "usage": Usage(input_tokens=10, output_tokens=4), "answered": 1}
UNTOLD = {"calls": 1, "untold": 1, "unpriced": 1, "answered": 1}


# --- once, whatever it is made of ---


@pytest.mark.parametrize("door", CHAT + COMPLETION)
@pytest.mark.parametrize("kind", [Chats, Completes])
async def test_a_call_counts_once_by_each_door(ledger, kind, door):
    await ask(kind(), door)
    assert of(ledger) == {(None, None, "small"): ONE}
    assert ledger.total().cost == pytest.approx((10 * 1.0 + 4 * 2.0) / 1e6)


@pytest.mark.parametrize("door", CHAT + COMPLETION)
@pytest.mark.parametrize("kind", [Chats, Completes])
async def test_a_call_that_tells_no_tokens_counts_once_and_its_tokens_are_unknown(ledger, kind, door):
    await ask(kind(tokens=None), door)
    assert of(ledger) == {(None, None, "small"): UNTOLD}
    assert (ledger.total().usage, ledger.total().cost) == (None, None)


@pytest.mark.parametrize("door", [*CHAT, "complete", "acomplete"])
@pytest.mark.parametrize("kind", [Chats, Completes])
async def test_a_structured_llm_counts_as_the_llm_within(ledger, kind, door):
    llm = kind() if kind is Completes else kind(calls={"Shape": {"sides": 3}})
    await ask(llm.as_structured_llm(Shape), door)
    assert of(ledger) == {(None, None, "small"): ONE}


async def test_structured_prediction_and_predict_count_once(ledger):
    llm, prompt = Chats(calls={"Shape": {"sides": 3}}), PromptTemplate("how many?")
    llm.structured_predict(Shape, prompt)
    await llm.astructured_predict(Shape, prompt)
    llm.predict(prompt)
    await llm.apredict(prompt)
    assert of(ledger) == {(None, None, "small"): {"calls": 4, "usage": Usage(input_tokens=40, output_tokens=16), "answered": 4}}


@pytest.mark.parametrize("door", CHAT)
async def test_a_wrapper_counts_as_the_llm_within(ledger, door):
    await ask(Wraps(name="wrapper"), door)
    assert of(ledger) == {(None, None, "small"): ONE}


def test_a_wrapper_that_has_asked_more_than_the_llm_within_counts_too(ledger):
    Wraps(name="wrapper", own=(7, 1)).chat(ASKED)
    assert of(ledger) == {
        (None, None, "small"): ONE,
        (None, None, "wrapper"): {
            "calls": 1,
            "unpriced": 1,
            "usage": Usage(input_tokens=7, output_tokens=1),
            "answered": 1,
        },
    }


@pytest.mark.parametrize("tells", ["the sum", "the last", "nothing"])
@pytest.mark.parametrize("tokens", [(10, 4), None])
def test_a_wrapper_that_asks_several_times_counts_as_those_calls_and_no_more(ledger, tells, tokens):
    class Several(Wraps):
        @llm_chat_callback()
        def chat(self, messages, **kwargs):
            # The first that it has asked are long over when it ends.
            responses = [self.llm.chat(messages) for _ in range(20)]
            total = {"the sum": tokens and (200, 80), "the last": tokens, "nothing": None}[tells]
            return ChatResponse(message=responses[-1].message, raw=told(total))

    Several(llm=Chats(tokens=tokens)).chat(ASKED)
    assert ledger.total().calls == 20
    assert ledger.total().usage == (tokens and Usage(input_tokens=200, output_tokens=80))


def test_a_wrapper_of_a_wrapper_that_tells_nothing_counts_once(ledger):
    class Quiet(Wraps):
        @llm_chat_callback()
        def chat(self, messages, **kwargs):
            return ChatResponse(message=self.llm.chat(messages).message)

    class Outer(Completes):
        @llm_chat_callback()
        def chat(self, messages, **kwargs):
            return ChatResponse(message=Quiet().chat(messages).message, raw=told((10, 4)))

    Outer().chat(ASKED)
    assert of(ledger) == {(None, None, "small"): ONE}


async def test_an_llm_that_calls_its_own_parents_method_counts_once(ledger):
    llm = MockLLMWithChatMemoryOfLastCall()
    llm.chat(ASKED)
    await llm.achat(ASKED)
    assert of(ledger) == {
        (None, None, "MockLLMWithChatMemoryOfLastCall"): {"calls": 2, "untold": 2, "unpriced": 2, "answered": 2}
    }


def test_a_ledger_that_hears_two_dispatchers_counts_once():
    with attached(UsageLedger(), "root", "llama_index.core.llms.callbacks") as ledger:
        Chats().chat(ASKED)
        list(Chats().stream_chat(ASKED))
        Completes().chat(ASKED)
    assert ledger.total().calls == 3
    assert ledger.total().usage == Usage(input_tokens=30, output_tokens=12)


def test_two_ledgers_count_each_for_itself(ledger):
    with attached(UsageLedger()) as other:
        Completes().chat(ASKED)
    Completes().chat(ASKED)
    assert (ledger.total().calls, other.total().calls) == (2, 1)


# --- streams beside one another ---


@pytest.mark.parametrize("tokens", [(10, 4), None])
def test_streams_of_one_llm_that_are_read_in_turn_count_each(ledger, tokens):
    llm = Chats(tokens=tokens)
    streams = [llm.stream_chat(ASKED) for _ in range(3)]
    for _ in range(2):
        for stream in streams:
            next(stream)
    assert [list(stream) for stream in streams] == [[], [], []]
    assert ledger.total().calls == 3


@pytest.mark.parametrize("door", ["chat", "complete", "stream_complete", "stream_chat"])
@pytest.mark.parametrize("kind", [Chats, Completes])
@pytest.mark.parametrize("first", [True, False])
async def test_tokens_of_what_a_reader_asks_meanwhile_count_beside_those_of_its_stream(ledger, kind, door, first):
    stream = kind(tokens=(100, 50)).stream_chat(ASKED)
    if not first:
        next(stream)
    await ask(kind(tokens=(10, 4)), door)
    list(stream)
    assert of(ledger)[None, None, "small"]["calls"] == 2
    assert ledger.total().usage == Usage(input_tokens=110, output_tokens=54)


@pytest.mark.parametrize(
    ("door", "first", "name"),
    [
        ("complete", True, "small"),
        ("chat", True, "small"),
        ("stream_complete", False, "small"),
        ("stream_complete", True, "large"),
    ],
)
@pytest.mark.parametrize("tokens", [(10, 4), None])
async def test_what_a_reader_asks_meanwhile_is_no_part_of_its_stream_though_it_takes_as_much(ledger, door, first, name, tokens):
    stream = Chats(tokens=tokens).stream_chat(ASKED)
    if not first:
        next(stream)
    await ask(Chats(tokens=tokens, name=name), door)
    list(stream)
    assert ledger.total().calls == 2


def test_streams_left_open_take_nothing_from_later_calls_and_leave_little_behind(ledger):
    streams = [Completes().stream_chat(ASKED) for _ in range(40)]
    for stream in streams:
        next(stream)
    Completes().chat(ASKED)
    Chats().chat(ASKED)
    assert ledger.total().calls == 2
    assert ledger.total().usage == Usage(input_tokens=20, output_tokens=8)
    (spans,) = [value for variable, value in copy_context().items() if variable.name == "agentroute_ledger_spans"]
    assert len(spans) <= 16


class Caches(Chats):
    """Gives every caller the very object that its provider gave once."""

    kept: dict = Field(default_factory=lambda: told((10, 4)))

    @llm_chat_callback()
    async def achat(self, messages, **kwargs):
        await asyncio.sleep(0.01 * len(messages))
        return ChatResponse(message=ChatMessage(role="assistant", content="3"), raw=self.kept)

    def chunks(self, messages, tools):
        yield ChatResponse(message=ChatMessage(role="assistant", content="3"), delta="3", raw=self.kept)


async def test_answers_from_a_cache_count_each(ledger):
    llm = Caches()
    # One is within the time of the other, as with a wrapper, but not within the other.
    await asyncio.gather(llm.achat(ASKED * 3), llm.achat(ASKED))
    assert ledger.total().calls == 2
    open_all_the_time = Chats().stream_chat(ASKED)
    next(open_all_the_time)
    for _ in range(3):
        list(llm.stream_chat(ASKED))
    assert ledger.total().calls == 5


@pytest.mark.parametrize("left", [True, False])
def test_tokens_told_before_the_last_chunk_are_not_forgotten(ledger, left):
    class TellsFirst(Chats):
        def chunks(self, messages, tools):
            message = ChatMessage(role="assistant", content="3")
            yield ChatResponse(message=message, delta="3", raw=told((10, 4)))
            yield ChatResponse(message=message, delta="", raw={})

    stream = TellsFirst().stream_chat(ASKED)
    next(stream)
    next(stream)
    stream.close() if left else list(stream)
    assert ledger.total().usage == Usage(input_tokens=10, output_tokens=4)


# --- what goes wrong ---


@pytest.mark.parametrize("door", CHAT)
async def test_a_call_that_fails_at_once_counts_as_failed(ledger, door):
    with pytest.raises(TimeoutError):
        await ask(Chats(fails="at once"), door)
    assert of(ledger) == {(None, None, "small"): {"calls": 1, "failed": 1, "untold": 1, "unpriced": 1}}


@pytest.mark.parametrize("door", ["stream_chat", "astream_chat"])
async def test_a_stream_that_breaks_counts_as_failed(ledger, door):
    with pytest.raises(TimeoutError):
        await ask(Chats(fails="midway"), door)
    assert of(ledger) == {(None, None, "small"): {"calls": 1, "failed": 1, "untold": 1, "unpriced": 1}}


async def test_a_wrapper_whose_llm_fails_counts_once(ledger):
    with pytest.raises(TimeoutError):
        Wraps(llm=Chats(fails="at once")).chat(ASKED)
    assert of(ledger) == {(None, None, "small"): {"calls": 1, "failed": 1, "untold": 1, "unpriced": 1}}


async def test_a_call_that_is_cancelled_counts_as_interrupted_and_not_as_failed(ledger):
    task = asyncio.create_task(Chats(fails="never").achat(ASKED))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert of(ledger) == {(None, None, "small"): {"calls": 1, "interrupted": 1, "untold": 1, "unpriced": 1}}


def test_a_stream_that_is_left_counts_as_interrupted_with_unknown_tokens(ledger):
    stream = Chats().stream_chat(ASKED)
    next(stream)
    assert ledger.rows() == []
    stream.close()
    assert of(ledger) == {(None, None, "small"): {"calls": 1, "interrupted": 1, "untold": 1, "unpriced": 1}}


def test_a_stream_that_is_left_when_it_has_told_its_tokens_keeps_them(ledger):
    stream = Chats().stream_chat(ASKED)
    next(stream)
    next(stream)
    del stream
    gc.collect()
    assert of(ledger) == {(None, None, "small"): {"calls": 1, "interrupted": 1, "usage": Usage(input_tokens=10, output_tokens=4)}}


def test_a_custom_llms_stream_that_is_left_counts_once(ledger):
    stream = Completes().stream_chat(ASKED)
    next(stream)
    stream.close()
    del stream
    gc.collect()
    assert ledger.total().calls == ledger.total().interrupted == 1


async def test_an_asynchronous_stream_that_is_left_counts_as_interrupted(ledger):
    stream = await Chats().astream_chat(ASKED)
    await anext(stream)
    await stream.aclose()
    assert of(ledger) == {(None, None, "small"): {"calls": 1, "interrupted": 1, "untold": 1, "unpriced": 1}}


def test_a_stream_that_nobody_reads_is_open_until_it_is_closed(ledger):
    stream = Chats().stream_chat(ASKED)
    assert ledger.close(older_than=60) == 0
    assert ledger.rows() == []
    assert ledger.close() == 1
    assert ledger.close() == 0
    assert of(ledger) == {(None, None, "small"): {"calls": 1, "interrupted": 1, "untold": 1, "unpriced": 1}}
    # Read after all, it is not counted again.
    list(stream)
    assert ledger.total().calls == 1


# --- whose they are ---


def routed(**kwargs):
    llms = {"small": Chats(name="small-2024", **kwargs), "large": Chats(name="large-2024", tokens=(30, 6), **kwargs)}
    return RoutedLLM(llms=llms, default="small")


@pytest.mark.parametrize("door", CHAT + COMPLETION)
async def test_a_routed_call_counts_under_its_role_and_the_candidates_name(ledger, door):
    with use_allocation({"planner": "large"}, run="r1"):
        await ask(routed().for_role("planner"), door)
        await ask(routed(), door)
    assert of(ledger) == {
        ("r1", "planner", "large"): {"calls": 1, "usage": Usage(input_tokens=30, output_tokens=6), "answered": 1},
        ("r1", None, "small"): ONE,
    }
    assert ledger.totals("model")["large"].cost == pytest.approx((30 * 10.0 + 6 * 20.0) / 1e6)


def test_failover_counts_both_calls(ledger):
    llm = RoutedLLM(llms={"small": Chats(fails="at once"), "large": Chats()}).for_role("planner")
    llm.chat(ASKED)
    assert of(ledger) == {
        (None, "planner", "small"): {"calls": 1, "failed": 1, "untold": 1, "unpriced": 1},
        (None, "planner", "large"): ONE,
    }


def test_a_completion_model_and_a_structured_llm_behind_a_routed_one_count_once(ledger):
    llm = RoutedLLM(llms={"small": Completes(name="c"), "large": Chats()})
    llm.chat(ASKED)
    llm.as_structured_llm(Shape).chat(ASKED)
    assert {key: spent["calls"] for key, spent in of(ledger).items()} == {(None, None, "small"): 2}
    assert ledger.total().usage == Usage(input_tokens=20, output_tokens=8)


@pytest.mark.parametrize("llm", [MockFunctionCallingLLM(), Chats(name="unknown")])
def test_an_llm_without_a_name_has_that_of_its_class(ledger, llm):
    llm.chat(ASKED)
    assert [row.model for row in ledger.rows()] == [llm.class_name()]


@pytest.mark.parametrize("tag", ["planner", None, 3])
def test_a_tag_of_anothers_making_is_no_role(ledger, tag):
    with tagged({ROUTED: tag}):
        Chats().chat(ASKED)
    assert of(ledger) == {(None, None, "small"): ONE}


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_team_counts_by_role_and_run_with_the_agents_in_its_tools(ledger, streaming):
    llm = routed(calls={"handoff": {"to_agent": "worker", "reason": "yours"}, "look": {}})
    helper = FunctionAgent(name="helper", llm=llm.for_role("helper"), streaming=streaming)

    async def look() -> str:
        """Asks a helper."""
        return str(await helper.run("look"))

    agents = [
        FunctionAgent(name="triage", description="t", llm=llm.for_role("triage"), streaming=streaming),
        FunctionAgent(
            name="worker", description="w", llm=llm.for_role("worker"), tools=[look], can_handoff_to=[], streaming=streaming
        ),
    ]
    team = AgentWorkflow(agents=agents, root_agent="triage")
    with use_allocation({"worker": "large"}, run="one"):
        one = team.run("work here")
    with use_allocation({"helper": "large"}, run="two"):
        other = team.run("work there")
    await asyncio.gather(one, other)
    assert {key: spent["calls"] for key, spent in of(ledger).items()} == {
        ("one", "triage", "small"): 1,
        ("one", "worker", "large"): 2,
        ("one", "helper", "small"): 1,
        ("two", "triage", "small"): 1,
        ("two", "worker", "small"): 2,
        ("two", "helper", "large"): 1,
    }
    assert without_seconds(ledger.totals("run")["one"])["usage"] == Usage(
        input_tokens=2 * 10 + 2 * 30, output_tokens=2 * 4 + 2 * 6
    )
    assert {role: spent.calls for role, spent in ledger.totals("role").items()} == {"triage": 2, "worker": 4, "helper": 2}


async def test_a_run_without_a_name_has_the_workflows_own(ledger):
    agent = FunctionAgent(llm=Chats())
    handlers = [agent.run("work") for _ in range(2)]
    await asyncio.gather(*handlers)
    assert {row.run for row in ledger.rows()} == {handler.run_id for handler in handlers}


# --- many at once ---


async def test_two_hundred_calls_at_once_are_all_there_and_equal_what_llama_index_counts(ledger):
    counter = TokenCountingHandler()
    llms = {
        name: Chats(name=name, tokens=tokens, callback_manager=CallbackManager([counter]))
        for name, tokens in {"small": (10, 4), "large": (30, 6)}.items()
    }
    roles = [RoutedLLM(llms=llms).for_role(f"role {i}") for i in range(10)]

    async def work(i):
        with use_allocation({f"role {i % 10}": "large" if i % 3 else "small"}, run=f"run {i % 7}"):
            await ask(roles[i % 10], CHAT[i % 4])

    await asyncio.gather(*map(work, range(200)))
    expected = {}
    for i in range(200):
        key = (f"run {i % 7}", f"role {i % 10}", "large" if i % 3 else "small")
        expected[key] = expected.get(key, 0) + 1
    assert {key: spent["calls"] for key, spent in of(ledger).items()} == expected
    large = sum(1 for i in range(200) if i % 3)
    assert ledger.total().usage == Usage(
        input_tokens=30 * large + 10 * (200 - large), output_tokens=6 * large + 4 * (200 - large)
    )
    assert counter.prompt_llm_token_count == ledger.total().usage.input_tokens
    assert counter.completion_llm_token_count == ledger.total().usage.output_tokens


def test_threads_share_a_ledger(ledger):
    llm = Completes()

    def work(i):
        return list(llm.stream_chat(ASKED)) if i % 2 else llm.chat(ASKED)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(400)))
    assert of(ledger) == {
        (None, None, "small"): {"calls": 400, "usage": Usage(input_tokens=4000, output_tokens=1600), "answered": 400}
    }


def test_an_event_that_comes_while_its_thread_is_at_the_books_does_not_wait_for_ever(ledger):
    # As when garbage is collected there, and an abandoned stream tells its end.
    stream = Chats().stream_chat(ASKED)
    next(stream)
    with ledger._lock:
        done = threading.Event()

        def work():
            stream.close()
            Chats().chat(ASKED)
            done.set()

        threading.Thread(target=work, daemon=True).start()
        assert done.wait(10)
    assert (ledger.total().calls, ledger.total().interrupted) == (2, 1)


def test_closing_knows_of_what_came_while_the_books_were_in_use(ledger):
    with ledger._lock:
        stream = Chats().stream_chat(ASKED)
    assert ledger.close() == 1
    stream.close()


# --- bounded ---


@pytest.mark.parametrize("runs", [5, 6, 20])
def test_of_many_runs_the_oldest_are_added_up(runs):
    with attached(UsageLedger(size=4)) as ledger:
        for i in range(runs):
            with use_allocation({}, run=f"run {i}"):
                routed().for_role("planner").chat(ASKED)
    latest = [(f"run {i}", 1) for i in range(runs - 3, runs)]
    assert [(row.run, row.spent.calls) for row in ledger.rows()] == [(EARLIER, runs - 3), *latest]
    assert ledger.totals()["planner"].calls == runs
    assert ledger.total().usage == Usage(input_tokens=10 * runs, output_tokens=4 * runs)


def test_of_many_open_calls_the_oldest_is_taken_for_left():
    with attached(UsageLedger(size=3)) as ledger:
        streams = [Chats().stream_chat(ASKED) for _ in range(5)]
        assert ledger.total().interrupted == 2
        for stream in streams:
            list(stream)
    assert (ledger.total().calls, ledger.total().answered) == (5, 3)
    assert (len(ledger._open), len(ledger._open._answers), len(ledger._inbox)) == (0, 0, 0)


def test_nothing_is_kept_of_calls_that_are_over(ledger):
    for _ in range(50):
        list(Completes().stream_chat(ASKED))
        Completes().chat(ASKED)
    assert (len(ledger._open), len(ledger._open._answers), len(ledger._inbox), len(ledger._ended)) == (0, 0, 0, 0)


# --- outcomes of what nobody routed ---


def test_outcomes_of_calls_that_nobody_routed_are_logged_with_what_is_needed_to_learn_from_them():
    log = MemoryOutcomeLog()
    with attached(UsageLedger(prices=PRICES, outcome_log=log)) as ledger:
        Completes().chat([ChatMessage("be brief", role="system"), ChatMessage("how many sides?")])
        Chats().complete("how many corners?")
        assert ledger.outcome_log.flush(5.0)
    first, second = log
    assert [first.query.text, second.query.text] == ["how many sides?", "how many corners?"]
    for outcome in (first, second):
        assert outcome.model == "small"
        assert outcome.usage == Usage(input_tokens=10, output_tokens=4)
        assert outcome.cost == pytest.approx(18e-6)
        assert outcome.latency > 0
        assert outcome.query.embedding.shape == (outcome.query.fingerprint.dimension,)
        assert (outcome.quality, outcome.error, outcome.metadata) == (None, None, {})


def test_feedback_reaches_such_an_outcome_by_its_span():
    log, spans = MemoryOutcomeLog(), []
    with attached(UsageLedger(outcome_log=log)) as ledger:
        Chats().chat(ASKED)
        ledger.outcome_log.flush(5.0)
        spans = [outcome.decision_id for outcome in log]
        assert ledger.outcome_log.feedback(spans[0], 0.5, source="user")
        ledger.outcome_log.flush(5.0)
    assert spans[0].startswith("Chats.chat-")
    assert [outcome.quality for outcome in log] == [0.5]


def test_what_a_routed_llm_logs_is_not_logged_again():
    log = MemoryOutcomeLog()
    llm = RoutedLLM(llms={"small": Chats(), "large": Completes()}, outcome_log=log)
    with attached(UsageLedger(outcome_log=log)) as ledger:
        llm.chat(ASKED)
        llm.chat(ASKED, agentroute_model="large")
        llm.outcome_log.flush(5.0)
        ledger.outcome_log.flush(5.0)
    assert [outcome.model for outcome in log] == ["small", "large"]
    assert ledger.total().calls == 2


def test_failures_and_abandoned_streams_are_logged_as_what_they_are():
    log = MemoryOutcomeLog()
    with attached(UsageLedger(outcome_log=log)) as ledger:
        with suppress(TimeoutError):
            Chats(fails="at once").chat(ASKED)
        stream = Chats().stream_chat(ASKED)
        next(stream)
        stream.close()
        ledger.outcome_log.flush(5.0)
    failed, left = log
    assert (failed.error, failed.metadata, failed.latency) == ("TimeoutError", {}, None)
    assert (left.error, left.metadata, left.latency) == (None, {"interrupted": True}, None)


def test_an_embedder_that_fails_fails_no_call_and_the_ledger_counts_on():
    class Broken:
        fingerprint = None

        def embed(self, texts):
            raise OSError

    with attached(UsageLedger(outcome_log=MemoryOutcomeLog(), embedder=Broken())) as ledger:
        with pytest.warns(OutcomeDroppedWarning, match="not logged"):
            Chats().chat(ASKED)
        # Warnings may be errors, as here: the dispatcher keeps them from the call.
        Chats().chat(ASKED)
    assert ledger.total().calls == 2


# --- figures ---


def test_what_is_unknown_is_not_0_and_adds_nothing_to_what_is_known():
    known = Spending(calls=1, usage=Usage(input_tokens=1, output_tokens=2), cost=0.5, answered=1, seconds=2.0)
    unknown = Spending(calls=2, untold=2, unpriced=2, failed=1)
    assert (unknown + unknown).usage is (unknown + unknown).cost is (unknown + unknown).latency is None
    for both in (known + unknown, unknown + known):
        assert (both.calls, both.untold, both.usage, both.cost, both.latency) == (3, 2, known.usage, 0.5, 2.0)
    assert known + Spending() == known
    assert (known + known).latency == 2.0


@pytest.mark.parametrize(
    "prices",
    [
        PRICES,
        {"small": ModelCard(id="other", price=PRICES["small"])},
        [ModelCard(id="small", price=PRICES["small"])],
        ModelPool([ModelCard(id="small", price=PRICES["small"]), ModelCard(id="large")]),
    ],
)
def test_prices_come_from_prices_cards_or_a_pool(prices):
    with attached(UsageLedger(prices=prices)) as ledger:
        Chats().chat(ASKED)
    assert ledger.total().cost == pytest.approx(18e-6)


def test_the_table_shows_what_is_known_and_marks_what_is_not(ledger):
    with use_allocation({"planner": "large"}, run="a|b"):
        routed().for_role("planner").chat(ASKED)
    Chats(tokens=None).chat(ASKED)
    Chats().chat(ASKED)
    assert "s/call" in ledger.to_markdown().splitlines()[0]
    rows = [[cell.strip() for cell in line.split(" | ")] for line in ledger.to_markdown().splitlines()[2:4]]
    assert [row[:-1] for row in rows] == [
        ["| a\\|b", "planner", "large", "1", "0", "30", "6", "0.000420"],
        ["| -", "-", "small", "2", "0", "10+", "4+", "0.000018+"],
    ]
    assert "not known" in ledger.to_markdown().splitlines()[-1]


def test_a_table_of_what_is_all_known_has_no_note(ledger):
    Chats().chat(ASKED)
    assert "not known" not in ledger.to_markdown()
    assert ledger.to_markdown().count("\n") == 3


@pytest.mark.parametrize("by", ["agent", "", None])
def test_totals_are_by_role_model_or_run(ledger, by):
    with pytest.raises(ConfigError, match="by="):
        ledger.totals(by)


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"prices": {"small": 1.0}}, "prices="),
        ({"prices": [PRICES["small"]]}, "prices="),
        ({"outcome_log": "log.sqlite"}, "is a path"),
        ({"size": 0}, "size=0"),
    ],
)
def test_what_cannot_be_right_is_refused(kwargs, match):
    with pytest.raises(ConfigError, match=match):
        UsageLedger(**kwargs)


def test_its_repr_shows_nothing_of_what_it_holds():
    assert "sk-" not in repr(UsageLedger(prices={"sk-1": PRICES["small"]}))
