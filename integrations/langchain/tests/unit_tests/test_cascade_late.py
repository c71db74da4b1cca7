"""A last rung that is late: once another answer was given, nothing of it shows any more."""

import threading
import uuid

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers._streaming import _StreamingCallbackHandler
from langgraph.graph import START, MessagesState, StateGraph

from langchain_agentroute import CascadeChatModel, CascadeMiddleware
from langchain_agentroute._holding import Gate, gate, hold
from langchain_agentroute.testing import ScriptedChatModel

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

ASKED = {"messages": [("user", "x")]}


class Late(ScriptedChatModel):
    """A model that says one word in time, and the others when it is let."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        object.__setattr__(self, "_gate", threading.Event())
        object.__setattr__(self, "_done", threading.Event())

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        try:
            yield ChatGenerationChunk(message=AIMessageChunk("early "))
            assert self._gate.wait(10)
            yield ChatGenerationChunk(message=AIMessageChunk("late "))
            yield ChatGenerationChunk(message=AIMessageChunk("later", chunk_position="last"))
        finally:
            self._done.set()

    def end(self):
        self._gate.set()
        assert self._done.wait(10)


def models():
    return {"small": ScriptedChatModel(model_name="small", replies=["[small]"]), "large": Late(model_name="large")}


def node(large, **kwargs):
    model = CascadeChatModel(models={**models(), "large": large}, judge=lambda reply: False, timeout=0.3, **kwargs)
    builder = StateGraph(MessagesState)
    builder.add_node("chat", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_node("wait", lambda state: large.end())
    builder.add_edge(START, "chat")
    builder.add_edge("chat", "wait")
    return builder.compile()


def agent(large):
    class Waits(AgentMiddleware):
        def after_model(self, state, runtime):
            large.end()

    cascade = CascadeMiddleware({**models(), "large": large}, judge=lambda reply: False, timeout=0.3)
    return create_agent(large, middleware=[cascade, Waits()])


@pytest.mark.parametrize("build", [node, agent])
def test_nothing_late_is_streamed_after_another_answer(build):
    texts = [message.text for message, _ in build(models()["large"]).stream(ASKED, stream_mode="messages")]
    assert texts == ["early ", "[small]"]


async def test_nothing_late_is_an_event_of_version_2():
    large = models()["large"]
    model = CascadeChatModel(models={**models(), "large": large}, judge=lambda reply: False, timeout=0.3)

    def ask(text):
        answer = model.invoke(text)
        large.end()
        return answer

    events = [event async for event in RunnableLambda(ask).astream_events("x", version="v2")]
    tokens = [event["data"]["chunk"].text for event in events if event["event"] == "on_chat_model_stream"]
    assert tokens == ["early ", "[small]"]


class Taps(BaseCallbackHandler):
    """Streams to a user."""

    def __init__(self):
        self.seen = []

    def tap_output_iter(self, run_id, output):
        for item in output:
            self.seen.append(item)
            yield item

    async def tap_output_aiter(self, run_id, output):
        async for item in output:
            self.seen.append(item)
            yield item

    def on_llm_new_token(self, token, **kwargs):
        self.seen.append(token)


async def test_a_gate_is_what_it_stands_for_until_it_is_shut():
    handler, run = Taps(), uuid.uuid4()
    config, (shut,) = gate({"callbacks": [handler, BaseCallbackHandler()]})
    assert config["callbacks"][0] is shut
    assert isinstance(shut, Taps)
    assert isinstance(shut, _StreamingCallbackHandler)
    for asynchronous in (False, True):
        shut.open = True
        handler.seen.clear()
        shut.on_llm_new_token("0")

        def items():
            yield 1
            shut.shut()
            yield 2
            yield 3

        async def aitems():
            for item in items():
                yield item

        if asynchronous:
            assert [item async for item in shut.tap_output_aiter(run, aitems())] == [1, 2, 3]
        else:
            assert list(shut.tap_output_iter(run, items())) == [1, 2, 3]
        shut.on_llm_new_token("4")
        assert handler.seen == ["0", 1]


def test_stand_ins_are_replaced_again_and_say_what_they_stand_for():
    config, _ = hold({"callbacks": [Taps()]})
    config, (outer,) = gate(config)
    assert type(outer) is Gate
    assert not isinstance(outer, _StreamingCallbackHandler), "what is held is not asked to be streamed"
    assert gate({"callbacks": [BaseCallbackHandler()]})[1] == ()
