"""A planner, a solver and a critic in a LlamaIndex workflow, each with the model that recorded runs say it is worth.

Needs `pip install 'agentroute-sdk[local]' 'llama-index-llms-agentroute[demo]'`. The two small models (600 MB) are fetched
once. The same team as in `07_team_langgraph.py`, from the same recorded runs.
"""

import asyncio
from contextlib import ExitStack

from llama_index.core.llms import ChatMessage
from llama_index.core.workflow import Event, StartEvent, StopEvent, Workflow, step
from llama_index.llms.openai_like import OpenAILike

from agentroute import Query
from agentroute.collection import RecordedTeam, load_team, verify
from agentroute.local import LocalServer
from agentroute.teams import RoleAllocator
from llama_index.llms.agentroute import RoutedLLM

NAMES = ("smollm2-135m", "qwen2.5-coder-0.5b")
BUDGET = 9e-5  # USD a run, at declared prices


class Planned(Event):
    """The planner has spoken."""

    task: str
    plan: str


class Solved(Event):
    """The solver has spoken."""

    task: str
    answer: str


class Crew(Workflow):
    """One step for each role; the critic is optional."""

    def __init__(self, llm: RoutedLLM, recorded: RecordedTeam, *, with_critic: bool) -> None:
        super().__init__(timeout=120)
        self.llms = {role.name: llm.for_role(role.name) for role in recorded.team.roles}
        self.recorded = recorded
        self.with_critic = with_critic

    async def ask(self, role: str, **words: str) -> str:
        """What a role's model says; the model finds the team's session by itself."""
        prompt = self.recorded.prompts[role].format(**{"plan": "", "answer": "", **words})
        said = await self.llms[role].achat([ChatMessage(prompt)], max_tokens=self.recorded.max_tokens[role])
        return (said.message.content or "").strip()

    @step
    async def plan(self, event: StartEvent) -> Planned:
        """The planner."""
        return Planned(task=event.task, plan=await self.ask("planner", task=event.task))

    @step
    async def solve(self, event: Planned) -> Solved | StopEvent:
        """The solver."""
        answer = await self.ask("solver", task=event.task, plan=event.plan)
        return Solved(task=event.task, answer=answer) if self.with_critic else StopEvent(result=answer)

    @step
    async def check(self, event: Solved) -> StopEvent:
        """The critic."""
        return StopEvent(result=await self.ask("critic", task=event.task, answer=event.answer))


async def main() -> None:
    """Learns from the recorded runs, and lets the team solve three tasks."""
    recorded = load_team()
    cards = [entry.card for entry in recorded.entries if entry.card.id in NAMES]
    allocator = RoleAllocator(recorded.team, cards, runs=recorded.runs)
    with ExitStack() as stack:
        servers = [stack.enter_context(LocalServer(name)) for name in NAMES]
        llm = RoutedLLM(
            llms={
                one.model: OpenAILike(
                    model=one.model,
                    api_base=one.base_url,
                    api_key=one.api_key,
                    context_window=one.context,
                    is_chat_model=True,
                    temperature=0.0,
                    max_retries=0,
                )
                for one in servers
            },
            cards=cards,
        )
        for name in sorted({run.query.id or "" for run in recorded.held})[::50]:
            task = recorded.tasks[name]
            with allocator.session(Query(text=task.prompt, task=task.task), budget=BUDGET) as session:
                answer = await Crew(llm, recorded, with_critic=session.has("critic")).run(task=task.prompt)
                run = session.finish(success=verify(str(answer), task.verifier))
            spent = ", ".join(f"{role} {run.models[role]}" for role in run.roles)
            print(f"{task.task}: {'right' if run.success else 'wrong'}, ${run.cost or 0:.6f} ({spent})")
    kept = all(run.cost is not None and run.cost <= BUDGET for run in allocator.runs)
    print(f"{len(allocator.runs)} runs recorded, none above ${BUDGET:g}: {kept}")


if __name__ == "__main__":
    asyncio.run(main())
