"""One router folder serves both frameworks: for the same conversation they decide the same, to the last figure."""

import random
from collections import Counter

import pytest

from agentroute.outcomes import OutcomeTable
from agentroute.policies import UtilityPolicy
from agentroute.router import Router
from agentroute.types import ModelCard, Outcome, Price, Query

pytest.importorskip("langchain_agentroute")
pytest.importorskip("llama_index.llms.agentroute")

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import FunctionTool

from langchain_agentroute import RoutedChatModel, routing_decision
from langchain_agentroute.testing import ScriptedChatModel
from llama_index.llms.agentroute import RoutedLLM
from llama_index.llms.agentroute.testing import ScriptedLLM

CARDS = (
    ModelCard(id="small", price=Price(input=0.1, output=0.4), context_window=8_000, capabilities=frozenset()),
    ModelCard(id="middle", price=Price(input=1.0, output=4.0), context_window=32_000, capabilities=frozenset({"tools"})),
    ModelCard(id="large", price=Price(input=10.0, output=40.0), context_window=128_000, capabilities=frozenset({"tools"})),
)
PLACES = "Rome Lima Oslo Cairo Paris Quito Accra Tokyo Delhi Berne Dakar Seoul Sofia Hanoi Minsk Tunis".split()
# The cheapest model that can do a kind is the one to choose.
KINDS = {
    "small": "What is the capital of the country where {place} lies, and how do I get there by train?",
    "middle": "Write a Python function that sorts {n} strings from {place} by their length.",
    "large": "Prove that the sum of the first {n} odd numbers is the square of {n}, as they teach in {place}.",
}
SYSTEM = "You are a patient helper."
ODD = ("", "   ", "zzgrblfx qqwv", "Ünïcödé 東京 😀", "a" * 3_000, "line one\n\nline two\ttab")
WORDS = {SystemMessage: "system", HumanMessage: "user", AIMessage: "assistant"}


def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


def question(rng, kind):
    return KINDS[kind].format(place=rng.choice(PLACES), n=rng.randrange(2, 900))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A router that has learned which kinds each model can do."""
    rng = random.Random(0)
    able = {kind: list(KINDS)[rank:] for rank, kind in enumerate(KINDS)}
    costs = {"small": 1e-5, "middle": 1e-4, "large": 1e-3}
    table = OutcomeTable.from_outcomes(
        Outcome(query=query, model=model, quality=float(model in able[kind]), cost=cost, latency=0.5)
        for kind in KINDS
        for query in [Query(text=question(rng, kind)) for _ in range(80)]
        for model, cost in costs.items()
    )
    place = tmp_path_factory.mktemp("artefact") / "router"
    Router(CARDS, policy=UtilityPolicy(willingness_to_pay=0.002)).fit(table).save(place)
    return place


def conversations(count):
    """Conversations in LangChain's messages, and whether tools go with them."""
    rng = random.Random(1)
    for number in range(count):
        asked = rng.choice(ODD) if number % 25 == 0 else question(rng, rng.choice(list(KINDS)))
        said = [SystemMessage(SYSTEM)] if number % 3 == 0 else []
        if number % 4 == 0:
            said += [HumanMessage(question(rng, rng.choice(list(KINDS)))), AIMessage(f"Answer {number}.")]
        yield [*said, HumanMessage(asked)], number % 5 == 0


def of_llama_index(messages):
    return [ChatMessage(role=WORDS[type(message)], content=message.content) for message in messages]


def decided(record):
    """What was decided, without what differs from call to call: its id, and what time the call took."""
    parts = ("model", "by", "reason", "propensity", "fallback", "candidates", "answered_by")
    return {part: record[part] for part in parts}


@pytest.mark.parametrize("sticky", ["none", "tool_loop"])
def test_a_thousand_conversations_are_decided_alike(folder, sticky):
    models = {card.id: ScriptedChatModel(model_name=card.id) for card in CARDS}
    llms = {card.id: ScriptedLLM(model=card.id, context_window=card.context_window) for card in CARDS}
    common = {"cards": CARDS, "sticky": sticky, "role": "helper", "default": "large"}
    one = RoutedChatModel.from_router(folder, models=models, **common)
    other = RoutedLLM.from_router(folder, llms=llms, **common)
    bound, tool = one.bind_tools([add]), FunctionTool.from_defaults(add)
    seen = []
    for messages, tools in conversations(1_000):
        first = routing_decision((bound if tools else one).invoke(messages))
        told = of_llama_index(messages)
        answer = other.chat_with_tools([tool], chat_history=told) if tools else other.chat(told)
        second = answer.additional_kwargs["agentroute"]
        assert decided(first) == decided(second), messages
        seen.append((first["model"], first["by"]))
    assert len(seen) == 1_000
    # The queries are such that there is something to decide.
    chosen = Counter(model for model, _ in seen)
    assert min(chosen[card.id] for card in CARDS) >= 100, chosen
    assert {by for _, by in seen} == {"policy", "default"}


async def test_awaited_conversations_are_decided_alike(folder):
    models = {card.id: ScriptedChatModel(model_name=card.id) for card in CARDS}
    llms = {card.id: ScriptedLLM(model=card.id, context_window=card.context_window) for card in CARDS}
    one = RoutedChatModel.from_router(folder, models=models, cards=CARDS)
    other = RoutedLLM.from_router(folder, llms=llms, cards=CARDS)
    for messages, _ in conversations(100):
        first = routing_decision(await one.ainvoke(messages))
        second = (await other.achat(of_llama_index(messages))).additional_kwargs["agentroute"]
        assert decided(first) == decided(second)
