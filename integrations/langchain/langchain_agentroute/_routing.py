"""What every call of a routed model needs and no call changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig

from agentroute.pool import ModelPool
from agentroute.types import Decision, Query
from langchain_agentroute._bindings import BINDING, Binding
from langchain_agentroute._calls import Prepare, Request, RoutedCall
from langchain_agentroute._candidates import Target
from langchain_agentroute._deciding import Decided, Decider, forced_model
from langchain_agentroute._runs import FORCED, AsyncChainRun, ChainRun, Run

__all__ = ["Routing"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Routing:
    """The candidates, who decides between them, and where outcomes go."""

    targets: Mapping[str, Target]
    pool: ModelPool
    decider: Decider
    log: Any
    prepare_messages: Prepare | None
    failover: bool | Sequence[str]

    def request(
        self,
        messages: list[BaseMessage],
        kwargs: dict[str, Any],
        config: RunnableConfig,
        needs: frozenset[str] = frozenset(),
    ) -> Request:
        """Reads what is the router's out of a call's arguments and configuration.

        Raises:
            UnknownModelError: The caller forces a model that is no candidate.
        """
        binding: Binding | None = kwargs.pop(BINDING, None)
        forced = forced_model(kwargs.pop("model", None), self.targets)
        if forced is None:
            forced = forced_model(config["configurable"].get(FORCED), self.targets)
        if binding is not None:
            needs |= binding.needs
        if kwargs.get("tools"):
            needs |= {"tools"}
        return Request(routing=self, messages=messages, kwargs=kwargs, binding=binding, forced=forced, needs=needs, config=config)

    def before_router(self, request: Request, kept: str | None = None) -> tuple[Query, Decision | None]:
        """The query, and the decision where it needs no router. `kept` is the model that the caller would rather keep.

        Raises:
            NoEligibleModelError: No candidate can do what the query needs.
        """
        query = self.decider.query(request.messages, needs=request.needs, max_output_tokens=request.max_output_tokens)
        return query, self.decider.without_router(query, request.messages, request.forced, kept)

    def decide(self, request: Request, run: ChainRun) -> RoutedCall:
        """Decides who takes a request."""
        query, fixed = self.before_router(request)
        if fixed is not None and not self.decider.waits(fixed):
            return self.call(Decided(query=query, decision=fixed), request, run)
        return self.call(run.ask_router(query, lambda: self.decider.ask(query, fixed)), request, run)

    async def adecide(self, request: Request, run: AsyncChainRun) -> RoutedCall:
        """As `decide`, with the router on a worker thread."""
        query, fixed = self.before_router(request)
        if fixed is not None and not self.decider.waits(fixed):
            return self.call(Decided(query=query, decision=fixed), request, run)
        return self.call(await run.ask_router(query, lambda: self.decider.ask(query, fixed)), request, run)

    def call(self, decided: Decided, request: Request, run: Run) -> RoutedCall:
        """The call that a decision leads to."""
        return RoutedCall(
            decided=decided,
            request=request,
            run=run,
            targets=self.targets,
            pool=self.pool,
            log=self.log,
            prepare_messages=self.prepare_messages,
            failover=self.failover,
        )
