"""A routed LLM over LlamaIndex's real OpenAI-compatible client, against a scripted server on loopback."""

import httpx
import openai
import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from agentroute.errors import AllModelsFailedError
from agentroute.outcomes import MemoryOutcomeLog
from llama_index.llms.agentroute import RoutedLLM

BOTH = pytest.mark.parametrize("way", ["sync", "async"])
TOLD = {"additional_kwargs": {"stream_options": {"include_usage": True}}}


class Answer(BaseModel):
    """An answer."""

    text: str


def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


ADD = FunctionTool.from_defaults(add)


def rule(query):
    return "large" if "hard" in query.text else "small"


def user(text):
    return [ChatMessage(role=MessageRole.USER, content=text)]


def record(response):
    return response.additional_kwargs["agentroute"]


async def ask(way, llm, door, *args, **kwargs):
    """What a door gives: the whole answer, or all items of a stream."""
    streams = door.startswith("stream")
    if way == "sync":
        found = getattr(llm, door)(*args, **kwargs)
        return list(found) if streams else found
    found = await getattr(llm, f"a{door}")(*args, **kwargs)
    return [item async for item in found] if streams else found


@BOTH
async def test_chat_and_complete(way, llms, server):
    log = MemoryOutcomeLog()
    llm = RoutedLLM(llms=llms, router=rule, outcome_log=log)
    response = await ask(way, llm, "chat", user("a hard one"), temperature=0.7)
    assert response.message.content == "large has read: a hard one"
    assert record(response)["answered_by"] == "large"
    completed = await ask(way, llm, "complete", "an easy one")
    assert completed.text == "small has read: an easy one"
    assert record(completed)["answered_by"] == "small"
    assert [asked["model"] for asked in server.asked] == ["large", "small"]
    assert server.asked[0]["temperature"] == 0.7
    llm.outcome_log.close()
    assert [(one.model, one.usage.input_tokens, one.usage.output_tokens, one.usage.cache_read_tokens) for one in log] == [
        ("large", 10, 5, 4),
        ("small", 10, 5, 4),
    ]


@BOTH
@pytest.mark.parametrize("door", ["stream_chat", "stream_complete"])
@pytest.mark.parametrize("told", [True, False])
async def test_streams_and_their_usage(way, door, told, client_of, server):
    """OpenAI tells the tokens of a stream only when it is asked to; what is not told is unknown, not 0 and no estimate."""
    log = MemoryOutcomeLog()
    llms = {name: client_of(name, **(TOLD if told else {})) for name in ("small", "large")}
    llm = RoutedLLM(llms=llms, router=rule, outcome_log=log)
    chunks = await ask(way, llm, door, user("a hard one") if door == "stream_chat" else "a hard one")
    last = chunks[-1]
    assert (last.message.content if door == "stream_chat" else last.text) == "large has read: a hard one"
    assert "".join(chunk.delta or "" for chunk in chunks) == "large has read: a hard one"
    assert all(record(chunk)["answered_by"] == "large" for chunk in chunks)
    assert server.asked[0]["stream"] is True
    llm.outcome_log.close()
    (outcome,) = log
    assert (outcome.usage is not None) == told
    if told:
        assert (outcome.usage.input_tokens, outcome.usage.output_tokens) == (10, 5)


@BOTH
@pytest.mark.parametrize("door", ["chat_with_tools", "stream_chat_with_tools"])
async def test_tools_reach_the_model_as_they_would_without_us(way, door, llms, server):
    llm = RoutedLLM(llms=llms, router=rule)
    direct = await ask(way, llms["large"], door, [ADD], "a hard sum", tool_required=True)
    routed = await ask(way, llm, door, [ADD], "a hard sum", tool_required=True)
    assert server.asked[0] == server.asked[1]
    assert server.asked[1]["tool_choice"] == "required"
    whole = [one[-1] if door.startswith("stream") else one for one in (direct, routed)]
    calls = [llm.get_tool_calls_from_response(one) for one in whole]
    assert calls[0] == calls[1]
    assert [(call.tool_name, call.tool_kwargs) for call in calls[1]] == [("add", {"a": 1, "b": 2})]


@BOTH
async def test_predict_and_call(way, llms, server):
    found = await ask(way, RoutedLLM(llms=llms, router=rule), "predict_and_call", [ADD], user_msg="a hard sum")
    assert str(found) == "3"
    assert found.metadata["agentroute"]["answered_by"] == "large"
    assert server.asked[0]["model"] == "large"


@BOTH
@pytest.mark.parametrize("door", ["structured_predict", "stream_structured_predict"])
@pytest.mark.parametrize("native", [True, False])
async def test_objects_are_asked_for_in_the_models_own_way(way, door, native, client_of, server):
    """By JSON schema where the client can, by a forced tool call where it cannot. Inherited code would force a call always."""
    llms = {name: client_of(name, should_use_structured_outputs=native) for name in ("small", "large")}
    log = MemoryOutcomeLog()
    llm = RoutedLLM(llms=llms, router=rule, outcome_log=log)
    prompt = PromptTemplate("Say something {how}.")
    await ask(way, llms["large"], door, Answer, prompt, how="hard")
    found = await ask(way, llm, door, Answer, prompt, how="hard")
    last = found[-1] if door.startswith("stream") else found
    assert last.model_dump() == {"text": "as asked" if native else "as called"}
    assert server.asked[1] == server.asked[0]
    assert ("response_format" in server.asked[1], "tools" in server.asked[1]) == (native, not native)
    llm.outcome_log.close()
    (outcome,) = log
    assert outcome.model == "large"
    if not door.startswith("stream"):
        assert outcome.usage.output_tokens == 5


@BOTH
async def test_as_structured_llm(way, client_of, server):
    llms = {name: client_of(name, should_use_structured_outputs=True) for name in ("small", "large")}
    found = await ask(way, RoutedLLM(llms=llms, router=rule).as_structured_llm(Answer), "chat", user("a hard one"))
    assert found.raw == Answer(text="as asked")
    assert server.asked[0]["response_format"]["json_schema"]["name"] == "Answer"
    assert server.asked[0]["model"] == "large"


@BOTH
async def test_predict_and_its_stream(way, llms, server):
    llm = RoutedLLM(llms=llms, router=rule)
    prompt = PromptTemplate("Context: long and hard.\nQuestion: {query_str}")
    assert "Question: Why?" in await ask(way, llm, "predict", prompt, query_str="Why?")
    assert server.asked[0]["model"] == "small", "routed on the question, not on what the template says around it"
    pieces = (
        list(llm.stream(prompt, query_str="Why?"))
        if way == "sync"
        else [p async for p in await llm.astream(prompt, query_str="Why?")]
    )
    assert "Why?" in "".join(pieces)


@BOTH
@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("door", ["chat", "stream_chat"])
async def test_failover_between_servers(way, status, door, llms, server):
    log = MemoryOutcomeLog()
    llm = RoutedLLM(llms=llms, outcome_log=log)
    server.failures["small"] = status
    found = await ask(way, llm, door, user("x"))
    last = found[-1] if door == "stream_chat" else found
    assert last.message.content.strip() == "large has read: x"
    assert record(last)["model"] == "small"
    assert [one["error"] for one in record(last)["attempts"]] == [
        "RateLimitError" if status == 429 else "InternalServerError",
        None,
    ]
    llm.outcome_log.close()
    first, second = log
    assert (first.model, second.model, first.decision_id) == ("small", "large", second.decision_id)
    assert first.error is not None
    assert second.error is None


@BOTH
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("drop", "APIConnectionError"),
        ("short", "APIConnectionError"),
        ("malformed", "JSONDecodeError"),
        ("hang", "APITimeoutError"),
    ],
)
async def test_faults_on_the_wire(way, fault, error, client_of, server):
    server.faults["small"] = fault
    llm = RoutedLLM(llms={"small": client_of("small", timeout=0.5), "large": client_of("large")})
    response = await ask(way, llm, "chat", user("x"))
    server.released.set()
    assert record(response)["answered_by"] == "large"
    assert [one["error"] for one in record(response)["attempts"]] == [error, None]


@BOTH
@pytest.mark.parametrize("place", ["role", "words"])
@pytest.mark.parametrize("kind", ["cut", "error"])
async def test_broken_streams(way, kind, place, llms, server):
    """Before the first word another model answers; after it the error is the reader's, and nothing is put behind it."""
    server.faults["small"] = f"{kind} after {place}"
    llm = RoutedLLM(llms=llms)
    seen = []
    problem = None
    try:
        if way == "sync":
            seen.extend(chunk.delta for chunk in llm.stream_chat(user("x")))
        else:
            async for chunk in await llm.astream_chat(user("x")):
                seen.append(chunk.delta)  # noqa: PERF401  # a comprehension would keep nothing
    except Exception as error:
        problem = error
    text = "".join(delta or "" for delta in seen).strip()
    if place == "role":
        assert (text, problem) == ("large has read: x", None)
        assert [asked["model"] for asked in server.asked] == ["small", "large"]
    else:
        assert text == "small has"
        assert problem is not None
        assert [asked["model"] for asked in server.asked] == ["small"]


@BOTH
async def test_wrong_key_is_not_hidden(way, llms, server):
    server.failures["small"] = 401
    with pytest.raises(openai.AuthenticationError):
        await ask(way, RoutedLLM(llms=llms), "chat", user("x"))
    assert len(server.asked) == 1


@BOTH
async def test_all_fail(way, llms, server):
    server.failures |= {"small": 500, "large": 503}
    with pytest.raises(AllModelsFailedError) as caught:
        await ask(way, RoutedLLM(llms=llms), "chat", user("x"))
    assert [attempt.model for attempt in caught.value.attempts] == ["small", "large"]
    assert "a secret" not in f"{caught.value!r} {caught.value}"


@BOTH
async def test_a_dead_server_fails_over(way, llms):
    with httpx.Client(trust_env=False, verify=False) as client:
        async with httpx.AsyncClient(trust_env=False, verify=False) as aclient:
            dead = OpenAILike(
                model="dead",
                api_base="http://127.0.0.1:9/v1",
                api_key="none",
                is_chat_model=True,
                context_window=8_000,
                max_retries=0,
                http_client=client,
                async_http_client=aclient,
            )
            response = await ask(way, RoutedLLM(llms={"dead": dead, "small": llms["small"]}), "chat", user("x"))
    assert [one["model"] for one in record(response)["attempts"]] == ["dead", "small"]


async def test_no_key_is_shown(llms, events):
    llm = RoutedLLM(llms=llms)
    await llm.achat(user("x"))
    shown = [
        repr(llm),
        str(llm.to_dict()),
        str(llm.to_payload()),
        *(str(event.model_dump()) for event in events.of("ModelRoutedEvent")),
    ]
    shown += [str(event.model_dict) for event in events.of("LLMChatStartEvent")]
    assert len(shown) == 5
    assert not any("a secret" in one for one in shown)
