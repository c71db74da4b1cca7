"""`CascadeChatModel`: plans, arguments, limits, and what is logged."""

import asyncio

import pytest
from langchain_core.messages import HumanMessage
from pydantic import BaseModel

from agentroute.cascades import Next, Pick
from agentroute.errors import ConfigError, NoEligibleModelError, RouterFailedWarning
from agentroute.outcomes import MemoryOutcomeLog
from agentroute.scorers import as_scorer
from agentroute.types import ModelCard, Price, Score
from langchain_agentroute import CascadeChatModel, routing_decision
from langchain_agentroute.testing import ScriptedChatModel

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

NAMES = ("small", "middle", "large")
CARDS = [ModelCard(id=name, price=Price(input=n, output=2 * n)) for n, name in enumerate(NAMES, start=1)]


def models(*names):
    return {name: ScriptedChatModel(model_name=name) for name in names or NAMES}


def says(word):
    """A judge that wants a word in the answer."""
    return lambda reply: word in reply.text


WANTS_LARGE = says("[large]")


def cascade(*names, judge=WANTS_LARGE, **kwargs):
    given = kwargs.pop("models", None) or models(*names)
    return CascadeChatModel(models=given, judge=judge, **kwargs)


def tried(message):
    return [(one["model"], one["score"], one["accepted"]) for one in routing_decision(message)["attempts"]]


class Answer(BaseModel):
    """An answer."""

    number: int


class Plans:
    """A planner for tests: begins at the top, then climbs down."""

    signals = ("told",)

    def __init__(self, names):
        self.names = names
        self.queries = []

    def plan(self, query):
        self.queries.append(query)
        if query.text == "fail":
            raise RuntimeError("no plan")
        return self

    def next(self, attempts, allowed):
        if attempts and attempts[-1].score is not None and attempts[-1].score.signals["told"] > 0.5:
            return None
        left = [name for name in self.names if name in allowed]
        return Next(model=left[0]) if left else None

    def pick(self, attempts):
        return Pick(index=len(attempts) - 1, accepted=True)


def told(reply):
    return 1.0 if "[small]" in reply.text else 0.2


def test_a_planner_has_the_say():
    planner = Plans(["large", "small", "middle"])
    model = cascade(judge=as_scorer(told), router=planner)
    message = model.invoke("x")
    assert tried(message) == [("large", 0.2, False), ("small", 1.0, True)]
    assert routing_decision(message)["model"] == "large"
    with pytest.raises(ConfigError, match="the router reads 'told'"):
        cascade(judge=None, router=planner)
    with pytest.raises(ConfigError, match="has no plan"):
        cascade(router=lambda query: "small")


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_planner_that_fails_costs_no_answer(asynchronous):
    model = cascade(judge=as_scorer(told), router=Plans(NAMES))
    with pytest.warns(RouterFailedWarning, match="no plan"):
        message = await model.ainvoke("fail") if asynchronous else model.invoke("fail")
    record = routing_decision(message)
    assert (record["fallback"], record["by"], record["answered_by"]) == (True, "default", "small")


def test_a_planner_sees_only_who_may_answer():
    planner = Plans(NAMES)
    cards = [ModelCard(id="small", capabilities=frozenset()), ModelCard(id="middle"), ModelCard(id="large")]
    model = cascade(judge=as_scorer(told), router=planner, cards=cards)
    model.bind_tools([Answer]).invoke("3")
    assert planner.queries[-1].allow == {"middle", "large"}


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"threshold": 1.5}, "in \\[0, 1\\]"),
        ({"threshold": {"small": 0.5}}, "says nothing of 'middle'"),
        ({"judge": 0.5}, "cannot score"),
        ({"judge": lambda a, b, c: 1}, "must take"),
        ({"max_cost": 0}, "max_cost=0"),
        ({"deadline": -1}, "deadline=-1"),
        ({"max_models": 0}, "max_models=0"),
        ({"judge": None, "check_last": True}, "asks for a judge"),
        ({"judge": as_scorer(told, ceiling=None), "max_cost": 1}, "nobody knows the most"),
        ({"tresholds": 0.5}, "did you mean 'threshold'"),
        ({"outcome_log": "log.sqlite"}, "is a path"),
        ({"cache": True}, "no cache of its own"),
    ],
)
def test_arguments_are_checked_when_they_are_given(kwargs, message):
    with pytest.raises(ConfigError, match=message):
        cascade(**kwargs)


def test_arguments_are_checked_when_they_are_assigned():
    model = cascade(judge=None)
    assert routing_decision(model.invoke("x"))["answered_by"] == "small"
    model.judge = says("[large]")
    assert routing_decision(model.invoke("x"))["answered_by"] == "large"
    with pytest.raises(ConfigError, match="in \\[0, 1\\]"):
        model.threshold = 2.0
    assert model.threshold == 0.5
    other = model.model_copy(update={"judge": says("[middle]"), "max_models": 2})
    assert [one[0] for one in tried(other.invoke("x"))] == ["small", "middle"]
    assert routing_decision(model.invoke("x"))["answered_by"] == "large"
    with pytest.raises(ConfigError, match="max_models=0"):
        model.model_copy(update={"max_models": 0})


class TestLimits:
    def limited(self, **kwargs):
        cards = [ModelCard(id=card.id, price=card.price, max_output_tokens=100) for card in CARDS]
        return cascade(cards=cards, **kwargs)

    def test_most_models(self):
        message = self.limited(max_models=2).invoke("x")
        assert tried(message) == [("small", 0.0, False), ("middle", None, True)], (
            "the last that may be called is taken as it comes"
        )

    def test_what_is_bound_with_tools_or_prepared_counts(self):
        model = self.limited(max_cost=429e-6)
        assert model.bind_tools([Answer], max_tokens=50).invoke("3").tool_calls
        with pytest.raises(NoEligibleModelError, match="may cost"):
            model.bind_tools([Answer], max_tokens=100_000).invoke("3")
        model.prepare_messages = lambda messages, _: [HumanMessage("x" * 40_000), *messages]
        with pytest.raises(NoEligibleModelError, match="may cost"):
            model.invoke("x")

        def fails(messages, candidate):
            raise KeyError("template")

        model.prepare_messages = fails
        with pytest.raises(KeyError, match="template"):
            model.invoke("x")

    def test_most_cost(self):
        # The prompt "x" is estimated at 5 tokens: one call may cost (5 + 200) / 1e6 USD, (10 + 400) / 1e6, (15 + 600) / 1e6.
        # The small one has then cost 20 / 1e6.
        model = self.limited(max_cost=429e-6)
        assert [one[0] for one in tried(model.invoke("x"))] == ["small"], "429 < 20 + 410"
        model.max_cost = 431e-6
        assert [one[0] for one in tried(model.invoke("x"))] == ["small", "middle"]
        assert [one[0] for one in tried(model.invoke("x", max_tokens=10))] == list(NAMES), "the caller's own limit counts"
        model.max_cost = 100e-6
        with pytest.raises(NoEligibleModelError, match="its call may cost"):
            model.invoke("x")

    def test_cost_of_checks_counts(self):
        judge = as_scorer(lambda reply: Score(value=0.0, cost=50e-6), name="paid", ceiling=50e-6)
        model = self.limited(max_cost=431e-6, judge=judge)
        message = model.invoke("x")
        assert [one[0] for one in tried(message)] == ["small"]
        assert routing_decision(message)["total_cost"] == pytest.approx(70e-6)

    def test_unknown_cost_is_not_free(self):
        with pytest.raises(NoEligibleModelError, match="give its card a price and max_output_tokens"):
            cascade(max_cost=1.0).invoke("x")

    def test_tools_are_part_of_the_prompt(self):
        model = self.limited(max_cost=205e-6, judge=None)
        assert model.invoke("x").text
        with pytest.raises(NoEligibleModelError):
            model.bind_tools([Answer]).invoke("x")


def test_outcomes_of_all_calls_are_logged_with_scores_that_are_no_quality():
    log = MemoryOutcomeLog()
    model = cascade(
        judge=as_scorer(told, name="told"), threshold=0.9, outcome_log=log, cards=CARDS[1:], models=models("middle", "large")
    )
    message = model.invoke("x")
    model.outcome_log.flush(1.0)
    first, second = log
    assert (first.model, first.attempt, first.quality, first.propensity) == ("middle", 0, None, 1.0)
    assert (second.model, second.attempt, second.quality, second.propensity) == ("large", 1, None, None)
    assert first.cost == pytest.approx(40e-6)
    assert (first.metadata["score"], first.metadata["accepted"], first.metadata["signals"]) == (0.2, False, {"told": 0.2})
    assert second.metadata == {"accepted": True, "chosen": True}
    assert first.decision_id == second.decision_id == routing_decision(message)["decision_id"]
    assert first.query.embedding is not None
    assert model.record_feedback(message, 1.0)


@pytest.mark.parametrize("way", ["stream", "astream", "v3", "av3"])
async def test_streams_are_logged_when_they_end(way, collect):
    log = MemoryOutcomeLog()
    model = cascade("small", "large", outcome_log=log, role="critic")
    await collect(way, model, "x")
    model.outcome_log.flush(1.0)
    assert [(one.model, one.metadata["accepted"], one.usage.output_tokens) for one in log] == [
        ("small", False, 5),
        ("large", True, 5),
    ]
    assert {one.query.role for one in log} == {"critic"}


def test_a_stream_that_is_left_early_loses_nothing():
    log = MemoryOutcomeLog()
    model = cascade("small", "large", outcome_log=log)
    next(stream := model.stream("a b c d"))
    stream.close()
    model.outcome_log.flush(1.0)
    assert [(one.model, one.metadata.get("interrupted")) for one in log] == [("small", None), ("large", True)]


async def test_a_cancelled_call_books_what_was_paid():
    log = MemoryOutcomeLog()
    begun, never = asyncio.Event(), asyncio.Event()

    async def judge(reply):
        begun.set()
        await never.wait()

    model = cascade("small", "large", judge=judge, outcome_log=log)
    task = asyncio.create_task(model.ainvoke("x"))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    model.outcome_log.flush(1.0)
    assert [(one.model, one.error, one.metadata["accepted"]) for one in log] == [("small", None, False)]
