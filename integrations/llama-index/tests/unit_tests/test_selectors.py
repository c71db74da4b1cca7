"""Choosing between query engines by the models behind them, under LlamaIndex's own router engine."""

import asyncio
import contextvars
import threading
import zlib

import numpy as np
import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.base_selector import BaseSelector, SelectorResult
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.indices import SummaryIndex
from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.query_engine import RouterQueryEngine
from llama_index.core.retrievers import RouterRetriever
from llama_index.core.schema import QueryBundle, TextNode
from llama_index.core.tools import QueryEngineTool, RetrieverTool, ToolMetadata

from agentroute.errors import ConfigError, RouterFailedWarning, UnknownModelError
from agentroute.outcomes import MemoryOutcomeLog
from agentroute.router import Router
from agentroute.types import Candidate, Decision, Outcome, Paradigm, Query
from llama_index.llms.agentroute.embeddings import LlamaIndexEmbedder
from llama_index.llms.agentroute.selectors import ModelSelector

TOPICS = ["sum", "poem", "zebra", "law"]
NODES = [TextNode(text="two and two is four"), TextNode(text="roses are red")]


class Topics(BaseEmbedding):
    model_name: str = "topics"

    def _get_text_embedding(self, text):
        noise = np.random.default_rng(zlib.crc32(text.encode())).normal(scale=0.1, size=len(TOPICS))
        return (noise + [3.0 * (topic in text) for topic in TOPICS]).tolist()

    def _get_query_embedding(self, query):
        raise AssertionError("queries must be embedded as the logged ones were")

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)


class Named(CustomLLM):
    """Answers with its name."""

    name: str

    @property
    def metadata(self):
        return LLMMetadata(model_name=self.name)

    def complete(self, prompt, formatted=False, **kwargs):
        return CompletionResponse(text=f"{self.name} answers")

    def stream_complete(self, prompt, formatted=False, **kwargs):
        yield self.complete(prompt)


@pytest.fixture
def folder(tmp_path):
    """A saved router: the small model can do sums, the large one poems, the third nothing."""
    log = MemoryOutcomeLog()
    for n in range(60):
        for topic, best in (("sum", "small"), ("poem", "large")):
            for model, quality in (("small", 0.2), ("large", 0.1), ("third", 0.0)):
                query = Query(text=f"{topic} number {n}")
                log.append(Outcome(query=query, model=model, quality=1.0 if model == best else quality))
    embedder = LlamaIndexEmbedder(Topics(), revision="1")
    Router(["small", "large", "third"], embedder=embedder, default="third").fit(log).save(tmp_path / "router")
    return tmp_path / "router"


@pytest.fixture
def router(folder):
    return Router.load(folder, embedder=LlamaIndexEmbedder(Topics(), revision="1"))


def engines(*names, tools=None):
    """One real query engine a model, each over the same two nodes."""
    index = SummaryIndex(NODES)
    return [
        QueryEngineTool.from_defaults(index.as_query_engine(llm=Named(name=name)), name=tool, description=f"asks {name}")
        for name, tool in zip(names, tools or names, strict=True)
    ]


def routed(selector, tools):
    return RouterQueryEngine.from_defaults(tools, selector=selector, llm=Named(name="nobody"))


async def select(way, selector, choices, query):
    return selector.select(choices, query) if way == "sync" else await selector.aselect(choices, query)


def by_length(query):
    return "small" if len(query.text) < 20 else "large"


both_ways = pytest.mark.parametrize("way", ["sync", "async"])


# --- in LlamaIndex ---


@both_ways
@pytest.mark.parametrize(("topic", "best"), [("sum", "small"), ("poem", "large")])
async def test_a_loaded_router_chooses_the_query_engine(way, topic, best, router):
    engine = routed(ModelSelector(router), engines("large", "third", "small"))
    question = f"write me a {topic}"
    response = engine.query(question) if way == "sync" else await engine.aquery(question)
    assert str(response) == f"{best} answers"
    assert [node.text for node in response.source_nodes] == [node.text for node in NODES]
    result = response.metadata["selector_result"]
    assert result.ind == ["large", "third", "small"].index(best)
    assert result.reason == router.route(question).reason


def test_what_the_router_does_not_know_goes_to_its_default(router):
    response = routed(ModelSelector(router), engines("small", "large", "third")).query("a zebra")
    assert str(response) == "third answers"
    response = routed(ModelSelector(router, default="large"), engines("small", "large", "third")).query("a zebra")
    assert str(response) == "large answers"


def test_a_rule_chooses_the_query_engine():
    engine = routed(ModelSelector(by_length), engines("small", "large"))
    assert str(engine.query("short")) == "small answers"
    assert str(engine.query("a question of some length")) == "large answers"


@both_ways
async def test_it_chooses_retrievers_too(way):
    tools = [
        RetrieverTool.from_defaults(SummaryIndex([node]).as_retriever(), name=name, description=name)
        for name, node in zip(("small", "large"), NODES, strict=True)
    ]
    retriever = RouterRetriever.from_defaults(tools, llm=Named(name="nobody"), selector=ModelSelector(by_length))
    found = retriever.retrieve("short") if way == "sync" else await retriever.aretrieve("short")
    assert [one.text for one in found] == ["two and two is four"]


def test_prompts_of_an_engine_are_read_and_set_as_ever():
    engine = routed(ModelSelector(by_length), engines("small", "large"))
    assert isinstance(engine._selector, BaseSelector)
    assert ModelSelector(by_length).get_prompts() == {}
    assert [name for name in engine.get_prompts() if name.startswith("selector")] == []
    other = PromptTemplate("other")
    engine.update_prompts({"summarizer:summary_template": other, "selector:none": other})
    assert engine.get_prompts()["summarizer:summary_template"].get_template() == "other"
    assert str(engine.query("short")) == "small answers"


# --- choices ---


@both_ways
@pytest.mark.parametrize("query", ["a question of some length", QueryBundle("a question of some length")])
async def test_choices_are_strings_or_tools(way, query):
    choices = ["small", ToolMetadata(name="large", description="small")]
    result = await select(way, ModelSelector(by_length), choices, query)
    assert isinstance(result, SelectorResult)
    assert (result.ind, result.reason) == (1, "the rule chose large")
    assert (await select(way, ModelSelector(by_length), choices, "short")).ind == 0


async def test_tools_of_other_names_than_their_models():
    selector = ModelSelector(by_length, models={"notes": "small", "library": "large"})
    response = await routed(selector, engines("large", "small", tools=["library", "notes"])).aquery("short")
    assert str(response) == "small answers"


@both_ways
async def test_models_that_no_choice_stands_for_are_ruled_out(way, router):
    """The best for poems is the large model; of the other two it is the small one."""
    assert router.route("a poem").ranking == ("large", "small", "third")
    assert (await select(way, ModelSelector(router), ["third", "small"], "a poem")).ind == 1


def test_a_default_without_a_choice_gives_way(router):
    result = ModelSelector(router).select(["large", "small"], "a zebra")
    assert result.reason.endswith("may not answer this query: small does")
    assert result.ind == 1


@both_ways
async def test_a_router_that_reads_no_allow_list(way, router):
    class Stubborn:
        pool = router.pool
        default = "small"

        def route(self, query):
            paradigm = Paradigm(when="pre-generation", what=("text",), how="rule")
            return Decision(model="third", candidates=(Candidate(model="third"),), reason="always", paradigm=paradigm)

    assert (await select(way, ModelSelector(Stubborn()), ["large", "third", "small"], "x")).ind == 1
    result = await select(way, ModelSelector(Stubborn()), ["large", "small"], "x")
    assert result.ind == 1
    assert "third" in result.reason


@both_ways
async def test_two_choices_of_one_model_cannot_be_told_apart(way):
    unnamed = [QueryEngineTool.from_defaults(one.query_engine).metadata for one in engines("small", "large")]
    with pytest.raises(ConfigError, match=r"two choices stand for the model 'query_engine_tool': give each tool"):
        await select(way, ModelSelector(by_length), unnamed, "x")
    with pytest.raises(ConfigError, match=r"two choices stand for the model 'small'"):
        await select(way, ModelSelector(by_length, models={"notes": "small"}), ["small", "notes"], "x")


@both_ways
async def test_a_choice_that_the_router_does_not_know_could_never_be_chosen(way, router):
    with pytest.raises(UnknownModelError, match="unknown model 'sql': the router knows 'small', 'large', 'third'"):
        await select(way, ModelSelector(router), ["small", "sql"], "x")


@both_ways
async def test_a_default_that_is_no_choice(way, router):
    for one in (router, by_length):
        with pytest.raises(UnknownModelError, match="unknown model 'third': the list of choices knows 'small', 'large'"):
            await select(way, ModelSelector(one, default="third"), ["small", "large"], "x")


def test_no_choices():
    with pytest.raises(ConfigError, match="nothing to select from"):
        ModelSelector(by_length).select([], "x")


def test_what_cannot_route():
    with pytest.raises(ConfigError, match="no route"):
        ModelSelector("router/").select(["small", "large"], "x")


# --- failures, features, concurrency ---


@both_ways
@pytest.mark.parametrize(("default", "expected"), [(None, 0), ("large", 1)])
async def test_a_rule_that_fails_costs_no_answer(way, default, expected):
    def broken(query):
        raise RuntimeError("down")

    with pytest.warns(RouterFailedWarning, match="RuntimeError: down"):
        result = await select(way, ModelSelector(broken, default=default), ["small", "large"], "x")
    assert result.ind == expected
    assert "the router failed (RuntimeError)" in result.reason


@both_ways
async def test_a_rule_that_names_nobody_we_know(way):
    with pytest.warns(RouterFailedWarning, match="unknown model 'huge'"):
        result = await select(way, ModelSelector(lambda _: "huge", default="large"), ["small", "large"], "x")
    assert result.ind == 1


@both_ways
async def test_the_router_is_told_the_query_and_its_features(way):
    seen = []

    def rule(query):
        seen.append(query)
        return "small"

    await select(way, ModelSelector(rule, role="researcher", task="extraction"), ["small", "large"], "why?")
    assert [(one.text, one.role, one.task, one.allow, one.needs) for one in seen] == [
        ("why?", "researcher", "extraction", None, frozenset())
    ]


async def test_the_loop_goes_on_while_a_router_thinks():
    """In a worker thread, and within the caller's context."""
    who = contextvars.ContextVar("who", default="nobody")
    ready = threading.Event()

    def slow(query):
        assert ready.wait(10)
        return who.get()

    who.set("large")
    choosing = asyncio.ensure_future(ModelSelector(slow).aselect(["small", "large"], "x"))
    await asyncio.sleep(0)
    ready.set()
    assert (await choosing).ind == 1


async def test_one_selector_for_many_queries_at_once(router):
    selector = ModelSelector(router)
    lists = [["small", "large", "third"], ["large", "third", "small"], ["large", "small"]]
    asked = [(lists[n % 3], ("sum", "small") if n % 2 else ("poem", "large"), n) for n in range(60)]
    results = await asyncio.gather(*(selector.aselect(choices, f"{topic} {n}") for choices, (topic, _), n in asked))
    assert [choices[one.ind] for one, (choices, _, _) in zip(results, asked, strict=True)] == [best for _, (_, best), _ in asked]
