"""What every call of a routed model needs and no call changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig

from agentroute.pool import ModelPool
from agentroute.serving import Decided, Decider, known_model
from langchain_agentroute._bindings import BINDING, Binding
from langchain_agentroute._calls import Prepare, Request, RoutedCall
from langchain_agentroute._candidates import Target
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
        forced = known_model(kwargs.pop("model", None), self.targets)
        if forced is None:
            forced = known_model(config["configurable"].get(FORCED), self.targets)
        if binding is not None:
            needs |= binding.needs
        if kwargs.get("tools"):
            needs |= {"tools"}
        return Request(routing=self, messages=messages, kwargs=kwargs, binding=binding, forced=forced, needs=needs, config=config)

    def decide(self, request: Request, run: ChainRun) -> RoutedCall:
        """Decides who takes a request."""
        begun = request.begin()
        decided = run.ask_router(begun.query, begun.decide) if begun.waits else begun.decide()
        return self.call(decided, request, run)

    async def adecide(self, request: Request, run: AsyncChainRun) -> RoutedCall:
        """As `decide`, with the router on a worker thread."""
        begun = request.begin()
        decided = await run.ask_router(begun.query, begun.decide) if begun.waits else begun.decide()
        return self.call(decided, request, run)

    def call(self, decided: Decided, request: Request, run: Run) -> RoutedCall:
        """The calls that a decision leads to."""
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
