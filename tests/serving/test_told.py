"""What providers' clients call by different names."""

from enum import Enum
from types import SimpleNamespace

import pytest

from agentroute.serving import finish_in, limit_in


class Reason(Enum):
    """As Google's clients tell it."""

    STOP = 1
    LONG = "max_tokens"


@pytest.mark.parametrize("name", ["max_completion_tokens", "max_tokens", "max_output_tokens", "num_predict", "max_new_tokens"])
def test_a_limit_has_many_names(name):
    assert limit_in({name: 7}) == 7
    assert limit_in(SimpleNamespace(**{name: 7})) == 7


def test_the_first_limit_that_is_set_counts():
    assert limit_in(None, {"max_tokens": None}, {"max_tokens": 5}, {"max_tokens": 6}) == 5
    assert limit_in({"max_tokens": 5, "max_completion_tokens": 6}) == 6
    assert limit_in({"num_predict": -1}, {"max_tokens": True}, {"max_tokens": "9"}, object()) is None
    assert limit_in() is None


@pytest.mark.parametrize("name", ["finish_reason", "stop_reason", "stopReason", "done_reason", "status"])
def test_a_reason_has_many_names(name):
    assert finish_in({name: "stop"}) == "stop"
    assert finish_in(SimpleNamespace(**{name: "stop"})) == "stop"


def test_the_first_reason_that_is_told_counts():
    assert finish_in(None, {"finish_reason": ""}, {"status": "completed"}, {"finish_reason": "stop"}) == "completed"
    assert finish_in({"finish_reason": Reason.STOP}) == "STOP"
    assert finish_in({"finish_reason": Reason.LONG}) == "max_tokens"
    assert finish_in({"status": 200}, object()) is None
