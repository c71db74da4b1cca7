"""Tokens that an answer tells, in providers' own shapes."""

import json
import math

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.callbacks.token_counting import get_tokens_from_response
from llama_index.llms.openai_like import OpenAILike
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion
from openai.types.responses import ResponseUsage

from agentroute.types import Price, Usage
from llama_index.llms.agentroute._usage import usage_of


def answer(raw=None, **kwargs):
    return ChatResponse(message=ChatMessage(role="assistant", content="four"), raw=raw, **kwargs)


OPENAI = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25, "prompt_tokens_details": {"cached_tokens": 16}}
ANTHROPIC = {"input_tokens": 4, "output_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 30}
RESPONSES = {
    "input_tokens": 20,
    "output_tokens": 5,
    "total_tokens": 25,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 2},
}
GOOGLE = {
    "prompt_token_count": 20,
    "candidates_token_count": 5,
    "thoughts_token_count": 7,
    "tool_use_prompt_token_count": 3,
    "cached_content_token_count": 6,
    "total_token_count": 35,
}
CONVERSE = {"inputTokens": 4, "outputTokens": 5, "cacheReadInputTokens": 10, "cacheWriteInputTokens": 2}
# A proxy that tells Anthropic's figures beside OpenAI's, whose prompt tokens have them in already.
PROXY = {
    "prompt_tokens": 134,
    "completion_tokens": 5,
    "cache_read_input_tokens": 100,
    "prompt_tokens_details": {"cached_tokens": 100},
}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"usage": OPENAI}, Usage(input_tokens=20, output_tokens=5, cache_read_tokens=16)),
        ({"usage": ANTHROPIC}, Usage(input_tokens=134, output_tokens=5, cache_read_tokens=100, cache_write_tokens=30)),
        ({"usage": RESPONSES}, Usage(input_tokens=20, output_tokens=5, cache_read_tokens=8)),
        ({"usage_metadata": GOOGLE}, Usage(input_tokens=23, output_tokens=12, cache_read_tokens=6)),
        ({"usage": CONVERSE}, Usage(input_tokens=16, output_tokens=5, cache_read_tokens=10, cache_write_tokens=2)),
        ({"usage": PROXY}, Usage(input_tokens=134, output_tokens=5, cache_read_tokens=100)),
        ({"usage": {"prompt_tokens": 9, "completion_tokens": 0}}, Usage(input_tokens=9, output_tokens=0)),
        ({"usage": {"prompt_tokens": 9.0, "completion_tokens": 2.0}}, Usage(input_tokens=9, output_tokens=2)),
        ({"usage": CompletionUsage(**OPENAI)}, Usage(input_tokens=20, output_tokens=5, cache_read_tokens=16)),
        ({"usage": ResponseUsage(**RESPONSES)}, Usage(input_tokens=20, output_tokens=5, cache_read_tokens=8)),
    ],
)
def test_providers_shapes(raw, expected):
    assert usage_of(answer(raw)) == expected
    assert usage_of(CompletionResponse(text="four", raw=raw)) == expected


def test_cached_tokens_of_anthropic_are_tokens_of_the_prompt():
    # 4 plain + 30 written + 100 read, at 3, 3.75 and 0.30 USD per million; an answer of 5 at 15.
    price = Price(input=3.0, output=15.0, cache_read=0.3, cache_write=3.75)
    raw = {"usage": ANTHROPIC}
    assert price.cost(usage_of(answer(raw))) == pytest.approx((4 * 3 + 100 * 0.3 + 30 * 3.75 + 5 * 15) / 1e6)
    # LlamaIndex's own reader leaves 130 of them out.
    assert get_tokens_from_response(answer(raw)) == (4, 5)


def test_a_real_answer_object_and_what_agents_make_of_it_tell_the_same():
    raw = ChatCompletion.model_validate(
        {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "four"}}],
            "usage": OPENAI,
        }
    )
    expected = Usage(input_tokens=20, output_tokens=5, cache_read_tokens=16)
    assert usage_of(answer(raw)) == expected
    assert usage_of(answer(raw.model_dump())) == expected


def test_without_the_providers_words_the_integrations_figures_count():
    told = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert usage_of(answer(None, additional_kwargs=told)) == Usage(input_tokens=7, output_tokens=3)
    assert usage_of(answer({"usage": None}, additional_kwargs=told)) == Usage(input_tokens=7, output_tokens=3)
    assert usage_of(answer({"usage": OPENAI}, additional_kwargs=told)).input_tokens == 20
    # One half in either place is no usage.
    assert usage_of(answer({"usage": {"output_tokens": 3}}, additional_kwargs={"prompt_tokens": 7})) is None


@pytest.mark.parametrize(
    "raw",
    [
        None,
        {},
        [],
        "text",
        {"usage": None},
        {"usage": {}},
        {"usage": "many"},
        {"usage": [20, 5]},
        {"usage": {"prompt_tokens": 20}},
        {"usage": {"completion_tokens": 5}},
        {"usage": {"prompt_tokens": 20, "completion_tokens": None}},
        {"usage": {"prompt_tokens": -1, "completion_tokens": 5}},
        {"usage": {"prompt_tokens": True, "completion_tokens": 5}},
        {"usage": {"prompt_tokens": "20", "completion_tokens": "5"}},
        {"usage": {"prompt_tokens": math.nan, "completion_tokens": 5}},
        {"usage": {"prompt_tokens": math.inf, "completion_tokens": 5}},
        {"usage": {"prompt_tokens": 2.5, "completion_tokens": 5}},
        {"usage": {"prompt_tokens": 10**12, "completion_tokens": 5}},
        # What clients write who were told nothing.
        {"usage": {"prompt_tokens": 0, "completion_tokens": 0}},
    ],
)
def test_what_is_missing_or_no_count_is_unknown_and_never_0(raw):
    assert usage_of(answer(raw)) is None


def test_zeros_of_a_client_that_was_told_nothing_are_unknown():
    # As llama-index-llms-openai does of a usage without counts.
    kwargs = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert usage_of(answer({"usage": {}}, additional_kwargs=kwargs)) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["usage", "usage_metadata", "prompt_tokens", "output_tokens", "prompt_tokens_details"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values, st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens", "usage"]), json_values, max_size=3))
def test_no_odd_report_fails_a_call(raw, kwargs):
    found = usage_of(answer(raw, additional_kwargs=kwargs))
    assert found is None or (found.input_tokens > 0 and found.output_tokens >= 0)


def chunks(usage):
    """A stream of OpenAI's, with usage on a last chunk without choices, where it was asked for."""
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    told = [{**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": word}}]} for word in ("fo", "ur")]
    told[-1]["choices"][0]["finish_reason"] = "stop"
    if usage:
        told.append({**head, "choices": [], "usage": OPENAI})
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in told) + "data: [DONE]\n\n"


def client(**kwargs):
    def serve(request):
        asked = json.loads(request.content)
        usage = asked.get("stream_options", {}).get("include_usage")
        return httpx.Response(200, text=chunks(usage), headers={"content-type": "text/event-stream"})

    return OpenAILike(
        model="m",
        api_base="http://model.test/v1",
        api_key="none",
        is_chat_model=True,
        http_client=httpx.Client(transport=httpx.MockTransport(serve)),
        **kwargs,
    )


def test_a_real_clients_stream_tells_tokens_only_when_it_is_asked_to():
    messages = [ChatMessage(content="2 + 2?")]
    asking = client(additional_kwargs={"stream_options": {"include_usage": True}})
    *before, last = list(asking.stream_chat(messages))
    assert usage_of(last) == Usage(input_tokens=20, output_tokens=5, cache_read_tokens=16)
    assert [usage_of(chunk) for chunk in before] == [None, None]
    assert [usage_of(chunk) for chunk in client().stream_chat(messages)] == [None, None]
