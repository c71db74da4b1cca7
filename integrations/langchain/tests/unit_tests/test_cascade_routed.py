"""Cascades whose router routes: one answer, shown as it comes, or waited for where only its end tells whether it can be used."""

import asyncio
import json
import random
import threading
import time

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph

from agentroute.cascades import AnswerTable, CascadeRouter, CascadeRouting, Next, Pick, ThresholdCascade
from agentroute.errors import ConfigError
from agentroute.types import Score
from langchain_agentroute import CascadeChatModel, CascadeMiddleware, routing_decision
from langchain_agentroute.testing import ScriptedChatModel

BOTH = pytest.mark.parametrize("asynchronous", [False, True])


class Talking(BaseChatModel):
    """Says something word by word, and then may call a tool with what is no JSON."""

    model_name: str
    say: str = ""
    broken: bool = False

    @property
    def _llm_type(self):
        return "talking"

    def bind_tools(self, tools, **kwargs):
        return self

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        pieces = [AIMessageChunk(word) for word in self.say.split(" ") if word]
        if self.broken:
            pieces.append(AIMessageChunk("", tool_call_chunks=[tool_call_chunk(name="get", args='"x"', id="1", index=0)]))
        for piece in pieces or [AIMessageChunk("")]:
            chunk = ChatGenerationChunk(message=piece)
            if run_manager and piece.content:
                run_manager.on_llm_new_token(piece.content, chunk=chunk)
            yield chunk

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        whole = None
        for chunk in self._stream(messages):
            whole = chunk.message if whole is None else whole + chunk.message
        message = AIMessage(whole.content, tool_calls=whole.tool_calls, invalid_tool_calls=whole.invalid_tool_calls)
        return ChatResult(generations=[ChatGeneration(message=message)])


def log(folder, right, *, rows=200, costs=(1e-5, 1e-3)):
    """Answers to like questions; `right` draws who is right, and the signal tells."""
    draws = random.Random(0)
    names = "abc"[: len(costs)]
    file = folder / "log.jsonl"
    with file.open("w") as out:
        for i in range(rows):
            for name, good, cost in zip(names, right(draws), costs, strict=True):
                sure = (0.9 if good else 0.1) + draws.random() * 0.05
                line = {"prompt": f"q {i}", "model": name, "score": int(good), "cost_usd": cost, "sure": sure}
                print(json.dumps(line), file=out)
    return AnswerTable.from_jsonl(file, signals=["sure"])


@pytest.fixture(scope="module")
def routers(tmp_path_factory):
    """All ways to route: nothing learned, no climbing wanted, and none that would pay."""
    answers = log(
        tmp_path_factory.mktemp("log"), lambda draws: (draws.random() < 0.8, draws.random() < 0.85), rows=150, costs=(1e-5, 1e-2)
    )
    pays = CascadeRouter(["a", "b"], policy=CascadeRouting(willingness_to_pay=0.005)).fit(answers)
    assert not pays.looks
    return {
        "unfitted": CascadeRouter(["a", "b"]),
        "alone": CascadeRouter(["a", "b"], policy=CascadeRouting(climb=False, willingness_to_pay=0.005)).fit(answers),
        "does not pay": pays,
    }


ROUTERS = pytest.mark.parametrize("router", ["unfitted", "alone", "does not pay"])


def talkers(**first):
    return {"a": Talking(model_name="a", **first), "b": Talking(model_name="b", say="It is 42.")}


async def shown(graph, asynchronous):
    """What a user of a graph reads, message by message."""
    given, found = {"messages": [("human", "q 1")]}, {}
    if asynchronous:
        async for chunk, _ in graph.astream(given, stream_mode="messages"):
            found.setdefault(chunk.id, []).append(chunk.text)
    else:
        for chunk, _ in graph.stream(given, stream_mode="messages"):
            found.setdefault(chunk.id, []).append(chunk.text)
    return ["".join(parts) for parts in found.values() if any(parts)]


def around(model):
    """A graph of one node that invokes the model."""

    def node(state):
        return {"messages": [model.invoke(state["messages"])]}

    return StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()


@ROUTERS
async def test_what_was_shown_is_the_answer_everywhere(routers, router):
    model = CascadeChatModel(models=talkers(say="Let me look.", broken=True), router=routers[router])
    assert await shown(around(model), asynchronous=False) == ["Letmelook."]
    for message in (model.invoke("q 1"), await model.ainvoke("q 1"), sum_of(model.stream("q 1"))):
        record = routing_decision(message)
        assert (message.text, record["answered_by"], len(record["attempts"])) == ("Letmelook.", "a", 1)
    assert routing_decision(model.invoke("q 1"))["accepted"] is False


def sum_of(chunks):
    first, *rest = chunks
    return first + rest if rest else first


@ROUTERS
def test_a_routed_answer_streams_truly(routers, router):
    model = CascadeChatModel(models=talkers(say="one two three"), router=routers[router])
    assert [chunk.text for chunk in model.stream("q 1") if chunk.text] == ["one", "two", "three"]


@ROUTERS
async def test_nothing_said_is_passed_over(routers, router):
    model = CascadeChatModel(models=talkers(), router=routers[router])
    assert await shown(around(model), asynchronous=False) == ["Itis42."]
    for message in (model.invoke("q 1"), await model.ainvoke("q 1"), sum_of(model.stream("q 1"))):
        assert (message.text, routing_decision(message)["answered_by"]) == ("Itis42.", "b")


@tool
def get(city: str) -> str:
    """The weather."""
    return "fine"


@ROUTERS
async def test_with_tools_a_broken_call_is_never_shown(routers, router):
    bound = CascadeChatModel(models=talkers(say="Let me look.", broken=True), router=routers[router]).bind_tools([get])
    assert await shown(around(bound), asynchronous=False) == ["Itis42."]
    for message in (bound.invoke("q 1"), await bound.ainvoke("q 1"), sum_of(bound.stream("q 1"))):
        record = routing_decision(message)
        assert (message.text, record["answered_by"], record["accepted"]) == ("Itis42.", "b", True)


@BOTH
@ROUTERS
async def test_in_an_agent_a_broken_call_is_never_shown(routers, router, asynchronous):
    models = talkers(say="Let me look.", broken=True)
    agent = create_agent(
        model=models["b"], tools=[get], middleware=[CascadeMiddleware(models, router=routers[router], judge=lambda reply: 1 / 0)]
    )
    assert await shown(agent, asynchronous) == ["Itis42."]


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    def right(draws):
        easy = draws.random() < 0.4
        return easy, easy or draws.random() < 0.3, True

    return log(tmp_path_factory.mktemp("log"), right, costs=(1e-5, 3e-4, 1e-3))


def bad(reply):
    return Score(value=0.1, signals={"sure": 0.1})


def scripted(**given):
    return {name: ScriptedChatModel(model_name=name, replies=given.get(name, ())) for name in "abc"}


def test_one_call_goes_to_the_model_that_is_worth_most(three):
    router = CascadeRouter(list("abc"), policy=CascadeRouting(willingness_to_pay=0.005)).fit(three)
    assert routing_decision(CascadeChatModel(models=scripted(), router=router, judge=bad).invoke("q 1"))["model"] == "a"
    record = routing_decision(CascadeChatModel(models=scripted(), router=router, judge=bad, max_models=1).invoke("q 1"))
    assert (record["model"], record["answered_by"], record["fallback"]) == ("c", "c", False)


@pytest.mark.parametrize("policy", [ThresholdCascade(willingness_to_pay=0.005), CascadeRouting(willingness_to_pay=0.005)])
def test_an_answer_that_the_plan_would_not_have_taken_is_not_accepted(three, policy):
    router = CascadeRouter(list("abc"), policy=policy).fit(three)
    models = scripted(b=[TimeoutError("down")], c=[TimeoutError("down")])
    record = routing_decision(CascadeChatModel(models=models, router=router, judge=bad).invoke("q 1"))
    assert (record["answered_by"], record["accepted"], record["attempts"][0]["accepted"]) == ("a", False, False)


def test_a_policy_that_allows_one_call_gets_one(three, recwarn):
    router = CascadeRouter(list("abc"), policy=CascadeRouting(willingness_to_pay=0.005, max_models=1)).fit(three)
    models = scripted(a=[TimeoutError("down")], b=[TimeoutError("down")], c=[TimeoutError("down")])
    with pytest.raises(TimeoutError):
        CascadeChatModel(models=models, router=router, judge=bad).invoke("q 1")
    assert sum(len(model.asked) for model in models.values()) == 1
    assert not [one for one in recwarn if "router" in str(one.message)]


def test_check_last_beside_a_router_is_refused(three):
    with pytest.raises(ConfigError, match="nothing reads check_last=True"):
        CascadeChatModel(models=scripted(), router=CascadeRouter(list("abc")), judge=bad, check_last=True)


def test_different_tool_calls_do_not_agree(tmp_path):
    """Two models that give the same answer are right; two that call a tool with other arguments have not given the same."""
    draws = random.Random(0)
    file = tmp_path / "log.jsonl"
    with file.open("w") as out:
        for i in range(200):
            easy = draws.random() < 0.5
            for name, cost in (("a", 1e-5), ("b", 2e-5), ("c", 1e-3)):
                good = easy or name == "c"
                answer = "7" if good else f"{name}{draws.randrange(99)}"
                line = {"prompt": f"q {i}", "model": name, "score": int(good), "cost_usd": cost, "answer": answer}
                print(json.dumps(line), file=out)
    router = CascadeRouter(list("abc"), policy=CascadeRouting(willingness_to_pay=0.005)).fit(
        AnswerTable.from_jsonl(file, signals=[])
    )
    assert router.looks

    def pays(usd):
        return AIMessage("", tool_calls=[{"name": "pay", "args": {"usd": usd}, "id": "1"}])

    def answered(*amounts):
        models = scripted(**{name: [pays(usd)] for name, usd in zip("abc", amounts, strict=True)})
        return routing_decision(CascadeChatModel(models=models, router=router).invoke("q 3"))["answered_by"]

    assert answered(1, 1, 1000) in {"a", "b"}
    assert answered(1, 1000, 1000) == "c"


class Slow:
    """A planner whose plan takes its time to be asked."""

    def plan(self, query):
        return self

    def next(self, attempts, allowed):
        time.sleep(0.2)
        return None if attempts else Next(model=allowed[0])

    def pick(self, attempts):
        return Pick(index=0, accepted=True)


async def test_a_plan_that_waits_leaves_the_event_loop_free():
    going, asked = threading.Event(), []

    class Waiting(Slow):
        waits = True

        def next(self, attempts, allowed):
            # The loop sets it, if it can.
            asked.append(not attempts or going.wait(5))
            return None if attempts else Next(model=allowed[0])

    judged = asyncio.Event()

    async def judge(reply):
        judged.set()
        return 1.0

    async def elsewhere():
        await judged.wait()
        going.set()

    model = CascadeChatModel(models=scripted(), router=Waiting(), judge=judge)
    async with asyncio.timeout(10):
        message, _ = await asyncio.gather(model.ainvoke("x"), elsewhere())
    assert routing_decision(message)["answered_by"] == "a"
    assert asked == [True, True]


@BOTH
async def test_a_slow_plan_does_not_eat_the_deadline_of_the_first_call(asynchronous):
    model = CascadeChatModel(models=scripted(), router=Slow(), deadline=0.1)
    message = await model.ainvoke("x") if asynchronous else model.invoke("x")
    assert routing_decision(message)["answered_by"] == "a"
