"""`CascadeChatModel`: who is asked, what is taken, and what stands on the answer."""

import json

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from pydantic import BaseModel, ValidationError

from agentroute.errors import UnknownModelError
from agentroute.scorers import LogprobScorer, as_scorer
from agentroute.types import ModelCard, Price, Score
from langchain_agentroute import CascadeChatModel, RoutedChatModel, routing_decision
from langchain_agentroute.testing import ScriptedChatModel

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

WAYS = ["invoke", "ainvoke", "stream", "astream", "batch", "abatch", "generate", "agenerate", "v3", "av3"]
NAMES = ("small", "middle", "large")
CARDS = [ModelCard(id=name, price=Price(input=n, output=2 * n)) for n, name in enumerate(NAMES, start=1)]


def models(*names, **replies):
    return {name: ScriptedChatModel(model_name=name, replies=replies.get(name, ())) for name in names or NAMES}


def says(word):
    """A judge that wants a word in the answer."""
    return lambda reply: word in reply.text


WANTS_LARGE = says("[large]")


def cascade(*names, judge=WANTS_LARGE, **kwargs):
    given = kwargs.pop("models", None) or models(*names)
    return CascadeChatModel(models=given, judge=judge, **kwargs)


def tried(message):
    return [(one["model"], one["score"], one["accepted"]) for one in routing_decision(message)["attempts"]]


@pytest.mark.parametrize("way", WAYS)
async def test_a_good_first_answer_is_taken(way, collect, recorder):
    model = cascade("small", "large", judge=lambda query, reply: Score(value=0.7, cost=0.25, reason=query.text))
    message = await collect(way, model, "Who?", {"callbacks": [recorder]})
    assert message.text == "[small] answer to: Who?"
    assert message.usage_metadata["total_tokens"] == 15
    record = routing_decision(message)
    assert (record["model"], record["answered_by"], record["accepted"]) == ("small", "small", True)
    (one,) = record["attempts"]
    assert (one["score"], one["reason"], one["check_cost"], one["accepted"]) == (0.7, "Who?", 0.25, True)
    assert recorder.tree() == [
        ("chain", "CascadeChatModel", None),
        ("llm", "small", "CascadeChatModel"),
        ("chain", "agentroute.judge", "CascadeChatModel"),
    ]
    assert recorder.runs[0]["output"]["agentroute"]["answered_by"] == "small"


@pytest.mark.parametrize("way", WAYS)
async def test_a_rejected_answer_is_gone_and_the_last_one_is_taken_as_it_comes(way, collect, recorder):
    model = cascade("small", "large", cards=CARDS[::2])
    message = await collect(way, model, "Who?", {"callbacks": [recorder]})
    assert message.text == "[large] answer to: Who?"
    assert message.response_metadata["model_name"] == "large"
    assert message.usage_metadata["total_tokens"] == 15, "the answer's own usage, not the sum"
    assert tried(message) == [("small", 0.0, False), ("large", None, True)]
    record = json.loads(json.dumps(routing_decision(message)))
    assert (record["model"], record["answered_by"], record["accepted"]) == ("small", "large", True)
    assert record["total_cost"] == pytest.approx((10 + 5 * 2 + 10 * 3 + 5 * 6) / 1e6)
    assert record["total_usage"] == {
        "input_tokens": 20,
        "output_tokens": 10,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
    }
    assert "small was not accepted (score 0)" in record["reason"]
    assert [run["name"] for run in recorder.of("llm")] == ["small", "large"]
    assert recorder.runs[0]["output"]["agentroute"]["total_cost"] == record["total_cost"]
    recorder.tree()


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_the_last_model_streams_truly(way):
    model = cascade("small", "large")
    chunks = list(model.stream("a b c")) if way == "stream" else [chunk async for chunk in model.astream("a b c")]
    assert [chunk.text for chunk in chunks] == ["[large]", " answer", " to:", " a", " b", " c", ""]
    assert sum("attempts" in chunk.response_metadata.get("agentroute", {}) for chunk in chunks) == 1


def test_each_call_counts_once_where_usage_is_counted():
    counter = UsageMetadataCallbackHandler()
    cascade("small", "large").invoke("x", {"callbacks": [counter]})
    assert {name: usage["total_tokens"] for name, usage in counter.usage_metadata.items()} == {"small": 15, "large": 15}


def test_thresholds():
    scores = {"small": 0.6, "middle": 0.3, "large": 0.9}
    judge = as_scorer(lambda reply: scores[reply.text.partition("]")[0][1:]], name="told")
    assert routing_decision(cascade(judge=judge).invoke("x"))["answered_by"] == "small"
    assert routing_decision(cascade(judge=judge, threshold=0.7).invoke("x"))["answered_by"] == "large"
    each = {"small": 0.7, "middle": 0.2, "large": 0.0}
    assert routing_decision(cascade(judge=judge, threshold=each).invoke("x"))["answered_by"] == "middle"


@pytest.mark.parametrize("way", WAYS)
async def test_nothing_accepted_gives_the_best_scored_answer(way, collect):
    scores = {"small": 0.1, "middle": 0.4, "large": 0.2}
    judge = as_scorer(lambda reply: scores[reply.text.partition("]")[0][1:]], name="told")
    message = await collect(way, cascade(judge=judge, check_last=True), "x")
    assert message.text == "[middle] answer to: x"
    assert routing_decision(message)["accepted"] is False
    assert tried(message) == [("small", 0.1, False), ("middle", 0.4, False), ("large", 0.2, False)]
    assert "nothing better came than the answer of middle" in routing_decision(message)["reason"]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "the answer is empty"),
        (
            AIMessage(
                "", invalid_tool_calls=[{"name": "add", "args": "{", "id": "1", "error": None, "type": "invalid_tool_call"}]
            ),
            "the call of add is broken: its arguments are no JSON",
        ),
    ],
)
@pytest.mark.parametrize("judge", [None, lambda reply: True])
def test_what_cannot_be_used_is_not_taken_whoever_judges(reply, reason, judge):
    message = cascade(models=models("small", "large", small=[reply]), judge=judge).invoke("x")
    assert message.text == "[large] answer to: x"
    first = routing_decision(message)["attempts"][0]
    assert (first["score"], first["reason"], first["accepted"]) == (0.0, reason, False)


def test_without_a_judge_the_first_usable_answer_is_taken_and_has_no_score():
    message = cascade(judge=None).invoke("x")
    assert tried(message) == [("small", None, True)]
    message = cascade(models=models("small", "large", small=[TimeoutError()]), judge=None).invoke("x")
    assert tried(message) == [("small", None, False), ("large", None, True)]
    assert "small failed (TimeoutError), so large answered" in routing_decision(message)["reason"]


def test_wrong_keys_are_not_hidden_while_there_is_no_answer():
    with pytest.raises(ValueError, match="bad request"):
        cascade(models=models("small", "large", small=[ValueError("bad request")])).invoke("x")


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_forced_model_answers_alone(asynchronous):
    model = cascade(check_last=True)
    config = {"configurable": {"agentroute_model": "middle"}}
    message = await model.ainvoke("x", config) if asynchronous else model.invoke("x", model="middle")
    assert tried(message) == [("middle", None, True)]
    assert routing_decision(message)["by"] == "forced"
    with pytest.raises(UnknownModelError):
        model.invoke("x", model="other")


def test_a_tool_loop_does_not_fall_below_the_model_that_answered_last():
    model = cascade(judge=says("[large]"))
    call = {"name": "add", "args": {}, "id": "1", "type": "tool_call"}
    begun = AIMessage("", tool_calls=[call], response_metadata={"agentroute": {"answered_by": "middle"}})
    message = model.invoke([HumanMessage("x"), begun, ToolMessage("3", tool_call_id="1")])
    assert [one[0] for one in tried(message)] == ["middle", "large"]
    assert routing_decision(message)["by"] == "sticky"
    free = model.model_copy(update={"sticky": "none"})
    assert [one[0] for one in tried(free.invoke([HumanMessage("x"), begun, ToolMessage("3", tool_call_id="1")]))] == list(NAMES)
    assert [one[0] for one in tried(model.invoke([HumanMessage("x"), begun, HumanMessage("y")]))] == list(NAMES)
    talk = model.model_copy(update={"sticky": "conversation"})
    assert [one[0] for one in tried(talk.invoke([HumanMessage("x"), begun, HumanMessage("y")]))] == ["middle", "large"]


class Answer(BaseModel):
    """An answer."""

    number: int


def tool_call(**args):
    return AIMessage("", tool_calls=[{"name": "Answer", "args": args, "id": "1", "type": "tool_call"}])


class TestStructuredOutput:
    def structured(self, include_raw=False, judge=None, **replies):
        model = CascadeChatModel(models=models("small", "large", **replies), judge=judge)
        return model.with_structured_output(Answer, include_raw=include_raw)

    async def ask(self, way, runnable):
        if way == "stream":
            return list(runnable.stream("x"))[-1]
        if way == "astream":
            return [one async for one in runnable.astream("x")][-1]
        return await runnable.ainvoke("x") if way == "ainvoke" else runnable.invoke("x")

    @pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
    @pytest.mark.parametrize("small", [tool_call(number="many"), "no object at all"])
    async def test_what_does_not_fit_is_not_taken(self, way, small):
        found = await self.ask(way, self.structured(small=[small], large=[tool_call(number=2)]))
        assert found == Answer(number=2)

    @pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
    async def test_what_fits_is_judged_as_an_object(self, way):
        runnable = self.structured(
            judge=lambda reply: reply.parsed.number > 1, small=[tool_call(number=1)], large=[tool_call(number=2)]
        )
        assert await self.ask(way, runnable) == Answer(number=2)
        runnable = self.structured(judge=lambda reply: reply.parsed.number > 1, small=[tool_call(number=5)])
        assert await self.ask(way, runnable) == Answer(number=5)

    @pytest.mark.parametrize("small", [[tool_call(number="many")], [tool_call(number=1)]])
    def test_raw_messages_carry_the_record(self, small):
        found = self.structured(include_raw=True, small=small, large=[tool_call(number=2)]).invoke("x")
        record = routing_decision(found["raw"])
        assert found["parsed"].number == len(record["attempts"])
        assert record["attempts"][0]["accepted"] is (len(record["attempts"]) == 1)

    def test_nobody_fits(self):
        broken = {"small": [tool_call(number="many")], "large": [tool_call(number="few")]}
        with pytest.raises((OutputParserException, ValidationError), match="few"):
            self.structured(**broken).invoke("x")
        found = self.structured(include_raw=True, **broken).invoke("x")
        assert found["parsed"] is None
        assert routing_decision(found["raw"])["accepted"] is False

    def test_an_object_that_was_rejected_is_better_than_none(self):
        replies = {"small": [tool_call(number=1)], "large": [tool_call(number="few")]}
        assert self.structured(judge=lambda reply: False, **replies).invoke("x") == Answer(number=1)


def test_tools_are_bound_by_whoever_is_asked():
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    given = models("small", "large")
    model = cascade(models=given, judge=lambda reply: reply.tool_calls[0].arguments["a"] > 5).bind_tools([add])
    assert model.invoke("add 7 and 2").tool_calls[0]["args"] == {"a": 7, "b": 2}
    assert not given["large"].asked
    assert routing_decision(model.invoke("add 3 and 2"))["answered_by"] == "large"
    assert given["large"].asked[0][1]["tools"][0]["function"]["name"] == "add"


def test_in_chains_and_with_fallbacks():
    broken = cascade(models=models("a", "b", a=[TimeoutError()], b=[TimeoutError()]))
    chain = broken.with_fallbacks([cascade("small", "large")]) | StrOutputParser()
    assert chain.invoke("x") == "[large] answer to: x"
    assert cascade("small", "large").with_retry().invoke("x").text == "[large] answer to: x"


def test_cascades_and_routed_models_within_each_other():
    inner = cascade("small", "middle", judge=says("[middle]"))
    outer = cascade(models={"inner": inner, "large": ScriptedChatModel(model_name="large")}, judge=says("[middle]"))
    record = routing_decision(outer.invoke("x"))
    assert (record["answered_by"], record["via"]["answered_by"]) == ("inner", "middle")
    assert record["total_usage"]["input_tokens"] == 20, "of both answers within"
    routed = RoutedChatModel(models={"cascade": inner})
    assert routing_decision(routed.invoke("x"))["via"]["answered_by"] == "middle"


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_twenty_at_once_do_not_mix(asynchronous):
    model = cascade(judge=lambda query, reply: int(query.text) % 3 == 0 or "[middle]" in reply.text)
    asked = [str(n) for n in range(20)]
    config = {"max_concurrency": 20}
    answers = await model.abatch(asked, config) if asynchronous else model.batch(asked, config)
    for text, answer in zip(asked, answers, strict=True):
        who = "small" if int(text) % 3 == 0 else "middle"
        assert answer.text == f"[{who}] answer to: {text}"
        assert routing_decision(answer)["answered_by"] == who


def test_logprobs_are_asked_for_where_the_judge_needs_them():
    class Talks(ScriptedChatModel):
        logprobs: bool | None = None
        top_logprobs: int | None = None
        streaming: bool = False

        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            result = super()._generate(messages, stop, run_manager, **kwargs)
            if self.logprobs:
                told = {"content": [{"token": "x", "logprob": -0.01, "top_logprobs": []}]}
                result.generations[0].message.response_metadata["logprobs"] = told
            return result

    given = {name: Talks(model_name=name, streaming=True) for name in ("small", "large")}
    message = CascadeChatModel(models=given, judge=LogprobScorer()).invoke("x")
    assert routing_decision(message)["attempts"][0]["score"] > 0.9
    assert given["small"].logprobs is None, "the caller's model stays as it is"


def test_names_and_profiles():
    model = cascade()
    assert model._llm_type == "agentroute"
    assert repr(model) == "CascadeChatModel(models=['small', 'middle', 'large'], default='small')"
    assert model.get_num_tokens("one two") == 2


def test_private_hooks_of_other_wrappers_get_the_strongest_model():
    result = cascade()._generate([HumanMessage("x")])
    assert result.generations[0].message.text == "[large] answer to: x"
