"""Answers as scorers read them."""

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.program.utils import create_flexible_model
from pydantic import BaseModel

from llama_index.llms.agentroute import CascadeLLM
from llama_index.llms.agentroute._replies import finish_of, reply_of
from llama_index.llms.agentroute.testing import ScriptedLLM


class Found(BaseModel):
    """All of it may be missing in the text."""

    city: str | None = None
    year: int | None = None


class Nothing(BaseModel):
    """An object without fields."""


@pytest.mark.parametrize("answer", [Found(), Nothing(), Found(city="Rome")])
def test_an_object_with_nothing_in_it_may_be_the_answer(answer):
    assert reply_of(answer).problem is None


def test_what_llamaindex_gives_in_the_place_of_an_object_is_none(pair):
    blank = create_flexible_model(pair)()
    for answer in (blank, pair.model_construct(), pair.model_construct(name="Ann")):
        assert reply_of(answer).problem == "the answer holds no object of the schema"
    assert reply_of(pair(name="Ann", number=3)).problem is None


@pytest.mark.parametrize("calls_tools", [False, True])
def test_a_cascade_takes_an_object_with_nothing_in_it(calls_tools):
    small, large = (ScriptedLLM(model=name, calls_tools=calls_tools, replies=[Found()]) for name in ("small", "large"))
    llm = CascadeLLM(llms={"small": small, "large": large})
    assert llm.structured_predict(Found, PromptTemplate("A text.")) == Found()
    assert not large.calls


def test_amazons_reason_is_read():
    assert finish_of(ChatResponse(message=ChatMessage("hi"), raw={"stopReason": "end_turn"})) == "end_turn"
