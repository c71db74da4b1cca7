"""Many calls at once, on one routed LLM and in one workflow: nobody gets another one's model, answer, record, events or books."""

import asyncio
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool, ToolMetadata

from agentroute.embedders import as_embedder
from agentroute.outcomes import MemoryOutcomeLog
from llama_index.llms.agentroute import CascadeLLM, ModelRouted, RoutedLLM, UsageLedger, use_allocation
from llama_index.llms.agentroute.testing import ScriptedLLM

# Agents look at all attributes of theirs when they are made, pydantic's old ones among them.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pydantic.warnings.PydanticDeprecationWarning", "ignore:is_running called from within a step:DeprecationWarning"
)

NAMES = tuple("abcde")
CALLS = 200


class Slow(ScriptedLLM):
    """Answers after a moment that differs from call to call, so that the answers overtake one another."""

    def _wait(self, text):
        return random.Random(text).random() / 100

    async def achat(self, messages, **kwargs):
        await asyncio.sleep(self._wait(messages[-1].content))
        return await super().achat(messages, **kwargs)


def named_in(query):
    return query.text.split()[0]


def crowd(**kwargs):
    # Loaded once, or each of the threads that come first loads the table for itself.
    as_embedder(None).embed(["a text"])
    return RoutedLLM(llms={name: Slow(model=name) for name in NAMES}, router=named_in, **kwargs)


def texts():
    return [f"{NAMES[number % 5]} is asked {number}" for number in range(CALLS)]


def check(text, answer, content):
    record = answer.additional_kwargs["agentroute"]
    assert content == f"[{text[0]}] answer to: {text}"
    assert (record["model"], record["answered_by"]) == (text[0], text[0])
    assert [one["model"] for one in record["attempts"]] == [text[0]]
    return record["decision_id"]


def check_books(llm, log, ledger, ids):
    assert len(set(ids)) == CALLS
    assert llm.outcome_log.flush(10)
    assert {outcome.decision_id: outcome.model for outcome in log} == dict(zip(ids, (text[0] for text in texts()), strict=True))
    assert all(outcome.query.text[0] == outcome.model for outcome in log)
    assert len(list(log)) == CALLS
    spent = {name: (one.calls, one.usage.input_tokens) for name, one in ledger.totals("model").items()}
    assert spent == dict.fromkeys(NAMES, (CALLS // 5, 10 * CALLS // 5))


@pytest.mark.parametrize("door", ["chat", "complete", "stream_chat"])
def test_two_hundred_calls_in_threads(door, attached, events):
    log, ledger = MemoryOutcomeLog(), attached(UsageLedger())
    llm = crowd(outcome_log=log)

    def ask(text):
        answer = getattr(llm, door)(text if door == "complete" else [ChatMessage(text)])
        if door == "stream_chat":
            *_, answer = answer
        return check(text, answer, answer.text if door == "complete" else answer.message.content)

    with ThreadPoolExecutor(max_workers=20) as pool:
        ids = list(pool.map(ask, texts()))
    check_books(llm, log, ledger, ids)
    assert {event.decision_id: event.model for event in events.routed} == {
        one: text[0] for one, text in zip(ids, texts(), strict=True)
    }


@pytest.mark.parametrize("door", ["achat", "acomplete", "astream_chat"])
async def test_two_hundred_calls_in_one_loop(door, attached, events):
    log, ledger = MemoryOutcomeLog(), attached(UsageLedger())
    llm = crowd(outcome_log=log)

    async def ask(text):
        answer = await getattr(llm, door)(text if door == "acomplete" else [ChatMessage(text)])
        if door == "astream_chat":
            *_, answer = [chunk async for chunk in answer]
        return check(text, answer, answer.text if door == "acomplete" else answer.message.content)

    ids = await asyncio.gather(*map(ask, texts()))
    check_books(llm, log, ledger, ids)
    for event in events.of("LLMChatStartEvent", "LLMChatEndEvent", "LLMCompletionStartEvent", "LLMCompletionEndEvent"):
        asked = event.messages[0].content if hasattr(event, "messages") else event.prompt
        assert event.tags["agentroute"]["model"] == asked[0]


async def test_tokens_of_texts_are_not_another_call_s():
    """What `predict` took is heard from within, by whoever listens in that call and no other."""
    llms = {name: ScriptedLLM(model=name, input_tokens=100 * number) for number, name in enumerate(NAMES, 1)}
    log = MemoryOutcomeLog()
    llm = RoutedLLM(llms=llms, router=named_in, outcome_log=log)
    await asyncio.gather(*(llm.apredict(PromptTemplate("{query_str}"), query_str=text) for text in texts()))
    assert llm.outcome_log.flush(10)
    found = {(outcome.model, outcome.usage.input_tokens) for outcome in log}
    assert found == {(name, 100 * number) for number, name in enumerate(NAMES, 1)}


async def test_failovers_at_once_keep_their_own_attempts():
    def fails_on_odd(messages):
        return ConnectionError() if int(messages[-1].content.split()[-1]) % 2 else None

    llms = {"a": Slow(model="a", replies=[fails_on_odd] * CALLS), "b": Slow(model="b")}
    llm = RoutedLLM(llms=llms)
    answers = await asyncio.gather(*(llm.achat([ChatMessage(f"x {number}")]) for number in range(CALLS)))
    for number, answer in enumerate(answers):
        tried = [one["model"] for one in answer.additional_kwargs["agentroute"]["attempts"]]
        assert tried == (["a", "b"] if number % 2 else ["a"])


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_cascades_at_once_keep_their_own_answers(asynchronous):
    llm = CascadeLLM(
        llms={name: Slow(model=name) for name in "abc"},
        judge=lambda query, reply: reply.text[1] == "abc"[int(query.text.split()[-1]) % 3],
    )
    asked = [f"x {number}" for number in range(60)]
    if asynchronous:
        answers = await asyncio.gather(*(llm.achat([ChatMessage(text)]) for text in asked))
    else:
        with ThreadPoolExecutor(max_workers=20) as pool:
            answers = list(pool.map(lambda text: llm.chat([ChatMessage(text)]), asked))
    for number, answer in enumerate(answers):
        name = "abc"[number % 3]
        assert answer.message.content == f"[{name}] answer to: x {number}"
        assert [one["model"] for one in answer.additional_kwargs["agentroute"]["attempts"]] == list("abc")[: number % 3 + 1]


# --- one workflow, two runs ---


def handoff(to):
    return ToolCallBlock(tool_call_id="1", tool_name="handoff", tool_kwargs={"to_agent": to, "reason": "it writes"})


class Member(ScriptedLLM):
    """Hands off as the planner, and speaks as the writer."""

    async def achat(self, messages, **kwargs):
        await asyncio.sleep(random.Random(str(len(self.calls))).random() / 50)
        return await super().achat(messages, **kwargs)

    async def astream_chat(self, messages, **kwargs):
        await asyncio.sleep(random.Random(str(len(self.calls))).random() / 50)
        return await super().astream_chat(messages, **kwargs)


def plays(messages):
    return handoff("writer") if "You plan." in messages[0].content else None


def workflow(streaming, **kwargs):
    llms = {name: Member(model=name, replies=[plays] * 99) for name in ("small", "large")}
    llm = RoutedLLM(llms=llms, **kwargs)
    planner = FunctionAgent(
        name="planner", description="plans", system_prompt="You plan.", llm=llm.for_role("planner"), streaming=streaming
    )
    writer = FunctionAgent(
        name="writer",
        description="writes",
        system_prompt="You write.",
        llm=llm.for_role("writer"),
        can_handoff_to=[],
        streaming=streaming,
    )
    return AgentWorkflow(agents=[planner, writer], root_agent="planner"), llm


@pytest.mark.parametrize("streaming", [True, False])
async def test_runs_of_one_workflow_have_the_models_that_each_was_allocated(streaming, attached):
    """The naive way, an `llm` that is set on the shared agents, gives all runs what the last one was allocated."""
    ledger, log = attached(UsageLedger()), MemoryOutcomeLog()
    flow, llm = workflow(streaming, outcome_log=log)
    allocations = [{"planner": first, "writer": second} for first in ("small", "large") for second in ("small", "large")] * 3

    async def run(number, allocation):
        with use_allocation(allocation, run=f"run {number}"):
            handler = flow.run(f"question {number}")
        routed = [event async for event in handler.stream_events() if isinstance(event, ModelRouted)]
        return routed, str(await handler)

    found = await asyncio.gather(*(run(number, allocation) for number, allocation in enumerate(allocations)))
    for number, (allocation, (routed, answer)) in enumerate(zip(allocations, found, strict=True)):
        assert [(event.role, event.model, event.by) for event in routed] == [
            ("planner", allocation["planner"], "allocated"),
            ("writer", allocation["writer"], "allocated"),
        ]
        assert answer.startswith(f"[{allocation['writer']}] answer to:")
        assert f"question {number}" in answer
    rows = {(row.run, row.role, row.model): row.spent.calls for row in ledger.rows()}
    assert rows == {
        (f"run {number}", role, model): 1 for number, allocation in enumerate(allocations) for role, model in allocation.items()
    }
    assert llm.outcome_log.flush(10)
    counted = Counter((outcome.query.role, outcome.model) for outcome in log)
    assert counted == {(role, model): 6 for role in ("planner", "writer") for model in ("small", "large")}


async def test_what_a_run_starts_in_its_turn_has_its_allocation():
    """An agent as a tool of another one, and an LLM that a synchronous tool asks."""
    inner = RoutedLLM(llms={name: ScriptedLLM(model=name) for name in ("small", "large")})
    agent = FunctionAgent(name="inner", llm=inner.for_role("helper"))

    async def ask_agent(text: str) -> str:
        """Asks an agent."""
        return str(await agent.run(text))

    def ask_llm(text: str) -> str:
        """Asks an LLM."""
        return inner.for_role("clerk").complete(text).text

    tools = [FunctionTool.from_defaults(async_fn=ask_agent, name="ask_agent"), FunctionTool.from_defaults(ask_llm)]
    calls = [ToolCallBlock(tool_call_id=name, tool_name=name, tool_kwargs={"text": "hi"}) for name in ("ask_agent", "ask_llm")]
    outer = FunctionAgent(tools=tools, llm=ScriptedLLM(replies=[calls]))

    async def run(helper, clerk):
        with use_allocation({"helper": helper, "clerk": clerk}):
            return {call.tool_name: call.tool_output.content for call in (await outer.run("go")).tool_calls}

    assert await run("large", "small") == {"ask_agent": "[large] answer to: hi", "ask_llm": "[small] answer to: hi"}


@pytest.mark.parametrize(("words", "elsewhere"), [(10, False), (10_000, True)])
async def test_long_prompts_are_counted_off_the_event_loop(words, elsewhere, team, add_tool):
    readers = []

    class Watched(ToolMetadata):
        def to_openai_tool(self, *args, **kwargs):
            readers.append(threading.get_ident())
            return super().to_openai_tool(*args, **kwargs)

    tool = FunctionTool(add_tool.fn, metadata=Watched(description="Adds.", name="add", fn_schema=add_tool.metadata.fn_schema))
    await team.routed(router=None).achat_with_tools([tool], "word " * words)
    # The first to read a tool is who counts its tokens; then comes the candidate.
    assert len(readers) == 2
    assert (readers[0] != threading.get_ident()) is elsewhere
    assert readers[1] == threading.get_ident()
