"""What stands between a caller's words and the candidate: `prepare_messages`, and prompts of the routed LLM's own."""

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.llms import ChatMessage, MockLLM
from llama_index.core.output_parsers import PydanticOutputParser
from llama_index.core.prompts import ChatPromptTemplate
from llama_index.core.types import PydanticProgramMode
from llama_index_instrumentation import get_dispatcher

from agentroute.errors import ConfigError
from llama_index.llms.agentroute import CascadeLLM, RoutedLLM
from llama_index.llms.agentroute.testing import ScriptedLLM

# LlamaIndex's StructuredLLM writes its streams with a method of pydantic's old ones.
pytestmark = pytest.mark.filterwarnings("ignore:The `json` method is deprecated:pydantic.warnings.PydanticDeprecatedSince20")

SECRET = "My PIN is 1234."


def redact(messages, llm):
    return [ChatMessage((message.content or "").replace("1234", "****"), role=message.role) for message in messages]


# --- prepare_messages ---


async def test_what_is_prepared_is_all_that_a_candidate_sees_through_any_door(door, team):
    await door(team.routed(prepare_messages=redact), SECRET)
    (asked,) = team.small.calls
    assert "My PIN is ****." in asked.text
    assert "1234" not in str(asked.messages)


async def test_preparing_nothing_changes_nothing(door, team):
    alone = ScriptedLLM(model="small")
    await door(alone, SECRET)
    await door(team.routed(prepare_messages=lambda messages, llm: messages), SECRET)
    (asked,), (expected,) = team.small.calls, alone.calls
    assert (asked.door, asked.messages, asked.kwargs) == (expected.door, expected.messages, expected.kwargs)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_cascade_prepares_too(asynchronous, add_tool, team):
    llm = CascadeLLM(llms={"small": team.small}, prepare_messages=redact)
    if asynchronous:
        await llm.acomplete(SECRET)
        await llm.apredict_and_call([add_tool], SECRET)
    else:
        llm.complete(SECRET)
        llm.predict_and_call([add_tool], SECRET)
    assert len(team.small.calls) == 2
    assert "1234" not in str([asked.messages for asked in team.small.calls])


def test_a_filled_prompt_is_not_filled_again(team):
    team.routed(prepare_messages=redact).predict(PromptTemplate("{a} {b}"), a="{b} {{c}}", b="1234 {a}")
    assert team.small.calls[0].text == "{b} {{c}} **** {a}"


def test_a_prompts_functions_run_once(team):
    ran = []
    template = PromptTemplate("{now}?", function_mappings={"now": lambda **kwargs: ran.append(1) or "noon"})
    team.routed(prepare_messages=redact).predict(template)
    assert (team.small.calls[0].text, ran) == ("noon?", [1])


def test_more_than_a_users_text_goes_as_messages_and_to_a_completion_as_llamaindex_writes_them(team):
    def told(messages, llm):
        return [ChatMessage("Be terse.", role="system"), *messages]

    llm = team.routed(prepare_messages=told)
    llm.predict(ChatPromptTemplate.from_messages([("system", "You sing."), ("user", "{x}")]), x="La?")
    assert [(str(one.role.value), one.content) for one in team.small.calls[0].messages] == [
        ("system", "Be terse."),
        ("system", "You sing."),
        ("user", "La?"),
    ]
    llm.complete("La?")
    assert team.small.calls[1].text == "system: Be terse.\nuser: La?\nassistant: "


def test_a_prompts_parser_still_has_its_say(team, pair):
    template = PromptTemplate("{x} 1234", output_parser=PydanticOutputParser(pair))
    team.routed(prepare_messages=redact).predict(template, x="Ann 3")
    text = team.small.calls[0].text
    assert text.startswith("Ann 3 ****")
    assert text.count('"properties"') == 1
    assert template.output_parser is not None


# --- prompts of its own ---

OWN = [{"system_prompt": "Be terse."}, {"pydantic_program_mode": PydanticProgramMode.FUNCTION}]


@pytest.mark.parametrize("own", OWN)
async def test_with_prompts_of_its_own_a_call_still_names_its_model(own, door, team):
    await door(team.routed(router=lambda query: "small", **own), "What of 3 and 4?", agentroute_model="large")
    assert team.asked == {"small": 0, "large": 1}
    assert "agentroute_model" not in team.large.calls[0].kwargs


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize(
    "method", ["predict", "apredict", "stream", "astream", "structured_predict", "stream_structured_predict"]
)
async def test_with_prompts_of_its_own_it_routes_on_the_question(method, own, team, pair):
    seen = []
    llm = team.routed(router=lambda query: seen.append(query.text) or "small", **own)
    template = PromptTemplate("Context: {context_str}\nQuestion: {query_str}")
    args = (pair, template) if "structured" in method else (template,)
    found = getattr(llm, method)(*args, context_str="long " * 100, query_str="Who?")
    found = await found if method.startswith("a") else found
    if method == "astream":
        _ = [item async for item in found]
    elif "stream" in method:
        _ = list(found)
    assert seen == ["Who?"]
    assert "Context: long" in team.small.calls[0].text
    llm.chat([ChatMessage("And?")])
    assert seen == ["Who?", "And?"], "what one call has said is not the next one's"


async def test_no_span_of_a_routed_llm_is_opened(door, team):
    spans = SimpleSpanHandler()
    dispatcher = get_dispatcher()
    dispatcher.add_span_handler(spans)
    try:
        await door(team.routed(system_prompt="Be terse."))
    finally:
        dispatcher.span_handlers.remove(spans)
    names = {span.id_.partition("-")[0] for span in spans.completed_spans}
    assert any(name.startswith("ScriptedLLM.") for name in names)
    assert not any(name.startswith(("RoutedLLM.", "DelegatingLLM.")) for name in names)


# --- who calls no tools ---


@pytest.mark.filterwarnings("ignore:'mute'. the window is LlamaIndex's default:agentroute.errors.AgentRouteWarning")
@pytest.mark.parametrize("kind", [MockLLM, ScriptedLLM])
async def test_a_candidate_that_calls_no_tools_is_not_forced_to(tool_door, kind, team):
    mute = kind(calls_tools=False) if kind is ScriptedLLM else kind()
    llm = RoutedLLM(llms={"mute": mute, "large": team.large})
    with pytest.raises(ConfigError, match="'mute' calls no tools"):
        await tool_door(llm, agentroute_model="mute")
    assert not team.large.calls
