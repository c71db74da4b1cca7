"""What traces, usage counters and graphs see: one model run for one call, below the routed model."""

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler, get_usage_metadata_callback
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langgraph.graph import END, START, MessagesState, StateGraph

from langchain_agentroute import RoutedChatModel, routing_decision
from langchain_agentroute.testing import ScriptedChatModel

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

WAYS = ["invoke", "ainvoke", "stream", "astream", "batch", "abatch", "generate", "agenerate", "v3", "av3"]
LONG = "a question that is long enough for the large model"


@pytest.mark.parametrize("way", WAYS)
async def test_run_tree(way, routed, recorder, collect):
    message = await collect(way, routed, LONG, {"callbacks": [recorder]})
    assert recorder.tree() == [
        ("chain", "RoutedChatModel", None),
        ("chain", "agentroute.router", "RoutedChatModel"),
        ("llm", "large", "RoutedChatModel"),
    ]
    record = routing_decision(message)
    assert (record["model"], record["answered_by"], record["by"]) == ("large", "large", "policy")
    assert message.response_metadata["model_name"] == "large"
    assert message.response_metadata["model_provider"] == "scripted"
    assert message.usage_metadata["total_tokens"] == 15
    assert message.text == f"[large] answer to: {LONG}"
    assert recorder.runs[0]["output"]["agentroute"]["answered_by"] == "large"
    assert recorder.runs[1]["output"]["model"] == "large"


@pytest.mark.parametrize("way", WAYS)
async def test_usage_is_counted_once(way, routed, collect):
    counter = UsageMetadataCallbackHandler()
    await collect(way, routed, LONG, {"callbacks": [counter]})
    assert {name: usage["total_tokens"] for name, usage in counter.usage_metadata.items()} == {"large": 15}


@pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke", "astream"])
async def test_ambient_usage_counter_counts_once(way, routed, collect):
    with get_usage_metadata_callback() as counter:
        await collect(way, routed, LONG)
    assert counter.usage_metadata["large"]["total_tokens"] == 15


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_in_a_chain(way, routed, recorder, collect):
    chain = ChatPromptTemplate.from_template("{x} " + LONG) | routed | StrOutputParser()
    if way in {"stream", "astream"}:
        pieces = (
            list(chain.stream({"x": "Hm"}, {"callbacks": [recorder]}))
            if way == "stream"
            else [piece async for piece in chain.astream({"x": "Hm"}, {"callbacks": [recorder]})]
        )
        text = "".join(pieces)
        assert len(pieces) > 5, "tokens must come one by one"
    else:
        text = await collect(way, chain, {"x": "Hm"}, {"callbacks": [recorder]})
    assert text == f"[large] answer to: Hm {LONG}"
    assert ("chain", "RoutedChatModel", "RunnableSequence") in recorder.tree()
    assert ("llm", "large", "RoutedChatModel") in recorder.tree()
    assert len(recorder.of("llm")) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_without_handlers_nothing_is_opened_and_the_record_is_there(way, routed, collect):
    message = await collect(way, routed, "short")
    assert routing_decision(message)["answered_by"] == "small"


def test_candidate_runs_carry_the_decision_as_flat_metadata(routed, recorder):
    message = routed.invoke(LONG, {"callbacks": [recorder], "metadata": {"own": 1}, "tags": ["mine"]})
    (llm,) = recorder.of("llm")
    assert llm["metadata"]["agentroute_model"] == "large"
    assert llm["metadata"]["agentroute_attempt"] == 0
    assert llm["metadata"]["agentroute_decision_id"] == routing_decision(message)["decision_id"]
    assert llm["metadata"]["own"] == 1
    assert {"agentroute", "mine"} <= set(llm["tags"])


def test_own_callbacks_tags_and_names_stay_with_the_routed_run(small, recorder, make_recorder):
    own = make_recorder()
    model = RoutedChatModel(models={"small": small}, callbacks=[own], tags=["outer"], metadata={"outer": 1})
    model.invoke("x", {"callbacks": [recorder], "run_name": "Named"})
    assert own.tree() == [("chain", "Named", None)]
    assert recorder.tree() == [("chain", "Named", None), ("llm", "small", "Named")]
    assert "outer" in recorder.runs[0]["tags"]
    assert "outer" not in recorder.runs[1]["tags"]
    assert "outer" not in recorder.runs[1]["metadata"]


def test_run_id_is_the_routed_run_s(routed, recorder):
    from uuid import uuid4

    run_id = uuid4()
    routed.invoke("x", {"callbacks": [recorder], "run_id": run_id})
    assert recorder.runs[0]["id"] == run_id
    assert [run["id"] for run in recorder.runs].count(run_id) == 1


def test_generate_tells_its_runs(routed, recorder):
    result = routed.generate([[("user", "x")], [("user", LONG)]], callbacks=[recorder])
    chains = [run["id"] for run in recorder.of("chain") if run["name"] == "RoutedChatModel"]
    assert [run.run_id for run in result.run] == chains
    assert [one[0].message.response_metadata["model_name"] for one in result.generations] == ["small", "large"]


def test_failure_ends_every_run_with_the_error(recorder):
    error = ValueError("malformed")
    model = RoutedChatModel(models={"a": ScriptedChatModel(replies=[error])})
    with pytest.raises(ValueError, match="malformed"):
        model.invoke("x", {"callbacks": [recorder]})
    recorder.tree()
    assert [run["error"] for run in recorder.runs] == [error, error]


def test_model_called_by_the_router_shows_below_the_router(small, large, recorder):
    judge = ScriptedChatModel(model_name="judge", replies=["large"])
    model = RoutedChatModel(models={"small": small, "large": large}, router=lambda query: judge.invoke(query.text).text)
    assert model.invoke("x", {"callbacks": [recorder]}).response_metadata["model_name"] == "large"
    assert recorder.tree()[1:3] == [
        ("chain", "agentroute.router", "RoutedChatModel"),
        ("llm", "judge", "agentroute.router"),
    ]


async def test_model_called_by_the_router_shows_below_the_router_async(small, large, recorder):
    judge = ScriptedChatModel(model_name="judge", replies=["large"])
    model = RoutedChatModel(models={"small": small, "large": large}, router=lambda query: judge.invoke(query.text).text)
    await model.ainvoke("x", {"callbacks": [recorder]})
    assert ("llm", "judge", "agentroute.router") in recorder.tree()


def graph_of(model):
    graph = StateGraph(MessagesState)
    graph.add_node("chat", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "chat")
    graph.add_edge("chat", END)
    return graph.compile()


def test_langgraph_streams_the_text_once(routed):
    graph = graph_of(routed)
    pieces = [chunk for chunk, _ in graph.stream({"messages": [("user", LONG)]}, stream_mode="messages")]
    assert "".join(piece.text for piece in pieces) == f"[large] answer to: {LONG}"
    assert len(pieces) > 5
    assert routing_decision(graph.invoke({"messages": [("user", LONG)]})["messages"][-1])["answered_by"] == "large"


async def test_langgraph_streams_the_text_once_async(routed):
    async def chat(state):
        return {"messages": [await routed.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("chat", chat)
    graph.add_edge(START, "chat")
    stream = graph.compile().astream({"messages": [("user", LONG)]}, stream_mode="messages")
    assert "".join([chunk.text async for chunk, _ in stream]) == f"[large] answer to: {LONG}"


def test_langgraph_v3_streams_the_text_once(routed):
    run = graph_of(routed).stream_events({"messages": [("user", LONG)]}, version="v3")
    assert ["".join(message.text) for message in run.messages] == [f"[large] answer to: {LONG}"]


async def test_astream_events_v2_shows_one_model(routed):
    events = [event async for event in routed.astream_events(LONG, version="v2")]
    starts = [event for event in events if event["event"] == "on_chat_model_start"]
    streamed = [event["data"]["chunk"].text for event in events if event["event"] == "on_chat_model_stream"]
    assert len(starts) == 1
    assert "".join(streamed) == f"[large] answer to: {LONG}"


class TestEventStreams:
    """`stream_events(version="v3")`: the candidate's events, with the record on the last."""

    def test_projections(self, routed):
        stream = routed.stream_events(LONG, version="v3")
        assert "".join(stream.text) == f"[large] answer to: {LONG}"
        assert stream.output.response_metadata["output_version"] == "v1"
        assert routing_decision(stream.output)["answered_by"] == "large"
        assert stream.output.id is not None

    async def test_projections_async(self, routed):
        stream = await routed.astream_events(LONG, version="v3")
        assert "".join([piece async for piece in stream.text]) == f"[large] answer to: {LONG}"
        assert routing_decision(await stream.output)["answered_by"] == "large"

    def test_tool_calls(self, routed):
        tool = {"name": "add", "description": "adds", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
        stream = routed.bind_tools([tool]).stream_events("add 3", version="v3")
        assert [(call["name"], call["args"]) for call in stream.tool_calls.get()] == [("add", {"a": 3})]

    def test_failure_reaches_the_reader(self):
        model = RoutedChatModel(models={"a": ScriptedChatModel(break_after=2, break_error=KeyError("broken"))})
        stream = model.stream_events("one two three", version="v3")
        with pytest.raises(KeyError, match="broken"):
            list(stream)
        with pytest.raises(KeyError, match="broken"):
            _ = stream.output

    async def test_failure_reaches_the_reader_async(self):
        model = RoutedChatModel(models={"a": ScriptedChatModel(break_after=2, break_error=KeyError("broken"))})
        stream = await model.astream_events("one two three", version="v3")
        with pytest.raises(KeyError, match="broken"):
            await stream.output

    async def test_closing_early_ends_all_runs(self, routed, recorder):
        stream = await routed.astream_events(LONG, {"callbacks": [recorder]}, version="v3")
        async with stream:
            async for _ in stream.text:
                break
        recorder.tree()

    def test_unknown_versions_are_langchain_s_business(self, routed):
        with pytest.raises(NotImplementedError):
            routed.stream_events("x", version="v2")
