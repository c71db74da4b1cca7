"""Cascades within routed models and cascades: what all of their answers have cost is booked, not only the accepted one."""

import pytest
from pydantic import BaseModel

from agentroute.outcomes import MemoryOutcomeLog
from agentroute.types import ModelCard, Price, Usage
from langchain_agentroute import CascadeChatModel, RoutedChatModel, routing_decision
from langchain_agentroute.testing import ScriptedChatModel

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

WAYS = ["invoke", "ainvoke", "stream", "astream", "v3", "av3"]
ONE = 15e-6
"""What a call costs."""


def cards(*names):
    return [ModelCard(id=name, price=Price(input=1, output=1), max_output_tokens=5) for name in names]


def inner(**kwargs):
    models = {name: ScriptedChatModel(model_name=name) for name in ("a", "b")}
    return CascadeChatModel(models=models, judge=lambda reply: "[a]" not in reply.text, **{"cards": cards("a", "b"), **kwargs})


def booked(model):
    model.outcome_log.flush(3)
    return [(one.model, one.usage, one.cost) for one in model.outcome_log]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [RoutedChatModel, CascadeChatModel])
@pytest.mark.parametrize("priced", ["within", "without"])
async def test_all_of_it_is_booked(way, kind, priced, collect):
    one = inner() if priced == "within" else inner(cards=None)
    model = kind(models={"in": one}, cards=cards("in"), outcome_log=MemoryOutcomeLog())
    message = await collect(way, model, "x")
    assert message.text == "[b] answer to: x"
    assert booked(model) == [("in", Usage(input_tokens=20, output_tokens=10), pytest.approx(2 * ONE))]
    record = routing_decision(message)
    if kind is CascadeChatModel:
        assert record["total_cost"] == pytest.approx(2 * ONE)
        assert record["total_usage"]["input_tokens"] == 20


@pytest.mark.parametrize("way", WAYS)
async def test_what_a_cascade_within_has_not_been_told_is_unknown(way, collect):
    one = inner()
    one.models["a"].replies = [ConnectionError("down")]
    model = CascadeChatModel(models={"in": one}, cards=cards("in"), outcome_log=MemoryOutcomeLog())
    message = await collect(way, model, "x")
    assert routing_decision(message)["total_cost"] is None
    assert [cost for _, _, cost in booked(model)] == [None]


@pytest.mark.parametrize("way", WAYS)
async def test_a_rejected_cascade_counts_whole(way, collect):
    models = {"in": inner(), "last": ScriptedChatModel(model_name="last")}
    model = CascadeChatModel(models=models, judge=lambda reply: False, cards=cards("in", "last"))
    message = await collect(way, model, "x")
    assert message.text == "[last] answer to: x"
    assert routing_decision(message)["total_cost"] == pytest.approx(3 * ONE)
    model.max_cost = 2.5 * ONE
    message = await collect(way, model, "x")
    assert message.text == "[b] answer to: x", "of 2.5 calls, two are spent"


class Answer(BaseModel):
    """An answer."""

    number: int


def test_objects():
    one = inner()
    one.models["a"].replies = ["no object"]
    model = CascadeChatModel(models={"in": one}, cards=cards("in"), outcome_log=MemoryOutcomeLog())
    assert model.with_structured_output(Answer).invoke("3") == Answer(number=3)
    assert booked(model) == [("in", Usage(input_tokens=20, output_tokens=10), pytest.approx(2 * ONE))]
