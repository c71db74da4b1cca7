"""The scripted model refuses what it would otherwise ignore."""

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from pydantic import BaseModel

from agentroute.errors import ConfigError
from langchain_agentroute.testing import ScriptedChatModel


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("responses", "replies"),
        ("response", "replies"),
        ("reply", "replies"),
        ("breaks_after", "break_after"),
        ("models_name", "model_name"),
        ("input_token", "input_tokens"),
    ],
)
def test_misspelt_arguments(wrong, right):
    with pytest.raises(ConfigError, match=f"a scripted model has no argument '{wrong}': did you mean '{right}'"):
        ScriptedChatModel(**{wrong: ["x"]})


def test_arguments_that_tools_hand_to_any_model():
    model = ScriptedChatModel(temperature=0, max_tokens=10, timeout=60, max_retries=2, replies=["x"])
    assert model.invoke("?").text == "x"


class Product(BaseModel):
    """A product."""

    value: int


def multiply(a: int, b: int) -> int:
    """The product of two whole numbers."""
    return a * b


def test_an_agent_with_a_tool_and_a_schema_comes_to_its_end():
    agent = create_agent(ScriptedChatModel(), tools=[multiply], response_format=ToolStrategy(Product))
    state = agent.invoke({"messages": [("user", "31 times 37")]}, {"recursion_limit": 10})
    assert state["structured_response"] == Product(value=31)
    assert [call["name"] for message in state["messages"] for call in getattr(message, "tool_calls", ())] == [
        "multiply",
        "Product",
    ]
