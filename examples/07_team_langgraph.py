"""A planner, a solver and a critic in LangGraph, each with the model that recorded runs say it is worth, under a budget.

Needs `pip install 'agentroute-sdk[local]' 'langchain-agentroute[agents,demo]'`. The two small models (600 MB) are fetched
once. What 330 recorded runs of this team taught, and how it does on 120 other tasks: `python benchmarks/teams/real.py`.
"""

from contextlib import ExitStack
from typing import Any

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from pydantic import SecretStr

from agentroute import Query
from agentroute.collection import RecordedTeam, load_team, verify
from agentroute.local import LocalServer
from agentroute.teams import RoleAllocator, current_session
from langchain_agentroute import RoutedChatModel

NAMES = ("smollm2-135m", "qwen2.5-coder-0.5b")
BUDGET = 9e-5  # USD a run, at declared prices


def team_graph(recorded: RecordedTeam, models: dict[str, ChatOpenAI]) -> Any:
    """Three nodes in a row; each asks its role's model, which finds the session by itself."""
    cards = [entry.card for entry in recorded.entries if entry.card.id in NAMES]
    routed = {role.name: RoutedChatModel(models=models, role=role.name, cards=cards) for role in recorded.team.roles}

    def node(role: str, gives: str) -> Any:
        def speak(state: dict[str, str]) -> dict[str, str]:
            prompt = recorded.prompts[role].format(task=state["task"], plan=state.get("plan", ""), answer=state.get("answer", ""))
            return {**state, gives: str(routed[role].invoke(prompt, max_tokens=recorded.max_tokens[role]).text).strip()}

        return speak

    def checked(_: dict[str, str]) -> str:
        """The critic is optional: the allocation says whether it takes part."""
        session = current_session()
        return "critic" if session is not None and session.has("critic") else END

    graph = StateGraph(dict)
    for role, gives in (("planner", "plan"), ("solver", "answer"), ("critic", "answer")):
        graph.add_node(role, node(role, gives))
    graph.add_edge(START, "planner")
    graph.add_edge("planner", "solver")
    graph.add_conditional_edges("solver", checked)
    graph.add_edge("critic", END)
    return graph.compile()


def main() -> None:
    """Learns from the recorded runs, and lets the team solve three tasks."""
    recorded = load_team()
    cards = [entry.card for entry in recorded.entries if entry.card.id in NAMES]
    allocator = RoleAllocator(recorded.team, cards)
    report = allocator.fit(recorded.runs)
    print(f"learned from {report.runs} runs; left out: {dict(report.left_out)}")
    with ExitStack() as stack:
        models = {}
        for name in NAMES:
            server = stack.enter_context(LocalServer(name))
            key = SecretStr(server.api_key)
            models[name] = ChatOpenAI(model=name, base_url=server.base_url, api_key=key, temperature=0, max_retries=0)
        graph = team_graph(recorded, models)
        for name in sorted({run.query.id or "" for run in recorded.held})[::50]:
            task = recorded.tasks[name]
            with allocator.session(Query(text=task.prompt, task=task.task), budget=BUDGET) as session:
                state = graph.invoke({"task": task.prompt})
                run = session.finish(success=verify(state["answer"], task.verifier))
            spent = ", ".join(f"{role} {run.models[role]}" for role in run.roles)
            print(f"{task.task}: {'right' if run.success else 'wrong'}, ${run.cost or 0:.6f} ({spent})")
    kept = all(run.cost is not None and run.cost <= BUDGET for run in allocator.runs)
    print(f"{len(allocator.runs)} runs recorded, none above ${BUDGET:g}: {kept}")


if __name__ == "__main__":
    main()
