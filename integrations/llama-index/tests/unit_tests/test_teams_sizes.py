"""What a team's session sets aside for a call: of all that a candidate sends, and of all answers that are asked for."""

import pytest
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.output_parsers import PydanticOutputParser
from llama_index.core.prompts import PromptTemplate, PromptType, SelectorPromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel, Field

from agentroute.errors import BudgetError, NoEligibleModelError
from agentroute.teams import MemoryBudget, Mode, Role, RoleAllocator, Team
from agentroute.types import ModelCard, Price
from llama_index.llms.agentroute import CascadeLLM, RoutedLLM
from llama_index.llms.agentroute.testing import ScriptedLLM

TEAM = Team(roles=[Role(name="solver", input_tokens=10, output_tokens=5)], modes=[Mode(name="alone")])
WORDS = "word " * 2_000
HI = [ChatMessage("hi")]
ADD = PromptTemplate("add {number}")
IN = ModelCard(id="m", price=Price(input=1000, output=0.0), max_output_tokens=100)  # $0.001 a token
OUT = ModelCard(id="m", price=Price(input=0.0, output=10_000), max_output_tokens=100)  # $1 an answer


class Seen(MemoryBudget):
    """Keeps what was set aside."""

    def __init__(self, usd):
        super().__init__(usd)
        self.asked = []

    def reserve(self, usd):
        self.asked.append(usd)
        return super().reserve(usd)


def held(card, ask):
    """USD that a session sets aside for a call."""
    budget = Seen(1e9)
    with RoleAllocator(TEAM, [card]).session("x", budget=budget):
        ask()
    [usd] = budget.asked
    return usd


def routed(llm=None, card=IN, **kwargs):
    return RoutedLLM(llms={"m": llm or ScriptedLLM(model="m")}, cards=[card], role="solver", **kwargs)


# --- prompts ---


class Small(BaseModel):
    """An object."""

    number: int


class Big(BaseModel):
    """An object with much to say of itself."""

    number: int = Field(description=WORDS)


def wordy(number: int) -> int:
    return number


wordy.__doc__ = WORDS
TOOL = FunctionTool.from_defaults(wordy)


@pytest.mark.parametrize("calls_tools", [True, False])
@pytest.mark.parametrize("kind", ["whole", "stream"])
def test_a_schema_is_part_of_the_prompt(calls_tools, kind):
    llm = routed(ScriptedLLM(model="m", calls_tools=calls_tools, replies=[] if calls_tools else ['{"number": 1}'] * 2))

    def ask(schema):
        if kind == "stream":
            return lambda: list(llm.stream_structured_predict(schema, ADD, number=1))
        return lambda: llm.structured_predict(schema, ADD, number=1)

    assert held(IN, ask(Small)) < 0.5
    assert held(IN, ask(Big)) > 2.0


@pytest.mark.parametrize(
    "ask",
    [
        lambda llm: llm.chat_with_tools([TOOL], "hi"),
        lambda llm: llm.predict_and_call([TOOL], "1"),
        lambda llm: llm.chat(HI, tools=[TOOL.metadata.to_openai_tool(skip_length_check=True)]),
        lambda llm: llm.chat(HI, response_format={"type": "json_schema", "json_schema": {"schema": Big.model_json_schema()}}),
        lambda llm: llm.as_structured_llm(Big).chat([ChatMessage("1")]),
    ],
)
def test_tools_and_schemas_are_part_of_the_prompt(ask):
    assert held(IN, lambda: routed().chat(HI)) < 0.1
    assert held(IN, lambda: ask(routed())) > 2.0


PREPARED = [
    lambda llm: llm.chat(HI),
    lambda llm: list(llm.stream_chat(HI)),
    lambda llm: llm.complete("hi"),
    lambda llm: llm.predict(ADD, number=1),
    lambda llm: llm.structured_predict(Small, ADD, number=1),
    lambda llm: llm.chat_with_tools([FunctionTool.from_defaults(lambda number: number, name="f")], "1"),
    lambda llm: llm.predict_and_call([FunctionTool.from_defaults(lambda number: number, name="f")], "1"),
]


@pytest.mark.parametrize("number", range(len(PREPARED)))
def test_what_is_counted_is_what_a_candidate_gets_to_see(number):
    def prepare(messages, llm):
        return [ChatMessage(role=MessageRole.SYSTEM, content=WORDS), *messages]

    assert held(IN, lambda: PREPARED[number](routed())) < 0.5
    assert held(IN, lambda: PREPARED[number](routed(prepare_messages=prepare))) > 2.0


def test_each_candidates_own_words_are_its_own():
    cards = [IN, ModelCard(id="other", price=IN.price, max_output_tokens=100)]
    llms = {"m": ScriptedLLM(model="m", system_prompt=WORDS), "other": ScriptedLLM(model="other")}
    llm, usd = RoutedLLM(llms=llms, cards=cards, role="solver"), {}
    for name in llms:
        budget = Seen(1e9)
        with RoleAllocator(TEAM, cards).session("x", budget=budget, fixed={"solver": name}):
            llm.predict(ADD, number=1)
        [usd[name]] = budget.asked
    assert usd["other"] < 0.1
    assert usd["m"] > 2.0


@pytest.mark.parametrize(
    "settings",
    [
        {"system_prompt": WORDS},
        {"query_wrapper_prompt": PromptTemplate(WORDS + "{query_str}")},
        {"output_parser": PydanticOutputParser(Big)},
    ],
)
def test_a_candidates_own_prompts_count_where_it_uses_them(settings):
    def ask():
        return routed(ScriptedLLM(model="m", replies=['{"number": 1}'], **settings)).predict(ADD, number=1)

    assert held(IN, ask) > 2.0
    assert held(IN, lambda: routed(ScriptedLLM(model="m", **settings)).chat(HI)) < 0.1


def test_a_templates_parser_and_its_form_for_the_model_count():
    parsed = PromptTemplate("add {number}", output_parser=PydanticOutputParser(Big))
    assert held(IN, lambda: routed().predict(parsed, number=1)) > 2.0
    wide = PromptTemplate(WORDS + "{number}")
    chosen = SelectorPromptTemplate(default_template=ADD, conditionals=[(lambda llm: True, wide)])
    assert held(IN, lambda: routed().predict(chosen, number=1)) > 2.0


def test_a_parser_that_cannot_say_what_it_asks_for_costs_nobody_the_call():
    class Odd(PydanticOutputParser):
        def format(self, query):
            if not query:
                raise ZeroDivisionError
            return query

    parsed = PromptTemplate("add {number}", output_parser=Odd(Small), prompt_type=PromptType.CUSTOM)
    assert held(IN, lambda: routed(ScriptedLLM(model="m", replies=['{"number": 1}'])).predict(parsed, number=1)) < 0.5


def test_a_mistake_in_what_the_user_prepares_sets_nothing_aside():
    def broken(messages, llm):
        raise ZeroDivisionError

    budget = Seen(1.0)
    with RoleAllocator(TEAM, [IN]).session("x", budget=budget) as session:
        with pytest.raises(ZeroDivisionError):
            routed(prepare_messages=broken).chat(HI)
        assert budget.left() == pytest.approx(1.0)
        assert session.finish().roles == {}


# --- answers ---


@pytest.mark.parametrize(
    ("settings", "given", "usd"),
    [
        ({}, {}, 1.0),
        ({}, {"n": 5}, 5.0),
        ({"additional_kwargs": {"n": 5}}, {}, 5.0),
        ({"additional_kwargs": {"n": 5}}, {"n": 2}, 2.0),
        ({}, {"n": 3, "max_tokens": 50}, 1.5),
        ({"additional_kwargs": {"candidate_count": 3, "max_tokens": 10}}, {}, 0.3),
    ],
)
def test_all_answers_that_are_asked_for_are_set_aside_for(settings, given, usd):
    assert held(OUT, lambda: routed(Sampling(model="m", **settings), OUT).chat(HI, **given)) == pytest.approx(usd)


class Sampling(ScriptedLLM):
    """A client that can be told to give several answers."""

    additional_kwargs: dict = Field(default_factory=dict)


def test_the_teams_limit_of_an_answer_counts_as_often():
    llm = RoutedLLM(llms={"m": Sampling(model="m", additional_kwargs={"n": 5})}, role="solver")
    assert held(OUT, lambda: llm.chat(HI)) == pytest.approx(5.0)


def test_an_objects_answers_count():
    assert held(OUT, lambda: routed(card=OUT).structured_predict(Small, ADD, {"n": 4}, number=1)) == pytest.approx(4.0)


def test_several_answers_may_be_too_dear():
    with RoleAllocator(TEAM, [OUT]).session("x", budget=2.0), pytest.raises(BudgetError, match="may need \\$5"):
        routed(card=OUT).chat(HI, n=5)


def test_a_cascades_own_limit_counts_all_of_it_too():
    llms = {"m": ScriptedLLM(model="m")}
    CascadeLLM(llms=llms, cards=[OUT], max_cost=5.0).chat(HI, n=5)
    with pytest.raises(NoEligibleModelError, match="may cost \\$5"):
        CascadeLLM(llms=llms, cards=[OUT], max_cost=4.9).chat(HI, n=5)
    CascadeLLM(llms=llms, cards=[IN], max_cost=1.0).structured_predict(Small, ADD, number=1)
    with pytest.raises(NoEligibleModelError, match="may cost"):
        CascadeLLM(llms=llms, cards=[IN], max_cost=1.0).structured_predict(Big, ADD, number=1)
