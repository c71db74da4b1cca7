"""`CascadeLLM`: what a query may take, what is late, and what is logged."""

import asyncio
import threading

import pytest
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.llms import ChatMessage
from pydantic import PrivateAttr, create_model

from agentroute.errors import AllModelsFailedError, ConfigError, NoEligibleModelError
from agentroute.outcomes import MemoryOutcomeLog
from agentroute.scorers import as_scorer
from agentroute.types import ModelCard, Price, Score
from llama_index.llms.agentroute import CascadeLLM
from llama_index.llms.agentroute._messages import prompt_tokens
from llama_index.llms.agentroute._requests import most_tokens
from llama_index.llms.agentroute.testing import ScriptedLLM

# LlamaIndex's StructuredLLM writes its streams with a method of pydantic's old ones.
pytestmark = pytest.mark.filterwarnings("ignore:The `json` method is deprecated:pydantic.warnings.PydanticDeprecatedSince20")

NAMES = ("small", "middle", "large")
CARDS = [ModelCard(id=name, price=Price(input=n, output=2 * n), max_output_tokens=100) for n, name in enumerate(NAMES, start=1)]
BOTH = pytest.mark.parametrize("asynchronous", [False, True])


def by_name(**scores):
    """A judge that knows who has spoken."""
    return as_scorer(lambda query, reply: Score(value=scores.get(reply.model, 0.0), signals={"told": 0.5}), name="told")


def cascade(*names, **kwargs):
    given = {"llms": {name: ScriptedLLM(model=name) for name in names or NAMES}, "judge": by_name()} | kwargs
    return CascadeLLM(**given)


def record(answer):
    return answer.additional_kwargs["agentroute"]


def tried(answer):
    return [(one["model"], one["score"], one["accepted"]) for one in record(answer)["attempts"]]


def say(text="x"):
    return [ChatMessage(text)]


async def chat(llm, asynchronous, **kwargs):
    return await llm.achat(say(), **kwargs) if asynchronous else llm.chat(say(), **kwargs)


def outcomes(llm, log):
    assert llm.outcome_log.flush(10)
    return sorted(log, key=lambda outcome: outcome.attempt)


# --- arguments ---


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"threshold": 1.5}, "in \\[0, 1\\]"),
        ({"threshold": {"small": 0.5}}, "says nothing of 'middle'"),
        ({"judge": 0.5}, "cannot score"),
        ({"judge": lambda a, b, c: 1}, "must take"),
        ({"judge": ScriptedLLM()}, "LLMJudge\\(asker"),
        ({"max_cost": 0}, "max_cost=0"),
        ({"deadline": -1}, "deadline=-1"),
        ({"max_models": 0}, "max_models=0"),
        ({"judge": None, "check_last": True}, "asks for a judge"),
        ({"judge": as_scorer(lambda reply: 1, name="told", ceiling=None), "max_cost": 1}, "nobody knows the most"),
        ({"tresholds": 0.5}, "did you mean 'threshold'"),
        ({"verifier": None}, "did you mean 'judge'"),
        ({"default": "small"}, "no default"),
        ({"router": lambda query: "small"}, "has no plan"),
    ],
)
def test_arguments_are_checked_when_they_are_given(kwargs, message):
    with pytest.raises(ConfigError, match=message):
        cascade(**kwargs)


def test_arguments_are_checked_when_they_are_assigned():
    llm = cascade(judge=None)
    assert record(llm.chat(say()))["answered_by"] == "small"
    llm.judge = by_name(large=1)
    assert record(llm.chat(say()))["answered_by"] == "large"
    with pytest.raises(ConfigError, match="in \\[0, 1\\]"):
        llm.threshold = 2.0
    assert llm.threshold == 0.5
    other = llm.model_copy(update={"max_models": 2})
    assert [one[0] for one in tried(other.chat(say()))] == ["small", "middle"]
    assert record(llm.chat(say()))["answered_by"] == "large"


# --- models and money ---


@BOTH
async def test_most_models(asynchronous):
    answer = await chat(cascade(max_models=2), asynchronous)
    assert tried(answer) == [("small", 0.0, False), ("middle", None, True)], "the last that may be asked is taken as it comes"


@BOTH
async def test_most_cost(asynchronous):
    """The prompt `x` counts as 5 tokens: a call costs at most (5 + 200) / 1e6 USD, (10 + 400) / 1e6, (15 + 600) / 1e6. The small
    one has cost 20 / 1e6 then."""
    llm = cascade(cards=CARDS, max_cost=429e-6)
    assert [one[0] for one in tried(await chat(llm, asynchronous))] == ["small"], "429 < 20 + 410"
    llm.max_cost = 431e-6
    assert [one[0] for one in tried(await chat(llm, asynchronous))] == ["small", "middle"]
    assert [one[0] for one in tried(await chat(llm, asynchronous, max_tokens=10))] == list(NAMES), "the caller's own limit counts"
    llm.max_cost = 100e-6
    with pytest.raises(NoEligibleModelError, match="its call may cost"):
        await chat(llm, asynchronous)
    llm.judge = as_scorer(lambda reply: Score(value=0.0, cost=50e-6), name="paid", ceiling=50e-6)
    llm.max_cost = 431e-6
    answer = await chat(llm, asynchronous)
    assert [one[0] for one in tried(answer)] == ["small"], "checks are paid too"
    assert record(answer)["total_cost"] == pytest.approx(70e-6)


def test_tools_are_part_of_the_prompt(add_tool):
    llm = cascade(cards=CARDS, max_cost=205e-6, judge=None)
    assert llm.chat(say()).message.content
    with pytest.raises(NoEligibleModelError, match="may cost"):
        llm.chat_with_tools([add_tool], "x")


@pytest.mark.parametrize("name", ["max_tokens", "max_output_tokens", "num_predict", "max_new_tokens"])
def test_a_candidates_own_limit_counts_whatever_its_name(name):
    kind = create_model("Limited", __base__=ScriptedLLM, **{name: (int, 10)})
    price = {"limited": ModelCard(id="limited", price=Price(input=1.0, output=1.0))}
    tokens = prompt_tokens(say())
    llm = CascadeLLM(llms={"limited": kind(model="limited")}, cards=price, max_cost=(tokens + 10.5) * 1e-6)
    assert record(llm.chat(say()))["answered_by"] == "limited"
    llm.max_cost = (tokens + 9.5) * 1e-6
    with pytest.raises(NoEligibleModelError, match="its call may cost"):
        llm.chat(say())


def test_a_limit_that_goes_to_the_provider_as_it_is_comes_before_the_field():
    fields = {"max_tokens": (int, 10), "additional_kwargs": (dict, {"max_completion_tokens": 20})}
    kind = create_model("Limited", __base__=ScriptedLLM, **fields)
    assert most_tokens(ModelCard(id="m"), kind(), {}) == 20
    assert most_tokens(ModelCard(id="m"), kind(additional_kwargs={}), {}) == 10
    assert most_tokens(ModelCard(id="m"), ScriptedLLM(), {}) is None


def test_unknown_cost_is_not_free():
    with pytest.raises(NoEligibleModelError, match="give its card a price and max_output_tokens"):
        cascade(max_cost=1.0).chat(say())


# --- time ---


class Hangs(ScriptedLLM):
    """Answers when it is let. Synchronous code cannot be cut off, so it comes to its end later, and is booked then."""

    _gate: threading.Event = PrivateAttr(default_factory=threading.Event)

    def chat(self, messages, **kwargs):
        assert self._gate.wait(10)
        return super().chat(messages, **kwargs)

    async def achat(self, messages, **kwargs):
        await asyncio.sleep(10)
        return await super().achat(messages, **kwargs)


@BOTH
@pytest.mark.parametrize("limit", ["timeout", "deadline"])
async def test_what_is_late_is_left_behind_and_booked_when_it_ends(asynchronous, limit):
    log, slow = MemoryOutcomeLog(), Hangs(model="slow")
    # A timeout is one call's, and the next one is asked; a deadline is the query's, and what there is by then is given.
    names = ["small", "slow", "large"] if limit == "timeout" else ["small", "slow"]
    llms = {name: slow if name == "slow" else ScriptedLLM(model=name) for name in names}
    llm = CascadeLLM(llms=llms, judge=by_name(small=0.3), check_last=True, outcome_log=log, **{limit: 0.3})
    answer = await chat(llm, asynchronous)
    assert [one["model"] for one in record(answer)["attempts"]] == names
    assert record(answer)["attempts"][1]["error"] == "DeadlineExceededError"
    assert (record(answer)["answered_by"], record(answer)["accepted"]) == ("small", False)
    slow._gate.set()
    for _ in range(100):
        found = outcomes(llm, log)
        if len(found) == len(names):
            break
        await asyncio.sleep(0.01)
    assert [outcome.model for outcome in found] == names
    late = found[1]
    assert late.metadata["late"] is True
    assert late.latency > 0.2
    assert [outcome.metadata.get("chosen") for outcome in found] == [True, *[None] * (len(names) - 1)]


@BOTH
async def test_without_any_answer_in_time_all_have_failed(asynchronous):
    slow = Hangs(model="slow")
    llm = CascadeLLM(llms={"slow": slow, "slower": slow}, timeout=0.1)
    with pytest.raises(AllModelsFailedError, match="DeadlineExceededError"):
        await chat(llm, asynchronous)
    slow._gate.set()


async def test_the_deadline_ends_with_the_first_token_of_a_stream():
    llm = cascade("small", "large", deadline=0.5)
    items = await llm.astream_chat(say("a b c"))
    first = await anext(items)
    await asyncio.sleep(0.6)
    rest = [item async for item in items]
    assert first.delta == "[large]"
    assert rest[-1].message.content == "[large] answer to: a b c"


@BOTH
async def test_a_check_that_is_late_takes_no_answer(asynchronous):
    never = threading.Event()

    async def ajudge(reply):
        await asyncio.sleep(10)

    def judge(reply):
        never.wait(10)

    llm = cascade("small", "large", judge=ajudge if asynchronous else judge, timeout=0.2)
    with pytest.warns(match="DeadlineExceededError"):
        answer = await chat(llm, asynchronous)
    never.set()
    assert record(answer)["answered_by"] == "large"
    assert record(answer)["attempts"][0]["check_error"] == "DeadlineExceededError"


# --- what is logged ---


async def test_every_door_logs_all_calls_with_their_fates(door, pair):
    log = MemoryOutcomeLog()
    llm = cascade("small", "large", judge=by_name(small=0.2), cards=CARDS[::2], outcome_log=log, role="critic")
    answer = await door(llm)
    first, second = outcomes(llm, log)
    assert (first.model, first.attempt, first.quality, first.propensity) == ("small", 0, None, 1.0)
    assert (second.model, second.attempt, second.quality, second.propensity) == ("large", 1, None, None)
    assert (first.cost, second.cost) == (pytest.approx(20e-6), pytest.approx(60e-6))
    assert (first.metadata["score"], first.metadata["accepted"], first.metadata["signals"]) == (0.2, False, {"told": 0.5})
    assert second.metadata == {"accepted": True, "chosen": True}
    assert first.decision_id == second.decision_id
    assert {first.query.role, second.query.role} == {"critic"}
    assert first.query.embedding is not None
    if door.records:
        assert llm.record_feedback(answer, 1.0)
        assert [outcome.quality for outcome in outcomes(llm, log)] == [None, 1.0], "feedback is about the chosen answer"


async def test_an_object_that_could_not_be_made_is_logged_with_its_cost(object_door, pair):
    log = MemoryOutcomeLog()
    misfit = ToolCallBlock(tool_call_id="1", tool_name="Pair", tool_kwargs={"name": "Ann", "number": "many"})
    llms = {"small": ScriptedLLM(model="small", replies=[misfit]), "large": ScriptedLLM(model="large")}
    llm = CascadeLLM(llms=llms, cards=CARDS[::2], outcome_log=log)
    await object_door(llm)
    first, second = outcomes(llm, log)
    assert (first.error, first.usage.input_tokens, first.metadata["accepted"]) == (None, 10, False)
    assert first.cost == pytest.approx(20e-6)
    assert second.metadata["accepted"] is True


@BOTH
async def test_a_stream_that_is_left_early_loses_nothing(asynchronous):
    log = MemoryOutcomeLog()
    llm = cascade("small", "large", outcome_log=log)
    if asynchronous:
        items = await llm.astream_chat(say("a b c d"))
        await anext(items)
        await items.aclose()
    else:
        items = llm.stream_chat(say("a b c d"))
        next(items)
        items.close()
    assert [(one.model, one.metadata.get("interrupted"), one.metadata.get("chosen")) for one in outcomes(llm, log)] == [
        ("small", None, None),
        ("large", True, True),
    ]


async def test_a_cancelled_call_books_what_was_paid():
    log, begun = MemoryOutcomeLog(), asyncio.Event()

    async def judge(reply):
        begun.set()
        await asyncio.sleep(10)

    llm = cascade("small", "large", judge=judge, outcome_log=log)
    task = asyncio.create_task(llm.achat(say()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(one.model, one.error, one.metadata["accepted"]) for one in outcomes(llm, log)] == [("small", None, False)]


def test_no_answer_of_the_user_s_is_in_the_log_s_metadata():
    log = MemoryOutcomeLog()
    judge = as_scorer(lambda reply: Score(value=0.0, reason=f"it says {reply.text}"), name="told")
    llm = cascade("small", "large", judge=judge, outcome_log=log)
    llm.chat(say())
    assert "answer to" not in str([one.metadata for one in outcomes(llm, log)])
