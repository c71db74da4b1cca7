"""What no call of a cascade changes: the candidates, who plans, who judges, and what a query may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agentroute.cascades import Limits
from agentroute.scorers import Scorer
from agentroute.serving import Decided, JudgesVoice
from langchain_agentroute._calls import Request
from langchain_agentroute._candidates import Target
from langchain_agentroute._climbing import CascadeCall
from langchain_agentroute._routing import Routing
from langchain_agentroute._runs import Run

__all__ = ["CascadeRouting", "quieted"]


def quieted(targets: Mapping[str, Target], judge: Scorer | None) -> dict[str, Target]:
    """The candidates as they are called where their answer is judged: whole, and with what the judge reads.

    A model that was told to stream always would show its tokens to callbacks before anybody has accepted them.
    """
    return {name: _quiet(target, frozenset() if judge is None else frozenset(judge.needs)) for name, target in targets.items()}


def _quiet(target: Target, needs: frozenset[str]) -> Target:
    chat = target.chat
    fields = type(chat).model_fields
    update: dict[str, Any] = {}
    if "streaming" in fields and getattr(chat, "streaming", False):
        update = {"streaming": False, "disable_streaming": True}
    if needs & {"logprobs", "top_logprobs"} and "logprobs" in fields and not getattr(chat, "logprobs", None):
        update["logprobs"] = True
    if "top_logprobs" in needs and "top_logprobs" in fields and getattr(chat, "top_logprobs", None) is None:
        update["top_logprobs"] = 5
    if not update:
        return target
    quiet = chat.model_copy(update=update)
    return replace(target, chat=quiet, runnable=quiet)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CascadeRouting(Routing):
    """The candidates of a cascade, who plans, who judges, and what a query may take."""

    judge: Scorer | None
    limits: Limits
    voice: JudgesVoice
    quiet: Mapping[str, Target]

    def call(self, decided: Decided, request: Request, run: Run) -> CascadeCall:
        """The calls that a decision leads to."""
        return CascadeCall(
            decided=decided,
            request=request,
            run=run,
            targets=self.targets,
            pool=self.pool,
            log=self.log,
            prepare_messages=self.prepare_messages,
            failover=self.failover,
            judge=self.judge,
            limits=self.limits,
            voice=self.voice,
            quiet=self.quiet,
        )
