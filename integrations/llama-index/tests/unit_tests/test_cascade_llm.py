"""`CascadeLLM`: who is asked, what is taken, what is seen of it, and what stands on the answer."""

import json

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.agent.workflow import AgentStream, FunctionAgent, ToolCallResult
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.chat_engine.types import AgentChatResponse
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool

from agentroute.cascades import Next, Pick
from agentroute.errors import ConfigError, JudgeFailedWarning, NoEligibleModelError, RouterFailedWarning, UnknownModelError
from agentroute.scorers import LLMJudge, as_scorer
from agentroute.types import ModelCard, Price
from llama_index.llms.agentroute import CascadeLLM, ModelRouted, RoutedLLM, asker, use_allocation
from llama_index.llms.agentroute.testing import ScriptedLLM

# Agents look at all attributes of theirs when they are made, pydantic's old ones among them, and LlamaIndex's StructuredLLM
# writes its streams with one of the old methods.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pydantic.warnings.PydanticDeprecationWarning", "ignore:is_running called from within a step:DeprecationWarning"
)

NAMES = ("small", "middle", "large")
CARDS = [ModelCard(id=name, price=Price(input=n, output=2 * n)) for n, name in enumerate(NAMES, start=1)]
ASKED = "What of 3 and 4?"


def llms(*names, **replies):
    return {name: ScriptedLLM(model=name, replies=replies.get(name, ())) for name in names or NAMES}


def by_name(**scores):
    """A judge that knows who has spoken; of an object or a tool call too."""
    return as_scorer(lambda query, reply: scores.get(reply.model, 0.0), name="told")


def cascade(*names, judge=None, **kwargs):
    given = kwargs.pop("llms", None) or llms(*names)
    return CascadeLLM(llms=given, judge=judge, **kwargs)


def record(answer):
    return (answer.metadata if isinstance(answer, AgentChatResponse) else answer.additional_kwargs)["agentroute"]


def tried(answer):
    return [(one["model"], one["score"], one["accepted"]) for one in record(answer)["attempts"]]


def say(text="x"):
    return [ChatMessage(text)]


def asked(llm):
    return [name for name in llm.llms for _ in llm.llms[name].calls]


# --- who is taken ---


async def test_a_good_first_answer_is_taken_through_every_door(door, events):
    llm = cascade("small", "large", judge=by_name(small=0.7))
    answer = await door(llm)
    assert asked(llm) == ["small"]
    assert [(event.model, event.attempt) for event in events.routed] == [("small", 0)]
    if door.records:
        assert tried(answer) == [("small", 0.7, True)]
        assert (record(answer)["answered_by"], record(answer)["accepted"]) == ("small", True)


async def test_a_rejected_answer_is_gone_through_every_door(door, events, pair):
    llm = cascade(
        llms=llms("small", "large", small=[pair(name="Rejected", number=0)]), judge=by_name(small=0.2), cards=CARDS[::2]
    )
    if not (door.takes_tools or door.shape in {"object", "structured"}):
        llm.llms["small"].replies = ["Rejected"]
    items = await door.items(llm)
    assert asked(llm) == ["small", "large"]
    assert "Rejected" not in str(items)
    assert [(event.model, event.attempt) for event in events.routed] == [("small", 0), ("large", 1)]
    if not door.records:
        return
    answer = items[-1]
    assert tried(answer) == [("small", 0.2, False), ("large", None, True)]
    told = json.loads(json.dumps(record(answer)))
    assert (told["model"], told["answered_by"], told["accepted"]) == ("small", "large", True)
    assert "small was not accepted (score 0.2)" in told["reason"]
    assert told["total_cost"] == pytest.approx((10 + 5 * 2 + 10 * 3 + 5 * 6) / 1e6)
    assert told["total_usage"]["input_tokens"] == 20


async def test_the_last_model_streams_truly_and_a_judged_answer_comes_as_one_chunk(recording_stream):
    text = "a b 3 4"
    (whole,) = [
        item async for item in _each(await recording_stream.items(cascade("small", "large", judge=by_name(small=1)), text))
    ]
    alone = await recording_stream.items(ScriptedLLM(model="large"), text)
    llm = cascade("small", "large", judge=by_name(small=0.1))
    true = await recording_stream.items(llm, text)
    assert len(true) == len(alone) > 1
    assert [item.delta for item in true] == [item.delta for item in alone]
    assert [call.door for call in llm.llms["small"].calls] == [recording_stream.name.replace("stream_", "").split("_with")[0]]
    assert "stream" in llm.llms["large"].calls[0].door
    if "tools" not in recording_stream.name:
        said = whole.text if recording_stream.shape == "completion" else whole.message.content
        assert whole.delta == said == f"[small] answer to: {text}"


async def _each(items):
    for item in items:
        yield item


def test_thresholds():
    judge = by_name(small=0.6, middle=0.3, large=0.9)
    for threshold, name in ((0.5, "small"), (0.7, "large"), ({"small": 0.7, "middle": 0.2, "large": 0.0}, "middle")):
        assert record(cascade(judge=judge, threshold=threshold).chat(say()))["answered_by"] == name


async def test_nothing_accepted_gives_the_best_scored_answer(recording_door):
    llm = cascade(judge=by_name(small=0.1, middle=0.4, large=0.2), check_last=True)
    answer = await recording_door(llm, "x 3 4")
    assert asked(llm) == list(NAMES)
    assert tried(answer) == [("small", 0.1, False), ("middle", 0.4, False), ("large", 0.2, False)]
    assert (record(answer)["answered_by"], record(answer)["accepted"]) == ("middle", False)
    assert "nothing better came than the answer of middle" in record(answer)["reason"]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "the answer is empty"),
        (ToolCallBlock(tool_name="add", tool_kwargs='{"a": 1, "b"'), "its arguments are no JSON object"),
    ],
)
@pytest.mark.parametrize("judge", [None, lambda reply: True])
def test_what_cannot_be_used_is_not_taken_whoever_judges(reply, reason, judge):
    answer = cascade(llms=llms("small", "large", small=[reply]), judge=judge).chat(say())
    assert answer.message.content == "[large] answer to: x"
    first = record(answer)["attempts"][0]
    assert (first["score"], first["accepted"]) == (0.0, False)
    assert reason in first["reason"]


def test_without_a_judge_the_first_usable_answer_is_taken_and_has_no_score():
    assert tried(cascade().chat(say())) == [("small", None, True)]
    answer = cascade(llms=llms("small", "large", small=[TimeoutError()])).chat(say())
    assert tried(answer) == [("small", None, False), ("large", None, True)]
    assert "small failed (TimeoutError), so large answered" in record(answer)["reason"]


async def test_wrong_keys_are_not_hidden_while_there_is_no_answer(door):
    with pytest.raises(ValueError, match="bad request"):
        await door(cascade(llms=llms("small", "large", small=[ValueError("bad request")])))


async def test_a_forced_model_answers_alone(recording_door):
    llm = cascade(judge=by_name(), check_last=True)
    answer = await recording_door(llm, agentroute_model="middle")
    assert asked(llm) == ["middle"]
    assert tried(answer) == [("middle", None, True)]
    assert record(answer)["by"] == "forced"
    with pytest.raises(UnknownModelError):
        await recording_door(llm, agentroute_model="huge")


def test_a_role_begins_with_the_model_that_it_was_allocated():
    llm = cascade(judge=by_name(large=1)).for_role("critic")
    with use_allocation({"critic": "middle"}):
        answer = llm.chat(say())
    assert [one[0] for one in tried(answer)] == ["middle", "large"]
    assert record(answer)["by"] == "allocated"


def test_a_tool_loop_does_not_fall_below_the_model_that_answered_last(add_tool):
    llm = cascade(judge=by_name(middle=1))
    first = llm.chat_with_tools([add_tool], ASKED)
    assert record(first)["answered_by"] == "middle"
    history = [*say(ASKED), first.message, ChatMessage("7", role="tool", additional_kwargs={"tool_call_id": "call_0"})]
    again = llm.chat_with_tools([add_tool], chat_history=history)
    assert ([one[0] for one in tried(again)], record(again)["by"]) == (["middle"], "sticky")
    free = llm.model_copy(update={"sticky": "none"}).chat_with_tools([add_tool], chat_history=history)
    assert [one[0] for one in tried(free)] == ["small", "middle"]


# --- tools ---


class Till:
    """A tool that can be called but once."""

    def __init__(self):
        self.calls = []
        self.tool = FunctionTool.from_defaults(self.pay)

    def pay(self, amount: int) -> str:
        """Pays."""
        self.calls.append(amount)
        return f"paid {amount}"


def pays(amount):
    return ToolCallBlock(tool_call_id="1", tool_name="pay", tool_kwargs={"amount": amount})


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_calls_are_judged_before_any_tool_is_called(asynchronous):
    """What a tool has done, no better answer undoes."""
    till = Till()
    given = llms("small", "large", small=[pays(900)], large=[pays(9)])
    llm = cascade(llms=given, judge=lambda reply: reply.tool_calls[0].arguments["amount"] < 100)
    ask = llm.apredict_and_call if asynchronous else llm.predict_and_call
    answer = ask([till.tool], "pay")
    answer = await answer if asynchronous else answer
    assert answer.response == "paid 9"
    assert till.calls == [9]


@pytest.mark.parametrize("style", ["openai", "blocks", "kwargs"])
async def test_a_call_with_broken_arguments_climbs(style, tool_door):
    broken = ToolCallBlock(tool_call_id="1", tool_name="add", tool_kwargs='{"a": 3, "b"')
    llm = cascade(llms=llms("small", "large", small=[broken]))
    llm.llms["small"].tool_style = style
    await tool_door(llm)
    assert asked(llm) == ["small", "large"]


async def test_only_models_that_call_tools_climb_with_tools(tool_door):
    llm = cascade(llms={**llms("small"), "text": ScriptedLLM(model="text", calls_tools=False), **llms("large")}, judge=by_name())
    await tool_door(llm)
    assert asked(llm) == ["small", "large"]
    nobody = cascade(llms={"text": ScriptedLLM(calls_tools=False)})
    with pytest.raises((ConfigError, NoEligibleModelError), match="tools"):
        await tool_door(nobody)


# --- objects ---


async def test_what_does_not_fit_the_schema_climbs(object_door, pair):
    misfit = ToolCallBlock(tool_call_id="1", tool_name="Pair", tool_kwargs={"name": "Ann", "number": "many"})
    for reply in (misfit, "no object at all", ""):
        llm = cascade(llms=llms("small", "large", small=[reply], large=[pair(name="Bob", number=2)]))
        answer = await object_door(llm)
        assert (answer.raw if object_door.shape == "structured" else answer) == pair(name="Bob", number=2)
        assert asked(llm) == ["small", "large"]


async def test_objects_are_judged_as_objects(object_door, pair):
    for number, names in ((1, ["small", "large"]), (5, ["small"])):
        llm = cascade(
            llms=llms("small", "large", small=[pair(name="a", number=number)], large=[pair(name="b", number=9)]),
            judge=lambda reply: reply.parsed.number > 3,
        )
        answer = await object_door(llm)
        assert (answer.raw if object_door.shape == "structured" else answer).number == {1: 9, 5: 5}[number]
        assert asked(llm) == names


def test_models_that_are_asked_for_json_climb_too(pair):
    llm = cascade(llms=llms("small", "large", small=["{broken"], large=[pair(name="b", number=9)]))
    for name in ("small", "large"):
        llm.llms[name].calls_tools = False
    llm.llms = dict(llm.llms)
    assert llm.structured_predict(pair, PromptTemplate("Who?")) == pair(name="b", number=9)


def test_no_object_at_all(pair):
    llm = cascade(llms=llms("small", "large", small=["few"], large=["fewer"]))
    with pytest.raises(ValueError, match="tool call"):
        llm.structured_predict(pair, PromptTemplate("Who?"))
    rejected = {"small": [pair(name="a", number=1)], "large": ["fewer"]}
    llm = cascade(llms=llms("small", "large", **rejected), judge=by_name(), check_last=True)
    assert llm.structured_predict(pair, PromptTemplate("Who?")) == pair(name="a", number=1), "better than none"


# --- learned plans, judges that ask models ---


class Plans:
    """A planner for tests: begins at the top, then climbs down."""

    signals = ("told",)

    def plan(self, query):
        if query.text == "fail":
            msg = "no plan"
            raise RuntimeError(msg)
        return self

    def next(self, attempts, allowed):
        if attempts and attempts[-1].score is not None and attempts[-1].score.signals["told"] > 0.5:
            return None
        left = [name for name in ("large", "small", "middle") if name in allowed and name not in {a.model for a in attempts}]
        return Next(model=left[0]) if left else None

    def pick(self, attempts):
        return Pick(index=len(attempts) - 1, accepted=True)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_planner_has_the_say_and_costs_no_answer_when_it_fails(asynchronous):
    llm = cascade(judge=by_name(small=1.0, large=0.2), router=Plans())
    answer = await llm.achat(say()) if asynchronous else llm.chat(say())
    assert tried(answer) == [("large", 0.2, False), ("small", 1.0, True)]
    with pytest.warns(RouterFailedWarning, match="no plan"):
        answer = await llm.achat(say("fail")) if asynchronous else llm.chat(say("fail"))
    assert (record(answer)["fallback"], record(answer)["by"], record(answer)["answered_by"]) == (True, "default", "small")


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_model_can_judge_and_its_words_are_tagged(asynchronous, events):
    grades = ScriptedLLM(model="judge", replies=['{"score": 0}', '{"score": 10}'], input_tokens=100)
    counter = TokenCountingHandler()
    llm = cascade(judge=LLMJudge(asker(grades, price=Price(input=1, output=1))), callback_manager=CallbackManager([counter]))
    answer = await llm.achat(say()) if asynchronous else llm.chat(say())
    assert tried(answer) == [("small", 0.0, False), ("middle", 1.0, True)]
    assert record(answer)["attempts"][0]["check_cost"] == pytest.approx(105e-6)
    assert len(grades.calls) == 2
    starts = [event for event in events.of("LLMChatStartEvent") if event.model_dict["model_name"] == "judge"]
    assert [event.tags["agentroute"]["judges"] for event in starts] == ["small", "middle"]
    assert all(event.tags["agentroute"]["model"] is None for event in starts)
    assert len(counter.llm_token_counts) == 2, "the judge's own calls are its own manager's"


def test_a_judge_that_fails_takes_no_answer():
    def broken(reply):
        raise KeyError("score")

    with pytest.warns(JudgeFailedWarning, match="KeyError"):
        answer = cascade("small", "large", judge=broken).chat(say())
    assert record(answer)["answered_by"] == "large"
    assert record(answer)["attempts"][0]["check_error"] == "KeyError"


# --- under an agent ---


@pytest.mark.parametrize("streaming", [True, False])
async def test_an_agent_sees_accepted_answers_only(streaming, add_tool):
    wrong = ToolCallBlock(tool_call_id="1", tool_name="add", tool_kwargs={"a": 30, "b": 40})
    given = llms("small", "large", small=[wrong, None, "unsure", None], large=[None, "It is seven."])

    def judge(query, reply):
        return reply.tool_calls[0].arguments["a"] < 10 if reply.tool_calls else "unsure" not in reply.text

    llm = cascade(llms=given, judge=judge, sticky="none")
    handler = FunctionAgent(tools=[add_tool], llm=llm.for_role("adder"), streaming=streaming).run(ASKED)
    seen = [event async for event in handler.stream_events()]
    assert str(await handler) == "[small] answer to: What of 3 and 4?"
    results = [event.tool_output.content for event in seen if isinstance(event, ToolCallResult)]
    assert results == ["7"], "the tool was called with what was accepted, once"
    routed = [(event.role, event.model, event.attempt) for event in seen if isinstance(event, ModelRouted)]
    assert routed == [("adder", "small", 0), ("adder", "large", 1), ("adder", "small", 0)]
    deltas = "".join(event.delta or "" for event in seen if isinstance(event, AgentStream))
    assert deltas == ("[small] answer to: What of 3 and 4?" if streaming else "")


@pytest.mark.parametrize("streaming", [True, False])
async def test_an_unsure_last_word_of_an_agent_climbs(streaming, add_tool):
    given = llms("small", "large", small=[None, "unsure"], large=["It is seven."])
    llm = cascade(llms=given, judge=lambda reply: bool(reply.tool_calls) or "unsure" not in reply.text)
    handler = FunctionAgent(tools=[add_tool], llm=llm, streaming=streaming).run(ASKED)
    seen = [event async for event in handler.stream_events()]
    assert str(await handler) == "It is seven."
    assert "unsure" not in str([event.delta for event in seen if isinstance(event, AgentStream)])


def test_cascades_and_routed_llms_within_each_other():
    inner = cascade("small", "middle", judge=by_name(middle=1))
    outer = cascade(llms={"inner": inner, **llms("large")}, judge=by_name(inner=1))
    answer = outer.chat(say())
    assert (record(answer)["answered_by"], record(answer)["via"]["answered_by"]) == ("inner", "middle")
    assert record(answer)["total_usage"]["input_tokens"] == 20, "of both answers within"
    assert record(RoutedLLM(llms={"cascade": inner}).chat(say()))["via"]["answered_by"] == "middle"
