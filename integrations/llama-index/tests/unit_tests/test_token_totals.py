"""One call counts once, wherever it is counted: in LlamaIndex's own handler, in traces, and in our ledger."""

import asyncio

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import ChatMessage
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from openinference.semconv.trace import SpanAttributes
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llama_index.llms.agentroute import CascadeLLM, RoutedLLM, UsageLedger
from llama_index.llms.agentroute.testing import ScriptedLLM

# Agents look at all attributes of theirs when they are made, pydantic's old ones among them, and LlamaIndex's StructuredLLM
# writes its streams with one of the old methods.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")

TOKENS = {"small": (10, 5), "large": (100, 50)}


@pytest.fixture
def spans():
    """The spans that OpenInference makes of LlamaIndex's events."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = LlamaIndexInstrumentor()
    instrumentor.instrument(tracer_provider=provider, skip_dep_check=True)
    yield exporter
    instrumentor.uninstrument()


def models():
    return {name: ScriptedLLM(model=name, input_tokens=prompt, output_tokens=answer) for name, (prompt, answer) in TOKENS.items()}


def by_number(query):
    """Sums of even numbers are easy."""
    return "small" if int(query.text.split()[2]) % 2 == 0 else "large"


def counted(counter):
    return len(counter.llm_token_counts), counter.prompt_llm_token_count, counter.completion_llm_token_count


def traced(spans):
    """Model runs with tokens in traces."""
    prompt = [span.attributes.get(SpanAttributes.LLM_TOKEN_COUNT_PROMPT) for span in spans.get_finished_spans()]
    answer = [span.attributes.get(SpanAttributes.LLM_TOKEN_COUNT_COMPLETION) for span in spans.get_finished_spans()]
    known = [one for one in prompt if one is not None]
    return len(known), sum(known), sum(one for one in answer if one is not None)


def booked(ledger):
    total = ledger.total()
    assert total.untold == 0
    return total.calls, total.usage.input_tokens, total.usage.output_tokens


def truth(llms):
    """What the models themselves have counted."""
    asked = {name: len(llm.calls) for name, llm in llms.items()}
    return (
        sum(asked.values()),
        sum(TOKENS[name][0] * calls for name, calls in asked.items()),
        sum(TOKENS[name][1] * calls for name, calls in asked.items()),
    )


async def test_each_door_counts_once_in_all_three(door, spans, attached):
    counter, ledger, llms = TokenCountingHandler(), attached(UsageLedger()), models()
    llm = RoutedLLM(llms=llms, callback_manager=CallbackManager([counter]))
    await door(llm)
    assert truth(llms) == (1, 10, 5)
    assert booked(ledger) == (1, 10, 5)
    assert traced(spans) == (1, 10, 5)
    assert counted(counter) == (1, 10, 5)


async def test_two_hundred_mixed_calls_have_equal_totals(spans, attached, add_tool, pair):
    """All doors, both models, failovers, cascades and agents: what the models have counted is what everybody has."""
    counter, ledger, llms = TokenCountingHandler(), attached(UsageLedger()), models()
    manager = CallbackManager([counter])
    routed = RoutedLLM(llms=llms, router=by_number, callback_manager=manager)
    climbs = CascadeLLM(llms=llms, judge=lambda query, reply: int(query.text.split()[2]) % 3 > 0, callback_manager=manager)
    prompt = PromptTemplate("{query_str}")

    async def ask(number):
        llm = climbs if number % 4 == 3 else routed
        text = f"What of {number} and 4?"
        say = [ChatMessage(text)]
        door = number % 19
        if door < 2:
            return llm.chat(say) if door else await llm.achat(say)
        if door < 4:
            return list(llm.stream_chat(say)) if door == 2 else [one async for one in await llm.astream_chat(say)]
        if door < 6:
            return llm.complete(text) if door == 4 else await llm.acomplete(text)
        if door < 8:
            return list(llm.stream_complete(text)) if door == 6 else [one async for one in await llm.astream_complete(text)]
        if door < 10:
            tools = [add_tool]
            return llm.chat_with_tools(tools, text) if door == 8 else await llm.achat_with_tools(tools, text)
        if door < 12:
            tools = [add_tool]
            return llm.predict_and_call(tools, text) if door == 10 else await llm.apredict_and_call(tools, text)
        if door < 14:
            return llm.predict(prompt, query_str=text) if door == 12 else [*llm.stream(prompt, query_str=text)]
        if door < 16:
            if door == 14:
                return llm.structured_predict(pair, prompt, query_str=text)
            return await llm.astructured_predict(pair, prompt, query_str=text)
        if door < 18:
            structured = llm.as_structured_llm(pair)
            return structured.chat(say) if door == 16 else await structured.achat(say)
        return await FunctionAgent(tools=[add_tool], llm=llm).run(text)

    for batch in range(0, 200, 40):
        # All at once, as servers ask.
        await asyncio.gather(*(ask(number) for number in range(batch, batch + 40)))
    calls, prompt_tokens, answer_tokens = truth(llms)
    assert calls > 200
    assert booked(ledger) == (calls, prompt_tokens, answer_tokens)
    assert traced(spans) == (calls, prompt_tokens, answer_tokens)
    assert counted(counter) == (calls, prompt_tokens, answer_tokens)
    assert {name: spent.calls for name, spent in ledger.totals("model").items()} == {
        name: len(llm.calls) for name, llm in llms.items()
    }


def test_a_failed_call_counts_nowhere_as_tokens(spans, attached):
    counter, ledger, llms = TokenCountingHandler(), attached(UsageLedger()), models()
    llms["small"].replies = [ConnectionError()]
    RoutedLLM(llms=llms, callback_manager=CallbackManager([counter])).chat([ChatMessage("x")])
    assert (ledger.total().calls, ledger.total().failed, ledger.total().usage.input_tokens) == (2, 1, 100)
    assert traced(spans) == (1, 100, 50)
    assert (counter.prompt_llm_token_count, counter.completion_llm_token_count) == (100, 50)
