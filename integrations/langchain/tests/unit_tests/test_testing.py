"""The scripted model refuses what it would otherwise ignore."""

import pytest

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
