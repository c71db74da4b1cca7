"""What LangGraph's events of version 3 show of a node that calls `cascade.stream()` itself."""

import pytest
from langgraph.graph import END, START, MessagesState, StateGraph

from langchain_agentroute import CascadeChatModel, routing_decision
from langchain_agentroute.testing import ScriptedChatModel

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

ASKED = {"messages": [("user", "one two")]}
BOTH = pytest.mark.parametrize("asynchronous", [False, True])


def graph(model, asynchronous):
    def chat(state):
        first, *others = model.stream(state["messages"])
        return {"messages": [first + others if others else first]}

    async def achat(state):
        first, *others = [chunk async for chunk in model.astream(state["messages"])]
        return {"messages": [first + others if others else first]}

    builder = StateGraph(MessagesState)
    builder.add_node("chat", achat if asynchronous else chat)
    builder.add_edge(START, "chat")
    builder.add_edge("chat", END)
    return builder.compile()


async def seen(model, asynchronous):
    """Every event of a run; and of another one the texts of its messages, as the projection gives them."""
    made = graph(model, asynchronous)
    if asynchronous:
        events = [event async for event in await made.astream_events(ASKED, version="v3")]
        run = await made.astream_events(ASKED, version="v3")
        return events, ["".join([piece async for piece in message.text]) async for message in run.messages]
    events = list(made.stream_events(ASKED, version="v3"))
    run = made.stream_events(ASKED, version="v3")
    return events, ["".join(message.text) for message in run.messages]


@BOTH
@pytest.mark.parametrize("accepts", [True, False])
async def test_the_answer_that_was_taken_is_there_once_and_nothing_of_a_rejected_one(asynchronous, accepts):
    models = {name: ScriptedChatModel(model_name=name) for name in ("small", "large")}
    model = CascadeChatModel(models=models, judge=lambda reply: accepts)
    events, texts = await seen(model, asynchronous)
    taken, other = ("small", "large") if accepts else ("large", "small")
    shown = [event["params"]["data"][0] for event in events if event["method"] == "messages"]
    assert [message.text for message in shown] == [f"[{taken}] answer to: one two"]
    *_, answer = [event["params"]["data"] for event in events if event["method"] == "values"][-1]["messages"]
    assert (answer.text, answer.id) == (shown[0].text, shown[0].id)
    assert routing_decision(answer)["answered_by"] == taken
    # The projection leaves out what a node streams itself (see below): at most it has the same message.
    assert texts in ([], [f"[{taken}] answer to: one two"])
    assert f"[{other}]" not in str(events)


@BOTH
async def test_a_plain_model_is_shown_no_otherwise(asynchronous):
    """LangGraph gives one event with the whole message where a node calls `stream()`, and no tokens, whatever the model."""
    events, texts = await seen(ScriptedChatModel(model_name="large"), asynchronous)
    assert [event["method"] for event in events] == ["values", "messages", "values"]
    assert events[1]["params"]["data"][0].text == "[large] answer to: one two"
    assert texts == []
