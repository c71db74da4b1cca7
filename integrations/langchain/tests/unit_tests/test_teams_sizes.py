"""What a team's session sets aside for a call: of all that is sent, and of all answers that are asked for."""

import json

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from agentroute.errors import BudgetError, NoEligibleModelError
from agentroute.teams import MemoryBudget, Mode, Role, RoleAllocator, Team
from agentroute.types import ModelCard, Price
from langchain_agentroute import CascadeChatModel, RoutedChatModel, RoutingMiddleware
from langchain_agentroute.testing import ScriptedChatModel

TEAM = Team(roles=[Role(name="solver", input_tokens=10, output_tokens=5)], modes=[Mode(name="alone")])


class Seen(MemoryBudget):
    """Keeps what was set aside."""

    def __init__(self, usd):
        super().__init__(usd)
        self.asked = []

    def reserve(self, usd):
        self.asked.append(usd)
        return super().reserve(usd)


def held(card, call):
    """USD that a session sets aside for a call."""
    budget = Seen(1e9)
    with RoleAllocator(TEAM, [card]).session("x", budget=budget):
        call()
    [usd] = budget.asked
    return usd


# --- answers ---

OUT = ModelCard(id="m", price=Price(input=0.0, output=10_000), max_output_tokens=100)  # $1 an answer


class Sampling(ScriptedChatModel):
    """A client that can be told to give several answers."""

    n: int | None = None
    max_tokens: int | None = None
    model_kwargs: dict = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("settings", "bound", "given", "usd"),
    [
        ({}, {}, {}, 1.0),
        ({}, {}, {"n": 5}, 5.0),
        ({}, {"n": 5}, {}, 5.0),
        ({"n": 5}, {}, {}, 5.0),
        ({"model_kwargs": {"candidate_count": 4}}, {}, {}, 4.0),
        ({"n": 5}, {"n": 3}, {"n": 2}, 2.0),
        ({"n": 3}, {}, {"max_tokens": 50}, 1.5),
        ({"n": 3, "max_tokens": 10}, {}, {}, 0.3),
        ({"n": None}, {}, {"n": True}, 1.0),
    ],
)
def test_all_answers_that_are_asked_for_are_set_aside_for(settings, bound, given, usd):
    chat = Sampling(model_name="m", **settings)
    model = RoutedChatModel(models={"m": chat.bind(**bound) if bound else chat}, cards=[OUT], role="solver")
    assert held(OUT, lambda: model.invoke("hi", **given)) == pytest.approx(usd)


def test_the_teams_limit_of_an_answer_counts_as_often():
    model = RoutedChatModel(models={"m": Sampling(model_name="m", n=5)}, role="solver")
    assert held(OUT, lambda: model.invoke("hi")) == pytest.approx(5.0)


def test_several_answers_may_be_too_dear():
    model = RoutedChatModel(models={"m": Sampling(model_name="m", n=5)}, cards=[OUT], role="solver")
    with RoleAllocator(TEAM, [OUT]).session("x", budget=2.0), pytest.raises(BudgetError, match="may need \\$5"):
        model.invoke("hi")


def test_an_agents_settings_count():
    agent = create_agent(
        Sampling(model_name="m", n=3),
        middleware=[RoutingMiddleware({"m": Sampling(model_name="m", n=3)}, cards=[OUT], role="solver")],
    )
    assert held(OUT, lambda: agent.invoke({"messages": [HumanMessage("hi")]})) == pytest.approx(3.0)


def test_a_cascades_own_limit_counts_them_too():
    models = {"m": Sampling(model_name="m", n=5)}
    CascadeChatModel(models=models, cards=[OUT], max_cost=5.0).invoke("hi")
    with pytest.raises(NoEligibleModelError, match="may cost \\$5"):
        CascadeChatModel(models=models, cards=[OUT], max_cost=4.9).invoke("hi")


# --- prompts ---

IN = ModelCard(id="m", price=Price(input=1000, output=0.0), max_output_tokens=100)  # $0.001 a token
WORDS = "word " * 2_000


class Big(BaseModel):
    """An object with much to say of itself."""

    a: str = Field(description=WORDS)


@tool(description=WORDS)
def wordy(a: int) -> int:
    return a


WRITTEN = {"type": "json_schema", "json_schema": {"name": "Big", "schema": Big.model_json_schema()}}


@pytest.mark.parametrize(
    "ask",
    [
        lambda model: model.bind_tools([wordy]).invoke("hi"),
        lambda model: model.invoke("hi", tools=[{"type": "function", "function": {"name": "x", "description": WORDS}}]),
        lambda model: model.with_structured_output(Big).invoke("hi 'x'"),
        lambda model: model.invoke("hi", response_format=WRITTEN),
        lambda model: model.bind_tools([], response_format=WRITTEN).invoke("hi"),
    ],
)
def test_tools_and_schemas_are_part_of_the_prompt(ask):
    model = RoutedChatModel(models={"m": ScriptedChatModel(model_name="m")}, cards=[IN], role="solver")
    assert held(IN, lambda: model.invoke("hi")) < 0.1
    assert held(IN, lambda: ask(model)) > 2.0


def test_what_is_bound_to_a_candidate_is_part_of_its_prompt():
    bound = ScriptedChatModel(model_name="m").bind_tools([wordy])
    model = RoutedChatModel(models={"m": bound}, cards=[IN], role="solver")
    assert len(json.dumps(bound.kwargs["tools"])) > len(WORDS)
    assert held(IN, lambda: model.invoke("hi")) > 2.0
