"""Tools and schemas: bound by the chosen candidate, in its own way."""

from typing import get_type_hints

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import JsonOutputParser
from langchain_core.runnables import Runnable, RunnableBinding, RunnableLambda
from langchain_core.tools import tool
from pydantic import BaseModel

from agentroute.errors import ConfigError
from langchain_agentroute import RoutedChatModel, routing_decision
from langchain_agentroute.testing import ScriptedChatModel


@tool(extras={"provider": "own"})
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


class Joke(BaseModel):
    """A joke."""

    setup: str
    punchline: str


class Native(ScriptedChatModel):
    """A provider with ways of its own: it takes tools as they are, and answers schemas without tools."""

    def bind_tools(self, tools, **kwargs) -> Runnable:
        return self.bind(native_tools=list(tools), **kwargs)

    def with_structured_output(self, schema, *, include_raw=False, **kwargs):
        chain = self.bind(native_schema=schema, native_kwargs=kwargs) | RunnableLambda(lambda _: {"native": schema.__name__})
        return chain if not include_raw else super().with_structured_output(schema, include_raw=True)


@pytest.fixture
def native():
    return Native(model_name="native")


@pytest.fixture
def pair(small, native):
    return RoutedChatModel(models={"small": small, "native": native}, router=lambda query: query.text.split()[0])


def test_each_candidate_gets_the_tools_in_its_own_way(pair, small, native):
    bound = pair.bind_tools([add], tool_choice="any", parallel=False)
    assert bound.invoke("small 1 2").tool_calls[0]["args"] == {"a": 1, "b": 2}
    bound.invoke("native 1 2")
    ((_, kwargs),) = small.asked
    assert kwargs["tools"][0]["function"]["name"] == "add"
    assert (kwargs["tool_choice"], kwargs["parallel"]) == ("any", False)
    ((_, kwargs),) = native.asked
    assert kwargs["native_tools"] == [add]
    assert kwargs["native_tools"][0].extras == {"provider": "own"}


def test_tools_are_converted_once(pair, small, native):
    calls = []

    class Counting(ScriptedChatModel):
        def bind_tools(self, tools, **kwargs) -> Runnable:
            calls.append(tools)
            return super().bind_tools(tools, **kwargs)

    bound = RoutedChatModel(models={"a": Counting()}).bind_tools([add])
    for _ in range(3):
        bound.invoke("1 2")
    assert len(calls) == 1


def test_binding_is_new_annotated_and_keeps_to_its_own_argument(pair):
    bound = pair.bind_tools([add])
    assert isinstance(bound, RunnableBinding)
    assert "tools" not in bound.kwargs, "others read that argument and expect a provider's format"
    assert pair.invoke("small").tool_calls == []
    assert issubclass(get_type_hints(RoutedChatModel.bind_tools)["return"].__origin__, Runnable)


def test_fallbacks_around_a_routed_model_keep_the_tools(pair):
    broken = RoutedChatModel(models={"a": ScriptedChatModel(replies=[TimeoutError()])})
    model = broken.with_fallbacks([pair]).bind_tools([add])
    assert model.invoke("small 1 2").tool_calls[0]["name"] == "add"


def test_tools_of_the_provider_pass_as_they_are(pair, native):
    pair.bind_tools([{"google_search": {}}]).invoke("native x")
    assert native.asked[0][1]["native_tools"] == [{"google_search": {}}]


def test_provider_format_by_bind(pair, small):
    tools = [{"type": "function", "function": {"name": "t", "description": "", "parameters": {}}}]
    assert pair.bind(tools=tools).invoke("small x").tool_calls[0]["name"] == "t"
    assert small.asked[0][1]["tools"] == tools


def test_arguments_reach_the_candidate(pair, small):
    pair.invoke("small x", stop=["y"], temperature=0.5)
    assert small.asked[0][1] == {"temperature": 0.5}
    assert pair.invoke("small ab", stop=["b"]).text.endswith("small a")
    assert not any(key.startswith("agentroute") for _, kwargs in small.asked for key in kwargs)


class TestStructured:
    def test_parsed(self, pair):
        assert pair.with_structured_output(Joke).invoke("small x") == Joke(setup="setup", punchline="punchline")

    def test_native_way_with_its_options(self, pair, native):
        structured = pair.with_structured_output(Joke, method="json_schema", strict=True)
        assert structured.invoke("native x") == {"native": "Joke"}
        assert native.asked[0][1]["native_kwargs"] == {"method": "json_schema", "strict": True}

    @pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream", "batch", "abatch"])
    async def test_every_way(self, way, pair, recorder):
        structured = pair.with_structured_output(Joke)
        config = {"callbacks": [recorder]}
        if way == "stream":
            found = list(structured.stream("small x", config))[-1]
        elif way == "astream":
            found = [one async for one in structured.astream("small x", config)][-1]
        elif way == "batch":
            found = structured.batch(["small x"], config)[0]
        elif way == "abatch":
            found = (await structured.abatch(["small x"], config))[0]
        else:
            found = await structured.ainvoke("small x", config) if way == "ainvoke" else structured.invoke("small x", config)
        assert found == Joke(setup="setup", punchline="punchline")
        assert len(recorder.of("llm")) == 1
        recorder.tree()
        assert recorder.runs[0]["output"]["agentroute"]["answered_by"] == "small"

    def test_raw_message_carries_the_record(self, pair):
        found = pair.with_structured_output(Joke, include_raw=True).invoke("small x")
        assert routing_decision(found["raw"])["answered_by"] == "small"
        assert found["parsed"] == Joke(setup="setup", punchline="punchline")
        assert found["parsing_error"] is None

    def test_usage_is_counted_once(self, pair):
        counter = UsageMetadataCallbackHandler()
        found = pair.with_structured_output(Joke, include_raw=True).invoke("small x", {"callbacks": [counter]})
        assert counter.usage_metadata["small"]["total_tokens"] == 15
        assert routing_decision(found["raw"])["attempts"][0]["usage"]["input_tokens"] == 10

    def test_fails_over(self, native):
        first = ScriptedChatModel(replies=[TimeoutError()])
        model = RoutedChatModel(models={"first": first, "native": native})
        assert model.with_structured_output(Joke).invoke("x") == {"native": "Joke"}

    def test_needs_are_known(self):
        seen = []
        models = {
            "deaf": ScriptedChatModel(profile={"structured_output": False, "tool_calling": False}),
            "able": ScriptedChatModel(),
        }
        model = RoutedChatModel(models=models, router=lambda query: seen.append(query) or "able")
        model.with_structured_output(Joke).invoke("x")
        assert (seen[0].needs, seen[0].allow) == ({"structured_output"}, {"able"})

    def test_in_a_chain(self, pair):
        chain = pair.with_structured_output(Joke) | RunnableLambda(lambda joke: joke.setup)
        assert chain.invoke("small x") == "setup"

    def test_bound_arguments_would_be_lost(self, small):
        """And that is said at once, not when the router comes to choose the candidate."""
        model = RoutedChatModel(models={"chosen": small, "never": small.bind(seed=1)}, router=lambda _: "chosen")
        with pytest.raises(ConfigError, match=r"'never'.*seed"):
            model.with_structured_output(Joke)

    def test_bound_arguments_of_a_candidate_that_came_later(self, small):
        model = RoutedChatModel(models={"a": small})
        structured = model.with_structured_output(Joke)
        model.models = {"a": small.bind(seed=1)}
        with pytest.raises(ConfigError, match=r"'a'.*seed"):
            structured.invoke("x")


def test_json_parser_behind_a_stream(small):
    small.replies = [AIMessage('{"a": 1}')]
    chain = RoutedChatModel(models={"a": small}) | JsonOutputParser()
    assert list(chain.stream("x"))[-1] == {"a": 1}
