"""`RoutedChatModel` as a chat model: construction, identity, copies, concurrency."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField, RunnableLambda

from agentroute.errors import ConfigError, DuplicateModelError, UnknownModelError
from agentroute.outcomes import MemoryOutcomeLog
from agentroute.types import ModelCard, Price
from langchain_agentroute import RoutedChatModel, routing_decision
from langchain_agentroute.testing import ScriptedChatModel


class TestCandidates:
    def test_sequence_is_named_by_the_models(self, small, large):
        model = RoutedChatModel(models=[small, large.bind(seed=1)])
        assert list(model.models) == ["small", "large"]

    def test_two_of_one_name(self, small):
        with pytest.raises(DuplicateModelError, match="'small'"):
            RoutedChatModel(models=[small, small])

    def test_nameless(self):
        from langchain_core.language_models import GenericFakeChatModel

        with pytest.raises(ConfigError, match="name"):
            RoutedChatModel(models=[GenericFakeChatModel(messages=iter([]))])

    @pytest.mark.parametrize("empty", [{}, []])
    def test_none(self, empty):
        with pytest.raises(ConfigError, match="at least one"):
            RoutedChatModel(models=empty)

    @pytest.mark.parametrize(
        ("wrap", "advice"),
        [
            (lambda model: model.with_retry(), "max_retries"),
            (lambda model: model.with_fallbacks([model]), "candidates of their own"),
            (lambda _: RunnableLambda(str), "chat model"),
            (lambda _: "gpt", "chat model"),
        ],
    )
    def test_others_are_refused_with_advice(self, small, wrap, advice):
        with pytest.raises(ConfigError, match=advice):
            RoutedChatModel(models={"a": wrap(small)})

    def test_bound_arguments_and_configuration_are_kept(self, small, recorder):
        model = RoutedChatModel(models={"a": small.bind(seed=1).with_config(tags=["inner"], metadata={"own": 2})})
        model.invoke("x", {"callbacks": [recorder], "tags": ["outer"]}, top_p=0.5)
        assert small.asked[0][1] == {"seed": 1, "top_p": 0.5}
        (llm,) = recorder.of("llm")
        assert {"inner", "outer", "agentroute"} <= set(llm["tags"])
        assert llm["metadata"]["own"] == 2

    def test_call_arguments_overrule_bound_ones(self, small):
        RoutedChatModel(models={"a": small.bind(seed=1)}).invoke("x", seed=2)
        assert small.asked[0][1] == {"seed": 2}

    def test_bound_arguments_with_tools(self, small):
        model = RoutedChatModel(models={"a": small.bind(seed=1)})
        model.bind_tools([{"name": "t", "description": "", "parameters": {}}]).invoke("x")
        assert small.asked[0][1]["seed"] == 1
        assert small.asked[0][1]["tools"]


class TestArguments:
    def test_cache_belongs_to_the_candidates(self, small):
        with pytest.raises(ConfigError, match="cache"):
            RoutedChatModel(models=[small], cache=InMemoryCache())
        RoutedChatModel(models=[small], cache=False)

    def test_rate_limiter_belongs_to_the_candidates(self, small):
        with pytest.raises(ConfigError, match="rate_limiter"):
            RoutedChatModel(models=[small], rate_limiter=InMemoryRateLimiter())

    def test_unknown_names(self, small):
        with pytest.raises(UnknownModelError, match="'huge'"):
            RoutedChatModel(models=[small], failover=["huge"])
        with pytest.raises(UnknownModelError, match="'huge'"):
            RoutedChatModel(models=[small], cards=[ModelCard(id="huge")])

    @pytest.mark.parametrize(
        ("wrong", "right"),
        [
            ("outcome_logs", "outcome_log"),
            ("falover", "failover"),
            ("fail_over", "failover"),
            ("routers", "router"),
            ("prepare_message", "prepare_messages"),
            ("defualt", "default"),
        ],
    )
    def test_misspelt_names(self, small, wrong, right):
        with pytest.raises(ConfigError, match=f"'{wrong}': did you mean '{right}'"):
            RoutedChatModel(models=[small], **{wrong: None})

    def test_arguments_that_langchain_gives_to_any_model_pass(self, small):
        names = ["temperature", "max_tokens", "timeout", "stop", "max_retries", "api_key", "base_url", "streaming", "top_p"]
        RoutedChatModel(models=[small], **dict.fromkeys(names), tags=["a"], metadata={}, callbacks=None)

    @pytest.mark.parametrize("path", ["x.sqlite", Path("x.sqlite")])
    def test_path_is_no_outcome_log(self, small, path):
        with pytest.raises(ConfigError, match=r"SqliteOutcomeLog\('x.sqlite'\)"):
            RoutedChatModel(models=[small], outcome_log=path)

    def test_something_else_is_no_outcome_log(self, small):
        with pytest.raises(ConfigError, match="append"):
            RoutedChatModel(models=[small], outcome_log=object())

    def test_wrong_word(self, small):
        with pytest.raises(ValueError, match="tool_loop"):
            RoutedChatModel(models=[small], sticky="always")

    def test_card_under_another_id(self, small):
        model = RoutedChatModel(models={"a": small}, cards={"a": ModelCard(id="vendor/a", price=Price(input=1, output=2))})
        message = model.invoke("x")
        assert routing_decision(message)["attempts"][0]["cost"] == pytest.approx((10 * 1 + 5 * 2) / 1e6)


def test_message_of_the_candidate_is_not_edited(small):
    answer = AIMessage("kept", response_metadata={"finish_reason": "stop"}, id="mine")
    cache = InMemoryCache()
    small.cache = cache
    small.replies = [answer]
    model = RoutedChatModel(models=[small])
    first, second = model.invoke("x"), model.invoke("x")
    assert "agentroute" not in answer.response_metadata
    assert "agentroute" not in small.invoke("x").response_metadata, "the cache must hold the candidate's own message"
    assert first.id == "mine"
    assert first.response_metadata["finish_reason"] == "stop"
    assert routing_decision(first)["decision_id"] != routing_decision(second)["decision_id"]
    assert len(small.asked) == 1
    assert routing_decision(second)["attempts"][0]["cost"] == 0, "LangChain says that an answer from the cache costs nothing"


def test_identity(routed, small):
    assert routed._llm_type == "agentroute"
    assert routed._identifying_params["models"]["small"]["model_name"] == "small"
    assert json.dumps(routed._identifying_params)
    other = RoutedChatModel(models={"small": small})
    assert other._get_llm_string() != routed._get_llm_string()
    assert routed._get_ls_params()["ls_provider"] == "agentroute"
    assert routed._get_ls_params(stop=["x"])["ls_stop"] == ["x"]


def test_representation_is_short_and_free_of_the_router(routed):
    assert repr(routed) == "RoutedChatModel(models=['small', 'large'], default='small')"
    assert "router" not in routed.model_dump(exclude={"models"})


class TestProfile:
    def shared(self, *profiles):
        models = {str(n): ScriptedChatModel(profile=profile) for n, profile in enumerate(profiles)}
        return RoutedChatModel(models=models).profile

    def test_only_what_all_promise(self):
        one = {"tool_calling": True, "structured_output": True, "max_input_tokens": 1000, "image_inputs": True}
        two = {"tool_calling": True, "structured_output": False, "max_input_tokens": 500}
        assert self.shared(one, two) == {"tool_calling": True, "structured_output": False, "max_input_tokens": 500}

    def test_unknown_when_one_is_unknown(self):
        assert self.shared({"tool_calling": True}, None) is None

    def test_own_overrules(self, small):
        assert RoutedChatModel(models=[small], profile={"tool_calling": True}).profile == {"tool_calling": True}


def test_tokens_are_counted_by_the_default(small):
    class Other(ScriptedChatModel):
        def get_num_tokens_from_messages(self, messages, tools=None):
            return 42 if tools is None else 43

    model = RoutedChatModel(models={"small": small, "other": Other()}, default="other")
    assert model.get_num_tokens("a b c") == 3
    assert model.get_token_ids("a b") == [0, 1]
    assert model.get_num_tokens_from_messages([HumanMessage("x")]) == 42
    assert model.get_num_tokens_from_messages([HumanMessage("x")], tools=[]) == 43


def test_messages_are_prepared_for_the_candidate(small, large):
    def prepare(messages, candidate):
        return [*messages, HumanMessage(f"for {candidate.model_name}")]

    model = RoutedChatModel(models=[small, large], router=lambda _: "large", prepare_messages=prepare)
    asked = [HumanMessage("x")]
    model.invoke(asked)
    assert [message.content for message in large.asked[0][0]] == ["x", "for large"]
    assert len(asked) == 1


@pytest.mark.parametrize(("off", "chunks"), [(True, 1), ("tool_calling", 1), (False, 3)])
async def test_streaming_switched_off(small, off, chunks):
    model = RoutedChatModel(models=[small], disable_streaming=off).bind_tools(
        [{"name": "t", "description": "", "parameters": {}}]
    )
    assert len(list(model.stream("x"))) == chunks
    assert len([chunk async for chunk in model.astream("x")]) == chunks


def test_private_hooks_lead_to_the_candidate(routed, large):
    """Somebody who opened a model run for the routed model gets no second one."""
    long = [HumanMessage("a question that is long enough")]
    assert routed._generate(long).generations[0].message.response_metadata["model_name"] == "large"
    assert "".join(chunk.text for chunk in routed._stream(long)).startswith("[large]")
    assert len(large.asked) == 2


async def test_private_hooks_lead_to_the_candidate_async(routed):
    long = [HumanMessage("a question that is long enough")]
    assert (await routed._agenerate(long)).generations[0].message.response_metadata["model_name"] == "large"
    assert "".join([chunk.text async for chunk in routed._astream(long)]).startswith("[large]")


def test_configurable_fields_make_a_new_model(small, large):
    model = RoutedChatModel(models=[small, large]).configurable_fields(default=ConfigurableField(id="who"))
    assert model.invoke("x").response_metadata["model_name"] == "small"
    assert model.invoke("x", {"configurable": {"who": "large"}}).response_metadata["model_name"] == "large"


def test_copy(routed):
    copied = routed.model_copy(update={"name": "twin"})
    assert routing_decision(copied.invoke("x"))["answered_by"] == "small"


def assigned(model, name, value):
    setattr(model, name, value)
    return model


def copied(model, name, value):
    return model.model_copy(update={name: value})


@pytest.mark.parametrize("change", [assigned, copied])
class TestChanges:
    """Whatever is assigned takes effect, or is refused; never neither."""

    def test_router(self, routed, change):
        changed = change(routed, "router", lambda _: "large")
        assert routing_decision(changed.invoke("x"))["answered_by"] == "large"
        assert routing_decision(changed.bind_tools([]).invoke("x"))["answered_by"] == "large"

    def test_default(self, small, large, change):
        changed = change(RoutedChatModel(models=[small, large]), "default", "large")
        assert routing_decision(changed.invoke("x"))["answered_by"] == "large"
        assert repr(changed).endswith("default='large')")

    def test_failover(self, small, large, change):
        small.replies = [TimeoutError("late")]
        changed = change(RoutedChatModel(models=[small, large]), "failover", False)
        with pytest.raises(TimeoutError):
            changed.invoke("x")

    def test_models(self, small, large, change):
        changed = change(RoutedChatModel(models=[small]), "models", [large])
        assert routing_decision(changed.invoke("x"))["answered_by"] == "large"
        assert list(changed.models) == ["large"]

    def test_profile_follows_the_models(self, small, change):
        tools, plain = {"tool_calling": True}, {"tool_calling": False}
        other = ScriptedChatModel(model_name="other", profile=plain)
        model = RoutedChatModel(models=[ScriptedChatModel(profile=tools)])
        assert change(model, "models", [other]).profile == plain
        own = RoutedChatModel(models=[small], profile=tools)
        assert change(own, "models", [other]).profile == tools

    def test_outcome_log(self, small, change):
        log = MemoryOutcomeLog()
        changed = change(RoutedChatModel(models=[small]), "outcome_log", log)
        changed.invoke("x")
        assert changed.outcome_log.flush(10)
        assert len(log) == 1
        queue = changed.outcome_log
        assert change(changed, "router", lambda _: "small").outcome_log is queue
        queue.close()

    def test_prepare_messages(self, small, change):
        changed = change(RoutedChatModel(models=[small]), "prepare_messages", lambda messages, _: [*messages, HumanMessage("y")])
        changed.invoke("x")
        assert [message.content for message in small.asked[0][0]] == ["x", "y"]

    def test_labels_and_cards(self, small, change):
        queries = []
        model = RoutedChatModel(models=[small], router=lambda query: queries.append(query) or "small")
        model = change(change(model, "role", "critic"), "task", "review")
        message = change(model, "cards", [ModelCard(id="small", price=Price(input=1, output=2))]).invoke("x")
        assert (queries[0].role, queries[0].task) == ("critic", "review")
        assert routing_decision(message)["attempts"][0]["cost"] == pytest.approx((10 * 1 + 5 * 2) / 1e6)

    @pytest.mark.parametrize(
        ("name", "wrong", "error"),
        [
            ("default", "huge", UnknownModelError),
            ("failover", ["huge"], UnknownModelError),
            ("router", "large", ConfigError),
            ("models", {}, ConfigError),
            ("outcome_log", "x.sqlite", ConfigError),
            ("sticky", "always", ValueError),
        ],
    )
    def test_what_is_wrong_changes_nothing(self, routed, change, name, wrong, error):
        before = getattr(routed, name)
        with pytest.raises(error):
            change(routed, name, wrong)
        assert getattr(routed, name) == before
        assert routing_decision(routed.invoke("x"))["answered_by"] == "small"

    def test_subclass_stays_one(self, small, large, change):
        class Named(RoutedChatModel):
            label: str

        changed = change(Named(models=[small, large], label="mine"), "default", "large")
        assert (type(changed), changed.label) == (Named, "mine")
        assert routing_decision(changed.invoke("x"))["answered_by"] == "large"


def test_copy_with_another_router_leaves_the_original_alone(routed):
    routed.model_copy(update={"router": lambda _: "large", "name": "twin"})
    assert routing_decision(routed.invoke("x"))["answered_by"] == "small"


def test_call_under_way_ends_as_it_began(small, large):
    """The router swaps the candidates in the middle of its own call."""

    def swap(_):
        model.models = [large]
        return "small"

    model = RoutedChatModel(models=[small, large], router=swap)
    assert routing_decision(model.invoke("x"))["answered_by"] == "small"
    with pytest.raises(UnknownModelError):
        model.invoke("x", model="small")


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_call_that_has_been_read_is_decided_by_what_read_it(way, small, large, collect):
    """A model that is gone by then still answers the call that has asked for it."""

    class Swap(BaseCallbackHandler):
        run_inline = True

        def on_chain_start(self, *args, **kwargs):
            if len(model.models) == 2:
                model.models = [large]

    model = RoutedChatModel(models=[small, large])
    message = await collect(way, model, "x", {"callbacks": [Swap()]}, model="small")
    assert routing_decision(message)["answered_by"] == "small"
    assert list(model.models) == ["large"]


def questions(count):
    return [("short" if n % 2 else "a question that is long enough for large") + f" {n}" for n in range(count)]


def expected(question):
    name = "small" if len(question) < 20 else "large"
    return f"[{name}] answer to: {question}"


def test_twenty_at_once(routed):
    assert [one.text for one in routed.batch(questions(20))] == [expected(question) for question in questions(20)]


async def test_twenty_at_once_async(routed):
    answers = await routed.abatch(questions(20))
    assert [one.text for one in answers] == [expected(question) for question in questions(20)]
    assert len({routing_decision(one)["decision_id"] for one in answers}) == 20


def test_one_model_for_many_threads_and_event_loops(routed):
    bound = routed.bind_tools([{"name": "t", "description": "", "parameters": {}}], tool_choice="t")
    barrier = threading.Barrier(4)

    def work(n):
        barrier.wait()
        own = asyncio.run(routed.ainvoke(questions(4)[n])) if n % 2 else routed.invoke(questions(4)[n])
        return own.text, bound.invoke("x").tool_calls[0]["name"]

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, range(4))) == [(expected(question), "t") for question in questions(4)]


def test_early_end_of_a_stream_closes_the_candidate_s(routed, small, recorder):
    stream = routed.stream("one two", {"callbacks": [recorder]})
    next(stream)
    stream.close()
    assert small.closed_streams == [1]
    recorder.tree()


@pytest.mark.parametrize("tools", [False, True])
async def test_early_end_of_a_stream_closes_the_candidate_s_async(routed, small, tools, recorder):
    model = routed.bind_tools([{"name": "t", "description": "", "parameters": {}}]) if tools else routed
    stream = (
        model.bound.astream("x", {"callbacks": [recorder]}, **model.kwargs)
        if tools
        else model.astream("one", {"callbacks": [recorder]})
    )
    async for _ in stream:
        break
    await stream.aclose()
    assert small.closed_streams == [1]
    recorder.tree()


def test_invalid_input_is_refused_as_elsewhere(routed):
    with pytest.raises(ValueError, match="Invalid input type"):
        routed.invoke(7)
