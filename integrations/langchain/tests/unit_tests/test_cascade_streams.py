"""What users see of a cascade: the answer that was taken, once, in every stream there is."""

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import StreamWriter

from agentroute.scorers import LLMJudge
from langchain_agentroute import CascadeChatModel, CascadeMiddleware, RoutedChatModel, asker, routing_decision
from langchain_agentroute.testing import ScriptedChatModel

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

ASKED = {"messages": [("user", "one two")]}


def models():
    return {name: ScriptedChatModel(model_name=name) for name in ("small", "large")}


def judge(accepts):
    """A model judges, so that its words could show up, too."""
    grades = ScriptedChatModel(model_name="judge", replies=['{"score": 10}' if accepts else '{"score": 0}'] * 9)
    return LLMJudge(asker(grades))


def graph(accepts, node="invoke", model=None):
    model = model or CascadeChatModel(models=models(), judge=judge(accepts))

    def chat(state):
        if node == "invoke":
            return {"messages": [model.invoke(state["messages"])]}
        chunks = list(model.stream(state["messages"]))
        whole = chunks[0] + chunks[1:] if len(chunks) > 1 else chunks[0]
        return {"messages": [AIMessage(whole.content, id=whole.id, response_metadata=whole.response_metadata)]}

    async def achat(state):
        if node == "invoke":
            return {"messages": [await model.ainvoke(state["messages"])]}
        chunks = [chunk async for chunk in model.astream(state["messages"])]
        whole = chunks[0] + chunks[1:] if len(chunks) > 1 else chunks[0]
        return {"messages": [AIMessage(whole.content, id=whole.id, response_metadata=whole.response_metadata)]}

    made = []
    for function in (chat, achat):
        builder = StateGraph(MessagesState)
        builder.add_node("chat", function)
        builder.add_edge(START, "chat")
        builder.add_edge("chat", END)
        made.append(builder.compile())
    return made


def agents(accepts, build):
    if build == "model":
        agent = create_agent(CascadeChatModel(models=models(), judge=judge(accepts)))
    else:
        agent = create_agent(models()["small"], middleware=[CascadeMiddleware(models(), judge=judge(accepts))])
    return [agent, agent]


BUILDS = {
    "node": graph,
    "streaming node": lambda accepts: graph(accepts, "stream"),
    "agent": lambda accepts: agents(accepts, "model"),
    "middleware": lambda accepts: agents(accepts, "middleware"),
}
EVERY = pytest.mark.parametrize("build", BUILDS)
BOTH = pytest.mark.parametrize("asynchronous", [False, True])
ACCEPTS = pytest.mark.parametrize("accepts", [True, False])


def expected(accepts):
    return f"[{'small' if accepts else 'large'}] answer to: one two"


async def streamed(runnables, asynchronous, mode):
    if asynchronous:
        return [item async for item in runnables[1].astream(ASKED, stream_mode=mode)]
    return list(runnables[0].stream(ASKED, stream_mode=mode))


@EVERY
@BOTH
@ACCEPTS
async def test_messages(build, asynchronous, accepts):
    pieces = [message for message, _ in await streamed(BUILDS[build](accepts), asynchronous, "messages")]
    assert "".join(piece.text for piece in pieces) == expected(accepts)
    assert len({piece.id for piece in pieces}) == 1
    assert len(pieces) == 1 if accepts else len(pieces) > 4, "whole when it was judged, in tokens when it was not"


@EVERY
@BOTH
@ACCEPTS
async def test_updates(build, asynchronous, accepts):
    updates = await streamed(BUILDS[build](accepts), asynchronous, "updates")
    texts = [message.text for update in updates for value in update.values() for message in (value or {}).get("messages", ())]
    assert texts == [expected(accepts)]


@EVERY
@BOTH
@ACCEPTS
async def test_events_v2(build, asynchronous, accepts):
    runnables = BUILDS[build](accepts)
    # The synchronous graph, too: LangChain has no synchronous events of this version.
    events = [event async for event in runnables[int(asynchronous)].astream_events(ASKED, version="v2")]
    about_models = [event for event in events if event["event"].startswith("on_chat_model")]
    tokens = [event["data"]["chunk"] for event in about_models if event["event"] == "on_chat_model_stream"]
    assert "".join(chunk.text for chunk in tokens) == expected(accepts)
    kinds = [event["event"] for event in about_models if event["event"] != "on_chat_model_stream"]
    assert kinds == ["on_chat_model_start", "on_chat_model_end"]
    assert about_models[-1]["data"]["output"].text == expected(accepts)
    assert not [event for event in events if event["name"] == "agentroute.judge"]


# Not in a node that calls stream(): LangGraph shows nothing of it there, whatever the model.
@pytest.mark.parametrize("build", ["node", "agent", "middleware"])
@BOTH
@ACCEPTS
async def test_events_v3(build, asynchronous, accepts):
    runnables = BUILDS[build](accepts)
    if asynchronous:
        run = await runnables[1].astream_events(ASKED, version="v3")
        texts = ["".join([piece async for piece in message.text]) async for message in run.messages]
    else:
        run = runnables[0].stream_events(ASKED, version="v3")
        texts = ["".join(message.text) for message in run.messages]
    assert texts == [expected(accepts)]


@ACCEPTS
async def test_events_of_the_model_itself(accepts):
    model = CascadeChatModel(models=models(), judge=judge(accepts))
    events = [event async for event in model.astream_events("one two", version="v2")]
    tokens = [event["data"]["chunk"].text for event in events if event["event"] == "on_chat_model_stream"]
    assert "".join(tokens) == expected(accepts)
    stream = model.stream_events("one two", version="v3")
    assert "".join(stream.text) == expected(accepts)
    assert routing_decision(stream.output)["answered_by"] == ("small" if accepts else "large")
    assert routing_decision(stream.output)["total_usage"]["input_tokens"] == (10 if accepts else 20)


@pytest.mark.filterwarnings("ignore:.*astream_log:DeprecationWarning")
@ACCEPTS
async def test_patches_of_the_log(accepts):
    model = CascadeChatModel(models=models(), judge=judge(accepts))
    seen = ""
    async for patch in model.astream_log("one two"):
        seen += str(patch.ops)
    assert ("[small]" in seen) is accepts


@BOTH
async def test_a_deadline_changes_nothing_for_the_user(asynchronous):
    for accepts in (True, False):
        model = CascadeChatModel(models=models(), judge=judge(accepts), deadline=30.0, timeout=20.0)
        pieces = [message for message, _ in await streamed(graph(accepts, model=model), asynchronous, "messages")]
        assert "".join(piece.text for piece in pieces) == expected(accepts)


@BOTH
async def test_cascades_within_each_other_hide_each_other_s_rejected_answers(asynchronous):
    inner = CascadeChatModel(models=models(), judge=judge(accepts=False))
    routed = RoutedChatModel(models={"inner": inner})
    for accepts, text in ((True, "[large] answer to: one two"), (False, "[last] answer to: one two")):
        last = ScriptedChatModel(model_name="last")
        outer = CascadeChatModel(models={"routed": routed, "last": last}, judge=judge(accepts))
        pieces = [message for message, _ in await streamed(graph(accepts, model=outer), asynchronous, "messages")]
        assert "".join(piece.text for piece in pieces) == text


@BOTH
async def test_callbacks_that_print_tokens_see_none_of_a_rejected_answer(asynchronous, recorder):
    class Eager(ScriptedChatModel):
        streaming: bool = True

    given = {name: Eager(model_name=name) for name in ("small", "large")}
    model = CascadeChatModel(models=given, judge=lambda reply: False)
    config = {"callbacks": [recorder]}
    await model.ainvoke("one two", config) if asynchronous else model.invoke("one two", config)
    assert "small" not in "".join(recorder.tokens)
    assert [run["name"] for run in recorder.of("llm")] == ["small", "large"], "traces see both"


def test_custom_streams_of_a_node_stay():
    model = CascadeChatModel(models=models(), judge=judge(accepts=False))

    def chat(state, writer: StreamWriter):
        writer({"working": True})
        return {"messages": [model.invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("chat", chat)
    builder.add_edge(START, "chat")
    assert list(builder.compile().stream(ASKED, stream_mode="custom")) == [{"working": True}]


class TestAgentsWithTools:
    """A rejected tool call is never made, and never seen."""

    @staticmethod
    def agent(build, made):
        @tool
        def add(a: int, b: int) -> int:
            """Adds."""
            made.append((a, b))
            return a + b

        def judges(reply):
            return not reply.tool_calls or reply.tool_calls[0].arguments["a"] > 5

        given = models()
        given["small"].replies = [
            AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1, "b": 1}, "id": "no", "type": "tool_call"}])
        ]
        if build == "model":
            return create_agent(CascadeChatModel(models=given, judge=judges), [add]), given
        return create_agent(given["small"], [add], middleware=[CascadeMiddleware(given, judge=judges)]), given

    @BOTH
    @pytest.mark.parametrize("build", ["model", "middleware"])
    async def test_it(self, build, asynchronous):
        made = []
        agent, given = self.agent(build, made)
        asked = {"messages": [("user", "add 7 and 2")]}
        if asynchronous:
            pieces = [item async for item in agent.astream(asked, stream_mode=["messages", "values"])]
        else:
            pieces = list(agent.stream(asked, stream_mode=["messages", "values"]))
        state = [value for mode, value in pieces if mode == "values"][-1]
        assert made == [(7, 2)]
        assert [routing_decision(one)["answered_by"] for one in state["messages"] if isinstance(one, AIMessage)] == [
            "large",
            "large",
        ]
        assert len(given["small"].asked) == 1, "the tool loop stays with the model that began it"
        seen = [message for mode, (message, _) in ((mode, value) for mode, value in pieces if mode == "messages")]
        assert "".join(one.text for one in seen if one.type == "AIMessageChunk") == "[large] answer to: add 7 and 2"
        assert "no" not in {chunk.get("id") for one in seen for chunk in getattr(one, "tool_call_chunks", ())}
