"""Judges at work: traced below the answer that they judge, and never seen by a user."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from langchain_core.callbacks import AsyncCallbackManager, CallbackManager
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import patch_config, set_config_context
from langchain_core.runnables.utils import coro_with_context

from agentroute.types import Reply, Score
from langchain_agentroute._holding import unseen

__all__ = ["ajudged", "judged"]

_NAME = "agentroute.judge"


def judged(config: RunnableConfig, reply: Reply, score: Callable[[], Score]) -> Score:
    """The score, made in a run of its own below which the models that the judge calls show up.

    Args:
        config: Of the call, or of the step of the graph, that the answer belongs to.
        reply: What is judged.
        score: Judges it.
    """
    config = unseen(config)
    manager = CallbackManager.configure(config.get("callbacks"), inheritable_tags=["nostream"])
    if not manager.handlers:
        return score()
    run = manager.on_chain_start(None, _inputs(reply), name=_NAME)
    try:
        with set_config_context(patch_config(config, callbacks=run.get_child())) as context:
            found = context.run(score)
    except BaseException as error:
        run.on_chain_error(error)
        raise
    run.on_chain_end(_output(found))
    return found


async def ajudged(config: RunnableConfig, reply: Reply, score: Callable[[], Awaitable[Score]]) -> Score:
    """As `judged`."""
    config = unseen(config)
    manager = AsyncCallbackManager.configure(config.get("callbacks"), inheritable_tags=["nostream"])
    if not manager.handlers:
        return await score()
    run = await manager.on_chain_start(None, _inputs(reply), name=_NAME)
    try:
        with set_config_context(patch_config(config, callbacks=run.get_child())) as context:
            found = await coro_with_context(score(), context, create_task=True)
    except BaseException as error:
        await run.on_chain_error(error)
        raise
    await run.on_chain_end(_output(found))
    return found


def _inputs(reply: Reply) -> dict[str, Any]:
    return {"answer": reply.text, "tool_calls": [call.name for call in reply.tool_calls]}


def _output(score: Score) -> dict[str, Any]:
    return {"score": score.value, "reason": score.reason, "cost": score.cost}
