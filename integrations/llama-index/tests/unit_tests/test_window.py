"""Windows: what LlamaIndex packs prompts and memories by, and who takes the prompts that come of it."""

from importlib.metadata import version

import pytest
from llama_index.core import MockEmbedding, SummaryIndex, VectorStoreIndex
from llama_index.core.callbacks import CallbackManager
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.schema import TextNode

from agentroute.types import ModelCard
from llama_index.llms.agentroute import CascadeLLM, RoutedLLM
from llama_index.llms.agentroute._messages import prompt_tokens
from llama_index.llms.agentroute.testing import ScriptedLLM

# Older releases of LlamaIndex leave far more of a window empty: there the same holds of more calls.
PACKS_FULL = tuple(int(part) for part in version("llama-index-core").split(".")[:3]) >= (0, 14, 25)
# Engines are asked within an event loop: without one LlamaIndex makes one of its own to count tokens in, and leaves it open.

# About 700 tokens each.
NODES = [TextNode(text=f"Chapter {number}. " + f"The fox number {number} jumps over the lazy dog. " * 70) for number in range(9)]
QUESTION = "What does the fox do?"


def models():
    windows = {"small": 2_000, "large": 32_000}
    return {name: ScriptedLLM(model=name, context_window=size, replies=["It jumps."] * 20) for name, size in windows.items()}


def asked(llms):
    return {name: len(llm.calls) for name, llm in llms.items()}


def small_always(query):
    """The worst router for long prompts."""
    return "small"


def ask(llm, mode, nodes, *, asynchronous=False):
    index = VectorStoreIndex(nodes=NODES, embed_model=MockEmbedding(embed_dim=4), callback_manager=CallbackManager([]))
    engine = index.as_query_engine(llm=llm, similarity_top_k=nodes, response_mode=mode)
    return engine.aquery(QUESTION) if asynchronous else engine.query(QUESTION)


@pytest.mark.parametrize("nodes", [1, 2, 3, 6, 9])
@pytest.mark.parametrize("mode", ["compact", "tree_summarize", "refine", "simple_summarize"])
async def test_with_the_largest_window_there_are_as_many_calls_as_with_the_large_model_alone(mode, nodes):
    """Candidates of 2,000 and of 32,000 tokens; every prompt fits the larger one, and goes to one that it fits."""
    alone = models()["large"]
    ask(alone, mode, nodes)
    for asynchronous in (False, True):
        llms = models()
        found = ask(RoutedLLM(llms=llms, context_window="max", router=small_always), mode, nodes, asynchronous=asynchronous)
        _ = await found if asynchronous else found
        assert sum(asked(llms).values()) == len(alone.calls)
        if PACKS_FULL:
            assert len(alone.calls) == (nodes if mode == "refine" else 1)
        for name, llm in llms.items():
            assert all(prompt_tokens(call.messages) <= llm.context_window for call in llm.calls), name
        if PACKS_FULL and mode != "refine" and nodes >= 3:
            assert asked(llms) == {"small": 0, "large": 1}
        if nodes == 1:
            assert asked(llms) == {"small": 1, "large": 0}, "what fits the small one stays with it"


async def test_with_the_smallest_window_prompts_are_split_though_the_large_model_takes_them():
    """What the default costs, and why the other one is there: the safe window is dear with one small candidate."""
    alone, llms = models()["small"], models()
    ask(alone, "compact", 6)
    ask(RoutedLLM(llms=llms, router=lambda query: "large"), "compact", 6)
    assert asked(llms) == {"small": 0, "large": len(alone.calls)}
    assert len(alone.calls) > 1
    if PACKS_FULL:
        assert all(prompt_tokens(call.messages) <= 2_000 for call in llms["large"].calls)


@pytest.mark.skipif(not PACKS_FULL, reason="this release of LlamaIndex packs otherwise")
async def test_windows_of_cards_count():
    llms = models()
    cards = [ModelCard(id="small", context_window=8_000)]
    llm = RoutedLLM(llms=llms, cards=cards)
    assert llm.metadata.context_window == 8_000
    ask(llm, "compact", 6)
    assert asked(llms) == {"small": 1, "large": 0}


async def test_a_window_of_one_s_own_is_packed_by_and_prompts_are_fitted_all_the_same():
    llms = models()
    ask(RoutedLLM(llms=llms, context_window=4_000, router=small_always), "compact", 6)
    assert sum(asked(llms).values()) == 2
    assert asked(llms)["large"] > 0
    assert all(prompt_tokens(call.messages) <= 2_000 for call in llms["small"].calls)


@pytest.mark.skipif(not PACKS_FULL, reason="this release of LlamaIndex packs otherwise")
async def test_a_cascade_starts_with_the_first_model_that_the_prompt_fits():
    llms = models()
    ask(CascadeLLM(llms=llms, context_window="max"), "compact", 6)
    assert asked(llms) == {"small": 0, "large": 1}


async def test_a_prompt_that_fits_nobody_is_the_provider_s_to_refuse():
    """The count is a rough one: where it rules everybody out, the router has the say."""
    llms = models()
    llm = RoutedLLM(llms=llms, router=small_always)
    llm.chat([ChatMessage("word " * 40_000)])
    assert asked(llms) == {"small": 1, "large": 0}


async def test_room_for_the_answer_counts():
    """A model whose window the prompt fills has no room to answer in."""
    llms = models()
    llm = RoutedLLM(llms=llms, router=small_always)
    words = [ChatMessage("word " * 1_500)]
    llm.chat(words)
    llm.chat(words, max_tokens=1_000)
    assert asked(llms) == {"small": 1, "large": 1}


async def test_prompt_helpers_and_memories_read_the_window():
    llm = RoutedLLM(llms=models(), context_window="max")
    assert PromptHelper.from_llm_metadata(llm.metadata).context_window == 32_000
    assert ChatMemoryBuffer.from_defaults(llm=llm).token_limit == 24_000
    llm.context_window = "min"
    assert ChatMemoryBuffer.from_defaults(llm=llm).token_limit == 1_500


@pytest.mark.parametrize("mode", ["context", "condense_plus_context", "condense_question", "simple"])
async def test_chat_engines_over_a_routed_llm(mode):
    llms = models()
    llm = RoutedLLM(llms=llms, context_window="max", router=small_always)
    # A memory of one's own: LlamaIndex's newest leaves its database open.
    memory = ChatMemoryBuffer.from_defaults(llm=llm)
    engine = SummaryIndex(NODES).as_chat_engine(chat_mode=mode, llm=llm, memory=memory)
    engine.chat(QUESTION)
    assert "".join(engine.stream_chat("And then?").response_gen) == "It jumps."
    assert asked(llms)["large"] > 0 or mode == "simple"
    assert all(prompt_tokens(call.messages) <= 2_000 for call in llms["small"].calls)
