"""Allocations of models to roles: for one run of a shared workflow, and built into agents."""

import asyncio
from types import SimpleNamespace

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, CodeActAgent, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, LLMMetadata, ToolCallBlock
from llama_index.core.instrumentation.dispatcher import active_instrument_tags, instrument_tags
from llama_index.core.llms.mock import MockFunctionCallingLLM, MockLLM
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step
from pydantic import BaseModel, Field

from agentroute.errors import ConfigError, UnknownModelError
from llama_index.llms.agentroute.allocation import allocated, apply_static, memory_for, use_allocation
from llama_index.llms.agentroute.base import RoutedLLM
from llama_index.llms.agentroute.events import ModelRouted

# LlamaIndex's agents look through their own attributes, pydantic's old ones among them.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")


class Named(MockFunctionCallingLLM):
    """Says its name; once told to, it calls a tool first."""

    name: str
    window: int = 8000
    calls: str | None = None
    arguments: dict = Field(default_factory=dict)

    @property
    def metadata(self):
        return LLMMetadata(is_function_calling_model=True, model_name=self.name, context_window=self.window)

    def _get_response_generator(self):
        def answer(messages, **kwargs):
            wanted = self.calls in {tool.metadata.name for tool in kwargs.get("tools") or ()}
            if wanted and messages[-1].role == "user":
                call = ToolCallBlock(tool_call_id="1", tool_name=self.calls, tool_kwargs=self.arguments)
                return ChatMessage(role="assistant", blocks=[call])
            return ChatMessage(role="assistant", content=self.name)

        return answer


class Texts(MockLLM):
    """Calls no tools."""

    @property
    def metadata(self):
        return LLMMetadata(model_name="texts", context_window=2000)


def pair(**kwargs):
    return {"small": Named(name="small", **kwargs), "large": Named(name="large", **kwargs)}


# --- the mapping of a run ---


def test_a_role_has_its_model_within_the_block_and_only_there():
    assert allocated("planner") is None
    with use_allocation({"planner": "large"}):
        assert allocated("planner") == "large"
        assert allocated("writer") is None
        assert allocated(None) is None
    assert allocated("planner") is None


def test_blocks_within_blocks_add_up_and_the_inner_one_wins():
    with use_allocation({"planner": "large", "writer": "large"}):
        with use_allocation({"writer": "small", "critic": "small"}):
            assert [allocated(role) for role in ("planner", "writer", "critic")] == ["large", "small", "small"]
        assert [allocated(role) for role in ("planner", "writer", "critic")] == ["large", "large", None]


def test_other_tags_stay():
    with instrument_tags({"user": "u1"}), use_allocation({"planner": "large"}, run="r1"):
        assert active_instrument_tags.get() == {
            "user": "u1",
            "agentroute_allocation": {"planner": "large"},
            "agentroute_run": "r1",
        }
    assert active_instrument_tags.get() == {}


def test_an_object_with_models_is_an_allocation_too():
    with use_allocation(SimpleNamespace(models={"planner": "large"}, reason="why")):
        assert allocated("planner") == "large"


def test_what_is_given_is_not_kept():
    mine = {"planner": "large"}
    with use_allocation(mine):
        mine["planner"] = "small"
        assert allocated("planner") == "large"


@pytest.mark.parametrize(
    "allocation",
    [None, "planner", ["planner"], {"planner": None}, {"planner": Named(name="x")}, {1: "large"}, {"": "large"}, {"planner": ""}],
)
def test_what_maps_no_names_to_names_is_refused(allocation):
    with pytest.raises(ConfigError, match="maps roles to model names"), use_allocation(allocation):
        pass


def test_an_empty_name_of_a_run_is_refused():
    with pytest.raises(ConfigError, match="run="), use_allocation({}, run=""):
        pass


@pytest.mark.parametrize("tag", ["planner", {"planner": 3}, None])
def test_a_tag_of_anothers_making_allocates_nothing(tag):
    with instrument_tags({"agentroute_allocation": tag}):
        assert allocated("planner") is None
        with use_allocation({"planner": "large"}):
            assert allocated("planner") == "large"


# --- runs of a shared workflow ---


class Team(Workflow):
    """Two roles that answer at once, after others had their turn."""

    def __init__(self, llm, **kwargs):
        super().__init__(**kwargs)
        self.roles = {role: llm.for_role(role) for role in ("planner", "writer")}

    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        async def ask(role):
            for _ in range(3):
                await asyncio.sleep(0)
            answer = await self.roles[role].achat([ChatMessage("write")])
            return role, answer.message.content

        return StopEvent(result=dict(await asyncio.gather(*map(ask, self.roles))))


async def test_two_runs_of_one_workflow_at_once_have_each_their_own_allocation():
    team = Team(RoutedLLM(llms=pair()))
    allocations = [{"planner": a, "writer": b} for a in ("small", "large") for b in ("small", "large")] * 10
    runs = []
    for allocation in allocations:
        with use_allocation(allocation):
            runs.append(team.run())
    assert await asyncio.gather(*runs) == allocations


async def test_a_run_without_an_allocation_is_routed_beside_one_that_has_one():
    team = Team(RoutedLLM(llms=pair(), default="small"))
    with use_allocation({"planner": "large"}):
        allocated_run = team.run()
    assert await team.run() == {"planner": "small", "writer": "small"}
    assert await allocated_run == {"planner": "large", "writer": "small"}


async def models_of(handler):
    """Who was asked for whom, in order."""
    told = [(event.role, event.model) async for event in handler.stream_events() if isinstance(event, ModelRouted)]
    return told, str(await handler)


@pytest.mark.parametrize("streaming", [True, False])
async def test_two_runs_of_one_agent_workflow_with_handoff_have_each_their_own_models(streaming):
    arguments = {"to_agent": "worker", "reason": "it is yours"}
    llm = RoutedLLM(llms=pair(calls="handoff", arguments=arguments), default="small")
    agents = [
        FunctionAgent(name="triage", description="first", llm=llm.for_role("triage"), streaming=streaming),
        FunctionAgent(name="worker", description="second", llm=llm.for_role("worker"), can_handoff_to=[], streaming=streaming),
    ]
    workflow = AgentWorkflow(agents=agents, root_agent="triage")
    with use_allocation({"triage": "small", "worker": "large"}):
        one = workflow.run(user_msg="work")
    with use_allocation({"triage": "large", "worker": "small"}):
        other = workflow.run(user_msg="work")
    assert await asyncio.gather(models_of(one), models_of(other)) == [
        ([("triage", "small"), ("worker", "large")], "large"),
        ([("triage", "large"), ("worker", "small")], "small"),
    ]


@pytest.mark.parametrize("waits", [True, False])
async def test_a_tool_and_the_agent_within_it_have_the_runs_allocation(waits):
    llm = RoutedLLM(llms=pair(calls="ask", arguments={}), default="small")
    inner = FunctionAgent(name="inner", llm=llm.for_role("inner"))
    seen = []

    async def ask() -> str:
        """Asks an agent."""
        answer = str(await inner.run("what?"))
        seen.append(answer)
        return answer

    def ask_at_once() -> str:
        """Asks an LLM."""
        seen.append(llm.for_role("inner").chat([ChatMessage("what?")]).message.content)
        return seen[-1]

    ask_at_once.__name__ = "ask"
    outer = FunctionAgent(name="outer", llm=llm.for_role("outer"), tools=[ask if waits else ask_at_once])
    with use_allocation({"inner": "large", "outer": "small"}):
        one = outer.run("work")
    with use_allocation({"inner": "small", "outer": "large"}):
        other = outer.run("work")
    assert [str(await one), str(await other)] == ["small", "large"]
    assert sorted(seen) == ["large", "small"]


# --- built into agents ---


def agent(name="a", kind=FunctionAgent, **kwargs):
    return kind(name=name, description=name, llm=Named(name="own"), **kwargs)


async def test_copies_have_their_models_and_the_agents_keep_their_own():
    agents, llms = [agent("a"), agent("b"), agent("c")], pair()
    copies = apply_static(agents, {"a": "large", "b": "small"}, llms)
    assert [copy.llm.name for copy in copies] == ["large", "small", "own"]
    assert copies[0].llm is llms["large"]
    assert [one.llm.name for one in agents] == ["own", "own", "own"]
    assert not any(copy is one for copy, one in zip(copies, agents, strict=True))
    assert str(await AgentWorkflow(agents=copies, root_agent="a").run("work")) == "large"
    assert str(await AgentWorkflow(agents=agents, root_agent="a").run("work")) == "own"


def test_an_allocation_of_an_unknown_model_or_agent_is_refused():
    with pytest.raises(UnknownModelError, match=r"'huge'.*'small', 'large'"):
        apply_static([agent()], {"a": "huge"}, pair())
    with pytest.raises(ConfigError, match=r"no agent 'z'.*the agents are 'a'"):
        apply_static([agent()], {"z": "small"}, pair())
    with pytest.raises(ConfigError, match="two agents are called 'a'"):
        apply_static([agent(), agent()], {"a": "small"}, pair())


class Shape(BaseModel):
    side: int


@pytest.mark.parametrize("llm", [Texts(), Named(name="x").as_structured_llm(Shape)])
def test_a_function_agent_with_an_llm_that_calls_no_tools_is_refused_when_it_is_built(llm):
    with pytest.raises(ConfigError, match="'texts' calls no tools, and 'a' needs them: it is a FunctionAgent"):
        apply_static([agent()], {"a": "texts"}, {"texts": llm})


async def test_without_the_check_that_fails_only_at_run_time():
    broken = agent().model_copy(update={"llm": Texts()})
    with pytest.raises(ValueError, match="LLM must be a FunctionCallingLLM"):
        await broken.run("work")


def run_code(code: str) -> str:
    """Runs nothing."""
    return code


def code_agent(name="code", **kwargs):
    return agent(name, CodeActAgent, code_execute_fn=run_code, **kwargs)


@pytest.mark.parametrize("may", [None, ["b"]])
def test_a_code_agent_needs_tools_where_it_hands_off(may):
    with pytest.raises(ConfigError, match="hands off"):
        apply_static([code_agent(can_handoff_to=may), agent("b")], {"code": "texts"}, {"texts": Texts()})


@pytest.mark.parametrize(
    "agents",
    [
        lambda: [code_agent()],
        lambda: [code_agent(can_handoff_to=[]), agent("b")],
        lambda: [code_agent(can_handoff_to=["code", "gone"]), agent("b")],
        lambda: [agent("code", ReActAgent), agent("b")],
    ],
)
def test_an_agent_that_needs_no_tools_takes_any_llm(agents):
    assert apply_static(agents(), {"code": "texts"}, {"texts": Texts()})[0].llm.metadata.model_name == "texts"


def test_a_routed_llm_is_an_llm_to_allocate():
    routed = RoutedLLM(llms={**pair(), "texts": Texts()})
    assert apply_static([agent()], {"a": "routed"}, {"routed": routed})[0].llm is routed
    with pytest.raises(ConfigError, match="calls no tools"):
        apply_static([agent()], {"a": "routed"}, {"routed": RoutedLLM(llms={"texts": Texts()})})


# --- a memory that fits ---


async def limit_of(agents, **kwargs):
    """The token limit of the memory that a run had."""
    handler = AgentWorkflow(agents=agents, root_agent=agents[0].name).run("work", **kwargs)
    await handler
    return (await handler.ctx.store.get("memory")).token_limit


async def test_the_memory_is_sized_for_the_smallest_window_and_not_for_the_root_agents():
    agents = [
        FunctionAgent(name="root", description="r", llm=Named(name="large", window=128_000)),
        FunctionAgent(name="other", description="o", llm=Named(name="small", window=8_000)),
    ]
    assert await limit_of(agents) == 96_000  # as LlamaIndex does by itself
    assert await limit_of(agents, memory=memory_for(agents)) == 6_000
    assert memory_for(agents, 0.5).token_limit == 4_000
    assert memory_for(agents[:1], 1).token_limit == 128_000


@pytest.mark.parametrize(("policy", "limit"), [("min", 1_500), ("max", 6_000), (4_000, 3_000)])
def test_a_routed_llm_counts_with_the_window_that_it_tells(policy, limit):
    llm = RoutedLLM(llms={"texts": Texts(), "small": Named(name="small", window=8_000)}, context_window=policy)
    assert memory_for([FunctionAgent(llm=llm), FunctionAgent(llm=Named(name="large", window=128_000))]).token_limit == limit


@pytest.mark.parametrize("share", [0, -1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ConfigError, match="outside"):
        memory_for([agent()], share)


def test_a_memory_of_nobody_or_of_no_window_is_refused():
    with pytest.raises(ConfigError, match="there are none"):
        memory_for([])
    with pytest.raises(ConfigError, match="'a' tells a context window of 0"):
        memory_for([FunctionAgent(name="a", llm=Named(name="x", window=0))])


async def test_runs_of_the_same_words_at_once_do_not_keep_one_anothers_models():
    llm = RoutedLLM(llms=pair(calls="look"), default="small")
    both = asyncio.Barrier(2)

    async def look() -> str:
        """Waits until both runs have called it."""
        await both.wait()
        return "seen"

    agent = FunctionAgent(name="worker", llm=llm.for_role("worker"), tools=[look])
    other = agent.run("work")
    with use_allocation({"worker": "large"}):
        one = agent.run("work")
    assert await asyncio.gather(models_of(one), models_of(other)) == [
        ([("worker", "large")] * 2, "large"),
        ([("worker", "small")] * 2, "small"),
    ]
