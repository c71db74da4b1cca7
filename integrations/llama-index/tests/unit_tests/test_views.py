"""How candidates are asked: through views that share all they have, that listeners hear, and that tell what was spent."""

import pickle
from unittest.mock import patch

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatResponse, ToolCallBlock
from llama_index.core.bridge.pydantic import Field
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import ChatMessage

from agentroute.types import ModelCard, Price, Score
from llama_index.llms.agentroute import CascadeLLM, RoutedLLM
from llama_index.llms.agentroute.testing import ScriptedLLM

# Agents look at all attributes of theirs when they are made, pydantic's old ones among them.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pydantic.warnings.PydanticDeprecationWarning", "ignore:is_running called from within a step:DeprecationWarning"
)

SAY = [ChatMessage("x")]
ONE_USD = Price(input=1e6, output=0)


class Telling(ScriptedLLM):
    """Has the settings of a provider that tells probabilities, and keeps what they were when it was asked."""

    logprobs: bool | None = None
    top_logprobs: int = 0
    temperature: float = 0.1
    told: list = Field(default_factory=list)

    def _response(self, *args, **kwargs):
        self.told.append((self.logprobs, self.top_logprobs, self.temperature))
        return super()._response(*args, **kwargs)


class Judge:
    """Reads probabilities, and likes no answer."""

    name = "judge"
    ceiling = 0.0

    def __init__(self, *needs):
        self.needs = frozenset(needs)

    def score(self, query, reply):
        return Score(value=0.0)

    async def ascore(self, query, reply):
        return Score(value=0.0)


def counting():
    counter = TokenCountingHandler()
    return counter, CallbackManager([counter])


class Log:
    def __init__(self):
        self.outcomes = []

    def append(self, outcome):
        self.outcomes.append(outcome)


# --- who listens ---


def test_another_manager_takes_the_place_of_the_first(team):
    """`Settings.callback_manager` can change at any time, and `Settings.llm` hands it on."""
    (first, one), (second, two) = counting(), counting()
    llm = team.routed(callback_manager=one)
    llm.chat(SAY)
    llm.callback_manager = two
    llm.chat(SAY)
    assert (first.total_llm_token_count, second.total_llm_token_count) == (15, 15)


def test_two_routed_llms_over_one_candidate_have_listeners_of_their_own(team):
    (first, one), (second, two) = counting(), counting()
    before = team.small.callback_manager
    a, b = team.routed(callback_manager=one), team.routed(callback_manager=two)
    for llm in (a, b, b):
        llm.chat(SAY)
    assert (first.total_llm_token_count, second.total_llm_token_count) == (15, 30)
    assert team.small.callback_manager is before


async def test_listeners_hear_the_candidates_of_a_candidate(door, team):
    counter, manager = counting()
    if door.shape != "structured":  # core's StructuredLLM is a second LLM, and counts beside the one within
        await door(RoutedLLM(llms={"inner": team.routed()}, callback_manager=manager))
        assert counter.total_llm_token_count == 15


@pytest.mark.parametrize(("needs", "asked"), [(("logprobs",), (True, 1)), (("top_logprobs",), (True, 5))])
def test_judged_calls_are_heard_and_read_settings_as_they_are(needs, asked):
    counter, manager = counting()
    small, large = Telling(model="small", told=[]), Telling(model="large", told=[])
    llm = CascadeLLM(llms={"small": small, "large": large}, judge=Judge(*needs))
    llm.callback_manager = manager
    small.temperature = 0.7
    llm.chat(SAY)
    assert counter.total_llm_token_count == 30
    assert small.told == [(*asked, 0.7)]
    assert large.told == [(None, 0, 0.1)]
    assert (small.logprobs, small.top_logprobs) == (None, 0)


# --- a routed LLM as a candidate ---


@pytest.mark.parametrize("style", ["openai", "blocks", "kwargs"])
@pytest.mark.parametrize("kind", [RoutedLLM, CascadeLLM])
async def test_tool_calls_are_read_by_the_innermost_author(kind, style, add_tool):
    call = ToolCallBlock(tool_call_id="1", tool_name="add", tool_kwargs={"a": 3, "b": 4})
    writer = ScriptedLLM(model="b", replies=[call, call], tool_style=style)
    inner = kind(llms={"b": writer, "a": ScriptedLLM(model="a", calls_tools=False)})
    # Names may be the same at both levels.
    outer, team = RoutedLLM(llms={"a": inner}), RoutedLLM(llms={"team": inner})
    for writes, reads in [(outer, outer), (team, inner)]:
        (found,) = reads.get_tool_calls_from_response(writes.chat_with_tools([add_tool], "What?"))
        assert (found.tool_name, found.tool_kwargs) == ("add", {"a": 3, "b": 4})
    writer.replies = [*writer.replies[:2], call, "It is 7."]
    result = await FunctionAgent(tools=[add_tool], llm=outer, streaming=False).run("What?")
    assert [one.tool_output.content for one in result.tool_calls] == ["7"]


@pytest.mark.parametrize("own_prompt", [None, "Be brief."])
@pytest.mark.parametrize("kind", [RoutedLLM, CascadeLLM])
async def test_every_door_tells_what_a_routed_candidate_has_spent(kind, own_prompt, door):
    log = Log()
    inner = kind(llms={"a": ScriptedLLM(model="a")}, system_prompt=own_prompt)
    cards = {"inner": ModelCard(id="inner", price=ONE_USD)}
    outer = RoutedLLM(llms={"inner": inner}, outcome_log=log, cards=cards)
    await door(outer)
    assert outer.outcome_log.flush(5)
    ((usage, cost),) = [(one.usage, one.cost) for one in log.outcomes]
    assert (usage.input_tokens, usage.output_tokens, cost) == (10, 5, 10.0)


async def test_every_door_tells_what_the_rejected_answers_of_a_candidate_have_cost(door):
    log = Log()
    cards = {"a": ModelCard(id="a", price=ONE_USD), "b": ModelCard(id="b", price=Price(input=2e6, output=0))}
    llms = {name: ScriptedLLM(model=name) for name in "ab"}
    inner = CascadeLLM(llms=llms, judge=Judge(), cards=cards)
    outer = RoutedLLM(llms={"inner": inner}, outcome_log=log, cards={"inner": ModelCard(id="inner", price=ONE_USD)})
    await door(outer)
    assert outer.outcome_log.flush(5)
    ((usage, cost),) = [(one.usage, one.cost) for one in log.outcomes]
    assert (usage.input_tokens, usage.output_tokens, cost) == (20, 10, 30.0)


async def test_a_failed_attempt_within_is_no_unknown_usage(door):
    log = Log()
    llms = {"a": ScriptedLLM(model="a", replies=[ConnectionError()]), "b": ScriptedLLM(model="b")}
    outer = RoutedLLM(llms={"inner": RoutedLLM(llms=llms)}, outcome_log=log)
    await door(outer)
    assert outer.outcome_log.flush(5)
    assert [(one.error, one.usage.input_tokens) for one in log.outcomes] == [(None, 10)]


def test_what_a_tool_asks_of_another_routed_llm_is_not_the_candidates(team, add_tool):
    """A tool runs within `predict_and_call`; what it asks for is its own."""
    from llama_index.core.tools import FunctionTool

    other, log = RoutedLLM(llms={"other": ScriptedLLM(model="other", input_tokens=1000)}), Log()
    tool = FunctionTool.from_defaults(lambda a: other.predict(PromptTemplate("{a}"), a=str(a)), name="ask", description="Asks.")
    outer = RoutedLLM(llms={"small": team.small}, outcome_log=log)
    outer.predict_and_call([tool], "What?")
    assert outer.outcome_log.flush(5)
    assert [one.usage.input_tokens for one in log.outcomes] == [10]
    assert len(other.llms["other"].calls) == 1


# --- what stands on a stream ---


async def test_the_last_chunk_tells_what_the_answer_has_taken(recording_stream):
    llm = RoutedLLM(llms={"small": ScriptedLLM(model="small")}, cards={"small": ModelCard(id="small", price=ONE_USD)})
    items = await recording_stream.items(llm)
    told = recording_stream.record(items[-1])["attempts"][-1]
    assert (told["usage"]["input_tokens"], told["usage"]["output_tokens"], told["cost"]) == (10, 5, 10.0)


async def test_the_last_chunk_of_a_cascade_tells_it_of_every_attempt(recording_stream):
    cards = {name: ModelCard(id=name, price=ONE_USD) for name in "ab"}
    llm = CascadeLLM(llms={name: ScriptedLLM(model=name) for name in "ab"}, judge=Judge(), cards=cards)
    items = await recording_stream.items(llm)
    record = recording_stream.record(items[-1])
    assert [(one["model"], one["usage"]["input_tokens"], one["cost"]) for one in record["attempts"]] == [
        ("a", 10, 10.0),
        ("b", 10, 10.0),
    ]
    assert (record["total_usage"]["input_tokens"], record["total_cost"]) == (20, 20.0)


# --- a view is the LLM ---


def test_a_method_that_is_replaced_after_the_first_call_is_the_one_that_is_called(team):
    llm = team.routed()
    llm.chat(SAY)

    def fake(self, messages, **kwargs):
        return ChatResponse(message=ChatMessage("fake", role="assistant"))

    with patch.object(ScriptedLLM, "chat", fake):
        assert llm.chat(SAY).message.content == "fake"
    assert llm.chat(SAY).message.content == "[small] answer to: x"


class Slotted(ScriptedLLM):
    """Keeps a value beside its fields."""

    __slots__ = ("extra",)

    def model_post_init(self, context):
        super().model_post_init(context)
        object.__setattr__(self, "extra", "kept")

    def chat(self, messages, **kwargs):
        return super().chat([ChatMessage(self.extra)], **kwargs)


class Pickling(ScriptedLLM):
    """Asks itself what it is."""

    def chat(self, messages, **kwargs):
        assert self.__class__ is Pickling
        revived = pickle.loads(pickle.dumps(self))
        assert (type(revived), revived.model) == (Pickling, self.model)
        return super().chat(messages, **kwargs)


class Copying(ScriptedLLM):
    """Asks through a copy of itself, and writes down a new name."""

    def predict(self, prompt, **kwargs):
        self.model = "renamed"
        return self.model_copy().chat([ChatMessage("copied")]).message.content


class Renewing(ScriptedLLM):
    """Asks another one of its class."""

    def chat(self, messages, **kwargs):
        return super().chat(messages, **kwargs) if self.model == "new" else type(self)(model="new").chat(messages)


def test_what_an_llm_keeps_in_slots_is_there():
    assert RoutedLLM(llms={"s": Slotted(model="s")}).chat(SAY).message.content == "[s] answer to: kept"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_llm_can_pickle_itself_while_it_is_asked():
    assert RoutedLLM(llms={"s": Pickling(model="s")}).chat(SAY).message.content == "[s] answer to: x"


def test_what_an_llm_asks_through_a_copy_of_itself_is_heard_and_what_it_writes_is_kept():
    small, log = Copying(model="s"), Log()
    llm = RoutedLLM(llms={"s": small}, outcome_log=log)
    assert llm.predict(PromptTemplate("x")) == "[renamed] answer to: copied"
    assert llm.outcome_log.flush(5)
    assert [one.usage.input_tokens for one in log.outcomes] == [10]
    assert small.model == "renamed"


def test_an_llm_can_make_another_of_its_class():
    assert RoutedLLM(llms={"s": Renewing(model="s")}).chat(SAY).message.content == "[new] answer to: x"
