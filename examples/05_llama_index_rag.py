"""A LlamaIndex query engine with a routed LLM, and an object by JSON schema: over real models, on this machine's processor.

Needs `pip install 'agentroute-sdk[local]' 'llama-index-llms-agentroute[demo]'`. The two small models (600 MB) are fetched once.
"""

from contextlib import ExitStack

from llama_index.core import PromptTemplate, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import TextNode
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from agentroute import MemoryOutcomeLog, Router, StaticEmbedder, UtilityPolicy
from agentroute.collection import load_ladder, pool_of
from agentroute.local import LocalServer
from llama_index.llms.agentroute import RoutedLLM

NAMES = ("smollm2-135m", "qwen2.5-coder-0.5b")
NOTES = (
    "The Marigold Library is open from nine to five. It is closed on Mondays.",
    "The swimming hall of Eastport has water of 27 degrees. A ticket costs 4 euros.",
    "Dogs are allowed in the Rose Garden if they are on a lead.",
)


class Static(BaseEmbedding):
    """The embedder that ships with agentroute, for retrieval too; any other embedding of LlamaIndex will do."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return [float(value) for value in StaticEmbedder().embed([text])[0]]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def learned() -> Router:
    """A router that has learned from the log that ships: these very models answered in it."""
    ladder = load_ladder()
    cards = pool_of(tuple(entry for entry in ladder.entries if entry.card.id in NAMES))
    return Router(cards, policy=UtilityPolicy(willingness_to_pay=0.001)).fit(ladder.table.select(NAMES))


def client(server: LocalServer) -> OpenAILike:
    """LlamaIndex's own client for a server with OpenAI's interface."""
    return OpenAILike(
        model=server.model,
        api_base=server.base_url,
        api_key=server.api_key,
        context_window=server.context,
        is_chat_model=True,
        should_use_structured_outputs=True,
        reuse_client=False,
        temperature=0,
        max_tokens=60,
        timeout=120,
    )


with ExitStack() as stack:
    llms = {name: client(stack.enter_context(LocalServer(name))) for name in NAMES}
    llm = RoutedLLM(llms=llms, router=learned(), outcome_log=MemoryOutcomeLog())

    index = VectorStoreIndex([TextNode(text=note) for note in NOTES], embed_model=Static())
    engine = index.as_query_engine(llm=llm, similarity_top_k=1)
    for question in ("On which day is the Marigold Library closed?", "What does a ticket for the swimming hall cost?"):
        print(f"{question}\n  {engine.query(question)}")

    found = llm.structured_predict(Person, PromptTemplate("Extract name and age.\n{text}"), text="Omar is a 41 year old pilot.")
    print(repr(found))

    review = llm.complete("Is this review positive or negative? Answer with one word. Review: Friendly staff and a lovely view.")
    print(f"{review.text}\n  because of: {review.additional_kwargs['agentroute']['reason']}\n")

    # The response of an engine has no place for the record, but the log has every call, routed on the question alone.
    llm.outcome_log.close()
    for outcome in llm.outcome_log:
        usage, asked = outcome.usage, outcome.query.text.splitlines()[0][:60]
        print(f"{outcome.model}: {usage.input_tokens} tokens in, {usage.output_tokens} out for {asked!r}")
