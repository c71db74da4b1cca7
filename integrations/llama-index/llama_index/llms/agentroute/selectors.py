"""A selector that chooses between query engines by the models behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.schema import QueryBundle
from llama_index.core.tools.types import ToolMetadata

from agentroute.errors import ConfigError, UnknownModelError
from agentroute.pool import ModelPool
from agentroute.serving import Asked, Decider, Rule, SupportsRoute
from agentroute.types import Decision

__all__ = ["ModelSelector"]


class ModelSelector(BaseSelector):
    """Lets an agentroute router choose between choices that each stand for a model, for users of `RouterQueryEngine`.

    ```python
    tools = [
        QueryEngineTool.from_defaults(index.as_query_engine(llm=small), name="small", description="quick"),
        QueryEngineTool.from_defaults(index.as_query_engine(llm=large), name="large", description="thorough"),
    ]
    engine = RouterQueryEngine.from_defaults(tools, selector=ModelSelector(Router.load("router/")))
    ```

    Where the engines differ in nothing but their LLM, one engine with a `RoutedLLM` does the same for every call, with failover
    and outcomes. This is for engines that differ in more, such as a larger `similarity_top_k` for the larger window.

    A choice's name is that of its tool; a choice that is a plain string is its own name. The selection's reason is the router's.

    Args:
        router: Who chooses: an agentroute `Router` or anything with `route(query) -> Decision`, or a function of the query that
            gives a model's name. Of a router with a pool, the models that no choice stands for are ruled out.
        models: Model of each choice, by the choice's name; a choice that is not named here has its model's name.
        default: The model that answers when the router fails or knows too little; `None` = the router's default, else the
            first model that has a choice. A router that fails costs no answer, and is told by `RouterFailedWarning`.
        role: The agent role of every query, a routing feature.
        task: The kind of task of every query, a routing feature.
    """

    def __init__(
        self,
        router: SupportsRoute | Rule,
        *,
        models: Mapping[str, str] | None = None,
        default: str | None = None,
        role: str | None = None,
        task: str | None = None,
    ) -> None:
        self.router = router
        self.models = dict(models or {})
        self.default = default
        self.role = role
        self.task = task

    # LlamaIndex's public doors are `select` and `aselect`, which wrap plain strings and then call these.

    def _select(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        """The choice of the model that the router takes.

        Raises:
            ConfigError: There are no choices, or two stand for one model.
            UnknownModelError: A choice's model is none of the router's, or the default's is no choice.
        """
        return self._selected(choices, query)

    async def _aselect(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        """As `_select`, in a worker thread: a router embeds the query."""
        return await asyncio.to_thread(self._selected, choices, query)

    def _get_prompts(self) -> PromptDictType:
        """None: no LLM is asked which choice it is."""
        return {}

    def _update_prompts(self, prompts: PromptDictType) -> None:
        """Does nothing: there are no prompts."""

    def _selected(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        columns = self._columns(choices)
        decision = self._decision(columns, query.query_str)
        return SelectorResult(selections=[SingleSelection(index=columns[decision.model], reason=decision.reason)])

    def _columns(self, choices: Sequence[ToolMetadata]) -> dict[str, int]:
        """Position of the choice that stands for each model."""
        if not choices:
            raise ConfigError("there is nothing to select from: give a choice for each model")
        columns: dict[str, int] = {}
        for position, choice in enumerate(choices):
            name = choice.name or choice.description
            model = self.models.get(name, name)
            if columns.setdefault(model, position) != position:
                raise ConfigError(
                    f"two choices stand for the model {model!r}: give each tool the name of its own model, "
                    "as QueryEngineTool.from_defaults(engine, name=...), or tell it by models={tool: model}"
                )
        return columns

    def _decision(self, columns: Mapping[str, int], text: str) -> Decision:
        pool = getattr(self.router, "pool", None)
        if pool is None:
            pool = ModelPool(columns)
        for model in columns:
            if model not in pool:
                raise UnknownModelError(model, pool.ids, where="the router")
        if self.default is not None and self.default not in columns:
            raise UnknownModelError(self.default, columns, where="the list of choices")
        decider = Decider(
            pool, router=self.router, default=self.default, sticky="none", role=self.role, task=self.task, logged=False
        )
        query = decider.query(Asked(turns=(), text=text))
        if len(columns) < len(pool):
            query = replace(query, allow=frozenset(columns))
        decision = decider.ask(query, None).decision
        if decision.model in columns:
            return decision
        # Not every router reads `Query.allow`.
        return decider.defaulted(query, f"the router chose {decision.model}, which no choice stands for")
