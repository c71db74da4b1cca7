"""Who takes a call: forced, sticky, routed, or the default."""

import json
import threading

import numpy as np
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.errors import GraphInterrupt

from agentroute.errors import ConfigError, NoEligibleModelError, RouterFailedWarning, UnknownModelError
from agentroute.pool import ModelPool
from agentroute.types import Candidate, Decision, ModelCard, Paradigm, Query
from langchain_agentroute import RoutedChatModel, SupportsRoute, routing_decision
from langchain_agentroute.testing import ScriptedChatModel

PARADIGM = Paradigm(when="pre-generation", what=("text",), how="rule")
TOOL = {"name": "add", "description": "adds", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}


class Spy:
    """A router that keeps its queries and gives a scripted decision."""

    def __init__(self, *ranking, **more):
        self.queries = []
        self.ranking = ranking or ("large", "small")
        self.more = more

    def route(self, query):
        self.queries.append(query)
        candidates = tuple(Candidate(model=model, quality=np.float32(0.5), cost=float("nan")) for model in self.ranking)
        return Decision(model=self.ranking[0], candidates=candidates, reason="as told", paradigm=PARADIGM, **self.more)


def models(**profiles):
    profiles = profiles or {"small": None, "large": None}
    return {name: ScriptedChatModel(model_name=name, profile=profile) for name, profile in profiles.items()}


def who(message):
    return routing_decision(message)["answered_by"]


def test_router_decides_and_the_record_is_plain_json():
    router = Spy(propensity=np.float64(0.25))
    message = RoutedChatModel(models=models(), router=router).invoke("x")
    record = routing_decision(message)
    assert json.loads(json.dumps(record)) == record
    assert record["model"] == "large"
    assert record["reason"] == "as told"
    assert record["propensity"] == 0.25
    assert record["fallback"] is False
    assert record["candidates"][0] == {
        "model": "large",
        "quality": 0.5,
        "cost": None,
        "latency": None,
        "utility": None,
        "support": 0.0,
    }
    (attempt,) = record["attempts"]
    assert attempt["usage"] == {"input_tokens": 10, "output_tokens": 5, "cache_read_tokens": 0, "cache_write_tokens": 0}
    assert attempt["latency"] > 0
    assert record["routing_latency"] > 0
    assert isinstance(router, SupportsRoute)


def test_record_of_a_stream_is_on_the_first_chunk_only():
    chunks = list(RoutedChatModel(models=models(), router=Spy()).stream("one two three"))
    assert len(chunks) > 4
    assert ["agentroute" in chunk.response_metadata for chunk in chunks] == [True] + [False] * (len(chunks) - 1)
    assert json.dumps(routing_decision(chunks[0] + chunks[1:]))


def test_ordinary_messages_have_no_decision():
    assert routing_decision(AIMessage("x")) is None
    assert routing_decision(AIMessage("x", response_metadata={"agentroute": "not ours"})) is None


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream", "v3", "av3", "batch", "abatch"])
@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
@pytest.mark.parametrize("forced", [{"model": "small"}, {"config": {"configurable": {"agentroute_model": "small"}}}])
async def test_forced(way, forced, collect):
    router = Spy()
    message = await collect(way, RoutedChatModel(models=models(), router=router), "x", **forced)
    assert who(message) == "small"
    assert routing_decision(message)["by"] == "forced"
    assert not router.queries


def test_forced_with_bound_configuration_and_argument():
    model = RoutedChatModel(models=models(), router=Spy())
    assert who(model.with_config(configurable={"agentroute_model": "small"}).invoke("x")) == "small"
    assert who(model.bind(model="small").invoke("x")) == "small"
    assert "agentroute_model" in [spec.id for spec in model.config_specs]


def test_forcing_an_unknown_model_is_an_error():
    model = RoutedChatModel(models=models())
    with pytest.raises(UnknownModelError, match="'tiny'"):
        model.invoke("x", model="tiny")
    with pytest.raises(UnknownModelError, match="'tiny'"):
        model.invoke("x", {"configurable": {"agentroute_model": "tiny"}})


def test_forced_name_does_not_reach_a_routed_candidate():
    inner = RoutedChatModel(models=models(a=None, b=None))
    outer = RoutedChatModel(models={"inner": inner, "c": ScriptedChatModel()}, default="c")
    message = outer.invoke("x", {"configurable": {"agentroute_model": "inner"}})
    record = routing_decision(message)
    assert record["answered_by"] == "inner"
    assert record["via"]["answered_by"] == "a"
    assert record["via"]["by"] == "default"


def test_nested_record_is_kept_in_streams_too():
    inner = RoutedChatModel(models=models(a=None))
    chunks = list(RoutedChatModel(models={"inner": inner}).stream("x"))
    assert routing_decision(chunks[0])["via"]["answered_by"] == "a"
    assert sum("agentroute" in chunk.response_metadata for chunk in chunks) == 1


class TestDefault:
    def test_first_model(self):
        message = RoutedChatModel(models=models()).invoke("x")
        assert (who(message), routing_decision(message)["by"]) == ("small", "default")

    def test_declared(self):
        assert who(RoutedChatModel(models=models(), default="large").invoke("x")) == "large"

    def test_of_the_router(self):
        router = Spy()
        router.default = "large"
        router.route = lambda _: (_ for _ in ()).throw(RuntimeError("broken"))
        with pytest.warns(RouterFailedWarning):
            assert who(RoutedChatModel(models=models(), router=router).invoke("x")) == "large"

    def test_unknown(self):
        with pytest.raises(UnknownModelError, match="'tiny'"):
            RoutedChatModel(models=models(), default="tiny")


class TestRouterFailure:
    @pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
    async def test_falls_to_the_default_and_says_so(self, way, collect, recorder):
        def broken(_):
            raise RuntimeError("no index")

        model = RoutedChatModel(models=models(), router=broken, default="large")
        with pytest.warns(RouterFailedWarning, match="no index"):
            message = await collect(way, model, "x", {"callbacks": [recorder]})
        record = routing_decision(message)
        assert (record["answered_by"], record["by"], record["fallback"]) == ("large", "default", True)
        assert "RuntimeError" in record["reason"]
        recorder.tree()
        assert isinstance(recorder.runs[1]["error"], RuntimeError)

    @pytest.mark.parametrize("wrong", ["tiny", 7, None])
    def test_nonsense_is_a_failure(self, wrong):
        with pytest.warns(RouterFailedWarning):
            message = RoutedChatModel(models=models(), router=lambda _: wrong).invoke("x")
        assert routing_decision(message)["fallback"] is True

    def test_decision_for_an_unknown_model_is_a_failure(self):
        with pytest.warns(RouterFailedWarning, match="'tiny'"):
            RoutedChatModel(models=models(), router=Spy("tiny")).invoke("x")

    def test_broken_embedder_is_a_failure(self):
        router = Spy()
        router.embed = lambda _: 1 / 0
        with pytest.warns(RouterFailedWarning, match="ZeroDivisionError"):
            assert who(RoutedChatModel(models=models(), router=router).invoke("x")) == "small"

    @pytest.mark.parametrize("error", [NoEligibleModelError({"small": "asleep"}), GraphInterrupt()])
    def test_what_is_no_failure_passes(self, error, recorder):
        def refuses(_):
            raise error

        with pytest.raises(type(error)):
            RoutedChatModel(models=models(), router=refuses).invoke("x", {"callbacks": [recorder]})
        recorder.tree()

    def test_default_that_may_not_answer_makes_way(self):
        pair = models(blind={"image_inputs": False, "image_url_inputs": False}, seeing={"image_inputs": True})
        model = RoutedChatModel(models=pair, router=lambda _: 1 / 0, default="blind")
        with pytest.warns(RouterFailedWarning):
            message = model.invoke([HumanMessage([{"type": "image_url", "image_url": {"url": "data:,"}}])])
        assert who(message) == "seeing"

    def test_unusable_router(self):
        with pytest.raises(ConfigError, match="route"):
            RoutedChatModel(models=models(), router="large")


class TestQuery:
    def ask(self, messages, *, pair=None, **kwargs):
        router = Spy()
        RoutedChatModel(models=pair or models(), router=router, **kwargs).invoke(messages)
        return router.queries[0]

    def test_text_is_what_the_user_said_last(self):
        call = AIMessage("", tool_calls=[{"name": "add", "args": {}, "id": "1"}])
        messages = [
            SystemMessage("be kind"),
            HumanMessage("first"),
            AIMessage("ok"),
            HumanMessage("second"),
            call,
            ToolMessage("7", tool_call_id="1"),
        ]
        assert self.ask(messages).text == "second"

    def test_text_parts_of_mixed_content(self):
        picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
        query = self.ask([HumanMessage([{"type": "text", "text": "what is "}, picture, {"type": "text", "text": "this"}])])
        assert query.text == "what is this"
        assert query.needs == {"image"}

    @pytest.mark.parametrize(
        ("block", "need"),
        [
            ({"type": "image", "base64": "", "mime_type": "image/png"}, "image"),
            ({"type": "input_audio", "input_audio": {}}, "audio"),
            ({"type": "audio", "base64": "", "mime_type": "audio/wav"}, "audio"),
            ({"type": "video", "url": "x"}, "video"),
            ({"type": "document", "source": {}}, "pdf"),
            ({"type": "file", "base64": "", "mime_type": "application/pdf"}, "pdf"),
            ({"type": "file", "file": {"file_data": "data:application/pdf;base64,"}}, "pdf"),
            ({"type": "media", "mime_type": "image/png", "data": ""}, "image"),
        ],
    )
    def test_modalities(self, block, need):
        assert self.ask([HumanMessage([block])]).needs == {need}

    @pytest.mark.parametrize(
        "block",
        [
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
            {"type": "document", "source": {"type": "content", "content": "words"}},
            {"type": "file", "base64": "", "mime_type": "text/plain"},
            {"type": "file", "mime_type": 7},
        ],
    )
    def test_blocks_that_ask_for_nothing(self, block):
        assert self.ask([HumanMessage([block])]).needs == frozenset()

    def test_media_type_of_the_source_comes_first(self):
        block = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": ""}}
        assert self.ask([HumanMessage([block])]).needs == {"pdf"}

    def test_no_user_message(self):
        assert self.ask([SystemMessage("only this")]).text == "only this"

    def test_no_user_message_but_the_output_of_a_tool(self):
        call = AIMessage("", tool_calls=[{"name": "add", "args": {}, "id": "1"}])
        output = ToolMessage("7", tool_call_id="1")
        assert self.ask([SystemMessage("only this"), call, output]).text == "only this"
        assert self.ask([call, output]).text == ""

    def test_labels(self):
        query = self.ask("x", role="critic", task="review")
        assert (query.role, query.task) == ("critic", "review")

    def test_tokens_are_counted_only_when_a_window_is_known(self):
        assert self.ask("x" * 400).input_tokens is None
        assert self.ask("x" * 400, pair=models(small={"max_input_tokens": 9000}, large=None)).input_tokens >= 100

    BYTES = "QUJD" * 100_000

    @pytest.mark.parametrize(
        "block",
        [
            {"type": "file", "mime_type": "application/pdf", "base64": BYTES},
            {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{BYTES}"}},
            {"type": "input_audio", "input_audio": {"data": BYTES, "format": "wav"}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": BYTES}},
            {"type": "tool_result", "content": [{"type": "image", "source": {"data": BYTES}}]},
        ],
    )
    def test_encoded_bytes_are_not_counted_as_text(self, block):
        pair = models(small={"max_input_tokens": 9_000_000}, large=None)
        words = {"type": "text", "text": "word " * 400}
        alone = self.ask([HumanMessage([words])], pair=pair).input_tokens
        message = HumanMessage([words, block, block])
        assert 3_000 <= self.ask([message], pair=pair).input_tokens - alone < 3_200
        assert len(message.content) == 3, "the caller's message is as it was"

    def test_text_in_a_file_counts_as_text(self):
        block = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "word " * 4_000}}
        pair = models(small={"max_input_tokens": 9_000_000}, large=None)
        assert self.ask([HumanMessage([block])], pair=pair).input_tokens >= 5_000

    def test_limit_on_the_answer(self):
        router = Spy()
        RoutedChatModel(models=models(), router=router).invoke("x", max_tokens=50)
        assert router.queries[0].max_output_tokens == 50


class TestEligibility:
    def test_query_allows_only_who_can(self):
        router = Spy("large")
        pair = models(small={"tool_calling": False}, large={"tool_calling": True})
        RoutedChatModel(models=pair, router=router).bind_tools([TOOL]).invoke("add 3")
        assert router.queries[0].needs == {"tools"}
        assert router.queries[0].allow == {"large"}

    def test_rule_that_names_somebody_who_cannot(self):
        pair = models(small={"tool_calling": False}, large={"tool_calling": True})
        message = RoutedChatModel(models=pair, router=lambda _: "small").bind_tools([TOOL]).invoke("add 3")
        assert who(message) == "large"
        assert routing_decision(message)["reason"].startswith("the rule's small may not answer this")

    def test_nobody_can(self):
        pair = models(small={"tool_calling": False}, large={"tool_calling": False})
        with pytest.raises(NoEligibleModelError) as raised:
            RoutedChatModel(models=pair).bind_tools([TOOL]).invoke("add 3")
        assert raised.value.reasons == {"small": "cannot do tools", "large": "cannot do tools"}

    def test_silence_of_a_profile_is_not_a_no(self):
        pair = models(small={"max_input_tokens": 1000}, large={"max_input_tokens": 1000})
        assert who(RoutedChatModel(models=pair).bind_tools([TOOL]).invoke("add 3")) == "small"

    def test_cards_overrule_profiles(self):
        cards = {"small": ModelCard(id="small", capabilities=frozenset())}
        pair = models(small={"tool_calling": True}, large=None)
        assert who(RoutedChatModel(models=pair, cards=cards).bind_tools([TOOL]).invoke("add 3")) == "large"

    def test_long_prompt_goes_to_a_large_window(self):
        pair = models(small={"max_input_tokens": 50}, large={"max_input_tokens": 5000})
        assert who(RoutedChatModel(models=pair).invoke("word " * 500)) == "large"

    def test_rough_count_that_rules_everybody_out_rules_nobody_out(self):
        pair = models(small={"max_input_tokens": 50}, large={"max_input_tokens": 60})
        assert who(RoutedChatModel(models=pair).invoke("word " * 500)) == "small"


class TestSticky:
    CALL = AIMessage(
        "", tool_calls=[{"name": "add", "args": {}, "id": "1"}], response_metadata={"agentroute": {"answered_by": "small"}}
    )
    LOOP = (HumanMessage("add"), CALL, ToolMessage("7", tool_call_id="1"))

    def run(self, messages, **kwargs):
        router = Spy()
        message = RoutedChatModel(models=models(), router=router, **kwargs).invoke(list(messages))
        return who(message), routing_decision(message)["by"], len(router.queries)

    def test_tool_loop_keeps_its_model(self):
        assert self.run(self.LOOP) == ("small", "sticky", 0)

    def test_several_tool_results(self):
        assert self.run([*self.LOOP, ToolMessage("8", tool_call_id="2")]) == ("small", "sticky", 0)

    def test_next_question_is_routed_anew(self):
        assert self.run([*self.LOOP, AIMessage("7"), HumanMessage("and now?")]) == ("large", "policy", 1)

    def test_whole_conversation(self):
        assert self.run([*self.LOOP, AIMessage("7"), HumanMessage("and now?")], sticky="conversation") == ("small", "sticky", 0)

    def test_beginning_of_a_conversation(self):
        assert self.run([HumanMessage("x")], sticky="conversation") == ("large", "policy", 1)

    def test_none(self):
        assert self.run(self.LOOP, sticky="none") == ("large", "policy", 1)

    def test_model_that_is_gone(self):
        call = self.CALL.model_copy(update={"response_metadata": {"agentroute": {"answered_by": "retired"}}})
        assert self.run([HumanMessage("add"), call, ToolMessage("7", tool_call_id="1")]) == ("large", "policy", 1)

    def test_tool_results_of_somebody_else(self):
        call = self.CALL.model_copy(update={"response_metadata": {}})
        assert self.run([call, ToolMessage("7", tool_call_id="1")]) == ("large", "policy", 1)
        assert self.run([ToolMessage("7", tool_call_id="1")]) == ("large", "policy", 1)

    def test_answer_without_a_record_ends_the_loop(self):
        foreign = self.CALL.model_copy(update={"response_metadata": {}})
        messages = [*self.LOOP, foreign, ToolMessage("8", tool_call_id="1")]
        assert self.run(messages) == ("large", "policy", 1)

    @pytest.mark.parametrize("sticky", ["tool_loop", "conversation"])
    def test_model_within_a_routed_model_keeps_what_it_has_begun(self, sticky):
        """The outer model's record comes first, with the inner one's below it."""
        routes = iter(["small", "large"])
        inner = RoutedChatModel(models=models(), router=lambda _: next(routes), sticky=sticky)
        middle = RoutedChatModel(models={"inner": inner})
        outer = RoutedChatModel(models={"middle": middle, "other": ScriptedChatModel()}).bind_tools([TOOL])
        first = outer.invoke("add 3")
        last = outer.invoke([HumanMessage("add 3"), first, ToolMessage("7", tool_call_id=first.tool_calls[0]["id"])])
        record = routing_decision(last)["via"]["via"]
        assert (record["answered_by"], record["by"]) == ("small", "sticky")

    def test_forced_overrules(self):
        router = Spy()
        message = RoutedChatModel(models=models(), router=router).invoke(list(self.LOOP), model="large")
        assert who(message) == "large"

    def test_sticky_model_fails_over(self):
        pair = models()
        pair["small"].replies = [TimeoutError()]
        assert who(RoutedChatModel(models=pair, router=Spy()).invoke(list(self.LOOP))) == "large"

    def test_whole_loop(self):
        """As it really goes: the record of the first answer keeps the second call on its model."""
        routes = iter(["small", "large", "large"])
        model = RoutedChatModel(models=models(), router=lambda _: next(routes)).bind_tools([TOOL])
        messages = [HumanMessage("add 3")]
        for _ in range(3):
            messages.append(model.invoke(messages))
            if messages[-1].tool_calls:
                messages.append(ToolMessage("7", tool_call_id=messages[-1].tool_calls[0]["id"]))
            else:
                break
        assert [who(message) for message in messages if isinstance(message, AIMessage)] == ["small", "small"]


async def test_router_works_off_the_event_loop():
    threads = []

    def rule(_):
        threads.append(threading.current_thread())
        return "small"

    model = RoutedChatModel(models=models(), router=rule)
    await model.ainvoke("x")
    model.invoke("x")
    assert threads[0] is not threading.main_thread()
    assert threads[1] is threading.main_thread()


class TestPoolOfTheRouter:
    def router(self, *ids):
        router = Spy(*ids)
        router.pool = ModelPool(ids)
        return router

    def test_must_be_covered(self):
        with pytest.raises(ConfigError, match="'huge'"):
            RoutedChatModel(models=models(), router=self.router("small", "large", "huge"))

    def test_must_know_all(self):
        with pytest.raises(UnknownModelError, match="'large'"):
            RoutedChatModel(models=models(), router=self.router("small"))

    def test_order_does_not_matter(self):
        assert who(RoutedChatModel(models=models(), router=self.router("large", "small")).invoke("x")) == "large"


def test_embedding_of_the_router_is_used():
    router = Spy()
    router.embed = lambda query: Query(text=query.text, embedding=np.ones(3, np.float32))
    RoutedChatModel(models=models(), router=router).invoke("x")
    assert router.queries[0].embedding is not None
