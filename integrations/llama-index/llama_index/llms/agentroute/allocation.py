"""Which model each agent of a team gets: for one run of a shared workflow, or built into agents of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

from llama_index.core.agent.workflow import BaseWorkflowAgent, CodeActAgent, FunctionAgent
from llama_index.core.llms import LLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index_instrumentation.dispatcher import active_instrument_tags

from agentroute.errors import ConfigError, UnknownModelError
from agentroute.teams import NONE, TeamSession, Trial
from llama_index.llms.agentroute.events import ALLOCATION, RUN, tagged

__all__ = ["allocated", "apply_static", "memory_for", "use_allocation"]

A = TypeVar("A", bound=BaseWorkflowAgent)


@contextmanager
def use_allocation(allocation: Any, *, run: str | None = None) -> Iterator[None]:
    """Gives each role its model, for every run that begins within.

    One shared workflow serves many runs at once: routed LLMs made by `for_role` ask which model their role has in this run.
    What a run starts in its turn, such as an agent in a tool, has the same allocation; a block within a block adds to it, and
    the inner one wins. Only the start of a run has to be within, not the wait for it.

    A `TeamSession` is made the current one, as its own `with` block does where the context is kept: it decides before each call,
    keeps the budget and books what each role takes. What a mapping gives a role comes before what a session gives it,
    whichever block is the inner one; the session pays for it and books it all the same.

    Args:
        allocation: Role → model name, or an object with such a mapping as `models`, such as an `Allocation` or a `Trial` of a
            team, or a team's session, which alone keeps a record. Roles that nobody has do no harm.
        run: A name for the run, under which a `UsageLedger` counts it and all that it starts.

    Raises:
        ConfigError: The allocation does not map names to names, or the run's name is empty.

    ```python
    with use_allocation({"planner": "large"}):
        with use_allocation({"writer": "small"}):
            allocated("planner"), allocated("writer"), allocated("critic")  # ("large", "small", None)
    ```
    """
    if run is not None and not run:
        raise ConfigError("run='' is no name: give the run one, or None")
    if isinstance(allocation, TeamSession):
        with allocation.active(), nullcontext() if run is None else tagged({RUN: run}):
            yield
        return
    models = _models(allocation)
    outer = active_instrument_tags.get().get(ALLOCATION)
    merged = {**(outer if isinstance(outer, Mapping) else {}), **models}
    with tagged({ALLOCATION: merged} if run is None else {ALLOCATION: merged, RUN: run}):
        yield


def allocated(role: str | None) -> str | None:
    """The model that a role has in this run; `None` = nobody gave it one."""
    allocation = active_instrument_tags.get().get(ALLOCATION)
    if role is None or not isinstance(allocation, Mapping):
        return None
    model = allocation.get(role)
    return model if isinstance(model, str) else None


def _models(allocation: Any) -> Mapping[str, str]:
    """The mapping of an allocation, checked."""
    models = allocation if isinstance(allocation, Mapping) else getattr(allocation, "models", None)
    if not isinstance(models, Mapping):
        raise ConfigError(f"an allocation maps roles to model names, such as {{'planner': 'large'}}, not {allocation!r}")
    for role, model in models.items():
        if not (isinstance(role, str) and isinstance(model, str) and role and model):
            raise ConfigError(f"an allocation maps roles to model names: {role!r}: {model!r} is no pair of names")
    if isinstance(allocation, Trial):
        # Who is left out has no model, as in an allocation.
        return {role: model for role, model in models.items() if model != NONE}
    return models


def apply_static(agents: Sequence[A], allocation: Any, llms: Mapping[str, LLM]) -> list[A]:
    """Copies of agents with the LLMs that they are allocated, for a workflow of one's own for each task.

    The agents themselves stay as they are; one without an allocation is copied with the LLM that it has.

    Args:
        agents: The agents of one workflow.
        allocation: Agent name → model name, or an object with such a mapping as `models`.
        llms: The LLMs by model name.

    Raises:
        UnknownModelError: The allocation names a model that is not in `llms`.
        ConfigError: It names an agent that is not there, two agents share a name, or an agent that needs tool calls would get
            an LLM that makes none; LlamaIndex would only say so at run time.
    """
    models = _models(allocation)
    names = [agent.name for agent in agents]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two agents are called {name!r}: give each its own name=")
    for name, model in models.items():
        if name not in names:
            raise ConfigError(f"there is no agent {name!r} to give {model!r} to: the agents are {', '.join(map(repr, names))}")
        if model not in llms:
            raise UnknownModelError(model, llms, where="llms=")
    copies = []
    for agent in agents:
        given = models.get(agent.name)
        if given is None:
            copies.append(agent.model_copy())
            continue
        why = _needs_tools(agent, names)
        if why is not None and not _calls_tools(llms[given]):
            raise ConfigError(f"{given!r} calls no tools, and {agent.name!r} needs them: {why}; allocate another model")
        copies.append(agent.model_copy(update={"llm": llms[given]}))
    return copies


def _calls_tools(llm: LLM) -> bool:
    # A StructuredLLM hands on the flag of the LLM within, but has no method that takes tools.
    return isinstance(llm, FunctionCallingLLM) and llm.metadata.is_function_calling_model


def _needs_tools(agent: BaseWorkflowAgent, names: Sequence[str]) -> str | None:
    """Why an agent's LLM must call tools; `None` = it need not."""
    if isinstance(agent, FunctionAgent):
        return "it is a FunctionAgent"
    may = names if agent.can_handoff_to is None else agent.can_handoff_to
    if isinstance(agent, CodeActAgent) and any(name != agent.name and name in names for name in may):
        return "it is a CodeActAgent that hands off to others by a tool"
    return None


def memory_for(agents: Sequence[BaseWorkflowAgent], share: float = 0.75) -> ChatMemoryBuffer:
    """A memory that fits every agent of a workflow. `AgentWorkflow` by itself sizes it for the root agent's LLM alone.

    Args:
        agents: The agents; a routed LLM has the window that its metadata tells.
        share: Part of the smallest context window that the memory may take, in (0, 1].

    Returns:
        A memory with `token_limit` = `share` of the smallest window, in tokens.

    Raises:
        ConfigError: There are no agents, `share` is out of range, or a window is no positive number.
    """
    if not agents:
        raise ConfigError("memory_for needs the agents of the workflow: there are none")
    if not 0 < share <= 1:
        raise ConfigError(f"share={share!r} is outside (0, 1]")
    smallest = min(agents, key=lambda agent: agent.llm.metadata.context_window)
    limit = int(share * smallest.llm.metadata.context_window)
    if limit < 1:
        raise ConfigError(
            f"the LLM of {smallest.name!r} tells a context window of {smallest.llm.metadata.context_window} tokens: "
            "set its context_window="
        )
    return ChatMemoryBuffer.from_defaults(token_limit=limit)
