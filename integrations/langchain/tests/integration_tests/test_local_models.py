"""Real language models behind `RoutedChatModel`: structured output, forced by grammar, in every way of calling a chain."""

import os

import pytest
from langchain_core.prompts import ChatPromptTemplate
from pydantic import BaseModel, SecretStr

from agentroute.collection import load_ladder, pool_of
from agentroute.errors import MissingExtraError
from agentroute.local import LocalServer, ModelUnavailableError
from agentroute.outcomes import MemoryOutcomeLog
from agentroute.policies import UtilityPolicy
from agentroute.router import Router
from langchain_agentroute import RoutedChatModel, routing_decision

openai = pytest.importorskip("openai")
pytestmark = pytest.mark.local

# langchain-openai's own: it dumps the reply of the OpenAI client, whose type leaves out what was parsed.
streams_objects = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")

POOL = ("smollm2-135m", "qwen2.5-coder-0.5b")
PEOPLE = {
    "Omar is a 41 year old pilot from Kyoto.": ("Omar", 41),
    "Alice, 29, works as a nurse in Madrid.": ("Alice", 29),
}


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@pytest.fixture(scope="session")
def servers():
    """Both models, each in a process of its own. Where they cannot be had, CI fails and others skip."""
    try:
        started = [LocalServer(name).start() for name in POOL]
    except (ModelUnavailableError, MissingExtraError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    yield started
    for server in started:
        server.close()


@pytest.fixture(scope="session")
def router():
    """Learned from the log that ships, where these very models answered; the second one is worth its price."""
    ladder = load_ladder()
    entries = tuple(entry for entry in ladder.entries if entry.card.id in POOL)
    return Router(pool_of(entries), policy=UtilityPolicy(willingness_to_pay=0.001)).fit(ladder.table.select(POOL))


def chat_models(servers, **options):
    from langchain_openai import ChatOpenAI

    common = {"temperature": 0, "max_tokens": 60, "max_retries": 0, "timeout": 120, **options}
    return {
        server.model: ChatOpenAI(model=server.model, base_url=server.base_url, api_key=SecretStr(server.api_key), **common)
        for server in servers
    }


@pytest.fixture
def candidates(servers):
    # Clients of our own: langchain-openai keeps its default ones, and their open connections, until the process ends.
    with openai.DefaultHttpxClient() as client:
        yield chat_models(servers, http_client=client)


@pytest.fixture
def routed(candidates, router):
    return RoutedChatModel(models=candidates, router=router, outcome_log=MemoryOutcomeLog())


def chain(model, **options):
    prompt = ChatPromptTemplate.from_messages([("user", "Who is this? Extract name and age.\n{text}")])
    return prompt | model.with_structured_output(Person, method="json_schema", **options)


def right(person, text):
    assert isinstance(person, Person)
    assert (person.name.split()[0], person.age) == PEOPLE[text]


def test_structured_output_is_the_same_as_without_routing(candidates, routed):
    """The swap: the chain is the same but for the model, and so is the answer."""
    (text, other) = PEOPLE
    forced = RoutedChatModel(models=candidates, router=lambda _: "qwen2.5-coder-0.5b")
    direct = chain(candidates["qwen2.5-coder-0.5b"]).invoke({"text": text})
    assert chain(forced).invoke({"text": text}) == direct
    right(direct, text)
    right(chain(routed).invoke({"text": other}), other)


def test_the_schema_binds_every_candidate(candidates):
    """Even the smallest model, which could not do it by itself, is forced to a valid object."""
    smallest = RoutedChatModel(models=candidates, router=lambda _: "smollm2-135m")
    found = chain(smallest, include_raw=True).invoke({"text": next(iter(PEOPLE))})
    assert isinstance(found["parsed"], Person)
    assert found["parsing_error"] is None
    assert routing_decision(found["raw"])["answered_by"] == "smollm2-135m"


def test_batch_and_the_log_of_real_calls(routed):
    found = chain(routed).batch([{"text": text} for text in PEOPLE])
    for person, text in zip(found, PEOPLE, strict=True):
        right(person, text)
    assert routed.outcome_log.flush(5.0)
    outcomes = list(routed.outcome_log)
    assert len(outcomes) == len(PEOPLE)
    for outcome in outcomes:
        assert outcome.model in POOL
        assert outcome.usage.input_tokens > 0
        assert outcome.cost > 0
        assert outcome.latency > 0
        assert outcome.error is None


@streams_objects
def test_stream_grows_to_the_whole_object(routed):
    text = next(iter(PEOPLE))
    seen = list(chain(routed).stream({"text": text}))
    right(seen[-1], text)


@streams_objects
async def test_async_invoke_stream_and_batch(servers, router):
    (text, other) = PEOPLE
    async with openai.DefaultAsyncHttpxClient() as client:
        routed = RoutedChatModel(models=chat_models(servers, http_async_client=client), router=router)
        right(await chain(routed).ainvoke({"text": text}), text)
        seen = [one async for one in chain(routed).astream({"text": other})]
        right(seen[-1], other)
        found = await chain(routed).abatch([{"text": one} for one in PEOPLE])
    for person, one in zip(found, PEOPLE, strict=True):
        right(person, one)


def test_plain_text_streams_token_by_token_from_the_chosen_model(routed):
    chunks = list(routed.stream("What is the capital of Peru? Answer with only the city name."))
    assert sum(bool(chunk.text) for chunk in chunks) > 1
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert "Lima" in whole.text
    assert routing_decision(whole)["answered_by"] in POOL
