"""Real language models behind a routed LLM: every door, query and chat engines, objects, an agent and a cascade."""

import os

import httpx
import pytest
from llama_index.core import PromptTemplate, VectorStoreIndex
from llama_index.core.agent.react import ReActChatFormatter
from llama_index.core.agent.workflow import ReActAgent
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.schema import TextNode
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from agentroute.collection import load_ladder, pool_of
from agentroute.embedders import StaticEmbedder
from agentroute.errors import MissingExtraError
from agentroute.local import LocalServer, ModelUnavailableError
from agentroute.outcomes import MemoryOutcomeLog
from agentroute.policies import UtilityPolicy
from agentroute.router import Router
from agentroute.scorers import LogprobScorer
from llama_index.llms.agentroute import CascadeLLM, RoutedLLM, UsageLedger

pytestmark = pytest.mark.local

POOL = SMALL, LARGE = ("smollm2-135m", "qwen2.5-coder-0.5b")
CAPITAL = "What is the capital of Peru? Answer with only the city name."
FACTS = (
    "The Marigold Library is open from nine to five. It is closed on Mondays.",
    "The swimming hall of Eastport has water of 27 degrees.",
    "Dogs are allowed in the Rose Garden if they are on a lead.",
)
PEOPLE = {
    "Omar is a 41 year old pilot from Kyoto.": ("Omar", 41),
    "Alice, 29, works as a nurse in Madrid.": ("Alice", 29),
}
EXTRACT = PromptTemplate("Who is this? Extract name and age.\n{query_str}")
BOTH = pytest.mark.parametrize("way", ["sync", "async"])


class Person(BaseModel):
    """A person."""

    name: str
    age: int


class Static(BaseEmbedding):
    """The core's default embedder, for LlamaIndex's own retrieval."""

    def _get_text_embedding(self, text):
        return StaticEmbedder().embed([text])[0].tolist()

    _get_query_embedding = _get_text_embedding

    async def _aget_query_embedding(self, query):
        return self._get_text_embedding(query)


@pytest.fixture(scope="module")
def servers():
    """Both models, each in a process of its own. Where they cannot be had, CI fails and others skip."""
    started = []
    try:
        started.extend(LocalServer(name).start() for name in POOL)
        yield {server.model: server for server in started}
    except (ModelUnavailableError, MissingExtraError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    finally:
        for server in started:
            server.close()


@pytest.fixture(scope="module")
def router():
    """Learned from the log that ships, where these very models answered; the second one is worth its price."""
    ladder = load_ladder()
    entries = tuple(entry for entry in ladder.entries if entry.card.id in POOL)
    return Router(pool_of(entries), policy=UtilityPolicy(willingness_to_pay=0.001)).fit(ladder.table.select(POOL))


@pytest.fixture
async def llms(servers):
    with httpx.Client() as client:
        async with httpx.AsyncClient() as aclient:
            yield {
                name: OpenAILike(
                    model=name,
                    api_base=server.base_url,
                    api_key=server.api_key,
                    is_chat_model=True,
                    should_use_structured_outputs=True,
                    context_window=server.context,
                    temperature=0,
                    max_tokens=60,
                    max_retries=0,
                    timeout=120,
                    additional_kwargs={"stream_options": {"include_usage": True}},
                    http_client=client,
                    async_http_client=aclient,
                )
                for name, server in servers.items()
            }


@pytest.fixture
def routed(llms, router):
    return RoutedLLM(llms=llms, router=router, outcome_log=MemoryOutcomeLog())


@pytest.fixture
def index():
    return VectorStoreIndex([TextNode(text=text) for text in FACTS], embed_model=Static())


def user(text):
    return [ChatMessage(role=MessageRole.USER, content=text)]


def record(response):
    return response.additional_kwargs["agentroute"]


@BOTH
async def test_chat_complete_and_streams(way, routed):
    if way == "sync":
        said, completed = routed.chat(user(CAPITAL)), routed.complete(CAPITAL)
        chunks = list(routed.stream_chat(user(CAPITAL)))
        pieces = list(routed.stream_complete(CAPITAL))
    else:
        said, completed = await routed.achat(user(CAPITAL)), await routed.acomplete(CAPITAL)
        chunks = [chunk async for chunk in await routed.astream_chat(user(CAPITAL))]
        pieces = [piece async for piece in await routed.astream_complete(CAPITAL)]
    texts = [said.message.content, completed.text, chunks[-1].message.content, pieces[-1].text]
    assert all("Lima" in text for text in texts), texts
    assert sum(bool(chunk.delta) for chunk in chunks) > 1
    assert {record(one)["answered_by"] for one in (said, completed, chunks[-1], pieces[-1])} == {record(said)["model"]}
    assert routed.outcome_log.flush(5)
    outcomes = list(routed.outcome_log)
    assert len(outcomes) == 4
    for outcome in outcomes:
        assert outcome.usage.input_tokens > 10
        assert 0 < outcome.usage.output_tokens <= 60
        assert outcome.cost > 0
        assert outcome.error is None
    assert len({outcome.usage.input_tokens for outcome in outcomes}) == 1, "the same prompt through every door"


async def test_a_query_engine_and_a_chat_engine(routed, index, hearing):
    ledger = hearing(UsageLedger())
    question = "On which day is the Marigold Library closed?"
    whole = index.as_query_engine(llm=routed, similarity_top_k=1).query(question)
    assert "Monday" in str(whole)
    assert whole.source_nodes[0].text == FACTS[0]
    streamed = index.as_query_engine(llm=routed, similarity_top_k=1, streaming=True).query(question)
    assert "Monday" in "".join(streamed.response_gen)
    awaited = await index.as_query_engine(llm=routed, similarity_top_k=1).aquery(question)
    assert str(awaited) == str(whole)
    chat = index.as_chat_engine(chat_mode="context", llm=routed, similarity_top_k=1)
    assert "Monday" in str(chat.chat(question))
    assert "Monday" in "".join(chat.stream_chat(question).response_gen)
    assert ledger.total().calls == 5
    assert ledger.total().untold == 0
    assert routed.outcome_log.flush(5)
    assert [outcome.query.text for outcome in routed.outcome_log][:3] == [question] * 3, "not the passages around it"


@BOTH
@pytest.mark.parametrize("streams", [False, True])
async def test_objects_are_the_same_as_without_routing(way, streams, llms, routed):
    for text, expected in PEOPLE.items():
        if streams and way == "sync":
            found = list(routed.stream_structured_predict(Person, EXTRACT, query_str=text))[-1]
        elif streams:
            found = [one async for one in await routed.astream_structured_predict(Person, EXTRACT, query_str=text)][-1]
        elif way == "sync":
            found = routed.structured_predict(Person, EXTRACT, query_str=text)
            assert found == llms[LARGE].structured_predict(Person, EXTRACT, query_str=text)
        else:
            found = await routed.astructured_predict(Person, EXTRACT, query_str=text)
        assert isinstance(found, Person)
        assert (found.name.split()[0], found.age) == expected
    assert routed.outcome_log.flush(5)
    assert {outcome.model for outcome in routed.outcome_log} == {LARGE}


async def test_the_schema_binds_every_candidate(llms):
    """Even the smallest model, which could not do it by itself, is forced to a valid object."""
    found = RoutedLLM(llms=llms).structured_predict(Person, EXTRACT, query_str=next(iter(PEOPLE)), agentroute_model=SMALL)
    assert isinstance(found, Person)


@pytest.mark.filterwarnings(
    "ignore::pydantic.warnings.PydanticDeprecationWarning", "ignore:is_running called from within a step:DeprecationWarning"
)
async def test_an_agent_over_models_that_call_no_tools(llms, router):
    """The models are too small to be good agents; what they are asked, and by whom, is what is tested."""

    def opening(place: str) -> str:
        """Opening hours of a place."""
        return "nine to five"

    header = (
        "Answer in this form and write nothing else:\nThought: I can answer without using any more tools.\n"
        "Answer: <your answer>\nTools: {tool_desc} {tool_names}"
    )
    llm = RoutedLLM(llms=llms, router=router, outcome_log=MemoryOutcomeLog())
    assert not llm.metadata.is_function_calling_model
    agent = ReActAgent(
        llm=llm, tools=[FunctionTool.from_defaults(opening)], formatter=ReActChatFormatter(system_header=header, context="")
    )
    result = await agent.run(CAPITAL, max_iterations=6)
    assert "Lima" in result.response.content
    assert llm.outcome_log.flush(5)
    asked = list(llm.outcome_log)
    assert {outcome.query.text for outcome in asked} == {CAPITAL}, "every step is routed on the user's words"
    assert len({outcome.model for outcome in asked}) == 1


@BOTH
async def test_a_cascade_by_the_models_own_confidence(way, llms):
    """The same answer, taken or not by the threshold alone; and the candidates' own settings stay as they were."""

    async def climb(threshold):
        llm = CascadeLLM(llms=llms, judge=LogprobScorer(), threshold=threshold)
        return llm.chat(user(CAPITAL)) if way == "sync" else await llm.achat(user(CAPITAL))

    taken, passed = await climb(0.01), await climb(0.999999)
    (only,) = record(taken)["attempts"]
    first, last = record(passed)["attempts"]
    assert (only["model"], first["model"], last["model"]) == (SMALL, SMALL, LARGE)
    assert only["score"] == first["score"]
    assert 0.01 < first["score"] < 0.999999
    assert "Lima" in passed.message.content
    assert record(passed)["total_usage"]["input_tokens"] == first["usage"]["input_tokens"] + last["usage"]["input_tokens"]
    assert not llms[SMALL].logprobs


async def test_the_decision_is_that_of_the_sister_for_langchain(servers, llms, router):
    chat_models = pytest.importorskip("langchain_agentroute")
    openai = pytest.importorskip("langchain_openai")
    others = {
        name: openai.ChatOpenAI(model=name, base_url=server.base_url, api_key=server.api_key, temperature=0, max_tokens=60)
        for name, server in servers.items()
    }
    sister = chat_models.RoutedChatModel(models=others, router=router)
    routed = RoutedLLM(llms=llms, router=router)
    for question in (CAPITAL, "What is 7 plus 5? Answer with only the number."):
        ours = await routed.achat(user(question))
        theirs = chat_models.routing_decision(await sister.ainvoke(question))
        # Not the names' order alone: every figure of every candidate.
        for part in ("model", "by", "reason", "answered_by", "candidates"):
            assert record(ours)[part] == theirs[part]
