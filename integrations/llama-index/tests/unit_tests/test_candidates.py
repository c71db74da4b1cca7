"""The LLMs behind a routed one: names, what they can do, and what they promise together."""

import warnings

import pytest
from llama_index.core.base.llms.types import LLMMetadata, MessageRole
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.llms import CustomLLM, MockLLM
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.prompts.default_prompts import DEFAULT_TEXT_QA_PROMPT
from llama_index.llms.openai import OpenAI
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from agentroute.errors import AgentRouteWarning, ConfigError, DuplicateModelError, NoEligibleModelError, UnknownModelError
from agentroute.pool import ModelPool
from agentroute.types import ModelCard, Price, Query
from llama_index.llms.agentroute._candidates import metadata_of, named, pool_of, targets_of


class Answer(BaseModel):
    """A schema."""

    number: int


def like(model="m", **kwargs):
    kwargs = {"context_window": 8_000, "is_function_calling_model": True, "is_chat_model": True, **kwargs}
    return OpenAILike(model=model, api_base="http://model.test/v1", api_key="none", **kwargs)


class Told(CustomLLM):
    """Tells of itself what it is told to. Has no doors for tools, whatever it says."""

    window: int = 4_096
    output: int = -1
    says_tools: bool = False
    name: str = "told"

    @property
    def metadata(self):
        return LLMMetadata(
            context_window=self.window,
            num_output=self.output,
            is_function_calling_model=self.says_tools,
            model_name=self.name,
        )

    def complete(self, prompt, formatted=False, **kwargs):
        raise NotImplementedError

    def stream_complete(self, prompt, formatted=False, **kwargs):
        raise NotImplementedError


class Down(MockLLM):
    """Its metadata are on a server that is not up."""

    @property
    def metadata(self):
        raise ConnectionError("secret-key at model.test")


def targets(*llms, **by_name):
    return targets_of(named(by_name or llms))


def test_names_are_the_mappings_or_the_models_own():
    small, large = like("small"), like("large")
    assert named({"s": small, "l": large}) == {"s": small, "l": large}
    found = named([large, small])
    assert list(found) == ["large", "small"]
    assert found["small"] is small


def test_two_of_one_name_are_refused():
    with pytest.raises(DuplicateModelError, match="'m'"):
        named([like(), like()])
    # By names of one's own they may be the same model.
    assert list(named({"calm": like(temperature=0.0), "wild": like(temperature=1.0)})) == ["calm", "wild"]


@pytest.mark.parametrize("nothing", [{}, [], ()])
def test_there_must_be_a_candidate(nothing):
    with pytest.raises(ConfigError, match="at least one"):
        named(nothing)


@pytest.mark.parametrize("one", [MockLLM(), "gpt", None, 3])
def test_one_llm_alone_is_no_choice(one):
    with pytest.raises(ConfigError, match="several"):
        named(one)


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_name_must_be_one(name):
    with pytest.raises(ConfigError, match="needs a name"):
        named({name: MockLLM()})


@pytest.mark.parametrize("llm", ["gpt", None, MockEmbedding(embed_dim=2), OpenAI])
def test_what_is_no_llm_is_refused(llm):
    with pytest.raises(ConfigError, match="not an LLM"):
        named({"a": llm})
    with pytest.raises(ConfigError, match="candidate 0 is a"):
        named([llm])


def test_a_structured_llm_is_refused_with_advice():
    with pytest.raises(ConfigError, match=r"'a' is a StructuredLLM.*call \.as_structured_llm\(\.\.\.\) on the routed LLM"):
        named({"a": like().as_structured_llm(Answer)})


def test_a_model_that_does_not_tell_its_name_needs_one():
    # LlamaIndex's "unknown" is no name.
    with pytest.raises(ConfigError, match="MockLLM does not tell its model's name"):
        named([MockLLM()])
    assert list(named({"a": MockLLM()})) == ["a"]


def test_a_model_that_its_client_does_not_know_is_told_of_at_once():
    with pytest.raises(ConfigError, match=r"'a' cannot tell its metadata \(ValueError\).*OpenAILike") as caught:
        targets(a=OpenAI(model="my-own-model", api_key="none"))
    assert isinstance(caught.value.__cause__, ValueError)


def test_what_an_unreachable_server_says_is_not_repeated():
    with pytest.raises(ConfigError, match="see that its server is up") as caught:
        targets(a=Down())
    assert "secret-key" not in str(caught.value)


def test_tools_are_called_by_who_has_the_doors_and_says_so():
    found = targets(
        both=like(),
        silent=like(is_function_calling_model=False),
        says=Told(says_tools=True),
        neither=Told(),
        mock=MockFunctionCallingLLM(),
    )
    assert {name: target.calls_tools for name, target in found.items()} == {
        "both": True,
        "silent": False,
        # What LlamaIndex's StructuredLLM does, and fails with an AttributeError in an agent.
        "says": False,
        "neither": False,
        "mock": True,
    }
    assert [target.name for target in found.values()] == list(found)


def test_cards_are_filled_from_what_the_llms_tell():
    found = targets(a=like(max_tokens=500), b=Told(window=-1, output=256))
    pool = pool_of(found, None, None)
    assert pool.card("a") == ModelCard(id="a", context_window=8_000)
    # No window, and LlamaIndex's default room for an answer, tell nothing; no doors for tools do.
    assert pool.card("b").context_window is None
    assert pool.card("b").max_output_tokens is None
    assert pool.card("b").capabilities == {"structured_output", "image", "audio", "video", "pdf"}


def test_the_users_card_goes_before_the_routers_and_the_llms():
    learned = ModelPool([ModelCard(id="a", price=Price(input=1, output=2), context_window=6_000), ModelCard(id="b")])
    pool = pool_of(targets(a=like(), b=like()), [ModelCard(id="a", context_window=5_000)], learned)
    assert pool.ids == ("a", "b")
    assert pool.card("a") == ModelCard(id="a", price=Price(input=1, output=2), context_window=5_000)
    assert pool.card("b").context_window == 8_000


def test_names_that_do_not_fit_together_are_refused():
    with pytest.raises(UnknownModelError):
        pool_of(targets(a=like()), [ModelCard(id="b")], None)
    with pytest.raises(ConfigError, match="the router may choose 'b'"):
        pool_of(targets(a=like()), None, ModelPool(["a", "b"]))


def test_who_has_no_doors_for_tools_is_not_asked_for_them_whatever_a_card_says():
    cards = [ModelCard(id="text", capabilities={"tools", "image"}), ModelCard(id="agent", capabilities={"tools"})]
    learned = ModelPool([ModelCard(id="text", capabilities={"tools"}), "agent"])
    found = targets(text=Told(), agent=like())
    for pool in (pool_of(found, cards, None), pool_of(found, None, learned), pool_of(found, None, None)):
        assert pool.eligible(Query(text="?", needs={"tools"})) == (1,)
        assert pool.eligible(Query(text="?")) == (0, 1)
    assert pool_of(found, cards, None).card("text").capabilities == {"image"}
    with pytest.raises(NoEligibleModelError):
        pool_of(targets(text=Told()), None, None).eligible(Query(text="?", needs={"tools"}))


def test_a_window_that_nobody_set_is_told_of_once():
    found = targets(a=Told(window=DEFAULT_CONTEXT_WINDOW), b=Told(window=DEFAULT_CONTEXT_WINDOW), c=like())
    with pytest.warns(AgentRouteWarning, match=r"'a', 'b': the window is LlamaIndex's default of 3900 tokens") as told:
        pool = pool_of(found, None, None)
    assert len(told) == 1
    assert [card.context_window for card in pool] == [3_900, 3_900, 8_000]


def test_a_window_on_a_card_is_set():
    found = targets(a=Told(window=DEFAULT_CONTEXT_WINDOW))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pool_of(found, [ModelCard(id="a", context_window=32_000)], None).card("a").context_window == 32_000
        # A model of just that size that says so otherwise.
        assert pool_of(targets(a=like()), [ModelCard(id="a", context_window=3_900)], None).card("a").context_window == 3_900


def test_together_they_promise_the_window_that_is_asked_for():
    found = targets(small=Told(window=2_048), large=like(context_window=128_000))
    assert metadata_of(found, "min").context_window == 2_048
    assert metadata_of(found, "max").context_window == 128_000
    assert metadata_of(found, 32_000).context_window == 32_000
    cards = ModelPool([ModelCard(id="small", context_window=4_000), "large"])
    assert metadata_of(found, "min", cards).context_window == 4_000
    assert metadata_of(found, "max", cards).context_window == 128_000


@pytest.mark.parametrize("window", [0, -1, True, "mean", None, 2.5])
def test_a_window_must_be_one(window):
    with pytest.raises(ConfigError, match="must be 'min', 'max' or a number"):
        metadata_of(targets(a=like()), window)


def test_a_candidate_without_a_window_does_not_narrow_the_others():
    assert metadata_of(targets(a=Told(window=-1), b=like()), "min").context_window == 8_000
    assert metadata_of(targets(a=Told(window=-1)), "min").context_window == DEFAULT_CONTEXT_WINDOW


def test_the_smallest_window_makes_more_calls_and_the_largest_does_not():
    """Why the policy can be chosen: one small candidate triples the calls of a query engine, although none goes to it."""
    found = targets(small=Told(window=2_048, output=256), large=Told(window=128_000, output=256))
    texts = ["words " * 400] * 9

    def calls(window):
        helper = PromptHelper.from_llm_metadata(metadata_of(found, window))
        return len(helper.repack(DEFAULT_TEXT_QA_PROMPT, texts))

    assert calls("max") == calls(128_000) == 1
    assert calls("min") >= 3


def test_together_they_are_what_agents_ask_for():
    both = metadata_of(targets(text=Told(output=300), agent=like(max_tokens=500)), "min")
    assert both.is_function_calling_model is True
    assert both.is_chat_model is True
    assert both.system_role == MessageRole.SYSTEM
    assert both.model_name == "routed(text,agent)"
    assert both.num_output == 300
    assert metadata_of(targets(text=Told(output=300), agent=like()), "min").num_output == -1
    assert metadata_of(targets(text=Told(says_tools=True)), "min").is_function_calling_model is False
