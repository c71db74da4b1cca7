"""A routed LLM wherever LlamaIndex takes an LLM: settings, engines, extractors, agents and workflows."""

from typing import Annotated

import pytest
from llama_index.core import MockEmbedding, PromptTemplate, Settings, SummaryIndex, VectorStoreIndex, get_response_synthesizer
from llama_index.core.agent.workflow import AgentWorkflow, CodeActAgent, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.callbacks import CallbackManager
from llama_index.core.evaluation import FaithfulnessEvaluator
from llama_index.core.extractors import TitleExtractor
from llama_index.core.indices.query.query_transform import HyDEQueryTransform
from llama_index.core.llms import ChatMessage
from llama_index.core.llms.utils import resolve_llm
from llama_index.core.output_parsers import PydanticOutputParser
from llama_index.core.postprocessor import LLMRerank
from llama_index.core.program import FunctionCallingProgram, LLMTextCompletionProgram
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.tools import FunctionTool, QueryEngineTool
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step
from llama_index.core.workflow.resource import Resource

from llama_index.llms.agentroute import CascadeLLM, ModelRouted, RoutedLLM, use_allocation
from llama_index.llms.agentroute.testing import ScriptedLLM

# Agents look at all attributes of theirs when they are made, pydantic's old ones among them; and a ReActAgent asks for what its
# workflows library no longer wants to be asked.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pydantic.warnings.PydanticDeprecationWarning", "ignore:is_running called from within a step:DeprecationWarning"
)

NODES = [TextNode(text="two and two is four"), TextNode(text="roses are red")]
ASKED = "What of 3 and 4?"
STREAMING = pytest.mark.parametrize("streaming", [True, False])


@pytest.fixture
def settings(monkeypatch):
    """LlamaIndex's settings, put back afterwards."""
    for name in ("_llm", "_embed_model", "_callback_manager"):
        monkeypatch.setattr(Settings, name, getattr(Settings, name))
    return Settings


# --- settings and engines ---

# Engines are asked within an event loop: without one LlamaIndex makes one of its own to count tokens in, and leaves it open.


async def test_the_llm_of_the_settings(settings, team):
    settings.llm = team.routed()
    settings.embed_model = MockEmbedding(embed_dim=4)
    assert settings.llm.llms["small"] is team.small
    assert resolve_llm(settings.llm) is settings.llm
    team.small.replies = team.large.replies = ["It is four."]
    assert str(VectorStoreIndex(nodes=NODES).as_query_engine().query("Two and two?")) == "It is four."
    assert team.asked == {"small": 1, "large": 0}, "routed on the question, not on the context around it"


@pytest.mark.parametrize("streaming", [True, False])
async def test_query_engines(streaming, team):
    team.large.replies = ["one two", "three four"]
    engine = SummaryIndex(NODES).as_query_engine(llm=team.routed(), streaming=streaming)
    answer = engine.query("Why is it, if I may ask, that two and two is four?")
    assert ("".join(answer.response_gen) if streaming else str(answer)) == "one two"
    answer = await engine.aquery("Why is it, if I may ask, that two and two is four?")
    assert ("".join([token async for token in answer.response_gen]) if streaming else str(answer)) == "three four"
    assert team.asked == {"small": 0, "large": 2}


async def test_engines_that_give_objects(team, pair):
    team.small.replies = [pair(name="Ann", number=3)]
    llm = team.routed(router=lambda query: "small")
    engine = SummaryIndex(NODES).as_query_engine(llm=llm.as_structured_llm(pair))
    assert engine.query("Who?").response == pair(name="Ann", number=3)
    team.small.replies = [*team.small.replies, pair(name="Bob", number=4)]
    made = get_response_synthesizer(llm=team.routed(), output_cls=pair, response_mode="compact")
    nodes = [NodeWithScore(node=node) for node in NODES]
    assert made.synthesize("Who?", nodes).response == pair(name="Bob", number=4)


async def test_what_else_asks_an_llm(team, pair):
    team.small.replies = ["A title", "A title for all"]
    llm = team.routed(router=None)
    (found,) = await TitleExtractor(llm=llm, nodes=1).aextract([TextNode(text="a")])
    assert "title" in found["document_title"]
    team.small.replies = ["YES"] * 9
    assert (await FaithfulnessEvaluator(llm=llm).aevaluate(response="four", contexts=["four"])).passing
    assert HyDEQueryTransform(llm=llm)("Who?").embedding_strs[0] == "YES"
    team.small.replies = ["Doc: 2, Relevance: 9"] * 9
    ranked = LLMRerank(llm=llm, top_n=1).postprocess_nodes([NodeWithScore(node=node) for node in NODES], QueryBundle("roses?"))
    assert [one.node.text for one in ranked] == ["roses are red"]
    assert not team.large.calls


async def test_programs(team, pair):
    team.small.replies = [pair(name="Ann", number=3), '{"name": "Bob", "number": 4}']
    called = FunctionCallingProgram.from_defaults(output_cls=pair, prompt_template_str="Who is {who}?", llm=team.routed())
    assert called(who="Ann") == pair(name="Ann", number=3)
    told = LLMTextCompletionProgram.from_defaults(
        output_parser=PydanticOutputParser(output_cls=pair),
        prompt_template_str="Who is {who}?",
        llm=team.routed(router=lambda query: "small"),
    )
    assert told(who="Bob") == pair(name="Bob", number=4)


def test_prompts_of_a_wrapper_s_own_are_llamaindex_s_way(team, pair):
    """With a parser of its own the routed LLM makes the messages, and the chat is routed."""
    llm = team.routed(output_parser=PydanticOutputParser(output_cls=pair))
    team.large.replies = ['{"name": "Ann", "number": 3}']
    assert llm.predict(PromptTemplate("Who?")) == "name='Ann' number=3"
    assert "JSON schema" in team.large.calls[0].text
    with pytest.raises(NotImplementedError, match="not supported for streaming"):
        llm.stream(PromptTemplate("Who?"))


# --- agents ---


@STREAMING
async def test_a_function_agent(streaming, team, add_tool):
    agent = FunctionAgent(tools=[add_tool], llm=team.routed(role="adder"), streaming=streaming)
    handler = agent.run(ASKED)
    routed = [(event.role, event.model, event.by) async for event in handler.stream_events() if isinstance(event, ModelRouted)]
    result = await handler
    assert str(result) == "[small] answer to: What of 3 and 4?"
    assert [call.tool_output.content for call in result.tool_calls] == ["7"]
    assert routed == [("adder", "small", "policy"), ("adder", "small", "sticky")]


@STREAMING
async def test_a_function_agent_whose_models_write_tool_calls_in_ways_of_their_own(streaming, add_tool):
    """The model changes in the middle of the tool loop, and each reads what the other wrote."""

    class Other(ScriptedLLM):
        pass

    two = FunctionTool.from_defaults(lambda a: a * 2, name="double", description="Doubles.")
    names = iter(["first", "second", "first"])
    llms = {"first": ScriptedLLM(model="first", tool_style="kwargs"), "second": Other(model="second", tool_style="blocks")}
    call = ToolCallBlock(tool_call_id="b", tool_name="double", tool_kwargs={"a": 7})
    llms["second"].replies = [call]
    llm = RoutedLLM(llms=llms, router=lambda query: next(names), sticky="none")
    result = await FunctionAgent(tools=[add_tool, two], llm=llm, streaming=streaming).run(ASKED)
    assert [one.tool_output.content for one in result.tool_calls] == ["7", "14"]
    (seen,) = llms["second"].calls
    blocks = [block for message in seen.messages for block in message.blocks if isinstance(block, ToolCallBlock)]
    assert [(block.tool_name, block.tool_kwargs) for block in blocks] == [("add", {"a": 3, "b": 4})]


@STREAMING
async def test_agents_over_models_that_call_no_tools(streaming, team, add_tool):
    team.small.calls_tools = team.large.calls_tools = False
    team.small.replies = [
        'Thought: I need a tool.\nAction: add\nAction Input: {"a": 3, "b": 4}',
        "Thought: I can answer without using any more tools.\nAnswer: 7",
        "<execute>print(7)</execute>",
        "It is 7.",
    ]
    llm = team.routed()
    assert str(await ReActAgent(tools=[add_tool], llm=llm, streaming=streaming).run(ASKED)) == "7"
    assert str(await CodeActAgent(code_execute_fn=lambda code: "7", llm=llm, streaming=streaming).run(ASKED)) == "It is 7."
    with pytest.raises(ValueError, match="FunctionCallingLLM"):
        await FunctionAgent(tools=[add_tool], llm=llm).run(ASKED)
    workflow = AgentWorkflow.from_tools_or_functions([add_tool], llm=llm)
    assert isinstance(workflow.agents["Agent"], ReActAgent)


@STREAMING
@pytest.mark.parametrize("kind", [RoutedLLM, CascadeLLM])
async def test_a_workflow_of_two_agents_with_a_handoff(streaming, kind, add_tool):
    """Triage by the cheap model, work by the strong one."""
    handoff = ToolCallBlock(tool_call_id="h", tool_name="handoff", tool_kwargs={"to_agent": "worker", "reason": "a sum"})
    adds = ToolCallBlock(tool_call_id="a", tool_name="add", tool_kwargs={"a": 3, "b": 4})
    cheap, strong = ScriptedLLM(model="cheap", replies=[handoff]), ScriptedLLM(model="strong", replies=[adds])
    llm = kind(llms={"cheap": cheap, "strong": strong})
    agents = [
        FunctionAgent(name="triage", description="sorts", llm=llm.for_role("triage"), streaming=streaming),
        FunctionAgent(
            name="worker",
            description="adds",
            llm=llm.for_role("worker"),
            tools=[add_tool],
            can_handoff_to=[],
            streaming=streaming,
        ),
    ]
    with use_allocation({"triage": "cheap", "worker": "strong"}):
        handler = AgentWorkflow(agents=agents, root_agent="triage").run(ASKED)
    routed = [(event.role, event.model) async for event in handler.stream_events() if isinstance(event, ModelRouted)]
    result = await handler
    assert routed == [("triage", "cheap"), ("worker", "strong"), ("worker", "strong")]
    assert (len(cheap.calls), len(strong.calls)) == (1, 2)
    assert result.current_agent_name == "worker"
    assert str(result).startswith("[strong] answer to:")


async def test_a_query_engine_as_the_tool_of_an_agent(team):
    """What the tool asks is routed on the tool's question, not on the user's."""
    seen = []
    llm = team.routed(router=lambda query: seen.append(query.text) or "small")
    engine = SummaryIndex(NODES).as_query_engine(llm=llm)
    tool = QueryEngineTool.from_defaults(engine, name="book", description="Knows.")
    team.small.replies = [
        ToolCallBlock(tool_call_id="1", tool_name="book", tool_kwargs={"input": "Roses?"}),
        "Red.",
        "They are red.",
    ]
    assert str(await FunctionAgent(tools=[tool], llm=llm).run("Tell me of roses.")) == "They are red."
    assert seen == ["Tell me of roses.", "Roses?"]


async def test_an_answer_of_last_resort(team, add_tool):
    """`early_stopping_method="generate"` ends an agent with a plain chat."""
    calls = [ToolCallBlock(tool_call_id="1", tool_name="add", tool_kwargs={"a": 1, "b": 2})]
    team.small.replies = [*[calls] * 2, "That is all."]
    agent = FunctionAgent(tools=[add_tool], llm=team.routed(), early_stopping_method="generate")
    assert "That is all." in str(await agent.run(ASKED, max_iterations=2))


# --- workflows ---


async def test_workflows_and_their_resources(team):
    made = []

    def get_llm():
        made.append(team.routed())
        return made[0]

    class Flow(Workflow):
        @step
        async def ask(self, event: StartEvent, llm: Annotated[RoutedLLM, Resource(get_llm)]) -> StopEvent:
            return StopEvent(result=(await llm.achat([ChatMessage(event.text)])).message.content)

    assert await Flow().run(text="Who?") == "[small] answer to: Who?"
    assert len(made) == 1


def test_listeners_of_the_settings_hear_the_candidates(settings, team):
    """`Settings.callback_manager` reaches LLMs that are made afterwards."""
    from llama_index.core.callbacks import TokenCountingHandler

    counter = TokenCountingHandler()
    settings.callback_manager = CallbackManager([counter])
    llms = {"small": ScriptedLLM(model="small", callback_manager=settings.callback_manager)}
    RoutedLLM(llms=llms, callback_manager=settings.callback_manager).chat([ChatMessage("x")])
    assert counter.total_llm_token_count == 15
